from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from campaigns import Campaign
from campaigns.cli import main
from campaigns.example import FIRST_WEEK, NOTEBOOKS, Made, cycle_cells, write_example
from drxnet.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


def test_the_notebooks_are_the_tutorials():
    pytest.importorskip("jupytext", reason="jupytext is not installed (pip install '.[docs]')")
    script = importlib.util.spec_from_file_location("make_notebooks", ROOT / "scripts" / "make_notebooks.py")
    assert script is not None
    assert script.loader is not None
    made = importlib.util.module_from_spec(script)
    script.loader.exec_module(made)
    assert {path.stem for path in made.notebooks()} == set(NOTEBOOKS)
    for path, content in made.notebooks().items():
        assert json.loads(path.read_text()) == json.loads(content), "run python scripts/make_notebooks.py"


def test_an_example_is_a_campaign_whose_first_week_is_taken_without_a_warning(tmp_path: Path):
    run = CliRunner().invoke(main, ["example", str(tmp_path / "demo")])
    assert run.exit_code == 0, run.output
    printed = [Path(line) for line in run.stdout.splitlines()]
    assert [p.name for p in printed] == ["campaign.yaml", "samples.csv", *(f"{n}.ipynb" for n in NOTEBOOKS)]
    assert all(p.is_file() for p in printed)
    with Campaign(tmp_path / "demo") as campaign:
        exports = sorted(p for p in (tmp_path / "demo" / "week1").iterdir() if p.name != "samples.csv")
        done = campaign.ingest(exports, samples=tmp_path / "demo" / "week1" / "samples.csv", fine_tune=False)
        assert len({file.format for file in done.files}) == 4
        for file in done.files:
            assert (file.status, file.rules, file.discharges) == ("recorded", (), 2)
        ranked = campaign.rank(within="measured")
        assert {row["composition"] for row in ranked} == set(FIRST_WEEK)
        lattice = campaign.spec.candidates()
        assert all(lattice.row(formula) is not None for formula in FIRST_WEEK)


def test_an_example_is_not_written_over_a_folder_that_holds_something(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is there already; name another one"):
        write_example(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_the_same_seed_gives_the_same_files_and_another_one_others(tmp_path: Path):
    made = [Made("A", FIRST_WEEK[0])]
    contents = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        samples = cycle_cells(made, tmp_path / name, seed=seed)
        rows = list(csv.DictReader(samples.read_text().splitlines()))
        assert [row["current_ma_g"] for row in rows] == ["20.0", "1000.0"]
        contents.append([(tmp_path / name / row["file"]).read_bytes() for row in rows])
    assert contents[0] == contents[1] != contents[2]
