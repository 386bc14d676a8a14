"""What every unit test gets."""

from collections.abc import Iterator
from functools import cache

import pytest
from sqlalchemy import Connection, create_engine

from collector.ledger import migration
from collector.ledger.schema import APPLICATION_ID, REVISIONS


@pytest.fixture(scope="session", autouse=True)
def _migrations_run_once() -> Iterator[None]:
    """A new ledger in a file gets at once what all migrations made of the first one: they take most of the time of a test
    that opens a ledger.
    """
    migrate = migration.migrate

    @cache
    def made_by(_: tuple[str, ...]) -> list[str]:
        with create_engine("sqlite://").begin() as conn:
            migrate(conn, "the first")
            return list(conn.connection.driver_connection.iterdump())  # type: ignore[union-attr]

    def at_once(conn: Connection, name: str) -> bool:
        if conn.dialect.name != "sqlite" or migration.revision(conn) is not None:
            return migrate(conn, name)
        for statement in made_by(REVISIONS)[1:-1]:  # without its BEGIN and COMMIT
            conn.exec_driver_sql(statement)
        conn.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migration, "migrate", at_once)
        yield
