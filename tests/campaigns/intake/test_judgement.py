"""Measurements beside the others: a named mistake is doubted, a surprise is learned from."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledgers import FIRST, HIGH, LOW, SECOND, THIRD, prediction, record_round, write_discharge
from running_cells import MASS_MG, hand_in, running_test, write_cycles
from synthetic_cycler import WINDOW

from campaigns.campaign import Campaign
from campaigns.intake.correction import supersede
from campaigns.intake.files import check_files
from campaigns.intake.judgement import JUDGEMENTS, Expected, Weighed, judge
from campaigns.intake.measurement import SampleInfo
from campaigns.intake.record import ingest
from campaigns.ledger.records import State
from campaigns.loop.rank import rank
from campaigns.report import views
from drxnet.discharge import CyclingConditions
from screening.goals import Rates

RATES = Rates()
EXPECTED = {"R01-01": {"low": Expected(275.0, 8.0), "high": Expected(192.0, 12.0)}}


def at(current: float = 20.0, cycle: int = 1, **window: float) -> CyclingConditions:
    return CyclingConditions(current, window.get("v_low", 1.5), window.get("v_high", 4.8), cycle)


def cell(key: str | int, capacity: float, current: float = 20.0, **changes: object) -> Weighed:
    """A fresh cell of R01-01 of its own, as a cycler file gives it."""
    values = {"owner": "R01-01", "cell": str(key), "composition": FIRST, "at": at(current), "from_cycler": True}
    return Weighed(key, capacity_mah_g=capacity, **{**values, "fresh": True, **changes})  # type: ignore[arg-type]


def doubts(*cells: Weighed, expected=EXPECTED) -> dict[object, str]:
    return {key: rule for key, (rule, _) in judge(cells, RATES, expected).doubts.items()}


@pytest.mark.parametrize(
    ("capacity", "current", "rule", "said"),
    [
        (27.5, 20.0, "J4", "10 times too large"),
        (2.75, 20.0, "J4", "100 times too large"),
        (0.275, 20.0, "J4", "Ah may be taken for mAh"),
        (22.0, 2.0, "J2", "that would be 20 mA/g and 220 mAh/g (factor 10)"),
        (19.2, 100.0, "J2", "that would be 1e+03 mA/g and 192 mAh/g (factor 10)"),
    ],
)
def test_power_of_ten_is_doubted_with_its_factor(capacity: float, current: float, rule: str, said: str):
    found = judge([cell(0, capacity, current)], RATES, EXPECTED)
    assert found.doubts[0][0] == rule
    assert said in found.doubts[0][1]


@pytest.mark.parametrize("capacity", [270.0, 240.0, 180.0, 90.0, 55.0, 12.0, 6.0])
def test_what_no_factor_explains_is_at_most_surprising(capacity: float):
    found = judge([cell(0, capacity)], RATES, EXPECTED)
    assert found.doubts == {}
    assert bool(found.surprises) == (capacity not in (270.0,))
    if capacity < 50:
        assert "dead cell" in found.surprises[0]


def test_predictions_that_proved_wide_surprise_less():
    said = {"R01-01": EXPECTED["R01-01"], **{f"R01-{i:02d}": {"low": Expected(275.0, 8.0)} for i in range(2, 10)}}
    past = [cell(f"M{i}", 225.0 + 15 * (i % 2), owner=f"R01-{i:02d}", fresh=False) for i in range(2, 10)]
    assert judge([cell(0, 225.0)], RATES, said).surprises
    assert not judge([*past, cell(0, 225.0)], RATES, said).surprises


def test_more_capacity_at_the_higher_rate_is_doubted_on_both_sides():
    assert doubts(cell(0, 152.0), cell(1, 201.0, 1000.0), expected={}) == {0: "J1", 1: "J1"}
    assert doubts(cell(0, 201.0), cell(1, 152.0, 1000.0), expected={}) == {}
    assert doubts(cell(0, 200.0), cell(1, 208.0, 1000.0), expected={}) == {}


def test_replicate_that_agrees_decides_which_of_two_rates_is_doubted():
    slow, fast = [cell(0, 240.0), cell(1, 242.0)], cell(2, 300.0, 1000.0)
    assert doubts(*slow, fast, expected={}) == {2: "J1"}


def test_replicates_far_apart_are_doubted_where_nothing_sides_with_one():
    assert doubts(cell(0, 240.0), cell(1, 150.0), expected={}) == {0: "J3", 1: "J3"}
    assert doubts(cell(0, 270.0), cell(1, 150.0)) == {1: "J3"}
    assert doubts(cell("M1", 270.0, fresh=False), cell(1, 150.0)) == {1: "J3"}
    assert doubts(cell(0, 240.0), cell(1, 238.0), cell(2, 150.0), expected={}) == {2: "J3"}
    assert doubts(cell(0, 240.0), cell(1, 205.0), expected={}) == {}


def test_lab_whose_cells_scatter_is_not_bothered():
    scattered = [
        cell(f"M{i}{j}", 200.0 * (0.85 if j else 1.15), owner=f"R0{i}", fresh=False) for i in range(9) for j in range(2)
    ]
    pair = (cell(0, 240.0), cell(1, 170.0))
    assert doubts(*pair, expected={}) == {0: "J3", 1: "J3"}
    assert doubts(*scattered, *pair, expected={}) == {}


def test_dead_replicate_is_no_case_of_scatter_but_a_tenth_of_one_is_doubted():
    assert doubts(cell(0, 240.0), cell(1, 8.0), expected={}) == {}
    assert doubts(cell("M1", 240.0, fresh=False), cell(1, 24.0), expected={}) == {1: "J4"}


def test_current_that_nobody_stated_must_be_one_of_the_campaigns():
    assert doubts(cell(0, 200.0, 50.0, current_stated=False)) == {0: "J2"}
    assert doubts(cell(0, 200.0, 50.0)) == {}
    assert doubts(cell(0, 200.0, 50.0, current_stated=False, from_cycler=False)) == {}
    stairs = [cell(i, 200.0, c, cell="A", at=at(c, i + 1), current_stated=False) for i, c in enumerate((20.0, 50.0))]
    assert doubts(*stairs, expected={}) == {}


def test_swapped_labels_of_two_proposals_are_doubted_on_both_sides():
    said = {"R01-01": {"low": Expected(275.0, 8.0)}, "R01-02": {"low": Expected(200.0, 8.0)}}
    second = cell(1, 273.0, owner="R01-02", round=1)
    assert doubts(cell(0, 202.0, round=1), second, expected=said) == {0: "J5", 1: "J5"}
    assert doubts(cell("M1", 202.0, round=1, fresh=False), second, expected=said) == {"M1": "J5", 1: "J5"}
    assert doubts(cell(0, 202.0, round=2), second, expected=said) == {}
    assert doubts(cell(0, 240.0, round=1), second, expected=said) == {}


def test_charge_that_stopped_early_is_doubted():
    assert doubts(cell(0, 270.0, charge_top_v=4.42)) == {0: "J6"}
    assert doubts(cell(0, 270.0, charge_top_v=4.79)) == {}


def test_what_is_confirmed_is_never_doubted_and_still_speaks():
    assert doubts(cell("M1", 152.0, fresh=False, confirmed=True), cell(1, 201.0, 1000.0), expected={}) == {1: "J1"}


def test_later_cycles_share_the_doubt_of_their_cell():
    tenth = [cell(i, 27.0, cell="A", at=at(cycle=i + 1)) for i in range(3)]
    assert doubts(*tenth) == dict.fromkeys(range(3), "J4")


def test_doubt_is_lifted_once_its_reason_is_gone_and_not_before():
    pair = [cell("M1", 152.0, fresh=False, doubt="J1"), cell("M2", 201.0, 1000.0, fresh=False, doubt="J1")]
    assert judge(pair, RATES, {}).cleared == {}
    assert list(judge(pair[1:], RATES, {}).cleared) == ["M2"]
    alone = [cell("M3", 27.0, fresh=False, doubt="J4")]
    assert judge(alone, RATES, {}).cleared == {}


def test_every_rule_says_what_it_is_for():
    assert all(j.title and len(j.why) > 40 for j in JUDGEMENTS.values())


# -- end to end -------------------------------------------------------------------------------------------


@pytest.fixture
def proposed(campaign: Campaign) -> Campaign:
    record_round(campaign, FIRST, SECOND)
    return campaign


def retention(campaign: Campaign) -> list[tuple[str, float]]:
    rows = views.ranking(rank(campaign, within="measured"))["rows"]
    return [(row["proposal_id"], round(row["rate_retention_mean"], 3)) for row in rows]


def test_swapped_rates_are_doubtful_until_corrected_and_the_ranking_follows(proposed: Campaign, tmp_path: Path):
    for name, formula, capacity, rate in (("a", SECOND, 250.0, LOW), ("b", SECOND, 190.0, HIGH)):
        ingest(proposed, check_files(proposed, [write_discharge(tmp_path / f"{name}.json", formula, capacity, rate)]))
    assert retention(proposed) == [("R01-02", 0.76)]
    paths = [
        write_discharge(tmp_path / "slow.json", FIRST, 152.0, LOW),
        write_discharge(tmp_path / "fast.json", FIRST, 201.0, HIGH),
    ]
    done = ingest(proposed, check_files(proposed, paths))
    assert [f.status for f in done.files] == ["doubtful", "doubtful"]
    assert all("may be swapped (factor 1.32)" in f.rules[-1].message for f in done.files)
    found = proposed.summarize()
    assert (found["doubtful"], [d["rule"] for d in found["doubts"]]) == (2, ["J1", "J1"])
    assert retention(proposed) == [("R01-02", 0.76)]
    assert proposed.state().proposal("R01-01").state is State.ACCEPTED
    supersede(proposed, ["M0003"], "rates were swapped", {"current_ma_g": 1000.0})
    assert [m.measurement_id for m in proposed.state().doubtful] == ["M0004"]
    supersede(proposed, ["M0004"], "rates were swapped", {"current_ma_g": 20.0})
    assert proposed.summarize()["doubtful"] == 0
    assert retention(proposed) == [("R01-02", 0.76), ("R01-01", 0.756)]


def test_swap_that_shows_later_makes_one_doubt_what_was_recorded_before(proposed: Campaign, tmp_path: Path):
    for name, capacity, rate in (("slow", 152.0, LOW), ("fast", 201.0, HIGH)):
        path = write_discharge(tmp_path / f"{name}.json", FIRST, capacity, rate)
        done = ingest(proposed, check_files(proposed, [path]))
    assert [m.measurement_id for m in proposed.state().doubtful] == ["M0001", "M0002"]
    assert any("M0001, recorded before, is doubtful now (J1)" in sentence for sentence in done.judged_again)
    proposed.retract_measurement("M0002", "was another powder")
    assert [m.status for m in proposed.state().measurements] == ["valid", "retracted"]


def test_tenfold_mass_is_doubtful_named_and_corrected(proposed: Campaign, tmp_path: Path):
    path = write_cycles(tmp_path / "cell.csv", running_test([240.0, 238.0]))
    done = hand_in(proposed, path, composition=FIRST, active_mass_mg=10 * MASS_MG, current_ma_g=None)
    assert done.status == "doubtful"
    assert "10 times too large: that would be 20 mA/g and 240 mAh/g (factor 10)" in done.rules[-1].message
    assert [m.conditions.cycle for m in proposed.state().doubtful] == [1, 2]
    supersede(proposed, ["M0001", "M0002"], "50 mg was a slip", scale=10.0)
    state = proposed.state()
    assert [(m.status, m.conditions.current_ma_g, round(m.capacity_mah_g, 1)) for m in state.valid] == [
        ("valid", 20.0, 240.0),
        ("valid", 20.0, 238.0),
    ]
    assert state.proposal("R01-01").state is State.MEASURED


def test_dead_cell_is_recorded_flagged_and_learned_from(proposed: Campaign, tmp_path: Path):
    path = write_cycles(tmp_path / "dead.csv", running_test([12.0]))
    done = hand_in(proposed, path, composition=FIRST)
    assert done.status == "recorded", done.rules
    assert any(rule.id == "W8" and "dead cell" in rule.message for rule in done.rules)
    (measured,) = proposed.state().valid
    assert "W8" in measured.flags
    assert proposed.state().unlearned == (measured,)


def test_confirmed_measurement_counts_with_the_rest_of_its_cell_and_what_follows(proposed: Campaign, tmp_path: Path):
    test = running_test([240.0, 238.0, 236.0])
    wrong = {"composition": FIRST, "active_mass_mg": 10 * MASS_MG, "current_ma_g": None}
    hand_in(proposed, write_cycles(tmp_path / "a.csv", test, last=2), **wrong)
    assert proposed.confirm_measurement("M0001", "really 18 mg") == ("M0001", "M0002")
    state = proposed.state()
    assert [m.status for m in state.measurements] == ["valid", "valid"]
    assert hand_in(proposed, write_cycles(tmp_path / "b.csv", test), **wrong).status == "recorded"
    assert [m.status for m in proposed.state().measurements] == ["valid"] * 3


def test_file_that_its_reader_doubts_is_recorded_as_doubtful(proposed: Campaign, tmp_path: Path):
    path = write_cycles(tmp_path / "few.csv", running_test([240.0]))
    checked = check_files(proposed, [path], otherwise=SampleInfo(MASS_MG, FIRST, 20.0, WINDOW))
    from dataclasses import replace

    from campaigns.intake.measurement import RuleHit

    doubted = [(replace(f, rules=(*f.rules, RuleHit("D1", "minutes under s?", "doubt"))), s) for f, s in checked]
    done = ingest(proposed, doubted)
    assert [(f.status, f.doubtful) for f in done.files] == [("doubtful", ("M0001",))]
    assert proposed.state().doubtful[0].doubt == "minutes under s?"


def test_rows_that_are_vouched_for_are_not_doubted(proposed: Campaign):
    rows = [
        {"proposal_id": "R01-01", "current_ma_g": c, "capacity_mah_g": q} for c, q in ((20.0, 152.0), (1000.0, 201.0))
    ]
    proposed.add_measurements(rows, fine_tune=False, confirmed=True)
    assert [(m.status, m.confirmed) for m in proposed.state().measurements] == [("valid", True)] * 2


def test_doubt_stays_where_a_correction_changes_nothing_it_rests_on(proposed: Campaign, tmp_path: Path):
    path = write_cycles(tmp_path / "cell.csv", running_test([240.0]))
    hand_in(proposed, path, composition=FIRST, active_mass_mg=10 * MASS_MG, current_ma_g=None)
    supersede(proposed, ["M0001"], "another label", {"cell": "B"})
    assert [m.measurement_id for m in proposed.state().doubtful] == ["M0002"]


def test_prediction_for_other_rates_says_nothing(campaign: Campaign, tmp_path: Path):
    with campaign.ledger.write("propose") as entry:
        entry.add_round(
            [(FIRST, prediction(low_current_ma_g=50.0), [])],
            model_id="a1b2c3d4e5f6",
            seed=0,
            strategy="qlognei",
            spec={},
            spec_hash="0",
            statistics={},
        )
    path = write_discharge(tmp_path / "a.json", FIRST, 27.5)
    assert ingest(campaign, check_files(campaign, [path])).files[0].status == "recorded"


def test_what_nobody_proposed_is_judged_by_its_replicates(campaign: Campaign, tmp_path: Path):
    for name, q in (("a", 240.0), ("b", 24.1)):
        done = ingest(campaign, check_files(campaign, [write_discharge(tmp_path / f"{name}.json", THIRD, q)]))
    assert done.files[0].status == "doubtful"
    assert "where 240 its replicate gives" in done.files[0].rules[-1].message
