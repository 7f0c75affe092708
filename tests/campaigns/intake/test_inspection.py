from __future__ import annotations

from pathlib import Path

import pytest
import synthetic_cycler

from campaigns.intake.inspection import plot_file
from campaigns.intake.measurement import SampleInfo
from campaigns.intake.validation import check_file
from drxnet.errors import UsageError
from drxnet.files import check_figure_path


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(synthetic_cycler.arbin_csv(synthetic_cycler.cell_test()), "accepted", id="good"),
        pytest.param("", "refused", id="empty"),
    ],
)
def test_good_and_unreadable_files_both_get_a_picture(tmp_path: Path, content: str, status: str) -> None:
    source, picture = tmp_path / "cell.csv", tmp_path / "cell.png"
    source.write_text(content)
    mass = synthetic_cycler.CURRENT_MA / 20 * 1e3
    checked = check_file(source, SampleInfo(active_mass_mg=mass, composition="Li1.2Mn0.4Ti0.4O2"))
    assert (checked.status == "refused") == (status == "refused")
    before = source.read_bytes()
    plot_file(checked, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert source.read_bytes() == before


@pytest.mark.parametrize(("name", "says"), [("cell.bmp", "a figure ends in"), ("no/cell.png", "does not exist")])
def test_a_picture_that_cannot_be_written_is_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_figure_path(tmp_path / name)
