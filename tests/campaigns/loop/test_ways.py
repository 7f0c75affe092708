"""A campaign over compositions and processes, from the proposal to the ranking."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from ledgers import LOW, SPACE, write_campaign, write_discharge
from small_model import write_small_model

from campaigns import Campaign
from campaigns.cli import main
from campaigns.intake.samples import SampleInfo
from campaigns.report.views import ways_of
from drxnet.errors import MeasurementError
from drxnet.process import Process, crossed

LEVELS = {"route": ["solid state", "sol-gel"], "firing_temperature_c": [900]}
SOLID, SOL = crossed(LEVELS)
ROUTES = LEVELS["route"]


def run(*arguments: str) -> dict:
    done = CliRunner().invoke(main, [*arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_campaign_learns_which_way_is_better_and_proposes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_campaign(
        tmp_path / "ways.yaml",
        write_small_model(tmp_path / "small"),
        space={**SPACE, "process": LEVELS},
        objectives=[{"quantity": "capacity"}],
        constraints=[],
        strategy="logei",
        batch_size=6,
        shortlist=20,
    )
    first = run("propose", "-C", "ways.yaml")["proposals"]
    assert {row["route"] for row in first} == {"solid state", "sol-gel"}
    assert {row["firing_temperature_c"] for row in first} == {900.0}
    assert all("made by synthesis route" in row["why"] for row in first)
    folder = tmp_path / "ways"
    samples = pd.read_csv(folder / "rounds" / "R01" / "samples.csv")
    assert dict(zip(samples["proposal"], samples["route"], strict=True)) == {
        row["proposal_id"]: row["route"] for row in first
    }
    assert "made and tested by: synthesis route" in (folder / "rounds" / "R01" / "recipes.txt").read_text()
    assert pd.read_csv(folder / "rounds" / "R01" / "proposals.csv")["route"].notna().all()

    with Campaign.open(folder) as campaign:
        cells = [
            {"proposal_id": row["proposal_id"], "current_ma_g": 20, "capacity_mah_g": capacity + i}
            for i, row in enumerate(first)
            for capacity in [240 if row["route"] == "sol-gel" else 130]
        ]
        campaign.add_measurements(cells, fine_tune=False, confirmed=True)
        recorded = {m.proposal_id: m.conditions.process for m in campaign.state().valid}
        assert recorded == {row["proposal_id"]: (SOL if row["route"] == "sol-gel" else SOLID) for row in first}
    second = run("propose", "-C", "ways")["proposals"]
    assert [row["route"] for row in second].count("sol-gel") >= 5
    ranked = run("rank", "-C", "ways", "--within", "space", "--top", "5")["rows"]
    unseen = [row for row in ranked if row["source"] == "predicted"]
    assert unseen
    assert {row["route"] for row in unseen} == {"sol-gel"}


def begun(folder: Path, **more: object) -> Path:
    """A campaign over two routes whose space is small."""
    write_campaign(
        folder / "ways.yaml",
        write_small_model(folder / "small"),
        **{
            "space": {**SPACE, "process": LEVELS},
            "objectives": [{"quantity": "capacity"}],
            "constraints": [],
            "batch_size": 6,
            "shortlist": 40,
            "lab": {"min_distance": 0},
            **more,
        },
    )
    return folder / "ways.yaml"


def one_composition(folder: Path, name: str) -> Path:
    """A list of candidates with one composition."""
    path = folder / "one.csv"
    path.write_text(f"composition\n{name}\n")
    return path


FORMULA = "Li1.2Ti0.4Mn0.4O2"


def test_a_composition_is_out_by_each_way_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun(tmp_path)
    one = str(one_composition(tmp_path, FORMULA))
    first = run("propose", "-C", "ways.yaml", "--candidates", one)["proposals"]
    assert {row["composition"] for row in first} == {FORMULA}
    assert sorted(row["route"] for row in first) == sorted(ROUTES)
    done = CliRunner().invoke(main, ["propose", "-C", "ways", "--candidates", one])
    assert done.exit_code == 4, done.output
    with Campaign.open(tmp_path / "ways") as campaign:
        state = campaign.state()
        assert state.takes(FORMULA, SOL)
        assert not state.takes(FORMULA, Process.of({"route": "sol-gel", "firing_temperature_c": 1000}))
        campaign.mark(first[1]["proposal_id"], "failed", reason="XRD: spinel")
    again = run("propose", "-C", "ways", "--candidates", one)["proposals"]
    assert [row["route"] for row in again] == [first[1]["route"]], "what failed may be tried again, the other is out"


def test_a_measured_composition_comes_again_by_the_other_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun(tmp_path, batch_size=1)
    one = str(one_composition(tmp_path, FORMULA))
    (first,) = run("propose", "-C", "ways.yaml", "--candidates", one)["proposals"]
    with Campaign.open(tmp_path / "ways") as campaign:
        cell = {"proposal_id": first["proposal_id"], "current_ma_g": 20, "capacity_mah_g": 130}
        campaign.add_measurements([cell], fine_tune=False, confirmed=True)
    ranked = run("rank", "-C", "ways", "--within", "proposed")["rows"]
    assert [(row["source"], row["route"]) for row in ranked] == [("measured", first["route"])]
    (second,) = run("propose", "-C", "ways", "--candidates", one)["proposals"]
    assert {first["route"], second["route"]} == set(ROUTES)
    assert f"(before: synthesis route {first['route']}" in second["why"]
    ranked = run("rank", "-C", "ways", "--within", "proposed")["rows"]
    assert {(row["source"], row["route"]) for row in ranked} == {
        ("measured", first["route"]),
        ("predicted", second["route"]),
    }


def test_tables_say_how_each_is_made_where_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun(tmp_path)
    one = str(one_composition(tmp_path, FORMULA))
    shown = CliRunner().invoke(main, ["propose", "-C", "ways.yaml", "--candidates", one])
    assert "made by" in shown.stdout.splitlines()[0]
    assert "sol-gel, 900 °C" in shown.stdout
    ranked = CliRunner().invoke(main, ["rank", "-C", "ways"])
    assert "made by" in ranked.stdout.splitlines()[0]
    assert ways_of([{"route": "sol-gel"}, {"route": "sol-gel"}]) == [{}, {}]
    assert ways_of([{"route": "sol-gel"}, {"route": None}]) == [{"made by": "sol-gel"}, {"made by": "-"}]


def test_a_cell_goes_to_the_proposal_that_is_made_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun(tmp_path, conditions={"process": {"route": "solid state"}})
    one = str(one_composition(tmp_path, FORMULA))
    out = {
        row["route"]: row["proposal_id"] for row in run("propose", "-C", "ways.yaml", "--candidates", one)["proposals"]
    }
    assert set(out) == set(ROUTES)
    cell = {"composition": FORMULA, "current_ma_g": 20, "capacity_mah_g": 150}
    with Campaign.open(tmp_path / "ways") as campaign:
        with pytest.raises(MeasurementError, match=r"out by several ways \(R01-0\d by .*Name the proposal, or state"):
            campaign.add_measurements([cell], fine_tune=False)
        campaign.add_measurements([{**cell, "route": "sol-gel"}], fine_tune=False, confirmed=True)
        (measured,) = campaign.state().valid
        assert measured.proposal_id == out["sol-gel"]
        assert measured.conditions.process == SOL
        export = write_discharge(tmp_path / "cell.json", FORMULA, 140.0, LOW)
        campaign.ingest(export, sample=SampleInfo(proposal=out["sol-gel"], cell="B"), fine_tune=False)
        assert len(campaign.state().standing) == 2
        processes = {m.conditions.process for m in campaign.state().standing}
        assert processes == {SOL}, "the way of the proposal goes before what is usual"
        campaign.add_measurements([cell], fine_tune=False, confirmed=True)
        assert campaign.state().standing[-1].proposal_id == out["solid state"], "the only one that is still out"


def test_a_space_with_an_impossible_process_is_one_sentence(tmp_path: Path) -> None:
    write_campaign(
        tmp_path / "bad.yaml", write_small_model(tmp_path / "small"), space={**SPACE, "process": {"rout": ["a"]}}
    )
    done = CliRunner().invoke(main, ["propose", "-C", str(tmp_path / "bad.yaml")])
    assert done.exit_code == 2, done.output
    assert "Did you mean route?" in " ".join(done.stderr.split())
    assert Process.of({"route": "flux"}).row() == {"route": "molten salt"}
