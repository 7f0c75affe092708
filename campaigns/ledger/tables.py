"""The tables of a ledger, and the steps from one version of them to the next.

Rows are only ever added, with two exceptions: the columns ``withdrawn_*`` and ``superseded_by`` of a measurement are
filled once; whether it is doubted is a matter of the last row of ``verdicts``. Every row names the event that made it,
so the state as of any event is a matter of ``event <= n``.
Triggers keep the event log and the measurements from being deleted or rewritten by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    DDL,
    JSON,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    inspect,
    select,
    update,
)

from campaigns.ledger.records import prediction_of_first_version

MODEL_BYTES = 128 << 20
"""Most that the weights of one model may take in a ledger; those of the shipped ensemble take 2.6 MB."""

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))
"""Schema version and the campaign's name."""

events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("who", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("verb", String(32), nullable=False),
    Column("summary", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Column("versions", JSON, nullable=False),
)


digests = Table(
    "digests",
    metadata,
    Column("event", Integer, ForeignKey("events.number"), primary_key=True, autoincrement=False),
    Column("rows", String(64), nullable=False),
    Column("arrays", String(64), nullable=False),
    Column("link", String(64), nullable=False),
)
"""What each event wrote, as digests; see :mod:`campaigns.ledger.chain`. Since schema 2."""


def _event(name: str = "event", *, nullable: bool = False) -> Column[int]:
    """Event that made a row; checked at commit, because the event is written last, when it is known what happened."""
    made_by = ForeignKey("events.number", deferrable=True, initially="DEFERRED")
    return Column(name, Integer, made_by, nullable=nullable)


rounds = Table(
    "rounds",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("model_id", String(64), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("strategy", String(64), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("spec_hash", String(64), nullable=False),
    Column("statistics", JSON, nullable=False),
    Column("versions", JSON, nullable=False),
    _event(),
)

proposals = Table(
    "proposals",
    metadata,
    Column("proposal_id", String(32), primary_key=True),
    Column("round", Integer, ForeignKey("rounds.number")),
    Column("position", Integer, nullable=False),
    Column("origin", String(16), nullable=False),
    Column("composition", Text, nullable=False),
    Column("prediction", JSON),
    _event(),
)

proposal_states = Table(
    "proposal_states",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("proposal_id", String(32), ForeignKey("proposals.proposal_id"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    _event(),
)

predicted_profiles = Table(
    "predicted_profiles",
    metadata,
    Column("proposal_id", String(32), ForeignKey("proposals.proposal_id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("current_ma_g", Double, nullable=False),
    Column("v_low", Double, nullable=False),
    Column("v_high", Double, nullable=False),
    Column("cycle", Integer, nullable=False),
    Column("voltage_v", LargeBinary, nullable=False),
    Column("capacity_mah_g_mean", LargeBinary, nullable=False),
    Column("capacity_mah_g_std", LargeBinary, nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("format", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("rules", JSON, nullable=False),
    _event(),
)

cells = Table(
    "cells",
    metadata,
    Column("cell_id", Integer, primary_key=True, autoincrement=False),
    Column("proposal_id", String(32), ForeignKey("proposals.proposal_id"), nullable=False),
    Column("label", String(255), nullable=False),
    _event(),
    UniqueConstraint("proposal_id", "label"),
)

measurements = Table(
    "measurements",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("cell_id", Integer, ForeignKey("cells.cell_id"), nullable=False),
    Column("sha256", String(64), ForeignKey("files.sha256")),
    Column("composition", Text, nullable=False),
    Column("current_ma_g", Double, nullable=False),
    Column("v_low", Double, nullable=False),
    Column("v_high", Double, nullable=False),
    Column("cycle", Integer, nullable=False),
    Column("capacity_mah_g", Double, nullable=False),
    Column("average_voltage_v", Double),
    Column("specific_energy_wh_kg", Double),
    Column("sigma_mah_g", Double),
    Column("provenance", String(16), nullable=False),
    Column("flags", JSON, nullable=False),
    _event(),
    _event("withdrawn_event", nullable=True),
    Column("withdrawn_reason", Text, nullable=False, default=""),
    Column("superseded_by", Integer),
    Column("charge_mah", Double),
    Column("file_cycle", Integer),
    Column("elapsed_s", Double),
    Column("charge_top_v", Double),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("measurement", Integer, ForeignKey("measurements.number"), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("rule", String(8), nullable=False),
    Column("reason", Text, nullable=False),
    _event(),
)
"""What was thought of a measurement beside the others; the last row of each counts."""

phase_outcomes = Table(
    "phase_outcomes",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("proposal_id", String(32), ForeignKey("proposals.proposal_id"), nullable=False),
    Column("phases", JSON, nullable=False),
    Column("single_phase", Boolean),
    _event(),
)
"""Phases found in what was made; the last row of each proposal counts."""

analyses = Table(
    "analyses",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("proposal_id", String(32), ForeignKey("proposals.proposal_id"), nullable=False),
    Column("composition", Text, nullable=False),
    _event(),
)
"""Compositions as measured (ICP); the last row of each proposal counts."""

processes = Table(
    "processes",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("measurement", Integer, ForeignKey("measurements.number")),
    Column("proposal_id", String(32), ForeignKey("proposals.proposal_id")),
    Column("stated", JSON, nullable=False),
    _event(),
)
"""How the cell of a measurement was made and tested, or how a proposal is to be; the last row of each counts. Since
schema 3."""

profiles = Table(
    "profiles",
    metadata,
    Column("number", Integer, ForeignKey("measurements.number"), primary_key=True, autoincrement=False),
    Column("voltage_v", LargeBinary, nullable=False),
    Column("capacity_mah_g", LargeBinary, nullable=False),
)
"""Arrays as little-endian float64."""

models = Table(
    "models",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("model_id", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("parent", String(64)),
    Column("data_fingerprint", String(64)),
    Column("measurement_ids", JSON, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("metrics", JSON, nullable=False),
    _event(),
)

model_files = Table(
    "model_files",
    metadata,
    Column("model_id", String(64), primary_key=True),
    Column("weights_sha256", String(64), nullable=False),
    Column("card", LargeBinary, nullable=False),
    Column("weights", LargeBinary, nullable=False),
    _event(),
)
"""The files of every model that was used, once, so that they are wherever the ledger is. Since schema 2."""

Index("proposal_states_by_proposal", proposal_states.c.proposal_id, proposal_states.c.number)
Index("proposals_by_composition", proposals.c.composition)

_IMMUTABLE = {"events": ("UPDATE", "DELETE"), "digests": ("UPDATE", "DELETE"), "measurements": ("DELETE",)}
_IMMUTABLE |= dict.fromkeys(("profiles", "model_files"), ("UPDATE", "DELETE"))


def _guard(table: Table, action: str) -> None:
    name = f"{table.name}_no_{action.lower()}"
    message = f"{table.name} of a ledger are never {'changed' if action == 'UPDATE' else 'deleted'}"
    sqlite = f"CREATE TRIGGER {name} BEFORE {action} ON {table.name} BEGIN SELECT RAISE(ABORT, '{message}'); END"
    function = (
        f"CREATE FUNCTION {name}() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION '{message}'; END; $$ LANGUAGE plpgsql"
    )
    trigger = f"CREATE TRIGGER {name} BEFORE {action} ON {table.name} FOR EACH ROW EXECUTE FUNCTION {name}()"
    event.listen(table, "after_create", DDL(sqlite).execute_if(dialect="sqlite"))
    event.listen(table, "after_create", DDL(function).execute_if(dialect="postgresql"))
    event.listen(table, "after_create", DDL(trigger).execute_if(dialect="postgresql"))


for _name, _actions in _IMMUTABLE.items():
    for _action in _actions:
        _guard(metadata.tables[_name], _action)


def _to_schema_2(connection: Connection) -> None:
    """Digests of events; files of models; verdicts on discharges, phases, analyses; a prediction of every goal."""
    for name in ("charge_mah", "file_cycle", "elapsed_s", "charge_top_v"):
        _add_column(connection, measurements.c[name])
    for table in (digests, model_files, verdicts, phase_outcomes, analyses):
        table.create(connection, checkfirst=True)
    specs = {r.number: r.spec for r in connection.execute(select(rounds.c.number, rounds.c.spec))}
    for row in connection.execute(select(proposals).where(proposals.c.prediction.is_not(None))).all():
        if row.prediction and "values" not in row.prediction:
            stored = prediction_of_first_version(row.prediction, specs.get(row.round, {}))
            connection.execute(
                update(proposals).where(proposals.c.proposal_id == row.proposal_id).values(prediction=stored)
            )


def _to_schema_3(connection: Connection) -> None:
    """Conditions of the process."""
    processes.create(connection, checkfirst=True)


def _add_column(connection: Connection, column: Column[Any]) -> None:
    """Add a column that may be empty to a table of an older ledger."""
    if column.name in {known["name"] for known in inspect(connection).get_columns(column.table.name)}:
        return
    kind = column.type.compile(connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}")


MIGRATIONS: list[Callable[[Connection], None]] = [_to_schema_2, _to_schema_3]
"""Step i turns a ledger of schema version i + 1 into version i + 2; runs inside one transaction."""


ADDED: Mapping[int, tuple[str, ...]] = {3: ("processes",)}
"""Tables that an export of an older schema does not hold, by the schema that added them."""


def schema_version() -> int:
    """Version of the tables above."""
    return 1 + len(MIGRATIONS)
