"""Find the discharges in the rows of a cycler, from the rows alone.

Instruments disagree about signs, cycle numbers, when a capacity is reset and what belongs to a cycle, so none
of that is trusted. Direction comes from the state column where there is one, else from whether the voltage
falls; charge is the sum of I_k (t_k - t_(k-1)), the interval before the first row included, because a cycler
holds the current that it logs; the instrument's own capacity is only compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
import pandas as pd

from campaigns.intake.measurement import FileSpan, RuleBroken
from campaigns.intake.readers.recording import CyclerRows, is_another_cell
from campaigns.intake.readers.sheets import monotone_parts
from campaigns.intake.readers.words import CHARGE, DISCHARGE, REST, UNKNOWN
from campaigns.ledger.physics import VOLTAGE_BOUNDS_V

REAL_CHARGE_SHARE = 0.3
"""A discharge counts once the charge before it moved this share of its charge."""

CONSTANT_CURRENT_BAND = 0.05
"""The constant-current part ends where the current leaves this band around its median."""

CONSECUTIVE_ROWS = 3
"""That many rows in a row must leave the band: single wrong readings do not end a step."""

RELAXATION_ROWS, RELAXATION_V = 3, 5e-3
"""Rows after the lowest voltage are relaxation when they end a discharge, are so few and rise by more than this (V)."""

NOISE_CURRENT, NOISE_CHARGE = 2e-3, 5e-3
"""Runs below both shares of the largest current and of the largest half-cycle are rest."""

SPIKE_ROWS, SPIKE_CHARGE = 3, 1e-2
"""Runs of so few rows and so little charge inside another run are readings gone wrong."""

CONSTANT_VOLTAGE_V = 0.02
"""What follows the constant current within so narrow a range of voltage is a constant-voltage tail (V)."""

PAUSE_SHARE, MOST_PAUSES = 0.1, 3
"""Rests with the same current around are pauses in a discharge: so many, however long, or together shorter than this
share of it; more are the pulses of a titration."""

PAUSE_LEAST_V = 0.05
"""A discharge that came this close (V) to the lowest voltage was over before the rest."""

PULSE_SHARE, PULSE_CHARGE, PULSE_S, PULSE_V = 0.1, 0.02, 600.0, 0.2
"""A discharge is a pulse when it gives less than this share of the largest one and ends this far (V) above where those
end, and is as short as this (s) or gives less than the smaller share."""

DAY_S, HOUR_S = 86400.0, 3600.0
RISE_V, FALL_V = 0.3, 1.0
"""Where two counts begin again together and the voltage jumps up or down by these (V), another test begins."""

LEAST_REPEATED = 3
"""Fewer rows that stand in a file twice are chance."""

COUNTING_STEPS = 0.5
"""A step number that changes at more than this share of the rows counts points."""

MOST_RESTARTS = 0.25
"""A time that falls at more than this share of the rows belongs to shuffled rows, not to steps."""

GAP_FACTOR, GAP_LEAST_S = 10.0, 60.0
"""An interval is a gap when it exceeds the median by this factor, and this many seconds."""

MOST_LEADING_RECORDS, LATE_START_S = 20, 20 * 3600.0
"""A file whose records or elapsed time (s) begin beyond these does not begin at the start of its test."""

MISREAD_FACTOR, MISREAD_SHARE = 10.0, 0.1
"""A single row with so many times the current of those beside it and this share of all other charge is misread."""

SPIKE_V = 0.5
"""A single voltage that far (V) from both beside it is misread, and tells nothing of a direction."""

RISING_ROWS, RISING_V = 3, 0.05
"""So many rises in a row that together come to more than this (V) are none of noise."""

LAST_SHARE = 2e-3
"""What falls within this last share of a charge falls at once."""

SHARED_TIMES = 0.1
"""Where more of the rows of a discharge have the time of the row before, its clock is coarser than its rows."""

NEIGHBOURS, WENT_ON_SHARE = 10, 0.5
"""The current went on in a gap if the voltage moved by this share of what so many rows on either side suggest."""


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


@dataclass(frozen=True, eq=False)
class HalfCycle:
    """Consecutive rows that all charge or all discharge, rests in between included."""

    direction: int
    runs: tuple[tuple[int, int], ...]
    """Start and stop of the rows between rests."""

    charge_mah: float
    """Charge moved, positive."""

    @property
    def start(self) -> int:
        """First row."""
        return self.runs[0][0]

    @property
    def stop(self) -> int:
        """One past the last row."""
        return self.runs[-1][1]


@dataclass(frozen=True, eq=False)
class Discharge:
    """One discharge: its first constant-current part, and what was cut from it."""

    cycle: int
    """Number of the discharge after a real charge, from 1; 0 for one before any."""

    rows: np.ndarray
    """Rows of the constant-current part in :class:`OrderedRows`."""

    start: int
    stop: int
    """The whole discharge, rests and later steps included."""

    voltage_v: np.ndarray
    capacity_mah: np.ndarray
    """Charge delivered up to and including each row (mAh)."""

    current_ma: float
    """Median of the constant-current part, positive (mA)."""

    current_rms: float
    """Root mean square deviation of the current from its median, relative to it."""

    all_steps_mah: float
    """Charge of the whole discharge (mAh)."""

    column_mah: float | None
    """What the instrument says the constant-current part moved (mAh)."""

    cut: tuple[str, ...]
    """What was cut, in words."""

    later_currents_ma: tuple[float, ...]
    """Median currents of what follows the constant-current part (mA)."""

    duration_s: float
    clock_s: float
    """Step of a clock that gives several rows one time (s); 0 where it gives each its own."""

    gap_s: float
    """Longest gap between its rows (s); 0 where there is none."""

    pause_s: float
    """Time that it rested in between, as the rows say (s)."""

    sinks_v: float
    """Largest fall of the voltage in rows between in which no current is said to flow (V)."""

    paused: bool
    """Whether the current stood still in a gap; otherwise it went on, as far as can be told."""

    clock_backwards: bool
    missing_rows: int
    upward_mv: float
    """Largest rise of the voltage from one row to the next (mV)."""

    upward_share: float
    """Share of its rows at which the voltage rises."""

    rising_share: float
    """Share of its charge that was moved while the voltage rose row after row."""

    zigzag_mv: float
    """Usual distance of a voltage from the middle of those beside it (mV)."""

    fall_v: float
    """Fall of the voltage within the last 0.2 % of its charge (V)."""

    charged_before_mah: float
    """Charge moved into the cell since the discharge before (mAh)."""

    charge_top_v: float | None = None
    """Highest voltage of the charges since the discharge before (V)."""

    @property
    def total_mah(self) -> float:
        """Charge of the constant-current part (mAh)."""
        return float(self.capacity_mah[-1])


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The discharges of a test."""

    rows: OrderedRows
    discharges: tuple[Discharge, ...]
    """After a real charge, in order."""

    early: tuple[Discharge, ...]
    """Before any real charge: from the open-circuit voltage, or of another test."""

    charge_top_v: float | None
    """Highest voltage of the charges (V)."""

    span: FileSpan = FileSpan()
    """Which part of its test the file holds."""

    notes: tuple[str, ...] = ()
    """What was put in order or left out, for a person to read."""


def segment(recording: CyclerRows, goes_on: bool = False) -> Segmentation:
    """Find the discharges of a test.

    Args:
        recording: rows of a cycler.
        goes_on: the file continues a test, whose cell may have been charged before it.

    Raises:
        RuleBroken: E7 where every current reads 0, E8 for infinite values, E9 where nothing tells the order or the
            direction of the rows, or they are those of two tests.
    """
    with np.errstate(invalid="ignore"):  # infinite numbers are refused by their row below
        recording, repeated = _without_repeats(recording)
        _check_one_test(recording)
    rows = ordered(recording)
    halves = half_cycles(rows)
    pulses = _pulses(rows, halves)
    discharges: list[Discharge] = []
    early: list[Discharge] = []
    charged, charge_top, left_out = 0.0, None, 0
    for half in halves:
        if half.direction == CHARGE:
            charged += half.charge_mah
            charge_top = max(charge_top or 0.0, _highest(rows, half))
            continue
        if half in pulses:
            charged = max(charged - half.charge_mah, 0.0)
            continue
        real = charged >= REAL_CHARGE_SHARE * half.charge_mah or (goes_on and half is halves[0])
        found = _discharge(rows, half, len(discharges) + 1 if real else 0, charged)
        if found is None:
            continue
        if real:
            discharges.append(replace(found, charge_top_v=charge_top))
            charged, charge_top = 0.0, None
        elif not discharges:
            early.append(found)
        else:
            left_out += 1
    charging = rows.direction == CHARGE
    top = float(rows.voltage_v[charging].max()) if charging.any() else None
    notes = _notes(repeated, rows.out_of_order, len(pulses), left_out, rows.misread)
    return Segmentation(rows, tuple(discharges), tuple(early), top, span_of(recording, rows, halves), notes)


def _notes(repeated: int, out_of_order: int, pulses: int, left_out: int, misread: int) -> tuple[str, ...]:
    said = {
        f"{repeated} rows stand in the file twice; counted once": repeated,
        f"{out_of_order} rows stood out of order; sorted": out_of_order,
        f"{pulses} pulse{'s' if pulses > 1 else ''} of the current left out": pulses,
        f"{left_out} discharge{'s' if left_out > 1 else ''} without a real charge before left out": left_out,
        f"{misread} single voltage{'s' if misread > 1 else ''} far from both beside left out": misread,
    }
    return tuple(text for text, number in said.items() if number)


def _pulses(rows: OrderedRows, halves: tuple[HalfCycle, ...]) -> frozenset[HalfCycle]:
    """Discharges that are pulses between others: for resistance, or of a protocol of their own."""
    given = [half for half in halves if half.direction == DISCHARGE]
    largest = max((half.charge_mah for half in given), default=0.0)

    def lowest(half: HalfCycle) -> float:
        return min(float(rows.voltage_v[start:stop].min()) for start, stop in half.runs)

    end = min((lowest(half) for half in given if half.charge_mah > 0.5 * largest), default=0.0)
    return frozenset(
        half
        for half in given
        if half.charge_mah < PULSE_SHARE * largest
        and lowest(half) > end + PULSE_V
        and (
            half.charge_mah < PULSE_CHARGE * largest or rows.time_s[half.stop - 1] - rows.time_s[half.start] <= PULSE_S
        )
    )


def _without_repeats(recording: CyclerRows) -> tuple[CyclerRows, int]:
    """Rows without those that stand in the file twice, as after an export was appended to another, and their number."""
    if not _may_repeat(recording):
        return recording, 0
    names = ("time_s", "voltage_v", "current_ma", "moved_mah", "record", "cycle", "step")
    columns = {name: values for name in names if (values := getattr(recording, name)) is not None}
    again = pd.DataFrame(columns).duplicated().to_numpy()
    stretches = [stop - start for code, start, stop in _runs(again.astype(int)) if code]
    if max(stretches, default=0) < LEAST_REPEATED:
        return recording, 0
    kept = {
        field.name: values[~again]
        for field in fields(recording)
        if isinstance(values := getattr(recording, field.name), np.ndarray) and len(values) == len(again)
    }
    return replace(recording, **kept), int(again.sum())


def _may_repeat(recording: CyclerRows) -> bool:
    if recording.record is not None:
        return bool((np.diff(recording.record) <= 0).any())
    if not recording.time_of_step:
        return bool((np.diff(recording.time_s) < 0).any())
    if recording.cycle is not None and (np.diff(recording.cycle) < 0).any():
        return True
    falls = np.flatnonzero(np.diff(recording.time_s) < 0)
    return bool((recording.time_s[falls + 1] > _usual_gap(recording.time_s)).any())  # into the middle of a step


def _check_one_test(recording: CyclerRows) -> None:
    """Refuse rows of two tests below each other.

    Raises:
        RuleBroken: E9, naming the row at which the second one begins.
    """
    n = len(recording.voltage_v)
    if n < 4:
        return
    fell = _fallen(recording)
    if not any(at.any() for at in fell.values()):
        return
    rows = _second_beginnings(recording.voltage_v, fell)
    if 0 < len(rows) <= max(MOST_PAUSES, n // 1000):
        what = " and ".join(name for name, at in fell.items() if at[rows[0] - 1])
        raise RuleBroken(
            "E9",
            f"row {rows[0] + 1} begins another test or another cell ({what} begin{'' if ' and ' in what else 's'} "
            "again). Export one per file.",
        )


def _fallen(recording: CyclerRows) -> dict[str, np.ndarray]:
    """Where each count falls back to where it began, between rows, ``n - 1``."""
    counts = {
        "record": (recording.record, 0.0),
        "cycle": (recording.cycle, 0.0),
        "time": (None if recording.time_of_step else recording.time_s, 1e-9),
    }
    return {
        name: (np.diff(values) < 0) & (values[1:] <= values[0] + slack)
        for name, (values, slack) in counts.items()
        if values is not None and np.isfinite(values).all()
    }


def _second_beginnings(voltage: np.ndarray, fell: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows at which two counts begin again and the voltage or the cycle does, too; else the time and another cell."""
    never = np.zeros(len(voltage) - 1, bool)
    together = sum((at.astype(int) for at in fell.values()), np.zeros(len(never), int))
    jump = np.diff(voltage)
    anew = (jump > RISE_V) | (jump < -FALL_V)
    rows = np.flatnonzero((together >= 2) & (anew | fell.get("cycle", never))) + 1
    timed = fell.get("time", never)
    if len(rows) or not 0 < timed.sum() <= MOST_PAUSES:
        return rows
    rows = np.flatnonzero(timed) + 1
    return np.array([row for row in rows if is_another_cell(voltage[0], voltage[row - 1], voltage[row])], int)


def span_of(recording: CyclerRows, rows: OrderedRows, halves: Sequence[HalfCycle]) -> FileSpan:
    """Which part of its test a file holds, and what says that it is not the beginning."""
    first, start = int(rows.source[0]), 0.0
    if not recording.time_of_step and not _wraps_after(recording.time_s[np.isfinite(recording.time_s)]):
        start = float(recording.time_s[first])
        of_step = 0.0 if recording.step_time_s is None else float(recording.step_time_s[first])
        start -= of_step if 0 <= of_step <= start else 0.0
    cycle, record = number_at(recording.cycle, first), number_at(recording.record, first)
    late = [
        f"cycle {cycle}" if (cycle or 0) > 1 else "",
        f"record {record}" if (record or 0) > MOST_LEADING_RECORDS else "",
        f"{start / 3600:.4g} h" if start > _latest_start(recording, halves) else "",
    ]
    return FileSpan(cycle, ", ".join(filter(None, late)) or None)


def _latest_start(recording: CyclerRows, halves: Sequence[HalfCycle]) -> float:
    """Elapsed time up to which a file begins with its test (s): a rest before may be left out, no charge may."""
    begins_within_discharge = bool(halves) and halves[0].direction == DISCHARGE and halves[0].start == 0
    return max(GAP_LEAST_S, _usual_gap(recording.time_s)) if begins_within_discharge else LATE_START_S


def number_at(column: np.ndarray | None, row: int) -> int | None:
    """Number that the instrument counts at a row; None where it gives none."""
    return None if column is None or not np.isfinite(column[row]) else round(float(column[row]))


def _highest(rows: OrderedRows, half: HalfCycle) -> float:
    return max(float(rows.voltage_v[start:stop].max()) for start, stop in half.runs)


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
    interval, backwards = _intervals(
        time, _step_begins(time, state, step, current, whole) if recording.time_of_step else None
    )
    if current is not None:
        current = current[whole]
        _check_some_current(current, voltage)
        _check_misread_current(current, interval, source)
    else:
        assert moved is not None
        current = _current_from_charge(moved[whole], interval)
    signals = _Signals(current, voltage, interval, state, step)
    sign, direction, contradiction, by_turns = signals.directions(lambda: _growth(recording, order, whole))
    signed = current * sign if sign.ndim == 0 or len(sign) == len(current) else current
    column = _column_increments(recording, order[whole], direction, np.abs(current) * interval / 3600.0)
    if moved is not None and recording.current_ma is None:
        paused = np.zeros(len(time), bool)
        added = np.diff(moved[whole], prepend=moved[whole][0]) * np.sign(np.mean(sign))
    else:
        in_step = None if recording.step_time_s is None else recording.step_time_s[order][whole]
        interval = _with_first_interval(interval, in_step)
        counted = _counted(_since_step(interval, in_step), voltage, signed, direction, column)
        paused, added = counted < interval, signed * counted / 3600.0
    plain = _without_spikes(voltage, direction)
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


def half_cycles(rows: OrderedRows) -> tuple[HalfCycle, ...]:
    """Group the rows into half-cycles, leaving out what is noise."""
    runs = _runs(rows.direction)
    if not runs:
        return ()
    charge = {run: abs(float(rows.moved_mah[run[1] : run[2]].sum())) for run in runs}
    largest = max(charge.values()) or 1.0
    strongest = float(np.abs(rows.current_ma).max()) or 1.0

    def counts(run: tuple[int, int, int]) -> bool:
        _, start, stop = run
        mean = float(np.abs(rows.current_ma[start:stop]).mean())
        noise = mean < NOISE_CURRENT * strongest and charge[run] < NOISE_CHARGE * largest
        spike = stop - start <= SPIKE_ROWS and charge[run] < SPIKE_CHARGE * largest
        return not (noise or spike)

    halves: list[HalfCycle] = []
    for run in filter(counts, runs):
        direction, start, stop = run
        if halves and halves[-1].direction == direction:
            last = halves.pop()
            halves.append(HalfCycle(direction, (*last.runs, (start, stop)), last.charge_mah + charge[run]))
        else:
            halves.append(HalfCycle(direction, ((start, stop),), charge[run]))
    return tuple(halves)


def _order(recording: CyclerRows) -> tuple[np.ndarray, int]:
    """Order of the rows, by record number, else by time, and how many stood elsewhere."""
    n = len(recording.voltage_v)
    record = recording.record
    if record is not None and np.isfinite(record).all() and len(np.unique(record)) == n:
        order = np.argsort(record, kind="stable")
    elif not recording.time_of_step and np.isfinite(recording.time_s).any():
        time = recording.time_s
        known = time[np.isfinite(time)]
        if (np.diff(known) < 0).sum() <= max(3, 0.001 * n) or _begins_again(known) or _wraps_after(known):
            return np.arange(n), 0  # a clock that was set back, not rows that were shuffled
        order = np.argsort(time, kind="stable")
    else:
        return np.arange(n), 0
    return order, int((np.diff(order) < 0).sum())


def _usual_gap(time: np.ndarray) -> float:
    """Longest interval that is no gap yet (s)."""
    return GAP_FACTOR * _typical(np.diff(time)) or np.inf


def _typical(intervals: np.ndarray) -> float:
    """Usual time between two rows whose times differ (s); 0 where none do."""
    positive = intervals[intervals > 0]
    return float(np.median(positive)) if len(positive) else 0.0


def with_times_of_steps(recording: CyclerRows) -> CyclerRows:
    """The recording, its time taken for that of the steps where it begins anew with most of them, whatever its name.

    It falls there, or stands one interval of the step after 0. A test that was started anew, or a time of each cycle,
    does so at fewer.
    """
    time, current = recording.time_s, recording.current_ma
    if recording.time_of_step or recording.step_time_s is not None or current is None or not np.isfinite(time).all():
        return recording
    turns = _turns(recording.state, recording.step, np.nan_to_num(current))
    interval = np.diff(time, prepend=time[0])
    anew = (interval < 0) | (np.abs(time - np.append(interval[1:], 0.0)) < 0.05 * time)
    of_steps = _begins_again(time) and (anew & turns).sum() > 0.5 * turns.sum()
    return replace(recording, time_of_step=True) if of_steps else recording


def _turns(state: np.ndarray | None, step: np.ndarray | None, current: np.ndarray | None) -> np.ndarray:
    """Rows at which the number of the step changes, else its state, else the sign of the current.

    A number or a state that never changes tells nothing.
    """
    if step is not None and not _counts_points(step) and np.ptp(step) > 0:
        told: np.ndarray = step
    elif state is not None and np.ptp(state) > 0:
        told = state
    elif current is not None:
        told = np.where(np.abs(current) > 1e-4 * np.abs(current).max(), np.sign(current), 0)
    else:
        return np.zeros(0, bool)
    return np.diff(told, prepend=told[0]) != 0


def _step_begins(
    time: np.ndarray, state: np.ndarray | None, step: np.ndarray | None, current: np.ndarray | None, whole: np.ndarray
) -> np.ndarray:
    """Rows at which a step begins: its number or state changes, the current turns, or its time falls."""
    begins = np.diff(time, prepend=time[0]) < 0
    if not begins.any():
        return begins  # a time that never falls is that of the test
    turns = _turns(state, step, None if current is None else current[whole])
    begins |= turns if len(turns) else False
    begins[0] = True
    return begins


def _counts_points(step: np.ndarray) -> bool:
    """Whether a step number changes with most rows."""
    return len(step) > 3 and bool((np.diff(step) != 0).mean() > COUNTING_STEPS)


def _intervals(time: np.ndarray, step_begins: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since the row before, and the rows at which the clock jumped back.

    Args:
        time: elapsed, or since the step began (s), ``rows``.
        step_begins: whether a step begins at each row, for times of steps; None for elapsed ones.
    """
    interval = np.diff(time, prepend=time[0])
    if step_begins is not None:
        since = np.where(step_begins, np.maximum(time, 0.0), interval)
        since[0] = max(float(time[0]), 0.0)
        return since, np.array([], int)
    if (whole := _wraps_after(time)) > 0:
        return np.where(interval < 0, interval + whole, interval), np.array([], int)
    backwards = np.flatnonzero(interval < 0)
    if _begins_again(time):
        interval[0] = 0.0
        return np.where(interval < 0, np.maximum(time, 0.0), interval), backwards
    interval[backwards] = _typical(interval)
    return interval, backwards


def _wraps_after(time: np.ndarray) -> float:
    """Seconds after which a time of day begins again, a clock of twelve hours from 12:59 to 1:00; 0 where none does."""
    interval = np.diff(time)
    falls = np.flatnonzero(interval < 0)
    if not len(falls) or time.min() < 0:
        return 0.0
    for whole, end in ((DAY_S, DAY_S), (DAY_S / 2, DAY_S / 2 + HOUR_S)):
        across = interval[falls] + whole
        if time.max() < end and ((across <= _usual_gap(time)) & (time[falls] > end / 2)).all():
            return whole
    return 0.0


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


def _with_first_interval(interval: np.ndarray, step_time: np.ndarray | None) -> np.ndarray:
    """Intervals with the one before the first row of the file, where its step has just begun."""
    if step_time is None or interval[0] > 0 or not 0 < step_time[0] <= GAP_FACTOR * _typical(interval):
        return interval
    return np.append(step_time[0], interval[1:])


def _since_step(interval: np.ndarray, step_time: np.ndarray | None) -> np.ndarray:
    """Seconds that each row's step lasted since the row before: less than the interval where a step begins.

    A time of 0 tells nothing, as some programs count from the first row of the step, nor does a column that does
    not run with the elapsed time.
    """
    if step_time is None:
        return interval
    in_pace = np.abs(np.diff(step_time) - interval[1:]) < 0.01 * interval[1:] + 1.0
    begun = (step_time > 0) & (step_time < interval) & (in_pace.mean() > 0.5)
    if len(interval) > 1 and in_pace[0] and 0 < step_time[0] < GAP_FACTOR * interval[1]:
        begun[0] = interval[0] == 0  # the file begins where a step does, one interval before its first row
    return np.where(begun, step_time, interval)


def _counted(
    interval: np.ndarray, voltage: np.ndarray, current: np.ndarray, direction: np.ndarray, column: np.ndarray | None
) -> np.ndarray:
    """Seconds that the current of each row is held for: all since the row before, but for rests that left no row.

    Before the first row of a run, a gap is a rest. Within a run the instrument's capacity tells whether the current
    went on in a gap, or else the voltage. Where rows are logged by voltage, long intervals stand beside long ones. An
    hour more than beside it may be that of a clock set to summer time.
    """
    counted = interval.copy()
    for _, start, stop in _runs(direction):
        if stop - start < 3:
            continue
        inside = interval[start + 1 : stop]
        typical = _typical(inside)
        if typical > 0 and interval[start] > GAP_FACTOR * typical:
            counted[start] = typical
        beside = np.maximum(np.append(0.0, inside[:-1]), np.append(inside[1:], 0.0))
        gaps = inside > np.maximum(GAP_FACTOR * np.maximum(typical, beside), GAP_LEAST_S)
        gaps |= np.abs(inside - HOUR_S - beside) < 0.1 * beside
        for row in (start + 1 + np.flatnonzero(gaps)).tolist():
            if column is not None and column[start:stop].sum() > 0:
                went_on = column[row] > WENT_ON_SHARE * abs(current[row]) * interval[row] / 3600.0
            else:
                first, last = max(start, row - NEIGHBOURS), min(stop, row + NEIGHBOURS) - 1
                step = voltage[row] - voltage[row - 1]
                others = interval[first + 1 : last + 1].sum() - interval[row]
                usual = (voltage[last] - voltage[first] - step) / others * interval[row] if others > 0 else 0.0
                went_on = step * np.sign(usual) >= WENT_ON_SHARE * abs(usual)
            if not went_on:
                counted[row] = typical
    return counted


def _begins_again(time: np.ndarray) -> bool:
    """Whether the time falls to its beginning wherever it falls: with each step, or when a test was started anew."""
    interval = np.diff(time)
    falls = np.flatnonzero(interval < 0)
    if not len(falls) or len(falls) > MOST_RESTARTS * len(interval) or not (interval > 0).any():
        return False
    beginning = min(time.min(), 0.0) + _usual_gap(time)
    return bool((time[falls + 1] <= beginning).all())


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


@dataclass(frozen=True, eq=False)
class _Signals:
    """What tells which rows charge and which discharge, ``rows`` each."""

    current: np.ndarray
    """As the file has it (mA): the sign may mean anything, or nothing."""

    voltage: np.ndarray
    interval: np.ndarray
    """Since the row before (s)."""

    state: np.ndarray | None
    step: np.ndarray | None

    @cached_property
    def active(self) -> np.ndarray:
        """Whether a current flows."""
        return np.abs(self.current) > 1e-4 * float(np.abs(self.current).max())

    def directions(
        self, growth_of_columns: Callable[[], tuple[np.ndarray, np.ndarray] | None]
    ) -> tuple[np.ndarray, np.ndarray, bool, bool]:
        """Sign that makes the current positive on charge, and direction of each row.

        And whether the voltage denies it, and whether nothing but the voltage tells it.
        """
        flowing = self.current[self.active]
        if not len(flowing):
            return np.array(1.0), np.zeros(len(self.current), int), False, False
        signed = bool((flowing > 0).any() and (flowing < 0).any())
        if self.state is not None and np.isin(self.state, (CHARGE, DISCHARGE)).any():
            sign, direction = self._by_state(self.state, signed)
            return sign, direction, self._rises(direction), False
        if signed:
            sign = self._sign_by_voltage()
            direction = np.where(self.active, np.where(self.current * sign > 0, CHARGE, DISCHARGE), REST)
            return sign, direction, False, False
        growth = growth_of_columns()
        direction = self._by_turns() if growth is None else self._by_columns(*growth)
        by_turns = growth is None
        return self._sign_by_direction(direction), direction, not by_turns and self._rises(direction), by_turns

    def _by_state(self, state: np.ndarray, signed: bool) -> tuple[np.ndarray, np.ndarray]:
        """Sign and directions where the instrument tells what it does, at some rows at least."""
        coded, unknown = np.isin(state, (CHARGE, DISCHARGE)) & self.active, self.active & (state == UNKNOWN)
        if signed:
            moved = self.current * self.interval * state
            sign = np.array(1.0 if float(moved[coded].sum()) >= 0 else -1.0)
            by_current = np.where(self.current * sign > 0, CHARGE, DISCHARGE)
            return sign, np.where(coded, state, np.where(unknown, by_current, REST))
        direction = np.where(coded, state, REST)
        if unknown.any():
            direction = np.where(unknown, self._by_turns(), direction)
        return self._sign_by_direction(direction), direction

    def _sign_by_direction(self, direction: np.ndarray) -> np.ndarray:
        """Sign of each row, for a current that has the same on charge and on discharge."""
        return np.where(direction == DISCHARGE, -1.0, 1.0) * np.sign(self.current[self.active].mean())

    def _sign_by_voltage(self) -> np.ndarray:
        """+1 where positive currents raise the voltage, -1 where they lower it; weighed by charge."""
        codes = np.where(self.active, np.sign(self.current), 0).astype(int)
        return np.array(-1.0 if self._raised(codes) < 0 else 1.0)

    def _rises(self, direction: np.ndarray) -> bool:
        """Whether the voltage rises on most of what is called discharge."""
        return self._raised(np.where(direction == DISCHARGE, DISCHARGE, 0)) < 0

    def _raised(self, codes: np.ndarray) -> float:
        """Charge of the stretches with a code by which the voltage moved the way of the code, less that of others."""
        return float(
            sum(
                code
                * np.sign(self.voltage[stop - 1] - self.voltage[start])
                * np.abs(self.current[start:stop] * self.interval[start:stop]).sum()
                for code, start, stop in _runs(codes)
                if stop - start > 2
            )
        )

    @property
    def _blocks(self) -> list[tuple[int, int]]:
        """Start and stop of each stretch between rests and steps."""
        numbers = np.cumsum(np.diff(self.active.astype(int), prepend=int(self.active[0])) != 0)
        if self.step is not None and np.isfinite(self.step).all() and not _counts_points(self.step):
            numbers = numbers + np.cumsum(np.diff(self.step, prepend=self.step[0]) != 0)
        return [(start, stop) for _, start, stop in _runs(numbers + 1)]

    def _by_columns(self, charged: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Directions of a current without sign or state: a row charges where the instrument's charge capacity grows."""
        direction = np.where(charged > given, CHARGE, np.where(given > charged, DISCHARGE, REST))
        for start, stop in self._blocks:  # rows at which neither grows go with those around
            undecided = start + np.flatnonzero(direction[start:stop] == REST)
            decided = start + np.flatnonzero(direction[start:stop] != REST)
            if len(undecided) and len(decided):
                nearest = np.clip(np.searchsorted(decided, undecided), 0, len(decided) - 1)
                direction[undecided] = direction[decided[nearest]]
        return np.where(self.active, direction, REST)

    def _by_turns(self) -> np.ndarray:
        """Directions of a current without sign or state: each run between rests and steps rises or falls.

        Within a run the voltage may turn; a turn is a reversal by a fifth of the whole range. A stretch that falls and
        stays in the upper half of the range is no discharge: on charge a smaller current lets the voltage fall, too.
        """
        voltage, direction = _without_spikes(self.voltage), np.zeros(len(self.current), int)
        low, high = float(voltage[self.active].min()), float(voltage[self.active].max())
        threshold, middle = 0.2 * (high - low), 0.5 * (low + high)
        for start, stop in self._blocks:
            if not self.active[start]:
                continue
            for first, last in monotone_parts(voltage[start:stop], threshold):
                begin, end = start + first, start + last
                change = float(voltage[end - 1] - voltage[begin])
                before = int(direction[begin - 1]) if begin else REST
                if abs(change) < threshold and begin:
                    change = float(voltage[end - 1] - voltage[begin - 1])
                    if before != REST and abs(change) < threshold:
                        direction[begin:end] = before
                        continue
                falls = change < 0 and voltage[begin:end].min() < middle
                direction[begin:end] = DISCHARGE if falls else CHARGE
        return direction


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


def _without_spikes(voltage: np.ndarray, direction: np.ndarray | None = None) -> np.ndarray:
    """Voltages with that of the row before, or after, in the place of single ones far from both (V).

    Where the direction of each row is known, only of possible ones with rows of one direction on both sides.
    """
    last = len(voltage) - 1
    far = np.flatnonzero(np.abs(np.diff(voltage)) > SPIKE_V)
    rows = np.union1d(far, far + 1)
    before, after = np.where(rows > 0, rows - 1, 1), np.where(rows < last, rows + 1, last - 1)
    up, down = voltage[rows] - voltage[before], voltage[rows] - voltage[after]
    alone = (np.minimum(np.abs(up), np.abs(down)) > SPIKE_V) & (np.sign(up) == np.sign(down))
    if direction is not None:
        low, high = VOLTAGE_BOUNDS_V
        here = direction[rows]
        alone &= (here != REST) & (here == direction[before]) & (here == direction[after])
        alone &= (rows > 0) & (rows < last) & (voltage[rows] >= low) & (voltage[rows] <= high)
    if not alone.any():
        return voltage
    plain = voltage.copy()
    plain[rows[alone]] = voltage[before[alone]]
    return plain


def _filled(column: np.ndarray) -> np.ndarray:
    """A capacity with the value before in the place of each that is missing or infinite."""
    known = np.isfinite(column)
    last = np.maximum.accumulate(np.where(known, np.arange(len(column)), -1))
    return np.where(last >= 0, column[np.maximum(last, 0)], 0.0)


def _relaxes(voltage: np.ndarray, rows: int) -> bool:
    """Whether the voltage recovers in so many rows at the end of a discharge, which are few."""
    lowest = len(voltage) - 1 - rows
    return bool(rows <= RELAXATION_ROWS and voltage[lowest:].max(initial=0.0) > voltage[lowest] + RELAXATION_V)


def _gap(intervals: np.ndarray, paused: np.ndarray) -> float:
    """The longest interval between rows (s) that stands out, or in which the current stood still; 0 without one."""
    stands_out = intervals > max(GAP_FACTOR * _typical(intervals), GAP_LEAST_S)
    return float(intervals[stands_out | paused].max(initial=0.0))


def _discharge(rows: OrderedRows, half: HalfCycle, cycle: int, charged: float) -> Discharge | None:
    """Cut a discharge to its first constant-current part."""
    everything = np.concatenate([np.arange(start, stop) for start, stop in half.runs])
    step = _first_step(rows, half)
    magnitude = np.abs(rows.current_ma[step])
    inside, current = _constant_part(magnitude)
    part = step[inside]
    cut = []
    relaxing = len(part) - 1 - int(np.argmin(rows.voltage_v[part]))
    if _relaxes(rows.voltage_v[part], relaxing):
        cut.append(f"{relaxing} relaxation rows at the end")
        part = part[: len(part) - relaxing]
    if len(part) < 2:
        return None
    added = -rows.moved_mah[everything]
    within = np.searchsorted(everything, part)
    delivered = np.cumsum(added[within])
    later = np.setdiff1d(everything, part, assume_unique=True)
    later = later[later > part[-1] + relaxing]
    later_currents = _plateaus(np.abs(rows.current_ma[later]))
    if later_currents and float(np.ptp(rows.voltage_v[later])) < CONSTANT_VOLTAGE_V:
        cut.append(f"constant-voltage tail of {len(later)} rows")
    elif later_currents:
        cut.append("further steps of " + ", ".join(f"{i:.3g}" for i in later_currents) + " mA")
    rested = np.flatnonzero(np.diff(part) > 1)
    first, last = int(part[0]), int(part[-1])
    intervals = np.diff(rows.time_s[part])
    spread = np.abs(rows.current_ma[part])
    return Discharge(
        cycle=cycle,
        rows=part,
        start=half.start,
        stop=half.stop,
        voltage_v=rows.voltage_v[part],
        capacity_mah=np.maximum.accumulate(np.maximum(delivered, 0.0)),
        current_ma=current,
        current_rms=float(np.sqrt(np.mean((spread - current) ** 2)) / current) if current > 0 else 0.0,
        all_steps_mah=float(added.sum()),
        column_mah=None if rows.column is None else float(rows.column[part].sum()),
        cut=tuple(cut),
        later_currents_ma=later_currents,
        duration_s=float(rows.time_s[last] - rows.time_s[first]),
        clock_s=_typical(intervals) if (intervals == 0).mean() > SHARED_TIMES else 0.0,
        gap_s=_gap(intervals, rows.paused[part[1:]]),
        pause_s=float(sum(_rest_between(rows, int(part[i]), int(part[i + 1])) for i in rested)),
        sinks_v=max((float(rows.voltage_v[part[i]] - rows.voltage_v[part[i + 1] - 1]) for i in rested), default=0.0),
        paused=bool(rows.paused[part[1:]].any() or len(rested)),
        clock_backwards=bool(((rows.clock_backwards > first) & (rows.clock_backwards <= last)).any()),
        missing_rows=int(((rows.missing > first) & (rows.missing <= last)).sum()),
        charged_before_mah=charged,
        **_course(rows.voltage_v[part], delivered),
    )


def _course(voltage: np.ndarray, delivered: np.ndarray) -> dict[str, float]:
    """How far a voltage falls throughout, as a :class:`Discharge` holds it."""
    steps = np.diff(voltage)
    turns = np.flatnonzero(np.diff(np.concatenate([[False], steps > 0, [False]])))
    begins, ends = turns[::2], turns[1::2]
    rises = (ends - begins >= RISING_ROWS) & (voltage[ends] - voltage[begins] > RISING_V)
    while_rising = (delivered[ends] - delivered[begins])[rises].sum()
    near_end = min(int(np.searchsorted(delivered, (1 - LAST_SHARE) * delivered[-1])), len(voltage) - 1)
    return {
        "upward_mv": float(max(steps.max(initial=0.0), 0.0) * 1e3),
        "upward_share": float((steps > 0).mean()),
        "rising_share": float(while_rising / delivered[-1]) if delivered[-1] > 0 else 0.0,
        "zigzag_mv": float(np.median(np.abs(np.diff(steps))) / 2 * 1e3) if len(steps) > 1 else 0.0,
        "fall_v": float(voltage[near_end] - voltage[-1]),
    }


def _rest_between(rows: OrderedRows, before: int, after: int) -> float:
    """Time of the resting rows between two rows of a discharge (s)."""
    between = np.arange(before + 1, after)
    resting = between[rows.direction[between] == REST]
    return float(rows.time_s[resting[-1]] - rows.time_s[before]) if len(resting) else 0.0


def _first_step(rows: OrderedRows, half: HalfCycle) -> np.ndarray:
    """Rows of the first run, and of those after a pause that go on with the same current from where it stood."""
    start, stop = half.runs[0]
    step = np.arange(start, stop)
    reference = float(np.median(np.abs(rows.current_ma[start:stop])))
    duration = rows.time_s[half.stop - 1] - rows.time_s[half.start]
    few = len(half.runs) - 1 <= MOST_PAUSES
    lowest = min(float(rows.voltage_v[a:b].min()) for a, b in half.runs)
    pauses = 0.0
    for start, stop in half.runs[1:]:
        if rows.voltage_v[step].min() <= lowest + PAUSE_LEAST_V:
            break  # it was at its end: what follows a rest is another discharge
        pauses += rows.time_s[start] - rows.time_s[step[-1]]
        current = float(np.median(np.abs(rows.current_ma[start:stop])))
        is_pause = few or pauses <= PAUSE_SHARE * duration
        if abs(current - reference) > CONSTANT_CURRENT_BAND * reference or not is_pause:
            break
        step = np.concatenate([step, np.arange(start, stop)])
    return step


def _constant_part(magnitude: np.ndarray) -> tuple[slice, float]:
    """Rows at the first constant current, and its median (mA)."""
    n = len(magnitude)
    reference = float(np.median(magnitude[: min(n, 21)]))
    stop = n
    for _ in range(2):
        outside = np.abs(magnitude - reference) > CONSTANT_CURRENT_BAND * reference
        start = int(np.argmax(~outside)) if (~outside).any() else 0
        stop = _first_stretch(outside, start)
        reference = float(np.median(magnitude[start:stop])) if stop > start else reference
    if start <= CONSECUTIVE_ROWS:  # the first rows of a step may be logged while the current builds up
        start = int(np.argmax(magnitude > 0.5 * reference))
    return slice(start, max(stop, min(start + 2, n))), reference


def _first_stretch(outside: np.ndarray, start: int) -> int:
    """Where the first stretch of consecutive rows outside begins; the end where there is none."""
    flags = outside[start:].astype(int)
    long_enough = np.convolve(flags, np.ones(CONSECUTIVE_ROWS, int), "valid") == CONSECUTIVE_ROWS
    hits = np.flatnonzero(long_enough)
    if len(hits):
        return start + int(hits[0])
    trailing = len(flags) - int(np.argmax(flags[::-1] == 0)) if (flags == 0).any() else 0
    return start + trailing


def _plateaus(magnitude: np.ndarray) -> tuple[float, ...]:
    """Medians of the distinct currents in a stretch (mA), at most four."""
    if not len(magnitude):
        return ()
    found: list[float] = []
    bounds = np.flatnonzero(
        np.abs(np.diff(magnitude)) > CONSTANT_CURRENT_BAND * np.maximum(magnitude[1:], magnitude[:-1])
    )
    for part in np.split(magnitude, bounds + 1):
        if len(part) > CONSECUTIVE_ROWS:
            found.append(float(np.median(part)))
    return tuple(found[:4]) or (float(np.median(magnitude)),)


def _runs(codes: np.ndarray) -> list[tuple[int, int, int]]:
    """Code, start and stop of each stretch of equal codes that is not zero."""
    if not len(codes):
        return []
    edges = np.flatnonzero(np.diff(codes)) + 1
    starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [len(codes)]])
    return [(int(codes[a]), int(a), int(b)) for a, b in zip(starts, stops, strict=True) if codes[a] != 0]
