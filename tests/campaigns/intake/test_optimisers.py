"""What BayBE and Ax save; they wrote the JSON under ``tests/optimisers`` in the versions that its names say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.intake.optimisers import Experiment, Sum, read_experiment
from drxnet.errors import DataRefused, UsageError
from screening.candidates import CandidateList

SAVED = Path(__file__).parents[2] / "optimisers"
BAYBE, SPACE, AX = (
    SAVED / name for name in ("baybe-0.15.0-campaign.json", "baybe-0.15.0-space.json", "ax-1.3.1-client.json")
)


def formulas(experiment: Experiment) -> list[str]:
    return [c.formula for c in experiment.candidates()]


@pytest.mark.parametrize("path", [BAYBE, SPACE], ids=["campaign", "space"])
def test_the_space_of_baybe_is_its_product_under_its_sum(path: Path) -> None:
    """Li + Mn + Ti = 2 on the grid: only Li 1.2 leaves 0.8 for multiples of 0.2, of which Ti takes 0, 0.2 or 0.4."""
    found = read_experiment(path)
    expected = {
        f"Li1.2Mn{mn:g}{ti}{anions}"
        for mn, ti in ((0.8, ""), (0.6, "Ti0.2"), (0.4, "Ti0.4"))
        for anions in ("O2", "O1.9F0.1", "O1.8F0.2")
    }
    canonical = {f.replace("Mn0.6Ti0.2", "Ti0.2Mn0.6").replace("Mn0.4Ti0.4", "Ti0.4Mn0.4") for f in expected}
    assert set(formulas(found)) == canonical
    assert len(formulas(found)) == 9


def test_the_pickled_tables_of_baybe_are_left_alone_with_the_way_out() -> None:
    found = read_experiment(BAYBE)
    assert found.results == ()
    assert "campaign.measurements.to_csv" in found.note
    assert read_experiment(SPACE).note == ""


def test_ax_gives_its_space_and_its_results() -> None:
    found = read_experiment(AX)
    assert all(Sum({"Mn": 1.0, "Ti": 1.0}, -1, 0.9).holds({"Mn": m, "Ti": t}) for m, t in ((0.4, 0.4), (0.8, 0.0)))
    assert len(formulas(found)) == 12
    at = {"current_ma_g": 20.0, "v_low": 1.5, "v_high": 4.8, "sigma_mah_g": 5.0}
    assert found.rows(20.0) == [
        {"composition": "Li1.2Ti0.4Mn0.4O2", "capacity_mah_g": 215.0, **at},
        {"composition": "Li1.2Ti0.2Mn0.6O1.9F0.1", "capacity_mah_g": 201.0, **at},
    ]


def test_an_inequality_of_ax_leaves_out_what_breaks_it() -> None:
    found = read_experiment(AX)
    assert [s.weights for s in found.sums] == [{"Mn": 1.0, "Ti": 1.0}]
    without = Experiment("", found.axes)
    tight = Experiment("", found.axes, (Sum({"Ti": 1.0}, -1, 0.2),))
    assert len(formulas(tight)) < len(formulas(without))
    assert not any("Ti0.4" in f for f in formulas(tight))


def test_the_older_form_of_an_inequality_is_read(tmp_path: Path) -> None:
    saved = json.loads(AX.read_text())
    older = {"__type": "ParameterConstraint", "constraint_dict": {"Mn": 1.0, "Ti": 1.0}, "bound": 0.9}
    saved["experiment"]["search_space"]["parameter_constraints"] = [older]
    (tmp_path / "ax.json").write_text(json.dumps(saved))
    assert read_experiment(tmp_path / "ax.json") == read_experiment(AX)


def test_lithium_that_is_no_parameter_fills_the_cations_up() -> None:
    assert formulas(Experiment("", {"Mn": (0.8,), "F": (0, 0.2)})) == ["Li1.2Mn0.8O2", "Li1.2Mn0.8O1.8F0.2"]
    assert formulas(Experiment("", {"Mn": (2.4,)})) == []


def test_formulas_are_taken_as_they_are() -> None:
    assert formulas(Experiment("", {"composition": ("Li1.2Mn0.8O2", "Li2.4Mn1.6O4")})) == ["Li1.2Mn0.8O2"]


def test_a_continuous_parameter_asks_for_a_step(tmp_path: Path) -> None:
    bounds = {"type": "NumericalContinuousParameter", "name": "Mn", "bounds": {"lower": 0.7, "upper": 0.9}}
    (tmp_path / "s.json").write_text(json.dumps({"discrete": {}, "continuous": {"parameters": [bounds]}}))
    with pytest.raises(UsageError, match=r"Mn is continuous from 0.7 to 0.9; give the step .*--step 0.05"):
        read_experiment(tmp_path / "s.json")
    assert read_experiment(tmp_path / "s.json", 0.05).axes == {"Mn": (0.7, 0.75, 0.8, 0.85, 0.9)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "neither a BayBE campaign or search space nor an Ax client"),
        (b'{"type": "Campaign"}', "neither a BayBE"),
        (b'{"experiment": {}}', "not as BayBE or Ax writes it"),
        (
            b'{"discrete": {"parameters": [{"name": "Mn", "values": [0.8]}], "constraints": [{"type": "Odd"}]}}',
            "A Odd is not",
        ),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataRefused, match=words):
        read_experiment(tmp_path / "x.json")


def test_a_parameter_that_is_no_element_and_a_space_too_large_are_refused() -> None:
    with pytest.raises(DataRefused, match="Parameters named by elements are needed"):
        list(Experiment("", {"Xx": (0.8,)}).candidates())
    with pytest.raises(DataRefused, match="1,030,301 combinations, more than 1,000,000"):
        list(Experiment("", dict.fromkeys(("Mn", "Ti", "F"), tuple(range(101)))).candidates())


def test_results_ask_for_what_they_do_not_say() -> None:
    found = read_experiment(AX)
    with pytest.raises(UsageError, match="--current"):
        found.rows(None)
    with pytest.raises(UsageError, match="Did you mean capacity_mah_g"):
        found.rows(20.0, "capacity")


# -- from the command line, to a campaign ----------------------------------------------------------------------


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


def test_what_was_imported_is_searched_and_learned_from(campaign: Campaign, tmp_path: Path) -> None:
    space, measured = tmp_path / "mine.csv", tmp_path / "measured.csv"
    said = run("import", AX, "--candidates", space, "--results", measured, "--current", "20").stderr
    assert "Ax; 12 candidates of Li, Mn, Ti, F; 2 results." in said
    assert CandidateList.read(space).count == 12
    done = campaign.ingest(measured, fine_tune=False)
    assert [f.status for f in done.files] == ["recorded"]
    assert sorted(m.capacity_mah_g for m in campaign.state().valid) == [201.0, 215.0]


def test_without_targets_it_only_says_what_there_is(tmp_path: Path) -> None:
    said = run("import", BAYBE).stderr
    assert "BayBE 0.15.0; 9 candidates" in said
    assert "pickled" in said
    (tmp_path / "x.json").write_text("{}")
    assert "neither a BayBE" in run("import", tmp_path / "x.json", code=3).stderr
