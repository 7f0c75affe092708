from __future__ import annotations

import json
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from drxnet import checkpoint
from drxnet.checkpoint import ModelCard, fetch_published, find_model, import_published, read_card, read_weights, save
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
    save(model, weights, ModelCard("larger", 3))
    assert Ensemble.load(model).members == 3
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_altered_weights_are_refused(model):
    content = bytearray((model / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (model / "weights.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not the file that model.json describes"):
        Ensemble.load(model)


def test_a_pickle_in_place_of_the_weights_is_refused(model):
    import hashlib

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


class Dangerous:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_state_dict_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "published"
    folder.mkdir()
    torch.save({"model_state_dict": Dangerous()}, folder / "model_0")
    with pytest.raises(CheckpointError, match="without running code"):
        import_published(folder, "bad")
    assert not Path("executed").exists()


def test_state_dicts_of_another_network_are_refused(tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    torch.save({"linear.weight": torch.zeros(1)}, folder / "model_0")
    with pytest.raises(CheckpointError, match="not a DRXNet state dict"):
        import_published(folder, "bad")


def test_a_folder_without_state_dicts_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no published state dicts"):
        import_published(tmp_path)


def test_unknown_files_need_a_name(tmp_path):
    (tmp_path / "model_0").write_bytes(b"anything")
    with pytest.raises(UsageError, match="Name them with --name"):
        import_published(tmp_path)


@pytest.fixture
def server():
    """Serve a folder over HTTP on loopback; yields a function from folder to address."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    def serve(folder: Path) -> str:
        httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        servers.append(httpd)
        return f"http://127.0.0.1:{httpd.server_address[1]}/"

    yield serve
    for httpd in servers:
        httpd.shutdown()
        httpd.server_close()


def test_fetching_downloads_checks_and_imports(published_folder, server, home):
    folder = fetch_published(url=server(published_folder))
    assert folder == home / "models" / "drxnet-2024"
    card = read_card(folder)
    assert card.members == 5
    assert card.provenance["sha256"] == checkpoint.PUBLISHED_SHA256


def test_a_download_with_a_wrong_sum_is_refused_and_nothing_stored(tmp_path, server, home):
    for name in checkpoint.PUBLISHED_SHA256:
        (tmp_path / name).write_bytes(b"not it")
    with pytest.raises(CheckpointError, match="SHA-256 must be 9e3950"):
        fetch_published(url=server(tmp_path))
    assert not (home / "models").exists()


def test_an_unreachable_server_names_the_other_way(tmp_path, server):
    with pytest.raises(UsageError, match="models import DIR"):
        fetch_published(url=server(tmp_path))
    with pytest.raises(UsageError, match="Only drxnet-2024"):
        fetch_published("something-else")


def test_the_published_files_are_recognised(published_folder, home):
    assert import_published(published_folder).name == "drxnet-2024"
    assert checkpoint.available_models()["drxnet-2024"] == home / "models" / "drxnet-2024"
