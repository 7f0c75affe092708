"""A campaign as one file and back: the same events, predictions, profiles and models, whoever writes meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from filled_ledgers import fill
from ledgers import FIRST, SECOND, record_round, write_campaign, write_stub_model

from campaigns.backup import MANIFEST, backup, everything, rebuild, restore
from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import State
from drxnet.errors import DataRefused, UsageError

CANDIDATES = [f"Li1.2Mn{0.8 - x:.2f}Ti{x:.2f}O2" for x in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.45, 0.5)]


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    assert "defect" not in result.output
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign with a history, files of rounds, and a list of candidates of its own."""
    (tmp_path / "mine.csv").write_text(f"composition\n{FIRST}\n{SECOND}\n")
    place = tmp_path / "demo"
    template = write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"), space="mine.csv")
    with Campaign.start(place, template) as campaign:
        fill(campaign.ledger, rounds=2, batch=3)
    (place / "rounds" / "R01").mkdir(parents=True)
    (place / "rounds" / "R01" / "proposals.csv").write_text("proposal_id\n")
    (place / "rounds" / ".scan-1").mkdir()
    (place / "rounds" / ".scan-1" / "half.json").write_text("{")
    return place


def content(campaign: Campaign) -> dict[str, Any]:
    """Everything that a ledger holds."""
    return campaign.ledger.dump()


def test_a_backup_is_restored_as_it_was(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("backup", "-C", str(folder), str(tmp_path / "demo.zip"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "Restored in demo/" in run("restore", str(tmp_path / "demo.zip")).stderr
    with Campaign.open("demo") as restored, Campaign.open(folder) as original:
        assert content(restored) == content(original)
        assert restored.spec.resolved() == original.spec.resolved()
    assert (tmp_path / "elsewhere" / "demo" / "rounds" / "R01" / "proposals.csv").is_file()
    assert (tmp_path / "elsewhere" / "demo" / "mine.csv").is_file()
    assert not list((tmp_path / "elsewhere" / "demo").rglob(".*"))
    run("verify", "-C", "demo")
    assert "is there already" in run("restore", str(tmp_path / "demo.zip"), code=2).stderr


def test_what_is_in_the_write_ahead_file_is_in_the_backup(folder: Path, tmp_path: Path) -> None:
    with Campaign.open(folder) as campaign, closing(sqlite3.connect(folder / "ledger.sqlite")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM events").fetchall()  # an old reader keeps the write-ahead file from being merged
        record_round(campaign, FIRST)
        assert (folder / "ledger.sqlite-wal").stat().st_size > 0
        assert backup(campaign, tmp_path / "demo.zip") == len(campaign.state().events)
        before = content(campaign)
    with Campaign.open(restore(tmp_path / "demo.zip", tmp_path / "back")) as back:
        assert content(back) == before


def test_backups_while_two_processes_write_are_whole(folder: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from campaigns.campaign import Campaign\n"
        "with Campaign.open(sys.argv[1]) as campaign:\n"
        "    print('ready', flush=True)\n"
        "    for n in range(25):\n"
        "        campaign.add_measurements([{'composition': 'Li1.2Mn0.4Ti0.4O2', 'current_ma_g': 20,\n"
        "            'capacity_mah_g': 200.0 + n / 10, 'cell': f'{sys.argv[2]}-{n}'}], fine_tune=False)\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder), name, str(Path(__file__).parents[2])], stdout=subprocess.PIPE
        )
        for name in "ab"
    ]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    made = []
    with Campaign.open(folder, read_only=True) as campaign:
        while any(writer.poll() is None for writer in writers):
            made.append(backup(campaign, tmp_path / f"{len(made)}.zip"))
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()
        assert writer.wait() == 0
    assert made == sorted(made)
    with Campaign.open(folder, read_only=True) as campaign:
        last = campaign.state()
    for number, events in enumerate(made):
        back = restore(tmp_path / f"{number}.zip", tmp_path / f"back-{number}")
        with Campaign.open(back, read_only=True) as campaign:
            assert campaign.state().events == last.events[:events]


def test_an_export_as_json_is_rebuilt_exactly(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("export", "-C", str(folder), "all.json")
    assert "with every event of all.json" in run("init", "twin", "--from", "all.json").stderr
    shutil.rmtree(tmp_path / "stub")  # the models came along
    with Campaign.open("twin") as twin, Campaign.open(folder, read_only=True) as original:
        assert content(twin) == content(original)
        assert twin.name == "twin"
        state = twin.state()
        assert twin.ledger.predicted_profiles(["R01-01"]).keys() == {"R01-01"}
        assert len(twin.ledger.profiles(state.valid)) == len(state.valid)
        assert twin.model_path(state.first_model).is_dir()
        record_round(twin, FIRST)
    run("verify", "-C", "twin")
    run("export", "-C", "twin", "again.json")
    assert "is there already" in run("init", "twin", "--from", "all.json", code=2).stderr


def test_a_campaign_without_measurements_is_exported_and_rebuilt(tmp_path: Path) -> None:
    template = write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"))
    with Campaign.start(tmp_path / "new", template) as campaign:
        record_round(campaign, FIRST)
        before = content(campaign)
    run("export", "-C", str(tmp_path / "new"), str(tmp_path / "all.json"))
    with Campaign.open(rebuild(tmp_path / "all.json", tmp_path / "twin")) as twin:
        assert content(twin) == before


def damaged(kind: str, path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if kind == "torn":
        path.write_bytes(path.read_bytes()[:-200])
        return
    if kind == "no zip":
        path.write_bytes(b"PK no")
        return
    manifest = json.loads(members[MANIFEST])
    if kind == "a model":
        members["models/N01/weights.safetensors"] = b"rot"
    elif kind == "no manifest":
        del members[MANIFEST]
    elif kind in ("absolute", "upwards", "hidden"):
        name = {"absolute": "/tmp/drx-escaped", "upwards": "models/../../escaped", "hidden": ".bashrc"}[kind]
        members[name] = b""
        manifest["sha256"][name] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        members[MANIFEST] = json.dumps(manifest).encode()
    elif kind == "a campaign's name":
        members[MANIFEST] = json.dumps({**manifest, "campaign": "../escaped"}).encode()
    elif kind == "newer":
        members[MANIFEST] = json.dumps({**manifest, "format": 99}).encode()
    elif kind == "a file that is missing":
        del members["ledger.sqlite"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)


@pytest.mark.parametrize(
    "kind",
    ["torn", "no zip", "a model", "no manifest", "absolute", "upwards", "hidden", "a campaign's name", "newer",
     "a file that is missing"],
)  # fmt: skip
def test_a_damaged_backup_restores_nothing(folder: Path, tmp_path: Path, kind: str) -> None:
    with Campaign.open(folder, read_only=True) as campaign:
        backup(campaign, tmp_path / "demo.zip")
    damaged(kind, tmp_path / "demo.zip")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataRefused, match=r"demo\.zip"):
        restore(tmp_path / "demo.zip", tmp_path / "out" / "back")
    assert list((tmp_path / "out").iterdir()) == []
    assert not Path("/tmp/drx-escaped").exists()


def test_a_backup_that_fails_leaves_the_one_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Campaign.open(folder, read_only=True) as campaign:
        backup(campaign, tmp_path / "demo.zip")
        before = (tmp_path / "demo.zip").read_bytes()
        monkeypatch.setattr(zipfile.ZipFile, "writestr", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
        with pytest.raises(OSError, match="disk full"):
            backup(campaign, tmp_path / "demo.zip")
        with pytest.raises(UsageError, match=r"a backup is a \.zip file"):
            backup(campaign, tmp_path / "demo.tar")
    assert (tmp_path / "demo.zip").read_bytes() == before
    assert sorted(p.name for p in tmp_path.glob(".new*")) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("rebuild"),
        lambda c: c["rebuild"]["ledger"].update(schema=99),
        lambda c: c["rebuild"]["ledger"]["tables"].pop("events"),
        lambda c: c["rebuild"]["ledger"]["tables"]["measurements"][0].update(capacity_mah_g=999999),
        lambda c: c["rebuild"]["ledger"]["tables"]["measurements"][0].pop("cycle"),
        lambda c: c["rebuild"]["ledger"]["tables"]["profiles"][0].update(voltage_v="no base64!"),
        lambda c: c["rebuild"]["ledger"]["tables"]["cells"].pop(),
        lambda c: c["rebuild"]["files"].update({"../escaped": "x"}),
        lambda c: c["rebuild"]["files"].pop("campaign.yaml"),
        lambda c: c["rebuild"].update(files=[1]),
    ],
    ids=["none", "schema", "table", "tampered", "column", "bytes", "row", "path", "no yaml", "no files"],
)
def test_an_export_that_was_changed_is_not_rebuilt(folder: Path, tmp_path: Path, change: Any) -> None:
    with Campaign.open(folder, read_only=True) as campaign:
        exported: dict[str, Any] = {"rebuild": everything(campaign)}
    change(exported)
    (tmp_path / "all.json").write_text(json.dumps(exported))
    result = CliRunner().invoke(main, ["init", str(tmp_path / "twin"), "--from", str(tmp_path / "all.json")])
    assert result.exit_code in (3, 5), result.output
    assert "defect" not in result.output
    assert not (tmp_path / "twin").exists()
    assert not (tmp_path / "escaped").exists()


def test_a_campaign_moves_between_databases(
    folder: Path, tmp_path: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From SQLite to PostgreSQL by an export, and back by a backup."""
    name = f"moved{os.getpid()}-{int(time.time())}"
    with Campaign.open(folder, read_only=True) as campaign:
        before = content(campaign)
        exported = {"rebuild": everything(campaign)}
    yaml = exported["rebuild"]["files"]["campaign.yaml"]
    exported["rebuild"]["files"]["campaign.yaml"] = f"{yaml}ledger: {json.dumps(postgresql)}\n"
    (tmp_path / "all.json").write_text(json.dumps(exported))
    with Campaign.open(rebuild(tmp_path / "all.json", tmp_path / name)) as moved:
        assert moved.ledger.url.get_backend_name() == "postgresql"
        assert content(moved) == before
        assert all(f.sound for f in moved.ledger.findings())
        backup(moved, tmp_path / "moved.zip")
        with pytest.raises(UsageError, match="holds it already"):
            restore(tmp_path / "moved.zip", tmp_path / "again")
        moved.ledger.drop()
    with Campaign.open(restore(tmp_path / "moved.zip", tmp_path / "again")) as again:
        assert content(again) == before
        url = again.ledger.url
        assert Ledger.is_there(url, name)
        again.ledger.drop()


@pytest.mark.slow
def test_a_campaign_of_fifty_rounds_proposes_the_same_next_batch_when_restored(tmp_path: Path) -> None:
    """Backed up while two processes mark proposals back and forth, which changes no choice, and restored elsewhere."""
    from small_model import write_small_model

    template = write_campaign(tmp_path / "t.yaml", write_small_model(tmp_path / "small"), first_strategy="greedy")
    with Campaign.start(tmp_path / "demo", template) as campaign:
        record_round(campaign, "Li1.1Mn0.9O1.9F0.1", "Li1.2Mn0.6Nb0.2O2")
        rows = [
            {"proposal_id": f"R01-0{place}", "current_ma_g": current, "capacity_mah_g": capacity}
            for place in (1, 2)
            for current, capacity in ((20, 220.0 + place), (1000, 150.0 + place))
        ]
        campaign.add_measurements(rows, fine_tune=False)
        for _ in range(49):
            number = record_round(campaign, FIRST, SECOND)
            with campaign.ledger.write("mark") as entry:
                entry.set_state(f"R{number:02d}-01", State.FAILED, "crucible broke")
                entry.set_state(f"R{number:02d}-02", State.FAILED, "crucible broke")
        waiting = record_round(campaign, "Li1.25Mn0.75O2", "Li1.15Mn0.85O1.9F0.1")
        assert campaign.state().round == 51
    program = (
        "import sys\nfrom campaigns.campaign import Campaign\n"
        "from campaigns.ledger.records import State\n"
        "with Campaign.open(sys.argv[1]) as campaign:\n"
        "    for n in range(40):\n"
        "        with campaign.ledger.write('mark') as entry:\n"
        "            entry.set_state(sys.argv[2], (State.ACCEPTED, State.PROPOSED)[n % 2], f'told {n}')\n"
        "            entry.set_state(sys.argv[2], (State.ACCEPTED, State.PROPOSED)[n % 2], f'told {n} again')\n"
        "        print(n, flush=True)\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "demo"), f"R{waiting:02d}-0{place}"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        for place in (1, 2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline()
    with Campaign.open(tmp_path / "demo", read_only=True) as campaign:
        backup(campaign, tmp_path / "demo.zip")
    assert all(writer.poll() is None for writer in writers)  # they were writing all the while
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    restored = restore(tmp_path / "demo.zip", tmp_path / "elsewhere")
    (tmp_path / "mine.csv").write_text("composition\n" + "\n".join(CANDIDATES) + "\n")
    batches = []
    for folder in (tmp_path / "demo", restored):
        said = run(
            "propose", "-C", str(folder), "-n", "4", "--candidates", str(tmp_path / "mine.csv"), "--workers", "0",
            "--dry-run", "--format", "json",
        )  # fmt: skip
        batches.append(json.loads(said.stdout))
    assert batches[0] == batches[1]
    assert len(batches[0]["proposals"]) == 4
