"""Which compositions to make next: every pick counts on those before it and on what is pending.

The candidates are few (a shortlist, some thousands), and the batch grows greedily by the best score that the
laboratory's limits allow. `logei` and `ucb` condition the model on what is pending and picked, as if it had come out as
predicted: in closed form. `qlognei`, `qlognehvi` and `thompson` draw from the joint posterior over all candidates and
everything known, which is formed once; on these samples the joint gain of adding a candidate, which every proposal
shows, is exact.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from botorch.utils.safe_math import log_fatmoid, log_fatplus, logmeanexp
from torch import Tensor

from drxnet.composition import Composition
from drxnet.ensemble import Amounts, Ensemble
from drxnet.errors import NothingToPropose, UsageError
from drxnet.progress import Progress, silent
from screening.acquisition import (
    UCB_WIDTH,
    Improvement,
    Limits,
    Measured,
    boxes_not_dominated,
    gaussian_model,
    incumbents_of,
    log_domain_weight,
    log_feasibility,
    objective_units,
    objectives_of,
)
from screening.domain import Domain, Label
from screening.encoding import Encoding
from screening.goals import Goals
from screening.strategy import STRATEGIES, Strategy
from screening.surrogate import Belief, DRXNetGaussianModel

log = logging.getLogger(__name__)

SAMPLES, SAMPLES_SEVERAL = 512, 128
"""Joint samples for one objective, and for several (where each sample has a Pareto front of its own)."""

_TAU = 1e-6
"""Width of the smoothed corner of an improvement, in units of the objectives (as in BoTorch's qLogEI)."""

_TAU_FEASIBLE = 1e-3
"""Width of the smoothed edge of a constraint, in units of its quantity (as in BoTorch's constrained qLogEI)."""

SHORTLIST = 2000
"""Candidates among which a batch is chosen jointly; the cost grows with the third power."""

_SOME_CHANCE = 0.1
"""Probability that all constraints hold, below which `space-filling` takes a candidate only when no other is left."""

_NEIGHBOURHOOD = 0.1
"""Edge of the cells (amount per formula unit) that a diverse shortlist draws from in turn."""

_ROUNDING = 1e-6
"""Variance, in squared units of a quantity, below which a posterior is rounding: data without noise leave no more."""

_SMALLEST_NUGGET, _LARGEST_NUGGET = 1e-8, 1e-3


@dataclass(frozen=True)
class Choice:
    """One pick, with what a proposal row shows and why it was picked."""

    composition: Composition
    kind: Literal["candidate", "reference", "replicate"]
    strategy: Strategy
    score: float
    """What the strategy maximised when it was picked; comparable within a batch of one strategy."""

    columns: dict[str, float]
    """``rate_retention_mean``, ..., ``feasibility``: the calibrated posterior, before the batch."""

    promise: str
    """The objectives and the feasibility in words."""

    domain: Label
    learned_distance: float
    """To the nearest known composition, in learned features; 1 is a typical pair of known compositions."""

    nearest_known: Composition
    """Reported or measured, by learned features."""

    nearest_measured: tuple[tuple[Composition, float], ...]
    """Up to three measured compositions with the largest difference of any amount, the nearest first."""

    exploitation: float
    """Expected improvement if the mean were the truth, in units of the objectives, times feasibility."""

    exploration: float
    """What the uncertainty adds to it."""

    mean_rank: int
    """Place among the candidates by the predicted mean of the first objective, 1 the best."""

    spread_rank: int
    """Place among the candidates by the spread of the first objective, 1 the most uncertain."""

    candidates: int
    """How many candidates these places count."""

    joint_gain: float
    """Expected improvement that this pick adds to those before it, in units of the objectives; over joint samples."""

    @property
    def why(self) -> str:
        """One sentence for a table."""
        if self.kind == "reference":
            return "reference, made again in every round"
        if self.kind == "replicate":
            return "one of the best measured, made again"
        if self.strategy == "space-filling":
            return (
                f"to learn, apart from the others ({self.learned_distance:.2f} from the nearest known); {self.promise}"
            )
        if self.strategy == "random":
            return f"drawn at random; {self.promise}"
        near = f"; nearest measured {self.nearest_measured[0][0]}" if self.nearest_measured else ""
        return (
            f"{self.promise}; of {self.candidates:,} the {ordinal(self.mean_rank)} by mean, "
            f"the {ordinal(self.spread_rank)} by spread{near}"
        )


def ordinal(number: int) -> str:
    """Write 1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def choose_batch(
    candidates: Sequence[Composition | str],
    ensemble: Ensemble,
    goals: Goals | None = None,
    *,
    n: int,
    strategy: Strategy = "logei",
    measured: Sequence[Measured] = (),
    pending: Sequence[Composition] = (),
    limits: Limits | None = None,
    seed: int = 0,
    shortlist: int = SHORTLIST,
    progress: Progress = silent,
) -> list[Choice]:
    """Choose n compositions to make, references and replicates among them.

    Args:
        candidates: the best of the stream, the best first; what is measured, pending or against the limits is
            passed over.
        ensemble: the current model.
        goals: objectives and constraints.
        n: how many; fewer come back, with a warning in the log, when the limits allow no more.
        strategy: by name, one of :data:`~screening.strategy.STRATEGIES`.
        measured: what came back.
        pending: proposed and not yet measured, or half measured; a composition may also be in `measured`.
        limits: of the laboratory.
        seed: of the posterior samples and the random strategies.
        shortlist: of more candidates than this, so many are kept by :func:`diverse`.
        progress: told of picks.

    Raises:
        UsageError: no such strategy, or n below 1.
        NothingToPropose: no candidate is left.
    """
    if strategy not in STRATEGIES:
        raise UsageError(f"No strategy {strategy!r}. Choose one of {', '.join(STRATEGIES)}.")
    if n < 1:
        raise UsageError(f"A batch holds at least one composition. Got {n}.")
    limits, goals = limits or Limits(), goals or Goals()
    repeated = _repeated(goals, measured, limits, n)
    left = diverse(_left(candidates, measured, pending, limits), shortlist) if len(repeated) < n else []
    if not left and not repeated:
        raise NothingToPropose(
            f"Of {len(candidates)} candidates none is left: all are measured, pending, or against the limits of the "
            "laboratory. Widen the space, lift a limit, or enter what is pending."
        )
    batch = _Batch(left, ensemble, goals, measured, pending, [c for c, _ in repeated], limits, strategy, seed)
    with torch.no_grad():
        picks = [batch.add(batch.index(c), kind, math.inf) for c, kind in repeated]
        while len(picks) < n:
            scores = batch.scores()
            best = int(scores.argmax()) if len(scores) else 0
            if len(scores) == 0 or scores[best] == -torch.inf:
                break
            picks.append(batch.add(best, "candidate", float(scores[best])))
            progress(len(picks), n)
    if len(picks) < n:
        if not picks:
            raise NothingToPropose(
                f"None of {len(left)} candidates fits the limits of the laboratory (distance to what is pending, "
                "precursors). Lift one of them."
            )
        log.warning("The limits of the laboratory left %d of %d places of the batch empty.", n - len(picks), n)
    return picks


def diverse(candidates: Sequence[Composition], keep: int) -> list[Composition]:
    """Shorten a list, the best first, without losing whole regions of the space.

    The first half is kept as it is. The other places go in turn to the cells of a coarse grid of compositions, one
    candidate of each cell at a time, so that the many near copies of the best do not crowd everything else out.
    """
    if len(candidates) <= keep:
        return list(candidates)
    half = keep // 2
    cells = torch.round(_table(candidates) / _NEIGHBOURHOOD).to(torch.int8).numpy()
    visits: dict[bytes, int] = {}
    turn = np.empty(len(candidates), int)
    for i, cell in enumerate(cells):
        key = cell.tobytes()
        turn[i] = visits[key] = visits.get(key, -1) + 1
    turn[:half] = -1
    kept = np.sort(np.argsort(turn, kind="stable")[:keep])
    return [candidates[i] for i in kept]


def _repeated(
    goals: Goals, measured: Sequence[Measured], limits: Limits, n: int
) -> list[tuple[Composition, Literal["reference", "replicate"]]]:
    """References, then the best measured compositions; at most n."""
    references = [Composition.parse(formula) for formula in limits.references]
    values = [(m, m.values(goals)) for m in measured]
    whole = [
        (m, v)
        for m, v in values
        if np.isfinite(v[list(goals.objective_columns)]).all() and m.composition not in references
    ]
    feasible = [(m, v) for m, v in whole if not (goals.slack(v) < 0).any()]
    leading = sorted(feasible, key=lambda mv: -float(goals.objective_values(mv[1])[0]))[: limits.replicates]
    chosen = [(c, "reference") for c in references] + [(m.composition, "replicate") for m, _ in leading]
    return chosen[:n]  # type: ignore[return-value]  # mypy widens the literals


def _left(
    candidates: Sequence[Composition | str],
    measured: Sequence[Measured],
    pending: Sequence[Composition],
    limits: Limits,
) -> list[Composition]:
    taken = {m.composition for m in measured} | set(pending)
    distinct = [c for c in dict.fromkeys(map(Composition.parse, candidates)) if c not in taken]
    if not distinct:
        return []
    admitted = limits.admits(Amounts.of(distinct))
    return [c for c, good in zip(distinct, admitted, strict=True) if good]


class _Batch:
    """Candidates, what is known, and the batch as it grows."""

    def __init__(
        self,
        candidates: Sequence[Composition],
        ensemble: Ensemble,
        goals: Goals,
        measured: Sequence[Measured],
        pending: Sequence[Composition],
        repeated: Sequence[Composition],
        limits: Limits,
        strategy: Strategy,
        seed: int,
    ) -> None:
        self.goals, self.limits, self.strategy, self.seed = goals, limits, strategy, seed
        self.candidates = list(candidates)
        self.repeated = list(dict.fromkeys(repeated))
        self.measured = [m.composition for m in measured]
        self.known = list(dict.fromkeys([*self.measured, *pending]))
        everything = [*self.candidates, *self.repeated, *self.known]
        encoding = Encoding.of(everything)
        self.model = gaussian_model(ensemble, encoding, goals, measured)
        self.domain = Domain(ensemble, self.measured)
        with torch.no_grad():
            self.points = self.model.reader.read(Amounts.of(everything))
            self._beliefs = self._remaining = self.model.at(self.points)
            self.mean, self.std = torch.stack([b.mean for b in self._beliefs], -1), self._remaining_std()
            self.incumbents = incumbents_of(self.model, self.measured, [c for c in pending if c not in self.measured])
        self.improvement = Improvement(goals, objective_units(self.model), self.incumbents)
        self.picked: list[int] = []
        self._gain: Tensor | None = None
        self._rows = _table(everything)
        self._elements = self._rows > 0
        self._open = torch.zeros(len(everything), dtype=torch.bool)
        self._open[: len(self.candidates)] = True
        self._close([everything.index(c) for c in pending])
        with torch.no_grad():
            for composition in dict.fromkeys(pending):
                if composition not in self.measured:
                    self._await(everything.index(composition))
        self._weight = log_domain_weight(limits, self.domain, self.points.features)

    def index(self, composition: Composition) -> int:
        """Row of a composition that is repeated."""
        return len(self.candidates) + self.repeated.index(composition)

    # -- the strategies ----------------------------------------------------------------------------------

    def scores(self) -> Tensor:
        """What each candidate would be worth as the next pick, -inf where it cannot be."""
        allowed = self._allowed()[: len(self.candidates)]
        if not allowed.any():
            return torch.full((len(self.candidates),), -torch.inf)
        value = getattr(self, f"_{self.strategy.replace('-', '_')}")()[: len(self.candidates)]
        return torch.where(allowed, value, -torch.inf)

    def _logei(self) -> Tensor:
        """Closed-form improvement with the variance left after the picks, their means counted as found.

        D. Ginsbourger et al., Kriging is well-suited to parallelize optimization, 2010: the "Kriging believer".
        """
        std = self._remaining_std()
        good = [row for row in self.picked if self._log_feasible[row] >= math.log(0.5)]
        found = torch.cat([self.incumbents, self._signed_mean[good]])
        improvement = Improvement(self.goals, self.improvement.unit, found)
        spread = std[:, list(self.goals.objective_columns)]
        value = improvement.log_expected(self._signed_mean, spread)
        return value + log_feasibility(self.goals, self.mean, std) + self._weight

    def _qlognei(self) -> Tensor:
        return self._log_gain() + self._weight

    def _qlognehvi(self) -> Tensor:
        return self._qlognei()

    def _ucb(self) -> Tensor:
        """Upper bound with the variance that is left after the picks (Desautels et al., JMLR 15, 4053 (2014))."""
        std = self._remaining_std()
        optimistic = self._signed_mean + UCB_WIDTH * std[:, list(self.goals.objective_columns)]
        return self.improvement.log_utility(optimistic) + log_feasibility(self.goals, self.mean, std) + self._weight

    def _thompson(self) -> Tensor:
        sample = len(self.picked) % len(self._samples.objectives)
        utility = self.improvement.log_utility(self._samples.objectives[sample])
        return utility + self._samples.log_feasible[sample] + self._weight

    def _greedy(self) -> Tensor:
        return self.improvement.log_utility(self._signed_mean) + self._log_feasible + self._weight

    def _random(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.rand(len(self._rows), generator=generator, dtype=torch.float64)

    def _space_filling(self) -> Tensor:
        start = len(self.candidates) + len(self.repeated)
        anchors = [*range(start, len(self._rows)), *self.picked]
        features = self.points.features
        apart = torch.cdist(features, features[anchors]) if anchors else self.domain.distances(features)
        return torch.where(self._log_feasible >= math.log(_SOME_CHANCE), apart.amin(1), -1.0)

    # -- what they share ---------------------------------------------------------------------------------

    @cached_property
    def _signed_mean(self) -> Tensor:
        return objectives_of(self.goals, self.mean)

    @cached_property
    def _log_feasible(self) -> Tensor:
        return log_feasibility(self.goals, self.mean, self.std)

    @cached_property
    def _samples(self) -> _JointSamples:
        return _JointSamples.of(self.model, self._beliefs, self.seed)

    def _log_gain(self) -> Tensor:
        """Log of the joint gain of each row, given what is known and picked."""
        if self._gain is None:
            known = [*range(len(self.candidates) + len(self.repeated), len(self._rows)), *self.picked]
            self._gain = self._samples.log_gain(known, self.improvement)
        return self._gain

    def _remaining_std(self) -> Tensor:
        """Spread once what is pending or picked has come out as predicted, ``rows x m``."""
        return torch.stack([belief.std for belief in self._remaining], -1)

    def _await(self, row: int) -> None:
        """Count on a row to come out as predicted."""
        self._remaining = [belief.believe(row) for belief in self._remaining]

    def _allowed(self) -> Tensor:
        allowed = self._open.clone()
        if self.limits.max_precursors is not None:
            used = self._elements[self.picked].any(0) if self.picked else torch.zeros_like(self._elements[0])
            allowed &= (self._elements | used).sum(1) <= self.limits.max_precursors
        return allowed

    def _close(self, rows: Sequence[int]) -> None:
        """Rule out whatever is too near to these rows."""
        for row in rows:
            apart = (self._rows - self._rows[row]).abs().amax(1)
            self._open &= apart >= max(self.limits.min_distance, 1e-6) - 1e-9

    def add(self, row: int, kind: Literal["candidate", "reference", "replicate"], score: float) -> Choice:
        """Take a row into the batch."""
        gain = float(self._log_gain()[row].exp())
        choice = self._describe(row, kind, score, gain)
        self.picked.append(row)
        self._await(row)
        self._gain = None
        self._close([row])
        return choice

    def _describe(
        self, row: int, kind: Literal["candidate", "reference", "replicate"], score: float, gain: float
    ) -> Choice:
        mean, std = self.mean[row : row + 1], self.std[row : row + 1]
        columns = self.goals.columns(mean.numpy(), std.numpy())
        composition = [*self.candidates, *self.repeated][row]
        nearest = self.domain.nearest(Amounts.of([composition]), self.points.features[row : row + 1])
        by_distance = sorted(((c, c.distance(composition)) for c in self.measured), key=lambda pair: pair[1])
        spread = std[:, list(self.goals.objective_columns)]
        feasible = float(self._log_feasible[row].exp())
        certain = self.improvement.log_expected(self._signed_mean[row : row + 1], torch.zeros_like(spread))
        uncertain = self.improvement.log_expected(self._signed_mean[row : row + 1], spread)
        exploitation = float(certain.exp()) * feasible
        rivals, first = slice(0, len(self.candidates)), self.goals.objective_columns[0]
        better = self._signed_mean[rivals, 0] > self._signed_mean[row, 0]
        wider = self.std[rivals, first] > self.std[row, first]
        return Choice(
            composition=composition,
            kind=kind,
            strategy=self.strategy,
            score=score if math.isfinite(score) else 0.0,
            columns={name: float(values[0]) for name, values in columns.items()},
            promise=self.goals.in_words(mean[0].numpy(), std[0].numpy()),
            domain=nearest.labels[0],
            learned_distance=float(nearest.learned[0]),
            nearest_known=nearest.neighbours[0],
            nearest_measured=tuple(by_distance[:3]),
            exploitation=exploitation,
            exploration=max(0.0, float(uncertain.exp()) * feasible - exploitation),
            mean_rank=1 + int(better.sum()),
            spread_rank=1 + int(wider.sum()),
            candidates=len(self.candidates),
            joint_gain=gain,
        )


@dataclass(frozen=True)
class _JointSamples:
    """Draws of the joint posterior over all rows."""

    goals: Goals
    objectives: Tensor
    """Signed, ``S x rows x k``."""

    log_feasible: Tensor
    """Log of the smoothed indicator that all constraints are met, ``S x rows``."""

    @classmethod
    def of(cls, model: DRXNetGaussianModel, beliefs: Sequence[Belief], seed: int) -> _JointSamples:
        """Draw, as antithetic pairs."""
        goals = model.goals
        used = sorted({*goals.objective_columns, *goals.constraint_columns})
        mean = torch.stack([beliefs[j].mean for j in used])
        covariance = torch.stack([beliefs[j].covariance for j in used])
        count = SAMPLES if len(goals.objectives) == 1 else SAMPLES_SEVERAL
        generator = torch.Generator().manual_seed(seed)
        half = torch.randn(count // 2, *mean.shape, generator=generator, dtype=torch.float64)
        base = torch.cat([half, -half])
        drawn = (
            torch.einsum("jnk,sjk->sjn", _factor(covariance, _ROUNDING * model.reader.unit[used].square()), base) + mean
        )  # S, used, rows
        values = torch.zeros(count, mean.shape[-1], model.num_outputs, dtype=torch.float64)
        values[..., used] = drawn.mT
        low, high = torch.from_numpy(goals.limits)
        values = values.clamp(low, high)
        log_feasible = torch.zeros(values.shape[:2], dtype=torch.float64)
        for column, constraint in zip(goals.constraint_columns, goals.constraints, strict=True):
            slack = constraint.sign * (values[..., column] - constraint.threshold)
            log_feasible = log_feasible + log_fatmoid(slack, tau=_TAU_FEASIBLE)
        return cls(goals, objectives_of(goals, values), log_feasible)

    def log_gain(self, known: Sequence[int], improvement: Improvement) -> Tensor:
        """Log of the mean improvement of each row over the known ones, in units of the objectives, ``rows``."""
        values = self.objectives / improvement.unit
        worst = improvement.reference - 1
        good = self.log_feasible[:, known].unsqueeze(-1) > math.log(0.5)
        lower, upper = boxes_not_dominated(torch.where(good, values[:, known], worst), improvement.reference)
        total = torch.full_like(self.log_feasible, -torch.inf)
        for low, high in zip(lower.unbind(1), upper.unbind(1), strict=True):  # S x k each
            edges = values.minimum(high[:, None]) - low[:, None]
            empty = (high <= low).any(-1)[:, None]
            volume = log_fatplus(edges, tau=_TAU).sum(-1)
            total = torch.logaddexp(total, torch.where(empty, -torch.inf, volume))
        return logmeanexp(total + self.log_feasible, dim=0)


def _factor(covariance: Tensor, least: Tensor) -> Tensor:
    """Cholesky factor, with as little added to the diagonal as makes it exist.

    Args:
        covariance: ``m x n x n``.
        least: variance below which everything is rounding, ``m``.
    """
    scale = covariance.diagonal(dim1=-2, dim2=-1).mean(-1).maximum(least)[..., None, None]
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    nugget = _SMALLEST_NUGGET
    while nugget <= _LARGEST_NUGGET:
        factor, failed = torch.linalg.cholesky_ex(covariance + nugget * scale * eye)
        if not failed.any():
            return factor
        nugget *= 10
    raise RuntimeError("The joint posterior of the shortlist is not positive definite; this is a defect, report it.")


def _table(compositions: Sequence[Composition]) -> Tensor:
    """Amounts of every element, F included and O left out, ``n x elements``."""
    amounts = Amounts.of(compositions)
    return torch.cat([amounts.cations, amounts.fluorine[:, None]], 1).double()
