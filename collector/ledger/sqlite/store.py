"""The ledger's file and the threads that work on it: one writes, three read, so that no claim and no scrape waits for a poll.

Commits that wait together share one transaction and one sync: a savepoint each, so that what one raises undoes only
its own work.
"""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from collector.clock import Clock
from collector.errors import LedgerCorrupt, LedgerError, LedgerLocked, LedgerLost
from collector.ledger import leases, migration, replicas
from collector.ledger.port import Change, take_announced
from collector.ledger.sqlite import file, lock, presence
from collector.ledger.sqlite.lock import Condition, FileLock
from collector.ledger.sqlite.presence import Presence
from collector.ledger.threaded import ThreadedStore
from collector.ledger.worker import Task, Worker
from collector.logs import fields

log = logging.getLogger("lineage.ledger")

_STOPPED = "nothing is committed any more; what was committed is written to a new file, and the process ends"
_Readers = Mapping[str, Engine]
_READERS = ("polls", "claims", "shown")


@dataclass(frozen=True, slots=True)
class _Result:
    value: Any = None
    error: Exception | None = None
    changes: frozenset[Change] = frozenset()


class Store(ThreadedStore):
    """An open ledger. `set_aside` is where an unusable file went that was found at this start, if one was: the
    look-back of the sources fills the new one. `rescued` is True if the file was deleted under the process before, which
    wrote it again. `lost` is why nothing is committed any more: the file is not where it was opened.
    """

    def __init__(self, path: Path, readers: _Readers, writer: Engine | None, held: FileLock | None) -> None:
        super().__init__()
        self.path = path
        self.set_aside: Path | None = None
        self.rescued = held is not None and held.former is Condition.RESCUED
        self.lost: str | None = None
        self._lock, self._condition = held, Condition.CLOSED
        self._present = Presence.of(path)
        self._new_lock: FileLock | None = None
        self._read_engines, self._write_engine = readers, writer
        self._workers = [Worker(f"ledger-{name}", partial(self._answer, engine)) for name, engine in readers.items()]
        # a file that is only read has one reader for all
        self._polls, self._claims, self._shown = self._workers * (len(_READERS) // len(self._workers))
        self._writer = Worker("ledger-writer", self._serve) if writer is not None else None

    @classmethod
    def open(cls, path: Path, *, holder: str, clock: Clock, command: bool = False) -> "Store":
        """Take the file for this process; a damaged one is set aside first. `holder` is for people who find it taken,
        `command` says that this process soon ends by itself.
        Raises `LedgerLocked`, `LedgerTooNew`, `LedgerCorrupt` where damage shows only now, and `LedgerError`.
        """
        held = lock.take(path, holder, clock.now(), command=command)
        with ExitStack() as undo:
            undo.callback(held.release)
            try:
                aside = _cleared(path, held, clock)
                readers, writer = _connected(path, undo)
                held.note(Condition.OPEN)
            except (OSError, sqlite3.Error, SQLAlchemyError) as error:
                if file.is_damage(error):
                    held.note(Condition.SUSPECT)
                    raise LedgerCorrupt(
                        f"ledger {path}: {error}; at the next start it is checked and set aside"
                    ) from error
                raise LedgerError(f"cannot open ledger {path}: {error}") from error
            undo.pop_all()
        store = cls(path, readers, writer, held)
        store.set_aside = aside
        size = path.stat().st_size
        log.info("ledger.opened", extra=fields(path=str(path), bytes=size, sqlite=sqlite3.sqlite_version))
        return store

    @classmethod
    def open_readonly(cls, path: Path) -> "Store":
        """Beside a running service or without one; `write` raises `LedgerError`."""
        file.refuse_directory(path)
        if not path.is_file():
            raise LedgerError(f"there is no ledger at {path}: start the service with this configuration first")
        try:
            connection = file.connect_reader(path)
            reader = file.engine(connection, writes=False)
        except sqlite3.Error as error:
            if file.is_damage(error) and lock.former(path) is Condition.NEW:
                raise file.foreign(path) from error
            words = f"cannot read ledger {path}: {error}"
            if file.is_damage(error):
                raise LedgerCorrupt(f"{words}; the next start of the service checks it and sets it aside") from error
            raise LedgerError(words) from error
        try:
            file.refuse_foreign(path, connection)
            with reader.connect() as conn:
                migration.check(conn, f"ledger {path}")
        except BaseException:
            reader.dispose()
            raise
        return cls(path, {"reader": reader}, None, None)

    async def compact(self, pages: int) -> None:
        """Give up to `pages` free pages back to the file system; 256 take about 18 ms, in which nothing is written."""
        # execute() would free one page only
        script = f"PRAGMA incremental_vacuum({int(pages)})"
        await asyncio.wrap_future(self._writing().submit(lambda raw: raw.executescript(script), alone=True))

    async def truncate_log(self) -> bool:
        """Bring the write-ahead log into the file and cut it off; False when a reader of it was still at work."""
        return await asyncio.wrap_future(self._writing().submit(file.truncate_log, alone=True))

    async def rescue(self) -> Path:
        """Once `lost`: write all that was committed to a new file, at the ledger's path if no other file is there.
        Returns its path; a new start can use it. Raises `LedgerError` when it cannot be done now.
        """
        return await asyncio.wrap_future(self._writing().submit(self._rescued, alone=True))

    def _close(self) -> None:
        for reader in self._workers:
            reader.stop()
        if self._writer is not None:
            self._writer.stop()
        for engine in self._read_engines.values():
            engine.dispose()
        held, self._lock = self._lock, None
        if self._write_engine is not None and held is not None:
            self._write_engine.dispose()
            for each in (held, self._new_lock):
                if each is not None:
                    self._note(each, self._condition)
                    each.release()

    def _submit_write(self, work: Callable[[Connection], Any], *, first: bool) -> "Future[Any]":
        return self._writing().submit(work, first=first)

    def _writing(self) -> Worker:
        if self._writer is None:
            raise LedgerError(f"ledger {self.path} was opened for reading only")
        return self._writer

    def _serve(self, batch: Sequence[Task]) -> None:
        together = [task for task in batch if not task.alone]
        if together:
            self._commit(together)
        for task in batch:
            if task.alone:
                self._do_alone(task)

    def _commit(self, batch: Sequence[Task]) -> None:
        assert self._write_engine is not None
        if self.lost is not None:
            for task in batch:
                task.answer.set_exception(self._loss())
            return
        results = _attempted(self._write_engine, batch)
        if self._is_lost():
            results = [_Result(error=self._loss(), changes=frozenset({Change.LOSS})) for _ in batch]
        self._listeners.announce(frozenset().union(*(result.changes for result in results)))
        for task, result in zip(batch, results, strict=True):
            self._settle_write(task, result)

    def _settle_write(self, task: Task, result: _Result) -> None:
        if result.error is not None and (cause := file.failure(result.error)) is not None:
            self._report_failure(cause)
        self._settle(task, result)

    def _is_lost(self) -> bool:
        """What was committed into a file that is gone by now is not acknowledged."""
        if self.lost is None and (missing := self._present.missing()) is not None:
            self.lost = missing
            log.critical("ledger.lost", extra=fields(path=str(self.path), cause=missing, then=_STOPPED))
        return self.lost is not None

    def _loss(self) -> LedgerLost:
        return LedgerLost(f"ledger {self.path}: {self.lost}; nothing is committed any more")

    def _rescued(self, raw: sqlite3.Connection) -> Path:
        assert self._lock is not None
        now = datetime.now(UTC)
        try:
            ours = self._lock_again(self._lock, now)
            if self._present.file_is_there and ours:
                where = presence.checkpointed(raw, self._present, now)
            else:
                where = presence.copied(raw, self.path, now)
                where = presence.put_in_place(where, self._present) if ours else where
        except (OSError, sqlite3.Error, LedgerError) as error:
            raise LedgerError(
                f"ledger {self.path}: {self.lost}, and it cannot be written again: {error}. What was committed is only in this "
                f"process: do not end it, make room in {self.path.parent} or copy the files under /proc/{os.getpid()}/fd"
            ) from error
        self._condition = Condition.RESCUED
        return where

    def _lock_again(self, held: FileLock, now: datetime) -> bool:
        """Whether only this process may write here: also if the lock was deleted and no other process took it since."""
        if self._present.lock_is_there or self._new_lock is not None:
            return True
        try:
            self._new_lock = lock.take(self.path, str(held.holder["holder"]), now)
        except LedgerLocked:
            return False
        return True

    def _do_alone(self, task: Task) -> None:
        assert self._write_engine is not None
        try:
            with self._write_engine.connect() as conn:
                result = _Result(task.work(conn.connection.dbapi_connection))
        except Exception as error:  # noqa: BLE001 - as above
            result = _Result(error=error)
        self._settle_write(task, result)

    def _answer(self, engine: Engine, batch: Sequence[Task]) -> None:
        for task in batch:
            try:
                with engine.connect() as conn:
                    result = _Result(task.work(conn))
            except Exception as error:  # noqa: BLE001 - as above
                result = _Result(error=error)
            self._settle(task, result)

    def _settle(self, task: Task, result: _Result) -> None:
        if result.error is None:
            task.answer.set_result(result.value)
            return
        error = file.explained(self.path, result.error)
        if isinstance(error, LedgerCorrupt) and self._lock is not None:
            log.error("ledger.damaged", extra=fields(path=str(self.path), cause=str(error)))
            self._condition = Condition.SUSPECT
            self._note(self._lock, self._condition)
        task.answer.set_exception(error)

    def _note(self, held: FileLock, condition: Condition) -> None:
        try:
            held.note(condition)
        except OSError as error:
            log.warning("ledger.lock_unwritten", extra=fields(path=str(held.path), cause=str(error)))


def _cleared(path: Path, held: FileLock, clock: Clock) -> Path | None:
    """Where the file went if it was damaged."""
    log_lost = held.former is Condition.OPEN and path.exists() and not path.with_name(f"{path.name}-wal").exists()
    cause = file.damage(path, held.former)
    if cause is None:
        if log_lost:
            log.error("ledger.wal_missing", extra=fields(path=str(path), cause="what was committed last may be lost"))
        return None
    aside = file.set_aside(path, clock.now())
    log.error("ledger.set_aside", extra=fields(path=str(path), now_at=str(aside), cause=cause))
    return aside


def _connected(path: Path, undo: ExitStack) -> tuple[_Readers, Engine]:
    """The readers' and the writer's engines on a migrated file; `undo` closes all."""
    writer = file.engine(file.connect_writer(path), writes=True)
    undo.callback(writer.dispose)
    with writer.begin() as conn:
        migrated = migration.migrate(conn, f"ledger {path}")
        found = migration.version(conn)
        leases.end_all(conn)  # the file lock is ours, so their former holder is gone
        replicas.end_all(conn)
    if migrated:
        log.info("ledger.migrated", extra=fields(path=str(path)))
    if found is not None and found.is_newer:
        migration.report_newer(found, str(path))
    readers: dict[str, Engine] = {}
    for name in _READERS:
        readers[name] = file.engine(file.connect_reader(path), writes=False)
        undo.callback(readers[name].dispose)
    return readers, writer


def _attempted(engine: Engine, batch: Sequence[Task]) -> list[_Result]:
    """What came of these tasks, in one commit."""
    try:
        with engine.begin() as conn:
            if len(batch) == 1:  # the transaction is its own: without a savepoint
                return [_done(conn, batch[0])]
            return [_attempt(conn, task) for task in batch]
    except Exception as error:  # noqa: BLE001 - the thread's boundary: the callers hear of it
        return [_Result(error=error) for _ in batch]


def _attempt(conn: Connection, task: Task) -> _Result:
    try:
        with conn.begin_nested():
            return _done(conn, task)
    except Exception as error:
        if not conn.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
            raise  # SQLite rolled back the whole transaction, with the work of all
        return _Result(error=error)


def _done(conn: Connection, task: Task) -> _Result:
    take_announced(conn)  # by a task before it, which failed
    value = task.work(conn)
    return _Result(value, changes=take_announced(conn))
