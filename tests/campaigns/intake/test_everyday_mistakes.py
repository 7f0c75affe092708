"""Files as they come back from a laboratory on a bad day: read right, or refused with a sentence whose way out works.

``tests/lab_files.py`` writes them; all hold 220 and 215 mAh/g at 20 mA/g unless a test says otherwise.
"""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import lab_files as lab
import numpy as np
import pandas as pd
import pytest

from campaigns.intake.measurement import CheckedFile, SampleInfo
from campaigns.intake.readers.recording import ReadOptions
from campaigns.intake.validation import check_file

CELL = SampleInfo(lab.MASS_MG, "Li1.2Mn0.4Ti0.4O2", 20.0, lab.WINDOW)
TWO = lab.rows(220.0, 215.0, points=40)
MOVED = np.cumsum(TWO.current_ma * np.diff(TWO.time_s, prepend=0.0) / 3600)
"""Net charge since the start (mAh)."""

FIRST_DISCHARGE = int(np.flatnonzero(TWO.state == "D")[0])


def check(tmp_path: Path, content: str | bytes, sample: SampleInfo = CELL, **options: float) -> CheckedFile:
    path = tmp_path / "cell.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return check_file(path, sample, ReadOptions(**options))


def assert_good(checked: CheckedFile, *expected: float) -> None:
    assert [str(hit) for hit in checked.rules if hit.severity != "warning"] == []
    found = [d.capacity_mah_g for d in checked.discharges]
    assert found == pytest.approx(list(expected or (220.0, 215.0)), rel=2e-3)


def said(checked: CheckedFile, rule: str) -> str:
    """The message of a rule that refuses."""
    return next(hit.message for hit in checked.rules if hit.id == rule and hit.severity == "error")


def columns(t: pd.DataFrame, *more: tuple) -> str:
    return lab.text([*more, ("Voltage (V)", t.voltage_v), ("Current (mA)", t.current_ma)])


# Times


@pytest.mark.parametrize("header", ["Time(h:min:s.ms)", "Time (s)", "Test Time (s)"])
@pytest.mark.parametrize("beside", [[], [("Record ID", TWO.record)], [("Cycle", TWO.cycle)]], ids=["", "id", "cycle"])
def test_a_time_that_begins_with_each_step_loses_no_interval_whatever_it_is_called(tmp_path, header, beside) -> None:
    t = lab.rows(220.0, 215.0)  # the rest is shorter than the first interval of the discharge: the time does not fall
    times = list(map(lab.clock, t.step_s)) if "h:min" in header else t.step_s
    beside = [(name, t[values.name]) for name, values in beside]
    assert_good(check(tmp_path, columns(t, *beside, (header, times))))


def test_a_time_of_each_cycle_is_none_of_each_step(tmp_path: Path) -> None:
    of_cycle = TWO.time_s - TWO.groupby("cycle").time_s.transform("first")
    assert_good(check(tmp_path, columns(TWO, ("Time (s)", of_cycle))))


def test_times_of_steps_that_were_pasted_twice_count_once(tmp_path: Path) -> None:
    at = FIRST_DISCHARGE
    t = pd.concat([TWO.iloc[: at + 30], TWO.iloc[at + 15 :]])
    assert_good(check(tmp_path, columns(t, ("Step Time (s)", t.step_s), ("Step", t.step))))


@pytest.mark.parametrize("missing", ["", "nan"])
def test_an_empty_line_among_times_of_day_refuses_nothing(tmp_path: Path, missing: str) -> None:
    lines = lab.neware(TWO).split("\n")
    empty = ",".join([missing] * (lines[0].count(",") + 1))
    assert_good(check(tmp_path, "\n".join([*lines[:40], empty, *lines[40:]])))


STAMPS = {
    "05-May-2026": ("Date", [d.strftime("%d-%b-%Y %H:%M:%S") for d in TWO.date]),
    "May 05, 2026": ("Date", [f'"{d:%b %d, %Y %H:%M:%S}"' for d in TWO.date]),
    "since 1970": ("Time (s)", [f"{1.777e9 + t:.3f}" for t in TWO.time_s]),
    "since 1970, unnamed": ("unix_time", [f"{1.777e9 + t:.3f}" for t in TWO.time_s]),
    "since 1970 in ms": ("Timestamp", [f"{1.777e12 + 1e3 * t:.0f}" for t in TWO.time_s]),
    "days since 1900": ("Date", [f"{46147.375 + t / 86400:.9f}" for t in TWO.time_s]),
    "from late in the evening": ("Time", [f"{d + datetime.timedelta(hours=13):%H:%M:%S}" for d in TWO.date]),
}


@pytest.mark.parametrize("kind", STAMPS)
def test_dates_and_times_of_day_are_no_late_beginning(tmp_path: Path, kind: str) -> None:
    assert_good(check(tmp_path, columns(TWO, STAMPS[kind])))


def test_a_file_that_begins_within_a_discharge_is_no_beginning(tmp_path: Path) -> None:
    t = TWO.iloc[FIRST_DISCHARGE + 15 :]
    refused = check(tmp_path, lab.plain(t))
    assert "not at the start of a test" in said(refused, "E13")
    stated = check(tmp_path, lab.plain(t), replace(CELL, first_cycle=4))  # what is left of the fourth
    assert [(d.cycle, round(d.capacity_mah_g)) for d in stated.discharges] == [(5, 215)]


# Charges and currents


@pytest.mark.parametrize("sign", [1, -1])
def test_a_discharge_capacity_that_runs_back_on_charge_is_a_net_one(tmp_path: Path, sign: int) -> None:
    time = ("Time [s]", TWO.time_s)
    net = ("Discharge capacity [mA.h]", -MOVED)
    content = lab.text([time, ("Current [mA]", sign * TWO.current_ma), ("Voltage [V]", TWO.voltage_v), net])
    assert_good(check(tmp_path, content))


def test_a_capacity_column_that_differs_is_no_matter_of_digits(tmp_path: Path) -> None:
    wrong = ("Discharge capacity (mAh)", 1.3 * TWO.discharge_mah)
    message = said(check(tmp_path, columns(TWO, ("Time (s)", TWO.time_s), wrong)), "E7")
    assert "rows are missing, or the capacity column counts something else" in message
    assert_good(check(tmp_path, columns(TWO, ("Time (s)", TWO.time_s))))  # without that column, as it says


@pytest.mark.parametrize("row", [FIRST_DISCHARGE, FIRST_DISCHARGE + 20, FIRST_DISCHARGE + 42, len(TWO) - 2])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_a_single_current_gone_wrong_is_named_by_its_row(tmp_path: Path, row: int, signed: bool) -> None:
    t = TWO.copy()
    t.loc[row, "current_ma"] = -99.9
    t["current_ma"] = t.current_ma if signed else t.current_ma.abs()
    times = [("Time (s)", t.time_s), ("Step", t.step)]
    message = said(check(tmp_path, columns(t, *times)), "E8")
    assert f"row {row + 1}: the current reads" in message
    if row == FIRST_DISCHARGE + 20:
        assert_good(check(tmp_path, columns(t.drop(index=row), *[(h, v.drop(index=row)) for h, v in times])))


def test_a_single_voltage_gone_wrong_turns_no_direction(tmp_path: Path) -> None:
    t = TWO.copy()
    t.loc[FIRST_DISCHARGE, "voltage_v"] = 0.0
    t["current_ma"] = t.current_ma.abs()
    checked = check(tmp_path, columns(t, ("Time (s)", t.time_s), ("Step", t.step)))
    assert checked.discharges[0].capacity_mah == pytest.approx(0.44, rel=1e-3)


# Lines that are no rows


@pytest.mark.parametrize("export", [lab.plain, lab.arbin, lab.neware])
def test_a_line_of_sums_below_the_rows_is_left_out(tmp_path: Path, export) -> None:
    content = export(TWO)
    cells = content.split("\n", 1)[0].count(",")
    for name, value in (("Total", "220"), ("Mean", "3.3"), ("Maximum", "4.8")):
        content += ",".join([name] + [value] * cells) + "\n"
    assert_good(check(tmp_path, content))


@pytest.mark.parametrize("quote", ["", '"'])
def test_row_numbers_that_the_header_does_not_name_are_said_so(tmp_path: Path, quote: str) -> None:
    header, *lines = lab.plain(TWO).strip().split("\n")
    numbered = [f"{quote}{i}{quote},{line}" for i, line in enumerate(lines, start=1)]
    message = said(check(tmp_path, "\n".join([header, *numbered])), "E9")
    assert "begins with a number of its own. Give that column a name" in message
    assert_good(check(tmp_path, "\n".join([f"row,{header}", *numbered])))


# Protocols


def test_a_short_conditioning_before_the_first_cycle_has_a_way_in(tmp_path: Path) -> None:
    first, *rest = lab.steps(220.0, 215.0)
    conditioning = [
        lab.half("C", 0.5, 0.04, lambda x: 3.1 + 0.4 * x, 8),
        lab.half("D", 0.4, -0.04, lambda x: 3.4 - 0.3 * x, 8),
    ]
    content = lab.plain(lab.joined(first, *conditioning, *rest))
    refused = check(tmp_path, content)
    assert {hit.id for hit in refused.rules if hit.severity != "warning"} == {"E4"}  # and no doubt about its time
    assert "From cycle 2 on they run through the window" in said(refused, "E4")
    assert "say --formation 1" in said(refused, "E4")
    assert_good(check(tmp_path, content, replace(CELL, formation=1)))
