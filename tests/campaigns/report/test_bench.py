"""The bench sheet of a round: every powder with its mass, room for what was weighed, one sheet of A4."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import Browser, needs_chromium
from ledgers import record_round

from campaigns.campaign import Campaign
from campaigns.errors import RecipeError
from campaigns.recipe import make_recipe
from campaigns.report import bench
from campaigns.report.bench import bench_sheet

EIGHT = (
    "Li1.2Mg0.1Ti0.05V0.25Cr0.25Fe0.05Nb0.1O1.75F0.25",
    "Li1.15Mg0.05Ti0.05V0.35Cr0.15Fe0.1Nb0.15O2",
    "Li1.25Mg0.1Ti0.05Cr0.1Mn0.2Ni0.05Nb0.25O1.75F0.25",
    "Li1.2Mg0.1Ti0.1V0.4Cr0.1Fe0.05Nb0.05O1.7F0.3",
    "Li1.15V0.3Cr0.15Mn0.15Fe0.05Ni0.1Nb0.1O1.8F0.2",
    "Li1.2Ti0.3V0.1Cr0.2Fe0.1Ni0.1O1.8F0.2",
    "Li1.15Mg0.1Ti0.15V0.25Cr0.3Nb0.05O1.85F0.15",
    "Li1.2Mg0.2Ti0.15V0.1Cr0.2Nb0.15O1.85F0.15",
)
"""The first round of the shipped campaign: seven or eight powders each."""


def test_it_holds_every_mass_and_room_to_write_what_was_weighed(campaign: Campaign):
    record_round(campaign, *EIGHT)
    sheet = bench_sheet(campaign, 1)
    sections = sheet.split("<section>")[1:]
    assert len(sections) == 8
    for number, (formula, section) in enumerate(zip(EIGHT, sections, strict=True), start=1):
        assert f"R01-{number:02d}" in section
        recipe = make_recipe(formula, **campaign.spec.synthesis.model_dump())
        masses = re.findall(r"<td>(\d+\.\d{4})</td>", section)
        assert masses == [f"{w.mass_g:.4f}" for w in recipe.weighings] + [f"{recipe.powder_g:.4f}"]
        assert section.count("class='blank'") == len(masses)
    assert "Cells: 2 each at 20 mA/g" in sheet


def test_what_has_no_recipe_says_why(campaign: Campaign, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise RecipeError("no precursor of <Zr>")

    monkeypatch.setattr(bench, "make_recipe", refuse)
    record_round(campaign, EIGHT[0])
    assert "<p>no recipe: no precursor of &lt;Zr&gt;</p>" in bench_sheet(campaign, 1)


@needs_chromium
def test_eight_compositions_print_on_one_sheet(campaign: Campaign, tmp_path: Path):
    record_round(campaign, *EIGHT)
    page = tmp_path / "bench.html"
    page.write_text(bench_sheet(campaign, 1))
    browser = Browser(tmp_path / "home")
    try:
        browser.call("Page.navigate", url=page.as_uri())
        browser.until("document.readyState === 'complete'")
        browser.print(tmp_path / "bench.pdf")
    finally:
        browser.close()
    assert (tmp_path / "bench.pdf").read_bytes().count(b"/Type /Page\n") == 1
