"""Several processes write to one ledger while others kill them; what was reported as done must be there, once.

Every operation carries a word of its own. A writer notes it in its own journal when the ledger has said that it is done
(``done``), and before it asks (``asked``). In the end each done word stands in the ledger exactly once, an asked one at
most once, and every digest of the chain is right. A campaign takes so many operations, then the next one begins, so
that a run can be cut and goes on with the next::

    python tests/attack/writers.py FOLDER [--url URL] [--operations 1000] [--campaigns 1] [--writers 8] [--kills 50]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from ledgers import FIRST, LOW, SECOND, START, THIRD, prediction, straight_profile

from campaigns.ledger.ledger import Ledger, NewMeasurement, NewModel, sqlite_url
from campaigns.ledger.records import PredictedProfile, Snapshot, State
from drxnet.errors import LedgerLocked, UsageError

KINDS = {"measure": 60, "mark": 12, "retract": 8, "supersede": 6, "lab": 12, "propose": 1, "finetune": 1}
"""How often each kind of operation is done (%)."""

PROFILE = straight_profile(240.0, points=20)


def operate(ledger: Ledger, word: str, rng: random.Random) -> str:
    """Do one thing to a ledger, and give back what it was."""
    kind = rng.choices(
        ["measure", "mark", "retract", "supersede", "lab", "propose", "finetune"], [60, 12, 8, 6, 12, 1, 1]
    )[0]
    with ledger.write(kind) as entry:
        entry.summary = word
        state = entry.before
        if kind == "propose" or not state.proposals:
            profiles = [
                PredictedProfile(LOW, PROFILE.voltage_v, PROFILE.capacity_mah_g, PROFILE.capacity_mah_g * 0 + 5)
            ]
            entry.add_round(
                [(formula, prediction(), profiles) for formula in (FIRST, SECOND, THIRD)],
                model_id=START.model_id, seed=0, strategy="logei", spec={}, spec_hash="", statistics={},
            )  # fmt: skip
        elif kind == "finetune":
            entry.add_model(NewModel("beefbeefbeef", "", parent=START.model_id, accepted=False, metrics={"word": word}))
        elif kind == "mark":
            waiting = [p for p in state.proposals if p.state in (State.PROPOSED, State.ACCEPTED)]
            if waiting:
                proposal = rng.choice(waiting)
                other = State.ACCEPTED if proposal.state is State.PROPOSED else State.PROPOSED
                entry.set_state(proposal.proposal_id, other, word)
            else:
                entry.add_lab_composition(FIRST)
        elif kind in ("retract", "supersede") and state.standing:
            old = rng.choice(state.standing)
            if kind == "retract":
                entry.withdraw(old.measurement_id, word)
            else:
                measured = NewMeasurement(old.composition, LOW, 230.0, None, None, "python")
                new = entry.add_measurement(old.proposal_id, word, measured, None)
                entry.withdraw(old.measurement_id, word, superseded_by=new)
        else:
            proposal_id = (
                entry.add_lab_composition(SECOND) if kind == "lab" else rng.choice(state.proposals).proposal_id
            )
            for cell in range(rng.randint(1, 3)):
                measured = NewMeasurement(FIRST, LOW, 240.0, PROFILE, None, "python")
                entry.add_measurement(proposal_id, f"{word}-{cell}", measured, None)
    return kind


def write(url: str, name: str, journal: Path, operations: int, seed: int) -> None:
    """A writer: does what is left of its operations."""
    done = sum(line.startswith("done") for line in journal.read_text().splitlines()) if journal.exists() else 0
    tries = len(journal.read_text().splitlines()) if journal.exists() else 0
    rng = random.Random(f"{seed} {tries}")
    with closing(Ledger(url, name, timeout_s=120)) as ledger, journal.open("a") as file:

        def note(text: str) -> None:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())

        while done < operations:
            word = f"w{seed}-{tries}"
            tries += 1
            note(f"asked {word}")
            if rng.random() < 0.05:
                ledger.read()
            try:
                kind = operate(ledger, word, rng)
            except (UsageError, LedgerLocked) as error:
                note(f"refused {word} {type(error).__name__}")
                continue
            note(f"done {word} {kind}")
            done += 1


def attack(folder: Path, url: str, name: str, operations: int, writers: int, kills: int, seed: int) -> Counter[str]:
    """Let writers write to one campaign and kill some of them; count what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    Ledger.create(url, name, START).close()
    share = [operations // writers + (i < operations % writers) for i in range(writers)]
    rng = random.Random(seed)
    running: dict[int, int] = {}
    killed = 0

    def begin(number: int) -> None:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                write(url, name, folder / f"{name}-{number}.journal", share[number], number)
                code = 0
            except BaseException as error:
                print(f"  writer {number}: {error!r}"[:300], flush=True)
            finally:
                os._exit(code)
        running[child] = number

    for number in range(writers):
        begin(number)
    counts: Counter[str] = Counter()
    finished_at = operations / max(kills, 1)
    while running:
        time.sleep(0.01)
        for child in list(running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                del running[child]
                if status != 0:
                    counts["failed writers"] += 1
        total = sum(p.read_text().count("done ") for p in folder.glob(f"{name}-*.journal"))
        if running and killed < kills and total >= finished_at * (killed + 0.5):
            child = rng.choice(list(running))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed += 1
            begin(running.pop(child))
    counts["kills"] = killed
    with closing(Ledger(url, name)) as ledger:
        counts += check(ledger.read(), folder, name)
        counts["unsound"] = sum(not f.sound for f in ledger.findings())
    return counts


def check(state: Snapshot, folder: Path, name: str) -> Counter[str]:
    """Count words that were reported and are not there, or are there twice."""
    counts: Counter[str] = Counter()
    present = Counter(e.summary for e in state.events if e.summary.startswith("w"))
    numbers = [e.number for e in state.events]
    counts["doubled"] += sum(n > 1 for n in present.values()) + (numbers != list(range(1, len(numbers) + 1)))
    asked = set()
    for journal in folder.glob(f"{name}-*.journal"):
        for line in journal.read_text().splitlines():
            what, word, *_ = line.split()
            if what == "asked":
                asked.add(word)
            elif what == "done":
                counts["operations"] += 1
                counts["lost"] += word not in present
            else:
                counts["refused"] += 1
                counts["refused and there"] += word in present
    counts["never asked"] += len(set(present) - asked)
    counts["done, but not reported"] += len(set(present)) - counts["operations"]
    cells = Counter((c.proposal_id, c.label) for c in state.cells)
    counts["doubled"] += sum(n > 1 for n in cells.values())
    return counts


def start(given: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", help="Of PostgreSQL; by default SQLite in the folder.")
    parser.add_argument("--operations", type=int, default=1000, help="Of each campaign.")
    parser.add_argument("--campaigns", type=int, default=1)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--kills", type=int, default=50, help="In each campaign.")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(given)
    total: Counter[str] = Counter()
    for number in range(asked.campaigns):
        name = f"attack{asked.seed}-{number}"
        asked.folder.mkdir(parents=True, exist_ok=True)
        url = asked.url or sqlite_url(asked.folder / f"{name}.sqlite")
        if (asked.folder / f"{name}.counts").exists():
            total += Counter(json.loads((asked.folder / f"{name}.counts").read_text()))
            continue
        begun = time.monotonic()
        counts = attack(asked.folder, url, name, asked.operations, asked.writers, asked.kills, asked.seed + number)
        (asked.folder / f"{name}.counts").write_text(json.dumps(counts))
        total += counts
        print(json.dumps({"campaign": name, **counts, "seconds": round(time.monotonic() - begun)}), flush=True)
    keys = ("operations", "kills", "lost", "doubled", "never asked", "refused and there", "unsound", "failed writers")
    print(json.dumps({"database": "postgresql" if asked.url else "sqlite", **{k: total[k] for k in keys}}), flush=True)
    return 1 if any(total[k] for k in keys[2:]) else 0


if __name__ == "__main__":
    raise SystemExit(start(sys.argv[1:]))
