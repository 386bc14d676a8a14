"""A pool of threads, each of which works on one task at a time."""

from collections.abc import Callable
from typing import Any

from collector.ledger.worker import Threads

Work = Callable[[Any], Any]


class Pool(Threads):
    """`serve` does one work and returns or raises what comes of it."""

    def __init__(self, name: str, threads: int, serve: Callable[[Work], Any]) -> None:
        self._serve = serve
        super().__init__(*(f"{name}-{number}" for number in range(threads)))

    def _run(self) -> None:
        while (task := self._inbox.get()) is not None:
            try:
                value = self._serve(task.work)
            except BaseException as error:  # noqa: BLE001 - the thread's boundary: the caller hears of it
                task.answer.set_exception(error)
            else:
                task.answer.set_result(value)
        self._inbox.put(None)  # for the next thread
