"""`recipe`, `report` and `backtest` from the command line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from filled_ledgers import fill

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.recipe import Recipe
from campaigns.report.bench import recipe_of
from drxnet.checkpoint import ModelCard, save

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"


def run(*arguments: str):
    return CliRunner().invoke(main, arguments)


def test_recipe_prints_masses_to_a_tenth_of_a_milligram():
    result = run("recipe", HE1, "--mass-g", "5", "--li-excess", "0")
    assert result.exit_code == 0
    for mass in ("2.2172 g", "0.3113 g", "0.4257 g", "0.2419 g", "1.3682 g", "0.9586 g", "0.7976 g"):
        assert mass in result.stdout
    assert "1.321 g CO2" in result.stdout
    assert "No O2 in or out" in result.stdout


def test_recipe_as_json_and_csv_agree():
    as_json = json.loads(run("recipe", HE1, "Li1.2Mn0.4Ti0.4O2", "--format", "json").stdout)
    as_csv = list(csv.DictReader(io.StringIO(run("recipe", HE1, "Li1.2Mn0.4Ti0.4O2", "--format", "csv").stdout)))
    assert [r["composition"] for r in as_json] == ["Li1.2Mg0.1Ti0.2Cr0.3Mn0.1Nb0.1O1.8F0.2", "Li1.2Ti0.4Mn0.4O2"]
    flat = [(r["composition"], w["precursor"], w["mass_g"]) for r in as_json for w in r["precursors"]]
    assert flat == [(r["composition"], r["precursor"], float(r["mass_g"])) for r in as_csv]


def test_recipe_takes_purities_states_and_preferences():
    rows = json.loads(
        run("recipe", HE1, "--purity", "Li2O=0.97", "--prefer", "Li2O", "--li-excess", "0",
            "--state", "Mn=2", "--state", "Mg=2",
            "--state", "Cr=3", "--state", "Ti=4", "--state", "Nb=5", "--format", "json").stdout
    )  # fmt: skip
    oxide = next(w for w in rows[0]["precursors"] if w["precursor"] == "Li2O")
    assert oxide["mass_g"] == pytest.approx(0.8966 / 0.97, abs=2e-4)
    assert oxide["assay"] == 0.97


def test_typical_purity_weighs_more_of_every_impure_powder():
    plain = json.loads(run("recipe", HE1, "--format", "json").stdout)[0]
    typical = json.loads(run("recipe", HE1, "--typical-purity", "--format", "json").stdout)[0]
    assert typical["powder_g"] > plain["powder_g"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        pytest.param(["LiNiO2"], 3, "Ni must arrive as 3+ in a closed furnace", id="valence"),
        pytest.param(["Li1.2Mn0.4"], 3, "no O or F", id="not a composition"),
        pytest.param([], 2, "Give a formula", id="nothing"),
        pytest.param([HE1, "--mass-g", "-1"], 2, "must be positive", id="negative mass"),
        pytest.param([HE1, "--purity", "Li2CO3"], 2, "written NAME=NUMBER", id="purity"),
        pytest.param([HE1, "--avoid", "Kryptonite"], 2, "Not in the table of precursors", id="unknown precursor"),
    ],
)
def test_recipe_refuses_with_a_sentence(arguments, code, text):
    result = run("recipe", *arguments)
    assert result.exit_code == code
    assert text in result.stderr
    assert "Traceback" not in result.output


# -- on a campaign ---------------------------------------------------------------------------------------


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A campaign with a history in its folder; its model is never loaded."""
    home = tmp_path / "home" / "models" / "stand-in"
    save(home, {}, ModelCard("stand-in", 2))
    monkeypatch.setenv("DRXNET_HOME", str(tmp_path / "home"))
    template = tmp_path / "template.yaml"
    template.write_text("space: tiny\nmodel: stand-in\nsynthesis:\n  batch_mass_g: 2\n  li_excess: 0.05\n")
    folder = tmp_path / "demo"
    Campaign.start(folder, template).close()
    fill(Campaign.open(folder).ledger, rounds=2, batch=3)
    return folder


def test_report_writes_into_the_campaign_and_says_where(campaign: Path):
    result = run("report", "--campaign", str(campaign))
    assert result.exit_code == 0, result.stderr
    page = Path(result.stdout.strip())
    assert page == campaign / "report" / "report.html"
    assert "R02-03" in page.read_text()
    assert "6 figures" in result.stderr


def test_report_as_of_a_round_goes_where_it_is_told(campaign: Path, tmp_path: Path):
    result = run("report", "-C", str(campaign), "--as-of", "R01", "--proposal", "R01-02", "-o", str(tmp_path / "past"))
    assert result.exit_code == 0, result.stderr
    assert "R02-03" not in (tmp_path / "past" / "report.html").read_text()


def test_recipe_of_a_proposal_takes_the_campaigns_synthesis(campaign: Path):
    rows = json.loads(run("recipe", "-C", str(campaign), "--proposal", "R01-02", "--format", "json").stdout)
    with Campaign.open(campaign) as opened:
        assert rows[0]["composition"] == opened.state().proposal("R01-02").composition
    assert (rows[0]["batch_mass_g"], rows[0]["li_excess"]) == (2, 0.05)
    other = json.loads(
        run("recipe", "-C", str(campaign), "--proposal", "R01-02", "--mass-g", "7", "--format", "json").stdout
    )
    assert other[0]["batch_mass_g"] == 7


def test_recipe_of_a_proposal_is_that_of_its_bench_sheet(campaign: Path):
    yaml = campaign / "campaign.yaml"
    yaml.write_text(yaml.read_text() + "conditions:\n  process: {route: mechanochemical}\n")
    (made,) = json.loads(run("recipe", "-C", str(campaign), "--proposal", "R01-02", "--format", "json").stdout)
    with Campaign.open(campaign) as opened:
        sheet = recipe_of(opened, opened.state().proposal("R01-02"))
    assert isinstance(sheet, Recipe)
    assert sheet.firing.temperature_c is None
    assert made == json.loads(json.dumps(sheet.as_dict()))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["report", "-C", "{}", "--as-of", "third"], "A round is named like R03", id="round"),
        pytest.param(["report", "-C", "{}", "--proposal", "R07-01"], "No proposal 'R07-01'", id="report of"),
        pytest.param(["recipe", "-C", "{}", "--proposal", "R07-01"], "No proposal 'R07-01'", id="recipe of"),
        pytest.param(["recipe", "--proposal", "R01-01"], "--proposal needs --campaign", id="no campaign"),
        pytest.param(["report", "-C", "{}-nowhere"], "No campaign", id="nowhere"),
    ],
)
def test_wrong_names_are_refused(campaign: Path, arguments: list[str], text: str):
    result = run(*(a.format(campaign) for a in arguments))
    assert result.exit_code == 2
    assert text in result.stderr
