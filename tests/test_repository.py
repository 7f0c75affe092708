from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_imports_go_downwards_only():
    pytest.importorskip("importlinter", reason="import-linter is not installed (pip install '.[test]')")
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_no_modules_import_each_other_in_a_circle_lazily_neither():
    grimp = pytest.importorskip("grimp", reason="import-linter is not installed (pip install '.[test]')")
    graph = grimp.build_graph(
        "drxnet", "screening", "campaigns", "configs", cache_dir=None, exclude_type_checking_imports=True
    )
    left = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while ends := [
        module
        for module, imported in left.items()
        if not imported & left.keys() or not any(module in others for others in left.values())
    ]:
        for module in ends:
            del left[module]
    assert sorted(left) == []


def test_the_picture_of_the_rooms_holds_every_module_and_no_arrow_upwards():
    pytest.importorskip("grimp", reason="import-linter is not installed (pip install '.[test]')")
    script = importlib.util.spec_from_file_location("draw_architecture", ROOT / "scripts" / "draw_architecture.py")
    assert script is not None
    assert script.loader is not None
    picture = importlib.util.module_from_spec(script)
    script.loader.exec_module(picture)
    places = picture.rooms()
    assert [pair for pair in picture.imports() if places[pair[0]][1] <= places[pair[1]][1]] == []
    homeless = [
        module
        for path in (ROOT / "campaigns").rglob("*.py")
        if (module := ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")) != "campaigns"
        and picture.room_of(module) is None
    ]
    assert homeless == []
    assert all(
        f"`{room.removeprefix('campaigns.')}" in (ROOT / "docs" / "architecture.md").read_text()
        for room in ("campaigns.cli", "campaigns.report", "campaigns.loop", "campaigns.intake", "campaigns.ledger")
    )


@pytest.mark.parametrize("package", ["drxnet", "screening", "campaigns"])
def test_every_module_has_a_test_beside_it(package):
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    modules = [
        path.stem
        for path in (ROOT / package).glob("*.py")
        if path.stem not in ("__init__", "__main__", "errors", "progress")
    ]
    assert [m for m in modules if f"test_{m}" not in tests] == []


def test_errors_stand_in_one_tree_on_one_page():
    import campaigns.errors
    import drxnet.errors
    import screening.errors

    base, tree = drxnet.errors.DRXError, campaigns.errors.__doc__ or ""
    layers = (drxnet.errors, screening.errors, campaigns.errors)
    declared = {c for layer in layers for c in vars(layer).values() if isinstance(c, type) and issubclass(c, base)}
    assert {c.__module__ for c in declared} == {layer.__name__ for layer in layers}
    names = re.findall(r"^[ │├└─]*([A-Z]\w+)(?:$|  .*$)", tree, flags=re.MULTILINE)
    assert sorted(names) == sorted(c.__name__ for c in declared)
    exits = {name: int(code) for name, code in re.findall(r"(\w+) +exit (\d)", tree)}
    for one in declared - {base}:
        assert one.exit_code == next(exits[b.__name__] for b in one.__mro__ if b.__name__ in exits)


@pytest.mark.parametrize("name", ["LedgerError", "LedgerLocked", "LedgerUnreadable", "RecipeError", "NothingToPropose"])
def test_errors_are_found_where_the_first_version_had_them(name: str):
    import drxnet.errors

    assert getattr(drxnet.errors, name).__module__ in ("campaigns.errors", "screening.errors")
    with pytest.raises(AttributeError, match="no attribute 'LedgerEror'"):
        _ = drxnet.errors.LedgerEror


def test_types_are_shipped_with_every_package():
    for package in ("drxnet", "screening", "campaigns"):
        assert (ROOT / package / "py.typed").is_file()


def test_importing_a_package_costs_nothing():
    program = "import sys, drxnet, screening, campaigns; print([m for m in ('torch', 'ray') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["drxnet", "screening", "campaigns", "campaigns/loop"])
def test_every_module_stands_in_the_tree_of_the_readme(package: str):
    text = (ROOT / "README.md").read_text()
    tree = text[text.index("\ndrxnet/ ") : text.index("\ntests/ ")]
    modules = {file.stem for file in (ROOT / package).glob("*.py")} - {"__init__"}
    assert {name for name in modules if not re.search(rf"\b{name}\b", tree)} == set()
    known = {
        file.stem
        for folder in ("drxnet", "screening", "campaigns", "examples")
        for file in (ROOT / folder).rglob("*.py")
    }
    assert set(re.findall(r"(\w+)\.py", tree)) <= known
