"""From the rows of one discharge to a smooth, monotone profile and its dQ/dV.

A cycler counts charge far more exactly than it reads voltage, so the noise is taken to lie in V. Isotonic
regression of V on Q (pool adjacent violators) removes it without a parameter to tune, PCHIP interpolates
Q(V) through what remains, and dQ/dV is the charge that each bin of the grid holds, divided by its width:
finite, never positive, and it integrates to the measured capacity.

:func:`smooth_discharge` with ``method="drxnet_compat"`` follows the smoothing that the published data went
through (Zhong et al., Joule 8, 2024, doi:10.1016/j.joule.2024.03.010: three rows trimmed at each end, a
smoothing spline with s = 10), for training sets that mix both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator, UnivariateSpline
from scipy.optimize import isotonic_regression

from drxnet.discharge import GRID_POINTS, DischargeProfile
from drxnet.errors import MeasurementError

Method = Literal["isotonic", "drxnet_compat"]

NO_CAPACITY_MAH_G = 1e-12
"""Capacity below which a row is an exact zero (mAh/g); differences of smaller ones have no finite slope."""

VOLTAGE_RESOLUTION_V = 1e-6
"""Voltages closer than this are one voltage: finer than any cycler reads."""

LARGEST = 1e9
"""Voltages and capacities beyond it count as infinite."""

CUTOFF_TOLERANCE_V = 0.02
"""How far the last row may overshoot the lower cut-off and still count as having stopped there."""

SPLINE_SMOOTHING = 10.0
"""Residual sum of squares of the published spline, (mAh/g)^2."""

SPLINE_TRIM = 3
"""Rows that the published recipe drops at each end."""


@dataclass(frozen=True, eq=False)
class DischargeCurve:
    """Q(V) of one discharge, for any voltage.

    Below the last measured voltage the capacity stays at the total, above the first it is zero: a curve
    is never extrapolated.
    """

    v_first: float
    """Voltage at which the discharge starts (V)."""

    v_last: float
    """Voltage at which it ends (V)."""

    total_mah_g: float
    """Capacity when it ends (mAh/g)."""

    inside: Callable[[np.ndarray], np.ndarray]
    """Q(V) between the two voltages (mAh/g)."""

    slope: Callable[[np.ndarray], np.ndarray] | None = None
    """dQ/dV between them (mAh/g/V); None where only bin averages are meaningful."""

    def __call__(self, voltage_v: ArrayLike) -> np.ndarray:
        """Capacity delivered when the voltage has fallen to each of ``voltages`` (mAh/g)."""
        v = np.asarray(voltage_v, float)
        q = self.inside(np.clip(v, self.v_last, self.v_first))
        q = np.where(v <= self.v_last, self.total_mah_g, np.where(v > self.v_first, 0.0, q))
        return np.clip(q, 0.0, self.total_mah_g)


@dataclass(frozen=True, eq=False)
class SmoothedDischarge:
    """One discharge after smoothing, on a grid of evenly spaced voltages."""

    profile: DischargeProfile
    """Capacity on the grid, never rising with voltage."""

    dqdv_mah_g_v: np.ndarray
    """dQ/dV on the grid, never positive (mAh/g/V)."""

    capacity_mah_g: float
    """Capacity at the lower cut-off, as measured (mAh/g)."""

    curve: DischargeCurve
    """The same discharge at any voltage; another cycle's grid gets this cycle's Q from it."""


def smooth_discharge(
    voltage_v: ArrayLike,
    capacity_mah_g: ArrayLike,
    window: tuple[float, float] | None = None,
    points: int = GRID_POINTS,
    method: Method = "isotonic",
) -> SmoothedDischarge:
    """Smooth one discharge and put it on a grid.

    Args:
        voltage_v: measured voltages in any order (V), ``rows``.
        capacity_mah_g: capacity delivered at each of them (mAh/g), ``rows``.
        window: lower and upper cut-off (V), the ends of the grid; None spans what was measured, as the
            published data do.
        points: length of the grid.
        method: ``isotonic``, or ``drxnet_compat`` for the spline of the published data.

    Raises:
        MeasurementError: fewer than two different voltages, or values that are not finite.
    """
    voltage, capacity = _checked_rows(voltage_v, capacity_mah_g)
    curve = isotonic_curve(voltage, capacity) if method == "isotonic" else spline_curve(voltage, capacity)
    low, high = (curve.v_last, curve.v_first) if window is None else window
    if not low < high:
        raise MeasurementError(f"The lower end of the grid must lie below the upper one. Got {low} V and {high} V.")
    grid = np.linspace(low, high, points)
    on_grid = curve(grid)
    if curve.v_last >= low - CUTOFF_TOLERANCE_V:
        on_grid[0] = curve.total_mah_g
    if not np.isfinite(on_grid).all() or (np.diff(on_grid) > 1e-9).any():
        raise MeasurementError("Smoothing failed: the profile is not finite or not monotone.")
    dqdv = _derivative(curve, grid, at_cutoff=on_grid[0])
    return SmoothedDischarge(DischargeProfile(grid, on_grid), dqdv, float(on_grid[0]), curve)


def isotonic_curve(voltage_v: ArrayLike, capacity_mah_g: ArrayLike) -> DischargeCurve:
    """Q(V) by isotonic regression of V on Q, then PCHIP.

    The first block keeps its smallest and the last its largest capacity, so that the curve ends at the
    measured one.

    Args:
        voltage_v: (V), ``rows``.
        capacity_mah_g: (mAh/g), ``rows``.

    Raises:
        MeasurementError: fewer than two different voltages, or values that are not finite.
    """
    voltage, capacity = _checked_rows(voltage_v, capacity_mah_g)
    order = np.lexsort((-voltage, capacity))
    q = capacity[order]
    fitted = isotonic_regression(voltage[order], increasing=False).x
    ticks = np.round(fitted / VOLTAGE_RESOLUTION_V).astype(np.int64)
    levels, block = np.unique(ticks, return_inverse=True)
    if len(levels) < 2:
        raise MeasurementError(f"A discharge needs at least two different voltages. Got only {fitted[0]:g} V.")
    v = levels * VOLTAGE_RESOLUTION_V
    mean_q = np.bincount(block, weights=q) / np.bincount(block)
    mean_q[0], mean_q[-1] = q[-1], q[0]
    mean_q[np.abs(mean_q) < NO_CAPACITY_MAH_G] = 0.0
    return DischargeCurve(float(v[-1]), float(v[0]), float(q[-1]), PchipInterpolator(v, mean_q))


def spline_curve(voltage_v: ArrayLike, capacity_mah_g: ArrayLike) -> DischargeCurve:
    """Q(V) by the smoothing spline of the published data, made safe.

    Equal voltages are averaged first (they are what drives the spline to NaN), and what ripples upwards or
    beyond the measured capacity is levelled. Where the spline is not finite all the same, the isotonic curve
    takes its place.

    Args:
        voltage_v: (V), ``rows``.
        capacity_mah_g: (mAh/g), ``rows``.

    Raises:
        MeasurementError: fewer than two different voltages, or values that are not finite.
    """
    voltage, capacity = _checked_rows(voltage_v, capacity_mah_g)
    order = np.argsort(voltage, kind="stable")
    if len(order) > 4 * SPLINE_TRIM:
        order = order[SPLINE_TRIM:-SPLINE_TRIM]
    v, block = np.unique(voltage[order], return_inverse=True)
    q = np.bincount(block, weights=capacity[order]) / np.bincount(block)
    isotonic = isotonic_curve(voltage[order], capacity[order]) if len(v) > 1 else isotonic_curve(voltage, capacity)
    if len(v) <= 4:
        return isotonic
    spline = _fitted_spline(v, q)
    dense = np.linspace(v[0], v[-1], 2001)
    with np.errstate(all="ignore"):
        on_dense = spline(dense)
    if not np.isfinite(on_dense).all():
        return isotonic
    falling = np.maximum.accumulate(np.clip(on_dense, 0.0, capacity.max())[::-1])[::-1]

    def inside(voltages: np.ndarray) -> np.ndarray:
        return np.interp(voltages, dense, falling)

    return DischargeCurve(float(v[-1]), float(v[0]), float(falling[0]), inside, spline.derivative())


def _derivative(curve: DischargeCurve, grid: np.ndarray, at_cutoff: float) -> np.ndarray:
    """dQ/dV on an evenly spaced grid (mAh/g/V): the charge of each bin, or the slope of a curve that has one."""
    if curve.slope is not None:
        measured = (grid >= curve.v_last) & (grid <= curve.v_first)
        return np.where(measured, np.minimum(curve.slope(np.clip(grid, curve.v_last, curve.v_first)), 0.0), 0.0)
    edges = np.concatenate([[grid[0]], (grid[1:] + grid[:-1]) / 2, [grid[-1]]])
    at_edges = curve(edges)
    at_edges[0] = at_cutoff
    return np.minimum(np.diff(at_edges) / np.diff(edges), 0.0)


def _fitted_spline(v: np.ndarray, q: np.ndarray) -> UnivariateSpline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FITPACK says that it gave up; the caller looks at the values
        return UnivariateSpline(v, q, s=SPLINE_SMOOTHING)


def _checked_rows(voltage_v: ArrayLike, capacity_mah_g: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    voltage, capacity = np.asarray(voltage_v, float), np.asarray(capacity_mah_g, float)
    if voltage.ndim != 1 or voltage.shape != capacity.shape or len(voltage) < 2:
        raise MeasurementError(
            "A discharge needs two columns of the same length, at least 2 rows. "
            f"Got shapes {voltage.shape} and {capacity.shape}."
        )
    if not ((np.abs(voltage) < LARGEST).all() and (np.abs(capacity) < LARGEST).all()):  # false for NaN too
        raise MeasurementError("Voltage and capacity must be finite. Got a NaN or an infinity.")
    return voltage, capacity
