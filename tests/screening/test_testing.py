from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble

from screening.estimates import Estimate
from screening.filters import FILTERS, Filter, Mixtures
from screening.lattice import Lattice
from screening.outlook import Outlook
from screening.quantities import Capacity, CapacityRetention
from screening.space import load_space, parse_space
from screening.strategies import Strategy
from screening.strategies.improving import LogEI
from screening.testing import check_filter, check_quantity, check_strategy
from tests.screening.test_outlook import compositions, measured

if TYPE_CHECKING:
    from torch import Tensor


def described(measure: Any) -> Any:
    """A function with a docstring."""
    measure.__doc__ = "What it says."
    return measure


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


class Flat(LogEI):
    """A column too many."""

    def score(self, outlook, rows):
        return super().score(outlook, rows)[:, None]


class Nothing(LogEI):
    """No number for some."""

    def score(self, outlook, rows):
        value = super().score(outlook, rows)
        return torch.where(value > value.median(), torch.inf, value)


class Unsteady(LogEI):
    """Draws without a seed."""

    def score(self, outlook, rows):
        return super().score(outlook, rows) + torch.rand(len(rows.amounts))


class ShortNext(LogEI):
    """Leaves out what is known."""

    def next(self, batch):
        return super().next(batch)[: len(batch.candidates)]


class NextUnknown(LogEI):
    """NaN for what is known."""

    def next(self, batch):
        value = super().next(batch)
        value[-1] = torch.nan
        return value


class NextUnsteady(LogEI):
    """Another value each time it is asked."""

    def next(self, batch):
        return super().next(batch) + torch.rand(1).double()


class Silent(LogEI):
    """Gives no reason."""

    def why(self, pick):
        return ""


class BySide(LogEI):
    """Scores by the place in the table."""

    def score(self, outlook, rows):
        n = len(rows.amounts)
        return (
            torch.arange(n).double() if n == len(CANDIDATES) else torch.zeros(n).double() + super().score(outlook, rows)
        )


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Flat, r"expected \(12,\), got \(12, 1\)"),
        (Nothing, "scores are finite"),
        (Unsteady, "the same seed gives the same scores"),
        (BySide, "does not depend on the rows beside it"),
        (ShortNext, "next gives one value per row of the batch"),
        (NextUnknown, "never NaN"),
        (NextUnsteady, "the same seed and batch give the same values"),
        (Silent, "every pick has a reason"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_strategy_that_breaks_its_promise_is_told(strategy: type[Strategy], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_strategy(strategy, OUTLOOK, CANDIDATES)


def test_few_candidates_or_compositions_check_nothing() -> None:
    check_strategy(LogEI, OUTLOOK, CANDIDATES[:8])
    with pytest.raises(AssertionError, match="at least eight candidates"):
        check_strategy(LogEI, OUTLOOK, CANDIDATES[:7])
    check_quantity(Capacity, FakeEnsemble(3), CANDIDATES[:3])
    with pytest.raises(AssertionError, match="at least three compositions"):
        check_quantity(Capacity, FakeEnsemble(3), CANDIDATES[:2])
    lattice = Lattice(load_space("tiny"))
    check_filter(FILTERS[0], lattice.mixtures(lattice.unrank([0, 1])))
    with pytest.raises(AssertionError, match="at least two compositions"):
        check_filter(FILTERS[0], lattice.mixtures(lattice.unrank([0])))


def changed(**members: object) -> type[Capacity]:
    """A capacity with something else about it."""
    return type("Changed", (Capacity,), members)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"__eq__": lambda self, other: False, "__hash__": lambda self: 1}, "equal quantities compare equal"),
        ({"__hash__": lambda self: id(self)}, "they have one hash"),
        ({"conditions": property(lambda self: ())}, "names the conditions that it needs"),
        ({"limits": (5.0, 5.0)}, "limits are the smallest and the largest value"),
        ({"direction": "upwards"}, "expected maximize or minimize, got 'upwards'"),
        ({"key": lambda self, rates: "capacity (mAh/g)"}, "plain name with its unit, got 'capacity .mAh/g.'"),
        ({"__str__": lambda self: ""}, "it has a name for sentences"),
        ({"identity": property(lambda self: "capacity")}, "the window is part of what it is"),
        ({"of_members": lambda self, p: p.capacity(self.at).float()}, "gives float64, got torch.float32"),
        ({"of_members": lambda self, p: p.capacity(self.at) / 0.0}, "gives finite values"),
        (
            {"of_members": lambda self, p: p.capacity(self.at) - p.capacity(self.at).mean(1, keepdim=True)},
            "a batch is its single compositions",
        ),
        ({"of_members": lambda self, p: p.capacity(self.at).detach()}, "differentiable with respect to the amounts"),
        (
            {"of_cells": lambda self, cells: Estimate(200.0, None) if cells.discharges else None},
            "the error of its mean",
        ),
        ({"limits": (0.0, 150.0)}, "within the limits"),
        ({"limits": (250.0, 350.0)}, "within the limits"),
    ],
)
def test_a_capacity_that_is_none_is_told_why(members: dict[str, object], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_quantity(changed(**members), FakeEnsemble(3), CANDIDATES[:4])


def spoils(mixtures: Mixtures) -> np.ndarray:
    """Rounds what it is given."""
    mixtures.amounts[:] = mixtures.amounts.round(1)
    return mixtures.amounts[:, 0]


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda mixtures: mixtures.amounts[:, 0], "its docstring says the formula"),
        (described(lambda mixtures: mixtures.amounts[:, :1]), r"expected \(9,\), got \(9, 1\)"),
        (described(lambda mixtures: mixtures.amounts[:, 0] / 0), "finite ones"),
        (spoils, "are left as they are"),
    ],
    ids=["undescribed", "column", "infinite", "spoils"],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_filter_that_breaks_its_promise_is_told(measure, message: str) -> None:
    lattice = Lattice(parse_space({**load_space("tiny").model_dump(), "step": "1/40"}))
    mixtures = lattice.mixtures(lattice.unrank(lattice.sample_ranks(9, 0)))
    with pytest.raises(AssertionError, match=message):
        check_filter(Filter(measure, at_least=True), mixtures)


def test_a_value_at_its_own_threshold_must_pass() -> None:
    class Strict(Filter):
        def passes(self, values, threshold):
            return values > threshold

    lattice = Lattice(load_space("tiny"))
    with pytest.raises(AssertionError, match="a value at the threshold passes"):
        check_filter(Strict(FILTERS[0].measure, at_least=True), lattice.mixtures(lattice.unrank([0, 1])))
