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


def step(
    state: str, hours: float, current_ma: float, voltage: np.ndarray | Callable[[np.ndarray], np.ndarray], rows: int
):
    """Rows of one step: state, duration, signed current, voltage at shares of it."""
    share = np.linspace(0, 1, rows + 1)[1:]
    volts = voltage(share) if callable(voltage) else np.asarray(voltage)
    return pd.DataFrame(
        {"state": state, "step_time_s": 3600 * hours * share, "current_ma": current_ma, "voltage_v": volts}
    )


def charge_step(capacity_mah: float, current_ma: float = CURRENT_MA, rows: int = 150) -> pd.DataFrame:
    """A charge from 3.0 to 4.8 V."""
    return step("C", capacity_mah / current_ma, current_ma, lambda x: 3.0 + 1.3 * x**0.3 + 0.5 * x**3, rows)


def discharge_step(
    capacity_mah: float = CAPACITY_MAH, current_ma: float = CURRENT_MA, rows: int = 180, low: float = 1.5
) -> pd.DataFrame:
    """A discharge from 4.75 V to the cut-off."""
    return step("D", capacity_mah / current_ma, -current_ma, lambda x: discharge_voltage(x, low), rows)


def rest_step(hours: float = 0.5, volts: float = 3.0, rows: int = 12) -> pd.DataFrame:
    """A rest at a voltage."""
    return step("R", hours, 0.0, lambda x: volts + 0 * x, rows)


def assemble(*steps: pd.DataFrame) -> pd.DataFrame:
    """Join steps into a test: record, cycle, step, elapsed time and capacities that are reset at every step."""
    parts, elapsed, cycle, charged = [], 0.0, 1, False
    for number, part in enumerate(steps, start=1):
        part = part.copy()
        interval = np.diff(part["step_time_s"], prepend=0.0)
        moved = part["current_ma"] * interval / 3600
        if part["state"].iloc[0] == "C" and charged and parts and (parts[-1]["state"] != "C").any():
            cycle += 1
        charged = charged or part["state"].iloc[0] == "C"
        part["time_s"] = elapsed + part["step_time_s"]
        part["step"], part["cycle"] = number, cycle
        part["moved_mah"] = moved
        part["charge_mah"] = moved.clip(lower=0).cumsum()
        part["discharge_mah"] = (-moved).clip(lower=0).cumsum()
        elapsed = float(part["time_s"].iloc[-1])
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table["record"] = np.arange(1, len(table) + 1)
    table["net_mah"] = table["moved_mah"].cumsum()
    return table


def cell_test(cycles: int = 2, capacity_mah: float = CAPACITY_MAH) -> pd.DataFrame:
    """The whole test; the capacity falls by 3 % per cycle."""
    steps = [rest_step()]
    for n in range(cycles):
        q = capacity_mah * 0.97**n
        steps += [charge_step(q * 1.05), rest_step(0.1, 4.7, 3), discharge_step(q)]
    return assemble(*steps, rest_step(0.2, 1.9))


# Exports: each returns text


def arbin_csv(t: pd.DataFrame) -> str:
    """Arbin with units in the header, amperes, capacities reset every step."""
    return _csv(
        t,
        {
            "Data_Point": t.record,
            "Test_Time(s)": t.time_s,
            "Step_Time(s)": t.step_time_s,
            "Step_Index": t.step,
            "Cycle_Index": t.cycle,
            "Current(A)": t.current_ma / 1e3,
            "Voltage(V)": t.voltage_v,
            "Charge_Capacity(Ah)": t.charge_mah / 1e3,
            "Discharge_Capacity(Ah)": t.discharge_mah / 1e3,
        },
    )


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


def neware_csv(t: pd.DataFrame, current: str = "mA", capacity: str = "mAh", voltage: str = "V") -> str:
    """Neware, flat; units as asked for."""
    i = {"A": 1e-3, "mA": 1.0, "uA": 1e3}[current]
    q = {"Ah": 1e-3, "mAh": 1.0, "mAs": 3600.0}[capacity]
    v = {"V": 1.0, "mV": 1e3}[voltage]
    names = {"C": "CC Chg", "D": "CC DChg", "R": "Rest"}
    return _csv(
        t,
        {
            "DataPoint": t.record,
            "Cycle Index": t.cycle,
            "Step Index": t.step,
            "Step Type": t.state.map(names),
            "Time": t.step_time_s.map(_clock),
            "Total Time": t.time_s.map(_clock),
            f"Current({current})": t.current_ma * i,
            f"Voltage({voltage})": t.voltage_v * v,
            f"Capacity({capacity})": (t.charge_mah + t.discharge_mah) * q,
            f"DChg. Cap.({capacity})": t.discharge_mah * q,
            f"Chg. Cap.({capacity})": t.charge_mah * q,
        },
    )


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
            step = f",{number},{number},{names[rows.state.iloc[0]]},{_clock(rows.step_time_s.iloc[-1])},0.1,0.2"
            if joined and not lines[-1].startswith(","):
                lines[-1] += step
            else:
                lines.append(step)
            lines += [
                f",,{r.record},{_clock(r.step_time_s)},{_clock(r.time_s)},{r.current_ma / 1e3:.9f},{r.voltage_v:.5f},"
                f"{(r.charge_mah + r.discharge_mah) / 1e3:.9f},0.0,2026-03-06 12:37:25"
                for r in rows.itertuples()
            ]
    return "\n".join(lines) + "\n"


def biologic_mpt(t: pd.DataFrame, header: bool = True, current: bool = True, comma: bool = False) -> str:
    """EC-Lab text; GCPL without a current column, or French with decimal commas, or without header lines."""
    columns = {
        "mode": t.step * 0 + 1,
        "ox/red": (t.state == "C").astype(int),
        "Ns": t.step,
        "time/s": t.time_s,
        "control/V/mA": t.current_ma,
        "Ewe/V": t.voltage_v,
        **({"<I>/mA": t.current_ma} if current else {}),
        "(Q-Qo)/mA.h": t.net_mah,
        "half cycle": t.step,
    }
    body = _csv(t, columns, "\t")
    if comma:
        body = body.replace(".", ",").replace("mA,h", "mA.h")
    if not header:
        return body
    lines = ["EC-Lab ASCII FILE", "", "Galvanostatic Cycling with Potential Limitation", "Electrode material : LNMO"]
    lines += ["Characteristic mass : 1.800 mg", "Mass of active material : 0.001 mg"]
    if comma:
        lines = [line.replace("1.800", "1,800").replace("0.001", "0,001") for line in lines]
    lines[1] = f"Nb header lines : {len(lines) + 1}"
    return "\n".join(lines) + "\n" + body


def btlab_txt(t: pd.DataFrame) -> str:
    """BT-Lab text, Ecell and I."""
    body = biologic_mpt(t).replace("EC-Lab ASCII", "BT-Lab ASCII").replace("Ewe/V", "Ecell/V").replace("<I>/mA", "I/mA")
    return body


def maccor_mims(t: pd.DataFrame, signed: bool = False, comma: bool = False) -> str:
    """Maccor MIMS: minutes, unsigned current, state in Md."""
    body = _csv(
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
    body = _csv(
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


def landt_csv(t: pd.DataFrame) -> str:
    """Landt, snake case, preamble, trailing commas."""
    names = {"C": "charge CC", "D": "discharge CC", "R": "rest"}
    body = _csv(
        t,
        {
            "channel_index": t.step * 0 + 1,
            "cycle_index": t.cycle,
            "step_index": t.step,
            "date_time_iso_string": "04/30/2024 14:33:19",
            "test_time_s": t.time_s,
            "step_time_s": t.step_time_s,
            "current_A": t.current_ma / 1e3,
            "voltage_V": t.voltage_v,
            "discharge_capacity_Ah": t.discharge_mah / 1e3,
            "charge_capacity_Ah": t.charge_mah / 1e3,
            "step_name": t.state.map(names),
        },
    )
    header, *rows = body.strip().split("\n")
    return "\n".join(["cell model:,,,,", "cell id: ,,,,", "test: ,,,,", header, *(row + "," for row in rows)]) + "\n"


def landt_slash_csv(t: pd.DataFrame) -> str:
    """LANHE with slashes."""
    return _csv(
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
    return _csv(t, columns)


def bdf_label_csv(t: pd.DataFrame) -> str:
    """Battery Data Format, labels, cumulative capacities."""
    return _csv(
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
    return _csv(t, {"time (h)": t.time_s / 3600, "potential (V)": t.voltage_v, "current (uA)": t.current_ma * 1e3}, ";")


def novonix_csv(t: pd.DataFrame) -> str:
    """Novonix: protocol above the table, hours, a mass that nobody typed, and step types that are numbers."""
    body = _csv(
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


def _csv(t: pd.DataFrame, columns: dict, separator: str = ",") -> str:
    table = pd.DataFrame({name: values for name, values in columns.items()}, index=t.index)
    return table.to_csv(index=False, sep=separator, lineterminator="\n", float_format="%.9g")


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600):02d}:{int(seconds % 3600 // 60):02d}:{seconds % 60:06.3f}"


def _days(seconds: float) -> str:
    return f"{int(seconds // 86400)}d {_clock(seconds % 86400)}"
