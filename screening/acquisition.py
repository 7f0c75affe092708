"""What a candidate is worth: closed-form scores for millions of candidates, one at a time.

The joint choice among the best of them is in :mod:`screening.batch`. Both see plain values: what was measured
(:class:`~screening.measured.Measured`), what is pending, an ensemble, and :class:`~screening.goals.Goals`. A campaign
uses them so::

    scorer = StreamScorer.of(model_folder, candidates.columns, candidates.denominator, goals,
                             measured=measured, pending=pending, strategy="logei", limits=limits, seed=seed)
    shortlist = stream(candidates, scorer, keep=2000, ...)
    picks = choose_batch(candidates.compositions(shortlist.units), ensemble, goals, n=8,
                         measured=measured, pending=pending, strategy="logei", limits=limits, seed=seed)

Every score is a logarithm: of the expected improvement, or of what takes its place in other strategies, plus the
logarithm of the probability that all constraints are met.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from botorch.acquisition.analytic import _log_ei_helper
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning
from botorch.utils.safe_math import log_fatplus
from torch import Tensor

from drxnet.composition import Composition
from drxnet.ensemble import Amounts, Ensemble
from drxnet.errors import UsageError
from screening.domain import LABELS, Domain, Label
from screening.encoding import Encoding
from screening.goals import Goals
from screening.measured import Measured
from screening.quantities import Capacity, Quantity, cost_usd_kg
from screening.strategy import STRATEGIES, Strategy
from screening.surrogate import DRXNetGaussianModel, Points

UCB_WIDTH = 2.0
"""Standard deviations that `ucb` adds."""

DOMAIN_WEIGHT: Mapping[Label, float] = {"inside": 1.0, "edge": 1.0, "outside": 0.5}
"""Factor on the score of a candidate by its label; 0 would refuse it."""

_PATHS = 8
"""Draws of the posterior that a stream keeps the best candidates of, for `thompson`."""

_INFEASIBLE = 50.0
"""Taken off the log utility of a draw that breaks a constraint; still ordered, below all that keep them."""


@dataclass(frozen=True)
class Limits:
    """What a laboratory can and wants to make."""

    banned: tuple[str, ...] = ()
    """Elements that are out of stock or not wanted."""

    max_precursors: int | None = None
    """Most distinct precursors that one batch may need together; one is counted for every cation element and for F."""

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


def gaussian_model(
    ensemble: Ensemble,
    encoding: Encoding,
    goals: Goals,
    measured: Sequence[Measured] = (),
    hyperparameters: Mapping[str, Sequence[float]] | None = None,
) -> DRXNetGaussianModel:
    """Build the model of a campaign, conditioned on what was measured.

    Args:
        ensemble: the members.
        encoding: with a column for every metal measured.
        goals: the quantities.
        measured: data; those without any quantity of the goals are left out.
        hyperparameters: fitted before; by default they are fitted now.
    """
    useful = [m for m in measured if np.isfinite(m.values(goals)).any()]
    rows_of = [(m.values(goals), m.variances(goals)) for m in useful]
    data = [torch.from_numpy(np.stack(rows)) for rows in zip(*rows_of, strict=True)]
    x = [encoding.encode([m.composition for m in useful])] if useful else []
    model = DRXNetGaussianModel(ensemble, encoding, goals, *x, *data)
    return model.fit() if hyperparameters is None else model.with_hyperparameters(hyperparameters)


# -- improvement ------------------------------------------------------------------------------------------------------


class Improvement:
    """Where a candidate would improve on what is known, in units of the objectives' spread.

    The region that nothing known dominates is cut into boxes; with one objective that is everything above the best.
    All objectives are signed so that larger is better and divided by ``unit``.
    """

    def __init__(self, goals: Goals, unit: Tensor, incumbents: Tensor) -> None:
        """Cut the region.

        Args:
            goals: objectives with their reference points.
            unit: size of each objective, ``k``.
            incumbents: signed objectives of what is known and feasible, ``i x k``; may be empty.
        """
        self.unit = unit
        self.reference = torch.from_numpy(goals.reference_point) / unit
        self.lower, self.upper = boxes_not_dominated((incumbents / unit)[None], self.reference)  # 1, boxes, k

    def log_expected(self, mean: Tensor, std: Tensor) -> Tensor:
        """Log of the expected (hypervolume) improvement of independent normal objectives, ``n x k -> n``."""
        mean, std = (mean / self.unit)[:, None], (std / self.unit)[:, None].clamp_min(1e-9)
        above = _log_partial_expectation(mean, std, self.lower[0])
        beyond = _log_partial_expectation(mean, std, self.upper[0])
        edges = above + torch.log1p(-torch.exp((beyond - above).clamp_max(-1e-15)))
        return edges.sum(-1).logsumexp(-1)

    def log_utility(self, values: Tensor) -> Tensor:
        """Log of the hypervolume between values and the reference point, smoothed below it, ``n x k -> n``."""
        return log_fatplus(values / self.unit - self.reference, tau=0.05).sum(-1)


def _log_partial_expectation(mean: Tensor, std: Tensor, threshold: Tensor) -> Tensor:
    """Log of E[max(f - threshold, 0)] for a normal f, by BoTorch; -inf at an infinite threshold."""
    u = ((mean - threshold) / std).clamp_min(-1e100)
    return torch.where(torch.isinf(threshold), -torch.inf, _log_ei_helper(u) + std.log())


def boxes_not_dominated(known: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Cut what nothing known dominates into boxes, for each of S sets of known points.

    Args:
        known: ``S x i x k``; those below the reference in any objective do not count.
        reference: ``k``.

    Returns:
        Lower and upper corners, ``S x boxes x k``; sets with fewer boxes are filled with empty ones.
    """
    s, i, k = known.shape
    if k == 1:
        best = torch.cat([known, reference.expand(s, 1, 1)], 1).amax(1, keepdim=True)
        return best, torch.full_like(best, torch.inf)
    bounds = [
        FastNondominatedPartitioning(reference, Y=points).get_hypercell_bounds()
        if (points := y[(y > reference).all(-1)]).numel()
        else torch.stack([reference[None], torch.full_like(reference, torch.inf)[None]])
        for y in known
    ]
    boxes = max(b.shape[1] for b in bounds)
    padded = [torch.cat([b, reference.expand(2, boxes - b.shape[1], k)], 1) for b in bounds]
    lower, upper = torch.stack(padded, 1)
    return lower, upper


def log_feasibility(goals: Goals, mean: Tensor, std: Tensor) -> Tensor:
    """Log of the probability that independent normal quantities meet all constraints, ``n x m -> n``."""
    total = torch.zeros(len(mean), dtype=torch.float64)
    for column, constraint in zip(goals.constraint_columns, goals.constraints, strict=True):
        slack = constraint.sign * (mean[:, column] - constraint.threshold)
        total = total + torch.special.log_ndtr(slack / std[:, column].clamp_min(1e-9))
    return total


def objectives_of(goals: Goals, values: Tensor) -> Tensor:
    """Signed objectives of quantities, ``... x m -> ... x k``."""
    signs = torch.tensor([o.sign for o in goals.objectives], dtype=values.dtype)
    return values[..., list(goals.objective_columns)] * signs


# -- one candidate at a time ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamScorer:
    """Scores lattice rows in a stream; picklable, and loads its ensemble where it works.

    What depends on all data (hyperparameters, incumbents) is worked out once, by :meth:`of`, so that every worker
    gives the same scores.
    """

    model: str
    """Folder of the ensemble."""

    model_id: str
    columns: tuple[str, ...]
    """Symbol of each column of a row, Li and F among them."""

    denominator: int
    goals: Goals
    strategy: Strategy
    measured: tuple[Measured, ...]
    limits: Limits
    seed: int
    hyperparameters: tuple[tuple[str, tuple[float, ...]], ...]
    incumbents: tuple[tuple[float, ...], ...]
    """Signed objectives of what is known and feasible."""

    rank_by: Quantity | None = None
    """Score by the pessimistic quantile of this quantity instead of by the strategy."""

    least_capacity_mah_g: float | None = None
    """With `rank_by`: predicted low-rate capacity below which a candidate is left out."""

    device: str = "cpu"
    engine: str = "eager"
    """What encodes compositions, of :data:`drxnet.engines.ENGINES`: they differ in speed and in the sixth digit."""

    @classmethod
    def of(
        cls,
        model: str | Path,
        columns: Sequence[str],
        denominator: int,
        goals: Goals | None = None,
        *,
        measured: Sequence[Measured] = (),
        pending: Sequence[Composition] = (),
        strategy: Strategy = "logei",
        limits: Limits | None = None,
        seed: int = 0,
        rank_by: Quantity | None = None,
        least_capacity_mah_g: float | None = None,
        device: str = "cpu",
        engine: str = "eager",
    ) -> Self:
        """Build a scorer from the state of a campaign.

        Args:
            model: folder of the ensemble.
            columns: symbols of the columns of a lattice row.
            denominator: rows are in units of ``1 / denominator``.
            goals: what the campaign wants.
            measured: what came back.
            pending: what is being made.
            strategy: by name, one of :data:`~screening.strategy.STRATEGIES`.
            limits: of the laboratory.
            seed: of `thompson`, `random` and `space-filling`.
            rank_by: rank by the pessimistic quantile of this quantity of the goals instead.
            least_capacity_mah_g: with `rank_by`, leave out what is predicted to have less at the low rate.
            device: where the ensemble works.
            engine: what encodes compositions.
        """
        if strategy not in STRATEGIES:
            raise UsageError(f"No strategy {strategy!r}. Choose one of {', '.join(STRATEGIES)}.")
        goals = goals or Goals()
        if rank_by is not None and rank_by not in goals.quantities:
            raise UsageError(f"To rank by {rank_by}, make it an objective of the goals.")
        ensemble = Ensemble.load(model, device=device)
        known = [m.composition for m in measured]
        encoding = Encoding(_metals(columns, [*known, *pending]))
        gaussian = gaussian_model(ensemble, encoding, goals, measured)
        return cls(
            model=str(model),
            model_id=ensemble.model_id,
            columns=tuple(columns),
            denominator=denominator,
            goals=goals,
            strategy=strategy,
            measured=tuple(measured),
            limits=limits or Limits(),
            seed=seed,
            hyperparameters=tuple((k, tuple(v)) for k, v in gaussian.hyperparameters().items()),
            incumbents=tuple(map(tuple, incumbents_of(gaussian, known, pending).tolist())),
            rank_by=rank_by,
            least_capacity_mah_g=least_capacity_mah_g,
            device=device,
            engine=engine,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything the scores depend on."""
        state = {
            k: v for k, v in self.__dict__.items() if k in self.__dataclass_fields__ and k not in ("model", "device")
        }
        return hashlib.sha256(repr(sorted(state.items())).encode()).hexdigest()

    @cached_property
    def signature(self) -> str:
        """What the last digits of the scores depend on beside the fingerprint."""
        return Ensemble.load(self.model, device=self.device, engine=self.engine).signature(1)

    def prepare(self) -> None:
        """Load the ensemble and condition the model, once per process."""
        torch.set_num_threads(1)
        _ = self._loaded

    def score(self, units: np.ndarray) -> np.ndarray:
        """Scores of lattice rows, ``n``; higher is better, -inf where the limits forbid it."""
        amounts = self._amounts(units)
        scores = np.full(len(units), -np.inf)
        admitted = np.flatnonzero(self.limits.admits(amounts))
        if len(admitted) == 0:
            return scores
        if self.strategy in ("random", "space-filling") and self.rank_by is None:
            scores[admitted] = _uniform(units[admitted], self.seed)
            return scores
        with torch.no_grad():
            scores[admitted] = self._score(
                Amounts(amounts.symbols, amounts.cations[admitted], amounts.fluorine[admitted])
            ).numpy()
        return scores

    def __getstate__(self) -> dict[str, object]:
        """Travel without the ensemble."""
        return {k: v for k, v in self.__dict__.items() if k in self.__dataclass_fields__}

    @cached_property
    def _loaded(self) -> tuple[DRXNetGaussianModel, Domain, Improvement]:
        ensemble = Ensemble.load(self.model, device=self.device, engine=self.engine)
        known = [m.composition for m in self.measured]
        encoding = Encoding(_metals(self.columns, known))
        gaussian = gaussian_model(ensemble, encoding, self.goals, self.measured, dict(self.hyperparameters))
        domain = Domain(ensemble, known)
        incumbents = torch.tensor(self.incumbents, dtype=torch.float64).reshape(-1, len(self.goals.objectives))
        return gaussian, domain, Improvement(self.goals, objective_units(gaussian), incumbents)

    def _score(self, amounts: Amounts) -> Tensor:
        model, domain, improvement = self._loaded
        points = model.reader.read(amounts)
        if self.rank_by is None:
            value = single_scores(self.strategy, improvement, model, points, self.seed)
            return value + log_domain_weight(self.limits, domain, points.features)
        mean, std = model.marginals(points)
        value = _pessimistic(self.goals, self.rank_by, mean, std)
        if self.least_capacity_mah_g is not None:
            value[mean[:, self.goals.column(Capacity(self.goals.rates.low))] < self.least_capacity_mah_g] = -torch.inf
        return value

    def _amounts(self, units: np.ndarray) -> Amounts:
        rows = torch.from_numpy(np.asarray(units, float) / self.denominator)
        cations = [i for i, s in enumerate(self.columns) if s != "F"]
        symbols = tuple(self.columns[i] for i in cations)
        return Amounts(symbols, rows[:, cations], rows[:, self.columns.index("F")])


def single_scores(
    strategy: Strategy,
    improvement: Improvement,
    model: DRXNetGaussianModel,
    points: Points,
    seed: int,
) -> Tensor:
    """Score candidates one at a time by a strategy, ``n``."""
    goals = model.goals
    mean, std = model.marginals(points)
    if strategy == "thompson":
        paths = model.sample_paths(_PATHS, seed)(points)  # paths, n, m
        good = torch.from_numpy(goals.feasible(paths.numpy()))
        utility = improvement.log_utility(objectives_of(goals, paths.flatten(0, 1))).unflatten(0, paths.shape[:2])
        return torch.where(good, utility, utility - _INFEASIBLE).amax(0)
    feasible = log_feasibility(goals, mean, std)
    if strategy in ("logei", "qlognei", "qlognehvi"):
        spread = std[:, list(goals.objective_columns)]
        return improvement.log_expected(objectives_of(goals, mean), spread) + feasible
    signs = torch.tensor([o.sign for o in goals.objectives], dtype=torch.float64)
    optimism = UCB_WIDTH * std[:, list(goals.objective_columns)] if strategy == "ucb" else torch.zeros_like(signs)
    return improvement.log_utility(objectives_of(goals, mean) + optimism) + feasible


def incumbents_of(
    model: DRXNetGaussianModel, measured: Sequence[Composition], pending: Sequence[Composition] = ()
) -> Tensor:
    """Signed objectives of what is known and probably feasible, by their posterior means, ``i x k``."""
    known = [*measured, *pending]
    if not known:
        return torch.zeros(0, len(model.goals.objectives), dtype=torch.float64)
    mean, std = model.marginals(model.reader.read(Amounts.of(known)))
    good = log_feasibility(model.goals, mean, std) >= math.log(0.5)
    return objectives_of(model.goals, mean[good])


def objective_units(model: DRXNetGaussianModel) -> Tensor:
    """How much each objective differs between known compositions, ``k``."""
    return model.reader.unit[list(model.goals.objective_columns)]


def log_domain_weight(limits: Limits, domain: Domain, features: Tensor) -> Tensor:
    """Log of the factor that the domain label puts on each candidate, ``n``."""
    labels = domain.labels(features)
    factors = torch.tensor([limits.domain_weight.get(name, 1.0) for name in LABELS], dtype=torch.float64)
    return factors.log()[labels]


def _pessimistic(goals: Goals, quantity: Quantity, mean: Tensor, std: Tensor) -> Tensor:
    column = goals.column(quantity)
    return torch.from_numpy(goals.lower(mean.numpy(), std.numpy())[:, column] * goals.signs[column])


def _uniform(units: np.ndarray, seed: int) -> np.ndarray:
    """Numbers in (0, 1) that depend on the row and the seed alone (SplitMix64, Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        state = np.full(len(units), seed, np.uint64)
        for column in units.T:
            state = (state ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(float) / 2**53 + 2.0**-54


def _metals(columns: Sequence[str], compositions: Sequence[Composition]) -> tuple[str, ...]:
    others = {s for c in compositions for s in c.metals}
    return tuple({*columns, *others} - {"Li", "F"})
