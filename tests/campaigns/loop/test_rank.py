"""Rankings of what is measured, and where a campaign stands; none of it needs a network."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from ledgers import FIRST, HIGH, LOW, SECOND, STUB_ID, THIRD, prediction, record_round, straight_profile

from campaigns.campaign import Campaign
from campaigns.ledger.records import NewMeasurement, Proposal, QuantityValue, State
from campaigns.loop.outcomes import best_so_far, compare, headline, outcomes_of
from campaigns.loop.places import Place, Question
from campaigns.loop.rank import Asked, _ordered, rank
from campaigns.report import views
from campaigns.report.drawing import fades
from campaigns.spec import FILE_NAME
from drxnet.discharge import CyclingConditions
from drxnet.errors import ConfigurationError, UsageError
from screening.estimates import CELL_TO_CELL
from screening.goals import Goals, ObjectiveSpec


def measure(campaign: Campaign, proposal: str, *cells: tuple[str, CyclingConditions, float]) -> None:
    with campaign.ledger.write("ingest") as entry:
        formula = entry.before.proposal(proposal).composition
        for cell, conditions, capacity in cells:
            profile = straight_profile(capacity, conditions)
            new = NewMeasurement(formula, conditions, capacity, profile, None, "cycler")
            entry.add_measurement(proposal, cell, new, None)


@pytest.fixture
def measured(campaign: Campaign) -> Campaign:
    """Three proposals: retention 0.60 from two cells a rate, 0.65 from one, half-measured."""
    record_round(campaign, FIRST, SECOND, THIRD)
    measure(campaign, "R01-01", ("A", LOW, 250.0), ("B", LOW, 254.0), ("C", HIGH, 151.0), ("D", HIGH, 151.4))
    measure(campaign, "R01-02", ("A", LOW, 200.0), ("B", HIGH, 130.0))
    measure(campaign, "R01-03", ("A", LOW, 300.0))
    return campaign


def test_measured_retention_is_the_ratio_of_means_over_cells(measured: Campaign):
    rows = {r["proposal_id"]: r for r in measured.rank(within="measured")}
    assert rows["R01-01"]["rate_retention_mean"] == pytest.approx(151.2 / 252.0)
    assert rows["R01-01"]["capacity_low_mah_g_mean"] == pytest.approx(252.0)
    assert all(r["source"] == "measured" for r in rows.values())


def test_one_cell_has_the_spread_that_equal_cells_usually_have(measured: Campaign):
    row = next(r for r in measured.rank(within="measured") if r["proposal_id"] == "R01-02")
    assert row["capacity_low_mah_g_std"] == pytest.approx(200 * CELL_TO_CELL)
    assert row["rate_retention_std"] == pytest.approx(0.65 * math.hypot(CELL_TO_CELL, CELL_TO_CELL), rel=0.05)


def test_order_is_by_the_lower_bound_unless_asked_otherwise(measured: Campaign):
    by_lower = [r["rate_retention_lower"] for r in measured.rank(within="measured")]
    assert by_lower == sorted(by_lower, reverse=True)
    by_mean = [r["proposal_id"] for r in measured.rank(within="measured", order="mean")]
    assert by_mean == ["R01-02", "R01-01"]


def test_half_measured_is_named_with_what_is_missing(measured: Campaign):
    ranking = rank(measured, within="measured")
    assert "R01-03" not in {p.proposal.proposal_id for p in ranking.places if p.proposal}
    assert "R01-03 (no cell at 1000 mA/g)" in ranking.notes[0]
    assert [r["proposal_id"] for r in measured.rank("capacity", within="measured")][0] == "R01-03"


def test_conditions_are_never_mixed(measured: Campaign):
    for conditions in (
        CyclingConditions(1000.0, 1.5, 4.8, cycle=6),
        CyclingConditions(1000.0, 2.0, 4.4),
        CyclingConditions(500.0),
    ):
        measure(measured, "R01-03", (f"Z {conditions}", conditions, 250.0))
    assert "R01-03" not in {r["proposal_id"] for r in measured.rank(within="measured")}


def test_capacity_at_another_rate_is_ranked_by_cells_at_that_rate(measured: Campaign):
    measure(measured, "R01-02", ("E", CyclingConditions(100.0), 180.0))
    (row,) = measured.rank("capacity", within="measured", current_ma_g=100.0)
    assert (row["proposal_id"], row["capacity_mah_g_mean"]) == ("R01-02", 180.0)


def test_energy_and_voltage_come_from_profiles(measured: Campaign):
    energies = measured.rank("energy", within="measured")
    assert energies[0]["proposal_id"] == "R01-03"
    assert energies[0]["specific_energy_wh_kg_mean"] == pytest.approx(300 * 3.15)
    voltages = measured.rank("average-voltage", within="measured")
    assert {round(r["average_voltage_v_mean"], 6) for r in voltages} == {3.15}


def test_capacity_retention_compares_cycles_of_one_cell(measured: Campaign):
    measure(measured, "R01-02", ("A", CyclingConditions(20.0, cycle=20), 150.0))
    (row,) = measured.rank("capacity-retention", within="measured")
    assert row["capacity_retention_mean"] == pytest.approx(0.75)


def test_cost_is_ranked_from_cheap_to_dear(measured: Campaign):
    rows = measured.rank("cost", within="measured")
    assert [r["cost_usd_kwh_mean"] for r in rows] == sorted(r["cost_usd_kwh_mean"] for r in rows)
    # Li1.25Ti0.25Mn0.5O1.75F0.25: Li 200, Ti 5, Mn 2, F 5 USD/kg, oxygen free, 945 Wh/kg
    mass = {"Li": 1.25 * 6.94, "Ti": 0.25 * 47.867, "Mn": 0.5 * 54.938, "O": 1.75 * 15.999, "F": 0.25 * 18.998}
    price = 200 * mass["Li"] + 5 * mass["Ti"] + 2 * mass["Mn"] + 5 * mass["F"]
    expected = price / sum(mass.values()) / (300 * 3.15 / 1000)
    third = next(r for r in rows if r["proposal_id"] == "R01-03")
    assert third["cost_usd_kwh_mean"] == pytest.approx(expected, rel=1e-3)


def test_pareto_front_comes_first(measured: Campaign):
    measure(measured, "R01-03", ("B", HIGH, 120.0))
    rows = measured.rank("pareto", within="measured", order="mean")
    assert {r["proposal_id"]: r["front"] for r in rows} == {"R01-01": 1, "R01-02": 1, "R01-03": 1}
    measure(measured, "R01-03", ("C", HIGH, 10.0), ("D", LOW, 150.0))
    assert [r["front"] for r in measured.rank("pareto", within="measured", order="mean")] == [1, 1, 2]


def test_low_capacity_is_left_out_on_request(measured: Campaign):
    rows = measured.rank(within="measured", min_capacity_mah_g=220.0)
    assert [r["proposal_id"] for r in rows] == ["R01-01"]


def test_capacity_below_the_floor_keeps_nothing(campaign: Campaign):
    record_round(campaign, FIRST)
    measure(campaign, "R01-01", ("A", LOW, 10.0), ("B", HIGH, 9.0))
    (row,) = campaign.rank(within="measured")
    assert row["rate_retention_mean"] == 0.0


def test_top_limits_the_rows_and_ranks_count_from_one(measured: Campaign):
    (row,) = measured.rank(within="measured", top=1)
    assert row["rank"] == 1


def test_the_past_is_ranked_under_the_conditions_of_its_time(campaign: Campaign):
    record_round(campaign, FIRST)
    measure(campaign, "R01-01", ("A", LOW, 240.0), ("B", HIGH, 120.0))
    record_round(campaign, SECOND)
    yaml = campaign.folder / FILE_NAME
    yaml.write_text(yaml.read_text() + "\nconditions: {low_current_ma_g: 50}\n")
    with Campaign.open(campaign.folder) as later:
        assert later.rank(within="measured") == []
        assert later.summarize()["best"] is None
        (row,) = later.rank(within="measured", as_of=2)
        assert (row["low_current_ma_g"], row["rate_retention_mean"]) == (20.0, 0.5)
        assert later.summarize(as_of=2)["best"] is not None


def test_ranking_of_a_past_round(measured: Campaign):
    assert measured.rank(within="measured", as_of=1) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "beauty"}, "Rank by one of"),
        ({"by": "rate-retention", "current_ma_g": 100.0}, "--current does not apply"),
        ({"by": "pareto", "current_ma_g": 100.0}, "--current and --cycle do not apply.$"),
        ({"by": "pareto", "cycle": 2}, "--current and --cycle do not apply.$"),
        ({"by": "capacity-retention", "cycle": 1}, "^rank by capacity-retention: The capacity retention .* or more.$"),
        ({"by": "capacity", "current_ma_g": -5.0}, "^rank by capacity: current_ma_g: Input should be greater than 0.$"),
        ({"min_capacity_mah_g": math.nan}, "number of mAh/g"),
        ({"by": "capacity", "as_of": 7}, "no round R07"),
    ],
    ids=["quantity", "current", "pareto-current", "pareto-cycle", "cycle", "negative", "nan", "round"],
)
def test_ranking_that_makes_no_sense_is_refused(campaign: Campaign, options, message: str):
    with pytest.raises(UsageError, match=message):
        rank(campaign, **options, within="measured")


def test_summary_counts_what_is_there(measured: Campaign):
    found = measured.summarize()
    assert found["round"] == 1
    assert found["proposals"] == {"proposed": 0, "accepted": 0, "measured": 3, "failed": 0, "abandoned": 0}
    assert (found["cells"], found["measurements"], found["profiles"]) == (7, 7, 7)
    assert found["half_measured"] == [{"proposal_id": "R01-03", "missing": ["1000 mA/g"]}]
    assert found["best"]["proposal_id"] == "R01-02"
    assert found["model"]["model_id"] == STUB_ID
    assert found["not_learned_from"] == 7
    assert measured.summarize(as_of=1)["measurements"] == 0
    measured.retract_measurement("M0001", "short circuit")
    found = measured.summarize()
    assert (found["cells"], found["measurements"], found["profiles"], found["withdrawn"]) == (6, 6, 6, 1)


def staircase(campaign: Campaign) -> None:
    steps = [(20.0, n, 240.0 - n) for n in range(1, 16)] + [(1000.0, n, 160.0 - n) for n in range(16, 19)]
    cells = (("A", CyclingConditions(c, cycle=n), q) for c, n, q in steps)
    measure(campaign, "R01-01", *cells)


def test_staircase_is_no_first_cycle_and_status_says_why(campaign: Campaign):
    record_round(campaign, FIRST)
    staircase(campaign)
    (found,) = campaign.summarize()["staircases"]
    assert (found["current_ma_g"], found["cycles"], found["counts"]) == (1000.0, [16, 17, 18], False)
    assert campaign.rank(within="measured") == []
    assert campaign.summarize()["half_measured"][0]["missing"] == ["1000 mA/g"]


def test_staircase_counts_flagged_where_the_campaign_says_so(campaign: Campaign):
    record_round(campaign, FIRST)
    staircase(campaign)
    path = campaign.folder / FILE_NAME
    path.write_text(path.read_text() + "first_cycle: staircase\n")
    with Campaign.open(campaign.folder) as again:
        (row,) = again.rank(within="measured")
        assert row["rate_retention_mean"] == pytest.approx(144.0 / 239.0)
        counted = {m.measurement_id: m for m in again.state().counted}
        assert (counted["M0016"].conditions.cycle, counted["M0016"].flags) == (1, ("staircase",))
        assert again.state().valid[15].conditions.cycle == 16
        assert again.summarize()["staircases"][0]["counts"] is True
        shown = {f.conditions.current_ma_g: f.cycles for f in fades(outcomes_of(again.state(), again.spec.goals))}
        assert shown == {20.0: tuple(range(1, 16)), 1000.0: (17, 18)}, "cycle 16 is no first one"


def test_what_is_measured_under_other_conditions_or_without_a_profile_is_said(measured: Campaign):
    with with_goals(measured, conditions={"v_high": 4.5}) as edited:
        found = rank(edited, within="measured")
        assert found.places == ()
        assert "Measured under other conditions alone, not counted as measured: R01-01, R01-02, R01-03." in found.notes
    row = {"proposal_id": "R01-02", "cell": "C", "current_ma_g": 100.0, "capacity_mah_g": 180.0}
    measured.add_measurements(row, fine_tune=False)
    notes = rank(measured, "energy", current_ma_g=100.0, within="measured").notes
    assert "Half-measured, not counted as measured: R01-02 (its cells give none, as without a profile)." in notes


def test_a_prediction_for_other_rates_is_not_shown_beside_a_measurement(campaign: Campaign):
    record_round(campaign, FIRST)
    slower = {"low_current_ma_g": 10.0, "high_current_ma_g": 1000.0}
    with with_goals(campaign, conditions=slower) as edited:
        measure(edited, "R01-01", ("A", CyclingConditions(10.0), 280.0), ("B", HIGH, 150.0))
        (row,) = edited.rank(within="measured")
        goals, proposal = edited.spec.goals, edited.state().proposal("R01-01")
    assert row["capacity_low_mah_g_mean"] == pytest.approx(280.0)
    assert not {"predicted_capacity_low_mah_g_mean", "predicted_rate_retention_mean"} & set(row)
    assert row["predicted_capacity_high_mah_g_mean"] == pytest.approx(192.5)
    said = views.proposal_row(proposal, goals=goals)
    assert {k for k in said if k.endswith("_mean")} == {"capacity_high_mah_g_mean"}
    assert views.proposal_row(proposal)["capacity_low_mah_g_mean"] == pytest.approx(275.0)


def test_the_best_misses_no_constraint_where_there_is_such_a_one(campaign: Campaign):
    with with_goals(campaign, constraints=[{"quantity": "capacity", "at_least": 220}]) as opened:
        record_round(opened, FIRST, SECOND)
        measure(opened, "R01-01", ("A", LOW, 100.0), ("B", HIGH, 90.0))
        best = opened.summarize()["best"]
        assert (best["proposal_id"], best["misses"]) == ("R01-01", ["capacity at 20 mA/g at least 220 mAh/g"])
        outcomes = outcomes_of(opened.state(), opened.spec.goals)
        assert "none of which meets every constraint, the best is" in headline(
            opened.state(), outcomes, opened.spec.goals
        )
        assert best_so_far(outcomes, [1]) == [None]
        measure(opened, "R01-02", ("A", LOW, 250.0), ("B", HIGH, 150.0))
        best = opened.summarize()["best"]
        assert (best["proposal_id"], best["shown"], best["misses"]) == ("R01-02", "0.60", [])
        outcomes = outcomes_of(opened.state(), opened.spec.goals)
        assert [o.proposal.proposal_id for o in best_so_far(outcomes, [1]) if o] == ["R01-02"]
        assert f"the best is {SECOND} (R01-02)" in headline(opened.state(), outcomes, opened.spec.goals)


def test_a_retention_of_a_later_cycle_has_the_capacities_that_it_is_made_of(campaign: Campaign):
    later = [CyclingConditions(current, cycle=20) for current in (20.0, 1000.0)]
    with with_goals(campaign, objectives=[{"quantity": "rate-retention", "cycle": 20}], constraints=[]) as opened:
        record_round(opened, FIRST)
        measure(opened, "R01-01", ("A", later[0], 200.0), ("B", later[1], 120.0))
        found = rank(opened, within="measured")
    (row,) = views.ranking(found)["rows"]
    shown = views.cells_of(row, found.goals.shown, found.goals)
    assert [text.split(" ")[0] for text in shown.values()] == ["0.60", "200", "120"]


# -- whatever a campaign wants ---------------------------------------------------------------------------


def with_goals(campaign: Campaign, **goals: object) -> Campaign:
    """The same campaign with other goals in its YAML."""
    yaml = campaign.folder / FILE_NAME
    yaml.write_text(yaml.read_text() + "".join(f"\n{key}: {json.dumps(value)}" for key, value in goals.items()) + "\n")
    return Campaign.open(campaign.folder)


def test_one_quantity_at_two_currents_is_two_objectives(campaign: Campaign):
    formulas = ("Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.5Ti0.3O2", "Li1.2Mn0.6Ti0.2O2", "Li1.2Mn0.7Ti0.1O2")
    at = [{"quantity": "capacity", "current_ma_g": i} for i in (20, 500)]
    with with_goals(campaign, objectives=at, constraints=[]) as opened:
        record_round(opened, *formulas)
        pairs = ((200.0, 190.0), (260.0, 60.0), (240.0, 120.0), (230.0, 100.0))
        for i, (slow, fast) in enumerate(pairs, start=1):
            measure(opened, f"R01-{i:02d}", ("A", LOW, slow), ("B", CyclingConditions(500.0), fast))
        for order in ("mean", "lower"):
            rows = {r["proposal_id"]: r for r in opened.rank("pareto", within="measured", order=order)}
            assert [rows[f"R01-{i:02d}"]["pareto_front"] for i in (1, 2, 3, 4)] == [1, 1, 1, 2]
        assert rows["R01-02"]["capacity_low_mah_g_mean"] == pytest.approx(260.0)
        assert rows["R01-02"]["capacity_mah_g_at_500_ma_g_mean"] == pytest.approx(60.0)


@pytest.fixture
def for_energy(campaign: Campaign) -> Campaign:
    """A campaign for specific energy: the best has 945, the others 787.5 and 630 Wh/kg."""
    goals = {"objectives": [{"quantity": "specific-energy"}, {"quantity": "rate-retention"}], "constraints": []}
    with with_goals(campaign, **goals) as opened:
        record_round(opened, FIRST, SECOND, THIRD)
        measure(opened, "R01-01", ("A", LOW, 250.0), ("B", HIGH, 240.0))
        measure(opened, "R01-02", ("A", LOW, 200.0), ("B", HIGH, 199.0))
        measure(opened, "R01-03", ("A", LOW, 300.0), ("B", HIGH, 100.0))
        yield opened


def test_the_best_is_that_of_the_first_objective(for_energy: Campaign):
    best = for_energy.summarize()["best"]
    assert (best["proposal_id"], best["composition"]) == ("R01-03", for_energy.state().proposal("R01-03").composition)
    assert best["specific_energy_wh_kg"] == pytest.approx(945.0)


def test_a_ranking_without_a_name_is_by_the_first_objective(for_energy: Campaign):
    rows = for_energy.rank(within="measured")
    assert [r["specific_energy_wh_kg_mean"] for r in rows] == pytest.approx([945.0, 787.5, 630.0])
    assert rows[0]["specific_energy_wh_kg_lower"] < 945


def test_the_model_learns_the_energy_that_was_measured(for_energy: Campaign):
    from campaigns.loop.forecast import measured_of

    goals, state = for_energy.spec.goals, for_energy.state()
    at = goals.column(goals.first)
    values = {m.composition.formula: m.values(goals)[at] for m in measured_of(state, goals)}
    third = state.proposal("R01-03").composition
    assert values == pytest.approx({FIRST: 787.5, SECOND: 630.0, third: 945.0})


def test_measured_rows_show_what_was_predicted(measured: Campaign):
    row = next(r for r in measured.rank(within="measured") if r["proposal_id"] == "R01-02")
    assert row["predicted_rate_retention_mean"] == pytest.approx(0.7)
    assert row["predicted_capacity_low_mah_g_mean"] == pytest.approx(275.0)
    assert row["state"] == "measured"


def test_a_cost_without_a_price_is_a_sentence_and_the_price_is_taken_from_the_yaml(campaign: Campaign):
    record_round(campaign, "Li1.2Mn0.6La0.2O2")
    measure(campaign, "R01-01", ("A", LOW, 200.0))
    with pytest.raises(ConfigurationError, match=r"No price is known for La\..*prices: \{La: 12.5\}"):
        rank(campaign, "cost", within="measured")
    with with_goals(campaign, prices={"La": 5.0}) as priced:
        (row,) = priced.rank("cost", within="measured")
        assert row["cost_usd_kwh_mean"] > 0
        assert row["cost_usd_kwh_upper"] > row["cost_usd_kwh_mean"]


def test_a_cost_is_ranked_by_its_upper_bound(measured: Campaign):
    rows = measured.rank("cost", within="measured")
    bounds = [r["cost_usd_kwh_upper"] for r in rows]
    assert bounds == sorted(bounds)
    assert all(r["cost_usd_kwh_upper"] > r["cost_usd_kwh_mean"] for r in rows)
    rows += measured.rank("cost", within="measured", current_ma_g=1000.0)
    assert all(r["cost_usd_kwh_lower"] < r["cost_usd_kwh_mean"] for r in rows)


def test_cells_that_were_tested_otherwise_stand_apart_and_are_told(campaign: Campaign):
    record_round(campaign, FIRST)
    row = {"proposal_id": "R01-01", "current_ma_g": 20.0, "temperature_c": 25.0}
    cells = [("A", 250.0, 25.0), ("B", 240.0, 25.0), ("C", 290.0, 55.0)]
    campaign.add_measurements(
        [row | {"cell": c, "capacity_mah_g": q, "temperature_c": t} for c, q, t in cells],
        fine_tune=False, confirmed=True,
    )  # fmt: skip
    (found,) = campaign.rank("capacity", within="measured")
    assert found["capacity_low_mah_g_mean"] == pytest.approx(245.0)
    assert found["why"] == "measured: 2 cells at 20 mA/g; 1 more made or tested otherwise"


def test_a_ranking_of_a_part_of_the_space_says_so(campaign: Campaign, tmp_path: Path):
    def told(opened: Campaign, proof: Path | None = None, **question: object) -> str:
        return " ".join(Asked.of(opened, Question(**question), proof).notes)

    assert "Of the space" not in told(campaign, within="space") + told(campaign, by="pareto")
    assert "the 2,000 best by what the strategy makes of them" in told(campaign, by="pareto", within="space")
    assert "the 2,000 best by their pessimistic bound" in told(campaign, order="mean", within="space")
    with with_goals(campaign, method="best-first") as searched:
        assert "looked through by best-first, which may miss some" in told(searched, within="space")
        assert "looked through" not in told(searched, tmp_path / "p", within="space") + told(searched)


def test_an_interval_holds_its_mean_whichever_side_is_wanted(campaign: Campaign):
    with with_goals(campaign, constraints=[{"quantity": "capacity", "at_most": 260}]) as opened:
        record_round(opened, FIRST)
        measure(opened, "R01-01", ("A", LOW, 250.0), ("B", HIGH, 150.0))
        (row,) = opened.rank("capacity", within="measured")
    assert row["capacity_low_mah_g_lower"] < 250.0 < row["capacity_low_mah_g_upper"]


def test_a_ranking_at_another_current_leaves_what_the_campaign_wants_as_it_is(for_energy: Campaign):
    energies = {r["proposal_id"]: r["specific_energy_wh_kg_mean"] for r in for_energy.rank(within="measured")}
    found = rank(for_energy, "energy", current_ma_g=1000.0, within="measured")
    rows = views.ranking(found)
    assert [each["key"] for each in rows["asked"]] == ["specific_energy_wh_kg_at_1000_ma_g"]
    assert rows["notes"] == list(found.notes)
    assert {r["proposal_id"]: r["specific_energy_wh_kg_mean"] for r in rows["rows"]} == energies
    first = rows["rows"][0]
    assert first["specific_energy_wh_kg_at_1000_ma_g_mean"] == pytest.approx(3.15 * 240.0)
    shown = views.cells_of(first, (*found.asked, *found.goals.shown), found.goals)
    assert shown["specific energy at 1000 mA/g (Wh/kg)"].startswith("756 (")
    assert shown["specific energy at 20 mA/g (Wh/kg)"].startswith("788 (")


def test_an_upper_limit_counts_as_one(campaign: Campaign):
    limit = [{"quantity": "average-voltage", "at_most": 3.0}]
    with with_goals(campaign, constraints=limit) as opened:
        record_round(opened, FIRST)
        measure(opened, "R01-01", ("A", LOW, 250.0), ("B", HIGH, 150.0))  # straight profiles: 3.15 V
        (row,) = opened.rank(within="measured")
    assert row["feasibility"] < 0.1


def test_one_composition_has_one_domain_label(campaign: Campaign):
    record_round(campaign, FIRST)
    measure(campaign, "R01-01", ("A", LOW, 250.0), ("B", HIGH, 150.0))
    with campaign.ledger.write("propose") as entry:
        again = prediction(domain="edge")
        recipe = {"seed": 0, "strategy": "greedy", "spec": campaign.spec.resolved(), "spec_hash": "", "statistics": {}}
        entry.add_round([(FIRST, again, ())], model_id=entry.before.current_model.model_id, **recipe)
    measure(campaign, "R02-01", ("A", LOW, 252.0), ("B", HIGH, 150.0))
    rows = campaign.rank(within="measured")
    assert [r["composition"] for r in rows] == [FIRST, FIRST]
    assert {r["domain"] for r in rows} == {"edge"}


def test_what_failed_says_so(measured: Campaign):
    from campaigns.loop.places import with_state

    failed = replace(measured.state().proposal("R01-03"), state=State.FAILED, reason="second phase")
    assert with_state(failed, "nearest known: X") == "failed (second phase); nearest known: X"
    assert with_state(measured.state().proposal("R01-01"), "measured: 2 cells") == "measured: 2 cells"


def test_keys_of_a_measured_row_are_those_of_the_first_version_and_more(measured: Campaign):
    known = (
        "rank proposal_id composition source rate_retention_mean rate_retention_std rate_retention_lower "
        "low_current_ma_g high_current_ma_g capacity_low_mah_g_mean capacity_low_mah_g_std capacity_high_mah_g_mean "
        "capacity_high_mah_g_std feasibility score domain why"
    ).split()
    row = measured.rank(within="measured")[0]
    assert [k for k in row if k in known] == known


def test_a_ranking_and_the_report_state_the_same_spread_of_a_measurement(measured: Campaign):
    state, goals = measured.state(), measured.spec.goals
    outcomes = {o.proposal.proposal_id: o for o in outcomes_of(state, goals)}
    for row in measured.rank(within="measured"):
        outcome = outcomes[row["proposal_id"]]
        for quantity in goals.quantities:
            key, found = quantity.key(goals.rates), outcome.measured(quantity)
            assert found is not None
            assert row[f"{key}_std"] == pytest.approx(found.error)
            assert (row[f"{key}_lower"], row[f"{key}_upper"]) == pytest.approx(outcome.interval(quantity))
    comparison = compare(list(outcomes.values()), goals.first)
    assert comparison.measured_std.tolist() == pytest.approx(
        [outcomes[name].measured(goals.first).error for name in ("R01-01", "R01-02")]
    )


def test_a_prediction_of_an_earlier_version_has_both_ends_of_its_interval():
    said = QuantityValue("rate-retention: here", "rate_retention", 0.7, 0.05, 0.636)
    assert said.row()["rate_retention_upper"] == pytest.approx(0.7 + 1.2816 * 0.05, abs=1e-4)
    small = QuantityValue("cost-per-kwh: here", "cost_usd_kwh", 20.0, 1.0, 21.28, "upper")
    assert small.interval == pytest.approx((20 - 1.2816, 21.28), abs=1e-4)


def test_the_members_own_spread_is_shown_on_request():
    said = QuantityValue("rate-retention: here", "rate_retention", 0.7, 0.05, 0.636, "lower", 0.764, 0.02)
    proposal = Proposal("R01-01", 1, FIRST, "proposed", State.PROPOSED, "", prediction(values=(said,)), 1)
    assert "rate_retention_std_members" not in views.proposal_row(proposal)
    row = views.proposal_row(proposal, members=True)
    assert (row["rate_retention_std"], row["rate_retention_std_members"]) == (0.05, 0.02)
    goals = Goals()
    assert views.cells_of(row, [goals.first], goals) == {
        "retention": "0.70 (0.64-0.76)", "± members retention": "0.02",
    }  # fmt: skip


@pytest.mark.parametrize(("count", "ending"), [(5, "5"), (6, "6"), (7, "6 and 1 more"), (20, "6 and 14 more")])
def test_a_note_names_six_and_counts_the_others(campaign: Campaign, count: int, ending: str):
    made = [f"Li1.2Mn{0.2 + i / 40:g}Ti{0.6 - i / 40:g}O2" for i in range(count)]
    record_round(campaign, *made)
    campaign.add_measurements(
        [{"composition": c, "current_ma_g": 20, "capacity_mah_g": 200.0 + i} for i, c in enumerate(made)],
        fine_tune=False,
    )
    (note,) = (n for n in rank(campaign, "rate-retention", within="measured").notes if n.startswith("Half-measured"))
    last, _, more = ending.partition(" ")
    assert note.count("(no cell at 1000 mA/g)") == min(count, 6)
    assert note.endswith(f"R01-0{last} (no cell at 1000 mA/g){' ' + more if more else ''}.")


@pytest.mark.parametrize(("least", "left", "said"), [(0, 3, None), (245, 2, 1), (255, 1, 2), (400, 0, 3)])
def test_a_note_counts_what_is_left_out_for_its_capacity(campaign: Campaign, least: float, left: int, said: int | None):
    record_round(campaign, FIRST, SECOND, THIRD)
    for i, capacity in enumerate((240.0, 250.0, 260.0), start=1):
        measure(campaign, f"R01-{i:02d}", ("A", LOW, capacity), ("B", HIGH, 150.0))
    found = rank(campaign, min_capacity_mah_g=least, within="measured")
    assert len(found.places) == left
    notes = [note for note in found.notes if "left out" in note]
    expected = f"{said} measured compositions left out: below {least:g} mAh/g, or not measured there."
    assert notes == ([] if said is None else [expected])


@pytest.mark.parametrize(
    ("order", "by", "names"),
    [
        ("lower", ("capacity",), "BCAD"),  # the lower bounds
        ("mean", ("capacity",), "ABCD"),
        ("lower", ("cost-per-kwh",), "CBAD"),  # the upper bounds, the smallest first
        ("mean", ("cost-per-kwh",), "CABD"),
        ("mean", ("capacity", "cost-per-kwh"), "ACBD"),  # A and C on the first front
    ],
)
def test_the_best_comes_first_by_its_bound_or_its_mean(order: str, by: tuple[str, ...], names: str):
    """D lacks everything."""
    goals = Goals(objectives=tuple(map(objective, ("capacity", "cost-per-kwh"))), constraints=())
    capacity, cost = (goals.quantities[c] for c in goals.objective_columns)
    table = {
        "C": ((240.0, 230.0), (70.0, 75.0)),
        "D": (),
        "A": ((260.0, 200.0), (80.0, 99.0)),
        "B": ((250.0, 240.0), (85.0, 90.0)),
    }
    places = []
    for name, said in table.items():
        values = [
            QuantityValue(q.identity, q.key(goals.rates), mean, 1.0, bound)
            for q, (mean, bound) in zip((capacity, cost), said, strict=False)
        ]
        places.append(Place(name, None, "predicted", tuple(values), None, None, ""))
    asked = [q for q in (capacity, cost) if q.name in by]
    found = _ordered(places, asked, goals, order)  # type: ignore[arg-type]
    assert "".join(p.composition for p in found) == names
    assert [p.front for p in found] == ([1, 1, 2, 3] if len(by) > 1 else [None] * 4)


def objective(name: str) -> ObjectiveSpec:
    return ObjectiveSpec(quantity=name)
