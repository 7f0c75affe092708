"""Units as they are spelled in column headers, and what one of each is in ours.

Time in seconds, voltage in volts, current in mA, charge in mAh, charge per mass in mAh/g.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from drxnet.errors import UsageError

DURATION = "h:m:s"
"""Unit of a time column that is text, such as ``0d 06:00:00.04``."""

_TIME = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_VOLTAGE = {
    **dict.fromkeys(("v", "volt", "volts"), 1.0),
    **dict.fromkeys(("mv", "mvolt", "mvolts", "millivolt", "millivolts"), 1e-3),
    **dict.fromkeys(("uv", "microvolt", "microvolts"), 1e-6),
}
_CURRENT = {
    **dict.fromkeys(("a", "amp", "amps", "ampere", "amperes"), 1e3),
    **dict.fromkeys(("ma", "mamp", "mamps", "milliamp", "milliampere", "milliamperes"), 1.0),
    **dict.fromkeys(("ua", "uamp", "uamps", "microamp", "microampere", "microamperes"), 1e-3),
    **dict.fromkeys(("na", "nanoampere", "nanoamperes"), 1e-6),
}
_CHARGE = {
    **dict.fromkeys(("ah", "amphr", "amperehour", "amphour", "amphours", "ahr"), 1e3),
    **dict.fromkeys(("mah", "mamphr", "milliamperehour", "milliamphour", "mahr"), 1.0),
    **dict.fromkeys(("uah", "uamphr", "microamperehour"), 1e-3),
    **dict.fromkeys(("c", "as", "coulomb", "coulombs", "amperesecond"), 1e3 / 3600),
    **dict.fromkeys(("mc", "mas", "millicoulomb", "milliamperesecond"), 1 / 3600),
    **dict.fromkeys(("uc", "uas"), 1e-3 / 3600),
}
_SPECIFIC = {
    **dict.fromkeys(("mah/g", "ah/kg", "mahg1", "mahg", "mahg-1"), 1.0),
    **dict.fromkeys(("ah/g", "ahg1", "mah/mg", "ahg-1"), 1e3),
}

UNITS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {"time": _TIME, "voltage": _VOLTAGE, "current": _CURRENT, "charge": _CHARGE, "specific": _SPECIFIC}
)
"""Factor to our unit, by dimension and normalised spelling."""

_PER_MASS = re.compile(r"m?ah?/?(?:k?g1?|mg)$")
_DURATION_SPELLING = re.compile(r"^d*\W*h+(?:our|r)?s?:?m+(?:in)?:?s+", re.IGNORECASE)


def factor(dimension: str, spelling: str) -> float | None:
    """What one unit is in ours, or None where the spelling is not known.

    Args:
        dimension: a key of :data:`UNITS`.
        spelling: as in the header, without brackets: ``mA``, ``A.h``, a damaged micro sign.
    """
    return UNITS[dimension].get(normalised(spelling, keep_slash=dimension == "specific"))


def is_duration(spelling: str) -> bool:
    """Whether a unit of time says that the column holds text such as ``12:30:01``."""
    return bool(_DURATION_SPELLING.match(spelling.strip().replace(" ", "")))


def is_per_mass(spelling: str) -> bool:
    """Whether a unit is that of a charge or a current per mass: ``mAh/g``, ``mA g-1``, ``mahg``."""
    return bool(_PER_MASS.match(normalised(spelling, keep_slash=True)))


def normalised(spelling: str, keep_slash: bool = False) -> str:
    """Lower case, micro signs (however damaged) as ``u``, without dots, spaces, hyphens and underscores."""
    text = re.sub(r"^(?:[^\x00-\x7f]+|\?)", "u", spelling.strip()).replace("⁻¹", "-1")
    text = re.sub(r"[\s.·*_^⋅-]" if keep_slash else r"[\s.·*_^⋅/-]", "", text)
    return text.lower()


def parse_unit(dimension: str, text: str | None) -> float | None:
    """What one unit is in ours, from a name (``ms``), a number or a fraction (``1/3600``); None stays None.

    Raises:
        UsageError: neither a unit of that dimension nor a positive number.
    """
    if text is None:
        return None
    known = factor(dimension, text)
    if known is not None:
        return known
    try:
        over, _, under = text.partition("/")
        value = float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if not 0 < value < float("inf"):
        names = ", ".join(dict.fromkeys(UNITS[dimension]))
        raise UsageError(f"{text!r} is no unit of {dimension}. Give one of {names}, or a number such as 1/3600.")
    return value
