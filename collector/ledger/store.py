"""The ledger's file and the two threads that work on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from collector.clock import Clock
from collector.ledger.news import News

P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """An open ledger."""

    path: Path
    set_aside: Path | None
    """Where an unusable file went that was found at this start: runs are found again by the look-back."""

    @classmethod
    def open(cls, path: Path, *, holder: str, clock: Clock) -> "Store":
        """Take the file for this process. Raises `LedgerLocked`, `LedgerTooNew`, `LedgerError`."""
        raise NotImplementedError

    @classmethod
    def open_readonly(cls, path: Path) -> "Store":
        """Beside a running service; `write` raises `LedgerError`."""
        raise NotImplementedError

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)` in a transaction of the writer's thread. Once called it happens, whether or not the
        caller is cancelled meanwhile. What `fn` raises rolls back only its own work.
        """
        raise NotImplementedError

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)` in the reader's thread, beside writes."""
        raise NotImplementedError

    def read_now(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` for other threads, never the event loop's: waits for the answer."""
        raise NotImplementedError

    def on_commit(self, callback: Callable[[], None], news: News | None = None) -> Callable[[], None]:
        """Call `callback` on the running event loop after commits that bring `news`, None for every commit. Returns
        what ends that.
        """
        raise NotImplementedError

    async def compact(self, pages: int) -> None:
        """Give up to `pages` free pages back to the file system."""
        raise NotImplementedError

    async def close(self) -> None:
        """Do what waits, then let go of the file."""
        raise NotImplementedError
