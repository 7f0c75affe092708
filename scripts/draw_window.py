"""Draw the window and print the report for docs/pictures, from three rounds of `tiny` in a simulated laboratory.

    .venv/bin/python scripts/draw_window.py

Needs Chromium and takes some minutes. The laboratory is a formula with invented numbers and no network
(:class:`campaigns.loop.laboratories.PhysicsTruth`), so that predictions and cells differ as they do in life.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from browser import Browser  # noqa: E402 - beside the tests, which drive the same browser
from served import served  # noqa: E402

from campaigns.campaign import Campaign  # noqa: E402
from campaigns.loop.laboratories import Laboratory, LaboratoryOptions, PhysicsTruth  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
CYCLES = (1, 10, 20)
ROUNDS, SEED = 3, 3


def three_rounds(folder: Path) -> Campaign:
    """Walk a campaign through two rounds with cells and a third that waits for them."""
    campaign = Campaign.start(folder / "tiny", "tiny")
    laboratory = Laboratory(PhysicsTruth(), LaboratoryOptions(failures=0.15, delays=0), SEED)
    conditions = [campaign.spec.conditions.at(rate, n) for rate in (20.0, 1000.0) for n in CYCLES]
    for number in range(1, ROUNDS + 1):
        batch = campaign.recommend(batch_size=4)
        if number == ROUNDS:
            break
        made = [p for p in batch if not laboratory.fails(p)]
        for proposal in set(batch) - set(made):
            campaign.mark(proposal.proposal_id, "failed", "second phase in the diffractogram")
        campaign.add_measurements(laboratory.measure(made, conditions, cells=2), fine_tune=number == 1)
    waiting = campaign.state().proposals_of(ROUNDS)
    campaign.mark(waiting[0].proposal_id, "accepted", "powder is in the furnace")
    campaign.report()
    return campaign


def draw(browser: Browser, address: str, page: str, width: int, name: str) -> None:
    """Write what a page of the window shows at a width."""
    browser.size(width, 900 if width > 600 else 844)
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=f"{address}/{page}")
    browser.until(f"document.body?.dataset.ready === {page!r}")
    browser.until("[...document.querySelectorAll('.plot')].every((place) => place.dataset.drawn)")
    browser.picture(PICTURES / name, whole=False)
    _fewer_colours(PICTURES / name)


def _fewer_colours(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").quantize(96).save(path, optimize=True)


def main() -> None:
    """Draw everything."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary, three_rounds(Path(temporary)) as campaign:
        measured = next(o for o in campaign.state().proposals if str(o.state) == "measured").proposal_id
        browser = Browser(Path(temporary) / "browser")
        try:
            with served(campaign.folder) as address:
                draw(browser, address, f"#/tiny/p/{measured}", 1280, "window.png")
                draw(browser, address, "#/tiny/board", 390, "window-phone.png")
                browser.size(1280)
                browser.call("Page.navigate", url=(campaign.folder / "report" / "report.html").as_uri())
                browser.until("document.body?.dataset.ready === 'yes'")
                browser.print(PICTURES / "report.pdf")
                browser.call("Page.navigate", url="about:blank")
                browser.until("location.href === 'about:blank'")
            assert browser.errors == [], browser.errors
        finally:
            browser.close()


if __name__ == "__main__":
    main()
