"""A reading that goes on from the last one gives what a first one gives, and finds the same damage."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import pytest
from ledgers import FIRST, HIGH, LOW, SECOND, START, THIRD, prediction, straight_profile
from tampering import TAMPERED, behind_its_back, fill

from campaigns.errors import LedgerUnreadable
from campaigns.ledger.entry import Entry
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import CONFIRMED, DOUBTFUL, NewMeasurement, NewModel, NewProposal, Snapshot, State
from drxnet.errors import UsageError
from drxnet.process import Process

Act = Callable[[Entry, random.Random, int], None]


def _round(entry: Entry, draw: random.Random, step: int) -> None:
    entry.add_round(
        [NewProposal(c, prediction(), [], Process.of({"firing_temperature_c": 900.0})) for c in (FIRST, SECOND, THIRD)],
        model_id=START.model_id, seed=step, strategy="logei", spec={"a": step}, spec_hash="ab", statistics={},
    )  # fmt: skip


def _ingest(entry: Entry, draw: random.Random, step: int) -> None:
    entry.add_file(
        f"{draw.randrange(16**64):064x}", f"cell {step}.csv", "arbin", "warned", [{"id": "W4", "message": ""}]
    )
    row = NewMeasurement(FIRST, draw.choice([LOW, HIGH]), 200.0 + step, straight_profile(200.0 + step), 3.0, "cycler")
    made_by = Process.of({"firing_temperature_c": 900.0 + step})
    row = replace(row, conditions=replace(row.conditions, process=made_by)) if step % 3 == 0 else row
    doubt = ("D1", "the mass is tenfold") if step % 4 == 0 else None
    entry.add_measurement(_any_proposal(entry, draw), f"cell {step}", row, None, doubt=doubt)


def _any_proposal(entry: Entry, draw: random.Random) -> str:
    return draw.choice(entry.before.proposals).proposal_id


def _supersede(entry: Entry, draw: random.Random, step: int) -> None:
    old = draw.choice(entry.before.standing)
    new = entry.add_measurement(
        old.proposal_id, old.cell, NewMeasurement(FIRST, LOW, 230.0, None, None, "python"), None
    )
    entry.withdraw(old.measurement_id, "re-weighed", superseded_by=new)


def _retract(entry: Entry, draw: random.Random, step: int) -> None:
    entry.withdraw(draw.choice(entry.before.standing).measurement_id, "short circuit")


def _judge(entry: Entry, draw: random.Random, step: int) -> None:
    entry.judge(draw.choice(entry.before.standing).measurement_id, draw.choice([DOUBTFUL, CONFIRMED]), "D1", f"{step}")


def _mark(entry: Entry, draw: random.Random, step: int) -> None:
    entry.set_state(_any_proposal(entry, draw), draw.choice([State.FAILED, State.ACCEPTED]), f"as of step {step}")


def _analyse(entry: Entry, draw: random.Random, step: int) -> None:
    entry.add_phases(_any_proposal(entry, draw), {"rocksalt": 80.0}, single_phase=False)
    entry.add_analysis(_any_proposal(entry, draw), SECOND)


def _learn(entry: Entry, draw: random.Random, step: int) -> None:
    entry.add_model(NewModel(f"{step:012x}", "", parent=START.model_id, accepted=bool(step % 2), metrics={"mae": 30.5}))


def _bring(entry: Entry, draw: random.Random, step: int) -> None:
    entry.add_lab_composition(THIRD)
    entry.note_refused([{"name": f"{step}.csv", "sha256": "0" * 64, "rules": []}])


ACTS: tuple[Act, ...] = (_round, _ingest, _ingest, _supersede, _retract, _judge, _mark, _analyse, _learn, _bring)


def first_reading(ledger: Ledger) -> Snapshot:
    """What one reads who has never read it."""
    other = Ledger(ledger.url, ledger.campaign)
    try:
        return other.read()
    finally:
        other.close()


def assert_same(one: Snapshot, other: Snapshot) -> None:
    for field in fields(Snapshot):
        assert getattr(one, field.name) == getattr(other, field.name), field.name


def test_whatever_is_written_it_reads_on_to_what_a_first_reading_gives(ledger: Ledger) -> None:
    draw = random.Random(20261127)
    watching = Ledger(ledger.url, ledger.campaign, read_only=True)
    for step, act in enumerate([_round, _ingest, _ingest, *draw.choices(ACTS, k=60)]):
        try:
            with ledger.write(act.__name__) as entry:
                act(entry, draw, step)
        except UsageError:
            continue  # such as a proposal that cannot fail any more
        if step % 3 == 0:
            assert_same(watching.read(), first_reading(ledger))
    assert_same(ledger.read(), first_reading(ledger))
    assert len(ledger.read().events) > 40
    watching.close()


def test_only_what_something_was_said_of_is_made_anew(ledger: Ledger) -> None:
    fill(ledger)
    before = ledger.read()
    with ledger.write("retract") as entry:
        entry.withdraw("M0003", "short circuit")
        entry.set_state("R01-03", State.FAILED, "crucible broke")
    after = ledger.read()
    assert [m.measurement_id for m, n in zip(before.measurements, after.measurements, strict=True) if m is not n] == [
        "M0003"
    ]
    assert [p.proposal_id for p, q in zip(before.proposals, after.proposals, strict=True) if p is not q] == ["R01-03"]
    assert after.measurements[2].withdrawn_reason == "short circuit"


def test_damage_is_found_though_others_wrote_since(ledger: Ledger) -> None:
    fill(ledger)
    watching = Ledger(ledger.url, ledger.campaign, read_only=True)
    watching.read()
    with ledger.write("mark") as entry:
        entry.set_state("R01-03", State.ACCEPTED, "")
    behind_its_back(ledger, TAMPERED["a capacity by a little"])
    with pytest.raises(LedgerUnreadable, match="Event 3"):
        watching.read()
    watching.close()


def test_what_was_undone_by_hand_is_read_again(ledger: Ledger) -> None:
    fill(ledger)
    before = ledger.read()
    behind_its_back(ledger, "UPDATE measurements SET capacity_mah_g = capacity_mah_g + 1 WHERE number = 3")
    with pytest.raises(LedgerUnreadable):
        ledger.read()
    behind_its_back(ledger, "UPDATE measurements SET capacity_mah_g = capacity_mah_g - 1 WHERE number = 3")
    assert_same(ledger.read(), before)


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_an_older_copy_in_its_place_is_what_is_read(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    ledger.copy_to(tmp_path / "older.sqlite")
    older = ledger.read()
    with ledger.write("mark") as entry:
        entry.set_state("R01-03", State.FAILED, "crucible broke")
    assert ledger.read() != older
    known = ledger.known
    ledger.close()
    place = Path(ledger.where)
    for ending in ("-wal", "-shm", ".last"):
        Path(f"{place}{ending}").unlink(missing_ok=True)
    shutil.copyfile(tmp_path / "older.sqlite", place)
    again = Ledger(ledger.url, ledger.campaign)
    again.known = known
    assert_same(again.read(), older)
    again.close()


def test_another_process_writes_meanwhile(ledger: Ledger) -> None:
    fill(ledger)
    ledger.read()
    program = (
        "from campaigns.ledger.ledger import Ledger\nfrom campaigns.ledger.records import State\n"
        f"ledger = Ledger({ledger.url.render_as_string(hide_password=False)!r}, {ledger.campaign!r})\n"
        "for n in range(20):\n"
        "    if n in (7, 14):\n        input()\n"  # until something new was read, however slow that is
        "    with ledger.write('mark') as entry:\n"
        "        entry.set_state('R01-03', State.FAILED if n % 2 else State.ACCEPTED, f'time {n}')\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True) as process:
        seen: set[int] = set()
        while process.poll() is None:
            state = ledger.read()
            if process.stdin and len(state.events) not in seen:
                with suppress(BrokenPipeError):
                    print(file=process.stdin, flush=True)
            seen.add(len(state.events))
            if len(state.events) > 7:
                assert state.proposal("R01-03").reason == f"time {len(state.events) - 8}"
    assert process.returncode == 0
    assert len(ledger.read().events) == 27
    assert_same(ledger.read(), first_reading(ledger))
    assert len(seen) > 1
