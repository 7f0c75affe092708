from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.ensemble import Ensemble
from drxnet.process import NOT_STATED
from screening.goals import Goals
from screening.measured import Measured
from screening.outlook import Outlook
from screening.quantities import Capacity
from screening.surrogate import DRXNetGaussianModel

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


def test_it_learns_from_what_was_measured() -> None:
    data = measured(12)
    truth = np.array([m.estimates[Capacity(ONE.rates.low)].mean for m in data])
    errors = []
    for known in ([], data):
        outlook = Outlook.of(FakeEnsemble(3), ONE, measured=known)
        mean, _ = outlook.surrogate.marginals(outlook.read([m.composition for m in data]))
        errors.append(np.abs(mean[:, 1].numpy() - truth).mean())
    assert errors[1] < 0.2 * errors[0]


def test_incumbents_are_what_is_known_and_probably_feasible() -> None:
    data, waiting = measured(8), compositions(3, seed=4)
    outlook = Outlook.of(FakeEnsemble(3), ONE, measured=data, pending=waiting)
    mean, std = outlook.surrogate.marginals(outlook.read([*outlook.known, *waiting]))
    feasible = ONE.feasibility(mean.numpy(), std.numpy()) >= 0.5
    assert 0 < feasible.sum()
    np.testing.assert_allclose(np.array(outlook.incumbents)[:, 0], mean[feasible, 0])


def test_it_travels_as_fitted_values_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    outlook = Outlook.of(FakeEnsemble(3), ONE, measured=measured(), pending=compositions(2, seed=3))
    monkeypatch.setattr(Ensemble, "load", classmethod(lambda cls, model, **_: FakeEnsemble(3)))
    monkeypatch.setattr(DRXNetGaussianModel, "fit", lambda self: pytest.fail("fitted again"))
    packed = pickle.dumps(outlook)
    assert len(packed) < 20_000
    twin = pickle.loads(packed)
    assert twin == outlook
    assert twin.fingerprint == outlook.fingerprint
    made = compositions(10, seed=2)
    for here, there in zip(
        outlook.surrogate.marginals(outlook.read(made)), twin.surrogate.marginals(twin.read(made)), strict=True
    ):
        torch.testing.assert_close(there, here, rtol=1e-10, atol=1e-10)


def test_it_is_fitted_again_only_where_something_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    original = DRXNetGaussianModel.fit
    monkeypatch.setattr(DRXNetGaussianModel, "fit", lambda self: fits.append(1) or original(self))
    data, waiting = measured(), [Composition.parse("Li1.2Mn0.4Ti0.4O2")]
    outlook = Outlook.of(FakeEnsemble(3), ONE, measured=data)
    later = outlook.updated(data, waiting)
    assert len(fits) == 1
    assert later.pending == tuple((c, NOT_STATED) for c in waiting)
    assert len(later.incumbents) >= len(outlook.incumbents)
    assert outlook.updated(measured(7), waiting).hyperparameters != outlook.hyperparameters
    assert len(fits) == 2


def test_the_distance_to_what_is_known_needs_no_network_twice() -> None:
    outlook = Outlook.of(FakeEnsemble(3), ONE, measured=measured())
    assert outlook.domain.scale is outlook.surrogate.reader.scale
    assert set(outlook.known) <= set(outlook.domain.known)


def test_what_the_weights_have_learned_moves_no_mean_and_narrows_the_spread() -> None:
    data, ensemble = measured(10), FakeEnsemble(3)
    low = Capacity(ONE.rates.low)
    learned = [replace(m, learned={q: e.mean - 30 for q, e in m.estimates.items() if q == low}) for m in data]
    plain, told = (Outlook.of(ensemble, ONE, measured=known) for known in (data, learned))
    made = [m.composition for m in data]
    own = ONE.evaluate(ensemble, made).mean(0)
    mean, std = told.surrogate.marginals(told.read(made))
    torch.testing.assert_close(mean[:, 1], own[:, 1], atol=0.1, rtol=0)
    assert (plain.surrogate.marginals(plain.read(made))[0][:, 1] - own[:, 1]).abs().max() > 5, "else moves it"
    far = compositions(6, seed=77)
    _, elsewhere = told.surrogate.marginals(told.read(far))
    assert std[:, 1].mean() < 0.7 * elsewhere[:, 1].mean()


def test_how_wrong_the_model_is_comes_from_what_it_said_before_it_had_seen_it() -> None:
    ensemble, far = FakeEnsemble(3), compositions(6, seed=77)
    spreads = []
    for off in (2.0, 80.0):
        rng = np.random.default_rng(0)
        learned = [
            replace(m, learned={q: e.mean + off * rng.standard_normal() for q, e in m.estimates.items()})
            for m in measured(10)
        ]
        outlook = Outlook.of(ensemble, ONE, measured=learned)
        spreads.append(float(outlook.surrogate.marginals(outlook.read(far))[1][:, 1].mean()))
    assert spreads[1] > 2 * spreads[0]


def test_an_outlook_with_learned_data_travels() -> None:
    learned = [replace(m, learned={q: e.mean + 10 for q, e in m.estimates.items()}) for m in measured(5)]
    outlook = Outlook.of(FakeEnsemble(3), ONE, measured=learned)
    twin = pickle.loads(pickle.dumps(outlook))._with(outlook.ensemble, outlook._condition(outlook.ensemble))
    points = outlook.read(compositions(4, seed=3))
    for one, other in zip(outlook.surrogate.marginals(points), twin.surrogate.marginals(points), strict=True):
        torch.testing.assert_close(one, other)
