"""The sample table: every spelling of its columns, and a sentence for what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaigns.intake.measurement import SampleInfo
from campaigns.intake.samples import parse_window, read_samples
from drxnet.errors import ConfigurationError


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
