"""The chain of digests: whatever is changed behind the ledger's back is noticed, and never content."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ledgers import FIRST, LOW, SECOND, START, THIRD, prediction, straight_profile
from sqlalchemy import text

from campaigns.errors import LedgerUnreadable
from campaigns.ledger.ledger import Ledger, NewMeasurement, NewModel, _engine, sqlite_url
from campaigns.ledger.records import PredictedProfile, State
from drxnet.errors import UsageError


def fill(ledger: Ledger) -> None:
    """One row in every table, and one measurement withdrawn, one superseded."""
    grid = LOW.grid(20)
    predicted = [PredictedProfile(LOW, grid, 270 - 50 * grid, grid * 0 + 5.0)]
    with ledger.write("propose") as entry:
        entry.add_round(
            [(c, prediction(), predicted) for c in (FIRST, SECOND, THIRD)],
            model_id=START.model_id, seed=1, strategy="logei", spec={"a": 0.1}, spec_hash="ab", statistics={"x": 1e-05},
        )  # fmt: skip
    with ledger.write("ingest") as entry:
        entry.add_file("ab" * 32, "cell.csv", "arbin", "warned", [{"id": "W4", "message": "sparse"}])
        for number in range(4):
            row = NewMeasurement(FIRST, LOW, 240.1 + number, straight_profile(240.1 + number), 3.0, "cycler", ("W4",))
            entry.add_measurement("R01-01", f"cell {number}", row, "ab" * 32)
    with ledger.write("supersede") as entry:
        row = NewMeasurement(FIRST, LOW, 230.0, None, None, "python")
        new = entry.add_measurement("R01-01", "cell 0", row, None)
        entry.withdraw("M0001", "re-weighed", superseded_by=new)
    with ledger.write("retract") as entry:
        entry.withdraw("M0002", "short circuit")
    with ledger.write("mark") as entry:
        entry.set_state("R01-02", State.FAILED, "crucible broke")
    with ledger.write("finetune") as entry:
        entry.add_model(NewModel("beefbeefbeef", "", parent=START.model_id, accepted=False, metrics={"mae": 30.5}))


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    fill(ledger)
    return ledger


def behind_its_back(ledger: Ledger, statement: str) -> int:
    """Run SQL as somebody would who has the file or the password, triggers out of the way."""
    if ledger.url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(ledger.url.database or "")) as file, file:
            triggers = file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for (name,) in triggers:
                file.execute(f"DROP TRIGGER {name}")
            return file.execute(statement).rowcount
    engine = _engine(ledger.url, ledger.campaign, 5)
    with engine.begin() as connection:
        connection.execute(text("SET session_replication_role = replica"))
        changed = connection.execute(text(statement)).rowcount
    engine.dispose()
    return changed


TAMPERED = {
    "a capacity": "UPDATE measurements SET capacity_mah_g = 999999 WHERE number = 3",
    "a capacity by a little": "UPDATE measurements SET capacity_mah_g = capacity_mah_g + 1e-9 WHERE number = 3",
    "a cycle": "UPDATE measurements SET cycle = 2 WHERE number = 3",
    "a composition": "UPDATE measurements SET composition = 'Li1.2Mn0.8O2' WHERE number = 3",
    "a withdrawal undone": "UPDATE measurements SET withdrawn_event = NULL WHERE number = 2",
    "a reason": "UPDATE measurements SET withdrawn_reason = 'none' WHERE number = 2",
    "a withdrawal made": "UPDATE measurements SET withdrawn_event = 2 WHERE number = 3",
    "a successor": "UPDATE measurements SET superseded_by = 3 WHERE number = 1",
    "a successor of a retracted one": "UPDATE measurements SET superseded_by = 5 WHERE number = 2",
    "a cell moved": "UPDATE cells SET proposal_id = 'R01-03' WHERE cell_id = 2",
    "a state": "UPDATE proposal_states SET state = 'accepted' WHERE state = 'failed'",
    "a state that is none": "UPDATE proposal_states SET state = 'lost' WHERE state = 'failed'",
    "a prediction": "UPDATE proposals SET prediction = '{}' WHERE proposal_id = 'R01-02'",
    "what is no prediction": "UPDATE proposals SET prediction = '{\"a\": 1}' WHERE proposal_id = 'R01-02'",
    "a proposal": "UPDATE proposals SET composition = 'Li1.2Mn0.8O2' WHERE proposal_id = 'R01-02'",
    "a seed": "UPDATE rounds SET seed = 2",
    "a model": "UPDATE models SET accepted = true WHERE number = 2",
    "a model's path": "UPDATE models SET path = '/etc' WHERE number = 1",
    "a file": "UPDATE files SET name = 'other.csv'",
    "an event": "UPDATE events SET summary = 'nothing happened' WHERE number = 5",
    "the author of an event": "UPDATE events SET who = 'somebody' WHERE number = 3",
    "a digest": "UPDATE digests SET rows = arrays WHERE event = 3",
    "a link": "UPDATE digests SET link = rows WHERE event = 3",
    "a digest taken away": "DELETE FROM digests WHERE event = 3",
    "a row taken away": "DELETE FROM proposal_states WHERE state = 'failed'",
    "an event taken away": "DELETE FROM events WHERE number = 6",
    "a row added": "INSERT INTO cells (cell_id, proposal_id, label, event) VALUES (9, 'R01-01', 'mine', 3)",
    "a row of no event": "INSERT INTO cells (cell_id, proposal_id, label, event) VALUES (9, 'R01-01', 'mine', 99)",
    "all models": "DELETE FROM models",
}


def test_what_nobody_changed_is_sound(filled: Ledger) -> None:
    assert [f.said for f in filled.findings() if not f.sound] == []
    assert any("7 events from event 1 on" in f.said for f in filled.findings())
    assert filled.read().valid[0].capacity_mah_g == 242.1


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_is_no_content(filled: Ledger, name: str) -> None:
    before = filled.read()
    assert behind_its_back(filled, TAMPERED[name]) > 0
    with pytest.raises(LedgerUnreadable, match="verify"):
        filled.read()
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
