"""A campaign from Python: one folder, one ledger, and the methods a notebook uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledgers import FIRST, LOW, SECOND, record_round, write_campaign, write_discharge, write_stub_model

import campaigns
from campaigns import Campaign
from drxnet.errors import CheckpointError, ConfigurationError, MeasurementError, ModelNotFound, UsageError


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


def test_class_opens_what_it_is_given(campaign: Campaign):
    with Campaign(campaign.folder) as again:
        assert again.name == "demo"


def test_start_in_a_folder_that_holds_a_campaign_is_refused(campaign: Campaign):
    with pytest.raises(ConfigurationError, match="holds a campaign already"):
        Campaign.start(campaign.folder, campaign.folder)


def test_start_without_a_model_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(ModelNotFound, match="nowhere"):
        Campaign.start(tmp_path / "new", write_campaign(tmp_path / "t.yaml", Path("nowhere")))
    assert not (tmp_path / "new").exists()


def test_start_interrupted_before_the_ledger_is_finished_by_opening(tmp_path: Path):
    template = write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"))
    Campaign.start(tmp_path / "new", template).close()
    for leftover in (tmp_path / "new").glob("ledger.sqlite*"):
        leftover.unlink()
    with Campaign.open(tmp_path / "new") as campaign:
        assert campaign.state().round == 0


def test_starting_model_is_kept_although_its_source_changes(campaign: Campaign, tmp_path: Path):
    weights = tmp_path / "stub" / "weights.safetensors"
    weights.write_bytes(b"others")
    assert (campaign.folder / "models" / "N01" / "weights.safetensors").read_bytes() == b"no weights"


def test_weights_that_are_gone_are_named(campaign: Campaign):
    path = campaign.model_path(campaign.state().current_model)
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(CheckpointError, match="weights of model N01 .* are gone"):
        campaign.ensemble()


def test_campaign_with_nothing_measured_has_nothing_to_learn_from(tmp_path: Path):
    from small_model import write_small_model

    template = write_campaign(tmp_path / "t.yaml", write_small_model(tmp_path / "small"))
    with (
        Campaign.start(tmp_path / "new", template) as campaign,
        pytest.raises(UsageError, match="no first discharge that its model could learn from"),
    ):
        campaign.fine_tune()
