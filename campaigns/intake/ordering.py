"""The rows of a recording in the order of time, with their charge, as one cell gave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from campaigns.intake.clock import (
    begins_again,
    counted_intervals,
    intervals_of,
    since_step,
    step_begins,
    with_first_interval,
    wraps_after,
)
from campaigns.intake.direction import Signals, without_spikes
from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.recording import CyclerRows
from campaigns.intake.readers.words import DISCHARGE

MISREAD_FACTOR, MISREAD_SHARE = 10.0, 0.1
"""A single row with so many times the current of those beside it and this share of all other charge is misread."""


@dataclass(frozen=True, eq=False)
class OrderedRows:
    """Rows in the order of time, current positive on charge."""

    time_s: np.ndarray
    """Elapsed (s), ``rows``, never falling."""

    voltage_v: np.ndarray
    current_ma: np.ndarray
    """Positive on charge, negative on discharge (mA), ``rows``."""

    moved_mah: np.ndarray
    """Charge that each row added (mAh), ``rows``; none in a pause."""

    paused: np.ndarray
    """Whether the current stood still in the interval before each row, ``rows``."""

    direction: np.ndarray
    """CHARGE, REST or DISCHARGE, ``rows``."""

    source: np.ndarray
    """Row of the file that each came from, ``rows``."""

    column: np.ndarray | None
    """Increments of the instrument's own capacity (mAh), ``rows``."""

    out_of_order: int = 0
    """Rows that stood at the wrong place in the file."""

    clock_backwards: np.ndarray = field(default_factory=lambda: np.array([], int))
    """Rows at which the clock jumped back."""

    missing: np.ndarray = field(default_factory=lambda: np.array([], int))
    """Rows (of this order) before which rows without numbers were left out."""

    contradiction: bool = False
    """Whether the instrument calls discharge what raises the voltage."""

    by_turns: bool = False
    """Whether nothing but the turns of the voltage tells charge from discharge."""

    misread: int = 0
    """Single voltages far from both beside them, for which that of the row before stands."""


def ordered(recording: CyclerRows) -> OrderedRows:
    """Put rows in order, give the current a sign that means something, and count charge.

    Raises:
        RuleBroken: E8 for infinite values, E9 where nothing tells the order of the rows or there is no current.
    """
    order, out_of_order = _order(recording)
    time, voltage = recording.time_s[order], recording.voltage_v[order]
    current = None if recording.current_ma is None else recording.current_ma[order]
    moved = None if recording.moved_mah is None else recording.moved_mah[order]
    signal = current if current is not None else moved
    if signal is None:
        raise RuleBroken("E9", "no row holds a current or a capacity. Export again, with all columns.")
    _refuse_infinite(order, {"time": time, "voltage": voltage, "charge" if current is None else "current": signal})
    whole = np.isfinite(time) & np.isfinite(voltage) & np.isfinite(signal)
    if whole.sum() < 2:
        raise RuleBroken("E9", "fewer than two rows hold time, voltage and current.")
    missing = np.searchsorted(np.flatnonzero(whole), np.flatnonzero(~whole))
    time, voltage, source = time[whole], voltage[whole], order[whole]
    state = None if recording.state is None else recording.state[order][whole].astype(int)
    step = None if recording.step is None else recording.step[order][whole]
    begins = step_begins(time, state, step, current, whole) if recording.time_of_step else None
    interval, backwards = intervals_of(time, begins)
    if current is not None:
        current = current[whole]
        _check_some_current(current, voltage)
        _check_misread_current(current, interval, source)
    else:
        assert moved is not None
        current = _current_from_charge(moved[whole], interval)
    signals = Signals(current, voltage, interval, state, step)
    sign, direction, contradiction, by_turns = signals.directions(lambda: _growth(recording, order, whole))
    signed = current * sign if sign.ndim == 0 or len(sign) == len(current) else current
    column = _column_increments(recording, order[whole], direction, np.abs(current) * interval / 3600.0)
    if moved is not None and recording.current_ma is None:
        paused = np.zeros(len(time), bool)
        added = np.diff(moved[whole], prepend=moved[whole][0]) * np.sign(np.mean(sign))
    else:
        in_step = None if recording.step_time_s is None else recording.step_time_s[order][whole]
        interval = with_first_interval(interval, in_step)
        counted = counted_intervals(since_step(interval, in_step), voltage, signed, direction, column)
        paused, added = counted < interval, signed * counted / 3600.0
    plain = without_spikes(voltage, direction)
    return OrderedRows(
        np.cumsum(interval),
        plain,
        signed,
        added,
        paused,
        direction,
        source,
        column,
        out_of_order,
        backwards,
        missing,
        contradiction,
        by_turns,
        int((plain != voltage).sum()),
    )


def _refuse_infinite(source: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
    for what, values in columns.items():
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            raise RuleBroken(
                "E8", f"row {source[infinite[0]] + 1}: the {what} is infinite. Remove the row or export again."
            )


def _order(recording: CyclerRows) -> tuple[np.ndarray, int]:
    """Order of the rows, by record number, else by time, and how many stood elsewhere."""
    n = len(recording.voltage_v)
    record = recording.record
    if record is not None and np.isfinite(record).all() and len(np.unique(record)) == n:
        order = np.argsort(record, kind="stable")
    elif not recording.time_of_step and np.isfinite(recording.time_s).any():
        time = recording.time_s
        known = time[np.isfinite(time)]
        if (np.diff(known) < 0).sum() <= max(3, 0.001 * n) or begins_again(known) or wraps_after(known):
            return np.arange(n), 0  # a clock that was set back, not rows that were shuffled
        order = np.argsort(time, kind="stable")
    else:
        return np.arange(n), 0
    return order, int((np.diff(order) < 0).sum())


def _check_some_current(current: np.ndarray, voltage: np.ndarray) -> None:
    """Refuse currents that all read 0 while the voltage runs through a window.

    Raises:
        RuleBroken: E7.
    """
    if not current.any() and float(np.ptp(voltage)) > 1.0:
        raise RuleBroken(
            "E7",
            f"every current reads 0 while the voltage runs from {voltage.min():.3g} to {voltage.max():.3g} V: exported "
            "with too few digits. Export with more, or in mA.",
        )


def _check_misread_current(current: np.ndarray, interval: np.ndarray, source: np.ndarray) -> None:
    """Refuse a single row whose current would move much of the charge and is far beyond those around it.

    Raises:
        RuleBroken: E8, naming the row.
    """
    size = np.abs(current)
    beside = np.maximum(np.append(0.0, size[:-1]), np.append(size[1:], 0.0))
    moved = size * interval
    alone = np.flatnonzero((size > MISREAD_FACTOR * beside) & (beside > 0))
    wild = [row for row in alone.tolist() if moved[row] > MISREAD_SHARE * (moved.sum() - moved[row])]
    if wild:
        row = wild[0]
        raise RuleBroken(
            "E8",
            f"row {source[row] + 1}: the current reads {current[row]:.4g} mA beside rows of {beside[row]:.4g} mA, a "
            "reading gone wrong. Remove the row or export again.",
        )


def _current_from_charge(moved: np.ndarray, interval: np.ndarray) -> np.ndarray:
    """Current from the charge counter (mA): GCPL files of EC-Lab hold no other."""
    added = np.diff(moved, prepend=moved[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        current = np.where(interval > 1e-6, 3600.0 * added / interval, np.nan)
    known = np.flatnonzero(np.isfinite(current))
    if not len(known):
        raise RuleBroken("E9", "the time does not advance; no current can be told.")
    return current[known[np.clip(np.searchsorted(known, np.arange(len(current))), 0, len(known) - 1)]]


def _growth(recording: CyclerRows, order: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """What the instrument's charge and discharge capacities grew by at each row (mAh), where it gives both."""
    if recording.charge_mah is None or recording.discharge_mah is None:
        return None
    charge, discharge = (_grown(c[order][whole]) for c in (recording.charge_mah, recording.discharge_mah))
    return (charge, discharge) if charge.sum() + discharge.sum() > 0 else None


def _grown(values: np.ndarray) -> np.ndarray:
    """What a capacity that may be reset at any time grew by at each row (mAh)."""
    column = np.abs(_filled(values))
    return np.maximum(np.diff(column, prepend=column[0]), 0.0)


def _column_increments(
    recording: CyclerRows, order: np.ndarray, direction: np.ndarray, moved: np.ndarray
) -> np.ndarray | None:
    """What the instrument's capacity grew by at each row (mAh), whenever it is reset.

    A capacity that runs back is a net one, whatever it is called; it is taken so where that comes closer to the charge
    ``moved`` at each row.
    """

    def increments(values: np.ndarray | None) -> np.ndarray | None:
        if values is None:
            return None
        column = np.abs(_filled(values[order]))
        step = np.diff(column, prepend=0.0)
        return np.where(step < 0, column, step)

    if recording.moved_mah is not None and recording.current_ma is not None:
        net = _filled(recording.moved_mah[order])
        return np.abs(np.diff(net, prepend=net[0]))
    falling, rising = increments(recording.discharge_mah), increments(recording.charge_mah)
    discharging = direction == DISCHARGE
    if falling is not None and rising is not None and rising[discharging].sum() > 10 * falling[discharging].sum():
        return rising  # the instrument's words are the other way round
    counter = recording.capacity_mah if falling is None else recording.discharge_mah
    grown = increments(counter)
    if grown is None or counter is None or not discharging.any():
        return grown
    signed = _filled(counter[order])
    as_net = np.abs(np.diff(signed, prepend=signed[0]))
    total = float(moved[discharging].sum())
    return min((grown, as_net), key=lambda column: abs(float(column[discharging].sum()) - total))


def _filled(column: np.ndarray) -> np.ndarray:
    """A capacity with the value before in the place of each that is missing or infinite."""
    known = np.isfinite(column)
    last = np.maximum.accumulate(np.where(known, np.arange(len(column)), -1))
    return np.where(last >= 0, column[np.maximum(last, 0)], 0.0)
