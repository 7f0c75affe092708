"""A campaign from Python: one folder, one ledger, and the methods a notebook uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledgers import (
    FIRST,
    LOW,
    SECOND,
    record_round,
    write_campaign,
    write_discharge,
)

import campaigns
from campaigns import Campaign
from campaigns.ledger.records import State
from drxnet.errors import (
    DRXWarning,
    MeasurementError,
    UsageError,
)


def test_package_offers_the_class_lazily():
    assert campaigns.Campaign is Campaign
    with pytest.raises(AttributeError, match="no attribute 'Campain'"):
        _ = campaigns.Campain


def test_two_objects_on_one_campaign_see_the_same(campaign: Campaign):
    record_round(campaign, FIRST)
    with Campaign.open(campaign.folder) as other:
        assert other.state() == campaign.state()
        other.add_measurements(
            [{"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 240.0}], fine_tune=False
        )
    assert campaign.state().valid[0].conditions == LOW


def test_measurements_are_added_corrected_and_retracted(campaign: Campaign):
    rows = [{"composition": c, "current_ma_g": 20, "capacity_mah_g": 240.0} for c in (FIRST, SECOND)]
    first, second = campaign.add_measurements(rows, fine_tune=False)
    third = campaign.update_measurement(first, "re-weighed", capacity_mah_g=230.0)
    campaign.retract_measurement(second, "short circuit")
    assert [m.measurement_id for m in campaign.state().valid] == [third]
    assert campaign.summarize()["withdrawn"] == 2
    assert [r["composition"] for r in campaign.rank("capacity", within="measured")] == [FIRST]


def test_files_are_added_like_rows_all_or_none(campaign: Campaign, tmp_path: Path):
    good = write_discharge(tmp_path / "good.json", FIRST, 240.0)
    bad = write_discharge(tmp_path / "bad.json", FIRST, 900.0)
    with pytest.raises(MeasurementError, match="1 of 2 files are refused. E3"):
        campaign.add_measurements([good, bad], fine_tune=False)
    assert campaign.state().valid == ()
    assert campaign.add_measurements([str(good)], fine_tune=False) == ("M0001",)
    assert campaign.add_measurements([good]) == ()


def test_failed_fine_tuning_is_a_warning_and_the_ids_come_back(campaign: Campaign):
    with pytest.warns(DRXWarning, match="Recorded M0001, but not learned from: .*weights.safetensors"):
        ids = campaign.add_measurements([{"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 240.0}])
    assert ids == ("M0001",)
    assert [m.measurement_id for m in campaign.state().valid] == ["M0001"]


def test_campaign_with_nothing_measured_has_nothing_to_learn_from(tmp_path: Path):
    from small_model import write_small_model

    template = write_campaign(tmp_path / "t.yaml", write_small_model(tmp_path / "small"))
    with (
        Campaign.start(tmp_path / "new", template) as campaign,
        pytest.raises(UsageError, match="no first discharge that its model could learn from"),
    ):
        campaign.fine_tune()


def test_a_proposal_whose_measurement_stands_stays_measured(campaign: Campaign):
    record_round(campaign, FIRST)
    (measured,) = campaign.add_measurements(
        [{"proposal_id": "R01-01", "current_ma_g": 20, "capacity_mah_g": 240.0}], fine_tune=False
    )
    with pytest.raises(UsageError, match="R01-01 is measured already; retract"), campaign.ledger.write("mark") as entry:
        entry.set_state("R01-01", State.ACCEPTED, "made again")
    assert campaign.state().proposal("R01-01").state is State.MEASURED
    campaign.retract_measurement(measured, "short circuit")
    assert campaign.state().proposal("R01-01").state is State.ACCEPTED
