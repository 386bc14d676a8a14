"""Events that a sink refused for good: listed, sent again or dropped by people."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, insert, select, tuple_, update

from collector.ledger import doubts, queries, schema, tallies
from collector.ledger import lanes as ledger_lanes
from collector.ledger.lanes import Lane
from collector.ledger.leases import Lease, fence
from collector.ledger.port import Change, announce
from collector.ledger.statements import KEYS, changed, chunks, rows_of
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

    @property
    def name(self) -> str:
        """Its name in commands, such as `12.3`."""
        return f"{self.strand_id}.{self.seq}"


Named = tuple[int, int]
"""Strand and sequence number: an event at its sink."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice of the parked events of a sink: those of a run, one by its name, those parked by a time, those of a cause."""

    run_id: str | None = None
    event: str | None = None
    until_ms: int | None = None
    cause: str | None = None

    def takes(self, event: ParkedEvent) -> bool:
        of_run = self.run_id is None or event.run_uuid == self.run_id
        named = self.event is None or event.name == self.event
        of_cause = self.cause is None or event.cause == self.cause
        return of_run and named and of_cause and (self.until_ms is None or event.parked_at <= self.until_ms)

    def __str__(self) -> str:
        given = {"of run": self.run_id, "as event": self.event, "with the cause": self.cause}
        return "".join(f" {words} {value}" for words, value in given.items() if value)


class RetryAnswer(StrEnum):
    QUEUED = "queued"
    """It is sent again, before the events that follow in its strand."""
    SUPERSEDED = "superseded"
    """A later event of its run was acknowledged; sending this one would undo that."""
    NOT_PARKED = "not parked"


def chosen(conn: Connection, sink: str, choice: Choice, limit: int) -> list[ParkedEvent]:
    """Of the latest `limit` of a sink, those that are chosen and not on their way again, the newest first; none for a sink that
    is not in the ledger.
    """
    number = queries.sink_names(conn).get(sink)
    rows = listing(conn, limit, sink_id=number) if number is not None else []
    return [row for row in rows if choice.takes(row) and row.retry_at is None]


def listing(
    conn: Connection,
    limit: int,
    *,
    sink_id: int | None = None,
    source_id: int | None = None,
    cause: str | None = None,
) -> list[ParkedEvent]:
    """Newest first."""
    table = schema.parked.c
    given = {table.sink_id: sink_id, table.source_id: source_id, table.cause: cause}
    wanted, found = [column == value for column, value in given.items() if value is not None], list[ParkedEvent]()
    behind: list[ColumnElement[bool]] = []
    # the latest are chosen without their runs and events, of which retention may have taken some
    while len(found) < limit and (places := _latest(conn, [*wanted, *behind], limit)):
        found += _listed(conn, places)
        behind = [tuple_(table.parked_at, table.strand_id, table.seq, table.sink_id) < places[-1]]
    return found[:limit]


_Place = tuple[int, int, int, int]


def _latest(conn: Connection, wanted: Sequence[ColumnElement[bool]], limit: int) -> list[_Place]:
    table = schema.parked.c
    place = table.parked_at, table.strand_id, table.seq, table.sink_id
    rows = select(*place).where(*wanted).order_by(*(column.desc() for column in place)).limit(limit)
    return [(parked_at, strand, seq, sink) for parked_at, strand, seq, sink in conn.execute(rows)]


def _listed(conn: Connection, places: Sequence[_Place]) -> list[ParkedEvent]:
    """In the order of their places, as far as their events are there."""
    keys, found = (
        [(sink_id, strand, seq) for _, strand, seq, sink_id in places],
        dict[tuple[int, int, int], ParkedEvent](),
    )
    for some in chunks(keys):
        sinks, strands, _ = map(set, zip(*some, strict=True))
        for sink_id, *row in conn.execute(_LISTED, {"keys": some, "sinks": sinks, "strands": strands}):
            event = ParkedEvent(*row)
            found[sink_id, event.strand_id, event.seq] = replace(event, kind=EventKind(event.kind))
    return [found[key] for key in keys if key in found]


_LISTED = (
    select(
        schema.parked.c.sink_id,
        schema.sink.c.name,
        schema.source.c.name,
        *(schema.parked.c[name] for name in ("strand_id", "seq")),
        *(schema.run.c[name] for name in ("key", "run_uuid", "job")),
        schema.event.c.kind,
        *(schema.parked.c[name] for name in ("parked_at", "attempts", "cause", "superseded_at", "retry_at")),
    )
    .join_from(schema.parked, schema.sink, schema.sink.c.id == schema.parked.c.sink_id)
    .join(schema.source, schema.source.c.id == schema.parked.c.source_id)
    .join(schema.run, schema.run.c.id == schema.parked.c.run_id)
    .join(
        schema.event,
        and_(schema.event.c.strand_id == schema.parked.c.strand_id, schema.event.c.seq == schema.parked.c.seq),
    )
    .where(
        # by these two the rows are found
        schema.parked.c.sink_id.in_(bindparam("sinks", expanding=True)),
        schema.parked.c.strand_id.in_(bindparam("strands", expanding=True)),
        tuple_(schema.parked.c.sink_id, schema.parked.c.strand_id, schema.parked.c.seq).in_(KEYS),
    )
)
"""The columns of `ParkedEvent` in its order, behind the sink's number."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why events of a sink are parked, and how many of them; `latest` is when the last one was, in epoch milliseconds."""

    sink: str
    cause: str
    count: int
    latest: int


def causes(conn: Connection, limit: int) -> list[Cause]:
    """The most frequent first, without events that are on their way again."""
    table, number = schema.parked, func.count()
    rows = (
        select(table.c.sink_id, table.c.cause, number, func.max(table.c.parked_at))
        .where(table.c.retry_at.is_(None))
        .group_by(table.c.sink_id, table.c.cause)
        .order_by(number.desc(), table.c.sink_id, table.c.cause)
        .limit(limit)
    )
    names = {number: name for name, number in queries.sink_names(conn).items()}
    return [Cause(names[sink_id], *row) for sink_id, *row in conn.execute(rows) if sink_id in names]


def retry(
    conn: Connection, lease: Lease, sink_id: int, events: Iterable[Named], now_ms: int
) -> dict[Named, RetryAnswer]:
    """Put these back at the heads of their lanes; what became of each. For the holder of the sink's lease, while no
    event of their strands is in flight or waits for its settle. The number of statements does not depend on the number of events.

    Several of one strand are sent in their order; then the lane goes on where it was, so that nothing that was
    acknowledged meanwhile is sent again.
    """
    fence(conn, lease)
    events = list(dict.fromkeys(events))
    lanes = ledger_lanes.locked(conn, sink_id, (strand for strand, _ in events))
    rows = _rows(conn, sink_id, events)
    again = sorted((row for row in rows.values() if _answer(row) is None), key=lambda row: row.seq)
    if again:
        _put_back(conn, sink_id, lanes, again, now_ms)
        announce(conn, Change.EVENTS)
    return {event: _answer(rows.get(event)) or RetryAnswer.QUEUED for event in events}


@dataclass(frozen=True, slots=True)
class _Row:
    """`created_at` and `size` are None where retention took the event."""

    strand_id: int
    seq: int
    source_id: int
    superseded_at: int | None
    retry_at: int | None
    created_at: int | None
    size: int | None


def _put_back(conn: Connection, sink_id: int, lanes: Mapping[int, Lane], again: Sequence[_Row], now_ms: int) -> None:
    first = {row.strand_id: row for row in reversed(again)}
    replaced = _into_lanes(conn, sink_id, lanes, first, now_ms)
    asked = [{"of_sink": sink_id, "of_strand": row.strand_id, "of_seq": row.seq, "now": now_ms} for row in again]
    conn.execute(_ASKED, asked)
    pending, size = Counter(row.source_id for row in again), Counter[int]()
    for row in again:
        size[row.source_id] += row.size or 0
    for strand, head_size in replaced.items():
        pending[first[strand].source_id] -= 1
        size[first[strand].source_id] -= head_size
    tallies.add(conn, sink_id, pending, tallies.less(row.source_id for row in again), size)


def _answer(row: _Row | None) -> RetryAnswer | None:
    """None for one that is to be sent again."""
    if row is None or row.created_at is None:
        return RetryAnswer.NOT_PARKED
    if row.superseded_at is not None:
        return RetryAnswer.SUPERSEDED
    return None if row.retry_at is None else RetryAnswer.QUEUED


def _into_lanes(
    conn: Connection, sink_id: int, lanes: Mapping[int, Lane], first: Mapping[int, _Row], now_ms: int
) -> dict[int, int]:
    """Make the first event of each strand the head of its lane, where it comes before that. Returns the strands in which
    it takes the place of a head that is wanted no longer, each with the bytes of that.
    """
    _begin_lanes(conn, sink_id, [row for strand, row in first.items() if strand not in lanes], now_ms)
    before = {strand: row for strand, row in first.items() if strand in lanes and row.seq <= lanes[strand].next_seq}
    heads = [(strand, row.seq, row.created_at or 0) for strand, row in before.items()]
    ledger_lanes.set_heads(conn, sink_id, heads, now_ms)
    left = {strand: lanes[strand].next_seq for strand in before if lanes[strand].resume_seq is None}
    _go_on_behind(conn, sink_id, left)
    return _unwanted(conn, sink_id, left)


def _go_on_behind(conn: Connection, sink_id: int, heads: Mapping[int, int]) -> None:
    if heads:
        rows = [{"of_sink": sink_id, "of_strand": strand, "seq": seq} for strand, seq in sorted(heads.items())]
        conn.execute(_GO_ON, rows)


def _begin_lanes(conn: Connection, sink_id: int, rows: Sequence[_Row], now_ms: int) -> None:
    last = dict(rows_of(conn, _LAST_SEQS, sorted(row.strand_id for row in rows)))
    lanes = [
        {
            "sink_id": sink_id,
            "strand_id": row.strand_id,
            "source_id": row.source_id,
            "due_at": min(row.created_at or 0, now_ms),
            "since": row.created_at,
            "next_seq": row.seq,
            "last_seq": row.seq,
            "resume_seq": last.get(row.strand_id, row.seq) + 1,
        }
        for row in rows
    ]
    if lanes:
        conn.execute(insert(schema.lane), lanes)


def _unwanted(conn: Connection, sink_id: int, heads: Mapping[int, int]) -> dict[int, int]:
    """The strands whose head, which was not parked, is of a kind that the sink wants no longer, each with its bytes."""
    wanted = ledger_lanes.filters(conn).get(sink_id, frozenset())
    kinds = rows_of(conn, _KINDS, sorted(heads.items()))
    return {strand: size for strand, kind, size in kinds if EventKind(kind) not in wanted}


def drop(conn: Connection, lease: Lease, sink_id: int, events: Iterable[Named]) -> set[Named]:
    """Forget these for good; those that were parked and not on their way again."""
    fence(conn, lease)
    rows = [row for row in _rows(conn, sink_id, events).values() if row.retry_at is None]
    dropped = [(row.strand_id, row.seq) for row in rows]
    if dropped:
        changed(conn, _DROPPED, dropped, of_sink=sink_id)
        doubts.forget_dropped_ends(conn, sink_id, dropped)
        tallies.add(conn, sink_id, Counter(), tallies.less(row.source_id for row in rows))
    return set(dropped)


def _rows(conn: Connection, sink_id: int, events: Iterable[Named]) -> dict[Named, _Row]:
    found = (_Row(*row) for row in rows_of(conn, _OF_EVENTS, dict.fromkeys(events), of_sink=sink_id))
    return {(row.strand_id, row.seq): row for row in found}


_NAMED = (
    schema.parked.c.sink_id == bindparam("of_sink"),
    tuple_(schema.parked.c.strand_id, schema.parked.c.seq).in_(KEYS),
)
_OF_EVENTS = (
    select(
        *(schema.parked.c[name] for name in ("strand_id", "seq", "source_id", "superseded_at", "retry_at")),
        schema.event.c.created_at,
        func.length(schema.event.c.body),
    )
    .join(
        schema.event,
        and_(schema.event.c.strand_id == schema.parked.c.strand_id, schema.event.c.seq == schema.parked.c.seq),
        isouter=True,
    )
    .where(*_NAMED)
)
_DROPPED = delete(schema.parked).where(*_NAMED)
_KINDS = select(schema.event.c.strand_id, schema.event.c.kind, func.length(schema.event.c.body)).where(
    tuple_(schema.event.c.strand_id, schema.event.c.seq).in_(KEYS)
)
_LAST_SEQS = select(schema.run.c.id, schema.run.c.last_seq).where(schema.run.c.id.in_(KEYS))
_ASKED = (
    update(schema.parked)
    .where(
        schema.parked.c.sink_id == bindparam("of_sink"),
        schema.parked.c.strand_id == bindparam("of_strand"),
        schema.parked.c.seq == bindparam("of_seq"),
    )
    .values(retry_at=bindparam("now"))
)
_GO_ON = (
    update(schema.lane)
    .where(schema.lane.c.sink_id == bindparam("of_sink"), schema.lane.c.strand_id == bindparam("of_strand"))
    .values(resume_seq=bindparam("seq"))
)
