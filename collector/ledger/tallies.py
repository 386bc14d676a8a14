"""Counts per source and sink, kept in the same commit as what they count, so that nobody counts rows at scrape time."""

from collections import Counter
from functools import cache

from sqlalchemy import Connection, Insert, Select, case, delete, func, insert, select

from collector.ledger import schema
from collector.model import EventKind


def add(conn: Connection, sink_id: int, pending: Counter[int], parked: Counter[int] | None = None) -> None:
    """Add to the counts of a sink, by source; negative numbers take away."""
    rows = [row for row in _rows(sink_id, pending, parked or Counter()) if row["pending"] or row["parked"]]
    if rows:
        conn.execute(_more(conn.dialect.name), rows)


def recount(conn: Connection, sink_id: int, wanted: frozenset[EventKind]) -> None:
    """Count a sink's rows afresh: takes as long as it has lanes."""
    pending, parked = Counter[int](), Counter[int]()
    for source, owed in conn.execute(_owed(sink_id, wanted)):
        pending[source] += owed
    for source, waiting, kept in conn.execute(_kept(sink_id)):
        pending[source] += waiting
        parked[source] += kept - waiting
    conn.execute(delete(schema.tally).where(schema.tally.c.sink_id == sink_id))
    if rows := _rows(sink_id, pending, parked):
        conn.execute(insert(schema.tally), rows)


@cache
def _more(dialect: str) -> Insert:
    table = schema.tally
    statement = schema.upsert(dialect, table)
    more = {name: table.c[name] + statement.excluded[name] for name in ("pending", "parked")}
    return statement.on_conflict_do_update(index_elements=["source_id", "sink_id"], set_=more)


def _rows(sink_id: int, pending: Counter[int], parked: Counter[int]) -> list[dict[str, int]]:
    """In a fixed order, against deadlocks."""
    return [
        {"source_id": source, "sink_id": sink_id, "pending": pending[source], "parked": parked[source]}
        for source in sorted(pending.keys() | parked.keys())
    ]


def _owed(sink_id: int, wanted: frozenset[EventKind]) -> Select[int, int]:
    """A lane owes its head, whatever kind it is, and the wanted events behind it; where the head is a parked event,
    that one is counted with the parked.
    """
    lane, event = schema.lane, schema.event
    behind = (
        select(func.count())
        .where(
            event.c.strand_id == lane.c.strand_id,
            event.c.seq > func.coalesce(lane.c.resume_seq - 1, lane.c.next_seq),
            event.c.seq <= lane.c.last_seq,
            event.c.kind.in_(sorted(wanted)),
        )
        .scalar_subquery()
    )
    head = case((lane.c.resume_seq.is_(None), 1), else_=0)
    owed = select(lane.c.source_id, func.sum(head + behind)).where(lane.c.sink_id == sink_id)
    return owed.group_by(lane.c.source_id)


def _kept(sink_id: int) -> Select[int, int, int]:
    """By source: parked events on their way again, and all."""
    parked = schema.parked
    waiting = func.sum(case((parked.c.retry_at.is_not(None), 1), else_=0))
    kept = select(parked.c.source_id, waiting, func.count()).where(parked.c.sink_id == sink_id)
    return kept.group_by(parked.c.source_id)
