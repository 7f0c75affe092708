"""Which compositions to make next: every pick counts on those before it and on what is pending.

The candidates are few (a shortlist, some thousands), and the batch grows greedily by the best score that the
laboratory's limits allow, whatever the strategy. What strategies ask a batch for is worked out when it is first asked:
what is left to learn once all that is pending or picked has come out as predicted, in closed form; and draws from the
joint posterior over all candidates and everything known. On these the joint gain of adding a candidate, which every
proposal shows, is exact (BoTorch draws anew for every candidate, and scores one batch at a time).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from botorch.utils.safe_math import log_fatmoid, log_fatplus, logmeanexp
from torch import Tensor

from drxnet.composition import Composition
from drxnet.ensemble import Amounts
from drxnet.errors import UsageError
from drxnet.process import NOT_STATED, Process
from drxnet.progress import Progress, silent
from drxnet.uncertainty import LABELS, Label
from screening.economy import Economy, worth_of_second_cell
from screening.errors import NothingToPropose
from screening.goals import Goals
from screening.improvement import Improvement, boxes_not_dominated, objectives_of
from screening.measured import Made, Measured
from screening.outlook import Outlook
from screening.quantities import cost_usd_kg
from screening.strategies import STRATEGIES, Strategy
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

_NEIGHBOURHOOD = 0.1
"""Edge of the cells (amount per formula unit) that a diverse shortlist draws from in turn."""

_ROUNDING = 1e-6
"""Variance, in squared units of a quantity, below which a posterior is rounding: data without noise leave no more."""

_SMALLEST_NUGGET, _LARGEST_NUGGET = 1e-8, 1e-3


PROMISING = 0.7
"""Quantile of the promise from which a candidate counts as promising."""

FAILED_APART = 2.0
"""A batch keeps this many times the least distance from compositions whose synthesis failed."""

DOMAIN_WEIGHT: Mapping[Label, float] = {"inside": 1.0, "edge": 1.0, "outside": 0.5}
"""Factor on the score of a candidate by its label; 0 would refuse it."""


@dataclass(frozen=True)
class Limits:
    """What a laboratory can and wants to make."""

    banned: tuple[str, ...] = ()
    """Elements that are out of stock or not wanted."""

    max_precursors: int | None = None
    """Most distinct precursors that one batch may need together; one is counted for every cation element and for F."""

    per_batch: Mapping[str, int] = field(default_factory=dict)
    """Most distinct ones that a batch may hold, by name (:data:`screening.economy.Shared`)."""

    budget_usd_per_round: float | None = None
    """Most that the elements of a batch may cost together, of what is weighed."""

    batch_mass_g: float = 5.0
    """What is made of each composition."""

    cells: Literal["auto"] | None = None
    """Whether a place may go to a second cell of a composition where that is worth more than another composition."""

    min_distance: float = 0.05
    """Least difference in some element, per formula unit, between two compositions of a batch or a pending one."""

    references: tuple[str, ...] = ()
    """Compositions to make again in every batch; they take places of it."""

    replicates: int = 0
    """Places of the batch for repeating the best measured compositions."""

    budget_usd_kg: float | None = None
    """Highest price of the elements in a kilogram of product."""

    prices: Mapping[str, float] = field(default_factory=dict)
    """Prices of elements, where they differ from the shipped ones (USD per kg of contained element)."""

    domain_weight: Mapping[Label, float] = field(default_factory=lambda: DOMAIN_WEIGHT)
    """Factor on the score by domain label."""

    def admits(self, amounts: Amounts) -> np.ndarray:
        """Which candidates hold no banned element and stay within the budget, ``n``."""
        admitted = np.ones(len(amounts), bool)
        for symbol in self.banned:
            if symbol in amounts.symbols:
                admitted &= (amounts.cations[:, amounts.symbols.index(symbol)] <= 0).numpy()
        if "F" in self.banned:
            admitted &= (amounts.fluorine <= 0).numpy()
        if self.budget_usd_kg is not None:
            cost = cost_usd_kg(amounts.symbols, amounts.cations.double().T, amounts.fluorine.double(), self.prices)
            admitted &= (cost <= self.budget_usd_kg).numpy()
        return admitted

    def log_domain_weight(self, labels: Tensor) -> Tensor:
        """Log of the factor that the domain label puts on each candidate, ``n``; labels are indices of LABELS."""
        factors = torch.tensor([self.domain_weight.get(name, 1.0) for name in LABELS], dtype=torch.float64)
        return factors.log()[labels]


Kind = Literal["candidate", "reference", "replicate"]
Taken = Callable[[Composition, Process], bool]
"""Whether a composition may not be picked, made so."""


@dataclass(frozen=True)
class Choice:
    """One pick, with what a proposal row shows and why it was picked."""

    composition: Composition
    kind: Kind
    strategy: str
    score: float
    """What the strategy maximised when it was picked; comparable within a batch of one strategy."""

    columns: dict[str, float]
    """``rate_retention_mean``, ..., ``feasibility``: the calibrated posterior, before the batch."""

    phase_probability: float | None
    """That the synthesis gives the phase; None where nothing is known of any. In no way part of the feasibility."""

    promise: str
    """The objectives, the feasibility and the probability of the phase in words."""

    domain: Label
    learned_distance: float
    """To the nearest known composition, in learned features; 1 is a typical pair of known compositions."""

    nearest_measured: tuple[tuple[Composition, float], ...]
    """Up to three measured compositions with the largest difference of any amount, the nearest first."""

    teaches: float
    """Share of the variance of the first objective among the promising candidates that measuring it takes away."""

    mean_rank: int
    """Place among the candidates by the predicted mean of the first objective, 1 the best."""

    spread_rank: int
    """Place among the candidates by the spread of the first objective, 1 the most uncertain."""

    candidates: int
    """How many candidates these places count."""

    joint_gain: float
    """Expected improvement that this pick adds to those before it, in units of the objectives; over joint samples."""

    cells: int | None = None
    """Cells to make at each rate; None leaves it to the campaign."""

    why: str = ""
    """One sentence for a table."""

    process: Process = NOT_STATED
    """How to make and test it, where that was to be chosen or is fixed."""


def choose_batch(
    candidates: Sequence[Composition | str],
    outlook: Outlook,
    *,
    n: int,
    strategy: str = "logei",
    limits: Limits | None = None,
    seed: int = 0,
    shortlist: int = SHORTLIST,
    taken: Taken = lambda composition, process: False,
    progress: Progress = silent,
) -> list[Choice]:
    """Choose n compositions to make, references and replicates among them.

    Where there are processes to choose from, a composition that is measured or pending by one of them may be made by
    another one, and what was made alike is what stays apart.

    Args:
        candidates: the best of the stream, the best first; what is measured, pending or against the limits is
            passed over.
        outlook: of the round.
        n: how many; fewer come back, with a warning in the log, when the limits allow no more.
        strategy: by name, one of :data:`~screening.strategies.STRATEGIES`.
        limits: of the laboratory.
        seed: of the posterior samples and the random strategies.
        shortlist: of more candidates than this, so many are kept by :func:`diverse`.
        taken: says of a composition by a process whether it is passed over, beside what is measured or pending.
        progress: told of picks.

    Raises:
        ConfigurationError: no such strategy.
        UsageError: n below 1.
        NothingToPropose: no candidate is left.
    """
    chosen_by = STRATEGIES.named(strategy)(seed)
    if n < 1:
        raise UsageError(f"A batch holds at least one composition. Got {n}.")
    limits = limits or Limits()
    repeated = _repeated(outlook.goals, outlook.measured, limits, n)
    left = _left(candidates, outlook, limits, shortlist, taken) if len(repeated) < n else []
    batch, picks = _begun(candidates, outlook, limits, left, repeated, seed)
    with torch.no_grad():
        picks = _fill(batch, picks, chosen_by, n, progress)
    empty = n - len(picks) - batch.second_cells
    if empty and not picks:
        raise NothingToPropose(
            f"None of {len(batch.candidates)} candidates fits the limits of the laboratory (distance to what is "
            "pending, precursors, what a batch may share, its budget). Lift one of them."
        )
    if empty:
        log.warning("%d of %d places of the batch empty: no candidate is left, or none within the limits.", empty, n)
    with torch.no_grad():
        gains = batch.joint_gains().tolist()
    return [replace(pick, strategy=strategy, joint_gain=gain) for pick, gain in zip(picks, gains, strict=True)]


def _begun(
    candidates: Sequence[Composition | str],
    outlook: Outlook,
    limits: Limits,
    left: Sequence[Made],
    repeated: Sequence[tuple[Made, Kind]],
    seed: int,
) -> tuple[Batch, list[Choice]]:
    """A batch of what is made again, and the candidates that are left for the other places."""
    if not left and not repeated:
        raise NothingToPropose(
            f"Of {len(candidates)} candidates none is left: all are measured, pending, or against the limits of the "
            "laboratory. Widen the space, lift a limit, or enter what is pending."
        )
    batch = Batch(left, outlook, [made for made, _ in repeated], limits, seed)
    with torch.no_grad():
        return batch, [replace(batch.add(batch.index(made)), kind=kind, why=_WHY[kind]) for made, kind in repeated]


def _fill(batch: Batch, picks: list[Choice], chosen_by: Strategy, n: int, progress: Progress) -> list[Choice]:
    """Add picks until n places are taken or nothing is allowed."""
    while len(picks) + batch.second_cells < n:
        if batch.limits.cells == "auto" and batch.take_second_cell():
            continue
        scores = batch.allowed(chosen_by)
        best = int(scores.argmax()) if len(scores) else 0
        if len(scores) == 0 or scores[best] == -torch.inf:
            break
        pick = replace(batch.add(best), score=float(scores[best]))
        picks.append(replace(pick, why=chosen_by.why(pick) + batch.made_by(best)))
        progress(len(picks), n)
    return batch.with_cells(picks) if batch.limits.cells == "auto" else picks


def diverse(candidates: Sequence[Composition], keep: int) -> list[Composition]:
    """Shorten a list, the best first, without losing whole regions of the space.

    The first half is kept as it is. The other places go in turn to the cells of a coarse grid of compositions, one
    candidate of each cell at a time, so that the many near copies of the best do not crowd everything else out.
    """
    if len(candidates) <= keep:
        return list(candidates)
    half = keep // 2
    amounts = Amounts.of(candidates)
    cells = torch.round(amounts.table(amounts.symbols) / _NEIGHBOURHOOD).to(torch.int8).numpy()
    visits: dict[bytes, int] = {}
    turn = np.empty(len(candidates), int)
    for i, cell in enumerate(cells):
        key = cell.tobytes()
        turn[i] = visits[key] = visits.get(key, -1) + 1
    turn[:half] = -1
    kept = np.sort(np.argsort(turn, kind="stable")[:keep])
    return [candidates[i] for i in kept]


def _repeated(goals: Goals, measured: Sequence[Measured], limits: Limits, n: int) -> list[tuple[Made, Kind]]:
    """References, then the best measured compositions, made as they were; at most n."""
    references = [Composition.parse(formula) for formula in limits.references]
    values = [(m, m.values(goals)) for m in measured]
    whole = [
        (m, v)
        for m, v in values
        if np.isfinite(v[list(goals.objective_columns)]).all() and m.composition not in references
    ]
    feasible = [(m, v) for m, v in whole if not (goals.slack(v) < 0).any()]
    leading = sorted(feasible, key=lambda mv: -float(goals.objective_values(mv[1])[0]))[: limits.replicates]
    usual = goals.rates.process
    chosen = [((c, usual), "reference") for c in references]
    chosen += [((m.composition, m.process.over(usual)), "replicate") for m, _ in leading]
    return chosen[:n]  # type: ignore[return-value]  # mypy widens the literals


_WHY: Mapping[Kind, str] = {
    "reference": "reference, made again in every round",
    "replicate": "one of the best measured, made again",
}


def _left(
    candidates: Sequence[Composition | str], outlook: Outlook, limits: Limits, shortlist: int, taken: Taken
) -> list[Made]:
    """What may be picked: compositions within the limits, each by every process by which it is not taken."""
    ways = outlook.ways or (outlook.goals.rates.process,)

    def is_left(composition: Composition, way: Process) -> bool:
        known = outlook.is_measured(composition, way) or outlook.is_pending(composition, way)
        return not known and not taken(composition, way)

    distinct = {
        c: made
        for c in dict.fromkeys(map(Composition.parse, candidates))
        if (made := [(c, way) for way in ways if is_left(c, way)])
    }
    if not distinct:
        return []
    admitted = limits.admits(Amounts.of(list(distinct)))
    listed = [c for c, good in zip(distinct, admitted, strict=True) if good]
    return [made for c in diverse(listed, max(1, shortlist // len(ways))) for made in distinct[c]]


class Batch:
    """Candidates, what is known, and the batch as it grows; one row for each.

    Rows are the candidates, then what is made again, then what is measured or pending. What a strategy asks for has a
    row for each of them, whether it may be picked or not.
    """

    def __init__(
        self,
        candidates: Sequence[Made],
        outlook: Outlook,
        repeated: Sequence[Made],
        limits: Limits,
        seed: int,
    ) -> None:
        self.outlook, self.limits, self.seed = outlook, limits, seed
        self.candidates, self.repeated = list(candidates), list(dict.fromkeys(repeated))
        known = outlook.made
        self._made = made = [*self.candidates, *self.repeated, *known]
        self._compositions = everything = [composition for composition, _ in made]
        self.known = range(len(everything) - len(known), len(everything))
        """Rows of what is measured or pending."""
        self.picked: list[int] = []
        """Rows in the order they were picked."""
        self._second: dict[int, int] = {}
        """Rows that get a second cell, and the rival that it decides against."""
        self.points = outlook.read(everything, [process for _, process in made])
        with torch.no_grad():
            self._beliefs = self._remaining = outlook.surrogate.at(self.points)
            self.mean = torch.stack([belief.mean for belief in self._beliefs], -1)
            """Posterior mean of every quantity, ``rows x m``."""
            self.std = self.remaining_std
            """Its standard deviation, before anything pending has come out."""
            for row, (composition, process) in zip(self.known, known, strict=True):
                if not outlook.is_measured(composition, process):
                    self._await(row)
        self._covariances: dict[int, Tensor] = {}
        self._gain: Tensor | None = None
        self._amounts = Amounts.of(everything)
        self._table = self._amounts.table(self._amounts.symbols)
        self._economy = Economy(limits, self._amounts)
        self._open = torch.zeros(len(everything), dtype=torch.bool)
        self._open[: len(self.candidates)] = True
        self._close([row for row, pair in zip(self.known, known, strict=True) if outlook.is_pending(*pair)])
        if outlook.phases is not None and outlook.phases.failed:
            self._avoid(outlook.phases.failed)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._table)

    # -- what strategies ask for -------------------------------------------------------------------------

    @cached_property
    def signed_mean(self) -> Tensor:
        """Posterior mean of the objectives, larger is better, ``rows x k``."""
        return self.outlook.signed(self.mean)

    @cached_property
    def log_feasible(self) -> Tensor:
        """Log of the probability that all constraints hold, before the batch, ``rows``."""
        return self.outlook.log_feasible(self.mean, self.std)

    @cached_property
    def log_phase(self) -> Tensor:
        """Log of the probability that the synthesis gives the phase, ``rows``."""
        return self.outlook.log_phase(self._amounts)

    @cached_property
    def log_weight(self) -> Tensor:
        """Log of the factor of the domain label and of the probability of the phase, ``rows``."""
        labels = self.outlook.domain.labels(self.points.features)
        return self.limits.log_domain_weight(labels) + self.outlook.caution * self.log_phase

    @cached_property
    def promise(self) -> Tensor:
        """Utility at the mean times the probabilities that the constraints hold and the phase forms, ``rows``."""
        return (self.outlook.improvement.log_utility(self.signed_mean) + self.log_feasible + self.log_phase).exp()

    def promising(self, quantile: float) -> Tensor:
        """By how much the promise of each candidate lies above a quantile of it, ``rows``; 0 for what is none."""
        weight = torch.zeros_like(self.promise)
        rivals = self.promise[: len(self.candidates)]
        if len(rivals):
            weight[: len(rivals)] = (rivals - rivals.quantile(quantile)).clamp_min(0)
        return weight

    @property
    def remaining_std(self) -> Tensor:
        """Spread once what is pending or picked has come out as predicted, ``rows x m``."""
        return torch.stack([belief.std for belief in self._remaining], -1)

    def remaining_covariance(self, column: int) -> Tensor:
        """Covariance of a quantity once what is pending or picked has come out as predicted, ``rows x rows``."""
        if column not in self._covariances:
            self._covariances[column] = self._beliefs[column].covariance
        believed = self._remaining[column].explained[len(self._beliefs[column].explained) :]
        return self._covariances[column] - believed.mT @ believed

    def noise(self, column: int) -> Tensor:
        """Variance of a measurement of a quantity."""
        return self._beliefs[column].output.likelihood.noise.squeeze()

    @cached_property
    def samples(self) -> JointSamples:
        """Draws of the joint posterior over all rows."""
        return JointSamples.of(self.outlook.surrogate, self._beliefs, self.seed)

    @property
    def log_gain(self) -> Tensor:
        """Log of what each row adds to the joint improvement, given what is known and picked, ``rows``."""
        if self._gain is None:
            self._gain = self.samples.log_gain([*self.known, *self.picked], self.outlook.improvement)
        return self._gain

    def joint_gains(self) -> Tensor:
        """What each pick adds to the joint improvement of those before it, in units of the objectives, ``picks``.

        Over the draws that a strategy asked for; else over draws of the picks and of what is known alone.
        """
        rows, samples = [*self.known, *self.picked], self.__dict__.get("samples")
        if samples is None:
            samples = JointSamples.of(self.outlook.surrogate, [b.of(rows) for b in self._beliefs], self.seed)
            rows = list(range(len(rows)))
        count, improvement = len(self.known), self.outlook.improvement
        gains = [samples.log_gain(rows[:i], improvement)[rows[i]] for i in range(count, len(rows))]
        return torch.stack(gains).exp() if gains else torch.zeros(0, dtype=torch.float64)

    @property
    def apart(self) -> Tensor:
        """Learned distance to what is measured, pending or picked, without any to what is reported, ``rows``."""
        features, anchors = self.points.features, [*self.known, *self.picked]
        distances = torch.cdist(features, features[anchors]) if anchors else self.outlook.domain.distances(features)
        return distances.amin(1)

    # -- how it grows ------------------------------------------------------------------------------------

    def index(self, made: Made) -> int:
        """Row of something that is made again."""
        return len(self.candidates) + self.repeated.index(made)

    def allowed(self, strategy: Strategy) -> Tensor:
        """What each candidate would be worth as the next pick, -inf where it cannot be, ``candidates``."""
        allowed = self._open.clone()
        allowed &= self._economy.affords(self.picked)
        allowed = allowed[: len(self.candidates)]
        if not allowed.any():
            return torch.full((len(self.candidates),), -torch.inf)
        return torch.where(allowed, strategy.next(self)[: len(self.candidates)], -torch.inf)

    def add(self, row: int) -> Choice:
        """Take a row into the batch."""
        choice = self._describe(row)
        self.picked.append(row)
        self._await(row)
        self._gain = None
        self._close([row])
        return choice

    # -- second cells ------------------------------------------------------------------------------------

    @property
    def second_cells(self) -> int:
        """How many places went to second cells."""
        return len(self._second)

    def take_second_cell(self) -> bool:
        """Give a place to a second cell of a pick, where that is worth more than another composition would add."""
        left = self._open[: len(self.candidates)] & self._economy.affords(self.picked)[: len(self.candidates)]
        another = float(self.log_gain[: len(self.candidates)][left].max().exp()) if left.any() else 0.0
        offers = [(self._worth_of_second(row), row) for row in self.picked if row not in self._second]
        (worth, rival), row = max(offers, default=((0.0, 0), 0))
        if worth <= another or worth <= 0:
            return False
        self._second[row] = rival
        self._await(row)
        self._gain = None
        return True

    def with_cells(self, picks: Sequence[Choice]) -> list[Choice]:
        """Say of every pick how many cells to make of it, and why two."""
        found = []
        for pick, row in zip(picks, self.picked, strict=True):
            if row not in self._second:
                found.append(replace(pick, cells=1))
                continue
            name = self._compositions[self._second[row]]
            found.append(replace(pick, cells=2, why=f"{pick.why}; 2 cells: the spread decides between it and {name}"))
        return found

    def _worth_of_second(self, row: int) -> tuple[float, int]:
        """What a second cell of a pick is worth in units of the first objective, and the rival it decides against."""
        column = self.outlook.goals.objective_columns[0]
        rivals = [r for r in (*self.picked, *self.known) if r != row and float(self.log_feasible[r]) > math.log(0.5)]
        if not rivals:
            return 0.0, row
        rival = max(rivals, key=lambda r: float(self.signed_mean[r, 0]))
        mean, variance = self.signed_mean[:, 0], self.std[:, column].square()
        worth = worth_of_second_cell(
            (float(mean[row]), float(mean[rival])),
            (float(variance[row]), float(variance[rival])),
            float(self.noise(column)),
        )
        return worth / float(self.outlook.improvement.unit[0]) * float(self.log_feasible[row].exp()), rival

    def _await(self, row: int) -> None:
        """Count on a row to come out as predicted."""
        self._remaining = [belief.believe(row) for belief in self._remaining]

    def _close(self, rows: Sequence[int]) -> None:
        """Rule out whatever is too near to these rows and made alike."""
        for row in rows:
            apart = (self._table - self._table[row]).abs().amax(1)
            near = apart < max(self.limits.min_distance, 1e-6) - 1e-9
            self._open &= ~(near & self._made_like(self._made[row][1]))

    def _avoid(self, failed: Sequence[Made]) -> None:
        """Rule out what is too near to syntheses that failed and made alike; these themselves may be tried again."""
        amounts = Amounts.of([composition for composition, _ in (*self.candidates, *failed)])
        table = amounts.table(amounts.symbols)
        apart = torch.cdist(table[: -len(failed)], table[-len(failed) :], p=torch.inf)
        near = (apart > 1e-6) & (apart < FAILED_APART * self.limits.min_distance - 1e-9)
        alike = torch.stack([self._made_like(process)[: len(self.candidates)] for _, process in failed], 1)
        self._open[: len(self.candidates)] &= ~(near & alike).any(1)

    def _made_like(self, process: Process) -> Tensor:
        """Which rows are not known to be made differently, ``rows``; all where there is nothing to choose."""
        if not self.outlook.ways:
            return torch.ones(len(self), dtype=torch.bool)
        kinds = {made: not process.differs(made) for made in dict.fromkeys(p for _, p in self._made)}
        return torch.tensor([kinds[made] for _, made in self._made])

    def _describe(self, row: int) -> Choice:
        outlook, here = self.outlook, slice(row, row + 1)
        mean, std = self.mean[here], self.std[here]
        columns = outlook.goals.columns(mean.numpy(), std.numpy())
        composition, process = [*self.candidates, *self.repeated][row]
        nearest = outlook.domain.nearest(Amounts.of([composition]), self.points.features[here])
        measured = dict.fromkeys(outlook.known)
        by_distance = sorted(((c, c.distance(composition)) for c in measured), key=lambda pair: pair[1])
        rivals, first = slice(0, len(self.candidates)), outlook.goals.objective_columns[0]
        return Choice(
            composition=composition,
            kind="candidate",
            strategy="",
            score=0.0,
            columns={name: float(values[0]) for name, values in columns.items()},
            phase_probability=None if outlook.phases is None else float(self.log_phase[row].exp()),
            promise=outlook.goals.in_words(mean[0].numpy()) + self._phase_in_words(row, composition),
            domain=nearest.labels[0],
            learned_distance=float(nearest.learned[0]),
            nearest_measured=tuple(by_distance[:3]),
            mean_rank=1 + int((self.signed_mean[rivals, 0] > self.signed_mean[row, 0]).sum()),
            spread_rank=1 + int((self.std[rivals, first] > self.std[row, first]).sum()),
            candidates=len(self.candidates),
            teaches=self._teaches(row),
            joint_gain=math.nan,  # once the batch is whole
            process=process,
        )

    def made_by(self, row: int) -> str:
        """How to make a row where that was to be chosen, and how it was made before; empty where it was not."""
        if not self.outlook.ways:
            return ""
        composition, process = self._made[row]
        before = dict.fromkeys(str(p) for c, p in self.outlook.made if c == composition and p)
        other = f" (before: {'; '.join(before)})" if before else ""
        return f"; made by {process}{other}"

    def _teaches(self, row: int) -> float:
        """Share of the remaining variance among the promising candidates that measuring a row takes away."""
        belief = self._remaining[self.outlook.goals.objective_columns[0]]
        weight = self.promising(PROMISING)
        total = float(belief.std.square() @ weight)
        if total <= 0:
            return 0.0
        learned = belief.believe(row).explained[-1]
        return float(learned.square() @ weight) / total

    def _phase_in_words(self, row: int, composition: Composition) -> str:
        """How probably the synthesis gives the phase, and what failures say against it."""
        if self.outlook.phases is None:
            return ""
        against = self.outlook.phases.against(composition)
        return f", phase {float(self.log_phase[row].exp()):.0%}" + (f" ({against})" if against else "")


@dataclass(frozen=True)
class JointSamples:
    """Draws of the joint posterior over all rows."""

    goals: Goals
    objectives: Tensor
    """Signed, ``S x rows x k``."""

    log_feasible: Tensor
    """Log of the smoothed indicator that all constraints are met, ``S x rows``."""

    @classmethod
    def of(cls, model: DRXNetGaussianModel, beliefs: Sequence[Belief], seed: int) -> JointSamples:
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
