"""Arbin .res, a Microsoft Access database, through access-parser."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.headers import NamedColumn
from campaigns.intake.readers.recording import CyclerRows, Reader, ReadOptions
from campaigns.intake.readers.table import Table, rows_from_columns
from campaigns.intake.readers.unpacking import Head, plain_file
from drxnet.progress import Progress

NAME = "arbin res"
COLUMNS = {
    "Data_Point": ("record", ""),
    "Test_Time": ("time", "s"),
    "Step_Time": ("step_time", "s"),
    "DateTime": ("clock", ""),
    "Cycle_Index": ("cycle", ""),
    "Step_Index": ("step", ""),
    "Voltage": ("voltage", "V"),
    "Current": ("current", "A"),
    "Charge_Capacity": ("charge", "Ah"),
    "Discharge_Capacity": ("discharge", "Ah"),
}
ROWS, GLOBAL = "Channel_Normal_Table", "Global_Table"


def _is_res(head: Head) -> bool:
    return head.content[4:19] in (b"Standard Jet DB", b"Standard ACE DB")


def _read(head: Head, options: ReadOptions, progress: Progress) -> CyclerRows:
    name = head.path.name
    try:
        with plain_file(head, ".res") as path:
            tables = _tables(str(path))
    except Exception as error:  # noqa: BLE001 - a damaged file raises anything from a foreign parser
        raise RuleBroken("E9", f"{name}: damaged .res file ({error!s:.80}). Copy it from the cycler again.") from None
    rows = tables[ROWS]
    missing = [c for c in ("Test_Time", "Voltage", "Current") if c not in rows]
    if missing or rows.empty:
        raise RuleBroken("E9", f"{name}: {ROWS} holds no {', '.join(missing) or 'rows'}; not a finished Arbin test.")
    rows, notes = _longest_test(rows)
    named = [NamedColumn(i, c, *COLUMNS[c]) for i, c in enumerate(COLUMNS) if c in rows]
    columns = {column.quantity: rows[column.header] for column in named}
    return rows_from_columns(
        NAME, name, Table(columns, named), options, notes, header_mass_mg=_mass(tables.get(GLOBAL))
    )


def _longest_test(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the test that has most, and a note where there are several."""
    if "Test_ID" not in rows or rows["Test_ID"].nunique() < 2:
        return rows, []
    kept = rows["Test_ID"].mode().iloc[0]
    note = f"{rows['Test_ID'].nunique()} tests in the file; the longest, {kept}, is read"
    return rows[rows["Test_ID"] == kept].reset_index(drop=True), [note]


def _tables(path: str) -> dict[str, pd.DataFrame]:
    from access_parser import AccessParser

    logging.getLogger("access_parser").setLevel(logging.CRITICAL)
    database = AccessParser(path)
    if ROWS not in database.catalog:
        raise ValueError(f"no table {ROWS}")
    return {name: _frame(database.parse_table(name)) for name in (ROWS, GLOBAL) if name in database.catalog}


def _frame(columns: dict[str, list[Any]]) -> pd.DataFrame:
    length = max((len(values) for values in columns.values()), default=0)
    return pd.DataFrame({name: values for name, values in columns.items() if len(values) == length})


def _mass(table: pd.DataFrame | None) -> float | None:
    """Mass of the header, which Arbin keeps in grams (mg)."""
    if table is None:
        return None
    found = next((c for c in table if str(c).upper() in ("MASS", "SCH_MASS")), None)
    value = pd.to_numeric(table[found], errors="coerce").dropna() if found is not None else pd.Series(dtype=float)
    return float(value.iloc[0]) * 1e3 if len(value) and np.isfinite(value.iloc[0]) and value.iloc[0] > 0 else None


READERS = (Reader(NAME, _is_res, _read, (".res",)),)
