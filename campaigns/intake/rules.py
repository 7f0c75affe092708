"""The rules of validation: what each asks for, the thresholds, and the list of those that a file breaks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

import yaml

from campaigns.intake.measurement import RuleHit, Severity
from campaigns.ledger.physics import CURRENT_BOUNDS_MA_G, MOST_DAYS


@dataclass(frozen=True)
class Rule:
    """What a rule asks for, and why."""

    title: str
    why: str


def read_rules(name: str) -> Mapping[str, Rule]:
    """Read a table of rules beside this module."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return MappingProxyType({name: Rule(**rule) for name, rule in yaml.safe_load(text).items()})


RULES = read_rules("rules.yaml")
"""Every rule, by its id: the table ``rules.yaml``."""

DEFAULT_MASSES_MG = (0.001, 1000.0, 7000.0)
"""Masses that instruments fill in by themselves (Novonix 1 g, EC-Lab 7 g, EC-Lab 0.001 mg)."""

MASS_RANGE_MG = (0.1, 100.0)

LEAST_CURRENT_MA_G, MOST_CURRENT_MA_G = CURRENT_BOUNDS_MA_G

LEAST_CAPACITY_MAH_G = 1.0
"""A first discharge below it is a dead cell, or mA and A confused throughout (mAh/g)."""

DURATION_BOUNDS_S = (60.0, MOST_DAYS * 86400.0)


TABLE_TOLERANCE_V, PROCESSED_TOLERANCE_V, START_TOLERANCE_V = 0.02, 0.05, 0.5

EARLY_SHARE = 0.01
"""A discharge before any charge is told from this share of the first one on."""

ORIGIN_SHARE = 0.2
"""A discharge starts below this share of its capacity; one that starts higher goes on counting from before (the
published smoothing drops three rows, of discharges that may have fewer than twenty)."""

CHARGE_TOP_TOLERANCE_V, CHARGE_TOP_WARNING_V = 0.1, 0.03
"""A charge ends this close to the upper cut-off (V); closer than the second nothing is said."""

HIGHEST_CUT_OFF_V = 2.55
"""Lower cut-offs lie below it, on a tenth of a volt (the published profiles: 1.0, 1.5, 1.7, 2.0, 2.3 and 2.5 V)."""

SMALL_CAPACITY_MAH_G = 20.0
"""A first discharge below it is doubted where a wrong unit of time explains it (mAh/g)."""

COARSE_SHARE = 0.1
"""Standard error of a charge, relative to it, whose current was written with one digit."""

PARTIAL_SHARE = 0.8
"""A last cycle that gives less than this share of the one before may still run."""

BARE_C_RATE = 3.0
"""A rate without a unit below it is a C-rate (mA/g would take weeks for a discharge)."""

OPEN_SITES, MOST_RETURNED = 1.2, 1.02
"""A first discharge gives at most so many times what the charge took; no cell gives more than the second each time."""

LEAST_ROWS, LEAST_DIGITISED_POINTS, LEAST_SHEET_POINTS = 50, 15, 8

UNIT_FACTORS: Mapping[float, str] = MappingProxyType(
    {
        3600.0: "3600",
        60.0: "60",
        1000.0: "1000",
        1e6: "10^6",
        1 / 3600: "1/3600",
        1 / 60: "1/60",
        1e-3: "1/1000",
        86400.0: "86400",
    }
)
"""Ratios that a wrong unit leaves behind."""

RELATIVE_SIGMA: Mapping[str, float] = MappingProxyType({"cycler": 0.01, "drx-td": 0.01, "summary": 0.01, "sheet": 0.01})
"""Standard error of a capacity relative to it: what weighing 2 mg to 0.02 mg leaves."""

DIGITISED_SIGMA = (2.5, 0.010)
"""Standard error of a curve read off a figure: mAh/g along one axis, V along the other."""

_GRAVEST: tuple[Severity, ...] = ("error", "doubt", "warning")


class Hits:
    """Rules broken by one file; the same thing in several cycles is told once, whatever its numbers."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Severity, str], tuple[str, list[int]]] = {}

    def error(self, rule: str, message: str, cycle: int | None = None) -> None:
        """Refuse the file."""
        self._add(rule, "error", message, cycle)

    def warning(self, rule: str, message: str, cycle: int | None = None) -> None:
        """Say something that is stored beside the measurement."""
        self._add(rule, "warning", message, cycle)

    def doubt(self, rule: str, message: str, cycle: int | None = None) -> None:
        """Doubt the file: recorded, not learned from before it is confirmed."""
        self._add(rule, "doubt", message, cycle)

    def _add(self, rule: str, severity: Severity, message: str, cycle: int | None) -> None:
        kind = re.sub(r"[-+\d.,]+(?:e[-+]?\d+)?", "#", message) if cycle is not None else message
        _, cycles = self._found.setdefault((rule, severity, kind), (message, []))
        if cycle is not None:
            cycles.append(cycle)

    def __contains__(self, rule: str) -> bool:
        return any(known == rule for known, _, _ in self._found)

    def listed(self) -> tuple[RuleHit, ...]:
        """Errors, doubts, warnings, each in the order of the rules; no less of a rule that is an error already."""
        order = list(RULES)
        wrong = {rule for rule, severity, _ in self._found if severity == "error"}
        told = [(key, value) for key, value in self._found.items() if key[1] == "error" or key[0] not in wrong]
        found = sorted(told, key=lambda item: (_GRAVEST.index(item[0][1]), order.index(item[0][0])))
        return tuple(RuleHit(rule, _with_cycles(*said), severity) for (rule, severity, _), said in found)


def _with_cycles(message: str, cycles: Sequence[int]) -> str:
    more = list(dict.fromkeys(cycles))[1:]
    if not more:
        return message
    named = ", ".join(map(str, more[:8])) + (f" and {len(more) - 8} more" if len(more) > 8 else "")
    return f"{message} Also cycle{'s' if len(more) > 1 else ''} {named}."
