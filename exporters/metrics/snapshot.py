"""The ledger's state at one moment, as series that are made at each scrape: correct after a restart, gone with their job."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric

from exporters.metrics.jobs import JobState

JOBS_AT_MOST = 5_000
"""Jobs that have series, ten each; further ones are counted in `lineage_jobs_left_out`."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """`active` counts the open runs that are watched, `abandoned` those that are no longer watched, `waiting` those that
    wait for a person, the first of them since `waiting_since`. Times in epoch seconds: `succeeded_at` is None before the
    first success.
    """

    source: str
    active: int
    waiting: int
    abandoned: int
    succeeded_at: float | None
    jobs_left_out: int = 0
    waiting_since: float | None = None


@dataclass(frozen=True, slots=True)
class SinkBacklog:
    """`oldest_since` is the commit of the oldest waiting event, in epoch seconds, None when none waits. `refused` counts
    the events that the sink has refused since it last took one.
    """

    sink: str
    pending: int
    parked: int
    oldest_since: float | None
    owed_bytes: int = 0
    share_bytes: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`at` is when it was taken, in epoch seconds."""

    at: float
    jobs: Sequence[JobState]
    sources: Sequence[SourceState]
    sinks: Sequence[SinkBacklog]
    ledger_bytes: int
    ledger_limit: int
    replicas: int = 1
    replica_kinds: int = 1
    """Different versions and configurations among the live replicas."""


def families(snapshot: Snapshot) -> Iterable[Metric]:
    """Without those of jobs, which have a module of their own."""
    yield from _of_sources(snapshot.sources, snapshot.at)
    yield from _of_sinks(snapshot.sinks, snapshot.at)
    yield GaugeMetricFamily(
        "lineage_ledger_bytes",
        "Size of the ledger with its write-ahead log, without free pages.",
        value=snapshot.ledger_bytes,
    )
    yield GaugeMetricFamily("lineage_ledger_limit_bytes", "Size at which polling pauses.", value=snapshot.ledger_limit)
    yield GaugeMetricFamily("lineage_replicas", "Replicas whose heartbeat arrived in time.", value=snapshot.replicas)
    kinds = "Different versions and configurations among the live replicas."
    yield GaugeMetricFamily("lineage_replica_kinds", kinds, value=snapshot.replica_kinds)


def _of_sources(sources: Sequence[SourceState], at: float) -> Iterable[Metric]:
    active = _gauge("lineage_runs_active", "Watched runs that have not ended.", "source")
    waiting = _gauge("lineage_runs_waiting", "Runs that wait for a person.", "source")
    oldest = _gauge(
        "lineage_run_waiting_oldest_seconds", "How long the first of them has waited for a person.", "source"
    )
    abandoned = _gauge("lineage_runs_abandoned", "Runs that have not ended and are watched no longer.", "source")
    success = _gauge("lineage_poll_last_success_timestamp_seconds", "When a poll last succeeded.", "source")
    left_out = _gauge("lineage_jobs_left_out", "Jobs without series, as there are too many.", "source")
    for each in sources:
        active.add_metric([each.source], each.active)
        waiting.add_metric([each.source], each.waiting)
        oldest.add_metric([each.source], _seconds_since(each.waiting_since, at))
        abandoned.add_metric([each.source], each.abandoned)
        left_out.add_metric([each.source], each.jobs_left_out)
        if each.succeeded_at is not None:
            success.add_metric([each.source], each.succeeded_at)
    return active, waiting, oldest, abandoned, success, left_out


def _of_sinks(backlog: Sequence[SinkBacklog], at: float) -> Iterable[Metric]:
    pending = _gauge("lineage_deliveries_pending", "Events that a sink has not received yet.", "sink")
    parked = _gauge("lineage_events_parked", "Events that a sink refused for good.", "sink")
    oldest = _gauge("lineage_delivery_oldest_seconds", "How long the oldest event has waited for a sink.", "sink")
    owed = _gauge("lineage_sink_owed_bytes", "Bytes of the events that a sink has not received yet.", "sink")
    share = _gauge("lineage_sink_share_bytes", "Bytes of the ledger that a sink's events may take.", "sink")
    refused = _gauge("lineage_sink_refused", "Events that a sink has refused since it last took one.", "sink")
    for each in backlog:
        owed.add_metric([each.sink], each.owed_bytes)
        share.add_metric([each.sink], each.share_bytes)
        refused.add_metric([each.sink], each.refused)
        pending.add_metric([each.sink], each.pending)
        parked.add_metric([each.sink], each.parked)
        oldest.add_metric([each.sink], _seconds_since(each.oldest_since, at))
    return pending, parked, oldest, owed, share, refused


def _seconds_since(begun: float | None, at: float) -> float:
    return 0.0 if begun is None else max(0.0, at - begun)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)
