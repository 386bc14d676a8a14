"""A ledger in PostgreSQL as one end of a transfer: one transaction, beside which no service can begin."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, select, text
from sqlalchemy.exc import SQLAlchemyError

from collector.errors import LedgerError, LedgerLocked
from collector.ledger import migration, replicas, schema, transfer
from collector.ledger.leases import BARRED
from collector.ledger.postgres import faults, preparation
from collector.ledger.postgres.database import Database

_SETTINGS = text(
    "SELECT set_config('idle_in_transaction_session_timeout', '30min', true), set_config('lock_timeout', '10s', true)"
)
"""The other end may be checked for minutes meanwhile; a service that is at work shows at once."""


@contextmanager
def source(database: Database) -> Iterator[Connection]:
    """To read from. Raises `LedgerLocked` beside a service, `LedgerTooNew`, `LedgerUnreachable` and `LedgerError`."""
    with _transaction(database) as conn:
        preparation.check(conn, database)
        migration.check_same(conn, database.name)
        _refuse_live(conn, database)
        yield conn


@contextmanager
def target(database: Database) -> Iterator[Connection]:
    """To write to: committed as a whole. Raises as `source` does."""
    with _transaction(database) as conn:
        preparation.migrate(conn, database)
        migration.check_same(conn, database.name)
        _refuse_live(conn, database)
        if not transfer.is_empty(conn):
            raise LedgerError(
                f"{database.name} is not empty: a ledger is copied into an empty schema only; name another one with "
                f"--schema, or remove what is there (DROP SCHEMA {database.schema} CASCADE)"
            )
        yield conn


@contextmanager
def _transaction(database: Database) -> Iterator[Connection]:
    engine = database.engine(1, writes=True, longest="0")
    try:
        with engine.begin() as conn:
            conn.execute(_SETTINGS)
            preparation.lock(conn, database)
            yield conn
    except SQLAlchemyError as error:
        raise faults.explained(database.name, error) from error
    finally:
        engine.dispose()


def _refuse_live(conn: Connection, database: Database) -> None:
    """From now on nobody writes here until the end of the transaction."""
    names = ", ".join(table.name for table in schema.metadata.sorted_tables)
    conn.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
    table = schema.lease
    held = select(table.c.holder, table.c.expires_at - schema.db_now()).where(
        table.c.expires_at >= schema.db_now(), table.c.expires_at < BARRED
    )
    left = {holder: int(rest) for holder, rest in conn.execute(held)}
    left |= {replica.id: left.get(replica.id, 0) for replica in replicas.live(conn)}
    if left:
        who = ", ".join(sorted({holder.rpartition(":")[0] or holder for holder in left}))
        seconds = max(replicas.LIVES_FOR_MS, *left.values()) // 1000
        raise LedgerLocked(
            f"{database.name} is in use by {who}: stop it first; if it was killed, it counts as gone within {seconds} s",
            by_command=False,
        )
