"""Which sink is owed which events: lanes are made and moved on here."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    text,
    update,
)

from collector.ledger import packed, restriction, schema, tallies
from collector.ledger.statements import KEYS, in_json, listed, put, rows_of
from collector.model import EventKind, Outgoing


@dataclass(frozen=True, slots=True)
class Entry:
    """An event that got its place in a strand; `only_sinks` alone get that, None for all."""

    strand_id: int
    seq: int
    kind: EventKind
    size: int
    only_sinks: restriction.Sinks | None = None

    def is_for(self, sink: str, wanted: frozenset[EventKind]) -> bool:
        return self.kind in wanted and (self.only_sinks is None or sink in self.only_sinks)


class Lane(NamedTuple):
    """A row of `schema.lane`, as far as moving it on needs it: a tuple, as one is made for each event that is settled."""

    strand_id: int
    source_id: int
    next_seq: int
    last_seq: int
    resume_seq: int | None
    since: int
    attempts: int


def written(kinds: Iterable[EventKind]) -> str:
    """A sink's filter as stored."""
    return ",".join(sorted(kinds))


def filters(conn: Connection) -> dict[int, frozenset[EventKind]]:
    """What each configured sink wants."""
    return {sink_id: read(kinds) for sink_id, kinds in conn.execute(_FILTERS)}


def _held_filters(conn: Connection) -> list[tuple[int, str, frozenset[EventKind]]]:
    """Number, name and what it wants of each configured sink; none comes or goes until this transaction ends."""
    held = conn.execute(_HELD_FILTERS)
    return [(sink_id, name, read(kinds)) for sink_id, name, kinds in held]


def hold_sinks(conn: Connection) -> None:
    """Call it first in a transaction that adds or removes sinks: new events wait for its end, and then see them. Row locks
    are not enough: a transaction that waits for one continues with the sinks as they were before.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(text("LOCK TABLE sink IN EXCLUSIVE MODE"))


_FILTERS = select(schema.sink.c.id, schema.sink.c.filter).where(schema.sink.c.retired_at.is_(None))
_HELD_FILTERS = (
    select(schema.sink.c.id, schema.sink.c.name, schema.sink.c.filter)
    .where(schema.sink.c.retired_at.is_(None))
    .order_by(schema.sink.c.id)
    .with_for_update(read=True, key_share=True)
)


def read(kinds: str) -> frozenset[EventKind]:
    return frozenset(EventKind(kind) for kind in kinds.split(",") if kind)


def owe(conn: Connection, source_id: int, entries: Sequence[Entry], now_ms: int) -> None:
    """New events: each configured sink is owed those it wants and may get, behind what it is owed already."""
    for sink_id, name, wanted in _held_filters(conn):
        strands: defaultdict[int, list[int]] = defaultdict(list)
        owed = [entry for entry in entries if entry.is_for(name, wanted)]
        for entry in owed:
            strands[entry.strand_id].append(entry.seq)
        if strands:
            _lengthen(conn, sink_id, source_id, strands, now_ms)
            size = Counter({source_id: sum(entry.size for entry in owed)})
            tallies.add(conn, sink_id, Counter({source_id: len(owed)}), pending_bytes=size)


def _lengthen(
    conn: Connection, sink_id: int, source_id: int, strands: Mapping[int, Sequence[int]], now_ms: int
) -> None:
    rows = [
        {
            "sink_id": sink_id,
            "strand_id": strand,
            "source_id": source_id,
            "next_seq": min(seqs),
            "last_seq": max(seqs),
            "due_at": now_ms,
            "since": now_ms,
        }
        for strand, seqs in sorted(strands.items())
    ]
    conn.execute(put(conn, schema.lane, ("last_seq",)), rows)


def locked(conn: Connection, sink_id: int, strands: Iterable[int]) -> dict[int, Lane]:
    """The lanes of these strands, locked in their order: anything else deadlocks with a poll's commit."""
    found = packed.rows(conn, _LOCKED, {"of_sink": sink_id, "strands": in_json(set(strands))})
    return {row[0]: Lane(*row) for row in found}


def extend_to_wanted(conn: Connection, sink_id: int, wanted: frozenset[EventKind]) -> None:
    """After another choice of kinds: each lane reaches to the last event of its strand that is wanted now. Otherwise
    the next commit would lengthen it over events that were never counted.
    """
    lane, event = schema.lane, schema.event
    of_strand = event.c.strand_id == lane.c.strand_id, event.c.kind.in_(sorted(wanted))
    last = select(func.max(event.c.seq)).where(*of_strand).correlate(lane).scalar_subquery()
    conn.execute(update(lane).where(lane.c.sink_id == sink_id, lane.c.last_seq < last).values(last_seq=last))


_OF_LANES = schema.lane.c.sink_id == bindparam("of_sink"), listed(schema.lane.c.strand_id, bindparam("strands"))
COLUMNS = select(*(schema.lane.c[name] for name in Lane._fields))
"""What `Lane` is made of."""
_LOCKED = COLUMNS.where(*_OF_LANES).order_by(schema.lane.c.strand_id).with_for_update()
_FINISHED = delete(schema.lane).where(*_OF_LANES)


def advance(conn: Connection, sink_id: int, wanted: frozenset[EventKind], lanes: Sequence[Lane], now_ms: int) -> None:
    """The heads of these lanes are settled: on to the next wanted events; lanes without one are gone."""
    again = _to_next_retry(conn, sink_id, [lane for lane in lanes if lane.resume_seq is not None], now_ms)
    rest = [lane for lane in lanes if lane.strand_id not in again]
    moved = _moved_on(conn, sink_id, wanted, rest, now_ms)
    if finished := [lane.strand_id for lane in rest if lane.strand_id not in moved]:
        conn.execute(_FINISHED, {"of_sink": sink_id, "strands": in_json(finished)})


def _moved_on(
    conn: Connection, sink_id: int, wanted: frozenset[EventKind], lanes: Sequence[Lane], now_ms: int
) -> set[int]:
    """Move these to their next wanted events; the strands that have one."""
    some = [lane.strand_id for lane in lanes if lane.resume_seq is not None or lane.next_seq < lane.last_seq]
    given = {"of_sink": sink_id, "wanted": sorted(wanted), "now": now_ms}
    return {strand for (strand,) in rows_of(conn, _TO_NEXT_WANTED, some, **given)}


def _to_next_wanted() -> Update:
    lane, event = schema.lane, schema.event
    old, ahead = lane.alias("old"), event.alias("ahead")
    seq = (
        select(ahead.c.seq)
        .where(
            ahead.c.strand_id == old.c.strand_id,
            ahead.c.seq > func.coalesce(old.c.resume_seq - 1, old.c.next_seq),
            ahead.c.seq <= old.c.last_seq,
            ahead.c.kind.in_(bindparam("wanted", expanding=True)),
        )
        .order_by(ahead.c.seq)
        .limit(1)
        .correlate(old)
        .scalar_subquery()
    )
    head = (
        select(event.c.strand_id, event.c.seq, event.c.created_at)
        .join_from(old, event, and_(event.c.strand_id == old.c.strand_id, event.c.seq == seq))
        .where(old.c.sink_id == bindparam("of_sink"), old.c.strand_id.in_(KEYS))
        .subquery("head")
    )
    now = bindparam("now", type_=BigInteger)
    # events that are sent again are as old as the request for that, so that they do not go before all that is new
    committed_at = case((head.c.created_at < lane.c.since, lane.c.since), else_=head.c.created_at)
    return (
        update(lane)
        .where(lane.c.sink_id == bindparam("of_sink"), lane.c.strand_id == head.c.strand_id)
        .values(
            next_seq=head.c.seq,
            resume_seq=None,
            due_at=case((committed_at > now, now), else_=committed_at),
            since=committed_at,
            attempts=0,
            cause=None,
        )
        .returning(lane.c.strand_id)
    )


_TO_NEXT_WANTED = _to_next_wanted()


def _to_next_retry(conn: Connection, sink_id: int, lanes: Sequence[Lane], now_ms: int) -> set[int]:
    """Of lanes whose head was a parked event sent again, those with another one on its way behind it."""
    if not lanes:
        return set()
    parked, event = schema.parked, schema.event
    after = {lane.strand_id: lane.next_seq for lane in lanes}
    queued = (
        select(parked.c.strand_id, parked.c.seq, event.c.created_at)
        .join(event, and_(event.c.strand_id == parked.c.strand_id, event.c.seq == parked.c.seq))
        .where(parked.c.sink_id == sink_id, parked.c.strand_id.in_(KEYS), parked.c.retry_at.is_not(None))
        .order_by(parked.c.seq.desc())
    )
    heads = {strand: (seq, at) for strand, seq, at in rows_of(conn, queued, after) if seq > after[strand]}
    set_heads(conn, sink_id, [(strand, seq, at) for strand, (seq, at) in heads.items()], now_ms)
    return set(heads)


def set_heads(conn: Connection, sink_id: int, heads: Iterable[tuple[int, int, int]], now_ms: int) -> None:
    """Strand, sequence number and commit time of each new head. What a lane goes on with after it stays as it is."""
    rows = [
        {"of_sink": sink_id, "of_strand": strand, "seq": seq, "due": min(created_at, now_ms), "committed": created_at}
        for strand, seq, created_at in sorted(heads)
    ]
    if rows:
        conn.execute(_NEW_HEAD, rows)


_NEW_HEAD = (
    update(schema.lane)
    .where(schema.lane.c.sink_id == bindparam("of_sink"), schema.lane.c.strand_id == bindparam("of_strand"))
    .values(next_seq=bindparam("seq"), due_at=bindparam("due"), since=bindparam("committed"), attempts=0, cause=None)
)


def outgoing_columns(
    source_id: ColumnElement[int], attempts: ColumnElement[int], fault: ColumnElement[str]
) -> list[ColumnElement[Any]]:
    """What `outgoing` needs, from `schema.event`, `schema.run` and whatever they are joined with."""
    event = schema.event
    return [
        event.c.strand_id,
        event.c.seq,
        event.c.run_id,
        schema.run.c.run_uuid,
        source_id,
        event.c.kind,
        event.c.body,
        attempts,
        event.c.created_at,
        event.c.happened_at,
        fault,
    ]


_KINDS = {kind.value: kind for kind in EventKind}
"""To look a kind up takes an eighth of what to make it takes, and is done for each event that is sent."""


def outgoing(row: Sequence[Any]) -> Outgoing:
    """An event as delivery gets it, from a row of `outgoing_columns`."""
    strand_id, seq, run_number, run_id, source_id, kind, body, attempts, committed_at, happened_at, fault = row
    return Outgoing(
        strand_id,
        seq,
        run_number,
        run_id,
        source_id,
        _KINDS[kind],
        bytes(body),
        attempts,
        committed_at,
        happened_at,
        fault,
    )
