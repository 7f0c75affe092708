"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True)  # a push fails for what it changed, not for a new draw
if os.environ.get("CI"):
    settings.load_profile("ci")

SHARED = Path(__file__).parents[2] / "shared"


def _folder(variable: str, name: str) -> Path | None:
    folder = Path(os.environ[variable]) if variable in os.environ else SHARED / name
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def published_folder() -> Path:
    """Folder of the five published state dicts and their example data."""
    folder = _folder("DRXNET_PUBLISHED", "published-drxnet")
    if folder is None:
        pytest.skip("the published DRXNet files are not here; set DRXNET_PUBLISHED to their folder")
    return folder


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    """Folder of the published code's own output."""
    folder = _folder("DRXNET_REFERENCE", "reference")
    if folder is None:
        pytest.skip("the published code's output is not here; set DRXNET_REFERENCE to its folder")
    return folder


@pytest.fixture(scope="session")
def cycler_files() -> Path:
    """Folder of real cycler exports."""
    folder = _folder("DRX_CYCLER_FILES", "cycler-files")
    if folder is None:
        pytest.skip("the real cycler files are not here; set DRX_CYCLER_FILES to their folder")
    return folder


@pytest.fixture(scope="session")
def published_ensemble(published_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """The published ensemble, imported into a home of its own."""
    from drxnet.checkpoint import import_published
    from drxnet.ensemble import Ensemble

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRXNET_HOME", str(tmp_path_factory.mktemp("home")))
        return Ensemble.load(import_published(published_folder))
