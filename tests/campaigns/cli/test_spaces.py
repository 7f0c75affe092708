"""`drx-screen enumerate` and `drx-screen explain`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from campaigns.cli import main
from drxnet.composition import Composition
from screening.lattice import Lattice
from screening.space import load_space

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def as_json(*arguments: Any) -> Any:
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_count_is_exact_and_comes_with_the_share_that_is_accepted() -> None:
    found = as_json("enumerate", "--space", "paper-he", "--count")
    assert found["count"] == 1_974_694
    assert 0.9 < found["accepted_fraction"] < 1
    assert 0 < found["accepted_fraction_error"] < 0.01
    assert set(found["refused_fractions"]) == {"precursors", "redox_electrons_with_oxygen"}


def test_explain_shows_the_reaction_to_a_metal() -> None:
    formula = "Li1.2Fe0.2Ni0.2Ti0.2Nb0.2O1.8F0.2"
    found = as_json("explain", formula, "--space", "paper-he")
    assert found["reductions"][0]["equation"] == "2 FeO + NiO -> Fe2O3 + Ni"
    assert found["reductions"][0]["gibbs_kj_mol"] == pytest.approx(-27.7)
    shown = CliRunner().invoke(main, ["explain", formula, "--space", "paper-he"]).stdout
    assert "May turn to metal without oxygen: 2 FeO + NiO -> Fe2O3 + Ni (-28 kJ/mol of Ni, 298 K)" in shown


def test_counting_is_what_happens_by_default() -> None:
    assert "13,114 compositions of Mg, Ti, Cr, Mn, Nb" in run("enumerate", "--space", "tiny").stdout


def test_a_sample_is_seeded_and_without_duplicates() -> None:
    one = as_json("enumerate", "--space", "paper-he", "--sample", 20, "--seed", 7)
    assert one == as_json("enumerate", "--space", "paper-he", "--sample", 20, "--seed", 7)
    assert one != as_json("enumerate", "--space", "paper-he", "--sample", 20, "--seed", 8)
    assert len({row["rank"] for row in one}) == 20
    lattice = Lattice(load_space("paper-he"))
    assert [lattice.rank(lattice.row(row["composition"])) for row in one] == [row["rank"] for row in one]


def test_shards_together_are_everything(tmp_path: Path) -> None:
    whole = as_json("enumerate", "--space", "tiny", "--all")
    assert len(whole) == 13_114
    parts = [row for i in (1, 2, 3) for row in as_json("enumerate", "--space", "tiny", "--shard", f"{i}/3")]
    assert parts == whole


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_are_written_with_amounts_and_can_be_a_space_again(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"rows.{suffix}"
    result = run("enumerate", "--space", "tiny", "--all", "--accepted", "--out", out)
    assert result.exit_code == 0, result.stderr
    table = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    count = as_json("enumerate", "--space", "tiny")
    assert len(table) == round(count["accepted_fraction"] * count["count"])
    assert f"{len(table):,} compositions" in result.stderr
    row = table.iloc[100]
    composition = Composition.parse(row["composition"])
    assert {m: row[m] for m in composition.elements} == pytest.approx(dict(composition.cations))
    assert not list(tmp_path.glob("*.part"))
    if suffix == "csv":
        assert as_json("enumerate", "--space", out, "--count")["count"] == len(table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "nowhere"], "No space 'nowhere'"),
        (["--space", "tiny", "--count", "--all"], "Give one of"),
        (["--space", "tiny", "--shard", "0/3"], "I from 1 to N"),
        (["--space", "tiny", "--count", "--out", "x.csv"], "--out takes rows"),
        (["--space", "wide", "--all"], "too many for the screen"),
        (["--space", "tiny", "--all", "--out", "x.xlsx"], "ends in .csv or .parquet"),
        (["--space", "tiny", "--sample", "20000"], "cannot be drawn without replacement"),
    ],
)
def test_wrong_usage_is_refused_with_exit_2(arguments: list[str], message: str) -> None:
    result = run("enumerate", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("x.xlsx.part").exists()


def test_explain_gives_rank_valences_and_filters() -> None:
    found = as_json("explain", HE1, "--space", "paper-he")
    assert found["in_space"]
    assert found["accepted"]
    assert found["rank"] == Lattice(load_space("paper-he")).rank(Lattice(load_space("paper-he")).row(HE1))
    assert found["species"]["Mn2+"] == pytest.approx(0.1)
    named = {row["name"]: row for row in found["filters"]}
    assert named["size_mismatch"]["threshold"] == 16
    assert named["size_mismatch"]["value"] == pytest.approx(9.7, abs=0.01)


def test_explain_names_the_constraint_that_excludes() -> None:
    found = as_json("explain", "Li1.2Mn0.4Ti0.4O2", "--space", "paper-he")
    assert not found["in_space"]
    assert found["excluded_by"] == ["k_elements: 2 metals, 4 or more allowed"]
    shown = run("explain", "Li1.2Mn0.4Ti0.4O2", "--space", "paper-he").stdout
    assert "not in paper-he" in shown
    assert "size_mismatch" in shown


def test_the_charges_of_an_explanation_add_up_to_nothing() -> None:
    lines = run("explain", HE1, "--space", "paper-he").stdout.splitlines()
    (total,) = (line.split() for line in lines if line.startswith("sum"))
    assert float(total[2]) == 0


def test_explain_refuses_what_is_no_rocksalt() -> None:
    result = run("explain", "NaCl", "--space", "tiny")
    assert result.exit_code == 3
    assert "no O or F" in result.stderr or "holds Li, metals, O and F" in result.stderr


def test_csv_on_stdout_has_a_header() -> None:
    rows = list(
        csv.DictReader(run("enumerate", "--space", "tiny", "--sample", 3, "--format", "csv").stdout.splitlines())
    )
    assert list(rows[0]) == ["rank", "composition"]
    assert len(rows) == 3
