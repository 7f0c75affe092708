from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble
from ledgers import FIRST, SECOND, THIRD, record_round, write_campaign
from small_model import write_small_model

from campaigns.campaign import Campaign
from campaigns.loop import forecast as forecast_module
from campaigns.loop.forecast import Forecast, Look, limits_of, measured_of, published, run_stream, scorer_of_ranking
from campaigns.loop.places import Means, Question, Sought
from campaigns.loop.rank import rank
from drxnet.composition import Composition
from drxnet.literature import published_capacities
from drxnet.process import Process
from screening.candidates import CandidateList
from screening.estimates import Estimate, same_conditions, standard_error
from screening.goals import ObjectiveSpec
from screening.lattice import Lattice
from screening.measured import Measured
from screening.outlook import Outlook
from screening.quantities import Capacity, RateRetention
from screening.scoring import StreamScorer
from screening.space import load_space


def test_measured_values_are_means_over_cells(campaign: Campaign):
    record_round(campaign, FIRST, SECOND, THIRD)
    rows = [(FIRST, 20, 240.0), (FIRST, 20, 250.0), (FIRST, 1000, 150.0), (SECOND, 20, 200.0)]
    campaign.add_measurements(
        [{"composition": c, "current_ma_g": i, "capacity_mah_g": q} for c, i, q in rows], fine_tune=False
    )
    first, second = measured_of(campaign.state(), campaign.spec.goals)
    goals = campaign.spec.goals
    low, high, retention = Capacity(goals.rates.low), Capacity(goals.rates.high), RateRetention.of(goals.rates)
    assert (first.estimates[low].mean, first.estimates[high].mean) == (245.0, 150.0)
    assert first.estimates[retention].mean == pytest.approx(150 / 245)
    wanted = standard_error(Estimate(245.0, float(np.std([240, 250], ddof=1)), 2))
    assert first.estimates[low].error == pytest.approx(wanted)
    assert second.estimates[low].mean == 200.0
    assert set(second.estimates) == {low}
    assert np.isnan(second.variances(goals)).all(), "one cell without an uncertainty: the model's own noise"


def test_published_capacities_are_means_over_what_counts_at_the_rates(campaign: Campaign):
    goals = campaign.spec.goals
    low = Capacity(goals.rates.low)
    rows: dict[Composition, list[float]] = {}
    for row in published_capacities():
        if row.counted and same_conditions(row.conditions, low.at):
            rows.setdefault(row.composition, []).append(row.capacity_mah_g)
    found = {m.composition: m.estimates[low] for m in published(goals) if low in m.estimates}
    assert len(found) > 5
    for composition, estimate in found.items():
        assert estimate.mean == pytest.approx(np.mean(rows[composition])), composition


def test_limits_of_the_lab_reach_the_choice(campaign: Campaign):
    limits = limits_of(campaign.spec)
    assert limits.min_distance == campaign.spec.lab.min_distance
    assert limits.banned == campaign.spec.lab.banned


def test_forecast_without_data_is_the_mean_of_the_members(campaign: Campaign):
    ensemble, goals = FakeEnsemble(3), campaign.spec.goals
    compositions = [Composition.parse(c) for c in (FIRST, SECOND)]
    forecast = Forecast(Outlook.of(ensemble, goals), compositions)
    expected = goals.evaluate(ensemble, compositions).mean(0).numpy()
    np.testing.assert_allclose(forecast.mean, expected, rtol=1e-6)
    assert set(forecast.columns["domain"]) <= {"inside", "edge", "outside"}
    for (low, high), row in zip(forecast.profiles(), expected, strict=True):
        assert low.capacity_mah_g_mean[0] == pytest.approx(row[1])
        assert high.capacity_mah_g_mean[0] == pytest.approx(row[2])


def test_a_mean_beyond_all_lithium_keeps_its_value_and_the_interval_ends_there(campaign: Campaign):
    goals = campaign.spec.goals
    (most,) = {c.theoretical_capacity_mah_g for c in [Composition.parse(FIRST)]}
    forecast = Forecast(Outlook.of(FakeEnsemble(3), goals), [Composition.parse(FIRST)])
    assert forecast.cautions(0) == ()
    column = goals.column(Capacity(goals.rates.low))
    forecast.mean[0, column] = most + 40
    row = forecast.row(0)
    assert row["capacity_low_mah_g_mean"] == pytest.approx(most + 40)
    assert row["capacity_low_mah_g_lower"] < row["capacity_low_mah_g_upper"] == pytest.approx(most)
    (said,) = forecast.cautions(0)
    assert "is more than all lithium gives" in said
    assert f"{most:.0f} mAh/g" in said


@pytest.mark.parametrize("objective", ["capacity", "cost-per-kwh"])
def test_a_space_is_ranked_by_the_bound_that_is_shown(campaign: Campaign, objective: str):
    """A spread of another size everywhere would do; a laboratory's cells change it by where they lie."""
    goals = replace(campaign.spec.goals, objectives=(ObjectiveSpec(quantity=objective),), constraints=())
    cells = zip((FIRST, SECOND, THIRD), (190.0, 260.0, 205.0), strict=True)
    known = [Measured.at_two_rates(Composition.parse(c), goals.rates, q, q / 2) for c, q in cells]
    outlook = Outlook.of(FakeEnsemble(3), goals, measured=known)
    candidates = campaign.spec.candidates()
    sought = Sought((goals.first,), frozenset(), Question(), None)
    units = candidates.unrank(np.arange(candidates.count))[::7]
    found = scorer_of_ranking(campaign.spec, candidates, outlook, sought).score(units)
    key, sign = goals.first.key(goals.rates), goals.signs[0]
    shown = Forecast(outlook, candidates.compositions(units)).columns[f"{key}_{goals.sides[0]}"]
    admitted = np.isfinite(found)
    assert admitted.sum() > 20
    np.testing.assert_allclose(sign * found[admitted], shown[admitted], rtol=1e-6)


def test_the_members_own_spread_stands_beside_the_calibrated_one(campaign: Campaign):
    ensemble, goals = FakeEnsemble(3), campaign.spec.goals
    compositions = [Composition.parse(c) for c in (FIRST, SECOND)]
    forecast = Forecast(Outlook.of(ensemble, goals), compositions)
    alone = goals.evaluate(ensemble, compositions).std(0, correction=0).numpy()
    np.testing.assert_allclose(forecast.members_std, alone, rtol=1e-6)
    assert forecast.row(1)["capacity_low_mah_g_std_members"] == pytest.approx(alone[1, 1])
    assert (forecast.std > forecast.members_std).all()


class Enough(Exception):
    """Carries what would have been called."""


def calls(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def call(*arguments: object, **named: object) -> None:
        raise Enough(arguments, named)

    monkeypatch.setattr(forecast_module, name, call)


@pytest.mark.parametrize(
    ("look", "budget_s", "evaluations"),
    [
        (Look("auto"), 600.0, None),
        (Look("auto", time_limit_s=7.0), 7.0, None),
        (Look("best-first", 50), 1e9, 50),
        (Look("evolution", 60, time_limit_s=7.0), 7.0, 60),
    ],
)
def test_a_search_has_the_time_that_is_given_and_a_usual_one_only_where_it_plans(
    monkeypatch: pytest.MonkeyPatch, look: Look, budget_s: float, evaluations: int | None
):
    calls(monkeypatch, "find_shortlist")
    calls(monkeypatch, "stream")
    lattice = Lattice(load_space("tiny"))
    with pytest.raises(Enough) as caught:
        run_stream(lattice, object(), look, Means(workers=0), keep=9)  # type: ignore[arg-type]
    (source, _), named = caught.value.args
    assert source is lattice
    asked = ("keep", "time_budget_s", "evaluations", "method")
    assert [named[key] for key in asked] == [9, budget_s, evaluations, look.method]


@pytest.mark.parametrize(
    ("device", "number", "share"),
    [("cpu", 0, 0.0), ("cpu", 2, 0.0), ("cuda", 2, 1.0), ("cuda:1", None, 1.0), ("cuda", 0, 0.0)],
)
def test_a_walk_has_its_limit_of_time_and_a_gpu_for_each_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch, device: str, number: int | None, share: float
):
    calls(monkeypatch, "stream")
    monkeypatch.setattr(forecast_module, "speed", lambda *_, **__: 1e-3)
    own = CandidateList([FIRST, SECOND])
    with pytest.raises(Enough) as caught:
        run_stream(own, object(), Look("best-first", time_limit_s=5.0), Means(device, workers=number), keep=3)  # type: ignore[arg-type]
    _, named = caught.value.args
    assert [named[key] for key in ("keep", "workers", "gpus_per_worker", "time_limit_s")] == [3, number, share, 5.0]


@pytest.mark.parametrize(("rate", "here"), [(1000.0, True), (2 / 20.1, False), (2 / 19.9, True)])
def test_what_takes_less_than_twenty_seconds_is_done_here(monkeypatch: pytest.MonkeyPatch, rate: float, here: bool):
    calls(monkeypatch, "stream")
    monkeypatch.setattr(forecast_module, "speed", lambda *_, **__: rate)
    for address, expected in ((None, 0 if here else None), ("head:6379", None)):
        with pytest.raises(Enough) as caught:
            run_stream(CandidateList([FIRST, SECOND]), object(), Look(), Means(ray_address=address), keep=3)  # type: ignore[arg-type]
        assert caught.value.args[1]["workers"] == expected


@pytest.mark.parametrize(("number", "given"), [(0, True), (2, False)])
def test_a_scorer_of_this_process_encodes_with_all_its_threads(
    monkeypatch: pytest.MonkeyPatch, number: int, given: bool
):
    calls(monkeypatch, "stream")
    lattice, ensemble = Lattice(load_space("tiny")), FakeEnsemble(2)
    ensemble.encoder_threads = None  # type: ignore[attr-defined]
    scorer = StreamScorer(Outlook.of(ensemble), lattice.columns, lattice.denominator)  # type: ignore[arg-type]
    threads = torch.get_num_threads()
    with pytest.raises(Enough):
        run_stream(lattice, scorer, Look(), Means(workers=number), keep=3)
    assert ensemble.encoder_threads == (threads if given else None)  # type: ignore[attr-defined]
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("asked", "keep", "method"),
    [
        ({"top": 7}, 7, "best-first"),
        ({"top": 7, "by": "pareto"}, 2000, "best-first"),
        ({"top": 7, "proof": "proof.jsonl"}, 7, "walk"),
    ],
)
def test_a_ranking_of_the_space_keeps_what_may_come_first_and_walks_for_a_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict, keep: int, method: str
):
    template = write_campaign(
        tmp_path / "t.yaml", write_small_model(tmp_path / "small"), method="best-first", evaluations=99
    )
    with Campaign.start(tmp_path / "demo", template) as campaign:
        campaign.add_measurements(
            [{"composition": FIRST, "current_ma_g": i, "capacity_mah_g": 200.0} for i in (20, 1000)], fine_tune=False
        )
        calls(monkeypatch, "run_stream")
        proof = tmp_path / asked["proof"] if "proof" in asked else None
        with pytest.raises(Enough) as caught:
            rank(campaign, **{"by": None, **asked, "proof": proof}, within="space")
    (_, scorer, look, _), named = caught.value.args
    assert named["keep"] == keep + 1, "what is measured comes on top"
    assert look.method == method
    assert look.evaluations == (99 if method == "best-first" else Look().evaluations)
    assert (scorer.rank_by is None) == ("by" in asked)


@pytest.mark.parametrize("ways", [(), (Process.of({"milled": "yes"}), Process.of({"milled": "no"}))])
def test_a_place_says_what_is_near_and_how_it_is_made_where_that_may_differ(ways: tuple[Process, ...]):
    outlook = Outlook.of(FakeEnsemble(3), ways=ways)  # type: ignore[arg-type]
    made = [Composition.parse(FIRST), Composition.parse("Li1.2Mn0.4Ti0.4O2")]
    forecast = Forecast(outlook, made, ways or None)
    for i, composition in enumerate(made):
        place, near = forecast.place(i, None, None), forecast.nearest
        assert place.composition == composition.formula
        said = f"nearest known: {near.neighbours[i]} ({near.learned[i]:.2f} in learned features)"
        assert place.why == (f"{said}; made by {ways[i]}" if ways else said)
        assert (place.source, place.domain) == ("predicted", near.labels[i])
        assert forecast.place(i, None, "edge").domain == "edge", "as it was then"
        assert place.phase_probability == 1.0
