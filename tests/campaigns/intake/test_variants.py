"""The same cell as many makers, languages and people write it: each kind of case in words and numbers of its own.

``tests/lab_files.py`` writes the files; all hold 220 mAh/g unless a test says otherwise.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lab_files as lab
import numpy as np
import pandas as pd
import pytest

from campaigns.intake.measurement import CheckedFile, SampleInfo
from campaigns.intake.readers.recording import ReadOptions
from campaigns.intake.validation import check_file

CELL = SampleInfo(lab.MASS_MG, "Li1.2Mn0.4Ti0.4O2", 20.0, lab.WINDOW)
ONE, TWO, OTHER = lab.rows(220.0), lab.rows(231.0, 224.0), lab.rows(150.0, first_charge=190.0)
BASE = [("Time (s)", ONE.time_s), ("Voltage (V)", ONE.voltage_v), ("Current (mA)", ONE.current_ma)]
PLAIN = lab.plain(ONE)
LINES = PLAIN.strip().split("\n")


def check(
    tmp_path: Path,
    content: str,
    sample: SampleInfo = CELL,
    encoding: str = "utf-8",
    suffix: str = ".csv",
    **options: float,
) -> CheckedFile:
    path = tmp_path / f"cell{suffix}"
    path.write_bytes(content.encode(encoding))
    return check_file(path, sample, ReadOptions(**options))


def capacities(checked: CheckedFile) -> list[float]:
    return [round(d.capacity_mah_g, 1) for d in checked.discharges if d.capacity_mah_g is not None]


def assert_good(checked: CheckedFile, *expected: float) -> None:
    """Nothing refused or doubted, and the capacities that were put in (mAh/g)."""
    assert [str(hit) for hit in checked.rules if hit.severity != "warning"] == []
    assert capacities(checked) == list(expected or (220.0,))


def assert_refused(checked: CheckedFile, rule: str) -> None:
    assert checked.status == "refused", capacities(checked)
    assert rule in {hit.id for hit in checked.rules if hit.severity == "error"}, checked.rules


def unsigned(charge: str, discharge: str, rest: str = "Rest", current: str = "Current (mA)") -> list:
    return [("State", lab.named(ONE, charge, discharge, rest)), *BASE[:2], (current, ONE.current_ma.abs())]


# Languages


@pytest.mark.parametrize(
    ("encoding", "separator", "decimal", "headers", "states"),
    [
        ("gbk", ",", ".", ["循环", "状态", "测试时间(s)", "电压(V)", "电流(mA)"], ["恒流充电", "恒流放电", "静置"]),
        (
            "gb18030",
            "\t",
            ".",
            ["循环号", "工作模式", "总时间(秒)", "电压（V）", "电流（mA）"],
            ["充电", "放电", "搁置"],
        ),
        ("big5", ",", ".", ["循環序號", "狀態", "總時間(s)", "電壓(V)", "電流(mA)"], ["充電", "放電", "靜置"]),
        (
            "utf-8",
            ",",
            ".",
            ["循环号 Cycle", "状态 State", "总时间 Time(s)", "电压 Voltage(V)", "电流 Current(mA)"],
            ["CC充电", "CC放电", "休眠"],
        ),
        (
            "cp1252",
            ";",
            ",",
            ["Zyklus", "Zustand", "Testzeit [s]", "Spannung [V]", "Strom [mA]"],
            ["Laden", "Entladen", "Pause"],
        ),
        (
            "utf-8",
            "\t",
            ",",
            ["Zyklusnummer", "Modus", "Zeit in s", "Zellspannung in V", "Stromstärke in mA"],
            ["Ladung", "Entladung", "Ruhe"],
        ),
        (
            "cp1252",
            ";",
            ",",
            ["N° cycle", "État", "Temps (s)", "Tension (V)", "Courant (mA)"],
            ["Charge", "Décharge", "Repos"],
        ),
        (
            "utf-8-sig",
            ";",
            ",",
            ["CYCLE", "ETAT", "TEMPS(S)", "TENSION(V)", "COURANT(MA)"],
            ["CHARGE", "DECHARGE", "ATTENTE"],
        ),
        (
            "utf-16",
            ";",
            ",",
            ["Ciclo", "Estado", "Tiempo (s)", "Voltaje (V)", "Corriente (mA)"],
            ["Carga", "Descarga", "Reposo"],
        ),
        (
            "utf-8",
            ";",
            ".",
            ["Ciclo", "Stato", "Tempo (s)", "Tensione (V)", "Corrente (mA)"],
            ["Carica", "Scarica", "Riposo"],
        ),
        ("cp932", ",", ".", ["サイクル", "状態", "経過時間[Sec]", "電圧[V]", "電流[mA]"], ["充電", "放電", "休止"]),
        ("cp949", ",", ".", ["사이클", "상태", "총 시간(s)", "전압(V)", "전류(mA)"], ["충전", "방전", "휴지"]),
        (
            "cp1251",
            ";",
            ",",
            ["Цикл", "Состояние", "Время (s)", "Напряжение (V)", "Ток (mA)"],
            ["Заряд", "Разряд", "Пауза"],
        ),
    ],
    ids=[
        "gbk",
        "land tabs",
        "big5",
        "two scripts",
        "german",
        "german words",
        "french",
        "french upper",
        "spanish",
        "italian",
        "japanese",
        "korean",
        "russian",
    ],
)
def test_headers_and_states_are_read_in_their_language(
    tmp_path: Path, encoding: str, separator: str, decimal: str, headers: Sequence[str], states: Sequence[str]
) -> None:
    values = [ONE.cycle, lab.named(ONE, *states), ONE.time_s, ONE.voltage_v, ONE.current_ma.abs()]
    content = lab.text(list(zip(headers, values, strict=True)), separator, decimal)
    assert_good(check(tmp_path, content, encoding=encoding))


@pytest.mark.parametrize(
    ("charge", "discharge"),
    [
        ("Delithiation", "Lithiation"),
        ("delith.", "lith."),
        ("DELITHIATE", "LITHIATE"),
        ("Li extraction", "Li insertion"),
        ("De-lithiation", "Re-lithiation"),
        ("CC_Chg", "CC_DChg"),
        ("Charging", "Discharging"),
        ("CHG", "DIS"),
        ("CCCV Charge", "CC Discharge"),
        ("C", "D"),
        ("CHA", "DCH"),
        ("Oxidation", "Reduction"),
        ("1", "-1"),
        ("Délithiation", "Lithiation"),
        ("Aufladen", "Entladung CC"),
        ("恒压充电", "恒流放电"),
        ("up", "down"),
    ],
)
def test_states_are_understood_in_the_words_of_a_cathode(tmp_path: Path, charge: str, discharge: str) -> None:
    assert_good(check(tmp_path, lab.text(unsigned(charge, discharge))))


# Makers


def net_ah() -> list[str]:
    """Charge moved since the start, as a counter that runs back on discharge (Ah)."""
    return lab.amperes(np.cumsum(ONE.current_ma * np.diff(ONE.time_s, prepend=0.0) / 3600))


def digatron(headers: str, times: Sequence[object], charges: Sequence[Sequence[object]], decimal: str = ".") -> str:
    values = [
        ONE.step,
        lab.named(ONE, "CHA", "DCH", "PAU"),
        times,
        ONE.voltage_v,
        lab.amperes(ONE.current_ma),
        *charges,
    ]
    return lab.text(list(zip(headers.split(";"), values, strict=True)), ";", decimal)


def basytec(headers: str, *values: Sequence[object]) -> str:
    head = "~Resultfile from Basytec Battery Test System\n~Name of Test: x\n"
    return head + lab.text(list(zip(headers.split(), values, strict=True)), "\t")


def gamry(*curves: pd.DataFrame) -> str:
    found = [
        "EXPLAIN\nTAG\tPWR800_DISCHARGE\nOCVCURVE\tTABLE\t1\n\tPt\tT\tVf\tVm\n\t#\ts\tV vs. Ref.\tV\n\t0\t1\t3.1\t3.1"
    ]
    begin = 0.0
    for number, t in enumerate(curves, start=1):
        found.append(f"CURVE{number}\tTABLE\t{len(t)}\n\tPt\tT\tVf\tIm\tVu\tSig\n\t#\ts\tV vs. Ref.\tA\tV\tV")
        found += [
            f"\t{i}\t{r.time_s - begin:.3f}\t{r.voltage_v:.5E}\t{r.current_ma / 1e3:.5E}\t0\t0"
            for i, r in enumerate(t.itertuples())
        ]
        begin = float(t.time_s.iloc[-1])
    return "\n".join(found) + "\n"


def novonix(t: pd.DataFrame, protocol: int, mass: str = "1.000") -> str:
    step = [f"   [{i}: Constant current charge, 0.04 mA, 4.8 V]" for i in range(protocol)]
    head = ["[Summary]", "Novonix UHPC data file", f"Mass (g): {mass}", "[Protocol]", *step, "[End protocol]", "[Data]"]
    table = lab.text(
        [
            ("Date and Time", [d.strftime("%Y-%m-%d %I:%M:%S %p") for d in t.date]),
            ("Cycle Number", t.cycle - 1),
            ("Step Type", lab.named(t, "7", "9", "0")),
            ("Run Time (h)", t.time_s / 3600),
            ("Current (A)", lab.amperes(t.current_ma)),
            ("Potential (V)", t.voltage_v),
            ("Capacity (Ah)", lab.amperes(t.moved_mah)),
        ]
    )
    return "\n".join(head) + "\n" + table


MAKERS = {
    "digatron english": digatron(
        "Step;Status;Prog Time;Voltage;Current;AhAccu", [*map(lab.clock, ONE.time_s)], [net_ah()]
    ),
    "digatron german net": digatron("Schritt;Zustand;Programmdauer;Spannung;Strom;AhAkku", ONE.time_s, [net_ah()], ","),
    "digatron milliseconds": digatron(
        "Schritt;Zustand;Programmdauer [ms];Spannung [V];Strom [A];AhLad [Ah];AhEla [Ah]",
        ONE.time_s * 1e3,
        [lab.amperes(ONE.charge_mah), lab.amperes(ONE.discharge_mah)],
        ",",
    ),
    "basytec with its own clock": basytec(
        "~Time[h] DataSet Date Time t-Step[h] Line Command U[V] I[A] Ah[Ah] T1[°C] Cyc-Count State",
        ONE.time_s / 3600,
        ONE.record,
        [d.strftime("%d.%m.%Y") for d in ONE.date],
        [d.strftime("%H:%M:%S") for d in ONE.date],
        ONE.step_s / 3600,
        ONE.step,
        lab.named(ONE, "Charge", "Discharge", "Pause"),
        ONE.voltage_v,
        lab.amperes(ONE.current_ma),
        net_ah(),
        [25.1] * len(ONE),
        ONE.cycle,
        [0] * len(ONE),
    ),
    "basytec per mass": basytec(
        "~Time[min] U[V] I[mA/g] Cyc-Count", ONE.time_s / 60, ONE.voltage_v, ONE.current_ma / 2e-3, ONE.cycle
    ),
    "amperes per gram": basytec(
        "Time[h] U[V] I[A/g]", ONE.time_s / 3600, ONE.voltage_v, [f"{i:.6f}" for i in ONE.current_ma / 2]
    ),
    "mA g-1": lab.text(
        [("time/h", ONE.time_s / 3600), ("E/V", ONE.voltage_v), ("Specific current/mA g-1", ONE.current_ma / 2e-3)]
    ),
    "current density": lab.text(
        [*BASE[:2], ("Current density (mA/g)", ONE.current_ma / 2e-3), ("Capacity (mAh/g)", ONE.moved_mah / 2e-3)]
    ),
    "gamry": gamry(ONE),
    "gamry in two curves": gamry(ONE[ONE.step < 4], ONE[ONE.step >= 4]),
    "gamry decimal comma": gamry(ONE).replace(".", ","),
    "squidstat": lab.text(
        [
            ("Step number", ONE.step),
            ("Step name", ["Constant current"] * len(ONE)),
            ("Elapsed Time (s)", ONE.time_s),
            ("Working Electrode (V)", ONE.voltage_v),
            ("Current (A)", lab.amperes(ONE.current_ma)),
        ]
    ),
    "squidstat hours": lab.text(
        [
            ("Elapsed time (hr)", ONE.time_s / 3600),
            ("Working electrode (V)", ONE.voltage_v),
            ("Counter electrode (V)", [0.0] * len(ONE)),
            ("Current (mA)", ONE.current_ma),
        ]
    ),
    "autolab comma": lab.text(
        [
            ("Potential applied (V)", [0.0] * len(ONE)),
            ("Time (s)", ONE.time_s),
            ("WE(1).Current (A)", lab.amperes(ONE.current_ma)),
            ("WE(1).Potential (V)", ONE.voltage_v),
            ("Index", ONE.record),
        ],
        ";",
        ",",
    ),
    "autolab tabs": lab.text(
        [
            ("Corrected time (s)", ONE.time_s),
            ("WE(1).Potential (V)", ONE.voltage_v),
            ("WE(1).Current (A)", lab.amperes(ONE.current_ma)),
        ],
        "\t",
    ),
    "novonix": novonix(ONE, 3),
    "novonix, header in line 900": novonix(ONE, 890),
    "novonix, header in line 6000": novonix(ONE, 5990),
    "protocol of plain lines": "\n".join(f"Line {i}: charge to 4.8 V, then rest" for i in range(3000)) + "\n" + PLAIN,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_the_exports_of_makers_are_read(tmp_path: Path, maker: str) -> None:
    assert_good(check(tmp_path, MAKERS[maker], suffix=".txt"))


def test_a_current_per_mass_is_that_of_the_instrument_whatever_the_mass_is(tmp_path: Path) -> None:
    checked = check(tmp_path, MAKERS["basytec per mass"], replace(CELL, active_mass_mg=3.0))
    assert_good(checked)
    assert checked.discharges[0].capacity_mah == pytest.approx(0.66)
    assert any("current per gram, by the mass that the instrument was told" in note for note in checked.notes)


# How numbers, lines and times are written


def thousands(values: Sequence[float], mark: str, point: str = ".") -> list[str]:
    return [f"{v:,.2f}".replace(",", "x").replace(".", point).replace("x", mark) for v in values]


WRITTEN = {
    "thousands in quotes": lab.text([("Time (s)", [f'"{t}"' for t in thousands(ONE.time_s, ",")]), *BASE[1:]]),
    "thousands german": lab.text(
        [
            ("Zeit (s)", thousands(ONE.time_s, ".", ",")),
            ("Spannung (V)", ONE.voltage_v),
            ("Strom (mA)", ONE.current_ma),
        ],
        ";",
        ",",
    ),
    "thousands swiss": lab.text([("Zeit (s)", thousands(ONE.time_s, "'")), *BASE[1:]], ";"),
    "thousands french": lab.text(
        [
            ("Temps (s)", thousands(ONE.time_s, "\u202f", ",")),
            ("Tension (V)", ONE.voltage_v),
            ("Courant (mA)", ONE.current_ma),
        ],
        ";",
        ",",
    ),
    "thousands in the voltage": lab.text(
        [BASE[0], ("Voltage (mV)", [f'"{v:,.1f}"' for v in ONE.voltage_v * 1e3]), BASE[2]]
    ),
    "minus": PLAIN.replace(",-", ",−"),
    "en dash": PLAIN.replace(",-", ",–"),
    "full-width minus": PLAIN.replace(",-", ",－"),
    "minus and decimal comma": lab.text(BASE, ";", ",").replace(";-", ";−"),
    "comment lines": "\n".join(
        ["# made by x", "# a: b", *LINES[:6], "# pause 10:20:30", *LINES[6:12], "! stop: 3", *LINES[12:]]
    ),
    "remark in one cell": "\n".join([*LINES[:6], "// paused: why", *LINES[6:]]),
    "footer": PLAIN + "\nEnd of data\nOperator: x\n",
    "footer with numbers of the day": PLAIN + "\n\nExported: 2026-05-05 10:11:12\n",
    "sep=;": "sep=;\n" + lab.text(BASE, ";", ","),
    "sep=,": "sep=,\n" + PLAIN,
    "quoted lines": "\n".join(f'"{line}"' for line in LINES),
    "quoted lines and semicolons": "\n".join(f'"{line.replace(",", ";")}";' for line in LINES),
    "quoted cells": "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in LINES),
    "T and t": lab.text(
        [("T(K)", [298.1] * len(ONE)), ("t(min)", ONE.time_s / 60), ("U(V)", ONE.voltage_v), ("I(mA)", ONE.current_ma)]
    ),
    "T without a unit": lab.text(
        [("T", [25.1] * len(ONE)), ("t", ONE.time_s), ("U/V", ONE.voltage_v), ("I/mA", ONE.current_ma)]
    ),
    "t before T": lab.text(
        [("t/s", ONE.time_s), ("U/V", ONE.voltage_v), ("I/mA", ONE.current_ma), ("T/°C", [25.0] * len(ONE))]
    ),
    "T with a damaged degree": lab.text(
        [
            ("T(\ufffdC)", [25.1] * len(ONE)),
            ("t(h)", ONE.time_s / 3600),
            ("U(V)", ONE.voltage_v),
            ("I(mA)", ONE.current_ma),
        ]
    ),
    "days and clock": lab.text(
        [("Test Time", [f"{int(t // 86400)}d {lab.clock(t % 86400)}" for t in ONE.time_s]), *BASE[1:]]
    ),
    "days dot clock": lab.text(
        [("Test Time", [f"{int(t // 86400)}.{lab.clock(t % 86400)}" for t in ONE.time_s]), *BASE[1:]]
    ),
    "days": lab.text([("Time (days)", [f"{t / 86400:.9f}" for t in ONE.time_s]), *BASE[1:]]),
    "days under h:m:s": lab.text([("Time (h:m:s)", [f"{t / 86400:.9f}" for t in ONE.time_s]), *BASE[1:]]),
    "days that the capacity tells": lab.text(
        [("Time", [f"{t / 86400:.9f}" for t in ONE.time_s]), *BASE[1:], ("Capacity (mAh)", ONE.moved_mah)]
    ),
    "hours that the capacity tells": lab.text(
        [("Time", [f"{t / 3600:.9f}" for t in ONE.time_s]), *BASE[1:], ("Capacity (mAh)", ONE.moved_mah)]
    ),
    "total time beside step time": lab.text(
        [("Time", [*map(lab.clock, ONE.step_s)]), ("Total Time", [*map(lab.clock, ONE.time_s)]), *BASE[1:]]
    ),
    "step time with a step": lab.text([("Step Time (s)", ONE.step_s), ("Step", ONE.step), *BASE[1:]]),
    "step time alone": lab.text([("Step Time (s)", ONE.step_s), *BASE[1:]]),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_numbers_and_times_are_read_as_they_are_written(tmp_path: Path, kind: str) -> None:
    assert_good(check(tmp_path, WRITTEN[kind]))


FINE = lab.rows(220.0, 215.0, points=40)


@pytest.mark.parametrize(
    ("header", "written"),
    [
        ("Time", [d.strftime("%H:%M:%S") for d in FINE.date]),
        ("Clock time", [d.strftime("%I:%M:%S %p") for d in FINE.date]),
        ("Time (s)", [float(d.hour * 3600 + d.minute * 60 + d.second) for d in FINE.date]),
        ("Time (h)", [d.hour + d.minute / 60 + d.second / 3600 for d in FINE.date]),
        ("Uhrzeit", [d.strftime("%H:%M:%S") for d in FINE.date]),
    ],
    ids=["text", "am and pm", "seconds", "hours", "german"],
)
def test_a_clock_that_begins_again_each_day_loses_nothing(
    tmp_path: Path, header: str, written: Sequence[object]
) -> None:
    content = lab.text([(header, written), ("Voltage (V)", FINE.voltage_v), ("Current (mA)", FINE.current_ma)])
    assert_good(check(tmp_path, content), 220.0, 215.0)


MINUTES = [f"{int(t // 3600)}:{round(t % 3600 / 60) % 60:02d}" for t in np.round(FINE.time_s / 60) * 60]


@pytest.mark.parametrize("header", ["Time [hh:mm]", "Time (h:min)", "Zeit (h:mm)"])
def test_hours_and_minutes_are_what_the_header_says(tmp_path: Path, header: str) -> None:
    content = lab.text([(header, MINUTES), ("Voltage (V)", FINE.voltage_v), ("Current (mA)", FINE.current_ma)])
    assert capacities(check(tmp_path, content)) == pytest.approx([220.0, 215.0], abs=0.5)


def test_two_parts_without_a_unit_are_settled_by_a_capacity_or_asked_about(tmp_path: Path) -> None:
    columns = [("Time", MINUTES), ("Voltage (V)", FINE.voltage_v), ("Current (mA)", FINE.current_ma)]
    refused = check(tmp_path, lab.text(columns))
    assert_refused(refused, "E8")
    assert "may be h:mm or m:ss" in str(refused.rules[0])
    assert capacities(check(tmp_path, lab.text(columns), time_unit=60.0)) == pytest.approx([220.0, 215.0], abs=0.5)
    settled = check(tmp_path, lab.text([*columns, ("Capacity (mAh)", FINE.moved_mah)]))
    assert capacities(settled) == pytest.approx([220.0, 215.0], abs=0.5)


@pytest.mark.parametrize(
    ("rows", "sample", "factor", "option"),
    [
        (ONE, CELL, 60.0, "--time-unit min gives 220 mAh/g"),
        (lab.rows(180.0, current_ma_g=100.0), replace(CELL, current_ma_g=100.0), 60.0, "min gives 180 mAh/g"),
        (lab.rows(300.0, first_charge=330.0), CELL, 60.0, "min gives 300 mAh/g"),
    ],
)
def test_minutes_under_seconds_are_doubted(
    tmp_path: Path, rows: pd.DataFrame, sample, factor: float, option: str
) -> None:
    columns = [("Time (s)", rows.time_s / factor), ("Voltage (V)", rows.voltage_v), ("Current (mA)", rows.current_ma)]
    doubted = check(tmp_path, lab.text(columns), sample)
    assert doubted.status == "doubtful"
    assert option in str(doubted.rules[0])
    confirmed = check(tmp_path, lab.text([*columns, ("Discharge capacity (mAh)", rows.discharge_mah / factor)]), sample)
    assert confirmed.status == "warned"  # the instrument's own capacity agrees: the cell is as bad as that


@pytest.mark.parametrize(("header", "factor"), [("Time (s)", 1e-3), ("Time (min)", 1.0), ("Time (s)", 3600.0 * 24)])
def test_other_wrong_units_of_time_are_refused(tmp_path: Path, header: str, factor: float) -> None:
    assert check(tmp_path, lab.text([(header, ONE.time_s / factor), *BASE[1:]])).status == "refused"


@pytest.mark.parametrize(
    ("header", "form", "scale"),
    [("Current (A)", "{:.5f}", 1e3), ("Current (A)", "{:.0E}", 1e3), ("I/mA", "{:.2f}", 1.0)],
)
def test_a_current_of_one_digit_is_told(tmp_path: Path, header: str, form: str, scale: float) -> None:
    written = [form.format(i / scale) for i in ONE.current_ma]
    checked = check(tmp_path, lab.text([*BASE[:2], (header, written)]))
    assert "E7" in {hit.id for hit in checked.rules if hit.severity == "warning"}
    sure = check(tmp_path, lab.text([*BASE[:2], (header, written), ("Discharge capacity (mAh)", ONE.discharge_mah)]))
    assert "E7" not in {hit.id for hit in sure.rules}


@pytest.mark.parametrize("written", ["{:.5f}", "{:.4f}", "{:.4E}"])
def test_zeros_behind_a_number_are_digits(tmp_path: Path, written: str) -> None:
    checked = check(tmp_path, lab.text([*BASE[:2], ("Current (mA)", [written.format(i) for i in ONE.current_ma])]))
    assert "E7" not in {hit.id for hit in checked.rules}


@pytest.mark.parametrize(
    "beside", [[], [("State", ONE.state)], [("Capacity (mAh)", ONE.moved_mah)]], ids=["alone", "state", "capacity"]
)
def test_currents_that_all_read_zero_have_too_few_digits(tmp_path: Path, beside: list) -> None:
    written = [f"{i / 1e3:.3f}" for i in ONE.current_ma]
    refused = check(tmp_path, lab.text([*BASE[:2], *beside, ("Current (A)", written)]))
    assert_refused(refused, "E7")
    assert "too few digits" in str(refused.rules[0])


# Steps, pulses, pauses


def short_rest(seconds: float) -> pd.DataFrame:
    first, charge, _, discharge, _ = lab.steps(100.0, current_ma_g=1000.0, points=9)
    return lab.joined(first, charge, lab.half("R", seconds / 3600, 0.0, lambda x: 4.7, 1), discharge)


@pytest.mark.parametrize("seconds", [5.0, 10.0, 29.0])
@pytest.mark.parametrize("beside", ["step", "state", "nothing", "unsigned"])
def test_a_step_time_that_does_not_fall_loses_no_interval(tmp_path: Path, seconds: float, beside: str) -> None:
    t = short_rest(seconds)
    columns = [("Step Time (s)", t.step_s), ("Voltage (V)", t.voltage_v)]
    columns += {"step": [("Step", t.step)], "nothing": []}.get(beside, [("State", t.state)])
    current = t.current_ma.abs() if beside == "unsigned" else t.current_ma
    content = lab.text([*columns, ("Current (mA)", current)])
    assert_good(check(tmp_path, content, replace(CELL, current_ma_g=1000.0)), 100.0)


@pytest.mark.parametrize("export", [lab.arbin, lab.neware, lab.plain])
@pytest.mark.parametrize(("count", "seconds", "current"), [(4, 10, -2.0), (3, 30, -1.0), (2, 120, -0.4), (6, 18, -3.0)])
def test_pulses_after_a_good_discharge_do_not_refuse_it(tmp_path: Path, export, count, seconds, current) -> None:
    checked = check(tmp_path, export(lab.with_pulses(count, seconds, current)))
    assert_good(checked)
    assert f"{count} pulses of the current left out" in checked.notes


def test_a_pulse_within_the_charge_is_no_first_cycle(tmp_path: Path) -> None:
    first, charge, rest, discharge, last = lab.steps(220.0)
    head, tail = charge.iloc[:7], charge.iloc[7:].copy()
    tail["step_s"] -= float(head.step_s.iloc[-1])
    pulse = lab.half("D", 30 / 3600, -1.0, lambda x: 3.8 - 0.2 * x, 3)
    assert_good(check(tmp_path, lab.plain(lab.joined(first, head, pulse, tail, rest, discharge, last))))


@pytest.mark.parametrize("export", [lab.arbin, lab.neware, lab.plain])
@pytest.mark.parametrize("pauses", [[(0.3, 0.5)], [(0.5, 2.0)], [(0.5, 12.0)], [(0.8, 48.0)], [(0.3, 3.0), (0.6, 5.0)]])
def test_a_logged_pause_of_any_length_counts_nothing_and_is_told(tmp_path: Path, export, pauses) -> None:
    checked = check(tmp_path, export(lab.with_pauses(*pauses)))
    assert_good(checked)
    assert "W3" in {hit.id for hit in checked.rules}


def test_a_discharge_that_was_at_its_end_does_not_go_on_after_a_rest(tmp_path: Path) -> None:
    again = lab.half("D", 0.5, -0.04, lambda x: 1.9 - 0.4 * x, 6)
    assert_good(check(tmp_path, lab.plain(lab.joined(*lab.steps(220.0), again))))


@pytest.mark.parametrize("header", ["Step Index", "Step", "Step number", "工步号"])
def test_a_step_number_that_counts_points_is_no_step(tmp_path: Path, header: str) -> None:
    columns = [("Test Time (s)", TWO.time_s), (header, TWO.point), ("Voltage (V)", TWO.voltage_v)]
    assert_good(check(tmp_path, lab.text([*columns, ("Current (mA)", TWO.current_ma.abs())])), 231.0, 224.0)


def test_unsigned_currents_are_told_by_the_capacity_that_grows(tmp_path: Path) -> None:
    columns = [("Time (s)", TWO.time_s), ("Voltage (V)", TWO.voltage_v), ("Current (mA)", TWO.current_ma.abs())]
    columns += [("Charge capacity (mAh)", TWO.charge_mah), ("Discharge capacity (mAh)", TWO.discharge_mah)]
    assert_good(check(tmp_path, lab.text(columns)), 231.0, 224.0)


CHARGED = lab.joined(
    lab.half("C", 7.5, 0.04, lambda x: 3.05 + 1.35 * x**0.6, 8), lab.half("C", 2.0, 0.01, lambda x: 4.28 - 0.1 * x, 8)
)


@pytest.mark.parametrize(
    "beside",
    [
        [("Step", CHARGED.step), ("Current (mA)", CHARGED.current_ma)],
        [("Current (mA)", CHARGED.current_ma)],
        [("Step", CHARGED.step), ("Current (mA)", -CHARGED.current_ma)],
        [
            ("Current (mA)", CHARGED.current_ma),
            ("Charge capacity (mAh)", CHARGED.charge_mah.cumsum()),
            ("Discharge capacity (mAh)", [0.0] * len(CHARGED)),
        ],
        [
            ("Schritt", CHARGED.step),
            ("Strom (mA)", CHARGED.current_ma),
            ("Ladekapazität (mAh)", CHARGED.charge_mah),
            ("Entladekapazität (mAh)", [0.0] * len(CHARGED)),
        ],
    ],
    ids=["step", "nothing", "negative", "capacities", "german"],
)
def test_a_charge_in_two_currents_holds_no_discharge(tmp_path: Path, beside: list) -> None:
    columns = [("Time (s)", CHARGED.time_s), ("Voltage (V)", CHARGED.voltage_v), *beside]
    refused = check(tmp_path, lab.text(columns))
    assert_refused(refused, "E1")
    assert refused.discharges == ()


@pytest.mark.parametrize(("top", "severity"), [(4.37, "error"), (4.55, "error"), (4.68, "error"), (4.76, "warning")])
def test_a_charge_that_ended_early_is_not_the_stated_window(tmp_path: Path, top: float, severity: str) -> None:
    t = ONE.copy()
    t["voltage_v"] = np.where(t.state == "C", t.voltage_v.clip(upper=top), t.voltage_v.clip(upper=top - 0.05))
    hit = next(hit for hit in check(tmp_path, lab.plain(t)).rules if hit.id == "E4")
    assert hit.severity == severity
    assert f"{top:g} V, not 4.8 V" in hit.message


# Several tests, cells, or parts in one file


@pytest.mark.parametrize("export", [lab.arbin, lab.neware, lab.plain])
def test_rows_that_were_appended_twice_count_once(tmp_path: Path, export) -> None:
    longer = lab.rows(220.0, 215.0)
    assert_good(check(tmp_path, export(ONE) + lab.below(export(ONE))))
    assert_good(check(tmp_path, export(ONE) + export(ONE)))
    assert_good(check(tmp_path, export(ONE) + lab.below(export(ONE)) * 2))
    assert_good(check(tmp_path, export(ONE) + lab.below(export(longer))), 220.0, 215.0)


@pytest.mark.parametrize(
    ("header", "first", "second"),
    [
        ("Channel", "1", "2"),
        ("Chan", "5", "7"),
        ("Channel_ID", "3", "9"),
        ("通道", "1", "2"),
        ("Kanal", "A", "B"),
        ("Cell", "cell1", "cell2"),
        ("Barcode", "X01", "X02"),
        ("Voie", "1", "2"),
        ("Test_ID", "11", "12"),
    ],
)
def test_rows_of_two_channels_are_refused(tmp_path: Path, header: str, first: str, second: str) -> None:
    def labelled(t: pd.DataFrame, label: str) -> str:
        columns = [(header, [label] * len(t)), ("Time (s)", t.time_s), ("Voltage (V)", t.voltage_v)]
        return lab.text([*columns, ("Current (mA)", t.current_ma)])

    refused = check(tmp_path, labelled(ONE, first) + lab.below(labelled(OTHER, second)))
    assert_refused(refused, "E9")
    assert f"{first}, {second}" in str(refused.rules[0])
    assert_good(check(tmp_path, labelled(ONE, first)))


@pytest.mark.parametrize("export", [lab.arbin, lab.neware, lab.plain])
def test_two_tests_below_each_other_are_refused(tmp_path: Path, export) -> None:
    refused = check(tmp_path, export(ONE) + lab.below(export(OTHER)))
    assert_refused(refused, "E9")
    assert f"row {len(ONE) + 1} begins another test" in str(refused.rules[0])


def by_date(t: pd.DataFrame, days: int = 0) -> list:
    dates = [d + datetime.timedelta(days=days) for d in t.date]
    return [("Date", dates), ("Voltage (V)", t.voltage_v), ("Current (mA)", t.current_ma)]


@pytest.mark.parametrize(
    "sheets",
    [
        [("Cell A", by_date(ONE)), ("Cell B", by_date(OTHER))],
        [("Cell A", by_date(ONE)), ("Cell B", by_date(OTHER, days=9))],
        [("HE-1", by_date(ONE)), ("HE-2", by_date(OTHER, days=9))],
        [
            ("A", BASE),
            ("B", [(h, v) for (h, _), v in zip(BASE, (OTHER.time_s, OTHER.voltage_v, OTHER.current_ma), strict=True)]),
        ],
    ],
    ids=["same days", "named cells", "one after the other", "by time"],
)
def test_sheets_of_two_cells_are_refused(tmp_path: Path, sheets: list) -> None:
    assert_refused(check_file(lab.book(tmp_path / "cells.xlsx", *sheets), CELL), "E9")


def test_sheets_of_one_test_are_joined(tmp_path: Path) -> None:
    half = len(TWO) // 2
    sheets = [(f"data_{i}", by_date(part)) for i, part in enumerate((TWO[:half], TWO[half:]), start=1)]
    assert_good(check_file(lab.book(tmp_path / "cell.xlsx", *sheets), CELL), 231.0, 224.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lab.arbin(TWO, cycles=4), "begins at cycle 5,"),
        (lab.arbin(TWO, records=5000), "begins at record 5001,"),
        (lab.arbin(TWO, seconds=4e5), "begins at 111.1 h,"),
        (
            lab.text(
                [
                    ("Zyklus", TWO.cycle + 11),
                    ("Zeit (h)", TWO.time_s / 3600),
                    ("Spannung (V)", TWO.voltage_v),
                    ("Strom (mA)", TWO.current_ma),
                ],
                ";",
                ",",
            ),
            "begins at cycle 12,",
        ),
        (
            lab.text(
                [("Time (h)", TWO.time_s / 3600 + 90), ("Voltage (V)", TWO.voltage_v), ("Current (mA)", TWO.current_ma)]
            ),
            "h, not at the start",
        ),
    ],
    ids=["cycle", "record", "time", "german", "time alone"],
)
def test_an_export_of_later_cycles_is_no_first_cycle(tmp_path: Path, content: str, words: str) -> None:
    refused = check(tmp_path, content)
    assert_refused(refused, "E13")
    assert words in next(hit.message for hit in refused.rules if hit.id == "E13")
    stated = check(tmp_path, content, replace(CELL, first_cycle=5))
    assert [d.conditions.cycle for d in stated.discharges] == [5, 6]
    assert stated.status == "warned"


def test_a_part_that_begins_with_the_discharge_counts_where_it_is_said_to_continue(tmp_path: Path) -> None:
    part = lab.arbin(ONE[ONE.step >= 4])
    assert_refused(check(tmp_path, part), "E1")
    assert_good(check(tmp_path, part, replace(CELL, first_cycle=1, continues="part1.csv")))


# Capacity-voltage sheets


CHARGE, DISCHARGE = ONE[ONE.state == "C"], ONE[ONE.state == "D"]
QC, VC, QD, VD = CHARGE.moved_mah / 2e-3, CHARGE.voltage_v, DISCHARGE.moved_mah / 2e-3, DISCHARGE.voltage_v
Q2 = QD * 215 / 220
Q, V = "Capacity (mAh/g)", "Voltage (V)"


def chained(*parts: Sequence[float]) -> list[float]:
    return [float(x) for part in parts for x in part]


SHEETS = {
    "potential first": (lab.ragged([("Potential (V vs. Li/Li+)", VD), ("Discharge capacity (mAh g-1)", QD)]), [220.0]),
    "german": (lab.ragged([("spezifische Kapazität (mAh/g)", QD), ("Spannung (V)", VD)], ";", ","), [220.0]),
    "french": (lab.ragged([("Capacité (mAh/g)", QD), ("Tension (V)", VD)], ";", ","), [220.0]),
    "chinese": (lab.ragged([("放电比容量(mAh/g)", QD), ("电压(V)", VD)]), [220.0]),
    "in mAh": (lab.ragged([("Capacity (mAh)", DISCHARGE.moved_mah), (V, VD)]), [220.0]),
    "four columns, voltage first": (
        lab.ragged([(V, VC), ("Charge capacity (mAh/g)", QC), (V, VD), ("Discharge capacity (mAh/g)", QD)]),
        [220.0],
    ),
    "four short names": (
        lab.ragged(
            [("Q charge (mAh/g)", QC), ("E charge (V)", VC), ("Q discharge (mAh/g)", QD), ("E discharge (V)", VD)]
        ),
        [220.0],
    ),
    "four german": (
        lab.ragged(
            [
                ("Ladekapazität (mAh/g)", QC),
                ("Spannung (V)", VC),
                ("Entladekapazität (mAh/g)", QD),
                ("Spannung (V)", VD),
            ],
            ";",
            ",",
        ),
        [220.0],
    ),
    "numbered by pandas": (lab.ragged([(Q, QC), (V, VC), (f"{Q}.1", QD), (f"{V}.1", VD)]), [220.0]),
    "pairs below cycle names": (
        "Cycle 1,,Cycle 2,\n" + lab.ragged([(Q, QD), (V, VD), (Q, Q2), (V, VD)]),
        [220.0, 215.0],
    ),
    "pairs named by cycle": (
        lab.ragged(
            [
                ("Cycle 1 capacity (mAh/g)", QD),
                ("Cycle 1 voltage (V)", VD),
                ("Cycle 2 capacity (mAh/g)", Q2),
                ("Cycle 2 voltage (V)", VD),
            ]
        ),
        [220.0, 215.0],
    ),
    "charge and discharge of each cycle": (
        "Cycle 1 charge,,Cycle 1 discharge,,Cycle 2 charge,,Cycle 2 discharge,\n"
        + lab.ragged([(Q, QC), (V, VC), (Q, QD), (V, VD), (Q, QC), (V, VC), (Q, Q2), (V, VD)]),
        [220.0, 215.0],
    ),
    "loop of two cycles": (lab.ragged([(Q, chained(QC, QD, QC, Q2)), (V, chained(VC, VD, VC, VD))]), [220.0, 215.0]),
    "loop that runs back": (lab.ragged([(Q, chained(QC, 260 - QD)), (V, chained(VC, VD))]), [220.0]),
    "loop that runs on": (lab.ragged([(Q, chained(QC, 260 + QD)), (V, chained(VC, VD))]), [220.0]),
    "cycles below each other": (
        lab.ragged(
            [
                ("Cycle", chained([1] * len(QC), [1] * len(QD), [2] * len(QD))),
                (Q, chained(QC, QD, Q2)),
                (V, chained(VC, VD, VD)),
            ]
        ),
        [220.0, 215.0],
    ),
    "from the lowest voltage up": (lab.ragged([(V, list(VD)[::-1]), (Q, list(QD)[::-1])]), [220.0]),
    "below a title": ("Sample: HE-1\nDate: 2026-05-05\n\n" + lab.ragged([(Q, QD), (V, VD)]), [220.0]),
    "units below the names": ("Capacity,Voltage\nmAh/g,V\n" + lab.below(lab.ragged([("a", QD), ("b", VD)])), [220.0]),
}


@pytest.mark.parametrize("kind", SHEETS)
def test_capacity_voltage_sheets_give_their_discharges(tmp_path: Path, kind: str) -> None:
    content, expected = SHEETS[kind]
    checked = check(tmp_path, content)
    assert checked.format == "capacity-voltage sheet"
    assert_good(checked, *expected)
    assert [(d.provenance, d.cycle) for d in checked.discharges] == [("sheet", i + 1) for i in range(len(expected))]


def test_a_sheet_in_a_workbook_is_read(tmp_path: Path) -> None:
    lines = [("HE-1 cell 3",), (Q, V), *zip(chained(QC, QD), chained(VC, VD), strict=True)]
    assert_good(check_file(lab.grid_book(tmp_path / "qv.xlsx", lines), CELL))
    pairs = [("1st cycle", None, "2nd cycle", None), (Q, V, Q, V), *zip(QD, VD, Q2, VD, strict=True)]
    assert_good(check_file(lab.grid_book(tmp_path / "pairs.xlsx", pairs), CELL), 220.0, 215.0)


def test_a_sheet_says_nothing_of_its_current_and_window(tmp_path: Path) -> None:
    content = SHEETS["potential first"][0]
    assert_refused(check(tmp_path, content, SampleInfo(2.0, CELL.composition)), "E5")
    only_charge = lab.ragged([(Q, QC), (V, VC)])
    assert_refused(check(tmp_path, only_charge), "E1")
    stopped = lab.ragged([(Q, QC), (V, VC.clip(upper=4.42)), (Q, QD), (V, VD.clip(upper=4.4))])
    assert_refused(check(tmp_path, stopped), "E4")


# Tables of capacities


CYCLE_TABLES = {
    "neware Ah": ("Cycle Index,Chg. Cap.(Ah),DChg. Cap.(Ah)\n1,0.00052,0.00044\n2,0.00044,0.00043\n"),
    "neware chinese": (
        "循环号,充电容量(mAh),放电容量(mAh),充电比容量(mAh/g),放电比容量(mAh/g)\n"
        "1,0.52,0.44,260,220\n2,0.44,0.43,217,215\n"
    ),
    "german": "Zyklus;Ladekapazität (mAh/g);Entladekapazität (mAh/g);CE (%)\n1;260,1;220,0;84,6\n2;217,0;215,0;99,0\n",
    "french": "Cycle;Charge (mAh/g);Décharge (mAh/g)\n1;260;220\n2;217;215\n",
    "n and Q": "n\tQ_charge (mAh/g)\tQ_discharge (mAh/g)\n1\t260\t220\n2\t217\t215\n",
    "retention beside": "Cycle number,Discharge capacity (mAh g-1),Capacity retention (%)\n1,220,100\n2,215,97.7\n",
    "energies beside": "Cycle,Discharge energy (Wh/kg),Discharge capacity (mAh/g)\n1,700,220\n2,690,215\n",
    "in mAh": "Cycle,Charge (mAh),Discharge (mAh)\n1,0.52,0.44\n2,0.44,0.43\n",
    "short": "cyc,Qch,Qdis\n1,260,220\n2,217,215\n",
    "comment and sep": "sep=,\n# HE-1\nCycle,Charge (mAh/g),Discharge (mAh/g)\n1,260,220\n2,217,215\n",
}


@pytest.mark.parametrize("kind", CYCLE_TABLES)
def test_cycle_tables_take_their_conditions_from_the_sample(tmp_path: Path, kind: str) -> None:
    checked = check(tmp_path, CYCLE_TABLES[kind])
    assert_good(checked, 220.0, 215.0)
    assert [d.conditions.cycle for d in checked.discharges] == [1, 2]


def test_a_cycle_layer_by_another_mass_is_told(tmp_path: Path) -> None:
    checked = check(tmp_path, CYCLE_TABLES["neware chinese"], replace(CELL, active_mass_mg=2.2))
    assert capacities(checked) == [200.0, 195.5]
    assert "those of 2 mg; table says 2.2 mg" in str(checked.rules[0])


def summary(header: str, rate: str) -> str:
    return f"composition,{header},v_low,v_high,cycle,capacity (mAh/g)\nLi1.2Mn0.4Ti0.4O2,{rate},1.5,4.8,1,220\n"


@pytest.mark.parametrize(
    ("header", "rate", "accepted"),
    [
        ("rate", "0.2", False),
        ("C-rate", "0.1", False),
        ("rate", "C/10", False),
        ("rate", "0.05C", False),
        ("rate (C)", "1", False),
        ("current", "0.1", False),
        ("crate", "2", False),
        ("rate (mA/g)", "20", True),
        ("rate", "20", True),
        ("rate", "0.1C (1C = 200 mA/g)", True),
        ("rate (1C = 200 mA/g)", "0.1", True),
        ("rate (1C=200 mA/g)", "C/10", True),
        ("current (A/g)", "0.02", True),
        ("Rate (A/kg)", "20", True),
    ],
)
def test_a_c_rate_is_no_current_until_1c_is_stated(tmp_path: Path, header: str, rate: str, accepted: bool) -> None:
    checked = check(tmp_path, summary(header, rate), SampleInfo(2.0))
    if accepted:
        assert_good(checked)
        assert checked.discharges[0].conditions.current_ma_g == pytest.approx(20.0)
    else:
        assert_refused(checked, "E5")
        assert "reads as a C-rate, not as mA/g" in str(checked.rules[0])


def test_a_current_that_would_take_months_is_refused(tmp_path: Path) -> None:
    assert_refused(check(tmp_path, summary("rate (mA/g)", "0.1"), SampleInfo(2.0)), "E8")


def test_a_c_rate_stated_for_a_cycler_file_is_explained(tmp_path: Path) -> None:
    refused = check(tmp_path, PLAIN, replace(CELL, current_ma_g=0.1))
    assert_refused(refused, "E5")
    assert "If it is a C-rate: 0.1C is 39.49 mA/g" in next(hit.message for hit in refused.rules if hit.id == "E5")


@pytest.mark.parametrize("export", [lab.arbin, lab.neware, lab.plain])
def test_formation_at_another_rate_has_a_way_in(tmp_path: Path, export) -> None:
    slow, normal = lab.steps(230.0, 228.0, current_ma_g=10.0), lab.steps(215.0, rests=False, first_charge=220.0)
    for part in normal:
        part["cycle"] = 3
    content = export(lab.joined(*slow, *normal))
    refused = check(tmp_path, content)
    assert_refused(refused, "E5")
    assert "say --formation 2" in next(hit.message for hit in refused.rules if hit.id == "E5")
    for declared in ({"formation": 2}, {"formation_current_ma_g": 10.0}):
        taken = check(tmp_path, content, replace(CELL, **declared))
        assert_good(taken, 215.0)
        assert taken.discharges[0].conditions.cycle == 3
