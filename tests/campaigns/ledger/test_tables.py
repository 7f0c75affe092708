from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from campaigns.ledger import tables
from campaigns.ledger.database import sqlite_url
from campaigns.ledger.ledger import Ledger
from campaigns.loop.outcomes import outcomes_of
from campaigns.report.views import LEADING, proposal_row
from screening.goals import Goals, Rates
from screening.quantities import Capacity, RateRetention


def test_every_row_of_history_names_the_event_that_made_it():
    without = {"meta", "events", "predicted_profiles", "profiles"}
    for name, table in tables.metadata.tables.items():
        if name not in without:
            assert "event" in table.c, name


@pytest.mark.parametrize("name", ["events", "measurements", "profiles"])
def test_history_is_guarded_by_triggers(name: str, tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'l.sqlite'}")
    tables.metadata.create_all(engine)
    with engine.connect() as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        triggers = {row[0] for row in connection.exec_driver_sql(query)}
    assert f"{name}_no_delete" in triggers
    assert set(inspect(engine).get_table_names()) == set(tables.metadata.tables)
    engine.dispose()


def test_version_counts_the_migrations(monkeypatch: pytest.MonkeyPatch):
    before = tables.schema_version()
    monkeypatch.setattr(tables, "MIGRATIONS", [*tables.MIGRATIONS, lambda connection: None])
    assert tables.schema_version() == before + 1


FIRST_VERSION = Path(__file__).parent / "first_version.sqlite.gz"
"""Three rounds, cells, a lab composition, refused files and models, written by the version of schema 1."""


@pytest.fixture
def written_before(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(gzip.decompress(FIRST_VERSION.read_bytes()))
    return path


def test_a_ledger_of_the_first_version_says_what_it_said(written_before: Path):
    with closing(sqlite3.connect(written_before)) as old:
        rows = old.execute("SELECT proposal_id, prediction FROM proposals").fetchall()
    stored = {name: json.loads(said) for name, said in rows if said and said != "null"}
    ledger = Ledger(sqlite_url(written_before), "demo")
    state = ledger.read()
    ledger.close()
    predictions = {p.proposal_id: p.prediction for p in state.proposals if p.prediction}
    assert predictions.keys() == stored.keys() >= {"R01-01", "R03-01"}
    for name, said in stored.items():
        row = proposal_row(state.proposal(name))
        assert {k: row[k] for k in said} == said, "every public key keeps its value"
    with closing(sqlite3.connect(written_before)) as new:
        (text,) = new.execute("SELECT prediction FROM proposals WHERE proposal_id = 'R03-01'").fetchone()
    assert [v["key"] for v in json.loads(text)["values"]] == list(LEADING), "the rows themselves are of this version"


def test_what_was_predicted_before_is_found_under_the_conditions_of_its_round(written_before: Path):
    ledger = Ledger(sqlite_url(written_before), "demo")
    state = ledger.read()
    ledger.close()
    usual, other = Rates(), Rates(high_current_ma_g=200.0, v_low=2.0, v_high=4.6)
    first, third = state.proposal("R01-01").prediction, state.proposal("R03-01").prediction
    assert first.value(RateRetention.of(usual).identity).mean == pytest.approx(0.9157579968272234)
    assert third.value(RateRetention.of(other).identity).mean == pytest.approx(0.42354792012351883)
    assert third.value(RateRetention.of(usual).identity) is None
    assert third.value(Capacity(other.low).identity).key == "capacity_low_mah_g"
    outcomes = outcomes_of(state, Goals())
    assert outcomes[0].predicted(Goals().first) is not None
    assert outcomes[-1].predicted(Goals().first) is None
