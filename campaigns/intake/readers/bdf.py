"""Battery Data Format csv (battery-data-alliance.org).

Columns have machine names such as ``voltage_volt``, or labels such as ``Voltage / V``.
"""

from __future__ import annotations

from campaigns.intake.readers.delimited import TextFormat
from campaigns.intake.readers.recording import Head
from campaigns.intake.readers.table import Header, Vocabulary

COLUMNS: Vocabulary = {
    "testtime": ("time", "s"),
    "steptime": ("step_time", "s"),
    "unixtime": ("clock", ""),
    "datetime": ("clock", ""),
    "voltage": ("voltage", "V"),
    "current": ("current", "A"),
    "cyclecount": ("cycle", ""),
    "cycle": ("cycle", ""),
    "stepindex": ("step", ""),
    "stepcount": ("step", ""),
    "steptype": ("state", ""),
    "recordindex": ("record", ""),
    "chargingcapacity": ("charge", "Ah"),
    "cumulativechargingcapacity": ("charge", "Ah"),
    "dischargingcapacity": ("discharge", "Ah"),
    "cumulativedischargingcapacity": ("discharge", "Ah"),
    "netcapacity": ("moved", "Ah"),
}


def _is_bdf(head: Head, header: Header) -> bool:
    cells = {cell.strip().strip('"').lower() for cell in header.cells}
    machine = {"test_time_second", "voltage_volt"} <= cells or {"test_time_s", "voltage_v", "current_a"} <= cells
    return (
        machine
        or any(c.startswith("test time /") for c in cells)
        or head.path.name.lower().endswith((".bdf", ".bdf.csv"))
    )


READERS = (TextFormat("battery data format csv", COLUMNS, _is_bdf, (".bdf.csv", ".bdf")).reader(),)
