"""What a campaign wants: its two rates, its objectives and constraints, and how they are read off an ensemble.

Columns of arrays are those of :attr:`Goals.quantities`, looked up by quantity. Importing this module does not import
torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from drxnet.discharge import DEFAULT_WINDOW, VOLTAGE_BOUNDS_V, CyclingConditions
from drxnet.errors import ConfigurationError, ImpossibleValue
from drxnet.process import FIELDS, NOT_STATED, Process
from screening.estimates import CURRENT_TOLERANCE, pessimistic
from screening.quantities import CAPACITY_FLOOR_MAH_G, QUANTITIES, Capacity, MemberProfiles, Quantity, RateRetention

if TYPE_CHECKING:
    from torch import Tensor

    from drxnet.composition import Composition
    from drxnet.ensemble import Amounts, Encoded, Ensemble

_SMALLEST_STD = 1e-9


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _process(said: Any) -> Process:
    if isinstance(said, Process):
        return said
    if not isinstance(said, Mapping):
        raise ValueError(f"a process is a mapping of its conditions, such as {{route: sol-gel}}. Got {said!r}")
    try:
        return Process.of(said)
    except ImpossibleValue as error:
        raise ValueError(str(error).rstrip(".")) from None


def _process_schema() -> dict[str, Any]:
    known = FIELDS.builtin.values()  # other packages may add more
    kinds = {f.name: {"enum": list(f.words)} if f.words else {"type": "number"} for f in known}
    return {"type": "object", "properties": kinds}


StatedProcess = Annotated[
    Process, PlainValidator(_process), PlainSerializer(Process.row), WithJsonSchema(_process_schema())
]
"""A :class:`~drxnet.process.Process` as a YAML has it: a mapping of its conditions."""


class Rates(_Frozen):
    """The two rates of a campaign, the window they are measured in and the floor of a retention."""

    low_current_ma_g: Annotated[float, Field(gt=0)] = 20.0
    """Current of the slow cell (mA/g)."""

    high_current_ma_g: Annotated[float, Field(gt=0)] = 1000.0
    """Current of the fast cell (mA/g)."""

    v_low: float = DEFAULT_WINDOW[0]
    """Lower cut-off (V)."""

    v_high: float = DEFAULT_WINDOW[1]
    """Upper cut-off (V)."""

    capacity_floor_mah_g: Annotated[float, Field(gt=0)] = CAPACITY_FLOOR_MAH_G
    """A retention counts as 0 where less is delivered at the low rate (mAh/g)."""

    process: StatedProcess = NOT_STATED
    """How every cell is made and tested, unless something else is stated of it."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        got = f"Got {self.low_current_ma_g:g} and {self.high_current_ma_g:g} mA/g."
        if self.low_current_ma_g >= self.high_current_ma_g:
            raise ValueError(f"The low rate must be below the high one. {got}")
        if self.high_current_ma_g * (1 - CURRENT_TOLERANCE) <= self.low_current_ma_g * (1 + CURRENT_TOLERANCE):
            raise ValueError(
                f"The two rates must differ by more than a cell's own may from them ({CURRENT_TOLERANCE:.0%} each), "
                f"or one cell would count at both. {got}"
            )
        if self.v_low >= self.v_high:
            raise ValueError(
                f"The lower cut-off must lie below the upper one. Got {self.v_low:g} and {self.v_high:g} V."
            )
        least, most = VOLTAGE_BOUNDS_V
        if self.v_low < least or self.v_high > most:
            raise ValueError(
                f"The cut-offs lie between {least:g} and {most:g} V. Got {self.v_low:g} and {self.v_high:g} V."
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
        return CyclingConditions(current_ma_g, self.v_low, self.v_high, cycle, self.process)


class QuantitySpec(_Frozen):
    """A quantity as a YAML names it; what is left out depends on the rates of the campaign."""

    quantity: str
    """Its name: rate-retention, capacity, specific-energy, average-voltage, capacity-retention, cost-per-kwh, or a
    plug-in's."""

    current_ma_g: Annotated[float, Field(gt=0)] | None = None
    """Current; by default the low rate of the campaign. A rate retention always uses the two rates."""

    cycle: Annotated[int, Field(ge=1)] | None = None
    """Cycle; by default 1, and 20 for the capacity retention."""

    @field_validator("quantity")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            QUANTITIES.named(name)
        except ConfigurationError as error:
            raise ValueError(str(error).rstrip(".")) from None
        return name

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        self.resolved(Rates())
        return self

    @property
    def kind(self) -> type[Quantity]:
        """Class of the quantity."""
        return QUANTITIES.named(self.quantity)

    def resolved(self, rates: Rates) -> Quantity:
        """The quantity, with what was left to the campaign filled in."""
        return self.kind.of(rates, self.current_ma_g, self.cycle)

    def __str__(self) -> str:
        """Return a short name: ``capacity at 20 mA/g``."""
        at = "" if self.current_ma_g is None else f" at {self.current_ma_g:g} mA/g"
        cycle = "" if self.cycle in (None, 1) else f", cycle {self.cycle}"
        return f"{self.quantity.replace('-', ' ')}{at}{cycle}"


class ObjectiveSpec(QuantitySpec):
    """A quantity to make large or small."""

    direction: Literal["maximize", "minimize"] | None = None
    """By default the one anybody would want."""

    reference: float | None = None
    """Value that is not worth making; the reference point of a hypervolume, and where improvement starts."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        _refuse_impossible(self.kind, self.reference)
        return self

    @property
    def sign(self) -> int:
        """1 to maximise, -1 to minimise."""
        return 1 if (self.direction or self.kind.direction) == "maximize" else -1

    @property
    def reference_value(self) -> float:
        """The reference in the unit of the quantity."""
        return self.kind.reference if self.reference is None else self.reference


class ConstraintSpec(QuantitySpec):
    """A quantity that must lie on one side of a threshold."""

    at_least: float | None = None
    """Least value, in the unit of the quantity; or ..."""

    at_most: float | None = None
    """... the highest one."""

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(
                "A constraint needs exactly one of at_least and at_most; write two constraints for a range. "
                f"Got at_least={self.at_least}, at_most={self.at_most}."
            )
        _refuse_impossible(self.kind, self.threshold)
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


def _refuse_impossible(kind: type[Quantity], value: float | None) -> None:
    least, most = kind.limits
    if value is not None and not least <= value <= most:
        raise ValueError(f"A {kind.name.replace('-', ' ')} lies between {least:g} and {most:g}. Got {value:g}.")


RATE_RETENTION = ObjectiveSpec(quantity="rate-retention")
LOW_RATE_CAPACITY = ConstraintSpec(quantity="capacity", at_least=220.0)


@dataclass(frozen=True)
class Goals:
    """What a campaign wants: rates, objectives, constraints; and how they are read off an ensemble."""

    rates: Rates = Rates()
    objectives: tuple[ObjectiveSpec, ...] = (RATE_RETENTION,)
    constraints: tuple[ConstraintSpec, ...] = (LOW_RATE_CAPACITY,)
    prices: Mapping[str, float] = field(default_factory=dict)
    """Prices of elements, where they differ from the shipped ones (USD per kg of contained element)."""

    also: tuple[Quantity, ...] = ()
    """Quantities to evaluate beside what is wanted, such as one to rank by."""

    def __post_init__(self) -> None:
        """Refuse goals without an objective or with the same one twice."""
        if not self.objectives:
            raise ValueError("A campaign needs at least one objective, e.g. `quantity: rate-retention`. Got none.")
        columns = self.objective_columns
        if len(set(columns)) < len(columns):
            raise ValueError(f"Every objective may stand once. Got {', '.join(map(str, self.objectives))}.")
        for column in set(self.constraint_columns):
            _refuse_contradiction(
                [c for c, at in zip(self.constraints, self.constraint_columns, strict=True) if at == column]
            )

    def under(self, process: Process) -> Goals:
        """The same goals for cells that are made and tested so."""
        if process == self.rates.process:
            return self
        rates = self.rates.model_copy(update={"process": process})
        return replace(self, rates=rates, also=tuple(q.under(process) for q in self.also))

    @cached_property
    def wanted(self) -> tuple[Quantity, ...]:
        """The distinct quantities of the objectives and constraints, the first objective first."""
        return tuple(dict.fromkeys(s.resolved(self.rates) for s in (*self.objectives, *self.constraints)))

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """The m distinct quantities that are evaluated: what is wanted, then what every table of a campaign shows.

        With every rate retention come the capacities that it is made of.
        """
        shown = (RateRetention.of(self.rates), Capacity(self.rates.low), Capacity(self.rates.high))
        asked = (*self.wanted, *shown, *self.also)
        return tuple(dict.fromkeys((*asked, *_behind(asked))))

    @cached_property
    def first(self) -> Quantity:
        """The quantity of the first objective, which leads every table."""
        return self.wanted[0]

    @cached_property
    def conditions(self) -> tuple[CyclingConditions, ...]:
        """What cells have to be discharged under, so that everything wanted is measured."""
        return tuple(dict.fromkeys(c for q in self.wanted for c in q.conditions))

    @cached_property
    def shown(self) -> tuple[Quantity, ...]:
        """What tables for people show: what is wanted, and both capacities behind a rate retention."""
        return tuple(dict.fromkeys((*self.wanted, *_behind(self.wanted))))

    @cached_property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Of each quantity what stands for it in a ledger, and its public name."""
        return tuple((q.identity, q.key(self.rates)) for q in self.quantities)

    def column(self, quantity: Quantity | QuantitySpec) -> int:
        """Column of a quantity.

        Raises:
            ConfigurationError: it is not one of these goals.
        """
        resolved = quantity.resolved(self.rates) if isinstance(quantity, QuantitySpec) else quantity
        if resolved not in self.quantities:
            raise ConfigurationError(f"{resolved} is none of the goals; make it an objective or a constraint.")
        return self.quantities.index(resolved)

    @cached_property
    def objective_columns(self) -> tuple[int, ...]:
        """Column of each objective."""
        return tuple(map(self.column, self.objectives))

    @cached_property
    def constraint_columns(self) -> tuple[int, ...]:
        """Column of each constraint."""
        return tuple(map(self.column, self.constraints))

    @cached_property
    def signs(self) -> np.ndarray:
        """1 where large is good, -1 where small is, ``m``: as an objective says, else a constraint, else as usual."""
        signs = np.array([q.sign for q in self.quantities])
        for column in set(self.constraint_columns):
            sides = {c.sign for c, at in zip(self.constraints, self.constraint_columns, strict=True) if at == column}
            signs[column] = sides.pop() if len(sides) == 1 else signs[column]
        signs[list(self.objective_columns)] = [o.sign for o in self.objectives]
        return signs

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
        import torch

        from drxnet.ensemble import Amounts

        amounts = compositions if isinstance(compositions, Amounts) else Amounts.of(compositions)
        profiles = MemberProfiles(ensemble, amounts, self.quantities, encoded=encoded, prices=self.prices)
        return torch.stack([q.of_members(profiles) for q in self.quantities], -1)

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
        """Probability that all constraints are met, for independent normal quantities (``... x m`` each), ``...``.

        NaN where a quantity that a constraint needs is.
        """
        from scipy.special import ndtr

        spread = np.maximum(std[..., list(self.constraint_columns)], _SMALLEST_STD)
        return ndtr(self.slack(mean) / spread).prod(-1)

    @cached_property
    def limits(self) -> np.ndarray:
        """Smallest and largest value that each quantity can mean, ``2 x m``."""
        return np.array([q.limits for q in self.quantities]).T

    def clipped(self, values: np.ndarray) -> np.ndarray:
        """Quantities (``... x m``) within the limits of what they can mean."""
        return np.clip(values, *self.limits)

    def lower(self, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        """Pessimistic 10 % quantile of every quantity: the lower, or the upper where small is good, ``... x m``."""
        return pessimistic(mean, std, self.signs, tuple(self.limits))

    def interval(
        self, mean: np.ndarray, std: np.ndarray, most: np.ndarray | float = np.inf
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the 80 % interval of every quantity, its 10 and 90 % quantiles, ``... x m`` each.

        Args:
            mean: of every quantity, ``... x m``; one beyond `most` is taken as that before the interval is drawn.
            std: likewise.
            most: largest possible value of each, such as the capacity of all lithium, ``... x m``.
        """
        highest = np.minimum(self.limits[1], most)
        limits = self.limits[0], highest
        middle = np.minimum(mean, highest)
        return pessimistic(middle, std, 1, limits), pessimistic(middle, std, -1, limits)

    def most(self, compositions: Sequence[Composition]) -> np.ndarray:
        """Largest value that each quantity of each composition can have, ``n x m``."""
        return np.array([[q.most(c) for q in self.quantities] for c in compositions]).reshape(-1, len(self.quantities))

    def columns(self, mean: np.ndarray, std: np.ndarray, most: np.ndarray | float = np.inf) -> dict[str, np.ndarray]:
        """What a row of a ranking or of a proposal shows, from the calibrated posterior.

        Args:
            mean: of every quantity, ``n x m``.
            std: likewise.
            most: largest possible value of each, ``n x m``.

        Returns:
            Arrays of length n under the public names: of every quantity ``_mean``, ``_std``, ``_lower`` and ``_upper``;
            and ``feasibility``.
        """
        clipped, (lower, upper) = self.clipped(mean), self.interval(mean, std, most)
        found: dict[str, np.ndarray] = {}
        for i, (_, key) in enumerate(self.names):
            ends = {f"{key}_lower": lower[:, i], f"{key}_upper": upper[:, i]}
            found |= {f"{key}_mean": clipped[:, i], f"{key}_std": std[:, i], **ends}
        return {**found, "feasibility": self.feasibility(mean, std)}

    def in_words(self, mean: np.ndarray) -> str:
        """What one composition promises, ``m``: the objectives."""
        promised = zip(self.quantities, self.clipped(mean), strict=True)
        said = [f"{quantity.heading} {quantity.shown(value)}" for quantity, value in promised]
        return ", ".join(said[i] for i in self.objective_columns)

    @cached_property
    def sides(self) -> tuple[Literal["lower", "upper"], ...]:
        """Which bound of each quantity is the pessimistic one."""
        return tuple("lower" if sign > 0 else "upper" for sign in self.signs)


def _refuse_contradiction(limits: Sequence[ConstraintSpec]) -> None:
    """Refuse limits of one quantity that nothing can meet together."""
    least = max((c.threshold for c in limits if c.sign > 0), default=-np.inf)
    if least > min((c.threshold for c in limits if c.sign < 0), default=np.inf):
        raise ValueError(f"Nothing meets all of these constraints. Got {', '.join(map(str, limits))}.")


def _behind(quantities: Sequence[Quantity]) -> list[Quantity]:
    """The capacities that rate retentions are made of."""
    return [Capacity(c) for q in quantities if isinstance(q, RateRetention) for c in q.conditions]


def fronts(values: np.ndarray, at_most: int | None = None) -> np.ndarray:
    """Number of the Pareto front that each row is on, from 1; larger is better, ``n x k -> n``.

    Args:
        values: of each row, ``n x k``.
        at_most: fronts to look for; rows behind them get 0.
    """
    order = np.lexsort(-values.T[::-1])  # no row is beaten by one that comes after it
    columns = np.ascontiguousarray(values[order].T)
    numbers = np.zeros(len(values), int)
    for i in range(len(values)):
        before, row = columns[:, :i], columns[:, i, None]
        beaten_by = (before >= row).all(0) & (before > row).any(0)
        numbers[i] = 1 + numbers[:i][beaten_by].max(initial=0)
    found = np.empty_like(numbers)
    found[order] = numbers
    return found if at_most is None else np.where(found <= at_most, found, 0)
