"""Mistakes that nobody looks for: what a file tells twice is compared, and what it cannot tell is asked about.

``tests/lab_files.py`` writes the files; all hold 220 and 215 mAh/g at 20 mA/g unless a test says otherwise.
"""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import lab_files as lab
import numpy as np
import pandas as pd
import pytest
from lab_files import CELL, assert_good, check, said

TWO = lab.rows(220.0, 215.0, points=40)
FAST = lab.rows(100.0, 95.0, points=60, current_ma_g=1000.0, first_charge=120.0)
AT_1000 = replace(CELL, current_ma_g=1000.0)
BARE = replace(CELL, current_ma_g=None, window=None)
FIRST_DISCHARGE = int(np.flatnonzero(TWO.state == "D")[0])


def timed(t: pd.DataFrame, *more: lab.Columns) -> str:
    """The rows of a test with times, or those that are given first."""
    time = [] if more and "ime" in more[0][0] or more and more[0][0] == "Date" else [("Time (s)", t.time_s)]
    return lab.text([*time, *more, ("Voltage (V)", t.voltage_v), ("Current (mA)", t.current_ma)])


# Clocks


COARSE = {
    "a spreadsheet's dates": lambda t: ("Date", [f"{d:%m/%d/%Y %H:%M}" for d in t.date]),
    "dates of twelve hours": lambda t: ("Date", [f"{d:%d.%m.%Y %I:%M %p}" for d in t.date]),
    "hours and minutes": lambda t: ("Time (h:mm)", [f"{s // 3600:.0f}:{s % 3600 // 60:02.0f}" for s in t.time_s]),
    "minutes": lambda t: ("Time (min)", [f"{s / 60:.0f}" for s in t.time_s]),
    "tenths of an hour": lambda t: ("Time (h)", [f"{s / 3600:.1f}" for s in t.time_s]),
}


@pytest.mark.parametrize("kind", COARSE)
def test_a_clock_coarser_than_the_discharge_is_refused_and_a_capacity_settles_it(tmp_path: Path, kind: str) -> None:
    message = said(check(tmp_path, timed(FAST, COARSE[kind](FAST)), AT_1000), "E7")
    assert "each for several rows" in message
    assert "Export the time with its seconds" in message
    assert_good(check(tmp_path, timed(FAST), AT_1000), 100.0, 95.0)
    whole = FAST.iloc[: len(FAST) - 1 - int((FAST.cycle == 2).sum())]  # its discharge ends with a minute
    if "tenths" not in kind:
        beside = ("Discharge capacity (mAh)", whole.discharge_mah)
        assert_good(check(tmp_path, timed(whole, COARSE[kind](whole), beside), AT_1000), 100.0)


@pytest.mark.parametrize("kind", sorted(COARSE.keys() - {"tenths of an hour"}))
def test_a_coarse_clock_is_fine_enough_for_a_long_discharge(tmp_path: Path, kind: str) -> None:
    assert_good(check(tmp_path, timed(TWO, COARSE[kind](TWO))))


@pytest.mark.parametrize("digits", [2, 3])
def test_a_clock_of_few_digits_makes_the_charge_uncertain(tmp_path: Path, digits: int) -> None:
    times = ("Time (s)", [f"{s:.{digits - 1}E}" for s in TWO.time_s])
    checked = check(tmp_path, timed(TWO, times))
    assert "E7" in {hit.id for hit in checked.rules}
    assert checked.status == ("refused" if digits == 2 else "warned")
    assert checked.discharges[-1].sigma_mah_g == pytest.approx(0.1 * checked.discharges[-1].capacity_mah_g)


@pytest.mark.parametrize("points", [40, 60, 600])
@pytest.mark.parametrize("at_h", [17, 20, 24])
@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_set_to_summer_time_adds_no_hour(tmp_path: Path, points: int, at_h: int, hours: int) -> None:
    t = lab.rows(220.0, 215.0, points=points)
    shifted = [d + datetime.timedelta(hours=hours * (s > 3600 * at_h)) for d, s in zip(t.date, t.time_s, strict=True)]
    assert_good(check(tmp_path, timed(t, ("Date", [f"{d:%Y-%m-%d %H:%M:%S}" for d in shifted]))))


DATES = {
    "a zone that changes": [
        f"{d + datetime.timedelta(hours=n > 60):%Y-%m-%dT%H:%M:%S}+0{1 + (n > 60)}:00" for n, d in enumerate(TWO.date)
    ],
    "CET": [f"{d:%Y-%m-%d %H:%M:%S} CET" for d in TWO.date],
    "as in C": [f"{d:%a %b %d %H:%M:%S %Y}" for d in TWO.date],
    "with the weekday": [f'"{d:%A, %B %d, %Y %I:%M:%S %p}"' for d in TWO.date],
    "compact": [f"{d:%Y%m%dT%H%M%S}" for d in TWO.date],
    "twelve hours without am and pm": [f"{d:%I:%M:%S}" for d in TWO.date],
}


@pytest.mark.parametrize("kind", DATES)
def test_more_dates_are_read(tmp_path: Path, kind: str) -> None:
    assert_good(check(tmp_path, timed(TWO, ("Time" if "twelve" in kind else "Date", DATES[kind]))))


# Voltages


@pytest.mark.parametrize("misread", [0.0, 0.7, 1.4])
def test_a_single_voltage_gone_wrong_ends_no_discharge(tmp_path: Path, misread: float) -> None:
    t = TWO.copy()
    t.loc[FIRST_DISCHARGE + 15, "voltage_v"] = misread
    running = check(tmp_path, lab.plain(t.iloc[: FIRST_DISCHARGE + 25]))
    assert "ends at 2.72 V, not 1.5 V" in said(running, "E4")
    assert_good(check(tmp_path, lab.plain(t)))


@pytest.mark.parametrize("misread", [5.0, 5.5, 6.0])
@pytest.mark.parametrize("sample", [CELL, BARE], ids=["stated", "bare"])
def test_a_single_voltage_gone_wrong_is_no_top_of_charge(tmp_path: Path, misread: float, sample) -> None:
    t = TWO.copy()
    t.loc[10, "voltage_v"] = misread
    checked = check(tmp_path, lab.plain(t), sample)
    assert_good(checked)
    assert "1 single voltage far from both beside left out" in checked.notes


def lost_contact(*voltages: float) -> str:
    """A test whose first discharge ends at once, halfway."""
    first, charge, rest, _, *more = lab.steps(220.0, 215.0, points=40)
    half = lab.half("D", 6.0, -0.04, lambda x: lab.discharge_v(6 / 11 * x), 30)
    for volts in voltages:
        half.loc[len(half)] = {**half.iloc[-1], "voltage_v": volts, "step_s": half.step_s.iloc[-1] + 20}
    return lab.plain(lab.joined(first, charge, rest, half, *more))


@pytest.mark.parametrize("voltages", [(1.49,), (1.9, 1.49), (0.8,)])
@pytest.mark.parametrize("sample", [CELL, replace(CELL, window=None)], ids=["stated", "no window"])
def test_a_discharge_that_falls_to_its_end_at_once_is_doubted(tmp_path: Path, voltages, sample) -> None:
    checked = check(tmp_path, lost_contact(*voltages), sample)
    assert checked.status == "doubtful"
    message = next(hit.message for hit in checked.rules if hit.id == "D3")
    assert "falls from 2.82 to" in message
    assert "confirm it" in message


@pytest.mark.parametrize("knee", [0.9, 0.97])
def test_a_steep_end_is_an_end(tmp_path: Path, knee: float) -> None:
    first, charge, rest, *_ = lab.steps(220.0)
    steep = lab.half("D", 11.0, -0.04, lambda x: np.interp(x, [0, knee, 1], [4.6, 2.4, 1.5]), 60)
    assert_good(check(tmp_path, lab.plain(lab.joined(first, charge, rest, steep))), 220.0)


@pytest.mark.parametrize("minutes", [5, 20, 120])
@pytest.mark.parametrize("beside", ["", "step", "moved_mah"])
def test_a_charge_within_a_discharge_is_refused_where_the_current_has_no_sign(
    tmp_path: Path, minutes: int, beside: str
) -> None:
    first, charge, rest, *_ = lab.steps(220.0)
    parts = [
        lab.half("D", 5.5, -0.04, lambda x: lab.discharge_v(x / 2), 20),
        lab.half("C", minutes / 60, 0.04, lambda x: 3.0 + 0.2 * x, 5),
        lab.half("D", 5.5 + minutes / 60, -0.04, lambda x: 3.05 - 1.55 * x, 20),
    ]
    t = lab.joined(first, charge, rest, *parts)
    column = {"step": ("Step", t.step), "moved_mah": ("Capacity (mAh)", t.moved_mah)}
    unsigned = t.assign(current_ma=t.current_ma.abs())
    content = timed(unsigned, *([column[beside]] if beside else []))
    message = said(check(tmp_path, content), "E9")
    assert "Export the current with its sign, or the state" in message
    for told in (timed(t), timed(unsigned, ("State", lab.named(t, "Charge", "Discharge", "Rest")))):
        assert "E9" not in {hit.id for hit in check(tmp_path, told).rules}  # as it says
    assert_good(check(tmp_path, lab.plain(TWO.assign(current_ma=TWO.current_ma.abs()))))


@pytest.mark.parametrize("sample", [CELL, BARE], ids=["stated", "bare"])
@pytest.mark.parametrize("other", [(180.0, 175.0), (200.0, 190.0), (120.0, 110.0)])
def test_rows_of_two_cells_that_take_turns_are_refused(tmp_path: Path, sample, other) -> None:
    both = pd.concat([TWO, lab.rows(*other, points=40)]).sort_values("time_s", kind="stable")
    assert check(tmp_path, lab.plain(both), sample).status == "refused"
    noisy = TWO.assign(voltage_v=TWO.voltage_v + 0.005 * (-1.0) ** TWO.record)
    assert_good(check(tmp_path, lab.plain(noisy), sample))
