"""How a cell was made and tested, as far as somebody said so: the conditions beside current, window and cycle.

One row of :data:`FIELDS` declares a condition, and every surface reads it there: data sets, the network's branches,
sample tables, the ledger, YAML, the command line and the JSON rows. None of them has a default; what is not stated is
unknown, and a model takes it as such. A laboratory's own condition is one more row, in a package of its own::

    [project.entry-points."drx_screen.conditions"]
    pressing_mpa = "our_lab.conditions:PRESSING"
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drxnet.errors import ImpossibleValue
from drxnet.names import hint_or_all, nearest
from drxnet.plugins import Registry

Value = float | str
"""What a condition is: a number in the field's unit, or one of its words."""

_SAME_NUMBER = 1e-9

PROCESS_SHARE, PROCESS_REACH = 0.15, 2.0
"""Usual standard deviation of what a process does to a capacity, as a share of it, and the difference on the scale of a
model over which that changes: priors of the Gaussian model, chosen on simulated laboratories."""


@dataclass(frozen=True)
class ConditionField:
    """One condition: what it is called, what it can be, and when two values of it are the same."""

    name: str
    """Key in tables, YAML and JSON; a number's ends with its unit."""

    label: str
    """In words, for figures and messages."""

    unit: str = ""

    number: tuple[float, float] | None = None
    """Lowest and highest value of a number; None for words."""

    words: tuple[str, ...] = ()
    """What a condition in words can be."""

    also: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    """Other names of the words, in lower case."""

    tolerance: float = 0.0
    """Largest difference at which two numbers are the same, in the unit, or as a share of them where `logarithmic`."""

    logarithmic: bool = False
    """Whether a factor counts, not a difference."""

    typical: tuple[float, float] = (0.0, 1.0)
    """Middle and spread of what laboratories use (of the natural logarithm where `logarithmic`): the network and
    the Gaussian model see ``(value - middle) / spread``."""

    @property
    def width(self) -> int:
        """Inputs of a model: one for a number, one for each word."""
        return len(self.words) or 1

    def parse(self, value: Any) -> Value:
        """Return a value as this condition holds it.

        Raises:
            ImpossibleValue: not a number, one out of bounds, or an unknown word.
        """
        if self.words:
            return self._word(str(value).strip())
        assert self.number is not None
        low, high = self.number
        try:
            number = float(str(value).strip())
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise ImpossibleValue(f"{self.name} is a number from {low:g} to {high:g} {self.unit}. Got {value!r}.")
        return number

    def _word(self, said: str) -> str:
        folded = said.lower().replace("_", " ")
        found = self.also.get(folded, folded)
        if found in self.words:
            return found
        near = nearest(folded, [*self.words, *self.also])
        hint = f" Did you mean {self.also.get(near, near)!r}?" if near else ""
        raise ImpossibleValue(f"{self.name} is one of {', '.join(self.words)}. Got {said!r}.{hint}")

    def same(self, one: Value, other: Value) -> bool:
        """Whether two values are the same, as closely as it matters."""
        if isinstance(one, str) or isinstance(other, str):
            return one == other
        if self.logarithmic:
            return abs(one - other) <= (self.tolerance + _SAME_NUMBER) * max(abs(one), abs(other))
        return abs(one - other) <= self.tolerance + _SAME_NUMBER

    def encoded(self, value: Value) -> tuple[float, ...]:
        """Return the value as a model sees it, ``width`` numbers of about one."""
        if isinstance(value, str):
            return tuple(float(value == word) for word in self.words)
        middle, spread = self.typical
        return (((math.log(value) if self.logarithmic else value) - middle) / spread,)

    def decoded(self, numbers: Sequence[float]) -> Value:
        """Return the value that :meth:`encoded` gives these numbers for, or comes nearest to them."""
        if self.words:
            return self.words[max(range(len(self.words)), key=numbers.__getitem__)]
        assert self.number is not None
        middle, spread = self.typical
        raw = middle + spread * numbers[0]
        low, high = self.number
        return min(max(math.exp(raw) if self.logarithmic else raw, low), high)

    def text(self, value: Value) -> str:
        """Return the value for tables and messages."""
        return value if isinstance(value, str) else f"{value:g} {self.unit}".rstrip()


_ROUTES = {
    "solid-state": "solid state",
    "ssr": "solid state",
    "ceramic": "solid state",
    "ball milling": "mechanochemical",
    "ball-milling": "mechanochemical",
    "high-energy ball milling": "mechanochemical",
    "milling": "mechanochemical",
    "sol gel": "sol-gel",
    "solgel": "sol-gel",
    "citrate": "sol-gel",
    "pechini": "sol-gel",
    "coprecipitation": "co-precipitation",
    "molten-salt": "molten salt",
    "flux": "molten salt",
    "glycine-nitrate": "combustion",
}
_YES = {"true": "yes", "1": "yes", "y": "yes", "milled": "yes", "false": "no", "0": "no", "n": "no", "none": "no"}

_HEAT = ConditionField(
    "firing_temperature_c", "firing temperature", "°C", (50.0, 1600.0), tolerance=15, typical=(900, 150)
)
_HOLD = ConditionField(
    "firing_time_h",
    "firing time",
    "h",
    (0.001, 1000.0),
    tolerance=0.2,
    logarithmic=True,
    typical=(math.log(12.0), 1.0),
)
_SHIPPED = (
    ConditionField("temperature_c", "temperature of the test", "°C", (-40.0, 100.0), tolerance=3, typical=(25, 15)),
    ConditionField(
        "route",
        "synthesis route",
        words=(
            "solid state",
            "mechanochemical",
            "sol-gel",
            "molten salt",
            "co-precipitation",
            "hydrothermal",
            "combustion",
        ),
        also=_ROUTES,
    ),
    _HEAT,
    _HOLD,
    dataclasses.replace(_HEAT, name="second_firing_temperature_c", label="temperature of the second firing"),
    dataclasses.replace(_HOLD, name="second_firing_time_h", label="time of the second firing"),
    ConditionField("milled", "milled after firing", words=("no", "yes"), also=_YES),
    ConditionField("milling_time_h", "milling time", "h", (0.0, 500.0), tolerance=0.5, typical=(5, 10)),
    ConditionField(
        "particle_size_um",
        "particle size",
        "µm",
        (0.001, 1000.0),
        tolerance=0.3,
        logarithmic=True,
        typical=(math.log(0.3), 1.2),
    ),
    ConditionField(
        "loading_mg_cm2",
        "active mass per area",
        "mg/cm²",
        (0.01, 200.0),
        tolerance=0.3,
        logarithmic=True,
        typical=(math.log(3.0), 0.6),
    ),
    ConditionField("carbon_share", "carbon in the electrode", "", (0.0, 0.9), tolerance=0.03, typical=(0.2, 0.1)),
)


def _check(name: str, condition: object) -> None:
    if not isinstance(condition, ConditionField):
        raise ValueError(f"a condition is a ConditionField. Got {type(condition).__name__}")
    if condition.name != name:
        raise ValueError(f"the entry point must have the name of the condition, {condition.name!r}")
    if (condition.number is None) == (not condition.words):
        raise ValueError("a condition is a number with bounds, or one of some words")


FIELDS: Registry[ConditionField] = Registry(
    "condition of a process", "drx_screen.conditions", {f.name: f for f in _SHIPPED}, _check
)
"""Every condition beside current, window and cycle, by name, in the order of tables. Middles and spreads only set the
scale on which a model sees a number: usual practice should lie within about two spreads."""


@dataclass(frozen=True)
class Process:
    """The conditions that were stated, and nothing about the others."""

    stated: tuple[tuple[str, Value], ...] = ()
    """Name and value of each, in the order of :data:`FIELDS`."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Process:
        """Check and collect what was said; empty values (None, "") say nothing.

        Raises:
            ImpossibleValue: an unknown condition, with the known ones, or a value that it cannot have.
        """
        said = {name: value for name, value in values.items() if value is not None and str(value).strip() != ""}
        if not said:
            return NOT_STATED
        for name in said:
            if name not in FIELDS:
                raise ImpossibleValue(f"{str(name)!r} is no condition of a process. {hint_or_all(name, FIELDS)}")
        return cls(tuple((name, f.parse(said[name])) for name, f in FIELDS.items() if name in said))

    @classmethod
    def read(cls, text: str) -> Process:
        """Read ``name=value, name=value``.

        Raises:
            ImpossibleValue: not of that form, or see :meth:`of`.
        """
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        bad = next((name for name, equals, _ in pairs if not equals), None)
        if bad is not None:
            raise ImpossibleValue(f"A condition is written name=value, e.g. route=sol-gel. Got {bad.strip()!r}.")
        return cls.of({name.strip(): value.strip() for name, _, value in pairs})

    def __bool__(self) -> bool:
        """Tell whether anything was stated."""
        return bool(self.stated)

    def __iter__(self) -> Iterator[tuple[ConditionField, Value]]:
        """Yield each stated condition with its value."""
        return ((FIELDS[name], value) for name, value in self.stated)

    def get(self, name: str) -> Value | None:
        """Return the value of a condition, None where it was not stated."""
        return dict(self.stated).get(name)

    def row(self) -> dict[str, Value]:
        """Return what was stated, by name."""
        return dict(self.stated)

    def over(self, other: Process) -> Process:
        """Return this process with what only the other one states added."""
        return Process.of({**other.row(), **self.row()})

    def differs(self, other: Process) -> tuple[str, ...]:
        """Name the conditions that both state, and state differently beyond the field's tolerance."""
        theirs = other.row()
        return tuple(f.name for f, value in self if f.name in theirs and not f.same(value, theirs[f.name]))

    def covers(self, other: Process) -> bool:
        """Tell whether everything that the other one states is stated here, and the same."""
        mine = self.row()
        return all(f.name in mine and f.same(mine[f.name], value) for f, value in other)

    def __str__(self) -> str:
        """Return what was stated, for tables and messages; empty for nothing."""
        return ", ".join(f"{f.label} {f.text(value)}" for f, value in self)


def crossed(levels: Mapping[str, Sequence[Any]]) -> tuple[Process, ...]:
    """Every combination of the given values of some conditions, in the order given; empty where none are.

    Raises:
        ImpossibleValue: an unknown condition, or a value that it cannot have.
    """
    if not levels:
        return ()
    combinations = itertools.product(*levels.values())
    return tuple(dict.fromkeys(Process.of(dict(zip(levels, values, strict=True))) for values in combinations))


def alike(processes: Sequence[Process]) -> list[list[int]]:
    """Group processes that do not differ, by their indices; what states most opens the groups, the largest is first.

    What does not state a condition in which groups differ joins the first one that it does not differ from.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(processes)), key=lambda i: -len(processes[i].stated)):
        same = (g for g in groups if not any(processes[i].differs(processes[j]) for j in g))
        if (group := next(same, None)) is None:
            groups.append([i])
        else:
            group.append(i)
    return sorted((sorted(g) for g in groups), key=len, reverse=True)


def joined(processes: Sequence[Process]) -> Process:
    """What any of some processes that do not differ states."""
    together = NOT_STATED
    for process in processes:
        together = together.over(process)
    return together


def unlearned_share(learned: Mapping[str, Sequence[Value]], process: Process) -> float:
    """Standard deviation of what a process may do that lies outside what was learned of it, as a share of a capacity.

    That of a Matérn-5/2 process of the usual size and reach, given what was learned: 0 between the values of a number
    that was learned from, and for what nothing was learned of at all.

    Args:
        learned: values that each condition was learned from.
        process: that is asked for.
    """
    missing = [1 - _matern(_apart(field, value, learned[field.name])) ** 2 for field, value in process
               if learned.get(field.name)]  # fmt: skip
    return PROCESS_SHARE * math.sqrt(sum(missing))


def _apart(field: ConditionField, value: Value, learned: Sequence[Value]) -> float:
    """From the nearest value that was learned from, on the scale of a model; 0 between two of a number."""
    at = [field.encoded(other) for other in learned]
    if field.words:
        return min(math.dist(field.encoded(value), other) for other in at)
    (here,) = field.encoded(value)
    low, high = min(at)[0], max(at)[0]
    return max(low - here, here - high, 0.0)


def _matern(apart: float) -> float:
    scaled = math.sqrt(5) * apart / PROCESS_REACH
    return (1 + scaled + scaled**2 / 3) * math.exp(-scaled)


def encoded_processes(processes: Sequence[Process]) -> dict[str, np.ndarray]:
    """Encode processes as models take them.

    Returns:
        For every condition that any of them states, ``processes x width``, NaN in the rows that do not state it.
    """
    table: dict[str, np.ndarray] = {}
    for row, process in enumerate(processes):
        for field, value in process:
            if field.name not in table:
                table[field.name] = np.full((len(processes), field.width), np.nan)
            table[field.name][row] = field.encoded(value)
    return table


NOT_STATED = Process()
"""What most data say."""
