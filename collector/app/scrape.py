"""Reads the metrics of a scrape from the ledger."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

from sqlalchemy import Connection

from collector.clock import Clock, to_ms
from collector.ledger import job_queries, queries, replicas
from collector.ledger.queries import SourceRow
from collector.model import RunState
from exporters.metrics.jobs import JobState
from exporters.metrics.snapshot import JOBS_AT_MOST, SinkBacklog, Snapshot, SourceState

_NO_SHARES: Mapping[str, int] = MappingProxyType({})


def snapshot(
    conn: Connection,
    clock: Clock,
    sources: Mapping[str, timedelta],
    ledger_bytes: int,
    ledger_limit: int,
    sink_shares: Mapping[str, int] = _NO_SHARES,
) -> Snapshot:
    """For these sources, each with the time after which its runs are stale, and the sinks that are configured, each with
    the bytes of its share of the ledger, all of it unless named.
    """
    now = clock.now()
    rows = [row for row in queries.sources(conn) if row.name in sources]
    all_counts = job_queries.job_counts(conn)
    counts = {row.id: all_counts[row.id] for row in rows if row.id in all_counts}
    shown = shares(counts, JOBS_AT_MOST)
    stale = {row.id: job_queries.overdue(conn, row.id, to_ms(now - sources[row.name])) for row in rows}
    live = replicas.live(conn)
    return Snapshot(
        at=now.timestamp(),
        jobs=_jobs(conn, shown, stale),
        sources=[_of_source(row, counts.get(row.id, 0) - shown.get(row.id, 0)) for row in rows],
        sinks=[
            SinkBacklog(
                row.name,
                row.pending,
                row.parked,
                _seconds(row.oldest),
                owed_bytes=row.owed_bytes,
                share_bytes=sink_shares.get(row.name, ledger_limit),
                refused=row.refused,
            )
            for row in queries.sinks(conn)
            if row.retired_at is None
        ],
        ledger_bytes=ledger_bytes,
        ledger_limit=ledger_limit,
        replicas=len(live),
        replica_kinds=len({(each.version, each.fingerprint) for each in live}),
    )


def _jobs(conn: Connection, shown: Mapping[int, int], stale: Mapping[int, Mapping[str, int]]) -> list[JobState]:
    return [
        _job(row, stale[number].get(row.name, 0))
        for number, most in shown.items()
        for row in job_queries.jobs(conn, most, source_id=number)
    ]


def shares(counts: Mapping[int, int], most: int) -> dict[int, int]:
    """How many of each are shown when there is room for `most`: the small ones completely, the large ones share the rest."""
    shown: dict[int, int] = {}
    for number, (key, count) in enumerate(sorted(counts.items(), key=lambda pair: pair[1])):
        shown[key] = min(count, most // (len(counts) - number))
        most -= shown[key]
    return shown


def _of_source(row: SourceRow, left_out: int) -> SourceState:
    return SourceState(
        source=row.name,
        active=row.active,
        waiting=row.open.get(RunState.WAITING, 0),
        waiting_since=_seconds(row.waiting_since),
        abandoned=row.abandoned,
        succeeded_at=_seconds(row.polled_at),
        jobs_left_out=left_out,
    )


def _job(row: job_queries.JobRow, stale: int) -> JobState:
    return JobState(
        source=row.source,
        job=row.name,
        name=row.description or row.name,
        state=row.state,
        started_at=_seconds(row.started_at),
        ended_at=_seconds(row.ended_at),
        outcomes={RunState.SUCCEEDED: row.succeeded, RunState.FAILED: row.failed, RunState.CANCELED: row.canceled},
        stale=stale,
        schedule=row.schedule or "",
        duration_bounded=row.duration_bounded,
    )


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
