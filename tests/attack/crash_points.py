"""Kill every verb at every call that changes a file, and look at what is left.

Run under the shim (``LD_PRELOAD``): each point is a fork of this process, so that what a verb imports is there already.
Prints one line of counts for each verb and ends with 1 where anything was lost or torn::

    LD_PRELOAD=shim.so python tests/attack/crash_points.py SHIM FOLDER [--every N] [VERB ...]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import json
import os
import shutil
import sqlite3
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from filled_ledgers import fill
from ledgers import FIRST, SECOND, write_campaign, write_discharge
from small_model import FINE_TUNING, write_small_model

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.verification import verify_campaign
from drxnet.checkpoint import save
from drxnet.ensemble import Ensemble
from drxnet.errors import NotBegun

C = ["--campaign", "demo"]
VERBS: dict[str, list[str]] = {
    "init": ["init", "new", "--from", "t.yaml"],
    "start on first use": ["ingest", "--campaign", "t.yaml", "one.json", "--no-finetune"],
    "ingest": ["ingest", *C, "one.json", "two.json", "bad.json", "--no-finetune"],
    "mark": ["mark", *C, "R02-01", "R02-02", "failed", "--reason", "crucible broke"],
    "retract": ["retract", *C, "M0001", "--reason", "short circuit"],
    "supersede": ["supersede", *C, "M0001", "--capacity", "200", "--reason", "re-weighed"],
    "verify --accept": ["verify", "--campaign", "tampered", "--accept", "typed in"],
    "export csv": ["export", *C, "out.csv"],
    "export json": ["export", *C, "out.json"],
    "report": ["report", *C],
    "backup": ["backup", *C, "out.zip"],
    "restore": ["restore", "demo.zip", "back"],
    "init from json": ["init", "twin", "--from", "demo.json"],
    "models import": ["models", "import", "stub", "--name", "mine"],
    "models import --force": ["models", "import", "other", "--name", "there", "--force"],
    "propose": ["propose", *C, "-n", "2", "--candidates", "mine.csv", "--workers", "0"],
    "finetune": ["finetune", *C],
}
CAMPAIGNS = ("demo", "new", "t", "tampered", "back", "twin")


def prepare(home: Path) -> None:
    """A folder in which every verb has something to do."""
    home.mkdir(parents=True)
    os.chdir(home)
    write_small_model(home / "stub")
    other = Ensemble.load("default").subset([2, 3])
    save(home / "other", other.network.state_dict(), other.card)
    (home / "home" / "models").mkdir(parents=True)
    shutil.copytree(home / "stub", home / "home" / "models" / "there")
    write_campaign(home / "t.yaml", home / "stub", fine_tuning=FINE_TUNING, shortlist=4, first_strategy="greedy")
    with Campaign.start(home / "demo", home / "t.yaml") as campaign:
        fill(campaign.ledger, rounds=2, batch=3)
    (home / "mine.csv").write_text(f"composition\n{FIRST}\n{SECOND}\nLi1.25Mn0.75O2\nLi1.1Mn0.9O1.9F0.1\n")
    write_discharge(home / "one.json", FIRST, 240.0)
    write_discharge(home / "two.json", SECOND, 230.0)
    write_discharge(home / "bad.json", FIRST, 900.0)
    run(["backup", *C, "demo.zip"])
    run(["export", *C, "demo.json"])
    run(["restore", "demo.zip", "tampered"])
    with contextlib.closing(sqlite3.connect("tampered/ledger.sqlite")) as file, file:
        file.execute("UPDATE measurements SET capacity_mah_g = 199 WHERE number = 1")


def run(arguments: list[str]) -> tuple[int, str]:
    """Exit code of a command, and what it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            ended = main(arguments, standalone_mode=False)  # click gives back the exit code, where there is one
            code = ended if isinstance(ended, int) else 0
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception as error:
            code = getattr(error, "exit_code", 1)
            said.write(repr(error))
    return code, said.getvalue()


def events_of(home: Path, name: str) -> list[Any] | None:
    """Events of a campaign without their times; None where there is none."""
    place = home / name
    if not (place / "campaign.yaml").is_file():
        return None
    if name == "tampered":  # which nobody reads until it is accepted
        with contextlib.closing(sqlite3.connect(place / "ledger.sqlite")) as file:
            return [list(row) for row in file.execute("SELECT number, verb, summary FROM events ORDER BY number")]
    try:
        with Campaign.open(place, read_only=True) as campaign:
            return [(e.number, e.verb, e.summary) for e in campaign.state().events]
    except NotBegun:
        return None


def torn(home: Path) -> list[str]:
    """Files that are not whole."""
    found = []
    for path in home.rglob("*"):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(home).parts):
            continue
        content = path.read_bytes()
        whole: dict[str, Callable[[], bool]] = {
            ".png": lambda c=content: c.startswith(b"\x89PNG") and c.endswith(b"IEND\xaeB`\x82"),
            ".csv": lambda c=content: c.endswith(b"\n") or not c,
            ".html": lambda c=content: c.rstrip().endswith(b"</html>"),
            ".json": lambda c=content: json.loads(c) is not None,
            ".zip": lambda p=path: zipfile.ZipFile(p).testzip() is None,
            ".yaml": lambda c=content: c.endswith(b"\n"),
            ".txt": lambda c=content: c.endswith(b"\n"),
            ".last": lambda c=content: c.strip().isdigit(),
        }
        try:
            if not whole.get(path.suffix, lambda: True)():
                found.append(str(path.relative_to(home)))
        except (ValueError, zipfile.BadZipFile):
            found.append(str(path.relative_to(home)))
    for model in home.rglob("model.json"):
        if not (model.parent / "weights.safetensors").is_file() and ".new-" not in str(model):
            found.append(str(model.parent.relative_to(home)))
    return found


def attack(shim: Any, clean: Path, scratch: Path, verb: str, every: int) -> dict[str, Any]:
    """Kill one verb at every point, before the call and in the middle of it."""
    arguments = VERBS[verb]

    def attempt(n: int, half: int) -> tuple[int, int, str]:
        """Run the verb in a fork that dies at call n; its exit status, the calls it made and what it said."""
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(clean, scratch)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.chdir(scratch)
            os.environ["DRXNET_HOME"] = str(scratch / "home")
            shim.crash_arm(str(scratch).encode(), n, half)
            code, said = run(arguments)
            calls = shim.crash_count()
            shim.crash_arm(b"", -1, 0)
            os.write(writing, json.dumps([code, calls, said[-2000:]]).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            text = answer.read()
        _, status = os.waitpid(child, 0)
        code, calls, said = json.loads(text) if text else (-status, -1, "")
        return code, calls, said

    before = {name: events_of(clean, name) for name in CAMPAIGNS}
    code, calls, said = attempt(0, 0)
    usual = 3 if "bad.json" in arguments else 0
    if code != usual:
        raise SystemExit(f"{verb}: does not work undisturbed ({code}): {said}")
    after = {name: events_of(scratch, name) for name in CAMPAIGNS}
    counts = {"verb": verb, "points": 0, "killed": 0, "lost": 0, "torn": 0, "not resumed": 0, "first": ""}
    for n in range(1, calls + 1, every):
        for half in (0, 1):
            counts["points"] += 1
            code, _, said = attempt(n, half)
            counts["killed"] += code < 0
            where = f"{verb}, call {n} of {calls}{', in the middle' if half else ''}"
            try:
                now = {name: events_of(scratch, name) for name in CAMPAIGNS}
                for name in CAMPAIGNS:
                    if not (now[name] == before[name] or is_between(before[name], now[name], after[name])):
                        counts["lost"] += 1
                        counts["first"] = counts["first"] or f"{where}: {name} has {now[name]}"
                    if now[name] is not None and name != "tampered":
                        wrong = [f for f in verify_campaign(scratch / name) if not f.sound and "folder" not in f.what]
                        if wrong:
                            counts["lost"] += 1
                            counts["first"] = counts["first"] or f"{where}: {wrong[0]}"
            except Exception as error:
                if "is not as it was written" not in str(error) or verb != "verify --accept":
                    counts["lost"] += 1
                    counts["first"] = counts["first"] or f"{where}: {error!r}"
            if broken := torn(scratch):
                counts["torn"] += 1
                counts["first"] = counts["first"] or f"{where}: torn {broken}"
            os.chdir(scratch)
            os.environ["DRXNET_HOME"] = str(scratch / "home")
            again, said = run(arguments)
            if again not in (usual, 2, 3):  # 2: it was done, and is there already
                counts["not resumed"] += 1
                counts["first"] = counts["first"] or f"{where}: again {again}: {said[-300:]}"
            elif broken := torn(scratch):
                counts["torn"] += 1
                counts["first"] = counts["first"] or f"{where}: torn after the second time {broken}"
            os.chdir(clean)
    return counts


def is_between(before: list[Any] | None, now: list[Any] | None, after: list[Any] | None) -> bool:
    """Whether a history is that of before with some, or all, of the events that follow."""
    start, end = before or [], after or []
    return now is None or (now[: len(start)] == start and now == end[: len(now)])


def arguments_of(given: list[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shim")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="Only every n-th call.")
    parser.add_argument("verbs", nargs="*", metavar="VERB")
    return parser.parse_args(given)


def start(given: list[str]) -> int:
    """Attack every verb; 1 where anything was lost or torn."""
    asked = arguments_of(given)
    os.environ["DRXNET_HOME"] = str(asked.folder / "clean" / "home")
    prepare(asked.folder / "clean")
    shim = ctypes.CDLL(asked.shim)
    bad = 0
    for verb in asked.verbs or VERBS:
        begun = time.monotonic()
        counts = attack(shim, asked.folder / "clean", asked.folder / "scratch", verb, asked.every)
        bad += counts["lost"] + counts["torn"] + counts["not resumed"]
        first = counts.pop("first")
        print(json.dumps({**counts, "seconds": round(time.monotonic() - begun, 1)}), flush=True)
        if first:
            print(f"  {first}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(start(sys.argv[1:]))
