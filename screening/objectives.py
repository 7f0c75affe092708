"""Objectives and constraints on discharge profiles, per ensemble member.

A quantity (rate retention, capacity, ...) is evaluated for every member, ``members x n x m``; only afterwards is
anything averaged. Ratios have a floor on their denominator: a member that predicts almost no capacity at the low rate
must not report a retention of 60. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from drxnet.discharge import DEFAULT_WINDOW, GRID_POINTS, CyclingConditions
from drxnet.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from drxnet.composition import Composition
    from drxnet.ensemble import Amounts, Encoded, Ensemble

RETENTION_LIMITS = (0.0, 1.05)
"""Clip of every retention; 5 % above 1 is within the noise between two cells."""

CAPACITY_FLOOR_MAH_G = 50.0
"""Low-rate capacity below which a cathode retains nothing worth the name."""

ENERGY_FLOOR_WH_KG = 100.0
"""Specific energy below which the cost per kWh is not let grow further."""

LOWER_QUANTILE = 0.10
"""Quantile of the posterior that a ranking orders by."""

_LOWER_Z = 1.2815515655446004  # -(standard normal quantile of 0.10)
_SMALLEST_STD = 1e-9

QuantityName = Literal[
    "rate-retention", "capacity", "specific-energy", "average-voltage", "capacity-retention", "cost-per-kwh"
]


@dataclass(frozen=True)
class _Kind:
    """What is known of a quantity before any number is."""

    unit: str
    direction: Literal["maximize", "minimize"]
    reference: float
    limits: tuple[float, float]


_KINDS: Mapping[str, _Kind] = {
    "rate-retention": _Kind("", "maximize", 0.3, RETENTION_LIMITS),
    "capacity": _Kind("mAh/g", "maximize", 150.0, (0.0, np.inf)),
    "specific-energy": _Kind("Wh/kg", "maximize", 400.0, (0.0, np.inf)),
    "average-voltage": _Kind("V", "maximize", 2.5, (0.0, np.inf)),
    "capacity-retention": _Kind("", "maximize", 0.5, RETENTION_LIMITS),
    "cost-per-kwh": _Kind("USD/kWh", "minimize", 100.0, (0.0, np.inf)),
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Conditions(_Frozen):
    """The two rates of a campaign, the window they are measured in and the floor of a retention."""

    low_current_ma_g: Annotated[float, Field(gt=0)] = 20.0
    high_current_ma_g: Annotated[float, Field(gt=0)] = 1000.0
    v_low: float = DEFAULT_WINDOW[0]
    v_high: float = DEFAULT_WINDOW[1]
    capacity_floor_mah_g: Annotated[float, Field(gt=0)] = CAPACITY_FLOOR_MAH_G

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low_current_ma_g >= self.high_current_ma_g:
            raise ValueError(
                "The low rate must be below the high one. "
                f"Got {self.low_current_ma_g:g} and {self.high_current_ma_g:g} mA/g."
            )
        if self.v_low >= self.v_high:
            raise ValueError(
                f"The lower cut-off must lie below the upper one. Got {self.v_low:g} and {self.v_high:g} V."
            )
        return self

    @property
    def low(self) -> CyclingConditions:
        """First discharge at the low rate."""
        return self.at(self.low_current_ma_g)

    @property
    def high(self) -> CyclingConditions:
        """First discharge at the high rate."""
        return self.at(self.high_current_ma_g)

    def at(self, current_ma_g: float, cycle: int = 1) -> CyclingConditions:
        """Cycling conditions in this window."""
        return CyclingConditions(current_ma_g, self.v_low, self.v_high, cycle)


class Quantity(_Frozen):
    """Something that is read off predicted profiles."""

    quantity: QuantityName
    current_ma_g: Annotated[float, Field(gt=0)] | None = None
    """Current; by default the low rate of the campaign. A rate retention always uses the two rates."""

    cycle: Annotated[int, Field(ge=1)] | None = None
    """Cycle; by default 1, and 20 for the capacity retention."""

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if self.quantity == "rate-retention" and self.current_ma_g is not None:
            raise ValueError(
                "The rate retention compares the campaign's two rates; set them under `conditions`, "
                f"not as current_ma_g. Got {self.current_ma_g:g}."
            )
        if self.quantity == "capacity-retention" and self.cycle == 1:
            raise ValueError("The capacity retention compares a later cycle with cycle 1. Got cycle 1; give 2 or more.")
        return self

    @property
    def unit(self) -> str:
        """Unit of the value; empty for ratios."""
        return _KINDS[self.quantity].unit

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest value that can mean anything."""
        return _KINDS[self.quantity].limits

    @property
    def larger_is_better(self) -> bool:
        """Which way anybody would want it."""
        return _KINDS[self.quantity].direction == "maximize"

    def resolved(self, conditions: Conditions) -> Quantity:
        """Fill in what was left to the campaign, so that equal quantities compare equal."""
        if self.quantity == "rate-retention":
            return Quantity(quantity=self.quantity, cycle=self.cycle or 1)
        default_cycle = 20 if self.quantity == "capacity-retention" else 1
        return Quantity(
            quantity=self.quantity,
            current_ma_g=self.current_ma_g or conditions.low_current_ma_g,
            cycle=self.cycle or default_cycle,
        )

    def __str__(self) -> str:
        """Return a short name for tables: ``capacity at 20 mA/g``."""
        at = "" if self.current_ma_g is None else f" at {self.current_ma_g:g} mA/g"
        cycle = "" if self.cycle in (None, 1) else f", cycle {self.cycle}"
        return f"{self.quantity.replace('-', ' ')}{at}{cycle}"


class ObjectiveSpec(Quantity):
    """A quantity to make large or small."""

    direction: Literal["maximize", "minimize"] | None = None
    """By default the one anybody would want."""

    reference: float | None = None
    """Value that is not worth making; the reference point of a hypervolume, and where improvement starts."""

    @property
    def sign(self) -> int:
        """1 to maximise, -1 to minimise."""
        return 1 if (self.direction or _KINDS[self.quantity].direction) == "maximize" else -1

    @property
    def reference_value(self) -> float:
        """The reference in the unit of the quantity."""
        return _KINDS[self.quantity].reference if self.reference is None else self.reference


class ConstraintSpec(Quantity):
    """A quantity that must lie on one side of a threshold."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(
                "A constraint needs exactly one of at_least and at_most; write two constraints for a range. "
                f"Got at_least={self.at_least}, at_most={self.at_most}."
            )
        return self

    @property
    def sign(self) -> int:
        """1 when larger is better, -1 when smaller is."""
        return 1 if self.at_most is None else -1

    @property
    def threshold(self) -> float:
        """The limit in the unit of the quantity."""
        limit = self.at_least if self.at_most is None else self.at_most
        assert limit is not None
        return limit

    def __str__(self) -> str:
        """Return the constraint in words."""
        return f"{super().__str__()} {'at least' if self.sign > 0 else 'at most'} {self.threshold:g}"


RATE_RETENTION = ObjectiveSpec(quantity="rate-retention")
LOW_RATE_CAPACITY = ConstraintSpec(quantity="capacity", at_least=220.0)


@dataclass(frozen=True)
class Goals:
    """What a campaign wants: conditions, objectives, constraints; and how they are read off an ensemble.

    The m quantities are the retention and the capacities at the two rates (which every table shows), then whatever
    else the objectives and constraints name; :attr:`objective_columns` and :attr:`constraint_columns` point into them.
    """

    conditions: Conditions = Conditions()
    objectives: tuple[ObjectiveSpec, ...] = (RATE_RETENTION,)
    constraints: tuple[ConstraintSpec, ...] = (LOW_RATE_CAPACITY,)

    def __post_init__(self) -> None:
        """Refuse goals without an objective or with the same one twice."""
        if not self.objectives:
            raise ValueError("A campaign needs at least one objective, e.g. `quantity: rate-retention`. Got none.")
        columns = self.objective_columns
        if len(set(columns)) < len(columns):
            raise ValueError(f"Every objective may stand once. Got {', '.join(map(str, self.objectives))}.")

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """The m distinct quantities, resolved."""
        c = self.conditions
        standard = (
            Quantity(quantity="rate-retention"),
            Quantity(quantity="capacity", current_ma_g=c.low_current_ma_g),
            Quantity(quantity="capacity", current_ma_g=c.high_current_ma_g),
        )
        named = (*standard, *self.objectives, *self.constraints)
        return tuple(dict.fromkeys(q.resolved(c) for q in named))

    @cached_property
    def objective_columns(self) -> tuple[int, ...]:
        """Column of each objective."""
        return tuple(self.quantities.index(o.resolved(self.conditions)) for o in self.objectives)

    @cached_property
    def constraint_columns(self) -> tuple[int, ...]:
        """Column of each constraint."""
        return tuple(self.quantities.index(c.resolved(self.conditions)) for c in self.constraints)

    @cached_property
    def reference_point(self) -> np.ndarray:
        """References of the objectives, signed so that larger is better."""
        return np.array([o.sign * o.reference_value for o in self.objectives])

    def evaluate(
        self, ensemble: Ensemble, compositions: Amounts | Sequence[Composition | str], encoded: Encoded | None = None
    ) -> Tensor:
        """Evaluate every quantity for every member (float64, in their units), ``members x n x m``.

        Differentiable with respect to :class:`~drxnet.ensemble.Amounts` that require a gradient.

        Args:
            ensemble: the members.
            compositions: n compositions.
            encoded: the same, where the ensemble has encoded them already.
        """
        return _evaluate(self, ensemble, compositions, encoded)

    def objective_values(self, values: np.ndarray) -> np.ndarray:
        """Objectives of quantities (``... x m``), signed so that larger is better, ``... x objectives``."""
        return values[..., list(self.objective_columns)] * np.array([o.sign for o in self.objectives])

    def slack(self, values: np.ndarray) -> np.ndarray:
        """By how much quantities (``... x m``) meet each constraint, negative where not, ``... x constraints``."""
        limits = np.array([c.threshold for c in self.constraints])
        signs = np.array([c.sign for c in self.constraints])
        return (values[..., list(self.constraint_columns)] - limits) * signs

    def feasible(self, values: np.ndarray) -> np.ndarray:
        """Whether quantities (``... x m``) meet all constraints, ``...``."""
        return np.asarray((self.slack(values) >= 0).all(-1))

    def feasibility(self, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        """Probability that all constraints are met, for independent normal quantities (``n x m`` each), ``n``."""
        from scipy.special import ndtr

        spread = np.maximum(std[..., list(self.constraint_columns)], _SMALLEST_STD)
        return ndtr(self.slack(mean) / spread).prod(-1)

    def clipped(self, values: np.ndarray) -> np.ndarray:
        """Quantities (``... x m``) within the limits of what they can mean."""
        low, high = np.array([q.limits for q in self.quantities]).T
        return np.clip(values, low, high)

    def lower(self, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        """Pessimistic 10 % quantile of every quantity: the lower, or the upper where small is good, ``n x m``."""
        signs = np.array([1 if q.larger_is_better else -1 for q in self.quantities])
        return self.clipped(mean - signs * _LOWER_Z * std)

    def columns(self, mean: np.ndarray, std: np.ndarray) -> dict[str, np.ndarray]:
        """What a row of a ranking or of a proposal shows, from the calibrated posterior.

        Args:
            mean: of every quantity, ``n x m``.
            std: likewise.

        Returns:
            Arrays of length n under the public names (``rate_retention_mean``, ..., ``feasibility``).
        """
        mean = self.clipped(mean)
        return {
            "rate_retention_mean": mean[:, 0],
            "rate_retention_std": std[:, 0],
            "rate_retention_lower": self.lower(mean, std)[:, 0],
            "capacity_low_mah_g_mean": mean[:, 1],
            "capacity_low_mah_g_std": std[:, 1],
            "capacity_high_mah_g_mean": mean[:, 2],
            "capacity_high_mah_g_std": std[:, 2],
            "feasibility": self.feasibility(mean, std),
        }

    def measured_values(
        self, capacity_low_mah_g: float | None = None, capacity_high_mah_g: float | None = None
    ) -> np.ndarray:
        """Quantities that follow from measured first-cycle capacities at the two rates; NaN for the others, ``m``."""
        low, high = (np.nan if q is None else q for q in (capacity_low_mah_g, capacity_high_mah_g))
        values = np.full(len(self.quantities), np.nan)
        values[1:3] = low, high
        if low < self.conditions.capacity_floor_mah_g:
            values[0] = 0.0
        elif np.isfinite(low) and np.isfinite(high):
            values[0] = np.clip(high / low, *RETENTION_LIMITS)
        return values


@dataclass(frozen=True)
class MemberSummary:
    """What the members say of one quantity, without any calibration."""

    mean: np.ndarray
    std: np.ndarray
    """Population standard deviation (ddof 0), as published."""

    median: np.ndarray
    quantile_10: np.ndarray
    quantile_90: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> MemberSummary:
        """Summarise ``members x ...`` over the members."""
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
        return cls(values.mean(0), values.std(0), middle, low, high)


def pareto_front(objectives: np.ndarray) -> np.ndarray:
    """Which rows no other row dominates; objectives ``n x k``, larger is better, all finite."""
    import torch
    from botorch.utils.multi_objective.pareto import is_non_dominated

    return is_non_dominated(torch.from_numpy(np.ascontiguousarray(objectives))).numpy()


def retention(later: Tensor, first: Tensor, floor_mah_g: float = CAPACITY_FLOOR_MAH_G) -> Tensor:
    """Ratio of two capacities, 0 where the first is below the floor, clipped to [0, 1.05]."""
    import torch

    ratio = (later / first.clamp_min(floor_mah_g)).clamp(*RETENTION_LIMITS)
    return torch.where(first < floor_mah_g, torch.zeros_like(ratio), ratio)


def _evaluate(
    goals: Goals,
    ensemble: Ensemble,
    compositions: Amounts | Sequence[Composition | str],
    encoded: Encoded | None,
) -> Tensor:
    import torch

    from drxnet.ensemble import Amounts

    amounts = compositions if isinstance(compositions, Amounts) else Amounts.of(compositions)
    window, floor = goals.conditions, goals.conditions.capacity_floor_mah_g
    at_cutoff: list[CyclingConditions] = []
    whole: list[CyclingConditions] = []
    for q in goals.quantities:
        current, cycle = q.current_ma_g or window.low_current_ma_g, q.cycle or 1
        if q.quantity == "rate-retention":
            at_cutoff += [window.at(window.low_current_ma_g, cycle), window.at(window.high_current_ma_g, cycle)]
        elif q.quantity == "capacity":
            at_cutoff += [window.at(current, cycle)]
        elif q.quantity == "capacity-retention":
            at_cutoff += [window.at(current), window.at(current, cycle)]
        else:
            whole += [window.at(current, cycle)]
    at_cutoff, whole = list(dict.fromkeys(at_cutoff)), list(dict.fromkeys(whole))
    known = encoded or ensemble.encode(amounts)
    capacities = ensemble.capacity(known, at_cutoff).double()
    if whole:
        grid = np.linspace(window.v_low, window.v_high, GRID_POINTS)
        profiles = ensemble.profiles(known, whole, grid).double()
        steps = profiles[..., :-1] - profiles[..., 1:]
        energies = (steps * torch.from_numpy((grid[1:] + grid[:-1]) / 2)).sum(-1)
        delivered = steps.sum(-1)

    def capacity(current: float, cycle: int) -> Tensor:
        return capacities[..., at_cutoff.index(window.at(current, cycle))]

    def value(q: Quantity) -> Tensor:
        current, cycle = q.current_ma_g or window.low_current_ma_g, q.cycle or 1
        if q.quantity == "rate-retention":
            return retention(capacity(window.high_current_ma_g, cycle), capacity(window.low_current_ma_g, cycle), floor)
        if q.quantity == "capacity":
            return capacity(current, cycle)
        if q.quantity == "capacity-retention":
            return retention(capacity(current, cycle), capacity(current, 1), floor)
        at = whole.index(window.at(current, cycle))
        if q.quantity == "specific-energy":
            return energies[..., at]
        if q.quantity == "average-voltage":
            return energies[..., at] / delivered[..., at].clamp_min(_SMALLEST_STD)
        return cost_usd_kg(amounts) / (energies[..., at].clamp_min(ENERGY_FLOOR_WH_KG) / 1000)

    return torch.stack([value(q) for q in goals.quantities], -1)


def cost_usd_kg(amounts: Amounts) -> Tensor:
    """Price of the elements in a kilogram of product (USD/kg), ``n``; differentiable.

    Prices of contained element as :func:`screening.species.supply` gives them; oxygen is free.
    """
    import torch

    from drxnet.elements import ATOMIC_MASS
    from screening.species import supply

    cations, fluorine = amounts.cations.double(), amounts.fluorine.double()
    prices = supply()
    unknown = [s for s in (*amounts.symbols, "F") if s not in prices]
    if unknown:
        raise ConfigurationError(f"No price for {', '.join(unknown)}; leave the cost out of this campaign.")
    masses = torch.tensor([ATOMIC_MASS[s] for s in amounts.symbols], dtype=torch.float64)
    per_kg = torch.tensor([prices[s].price_usd_kg for s in amounts.symbols], dtype=torch.float64)
    fluorine_mass = fluorine * ATOMIC_MASS["F"]
    oxygen_mass = (2 - fluorine) * ATOMIC_MASS["O"]
    cost = cations @ (masses * per_kg) + fluorine_mass * prices["F"].price_usd_kg
    return cost / (cations @ masses + fluorine_mass + oxygen_mass)
