"""The figures of the paper: tables beside the printed numbers, drawings, and cells that say they are simulated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fakes import FakeEnsemble
from synthetic import SMALL, linear_profiles

from campaigns.cli import main
from campaigns.report import reproduction
from campaigns.report.reproduction import HE1, HE2, SIMULATED, Reproduction
from drxnet.ensemble import Ensemble
from drxnet.training import TrainingTensors


def here(made: Reproduction, what: str):
    (row,) = [row for row in made.rows if row["what"] == what]
    return row["here"], row["paper"]


@pytest.fixture(scope="module")
def shipped() -> Ensemble:
    return Ensemble.load("default")


def drawn(made: Reproduction, folder: Path) -> None:
    path = folder / f"{made.figure}.png"
    made.draw(path)
    assert path.stat().st_size > 10_000


def test_figure_2_counts_the_data_set_and_says_what_it_is(tmp_path: Path) -> None:
    profiles = linear_profiles(points=10)
    made = reproduction.data_set(profiles, simulated=True)
    assert here(made, "discharge profiles") == (len(profiles), 19502)
    oxides, oxyfluorides = (here(made, f"of them {kind}")[0] for kind in ("oxides", "oxyfluorides"))
    assert oxides + oxyfluorides == len(profiles)
    assert made.simulated
    assert SIMULATED in made.notes
    assert any("data fetch drx-td" in note for note in made.notes)
    measured = reproduction.data_set(profiles, simulated=False)
    assert SIMULATED not in measured.notes
    drawn(made, tmp_path)


def test_figure_3_trains_three_times_and_gives_the_error_of_every_family(tmp_path: Path) -> None:
    options = replace(SMALL, members=2, epochs=1)
    made = reproduction.applicability(linear_profiles(points=34), options, simulated=True)
    printed = {row["what"]: row["paper"] for row in made.rows}
    assert printed["3TM after 2TM: MAE of Q(2.0-4.4 V)"] == 23.38
    assert printed["HE after 2TM and first cycles: MAE of Q(2.0-4.4 V)"] == 17.58
    assert printed["HE after 2TM and 3TM: MAE of Q(2.0-4.4 V)"] == 19.63
    assert printed["HE: mean absolute deviation of voltage"] == 0.21
    assert all(row["here"] > 0 for row in made.rows if row["what"].endswith("MAE of Q(2.0-4.4 V)"))
    drawn(made, tmp_path)


def test_figure_4_holds_the_corner_and_the_effect_of_fluorine(shipped: Ensemble, tmp_path: Path) -> None:
    made = reproduction.design_map(shipped, points=21)
    corner, printed = here(made, "Li1.333Mn0.667O2, cycle 1")
    assert printed == "> 320"
    assert corner > 320
    assert here(made, "its rank in the map at cycle 1 (1: highest)")[0] <= 3
    assert here(made, "0.3 F in Li1.25Mn0.75O2 changes cycle 1 by")[0] < 0
    assert here(made, "0.3 F in Li1.25Mn0.75O2 changes cycle 30 by")[0] > 0
    drawn(made, tmp_path)


def test_figure_5_sets_two_cathodes_beside_the_printed_capacities(shipped: Ensemble, tmp_path: Path) -> None:
    made = reproduction.high_entropy(shipped)
    for name, low, high in (("HE-1", 276, 196), ("HE-2", 266, 171)):
        for current, capacity in ((20, low), (1000, high)):
            mean, printed = here(made, f"{name}, {current} mA/g")
            assert printed == capacity
            assert float(mean.split(" ")[0]) == pytest.approx(capacity, abs=9)
    assert here(made, "HE-2 at 4.0 V in 2.0-4.0 V, 20 mA/g (should be 0)")[0] == pytest.approx(6, abs=2)
    drawn(made, tmp_path)


def test_the_skeleton_is_neutral_and_holds_both_cathodes_of_the_paper() -> None:
    listed = dict((c, label) for label, c in reproduction.skeleton())
    assert listed[HE1] == "Mn Mg | Cr"
    assert listed[HE2] == "Mn Mg | Cr V"
    assert len(listed) > 40
    for composition in listed:
        assert composition.lithium == 1.2
        assert sum(a for _, a in composition.cations) == pytest.approx(2, abs=1e-3)
    assert "Fe Ni | Cr" not in listed.values()  # Fe2+ would reduce NiO


def test_figure_s6_ranks_the_collection_by_capacity_at_the_high_rate(tmp_path: Path) -> None:
    made = reproduction.collection(FakeEnsemble(3))
    high = [row["capacity_mah_g_1000"] for row in made.rows]
    assert high == sorted(high, reverse=True)
    printed = {row["composition"]: row["paper"] for row in made.rows}
    assert printed[HE1.formula] == "276 / 196"
    assert sum(p is not None for p in printed.values()) == 2
    drawn(made, tmp_path)


def test_figure_s8_trains_with_and_without_the_first_cycle_term(tmp_path: Path) -> None:
    made = reproduction.ablation(linear_profiles(points=34), replace(SMALL, members=2, epochs=2), simulated=True)
    names = [row["what"] for row in made.rows]
    with_term, without = ([n for n in names if n.startswith(f"{k} l(Q1)")] for k in ("with", "without"))
    assert len(with_term) == len(without) >= 3
    ratio, printed = here(made, "loss without / with")
    assert printed.startswith("> 1")
    losses = [here(made, f"{k} l(Q1): root of the last loss of Q")[0] for k in ("without", "with")]
    assert ratio == pytest.approx(losses[0] / losses[1], abs=0.01)
    drawn(made, tmp_path)


def test_steps_are_the_same_whatever_the_size_of_the_set() -> None:
    profiles = linear_profiles(points=34)
    options = replace(SMALL, epochs=10, decay=0.9)
    more = reproduction.with_steps(options, profiles, 500)
    each = TrainingTensors(profiles).steps(options.profiles_per_batch, options.points_per_profile)
    assert more.epochs == round(500 / each)
    assert more.decay**more.epochs == pytest.approx(0.9**10)
    assert reproduction.with_steps(options, profiles, None) is options


def test_simulated_cells_have_a_first_cycle_and_later_ones(shipped: Ensemble) -> None:
    cells = reproduction.simulated_cells(shipped, compositions=24, seed=1)
    assert (cells.cycle == 1).sum() * 6 == len(cells)
    assert cells.cycle.max() <= 50
    assert np.isfinite(cells.first_capacity_mah_g).all()


def test_the_command_prints_the_table_and_writes_the_figure(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    result = CliRunner().invoke(main, ["reproduce", "fig4", "--plot", str(path), "--format", "json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["figure"], found["simulated"]) == ("fig4", False)
    assert {"what", "here", "paper", "unit"} == set(found["rows"][0])
    assert path.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fig5", "--data", "drx-td"], "takes no --data"),
        (["fig7"], "'fig7' is not one of"),
        (["fig2", "--plot", "picture.txt"], "a figure ends in"),
        (["fig2", "--data", "nowhere"], "no such file or folder"),
    ],
    ids=["data", "figure", "suffix", "missing"],
)
def test_a_figure_that_cannot_be_made_is_refused_at_once(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["reproduce", *arguments])
    assert result.exit_code in (2, 3)
    assert message in result.output
