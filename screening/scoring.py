"""Scores for millions of candidates, one at a time, in whatever process they are worked out.

The joint choice among the best of them is in :mod:`screening.batch`. A campaign uses both so::

    outlook = Outlook.of(ensemble, goals, measured=measured, pending=pending)
    scorer = StreamScorer(outlook, candidates.columns, candidates.denominator, "logei", limits, seed)
    shortlist = stream(candidates, scorer, keep=2000, ...)
    picks = choose_batch(candidates.compositions(shortlist.units), outlook, n=8, strategy="logei", limits=limits)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from drxnet.ensemble import Amounts
from drxnet.errors import UsageError
from drxnet.process import Process
from screening.batch import Limits
from screening.outlook import Outlook
from screening.quantities import Capacity, Quantity
from screening.strategies import STRATEGIES, Strategy
from screening.surrogate import Points


@dataclass(frozen=True)
class Rows:
    """Candidates of a stream. The network is asked about them when a strategy first looks at what it says."""

    outlook: Outlook
    limits: Limits
    amounts: Amounts
    units: np.ndarray
    """Whole numbers of a lattice, ``n x columns``."""

    @cached_property
    def points(self) -> Points:
        """What the ensemble says."""
        return self.outlook.read(self.amounts)

    def made(self, way: Process) -> Rows:
        """The same candidates, made in another way."""
        twin = replace(self)
        twin.__dict__["points"] = self.outlook.remade(self.points, self.amounts, way)
        return twin

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation of every quantity, ``n x m`` each."""
        return self.outlook.marginals(self.points)

    @cached_property
    def log_phase(self) -> Tensor:
        """Log of the probability that the synthesis gives the phase, ``n``."""
        return self.outlook.log_phase(self.amounts)

    @cached_property
    def log_weight(self) -> Tensor:
        """Log of the factor of the domain label and of the probability of the phase on each candidate, ``n``."""
        labels = self.outlook.domain.labels(self.points.features)
        return self.limits.log_domain_weight(labels) + self.outlook.caution * self.log_phase


@dataclass(frozen=True)
class StreamScorer:
    """Scores lattice rows in a stream; picklable, and loads its ensemble where it works."""

    outlook: Outlook
    columns: tuple[str, ...]
    """Symbol of each column of a row, Li and F among them."""

    denominator: int
    """Rows are in units of ``1 / denominator``."""

    strategy: str = "logei"
    limits: Limits = Limits()
    seed: int = 0
    rank_by: Quantity | None = None
    """Score by the pessimistic quantile of this quantity instead of by the strategy."""

    least_capacity_mah_g: float | None = None
    """With `rank_by`: predicted low-rate capacity below which a candidate is left out."""

    def __post_init__(self) -> None:
        """Refuse what could not be scored.

        Raises:
            ConfigurationError: no such strategy.
            UsageError: a quantity that is not among the goals.
        """
        STRATEGIES.named(self.strategy)
        if self.rank_by is not None and self.rank_by not in self.outlook.goals.quantities:
            raise UsageError(f"To rank by {self.rank_by}, make it an objective of the goals.")

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything the scores depend on."""
        state = [self.outlook.fingerprint, *(getattr(self, f.name) for f in fields(self) if f.name != "outlook")]
        return hashlib.sha256(repr(state).encode()).hexdigest()

    @cached_property
    def signature(self) -> str:
        """What the last digits of the scores depend on beside the fingerprint."""
        return self.outlook.ensemble.signature(1)

    @cached_property
    def _how(self) -> Strategy:
        return STRATEGIES.named(self.strategy)(self.seed)

    @property
    def _looks(self) -> bool:
        """Whether scores depend on what the network says."""
        return self.rank_by is not None or not self._how.blind

    def prepare(self) -> None:
        """Load the ensemble and condition the model, once per process."""
        torch.set_num_threads(1)
        if self._looks:
            _ = self.outlook.domain, self.outlook.improvement, self.outlook.marginals

    def score(self, units: np.ndarray) -> np.ndarray:
        """Scores of lattice rows, ``n``; higher is better, -inf where the limits forbid it.

        Where there are processes to choose from, that of the best one for each row.
        """
        amounts = self._amounts(units)
        scores = np.full(len(units), -np.inf)
        admitted = np.flatnonzero(self.limits.admits(amounts))
        if len(admitted):
            chosen = Amounts(amounts.symbols, amounts.cations[admitted], amounts.fluorine[admitted])
            rows = Rows(self.outlook, self.limits, chosen, units[admitted])
            with torch.no_grad():
                ways = self.outlook.ways if self._looks else ()
                each = [self._score(rows.made(way)) for way in ways] or [self._score(rows)]
                scores[admitted] = np.max(each, axis=0)
        return scores

    def __getstate__(self) -> dict[str, object]:
        """Travel as its values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _score(self, rows: Rows) -> np.ndarray:
        if self.rank_by is None:
            return np.asarray(self._how.score(self.outlook, rows))
        goals = self.outlook.goals
        mean, std = (moment.numpy() for moment in rows.moments)
        column = goals.column(self.rank_by)
        value = goals.lower(mean, self.spread(mean, std))[:, column] * goals.signs[column]
        if self.least_capacity_mah_g is None:
            return value
        low = mean[:, goals.column(Capacity(goals.rates.low))]
        return np.where(low < self.least_capacity_mah_g, -np.inf, value)

    def spread(self, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        """Standard deviations that a ranking goes by, of the surrogate's ``n x m`` of both: its own."""
        return std

    def _amounts(self, units: np.ndarray) -> Amounts:
        rows = torch.from_numpy(np.asarray(units, float) / self.denominator)
        cations = [i for i, s in enumerate(self.columns) if s != "F"]
        symbols = tuple(self.columns[i] for i in cations)
        return Amounts(symbols, rows[:, cations], rows[:, self.columns.index("F")])
