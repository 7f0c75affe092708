"""Any other text table whose header names time, voltage and current with their units."""

from __future__ import annotations

from campaigns.intake.readers import arbin_text, bdf, biologic_text, landt, maccor, neware_text
from campaigns.intake.readers.delimited import TextFormat
from campaigns.intake.readers.recording import Head
from campaigns.intake.readers.table import Header, Vocabulary

_BY_LATER_WINS: Vocabulary = {
    **biologic_text.COLUMNS,
    **landt.COLUMNS,
    **bdf.COLUMNS,
    **neware_text.COLUMNS,
    **maccor.COLUMNS,
    **arbin_text.COLUMNS,
}
COLUMNS: Vocabulary = {
    **{stem: (quantity, unit) for stem, (quantity, unit) in _BY_LATER_WINS.items() if stem != "i"},
    "time": ("time", "s"),
    "elapsedtime": ("time", "s"),
    "runtime": ("time", "s"),
    "programduration": ("time", "s"),
    "t": ("time", "s"),
    "potential": ("voltage", "V"),
    "u": ("voltage", "V"),
    "v": ("voltage", "V"),
    "e": ("voltage", "V"),
    "cellvoltage": ("voltage", "V"),
    "i": ("current", "mA"),
    "cellcurrent": ("current", "mA"),
    "dateandtime": ("clock", ""),
    "timestamp": ("clock", ""),
    "stepnumber": ("step", ""),
    "command": ("state", ""),
    "linetype": ("state", ""),
    "line": ("record", ""),
}


def _any(head: Head, header: Header) -> bool:
    return True


READERS = (TextFormat("text table", COLUMNS, _any, assumes_units=True).reader(),)
