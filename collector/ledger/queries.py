"""Queries for commands, pages and metrics; each costs a few index steps, but for the lists, which are limited."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import Column, ColumnElement, Connection, func, select

from collector.ledger import schema, shards
from collector.ledger.leases import BARRED
from collector.ledger.schema import db_now
from collector.model import RunState

MANY = 10_000
REFUSES_AFTER = 10
"""After so many refused events in a row the fault is taken to be the sink's, not the events'."""


@dataclass(frozen=True, slots=True)
class SinkRow:
    """`doubts` counts up to `MANY`. `oldest` is the commit time of the event that waits longest; `cause` why the oldest retry failed. A sink that
    left the configuration has `retired_at`. `owed_bytes` are those of the pending events. `refused` events in a row it has
    refused since it last took one, the last of them for `refused_cause`. `shards` leases share its strands, `shards_next` once a
    change is done that is under way.
    """

    id: int
    name: str
    pending: int
    parked: int
    doubts: int
    oldest: int | None
    cause: str | None
    unclean_at: int | None
    retired_at: int | None
    owed_bytes: int = 0
    refused: int = 0
    refused_cause: str | None = None
    shards: int = 1
    shards_next: int | None = None

    @property
    def refusing(self) -> str | None:
        """A sentence that says that the sink refuses everything; None while it takes events."""
        if self.refused < REFUSES_AFTER:
            return None
        return f"it refused the last {self.refused:,} events, which are parked: {self.refused_cause}"


@dataclass(frozen=True, slots=True)
class SourceRow:
    """`open` counts the runs without a terminal event by state, `abandoned` those of them no longer watched.
    `waiting_since` is when the run began to wait that waits longest for a person, None when none waits.
    """

    id: int
    name: str
    polled_at: int | None
    hinted_at: int | None
    open: Mapping[RunState, int]
    abandoned: int
    waiting_since: int | None
    pending: int
    parked: int
    retired_at: int | None = None
    """When the service found that it left the configuration."""

    @property
    def active(self) -> int:
        """Open runs that are watched."""
        return sum(self.open.values()) - self.abandoned


@dataclass(frozen=True, slots=True)
class SkipRow:
    """`kind` is a `SkipKind`, or "overflow" for what came after the list of the source was full."""

    source: str
    kind: str
    subject: str
    cause: str
    count: int
    first_at: int
    last_at: int


@dataclass(frozen=True, slots=True)
class SkipGroup:
    """What was left out of a source for one kind of reason: how many things, how often, and when last."""

    source: str
    kind: str
    subjects: int
    count: int
    last_at: int


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """`left_ms` until it can be taken over, 0 when it can. `since` is when its holder took it, None where an older program did."""

    name: str
    holder: str
    token: int
    left_ms: int
    since: int | None


def sinks(conn: Connection) -> list[SinkRow]:
    """By name, those that left the configuration too."""
    table = schema.sink
    names = ("id", "name", "unclean_at", "retired_at", "refused", "refused_cause", "shards", "shards_next")
    columns = select(*(table.c[name] for name in names)).order_by(table.c.name)
    counts = _sums(conn, schema.tally.c.sink_id)
    return [
        SinkRow(
            **row,
            pending=pending,
            parked=parked,
            doubts=_doubts(conn, row["id"]),
            oldest=_oldest(conn, row["id"]),
            cause=_cause(conn, row["id"]),
            owed_bytes=size,
        )
        for row in conn.execute(columns).mappings()
        for pending, parked, size in [counts.get(row["id"], _NOTHING)]
    ]


def sources(conn: Connection) -> list[SourceRow]:
    """By name, those that left the configuration too."""
    table = schema.source
    names = ("id", "name", "polled_at", "hinted_at", "retired_at")
    columns = select(*(table.c[name] for name in names)).order_by(table.c.name)
    counts, states, abandoned = _sums(conn, schema.tally.c.source_id), _open_states(conn), _abandoned(conn)
    return [
        SourceRow(
            **row,
            open=states.get(row["id"], {}),
            abandoned=abandoned.get(row["id"], 0),
            waiting_since=_waiting_since(conn, row["id"]) if RunState.WAITING in states.get(row["id"], {}) else None,
            pending=pending,
            parked=parked,
        )
        for row in conn.execute(columns).mappings()
        for pending, parked, _ in [counts.get(row["id"], _NOTHING)]
    ]


_NOTHING = (0, 0, 0)


def _sums(conn: Connection, by: Column[int]) -> dict[int, tuple[int, int, int]]:
    """Pending and parked events and the bytes of the pending ones, by sink or by source."""
    counts = (func.sum(schema.tally.c[name]) for name in ("pending", "parked", "pending_bytes"))
    sums = select(by, *counts).group_by(by)
    return {key: (int(pending), int(parked), int(size)) for key, pending, parked, size in conn.execute(sums)}


def _doubts(conn: Connection, sink_id: int) -> int:
    some = select(schema.doubt.c.run_id).where(schema.doubt.c.sink_id == sink_id).limit(MANY).subquery()
    return conn.scalar(select(func.count()).select_from(some)) or 0


def _oldest(conn: Connection, sink_id: int) -> int | None:
    """One index step each: the first lane that was never tried is due since its commit; a retried one keeps that."""
    lane = schema.lane
    of_sink = lane.c.sink_id == sink_id
    first = conn.scalar(select(func.min(lane.c.due_at)).where(of_sink))
    retried = conn.scalar(select(func.min(lane.c.since)).where(of_sink, lane.c.attempts > 0))
    return min((at for at in (first, retried) if at is not None), default=None)


def _cause(conn: Connection, sink_id: int) -> str | None:
    lane = schema.lane
    retried = select(lane.c.cause).where(lane.c.sink_id == sink_id, lane.c.attempts > 0)
    return conn.scalar(retried.order_by(lane.c.since).limit(1))


def _open_states(conn: Connection) -> dict[int, dict[RunState, int]]:
    run = schema.run
    counts = select(run.c.source_id, run.c.state, func.count()).where(run.c.ended_at.is_(None))
    found: defaultdict[int, dict[RunState, int]] = defaultdict(dict)
    for source_id, state, count in conn.execute(counts.group_by(run.c.source_id, run.c.state)):
        found[source_id][RunState(state)] = count
    return found


def _waiting_since(conn: Connection, source_id: int) -> int | None:
    """Since when the runs wait: the last event of a waiting run is the one that reported it."""
    run = schema.run
    waits = run.c.source_id == source_id, run.c.state == RunState.WAITING, run.c.abandoned_at.is_(None)
    since: int | None = conn.scalar(select(func.min(run.c.last_event_time)).where(*waits, run.c.ended_at.is_(None)))
    return since


def watched(conn: Connection, source_id: int) -> dict[RunState, int]:
    """Open runs of a source that are watched, by state; those that ended and wait for their enrichment are not."""
    run = schema.run
    counts = select(run.c.state, func.count()).where(
        run.c.source_id == source_id, run.c.ended_at.is_(None), run.c.abandoned_at.is_(None)
    )
    found = {RunState(state): count for state, count in conn.execute(counts.group_by(run.c.state))}
    return {state: count for state, count in found.items() if not state.terminal}


def _abandoned(conn: Connection) -> dict[int, int]:
    run = schema.run
    counts = select(run.c.source_id, func.count()).where(run.c.ended_at.is_(None), run.c.abandoned_at.is_not(None))
    return dict(conn.execute(counts.group_by(run.c.source_id)).all())


def source_names(conn: Connection) -> dict[str, int]:
    """Their numbers, those of sources that left the configuration too."""
    return dict(conn.execute(select(schema.source.c.name, schema.source.c.id)).all())


def sink_names(conn: Connection) -> dict[str, int]:
    """Their numbers, those of sinks that left the configuration too."""
    return dict(conn.execute(select(schema.sink.c.name, schema.sink.c.id)).all())


def skips(conn: Connection, limit: int, *, source_id: int | None = None, kind: str | None = None) -> list[SkipRow]:
    """Latest first."""
    skip = schema.skip
    of_source = [skip.c.source_id == source_id] if source_id is not None else []
    return _skips(conn, [*of_source, *([skip.c.kind == kind] if kind is not None else [])], limit)


def skip_groups(conn: Connection) -> list[SkipGroup]:
    """Latest first; all of them, since a source keeps a limited number of skips."""
    skip, source = schema.skip, schema.source
    last = func.max(skip.c.last_at)
    rows = (
        select(source.c.name, skip.c.kind, func.count(), func.sum(skip.c.count), last)
        .join(source, source.c.id == skip.c.source_id)
        .group_by(source.c.name, skip.c.kind)
        .order_by(last.desc(), source.c.name, skip.c.kind)
    )
    return [SkipGroup(name, kind, subjects, int(count), at) for name, kind, subjects, count, at in conn.execute(rows)]


def skips_of(conn: Connection, subject: str, limit: int, *, source_id: int | None = None) -> list[SkipRow]:
    """What was left out of what goes by this name."""
    named = schema.skip.c.subject == subject
    return _skips(conn, [named] if source_id is None else [named, schema.skip.c.source_id == source_id], limit)


def _skips(conn: Connection, wanted: Sequence[ColumnElement[bool]], limit: int) -> list[SkipRow]:
    skip, source = schema.skip, schema.source
    columns = [skip.c[field.name] for field in fields(SkipRow) if field.name != "source"]
    rows = select(source.c.name.label("source"), *columns).join(source, source.c.id == skip.c.source_id).where(*wanted)
    latest = rows.order_by(skip.c.last_at.desc(), skip.c.source_id, skip.c.kind, skip.c.subject)
    return [SkipRow(**row) for row in conn.execute(latest.limit(limit)).mappings()]


def leases(conn: Connection) -> list[LeaseRow]:
    """By name, without those that nobody may take, and those of shards that a sink no longer has."""
    lease, sink = schema.lease, schema.sink
    counts = conn.execute(select(sink.c.name, sink.c.shards)).all()
    present = {name for row in counts for name in shards.lease_names(*row)}
    left = lease.c.expires_at - db_now()
    rows = select(lease.c.name, lease.c.holder, lease.c.token, left, lease.c.since).order_by(lease.c.name)
    rows = rows.where(lease.c.expires_at < BARRED)
    return [
        LeaseRow(name, holder, token, max(0, ms), since)
        for name, holder, token, ms, since in conn.execute(rows)
        if name in present or not shards.pool(name)
    ]
