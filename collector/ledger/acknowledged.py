"""What a sink has acknowledged, run by run, as far as the ledger still has the events."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, or_, select, tuple_

from collector.ledger import lanes, restriction, schema
from collector.ledger.run_order import NEWEST_FIRST, Place, behind
from collector.ledger.statements import KEYS, rows_of
from collector.model import EventKind

AT_ONCE = 200
"""Runs of one page: with their events they are read within milliseconds."""


class Uncompared(StrEnum):
    """Why a run cannot be compared."""

    WAITING = "waiting"
    """Events of its strand have yet to be sent, or an attempt was not answered."""
    PARKED = "parked"
    """The sink refused all its events."""
    EARLIER = "earlier"
    """It ended before the sink was configured: the sink was never sent it."""
    REMOVED = "removed"
    """Retention removed its events."""
    RESTRICTED = "restricted"
    """A backfill made it for other sinks alone."""


@dataclass(frozen=True, slots=True)
class AcknowledgedEvent:
    """`happened_at` is its eventTime in epoch milliseconds, `number` its number in the ledger."""

    seq: int
    kind: EventKind
    happened_at: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class AcknowledgedRun:
    """`events` are those that the sink acknowledged, at least one, in order; `last_body` is the content of the last of them.
    `started_at` is the time of a START that it acknowledged and retention removed. `has_start` says whether it can be sent
    again from its START on.
    """

    number: int
    run_id: str
    key: str
    job: str
    started_at: int | None
    events: tuple[AcknowledgedEvent, ...]
    last_body: bytes
    has_start: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Runs of a job to compare, newest first, and how many others there are. Go on before `before`, None at the end."""

    runs: tuple[AcknowledgedRun, ...]
    others: Counter[Uncompared]
    before: Place | None


@dataclass(frozen=True, slots=True)
class SinkDetail:
    """A sink of the ledger. `since_event` is the first event that it was there for."""

    number: int
    wanted: frozenset[EventKind]
    since_event: int


@dataclass(frozen=True, slots=True)
class JobName:
    source_id: int
    source: str
    name: str


def sink(conn: Connection, name: str) -> SinkDetail | None:
    """None for one that the ledger does not know, or that left the configuration."""
    table = schema.sink
    columns = select(table.c.id, table.c.filter, table.c.since_event)
    row = conn.execute(columns.where(table.c.name == name, table.c.retired_at.is_(None))).one_or_none()
    return None if row is None else SinkDetail(row[0], lanes.read(row[1]), row[2])


def count(conn: Connection, since_ms: int | None) -> int:
    """Runs that began or changed since."""
    total: int = conn.scalar(select(func.count()).select_from(schema.run).where(*_since(since_ms))) or 0
    return total


def next_job(conn: Connection, after: JobName | None) -> JobName | None:
    """The jobs that have runs, one after another, by index steps."""
    run, source = schema.run, schema.source
    columns = select(run.c.source_id, run.c.job).order_by(run.c.source_id, run.c.job).limit(1)
    if after is None:
        found = conn.execute(columns).one_or_none()
    else:
        same = columns.where(run.c.source_id == after.source_id, run.c.job > after.name)
        found = conn.execute(same).one_or_none()
        found = found or conn.execute(columns.where(run.c.source_id > after.source_id)).one_or_none()
    if found is None:
        return None
    name = conn.scalar(select(source.c.name).where(source.c.id == found.source_id))
    return JobName(found.source_id, name or f"source {found.source_id}", found.job)


def page(conn: Connection, of: SinkDetail, job: JobName, before: Place | None, since_ms: int | None) -> Page:
    """The runs of the job that began or changed since, `AT_ONCE` at a time."""
    listed = conn.execute(_runs(job, before, since_ms)).all()
    rows = _unbarred(conn, of.number, listed)
    waiting, refused = _waiting(conn, of.number, rows), _refused(conn, of.number, rows)
    events = _events(conn, rows, of.wanted)
    others, runs = Counter({Uncompared.RESTRICTED: len(listed) - len(rows)}), []
    for row in rows:
        kept = [event for event in events[row.id] if (row.strand_id, event.seq) not in refused]
        why = _uncompared(of, row.id in waiting, events[row.id], kept)
        if why is not None:
            others[why] += 1
        else:
            runs.append((row, kept))
    bodies = _bodies(conn, [(row.strand_id, kept[-1].seq) for row, kept in runs])
    found = [
        _run(of, row, kept, events[row.id], body)
        for row, kept in runs
        if (body := bodies.get((row.strand_id, kept[-1].seq))) is not None
    ]
    return Page(tuple(found), +others, (listed[-1].began, listed[-1].id) if len(listed) == AT_ONCE else None)


def _runs(job: JobName, before: Place | None, since_ms: int | None) -> Select[*tuple[Any, ...]]:
    run = schema.run
    names = ("id", "run_uuid", "key", "job", "strand_id", "started_at")
    chosen = select(*(run.c[name] for name in names), schema.BEGAN.label("began")).where(
        run.c.source_id == job.source_id, run.c.job == job.name, *behind(before), *_since(since_ms)
    )
    return chosen.order_by(*NEWEST_FIRST).limit(AT_ONCE)


def _since(since_ms: int | None) -> tuple[ColumnElement[bool], ...]:
    run = schema.run
    return () if since_ms is None else (or_(run.c.updated_at >= since_ms, run.c.started_at >= since_ms),)


def _waiting(conn: Connection, sink_id: int, rows: Sequence[Row[*tuple[Any, ...]]]) -> set[int]:
    """Runs of strands that the sink is owed something of, or that are in doubt there."""
    lane, doubt = schema.lane, schema.doubt
    strands = {row.strand_id for row in rows}
    owed = set(conn.scalars(select(lane.c.strand_id).where(lane.c.sink_id == sink_id, lane.c.strand_id.in_(strands))))
    numbers = [row.id for row in rows]
    doubted = conn.scalars(select(doubt.c.run_id).where(doubt.c.sink_id == sink_id, doubt.c.run_id.in_(numbers)))
    return {row.id for row in rows if row.strand_id in owed} | set(doubted)


def _unbarred(conn: Connection, sink_id: int, rows: Sequence[Row[*tuple[Any, ...]]]) -> list[Row[*tuple[Any, ...]]]:
    """Those that no backfill made for other sinks alone."""
    barred = restriction.barred(conn, sink_id, {row.strand_id for row in rows})
    return [row for row in rows if row.strand_id not in barred]


def _refused(conn: Connection, sink_id: int, rows: Sequence[Row[*tuple[Any, ...]]]) -> set[tuple[int, int]]:
    table = schema.parked
    of_strands = table.c.sink_id == sink_id, table.c.strand_id.in_({row.strand_id for row in rows})
    return {(strand, seq) for strand, seq in conn.execute(select(table.c.strand_id, table.c.seq).where(*of_strands))}


def _events(
    conn: Connection, rows: Sequence[Row[*tuple[Any, ...]]], wanted: frozenset[EventKind]
) -> defaultdict[int, list[AcknowledgedEvent]]:
    """Of each run, by number, the wanted ones that are kept, in order."""
    event, found = schema.event, defaultdict[int, list[AcknowledgedEvent]](list)
    columns = select(*(event.c[name] for name in ("run_id", "id", "seq", "kind", "happened_at")))
    of_runs = event.c.strand_id.in_({row.strand_id for row in rows}), event.c.run_id.in_([row.id for row in rows])
    for run_id, number, seq, kind, happened_at in conn.execute(columns.where(*of_runs).order_by(event.c.seq)):
        if (one := EventKind(kind)) in wanted:
            found[run_id].append(AcknowledgedEvent(seq, one, happened_at, number))
    return found


def _uncompared(
    of: SinkDetail, waits: bool, events: Sequence[AcknowledgedEvent], kept: Sequence[AcknowledgedEvent]
) -> Uncompared | None:
    if not events:
        return Uncompared.REMOVED
    if waits:
        return Uncompared.WAITING
    if any(event.kind.terminal and event.number < of.since_event for event in events):
        return Uncompared.EARLIER
    return None if kept else Uncompared.PARKED


def _bodies(conn: Connection, events: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    event = schema.event
    columns = select(event.c.strand_id, event.c.seq, event.c.body)
    rows = rows_of(conn, columns.where(tuple_(event.c.strand_id, event.c.seq).in_(KEYS)), events)
    return {(strand, seq): bytes(body) for strand, seq, body in rows}


def _run(
    of: SinkDetail,
    row: Row[*tuple[Any, ...]],
    kept: Sequence[AcknowledgedEvent],
    events: Sequence[AcknowledgedEvent],
    body: bytes,
) -> AcknowledgedRun:
    takes_start = EventKind.START in of.wanted
    was_removed = takes_start and all(event.kind is not EventKind.START for event in events)
    started_at = row.started_at if was_removed else None
    has_start = not takes_start or any(event.kind is EventKind.START for event in kept)
    return AcknowledgedRun(row.id, row.run_uuid, row.key, row.job, started_at, tuple(kept), body, has_start)


def known(conn: Connection, run_ids: Sequence[str]) -> set[str]:
    """Which of these run ids the ledger has."""
    ours = select(schema.run.c.run_uuid).where(schema.run.c.run_uuid.in_(KEYS))
    return {run_id for (run_id,) in rows_of(conn, ours, run_ids)}
