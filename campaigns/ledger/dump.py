"""Everything a ledger holds as plain values, and a ledger from them: the same events, digests and arrays."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, LargeBinary, insert, select

from campaigns.ledger import tables
from drxnet.errors import DataRefused

_ROWS_PER_INSERT = 200
_OLDEST = 2
"""Schema of the first version that wrote such files."""


def dump(connection: Connection) -> dict[str, Any]:
    """Rows of every table by its name; bytes in base64."""
    content: dict[str, Any] = {"schema": tables.schema_version(), "tables": {}}
    for table in tables.metadata.sorted_tables:
        if table is not tables.meta:
            rows = connection.execute(select(table).order_by(*table.primary_key.columns))
            content["tables"][table.name] = [
                {
                    c.name: base64.b64encode(row._mapping[c.name]).decode()
                    if isinstance(c.type, LargeBinary)
                    else row._mapping[c.name]
                    for c in table.columns
                }
                for row in rows
            ]
    return content


def load(connection: Connection, content: Mapping[str, Any]) -> None:
    """Fill empty tables with what :func:`dump` gave.

    Raises:
        DataRefused: it is not that, or of another version.
    """
    written, newest = content.get("schema"), tables.schema_version()
    if type(written) is not int or not _OLDEST <= written <= newest:
        raise DataRefused(
            f"The file holds a ledger of schema {written!r}; this drx-screen reads {_OLDEST} to {newest}. Use the "
            "version that wrote it."
        )
    given = content.get("tables")
    if isinstance(given, Mapping):
        given = {**{name: [] for since, names in tables.ADDED.items() if since > written for name in names}, **given}
    known = {t.name for t in tables.metadata.sorted_tables} - {tables.meta.name}
    if not isinstance(given, Mapping) or set(given) != known:
        raise DataRefused(f"The file must hold the tables {', '.join(sorted(known))}. It is damaged or no export.")
    for table in tables.metadata.sorted_tables:
        if table is not tables.meta:
            for rows in _parts(table.name, given[table.name], set(table.columns.keys())):
                connection.execute(insert(table), [_row(table, row) for row in rows])


def _parts(name: str, rows: Any, columns: set[str]) -> Iterator[list[Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) and set(row) == columns for row in rows):
        raise DataRefused(f"Rows of {name} must hold {', '.join(sorted(columns))}. The file is damaged or no export.")
    for start in range(0, len(rows), _ROWS_PER_INSERT):
        yield rows[start : start + _ROWS_PER_INSERT]


def _row(table: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {
            c.name: base64.b64decode(row[c.name], validate=True) if isinstance(c.type, LargeBinary) else row[c.name]
            for c in table.columns
        }
    except (binascii.Error, TypeError, ValueError) as error:
        raise DataRefused(f"A row of {table.name} is damaged ({error}).") from None
