"""What a test lacks is said with the way to get it."""

from __future__ import annotations

from pathlib import Path

import absent
import pytest

pytest_plugins = ["pytester"]


def test_tests_that_lack_a_folder_are_counted_as_skipped(pytester: pytest.Pytester, monkeypatch) -> None:
    monkeypatch.setenv("DRX_CYCLER_FILES", str(pytester.path / "nowhere"))
    pytester.makeconftest(
        """
        import absent, pytest
        def pytest_collection_modifyitems(items):
            absent.skip_what_lacks(items)
        @pytest.fixture
        def cycler_files(): assert False
        """
    )
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("n", range(7))
        def test_real(cycler_files, n): ...
        def test_other(): ...
        """
    )
    done = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=1, skipped=7)
    done.stdout.fnmatch_lines(["*real cycler files are not here; set DRX_CYCLER_FILES to their folder"])


def test_a_folder_that_is_named_is_taken(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRXNET_REFERENCE", str(tmp_path))
    assert absent.folder_of("reference_folder") == tmp_path
    monkeypatch.setenv("DRXNET_REFERENCE", str(tmp_path / "nowhere"))
    assert absent.folder_of("reference_folder") is None


@pytest.mark.parametrize("fixture", absent.FOLDERS)
def test_every_reason_names_what_brings_the_tests_back(fixture: str) -> None:
    assert absent.FOLDERS[fixture][0] in absent.how_to_get(fixture)
