"""What every number must satisfy to enter a ledger, whatever way it comes: file, table, Python or a correction."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from drxnet.composition import Composition
from drxnet.discharge import VOLTAGE_BOUNDS_V
from drxnet.errors import CompositionError, MeasurementError

if TYPE_CHECKING:
    from campaigns.ledger.records import Measurement, NewMeasurement
    from drxnet.discharge import CyclingConditions, DischargeProfile

CURRENT_BOUNDS_MA_G = (0.1, 5e4)
MOST_CYCLES, MOST_DAYS = 100_000, 90.0
"""No cell is cycled more often, and no discharge lasts longer."""

MOST_CAPACITY_MAH_G = 600.0
"""More than all lithium of any rocksalt oxide; the bound where a composition cannot be told (mAh/g)."""

WINDOW_TOLERANCE_V = 0.05
"""How far a profile may reach beyond its cut-offs (V): a cycler stops a row late."""

PROFILE_TOLERANCE = 1e-3
"""Share of the capacity by which a profile may rise with voltage or fall below zero: what rounding leaves."""


def check_physics(measurement: NewMeasurement) -> None:
    """Refuse a discharge that no cell can give.

    Raises:
        MeasurementError: the message names everything that is wrong with it.
    """
    faults = [
        *faults_of_numbers(measurement),
        *_faults_of_duration(measurement.capacity_mah_g, measurement.conditions.current_ma_g),
        *_faults_of_profile(measurement.profile, measurement.conditions, measurement.capacity_mah_g),
    ]
    if faults:
        raise MeasurementError(f"{measurement.composition}: {' '.join(faults)}")


def faults_of_numbers(measurement: NewMeasurement | Measurement) -> list[str]:
    """What is wrong with the conditions and the capacity of a measurement; empty where nothing is."""
    return [*_faults_of_conditions(measurement.conditions), *_faults_of_capacity(measurement)]


def _faults_of_conditions(at: CyclingConditions) -> list[str]:
    faults = []
    least, most = CURRENT_BOUNDS_MA_G
    if not least <= at.current_ma_g <= most:
        faults.append(
            f"A cell is cycled at {least:g} to {most:,.0f} mA/g. Got {at.current_ma_g:g}. Check the active mass and "
            "the unit of the current; a C-rate is no current."
        )
    lowest, highest = VOLTAGE_BOUNDS_V
    if not lowest <= at.v_low < at.v_high <= highest:
        faults.append(
            f"A window lies within {lowest:g} to {highest:g} V, the lower cut-off first. Got {at.v_low:g}-"
            f"{at.v_high:g} V."
        )
    cycle: float = at.cycle
    if not (math.isfinite(cycle) and cycle == int(cycle) and 1 <= cycle <= MOST_CYCLES):
        faults.append(f"A cycle is a whole number from 1 to {MOST_CYCLES:,}. Got {cycle:g}.")
    return faults


def _faults_of_capacity(measurement: NewMeasurement | Measurement) -> list[str]:
    faults = []
    capacity, most = measurement.capacity_mah_g, all_lithium_mah_g(measurement.composition)
    if not (math.isfinite(capacity) and 0 < capacity <= most):
        faults.append(
            f"a capacity lies between 0 and that of all lithium, {most:.0f} mAh/g. Got {capacity:g}. Check the active "
            "mass and the unit."
        )
    for name, value in (("uncertainty", measurement.sigma_mah_g), ("charge", measurement.charge_mah)):
        if value is not None and not (math.isfinite(value) and value > 0):
            faults.append(f"The {name} must be positive and finite. Got {value:g}. Leave it out where it is not known.")
    return faults


def _faults_of_duration(capacity_mah_g: float, current_ma_g: float) -> list[str]:
    days = capacity_mah_g / current_ma_g / 24 if current_ma_g > 0 else 0.0
    if not days > MOST_DAYS:
        return []
    return [
        f"A discharge lasts {MOST_DAYS:.0f} days at most. {capacity_mah_g:g} mAh/g at {current_ma_g:g} mA/g would last "
        f"{days:.0f}: is the current a C-rate, or in another unit?"
    ]


def _faults_of_profile(profile: DischargeProfile | None, at: CyclingConditions, capacity: float) -> list[str]:
    if profile is None:
        return []
    faults = []
    q, v = profile.capacity_mah_g, profile.voltage_v
    if not (np.isfinite(q).all() and np.isfinite(v).all()):
        return ["A profile must be finite. Got a NaN or an infinity."]
    if v[0] < at.v_low - WINDOW_TOLERANCE_V or v[-1] > at.v_high + WINDOW_TOLERANCE_V:
        faults.append(
            f"A profile lies within its window, {at.v_low:g}-{at.v_high:g} V. Got {v[0]:g} to {v[-1]:g} V. Cut it, or "
            "correct the window."
        )
    allowed = PROFILE_TOLERANCE * abs(capacity) if math.isfinite(capacity) else 0.0
    if float(np.diff(q).max()) > allowed:
        faults.append(
            f"The capacity of a discharge never rises with voltage. Got a rise by {np.diff(q).max():.3g} mAh/g."
        )
    if float(q.min()) < -allowed:
        faults.append(f"The capacities of a profile must not be negative. Got {q.min():.3g} mAh/g.")
    return faults


@lru_cache(maxsize=4096)
def all_lithium_mah_g(formula: str) -> float:
    """Capacity of all lithium of a composition (mAh/g); the most of any where it cannot be told."""
    try:
        return Composition.parse(formula).theoretical_capacity_mah_g
    except CompositionError:
        return MOST_CAPACITY_MAH_G
