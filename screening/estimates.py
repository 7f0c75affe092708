"""Numbers with a spread, wherever they come from, and what counts as the same conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from drxnet.discharge import CyclingConditions
from drxnet.uncertainty import CELL_TO_CELL

CURRENT_TOLERANCE = 0.10
VOLTAGE_TOLERANCE_V = 0.05
CELLS_EXPECTED = 4
"""How many compared cells that expectation weighs as much as."""

LOWER_QUANTILE = 0.10
"""Quantile of what is known of a quantity that a ranking orders by."""

LOWER_Z = -NormalDist().inv_cdf(LOWER_QUANTILE)
"""Standard deviations between the mean and that quantile."""


def same_conditions(came: CyclingConditions, wanted: CyclingConditions) -> bool:
    """Whether a discharge counts as one under the conditions that were asked for.

    What only one of them states of the process is not known to differ.
    """
    return (
        came.cycle == wanted.cycle
        and abs(came.current_ma_g / wanted.current_ma_g - 1) <= CURRENT_TOLERANCE
        and abs(came.v_low - wanted.v_low) <= VOLTAGE_TOLERANCE_V
        and abs(came.v_high - wanted.v_high) <= VOLTAGE_TOLERANCE_V
        and not came.process.differs(wanted.process)
    )


@dataclass(frozen=True)
class Estimate:
    """A number with its spread."""

    mean: float
    spread: float | None
    """Standard deviation between cells, or of a prediction; None where it is not known (one cell without an
    uncertainty)."""

    count: int = 1
    """Cells behind it; 0 for a prediction."""

    error: float | None = None
    """How uncertain the mean itself is, as one standard deviation; None where nobody said."""

    @classmethod
    def over(cls, values: Sequence[float], sigma: float | None = None, least: float = 0.0) -> Self | None:
        """Mean over cells and their sample standard deviation (ddof 1); None of no cell.

        However many cells agree, the error of their mean is never below a third of what one usually has: they share
        a powder, a balance and a cycler.

        Args:
            values: of each cell.
            sigma: standard uncertainty of a value, which takes the place of the spread where there is one cell.
            least: value below which that third does not become smaller with it.
        """
        if not values:
            return None
        plain = cls(fmean(values), stdev(values) if len(values) > 1 else sigma, len(values))
        floor = CELL_TO_CELL / 3 * max(abs(plain.mean), least)
        return cls(plain.mean, plain.spread, plain.count, max(standard_error(plain), floor))


def standard_error(estimate: Estimate) -> float:
    """Standard error of a mean over cells.

    The variance between cells is that of these cells and, with the weight of :data:`CELLS_EXPECTED`, what equal cells
    usually differ by, so that two which agree by chance do not count as exact (the scaled inverse chi-squared prior of
    Gelman et al., Bayesian Data Analysis, 3rd ed., section 2.6). A single cell has that and its stated uncertainty.
    """
    usual, spread = CELL_TO_CELL * abs(estimate.mean), estimate.spread or 0.0
    if estimate.count <= 1:
        return math.hypot(usual, spread)
    freedom = estimate.count - 1
    variance = (CELLS_EXPECTED * usual**2 + freedom * spread**2) / (CELLS_EXPECTED + freedom)
    return math.sqrt(variance / estimate.count)


def pessimistic(mean: ArrayLike, error: ArrayLike, sign: ArrayLike, limits: tuple[ArrayLike, ArrayLike]) -> np.ndarray:
    """Bound that the truth is better than with 90 %, ``...``.

    Args:
        mean: what is expected, ``...``.
        error: its standard deviation, likewise.
        sign: 1 where large is good and the bound is a lower one, -1 for an upper one.
        limits: smallest and largest value that can mean anything.
    """
    return np.clip(np.asarray(mean) - np.asarray(sign) * LOWER_Z * np.asarray(error), *limits)
