"""Mistakes that nobody looks for: what a file tells twice is compared, and what it cannot tell is asked about.

``tests/lab_files.py`` writes the files; all hold 220 and 215 mAh/g at 20 mA/g unless a test says otherwise.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path

import lab_files as lab
import numpy as np
import pandas as pd
import pytest
from lab_files import CELL, assert_good, check, said

from campaigns import Campaign
from campaigns.intake.measurement import SampleInfo
from campaigns.intake.samples import read_samples
from campaigns.intake.validation import check_file
from drxnet.errors import ConfigurationError, MeasurementError
from drxnet.process import Process

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


# Sample tables


FORMULA = "Li1.2Mn0.4Ti0.4O2"


def sample_of(tmp_path: Path, header: str, cells: str, above: str = "") -> SampleInfo:
    path = tmp_path / "samples.csv"
    path.write_text(f"{above}file;composition;{header}\ncell.csv;{FORMULA};{cells}\n", encoding="utf-8")
    return next(iter(read_samples(path).values()))


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("active_mass_mg;active_mass_mg", "2.0;2.4"),
        ("active_mass_mg;oxide mass (mg)", "2.0;2.4"),
        ("active_mass_mg;active_mass_g", "2.0;0.0024"),
        ("current_ma_g;rate", "20;1000"),
        ("formula", "Li1.1Mn0.5Ti0.4O2"),
    ],
)
def test_two_columns_of_a_sample_table_that_mean_the_same_and_differ_are_refused(tmp_path, header, cells) -> None:
    with pytest.raises(ConfigurationError, match="mean the same and differ"):
        sample_of(tmp_path, header, cells)
    first = cells.split(";")[0]
    if header != "formula":
        sample_of(tmp_path, header, f"{first};")
        assert sample_of(tmp_path, header.split(";")[0] + ";remark", f"{first};2.4") is not None


@pytest.mark.parametrize("header", ["active_mass_mg", "active_mass_mg,current_ma_g", "active_mass_mg,cell"])
def test_a_decimal_comma_among_commas_is_no_cell_of_its_own(tmp_path: Path, header: str) -> None:
    path = tmp_path / "samples.csv"
    rest = ",x" * header.count(",")
    path.write_text(f"file,composition,{header}\ncell.csv,{FORMULA},2,15{rest}\n")
    with pytest.raises(ConfigurationError, match=r"row 2: more cells than the header names; a decimal comma\?"):
        read_samples(path)
    assert sample_of(tmp_path, "active_mass_mg", "2,15").active_mass_mg == 2.15  # by semicolons, as it says


@pytest.mark.parametrize("rate", ["0.1", "5", "20"])
def test_a_c_rate_is_one_whatever_its_size(tmp_path: Path, rate: str) -> None:
    with pytest.raises(ConfigurationError, match="reads as a C-rate, not as mA/g"):
        sample_of(tmp_path, "C-rate", rate)
    assert sample_of(tmp_path, "C-rate;1C (mA/g)", f"{rate};200").current_ma_g == 200 * float(rate)
    assert sample_of(tmp_path, "C-rate;current_ma_g", f"{rate};20").current_ma_g == 20.0
    with pytest.raises(ConfigurationError, match="is not the C-rate beside it"):
        sample_of(tmp_path, "C-rate;1C (mA/g);current_ma_g", f"{rate};200;70")


@pytest.mark.parametrize(
    ("header", "cells", "words"),
    [
        ("v_low;v_high", "1500;4800", "Cut-offs lie within 0-6 V"),
        ("window;v_low;v_high", "1.5-4.8;2.0;4.8", "Leave one of them empty"),
        ("window", "2024-05-01 00:00:00", "A window must read like"),
    ],
)
def test_cut_offs_are_possible_and_told_once(tmp_path: Path, header: str, cells: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        sample_of(tmp_path, header, cells)
    assert sample_of(tmp_path, "v_low (mV);v_high (mV)", "1500;4800").window == (1.5, 4.8)


@pytest.mark.parametrize(
    ("header", "cells", "field", "value"),
    [
        ("active_mass_mg", "2.0 ± 0.1", "active_mass_mg", 2.0),
        ("active_mass_mg", "2.0(1)", "active_mass_mg", 2.0),
        ("active_mass_mg", "2000 μg", "active_mass_mg", 2.0),
        ("Aktivmasse (mg)", "2,0", "active_mass_mg", 2.0),
        ("electrode_mass_mg;active_fraction", "2.5;80:10:10", "active_mass_mg", 2.0),
        ("electrode_mass_mg;active_fraction", "2.5;8/1/1", "active_mass_mg", 2.0),
        ("electrode_mass_mg;active_fraction", "2.5;80 wt%", "active_mass_mg", 2.0),
        ("current", "20 mA/g (C/10)", "current_ma_g", 20.0),
        ("window", "1.5–4.8 V vs. Li/Li+", "window", (1.5, 4.8)),
        ("window", "[1.5, 4.8]", "window", (1.5, 4.8)),
        ("window", "1.5...4.8 V", "window", (1.5, 4.8)),
    ],
)
def test_what_people_write_into_a_sample_table_is_read(tmp_path: Path, header, cells, field, value) -> None:
    assert getattr(sample_of(tmp_path, header, cells), field) == pytest.approx(value)


def test_a_mass_per_something_else_is_no_mass(tmp_path: Path) -> None:
    for cells in ("2 mg/cm2", "2.0 (electrode)", "2.0-2.1"):
        with pytest.raises(ConfigurationError):
            sample_of(tmp_path, "active_mass_mg", cells)


def test_a_title_above_and_units_below_the_header_are_no_cells(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text(f"Round 3\nfile,composition,active_mass,current\n,,g,A/g\ncell.csv,{FORMULA},0.002,0.02\n")
    assert next(iter(read_samples(path).values())) == SampleInfo(2.0, FORMULA, 20.0)


def test_a_row_that_stands_twice_in_a_sample_table_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    for second, refused in (("2.0", False), ("2.1", True)):
        path.write_text(f"file,composition,active_mass_mg\ncell.csv,{FORMULA},2.0\ncell.csv,{FORMULA},{second}\n")
        if not refused:
            assert len(read_samples(path)) == 1
            continue
        with pytest.raises(ConfigurationError, match="stands in the table twice, and the rows differ"):
            read_samples(path)


# Tables of capacities


def capacities(header: str, *rows: str) -> str:
    return "\n".join([f"composition;window;{header}", *(f"{FORMULA};1.5-4.8;{row}" for row in rows)]) + "\n"


GOOD = capacities("current (mA/g);capacity (mAh/g);cell", "20;220;A", "20;215;B")


@pytest.mark.parametrize("written", ["n", "N"])
def test_a_number_of_cells_is_no_cycle(tmp_path: Path, written: str) -> None:
    content = capacities(f"current (mA/g);capacity (mAh/g);{written}", "20;220;4", "20;215;3")
    assert "may be the cycle or a number of cells. Call it cycle, or cells" in said(check(tmp_path, content), "E9")
    assert_good(check(tmp_path, content.replace(f";{written}\n", ";cells\n")))
    cycles = check(tmp_path, f"{written};capacity (mAh/g)\n1;220\n2;215\n")
    assert [d.cycle for d in cycles.discharges] == [1, 2]


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("formula;current (mA/g);capacity (mAh/g)", "Li1.1Mn0.5Ti0.4O2;20;220", "mean the same and differ"),
        ("current (mA/g);current density (mA/g);capacity (mAh/g)", "20;1000;220", "mean the same and differ"),
        ("current (mA/g);rate;capacity (mAh/g)", "20;1000;220", "is not the rate beside it"),
        ("current (mA/g);C-rate;1C;capacity (mAh/g)", "20;5;200;220", "is not the rate beside it"),
        ("C-rate;capacity (mAh/g)", "5;220", "reads as a C-rate"),
        ("C-rate;capacity (mAh/g)", "20;220", "reads as a C-rate"),
    ],
)
def test_what_a_table_of_capacities_says_twice_is_compared(tmp_path: Path, header: str, row: str, words: str) -> None:
    checked = check(tmp_path, capacities(header, row), SampleInfo())
    assert any(words in hit.message for hit in checked.rules)
    assert checked.status == "refused"


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("material;current (mA/g);capacity (mAh/g)", "HE-1;20;220"),
        ("formula;current (mA/g);capacity (mAh/g)", f"{FORMULA};20;220"),
        ("current (mA/g);C-rate;1C;capacity (mAh/g)", "20;0.1;200;220"),
        ("current (mA/g);C-rate;capacity (mAh/g)", "20;C/10;220"),
        ("C-rate;1C;capacity (mAh/g)", "0.1;200;220 ± 3"),
        ("current (mA/g);capacity (mAh/g)", "20;220(3)"),
    ],
)
def test_what_a_table_of_capacities_says_twice_alike_is_read(tmp_path: Path, header: str, row: str) -> None:
    checked = check(tmp_path, capacities(header, row), SampleInfo())
    assert_good(checked, 220.0)
    assert checked.discharges[0].conditions.current_ma_g == 20.0


@pytest.mark.parametrize("name", ["mean", "Average", "std.", "SD", "max"])
def test_a_row_of_means_is_no_cell(tmp_path: Path, name: str) -> None:
    checked = check(tmp_path, GOOD + f"{FORMULA};1.5-4.8;20;217.5;{name}\n")
    assert_good(checked)
    assert "row 4 sums up those above; left out" in checked.notes
    assert_good(check(tmp_path, f"cycle;capacity (mAh/g)\n1;220\n2;215\n{name};217.5\n"))


@pytest.mark.parametrize("other", ["20;180;A", "20;219;A"])
def test_a_cell_has_one_first_capacity_at_one_rate(tmp_path: Path, other: str) -> None:
    content = GOOD + f"{FORMULA};1.5-4.8;{other}\n"
    assert "two capacities of cycle 1 of cell A" in said(check(tmp_path, content), "E9")
    assert_good(check(tmp_path, GOOD + f"{FORMULA};1.5-4.8;20;220;A\n"))
    assert_good(check(tmp_path, GOOD + f"{FORMULA};1.5-4.8;1000;100;A\n"), 220.0, 215.0, 100.0)


@pytest.mark.parametrize(("units", "row"), [("mA/g;mAh/g", "20;220"), ("A/g;Ah/g", "0.02;0.22"), (";Ah/kg", "20;220")])
def test_a_row_of_units_in_a_table_of_capacities_counts(tmp_path: Path, units: str, row: str) -> None:
    content = f"composition;window;current;capacity\n;V;{units}\n{FORMULA};1.5-4.8;{row}\n"
    assert_good(check(tmp_path, content, SampleInfo()), 220.0)


@pytest.mark.parametrize("header", ["temperature (°C)", "Temperature", "temperature_c"])
def test_the_temperature_in_a_table_of_capacities_is_that_of_the_test(tmp_path: Path, header: str) -> None:
    content = capacities(f"current (mA/g);capacity (mAh/g);{header}", "20;220;55")
    checked = check(tmp_path, content)
    assert checked.discharges[0].process.row() == {"temperature_c": 55.0}
    assert checked.discharges[0].as_measurement(FORMULA).conditions.process.row() == {"temperature_c": 55.0}
    for unit in ("K", "°F"):
        wrong = check(tmp_path, content.replace(header, f"temperature ({unit})"))
        assert "give the temperature of the test in °C" in said(wrong, "E8")


# Temperatures


@pytest.mark.parametrize(
    ("header", "values", "said_c"),
    [
        ("Temperature (°C)", [55.0] * len(TWO), 55),
        ("Aux_Temperature_1(C)", [0.3] * len(TWO), 0.3),
        ("T1(℃)", np.linspace(25.0, 60.0, len(TWO)), 42.5),
        ("Temperature (K)", [328.15] * len(TWO), 55),
        ("Temperature (°F)", [131.0] * len(TWO), 55),
        ("Temperatur (°C)", [45.0] * len(TWO), 45),
    ],
)
def test_a_test_far_from_room_temperature_is_doubted_until_that_is_stated(tmp_path, header, values, said_c) -> None:
    content = timed(TWO, (header, values))
    checked = check(tmp_path, content)
    assert checked.status == "doubtful"
    message = next(hit.message for hit in checked.rules if hit.id == "D5")
    assert f"the rows say {said_c:g} °C" in message
    stated = replace(CELL, process=Process.of({"temperature_c": said_c}))
    assert_good(check(tmp_path, content, stated))  # as it says
    other = check(tmp_path, content, replace(CELL, process=Process.of({"temperature_c": 25 if said_c != 25 else 60})))
    assert [hit.id for hit in other.rules if "table says 25 °C" in hit.message] == ["W7"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Temperature (°C)", 25.3),
        ("Temperature (°C)", 0.0),  # not connected
        ("Temperature (°C)", -273.15),
        ("Temperature (°C)", "n/a"),
        ("Temperature (K)", 298.0),
        ("Temperature (°F)", 77.0),
        ("Internal temperature (°C)", 45.0),
        ("Temperature (V)", 0.5),
    ],
)
def test_a_room_and_a_sensor_that_tells_nothing_are_no_other_temperature(tmp_path: Path, header, value) -> None:
    assert_good(check(tmp_path, timed(TWO, (header, [value] * len(TWO)))))


# How a file is written


def told(header: tuple[str, str, str], scale: float = 1.0) -> str:
    return lab.text(list(zip(header, (TWO.time_s, TWO.voltage_v, TWO.current_ma * scale), strict=True)))


ENGLISH = ("Time (s)", "Voltage (V)", "Current (mA)")
CYRILLIC = ("Время (с)", "Напряжение (В)", "Ток (мА)")


@pytest.mark.parametrize(
    ("encoding", "header"),
    [
        ("utf-16-le", ENGLISH),
        ("utf-16-be", ENGLISH),
        ("utf-16-le", CYRILLIC),
        ("utf-16-be", CYRILLIC),
        ("utf-32", ENGLISH),
        ("koi8_r", CYRILLIC),
        ("iso8859_5", CYRILLIC),
        ("mac_roman", ("Prüfzeit (s)", "Spannung (V)", "Strom (mA)")),
        ("cp850", ("Prüfzeit (s)", "Spannung (V)", "Strom (mA)")),
        ("euc_jp", ("時間(秒)", "電圧(V)", "電流(mA)")),
        ("cp949", ("시간(초)", "전압(V)", "전류(mA)")),
        ("utf-8", ("Ｔｉｍｅ（ｓ）", "Ｖｏｌｔａｇｅ（Ｖ）", "Ｃｕｒｒｅｎｔ（ｍＡ）")),
        ("utf-8", ("Time (s)", "Voltage (V)", "Current (㎃)")),
        ("utf-8", ("Elapsed (s)", "Voltage (V)", "Current (mA)")),
    ],
)
def test_more_encodings_are_read(tmp_path: Path, encoding: str, header: tuple[str, str, str]) -> None:
    assert_good(check(tmp_path, told(header).encode(encoding)))


@pytest.mark.parametrize(
    "digits", ["０１２３４５６７８９．－", "٠١٢٣٤٥٦٧٨٩٫-", "۰۱۲۳۴۵۶۷۸۹٫-", "०१२३४५६७८९.-", "0123456789·−"]
)
@pytest.mark.parametrize("separator", ["\t", ";"])
def test_numbers_in_other_scripts_are_read(tmp_path: Path, digits: str, separator: str) -> None:
    header, rows = lab.plain(TWO).replace(",", separator).split("\n", 1)
    assert_good(check(tmp_path, f"{header}\n{rows.translate(str.maketrans('0123456789.-', digits))}"))


@pytest.mark.parametrize(
    "header", ["Time (s) Voltage (V) Current (mA)", "Time/s Ewe/V I/mA", "time voltage current_mA"]
)
@pytest.mark.parametrize("space", [" ", "  "])
def test_columns_between_spaces_are_read_or_told(tmp_path: Path, header: str, space: str) -> None:
    rows = lab.below(lab.plain(TWO)).replace(",", space)
    assert_good(check(tmp_path, f"{header.replace(' ', space) if '(' not in header else header}\n{rows}"))
    message = said(check(tmp_path, f"Test Time (s) Voltage (V) Current (mA)\n{rows.replace('  ', ' ')}"), "E9")
    assert "separated by single spaces" in message
    assert "Save the table with tabs, semicolons or commas" in message
    assert_good(check(tmp_path, "Test Time (s)\tVoltage (V)\tCurrent (mA)\n" + "\t".join(rows.split(space))[:-1]))


@pytest.mark.parametrize(
    "text", ["The time, voltage and current were logged.", 20 * "time voltage current ", "a;time;voltage;current"]
)
def test_a_sentence_is_no_header_between_spaces(tmp_path: Path, text: str) -> None:
    assert "separated by single spaces" not in said(check(tmp_path, f"{text}\n" * 30), "E9")


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("code", ["-999", "-9999.0", "-99999"])
def test_a_number_that_stands_for_no_value_is_none(tmp_path: Path, column: int, code: str) -> None:
    lines = [line.split(",") for line in lab.plain(lab.rows(220.0, 215.0, points=200)).strip().split("\n")]
    for row in (30, 250, 300, 500):
        lines[row][column] = code
    checked = check(tmp_path, "\n".join(map(",".join, lines)))
    assert_good(checked)
    assert any("stands for no value; left out" in note for note in checked.notes)


def test_a_current_of_999_ma_is_one(tmp_path: Path) -> None:
    big = TWO.assign(current_ma=TWO.current_ma / 0.04 * 999)
    checked = check(tmp_path, lab.plain(big), replace(CELL, active_mass_mg=99.9, current_ma_g=10_000.0))
    assert checked.discharges[0].current_ma == 999.0


@pytest.mark.parametrize("error", ["#REF!", "#DIV/0!", "#N/A", "#VALUE!", "---", "null"])
def test_a_column_of_errors_that_nobody_needs_refuses_nothing(tmp_path: Path, error: str) -> None:
    columns = [("Time (s)", TWO.time_s), ("Voltage (V)", TWO.voltage_v), ("Current (mA)", TWO.current_ma)]
    assert_good(check(tmp_path, lab.text([*columns, ("Capacity (mAh)", [error] * len(TWO))])))
    workbook = lab.book(tmp_path / "cell.xlsx", ("Sheet1", [*columns, ("Capacity (mAh)", [error] * len(TWO))]))
    assert_good(check_file(workbook, CELL))


@pytest.mark.parametrize("against", ["SHE", "Ag/AgCl", "Na/Na+", "graphite", "LTO", "SCE"])
@pytest.mark.parametrize("header", ["Potential (V vs. {})", "Ewe/V vs {}"])
def test_a_voltage_against_another_electrode_is_refused(tmp_path: Path, against: str, header: str) -> None:
    columns = [("Time (s)", TWO.time_s), (header.format(against), TWO.voltage_v), ("Current (mA)", TWO.current_ma)]
    assert "against another electrode than lithium" in said(check(tmp_path, lab.text(columns)), "E12")
    first = TWO[(TWO.state == "D") & (TWO.cycle == 1)]
    curve = lab.text([("Capacity (mAh/g)", first.moved_mah / 2e-3), (header.format(against), first.voltage_v)])
    assert "against another electrode than lithium" in said(check(tmp_path, curve), "E12")


@pytest.mark.parametrize("against", ["Li/Li+", "Li", "Li+/Li0", "lithium", "ref", "CE", "RE", "Li metal"])
def test_a_voltage_against_lithium_is_one(tmp_path: Path, against: str) -> None:
    header = (f"Time (s),Potential (V vs. {against}),Current (mA)\n", lab.below(lab.plain(TWO)))
    assert_good(check(tmp_path, "".join(header)))


OTHER = lab.rows(180.0, 175.0, points=40)
OTHER["voltage_v"] -= 0.003


def of(t: pd.DataFrame, *names: str, hours: float = 1.0) -> lab.Columns:
    return list(zip(names or ENGLISH, (t.time_s / hours, t.voltage_v, t.current_ma), strict=True))


@pytest.mark.parametrize("titles", [("old", "new"), ("low", "high"), ("HE-1", "HE-2")])
def test_a_sheet_of_another_test_with_other_columns_is_not_passed_over(tmp_path: Path, titles) -> None:
    hours = ("t (h)", "E (V)", "I (mA)")
    both = lab.book(tmp_path / "both.xlsx", (titles[0], of(TWO)), (titles[1], of(OTHER, *hours, hours=3600.0)))
    assert f"sheets {titles[0]} and {titles[1]} hold different tests" in said(check_file(both, CELL), "E9")
    copy = lab.book(tmp_path / "copy.xlsx", (titles[0], of(TWO)), (titles[1], of(TWO, *hours, hours=3600.0)))
    assert_good(check_file(copy, CELL))
    some = lab.book(tmp_path / "some.xlsx", ("a", of(TWO)), ("b", of(TWO.iloc[::5], *hours, hours=3600.0)))
    assert_good(check_file(some, CELL))


# What two columns, or a charge and a discharge, say of each other


@pytest.mark.parametrize("rows", [3, 8, 20])
def test_a_current_that_reads_0_while_the_voltage_falls_is_no_pause(tmp_path: Path, rows: int) -> None:
    t = TWO.copy()
    t.loc[FIRST_DISCHARGE + 15 : FIRST_DISCHARGE + 15 + rows, "current_ma"] = 0.0
    assert "the current reads 0 in rows in which the voltage falls" in said(check(tmp_path, lab.plain(t)), "E7")
    without = t.drop(index=range(FIRST_DISCHARGE + 15, FIRST_DISCHARGE + 16 + rows))
    assert_good(check(tmp_path, lab.plain(without)))  # as it says
    assert_good(check(tmp_path, lab.plain(lab.with_pauses((0.5, 2.0)))), 220.0)


def drx_td(charged_to: float = 4.8, cycles: tuple[int, ...] = (1, 2)) -> str:
    def curve(state: str, cycle: int) -> dict[str, list[float]]:
        part = TWO[(TWO.state == state) & (TWO.cycle == cycle)]
        volts = np.minimum(part.voltage_v, charged_to) if state == "C" else part.voltage_v
        return {"Voltage(V)": list(volts), "Capacity(mAh/g)": list(part.moved_mah / 2e-3)}

    return json.dumps(
        {
            "composition": {"Li": 1.2, "Mn": 0.4, "Ti": 0.4, "O": 2.0},
            "test_current(mA/g)": 20.0,
            "low_voltage(V)": 1.5,
            "high_voltage(V)": 4.8,
            "charge_info": [[n, curve("C", i)] for i, n in enumerate(cycles, start=1)],
            "discharge_info": [[n, curve("D", i)] for i, n in enumerate(cycles, start=1)],
        }
    )


@pytest.mark.parametrize("charged_to", [4.42, 4.6, 4.65])
def test_a_drx_td_charge_that_ended_early_is_not_its_window(tmp_path: Path, charged_to: float) -> None:
    message = said(check(tmp_path, drx_td(charged_to)), "E4")
    assert f"follows a charge to {charged_to:g} V, not 4.8 V" in message
    for good in (4.75, 4.8):
        assert_good(check(tmp_path, drx_td(good)))


@pytest.mark.parametrize("cycle", [1, 2, 50])
def test_a_drx_td_file_has_one_discharge_of_a_cycle(tmp_path: Path, cycle: int) -> None:
    message = said(check(tmp_path, drx_td(cycles=(cycle, cycle))), "E9")
    assert f"holds 2 discharges of cycle {cycle}" in message
    assert_good(check(tmp_path, drx_td(cycles=(cycle, cycle + 1))))


@pytest.mark.parametrize("unit", ["mAh/g", "Ah/kg", "Ah/g"])
def test_a_table_of_which_charge_and_discharge_are_exchanged_is_refused(tmp_path: Path, unit: str) -> None:
    def table(charge: str, discharge: str) -> str:
        scale = 1e-3 if unit == "Ah/g" else 1.0
        rows = [(1, 260.0, 220.0), (2, 222.0, 215.0), (3, 216.0, 211.0)]
        lines = [f"{n},{q * scale:.5f},{d * scale:.5f}" for n, q, d in rows]
        return "\n".join([f"cycle,{charge} ({unit}),{discharge} ({unit})", *lines]) + "\n"

    message = said(check(tmp_path, table("discharge capacity", "charge capacity")), "E12")
    assert "are the two exchanged" in message
    assert_good(check(tmp_path, table("charge capacity", "discharge capacity")), 220.0, 215.0, 211.0)


def test_a_first_discharge_beyond_its_charge_is_warned_of_in_a_table(tmp_path: Path) -> None:
    checked = check(tmp_path, "cycle,charge capacity (mAh/g),discharge capacity (mAh/g)\n1,150,220\n2,222,215\n")
    assert_good(checked)
    assert "W1" in {hit.id for hit in checked.rules}
    for nothing in ("", "-", "n.d.", "260*"):
        assert_good(check(tmp_path, f"cycle,charge (mAh/g),discharge (mAh/g)\n1,{nothing},220\n2,{nothing},215\n"))


@pytest.mark.parametrize(("unit", "scale"), [("V", 1.0), ("mV", 1e3), ("mV vs. Li/Li+", 1e3)])
def test_a_curve_in_millivolts_is_read(tmp_path: Path, unit: str, scale: float) -> None:
    first = TWO[(TWO.state == "D") & (TWO.cycle == 1)]
    content = lab.text([("Capacity (mAh/g)", first.moved_mah / 2e-3), (f"Voltage ({unit})", first.voltage_v * scale)])
    assert_good(check(tmp_path, content), 220.0)


@pytest.mark.parametrize("current_ma_g", [0.1, 0.11])
def test_a_c_rate_as_a_current_is_refused_from_python(campaign: Campaign, current_ma_g: float) -> None:
    row = {"composition": FORMULA, "capacity_mah_g": 240.0}
    with pytest.raises(MeasurementError, match="A discharge lasts 90 days at most.*is the current a C-rate"):
        campaign.add_measurements([{**row, "current_ma_g": current_ma_g}], fine_tune=False)
    assert campaign.add_measurements([{**row, "current_ma_g": 0.2}], fine_tune=False)


@pytest.mark.parametrize(("current_ma_g", "capacity"), [(5000.0, 60.0), (10_000.0, 90.0), (20_000.0, 40.0)])
def test_a_discharge_of_seconds_is_one_at_a_high_rate(tmp_path: Path, current_ma_g: float, capacity: float) -> None:
    t = lab.rows(capacity, points=60, current_ma_g=current_ma_g, first_charge=1.2 * capacity)
    assert_good(check(tmp_path, lab.plain(t), replace(CELL, current_ma_g=current_ma_g)), capacity)
    little = lab.rows(5.0, points=60, current_ma_g=current_ma_g, first_charge=6.0)
    refused = check(tmp_path, lab.plain(little), replace(CELL, current_ma_g=current_ma_g))
    assert "between a minute and 90 days is possible" in said(refused, "E8")


@pytest.mark.parametrize("charge", ["Discharge Capacity (mAh)", "Capacity (mAh)"])
@pytest.mark.parametrize("told_mg", [2.0, 2.5, 1000.0, 0.0])
def test_the_mass_behind_a_capacity_per_gram_is_compared(tmp_path: Path, charge: str, told_mg: float) -> None:
    """1000 mg is what instruments fill in by themselves; a column of zeros tells nothing."""
    t = lab.rows(220.0)
    moved = t.discharge_mah if charge.startswith("Dis") else t.moved_mah
    per_gram = [f"{q / told_mg * 1e3 if told_mg else 0:.4f}" for q in moved]
    columns = [("Time (s)", t.time_s), ("Voltage (V)", t.voltage_v), ("Current (mA)", t.current_ma), (charge, moved)]
    checked = check(tmp_path, lab.text([*columns, ("Spec. Capacity (mAh/g)", per_gram)]), CELL)
    words = [hit.message for hit in checked.rules if hit.id == "W7"]
    assert words == (["cell.csv: it says 2.5 mg; table says 2 mg. The table is used."] if told_mg == 2.5 else [])
    assert checked.discharges[0].capacity_mah_g == pytest.approx(220.0, rel=2e-3)
