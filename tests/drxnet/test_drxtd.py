"""DRX-TD files: what is written is read back, and the published example is read right."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import write_drx_td_example

from drxnet import drxtd
from drxnet.composition import Composition
from drxnet.errors import CompositionError, MeasurementError

LMTO = Composition.parse("Li1.2Mn0.4Ti0.4O2")


def raw_test(cycles: int = 3, rows: int = 300) -> drxtd.CyclingTest:
    """A cell that loses 2 % per cycle."""
    share = np.linspace(0, 1, rows)
    voltage = 4.7 - 1.2 * share - 2.0 * share**4
    discharges = tuple(drxtd.Curve(n, voltage, 240 * 0.98 ** (n - 1) * share) for n in range(1, cycles + 1))
    return drxtd.CyclingTest(LMTO, 20.0, 1.5, 4.8, discharges, charges=(drxtd.Curve(1, voltage[::-1], 260 * share),))


def assert_same(one: drxtd.CyclingTest, other: drxtd.CyclingTest) -> None:
    assert (one.composition, one.current_ma_g, one.v_low, one.v_high) == (
        other.composition,
        other.current_ma_g,
        other.v_low,
        other.v_high,
    )
    assert [c.cycle for c in one.discharges] == [c.cycle for c in other.discharges]
    for mine, theirs in zip(one.discharges, other.discharges, strict=True):
        for name in ("voltage_v", "capacity_mah_g", "dqdv_mah_g_v", "first_cycle_mah_g"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


@pytest.mark.parametrize("grid", ["window", "measured"])
@pytest.mark.parametrize("method", ["isotonic", "drxnet_compat"])
def test_a_csv_as_the_published_one_becomes_finite_and_monotone(tmp_path: Path, grid: str, method: str) -> None:
    (test,) = drxtd.read(write_drx_td_example(tmp_path / "example.csv"))
    assert [c.cycle for c in test.discharges] == list(range(1, 11))
    assert (test.composition, test.current_ma_g, test.conditions(1).window) == (LMTO, 20.0, (1.5, 4.8))
    standard = drxtd.standardize(test, grid=grid, method=method)
    for curve in standard.discharges:
        assert curve.capacity_mah_g[0] == pytest.approx(240 * 0.98 ** (curve.cycle - 1), abs=0.1)
        assert len(curve.voltage_v) == 100
        assert (np.diff(curve.capacity_mah_g) <= 0).all()
        assert (curve.dqdv_mah_g_v <= 0).all()
        assert curve.first_cycle_mah_g.max() <= 240


def test_a_csv_as_the_published_one_survives_three_decimals(tmp_path: Path) -> None:
    example = write_drx_td_example(tmp_path / "example.csv")
    drxtd.write_csv(tmp_path / "copy.csv", drxtd.read(example), decimals=drxtd.PUBLISHED_DECIMALS)
    assert (tmp_path / "copy.csv").read_text() == example.read_text()


@pytest.mark.parametrize("columns", list(drxtd.COLUMN_SETS))
def test_every_set_of_columns_is_read_back_unchanged(tmp_path: Path, columns: str) -> None:
    test = drxtd.standardize(raw_test())
    drxtd.write_csv(tmp_path / "test.csv", [test], columns)
    (back,) = drxtd.read(tmp_path / "test.csv")
    if columns == "delta":  # Q = Q0 + DQ is a rounding away
        for mine, theirs in zip(test.discharges, back.discharges, strict=True):
            np.testing.assert_allclose(mine.capacity_mah_g, theirs.capacity_mah_g, atol=1e-12)
    else:
        assert_same(test, back)


@pytest.mark.parametrize("decimal", [".", ","])
def test_a_csv_saved_again_by_a_spreadsheet_is_read(tmp_path: Path, decimal: str) -> None:
    drxtd.write_csv(tmp_path / "test.csv", [drxtd.standardize(raw_test())])
    published = drxtd.read(tmp_path / "test.csv")
    table = pd.read_csv(tmp_path / "test.csv")
    table.to_csv(tmp_path / "again.csv", sep=";", decimal=decimal, index=False)
    assert_same(published[0], drxtd.read(tmp_path / "again.csv")[0])


def test_a_json_in_utf_16_or_without_a_mass_is_read(tmp_path: Path) -> None:
    (tmp_path / "cell.json").write_text(json.dumps({**with_change(), "active_mass(g)": None}), encoding="utf-16")
    (test,) = drxtd.read(tmp_path / "cell.json")
    assert (test.current_ma_g, test.masses_g) == (20.0, {})


@pytest.mark.parametrize("processed", [False, True], ids=["raw", "processed"])
def test_json_is_read_back_unchanged(tmp_path: Path, processed: bool) -> None:
    test = replace(raw_test(), masses_g={"active_mass(g)": 0.0018})
    test = drxtd.standardize(test) if processed else test
    drxtd.write_json(tmp_path / "test.json", test)
    (back,) = drxtd.read(tmp_path / "test.json")
    assert back.processed is processed
    assert back.masses_g == test.masses_g
    assert_same(test, back)


def test_a_difference_of_either_sign_gives_the_same_capacity(tmp_path: Path) -> None:
    test = drxtd.standardize(raw_test())
    drxtd.write_csv(tmp_path / "below.csv", [test], "delta")
    lines = (tmp_path / "below.csv").read_text().splitlines()
    flipped = [lines[0]]
    for line in lines[1:]:
        cells = line.split(",")
        cells[8] = str(-float(cells[8]))
        flipped.append(",".join(cells))
    (tmp_path / "above.csv").write_text("\n".join(flipped))
    (below,), (above,) = drxtd.read(tmp_path / "below.csv"), drxtd.read(tmp_path / "above.csv")
    for one, other in zip(below.discharges, above.discharges, strict=True):
        np.testing.assert_allclose(one.capacity_mah_g, other.capacity_mah_g, atol=1e-12)


def test_row_numbers_in_material_id_do_not_split_a_test(tmp_path: Path) -> None:
    drxtd.write_csv(tmp_path / "test.csv", [drxtd.standardize(raw_test())])
    lines = (tmp_path / "test.csv").read_text().splitlines()
    numbered = [lines[0], *(f"{i}{line[line.index(',') :]}" for i, line in enumerate(lines[1:], start=1))]
    (tmp_path / "numbered.csv").write_text("\n".join(numbered))
    (test,) = drxtd.read(tmp_path / "numbered.csv")
    assert len(test.discharges) == 3


def test_a_cycle_that_comes_again_is_another_cell(tmp_path: Path) -> None:
    test = drxtd.standardize(raw_test())
    drxtd.write_csv(tmp_path / "two.csv", [test, test])
    cells = drxtd.read(tmp_path / "two.csv")
    assert len(cells) == 2
    assert_same(cells[0], cells[1])


def test_the_position_in_a_raw_list_is_not_the_cycle_number(tmp_path: Path) -> None:
    test = raw_test()
    later = replace(test, discharges=tuple(replace(c, cycle=c.cycle + 4) for c in test.discharges))
    drxtd.write_json(tmp_path / "later.json", later)
    assert [c.cycle for c in drxtd.read(tmp_path / "later.json")[0].discharges] == [5, 6, 7]


def test_a_folder_is_read_whole_and_a_bad_file_is_reported(tmp_path: Path) -> None:
    drxtd.write_json(tmp_path / "a.json", raw_test())
    drxtd.write_csv(tmp_path / "b.csv", [drxtd.standardize(raw_test())])
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress((tmp_path / "b.csv").read_bytes()))
    (tmp_path / "d.json").write_text("{")
    refused, counts = [], []
    tests = drxtd.read_folder(tmp_path, lambda path, error: refused.append(path.name), lambda *n: counts.append(n))
    assert (len(tests), refused, counts[-1]) == (3, ["d.json"], (4, 4))
    with pytest.raises(MeasurementError, match=r"d\.json: not a complete json"):
        drxtd.read_folder(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="no DRX-TD file"):
        drxtd.read_folder(tmp_path)


def with_change(**changes: object) -> dict[str, object]:
    content = {
        "composition": {"Li": 1.2, "Mn": 0.4, "Ti": 0.4, "O": 2.0},
        "test_current(mA/g)": 20.0,
        "low_voltage(V)": 1.5,
        "high_voltage(V)": 4.8,
        "charge_info": [],
        "discharge_info": [[1, {"Voltage(V)": [4.5, 3.0, 1.5], "Capacity(mAh/g)": [0.0, 100.0, 200.0]}]],
    }
    content.update(changes)
    return {k: v for k, v in content.items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        pytest.param({"low_voltage(V)": None}, MeasurementError, "'low_voltage", id="key missing"),
        pytest.param({"low_voltage(V)": 5.0}, MeasurementError, "must lie below", id="window upside down"),
        pytest.param({"test_current(mA/g)": "fast"}, MeasurementError, "must be a number", id="current a word"),
        pytest.param({"test_current(mA/g)": float("nan")}, MeasurementError, "must be finite", id="current nan"),
        pytest.param({"discharge_info": None}, MeasurementError, "neither 'discharge_info'", id="no discharges"),
        pytest.param({"discharge_info": {"1": []}}, MeasurementError, "must be a list", id="cycles no list"),
        pytest.param({"discharge_info": [[1, [1, 2]]]}, MeasurementError, "entry 1 must be", id="entry no mapping"),
        pytest.param(
            {"discharge_info": [[0, {"Voltage(V)": [1, 2], "Capacity(mAh/g)": [1, 2]}]]},
            MeasurementError,
            "counted from 1",
            id="cycle 0",
        ),
        pytest.param(
            {"discharge_info": [[1, {"Voltage(V)": [3, 2, 1], "Capacity(mAh/g)": [1, 2]}]]},
            MeasurementError,
            "same length",
            id="ragged",
        ),
        pytest.param(
            {"discharge_info": [[1, {"Voltage(V)": [3, 2, 1], "Capacity(mAh/g)": [1, float("inf"), 2]}]]},
            MeasurementError,
            "cycle 1, point 2",
            id="infinity",
        ),
        pytest.param({"composition": {"Li": 1.2, "O": 2}}, CompositionError, "cations 1.2", id="composition"),
        pytest.param({"composition": [1.2]}, CompositionError, "must map elements", id="composition a list"),
    ],
)
def test_a_wrong_json_is_refused_with_its_name(tmp_path: Path, changes: dict, error: type, message: str) -> None:
    (tmp_path / "cell.json").write_text(json.dumps(with_change(**changes)))
    with pytest.raises(error, match=message) as caught:
        drxtd.read(tmp_path / "cell.json")
    assert str(caught.value).startswith("cell.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "not a readable csv", id="empty"),
        pytest.param("a,b\n1,2\n", "column material_id, composition", id="other columns"),
        pytest.param(
            "material_id,composition,V_low,V_high,rate,cycle,Vii,Qii\n0,Li1.2 Mn0.8 O2,1.5,4.8,20,1,nan,3\n",
            "row 2: Vii must be a finite number. Got 'nan'",
            id="nan",
        ),
        pytest.param("material_id,composition,V_low,V_high,rate,cycle,Vii,Qii\n", "no rows", id="header only"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cell.csv").write_text(text)
    with pytest.raises(MeasurementError, match=message):
        drxtd.read(tmp_path / "cell.csv")
