"""The database that holds the ledger of a campaign: a file of SQLite, or a schema of PostgreSQL."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool, StaticPool

from campaigns.errors import LedgerError, LedgerLocked, LedgerUnreadable
from campaigns.ledger import tables
from drxnet.errors import ConfigurationError, MissingExtra
from drxnet.files import replace_file

TIMEOUT_S = 30.0
"""How long a writer waits for another one, where nothing else is said (s)."""


class Database:
    """Connections to it, with errors that a user can act on."""

    def __init__(
        self, url: str | URL, campaign: str, timeout_s: float | None = None, *, read_only: bool = False
    ) -> None:
        """Take a database, which need not be there yet.

        Args:
            url: SQLAlchemy URL of SQLite or PostgreSQL.
            campaign: its name; on PostgreSQL also the name of its schema.
            timeout_s: how long a writer waits for another one (s); by default :data:`TIMEOUT_S`.
            read_only: nothing is written; needs no right to write.

        Raises:
            ConfigurationError: no such URL.
        """
        self.url, self.campaign = _checked_url(url), campaign
        self.timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
        self.is_file = self.url.get_backend_name() == "sqlite"
        self._use(_engine(self.url, campaign, self.timeout_s, read_only=read_only))

    @property
    def where(self) -> str:
        """Place of the ledger, for messages; never a password."""
        return self.url.database or "" if self.is_file else self.url.render_as_string()

    @property
    def note(self) -> Path:
        """File beside a SQLite file that says which event was the last."""
        return Path(f"{self.url.database}.last")

    def close(self) -> None:
        """Give back the connections."""
        self.engine.dispose()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the database raises into errors that a user can act on.

        Raises:
            LedgerLocked: another process is writing and did not finish in time.
            LedgerError: it cannot be written to.
            LedgerUnreadable: it cannot be used.
        """
        try:
            yield
        except DBAPIError as error:
            reason = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
            if "locked" in reason or getattr(error.orig, "sqlstate", None) == "55P03":
                raise LedgerLocked(
                    f"{self.where}: another process is writing to the ledger and did not finish in time. Nothing was "
                    "recorded; try again."
                ) from error
            if "readonly" in reason:
                raise LedgerError(f"{self.where}: cannot be written to ({reason}). Check the permissions.") from error
            raise LedgerUnreadable(f"{self.where}: the ledger cannot be used ({reason}).") from error
        except sqlite3.Error as error:
            raise LedgerUnreadable(f"{self.where}: the ledger cannot be used ({error}).") from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees the database as it is at one instant, and waits for nobody."""
        engine = self.engine if self.is_file else self.engine.execution_options(isolation_level="REPEATABLE READ")
        with self.errors(), engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer is beside; what it wrote is there once it ends."""
        with self.errors(), self.engine.connect().execution_options(writer=True) as connection, connection.begin():
            if not self.is_file:
                connection.execute(text(f"SET LOCAL lock_timeout = '{math.ceil(self.timeout_s * 1000)}ms'"))
                lock = {"name": f"drx-screen {self.campaign}"}
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), lock)
                connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self.campaign}"'))
            yield connection

    def use_write_ahead_log(self) -> None:
        """Switch a SQLite file to write-ahead logging; SQLite itself does not wait for its lock here."""
        if not self.is_file:
            return
        give_up = time.monotonic() + self.timeout_s
        with self.errors(), contextlib.closing(self.engine.raw_connection()) as raw:
            while True:
                try:
                    raw.cursor().execute("PRAGMA journal_mode = WAL")
                    return
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error) or time.monotonic() > give_up:
                        raise
                    time.sleep(0.05)

    def note_last(self, number: int) -> None:
        """Say beside the file which event was the last, so that a copy without its write-ahead file is noticed."""
        if not self.is_file:
            return
        with contextlib.suppress(OSError, DBAPIError), self.engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")  # a file that is copied alone is nearly always whole
            replace_file(self.note, f"{number}\n".encode())

    def copy_to(self, copy: sqlite3.Connection) -> None:
        """Copy a SQLite file to another database, as it is at one instant, while others write."""
        with self.errors(), contextlib.closing(_read_only_connection(self.url, self.timeout_s)) as original:
            original.backup(copy)

    def use_copy_in_memory(self) -> None:
        """Go on with a copy of a SQLite file, which stays as it is."""
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        self.copy_to(copy)
        self.close()
        self._use(create_engine("sqlite://", creator=lambda: copy, poolclass=StaticPool))

    def drop(self) -> None:
        """Remove the ledger altogether."""
        self.close()
        if self.is_file:
            for ending in ("", "-wal", "-shm", ".last"):
                Path(f"{self.url.database}{ending}").unlink(missing_ok=True)
            return
        with self.engine.begin() as connection:
            connection.execute(text(f'DROP SCHEMA "{self.campaign}" CASCADE'))
        self.close()

    def _use(self, engine: Engine) -> None:
        """Connect by an engine, and give back its connections when nobody holds this database any more."""
        self.engine = engine
        weakref.finalize(self, engine.dispose).atexit = False


def facts_of(connection: Connection) -> dict[str, str]:
    """Read the table ``meta``; nothing where there is no ledger yet."""
    if not inspect(connection).has_table("meta"):
        return {}
    return {row.key: row.value for row in connection.execute(select(tables.meta))}


def sqlite_url(path: Path) -> str:
    """URL of a SQLite file."""
    return f"sqlite:///{path.resolve()}"


def _checked_url(url: str | URL) -> URL:
    try:
        checked = make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            f"{url!r} is not a database URL. Write sqlite:///FILE or postgresql://USER@HOST/DATABASE."
        ) from None
    backend = checked.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ConfigurationError(f"A ledger lives in SQLite or PostgreSQL. Got {backend!r}.")
    if backend == "sqlite" and checked.database in (None, "", ":memory:"):
        raise ConfigurationError("A ledger needs a file, sqlite:///FILE. Got a database in memory.")
    if checked.drivername == "postgresql":
        checked = checked.set(drivername="postgresql+psycopg")
    return checked


def _read_only_connection(url: URL, timeout_s: float) -> sqlite3.Connection:
    """Open a SQLite file without the right to write, and without the need of it.

    What a killed process left half-written is taken back first, by SQLite itself, and that needs the right.
    """
    path = Path(url.database or "").resolve()
    log, half_written = (path.with_name(f"{path.name}-{end}") for end in ("wal", "journal"))
    at_rest = not (log.exists() and log.stat().st_size)
    if half_written.exists() and half_written.stat().st_size and os.access(path, os.W_OK):
        return sqlite3.connect(path, timeout=timeout_s, check_same_thread=False, isolation_level=None)
    immutable = at_rest and not os.access(path.parent, os.W_OK)  # no writer can come, and no file be made beside it
    uri = f"file:{quote(str(path))}?mode=ro{'&immutable=1' if immutable else ''}"
    return sqlite3.connect(uri, uri=True, timeout=timeout_s, check_same_thread=False, isolation_level=None)


def _engine(url: URL, campaign: str, timeout_s: float, *, read_only: bool = False) -> Engine:
    if url.get_backend_name() == "sqlite" and read_only:
        engine = create_engine("sqlite://", creator=lambda: _read_only_connection(url, timeout_s), poolclass=NullPool)

        @event.listens_for(engine, "begin")
        def _begin_reading(connection: Connection) -> None:  # or each query would see what others write meanwhile
            connection.exec_driver_sql("BEGIN")

        return engine
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": timeout_s})

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # SQLAlchemy's begin event below decides how a transaction begins
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            writer = connection.get_execution_options().get("writer", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

        return engine
    try:
        engine = create_engine(url, connect_args={"connect_timeout": math.ceil(timeout_s)})
    except (NoSuchModuleError, ModuleNotFoundError):
        raise MissingExtra("PostgreSQL needs psycopg: pip install 'drx-screen[postgresql]'.") from None

    @event.listens_for(engine, "connect")
    def _use_schema(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f'SET search_path TO "{campaign}"')
        connection.commit()

    return engine
