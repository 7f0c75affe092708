"""The text formats of the makers: one recogniser and one read function, the rest are rows of ``vocabulary``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from campaigns.intake.readers import words
from campaigns.intake.readers.headers import Header, assumed_units, find_header, name_columns
from campaigns.intake.readers.recording import CyclerRows, Reader, ReadOptions
from campaigns.intake.readers.table import read_text_columns, rows_from_columns
from campaigns.intake.readers.unpacking import Head
from drxnet.progress import Progress

LINES_ABOVE = 8
"""First lines of a file that are searched for the name of a maker."""

MASS = re.compile(
    r"mass[^:=\t]*[:=\t]\s*(?P<value>[\d.,]+)\s*(?P<unit>kg|mg|g|[µμu\ufffd]g)\b"
    r"|mass\s*[(\[](?P<before>kg|mg|g|[µμu\ufffd]g)[)\]]\s*[:=,\t]\s*(?P<after>[\d.,]+)",
    re.IGNORECASE,
)
"""Finds a mass as ``Mass: 1.8 mg`` or as ``Mass (g): 0.0018``."""

MATERIAL = re.compile(r"(?:electrode material|active material|material)\s*[:=\t]\s*(\S.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Sign:
    """What tells a format from others; all that is given must hold."""

    headers: tuple[frozenset[str], ...]
    """Of each group, one header must be there."""

    above: re.Pattern[str] | None
    """Found in one of the first lines."""

    header_line: re.Pattern[str] | None
    file_name: re.Pattern[str] | None

    def fits(self, head: Head, header: Header) -> bool:
        """Whether a table in a file bears this sign."""
        return (
            all(group & header.stems for group in self.headers)
            and _found(self.above, head.lines[:LINES_ABOVE])
            and _found(self.header_line, [(header.separator or ",").join(header.cells)])
            and _found(self.file_name, [head.path.name.lower()])
        )


def _found(pattern: re.Pattern[str] | None, texts: Iterable[str]) -> bool:
    """Whether a pattern, if there is one, is found in any of the texts."""
    return pattern is None or any(map(pattern.search, texts))


@dataclass(frozen=True)
class TextFormat:
    """A text format: its columns, and how it is told from others."""

    name: str
    columns: words.Vocabulary
    signs: tuple[Sign, ...]
    suffixes: tuple[str, ...] = (".csv", ".txt")
    assumes_units: bool = False
    """Whether a unit that the table leaves out is an assumption, and not what the instrument always means."""

    def header(self, head: Head) -> Header | None:
        """The header of a table of this format; None where there is none."""
        if not head.is_text:
            return None
        header = find_header(head.candidates, self.columns)
        return header if header is not None and self.fits(head, header) else None

    def fits(self, head: Head, header: Header) -> bool:
        """Whether a table in a file is of this format."""
        return any(sign.fits(head, header) for sign in self.signs)

    def recognises(self, head: Head) -> bool:
        """Whether a file is of this format."""
        return self.header(head) is not None

    def read(self, head: Head, options: ReadOptions, progress: Progress) -> CyclerRows:
        """Read a file of this format."""
        header = self.header(head)
        assert header is not None
        table = read_text_columns(head, header, options, progress)
        preamble = head.lines[: header.line]
        return rows_from_columns(
            self.name,
            head.path.name,
            table,
            options,
            assumed_units(table.named) if self.assumes_units else [],
            header_mass_mg=None if self.name.startswith("maccor") else mass_mg(preamble),
            header_material=material_name(preamble),
        )

    def reader(self) -> Reader:
        """The reader of this format."""
        return Reader(self.name, self.recognises, self.read, self.suffixes)


@cache
def text_formats() -> tuple[TextFormat, ...]:
    """Every text format of ``vocabulary/formats.csv``, in the order in which they are asked."""
    found: dict[str, TextFormat] = {}
    for row in words.rows("formats.csv"):
        known = found.get(row["name"])
        found[row["name"]] = TextFormat(
            row["name"],
            words.maker(*row["makers"].split(), "temperature"),
            (*(known.signs if known else ()), _sign(row)),
            tuple(row["suffixes"].split()),
            bool(row["assumes_units"]),
        )
    return tuple(found.values())


def _sign(row: dict[str, str]) -> Sign:
    above, header_line, file_name = (
        re.compile(row[key], re.MULTILINE) if row[key] else None for key in ("above", "header_line", "file_name")
    )
    groups = tuple(frozenset(group.split("|")) for group in row["headers"].split())
    return Sign(groups, above, header_line, file_name)


def any_table() -> words.Vocabulary:
    """Columns of a table of nobody in particular."""
    return text_formats()[-1].columns


def format_of(head: Head, line: int, cells: Sequence[str]) -> tuple[TextFormat, Header] | None:
    """Format of a table by its header row, in text or in a sheet; None where the row is no header."""
    return next(_formats_of(head, line, cells), None)


def _formats_of(head: Head, line: int, cells: Sequence[str]) -> Iterator[tuple[TextFormat, Header]]:
    for text_format in text_formats():
        header = Header(line, "", tuple(cells), name_columns(cells, text_format.columns))
        if header.complete and text_format.fits(head, header):
            yield text_format, header


def mass_mg(preamble: Sequence[str]) -> float | None:
    """Active mass that the lines above a table state (mg)."""
    for line in preamble:
        found = MASS.search(line)
        if found:
            parts = found.groupdict()
            unit, value = parts["unit"] or parts.get("before") or "", parts["value"] or parts.get("after") or ""
            scale = {"kg": 1e6, "g": 1e3, "mg": 1.0}.get(unit.lower(), 1e-3)
            try:
                return float(value.replace(",", ".").strip(".")) * scale
            except ValueError:
                continue
    return None


def material_name(preamble: Sequence[str]) -> str | None:
    """Material that the lines above a table state."""
    for line in preamble:
        found = None if "mass" in line.lower() else MATERIAL.search(line)
        if found and found[1].strip():
            return found[1].strip()[:80]
    return None


def readers() -> tuple[Reader, ...]:
    """The readers of all text formats."""
    return tuple(text_format.reader() for text_format in text_formats())
