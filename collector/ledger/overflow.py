"""Parks what a sink is owed beyond its share of the ledger: whole strands, the oldest first, so that the order stays."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, delete, func, insert, or_, select

from collector.ledger import doubts, schema, tallies
from collector.ledger import lanes as ledger_lanes
from collector.ledger.lanes import Lane
from collector.ledger.leases import Lease, fence
from collector.ledger.shards import WHOLE, Shard

STEP = 200
"""Strands parked in one commit."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """What was parked: events, and the bytes of them."""

    events: int
    room: int


def oldest(conn: Connection, sink_id: int, after: int, limit: int = STEP, shard: Shard = WHOLE) -> list[int]:
    """The strands that this shard of a sink is owed, in the order in which their runs came, behind strand `after`. Those with a
    parked event on its way again are not among them.
    """
    lane = schema.lane
    owed = lane.c.sink_id == sink_id, lane.c.strand_id > after, lane.c.resume_seq.is_(None)
    of_shard = shard.conditions(lane.c.strand_id)
    return list(conn.scalars(select(lane.c.strand_id).where(*owed, *of_shard).order_by(lane.c.strand_id).limit(limit)))


def park(
    conn: Connection,
    lease: Lease,
    sink_id: int,
    strands: Sequence[int],
    room: int,
    cause: str,
    now_ms: int,
    *,
    rechecks: bool,
) -> Overflow:
    """Park all that the sink is owed of these strands, oldest first, until that was `room` bytes. For the holder of the
    sink's lease, while no event of them is in flight. With `rechecks`, runs that a killed holder may have sent are in doubt.
    """
    fence(conn, lease)
    table = schema.sink
    kinds = conn.scalars(select(table.c.filter).where(table.c.id == sink_id)).one()
    lanes = ledger_lanes.locked(conn, sink_id, strands)
    events = _events(conn, sink_id, list(lanes), sorted(ledger_lanes.read(kinds)))
    chosen = _oldest(sorted(lanes.values(), key=attrgetter("strand_id")), events, room)
    parked, size = Counter[int](), Counter[int]()
    for lane in chosen:
        parked[lane.source_id] += len(events[lane.strand_id])
        size[lane.source_id] += _size(events[lane.strand_id])
    rows = [_row(sink_id, lane, each, cause, now_ms) for lane in chosen for each in events[lane.strand_id]]
    if not rows:
        return Overflow(0, 0)
    conn.execute(insert(schema.parked), rows)
    gone = [lane.strand_id for lane in chosen]
    conn.execute(delete(schema.lane).where(schema.lane.c.sink_id == sink_id, schema.lane.c.strand_id.in_(gone)))
    tallies.add(conn, sink_id, tallies.less(parked), parked, tallies.less(size))
    if rechecks:
        heads = {events[lane.strand_id][0].run_id for lane in chosen if lease.was_unclean(lane.since)}
        doubts.note(conn, sink_id, heads, now_ms)
    return Overflow(parked.total(), size.total())


@dataclass(frozen=True, slots=True)
class _Event:
    seq: int
    run_id: int
    size: int


def _oldest(lanes: Sequence[Lane], events: Mapping[int, Sequence[_Event]], room: int) -> list[Lane]:
    """The first lanes whose events are `room` bytes together, without those that an event was put back into."""
    chosen: list[Lane] = []
    size = 0
    for lane in lanes:
        if lane.resume_seq is None and size < room:
            chosen.append(lane)
            size += _size(events[lane.strand_id])
    return chosen


def _size(events: Iterable[_Event]) -> int:
    return sum(each.size for each in events)


def _events(conn: Connection, sink_id: int, strands: list[int], wanted: list[str]) -> dict[int, list[_Event]]:
    found: defaultdict[int, list[_Event]] = defaultdict(list)
    for strand, *event in conn.execute(_OWED, {"of_sink": sink_id, "strands": strands, "wanted": wanted}):
        found[strand].append(_Event(*event))
    return found


def _owed() -> Select[*tuple[Any, ...]]:
    lane, event = schema.lane, schema.event
    ahead = and_(event.c.strand_id == lane.c.strand_id, event.c.seq.between(lane.c.next_seq, lane.c.last_seq))
    of_kind = or_(event.c.seq == lane.c.next_seq, event.c.kind.in_(bindparam("wanted", expanding=True)))
    of_lane = lane.c.sink_id == bindparam("of_sink"), lane.c.strand_id.in_(bindparam("strands", expanding=True))
    columns = select(lane.c.strand_id, event.c.seq, event.c.run_id, func.length(event.c.body))
    return columns.join_from(lane, event, ahead).where(*of_lane, of_kind).order_by(lane.c.strand_id, event.c.seq)


_OWED = _owed()


def _row(sink_id: int, lane: Lane, event: _Event, cause: str, now_ms: int) -> dict[str, Any]:
    return {
        "sink_id": sink_id,
        "strand_id": lane.strand_id,
        "seq": event.seq,
        "run_id": event.run_id,
        "source_id": lane.source_id,
        "parked_at": now_ms,
        "attempts": lane.attempts if event.seq == lane.next_seq else 0,
        "cause": schema.clean(cause),
    }
