"""What tests need that a machine may lack, and how to get it.

A test says what it needs by a fixture of :data:`FOLDERS`, by ``ledger_url[postgresql]`` or by the mark
``needs("chromium")``. Nothing else skips a test, but ``importorskip`` of what the extra `dev` installs, so that all
that may be skipped on a fresh machine is known before anything runs, and a test counts it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from browser import CHROMIUM
from postgres import postgresql_programs

SHARED = Path(__file__).parents[2] / "shared"
MOST_SKIPPED = 20
"""So many tests, slow ones included, may skip where the README's commands were run and nothing else is there."""
MAY_SKIP = pytest.StashKey[dict[str, list[str]]]()
"""Where a session keeps :func:`may_skip` of all that it collected."""

FOLDERS = {
    "published_folder": ("DRXNET_PUBLISHED", "published-drxnet", "the published DRXNet files"),
    "reference_folder": ("DRXNET_REFERENCE", "reference", "the published code's own output"),
    "cycler_files": ("DRX_CYCLER_FILES", "cycler-files", "real cycler files"),
}
"""Fixture -> variable that names its folder, the folder's usual name, and what it holds."""

BY_WAY_OF = {"published_ensemble": "published_folder"}
"""Fixture -> the one of :data:`FOLDERS` that it needs."""


def folder_of(fixture: str) -> Path | None:
    """Folder that a fixture of :data:`FOLDERS` stands for; None where it is not here."""
    variable, usual, _ = FOLDERS[fixture]
    folder = Path(os.environ[variable]) if variable in os.environ else SHARED / usual
    return folder if folder.is_dir() else None


def how_to_get(fixture: str) -> str:
    """One line that says what is missing, and what brings it."""
    variable, _, what = FOLDERS[fixture]
    return f"{what} are not here; set {variable} to their folder"


@dataclass(frozen=True)
class Need:
    """Something that a machine may lack.

    Attributes:
        here: Whether it is here.
        line: What is missing, and what brings it.
        in_setup: Whether the README's commands install it, so that a fresh machine has it.
    """

    here: Callable[[], bool]
    line: str
    in_setup: bool = False


def installed(module: str) -> bool:
    """Whether a module can be imported."""
    return importlib.util.find_spec(module) is not None


def schemathesis() -> str | None:
    """Its program, beside this Python or anywhere."""
    return shutil.which("st", path=str(Path(sys.executable).parent)) or shutil.which("st")


@cache
def docker_answers() -> bool:
    """Whether there is a Docker daemon."""
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


def _folder_need(fixture: str) -> Need:
    return Need(lambda: folder_of(fixture) is not None, how_to_get(fixture))


NEEDS = {fixture: _folder_need(fixture) for fixture in FOLDERS} | {
    "postgresql": Need(
        lambda: postgresql_programs() is not None,
        "PostgreSQL is not installed (pip install '.[test]', or apt-get install postgresql)",
        in_setup=True,
    ),
    "chromium": Need(lambda: CHROMIUM is not None, "Chromium is not installed (apt-get install chromium)"),
    "compiler": Need(
        lambda: shutil.which("cc") is not None and sys.platform.startswith("linux"),
        "no C compiler on Linux is here (apt-get install gcc libc6-dev)",
    ),
    "docker": Need(docker_answers, "no Docker daemon answers here (start one: dockerd)"),
    "schemathesis": Need(lambda: schemathesis() is not None, "Schemathesis is not installed (pip install '.[attack]')"),
    "triton": Need(lambda: installed("triton"), "triton is not installed (pip install '.[triton]')"),
    "galvani": Need(lambda: installed("galvani"), "galvani is not installed (pip install '.[biologic]')"),
}
"""Name -> what it is."""


def needed(item: pytest.Item) -> list[str]:
    """Names of :data:`NEEDS` that a test needs."""
    fixtures = list(getattr(item, "fixturenames", ()))
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    marked = [name for mark in item.iter_markers("needs") for name in mark.args]
    if unknown := [name for name in marked if name not in NEEDS]:
        raise pytest.UsageError(f"{item.nodeid}: needs {unknown[0]!r}, which is none of {', '.join(NEEDS)}")
    found = [*marked, *fixtures, *(BY_WAY_OF[f] for f in fixtures if f in BY_WAY_OF)]
    found += ["postgresql"] if "postgresql" in map(str, parameters.values()) else []
    return [name for name in NEEDS if name in found]


def lacking(item: pytest.Item) -> str | None:
    """One line about what a test needs and this machine lacks; None where it has all."""
    return next((NEEDS[name].line for name in needed(item) if not NEEDS[name].here()), None)


def may_skip(items: Iterable[pytest.Item]) -> dict[str, list[str]]:
    """Test -> what it needs beyond what the README's commands install."""
    found = {item.nodeid: [name for name in needed(item) if not NEEDS[name].in_setup] for item in items}
    return {test: names for test, names in found.items() if names}


def skip_what_lacks(items: Iterable[pytest.Item]) -> None:
    """Skip every test that lacks something, each with the line that says how to get it."""
    for item in items:
        if (reason := lacking(item)) is not None:
            item.add_marker(pytest.mark.skip(reason), append=False)
