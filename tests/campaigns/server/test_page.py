"""The window in a real browser: every page at two widths, without an error, open to all; a newcomer's minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path

import pytest
from browser import Browser, needs_chromium
from filled_ledgers import fill
from ledgers import FIRST, SECOND, THIRD, record_round, write_campaign, write_discharge, write_stub_model
from served import served
from synthetic_cycler import CAPACITY_MAH, CURRENT_MA, cell_test, neware_csv, write

from campaigns.campaign import Campaign
from campaigns.report.write import Content

pytestmark = needs_chromium
REAL = "neware_cathode_half_1p5-4p4V_navani.ndax"
"""A cathode half-cell cycled between 1.5 and 4.4 V; 0.577 mAh at a constant 0.12 mA."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("home"))
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def no_errors(browser: Browser) -> Iterator[None]:
    """An error in the console, of any page, fails the test that saw it."""
    browser.errors.clear()
    browser.size(1280)
    yield
    assert browser.errors == []


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[str]:
    """Address of a server with a campaign in which everything occurs, one of three rounds, and one before any data."""
    folder = tmp_path_factory.mktemp("served")
    template = write_campaign(folder / "template.yaml", write_stub_model(folder / "stub"))
    with Campaign.start(folder / "demo", template) as demo:
        record_round(demo, FIRST, SECOND, THIRD)
        demo.ingest(write_discharge(folder / "R01-02_cellA.json", SECOND, 230.0, cycles=3), fine_tune=False)
        doubtful = {"proposal_id": "R01-02", "current_ma_g": 20, "capacity_mah_g": 23.0, "cell": "B"}
        demo.add_measurements([doubtful], fine_tune=False)
        demo.ingest(write_discharge(folder / "bad.json", FIRST, 900.0), fine_tune=False)
        write_page(demo)
    with Campaign.start(folder / "long", template) as long:
        fill(long.ledger, rounds=3, batch=5, cells=2, cycles=3)
        write_page(long)
    with Campaign.start(folder / "fresh", template) as fresh:
        record_round(fresh, FIRST, SECOND)
    with served(folder / "demo", folder / "long", folder / "fresh") as at:
        yield at
        leave(browser)


def write_page(campaign: Campaign) -> None:
    """The page of the report alone; its PNG figures are not looked at here."""
    page = campaign.folder / "report" / "report.html"
    page.parent.mkdir()
    page.write_text(Content.read(campaign.ledger, campaign.spec.goals).page())


def leave(browser: Browser) -> None:
    """Show nothing, so that no page asks a server that has gone."""
    browser.call("Page.navigate", url="about:blank")
    browser.until("location.href === 'about:blank'")


def begin(browser: Browser, address: str) -> None:
    """Show the first page of a server."""
    browser.call("Page.navigate", url=f"{address}/")
    browser.until("document.body?.dataset.ready === '#/'")


def go(browser: Browser, page: str) -> None:
    """Show a page; wait until it is there with its figures."""
    browser.run(f"document.body.dataset.ready = ''; location.hash = {page!r}; dispatchEvent(new Event('hashchange'))")
    browser.until(f"document.body.dataset.ready === {page!r}")
    browser.until("[...document.querySelectorAll('.plot')].every((place) => place.dataset.drawn)")


@pytest.fixture
def opened(browser: Browser, address: str) -> Callable[[str], None]:
    """Shows a page of the address."""
    begin(browser, address)
    return lambda page: go(browser, page)


@cache
def axe() -> str:
    """The rules of accessibility, as a script."""
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


def violations(browser: Browser) -> list[str]:
    """What axe-core finds wrong with the page that is shown."""
    if browser.run("typeof axe") == "undefined":
        browser.run(axe())
    found = browser.run(
        "axe.run({resultTypes: ['violations']}).then((r) => r.violations.map((v) => "
        "`${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).slice(0, 3).join(' ')}`))"
    )
    return list(found)


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


RANKINGS = {
    "cost-per-kwh": "cost per kwh at 20 mA/g (USD/kWh)",
    "specific-energy": "specific energy at 20 mA/g (Wh/kg)",
    "": "rate retention",
}


def test_every_page_shows_at_two_widths_and_is_open_to_all(
    browser: Browser, address: str, opened: Callable[[str], None], subtests: pytest.Subtests
):
    for width in (1280, 390):
        browser.size(width)
        begin(browser, address)
        for page, words in VIEWS.items():
            with subtests.test(page=page, width=width):
                opened(page)
                text = browser.run("document.querySelector('main').innerText")
                assert words in text
                assert "[object" not in text
                assert "undefined" not in text
                fits_and_is_open_to_all(browser, width)
        for page, name in product(("report", "rounds/1/bench"), ("long", "demo")):  # what stands alone
            with subtests.test(page=page, campaign=name, width=width):
                browser.call("Page.navigate", url=f"{address}/api/campaigns/{name}/{page}")
                browser.until("document.readyState === 'complete' && document.body.innerText.length > 100")
                if page == "report":
                    browser.until("document.body.dataset.ready === 'yes'")
                fits_and_is_open_to_all(browser, width)


def fits_and_is_open_to_all(browser: Browser, width: int) -> None:
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert violations(browser) == []


def test_figures_lead_on_and_a_ranking_is_filtered(
    browser: Browser, opened: Callable[[str], None], subtests: pytest.Subtests
):
    for which, words in {"trust": "nothing to compare", "later-cycles": "No cell was cycled on yet"}.items():
        with subtests.test("not yet", which=which):
            opened(f"#/fresh/figures/{which}")
            assert words in browser.run("document.querySelector('main').innerText")
            assert browser.run("document.querySelectorAll('.plot').length") == 0
    with subtests.test("a point leads to its proposal"):
        opened("#/long/figures/trade-off")
        browser.run("document.querySelector('.plot').emit('plotly_click', {points: [{customdata: 'R02-01'}]})")
        browser.until("document.body.dataset.ready === '#/long/p/R02-01'")
    with subtests.test("a ranking is filtered by element, id, state and value"):
        opened("#/long/ranking")
        everything = ranked(browser)
        assert len(everything) > 5
        assert ranked(browser, filter="R02") == {name for name in everything if name.startswith("R02")}
        assert ranked(browser, filter="-R02") == {name for name in everything if not name.startswith("R02")}
        assert ranked(browser, filter="Zr") == set()
        assert ranked(browser, filter="Li Cr") <= everything
        assert ranked(browser, state="failed") == set()
        assert set() < ranked(browser, least="0.7") < everything
    for by, heading in RANKINGS.items():
        with subtests.test("a ranking shows what it goes by", by=by):
            opened(f"#/long/ranking/{by}")
            headings = browser.run("[...document.querySelectorAll('main th')].map((c) => c.innerText)")
            assert headings[4] == heading
            values = browser.run(
                "[...document.querySelectorAll('main tbody tr')].map((r) => parseFloat(r.cells[4].innerText))"
            )
            assert len(values) > 5
            assert all(value > 0 for value in values)


def ranked(browser: Browser, **fields: str) -> set[str]:
    """Ids that the ranking shows with these filters."""
    for name in ("filter", "state", "least"):
        value = fields.get(name, "")
        browser.run(
            f"(() => {{ const f = document.getElementById({name!r}); f.value = {value!r};"
            " f.dispatchEvent(new Event('input')); })()"
        )
    return set(browser.run("[...document.querySelectorAll('main td[data-name=id]')].map((c) => c.innerText)"))


def submit(browser: Browser, **fields: object) -> None:
    """Fill in the dialogue that is open, and send it."""
    for name, value in fields.items():
        browser.run(
            f"(() => {{ const f = document.querySelector('dialog [name={name}]'); f.value = {str(value)!r};"
            " f.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
    browser.run("document.querySelector('dialog button.main').click()")


def told(browser: Browser, sentence: str) -> None:
    browser.until(f"document.querySelector('#told').innerText === {sentence!r}")


@pytest.fixture
def newcomer(tmp_path: Path, browser: Browser) -> Iterator[tuple[Campaign, str]]:
    """A campaign between 1.5 and 4.4 V that has proposed three compositions, and the address of its server."""
    model = write_stub_model(tmp_path / "stub")
    window = {"v_low": 1.5, "v_high": 4.4}
    with Campaign.start(tmp_path / "demo", write_campaign(tmp_path / "t.yaml", model, conditions=window)) as campaign:
        record_round(campaign, FIRST, SECOND, THIRD)
        with served(campaign.folder) as at:
            yield campaign, at
            leave(browser)


@pytest.fixture
def wide(campaign: Campaign, browser: Browser) -> Iterator[tuple[Campaign, str]]:
    """The same in the usual window, in which 275 mAh/g are predicted."""
    record_round(campaign, FIRST, SECOND, THIRD)
    with served(campaign.folder) as at:
        yield campaign, at
        leave(browser)


@pytest.mark.parametrize("kind", [pytest.param("real", marks=pytest.mark.needs("cycler_files")), "synthesised"])
def test_a_newcomer_marks_a_failure_and_records_a_file(
    browser: Browser, newcomer: tuple[Campaign, str], request: pytest.FixtureRequest, tmp_path: Path, kind: str
):
    campaign, at = newcomer
    if kind == "real":  # what it weighed is not in the file: 6 mg make its 0.12 mA the low rate
        file, mass = request.getfixturevalue("cycler_files") / REAL, 6.0
    else:
        table = cell_test(cycles=1)
        table.voltage_v = table.voltage_v.clip(upper=4.4)
        file, mass = write(tmp_path / "R01-01.csv", neware_csv(table)), CURRENT_MA / 20 * 1000
    browser.call("Page.navigate", url=f"{at}/")
    browser.until("document.body?.dataset.ready === '#/'")
    browser.run("who.value = 'Zoë'; who.dispatchEvent(new Event('change'))")
    go(browser, "#/demo/p/R01-03")
    browser.run("document.querySelector('#mark select').value = 'failed'")
    browser.run("document.querySelector('#mark input').value = 'two phases in XRD'")
    browser.run("document.querySelector('#mark button').click()")
    told(browser, "R01-03 is failed.")
    go(browser, "#/demo/p/R01-01")
    browser.run(f"document.querySelector('.drop input[type=number]').value = {mass}")
    browser.choose("#files", file)
    browser.until("document.querySelector('#record')?.innerText === 'Record'")
    browser.until("document.querySelector('img.picture')?.naturalWidth > 500")
    assert campaign.state().proposal("R01-01").state == "proposed"  # so far it was only checked
    browser.run("document.querySelector('#record').click()")
    told(browser, "Recorded for R01-01.")
    (recorded,) = [m for m in campaign.state().measurements if m.conditions.cycle == 1]
    assert recorded.capacity_mah_g == pytest.approx((0.577 if kind == "real" else CAPACITY_MAH) / mass * 1000, rel=0.01)
    go(browser, "#/demo/ranking/capacity")
    text = browser.run("document.querySelector('main').innerText")
    assert "R01-01" in text
    assert "measured" in text
    failed = campaign.state().proposal("R01-03")
    assert (str(failed.state), failed.reason) == ("failed", "two phases in XRD")
    assert {e.who for e in campaign.state().events[-2:]} == {"Zoë"}


def test_a_doubtful_measurement_is_confirmed_or_corrected_with_its_curve_in_sight(
    browser: Browser, wide: tuple[Campaign, str], tmp_path: Path
):
    campaign, at = wide
    for cell, capacity in (("A", 24.0), ("B", 23.5)):
        campaign.ingest(write_discharge(tmp_path / f"R01-01_{cell}.json", FIRST, capacity), fine_tune=False)
    first, second = campaign.state().doubtful
    browser.call("Page.navigate", url=f"{at}/#/demo/data")
    browser.until("document.body?.dataset.ready === '#/demo/data'")
    press = "document.querySelector(`button[aria-label='%s %s']`).click()"
    browser.run(press % ("Correct", first.measurement_id))
    browser.until("document.querySelectorAll('dialog svg path').length === 2")
    browser.run("document.querySelector('dialog [name=was]').value = 50")
    submit(browser, **{"is": 5, "reason": "the balance showed 5.0"})
    told(browser, f"{first.measurement_id}: corrected.")
    browser.run(press % ("Confirm", second.measurement_id))
    browser.until("document.querySelector('dialog') !== null")
    assert violations(browser) == []
    submit(browser, reason="it is really dead")
    told(browser, f"{second.measurement_id}: confirmed.")
    state = campaign.state()
    assert not state.doubtful
    assert sorted(round(m.capacity_mah_g, 1) for m in state.valid) == [23.5, 240.0]
    assert [m.status for m in state.measurements if m.measurement_id == first.measurement_id] == ["superseded"]


def test_a_campaign_before_its_first_round_says_what_to_do(browser: Browser, campaign: Campaign):
    with served(campaign.folder) as at:
        browser.call("Page.navigate", url=f"{at}/")
        browser.until("document.body?.dataset.ready === '#/'")
        for page in ("board", "ranking", "figures", "data", "models", "jobs", "log"):
            go(browser, f"#/demo/{page}")
            assert browser.run("document.querySelector('.bad-text')") is None
        go(browser, "#/demo/board")
        assert "start a round under Jobs" in browser.run("document.querySelector('main').innerText")
        leave(browser)


def test_what_others_write_meanwhile_is_told(
    browser: Browser, newcomer: tuple[Campaign, str], subtests: pytest.Subtests
):
    campaign, at = newcomer
    browser.call("Page.navigate", url=f"{at}/")
    browser.until("document.body?.dataset.ready === '#/'")
    with subtests.test("a page on which nothing is typed shows it"):
        go(browser, "#/demo/board")
        campaign.mark("R01-01", "failed", "crucible broke")
        browser.until("document.querySelector('main').innerText.includes('crucible broke')")
        assert browser.run("document.querySelector('#news').innerText") == ""
    with subtests.test("it does not take the place of one's own confirmation"):
        go(browser, "#/demo/p/R01-03")
        browser.run("document.querySelector('#mark button').click()")
        told(browser, "R01-03 is accepted.")
        assert browser.run("document.querySelector('#news').innerText") == ""  # what oneself wrote is no news
        browser.run("document.querySelector('#mark input').focus()")
        campaign.mark("R01-01", "accepted", "another crucible")
        browser.until("document.querySelector('#news').innerText.startsWith('Somebody wrote meanwhile')")
        told(browser, "R01-03 is accepted.")
        assert violations(browser) == []
        go(browser, "#/demo/board")
        assert browser.run("document.querySelector('#news').innerText") == ""
    with subtests.test("a stale page is told"):
        go(browser, "#/demo/p/R01-03")
        campaign.mark("R01-03", "abandoned", "smells")
        browser.run("document.querySelector('#mark button').click()")
        browser.until("document.querySelector('#told').innerText.includes('has changed since this page showed it')")
        assert campaign.state().proposal("R01-03").reason == "smells"
        (refused,) = browser.errors  # the browser tells of every answer that is not a success
        assert "412" in refused
        browser.errors.clear()
