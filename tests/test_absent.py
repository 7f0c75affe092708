"""What a test lacks is said once a package, with the way to get it."""

from __future__ import annotations

from pathlib import Path

import absent
import pytest

pytest_plugins = ["pytester"]


def test_tests_that_lack_a_folder_leave_one_skip_that_counts_them(pytester: pytest.Pytester, monkeypatch) -> None:
    monkeypatch.setenv("DRX_CYCLER_FILES", str(pytester.path / "nowhere"))
    monkeypatch.setattr(absent, "TESTS", pytester.path)
    pytester.makeconftest(
        """
        import absent, pytest
        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(config, items):
            items[:], left = absent.one_for_each_package(items)
            config.hook.pytest_deselected(items=left)
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
    done.assert_outcomes(passed=1, skipped=1, deselected=6)
    done.stdout.fnmatch_lines(["*7 tests of *: real cycler files are not here; set DRX_CYCLER_FILES to their folder"])


def test_a_folder_that_is_named_is_taken(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRXNET_REFERENCE", str(tmp_path))
    assert absent.folder_of("reference_folder") == tmp_path
    monkeypatch.setenv("DRXNET_REFERENCE", str(tmp_path / "nowhere"))
    assert absent.folder_of("reference_folder") is None


@pytest.mark.parametrize("fixture", absent.FOLDERS)
def test_every_reason_names_what_brings_the_tests_back(fixture: str) -> None:
    assert absent.FOLDERS[fixture][0] in absent.how_to_get(fixture)
