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
from lab_files import CELL, assert_good, check, said

from campaigns.intake.measurement import SampleInfo
from campaigns.intake.samples import read_samples
from campaigns.intake.validation import check_file
from drxnet.errors import ConfigurationError

TWO = lab.rows(220.0, 215.0, points=40)
MOVED = np.cumsum(TWO.current_ma * np.diff(TWO.time_s, prepend=0.0) / 3600)
"""Net charge since the start (mAh)."""

FIRST_DISCHARGE = int(np.flatnonzero(TWO.state == "D")[0])


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


@pytest.mark.parametrize("beside", [("Step", 1), ("Loop", 1), ("State", "OK"), ("Mode", "Running")])
@pytest.mark.parametrize("header", ["Step Time (s)", "Time (s)"])
def test_a_step_or_a_state_that_never_changes_tells_nothing(tmp_path: Path, header: str, beside: tuple) -> None:
    t = lab.rows(220.0, 215.0)
    assert_good(check(tmp_path, columns(t, (beside[0], [beside[1]] * len(t)), (header, t.step_s))))


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


@pytest.mark.parametrize("sign", [1, -1])
def test_a_current_that_trembles_in_a_rest_is_no_discharge(tmp_path: Path, sign: int) -> None:
    t = lab.rows(220.0, 215.0, points=40, current_ma_g=1000.0)  # of which the first rest is longer than ten intervals
    t["current_ma"] = np.where(t.state == "R", sign * 1e-3 * (-1) ** t.record, t.current_ma)
    assert_good(check(tmp_path, lab.plain(t), replace(CELL, current_ma_g=1000.0)))


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


def test_a_cell_that_runs_still_is_doubted_where_no_window_is_stated(tmp_path: Path) -> None:
    bare = replace(CELL, window=None, current_ma_g=None)
    for rows, doubts in ((25, ["D2"]), (43, [])):  # at 2.8 V, and at its end
        checked = check(tmp_path, lab.plain(TWO.iloc[: FIRST_DISCHARGE + rows]), bare)
        assert [hit.id for hit in checked.rules if hit.severity == "doubt"] == doubts
        assert checked.status == ("doubtful" if doubts else "warned")
    assert check(tmp_path, lab.plain(TWO), bare).status == "warned"
    assert "ends at" in said(check(tmp_path, lab.plain(TWO.iloc[: FIRST_DISCHARGE + 25])), "E4")


@pytest.mark.parametrize(("top", "refused"), [(4.6, True), (4.72, False)])
def test_a_charge_beyond_the_stated_window_is_another_window(tmp_path: Path, top: float, refused: bool) -> None:
    checked = check(tmp_path, lab.plain(TWO), replace(CELL, window=(1.5, top)))
    assert (checked.status == "refused") is refused
    if refused:
        assert f"follows a charge to 4.8 V, beyond {top:g} V" in said(checked, "E4")
    assert_good(check(tmp_path, lab.plain(TWO)))


def test_a_discharge_that_goes_on_after_a_short_charge_is_left_out_with_a_word(tmp_path: Path) -> None:
    first, charge, rest, *_ = lab.steps(220.0)
    parts = [
        lab.half("D", 5.5, -0.04, lambda x: lab.discharge_v(x / 2), 20),
        lab.half("C", 0.5, 0.04, lambda x: 3.2 + 0.2 * x, 4),
        lab.half("D", 6.0, -0.04, lambda x: lab.discharge_v(0.45 + 0.55 * x), 20),
    ]
    checked = check(tmp_path, lab.plain(lab.joined(first, charge, rest, *parts)), replace(CELL, window=None))
    assert "1 discharge without a real charge before left out" in checked.notes


# Several cells in one table


OTHER = lab.rows(180.0, 175.0, points=40)
OTHER["voltage_v"] -= 0.003


@pytest.mark.parametrize("suffix", ["", ".1"], ids=["same", "pandas"])
@pytest.mark.parametrize("separator", [",", "\t"], ids=["comma", "tab"])
@pytest.mark.parametrize("shared", [0, 1], ids=["own time", "one time"])
def test_two_cells_side_by_side_are_refused(tmp_path: Path, suffix: str, separator: str, shared: int) -> None:
    def of(t: pd.DataFrame, suffix: str = "") -> list:
        names = ("Time (s)", "Voltage (V)", "Current (mA)")
        return [(f"{name}{suffix}", v) for name, v in zip(names, (t.time_s, t.voltage_v, t.current_ma), strict=True)]

    message = said(check(tmp_path, lab.text([*of(TWO), *of(OTHER, suffix)[shared:]], separator)), "E9")
    assert "are both named" in message
    assert_good(check(tmp_path, lab.text([*of(TWO), *of(TWO, suffix)[shared:]], separator)))
    workbook = lab.book(tmp_path / "cells.xlsx", ("Sheet1", [*of(TWO), *of(OTHER, suffix)[shared:]]))
    assert "are both named" in said(check_file(workbook, CELL), "E9")


def test_a_difference_of_voltages_is_no_voltage(tmp_path: Path) -> None:
    content = lab.text([("ΔV (V)", TWO.voltage_v - 3), ("V (V)", TWO.voltage_v), ("Δt (s)", TWO.step_s),
                        ("t (s)", TWO.time_s), ("I (mA)", TWO.current_ma)])  # fmt: skip
    assert_good(check(tmp_path, content))


D = TWO[(TWO.state == "D") & (TWO.cycle == 1)]
Q, V = D.moved_mah / 2e-3, D.voltage_v


@pytest.mark.parametrize(("first", "second"), [("0.1C", "5C"), ("HE-1", "HE-2"), ("cell A", "cell B"), ("new", "aged")])
def test_curves_under_titles_that_are_no_cycles_are_not_numbered_by_their_place(tmp_path, first, second) -> None:
    pairs = lab.ragged([("Capacity (mAh/g)", Q), ("Voltage (V)", V), ("Capacity (mAh/g)", 0.6 * Q), ("Voltage (V)", V)])
    message = said(check(tmp_path, f"{first},,{second},\n{pairs}"), "E9")
    assert first in message
    assert "nothing says which is which" in message
    assert_good(check(tmp_path, f"cycle 1,,cycle 2,\n{pairs}"), 220.0, 132.0)
    assert_good(check(tmp_path, pairs), 220.0, 132.0)


@pytest.mark.parametrize(
    "header", ["SOC (%)", "DoD (%)", "Electrode capacity (mAh/g)", "Charge passed (mAh)", "Areal capacity (mAh/cm2)"]
)
def test_a_curve_against_anything_but_a_capacity_of_the_oxide_is_refused(tmp_path: Path, header: str) -> None:
    content = lab.text([(header, 0.7 * Q), ("Voltage (V)", V)])
    assert repr(header)[1:-1] in said(check(tmp_path, content), "E8")
    assert_good(check(tmp_path, lab.text([("Capacity (mAh/g)", Q), ("Voltage (V)", V)])), 220.0)


# Tables of cycles


TABLE = "Cycle,Charge Cap. (mAh/g),Discharge Cap. (mAh/g){more}\n1,260,220{one}\n2,224,215{two}\n"
CYCLES = TABLE.format(more="", one="", two="")


def test_a_table_of_cycles_is_read_whatever_stands_beside(tmp_path: Path) -> None:
    assert_good(check(tmp_path, CYCLES))
    assert_good(check(tmp_path, TABLE.format(more=",ΔV (V)", one=",0.5", two=",0.5")))


def test_a_cycle_that_runs_still_is_left_out_and_one_that_may_is_told(tmp_path: Path) -> None:
    running = check(tmp_path, CYCLES + "3,219,\n")
    assert_good(running)
    assert "row 4 holds no discharge yet; left out" in running.notes
    assert "the capacity is missing" in said(check(tmp_path, CYCLES.replace(",220", ",")), "E9")
    partial = check(tmp_path, CYCLES + "3,219,80\n")
    assert [hit.id for hit in partial.rules] == ["W6"]
    assert check(tmp_path, CYCLES + "3,219,211\n").rules == ()


def test_a_cycle_has_one_capacity(tmp_path: Path) -> None:
    assert_good(check(tmp_path, CYCLES + "2,224,215\n"))
    assert "rows 3 and 4: two capacities of cycle 2" in said(check(tmp_path, CYCLES + "2,224,190\n"), "E9")
    twice = TABLE.format(more=",Discharge Cap. (mAh/g)", one=",{}", two=",{}")
    assert "are both named 'Discharge Cap. (mAh/g)'" in said(check(tmp_path, twice.format(100, 99)), "E9")
    assert_good(check(tmp_path, twice.format(220, 215)))


def test_a_thousand_may_not_be_taken_for_a_decimal(tmp_path: Path) -> None:
    rows = "composition;current (mA/g);window;capacity (mAh/g)\nLi1.2Mn0.4Ti0.4O2;{};1.5-4.8;120{}\n"
    message = said(check(tmp_path, rows.format("1,000", "")), "E9")
    assert "'1,000' may be a thousand or a decimal" in message
    assert "'1.000' may be" in said(check(tmp_path, rows.format("1.000", ",5")), "E9")
    for written, capacity in (("1000", ""), ("1000", ",0"), ("1000.0", ".0")):
        checked = check(tmp_path, rows.format(written, capacity))
        assert_good(checked, 120.0)
        assert checked.discharges[0].conditions.current_ma_g == 1000.0


@pytest.mark.parametrize(
    "formula",
    ["Li₁.₂Mn₀.₄Ti₀.₄O₂", "Li$_{1.2}$Mn$_{0.4}$Ti$_{0.4}$O$_2$", "Li_1.2Mn_0.4Ti_0.4O_2", "Li1.2\u00a0Mn0.4 Ti0.4 O2"],
)
def test_a_formula_is_read_as_it_stands_in_a_text(tmp_path: Path, formula: str) -> None:
    checked = check(tmp_path, lab.plain(TWO), replace(CELL, composition=formula))
    assert_good(checked)
    assert str(checked.discharges[0].composition) == "Li1.2Ti0.4Mn0.4O2"


def test_a_formula_off_balance_is_warned_of_in_every_file(tmp_path: Path) -> None:
    for _ in range(2):
        checked = check(tmp_path, lab.plain(TWO), replace(CELL, composition="Li1.13Mn0.4Ti0.4O2"))
        assert "E10" in {hit.id for hit in checked.rules}


@pytest.mark.parametrize("formula", ["1.2Li 0.4Mn 0.4Ti 2O", "Li1,2Mn0,4Ti0,4O2", "Li1.2Mn3+0.4Ti4+0.4O2"])
def test_a_text_that_is_no_formula_says_nothing_of_the_lithium(tmp_path: Path, formula: str) -> None:
    checked = check(tmp_path, lab.plain(TWO), replace(CELL, composition=formula))
    assert {hit.id for hit in checked.rules if hit.severity == "error"} == {"E10"}


# Words and workbooks


@pytest.mark.parametrize(
    ("time", "voltage", "current"),
    [
        ("Tijd", "Spanning", "Stroom"), ("Tid", "Spänning", "Ström"), ("Czas", "Napięcie", "Prąd"),
        ("Čas", "Napětí", "Proud"), ("Zaman", "Gerilim", "Akım"), ("Time", "Voltage_measured", "Current_measured"),
    ],
)  # fmt: skip
def test_more_languages_are_read(tmp_path: Path, time: str, voltage: str, current: str) -> None:
    values = (TWO.time_s, TWO.voltage_v, TWO.current_ma)
    headers = (f"{time} (s)", f"{voltage} (V)", f"{current} (mA)")
    assert_good(check(tmp_path, lab.text(list(zip(headers, values, strict=True)), ";", ",")))


def test_a_workbook_that_keeps_numbers_as_text_with_a_comma_is_read(tmp_path: Path) -> None:
    def comma(values: pd.Series) -> list[str]:
        return [f"{value:.4f}".replace(".", ",") for value in values]

    mixed = [("Time (s)", TWO.time_s), ("Voltage (V)", comma(TWO.voltage_v)), ("Current (mA)", comma(TWO.current_ma))]
    assert_good(check_file(lab.book(tmp_path / "cell.xlsx", ("Sheet1", mixed)), CELL))


# Sample tables


def samples(tmp_path: Path, header: str, cells: str) -> SampleInfo:
    path = tmp_path / "samples.csv"
    path.write_text(f"file,composition,{header}\ncell.csv,Li1.2Mn0.4Ti0.4O2,{cells}\n")
    return next(iter(read_samples(path).values()))


@pytest.mark.parametrize("fraction", ["7", "0.007", "20", "0"])
def test_a_share_of_oxide_that_no_electrode_has_is_refused(tmp_path: Path, fraction: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Got .*For 70:20:10 write 0.7"):
        samples(tmp_path, "electrode_mass_mg,active_fraction", f"2.6,{fraction}")
    for written in ("0.7", "70", "70 %"):
        assert samples(tmp_path, "electrode_mass_mg,active_fraction", f"2.6,{written}").active_mass_mg == 2.6 * 0.7


@pytest.mark.parametrize("written", ["-", "–", "n/a", "NaN", "none"])
def test_a_dash_in_a_sample_table_says_nothing(tmp_path: Path, written: str) -> None:
    sample = samples(tmp_path, "active_mass_mg,current_ma_g,window,cell", f"2.0,{written},{written},{written}")
    assert sample == SampleInfo(2.0, "Li1.2Mn0.4Ti0.4O2")


@pytest.mark.parametrize(
    ("header", "written", "words"),
    [
        ("window", "1500-4800", "Cut-offs lie within 0-6 V"),
        ("window", "15-48", "Cut-offs lie within 0-6 V"),
        ("current_ma_g", '"1,000"', "may be a thousand or a decimal"),
    ],
)
def test_a_condition_in_another_unit_is_refused(tmp_path: Path, header: str, written: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        samples(tmp_path, f"active_mass_mg,{header}", f"2.0,{written}")
