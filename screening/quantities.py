"""What is read off discharge profiles: one class per quantity, its predicted and its measured form side by side.

A quantity (rate retention, capacity, ...) is formed for every member, ``members x n``; only afterwards is anything
averaged. Ratios have a floor on their denominator: a member that predicts almost no capacity at the low rate must not
report a retention of 60. The same class reads the quantity off measured cells. Importing this module does not import
torch.

Another package adds a quantity with a class and a line (:mod:`drxnet.plugins`);
:func:`screening.testing.check_quantity` says whether it keeps the promises of the others.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar

import numpy as np

from drxnet.discharge import CyclingConditions
from drxnet.elements import ATOMIC_MASS
from drxnet.errors import ConfigurationError
from drxnet.plugins import Registry
from drxnet.process import Process
from screening.estimates import Estimate, same_conditions
from screening.species import supply

if TYPE_CHECKING:
    from torch import Tensor

    from drxnet.composition import Composition
    from drxnet.ensemble import Amounts, Encoded, Ensemble
    from screening.goals import Rates

RETENTION_LIMITS = (0.0, 1.05)
"""Clip of every retention; 5 % above 1 is within the noise between two cells."""

CAPACITY_FLOOR_MAH_G = 50.0
"""Low-rate capacity below which a cathode retains nothing worth the name."""

ENERGY_FLOOR_WH_KG = 100.0
"""Specific energy below which the cost per kWh is not let grow further."""

LATER_CYCLE = 20
"""Cycle that a capacity retention looks at when none is named."""

_NOTHING_MAH_G = 1e-9

Values = TypeVar("Values", "Tensor", np.ndarray)


class Discharge(Protocol):
    """One measured discharge of one cell, as a quantity reads it."""

    @property
    def cell(self) -> str:
        """Which cell."""

    @property
    def conditions(self) -> CyclingConditions:
        """How it was discharged."""

    @property
    def capacity_mah_g(self) -> float:
        """Down to the lower cut-off."""

    @property
    def sigma_mah_g(self) -> float | None:
        """Standard uncertainty of the capacity, where known."""

    @property
    def average_voltage_v(self) -> float | None:
        """None without a profile."""

    @property
    def specific_energy_wh_kg(self) -> float | None:
        """None without a profile."""


@dataclass(frozen=True)
class MeasuredCells:
    """Everything that the cells of one composition gave."""

    composition: Composition
    discharges: tuple[Discharge, ...]
    prices: Mapping[str, float] = field(default_factory=dict)
    """Prices of elements that differ from the shipped ones (USD per kg of contained element)."""

    def under(self, conditions: CyclingConditions) -> list[Discharge]:
        """Discharges that count as ones under these conditions."""
        return [d for d in self.discharges if same_conditions(d.conditions, conditions)]

    def capacity(self, conditions: CyclingConditions) -> Estimate | None:
        """Capacity over the cells (mAh/g); None where no cell was discharged so."""
        found = self.under(conditions)
        sigma = found[0].sigma_mah_g if found else None
        return Estimate.over([d.capacity_mah_g for d in found], sigma, CAPACITY_FLOOR_MAH_G)

    def energies(self, conditions: CyclingConditions) -> list[float]:
        """Specific energy of every cell with a profile (Wh/kg)."""
        return [d.specific_energy_wh_kg for d in self.under(conditions) if d.specific_energy_wh_kg is not None]


class MemberProfiles:
    """What every member predicts for n compositions; what several quantities need is worked out once."""

    def __init__(
        self,
        ensemble: Ensemble,
        amounts: Amounts,
        quantities: Sequence[Quantity],
        *,
        encoded: Encoded | None = None,
        prices: Mapping[str, float] | None = None,
    ) -> None:
        """Prepare for quantities; nothing is predicted before one asks.

        Args:
            ensemble: the members.
            amounts: n compositions.
            quantities: that will ask, each for the conditions it names.
            encoded: the compositions, where the ensemble has encoded them already.
            prices: of elements, where they differ from the shipped ones (USD per kg of contained element).
        """
        self.ensemble, self.amounts, self.prices = ensemble, amounts, prices or {}
        self._encoded = encoded
        cut = [c for q in quantities if not q.needs_profile for c in q.conditions]
        whole = [c for q in quantities if q.needs_profile for c in q.conditions]
        self._cut, self._whole = tuple(dict.fromkeys(cut)), tuple(dict.fromkeys(whole))

    def capacity(self, at: CyclingConditions) -> Tensor:
        """Capacity at the lower cut-off (mAh/g), ``members x n``."""
        if at in self._cut:
            return self._capacities[..., self._cut.index(at)]
        return self.profile(at)[1][..., 0]

    def profile(self, at: CyclingConditions) -> tuple[Tensor, Tensor]:
        """Voltages from the lower to the upper cut-off (V), and capacity there (mAh/g), ``members x n x voltages``."""
        return self._profiles[at]

    def energy(self, at: CyclingConditions) -> tuple[Tensor, Tensor]:
        """Specific energy (Wh/kg) and the capacity between the cut-offs (mAh/g), ``members x n`` each."""
        voltages, capacity = self.profile(at)
        steps = capacity[..., :-1] - capacity[..., 1:]
        return (steps * (voltages[1:] + voltages[:-1]) / 2).sum(-1), steps.sum(-1)

    @cached_property
    def _known(self) -> Encoded:
        return self._encoded or self.ensemble.encode(self.amounts)

    @cached_property
    def _capacities(self) -> Tensor:
        return self.ensemble.capacity(self._known, self._cut).double()

    @cached_property
    def _profiles(self) -> dict[CyclingConditions, tuple[Tensor, Tensor]]:
        import torch

        grids = np.stack([c.grid() for c in self._whole])
        found = self.ensemble.profiles(self._known, self._whole, grids).double()
        return {c: (torch.from_numpy(grids[i]).to(found.device), found[..., i, :]) for i, c in enumerate(self._whole)}


@dataclass(frozen=True)
class Quantity(ABC):
    """Something that is read off profiles, predicted ones and measured ones alike, under conditions that it names."""

    name: ClassVar[str]
    """As a YAML writes it: ``specific-energy``."""

    column: ClassVar[str]
    """As a stored table writes it, with its unit: ``specific_energy_wh_kg``."""

    unit: ClassVar[str] = ""
    direction: ClassVar[Literal["maximize", "minimize"]] = "maximize"
    """The one anybody would want."""

    reference: ClassVar[float] = 0.0
    """Value that is not worth making, where a campaign does not say it."""

    limits: ClassVar[tuple[float, float]] = (0.0, math.inf)
    """Smallest and largest value that can mean anything."""

    digits: ClassVar[int] = 0
    """Decimals that are worth showing."""

    needs_profile: ClassVar[bool] = False
    """Whether it is formed from whole profiles, not only from the capacity at the lower cut-off."""

    @classmethod
    @abstractmethod
    def of(cls, rates: Rates, current_ma_g: float | None = None, cycle: int | None = None) -> Self:
        """The quantity of a campaign.

        Args:
            rates: the two rates, the window and the floor of the campaign.
            current_ma_g: by default one of the campaign's rates.
            cycle: by default the one that is usually meant.

        Raises:
            ValueError: it makes no sense so.
        """

    @property
    def conditions(self) -> tuple[CyclingConditions, ...]:
        """What a cell has to be discharged under, so that the quantity is measured: those of its fields, in order."""
        return tuple(self._by_field().values())

    @abstractmethod
    def of_members(self, profiles: MemberProfiles) -> Tensor:
        """Form it for every member, ``members x n``; differentiable with respect to the amounts."""

    @abstractmethod
    def of_cells(self, cells: MeasuredCells) -> Estimate | None:
        """Form it over measured cells; None where a condition is missing."""

    def under(self, process: Process) -> Self:
        """The same of cells that were made and tested so."""
        at: dict[str, Any] = {name: replace(value, process=process) for name, value in self._by_field().items()}
        return replace(self, **at)

    def _by_field(self) -> dict[str, CyclingConditions]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, CyclingConditions)}

    def most(self, composition: Composition) -> float:
        """Largest value that cells of a composition can give."""
        return self.limits[1]

    @property
    def sign(self) -> int:
        """1 where large is what anybody would want, -1 where small is."""
        return 1 if self.direction == "maximize" else -1

    @property
    def identity(self) -> str:
        """Stands for the quantity and its conditions in a ledger."""
        return f"{self.name}: {' | '.join(map(str, self.conditions))}"

    def key(self, rates: Rates) -> str:
        """Public name in rows of a campaign with these rates; the conditions are in it where they are not the usual."""
        usual = type(self).of(rates)
        here, there = self.conditions[-1], usual.conditions[-1]
        current = f"_at_{here.current_ma_g:g}_ma_g" if here.current_ma_g != there.current_ma_g else ""
        cycle = f"_cycle_{here.cycle}" if here.cycle != there.cycle else ""
        return f"{self.column}{current}{cycle}"

    def __str__(self) -> str:
        """Return a name for sentences: ``capacity at 20 mA/g``."""
        at = self.conditions[-1]
        return f"{self.name.replace('-', ' ')} at {at.current_ma_g:g} mA/g{_cycle(at)}"

    @property
    def label(self) -> str:
        """For axes, with the unit."""
        return f"{self} ({self.unit})" if self.unit else str(self)

    @property
    def heading(self) -> str:
        """For the head of a table: as short as it can be and still differ between conditions."""
        return self.label

    def shown(self, value: float) -> str:
        """A value with the decimals that are worth showing."""
        return f"{value:.{self.digits}f}"


def _cycle(at: CyclingConditions) -> str:
    return "" if at.cycle == 1 else f", cycle {at.cycle}"


def retention(later: Values, first: Values, floor_mah_g: float) -> Values:
    """Ratio of two capacities, 0 where the first is below the floor, clipped to :data:`RETENTION_LIMITS`, ``...``."""
    ratio = (later / first.clip(min=floor_mah_g)).clip(min=RETENTION_LIMITS[0], max=RETENTION_LIMITS[1])
    return ratio * (first >= floor_mah_g)


@dataclass(frozen=True)
class RateRetention(Quantity):
    """Part of the capacity at the low rate that is left at the high one."""

    name, column = "rate-retention", "rate_retention"
    reference, limits, digits = 0.3, RETENTION_LIMITS, 2

    low: CyclingConditions
    high: CyclingConditions
    floor_mah_g: float = CAPACITY_FLOOR_MAH_G
    """Capacity at the low rate below which nothing is retained."""

    @classmethod
    def of(cls, rates: Rates, current_ma_g: float | None = None, cycle: int | None = None) -> Self:
        """Of the campaign's two rates, at cycle 1 unless another is named."""
        if current_ma_g is not None:
            raise ValueError(
                "The rate retention compares the campaign's two rates; set them under `conditions`, "
                f"not as current_ma_g. Got {current_ma_g:g}."
            )
        low, high = (rates.at(i, cycle or 1) for i in (rates.low_current_ma_g, rates.high_current_ma_g))
        return cls(low, high, rates.capacity_floor_mah_g)

    def of_members(self, profiles: MemberProfiles) -> Tensor:
        """Ratio of each member's own capacities, ``members x n``."""
        return retention(profiles.capacity(self.high), profiles.capacity(self.low), self.floor_mah_g)

    def of_cells(self, cells: MeasuredCells) -> Estimate | None:
        """Ratio of the means over cells; None until both rates are in."""
        return self.of_capacities(cells.capacity(self.low), cells.capacity(self.high))

    def of_capacities(self, low: Estimate | None, high: Estimate | None) -> Estimate | None:
        """Ratio of two capacities, its spread and error to first order from theirs.

        Below the floor, the floor takes the place of the capacity at the low rate: a dead cell is known as well as
        that, never exactly.
        """
        if low is None or high is None:
            return None
        ratio = float(retention(np.asarray(high.mean), np.asarray(low.mean), self.floor_mah_g))
        least = max(low.mean, self.floor_mah_g)
        spreads = [s for s in (high.spread, low.spread) if s is not None]
        spread = math.hypot(spreads[0], ratio * spreads[1]) / least if len(spreads) == 2 else None
        error = math.hypot(high.error or 0.0, ratio * (low.error or 0.0)) / least
        return Estimate(ratio, spread, min(low.count, high.count), error)

    def __str__(self) -> str:
        """Return a name for sentences."""
        return f"rate retention{_cycle(self.high)}"

    @property
    def label(self) -> str:
        """For axes: which ratio."""
        return f"{self}, Q({self.high.current_ma_g:g} mA/g) / Q({self.low.current_ma_g:g} mA/g)"

    @property
    def heading(self) -> str:
        """For the head of a table."""
        return f"retention{_cycle(self.high)}"


@dataclass(frozen=True)
class OneDischarge(Quantity):
    """A quantity of one discharge, at one rate and cycle."""

    at: CyclingConditions

    @classmethod
    def of(cls, rates: Rates, current_ma_g: float | None = None, cycle: int | None = None) -> Self:
        """At the low rate and cycle 1 unless others are named."""
        return cls(rates.at(current_ma_g or rates.low_current_ma_g, cycle or 1))


@dataclass(frozen=True)
class Capacity(OneDischarge):
    """Capacity at the lower cut-off (mAh/g)."""

    name, column, unit = "capacity", "capacity_mah_g", "mAh/g"
    reference = 150.0

    def of_members(self, profiles: MemberProfiles) -> Tensor:
        """Capacity of each member (mAh/g), ``members x n``."""
        return profiles.capacity(self.at)

    def of_cells(self, cells: MeasuredCells) -> Estimate | None:
        """Mean over cells (mAh/g)."""
        return cells.capacity(self.at)

    def most(self, composition: Composition) -> float:
        """Capacity of all lithium (mAh/g)."""
        return composition.theoretical_capacity_mah_g

    def key(self, rates: Rates) -> str:
        """``capacity_low_mah_g`` and ``capacity_high_mah_g`` at the first cycle of the two rates."""
        names = {rates.low: "capacity_low_mah_g", rates.high: "capacity_high_mah_g"}
        return names.get(self.at) or super().key(rates)

    @property
    def heading(self) -> str:
        """For the head of a table."""
        return f"Q({self.at.current_ma_g:g} mA/g{_cycle(self.at)})"


@dataclass(frozen=True)
class SpecificEnergy(OneDischarge):
    """Energy of the discharge per mass of active material (Wh/kg)."""

    name, column, unit = "specific-energy", "specific_energy_wh_kg", "Wh/kg"
    reference = 400.0
    needs_profile = True

    def of_members(self, profiles: MemberProfiles) -> Tensor:
        """Energy of each member's profile (Wh/kg), ``members x n``."""
        return profiles.energy(self.at)[0]

    def of_cells(self, cells: MeasuredCells) -> Estimate | None:
        """Mean over the cells with a profile (Wh/kg)."""
        return Estimate.over(cells.energies(self.at))


@dataclass(frozen=True)
class AverageVoltage(OneDischarge):
    """Mean voltage, weighted by capacity (V)."""

    name, column, unit = "average-voltage", "average_voltage_v", "V"
    reference, digits = 2.5, 2
    needs_profile = True

    def of_members(self, profiles: MemberProfiles) -> Tensor:
        """Mean voltage of each member's profile (V), ``members x n``."""
        energy, delivered = profiles.energy(self.at)
        return energy / delivered.clamp_min(_NOTHING_MAH_G)

    def of_cells(self, cells: MeasuredCells) -> Estimate | None:
        """Mean over the cells with a profile (V)."""
        found = [d.average_voltage_v for d in cells.under(self.at)]
        return Estimate.over([v for v in found if v is not None])


@dataclass(frozen=True)
class CapacityRetention(Quantity):
    """Part of the capacity of the first cycle that is left at a later one."""

    name, column = "capacity-retention", "capacity_retention"
    reference, limits, digits = 0.5, RETENTION_LIMITS, 2

    first: CyclingConditions
    later: CyclingConditions
    floor_mah_g: float = CAPACITY_FLOOR_MAH_G
    """Capacity of the first cycle below which nothing is retained."""

    @classmethod
    def of(cls, rates: Rates, current_ma_g: float | None = None, cycle: int | None = None) -> Self:
        """At the low rate, of cycle 20 unless others are named."""
        if cycle == 1:
            raise ValueError("The capacity retention compares a later cycle with cycle 1. Got cycle 1; give 2 or more.")
        current = current_ma_g or rates.low_current_ma_g
        return cls(rates.at(current), rates.at(current, cycle or LATER_CYCLE), rates.capacity_floor_mah_g)

    def of_members(self, profiles: MemberProfiles) -> Tensor:
        """Ratio of each member's own capacities, ``members x n``."""
        return retention(profiles.capacity(self.later), profiles.capacity(self.first), self.floor_mah_g)

    def of_cells(self, cells: MeasuredCells) -> Estimate | None:
        """Mean over the cells that have both cycles, each with its own first one."""
        begun = {d.cell: d.capacity_mah_g for d in cells.under(self.first)}
        kept = [d for d in cells.under(self.later) if d.cell in begun]
        later, first = np.array([d.capacity_mah_g for d in kept]), np.array([begun[d.cell] for d in kept])
        return Estimate.over(retention(later, first, self.floor_mah_g).tolist())

    @property
    def heading(self) -> str:
        """For the head of a table."""
        return f"Q(cycle {self.later.cycle}) / Q(1) at {self.later.current_ma_g:g} mA/g"


@dataclass(frozen=True)
class CostPerKwh(OneDischarge):
    """Price of the contained elements per energy of one discharge (USD/kWh)."""

    name, column, unit = "cost-per-kwh", "cost_usd_kwh", "USD/kWh"
    direction, reference, digits = "minimize", 100.0, 1
    needs_profile = True

    def of_members(self, profiles: MemberProfiles) -> Tensor:
        """Price over each member's own energy (USD/kWh), ``members x n``."""
        amounts = profiles.amounts
        price = cost_usd_kg(amounts.symbols, amounts.cations.double().T, amounts.fluorine.double(), profiles.prices)
        return price / (profiles.energy(self.at)[0].clamp_min(ENERGY_FLOOR_WH_KG) / 1000)

    def of_cells(self, cells: MeasuredCells) -> Estimate | None:
        """Mean over the cells with a profile (USD/kWh)."""
        symbols, amounts = zip(*cells.composition.cations, strict=True)
        price = cost_usd_kg(symbols, amounts, cells.composition.fluorine, cells.prices)
        return Estimate.over([price / (max(e, ENERGY_FLOOR_WH_KG) / 1000) for e in cells.energies(self.at)])


def cost_usd_kg(symbols: Sequence[str], cations: Any, fluorine: Any, prices: Mapping[str, float] | None = None) -> Any:
    """Price of the elements in a kilogram of product (USD/kg), ``...``; differentiable; oxygen is free.

    Args:
        symbols: s cation elements; one may stand more than once.
        cations: amounts of each per formula unit, ``s x ...``: numbers, arrays or tensors.
        fluorine: F per formula unit, ``...``.
        prices: where they differ from the shipped ones (USD per kg of contained element); those are what
            :func:`screening.species.supply` gives.

    Raises:
        ConfigurationError: an element of the compositions has no price.
    """
    known = {s: e.price_usd_kg for s, e in supply().items()} | dict(prices or {})
    held = [*zip(symbols, cations, strict=True), ("F", fluorine)]
    _refuse_unpriced([s for s, amounts in held if s not in known and _any(amounts)])
    present = [(s, amounts) for s, amounts in held if s in known]
    mass = sum(a * ATOMIC_MASS[s] for s, a in present)
    cost = sum(a * (ATOMIC_MASS[s] * known[s]) for s, a in present)
    return cost / (mass + (2 - fluorine) * ATOMIC_MASS["O"])


def _refuse_unpriced(elements: Sequence[str]) -> None:
    if elements:
        table = ", ".join(f"{s}: 12.5" for s in elements)
        raise ConfigurationError(
            f"No price is known for {', '.join(elements)}. Give what a kilogram of the contained element costs (USD) "
            f"in the campaign's YAML, e.g. `prices: {{{table}}}`, or leave the cost out."
        )


def _any(amounts: Any) -> bool:
    return bool((np.asarray(amounts.detach() if hasattr(amounts, "detach") else amounts) > 0).any())


def _check_class(name: str, found: Any) -> None:
    if not (isinstance(found, type) and issubclass(found, Quantity)):
        raise ValueError(f"a quantity is a subclass of screening.quantities.Quantity. Got {found!r}.")
    if found.name != name:
        raise ValueError(f"the class calls itself {found.name!r}; name the entry point so, too.")


_SHIPPED: tuple[type[Quantity], ...] = (
    RateRetention, Capacity, SpecificEnergy, AverageVoltage, CapacityRetention, CostPerKwh,
)  # fmt: skip

QUANTITIES: Registry[type[Quantity]] = Registry(
    "quantity", "drx_screen.quantities", {q.name: q for q in _SHIPPED}, _check_class
)
"""Every quantity class by the name that a YAML writes."""
