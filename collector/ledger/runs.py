"""Runs: what a poll commits, and what the next one needs to know."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from collector.ledger.leases import Lease
from collector.model import EventKind, Run, Skip


@dataclass(frozen=True, slots=True)
class NewEvent:
    """`body` is the RunEvent as JSON bytes, `happened_at_ms` its eventTime."""

    kind: EventKind
    body: bytes
    happened_at_ms: int


@dataclass(frozen=True, slots=True)
class RunChange:
    """A run as known now, and the events of its transitions, in order."""

    run: Run
    events: tuple[NewEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class PollCommit:
    """What one page of a poll, one enrichment or one request changes. `cursor` and `polled_at_ms`: None leaves them."""

    lease: Lease
    source_id: int
    changes: tuple[RunChange, ...] = ()
    cursor: str | None = None
    polled_at_ms: int | None = None
    skips: tuple[Skip, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceState:
    """`polled_at` and `hinted_at` (when a hint came last) in epoch milliseconds."""

    cursor: str | None
    polled_at: int | None
    hinted_at: int | None


def commit_poll(conn: Connection, commit: PollCommit, now_ms: int) -> None:
    """Runs, events, lanes, counts, skips and cursor, all or nothing."""
    raise NotImplementedError


def by_keys(conn: Connection, source_id: int, keys: Iterable[str]) -> dict[str, Run]:
    """Those of the runs that are known."""
    raise NotImplementedError


def tracked(conn: Connection, source_id: int, now_ms: int, limit: int) -> list[Run]:
    """Open runs that are due, oldest due first; one without `due_at` is due since it was last seen. Runs that ended
    and wait for their enrichment are not among them.
    """
    raise NotImplementedError


def enriching(conn: Connection, source_id: int, limit: int) -> list[Run]:
    """Runs that ended and have no terminal event yet, the nearest deadline first."""
    raise NotImplementedError


def next_due(conn: Connection, source_id: int) -> int | None:
    """The earliest `due_at` of an open run that asked for one, past or future."""
    raise NotImplementedError


def source_state(conn: Connection, source_id: int) -> SourceState:
    raise NotImplementedError
