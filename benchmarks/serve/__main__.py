"""Time of the page and of its requests on a served campaign of 10,000 proposals and 50,000 profiles.

    python -m benchmarks.serve [--rounds 1250] [--profiles 50000] [--folder DIR] [--requests 1000]

`--folder` keeps the ledger, which takes minutes to fill. Reported are the seconds from starting `drx-screen serve` to
the first page, the percentiles of every kind of request that the page makes (one client, then four at once; one in
a hundred requests writes an entry in the log, after which the ledger is read anew), and, where Chromium is installed,
the first paint of the page and when its rows are there. Beside the time until the answer stands the time that the
server was at work for it, which says more where others use the machine (of four at once it is that of all). The
values in the ledger are random; what is measured does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import httpx2
import numpy as np
from sqlalchemy import func, select

from benchmarks.ledger.__main__ import BATCH, fill
from campaigns.campaign import Campaign
from campaigns.ledger import reading, tables
from campaigns.ledger.records import Cell, State

NAME = "serve-benchmark"
LIMIT_S = {"start": 2.0, "first paint": 1.0, "95 % of requests": 0.1}
"""What the project promises on two cores."""


class Counted:
    """As many rows as there are, none of which is looked at."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[Any]:
        return iter(())


@contextmanager
def unread(campaign: Campaign) -> Iterator[None]:
    """Let writing read only what the filling needs to know: a ledger of this size is read 2,500 times else."""
    model, cells = campaign.state().current_model, list[Cell]()

    def before(connection: Any, *_: Any) -> SimpleNamespace:
        def count(table: Any) -> int:
            return int(connection.execute(select(func.count()).select_from(table)).scalar() or 0)

        number = count(tables.rounds)
        cells.extend(Cell(i + 1, "", str(i)) for i in range(len(cells), count(tables.cells)))
        rows = connection.execute(select(tables.proposals.c.proposal_id).where(tables.proposals.c.round == number))
        return SimpleNamespace(
            proposals=[SimpleNamespace(proposal_id=n, state=State.PROPOSED, reason="", origin="") for (n,) in rows],
            cells=cells,
            standing=(),
            doubtful=(),
            measurements=Counted(count(tables.measurements)),
            models=(model,),
            round=number,
        )

    with mock.patch.object(reading, "read", lambda *read: SimpleNamespace(state=before(*read))):
        yield


def prepared(folder: Path, rounds: int, profiles: int) -> Path:
    """The campaign in a folder, filled where it is not there yet."""
    if not (folder / NAME / "campaign.yaml").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        template = folder / "template.yaml"
        template.write_text("space: tiny\n")
        with Campaign.start(folder / NAME, template) as campaign:
            with unread(campaign):
                fill(campaign, rounds, profiles)
    with Campaign(folder / NAME, read_only=True) as campaign:
        state = campaign.state()
        print(f"{len(state.rounds)} rounds, {len(state.proposals):,} proposals, {len(state.valid):,} profiles\n")
    return folder / NAME


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """Address and process of a `drx-screen serve`; tells the seconds until its first page was there."""
    begun = time.perf_counter()
    program = [sys.executable, "-m", "campaigns.cli", "serve", "-C", str(folder), "--port", "0"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.match(r"http://\S+", process.stderr.readline())
            assert found, process.stderr.read()
            httpx2.get(found[0], timeout=60).raise_for_status()
            seconds = time.perf_counter() - begun
            cpu = busy(process.pid)
            print(
                f"start to first page       {seconds:6.2f} s, of it {cpu:.2f} s at work (promised {LIMIT_S['start']:g})"
            )
            yield found[0].rstrip("/"), process.pid
            process.send_signal(signal.SIGINT)
            process.wait(30)
        finally:
            process.kill()


def busy(process: int) -> float:
    """Seconds that the threads of a process were at work so far, whoever else uses the machine."""
    tasks = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def paths(draw: random.Random, proposals: Sequence[str]) -> Mapping[str, str]:
    """One request of each kind that the page makes."""
    base = f"/api/campaigns/{NAME}"
    return {
        "overview": "/api/campaigns",
        "status": base,
        "board": f"{base}/proposals?state=proposed&state=accepted&limit=200",
        "a round": f"{base}/proposals?round={draw.randrange(1, len(proposals) // BATCH)}&limit=200",
        "proposals": f"{base}/proposals?offset={draw.randrange(0, max(1, len(proposals) - 200))}&limit=200",
        "proposal": f"{base}/proposals/{draw.choice(proposals)}",
        "measurements": f"{base}/measurements?offset={draw.randrange(0, 40_000)}&limit=200",
        "doubtful": f"{base}/measurements?status=doubtful",
        "refused": f"{base}/refused",
        "ranking": f"{base}/rank?by=rate-retention&top=50",
        "models": f"{base}/models",
        "log": f"{base}/log?limit=100",
        "jobs": f"/api/jobs?campaign={NAME}",
    }


Taken = dict[str, list[tuple[float, float]]]
"""Seconds of each request by kind: until the answer, and that the server was at work meanwhile."""


def timed(address: str, process: int, requests: int, clients: int, proposals: Sequence[str], writes: float) -> Taken:
    """Ask from some clients at once; a share of the requests writes an entry in the log."""
    took: Taken = {}

    def ask(seed: int) -> None:
        draw = random.Random(seed)
        with httpx2.Client(base_url=address, timeout=60) as http:
            for _ in range(requests // clients):
                kind, path = draw.choice(list(paths(draw, proposals).items()))
                before = busy(process)
                if draw.random() < writes:
                    name = draw.choice(proposals)
                    mark = {"phases": f"rocksalt {draw.uniform(50, 100):.3f}"}
                    kind, begun = "a mark", time.perf_counter()
                    http.post(f"/api/campaigns/{NAME}/proposals/{name}/mark", json=mark).raise_for_status()
                else:
                    begun = time.perf_counter()
                    http.get(path).raise_for_status()
                took.setdefault(kind, []).append((time.perf_counter() - begun, busy(process) - before))

    threads = [threading.Thread(target=ask, args=(100 * clients + n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def tell(title: str, took: Taken) -> None:
    """Print a table of milliseconds."""
    print(
        f"{title:<16}{'n':>6}{'median ms':>11}{'95 % ms':>9}{'longest ms':>12}"
        f"{'median at work':>16}{'95 % at work':>14}"
    )
    every = [s for kind, seconds in took.items() if kind != "a mark" for s in seconds]
    for kind, seconds in (*sorted(took.items()), ("all but marks", every)):
        (median, most, longest), (work, hard, _) = np.quantile(np.array(seconds), [0.5, 0.95, 1.0], axis=0).T * 1e3
        print(f"{kind:<16}{len(seconds):>6}{median:>11.1f}{most:>9.1f}{longest:>12.1f}{work:>16.1f}{hard:>14.1f}")
    print(flush=True)


PAINT = """
JSON.stringify({
    paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null,
    ready: document.body?.dataset.ready ?? null, now: performance.now(),
})
"""


def painted(address: str) -> tuple[float, float]:
    """Seconds to the first paint and to the rows of the first page, in a browser that never saw it."""
    import json

    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from browser import Browser

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = Browser(Path(home))
        try:
            browser.call("Page.navigate", url=f"{address}/")
            browser.until("document.body?.dataset.ready")
            rows = json.loads(browser.run(PAINT))["now"]
            browser.until("performance.getEntriesByName('first-contentful-paint').length")
            return json.loads(browser.run(PAINT))["paint"] / 1e3, rows / 1e3
        finally:
            browser.close()


def main() -> None:
    """Fill, serve and time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1250, help=f"of {BATCH} proposals")
    parser.add_argument("--profiles", type=int, default=50_000)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--writes", type=float, default=0.01, help="share of requests that write")
    parser.add_argument("--folder", type=Path, help="keep the ledger here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = prepared(options.folder or Path(scratch), options.rounds, options.profiles)
        with Campaign(folder, read_only=True) as campaign:
            proposals = [p.proposal_id for p in campaign.state().proposals]
        with serving(folder) as (address, process):
            for again in range(3 if shutil.which("chromium") else 0):
                paint, rows = painted(address)
                said = f"first paint, browser {again + 1}    {paint:6.2f} s (promised {LIMIT_S['first paint']:g})"
                print(f"{said}, its rows after {rows:.2f} s")
            print(f"load of this machine      {os.getloadavg()[0]:6.2f}, {os.cpu_count()} cores\n", flush=True)
            for clients in (1, 4):
                took = timed(address, process, options.requests, clients, proposals, options.writes)
                tell(f"{clients} at once", took)


if __name__ == "__main__":
    main()
