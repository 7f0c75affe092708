from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_imports_go_downwards_only():
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.skip("import-linter is not installed (pip install '.[test]')")
    run = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("package", ["drxnet", "screening", "campaigns"])
def test_every_module_has_a_test_beside_it(package):
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    modules = [
        path.stem
        for path in (ROOT / package).glob("*.py")
        if path.stem not in ("__init__", "__main__", "errors", "progress")
    ]
    assert [m for m in modules if f"test_{m}" not in tests] == []


def test_importing_a_package_costs_nothing():
    program = "import sys, drxnet, screening, campaigns; print([m for m in ('torch', 'ray') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"
