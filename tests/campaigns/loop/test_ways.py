"""A campaign over compositions and processes, from the proposal to the ranking."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from ledgers import SPACE, write_campaign
from small_model import write_small_model

from campaigns import Campaign
from campaigns.cli import main
from drxnet.process import Process, crossed

LEVELS = {"route": ["solid state", "sol-gel"], "firing_temperature_c": [900]}
SOLID, SOL = crossed(LEVELS)


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


def test_a_space_with_an_impossible_process_is_one_sentence(tmp_path: Path) -> None:
    write_campaign(
        tmp_path / "bad.yaml", write_small_model(tmp_path / "small"), space={**SPACE, "process": {"rout": ["a"]}}
    )
    done = CliRunner().invoke(main, ["propose", "-C", str(tmp_path / "bad.yaml")])
    assert done.exit_code == 2, done.output
    assert "Did you mean route?" in " ".join(done.stderr.split())
    assert Process.of({"route": "flux"}).row() == {"route": "molten salt"}
