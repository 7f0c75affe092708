"""The attacks at a size for a night; each prints its counts (``pytest -m slow -s tests/attack``).

At full size, from the root of a checkout::

    cc -shared -fPIC -o shim.so tests/attack/shim.c -ldl
    LD_PRELOAD=./shim.so python tests/attack/crash_points.py ./shim.so /dev/shm/FOLDER
    python tests/attack/writers.py FOLDER --campaigns 100 --operations 100 --kills 5 [--postgresql]
    python tests/attack/corruption.py FOLDER --count 1500
    python tests/attack/fuzz.py FOLDER --scale 100 --state COUNTS.json
    python tests/attack/faults.py . FOLDER
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


def run(program: str, *arguments: object, preload: Path | None = None) -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"LD_PRELOAD": str(preload)} if preload else {})
    done = subprocess.run(
        [sys.executable, HERE / program, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.needs("compiler")
def test_nothing_is_lost_or_torn_at_any_crash_point(tmp_path: Path) -> None:
    shim = tmp_path / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, HERE / "shim.c", "-ldl"], check=True)
    verbs = ["mark", "models import", "ingest", "backup", "restore", "init from json"]
    lines = run("crash_points.py", shim, tmp_path / "crash", "--every", 5, "--", *verbs, preload=shim)
    assert len(lines) == len(verbs) + 1


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_is_lost_or_doubled_when_writers_are_killed(tmp_path: Path, database: str) -> None:
    asked = ["--postgresql"] if database == "postgresql" else []
    lines = run("writers.py", tmp_path, "--operations", 160, "--kills", 12, *asked)
    counts = json.loads(lines[-1])
    assert (counts["operations"], counts["kills"]) == (160, 12)


def test_no_corruption_is_silent_or_raw(tmp_path: Path) -> None:
    run("corruption.py", tmp_path, "--count", 300, "--seed", 1)


def test_no_input_ends_in_a_traceback_or_takes_for_ever(tmp_path: Path) -> None:
    run("fuzz.py", tmp_path, "--scale", 0.5, "--seed", 1)


def test_no_fault_of_the_first_version_is_there(tmp_path: Path) -> None:
    run("faults.py", HERE.parents[1], tmp_path)
