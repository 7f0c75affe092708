"""A campaign from Python: one folder, one ledger, and the methods a notebook uses."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from ledgers import (
    FIRST,
    LOW,
    SECOND,
    STUB_ID,
    record_round,
    stub_weights,
    write_campaign,
    write_discharge,
    write_stub_model,
)

import campaigns
from campaigns import Campaign
from campaigns.ledger import NewModel
from drxnet.errors import (
    CheckpointError,
    ConfigurationError,
    DRXWarning,
    LedgerUnreadable,
    MeasurementError,
    ModelNotFound,
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
    assert (campaign.folder / "models" / "N01" / "weights.safetensors").read_bytes() == stub_weights("stub")


def edit_model(campaign: Campaign, model: Path | str) -> None:
    path = campaign.folder / "campaign.yaml"
    lines = [f"model: {model}" if line.startswith("model:") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


OTHER_ID = sha256(stub_weights("other")).hexdigest()[:12]


def test_model_that_is_changed_before_the_first_round_is_started_from(campaign: Campaign, tmp_path: Path):
    other = write_stub_model(tmp_path / "other")
    edit_model(campaign, other)
    with Campaign.open(campaign.folder) as again:
        state = again.state()
        assert state.first_model.model_id == state.current_model.model_id == OTHER_ID
        assert again.model_path(state.current_model).is_dir()
        assert state.events[-1].summary == f"starts with model {OTHER_ID} in place of {STUB_ID}"
    with Campaign.open(campaign.folder) as again:
        assert again.state() == state
        record_round(again, FIRST)
    shutil.rmtree(other)  # what the campaign started with is in its folder
    Campaign.open(campaign.folder).close()


def test_model_that_is_changed_and_changed_back_is_the_first_again(campaign: Campaign, tmp_path: Path):
    edit_model(campaign, write_stub_model(tmp_path / "other"))
    Campaign.open(campaign.folder).close()
    edit_model(campaign, tmp_path / "stub")
    with Campaign.open(campaign.folder) as again:
        assert again.state().current_model.model_id == STUB_ID
        record_round(again, FIRST)
    Campaign.open(campaign.folder).close()


@pytest.mark.parametrize("exists", [True, False], ids=["another", "missing"])
def test_model_that_is_changed_after_the_first_round_is_refused(campaign: Campaign, tmp_path: Path, exists: bool):
    record_round(campaign, FIRST)
    before = campaign.state()
    edit_model(campaign, write_stub_model(tmp_path / "other") if exists else "nosuchmodel")
    with pytest.raises(ConfigurationError, match=rf"started with '.*stub' \({STUB_ID}\).*Write `model: .*init NAME"):
        Campaign.open(campaign.folder)
    assert campaign.state() == before


def test_model_that_does_not_exist_is_named_with_the_yaml(campaign: Campaign):
    edit_model(campaign, "nosuchmodel")
    with pytest.raises(ModelNotFound, match=r"campaign.yaml: No model 'nosuchmodel'; installed:"):
        Campaign.open(campaign.folder)


def test_other_path_of_the_same_model_changes_nothing(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST)
    edit_model(campaign, shutil.copytree(tmp_path / "stub", tmp_path / "moved"))
    with Campaign.open(campaign.folder) as again:
        assert again.state() == campaign.state()


@pytest.mark.parametrize("name", ["my camp", "-x", "a" * 64])
def test_name_that_no_campaign_may_have_leaves_nothing_behind(tmp_path: Path, name: str):
    template = write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="name holds letters, digits"):
            Campaign.start(tmp_path / name, template)
    assert not (tmp_path / name).exists()


def test_failed_fine_tuning_is_a_warning_and_the_ids_come_back(campaign: Campaign):
    with pytest.warns(DRXWarning, match="Recorded M0001, but not learned from: .*weights.safetensors"):
        ids = campaign.add_measurements([{"composition": FIRST, "current_ma_g": 20, "capacity_mah_g": 240.0}])
    assert ids == ("M0001",)
    assert [m.measurement_id for m in campaign.state().valid] == ["M0001"]


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


# -- places ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/etc", "../../elsewhere", "models/..", "models/a/b", "models", "", "models/.hidden"])
def test_a_ledger_that_names_a_place_elsewhere_is_not_followed(campaign: Campaign, path: str):
    with campaign.ledger.write("finetune") as entry:
        entry.add_model(NewModel("beefbeefbeef", path))
    with pytest.raises(LedgerUnreadable, match="Models lie in|a model's name holds letters"):
        campaign.ensemble()


@pytest.mark.parametrize("name", ["/tmp/drx-escaped", "../escaped", "a/b", ".."])
def test_a_yaml_cannot_start_a_campaign_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    template = write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"), name=name)
    with pytest.raises(ConfigurationError, match="A campaign's name holds letters"):
        Campaign.open(template)
    assert list((tmp_path / "here").iterdir()) == []
    assert not Path("/tmp/drx-escaped").exists()


def test_a_model_that_is_not_what_its_card_says_is_not_copied(tmp_path: Path):
    stub = write_stub_model(tmp_path / "stub")
    card = json.loads((stub / "model.json").read_text())
    target = tmp_path / "elsewhere"
    (stub / "model.json").write_text(json.dumps({**card, "weights_sha256": str(target)}))
    with pytest.raises(CheckpointError, match="weights_sha256 must be 64 hexadecimal digits"):
        Campaign.start(tmp_path / "new", write_campaign(tmp_path / "t.yaml", stub))
    assert not target.exists()
    (stub / "model.json").write_text(json.dumps(card))
    (stub / "weights.safetensors").write_bytes(stub_weights("others"))
    with pytest.raises(CheckpointError, match="is not the file that model.json describes"):
        Campaign.start(tmp_path / "new", tmp_path / "t.yaml")
    assert not (tmp_path / "new" / "models" / "N01").exists()


def test_a_model_in_the_yaml_that_names_another_place_is_not_copied_there(campaign: Campaign, tmp_path: Path):
    other = write_stub_model(tmp_path / "other")
    target = tmp_path / "elsewhere"
    card = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps({**card, "weights_sha256": str(target)}))
    edit_model(campaign, other)
    with pytest.raises(CheckpointError, match="weights_sha256 must be 64 hexadecimal digits"):
        Campaign.open(campaign.folder)
    assert not target.exists()
