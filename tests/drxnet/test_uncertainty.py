from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
import torch

from drxnet.checkpoint import DEFAULT_MODEL, ModelCard, find_model, read_card
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.literature import LiteratureEvaluation, PublishedCapacity
from drxnet.network import DRXNet, NetworkShape
from drxnet.prediction import predict_cases
from drxnet.uncertainty import (
    LABELS,
    WORDS,
    Calibration,
    ErrorLevels,
    LaboratoryLevel,
    ModelLevel,
    OfLevels,
    _stored,
    fit_laboratory_level,
    fit_model_level,
    student_quantile,
    write_levels,
)

MODEL = ModelLevel(
    (20.0, 1000.0),
    {"inside": (15.0, 30.0), "edge": (35.0, 50.0), "outside": (60.0, 75.0)},
    {"inside": 6.0, "edge": 6.0, "outside": 6.0},
)
LAB = LaboratoryLevel(np.array([10.0, 60.0]), np.zeros((2, 2)), 40.0, 20.0, 1e6, 100, 50)
LMTO = Composition.parse("Li1.2Mn0.4Ti0.4O2")
PLENTY = 2000.0


def deviates(draw: np.random.Generator, label: str, current: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Five members, and the truth apart from laboratories, about a common mean."""
    typical = MODEL.typical_mah_g[label][MODEL.currents_ma_g.index(current)]
    size = typical * np.sqrt(MODEL.freedom[label] / draw.chisquare(MODEL.freedom[label], n))
    return draw.normal(0, size, (5, n)), draw.normal(0, size)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("current", [20.0, 1000.0])
def test_the_interval_covers_laboratories_that_are_drawn_from_its_levels(label, current):
    draw, n = np.random.default_rng(1), 4000
    members, truth = deviates(draw, label, current, n)
    truth = 600 + truth + 10 + draw.normal(0, LAB.laboratory_mah_g, n) + draw.normal(0, LAB.sample_mah_g, n)
    truth = truth * draw.normal(1, 0.03, n)
    lower, upper = ErrorLevels(MODEL, LAB).interval(
        600 + members, [label] * n, np.full(n, 1.2), np.full(n, PLENTY), np.full(n, current)
    )
    assert 0.78 <= ((lower <= truth) & (truth <= upper)).mean() <= 0.83
    assert 0.05 <= (truth < lower).mean() <= 0.15  # as many below as above


def published(draw: np.random.Generator, studies: int, name: str, labels: dict) -> LiteratureEvaluation:
    """Studies of one to three rows each, drawn from the levels."""
    rows, predicted = [], []
    for study in range(studies):
        lab = draw.normal(0, LAB.laboratory_mah_g)
        for _ in range(int(draw.integers(1, 4))):
            composition = list(labels)[int(draw.integers(len(labels)))]
            members, truth = deviates(draw, labels[composition], 20.0, 1)
            bias = LAB.bias_mah_g[0 if composition.lithium > 1.1 else 1]
            middle = 300 if composition.lithium > 1.1 else 150
            cell = (middle + truth[0] + bias + lab + draw.normal(0, LAB.sample_mah_g)) * draw.normal(1, 0.03)
            rows.append(
                PublishedCapacity(
                    f"{name}{study}",
                    "A",
                    "10.1/a",
                    composition,
                    float(cell),
                    "value",
                    20.0,
                    None,
                    None,
                    None,
                    None,
                    "active",
                    None,
                    "other",
                    "",
                    "",
                    "primary",
                    "",
                )  # fmt: skip
            )
            predicted.append(middle + members[:, 0])
    return LiteratureEvaluation("drawn", tuple(rows), np.stack(predicted, 1))


def test_levels_fitted_to_eighteen_studies_cover_the_cells_of_others(monkeypatch):
    monkeypatch.setattr(Composition, "theoretical_capacity_mah_g", property(lambda self: PLENTY))
    labels = {LMTO: "inside", Composition.parse("Li1.25Mn0.75O2"): "edge", Composition.parse("LiFeO2"): "outside"}
    method, draw, inside = OfLevels(MODEL, labels), np.random.default_rng(3), []
    for _ in range(40):
        lower, upper = method(published(draw, 18, "known", labels), asked := published(draw, 25, "new", labels), 0.8)
        inside += ((lower <= asked.capacity_mah_g) & (asked.capacity_mah_g <= upper)).tolist()
    assert 0.75 <= np.mean(inside) <= 0.85


def test_the_size_of_the_models_error_is_found_again():
    draw = np.random.default_rng(0)
    labels = [label for label in LABELS for _ in range(3000)]
    members = np.stack(
        [np.concatenate([deviates(draw, label, i, 3000)[0] for label in LABELS], 1) for i in MODEL.currents_ma_g], -1
    )
    found = fit_model_level(members.var(0, ddof=1), 4, labels, MODEL.currents_ma_g, MODEL.label_ends)
    for label in LABELS:
        assert found.typical_mah_g[label] == pytest.approx(MODEL.typical_mah_g[label], rel=0.06)
        assert found.freedom[label] == pytest.approx(6, rel=0.25)


def test_a_laboratory_fit_finds_its_variances_and_distrusts_a_small_bias():
    draw, studies = np.random.default_rng(5), np.repeat(np.arange(150), 3)
    lab = draw.normal(0, 50, 150)[studies] + draw.normal(0, 20, 450)
    lithium = np.where(studies % 2 == 0, 1.2, 1.0)
    residual = lab + np.where(lithium == 1.0, 80.0, 0.0) + draw.normal(0, 10, 450)
    found = fit_laboratory_level(residual, np.full(450, 100.0), lithium, [str(s) for s in studies])
    assert found.laboratory_mah_g == pytest.approx(50, rel=0.15)
    assert found.sample_mah_g == pytest.approx(20, rel=0.15)
    assert found.bias_mah_g[1] == pytest.approx(80, abs=15)
    plain = residual[lithium == 1.2].mean()
    assert abs(found.bias_mah_g[0]) < abs(plain)
    assert (found.rows, found.studies) == (450, 150)


def test_the_quantile_is_that_of_students_t():
    from scipy.stats import t

    freedom = np.array([2.0, 3.0, 5.0, 8.0, 13.0, 1e6])
    np.testing.assert_allclose(student_quantile(0.9, freedom), t.ppf(0.9, freedom), rtol=2e-3)
    np.testing.assert_allclose(student_quantile(0.9, freedom[2:]), t.ppf(0.9, freedom[2:]), rtol=2e-4)


def test_rows_of_one_kind_only_can_be_fitted():
    found = fit_laboratory_level(np.array([10.0, -40.0, 60.0]), np.full(3, 100.0), np.full(3, 1.2), ["a", "b", "c"])
    assert found.bias_mah_g[1] == 0
    assert np.isfinite(found.bias_covariance).all()
    assert found.freedom >= 2


def test_equal_members_do_not_promise_certainty():
    lower, upper = ErrorLevels(MODEL, LAB).interval(
        np.full((5, 1), 250.0), ["inside"], np.array([1.2]), np.array([PLENTY]), np.array([20.0])
    )
    assert lower[0] < 250 - 40 < 250 + 40 < upper[0]


def test_one_member_has_an_interval_too():
    lower, upper = ErrorLevels(MODEL, LAB).interval(
        np.full((1, 1), 250.0), ["edge"], np.array([1.2]), np.array([PLENTY]), np.array([20.0])
    )
    assert 0 < lower[0] < upper[0] < PLENTY


def test_an_interval_ends_at_zero_and_at_the_capacity_of_all_lithium():
    members = np.array([[10.0, 380.0, 500.0]] * 5)
    lower, upper = ErrorLevels(MODEL, LAB).interval(
        members, ["inside"] * 3, np.full(3, 1.2), np.full(3, 394.9), np.full(3, 20.0)
    )
    assert lower[0] == 0
    assert upper[1:].tolist() == [394.9, 394.9]
    assert lower[2] < 394.9 - 40  # a mean beyond all lithium does not leave an interval of no width


def test_disagreement_and_distance_and_rate_widen_an_interval():
    def width(spread: float, label: str, current: float) -> float:
        members = 400 + spread * np.array([[-1.0], [-0.5], [0.0], [0.5], [1.0]])
        lower, upper = ErrorLevels(MODEL, LAB).interval(
            members, [label], np.array([1.2]), np.array([PLENTY]), np.array([current])
        )
        return float((upper - lower)[0])

    plain = width(10, "inside", 20)
    assert plain < width(80, "inside", 20)
    assert plain < width(10, "edge", 20) < width(10, "outside", 20)
    assert plain < width(10, "inside", 200) < width(10, "inside", 1000)


def test_the_shipped_ensemble_has_levels_of_its_own():
    model_id = read_card(find_model(DEFAULT_MODEL)).model_id
    assert model_id in _stored(), "new weights need new levels: python -m benchmarks.trust.levels --write"
    assert next(iter(_stored())) == model_id  # what other models borrow


def test_levels_are_read_as_they_were_written():
    stored = _stored()
    text = write_levels({k: levels for k, (_, levels) in stored.items()}, {k: name for k, (name, _) in stored.items()})
    assert text == (files("drxnet") / "data" / "error_levels.csv").read_text("utf-8")


def test_a_model_without_levels_borrows_and_says_so():
    torch.manual_seed(0)
    other = Ensemble(DRXNet(NetworkShape(members=2)), ModelCard("random", 2))
    calibration = Calibration.of(other, lambda features: ["edge"] * features.shape[1])
    assert "estimated for the model default, not for this one" in calibration.sentence
    assert WORDS in calibration.sentence
    (plain,) = predict_cases(other, [(LMTO, CyclingConditions(20))])
    (one,) = predict_cases(other, [(LMTO, CyclingConditions(20))], calibration=calibration)
    assert one.capacity_mah_g_members == pytest.approx(plain.capacity_mah_g_members, abs=1e-3)
    assert "capacity_mah_g_lower" not in plain.row()
    row = one.row()
    assert row["capacity_mah_g_lower"] < row["capacity_mah_g_mean"] < row["capacity_mah_g_upper"]
    assert row["domain"] == "edge"
    assert row["capacity_mah_g_std"] == pytest.approx(plain.row()["capacity_mah_g_std"], abs=1e-3)
