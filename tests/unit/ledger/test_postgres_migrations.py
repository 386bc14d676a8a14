"""Migrations on PostgreSQL: from nothing and from each earlier schema, with rows in it, and by several processes at once."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, MetaData, Table, func, insert, select, text

from collector.ledger import configured_sources, migration, requests, schema
from collector.ledger.configured_sources import Configured
from collector.ledger.postgres import preparation
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store
from collector.ledger.requests import RequestKind
from collector.ledger.schema import REVISIONS
from tests.servers.postgres import PASSWORD, PostgresServer
from tests.unit.ledger.ledgers import NOW

ROWS = 3


@pytest.fixture
def database(postgres: PostgresServer) -> Database:
    return Database(postgres.url(postgres.new_database()), "lineage", lambda: PASSWORD)


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    made = database.engine(1, writes=True)
    with made.begin() as conn:
        conn.execute(text("CREATE SCHEMA lineage"))
    yield made
    made.dispose()


def upgrade(conn: Connection, revision: str) -> None:
    config = Config(attributes={"connection": conn})
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    command.upgrade(config, revision)


def tables(conn: Connection) -> list[Table]:
    """As they are there, parents first."""
    found = MetaData()
    found.reflect(conn)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def fill(conn: Connection) -> None:
    for table in tables(conn):
        for number in range(1, ROWS + 1):
            row = {column.name: value(column.type.python_type, number) for column in table.columns}
            row |= {
                name: f'[{{"namespace": "n", "name": "{number}"}}]' for name in ("inputs", "outputs") if name in row
            }
            if "id" in table.c and table.c.id.identity is not None:
                del row["id"]
            conn.execute(insert(table), row)


def value(kind: type[Any], number: int) -> Any:
    return {str: f'"{number}"', bytes: b"{}", bool: False}.get(kind, number)


def counts(conn: Connection) -> dict[str, int]:
    return {table.name: conn.scalar(select(func.count()).select_from(table)) or 0 for table in tables(conn)}


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_ledger_of_each_schema_keeps_its_rows_and_goes_on(engine: Engine, database: Database, revision: str) -> None:
    with engine.begin() as conn:
        upgrade(conn, revision)
        fill(conn)
        before = counts(conn)
    with engine.begin() as conn:
        assert preparation.migrate(conn, database) is (revision != REVISIONS[-1])
        assert compare_metadata(MigrationContext.configure(conn), schema.metadata) == []
        after = counts(conn)
        assert {name: after[name] for name in before} == before
        assert configured_sources.sync_sources(conn, [Configured("new")], NOW)["new"] == ROWS + 1
        assert requests.add(conn, RequestKind.POLL, "source:new", "{}", NOW) == ROWS + 1


def test_what_the_tables_leave_to_the_migrations_is_there(engine: Engine, database: Database) -> None:
    """SQLite's condition of each index of some rows, and room in the pages of lanes."""
    indexes = {index.name: index for table in schema.metadata.sorted_tables for index in table.indexes}
    conditions = {name: index.dialect_options["sqlite"]["where"] for name, index in indexes.items()}
    with engine.begin() as conn:
        preparation.migrate(conn, database)
        rows = conn.exec_driver_sql("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'lineage'")
        found = {name: definition.partition(" WHERE ")[2] for name, definition in rows if name in indexes}
        options = conn.exec_driver_sql("SELECT reloptions FROM pg_class WHERE relname = 'lane'").scalar_one()
    assert {name: where.strip("()").replace("::text", "") for name, where in found.items()} == {
        name: "" if where is None else str(where) for name, where in conditions.items()
    }
    assert options == ["fillfactor=80"]


_OPENS = """
import logging, sys
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
Store.open(Database(sys.argv[1], "lineage", lambda: sys.argv[2]))._close()
"""


@pytest.mark.parametrize("revision", [None, "0001"])
def test_one_of_several_processes_migrates_and_the_others_find_it_done(
    engine: Engine, database: Database, revision: str | None
) -> None:
    if revision is not None:
        with engine.begin() as conn:
            upgrade(conn, revision)
            fill(conn)
    engine.dispose()
    words = [sys.executable, "-c", _OPENS, database.url, PASSWORD]
    begun = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in begun]
    assert [(err, code) for _, err, code in ended] == [("", 0)] * 3
    logged = [line for out, _, _ in ended for line in out.splitlines()]
    assert (logged.count("ledger.migrated"), logged.count("ledger.opened")) == (1, 3)
    store = Store.open_readonly(database)
    assert asyncio.run(store.read(migration.revision)) == REVISIONS[-1]
    store._close()
