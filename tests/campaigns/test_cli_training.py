from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic import linear_profiles, untrained_ensemble

from campaigns.cli import main
from drxnet import checkpoint
from drxnet.dataset import read_profiles

OPTIONS = """
members: 2
epochs: 2
profiles_per_batch: 16
points_per_profile: 10
network: {layers: 1, heads: 1, attention_hidden: 8}
"""


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with training options, a set of profiles and a model named `tiny`."""
    monkeypatch.setenv("DRXNET_HOME", str(tmp_path / "home"))
    (tmp_path / "options.yaml").write_text(OPTIONS)
    linear_profiles(32, 34).save(tmp_path / "set.npz")
    ensemble = untrained_ensemble()
    checkpoint.save(tmp_path / "home" / "models" / "tiny", ensemble.network.state_dict(), ensemble.card)
    return tmp_path


def test_train_writes_a_model_that_resumes(made: Path) -> None:
    arguments = ("train", "--data", made / "set.npz", "--out", made / "mine", "--options", made / "options.yaml")
    first = json.loads(run(*arguments, "--format", "json"))
    again = json.loads(run(*arguments, "--format", "json", "--resume"))
    assert first["model_id"] == again["model_id"]
    card = checkpoint.read_card(made / "mine" / "model")
    assert card.name == "mine"
    assert card.provenance["options"]["epochs"] == 2
    assert (made / "mine" / "losses.csv").is_file()


def test_train_refuses_other_data_on_resume(made: Path) -> None:
    arguments = ("train", "--out", made / "mine", "--options", made / "options.yaml", "--epochs", 1)
    run(*arguments, "--data", made / "set.npz")
    linear_profiles(30, 34).save(made / "other.npz")
    assert "made with other data" in run(*arguments, "--data", made / "other.npz", "--resume", code=3)


def test_evaluate_trains_on_one_family_and_tests_the_others(made: Path) -> None:
    arguments = ("evaluate", "--data", made / "set.npz", "--options", made / "options.yaml", "--epochs", 1)
    facts = json.loads(run(*arguments, "--figure", made / "figure3.png", "--format", "json"))
    assert [row["family"] for row in facts["families"]] == ["3TM", "HE"]
    assert set(facts["calibration"]["coverage"]) == {"0.5", "0.8", "0.95"}
    assert (made / "figure3.png").is_file()
    assert "on both sides" in run(*arguments, "--train", "HE", code=2)


def test_evaluate_a_model_as_it_is(made: Path) -> None:
    table = run("evaluate", "--data", made / "set.npz", "--model", "tiny", "--test", "HE", "--format", "csv")
    assert table.splitlines()[0].startswith("family,profiles,capacity_mae_mah_g")
    assert table.splitlines()[1].startswith("HE,8,")


def test_simulate_writes_a_set(made: Path) -> None:
    (made / "formulas.txt").write_text("Li1.2Mn0.4Ti0.4O2\nLi1.25Mn0.75O2\n")
    out = made / "simulated.npz"
    run("simulate", "--model", "tiny", "--formulas", made / "formulas.txt", "--profiles", 6, "--out", out)
    profiles = read_profiles(out)
    assert len(profiles) == 6
    assert len(profiles.unique[0]) == 2
    assert "ends in .npz" in run("simulate", "--model", "tiny", "--out", made / "set.csv", code=2)


def test_data_summary_counts_and_draws(made: Path) -> None:
    facts = json.loads(run("data", "summary", made / "set.npz", "--figure", made / "set.png", "--format", "json"))
    assert facts["profiles"] == 32
    assert facts["families"] == {"2TM": 16, "3TM": 8, "HE": 8}
    assert (made / "set.png").is_file()
    assert "Mn" in run("data", "summary", made / "set.npz")


def test_data_summary_of_nothing_is_said(tmp_path: Path) -> None:
    assert "no such file" in run("data", "summary", tmp_path / "nowhere", code=3)


@pytest.fixture
def figshare(tmp_path: Path) -> Iterator[tuple[str, dict[str, bytes], list[dict[str, object]]]]:
    """A local server that lists and serves an article; the listing may be changed by the test."""
    rows = range(101)
    curve = {"Voltage(V)": [1.5 + 0.033 * i for i in rows], "Capacity(mAh/g)": [250 - 2.5 * i for i in rows]}
    example = json.dumps(
        {
            "composition": {"Li": 1.2, "Mn": 0.4, "Ti": 0.4, "O": 2.0},
            "test_current(mA/g)": 20.0,
            "low_voltage(V)": 1.5,
            "high_voltage(V)": 4.8,
            "charge_info": [],
            "discharge_info": [[1, curve]],
        }
    ).encode()
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("cell.json", example)
    files = {"/files/1": (tmp_path / "archive.zip").read_bytes()}
    listing: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps({"files": listing}).encode() if "/articles/" in self.path else files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        md5 = hashlib.md5(files["/files/1"]).hexdigest()
        listing.append({"name": "drx-td.zip", "download_url": f"{url}/files/1", "size": 1, "computed_md5": md5})
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield url, files, listing
        server.shutdown()
        thread.join()


def test_fetch_checks_and_unpacks(tmp_path: Path, figshare) -> None:
    url, _, _ = figshare
    out = tmp_path / "drx-td"
    run("data", "fetch", "drx-td", "--out", out, "--api", url)
    assert json.loads(run("data", "summary", out, "--format", "json"))["profiles"] == 1


def test_fetch_refuses_a_damaged_file(tmp_path: Path, figshare) -> None:
    url, files, _ = figshare
    files["/files/1"] = b"something else"
    assert "has not the MD5" in run("data", "fetch", "drx-td", "--out", tmp_path / "td", "--api", url, code=3)
    assert not (tmp_path / "td" / "drx-td.zip").exists()


def test_fetch_without_a_server_says_the_way_out(tmp_path: Path) -> None:
    said = run("data", "fetch", "drx-td", "--out", tmp_path / "td", "--api", "http://127.0.0.1:9", code=2)
    assert "by hand into a folder" in said


def test_an_article_without_checksums_is_refused(tmp_path: Path, figshare) -> None:
    url, _, listing = figshare
    del listing[0]["computed_md5"]
    assert "with checksums" in run("data", "fetch", "drx-td", "--out", tmp_path / "td", "--api", url, code=3)
