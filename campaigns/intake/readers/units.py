"""Units as they are spelled in column headers, and what one of each is in ours: a table of the vocabulary.

Time in seconds, voltage in volts, current in mA, charge in mAh, both per mass in mA/g and mAh/g. The table holds units
of other kinds too, so that a temperature ``T(°C)`` is not taken for a time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

from campaigns.intake.readers.words import rows
from drxnet.errors import UsageError

"""Unit of a time column that is text, such as ``0d 06:00:00.04``."""


def _units() -> Mapping[str, Mapping[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in rows("units.csv"):
        spellings = dict.fromkeys(row["spellings"].split(), float(row["factor"]))
        found.setdefault(row["dimension"], {}).update(spellings)
    return MappingProxyType({dimension: MappingProxyType(spellings) for dimension, spellings in found.items()})


UNITS = _units()
"""Factor to our unit, by dimension and normalised spelling."""

PER_MASS: Mapping[str, str] = MappingProxyType({"current": "specific current", "charge": "specific"})
"""Dimensions that come per mass too, and what they are then."""

_DURATION_SPELLING = re.compile(r"^d*\W*h+(?:our|r)?s?\W?m+(?:in)?s?\W?s+", re.IGNORECASE)
_HOURS_MINUTES = re.compile(r"^h+(?:our|r)?s?:m+(?:in)?$", re.IGNORECASE)


def factor(dimension: str, spelling: str) -> float | None:
    """What one unit is in ours, or None where the spelling is not known.

    Args:
        dimension: a key of :data:`UNITS`.
        spelling: as in the header, without brackets: ``mA``, ``A.h``, a damaged micro sign.
    """
    known = UNITS[dimension]
    spelling = unicodedata.normalize("NFKC", spelling)  # full-width letters, ㎃
    plain = spelling.strip().lower()
    if plain in known:
        return known[plain]
    return known.get(normalised(spelling, keep_slash=dimension.startswith("specific")))


def is_duration(spelling: str) -> bool:
    """Whether a unit of time says that the column holds text such as ``12:30:01``."""
    return bool(_DURATION_SPELLING.match(spelling.strip().replace(" ", "")))


def is_hours_and_minutes(spelling: str) -> bool:
    """Whether a unit of time says that the column holds text such as ``12:30``, hours first."""
    return bool(_HOURS_MINUTES.match(spelling.strip().replace(" ", "")))


def is_per_mass(spelling: str) -> bool:
    """Whether a unit is that of a charge or a current per mass: ``mAh/g``, ``mA g-1``, ``mahg``."""
    return any(factor(dimension, spelling) is not None for dimension in PER_MASS.values())


def is_of_another_kind(dimension: str, spelling: str) -> bool:
    """Whether a unit is known, and as one of something else: ``°C`` for a time."""
    wanted = (dimension, PER_MASS.get(dimension, dimension))
    if is_duration(spelling) or is_hours_and_minutes(spelling):
        return dimension != "time"
    if any(factor(kind, spelling) is not None for kind in wanted):
        return False
    return any(factor(kind, spelling) is not None for kind in UNITS)


def is_unit(spelling: str) -> bool:
    """Whether a text is a unit of any kind, and nothing else."""
    return any(factor(kind, spelling) is not None for kind in UNITS)


def normalised(spelling: str, keep_slash: bool = False) -> str:
    """Lower case, micro signs (however damaged) as ``u``, without dots, spaces, hyphens and underscores."""
    text = (
        re.sub(r"^(?:[^\x00-\x7f°℃]+|\?)", "u", spelling.strip())
        .replace("⁻¹", "-1")
        .replace("−", "-")
        .replace("℃", "°c")
    )
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
        names = ", ".join(name for name in UNITS[dimension] if name.isascii())
        raise UsageError(f"{text!r} is no unit of {dimension}. Give one of {names}, or a number such as 1/3600.")
    return value
