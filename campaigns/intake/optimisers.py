"""Spaces and results of BayBE and Ax, from the JSON that they save: candidates as a list, measurements as rows.

Parameters are read by the names of elements (``Li``, ``Mn``, ``F``; lithium that is none fills the cations up to two),
or as one parameter ``composition`` (or ``formula``) whose values are formulas. Sums over elements hold as constraints.
BayBE keeps its tables pickled, which nothing here is unpickled from: of BayBE the space is read, of Ax both.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drxnet.composition import Composition
from drxnet.discharge import DEFAULT_WINDOW
from drxnet.errors import CompositionError, DataRefused, UsageError
from drxnet.names import hint

MOST_BYTES = 64 << 20
MOST_CANDIDATES = 1_000_000
"""Combinations that are tried; a larger space is better written as a space of drx-screen, which counts exactly."""

CAPACITY = "capacity_mah_g"
_FORMULA = ("composition", "formula")
_TOLERANCE = 1e-6
_TERM = re.compile(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?) \* (\w+)")
_OPERATORS = {"=": 0, "<=": -1, "<": -1, ">=": 1, ">": 1}


@dataclass(frozen=True)
class Sum:
    """A weighted sum of parameters that lies on one side of a number, or on it."""

    weights: Mapping[str, float]
    side: int
    """-1: at most, 0: equal, 1: at least."""

    bound: float
    tolerance: float = _TOLERANCE

    def holds(self, values: Mapping[str, float]) -> bool:
        """Whether it does for values of all parameters."""
        beyond = sum(w * values[name] for name, w in self.weights.items()) - self.bound
        return abs(beyond) <= self.tolerance if self.side == 0 else self.side * beyond >= -self.tolerance


Trial = tuple[Mapping[str, Any], Mapping[str, tuple[float, float | None]]]
"""Parameters of a trial; mean and standard error (None where unknown) of each metric."""


@dataclass(frozen=True)
class Experiment:
    """What another optimiser was asked for, and what it was told."""

    origin: str
    axes: Mapping[str, tuple[Any, ...]]
    """Values of each parameter."""

    sums: tuple[Sum, ...] = ()
    results: tuple[Trial, ...] = ()

    note: str = ""
    """What could not be read, and how to get it."""

    def candidates(self) -> Iterator[Composition]:
        """Compositions of the space, each once; combinations that are no disordered rocksalt are left out.

        Raises:
            DataRefused: parameters that are no element, or too many combinations.
        """
        combinations = math.prod(len(values) for values in self.axes.values())
        if combinations > MOST_CANDIDATES:
            raise DataRefused(
                f"The space has {combinations:,} combinations, more than {MOST_CANDIDATES:,}. Write it as a space of "
                "drx-screen (`drx-screen init`, docs), which is counted and walked exactly."
            )
        seen = set()
        for values in itertools.product(*self.axes.values()):
            point = dict(zip(self.axes, values, strict=True))
            if not all(one.holds(point) for one in self.sums):
                continue
            found = _composition(point)
            if found is not None and found.formula not in seen:
                seen.add(found.formula)
                yield found

    def rows(
        self,
        current_ma_g: float | None,
        metric: str | None = None,
        window: tuple[float, float] = DEFAULT_WINDOW,
    ) -> list[dict[str, Any]]:
        """Results as rows that ``Campaign.add_measurements`` takes and ``ingest`` reads.

        Args:
            current_ma_g: of the cells, where no parameter ``current_ma_g`` says it (mA/g).
            metric: which holds the capacity (mAh/g); by default ``capacity_mah_g``, else the only one.
            window: lower and upper cut-off of all of them (V).

        Raises:
            UsageError: the metric or the current is not told.
        """
        names = list(dict.fromkeys(name for _, metrics in self.results for name in metrics))
        wanted = metric or (CAPACITY if CAPACITY in names else names[0] if len(names) == 1 else "")
        if wanted not in names and self.results:
            raise UsageError(
                f"Say which metric is the capacity (--metric). {hint(wanted, names)}There are {', '.join(names)}."
            )
        found = []
        for parameters, metrics in self.results:
            composition = _composition(parameters)
            if composition is None or wanted not in metrics:
                continue
            current = parameters.get("current_ma_g", current_ma_g)
            if current is None:
                raise UsageError("At which current were the capacities measured? Give --current (mA/g).")
            mean, error = metrics[wanted]
            row = {"composition": composition.formula, "current_ma_g": float(current), CAPACITY: mean}
            row |= dict(zip(("v_low", "v_high"), window, strict=True))
            found.append(row if error is None else row | {"sigma_mah_g": error})
        return found


def _composition(point: Mapping[str, Any]) -> Composition | None:
    """Composition that parameters stand for; None where the amounts are those of no disordered rocksalt."""
    for name in _FORMULA:
        if name in point:
            return Composition.parse(str(point[name]))
    amounts = {name: float(value) for name, value in point.items() if name != "current_ma_g"}
    cations = {s: x for s, x in amounts.items() if s not in ("F", "O") and x > 0}
    cations.setdefault("Li", round(2 - sum(cations.values()), 9))
    fluorine = amounts.get("F", 0.0)
    if cations["Li"] <= 0 or abs(sum(cations.values()) - 2) > _TOLERANCE or not 0 <= fluorine < 2:
        return None
    text = "".join(f"{s}{x:.6f}" for s, x in cations.items()) + f"O{2 - fluorine:.6f}"
    try:
        return Composition.parse(text + (f"F{fluorine:.6f}" if fluorine else ""))
    except CompositionError as error:
        raise DataRefused(f"Parameters named by elements are needed ({', '.join(point)}): {error}") from None


def read_experiment(path: Path, step: float | None = None) -> Experiment:
    """Read the JSON that BayBE (``to_json``) or Ax (``save_to_json_file``) wrote.

    Args:
        path: the file.
        step: between the values of a parameter that is continuous there.

    Raises:
        DataRefused: it is no such file, or holds what is not read here.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    try:
        found = json.loads(content) if len(content) <= MOST_BYTES else None
    except ValueError as error:
        raise DataRefused(f"{path}: not JSON ({error}).") from None
    if isinstance(found, dict):
        space = found.get("searchspace", found)
        try:
            if isinstance(found.get("experiment"), dict):
                return _ax(found["experiment"], step)
            if isinstance(space, dict) and {"discrete", "continuous"} & set(space):
                return _baybe(found, space, step)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataRefused(f"{path}: not as BayBE or Ax writes it ({type(error).__name__}: {error}).") from None
    raise DataRefused(f"{path}: neither a BayBE campaign or search space nor an Ax client saved as JSON.")


def _baybe(found: Mapping[str, Any], space: Mapping[str, Any], step: float | None) -> Experiment:
    parts = [space.get(kind) or {} for kind in ("discrete", "continuous")]
    axes = {
        p["name"]: _values(p["name"], p.get("values"), p.get("bounds"), step)
        for s in parts
        for p in s.get("parameters", ())
    }
    listed = [c for s in parts for kind in s if kind.startswith("constraint") for c in s[kind] or ()]
    sums = []
    for constraint in listed:
        condition = constraint.get("condition") or {}
        if constraint.get("type") != "DiscreteSumConstraint" or condition.get("operator") not in _OPERATORS:
            raise DataRefused(f"A {constraint.get('type')} is not read; drop it, or list the candidates in a CSV file.")
        side = _OPERATORS[condition["operator"]]
        tolerance = condition.get("tolerance") or _TOLERANCE
        sums.append(Sum(dict.fromkeys(constraint["parameters"], 1.0), side, float(condition["threshold"]), tolerance))
    note = ""
    if found.get("measurements_exp"):
        note = (
            "BayBE keeps its measurements pickled, which is not read. Write them with "
            "`campaign.measurements.to_csv(FILE)`, columns composition and current_ma_g beside them, and ingest that."
        )
    return Experiment(f"BayBE {found.get('version', '')}".strip(), axes, tuple(sums), note=note)


def _ax(experiment: Mapping[str, Any], step: float | None) -> Experiment:
    space = experiment["search_space"]
    axes = {}
    for p in space["parameters"]:
        ends = {"lower": p["lower"], "upper": p["upper"]} if "lower" in p else None
        fixed = [p["value"]] if "value" in p else None
        axes[p["name"]] = _values(p["name"], p.get("values") or fixed, ends, p.get("step_size") or step)
    sums = tuple(_inequality(c) for c in space.get("parameter_constraints") or ())
    return Experiment("Ax", axes, sums, tuple(_trials(experiment)))


def _inequality(constraint: Mapping[str, Any]) -> Sum:
    """At most: as text since Ax 1.1, as weights and a bound before."""
    if "constraint_dict" in constraint:
        return Sum({k: float(v) for k, v in constraint["constraint_dict"].items()}, -1, float(constraint["bound"]))
    left, operator, right = constraint["inequality"].partition("<=")
    weights = {name: float(weight) for weight, name in _TERM.findall(left.replace("- ", "-").replace("+ ", "+"))}
    if not operator or not weights:
        raise DataRefused(
            f"The constraint {constraint['inequality']!r} is not read; drop it, or list the candidates in a CSV file."
        )
    return Sum(weights, -1, float(right))


def _trials(experiment: Mapping[str, Any]) -> Iterator[Trial]:
    """Parameters and results of each trial of one arm that was completed."""
    for number, trial in experiment["trials"].items():
        arms = (trial.get("generator_run") or {}).get("arms") or []
        told = experiment["data_by_trial"].get(number) or {}
        tables: list[dict[str, dict[str, Any]]] = [json.loads(data["df"]["value"]) for _, data in told.get("value", ())]
        if len(arms) == 1 and tables:
            table = tables[-1]
            yield (
                arms[0]["parameters"],
                {table["metric_name"][i]: (float(mean), table["sem"][i]) for i, mean in table["mean"].items()},
            )


def _values(
    name: str, values: Sequence[Any] | None, bounds: Mapping[str, float] | None, step: float | None
) -> tuple[Any, ...]:
    if values is not None:
        return tuple(round(v, 9) if isinstance(v, float) else v for v in values)
    assert bounds is not None
    low, high = float(bounds["lower"]), float(bounds["upper"])
    if step is None:
        raise UsageError(
            f"{name} is continuous from {low:g} to {high:g}; give the step between its values (--step 0.05)."
        )
    count = math.floor((high - low) / step + _TOLERANCE) + 1
    return tuple(round(low + i * step, 9) for i in range(count))
