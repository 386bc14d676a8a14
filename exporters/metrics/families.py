"""The metrics: reports are counted here; the present state is read from the ledger at each scrape (`snapshot`)."""

import asyncio
import json
import logging
import os
import platform
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from itertools import product

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from collector import __version__
from collector.ledger.leases import HOUSEKEEPING, METRICS
from collector.ledger.shards import lease_names
from collector.logs import fields
from collector.model import EventKind, SkipKind
from collector.reports import (
    EventReport,
    HintReport,
    HintResult,
    LeaseReport,
    LoadReport,
    PollReport,
    PollResult,
    RequestReport,
    SkipReport,
    WriteFailure,
)
from exporters.delivery.reports import CircuitReport, RecheckReport, SendReport, SendResult
from exporters.metrics import jobs
from exporters.metrics.jobs import OUTCOMES
from exporters.metrics.snapshot import Snapshot, families

log = logging.getLogger("lineage.metrics")

LEDGER_WITHIN = 5.0
"""Seconds that the ledger may take for a scrape: Prometheus' own default time-out is ten."""
_POLL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SEND_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_RUN_SECONDS = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_FRESH_SECONDS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 21600, 86400)
_CODE_CLASSES = ("2xx", "3xx", "4xx", "401", "403", "429", "5xx", "other", "none")


@dataclass(frozen=True, slots=True)
class _WithoutJobs(Collector):
    counted: CollectorRegistry
    snapshot: Snapshot | None = None

    def collect(self) -> Iterable[Metric]:
        yield from self.counted.collect()
        if self.snapshot is not None:
            yield from families(self.snapshot)


@dataclass(frozen=True, slots=True)
class Page(Collector):
    """What one scrape shows: what was counted, and the ledger's `snapshot` unless it is left out."""

    counted: CollectorRegistry
    snapshot: Snapshot | None = None

    def collect(self) -> Iterable[Metric]:
        yield from _WithoutJobs(self.counted, self.snapshot).collect()
        if self.snapshot is not None:
            yield from jobs.families(self.snapshot.jobs)

    def encoded(self, encode: jobs.Encode) -> bytes:
        """The same bytes as those of `encode`, with less work for each job."""
        rest, end = encode(_WithoutJobs(self.counted, self.snapshot)), jobs.END.encode()
        of_jobs = b"" if self.snapshot is None else jobs.encoded(self.snapshot.jobs, encode)
        return rest.removesuffix(end) + of_jobs + (end if rest.endswith(end) else b"")


class Metrics:
    """Counts what polling and delivery report. `scrape` returns what the page shows."""

    def __init__(
        self,
        sources: Mapping[str, int],
        sinks: Iterable[str],
        snapshot: Callable[[], Awaitable[Snapshot | None]],
        disk_free: Callable[[], float],
    ) -> None:
        """`sources` maps names to the ledger's numbers. `snapshot` reads the ledger, None where another replica shows it, and
        may raise anything. `disk_free` is
        called at each scrape, in its thread.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call] # else each counter has a second series that nobody uses
        self._snapshot = snapshot
        self._registry = registry = CollectorRegistry()
        for standard in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(standard)
        self._source_names = {number: name for name, number in sources.items()}
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self._polls = counter("lineage_poll", "Polls ended, by result.", ["source", "result"])
        self._poll_seconds = histogram(
            "lineage_poll_duration_seconds", "Time a poll took.", ["source"], buckets=_POLL_SECONDS
        )
        self._poll_interval = gauge("lineage_poll_interval_seconds", "From one poll to the next.", ["source"])
        self._requests = counter(
            "lineage_source_requests",
            "Requests to a platform, by class of the answer's status.",
            ["source", "code_class"],
        )
        self._remaining = gauge(
            "lineage_source_rate_limit_remaining",
            "Requests left in the platform's quota, by its last answer.",
            ["source"],
        )
        self._ahead = gauge(
            "lineage_clock_skew_seconds",
            "How far the platform's clock is ahead of ours, by the Date of its last answer.",
            ["source"],
        )
        self._needed = gauge(
            "lineage_source_requests_needed_per_minute",
            "Requests needed to watch the open runs at the configured interval.",
            ["source"],
        )
        self._allowed = gauge(
            "lineage_source_requests_allowed_per_minute", "The configured limit of requests of a source.", ["source"]
        )
        self._reachable = gauge(
            "lineage_source_interval_reachable_seconds",
            "The shortest interval between two reads of a run that the limit of requests allows.",
            ["source"],
        )
        self._of_holder = (
            self._poll_interval,
            self._remaining,
            self._ahead,
            self._needed,
            self._allowed,
            self._reachable,
        )
        """Gauges of a source at the replica that holds its lease; the others show none."""
        self._hints = counter(
            "lineage_hints", "Messages from outside that something changed, by result.", ["source", "result"]
        )
        self._hint_topic = gauge(
            "lineage_hint_topic_up",
            "1 while this replica reads the topic of hints: the cluster answers, the topic is there and may be read.",
            ["topic"],
        )
        self._unknown = counter(
            "lineage_source_unknown_status", "Statuses that the collector does not know.", ["source"]
        )
        self._skips = counter("lineage_skipped", "What was left out or not understood.", ["source", "kind"])
        self._events = counter("lineage_events", "Events committed.", ["source", "type"])
        self._run_seconds = histogram(
            "lineage_run_duration_seconds",
            "Time runs took, from START to the end; bounded where the platform did not report one of both times, or out of order.",
            ["source", "outcome", "bounded"],
            buckets=_RUN_SECONDS,
        )
        self._sends = counter("lineage_sends", "Attempts to deliver, by result.", ["sink", "result"])
        self._send_seconds = histogram(
            "lineage_send_duration_seconds", "Time an attempt took.", ["sink"], buckets=_SEND_SECONDS
        )
        self._fresh = histogram(
            "lineage_freshness_seconds",
            "From the time of an event (eventTime) to its acknowledgement by the sink.",
            ["source", "sink"],
            buckets=_FRESH_SECONDS,
        )
        self._circuit = gauge(
            "lineage_sink_circuit_open", "1 while a sink gets nothing but probes, after failures.", ["sink"]
        )
        self._rechecks = counter("lineage_rechecks", "Rechecks of runs in doubt, by result.", ["sink", "result"])
        self._open: defaultdict[str, set[int]] = defaultdict(set)
        """The shards of each sink whose circuits are open."""
        self._divided: dict[str, int] = {}
        self._leases = gauge("lineage_lease_held", "1 while this process holds the lease.", ["lease"])
        self._resets = counter("lineage_ledger_resets", "Ledgers that could not be used and were set aside.")
        self._rescues = counter(
            "lineage_ledger_rescues",
            "Ledgers that were deleted or replaced while they were open, and rewritten before this start.",
        )
        self._lost = gauge(
            "lineage_ledger_lost", "1 while the ledger's file is not where it was opened, so that nothing is committed."
        )
        self._unwritten = counter("lineage_ledger_write_failures", "Failed writes to the ledger, by cause.", ["cause"])
        gauge(
            "lineage_ledger_disk_free_bytes", "Bytes that this process may still use on the ledger's file system."
        ).set_function(disk_free)
        self._unread = counter("lineage_ledger_read_failures", "Scrapes for which the ledger could not be read.")
        self._configured = gauge(
            "lineage_config_last_reload_success_timestamp_seconds",
            "When the configuration was last read successfully: at the start.",
        )
        build = gauge("lineage_build_info", "The running version.", ["version", "revision", "python"])
        build.labels(__version__, _revision(), platform.python_version()).set(1)
        self._start_at_zero(list(sources), list(sinks))

    def _start_at_zero(self, sources: list[str], sinks: list[str]) -> None:
        """Counters start with 0, so that their rates include the first increment."""
        for source in sources:
            self._unknown.labels(source)
            self._poll_seconds.labels(source)
            self._leases.labels(f"source:{source}").set(0)
            _touch(self._polls, source, PollResult)
            _touch(self._skips, source, SkipKind)
            _touch(self._hints, source, HintResult)
            _touch(self._events, source, EventKind)
            _touch(self._requests, source, _CODE_CLASSES)
            for outcome, bounded in product(OUTCOMES, (False, True)):
                self._run_seconds.labels(source, outcome.value, _flag(on=bounded))
            _touch(self._fresh, source, sinks)
        for lease in (HOUSEKEEPING, METRICS):
            self._leases.labels(lease).set(0)
        for cause in WriteFailure:
            self._unwritten.labels(cause.value)
        for sink in sinks:
            self._send_seconds.labels(sink)
            self._circuit.labels(sink).set(0)
            self._leases.labels(f"sink:{sink}").set(0)
            _touch(self._sends, sink, SendResult)
            _touch(self._rechecks, sink, ("settled", "again"))

    async def scrape(self) -> Page:
        """All series of this moment, for an encoder in any thread. Those of the ledger are left out, and that is
        counted, when it cannot be read: none are better than old ones. They are left out, too, while another replica shows
        them, and the snapshot is None.
        """
        try:
            async with asyncio.timeout(LEDGER_WITHIN):
                return Page(self._registry, await self._snapshot())
        except Exception as error:  # noqa: BLE001 - the boundary of a scrape: what was counted is shown all the same
            cause = str(error) or f"no answer within {LEDGER_WITHIN:.0f} s"
            log.warning("scrape.truncated", extra=fields(cause=cause, kind=type(error).__name__))
            self._unread.inc()
            return Page(self._registry)

    def polled(self, report: PollReport) -> None:
        self._polls.labels(report.source, report.result.value).inc()
        self._poll_interval.labels(report.source).set(report.interval)
        if report.result is not PollResult.PAUSED:
            self._poll_seconds.labels(report.source).observe(report.seconds)

    def requested(self, report: RequestReport) -> None:
        self._requests.labels(report.source, _code_class(report.status)).inc()
        if report.remaining is not None:
            self._remaining.labels(report.source).set(report.remaining)
        if report.ahead is not None:
            self._ahead.labels(report.source).set(report.ahead)

    def planned(self, report: LoadReport) -> None:
        self._needed.labels(report.source).set(report.needed)
        self._reachable.labels(report.source).set(report.interval)
        if report.allowed is not None:
            self._allowed.labels(report.source).set(report.allowed)

    def hinted(self, report: HintReport) -> None:
        self._hints.labels(report.source, report.result.value).inc()

    def hint_topic(self, topic: str, up: bool) -> None:
        self._hint_topic.labels(topic).set(up)

    def committed(self, report: EventReport) -> None:
        self._events.labels(report.source, report.kind.value).inc()
        if report.seconds is not None and report.outcome in OUTCOMES:
            duration = self._run_seconds.labels(report.source, report.outcome.value, _flag(on=report.bounded))
            duration.observe(report.seconds, _exemplar(report.run_id))

    def skipped(self, report: SkipReport) -> None:
        self._skips.labels(report.source, report.kind.value).inc(report.count)
        if report.kind is SkipKind.STATUS:
            self._unknown.labels(report.source).inc(report.count)

    def sent(self, report: SendReport) -> None:
        self._sends.labels(report.sink, report.result.value).inc()
        self._send_seconds.labels(report.sink).observe(report.seconds)
        if report.freshness is not None and (source := self._source_names.get(report.source_id)) is not None:
            self._fresh.labels(source, report.sink).observe(report.freshness, _exemplar(report.run_id))

    def circuit(self, report: CircuitReport) -> None:
        (self._open[report.sink].add if report.open else self._open[report.sink].discard)(report.shard)
        self._circuit.labels(report.sink).set(bool(self._open[report.sink]))

    def rechecked(self, report: RecheckReport) -> None:
        self._rechecks.labels(report.sink, "settled" if report.settled else "again").inc()

    def lease(self, report: LeaseReport) -> None:
        self._leases.labels(report.lease).set(report.held)
        kind, _, name = report.lease.partition(":")
        name, _, shard = name.partition("#")
        if not report.held and kind == "source":
            for gauge in self._of_holder:
                with suppress(KeyError):  # it was never set
                    gauge.remove(name)
        elif not report.held and kind == "sink":
            self._open[name].discard(int(shard or 0))
            self._circuit.labels(name).set(bool(self._open[name]))

    def divided(self, sink: str, shards: int) -> None:
        """The sink has the leases of so many shards, and no others."""
        former = lease_names(sink, self._divided.get(sink, 1))
        self._divided[sink] = shards
        for gone in set(former) - set(lease_names(sink, shards)):
            self._leases.remove(gone)
        for name in set(lease_names(sink, shards)) - set(former):
            self._leases.labels(name).set(0)

    def configured(self, at: datetime) -> None:
        self._configured.set(at.timestamp())

    def ledger_reset(self) -> None:
        self._resets.inc()

    def ledger_unwritten(self, cause: WriteFailure) -> None:
        """From any thread."""
        self._unwritten.labels(cause.value).inc()

    def ledger_rescued(self) -> None:
        self._rescues.inc()

    def ledger_lost(self) -> None:
        self._lost.set(1)


def _touch(metric: Counter | Histogram, first: str, others: Iterable[str]) -> None:
    for other in others:
        metric.labels(first, str(other))


def _flag(*, on: bool) -> str:
    return "true" if on else "false"


def _exemplar(run_id: str | None) -> dict[str, str] | None:
    return {"run_id": run_id} if run_id else None


def _code_class(status: int | None) -> str:
    """The class of a status, except for the three that alerts look at."""
    if status is None:
        return "none"
    if status in {401, 403, 429}:
        return str(status)
    return f"{status // 100}xx" if 200 <= status < 600 else "other"


def _revision() -> str:
    """The commit that runs: from the image's environment, or from the installer (PEP 610); else empty."""
    if of_image := os.environ.get("LINEAGE_COLLECTOR_REVISION"):
        return of_image
    try:
        origin = json.loads(distribution("lineage-collector").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return ""
    return str(origin.get("vcs_info", {}).get("commit_id", ""))
