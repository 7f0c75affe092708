"""What a killed process has started ends with it; what one that ends has started is left to it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from screening import orphans

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "import sys\nfrom screening import orphans\n"
    "orphans._agents = lambda: [int(sys.argv[1])]\n"
    "with orphans.no_orphans():\n    print('in', flush=True)\n    input()\n"
)


@pytest.fixture
def agent() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def driver(agent: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(agent.pid)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.communicate()


def test_the_agents_of_a_killed_process_end(driver: subprocess.Popen[str], agent: subprocess.Popen[bytes]) -> None:
    assert agent.poll() is None
    driver.kill()
    assert agent.wait(timeout=orphans.GRACE_S + 7) == -9


def test_the_agents_of_a_process_that_ends_are_left_to_it(
    driver: subprocess.Popen[str], agent: subprocess.Popen[bytes]
) -> None:
    driver.communicate("\n", timeout=20)
    assert driver.returncode == 0
    time.sleep(0.2)
    assert agent.poll() is None
