"""What a chemist allows: a :class:`CandidateSpace`, read from a few lines of YAML.

::

    step: 1/20
    lithium: [1.1, 1.3]
    fluorine: [0, 0.3]
    species: [Mn2+, Fe2+, Ni2+, Mg2+, Mn3+, Cr3+, V3+, Fe3+, Ti4+, Nb5+]
    k_elements: [4, null]

Amounts are per formula unit Li...O(2-y)F(y). A composition belongs to a space when its amounts are whole multiples
of the step inside every range, some assignment of the listed species makes it neutral, and the assignment of
:func:`screening.species.fill_ladder` (the only one without a redox reaction left to happen) satisfies what is asked
of species.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from math import ceil, floor
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from drxnet.composition import LEAST_METAL, METALS_BY_NUMBER, MODEL_METALS, Composition
from drxnet.errors import CompositionError, ConfigurationError, ImpossibleValue
from drxnet.names import found, hint, nearest
from drxnet.process import Process, crossed
from drxnet.yaml_files import read_yaml, shipped
from screening.filters import Filters, Mixtures
from screening.species import Couple, Species, couples, fill_ladder, oxidation_order

MOST_WAYS = 64
"""Processes that a space may cross its compositions with."""

Configuration = TypeVar("Configuration", bound=BaseModel)


_PLAIN_NUMBER = re.compile(r"[-+]?[\d._]{1,30}(/\d{1,30}|[eE][-+]?\d{1,2})?")


def exact(value: Any) -> Fraction:
    """Read ``0.05``, ``1/20`` or a whole number without rounding.

    Raises:
        ValueError: not a number.
    """
    try:
        text = str(value).strip()
        if not _PLAIN_NUMBER.fullmatch(text):  # 1e-999999999 is a fraction, too, and takes for ever
            raise ValueError
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"must be a number such as 0.05 or 1/20, got {value!r}") from None


def _interval(value: Any) -> Any:
    if isinstance(value, list | tuple):
        if len(value) != 2:
            raise ValueError(f"must be one number or [min, max], got {value!r}")
        return {"min": value[0], "max": value[1]}
    return {"min": value, "max": value} if isinstance(value, int | float | str) else value


def _filters(value: Any) -> Any:
    return Filters.none() if value == "none" else value


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _number(value: Any) -> Any:
    return value if value is None else float(exact(value))


Number = Annotated[float, BeforeValidator(_number, json_schema_input_type=float | str)]


class Range(_Frozen):
    """Amounts per formula unit from ``min`` to ``max``; written ``[min, max]``, or one number."""

    min: Number = Field(default=0.0, ge=0)
    """Least amount per formula unit."""

    max: Number | None = None
    """Largest amount; null for no limit."""

    step: Number | None = Field(default=None, gt=0)
    """Coarser than the step of the space, for this one element."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"min must not exceed max, got [{self.min:g}, {self.max:g}]")
        return self

    def units(self, denominator: int, limit: int) -> range:
        """Whole numbers of ``1 / denominator`` inside the range, at most ``limit``."""
        step = 1 if self.step is None else exact(_short(self.step)) * denominator
        if isinstance(step, Fraction) and step.denominator != 1:
            raise ConfigurationError(f"A step of {self.step:g} is not a whole multiple of 1/{denominator}.")
        low = ceil(exact(_short(self.min)) * denominator)
        high = limit if self.max is None else min(limit, floor(exact(_short(self.max)) * denominator))
        stride = int(step)
        return range(-(-low // stride) * stride, high + 1, stride)


def _short(value: float) -> str:
    """Write a float as the shortest decimal or, for thirds and the like, as the fraction it came from."""
    near = Fraction(value).limit_denominator(1000)
    return str(near) if float(near) == value else repr(value)


class Count(_Frozen):
    """How many, from ``min`` to ``max``; written ``[min, max]`` (null: no limit), or one number."""

    min: int = Field(default=0, ge=0)
    """At least so many."""

    max: int | None = Field(default=None, ge=0)
    """At most so many; null for no limit."""

    def admits(self, number: int) -> bool:
        """Whether a number lies inside."""
        return self.min <= number and (self.max is None or number <= self.max)

    def __str__(self) -> str:
        """Return e.g. ``4 to 7`` or ``4 or more``."""
        return f"{self.min} or more" if self.max is None else f"{self.min} to {self.max}"


Amounts = Annotated[
    Range, BeforeValidator(_interval, json_schema_input_type=Range | tuple[Number | None, Number | None] | float | str)
]
Counts = Annotated[
    Count, BeforeValidator(_interval, json_schema_input_type=Count | tuple[int | None, int | None] | int)
]

Group = Literal["redox-active", "d0", "+2", "+3", "+4", "+5", "+6"]
"""Names a quota may use for a group of species."""


class Quota(_Frozen):
    """How many species of a group there may be, and how much of them."""

    group: Group | None = None
    """One of the named groups, or ..."""

    members: tuple[str, ...] = ()
    """... species (``Mn3+``) and elements (``Mn``)."""

    count: Counts | None = None
    """How many of them may be present."""

    amount: Amounts | None = None
    """Their amounts together, per formula unit."""

    @model_validator(mode="after")
    def _complete(self) -> Quota:
        if (self.group is None) == (not self.members):
            raise ValueError(f"give either group (one of {', '.join(get_args(Group))}) or members")
        if self.count is None and self.amount is None:
            raise ValueError("give count, amount or both")
        if self.amount is not None and self.amount.step is not None:
            raise ValueError("an amount of a quota has no step of its own")
        return self

    def holds(self, species: Species) -> bool:
        """Whether a species belongs to the group."""
        if self.group is None:
            return str(species) in self.members or species.element in self.members
        if self.group == "redox-active":
            return species.electrons > 0
        if self.group == "d0":
            return species.is_d0
        return species.charge == int(self.group)

    def against_number(self, present: Sequence[Species]) -> Iterable[str]:
        """Yield what the quota has against the number of species of its group that stand side by side."""
        number = sum(map(self.holds, present))
        if self.count is not None and not self.count.admits(number):
            yield f"quotas: {number} species of {self}, {self.count} allowed"

    def __str__(self) -> str:
        """Return the name of the group."""
        return self.group or "+".join(self.members)


def _levels(said: Mapping[str, tuple[float | str, ...]]) -> Mapping[str, tuple[float | str, ...]]:
    try:
        ways = crossed(said)
    except ImpossibleValue as error:
        raise ValueError(str(error).rstrip(".")) from None
    if len(ways) > MOST_WAYS:
        raise ValueError(f"a space may cross its compositions with at most {MOST_WAYS} processes, got {len(ways)}")
    return said


class CandidateSpace(_Frozen):
    """Every composition a chemist would consider making. Frozen; checked when built."""

    name: str = "space"
    """Name of the space, for tables; by default that of its file."""

    description: str = ""
    """What it is for, in your words."""

    step: Annotated[str, WithJsonSchema({"type": ["string", "number"]})]
    """``1/D``: every amount is a whole multiple of it."""

    lithium: Amounts
    """Li per formula unit Li...O(2-y)F(y)."""

    fluorine: Amounts
    """F per formula unit, y."""

    species: tuple[str, ...] = Field(min_length=1)
    """Species other than Li+, such as ``Mn2+``; several of one element may be present side by side."""

    limits: Mapping[str, Amounts] = Field(default_factory=dict)
    """Amount of an element when it is present."""

    k_elements: Counts = Count(min=1)
    """Number of distinct metals, lithium not counted."""

    k_species: Counts = Count()
    """Number of distinct species, Mn2+ and Mn3+ being two."""

    required: tuple[str, ...] = ()
    """Elements that must be present."""

    excluded: tuple[str, ...] = ()
    """Elements that must be absent: for narrowing a space without rewriting its species."""

    forbidden_pairs: tuple[tuple[str, str], ...] = ()
    """Two species, or elements, that must not occur together."""

    quotas: tuple[Quota, ...] = ()
    """How many species of a group there may be, and how much of them."""

    filters: Annotated[Filters, BeforeValidator(_filters, json_schema_input_type=Filters | Literal["none"])] = Filters()
    """Thresholds of :mod:`screening.filters`, ``null`` for none of one kind; ``none`` switches all off."""

    process: Annotated[Mapping[str, tuple[float | str, ...]], AfterValidator(_levels)] = Field(default_factory=dict)
    """Ways to make and test that a proposal may choose from, values of each condition: ``route: [sol-gel, flux]``."""

    allow_elements_outside_model: bool = False
    """Admit metals that DRXNet has never seen."""

    @model_validator(mode="before")
    @classmethod
    def _plain_step(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "step" in values:
            return {**values, "step": str(exact(values["step"]))}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> CandidateSpace:
        step = exact(self.step)
        if step <= 0 or step.numerator != 1 or step.denominator > 1000:
            raise ValueError(f"step must be 1/D with a whole D of at most 1000, got {self.step}")
        self._check_names()
        self._check_species()
        for metal, listed_states in self.states.items():
            couples(metal, listed_states)
        self._check_amounts()
        return self

    def _check_names(self) -> None:
        known = set(METALS_BY_NUMBER)
        for element in (*self.limits, *self.required, *self.excluded):
            if element not in known:
                raise ValueError(f"{element!r} is not a metal")
        paired = (member for pair in self.forbidden_pairs for member in pair)
        for member in (*paired, *(member for quota in self.quotas for member in quota.members)):
            if member not in known:
                Species.parse(member)

    def _check_species(self) -> None:
        parsed = [Species.parse(one) for one in self.species]
        listed = {s.element for s in parsed}
        if "Li" in listed:
            raise ValueError("Li+ is always present and is not listed; its range is lithium")
        if len(set(parsed)) < len(parsed):
            raise ValueError("each species is listed once")
        foreign = sorted(listed - set(MODEL_METALS))
        if foreign and not self.allow_elements_outside_model:
            raise ValueError(
                f"DRXNet was trained on {', '.join(MODEL_METALS[1:])} and knows nothing of {', '.join(foreign)}; "
                "remove the species, or set allow_elements_outside_model: true"
            )
        for field, elements in (("limits", self.limits), ("required", self.required)):
            if absent := sorted(set(elements) - listed):
                raise ValueError(f"{field} names {', '.join(absent)}, of which no species is listed")
        if both := sorted(set(self.required) & set(self.excluded)):
            raise ValueError(f"{', '.join(both)} cannot be both required and excluded")

    def _check_amounts(self) -> None:
        if not self.lithium_units or self.lithium_units[0] == 0:
            raise ValueError(f"lithium must hold a multiple of {self.step} above 0 and at most 2")
        if not self.fluorine_units:
            raise ValueError(f"fluorine must hold a multiple of {self.step}, at most 2")
        for element in self.limits:
            if element in self.metals and not self.metal_units(element):
                raise ValueError(
                    f"limits of {element} hold no multiple of {self.step} of at least {LEAST_METAL:g}; less is a "
                    "trace, of which the model knows nothing"
                )

    # -- what follows from it ----------------------------------------------------------------------------

    @cached_property
    def denominator(self) -> int:
        """D: amounts are counted in units of 1/D."""
        return exact(self.step).denominator

    @cached_property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """Oxidation states of each metal that may occur, ascending; metals by atomic number."""
        states: dict[str, list[int]] = {}
        for species in sorted(map(Species.parse, self.species), key=lambda s: METALS_BY_NUMBER.index(s.element)):
            if species.element not in self.excluded:
                states.setdefault(species.element, []).append(species.charge)
        return {metal: tuple(sorted(charges)) for metal, charges in states.items()}

    @property
    def metals(self) -> tuple[str, ...]:
        """Metals that may occur, by atomic number."""
        return tuple(self.states)

    @cached_property
    def ladder(self) -> list[Couple]:
        """Couples between the listed states, the most reducing first."""
        return oxidation_order(self.states)

    @cached_property
    def lithium_units(self) -> range:
        """Allowed amounts of lithium in units of 1/D."""
        return self.lithium.units(self.denominator, 2 * self.denominator)

    @cached_property
    def fluorine_units(self) -> range:
        """Allowed amounts of fluorine in units of 1/D."""
        return self.fluorine.units(self.denominator, 2 * self.denominator)

    @cached_property
    def amount_quotas(self) -> tuple[tuple[Quota, Range], ...]:
        """Quotas on amounts, and the amounts that they allow."""
        return tuple((quota, quota.amount) for quota in self.quotas if quota.amount is not None)

    def metal_units(self, metal: str) -> range:
        """Allowed amounts of a metal, when present, in units of 1/D; never a trace, see :data:`LEAST_METAL`."""
        units = self.limits.get(metal, Range()).units(self.denominator, 2 * self.denominator)
        least = ceil(exact(_short(LEAST_METAL)) * self.denominator)
        return units[bisect_left(units, max(1, least)) :]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides which compositions belong, and in which order, however they are made."""
        content = self.model_dump(mode="json", exclude={"name", "description", "process"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def with_step(self, step: Any) -> CandidateSpace:
        """Build the same space on another step."""
        return parse_space({**self.model_dump(), "step": str(exact(step))})

    # -- what is asked of the species present ------------------------------------------------------------

    @property
    def ways(self) -> tuple[Process, ...]:
        """Processes that a proposal may choose from; empty where the campaign leaves it open."""
        return crossed(self.process)

    @property
    def asks_for_species(self) -> bool:
        """Whether belonging depends on more than amounts and the number of elements."""
        counted = any(q.count is not None for q in self.quotas)
        return bool(self.required or self.forbidden_pairs or counted or self.k_species != Count())

    def objections(self, present: Sequence[Species]) -> Iterable[str]:
        """Yield what the space has against a set of species standing side by side."""
        elements = {s.element for s in present}
        if not self.k_elements.admits(len(elements)):
            yield f"k_elements: {len(elements)} metals, {self.k_elements} allowed"
        if not self.k_species.admits(len(present)):
            yield f"k_species: {len(present)} species, {self.k_species} allowed"
        yield from (f"required: {element} is absent" for element in self.required if element not in elements)
        names = elements | {str(s) for s in present}
        yield from (f"forbidden_pairs: {a} with {b}" for a, b in self.forbidden_pairs if {a, b} <= names)
        for quota in self.quotas:
            yield from quota.against_number(present)

    def why_not(self, composition: Composition) -> list[str]:
        """List the constraints that keep a composition out of the space; empty when it belongs."""
        try:
            units = composition.units(self.denominator)
        except CompositionError as error:
            return [f"step: {error}"]
        if reasons := list(self._amounts_against(composition, units)):
            return reasons
        d, states = self.denominator, {m: self.states[m] for m in composition.metals}
        cations, fluorine = np.array([[units[m] for m in composition.elements]]), np.array([units.get("F", 0)])
        charges, missing = fill_ladder(list(states), states, cations[:, 1:], 4 * d - cations[:, 0] - fluorine)
        if missing[0] != 0:
            side = "the highest" if missing[0] > 0 else "the lowest"
            surplus = -missing[0] / d
            return [f"charge: {surplus:+g} per formula unit with every metal in {side} state listed"]
        mixtures = Mixtures.of(states, cations / d, fluorine / d, charges / d)
        present = {s: a for s, a in zip(mixtures.species[1:], mixtures.metals[0].tolist(), strict=True) if a > 0}
        standing = Mixtures.standing([list(present)])
        return [
            *self.objections(list(present)),
            *self._quotas_against(present),
            *(f"filters: {v}" for v in self.filters.verdicts(standing, of_species=True) if not v.passed),
        ]

    def _amounts_against(self, composition: Composition, units: Mapping[str, int]) -> Iterable[str]:
        """Yield what the space has against the amounts of a composition, whatever its oxidation states."""
        for metal in composition.metals:
            if metal not in self.states:
                yield f"{'excluded' if metal in self.excluded else 'species'}: {metal} is not allowed"
        total = sum(units[m] for m in composition.elements)
        if total != 2 * self.denominator:
            yield f"sites: {total / self.denominator:g} cations for 2 anions"
        for name, symbol, allowed in (
            ("lithium", "Li", self.lithium_units),
            ("fluorine", "F", self.fluorine_units),
            *(("limits", m, self.metal_units(m)) for m in composition.metals if m in self.states),
        ):
            held = units.get(symbol, 0)
            if held not in allowed:
                which = _described(allowed, self.denominator)
                yield f"{name}: {symbol} {held / self.denominator:g}, allowed {which}"

    def _quotas_against(self, present: Mapping[Species, float]) -> Iterable[str]:
        """Yield the amounts of quotas that the species present, per formula unit, do not keep."""
        for quota, amount in self.amount_quotas:
            held = sum(a for s, a in present.items() if quota.holds(s))
            high = amount.max if amount.max is not None else float("inf")
            if not amount.min - 1e-9 <= held <= high + 1e-9:
                yield f"quotas: {held:g} of {quota}, allowed {amount.min:g} to {high:g}"


def _described(allowed: range, denominator: int) -> str:
    if not allowed:
        return "none"
    text = f"{allowed[0] / denominator:g} to {allowed[-1] / denominator:g}"
    return text if allowed.step == 1 else f"{text} in steps of {allowed.step / denominator:g}"


def validated(model: type[Configuration], values: Any, where: str) -> Configuration:
    """Build a configuration, or say in a chemist's words what is wrong with it.

    Args:
        model: pydantic model.
        values: what the YAML held.
        where: file or name, for the message.

    Raises:
        ConfigurationError: an unknown key (with the nearest known one), a value out of range, ...
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{where}: expected keys and values, got {type(values).__name__}.")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(model, detail) for detail in error.errors()]
        raise ConfigurationError(f"{where}: " + "; ".join(dict.fromkeys(lines)) + ".") from None


def _sentence(model: type[BaseModel], detail: Any) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        key = str(detail["loc"][-1])
        known = _keys(model, detail["loc"][:-1])
        near = nearest(key, known)
        return f"unknown key {path!r}; " + (f"did you mean {near!r}?" if near else f"known here: {', '.join(known)}")
    message = detail["msg"].removeprefix("Value error, ").removesuffix(".")
    if detail["type"] == "missing":
        message = "this key is required"
    return f"{path}: {message}" if path else message


def _keys(model: Any, path: Sequence[Any]) -> list[str]:
    """Names of the fields of the model that the path of an error leads to."""
    at = [model]
    for part in path:
        inner = [m.model_fields[part].annotation for one in at for m in _models(one) if part in m.model_fields]
        at = inner or at  # a place in a list, a key of a mapping or the kind of a union leads to no field
    listed = [m.model_fields.items() for one in at for m in _models(one)]
    return list(dict.fromkeys(name for fields in listed for name, field in fields if not field.exclude))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def parse_space(values: Mapping[str, Any], where: str = "space") -> CandidateSpace:
    """Build a space from the keys of a YAML.

    Raises:
        ConfigurationError: it does not describe a space.
    """
    return validated(CandidateSpace, values, where)


def load_space(space: str | Path) -> CandidateSpace:
    """Read a space: the name of a shipped one, or a YAML file.

    Raises:
        ConfigurationError: no such space, or the file does not describe one.
    """
    named = shipped("spaces")
    path = named.get(str(space), Path(space))
    if not found(path.is_file):
        raise ConfigurationError(
            f"No space {str(space)!r}. {hint(space, named)}Give a YAML file or one of the shipped spaces: "
            f"{', '.join(named)}."
        )
    values = read_yaml(path)
    if isinstance(values, Mapping):
        if "space" in values:  # a mistake that is easily made: every key of it would be unknown
            named_there = values["space"] if isinstance(values["space"], str) else "what stands under its `space:`"
            raise ConfigurationError(
                f"{path}: describes no space, but uses one, as a campaign does. Give {named_there}."
            )
        values = {"name": path.stem, **values}
    return parse_space(values, str(space))
