"""Landt and LANHE csv exports: snake case with a step name, or ``Voltage/V`` with indices."""

from __future__ import annotations

from campaigns.intake.readers.delimited import TextFormat
from campaigns.intake.readers.recording import Head
from campaigns.intake.readers.table import Header, Vocabulary

COLUMNS: Vocabulary = {
    "record": ("record", ""),
    "recordindex": ("record", ""),
    "testtime": ("time", "s"),
    "steptime": ("step_time", "s"),
    "datetimeisostring": ("clock", ""),
    "systime": ("clock", ""),
    "cycleindex": ("cycle", ""),
    "stepindex": ("step", ""),
    "stepname": ("state", ""),
    "workmode": ("state", ""),
    "mode": ("state", ""),
    "voltage": ("voltage", "V"),
    "current": ("current", "A"),
    "chargecapacity": ("charge", "Ah"),
    "dischargecapacity": ("discharge", "Ah"),
    "capacity": ("capacity", "mAh"),
    "speccapacity": ("specific", "mAh/g"),
}


def is_landt(head: Head, header: Header) -> bool:
    """Whether a table has the names of Landt, or the lines above it its name."""
    cells = {cell.strip().strip('"').lower() for cell in header.cells}
    snake = {"current_a", "voltage_v", "step_name"} <= cells
    slashed = any(c.startswith("voltage/") for c in cells) and bool({"step-index", "testtime/sec"} & cells)
    return snake or slashed or any("landt" in line.lower() or "lanhe" in line.lower() for line in head.lines[:6])


READERS = (TextFormat("landt csv", COLUMNS, is_landt, (".csv",)).reader(),)
