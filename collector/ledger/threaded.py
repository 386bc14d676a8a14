"""What the stores do alike: each call is done in a thread, and its caller waits for the answer on the event loop."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from collector.ledger.listeners import Listeners
from collector.ledger.port import Change
from collector.ledger.worker import Threads, written
from collector.reports import WriteFailure

P = ParamSpec("P")
T = TypeVar("T")


class ThreadedStore(ABC):
    """`port.Ledger` and `port.OwnedLedger` say what its calls do; `read`, `read_claim` and `read_shown` have separate threads."""

    _polls: Threads
    _claims: Threads
    _shown: Threads

    def __init__(self) -> None:
        self._listeners = Listeners()
        self._report_failure: Callable[[WriteFailure], None] = lambda _: None

    @abstractmethod
    def _submit_write(self, work: Callable[[Connection], Any], *, first: bool) -> "Future[Any]":
        """Raises `LedgerError` if the ledger was opened for reading only."""

    @abstractmethod
    def _close(self) -> None: ...

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await written(self._submit_write(lambda conn: fn(conn, *args, **kwargs), first=False))

    async def write_first(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await written(self._submit_write(lambda conn: fn(conn, *args, **kwargs), first=True))

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._polls.submit(lambda conn: fn(conn, *args, **kwargs)))

    async def read_claim(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._claims.submit(lambda conn: fn(conn, *args, **kwargs)))

    async def read_shown(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._shown.submit(lambda conn: fn(conn, *args, **kwargs)))

    def on_commit(self, callback: Callable[[], None], change: Change | None = None) -> Callable[[], None]:
        return self._listeners.add(callback, change)

    def on_failure(self, callback: Callable[[WriteFailure], None]) -> None:
        self._report_failure = callback

    async def close(self) -> None:
        await asyncio.to_thread(self._close)
