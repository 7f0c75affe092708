"""BioLogic text: EC-Lab .mpt and BT-Lab .txt, with or without the header block, dots or commas."""

from __future__ import annotations

import re

from campaigns.intake.readers.delimited import TextFormat
from campaigns.intake.readers.recording import Head
from campaigns.intake.readers.table import Header, Vocabulary

COLUMNS: Vocabulary = {
    "times": ("time", "s"),
    "time": ("time", "s"),
    "ewe": ("voltage", "V"),
    "ecell": ("voltage", "V"),
    "ewece": ("voltage", "V"),
    "i": ("current", "mA"),
    "qqo": ("moved", "mA.h"),
    "qdischarge": ("discharge", "mA.h"),
    "qcharge": ("charge", "mA.h"),
    "ns": ("step", ""),
    "cyclenumber": ("cycle", ""),
    "rec": ("record", ""),
}


def _is_biologic(head: Head, header: Header) -> bool:
    named = any(re.match(r"\W*(EC|BT)-Lab ASCII FILE", line) for line in head.lines[:3])
    return named or bool({"ewe", "ecell", "ewece"} & header.stems)


READERS = (
    TextFormat(
        "biologic text",
        COLUMNS,
        _is_biologic,
        (".mpt", ".txt"),
        mass=re.compile(
            r"(?:characteristic mass|mass of active material)\s*:\s*(?P<value>[\d.,]+)\s*(?P<unit>kg|mg|g|.g)",
            re.IGNORECASE,
        ),
        material=re.compile(r"^electrode material\s*:\s*(\S.*)", re.IGNORECASE),
    ).reader(),
)
