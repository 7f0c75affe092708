"""Small tables as grids of text, whether they come from a text file or from a sheet of a workbook."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.unpacking import Head, whole_text

MAX_BYTES = 1 << 25
"""Tables of capacities and of curves are small; what is larger is an export of a cycler."""

HEADER_LINES = 60
"""A header stands within so many lines."""

Row = tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """Rows of cells."""

    rows: Sequence[Row]
    first_line: int = 1
    """Line of the file, or row of the sheet, that the first row is."""

    decimal: str | None = None
    """Decimal sign where it is known; None where the cells must tell."""

    def line(self, row: int) -> int:
        """Line of the file that a row is."""
        return self.first_line + row


def beginning(head: Head, is_one: Callable[[Grid], bool]) -> Grid | None:
    """The first lines of a text file, split so that they are a table of a kind; None where no separator does it."""
    if not head.is_text:
        return None
    lines = head.lines[:HEADER_LINES]
    try:
        return next(filter(is_one, (Grid(_split("\n".join(lines), s)) for s in _separators(lines))), None)
    except csv.Error:
        return None


def _separators(lines: Sequence[str]) -> list[str]:
    return [s for s in ("\t", ";", ",") if any(s in line for line in lines)]


def whole_grid(head: Head, of: Grid) -> Grid:
    """The whole of a text file, split like its beginning.

    Raises:
        RuleBroken: E9 where it is too large or its quotes never end.
    """
    lines = head.lines[:HEADER_LINES]
    separator = next(s for s in _separators(lines) if _split("\n".join(lines), s) == of.rows)
    try:
        return Grid(_split(whole_text(head, MAX_BYTES), separator))
    except csv.Error as error:
        raise RuleBroken("E9", f"{head.path.name}: rows do not match the header ({error}).") from None


def _split(text: str, separator: str) -> list[Row]:
    """Cells of a text; a decimal comma is kept apart from a separator by its space or not at all."""
    plain = text.lstrip("\ufeff")
    return [
        tuple(cells)
        for cells in csv.reader(io.StringIO(plain, newline=None), delimiter=separator, skipinitialspace=True)
    ]
