from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.ensemble import Amounts, Ensemble
from drxnet.errors import UsageError
from screening import acquisition
from screening.acquisition import (
    Improvement,
    Limits,
    StreamScorer,
    boxes_not_dominated,
    gaussian_model,
    log_feasibility,
)
from screening.encoding import Encoding
from screening.estimates import Estimate
from screening.goals import ConstraintSpec, Goals, ObjectiveSpec
from screening.measured import Measured
from screening.quantities import Capacity, CostPerKwh, RateRetention, SpecificEnergy
from screening.strategy import STRATEGIES

COLUMNS = ("Li", "F", "Ti", "Cr", "Mn", "Nb")
ONE = Goals()
TWO = Goals(objectives=(ObjectiveSpec(quantity="rate-retention"), ObjectiveSpec(quantity="specific-energy")))
UNIT = torch.ones(1, dtype=torch.float64)


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Lattice rows in units of 1/20."""
    rng = np.random.default_rng(seed)
    metals = rng.multinomial(16, np.ones(4) / 4, n)
    return np.c_[np.full(n, 24), rng.integers(0, 6, n), metals]


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> str:
    """A model folder that holds a fake."""
    monkeypatch.setattr(Ensemble, "load", classmethod(lambda cls, model, **_: FakeEnsemble(3)))
    return "fake"


def measured(n: int = 6) -> list[Measured]:
    scorer_rows = rows(n, seed=9)
    found = []
    for row in scorer_rows:
        amounts = {s: float(x) / 20 for s, x in zip(COLUMNS, row, strict=True)}
        composition = Composition.from_amounts({**amounts, "O": 2 - amounts["F"]})
        low, high = FakeEnsemble(5).subset([4]).capacity([composition], [ONE.rates.low, ONE.rates.high])[0, 0]
        found.append(Measured.at_two_rates(composition, ONE.rates, float(low), float(high)))
    return found


# -- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [3.0, 0.5, 0.0, -0.5, -1.0, -3.0, -6.0])
def test_expected_improvement_is_the_integral(gap: float) -> None:
    improvement = Improvement(Goals(constraints=()), UNIT, torch.tensor([[0.5]], dtype=torch.float64))
    std = 0.1
    value = improvement.log_expected(torch.tensor([[0.5 + gap * std]]).double(), torch.tensor([[std]]).double())
    x = np.linspace(-12, 12, 400_001)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    expected = np.trapezoid(np.maximum(std * (x + gap), 0) * density, x)
    assert value.exp().item() == pytest.approx(expected, rel=1e-4)


def test_expected_improvement_falls_steadily_where_it_underflows() -> None:
    improvement = Improvement(Goals(constraints=()), UNIT, torch.tensor([[0.5]], dtype=torch.float64))
    gaps = torch.logspace(-1, 4, 400, dtype=torch.float64)
    values = improvement.log_expected((0.5 - gaps)[:, None], torch.full((400, 1), 0.01, dtype=torch.float64))
    assert torch.isfinite(values).all()
    assert (values.diff() < 0).all()


def test_expected_hypervolume_improvement_is_the_mean_over_draws() -> None:
    unit = torch.tensor([0.1, 50.0], dtype=torch.float64)
    front = torch.tensor([[0.7, 500.0], [0.5, 700.0]], dtype=torch.float64)
    improvement = Improvement(TWO, unit, front)
    mean, std = torch.tensor([[0.62, 640.0]]).double(), torch.tensor([[0.08, 60.0]]).double()
    draws = mean + std * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lower, upper = improvement.lower[0], improvement.upper[0]
    parts = (torch.minimum((draws / unit)[:, None], upper) - lower).clamp_min(0)
    assert improvement.log_expected(mean, std).exp().item() == pytest.approx(
        parts.prod(-1).sum(-1).mean().item(), rel=0.02
    )


def test_boxes_are_what_the_front_leaves() -> None:
    front = torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]], dtype=torch.float64)
    lower, upper = boxes_not_dominated(front[None], torch.zeros(2, dtype=torch.float64))
    rng = np.random.default_rng(0)
    for point in torch.from_numpy(rng.uniform(0, 4, (200, 2))):
        dominated = (front >= point).all(-1).any()
        inside = ((point > lower[0]) & (point <= upper[0])).all(-1).sum()
        assert inside == (0 if dominated else 1)


def test_what_is_worse_than_the_reference_bounds_nothing() -> None:
    reference = torch.tensor([0.3, 400.0], dtype=torch.float64)
    lower, upper = boxes_not_dominated(torch.tensor([[[0.2, 900.0]]]).double(), reference)
    assert torch.equal(lower[0], reference[None])
    assert torch.isinf(upper).all()


def test_feasibility_agrees_with_the_goals() -> None:
    goals = Goals(
        constraints=(
            ConstraintSpec(quantity="capacity", at_least=220),
            ConstraintSpec(quantity="capacity", at_most=300),
        )
    )
    rng = np.random.default_rng(0)
    mean, std = rng.uniform(100, 400, (50, 3)), rng.uniform(5, 60, (50, 3))
    log = log_feasibility(goals, torch.from_numpy(mean), torch.from_numpy(std))
    np.testing.assert_allclose(log.exp(), goals.feasibility(mean, std), atol=1e-12)
    assert torch.isfinite(log_feasibility(goals, torch.zeros(1, 3).double(), torch.full((1, 3), 1e-3).double())).all()


# -- measurements -----------------------------------------------------------------------------------------------------


def test_variances_follow_from_the_errors_of_both_rates() -> None:
    composition = Composition.parse("Li1.2Mn0.4Ti0.4O2")
    low, high = Estimate(250.0, 7.0, 2, 5.0), Estimate(150.0, 8.0, 2, 6.0)
    variances = Measured.at_two_rates(composition, ONE.rates, low, high).variances(ONE)
    rng = np.random.default_rng(0)
    draws = rng.normal(150, 6, 100_000) / rng.normal(250, 5, 100_000)
    assert variances[0] == pytest.approx(draws.var(), rel=0.05)
    np.testing.assert_allclose(variances[1:], [25.0, 36.0])
    assert np.isnan(Measured.at_two_rates(composition, ONE.rates, 250.0, 150.0).variances(ONE)).all()
    agreeing = Measured.at_two_rates(composition, ONE.rates, Estimate.over([250.0] * 100))
    assert agreeing.variances(ONE)[1] == pytest.approx(2.5**2)  # never 0


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.0), (10.0, 5.0), (200.0, 0.0), (49.0, 60.0)], ids=lambda capacity: f"{capacity:g}"
)
def test_a_dead_composition_is_not_known_exactly(low: float, high: float) -> None:
    cells = [Estimate.over([q] * 999, least=50.0) for q in (low, high)]
    dead = Measured.at_two_rates(Composition.parse("Li1.2Mn0.4Ti0.4O2"), ONE.rates, *cells)
    retention, *capacities = np.sqrt(dead.variances(ONE))
    assert capacities[:2] == pytest.approx([0.01 * max(low, 50.0), 0.01 * max(high, 50.0)])
    assert 0.002 < retention < 0.02


def test_other_quantities_are_matched_to_the_goals() -> None:
    energy = SpecificEnergy(ONE.rates.low)
    found = Measured(Composition.parse("Li1.2Mn0.4Ti0.4O2"), {energy: Estimate(700.0, None)})
    assert found.values(TWO)[TWO.objective_columns[1]] == 700.0
    assert np.isnan(found.values(ONE)).all()


def test_model_learns_from_what_was_measured() -> None:
    data = measured(12)
    encoding = Encoding.of([m.composition for m in data])
    x = encoding.encode([m.composition for m in data])
    truth = torch.tensor([m.estimates[Capacity(ONE.rates.low)].mean for m in data])
    errors = [
        (gaussian_model(FakeEnsemble(3), encoding, ONE, known).posterior(x).mean[:, 1] - truth).abs().mean().item()
        for known in ([], data)
    ]
    assert errors[1] < 0.2 * errors[0]


# -- the stream -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scores_are_finite_and_do_not_depend_on_the_batch(fake_model: str, strategy) -> None:
    scorer = StreamScorer.of(fake_model, COLUMNS, 20, measured=measured(), strategy=strategy, seed=3)
    scorer.prepare()
    units = rows(40)
    together = scorer.score(units)
    assert np.isfinite(together).all()
    assert len(set(together)) > 30
    np.testing.assert_allclose(np.concatenate([scorer.score(part) for part in np.split(units, 4)]), together, rtol=1e-6)


def test_scorer_travels_without_its_ensemble_and_gives_the_same_scores(fake_model: str) -> None:
    scorer = StreamScorer.of(fake_model, COLUMNS, 20, measured=measured())
    scorer.prepare()
    units = rows(20)
    scores = scorer.score(units)
    packed = pickle.dumps(scorer)
    assert len(packed) < 20_000
    twin = pickle.loads(packed)
    assert twin.fingerprint == scorer.fingerprint
    twin.prepare()
    np.testing.assert_array_equal(twin.score(units), scores)


@pytest.mark.parametrize(
    "change",
    [
        {"strategy": "ucb"},
        {"seed": 1},
        {"measured": measured(3)},
        {"pending": [Composition.parse("Li1.2Mn0.4Ti0.4O2")]},
        {"limits": Limits(banned=("Cr",))},
        {"goals": Goals(constraints=())},
        {"denominator": 40},
        {"engine": "fused"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fingerprint_changes_with_everything_the_scores_depend_on(fake_model: str, change: dict) -> None:
    usual = {"model": fake_model, "columns": COLUMNS, "denominator": 20, "goals": ONE, "measured": measured()}
    before = StreamScorer.of(**usual).fingerprint
    assert StreamScorer.of(**usual).fingerprint == before
    assert StreamScorer.of(**{**usual, **change}).fingerprint != before


def test_banned_elements_and_dear_compositions_are_rejected(fake_model: str) -> None:
    units = rows(60)
    limits = Limits(banned=("Nb", "F"))
    scores = StreamScorer.of(fake_model, COLUMNS, 20, limits=limits).score(units)
    holds = (units[:, COLUMNS.index("Nb")] > 0) | (units[:, COLUMNS.index("F")] > 0)
    assert np.array_equal(scores == -np.inf, holds)
    assert (StreamScorer.of(fake_model, COLUMNS, 20, limits=Limits(budget_usd_kg=0.1)).score(units) == -np.inf).all()


def test_uniform_scores_are_uniform_and_depend_on_row_and_seed_alone() -> None:
    units = np.unique(rows(20_000), axis=0)
    one, two = acquisition._uniform(units, 1), acquisition._uniform(units, 2)
    assert np.histogram(one, 10, (0, 1))[0].std() < 4 * np.sqrt(len(units) / 10)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.05
    np.testing.assert_array_equal(acquisition._uniform(units[::-1], 1), one[::-1])


def test_ranking_orders_by_the_pessimistic_quantile(fake_model: str) -> None:
    retention = RateRetention.of(ONE.rates)
    scorer = StreamScorer.of(fake_model, COLUMNS, 20, rank_by=retention, least_capacity_mah_g=270)
    units = rows(30)
    scores = scorer.score(units)
    compositions = Amounts(
        ("Li", *COLUMNS[2:]), torch.from_numpy(units[:, [0, 2, 3, 4, 5]] / 20), torch.from_numpy(units[:, 1] / 20)
    )
    model = gaussian_model(FakeEnsemble(3), Encoding(COLUMNS[2:]), ONE)
    mean, std = (moment.numpy() for moment in model.marginals(model.reader.read(compositions)))
    lower = ONE.lower(mean, std)[:, 0]
    poor = mean[:, 1] < 270
    assert 0 < poor.sum() < 30
    np.testing.assert_allclose(scores, np.where(poor, -np.inf, lower))


def test_unknown_strategies_and_rankings_are_refused(fake_model: str) -> None:
    with pytest.raises(UsageError, match="No strategy 'best'. Choose one of logei"):
        StreamScorer.of(fake_model, COLUMNS, 20, strategy="best")
    with pytest.raises(UsageError, match="make it an objective"):
        StreamScorer.of(fake_model, COLUMNS, 20, rank_by=CostPerKwh(ONE.rates.low))


def test_published_ensemble_is_scored_without_a_nan(published_ensemble) -> None:
    scorer = StreamScorer.of(published_ensemble.path, COLUMNS, 20, measured=measured())
    scores = scorer.score(rows(200))
    assert not np.isnan(scores).any()
    assert len(set(scores.round(9))) == len(np.unique(rows(200), axis=0))
