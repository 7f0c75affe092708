"""What all text formats share: one recogniser and one read function, given the vocabulary."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from campaigns.intake.readers.recording import CyclerRows, Head, Reader, ReadOptions
from campaigns.intake.readers.table import (
    Header,
    Vocabulary,
    assumed_units,
    find_header,
    read_text_columns,
    rows_from_columns,
)
from drxnet.progress import Progress

MASS = re.compile(
    r"mass[^:=\t]*[:=\t]\s*(?P<value>[\d.,]+)\s*(?P<unit>kg|mg|g|[µμu\ufffd]g)\b"
    r"|mass\s*[(\[](?P<before>kg|mg|g|[µμu\ufffd]g)[)\]]\s*[:=,\t]\s*(?P<after>[\d.,]+)",
    re.IGNORECASE,
)
"""Finds a mass as ``Mass: 1.8 mg`` or as ``Mass (g): 0.0018``."""


@dataclass(frozen=True)
class TextFormat:
    """A text format: its columns, and how it is told from others."""

    name: str
    columns: Vocabulary
    telltale: Callable[[Head, Header], bool]
    """Whether a table with these columns is of this format."""

    suffixes: tuple[str, ...] = (".csv", ".txt")
    mass: re.Pattern[str] = MASS
    """Finds the active mass in the lines above the header: the groups ``value`` and ``unit``."""

    assumes_units: bool = False
    """Whether a unit that the table leaves out is an assumption, and not what the instrument always means."""

    material: re.Pattern[str] = re.compile(r"(?:electrode material|active material|material)\s*[:=\t]\s*(\S.*)", re.I)

    def recognises(self, head: Head) -> bool:
        """Whether a file is of this format."""
        if not head.is_text:
            return False
        header = find_header(head.lines, self.columns)
        return header is not None and self.telltale(head, header)

    def read(self, head: Head, options: ReadOptions, progress: Progress) -> CyclerRows:
        """Read a file of this format."""
        header = find_header(head.lines, self.columns)
        assert header is not None
        columns, named, notes = read_text_columns(head, header, options, progress)
        if self.assumes_units:
            notes += assumed_units(named)
        preamble = head.lines[: header.line]
        return rows_from_columns(
            self.name,
            head.path.name,
            columns,
            named,
            options,
            notes,
            header_mass_mg=mass_mg(preamble, self.mass),
            header_material=material_name(preamble, self.material),
        )

    def reader(self) -> Reader:
        """The reader of this format."""
        return Reader(self.name, self.recognises, self.read, self.suffixes)


def mass_mg(preamble: Sequence[str], pattern: re.Pattern[str]) -> float | None:
    """Active mass that the lines above a table state (mg)."""
    for line in preamble:
        found = pattern.search(line)
        if found:
            parts = found.groupdict()
            unit, value = parts["unit"] or parts.get("before") or "", parts["value"] or parts.get("after") or ""
            scale = {"kg": 1e6, "g": 1e3, "mg": 1.0}.get(unit.lower(), 1e-3)
            try:
                return float(value.replace(",", ".").strip(".")) * scale
            except ValueError:
                continue
    return None


def material_name(preamble: Sequence[str], pattern: re.Pattern[str]) -> str | None:
    """Material that the lines above a table state."""
    for line in preamble:
        found = pattern.search(line)
        if found and found[1].strip():
            return found[1].strip()[:80]
    return None
