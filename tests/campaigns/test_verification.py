from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from filled_ledgers import fill
from ledgers import write_campaign, write_stub_model

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.verification import verify_campaign


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    assert "defect" not in result.output
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "demo"
    with Campaign.start(place, write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"))) as campaign:
        fill(campaign.ledger, rounds=2, batch=3)
    return place


def tamper(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as file, file:
        file.execute(statement)


def test_a_campaign_that_nobody_touched_is_sound(folder: Path) -> None:
    found = json.loads(run("verify", "-C", str(folder), "--format", "json").stdout)
    assert [f["what"] for f in found] == [
        "pages of the file", "foreign keys", "chain of events", "profiles and weights", "weights", "folder of models",
    ]  # fmt: skip
    assert all(f["sound"] for f in found)
    assert "sound" in run("verify", "-C", str(folder)).stdout


@pytest.mark.parametrize("command", ["status", "rank", "log", "export", "report", "mark", "retract"])
def test_a_capacity_that_was_written_by_hand_is_refused_everywhere(folder: Path, tmp_path: Path, command: str) -> None:
    tamper(folder, "UPDATE measurements SET capacity_mah_g = 999999 WHERE number = 1")
    more = {
        "export": [str(tmp_path / "x.csv")],
        "report": ["-o", str(tmp_path / "r")],
        "mark": ["R02-01", "accepted"],
        "retract": ["M0001", "--reason", "x"],
        "rank": ["--within", "measured"],
    }
    said = run(command, "-C", str(folder), *more.get(command, []), code=5)
    assert "is not as it was written" in said.stderr
    assert "drx-screen verify" in said.stderr
    assert "999999" not in said.stdout


def test_what_is_damaged_is_said_with_the_event_and_the_way_out(folder: Path) -> None:
    tamper(folder, "UPDATE measurements SET capacity_mah_g = 999999 WHERE number = 1")
    said = run("verify", "-C", str(folder), code=5)
    assert "DAMAGED" in said.stdout
    assert "Damaged since event" in said.stderr
    assert "drx-screen restore" in said.stderr
    accepted = run("verify", "-C", str(folder), "--accept", "typed in by hand")
    assert "1 were changed by hand and accepted" in accepted.stdout
    run("status", "-C", str(folder))
    assert "nothing to accept" in run("verify", "-C", str(folder), "--accept", "again", code=2).stderr


def test_a_folder_of_a_model_that_is_not_the_ledgers_is_said(folder: Path, tmp_path: Path) -> None:
    place = folder / "models" / "N01"
    (place / "weights.safetensors").write_bytes(b"rot")
    (wrong,) = [f for f in verify_campaign(folder) if not f.sound]
    assert "The next command fills it again" in wrong.said
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    write_stub_model(place.with_name("other")).rename(place)
    (wrong,) = [f for f in verify_campaign(folder) if not f.sound]
    assert "the next command fills it again" in wrong.said


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"\xff" * 5000, b"no database"], ids=len)
def test_a_file_that_is_no_ledger_is_a_finding(folder: Path, content: bytes) -> None:
    for path in folder.glob("ledger.sqlite*"):
        path.unlink()
    (folder / "ledger.sqlite").write_bytes(content)
    assert "DAMAGED" in run("verify", "-C", str(folder), code=5).stdout
