"""An opened campaign: its folder, its first model, what it refuses."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from ledgers import (
    FIRST,
    STUB_ID,
    record_round,
    stub_weights,
    write_campaign,
    write_stub_model,
)

from campaigns import Campaign
from campaigns.errors import LedgerUnreadable
from campaigns.ledger.records import NewModel
from drxnet.errors import CheckpointError, ConfigurationError, ModelNotFound


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


def test_weights_that_are_gone_are_fetched_again(campaign: Campaign):
    path = campaign.model_path(campaign.state().current_model)
    path.rename(path.with_name("elsewhere"))
    assert campaign.model_path(campaign.state().current_model) == path
    assert (path / "weights.safetensors").read_bytes() == stub_weights("stub")


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
