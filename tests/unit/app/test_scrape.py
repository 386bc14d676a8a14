"""What a scrape reads from a real ledger."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.app import scrape
from collector.app.scrape import shares, snapshot
from collector.ledger import configured_sinks, configured_sources, jobs, retention
from collector.ledger.configured_sources import Configured
from collector.ledger.runs import RunChange
from collector.model import EventKind, Interval, RunState
from collector.testing.clock import SimulatedClock
from exporters.metrics.jobs import JobState
from exporters.metrics.snapshot import SinkBacklog, SourceState
from tests.unit.ledger.ledgers import (
    ALL,
    COMPLETE,
    FAIL,
    NOW,
    SECOND,
    START,
    T0,
    Ledger,
    a_job,
    a_run,
    opened,
    opened_in,
)

CLOCK = SimulatedClock(T0)
SOURCES = {"source": timedelta(hours=24)}


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    is_file = request.param == "sqlite"
    with opened(tmp_path / "ledger.db") if is_file else opened_in(request.getfixturevalue("postgres")) as made:
        made.configure(marquez=ALL, file=ALL)
        yield made


def test_jobs_sources_and_sinks_as_the_ledger_has_them(ledger: Ledger) -> None:
    pumps = replace(a_job(), description="SAP pumps")
    ledger.happen("1", START, FAIL, job=pumps)
    ledger.now += SECOND
    ledger.happen("2", START, job=pumps)
    ledger.park(ledger.claim("marquez")[0], sink="marquez")
    ledger.drain("file")
    ledger.commit(RunChange(a_run("gone", RunState.UNKNOWN, abandoned_at=T0, job=pumps)), polled_at_ms=NOW)
    ledger.commit(RunChange(a_run("waits", RunState.WAITING, job=a_job("other"), started_at=T0, last_event_at=T0)))
    shown = snapshot(ledger.conn, CLOCK, SOURCES, 10, 20, {"file": 8})
    began = NOW / 1000
    assert shown.at == T0.timestamp()
    assert list(shown.jobs) == [
        JobState(
            "source",
            "other",
            "other",
            RunState.WAITING,
            began,
            None,
            {RunState.SUCCEEDED: 0, RunState.FAILED: 0, RunState.CANCELED: 0},
        ),
        JobState(
            "source",
            "transformation/1",
            "SAP pumps",
            RunState.RUNNING,
            began + 1,
            None,
            {RunState.SUCCEEDED: 0, RunState.FAILED: 1, RunState.CANCELED: 0},
        ),
    ]
    assert list(shown.sources) == [
        SourceState("source", active=2, waiting=1, abandoned=1, succeeded_at=began, waiting_since=began)
    ]
    assert list(shown.sinks) == [
        SinkBacklog("file", 0, 0, None, owed_bytes=0, share_bytes=8),
        SinkBacklog("marquez", 2, 1, began, owed_bytes=ledger.owed_bytes("marquez"), share_bytes=20, refused=1),
    ]
    assert ledger.owed_bytes("marquez") > 0
    assert (shown.ledger_bytes, shown.ledger_limit) == (10, 20)


def test_what_left_the_configuration_is_not_shown(ledger: Ledger) -> None:
    ledger.happen("1", START, COMPLETE)
    configured_sinks.sync_sinks(ledger.conn, {"file": ALL}, NOW)
    shown = snapshot(ledger.conn, CLOCK, {"another": timedelta(hours=24)}, 10, 20)
    assert not shown.jobs
    assert not shown.sources
    assert [sink.sink for sink in shown.sinks] == ["file"]


def test_too_many_jobs_are_cut_and_what_was_left_out_is_counted(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape, "JOBS_AT_MOST", 5)
    small = configured_sources.sync_sources(ledger.conn, [Configured("small")], NOW)["small"]
    many = [a_run(f"run {n}", RunState.FAILED, job=a_job(f"transformation/{n}")) for n in range(9)]
    jobs.note(ledger.conn, ledger.source, [(run, EventKind.FAIL) for run in many], NOW)
    jobs.note(ledger.conn, small, [(run, EventKind.FAIL) for run in many[:2]], NOW)
    shown = snapshot(ledger.conn, CLOCK, {**SOURCES, "small": timedelta(hours=24)}, 10, 20)
    assert sorted((job.source, job.job) for job in shown.jobs) == [
        ("small", "transformation/0"),
        ("small", "transformation/1"),
        ("source", "transformation/0"),
        ("source", "transformation/1"),
        ("source", "transformation/2"),
    ]
    assert {source.source: source.jobs_left_out for source in shown.sources} == {"source": 6, "small": 0}


def test_runs_that_run_for_too_long_are_stale(ledger: Ledger) -> None:
    day = timedelta(hours=24)

    def begun(key: str, ago: timedelta, state: RunState = RunState.RUNNING, job: str = "load", **more: Any) -> None:
        at = T0 - ago
        run = a_run(key, state, job=a_job(job), started_at=at, last_event_at=at, **more)
        ledger.commit(RunChange(run))

    begun("long", day + timedelta(seconds=1))
    begun("longer", 9 * day)
    begun("young", day - timedelta(seconds=1))
    begun("waits for a person", 9 * day, RunState.WAITING)
    begun("is not watched", 9 * day, abandoned_at=T0)
    begun("has ended", 9 * day, RunState.SUCCEEDED, ended_at=T0)
    begun("ends", 9 * day, RunState.SUCCEEDED)
    begun("alone", timedelta(hours=1), job="other")
    assert {job.job: job.stale for job in snapshot(ledger.conn, CLOCK, SOURCES, 10, 20).jobs} == {"load": 2, "other": 0}
    patient = {"source": 30 * day}
    assert {job.stale for job in snapshot(ledger.conn, CLOCK, patient, 10, 20).jobs} == {0}


def test_the_schedule_is_that_of_the_last_run(ledger: Ledger) -> None:
    ledger.happen("1", START, job=replace(a_job(), schedule="0 2 * * *"))
    assert [job.schedule for job in snapshot(ledger.conn, CLOCK, SOURCES, 10, 20).jobs] == ["0 2 * * *"]
    ledger.now += SECOND
    ledger.happen("2", START)
    assert [job.schedule for job in snapshot(ledger.conn, CLOCK, SOURCES, 10, 20).jobs] == [""]


def test_the_last_duration_says_whether_it_is_the_platforms(ledger: Ledger) -> None:
    def shown() -> list[bool]:
        return [job.duration_bounded for job in snapshot(ledger.conn, CLOCK, SOURCES, 10, 20).jobs]

    ledger.happen("1", START, COMPLETE, ended_within=Interval(T0, T0))
    assert shown() == [True]
    ledger.now += SECOND
    ledger.happen("2", START, COMPLETE)
    assert shown() == [False]


def test_counts_outlive_the_runs_that_they_count(ledger: Ledger) -> None:
    """Counters must not go back when retention removes what was counted; with their job they vanish."""
    for number in range(3):
        ledger.happen(f"{number}", START, COMPLETE if number else FAIL)
        ledger.now += SECOND
    for sink in ("marquez", "file"):
        ledger.drain(sink)
    before = snapshot(ledger.conn, CLOCK, SOURCES, 10, 20).jobs
    later = ledger.now + SECOND
    retention.expire_events(ledger.conn, 0, later)
    assert retention.expire_runs(ledger.conn, 0, {ledger.source: later}).removed == 3
    retention.prune(ledger.conn, NOW)
    after = snapshot(ledger.conn, CLOCK, SOURCES, 10, 20).jobs
    assert after == before
    assert [job.outcomes for job in after] == [{RunState.SUCCEEDED: 2, RunState.FAILED: 1, RunState.CANCELED: 0}]
    retention.prune(ledger.conn, later)
    assert not snapshot(ledger.conn, CLOCK, SOURCES, 10, 20).jobs


@given(st.dictionaries(st.integers(), st.integers(0, 50)), st.integers(0, 100))
def test_shares_use_all_room_and_are_fair(counts: dict[int, int], most: int) -> None:
    shown = shares(counts, most)
    assert shown.keys() == counts.keys()
    assert all(0 <= shown[key] <= count for key, count in counts.items())
    assert sum(shown.values()) == min(most, sum(counts.values()))
    cut = [shown[key] for key, count in counts.items() if shown[key] < count]
    assert not cut or max(shown.values()) - min(cut) <= 1, "nobody has more than one that was cut"
