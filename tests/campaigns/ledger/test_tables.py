from __future__ import annotations

import pytest
from sqlalchemy import create_engine, inspect

from campaigns.ledger import tables


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
