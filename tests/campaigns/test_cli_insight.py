"""`recipe`, `report` and `backtest` from the command line."""

from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner

from campaigns.cli import main

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"


def run(*arguments: str):
    return CliRunner().invoke(main, arguments)


def test_recipe_prints_masses_to_a_tenth_of_a_milligram():
    result = run("recipe", HE1, "--mass-g", "5")
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
        run("recipe", HE1, "--purity", "Li2O=0.97", "--prefer", "Li2O", "--state", "Mn=2", "--state", "Mg=2",
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
