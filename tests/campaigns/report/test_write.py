"""The report: its files, what the page says, and that a real browser shows it without an error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser, needs_chromium
from filled_ledgers import CONDITIONS, GOALS, filled_ledger

from campaigns.ledger.database import sqlite_url
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import NewModel, State
from campaigns.loop.outcomes import headline, outcomes_of
from campaigns.report.drawing import CELLS_SPREAD, WAITING
from campaigns.report.figures import plot_profiles
from campaigns.report.write import FIGURES, Content, Report, write_report
from drxnet.errors import UsageError


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return filled_ledger(tmp_path_factory.mktemp("campaign"))


@pytest.fixture(scope="module")
def report(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(ledger, GOALS, tmp_path_factory.mktemp("report"))


class _Page(HTMLParser):
    """Text outside scripts, ids, and everything that would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.ids, self.fetched, self._inside = "", [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._inside = tag if tag in ("script", "style") else self._inside
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href") and not value.startswith(("#", "data:")):
                self.fetched.append(value)

    def handle_endtag(self, tag):
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data):
        self.text += "" if self._inside else data


def content_of(page: Path) -> dict:
    found = re.search(r'<script id="content" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_and_every_figure_are_written(report: Report):
    assert report.page.name == "report.html"
    assert [f.stem for f in report.figures] == [name for name in FIGURES if name != "fade"]
    for figure in report.figures:
        assert figure.read_bytes().startswith(b"\x89PNG")
        assert figure.stat().st_size > 8000
    assert len(list(report.page.parent.iterdir())) == len(report.figures) + 1


def test_the_page_fetches_nothing(report: Report):
    assert _Page(report.page.read_text()).fetched == []


def test_the_page_leads_with_the_headline_and_one_table(ledger: Ledger, report: Report):
    snapshot = ledger.read()
    text = _Page(report.page.read_text()).text
    sentence = headline(snapshot, outcomes_of(snapshot, GOALS), GOALS)
    assert sentence in text
    assert text.index(sentence) < text.index("80 % interval") < text.index("Are we getting better?")


def test_the_page_says_which_spread_is_shown_and_what_was_refused(report: Report):
    text = _Page(report.page.read_text()).text
    assert "standard deviation of the calibrated posterior" in text
    assert "mean over cells ± how uncertain that mean is" in text
    assert "capacity <500> mAh/g" in text
    assert "refused by the gate" in text
    assert "second phase in the diffractogram" in text


def test_every_proposal_has_its_profiles_in_the_page(ledger: Ledger, report: Report):
    snapshot = ledger.read()
    entries = {e["id"]: e for e in content_of(report.page)["viewer"]["entries"]}
    assert entries.keys() == {p.proposal_id for p in snapshot.proposals}
    predicted = ledger.predicted_profiles(["R01-01"])["R01-01"]
    shown = entries["R01-01"]["predicted"]
    assert len(shown) == len(predicted) == 2
    for curve, profile in zip(shown, predicted, strict=True):
        grid = np.linspace(*curve["v"], len(curve["q"]))
        wanted = np.interp(grid, profile.voltage_v, profile.capacity_mah_g_mean)
        assert curve["q"] == pytest.approx(wanted, abs=0.06)
        assert curve["s"] == pytest.approx(np.interp(grid, profile.voltage_v, profile.capacity_mah_g_std), abs=0.06)
    cells = {m.cell for m in snapshot.valid if m.proposal_id == "R01-01"}
    assert len(entries["R01-01"]["measured"]) == len(cells) == 4


def test_the_figures_of_the_page_mark_what_is_measured(ledger: Ledger, report: Report):
    outcomes = outcomes_of(ledger.read(), GOALS)
    traces = {t["name"]: t for t in content_of(report.page)["figures"]["pareto"]["data"]}
    assert traces[f"measured, {CELLS_SPREAD}"]["marker"]["symbol"] == "circle"
    assert traces[WAITING]["marker"]["symbol"] == "circle-open"
    waiting = traces[WAITING]
    assert len(waiting["error_y"]["array"]) == len(waiting["x"])
    assert min(waiting["error_y"]["array"]) > 0
    assert len(traces[f"measured, {CELLS_SPREAD}"]["x"]) == sum(o.leading is not None for o in outcomes)


def test_a_past_state_has_its_own_page(ledger: Ledger):
    text = _Page(Content.read(ledger, GOALS, as_of=2).page()).text
    assert "after round R02" in text
    assert "R03-01" not in text
    assert "State of the ledger after round R02." in text


def test_asked_for_proposals_are_drawn(ledger: Ledger):
    content = Content.read(ledger, GOALS)
    some = plot_profiles(content.outcomes[:2], content.predicted, content.measured, CONDITIONS)
    assert [a.get_title(loc="left").split(",")[0] for a in some.axes] == ["R01-01", "R01-02"]


def test_an_unknown_proposal_or_round_is_refused_and_nothing_is_written(ledger: Ledger, tmp_path: Path):
    with pytest.raises(UsageError, match="No proposal 'R09-01'"):
        write_report(ledger, GOALS, tmp_path / "a", proposals=["R09-01"])
    with pytest.raises(UsageError, match="has no round R09"):
        write_report(ledger, GOALS, tmp_path / "b", as_of=9)
    assert list(tmp_path.iterdir()) == []


def test_a_campaign_without_rounds_has_a_page(tmp_path: Path):
    empty = Ledger.create(sqlite_url(tmp_path / "ledger.sqlite"), "new", NewModel("a1b2c3d4e5f6", "models/N01"))
    written = write_report(empty, GOALS, tmp_path / "report")
    assert written.figures == ()
    assert "has not proposed anything yet" in _Page(written.page.read_text()).text


def test_a_first_round_without_data_has_a_report(ledger: Ledger, tmp_path: Path):
    written = write_report(ledger, GOALS, tmp_path, as_of=1)
    assert [f.stem for f in written.figures] == ["progress", "pareto", "profiles", "composition_map"]
    assert "nothing to compare" in _Page(written.page.read_text()).text


def test_a_file_name_cannot_break_out_of_the_page(tmp_path: Path):
    ledger = filled_ledger(tmp_path, rounds=2, batch=2)
    with ledger.write("ingest") as entry:
        rules = [{"id": "E1", "message": "</script><script>alert(1)</script>"}]
        entry.note_refused([{"name": "<img src=x onerror=alert(1)>.csv", "sha256": "2" * 64, "rules": rules}])
        name = next(p.proposal_id for p in ledger.read().pending)
        entry.set_state(name, State.FAILED, "</script><b>broken</b>")
    page = Content.read(ledger, GOALS).page()
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert "<b>broken" not in page


def test_reporting_needs_no_torch(tmp_path: Path):
    filled_ledger(tmp_path, rounds=2, batch=2).close()
    program = (
        "import sys; from pathlib import Path; from campaigns.ledger.database import sqlite_url;"
        "from campaigns.ledger.ledger import Ledger;"
        "from campaigns.report.write import Content; from screening.goals import Goals;"
        "content = Content.read(Ledger(sqlite_url(Path(sys.argv[1])), 'demo'), Goals());"
        "content.page(), list(content.figures(content.outcomes));"
        "sys.exit(bool({'torch', 'botorch', 'ray'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path / "ledger.sqlite")], check=False)
    assert ran.returncode == 0


# -- in a browser ----------------------------------------------------------------------------------------

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=10000"
).split()


def browse(page: Path, home: Path, anchor: str = "") -> tuple[str, list[str]]:
    """Open a page; give back the document as the browser ends up with it, and what its console says."""
    opened = subprocess.run(
        [CHROMIUM or "", *FLAGS, f"--user-data-dir={home}", "--dump-dom", f"{page.resolve().as_uri()}{anchor}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return opened.stdout, [line for line in opened.stderr.splitlines() if "CONSOLE" in line]


@needs_chromium
def test_a_browser_shows_and_prints_the_page_without_errors(report: Report, tmp_path: Path, subtests: pytest.Subtests):
    with subtests.test("every figure is drawn"):
        document, console = browse(report.page, tmp_path / "plain")
        assert console == []
        assert 'data-ready="yes"' in document
        drawn = content_of(report.page)["figures"].keys() | {"profiles"}
        for name in drawn:
            assert re.search(rf'id="{name}" class="plot js-plotly-plot"', document), f"{name} was not drawn"
    with subtests.test("the address chooses the profiles"):
        document, console = browse(report.page, tmp_path / "chosen", "#R01-02")
        assert console == []
        assert re.search(r'id="shown-profile">R01-02 ', document)
    with subtests.test("an error would be noticed"):
        broken = tmp_path / "broken.html"
        broken.write_text(report.page.read_text().replace('"use strict";', '"use strict"; noSuchFunction();'))
        document, console = browse(broken, tmp_path / "broken")
        assert any("noSuchFunction" in line for line in console)
        assert 'data-ready="yes"' not in document
    with subtests.test("it prints on A4 with nothing cut and every section open"):
        prints_on_a4_with_nothing_cut_and_every_section_open(report, tmp_path)


def prints_on_a4_with_nothing_cut_and_every_section_open(report: Report, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "printing")
    try:
        browser.call("Page.navigate", url=report.page.as_uri())
        browser.until("document.body?.dataset.ready === 'yes'")
        browser.print(tmp_path / "report.pdf")
        pages = (tmp_path / "report.pdf").read_bytes().count(b"/Type /Page\n")
        assert 5 <= pages <= 15
        browser.size(700)  # what is left of the width of a sheet
        browser.call("Emulation.setEmulatedMedia", media="print")
        browser.run("window.dispatchEvent(new Event('beforeprint'))")
        browser.until("[...document.querySelectorAll('.plot svg.main-svg')].every((e) => e.clientWidth <= 700)")
        assert browser.run("document.documentElement.scrollWidth") <= 700
        assert browser.run("[...document.querySelectorAll('details')].every((part) => part.open)")
        assert browser.run("document.querySelectorAll('#small-profiles svg').length") >= 5
        assert browser.errors == []
    finally:
        browser.close()
