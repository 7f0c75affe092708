from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.ensemble import Amounts, Ensemble
from drxnet.errors import ConfigurationError, UsageError
from screening.batch import Limits
from screening.goals import Goals
from screening.measured import Measured
from screening.outlook import Outlook
from screening.quantities import CostPerKwh, RateRetention
from screening.scoring import Rows, StreamScorer
from screening.strategies import STRATEGIES
from screening.strategies.spreading import uniform

COLUMNS = ("Li", "F", "Ti", "Cr", "Mn", "Nb")
ONE = Goals()


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Lattice rows in units of 1/20."""
    rng = np.random.default_rng(seed)
    metals = rng.multinomial(16, np.ones(4) / 4, n)
    return np.c_[np.full(n, 24), rng.integers(0, 6, n), metals]


def compositions(n: int, seed: int = 0) -> list[Composition]:
    found = []
    for row in rows(n, seed):
        amounts = {s: float(x) / 20 for s, x in zip(COLUMNS, row, strict=True)}
        found.append(Composition.from_amounts({**amounts, "O": 2 - amounts["F"]}))
    return found


def measured(n: int = 6) -> list[Measured]:
    made = compositions(n, seed=9)
    q = FakeEnsemble(5).subset([4]).capacity(made, [ONE.rates.low, ONE.rates.high])[0]
    return [Measured.at_two_rates(c, ONE.rates, *map(float, row)) for c, row in zip(made, q, strict=True)]


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> str:
    """A model folder that holds a fake."""
    monkeypatch.setattr(Ensemble, "load", classmethod(lambda cls, model, **_: FakeEnsemble(3)))
    return "fake"


def scorer_of(ensemble: Any = None, denominator: int = 20, **options: Any) -> StreamScorer:
    known = {k: options.pop(k) for k in ("goals", "measured", "pending") if k in options}
    outlook = Outlook.of(ensemble or FakeEnsemble(3), **known)
    return StreamScorer(outlook, COLUMNS, denominator, **options)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scores_are_finite_and_do_not_depend_on_the_batch(fake_model: str, strategy: str) -> None:
    scorer = scorer_of(measured=measured(), strategy=strategy, seed=3)
    scorer.prepare()
    units = rows(40)
    together = scorer.score(units)
    assert np.isfinite(together).all()
    assert len(set(together)) > 30
    np.testing.assert_allclose(np.concatenate([scorer.score(part) for part in np.split(units, 4)]), together, rtol=1e-6)


def test_scorer_travels_without_its_ensemble_and_gives_the_same_scores(fake_model: str) -> None:
    scorer = scorer_of(measured=measured())
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
    ],
    ids=lambda change: next(iter(change)),
)
def test_fingerprint_changes_with_everything_the_scores_depend_on(fake_model: str, change: dict) -> None:
    usual: dict = {"goals": ONE, "measured": measured()}
    before = scorer_of(**usual).fingerprint
    assert scorer_of(**usual).fingerprint == before
    assert scorer_of(**{**usual, **change}).fingerprint != before


def test_banned_elements_and_dear_compositions_are_rejected(fake_model: str) -> None:
    units = rows(60)
    limits = Limits(banned=("Nb", "F"))
    scores = scorer_of(limits=limits).score(units)
    holds = (units[:, COLUMNS.index("Nb")] > 0) | (units[:, COLUMNS.index("F")] > 0)
    assert np.array_equal(scores == -np.inf, holds)
    assert (scorer_of(limits=Limits(budget_usd_kg=0.1)).score(units) == -np.inf).all()


def test_uniform_scores_are_uniform_and_depend_on_row_and_seed_alone() -> None:
    units = np.unique(rows(20_000), axis=0)
    one, two = uniform(units, 1), uniform(units, 2)
    assert np.histogram(one, 10, (0, 1))[0].std() < 4 * np.sqrt(len(units) / 10)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.05
    np.testing.assert_array_equal(uniform(units[::-1], 1), one[::-1])


def test_ranking_orders_by_the_pessimistic_quantile(fake_model: str) -> None:
    retention = RateRetention.of(ONE.rates)
    scorer = scorer_of(rank_by=retention, least_capacity_mah_g=270)
    units = rows(30)
    scores = scorer.score(units)
    amounts = Amounts(
        ("Li", *COLUMNS[2:]), torch.from_numpy(units[:, [0, 2, 3, 4, 5]] / 20), torch.from_numpy(units[:, 1] / 20)
    )
    outlook = Outlook.of(FakeEnsemble(3), ONE)
    mean, std = (moment.numpy() for moment in outlook.surrogate.marginals(outlook.read(amounts)))
    lower = ONE.lower(mean, std)[:, 0]
    poor = mean[:, 1] < 270
    assert 0 < poor.sum() < 30
    np.testing.assert_allclose(scores, np.where(poor, -np.inf, lower))


def test_unknown_strategies_and_rankings_are_refused(fake_model: str) -> None:
    with pytest.raises(ConfigurationError, match="No strategy 'best'. There are logei, qlognei, ucb"):
        scorer_of(strategy="best")
    with pytest.raises(UsageError, match="make it an objective"):
        scorer_of(rank_by=CostPerKwh(ONE.rates.low))


def test_a_trained_ensemble_is_scored_without_a_nan(any_ensemble) -> None:
    scorer = scorer_of(any_ensemble, measured=measured())
    scores = scorer.score(rows(200))
    assert not np.isnan(scores).any()
    assert len(set(scores.round(9))) == len(np.unique(rows(200), axis=0))


def test_a_blind_strategy_asks_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = pickle.loads(pickle.dumps(scorer_of(strategy="space-filling")))
    monkeypatch.setattr(Ensemble, "load", classmethod(lambda cls, model, **_: pytest.fail("loaded")))
    scorer.prepare()
    assert len(set(scorer.score(rows(20)))) > 15


def test_what_lies_outside_the_known_counts_half() -> None:
    outlook = Outlook.of(FakeEnsemble(3))
    candidates = [Composition.parse(c) for c in ("Li1.2Mn0.4Ti0.4O2", "Li1.05W0.55Co0.4O2")]
    amounts = Amounts.of(candidates)
    assert outlook.domain.nearest(amounts).labels == ["inside", "outside"]
    weight = Rows(outlook, Limits(), amounts, np.zeros((2, 1))).log_weight
    np.testing.assert_allclose(weight.exp(), [1.0, 0.5])
    assert torch.equal(Rows(outlook, Limits(domain_weight={}), amounts, np.zeros((2, 1))).log_weight, weight * 0)
