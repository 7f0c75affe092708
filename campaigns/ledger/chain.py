"""The chain of digests over the events of a ledger, by which it notices what was changed behind its back.

Every event carries the digest of the rows that it wrote, one of those that are read all the time and one of arrays and
weights, and a link: the digest of both and of the link before. Whoever changes, adds or takes away a row without the
ledger breaks a digest; whoever takes away an event breaks the chain. It is no signature: who can write to the database
and knows how can write another chain. The columns that are filled later (a measurement withdrawn, or superseded) belong
to the event that filled them. Events of schema 1 carry none; the chain begins with the first event after.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from sqlalchemy import Column, Connection, Double, LargeBinary, Table, insert, select
from sqlalchemy.exc import DBAPIError

from campaigns.ledger import tables

ACCEPT = "accept"
"""Verb of an event by which a person accepts what was changed behind the ledger's back."""

ROWS: tuple[Table, ...] = (
    tables.events,
    tables.rounds,
    tables.proposals,
    tables.proposal_states,
    tables.files,
    tables.cells,
    tables.measurements,
    tables.models,
    tables.verdicts,
    tables.phase_outcomes,
    tables.analyses,
    tables.processes,
)
"""Read whenever the ledger is."""

FILLED_LATER = ("withdrawn_event", "withdrawn_reason", "superseded_by")


@dataclass(frozen=True)
class Link:
    """What the ledger says of one event."""

    event: int
    rows: str
    """Of the rows of :data:`ROWS`."""

    arrays: str
    """Of profiles and weights."""

    link: str


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    sound: bool
    said: str
    """What was found, and what to do where it is damaged."""

    since: int | None = None
    """First event that is damaged."""


def digests_of(
    read: Mapping[str, Sequence[Any]], *, last: int | None = None, events: Container[int] | None = None
) -> dict[int, str]:
    """Digests of rows by the event that wrote them.

    Args:
        read: rows of the tables of :data:`ROWS`, by the table's name.
        last: event up to which rows were read; None for all.
        events: of these alone; None for all.
    """
    texts: defaultdict[int, list[str]] = defaultdict(list)
    for event, text in _as_made(read, events):
        texts[event].append(text)
    for event, text in _as_ended(read[tables.measurements.name], last):
        if events is None or event in events:
            texts[event].append(text)
    return {event: digest_of(found) for event, found in texts.items()}


def _as_made(read: Mapping[str, Sequence[Any]], events: Container[int] | None) -> Iterator[tuple[int, str]]:
    """Yield the events that made rows, some or all, with their texts."""
    for table in ROWS:
        kept = [c.name not in FILLED_LATER for c in table.columns]
        columns = list(compress(table.columns, kept))
        event = list(table.columns.keys()).index("number" if table is tables.events else "event")
        for row in read[table.name]:
            if events is not None and row[event] not in events:
                continue
            values = row if all(kept) else compress(row, kept)
            yield row[event], f"{table.name} {_text(values, columns)}"


def _as_ended(measurements: Sequence[Any], last: int | None) -> Iterator[tuple[int, str]]:
    """Yield the events that withdrew or superseded measurements, up to a last one, with their texts."""
    made = {row.number: row.event for row in measurements}
    for row in measurements:
        if row.withdrawn_event is not None and (last is None or row.withdrawn_event <= last):
            yield row.withdrawn_event, f"withdrawn {row.number} {row.withdrawn_reason}"
        if row.superseded_by in made:
            yield made[row.superseded_by], f"superseded {row.number} by {row.superseded_by}"


def text_of_arrays(
    connection: Connection,
    events: Iterable[int] | None = None,
    rows: dict[str, list[Any]] | None = None,
    owners: Mapping[str, Sequence[Any]] | None = None,
) -> dict[int, list[str]]:
    """Texts of profiles, predicted profiles and weights by the event that wrote them.

    Args:
        connection: read only.
        events: of these; None for all.
        rows: filled with the rows as they were read, by the table's name.
        owners: by the table's name the first keys of all rows of these events, so that not every row is looked at.
    """
    measured, proposed, profiles = tables.measurements, tables.proposals, tables.predicted_profiles
    sources = (
        (
            tables.profiles,
            measured.c.event,
            tables.profiles.join(measured, measured.c.number == tables.profiles.c.number),
        ),
        (profiles, proposed.c.event, profiles.join(proposed, proposed.c.proposal_id == profiles.c.proposal_id)),
        (tables.model_files, tables.model_files.c.event, tables.model_files),
    )
    wanted = None if events is None else sorted(set(events))
    texts: defaultdict[int, list[str]] = defaultdict(list)
    for table, event, joined in sources:
        columns = list(table.columns)
        query = select(*columns, event.label("made_by")).select_from(joined).order_by(*table.primary_key.columns)
        query = query if wanted is None else query.where(event.in_(wanted))
        key = next(iter(table.primary_key.columns))
        named = None if owners is None else owners.get(table.name)
        for part in [None] if named is None else in_parts(named):
            for row in connection.execute(query if part is None else query.where(key.in_(part))):
                texts[row.made_by].append(f"{table.name} {_text(row, columns)}")
                if rows is not None:
                    rows.setdefault(table.name, []).append(row)
    return texts


_ROWS_PER_READ = 500


def in_parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield so many values at a time as one statement may name."""
    for start in range(0, len(values), _ROWS_PER_READ):
        yield values[start : start + _ROWS_PER_READ]


def digest_of(texts: Sequence[str]) -> str:
    """Digest of the rows of one event, in whichever order they were read."""
    return hashlib.sha256("\n".join(sorted(texts)).encode("utf-8", "backslashreplace")).hexdigest()


NOTHING = digest_of(())
"""Of an event that wrote no rows."""


def link_of(before: str, rows: str, arrays: str) -> str:
    """Digest of an event and of all before it."""
    return hashlib.sha256(f"{before}\n{rows}\n{arrays}".encode()).hexdigest()


def add_link(connection: Connection, event: int) -> None:
    """Write the digests of an event that is about to be committed, from what the database holds of it."""
    table = tables.digests
    last = connection.execute(select(table.c.link).order_by(table.c.event.desc()).limit(1)).scalar() or ""
    rows = digests_of(_rows_of(connection, event)).get(event, NOTHING)
    arrays = digest_of(text_of_arrays(connection, [event]).get(event, []))
    connection.execute(insert(table).values(event=event, rows=rows, arrays=arrays, link=link_of(last, rows, arrays)))


def links(connection: Connection) -> tuple[Link, ...]:
    """The chain, in order."""
    query = select(tables.digests).order_by(tables.digests.c.event)
    return tuple(Link(r.event, r.rows, r.arrays, r.link) for r in connection.execute(query))


def arrays_told(connection: Connection, events: Sequence[int]) -> dict[int, str]:
    """Digests of the arrays of some events."""
    table = tables.digests.c
    query = select(table.event, table.arrays).where(table.event.in_(events))
    return {row.event: row.arrays for row in connection.execute(query)}


def broken(
    chain: Sequence[Link], digests: Mapping[int, str], events: Iterable[int], accepted: Mapping[int, str]
) -> dict[int, str]:
    """Events that are not as they were written, and what is wrong with each.

    Args:
        chain: what the ledger says.
        digests: of the rows that were read, by event.
        events: numbers of the events that were read.
        accepted: digests of rows that a person has accepted as they are, by event.
    """
    present = set(events)
    wrong = dict(_wrong_links(chain, digests, present, accepted))
    told, first = {link.event for link in chain}, chain[0].event if chain else None
    untold = () if first is None else (event for event in present - told if event > first)
    for events_, what in (
        (untold, "its digest was taken away, or it was written by other hands"),
        (set(range(1, max(present, default=0) + 1)) - present, "it was taken away"),
        (set(digests) - present, "rows name it, and it is not there"),
    ):
        for event in sorted(events_):
            wrong.setdefault(event, what)
    return wrong


def _wrong_links(
    chain: Sequence[Link], digests: Mapping[int, str], present: Container[int], accepted: Mapping[int, str]
) -> Iterator[tuple[int, str]]:
    """Yield the events that are not what their link says, and what is wrong with each; the last word counts."""
    before = ""
    for link in chain:
        if link.link != link_of(before, link.rows, link.arrays):
            yield link.event, "its link to the events before it is not right"
        before = link.link
        if link.event not in present:
            yield link.event, "it was taken away"
        elif (found := digests.get(link.event, NOTHING)) != link.rows and accepted.get(link.event) != found:
            yield link.event, "a row of it was changed, added or taken away"


def _rows_of(connection: Connection, event: int) -> dict[str, Sequence[Any]]:
    """Rows that an event wrote, and measurements that it withdrew or superseded."""
    read: dict[str, Sequence[Any]] = {}
    for table in ROWS:
        made = table.c.number if table is tables.events else table.c.event
        which = made == event
        if table is tables.measurements:
            new = select(table.c.number).where(made == event)
            which = which | (table.c.withdrawn_event == event) | table.c.superseded_by.in_(new)
        read[table.name] = connection.execute(select(table).where(which)).all()
    return read


_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _text(row: Any, columns: Sequence[Column[Any]]) -> str:
    """One text for one content, from whichever database; empty columns do not count, so that there may be new ones.

    Args:
        row: its values in the order of the columns, perhaps with others after them.
        columns: of the table, all or some of the first.
    """
    return _ENCODE({c.name: _plain(c, value) for c, value in zip(columns, row, strict=False) if value is not None})


def _plain(column: Column[Any], value: Any) -> Any:
    if isinstance(column.type, Double):
        return float(value).hex()
    if isinstance(column.type, LargeBinary):
        return hashlib.sha256(value).hexdigest()
    return value


def accepted(events: Iterable[Any]) -> dict[int, str]:
    """Digests of rows that a person has accepted as they are, by event; the last word counts."""
    found: dict[int, str] = {}
    for row in events:
        if row.verb == ACCEPT:
            found |= {int(event): digest for event, digest in row.details.get("accepted", {}).items()}
    return found


def findings(connection: Connection) -> tuple[Finding, ...]:
    """Look at everything that a ledger holds."""
    return (
        *_of_sqlite(connection),
        *_tried("chain of events", connection, _of_rows),
        *_tried("profiles and weights", connection, _of_arrays),
        *_tried("weights", connection, _of_weights),
    )


def _tried(what: str, connection: Connection, look: Callable[[Connection], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look(connection)
    except (DBAPIError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        yield Finding(what, False, f"cannot be read ({str(error).splitlines()[0][:200]})")


def _of_sqlite(connection: Connection) -> Iterator[Finding]:
    if connection.dialect.name != "sqlite":
        return
    for what, pragma in (("pages of the file", "integrity_check"), ("foreign keys", "foreign_key_check")):
        try:
            rows = [" ".join(map(str, row)) for row in connection.exec_driver_sql(f"PRAGMA {pragma}")]
        except DBAPIError as error:
            rows = [str(error.orig)]
        wrong = [row for row in rows if row != "ok"]
        yield Finding(what, not wrong, "sound" if not wrong else f"{len(wrong)} errors, first: {wrong[0][:200]}")


def _of_rows(connection: Connection) -> Iterator[Finding]:
    read = {t.name: connection.execute(select(t).order_by(*t.primary_key.columns)).all() for t in ROWS}
    events = [row.number for row in read["events"]]
    told = links(connection)
    first = told[0].event if told else None
    if first is None:
        said = f"{len(events)} events carry no digest; the chain begins with the next one"
        yield Finding("chain of events", True, said)
        return
    before = f"; {first - 1} events before it carry none" if first > 1 else ""
    known = accepted(read["events"])
    wrong = broken(told, digests_of(read), events, known)
    if not wrong:
        amended = f"; {len(known)} were changed by hand and accepted" if known else ""
        yield Finding("chain of events", True, f"{len(told)} events from event {first} on{before}{amended}")
    at = {row.number: f"{row.verb} of {row.at} by {row.who}" for row in read["events"]}
    for event, what in sorted(wrong.items()):
        yield Finding("chain of events", False, f"event {event} ({at.get(event, 'gone')}): {what}", event)


def _of_arrays(connection: Connection) -> Iterator[Finding]:
    told = links(connection)
    texts = text_of_arrays(connection)
    wrong = [link.event for link in told if digest_of(texts.get(link.event, [])) != link.arrays]
    for event in wrong:
        said = f"event {event}: a profile or weights of it were changed, added or taken away"
        yield Finding("profiles and weights", False, said, event)
    if not wrong:
        yield Finding("profiles and weights", True, f"of {len(told)} events")


def _of_weights(connection: Connection) -> Iterator[Finding]:
    table = tables.model_files
    count = 0
    for row in connection.execute(select(table)):
        count += 1
        found = hashlib.sha256(row.weights).hexdigest()
        if found != row.weights_sha256 or not found.startswith(row.model_id):
            yield Finding("weights", False, f"model {row.model_id}: its weights have the SHA-256 {found}", row.event)
    yield Finding("weights", True, f"of {count} models looked at")
