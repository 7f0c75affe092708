"""Discharges of a recording as measured: the constant-current part, and the course of its voltage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from campaigns.intake.clock import longest_gap, typical_interval
from campaigns.intake.direction import relaxes_within
from campaigns.intake.ordering import OrderedRows
from campaigns.intake.readers.words import REST

CONSTANT_CURRENT_BAND = 0.05
"""The constant-current part ends where the current leaves this band around its median."""

CONSECUTIVE_ROWS = 3
"""That many rows in a row must leave the band: single wrong readings do not end a step."""

CONSTANT_VOLTAGE_V = 0.02
"""What follows the constant current within so narrow a range of voltage is a constant-voltage tail (V)."""

PAUSE_SHARE, MOST_PAUSES = 0.1, 3
"""Rests with the same current around are pauses in a discharge: so many, however long, or together shorter than this
share of it; more are the pulses of a titration."""

PAUSE_LEAST_V = 0.05
"""A discharge that came this close (V) to the lowest voltage was over before the rest."""

RISING_ROWS, RISING_V = 3, 0.05
"""So many rises in a row that together come to more than this (V) are none of noise."""

LAST_SHARE = 2e-3
"""What falls within this last share of a charge falls at once."""

SHARED_TIMES = 0.1
"""Where more of the rows of a discharge have the time of the row before, its clock is coarser than its rows."""


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


def highest_voltage(rows: OrderedRows, half: HalfCycle) -> float:
    """Highest voltage of a half-cycle (V)."""
    return max(float(rows.voltage_v[start:stop].max()) for start, stop in half.runs)


def discharge_of(rows: OrderedRows, half: HalfCycle, cycle: int, charged: float) -> Discharge | None:
    """Cut a discharge to its first constant-current part."""
    everything = np.concatenate([np.arange(start, stop) for start, stop in half.runs])
    step = _first_step(rows, half)
    magnitude = np.abs(rows.current_ma[step])
    inside, current = _constant_part(magnitude)
    part = step[inside]
    cut = []
    relaxing = len(part) - 1 - int(np.argmin(rows.voltage_v[part]))
    if relaxes_within(rows.voltage_v[part], relaxing):
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
        clock_s=typical_interval(intervals) if (intervals == 0).mean() > SHARED_TIMES else 0.0,
        gap_s=longest_gap(intervals, rows.paused[part[1:]]),
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
