"""Numbers with a spread, wherever they come from, and what counts as the same conditions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from drxnet.discharge import CyclingConditions

CURRENT_TOLERANCE = 0.10
VOLTAGE_TOLERANCE_V = 0.05
CELL_TO_CELL = 0.03
"""Relative standard deviation between equal cells, expected before any are compared."""

CELLS_EXPECTED = 4
"""How many compared cells that expectation weighs as much as."""


def same_conditions(came: CyclingConditions, wanted: CyclingConditions) -> bool:
    """Whether a discharge counts as one under the conditions that were asked for."""
    return (
        came.cycle == wanted.cycle
        and abs(came.current_ma_g / wanted.current_ma_g - 1) <= CURRENT_TOLERANCE
        and abs(came.v_low - wanted.v_low) <= VOLTAGE_TOLERANCE_V
        and abs(came.v_high - wanted.v_high) <= VOLTAGE_TOLERANCE_V
    )


@dataclass(frozen=True)
class Estimate:
    """A number with its spread."""

    mean: float
    spread: float | None
    """Standard deviation; None where it is not known (one cell without an uncertainty)."""

    count: int = 1
    """Cells behind it; 0 for a prediction."""


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
