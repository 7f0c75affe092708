"""Feed mutated inputs to everything that reads, and see that it answers with a value or a sentence, in time.

Mutations know the format: numbers become extreme, signs, separators and encodings change, lines and blocks are
repeated, taken away and torn, keys are misspelt, types exchanged. JSON goes to the server's application in this
process. Each input is made from a seed and its number alone; ``--state FILE`` keeps the counts, so that a run goes on
where it was stopped, after ``--seconds`` for instance::

    python tests/attack/fuzz.py FOLDER [--scale 100] [--seed 0] [--state FILE] [--seconds 240]
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import resource
import shutil
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

from ledgers import FIRST, SECOND, record_round, write_campaign, write_discharge, write_stub_model
from synthetic_cycler import EXPORTS, cell_test, write_xlsx

from campaigns.campaign import Campaign
from campaigns.intake.validation import check_file
from campaigns.server.app import create_app
from campaigns.spec import read_spec
from drxnet.checkpoint import check_model
from drxnet.composition import Composition
from drxnet.errors import DRXError
from drxnet.yaml_files import read_yaml
from screening.space import exact, load_space

ALLOWED = (DRXError, ValueError)
"""What the command line turns into a sentence."""

SECONDS = 5.0
"""Of processor time, which other processes of the machine do not change."""

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


REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", "proposals/R01-02/mark", {"state": "accepted", "reason": "made", "phases": "rocksalt 80, Li3NbO4 20"}),
    (
        "POST",
        "mark",
        {"proposal_ids": ["R01-02"], "state": "failed", "reason": "broke", "single_phase": True},
    ),
    ("POST", "measurements/M0001/retract", {"reason": "short-circuited", "seen": {}}),
    ("POST", "measurements/M0001/confirm", {"reason": "weighed again"}),
    (
        "POST",
        "measurements/M0001/supersede",
        {"reason": "re-weighed", "changes": {"capacity_mah_g": 230.0, "cell": "a"}},
    ),
    (
        "POST",
        "measurements",
        {
            "measurements": [
                {"proposal_id": "R01-01", "current_ma_g": 20.0, "capacity_mah_g": 240.1, "cell": "c1", "cycle": 1},
                {
                    "composition": FIRST,
                    "current_ma_g": 1000.0,
                    "capacity_mah_g": 171.5,
                    "v_low": 1.5,
                    "v_high": 4.8,
                },
            ],
            "confirmed": False,
        },
    ),
    ("GET", "proposals?state=proposed&round=1&offset=0&limit=10", None),
    ("GET", "proposals/R01-01", None),
    ("GET", "measurements?status=valid&offset=0&limit=5", None),
    ("GET", "rank?by=rate-retention&top=5&order=lower", None),
    ("GET", "log?last=5", None),
    ("GET", "export?form=json", None),
    ("GET", "status?as_of=1", None),
]
"""Requests of a served campaign. Jobs are not among them: they run in processes of their own."""

RENEWED = 500
"""Requests after which the campaign begins anew, since those that are right change it."""


class Served:
    """The server's application, called in this process without any network."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.app, self.asked = folder, None, 0
        self.loop = asyncio.new_event_loop()
        stub = write_stub_model(folder / "first")
        with Campaign.start(folder / "demo", write_campaign(folder / "t.yaml", stub)) as campaign:
            record_round(campaign, FIRST, SECOND)
            campaign.add_measurements(
                [{"proposal_id": "R01-01", "current_ma_g": 20.0, "capacity_mah_g": 240.0}], fine_tune=False
            )

    def renew(self) -> None:
        """Serve a copy of the campaign as it was in the beginning."""
        if self.app is not None:
            self.app.app.state.desk.close()
            self.app.app.state.jobs.close()
        shutil.rmtree(self.folder / "served", ignore_errors=True)
        shutil.copytree(self.folder / "demo", self.folder / "served" / "demo")
        self.app = create_app([self.folder / "served" / "demo"])

    def ask(self, method: str, target: str, body: bytes, rng: random.Random) -> int:
        """HTTP status of a request."""
        if self.asked % RENEWED == 0:
            self.renew()
        self.asked += 1
        path, _, query = target.partition("?")
        kind = b"application/json" if rng.random() < 0.97 else rng.choice([b"", b"text/plain", b"multipart/form-data"])
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "root_path": "",
            "path": path, "raw_path": path.encode("utf-8", "replace"), "query_string": query.encode("utf-8", "replace"),
            "headers": [(b"host", b"localhost"), (b"content-type", kind), (b"content-length", b"%d" % len(body))],
            "client": ("127.0.0.1", 1), "server": ("localhost", 80),
        }  # fmt: skip
        statuses: list[int] = []
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return parts.pop() if parts else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        self.loop.run_until_complete(self.app(scope, receive, send))
        return statuses[0]


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
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.files = [write_discharge(folder / "td.json", FIRST, 240.0).read_bytes()]
        table = cell_test(cycles=1)
        self.files += [export(table).encode("latin-1", "replace") for _, export in EXPORTS.values()]
        self.files.append(write_xlsx(folder / "sheet.xlsx", table).read_bytes())
        write_stub_model(folder / "stub")
        self.card = (folder / "stub" / "model.json").read_text()
        self.served = Served(folder)

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

    def http(self, rng: random.Random) -> None:
        method, target, content = rng.choice(REQUESTS)
        body = b"" if content is None else json.dumps(content).encode()
        if content is not None and rng.random() < 0.9:
            body = as_bytes(mutate(body.decode(), rng), rng)
        if content is None or rng.random() < 0.2:
            target = mutate(target, rng)
        status = self.served.ask(method, f"/api/campaigns/demo/{target}", body, rng)
        if status >= 500:
            raise AssertionError(f"answered {status} to {method} {target} {body!r}")
        if status >= 400:
            raise ValueError("refused")

    def json(self, rng: random.Random) -> None:
        path = self.folder / "a.json"
        path.write_bytes(as_bytes(mutate(self.files[0].decode()[:4000], rng), rng))
        check_file(path)

    def run(self, name: str, counts: Counter[str], count: int, until: float) -> None:
        """Feed inputs to one target until there were so many, or the time is over."""
        target: Callable[[random.Random], Any] = getattr(self, name)
        while counts["inputs"] < count and time.monotonic() < until:
            rng = random.Random(f"{self.seed} {name} {counts['inputs']}")
            begun = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, 4 * SECONDS)
            try:
                target(rng)
                outcome = "read"
            except ALLOWED:
                outcome = "refused"
            except BaseException as error:
                outcome = "raw"
                print(f"  {self.seed} {name} {counts['inputs']}: {error!r}"[:600], flush=True)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            took = time.process_time() - begun
            counts["slowest_ms"] = max(counts["slowest_ms"], round(1000 * took))
            counts["slow"] += took > SECONDS
            counts[outcome] += 1
            counts["inputs"] += 1


SHARES = {
    "formula": 6000, "number": 2000, "yaml": 1000, "http": 350, "card_of_a_model": 350, "table": 120, "cycler": 100,
    "json": 80,
}  # fmt: skip
"""Inputs of each target in ten thousand: few of what takes long."""


def too_slow(*_: Any) -> None:
    raise TimeoutError("took four times as long as it may")


def start(given: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="Ten thousand inputs each.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="Counts, to go on from.")
    parser.add_argument("--seconds", type=float, default=1e9, help="Stop after so long.")
    asked = parser.parse_args(given)
    until = time.monotonic() + asked.seconds
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, too_slow)
    state = json.loads(asked.state.read_text()) if asked.state and asked.state.exists() else {}
    fuzz, total, peak = Fuzz(asked.folder, asked.seed), Counter[str](), 0
    for name, share in SHARES.items():
        counts = Counter(state.get(name, {}))
        fuzz.run(name, counts, max(1, round(share * asked.scale)), until)
        peak = max(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        counts["peak_mib"] = max(counts["peak_mib"], peak)
        state[name] = {
            key: counts[key] for key in ("inputs", "read", "refused", "raw", "slow", "slowest_ms", "peak_mib")
        }
        if asked.state:
            asked.state.write_text(json.dumps(state))
        print(json.dumps({"target": name, **state[name]}), flush=True)
        total += Counter({key: state[name][key] for key in ("inputs", "raw", "slow")})
    print(json.dumps({key: total[key] for key in ("inputs", "raw", "slow")}), flush=True)
    return 1 if total["raw"] or total["slow"] else 0


if __name__ == "__main__":
    raise SystemExit(start(sys.argv[1:]))
