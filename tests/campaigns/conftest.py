"""A ledger on each database: SQLite always, PostgreSQL where Debian's packages are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ledgers import START, write_campaign, write_stub_model

from campaigns.campaign import Campaign
from campaigns.ledger.ledger import Ledger, sqlite_url


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server of this test run alone, reached through a socket."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.environ["PATH"].split(os.pathsep))]
    needed = ("initdb", "postgres", "pg_isready")
    programs = next((folder for folder in folders if all((folder / name).is_file() for name in needed)), None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    home = Path(tempfile.mkdtemp(prefix="drx-pg-", dir="/tmp"))
    account = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    if account:
        shutil.chown(home, account["user"], account["group"])
    home.chmod(0o700)
    cluster = home / "data"
    initdb = [programs / "initdb", "-D", cluster, "-A", "trust", "-U", "drx", "--no-sync", "-E", "UTF8", "--locale=C"]
    made = subprocess.run(initdb, cwd="/", capture_output=True, text=True, **account)
    if made.returncode:
        pytest.skip(f"initdb does not work here: {made.stderr.strip()[-200:]}")
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


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "ledger.sqlite")
    server = request.getfixturevalue("postgresql")
    import psycopg

    name = f"db_{tmp_path.name.lower().replace('-', '_')[-40:]}_{os.urandom(3).hex()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def open_ledger(ledger_url: str) -> Iterator[Callable[..., Ledger]]:
    """Opens the same ledger as often as wanted; closed at the end."""
    opened: list[Ledger] = []

    def open_one(**options: object) -> Ledger:
        opened.append(Ledger.create(ledger_url, "demo", START, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger]) -> Ledger:
    """A new ledger of a campaign named demo."""
    return open_ledger()


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    """A campaign whose model cannot be loaded: for everything that needs no network."""
    model = write_stub_model(tmp_path / "stub")
    opened = Campaign.start(tmp_path / "demo", write_campaign(tmp_path / "template.yaml", model))
    yield opened
    opened.close()
