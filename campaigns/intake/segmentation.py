"""Find the discharges in the rows of a cycler, from the rows alone.

Instruments disagree about signs, cycle numbers, when a capacity is reset and what belongs to a cycle, so none
of that is trusted. Direction comes from the state column where there is one, else from whether the voltage
falls; charge is the sum of I_k (t_k - t_(k-1)), the interval before the first row included, because a cycler
holds the current that it logs; the instrument's own capacity is only compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from campaigns.intake.clock import GAP_LEAST_S, number_at, usual_gap, wraps_after
from campaigns.intake.direction import runs_of
from campaigns.intake.discharges import MOST_PAUSES, Discharge, HalfCycle, discharge_of, highest_voltage
from campaigns.intake.measurement import FileSpan, RuleBroken
from campaigns.intake.ordering import OrderedRows, ordered
from campaigns.intake.readers.recording import CyclerRows, is_another_cell
from campaigns.intake.readers.words import CHARGE, DISCHARGE

REAL_CHARGE_SHARE = 0.3
"""A discharge counts once the charge before it moved this share of its charge."""

NOISE_CURRENT, NOISE_CHARGE = 2e-3, 5e-3
"""Runs below both shares of the largest current and of the largest half-cycle are rest."""

SPIKE_ROWS, SPIKE_CHARGE = 3, 1e-2
"""Runs of so few rows and so little charge inside another run are readings gone wrong."""

PULSE_SHARE, PULSE_CHARGE, PULSE_S, PULSE_V = 0.1, 0.02, 600.0, 0.2
"""A discharge is a pulse when it gives less than this share of the largest one and ends this far (V) above where those
end, and is as short as this (s) or gives less than the smaller share."""

RISE_V, FALL_V = 0.3, 1.0
"""Where two counts begin again together and the voltage jumps up or down by these (V), another test begins."""

LEAST_REPEATED = 3
"""Fewer rows that stand in a file twice are chance."""

MOST_LEADING_RECORDS, LATE_START_S = 20, 20 * 3600.0
"""A file whose records or elapsed time (s) begin beyond these does not begin at the start of its test."""


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
            charge_top = max(charge_top or 0.0, highest_voltage(rows, half))
            continue
        if half in pulses:
            charged = max(charged - half.charge_mah, 0.0)
            continue
        real = charged >= REAL_CHARGE_SHARE * half.charge_mah or (goes_on and half is halves[0])
        found = discharge_of(rows, half, len(discharges) + 1 if real else 0, charged)
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
    stretches = [stop - start for code, start, stop in runs_of(again.astype(int)) if code]
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
    return bool((recording.time_s[falls + 1] > usual_gap(recording.time_s)).any())  # into the middle of a step


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
    if not recording.time_of_step and not wraps_after(recording.time_s[np.isfinite(recording.time_s)]):
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
    return max(GAP_LEAST_S, usual_gap(recording.time_s)) if begins_within_discharge else LATE_START_S


def half_cycles(rows: OrderedRows) -> tuple[HalfCycle, ...]:
    """Group the rows into half-cycles, leaving out what is noise."""
    runs = runs_of(rows.direction)
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
