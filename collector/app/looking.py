"""What pages, metrics and the command line show, read from the ledger and from the loops that run."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection

from collector.app.showing import moment
from collector.clock import Clock, to_ms
from collector.errors import ConfigurationError
from collector.ledger import reading
from collector.ledger.reading import SinkRow, SourceRow
from collector.model import RunState
from collector.polling.source import SourceStatus
from exporters.reports import SinkStatus
from exporters.snapshot import JOBS_AT_MOST, JobState, SinkBacklog, Snapshot, SourceState


def snapshot(
    conn: Connection, clock: Clock, sources: Collection[str], ledger_bytes: int, ledger_limit: int
) -> Snapshot:
    """What a scrape shows of the ledger, for these sources and the sinks that are configured."""
    rows = [row for row in reading.sources(conn) if row.name in sources]
    all_counts = reading.job_counts(conn)
    counts = {row.id: all_counts[row.id] for row in rows if row.id in all_counts}
    shown = shares(counts, JOBS_AT_MOST)
    return Snapshot(
        at=clock.now().timestamp(),
        jobs=[_job(row) for number, most in shown.items() for row in reading.jobs(conn, most, source_id=number)],
        sources=[_of_source(row, counts.get(row.id, 0) - shown.get(row.id, 0)) for row in rows],
        sinks=[
            SinkBacklog(row.name, row.pending, row.parked, _seconds(row.oldest))
            for row in reading.sinks(conn)
            if row.retired_at is None
        ],
        ledger_bytes=ledger_bytes,
        ledger_limit=ledger_limit,
    )


def shares(counts: Mapping[int, int], most: int) -> dict[int, int]:
    """How many of each are shown when there is room for `most`: a large one leaves the small ones theirs."""
    shown: dict[int, int] = {}
    for number, (key, count) in enumerate(sorted(counts.items(), key=lambda pair: pair[1])):
        shown[key] = min(count, most // (len(counts) - number))
        most -= shown[key]
    return shown


def _of_source(row: SourceRow, left_out: int) -> SourceState:
    return SourceState(
        source=row.name,
        active=_active(row),
        waiting=row.open.get(RunState.WAITING, 0),
        abandoned=row.abandoned,
        succeeded_at=_seconds(row.polled_at),
        jobs_left_out=left_out,
    )


def _active(row: SourceRow) -> int:
    return sum(row.open.values()) - row.abandoned


def _job(row: reading.JobRow) -> JobState:
    return JobState(
        source=row.source,
        job=row.name,
        name=row.description or row.name,
        state=row.state,
        started_at=_seconds(row.started_at),
        ended_at=_seconds(row.ended_at),
        outcomes={RunState.SUCCEEDED: row.succeeded, RunState.FAILED: row.failed, RunState.CANCELED: row.canceled},
    )


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def source_id(conn: Connection, name: str) -> int:
    """The ledger's number of a source. Raises `ConfigurationError` for one that it has never heard of."""
    known = {row.name: row.id for row in reading.sources(conn)}
    if name not in known:
        raise ConfigurationError([f"the ledger knows no source {name!r}; it knows {', '.join(known) or 'none'}"])
    return known[name]


def status(
    conn: Connection,
    clock: Clock,
    sources: Collection[str],
    polled: Mapping[str, SourceStatus],
    delivered: Mapping[str, SinkStatus],
    ledger: Mapping[str, Any],
) -> dict[str, Any]:
    """Sources and sinks as rows for people. `sources` are configured; `polled` and `delivered` come from the running
    loops and are empty without them.
    """
    now_ms = to_ms(clock.now())
    return {
        "running": bool(polled),
        "sources": [_source(row, polled.get(row.name), row.name in sources, now_ms) for row in reading.sources(conn)],
        "sinks": [_sink(row, delivered.get(row.name), now_ms) for row in reading.sinks(conn)],
        "ledger": dict(ledger),
    }


def status_of_loops(
    polled: Mapping[str, SourceStatus], delivered: Mapping[str, SinkStatus], ledger: Mapping[str, Any]
) -> dict[str, Any]:
    """As `status`, with the little that is known while the ledger cannot be read."""
    sources = [
        {"source": each.name, "state": each.result and each.result.value, "wrong": each.wrong}
        for each in polled.values()
    ]
    sinks = [
        {"sink": each.sink, "state": each.state.value, "in_flight": each.in_flight, "wrong": each.problem}
        for each in delivered.values()
    ]
    return {"running": True, "sources": sources, "sinks": sinks, "ledger": dict(ledger)}


def _source(row: SourceRow, polled: SourceStatus | None, configured: bool, now_ms: int) -> dict[str, Any]:
    state = polled.result.value if polled and polled.result else None
    return {
        "source": row.name,
        "state": state if configured else "retired",
        "last_success": moment(row.polled_at),
        "lag_seconds": _age(row.polled_at, now_ms) if configured else None,
        "active": _active(row),
        "abandoned": row.abandoned,
        "pending": row.pending,
        "parked": row.parked,
        "wrong": polled.wrong if polled else None,
    }


def _sink(row: SinkRow, delivered: SinkStatus | None, now_ms: int) -> dict[str, Any]:
    if row.retired_at is not None:
        state: str | None = "retired"
    else:
        state = delivered.state.value if delivered else None
    success = delivered.last_success_at if delivered else None
    return {
        "sink": row.name,
        "state": state,
        "last_success": success.isoformat(timespec="milliseconds") if success else None,
        "lag_seconds": _age(row.oldest, now_ms),
        "pending": row.pending,
        "parked": row.parked,
        "doubts": row.doubts,
        "in_flight": delivered.in_flight if delivered else None,
        "wrong": (delivered.problem if delivered else None) or row.cause,
    }


def _age(since_ms: int | None, now_ms: int) -> float | None:
    return None if since_ms is None else round(max(0, now_ms - since_ms) / 1000, 1)
