"""A pool of threads, each of which works on one task at a time."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from collector.errors import LedgerError

Work = Callable[[Any], Any]


class Pool:
    """`serve` does one work and returns or raises what comes of it."""

    def __init__(self, name: str, threads: int, serve: Callable[[Work], Any]) -> None:
        self._serve = serve
        self._inbox: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._open = True
        # daemons, for a process that ends while the database is frozen must not hang
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work) -> "Future[Any]":
        """Queue a task, which will be done: the future cannot be cancelled. Raises `LedgerError` once stopped."""
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()
        with self._gate:
            if not self._open:
                raise LedgerError("the ledger is closed")
            self._inbox.put((work, answer))
        return answer

    def stop(self, within: float) -> bool:
        """Do what was submitted, then end; False when that takes longer than so many seconds."""
        with self._gate:
            if self._open:
                self._open = False
                self._inbox.put(None)
        end = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (task := self._inbox.get()) is not None:
            work, answer = task
            try:
                value = self._serve(work)
            except BaseException as error:  # noqa: BLE001 - the thread's boundary: the caller hears of it
                answer.set_exception(error)
            else:
                answer.set_result(value)
        self._inbox.put(None)  # for the next thread
