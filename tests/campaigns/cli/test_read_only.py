"""Commands that read need no right to write, start nothing and bring nothing up to date."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from filled_ledgers import fill
from ledgers import FIRST, SECOND, record_round, write_campaign, write_stub_model

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.errors import LedgerError, NotBegun
from campaigns.ledger import chain

READING = {
    "status": ["status"],
    "status of proposals": ["status", "--proposals"],
    "log": ["log"],
    "rank": ["rank", "--within", "measured", "--by", "capacity"],
    "export": ["export", "{out}/measured.csv"],
    "export of everything": ["export", "{out}/all.json"],
    "report": ["report", "-o", "{out}/report"],
    "recipe": ["recipe", "--proposal", "R01-01"],
}
WRITING = {
    "mark": ["mark", "R02-01", "accepted"],
    "retract": ["retract", "M0001", "--reason", "short"],
    "supersede": ["supersede", "M0001", "--capacity", "200", "--reason", "re-weighed"],
}


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign with a history."""
    place = tmp_path / "demo"
    with Campaign.start(place, write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"))) as campaign:
        fill(campaign.ledger, rounds=2, batch=3)
    return place


def held(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but SQLite's own notes about who reads."""
    own = ("-shm", "-wal")
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name[-4:] not in own
    }


def given(arguments: list[str], source: Path | str, out: Path) -> list[str]:
    command, *rest = [a.format(out=out) for a in arguments]
    return [command, "--campaign", str(source), *rest]


@pytest.mark.parametrize("name", READING)
def test_reading_changes_nothing(folder: Path, tmp_path: Path, name: str) -> None:
    before = held(folder)
    run(*given(READING[name], folder, tmp_path))
    assert held(folder) == before


@pytest.mark.parametrize("name", [n for n in READING if n != "recipe"])
def test_reading_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    said = run(*given(READING[name], "tiny", tmp_path), code=2).stderr
    assert "Campaign tiny has not begun here: there is nothing yet. `drx-screen propose --campaign tiny`" in said
    assert list(tmp_path.iterdir()) == []


def test_check_of_a_campaign_that_has_not_begun_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checked = run("check", "--campaign", "tiny")
    assert "has not begun; nothing is written" in checked.stderr
    assert "candidates" in checked.stdout
    assert list(tmp_path.iterdir()) == []


def test_recipe_takes_the_settings_of_a_campaign_without_starting_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("recipe", "Li1.2Mn0.4Ti0.4O2", "--campaign", "tiny")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITING)
def test_a_command_that_must_write_says_so_and_writes_nothing(folder: Path, tmp_path: Path, name: str) -> None:
    before = held(folder)
    said = run("--read-only", *given(WRITING[name], folder, tmp_path), code=5).stderr
    assert "was opened for reading" in said
    assert "cannot be recorded" in said
    assert held(folder) == before


def test_python_opens_for_reading_too(folder: Path) -> None:
    with Campaign.open(folder, read_only=True) as campaign, Campaign.open(folder) as other:
        assert campaign.state() == other.state()
        with pytest.raises(LedgerError, match="was opened for reading"):
            campaign.retract_measurement("M0001", "short")
    with pytest.raises(NotBegun):
        Campaign.open("tiny", read_only=True)


def test_a_folder_that_cannot_be_written_to_is_read(folder: Path) -> None:
    """As another user where root runs the tests, to whom everything is allowed."""
    place = Path("/tmp") / f"drx-read-only-{os.getpid()}"
    shutil.copytree(folder, place / "demo")
    commands = [given(READING[name], place / "demo", place) for name in ("status", "log", "rank")]
    commands += [
        ["status", "--campaign", str(place / "demo"), "--proposals"],
        given(WRITING["mark"], place / "demo", place),
    ]
    for arguments in commands[:-1]:
        run(*arguments)  # what is imported when it is needed is there before the user is another one
    shutil.rmtree(place)
    shutil.copytree(folder, place / "demo")
    for path in (place, *place.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        answers = as_nobody(lambda: [(r.exit_code, r.stderr) for r in (CliRunner().invoke(main, c) for c in commands)])
        assert [code for code, _ in answers[:-1]] == [0] * 4
        assert answers[-1][0] == 5
        assert "was opened for reading" in answers[-1][1]
    finally:
        for path in (place, *place.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(place)


def as_nobody(work: Callable[[], list[tuple[int, str]]]) -> list[tuple[int, str]]:
    """Do something in a process of its own, which is the user nobody's where root runs the tests."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return [(code, text) for code, text in json.loads(said)]


def test_readers_see_what_a_writer_commits(folder: Path) -> None:
    with Campaign.open(folder, read_only=True) as reader, Campaign.open(folder) as writer:
        writer.retract_measurement("M0001", "short")
        assert reader.state() == writer.state()


def test_a_ledger_of_an_older_version_is_read_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from campaigns.ledger import tables

    steps = list(tables.MIGRATIONS)
    monkeypatch.setattr(
        tables, "MIGRATIONS", [*steps, lambda connection: connection.exec_driver_sql("CREATE TABLE later (x)")]
    )
    before = held(folder)
    with Campaign.open(folder, read_only=True) as campaign:
        state = campaign.state()
        assert len(state.rounds) == 2
    assert held(folder) == before
    with Campaign.open(folder) as campaign:
        assert campaign.state() == state
    assert held(folder) != before


def test_a_ledger_whose_start_was_killed_has_not_begun_and_begins_when_asked(tmp_path: Path) -> None:
    place = tmp_path / "demo"
    place.mkdir()
    write_campaign(place / "campaign.yaml", write_stub_model(tmp_path / "stub"))
    text = (place / "campaign.yaml").read_text()
    (place / "campaign.yaml").write_text(f"name: demo\n{text}")
    with closing(sqlite3.connect(tmp_path / "begun.sqlite", isolation_level=None)) as file:
        file.execute("PRAGMA cache_size = 2")
        file.execute("CREATE TABLE x (content)")
        file.execute("BEGIN")
        file.executemany("INSERT INTO x VALUES (zeroblob(3000))", [()] * 50)  # more than is kept in memory
        for end in ("", "-journal"):
            (place / f"ledger.sqlite{end}").write_bytes((tmp_path / f"begun.sqlite{end}").read_bytes())
    assert (place / "ledger.sqlite-journal").stat().st_size
    with pytest.raises(NotBegun):
        Campaign.open(place, read_only=True)
    Campaign.open(place).close()
    Campaign.open(place, read_only=True).close()


@pytest.mark.parametrize("read_only", [True, False])
def test_a_reader_sees_one_instant_whoever_writes_meanwhile(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, read_only: bool
):
    record_round(campaign, FIRST, SECOND)
    links = chain.links

    def overtaken(connection: object) -> object:
        monkeypatch.setattr(chain, "links", links)
        campaign.mark("R01-01", "failed", "cracked")
        return links(connection)  # type: ignore[arg-type]

    with Campaign(campaign.folder, read_only=read_only) as reader:
        monkeypatch.setattr(chain, "links", overtaken)
        state = reader.state()
    assert str(state.proposal("R01-01").state) == "proposed"
    assert campaign.state().proposal("R01-01").reason == "cracked"
