"""Sends again what a sink has lost or never had: events of the ledger are put back into its lanes.

A strand is sent again from one event on to its end, in its order. So whatever an earlier event does to a run, a START that opens it
again for example, its later events undo, also when a kill comes between them: the lane stays until the last one is acknowledged.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, case, delete, func, insert, select, tuple_, update

from collector.ledger import lanes as ledger_lanes
from collector.ledger import restriction, schema, tallies
from collector.ledger.lanes import Lane
from collector.ledger.leases import Lease, fence
from collector.ledger.port import Change, announce
from collector.ledger.shards import WHOLE, Shard
from collector.ledger.statements import KEYS, rows_of
from collector.model import TERMINAL_EVENT, EventKind


class ResendFrom(StrEnum):
    """Which event of a run is the first to be sent again."""

    START = "run"
    """Its first one: the whole run."""
    END = "end"
    """Its terminal event."""


class Resent(StrEnum):
    """What became of a run, or of a strand."""

    QUEUED = "queued"
    WAITING = "waiting"
    """The sink is owed it already."""
    INCOMPLETE = "incomplete"
    """Retention removed the START, or an end that has to follow."""
    UNKNOWN = "unknown"
    """The ledger does not have it, or no event of it that the sink takes."""
    RESTRICTED = "restricted"
    """It was made for other sinks alone."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of each run or strand, and how many events are owed now that were not before."""

    became: Counter[Resent]
    events: int


def runs(conn: Connection, lease: Lease, sink_id: int, chosen: Mapping[str, ResendFrom], now_ms: int) -> Result:
    """Send these runs again, by run id. For the holder of the sink's lease, while no event of their strands is in flight."""
    fence(conn, lease)
    found = _runs(conn, chosen)
    wanted = ledger_lanes.filters(conn).get(sink_id, frozenset())
    barred = restriction.barred(conn, sink_id, {strand for _, strand in found.values()})
    events = _events(conn, {strand for _, strand in found.values()}, wanted)
    became, first = Counter({Resent.UNKNOWN: len(chosen) - len(found)}), dict[int, list[int]]()
    for run_id, (number, strand) in found.items():
        is_barred = strand in barred
        seq = Resent.RESTRICTED if is_barred else _first(events[strand], number, chosen[run_id], wanted)
        if isinstance(seq, Resent):
            became[seq] += 1
        else:
            first.setdefault(strand, []).append(seq)
    heads = {strand: min(seqs) for strand, seqs in first.items()}
    result = _requeue(conn, sink_id, heads, events, wanted, now_ms)
    for strand, seqs in first.items():
        became[result.of(strand)] += len(seqs)
    return Result(+became, result.count)


def strands(conn: Connection, lease: Lease, sink_id: int, chosen: Iterable[int], now_ms: int) -> Result:
    """Send these strands again as a whole; otherwise as `runs`."""
    fence(conn, lease)
    numbers = sorted(set(chosen))
    wanted = ledger_lanes.filters(conn).get(sink_id, frozenset())
    events = _events(conn, numbers, wanted)
    first = _heads(events, numbers, wanted, restriction.barred(conn, sink_id, numbers))
    heads = {strand: seq for strand, seq in first.items() if not isinstance(seq, Resent)}
    result = _requeue(conn, sink_id, heads, events, wanted, now_ms)
    became = Counter(seq if isinstance(seq, Resent) else result.of(strand) for strand, seq in first.items())
    return Result(became, result.count)


def preview(conn: Connection, sink_id: int, chosen: Iterable[int]) -> Result:
    """What `strands` would do now; reads only."""
    numbers = set(chosen)
    became, events = outlook(conn, sink_id, numbers, barred=restriction.barred(conn, sink_id, numbers))
    return Result(Counter(became.values()), events)


def outlook(
    conn: Connection, sink_id: int, chosen: Iterable[int], *, barred: Collection[int]
) -> tuple[dict[int, Resent], int]:
    """What `strands` would make of each strand now if the sink did not get these, and how many events it would put into lanes;
    reads only.
    """
    numbers = sorted(set(chosen))
    wanted = ledger_lanes.filters(conn).get(sink_id, frozenset())
    events = _events(conn, numbers, wanted)
    of_lanes = schema.lane.c.sink_id == sink_id, schema.lane.c.strand_id.in_(KEYS)
    lanes = {row[0]: Lane(*row) for row in rows_of(conn, ledger_lanes.COLUMNS.where(*of_lanes), numbers)}
    first = _heads(events, numbers, wanted, barred)
    heads = {strand: seq for strand, seq in first.items() if not isinstance(seq, Resent)}
    plan = _plan(heads, events, wanted, lanes)
    became = {strand: seq if isinstance(seq, Resent) else plan.of(strand) for strand, seq in first.items()}
    return became, plan.count


def _heads(
    events: Mapping[int, Sequence["_Event"]],
    numbers: Iterable[int],
    wanted: frozenset[EventKind],
    barred: Collection[int],
) -> dict[int, int | Resent]:
    """The sequence number of the first event of each strand, or why it is not sent."""
    found: dict[int, int | Resent] = {}
    for strand in numbers:
        of_strand = events.get(strand, ())
        if strand in barred:
            found[strand] = Resent.RESTRICTED
        elif not of_strand:
            found[strand] = Resent.UNKNOWN
        elif all(_has_start(of_run, wanted) for of_run in _by_run(of_strand).values()):
            found[strand] = of_strand[0].seq
        else:
            found[strand] = Resent.INCOMPLETE
    return found


@dataclass(frozen=True, slots=True)
class _Event:
    seq: int
    run: int
    kind: EventKind
    size: int
    source_id: int
    end: EventKind | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """Strands that get a lane, strands whose lane begins earlier, and those that lack an end; the events that are owed then and
    were not before.
    """

    new: tuple[int, ...]
    longer: tuple[int, ...]
    incomplete: frozenset[int]
    again: Mapping[int, Sequence[_Event]]

    @property
    def count(self) -> int:
        return sum(len(events) for events in self.again.values())

    def of(self, strand: int) -> Resent:
        if strand in self.again:
            return Resent.QUEUED
        return Resent.INCOMPLETE if strand in self.incomplete else Resent.WAITING


def strands_of(conn: Connection, run_ids: Iterable[str]) -> dict[str, int]:
    """By run id, those that the ledger knows."""
    return {run_id: strand for run_id, (_, strand) in _runs(conn, list(run_ids)).items()}


def _runs(conn: Connection, chosen: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Number and strand of each."""
    run = schema.run
    columns = select(run.c.run_uuid, run.c.id, run.c.strand_id).where(run.c.run_uuid.in_(KEYS))
    return {run_id: (number, strand) for run_id, number, strand in rows_of(conn, columns, chosen)}


def _events(
    conn: Connection, of_strands: Iterable[int], wanted: frozenset[EventKind]
) -> defaultdict[int, list[_Event]]:
    """Of each strand, those that the sink takes, in order. `end` is the terminal event that their run had, if it ended."""
    event, run, found = schema.event, schema.run, defaultdict[int, list[_Event]](list)
    columns = select(
        event.c.strand_id,
        event.c.seq,
        event.c.run_id,
        event.c.kind,
        func.length(event.c.body),
        run.c.source_id,
        case((run.c.ended_at.is_not(None), run.c.state)),
    ).join(run, run.c.id == event.c.run_id)
    chosen = columns.where(event.c.strand_id.in_(KEYS), event.c.kind.in_(sorted(wanted)))
    rows = rows_of(conn, chosen.order_by(event.c.strand_id, event.c.seq), sorted(of_strands))
    for strand, seq, number, kind, size, source_id, state in rows:
        found[strand].append(_Event(seq, number, EventKind(kind), size, source_id, TERMINAL_EVENT.get(state)))
    return found


def _first(events: Sequence[_Event], run: int, begin: ResendFrom, wanted: frozenset[EventKind]) -> int | Resent:
    """The sequence number of the first event to send again."""
    of_run = [event for event in events if event.run == run]
    if begin is ResendFrom.END:
        of_run = [event for event in of_run if event.kind.terminal]
    elif of_run and not _has_start(of_run, wanted):
        return Resent.INCOMPLETE
    return of_run[0].seq if of_run else Resent.UNKNOWN


def _has_start(of_run: Iterable[_Event], wanted: frozenset[EventKind]) -> bool:
    """Or needs none: a run that is only queued, and a sink that takes no START."""
    kinds = {event.kind for event in of_run}
    return EventKind.START in kinds or EventKind.START not in wanted or kinds == {EventKind.OTHER}


def _by_run(events: Iterable[_Event]) -> defaultdict[int, list[_Event]]:
    found = defaultdict[int, list[_Event]](list)
    for event in events:
        found[event.run].append(event)
    return found


def _is_complete(events: Sequence[_Event], first: int, wanted: frozenset[EventKind]) -> bool:
    """Whether each run that ended, and is sent again from `first` on, gets its end again."""
    runs = _by_run(event for event in events if event.seq >= first).values()
    ends = [(again[0].end, {event.kind for event in again}) for again in runs]
    return all(end is None or end not in wanted or end in kinds for end, kinds in ends)


def _plan(
    first: Mapping[int, int],
    events: Mapping[int, Sequence[_Event]],
    wanted: frozenset[EventKind],
    lanes: Mapping[int, Lane],
) -> _Plan:
    complete = {strand for strand, seq in first.items() if _is_complete(events[strand], seq, wanted)}
    new = sorted(complete - lanes.keys())
    longer = sorted(strand for strand in complete & lanes.keys() if _can_begin_earlier(lanes[strand], first[strand]))
    ends = {strand: lanes[strand].next_seq for strand in longer}
    again = {
        strand: [one for one in events[strand] if first[strand] <= one.seq < ends.get(strand, one.seq + 1)]
        for strand in (*new, *longer)
    }
    return _Plan(tuple(new), tuple(longer), frozenset(first) - complete, again)


def _requeue(
    conn: Connection,
    sink_id: int,
    first: Mapping[int, int],
    events: Mapping[int, Sequence[_Event]],
    wanted: frozenset[EventKind],
    now_ms: int,
) -> _Plan:
    plan = _plan(first, events, wanted, ledger_lanes.locked(conn, sink_id, first))
    _begin(conn, sink_id, {strand: (first[strand], events[strand]) for strand in plan.new}, now_ms)
    ledger_lanes.set_heads(conn, sink_id, [(strand, first[strand], now_ms) for strand in plan.longer], now_ms)
    _forget_refused(conn, sink_id, plan.again)
    pending, size = Counter[int](), Counter[int]()
    for of_strand in plan.again.values():
        for one in of_strand:
            pending[one.source_id] += 1
            size[one.source_id] += one.size
    tallies.add(conn, sink_id, pending, pending_bytes=size)
    if plan.again:
        announce(conn, Change.EVENTS)
    return plan


def _can_begin_earlier(lane: Lane, first: int) -> bool:
    """Not where a parked event is on its way: it goes on behind that by itself."""
    return lane.resume_seq is None and first < lane.next_seq


def _begin(conn: Connection, sink_id: int, chosen: Mapping[int, tuple[int, Sequence[_Event]]], now_ms: int) -> None:
    rows = [
        {
            "sink_id": sink_id,
            "strand_id": strand,
            "source_id": events[0].source_id,
            "next_seq": first,
            "last_seq": events[-1].seq,
            "due_at": now_ms,
            "since": now_ms,
        }
        for strand, (first, events) in chosen.items()
    ]
    if rows:
        conn.execute(insert(schema.lane), rows)


def _forget_refused(conn: Connection, sink_id: int, again: Mapping[int, Sequence[_Event]]) -> None:
    """What was parked of these is on its way like the others now."""
    table, fewer = schema.parked, Counter[int]()
    events = [(strand, event.seq) for strand, events in sorted(again.items()) for event in events]
    of_events = table.c.sink_id == sink_id, tuple_(table.c.strand_id, table.c.seq).in_(KEYS)
    gone = delete(table).where(*of_events).returning(table.c.source_id)
    fewer.subtract(source for (source,) in rows_of(conn, gone, events))
    if fewer:
        tallies.add(conn, sink_id, Counter(), fewer)


@dataclass(frozen=True, slots=True)
class Window:
    """Runs by the time when they ended, or began where they are open, in epoch milliseconds; None for no limit."""

    since_ms: int | None = None
    until_ms: int | None = None

    def has(self, at_ms: int) -> bool:
        return (self.since_ms is None or at_ms >= self.since_ms) and (self.until_ms is None or at_ms < self.until_ms)

    @property
    def is_whole(self) -> bool:
        return self.since_ms is None and self.until_ms is None


MOST_LANES = 500
"""Strands that a sink may be owed before a backfill adds more, so that new events never wait long."""
LOOKED_AT = 500
"""Runs of one look."""


@dataclass(frozen=True, slots=True)
class Strands:
    """Some strands of a window. Go on with `after`, None at the end; `seen` counts the runs that were looked at."""

    numbers: tuple[int, ...]
    after: int | None
    seen: int


def next_strands(conn: Connection, window: Window, after: int, shard: Shard = WHOLE) -> Strands:
    """Of a shard, oldest first. Start with `after=0`."""
    run = schema.run
    columns = select(run.c.id, run.c.strand_id, func.coalesce(run.c.ended_at, run.c.started_at, run.c.updated_at))
    rows = conn.execute(
        columns.where(run.c.id > after, *shard.conditions(run.c.strand_id)).order_by(run.c.id).limit(LOOKED_AT)
    ).all()
    inside = [strand for _, strand, at in rows if window.has(at)]
    return Strands(tuple(sorted(set(inside))), rows[-1].id if len(rows) == LOOKED_AT else None, len(rows))


def count_runs(conn: Connection, shard: Shard = WHOLE) -> int:
    of_shard = shard.conditions(schema.run.c.strand_id)
    total: int = conn.scalar(select(func.count()).select_from(schema.run).where(*of_shard)) or 0
    return total


def count_lanes(conn: Connection, sink_id: int, most: int) -> int:
    """How many strands the sink is owed, counted up to `most`."""
    some = select(schema.lane.c.strand_id).where(schema.lane.c.sink_id == sink_id).limit(most).subquery()
    total: int = conn.scalar(select(func.count()).select_from(some)) or 0
    return total


def cover_all(conn: Connection, lease: Lease, sink_id: int) -> None:
    """The sink has been sent all that the ledger holds: no run is one from before its time any more."""
    fence(conn, lease)
    conn.execute(update(schema.sink).where(schema.sink.c.id == sink_id).values(since_event=0))
