"""The sample table: every spelling of its columns, and a sentence for what is wrong with it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import openpyxl
import pytest

from campaigns.intake.measurement import SampleInfo
from campaigns.intake.samples import COLUMNS, Planned, parse_window, proposal_in_name, read_samples, write_samples
from drxnet.errors import ConfigurationError
from drxnet.text import csv_table


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "samples.csv"
    path.write_text(text, encoding="utf-8")
    return path


FULL = SampleInfo(1.82, "Li1.2Mn0.4Ti0.4O2", 20.0, (1.5, 4.8), "A", "R01-03")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "file,proposal,composition,active_mass_mg,current,window,cell\n"
            "a.csv,R01-03,Li1.2Mn0.4Ti0.4O2,1.82,20,1.5-4.8,A\n",
            id="as documented",
        ),
        pytest.param(
            "File;Proposal ID;Formula;Active mass (mg);Rate (mA/g);V low;V high;Cell label\n"
            "a.csv;R01-03;Li1.2Mn0.4Ti0.4O2;1,82;20;1,5;4,8;A\n",
            id="decimal commas",
        ),
        pytest.param(
            "file\tproposal\tcomposition\tactive_mass_g\tcurrent_ma_g\twindow\tcell\tremark\n"
            "a.csv\tR01-03\tLi1.2Mn0.4Ti0.4O2\t0.00182\t20\t1.5 to 4.8 V\tA\tred\n",
            id="tabs and grams",
        ),
    ],
)
def test_a_table_is_read_in_every_spelling(tmp_path: Path, text: str) -> None:
    samples = read_samples(table(tmp_path, text))
    sample = samples[tmp_path / "a.csv"]
    assert sample.active_mass_mg == pytest.approx(FULL.active_mass_mg)
    assert (sample.composition, sample.current_ma_g, sample.window, sample.cell, sample.proposal) == (
        FULL.composition, FULL.current_ma_g, FULL.window, FULL.cell, FULL.proposal,
    )  # fmt: skip


def test_files_are_found_beside_the_table_and_by_name(tmp_path: Path) -> None:
    samples = read_samples(table(tmp_path, "file,active_mass_mg\nexports/a.csv,1.8\n"))
    assert samples[tmp_path / "exports" / "a.csv"].active_mass_mg == 1.8
    assert samples[Path("/elsewhere/a.csv")].active_mass_mg == 1.8
    assert Path("/elsewhere/b.csv") not in samples
    assert list(samples) == [(tmp_path / "exports" / "a.csv").resolve()]


def test_names_that_stand_in_two_folders_are_not_guessed(tmp_path: Path) -> None:
    samples = read_samples(table(tmp_path, "file,active_mass_mg\nx/a.csv,1.8\ny/a.csv,1.9\n"))
    assert Path("/elsewhere/a.csv") not in samples
    assert samples[tmp_path / "y" / "a.csv"].active_mass_mg == 1.9


def test_what_the_table_leaves_empty_is_taken_from_the_default(tmp_path: Path) -> None:
    samples = read_samples(table(tmp_path, "file,active_mass_mg,current\na.csv,1.8,\n"))
    default = SampleInfo(9.9, None, 20.0, (1.5, 4.8))
    assert samples.for_file(tmp_path / "a.csv", default) == SampleInfo(1.8, None, 20.0, (1.5, 4.8))
    assert samples.for_file(tmp_path / "b.csv", default) == default


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("file,active_mass_mg\n", "no rows", id="header only"),
        pytest.param("name,active_mass_mg\na.csv,1\n", "needs a column 'file'", id="no file column"),
        pytest.param("file,active_mas_mg\na.csv,1\n", "did you mean 'activemassmg'", id="misspelt"),
        pytest.param("file,active_mass_mg\n,1\n", "row 2: names no file", id="file missing"),
        pytest.param("file,active_mass_mg\na.csv,1\na.csv,2\n", "row 3: a.csv stands in the table twice", id="twice"),
        pytest.param("file,active_mass_mg\na.csv,heavy\n", "row 2: active_mass_mg must be a number", id="words"),
        pytest.param("file,active_mass_mg\na.csv,inf\n", "must be a number", id="infinite"),
        pytest.param("file,window\na.csv,4.8-1.5\n", "row 2: The lower cut-off", id="window upside down"),
        pytest.param("file,current\na.csv,0\n", "row 2: The current must be positive", id="no current"),
        pytest.param("file,window\na.csv,wide\n", "must read like 1.5-4.8", id="window a word"),
        pytest.param("file,v_low\na.csv,1.5\n", "v_low and v_high must both be given", id="half a window"),
    ],
)
def test_a_wrong_table_is_refused_by_its_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_samples(table(tmp_path, text))


@pytest.mark.parametrize("text", ["1.5-4.8", "1.5 - 4.8 V", "1,5–4,8", "1.5 to 4.8", "1.5/4.8", "1.5 4.8"])
def test_windows_are_read_in_many_forms(text: str) -> None:
    assert parse_window(text) == (1.5, 4.8)


# Made for people


PLANNED = [
    Planned("R03-01", "Li1.2Mn0.4Ti0.4O2", 20.0, (1.5, 4.8)),
    Planned("R03-01", "Li1.2Mn0.4Ti0.4O2", 1000.0, (1.5, 4.8)),
    Planned("R03-02", "Li1.3Mn0.4Nb0.3O2", 20.0, (1.5, 4.8)),
]


def filled_in(path: Path, row: int, **values: object) -> Path:
    """What a person does: open the table, type into a row, save."""
    if path.suffix == ".xlsx":
        book = openpyxl.load_workbook(path)
        for column, value in values.items():
            book.active.cell(row + 1, COLUMNS.index(column) + 1, value)
        book.save(path)
        return path
    rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    rows[row - 1] |= {column: str(value) for column, value in values.items()}
    path.write_text(csv_table(rows, COLUMNS), encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_the_table_of_a_round_comes_back_filled_in(tmp_path: Path, suffix: str) -> None:
    paths = write_samples(tmp_path, PLANNED)
    path = next(p for p in paths if p.suffix == suffix)
    assert list(read_samples(path)) == []
    filled_in(path, 2, file="cell_7.ndax", active_mass_mg=1.82, cell="7")
    assert read_samples(path)[tmp_path / "cell_7.ndax"] == SampleInfo(
        1.82, "Li1.2Mn0.4Ti0.4O2", 1000.0, (1.5, 4.8), "7", "R03-01"
    )


def test_a_table_that_was_filled_in_is_not_written_over(tmp_path: Path) -> None:
    path, _ = write_samples(tmp_path, PLANNED)
    filled_in(path, 1, file="a.csv", active_mass_mg=2.0)
    before = path.read_bytes()
    write_samples(tmp_path, PLANNED)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("encoding", "separator", "decimal"),
    [
        ("utf-8", ",", "."),
        ("utf-8-sig", ";", ","),
        ("utf-16", "\t", ","),
        ("cp1252", ";", ","),
        ("utf-16-le", ";", "."),
    ],
)
def test_a_table_is_read_however_it_was_saved(tmp_path: Path, encoding: str, separator: str, decimal: str) -> None:
    rows = [["file", "active mass (mg)", "cell"], ["größe.csv", f"1{decimal}82", "Müller 1"]]
    (tmp_path / "s.csv").write_bytes("\r\n".join(separator.join(row) for row in rows).encode(encoding))
    sample = read_samples(tmp_path / "s.csv")[tmp_path / "größe.csv"]
    assert (sample.active_mass_mg, sample.cell) == (1.82, "Müller 1")


@pytest.mark.parametrize(
    ("header", "cells", "mass"),
    [
        ("electrode_mass_mg,active_fraction", "2.6,0.7", 1.82),
        ("electrode mass (g),active fraction (%)", "0.0026,70", 1.82),
        ("electrode_mass_mg,active_fraction,active_mass_mg", "2.6,70 %,1.82", 1.82),
        ("active mass", "1.82 mg", 1.82),
        ("active mass (µg)", "1820", 1.82),
    ],
)
def test_the_active_mass_may_be_a_share_of_the_electrode(tmp_path: Path, header: str, cells: str, mass: float) -> None:
    samples = read_samples(table(tmp_path, f"file,{header}\na.csv,{cells}\n"))
    assert samples[tmp_path / "a.csv"].active_mass_mg == pytest.approx(mass)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,mass\na.csv,2\n", "of the oxide alone, or of the electrode with carbon and binder"),
        ("file,Mass (mg)\na.csv,2\n", "Call it active_mass_mg, or electrode_mass_mg and add active_fraction"),
        ("file,weight\na.csv,2\n", "of the oxide alone, or of the electrode"),
        ("file,colour\na.csv,red\n", "column 'colour' is not known. Known: file, proposal, composition, cell, active"),
        ("file,electrode_mass_mg\na.csv,2.6\n", "says nothing about the oxide. Add active_fraction"),
        ("file,electrode_mass_mg,active_fraction\na.csv,2.6,0\n", "active_fraction must lie between 0 and 1"),
        ("file,electrode_mass_mg,active_fraction,active_mass_mg\na.csv,2.6,0.7,2.6\n", "Correct one of them"),
        ("file,active mass (stone)\na.csv,2\n", "the unit 'stone' of active_mass is not known"),
        ("file,rate\na.csv,0.1\n", "the rate '0.1' reads as a C-rate"),
        ("file,rate\na.csv,C/10\n", "20 mA/g if 1C = 200 mA/g"),
        ("file,composition,current\na.csv,Li1.2Mn0.4Ti0.4O2,0.1C\n", "0.1C is 39.49 mA/g if 1C takes out all lithium"),
        ("file,first_cycle\na.csv,1.5\n", "first_cycle must be a whole number"),
        ("file,formation\na.csv,2 weeks\n", "formation must read like 2"),
    ],
)
def test_what_could_mean_two_things_is_asked_about(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        read_samples(table(tmp_path, text))


@pytest.mark.parametrize("rate", ["20", "20 mA/g", "0.02 A/g", "0.1C (1C = 200 mA/g)", "C/10 (1C = 200 mA/g)"])
def test_a_rate_is_read_in_any_unit_that_is_stated(tmp_path: Path, rate: str) -> None:
    assert read_samples(table(tmp_path, f"file,rate\na.csv,{rate}\n"))[tmp_path / "a.csv"].current_ma_g == 20.0


def test_a_column_of_1c_makes_c_rates_readable(tmp_path: Path) -> None:
    samples = read_samples(table(tmp_path, "file,rate,1C (mA/g)\na.csv,0.1,200\nb.csv,5C,200\n"))
    assert [sample.current_ma_g for sample in samples.values()] == [20.0, 1000.0]


def test_where_a_file_lies_in_its_test_and_its_formation_are_stated(tmp_path: Path) -> None:
    text = "file,first_cycle,continues,formation\na.csv,11,cell A,2\nb.csv,,,10 mA/g\n"
    first, second = read_samples(table(tmp_path, text)).values()
    assert (first.first_cycle, first.continues, first.formation) == (11, "cell A", 2)
    assert (second.formation, second.formation_current_ma_g) == (None, 10.0)


@pytest.mark.parametrize(
    ("name", "proposal"),
    [
        ("R03-05.csv", "R03-05"), ("2026-05-05_r03_05_cellA.ndax", "R03-05"), ("cell R03-05 #2.txt", "R03-05"),
        ("R03-055.csv", "R03-55"), ("FR03-05.csv", None), ("cell_7.csv", None), ("R3-5.csv", None),
    ],
)  # fmt: skip
def test_a_proposal_is_found_in_the_name_of_a_file(name: str, proposal: str | None) -> None:
    assert proposal_in_name(name) == proposal


def test_rows_without_a_file_are_found_by_the_proposal_in_its_name(tmp_path: Path) -> None:
    text = "proposal,active_mass_mg,current_ma_g\nR03-01,1.8,20\nR03-01,1.8,1000\nR03-02,2.1,20\n"
    samples = read_samples(table(tmp_path, text))
    one = samples[tmp_path / "R03-02_a.csv"]
    assert (one.proposal, one.active_mass_mg, one.current_ma_g) == ("R03-02", 2.1, 20.0)
    both = samples[tmp_path / "R03-01_a.csv"]
    assert (both.proposal, both.active_mass_mg, both.current_ma_g) == ("R03-01", 1.8, None)
