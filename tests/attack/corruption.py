"""Damage a ledger at random, and see whether it says so.

Bytes flipped, runs overwritten, pages zeroed, swapped and repeated, the file cut, and cells changed by SQL: each copy
is read as every command reads it. What comes back must be what was written, or an error of the ledger::

    python tests/attack/corruption.py FOLDER [--count 1500] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from filled_ledgers import fill
from ledgers import write_campaign, write_stub_model

from campaigns.campaign import Campaign
from campaigns.ledger.database import sqlite_url
from campaigns.ledger.ledger import Ledger
from drxnet.errors import LedgerError

PAGE = 4096


def content_of(path: Path) -> Any:
    """Everything that a command may read from a ledger, as text."""
    with closing(Ledger(sqlite_url(path), "demo", read_only=True)) as ledger:
        state = ledger.read()
        profiles = [
            None if m.profile is None else (m.profile.voltage_v.tobytes(), m.profile.capacity_mah_g.tobytes())
            for m in ledger.profiles(state.measurements)
        ]
        predicted = {
            name: [(p.conditions, p.voltage_v.tobytes(), p.capacity_mah_g_mean.tobytes()) for p in found]
            for name, found in ledger.predicted_profiles(p.proposal_id for p in state.proposals).items()
        }
        files = ledger.model_files(state.first_model.model_id)
    if files is None or files.sha256[:12] != state.first_model.model_id:
        raise LedgerError("no weights, or others: the store of models says so")
    return repr((state, state.events, profiles, predicted, files.sha256))


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file in one way, and say which."""
    content = bytearray(path.read_bytes())
    pages = len(content) // PAGE
    kind = rng.choice(["bit", "byte", "run", "zero page", "swap pages", "repeat page", "cut", "cell", "row", "text"])
    if kind == "bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
    elif kind == "run":
        start = rng.randrange(len(content))
        length = min(rng.randint(8, 512), len(content) - start)
        content[start : start + length] = rng.randbytes(length)
    elif kind == "zero page":
        page = rng.randrange(pages) * PAGE
        content[page : page + PAGE] = bytes(PAGE)
    elif kind in ("swap pages", "repeat page"):
        a, b = (rng.randrange(pages) * PAGE for _ in range(2))
        first, second = content[a : a + PAGE], content[b : b + PAGE]
        content[b : b + PAGE] = first
        if kind == "swap pages":
            content[a : a + PAGE] = second
    elif kind == "cut":
        del content[rng.randrange(len(content)) :]
    elif kind == "text":
        digits = [i for i in range(PAGE, len(content)) if 48 <= content[i] <= 57]
        content[rng.choice(digits)] = 48 + rng.randrange(10)
    else:
        return by_sql(path, rng, kind)
    path.write_bytes(content)
    return kind


def by_sql(path: Path, rng: random.Random, kind: str) -> str:
    """Change one cell of a row, or take a row away, as somebody would with a tool for databases."""
    with closing(sqlite3.connect(path)) as file, file:
        for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {name}")
        tables = [n for (n,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'") if n != "meta"]
        filled = [t for t in tables if file.execute(f"SELECT count(*) FROM {t}").fetchone()[0]]
        table = rng.choice(filled)
        (row,) = file.execute(f"SELECT rowid FROM {table} ORDER BY random() LIMIT 1").fetchone()
        if kind == "row":
            file.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
            return f"row of {table}"
        column = rng.choice([c[1] for c in file.execute(f"PRAGMA table_info({table})")])
        (value,) = file.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (row,)).fetchone()
        try:
            file.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed(value, rng), row))
        except sqlite3.IntegrityError:
            return "refused by SQLite"
        return f"cell of {table}.{column}"


def changed(value: Any, rng: random.Random) -> Any:
    """Another value like one."""
    if value is None:
        return rng.choice([0, 1, "x", b"x"])
    if isinstance(value, bytes):
        at = rng.randrange(len(value)) if value else 0
        return value[:at] + bytes([(value[at] + 1) % 256]) + value[at + 1 :] if value else b"x"
    if isinstance(value, str):
        return rng.choice([value + "0", value[:-1], value.replace("1", "2", 1) + " ", "", None, 7, b"\xff"])
    return rng.choice([value + 1, -value, 999999, None, "x", value * 1.0000001])


def attack(folder: Path, count: int, seed: int) -> Counter[str]:
    """Damage a ledger so many times, and count what came of it."""
    with Campaign.start(folder / "demo", write_campaign(folder / "t.yaml", write_stub_model(folder / "stub"))) as demo:
        fill(demo.ledger, rounds=2, batch=3)
    with closing(sqlite3.connect(folder / "demo" / "ledger.sqlite")) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    clean, victim = folder / "demo" / "ledger.sqlite", folder / "victim" / "ledger.sqlite"
    victim.parent.mkdir()
    expected = content_of(clean)
    counts: Counter[str] = Counter()
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        for left in victim.parent.iterdir():
            left.unlink()
        shutil.copy(clean, victim)
        kind = damage(victim, rng)
        try:
            outcome = "harmless" if content_of(victim) == expected else "silent"
        except LedgerError:
            outcome = "noticed"
        except BaseException as error:
            outcome = "raw"
            print(f"  {seed} {number} {kind}: {error!r}"[:300], flush=True)
        if outcome == "silent":
            print(f"  {seed} {number} {kind}: other content, and nothing said", flush=True)
        counts[outcome] += 1
    return counts


def start(given: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(given)
    asked.folder.mkdir(parents=True, exist_ok=True)
    counts = attack(asked.folder, asked.count, asked.seed)
    print(json.dumps({"corruptions": asked.count, **{k: counts[k] for k in ("noticed", "harmless", "silent", "raw")}}))
    return 1 if counts["silent"] or counts["raw"] else 0


if __name__ == "__main__":
    raise SystemExit(start(sys.argv[1:]))
