"""Rows of a ledger as values, once they are known to be as they were written.

Who has read a ledger before goes on from there: what is as it was is compared and kept, what came since is looked at as
everything was the first time. Rows are only added, and the columns of a measurement that are filled later are the one
exception; where anything else is not as it was, everything is read and looked at anew. So a reading that goes on gives
what a first one gives, and finds the same damage.
"""

from __future__ import annotations

from collections import defaultdict, namedtuple
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

from sqlalchemy import JSON, Boolean, Connection, Integer, Table, select, type_coerce
from sqlalchemy.types import NullType

from campaigns.errors import LedgerUnreadable
from campaigns.ledger import chain, tables
from campaigns.ledger.records import (
    Analysis,
    Cell,
    Event,
    IngestedFile,
    Measurement,
    ModelRecord,
    PhaseOutcome,
    Prediction,
    Proposal,
    Round,
    Snapshot,
    State,
    Verdict,
    prediction_of_first_version,
)
from drxnet.discharge import CyclingConditions
from drxnet.errors import DRXError, UsageError
from drxnet.process import NOT_STATED, Process

LARGEST_NUMBER = 2**31 - 1
"""That a whole number in a database can have."""

Rows = Mapping[str, Sequence[Any]]
"""Rows of the tables of :data:`campaigns.ledger.chain.ROWS`, by the table's name, in the order in which they came."""

_AS_STORED = (
    "composition capacity_mah_g average_voltage_v specific_energy_wh_kg sigma_mah_g provenance sha256 event charge_mah "
    "file_cycle elapsed_s charge_top_v"
).split()
"""Fields of a measurement that are columns of its row."""

_FILLED_LATER = frozenset(list(tables.measurements.columns.keys()).index(name) for name in chain.FILLED_LATER)


@dataclass(frozen=True)
class Reading:
    """A ledger at one instant, found sound."""

    stored: Rows
    """As the database has them."""

    rows: Rows
    """The same, as what they stand for."""

    digests: Mapping[int, str]
    """Of the rows of each event."""

    state: Snapshot

    @cached_property
    def owners(self) -> Mapping[str, Mapping[int, Sequence[Any]]]:
        """What each event made that has profiles, by the name of the table that holds them."""
        measured: defaultdict[int, list[int]] = defaultdict(list)
        for row in self.rows[tables.measurements.name]:
            measured[row.event].append(row.number)
        proposed: defaultdict[int, list[str]] = defaultdict(list)
        for row in self.rows[tables.proposals.name]:
            proposed[row.event].append(row.proposal_id)
        return {tables.profiles.name: measured, tables.predicted_profiles.name: proposed}


def read(connection: Connection, campaign: str, where: str, known: Reading | None = None) -> Reading:
    """Read everything but arrays; content that the digests of the events do not vouch for is no content.

    Args:
        connection: read only.
        campaign: its name.
        where: place of the ledger, for messages.
        known: what was read before, of whichever ledger; only what is equal to it is taken from it.

    Raises:
        LedgerUnreadable: it is not as it was written.
    """
    stored = _stored(connection)
    if known is None or (filled := _filled_since(known.stored, stored)) is None:
        rows = _processed(connection, stored)
        digests = chain.digests_of(rows)
        _refuse_broken(connection, rows, digests, where)
        return Reading(stored, rows, digests, values(rows, campaign))
    rows = _continued(connection, known, stored, filled)
    looked_at = _events_of(rows, known, filled)
    old = {event: digest for event, digest in known.digests.items() if event not in looked_at}
    digests = old | chain.digests_of(rows, events=looked_at)
    _refuse_broken(connection, rows, digests, where)
    return Reading(stored, rows, digests, values(rows, campaign, known=known.state, but=filled))


def read_as_of(connection: Connection, campaign: str, where: str, as_of: int) -> Snapshot:
    """Read what the ledger held right after a round was recorded.

    Raises:
        UsageError: no such round.
        LedgerUnreadable: it is not as it was written.
    """
    number, last = tables.rounds.c.number, None
    if as_of <= LARGEST_NUMBER:
        last = connection.execute(select(tables.rounds.c.event).where(number == as_of)).scalar()
    if last is None:
        raise UsageError(f"Campaign {campaign} has no round R{as_of:02d}.")
    rows = _processed(connection, _stored(connection, last))
    _refuse_broken(connection, rows, chain.digests_of(rows, last=last), where, last)
    return values(rows, campaign, as_of, last)


def rows_of(connection: Connection) -> Rows:
    """Read all rows, whether they are as they were written or not."""
    return _processed(connection, _stored(connection))


def _refuse_broken(
    connection: Connection, rows: Rows, digests: Mapping[int, str], where: str, last: int | None = None
) -> None:
    links = [link for link in chain.links(connection) if last is None or link.event <= last]
    events = [row.number for row in rows["events"]]
    wrong = chain.broken(links, digests, events, chain.accepted(rows["events"]))
    if wrong:
        raise LedgerUnreadable(f"{where}: is not as it was written. {told(wrong, rows['events'])} {RESTORE}")
    if not rows["models"]:
        raise LedgerUnreadable(f"{where}: holds no model. {RESTORE}")


# -- damage ----------------------------------------------------------------------------------------------


@contextmanager
def sound(where: str) -> Iterator[None]:
    """Turn what a damaged row raises into an error that a user can act on."""
    try:
        yield
    except DRXError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise LedgerUnreadable(
            f"{where}: holds a damaged row ({type(error).__name__}: {str(error)[:200]}). {RESTORE}"
        ) from error


RESTORE = "`drx-screen verify` says what else is damaged and since when; `drx-screen restore` brings a backup back."


def told(wrong: Mapping[int, str], events: Sequence[Any]) -> str:
    """Say of the first events that are not as they were written what is wrong."""
    known = {row.number: f"{row.verb} of {row.at}" for row in events}
    said = [f"Event {n} ({known.get(n, 'gone')}): {what}." for n, what in sorted(wrong.items())[:3]]
    more = f" And {len(wrong) - 3} more events." if len(wrong) > 3 else ""
    return " ".join(said) + more


# -- from the database -----------------------------------------------------------------------------------


def _stored(connection: Connection, last: int | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Rows, perhaps up to an event, as the database has them; where JSON is text there, it is text here."""
    return {table.name: _fetched(connection, table, last) for table in chain.ROWS}


def _fetched(connection: Connection, table: Table, last: int | None = None) -> list[tuple[Any, ...]]:
    made = table.c.number if table is tables.events else table.c.event
    keys = tuple(table.primary_key.columns)
    order = keys if isinstance(keys[0].type, Integer) else (made, *keys)  # so that what is new comes last
    query = select(*(type_coerce(c, NullType()).label(c.name) for c in table.columns)).order_by(*order)
    found = connection.execute(query if last is None else query.where(made <= last))
    return list(map(tuple, found.all()))


@cache
def _kind(table: Table) -> Any:
    return namedtuple(table.name, table.columns.keys())


def _records(connection: Connection, table: Table, stored: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Rows of a table as what they stand for."""
    dialect = connection.dialect
    ways = [
        (place, column.type.dialect_impl(dialect).result_processor(dialect, None))
        for place, column in enumerate(table.columns)
        if isinstance(column.type, JSON | Boolean)
    ]
    other = [(place, way) for place, way in ways if way is not None]
    found, kind = [], _kind(table)
    for row in stored:
        values = list(row)
        for place, way in other:
            values[place] = way(values[place])
        found.append(kind._make(values))
    return found


def _processed(connection: Connection, stored: Rows) -> dict[str, list[Any]]:
    return {table.name: _records(connection, table, stored[table.name]) for table in chain.ROWS}


# -- since the last reading ------------------------------------------------------------------------------


def _filled_since(before: Rows, now: Rows) -> frozenset[int] | None:
    """Places of the measurements that were withdrawn or superseded since; None where anything else is not as it was."""
    filled: frozenset[int] = frozenset()
    for name, old in before.items():
        new = now[name]
        if name == tables.measurements.name and len(new) >= len(old):
            filled = frozenset(place for place, (row, other) in enumerate(zip(old, new, strict=False)) if row != other)
            if any(_as_made(old[place]) != _as_made(new[place]) for place in filled):
                return None
        elif new[: len(old)] != old:
            return None
    return filled


def _as_made(measurement: Sequence[Any]) -> list[Any]:
    """What a measurement was when it was recorded."""
    return [value for place, value in enumerate(measurement) if place not in _FILLED_LATER]


def _continued(connection: Connection, known: Reading, stored: Rows, filled: Container[int]) -> dict[str, list[Any]]:
    """Rows as what they stand for: the known ones, those that were filled since, and those that came since."""
    came = {name: found[len(known.stored[name]) :] for name, found in stored.items()}
    rows = {name: [*known.rows[name], *added] for name, added in _processed(connection, came).items()}
    name = tables.measurements.name
    places = [place for place in range(len(known.stored[name])) if place in filled]
    again = _records(connection, tables.measurements, (stored[name][place] for place in places))
    for place, row in zip(places, again, strict=True):
        rows[name][place] = row
    return rows


def _events_of(rows: Rows, known: Reading, filled: Iterable[int]) -> set[int]:
    """Events that have rows which came or were filled since a reading."""
    events = {row.number for row in rows["events"][len(known.rows["events"]) :]}
    for name, found in rows.items():
        if name != tables.events.name:
            events |= {row.event for row in found[len(known.rows[name]) :]}
    measured = rows[tables.measurements.name]
    made = {row.number: row.event for row in measured} if filled else {}
    for place in filled:
        for row in (known.rows[tables.measurements.name][place], measured[place]):
            events |= {row.withdrawn_event, made.get(row.superseded_by)} - {None}
    return events


# -- values ----------------------------------------------------------------------------------------------


def values(
    rows: Rows,
    campaign: str,
    as_of: int | None = None,
    last: int | None = None,
    *,
    known: Snapshot | None = None,
    but: Container[int] = (),
) -> Snapshot:
    """Rows as values.

    Args:
        rows: in the order in which they came.
        campaign: its name.
        as_of: round whose recording this is the state after.
        last: event up to which rows count.
        known: values of the first of these rows, which are taken where nothing was said of them since.
        but: places of the measurements that are not as they were then.
    """
    rounds = tuple(Round(**r._asdict()) for r in rows["rounds"])
    files = _files(rows["files"])
    stated = {r.measurement or r.proposal_id: Process.of(r.stated) for r in rows["processes"]}
    cells = tuple(Cell(r.cell_id, r.proposal_id, r.label) for r in rows["cells"])
    return Snapshot(
        campaign=campaign,
        as_of=as_of,
        rounds=rounds,
        proposals=_proposals(rows, {r.number: r.spec for r in rounds}, stated, known),
        cells=cells,
        measurements=_measurements(rows, cells, files, stated, last, known, but),
        files=files,
        models=_as_models(rows["models"]),
        phase_outcomes=tuple(
            PhaseOutcome(r.proposal_id, r.phases, r.single_phase, r.event) for r in rows["phase_outcomes"]
        ),
        analyses=tuple(Analysis(r.proposal_id, r.composition, r.event) for r in rows["analyses"]),
        events=tuple(Event(**r._asdict()) for r in rows["events"]),
    )


def _files(rows: Sequence[Any]) -> tuple[IngestedFile, ...]:
    return tuple(
        IngestedFile(r.sha256, r.name, r.format, r.status, tuple(r.rules), r.event)
        for r in sorted(rows, key=lambda r: (r.event, r.name))
    )


def _proposals(
    rows: Rows, specs: Mapping[int, Mapping[str, Any]], stated: Mapping[Any, Process], known: Snapshot | None
) -> tuple[Proposal, ...]:
    """Proposals in the order in which they came, with what was predicted under the specifications of their rounds."""
    state = {row.proposal_id: (State(row.state), row.reason) for row in rows["proposal_states"]}
    before = known.by_id if known is not None else {}
    found = []
    for r in sorted(rows["proposals"], key=lambda r: (r.event, r.position)):
        process, same = stated.get(r.proposal_id, NOT_STATED), before.get(r.proposal_id)
        if same is None or (same.state, same.reason, same.process) != (*state[r.proposal_id], process):
            predicted = same.prediction if same else _prediction(r.prediction, specs.get(r.round, {}))
            now, reason = state[r.proposal_id]
            same = Proposal(r.proposal_id, r.round, r.composition, r.origin, now, reason, predicted, r.event, process)
        found.append(same)
    return tuple(found)


def _measurements(
    rows: Rows,
    cells: Sequence[Cell],
    files: Sequence[IngestedFile],
    stated: Mapping[Any, Process],
    last: int | None,
    known: Snapshot | None,
    but: Container[int],
) -> tuple[Measurement, ...]:
    by_number, names = {c.cell_id: c for c in cells}, {f.sha256: f.name for f in files}
    judged = {r.measurement: Verdict(r.verdict, r.rule, r.reason, r.event) for r in rows["verdicts"]}
    before, measured = () if known is None else known.measurements, rows["measurements"]
    found = []
    for place, r in enumerate(measured):
        verdict, process = judged.get(r.number), stated.get(r.number, NOT_STATED)
        if place < len(before) and place not in but:
            same = before[place]
            if same.verdict == verdict and same.conditions.process == process:
                found.append(same)
                continue
        cell = by_number[r.cell_id]
        found.append(_measurement(r, cell, names, verdict, process, last, latest=len(measured)))
    return tuple(found)


def _prediction(stored: Mapping[str, Any] | None, spec: Mapping[str, Any]) -> Prediction | None:
    """Prediction of a proposal; one that the lab brought has none."""
    if not stored:
        return None
    return Prediction.of(stored if "values" in stored else prediction_of_first_version(stored, spec))


def models(connection: Connection) -> tuple[ModelRecord, ...]:
    """Models of a ledger, and nothing else of it."""
    return _as_models(_records(connection, tables.models, _fetched(connection, tables.models)))


def _as_models(rows: Iterable[Any]) -> tuple[ModelRecord, ...]:
    return tuple(ModelRecord(**{**r._asdict(), "measurement_ids": tuple(r.measurement_ids)}) for r in rows)


def _measurement(
    row: Any,
    cell: Cell,
    names: Mapping[str, str],
    verdict: Verdict | None,
    process: Process,
    last: int | None,
    *,
    latest: int,
) -> Measurement:
    """A measurement as of an event; its successor is named once that is among the ``latest`` ones."""
    withdrawn = row.withdrawn_event is not None and (last is None or row.withdrawn_event <= last)
    return Measurement(
        measurement_id=f"M{row.number:04d}",
        proposal_id=cell.proposal_id,
        cell=cell.label,
        conditions=conditions_of(row, process),
        file=names.get(row.sha256),
        flags=tuple(row.flags),
        withdrawn_event=row.withdrawn_event if withdrawn else None,
        withdrawn_reason=row.withdrawn_reason if withdrawn else "",
        superseded_by=f"M{row.superseded_by:04d}" if withdrawn and 0 < (row.superseded_by or 0) <= latest else None,
        verdict=verdict,
        **{name: getattr(row, name) for name in _AS_STORED},
    )


@lru_cache(maxsize=4096)
def _condition_values(
    current_ma_g: float, v_low: float, v_high: float, cycle: int, process: Process
) -> CyclingConditions:
    return CyclingConditions(current_ma_g, v_low, v_high, cycle, process)


def conditions_of(row: Any, process: Process = NOT_STATED) -> CyclingConditions:
    """Conditions that a row names in its columns."""
    return _condition_values(row.current_ma_g, row.v_low, row.v_high, row.cycle, process)
