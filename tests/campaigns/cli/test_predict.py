from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from campaigns.cli import main
from drxnet.checkpoint import ModelCard, save
from drxnet.network import DRXNet, NetworkShape

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command line with an untrained two-member model in place of the default."""
    torch.manual_seed(0)
    save(tmp_path / "small", DRXNet(NetworkShape(members=2)).state_dict(), ModelCard("small", 2))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRXNET_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def test_predict_keeps_its_json_contract(run):
    result = run(
        "predict", HE1, "Li12Mn4Ti4O20", "--current", 20, "--current", 1000, "--cycle", 1, "--cycle", 5,
        "--model", "small", "--profile", "--format", "json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(r["composition"][:6], r["current_ma_g"], r["cycle"]) for r in rows] == [
        (c, i, n) for c in ("Li1.2M", "Li1.2T") for i in (20, 1000) for n in (1, 5)
    ]
    assert list(rows[0]) == [
        "composition", "current_ma_g", "cycle", "v_low", "v_high", "capacity_mah_g_mean", "capacity_mah_g_std",
        "capacity_mah_g_members", "capacity_mah_g_lower", "capacity_mah_g_upper", "domain", "average_voltage_v_mean",
        "specific_energy_wh_kg_mean", "offset_mah_g_mean", "profile",
    ]  # fmt: skip
    profile = rows[0]["profile"]
    assert list(profile) == ["voltage_v", "capacity_mah_g_mean", "capacity_mah_g_std"]
    assert (profile["voltage_v"][0], profile["voltage_v"][-1], len(profile["voltage_v"])) == (1.5, 4.8, 100)
    assert rows[0]["capacity_mah_g_mean"] == pytest.approx(sum(rows[0]["capacity_mah_g_members"]) / 2)
    assert all(0 <= r["capacity_mah_g_lower"] < r["capacity_mah_g_upper"] for r in rows)
    assert {r["domain"] for r in rows} <= {"inside", "edge", "outside"}


def test_a_table_of_cases_gives_one_row_per_row_in_order(run, tmp_path):
    lines = ["composition,current_ma_g,v_low,v_high,cycle", f"{HE1},1000,1.5,4.8,1", "Li1.2Mn0.4Ti0.4O2,20,2.0,4.4,3"]
    (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
    result = run("predict", "--input", "cases.csv", "--model", "small", "--format", "csv")
    assert result.exit_code == 0, result.output
    rows = result.stdout.splitlines()
    assert len(rows) == 3
    assert rows[1].split(",")[1] == "1000.0"
    assert rows[2].split(",")[:5] == ["Li1.2Ti0.4Mn0.4O2", "20.0", "3", "2.0", "4.4"]
    (tmp_path / "cases.csv").write_text("\n".join(lines).replace(",", ";"), encoding="utf-8-sig")
    again = run("predict", "--input", "cases.csv", "--model", "small", "--format", "csv")
    assert again.stdout == result.stdout


@pytest.fixture
def many_cases(tmp_path):
    """Some hundred cases in several blocks, one with a trace, in two conditions."""
    formulas = [f"Li1.2Mn{0.4 + i / 2000:.4f}Ti{0.4 - i / 2000:.4f}O2" for i in range(250)]
    formulas[200] = "Li1.25Mn0.7499Zr0.0001O2"
    rows = [f"{f},{20 if i % 3 else 1000},1.5,4.8,1" for i, f in enumerate(formulas)]
    (tmp_path / "cases.csv").write_text("composition,current_ma_g,v_low,v_high,cycle\n" + "\n".join(rows) + "\n\n")
    return rows


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_long_table_is_written_row_by_row_as_it_would_be_shown(run, tmp_path, monkeypatch, many_cases, form):
    shown = json.loads(run("predict", "--input", "cases.csv", "--model", "small", "--format", "json").stdout)
    monkeypatch.setattr("campaigns.cli.bulk._BLOCK", 64)
    result = run("predict", "--input", "cases.csv", "--model", "small", "--output", f"rows.{form}")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert f"250 predictions written to rows.{form}." in result.stderr
    assert "0.0001 Zr is a trace" in result.stderr
    frame = {
        "csv": lambda path: pd.read_csv(path),
        "jsonl": lambda path: pd.read_json(path, lines=True),
        "parquet": lambda path: pd.read_parquet(path),
    }[form](tmp_path / f"rows.{form}")
    assert frame["composition"].tolist() == [row["composition"] for row in shown]
    assert frame["current_ma_g"].tolist() == [row["current_ma_g"] for row in shown]
    assert frame["capacity_mah_g_mean"].to_numpy() == pytest.approx([r["capacity_mah_g_mean"] for r in shown], abs=1e-4)
    assert frame["composition_asked"][200] == "Li1.25Mn0.7499Zr0.0001O2"
    if form != "csv":
        assert list(frame["capacity_mah_g_members"][7]) == pytest.approx(shown[7]["capacity_mah_g_members"], abs=1e-4)
    assert [path.name for path in tmp_path.glob(".rows*")] == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["--output", "rows.txt"], 2, "ends in .csv, .jsonl, .parquet", id="ending"),
        pytest.param(["--output", "absent/rows.csv"], 2, "folder does not exist", id="folder"),
        pytest.param(["--output", "rows.csv", "--plot", "x.png"], 2, "Leave out --plot or --output", id="plot"),
        pytest.param(["--output", "rows.csv", "--input", "late.csv"], 3, "late.csv, row 302: Li1.2Mn0.8", id="late"),
        pytest.param(["--output", "rows.csv", "--input", "cycle.csv"], 3, "row 3: Cycles are counted", id="cycle"),
        pytest.param(["--output", "rows.csv", "--input", "unseen.csv"], 3, "has never seen Sn", id="unseen"),
    ],
)
def test_a_long_table_is_checked_whole_before_anything_is_written(run, tmp_path, monkeypatch, arguments, code, says):
    head, good = "composition,current_ma_g,v_low,v_high,cycle\n", f"{HE1},20,1.5,4.8,1\n"
    (tmp_path / "good.csv").write_text(head + good)
    (tmp_path / "late.csv").write_text(head + good * 300 + "Li1.2Mn0.8,20,1.5,4.8,1\n")
    (tmp_path / "cycle.csv").write_text(head + good + f"{HE1},20,1.5,4.8,0\n")
    (tmp_path / "unseen.csv").write_text(head + good * 100 + "Li1.2Sn0.4Mn0.4O2,20,1.5,4.8,1\n")
    monkeypatch.setattr("campaigns.cli.bulk._BLOCK", 64)
    inputs = [] if "--input" in arguments else ["--input", "good.csv"]
    result = run("predict", "--model", "small", *inputs, *arguments)
    assert (result.exit_code, says in result.stderr) == (code, True), result.output
    assert [path.name for path in tmp_path.iterdir() if "rows" in path.name] == []


def test_a_long_table_is_read_and_predicted_in_bounded_memory(tmp_path):
    """The whole of it would be some hundred MB; what is held does not grow with its length."""
    script = """
import resource, sys
from pathlib import Path
from campaigns.cli.bulk import CaseFile
file = CaseFile(Path(sys.argv[1]))
cases = sum(len(block) for block in file)
print(cases, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    sizes = {}
    for count in (20_000, 200_000):
        path = tmp_path / f"{count}.csv"
        with path.open("w") as out:
            out.write("composition,current_ma_g,v_low,v_high,cycle\n")
            for i in range(count):
                out.write(f"Li1.2Mn{0.4 + i / 1e6:.4f}Ti{0.4 - i / 1e6:.4f}O2,20,1.5,4.8,1\n")
        told = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
        cases, sizes[count] = map(int, told.stdout.split())
        assert cases == count
    assert sizes[200_000] < sizes[20_000] + 20


def test_the_table_says_which_spread_it_shows(run):
    result = run("predict", HE1, "--model", "small", "--plot", "he1.png")
    assert result.exit_code == 0, result.output
    assert "80 % interval" in result.stdout
    assert "± members" in result.stdout
    assert "ddof 0" in result.stderr
    assert "one cell of a laboratory that has measured nothing yet" in " ".join(result.stderr.split())
    assert "estimated for the model default, not for this one" in " ".join(result.stderr.split())
    assert "he1.png" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["nonsense"], 3, "not a chemical formula", id="no-formula"),
        pytest.param([], 2, "Give formulas or --input", id="nothing"),
        pytest.param([HE1, "--input", "cases.csv"], 2, "one of the two", id="both"),
        pytest.param([HE1, "--model", "absent"], 2, "models import DIR", id="no-model"),
        pytest.param([HE1, "--current", "-3"], 2, "must be positive", id="current"),
        pytest.param([HE1, "--window", "4.8", "1.5"], 2, "lower cut-off", id="window"),
        pytest.param([HE1, "--cycle", "0"], 2, "counted from 1", id="cycle"),
        pytest.param(["--input", "absent.csv"], 2, "absent.csv: No such file", id="no-file"),
        pytest.param(["--input", "empty.csv"], 3, "must hold the columns", id="empty-file"),
        pytest.param(["--input", "bad.csv"], 3, "row 2: could not convert", id="bad-row"),
        pytest.param([HE1, "--plot", "absent/x.png"], 2, "folder does not exist", id="plot"),
        pytest.param([HE1, "--device", "abacus"], 2, "not a device", id="device"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(run, tmp_path, arguments, code, says):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bad.csv").write_text(f"composition,current_ma_g,v_low,v_high,cycle\n{HE1},fast,1.5,4.8,1\n")
    result = run("predict", *(["--model", "small"] if "--model" not in arguments else []), *arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_predicting_imports_no_botorch():
    code = (
        "import sys; from click.testing import CliRunner; from campaigns.cli import main; "
        "found = CliRunner().invoke(main, ['predict', 'Li1.2Mn0.4Ti0.4O2', '--format', 'json']); "
        "assert 'capacity_mah_g_lower' in found.stdout, found.output; "
        "sys.exit(', '.join(m for m in ('botorch', 'gpytorch', 'ray', 'sqlalchemy') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_debug_shows_the_traceback(run):
    result = run("--debug", "predict", "nonsense", "--model", "small")
    assert type(result.exception).__name__ == "CompositionError"


def test_map_writes_its_figure_and_rows(run, tmp_path):
    result = run("map", "--points", 5, "--model", "small", "--format", "json")
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)[0]) >= {
        "Li", "F", "Mn_valence", "cycle", "capacity_mah_g_mean", "capacity_mah_g_std", "capacity_mah_g_lower",
        "capacity_mah_g_upper", "domain",
    }  # fmt: skip
    assert (tmp_path / "map.png").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fix", "Ti"], "NAME=NUMBER, such as Ti=0.2"),
        (["--x", "Xx"], "three different elements"),
        (["--plot", "m.html"], "ends in"),
    ],
)
def test_impossible_maps_exit_with_two(run, arguments, says):
    result = run("map", "--model", "small", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_importing_a_missing_folder_is_refused(run):
    result = run("models", "import", "absent")
    assert result.exit_code == 2
    assert "no such folder" in result.stderr


def test_importing_under_a_path_takes_nothing_away(run, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("ten years")
    assert run("models", "import", "small", "--name", "mine").exit_code == 0
    for name in (precious, ".", "..", "a/b", "../precious"):
        result = run("models", "import", "small", "--name", name)
        assert result.exit_code == 2
        assert "A model's name holds letters" in result.stderr
    kept = tmp_path / "home" / "models" / "kept"
    kept.mkdir()
    (kept / "thesis.txt").write_text("ten more")
    result = run("models", "import", "small", "--name", "kept", "--force")
    assert (result.exit_code, "holds thesis.txt, which would be lost" in result.stderr) == (2, True)
    assert (precious / "thesis.txt").read_text() + (kept / "thesis.txt").read_text() == "ten yearsten more"
    assert [row["name"] for row in json.loads(run("models", "list", "--format", "json").stdout)] == ["default", "mine"]


def test_a_damaged_model_is_left_out_of_the_list_and_said(run, tmp_path):
    run("models", "import", "small", "--name", "mine")
    card = tmp_path / "home" / "models" / "mine" / "model.json"
    card.write_text(card.read_text().replace('"members": 2', '"members": 200000000'))
    result = run("models", "list", "--format", "json")
    assert (result.exit_code, [row["name"] for row in json.loads(result.stdout)]) == (0, ["default"])
    assert "Left out mine: " in result.stderr
    result = run("predict", HE1, "--model", "mine")
    assert (result.exit_code, "members must be a whole number" in result.stderr) == (3, True)


# -- conditions of the process -------------------------------------------------------------------------------------


@pytest.fixture
def milled(tmp_path):
    """A model that has learned what milling does."""
    torch.manual_seed(0)
    network = DRXNet(NetworkShape(members=2, process=(("milled", 2), ("firing_temperature_c", 1))))
    with torch.no_grad():
        network.process["milled"].effect.uniform_(-1, 1)
    learned = {"milled": ["no", "yes"], "firing_temperature_c": [800.0, 1000.0]}
    save(tmp_path / "milled", network.state_dict(), ModelCard("milled", 2, process=learned))


def test_what_is_stated_of_the_process_is_predicted_with(run, milled):
    def rows(*said):
        result = run("predict", HE1, "--model", "milled", "--format", "json", *said)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout), result.stderr

    ((plain,), quiet), ((stated,), also) = (
        rows(),
        rows("--process", "milled=yes", "--process", "firing_temperature_c=900"),
    )
    assert (stated["milled"], stated["firing_temperature_c"]) == ("yes", 900.0)
    assert stated["capacity_mah_g_mean"] != plain["capacity_mah_g_mean"]
    assert "learned" not in quiet + also
    (_, beyond) = rows("--process", "firing_temperature_c=1200")
    assert "1200 °C lies outside the 800 °C to 1000 °C that the model learned" in " ".join(beyond.split())


def test_a_process_that_the_model_has_not_learned_is_said_to_change_nothing(run, tmp_path):
    result = run("predict", HE1, "--model", "small", "--process", "milled=yes")
    assert result.exit_code == 0, result.output
    assert "has learned nothing of milled after firing" in " ".join(result.stderr.split())
    assert "milled after firing yes" in result.stdout


@pytest.mark.parametrize(
    ("said", "answer"),
    [("milled", "name=value"), ("milled=perhaps", "milled is one of no, yes"), ("colour=red", "Known: temperature_c")],
)
def test_an_impossible_process_is_one_line(run, said, answer):
    result = run("predict", HE1, "--model", "small", "--process", said)
    assert result.exit_code == 2, result.output
    assert answer in " ".join(result.stderr.split())


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_table_of_cases_may_state_the_process_in_some_rows(run, tmp_path, milled, form):
    lines = ["composition,current_ma_g,v_low,v_high,cycle,milled,firing_temperature_c"]
    lines += [f"{HE1},20,1.5,4.8,1,,", f"{HE1},20,1.5,4.8,1,yes,900"]
    (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
    result = run("predict", "--input", "cases.csv", "--model", "milled", "--output", f"rows.{form}")
    assert result.exit_code == 0, result.output
    read = {"csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True), "parquet": pd.read_parquet}[form]
    table = read(tmp_path / f"rows.{form}")
    assert table["milled"].isna().tolist() == [True, False]
    assert table["milled"][1] == "yes"
    assert table["firing_temperature_c"][1] == 900.0
    assert table["capacity_mah_g_mean"][0] != table["capacity_mah_g_mean"][1]
