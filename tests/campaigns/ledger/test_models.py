"""Models live where the ledger lives; a folder only caches them."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from ledgers import FIRST, make_first_version, record_round, stub_weights, write_campaign, write_stub_model
from sqlalchemy import text

from campaigns.errors import LedgerUnreadable
from campaigns.ledger import database, tables
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import ModelRecord, NewModel
from campaigns.workspace import Workspace
from drxnet.checkpoint import CARD, WEIGHTS, ModelCard, ModelFiles, write_files
from drxnet.errors import CheckpointError, ConfigurationError, ModelNotFound


@pytest.fixture
def folders(tmp_path: Path, ledger_url: str) -> Iterator[tuple[Workspace, Workspace]]:
    """Two folders, on two machines as it were, of one campaign on one ledger."""
    template = write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"), ledger=ledger_url)
    opened = [Workspace.start(tmp_path / place / "demo", template) for place in ("a", "b")]
    yield opened[0], opened[1]
    for workspace in opened:
        workspace.close()


def stub_files(name: str) -> ModelFiles:
    files = ModelFiles(b"", stub_weights(name))
    card = ModelCard(name, 1, parent="a1b2c3d4e5f6", weights_sha256=files.sha256)
    return ModelFiles(json.dumps(asdict(card)).encode(), files.weights)


def learn(workspace: Workspace, name: str = "child", *, keep: bool = True) -> ModelRecord:
    """Record a model as a fine-tuning does."""
    files = stub_files(name)
    with workspace.ledger.write("finetune") as entry:
        model_id = files.sha256[:12]
        start = entry.before.first_model.model_id
        entry.add_model(NewModel(model_id, f"models/{model_id}", parent=start, files=files if keep else None))
    return workspace.state().current_model


def age(workspace: Workspace) -> None:
    """Make a ledger what it was before it kept weights."""
    make_first_version(workspace.ledger)


def weights_at(path: Path) -> bytes:
    return (path / WEIGHTS).read_bytes()


def test_two_folders_on_one_ledger_share_what_one_of_them_learned(folders: tuple[Workspace, Workspace]):
    a, b = folders
    model = learn(a)
    path = b.model_path(b.state().current_model)
    assert path == b.folder / "models" / model.model_id
    assert weights_at(path) == stub_weights("child")
    assert not (a.folder / "models" / model.model_id).exists()  # nobody asked for it there


def test_a_second_folder_needs_not_the_model_that_the_first_started_with(
    folders: tuple[Workspace, Workspace], tmp_path: Path
):
    a, b = folders
    shutil.rmtree(tmp_path / "stub")
    assert not (b.folder / "models").exists()
    record_round(a, FIRST)
    with Workspace(b.folder) as again:
        assert weights_at(again.model_path(again.state().first_model)) == stub_weights("stub")


@pytest.mark.parametrize("damage", ["lost", "weights", "card", "another"])
def test_a_lost_or_damaged_cache_is_filled_again(
    folders: tuple[Workspace, Workspace], damage: str, caplog: pytest.LogCaptureFixture
):
    a, _ = folders
    model = learn(a)
    path = a.model_path(model)
    if damage == "lost":
        shutil.rmtree(a.folder / "models")
    elif damage == "weights":
        (path / WEIGHTS).write_bytes(b"torn")
    elif damage == "card":
        (path / CARD).unlink()
    else:
        shutil.rmtree(path)
        shutil.copytree(a.model_path(a.state().first_model), path)
    with caplog.at_level(logging.WARNING):
        assert weights_at(a.model_path(model)) == stub_weights("child")
    assert ("filled again" in caplog.text) == (damage != "lost")


def test_a_folder_that_cannot_be_written_to_is_no_obstacle(folders: tuple[Workspace, Workspace]):
    a, _ = folders
    model = learn(a)
    shutil.rmtree(a.folder / "models")
    (a.folder / "models").write_text("in the way")
    path = a.model_path(model)
    assert weights_at(path) == stub_weights("child")
    assert a.model_path(model) == path
    a.close()
    assert not path.exists()


def test_files_of_others_in_a_models_folder_are_not_lost(folders: tuple[Workspace, Workspace]):
    a, _ = folders
    path = a.model_path(learn(a))
    (path / WEIGHTS).unlink()
    (path / "notes.txt").write_text("mine")
    with pytest.raises(Exception, match=r"holds notes.txt, which would be lost"):
        a.model_path(a.state().current_model)
    assert (path / "notes.txt").read_text() == "mine"


def test_a_ledger_from_before_takes_in_what_its_folders_hold(folders: tuple[Workspace, Workspace]):
    a, b = folders
    model = learn(a)
    a.model_path(model)
    record_round(a, FIRST)
    before = a.state().content()
    age(a)
    with Workspace(b.folder) as stranger:  # brings the ledger up to date, and knows only the first model
        assert [m.name for m in stranger.ledger.models_without_files()] == ["N02"]
        with pytest.raises(CheckpointError, match="weights of model N02 .* are gone"):
            stranger.model_path(model)
    with Workspace(a.folder) as owner:
        assert owner.ledger.models_without_files() == ()
        assert owner.state().content() == before
        last = owner.state().events[-1]
        assert (last.verb, last.summary) == (
            "keep",
            "the weights of N02 were in a folder alone and are now in the ledger",
        )
    shutil.rmtree(a.folder / "models")
    with Workspace(b.folder) as stranger:
        assert weights_at(stranger.model_path(model)) == stub_weights("child")
        assert stranger.state().events[-1] == last  # nothing more to keep


def test_a_ledger_that_cannot_be_written_to_is_opened_all_the_same(
    folders: tuple[Workspace, Workspace], monkeypatch: pytest.MonkeyPatch
):
    a, _ = folders
    model = learn(a, keep=False)
    write_files(a.folder / "models" / model.model_id, stub_files("child"))
    monkeypatch.setattr(database, "TIMEOUT_S", 0.2)
    with a.ledger.write("mark") as entry:
        with Workspace(a.folder) as reader:
            assert reader.ledger.models_without_files() == (model,)
        entry.add_lab_composition(FIRST)


@pytest.mark.parametrize("column", ["weights", "card"])
def test_damaged_files_in_a_ledger_are_refused(folders: tuple[Workspace, Workspace], column: str):
    a, b = folders
    model = learn(a, keep=False)
    files = stub_files("child")
    with a.ledger._database.engine.connect() as connection, connection.begin():
        values = {"card": files.card, "weights": files.weights, column: b"others"}
        statement = "INSERT INTO model_files VALUES (:model, :sha256, :card, :weights, 1)"
        connection.execute(text(statement), {"model": model.model_id, "sha256": files.sha256, **values})
    error, message = {
        "weights": (LedgerUnreadable, "another SHA-256, .* it is damaged. Restore it from a backup"),
        "card": (CheckpointError, "cannot be read"),
    }[column]
    with pytest.raises(error, match=message):
        b.model_path(model)
    assert not (b.folder / "models" / model.model_id).exists()


def test_files_that_are_kept_are_never_changed(folders: tuple[Workspace, Workspace]):
    a, _ = folders
    for action in ("UPDATE model_files SET weights = card", "DELETE FROM model_files"):
        with pytest.raises(Exception, match="model_files of a ledger are never"):
            with a.ledger._database.engine.connect() as connection, connection.begin():
                connection.execute(text(action))


def test_the_same_weights_are_kept_once(folders: tuple[Workspace, Workspace]):
    a, b = folders
    learn(a)
    learn(b)
    with a.ledger._database.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM model_files")).scalar() == 2
    assert [m.model_id for m in a.state().models[1:]] == [stub_files("child").sha256[:12]] * 2


def test_a_model_that_is_too_large_for_a_ledger_is_neither_kept_nor_read(
    folders: tuple[Workspace, Workspace], monkeypatch: pytest.MonkeyPatch
):
    a, b = folders
    model = learn(a)
    monkeypatch.setattr(tables, "MODEL_BYTES", 100)
    with pytest.raises(LedgerUnreadable, match=r"take \d+ bytes; a model of a ledger takes at most 100"):
        b.model_path(model)
    with pytest.raises(ConfigurationError, match="A model of a campaign takes at most 100 bytes"):
        learn(a, "larger")
    assert a.state().current_model == model


def test_first_model_of_an_old_ledger_comes_from_where_it_is_installed(
    folders: tuple[Workspace, Workspace], tmp_path: Path
):
    a, b = folders
    age(a)
    shutil.rmtree(a.folder / "models")
    (tmp_path / "stub").rename(tmp_path / "away")
    with (
        Workspace(a.folder) as again,
        pytest.raises(CheckpointError, match=r"N01 .* The campaign started with it, as '.*stub': copy its folder here"),
    ):
        again.model_path(again.state().first_model)
    (tmp_path / "away").rename(tmp_path / "stub")
    Workspace(a.folder).close()
    shutil.rmtree(tmp_path / "stub")
    with Workspace(b.folder) as again:
        assert weights_at(again.model_path(again.state().first_model)) == stub_weights("stub")


def test_an_old_model_that_is_lost_can_only_be_copied_back(folders: tuple[Workspace, Workspace]):
    a, _ = folders
    old = learn(a, "old", keep=False)
    assert not a.models.has(old)
    with pytest.raises(CheckpointError, match=r"`drx-screen finetune --campaign \S*demo` learns it again; or copy"):
        a.model_path(old)
    new = learn(a, "new")
    assert a.models.has(new)
    with pytest.raises(CheckpointError, match="only a copy of that folder brings this one back"):
        a.model_path(old)


def test_a_campaign_whose_model_is_missing_begins_nothing(tmp_path: Path, ledger_url: str):
    template = write_campaign(tmp_path / "t.yaml", tmp_path / "nowhere", ledger=ledger_url)
    with pytest.raises(ModelNotFound, match="nowhere"):
        Workspace.start(tmp_path / "demo", template)
    assert not Ledger.is_there(ledger_url, "demo")
