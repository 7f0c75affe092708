"""Workbooks: exports of a cycler, tables of capacities and capacity-voltage sheets, told by their headers."""

from __future__ import annotations

import datetime
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import cells, sheets, summary
from campaigns.intake.readers.formats import TextFormat, format_of
from campaigns.intake.readers.grids import Grid
from campaigns.intake.readers.headers import (
    DIMENSIONS,
    NamedColumn,
    assumed_units,
    check_one_of_each,
    places_of_one_cell,
    with_units,
)
from campaigns.intake.readers.recording import CyclerRows, Reader, ReadOptions, Recording, is_another_cell
from campaigns.intake.readers.table import HEAD_ROWS, Table, rows_from_columns
from campaigns.intake.readers.unpacking import Head, open_bytes, zip_members
from drxnet.progress import Progress

ARBIN, OTHER = "arbin xlsx", "spreadsheet"
HEADER_ROWS = 60
BLOCK_ROWS = 20_000
LEAST_ROWS_OF_TEST = 20
"""A sheet of fewer rows holds no test of its own."""

MAX_GRID_ROWS = 50_000
"""A table of capacities or a sheet of curves has no more rows."""

_EPOCH = datetime.datetime(1899, 12, 30)
"""Day 0 of a spreadsheet: a duration over a day comes back as a date shortly after."""

_OTHER_CELL = re.compile(r"\b(?:cell|zelle|cellule|celda|coin|sample|probe|battery|电池|样品)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class _Sheet:
    title: str
    text_format: TextFormat
    columns: tuple[NamedColumn, ...]
    rows: pd.DataFrame


def _is_xlsx(head: Head) -> bool:
    return any(member.startswith("xl/") for member in zip_members(head))


def _read(head: Head, options: ReadOptions, progress: Progress) -> Recording:
    from openpyxl import load_workbook

    name = head.path.name
    found: list[_Sheet] = []
    grids: list[tuple[str, Grid]] = []
    mass = None
    try:
        with open_bytes(head.path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl about styles
            book = load_workbook(file, read_only=True, data_only=True)
            for sheet in book.worksheets:
                if re.search(r"statis|chart", sheet.title, re.IGNORECASE):
                    continue
                cycler = _sheet(head, sheet, progress)
                if cycler is not None:
                    found.append(cycler)
                    continue
                mass = mass or _mass_mg(sheet)
                grids.append((sheet.title, _grid(sheet)))
    except RuleBroken:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file raises anything from a foreign parser
        raise RuleBroken("E9", f"{name}: damaged spreadsheet ({error!s:.80}). Export it again, or as csv.") from None
    if found:
        return _joined(name, found, options, mass)
    return _small_table(name, grids, options)


def _joined(name: str, found: list[_Sheet], options: ReadOptions, mass: float | None) -> CyclerRows:
    """The sheets of one test, one below the other."""
    first = found[0]
    alike = sorted((s for s in found if s.columns == first.columns), key=lambda s: _natural(s.title))
    _check_one_test(name, {s.title: s.rows for s in alike if len(s.rows)})
    others = [s for s in found if s.columns != first.columns]
    _check_left_out(name, alike, others)
    notes = _which_sheets(alike, others)
    if first.text_format.assumes_units:
        notes += assumed_units(first.columns)
    table = pd.concat([s.rows for s in alike], ignore_index=True)
    if table.empty:
        raise RuleBroken("E9", f"{name}: no rows below the header of sheet {first.title}.")
    columns = _with_points({column.quantity: table[column.quantity] for column in first.columns}, options)
    kind = first.text_format
    format_name = OTHER if kind.assumes_units else f"{kind.name.removesuffix(' csv').removesuffix(' text')} xlsx"
    return rows_from_columns(format_name, name, Table(columns, first.columns), options, notes, header_mass_mg=mass)


def _check_left_out(name: str, joined: Sequence[_Sheet], left_out: Sequence[_Sheet]) -> None:
    """Refuse a workbook of which a sheet with other columns holds another test, and not the same or its steps.

    Raises:
        RuleBroken: E9, naming the sheets.
    """
    known = [cells.numbers(sheet.rows["voltage"]) for sheet in joined]
    for sheet in left_out:
        if len(sheet.rows) >= LEAST_ROWS_OF_TEST and not _is_among(cells.numbers(sheet.rows["voltage"]), known):
            raise RuleBroken(
                "E9", f"{name}: sheets {joined[0].title} and {sheet.title} hold different tests. Save one per file."
            )


def _is_among(voltages: np.ndarray, known: Sequence[np.ndarray]) -> bool:
    """Whether voltages stand among known ones in their order, as those of a copy, of some rows or of its steps."""
    rows = iter(np.concatenate(known).round(4).tolist())
    return all(volts in rows for volts in voltages[np.isfinite(voltages)].round(4).tolist())


def _with_points(columns: Mapping[str, pd.Series], options: ReadOptions) -> dict[str, pd.Series]:
    """Columns whose numbers are written with a decimal point, where a workbook keeps them as text with a comma."""
    texts = [cell for name, column in columns.items() if name in DIMENSIONS for cell in column if isinstance(cell, str)]
    if (options.decimal or cells.decimal_sign(texts)) != ",":
        return dict(columns)
    return {
        name: column.map(lambda cell: cells.tidy(cell, ",") if isinstance(cell, str) else cell)
        for name, column in columns.items()
    }


def _which_sheets(joined: Sequence[_Sheet], left_out: Sequence[_Sheet]) -> list[str]:
    notes = [f"sheets {', '.join(s.title for s in joined)} joined"] if len(joined) > 1 else []
    return notes + ([f"sheets left out: {', '.join(s.title for s in left_out)}"] if left_out else [])


def _small_table(name: str, grids: list[tuple[str, Grid]], options: ReadOptions) -> Recording:
    """The table of capacities or the capacity-voltage sheet of a workbook.

    Raises:
        RuleBroken: E9 where no sheet, or more than one, is such a table.
    """
    tables = [named for named in grids if summary.is_summary(named[1])]
    curves = [named for named in grids if sheets.is_sheet(named[1])]
    if not tables and not curves:
        raise RuleBroken(
            "E9",
            f"{name}: no sheet has a header that names time, voltage and current, nor one of a table of capacities or "
            "of curves. Export the test with all columns.",
        )
    (title, grid), *others = curves or tables
    if others:
        titles = ", ".join([title, *(name for name, _ in others)])
        raise RuleBroken("E9", f"{name}: sheets {titles} hold several cells or tables. Save one per file.")
    where = f"{name}, sheet {title}"
    return sheets.read_grid(where, grid, options) if curves else summary.read_grid(where, grid)


def _grid(sheet: Any) -> Grid:
    rows = islice(sheet.iter_rows(values_only=True), MAX_GRID_ROWS)
    return Grid([tuple("" if cell is None else str(cell) for cell in row) for row in rows], decimal=".")


def _sheet(head: Head, sheet: Any, progress: Progress) -> _Sheet | None:
    rows = sheet.iter_rows(values_only=True)
    for number, row in enumerate(rows):
        if number >= HEADER_ROWS:
            return None
        texts = tuple(c if isinstance(c, str) else "" for c in row)
        match = format_of(head, number, texts) if sum(map(bool, texts)) > 1 else None
        if match is not None:
            named, table = _below(head.path.name, rows, texts, match[1].columns, progress, sheet.max_row or 0)
            return _Sheet(sheet.title, match[0], named, table)
    return None


def _below(
    name: str,
    rows: Iterator[tuple[Any, ...]],
    header: Sequence[str],
    named: tuple[NamedColumn, ...],
    progress: Progress,
    total: int,
) -> tuple[tuple[NamedColumn, ...], pd.DataFrame]:
    """Rows below a header, as blocks of numbers where a column holds nothing else."""
    blocks, done = [], 0
    names = [column.quantity for column in named]
    while block := list(islice(rows, BLOCK_ROWS)):
        if not done:
            named = with_units(named, block[0])
            check_one_of_each(name, header, places_of_one_cell(named), block[:HEAD_ROWS])
        records = [[_plain(row[c.position]) if c.position < len(row) else None for c in named] for row in block]
        blocks.append(pd.DataFrame(records, columns=names).infer_objects())
        done += len(block)
        progress(done, max(done, total))
    if not blocks:
        return named, pd.DataFrame(columns=names)
    return named, pd.concat(blocks, ignore_index=True)


def _plain(cell: Any) -> Any:
    """A cell, with the durations that a workbook keeps as times and dates turned back into text."""
    if isinstance(cell, datetime.datetime) and cell.year < 1901:
        cell = cell - _EPOCH
    if isinstance(cell, datetime.timedelta):
        hours, seconds = divmod(cell.total_seconds(), 3600)
        return f"{int(hours)}:{int(seconds // 60):02d}:{seconds % 60:09.6f}"
    return cell.isoformat() if isinstance(cell, datetime.time) else cell


def _check_one_test(name: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Refuse sheets that hold the tests of several cells.

    One begins before another has ended, or counts its records or cycles from the beginning again, or is named after
    another cell.
    """
    ends = [cells.numbers(table["voltage"])[[0, -1]] for table in tables.values()]
    jumps = [False, *(is_another_cell(ends[0][0], a[1], b[0]) for a, b in itertools.pairwise(ends))]
    ended = dict.fromkeys(("time", "clock", "record", "cycle"), -np.inf)
    for number, ((title, table), jumped) in enumerate(zip(tables.items(), jumps, strict=False)):
        again = _begins_again(table, ended) or jumped
        if number and (again or _OTHER_CELL.search(title)):
            raise RuleBroken("E9", f"{name}: sheet {title} begins another test. Export one channel per file.")


def _begins_again(table: pd.DataFrame, ended: dict[str, float]) -> bool:
    """Whether a count begins before that of the sheets above ended; what it ends with is kept there."""
    again = False
    for quantity in ended.keys() & set(table):
        if (values := _begin_and_end(table[quantity], quantity)) is None:
            continue
        begin, end = values
        goes_on_with = ended[quantity] - (1 if quantity == "cycle" else 0)  # a cycle may be cut in two
        again = again or begin < goes_on_with
        ended[quantity] = end
    return again


def _begin_and_end(series: pd.Series, quantity: str) -> tuple[float, float] | None:
    if quantity == "clock":
        stamps = pd.to_datetime(series, errors="coerce", format="mixed").dropna()
        return (stamps.iloc[0].timestamp(), stamps.iloc[-1].timestamp()) if len(stamps) else None
    values = cells.numbers(series)
    if quantity == "time" and np.isnan(values).all():
        values = cells.durations(series)
    values = values[np.isfinite(values)]
    return (float(values[0]), float(values[-1])) if len(values) else None


def _mass_mg(sheet: Any) -> float | None:
    """Mass on an information sheet, which Arbin keeps in grams (mg)."""
    above: tuple[Any, ...] = ()
    for row in islice(sheet.iter_rows(values_only=True), HEADER_ROWS):
        for i, label in enumerate(above):
            if isinstance(label, str) and re.match(r"^\s*mass\b", label, re.IGNORECASE) and i < len(row):
                value = row[i]
                if isinstance(value, int | float) and value > 0:
                    return float(value) * (1.0 if "mg" in label.lower() else 1e3)
        above = row
    return None


def _natural(title: str) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", title))


READERS = (Reader(ARBIN, _is_xlsx, _read, (".xlsx",)),)
