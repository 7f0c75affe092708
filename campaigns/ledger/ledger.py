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
import getpass
import logging
import math
import os
import socket
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata as installed
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import numpy as np
from sqlalchemy import Connection, Engine, create_engine, func, insert, inspect, select, text, update
from sqlalchemy import event as engine_event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool, StaticPool

from campaigns.errors import LedgerError, LedgerLocked, LedgerUnreadable
from campaigns.ledger import chain, dump, reading, tables
from campaigns.ledger.physics import check_physics
from campaigns.ledger.records import (
    DOUBTFUL,
    NEXT_STATES,
    MeasuredProfile,
    Measurement,
    ModelRecord,
    NewMeasurement,
    NewModel,
    NewProposal,
    PredictedProfile,
    Prediction,
    Snapshot,
    State,
)
from drxnet.checkpoint import ModelFiles
from drxnet.discharge import CyclingConditions, DischargeProfile
from drxnet.errors import ConfigurationError, MissingExtra, UsageError
from drxnet.files import replace_file
from drxnet.names import check_name
from drxnet.process import Process
from drxnet.text import storable

_log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
_PACKAGES = ("drx-screen", "torch", "botorch", "ray", "numpy", "SQLAlchemy")

MODEL_BYTES = 128 << 20
"""Most that the weights of one model may take in a ledger; those of the shipped ensemble take 2.6 MB."""


LARGEST_NUMBER = 2**31 - 1
"""That a whole number in a database can have."""


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

        self.timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
        self.url, self.read_only = _checked_url(url), read_only
        self._older_by: Sequence[Callable[[Connection], None]] = ()
        self._use(_engine(self.url, campaign, self.timeout_s, read_only=read_only))
        try:
            with self._errors(), reading.sound(self.where):
                with self._engine.connect() as connection:
                    known = _facts(connection)
                self._check(known)
                if self.url.get_backend_name() == "sqlite":
                    with self._engine.connect() as connection:
                        self._refuse_lack(connection)
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
        checked, wait_s = _checked_url(url), TIMEOUT_S if timeout_s is None else timeout_s
        engine = _engine(checked, campaign, wait_s)
        try:
            with _translated(checked):
                if not _is_there(engine):
                    _make(engine, campaign, model, command, wait_s)
        finally:
            engine.dispose()
        return cls(url, campaign, command=command, timeout_s=timeout_s)

    @staticmethod
    def is_there(url: str | URL, campaign: str, *, read_only: bool = False) -> bool:
        """Whether a database holds the ledger of a campaign; makes none, and waits for nobody.

        Raises:
            LedgerError: the database cannot be reached or read.
        """
        check_name(campaign, "A campaign")
        checked = _checked_url(url)
        if checked.get_backend_name() == "sqlite" and not Path(checked.database or "").is_file():
            return False
        engine = _engine(checked, campaign, TIMEOUT_S, read_only=read_only)
        try:
            with _translated(checked), reading.sound(checked.database or ""):
                return _is_there(engine)
        finally:
            engine.dispose()

    @property
    def where(self) -> str:
        """Place of the ledger, for messages; never a password."""
        return self.url.database or "" if self.url.get_backend_name() == "sqlite" else self.url.render_as_string()

    # -- reading -----------------------------------------------------------------------------------------

    def first_model(self) -> ModelRecord:
        """Read the model that the campaign starts from, and nothing else."""
        with self._errors(), self._reading() as connection, reading.sound(self.where):
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
        with self._errors(), self._reading() as connection:
            state = self._read(connection).state if as_of is None else self._as_of(connection, as_of)
            return replace(state, **self.lens)

    def profiles(self, measurements: Iterable[Measurement]) -> tuple[MeasuredProfile, ...]:
        """Measurements with their profiles, in the order given."""
        wanted = tuple(measurements)
        numbers = [_measurement_number(m.measurement_id) for m in wanted]
        found: dict[int, DischargeProfile] = {}
        with self._errors(), self._reading() as connection, reading.sound(self.where):
            asked = set(numbers)
            for r in self._arrays(connection, tables.profiles, {m.event for m in wanted}):
                if r.number in asked:
                    found[r.number] = DischargeProfile(_array(r.voltage_v), _array(r.capacity_mah_g))
        return tuple(MeasuredProfile(m, found.get(n)) for m, n in zip(wanted, numbers, strict=True))

    def model_files(self, model_id: str) -> ModelFiles | None:
        """Files of a model; None where the ledger has never had them.

        Raises:
            LedgerUnreadable: they are larger than those of a model may be.
        """
        table = tables.model_files
        sizes = select(func.length(table.c.card), func.length(table.c.weights)).where(table.c.model_id == model_id)
        with self._errors(), self._reading() as connection, reading.sound(self.where):
            size = connection.execute(sizes).one_or_none()
            if size is None:
                return None
            if max(size) > MODEL_BYTES:
                raise LedgerUnreadable(
                    f"{self.where}: the files of model {model_id} take {sum(size):,} bytes; a model of a ledger takes "
                    f"at most {MODEL_BYTES:,}. The ledger was changed by other hands."
                )
            row = connection.execute(select(table.c.card, table.c.weights).where(table.c.model_id == model_id)).one()
            return ModelFiles(bytes(row.card), bytes(row.weights))

    def models_without_files(self) -> tuple[ModelRecord, ...]:
        """Models that were used, but whose files the ledger does not hold, one record of each."""
        with self._errors(), self._reading() as connection, reading.sound(self.where):
            kept = set(connection.execute(select(tables.model_files.c.model_id)).scalars())
            found = {m.model_id: m for m in reading.models(connection) if m.accepted and m.model_id not in kept}
        return tuple(found.values())

    def predicted_profiles(self, proposal_ids: Iterable[str]) -> dict[str, tuple[PredictedProfile, ...]]:
        """Profiles predicted when proposals were made, by proposal id."""
        wanted, found = list(proposal_ids), dict[str, list[PredictedProfile]]()
        p = tables.predicted_profiles
        with self._errors(), self._reading() as connection, reading.sound(self.where):
            asked = set(wanted)
            for row in self._arrays(connection, p, self._made_by(connection, asked)):
                if row.proposal_id in asked:
                    found.setdefault(row.proposal_id, []).append(
                        PredictedProfile(
                            reading.conditions_of(row),
                            _array(row.voltage_v),
                            _array(row.capacity_mah_g_mean),
                            _array(row.capacity_mah_g_std),
                        )
                    )
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
        with self._errors(), self._reading() as connection:
            return chain.findings(connection)

    def dump(self) -> dict[str, Any]:
        """Every row as plain values; see :meth:`rebuild`."""
        with self._errors(), self._reading() as connection:
            return dump.dump(connection)

    def copy_to(self, path: Path) -> None:
        """Copy a ledger in SQLite to another file, as it is at one instant, while others write."""
        with self._errors(), contextlib.closing(_read_only_connection(self.url, self.timeout_s)) as original:
            with contextlib.closing(sqlite3.connect(path)) as copy:
                original.backup(copy)
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
        checked = _checked_url(url)
        engine = _engine(checked, campaign, TIMEOUT_S)
        try:
            with _translated(checked):
                if engine.dialect.name == "sqlite":
                    _use_write_ahead_log(engine, TIMEOUT_S)
                with _writing(engine, campaign, TIMEOUT_S) as connection:
                    _make_tables(connection, campaign)
                    dump.load(connection, content)
        finally:
            engine.dispose()
        return cls(url, campaign)

    def drop(self) -> None:
        """Remove the ledger altogether: for one that has just been made and is not wanted."""
        self.close()
        if self.url.get_backend_name() == "sqlite":
            for ending in ("", "-wal", "-shm", ".last"):
                Path(f"{self.url.database}{ending}").unlink(missing_ok=True)
            return
        engine = _engine(self.url, self.campaign, self.timeout_s)
        with engine.begin() as connection:
            connection.execute(text(f'DROP SCHEMA "{self.campaign}" CASCADE'))
        engine.dispose()

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
        with self._errors(), _writing(self._engine, self.campaign, self.timeout_s) as connection:
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
            entry = Entry(connection, reading.values(read, self.campaign), max(events) + 1)
            entry.details = {"accepted": {str(event): digest for event, digest in taken.items()}}
            entry.summary = f"events {', '.join(map(str, taken))} taken as they are: {reason}"
            entry._close(chain.ACCEPT, self.who, self.command)
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
        with self._errors(), _writing(self._engine, self.campaign, self.timeout_s) as connection:
            last = connection.execute(select(func.max(tables.events.c.number))).scalar() or 0
            entry = Entry(connection, self._read(connection).state, last + 1)
            if self.expects is not None:
                self.expects(entry.before)
            yield entry
            if entry.changed:
                entry._close(verb, self.who, self.command)
        if entry.changed:
            self._note_last(entry.number)

    def last_event(self) -> int:
        """Number of the last entry of the log; it grows with everything that is written."""
        with self._reading() as connection:
            return connection.execute(select(func.max(tables.events.c.number))).scalar() or 0

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    # -- how ---------------------------------------------------------------------------------------------

    def _use(self, engine: Engine) -> None:
        """Read and write by an engine, and give back its connections when nobody holds this ledger any more."""
        self._engine = engine
        weakref.finalize(self, engine.dispose).atexit = False

    def _note_last(self, event: int) -> None:
        """Say beside the file which event was the last, so that a copy without its write-ahead file is noticed."""
        if self.url.get_backend_name() != "sqlite":
            return
        with contextlib.suppress(OSError, DBAPIError), self._engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")  # a file that is copied alone is nearly always whole
            replace_file(_note_of(self.url), f"{event}\n".encode())

    def _refuse_lack(self, connection: Connection) -> None:
        """Notice a ledger that lacks events which were recorded."""
        try:
            noted = int(_note_of(self.url).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return
        last = connection.execute(select(func.max(tables.events.c.number))).scalar() or 0
        if noted > last:
            note = _note_of(self.url).name
            raise LedgerUnreadable(
                f"{self.where}: holds {last} events, and {noted} were recorded. It was copied without its "
                f"{Path(self.where).name}-wal while a program had it open, or it is an older copy. Copy the whole "
                f"folder again, or `drx-screen restore` a backup; to go on without the rest, delete {note}."
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
        with _writing(self._engine, self.campaign, self.timeout_s) as connection:
            known = _facts(connection)
            version = int(known["schema_version"])
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
        if self.url.get_backend_name() != "sqlite":
            self._older_by = steps  # in each reading transaction, which is never committed
            return
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        with contextlib.closing(_read_only_connection(self.url, self.timeout_s)) as original:
            original.backup(copy)
        self._engine.dispose()
        self._use(create_engine("sqlite://", creator=lambda: copy, poolclass=StaticPool))
        with self._engine.begin() as connection:
            for step in steps:
                step(connection)

    def _read(self, connection: Connection) -> reading.Reading:
        """Read everything but arrays; what was read before is compared, not worked out again."""
        with reading.sound(self.where):
            self.known = reading.read(connection, self.campaign, self.where, self.known)
        return self.known

    def _as_of(self, connection: Connection, round_number: int) -> Snapshot:
        with reading.sound(self.where):
            return reading.read_as_of(connection, self.campaign, self.where, round_number)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        engine = self._engine
        if self.url.get_backend_name() != "sqlite":
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with engine.connect() as connection:
            for step in self._older_by:
                step(connection)
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with _translated(self.url):
            yield


class Entry:
    """A transaction that is being written; see :meth:`Ledger.write`."""

    def __init__(self, connection: Connection, before: Snapshot, number: int) -> None:
        self.before = before
        """The ledger as it was when the transaction began; no other process can change it until it ends."""

        self.number = number
        self.changed = False
        self.summary = ""
        """One sentence for the event log."""

        self.details: dict[str, Any] = {}
        self._connection = connection
        self._states = {p.proposal_id: (p.state, p.reason) for p in before.proposals}
        self._cells = {(c.proposal_id, c.label): c.cell_id for c in before.cells}
        self._owner = {m.measurement_id: m.proposal_id for m in before.standing}
        self._doubted = {m.measurement_id for m in before.doubtful}
        self._rows: dict[str, int] = {}
        self._retracted = {m.measurement_id for m in before.measurements if m.status == "retracted"}
        self._measurements = len(before.measurements)
        self._models = len(before.models)
        self._lab = sum(p.origin == "lab" for p in before.proposals)
        self._state_changes = connection.execute(select(func.count()).select_from(tables.proposal_states)).scalar() or 0

    def add_round(
        self,
        proposals: Sequence[NewProposal | tuple[str, Prediction, Sequence[PredictedProfile]]],
        *,
        model_id: str,
        seed: int,
        strategy: str,
        spec: Mapping[str, Any],
        spec_hash: str,
        statistics: Mapping[str, Any],
    ) -> int:
        """Record a batch of compositions as the next round, and give back its number.

        Each has its prediction, its predicted profiles, and, where that was chosen, how it is to be made.
        """
        number = self.before.round + 1
        self._insert(
            tables.rounds,
            number=number,
            at=_now(),
            model_id=model_id,
            seed=seed,
            strategy=strategy,
            spec=spec,
            spec_hash=spec_hash,
            statistics=statistics,
            versions=_versions(),
        )
        for position, proposal in enumerate(proposals, start=1):
            composition, prediction, profiles, process = NewProposal(*proposal)
            name = f"R{number:02d}-{position:02d}"
            self._add_proposal(name, number, position, "proposed", composition, asdict(prediction))
            self.set_state(name, State.PROPOSED, "")
            self._state_process(process, proposal_id=name)
            for place, profile in enumerate(profiles):
                arrays = ("voltage_v", "capacity_mah_g_mean", "capacity_mah_g_std")
                self._connection.execute(
                    insert(tables.predicted_profiles).values(
                        proposal_id=name,
                        position=place,
                        **_columns_of(profile.conditions),
                        **{k: _blob(getattr(profile, k)) for k in arrays},
                    )
                )
        return number

    def add_lab_composition(self, composition: str) -> str:
        """Record a composition that the lab measured without being asked, and give back its id."""
        self._lab += 1
        name = f"LAB-{self._lab:02d}"
        self._add_proposal(name, None, self._lab, "lab", composition, None)
        self.set_state(name, State.ACCEPTED, "made by the lab unasked")
        return name

    def set_state(self, proposal_id: str, state: State, reason: str) -> bool:
        """Move a proposal to another state; where it is there already, only another reason is recorded.

        Returns:
            Whether anything changed.

        Raises:
            UsageError: no such change is possible.
        """
        now, known = self._states.get(proposal_id, (None, ""))
        if now is state and reason in ("", known):
            return False
        if now is not None and now is not state and state not in NEXT_STATES[now]:
            possible = ", ".join(NEXT_STATES[now]) or "nothing"
            raise UsageError(f"{proposal_id} is {now} and cannot become {state}; it can become {possible}.")
        if now is State.MEASURED and state is not now and self._counts(proposal_id):
            raise UsageError(f"{proposal_id} is measured already; retract its measurements before it is made again.")
        self._states[proposal_id] = state, reason
        self._state_changes += 1
        self._insert(
            tables.proposal_states, number=self._state_changes, proposal_id=proposal_id, state=str(state), reason=reason
        )
        return True

    def add_file(self, sha256: str, name: str, form: str, status: str, rules: Sequence[Mapping[str, str]]) -> None:
        """Record a file that measurements come from."""
        self._insert(tables.files, sha256=sha256, name=name, format=form, status=status, rules=list(rules))

    def add_measurement(
        self,
        proposal_id: str,
        cell: str,
        measurement: NewMeasurement,
        sha256: str | None,
        *,
        doubt: tuple[str, str] | None = None,
    ) -> str:
        """Record a discharge of a cell, move its proposal to measured, and give back the measurement's id.

        Args:
            proposal_id: that the cell was made for.
            cell: its label.
            measurement: what was measured.
            sha256: of the file that it comes from.
            doubt: rule and mistake that would explain it; the proposal then goes on waiting.

        Raises:
            MeasurementError: no cell can give such a discharge.
        """
        check_physics(measurement)
        key = (proposal_id, storable(cell))
        if key not in self._cells:
            self._cells[key] = len(self._cells) + 1
            self._insert(tables.cells, cell_id=self._cells[key], proposal_id=proposal_id, label=key[1])
        self._measurements += 1
        profile = measurement.profile
        self._insert(
            tables.measurements,
            number=self._measurements,
            cell_id=self._cells[key],
            sha256=sha256,
            composition=measurement.composition,
            **_columns_of(measurement.conditions),
            capacity_mah_g=measurement.capacity_mah_g,
            average_voltage_v=profile.average_voltage_v() if profile else None,
            specific_energy_wh_kg=profile.specific_energy_wh_kg() if profile else None,
            sigma_mah_g=measurement.sigma_mah_g,
            provenance=measurement.provenance,
            flags=list(measurement.flags),
            withdrawn_reason="",
            charge_mah=measurement.charge_mah,
            file_cycle=measurement.file_cycle,
            elapsed_s=measurement.elapsed_s,
            charge_top_v=measurement.charge_top_v,
        )
        self._state_process(measurement.conditions.process, measurement=self._measurements)
        if profile is not None:
            blobs = {"voltage_v": _blob(profile.voltage_v), "capacity_mah_g": _blob(profile.capacity_mah_g)}
            self._connection.execute(insert(tables.profiles).values(number=self._measurements, **blobs))
        name = f"M{self._measurements:04d}"
        self._owner[name] = proposal_id
        if doubt is None:
            self.set_state(proposal_id, State.MEASURED, "")
        else:
            self.judge(name, DOUBTFUL, *doubt)
        return name

    def _state_process(self, process: Process, **owner: int | str) -> None:
        if process:
            self._add_numbered(tables.processes, stated=process.row(), **owner)

    def judge(self, measurement_id: str, verdict: str, rule: str, reason: str) -> None:
        """Record what is thought of a standing measurement, and let its proposal wait or be measured accordingly.

        Args:
            measurement_id: such as ``M0007``.
            verdict: ``doubtful``, ``confirmed`` or ``cleared``.
            rule: that it broke; empty where a person spoke.
            reason: mistake that would explain it, or why it is right.

        Raises:
            UsageError: unknown or withdrawn.
        """
        name = measurement_id.upper()
        if name not in self._owner:
            self._refuse_unknown(measurement_id)
        self._add_numbered(
            tables.verdicts, measurement=_measurement_number(name), verdict=verdict, rule=rule, reason=reason
        )
        if verdict == DOUBTFUL:
            self._doubted.add(name)
            self._wait(self._owner[name], f"{name} is doubtful: {reason}")
        else:
            self._doubted.discard(name)
            self.set_state(self._owner[name], State.MEASURED, "")

    def withdraw(self, measurement_id: str, reason: str, *, superseded_by: str | None = None) -> None:
        """Stop counting a measurement; it stays in the ledger with the reason.

        A retracted one can still get a successor; the reason of its retraction stays.

        Raises:
            UsageError: unknown, withdrawn already, or no reason given.
        """
        name = measurement_id.upper()
        if not reason.strip():
            raise UsageError(f"A withdrawal needs a reason. Got none for {name}.")
        if superseded_by and name in self._retracted:
            self._retracted.remove(name)
            self._fill(name, superseded_by=_measurement_number(superseded_by))
            return
        if name not in self._owner:
            self._refuse_unknown(measurement_id)
        proposal_id = self._owner.pop(name)
        self._doubted.discard(name)
        self._fill(
            name,
            withdrawn_event=self.number,
            withdrawn_reason=reason,
            superseded_by=_measurement_number(superseded_by) if superseded_by else None,
        )
        self._wait(proposal_id, f"its last measurement was withdrawn: {reason}")

    def _wait(self, proposal_id: str, reason: str) -> None:
        """Let a proposal wait for its cells where no measurement of it counts."""
        state, _ = self._states[proposal_id]
        if not self._counts(proposal_id) and state in (State.PROPOSED, State.ACCEPTED, State.MEASURED):
            self.set_state(proposal_id, State.ACCEPTED, reason)

    def _counts(self, proposal_id: str) -> bool:
        """Whether a measurement of a proposal counts."""
        return any(owner == proposal_id for name, owner in self._owner.items() if name not in self._doubted)

    def _refuse_unknown(self, measurement_id: str) -> NoReturn:
        name = measurement_id.upper()
        earlier = next((m for m in self.before.measurements if m.measurement_id == name), None)
        if earlier is None:
            raise UsageError(f"No measurement {measurement_id!r} in campaign {self.before.campaign}.")
        raise UsageError(f"{name} was {earlier.status} before: {earlier.withdrawn_reason}.")

    def add_phases(self, proposal_id: str, phases: Mapping[str, float | None], single_phase: bool | None) -> None:
        """Record the phases that were found in what was made of a proposal: share of each (%), where known."""
        self._add_numbered(
            tables.phase_outcomes, proposal_id=proposal_id, phases=dict(phases), single_phase=single_phase
        )

    def add_analysis(self, proposal_id: str, composition: str) -> None:
        """Record the composition of what was made of a proposal, as measured (canonical formula)."""
        self._add_numbered(tables.analyses, proposal_id=proposal_id, composition=composition)

    def add_model(self, model: NewModel) -> int:
        """Record an ensemble that was tried, and give back its number."""
        self._models += 1
        number = self._models
        columns = ("model_id", "path", "parent", "data_fingerprint", "accepted", "metrics")
        row = {name: getattr(model, name) for name in columns}
        self._insert(tables.models, number=number, at=_now(), measurement_ids=list(model.measurement_ids), **row)
        if model.files is not None:
            self.keep_files(model.files)
        return number

    def keep_files(self, files: ModelFiles) -> str:
        """Keep the files of a model, once, and give back its id.

        Raises:
            ConfigurationError: they are too large for a ledger.
        """
        size = max(len(files.weights), len(files.card))
        if size > MODEL_BYTES:
            raise ConfigurationError(
                f"A model of a campaign takes at most {MODEL_BYTES:,} bytes, since it is kept in the ledger. Got "
                f"{size:,}; start with a smaller one."
            )
        table, sha256 = tables.model_files, files.sha256
        model_id = sha256[:12]
        if self._connection.execute(select(table.c.model_id).where(table.c.model_id == model_id)).first() is None:
            self._insert(table, model_id=model_id, weights_sha256=sha256, card=files.card, weights=files.weights)
        return model_id

    def note_refused(self, files: Sequence[Mapping[str, Any]]) -> None:
        """Write refused files (``name``, ``sha256``, ``rules``) to the event log; nothing else is recorded of them."""
        if files:
            self.details["refused"] = list(files)
            self.changed = True

    def _add_proposal(
        self, name: str, number: int | None, position: int, origin: str, composition: str, prediction: Any
    ) -> None:
        self._insert(
            tables.proposals,
            proposal_id=name,
            round=number,
            position=position,
            origin=origin,
            composition=composition,
            prediction=prediction,
        )

    def _fill(self, measurement_id: str, **columns: Any) -> None:
        """Fill the columns of a measurement that say what became of it."""
        self.changed = True
        number = tables.measurements.c.number
        self._connection.execute(
            update(tables.measurements)
            .where(number == _measurement_number(measurement_id))
            .values(**_storable(columns))
        )

    def _add_numbered(self, table: Any, **row: Any) -> None:
        """Add the next row of a table whose rows are numbered from 1."""
        if table.name not in self._rows:
            self._rows[table.name] = self._connection.execute(select(func.max(table.c.number))).scalar() or 0
        self._rows[table.name] += 1
        self._insert(table, number=self._rows[table.name], **row)

    def _insert(self, table: Any, **row: Any) -> None:
        self.changed = True
        self._connection.execute(insert(table).values(event=self.number, **{k: _storable(v) for k, v in row.items()}))

    def _close(self, verb: str, who: str, command: str) -> None:
        row = {"number": self.number, "at": _now(), "who": who, "command": command, "verb": verb}
        row |= {"summary": self.summary, "details": self.details, "versions": _versions()}
        self._connection.execute(insert(tables.events).values(**_storable(row)))
        chain.add_link(self._connection, self.number)


# -- connections -----------------------------------------------------------------------------------------


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


def _note_of(url: URL) -> Path:
    return Path(f"{url.database}.last")


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

        @engine_event.listens_for(engine, "begin")
        def _begin_reading(connection: Connection) -> None:  # or each query would see what others write meanwhile
            connection.exec_driver_sql("BEGIN")

        return engine
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": timeout_s})

        @engine_event.listens_for(engine, "connect")
        def _prepare(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # SQLAlchemy's begin event below decides how a transaction begins
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")

        @engine_event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            writer = connection.get_execution_options().get("writer", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

        return engine
    try:
        engine = create_engine(url, connect_args={"connect_timeout": math.ceil(timeout_s)})
    except (NoSuchModuleError, ModuleNotFoundError):
        raise MissingExtra("PostgreSQL needs psycopg: pip install 'drx-screen[postgresql]'.") from None

    @engine_event.listens_for(engine, "connect")
    def _use_schema(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f'SET search_path TO "{campaign}"')
        connection.commit()

    return engine


@contextmanager
def _writing(engine: Engine, campaign: str, timeout_s: float) -> Iterator[Connection]:
    with engine.connect().execution_options(writer=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{math.ceil(timeout_s * 1000)}ms'"))
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"drx-screen {campaign}"}
            )
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{campaign}"'))
        yield connection


def _use_write_ahead_log(engine: Engine, timeout_s: float) -> None:
    """Switch a SQLite file to write-ahead logging; SQLite itself does not wait for its lock here."""
    give_up = time.monotonic() + timeout_s
    raw = engine.raw_connection()
    try:
        while True:
            try:
                raw.cursor().execute("PRAGMA journal_mode = WAL")
                return
            except engine.dialect.dbapi.OperationalError as error:  # type: ignore[union-attr] # it has a DBAPI
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise
                time.sleep(0.05)
    finally:
        raw.close()


@contextmanager
def _translated(url: URL) -> Iterator[None]:
    """Turn what the database raises into errors that a user can act on."""
    where = url.database if url.get_backend_name() == "sqlite" else url.render_as_string()
    try:
        yield
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
        if "locked" in reason or getattr(error.orig, "sqlstate", None) == "55P03":
            raise LedgerLocked(
                f"{where}: another process is writing to the ledger and did not finish in time. Nothing was recorded; "
                "try again."
            ) from error
        if "readonly" in reason:
            raise LedgerError(f"{where}: cannot be written to ({reason}). Check the permissions.") from error
        raise LedgerUnreadable(f"{where}: the ledger cannot be used ({reason}).") from error
    except Exception as error:
        if type(error).__module__ == "sqlite3":
            raise LedgerUnreadable(f"{where}: the ledger cannot be used ({error}).") from error
        raise


def _is_there(engine: Engine) -> bool:
    """Whether a database holds a ledger; takes no lock that a writer could hold."""
    with engine.connect() as connection:
        return bool(_facts(connection))


def _make(engine: Engine, campaign: str, model: NewModel, command: str, timeout_s: float) -> None:
    """Make a ledger, unless another process was faster."""
    if engine.dialect.name == "sqlite":
        _use_write_ahead_log(engine, timeout_s)
    with _writing(engine, campaign, timeout_s) as connection:
        if _facts(connection):
            return
        _make_tables(connection, campaign)
        entry = Entry(connection, Snapshot(campaign, None), 1)
        entry.add_model(model)
        entry.summary = f"started with model {model.model_id}"
        entry._close("init", user_and_host(), command)


def _make_tables(connection: Connection, campaign: str) -> None:
    tables.metadata.create_all(connection)
    facts = {"schema_version": str(tables.schema_version()), "campaign": campaign}
    connection.execute(insert(tables.meta), [{"key": k, "value": v} for k, v in facts.items()])


def _facts(connection: Connection) -> dict[str, str]:
    """Read the table ``meta``; nothing where there is no ledger yet."""
    if not inspect(connection).has_table("meta"):
        return {}
    return {row.key: row.value for row in connection.execute(select(tables.meta))}


# -- values to rows --------------------------------------------------------------------------------------


def _columns_of(conditions: CyclingConditions) -> dict[str, Any]:
    return {name: getattr(conditions, name) for name in ("current_ma_g", "v_low", "v_high", "cycle")}


def _measurement_number(name: str) -> int:
    digits = name.upper().removeprefix("M")
    if not digits.isdigit():
        raise UsageError(f"A measurement is named like M0007. Got {name!r}.")
    return int(digits)


def _blob(values: np.ndarray) -> bytes:
    return np.asarray(values, "<f8").tobytes()


def _array(blob: bytes) -> np.ndarray:
    return np.frombuffer(blob, "<f8").astype(float)


def _storable(value: Any) -> Any:
    """Turn what JSON or the database has no word for (NaN, numpy scalars, tuples, NUL, ...) into what it has."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(k)): _storable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def user_and_host() -> str:
    """Who runs this, for the log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    import platform

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = installed.version(package)
        except installed.PackageNotFoundError:
            continue
    return found


def sqlite_url(path: Path) -> str:
    """URL of a SQLite file."""
    return f"sqlite:///{path.resolve()}"
