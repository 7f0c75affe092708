"""Let nothing of a local Ray cluster outlive the process that started it, even one that is killed.

Ray's servers and workers end with their driver. Two agents of each node first wait a minute for the dead server to take
their report; a shell that holds the other end of a pipe ends them as soon as the pipe breaks.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_S = 3
"""How long after the death of their driver Ray's agents are left alone (s)."""

_WATCH = f'read -r end && exit 0; sleep {GRACE_S}; kill -KILL "$@" 2>/dev/null'


@contextmanager
def no_orphans() -> Iterator[None]:
    """End the agents of the Ray cluster that this process has started, should it die within the body."""
    agents = _agents() if os.name == "posix" else []
    if not agents:
        yield
        return
    watcher = subprocess.Popen(
        ["sh", "-c", _WATCH, "sh", *map(str, agents)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt from the keyboard is not meant for it
    )
    try:
        yield
    finally:
        watcher.communicate(b"end\n")


def _agents() -> list[int]:
    """Process ids of Ray's agents below this process."""
    import psutil  # Ray brings it

    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "agent" in " ".join(process.cmdline()).lower():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
