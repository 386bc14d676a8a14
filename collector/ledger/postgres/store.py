"""A ledger in PostgreSQL, and the threads that work on it. Each write is a separate transaction, up to four at a time.

Any number of processes may have it open: what each of them does alone is fenced by its leases.
"""

import logging
import random
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from collector.errors import LedgerError, LedgerUnreachable
from collector.ledger import replicas
from collector.ledger.migration import Version
from collector.ledger.port import Change, take_announced
from collector.ledger.postgres import faults, notices, preparation
from collector.ledger.postgres.connections import Connections
from collector.ledger.postgres.database import Database, is_stale
from collector.ledger.postgres.notices import Notices
from collector.ledger.postgres.pool import Pool
from collector.ledger.postgres.watch import Watch
from collector.ledger.replicas import Replica
from collector.ledger.threaded import ThreadedStore
from collector.logs import fields

log = logging.getLogger("lineage.ledger")

T = TypeVar("T")

WRITERS = 4
TRIES = 6
"""Attempts of a transaction that PostgreSQL ends in favour of another one."""
CLOSE_WITHIN = 10.0
_NOTIFY = text("SELECT pg_notify(:channel, :payload)")
CUT_EVERY = 5.0
"""Seconds between two times that all connections are cut, at the least, while the server can only be read."""


class Store(ThreadedStore):
    """An open ledger. `lost` is why this process cannot work on it any more: a newer version of the program migrated it."""

    set_aside: Path | None = None
    rescued = False

    def __init__(self, database: Database, *, writes: bool) -> None:
        super().__init__()
        self.name = database.name
        self.lost: str | None = None
        self._writes = writes
        self._connections = connections = Connections(database)
        self._cut_at = float("-inf")
        self._engines: list[Engine] = []
        self._polls, self._claims, self._shown = (
            self._pool(name, connections.engine(1, writes=False), 1, self._read)
            for name in ("polls", "claims", "shown")
        )
        self._writers = self._pool("writes", connections.engine(WRITERS, writes=True), WRITERS, self._write)
        self._first = self._pool("first", connections.engine(2, writes=True), 2, self._write)
        self._watch = Watch(database, connections, self._listeners.announce, self._outdated)
        self._sender, self._channel = secrets.token_hex(8), notices.channel(database.schema)
        self._notifies = database.notify
        self._notices = Notices(database, connections, self._sender, self._listeners.announce)

    def _pool(self, name: str, engine: Engine, threads: int, serve: "Callable[[Engine, Any], Any]") -> Pool:
        self._engines.append(engine)
        return Pool(f"ledger-{name}", threads, partial(serve, engine))

    @classmethod
    def open(cls, database: Database) -> "Store":
        """Migrate it if need be. Raises `LedgerTooNew`, `LedgerUnreachable` and `LedgerError`."""
        engine = database.engine(1, writes=True, longest="0")
        if _done_by(engine, database, partial(preparation.migrate, database=database)):
            log.info("ledger.migrated", extra=fields(path=database.name))
        store = cls(database, writes=True)
        store._watch.start()
        if database.notify:
            store._notices.start()
        log.info("ledger.opened", extra=fields(path=database.name))
        return store

    @classmethod
    def open_readonly(cls, database: Database) -> "Store":
        """Beside a running service or without one; `write` raises `LedgerError`."""
        _done_by(database.engine(1, writes=False), database, partial(preparation.check, database=database))
        return cls(database, writes=False)

    @classmethod
    def open_beside(cls, database: Database) -> "Store | None":
        """For requests to the services that have it open; None where there are none."""

        def services(conn: Connection) -> list[Replica]:
            preparation.check(conn, database)
            return replicas.services(conn)

        return cls(database, writes=True) if _done_by(database.engine(1, writes=False), database, services) else None

    async def compact(self, pages: int) -> None:
        """Autovacuum does that."""

    async def truncate_log(self) -> bool:
        """PostgreSQL does that by itself."""
        return True

    def _submit_write(self, work: Callable[[Connection], Any], *, first: bool) -> "Future[Any]":
        """Those that are `first` have separate connections."""
        if not self._writes:
            raise LedgerError(f"{self.name} was opened for reading only")
        return (self._first if first else self._writers).submit(work)

    def _read(self, engine: Engine, work: Callable[[Connection], Any]) -> Any:
        def once() -> Any:
            with engine.connect() as conn:
                return work(conn)

        try:
            return _on_good_connection(once)
        except SQLAlchemyError as error:
            raise faults.explained(self.name, error) from error

    def _write(self, engine: Engine, work: Callable[[Connection], Any]) -> Any:
        try:
            value, changes = self._committed(engine, work)
        except (SQLAlchemyError, LedgerUnreachable) as error:
            if (cause := faults.failure(error)) is not None:
                self._report_failure(cause)
            if faults.code(error) == faults.READ_ONLY:
                self._look_for_another_primary()
            if isinstance(error, LedgerUnreachable):
                raise
            raise faults.explained(self.name, error) from error
        self._listeners.announce(changes)
        return value

    def _committed(self, engine: Engine, work: Callable[[Connection], Any]) -> tuple[Any, frozenset[Change]]:
        for left in reversed(range(TRIES)):
            try:
                return _on_good_connection(partial(self._once, engine, work))
            except DBAPIError as error:
                if not left or faults.code(error) not in faults.REPEATABLE:
                    raise
                time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - so that the two do not meet again
        raise AssertionError  # the last try returned or raised

    def _once(self, engine: Engine, work: Callable[[Connection], Any]) -> tuple[Any, frozenset[Change]]:
        with engine.connect() as conn:
            take_announced(conn)
            with conn.begin() as transaction:
                value = work(conn)
                changes = take_announced(conn)
                if changes and self._notifies:
                    words = {"channel": self._channel, "payload": notices.payload(self._sender, changes)}
                    conn.execute(_NOTIFY, words)
                self._commit(transaction.commit)
        return value, changes

    def _commit(self, commit: Callable[[], None]) -> None:
        try:
            commit()
        except DBAPIError as error:
            if not faults.is_away(error):
                raise
            cause = faults.said(error.orig or error)
            raise LedgerUnreachable(
                f"{self.name} did not answer to a commit: {cause}; what was to be committed may be there"
            ) from error

    def _look_for_another_primary(self) -> None:
        """After a fail-over, connections to the former primary may go on, and can only read."""
        if time.monotonic() - self._cut_at >= CUT_EVERY:
            self._cut_at = time.monotonic()
            self._connections.cut()

    def _outdated(self, version: Version) -> None:
        schema = f"{self.name} has schema {version.revision} now"
        self.lost = f"{schema}, made by a newer version of this program, and this one cannot go on with it: install the newer one"
        then = "its leases are given back; it does nothing any more and is not ready, until it is stopped"
        log.critical("ledger.outdated", extra=fields(path=self.name, cause=self.lost, then=then))
        self._listeners.announce(frozenset({Change.LOSS}))

    def _close(self) -> None:
        pools = self._polls, self._claims, self._shown, self._writers, self._first
        with ThreadPoolExecutor(len(pools)) as together:
            ended = list(together.map(lambda pool: pool.stop(CLOSE_WITHIN), pools))
        self._watch.stop()
        self._notices.stop()
        if not all(ended):
            cause = "the database did not answer in time"
            log.error(
                "ledger.unclosed",
                extra=fields(path=self.name, cause=cause, then="writes that were under way may be rolled back"),
            )
        for engine in self._engines:
            engine.dispose()


def _on_good_connection(transaction: Callable[[], T]) -> T:
    """Its result, by a second attempt if the connection was lost before it began."""
    try:
        return transaction()
    except DBAPIError as error:
        if not is_stale(error):
            raise
        return transaction()


def _done_by(engine: Engine, database: Database, work: Callable[[Connection], T]) -> T:
    """Do this on a connection that is not used again."""
    try:
        with engine.begin() as conn:
            return work(conn)
    except SQLAlchemyError as error:
        raise faults.explained(database.name, error) from error
    finally:
        engine.dispose()
