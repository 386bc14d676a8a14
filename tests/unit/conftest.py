"""What every unit test gets."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from collector.ledger import migration
from collector.ledger.schema import APPLICATION_ID, REVISIONS
from tests.unit import empty_ledger


@pytest.fixture(scope="session", autouse=True)
def _migrations_run_once() -> Iterator[None]:
    """A new ledger in a file gets at once what all migrations made of the first one."""
    migrate = migration.migrate

    def at_once(conn: Connection, name: str) -> bool:
        if conn.dialect.name != "sqlite" or migration.revision(conn) is not None:
            return migrate(conn, name)
        for statement in empty_ledger.statements(REVISIONS):
            conn.exec_driver_sql(statement)
        conn.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migration, "migrate", at_once)
        yield
