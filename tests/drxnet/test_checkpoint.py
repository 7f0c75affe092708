from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from served import folder_over_http

from drxnet import checkpoint
from drxnet.checkpoint import (
    ModelCard,
    copy_model,
    fetch_published,
    find_model,
    import_model,
    import_published,
    read_card,
    read_weights,
    save,
)
from drxnet.ensemble import Ensemble
from drxnet.errors import CheckpointError, ModelNotFound, UsageError
from drxnet.network import DRXNet, NetworkShape


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DRXNET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def model(tmp_path) -> Path:
    torch.manual_seed(0)
    save(tmp_path / "model", DRXNet(NetworkShape(members=2)).state_dict(), ModelCard("small", 2))
    return tmp_path / "model"


def test_a_saved_model_loads_with_the_same_weights(model):
    torch.manual_seed(0)
    expected = DRXNet(NetworkShape(members=2)).state_dict()
    ensemble = Ensemble.load(model)
    assert ensemble.members == 2
    for name, tensor in ensemble.network.state_dict().items():
        assert torch.equal(tensor, expected[name])
    assert sorted(path.name for path in model.iterdir()) == ["model.json", "weights.safetensors"]


def test_the_model_id_follows_the_weights(model, tmp_path):
    card = read_card(model)
    weights = read_weights(model, card)
    assert save(tmp_path / "same", weights, card).model_id == card.model_id
    weights["fade"] = weights["fade"] + 1
    assert save(tmp_path / "other", weights, card).model_id != card.model_id


def test_saving_over_a_model_replaces_it_and_leaves_nothing_else(model, tmp_path):
    weights = DRXNet(NetworkShape(members=3)).state_dict()
    with pytest.raises(UsageError, match="holds a model already"):
        save(model, weights, ModelCard("larger", 3))
    save(model, weights, ModelCard("larger", 3), replace=True)
    assert Ensemble.load(model).members == 3
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def held(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("beside", [False, True], ids=["no-model", "beside-a-model"])
def test_a_folder_that_holds_anything_else_is_never_replaced(model, tmp_path, beside):
    precious = model if beside else tmp_path / "precious"
    precious.mkdir(exist_ok=True)
    (precious / "thesis.txt").write_text("ten years")
    before = held(precious)
    weights = DRXNet(NetworkShape(members=3)).state_dict()
    for replace in (False, True):
        with pytest.raises(UsageError, match="holds thesis.txt, which would be lost"):
            save(precious, weights, ModelCard("larger", 3), replace=replace)
    assert held(precious) == before


def test_a_file_or_a_link_in_the_place_of_a_model_is_never_replaced(model, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(model)
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="no folder of a model"):
            save(tmp_path / name, {}, ModelCard("other", 1), replace=True)
    assert Ensemble.load(model).members == 2


@pytest.mark.parametrize("name", [".", "..", "/etc/x", "a/b", "../../x", ""])
def test_a_model_is_imported_under_a_plain_name_only(model, home, tmp_path, name):
    store = home / "models"
    save(store / "kept", {}, ModelCard("kept", 1))
    before = held(tmp_path)
    with pytest.raises(UsageError, match="A model's name holds letters"):
        import_model(model, name)
    with pytest.raises(UsageError, match="A model's name holds letters"):
        import_model(model, str(tmp_path / "precious"))
    assert held(tmp_path) == before


def test_a_folder_of_a_model_is_imported_once_and_replaced_only_when_asked(model, home, tmp_path):
    target = import_model(model, "mine")
    assert target == home / "models" / "mine"
    assert held(target) == held(model)
    assert import_model(model, "mine") == target  # the same weights: nothing to do
    other = tmp_path / "other"
    save(other, DRXNet(NetworkShape(members=3)).state_dict(), ModelCard("larger", 3))
    with pytest.raises(UsageError, match="holds a model already.*--force"):
        import_model(other, "mine")
    assert held(target) == held(model)
    import_model(other, "mine", replace=True)
    assert held(target) == held(other)
    assert [path.name for path in (home / "models").iterdir()] == ["mine"]


def test_a_model_that_a_killed_import_had_put_aside_is_found_again(model, home):
    target = import_model(model, "mine")
    aside = home / "models" / ".new-0" / "old" / "mine"
    aside.parent.mkdir(parents=True)
    target.rename(aside)
    assert find_model("mine") == target
    assert held(target) == held(model)


def test_the_shipped_model_is_not_shadowed(model, home):
    with pytest.raises(UsageError, match="installed with drx-screen"):
        import_model(model, "default")
    with pytest.raises(UsageError, match="Name them with --name"):
        import_model(model)
    assert not home.exists()


def test_only_the_two_files_of_a_model_are_copied(model, tmp_path):
    (model / "notes.txt").write_text("not part of it")
    (model / "run.py").write_text("print()")
    copy_model(model, tmp_path / "copy")
    assert sorted(held(tmp_path / "copy")) == ["model.json", "weights.safetensors"]


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "nothing"])
def test_what_is_no_regular_file_is_not_copied(model, tmp_path, name, kind):
    path = model / name
    secret = tmp_path / "secret"
    path.rename(secret)
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(CheckpointError, match="must be a regular file|cannot be read"):
        copy_model(model, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights_sha256": "/etc/cron.d/x"}, "weights_sha256 must be 64 hexadecimal digits"),
        ({"weights_sha256": "../" * 20}, "weights_sha256 must be"),
        ({"weights_sha256": ""}, "weights_sha256 must be"),
        ({"weights_sha256": None}, "weights_sha256 must be"),
        ({"members": 200_000_000}, "members must be a whole number from 1 to 1000, got 200000000"),
        ({"members": 0}, "members must be"),
        ({"members": True}, "members must be"),
        ({"members": "2"}, "members must be"),
        ({"members": 2.0}, "members must be"),
        ({"format": "1"}, "format must be a whole number"),
        ({"format": None}, "format must be"),
        ({"format": [1]}, "format must be"),
        ({"format": -1}, "format must be"),
        ({"network": {"features": 10**9}}, "network must be sizes"),
        ({"network": {"layers": 10**4}}, "network must be sizes"),
        ({"network": {"features": "32"}}, "network must be sizes"),
        ({"network": [32]}, "network must be sizes"),
        ({"network": None}, "network must be sizes"),
        ({"elements": "LiMn"}, "elements must be a list"),
        ({"elements": ["Li", "Xx"]}, "elements must be a list"),
        ({"elements": [["Li"]]}, "elements must be a list"),
        ({"name": 7}, "name must be"),
        ({"name": "a\nb"}, "name must be"),
        ({"name": "\x1b[2J"}, "name must be"),
        ({"parent": 3}, "parent must be"),
        ({"data_fingerprint": {}}, "data_fingerprint must be"),
        ({"provenance": "told"}, "provenance must be"),
        ({"extra": 1}, "unknown field 'extra'"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_card_whose_field_is_not_what_it_must_be_is_a_sentence(model, tmp_path, change, says):
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, **change}))
    for use in (read_card, Ensemble.load, lambda folder: copy_model(folder, tmp_path / "copy")):
        with pytest.raises(CheckpointError, match=f"its model.json cannot be used: {says}"):
            use(model)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("content", [b"[]", b"7", b"null", b"\xff\xfe", b"[" * 100_000, b'{"name": "x"}', b""])
def test_a_card_that_is_no_card_is_a_sentence(model, content):
    (model / "model.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"its model\.json cannot be"):
        read_card(model)


def rewrite(model: Path, content: bytes, **card: object) -> None:
    """Give a model other weights, with a card that names them."""
    old = json.loads((model / "model.json").read_text())
    new = {**old, "weights_sha256": hashlib.sha256(content).hexdigest(), **card}
    (model / "weights.safetensors").write_bytes(content)
    (model / "model.json").write_text(json.dumps(new))


def safetensors_of(header: object, body: bytes = b"") -> bytes:
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + body


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff" * 8, id="endless-header"),
        pytest.param((1 << 40).to_bytes(8, "little") + b"{}", id="header-beyond-the-file"),
        pytest.param(
            safetensors_of({"a": {"dtype": "F32", "shape": [2, 10**12], "data_offsets": [0, 8]}}, bytes(8)), id="shape"
        ),
        pytest.param(
            safetensors_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 10**15]}}, bytes(8)), id="offsets"
        ),
        pytest.param(
            safetensors_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(99)), id="more-bytes"
        ),
        pytest.param(
            safetensors_of({"a": {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}}, bytes(8)), id="negative"
        ),
        pytest.param(
            safetensors_of({"a": {"dtype": "O", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)), id="objects"
        ),
        pytest.param(safetensors_of({"a": 1}), id="no-tensor"),
        pytest.param(safetensors_of([]), id="no-names"),
    ],
)
def test_weights_whose_header_does_not_fit_the_file_are_refused(model, tmp_path, content):
    rewrite(model, content)
    for use in (Ensemble.load, lambda folder: copy_model(folder, tmp_path / "copy")):
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            use(model)
    assert not (tmp_path / "copy").exists()


def test_memory_is_taken_only_for_what_the_file_holds(model, monkeypatch):
    weights = (model / "weights.safetensors").read_bytes()
    for card in ({"members": 1000}, {"network": {"features": 4096}}, {"network": {"sizes": 3}}):
        rewrite(model, weights, **card)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "uniform_", only_without_memory)
            with pytest.raises(CheckpointError, match="not the weights of this network"):
                Ensemble.load(model)


def only_without_memory(tensor, *_):
    assert tensor.device.type == "meta", "memory was taken for sizes that nobody checked"
    return tensor


def test_altered_weights_are_refused(model):
    content = bytearray((model / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (model / "weights.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not the file that model.json describes"):
        Ensemble.load(model)


def test_a_pickle_in_place_of_the_weights_is_refused(model):
    content = pickle.dumps({"fade": [1.0]})
    (model / "weights.safetensors").write_bytes(content)
    card = json.loads((model / "model.json").read_text())
    card["weights_sha256"] = hashlib.sha256(content).hexdigest()
    (model / "model.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        Ensemble.load(model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda card: "{", "cannot be read", id="truncated"),
        pytest.param(lambda card: json.dumps({**card, "format": 99}), "Upgrade", id="newer-format"),
        pytest.param(
            lambda card: json.dumps({**card, "members": 3}), "not the weights of this network", id="other-net"
        ),
    ],
)
def test_a_card_that_does_not_fit_is_refused(model, change, says):
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(change(card))
    with pytest.raises(CheckpointError, match=says):
        Ensemble.load(model)


def test_a_missing_model_names_both_ways_to_get_one():
    with pytest.raises(ModelNotFound, match="models fetch drxnet-2024.*models import DIR"):
        find_model("drxnet-2024")
    with pytest.raises(ModelNotFound, match="No model"):
        find_model("x" * 300)


class Dangerous:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("content", [{"model_state_dict": Dangerous()}, {"linear.weight": torch.zeros(1)}])
def test_state_dicts_that_are_not_the_published_ones_are_not_even_opened(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
    folder = tmp_path / "published"
    folder.mkdir()
    torch.save(content, folder / "model_0")
    with pytest.raises(CheckpointError, match="not one of the five published files.*pickles and are not read"):
        import_published(folder, "bad")
    assert not Path("executed").exists()


def test_a_folder_without_state_dicts_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no published state dicts"):
        import_published(tmp_path)


def test_unknown_files_need_a_name(tmp_path):
    (tmp_path / "model_0").write_bytes(b"anything")
    with pytest.raises(UsageError, match="Name them with --name"):
        import_published(tmp_path)


def test_a_download_with_a_wrong_sum_is_refused_and_nothing_stored(tmp_path, home):
    for name in checkpoint.PUBLISHED_SHA256:
        (tmp_path / name).write_bytes(b"not it")
    with folder_over_http(tmp_path) as url, pytest.raises(CheckpointError, match="SHA-256 must be 9e3950"):
        fetch_published(url=url)
    assert not (home / "models").exists()


def test_an_unreachable_server_names_the_other_way(tmp_path):
    with folder_over_http(tmp_path) as url, pytest.raises(UsageError, match="models import DIR"):
        fetch_published(url=url)
    with pytest.raises(UsageError, match="Only drxnet-2024"):
        fetch_published("something-else")
