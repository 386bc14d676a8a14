"""What pages, metrics and the command line show, read from the ledger and from the loops that run."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from collector.app.showing import moment
from collector.clock import Clock, to_ms
from collector.errors import ConfigurationError
from collector.ledger import reading
from collector.ledger.reading import SinkRow, SourceRow
from collector.model import RunState
from collector.polling.source import SourceStatus
from exporters.metrics import JOBS_AT_MOST, JobState, SinkBacklog, Snapshot
from exporters.reports import SinkStatus


def snapshot(conn: Connection, ledger_bytes: int, ledger_limit: int) -> Snapshot:
    """What a scrape shows of the ledger."""
    return Snapshot(
        jobs=[_job(row) for row in reading.jobs(conn, JOBS_AT_MOST + 1)],
        active={row.name: sum(row.open.values()) - row.abandoned for row in reading.sources(conn)},
        backlog=[
            SinkBacklog(row.name, row.pending, row.parked, row.oldest / 1000 if row.oldest is not None else None)
            for row in reading.sinks(conn)
            if row.retired_at is None
        ],
        ledger_bytes=ledger_bytes,
        ledger_limit=ledger_limit,
    )


def _job(row: reading.JobRow) -> JobState:
    return JobState(
        source=row.source,
        job=row.name,
        name=row.description or row.name,
        state=row.state,
        started_at=row.started_at / 1000 if row.started_at is not None else None,
        ended_at=row.ended_at / 1000 if row.ended_at is not None else None,
        outcomes={RunState.SUCCEEDED: row.succeeded, RunState.FAILED: row.failed, RunState.CANCELED: row.canceled},
    )


def source_id(conn: Connection, name: str) -> int:
    """The ledger's number of a source. Raises `ConfigurationError` for one that it has never heard of."""
    known = {row.name: row.id for row in reading.sources(conn)}
    if name not in known:
        raise ConfigurationError([f"the ledger knows no source {name!r}; it knows {', '.join(known) or 'none'}"])
    return known[name]


def status(
    conn: Connection,
    clock: Clock,
    polled: Mapping[str, SourceStatus],
    delivered: Mapping[str, SinkStatus],
    ledger: Mapping[str, Any],
) -> dict[str, Any]:
    """Sources and sinks as rows for people. `polled` and `delivered` come from the running loops, empty without them."""
    now_ms = to_ms(clock.now())
    return {
        "sources": [_source(row, polled.get(row.name), now_ms) for row in reading.sources(conn)],
        "sinks": [_sink(row, delivered.get(row.name), now_ms) for row in reading.sinks(conn)],
        "ledger": dict(ledger),
    }


def _source(row: SourceRow, polled: SourceStatus | None, now_ms: int) -> dict[str, Any]:
    return {
        "source": row.name,
        "state": polled.result.value if polled and polled.result else None,
        "last_success": moment(row.polled_at),
        "lag_seconds": _age(row.polled_at, now_ms),
        "active": sum(row.open.values()) - row.abandoned,
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
