"""Files as labs hand them in, each with the value that must come out; ``tests/cases`` holds them.

All are of one cell of 2 mg between 1.5 and 4.8 V at 20 mA/g, unless the table below says otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from running_cells import hand_in, held

from campaigns.campaign import Campaign
from campaigns.intake.measurement import CheckedFile, SampleInfo
from campaigns.intake.readers.recording import ReadOptions
from campaigns.intake.validation import check_file

CASES = Path(__file__).parents[2] / "cases"
CELL = SampleInfo(2.0, "Li1.2Mn0.4Ti0.4O2", 20.0, (1.5, 4.8))


def check(name: str, sample: SampleInfo = CELL, **options: object) -> CheckedFile:
    return check_file(CASES / name, sample, ReadOptions(**options))


def capacities(checked: CheckedFile) -> list[float]:
    return [round(d.capacity_mah_g, 1) for d in checked.discharges if d.capacity_mah_g is not None]


def said(checked: CheckedFile, *severities: str) -> str:
    return "\n".join(str(hit) for hit in checked.rules if hit.severity in severities)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("appended_twice.csv", [220.0]),
        ("clock_wraps_midnight.csv", [220.0]),
        ("hm_only.csv", [220.0]),
        ("later_pulses.csv", [220.0]),
        ("pause_2h_logged.csv", [220.0]),
        ("state_fr.csv", [220.0]),
        ("state_lith.csv", [220.0]),
        ("step_index_points_unsigned.csv", [220.0, 215.0]),
        ("neware_chinese_utf8.csv", [220.0]),
        ("neware_chinese_gbk.csv", [220.0]),
        ("landt_zh.csv", [220.0]),
        ("digatron_de.csv", [220.0]),
        ("de_semicolon.csv", [220.0]),
        ("novonix_long_protocol.csv", [220.0]),
        ("gamry_curve.dta", [220.0]),
        ("autolab_nova.csv", [220.0]),
        ("qv_four_columns.csv", [220.0]),
        ("qv.xlsx", [220.0]),
        ("qv_loop.csv", [220.0]),
        ("neware_cycle_sheet.csv", [220.0, 215.0]),
        ("cycle_life2.csv", [220.0, 215.0]),
        ("maccor_thousands.txt", [220.0]),
        ("maccor_thousands_some.txt", [220.0]),
        ("unicode_minus.csv", [220.0]),
        ("temperature_T_first.csv", [220.0]),
        ("basytec_Akg.txt", [220.0]),
        ("excel_day_fraction.csv", [220.0]),
        ("comment_colon.csv", [220.0]),
        ("footer.csv", [220.0]),
        ("reexport_week1.csv", [220.0]),
        ("reexport_week2.csv", [220.0, 215.0]),
        ("resaved_crlf_of_week1.csv", [220.0]),
    ],
)
def test_a_good_file_gives_its_capacities(name: str, expected: list[float]) -> None:
    checked = check(name)
    assert said(checked, "error", "doubt") == ""
    assert capacities(checked) == expected
    assert [d.conditions.current_ma_g for d in checked.discharges] == [20.0] * len(expected)
    assert [d.cycle for d in checked.discharges] == list(range(1, len(expected) + 1))


def test_step_times_that_do_not_fall_at_a_new_step_lose_no_interval() -> None:
    checked = check("steptime_rest30_rows36_nocap.csv", replace(CELL, current_ma_g=1000.0))
    assert said(checked, "error", "doubt") == ""
    assert capacities(checked) == [100.0]


@pytest.mark.parametrize(
    ("name", "sample", "rule", "words"),
    [
        ("two_channels_stacked.csv", CELL, "E9", "2 channels or cells (Channel: 1, 2). Export one per file"),
        ("two_cells_dates.xlsx", CELL, "E9", "sheet Cell B begins another test. Export one channel per file"),
        ("charged_to_4p42.csv", CELL, "E4", "follows a charge to 4.42 V, not 4.8 V"),
        ("charge_only_two_rates.csv", CELL, "E1", "no discharge after a charge found (19 rows, 1 rest)"),
        ("middle_of_test.csv", CELL, "E13", "begins at cycle 11, record 20001, 500 h"),
        ("continued_part2.csv", CELL, "E13", "begins at cycle 2, record 200, 24 h"),
        ("formation_10_then_20.csv", CELL, "E5", "if the cycles before formed the cell, say --formation 1"),
        ("summary_rate_01.csv", SampleInfo(2.0), "E5", "Give the current in mA/g"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_with_the_way_out(name, sample, rule, words) -> None:
    checked = check(name, sample)
    assert checked.status == "refused"
    assert rule in {hit.id for hit in checked.rules if hit.severity == "error"}
    assert words in said(checked, "error")


def test_a_c_rate_is_converted_in_its_refusal() -> None:
    refused = said(check("summary_rate_01.csv", SampleInfo(2.0)), "error")
    assert "0.1C is 39.49 mA/g if 1C takes out all lithium (394.9 mAh/g), and 20 mA/g if 1C = 200 mA/g" in refused


def test_minutes_under_a_header_of_seconds_are_doubted_and_the_option_settles_it() -> None:
    checked = check("minutes_under_s.csv")
    assert (checked.status, capacities(checked)) == ("doubtful", [3.7])
    assert "--time-unit min gives 220 mAh/g" in said(checked, "doubt")
    assert capacities(check("minutes_under_s.csv", time_unit=60.0)) == [220.0]


def test_a_current_of_one_digit_is_warned_of_and_its_charge_trusted_less() -> None:
    checked = check("coarse_current.csv", replace(CELL, current_ma_g=None))
    assert (checked.status, capacities(checked)) == ("warned", [244.4])
    assert "exported with 1 digit (0.04 mA)" in said(checked, "warning")
    assert checked.discharges[0].sigma_mah_g == pytest.approx(24.4, abs=0.1)


@pytest.mark.parametrize(
    ("name", "declared", "cycles", "expected"),
    [
        ("middle_of_test.csv", {"first_cycle": 11}, [11, 12], [180.0, 179.0]),
        ("continued_part2.csv", {"first_cycle": 2}, [2], [205.0]),
        ("formation_10_then_20.csv", {"formation": 1}, [2], [215.0]),
        ("formation_10_then_20.csv", {"formation_current_ma_g": 10.0}, [2], [215.0]),
    ],
)
def test_what_a_file_cannot_say_is_stated(name: str, declared: dict, cycles: list[int], expected: list[float]) -> None:
    checked = check(name, replace(CELL, **declared))
    assert said(checked, "error", "doubt") == ""
    assert [d.conditions.cycle for d in checked.discharges] == cycles
    assert capacities(checked) == expected


def test_a_logged_pause_is_a_pause_and_counts_no_charge() -> None:
    assert "paused 2 h in the discharge" in said(check("pause_2h_logged.csv"), "warning")


def test_rows_that_stand_twice_are_told() -> None:
    assert "18 rows stand in the file twice; counted once" in check("appended_twice.csv").notes


def test_every_case_has_a_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in CASES.iterdir() if f'"{path.name}"' not in text] == []


# -- one file after another, through a campaign --------------------------------------------------------------


def recorded(campaign: Campaign, name: str, **said: object) -> str:
    done = hand_in(campaign, CASES / name, active_mass_mg=2.0, composition=CELL.composition, **said)
    return done.status


def test_an_export_of_next_week_extends_the_cell(campaign: Campaign) -> None:
    assert [recorded(campaign, f"reexport_week{n}.csv") for n in (1, 2)] == ["recorded", "recorded"]
    assert held(campaign) == [("LAB-01", "reexport_week1", 1, 220.0), ("LAB-01", "reexport_week1", 2, 215.0)]
    assert len(campaign.state().cells) == 1


def test_an_export_saved_again_changes_nothing(campaign: Campaign) -> None:
    recorded(campaign, "reexport_week1.csv")
    before = campaign.state()
    assert recorded(campaign, "resaved_crlf_of_week1.csv") == "known"
    assert campaign.state() == before


def test_a_test_continued_in_a_second_file_is_no_first_cycle(campaign: Campaign) -> None:
    recorded(campaign, "reexport_week1.csv")
    before = campaign.state()
    done = hand_in(campaign, CASES / "continued_part2.csv", active_mass_mg=2.0, composition=CELL.composition)
    assert done.status == "refused"
    assert any("--continues reexport_week1" in note for note in done.notes)
    assert campaign.state().standing == before.standing
    assert recorded(campaign, "continued_part2.csv", first_cycle=2) == "refused"
    assert recorded(campaign, "continued_part2.csv", continues="reexport_week1") == "recorded"
    assert held(campaign) == [("LAB-01", "reexport_week1", 1, 220.0), ("LAB-01", "reexport_week1", 2, 205.0)]
