"""A reader: the text that the cycler in this laboratory writes.

::

    OUR-CYCLER 1
    seconds;volt;milliampere
    0.0;3.2000;0.052
    ...
"""

from __future__ import annotations

import numpy as np

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.recording import CyclerRows, Reader, ReadOptions
from campaigns.intake.readers.unpacking import Head, whole_content
from drxnet.progress import Progress

MAGIC = b"OUR-CYCLER 1"


def _recognises(head: Head) -> bool:
    return head.content.startswith(MAGIC)


def _read(head: Head, options: ReadOptions, progress: Progress) -> CyclerRows:
    """Read every row; current is positive on charge and negative on discharge."""
    lines = whole_content(head).decode("ascii", errors="replace").splitlines()[2:]
    try:
        rows = np.array([[float(cell) for cell in line.split(";")] for line in lines], float).reshape(-1, 3)
    except ValueError:
        raise RuleBroken("E9", f"{head.path.name}: a row of an OUR-CYCLER file holds three numbers.") from None
    if len(rows) < 2:
        raise RuleBroken("E9", f"{head.path.name}: an OUR-CYCLER file without rows.")
    seconds, volt, milliampere = rows.T
    return CyclerRows("our-cycler", volt, seconds, current_ma=milliampere)


OUR_CYCLER = Reader("our-cycler", _recognises, _read, (".our",))
