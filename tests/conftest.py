"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from absent import MAY_SKIP, folder_of, how_to_get, may_skip, skip_what_lacks
from hypothesis import settings

settings.register_profile("ci", derandomize=True)  # a push fails for what it changed, not for a new draw
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine lacks something for, before fixtures are made and before ``-m`` takes anything away."""
    config.stash[MAY_SKIP] = may_skip(items)
    skip_what_lacks(items)


def _folder(fixture: str) -> Path:
    folder = folder_of(fixture)
    assert folder is not None, f"{how_to_get(fixture)}; a test that asks for it while it runs is to say so by a mark"
    return folder


@pytest.fixture(scope="session")
def published_folder() -> Path:
    """Folder of the five published state dicts and their example data."""
    return _folder("published_folder")


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    """Folder of the published code's own output."""
    return _folder("reference_folder")


@pytest.fixture(scope="session")
def cycler_files() -> Path:
    """Folder of real cycler exports."""
    return _folder("cycler_files")


@pytest.fixture(scope="session")
def published_ensemble(published_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """The published ensemble, imported into a home of its own."""
    from drxnet.checkpoint import import_published
    from drxnet.ensemble import Ensemble

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRXNET_HOME", str(tmp_path_factory.mktemp("home")))
        return Ensemble.load(import_published(published_folder))


@pytest.fixture(scope="session")
def any_ensemble(request: pytest.FixtureRequest):
    """The published ensemble where its files are here, else the one that ships."""
    from drxnet.ensemble import Ensemble

    if folder_of("published_folder") is None:
        return Ensemble.load("default")
    return request.getfixturevalue("published_ensemble")
