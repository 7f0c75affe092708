"""What a laboratory finds more or less than the model, from a ledger."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from ledgers import FIRST, SECOND, THIRD, record_round

from campaigns.campaign import Campaign
from campaigns.loop.offset import Offset, offsets_of
from campaigns.loop.rank import rank
from campaigns.report.write import write_report
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
