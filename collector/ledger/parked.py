"""Events that a sink refused for good: listed, sent again or dropped by people."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from collector.ledger.leases import Lease
from collector.model import EventKind


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """`strand_id` and `seq` name it at its sink. Times in epoch milliseconds. `retry_at` is set while it is on its
    way again, `superseded_at` once a later event of its run was acknowledged.
    """

    sink: str
    source: str
    strand_id: int
    seq: int
    run_key: str
    run_uuid: str
    job: str
    kind: EventKind
    parked_at: int
    attempts: int
    cause: str
    superseded_at: int | None
    retry_at: int | None


class RetryAnswer(StrEnum):
    QUEUED = "queued"
    """It is sent again, before what follows in its strand."""
    SUPERSEDED = "superseded"
    """A later event of its run was acknowledged, which told more; sending this one would undo that."""
    NOT_PARKED = "not parked"


def listing(
    conn: Connection, limit: int, *, sink_id: int | None = None, source_id: int | None = None
) -> list[ParkedEvent]:
    """Newest first."""
    raise NotImplementedError


def retry(conn: Connection, lease: Lease, sink_id: int, strand_id: int, seq: int, now_ms: int) -> RetryAnswer:
    """Put it back at the head of its lane. For the holder of the sink's lease, while no event of that strand is in
    flight or waits for its settle.
    """
    raise NotImplementedError


def drop(conn: Connection, lease: Lease, sink_id: int, strand_id: int, seq: int) -> bool:
    """Forget it for good. False when it is not parked or on its way again."""
    raise NotImplementedError
