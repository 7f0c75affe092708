"""Change the code in small ways and see whether a test notices: ``.venv/bin/python scripts/mutate.py --help``.

Mutants are drawn with a seed from ``screening`` and ``campaigns/loop`` and made by cosmic-ray (extra ``mutation``).
Each runs in a fork of this process, which has torch and the rest imported already, under the tests beside its module;
when these pass, under all others of the two folders that import the module and take no longer than ``--widest``
seconds. No file is changed: the fork imports the changed source. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CODE = ("screening/*.py", "campaigns/loop/*.py")
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

HEAVY = ("torch", "botorch", "gpytorch", "pandas", "scipy.optimize", "sqlalchemy", "pydantic", "pytest")
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


def in_fork(files: list[Path], timeout_s: float, mutant: Mutant | None = None) -> str:
    """Run test files in a fork, with a mutant or without, and say what came of it."""
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
            import pytest

            plain = ["-x", "-q", "-p", "no:cacheprovider", "-k", DESELECTED]
            code = int(pytest.main([*plain, *map(str, files)]))
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


def tests_of(mutant: Mutant, seconds: dict[str, float], widest: float) -> list[Path]:
    """Test files that may notice: the one beside the module, then the others that import it, the fastest first."""
    stem = Path(mutant.path).stem
    every = sorted(file for pattern in TESTS for file in ROOT.glob(pattern) if str(file) in seconds)
    beside = [file for file in every if file.stem == f"test_{stem}"]
    package, _, name = mutant.module.rpartition(".")
    words = (mutant.module, f"from {package} import {name}")
    others = [
        file
        for file in every
        if file not in beside and seconds[str(file)] <= widest and any(word in file.read_text() for word in words)
    ]
    return [*beside, *sorted(others, key=lambda file: seconds[str(file)])]


def timed_tests(timeout_s: float) -> dict[str, float]:
    """Seconds of every test file that passes without a mutant."""
    seconds = {}
    for file in sorted(file for pattern in TESTS for file in ROOT.glob(pattern)):
        begun = time.monotonic()
        if in_fork([file], timeout_s) == SURVIVED:
            seconds[str(file)] = time.monotonic() - begun
        else:
            print(f"left out, fails or takes over {timeout_s:g} s as it is: {file.relative_to(ROOT)}")
    return seconds


def main() -> None:
    """Draw, run, and write what became of every mutant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--widest", type=float, default=60.0, metavar="S", help="longest of the test files not beside")
    parser.add_argument("--at-most", type=int, metavar="N", help="stop after so many that were not known")
    parser.add_argument("--output", type=Path, default=Path("mutants.json"))
    options = parser.parse_args()
    os.environ.update({"CI": "1", "OMP_NUM_THREADS": "1"})
    os.chdir(ROOT)
    for name in HEAVY:
        importlib.import_module(name)
    drawn = random.Random(options.seed).sample(all_mutants(), options.mutants)
    known = json.loads(options.output.read_text()) if options.output.exists() else {"seconds": {}, "mutants": []}
    seconds = known["seconds"] or timed_tests(300.0)
    if not seconds:
        raise SystemExit("No test file passes as it is; nothing can be said of mutants.")
    options.output.write_text(json.dumps({**known, "seconds": seconds}))
    done = {(m["path"], m["operator"], m["occurrence"]): m for m in known["mutants"]}
    before = len(done)
    for number, mutant in enumerate(drawn, start=1):
        if options.at_most is not None and len(done) - before >= options.at_most:
            break
        key = (mutant.path, mutant.operator, mutant.occurrence)
        if key not in done:
            files, by = tests_of(mutant, seconds, options.widest), None
            for file in files:
                if in_fork([file], 20.0 + 5 * seconds[str(file)], mutant) == KILLED:
                    by = str(file.relative_to(ROOT))
                    break
            done[key] = {**asdict(mutant), "outcome": KILLED if by else SURVIVED, "by": by}
            options.output.write_text(json.dumps({"seconds": seconds, "mutants": list(done.values())}, indent=1))
        killed = sum(m["outcome"] == KILLED for m in done.values())
        print(f"{number}/{len(drawn)} {done[key]['outcome']:<8} {mutant.path}:{mutant.line} {mutant.operator}")
        print(f"   score so far: {killed} of {len(done)}", flush=True)


if __name__ == "__main__":
    main()
