"""A laboratory's own condition of the process is one row of a table, and every surface knows it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from ledgers import record_round

from campaigns import Campaign
from campaigns.cli import main
from drxnet.checkpoint import ModelCard, save
from drxnet.composition import Composition
from drxnet.dataset import ProfileSet, Record
from drxnet.finetuning import varied_conditions
from drxnet.network import DRXNet, NetworkShape
from drxnet.process import FIELDS, ConditionField, Process
from screening.encoding import Encoding
from screening.goals import Goals, Rates

FORMULA = "Li1.2Mn0.4Ti0.4O2"
PRESSED = ConditionField("pressing_mpa", "pressure of the pellet", "MPa", number=(1.0, 2000.0), tolerance=20)


@pytest.fixture(autouse=True)
def one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FIELDS.builtin, PRESSED.name, PRESSED)


def run(*said: object) -> Result:
    done = CliRunner().invoke(main, [str(s) for s in said])
    assert done.exit_code == 0, done.output
    return done


def test_a_new_condition_is_seen_everywhere(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the network, its card and the command line
    torch.manual_seed(0)
    network = DRXNet(NetworkShape(members=2, process=((PRESSED.name, PRESSED.width),)))
    with torch.no_grad():
        network.process[PRESSED.name].effect.fill_(0.5)
    save(tmp_path / "pressed", network.state_dict(), ModelCard("pressed", 2, process={PRESSED.name: [100.0, 500.0]}))
    plain, pressed = (
        json.loads(run("predict", FORMULA, "--model", tmp_path / "pressed", *said, "--format", "json").stdout)[0]
        for said in ((), ("--process", "pressing_mpa=300"))
    )
    assert pressed["pressing_mpa"] == 300.0
    assert pressed["capacity_mah_g_mean"] != plain["capacity_mah_g_mean"]

    # a sample table, the ledger, the rows of an export and what is learned from
    record_round(campaign, FORMULA)
    monkeypatch.chdir(tmp_path)
    header = "composition,current_ma_g,v_low,v_high,cycle,capacity_mah_g,cell"
    Path("cells.csv").write_text(f"{header}\n{FORMULA},20,1.5,4.8,1,201,A\n")
    Path("samples.csv").write_text("file,Pressure of the pellet (MPa)\ncells.csv,300\n")
    run("ingest", "-C", campaign.folder, "cells.csv", "--samples", "samples.csv", "--no-finetune")
    more = [
        {"composition": FORMULA, "current_ma_g": 20, "capacity_mah_g": 180 + i, "cell": f"B{i}", "pressing_mpa": 100}
        for i in range(2)
    ]
    campaign.add_measurements(more, fine_tune=False, confirmed=True)
    assert [m.conditions.process.get("pressing_mpa") for m in campaign.state().valid] == [300.0, 100.0, 100.0]
    run("export", "-C", campaign.folder, "out.csv")
    assert pd.read_csv("out.csv")["pressing_mpa"].tolist() == [300.0, 100.0, 100.0]
    valid = campaign.state().valid
    records = [Record(Composition.parse(m.composition), m.conditions, None, m.capacity_mah_g) for m in valid]
    profiles = ProfileSet.from_discharges(records, points=8)
    assert varied_conditions(profiles, 1) == {"pressing_mpa": [100.0, 300.0]}

    # a campaign's YAML and the columns of the Gaussian model
    rates = Rates.model_validate({"process": {"pressing_mpa": 300}})
    assert rates.low.process == Process.of({"pressing_mpa": 300})
    assert "pressure of the pellet 300 MPa" in Goals(rates=rates).first.identity
    encoding = Encoding(("Mn", "Ti"), ("pressing_mpa",))
    assert encoding.columns[-2:] == ("pressing_mpa", "pressing_mpa stated")
    assert encoding.encode([Composition.parse(FORMULA)], [rates.process])[0, -2:].tolist() == [300.0, 1.0]
