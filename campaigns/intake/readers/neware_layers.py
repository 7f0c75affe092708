"""Neware csv exports of three nested layers, cycle, step and record, in one file."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.headers import Header, candidates, find_header, split_header, split_line
from campaigns.intake.readers.recording import CyclerRows, Reader, ReadOptions
from campaigns.intake.readers.table import Table, rows_from_columns, text_stream
from campaigns.intake.readers.unpacking import Head
from campaigns.intake.readers.words import in_english, maker
from drxnet.progress import Progress

NAME = "neware csv, three layers"
CHUNK_ROWS = 50_000


def _record_header(head: Head) -> Header | None:
    """Header of the third layer: a table whose first cells are blank, below two other headers."""
    if not head.is_text:
        return None
    header = find_header(candidates(head.lines[:12]), maker("neware"))
    if header is None or header.line < 2 or header.cells[0].strip() or header.cells[1].strip():
        return None
    first = split_line(head.lines[header.line - 2], header.separator)
    return header if first and in_english(split_header(first[0])[0]).startswith("cycle") else None


def _is_nested(head: Head) -> bool:
    return _record_header(head) is not None


@dataclass
class _Nesting:
    """Where a row stands: records lie below the line of their step, steps below that of their cycle."""

    positions: list[int]
    """Of the columns of a record."""

    cycle_width: int
    type_at: int | None
    number_at: int | None
    cycle: str = "0"
    step: str = "0"
    state: str = ""
    records: list[list[str]] = field(default_factory=list)
    """Cells of the records, with the cycle, the step and the state that they belong to."""

    @classmethod
    def of(cls, head: Head, header: Header) -> _Nesting:
        """Read the two lines above the header of the records: what cycles and steps hold."""
        cycles, steps = head.lines[header.line - 2].rstrip(header.separator), head.lines[header.line - 1]
        stems = [in_english(split_header(cell)[0]) for cell in split_line(steps, header.separator)]
        return cls(
            [column.position for column in header.columns],
            len(split_line(cycles, header.separator)),
            next((i for i, stem in enumerate(stems) if stem in ("steptype", "stepname")), None),
            next((i for i, stem in enumerate(stems) if stem in ("stepnumber", "stepindex", "stepid")), None),
        )

    def take(self, cells: list[str]) -> None:
        """Take the cells of one line."""
        if cells[0].strip():
            self.cycle = cells[0]
            cells = ["", *cells[self.cycle_width :]]  # some exports go on with the cycle's first step in the line
        if len(cells) > 1 and cells[1].strip():
            self.step = _cell(cells, self.number_at, cells[1])
            self.state = _cell(cells, self.type_at, "")
        elif any(cell.strip() for cell in cells[2:]):
            wanted = [cells[i] if i < len(cells) else "" for i in self.positions]
            self.records.append([*wanted, self.cycle, self.step, self.state])


def _cell(cells: list[str], at: int | None, otherwise: str) -> str:
    return cells[at] if at is not None and at < len(cells) else otherwise


def _read(head: Head, options: ReadOptions, progress: Progress) -> CyclerRows:
    header = _record_header(head)
    assert header is not None
    nesting = _Nesting.of(head, header)
    chunks: list[pd.DataFrame] = []
    try:
        with text_stream(head) as file:
            for i, cells in enumerate(csv.reader(file, delimiter=header.separator)):
                if i > header.line and cells:
                    nesting.take(cells)
                if len(nesting.records) >= CHUNK_ROWS:
                    chunks.append(_chunk(nesting.records))
                    nesting.records = []
                    progress(i, i + CHUNK_ROWS)
    except csv.Error as error:
        raise RuleBroken("E9", f"{head.path.name}: rows do not match the header ({error}). Export it again.") from None
    if nesting.records:
        chunks.append(_chunk(nesting.records))
    if not chunks:
        raise RuleBroken("E9", f"{head.path.name}: no records below the header in line {header.line + 1}.")
    columns = _columns(pd.concat(chunks, ignore_index=True), header, with_state=nesting.type_at is not None)
    return rows_from_columns(NAME, head.path.name, Table(columns, header.columns), options)


def _columns(table: pd.DataFrame, header: Header, *, with_state: bool) -> dict[str, pd.Series]:
    """Records by quantity, with the cycle, the step and perhaps the state that stand behind them."""
    width = len(header.columns)
    columns = {c.quantity: table[i].replace("", np.nan) for i, c in enumerate(header.columns)}
    columns |= {"cycle": table[width], "step": table[width + 1]}
    return columns | ({"state": table[width + 2].astype(str)} if with_state else {})


def _chunk(records: list[list[str]]) -> pd.DataFrame:
    """Records as numbers where a column holds nothing else; words that repeat are kept once."""
    table = pd.DataFrame(records)
    for column in table:
        as_numbers = pd.to_numeric(table[column], errors="coerce")
        if as_numbers.notna().all():
            table[column] = as_numbers
    return table


READERS = (Reader(NAME, _is_nested, _read, (".csv",)),)
"""The flat exports are a text format among the others."""
