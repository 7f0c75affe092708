"""BioLogic .mpr, through galvani where the user has installed it.

galvani is GPL-3 and therefore an extra of its own; EC-Lab and BT-Lab can export text instead.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection

import numpy as np

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.recording import CyclerRows, Reader, ReadOptions
from campaigns.intake.readers.unpacking import Head, whole_content
from drxnet.errors import MissingExtra
from drxnet.progress import Progress

NAME = "biologic mpr"
MAGIC = b"BIO-LOGIC MODULAR FILE"
_VOLTAGE = ("Ewe/V", "Ecell/V", "<Ewe>/V", "<Ewe/V>", "Ewe-Ece/V")
_CURRENT = ("I/mA", "<I>/mA")


def _is_mpr(head: Head) -> bool:
    return head.content.startswith(MAGIC)


def _read(head: Head, options: ReadOptions, progress: Progress) -> CyclerRows:
    name = head.path.name
    table = _table(name, head)
    fields = table.dtype.names or ()

    def column(*names: str, unit: float = 1.0) -> np.ndarray | None:
        return next((table[n].astype(float) * unit for n in names if n in fields), None)

    voltage = column(*_VOLTAGE, unit=options.voltage_unit or 1.0)
    time = column("time/s", unit=options.time_unit or 1.0)
    current = column(*_CURRENT, unit=options.current_unit or 1.0)
    moved = _moved(table, fields)
    if voltage is None or time is None or (moved is None and current is None):
        raise RuleBroken(
            "E9", f"{name}: holds no voltage, time and charge (columns {', '.join(fields)}): not a cycling test."
        )
    return CyclerRows(
        NAME,
        voltage,
        time,
        current,
        None if moved is None else moved * (options.capacity_unit or 1.0),
        step=column("Ns"),
        cycle=column("cycle number"),
    )


def _table(name: str, head: Head) -> np.ndarray:
    """The records of a file, as galvani reads them."""
    try:
        from galvani import BioLogic
    except ImportError:
        raise MissingExtra(
            f"{name}: reading .mpr needs galvani, which is GPL-3 and not installed with drx-screen. Either "
            "`pip install 'drx-screen[biologic]'`, or export the data as text in EC-Lab or BT-Lab (.mpt) and give that."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(BioLogic.MPRfile(io.BytesIO(whole_content(head))).data)
    except RuleBroken:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file raises anything from a foreign parser
        reason = " ".join(str(error).split())
        raise RuleBroken(
            "E9", f"{name}: galvani cannot read this .mpr ({reason:.60}). Export it as text (.mpt) and give that."
        ) from None


def _moved(table: np.ndarray, fields: Collection[str]) -> np.ndarray | None:
    """Charge since the beginning (mAh), from whichever column holds it."""
    if "(Q-Qo)/mA.h" in fields:
        return np.asarray(table["(Q-Qo)/mA.h"], float)
    if "dq/mA.h" in fields:
        return np.cumsum(table["dq/mA.h"].astype(float))
    return table["(Q-Qo)/C"].astype(float) / 3.6 if "(Q-Qo)/C" in fields else None


READERS = (Reader(NAME, _is_mpr, _read, (".mpr",)),)
