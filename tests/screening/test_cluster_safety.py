"""Ray on a machine that is shared: only this process uses what it starts, and joining has an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAIN = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}


def test_joining_what_is_no_cluster_ends_in_a_sentence_in_time() -> None:
    program = (
        "import socket, time\n"
        "from screening import enumerator\nfrom drxnet.errors import UsageError\n"
        "enumerator.JOIN_SECONDS = enumerator.ANSWER_SECONDS + 4\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "begun = time.monotonic()\n"
        "try:\n"
        "    with enumerator._cluster(f'127.0.0.1:{server.getsockname()[1]}', None):\n        pass\n"
        "except UsageError as error:\n"
        "    print(error, time.monotonic() - begun < 15)\n"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=PLAIN, capture_output=True, text=True)
    assert "something listens there, and did not answer as Ray does within" in done.stdout
    assert done.stdout.strip().endswith("True")
    assert time.monotonic() - begun < 60  # and the process ends, though the thread does not


def test_the_time_for_joining_is_twenty_seconds_in_all() -> None:
    from screening.enumerator import ANSWER_SECONDS, JOIN_SECONDS

    assert 0 < ANSWER_SECONDS < JOIN_SECONDS == 20


STARTS = (
    "import os\nfrom screening.enumerator import _cluster\n"
    "with _cluster(None, 1):\n"
    "    import ray\n"
    "    print(ray.get_runtime_context().gcs_address, os.environ['RAY_AUTH_MODE'], flush=True)\n"
    "    input()\n"
    "print('left', flush=True)\n"
)


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[str]]:
    """A process that starts a cluster, says its address and leaves it at the end of its input."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTS], cwd=ROOT, env=PLAIN, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_nobody_else_joins_a_cluster_that_was_started_here(owner: subprocess.Popen[str]) -> None:
    assert owner.stdout is not None
    address, mode = owner.stdout.readline().split()
    assert mode == "token"
    program = f"import ray; ray.init(address={address!r}, logging_level=40); print('JOINED')"
    for token in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}):
        other = subprocess.run(
            [sys.executable, "-c", program], env=PLAIN | token, capture_output=True, text=True, check=False
        )
        assert other.returncode != 0
        assert "JOINED" not in other.stdout
    assert owner.communicate("\n", timeout=60)[0].strip() == "left"
    assert owner.returncode == 0


@pytest.mark.slow
def test_nothing_of_a_cluster_outlives_a_killed_process_for_long(owner: subprocess.Popen[str]) -> None:
    assert owner.stdout is not None
    assert owner.stdout.readline()
    started = descendants(owner.pid)
    assert started
    owner.kill()
    owner.wait()
    give_up = time.monotonic() + 10
    while (left := {pid for pid, begun in started.items() if begun_at(pid) == begun}) and time.monotonic() < give_up:
        time.sleep(0.5)
    names = {comm(pid) for pid in left}
    for pid in left:  # only what this test has started
        os.kill(pid, signal.SIGKILL)
    assert not names


@pytest.mark.slow
def test_the_watcher_of_a_cluster_ends_with_it(owner: subprocess.Popen[str]) -> None:
    assert owner.stdout is not None
    assert owner.stdout.readline()
    watchers = {pid: begun for pid, begun in descendants(owner.pid).items() if comm(pid) == "sh"}
    assert len(watchers) == 1
    owner.communicate("\n", timeout=60)
    assert all(begun_at(pid) != begun for pid, begun in watchers.items())


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def descendants(pid: int) -> dict[int, str | None]:
    """Processes that a process started, and what they started, with the tick at which each began."""
    found: dict[int, str | None] = {}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found |= {child: begun_at(child), **descendants(child)}
    return found


def begun_at(pid: int) -> str | None:
    """Tick at which a process began; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
