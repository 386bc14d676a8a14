"""What a new sink, or one that is configured again, is owed from now on."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, delete, exists, func, insert, or_, select, update

from collector.ledger import lanes, restriction, schema, skips, tallies
from collector.ledger.lanes import Lane
from collector.ledger.stored import is_open
from collector.logs import fields
from collector.model import EventKind, Skip, SkipKind
from collector.numerals import counted

log = logging.getLogger("lineage.ledger")

_TERMINAL = sorted(kind.value for kind in EventKind if kind.terminal)


def next_event(conn: Connection) -> int:
    """The number of the next event."""
    return (conn.scalar(select(func.max(schema.event.c.id))) or 0) + 1


def starts_of_open_runs(conn: Connection) -> dict[int, int]:
    """The first START of an open run in each strand that has one."""
    run, event = schema.run, schema.event
    started = and_(event.c.strand_id == run.c.strand_id, event.c.run_id == run.c.id, event.c.kind == EventKind.START)
    starts = select(run.c.strand_id, func.min(event.c.seq)).join(event, started).where(*is_open(run))
    return dict(conn.execute(starts.group_by(run.c.strand_id)).all())


def owe_from(conn: Connection, sink_id: int, wanted: frozenset[EventKind], strands: Mapping[int, int]) -> None:
    """Owe the sink what it wants of each strand that it may get, from a sequence number on; a lane that it has is only lengthened."""
    lane = schema.lane
    for strand in sorted(strands.keys() - restriction.barred(conn, sink_id, strands)):
        first = strands[strand]
        span = _span(conn, strand, first, wanted)
        if span is None:
            continue
        of_lane = lane.c.sink_id == sink_id, lane.c.strand_id == strand
        longer = conn.execute(update(lane).where(*of_lane).values(last_seq=span["last_seq"]))
        if not longer.rowcount:
            conn.execute(insert(lane), {**span, "sink_id": sink_id, "strand_id": strand})


def _span(conn: Connection, strand: int, first: int, wanted: frozenset[EventKind]) -> dict[str, Any] | None:
    event, run = schema.event, schema.run
    owed = event.c.strand_id == strand, event.c.seq >= first, event.c.kind.in_(sorted(wanted))
    head = (
        select(event.c.seq, event.c.created_at, run.c.source_id)
        .join(run, run.c.id == event.c.run_id)
        .where(*owed)
        .order_by(event.c.seq)
    )
    found = conn.execute(head.limit(1)).one_or_none()
    if found is None:
        return None
    seq, created_at, source_id = found
    last = conn.scalar(select(func.max(event.c.seq)).where(*owed))
    return {"source_id": source_id, "next_seq": seq, "last_seq": last, "due_at": created_at, "since": created_at}


def restore(conn: Connection, sink: RowMapping, wanted: frozenset[EventKind], now_ms: int) -> None:
    """A sink is configured again: lanes whose head was removed go on with what is left, and the runs that it had been
    sent, or that are open now, with what happened meanwhile. What is lost for it is counted and listed.
    """
    sink_id = sink["id"]
    before = _held(conn, sink_id)
    _forget_what_is_gone(conn, sink_id)
    lanes.advance(conn, sink_id, wanted, _lanes_without_head(conn, sink_id), now_ms)
    tallies.recount(conn, sink_id, wanted)
    lost = before - _held(conn, sink_id)
    owe_from(conn, sink_id, wanted, _missed(conn, sink, wanted))
    tallies.recount(conn, sink_id, wanted)
    here = {"retired_at": None, "until_event": None, "since_event": next_event(conn)}
    conn.execute(update(schema.sink).where(schema.sink.c.id == sink_id).values(here))
    for source_id, count in sorted(lost.items()):
        cause = f"{counted(count, 'event')} that it was owed, removed by retention while it was not configured"
        skips.note(conn, source_id, [Skip(SkipKind.GAP, f"sink {sink['name']}", cause)], now_ms)
    log.warning("sink.returned", extra=fields(sink=sink["name"], lost=lost.total()))


def _held(conn: Connection, sink_id: int) -> Counter[int]:
    """What it is owed and what it refused, by source."""
    table = schema.tally
    counts = select(table.c.source_id, table.c.pending + table.c.parked).where(table.c.sink_id == sink_id)
    return Counter(dict(conn.execute(counts).all()))


def _forget_what_is_gone(conn: Connection, sink_id: int) -> None:
    """Parked events, and the ends of runs in doubt, that retention removed."""
    parked, doubt, run, event = schema.parked, schema.doubt, schema.run, schema.event
    kept = exists().where(event.c.strand_id == parked.c.strand_id, event.c.seq == parked.c.seq)
    conn.execute(delete(parked).where(parked.c.sink_id == sink_id, ~kept))
    its_end = event.c.strand_id == run.c.strand_id, event.c.run_id == run.c.id, event.c.kind.in_(_TERMINAL)
    ended = exists().where(run.c.id == doubt.c.run_id, *its_end)
    conn.execute(delete(doubt).where(doubt.c.sink_id == sink_id, doubt.c.check_at.is_not(None), ~ended))


def _lanes_without_head(conn: Connection, sink_id: int) -> list[Lane]:
    lane, event = schema.lane, schema.event
    head = exists().where(event.c.strand_id == lane.c.strand_id, event.c.seq == lane.c.next_seq)
    return [Lane(*row) for row in conn.execute(lanes.COLUMNS.where(lane.c.sink_id == sink_id, ~head))]


def _missed(conn: Connection, sink: RowMapping, wanted: frozenset[EventKind]) -> dict[int, int]:
    """Per strand the first event that came while the sink was away, of runs that began before or are open now."""
    run, event = schema.run, schema.event
    concerned = or_(run.c.started_at <= sink["retired_at"], and_(*is_open(run)))
    missed = (
        select(event.c.strand_id, func.min(event.c.seq))
        .join(run, run.c.id == event.c.run_id)
        .where(event.c.id >= sink["until_event"], event.c.kind.in_(sorted(wanted)), concerned)
    )
    return dict(conn.execute(missed.group_by(event.c.strand_id)).all())
