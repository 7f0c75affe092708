"""The loop from the command line: contracts, exit codes, and sentences instead of tracebacks."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ledgers import FIRST, HIGH, LOW, SECOND, record_round, write_campaign, write_discharge, write_stub_model
from small_model import FINE_TUNING, write_small_model

from campaigns.campaign import Campaign
from campaigns.cli import main
from drxnet.discharge import CyclingConditions

PROPOSAL_KEYS = {
    "proposal_id",
    "composition",
    "rate_retention_mean",
    "rate_retention_std",
    "rate_retention_lower",
    "rate_retention_upper",
    "low_current_ma_g",
    "high_current_ma_g",
    "capacity_low_mah_g_mean",
    "capacity_low_mah_g_std",
    "capacity_low_mah_g_lower",
    "capacity_low_mah_g_upper",
    "capacity_high_mah_g_mean",
    "capacity_high_mah_g_std",
    "capacity_high_mah_g_lower",
    "capacity_high_mah_g_upper",
    "feasibility",
    "phase_probability",
    "score",
    "domain",
    "why",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a campaign named demo, whose model cannot be loaded."""
    monkeypatch.chdir(tmp_path)
    template = write_campaign(tmp_path / "template.yaml", write_stub_model(tmp_path / "stub"))
    Campaign.start("demo", template).close()
    return tmp_path


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def run_json(*arguments: str | Path, code: int = 0):
    return json.loads(run(*arguments, "--format", "json", code=code).stdout)


def propose_by_hand(*compositions: str) -> None:
    with Campaign.open("demo") as campaign:
        record_round(campaign, *compositions)


@pytest.mark.parametrize("beside", [True, False], ids=["here", "elsewhere"])
def test_a_command_that_a_message_names_can_be_typed_as_it_stands(
    home: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
):
    folder = home / "Kathoden für Jo's Mühle" / "rate"
    with Campaign.start(folder, home / "template.yaml") as campaign:
        record_round(campaign, FIRST)
    write_discharge(home / "one.json", FIRST, 240.0)
    if not beside:
        (home / "away").mkdir()
        monkeypatch.chdir(home / "away")
    source = str(folder.relative_to(home) if beside else folder)
    said = run("ingest", "--campaign", source, home / "one.json", "--no-finetune").stderr
    yaml = folder / "campaign.yaml"
    yaml.write_text(yaml.read_text().replace(str(home / "stub"), str(write_stub_model(home / "other"))))
    said += run("status", "--campaign", source, code=2).stderr
    commands = [shlex.split(line.split("drx-screen ")[1]) for line in said.splitlines() if "drx-screen " in line]
    assert [command[:-1] for command in commands] == [["finetune", "--campaign"], ["init", "NAME", "--from"]]
    assert all((Path(command[-1]) / "campaign.yaml").is_file() for command in commands)


# -- starting --------------------------------------------------------------------------------------------


def test_yaml_starts_a_campaign_of_its_name_on_first_use(home: Path):
    write_campaign(home / "mine.yaml", home / "stub")
    write_discharge(home / "one.json", FIRST, 240.0)
    first = run("ingest", "--campaign", "mine.yaml", "one.json", "--no-finetune")
    assert "Started campaign mine in mine/" in first.stderr
    assert (home / "mine" / "ledger.sqlite").is_file()
    assert (home / "mine" / "models" / "N01" / "model.json").is_file()
    assert "Started" not in run("status", "--campaign", "mine.yaml").stderr
    assert run_json("status", "-C", "mine")["campaign"] == "mine"


def test_yaml_that_was_edited_after_the_start_is_not_ignored(home: Path):
    path = write_campaign(home / "mine.yaml", home / "stub")
    run("init", "mine", "--from", "mine.yaml")
    write_campaign(path, home / "stub", batch_size=5)
    assert "differs from it in batch_size" in run("status", "--campaign", "mine.yaml", code=2).stderr


def test_init_copies_a_campaign_under_a_new_name(home: Path):
    run("init", "other", "--from", "demo")
    assert run_json("status", "--campaign", "other")["campaign"] == "other"
    assert "holds a campaign already" in run("init", "other", "--from", "demo", code=2).stderr


def test_model_of_a_yaml_that_was_edited_after_the_start_is_not_ignored(home: Path):
    path = write_campaign(home / "mine.yaml", Path("stub"))
    run("init", "mine", "--from", "mine.yaml")
    assert "Started" not in run("status", "--campaign", "mine.yaml").stderr
    write_campaign(path, write_stub_model(home / "other"))
    assert "differs from it in model" in run("status", "--campaign", "mine.yaml", code=2).stderr


def test_check_refuses_a_model_that_does_not_exist(home: Path):
    yaml = home / "demo" / "campaign.yaml"
    yaml.write_text(yaml.read_text().replace(str(home / "stub"), "nosuchmodel"))
    assert "No model 'nosuchmodel'" in " ".join(run("check", "--campaign", "demo", code=2).stderr.split())


def test_init_with_a_bad_name_leaves_nothing_behind(home: Path):
    for _ in range(2):
        assert "holds letters" in " ".join(run("init", "my camp", "--from", "demo", code=2).stderr.split())
    assert not (home / "my camp").exists()


def test_init_takes_the_files_that_a_campaign_refers_to_along(home: Path):
    (home / "mine.csv").write_text(f"composition\n{FIRST}\n")
    write_campaign(home / "listed.yaml", home / "stub", space="mine.csv")
    run("init", "listed", "--from", "listed.yaml")
    (home / "mine.csv").unlink()
    assert run_json("status", "--campaign", "listed")["space"] == "mine.csv"


def test_campaign_moves_with_its_folder(home: Path):
    propose_by_hand(FIRST)
    (home / "demo").rename(home / "moved")
    assert run_json("status", "--campaign", "moved")["round"] == 1


# -- looking and deciding --------------------------------------------------------------------------------


def test_status_has_the_keys_of_the_contract(home: Path):
    propose_by_hand(FIRST, SECOND)
    found = run_json("status", "--campaign", "demo")
    assert {"campaign", "round", "proposals", "measurements", "profiles", "model"} <= set(found)
    assert found["proposals"]["proposed"] == 2
    text = run("status", "--campaign", "demo").stdout
    assert "2 proposed" in text
    listed = run("status", "--campaign", "demo", "--proposals", "--format", "csv").stdout
    assert [row["proposal_id"] for row in csv.DictReader(io.StringIO(listed))] == ["R01-01", "R01-02"]


def test_mark_moves_proposals_and_the_log_says_who(home: Path):
    propose_by_hand(FIRST, SECOND)
    run("mark", "--campaign", "demo", "R01-01", "accepted")
    run("mark", "--campaign", "demo", "r01-02", "failed", "--reason", "melted")
    assert run_json("status", "--campaign", "demo")["proposals"]["failed"] == 1
    events = run_json("log", "--campaign", "demo")
    same = run("mark", "--campaign", "demo", "R01-02", "failed", "--reason", "melted").stderr
    assert "R01-02: failed already; nothing changed." in same
    assert run_json("log", "--campaign", "demo") == events
    assert [e["verb"] for e in events] == ["init", "propose", "mark", "mark"]
    assert "melted" in events[-1]["summary"]
    assert events[-1]["who"]
    assert events[-1]["versions"]["python"]
    assert len(run_json("log", "--campaign", "demo", "--last", "2")) == 2


def test_the_log_is_read_by_the_clock_on_the_wall_and_written_in_utc(home: Path, monkeypatch: pytest.MonkeyPatch):
    propose_by_hand(FIRST)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        shown = run("log", "--campaign", "demo").stdout.splitlines()[1]
        at = run_json("log", "--campaign", "demo")[0]["at"]
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert at.endswith("+00:00")
    there = datetime.fromisoformat(at) + timedelta(hours=5, minutes=30)
    assert there.strftime("%Y-%m-%d %H:%M:%S +0530") in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["R01-01", "broken"], "Give proposals and then one of"),
        (["failed"], "Give proposals and then one of"),
        (["R01-01", "failed"], "Say why it failed"),
        (["R01-09", "accepted"], "No proposal 'R01-09' in campaign demo. It has R01-01"),
        (["R01-01", "measured"], "Give proposals and then one of"),
    ],
    ids=["state", "nothing", "reason", "unknown", "measured"],
)
def test_mark_that_makes_no_sense_is_refused(home: Path, arguments: list[str], message: str):
    propose_by_hand(FIRST)
    assert message in run("mark", "--campaign", "demo", *arguments, code=2).stderr
    assert run_json("status", "--campaign", "demo")["proposals"]["proposed"] == 1


def test_as_of_answers_as_it_was(home: Path):
    propose_by_hand(FIRST)
    run("ingest", "--campaign", "demo", write_discharge(home / "a.json", FIRST, 240.0), "--no-finetune")
    propose_by_hand(SECOND)
    assert run_json("status", "--campaign", "demo", "--as-of", "R01")["measurements"] == 0
    assert run_json("status", "--campaign", "demo", "--as-of", "2")["measurements"] == 1
    assert len(run_json("log", "--campaign", "demo", "--as-of", "R01")) == 2
    assert "no round R07" in run("status", "--campaign", "demo", "--as-of", "R07", code=2).stderr
    assert "named like R03" in run("status", "--campaign", "demo", "--as-of", "soon", code=2).stderr


# -- what comes back -------------------------------------------------------------------------------------


def test_ingest_records_compares_and_says_what_is_not_learned(home: Path):
    propose_by_hand(FIRST)
    result = run("ingest", "--campaign", "demo", write_discharge(home / "a.json", FIRST, 240.0), "--no-finetune")
    assert "1 discharges are not learned from yet" in result.stderr
    assert "275 ± 8" in result.stdout
    assert "240.0" in result.stdout
    (known,) = run_json("ingest", "--campaign", "demo", home / "a.json", "--no-finetune")["files"]
    assert (known["status"], known["proposals"], known["measurements"]) == ("known", ["R01-01"], [])


def test_what_was_predicted_for_other_rates_is_not_said_to_be_never_proposed(home: Path):
    propose_by_hand(FIRST)
    yaml = home / "demo" / "campaign.yaml"
    yaml.write_text(yaml.read_text() + "conditions: {low_current_ma_g: 10}\n")
    write_discharge(home / "a.json", FIRST, 240.0, CyclingConditions(10.0))
    shown = run("ingest", "-C", "demo", "a.json", "--no-finetune").stdout
    assert "R01-01" in shown
    assert "not predicted" in shown


def test_ingest_that_cannot_be_learned_from_is_recorded_all_the_same(home: Path):
    """The model of this campaign cannot be loaded, which is as good a failure of fine-tuning as any."""
    done = run("ingest", "--campaign", "demo", write_discharge(home / "a.json", FIRST, 240.0), "--format", "json")
    content = json.loads(done.stdout)
    assert (content["files"][0]["status"], content["fine_tuning"]) == ("recorded", None)
    assert "Recorded, but not learned from" in done.stderr
    write_discharge(home / "b.json", FIRST, 200.0)
    write_discharge(home / "c.json", FIRST, 900.0)
    assert "recorded" in run("ingest", "--campaign", "demo", "b.json", "c.json", code=3).stdout
    assert run_json("status", "--campaign", "demo")["measurements"] == 2


def test_any_failure_of_fine_tuning_leaves_the_ingest_recorded(home: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("campaigns.loop.finetune.fine_tune_campaign", fails)
    content = run_json("ingest", "--campaign", "demo", write_discharge(home / "a.json", FIRST, 240.0))
    assert content["files"][0]["measurements"] == ["M0001"]


def test_wrong_mass_that_was_retracted_is_corrected_by_the_name_of_the_file(home: Path):
    run("ingest", "--campaign", "demo", write_discharge(home / "a.json", FIRST, 240.0), "--no-finetune")
    run("retract", "--campaign", "demo", "a.json", "--reason", "wrong active mass")
    again = run("ingest", "--campaign", "demo", "a.json", "--no-finetune").stderr
    assert "drx-screen supersede a.json --active-mass" in " ".join(again.split())
    run("supersede", "--campaign", "demo", "a.json", "--active-mass", "5.2", "6.5", "--reason", "re-weighed")
    assert run_json("status", "--campaign", "demo")["measurements"] == 1
    complaint = run("retract", "--campaign", "demo", "M0001", "--reason", "again", code=2).stderr
    assert "M0001 was superseded before: wrong active mass" in complaint
    assert "drx-screen supersede" in run("retract", "--help").stdout


def test_refused_file_exits_with_3_and_the_rule(home: Path):
    folder = home / "in"
    folder.mkdir()
    write_discharge(folder / "good.json", FIRST, 240.0)
    write_discharge(folder / "much.json", FIRST, 900.0)
    result = run("ingest", "--campaign", "demo", folder, "--no-finetune", code=3)
    assert "much.json: refused" in result.stderr
    assert "E3" in result.stderr
    assert run_json("status", "--campaign", "demo")["measurements"] == 1
    assert run_json("status", "--campaign", "demo")["refused_files"] == 1


def test_all_or_nothing_and_dry_run_record_nothing(home: Path):
    good, bad = write_discharge(home / "a.json", FIRST, 240.0), write_discharge(home / "b.json", FIRST, 900.0)
    run("ingest", "--campaign", "demo", good, bad, "--all-or-nothing", "--no-finetune", code=3)
    assert "would be recorded" in run("ingest", "--campaign", "demo", good, "--dry-run").stderr
    assert run_json("status", "--campaign", "demo")["measurements"] == 0


def test_retract_takes_measurements_proposals_and_files(home: Path):
    propose_by_hand(FIRST, SECOND)
    for name, formula, conditions in (("a", FIRST, LOW), ("b", FIRST, HIGH), ("c", SECOND, LOW)):
        path = write_discharge(home / f"{name}.json", formula, 150.0, conditions)
        run("ingest", "--campaign", "demo", path, "--no-finetune")
    run("retract", "--campaign", "demo", "m0001", "--reason", "shorted")
    run("retract", "--campaign", "demo", "c.json", "--reason", "wrong mass")
    run("retract", "--campaign", "demo", "R01-01", "--reason", "wrong powder")
    found = run_json("status", "--campaign", "demo")
    assert (found["measurements"], found["withdrawn"]) == (0, 3)
    assert found["proposals"]["accepted"] == 2
    assert "shorted" in run("retract", "--campaign", "demo", "M0001", "--reason", "again", code=2).stderr
    assert "No measurement" in run("retract", "--campaign", "demo", "M0099", "--reason", "x", code=2).stderr


def test_supersede_corrects_a_mass_and_swapped_labels(home: Path):
    propose_by_hand(FIRST, SECOND)
    for name, conditions in (("a", LOW), ("b", HIGH)):
        write_discharge(home / f"{name}.json", FIRST, 150.0, conditions)
        run("ingest", "--campaign", "demo", home / f"{name}.json", "--no-finetune")
    why = ("--reason", "re-weighed")
    said = run("supersede", "--campaign", "demo", "a.json", "--active-mass", "5.0", "6.0", *why).stderr
    assert "M0001 is superseded by M0003: 125.0 mAh/g at 16.67 mA/g (before: 20) of R01-01" in " ".join(said.split())
    run("supersede", "--campaign", "demo", "M0002", "M0003", "--proposal", "R01-02", "--reason", "labels swapped")
    run("export", "--campaign", "demo", "all.json", "--withdrawn")
    exported = json.loads((home / "all.json").read_text())["measurements"]
    assert [m["status"] for m in exported] == ["superseded"] * 3 + ["valid"] * 2
    assert {m["proposal_id"] for m in exported if m["status"] == "valid"} == {"R01-02"}
    assert sorted(round(m["capacity_mah_g"]) for m in exported if m["status"] == "valid") == [125, 150]
    # the file is known still, and taking it back by its name takes back what stands for it now
    assert run_json("status", "--campaign", "demo")["withdrawn"] == 3
    run("retract", "--campaign", "demo", "a.json", "--reason", "shorted")
    assert run_json("status", "--campaign", "demo")["measurements"] == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["M0001"], "nothing is"),
        (["M0001", "M0002", "--capacity", "100"], "of one measurement"),
        (["M0001", "--capacity", "900"], "between 0 and that of all lithium"),
        (["M0001", "--capacity", "100", "--active-mass", "5", "6"], "not both"),
        (["M0001", "--active-mass", "5", "0"], "0.0 is not in the range"),
        (["M0001", "--proposal", "R09-01"], "R09-01"),
        (["M0002", "--current", "20", "--cell", "a"], "has this discharge already"),
        (["M0077", "--capacity", "100"], "No measurement"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_supersede_refuses_what_makes_no_sense_and_changes_nothing(home: Path, arguments: list[str], complaint: str):
    propose_by_hand(FIRST)
    for name, conditions in (("a", LOW), ("b", HIGH)):
        write_discharge(home / f"{name}.json", FIRST, 150.0, conditions)
        run("ingest", "--campaign", "demo", home / f"{name}.json", "--no-finetune")
    said = CliRunner().invoke(main, ["supersede", "--campaign", "demo", *arguments, "--reason", "test"])
    assert said.exit_code in (2, 3)
    assert complaint in " ".join(said.stderr.split())
    assert run_json("status", "--campaign", "demo")["withdrawn"] == 0


def test_rank_within_measured_has_the_keys_of_the_contract(home: Path):
    propose_by_hand(FIRST)
    for name, conditions, capacity in (("a", LOW, 240.0), ("b", HIGH, 150.0)):
        path = write_discharge(home / f"{name}.json", FIRST, capacity, conditions)
        run("ingest", "--campaign", "demo", path, "--no-finetune")
    ranking = run_json("rank", "--campaign", "demo", "--by", "rate-retention", "--within", "measured")
    assert ranking["by"] == "rate-retention"
    (row,) = ranking["rows"]
    assert {"rank", "source", *PROPOSAL_KEYS} <= set(row)
    assert (row["rank"], row["source"]) == (1, "measured")
    assert row["rate_retention_mean"] == pytest.approx(150 / 240, abs=0.01)
    assert "measured" in run("rank", "--campaign", "demo", "--within", "measured").stdout


def test_export_writes_what_can_be_read_back(home: Path):
    run("ingest", "--campaign", "demo", write_discharge(home / "a.json", FIRST, 240.0, cycles=3), "--no-finetune")
    run("ingest", "--campaign", "demo", write_discharge(home / "b.json", SECOND, 200.0), "--no-finetune")
    run("retract", "--campaign", "demo", "b.json", "--reason", "wrong mass")
    run("export", "--campaign", "demo", "out.csv")
    rows = list(csv.DictReader(io.StringIO((home / "out.csv").read_text())))
    assert [int(r["cycle"]) for r in rows] == [1, 2, 3]
    run("export", "--campaign", "demo", "all.json", "--withdrawn")
    everything = json.loads((home / "all.json").read_text())
    assert [m["status"] for m in everything["measurements"]] == ["valid"] * 3 + ["retracted"]
    assert len(everything["measurements"][0]["profile"]["voltage_v"]) == 100
    run("export", "--campaign", "demo", "td.csv", "--form", "drx-td")
    write_campaign(home / "fresh.yaml", home / "stub")
    (back,) = run_json("ingest", "--campaign", "fresh.yaml", "td.csv", "--no-finetune")["files"]
    assert (back["status"], back["discharges"]) == ("recorded", 3)
    with Campaign.open("demo") as demo, Campaign.open("fresh") as fresh:
        pairs = list(zip(demo.state().valid, fresh.state().valid, strict=True))
    assert all(a.capacity_mah_g == pytest.approx(b.capacity_mah_g, rel=1e-6) for a, b in pairs)
    assert "cannot tell the form" in run("export", "--campaign", "demo", "out.xyz", code=2).stderr


# -- what goes wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["status", "--campaign", "he-rat"], 2, "Did you mean he-rate"),
        (["status", "--campaign", "empty"], 2, "holds a campaign.yaml"),
        (["status", "--campaign", "broken.yaml"], 2, "unknown key 'batchsize'; did you mean 'batch_size'"),
        (["mark", "--campaign", "modelless.yaml", "R01-01", "accepted"], 2, "No model 'nowhere'"),
        (["status", "--campaign", "corrupt"], 5, "corrupt"),
        (["ingest", "--campaign", "demo", "missing.json"], 2, "no such file"),
        (["ingest", "--campaign", "demo", "a.json", "--proposal", "R01-09"], 2, "No proposal 'R01-09'"),
        (["ingest", "--campaign", "demo", "notes.txt", "--no-finetune"], 3, "notes.txt: refused"),
        (["finetune", "--campaign", "demo"], 3, "weights.safetensors"),
        (["export", "--campaign", "demo", "x.csv"], 2, "no measurement to export"),
        (["rank", "--campaign", "demo", "--by", "beauty"], 2, "beauty"),
        (["rank", "--campaign", "demo", "--by", "capasity"], 2, "Did you mean capacity?"),
        (["mark", "--campaign", "demo", "R01-01", "faild"], 2, "Did you mean failed?"),
        (
            ["rank", "--campaign", "demo", "--within", "measured", "--by", "capacity-retention", "--cycle", "1"],
            2,
            "later",
        ),
    ],
    ids=lambda v: "-".join(v)[:40] if isinstance(v, list) else None,
)
def test_bad_input_ends_in_a_sentence_and_its_exit_code(home: Path, arguments: list[str], code: int, message: str):
    (home / "empty").mkdir()
    (home / "corrupt").mkdir()
    (home / "corrupt" / "campaign.yaml").write_text((home / "demo" / "campaign.yaml").read_text())
    (home / "corrupt" / "ledger.sqlite").write_bytes(b"this is no database, however long it goes on " * 30)
    write_campaign(home / "broken.yaml", home / "stub", batchsize=3)
    write_campaign(home / "modelless.yaml", Path("nowhere"))
    (home / "notes.txt").write_text("Dear diary\n")
    write_discharge(home / "a.json", FIRST, 240.0)
    before = run_json("status", "--campaign", "demo")
    result = run(*arguments, code=code)
    assert message in result.output
    after = run_json("status", "--campaign", "demo")
    assert {k: v for k, v in after.items() if k != "refused_files"} == {
        k: v for k, v in before.items() if k != "refused_files"
    }


def test_ledger_that_somebody_else_is_writing_exits_with_5(home: Path, monkeypatch: pytest.MonkeyPatch):
    propose_by_hand(FIRST)
    monkeypatch.setattr("campaigns.ledger.database.TIMEOUT_S", 0.2)
    other = sqlite3.connect(home / "demo" / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        result = CliRunner().invoke(main, ["mark", "--campaign", "demo", "R01-01", "accepted"])
        assert run_json("status", "--campaign", "demo")["round"] == 1  # readers do not wait
    finally:
        other.close()
    assert result.exit_code == 5
    assert "another process is writing" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["status", "--campaign", "demo"],
        ["log", "--campaign", "demo"],
        ["rank", "--campaign", "demo", "--within", "measured"],
        ["ingest", "--campaign", "demo", "a.json", "--no-finetune"],
        ["mark", "--campaign", "demo", "R01-02", "accepted"],
        ["retract", "--campaign", "demo", "M0001", "--reason", "test"],
    ],
    ids=lambda a: a[0],
)
def test_commands_that_need_no_network_load_none(home: Path, arguments: list[str]):
    propose_by_hand(FIRST, SECOND)
    write_discharge(home / "a.json", FIRST, 240.0)
    write_discharge(home / "b.json", FIRST, 150.0, HIGH)
    run("ingest", "--campaign", "demo", "b.json", "--no-finetune")
    program = (
        "import sys\nfrom campaigns.cli import main\n"
        f"code = None\ntry:\n    main({arguments!r})\nexcept SystemExit as end:\n    code = end.code\n"
        "print(code, [m for m in ('torch', 'botorch', 'gpytorch', 'ray') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=home, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "0 []", done.stderr


# -- with a network --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a campaign whose model is real, and small."""
    folder = tmp_path_factory.mktemp("real")
    model = write_small_model(folder / "small")
    Campaign.start(folder / "live", write_campaign(folder / "t.yaml", model, fine_tuning=FINE_TUNING)).close()
    return folder


def test_propose_prints_the_contract_and_leaves_a_round_behind(real: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(real)
    dry = run_json("propose", "--campaign", "live", "--dry-run")
    assert run_json("status", "--campaign", "live")["round"] == 0
    done = run("propose", "--campaign", "live", "--format", "json")
    content = json.loads(done.stdout)
    assert content == dry
    assert set(content) == {"round", "model", "proposals", "prospect"}
    assert [set(p) for p in content["proposals"]] == [PROPOSAL_KEYS] * 3
    assert all(p["domain"] in ("inside", "edge", "outside") for p in content["proposals"])
    assert "live/rounds/R01/report.html" in done.stderr
    table = list(csv.DictReader(io.StringIO((real / "live" / "rounds" / "R01" / "proposals.csv").read_text())))
    assert [row["composition"] for row in table] == [p["composition"] for p in content["proposals"]]

    second = run("propose", "--campaign", "live", "-n", "2", "--strategy", "random")
    lines = second.stdout.splitlines()
    assert "R02-01" in second.stdout
    assert max(map(len, lines[: lines.index("")])) <= 140
    state = run_json("status", "--campaign", "live")
    assert (state["round"], state["proposals"]["proposed"]) == (2, 5)

    path = write_discharge(real / "a.json", content["proposals"][0]["composition"], 200.0)
    learned = run_json("ingest", "--campaign", "live", path, "--proposal", "R01-01")["fine_tuning"]
    assert learned["measurements"] == 1
    assert "single profile" in learned["sentence"]
    again = run("finetune", "--campaign", "live")
    assert "Nothing new to learn from" in again.stderr

    rows = run_json("rank", "--campaign", "live")["rows"]
    assert [r["source"] for r in rows] == ["predicted"] * 5
    space = run_json("rank", "--campaign", "live", "--within", "space", "--by", "capacity", "--top", "3")["rows"]
    lower = [r["capacity_low_mah_g_lower"] for r in space]
    assert lower == sorted(lower, reverse=True)


def test_nothing_left_to_propose_exits_with_4(real: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(real)
    (real / "few.csv").write_text(f"composition\n{FIRST}\n{SECOND}\n")
    run("init", "few", "--from", "live")
    few = run_json("propose", "--campaign", "few", "--candidates", "few.csv")
    assert {p["composition"] for p in few["proposals"]} == {FIRST, SECOND}
    assert "Nothing left to propose" in run("propose", "--campaign", "few", "--candidates", "few.csv", code=4).stderr
    assert "column 'composition'" in run("propose", "-C", "few", "--candidates", "t.yaml", code=2).stderr


def test_later_cycles_alone_are_recorded_and_not_learned_from(real: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(real)
    run("init", "late", "--from", "live")
    rows = "".join(f"{FIRST},20,1.5,4.8,{cycle},{240 - cycle}\n" for cycle in (5, 6))
    (real / "late.csv").write_text(f"composition,current_ma_g,v_low,v_high,cycle,capacity_mah_g\n{rows}")
    content = run_json("ingest", "--campaign", "late", "late.csv")
    assert (content["files"][0]["status"], content["fine_tuning"]) == ("recorded", None)
    assert run_json("status", "--campaign", "late")["measurements"] == 2


def test_check_counts_and_estimates(real: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(real)
    found = run_json("check", "--campaign", "live")
    assert found["candidates"] > 100
    assert found["candidates_per_s_and_core"] > 0
    assert found["engine"] == "eager"  # too few to compile for
    assert found["candidates_per_s_and_core_eager"] > 0
    assert found["candidates_per_s_and_core_fused"] > 0
    assert found["walk_s_on_64_cores"] <= found[f"walk_s_on_{os.cpu_count()}_cores"]
    assert Path(found["folder"]).name == "live"


def test_check_warns_of_conditions_that_the_data_do_not_hold(real: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(real)
    yaml = (real / "live" / "campaign.yaml").read_text()
    (real / "narrow.yaml").write_text(yaml + "\nconditions: {v_low: 3.0, v_high: 3.9}\nname: narrow\n")
    said = " ".join(run("check", "--campaign", "narrow.yaml").stderr.split())
    assert "Upper cut-off 3.9 V: below 4 V the model has hardly any data" in said
    assert "Lower cut-off 3 V lies outside the 1-2.5 V of the training data" in said
    assert "training data" not in run("check", "--campaign", "live").stderr


# -- doubts, findings, identity ----------------------------------------------------------------------------


def test_doubtful_measurements_are_listed_until_confirmed(home: Path):
    propose_by_hand(FIRST)
    for name, conditions, capacity in (("slow", LOW, 152.0), ("fast", HIGH, 201.0)):
        write_discharge(home / f"{name}.json", FIRST, capacity, conditions)
    done = run_json("ingest", "--campaign", "demo", "slow.json", "fast.json", "--no-finetune")
    assert [f["status"] for f in done["files"]] == ["doubtful", "doubtful"]
    assert [f["rules"][-1]["id"] for f in done["files"]] == ["J1", "J1"]
    found = run_json("status", "--campaign", "demo")
    assert (found["doubtful"], found["measurements"], found["not_learned_from"]) == (2, 0, 0)
    said = run("status", "--campaign", "demo")
    assert "M0001 of R01-01 (J1)" in said.stdout
    assert "drx-screen confirm --campaign demo M0001" in " ".join(said.stderr.split())
    assert run_json("rank", "--campaign", "demo", "--within", "measured")["rows"] == []
    assert "Doubtful, not counted" in run("rank", "--campaign", "demo", "--within", "measured").stderr
    assert "Confirmed M0001, M0002" in run("confirm", "--campaign", "demo", "R01-01", "--reason", "odd but so").stderr
    assert run_json("status", "--campaign", "demo")["doubtful"] == 0
    assert len(run_json("rank", "--campaign", "demo", "--within", "measured")["rows"]) == 1
    assert "is doubted" in run("confirm", "--campaign", "demo", "R01-01", code=2).stderr
    assert "No measurement" in run("confirm", "--campaign", "demo", "M0099", code=2).stderr
    assert (
        "swapped" in run("validate", "--explain", "J1").stdout
        or "exchanged" in run("validate", "--explain", "J1").stdout
    )


def test_what_was_found_is_marked_and_shown(home: Path):
    propose_by_hand(FIRST, SECOND)
    why = ("--reason", "two phases", "--phases", "rocksalt 80, Li3NbO4 20")
    run("mark", "--campaign", "demo", "R01-01", "failed", *why)
    run("mark", "--campaign", "demo", "R01-02", "--single-phase", "yes", "--icp", "Li1.17Mn0.62Nb0.21O2")
    rows = {r["proposal_id"]: r for r in run_json("status", "--campaign", "demo", "--proposals")["rows"]}
    assert (rows["R01-01"]["state"], rows["R01-01"]["phases"]) == ("failed", "rocksalt 80, Li3NbO4 20")
    assert rows["R01-02"]["phases"] == "single-phase"
    assert rows["R01-02"]["measured_composition"] == "Li1.17Mn0.62Nb0.21O2"
    (home / "xrd.csv").write_text("proposal,phases\nR01-02,spinel\n")
    run("mark", "--campaign", "demo", "--table", "xrd.csv")
    rows = {r["proposal_id"]: r for r in run_json("status", "--campaign", "demo", "--proposals")["rows"]}
    assert rows["R01-02"]["phases"] == "spinel"
    assert "not both" in run("mark", "--campaign", "demo", "R01-01", "--table", "xrd.csv", code=2).stderr
    assert "Got ''" in run("mark", "--campaign", "demo", code=2).stderr


def test_dry_run_speaks_in_the_conditional_throughout(home: Path):
    write_discharge(home / "a.json", FIRST, 240.0)
    write_discharge(home / "b.json", FIRST, 900.0)
    said = run("ingest", "--campaign", "demo", "a.json", "b.json", "--dry-run", code=3).stderr
    assert "a.json: would be recorded" in said
    assert "b.json: would be refused" in said
    assert "would be attached as made by the lab" in " ".join(said.split())


def test_ledger_of_the_first_version_is_read_and_written(home: Path):
    from ledgers import make_first_version

    propose_by_hand(FIRST)
    run("ingest", "--campaign", "demo", write_discharge(home / "a.json", FIRST, 240.0), "--no-finetune")
    with Campaign.open("demo") as campaign:
        make_first_version(campaign.ledger)
    found = run_json("status", "--campaign", "demo")
    assert (found["measurements"], found["doubtful"]) == (1, 0)
    run("ingest", "--campaign", "demo", write_discharge(home / "b.json", FIRST, 238.0), "--no-finetune")
    assert run_json("status", "--campaign", "demo")["measurements"] == 2
