"""What tests need that a machine may lack: one skip a package says what it is and how to get it, not one a test."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from postgres import postgresql_programs

TESTS = Path(__file__).parent
SHARED = Path(__file__).parents[2] / "shared"

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


def lacking(item: pytest.Item) -> str | None:
    """One line about what a test needs and this machine lacks; None where it has all."""
    fixtures = list(getattr(item, "fixturenames", ()))
    for name in (*fixtures, *(BY_WAY_OF[f] for f in fixtures if f in BY_WAY_OF)):
        if name in FOLDERS and folder_of(name) is None:
            return how_to_get(name)
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    wanted = [*fixtures, *(value for value in parameters.values() if isinstance(value, str))]
    if "postgresql" in wanted and postgresql_programs() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    for mark in item.iter_markers("skipif"):
        if mark.args and mark.args[0] is True:
            return str(mark.kwargs.get("reason", ""))
    return None


def one_for_each_package(items: Iterable[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Keep of the tests of a package that lack the same thing one; it says how many there are.

    Returns:
        Tests to run, with those that will say why they and the like of them are left out; and those left out.
    """
    first: dict[tuple[str, str], pytest.Item] = {}
    counts: dict[tuple[str, str], int] = {}
    kept, left = [], []
    for item in items:
        reason = lacking(item)
        key = ("/".join(item.path.relative_to(TESTS).parts[:1]), reason or "")
        if reason is not None:
            counts[key] = counts.get(key, 0) + 1
        if reason is None or first.setdefault(key, item) is item:
            kept.append(item)
        else:
            left.append(item)
    for (where, reason), item in first.items():
        count = counts[where, reason]
        item.add_marker(pytest.mark.skip(f"{count} tests of tests/{where}: {reason}"), append=False)
    return kept, left
