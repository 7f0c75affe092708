"""What one batch may use together: precursors, distinct amounts or metals, money; and where a second cell pays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from drxnet.ensemble import Amounts
from screening.quantities import cost_usd_kg

if TYPE_CHECKING:
    from screening.batch import Limits

Shared = Literal["fluorine", "lithium", "redox_metal", "metal"]
"""What a batch may hold so many distinct ones of: amounts of fluorine or of lithium, redox metals, metals beside Li."""

REDOX_METALS = ("V", "Cr", "Mn", "Fe", "Co", "Ni", "Mo")
"""Metals whose ions give electrons between 1.5 and 4.8 V in a rocksalt; Ti4+, Nb5+ and others are there for charge."""

_STEP = 1e-4
"""Amounts that differ by less are one."""


class Economy:
    """Which rows a batch can still afford."""

    def __init__(self, limits: Limits, amounts: Amounts) -> None:
        """Look at n rows."""
        self.limits = limits
        self._elements = amounts.table(amounts.symbols) > 0
        self._values: dict[str, Tensor] = {
            "fluorine": torch.round(amounts.fluorine / _STEP),
            "lithium": torch.round(amounts.cations[:, amounts.symbols.index("Li")] / _STEP)
            if "Li" in amounts.symbols
            else torch.zeros(len(amounts)),
        }
        self._metals: dict[str, Tensor] = {
            "redox_metal": self._elements[:, [i for i, s in enumerate(amounts.symbols) if s in REDOX_METALS]],
            "metal": self._elements[:, [i for i, s in enumerate(amounts.symbols) if s != "Li"]],
        }
        self._cost_usd = torch.zeros(len(amounts))
        if limits.budget_usd_per_round is not None:
            by_mass = cost_usd_kg(amounts.symbols, amounts.cations.double().T, amounts.fluorine.double(), limits.prices)
            self._cost_usd = by_mass * limits.batch_mass_g / 1000

    def affords(self, picked: Sequence[int]) -> Tensor:
        """Which rows may come beside those that are picked, ``n``."""
        rows = list(picked)
        allowed = torch.ones(len(self._elements), dtype=torch.bool)
        if self.limits.max_precursors is not None:
            allowed &= _together(self._elements, rows) <= self.limits.max_precursors
        for what, most in self.limits.per_batch.items():
            if what in self._metals:
                allowed &= _together(self._metals[what], rows) <= most
                continue
            values = self._values[what]
            used = values[rows].unique()
            if len(used) >= most:
                allowed &= torch.isin(values, used)
        if self.limits.budget_usd_per_round is not None:
            spent = float(self._cost_usd[rows].sum())
            allowed &= self._cost_usd + spent <= self.limits.budget_usd_per_round * (1 + 1e-9)
        return allowed


def _together(elements: Tensor, rows: Sequence[int]) -> Tensor:
    """How many elements each row would need together with some rows, ``n``."""
    used = elements[list(rows)].any(0) if rows else torch.zeros_like(elements[0])
    return (elements | used).sum(1)


def worth_of_second_cell(mean: tuple[float, float], variance: tuple[float, float], noise: float) -> float:
    """What a second cell of one composition adds to the expected value of the better of two, in their unit.

    The value of the choice between two whose difference will have been learned up to a standard deviation s is
    s phi(d / s) - d Phi(-d / s) for a difference d of their means; a second cell makes s larger.

    Args:
        mean: of the composition and of its rival, larger is better.
        variance: of both, before a cell is made.
        noise: variance of a cell.
    """
    apart = abs(mean[0] - mean[1])

    def value(cells: int) -> float:
        learned = sum(v**2 / (v + noise / n) for v, n in zip(variance, (cells, 1), strict=True) if v > 0)
        s = math.sqrt(learned)
        if s <= 0:
            return 0.0
        u = apart / s
        density = math.exp(-u * u / 2) / math.sqrt(2 * math.pi)
        return s * density - apart * math.erfc(u / math.sqrt(2)) / 2

    return max(value(2) - value(1), 0.0)
