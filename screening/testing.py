"""Checks that whatever another package adds must pass; for its own tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from drxnet.composition import MODEL_METALS, Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts, Ensemble
from drxnet.process import NOT_STATED
from screening.batch import Batch, Limits
from screening.filters import Filter, Mixtures
from screening.goals import Rates
from screening.outlook import Outlook
from screening.quantities import MeasuredCells, MemberProfiles, Quantity
from screening.scoring import Rows
from screening.strategies import Strategy


def check_strategy(strategy: type[Strategy], outlook: Outlook, candidates: Sequence[Composition]) -> None:
    """Check that a strategy can score a stream in any order and fill a batch.

    Args:
        strategy: its class.
        outlook: of any ensemble; measurements make the check stricter.
        candidates: at least eight, not among what is measured.
    """
    assert len(candidates) >= 8, "give at least eight candidates"
    _check_scores(strategy, outlook, candidates)
    _check_turns(strategy, outlook, candidates)


def _check_scores(strategy: type[Strategy], outlook: Outlook, candidates: Sequence[Composition]) -> None:
    table = _units(candidates)

    def score(places: Sequence[int]) -> np.ndarray:
        rows = Rows(outlook, Limits(), Amounts.of([candidates[i] for i in places]), table[list(places)])
        return np.asarray(strategy(3).score(outlook, rows))

    n = len(candidates)
    together = score(range(n))
    assert together.shape == (n,), f"score gives one value per row: expected {(n,)}, got {together.shape}"
    assert np.isfinite(together).all(), "scores are finite"
    np.testing.assert_array_equal(score(range(n)), together, err_msg="the same seed gives the same scores")
    apart = np.concatenate([score([i]) for i in range(n)])
    np.testing.assert_allclose(apart, together, rtol=1e-6, err_msg="a score does not depend on the rows beside it")
    np.testing.assert_allclose(score(range(n - 1, -1, -1)), together[::-1], rtol=1e-6, err_msg="nor on their order")


def _check_turns(strategy: type[Strategy], outlook: Outlook, candidates: Sequence[Composition]) -> None:
    listed = [(composition, NOT_STATED) for composition in candidates]
    batches = [Batch(listed, outlook, (), Limits(), seed=3) for _ in range(2)]
    for turn in range(3):
        with torch.no_grad():
            values = [strategy(3).next(batch) for batch in batches]
        assert values[0].shape == (len(batches[0]),), "next gives one value per row of the batch"
        assert not values[0].isnan().any(), "a value may be -inf, never NaN"
        assert torch.equal(*values), "the same seed and batch give the same values"
        row = int(batches[0].allowed(strategy(3)).argmax())
        with torch.no_grad():
            picks = [batch.add(row) for batch in batches]
        assert len(batches[0].picked) == turn + 1, "a strategy leaves the batch as it is"
        assert strategy(3).why(picks[0]), "every pick has a reason"


def check_quantity(quantity: type[Quantity], ensemble: Ensemble, compositions: Sequence[Composition]) -> None:
    """Check that a quantity can be predicted, measured, shown and stored.

    Args:
        quantity: its class.
        ensemble: any with two members or more.
        compositions: at least three.
    """
    assert len(compositions) >= 3, "give at least three compositions"
    one = _check_definition(quantity)
    _check_members(one, ensemble, compositions)
    _check_cells(one, compositions[0])


def _check_definition(quantity: type[Quantity]) -> Quantity:
    """Check the names and limits of a quantity, and return the usual one."""
    rates = Rates()
    one = quantity.of(rates)
    assert one == quantity.of(rates), "equal quantities compare equal, so that a column is found again"
    assert len({one, quantity.of(rates)}) == 1, "and they have one hash"
    assert one.conditions, "a quantity names the conditions that it needs"
    assert one.limits[0] < one.limits[1], "limits are the smallest and the largest value"
    assert one.direction in ("maximize", "minimize"), f"expected maximize or minimize, got {one.direction!r}"
    assert one.key(rates).isidentifier(), f"the key of a row is a plain name with its unit, got {one.key(rates)!r}"
    assert str(one), "it has a name for sentences"
    assert one.identity != quantity.of(Rates(v_low=2.0)).identity, "the window is part of what it is"
    return one


def _check_members(one: Quantity, ensemble: Ensemble, compositions: Sequence[Composition]) -> None:
    amounts = Amounts.of(compositions)
    values = one.of_members(MemberProfiles(ensemble, amounts, [one]))
    expected = (ensemble.members, len(compositions))
    assert values.shape == expected, f"of_members gives members x n: expected {expected}, got {tuple(values.shape)}"
    assert values.dtype == torch.float64, f"of_members gives float64, got {values.dtype}"
    assert torch.isfinite(values).all(), "of_members gives finite values, whatever the composition"
    alone = one.of_members(MemberProfiles(ensemble, Amounts.of(compositions[1:2]), [one]))
    np.testing.assert_allclose(alone[:, 0], values[:, 1], rtol=1e-6, err_msg="a batch is its single compositions")
    cations = amounts.cations.double().clone().requires_grad_()
    moved = one.of_members(MemberProfiles(ensemble, Amounts(amounts.symbols, cations, amounts.fluorine), [one]))
    assert moved.requires_grad, "of_members is differentiable with respect to the amounts"


def _check_cells(one: Quantity, composition: Composition) -> None:
    nothing = MeasuredCells(composition, ())
    assert one.of_cells(nothing) is None, "without cells there is no value"
    found = one.of_cells(MeasuredCells(composition, _discharges(one.conditions)))
    assert found is not None, "cells under all its conditions give a value"
    assert found.error is not None, "with the error of its mean (Estimate.over gives it)"
    least, most = one.limits
    assert least <= found.mean <= most, "within the limits"
    for at in one.conditions:
        some = _discharges(set(one.conditions) - {at})
        assert one.of_cells(MeasuredCells(composition, some)) is None, f"without cells at {at} there is no value"


def check_filter(added: Filter, mixtures: Mixtures) -> None:
    """Check that a filter says one finite number per composition, each by itself.

    Args:
        added: the filter.
        mixtures: at least two compositions.
    """
    assert len(mixtures) >= 2, "give at least two compositions"
    assert added.measure.__doc__, "its docstring says the formula and its source"
    before = mixtures.amounts.copy()
    values = added.measure(mixtures)
    expected = (len(mixtures),)
    assert values.shape == expected, f"one number per composition: expected {expected}, got {values.shape}"
    assert np.isfinite(values).all(), "finite ones"
    np.testing.assert_array_equal(mixtures.amounts, before, err_msg="the compositions are left as they are")
    single = Mixtures(mixtures.species, mixtures.amounts[1:2], mixtures.fluorine[1:2])
    np.testing.assert_allclose(added.measure(single), values[1:2], err_msg="a batch is its single compositions")
    threshold = float(values[0])
    assert added.passes(values[:1], threshold).all(), "a value at the threshold passes"


@dataclass(frozen=True)
class _Discharge:
    """A measured discharge."""

    cell: str
    conditions: CyclingConditions
    capacity_mah_g: float
    average_voltage_v: float | None
    specific_energy_wh_kg: float | None
    sigma_mah_g: float | None = None


def _discharges(conditions: Iterable[CyclingConditions]) -> tuple[_Discharge, ...]:
    """Of two cells under each of the conditions."""
    return tuple(_Discharge(f"{n}", at, 200.0 - n, 3.0, 600.0) for at in conditions for n in range(2))


def _units(compositions: Sequence[Composition]) -> np.ndarray:
    """Thousandths of lithium, fluorine and every metal of the model, as a lattice would have them."""
    lithium, *metals, fluorine = np.rint(Amounts.of(compositions).table(MODEL_METALS).numpy() * 1e3).T
    return np.stack([lithium, fluorine, *metals], 1).astype(np.int32)
