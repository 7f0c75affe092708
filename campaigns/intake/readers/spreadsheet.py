"""Spreadsheets: Arbin's xlsx reports, and any other sheet whose header names time, voltage and current."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import arbin_text, landt, neware_text, other_text
from campaigns.intake.readers.recording import CyclerRows, Head, Reader, ReadOptions, open_bytes, zip_members
from campaigns.intake.readers.table import (
    Header,
    NamedColumn,
    Vocabulary,
    assumed_units,
    name_columns,
    numbers,
    rows_from_columns,
    with_units,
)
from drxnet.progress import Progress

ARBIN, OTHER = "arbin xlsx", "spreadsheet"
VOCABULARIES: tuple[tuple[str, Vocabulary, Callable[[Head, Header], bool]], ...] = (
    (ARBIN, arbin_text.COLUMNS, lambda head, header: "testtime" in header.stems),
    ("neware xlsx", neware_text.COLUMNS, neware_text.is_neware),
    ("landt xlsx", landt.COLUMNS, landt.is_landt),
    (OTHER, other_text.COLUMNS, lambda head, header: True),
)
"""Name of each format, its columns, and whether a table with such columns is of that format."""

HEADER_ROWS = 30
PROGRESS_ROWS = 5000


def _is_xlsx(head: Head) -> bool:
    return any(member.startswith("xl/") for member in zip_members(head))


def _read(head: Head, options: ReadOptions, progress: Progress) -> CyclerRows:
    from openpyxl import load_workbook

    name = head.path.name
    sheets: list[tuple[str, str, tuple[NamedColumn, ...], pd.DataFrame]] = []
    mass = None
    try:
        with open_bytes(head.path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl about styles
            book = load_workbook(file, read_only=True, data_only=True)
            for title in book.sheetnames:
                if re.search(r"statis|chart", title, re.IGNORECASE):
                    continue
                sheet = book[title]
                found = _sheet(head, sheet, progress)
                if found is None:
                    mass = mass or _mass_mg(sheet)
                else:
                    sheets.append((title, *found))
    except Exception as error:  # noqa: BLE001 - a damaged file raises anything from a foreign parser
        raise RuleBroken("E9", f"{name}: damaged spreadsheet ({error!s:.80}). Export it again, or as csv.") from None
    if not sheets:
        raise RuleBroken(
            "E9",
            f"{name}: no sheet has a header that names time, voltage and current. Save a table of capacities, or a "
            "curve, as csv.",
        )
    title, format_name, named, _ = sheets[0]
    alike = sorted((s for s in sheets if s[2] == named), key=lambda s: _natural(s[0]))
    _check_one_test(name, {s[0]: s[3] for s in alike})
    tables = [s[3] for s in alike]
    notes = [f"sheets {', '.join(s[0] for s in alike)} joined"] if len(alike) > 1 else []
    if len(alike) < len(sheets):
        notes.append(f"sheets left out: {', '.join(s[0] for s in sheets if s[2] != named)}")
    if format_name == OTHER:
        notes += assumed_units(named)
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise RuleBroken("E9", f"{name}: no rows below the header of sheet {title}.")
    columns = {column.quantity: table[column.quantity] for column in named}
    return rows_from_columns(format_name, name, columns, named, options, notes, header_mass_mg=mass)


def _sheet(head: Head, sheet: Any, progress: Progress) -> tuple[str, tuple[NamedColumn, ...], pd.DataFrame] | None:
    rows = sheet.iter_rows(values_only=True)
    for number, cells in enumerate(rows):
        if number >= HEADER_ROWS:
            return None
        match = _columns(head, number, tuple(c if isinstance(c, str) else "" for c in cells))
        if match is None:
            continue
        format_name, named = match
        records = []
        for done, row in enumerate(rows, start=1):
            if done == 1:
                named = with_units(named, row)
            records.append([row[c.position] if c.position < len(row) else None for c in named])
            if done % PROGRESS_ROWS == 0:
                progress(done, max(done, sheet.max_row or done))
        return format_name, named, pd.DataFrame(records, columns=[c.quantity for c in named])
    return None


def _check_one_test(name: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Refuse sheets of which one begins before another has ended: they are the channels of several cells."""
    ended = -np.inf
    for title, table in tables.items():
        time = numbers(table["time"]) if "time" in table else np.array([])
        time = time[np.isfinite(time)]
        if not len(time):
            continue
        if time[0] < ended:
            raise RuleBroken("E9", f"{name}: sheet {title} begins another test. Export one channel per file.")
        ended = float(time[-1])


def _columns(head: Head, number: int, cells: tuple[str, ...]) -> tuple[str, tuple[NamedColumn, ...]] | None:
    """Format and columns of a header row; None where it is no header."""
    for format_name, vocabulary, telltale in VOCABULARIES:
        header = Header(number, "", cells, name_columns(cells, vocabulary))
        if header.complete and telltale(head, header):
            return format_name, header.columns
    return None


def _mass_mg(sheet: Any) -> float | None:
    """Mass on an information sheet, which Arbin keeps in grams (mg)."""
    above: tuple[Any, ...] = ()
    for number, cells in enumerate(sheet.iter_rows(values_only=True)):
        if number >= HEADER_ROWS:
            break
        for i, label in enumerate(above):
            if isinstance(label, str) and re.match(r"^\s*mass\b", label, re.IGNORECASE) and i < len(cells):
                value = cells[i]
                if isinstance(value, int | float) and value > 0:
                    return float(value) * (1.0 if "mg" in label.lower() else 1e3)
        above = cells
    return None


def _natural(title: str) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", title))


READERS = (Reader(ARBIN, _is_xlsx, _read, (".xlsx",)),)
