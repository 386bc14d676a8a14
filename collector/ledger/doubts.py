"""Runs whose state at a sink may be wrong: the sink is asked for it after their terminal event.

An attempt without an answer may still be applied later, after its successors (Marquez 0.51 does that), and so may one
that was under way when its process was killed.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import BigInteger, Connection, and_, bindparam, delete, func, literal, select, tuple_, update

from collector.ledger import lanes, schema
from collector.ledger.leases import Lease, fence
from collector.ledger.shards import WHOLE, Shard
from collector.ledger.statements import KEYS, changed, upsert
from collector.model import EventKind, Outgoing

_TERMINAL = sorted(kind.value for kind in EventKind if kind.terminal)


def note(conn: Connection, sink_id: int, runs: Iterable[int], now_ms: int) -> None:
    """Mark these runs as in doubt; one that is in doubt already keeps its time."""
    if rows := [{"sink_id": sink_id, "run_id": run, "since": now_ms} for run in sorted(runs)]:
        conn.execute(upsert(conn.dialect.name, schema.doubt).on_conflict_do_nothing(), rows)


def note_from_ahead(conn: Connection, sink_id: int, now_ms: int) -> None:
    """The runs whose event heads a lane and was committed later than now, by a clock that ran ahead, are in doubt."""
    lane, event = schema.lane, schema.event
    heads = (
        select(lane.c.sink_id, event.c.run_id, literal(now_ms, BigInteger))
        .distinct()
        .join_from(lane, event, and_(event.c.strand_id == lane.c.strand_id, event.c.seq == lane.c.next_seq))
        .where(lane.c.sink_id == sink_id, lane.c.since > now_ms)
    )
    noted = upsert(conn.dialect.name, schema.doubt).from_select(["sink_id", "run_id", "since"], heads)
    conn.execute(noted.on_conflict_do_nothing())


def schedule(conn: Connection, sink_id: int, runs: Sequence[int], check_at_ms: int) -> int:
    """The terminal events of these runs were acknowledged: look then at those in doubt; how many."""
    return changed(conn, _SCHEDULE, sorted(runs), of_sink=sink_id, at=check_at_ms)


_OF_RUNS = schema.doubt.c.sink_id == bindparam("of_sink"), schema.doubt.c.run_id.in_(KEYS)
_SCHEDULE = update(schema.doubt).where(*_OF_RUNS).values(check_at=bindparam("at"), attempts=0)


def look(
    conn: Connection, sink_id: int, now_ms: int, limit: int, shard: Shard = WHOLE
) -> tuple[list[Outgoing], int | None]:
    """What is `due`, and when the next of the sink is or was due."""
    next_ms = next_due(conn, sink_id)
    is_due = next_ms is not None and next_ms <= now_ms
    return due(conn, sink_id, now_ms, limit, shard) if is_due else [], next_ms


def due(conn: Connection, sink_id: int, now_ms: int, limit: int, shard: Shard = WHOLE) -> list[Outgoing]:
    """Terminal events of a shard, acknowledged before, whose runs are to be looked at; `attempts` counts the looks."""
    table, run, event = schema.doubt, schema.run, schema.event
    waiting = select(table.c.run_id, table.c.check_at, table.c.attempts).where(
        table.c.sink_id == sink_id, table.c.check_at.is_not(None), table.c.check_at <= now_ms
    )
    if shard != WHOLE:
        waiting = waiting.join(run, run.c.id == table.c.run_id).where(*shard.conditions(run.c.strand_id))
    chosen = waiting.order_by(table.c.check_at).limit(limit).subquery("chosen")
    its_end = event.c.strand_id == run.c.strand_id, event.c.run_id == run.c.id, event.c.kind.in_(_TERMINAL)
    ends = (
        select(*lanes.outgoing_columns(run.c.source_id, chosen.c.attempts, event.c.fault))
        .join_from(chosen, run, run.c.id == chosen.c.run_id)
        .join(event, and_(*its_end))
        .order_by(chosen.c.check_at)
    )
    return [lanes.outgoing(row) for row in conn.execute(ends)]


def next_due(conn: Connection, sink_id: int) -> int | None:
    """When to look next, None with no acknowledged run in doubt."""
    at: int | None = conn.scalar(_NEXT_DUE, {"of_sink": sink_id})
    return at


_NEXT_DUE = select(func.min(schema.doubt.c.check_at)).where(
    schema.doubt.c.sink_id == bindparam("of_sink"), schema.doubt.c.check_at.is_not(None)
)


def resolve(conn: Connection, lease: Lease, sink_id: int, run_ids: Iterable[int]) -> None:
    """The sink has the right final state of these runs: close their doubts."""
    fence(conn, lease)
    changed(conn, delete(schema.doubt).where(*_OF_RUNS), sorted(run_ids), of_sink=sink_id)


def postpone(conn: Connection, lease: Lease, sink_id: int, run_id: int, check_at_ms: int) -> None:
    """Look again at this time."""
    fence(conn, lease)
    later = update(schema.doubt).where(*_OF_RUNS)
    changed(conn, later.values(check_at=check_at_ms, attempts=schema.doubt.c.attempts + 1), [run_id], of_sink=sink_id)


def forget_dropped_ends(conn: Connection, sink_id: int, events: Sequence[tuple[int, int]]) -> None:
    """These events, by strand and seq, will never be sent: where one is the end of a run, close the doubt."""
    table, event = schema.doubt, schema.event
    ends = select(event.c.run_id).where(tuple_(event.c.strand_id, event.c.seq).in_(KEYS), event.c.kind.in_(_TERMINAL))
    changed(conn, delete(table).where(table.c.sink_id == sink_id, table.c.run_id.in_(ends)), events)
