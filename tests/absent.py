"""What tests need that a machine may lack, and how to get it: every test that cannot run is counted as skipped."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from postgres import postgresql_programs

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


def skip_what_lacks(items: Iterable[pytest.Item]) -> None:
    """Skip every test that lacks something, each with the line that says how to get it."""
    for item in items:
        if (reason := lacking(item)) is not None:
            item.add_marker(pytest.mark.skip(reason), append=False)
