"""Neware .nda and .ndax, through NewareNDA (BSD-3); its rows are taken, its cycles and totals are not."""

from __future__ import annotations

import logging
import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.headers import NamedColumn
from campaigns.intake.readers.recording import CyclerRows, Reader, ReadOptions
from campaigns.intake.readers.table import Table, rows_from_columns
from campaigns.intake.readers.unpacking import Head, plain_file, zip_members
from drxnet.progress import Progress

NDA, NDAX = "neware nda", "neware ndax"
COLUMNS = {
    "Index": ("record", ""),
    "Time": ("time", "s"),
    "Step": ("step", ""),
    "Cycle": ("cycle", ""),
    "Status": ("state", ""),
    "Voltage": ("voltage", "V"),
    "Current(mA)": ("current", "mA"),
    "Charge_Capacity(mAh)": ("charge", "mAh"),
    "Discharge_Capacity(mAh)": ("discharge", "mAh"),
    "Timestamp": ("clock", ""),
}


def _is_nda(head: Head) -> bool:
    return head.content.startswith(b"NEWARE")


def _is_ndax(head: Head) -> bool:
    return any(member.endswith(".ndc") for member in zip_members(head))


def _table(name: str, head: Head) -> Any:
    """What NewareNDA reads of a file."""
    import NewareNDA

    try:
        with plain_file(head, f".{name.split()[1]}") as path, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NewareNDA uses an argument that pandas is about to drop
            logging.getLogger("newarenda").setLevel(logging.CRITICAL)
            return NewareNDA.read(str(path), software_cycle_number=False, log_level="CRITICAL")
    except Exception as error:  # noqa: BLE001 - a damaged file raises anything from a foreign parser
        raise RuleBroken(
            "E9", f"{head.path.name}: damaged or unknown Neware file ({error!s:.80}). Export it as csv and give that."
        ) from None


def _read(name: str, head: Head, options: ReadOptions, progress: Progress) -> CyclerRows:
    table = _table(name, head)
    if not isinstance(table, pd.DataFrame) or table.empty or "Voltage" not in table:
        raise RuleBroken("E9", f"{head.path.name}: holds no records. Is the test still running?")
    table = table.reset_index(drop=True)
    named = [NamedColumn(i, c, *COLUMNS[c]) for i, c in enumerate(COLUMNS) if c in table]
    columns = {column.quantity: table[column.header] for column in named}
    if _is_step_time(numeric(table["Time"]), numeric(table["Step"])):
        columns["step_time"] = columns.pop("time")
        named = [NamedColumn(c.position, c.header, "step_time", c.unit) if c.quantity == "time" else c for c in named]
    return rows_from_columns(name, head.path.name, Table(columns, named), options)


def numeric(series: pd.Series) -> np.ndarray:
    """A column as floats."""
    return pd.to_numeric(series, errors="coerce").to_numpy(float, na_value=np.nan)


def _is_step_time(time: np.ndarray, step: np.ndarray) -> bool:
    """Whether the time begins again with most steps: it does in some files and not in others."""
    new_step = np.flatnonzero(np.diff(step) != 0)
    return len(new_step) > 0 and bool((np.diff(time)[new_step] < 0).mean() > 0.5)


READERS = (
    Reader(NDA, _is_nda, partial(_read, NDA), (".nda",)),
    Reader(NDAX, _is_ndax, partial(_read, NDAX), (".ndax",)),
)
