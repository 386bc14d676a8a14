"""Events that a sink refused for good: listed, sent again or dropped by people."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, insert, select, update

from collector.ledger import doubts, news, owing, schema, tallies
from collector.ledger.leases import Lease, fence
from collector.ledger.news import News
from collector.ledger.owing import Lane
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
    table, run, event = schema.parked, schema.run, schema.event
    rows = (
        select(
            schema.sink.c.name.label("sink"),
            schema.source.c.name.label("source"),
            table.c.strand_id,
            table.c.seq,
            run.c.key.label("run_key"),
            run.c.run_uuid,
            run.c.job,
            event.c.kind,
            table.c.parked_at,
            table.c.attempts,
            table.c.cause,
            table.c.superseded_at,
            table.c.retry_at,
        )
        .join(schema.sink, schema.sink.c.id == table.c.sink_id)
        .join(schema.source, schema.source.c.id == table.c.source_id)
        .join(run, run.c.id == table.c.run_id)
        .join(event, and_(event.c.strand_id == table.c.strand_id, event.c.seq == table.c.seq))
        .order_by(table.c.parked_at.desc(), table.c.strand_id.desc(), table.c.seq.desc())
        .limit(limit)
    )
    if sink_id is not None:
        rows = rows.where(table.c.sink_id == sink_id)
    if source_id is not None:
        rows = rows.where(table.c.source_id == source_id)
    return [ParkedEvent(**{**row, "kind": EventKind(row["kind"])}) for row in conn.execute(rows).mappings()]


def retry(conn: Connection, lease: Lease, sink_id: int, strand_id: int, seq: int, now_ms: int) -> RetryAnswer:
    """Put it back at the head of its lane. For the holder of the sink's lease, while no event of that strand is in
    flight or waits for its settle.

    Several of one strand are sent in their order; then the lane goes on where it was, so that nothing that was
    acknowledged meanwhile is sent again.
    """
    fence(conn, lease)
    lane = owing.locked(conn, sink_id, [strand_id]).get(strand_id)
    row = _row(conn, sink_id, strand_id, seq)
    if row is None:
        return RetryAnswer.NOT_PARKED
    if row["superseded_at"] is not None:
        return RetryAnswer.SUPERSEDED
    if row["retry_at"] is not None:
        return RetryAnswer.QUEUED
    created_at = _committed_at(conn, strand_id, seq)
    if created_at is None:
        return RetryAnswer.NOT_PARKED
    more = _into_lane(conn, sink_id, lane, row, created_at, now_ms)
    conn.execute(update(schema.parked).where(*_of(sink_id, strand_id, seq)).values(retry_at=now_ms))
    tallies.add(conn, sink_id, Counter({row["source_id"]: more}), Counter({row["source_id"]: -1}))
    news.tell(conn, News.EVENTS)
    return RetryAnswer.QUEUED


def _into_lane(conn: Connection, sink_id: int, lane: Lane | None, row: RowMapping, created_at: int, now_ms: int) -> int:
    """How many more events the lane owes now: none where this one takes the place of a head that is wanted no longer."""
    table, strand_id, seq = schema.lane, row["strand_id"], row["seq"]
    if lane is None:
        last = conn.scalar(select(schema.run.c.last_seq).where(schema.run.c.id == strand_id)) or seq
        place = {"sink_id": sink_id, "strand_id": strand_id, "source_id": row["source_id"]}
        when = {"due_at": min(created_at, now_ms), "since": created_at}
        conn.execute(insert(table), {**place, **when, "next_seq": seq, "last_seq": seq, "resume_seq": last + 1})
        return 1
    if seq > lane.next_seq:
        return 1
    owing.set_head(conn, sink_id, strand_id, seq, created_at, now_ms)
    if lane.resume_seq is not None:
        return 1
    of_lane = table.c.sink_id == sink_id, table.c.strand_id == strand_id
    conn.execute(update(table).where(*of_lane).values(resume_seq=lane.next_seq))
    event = schema.event
    head = select(event.c.kind).where(event.c.strand_id == strand_id, event.c.seq == lane.next_seq)
    return int(conn.scalar(head) in owing.filters(conn).get(sink_id, ()))


def drop(conn: Connection, lease: Lease, sink_id: int, strand_id: int, seq: int) -> bool:
    """Forget it for good. False when it is not parked or on its way again."""
    fence(conn, lease)
    row = _row(conn, sink_id, strand_id, seq)
    if row is None or row["retry_at"] is not None:
        return False
    conn.execute(delete(schema.parked).where(*_of(sink_id, strand_id, seq)))
    doubts.forget_dropped_ends(conn, sink_id, [(strand_id, seq)])
    tallies.add(conn, sink_id, Counter(), Counter({row["source_id"]: -1}))
    return True


def _row(conn: Connection, sink_id: int, strand_id: int, seq: int) -> RowMapping | None:
    return conn.execute(select(schema.parked).where(*_of(sink_id, strand_id, seq))).mappings().one_or_none()


def _committed_at(conn: Connection, strand_id: int, seq: int) -> int | None:
    event = schema.event
    return conn.scalar(select(event.c.created_at).where(event.c.strand_id == strand_id, event.c.seq == seq))


def _of(sink_id: int, strand_id: int, seq: int) -> tuple[ColumnElement[bool], ...]:
    table = schema.parked
    return table.c.sink_id == sink_id, table.c.strand_id == strand_id, table.c.seq == seq
