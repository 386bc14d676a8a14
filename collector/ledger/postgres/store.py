"""A ledger in PostgreSQL, and the threads that work on it. Each write is a separate transaction, up to four at a time.

One service has a ledger at a time, by the lease `service`. Whoever finds it taken waits for its end: by being given back,
or by time when its holder is gone.
"""

import asyncio
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from collector.errors import LedgerError, LedgerLocked, LedgerLost, LedgerUnreachable
from collector.ledger import leases, replicas, schema
from collector.ledger.leases import Lease
from collector.ledger.listeners import Listeners
from collector.ledger.port import News, take_announced
from collector.ledger.postgres import faults, preparation
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.pool import Pool
from collector.ledger.worker import written
from collector.logs import fields
from collector.reports import WriteFailure

log = logging.getLogger("lineage.ledger")

P = ParamSpec("P")
T = TypeVar("T")

SERVICE = "service"
TTL = 15.0
RENEW_EVERY = 3.0
LOOK = 1.0
"""Seconds between two checks for what other processes committed."""
WRITERS = 4
TRIES = 6
"""Attempts of a transaction that PostgreSQL ends in favour of another one."""
CLOSE_WITHIN = 10.0
_LEASE_WITHIN = "5s"
_COMMAND = "the command of "
_ALL_NEWS = frozenset(News)


class Store:
    """An open ledger. `lost` is why nothing is committed any more: another service has the ledger."""

    set_aside: Path | None = None
    rescued = False

    def __init__(self, database: Database, *, writes: bool) -> None:
        self.name = database.name
        self.lost: str | None = None
        self._writes, self._held = writes, _Nothing
        self._listeners = Listeners()
        self._report_failure: Callable[[WriteFailure], None] = lambda _: None
        self._engines: list[Engine] = []
        self._polls, self._claims, self._shown = (
            self._pool(name, database.engine(1, writes=False), 1, self._read) for name in ("polls", "claims", "shown")
        )
        self._writers = self._pool("writes", database.engine(WRITERS, writes=True), WRITERS, self._write)
        self._first = self._pool("first", database.engine(2, writes=True), 2, self._write)
        self._lease_engine = database.engine(1, writes=True, longest=_LEASE_WITHIN)
        self._engines.append(self._lease_engine)
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="ledger-lease", daemon=True)

    def _pool(self, name: str, engine: Engine, threads: int, serve: "Callable[[Engine, Any], Any]") -> Pool:
        self._engines.append(engine)
        return Pool(f"ledger-{name}", threads, partial(serve, engine))

    @classmethod
    def open(cls, database: Database, *, holder: str, command: bool = False) -> "Store":
        """Migrate it and take it for this process. `holder` is for people who find it taken, `command` says that this process
        soon ends by itself. Raises `LedgerLocked`, `LedgerTooNew`, `LedgerUnreachable` and `LedgerError`.
        """
        engine = database.engine(1, writes=True, longest="0")
        try:
            with engine.begin() as conn:
                migrated = preparation.migrate(conn, database)
            with engine.begin() as conn:
                held = _taken(conn, database, f"{_COMMAND if command else ''}{holder}:{secrets.token_hex(4)}")
        except SQLAlchemyError as error:
            raise faults.explained(database.name, error) from error
        finally:
            engine.dispose()
        if migrated:
            log.info("ledger.migrated", extra=fields(path=database.name))
        store = cls(database, writes=True)
        store._hold(held)
        log.info("ledger.opened", extra=fields(path=database.name))
        return store

    @classmethod
    def open_readonly(cls, database: Database) -> "Store":
        """Beside a running service or without one; `write` raises `LedgerError`."""
        engine = database.engine(1, writes=False)
        try:
            with engine.connect() as conn:
                preparation.check(conn, database)
        except SQLAlchemyError as error:
            raise faults.explained(database.name, error) from error
        finally:
            engine.dispose()
        return cls(database, writes=False)

    @classmethod
    def open_beside(cls, database: Database) -> "Store | None":
        """For requests to the service that has the ledger; None where none has it."""
        table = schema.lease
        engine = database.engine(1, writes=False)
        try:
            with engine.connect() as conn:
                preparation.check(conn, database)
                over = conn.scalar(select(table.c.expires_at < schema.db_now()).where(table.c.name == SERVICE))
        except SQLAlchemyError as error:
            raise faults.explained(database.name, error) from error
        finally:
            engine.dispose()
        return cls(database, writes=True) if over is False else None

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)` in a transaction of one of the writers' threads. Once called it happens, whether or not the
        caller is cancelled meanwhile. It is run again when PostgreSQL ended the transaction for the sake of another one.
        """
        return await written(self._writing(self._writers).submit(lambda conn: fn(conn, *args, **kwargs)))

    async def write_first(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` on separate connections: for short ones whose order to others does not matter."""
        return await written(self._writing(self._first).submit(lambda conn: fn(conn, *args, **kwargs)))

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)` in the thread that reads for polls, beside writes. It holds up the other reads of polls."""
        return await asyncio.wrap_future(self._polls.submit(lambda conn: fn(conn, *args, **kwargs)))

    async def read_claim(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` for deliveries alone, in a separate thread: a few index steps at the most."""
        return await asyncio.wrap_future(self._claims.submit(lambda conn: fn(conn, *args, **kwargs)))

    async def read_shown(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` for what is shown (scrapes, status, pages, answers), in a separate thread."""
        return await asyncio.wrap_future(self._shown.submit(lambda conn: fn(conn, *args, **kwargs)))

    def on_commit(self, callback: Callable[[], None], news: News | None = None) -> Callable[[], None]:
        """Call `callback` on the running event loop after commits that bring `news`, None for every commit. What others
        committed is noticed within a second. Returns what ends that.
        """
        return self._listeners.add(callback, news)

    def on_failure(self, callback: Callable[[WriteFailure], None]) -> None:
        """Call `callback` in a writer's thread for each write that the database did not take."""
        self._report_failure = callback

    async def compact(self, pages: int) -> None:
        """Autovacuum does that."""

    async def truncate_log(self) -> bool:
        """PostgreSQL does that by itself."""
        return True

    async def close(self) -> None:
        """Finish what waits, then release the ledger. A second call does nothing."""
        await asyncio.to_thread(self._close)

    def _writing(self, pool: Pool) -> Pool:
        if not self._writes:
            raise LedgerError(f"{self.name} was opened for reading only")
        return pool

    def _read(self, engine: Engine, work: Callable[[Connection], Any]) -> Any:
        try:
            with engine.connect() as conn:
                return work(conn)
        except SQLAlchemyError as error:
            raise faults.explained(self.name, error) from error

    def _write(self, engine: Engine, work: Callable[[Connection], Any]) -> Any:
        if self.lost is not None:
            raise LedgerLost(f"{self.name}: {self.lost}; nothing is committed any more")
        try:
            value, news = self._committed(engine, work)
        except (SQLAlchemyError, LedgerUnreachable) as error:
            if (cause := faults.failure(error)) is not None:
                self._report_failure(cause)
            raise faults.explained(self.name, error) from error
        self._listeners.announce(news)
        return value

    def _committed(self, engine: Engine, work: Callable[[Connection], Any]) -> tuple[Any, frozenset[News]]:
        for left in reversed(range(TRIES)):
            try:
                return self._once(engine, work)
            except DBAPIError as error:
                if not left or faults.code(error) not in faults.REPEATABLE:
                    raise
                time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - so that the two do not meet again
        raise AssertionError  # the last try returned or raised

    def _once(self, engine: Engine, work: Callable[[Connection], Any]) -> tuple[Any, frozenset[News]]:
        with engine.connect() as conn:
            take_announced(conn)
            with conn.begin() as transaction:
                value = work(conn)
                news = take_announced(conn)
                self._commit(transaction.commit)
        return value, news

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

    def _hold(self, lease: Lease) -> None:
        self._held = lease
        self._keeper.start()

    def _keep(self) -> None:
        """Renews the lease and looks for what others committed, until closed or lost."""
        seen, renewed_at = self._newest(), time.monotonic()
        while not self._closing.wait(LOOK):
            if time.monotonic() - renewed_at >= RENEW_EVERY:
                if not self._renewed():
                    break
                renewed_at = time.monotonic()
            now = self._newest()
            if now is not None and now != seen:
                self._listeners.announce(_ALL_NEWS)
                seen = now

    def _newest(self) -> tuple[Any, ...] | None:
        """A number that grows with each request and hint; None if it cannot be read now."""
        try:
            with self._lease_engine.connect() as conn:
                return tuple(conn.execute(_NEWEST).one())
        except (SQLAlchemyError, LedgerUnreachable):
            return None  # the writes that wait report the error

    def _renewed(self) -> bool:
        """Renew the lease; whether this process still holds it, as far as can be known."""
        try:
            with self._lease_engine.begin() as conn:
                ours = leases.renew(conn, self._held, int(TTL * 1000))
        except (SQLAlchemyError, LedgerUnreachable) as error:
            log.warning("lease.unrenewed", extra=fields(lease=SERVICE, cause=str(faults.explained(self.name, error))))
            return True
        if not ours and not self._closing.is_set():
            self.lost = "another service has it"
            then = "nothing is committed any more, and the process ends"
            log.critical("ledger.lost", extra=fields(path=self.name, cause=self.lost, then=then))
        return ours

    def _close(self) -> None:
        within = CLOSE_WITHIN
        ended = [pool.stop(within) for pool in (self._polls, self._claims, self._shown, self._writers, self._first)]
        if self._keeper.is_alive():
            self._closing.set()
            self._keeper.join(within)
            self._give_back()
        if not all(ended):
            cause = "the database did not answer in time"
            log.error(
                "ledger.unclosed",
                extra=fields(path=self.name, cause=cause, then="writes that were under way may be rolled back"),
            )
        for engine in self._engines:
            engine.dispose()

    def _give_back(self) -> None:
        try:
            with self._lease_engine.begin() as conn:
                leases.give_back(conn, self._held)
        except (SQLAlchemyError, LedgerUnreachable) as error:
            cause = str(faults.explained(self.name, error))
            log.warning("lease.kept", extra=fields(lease=SERVICE, cause=cause, then="it expires by itself"))


_Nothing = Lease(SERVICE, "", 0, clean=True)
_NEWEST = select(
    select(func.max(schema.request.c.id)).scalar_subquery(),
    select(func.max(schema.source.c.hinted_at)).scalar_subquery(),
)


def _taken(conn: Connection, database: Database, holder: str) -> Lease:
    """Raises `LedgerLocked`."""
    held = leases.take(conn, SERVICE, holder, int(TTL * 1000))
    if held is not None:
        leases.end_all(conn)  # only who has the lease of the service holds others
        replicas.end_all(conn)
        leases.renew(conn, held, int(TTL * 1000))
        return held
    other = conn.scalar(select(schema.lease.c.holder).where(schema.lease.c.name == SERVICE)) or "another process"
    who, by_command = other.rpartition(":")[0], other.startswith(_COMMAND)
    raise LedgerLocked(
        f"{database.name} is in use by {who}: it is free when that ends, {TTL:.0f} s later where it was killed",
        by_command=by_command,
    )
