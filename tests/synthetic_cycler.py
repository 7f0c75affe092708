"""A coin cell on a cycler: rows with known answers, and exports of them in every text format.

The cell rests, charges to 4.8 V, rests, discharges from 4.75 V to the cut-off, and again. Charge is counted as a
cycler does it: the current of a row held since the row before.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from campaigns.intake import exports
from campaigns.intake.exports import (  # noqa: F401 - tests take them from here
    arbin_csv,
    assemble,
    clock,
    landt_csv,
    rest_step,
    step,
    table_text,
)

MASS_MG = 1.8
CURRENT_MA = 0.036
RATE_MA_G = 20.0
WINDOW = (1.5, 4.8)
CAPACITY_MAH = 0.432
"""First discharge: 240 mAh/g."""

COMPOSITION = "Li1.2Mn0.4Ti0.4O2"


def discharge_voltage(share: np.ndarray, low: float = 1.5) -> np.ndarray:
    """Voltage at a share of the discharge, from 4.75 V to the lower cut-off (V)."""
    return 4.75 - 1.3 * share - (3.45 - low) * share**4


def charge_step(capacity_mah: float, current_ma: float = CURRENT_MA, rows: int = 150) -> pd.DataFrame:
    """A charge from 3.0 to 4.8 V."""
    return exports.charge_step(capacity_mah, current_ma, rows)


def discharge_step(
    capacity_mah: float = CAPACITY_MAH, current_ma: float = CURRENT_MA, rows: int = 180, low: float = 1.5
) -> pd.DataFrame:
    """A discharge from 4.75 V to the cut-off."""
    return exports.discharge_step(capacity_mah, current_ma, lambda x: discharge_voltage(x, low), rows)


def cell_test(cycles: int = 2, capacity_mah: float = CAPACITY_MAH) -> pd.DataFrame:
    """The whole test; the capacity falls by 3 % per cycle."""
    steps = [rest_step()]
    for n in range(cycles):
        q = capacity_mah * 0.97**n
        steps += [charge_step(q * 1.05), rest_step(0.1, 4.7, 3), discharge_step(q)]
    return assemble(*steps, rest_step(0.2, 1.9))


# Exports: each returns text


def arbin_plain_csv(t: pd.DataFrame) -> str:
    """Arbin without units and without record numbers."""
    return (
        arbin_csv(t)
        .replace("(s)", "")
        .replace("(A)", "")
        .replace("(V)", "")
        .replace("(Ah)", "")
        .replace("Data_Point,", "DP,")
    )


def arbin_spaced_csv(t: pd.DataFrame) -> str:
    """Arbin with spaces, a byte order mark and a leading tab."""
    lines = arbin_csv(t).replace("Data_Point", "Data Point").split("\n")
    lines[0] = lines[0].replace("_", " ").replace("(", " (")
    return "\ufeff\t" + "\n".join(lines)


def neware_nested_csv(t: pd.DataFrame, joined: bool = False) -> str:
    """Neware, three layers in one file; the first step of a cycle in its own line, or joined to that of the cycle."""
    names = {"C": "CC Chg", "D": "CC DChg", "R": "Rest"}
    lines = [
        "Cycle Index,Chg. Cap.(Ah),DChg. Cap.(Ah)",
        ",Step Index,Step Number,Step Type,Step Time,Capacity(Ah),Energy(Wh)",
        ",,DataPoint,Time,Total Time,Current(A),Voltage(V),Capacity(Ah),Energy(Wh),Date",
    ]
    for cycle, in_cycle in t.groupby("cycle", sort=False):
        lines.append(f"{cycle},{in_cycle.charge_mah.max() / 1e3:.6f},{in_cycle.discharge_mah.max() / 1e3:.6f}")
        for number, rows in in_cycle.groupby("step", sort=False):
            head = f",{number},{number},{names[rows.state.iloc[0]]},{clock(rows.step_time_s.iloc[-1])},0.1,0.2"
            if joined and not lines[-1].startswith(","):
                lines[-1] += head
            else:
                lines.append(head)
            lines += [
                f",,{r.record},{clock(r.step_time_s)},{clock(r.time_s)},{r.current_ma / 1e3:.9f},{r.voltage_v:.5f},"
                f"{(r.charge_mah + r.discharge_mah) / 1e3:.9f},0.0,2026-03-06 12:37:25"
                for r in rows.itertuples()
            ]
    return "\n".join(lines) + "\n"


def neware_csv(t: pd.DataFrame, current: str = "mA", capacity: str = "mAh", voltage: str = "V") -> str:
    """Neware, flat; units as asked for."""
    scales = {"current_ma": {"A": 1e-3, "mA": 1.0, "uA": 1e3}[current], "voltage_v": {"V": 1.0, "mV": 1e3}[voltage]}
    scales |= dict.fromkeys(("charge_mah", "discharge_mah"), {"Ah": 1e-3, "mAh": 1.0, "mAs": 3600.0}[capacity])
    header, rows = exports.neware_csv(t.assign(**{name: t[name] * x for name, x in scales.items()})).split("\n", 1)
    for unit, asked in (("(mA)", current), ("(V)", voltage), ("(mAh)", capacity)):
        header = header.replace(unit, f"({asked})")
    return f"{header}\n{rows}"


def biologic_mpt(t: pd.DataFrame, header: bool = True, current: bool = True, comma: bool = False) -> str:
    """EC-Lab text: GCPL may be without a current column, French exports have decimal commas, and no header lines."""
    text = exports.biologic_mpt(t)
    start = text.index("mode\t")
    above, rows = text[:start], [line.split("\t") for line in text[start:].splitlines()]
    dropped = None if current else rows[0].index("<I>/mA")
    body = "".join("\t".join(c for i, c in enumerate(row) if i != dropped) + "\n" for row in rows)
    if comma:
        above, body = above.replace(".", ","), body.replace(".", ",").replace("mA,h", "mA.h")
    return above + body if header else body


def btlab_txt(t: pd.DataFrame) -> str:
    """BT-Lab text, Ecell and I."""
    body = biologic_mpt(t).replace("EC-Lab ASCII", "BT-Lab ASCII").replace("Ewe/V", "Ecell/V").replace("<I>/mA", "I/mA")
    return body


def maccor_mims(t: pd.DataFrame, signed: bool = False, comma: bool = False) -> str:
    """Maccor MIMS: minutes, unsigned current, state in Md."""
    body = table_text(
        t,
        {
            "Rec": t.record,
            "Cycle P": t.cycle * 0,
            "Cycle C": t.cycle,
            "Step": t.step,
            "TestTime": t.time_s / 60,
            "StepTime": t.step_time_s / 60,
            "Cap. [Ah]": (t.charge_mah + t.discharge_mah) / 1e3,
            "Current [A]": (t.current_ma if signed else t.current_ma.abs()) / 1e3,
            "Voltage [V]": t.voltage_v,
            "Md": t.state,
            "ES": t.step * 0,
            "DPT Time": "06/05/2021 11:23:46",
        },
        "\t",
    )
    text = "Name:\tcell\nChannel:\t5\nTester\tMaccor #4\nDescription\tDRX\xff\xff\nSCap\t0.017\nC Rate\t0.003\n\n"
    text += body.replace("\n", "\n\n", 1)
    return text.replace(".", ",").replace("Cap, [", "Cap. [") if comma else text


def maccor_old(t: pd.DataFrame, time: str = "Test (Sec)") -> str:
    """Maccor's older export, signed; time in seconds, minutes or as text."""
    elapsed = {"Test (Sec)": t.time_s, "Test (Min)": t.time_s / 60, "TestTime": t.time_s.map(_days)}[time]
    body = table_text(
        t,
        {
            "Rec#": t.record,
            "Cyc#": t.cycle - 1,
            "Step": t.step,
            time: elapsed,
            "Amp-hr": (t.charge_mah + t.discharge_mah) / 1e3,
            "Amps": t.current_ma / 1e3,
            "Volts": t.voltage_v,
            "State": t.state,
        },
        "\t",
    )
    return (
        "Today's Date 08/16/2019  Date of Test:\t08/15/2019\t Filename:\tC:\\x.078 Procedure: p\tComment/Barcode: c\n"
        + body
    )


def landt_slash_csv(t: pd.DataFrame) -> str:
    """LANHE with slashes."""
    return table_text(
        t,
        {
            "Cycle-Index": t.cycle,
            "Step-Index": t.step,
            "TestTime/Sec": t.time_s,
            "Voltage/V": t.voltage_v,
            "Current/mA": t.current_ma,
            "Capacity/mAh": t.charge_mah + t.discharge_mah,
        },
    )


def bdf_csv(t: pd.DataFrame) -> str:
    """Battery Data Format, machine names: time, voltage, current."""
    columns = {"test_time_second": t.time_s, "voltage_volt": t.voltage_v, "current_ampere": t.current_ma / 1e3}
    return table_text(t, columns)


def bdf_label_csv(t: pd.DataFrame) -> str:
    """Battery Data Format, labels, cumulative capacities."""
    return table_text(
        t,
        {
            "Test Time / s": t.time_s,
            "Voltage / V": t.voltage_v,
            "Current / A": t.current_ma / 1e3,
            "Charging Capacity / Ah": t.moved_mah.clip(lower=0).cumsum() / 1e3,
            "Discharging Capacity / Ah": (-t.moved_mah).clip(lower=0).cumsum() / 1e3,
        },
    )


def plain_csv(t: pd.DataFrame) -> str:
    """A table of nobody in particular."""
    return table_text(
        t, {"time (h)": t.time_s / 3600, "potential (V)": t.voltage_v, "current (uA)": t.current_ma * 1e3}, ";"
    )


def novonix_csv(t: pd.DataFrame) -> str:
    """Novonix: protocol above the table, hours, a mass that nobody typed, and step types that are numbers."""
    body = table_text(
        t,
        {
            "Date and Time": "2022-04-11 10:58:07 AM",
            "Cycle Number": t.cycle,
            "Step Type": t.state.map({"R": 0, "C": 1, "D": 2}),
            "Run Time (h)": t.time_s / 3600,
            "Step Time (h)": t.step_time_s / 3600,
            "Current (A)": t.current_ma / 1e3,
            "Potential (V)": t.voltage_v,
            "Capacity (Ah)": (t.charge_mah + t.discharge_mah) / 1e3,
            "Temperature (\xb0C)": 25.0,
            "Step Number": t.step,
        },
    )
    above = ["[Summary]", "Novonix HPC data file", "Mass (g): 1.000", "[0: Open_circuit_storage:]", "[Data]"]
    return "\n".join(above) + "\n" + body


EXPORTS: dict[str, tuple[str, Callable[[pd.DataFrame], str]]] = {
    "arbin csv": ("arbin csv", arbin_csv),
    "arbin csv without units": ("arbin csv", arbin_plain_csv),
    "arbin csv with spaces": ("arbin csv", arbin_spaced_csv),
    "neware csv": ("neware csv", neware_csv),
    "neware csv, amperes": ("neware csv", lambda t: neware_csv(t, "A", "Ah")),
    "neware csv, microamperes": ("neware csv", lambda t: neware_csv(t, "uA", "mAs", "mV")),
    "neware csv, nested": ("neware csv, three layers", neware_nested_csv),
    "neware csv, nested, joined": ("neware csv, three layers", lambda t: neware_nested_csv(t, joined=True)),
    "biologic mpt": ("biologic text", biologic_mpt),
    "biologic mpt, no header": ("biologic text", lambda t: biologic_mpt(t, header=False)),
    "biologic mpt, no current": ("biologic text", lambda t: biologic_mpt(t, current=False)),
    "biologic mpt, decimal comma": ("biologic text", lambda t: biologic_mpt(t, comma=True)),
    "bt-lab txt": ("biologic text", btlab_txt),
    "maccor mims": ("maccor text", maccor_mims),
    "maccor mims, decimal comma": ("maccor text", lambda t: maccor_mims(t, comma=True)),
    "maccor, seconds": ("maccor text", maccor_old),
    "maccor, minutes": ("maccor text", lambda t: maccor_old(t, "Test (Min)")),
    "maccor, days and clock": ("maccor text", lambda t: maccor_old(t, "TestTime")),
    "landt csv": ("landt csv", landt_csv),
    "landt csv, slashes": ("landt csv", landt_slash_csv),
    "bdf csv": ("battery data format csv", bdf_csv),
    "bdf csv, labels": ("battery data format csv", bdf_label_csv),
    "novonix": ("novonix csv", novonix_csv),
    "any table": ("text table", plain_csv),
}
"""Name of a variant -> name of the reader, and the export."""


def write(path: Path, text: str, encoding: str = "latin-1", compress: bool = False) -> Path:
    """Write an export as an instrument's computer would."""
    if text.startswith("\ufeff"):
        encoding = "utf-8"
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if compress else content)
    return path


def write_xlsx(path: Path, t: pd.DataFrame, rows_per_sheet: int = 300) -> Path:
    """Arbin's workbook: information, channel sheets in pieces, statistics."""
    from openpyxl import Workbook

    book = Workbook()
    info = book.active
    info.title = "Global_Info"
    info.append([None, None, "TEST REPORT"])
    info.append(["Channel", "Mass(g)"])
    info.append([11, 0.0018])
    header, *rows = (line.split(",") for line in arbin_csv(t).strip().split("\n"))
    for i in range(0, len(rows), rows_per_sheet):
        sheet = book.create_sheet(f"Channel_1_{i // rows_per_sheet + 1}")
        sheet.append(header)
        for row in rows[i : i + rows_per_sheet]:
            sheet.append([float(cell) for cell in row])
    statistics = book.create_sheet("Statistics_1")
    statistics.append(header)
    statistics.append([1.0] * len(header))
    book.save(path)
    return path


def _days(seconds: float) -> str:
    return f"{int(seconds // 86400)}d {clock(seconds % 86400)}"
