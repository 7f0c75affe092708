"""How a cell was made and tested, from what a laboratory says to what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import lab_files as lab
import pytest
from click.testing import CliRunner
from ledgers import LOW, record_round, write_discharge

from campaigns import Campaign
from campaigns.cli import main
from campaigns.intake.samples import read_samples
from campaigns.loop.forecast import measured_of
from campaigns.loop.outcomes import outcomes_of
from campaigns.report.export import export_campaign
from drxnet.errors import ConfigurationError, UsageError
from drxnet.process import NOT_STATED, Process
from screening.quantities import Capacity

FORMULA = "Li1.2Mn0.4Ti0.4O2"


def row(capacity: float = 200.0, **said: object) -> dict[str, object]:
    return {"composition": FORMULA, "current_ma_g": 20, "capacity_mah_g": capacity, **said}


def test_a_sample_table_states_it_in_columns_of_its_own(tmp_path: Path) -> None:
    table = tmp_path / "samples.csv"
    table.write_text("file;cell;firing_temperatur_c\na.csv;A;900\n")
    with pytest.raises(ConfigurationError, match="did you mean .firing_temperature_c"):
        read_samples(table)
    table.write_text("file;cell;Synthesis route;Firing temperature (°C)\na.csv;A;Sol-Gel;900,5\nb.csv;B;;\n")
    first, second = read_samples(table).values()
    assert first.process == Process.of({"route": "sol-gel", "firing_temperature_c": 900.5})
    assert second.process is None
    table.write_text("file,route\na.csv,by hand\n")
    with pytest.raises(ConfigurationError, match="row 2: route is one of solid state"):
        read_samples(table)


def test_what_a_row_states_is_recorded_and_corrected(campaign: Campaign) -> None:
    record_round(campaign, FORMULA)
    (first,) = campaign.add_measurements([row(cell="A", route="sol-gel")], fine_tune=False)
    state = campaign.state()
    assert state.valid[0].conditions.process == Process.of({"route": "sol-gel"})
    corrected = campaign.update_measurement(first, "it was milled", milled="yes")
    (now,) = campaign.state().valid
    assert now.measurement_id == corrected
    assert now.conditions.process == Process.of({"route": "sol-gel", "milled": "yes"})
    with pytest.raises(UsageError, match="unknown key routes"):
        campaign.add_measurements([row(routes="sol-gel")], fine_tune=False)


def test_the_same_discharge_with_another_statement_is_still_the_same(campaign: Campaign) -> None:
    record_round(campaign, FORMULA)
    assert len(campaign.add_measurements([row(cell="A")], fine_tune=False)) == 1
    assert campaign.add_measurements([row(cell="A", route="sol-gel")], fine_tune=False) == ()
    twice = [row(210.0, cell="B"), row(210.0, cell="B", milled="no")]
    assert len(campaign.add_measurements(twice, fine_tune=False)) == 1


def test_a_file_gets_what_the_command_line_states(campaign: Campaign, tmp_path: Path) -> None:
    record_round(campaign, FORMULA)
    file = write_discharge(tmp_path / "cell.json", FORMULA, 200.0, LOW)
    folder = str(campaign.folder)
    said = ["ingest", "-C", folder, str(file), "--no-finetune", "--process", "route=ssr", "--process", "milled=no"]
    done = CliRunner().invoke(main, said)
    assert done.exit_code == 0, done.output
    (recorded,) = campaign.state().valid
    assert recorded.conditions.process == Process.of({"route": "solid state", "milled": "no"})
    export_campaign(campaign, tmp_path / "all.csv")
    assert "solid state" in (tmp_path / "all.csv").read_text()
    again = CliRunner().invoke(main, ["supersede", "-C", folder, "M0001", "--reason", "x", "--process", "milled=yes"])
    assert again.exit_code == 0, again.output
    assert campaign.state().valid[0].conditions.process.get("milled") == "yes"


def test_what_a_campaign_fixes_holds_where_nothing_else_is_stated(campaign: Campaign) -> None:
    yaml = campaign.folder / "campaign.yaml"
    text = yaml.read_text()
    yaml.write_text(text + "conditions:\n  process: {route: sol-gel, firing_temperature_c: 900}\n")
    with Campaign.open(campaign.folder) as fixed:
        record_round(fixed, FORMULA)
        fixed.add_measurements([row(cell="A"), row(150.0, cell="B", firing_temperature_c=1000)], fine_tune=False)
        one, other = fixed.state().valid
        assert one.conditions.process == Process.of({"route": "sol-gel", "firing_temperature_c": 900})
        assert other.conditions.process.get("firing_temperature_c") == 1000.0
        (outcome,) = outcomes_of(fixed.state(), fixed.spec.goals)
        assert outcome.measured(Capacity(fixed.spec.conditions.low)).mean == 200.0, "what differs is never mixed"
    yaml.write_text(text + "conditions:\n  process: {route: by hand}\n")
    with pytest.raises(ConfigurationError, match="route is one of solid state"):
        Campaign.open(campaign.folder)


def test_nothing_is_stated_where_nobody_says_so(campaign: Campaign) -> None:
    record_round(campaign, FORMULA)
    campaign.add_measurements([row(cell="A")], fine_tune=False)
    assert campaign.state().valid[0].conditions.process == NOT_STATED
    exported = campaign.folder / "all.json"
    export_campaign(campaign, exported)
    assert "route" not in json.loads(exported.read_text())["measurements"][0]


def test_cells_that_were_made_differently_are_never_one_number(campaign: Campaign) -> None:
    record_round(campaign, FORMULA)
    cells = [row(200.0, cell="A", milled="yes"), row(206.0, cell="B"), row(150.0, cell="C", milled="no")]
    campaign.add_measurements(cells, fine_tune=False, confirmed=True)
    goals = campaign.spec.goals
    (outcome,) = outcomes_of(campaign.state(), goals)
    assert outcome.measured(Capacity(goals.rates.low)).mean == 203.0
    milled, plain = measured_of(campaign.state(), goals)
    assert (milled.process, milled.estimates[Capacity(goals.rates.low)].mean) == (Process.of({"milled": "yes"}), 203.0)
    assert (plain.process, plain.estimates[Capacity(goals.rates.low)].mean) == (Process.of({"milled": "no"}), 150.0)
    fixed = goals.under(Process.of({"milled": "no"}))
    (outcome,) = outcomes_of(campaign.state(), fixed)
    assert outcome.measured(Capacity(fixed.rates.low)).mean == 150.0
    assert [m.estimates[Capacity(fixed.rates.low)].mean for m in measured_of(campaign.state(), fixed)] == [203.0, 150.0]


def test_the_temperature_of_rows_is_compared_with_what_is_stated_or_usual(campaign: Campaign, tmp_path: Path) -> None:
    t = lab.rows(220.0, points=40)
    columns = [("Time (s)", t.time_s), ("Voltage (V)", t.voltage_v), ("Current (mA)", t.current_ma)]
    file = tmp_path / "cell.csv"
    file.write_text(lab.text([*columns, ("Temperature (°C)", [55.0] * len(t))]))
    yaml = campaign.folder / "campaign.yaml"
    before = yaml.read_text()
    record_round(campaign, FORMULA)
    handed_in = ["ingest", "-C", str(campaign.folder), str(file), "--no-finetune", "--active-mass-mg", "2"]
    handed_in += ["--composition", FORMULA, "--dry-run"]
    doubted = CliRunner().invoke(main, handed_in)
    assert "--process temperature_c=55" in doubted.output
    assert "would be recorded as doubtful" in doubted.output
    assert "temperature_c" not in CliRunner().invoke(main, [*handed_in, "--process", "temperature_c=55"]).output
    yaml.write_text(before + "conditions:\n  process: {temperature_c: 55}\n")
    done = CliRunner().invoke(main, [word for word in handed_in if word != "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "temperature_c" not in done.output
    with Campaign.open(campaign.folder) as fixed:
        assert fixed.state().valid[0].conditions.process.get("temperature_c") == 55.0


def test_the_temperature_of_a_row_of_a_table_goes_before_what_is_usual(campaign: Campaign, tmp_path: Path) -> None:
    record_round(campaign, FORMULA)
    table = tmp_path / "capacities.csv"
    header = "composition;current (mA/g);window;capacity (mAh/g);temperature (°C)"
    table.write_text(f"{header}\n{FORMULA};20;1.5-4.8;240;55\n{FORMULA};20;1.5-4.8;220;\n")
    said = ["ingest", "-C", str(campaign.folder), str(table), "--no-finetune", "--process", "temperature_c=25"]
    done = CliRunner().invoke(main, said)
    assert done.exit_code == 0, done.output
    recorded = {m.capacity_mah_g: m.conditions.process.get("temperature_c") for m in campaign.state().valid}
    assert recorded == {240.0: 55.0, 220.0: 25.0}
