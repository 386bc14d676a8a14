"""What the ledger holds of one source or sink, and how `forget` removes all of it."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, delete, func, select, update

from collector.errors import LedgerError
from collector.ledger import replicas, retirement, schema
from collector.ledger.retirement import FORGOTTEN, Retired
from collector.numerals import counted

RUNS = 200
"""Runs that go in one step, with all that is of their strands."""


class TargetKind(StrEnum):
    SOURCE = "source"
    SINK = "sink"


@dataclass(frozen=True, slots=True)
class Owed:
    """Events of one source that one sink has not got: `pending` are to be sent, `parked` were refused."""

    source: str
    sink: str
    pending: int
    parked: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """`runs` are those of a source, `open` of them without an end; `requests` are undone ones."""

    kind: TargetKind
    id: int
    name: str
    runs: int
    open: int
    owed: tuple[Owed, ...]
    requests: int

    @property
    def pending(self) -> int:
        return sum(each.pending for each in self.owed)

    @property
    def parked(self) -> int:
        return sum(each.parked for each in self.owed)

    def counts(self) -> dict[str, int]:
        """For people and scripts."""
        runs = {"runs": self.runs, "open_runs": self.open}
        return {**runs, "undelivered": self.pending, "parked": self.parked, "requests": self.requests}


@dataclass(frozen=True, slots=True)
class OpenRun:
    key: str
    run_uuid: str
    job: str
    state: str


def names(conn: Connection) -> dict[TargetKind, list[str]]:
    """All names in the ledger, also of those that left the configuration."""
    tables = {TargetKind.SOURCE: schema.source, TargetKind.SINK: schema.sink}
    return {
        kind: list(conn.scalars(select(table.c.name).order_by(table.c.name)).all()) for kind, table in tables.items()
    }


def of(conn: Connection, kind: TargetKind, name: str) -> Inventory | None:
    """None for a name that is not in the ledger."""
    table = schema.source if kind is TargetKind.SOURCE else schema.sink
    number: int | None = conn.scalar(select(table.c.id).where(table.c.name == name))
    if number is None:
        return None
    runs, still_open = _runs(conn, number) if kind is TargetKind.SOURCE else (0, 0)
    request = schema.request
    undone = request.c.target == f"{kind}:{name}", request.c.done_at.is_(None)
    requests = conn.scalar(select(func.count()).select_from(request).where(*undone)) or 0
    return Inventory(kind, number, name, runs, still_open, _owed(conn, kind, number), requests)


def open_runs(conn: Connection, source_id: int, limit: int) -> list[OpenRun]:
    """Runs of a source that have no end, oldest first."""
    run = schema.run
    columns = select(*(run.c[name] for name in OpenRun.__slots__))
    rows = columns.where(run.c.source_id == source_id, run.c.ended_at.is_(None)).order_by(run.c.id).limit(limit)
    return [OpenRun(*row) for row in conn.execute(rows)]


def begin(conn: Connection, kind: TargetKind, name: str, now_ms: int, *, drop_undelivered: bool) -> Inventory:
    """Retire this source or sink, so that all that is held of it is removed, if need be at the next start; returns
    what it holds now. Its undone requests are answered. Raises `LedgerError` for one that is not known or that a live replica has,
    and for one with events to be sent unless they may be dropped.
    """
    held = of(conn, kind, name)
    if held is None:
        raise LedgerError(f"the ledger has no {kind} {name!r}; nothing was removed")
    if has_it := [each.id for each in replicas.live(conn) if f"{kind}:{name}" in each.leases]:
        raise LedgerError(f"{kind} {name} is in the configuration of replica {has_it[0]}; nothing was removed")
    if held.pending and not drop_undelivered:
        raise LedgerError(f"{undelivered(held)}; nothing was removed")
    table = schema.source if kind is TargetKind.SOURCE else schema.sink
    conn.execute(update(table).where(table.c.id == held.id).values(retired_at=FORGOTTEN))
    retirement.answer_requests(conn, f"{kind}:{name}", now_ms)
    return held


def undelivered(held: Inventory) -> str:
    """A sentence that says how many events are still to be sent."""
    where = ", ".join(
        f"{each.pending:,} to sink {each.sink}"
        if held.kind is TargetKind.SOURCE
        else f"{each.pending:,} of source {each.source}"
        for each in held.owed
        if each.pending
    )
    return f"{held.kind} {held.name} has {counted(held.pending, 'undelivered event')} ({where})"


def remove_runs(conn: Connection, source: Retired) -> int:
    """Remove up to 200 runs of a forgotten source with the events of their strands and all that sinks are owed, have parked or
    doubt of them; how many, 0 once none is left. Nothing of a source that came back.
    """
    run = schema.run
    if conn.scalar(select(schema.source.c.retired_at).where(schema.source.c.id == source.id)) != FORGOTTEN:
        return 0
    some = conn.execute(select(run.c.id, run.c.strand_id).where(run.c.source_id == source.id).limit(RUNS)).all()
    numbers, strands = [number for number, _ in some], sorted({strand for _, strand in some})
    sinks = conn.scalars(select(schema.sink.c.id)).all()
    for table in (schema.lane, schema.parked, schema.acknowledgement):
        conn.execute(delete(table).where(table.c.sink_id.in_(sinks), table.c.strand_id.in_(strands)))
    conn.execute(delete(schema.event).where(schema.event.c.strand_id.in_(strands)))
    conn.execute(delete(schema.doubt).where(schema.doubt.c.sink_id.in_(sinks), schema.doubt.c.run_id.in_(numbers)))
    conn.execute(delete(run).where(run.c.id.in_(numbers)))
    if not some:
        conn.execute(delete(schema.skip).where(schema.skip.c.source_id == source.id))
    return len(some)


def _runs(conn: Connection, source_id: int) -> tuple[int, int]:
    run = schema.run
    counts = select(func.count(), func.count().filter(run.c.ended_at.is_(None))).where(run.c.source_id == source_id)
    total, still_open = conn.execute(counts).one()
    return total, still_open


def _owed(conn: Connection, kind: TargetKind, number: int) -> tuple[Owed, ...]:
    tally, source, sink = schema.tally, schema.source, schema.sink
    mine = tally.c.source_id if kind is TargetKind.SOURCE else tally.c.sink_id
    rows = (
        select(source.c.name, sink.c.name, tally.c.pending, tally.c.parked)
        .join_from(tally, source, source.c.id == tally.c.source_id)
        .join(sink, sink.c.id == tally.c.sink_id)
        .where(mine == number, (tally.c.pending != 0) | (tally.c.parked != 0))
        .order_by(source.c.name, sink.c.name)
    )
    return tuple(Owed(*row) for row in conn.execute(rows))
