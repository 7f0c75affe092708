"""What every command shares: its rows as csv, whatever they are."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from ledgers import FIRST, write_campaign, write_discharge, write_stub_model
from small_model import FINE_TUNING
from synthetic import linear_profiles

from campaigns.campaign import Campaign
from campaigns.cli import console as console_module
from campaigns.cli import main
from campaigns.cli.console import emit, fitting, print_table
from drxnet import checkpoint
from drxnet.ensemble import Ensemble
from drxnet.errors import ImpossibleValue

ROOT = Path(__file__).parents[3]

TRAINING = """
members: 2
epochs: 1
profiles_per_batch: 16
points_per_profile: 10
network: {layers: 1, heads: 1, attention_hidden: 8}
"""
LIVE, SMALL, OPTIONS = ["--campaign", "live"], ["--model", "small"], ["--options", "options.yaml"]
MAP = ["--points", "3", "--fix", "Ti=0.2", "--cycle", "1", "--plot", "map.png"]
BACKTEST = ["--rounds", "1", "--repeats", "1", "--candidates", "40", "--no-finetune", "--strategy", "greedy"]
CASES = {
    "backtest": (["backtest", *LIVE, *BACKTEST], "strategy"),
    "check": (["check", *LIVE], "candidates"),
    "data summary": (["data", "summary", "set.npz"], "element"),
    "enumerate": (["enumerate", "--space", "tiny", "--count"], "count"),
    "enumerate sample": (["enumerate", "--space", "tiny", "--sample", "2"], "composition"),
    "evaluate": (["evaluate", "--data", "set.npz", *SMALL, "--test", "HE"], "family"),
    "explain": (["explain", FIRST, "--space", "tiny"], "in_space"),
    "finetune": (["finetune", *LIVE], "sentence"),
    "ingest": (["ingest", *LIVE, "a.json", "--no-finetune"], "status"),
    "log": (["log", *LIVE], "verb"),
    "map": (["map", *SMALL, *MAP], "capacity_mah_g_mean"),
    "models list": (["models", "list"], "model_id"),
    "models show": (["models", "show", "small"], "model_id"),
    "predict": (["predict", FIRST, *SMALL, "--profile"], "capacity_mah_g_mean"),
    "propose": (["propose", *LIVE, "--dry-run"], "proposal_id"),
    "rank": (["rank", *LIVE, "--within", "measured", "--by", "capacity"], "composition"),
    "recipe": (["recipe", FIRST], "mass_g"),
    "reproduce": (["reproduce", "fig5", *SMALL], "paper"),
    "status": (["status", *LIVE], "proposals.measured"),
    "status proposals": (["status", *LIVE, "--proposals"], "proposal_id"),
    "train": (["train", "--data", "set.npz", "--out", "mine", *OPTIONS], "model_id"),
    "validate": (["validate", "a.json"], "capacity_mah_g"),
    "verify": (["verify", *LIVE], "sound"),
}
"""Arguments of every command that takes --format, and a column that its csv must hold."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a measured campaign, a model, a data set and a returned file."""
    folder = tmp_path_factory.mktemp("csv")
    small = Ensemble.load("default").subset([0, 1, 2])  # one plays the laboratory of `backtest`
    model = folder / "small"
    checkpoint.save(model, small.network.state_dict(), small.card)
    campaign = Campaign.start(folder / "live", write_campaign(folder / "t.yaml", model, fine_tuning=FINE_TUNING))
    write_discharge(folder / "a.json", FIRST, 240.0)
    with campaign:
        campaign.add_measurements([folder / "a.json"], fine_tune=False)
    linear_profiles(32, 34).save(folder / "set.npz")
    (folder / "options.yaml").write_text(TRAINING)
    return folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("case", CASES)
def test_csv_is_a_table(case: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    arguments, column = CASES[case]
    header, *rows = csv.reader(io.StringIO(run(*arguments, "--format", "csv")))
    assert column in header
    assert rows
    assert {len(row) for row in rows} == {len(header)}
    assert not any(cell.startswith(("{", "[")) for row in rows for cell in row)


def test_csv_of_every_command_with_a_format_is_tested() -> None:
    def with_format(group: click.Group, prefix: str = "") -> list[str]:
        found = []
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                found += with_format(command, f"{name} ")
            elif any("--format" in parameter.opts for parameter in command.params):
                found.append(prefix + name)
        return found

    assert set(with_format(main)) <= set(CASES)


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["rank", "--within", "measured"], ""),
        (["status", "--proposals"], ""),
        (["status"], "campaign,"),
        (["log"], "number,"),
    ],
    ids=" ".join,
)
def test_csv_of_a_new_campaign_has_no_bogus_row(
    arguments: list[str], first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Campaign.start("demo", write_campaign(tmp_path / "t.yaml", write_stub_model(tmp_path / "stub"))).close()
    said = run(*arguments, "--campaign", "demo", "--format", "csv")
    assert said.startswith(first) if first else said == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], ""),
        ({"by": "cost", "rows": []}, ""),
        ({"round": 1, "proposals": [{"id": "R01-01", "members": [1, 2]}]}, "id\nR01-01\n"),
        ({"proposals": {"measured": 2}, "missing": [], "best": None}, "proposals.measured,best\n2,\n"),
        ([{"a": 1, "b": None}, {"a": 2, "b": {"c": 3}, "d": 4}], "a,d\n1,\n2,4\n"),
    ],
    ids=["nothing", "no rows", "nested values", "one row", "rows that differ"],
)
def test_csv_leaves_out_what_is_nested(content: object, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    emit("csv", content)
    assert capsys.readouterr().out == expected
    emit("json", content)
    assert json.loads(capsys.readouterr().out) == content


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ImpossibleValue("Cycles are counted from 1. Got 0."), 2, "Error: Cycles are counted from 1. Got 0.\n"),
        (
            ValueError("operands could not be broadcast"),
            1,
            "Error: ValueError: operands could not be broadcast. This is",
        ),
        (KeyError("La"), 1, "Error: KeyError: 'La'. This is a defect of drx-screen"),
    ],
    ids=["mistake", "value", "key"],
)
def test_only_what_a_user_can_mend_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main.commands["models"].commands["list"], "callback", lambda **_: fail())
    result = CliRunner().invoke(main, ["models", "list"])
    assert result.exit_code == code
    assert result.stderr.startswith(said)


@pytest.mark.parametrize("arguments", [["models", "list"], ["enumerate", "--space", "tiny", "--sample", "5"]])
def test_a_pipe_that_nobody_reads_ends_the_command_in_silence(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "campaigns.cli", *arguments], stdout=write, stderr=subprocess.PIPE, cwd=ROOT, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_no_color_is_heeded_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    print_table([{"capacity_mah_g": 240.0}])
    shown = capsys.readouterr().out
    assert "240" in shown
    assert re.findall(r"\x1b\[[0-9;]*m", shown) == []


LONG = "Li1.25Mg0.1Ti0.05Cr0.1Mn0.2Ni0.05Nb0.25O1.75F0.25"
WIDE = [
    {
        "id": "R01-03",
        "composition": LONG,
        "retention": "0.77 ± 0.18",
        "lower": "0.54",
        "Q(20 mA/g)": "291 ± 30",
        "Q(1000 mA/g)": "224 ± 56",
        "feasible": "99%",
        "domain": "inside",
    }
]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_at(width: int, rows: list[dict], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """What a terminal of a width shows of rows, and what is said beside them."""
    out, said = [], []
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", _Terminal())
    monkeypatch.setattr(console_module, "_print", lambda text, err: (said if err else out).append(text))
    print_table(rows)
    return "".join(out), "".join(said)


def test_a_narrow_terminal_leaves_columns_out_and_breaks_no_formula(monkeypatch: pytest.MonkeyPatch):
    table, said = shown_at(80, WIDE, monkeypatch)
    assert LONG in table
    assert all(len(line) <= 80 for line in table.splitlines())
    assert len(table.splitlines()) == 2
    assert "R01-03" in table
    assert said.startswith("Left out for lack of room: Q(20 mA/g), Q(1000 mA/g), feasible, domain.")
    assert shown_at(160, WIDE, monkeypatch)[1] == ""


def test_a_formula_wider_than_the_terminal_is_not_cut_out(monkeypatch: pytest.MonkeyPatch):
    assert fitting({"id": ["R01-03"], "composition": [LONG], "domain": ["inside"]}, 30) == ["id", "composition"]
    table, _ = shown_at(30, [{"proposal_id": "R01-03", "composition": LONG, "domain": "inside"}], monkeypatch)
    assert [line.split() for line in table.splitlines()] == [["proposal_id", "composition"], ["R01-03", LONG]]


def test_a_long_heading_takes_several_lines_before_a_column_goes(monkeypatch: pytest.MonkeyPatch):
    rows = [{"id": "R01-03", **{f"specific energy at {i} mA/g (Wh/kg)": "803 (782-825)" for i in (20, 100, 1000)}}]
    table, said = shown_at(60, rows, monkeypatch)
    assert said == ""
    assert [line.split() for line in table.splitlines()][-1] == ["R01-03", *(["803", "(782-825)"] * 3)]
    assert all(len(line) <= 60 for line in table.splitlines())
    assert len(shown_at(160, rows, monkeypatch)[0].splitlines()) == 2


def test_sentences_wrap_before_a_column_goes(monkeypatch: pytest.MonkeyPatch):
    rows = [{"id": "E4", "why": "the capacity of this discharge is more than its lithium can carry", "file": "a.csv"}]
    table, said = shown_at(50, rows, monkeypatch)
    assert said == ""
    assert "a.csv" in table
    assert len(table.splitlines()) > 2


def test_a_pipe_gets_every_column_on_one_line(capsys: pytest.CaptureFixture[str]):
    print_table(WIDE)
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) == 2
    assert LONG in out
    assert "inside" in out
