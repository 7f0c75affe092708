"""The numbers behind the report: what counts as measured, coverage, fronts, maps, the headline."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filled_ledgers import GOALS, filled_ledger, truth
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from campaigns.ledger.records import Snapshot, State
from campaigns.loop.outcomes import (
    Comparison,
    Outcome,
    best_so_far,
    compare,
    composition_map,
    coverage,
    headline,
    outcomes_of,
    pareto_front,
    staircase,
    trade_off,
)
from screening.estimates import standard_error
from screening.goals import Goals, ObjectiveSpec
from screening.quantities import Capacity, CostPerKwh

LOW, HIGH = Capacity(GOALS.rates.low), Capacity(GOALS.rates.high)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return filled_ledger(tmp_path_factory.mktemp("campaign")).read()


def test_what_is_wanted_is_read_off_the_cells(snapshot: Snapshot):
    outcome = next(o for o in outcomes_of(snapshot, GOALS) if o.leading and o.proposal.round)
    at = {
        current: [
            m.capacity_mah_g
            for m in snapshot.valid
            if m.proposal_id == outcome.proposal.proposal_id and m.conditions.current_ma_g == current
        ]
        for current in (20.0, 1000.0)
    }
    assert outcome.leading is not None
    assert outcome.leading.mean == pytest.approx(np.mean(at[1000.0]) / np.mean(at[20.0]))
    relative = [np.std(v, ddof=1) / np.mean(v) for v in at.values()]
    assert outcome.leading.spread == pytest.approx(outcome.leading.mean * np.hypot(*relative))
    assert outcome.leading.mean == pytest.approx(truth(outcome.proposal.composition)[1], rel=0.1)


def test_the_lower_bound_of_a_mean_narrows_with_the_number_of_cells(snapshot: Snapshot):
    outcome = next(o for o in outcomes_of(snapshot, GOALS) if o.leading and o.proposal.round)
    low, high = outcome.measured(LOW), outcome.measured(HIGH)
    assert low is not None
    assert high is not None
    assert outcome.leading is not None
    error = outcome.leading.mean * np.hypot(standard_error(low) / low.mean, standard_error(high) / high.mean)
    assert outcome.merit == pytest.approx(outcome.leading.mean - 1.28155 * error, rel=1e-5)
    waiting = next(o for o in outcomes_of(snapshot, GOALS) if not o.measurements)
    assert waiting.merit == waiting.proposal.prediction.value(GOALS.first.identity).bound


def test_the_order_of_a_table_is_that_of_the_ends_it_shows(snapshot: Snapshot):
    goals = Goals(objectives=(ObjectiveSpec(quantity="capacity"),), constraints=())
    waiting = next(o for o in outcomes_of(snapshot, goals) if not o.measurements)
    said = waiting.proposal.prediction
    assert said is not None
    # more expected than all lithium gives (300), where the interval ends
    most = replace(said.value(goals.first.identity), mean=420.0, std=50.0, bound=236.0, far=300.0)
    beyond = Outcome(replace(waiting.proposal, prediction=replace(said, values=(most,))), goals)
    assert beyond.interval(goals.first) == (236.0, 300.0)
    assert beyond.merit == 236.0


def test_nothing_is_retained_below_the_capacity_floor(snapshot: Snapshot):
    outcome = next(o for o in outcomes_of(snapshot, GOALS) if o.leading)
    dead = Outcome(outcome.proposal, GOALS, tuple(replace(m, capacity_mah_g=3.0) for m in outcome.measurements))
    assert dead.leading is not None
    assert dead.leading.mean == 0.0
    assert dead.merit == 0


def test_what_was_predicted_for_other_rates_is_not_compared(snapshot: Snapshot):
    other = replace(GOALS, rates=GOALS.rates.model_copy(update={"low_current_ma_g": 50.0}))
    for outcome in outcomes_of(snapshot, other):
        assert outcome.predicted(other.first) is None
        assert outcome.merit == -np.inf or outcome.leading is not None


ENERGY = Goals(
    objectives=(ObjectiveSpec(quantity="specific-energy"), ObjectiveSpec(quantity="capacity-retention", cycle=20)),
    constraints=(),
)


def test_a_campaign_for_energy_is_led_by_the_energy(snapshot: Snapshot):
    outcomes = [o for o in outcomes_of(snapshot, ENERGY) if o.leading]
    assert outcomes
    for outcome in outcomes:
        energies = [m.specific_energy_wh_kg for m in outcome.measurements if m.conditions.current_ma_g == 20.0]
        assert outcome.leading.mean == pytest.approx(np.mean(energies))
        assert outcome.missing == ("20 mA/g, cycle 20",)
        assert outcome.half_measured
    (best,) = best_so_far(outcomes, [9])
    assert best.merit == max(o.merit for o in outcomes)
    text = headline(snapshot, outcomes_of(snapshot, ENERGY), ENERGY)
    assert f"{best.proposal.composition} ({best.proposal.proposal_id}), with a specific energy at 20 mA/g of" in text
    assert "Wh/kg" in text


def test_what_is_to_be_small_is_best_where_it_is_small(snapshot: Snapshot):
    goals = Goals(objectives=(ObjectiveSpec(quantity="cost-per-kwh"),), constraints=())
    outcomes = [o for o in outcomes_of(snapshot, goals) if o.leading]
    (best,) = best_so_far(outcomes, [9])
    assert best.bound(goals.first) == min(o.bound(goals.first) for o in outcomes)
    assert best.bound(goals.first) > best.leading.mean
    known = trade_off(outcomes_of(snapshot, goals), goals)
    assert known.signs.tolist() == [1, -1]
    across, along = known.measured.at[known.front].T
    assert (np.diff(across) > 0).all()
    assert (np.diff(along) > 0).all(), "more capacity is dearer on the front"
    beaten = [
        any((better >= 0).all() and (better > 0).any() for better in (known.measured.at - point) * known.signs)
        for point in known.measured.at
    ]
    assert np.flatnonzero(~np.array(beaten)).tolist() == sorted(known.front)


def test_one_rate_alone_is_half_measured_and_names_the_other(snapshot: Snapshot):
    half = [o for o in outcomes_of(snapshot, GOALS) if o.half_measured]
    assert half
    assert all(o.missing == ("1000 mA/g",) and o.leading is None for o in half)


def test_only_what_something_was_said_of_since_is_another_outcome(snapshot: Snapshot):
    known = outcomes_of(snapshot, GOALS)
    gone = next(m for m in snapshot.valid if m.proposal_id.startswith("R02"))
    others = tuple(replace(m, withdrawn_event=99) if m == gone else m for m in snapshot.measurements)
    now = replace(snapshot, measurements=others)
    again = outcomes_of(now, GOALS, known)
    assert again == outcomes_of(now, GOALS)
    assert [o.proposal.proposal_id for o, old in zip(again, known, strict=True) if o is not old] == [gone.proposal_id]
    other_goals = Goals(objectives=(ObjectiveSpec(quantity="specific-energy"),))
    assert not any(o is old for o, old in zip(outcomes_of(now, other_goals, known), known, strict=True))


def test_withdrawn_measurements_do_not_count(snapshot: Snapshot):
    lab = next(o for o in outcomes_of(snapshot, GOALS) if o.proposal.origin == "lab")
    low = lab.measured(LOW)
    assert low is not None
    assert low.count == 1
    assert sum(m.proposal_id == lab.proposal.proposal_id for m in snapshot.measurements) == 3


def test_a_comparison_pairs_the_prediction_of_the_time_with_the_cells(snapshot: Snapshot):
    outcomes = outcomes_of(snapshot, GOALS)
    comparison = compare(outcomes, GOALS.first)
    assert len(comparison.measured) == sum(bool(o.leading and o.proposal.prediction) for o in outcomes)
    first = comparison.outcomes[0]
    assert first.proposal.prediction is not None
    assert comparison.predicted[0] == first.proposal.prediction.value(GOALS.first.identity).mean
    assert comparison.mean_absolute_error == pytest.approx(np.abs(comparison.predicted - comparison.measured).mean())


def test_normal_errors_are_covered_as_often_as_promised():
    rng = np.random.default_rng(0)
    std = rng.uniform(5, 30, 4000)
    truth_ = rng.uniform(100, 300, 4000)
    measured = truth_ + std * rng.standard_normal(4000)
    levels = np.array([0.1, 0.5, 0.9])
    comparison = Comparison(LOW, (), truth_, std, measured, np.full(4000, np.nan))
    assert coverage([comparison], levels) == pytest.approx(levels, abs=0.025)
    assert (coverage([replace(comparison, predicted_std=std / 3)], levels) < levels - 0.05).all()
    assert comparison.within(1) / 4000 == pytest.approx(0.683, abs=0.025)


def test_without_measurements_the_coverage_is_unknown():
    nothing = Comparison(GOALS.first, (), *([np.empty(0)] * 4))
    assert np.isnan(coverage([nothing], np.array([0.5]))).all()


@given(arrays(float, st.tuples(st.integers(1, 30), st.just(2)), elements=st.integers(0, 9).map(float)))
def test_nothing_beats_the_front_and_something_beats_all_else(points: np.ndarray):
    front = pareto_front(points)
    assert (np.diff(points[front, 0]) > 0).all()
    assert (np.diff(points[front, 1]) < 0).all()
    for i, point in enumerate(points):
        beaten = any((points[j] >= point).all() for j in front if j != i)
        assert beaten or i in front
    for i in front:
        assert not any((p >= points[i]).all() and (p > points[i]).any() for p in points)


def test_the_staircase_starts_left_ends_at_the_bottom_and_passes_every_corner():
    front = np.array([[1.0, 3.0], [2.0, 1.0]])
    assert staircase(front, (0.0, 0.0)).tolist() == [[0, 3], [1, 3], [1, 1], [2, 1], [2, 0]]


def test_failed_compositions_are_not_waiting(snapshot: Snapshot):
    outcomes = outcomes_of(snapshot, GOALS)
    known = trade_off(outcomes, GOALS)
    assert all(o.proposal.state not in (State.FAILED, State.ABANDONED) for o in known.waiting.outcomes)
    assert len(known.measured.outcomes) == len(known.measured.at) == sum(o.leading is not None for o in outcomes)


def test_the_best_so_far_never_falls(snapshot: Snapshot):
    outcomes = [o for o in outcomes_of(snapshot, GOALS) if o.leading]
    rounds = [0, 1, 2, 3, 4]
    trail = best_so_far(outcomes, rounds)
    met = [[o for o in outcomes if not o.missed and (o.proposal.round or 0) <= number] for number in rounds]
    assert [o is None for o in trail] == [not those for those in met]
    assert [o.merit for o in trail if o] == [max(o.merit for o in those) for those in met if those]
    assert len(met[1]) > len(met[0])


def test_the_map_keeps_distances_of_a_plane_and_turns_no_axis_around():
    formulas = ["Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.6Ti0.2O2", "Li1.1Mn0.5Ti0.4O2", "Li1.3Mn0.3Ti0.4O2"]
    plane = composition_map(formulas)
    amounts = np.array([[1.2, 0.4, 0.4], [1.2, 0.2, 0.6], [1.1, 0.4, 0.5], [1.3, 0.4, 0.3]])
    wanted = np.linalg.norm(amounts[:, None] - amounts[None], axis=-1)
    came = np.linalg.norm(plane.positions[:, None] - plane.positions[None], axis=-1)
    assert came == pytest.approx(wanted, abs=1e-9)
    assert sum(plane.explained) == pytest.approx(1)
    for axis in plane.loadings.T:
        assert axis[np.abs(axis).argmax()] > 0


def test_a_single_composition_has_a_map_too():
    plane = composition_map(["Li1.2Mn0.4Ti0.4O2"])
    assert plane.positions.shape == (1, 2)
    assert np.isfinite(plane.positions).all()


def test_the_headline_names_the_best_composition_and_what_is_waiting(snapshot: Snapshot):
    outcomes = outcomes_of(snapshot, GOALS)
    best = max((o for o in outcomes if o.leading), key=lambda o: o.merit)
    text = headline(snapshot, outcomes, GOALS)
    assert best.proposal.composition in text
    assert best.proposal.proposal_id in text
    assert "After 4 rounds" in text
    assert text.endswith("8 compositions wait for cells.")


def test_the_headline_of_a_first_round_is_a_prediction(tmp_path: Path):
    snapshot = filled_ledger(tmp_path, rounds=1).read(as_of=1)
    text = headline(snapshot, outcomes_of(snapshot, GOALS), GOALS)
    assert text.startswith("No rate retention is measured yet after 1 round")
    assert re.search(r"a rate retention of \d\.\d\d ± 0\.\d\d is predicted", text)


def test_the_headline_of_an_empty_campaign():
    assert headline(Snapshot("demo", None), (), GOALS) == "Campaign demo has not proposed anything yet."


def test_what_the_campaign_wants_goes_before_what_a_quantity_usually_is(snapshot: Snapshot):
    low_voltage = Goals(objectives=(ObjectiveSpec(quantity="average-voltage", direction="minimize"),))
    outcome = Outcome(snapshot.proposals[0], low_voltage)
    assert outcome.sign(low_voltage.first) == -1
    assert outcome.sign(CostPerKwh(GOALS.rates.low)) == -1
    assert outcome.sign(HIGH) == 1


def test_a_comparison_keeps_both_spreads(snapshot: Snapshot):
    found = compare(outcomes_of(snapshot, GOALS), GOALS.first)
    assert (found.predicted_std > 0).all()
    said = [o.proposal.prediction.value(GOALS.first.identity) for o in found.outcomes if o.proposal.prediction]
    assert found.predicted_std.tolist() == [value.std for value in said if value]


def test_the_headline_says_how_much_better_than_the_first_round_it_is(snapshot: Snapshot):
    outcomes = outcomes_of(snapshot, GOALS)
    first, best = (o.leading for o in best_so_far(outcomes, [1, 4]) if o)
    assert first is not None
    assert best is not None
    assert f", {best.mean - first.mean:.2f} better than the best of round 1" in headline(snapshot, outcomes, GOALS)
    early = replace(snapshot, rounds=snapshot.rounds[:1])
    assert "better than" not in headline(early, outcomes, GOALS)


def test_what_waits_lies_where_it_was_predicted(snapshot: Snapshot):
    outcomes = outcomes_of(snapshot, GOALS)
    known = trade_off(outcomes, GOALS)
    assert known.axes == (LOW, GOALS.first)
    waiting = [o for o in outcomes if not all(o.measured(q) for q in known.axes) and not o.dropped]
    assert {o.half_measured for o in waiting} == {True, False}
    said = [[o.predicted(q) for q in known.axes] for o in waiting]
    both = [(o, s) for o, s in zip(waiting, said, strict=True) if all(s)]
    assert known.waiting.outcomes == tuple(o for o, _ in both)
    assert known.waiting.at.tolist() == [[e.mean for e in s] for _, s in both]
    assert known.waiting.spreads.tolist() == [[e.error for e in s] for _, s in both]
    found = [[o.measured(q) for q in known.axes] for o in known.measured.outcomes]
    assert known.measured.at.tolist() == [[e.mean for e in f] for f in found]


def test_the_corner_lies_beyond_all_points_and_their_bars(snapshot: Snapshot):
    known = trade_off(outcomes_of(snapshot, GOALS), GOALS)
    every = np.concatenate([known.measured.at, known.waiting.at])
    spreads = np.nan_to_num(np.concatenate([known.measured.spreads, known.waiting.spreads]))
    for bars, least in ((False, every), (True, every - spreads)):
        expected = least.min(0) - 0.06 * (np.ptp(least, 0) + 1e-3)
        assert known.corner(bars).tolist() == pytest.approx(expected.tolist())
        border = known.border(known.corner(bars))
        assert len(border) == 2 * len(known.front) + 1
        assert border[0].tolist() == [known.corner(bars)[0], known.measured.at[known.front][0, 1]]
        assert border[-1].tolist() == [known.measured.at[known.front][-1, 0], known.corner(bars)[1]]
