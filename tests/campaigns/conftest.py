"""A ledger on each database: SQLite always, PostgreSQL where Debian's packages are installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ledgers import START, write_campaign, write_stub_model
from postgres import postgresql_server

from campaigns.campaign import Campaign
from campaigns.ledger.database import sqlite_url
from campaigns.ledger.ledger import Ledger


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server of this test run alone, reached through a socket."""
    with postgresql_server() as url:
        yield url


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
