"""Sinks and sources that left the configuration, and requests that no holder of a lease claimed."""

import json
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, tuple_, update

from collector.ledger import requests, run_rows, schema, skips
from collector.ledger.leases import BARRED
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.retention import STEP
from collector.model import Skip, SkipKind

_UNCLAIMED = "no replica claimed this request in time, so it was not done; repeat the command"
_FORGOTTEN = "the source or sink was removed by 'forget' before this request was claimed, so it was not done"
_UNANSWERED = "the process that began this request ended without an answer: it is unknown whether it was done"

FORGOTTEN = 1
"""`retired_at` of what `forget` removes: it is removed at once, whatever the retention."""


@dataclass(frozen=True, slots=True)
class Retired:
    """A sink or source that was retired longer ago than the retention, or that `forget` removes."""

    id: int
    name: str
    retired_at: int

    @property
    def forgotten(self) -> bool:
        return self.retired_at == FORGOTTEN


def retired_sinks(conn: Connection, older_than_ms: int) -> list[Retired]:
    """Sinks that left before."""
    sink = schema.sink
    left = select(sink.c.id, sink.c.name, sink.c.retired_at).where(sink.c.retired_at < older_than_ms)
    return [Retired(*row) for row in conn.execute(left.order_by(sink.c.id))]


def retired_sources(conn: Connection, older_than_ms: int) -> list[Retired]:
    """Sources that left before, their look-back earlier."""
    source = schema.source
    over = or_(
        source.c.retired_at + func.coalesce(source.c.lookback_ms, 0) < older_than_ms, source.c.retired_at == FORGOTTEN
    )
    left = select(source.c.id, source.c.name, source.c.retired_at).where(over).order_by(source.c.id)
    return [Retired(*row) for row in conn.execute(left)]


def remove_sink(conn: Connection, sink: Retired) -> int:
    """Remove up to 1,000 rows of each kind of a departed sink, and the sink itself once there are none; how many rows
    that was, 0 once nothing is left. From the first step on its name is free: a sink of that name is then a new one.
    """
    if not conn.scalar(select(schema.sink.c.retired_at).where(schema.sink.c.id == sink.id)):
        return 0
    away = f"{sink.name}~{sink.id}" if not sink.name.endswith(f"~{sink.id}") else sink.name
    conn.execute(update(schema.sink).where(schema.sink.c.id == sink.id).values(name=away))
    removed = 0
    for table in (schema.lane, schema.parked, schema.doubt, schema.acknowledgement):
        key = [column for column in table.primary_key.columns if column.name != "sink_id"]
        some = select(*key).where(table.c.sink_id == sink.id).limit(STEP)
        rows = delete(table).where(table.c.sink_id == sink.id, tuple_(*key).in_(some))
        removed += conn.execute(rows).rowcount
    if removed:
        return removed
    conn.execute(delete(schema.tally).where(schema.tally.c.sink_id == sink.id))
    return conn.execute(delete(schema.sink).where(schema.sink.c.id == sink.id)).rowcount


def abandon_runs(conn: Connection, source: Retired, now_ms: int) -> int:
    """Abandon up to 1,000 open runs of a departed source, each listed as a skip; how many, 0 once none is left."""
    run = schema.run
    still_open = run.c.source_id == source.id, run.c.ended_at.is_(None), run.c.abandoned_at.is_(None)
    keys = conn.scalars(select(run.c.key).where(*still_open).limit(STEP)).all()
    run_rows.set_aside(conn, source.id, keys, now_ms)
    cause = "its source left the configuration before the end of the run was seen"
    skips.note(conn, source.id, [Skip(SkipKind.VANISHED, key, cause) for key in keys], now_ms)
    return len(keys)


def remove_source(conn: Connection, source: Retired) -> bool:
    """Remove a departed source with its memory and jobs once it has no run, lane, parked event or skip; whether it went."""
    has_more = [
        exists().where(table.c.source_id == source.id)
        for table in (schema.run, schema.lane, schema.parked, schema.skip)
    ]
    if conn.scalar(select(or_(*has_more))):
        return False
    for table in (schema.memory, schema.job, schema.dataset_use, schema.tally):
        conn.execute(delete(table).where(table.c.source_id == source.id))
    return bool(conn.execute(delete(schema.source).where(schema.source.c.id == source.id)).rowcount)


def expire_requests(conn: Connection, older_than_ms: int, now_ms: int) -> int:
    """Answer requests made before that no holder claimed, or whose holder is gone; how many. A trigger that was begun is
    doubtful, a backfill that was begun goes on whenever its lease is held again, all else failed.
    """
    request = schema.request
    goes_on = and_(request.c.kind == RequestKind.BACKFILL, request.c.answer.is_not(None))
    part = request.alias("part")
    has_parts = exists().where(part.c.part_of == request.c.id)
    answered = _answer(conn, and_(request.c.created_at < older_than_ms, ~goes_on, ~has_parts), _UNCLAIMED, now_ms)
    requests.join_done(conn, now_ms)
    return answered


def answer_requests(conn: Connection, target: str, now_ms: int) -> int:
    """`expire_requests` for those to a source or sink that is forgotten, however old."""
    request = schema.request
    whole = request.alias("whole")
    parts = request.c.part_of.in_(select(whole.c.id).where(whole.c.target == target))
    return _answer(conn, or_(request.c.target == target, parts), _FORGOTTEN, now_ms)


def _answer(conn: Connection, which: ColumnElement[bool], unclaimed: str, now_ms: int) -> int:
    request, lease = schema.request, schema.lease
    is_held = lease.c.expires_at > schema.db_now(), lease.c.expires_at < BARRED
    held = exists().where(lease.c.name == request.c.target, *is_held)
    begun = request.c.state == RequestState.CLAIMED
    ways = (
        (request.c.state == RequestState.NEW, RequestState.FAILED, unclaimed),
        (begun & ~held & (request.c.kind == RequestKind.TRIGGER), RequestState.DOUBTFUL, _UNANSWERED),
        (begun & ~held, RequestState.FAILED, _UNANSWERED),
    )
    answered = 0
    for way, state, words in ways:
        answer = {"state": state, "answer": json.dumps({"error": words}), "done_at": now_ms}
        answered += conn.execute(update(request).where(request.c.done_at.is_(None), which, way).values(answer)).rowcount
    return answered
