"""Retention, in short steps: each is a separate write, so that other writes come between."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    column,
    delete,
    exists,
    func,
    or_,
    select,
    text,
    tuple_,
)

from collector.ledger import acknowledgements, doubts, graph, lanes, schema, tallies
from collector.ledger.run_order import NEWEST_FIRST
from collector.ledger.statements import KEYS, changed, rows_of
from collector.ledger.stored import is_open
from collector.model import RunState

STEP = 1000
"""Rows looked at in one step: 17 ms."""

_ENDED = sorted(state.value for state in RunState if state.terminal)
_LAST_EVENTS = 20 * 1024
"""Bytes that a run takes for a START and a terminal event with 40 columns, indexes and all."""
_OVER = sorted(state.value for state in RunState if state.terminal or state is RunState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Swept:
    """One step: go on with `after`, None at the end."""

    after: int | None
    removed: int


@dataclass(frozen=True, slots=True)
class Size:
    """`used` is what comes back when events are removed: in SQLite without free pages, which new events use again, in
    PostgreSQL the bytes of the events. `file` is what the disk holds. In SQLite both count the `log` ahead of the file, too.
    `coming` is about what runs that ended will take once their last events are made.
    """

    file: int
    used: int
    log: int = 0
    coming: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a sink is owed, in bytes of events, and how many events it refused."""

    sink: str
    is_retired: bool
    parked: int
    owed_bytes: int


def expire_events(conn: Connection, after: int, older_than_ms: int) -> Swept:
    """Remove delivered events that were committed before, among the next 1,000. Start with `after=0`. What is
    pending, parked or in doubt for a configured sink stays, and so do the events of open runs.
    """
    event, run = schema.event, schema.run
    upto = _upto(conn, event, after)
    if upto is None:
        return Swept(None, 0)
    among = event.c.id > after, event.c.id <= upto
    sinks = sorted(lanes.filters(conn))
    still_open = exists().where(run.c.id == event.c.run_id, run.c.ended_at.is_(None), run.c.abandoned_at.is_(None))
    old = delete(event).where(*among, event.c.created_at < older_than_ms, ~still_open)
    for wanted in _wanted(sinks):
        old = old.where(~wanted)
    gone = conn.execute(old.returning(event.c.run_id, func.length(event.c.body), event.c.strand_id)).all()
    _shrink(conn, gone)
    acknowledgements.forget(conn, (strand_id for _, _, strand_id in gone))
    removed = len(gone)
    return Swept(upto if _has_old(conn, upto, older_than_ms) else None, removed)


def _shrink(conn: Connection, removed: Sequence[Row[int, int, int]]) -> None:
    """Take the bytes of these events, by run, from those of their sources."""
    run, sizes, gone = schema.run, Counter[int](), Counter[int]()
    for run_id, size, _ in removed:
        sizes[run_id] += size
    for run_id, source_id in rows_of(conn, select(run.c.id, run.c.source_id).where(run.c.id.in_(KEYS)), sorted(sizes)):
        gone[source_id] -= sizes[run_id]
    tallies.grow(conn, gone)


def _wanted(sinks: Sequence[int]) -> Sequence[ColumnElement[bool]]:
    """Reasons to keep an event, by index steps as each key begins with the sink."""
    event, lane, parked, doubt = schema.event, schema.lane, schema.parked, schema.doubt
    of_lane = lane.c.sink_id.in_(sinks), lane.c.strand_id == event.c.strand_id, lane.c.next_seq <= event.c.seq
    of_parked = parked.c.sink_id.in_(sinks), parked.c.strand_id == event.c.strand_id, parked.c.seq == event.c.seq
    of_doubt = doubt.c.sink_id.in_(sinks), doubt.c.run_id == event.c.run_id
    return exists().where(*of_lane), exists().where(*of_parked), exists().where(*of_doubt)


def _has_old(conn: Connection, after: int, older_than_ms: int) -> bool:
    """Whether going on is worth it: numbers and commit times rise together."""
    event = schema.event
    following = select(event.c.created_at).where(event.c.id > after).order_by(event.c.id).limit(1)
    at: int | None = conn.scalar(following)
    return at is not None and at < older_than_ms


def _upto(conn: Connection, table: Table, after: int) -> int | None:
    """The last of the next 1,000 numbers of a table, None at its end."""
    some = select(table.c.id).where(table.c.id > after).order_by(table.c.id).limit(STEP).subquery()
    upto: int | None = conn.scalar(select(func.max(some.c.id)))
    return upto


def newest_runs(conn: Connection, sources: Iterable[int]) -> dict[int, int]:
    """When the newest run of each of these sources began, in epoch milliseconds, where it has one."""
    run = schema.run
    latest = select(run.c.source_id, schema.BEGAN).order_by(*NEWEST_FIRST).limit(STEP)
    found: dict[int, int] = {}
    for source_id, began in conn.execute(latest):
        found.setdefault(source_id, began)
    for source_id in set(sources) - found.keys():  # little ran there lately, so this reads all its runs
        began = conn.scalar(select(func.max(schema.BEGAN)).where(run.c.source_id == source_id))
        if began is not None:
            found[source_id] = began
    return found


def expire_runs(conn: Connection, after: int, older_than_ms: Mapping[int, int]) -> Swept:
    """Remove ended runs without events, last touched before their source's time, among the next 1,000. The time must
    lie before the look-back: the run is what makes a repeated observation silent. One that ended after it stays, too:
    our clock may have been far behind when it was seen.

    A source that is not named keeps its runs. A root stays as long as its children.
    """
    run, event = schema.run, schema.event
    upto = _upto(conn, run, after)
    if upto is None:
        return Swept(None, 0)
    child = run.alias("child")
    keep = (
        exists().where(event.c.strand_id == run.c.strand_id, event.c.run_id == run.c.id),
        exists().where(child.c.parent_id == run.c.id),
    )
    over = or_(run.c.ended_at.is_not(None), run.c.abandoned_at.is_not(None))
    removed = 0
    for source_id, before in sorted(older_than_ms.items()):
        ended = func.coalesce(run.c.ended_at, 0) < before
        old = run.c.id > after, run.c.id <= upto, run.c.source_id == source_id, run.c.updated_at < before, over, ended
        removed += conn.execute(delete(run).where(*old, *(~reason for reason in keep))).rowcount
    return Swept(upto, removed)


def expire_parked(conn: Connection, older_than_ms: int, limit: int = 1000) -> dict[int, int]:
    """Forget events that were parked before, except those on their way again; how many per sink."""
    table = schema.parked
    old = (
        select(table.c.sink_id, table.c.strand_id, table.c.seq, table.c.source_id)
        .where(table.c.parked_at < older_than_ms, table.c.retry_at.is_(None))
        .limit(limit)
    )
    gone: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for sink_id, strand_id, seq, source_id in conn.execute(old):
        gone[sink_id].append((strand_id, seq, source_id))
    for sink_id, rows in sorted(gone.items()):
        events = [(strand_id, seq) for strand_id, seq, _ in rows]
        doubts.forget_dropped_ends(conn, sink_id, events)
        of_events = tuple_(table.c.strand_id, table.c.seq).in_(KEYS)
        changed(conn, delete(table).where(table.c.sink_id == sink_id, of_events), events)
        tallies.add(conn, sink_id, Counter(), tallies.less(source_id for _, _, source_id in rows))
    return {sink_id: len(rows) for sink_id, rows in gone.items()}


def prune(conn: Connection, older_than_ms: int) -> dict[str, int]:
    """Remove requests done, skips last seen, idle jobs last changed and doubts raised before about runs that will
    never end; how many of each, by table.
    """
    request, skip, job, doubt, run = schema.request, schema.skip, schema.job, schema.doubt, schema.run
    will_end = exists().where(
        run.c.id == doubt.c.run_id, or_(run.c.abandoned_at.is_(None), run.c.ended_at.is_not(None))
    )
    old = {
        "request": delete(request).where(request.c.done_at < older_than_ms),
        "skip": delete(skip).where(skip.c.last_at < older_than_ms),
        "job": delete(job).where(job.c.updated_at < older_than_ms, job.c.state.in_(_OVER)),
        "doubt": delete(doubt).where(doubt.c.since < older_than_ms, doubt.c.check_at.is_(None), ~will_end),
    }
    removed = {name: conn.execute(statement).rowcount for name, statement in old.items()}
    if removed["job"]:
        graph.forget_lost(conn)
    return removed


def size(conn: Connection) -> Size:
    """How much room the ledger takes."""
    if conn.dialect.name == "postgresql":
        on_disk, used, ended = conn.execute(_SIZES).one()
        return Size(int(on_disk), int(used), coming=ended * _LAST_EVENTS)
    page, pages, free, path = conn.exec_driver_sql(_PAGES).one()
    log = _log_size(path)
    return Size(page * pages + log, page * (pages - free) + log, log, (conn.scalar(_ENDED_RUNS) or 0) * _LAST_EVENTS)


_PAGES = (
    "SELECT page_size, page_count, freelist_count, file FROM pragma_page_size, pragma_page_count, "
    "pragma_freelist_count, pragma_database_list WHERE name = 'main'"
)
_ENDED_RUNS = select(func.count()).where(schema.run.c.state.in_(_ENDED), *is_open(schema.run))
"""Runs whose details are asked for now: they get their events whether or not polling pauses."""


def _log_size(path: str) -> int:
    try:
        return Path(f"{path}-wal").stat().st_size
    except OSError:  # there is none: it was cut off, or the file was lost, which the ledger's guard reports
        return 0


_ON_DISK = text(
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) AS bytes FROM pg_class "
    "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
).columns(column("bytes"))
_SIZES = select(
    _ON_DISK.scalar_subquery(),
    select(func.coalesce(func.sum(schema.source.c.event_bytes), 0)).scalar_subquery(),
    _ENDED_RUNS.scalar_subquery(),
)
"""In PostgreSQL, in one round trip."""


def backlogs(conn: Connection) -> list[Backlog]:
    """Of all sinks, those that left the configuration too."""
    return [
        Backlog(name, retired_at is not None, int(parked or 0), int(owed or 0))
        for name, retired_at, parked, owed in conn.execute(_BACKLOGS)
    ]


_BACKLOGS = (
    select(
        schema.sink.c.name,
        schema.sink.c.retired_at,
        *map(func.sum, (schema.tally.c.parked, schema.tally.c.pending_bytes)),
    )
    .outerjoin(schema.tally, schema.tally.c.sink_id == schema.sink.c.id)
    .group_by(schema.sink.c.id, schema.sink.c.name, schema.sink.c.retired_at)
)
