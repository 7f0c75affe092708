"""Capacities and profiles, wherever they come from: physical, below all lithium, smooth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from campaigns.intake.measurement import CheckedDischarge, SampleInfo
from campaigns.intake.rules import LEAST_CAPACITY_MAH_G, Hits
from campaigns.ledger.physics import MOST_CAPACITY_MAH_G
from drxnet.discharge import CyclingConditions
from drxnet.errors import MeasurementError
from drxnet.preprocess import SmoothedDischarge, smooth_discharge


def check_capacity(
    file: str,
    discharges: Sequence[CheckedDischarge],
    theory: float | None,
    sample: SampleInfo,
    mass: float | None,
    hits: Hits,
) -> None:
    """Compare capacities with all lithium, and the first one with what a cell can give at all."""
    for discharge in discharges:
        q = discharge.capacity_mah_g
        if q is None:
            continue
        check = f"Check mass ({mass:g} mg), mAh/Ah and whether capacity is cumulative." if mass else "Check its unit."
        named = discharge.composition or sample.composition
        if theory is None and q > MOST_CAPACITY_MAH_G:
            hits.error("E3", f"{file}: {q:.4g} mAh/g is more than any rocksalt holds. {check}", discharge.cycle)
        elif theory is not None and q > 0.95 * theory:
            how = "exceeds" if q > theory else "is over 95 % of"
            tell = hits.error if q > theory else hits.warning
            text = f"{file}: {q:.4g} mAh/g {how} the Li capacity of {named} ({theory:.4g} mAh/g). {check}"
            tell("E3", text, discharge.cycle)
        _check_least(file, discharge, discharge is discharges[0], mass, hits)


def _check_least(file: str, discharge: CheckedDischarge, is_first: bool, mass: float | None, hits: Hits) -> None:
    """Refuse what is no capacity, and a first one that is that of a dead cell or in another unit."""
    q = discharge.capacity_mah_g
    if q is None or (q >= LEAST_CAPACITY_MAH_G or not is_first) and q > 0:
        return
    if q <= 0:
        what = f"{file} cycle {discharge.cycle}: the capacity must be positive. Got {q:g} mAh/g."
        hits.error("E8", what, discharge.cycle)
        return
    units = "A and mA are confused (--current-unit, --capacity-unit)" if mass else "it is in Ah/g"
    hits.error(
        "E8",
        f"{file}: the first discharge gives {short(q)} mAh/g; below {LEAST_CAPACITY_MAH_G:g} mAh/g it is a "
        f"dead cell, or {units}.",
    )


def smoothed(
    here: str, voltage: np.ndarray, capacity: np.ndarray, window: tuple[float, float], hits: Hits, cycle: int
) -> SmoothedDischarge | None:
    """The smoothed profile, or None with E11."""
    try:
        return smooth_discharge(voltage, capacity, window)
    except (MeasurementError, ValueError) as error:
        hits.error("E11", f"{here}: smoothing failed ({error})", cycle)
        return None


def conditions_of(rate: float, window: tuple[float, float], cycle: int) -> CyclingConditions | None:
    """Conditions of a discharge, or None where no cell can be cycled so."""
    try:
        return CyclingConditions(rate, window[0], window[1], max(cycle, 1))
    except ValueError:
        return None


def short(value: float) -> str:
    """Three significant digits, without an exponent for what a person reads as a number."""
    return f"{float(f'{value:.3g}'):,.10g}"


def counted_from_before(start: float, end: float) -> str:
    """What is wrong with a capacity that does not start near zero."""
    return (
        f"a discharge starts at 0 mAh/g. Got {start:.4g} to {end:.4g} mAh/g: is the capacity cumulative, or the axis "
        "that of the charge? Subtract where it starts."
    )
