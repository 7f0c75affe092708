"""Files as laboratories write them, of one cell: 2 mg, charged to 4.8 V and discharged to 1.5 V, few rows.

``rows`` is the test; ``text`` writes columns of it as a text file, ``book`` as a workbook, ``check`` reads them.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from campaigns.intake.measurement import CheckedFile, SampleInfo
from campaigns.intake.readers.recording import ReadOptions
from campaigns.intake.validation import check_file

MASS_MG, WINDOW = 2.0, (1.5, 4.8)
CELL = SampleInfo(MASS_MG, "Li1.2Mn0.4Ti0.4O2", 20.0, WINDOW)
START = datetime.datetime(2026, 5, 5, 9)
Columns = Sequence[tuple[str, Iterable[Any]]]


def charge_v(share: np.ndarray | float, low: float = 3.05) -> Any:
    """Voltage at a share of the charge (V)."""
    return low + (4.8 - low) * np.asarray(share) ** 0.6


def discharge_v(share: np.ndarray | float) -> Any:
    """Voltage at a share of the discharge (V)."""
    return 4.65 - 3.15 * np.asarray(share) ** 0.9


def half(
    state: str, hours: float, current_ma: float, voltage: Callable[[float], float], points: int, cycle: int = 1
) -> pd.DataFrame:
    """Rows of one step, counted from its own beginning."""
    share = np.linspace(0, 1, points + 1)[1:]
    return pd.DataFrame(
        {
            "state": state,
            "cycle": cycle,
            "step_s": 3600 * hours * share,
            "current_ma": current_ma,
            "voltage_v": [float(voltage(x)) for x in share],
        }
    )


def joined(*steps: pd.DataFrame) -> pd.DataFrame:
    """Steps one after the other: elapsed time, step and record numbers, capacities of each step, dates."""
    parts, elapsed = [], 0.0
    for number, part in enumerate(steps, start=1):
        part = part.copy()
        part["step"], part["time_s"] = number, elapsed + part.step_s
        part["moved_mah"] = part.current_ma.abs() * part.step_s / 3600
        elapsed = float(part.time_s.iloc[-1])
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table["record"] = np.arange(1, len(table) + 1)
    table["charge_mah"] = np.where(table.current_ma > 0, table.moved_mah, 0.0)
    table["discharge_mah"] = np.where(table.current_ma < 0, table.moved_mah, 0.0)
    table["date"] = [START + datetime.timedelta(seconds=float(t)) for t in table.time_s]
    table["point"] = table.groupby("step").cumcount() + 1
    return table


def steps(
    *capacities_mah_g: float,
    current_ma_g: float = 20.0,
    points: int = 12,
    rests: bool = True,
    first_charge: float = 260.0,
) -> list[pd.DataFrame]:
    """Steps of a cell that gives these capacities."""
    current = MASS_MG * current_ma_g / 1e3
    found = [half("R", 1.0, 0.0, lambda x: 3.1, 2)] if rests else []
    for cycle, capacity in enumerate(capacities_mah_g, start=1):
        charge, low = (first_charge, 3.05) if cycle == 1 else (1.02 * capacity, 2.0)
        found.append(half("C", charge / current_ma_g, current, lambda x, low=low: charge_v(x, low), points, cycle))
        if rests:
            found.append(half("R", 0.2, 0.0, lambda x: 4.7, 1, cycle))
        found.append(half("D", capacity / current_ma_g, -current, discharge_v, points + 3, cycle))
        if rests:
            found.append(half("R", 0.2, 0.0, lambda x: 1.7, 1, cycle))
    return found


def rows(*capacities_mah_g: float, **options: Any) -> pd.DataFrame:
    """The test of a cell that gives these capacities (mAh/g)."""
    return joined(*steps(*(capacities_mah_g or (220.0,)), **options))


def named(t: pd.DataFrame, charge: str, discharge: str, rest: str) -> list[str]:
    """The states in the words of an instrument."""
    return [{"C": charge, "D": discharge, "R": rest}[state] for state in t.state]


def text(columns: Columns, separator: str = ",", decimal: str = ".") -> str:
    """Columns as text; cells that are text already stay as they are, unless a decimal comma is asked for."""

    def cell(value: Any) -> str:
        written = value if isinstance(value, str) else f"{value:.5f}" if isinstance(value, float) else str(value)
        plain = written.replace(".", "").replace("-", "")
        return written.replace(".", decimal) if plain.isdigit() else written

    lines = [separator.join(header for header, _ in columns)]
    lines += [separator.join(map(cell, line)) for line in zip(*(list(v) for _, v in columns), strict=True)]
    return "\n".join(lines) + "\n"


def ragged(columns: Columns, separator: str = ",", decimal: str = ".") -> str:
    """Columns of unequal length as text, padded with empty cells."""
    length = max(len(list(v)) for _, v in columns)
    padded = [(h, [*(f"{x:.4f}" for x in v), *[""] * (length - len(list(v)))]) for h, v in columns]
    return text(padded, separator, decimal)


def below(table: str) -> str:
    """A table without its header."""
    return table.split("\n", 1)[1]


def book(path: Path, *sheets: tuple[str, Columns]) -> Path:
    """Columns as sheets of a workbook."""
    from openpyxl import Workbook

    workbook = Workbook()
    workbook.remove(workbook.active)
    for title, columns in sheets:
        sheet = workbook.create_sheet(title)
        sheet.append([header for header, _ in columns])
        for line in zip(*(list(v) for _, v in columns), strict=True):
            sheet.append(
                [
                    x.item() if hasattr(x, "item") else x.to_pydatetime() if hasattr(x, "to_pydatetime") else x
                    for x in line
                ]
            )
    workbook.save(path)
    return path


def grid_book(path: Path, lines: Sequence[Sequence[Any]]) -> Path:
    """Lines of cells as a workbook of one sheet."""
    from openpyxl import Workbook

    workbook = Workbook()
    for line in lines:
        workbook.active.append([x.item() if hasattr(x, "item") else x for x in line])
    workbook.save(path)
    return path


def clock(seconds: float) -> str:
    """``25:12:00.000``."""
    return f"{int(seconds // 3600):02d}:{int(seconds % 3600 // 60):02d}:{seconds % 60:06.3f}"


def amperes(values: Iterable[float]) -> list[str]:
    """Milliamperes as amperes, or mAh as Ah, with all their digits."""
    return [f"{value / 1e3:.9f}" for value in values]


def plain(t: pd.DataFrame) -> str:
    """Time, voltage and current alone."""
    return text([("Time (s)", t.time_s), ("Voltage (V)", t.voltage_v), ("Current (mA)", t.current_ma)])


def arbin(t: pd.DataFrame, cycles: int = 0, records: int = 0, seconds: float = 0.0) -> str:
    """Arbin's columns, from a later cycle, record or time on where asked for."""
    return text(
        [
            ("Data_Point", t.record + records), ("Test_Time(s)", t.time_s + seconds),
            ("Date_Time", [d.strftime("%m/%d/%Y %H:%M:%S") for d in t.date]), ("Step_Time(s)", t.step_s),
            ("Step_Index", t.step), ("Cycle_Index", t.cycle + cycles), ("Current(A)", amperes(t.current_ma)),
            ("Voltage(V)", t.voltage_v), ("Charge_Capacity(Ah)", amperes(t.charge_mah)),
            ("Discharge_Capacity(Ah)", amperes(t.discharge_mah)),
        ]
    )  # fmt: skip


def neware(t: pd.DataFrame) -> str:
    """Neware's columns."""
    return text(
        [
            ("Cycle Index", t.cycle), ("Step Index", t.step), ("Step Type", named(t, "CC Chg", "CC DChg", "Rest")),
            ("Time", map(clock, t.step_s)), ("Total Time", map(clock, t.time_s)), ("Current(mA)", t.current_ma),
            ("Voltage(V)", t.voltage_v), ("Capacity(mAh)", t.moved_mah),
        ]
    )  # fmt: skip


def with_pulses(count: int, seconds: float, current_ma: float = -2.0) -> pd.DataFrame:
    """A good cycle, and short pulses after small charges."""
    found = steps(220.0)
    for cycle in range(2, count + 2):
        found.append(half("C", 1.5, 0.04, lambda x: 2.5 + 1.7 * x, 3, cycle))
        found.append(half("D", seconds / 3600, current_ma, lambda x: 3.9 - 0.5 * x, 3, cycle))
    return joined(*found)


def with_pauses(*pauses: tuple[float, float]) -> pd.DataFrame:
    """A discharge that rests at shares of it, each for so many hours."""
    first, charge, rest, discharge, last = steps(220.0, points=27)
    found, begin = [first, charge, rest], 0
    for share, hours in (*pauses, (1.0, 0.0)):
        end = round(share * len(discharge))
        part = discharge.iloc[begin:end].copy()
        part["step_s"] -= float(discharge.step_s.iloc[begin - 1]) if begin else 0.0
        found.append(part)
        if hours:
            volts = float(part.voltage_v.iloc[-1]) + 0.15
            found.append(half("R", hours, 0.0, lambda x, volts=volts: volts, 3))
        begin = end
    return joined(*found, last)


def check(tmp_path: Path, content: str | bytes, sample: SampleInfo = CELL, **options: float) -> CheckedFile:
    path = tmp_path / "cell.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return check_file(path, sample, ReadOptions(**options))


def assert_good(checked: CheckedFile, *expected: float) -> None:
    assert [str(hit) for hit in checked.rules if hit.severity != "warning"] == []
    found = [d.capacity_mah_g for d in checked.discharges]
    assert found == pytest.approx(list(expected or (220.0, 215.0)), rel=2e-3)


def said(checked: CheckedFile, rule: str) -> str:
    """The message of a rule that refuses."""
    return next(hit.message for hit in checked.rules if hit.id == rule and hit.severity == "error")
