"""The choice with a quantity that no ensemble predicts, as the benchmarks on measured oxides use it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.oer.__main__ import METHODS, Plate, PlateBatch, PlateOutlook, run
from benchmarks.oer.quantity import GOALS, Overpotential
from benchmarks.phase.__main__ import CLASSIFIERS, Oxides, areas
from drxnet.plugins import plugins
from screening.improvement import Improvement
from screening.quantities import QUANTITIES
from screening.strategies import STRATEGIES


@pytest.fixture(autouse=True)
def _added(monkeypatch):
    """Other tests forget what was added."""
    monkeypatch.setitem(plugins(QUANTITIES.group), Overpotential.name, Overpotential)


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def plate() -> Plate:
    """Oxides of four metals, the best where the first makes up half."""
    rows = [r for r in product(range(11), repeat=4) if sum(r) == 10]
    shares = torch.tensor([[*r, 0, 0] for r in rows], dtype=torch.float64) / 10
    return Plate(shares, 0.3 + (shares[:, 0] - 0.5).abs() + 0.3 * shares[:, 1])


def test_a_quantity_that_no_ensemble_knows_is_minimised() -> None:
    assert QUANTITIES["overpotential"] is Overpotential
    assert GOALS.first == Overpotential()
    outlook = PlateOutlook(Improvement(GOALS, torch.ones(1), torch.tensor([[-0.5]])))
    mean = torch.tensor([[0.4], [0.6]])
    better, worse = outlook.improvement.log_expected(outlook.signed(mean), torch.full((2, 1), 0.01)).tolist()
    assert better > worse


def test_believing_takes_the_variance_of_a_pick_and_its_neighbours() -> None:
    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (-torch.cdist(a, b)).exp()

    points = torch.tensor([[0.0], [0.1], [5.0]])
    outlook = PlateOutlook(Improvement(GOALS, torch.ones(1), torch.tensor([[-0.5]])))
    batch = PlateBatch(outlook, kernel, points, torch.zeros(3, 1), torch.ones(3), torch.zeros(0, 3), torch.tensor(0.01))
    batch.add(0)
    left = batch.remaining_std[:, 0].square().tolist()
    assert left[0] == pytest.approx(1 - 1 / 1.01)
    assert left[1] == pytest.approx(1 - np.exp(-0.2) / 1.01)
    assert left[2] == pytest.approx(1 - np.exp(-10) / 1.01)
    assert STRATEGIES["logei"](0).next(batch).argmax() == 2  # type: ignore[arg-type]


def test_the_packages_choice_finds_more_than_chance_on_a_smooth_plate(plate: Plate) -> None:
    assert run(plate, METHODS["drx-screen"](plate, 0), 0) > run(plate, METHODS["random"](plate, 0), 0)


def test_data_that_are_not_there_are_named_with_their_source(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="olympus at 440b6b58"):
        Plate.read(tmp_path, "3496")
    with pytest.raises(SystemExit, match="Active-Learning-HESOs at 0aebde9c"):
        Oxides.read(tmp_path)


def test_classifiers_order_what_sizes_decide_and_a_constant_does_not() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([rng.permutation([1] * 5 + [0] * 5) / 5 for _ in range(80)])
    mismatch = shares @ np.linspace(0, 1, 10)
    oxides = Oxides(shares, mismatch, (mismatch < np.median(mismatch)).astype(int))
    for name, classify in CLASSIFIERS.items():
        found = areas(oxides, classify, 24, [0, 1]).min()
        assert found == 0.5 if name == "constant" else found > 0.75
