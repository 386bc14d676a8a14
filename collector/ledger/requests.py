"""What people and hints ask for, done by whoever holds the lease of the source or sink."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from collector.ledger.leases import Lease


class RequestKind(StrEnum):
    TRIGGER = "trigger"
    WATCH = "watch"
    POLL = "poll"
    RETRY = "retry"
    DROP = "drop"


class RequestState(StrEnum):
    NEW = "new"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"
    DOUBTFUL = "doubtful"
    """It was begun and nobody knows how far it came; never repeated by itself."""


@dataclass(frozen=True, slots=True)
class Request:
    """`target` is the lease's name, `source:<name>` or `sink:<name>`; `body` and `answer` are JSON of the two ends."""

    id: int
    kind: RequestKind
    target: str
    body: str
    created_at: int
    state: RequestState
    answer: str | None = None
    done_at: int | None = None


def add(conn: Connection, kind: RequestKind, target: str, body: str, now_ms: int) -> int:
    """The request's number, to ask for its answer."""
    raise NotImplementedError


def claim(conn: Connection, lease: Lease, limit: int) -> list[Request]:
    """New requests to the lease's name, oldest first, now this holder's to do. Begin only after the commit."""
    raise NotImplementedError


def take_over(conn: Connection, lease: Lease, now_ms: int) -> list[Request]:
    """Once after taking the lease: what a former holder had begun. Triggers become doubtful and are returned, all else
    is new again.
    """
    raise NotImplementedError


def finish(conn: Connection, lease: Lease, request_id: int, state: RequestState, answer: str, now_ms: int) -> None:
    raise NotImplementedError


def get(conn: Connection, request_id: int) -> Request | None:
    raise NotImplementedError


def hint(conn: Connection, source_id: int, now_ms: int) -> None:
    """Something outside said that this source changed: see `runs.source_state`."""
    raise NotImplementedError
