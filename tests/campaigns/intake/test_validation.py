"""Rules: the expected numbers of real files, each rule on a file that breaks it, and the wording."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_cycler as cycler
from synthetic import write_drx_td_example

from campaigns.intake.measurement import CheckedFile, SampleInfo
from campaigns.intake.readers.recording import ReadOptions
from campaigns.intake.validation import RULES, check_file, check_replicates, numbered_from
from drxnet import drxtd
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions

SAMPLE = SampleInfo(cycler.MASS_MG, cycler.COMPOSITION, cycler.RATE_MA_G, cycler.WINDOW)


def check(
    tmp_path: Path, t: pd.DataFrame, sample: SampleInfo = SAMPLE, export=cycler.arbin_csv, **options
) -> CheckedFile:
    path = cycler.write(tmp_path / "cell.csv", export(t))
    return check_file(path, sample, ReadOptions(**options))


def errors(checked: CheckedFile) -> list[str]:
    return [hit.id for hit in checked.rules if hit.severity == "error"]


def warned(checked: CheckedFile) -> list[str]:
    return [hit.id for hit in checked.rules if hit.severity == "warning"]


def message(checked: CheckedFile, rule: str) -> str:
    return next(hit.message for hit in checked.rules if hit.id == rule)


# What is accepted


def test_a_csv_as_the_published_one_is_accepted_with_ten_cycles(tmp_path: Path) -> None:
    checked = check_file(write_drx_td_example(tmp_path / "example.csv"))
    assert checked.status == "accepted"
    assert len(checked.discharges) == 10
    first = checked.discharges[0]
    assert (first.capacity_mah_g, first.v_end) == (pytest.approx(240, abs=0.1), pytest.approx(1.5, abs=0.001))
    assert first.provenance == "drx-td"
    assert first.conditions == CyclingConditions(20.0, 1.5, 4.8, 1)
    for discharge in checked.discharges:
        assert (np.diff(discharge.profile.capacity_mah_g) <= 0).all()


@pytest.mark.parametrize("variant", [v for v in cycler.EXPORTS if "biologic mpt" not in v and "bt-lab" not in v])
def test_a_good_file_is_accepted_whatever_wrote_it(tmp_path: Path, variant: str) -> None:
    checked = check(tmp_path, cycler.cell_test(), export=cycler.EXPORTS[variant][1])
    assert (checked.status, checked.rules) == ("accepted", ())
    first, second = checked.discharges
    assert first.capacity_mah_g == pytest.approx(240, rel=1e-3)
    assert first.conditions == CyclingConditions(20.0, 1.5, 4.8, 1)
    assert second.conditions.cycle == 2
    assert first.composition == Composition.parse(cycler.COMPOSITION)
    assert first.profile.voltage_v[[0, -1]].tolist() == [1.5, 4.8]
    assert first.sigma_mah_g > 0


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test())
    assert checked.sha256 == hashlib.sha256((tmp_path / "cell.csv").read_bytes()).hexdigest()


def test_a_checked_file_has_the_keys_of_the_contract(tmp_path: Path) -> None:
    row = json.loads(json.dumps(check(tmp_path, cycler.cell_test(), SampleInfo()).as_row()))
    assert list(row) == ["file", "format", "status", "rules", "discharges"]
    assert list(row["rules"][0]) == ["id", "message"]
    assert list(row["discharges"][0]) == [
        "cycle", "capacity_mah", "capacity_mah_g", "current_ma", "v_start", "v_end", "rows", "all_steps_capacity_mah",
    ]  # fmt: skip


def test_without_a_mass_the_capacity_in_mah_is_still_given(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo())
    assert errors(checked) == ["E2"]
    first = checked.discharges[0]
    assert first.capacity_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-4)
    assert (first.capacity_mah_g, first.profile, first.conditions) == (None, None, None)


# Errors


def test_e1_names_rows_and_rest(tmp_path: Path) -> None:
    t = cycler.assemble(cycler.rest_step(rows=30), cycler.charge_step(0.4, rows=70))
    checked = check(tmp_path, t)
    assert errors(checked) == ["E1"]
    assert "cell.csv: no discharge after a charge found (100 rows, 30 rest)" in message(checked, "E1")


@pytest.mark.parametrize("mass", [0.0, -1.0, 0.001, 1000.0, 7000.0, 0.05, 150.0, float("nan")])
def test_e2_refuses_masses_that_nobody_weighed(tmp_path: Path, mass: float) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(mass, window=cycler.WINDOW))
    assert "E2" in errors(checked)


def test_e2_says_what_the_header_says(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(), cycler.biologic_mpt)
    assert "file says 1.8 mg" in message(checked, "E2")
    default = check(
        tmp_path, cycler.cell_test(), SampleInfo(), lambda t: cycler.biologic_mpt(t).replace("1.800", "7000")
    )
    assert "file says 7000 mg, an instrument default" in message(default, "E2")


def test_e2_knows_the_default_of_novonix(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(), cycler.novonix_csv)
    assert "file says 1000 mg, an instrument default" in message(checked, "E2")


def test_a_header_mass_never_stands_in_for_the_table(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(), cycler.biologic_mpt)
    assert checked.discharges[0].capacity_mah_g is None


def test_e3_refuses_more_than_all_lithium(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(1.0, cycler.COMPOSITION, window=cycler.WINDOW))
    assert errors(checked) == ["E3"]
    assert "432 mAh/g exceeds the Li capacity of Li1.2Ti0.4Mn0.4O2 (394.9 mAh/g). Check mass (1 mg)" in message(
        checked, "E3"
    )
    near = check(tmp_path, cycler.cell_test(), SampleInfo(1.12, cycler.COMPOSITION, window=cycler.WINDOW))
    assert (errors(near), warned(near)) == ([], ["E3"])


def test_e3_holds_without_a_composition_too(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(0.5, window=cycler.WINDOW))
    assert "more than any rocksalt holds" in message(checked, "E3")


@pytest.mark.parametrize(
    ("window", "words"),
    [((1.0, 4.8), "ends at 1.5 V, not 1 V"), ((1.5, 5.4), "starts at 4.74 V, more than 0.5 V below 5.4 V")],
)
def test_e4_refuses_a_discharge_that_misses_its_window(tmp_path: Path, window: tuple[float, float], words: str) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(1.8, cycler.COMPOSITION, 20.0, window))
    assert errors(checked) == ["E4"]
    assert f"cell.csv cycle 1: discharge {words}" in message(checked, "E4")


def test_e4_leaves_out_a_later_interrupted_cycle(tmp_path: Path) -> None:
    short = cycler.discharge_step().iloc[:120]
    steps = [cycler.charge_step(0.45), cycler.discharge_step(), cycler.charge_step(0.44), short]
    t = cycler.assemble(*steps, cycler.charge_step(0.3), cycler.discharge_step(0.41))
    checked = check(tmp_path, t)
    assert (errors(checked), warned(checked)) == ([], ["E4"])
    assert [d.cycle for d in checked.discharges] == [1, 3]


def test_e5_names_the_ratio(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(1.8, cycler.COMPOSITION, 10.0, cycler.WINDOW))
    assert errors(checked) == ["E5"]
    assert "current is 20 mA/g, table says 10. Mass or rate is wrong by 2." in message(checked, "E5")
    near = check(tmp_path, cycler.cell_test(), SampleInfo(1.8, cycler.COMPOSITION, 20.7, cycler.WINDOW))
    assert (errors(near), warned(near)) == ([], ["E5"])


def test_a_rate_staircase_keeps_its_own_currents_and_cycles(tmp_path: Path) -> None:
    t = cycler.assemble(
        cycler.charge_step(0.45), cycler.discharge_step(), cycler.charge_step(0.44), cycler.discharge_step(0.3, 1.8)
    )
    checked = check(tmp_path, t)
    assert warned(checked) == ["E5"]
    assert [(d.cycle, round(d.conditions.current_ma_g)) for d in checked.discharges] == [(1, 20), (2, 1000)]


def test_a_rate_staircase_is_flagged_without_a_stated_current(tmp_path: Path) -> None:
    steps = [cycler.charge_step(0.45), cycler.discharge_step(), cycler.charge_step(0.44)]
    unstated = SampleInfo(1.8, cycler.COMPOSITION, None, cycler.WINDOW)
    stairs = check(tmp_path, cycler.assemble(*steps, cycler.discharge_step(0.3, 1.8)), unstated)
    assert (errors(stairs), warned(stairs)) == ([], ["E5"])
    assert "cycle 2: discharged at 1000 mA/g, the first at 20: a rate staircase" in message(stairs, "E5")
    assert [(d.cycle, round(d.conditions.current_ma_g)) for d in stairs.discharges] == [(1, 20), (2, 1000)]
    steady = check(tmp_path, cycler.assemble(*steps, cycler.discharge_step(0.41, 0.0365)), unstated)
    assert (errors(steady), warned(steady)) == ([], [])


def test_e6_warns_of_a_tail_and_refuses_pulses(tmp_path: Path) -> None:
    tail = cycler.step("D", 1.0, -0.01, lambda x: 1.5 + 0 * x, 40)
    checked = check(tmp_path, cycler.assemble(cycler.charge_step(0.5), cycler.discharge_step(), tail))
    assert (errors(checked), warned(checked)) == ([], ["E6"])
    assert "current is not constant (0.036, then 0.01 mA)" in message(checked, "E6")
    whole = cycler.discharge_step()
    pulses = []
    for i in range(6):
        pulse = whole.iloc[30 * i : 30 * i + 30].copy()
        pulse["step_time_s"] -= whole["step_time_s"].iloc[30 * i - 1] if i else 0.0
        pulses += [pulse, cycler.rest_step(3, float(pulse.voltage_v.iloc[-1]) + 0.1, 10)]
    pulsed = check(tmp_path, cycler.assemble(cycler.charge_step(0.5), *pulses))
    assert "E4" in errors(pulsed) or "E6" in errors(pulsed)


@pytest.mark.parametrize(("factor", "severity"), [(1.05, "warning"), (1.2, "error")])
def test_e7_compares_with_the_instrument(tmp_path: Path, factor: float, severity: str) -> None:
    t = cycler.cell_test()
    t["discharge_mah"] /= factor
    hits = check(tmp_path, t).rules
    assert [(hit.id, hit.severity) for hit in hits] == [("E7", severity)]
    assert "integral 0.432 mAh, file says" in hits[0].message


def test_e7_counts_the_digits_of_a_coarse_export(tmp_path: Path) -> None:
    t = cycler.cell_test()
    t["current_ma"] = (t.current_ma / 0.01).round() * 0.01  # one digit: 0.04 for 0.036 mA
    checked = check(tmp_path, t, SampleInfo(1.8, cycler.COMPOSITION, None, cycler.WINDOW))
    assert errors(checked) == ["E7"]
    assert "current exported with 1 digit? Export with more digits." in message(checked, "E7")


UNITS = {
    "mV under V": ({"voltage_v": 1e3}, "--voltage-unit mV", {"voltage_unit": 1e-3}),
    "time 3600 times too large": ({"time_s": 3600.0}, "--time-unit 1/3600", {"time_unit": 1 / 3600}),
    "ms under s": ({"time_s": 1e3}, "--time-unit ms", {"time_unit": 1e-3}),
    "hours under s": ({"time_s": 1 / 3600}, "--time-unit h", {"time_unit": 3600.0}),
    "mA under A": ({"current_ma": 1e3}, "--current-unit", {"current_unit": 1.0}),
}


@pytest.mark.parametrize("unit", list(UNITS))
def test_e8_refuses_a_wrong_unit_and_names_what_settles_it(tmp_path: Path, unit: str) -> None:
    factors, way, options = UNITS[unit]
    t = cycler.cell_test()
    for column, factor in factors.items():
        t[column] *= factor
    checked = check(tmp_path, t)
    assert "E8" in errors(checked)
    assert way in " ".join(hit.message for hit in checked.rules)
    settled = check(tmp_path, t, **options)
    assert settled.status == "accepted"
    assert settled.discharges[0].capacity_mah_g == pytest.approx(240, rel=1e-3)


def test_e8_compares_the_time_column_with_the_dates(tmp_path: Path) -> None:
    t = cycler.cell_test()

    def dated(rows: pd.DataFrame, column: str) -> str:
        stamps = (
            1.7e9 + cycler.cell_test().time_s
            if column == "Unix Time / s"
            else ((pd.Timestamp("2026-03-06") + pd.to_timedelta(cycler.cell_test().time_s, unit="s")).astype(str))
        )
        lines = cycler.bdf_label_csv(rows).strip().split("\n")
        body = [f"{line},{stamp}" for line, stamp in zip(lines[1:], stamps, strict=True)]
        return "\n".join([f"{lines[0]},{column}", *body]) + "\n"

    for column in ("Unix Time / s", "Date Time"):
        assert check(tmp_path, t, export=lambda rows, c=column: dated(rows, c)).status == "accepted"
        checked = check(tmp_path, t.assign(time_s=t.time_s * 60), export=lambda rows, c=column: dated(rows, c))
        assert "the time column runs 60 times as fast as the dates beside it" in message(checked, "E8")


@pytest.mark.parametrize("export", [cycler.bdf_csv, cycler.plain_csv], ids=["bdf", "any table"])
def test_e8_sees_a_wrong_time_without_a_capacity_column_too(tmp_path: Path, export) -> None:
    t = cycler.cell_test()
    t["time_s"] *= 3600
    checked = check(tmp_path, t, export=export)
    assert "E8" in errors(checked)
    assert "--time-unit 1/3600" in message(checked, "E8")


def test_e8_refuses_one_voltage_outside(tmp_path: Path) -> None:
    t = cycler.cell_test()
    t.loc[int(np.flatnonzero(t.state == "D")[20]), "voltage_v"] = 47.0
    checked = check(tmp_path, t)
    assert "voltage 47 V lies outside 0-6 V (1 rows)" in message(checked, "E8")


def test_e8_refuses_a_cell_that_gives_nothing(tmp_path: Path) -> None:
    """As when amperes are called milliamperes in every column, so that nothing contradicts itself."""
    t = cycler.cell_test()
    t[["current_ma", "charge_mah", "discharge_mah", "moved_mah"]] /= 1e3
    checked = check(tmp_path, t, SampleInfo(1.8, cycler.COMPOSITION, None, cycler.WINDOW))
    assert errors(checked) == ["E8", "E8"]
    assert "0.02 mA/g is no rate a cell is cycled at" in message(checked, "E8")
    fast = cycler.assemble(cycler.charge_step(0.0005, 0.0018), cycler.discharge_step(0.0004, 0.0018))
    barely = check(tmp_path, fast, SampleInfo(1.8, cycler.COMPOSITION, None, cycler.WINDOW))
    assert "gives 0.222 mAh/g" in message(barely, "E8")


def test_e8_refuses_an_impossible_rate(tmp_path: Path) -> None:
    t = cycler.assemble(cycler.charge_step(30.0, 100.0), cycler.discharge_step(30.0, 100.0))
    checked = check(tmp_path, t, SampleInfo(1.8, window=cycler.WINDOW))
    assert {"E3", "E8"} <= set(errors(checked))


def test_e9_for_a_file_that_no_reader_knows(tmp_path: Path) -> None:
    path = tmp_path / "letter.csv"
    path.write_text("Dear all,\nplease find attached\n")
    checked = check_file(path, SAMPLE)
    assert (checked.status, errors(checked), checked.format) == ("refused", ["E9"], "unknown")
    assert checked.sha256


def test_e9_for_an_mpr_that_nothing_installed_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "galvani", None)  # as if it were not installed
    (tmp_path / "cell.mpr").write_bytes(b"BIO-LOGIC MODULAR FILE\x1a" + bytes(100))
    checked = check_file(tmp_path / "cell.mpr", SAMPLE)
    assert (errors(checked), checked.format) == (["E9"], "biologic mpr")
    assert "pip install 'drx-screen[biologic]'" in message(checked, "E9")
    assert ".mpt" in message(checked, "E9")


@pytest.mark.parametrize("formula", ["Mn2O4", "Li1.2Mn0.4O2", "water", "Li1.2Xx0.8O2", ""])
def test_e10_refuses_what_is_no_composition(tmp_path: Path, formula: str) -> None:
    assert "E10" in errors(check(tmp_path, cycler.cell_test(), SampleInfo(1.8, formula, 20.0, cycler.WINDOW)))


def test_e10_warns_above_two_percent(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(1.8, "Li1.2Mn0.4Ti0.46O2", 20.0, cycler.WINDOW))
    assert (errors(checked), warned(checked)) == ([], ["E10"])


def test_e12_refuses_an_anode_and_still_lists_its_discharges(tmp_path: Path) -> None:
    down = cycler.step("D", 10, -0.05, lambda x: 2.6 - 2.55 * x**0.2, 100)
    up = cycler.step("C", 9, 0.05, lambda x: 0.1 + 0.9 * x**3, 100)
    checked = check(tmp_path, cycler.assemble(cycler.rest_step(volts=2.6), down, up, down), SampleInfo(2.0))
    assert "E12" in errors(checked)
    assert "this is not a cathode discharge against Li" in message(checked, "E12")
    assert [round(d.capacity_mah, 2) for d in checked.discharges] == [0.5, 0.5]


def test_e12_refuses_a_window_that_does_not_overlap(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(1.8, cycler.COMPOSITION, 20.0, (0.01, 1.2)))
    assert "E12" in errors(checked)


def test_e12_refuses_a_cell_whose_voltage_rises_on_discharge(tmp_path: Path) -> None:
    t = cycler.cell_test()
    t["state"] = t.state.map({"C": "D", "D": "C", "R": "R"})
    assert "E12" in errors(check(tmp_path, t, export=cycler.maccor_mims))


def test_all_broken_rules_are_named_errors_first(tmp_path: Path) -> None:
    t = cycler.cell_test()
    t["discharge_mah"] /= 1.05
    checked = check(tmp_path, t, SampleInfo(None, "Mn2O4", 20.0, (1.0, 4.8)))
    told = [(hit.id, hit.severity) for hit in checked.rules]
    assert told == [("E2", "error"), ("E4", "error"), ("E10", "error"), ("E7", "warning")]


# Warnings


def test_w1_for_a_discharge_before_any_charge(tmp_path: Path) -> None:
    t = cycler.assemble(
        cycler.rest_step(), cycler.discharge_step(0.2), cycler.charge_step(0.4), cycler.discharge_step()
    )
    checked = check(tmp_path, t)
    assert warned(checked) == ["W1"]
    assert "starts with a discharge (0.2 mAh)" in message(checked, "W1")


def test_w1_for_a_discharge_larger_than_its_charge(tmp_path: Path) -> None:
    assert warned(check(tmp_path, cycler.assemble(cycler.charge_step(0.3), cycler.discharge_step()))) == ["W1"]


def test_w2_for_noise(tmp_path: Path) -> None:
    t = cycler.cell_test()
    t["voltage_v"] += np.random.default_rng(2).normal(0, 0.01, len(t))
    assert "W2" in warned(check(tmp_path, t, SampleInfo(1.8, cycler.COMPOSITION, 20.0, (1.5, 4.8))))


def test_w3_for_a_pause(tmp_path: Path) -> None:
    t = cycler.cell_test()
    t.loc[t.index > int(np.flatnonzero(t.state == "D")[90]), "time_s"] += 3 * 3600
    checked = check(tmp_path, t)
    assert "paused 3.07 h in the discharge" in message(checked, "W3")


def test_w3_for_rows_without_numbers_and_e8_for_many(tmp_path: Path) -> None:
    t = cycler.cell_test()
    inside = np.flatnonzero(t.state == "D")
    t.loc[inside[50:53], "voltage_v"] = np.nan
    few = check(tmp_path, t)
    assert (errors(few), warned(few)) == ([], ["W3"])
    t.loc[inside[50:80], "voltage_v"] = np.nan
    assert errors(check(tmp_path, t)) == ["E8"]


def test_w4_for_few_rows(tmp_path: Path) -> None:
    t = cycler.assemble(cycler.charge_step(0.5), cycler.discharge_step(rows=30))
    checked = check(tmp_path, t)
    assert warned(checked) == ["W4"]
    assert "sparse: 30 rows, V resolution" in message(checked, "W4")


def test_w5_for_replicates_that_differ(tmp_path: Path) -> None:
    files = []
    for label, capacity in (("A", 0.432), ("B", 0.40), ("C", 0.431)):
        path = cycler.write(tmp_path / f"{label}.csv", cycler.arbin_csv(cycler.cell_test(1, capacity)))
        sample = SampleInfo(1.8, cycler.COMPOSITION, 20.0, cycler.WINDOW, label)
        files.append((check_file(path, sample), sample))
    checked = check_replicates(files)
    assert all(warned(file) == ["W5"] for file, _ in checked)
    assert "cells A, B, C differ by 7.6 %" in checked[0][0].rules[0].message
    assert all(file.status == "accepted" for file, _ in check_replicates([files[0], files[2]]))


def test_w6_drops_a_partial_last_cycle(tmp_path: Path) -> None:
    t = cycler.assemble(
        cycler.charge_step(0.45), cycler.discharge_step(), cycler.charge_step(0.44), cycler.discharge_step().iloc[:90]
    )
    checked = check(tmp_path, t)
    assert (errors(checked), warned(checked)) == ([], ["W6"])
    assert "cycle 2 partial" in message(checked, "W6")
    assert [d.cycle for d in checked.discharges] == [1]


def test_w7_for_a_header_of_another_cell(tmp_path: Path) -> None:
    sample = SampleInfo(1.9, cycler.COMPOSITION, None, cycler.WINDOW)
    checked = check(tmp_path, cycler.cell_test(), sample, cycler.biologic_mpt)
    mass, material = (hit.message for hit in checked.rules)
    assert warned(checked) == ["W7", "W7"]
    assert "it says 1.8 mg; table says 1.9 mg" in mass
    assert "it says LNMO; table says Li1.2Ti0.4Mn0.4O2" in material


def test_w7_for_a_window_that_was_left(tmp_path: Path) -> None:
    checked = check(tmp_path, cycler.cell_test(), SampleInfo(1.8, cycler.COMPOSITION, 20.0, (2.0, 4.8)))
    assert warned(checked) == ["W7"]
    assert "rows run through 1.5-4.8 V; table says 2-4.8 V" in message(checked, "W7")
    share = np.linspace(0, 1, 2000)
    at_two_volts = 240 * np.interp(2.0, cycler.discharge_voltage(share)[::-1], share[::-1])
    assert checked.discharges[0].capacity_mah_g == pytest.approx(at_two_volts, rel=2e-3)


def test_a_rule_broken_in_many_cycles_is_told_once(tmp_path: Path) -> None:
    steps = [step for n in range(4) for step in (cycler.charge_step(0.45, rows=60), cycler.discharge_step(rows=30))]
    (hit,) = check(tmp_path, cycler.assemble(*steps)).rules
    assert hit.id == "W4"
    assert hit.message.endswith("Also cycles 2, 3, 4.")


# DRX-TD, summary tables, digitised curves


def drxtd_file(tmp_path: Path, low: float = 1.5, **changes: object) -> Path:
    share = np.linspace(0, 1, 200)
    curve = drxtd.Curve(1, cycler.discharge_voltage(share, low), 240 * share)
    test = drxtd.CyclingTest(Composition.parse(cycler.COMPOSITION), 20.0, 1.5, 4.8, (curve,))
    path = tmp_path / "cell.json"
    drxtd.write_json(path, test)
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(content))
    return path


def test_a_raw_drx_td_json_is_accepted(tmp_path: Path) -> None:
    checked = check_file(drxtd_file(tmp_path))
    assert (checked.status, checked.discharges[0].capacity_mah_g) == ("accepted", pytest.approx(240))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"composition": {"Mn": 2, "O": 2}}, "E10"),
        ({"composition": {"Li": 0.4, "Mn": 1.6, "O": 2}}, "E3"),
        ({"low_voltage(V)": 1.2}, "E4"),
        ({"test_current(mA/g)": 1e6}, "E8"),
        ({"test_current(mA/g)": 0.02}, "E8"),
        ({"discharge_info": [[1, {"Voltage(V)": [4.7, 3, 1.5], "Capacity(mAh/g)": [0, 0.1, 0.24]}]]}, "E8"),
        ({"discharge_info": []}, "E1"),
        ({"discharge_info": [[1, {"Voltage(V)": [1.5, 3, 4.7], "Capacity(mAh/g)": [0, 100, 200]}]]}, "E1"),
        ({"discharge_info": [[1, {"Voltage(V)": [4700, 3000, 1500], "Capacity(mAh/g)": [0, 100, 200]}]]}, "E8"),
        ({"discharge_info": [[1, {"Voltage(V)": [4.7, 3, 1.5], "Capacity(mAh/g)": [0, -100, -200]}]]}, "E8"),
        ({"discharge_info": [[1, {"Voltage(V)": [4.7, 3, 1.5], "Capacity(mAh/g)": [50, 100, 200]}]]}, "E8"),
        ({"discharge_info": [[1, {"Voltage(V)": [4.7, float("nan"), 1.5], "Capacity(mAh/g)": [0, 100, 200]}]]}, "E11"),
    ],
)
def test_a_wrong_drx_td_json_is_refused(tmp_path: Path, changes: dict, rule: str) -> None:
    assert rule in errors(check_file(drxtd_file(tmp_path, **changes)))


def test_a_drx_td_file_that_contradicts_the_table_warns(tmp_path: Path) -> None:
    checked = check_file(drxtd_file(tmp_path), SampleInfo(None, "Li1.2Mn0.8O2", 100.0, (2.0, 4.8)))
    assert checked.status == "warned"
    assert "file says Li1.2Ti0.4Mn0.4O2; table says Li1.2Mn0.8O2" in message(checked, "W7")


SUMMARY_HEADER = "composition,current_ma_g,v_low,v_high,cycle,capacity_mah_g\n"


def test_a_summary_row_becomes_a_capacity_without_a_profile(tmp_path: Path) -> None:
    path = cycler.write(tmp_path / "table.csv", SUMMARY_HEADER + "Li1.2Mn0.4Ti0.4O2,20,1.5,4.8,1,250\n")
    checked = check_file(path)
    (row,) = checked.discharges
    assert checked.status == "accepted"
    assert (row.capacity_mah_g, row.profile, row.provenance, row.rows) == (250.0, None, "summary", 0)
    assert row.conditions == CyclingConditions(20.0, 1.5, 4.8, 1)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("Li1.2Mn0.4Ti0.4O2,20,1.5,4.8,1,450", "E3"),
        ("Mn2O4,20,1.5,4.8,1,250", "E10"),
        (",20,1.5,4.8,1,250", "E10"),
        ("Li1.2Mn0.4Ti0.4O2,,1.5,4.8,1,250", "E5"),
        ("Li1.2Mn0.4Ti0.4O2,20,4.8,1.5,1,250", "E8"),
        ("Li1.2Mn0.4Ti0.4O2,20,0.01,1.5,1,250", "E12"),
        ("Li1.2Mn0.4Ti0.4O2,20,1.5,4.8,1,-3", "E8"),
        ("Li1.2Mn0.4Ti0.4O2,20,1.5,4.8,1,0.25", "E8"),
        ("Li1.2Mn0.4Ti0.4O2,0.02,1.5,4.8,1,250", "E8"),
    ],
)
def test_a_wrong_summary_row_is_refused(tmp_path: Path, row: str, rule: str) -> None:
    checked = check_file(cycler.write(tmp_path / "table.csv", f"{SUMMARY_HEADER}{row}\n"))
    assert rule in errors(checked)
    assert "row 2" in message(checked, rule) or rule == "E10"


def digitised(tmp_path: Path, points: list[tuple[float, float]]) -> CheckedFile:
    path = cycler.write(tmp_path / "curve.csv", "\n".join(f"{q}, {v}" for q, v in points))
    return check_file(path, SampleInfo(None, cycler.COMPOSITION, 20.0, cycler.WINDOW))


CURVE = [(240 * x, float(cycler.discharge_voltage(np.array(x)))) for x in np.linspace(0, 1, 40)]


def test_a_digitised_curve_is_accepted_with_a_wider_error(tmp_path: Path) -> None:
    checked = digitised(tmp_path, CURVE)
    (curve,) = checked.discharges
    assert (checked.status, curve.provenance) == ("accepted", "digitised")
    assert curve.capacity_mah_g == pytest.approx(240, rel=1e-3)
    assert curve.sigma_mah_g > 2
    assert curve.conditions == CyclingConditions(20.0, 1.5, 4.8, 1)


@pytest.mark.parametrize(
    ("points", "rule"),
    [
        pytest.param(CURVE[::4], "E11", id="ten points"),
        pytest.param([(q, v + 0.3 * (i % 2)) for i, (q, v) in enumerate(CURVE)], "E11", id="multi-valued"),
        pytest.param([(240 - q, v) for q, v in CURVE], "E1", id="a charge"),
        pytest.param([(q / 1000, v) for q, v in CURVE], "E8", id="Ah/g"),
        pytest.param([(q - 50, v) for q, v in CURVE], "E8", id="negative"),
        pytest.param([(q + 80, v) for q, v in CURVE], "E8", id="counted from before"),
        pytest.param(CURVE[:25], "E4", id="half the window"),
        pytest.param([(2 * q, v) for q, v in CURVE], "E3", id="too much"),
    ],
)
def test_a_wrong_digitised_curve_is_refused(tmp_path: Path, points: list[tuple[float, float]], rule: str) -> None:
    assert rule in errors(digitised(tmp_path, points))


def test_several_nameless_digitised_curves_are_refused(tmp_path: Path) -> None:
    rows = [f"{q},{v},{q},{v - 0.05}" for q, v in CURVE]
    path = cycler.write(tmp_path / "curves.csv", "20 mA/g,,1 A/g,\nX,Y,X,Y\n" + "\n".join(rows))
    assert "E9" in errors(check_file(path, SampleInfo(None, cycler.COMPOSITION, 20.0)))


def test_every_rule_is_explained() -> None:
    assert list(RULES) == [
        *(f"E{i}" for i in range(1, 14)),
        *(f"D{i}" for i in range(1, 6)),
        *(f"W{i}" for i in range(1, 8)),
    ]
    assert all(rule.title.endswith(".") and rule.why.endswith(".") for rule in RULES.values())


# Where in its test a file lies


def late(cycles: int = 2, **shifts: float) -> pd.DataFrame:
    """A test as it looks to one who exports only its later rows."""
    t = cycler.cell_test(cycles)
    for column, shift in shifts.items():
        t[column] += shift
    return t


@pytest.mark.parametrize(
    ("shifts", "words"),
    [
        ({"cycle": 10, "record": 20_000, "time_s": 1.8e6}, "begins at cycle 11, record 20001, 500 h"),
        ({"cycle": 1}, "begins at cycle 2,"),
        ({"record": 400}, "begins at record 401,"),
        ({"time_s": 90_000.0}, "begins at 25 h,"),
    ],
    ids=["all", "cycle", "record", "time"],
)
def test_e13_refuses_a_file_that_begins_later_in_its_test_until_it_is_stated_where(
    tmp_path: Path, shifts, words
) -> None:
    t = late(**shifts)
    refused = check(tmp_path, t)
    assert errors(refused) == ["E13"]
    assert words in message(refused, "E13")
    assert "--first-cycle" in message(refused, "E13")
    stated = check(tmp_path, t, dataclasses.replace(SAMPLE, first_cycle=11))
    assert [(d.cycle, d.conditions.cycle) for d in stated.discharges] == [(11, 11), (12, 12)]
    assert errors(stated) == []
    settled = numbered_from(refused, 11)
    assert (settled.status, [d.conditions.cycle for d in settled.discharges]) == ("accepted", [11, 12])


@pytest.mark.parametrize("shifts", [{"cycle": -1}, {"cycle": 0}, {"record": 5}, {"time_s": 36_000.0}])
def test_counting_from_zero_or_after_a_night_of_rest_is_still_the_start_of_a_test(tmp_path: Path, shifts) -> None:
    assert check(tmp_path, late(**shifts)).status == "accepted"


def test_a_discharge_says_where_in_the_file_and_in_the_test_it_stands(tmp_path: Path) -> None:
    t = late(cycle=10, record=20_000)
    second = check(tmp_path, t).discharges[1]
    row = t[(t.cycle == 12) & (t.state == "D")].iloc[0]
    assert second.file_cycle == 12
    assert second.elapsed_s == pytest.approx(row.time_s)
    assert second.charge_top_v == pytest.approx(4.8)
    span = check(tmp_path, t).span
    assert (span.first_cycle, span.late) == (11, "cycle 11, record 20001")


def test_formation_is_declared_by_its_cycles_or_its_current_and_left_out(tmp_path: Path) -> None:
    slow = [cycler.charge_step(0.48, 0.018), cycler.discharge_step(0.45, 0.018)]
    t = cycler.assemble(*slow, *slow, cycler.charge_step(0.44), cycler.discharge_step(0.42))
    refused = check(tmp_path, t)
    assert errors(refused) == ["E5"]
    assert "From cycle 3 on it is" in message(refused, "E5")
    assert "--formation 2" in message(refused, "E5")
    for declared in ({"formation": 2}, {"formation_current_ma_g": 10.0}):
        taken = check(tmp_path, t, dataclasses.replace(SAMPLE, **declared))
        assert errors(taken) == []
        assert [(d.cycle, d.conditions.current_ma_g) for d in taken.discharges] == [(3, 20.0)]
        assert any("cycle 1 is formation (10 mA/g, 250 mAh/g); left out" in note for note in taken.notes)
    assert errors(check(tmp_path, t, dataclasses.replace(SAMPLE, formation=3))) == ["E1"]
