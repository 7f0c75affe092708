"""A ledger with a row in every table, and what somebody may do to it behind its back."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from ledgers import FIRST, LOW, SECOND, START, THIRD, prediction, straight_profile
from sqlalchemy import text

from campaigns.ledger.database import Database
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import NewMeasurement, NewModel, PredictedProfile, State


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


def behind_its_back(ledger: Ledger, statement: str) -> int:
    """Run SQL as somebody would who has the file or the password, triggers out of the way."""
    if ledger.url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(ledger.url.database or "")) as file, file:
            triggers = file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for (name,) in triggers:
                file.execute(f"DROP TRIGGER {name}")
            return file.execute(statement).rowcount
    engine = Database(ledger.url, ledger.campaign, 5).engine
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
