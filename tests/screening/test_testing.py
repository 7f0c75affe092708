from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fakes import FakeEnsemble

from screening.estimates import Estimate
from screening.filters import FILTERS, Filter, Mixtures
from screening.lattice import Lattice
from screening.outlook import Outlook
from screening.quantities import Capacity, CapacityRetention
from screening.space import load_space
from screening.strategies import Strategy
from screening.strategies.improving import LogEI
from screening.testing import check_filter, check_quantity, check_strategy
from tests.screening.test_outlook import compositions, measured

if TYPE_CHECKING:
    from torch import Tensor

OUTLOOK = Outlook.of(FakeEnsemble(3), measured=measured())
CANDIDATES = compositions(12, seed=4)


class BestOfItsNeighbours(LogEI):
    """Scores depend on what stands beside: not what a strategy may do."""

    def score(self, outlook, rows) -> Tensor:
        value = super().score(outlook, rows)
        return value - value.mean()


class Remembers(LogEI):
    """Picks by itself."""

    def next(self, batch) -> Tensor:
        batch.picked.append(0)
        return super().next(batch)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [(BestOfItsNeighbours, "does not depend on the rows beside it"), (Remembers, "leaves the batch as it is")],
    ids=["neighbours", "picks"],
)
def test_the_check_finds_a_strategy_that_does_not_conform(strategy: type[Strategy], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_strategy(strategy, OUTLOOK, CANDIDATES)


class HalfDone(Capacity):
    """Says nothing of cells."""

    def of_cells(self, cells):
        return None


class FromNothing(Capacity):
    """Has a value whatever was measured."""

    def of_cells(self, cells):
        return Estimate.over([1.0])


class OneForAll(Capacity):
    """Gives one value for all compositions."""

    def of_members(self, profiles):
        return super().of_members(profiles).mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (HalfDone, "cells under all its conditions give a value"),
        (FromNothing, "without cells there is no value"),
        (OneForAll, r"of_members gives members x n: expected \(3, 4\), got \(3, 1\)"),
    ],
    ids=["half", "nothing", "shape"],
)
def test_a_quantity_that_breaks_its_promise_is_told(kind: type[Capacity], message: str):
    with pytest.raises(AssertionError, match=message):
        check_quantity(kind, FakeEnsemble(3), CANDIDATES[:4])


def ignores_most(mixtures: Mixtures):
    """Depends on what stands beside it."""
    return mixtures.amounts[:, 0] - mixtures.amounts[:, 0].mean()


def test_a_filter_that_looks_at_its_neighbours_is_told():
    lattice = Lattice(load_space("tiny"))
    mixtures = lattice.mixtures(lattice.unrank(lattice.sample_ranks(9, 0)))
    with pytest.raises(AssertionError, match="a batch is its single compositions"):
        check_filter(Filter(ignores_most, at_least=True), mixtures)


class AnyWillDo(CapacityRetention):
    """Has a value from the first cycle alone."""

    def of_cells(self, cells):
        return super().of_cells(cells) or Estimate.over([d.capacity_mah_g / 300 for d in cells.discharges])


def test_a_quantity_of_several_conditions_needs_cells_under_each():
    check_quantity(CapacityRetention, FakeEnsemble(3), CANDIDATES[:4])
    with pytest.raises(AssertionError, match="without cells at .* there is no value"):
        check_quantity(AnyWillDo, FakeEnsemble(3), CANDIDATES[:4])


@pytest.mark.parametrize("filter_", FILTERS, ids=lambda f: f.name)
def test_every_shipped_filter_conforms(filter_: Filter):
    lattice = Lattice(load_space("tiny"))
    check_filter(filter_, lattice.mixtures(lattice.unrank(lattice.sample_ranks(9, 0))))
