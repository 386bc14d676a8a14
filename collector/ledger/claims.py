"""The heads of lanes that are due, and the commit of what became of them at the sink."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, FromClause, Select, Subquery, and_, bindparam, case, delete, select, update

from collector.ledger import acknowledgements, doubts, lanes, packed, schema, tallies
from collector.ledger.lanes import Lane
from collector.ledger.leases import Lease, fence
from collector.ledger.shards import WHOLE, Shard
from collector.ledger.statements import KEYS, in_json, listed, put, rows_of
from collector.model import EventKind, Outgoing


@dataclass(frozen=True, slots=True)
class Retried:
    """Not delivered. `unanswered`: the attempt may still be applied later."""

    item: Outgoing
    due_at_ms: int
    cause: str
    unanswered: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """To be parked: the sink will never take it."""

    item: Outgoing
    cause: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """Outcomes of heads that were claimed, at most one per strand."""

    delivered: tuple[Outgoing, ...] = ()
    retried: tuple[Retried, ...] = ()
    parked: tuple[Refused, ...] = ()

    @property
    def done(self) -> tuple[Outgoing, ...]:
        """What its lane goes on behind."""
        return (*self.delivered, *(one.item for one in self.parked))


@dataclass(frozen=True, slots=True)
class SettleResult:
    """What was written. `stale` are events that were no longer the head of their lane: an earlier settle had them.
    `superseded` counts parked events that can never be sent again now, `doubted` the runs to look at later. `refused_before`
    and `refused_now` are events that the sink has refused since it last took one.
    """

    delivered: int = 0
    retried: int = 0
    parked: int = 0
    superseded: int = 0
    doubted: int = 0
    stale: tuple[Outgoing, ...] = ()
    refused_before: int = 0
    refused_now: int = 0


def claim(
    conn: Connection,
    sink_id: int,
    now_ms: int,
    limit: int,
    floor: int = 0,
    taken: Collection[int] = (),
    shard: Shard = WHOLE,
) -> list[Outgoing]:
    """The heads of a shard that are due, oldest first, without those of the strands that are `taken`; reads only.

    `floor` spares PostgreSQL dead index entries, and a shard what the others are owed: pass the `committed_at` of the oldest event
    that is taken or came with the last claim, and 0 every few seconds and, of a whole sink, after a claim that came back short.
    """
    values = {"of_sink": sink_id, "now": now_ms, "floor": floor, "most": limit, "taken": in_json(taken)}
    found = packed.rows(conn, _claimed(shard), values, "body")
    return [lanes.outgoing(row[1:]) for row in sorted(found, key=_DUE_FIRST)]


_DUE_FIRST = itemgetter(0, 1)


@cache
def _claimed(shard: Shard) -> Select[*tuple[Any, ...]]:
    lane, event = schema.lane, schema.event
    due = _due(shard, lane if shard == WHOLE else lane.alias("found"))
    # a parked event that a person sends again is sent, valid or not
    fault = case((due.c.resume_seq.is_(None), event.c.fault))
    return (
        select(due.c.due_at, *lanes.outgoing_columns(due.c.source_id, due.c.attempts, fault.label("fault")))
        .join_from(due, event, and_(event.c.strand_id == due.c.strand_id, event.c.seq == due.c.next_seq))
        .join(schema.run, schema.run.c.id == event.c.run_id)
    )


def _due(shard: Shard, lane: FromClause) -> Subquery:
    """The lanes. Those of a shard are found by the index alone, as all those of the other shards may lie between them."""
    found = select(lane if shard == WHOLE else lane.c.strand_id).where(
        lane.c.sink_id == bindparam("of_sink"),
        lane.c.due_at <= bindparam("now"),
        lane.c.due_at >= bindparam("floor"),
        ~listed(lane.c.strand_id, bindparam("taken")),
        *shard.conditions(lane.c.strand_id),
    )
    found = found.order_by(lane.c.due_at, lane.c.strand_id).limit(bindparam("most"))
    if shard == WHOLE:
        return found.subquery("head")
    of_shard, table = found.subquery("of_shard"), schema.lane
    whole = select(table).join_from(of_shard, table, table.c.strand_id == of_shard.c.strand_id)
    return whole.where(table.c.sink_id == bindparam("of_sink")).subquery("head")


def next_due(conn: Connection, sink_id: int, shard: Shard = WHOLE, floor: int = 0) -> int | None:
    """When the next head of a shard is or was due; None if everything is delivered. `floor` as of `claim`."""
    due: int | None = conn.scalar(_next_due(shard), {"of_sink": sink_id, "floor": floor})
    return due


@cache
def _next_due(shard: Shard) -> Select[int]:
    lane = schema.lane
    of_shard = lane.c.sink_id == bindparam("of_sink"), *shard.conditions(lane.c.strand_id)
    due = select(lane.c.due_at).where(*of_shard, lane.c.due_at >= bindparam("floor"))
    return due.order_by(lane.c.due_at, lane.c.strand_id).limit(1)


def settle(
    conn: Connection,
    lease: Lease,
    sink_id: int,
    settlement: Settlement,
    now_ms: int,
    recheck_at_ms: int | None,
) -> SettleResult:
    """Move lanes on. With `recheck_at_ms`, unanswered attempts leave a doubt, and the settled terminal event of a run
    in doubt is looked at then; None for sinks where nothing is applied late.

    What is no longer the head of its lane is left alone, so that a settle whose answer was lost can be repeated.
    """
    fence(conn, lease)
    kinds, refused_before, has_parked = _sink(conn, sink_id)
    heads = _Heads(lanes.locked(conn, sink_id, _strands(settlement)))
    taken = heads.of(settlement)
    delivered, retried, refused, done = taken.delivered, taken.retried, taken.parked, taken.done

    _forget_sent_again(conn, sink_id, heads.lanes(delivered))
    _park(conn, sink_id, [(heads.lane(one.item), one) for one in refused], now_ms)
    superseded = _supersede(conn, sink_id, delivered, now_ms) if has_parked else 0
    acknowledgements.note(conn, sink_id, [item.strand_id for item in delivered], now_ms)
    lanes.advance(conn, sink_id, kinds, heads.lanes(done), now_ms)
    _postpone(conn, sink_id, retried)
    unfit = [one for one in refused if not one.item.fault]
    refused_before, in_a_row = _note_refusals(conn, sink_id, refused_before, len(delivered), unfit)
    doubted = 0
    if recheck_at_ms is not None:
        before_kill = [item for item in done if lease.was_unclean(heads.lane(item).since)]
        doubts.note(conn, sink_id, _in_doubt(before_kill, retried), now_ms)
        doubted = doubts.schedule(conn, sink_id, _ended(delivered), recheck_at_ms)
    # last, as all shards of the sink and all polls write these rows, so that none waits longer than for a commit
    _count(conn, sink_id, done, heads.lanes(done), heads.lanes([one.item for one in refused]))
    return SettleResult(
        len(delivered), len(retried), len(refused), superseded, doubted, tuple(heads.stale), refused_before, in_a_row
    )


def _in_doubt(before_kill: Iterable[Outgoing], retried: Iterable[Retried]) -> set[int]:
    unanswered = [one.item for one in retried if one.unanswered]
    return {item.run_number for item in (*before_kill, *unanswered)}


def _ended(delivered: Iterable[Outgoing]) -> list[int]:
    return [item.run_number for item in delivered if item.kind.terminal]


class _Heads:
    """The lanes of a settlement, each of which takes one outcome, for its head."""

    def __init__(self, lanes: Mapping[int, Lane]) -> None:
        self._lanes = lanes
        self._taken: set[int] = set()
        self.stale: list[Outgoing] = []

    def take(self, item: Outgoing) -> bool:
        lane = self._lanes.get(item.strand_id)
        good = lane is not None and lane.next_seq == item.seq and item.strand_id not in self._taken
        if good:
            self._taken.add(item.strand_id)
        else:
            self.stale.append(item)
        return good

    def of(self, settlement: Settlement) -> Settlement:
        """What is of heads; all else becomes `stale`."""
        return Settlement(
            tuple(item for item in settlement.delivered if self.take(item)),
            parked=tuple(one for one in settlement.parked if self.take(one.item)),
            retried=tuple(one for one in settlement.retried if self.take(one.item)),
        )

    def lane(self, item: Outgoing) -> Lane:
        return self._lanes[item.strand_id]

    def lanes(self, items: Iterable[Outgoing]) -> list[Lane]:
        return [self._lanes[item.strand_id] for item in items]


def _strands(settlement: Settlement) -> list[int]:
    retried, parked = (one.item for one in settlement.retried), (one.item for one in settlement.parked)
    return [item.strand_id for item in (*settlement.delivered, *retried, *parked)]


def _sink(conn: Connection, sink_id: int) -> tuple[frozenset[EventKind], int, bool]:
    """What it wants, how many events it has refused since it last took one, and whether any of its events is parked."""
    kinds, refused, has_parked = conn.execute(_SINK, {"of_id": sink_id}).one()
    return lanes.read(kinds), refused, bool(has_parked)


_SINK = (
    select(
        schema.sink.c["filter"],
        schema.sink.c.refused,
        select(schema.parked.c.seq).where(schema.parked.c.sink_id == bindparam("of_id")).exists(),
    )
    .where(schema.sink.c.id == bindparam("of_id"))
    # locked before the lanes, in the same order as the registration of sinks, and so that settles of other shards go on beside
    .with_for_update(read=True, key_share=True)
)


def _note_refusals(
    conn: Connection, sink_id: int, before: int, delivered: int, refused: Sequence[Refused]
) -> tuple[int, int]:
    """How many events in a row the sink had refused, and has now; one that it takes ends the row. Other shards may count, too."""
    if delivered:
        ended = bool(before and conn.execute(_TAKEN, {"of_id": sink_id}).rowcount)
        return (before if ended else 0), 0
    if not refused:
        return before, before
    more = {"of_id": sink_id, "more": len(refused), "refused_cause": schema.clean(refused[-1].cause)}
    now: int = conn.scalar(_REFUSED, more) or 0
    return now - len(refused), now


_OF_SINK = schema.sink.c.id == bindparam("of_id")
_TAKEN = update(schema.sink).where(_OF_SINK, schema.sink.c.refused > 0).values(refused=0, refused_cause=None)
_REFUSED = (
    update(schema.sink)
    .where(_OF_SINK)
    .values(refused=schema.sink.c.refused + bindparam("more"), refused_cause=bindparam("refused_cause"))
    .returning(schema.sink.c.refused)
)


def _forget_sent_again(conn: Connection, sink_id: int, lanes: Sequence[Lane]) -> None:
    """Parked events that were sent again and acknowledged are parked no longer."""
    table = schema.parked
    for lane in lanes:
        if lane.resume_seq is not None:
            of_head = table.c.sink_id == sink_id, table.c.strand_id == lane.strand_id, table.c.seq == lane.next_seq
            conn.execute(delete(table).where(*of_head))


def _park(conn: Connection, sink_id: int, refused: Sequence[tuple[Lane, Refused]], now_ms: int) -> None:
    """An event that is refused again keeps its row and all its attempts."""
    rows = [
        {
            "sink_id": sink_id,
            "strand_id": lane.strand_id,
            "seq": lane.next_seq,
            "run_id": one.item.run_number,
            "source_id": lane.source_id,
            "parked_at": now_ms,
            "attempts": lane.attempts + 1,
            "cause": schema.clean(one.cause),
            "retry_at": None,
        }
        for lane, one in refused
    ]
    if rows:
        conn.execute(put(conn, schema.parked, ("parked_at", "cause", "retry_at"), ("attempts",)), rows)


def _supersede(conn: Connection, sink_id: int, delivered: Sequence[Outgoing], now_ms: int) -> int:
    """Mark parked events that a later event of their run has replaced; how many."""
    table = schema.parked
    latest = {item.run_number: item.seq for item in delivered}
    found = [
        {"of_strand": strand, "of_seq": seq}
        for strand, seq, run_id in rows_of(conn, _PARKED, {item.strand_id for item in delivered}, of_sink=sink_id)
        if seq < latest.get(run_id, 0)
    ]
    if found:
        of_row = table.c.strand_id == bindparam("of_strand"), table.c.seq == bindparam("of_seq")
        conn.execute(update(table).where(table.c.sink_id == sink_id, *of_row).values(superseded_at=now_ms), found)
    return len(found)


_PARKED = select(schema.parked.c.strand_id, schema.parked.c.seq, schema.parked.c.run_id).where(
    schema.parked.c.sink_id == bindparam("of_sink"),
    schema.parked.c.strand_id.in_(KEYS),
    schema.parked.c.superseded_at.is_(None),
)


def _postpone(conn: Connection, sink_id: int, retried: Sequence[Retried]) -> None:
    rows = [
        {"of_sink": sink_id, "of_strand": one.item.strand_id, "to": one.due_at_ms, "why": schema.clean(one.cause)}
        for one in sorted(retried, key=lambda one: one.item.strand_id)
    ]
    if rows:
        conn.execute(_LATER, rows)


_LATER = (
    update(schema.lane)
    .where(schema.lane.c.sink_id == bindparam("of_sink"), schema.lane.c.strand_id == bindparam("of_strand"))
    .values(due_at=bindparam("to"), cause=bindparam("why"), attempts=schema.lane.c.attempts + 1)
)


def _count(
    conn: Connection, sink_id: int, items: Sequence[Outgoing], done: Sequence[Lane], parked: Sequence[Lane]
) -> None:
    sources = [lane.source_id for lane in done]
    size = dict.fromkeys(sources, 0)
    for item, source in zip(items, sources, strict=True):
        size[source] += len(item.body)
    now_parked = Counter(lane.source_id for lane in parked)
    tallies.add(conn, sink_id, tallies.less(sources), now_parked, tallies.less(size))
