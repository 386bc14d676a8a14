"""What a sink is owed and what went wrong there, in sums and short lists: for its page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from collector.ledger import run_queries, schema
from collector.ledger.queries import MANY
from collector.ledger.run_queries import RunRow

_RETRIED = text("attempts > 0")
"""As the index `lane_retry` has it: with a value in place of the zero it would not be used."""


@dataclass(frozen=True, slots=True)
class Cause:
    """`parked` events were refused for it, and for `retried` attempts are repeated; of the latest 10,000 of each."""

    cause: str
    parked: int
    retried: int


@dataclass(frozen=True, slots=True)
class SourceBacklog:
    """What a sink is owed of the runs of a source."""

    source: str
    pending: int
    pending_bytes: int
    parked: int


@dataclass(frozen=True, slots=True)
class UnansweredRun:
    """An attempt with an event of this run was not answered, so that it may have had no effect: the run is looked up at the sink at
    `check_at`, None until it ended. Times in epoch milliseconds.
    """

    run: RunRow
    since: int
    check_at: int | None


def causes(conn: Connection, sink_id: int, limit: int) -> list[Cause]:
    """The most frequent first."""
    parked, lane = schema.parked, schema.lane
    refused = select(parked.c.cause).where(parked.c.sink_id == sink_id, parked.c.superseded_at.is_(None)).limit(MANY)
    repeated = select(lane.c.cause).where(lane.c.sink_id == sink_id, _RETRIED).order_by(lane.c.since).limit(MANY)
    counts = [Counter(words or "" for words in conn.scalars(rows)) for rows in (refused, repeated)]
    most = (counts[0] + counts[1]).most_common(limit)
    return [Cause(words, counts[0][words], counts[1][words]) for words, _ in most]


def by_source(conn: Connection, sink_id: int) -> Sequence[SourceBacklog]:
    """By name, those of which something is owed or parked."""
    tally, source = schema.tally, schema.source
    counts = (tally.c.pending, tally.c.pending_bytes, tally.c.parked)
    rows = select(source.c.name, *counts).join(source, source.c.id == tally.c.source_id)
    found = conn.execute(rows.where(tally.c.sink_id == sink_id).order_by(source.c.name))
    return [SourceBacklog(*row) for row in found if row.pending or row.parked]


def unanswered(conn: Connection, sink_id: int, limit: int) -> list[UnansweredRun]:
    """The newest runs first."""
    doubt, run = schema.doubt, schema.run
    rows = select(run.c.run_uuid, doubt.c.since, doubt.c.check_at).join(run, run.c.id == doubt.c.run_id)
    found = conn.execute(rows.where(doubt.c.sink_id == sink_id).order_by(doubt.c.run_id.desc()).limit(limit)).all()
    runs = run_queries.runs_by_uuid(conn, [uuid for uuid, *_ in found])
    return [UnansweredRun(runs[uuid], since, check_at) for uuid, since, check_at in found if uuid in runs]
