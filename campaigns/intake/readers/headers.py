"""Headers of tables, whether they come from text or from a sheet: which column means what, in which unit."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import units
from campaigns.intake.readers.words import IGNORED, Vocabulary, every_maker, in_english, stem
from drxnet.process import FIELDS, ConditionField

DIMENSIONS: Mapping[str, str] = {
    "time": "time",
    "step_time": "time",
    "voltage": "voltage",
    "current": "current",
    "moved": "charge",
    "charge": "charge",
    "discharge": "charge",
    "capacity": "charge",
    "specific": "specific",
}
"""Quantities that have a unit, and its dimension."""

USUAL_LINES, LEAST_KNOWN = 400, 3
"""Further down only lines in which so many words are known may be a header: protocols are long."""

REPEATED_OF_TWO_CELLS = ("time", "step_time", "voltage", "current")
"""What stands in a table twice where it holds two cells side by side."""

MOST_WORDS = 30
"""A line of more words is none of headers."""

MOST_DIGITS = 0.25
"""Share of digits above which a line is no header."""

SPACES, BY_SPACES = r"\s{2,}", r"\s+(?![(\[])"
"""Two spaces and more; any before all but a unit in brackets."""

SEPARATORS = ("\t", ";", ",", "|", SPACES)
_NUMBERED = re.compile(r"\.\d$")
"""How pandas tells columns of one name apart."""

_REFERENCE = re.compile(r"\s+(?:vs|gegen|contre|contra|相对)\b\.?\s*[^)\]]*", re.IGNORECASE)
"""What a potential is measured against, as in ``Ewe/V vs. Li/Li+``."""

_LITHIUM = re.compile(r"\bLi(?:thium)?\b", re.IGNORECASE)
_OTHER_ELECTRODE = re.compile(
    r"\b(?:[SNR]HE|[SM]CE|Ag|Na|K|Mg|Zn|Hg|Fc|Pt|[Gg]r(?:aphite|aphit)?|LTO|Li4Ti5O12|LFP|LiFePO4|[Ss]odium|[Ss]ilver)\b"
)


@dataclass(frozen=True)
class NamedColumn:
    """A column that means something."""

    position: int
    header: str
    quantity: str
    unit: str
    unit_is_stated: bool = True
    """Whether the table itself names the unit; otherwise it is what the vocabulary gives."""

    @property
    def dimension(self) -> str | None:
        """Kind of its unit; None for what has none."""
        return DIMENSIONS.get(self.quantity)

    @property
    def per_mass(self) -> bool:
        """Whether it holds a current or a charge per mass."""
        return self.dimension in units.PER_MASS and units.is_per_mass(self.unit)


@dataclass(frozen=True)
class Candidate:
    """A line that may be the header of a table."""

    line: int
    separator: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Header:
    """Where the table begins, and what its columns are."""

    line: int
    """Number of lines above the header."""

    separator: str
    cells: tuple[str, ...]
    columns: tuple[NamedColumn, ...]

    @property
    def quantities(self) -> frozenset[str]:
        """What the columns hold."""
        return frozenset(column.quantity for column in self.columns)

    @property
    def missing(self) -> tuple[str, ...]:
        """What a discharge needs and no column holds: of voltage, time, and current."""
        needed = {"voltage": {"voltage"}, "time": {"time", "step_time", "clock"}, "current": {"current", "moved"}}
        return tuple(name for name, any_of in needed.items() if not self.quantities & any_of)

    @property
    def complete(self) -> bool:
        """Whether the columns are enough for a discharge: voltage, a time, and a current or charge."""
        return not self.missing

    @property
    def stems(self) -> frozenset[str]:
        """Stems of all cells in English, known or not."""
        return frozenset(in_english(split_header(cell)[0]) for cell in self.cells)


@lru_cache(maxsize=8192)
def split_header(cell: str) -> tuple[str, str]:
    """Split a header into its stem and its unit.

    ``Voltage(V)``, ``I/mA``, ``Current [A]``, ``Test Time / s``, ``Voltage#V``, ``Zeit in s`` and ``current_ampere``
    are all understood.
    """
    text = cell.strip().strip("\ufeff\"'~").strip()
    text = _REFERENCE.sub("", text.replace("（", "(").replace("）", ")").replace("／", "/"))
    if text[:1] in "ΔΔ∆δ" and text:
        return f"difference of {text}", ""
    if text.startswith("|"):
        return f"magnitude of {text}", ""  # |I| and |Ewe| of impedance are not the current and the voltage
    for pattern in (
        r"^(.*?)\s*[(\[{]([^()\[\]{}]*)[)\]}]?\s*$",
        r"^(.+?)\s*[/#]\s*([^/#]+(?:/k?g)?)$",
        r"^(.+?)\s*,\s*(\S+)$",
        r"^(.+?)\s+in\s+(\S+)$",
    ):
        found = re.match(pattern, text)
        if found and stem(found[1]):
            return stem(found[1]), found[2].strip()
    return _with_unit_behind(text) or (stem(text), "")


def _with_unit_behind(text: str) -> tuple[str, str] | None:
    """Stem and unit of ``current_ampere`` or ``Capacity mAh g``; None where the last words are no unit."""
    words = text.replace(" ", "_").split("_")
    for tail in (2, 1):
        unit = "".join(words[-tail:])
        may_be_a_word = tail == 1 and len(unit) == 1 and unit in "dckw"
        if len(words) > tail and not may_be_a_word and any(units.factor(kind, unit) for kind in units.UNITS):
            return stem("".join(words[:-tail])), unit
    return None


def candidates(lines: Sequence[str]) -> tuple[Candidate, ...]:
    """Lines that may be the header of a table, split in every way; the first of equal ones stand for all."""
    found: list[Candidate] = []
    seen: set[str] = set()
    vocabulary = every_maker()
    for number, line in enumerate(lines):
        if not 5 <= len(line) <= 20_000 or line in seen or sum(map(line.count, "0123456789")) > MOST_DIGITS * len(line):
            continue
        seen.add(line)
        split = (Candidate(number, separator, tuple(split_line(line, separator))) for separator in _separators(line))
        found += [c for c in split if number < USUAL_LINES or _known_cells(c, vocabulary) >= LEAST_KNOWN]
        found += _by_single_spaces(number, line, lines[number + 1 : number + 3])
    return tuple(found)


def _by_single_spaces(number: int, line: str, below: Sequence[str]) -> list[Candidate]:
    """A line split at its spaces, where nothing else does it and the lines below hold as many words."""
    cells = split_line(line, BY_SPACES) if " " in line and not _separators(line) else []
    as_wide = bool(below) and all(len(split_line(other, BY_SPACES)) == len(cells) for other in below if other.strip())
    return [Candidate(number, BY_SPACES, tuple(cells))] if as_wide and len(cells) > 1 else []


def named_by_spaces(lines: Iterable[str]) -> str | None:
    """The first line of few words of which some name time, voltage and current; None where none does."""
    for line in lines:
        if len(line.split()) > MOST_WORDS or any(sign in line for sign in "\t;,"):
            continue
        known = (known_stem(word, every_maker()) for word in line.split())
        if {"time", "voltage", "current"} <= {every_maker()[found[0]][0] for found in known if found is not None}:
            return line
    return None


def _separators(line: str) -> list[str]:
    """What may separate the cells of a line."""
    return [sign for sign in SEPARATORS if sign in line or (sign == SPACES and "  " in line)]


def _known_cells(candidate: Candidate, vocabulary: Vocabulary) -> int:
    return sum(known_stem(cell, vocabulary) is not None for cell in candidate.cells)


def find_header(found: Iterable[Candidate], vocabulary: Vocabulary) -> Header | None:
    """The line that names the most known quantities, enough for a discharge; None where no line does."""
    listed = list(found)
    for part in (
        [c for c in listed if c.line < USUAL_LINES],
        [c for c in listed if c.line >= USUAL_LINES],
    ):
        best = _richest(header for header in _headers(part, vocabulary) if header.complete)
        if best is not None:
            return best
    return None


def nearest_header(found: Iterable[Candidate], vocabulary: Vocabulary) -> Header | None:
    """The line that names the most known quantities, whether they are enough or not; None where no line names any."""
    return _richest(header for header in _headers(found, vocabulary) if header.columns)


def _richest(headers: Iterable[Header]) -> Header | None:
    return max(headers, key=lambda header: len(header.columns), default=None)  # the first of equal ones


def _headers(found: Iterable[Candidate], vocabulary: Vocabulary) -> Iterator[Header]:
    for line in found:
        yield Header(line.line, line.separator, line.cells, name_columns(line.cells, vocabulary))


def split_line(line: str, separator: str) -> list[str]:
    """Cells of a line."""
    if len(separator) > 1:
        return re.split(separator, line.strip())
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return line.split(separator)


def known_stem(cell: str, vocabulary: Mapping[str, Any]) -> tuple[str, str] | None:
    """Stem under which a vocabulary knows a header, and its unit; None where it does not.

    The header is tried with and without its unit, in any language, and each part of a header in two scripts.
    """
    first, unit = split_header(cell)
    for found, its_unit in ((first, unit), (stem(cell), "")):
        for name in (found, in_english(found)):
            if name in vocabulary:
                return name, its_unit
    return None if cell.isascii() else _in_one_script(first, unit, vocabulary)


def _in_one_script(text: str, unit: str, vocabulary: Mapping[str, Any]) -> tuple[str, str] | None:
    """A stem in two scripts that is known by one of them."""
    latin = "".join(c for c in text if c.isascii())
    other = "".join(c for c in text if not c.isascii())
    for part in (latin, other):
        if part and part != text and in_english(part) in vocabulary:
            return in_english(part), unit
    return None


def spelled(cell: str) -> str:
    """Latin letters and digits of a header, with those of its unit."""
    return re.sub(r"[^a-z0-9]", "", cell.lower())


def conditions_by_spelling() -> dict[str, ConditionField]:
    """Conditions of the process by how a column may be headed: by name, or in words with the unit or without."""
    return {
        spelled(text): field
        for field in FIELDS.values()
        for text in (field.name, field.label, f"{field.label} {field.unit}")
    }


def name_columns(cells: Sequence[Any], vocabulary: Vocabulary) -> tuple[NamedColumn, ...]:
    """The columns whose header is known; of several with the same quantity the first in the vocabulary.

    A charge per gram, by whatever mass the instrument was told, is not taken for a charge, nor a current per gram
    where there is a current, nor a temperature ``T(°C)`` for a time.
    """
    order = {name: i for i, name in enumerate(vocabulary)}
    found: dict[str, tuple[tuple[bool, bool, int], NamedColumn]] = {}
    for position, cell in enumerate(cells):
        if not isinstance(cell, str) or (known := _named_column(position, cell, vocabulary)) is None:
            continue
        name, per_mass, column = known
        capital = len(name) == 1 and name in "t" and column.header.lstrip("~ ")[:1].isupper()
        rank = (per_mass, capital, order[name])
        if column.quantity not in found or rank < found[column.quantity][0]:
            found[column.quantity] = (rank, column)
    return tuple(column for _, column in sorted(found.values(), key=lambda item: item[1].position))


def places_of_one_cell(columns: Iterable[NamedColumn]) -> list[int]:
    """Where voltage, current and time stand, of which one cell has one each."""
    return [column.position for column in columns if column.quantity in REPEATED_OF_TWO_CELLS]


def check_reference(name: str, headers: Iterable[str]) -> None:
    """Refuse a voltage that its header says is against another electrode than lithium.

    Raises:
        RuleBroken: E12, naming the header.
    """
    for header in headers:
        against = _REFERENCE.search(header)
        if against and _OTHER_ELECTRODE.search(against[0]) and not _LITHIUM.search(against[0]):
            raise RuleBroken(
                "E12",
                f"{name}: {header.strip()!r} is against another electrode than lithium. Export the voltage against "
                "Li/Li+, with the potential of that electrode added.",
            )


def check_one_of_each(name: str, header: Sequence[Any], places: Iterable[int], rows: Sequence[Sequence[Any]]) -> None:
    """Refuse a table that holds what stands at some places twice under one header, as of two cells side by side.

    Raises:
        RuleBroken: E9, naming the columns; none where both hold the same.
    """
    plain = [_NUMBERED.sub("", str(cell).strip()) for cell in header]
    twice = ((place, other) for place in places for other in range(len(plain)) if other != place)
    for place, other in twice:
        differ = (row[place] != row[other] for row in rows if max(place, other) < len(row))
        if plain[place] == plain[other] and any(differ):
            raise RuleBroken(
                "E9",
                f"{name}: columns {place + 1} and {other + 1} are both named {plain[place]!r} and differ, as of two "
                "cells side by side. Export one per file, or name the other column differently.",
            )


def _named_column(position: int, cell: str, vocabulary: Vocabulary) -> tuple[str, bool, NamedColumn] | None:
    """Name in the vocabulary, whether it is per mass, and the column; None for one that is unknown or no use."""
    known = known_stem(cell, vocabulary) if cell.strip() else None
    if known is None:
        return None
    name, unit = known
    quantity, default = vocabulary[name]
    column = NamedColumn(position, cell.strip(), quantity, unit or default, bool(unit) or not default)
    if quantity == IGNORED or (unit and _means_something_else(column, unit)):
        return None
    if not column.per_mass or column.dimension != "charge":
        return name, column.per_mass, column
    return (name, True, replace(column, quantity="specific")) if quantity in ("discharge", "capacity") else None


def _means_something_else(column: NamedColumn, unit: str) -> bool:
    if column.quantity == "temperature":
        return units.factor("temperature", unit) is None
    if column.dimension is None:
        return column.quantity == "channel" and units.is_unit(unit)
    return units.is_of_another_kind(column.dimension, unit)


def with_units(columns: Sequence[NamedColumn], below: Sequence[Any]) -> tuple[NamedColumn, ...]:
    """The columns with the units of a row below the header, where the header itself names none."""
    found = []
    for column in columns:
        cell = below[column.position] if column.position < len(below) else None
        unit = _REFERENCE.sub("", cell.strip(" ()[]")) if isinstance(cell, str) and not column.unit_is_stated else ""
        dimension = column.dimension
        if dimension == "charge" and units.is_per_mass(unit):
            continue
        known = dimension is not None and units.factor(dimension, unit) is not None
        found.append(replace(column, unit=unit, unit_is_stated=True) if known else column)
    return tuple(found)


def assumed_units(columns: Sequence[NamedColumn]) -> list[str]:
    """What was taken for the units of time, voltage and current that a table does not name, for a person to read."""
    assumed = (c for c in columns if c.quantity in ("time", "voltage", "current") and not c.unit_is_stated)
    return [f"{column.header} taken as {column.unit}: the table names no unit" for column in assumed]
