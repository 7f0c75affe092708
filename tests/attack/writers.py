"""Several processes write to one campaign while others kill them; what was reported as done must be there, once.

Every operation is a verb of a campaign (measure, ingest a file, mark, retract, supersede, propose, fine-tune, ...)
under a word of its own, which the ledger keeps as what was run. A writer notes the word in its own journal before it
asks (``asked``) and when the verb has come back (``done``, with the cells that it made). In the end each done word
stands in the ledger exactly once with its cells, an asked one at most once, and every digest of the chain is right. A
campaign takes so many operations, then the next one begins; finished ones are kept, so that a run goes on where it was
cut::

    python tests/attack/writers.py FOLDER [--postgresql] [--operations 1000] [--campaigns 1] [--writers 8] [--kills 50]

Writers are forks of one process that has imported everything, so that an operation costs what its verb costs.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["OMP_NUM_THREADS"] = "1"  # threads do not survive a fork

from ledgers import FIRST, SECOND, THIRD, record_round, write_campaign, write_discharge
from postgres import postgresql_server
from small_model import FINE_TUNING
from synthetic import untrained_ensemble

from campaigns.campaign import Campaign
from campaigns.ledger.database import sqlite_url
from campaigns.ledger.records import Snapshot, State
from drxnet.checkpoint import save
from drxnet.errors import DRXError

KINDS = {
    "measure": 50, "ingest": 8, "lab": 8, "mark": 14, "analyse": 4, "retract": 8, "supersede": 7, "propose": 0.5,
    "finetune": 0.3,
}  # fmt: skip
"""How often each verb is done (%)."""

PROPOSED = (FIRST, SECOND, THIRD, "Li1.25Mn0.75O2", "Li1.2Mn0.5Nb0.3O1.9F0.1", "Li1.15Ti0.3Mn0.55O1.9F0.1")
"""The first round."""

LOOKS = 4
"""Operations after which a writer looks again; between, it acts on what it saw, as people do."""

BEGINNING = "beginning"
"""What was run where no writer ran it."""


class Refused(Exception):
    """There was nothing to do, or somebody else had done it; nothing was written."""


class Writer:
    """One process that does what a group would do to a campaign."""

    def __init__(self, campaign: Campaign, inbox: Path, rng: random.Random) -> None:
        self.campaign, self.inbox, self.rng = campaign, inbox, rng
        self.known, self.asked = campaign.state(), 0

    def do(self, kind: str, word: str) -> list[str]:
        """Do one thing, and give back the labels of the cells that it made."""
        self.campaign.ledger.command = word
        self.asked += 1
        if self.asked % LOOKS == 0:
            self.known = self.campaign.state()
        made = getattr(self, kind)(word)
        if made is None:
            raise Refused
        return made

    def _proposals(self, *states: State) -> list[str]:
        return [p.proposal_id for p in self.known.proposals if p.state in states]

    def _chosen(self, names: list[str]) -> str:
        if not names:
            raise Refused
        return self.rng.choice(names)

    def _capacity(self) -> float:
        return round(self.rng.uniform(200.0, 260.0), 3)

    def measure(self, word: str) -> list[str]:
        proposal = self._chosen(self._proposals(State.PROPOSED, State.ACCEPTED, State.MEASURED))
        cells = [f"{word}-{n}" for n in range(self.rng.randint(1, 3))]
        row = {"proposal_id": proposal, "current_ma_g": 20.0}
        self.campaign.add_measurements(
            [{**row, "cell": cell, "capacity_mah_g": self._capacity()} for cell in cells],
            fine_tune=False, confirmed=True,
        )  # fmt: skip
        return cells

    def lab(self, word: str) -> list[str]:
        row = {"composition": self.rng.choice([FIRST, SECOND, THIRD]), "current_ma_g": 20.0, "cell": word}
        self.campaign.add_measurements(
            {**row, "capacity_mah_g": self._capacity()}, fine_tune=False, confirmed=True
        )  # fmt: skip
        return [word]

    def ingest(self, word: str) -> list[str] | None:
        path = write_discharge(self.inbox / f"{word}.json", self.rng.choice([FIRST, SECOND, THIRD]), self._capacity())
        try:
            found = self.campaign.add_measurements(path, fine_tune=False)
        finally:
            path.unlink()
        return [] if found else None  # by chance the very discharge of another file, which is known then

    def mark(self, word: str) -> list[str] | None:
        proposal = self._chosen(self._proposals(State.PROPOSED, State.ACCEPTED))
        state = next(p.state for p in self.known.proposals if p.proposal_id == proposal)
        other = State.ACCEPTED if state is State.PROPOSED else State.PROPOSED
        return [] if self.campaign.mark([proposal], other, word) else None

    def analyse(self, word: str) -> list[str] | None:
        proposal = self._chosen(self._proposals(State.PROPOSED, State.ACCEPTED, State.MEASURED))
        share = self.rng.randint(50, 99)
        found = {"rocksalt": float(share), "Li3NbO4": float(100 - share)}
        return [] if self.campaign.mark([proposal], phases=found, single_phase=False) else None

    def _standing(self) -> str:
        return self._chosen([m.measurement_id for m in self.known.standing])

    def retract(self, word: str) -> list[str] | None:
        return [] if self.campaign.retract_measurement(self._standing(), word) else None

    def supersede(self, word: str) -> list[str]:
        self.campaign.update_measurement(self._standing(), word, capacity_mah_g=self._capacity())
        return []

    def propose(self, word: str) -> list[str]:
        self.campaign.recommend(2, workers=0)
        return []

    def finetune(self, word: str) -> list[str]:
        self.campaign.fine_tune()
        return []


def write(place: Path, journal: Path, operations: int, seed: int) -> None:
    """A writer's life: it does what is left of its operations."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    done, tries = sum(line.startswith("done") for line in lines), len(lines)
    rng = random.Random(f"{seed} {tries}")
    with Campaign.open(place) as campaign, journal.open("a") as file:
        writer = Writer(campaign, journal.parent, rng)

        def note(text: str) -> None:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())

        while done < operations:
            word = f"w{seed}-{tries}"
            tries += 1
            (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
            note(f"asked {word} {kind}")
            try:
                cells = writer.do(kind, word)
            except (DRXError, Refused) as error:
                note(f"refused {word} {kind} {type(error).__name__}")
                continue
            note(f"done {word} {kind} {' '.join(cells)}")
            done += 1


def begin(folder: Path, name: str, url: str) -> Path:
    """A campaign with a first round and two cells, so that there is something to do."""
    small = folder / "small"
    if not small.exists():
        ensemble = untrained_ensemble()
        save(small, ensemble.network.state_dict(), ensemble.card)
    template = folder / f"{name}.yaml"
    options = {"fine_tuning": FINE_TUNING, "shortlist": 4, "first_strategy": "greedy", "ledger": url}
    write_campaign(template, small, **options)
    with Campaign.start(folder / name, template, command=BEGINNING) as campaign:
        campaign.ledger.command = BEGINNING
        record_round(campaign, *PROPOSED)
        rows = [{"proposal_id": f"R01-0{n}", "current_ma_g": 20.0, "capacity_mah_g": 230.0 + n} for n in (1, 2)]
        campaign.add_measurements(rows, fine_tune=False, confirmed=True)
    return folder / name


def warm_up(folder: Path) -> None:
    """Do every verb once in this process, so that its forks find what it imports and compiles."""
    with Campaign.open(begin(folder, "warm", sqlite_url(folder / "warm.sqlite"))) as campaign:
        writer = Writer(campaign, folder, random.Random(0))
        for kind in KINDS:
            writer.do(kind, kind)


def attack(place: Path, operations: int, writers: int, kills: int, seed: int) -> Counter[str]:
    """Let writers write to one campaign and kill some of them; count what came of it."""
    share = [operations // writers + (i < operations % writers) for i in range(writers)]
    journals = [place.parent / f"{place.name}-{number}.journal" for number in range(writers)]
    rng = random.Random(seed)
    running: dict[int, int] = {}
    counts: Counter[str] = Counter(kills=0)
    gc.collect()
    gc.freeze()  # so that forks share what is there

    def start_writer(number: int) -> None:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                write(place, journals[number], share[number], number)
                code = 0
            except BaseException as error:
                print(f"  writer {number}: {error!r}"[:600], flush=True)
            finally:
                os._exit(code)
        running[child] = number

    for number in range(writers):
        start_writer(number)
    while running:
        time.sleep(rng.uniform(0, 0.1))
        for child in list(running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                del running[child]
                counts["failed writers"] += status != 0
        done = sum(journal.read_text().count("done ") for journal in journals if journal.exists())
        if running and counts["kills"] < kills and done >= operations / kills * (counts["kills"] + 0.5):
            child = rng.choice(list(running))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            counts["kills"] += 1
            start_writer(running.pop(child))
    with Campaign.open(place, read_only=True) as campaign:
        counts += check(campaign.state(), journals)
        counts["unsound"] = sum(not f.sound for f in campaign.ledger.findings())
    return counts


def check(state: Snapshot, journals: list[Path]) -> Counter[str]:
    """Count words that were reported and are not there, or are there twice."""
    counts: Counter[str] = Counter()
    present = Counter(e.command for e in state.events if e.command != BEGINNING)
    numbers = [e.number for e in state.events]
    cells = Counter(c.label for c in state.cells)
    counts["doubled"] += sum(n > 1 for n in present.values()) + (numbers != list(range(1, len(numbers) + 1)))
    asked = set()
    for line in (line for journal in journals for line in journal.read_text().splitlines()):
        what, word, kind, *more = line.split()
        if what == "asked":
            asked.add(word)
        elif what == "done":
            counts["operations"] += 1
            counts[kind] += 1
            counts["lost"] += word not in present or any(cell not in cells for cell in more)
            counts["doubled"] += any(cells[cell] > 1 for cell in more)
        else:
            counts["refused"] += 1
            counts["refused and there"] += word in present
    counts["never asked"] += len(set(present) - asked)
    counts["done, but not reported"] += len(set(present)) - counts["operations"]
    return counts


@contextlib.contextmanager
def databases(postgresql: bool, folder: Path) -> Iterator[str]:
    """Address of the database, where ``{name}`` stands for a campaign."""
    if not postgresql:
        yield sqlite_url(folder / "{name}.sqlite")
        return
    with postgresql_server() as url:
        yield url


def start(given: list[str]) -> int:
    """Attack campaigns one after another; 1 where anything was lost or doubled."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--postgresql", action="store_true", help="On a server of its own; by default on SQLite.")
    parser.add_argument("--operations", type=int, default=1000, help="Of each campaign.")
    parser.add_argument("--campaigns", type=int, default=1)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--kills", type=int, default=50, help="In each campaign.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="Begin no other campaign after so long.")
    asked = parser.parse_args(given)
    warnings.simplefilter("ignore")
    folder, begun, total = asked.folder.absolute(), time.monotonic(), Counter[str]()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "warm", ignore_errors=True)
    (folder / "warm").mkdir()
    warm_up(folder / "warm")
    with databases(asked.postgresql, folder) as url:
        for number in range(asked.campaigns):
            name = f"attack{asked.seed}-{number}"
            kept = folder / f"{name}.counts"
            if kept.exists():
                total += Counter(json.loads(kept.read_text()))
                continue
            if time.monotonic() - begun > asked.seconds:
                break
            for left in folder.glob(f"{name}[-./]*"):  # of a run that was cut
                left.unlink()
            shutil.rmtree(folder / name, ignore_errors=True)
            since = time.monotonic()
            place = begin(folder, name, url.format(name=name))
            counts = attack(place, asked.operations, asked.writers, asked.kills, asked.seed + number)
            kept.write_text(json.dumps(counts))
            total += counts
            print(json.dumps({"campaign": name, **counts, "seconds": round(time.monotonic() - since)}), flush=True)
    keys = ("operations", "kills", "lost", "doubled", "never asked", "refused and there", "unsound", "failed writers")
    facts = {"database": "postgresql" if asked.postgresql else "sqlite", **{k: total[k] for k in keys}}
    print(json.dumps(facts | {kind: total[kind] for kind in KINDS}), flush=True)
    return 1 if any(total[k] for k in keys[2:]) else 0


if __name__ == "__main__":
    raise SystemExit(start(sys.argv[1:]))
