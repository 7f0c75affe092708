"""How a cell is discharged, what comes out, and the numbers that are read off a profile.

The functions take arrays with any leading axes (``... x voltages``), so that the same formula serves one
measured profile and an ensemble's ``members x n x voltages``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from drxnet.errors import ImpossibleValue
from drxnet.process import NOT_STATED, Process

DEFAULT_WINDOW = (1.5, 4.8)
"""Voltage window (V) in which most of DRX-TD was measured (Zhong et al., Joule 8, 2024)."""

SAME_CURRENT = 0.05
"""Relative difference up to which two currents are the same rate, as closely as a cycler measures them."""

VOLTAGE_BOUNDS_V = (0.0, 6.0)
"""Between which every voltage and every cut-off of a cell lies."""

MOST_CYCLES = 1_000_000
"""More than any cell lives."""

GRID_POINTS = 100
"""Points of a profile (Zhong et al., Joule 8, 2024)."""


@dataclass(frozen=True)
class CyclingConditions:
    """How a cell was, or will be, discharged."""

    current_ma_g: float
    """Discharge current per gram of active material (mA/g)."""

    v_low: float = DEFAULT_WINDOW[0]
    """Lower cut-off, where the discharge ends (V)."""

    v_high: float = DEFAULT_WINDOW[1]
    """Upper cut-off, where the discharge starts (V)."""

    cycle: int = 1
    """Cycle number, the first is 1."""

    process: Process = NOT_STATED
    """How the cell was made and tested beside that, as far as stated."""

    def __post_init__(self) -> None:
        """Refuse conditions that no cell can be discharged under."""
        if not (np.isfinite(self.current_ma_g) and self.current_ma_g > 0):
            raise ImpossibleValue(f"The current must be positive. Got {self.current_ma_g} mA/g.")
        if not (np.isfinite(self.v_low) and np.isfinite(self.v_high) and self.v_low < self.v_high):
            raise ImpossibleValue(
                f"The lower cut-off must lie below the upper one. Got {self.v_low} V and {self.v_high} V."
            )
        if not 1 <= self.cycle <= MOST_CYCLES:
            raise ImpossibleValue(f"Cycles are counted from 1, to {MOST_CYCLES:,} at most. Got {self.cycle}.")

    @property
    def window(self) -> tuple[float, float]:
        """Lower and upper cut-off (V)."""
        return (self.v_low, self.v_high)

    @property
    def bare(self) -> CyclingConditions:
        """The same current, window and cycle, whatever is stated of the process."""
        return replace(self, process=NOT_STATED) if self.process else self

    def row(self) -> dict[str, Any]:
        """Return the public form: the four numbers, and what is stated of the process."""
        four = {"current_ma_g": self.current_ma_g, "cycle": self.cycle, "v_low": self.v_low, "v_high": self.v_high}
        return {**four, **self.process.row()}

    def grid(self, points: int = GRID_POINTS) -> np.ndarray:
        """Evenly spaced voltages from the lower to the upper cut-off (V)."""
        return np.linspace(self.v_low, self.v_high, points)

    def __str__(self) -> str:
        """Return a short form for tables and messages."""
        four = f"{self.current_ma_g:g} mA/g, {self.v_low:g}-{self.v_high:g} V, cycle {self.cycle}"
        return f"{four}, {self.process}" if self.process else four


@dataclass(frozen=True, eq=False)
class DischargeProfile:
    """Capacity against voltage of one discharge, voltages ascending."""

    voltage_v: np.ndarray
    """Voltages, strictly ascending (V)."""

    capacity_mah_g: np.ndarray
    """Capacity delivered when the voltage has fallen to each of them, never rising with voltage (mAh/g)."""

    def __post_init__(self) -> None:
        """Check shape, order and finiteness."""
        voltage, capacity = np.asarray(self.voltage_v, float), np.asarray(self.capacity_mah_g, float)
        if voltage.ndim != 1 or voltage.shape != capacity.shape or len(voltage) < 2:
            raise ImpossibleValue(
                "A profile needs two one-dimensional arrays of the same length, at least 2. "
                f"Got shapes {voltage.shape} and {capacity.shape}."
            )
        if not (np.isfinite(voltage).all() and np.isfinite(capacity).all()):
            raise ImpossibleValue("A profile must be finite. Got a NaN or an infinity.")
        if (np.diff(voltage) <= 0).any():
            raise ImpossibleValue("The voltages of a profile must ascend strictly.")
        object.__setattr__(self, "voltage_v", voltage)
        object.__setattr__(self, "capacity_mah_g", capacity)

    @property
    def total_capacity_mah_g(self) -> float:
        """Capacity at the lowest voltage (mAh/g)."""
        return float(self.capacity_mah_g[0])

    def capacity_in_window(self, v_low: float, v_high: float) -> float:
        """Capacity delivered between two voltages, Q(v_low) - Q(v_high) (mAh/g)."""
        _, capacity = self._cut(v_low, v_high)
        return float(capacity[0] - capacity[-1])

    def average_voltage_v(self, v_low: float | None = None, v_high: float | None = None) -> float:
        """Capacity-weighted mean voltage (V), over the whole profile or a window."""
        return float(average_voltage(*self._cut(v_low, v_high)))

    def specific_energy_wh_kg(self, v_low: float | None = None, v_high: float | None = None) -> float:
        """Energy per mass of active material (Wh/kg), over the whole profile or a window."""
        return float(specific_energy(*self._cut(v_low, v_high)))

    def _cut(self, v_low: float | None, v_high: float | None) -> tuple[np.ndarray, np.ndarray]:
        low = self.voltage_v[0] if v_low is None else v_low
        high = self.voltage_v[-1] if v_high is None else v_high
        return window_of(self.voltage_v, self.capacity_mah_g, low, high)


def window_of(voltage: ArrayLike, capacity: ArrayLike, v_low: float, v_high: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut profiles to a window, interpolating linearly at its ends.

    Args:
        voltage: ascending (V), ``voltages``.
        capacity: (mAh/g), ``... x voltages``.
        v_low: lower end (V); below the first voltage the profile is taken as it ends.
        v_high: upper end (V); likewise.

    Returns:
        The voltages inside with both ends, and the capacities there.
    """
    v, q = np.asarray(voltage, float), np.asarray(capacity, float)
    low, high = max(v_low, v[0]), min(v_high, v[-1])
    if low >= high:
        raise ImpossibleValue(f"The window {v_low}-{v_high} V lies outside the profile ({v[0]:g}-{v[-1]:g} V).")
    inside = (v > low) & (v < high)
    ends = np.array([low, high])
    right = np.clip(np.searchsorted(v, ends), 1, len(v) - 1)
    share = (ends - v[right - 1]) / (v[right] - v[right - 1])
    at_ends = q[..., right - 1] + share * (q[..., right] - q[..., right - 1])
    voltages = np.concatenate([[low], v[inside], [high]])
    return voltages, np.concatenate([at_ends[..., :1], q[..., inside], at_ends[..., 1:]], axis=-1)


def specific_energy(voltage: ArrayLike, capacity: ArrayLike) -> np.ndarray:
    """Energy of the discharge, the trapezoid rule on V dQ (mWh/g, which is Wh/kg), ``...``."""
    v, q = np.asarray(voltage, float), np.asarray(capacity, float)
    return ((v[1:] + v[:-1]) / 2 * (q[..., :-1] - q[..., 1:])).sum(-1)


def average_voltage(voltage: ArrayLike, capacity: ArrayLike) -> np.ndarray:
    """Capacity-weighted mean voltage, sum V dQ / sum dQ (V), ``...``; NaN where nothing was delivered.

    A mean beyond the voltages, which only a curve that runs both ways can have, is none either.
    Zhong et al., Joule 8 (2024), Results, "Applicability domain".
    """
    v, q = np.asarray(voltage, float), np.asarray(capacity, float)
    delivered = q[..., 0] - q[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = specific_energy(v, q) / delivered
    return np.where((delivered > 0) & (mean >= v[0]) & (mean <= v[-1]), mean, np.nan)
