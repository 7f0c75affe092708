"""Neware csv exports: one flat table, or three nested layers (cycle, step, record) in one file."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.delimited import TextFormat
from campaigns.intake.readers.recording import CyclerRows, Head, Reader, ReadOptions, whole_content
from campaigns.intake.readers.table import Header, Vocabulary, find_header, rows_from_columns, split_header, split_line
from drxnet.progress import Progress

COLUMNS: Vocabulary = {
    "datapoint": ("record", ""),
    "record": ("record", ""),
    "recordid": ("record", ""),
    "recordindex": ("record", ""),
    "totaltime": ("time", "h:m:s"),
    "cumulativetime": ("time", "h:m:s"),
    "testtime": ("time", "h:m:s"),
    "time": ("step_time", "h:m:s"),
    "steptime": ("step_time", "h:m:s"),
    "relativetime": ("step_time", "h:m:s"),
    "date": ("clock", ""),
    "realtime": ("clock", ""),
    "absolutetime": ("clock", ""),
    "datetime": ("clock", ""),
    "cycleindex": ("cycle", ""),
    "cycleid": ("cycle", ""),
    "cycle": ("cycle", ""),
    "stepindex": ("step", ""),
    "stepid": ("step", ""),
    "step": ("step", ""),
    "steptype": ("state", ""),
    "stepname": ("state", ""),
    "status": ("state", ""),
    "state": ("state", ""),
    "voltage": ("voltage", "V"),
    "vol": ("voltage", "V"),
    "current": ("current", "mA"),
    "cur": ("current", "mA"),
    "chgcap": ("charge", "mAh"),
    "chargecapacity": ("charge", "mAh"),
    "capacityofcharge": ("charge", "mAh"),
    "dchgcap": ("discharge", "mAh"),
    "dischargecapacity": ("discharge", "mAh"),
    "capacityofdischarge": ("discharge", "mAh"),
    "capacity": ("capacity", "mAh"),
    "cap": ("capacity", "mAh"),
    "dchgspeccap": ("specific", "mAh/g"),
}

NESTED = "neware csv, three layers"


def is_neware(head: Head, header: Header) -> bool:
    """Whether a table has the step types and capacities of Neware."""
    stems = header.stems
    step = {"steptype", "stepname", "state", "status"} & stems
    capacities = {"chgcap", "dchgcap", "chgspeccap", "capacity", "cap"} & stems
    return bool(step and capacities) or bool({"chgcap", "dchgcap", "dchgspeccap"} & stems)


def _record_header(head: Head) -> Header | None:
    """Header of the third layer: a table whose first cells are blank, below two other headers."""
    if not head.is_text:
        return None
    header = find_header(head.lines[:12], COLUMNS)
    if header is None or header.line < 2 or header.cells[0].strip() or header.cells[1].strip():
        return None
    first = split_line(head.lines[header.line - 2], header.separator)
    return header if first and split_header(first[0])[0].startswith("cycle") else None


def _is_nested(head: Head) -> bool:
    return _record_header(head) is not None


def _read_nested(head: Head, options: ReadOptions, progress: Progress) -> CyclerRows:
    header = _record_header(head)
    assert header is not None
    cycle_width = len(split_line(head.lines[header.line - 2].rstrip(header.separator), header.separator))
    step_cells = [split_header(c)[0] for c in split_line(head.lines[header.line - 1], header.separator)]
    type_at = next((i for i, stem in enumerate(step_cells) if stem in ("steptype", "stepname")), None)
    number_at = next((i for i, stem in enumerate(step_cells) if stem in ("stepnumber", "stepindex", "stepid")), None)
    text = whole_content(head).decode(head.encoding, errors="replace")
    cycle, step, state = "0", "0", ""
    records: list[list[str]] = []
    try:
        lines = csv.reader(io.StringIO(text), delimiter=header.separator)
        for i, cells in enumerate(lines):
            if i <= header.line or not cells:
                continue
            if cells[0].strip():
                cycle = cells[0]
                cells = ["", *cells[cycle_width:]]  # some exports go on with the cycle's first step in the same line
            if len(cells) > 1 and cells[1].strip():
                step = cells[number_at] if number_at is not None and number_at < len(cells) else cells[1]
                state = cells[type_at] if type_at is not None and type_at < len(cells) else ""
            elif any(cell.strip() for cell in cells[2:]):
                wanted = [cells[c.position] if c.position < len(cells) else "" for c in header.columns]
                records.append([*wanted, cycle, step, state])
            if i % 100_000 == 0:
                progress(i, max(i, text.count("\n")))
    except csv.Error as error:
        raise RuleBroken("E9", f"{head.path.name}: rows do not match the header ({error}). Export it again.") from None
    if not records:
        raise RuleBroken("E9", f"{head.path.name}: no records below the header in line {header.line + 1}.")
    table = pd.DataFrame(records)
    columns = {c.quantity: table[i].replace("", np.nan) for i, c in enumerate(header.columns)}
    width = len(header.columns)
    columns |= {"cycle": table[width], "step": table[width + 1]}
    if type_at is not None:
        columns["state"] = table[width + 2]
    return rows_from_columns(NESTED, head.path.name, columns, header.columns, options)


READERS = (
    Reader(NESTED, _is_nested, _read_nested, (".csv",)),
    TextFormat("neware csv", COLUMNS, is_neware).reader(),
)
