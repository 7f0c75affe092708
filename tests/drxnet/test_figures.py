from __future__ import annotations

import numpy as np
import pytest
import torch

from drxnet.checkpoint import ModelCard
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.errors import UsageError
from drxnet.figures import capacity_map, plot_map, plot_predictions
from drxnet.network import DRXNet, NetworkShape
from drxnet.prediction import predict_cases
from drxnet.uncertainty import WORDS, Calibration, Label

CONDITIONS = [CyclingConditions(20), CyclingConditions(20, cycle=30)]


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    torch.manual_seed(0)
    return Ensemble(DRXNet(NetworkShape(members=2)), ModelCard("random", 2))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
def test_predictions_are_drawn_in_each_format(ensemble, tmp_path, suffix):
    cases = [(Composition.parse("Li1.2Mn0.4Ti0.4O2"), CyclingConditions(i)) for i in (20, 1000)]
    path = tmp_path / f"figure{suffix}"
    plot_predictions(ensemble, predict_cases(ensemble, cases), path)
    content = path.read_bytes()
    assert len(content) > 5_000
    if suffix == ".html":
        assert b"cdn.plot.ly" not in content.split(b"</script>")[-1]
        assert b"Capacity (mAh" in content


def near(features: torch.Tensor) -> list[Label]:
    return ["inside"] * features.shape[1]


def test_a_figure_says_which_spread_is_which(ensemble, tmp_path):
    cases = [(Composition.parse("Li1.2Mn0.4Ti0.4O2"), CyclingConditions(20))]
    plain, both = tmp_path / "plain.html", tmp_path / "both.html"
    plot_predictions(ensemble, predict_cases(ensemble, cases), plain)
    plot_predictions(ensemble, predict_cases(ensemble, cases, calibration=Calibration.of(ensemble, near)), both)
    assert WORDS not in plain.read_text()
    for words in (WORDS, "over members (ddof 0)"):
        assert words in both.read_text()


def test_texts_of_a_figure_with_intervals_can_be_searched(ensemble, tmp_path, monkeypatch):
    from matplotlib import rcParams

    monkeypatch.setitem(rcParams, "svg.fonttype", "none")
    calibration = Calibration.of(ensemble, near)
    cases = [(Composition.parse("Li1.2Mn0.4Ti0.4O2"), CyclingConditions(20))]
    plot_predictions(ensemble, predict_cases(ensemble, cases, calibration=calibration), tmp_path / "profile.svg")
    result = capacity_map(ensemble, CONDITIONS, points=5, calibration=calibration)
    plot_map(result, tmp_path / "map.svg", model="random")
    assert f"bar: {WORDS}" in (tmp_path / "profile.svg").read_text()
    assert f"{WORDS}: typically from" in (tmp_path / "map.svg").read_text()


def test_a_map_point_has_the_interval_of_its_composition(ensemble):
    calibration = Calibration.of(ensemble, near)
    grid = {"x_range": (1.2, 1.3), "y_range": (0.1, 0.3), "points": 3, "fixed": {"Ti": 0.2}}
    rows = capacity_map(ensemble, CONDITIONS, **grid, calibration=calibration).rows()
    composition = Composition.from_amounts({"Li": 1.25, "Ti": 0.2, "Mn": 0.55, "O": 1.8, "F": 0.2})
    for (one,) in (predict_cases(ensemble, [(composition, c)], calibration=calibration) for c in CONDITIONS):
        (point,) = (
            r for r in rows if (r["Li"], r["F"]) == pytest.approx((1.25, 0.2)) and r["cycle"] == one.conditions.cycle
        )
        asked = one.row()
        for key in ("capacity_mah_g_mean", "capacity_mah_g_lower", "capacity_mah_g_upper"):
            assert point[key] == pytest.approx(asked[key], abs=1e-3)
        assert point["domain"] == asked["domain"]


@pytest.mark.parametrize(("name", "says"), [("figure.docx", "a figure ends in"), ("no/figure.png", "does not exist")])
def test_a_figure_that_cannot_be_written_is_refused_before_work(ensemble, tmp_path, name, says):
    with pytest.raises(UsageError, match=says):
        plot_predictions(ensemble, [], tmp_path / name)


def test_a_map_holds_neutral_compositions_only(ensemble, tmp_path):
    result = capacity_map(ensemble, CONDITIONS, points=9)
    grid_x, grid_y = np.meshgrid(result.x, result.y)
    known = np.isfinite(result.capacity_mah_g[0])
    charge = grid_x + (2 - grid_x) * result.valence + grid_y
    assert charge[known] == pytest.approx(4)
    assert known.any()
    assert not known.all()  # Li1.35Mn0.65O2 would need Mn4.08+
    rows = result.rows()
    assert len(rows) == 2 * known.sum()
    plot_map(result, tmp_path / "map.png", model="random")
    assert (tmp_path / "map.png").stat().st_size > 5_000


def test_a_map_point_is_the_prediction_of_its_composition(ensemble):
    result = capacity_map(ensemble, CONDITIONS, x_range=(1.2, 1.3), y_range=(0.1, 0.3), points=3, fixed={"Ti": 0.2})
    composition = Composition.from_amounts({"Li": 1.25, "Ti": 0.2, "Mn": 0.55, "O": 1.8, "F": 0.2})
    expected = ensemble.capacity([composition], CONDITIONS)[:, 0].mean(0)
    assert result.capacity_mah_g[:, 1, 1] == pytest.approx(expected.numpy(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param({"balance": "Nb"}, "balancing metal must be one of", id="balance"),
        pytest.param({"x": "Li", "y": "Li"}, "three different elements", id="axes"),
        pytest.param({"fixed": {"Li": 1.2}}, "elements of the model that are no axis", id="fixed-axis"),
        pytest.param({"x_range": (1.8, 1.9)}, "No neutral composition", id="nothing"),
    ],
)
def test_impossible_maps_say_why(ensemble, options, says):
    with pytest.raises(UsageError, match=says):
        capacity_map(ensemble, CONDITIONS, points=3, **options)


def test_a_map_leaves_out_traces_of_a_metal(ensemble):
    result = capacity_map(ensemble, CONDITIONS, x="Ti", x_range=(0.0, 0.04), y_range=(0.0, 0.2), points=5)
    held = np.isfinite(result.capacity_mah_g[0]).any(0)
    assert dict(zip(result.x.round(3).tolist(), held.tolist(), strict=True)) == {
        0.0: True, 0.01: False, 0.02: True, 0.03: True, 0.04: True,
    }  # fmt: skip
