"""Curves without time and current: read off a figure, or capacity-voltage sheets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from campaigns.intake.checks.capacity import check_capacity, conditions_of, counted_from_before, short, smoothed
from campaigns.intake.checks.sample import checked_composition, stated_mass
from campaigns.intake.measurement import CheckedDischarge, SampleInfo
from campaigns.intake.readers.recording import Curve, Curves
from campaigns.intake.readers.sheets import named_cycle
from campaigns.intake.rules import (
    CHARGE_TOP_TOLERANCE_V,
    DIGITISED_SIGMA,
    LEAST_DIGITISED_POINTS,
    LEAST_ROWS,
    LEAST_SHEET_POINTS,
    ORIGIN_SHARE,
    PROCESSED_TOLERANCE_V,
    RELATIVE_SIGMA,
    START_TOLERANCE_V,
    Hits,
)
from drxnet.composition import Composition
from drxnet.discharge import VOLTAGE_BOUNDS_V
from drxnet.preprocess import SmoothedDischarge


def check_curves(
    file: str, recording: Curves, sample: SampleInfo, hits: Hits
) -> tuple[tuple[CheckedDischarge, ...], tuple[str, ...]]:
    """Check curves of voltage against capacity.

    Args:
        file: name, for messages.
        recording: the curves.
        sample: what the lab says about the cell; the current and the window come from it alone.
        hits: takes the rules that are broken.

    Returns:
        One discharge per curve, and notes for a person.
    """
    composition, theory = checked_composition(sample, hits)
    curves = _per_gram(file, recording, sample, hits)
    cycles = _cycles(file, recording, sample, hits)
    tops = recording.charge_tops_v or (None,) * len(curves)
    checked = [
        _check_curve(file, curve, cycle, top, recording.digitised, sample, composition, hits)
        for curve, cycle, top in zip(curves, cycles, tops, strict=True)
    ]
    if recording.in_mah and sample.active_mass_mg:
        checked = [
            replace(d, capacity_mah=d.capacity_mah_g and d.capacity_mah_g * sample.active_mass_mg / 1e3)
            for d in checked
        ]
    check_capacity(file, checked, theory, sample, None, hits)
    return tuple(checked), recording.notes


def _per_gram(file: str, recording: Curves, sample: SampleInfo, hits: Hits) -> list[Curve]:
    """Curves in mAh/g; those in mAh are divided by the active mass, E2 where it is missing."""
    if not recording.in_mah:
        return list(recording.curves)
    mass = stated_mass(file, sample, hits) or 1.0
    return [replace(curve, capacity=curve.capacity / mass * 1e3) for curve in recording.curves]


def _cycles(file: str, recording: Curves, sample: SampleInfo, hits: Hits) -> list[int]:
    """Cycle number of each curve: as it is named, else, in the sheet of a cycler, by its place."""
    named = [curve.cycle or named_cycle(curve.name) for curve in recording.curves]
    first = sample.first_cycle or 1
    if len(named) == 1:
        return [sample.first_cycle or named[0] or 1]
    known = [cycle for cycle in named if cycle is not None]
    if len(set(known)) == len(named):
        return known
    titles = {re.sub(r"\.\d+$|\(.*?\)", "", curve.name) for curve in recording.curves}
    if recording.digitised or known or len(titles) > 1:
        names = ", ".join(curve.name or "unnamed" for curve in recording.curves)
        hits.error(
            "E9",
            f"{file}: holds {len(named)} curves ({names:.200}); nothing says which is which. Save one curve per "
            "file, or name them 'cycle 1', 'cycle 2'.",
        )
    return list(range(first, first + len(named)))


def _check_curve(
    file: str,
    curve: Curve,
    cycle: int,
    charge_top_v: float | None,
    digitised: bool,
    sample: SampleInfo,
    composition: Composition | None,
    hits: Hits,
) -> CheckedDischarge:
    here = f"{file} cycle {cycle}"
    order = np.argsort(curve.capacity, kind="stable")
    q, v = curve.capacity[order], curve.voltage_v[order]
    discharge = CheckedDischarge(
        cycle=cycle,
        provenance="digitised" if digitised else "sheet",
        composition=composition,
        v_start=float(v[0]),
        v_end=float(v[-1]),
        rows=len(v),
        charge_top_v=charge_top_v,
    )
    faults = _faults(q, v, digitised, sample.window, charge_top_v)
    for rule, message in faults:
        hits.error(rule, f"{here}: {message}", cycle)
    if faults:
        return discharge
    if not digitised and len(v) < LEAST_ROWS:
        hits.warning("W4", f"{here}: sparse: {len(v)} points.", cycle)
    window = sample.window or (round(float(v.min()), 2), round(float(v.max()), 2))
    smooth = smoothed(here, v, np.clip(q, 0.0, None), window, hits, cycle)
    if smooth is None:
        return discharge
    rate = sample.current_ma_g if sample.window else None
    if not digitised and not rate:
        hits.error(
            "E5", f"{here}: a curve means nothing without its current and window. Give --current (mA/g) and --window."
        )
    return replace(
        discharge,
        conditions=conditions_of(rate, window, cycle) if rate else None,
        capacity_mah_g=smooth.capacity_mah_g,
        profile=smooth.profile,
        sigma_mah_g=_sigma(smooth, digitised),
    )


def _sigma(smooth: SmoothedDischarge, digitised: bool) -> float:
    if not digitised:
        return RELATIVE_SIGMA["sheet"] * abs(smooth.capacity_mah_g)
    along_q, along_v = DIGITISED_SIGMA
    return float(np.hypot(along_q, along_v * abs(smooth.dqdv_mah_g_v[0])))


def _faults(
    q: np.ndarray, v: np.ndarray, digitised: bool, window: tuple[float, float] | None, charge_top_v: float | None
) -> list[tuple[str, str]]:
    """Rules that a curve breaks, with what is wrong."""
    found = [
        *(("E8", said) for said in _of_the_values(q, v, digitised)),
        *_of_the_shape(v, digitised),
    ]
    if window is None:
        return found
    if v.min() > window[0] + PROCESSED_TOLERANCE_V or v.max() < window[1] - START_TOLERANCE_V:
        found.append(("E4", f"runs from {v.max():.3g} to {v.min():.3g} V, not through {window[0]:g}-{window[1]:g} V."))
    elif charge_top_v is not None and charge_top_v < window[1] - CHARGE_TOP_TOLERANCE_V:
        found.append(("E4", f"follows a charge to {short(charge_top_v)} V, not {window[1]:g} V."))
    return found


def _of_the_values(q: np.ndarray, v: np.ndarray, digitised: bool) -> Iterator[str]:
    """What is wrong with the numbers of a curve."""
    low, high = VOLTAGE_BOUNDS_V
    if v.min() < low or v.max() > high:
        yield f"voltages must lie within {low:g}-{high:g} V. Got {v.min():g} to {v.max():g}."
    if q.max() <= 10:
        way = "Digitise the capacity axis in mAh/g." if digitised else "Export the capacity in mAh/g or in mAh."
        yield (
            f"the other axis runs from {q.min():.3g} to {q.max():.3g}, a lithium content or another unit rather "
            f"than mAh/g; nothing guessed. {way}"
        )
    elif q.min() < -5:
        yield f"capacities must not be negative. Got {q.min():.3g} mAh/g."
    elif q.min() > ORIGIN_SHARE * q.max():
        yield counted_from_before(float(q.min()), float(q.max()))


def _of_the_shape(v: np.ndarray, digitised: bool) -> Iterator[tuple[str, str]]:
    """Rules that the run of the voltage breaks."""
    least = LEAST_DIGITISED_POINTS if digitised else LEAST_SHEET_POINTS
    if len(v) < least:
        yield "E11", f"a {'digitised curve' if digitised else 'curve'} needs at least {least} points. Got {len(v)}."
    rise = float(np.diff(v).max(initial=0.0))
    if v[-1] >= v[0]:
        yield "E1", "the voltage rises with capacity: a charge, not a discharge."
    elif rise > 0.05:
        yield (
            "E11",
            f"the curve is multi-valued: the voltage rises by {1e3 * rise:.0f} mV on the way down. Digitise the "
            "discharge branch alone.",
        )
