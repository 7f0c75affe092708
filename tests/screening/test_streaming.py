"""The closed form of a stream is the Gaussian model, output by output."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drxnet.ensemble import Amounts, Ensemble
from screening.encoding import Encoding
from screening.goals import Goals
from screening.lattice import Lattice
from screening.space import load_space
from screening.streaming import StreamMarginals
from screening.surrogate import DRXNetGaussianModel


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return Ensemble.load("default").subset([0, 1, 2])


@pytest.fixture(scope="module")
def lattice() -> Lattice:
    return Lattice(load_space("paper-he"))


def model_of(ensemble: Ensemble, lattice: Lattice, measured: int, missing: float, fitted: bool) -> DRXNetGaussianModel:
    compositions = lattice.compositions(lattice.sample(measured, 3))
    encoding = Encoding(lattice.metals)
    goals = Goals()
    y = goals.evaluate(ensemble, compositions)[0] * 1.05 if measured else torch.zeros(0, len(goals.quantities))
    generator = np.random.default_rng(0)
    y[torch.from_numpy(generator.random(y.shape) < missing)] = torch.nan
    own = torch.full_like(y, torch.nan)
    own[::3] = (0.05 * y[::3]).square()
    model = DRXNetGaussianModel(ensemble, encoding, goals, encoding.encode(compositions), y.double(), own.double())
    return model.fit() if fitted else model


@pytest.mark.parametrize(
    ("measured", "missing", "fitted"), [(0, 0.0, False), (1, 0.0, False), (25, 0.0, True), (60, 0.4, False)]
)
def test_the_closed_form_is_the_model(
    ensemble: Ensemble, lattice: Lattice, monkeypatch: pytest.MonkeyPatch, measured: int, missing: float, fitted: bool
) -> None:
    model = model_of(ensemble, lattice, measured, missing, fitted)
    symbols, cations, fluorine = lattice.amounts(lattice.sample(400, 5))
    points = model.reader.read(Amounts(symbols, torch.from_numpy(cations), torch.from_numpy(fluorine)))
    mean, std = model.marginals(points)
    monkeypatch.setattr("screening.streaming._BLOCK", 150 * max(1, measured))  # several blocks
    got_mean, got_std = StreamMarginals(model)(points)
    assert torch.allclose(got_mean, mean, rtol=1e-8, atol=1e-7)
    assert torch.allclose(got_std, std, rtol=1e-6, atol=1e-7)
