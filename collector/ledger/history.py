"""The life of one run as the ledger has it: its events, and where each of them is at each sink."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, case, func, or_, select

from collector.ledger import acknowledgements, lanes, restriction, schema
from collector.ledger.statements import chunks
from collector.model import EventKind


class Standing(StrEnum):
    """Where an event is at a sink."""

    DELIVERED = "delivered"
    WAITING = "waiting"
    RETRIED = "retried"
    PARKED = "parked"
    SUPERSEDED = "superseded"
    """Parked, and a later event of its run was acknowledged: it is never sent again."""
    UNWANTED = "unwanted"
    """The sink takes no events of its kind (`events` in its configuration)."""
    EARLIER = "earlier"
    """The run ended before the sink was configured, or configured again: the sink is owed nothing of it."""
    RESTRICTED = "restricted"
    """A backfill made the run for other sinks alone."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event at a sink. `attempts` failed, the last of them for `cause`; `due_at` is the next one, `parked_at`
    when it was parked, `acknowledged_at` when the sink took it, None where that was before the ledger kept it. Times in epoch milliseconds.
    """

    sink: str
    standing: Standing
    attempts: int = 0
    cause: str | None = None
    due_at: int | None = None
    parked_at: int | None = None
    acknowledged_at: int | None = None


@dataclass(frozen=True, slots=True)
class EventHistory:
    """`number` is the event's in the ledger, `seq` its place in the strand, `happened_at` its eventTime, `created_at` when it was
    committed. Times in epoch milliseconds.
    """

    number: int
    seq: int
    kind: EventKind
    happened_at: int
    created_at: int
    fault: str | None
    body: bytes
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class RunHistory:
    """`doubts` are the sinks that did not answer an attempt, so that the run is looked up there once it ended. `only_sinks` are
    those for which alone a backfill made it, None for a run that every sink gets.
    """

    events: tuple[EventHistory, ...]
    doubts: tuple[str, ...]
    only_sinks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Sink:
    number: int
    name: str
    wanted: frozenset[EventKind]
    since_event: int
    is_retired: bool


@dataclass(frozen=True, slots=True)
class _Lane:
    next_seq: int
    last_seq: int
    resume_seq: int | None
    due_at: int
    attempts: int
    cause: str | None


@dataclass(frozen=True, slots=True)
class _Parked:
    attempts: int
    cause: str
    superseded_at: int | None
    retry_at: int | None
    parked_at: int


@dataclass(frozen=True, slots=True)
class _AtSinks:
    """A strand at all sinks: what each is owed, what it refused and acknowledged by its number and the event's, and which alone get it."""

    owed: Mapping[int, _Lane]
    parked: Mapping[tuple[int, int], _Parked]
    acknowledged: Mapping[tuple[int, int], int]
    only_sinks: restriction.Sinks | None


def of_run(conn: Connection, run_id: int) -> RunHistory:
    """As far as retention has kept it. Sinks that left the configuration are shown while they are owed events of it."""
    strand_id = conn.scalar(select(schema.run.c.strand_id).where(schema.run.c.id == run_id))
    if strand_id is None:
        return RunHistory((), ())
    events, sinks = _events(conn, run_id, strand_id), _sinks(conn)
    at_sinks = _AtSinks(
        _lanes(conn, strand_id, sinks),
        _parked(conn, strand_id, sinks),
        acknowledgements.of_strand(conn, strand_id, [sink.number for sink in sinks]),
        restriction.of_strands(conn, [strand_id]).get(strand_id),
    )
    found = [replace(event, deliveries=tuple(_deliveries(event, events, sinks, at_sinks))) for event in events]
    doubted = _doubted(conn, run_id, sinks)
    doubts = tuple(sink.name for sink in sinks if sink.number in doubted)
    only_sinks = at_sinks.only_sinks
    return RunHistory(tuple(found), doubts, None if only_sinks is None else tuple(sorted(only_sinks)))


@dataclass(frozen=True, slots=True)
class Mark:
    """How a run stands at a sink: the worst of its events, and how many stand so; `unanswered` where an attempt was not answered."""

    sink: str
    standing: Standing
    count: int
    unanswered: bool = False


def marks(conn: Connection, run_ids: Sequence[int]) -> dict[int, list[Mark]]:
    """Of each of these runs, by number, its marks by the sinks' names. Sinks that left the configuration have one while they are owed events."""
    sinks, found = _sinks(conn), dict[int, list[Mark]]()
    for some in chunks(run_ids):
        values = {"sinks": [sink.number for sink in sinks], "runs": some}
        made, lacking, only = _made(conn, some), _lacking(conn, sinks, values), _only_sinks(conn, some)
        unanswered = {(run_id, sink_id) for run_id, sink_id in conn.execute(_UNANSWERED, values)}
        for run_id in some:
            at_sinks = [
                (sink, lacking.get((run_id, sink.number)) or _mark(sink, made.get(run_id), only.get(run_id)))
                for sink in sinks
            ]
            found[run_id] = [
                replace(mark, unanswered=(run_id, sink.number) in unanswered)
                for sink, mark in at_sinks
                if not sink.is_retired or mark.standing in _LACKING
            ]
    return found


@dataclass(frozen=True, slots=True)
class _Made:
    """The kinds of the events that the ledger keeps of a run, and the number of the terminal one."""

    kinds: frozenset[EventKind]
    ended: int | None


def _made(conn: Connection, run_ids: Sequence[int]) -> dict[int, _Made]:
    by_run: defaultdict[int, dict[EventKind, int]] = defaultdict(dict)
    for run_id, kind, number in conn.execute(_EVENTS_OF, {"runs": run_ids}):
        by_run[run_id][EventKind(kind)] = number
    return {run_id: _Made(frozenset(kinds), _ended(kinds)) for run_id, kinds in by_run.items()}


def _ended(kinds: Mapping[EventKind, int]) -> int | None:
    return next((number for kind, number in kinds.items() if kind.terminal), None)


def _mark(sink: _Sink, made: _Made | None, only_sinks: restriction.Sinks | None) -> Mark:
    """Of a sink that lacks nothing of the run."""
    standing = Standing.DELIVERED
    if only_sinks is not None and sink.name not in only_sinks:
        standing = Standing.RESTRICTED
    elif made is not None and made.ended is not None and made.ended < sink.since_event:
        standing = Standing.EARLIER
    elif made is not None and not made.kinds & sink.wanted:
        standing = Standing.UNWANTED
    return Mark(sink.name, standing, 0)


def _only_sinks(conn: Connection, run_ids: Sequence[int]) -> dict[int, restriction.Sinks]:
    """Of those of these runs that not every sink gets, the sinks that do."""
    run = schema.run
    strands = dict(conn.execute(select(run.c.id, run.c.strand_id).where(run.c.id.in_(run_ids))).all())
    found = restriction.of_strands(conn, strands.values())
    return {run_id: found[strand_id] for run_id, strand_id in strands.items() if strand_id in found}


_LACKING = frozenset({Standing.WAITING, Standing.RETRIED, Standing.PARKED})


def _lacking(conn: Connection, sinks: Sequence[_Sink], values: Mapping[str, Any]) -> dict[tuple[int, int], Mark]:
    """By run and sink, where something is missing: what is parked counts before what waits."""
    of = {sink.number: sink for sink in sinks}
    found: dict[tuple[int, int], Mark] = {}
    for run_id, sink_id, count in conn.execute(_SUPERSEDED, values):
        found[run_id, sink_id] = Mark(of[sink_id].name, Standing.SUPERSEDED, count)
    waiting = Counter[tuple[int, int]]()
    for run_id, sink_id, kind, attempts, count in conn.execute(_PENDING, values):
        if EventKind(kind) in of[sink_id].wanted:
            key = run_id, sink_id
            waiting[key] += count
            is_retried = attempts or (key in found and found[key].standing is Standing.RETRIED)
            standing = Standing.RETRIED if is_retried else Standing.WAITING
            found[key] = Mark(of[sink_id].name, standing, waiting[key])
    for run_id, sink_id, count in conn.execute(_REFUSED, values):
        found[run_id, sink_id] = Mark(of[sink_id].name, Standing.PARKED, count)
    return found


def _pending() -> Select[*tuple[Any, ...]]:
    run, lane, event = schema.run, schema.lane, schema.event
    strands = select(run.c.strand_id).where(run.c.id.in_(bindparam("runs", expanding=True)))
    of_lane = (
        event.c.strand_id == lane.c.strand_id,
        or_(event.c.seq == lane.c.next_seq, event.c.seq >= func.coalesce(lane.c.resume_seq, lane.c.next_seq)),
        event.c.seq <= lane.c.last_seq,
    )
    return (
        select(
            event.c.run_id,
            lane.c.sink_id,
            event.c.kind,
            func.max(case((event.c.seq == lane.c.next_seq, lane.c.attempts), else_=0)),
            func.count(),
        )
        .join_from(lane, event, and_(*of_lane))
        .where(lane.c.sink_id.in_(bindparam("sinks", expanding=True)), lane.c.strand_id.in_(strands))
        .where(event.c.run_id.in_(bindparam("runs", expanding=True)))
        .group_by(event.c.run_id, lane.c.sink_id, event.c.kind)
    )


def _refused(*, superseded: bool) -> Select[*tuple[Any, ...]]:
    run, parked = schema.run, schema.parked
    strands = select(run.c.strand_id).where(run.c.id.in_(bindparam("runs", expanding=True)))
    return (
        select(parked.c.run_id, parked.c.sink_id, func.count())
        .where(parked.c.sink_id.in_(bindparam("sinks", expanding=True)), parked.c.strand_id.in_(strands))
        .where(parked.c.run_id.in_(bindparam("runs", expanding=True)))
        .where(parked.c.superseded_at.is_not(None) if superseded else parked.c.superseded_at.is_(None))
        .group_by(parked.c.run_id, parked.c.sink_id)
    )


def _events_of() -> Select[*tuple[Any, ...]]:
    """By strand, so that a strand of many runs is read once for all of them."""
    run, event = schema.run, schema.event
    strands = select(run.c.strand_id).where(run.c.id.in_(bindparam("runs", expanding=True)))
    return (
        select(event.c.run_id, event.c.kind, func.min(event.c.id))
        .where(event.c.strand_id.in_(strands), event.c.run_id.in_(bindparam("runs", expanding=True)))
        .group_by(event.c.run_id, event.c.kind)
    )


_PENDING, _REFUSED, _SUPERSEDED = _pending(), _refused(superseded=False), _refused(superseded=True)
_EVENTS_OF = _events_of()
_UNANSWERED = select(schema.doubt.c.run_id, schema.doubt.c.sink_id).where(
    schema.doubt.c.sink_id.in_(bindparam("sinks", expanding=True)),
    schema.doubt.c.run_id.in_(bindparam("runs", expanding=True)),
)


def _deliveries(
    event: EventHistory, events: Sequence[EventHistory], sinks: Sequence[_Sink], at_sinks: _AtSinks
) -> Iterable[Delivery]:
    for sink in sinks:
        delivery = _delivery(event, events, sink, at_sinks)
        if not sink.is_retired or delivery.standing in _LACKING:
            yield delivery


def _delivery(event: EventHistory, events: Sequence[EventHistory], sink: _Sink, at_sinks: _AtSinks) -> Delivery:
    """`events` are all of the run."""
    parked, lane = at_sinks.parked.get((sink.number, event.seq)), at_sinks.owed.get(sink.number)
    if parked is not None:
        return _of_parked(sink, parked)
    if event.kind not in sink.wanted:
        return Delivery(sink.name, Standing.UNWANTED)
    if lane is not None and (owed := _of_lane(event, sink, lane)) is not None:
        return owed
    acknowledged_at = at_sinks.acknowledged.get((sink.number, event.seq))
    if acknowledged_at is None and at_sinks.only_sinks is not None and sink.name not in at_sinks.only_sinks:
        return Delivery(sink.name, Standing.RESTRICTED)
    if acknowledged_at is None and _is_earlier(event, events, sink):
        return Delivery(sink.name, Standing.EARLIER)
    return Delivery(sink.name, Standing.DELIVERED, acknowledged_at=acknowledged_at)


def _of_lane(event: EventHistory, sink: _Sink, lane: _Lane) -> Delivery | None:
    """None for an event that lies before or behind what is owed."""
    if event.seq == lane.next_seq:
        standing = Standing.RETRIED if lane.attempts else Standing.WAITING
        return Delivery(sink.name, standing, lane.attempts, lane.cause, lane.due_at)
    is_owed = (lane.resume_seq or lane.next_seq) <= event.seq <= lane.last_seq
    return Delivery(sink.name, Standing.WAITING) if is_owed else None


def _of_parked(sink: _Sink, parked: _Parked) -> Delivery:
    if parked.superseded_at is not None:
        return Delivery(sink.name, Standing.SUPERSEDED, parked.attempts, parked.cause, None, parked.parked_at)
    return Delivery(sink.name, Standing.PARKED, parked.attempts, parked.cause, parked.retry_at, parked.parked_at)


def _is_earlier(event: EventHistory, events: Sequence[EventHistory], sink: _Sink) -> bool:
    """A sink that is new, or back, is owed the runs that are open then, from their START on."""
    if event.number >= sink.since_event:
        return False
    had_ended = any(one.kind.terminal and one.number < sink.since_event for one in events)
    starts = [one.seq for one in events if one.kind is EventKind.START]
    return had_ended or event.seq < min(starts, default=event.seq)


def _events(conn: Connection, run_id: int, strand_id: int) -> list[EventHistory]:
    table = schema.event
    columns = select(*(table.c[name] for name in ("id", "seq", "kind", "happened_at", "created_at", "fault", "body")))
    rows = conn.execute(columns.where(table.c.strand_id == strand_id, table.c.run_id == run_id).order_by(table.c.seq))
    return [EventHistory(number, seq, EventKind(kind), *more) for number, seq, kind, *more in rows]


def _sinks(conn: Connection) -> list[_Sink]:
    table = schema.sink
    columns = select(*(table.c[name] for name in ("id", "name", "filter", "since_event", "retired_at")))
    rows = conn.execute(columns.order_by(table.c.name))
    return [
        _Sink(number, name, lanes.read(kinds), since, retired is not None)
        for number, name, kinds, since, retired in rows
    ]


def _lanes(conn: Connection, strand_id: int, sinks: Sequence[_Sink]) -> dict[int, _Lane]:
    table = schema.lane
    names = ("sink_id", "next_seq", "last_seq", "resume_seq", "due_at", "attempts", "cause")
    of_strand = table.c.sink_id.in_([sink.number for sink in sinks]), table.c.strand_id == strand_id
    rows = conn.execute(select(*(table.c[name] for name in names)).where(*of_strand))
    return {sink_id: _Lane(*lane) for sink_id, *lane in rows}


def _parked(conn: Connection, strand_id: int, sinks: Sequence[_Sink]) -> dict[tuple[int, int], _Parked]:
    table = schema.parked
    names = ("sink_id", "seq", "attempts", "cause", "superseded_at", "retry_at", "parked_at")
    of_strand = table.c.sink_id.in_([sink.number for sink in sinks]), table.c.strand_id == strand_id
    rows = conn.execute(select(*(table.c[name] for name in names)).where(*of_strand))
    return {(sink_id, seq): _Parked(*parked) for sink_id, seq, *parked in rows}


def _doubted(conn: Connection, run_id: int, sinks: Sequence[_Sink]) -> set[int]:
    table = schema.doubt
    of_run = table.c.sink_id.in_([sink.number for sink in sinks]), table.c.run_id == run_id
    return set(conn.scalars(select(table.c.sink_id).where(*of_run)))
