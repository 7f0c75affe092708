"""Exports as cyclers write them, of tests whose answers are known: for examples, and for trying a reader.

A test is a table of rows, made of steps by :func:`assemble`; charge is counted as a cycler does it: the current of a
row held since the row before. Four makers' text formats are written, with their units and their headers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

Voltages = np.ndarray | Callable[[np.ndarray], np.ndarray]
"""Voltages of the rows (V), or what gives them at a share of the step from 0 to 1."""


def step(state: str, hours: float, current_ma: float, voltage: Voltages, rows: int) -> pd.DataFrame:
    """Rows of one step.

    Args:
        state: ``C``, ``D`` or ``R`` for charge, discharge and rest.
        hours: how long it takes (h).
        current_ma: negative on discharge (mA).
        voltage: at each of the rows.
        rows: how many, the last one at the end.
    """
    share = np.linspace(0, 1, rows + 1)[1:]
    volts = voltage(share) if callable(voltage) else np.asarray(voltage)
    return pd.DataFrame(
        {"state": state, "step_time_s": 3600 * hours * share, "current_ma": current_ma, "voltage_v": volts}
    )


def charge_step(capacity_mah: float, current_ma: float, rows: int = 150) -> pd.DataFrame:
    """A charge from 3.0 to 4.8 V."""
    return step("C", capacity_mah / current_ma, current_ma, lambda x: 3.0 + 1.3 * x**0.3 + 0.5 * x**3, rows)


def discharge_step(capacity_mah: float, current_ma: float, voltage: Voltages, rows: int = 180) -> pd.DataFrame:
    """A discharge with the given voltages."""
    return step("D", capacity_mah / current_ma, -current_ma, voltage, rows)


def rest_step(hours: float = 0.5, volts: float = 3.0, rows: int = 12) -> pd.DataFrame:
    """A rest at a voltage (V)."""
    return step("R", hours, 0.0, lambda x: volts + 0 * x, rows)


def assemble(*steps: pd.DataFrame) -> pd.DataFrame:
    """Join steps into a test: record, cycle, step, elapsed time and capacities that are reset at every step."""
    parts: list[pd.DataFrame] = []
    elapsed, cycle, charged = 0.0, 1, False
    for number, one in enumerate(steps, start=1):
        part = one.copy()
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


# -- formats ---------------------------------------------------------------------------------------------


def arbin_csv(t: pd.DataFrame) -> str:
    """Arbin with units in the header, amperes, capacities reset every step."""
    return table_text(
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


def neware_csv(t: pd.DataFrame) -> str:
    """Neware, flat."""
    names = {"C": "CC Chg", "D": "CC DChg", "R": "Rest"}
    return table_text(
        t,
        {
            "DataPoint": t.record,
            "Cycle Index": t.cycle,
            "Step Index": t.step,
            "Step Type": t.state.map(names),
            "Time": t.step_time_s.map(clock),
            "Total Time": t.time_s.map(clock),
            "Current(mA)": t.current_ma,
            "Voltage(V)": t.voltage_v,
            "Capacity(mAh)": t.charge_mah + t.discharge_mah,
            "DChg. Cap.(mAh)": t.discharge_mah,
            "Chg. Cap.(mAh)": t.charge_mah,
        },
    )


def biologic_mpt(t: pd.DataFrame) -> str:
    """EC-Lab text, with ``electrode`` and ``mass_mg`` of ``t.attrs`` in its header."""
    columns = {
        "mode": t.step * 0 + 1,
        "ox/red": (t.state == "C").astype(int),
        "Ns": t.step,
        "time/s": t.time_s,
        "control/V/mA": t.current_ma,
        "Ewe/V": t.voltage_v,
        "<I>/mA": t.current_ma,
        "(Q-Qo)/mA.h": t.net_mah,
        "half cycle": t.step,
    }
    lines = [
        "EC-Lab ASCII FILE",
        "Nb header lines : 7",
        "Galvanostatic Cycling with Potential Limitation",
        f"Electrode material : {t.attrs.get('electrode', 'LNMO')}",
        f"Characteristic mass : {t.attrs.get('mass_mg', 1.8):.3f} mg",
        "Mass of active material : 0.001 mg",
    ]
    return "\n".join(lines) + "\n" + table_text(t, columns, "\t")


def landt_csv(t: pd.DataFrame) -> str:
    """Landt, snake case, preamble, trailing commas."""
    names = {"C": "charge CC", "D": "discharge CC", "R": "rest"}
    body = table_text(
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


FORMATS: Mapping[str, tuple[str, Callable[[pd.DataFrame], str]]] = MappingProxyType(
    {
        "arbin": (".csv", arbin_csv),
        "neware": (".csv", neware_csv),
        "biologic": (".mpt", biologic_mpt),
        "landt": (".csv", landt_csv),
    }
)
"""Suffix and writer of each maker's format."""


def table_text(t: pd.DataFrame, columns: Mapping[str, object], separator: str = ",") -> str:
    """Columns as text, nine digits each."""
    table = pd.DataFrame(dict(columns), index=t.index)
    return str(table.to_csv(index=False, sep=separator, lineterminator="\n", float_format="%.9g"))


def clock(seconds: float) -> str:
    """A time as ``hours:minutes:seconds``."""
    return f"{int(seconds // 3600):02d}:{int(seconds % 3600 // 60):02d}:{seconds % 60:06.3f}"
