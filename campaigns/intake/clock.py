"""How long the rows of a recording last: clocks that begin again, stand still or are coarse, gaps and pauses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from campaigns.intake.direction import counts_points, runs_of
from campaigns.intake.readers.recording import CyclerRows

DAY_S, HOUR_S = 86400.0, 3600.0

MOST_RESTARTS = 0.25
"""A time that falls at more than this share of the rows belongs to shuffled rows, not to steps."""

GAP_FACTOR, GAP_LEAST_S = 10.0, 60.0
"""An interval is a gap when it exceeds the median by this factor, and this many seconds."""

NEIGHBOURS, WENT_ON_SHARE = 10, 0.5
"""The current went on in a gap if the voltage moved by this share of what so many rows on either side suggest."""


def number_at(column: np.ndarray | None, row: int) -> int | None:
    """Number that the instrument counts at a row; None where it gives none."""
    return None if column is None or not np.isfinite(column[row]) else round(float(column[row]))


def usual_gap(time: np.ndarray) -> float:
    """Longest interval that is no gap yet (s)."""
    return GAP_FACTOR * typical_interval(np.diff(time)) or np.inf


def typical_interval(intervals: np.ndarray) -> float:
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
    of_steps = begins_again(time) and (anew & turns).sum() > 0.5 * turns.sum()
    return replace(recording, time_of_step=True) if of_steps else recording


def _turns(state: np.ndarray | None, step: np.ndarray | None, current: np.ndarray | None) -> np.ndarray:
    """Rows at which the number of the step changes, else its state, else the sign of the current.

    A number or a state that never changes tells nothing.
    """
    if step is not None and not counts_points(step) and np.ptp(step) > 0:
        told: np.ndarray = step
    elif state is not None and np.ptp(state) > 0:
        told = state
    elif current is not None:
        told = np.where(np.abs(current) > 1e-4 * np.abs(current).max(), np.sign(current), 0)
    else:
        return np.zeros(0, bool)
    return np.diff(told, prepend=told[0]) != 0


def step_begins(
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


def intervals_of(time: np.ndarray, step_begins: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
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
    if (whole := wraps_after(time)) > 0:
        return np.where(interval < 0, interval + whole, interval), np.array([], int)
    backwards = np.flatnonzero(interval < 0)
    if begins_again(time):
        interval[0] = 0.0
        return np.where(interval < 0, np.maximum(time, 0.0), interval), backwards
    interval[backwards] = typical_interval(interval)
    return interval, backwards


def wraps_after(time: np.ndarray) -> float:
    """Seconds after which a time of day begins again, a clock of twelve hours from 12:59 to 1:00; 0 where none does."""
    interval = np.diff(time)
    falls = np.flatnonzero(interval < 0)
    if not len(falls) or time.min() < 0:
        return 0.0
    for whole, end in ((DAY_S, DAY_S), (DAY_S / 2, DAY_S / 2 + HOUR_S)):
        across = interval[falls] + whole
        if time.max() < end and ((across <= usual_gap(time)) & (time[falls] > end / 2)).all():
            return whole
    return 0.0


def with_first_interval(interval: np.ndarray, step_time: np.ndarray | None) -> np.ndarray:
    """Intervals with the one before the first row of the file, where its step has just begun."""
    if step_time is None or interval[0] > 0 or not 0 < step_time[0] <= GAP_FACTOR * typical_interval(interval):
        return interval
    return np.append(step_time[0], interval[1:])


def since_step(interval: np.ndarray, step_time: np.ndarray | None) -> np.ndarray:
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


def counted_intervals(
    interval: np.ndarray, voltage: np.ndarray, current: np.ndarray, direction: np.ndarray, column: np.ndarray | None
) -> np.ndarray:
    """Seconds that the current of each row is held for: all since the row before, but for rests that left no row.

    Before the first row of a run, a gap is a rest. Within a run the instrument's capacity tells whether the current
    went on in a gap, or else the voltage. Where rows are logged by voltage, long intervals stand beside long ones. An
    hour more than beside it may be that of a clock set to summer time.
    """
    counted = interval.copy()
    for _, start, stop in runs_of(direction):
        if stop - start < 3:
            continue
        inside = interval[start + 1 : stop]
        typical = typical_interval(inside)
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


def begins_again(time: np.ndarray) -> bool:
    """Whether the time falls to its beginning wherever it falls: with each step, or when a test was started anew."""
    interval = np.diff(time)
    falls = np.flatnonzero(interval < 0)
    if not len(falls) or len(falls) > MOST_RESTARTS * len(interval) or not (interval > 0).any():
        return False
    beginning = min(time.min(), 0.0) + usual_gap(time)
    return bool((time[falls + 1] <= beginning).all())


def longest_gap(intervals: np.ndarray, paused: np.ndarray) -> float:
    """The longest interval between rows (s) that stands out, or in which the current stood still; 0 without one."""
    stands_out = intervals > max(GAP_FACTOR * typical_interval(intervals), GAP_LEAST_S)
    return float(intervals[stands_out | paused].max(initial=0.0))
