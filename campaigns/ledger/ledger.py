"""The ledger: everything a campaign knows, in one database.

Reading gives a frozen :class:`~campaigns.ledger.records.Snapshot`; writing happens in :meth:`Ledger.write`, one
transaction that either takes effect as a whole or leaves no trace::

    with ledger.write("mark") as entry:
        entry.set_state("R01-03", State.FAILED, "crucible broke")

Writers wait for one another (30 s, then :class:`~campaigns.errors.LedgerLocked`); readers never wait. SQLite keeps the
ledger in one file of the campaign's folder; a PostgreSQL URL keeps every campaign in a schema of its own.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.engine import URL

from campaigns.errors import LedgerError, LedgerUnreadable
from campaigns.ledger import chain, dump, reading, tables
from campaigns.ledger.database import Database, facts_of
from campaigns.ledger.entry import MEASURED, PREDICTED, Entry, measurement_number, user_and_host
from campaigns.ledger.records import MeasuredProfile, Measurement, ModelRecord, NewModel, PredictedProfile, Snapshot
from drxnet.checkpoint import ModelFiles
from drxnet.discharge import DischargeProfile
from drxnet.errors import UsageError
from drxnet.names import check_name

_log = logging.getLogger(__name__)


class Ledger:
    """One campaign's database. Safe to use from several processes at once."""

    def __init__(
        self,
        url: str | URL,
        campaign: str,
        *,
        command: str = "python",
        who: str | None = None,
        timeout_s: float | None = None,
        read_only: bool = False,
    ) -> None:
        """Connect to a ledger that exists.

        Args:
            url: SQLAlchemy URL of SQLite or PostgreSQL.
            campaign: its name; on PostgreSQL also the name of its schema.
            command: what the event log says was run.
            who: what the event log says who ran it; by default user and host.
            timeout_s: how long a writer waits for another one (s); by default :data:`TIMEOUT_S`.
            read_only: nothing is written, not even where the ledger is of an older version; needs no right to write.

        Raises:
            LedgerUnreadable: no ledger there, damaged, of another campaign or of a newer version.
        """
        self.campaign, self.command, self.who = campaign, command, who or user_and_host()
        self.lens: Mapping[str, Any] = {}
        """Fields of a :class:`~campaigns.ledger.records.Snapshot` that a campaign's YAML decides, not the ledger."""

        self.expects: Callable[[Snapshot], None] | None = None
        """Called in every transaction with what it finds, before anything is written; it raises to refuse."""

        self.known: reading.Reading | None = None
        """What was last read of it, from which the next reading goes on; may come from another one on the same URL."""

        self.read_only = read_only
        self._older_by: Sequence[Callable[[Connection], None]] = ()
        self._database = Database(url, campaign, timeout_s, read_only=read_only)
        self.url, self.where = self._database.url, self._database.where
        """URL of the database, and its place for messages, which never holds a password."""

        try:
            with self._reading() as connection:
                known = facts_of(connection)
            self._check(known)
            if self._database.is_file:
                self._refuse_lack()
            version = int(known["schema_version"])
            if version < tables.schema_version() and read_only:
                self._read_as_migrated(version)
            elif version < tables.schema_version():
                self._migrate()
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls, url: str | URL, campaign: str, model: NewModel, *, command: str = "python", timeout_s: float | None = None
    ) -> Ledger:
        """Connect to a ledger, making it when it is not there.

        Args:
            url: SQLAlchemy URL of SQLite or PostgreSQL.
            campaign: its name.
            model: the ensemble that a new campaign starts with.
            command: what the event log says was run.
            timeout_s: how long a writer waits for another one (s); by default :data:`TIMEOUT_S`.

        Raises:
            LedgerError: it cannot be made or opened.
        """
        check_name(campaign, "A campaign")
        if not cls.is_there(url, campaign):
            with contextlib.closing(Database(url, campaign, timeout_s)) as database:
                _make(database, model, command)
        return cls(url, campaign, command=command, timeout_s=timeout_s)

    @staticmethod
    def is_there(url: str | URL, campaign: str, *, read_only: bool = False) -> bool:
        """Whether a database holds the ledger of a campaign; makes none, and waits for nobody.

        Raises:
            LedgerError: the database cannot be reached or read.
        """
        check_name(campaign, "A campaign")
        with contextlib.closing(Database(url, campaign, read_only=read_only)) as database:
            if database.is_file and not Path(database.where).is_file():
                return False
            with database.reading() as connection, reading.sound(database.where):
                return bool(facts_of(connection))

    # -- reading -----------------------------------------------------------------------------------------

    def first_model(self) -> ModelRecord:
        """Read the model that the campaign starts from, and nothing else."""
        with self._reading() as connection:
            models = reading.models(connection)
            if not models:
                raise LedgerUnreadable(f"{self.where}: holds no model. {reading.RESTORE}")
            return Snapshot(self.campaign, None, models=models).first_model

    def read(self, as_of: int | None = None) -> Snapshot:
        """Read everything but profiles.

        Args:
            as_of: number of a round; gives the state right after that round was recorded.

        Raises:
            UsageError: no such round.
        """
        with self._reading() as connection:
            state = (
                self._read(connection).state
                if as_of is None
                else reading.read_as_of(connection, self.campaign, self.where, as_of)
            )
            return replace(state, **self.lens)

    def profiles(self, measurements: Iterable[Measurement]) -> tuple[MeasuredProfile, ...]:
        """Measurements with their profiles, in the order given."""
        wanted = tuple(measurements)
        numbers = [measurement_number(m.measurement_id) for m in wanted]
        with self._reading() as connection:
            rows = self._arrays(connection, tables.profiles, {m.event for m in wanted})
            asked = set(numbers)
            found = {r.number: DischargeProfile(*_arrays_in(r, MEASURED)) for r in rows if r.number in asked}
        return tuple(MeasuredProfile(m, found.get(n)) for m, n in zip(wanted, numbers, strict=True))

    def model_files(self, model_id: str) -> ModelFiles | None:
        """Files of a model; None where the ledger has never had them.

        Raises:
            LedgerUnreadable: they are larger than those of a model may be.
        """
        table = tables.model_files
        sizes = select(func.length(table.c.card), func.length(table.c.weights)).where(table.c.model_id == model_id)
        with self._reading() as connection:
            size = connection.execute(sizes).one_or_none()
            if size is None:
                return None
            if max(size) > tables.MODEL_BYTES:
                raise LedgerUnreadable(
                    f"{self.where}: the files of model {model_id} take {sum(size):,} bytes; a model of a ledger takes "
                    f"at most {tables.MODEL_BYTES:,}. The ledger was changed by other hands."
                )
            row = connection.execute(select(table.c.card, table.c.weights).where(table.c.model_id == model_id)).one()
            return ModelFiles(bytes(row.card), bytes(row.weights))

    def models_without_files(self) -> tuple[ModelRecord, ...]:
        """Models that were used, but whose files the ledger does not hold, one record of each."""
        with self._reading() as connection:
            kept = set(connection.execute(select(tables.model_files.c.model_id)).scalars())
            found = {m.model_id: m for m in reading.models(connection) if m.accepted and m.model_id not in kept}
        return tuple(found.values())

    def predicted_profiles(self, proposal_ids: Iterable[str]) -> dict[str, tuple[PredictedProfile, ...]]:
        """Profiles predicted when proposals were made, by proposal id."""
        wanted, found = list(proposal_ids), dict[str, list[PredictedProfile]]()
        p = tables.predicted_profiles
        with self._reading() as connection:
            asked = set(wanted)
            for row in self._arrays(connection, p, self._made_by(connection, asked)):
                if row.proposal_id in asked:
                    profile = PredictedProfile(reading.conditions_of(row), *_arrays_in(row, PREDICTED))
                    found.setdefault(row.proposal_id, []).append(profile)
        return {name: tuple(found[name]) for name in wanted if name in found}

    def _arrays(self, connection: Connection, table: Any, events: set[int]) -> Iterator[Any]:
        """Rows of arrays that events wrote, once they are known to be those."""
        for part in chain.in_parts(sorted(events)):
            told = chain.arrays_told(connection, part)
            rows: dict[str, list[Any]] = {}
            texts = chain.text_of_arrays(connection, part, rows, self._owners(connection, part))
            wrong = [e for e in part if e in told and chain.digest_of(texts.get(e, [])) != told[e]]
            if wrong:
                raise LedgerUnreadable(
                    f"{self.where}: is not as it was written: a profile or the weights of event {wrong[0]} were "
                    f"changed, added or taken away. {reading.RESTORE}"
                )
            yield from rows.get(table.name, ())

    def _made_by(self, connection: Connection, proposal_ids: set[str]) -> set[int]:
        """Events that made proposals, by a reading that their digests vouch for: an index may be damaged."""
        known = self.known
        if known is None or not proposal_ids <= known.state.by_id.keys():
            known = self._read(connection)
        return {made.event for name, made in known.state.by_id.items() if name in proposal_ids}

    def _owners(self, connection: Connection, events: Sequence[int]) -> dict[str, list[Any]]:
        """Measurements and proposals that events made, by the name of the table that holds their profiles."""
        known = self.known
        if known is None or max(events) > known.state.events[-1].number:
            known = self._read(connection)
        return {name: [key for e in events for key in made.get(e, ())] for name, made in known.owners.items()}

    def findings(self) -> tuple[chain.Finding, ...]:
        """Look at every row, array and weight of the ledger, and say what is damaged and since when."""
        with self._reading() as connection:
            return chain.findings(connection)

    def dump(self) -> dict[str, Any]:
        """Every row as plain values; see :meth:`rebuild`."""
        with self._reading() as connection:
            return dump.dump(connection)

    def copy_to(self, path: Path) -> None:
        """Copy a ledger in SQLite to another file, as it is at one instant, while others write."""
        with contextlib.closing(sqlite3.connect(path)) as copy:
            self._database.copy_to(copy)
            copy.execute("PRAGMA journal_mode = DELETE")

    # -- writing -----------------------------------------------------------------------------------------

    @classmethod
    def rebuild(cls, url: str | URL, campaign: str, content: Mapping[str, Any]) -> Ledger:
        """Make a ledger from what :meth:`dump` gave: the same events, digests and arrays, under another name or place.

        Raises:
            DataRefused: it is not that.
            LedgerError: it cannot be made.
        """
        check_name(campaign, "A campaign")
        with contextlib.closing(Database(url, campaign)) as database:
            database.use_write_ahead_log()
            with database.writing() as connection:
                _make_tables(connection, campaign)
                dump.load(connection, content)
        return cls(url, campaign)

    def drop(self) -> None:
        """Remove the ledger altogether: for one that has just been made and is not wanted."""
        self._database.drop()

    def accept(self, reason: str) -> tuple[int, ...]:
        """Take the rows of events as they are that were changed behind the ledger's back, and record it.

        Events, arrays and links that are gone cannot be taken so: only a backup has them.

        Args:
            reason: why.

        Returns:
            Numbers of the events.

        Raises:
            UsageError: nothing was changed.
            LedgerUnreadable: more is damaged than rows.
        """
        with self._database.writing() as connection:
            read = reading.rows_of(connection)
            digests, links = chain.digests_of(read), chain.links(connection)
            events = [row.number for row in read["events"]]
            wrong = chain.broken(links, digests, events, chain.accepted(read["events"]))
            if not wrong:
                raise UsageError(f"{self.where}: is as it was written; there is nothing to accept.")
            taken = {event: digests.get(event, chain.NOTHING) for event in wrong}
            beyond = chain.broken(links, digests, events, taken)
            if beyond:
                raise LedgerUnreadable(f"{self.where}: {reading.told(beyond, read['events'])} {reading.RESTORE}")
            entry = Entry(connection, reading.values(read, self.campaign))
            entry.details = {"accepted": {str(event): digest for event, digest in taken.items()}}
            entry.summary = f"events {', '.join(map(str, taken))} taken as they are: {reason}"
            entry.finish(chain.ACCEPT, self.who, self.command)
        return tuple(sorted(wrong))

    @contextmanager
    def write(self, verb: str) -> Iterator[Entry]:
        """One transaction: everything in the body is recorded, or nothing when it raises.

        Args:
            verb: what happens, for the event log. A body that changes nothing leaves no event.

        Raises:
            LedgerLocked: another process is writing and did not finish in time.
            LedgerError: the ledger was opened for reading.
        """
        if self.read_only:
            raise LedgerError(
                f"{self.where}: was opened for reading; `{verb}` cannot be recorded. Leave out --read-only, and check "
                "that its folder can be written to."
            )
        with self._database.writing() as connection:
            entry = Entry(connection, self._read(connection).state)
            if self.expects is not None:
                self.expects(entry.before)
            yield entry
            if entry.changed:
                entry.finish(verb, self.who, self.command)
        if entry.changed:
            self._database.note_last(entry.number)

    def last_event(self) -> int:
        """Number of the last entry of the log; it grows with everything that is written."""
        with self._reading() as connection:
            return connection.execute(select(func.max(tables.events.c.number))).scalar() or 0

    def close(self) -> None:
        """Give back the connections."""
        self._database.close()

    # -- how ---------------------------------------------------------------------------------------------

    def _refuse_lack(self) -> None:
        """Notice a ledger that lacks events which were recorded."""
        note = self._database.note
        try:
            noted = int(note.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return
        if noted > (last := self.last_event()):
            raise LedgerUnreadable(
                f"{self.where}: holds {last} events, and {noted} were recorded. It was copied without its "
                f"{Path(self.where).name}-wal while a program had it open, or it is an older copy. Copy the whole "
                f"folder again, or `drx-screen restore` a backup; to go on without the rest, delete {note.name}."
            )

    def _check(self, known: Mapping[str, str]) -> None:
        if not known:
            raise LedgerUnreadable(f"{self.where}: holds no ledger. `drx-screen init NAME --from CAMPAIGN` makes one.")
        version = known.get("schema_version", "")
        if not version.isdigit():
            raise LedgerUnreadable(f"{self.where}: has no schema version; it is no ledger of drx-screen.")
        if int(version) > tables.schema_version():
            raise LedgerUnreadable(
                f"{self.where}: written by a newer drx-screen (schema {version}, this one reads up to "
                f"{tables.schema_version()}). Upgrade drx-screen."
            )
        if known.get("campaign") != self.campaign:
            raise LedgerUnreadable(
                f"{self.where}: is the ledger of campaign {known.get('campaign')!r}, not of {self.campaign!r}. "
                "Give each campaign a ledger of its own."
            )

    def _migrate(self) -> None:
        with self._database.writing() as connection:
            version = int(facts_of(connection)["schema_version"])
            for step in tables.MIGRATIONS[version - 1 :]:
                step(connection)
            connection.execute(
                update(tables.meta)
                .where(tables.meta.c.key == "schema_version")
                .values(value=str(tables.schema_version()))
            )
        _log.info("%s: brought from schema %d to %d", self.where, version, tables.schema_version())

    def _read_as_migrated(self, version: int) -> None:
        """Read a ledger of an older version as it would be, and leave it as it is."""
        steps = tables.MIGRATIONS[version - 1 :]
        if not self._database.is_file:
            self._older_by = steps  # in each reading transaction, which is never committed
            return
        self._database.use_copy_in_memory()
        with self._database.engine.begin() as connection:
            for step in steps:
                step(connection)

    def _read(self, connection: Connection) -> reading.Reading:
        """Read everything but arrays; what was read before is compared, not worked out again."""
        with reading.sound(self.where):
            self.known = reading.read(connection, self.campaign, self.where, self.known)
        return self.known

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._database.reading() as connection, reading.sound(self.where):
            for step in self._older_by:
                step(connection)
            yield connection


def _make(database: Database, model: NewModel, command: str) -> None:
    """Make a ledger, unless another process was faster."""
    database.use_write_ahead_log()
    with database.writing() as connection:
        if facts_of(connection):
            return
        _make_tables(connection, database.campaign)
        entry = Entry(connection, Snapshot(database.campaign, None))
        entry.add_model(model)
        entry.summary = f"started with model {model.model_id}"
        entry.finish("init", user_and_host(), command)


def _make_tables(connection: Connection, campaign: str) -> None:
    tables.metadata.create_all(connection)
    facts = {"schema_version": str(tables.schema_version()), "campaign": campaign}
    connection.execute(insert(tables.meta), [{"key": k, "value": v} for k, v in facts.items()])


def _arrays_in(row: Any, names: Iterable[str]) -> Iterator[np.ndarray]:
    return (np.frombuffer(getattr(row, name), "<f8").astype(float) for name in names)
