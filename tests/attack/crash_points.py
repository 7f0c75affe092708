"""Look at what a kill would leave of every verb, at every call that changes a file.

Run under the shim (``LD_PRELOAD``): before each call, and in the middle of each that writes more than a byte, the
verb waits while a copy of its folder, which is what a kill at this instant leaves, is looked at. With ``--kill`` it is
killed at each point, in a fork of this process of its own. At every point:

* the history of every campaign is that of before, or goes on as that of the undisturbed verb, and every row is sound;
  where the verb had said that it is done, all of it is there (else **lost**);
* every file is whole, the old one or the new one, and no model is missing (else **torn**).

At every fourth point arrays, weights and pages are checked, too, and the verb is given again (else **not resumed**).

Prints a line of counts for each verb and ends with 1 where any of the three happened. ``--state FILE`` keeps the counts
of finished verbs, so that a run goes on where it was stopped. A folder on a file system in memory saves most time::

    cc -shared -fPIC -o shim.so tests/attack/shim.c -ldl
    LD_PRELOAD=./shim.so python tests/attack/crash_points.py ./shim.so /dev/shm/attack [--kill] [VERB ...]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["OMP_NUM_THREADS"] = "1"  # threads do not survive a fork

from filled_ledgers import fill
from ledgers import FIRST, SECOND, write_campaign, write_discharge, write_stub_model
from small_model import FINE_TUNING
from synthetic import linear_profiles, untrained_ensemble

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.verification import verify_campaign
from drxnet.checkpoint import check_model, save
from drxnet.errors import CheckpointError, NotBegun


@dataclass(frozen=True)
class Verb:
    """A command line, and what it works on."""

    line: str
    """Its arguments; the campaign is ``demo``, which has a history, or ``live``, which has real models."""

    needs: tuple[str, ...] = ()
    """What else of the prepared folder it needs."""

    changes: tuple[str, ...] = ("demo",)
    """Campaigns that may be another after it."""

    code: int = 0
    """Exit code when nobody disturbs it."""


TRAINING = ("set.npz", "tiny.yaml")
VERBS: dict[str, Verb] = {
    "init": Verb("init new --from t.yaml", changes=("new",)),
    "init from json": Verb("init twin --from demo.json", ("demo.json",), ("twin",)),
    "first use": Verb("ingest -C t.yaml one.json --no-finetune", ("one.json",), ("t",)),
    "ingest": Verb(
        "ingest -C demo one.json two.json bad.json --no-finetune", ("one.json", "two.json", "bad.json"), code=3
    ),
    "ingest a table": Verb("ingest -C demo table.csv --no-finetune", ("table.csv",)),
    "ingest and learn": Verb("ingest -C live one.json", ("one.json",), ("live",)),
    "mark": Verb("mark -C demo R02-01 R02-02 failed --reason broke"),
    "mark with findings": Verb("mark -C demo R02-01 accepted --phases rocksalt --single-phase yes"),
    "mark by a table": Verb("mark -C demo --table marks.csv", ("marks.csv",)),
    "retract": Verb("retract -C demo M0001 --reason short-circuited"),
    "supersede": Verb("supersede -C demo M0001 --capacity 200 --reason re-weighed"),
    "confirm": Verb("confirm -C demo {doubtful} --reason weighed-again"),
    "verify --accept": Verb("verify -C tampered --accept typed-in", ("tampered",), ("tampered",)),
    "propose": Verb("propose -C live -n 2 --candidates mine.csv --workers 0", ("mine.csv",), ("live",)),
    "propose from a space": Verb("propose -C live -n 2 --workers 0", changes=("live",)),
    "finetune": Verb("finetune -C live", changes=("live",)),
    "report": Verb("report -C live", changes=()),
    "export csv": Verb("export -C demo out.csv", changes=()),
    "export json": Verb("export -C demo out.json", changes=()),
    "export drx-td": Verb("export -C demo out.drxtd.csv --form drx-td", changes=()),
    "backup": Verb("backup -C demo out.zip", changes=()),
    "restore": Verb("restore demo.zip back", ("demo.zip",), ("back",)),
    "models import": Verb("models import stub --name mine", ("stub", "home"), ()),
    "models import --force": Verb("models import other --name there --force", ("other", "home"), ()),
    "train": Verb("train --data set.npz --out mine --options tiny.yaml", TRAINING, ()),
    "train --resume": Verb("train --resume --data set.npz --out mine --options tiny.yaml", TRAINING, ()),
    "simulate": Verb("simulate --model small --compositions 5 --profiles 8 --out drawn.npz", ("small",), ()),
    "predict --output": Verb("predict --input cases.csv --output out.csv --model small", ("cases.csv", "small"), ()),
    "enumerate --out": Verb("enumerate --space space.yaml --sample 5 --out rows.csv", ("space.yaml",), ()),
}  # fmt: skip
DOUBTFUL: list[str] = []
"""A measurement of the prepared campaign that may be confirmed."""

OPTIONS = "members: 2\nepochs: 2\nprofiles_per_batch: 16\npoints_per_profile: 10\n" \
    "network: {layers: 1, heads: 1, attention_hidden: 8}\n"  # fmt: skip


def prepare(home: Path) -> None:
    """A folder in which every verb has something to do."""
    home.mkdir(parents=True)
    os.chdir(home)
    write_stub_model(home / "stub")
    write_stub_model(home / "other")
    small = untrained_ensemble()
    save(home / "small", small.network.state_dict(), small.card)
    (home / "home" / "models").mkdir(parents=True)
    shutil.copytree(home / "stub", home / "home" / "models" / "there")
    settings = {"fine_tuning": FINE_TUNING, "shortlist": 4, "first_strategy": "greedy"}
    write_campaign(home / "t.yaml", home / "stub", **settings)
    write_campaign(home / "l.yaml", home / "small", **settings)
    with Campaign.start(home / "demo", home / "t.yaml") as campaign:
        fill(campaign.ledger, rounds=2, batch=3)
        write_discharge(home / "odd.json", campaign.state().proposals_of(2)[2].composition, 20.0)
    write_inputs(home)
    Campaign.start(home / "live", home / "l.yaml").close()
    for line in (
        "propose -C live -n 2 --candidates mine.csv --workers 0",
        "ingest -C live two.json --no-finetune",
        "ingest -C demo odd.json --no-finetune",
        "backup -C demo demo.zip",
        "export -C demo demo.json",
    ):
        code, said = run(line.split())
        if code:
            raise SystemExit(f"{line}: {code}: {said}")
    with Campaign.open("demo", read_only=True) as campaign:
        DOUBTFUL[:] = [m.measurement_id for m in campaign.state().doubtful][:1]
    run(["restore", "demo.zip", "tampered"])
    with contextlib.closing(sqlite3.connect("tampered/ledger.sqlite")) as file, file:
        for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {name}")
        file.execute("UPDATE measurements SET capacity_mah_g = 199 WHERE number = 1")


def write_inputs(home: Path) -> None:
    """Files that verbs are given."""
    for name, formula, capacity in (("one", FIRST, 240.0), ("two", SECOND, 230.0), ("bad", FIRST, 900.0)):
        write_discharge(home / f"{name}.json", formula, capacity)
    lines = [f"{formula},20,1.5,4.8,{q},1" for formula, q in ((FIRST, 240), (SECOND, 231))]
    (home / "table.csv").write_text(
        "\n".join(["composition,current_ma_g,v_low,v_high,capacity_mah_g,cycle", *lines, ""])
    )
    (home / "marks.csv").write_text("proposal,state,reason\nR02-01,failed,broke\nR02-03,accepted,\n")
    (home / "mine.csv").write_text(f"composition\n{FIRST}\n{SECOND}\nLi1.25Mn0.75O2\nLi1.1Mn0.9O1.9F0.1\n")
    (home / "cases.csv").write_text(f"composition,current_ma_g,v_low,v_high,cycle\n{FIRST},20,1.5,4.8,1\n")
    (home / "space.yaml").write_text(
        "step: 1/20\nlithium: [1.2, 1.25]\nfluorine: [0, 0]\nspecies: [Mn2+, Mn3+, Ti4+, Nb5+]\nk_elements: [2, 3]\n"
    )
    (home / "tiny.yaml").write_text(OPTIONS)
    linear_profiles(16, 34).save(home / "set.npz")


def run(arguments: list[str]) -> tuple[int, str]:
    """Exit code of a command, and what it said."""
    said = _Kept()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = code_of(arguments)
    return code, "".join(said.parts)


class _Kept(io.TextIOBase):
    """A stream that keeps what is written to it, and passes it on to a descriptor at once."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.parts: list[str] = []
        self.descriptor = descriptor

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("this is a stream of text")
        self.parts.append(text)
        if self.descriptor is not None:
            os.write(self.descriptor, text.encode())
        return len(text)


def code_of(arguments: list[str]) -> int:
    """Exit code of a command."""
    try:
        ended = main(arguments, standalone_mode=False)  # click gives back the exit code, where there is one
    except SystemExit as end:
        return int(end.code or 0)
    except Exception as error:
        print(repr(error))
        return int(getattr(error, "exit_code", 1))
    return ended if isinstance(ended, int) else 0


def histories(home: Path, verb: Verb, *, thoroughly: bool = True) -> dict[str, list[Any] | None]:
    """Events of the campaigns that a verb may change, without their times; None where there is none."""
    return {name: events_of(home / name, thoroughly) for name in verb.changes}


def events_of(place: Path, thoroughly: bool) -> list[Any] | None:
    """Events of a campaign, once all that it holds is checked; one that was tampered with is only listed."""
    if not (place / "campaign.yaml").is_file():
        return None
    if place.name == "tampered":  # which nobody reads until it is accepted
        with contextlib.closing(sqlite3.connect(place / "ledger.sqlite")) as file:
            return [tuple(row) for row in file.execute("SELECT number, verb, summary FROM events ORDER BY number")]
    try:
        with Campaign.open(place, read_only=True) as campaign:
            events = [(e.number, e.verb, e.summary) for e in campaign.state().events]
    except NotBegun:
        return None
    if not thoroughly:  # every row is checked by its digest all the same; arrays, weights and pages are not
        return events
    wrong = [f for f in verify_campaign(place) if not f.sound and "folder" not in f.what]
    if wrong:
        raise ValueError(f"{place.name}: {wrong[0]}")
    return events


WHOLE: dict[str, Callable[[bytes], bool]] = {
    ".png": lambda content: content.startswith(b"\x89PNG") and content.endswith(b"IEND\xaeB`\x82"),
    ".csv": lambda content: content.endswith(b"\n") or not content,
    ".html": lambda content: content.rstrip().endswith(b"</html>"),
    ".json": lambda content: json.loads(content) is not None,
    ".jsonl": lambda content: all(json.loads(line) is not None for line in content.splitlines()),
    ".yaml": lambda content: content.endswith(b"\n"),
    ".txt": lambda content: content.endswith(b"\n"),
    ".last": lambda content: content.strip().isdigit(),
    ".zip": lambda content: zipfile.ZipFile(io.BytesIO(content)).testzip() is None,
    ".npz": lambda content: zipfile.ZipFile(io.BytesIO(content)).testzip() is None,
}
"""How a whole file of each kind is told."""


def files_of(home: Path) -> dict[str, Path]:
    """Finished files below a folder, by their place: none whose name, or whose folder's, begins with a dot."""
    found = {}
    for folder, inner, names in os.walk(home):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found |= {os.path.relpath(f"{folder}/{n}", home): Path(folder, n) for n in names if not n.startswith(".")}
    return found


def torn(home: Path, unchanged: dict[str, tuple[int, int]]) -> list[str]:
    """Files and models that are not whole, among those that are not as they were (size and time of change)."""
    found = []
    for name, path in files_of(home).items():
        status = path.stat()
        if unchanged.get(name) == (status.st_size, status.st_mtime_ns):
            continue
        try:
            whole = WHOLE.get(path.suffix, lambda content: True)(path.read_bytes())
            if path.name == "model.json":
                check_model(path.parent)
        except (ValueError, zipfile.BadZipFile, CheckpointError):
            whole = False
        if not whole:
            found.append(name)
    if (home / "home").is_dir() and not (home / "home" / "models" / "there").is_dir():
        found.append("the model there")
    return found


SECONDS = 240
"""After which a verb hangs."""

DONE = (2, 3, 4)
"""Exit codes, beside its own, of a verb that is given again: it is done already, or nothing is left to do."""


class Attack:
    """One verb, run in forks of this process, each in a copy of the prepared folder."""

    def __init__(self, shim: ctypes.CDLL, clean: Path, scratch: Path, name: str) -> None:
        self.shim, self.clean, self.scratch = shim, clean, scratch
        self.name, self.verb = name, VERBS[name]
        doubtful = DOUBTFUL if "{doubtful}" in self.verb.line else []
        self.arguments = self.verb.line.format(doubtful=" ".join(doubtful)).split()
        self.counts: dict[str, Any] = {
            "verb": name,
            "calls": 0,
            "points": 0,
            "killed": 0,
            "reported": 0,
            "given again": 0,
        }
        self.counts |= {"lost": 0, "torn": 0, "not resumed": 0}
        self.first = ""

    def renew(self) -> None:
        """Make the scratch folder what the prepared one is."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        named = [name for name in ("demo", "live") if name in self.verb.line.split()]
        for name in ("t.yaml", *named, *self.verb.needs):
            source, target = self.clean / name, self.scratch / name
            shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)

    def warm_up(self) -> None:
        """Run the verb in this process, so that its forks find what it imports and compiles."""
        self.renew()
        os.chdir(self.scratch)
        os.environ["DRXNET_HOME"] = str(self.scratch / "home")
        run(self.arguments)
        os.chdir(self.clean)

    def forked(self, n: int, half: int) -> tuple[int, str, bytes]:
        """Run the verb in a fork that dies at call n; its exit status, what it said, and the kinds of its calls."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            os.chdir(self.scratch)
            os.environ["DRXNET_HOME"] = str(self.scratch / "home")
            sys.stdout = sys.stderr = _Kept(writing)
            self.shim.crash_arm(str(self.scratch).encode(), n, half)
            code = code_of(self.arguments)
            calls = self.shim.crash_count()
            self.shim.crash_arm(b"", -1, 0)
            os.write(writing, b"\0%d %s" % (code, b"".join(self.shim.crash_kind(i + 1) for i in range(calls))))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            said, ended, facts = answer.read().partition(b"\0")
        _, status = os.waitpid(child, 0)
        if not ended:
            return -status, said.decode(), b""
        code, _, kinds = facts.partition(b" ")
        return int(code), said.decode(), kinds

    def wrong(self, kind: str, where: str, what: object) -> None:
        """Count a failure, and keep the first."""
        self.counts[kind] += 1
        self.first = self.first or f"{kind}: {where}: {what}"

    def run(self, every: int, again: int, kills: bool) -> dict[str, Any]:
        """Look at what is left at every point."""
        self.every, self.again, self.kills = every, again, kills
        self.renew()
        before = histories(self.scratch, self.verb)
        self.unchanged = {k: (p.stat().st_size, p.stat().st_mtime_ns) for k, p in files_of(self.scratch).items()}
        code, said, kinds = self.forked(0, 0)
        if code != self.verb.code:
            raise SystemExit(f"{self.name}: does not work undisturbed ({code}): {said}")
        after, made = histories(self.scratch, self.verb), set(files_of(self.scratch))
        done = said.strip().splitlines()[-1] if said.strip() else ""
        self.counts["calls"] = len(kinds)
        self.expected = (before, after, made, done)
        if self.kills:
            self.kill(kinds)
        else:
            self.pause()
        return self.counts

    def kill(self, kinds: bytes) -> None:
        """Kill the verb at every point, each time in a new copy of the prepared folder."""
        for n in range(1, len(kinds) + 1, self.every):
            for half in (0, 1) if kinds[n - 1 : n] == b"w" else (0,):
                self.renew()
                code, said, _ = self.forked(n, half)
                self.counts["killed"] += code < 0
                self.look(f"call {n} of {len(kinds)}{', in the middle' if half else ''}", said)

    def pause(self) -> None:
        """Run the verb once; at every point it waits while a copy of its folder is looked at."""
        self.renew()
        running, heard = self.scratch, self.scratch.with_name("said")
        heard.write_text("")
        (hearing, telling), (listening, answering) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.chdir(running)
            os.environ["DRXNET_HOME"] = str(running / "home")
            sys.stdout = sys.stderr = _Kept(os.open(heard, os.O_WRONLY))
            os.close(hearing)
            os.close(answering)
            self.shim.crash_arm(str(running).encode(), 0, 0)
            self.shim.crash_pause(telling, listening)
            code = code_of(self.arguments)
            self.shim.crash_pause(-1, -1)
            self.shim.crash_arm(b"", -1, 0)
            os._exit(code)
        os.close(telling)
        os.close(listening)
        self.scratch = running.with_name("copy")
        call = 0
        while what := os.read(hearing, 1):
            call += what == b"."
            if call % self.every == 0:
                shutil.rmtree(self.scratch, ignore_errors=True)
                shutil.copytree(running, self.scratch)  # with the times of change
                self.look(f"call {call}{', in the middle' if what == b'w' else ''}", heard.read_text())
            os.write(answering, b"!")
        self.scratch = running
        os.close(hearing)
        os.close(answering)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != self.verb.code:
            self.wrong("lost", "with pauses", f"ended with {os.waitstatus_to_exitcode(status)}")

    def look(self, at: str, said: str) -> None:
        """Look at what a kill leaves; at some points give the verb again, and look again."""
        before, after, made, done = self.expected
        where = f"{self.name}, {at}"
        self.counts["points"] += 1
        again = self.counts["points"] % self.again == 0
        try:
            now = histories(self.scratch, self.verb, thoroughly=again)
            for name in self.verb.changes:
                if not (now[name] == before[name] or is_between(before[name], now[name], after[name])):
                    self.wrong("lost", where, f"{name} has {now[name]}")
        except Exception as error:
            self.wrong("lost", where, repr(error))
            now = {}
        if done and done in said:
            self.counts["reported"] += 1
            missing = made - set(files_of(self.scratch))
            if now != after or missing:
                self.wrong("lost", where, f"it was reported, and is {now}, without {missing}")
        if broken := torn(self.scratch, self.unchanged):
            self.wrong("torn", where, broken)
        if not again:
            return
        self.counts["given again"] += 1
        code, said, _ = self.forked(0, 0)
        if code != self.verb.code and code not in DONE:
            self.wrong("not resumed", where, f"{code}: {said[-300:]}")
        elif broken := torn(self.scratch, self.unchanged):
            self.wrong("torn", where, f"{broken} after the second time")


def is_between(before: list[Any] | None, now: list[Any] | None, after: list[Any] | None) -> bool:
    """Whether a history is that of before with some, or all, of the events that follow."""
    start, end = before or [], after or []
    return (
        now is None
        if before is None and now is None
        else (now or [])[: len(start)] == start and now == end[: len(now or [])]
    )


def start(given: list[str]) -> int:
    """Attack every verb; 1 where anything was lost or torn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shim")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="Only every n-th call.")
    parser.add_argument("--kill", action="store_true", help="Kill at every point, instead of looking at a copy.")
    parser.add_argument("--again", type=int, default=4, help="Give the verb again, and verify all, every n-th point.")
    parser.add_argument("--state", type=Path, help="Counts of finished verbs; those are not run again.")
    parser.add_argument("--seconds", type=float, default=1e9, help="Begin no other verb after so long.")
    parser.add_argument("verbs", nargs="*", metavar="VERB")
    asked = parser.parse_intermixed_args(given)
    begun = time.monotonic()
    state: dict[str, Any] = json.loads(asked.state.read_text()) if asked.state and asked.state.exists() else {}
    clean = asked.folder.absolute() / "clean"
    os.environ["DRXNET_HOME"] = str(clean / "home")
    shutil.rmtree(asked.folder, ignore_errors=True)
    prepare(clean)
    shim = ctypes.CDLL(asked.shim)
    shim.crash_kind.restype = ctypes.c_char
    for name in asked.verbs or VERBS:
        if name in state or time.monotonic() - begun > asked.seconds:
            continue
        attack, since = Attack(shim, clean, asked.folder.absolute() / "scratch", name), time.monotonic()
        attack.warm_up()
        gc.collect()
        gc.freeze()  # so that forks share what is there
        state[name] = {
            **attack.run(asked.every, asked.again, asked.kill),
            "seconds": round(time.monotonic() - since, 1),
        }
        print(json.dumps(state[name]), flush=True)
        if attack.first:
            print(f"  {attack.first}", flush=True)
        if asked.state:
            asked.state.write_text(json.dumps(state))
    keys = ("points", "killed", "reported", "given again", "lost", "torn", "not resumed")
    total = {key: sum(counts[key] for counts in state.values()) for key in keys}
    print(json.dumps({"verbs": len(state), **total}), flush=True)
    return 1 if total["lost"] or total["torn"] or total["not resumed"] else 0


if __name__ == "__main__":
    raise SystemExit(start(sys.argv[1:]))
