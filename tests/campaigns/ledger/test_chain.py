"""The chain of digests: whatever is changed behind the ledger's back is noticed, and never content."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ledgers import START
from tampering import TAMPERED, behind_its_back, fill

from campaigns.errors import LedgerUnreadable
from campaigns.ledger.database import sqlite_url
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import State
from drxnet.errors import UsageError


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    fill(ledger)
    return ledger


def test_what_nobody_changed_is_sound(filled: Ledger) -> None:
    assert [f.said for f in filled.findings() if not f.sound] == []
    assert any("7 events from event 1 on" in f.said for f in filled.findings())
    assert filled.read().valid[0].capacity_mah_g == 242.1


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_is_no_content(filled: Ledger, name: str) -> None:
    before = filled.read()
    assert behind_its_back(filled, TAMPERED[name]) > 0
    with pytest.raises(LedgerUnreadable, match="verify") as going_on:
        filled.read()
    filled.known = None
    with pytest.raises(LedgerUnreadable) as first:
        filled.read()
    assert str(first.value) == str(going_on.value)
    with pytest.raises(LedgerUnreadable), filled.write("mark") as entry:
        entry.set_state("R01-03", State.ACCEPTED, "")
    wrong = [f for f in filled.findings() if not f.sound]
    assert wrong
    assert before.events


ARRAYS = {
    "a profile": "UPDATE profiles SET capacity_mah_g = voltage_v WHERE number = 3",
    "a profile taken away": "DELETE FROM profiles WHERE number = 3",
    "a predicted profile": "UPDATE predicted_profiles SET capacity_mah_g_mean = voltage_v",
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_were_changed_are_no_content(filled: Ledger, name: str) -> None:
    behind_its_back(filled, ARRAYS[name])
    with pytest.raises(LedgerUnreadable, match="a profile or the weights of event"):
        filled.predicted_profiles(["R01-01"]) if "predicted" in name else filled.profiles(filled.read().valid)
    assert [f.what for f in filled.findings() if not f.sound] == ["profiles and weights"]


def test_a_sentence_names_the_event_and_what_to_do(filled: Ledger) -> None:
    behind_its_back(filled, TAMPERED["a capacity"])
    said = r"is not as it was written\. Event 3 \(ingest of 20.*\): a row of it was changed, added or taken .*restore"
    with pytest.raises(LedgerUnreadable, match=said):
        filled.read()
    (wrong,) = [f for f in filled.findings() if not f.sound]
    assert wrong.since == 3


def test_a_past_round_is_checked_as_far_as_it_goes(filled: Ledger) -> None:
    before = filled.read(as_of=1)
    behind_its_back(filled, TAMPERED["a capacity"])
    assert filled.read(as_of=1) == before
    behind_its_back(filled, TAMPERED["a seed"])
    with pytest.raises(LedgerUnreadable):
        filled.read(as_of=1)


def test_events_of_an_older_ledger_carry_none_and_the_chain_begins_later(filled: Ledger) -> None:
    behind_its_back(filled, "DELETE FROM digests")
    assert any("7 events carry no digest; the chain begins with the next one" in f.said for f in filled.findings())
    with filled.write("mark") as entry:
        entry.set_state("R01-03", State.ACCEPTED, "")
    assert any("1 events from event 8 on; 7 events before it carry none" in f.said for f in filled.findings())
    behind_its_back(
        filled, "UPDATE proposal_states SET reason = 'x' WHERE proposal_id = 'R01-03' AND state = 'accepted'"
    )
    with pytest.raises(LedgerUnreadable, match="Event 8"):
        filled.read()


def test_rows_that_were_changed_on_purpose_can_be_accepted_with_a_reason(filled: Ledger) -> None:
    with pytest.raises(UsageError, match="nothing to accept"):
        filled.accept("why not")
    behind_its_back(filled, "UPDATE measurements SET capacity_mah_g = 200 WHERE number = 3")
    assert filled.accept("typed into the database by hand") == (3,)
    state = filled.read()
    assert state.valid[0].capacity_mah_g == 200
    assert (state.events[-1].verb, state.events[-1].summary) == (
        "accept",
        "events 3 taken as they are: typed into the database by hand",
    )
    assert all(f.sound for f in filled.findings())
    behind_its_back(filled, "UPDATE measurements SET capacity_mah_g = 201 WHERE number = 3")
    with pytest.raises(LedgerUnreadable):
        filled.read()
    behind_its_back(filled, "DELETE FROM digests WHERE event = 4")
    with pytest.raises(LedgerUnreadable, match="digest was taken away"):
        filled.accept("no")


def test_a_copy_without_its_write_ahead_file_is_noticed(tmp_path: Path) -> None:
    home = tmp_path / "original"
    home.mkdir()
    ledger = Ledger.create(sqlite_url(home / "ledger.sqlite"), "demo", START)
    with closing(sqlite3.connect(home / "ledger.sqlite")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM events").fetchall()  # as an open notebook does
        fill(ledger)
        (tmp_path / "copy").mkdir()
        for path in home.iterdir():
            if not path.name.endswith(("-wal", "-shm")):
                shutil.copy(path, tmp_path / "copy" / path.name)
    copied = sqlite_url(tmp_path / "copy" / "ledger.sqlite")
    with pytest.raises(LedgerUnreadable, match=r"holds 1 events, and 7 were recorded. It was copied without"):
        Ledger(copied, "demo")
    with pytest.raises(LedgerUnreadable, match="delete ledger.sqlite.last"):
        Ledger(copied, "demo", read_only=True)
    (tmp_path / "copy" / "ledger.sqlite.last").unlink()
    with closing(Ledger(copied, "demo")) as rest:
        assert len(rest.read().events) == 1
    ledger.close()


def test_a_file_that_is_copied_alone_between_commands_is_whole(tmp_path: Path) -> None:
    ledger = Ledger.create(sqlite_url(tmp_path / "ledger.sqlite"), "demo", START)
    fill(ledger)  # and the connection stays open, as in a notebook
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "ledger.sqlite", tmp_path / "copy" / "ledger.sqlite")
    with closing(Ledger(sqlite_url(tmp_path / "copy" / "ledger.sqlite"), "demo")) as copy:
        assert copy.read() == ledger.read()
    ledger.close()


def test_a_damaged_index_leaves_no_profile_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger.create(sqlite_url(path), "demo", START)) as ledger:
        fill(ledger)
        proposals = [p.proposal_id for p in ledger.read().proposals]
        assert ledger.predicted_profiles(proposals)
        assert ledger.predicted_profiles(["R99-01"]) == {}
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        roots = dict(file.execute("SELECT name, rootpage FROM sqlite_master WHERE name LIKE 'sqlite_autoindex%'"))
        (size,) = file.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    of, other = ((roots[f"sqlite_autoindex_{name}_1"] - 1) * size for name in ("proposals", "files"))
    content[of : of + size] = content[other : other + size]
    path.write_bytes(content)
    with closing(Ledger(sqlite_url(path), "demo", read_only=True)) as ledger:
        with pytest.raises(LedgerUnreadable, match="is not as it was written"):
            ledger.predicted_profiles(proposals)
