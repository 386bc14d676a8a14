"""The port of the ledger: what everyone outside its stores uses to work on it.

A store runs plain functions, those of this package's other modules, which take a SQLAlchemy connection first:
`await ledger.write(runs.commit_poll, commit, now_ms)`. Only the composition root (`collector.app`) knows which store it is.
"""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from collector.reports import WriteFailure

P = ParamSpec("P")
T = TypeVar("T")

_KEY = "changes"


class Change(StrEnum):
    """What a commit brings for other tasks, so that each wakes up only for what concerns it."""

    EVENTS = "events"
    """There is something new to send."""
    REQUESTS = "requests"
    """There is a new request."""
    LEASES = "leases"
    """A lease is free."""
    LOSS = "loss"
    """None does, as this process cannot work on the ledger any more: `OwnedLedger.lost`."""


def announce(conn: Connection, change: Change) -> None:
    """For the functions of the ledger: those who listen for `change` are called when this transaction commits."""
    conn.info.setdefault(_KEY, set()).add(change)


def take_announced(conn: Connection) -> frozenset[Change]:
    """For stores: what was announced on this connection since the last call."""
    return frozenset(conn.info.pop(_KEY, ()))


class Ledger(Protocol):
    """An open ledger. What `fn` raises is raised to its caller and rolls back the work of this call alone; faults of the
    ledger itself are `LedgerError` and its subclasses.
    """

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)` in a transaction and return what it returned, once that is durable. Once called it happens, whether
        or not the caller is cancelled meanwhile.
        """
        ...

    async def write_first(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` before the other writes that wait: for short ones whose order to others does not matter."""
        ...

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)` for a poll, beside writes. It holds up the other reads of polls."""
        ...

    async def read_claim(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` for deliveries alone: a few index steps at the most, so that no claim waits for a poll."""
        ...

    async def read_shown(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` for what is shown: scrapes, status, pages, answers."""
        ...

    def on_commit(self, callback: Callable[[], None], change: Change | None = None) -> Callable[[], None]:
        """Call `callback` on the event loop after commits of this `change` (None: of every one). Returns what ends that."""
        ...

    async def close(self) -> None:
        """Finish what waits, then release the ledger. A second call does nothing."""
        ...


class OwnedLedger(Ledger, Protocol):
    """A ledger as the composition root opened it: for this process alone, or for reading.

    `lost` is why this process cannot work on it any more, None as long as it can: the file is gone, or the schema is too
    new. `set_aside` is where an unusable file went that was found at this start; `rescued` is True if the file was deleted under the process before, which wrote it again.
    """

    set_aside: Path | None
    rescued: bool
    lost: str | None

    def on_failure(self, callback: Callable[[WriteFailure], None]) -> None:
        """Call `callback` in a thread of the ledger for each write that it could not take."""
        ...

    async def compact(self, pages: int) -> None:
        """Give up to `pages` free pages back to the file system, if the store does not do that by itself."""
        ...

    async def truncate_log(self) -> bool:
        """Give the room of the write-ahead log back to the file system, if the store does not do that by itself."""
        ...
