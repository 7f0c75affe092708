"""Five browsers and two command lines write at once: nothing is lost, nothing is there twice, stale pages are told.

``DRX_SOAK_S`` says for how many seconds (30 by default).
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from browser import Browser, needs_chromium
from ledgers import FIRST, SECOND, THIRD, record_round, write_discharge
from served import served

from campaigns.campaign import Campaign

SECONDS = float(os.environ.get("DRX_SOAK_S", "30"))
SEED = 20261127
BROWSERS, COMMAND_LINES = 5, 2
MARKED = ("R01-01", "R01-02")
"""Few, so that pages go stale."""

MEASURED = "R01-03"
LISTEN = (
    "{ const told = document.querySelector('#told'); new MutationObserver(() => window.heard?.push(told.innerText))"
    ".observe(told, {childList: true, characterData: true, subtree: true}) }"
)
"""Keeps everything that a page says: a later word may stand in the place of an earlier one."""


@dataclass
class Told:
    """What writers were told."""

    done: list[str] = field(default_factory=list)
    """Reasons of marks that were recorded, by what the writer was told."""

    stale: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    """Anything else that was said; there should be nothing."""


def click(folder: Path, address: str, number: int, until: float, told: Told) -> None:
    """Mark proposals in a browser until it is time."""
    draw = random.Random(SEED + number)
    browser = Browser(folder / f"browser{number}")
    try:
        browser.call("Page.navigate", url=f"{address}/")
        browser.until("document.body?.dataset.ready === '#/'")
        browser.run(f"who.value = 'browser {number}'; who.dispatchEvent(new Event('change'))")
        browser.run(LISTEN)
        count = 0
        while time.monotonic() < until:
            count += 1
            name, reason = draw.choice(MARKED), f"browser {number} time {count}."
            page = f"#/demo/p/{name}"
            browser.run(f"document.body.dataset.ready = ''; location.hash = '#/demo/p/'; location.hash = {page!r}")
            browser.until(f"document.body.dataset.ready === {page!r} && document.querySelector('#mark select')")
            time.sleep(draw.uniform(0, 1.0))  # somebody reads; meanwhile somebody else writes
            state = draw.choice(["failed", "accepted"])
            fill = (
                f"document.querySelector('#told').innerText = ''; window.heard = [];"
                f"document.querySelector('#mark select').value = {state!r};"
                f"document.querySelector('#mark input').value = {reason!r};"
                "document.querySelector('#mark button').click()"
            )
            browser.run(fill)
            browser.until("heard.some(text => text !== '')")
            said = browser.run("heard.find(text => text !== '')")
            if said == f"{name} is {state}.":
                told.done.append(reason)
            elif "has changed since this page showed it" in said:
                told.stale.append(reason)
            else:
                told.other.append(f"{reason}: {said}")
        told.other += [e for e in browser.errors if "412" not in e]
    finally:
        browser.close()


def type_commands(folder: Path, campaign: Path, number: int, until: float, told: Told) -> None:
    """Mark and ingest by commands until it is time."""
    draw = random.Random(SEED + 100 + number)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    count = 0
    while time.monotonic() < until:
        count += 1
        reason = f"command line {number} time {count}."
        file = folder / f"cell_{number}_{count}.json"
        if draw.random() < 0.5:
            apart = 0.02 * (COMMAND_LINES * count + number)  # two within 2 in 100,000 are known to be one discharge
            write_discharge(file, THIRD, 215 + apart % 20)
            arguments = ["ingest", str(file), "--proposal", MEASURED, "--cell", file.stem, "--no-finetune"]
        else:
            arguments = ["mark", draw.choice(MARKED), draw.choice(["failed", "accepted"]), "--reason", reason]
        command = [sys.executable, "-m", "campaigns.cli", *arguments, "-C", str(campaign)]
        run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if run.returncode != 0:
            told.other.append(f"{arguments}: {run.returncode} {run.stderr}")
        else:
            (told.files if arguments[0] == "ingest" else told.done).append(
                file.stem if arguments[0] == "ingest" else reason
            )


@pytest.mark.slow
@needs_chromium
def test_five_browsers_and_two_command_lines_lose_nothing(campaign: Campaign, tmp_path: Path):
    record_round(campaign, FIRST, SECOND, THIRD)
    before, told = campaign.ledger.last_event(), Told()
    with served(campaign.folder) as address:
        until = time.monotonic() + SECONDS
        writers = [
            *(threading.Thread(target=click, args=(tmp_path, address, n, until, told)) for n in range(BROWSERS)),
            *(
                threading.Thread(target=type_commands, args=(tmp_path, campaign.folder, n, until, told))
                for n in range(COMMAND_LINES)
            ),
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    state = campaign.state()
    events = [e for e in state.events if e.number > before]
    logging.getLogger(__name__).info(
        "%d marks and %d files recorded, %d stale pages told, %d entries of the log",
        len(told.done),
        len(told.files),
        len(told.stale),
        len(events),
    )
    assert told.other == []
    assert len(events) == len(told.done) + len(told.files)  # nothing that nobody was told of, and nothing twice
    summaries = [e.summary for e in events]
    found = Counter({reason: sum(reason in s for s in summaries) for reason in (*told.done, *told.stale)})
    assert {reason: found[reason] for reason in told.done} == dict.fromkeys(told.done, 1)
    assert {reason: found[reason] for reason in told.stale} == dict.fromkeys(told.stale, 0)
    assert sorted(m.cell for m in state.measurements) == sorted(told.files)
    assert told.stale, "no page went stale, so that this shows nothing"
    assert {e.who for e in events if e.summary.endswith(tuple(told.done)) and "browser" in e.summary} == {
        f"browser {n}" for n in range(BROWSERS)
    }
    assert all(finding.sound for finding in campaign.ledger.findings())
