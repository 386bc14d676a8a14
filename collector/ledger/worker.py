"""Threads that work on tasks. A `Worker` takes all that wait in one batch: the urgent ones first, then the rest, each in order."""

import asyncio
import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from collector.errors import LedgerError
from collector.logs import fields

log = logging.getLogger("lineage.ledger")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task:
    """`alone`: outside of the transaction that the tasks of a batch share. `first`: before what waits beside it."""

    work: Callable[[Any], Any]
    answer: "Future[Any]"
    alone: bool = False
    first: bool = False


class Threads(ABC):
    """Threads with one inbox. `_run` takes tasks from there until it gets None."""

    def __init__(self, *names: str) -> None:
        self._inbox: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._open = True
        # daemons, for a process that ends without closing must not hang: a ledger stands any kill, a server may be frozen
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[Any], Any]) -> "Future[Any]":
        """Queue a task, which will be done: the future cannot be cancelled. Raises `LedgerError` once stopped."""
        return self._put(work)

    def stop(self, within: float | None = None) -> bool:
        """Do what was submitted, then end; False when that takes longer than so many seconds."""
        with self._gate:
            if self._open:
                self._open = False
                self._inbox.put(None)
        end = None if within is None else time.monotonic() + within
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _put(self, work: Callable[[Any], Any], *, alone: bool = False, first: bool = False) -> "Future[Any]":
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()
        with self._gate:
            if not self._open:
                raise LedgerError("the ledger is closed")
            self._inbox.put(Task(work, answer, alone, first))
        return answer

    @abstractmethod
    def _run(self) -> None: ...


class Worker(Threads):
    """`serve` answers every task of a batch and raises nothing."""

    def __init__(self, name: str, serve: Callable[[Sequence[Task]], None]) -> None:
        self._serve = serve
        super().__init__(name)

    def submit(self, work: Callable[[Any], Any], *, alone: bool = False, first: bool = False) -> "Future[Any]":
        return self._put(work, alone=alone, first=first)

    def _run(self) -> None:
        while True:
            batch = self._batch()
            tasks = [task for task in batch if task is not None]
            # two batches in turn: urgent tasks never wait for the rest, and cannot make the rest wait endlessly
            for is_first in (True, False):
                if some := [task for task in tasks if task.first is is_first]:
                    self._do(some)
            if len(tasks) < len(batch):
                return

    def _batch(self) -> list[Task | None]:
        """All that was submitted by now, one task at least; None at the end."""
        batch = [self._inbox.get()]
        while not self._inbox.empty():
            batch.append(self._inbox.get())
        return batch

    def _do(self, tasks: Sequence[Task]) -> None:
        try:
            self._serve(tasks)
        except Exception as error:  # noqa: BLE001 - a bug in serving must not leave its callers waiting for ever
            for task in tasks:
                if not task.answer.done():
                    task.answer.set_exception(error)


async def written(answer: "Future[T]") -> T:
    """The result of a write. If the caller is cancelled meanwhile, the write still happens and its error is logged."""
    try:
        return await asyncio.wrap_future(answer)
    except asyncio.CancelledError:
        answer.add_done_callback(_log_abandoned)
        raise


def _log_abandoned(answer: "Future[Any]") -> None:
    if (error := answer.exception()) is not None:
        log.warning("ledger.write_failed", extra=fields(cause=str(error)))
