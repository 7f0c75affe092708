"""The page in a real browser: every view at two widths without an error, and a newcomer's first minute."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from ledgers import FIRST, SECOND, THIRD, record_round, write_discharge

from campaigns.campaign import Campaign
from campaigns.server.app import create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe about:blank"
).split()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
PATIENCE_S = 60.0


class Browser:
    """Chromium, spoken to through its debugging pipe (file descriptors 3 and 4)."""

    def __init__(self, home: Path) -> None:
        down, up = os.pipe(), os.pipe()
        self._out, self._in = os.fdopen(down[1], "wb", 0), os.fdopen(up[0], "rb", 0)
        ours = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (down[0], up[1])]

        def theirs() -> None:
            for end, number in zip(ours, (3, 4), strict=True):
                os.dup2(end, number)

        self._process = subprocess.Popen(
            [CHROMIUM or "", *FLAGS, f"--user-data-dir={home}"],
            close_fds=False,
            preexec_fn=theirs,
            stderr=subprocess.DEVNULL,
        )
        for end in (down[0], up[1], *ours):
            os.close(end)
        self.errors: list[str] = []
        self._rest, self._number, self._session = b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers; errors of the page are kept on the way."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                assert "error" not in said, said
                return dict(said["result"])
            self._note(said)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = self._in.read(65536)
            assert part, "the browser ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))

    def _note(self, said: dict[str, Any]) -> None:
        told = said.get("params", {})
        if said["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(told["exceptionDetails"]))
        if said["method"] == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(f"{told['entry']['text']} {told['entry'].get('url')}")

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + PATIENCE_S
        while not self.run(script):
            assert time.monotonic() < end, (script, self.run("document.body.innerText"), self.errors)
            time.sleep(0.05)

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file in an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._out.close()
        self._in.close()


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
    "#/demo/p/R01-02": "What was measured",
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
