"""What a laboratory finds more or less than the model, from a ledger."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ledgers import FIRST, SECOND, THIRD, record_round

from campaigns.campaign import Campaign
from campaigns.ledger.records import PredictedProfile
from campaigns.loop.offset import Offset, offsets, offsets_of
from campaigns.loop.outcomes import outcomes_of
from campaigns.loop.rank import rank
from campaigns.report.write import write_report
from drxnet.composition import Composition
from drxnet.uncertainty import shipped_levels

EXPECTED = 270 - 50 * 1.5
"""What the members said of every composition at both rates (mAh/g), give or take 5."""


def measure(campaign: Campaign, *rows: tuple[str, float, float]) -> None:
    campaign.add_measurements(
        [{"composition": c, "current_ma_g": i, "capacity_mah_g": EXPECTED + off} for c, i, off in rows], fine_tune=False
    )


def test_nothing_is_said_before_the_first_cell(campaign: Campaign):
    assert campaign.summarize()["offsets"] == []
    record_round(campaign, FIRST)
    assert campaign.summarize()["offsets"] == []


def test_an_offset_is_drawn_towards_none_as_a_random_effect_is(campaign: Campaign):
    record_round(campaign, FIRST, SECOND)
    measure(campaign, (FIRST, 20, -60.0), (FIRST, 20, -40.0), (SECOND, 20, -50.0), (SECOND, 1000, -90.0))
    low, high = offsets_of(campaign, campaign.state(), campaign.spec.goals)
    levels = shipped_levels()
    lab, typical = levels.laboratory, levels.model.typical_mah_g["inside"][levels.model.currents_ma_g.index(20)]
    each = max(typical, 5.0) ** 2 + lab.sample_mah_g**2
    left = 1 / (1 / lab.laboratory_mah_g**2 + 2 / each)
    assert (low.current_ma_g, low.compositions) == (20, 2)
    assert low.std_mah_g == pytest.approx(math.sqrt(left))
    assert low.mean_mah_g == pytest.approx(-100 / each * left)
    assert low.interval_mah_g[1] - low.mean_mah_g == pytest.approx(1.2816 * low.std_mah_g, rel=1e-4)
    assert (high.current_ma_g, high.compositions) == (1000, 1)
    assert high.mean_mah_g < 0


def test_what_was_never_predicted_does_not_push_out_what_tells(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("campaigns.loop.offset.LATEST", 1)
    record_round(campaign, FIRST)
    measure(campaign, (FIRST, 20, -50.0), (SECOND, 20, -20.0), (THIRD, 20, -20.0))
    (row,) = campaign.summarize()["offsets"]
    page = write_report(campaign.ledger, campaign.spec.goals, tmp_path).page.read_text(encoding="utf-8")
    assert row["sentence"] in page


def test_its_sentence_stands_in_status_ranking_and_report(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST, SECOND, THIRD)
    measure(campaign, *((c, 20, -50.0) for c in (FIRST, SECOND, THIRD)))
    (row,) = campaign.summarize()["offsets"]
    said = f"This laboratory finds {-row['offset_mah_g_mean']:.0f} mAh/g less at 20 mA/g than the model expected (80%: "
    assert row["sentence"].startswith(said)
    near, far = -row["offset_mah_g_upper"], -row["offset_mah_g_lower"]
    assert row["sentence"].endswith(f"(80%: {near:.0f} to {far:.0f} less; 3 compositions).")
    assert row["offset_mah_g_lower"] < row["offset_mah_g_mean"] < row["offset_mah_g_upper"]
    assert row["sentence"] in rank(campaign, "capacity", within="measured").notes
    assert row["sentence"] in write_report(campaign.ledger, campaign.spec.goals, tmp_path).page.read_text(
        encoding="utf-8"
    )


def test_an_interval_that_holds_none_says_both_sides():
    assert "(80%: from 3 less to 23 more; 1 composition)" in str(Offset(20.0, 10.0, 10.0, 1))
    assert "finds 30 mAh/g more at 20 mA/g" in (said := str(Offset(20.0, 30.0, 10.0, 2)))
    assert "(80%: 17 to 43 more; 2 compositions)" in said


@pytest.mark.parametrize(
    ("mean", "std", "between"),
    [
        (0.2, 0.3, "from 0 less to 1 more"),  # a product of the ends near 0 is no sign
        (0.9, 1.0, "from 0 less to 2 more"),
        (-0.9, 1.0, "from 2 less to 0 more"),
        (-10.0, 10.0, "from 23 less to 3 more"),
        (0.0, 10.0, "from 13 less to 13 more"),
        (2.0, 1.0, "1 to 3 more"),
        (-2.0, 1.0, "1 to 3 less"),
        (-30.0, 10.0, "17 to 43 less"),
    ],
)
def test_the_ends_of_an_interval_say_their_sides(mean: float, std: float, between: str):
    assert f"(80%: {between}; 1 composition)" in str(Offset(20.0, mean, std, 1))


@pytest.mark.parametrize(("mean", "more"), [(0.0, "0 mAh/g more"), (-0.6, "1 mAh/g less"), (41.5, "42 mAh/g more")])
def test_an_offset_says_its_side(mean: float, more: str):
    assert str(Offset(20.0, mean, 1.0, 1)).startswith(
        f"This laboratory finds {more} at 20 mA/g than the model expected"
    )


def told_and_found(campaign: Campaign, domain: str, *capacities: tuple[float, float, float]) -> tuple[Offset, ...]:
    """Offsets where members said 240 +- 5 and 140 +- 5 of each composition, or +- another spread, and cells gave so."""
    shares = [(0.1 + i % 10 / 40, 0.1 + i // 10 / 40) for i in range(len(capacities))]
    made = [Composition.parse(f"Li1.2Mn{a:g}Nb{b:g}Ti{0.8 - a - b:g}O2").formula for a, b in shares]
    record_round(campaign, *made)
    rows = [(c, i, q) for c, (low, high, _) in zip(made, capacities, strict=True) for i, q in ((20, low), (1000, high))]
    campaign.add_measurements(
        [{"composition": c, "current_ma_g": i, "capacity_mah_g": q} for c, i, q in rows],
        fine_tune=False,
        confirmed=True,
    )
    state, goals = campaign.state(), campaign.spec.goals
    outcomes = [
        replace(o, proposal=replace(o.proposal, prediction=replace(o.proposal.prediction, domain=domain)))
        for o in outcomes_of(state, goals)
        if o.proposal.prediction is not None
    ]
    told = {
        o.proposal.proposal_id: [
            PredictedProfile(at, at.grid(2), np.array([q, 0.0]), np.array([spread, 0.0]))
            for at, q in ((goals.rates.low, 240.0), (goals.rates.high, 140.0))
        ]
        for o, (_, _, spread) in zip(outcomes, capacities, strict=True)
    }
    return offsets(outcomes, told, goals, state.models[0].model_id)


@pytest.mark.parametrize(
    ("domain", "level"), [("inside", "inside"), ("edge", "edge"), ("outside", "outside"), ("?", "outside")]
)
@pytest.mark.parametrize("spread", [5.0, 90.0])
def test_each_rate_is_set_against_what_was_said_for_it(campaign: Campaign, domain: str, level: str, spread: float):
    levels = shipped_levels()
    found = told_and_found(campaign, domain, (270.0, 120.0, spread), (250.0, 130.0, 5.0))
    assert [o.current_ma_g for o in found] == [20, 1000]
    for offset, missed in zip(found, ([30.0, 10.0], [-20.0, -10.0]), strict=True):
        at = levels.model.currents_ma_g.index(offset.current_ma_g)
        typical = levels.model.typical_mah_g[level][at]
        scatter = np.array([max(typical, s) ** 2 + levels.laboratory.sample_mah_g**2 for s in (spread, 5.0)])
        left = 1 / (1 / levels.laboratory.laboratory_mah_g**2 + (1 / scatter).sum())
        assert offset.std_mah_g == pytest.approx(math.sqrt(left))
        assert offset.mean_mah_g == pytest.approx((np.array(missed) / scatter).sum() * left)


def test_of_many_compositions_the_latest_tell(campaign: Campaign):
    found = told_and_found(campaign, "inside", *((300.0, 200.0, 5.0),) * 6, *((240.0, 140.0, 5.0),) * 64)
    assert [(o.compositions, o.mean_mah_g) for o in found] == [(64, 0.0), (64, 0.0)]
