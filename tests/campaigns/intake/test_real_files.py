"""What is known of real cycler files; each file and each case is told by its name where it fails.

The files are not the project's to hand on. Every format of text and every property has its synthesised tests as well,
which always run: test_readers.py, test_segmentation.py, test_validation.py and test_fuzzed_files.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import synthetic_cycler as cycler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mistreating import PASSING, check_mistreated, mistreat, settled

from campaigns.intake import readers
from campaigns.intake.measurement import CheckedFile, RuleBroken, SampleInfo
from campaigns.intake.readers.recording import CyclerRows
from campaigns.intake.readers.words import CHARGE, DISCHARGE, REST
from campaigns.intake.segmentation import segment
from campaigns.intake.validation import check_file
from campaigns.testing import check_reader

TOLERANCE = 5e-3
BDF = "bdf_LNMO_half_timebug_DLR.bdf.csv"
CCCV = "neware_cathode_half_1p5-4p4V_navani.ndax"
DIGITISED = "wpd_NCO_halfcell_Ecker2015.csv"
LCO = "arbin_LCO_half_navani.res"
LNMO = "biologic_LNMO_SiGr_aurora.mpr"
RESTING = "maccor_decimal_comma_restonly_cellpy.txt"
STEPS = "neware_multistep_anode_cellpy.csv"
UNSIGNED = "maccor_unsigned_current_cellpy.txt"


@dataclass(frozen=True)
class Known:
    """What is known of a file.

    Attributes:
        reader: Name of the reader that takes it.
        sample: What is stated of the cell.
        first: Capacity (mAh), current (mA), first and last voltage (V) and rows of its first discharge.
        refused_by: Rules that refuse it.
        capacities: Capacities of its discharges (mAh), in order.
    """

    reader: str
    sample: SampleInfo = field(default_factory=SampleInfo)
    first: tuple[float, float, float, float, int] | None = None
    refused_by: tuple[str, ...] = ()
    capacities: tuple[float, ...] = ()


FILES = {
    LCO: Known("arbin res", SampleInfo(3.3), (0.475, 0.0866, 4.27, 3.00, 178), (), (0.475, 0.474)),
    "arbin_graphite_half_navani.xlsx": Known(
        "arbin xlsx", SampleInfo(16.0), (5.80, 0.0500, 2.62, 0.05, 1753), ("E12",), (5.80, 5.26)
    ),
    CCCV: Known("neware ndax", SampleInfo(3.0), (0.575, 0.120, 4.39, 1.50, 578)),
    "neware_TestFile_NewareNDA.nda": Known("neware nda", SampleInfo(), (5807, 3000, 4.11, 2.50, 777), ("E2",)),
    STEPS: Known("neware csv", SampleInfo(2.08), (4.68, 0.249, 2.88, 0.05, 1323), ("E12",), (4.68, 4.06)),
    UNSIGNED: Known("maccor text", SampleInfo(17.0), (2.25, 0.160, 3.78, 1.30, 1707), (), (2.25, 2.25)),
    "maccor_xTESLADIAG_000038con.078": Known(
        "maccor text", SampleInfo(), (4390, 4700, 4.22, 3.00, 240), ("E2",), (4390, 4410)
    ),
    "landt_LiGr_half_SINTEF.csv.gz": Known(
        "landt csv", SampleInfo(20.0), (7.14, 0.2, 2.65, 0.01, 13164), ("E7", "E12")
    ),
    BDF: Known("battery data format csv", SampleInfo(45.0), (6.17, 0.330, 4.87, 3.00, 7916)),
    DIGITISED: Known("digitised curve"),
}
MPR = {
    LNMO: Known("biologic mpr", SampleInfo(17.233), (1.79, 1.21, 4.76, 3.50, 537), (), (1.79, 1.85, 1.85)),
    "biologic_NaCoO2_ratetest_jdb11-4.mpr": Known(
        "biologic mpr", SampleInfo(4.97, "NaCoO2"), (1.25, 0.115, 3.79, 2.00, 792), ("E3", "E10")
    ),
}
BINARY = (".res", ".ndax", ".nda", ".mpr")


def errors(checked: CheckedFile) -> list[str]:
    return [hit.id for hit in checked.rules if hit.severity == "error"]


def message(checked: CheckedFile, rule: str) -> str:
    return next(hit.message for hit in checked.rules if hit.id == rule)


# -- what is known of each file --------------------------------------------------------------------------------


def is_recognised_without_its_suffix(known: Known, path: Path, scratch: Path) -> None:
    (scratch / "file").write_bytes(path.read_bytes())
    assert readers.choose(scratch / "file").name == known.reader


def keeps_the_contract(known: Known, path: Path, scratch: Path) -> None:
    (scratch / path.name).write_bytes(path.read_bytes())
    check_reader(next(r for r in readers.all_readers() if r.name == known.reader), scratch / path.name)


def gives_its_first_discharge(known: Known, path: Path, _: Path) -> None:
    assert known.first is not None
    capacity, current, start, end, rows = known.first
    checked = check_file(path, known.sample, settled(path.name))
    first = checked.discharges[0]
    assert first.capacity_mah == pytest.approx(capacity, rel=TOLERANCE)
    assert first.current_ma == pytest.approx(current, rel=TOLERANCE)
    assert (first.v_start, first.v_end) == (pytest.approx(start, abs=0.006), pytest.approx(end, abs=0.006))
    assert first.rows == pytest.approx(rows, rel=TOLERANCE)
    assert errors(checked) == list(known.refused_by)
    if known.sample.active_mass_mg and not known.refused_by:
        assert first.capacity_mah_g == pytest.approx(capacity / known.sample.active_mass_mg * 1e3, rel=TOLERANCE)


def gives_its_later_discharges(known: Known, path: Path, _: Path) -> None:
    found = [d.capacity_mah for d in check_file(path).discharges[: len(known.capacities)]]
    assert found == pytest.approx(list(known.capacities), rel=TOLERANCE)


def passes_with_a_mass(_known: Known, path: Path, _: Path) -> None:
    checked = check_file(path, SampleInfo(PASSING[path.name]), settled(path.name))
    assert checked.status in ("accepted", "warned"), checked.rules


Case = Callable[[Known, Path, Path], None]


def cases_of(name: str, known: Known) -> list[Case]:
    """What a file is looked at for."""
    found: list[Case] = [is_recognised_without_its_suffix]
    found += [keeps_the_contract] if name.endswith(BINARY) else []
    found += [gives_its_first_discharge] if known.first else []
    found += [gives_its_later_discharges] if known.capacities else []
    return found + ([passes_with_a_mass] if name in PASSING else [])


def walk(files: dict[str, Known], folder: Path, scratch: Path, subtests: pytest.Subtests) -> None:
    """Look at each file for all that is known of it."""
    for name, known in files.items():
        for case in cases_of(name, known):
            with subtests.test(case.__name__, file=name):
                case(known, folder / name, scratch)


def test_real_files_give_what_is_known_of_them(cycler_files: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    walk(FILES, cycler_files, tmp_path, subtests)
    with subtests.test("the whole discharges keep what was cut"):
        cccv = check_file(cycler_files / CCCV).discharges[0]
        assert cccv.all_steps_capacity_mah == pytest.approx(0.625, rel=TOLERANCE)
        steps = check_file(cycler_files / STEPS).discharges[0]
        assert steps.all_steps_capacity_mah == pytest.approx(4.68 + 0.282 + 0.124, rel=TOLERANCE)
    with subtests.test("the time bug is refused and the message names the option"):
        checked = check_file(cycler_files / BDF, SampleInfo(45.0))
        assert errors(checked) == ["E3", "E8"]
        assert "--time-unit 1/3600 (18.7 h, 6.17 mAh)" in message(checked, "E8")
    with subtests.test("the resting file is refused with its rows counted"):
        checked = check_file(cycler_files / RESTING, SampleInfo(2.0))
        assert errors(checked) == ["E1"]
        assert "(213 rows, 213 rest)" in message(checked, "E1")
        assert checked.discharges == ()
    with subtests.test("the digitised lithium content is read and not taken for a capacity"):
        checked = check_file(cycler_files / DIGITISED)
        (curve,) = checked.discharges
        assert (curve.rows, round(curve.v_start, 2), round(curve.v_end, 2)) == (43, 4.58, 3.52)
        assert curve.capacity_mah_g is None
        assert errors(checked) == ["E8"]


@pytest.mark.needs("galvani")
def test_real_mpr_files_give_what_is_known_of_them(
    cycler_files: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    walk(MPR, cycler_files, tmp_path, subtests)
    with subtests.test("the LNMO cell has its known capacity and rate per gram"):
        first = check_file(cycler_files / LNMO, SampleInfo(17.233)).discharges[0]
        assert first.capacity_mah_g == pytest.approx(104, rel=TOLERANCE)
        assert first.conditions.current_ma_g == pytest.approx(70.0, rel=TOLERANCE)
    with subtests.test("a damaged one is refused"):
        (tmp_path / "cell.mpr").write_bytes(b"BIO-LOGIC MODULAR FILE\x1a" + bytes(100))
        with pytest.raises(RuleBroken, match="Export it as text"):
            readers.read(tmp_path / "cell.mpr")


# -- the same cell in another form -------------------------------------------------------------------------------


def shuffled(recording: CyclerRows) -> CyclerRows:
    """The same rows in any order."""
    order = np.random.default_rng(5).permutation(len(recording.voltage_v))
    arrays = {f.name: getattr(recording, f.name) for f in fields(recording)}
    return replace(recording, **{k: v[order] for k, v in arrays.items() if isinstance(v, np.ndarray)})


def as_test(recording: CyclerRows) -> pd.DataFrame:
    """Rows of a real file in the form that the exports are made from, until its first cycle is over."""
    found = segment(recording)
    rows, first = found.rows, found.discharges[0]
    end = min(first.stop + 20, len(rows.time_s))
    direction = rows.direction[:end]
    step = 1 + np.concatenate([[0], np.cumsum(np.diff(direction) != 0)])
    t = pd.DataFrame(
        {
            "record": np.arange(1, end + 1),
            "cycle": 1,
            "step": step,
            "state": pd.Series(direction).map({CHARGE: "C", REST: "R", DISCHARGE: "D"}),
            "time_s": rows.time_s[:end],
            "voltage_v": rows.voltage_v[:end],
            "current_ma": rows.current_ma[:end],
            "moved_mah": rows.moved_mah[:end],
        }
    )
    t["step_time_s"] = t.time_s - t.groupby("step").time_s.transform("first")
    for column, sign in (("charge_mah", 1), ("discharge_mah", -1)):
        t[column] = (sign * t.moved_mah).clip(lower=0).groupby(t.step).cumsum()
    t["net_mah"] = t.moved_mah.cumsum()
    return t


def first_of(recording: CyclerRows) -> Any:
    return segment(recording).discharges[0]


def test_a_real_cell_gives_the_same_reversed_shuffled_and_in_the_export_of_another_maker(
    cycler_files: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    with subtests.test("its signs reversed", file=LCO):
        _, recording = readers.read(cycler_files / LCO)
        first, other = (first_of(r) for r in (recording, replace(recording, current_ma=-recording.current_ma)))
        assert first.total_mah == pytest.approx(other.total_mah, rel=1e-12)
        assert first.total_mah == pytest.approx(0.475, rel=5e-3)
    whole = {BDF: (22226.6, 7916), UNSIGNED: (2.251, 1707), "neware_TestFile_NewareNDA.nda": (5807, 777)}
    for name, (capacity, rows) in whole.items():
        with subtests.test("its rows shuffled", file=name):
            first = first_of(shuffled(readers.read(cycler_files / name)[1]))
            assert first.total_mah == pytest.approx(capacity, rel=5e-3)
            assert len(first.rows) == pytest.approx(rows, abs=3)
    for name, capacity in {LCO: 0.475, CCCV: 0.575, UNSIGNED: 2.25}.items():
        _, recording = readers.read(cycler_files / name)
        known, rows_of_it = first_of(recording), as_test(recording)
        for variant in (v for v in cycler.EXPORTS if v not in ("any table", "novonix")):
            with subtests.test(file=name, export=variant):
                reader, export = cycler.EXPORTS[variant]
                found, again = readers.read(cycler.write(tmp_path / "cell.csv", export(rows_of_it)))
                assert found == reader
                first = first_of(again)
                assert first.total_mah == pytest.approx(known.total_mah, rel=2e-3)
                assert first.total_mah == pytest.approx(capacity, rel=5e-3)
                assert len(first.rows) == pytest.approx(len(known.rows), abs=2)


# -- mistreated --------------------------------------------------------------------------------------------------

SMALL = (CCCV, DIGITISED, LNMO, RESTING, LCO)


@given(st.sampled_from(SMALL), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_mistreated_real_files_are_refused_or_right(
    cycler_files: Path, tmp_path_factory: pytest.TempPathFactory, name: str, seed: int
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(mistreat((cycler_files / name).read_bytes(), seed))
    check_mistreated(path)
