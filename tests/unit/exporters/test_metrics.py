"""What is counted and how it is exported: names, labels and zeros from the start, exemplars, and a ledger that is not there."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families as parsed
from prometheus_client.registry import Collector

from collector.errors import LedgerError
from collector.model import EventKind, RunState, SkipKind
from collector.reports import (
    EventReport,
    LeaseReport,
    LoadReport,
    PollReport,
    PollResult,
    RequestReport,
    SkipReport,
    WriteFailure,
)
from exporters.delivery.reports import CircuitReport, RecheckReport, SendReport, SendResult
from exporters.metrics import families
from exporters.metrics.families import Metrics
from exporters.metrics.jobs import Encode, JobState
from exporters.metrics.snapshot import SinkBacklog, Snapshot, SourceState

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
RUN_ID = "0b5be8bb-1c6e-4d1c-9d0c-3a5f0f7a2f11"
NOTHING = Snapshot(at=NOW.timestamp(), jobs=(), sources=(), sinks=(), ledger_bytes=4096, ledger_limit=8192)

# the library leaves both without types
openmetrics: Callable[[Collector], bytes] = exposition.generate_latest
parsed_openmetrics: Callable[[str], Iterable[Metric]] = parser.text_string_to_metric_families

Series = dict[tuple[str, ...], float]


def made(snapshot: Snapshot = NOTHING) -> Metrics:
    async def read() -> Snapshot:
        return snapshot

    return Metrics({"plant-a": 7, "prep": 8}, ["marquez", "file"], read, lambda: 4096.0)


def broken(error: Exception) -> Metrics:
    async def read() -> Snapshot:
        raise error

    return Metrics({"plant-a": 7}, ["marquez"], read, lambda: 4096.0)


async def text(shown: Metrics) -> str:
    return generate_latest(await shown.scrape()).decode()


async def series(shown: Metrics, name: str, *labels: str) -> Series:
    """The samples of this name by the values of these labels."""
    found = (sample for family in parsed(await text(shown)) for sample in family.samples if sample.name == name)
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in found}


async def test_what_the_ledger_says_is_left_out_while_another_replica_shows_it() -> None:
    async def elsewhere() -> None:
        return None

    page = await text(Metrics({"plant-a": 7}, ["marquez"], elsewhere, lambda: 4096.0))
    assert "lineage_lease_held" in page
    assert "lineage_ledger_bytes" not in page
    assert "lineage_ledger_read_failures_total 0.0" in page


async def test_counters_are_zero_before_they_count() -> None:
    shown = made()
    assert await series(shown, "lineage_poll_total", "source", "result") == {
        (source, result.value): 0 for source in ("plant-a", "prep") for result in PollResult
    }
    assert await series(shown, "lineage_sends_total", "sink", "result") == {
        (sink, result.value): 0 for sink in ("marquez", "file") for result in SendResult
    }
    events = await series(shown, "lineage_events_total", "source", "type")
    assert set(events) == {(source, kind.value) for source in ("plant-a", "prep") for kind in EventKind}
    fresh = await series(shown, "lineage_freshness_seconds_count", "source", "sink")
    assert fresh == {(source, sink): 0 for source in ("plant-a", "prep") for sink in ("marquez", "file")}
    leases = await series(shown, "lineage_lease_held", "lease")
    names = {"source:plant-a", "source:prep", "sink:marquez", "sink:file", "housekeeping", "metrics"}
    assert leases == {(name,): 0 for name in names}
    for name in ("lineage_ledger_resets_total", "lineage_ledger_read_failures_total"):
        assert await series(shown, name) == {(): 0}


async def test_no_series_is_made_by_reports_that_was_not_there_before() -> None:
    """Rates over a label set that springs up at its first count miss that count."""
    shown = made()
    before = await names_and_labels(shown)
    report_everything(shown)
    late = await names_and_labels(shown) - before
    assert {name for name, _ in late} == {
        "lineage_poll_interval_seconds",
        "lineage_source_rate_limit_remaining",
        "lineage_clock_skew_seconds",
        "lineage_source_requests_needed_per_minute",
        "lineage_source_requests_allowed_per_minute",
        "lineage_source_interval_reachable_seconds",
    }, "values that nobody knows at the start"


async def names_and_labels(shown: Metrics) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in parsed(await text(shown))
        for sample in family.samples
        if sample.name.startswith("lineage_")
    }


def report_everything(shown: Metrics) -> None:
    for result in PollResult:
        shown.polled(PollReport("plant-a", result, 0.3, NOW, 30.0))
    for status in (None, 200, 201, 304, 400, 401, 403, 404, 429, 500, 503, 999, 100, 0):
        shown.requested(RequestReport("plant-a", status, 0.1, remaining=42, ahead=-0.4))
    shown.planned(LoadReport("plant-a", runs=7, needed=4.5, allowed=60, interval=30.0))
    for kind in EventKind:
        shown.committed(EventReport("plant-a", kind, "job"))
    for outcome in RunState:
        shown.committed(EventReport("plant-a", EventKind.COMPLETE, "job", outcome, 61.0, RUN_ID))
    for skip in SkipKind:
        shown.skipped(SkipReport("plant-a", skip))
    for sent in SendResult:
        shown.sent(SendReport("marquez", 7, EventKind.START, sent, 0.02, 1.5, 0.1, RUN_ID))
    shown.circuit(CircuitReport("marquez", open=True, cause="down", failures=5))
    shown.rechecked(RecheckReport("marquez", settled=True))
    shown.rechecked(RecheckReport("marquez", settled=False))
    shown.lease(LeaseReport("source:plant-a", held=True))
    shown.lease(LeaseReport("sink:marquez", held=True))
    shown.ledger_reset()


async def test_what_only_the_holder_of_a_source_knows_goes_with_its_lease_alone() -> None:
    """Another replica shows it from then on; a value that stayed would never change again."""
    shown = made()
    before = await names_and_labels(shown)
    report_everything(shown)
    for source in ("plant-a", "prep"):
        shown.planned(LoadReport(source, runs=7, needed=4.5, allowed=60, interval=30.0))
    for lease in ("source:plant-a", "sink:marquez", "housekeeping", "metrics"):
        shown.lease(LeaseReport(lease, held=False))
    late = await names_and_labels(shown) - before
    assert {labels for _, labels in late} == {frozenset({("source", "prep")})}
    shown.lease(LeaseReport("source:prep", held=False))
    assert await names_and_labels(shown) == before


async def test_every_series_of_a_family_has_the_same_labels() -> None:
    shown = made(a_snapshot(jobs=3))
    report_everything(shown)
    for family in parsed(await text(shown)):
        labels = {(sample.name, frozenset(sample.labels)) for sample in family.samples}
        assert len({name for name, _ in labels}) == len(labels), family.name


async def test_polls_are_counted_by_result_and_a_pause_takes_no_time() -> None:
    shown = made()
    for result in (PollResult.OK, PollResult.OK, PollResult.AUTH, PollResult.PAUSED):
        shown.polled(PollReport("plant-a", result, 2.0, NOW, 30.0))
    counted = await series(shown, "lineage_poll_total", "source", "result")
    assert {key: count for key, count in counted.items() if count} == {
        ("plant-a", "ok"): 2,
        ("plant-a", "auth"): 1,
        ("plant-a", "paused"): 1,
    }
    assert await series(shown, "lineage_poll_interval_seconds", "source") == {("plant-a",): 30}
    assert (await series(shown, "lineage_poll_duration_seconds_count", "source"))["plant-a",] == 3


@pytest.mark.parametrize(
    ("status", "code_class"),
    [
        *((200, "2xx"), (304, "3xx"), (404, "4xx"), (401, "401"), (403, "403"), (429, "429"), (502, "5xx")),
        *((199, "other"), (599, "5xx"), (600, "other"), (None, "none")),
    ],
)
async def test_answers_that_wake_people_have_a_class_of_their_own(status: int | None, code_class: str) -> None:
    shown = made()
    shown.requested(RequestReport("prep", status, 0.1))
    counted = await series(shown, "lineage_source_requests_total", "source", "code_class")
    assert [key for key, count in counted.items() if count] == [("prep", code_class)]


async def test_the_load_of_a_source_is_shown() -> None:
    shown = made()
    shown.planned(LoadReport("plant-a", runs=7, needed=4.5, allowed=60, interval=30.0))
    shown.planned(LoadReport("prep", runs=900, needed=900.0, allowed=None, interval=60.0))
    assert await series(shown, "lineage_source_requests_needed_per_minute", "source") == {
        ("plant-a",): 4.5,
        ("prep",): 900,
    }
    assert await series(shown, "lineage_source_requests_allowed_per_minute", "source") == {("plant-a",): 60}
    assert await series(shown, "lineage_source_interval_reachable_seconds", "source") == {
        ("plant-a",): 30,
        ("prep",): 60,
    }


async def test_an_unknown_status_is_counted_twice_over() -> None:
    shown = made()
    shown.skipped(SkipReport("plant-a", SkipKind.STATUS, 3))
    shown.skipped(SkipReport("plant-a", SkipKind.SQL))
    assert (await series(shown, "lineage_source_unknown_status_total", "source"))["plant-a",] == 3
    counted = await series(shown, "lineage_skipped_total", "source", "kind")
    assert {key: count for key, count in counted.items() if count} == {("plant-a", "status"): 3, ("plant-a", "sql"): 1}


async def test_freshness_goes_to_the_source_that_the_ledger_numbered() -> None:
    shown = made()
    shown.sent(SendReport("marquez", 8, EventKind.START, SendResult.OK, 0.02, freshness=2.0))
    shown.sent(SendReport("marquez", 99, EventKind.START, SendResult.OK, 0.02, freshness=2.0))
    counted = await series(shown, "lineage_freshness_seconds_count", "source", "sink")
    assert {key: count for key, count in counted.items() if count} == {("prep", "marquez"): 1}, (
        "an event of a source that left the configuration is of no known source"
    )
    assert (await series(shown, "lineage_sends_total", "sink", "result"))["marquez", "ok"] == 2


async def test_duration_and_freshness_name_a_run_in_openmetrics_only() -> None:
    shown = made()
    shown.committed(EventReport("plant-a", EventKind.FAIL, "job", RunState.FAILED, 61.0, RUN_ID))
    shown.sent(SendReport("file", 7, EventKind.FAIL, SendResult.OK, 0.02, 1.5, 0.1, RUN_ID))
    page = openmetrics(await shown.scrape()).decode()
    found = {
        (sample.name, sample.labels["le"]): sample.exemplar.labels
        for family in parsed_openmetrics(page)
        for sample in family.samples
        if sample.exemplar
    }
    assert found == {
        ("lineage_run_duration_seconds_bucket", "300.0"): {"run_id": RUN_ID},
        ("lineage_freshness_seconds_bucket", "2.5"): {"run_id": RUN_ID},
    }
    assert RUN_ID not in await text(shown)


async def test_a_run_that_ended_unknown_is_no_outcome() -> None:
    shown = made()
    shown.committed(EventReport("plant-a", EventKind.ABORT, "job", RunState.UNKNOWN, 61.0, RUN_ID))
    assert set((await series(shown, "lineage_run_duration_seconds_count", "outcome")).values()) == {0}


async def test_durations_of_which_an_end_is_a_bound_are_kept_apart_from_exact_ones() -> None:
    """An alert on long runs can leave out what is only as exact as the polls."""
    shown = made()
    labels = "source", "outcome", "bounded"
    every = {
        ("plant-a", outcome, flag) for outcome in ("succeeded", "failed", "canceled") for flag in ("true", "false")
    }
    assert every <= (await series(shown, "lineage_run_duration_seconds_count", *labels)).keys(), "from the start on"
    shown.committed(EventReport("plant-a", EventKind.FAIL, "job", RunState.FAILED, 61.0, RUN_ID, bounded=True))
    shown.committed(EventReport("plant-a", EventKind.FAIL, "job", RunState.FAILED, 7.0, RUN_ID))
    sums = await series(shown, "lineage_run_duration_seconds_sum", *labels)
    assert sums["plant-a", "failed", "true"] == 61
    assert sums["plant-a", "failed", "false"] == 7


def a_snapshot(jobs: int = 1, name: str = "Pumps", state: RunState = RunState.FAILED) -> Snapshot:
    began = NOW.timestamp()
    return Snapshot(
        at=began + 100,
        jobs=[
            JobState("plant-a", f"transformation/{n}", name, state, began, began + 30, {RunState.FAILED: 2})
            for n in range(jobs)
        ],
        sources=[
            SourceState("plant-a", 3, 1, 2, succeeded_at=began + 90, jobs_left_out=4, waiting_since=began - 3600),
            SourceState("prep", 0, 0, 0, succeeded_at=None),
        ],
        sinks=[SinkBacklog("marquez", 5, 1, began + 40), SinkBacklog("file", 0, 0, None)],
        ledger_bytes=1000,
        ledger_limit=2000,
    )


async def test_the_ledgers_families() -> None:
    shown = made(a_snapshot())
    job, began = ("plant-a", "transformation/0"), NOW.timestamp()
    expected: dict[str, tuple[tuple[str, ...], Series]] = {
        "lineage_run_last_state": (("source", "job", "state"), {(*job, "failed"): 1}),
        "lineage_run_last_duration_seconds": (("source", "job"), {job: 30}),
        "lineage_run_last_duration_bounded": (("source", "job"), {job: 0}),
        "lineage_run_last_start_timestamp_seconds": (("source", "job"), {job: began}),
        "lineage_run_last_end_timestamp_seconds": (("source", "job"), {job: began + 30}),
        "lineage_job_info": (("source", "job", "name"), {(*job, "Pumps"): 1}),
        "lineage_runs_total": (
            ("source", "job", "outcome"),
            {(*job, "succeeded"): 0, (*job, "failed"): 2, (*job, "canceled"): 0},
        ),
        "lineage_runs_active": (("source",), {("plant-a",): 3, ("prep",): 0}),
        "lineage_runs_waiting": (("source",), {("plant-a",): 1, ("prep",): 0}),
        "lineage_run_waiting_oldest_seconds": (("source",), {("plant-a",): 3700, ("prep",): 0}),
        "lineage_runs_abandoned": (("source",), {("plant-a",): 2, ("prep",): 0}),
        "lineage_jobs_left_out": (("source",), {("plant-a",): 4, ("prep",): 0}),
        "lineage_poll_last_success_timestamp_seconds": (("source",), {("plant-a",): began + 90}),
        "lineage_deliveries_pending": (("sink",), {("marquez",): 5, ("file",): 0}),
        "lineage_events_parked": (("sink",), {("marquez",): 1, ("file",): 0}),
        "lineage_delivery_oldest_seconds": (("sink",), {("marquez",): 60, ("file",): 0}),
        "lineage_ledger_bytes": ((), {(): 1000}),
        "lineage_ledger_limit_bytes": ((), {(): 2000}),
    }
    for name, (labels, values) in expected.items():
        assert await series(shown, name, *labels) == values, name


async def test_writes_that_failed_are_counted_by_cause_and_the_room_is_shown() -> None:
    shown = made(a_snapshot())
    counted = await series(shown, "lineage_ledger_write_failures_total", "cause")
    assert counted == {(cause.value,): 0 for cause in WriteFailure}, (
        "from the start on, so that the first shows in a rate"
    )
    shown.ledger_unwritten(WriteFailure.FULL)
    shown.ledger_unwritten(WriteFailure.FULL)
    assert (await series(shown, "lineage_ledger_write_failures_total", "cause"))["full",] == 2
    assert await series(shown, "lineage_ledger_disk_free_bytes") == {(): 4096}


async def test_a_run_that_has_not_ended_has_no_end_and_no_duration() -> None:
    job = JobState("plant-a", "transformation/1", "Pumps", RunState.RUNNING, NOW.timestamp(), None, {})
    shown = made(Snapshot(NOW.timestamp(), [job], (), (), 1, 2))
    assert await series(shown, "lineage_run_last_end_timestamp_seconds") == {}
    assert await series(shown, "lineage_run_last_duration_seconds") == {}
    assert await series(shown, "lineage_run_last_duration_bounded") == {}


async def test_a_last_duration_that_is_bounded_says_so() -> None:
    began = NOW.timestamp()
    job = JobState("plant-a", "j", "J", RunState.SUCCEEDED, began, began + 9, {}, duration_bounded=True)
    shown = made(Snapshot(began, [job], (), (), 1, 2))
    assert await series(shown, "lineage_run_last_duration_bounded", "source", "job") == {("plant-a", "j"): 1}


async def test_series_vanish_with_their_job() -> None:
    snapshots = [a_snapshot(jobs=2), a_snapshot(jobs=1)]

    async def read() -> Snapshot:
        return snapshots.pop(0)

    shown = Metrics({"plant-a": 7}, ["marquez"], read, lambda: 4096.0)
    assert len(await series(shown, "lineage_run_last_state", "job")) == 2
    assert len(await series(shown, "lineage_run_last_state", "job")) == 1


@pytest.mark.parametrize("name", ['a "quoted" \\ name', "two\nlines", "änderung ✓", "x" * 5000, ""])
async def test_whatever_people_call_a_job_can_be_scraped(name: str) -> None:
    [sample] = await series(made(a_snapshot(name=name)), "lineage_job_info", "name")
    assert sample[0] == name or (sample[0].startswith("xxx") and len(sample[0]) == 120)


async def test_a_ledger_that_cannot_be_read_costs_its_series_alone(caplog: pytest.LogCaptureFixture) -> None:
    shown = broken(LedgerError("ledger x.db: disk I/O error; nothing was committed"))
    with caplog.at_level(logging.WARNING):
        assert await series(shown, "lineage_ledger_read_failures_total") == {(): 1}
    assert await series(shown, "lineage_ledger_bytes") == {}
    assert await series(shown, "lineage_ledger_read_failures_total") == {(): 3}
    assert caplog.records[0].fields["cause"].startswith("ledger x.db: disk I/O error")  # type: ignore[attr-defined]


async def test_a_ledger_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "LEDGER_WITHIN", 0.01)

    async def read() -> Snapshot:
        await asyncio.Event().wait()
        raise AssertionError

    shown = Metrics({"plant-a": 7}, [], read, lambda: 4096.0)
    assert await series(shown, "lineage_ledger_read_failures_total") == {(): 1}


async def test_the_build_is_exported() -> None:
    [(version, python)] = await series(made(), "lineage_build_info", "version", "python")
    assert version
    assert python.startswith("3.")


async def test_process_metrics_are_there_and_no_creation_times() -> None:
    page = await text(made(a_snapshot()))
    assert "process_resident_memory_bytes " in page
    assert "_created" not in page


async def test_scrapes_do_not_register_anew() -> None:
    """A second program in the same process, such as a test's, has separate metrics."""
    first, second = made(), made()
    first.ledger_reset()
    assert await series(second, "lineage_ledger_resets_total") == {(): 0}


@pytest.mark.parametrize("encode", [generate_latest, openmetrics])
async def test_five_thousand_jobs_render(encode: Callable[[Collector], bytes]) -> None:
    page = (await made(a_snapshot(jobs=5000)).scrape()).encoded(encode)
    assert page.count(b"lineage_run_last_state{") == 5000


def _job(source: str, job: str, **more: Any) -> JobState:
    state = JobState(source, job, f"the {job}", RunState.FAILED, 1e9, 1e9 + 0.25, {RunState.FAILED: 2})
    return replace(state, **more)


ODD_JOBS = (
    _job("plant-a", 'a "b"\\c\nd %s {e} ü'),
    _job("plant-a", 'only "quoted"', name="only two\nlines", schedule="only a \\"),
    _job('50 % \\ "x"', "%d", name="", schedule="*/5 * * * *", stale=3, duration_bounded=True),
    _job("plant-a", "never ended", ended_at=None, outcomes={}),
    _job("plant-a", "never began", started_at=None, state=RunState.QUEUED),
    _job("plant-a", "x" * 300, name="y" * 300, outcomes={RunState.SUCCEEDED: 12_345_678}),
)


@pytest.mark.parametrize(
    "encode",
    [
        generate_latest,
        openmetrics,
        partial(exposition.generate_latest, escaping="dots"),
        partial(exposition.generate_latest, escaping="allow-utf-8"),
    ],
)
@pytest.mark.parametrize("jobs", [(), ODD_JOBS])
async def test_a_page_has_the_bytes_that_the_library_writes(encode: Encode, jobs: Sequence[JobState]) -> None:
    for page in (await made(replace(NOTHING, jobs=jobs)).scrape(), await broken(OSError("no ledger")).scrape()):
        settled = replace(page, counted=CollectorRegistry())  # the process's own metrics change meanwhile
        assert settled.encoded(encode) == encode(settled)


async def test_a_divided_sink_has_one_series_of_each_kind_and_its_leases_are_those_of_its_shards() -> None:
    shown = made()

    async def leases() -> Series:
        found = await series(shown, "lineage_lease_held", "lease")
        return {name: held for name, held in found.items() if name[0].startswith("sink:marquez")}

    async def circuit() -> float:
        return (await series(shown, "lineage_sink_circuit_open", "sink"))[("marquez",)]

    assert await circuit() == 0, "before anything was sent"
    for count in (1, 3, 3):
        shown.divided("marquez", count)
    assert await leases() == {(f"sink:marquez#{number}",): 0 for number in range(3)}
    for number in (0, 2):
        shown.lease(LeaseReport(f"sink:marquez#{number}", held=True))
        shown.sent(SendReport("marquez", 7, EventKind.START, SendResult.OK, 0.1))
        shown.circuit(CircuitReport("marquez", open=True, cause="503", failures=1, shard=number))
    assert await leases() == {(f"sink:marquez#{number}",): float(number != 1) for number in range(3)}
    assert (await series(shown, "lineage_sends_total", "sink", "result"))[("marquez", "ok")] == 2
    shown.circuit(CircuitReport("marquez", open=False, cause=None, failures=1, shard=0))
    assert await circuit() == 1, "that of another shard is open"
    for number in (0, 2):
        shown.lease(LeaseReport(f"sink:marquez#{number}", held=False))
    assert await circuit() == 0
    shown.divided("marquez", 2)
    assert await leases() == {(f"sink:marquez#{number}",): 0 for number in range(2)}
    shown.divided("marquez", 1)
    assert await leases() == {("sink:marquez",): 0}
    assert (await series(shown, "lineage_sends_total", "sink", "result"))[("marquez", "ok")] == 2
