"""What a laboratory found for one composition, whatever the quantities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from drxnet.composition import Composition
from drxnet.process import NOT_STATED, Process
from screening.estimates import Estimate
from screening.goals import Goals, Rates
from screening.quantities import Capacity, MeasuredCells, Quantity, RateRetention

Made = tuple[Composition, Process]
"""A composition, and how it is made and tested."""


@dataclass(frozen=True)
class Measured:
    """A composition and what its cells gave."""

    composition: Composition
    estimates: Mapping[Quantity, Estimate]
    """By quantity; what is not measured is not there."""

    process: Process = NOT_STATED
    """How its cells were made and tested, as far as stated."""

    learned: Mapping[Quantity, float] | None = None
    """What the ensemble said while this was held out from it, where its weights have learned from it since; NaN where
    that is not known. What the weights know must not be told to the surrogate again."""

    @classmethod
    def of_cells(cls, cells: MeasuredCells, quantities: Iterable[Quantity]) -> Self:
        """Read quantities off the cells of one composition."""
        found = {q: q.of_cells(cells) for q in quantities}
        return cls(cells.composition, {q: e for q, e in found.items() if e is not None})

    @classmethod
    def at_two_rates(
        cls, composition: Composition, rates: Rates, low: Estimate | float | None, high: Estimate | float | None = None
    ) -> Self:
        """From the first discharge at either rate (mAh/g); a plain number is one cell without an uncertainty."""
        one, other = (e if isinstance(e, Estimate) or e is None else Estimate.over([e]) for e in (low, high))
        retention = RateRetention.of(rates)
        found = {
            retention: retention.of_capacities(one, other), Capacity(rates.low): one, Capacity(rates.high): other,
        }  # fmt: skip
        return cls(composition, {q: e for q, e in found.items() if e is not None})

    def values(self, goals: Goals) -> np.ndarray:
        """Quantities of the goals, NaN where not measured, ``m``."""
        return np.array([self.estimates[q].mean if q in self.estimates else np.nan for q in goals.quantities])

    def held_out(self, goals: Goals) -> np.ndarray:
        """What the ensemble said while this was held out, NaN where that is not known, ``m``."""
        said = self.learned or {}
        return np.array([said.get(q, np.nan) for q in goals.quantities])

    def variances(self, goals: Goals) -> np.ndarray:
        """Variance of each quantity, NaN where the model's own noise must do, ``m``.

        That is the square of the error of the mean where cells were compared or an uncertainty was stated.
        """
        found = [self.estimates.get(q) for q in goals.quantities]
        known = [e.error if e is not None and e.spread is not None else None for e in found]
        return np.array([np.nan if error is None else error**2 for error in known])
