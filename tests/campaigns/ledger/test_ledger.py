"""The ledger over SQLite and PostgreSQL: what is recorded stays, as a whole or not at all."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ledgers import START, make_first_version
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from campaigns.errors import LedgerError, LedgerLocked, LedgerUnreadable
from campaigns.ledger import tables
from campaigns.ledger.database import sqlite_url
from campaigns.ledger.entry import Entry
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import (
    NewMeasurement,
    NewModel,
    PredictedProfile,
    Prediction,
    QuantityValue,
    State,
    round_number,
)
from drxnet.discharge import CyclingConditions, DischargeProfile
from drxnet.errors import ConfigurationError, MeasurementError, UsageError
from drxnet.process import Process

LOW, HIGH = CyclingConditions(20.0), CyclingConditions(1000.0)
SAID = QuantityValue("rate-retention: here", "rate_retention", 0.7, 0.05, 0.62)
PREDICTION = Prediction((SAID,), 20.0, 1000.0, 0.98, 1.5, "inside", "high retention")
FIRST, SECOND = "Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.6Nb0.2O2"


def profile(capacity: float, conditions: CyclingConditions = LOW) -> DischargeProfile:
    voltage = conditions.grid(20)
    return DischargeProfile(voltage, capacity * (conditions.v_high - voltage) / (conditions.v_high - conditions.v_low))


def measurement(capacity: float = 250.0, composition: str = FIRST, conditions=LOW, **changes) -> NewMeasurement:
    values = {"profile": profile(capacity, conditions), "sigma_mah_g": None, "provenance": "cycler", **changes}
    return NewMeasurement(composition, conditions, capacity, **values)


def record_round(ledger: Ledger, *compositions: str) -> int:
    grid = LOW.grid(20)
    predicted = PredictedProfile(LOW, grid, 270 - 50 * grid, np.full(20, 5.0))
    with ledger.write("propose") as entry:
        return entry.add_round(
            [(c, PREDICTION, [predicted]) for c in compositions],
            model_id="a1b2c3d4e5f6",
            seed=7,
            strategy="qlognei",
            spec={"name": "demo"},
            spec_hash="00",
            statistics={"scored": 100, "best": float("nan")},
        )


def test_new_ledger_holds_the_starting_model_and_one_event(ledger: Ledger):
    state = ledger.read()
    assert (state.round, state.proposals, state.measurements) == (0, (), ())
    assert state.current_model.model_id == "a1b2c3d4e5f6"
    assert state.current_model == state.first_model
    assert [e.verb for e in state.events] == ["init"]
    assert state.events[0].versions["python"]


def test_opening_twice_changes_nothing(open_ledger: Callable[..., Ledger]):
    assert open_ledger().read() == open_ledger().read()


def test_round_is_read_back_as_recorded(ledger: Ledger):
    assert record_round(ledger, FIRST, SECOND) == 1
    state = ledger.read()
    assert [p.proposal_id for p in state.proposals] == ["R01-01", "R01-02"]
    first = state.proposal("r01-01")
    assert (first.composition, first.state, first.prediction) == (FIRST, State.PROPOSED, PREDICTION)
    assert first.prediction.value("rate-retention: here") == SAID
    assert state.rounds[0].statistics == {"scored": 100, "best": None}
    assert state.rounds[0].name == "R01"
    assert state.pending == state.proposals
    assert state.excluded == {FIRST, SECOND}
    (predicted,) = ledger.predicted_profiles(["R01-02"])["R01-02"]
    assert predicted.conditions == LOW
    np.testing.assert_array_equal(predicted.capacity_mah_g_mean, 270 - 50 * LOW.grid(20))


def test_measurement_is_read_back_to_the_last_digit(ledger: Ledger):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        entry.add_file("ab" * 32, "cell.csv", "Arbin csv", "warned", [{"id": "W4", "message": "sparse"}])
        name = entry.add_measurement("R01-01", "A", measurement(250.1234567890123, flags=("W4",)), "ab" * 32)
    state = ledger.read()
    (recorded,) = state.valid
    assert (recorded.measurement_id, recorded.cell, recorded.file, recorded.flags) == (name, "A", "cell.csv", ("W4",))
    assert recorded.capacity_mah_g == 250.1234567890123
    assert recorded.average_voltage_v == pytest.approx(3.15)
    assert state.proposal("R01-01").state is State.MEASURED
    (with_profile,) = ledger.profiles([recorded])
    assert with_profile.profile is not None
    np.testing.assert_array_equal(with_profile.profile.capacity_mah_g, profile(250.1234567890123).capacity_mah_g)


def test_capacity_alone_has_no_profile(ledger: Ledger):
    with ledger.write("ingest") as entry:
        entry.add_measurement(entry.add_lab_composition(FIRST), "A", measurement(profile=None), None)
    (recorded,) = ledger.profiles(ledger.read().valid)
    assert recorded.profile is None
    assert recorded.measurement.average_voltage_v is None


def test_lab_composition_gets_an_id_of_its_own(ledger: Ledger):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        entry.add_measurement(entry.add_lab_composition(SECOND), "A", measurement(composition=SECOND), None)
    proposal = ledger.read().proposal("LAB-01")
    assert (proposal.origin, proposal.round, proposal.state) == ("lab", None, State.MEASURED)


def test_replicates_are_cells_of_one_proposal(ledger: Ledger):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        for cell, conditions in (("A", LOW), ("B", LOW), ("A", HIGH)):
            entry.add_measurement("R01-01", cell, measurement(conditions=conditions), None)
    state = ledger.read()
    assert [(c.proposal_id, c.label) for c in state.cells] == [("R01-01", "A"), ("R01-01", "B")]
    assert [m.cell for m in state.valid] == ["A", "B", "A"]


def test_body_that_raises_leaves_no_trace(ledger: Ledger):
    before = ledger.read()

    def stopped_half_way() -> None:
        with ledger.write("ingest") as entry:
            entry.add_lab_composition(FIRST)
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        stopped_half_way()
    assert ledger.read() == before


def test_body_that_changes_nothing_leaves_no_event(ledger: Ledger):
    before = ledger.read()
    with ledger.write("ingest"):
        pass
    assert ledger.read() == before


def test_retracted_measurement_stays_with_its_reason(ledger: Ledger):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        entry.add_measurement("R01-01", "A", measurement(), None)
    with ledger.write("retract") as entry:
        entry.withdraw("m0001", "wrong mass")
    state = ledger.read()
    assert state.valid == ()
    assert (state.measurements[0].status, state.measurements[0].withdrawn_reason) == ("retracted", "wrong mass")
    assert state.proposal("R01-01").state is State.ACCEPTED
    assert "wrong mass" in state.proposal("R01-01").reason


def test_superseded_measurement_names_its_successor(ledger: Ledger):
    with ledger.write("ingest") as entry:
        proposal = entry.add_lab_composition(FIRST)
        old = entry.add_measurement(proposal, "A", measurement(250.0), None)
    with ledger.write("supersede") as entry:
        new = entry.add_measurement(proposal, "A", measurement(240.0), None)
        entry.withdraw(old, "re-weighed", superseded_by=new)
    state = ledger.read()
    assert (state.measurements[0].status, state.measurements[0].superseded_by) == ("superseded", "M0002")
    assert [m.capacity_mah_g for m in state.valid] == [240.0]
    assert state.proposal(proposal).state is State.MEASURED


@pytest.mark.parametrize(
    ("name", "reason", "message"),
    [
        ("M0009", "typo", "No measurement 'M0009'"),
        ("M0001", " ", "needs a reason"),
        ("M0002", "again", "M0002 was retracted before: first time"),
    ],
    ids=["unknown", "no-reason", "twice"],
)
def test_withdrawal_is_refused(ledger: Ledger, name: str, reason: str, message: str):
    with ledger.write("ingest") as entry:
        proposal = entry.add_lab_composition(FIRST)
        for cell in "AB":
            entry.add_measurement(proposal, cell, measurement(), None)
    with ledger.write("retract") as entry:
        entry.withdraw("M0002", "first time")
    before = ledger.read()
    with pytest.raises(UsageError, match=message), ledger.write("retract") as entry:
        entry.withdraw(name, reason)
    assert ledger.read() == before


def test_failed_may_be_proposed_again_and_abandoned_never(ledger: Ledger):
    record_round(ledger, FIRST, SECOND)
    with ledger.write("mark") as entry:
        entry.set_state("R01-01", State.FAILED, "melted")
        entry.set_state("R01-02", State.ABANDONED, "too dear")
    state = ledger.read()
    assert state.excluded == {SECOND}
    assert state.pending == ()


def test_measured_is_left_only_by_a_withdrawal(ledger: Ledger):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        entry.add_measurement("R01-01", "A", measurement(), None)
    with pytest.raises(UsageError, match="R01-01 is measured and cannot become failed"), ledger.write("mark") as entry:
        entry.set_state("R01-01", State.FAILED, "")


def test_past_state_is_rebuilt(ledger: Ledger):
    record_round(ledger, FIRST)
    then = ledger.read()
    with ledger.write("ingest") as entry:
        entry.add_measurement("R01-01", "A", measurement(), None)
    with ledger.write("finetune") as entry:
        entry.add_model(NewModel("beefbeefbeef", "models/N02", parent="a1b2c3d4e5f6"))
    record_round(ledger, SECOND)
    second = ledger.read()
    with ledger.write("retract") as entry:
        entry.withdraw("M0001", "wrong mass")
    assert ledger.read(as_of=1).content() == then.content()
    assert ledger.read(as_of=1).events == then.events
    assert ledger.read(as_of=2).content() == second.content()
    assert ledger.read(as_of=2).valid[0].status == "valid"
    assert ledger.read(as_of=1).current_model.model_id == "a1b2c3d4e5f6"
    assert ledger.read(as_of=2).current_model.model_id == "beefbeefbeef"
    with pytest.raises(UsageError, match="no round R09"):
        ledger.read(as_of=9)


def test_refused_model_does_not_become_current(ledger: Ledger):
    with ledger.write("finetune") as entry:
        entry.add_model(NewModel("beefbeefbeef", "", parent="a1b2c3d4e5f6", accepted=False, metrics={"mae": 30.0}))
    assert ledger.read().current_model.model_id == "a1b2c3d4e5f6"
    assert ledger.read().models[1].metrics == {"mae": 30.0}


def test_refused_files_are_in_the_log_alone(ledger: Ledger):
    before = ledger.read().content()
    with ledger.write("ingest") as entry:
        entry.note_refused(
            [{"name": "bad.csv", "sha256": "cd" * 32, "rules": [{"id": "E1", "message": "no discharge"}]}]
        )
    state = ledger.read()
    assert state.content() == before
    assert [(r.name, r.rules[0]["id"]) for r in state.refused] == [("bad.csv", "E1")]


def test_unlearned_measurements_are_those_no_model_has_tried(ledger: Ledger):
    with ledger.write("ingest") as entry:
        proposal = entry.add_lab_composition(FIRST)
        names = [entry.add_measurement(proposal, cell, measurement(), None) for cell in "ABC"]
    with ledger.write("finetune") as entry:
        entry.add_model(NewModel("beef", "", measurement_ids=tuple(names[:2]), accepted=False))
    assert [m.measurement_id for m in ledger.read().unlearned] == ["M0003"]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE events SET who = 'nobody'", "DELETE FROM events", "DELETE FROM measurements", "DELETE FROM profiles"],
)
def test_history_cannot_be_rewritten_by_hand(ledger: Ledger, statement: str):
    with ledger.write("ingest") as entry:
        entry.add_measurement(entry.add_lab_composition(FIRST), "A", measurement(), None)
    with pytest.raises(DBAPIError, match="never"), ledger._database.engine.connect() as connection, connection.begin():
        connection.execute(text(statement))


def test_writer_that_waits_too_long_is_told_so(open_ledger: Callable[..., Ledger]):
    first, second = open_ledger(), open_ledger(timeout_s=0.2)
    with first.write("ingest") as entry:
        entry.add_lab_composition(FIRST)
        with pytest.raises(LedgerLocked, match="another process is writing"), second.write("ingest"):
            pass
        assert second.read().proposals == ()  # readers do not wait
    assert len(second.read().proposals) == 1


def test_ledger_is_opened_and_read_while_somebody_writes(open_ledger: Callable[..., Ledger]):
    with open_ledger().write("ingest") as entry:
        entry.add_lab_composition(FIRST)
        begun = time.monotonic()
        reader = open_ledger(timeout_s=20)
        assert (reader.read().proposals, reader.first_model().model_id) == ((), "a1b2c3d4e5f6")
        assert time.monotonic() - begun < 10
    assert len(reader.read().proposals) == 1


def test_other_reason_for_the_same_state_is_recorded(ledger: Ledger):
    record_round(ledger, FIRST)
    for reason in ("melted", "melted", "", "Nb2O5 left"):
        with ledger.write("mark") as entry:
            entry.set_state("R01-01", State.FAILED, reason)
    state = ledger.read()
    assert (state.proposal("R01-01").state, state.proposal("R01-01").reason) == (State.FAILED, "Nb2O5 left")
    assert [e.verb for e in state.events] == ["init", "propose", "mark", "mark"]


def _write_many(url: str, prefix: str, count: int) -> None:
    ledger = Ledger.create(url, "demo", START)
    for i in range(count):
        with ledger.write("ingest") as entry:
            proposal = entry.add_lab_composition(f"{prefix}{i}")
            entry.add_measurement(proposal, "A", measurement(composition=f"{prefix}{i}"), None)
    ledger.close()


def test_processes_writing_at_once_lose_nothing(ledger_url: str):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(ledger_url, name, 15)) for name in ("x", "y")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [w.exitcode for w in writers] == [0, 0]
    ledger = Ledger(ledger_url, "demo")
    state = ledger.read()
    ledger.close()
    assert {m.composition for m in state.valid} == {f"{name}{i}" for name in "xy" for i in range(15)}
    assert len({p.proposal_id for p in state.proposals}) == 30
    assert [e.number for e in state.events] == list(range(1, 32))


def test_killed_writer_leaves_no_half_round(ledger_url: str):
    ledger = Ledger.create(ledger_url, "demo", START)
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_write_many, args=(ledger_url, "z", 100_000))
    writer.start()
    give_up = time.monotonic() + 60
    while len(ledger.read().measurements) < 3:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(30)
    state = ledger.read()
    assert len(state.measurements) == len(state.proposals) == len(state.cells) == len(state.events) - 1
    with ledger.write("ingest") as entry:  # the lock died with its holder
        entry.add_lab_composition(FIRST)
    ledger.close()


@pytest.mark.parametrize(
    "write",
    [
        lambda entry: entry.set_state("R99-01", State.ACCEPTED, ""),
        lambda entry: entry.add_measurement(
            "R99-01", "A", NewMeasurement(FIRST, CyclingConditions(20.0), 240.0, None, None, "python"), None
        ),
        lambda entry: entry.add_measurement(
            entry.add_lab_composition(FIRST),
            "A",
            NewMeasurement(FIRST, CyclingConditions(20.0), 240.0, None, None, "cycler"),
            "f" * 64,
        ),
    ],
    ids=["proposal", "cell", "file"],
)
def test_rows_that_refer_to_nothing_are_refused_by_the_database(ledger: Ledger, write: Callable[[Entry], object]):
    before = ledger.read()
    with pytest.raises(LedgerError, match="(?i)foreign key"), ledger.write("ingest") as entry:
        write(entry)
    assert ledger.read() == before


def test_newer_schema_is_refused(ledger: Ledger, ledger_url: str, monkeypatch: pytest.MonkeyPatch):
    with ledger._database.engine.connect() as connection, connection.begin():
        connection.execute(text("UPDATE meta SET value = '99' WHERE key = 'schema_version'"))
    with pytest.raises(LedgerUnreadable, match="newer drx-screen .schema 99"):
        Ledger(ledger_url, "demo")


def test_older_schema_is_brought_up_to_date_once(ledger: Ledger, ledger_url: str, monkeypatch: pytest.MonkeyPatch):
    record_round(ledger, FIRST)
    before = ledger.read()
    step = text("CREATE TABLE instruments (name VARCHAR(32))")
    monkeypatch.setattr(tables, "MIGRATIONS", [*tables.MIGRATIONS, lambda connection: connection.execute(step)])
    for _ in range(2):
        upgraded = Ledger(ledger_url, "demo")
        assert upgraded.read() == before
        with upgraded._database.engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM instruments")).scalar() == 0
        upgraded.close()


def test_ledger_of_another_campaign_is_refused(tmp_path: Path):
    url = sqlite_url(tmp_path / "ledger.sqlite")
    Ledger.create(url, "one", START).close()
    with pytest.raises(LedgerUnreadable, match="ledger of campaign 'one', not of 'two'"):
        Ledger.create(url, "two", START)


def test_one_server_keeps_campaigns_apart(postgresql: str):
    pair = [Ledger.create(postgresql, name, START) for name in ("one", "two")]
    with pair[0].write("ingest") as entry:
        entry.add_lab_composition(FIRST)
    assert [len(ledger.read().proposals) for ledger in pair] == [1, 0]
    for ledger in pair:
        ledger.close()


@pytest.mark.parametrize("content", [b"not a database, but long enough to have a header " * 40, b""])
def test_file_that_is_no_ledger_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(LedgerUnreadable, match=r"ledger.sqlite"):
        Ledger(sqlite_url(path), "demo")


def test_connections_of_a_ledger_that_nobody_holds_are_given_back(tmp_path: Path):
    ledger = Ledger.create(sqlite_url(tmp_path / "ledger.sqlite"), "one", START)
    ledger.read()
    pool = ledger._database.engine.pool
    assert pool.checkedin() == 1
    del ledger
    gc.collect()
    assert pool.checkedin() == 0


def test_other_sqlite_database_is_not_taken_for_a_ledger(tmp_path: Path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE meta (key TEXT, value TEXT)")
    connection.close()
    with pytest.raises(LedgerUnreadable, match="holds no ledger"):
        Ledger(sqlite_url(path), "demo")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://somewhere/x", "SQLite or PostgreSQL"),
        ("sqlite://", "needs a file"),
    ],
    ids=["no-url", "mysql", "memory"],
)
def test_url_that_cannot_hold_a_ledger_is_refused(url: str, message: str):
    with pytest.raises(ConfigurationError, match=message):
        Ledger(url, "demo")


def test_name_that_could_be_sql_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="A campaign's name"):
        Ledger.create(sqlite_url(tmp_path / "x.sqlite"), 'a"; DROP SCHEMA public', START)


def test_password_is_in_no_message():
    with pytest.raises(LedgerUnreadable) as caught:
        Ledger("postgresql://me:s3cret@127.0.0.1:1/db", "demo", timeout_s=1)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("text", "number"), [("R03", 3), ("r12", 12), ("4", 4)])
def test_round_names_are_read(text: str, number: int):
    assert round_number(text) == number


@pytest.mark.parametrize("text", ["", "R", "R0", "-1", "R1-02"])
def test_other_names_are_no_rounds(text: str):
    with pytest.raises(UsageError, match="named like R03"):
        round_number(text)


# -- what was thought of measurements, phases and analyses ------------------------------------------------


def test_doubtful_measurement_stands_but_does_not_count(ledger: Ledger):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        entry.add_measurement("R01-01", "A", measurement(), None, doubt=("D4", "the mass may be 10 times off"))
    state = ledger.read()
    assert (state.valid, [m.measurement_id for m in state.doubtful]) == ((), ["M0001"])
    assert (state.measurements[0].status, state.measurements[0].doubt) == ("doubtful", "the mass may be 10 times off")
    assert state.proposal("R01-01").state is State.ACCEPTED
    assert state.unlearned == ()
    with ledger.write("confirm") as entry:
        entry.judge("m0001", "confirmed", "", "weighed again")
    state = ledger.read()
    assert (state.measurements[0].status, state.measurements[0].confirmed) == ("valid", True)
    assert (state.doubtful, state.proposal("R01-01").state) == ((), State.MEASURED)


def test_measurement_that_was_learned_from_can_be_doubted_later(ledger: Ledger):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        for cell in "AB":
            entry.add_measurement("R01-01", cell, measurement(), None)
    record_round(ledger, SECOND)
    for name in ("M0001", "M0002"):
        with ledger.write("ingest") as entry:
            entry.judge(name, "doubtful", "D1", "the rates may be swapped")
    state, before = ledger.read(), ledger.read(as_of=2)
    assert (len(state.doubtful), state.proposal("R01-01").state) == (2, State.ACCEPTED)
    assert (len(before.doubtful), len(before.valid), before.proposal("R01-01").state) == (0, 2, State.MEASURED)
    with ledger.write("retract") as entry:
        entry.withdraw("M0001", "it was")
    assert [m.status for m in ledger.read().measurements] == ["retracted", "doubtful"]
    with pytest.raises(UsageError, match="M0001 was retracted before"), ledger.write("confirm") as entry:
        entry.judge("M0001", "confirmed", "", "")


def test_failed_proposal_with_a_doubtful_cell_stays_failed(ledger: Ledger):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        entry.add_measurement("R01-01", "A", measurement(), None, doubt=("D4", "x"))
    with ledger.write("mark") as entry:
        entry.set_state("R01-01", State.FAILED, "two phases")
    with ledger.write("retract") as entry:
        entry.withdraw("M0001", "wrong mass")
    assert (ledger.read().proposal("R01-01").state, ledger.read().proposal("R01-01").reason) == (
        State.FAILED,
        "two phases",
    )


NOT_NUMBERS = [float("nan"), float("inf")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity": 0.0}, "between 0 and that of all lithium, 395"),
        ({"capacity": -3.0}, "between 0 and that of all lithium"),
        ({"capacity": 500.0}, "between 0 and that of all lithium, 395"),
        *(({"capacity": value}, "between 0 and that of all lithium") for value in NOT_NUMBERS),
        ({"conditions": CyclingConditions(1e300)}, "cycled at 0.1 to 50,000 mA/g. Got 1e\\+300"),
        ({"conditions": CyclingConditions(0.05)}, "a C-rate is no current"),
        ({"conditions": CyclingConditions(20.0, -0.1, 4.8)}, "within 0 to 6 V"),
        ({"conditions": CyclingConditions(20.0, 1.5, 6.5)}, "within 0 to 6 V"),
        ({"conditions": CyclingConditions(20.0, cycle=100_001)}, "whole number from 1 to 100,000"),
        ({"conditions": CyclingConditions(20.0, cycle=1.5)}, "whole number"),  # type: ignore[arg-type]
        ({"sigma_mah_g": 0.0}, "uncertainty must be positive"),
        *(({"sigma_mah_g": value}, "uncertainty must be positive") for value in NOT_NUMBERS),
        ({"charge_mah": -1.0}, "charge must be positive"),
        ({"profile": DischargeProfile([1.5, 3.0, 4.8], [250.0, 260.0, 0.0])}, "never rises with voltage"),
        ({"profile": DischargeProfile([1.2, 3.0, 4.8], [250.0, 160.0, 0.0])}, "lies within its window"),
        ({"profile": DischargeProfile([1.5, 3.0, 5.0], [250.0, 160.0, 0.0])}, "lies within its window"),
        ({"profile": DischargeProfile([1.5, 3.0, 4.8], [250.0, 160.0, -5.0])}, "must not be negative"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_discharge_that_no_cell_gives_never_enters(ledger: Ledger, change, message):
    record_round(ledger, FIRST)
    before = ledger.read()
    values = {"profile": None, **{"capacity_mah_g" if k == "capacity" else k: v for k, v in change.items()}}
    with pytest.raises(MeasurementError, match=message), ledger.write("ingest") as entry:
        entry.add_measurement("R01-01", "A", replace(measurement(), **values), None)
    assert ledger.read() == before


def test_everything_that_is_wrong_with_a_discharge_is_told_at_once(ledger: Ledger):
    wrong = measurement(900.0, conditions=CyclingConditions(1e6), profile=None, sigma_mah_g=-1.0)
    with pytest.raises(MeasurementError, match=r"Got 1e\+06.*Got 900.*Got -1"), ledger.write("ingest") as entry:
        entry.add_measurement(entry.add_lab_composition(FIRST), "A", wrong, None)


def test_phases_and_analyses_are_recorded_with_the_proposal(ledger: Ledger):
    record_round(ledger, FIRST)
    with ledger.write("mark") as entry:
        entry.add_phases("R01-01", {"rocksalt": 80.0, "Li3NbO4": 20.0}, False)
        entry.add_analysis("R01-01", "Li1.15Mn0.42Ti0.43O2")
    record_round(ledger, SECOND)
    with ledger.write("mark") as entry:
        entry.add_phases("R01-01", {"rocksalt": None}, True)
    state, then = ledger.read(), ledger.read(as_of=2)
    assert str(state.phases["R01-01"]) == "single-phase (rocksalt)"
    assert str(then.phases["R01-01"]) == "not single-phase (rocksalt 80, Li3NbO4 20)"
    assert state.analysed == {"R01-01": "Li1.15Mn0.42Ti0.43O2"}
    assert len(state.phase_outcomes) == 2


def test_refused_file_leaves_the_list_once_it_is_recorded(ledger: Ledger):
    bad = [
        {"name": f"in/{name}", "sha256": sha * 64, "rules": [{"id": "E2", "message": "no mass"}]}
        for name, sha in (("a.csv", "0"), ("b.csv", "1"), ("c.csv", "2"))
    ]
    with ledger.write("ingest") as entry:
        entry.note_refused(bad)
    with ledger.write("ingest") as entry:
        entry.add_file("9" * 64, "a.csv", "arbin csv", "accepted", [])
        entry.add_file("1" * 64, "renamed.csv", "arbin csv", "accepted", [])
    assert [r.name for r in ledger.read().refused] == ["in/c.csv"]
    with ledger.write("ingest") as entry:
        entry.note_refused(bad[:1])
    assert sorted(r.name for r in ledger.read().refused) == ["in/a.csv", "in/c.csv"]


def test_ledger_of_the_first_version_is_read_and_goes_on(ledger: Ledger, ledger_url: str):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        entry.add_measurement("R01-01", "A", measurement(), None)
    before = ledger.read()
    make_first_version(ledger)
    upgraded = Ledger(ledger_url, "demo")
    assert upgraded.read() == before
    with upgraded.write("ingest") as entry:
        entry.add_measurement("R01-01", "B", measurement(charge_mah=0.5, file_cycle=1), None, doubt=("D3", "differs"))
    (doubted,) = upgraded.read().doubtful
    assert (doubted.charge_mah, doubted.mass_mg) == (0.5, 2.0)
    upgraded.close()


# -- conditions of the process -------------------------------------------------------------------------------------

FIRED = Process.of({"route": "sol-gel", "firing_temperature_c": 900})


def test_the_process_of_a_cell_is_read_back_and_is_part_of_the_chain(ledger: Ledger):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        entry.add_measurement("R01-01", "A", measurement(conditions=replace(LOW, process=FIRED)), None)
        entry.add_measurement("R01-01", "B", measurement(240.0), None)
    fired, plain = ledger.read().valid
    assert fired.conditions == replace(LOW, process=FIRED)
    assert plain.conditions == LOW
    with ledger._database.engine.connect() as connection, connection.begin():
        connection.execute(text('UPDATE processes SET stated = \'{"route": "combustion"}\''))
    with pytest.raises(LedgerUnreadable, match="not as it was written"):
        ledger.read()


def test_a_ledger_of_schema_2_goes_on_with_its_chain_whole(ledger: Ledger, ledger_url: str):
    record_round(ledger, FIRST)
    with ledger.write("ingest") as entry:
        entry.add_measurement("R01-01", "A", measurement(), None)
    before = ledger.read()
    with ledger._database.engine.connect() as connection, connection.begin():
        connection.execute(text("DROP TABLE processes"))
        connection.execute(text("UPDATE meta SET value = '2' WHERE key = 'schema_version'"))
    upgraded = Ledger(ledger_url, "demo")
    assert upgraded.read() == before
    assert all(finding.sound for finding in upgraded.findings())
    with upgraded.write("ingest") as entry:
        entry.add_measurement("R01-01", "B", measurement(conditions=replace(LOW, process=FIRED)), None)
    assert upgraded.read().valid[1].conditions.process == FIRED
    assert all(finding.sound for finding in upgraded.findings())
    upgraded.close()


def test_an_export_of_schema_2_is_rebuilt(ledger: Ledger, tmp_path: Path):
    record_round(ledger, FIRST)
    content = ledger.dump()
    content["schema"] = 2
    assert content["tables"].pop("processes") == []
    rebuilt = Ledger.rebuild(f"sqlite:///{tmp_path / 'again.sqlite'}", "demo", content)
    assert rebuilt.read() == ledger.read()
    rebuilt.close()
