"""The page in a real browser: every view at two widths without an error, and a newcomer's first minute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from browser import Browser, needs_chromium
from ledgers import FIRST, SECOND, THIRD, record_round, write_discharge

from campaigns.campaign import Campaign
from campaigns.server.app import create_app

pytestmark = needs_chromium


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(tmp_path / "home")
    yield opened
    opened.close()


@pytest.fixture
def address(campaign: Campaign, tmp_path: Path) -> Iterator[str]:
    """Address of a server with a campaign in which everything occurs."""
    record_round(campaign, FIRST, SECOND, THIRD)
    campaign.ingest(write_discharge(tmp_path / "R01-02_cellA.json", SECOND, 230.0), fine_tune=False)
    doubtful = {"proposal_id": "R01-02", "current_ma_g": 20, "capacity_mah_g": 23.0, "cell": "B"}
    campaign.add_measurements([doubtful], fine_tune=False)
    campaign.ingest(write_discharge(tmp_path / "bad.json", FIRST, 900.0), fine_tune=False)
    settings = uvicorn.Config(create_app([campaign.folder]), port=0, log_level="warning", timeout_graceful_shutdown=1)
    listening = settings.bind_socket()
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listening.close()


def go(browser: Browser, page: str) -> None:
    browser.run(f"location.hash = {page!r}")
    browser.until(f"document.body.dataset.ready === {page!r}")


@pytest.fixture
def opened(browser: Browser, address: str) -> Callable[[str], None]:
    """Shows a page of the address."""
    browser.call("Page.navigate", url=f"{address}/")
    browser.until("document.body?.dataset.ready === '#/'")
    return lambda page: go(browser, page)


VIEWS = {
    "#/": "discharges count",
    "#/demo/board": "R01-03",
    "#/demo/p/R01-02": "Neighbours",
    "#/demo/figures": "Are we getting better?",
    "#/demo/figures/trust": "Can the predictions be trusted?",
    "#/demo/figures/trade-off": "no measured composition lies beyond the line",
    "#/demo/figures/map": "how uncertain it is",
    "#/demo/figures/map/Li-Mn": "how uncertain it is",
    "#/demo/figures/map/Li-Mn-Ti": "how uncertain it is",
    "#/demo/figures/later-cycles": "What do later cycles keep?",
    "#/demo/ranking": "Rank predictions, too",
    "#/demo/data": "the active mass may stand 10 times too large",
    "#/demo/models": "(current)",
    "#/demo/jobs": "Propose a round",
    "#/demo/log": "propose",
}


def test_every_view_shows_at_two_widths_without_an_error(browser: Browser, opened: Callable[[str], None]):
    for width in (1280, 390):
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        for page, words in VIEWS.items():
            opened(page)
            text = browser.run("document.querySelector('main').innerText")
            assert any(word in text for word in words.split("|")), (page, text)
            assert "[object" not in text
            assert "undefined" not in text
            wide = browser.run("document.documentElement.scrollWidth")
            assert wide <= width, (page, width, wide)
            unnamed = "[...document.querySelectorAll('input,select')].filter(e => !e.labels.length).length"
            assert browser.run(unnamed) == 0, page
    assert browser.errors == []


def test_a_newcomer_marks_a_failure_and_records_a_file(
    browser: Browser, opened: Callable[[str], None], campaign: Campaign, tmp_path: Path
):
    browser.run("who.value = 'Zoë'; who.dispatchEvent(new Event('change'))")
    opened("#/demo/p/R01-03")
    browser.run("document.querySelector('#mark select').value = 'failed'")
    browser.run("document.querySelector('#mark input').value = 'two phases in XRD'")
    browser.run("document.querySelector('#mark button').click()")
    browser.until("document.querySelector('#told').innerText === 'R01-03 is failed.'")
    opened("#/demo/p/R01-01")
    browser.choose("#files", write_discharge(tmp_path / "cell.json", FIRST, 240.0))
    browser.until("document.querySelector('#record')?.innerText === 'Record'")
    assert campaign.state().proposal("R01-01").state == "proposed"  # so far it was only checked
    browser.run("document.querySelector('#record').click()")
    browser.until("document.querySelector('#told').innerText === 'Recorded for R01-01.'")
    opened("#/demo/ranking/capacity")
    assert "R01-01" in browser.run("document.querySelector('main').innerText")
    failed = campaign.state().proposal("R01-03")
    assert (str(failed.state), failed.reason) == ("failed", "two phases in XRD")
    assert {e.who for e in campaign.state().events[-2:]} == {"Zoë"}
    assert browser.errors == []


def test_a_stale_page_is_told(browser: Browser, opened: Callable[[str], None], campaign: Campaign):
    opened("#/demo/p/R01-03")
    campaign.mark("R01-03", "abandoned", "smells")
    browser.run("document.querySelector('#mark button').click()")
    browser.until("document.querySelector('#told').innerText.includes('has changed since this page showed it')")
    assert campaign.state().proposal("R01-03").reason == "smells"
