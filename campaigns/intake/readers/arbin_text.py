"""Arbin csv and txt exports: with units in the header, without, and with spaces and a byte order mark."""

from __future__ import annotations

from campaigns.intake.readers.delimited import TextFormat
from campaigns.intake.readers.recording import Head
from campaigns.intake.readers.table import Header, Vocabulary

COLUMNS: Vocabulary = {
    "datapoint": ("record", ""),
    "testtime": ("time", "s"),
    "steptime": ("step_time", "s"),
    "datetime": ("clock", ""),
    "cycleindex": ("cycle", ""),
    "cycleid": ("cycle", ""),
    "stepindex": ("step", ""),
    "stepid": ("step", ""),
    "voltage": ("voltage", "V"),
    "current": ("current", "A"),
    "chargecapacity": ("charge", "Ah"),
    "dischargecapacity": ("discharge", "Ah"),
}


def _is_arbin(head: Head, header: Header) -> bool:
    return (
        {"testtime"} <= header.stems and bool({"cycleindex", "cycleid"} & header.stems) and "stepindex" in header.stems
    )


READERS = (TextFormat("arbin csv", COLUMNS, _is_arbin).reader(),)
