"""Readers: every format by its content, the same rows out of every export, and a sentence for what cannot be read."""

from __future__ import annotations

import builtins
import io
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import synthetic_cycler as cycler

from campaigns.intake import readers
from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import units
from campaigns.intake.readers.cells import durations, state_codes, written_step
from campaigns.intake.readers.headers import split_header
from campaigns.intake.readers.recording import Curves, CyclerRows, ReadOptions, SummaryTable
from campaigns.intake.segmentation import segment
from campaigns.testing import check_reader
from drxnet import drxtd
from drxnet.errors import MissingExtra, UsageError

TEST = cycler.cell_test()


def reader_named(name: str):
    return next(reader for reader in readers.all_readers() if reader.name == name)


@pytest.mark.parametrize("variant", list(cycler.EXPORTS))
def test_every_export_gives_the_same_discharge(tmp_path: Path, variant: str) -> None:
    name, export = cycler.EXPORTS[variant]
    found, recording = readers.read(cycler.write(tmp_path / "no_suffix_helps.dat", export(TEST)))
    assert found == name
    first, second = segment(recording).discharges
    assert first.total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-4)
    assert second.total_mah == pytest.approx(0.97 * cycler.CAPACITY_MAH, rel=1e-4)
    assert (len(first.rows), first.current_ma) == (180, pytest.approx(cycler.CURRENT_MA, rel=1e-4))
    assert (first.voltage_v[0], first.voltage_v[-1]) == (pytest.approx(4.743, abs=1e-3), pytest.approx(1.5, abs=1e-3))


@pytest.mark.parametrize("variant", list(cycler.EXPORTS))
def test_text_readers_keep_the_contract(tmp_path: Path, variant: str) -> None:
    name, export = cycler.EXPORTS[variant]
    other = cycler.write(
        tmp_path / "other.csv", cycler.plain_csv(TEST) if name != "text table" else cycler.bdf_csv(TEST)
    )
    path = cycler.write(tmp_path / "cell.csv", export(TEST))
    check_reader(reader_named(name), path, [other])


def test_the_workbook_reader_keeps_the_contract(tmp_path: Path) -> None:
    path = cycler.write_xlsx(tmp_path / "cell.xlsx", TEST)
    check_reader(reader_named("arbin xlsx"), path)
    _, recording = readers.read(path)
    assert recording.header_mass_mg == pytest.approx(1.8)
    assert len(recording.voltage_v) == len(TEST)  # all channel sheets, no statistics


def test_a_workbook_with_the_channels_of_two_cells_is_refused(tmp_path: Path) -> None:
    import pandas as pd

    both = pd.concat([TEST, TEST], ignore_index=True)
    path = cycler.write_xlsx(tmp_path / "cells.xlsx", both, rows_per_sheet=len(TEST))
    with pytest.raises(RuleBroken, match="sheet Channel_1_2 begins another test"):
        readers.read(path)


def test_a_workbook_without_rows_is_refused(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(cycler.arbin_csv(TEST).split("\n")[0].split(","))
    book.save(tmp_path / "cell.xlsx")
    with pytest.raises(RuleBroken, match="no rows below the header of sheet"):
        readers.read(tmp_path / "cell.xlsx")


def test_the_drx_td_readers_keep_the_contract(tmp_path: Path) -> None:
    voltage = np.linspace(4.7, 1.5, 120)
    discharge = drxtd.Curve(1, voltage, 240 * (4.7 - voltage) / 3.2)
    from drxnet.composition import Composition

    test = drxtd.CyclingTest(Composition.parse(cycler.COMPOSITION), 20.0, 1.5, 4.8, (discharge,))
    drxtd.write_json(tmp_path / "raw.json", test)
    drxtd.write_json(tmp_path / "processed.json", drxtd.standardize(test))
    drxtd.write_csv(tmp_path / "table.csv", [drxtd.standardize(test)])
    check_reader(reader_named("drx-td json"), tmp_path / "raw.json", [tmp_path / "table.csv"])
    check_reader(reader_named("drx-td json"), tmp_path / "processed.json")
    check_reader(reader_named("drx-td csv"), tmp_path / "table.csv", [tmp_path / "raw.json"])


def test_the_summary_and_digitised_readers_keep_the_contract(tmp_path: Path) -> None:
    summary = tmp_path / "summary.csv"
    summary.write_text(
        "composition,current_ma_g,v_low,v_high,cycle,capacity_mah_g\nLi1.2Mn0.4Ti0.4O2,20,1.5,4.8,1,250\n"
    )
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join(f"{q}, {4.7 - q / 80}" for q in range(0, 240, 10)))
    check_reader(reader_named("summary table"), summary, [pairs])
    check_reader(reader_named("digitised curve"), pairs, [summary])


def test_an_mpr_without_galvani_names_the_extra_and_the_text_export(tmp_path: Path, monkeypatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *rest: object, **more: object):
        if name.startswith("galvani"):
            raise ImportError(name)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    path = tmp_path / "cell.mpr"
    path.write_bytes(b"BIO-LOGIC MODULAR FILE\x1a" + bytes(100))
    with pytest.raises(MissingExtra, match=r"drx-screen\[biologic\].*\.mpt"):
        readers.read(path)


def galvani_that(answers: Callable[[bytes], np.ndarray]) -> dict[str, ModuleType]:
    """Modules in the place of galvani; it says of an .mpr's content what is asked for."""

    class MPRfile:
        def __init__(self, file: io.BytesIO) -> None:
            self.data = answers(file.read())

    galvani, biologic = ModuleType("galvani"), ModuleType("galvani.BioLogic")
    vars(biologic)["MPRfile"] = MPRfile
    vars(galvani)["BioLogic"] = biologic
    return {"galvani": galvani, "galvani.BioLogic": biologic}


CHARGE_COLUMNS = {
    "(Q-Qo)/mA.h": TEST.net_mah,
    "(Q-Qo)/C": 3.6 * TEST.net_mah,
    "dq/mA.h": TEST.net_mah.diff().fillna(TEST.net_mah.iloc[0]),
}


def records(charge: str) -> np.ndarray:
    """Records of the cell as galvani gives them."""
    columns = {"time/s": TEST.time_s, "Ewe/V": TEST.voltage_v, "I/mA": TEST.current_ma, "Ns": TEST.step}
    columns |= {"cycle number": TEST.cycle, charge: CHARGE_COLUMNS[charge]}
    return np.rec.fromarrays([c.to_numpy(float) for c in columns.values()], names=list(columns))


@pytest.mark.parametrize("charge", CHARGE_COLUMNS)
def test_an_mpr_gives_what_galvani_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, charge: str) -> None:
    for name, module in galvani_that(lambda _: records(charge)).items():
        monkeypatch.setitem(sys.modules, name, module)
    path = tmp_path / "cell"
    path.write_bytes(b"BIO-LOGIC MODULAR FILE\x1a" + bytes(100))
    found, recording = readers.read(path)
    assert found == "biologic mpr"
    first, second = segment(recording).discharges
    assert (first.total_mah, second.total_mah) == (
        pytest.approx(cycler.CAPACITY_MAH, rel=1e-4),
        pytest.approx(0.97 * cycler.CAPACITY_MAH, rel=1e-4),
    )
    assert len(first.rows) == 180


def test_an_mpr_that_galvani_cannot_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(content: bytes) -> np.ndarray:
        raise NotImplementedError(f"unexpected version for VMP data module of {len(content)} bytes")

    for name, module in galvani_that(stumble).items():
        monkeypatch.setitem(sys.modules, name, module)
    path = tmp_path / "cell.mpr"
    path.write_bytes(b"BIO-LOGIC MODULAR FILE\x1a" + bytes(100))
    with pytest.raises(RuleBroken, match="Export it as text"):
        readers.read(path)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Voltage(V)", ("voltage", "V")),
        ("Current [A]", ("current", "A")),
        ("I/mA", ("i", "mA")),
        ("<Ewe>/V", ("ewe", "V")),
        ("(Q-Qo)/mA.h", ("qqo", "mA.h")),
        ("Test Time / s", ("testtime", "s")),
        ("test_time_second", ("testtime", "second")),
        ("discharge_capacity_Ah", ("dischargecapacity", "Ah")),
        ("\ufeffData Point", ("datapoint", "")),
        ("DChg. Spec. Cap.(mAh/g)", ("dchgspeccap", "mAh/g")),
        ("dQ/dV(mAh/V)", ("dqdv", "mAh/V")),
        ("Rec#", ("rec", "")),
        ("|I|/A", ("magnitude of |I|/A", "")),
        ("Ewe/V vs. Li/Li+", ("ewe", "V")),
        ("Current#A", ("current", "A")),
        ("Voltage (V vs Li/Li\u207a)", ("voltage", "V")),
    ],
)
def test_headers_are_split_into_stem_and_unit(header: str, expected: tuple[str, str]) -> None:
    assert split_header(header) == expected


@pytest.mark.parametrize(
    ("dimension", "spelling", "expected"),
    [
        ("current", "A", 1e3),
        ("current", "\u00b5A", 1e-3),
        ("current", "\ufffdA", 1e-3),
        ("charge", "mA.h", 1.0),
        ("charge", "mAs", 1 / 3600),
        ("charge", "Ah", 1e3),
        ("voltage", "mV", 1e-3),
        ("time", "Min", 60.0),
        ("time", "furlong", None),
        ("specific", "mAh/g", 1.0),
    ],
)
def test_units_are_known_by_many_spellings(dimension: str, spelling: str, expected: float | None) -> None:
    assert units.factor(dimension, spelling) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("text", "expected"), [("1/3600", 1 / 3600), ("ms", 1e-3), ("h", 3600.0), ("0.5", 0.5), (None, None)]
)
def test_a_unit_option_is_a_name_a_number_or_a_fraction(text: str | None, expected: float | None) -> None:
    assert units.parse_unit("time", text) == expected


@pytest.mark.parametrize("text", ["parsec", "-1", "0", "1/0", "inf", ""])
def test_a_wrong_unit_option_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no unit of time"):
        units.parse_unit("time", text)


def test_durations_are_read_in_every_form() -> None:
    import pandas as pd

    text = pd.Series(["0d 06:00:00.04", "12:30:01", "36:00:00", "1d 00:00:01", "05:30", "rest", "100:00:00,5"])
    np.testing.assert_allclose(
        durations(text), [21600.04, 45001, 129600, 86401, 330, np.nan, 360000.5], rtol=1e-12, equal_nan=True
    )
    odd = pd.Series(["  0d 00:00:5.05000019073486", "0d 00:02:1.2E-05"])
    np.testing.assert_allclose(durations(odd), [5.05000019073486, 120.000012], rtol=1e-12)


def test_state_words_of_all_instruments_are_known() -> None:
    import pandas as pd

    words = [
        "CC Chg",
        "CC DChg",
        "Rest",
        "CCCV_DChg",
        "D",
        "C",
        "R",
        "discharge CC",
        "charge CC",
        "恒流放电",
        "静置",
        "?",
    ]
    assert state_codes(pd.Series(words)).tolist() == [1, -1, 0, -1, -1, 1, 0, -1, 1, -1, 0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "the file is empty", id="empty"),
        pytest.param("hello world\nthis is a letter\n", "no reader recognises it", id="a letter"),
        pytest.param(
            "Test_Time(s),Cycle_Index,Step_Index,Current(A),Voltage(V)\n", "no rows below the header", id="header only"
        ),
        pytest.param(
            "time/s\tEwe/V\tI/furlong\n" + "1\t3.5\t0.1\n" * 5,
            "unit 'furlong' of column 'I/furlong'",
            id="unknown unit",
        ),
        pytest.param(
            "Test_Time(s),Cycle_Index,Step_Index,Current(A),Voltage(V)\n" + "1,1,1,0,001,3,5\n" * 5,
            "cannot tell decimal comma from separator",
            id="commas in commas",
        ),
        pytest.param(
            "Test_Time(s);Cycle_Index;Step_Index;Current(A);Voltage(V)\n"
            + "1,5;1;1;0,001;3,5\n1.5;1;1;0.001;3.5\n" * 5,
            "cannot tell decimal comma from separator",
            id="both decimal signs",
        ),
        pytest.param(
            "Test_Time(s),Cycle_Index,Step_Index,Current(A),Voltage(V)\n" + "1,1,1,0.1,3.5\n1,1,1,high,3.5\n" * 9,
            "'Current\\(A\\)' should hold numbers",
            id="words for numbers",
        ),
        pytest.param(
            "Test_Time(s),Cycle_Index,Step_Index,Current(A),Voltage(V)\n"
            + "1,1,1,0.1,3.5\n" * 1000
            + "1,1,1,0.1,3.5,9,9\n",
            "rows do not match the header",
            id="longer row far below",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    path = cycler.write(tmp_path / "cell.csv", text)
    with pytest.raises(RuleBroken, match=message):
        readers.read(path)


def test_a_decimal_comma_is_seen_in_semicolon_tables_and_can_be_forced(tmp_path: Path) -> None:
    path = cycler.write(tmp_path / "cell.csv", cycler.plain_csv(TEST).replace(".", ","))
    _, recording = readers.read(path)
    assert 1.5 <= recording.voltage_v.min() < 5
    assert any("decimal comma" in note for note in recording.notes)
    with pytest.raises(RuleBroken, match="written with ','"):
        readers.read(path, ReadOptions(decimal="."))


@pytest.mark.parametrize(
    "extra",
    [
        {"Capacity (mAh/g)": 240.0},
        {"capacity_mah_g": 240.0},
        {"Charge Capacity (mAh/g)": 300.0, "Discharge Capacity (mAh g-1)": 240.0},
        {"Current (mA/g)": 20.0},
    ],
    ids=lambda extra: ", ".join(extra),
)
def test_columns_per_gram_of_a_mass_that_the_instrument_was_told_are_left_out(tmp_path: Path, extra: dict) -> None:
    columns = {"Time (s)": TEST.time_s, "Voltage (V)": TEST.voltage_v, **extra, "Current (mA)": TEST.current_ma}
    path = tmp_path / "cell.csv"
    TEST.assign(**columns)[list(columns)].to_csv(path, index=False)
    _, recording = readers.read(path)
    assert segment(recording).discharges[0].total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-4)
    assert recording.capacity_mah is recording.discharge_mah is None


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_units_in_a_row_below_the_header_count(tmp_path: Path, suffix: str) -> None:
    import pandas as pd

    columns = {"Time": TEST.time_s / 3600, "Voltage": TEST.voltage_v * 1e3, "Current": TEST.current_ma}
    below = {"Time": "h", "Voltage": "(mV)", "Current": "mA"}
    table = pd.concat([pd.DataFrame([below]), pd.DataFrame(columns)])
    path = tmp_path / f"cell{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_excel(path, index=False)
    _, recording = readers.read(path)
    first = segment(recording).discharges[0]
    assert (first.total_mah, first.current_ma) == pytest.approx((cycler.CAPACITY_MAH, cycler.CURRENT_MA), rel=1e-4)
    assert first.voltage_v[-1] == pytest.approx(1.5)


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_a_table_without_units_says_which_it_took(tmp_path: Path, suffix: str) -> None:
    table = TEST[["time_s", "voltage_v", "current_ma"]].set_axis(["Time", "Voltage (V)", "Current"], axis=1)
    path = tmp_path / f"cell{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_excel(path, index=False)
    _, recording = readers.read(path)
    assert recording.current_ma.max() == pytest.approx(1e3 * cycler.CURRENT_MA)
    assert recording.notes == (
        "Time taken as s: the table names no unit",
        "Current taken as A: the table names no unit",
    )


def test_a_cell_voltage_and_a_time_stamp_are_enough(tmp_path: Path) -> None:
    import pandas as pd

    stamps = (pd.Timestamp("2026-03-06 12:00") + pd.to_timedelta(TEST.time_s, unit="s")).astype(str)
    columns = {"Timestamp": stamps, "Cell Voltage [V]": TEST.voltage_v, "Cell Current [mA]": TEST.current_ma}
    pd.DataFrame(columns).to_csv(tmp_path / "cell.csv", index=False)
    _, recording = readers.read(tmp_path / "cell.csv")
    assert segment(recording).discharges[0].total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-4)


def test_absolute_times_in_the_time_column_are_read(tmp_path: Path) -> None:
    import pandas as pd

    stamps = (pd.Timestamp("2026-03-06 12:00") + pd.to_timedelta(TEST.time_s, unit="s")).dt.strftime(
        "%m/%d/%Y %H:%M:%S.%f"
    )
    header, *rows = cycler.biologic_mpt(TEST, header=False).strip().split("\n")
    at = header.split("\t").index("time/s")
    body = []
    for row, stamp in zip(rows, stamps, strict=True):
        cells = row.split("\t")
        cells[at] = stamp
        body.append("\t".join(cells))
    _, recording = readers.read(cycler.write(tmp_path / "cell.mpt", "\n".join([header, *body])))
    assert segment(recording).discharges[0].total_mah == pytest.approx(cycler.CAPACITY_MAH, rel=1e-4)


@pytest.mark.parametrize(
    "sign",
    ["\u00b5".encode("latin-1"), "\u00b5".encode(), "\u03bc".encode(), "\u03bc".encode("gbk"), "\ufffd".encode(), b"?"],
)
def test_a_micro_sign_survives_every_encoding(tmp_path: Path, sign: bytes) -> None:
    content = cycler.neware_csv(TEST, "uA").encode().replace(b"Current(uA)", b"Current(" + sign + b"A)")
    (tmp_path / "cell.csv").write_bytes(content)
    _, recording = readers.read(tmp_path / "cell.csv")
    assert np.nanmax(np.abs(recording.current_ma)) == pytest.approx(cycler.CURRENT_MA)


def test_a_file_in_utf_16_is_read(tmp_path: Path) -> None:
    path = cycler.write(tmp_path / "cell.csv", cycler.landt_csv(TEST), encoding="utf-16")
    assert len(readers.read(path)[1].voltage_v) == len(TEST)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        pytest.param("\n".join(f"{q}, {4.7 - q / 80:.5f}" for q in range(0, 240, 10)), "capacity, voltage", id="Q V"),
        pytest.param("\n".join(f"{4.7 - q / 80:.5f}, {q}" for q in range(0, 240, 10)), "voltage, capacity", id="V Q"),
        pytest.param(
            "\n".join(f"{q},5; {4.7 - q / 80:.5f}".replace(".", ",") for q in range(0, 240, 10)),
            "capacity, voltage",
            id="comma locale",
        ),
        pytest.param(
            "x, y\n" + "\n".join(f"{q}, {4.7 - q / 80:.5f}" for q in range(0, 240, 10)),
            "capacity, voltage",
            id="header",
        ),
    ],
)
def test_digitised_curves_are_read_in_either_order(tmp_path: Path, text: str, order: str) -> None:
    path = cycler.write(tmp_path / "curve.csv", text)
    _, recording = readers.read(path)
    assert isinstance(recording, Curves)
    (curve,) = recording.curves
    assert 1.7 < curve.voltage_v.min() < curve.voltage_v.max() == pytest.approx(4.7, abs=0.01)
    assert recording.notes == (f"columns taken as {order}",)


def test_many_digitised_curves_are_told_apart(tmp_path: Path) -> None:
    rows = [f"{q},{4.7 - q / 80},{q},{4.6 - q / 80}" for q in range(0, 200, 10)]
    rows += [f",,{q},{4.6 - q / 80}" for q in range(200, 240, 10)]
    path = cycler.write(tmp_path / "wpd_datasets.csv", "cycle 1,,cycle 2,\nX,Y,X,Y\n" + "\n".join(rows))
    _, recording = readers.read(path)
    assert [(c.name, len(c.voltage_v)) for c in recording.curves] == [("cycle 1", 20), ("cycle 2", 24)]


def test_many_digitised_curves_saved_again_by_a_spreadsheet_are_read(tmp_path: Path) -> None:
    rows = [f"{q};{4.7 - q / 80};{q};{4.6 - q / 80}".replace(".", ",") for q in range(0, 240, 10)]
    path = cycler.write(tmp_path / "curves.csv", "cycle 1;;cycle 2;\nX;Y;X;Y\n" + "\n".join(rows))
    _, recording = readers.read(path)
    assert isinstance(recording, Curves)
    assert [(curve.name, curve.voltage_v[0]) for curve in recording.curves] == [("cycle 1", 4.7), ("cycle 2", 4.6)]


@pytest.mark.parametrize("header", ["x, y", "Capacity (mAh g-1), Voltage vs Li/Li+ (V)", "Q1, V2"])
def test_a_digitised_curve_may_have_any_header(tmp_path: Path, header: str) -> None:
    text = header + "\n" + "\n".join(f"{q}, {4.7 - q / 80}" for q in range(0, 240, 10))
    _, recording = readers.read(cycler.write(tmp_path / "curve.csv", text))
    assert isinstance(recording, Curves)
    assert recording.curves[0].capacity[-1] == 230


def test_a_digitised_point_that_is_not_finite_is_named(tmp_path: Path) -> None:
    path = cycler.write(tmp_path / "curve.csv", "0, 4.7\n10, 4.6\n20, 4.5\nNaN, 4.4\n")
    with pytest.raises(RuleBroken, match="point 4 must be finite"):
        readers.read(path)


def test_a_digitised_figure_without_a_voltage_axis_is_refused(tmp_path: Path) -> None:
    path = cycler.write(tmp_path / "curve.csv", "\n".join(f"{q}, {q * 2}" for q in range(10, 240, 10)))
    with pytest.raises(RuleBroken, match="neither axis looks like a voltage"):
        readers.read(path)


def test_a_summary_table_is_read_with_any_names_for_its_columns(tmp_path: Path) -> None:
    text = "Formula;Rate (mA/g);Window;Cycle number;Discharge capacity (mAh/g)\nLi1.2Mn0.4Ti0.4O2;20;1,5-4,8;1;250,3\n"
    _, recording = readers.read(cycler.write(tmp_path / "table.csv", text))
    assert isinstance(recording, SummaryTable)
    (row,) = recording.rows
    assert (row.current_ma_g, row.v_low, row.v_high, row.cycle, row.capacity_mah_g) == (20.0, 1.5, 4.8, 1, 250.3)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("current (A/g),capacity (Ah/g)", "0.02,0.25"),
        ("current (mA g⁻¹),capacity (mAh g⁻¹)", "20,250"),
        ("current (A/kg),discharge capacity (Ah/kg)", "20,250"),
        ("current,capacity", "0.02 A/g,0.25 Ah/g"),
        ("current (A/g),capacity (Ah/g)", "20 mA/g,250 mAh/g"),
        ("rate_ma_g,q1", "20,250"),
    ],
)
def test_a_summary_table_is_read_in_its_units(tmp_path: Path, header: str, row: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"composition,v_low (V),v_high (mV),{header}\nLi1.2Mn0.4Ti0.4O2,1.5,4800,{row}\n", "utf-8")
    _, recording = readers.read(path)
    assert isinstance(recording, SummaryTable)
    (found,) = recording.rows
    assert (found.current_ma_g, found.v_high, found.capacity_mah_g) == pytest.approx((20.0, 4.8, 250.0))


def test_a_summary_table_says_which_units_it_took(tmp_path: Path) -> None:
    text = "composition,rate,window,capacity\nLi1.2Mn0.4Ti0.4O2,20,1.5-4.8,250\n"
    _, recording = readers.read(cycler.write(tmp_path / "table.csv", text))
    assert recording.notes == ("current taken as mA/g", "capacity taken as mAh/g")


@pytest.mark.parametrize(
    ("header", "unit"), [("rate (V)", "'V' of rate"), ("capacity (parsec)", "'parsec' of capacity")]
)
def test_a_summary_table_in_other_units_is_refused(tmp_path: Path, header: str, unit: str) -> None:
    names = {"rate": "rate (mA/g)", "capacity": "capacity (mAh/g)", header.split()[0]: header}
    text = f"composition,{names['rate']},window,{names['capacity']}\nLi1.2Mn0.4Ti0.4O2,1,1.5-4.8,2.5\n"
    with pytest.raises(RuleBroken, match=re.escape(unit)):
        readers.read(cycler.write(tmp_path / "rows.csv", text))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Li1.2Mn0.4Ti0.4O2,20,1.5,4.8,0,250", "counted from 1"),
        ("Li1.2Mn0.4Ti0.4O2,20,1.5,4.8,1,", "capacity is missing"),
        ("Li1.2Mn0.4Ti0.4O2,fast,1.5,4.8,1,250", "current must be a number"),
        ("Li1.2Mn0.4Ti0.4O2,20,1.5,4.8,1,inf", "must be finite"),
        ("Li1.2Mn0.4Ti0.4O2,20,1.5,4.8,1e308,250", "must be finite"),
        ("Li1.2Mn0.4Ti0.4O2,nan,1.5,4.8,1,250", "must be finite"),
        ("Li1.2Mn0.4Ti0.4O2,20,1.5,4.8,1,250,3", "more cells than the header names"),
    ],
)
def test_a_wrong_summary_row_is_refused_by_its_number(tmp_path: Path, row: str, message: str) -> None:
    header = "composition,current_ma_g,v_low,v_high,cycle,capacity_mah_g"
    path = cycler.write(tmp_path / "table.csv", f"{header}\n{row}\n")
    with pytest.raises(RuleBroken, match=f"row 2.*{message}"):
        readers.read(path)


def zipped(content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("letter.txt", content)
    return archive.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(b"a letter"), "a zip archive; unpack it"),
        (zipped(b"a letter")[:-9], "damaged or cut short"),
        (b"\xd0\xcf\x11\xe0" + bytes(40), "save it as .xlsx or csv"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:22\nsize 9\n", "git lfs pull"),
        (b"# a test\nTest Time / s,Voltage / V\n0,3.0\n1,3.1\n2,3.2\n", "header in line 2 names no current"),
        (b"time_s,current_a\n0,3.0\n1,3.1\n2,3.2\n", "header in line 1 names no voltage"),
    ],
    ids=["zip", "cut zip", "xls", "git lfs", "no current", "no voltage"],
)
def test_a_file_that_no_reader_knows_is_refused_with_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cell.dat"
    path.write_bytes(content)
    with pytest.raises(RuleBroken, match=message):
        readers.read(path)


def test_ec_lab_settings_are_told_from_data(tmp_path: Path) -> None:
    path = cycler.write(tmp_path / "cell.mps", "EC-LAB SETTING FILE\n\nNumber of linked techniques : 1\n")
    with pytest.raises(RuleBroken, match=r"give the \.mpr or \.mpt"):
        readers.read(path)


def test_progress_reaches_the_end_of_a_text_file(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    readers.read(cycler.write(tmp_path / "cell.csv", cycler.arbin_csv(TEST)), progress=lambda *n: calls.append(n))
    assert calls
    assert calls[-1][0] <= calls[-1][1]


def test_a_header_mass_is_read_but_kept_apart(tmp_path: Path) -> None:
    _, recording = readers.read(cycler.write(tmp_path / "cell.mpt", cycler.biologic_mpt(TEST)))
    assert isinstance(recording, CyclerRows)
    assert (recording.header_mass_mg, recording.header_material) == (pytest.approx(1.8), "LNMO")


@pytest.mark.parametrize(
    ("cells", "step"),
    [
        (["0", "12.50", "3"], 0.01),
        (["0.000", "0"], 0.001),
        (["1.5e-3"], 1e-4),
        ([".25"], 0.01),
        (["e6", "1e999", "2.0"], 0.1),
        (["e6"], 0.01),
        ([""], None),
    ],
)
def test_what_numbers_written_so_can_show(cells: list[str], step: float | None):
    assert written_step(cells) == pytest.approx(step)


@pytest.mark.parametrize("cell", ["1e307", "-1e309", "nan"])
def test_capacity_that_no_cell_has_is_refused_with_its_row(tmp_path: Path, cell: str):
    path = tmp_path / "sheet.csv"
    rows = [f"{10 * i},{4.5 - 0.3 * i}" for i in range(8)]
    path.write_text("Capacity (mAh/g),Voltage (V)\n" + "\n".join([*rows[:4], f"{cell},3.0", *rows[5:]]) + "\n")
    with pytest.raises(RuleBroken, match="row 6: no such capacity or voltage"):
        readers.read(path)
