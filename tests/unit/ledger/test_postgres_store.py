"""The store in PostgreSQL: its threads, its lease, and what becomes of callers."""

from collections.abc import AsyncIterator

import pytest

from collector.ledger import schema
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store
from tests.servers.postgres import PASSWORD, PostgresServer


def database(server: PostgresServer, schema: str = "lineage") -> Database:
    return Database(server.url(server.new_database()), schema, lambda: PASSWORD)


@pytest.fixture
async def store(postgres: PostgresServer) -> AsyncIterator[Store]:
    made = Store.open(database(postgres), holder="test")
    yield made
    await made.close()


async def test_a(store: Store) -> None:
    await store.write(lambda conn: conn.execute(schema.source.insert().values(name="x")))
    assert (
        await store.read(lambda conn: conn.scalar(schema.source.select().with_only_columns(schema.source.c.name)))
        == "x"
    )
