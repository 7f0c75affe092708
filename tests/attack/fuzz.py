"""Feed mutated inputs to everything that reads, and see that it answers with a value or a sentence, in time.

Mutations know the format: numbers become extreme, signs, separators and encodings change, lines and blocks are
repeated, taken away and torn, keys are misspelt, types exchanged. Each input is made from a seed and its number alone::

    python tests/attack/fuzz.py FOLDER [--scale 1.0] [--seed 0]
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from ledgers import FIRST, write_discharge, write_stub_model
from synthetic_cycler import EXPORTS, cell_test, write_xlsx

from campaigns.intake.validation import check_file
from campaigns.spec import read_spec
from drxnet.checkpoint import check_model
from drxnet.composition import Composition
from drxnet.errors import DRXError
from drxnet.yaml_files import read_yaml
from screening.space import exact, load_space

ALLOWED = (DRXError, ValueError)
"""What the command line turns into a sentence."""

SECONDS = 5.0
NUMBERS = "0 -1 1e308 1e-308 -0.0 nan inf 99999999999999999999 1,5 1.5.2 0x10 1e999999999 ٣ ½ +1 1_0".split()
TOKENS = [
    "",
    "\0",
    "\n",
    "\r\n",
    "\t",
    ",",
    ";",
    '"',
    "'",
    "{",
    "[",
    "}",
    "]",
    ":",
    "&a",
    "*a",
    "- ",
    "#",
    "%",
    "\\",
    "é",
] + ["\u202e", "\ud7ff", "😀", "x" * 3000, "=1+1", "../..", "null", "true", "!!python/name:os.system"]
FORMULAS = [
    FIRST,
    "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2",
    "Li2MnO3",
    "Li1.3333Mn0.6667O2",
    "(Li0.6Mn0.4)2O2",
    "Li12Mn4Ti4O20",
]
YAML = {
    "campaign": "space: tiny\nconstraints:\n  - {quantity: capacity, at_least: 220}\nbatch_size: 4\nseed: 3\n"
    "lab: {banned: [Co], max_precursors: 6}\nconditions: {low_current_ma_g: 20, high_current_ma_g: 1000}\n",
    "space": "step: 1/20\nlithium: [1.1, 1.3]\nfluorine: [0, 0.2]\nspecies: [Mn2+, Mn3+, Ti4+, Nb5+]\n"
    "k_elements: [2, 3]\n",
}  # fmt: skip
TABLES = [
    f"composition,current_ma_g,v_low,v_high,capacity_mah_g,cycle\n{FIRST},20,1.5,4.8,240.1,1\n{FIRST},1000,1.5,4.8,170,2\n",
    "Test_Time(s),Step_Index,Cycle_Index,Current(A),Voltage(V)\n"
    + "".join(f"{60 * i},2,1,-0.0001,{4.8 - i / 30:.4f}\n" for i in range(100)),
]


def mutate(text: str, rng: random.Random) -> str:
    """Change a text in a few places, as accidents and enemies would."""
    for _ in range(rng.randint(1, 4)):
        kind = rng.randrange(9)
        at = rng.randrange(len(text) + 1)
        if kind == 0:
            text = text[:at] + rng.choice(TOKENS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randint(1, 8) :]
        elif kind == 2:
            numbers = [i for i, c in enumerate(text) if c.isdigit()]
            if numbers:
                i = rng.choice(numbers)
                end = i
                while end < len(text) and (text[end].isdigit() or text[end] == "."):
                    end += 1
                text = text[:i] + rng.choice(NUMBERS) + text[end:]
        elif kind == 3:
            lines = text.split("\n")
            i = rng.randrange(len(lines))
            lines[i:i] = [rng.choice(lines)] * rng.randint(1, 3)
            text = "\n".join(lines)
        elif kind == 4:
            text = text[:at]
        elif kind == 5 and text:
            i = rng.randrange(len(text))
            text = (
                text[:i]
                + chr(rng.choice([rng.randrange(128), rng.randrange(0x250), rng.randrange(0xD7FF)]))
                + text[i + 1 :]
            )
        elif kind == 6:
            lines = text.split("\n")
            rng.shuffle(lines)
            text = "\n".join(lines)
        elif kind == 7:
            text = text.replace(
                rng.choice([",", ".", "\n", " ", ":"]), rng.choice([";", ",", "\t", "", "\r\n"]), rng.randint(1, 50)
            )
        else:
            text = text[:at] + text[at : at + 20] * rng.randint(2, 5) + text[at + 20 :]
    return text


def as_bytes(text: str, rng: random.Random) -> bytes:
    """The text in one of the encodings that files come in, sometimes compressed, sometimes damaged."""
    content = text.encode(rng.choice(["utf-8", "utf-8", "utf-8", "utf-16", "latin-1", "utf-8-sig"]), "replace")
    if rng.random() < 0.05:
        content = gzip.compress(content)
    if content and rng.random() < 0.2:
        i = rng.randrange(len(content))
        content = content[:i] + rng.randbytes(rng.randint(1, 3)) + content[i + 1 :]
    return content


class Fuzz:
    """Targets, and what came of their inputs."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        folder.mkdir(parents=True, exist_ok=True)
        self.files = [write_discharge(folder / "td.json", FIRST, 240.0).read_bytes()]
        table = cell_test(cycles=1)
        self.files += [export(table).encode("latin-1", "replace") for _, export in EXPORTS.values()]
        self.files.append(write_xlsx(folder / "sheet.xlsx", table).read_bytes())
        write_stub_model(folder / "stub")
        self.card = (folder / "stub" / "model.json").read_text()

    def formula(self, rng: random.Random) -> None:
        Composition.parse(mutate(rng.choice(FORMULAS), rng))

    def number(self, rng: random.Random) -> None:
        exact(mutate(rng.choice(["0.05", "1/20", "2"]), rng))

    def yaml(self, rng: random.Random) -> None:
        path = self.folder / "a.yaml"
        kind = rng.choice(["campaign", "space", "any"])
        path.write_bytes(as_bytes(mutate(YAML.get(kind, YAML["space"]), rng), rng))
        {"campaign": read_spec, "space": load_space, "any": read_yaml}[kind](path)

    def table(self, rng: random.Random) -> None:
        path = self.folder / rng.choice(["a.csv", "a.txt", "a"])
        path.write_bytes(as_bytes(mutate(rng.choice(TABLES), rng), rng))
        check_file(path)

    def cycler(self, rng: random.Random) -> None:
        content = bytearray(rng.choice(self.files))
        for _ in range(rng.randint(1, 6)):
            i = rng.randrange(len(content)) if content else 0
            kind = rng.randrange(4)
            if kind == 0:
                content[i : i + rng.randint(1, 4)] = rng.randbytes(rng.randint(0, 4))
            elif kind == 1:
                del content[i : i + rng.randint(1, 2000)]
            elif kind == 2:
                content[i:i] = content[i : i + 300]
            else:
                content[i:i] = rng.choice(TOKENS).encode("utf-8", "replace")
        path = self.folder / "b"
        path.write_bytes(bytes(content))
        check_file(path)

    def card_of_a_model(self, rng: random.Random) -> None:
        (self.folder / "stub" / "model.json").write_bytes(as_bytes(mutate(self.card, rng), rng))
        check_model(self.folder / "stub")

    def json(self, rng: random.Random) -> None:
        path = self.folder / "a.json"
        path.write_bytes(as_bytes(mutate(self.files[0].decode()[:4000], rng), rng))
        check_file(path)

    def run(self, name: str, target: Callable[[random.Random], Any], count: int) -> Counter[str]:
        """Feed so many inputs to one target."""
        counts: Counter[str] = Counter()
        slowest = 0.0
        for number in range(count):
            rng = random.Random(f"{self.seed} {name} {number}")
            begun = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, 4 * SECONDS)
            try:
                target(rng)
                outcome = "read"
            except ALLOWED:
                outcome = "refused"
            except BaseException as error:
                outcome = "raw"
                print(f"  {self.seed} {name} {number}: {error!r}"[:300], flush=True)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            took = time.perf_counter() - begun
            slowest = max(slowest, took)
            counts["slow"] += took > SECONDS
            counts[outcome] += 1
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        facts = {k: counts[k] for k in ("read", "refused", "raw", "slow")}
        print(
            json.dumps({"target": name, "inputs": count, **facts, "slowest_s": round(slowest, 2), "peak_mib": memory}),
            flush=True,
        )
        return counts


SHARES = {"formula": 6000, "number": 2500, "yaml": 700, "table": 300, "cycler": 60, "card_of_a_model": 340, "json": 100}
"""Inputs of each target in ten thousand."""


def too_slow(*_: Any) -> None:
    raise TimeoutError("took four times as long as it may")


def start(given: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="Ten thousand inputs each.")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(given)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, too_slow)
    fuzz = Fuzz(asked.folder, asked.seed)
    total: Counter[str] = Counter()
    for name, share in SHARES.items():
        total += fuzz.run(name, getattr(fuzz, name), max(1, round(share * asked.scale)))
    print(
        json.dumps(
            {"inputs": total["read"] + total["refused"] + total["raw"], "raw": total["raw"], "slow": total["slow"]}
        )
    )
    return 1 if total["raw"] or total["slow"] else 0


if __name__ == "__main__":
    raise SystemExit(start(sys.argv[1:]))
