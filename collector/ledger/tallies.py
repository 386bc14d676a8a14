"""Counts per source and sink, updated in the same commit as what they count, so that a scrape counts no rows."""

from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, Select, bindparam, case, delete, func, insert, select, update

from collector.ledger import schema
from collector.ledger.statements import put
from collector.model import EventKind

_COUNTS = ("pending", "parked", "pending_bytes")


def add(
    conn: Connection,
    sink_id: int,
    pending: Counter[int],
    parked: Counter[int] | None = None,
    pending_bytes: Counter[int] | None = None,
) -> None:
    """Add to the counts of a sink, by source; negative numbers take away."""
    rows = _rows(sink_id, pending, parked or Counter(), pending_bytes or Counter())
    if changed := [row for row in rows if any(row[name] for name in _COUNTS)]:
        conn.execute(put(conn, schema.tally, (), _COUNTS), changed)


def less(sources: Iterable[int] | Mapping[int, int]) -> Counter[int]:
    """One less of a source each time that it is in there, or so many less: for `add`."""
    found = Counter[int]()
    found.subtract(sources)
    return found


def grow(conn: Connection, event_bytes: Counter[int]) -> None:
    """Add to the bytes of events that the ledger holds, by source; negative numbers take away."""
    rows = [{"of_id": source, "more": size} for source, size in sorted(event_bytes.items()) if size]
    if rows:
        conn.execute(_GROWN, rows)


_GROWN = (
    update(schema.source)
    .where(schema.source.c.id == bindparam("of_id"))
    .values(event_bytes=schema.source.c.event_bytes + bindparam("more"))
)


def recount(conn: Connection, sink_id: int, wanted: frozenset[EventKind]) -> None:
    """Count a sink's rows afresh: takes as long as it has lanes. Another replica may settle meanwhile: its commit is counted,
    or comes after this one.
    """
    conn.execute(_LOCKED, {"of_sink": sink_id})
    pending, parked, size = Counter[int](), Counter[int](), Counter[int]()
    for source, owed, owed_bytes in conn.execute(_owed(sink_id, wanted)):
        pending[source] += owed
        size[source] += owed_bytes
    for source, waiting, kept, waiting_bytes in conn.execute(_kept(sink_id)):
        pending[source] += waiting
        parked[source] += kept - waiting
        size[source] += waiting_bytes
    conn.execute(delete(schema.tally).where(schema.tally.c.sink_id == sink_id))
    if rows := _rows(sink_id, pending, parked, size):
        conn.execute(insert(schema.tally), rows)


_LOCKED = (
    select(schema.tally.c.source_id)
    .where(schema.tally.c.sink_id == bindparam("of_sink"))
    .order_by(schema.tally.c.source_id)
    .with_for_update()
)


def _rows(sink_id: int, pending: Counter[int], parked: Counter[int], size: Counter[int]) -> list[dict[str, int]]:
    """In a fixed order, against deadlocks."""
    return [
        {
            "source_id": source,
            "sink_id": sink_id,
            "pending": pending[source],
            "parked": parked[source],
            "pending_bytes": size[source],
        }
        for source in sorted(pending.keys() | parked.keys() | size.keys())
    ]


def _owed(sink_id: int, wanted: frozenset[EventKind]) -> Select[int, int, int]:
    """A lane owes its head, whatever kind it is, and the wanted events behind it; where the head is a parked event,
    that one is counted with the parked.
    """
    lane, event, first = schema.lane, schema.event, schema.event.alias("first")
    is_behind = (
        event.c.strand_id == lane.c.strand_id,
        event.c.seq > func.coalesce(lane.c.resume_seq - 1, lane.c.next_seq),
        event.c.seq <= lane.c.last_seq,
        event.c.kind.in_(sorted(wanted)),
    )
    behind = select(func.count()).where(*is_behind).scalar_subquery()
    behind_bytes = select(func.coalesce(func.sum(func.length(event.c.body)), 0)).where(*is_behind).scalar_subquery()
    is_head = first.c.strand_id == lane.c.strand_id, first.c.seq == lane.c.next_seq
    head_bytes = func.coalesce(select(func.length(first.c.body)).where(*is_head).scalar_subquery(), 0)
    of_its_own = lane.c.resume_seq.is_(None)
    owed = func.sum(case((of_its_own, 1), else_=0) + behind)
    size = func.sum(case((of_its_own, head_bytes), else_=0) + behind_bytes)
    return select(lane.c.source_id, owed, size).where(lane.c.sink_id == sink_id).group_by(lane.c.source_id)


def _kept(sink_id: int) -> Select[int, int, int, int]:
    """By source: parked events on their way again, all, and the bytes of the former."""
    parked, event = schema.parked, schema.event
    again = parked.c.retry_at.is_not(None)
    is_it = event.c.strand_id == parked.c.strand_id, event.c.seq == parked.c.seq
    its_bytes = func.coalesce(select(func.length(event.c.body)).where(*is_it).scalar_subquery(), 0)
    waiting, size = func.sum(case((again, 1), else_=0)), func.sum(case((again, its_bytes), else_=0))
    kept = select(parked.c.source_id, waiting, func.count(), size).where(parked.c.sink_id == sink_id)
    return kept.group_by(parked.c.source_id)
