"""What all migrations make of a new ledger, made once in a process: they take most of the time of a test that opens one."""

from functools import cache

from sqlalchemy import create_engine

from collector.ledger.migration import migrate


@cache
def statements(_: tuple[str, ...]) -> list[str]:
    """In SQLite, for a schema of these revisions."""
    with create_engine("sqlite://").begin() as conn:
        migrate(conn, "the first")
        dump = conn.connection.driver_connection.iterdump()  # type: ignore[union-attr]
        return list(dump)[1:-1]  # without its BEGIN and COMMIT
