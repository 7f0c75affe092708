"""Maccor text exports: MIMS and the older ones, time in seconds, minutes, hours or as text, current often unsigned.

The mass in the header (SCap) is whatever the operator typed for another purpose and is not read.
"""

from __future__ import annotations

import re

from campaigns.intake.readers.delimited import TextFormat
from campaigns.intake.readers.recording import Head
from campaigns.intake.readers.table import Header, Vocabulary

COLUMNS: Vocabulary = {
    "rec": ("record", ""),
    "record": ("record", ""),
    "recno": ("record", ""),
    "testtime": ("time", "min"),
    "test": ("time", "s"),
    "testsec": ("time", "s"),
    "testmin": ("time", "min"),
    "testhr": ("time", "h"),
    "steptime": ("step_time", "min"),
    "dpttime": ("clock", ""),
    "datetime": ("clock", ""),
    "cyc": ("cycle", ""),
    "cyclec": ("cycle", ""),
    "cycle": ("cycle", ""),
    "cyclep": ("cycle", ""),
    "step": ("step", ""),
    "state": ("state", ""),
    "md": ("state", ""),
    "volts": ("voltage", "V"),
    "voltage": ("voltage", "V"),
    "mvolts": ("voltage", "mV"),
    "amps": ("current", "A"),
    "current": ("current", "A"),
    "mamps": ("current", "mA"),
    "amphr": ("capacity", "Ah"),
    "mamphr": ("capacity", "mAh"),
    "ahr": ("capacity", "Ah"),
    "cap": ("capacity", "Ah"),
    "capacity": ("capacity", "Ah"),
}


def _is_maccor(head: Head, header: Header) -> bool:
    stems = header.stems
    return bool({"rec", "record", "recno"} & stems) and bool({"md", "state"} & stems) and "step" in stems


READERS = (
    TextFormat(
        "maccor text", COLUMNS, _is_maccor, (".txt", ".001", ".csv"), mass=re.compile(r"$^(?P<value>)(?P<unit>)")
    ).reader(),
)
