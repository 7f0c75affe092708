"""Tests of a DRX-TD file, raw or processed."""

from __future__ import annotations

from collections import Counter

import numpy as np

from campaigns.intake.checks.capacity import check_capacity, counted_from_before
from campaigns.intake.checks.sample import checked_composition
from campaigns.intake.measurement import CheckedDischarge, SampleInfo
from campaigns.intake.readers.recording import DRXTDTests
from campaigns.intake.rules import (
    CHARGE_TOP_TOLERANCE_V,
    LEAST_CURRENT_MA_G,
    LEAST_ROWS,
    MOST_CURRENT_MA_G,
    ORIGIN_SHARE,
    PROCESSED_TOLERANCE_V,
    RELATIVE_SIGMA,
    START_TOLERANCE_V,
    TABLE_TOLERANCE_V,
    Hits,
)
from drxnet.composition import Composition
from drxnet.discharge import VOLTAGE_BOUNDS_V
from drxnet.drxtd import Curve, CyclingTest
from drxnet.errors import MeasurementError
from drxnet.preprocess import smooth_discharge


def check_tests(
    file: str, recording: DRXTDTests, sample: SampleInfo, hits: Hits
) -> tuple[tuple[CheckedDischarge, ...], tuple[str, ...]]:
    """Check the discharges of DRX-TD tests."""
    checked: list[CheckedDischarge] = []
    declared, _ = checked_composition(sample, hits)
    for test in recording.tests:
        _check_declared(file, test, sample, declared, hits)
        if not LEAST_CURRENT_MA_G <= test.current_ma_g <= MOST_CURRENT_MA_G:
            hits.error("E8", f"{file}: {test.current_ma_g:g} mA/g is no rate a cell is cycled at; give it in mA/g.")
        cycle, times = (
            Counter(curve.cycle for curve in test.discharges).most_common(1)[0] if test.discharges else (0, 0)
        )
        if times > 1:
            hits.error("E9", f"{file}: holds {times} discharges of cycle {cycle}. Save one cell per file.")
        found = [d for curve in test.discharges if (d := _check_curve(file, test, curve, hits)) is not None]
        if not found and "E4" not in hits:
            hits.error("E1", f"{file}: {test.composition}: no discharge in the file.")
        check_capacity(file, found, test.composition.theoretical_capacity_mah_g, sample, None, hits)
        checked.extend(found)
    return tuple(checked), recording.notes


def _check_declared(file: str, test: CyclingTest, sample: SampleInfo, declared: Composition | None, hits: Hits) -> None:
    if declared is not None and declared.distance(test.composition) > 0.005:
        hits.warning("W7", f"{file}: file says {test.composition}; table says {declared}. The file is used.")
    if sample.current_ma_g and abs(test.current_ma_g / sample.current_ma_g - 1) > 0.02:
        hits.warning(
            "W7", f"{file}: file says {test.current_ma_g:g} mA/g; table says {sample.current_ma_g:g}. The file is used."
        )
    if (
        sample.window
        and max(abs(test.v_low - sample.window[0]), abs(test.v_high - sample.window[1])) > TABLE_TOLERANCE_V
    ):
        hits.warning(
            "W7",
            f"{file}: file says {test.v_low:g}-{test.v_high:g} V; table says {sample.window[0]:g}-"
            f"{sample.window[1]:g} V. The file is used.",
        )


def _check_curve(file: str, test: CyclingTest, curve: Curve, hits: Hits) -> CheckedDischarge | None:
    cycle, here = curve.cycle, f"{file} cycle {curve.cycle}"
    _check_values(here, curve, hits)
    if _rises(curve):
        hits.error("E1", f"{here}: capacity rises with voltage: a charge, not a discharge.", cycle)
        return None
    v_end, v_start = float(curve.voltage_v.min()), float(curve.voltage_v.max())
    top = max((float(c.voltage_v.max()) for c in test.charges if c.cycle == cycle), default=None)
    if (what := _unfinished(test, v_start, v_end, top)) is not None:
        message = f"{here}: discharge {what} Capacity not comparable."
        if cycle == test.discharges[0].cycle:
            hits.error("E4", message, cycle)
        else:
            hits.warning("E4", message + " Left out.", cycle)
            return None
    try:
        profile = curve.profile()
        told = profile if test.processed else curve
        smooth = smooth_discharge(told.voltage_v, told.capacity_mah_g, (test.v_low, test.v_high))
    except (MeasurementError, ValueError) as error:
        hits.error("E11", f"{here}: smoothing failed ({error})", cycle)
        return None
    if not test.processed and len(curve.voltage_v) < LEAST_ROWS:
        hits.warning("W4", f"{here}: sparse: {len(curve.voltage_v)} rows.", cycle)
    return CheckedDischarge(
        cycle=cycle,
        provenance="drx-td",
        composition=test.composition,
        conditions=test.conditions(cycle),
        capacity_mah_g=smooth.capacity_mah_g,
        profile=smooth.profile,
        sigma_mah_g=RELATIVE_SIGMA["drx-td"] * smooth.capacity_mah_g,
        v_start=v_start,
        v_end=v_end,
        rows=len(curve.voltage_v),
        charge_top_v=top,
    )


def _check_values(here: str, curve: Curve, hits: Hits) -> None:
    """Refuse voltages and capacities that no cell has."""
    low, high = VOLTAGE_BOUNDS_V
    if curve.voltage_v.min() < low or curve.voltage_v.max() > high:
        wild = float(curve.voltage_v[np.argmax(np.abs(curve.voltage_v - 3))])
        message = f"{here}: voltage {wild:g} V lies outside {low:g}-{high:g} V: mV, or a lost decimal sign?"
        hits.error("E8", message, curve.cycle)
    start, end = float(curve.capacity_mah_g.min()), float(curve.capacity_mah_g.max())
    if start < -1.0:
        hits.error("E8", f"{here}: capacities must not be negative. Got {start:g} mAh/g.", curve.cycle)
    if start > ORIGIN_SHARE * end:
        hits.error("E8", f"{here}: {counted_from_before(start, end)}", curve.cycle)


def _rises(curve: Curve) -> bool:
    """Whether the capacity rises with the voltage, as on charge."""
    if not np.ptp(curve.capacity_mah_g):
        return False
    ordered = np.argsort(curve.voltage_v, kind="stable")
    return bool(np.corrcoef(np.arange(len(ordered)), curve.capacity_mah_g[ordered])[0, 1] > 0)


def _unfinished(test: CyclingTest, v_start: float, v_end: float, charged_to: float | None) -> str | None:
    """How a discharge fails to run through the window of its test; None where it does."""
    if v_end > test.v_low + (PROCESSED_TOLERANCE_V if test.processed else TABLE_TOLERANCE_V):
        return f"ends at {v_end:.4g} V, not {test.v_low:g} V: interrupted or safety limit."
    if v_start < test.v_high - START_TOLERANCE_V:
        return f"starts at {v_start:.4g} V, more than {START_TOLERANCE_V:g} V below {test.v_high:g} V."
    if charged_to is not None and charged_to < test.v_high - CHARGE_TOP_TOLERANCE_V:
        return f"follows a charge to {charged_to:.4g} V, not {test.v_high:g} V: stopped by its time or its capacity."
    return None
