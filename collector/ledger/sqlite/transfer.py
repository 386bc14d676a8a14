"""A ledger in a file as one end of a transfer: locked, so that no service works on it, and new ones in their place at once."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from collector.errors import LedgerError, LedgerMissing
from collector.ledger import migration
from collector.ledger.sqlite import file, lock
from collector.ledger.sqlite.backup import part_of, sync

_PRAGMAS = ("page_size=8192", "auto_vacuum=INCREMENTAL", "journal_mode=OFF", "synchronous=OFF")
"""It is synced as a whole, and a copy that breaks off is thrown away."""


@contextmanager
def source(path: Path, holder: str) -> Iterator[Connection]:
    """To read from. Raises `LedgerLocked` beside a service, `LedgerTooNew`, and `LedgerError` for what cannot be copied."""
    if not path.is_file():
        raise LedgerMissing(f"there is no ledger at {path}: check the path")
    with _locked(path, holder):
        try:
            connection = file.connect_reader(path)
            try:
                file.refuse_foreign(path, connection)
                engine = file.engine(connection, writes=False)
                with engine.connect() as conn:
                    migration.check_same(conn, f"ledger {path}")
                if (fault := file.fault_within(connection, is_newest=True)) is not None:
                    raise LedgerError(f"ledger {path} is damaged: {fault}; nothing was copied")
                with engine.connect() as conn:
                    conn.exec_driver_sql("BEGIN")
                    yield conn
            finally:
                connection.close()
        except (sqlite3.Error, SQLAlchemyError) as error:
            raise file.explained(path, error) from error


@contextmanager
def target(path: Path, holder: str) -> Iterator[Connection]:
    """To write to: a new file, there once all is in it and checked. Raises `LedgerLocked` and `LedgerError`."""
    if not path.absolute().parent.is_dir():
        raise LedgerError(f"the folder {path.absolute().parent} does not exist: create it, then try again")
    with _locked(path, holder):
        _refuse_used(path)
        with part_of(path) as part:
            try:
                yield from _written(path, part)
                sync(part)
                part.replace(path)
                sync(path.absolute().parent)
            except (OSError, sqlite3.Error, SQLAlchemyError) as error:
                raise LedgerError(f"cannot write the ledger {path}: {error}; nothing was kept of it") from error


def _written(path: Path, part: Path) -> Iterator[Connection]:
    connection = sqlite3.connect(part, isolation_level=None)
    with closing(connection):
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        with file.engine(connection, writes=True).begin() as conn:
            migration.migrate(conn, f"ledger {path}")
            yield conn
        if (fault := file.fault_within(connection, is_newest=True)) is not None:
            raise LedgerError(f"the copy for {path} is damaged: {fault}; nothing was kept of it")


def _refuse_used(path: Path) -> None:
    for found in (path, path.with_name(f"{path.name}-wal")):
        if found.exists() and (found.is_dir() or found.stat().st_size):
            raise LedgerError(
                f"{found} exists: a ledger is copied to a new file only; name another one, or move it away"
            )


@contextmanager
def _locked(path: Path, holder: str) -> Iterator[None]:
    held = lock.take(path, holder, datetime.now(UTC), command=True)
    try:
        yield
    finally:
        held.release()
