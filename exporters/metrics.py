"""The one place that creates metrics. What happens is counted as it happens; what is, is read from the ledger at scrape time.

Runs, backlog and parked events come from the ledger, so they are right after a restart and vanish with their job.
"""

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collector import __version__
from collector.model import EventKind, RunState, SkipKind
from collector.reports import EventReport, PollReport, PollResult, RequestReport, SkipReport
from exporters.reports import CircuitReport, LeaseReport, RecheckReport, SendReport, SendResult

_POLL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SEND_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_RUN_SECONDS = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_FRESH_SECONDS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 21600, 86400)
_OUTCOMES = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED)
JOBS_AT_MOST = 5_000
"""Jobs with series of their own; what is beyond is counted in `lineage_jobs_left_out`."""


@dataclass(frozen=True, slots=True)
class JobState:
    """The last run of a job and what became of all of them; times in epoch seconds."""

    source: str
    job: str
    name: str
    state: RunState
    started_at: float | None
    ended_at: float | None
    outcomes: Mapping[RunState, int]


@dataclass(frozen=True, slots=True)
class SinkBacklog:
    sink: str
    pending: int
    parked: int
    oldest_since: float | None
    """Epoch seconds of the commit of the oldest event that waits."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the ledger says at one moment."""

    jobs: Sequence[JobState] = ()
    active: Mapping[str, int] = field(default_factory=dict)
    backlog: Sequence[SinkBacklog] = ()
    ledger_bytes: int = 0
    ledger_limit: int = 0


class Metrics:
    """Counts what polling and delivery report. Register with `registry`, which holds nothing of other libraries."""

    def __init__(
        self, sources: Mapping[str, int], sinks: Iterable[str], snapshot: Callable[[], Snapshot] | None = None
    ) -> None:
        """`sources` maps names to the ledger's numbers. `snapshot` reads the ledger; called in the scrape's thread."""
        self.registry = registry = CollectorRegistry()
        for standard in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(standard)
        self._source_names = {number: name for name, number in sources.items()}
        self._polls = Counter("lineage_poll", "Polls ended, by result.", ["source", "result"], registry=registry)
        self._poll_seconds = Histogram(
            "lineage_poll_duration_seconds", "Time a poll took.", ["source"], buckets=_POLL_SECONDS, registry=registry
        )
        self._poll_success = Gauge(
            "lineage_poll_last_success_timestamp_seconds", "When a poll last went well.", ["source"], registry=registry
        )
        self._poll_interval = Gauge(
            "lineage_poll_interval_seconds", "From one poll to the next.", ["source"], registry=registry
        )
        self._requests = Counter(
            "lineage_source_requests",
            "Requests to a platform, by class of the answer's status.",
            ["source", "code_class"],
            registry=registry,
        )
        self._remaining = Gauge(
            "lineage_source_rate_limit_remaining",
            "Requests left in the platform's quota, as it last said.",
            ["source"],
            registry=registry,
        )
        self._unknown = Counter(
            "lineage_source_unknown_status", "Statuses that are not known here.", ["source"], registry=registry
        )
        self._skips = Counter(
            "lineage_skipped", "What was left out or not understood.", ["source", "kind"], registry=registry
        )
        self._events = Counter("lineage_events", "Events committed.", ["source", "type"], registry=registry)
        self._run_seconds = Histogram(
            "lineage_run_duration_seconds",
            "Time runs took, from START to the end.",
            ["source", "outcome"],
            buckets=_RUN_SECONDS,
            registry=registry,
        )
        self._sends = Counter("lineage_sends", "Attempts to deliver, by result.", ["sink", "result"], registry=registry)
        self._send_seconds = Histogram(
            "lineage_send_duration_seconds", "Time an attempt took.", ["sink"], buckets=_SEND_SECONDS, registry=registry
        )
        self._fresh = Histogram(
            "lineage_freshness_seconds",
            "From the moment an event speaks of to its acknowledgement by the sink.",
            ["source", "sink"],
            buckets=_FRESH_SECONDS,
            registry=registry,
        )
        self._circuit = Gauge(
            "lineage_sink_circuit_open", "1 while a sink is left alone after failures.", ["sink"], registry=registry
        )
        self._rechecks = Counter(
            "lineage_rechecks", "Looks at runs in doubt, by result.", ["sink", "result"], registry=registry
        )
        self._leases = Gauge("lineage_lease_held", "1 while this process holds it.", ["lease"], registry=registry)
        self._resets = Counter(
            "lineage_ledger_resets", "Ledgers that could not be used and were set aside.", registry=registry
        )
        build = Gauge("lineage_build_info", "The version that runs.", ["version", "python"], registry=registry)
        build.labels(__version__, platform.python_version()).set(1)
        self._start_at_zero(sources, sinks)
        if snapshot is not None:
            registry.register(_LedgerCollector(snapshot))

    def _start_at_zero(self, sources: Iterable[str], sinks: Iterable[str]) -> None:
        """Counters exist before they count, so that their rates work from the first time on."""
        sinks = list(sinks)
        for source in sources:
            for result in PollResult:
                self._polls.labels(source, result.value)
            for kind in SkipKind:
                self._skips.labels(source, kind.value)
            for event in EventKind:
                self._events.labels(source, event.value)
            for code_class in ("2xx", "3xx", "4xx", "401", "403", "429", "5xx", "none"):
                self._requests.labels(source, code_class)
            for outcome in _OUTCOMES:
                self._run_seconds.labels(source, outcome.value)
            self._unknown.labels(source)
            for sink in sinks:
                self._fresh.labels(source, sink)
        for sink in sinks:
            for sent in SendResult:
                self._sends.labels(sink, sent.value)
            for verdict in ("settled", "again"):
                self._rechecks.labels(sink, verdict)
            self._send_seconds.labels(sink)
            self._circuit.labels(sink).set(0)

    def polled(self, report: PollReport) -> None:
        self._polls.labels(report.source, report.result.value).inc()
        self._poll_interval.labels(report.source).set(report.interval)
        if report.result is not PollResult.PAUSED:
            self._poll_seconds.labels(report.source).observe(report.seconds)
        if report.result is PollResult.OK:
            self._poll_success.labels(report.source).set(report.at.timestamp())

    def requested(self, report: RequestReport) -> None:
        self._requests.labels(report.source, _code_class(report.status)).inc()
        if report.remaining is not None:
            self._remaining.labels(report.source).set(report.remaining)

    def committed(self, report: EventReport) -> None:
        self._events.labels(report.source, report.kind.value).inc()
        if report.seconds is not None and report.outcome in _OUTCOMES:
            exemplar = {"run_id": report.run_id} if report.run_id else None
            self._run_seconds.labels(report.source, report.outcome.value).observe(report.seconds, exemplar)

    def skipped(self, report: SkipReport) -> None:
        self._skips.labels(report.source, report.kind.value).inc(report.count)
        if report.kind is SkipKind.STATUS:
            self._unknown.labels(report.source).inc(report.count)

    def sent(self, report: SendReport) -> None:
        self._sends.labels(report.sink, report.result.value).inc()
        self._send_seconds.labels(report.sink).observe(report.seconds)
        if report.freshness is not None and (source := self._source_names.get(report.source_id)) is not None:
            self._fresh.labels(source, report.sink).observe(report.freshness)

    def circuit(self, report: CircuitReport) -> None:
        self._circuit.labels(report.sink).set(report.open)

    def rechecked(self, report: RecheckReport) -> None:
        self._rechecks.labels(report.sink, "settled" if report.settled else "again").inc()

    def lease(self, report: LeaseReport) -> None:
        self._leases.labels(report.lease).set(report.held)

    def ledger_reset(self) -> None:
        self._resets.inc()


def _code_class(status: int | None) -> str:
    """A class, but for the three answers that people are woken for."""
    if status is None:
        return "none"
    return str(status) if status in {401, 403, 429} else f"{status // 100}xx"


class _LedgerCollector(Collector):
    """Makes the series of runs and backlog afresh at each scrape, so that they vanish with what they are about."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        snapshot = self._snapshot()
        yield from _of_jobs(snapshot.jobs[:JOBS_AT_MOST])
        left_out = max(0, len(snapshot.jobs) - JOBS_AT_MOST)
        yield _single("lineage_jobs_left_out", "Jobs without series of their own, as there are too many.", left_out)
        active = GaugeMetricFamily("lineage_runs_active", "Runs that have not ended.", labels=["source"])
        for source, count in snapshot.active.items():
            active.add_metric([source], count)
        yield active
        yield from _of_sinks(snapshot.backlog)
        yield _single("lineage_ledger_bytes", "Size of the ledger.", snapshot.ledger_bytes)
        yield _single("lineage_ledger_limit_bytes", "Size at which polling pauses.", snapshot.ledger_limit)


def _of_jobs(jobs: Sequence[JobState]) -> Iterable[Metric]:
    labels = ["source", "job"]
    state = GaugeMetricFamily(
        "lineage_run_last_state", "1 for the state of a job's last run.", labels=[*labels, "state"]
    )
    duration = GaugeMetricFamily("lineage_run_last_duration_seconds", "Time a job's last run took.", labels=labels)
    start = GaugeMetricFamily(
        "lineage_run_last_start_timestamp_seconds", "When a job's last run started.", labels=labels
    )
    end = GaugeMetricFamily("lineage_run_last_end_timestamp_seconds", "When a job's last run ended.", labels=labels)
    info = GaugeMetricFamily("lineage_job_info", "A job and what people call it.", labels=[*labels, "name"])
    runs = CounterMetricFamily("lineage_runs", "Runs that ended, by outcome.", labels=[*labels, "outcome"])
    for job in jobs:
        key = [job.source, job.job]
        state.add_metric([*key, job.state.value], 1)
        info.add_metric([*key, job.name], 1)
        if job.started_at is not None:
            start.add_metric(key, job.started_at)
        if job.ended_at is not None:
            end.add_metric(key, job.ended_at)
        if job.started_at is not None and job.ended_at is not None:
            duration.add_metric(key, job.ended_at - job.started_at)
        for outcome in _OUTCOMES:
            runs.add_metric([*key, outcome.value], job.outcomes.get(outcome, 0))
    return state, duration, start, end, info, runs


def _of_sinks(backlog: Sequence[SinkBacklog]) -> Iterable[Metric]:
    pending = GaugeMetricFamily("lineage_deliveries_pending", "Events that a sink has not got yet.", labels=["sink"])
    parked = GaugeMetricFamily("lineage_events_parked", "Events that a sink refused for good.", labels=["sink"])
    oldest = GaugeMetricFamily(
        "lineage_delivery_oldest_seconds", "How long the oldest event has waited for a sink.", labels=["sink"]
    )
    for sink in backlog:
        pending.add_metric([sink.sink], sink.pending)
        parked.add_metric([sink.sink], sink.parked)
        age = 0.0 if sink.oldest_since is None else max(0.0, time.time() - sink.oldest_since)
        oldest.add_metric([sink.sink], age)
    return pending, parked, oldest


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
