from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from synthetic import linear_profiles, untrained_ensemble

from campaigns.cli import main
from drxnet import checkpoint
from drxnet.dataset import read_profiles

OPTIONS = """
members: 2
epochs: 2
profiles_per_batch: 16
points_per_profile: 10
network: {layers: 1, heads: 1, attention_hidden: 8}
"""


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with training options, a set of profiles and a model named `tiny`."""
    monkeypatch.setenv("DRXNET_HOME", str(tmp_path / "home"))
    (tmp_path / "options.yaml").write_text(OPTIONS)
    linear_profiles(32, 34).save(tmp_path / "set.npz")
    ensemble = untrained_ensemble()
    checkpoint.save(tmp_path / "home" / "models" / "tiny", ensemble.network.state_dict(), ensemble.card)
    return tmp_path


def test_train_writes_a_model_that_resumes(made: Path) -> None:
    arguments = ("train", "--data", made / "set.npz", "--out", made / "mine", "--options", made / "options.yaml")
    first = json.loads(run(*arguments, "--format", "json"))
    again = json.loads(run(*arguments, "--format", "json", "--resume"))
    assert first["model_id"] == again["model_id"]
    card = checkpoint.read_card(made / "mine" / "model")
    assert card.name == "mine"
    assert card.provenance["options"]["epochs"] == 2
    assert (made / "mine" / "losses.csv").is_file()


def test_train_never_overwrites_an_earlier_training(made: Path) -> None:
    arguments = ("train", "--data", made / "set.npz", "--out", made / "mine", "--options", made / "options.yaml")
    run(*arguments, "--epochs", 1)
    before = {path: path.read_bytes() for path in (made / "mine").rglob("*") if path.is_file()}
    said = run(*arguments, "--epochs", 1, "--seed", 1, code=2)
    assert "an earlier training would be lost. Go on from it (--resume), train in another folder, or delete it" in said
    assert {path: path.read_bytes() for path in (made / "mine").rglob("*") if path.is_file()} == before
    run(*arguments[:3], "--out", made / "other", *arguments[5:], "--epochs", 1, "--resume")  # nothing there yet


def test_train_refuses_other_data_on_resume(made: Path) -> None:
    arguments = ("train", "--out", made / "mine", "--options", made / "options.yaml", "--epochs", 1)
    run(*arguments, "--data", made / "set.npz")
    linear_profiles(30, 34).save(made / "other.npz")
    assert "made with other data" in run(*arguments, "--data", made / "other.npz", "--resume", code=3)


def test_evaluate_trains_on_one_family_and_tests_the_others(made: Path) -> None:
    arguments = ("evaluate", "--data", made / "set.npz", "--options", made / "options.yaml", "--epochs", 1)
    facts = json.loads(run(*arguments, "--figure", made / "figure3.png", "--format", "json"))
    assert [row["family"] for row in facts["families"]] == ["3TM", "HE"]
    assert set(facts["calibration"]["coverage"]) == {"0.5", "0.8", "0.95"}
    assert (made / "figure3.png").is_file()
    assert "on both sides" in run(*arguments, "--train", "HE", code=2)


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        (["--test", "3TM", "HE"], ["3TM", "HE"]),
        (["--test=HE", "3TM"], ["HE", "3TM"]),
        (["--test", "3TM", "--test", "HE"], ["3TM", "HE"]),
        (["--test", "HE"], ["HE"]),
    ],
    ids=" ".join,
)
def test_evaluate_takes_several_families_after_one_option(made: Path, families: list[str], expected: list[str]) -> None:
    arguments = ("evaluate", "--data", made / "set.npz", "--options", made / "options.yaml", "--epochs", 1)
    learned = ("--train", "2TM", "--with-first-cycle")
    facts = json.loads(run(*arguments, *learned, *families, "--format", "json"))
    assert sorted(row["family"] for row in facts["families"]) == sorted(expected)


def test_evaluate_refuses_values_that_no_option_takes(made: Path) -> None:
    arguments = ("evaluate", "--data", made / "set.npz")
    assert "'4TM' is not one of" in run(*arguments, "--test", "3TM", "4TM", code=2)
    assert "unexpected extra argument (HE)" in run(*arguments, "--model", "tiny", "HE", code=2)
    assert "unexpected extra argument (HE)" in run("evaluate", "HE", "--data", made / "set.npz", code=2)


def test_evaluate_a_model_as_it_is(made: Path) -> None:
    arguments = ("evaluate", "--data", made / "set.npz", "--model", "tiny", "--format", "csv", "--test", "HE")
    table = run(*arguments)
    assert run(*arguments, "HE") == table, "no profile counts twice"
    profiles = read_profiles(made / "set.npz")
    profiles.select(profiles.families()["2TM"]).save(made / "simple.npz")
    said = run("evaluate", "--data", made / "simple.npz", "--model", "tiny", "--test", "HE", code=3)
    assert "No profile to test among HE." in said
    assert table.splitlines()[0].startswith("family,profiles,capacity_mae_mah_g")
    assert table.splitlines()[1].startswith("HE,8,")


def test_simulate_makes_cells_by_several_processes(made: Path) -> None:
    out = made / "mixed.npz"
    (made / "formulas.txt").write_text("Li1.2Mn0.4Ti0.4O2\nLi1.25Mn0.75O2\n")
    given = ("simulate", "--model", "tiny", "--formulas", made / "formulas.txt", "--profiles", 12, "--per-cell", 2)
    run(*given, "--vary", "milled=no,yes", "--vary", "firing_temperature_c=850,950", "--out", out)
    read = read_profiles(out)
    assert {p.get("milled") for p in read.processes} == {"no", "yes"}
    assert {p.get("firing_temperature_c") for p in read.processes} == {850.0, 950.0}
    assert all(read.processes[i] == read.processes[i + 1] for i in range(0, 12, 2)), "a cell is made once"
    said = run(*given, "--vary", "milled", "--out", out, code=2)
    assert "--vary takes a condition and two or more levels" in said
    assert "no condition of a process" in run(*given, "--vary", "heat=1,2", "--out", out, code=2)


def test_simulate_writes_a_set(made: Path) -> None:
    (made / "formulas.txt").write_text("Li1.2Mn0.4Ti0.4O2\nLi1.25Mn0.75O2\n")
    out = made / "simulated.npz"
    run("simulate", "--model", "tiny", "--formulas", made / "formulas.txt", "--profiles", 6, "--out", out)
    profiles = read_profiles(out)
    assert len(profiles) == 6
    assert len(profiles.unique[0]) == 2
    several = ("--profiles", 6, "--per-cell", 3)
    run("simulate", "--model", "tiny", "--formulas", made / "formulas.txt", *several, "--out", out)
    cells = read_profiles(out)
    assert len(cells) == 6
    assert np.diff(cells.cycle.reshape(2, 3), axis=1).min() > 0
    assert cells.cycle[::3].tolist() == [1, 1]
    assert len({(c.current_ma_g, c.window) for c in cells.conditions}) <= 2
    assert "ends in .npz" in run("simulate", "--model", "tiny", "--out", made / "set.csv", code=2)


def test_formulas_may_hold_spaces_and_comments(made: Path) -> None:
    text = "# two oxides\n\nLi1.2 Mn0.4 Ti0.4 O2  # well known\n  Li1.25Mn0.75O2\r\n"
    (made / "formulas.txt").write_text(text)
    out = made / "simulated.npz"
    run("simulate", "--model", "tiny", "--formulas", made / "formulas.txt", "--profiles", 4, "--out", out)
    assert {c.formula for c in read_profiles(out).compositions} == {"Li1.2Ti0.4Mn0.4O2", "Li1.25Mn0.75O2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("Li1.25Mn0.75O2\n\nsand\n", "formulas.txt, line 3:"), ("# nothing\n", "holds no formula")],
    ids=["not a composition", "none"],
)
def test_formulas_that_cannot_be_read_are_refused(made: Path, text: str, message: str) -> None:
    (made / "formulas.txt").write_text(text)
    arguments = ("simulate", "--model", "tiny", "--formulas", made / "formulas.txt", "--out", made / "out.npz")
    assert message in run(*arguments, code=3)
    assert not (made / "out.npz").exists()


@pytest.mark.parametrize("keep", [0, 100, -40], ids=["empty", "start", "cut"])
def test_a_damaged_set_is_refused_data(made: Path, keep: int) -> None:
    whole = (made / "set.npz").read_bytes()
    (made / "set.npz").write_bytes(whole[:keep] if keep else b"")
    said = run("data", "summary", made / "set.npz", code=3)
    assert "not a set of profiles" in said
    assert "defect" not in said


def test_data_summary_counts_and_draws(made: Path) -> None:
    facts = json.loads(run("data", "summary", made / "set.npz", "--figure", made / "set.png", "--format", "json"))
    assert facts["profiles"] == 32
    assert facts["families"] == {"2TM": 16, "3TM": 8, "HE": 8}
    assert (made / "set.png").is_file()
    assert "Mn" in run("data", "summary", made / "set.npz")


def test_data_summary_of_nothing_is_said(tmp_path: Path) -> None:
    assert "no such file" in run("data", "summary", tmp_path / "nowhere", code=3)


def test_fetch_without_a_server_says_the_way_out(tmp_path: Path) -> None:
    said = run("data", "fetch", "drx-td", "--out", tmp_path / "td", "--api", "http://127.0.0.1:9", code=2)
    assert "by hand into a folder" in said


def test_evaluate_on_the_literature_prints_errors_baselines_and_coverage(made: Path) -> None:
    found = json.loads(
        run("evaluate", "--on", "literature", "--model", "tiny", "--figure", made / "f.png", "--format", "json")
    )
    assert found["model"] == "untrained"
    assert {row["domain"] for row in found["rows"]} <= {"inside", "edge", "outside"}
    assert [row["group"] for row in found["groups"]][-1] == "all"
    assert {"capacity_mae_mah_g", "constant_mae_mah_g", "lithium_fraction_mae_mah_g", "coverage"} <= set(
        found["groups"][0]
    )
    assert (made / "f.png").is_file()
    shown = run("evaluate", "--on", "literature", "--model", "tiny")
    assert "[165]" in shown  # per gram of electrode
    assert ">= 300" in shown


def test_evaluate_needs_data_or_the_literature(made: Path) -> None:
    assert "--data DIR or --on literature" in run("evaluate", code=2)
    said = run("evaluate", "--on", "literature", "--data", made / "set.npz", code=2)
    assert "--data DIR or --on literature" in said
