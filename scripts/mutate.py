"""Change the code in small ways and see whether a test notices: ``.venv/bin/python scripts/mutate.py --help``.

Mutants are drawn with a seed from ``screening`` and ``campaigns/loop`` and made by cosmic-ray (extra ``mutation``).
Every test is run once under coverage.py, to know which lines it runs. Each mutant runs in a fork of this process, which
has torch and the rest imported already, under the tests that run its statement: those beside its module, then others of
the two folders, up to ``--budget`` seconds of them. No file is changed: the fork imports the changed source. A run that
was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from coverage import Coverage

ROOT = Path(__file__).resolve().parents[1]
CODE = ("screening/*.py", "screening/strategies/*.py", "campaigns/loop/*.py")
TESTS = ("tests/screening/test_*.py", "tests/campaigns/loop/test_*.py")
DESELECTED = "not ray and not worker and not processes and not actors"
"""Tests whose other processes would import the unchanged code."""

OPERATORS = (
    *(f"ReplaceBinaryOperator_{a}_{b}" for a, b in (("Add", "Sub"), ("Sub", "Add"), ("Mul", "Div"), ("Div", "Mul"))),
    *(f"ReplaceComparisonOperator_{a}_{b}" for a, b in (("Eq", "NotEq"), ("NotEq", "Eq"), ("Is", "IsNot"))),
    *(f"ReplaceComparisonOperator_{a}_{b}" for a, b in (("Lt", "LtE"), ("LtE", "Lt"), ("Gt", "GtE"), ("GtE", "Gt"))),
    *(f"ReplaceComparisonOperator_{a}_{b}" for a, b in (("Lt", "Gt"), ("Gt", "Lt"), ("LtE", "GtE"), ("GtE", "LtE"))),
    *("ReplaceComparisonOperator_IsNot_Is", "ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Not"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "AddNot"),
    *("NumberReplacer", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
)
"""Of cosmic-ray; bit operators are left out, since here they stand in annotations."""

NUMBERS_IN = 5
"""Of the changed numbers one in so many is drawn from, or they would be half of all."""

HEAVY = ("torch", "botorch", "gpytorch", "pandas", "scipy.optimize", "sqlalchemy", "pydantic", "hypothesis")
UNLOADED = ("triton_layer",)
KILLED, SURVIVED = "killed", "survived"


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    path: str
    operator: str
    occurrence: int
    line: int

    @property
    def module(self) -> str:
        """Name that the module is imported by."""
        return self.path.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        """Changed source of the module."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        changed: str | None = mutate_code(
            (ROOT / self.path).read_text(), get_operator(f"core/{self.operator}")(), self.occurrence
        )
        if changed is None:
            raise ValueError(f"{self}: no such place.")
        return changed


class ChangedSource(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from changed source."""

    def __init__(self, name: str, source: str, path: Path) -> None:
        self.name, self.source, self.path = name, source, path

    def find_spec(self, name: str, *_: Any) -> Any:
        """Where the module comes from."""
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed source."""
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def all_mutants() -> list[Mutant]:
    """Every change that the operators can make, in the order of the files."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    found = []
    for path in sorted(file for pattern in CODE for file in ROOT.glob(pattern) if file.name != "__init__.py"):
        tree = get_ast(path.read_text())
        nodes = list(ast_nodes(tree))
        for name in OPERATORS:
            operator = get_operator(f"core/{name}")()
            places = [start for node in nodes for start, _ in operator.mutation_positions(node)]
            every = NUMBERS_IN if name == "NumberReplacer" else 1
            found += [Mutant(str(path.relative_to(ROOT)), name, i, places[i][0]) for i in range(0, len(places), every)]
    return found


def in_fork(tests: Sequence[str], timeout_s: float, mutant: Mutant | None = None, note: Path | None = None) -> str:
    """Run tests in a fork and say what came of it.

    Args:
        tests: files, or the ids of single tests.
        timeout_s: after which the mutant counts as noticed (s).
        mutant: to run them on; None for the code as it is.
        note: where to write how long each test takes and which lines it runs.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        code = 3
        try:
            if mutant is not None:
                sys.meta_path.insert(0, ChangedSource(mutant.module, mutant.source(), ROOT / mutant.path))
            watch = Watch() if note else None
            plain = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-k", DESELECTED]
            code = int(pytest.main([*plain, *tests], plugins=[watch] if watch else []))
            if watch and note:
                note.write_text(json.dumps(watch.noted()))
        finally:
            os._exit(code)
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return SURVIVED if os.waitstatus_to_exitcode(status) in (0, 5) else KILLED  # 5: all tests deselected
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return KILLED


class Watch:
    """Pytest plugin that notes how long every test takes and which lines it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cover = Coverage(data_file=None, config_file=False, include=[str(ROOT / pattern) for pattern in CODE])
        self.cover.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note one test, its fixtures included."""
        self.cover.switch_context(item.nodeid)
        begun = time.perf_counter()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.perf_counter() - begun

    def noted(self) -> dict[str, Any]:
        """Seconds of each test; for every file and line, the tests that run it."""
        self.cover.stop()
        data = self.cover.get_data()
        lines = {
            str(Path(file).relative_to(ROOT)): {
                line: tests
                for line, every in data.contexts_by_lineno(file).items()
                if (tests := [t for t in every if t])
            }
            for file in data.measured_files()
        }
        return {"seconds": self.seconds, "lines": lines}


def noted_tests(known: Path, timeout_s: float) -> dict[str, dict[str, Any]]:
    """What every test file that passes without a mutant takes and runs; kept in ``known``, so that it is done once."""
    files = json.loads(known.read_text()) if known.exists() else {}
    part = known.with_suffix(".part")
    for file in (str(f.relative_to(ROOT)) for pattern in TESTS for f in sorted(ROOT.glob(pattern))):
        if file not in files:
            passed = in_fork([file], timeout_s, note=part) == SURVIVED and part.exists()
            files[file] = json.loads(part.read_text()) if passed else {"seconds": {}, "lines": {}}
            part.unlink(missing_ok=True)
            known.write_text(json.dumps(files))
            said = (
                f"{sum(files[file]['seconds'].values()):.0f} s"
                if passed
                else "left out, fails or takes too long as it is"
            )
            print(f"{file}: {said}", flush=True)
    return files


def statement(path: str, line: int) -> range:
    """Lines of the innermost statement around a line, without the statements inside it."""

    def begins(node: ast.stmt) -> int:
        return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])

    around = [
        node
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.stmt) and begins(node) <= line <= (node.end_lineno or 0)
    ]
    inner = max(around, key=begins)
    body: list[ast.stmt] | None = getattr(inner, "body", None)
    return range(begins(inner), body[0].lineno if body else (inner.end_lineno or inner.lineno) + 1)


def _runs_on_import(path: str, line: int) -> bool:
    """Whether a line stands in no function."""
    functions = (n for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, ast.FunctionDef))
    return not any(f.body[0].lineno <= line <= (f.end_lineno or 0) for f in functions)


def tests_of(mutant: Mutant, files: dict[str, dict[str, Any]], budget_s: float) -> list[list[str]]:
    """Tests that run the changed statement: those beside the module, then the others, each the fastest first.

    What runs on import, such as the default of a field, is left to all tests beside the module, too: the test that
    happened to import it first says nothing of who relies on it.
    """
    path = Path(mutant.path)
    names = {f"test_{path.stem}.py", f"test_{path.parent.name}.py"}
    changed = statement(mutant.path, mutant.line)
    lines = list(map(str, changed))
    groups: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for file, noted in files.items():
        held = noted["lines"].get(mutant.path, {})
        beside = Path(file).name in names
        running = {test for line in lines for test in held.get(line, ())}
        groups[0 if beside else 1].update({test: noted["seconds"][test] for test in running})
    if _runs_on_import(mutant.path, changed.start) or not (groups[0] or groups[1]):
        groups[0].update(
            {t: s for f, noted in files.items() if Path(f).name in names for t, s in noted["seconds"].items()}
        )
    chosen, left = [], budget_s
    for group in groups:
        within: list[str] = []
        for test in sorted(group, key=lambda t: group[t]):
            left -= group[test]
            if left > 0 or not within:
                within.append(test)
        if within:
            chosen.append(within)
    return chosen


def main() -> None:
    """Draw, run, and write what became of every mutant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--budget", type=float, default=20.0, metavar="S", help="of tests for one mutant (s)")
    parser.add_argument("--at-most", type=int, metavar="N", help="stop after so many that were not known")
    parser.add_argument("--output", type=Path, default=Path("mutants.json"))
    options = parser.parse_args()
    os.environ.update({"CI": "1", "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    os.chdir(ROOT)
    for name in (
        *HEAVY,
        *(f"drxnet.{f.stem}" for f in sorted(ROOT.glob("drxnet/[a-z]*.py")) if f.stem not in UNLOADED),
    ):
        importlib.import_module(name)
    gc.freeze()  # the forks need not look through what is imported here
    drawn = random.Random(options.seed).sample(all_mutants(), options.mutants)
    files = noted_tests(options.output.with_suffix(".tests.json"), 300.0)
    seconds = {test: s for noted in files.values() for test, s in noted["seconds"].items()}
    if not seconds:
        raise SystemExit("No test file passes as it is; nothing can be said of mutants.")
    known = json.loads(options.output.read_text()) if options.output.exists() else []
    done = {(m["path"], m["operator"], m["occurrence"]): m for m in known}
    before = len(done)
    for number, mutant in enumerate(drawn, start=1):
        if options.at_most is not None and len(done) - before >= options.at_most:
            break
        key = (mutant.path, mutant.operator, mutant.occurrence)
        if key not in done:
            by = None
            for tests in tests_of(mutant, files, options.budget):
                if in_fork(tests, 20.0 + 5 * sum(seconds[t] for t in tests), mutant) == KILLED:
                    by = tests[0].partition("::")[0]
                    break
            done[key] = {**asdict(mutant), "outcome": KILLED if by else SURVIVED, "by": by}
            options.output.write_text(json.dumps(list(done.values()), indent=1))
        killed = sum(m["outcome"] == KILLED for m in done.values())
        print(f"{number}/{len(drawn)} {done[key]['outcome']:<8} {mutant.path}:{mutant.line} {mutant.operator}")
        print(f"   score so far: {killed} of {len(done)}", flush=True)


if __name__ == "__main__":
    main()
