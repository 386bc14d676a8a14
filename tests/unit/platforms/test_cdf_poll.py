"""The CDF adapter's polls against the simulator: discovery, tracking, ends, and what goes missing."""

from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
import pytest

from collector.clock import to_ms
from collector.errors import AuthFailed, BadAnswer, Throttled, Unavailable
from collector.model import EventKind, Observation, RunState, SkipKind
from collector.platforms.base import READS_AGAIN, Rereading
from collector.platforms.cdf.api import Api
from collector.platforms.cdf.job_list import first_mark, read_mark
from collector.platforms.cdf.rows import JobRow, JobRows
from collector.platforms.cdf.walks import FULL_WALK_PAUSE
from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Ending, Modes, Order, Scenario
from tests.cdf_rig import CdfRig, cdf_rig

START, COMPLETE, FAIL, ABORT, OTHER = (
    EventKind.START,
    EventKind.COMPLETE,
    EventKind.FAIL,
    EventKind.ABORT,
    EventKind.OTHER,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
async def rig() -> AsyncIterator[CdfRig]:
    async with cdf_rig() as made:
        made.simulator.add_transformation("pumps", {"type": "raw", "database": "clean", "table": "pumps"})
        yield made


@pytest.mark.parametrize("odd", ["\ud800", float("nan"), float("inf"), 10**400], ids=["half", "nan", "inf", "endless"])
async def test_an_odd_value_in_one_row_costs_no_other_run(rig: CdfRig, odd: Any) -> None:
    rig.simulator.add_transformation("valves", {"type": "events"})
    await rig.poller.cycle()
    bad = rig.simulator.start_run("pumps", Scenario(1, 5, Ending.FAILED, error=odd))
    good = rig.simulator.start_run("valves", Scenario(1, 5))
    await rig.poller.follow(30)
    assert [rig.poller.kinds(str(job.id))[-1] for job in (bad, good)] == [FAIL, COMPLETE]
    assert rig.poller.skips == []


async def test_a_run_is_followed_from_start_to_end(rig: CdfRig) -> None:
    await rig.poller.cycle()
    begun = rig.clock.now()
    job = rig.simulator.start_run("pumps", Scenario(starts_after=2, runs_for=20))
    await rig.poller.follow(60)
    key = str(job.id)
    assert rig.poller.kinds(key) == [OTHER, START, COMPLETE]
    assert rig.poller.at(key, START).at == begun + timedelta(seconds=2)
    assert rig.poller.at(key, COMPLETE).at == begun + timedelta(seconds=22)
    run = rig.poller.runs[key]
    assert str(run.run_id) == job.uuid
    assert (run.job.name, run.job.key) == ("transformation/pumps", str(job.transformation.id))
    assert run.job.sql == "select 1 as id"


async def test_what_holds_again_is_not_made_again(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(starts_after=1, runs_for=60))

    async def repeated() -> list[Observation]:
        """What one poll repeats, which by then is in memory twice as it came."""
        rig.clock.advance(5)
        pages = [page async for page in rig.platform.poll(rig.poller.due(), rig.poller.cursor)]
        assert {page.repeated_at for page in pages if page.repeated} <= {rig.clock.now()}
        assert len([one for page in pages for one in page.expanded().observations]) == 1
        return [one for page in pages for one in page.repeated]

    rig.clock.advance(5)
    await rig.poller.cycle()
    await rig.poller.cycle()
    first, second = await repeated(), await repeated()
    assert first[0] is second[0]
    assert (first[0].key, first[0].state) == (str(job.id), RunState.RUNNING)
    assert first[0].seen_at < rig.clock.now()
    rig.clock.advance(60)
    assert await repeated() == [], "it ended"


class Polls:
    """Polls every five seconds. `read` are the jobs whose rows the last one read."""

    def __init__(self, rig: CdfRig, patch: pytest.MonkeyPatch) -> None:
        self._rig, self.read, before = rig, list[int](), JobRows.read

        def noted(rows: JobRows, data: Any) -> JobRow | None:
            row = before(rows, data)
            self.read += [row.id] if row else []
            return row

        patch.setattr(JobRows, "read", noted)

    async def next(self) -> dict[str, Observation]:
        """What it saw."""
        self._rig.clock.advance(5)
        self.read.clear()
        pages = await self._rig.poller.cycle()
        return {one.key: one for page in pages for one in page.observations}

    async def settled(self) -> dict[str, Observation]:
        """Once a poll is like the one before in all that is remembered of it."""
        for _ in range(4):
            seen = await self.next()
        return seen


def shown(seen: Observation) -> Observation:
    return replace(seen, seen_at=EPOCH)


async def test_of_an_answer_that_repeats_the_last_one_no_row_is_read(
    rig: CdfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But those of the list, which holds jobs that ended, too."""
    jobs = [rig.simulator.start_run("pumps", Scenario(runs_for=None)) for _ in range(3)]
    polls = Polls(rig, monkeypatch)
    first = await polls.settled()
    second = await polls.next()
    assert sorted(polls.read) == sorted(job.id for job in jobs), "once: in the list"
    assert {key: shown(seen) for key, seen in second.items()} == {key: shown(seen) for key, seen in first.items()}
    assert {seen.seen_at for seen in second.values()} == {rig.clock.now()}


async def test_whatever_a_job_says_anew_is_seen_at_once(rig: CdfRig, monkeypatch: pytest.MonkeyPatch) -> None:
    job, other = (rig.simulator.start_run("pumps", Scenario(runs_for=None)) for _ in range(2))
    polls = Polls(rig, monkeypatch)
    await polls.settled()
    rig.simulator.set_state(job.id, "Strange", error="it waits")
    strange = (await polls.next())[str(job.id)]
    assert (strange.raw_state, strange.facts.error) == ("Strange", "it waits")
    await polls.settled()
    rig.simulator.set_state(job.id, "Completed")
    seen = await polls.next()
    assert {key: one.state for key, one in seen.items()} == {
        str(job.id): RunState.SUCCEEDED,
        str(other.id): RunState.RUNNING,
    }


async def test_what_is_learned_beside_an_answer_is_seen_at_once(rig: CdfRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the definition of its transformation, and of the run."""
    job = rig.simulator.start_run("pumps", Scenario(runs_for=None))
    polls, key = Polls(rig, monkeypatch), str(job.id)
    await polls.settled()
    rig.simulator.change_transformation("pumps", name="Pumps and more")
    rig.clock.advance(3600)
    await polls.next()
    assert (await polls.next())[key].job.description == "Pumps and more"
    await polls.settled()
    run = rig.poller.runs[key]
    rig.poller.runs[key] = replace(run, job=replace(run.job, name="transformation/first"))
    assert (await polls.next())[key].job.name == "transformation/first"


async def test_a_job_that_goes_silent_while_nothing_else_changes_is_logged(
    rig: CdfRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig.simulator.start_run("pumps", Scenario(runs_for=None))
    lost = rig.simulator.start_run("pumps", Scenario(runs_for=None, heartbeat_stops_after=60))
    polls = Polls(rig, monkeypatch)
    await polls.settled()
    rig.clock.advance(1000)
    await polls.next()
    [record] = [record for record in caplog.records if record.message == "cdf.job_stalled"]
    assert f"job {lost.id}" in record.fields["cause"]  # type: ignore[attr-defined]


async def test_a_run_that_began_and_ended_between_two_polls(rig: CdfRig) -> None:
    await rig.poller.cycle()
    job = rig.simulator.start_run("pumps", Scenario(starts_after=1, runs_for=2))
    rig.clock.advance(60)
    await rig.poller.cycle()
    assert rig.poller.kinds(str(job.id))[-1] is COMPLETE
    assert rig.poller.at(str(job.id), START).within is None


@pytest.mark.parametrize(
    ("scenario", "kinds"),
    [
        (Scenario(ends=Ending.FAILED, error="boom"), [OTHER, START, FAIL]),
        (Scenario(ends=Ending.CANCELLED), [OTHER, START, ABORT]),
        (Scenario(ends=Ending.NEVER_STARTED, error="no table"), [OTHER, START, FAIL]),
        (Scenario(starts_after=None), [OTHER]),
        (Scenario(runs_for=None), [OTHER, START]),
        (Scenario(finished_early=0.4), [OTHER, START, COMPLETE]),
        (Scenario(ends=Ending.FAILED, error=""), [OTHER, START, FAIL]),
    ],
)
async def test_every_ending(rig: CdfRig, scenario: Scenario, kinds: list[EventKind]) -> None:
    job = rig.simulator.start_run("pumps", replace(scenario, runs_for=scenario.runs_for and 12))
    await rig.poller.follow(40)
    assert rig.poller.kinds(str(job.id)) == kinds
    times = [transition.at for _, transition in rig.poller.transitions]
    assert times == sorted(times)


@pytest.mark.parametrize("text", ["job CANCELLED by the user. ", "Stopped by an operator"])
async def test_the_texts_of_a_cancel_can_be_configured(text: str) -> None:
    async with cdf_rig(canceled_errors=["Job cancelled by the user.", "stopped by an operator"]) as rig:
        rig.simulator.add_transformation("pumps")
        job = rig.simulator.start_run("pumps", Scenario(ends=Ending.FAILED, error=text))
        await rig.poller.follow(20)
        assert rig.poller.runs[str(job.id)].state is RunState.CANCELED


async def test_an_end_before_the_start_is_clamped(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(starts_after=1, runs_for=3, finished_early=0.4))
    await rig.poller.follow(20)
    start, end = rig.poller.at(str(job.id), START), rig.poller.at(str(job.id), COMPLETE)
    assert start.at == end.at


@pytest.mark.parametrize("null", [True, False])
async def test_optional_fields_may_be_null_or_missing(rig: CdfRig, null: bool) -> None:
    rig.simulator.modes.null_optionals = null
    job = rig.simulator.start_run("pumps", Scenario(starts_after=6, runs_for=6))
    await rig.poller.follow(20)
    assert rig.poller.kinds(str(job.id)) == [OTHER, START, COMPLETE]


async def test_an_unknown_status_keeps_the_run_open_and_is_reported(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(starts_after=1, runs_for=30, shown_as="Paused"))
    await rig.poller.follow(20)
    run = rig.poller.runs[str(job.id)]
    assert (run.state, run.raw_state, run.open) == (RunState.QUEUED, "Paused", True)
    assert [skip.subject for skip in rig.poller.skips if skip.kind is SkipKind.STATUS] == ["Paused"]
    await rig.poller.follow(20)
    assert rig.poller.kinds(str(job.id))[-2:] == [START, COMPLETE]


async def test_a_null_status_keeps_the_run_open(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps")
    rig.simulator.set_state(job.id, None)
    await rig.poller.follow(10)
    assert rig.poller.runs[str(job.id)].state is RunState.UNKNOWN
    assert rig.poller.kinds(str(job.id)) == []


async def test_the_rows_written_come_with_the_end_and_from_one_request(rig: CdfRig) -> None:
    metrics = {"raw.clean.pumps.rows.created": 321, "raw.sap.pumps.rows.read": 999, "requests": 5}
    job = rig.simulator.start_run("pumps", Scenario(metrics=metrics))
    await rig.poller.follow(30)
    outputs = rig.poller.runs[str(job.id)].facts.outputs
    assert outputs is not None
    assert [(found.name, found.rows) for found in outputs] == [("raw/clean/pumps", 321)]
    assert await _requests(rig, "/metrics") == 1


async def test_a_job_that_never_started_needs_no_metrics(rig: CdfRig) -> None:
    rig.simulator.start_run("pumps", Scenario(ends=Ending.NEVER_STARTED))
    await rig.poller.follow(10)
    assert await _requests(rig, "/metrics") == 0


async def test_back_fill_without_metrics(rig: CdfRig) -> None:
    await rig.platform_again(backfill_metrics=False)
    old = rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(minutes=30))
    await rig.poller.cycle()
    assert rig.poller.kinds(str(old.id)) == [START, COMPLETE]
    assert await _requests(rig, "/metrics") == 0
    rig.simulator.start_run("pumps", Scenario(runs_for=20))
    await rig.poller.follow(60)
    assert await _requests(rig, "/metrics") == 1
    rig.simulator.start_run("pumps", Scenario(0.1, 1))
    await rig.poller.follow(60, every=30)
    assert await _requests(rig, "/metrics") == 2, "a job of seconds is no history"
    rig.clock.advance(3600)
    rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(minutes=30))
    await rig.poller.cycle()
    assert await _requests(rig, "/metrics") == 2, "an outage makes history"


async def test_metrics_that_are_gone_are_a_problem_of_the_run(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(starts_after=1, runs_for=6))
    await rig.poller.cycle()
    rig.clock.advance(10)
    pages = [page async for page in rig.platform.poll(rig.poller.due(), rig.poller.cursor)]
    rig.simulator.remove(job.id)
    for page in pages:
        rig.poller._take(page)
    await rig.poller._enrich()
    run = rig.poller.runs[str(job.id)]
    assert run.state is RunState.SUCCEEDED
    assert run.facts.problems[0].startswith("the row counts are gone")


# The first start


@pytest.mark.parametrize(("lookback", "found"), [("1h", 2), ("none", 0), ("3h", 3), ("2026-11-21T09:00:00Z", 1)])
async def test_the_first_start_looks_back(lookback: str, found: int, caplog: pytest.LogCaptureFixture) -> None:
    async with cdf_rig(initial_lookback=lookback) as rig:
        rig.simulator.add_transformation("pumps")
        for minutes in (10, 50, 120):
            rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(minutes=minutes))
        await rig.poller.cycle()
        assert len(rig.poller.runs) == found
        await rig.poller.follow(120)
        assert "cdf.cursor_discarded" not in caplog.text
        assert len(rig.poller.runs) == found
        rig.simulator.start_run("pumps")
        await rig.poller.follow(10)
        assert len(rig.poller.runs) == found + 1


async def test_what_runs_at_the_first_start_is_followed_however_old(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(runs_for=4 * 3600), at=rig.clock.now() - timedelta(hours=3))
    await rig.poller.follow(7200, every=600)
    assert rig.poller.kinds(str(job.id))[-1] is COMPLETE


# The walk


@pytest.mark.parametrize("page_size", [5, 7, 50])
@pytest.mark.parametrize("order", list(Order))
async def test_every_page_is_fetched_in_any_order(
    page_size: int, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.platforms.cdf.adapter.PAGE_SIZE", page_size)
    async with cdf_rig(Modes(list_order=order)) as rig:
        rig.simulator.add_transformation("pumps")
        for number in range(60):
            rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(seconds=10 * number))
        await rig.poller.cycle()
        assert len(rig.poller.runs) == 60
        rig.clock.advance(600)
        late = [rig.simulator.start_run("pumps") for _ in range(3)]
        await rig.poller.follow(60)
        assert all(str(job.id) in rig.poller.runs for job in late)


async def test_an_order_that_comes_back_is_trusted_again(rig: CdfRig) -> None:
    for number in range(120):
        rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(seconds=10 * number))
    rig.simulator.modes.list_order = Order.SHUFFLED
    await rig.poller.cycle()
    assert len(rig.poller.runs) == 120
    rig.simulator.modes.list_order = Order.NEWEST
    await rig.poller.follow(60)
    before = rig.requests()
    rig.clock.advance(600)
    await rig.poller.cycle()
    assert rig.requests() - before == 1


async def test_a_list_that_was_out_of_order_is_read_to_its_end_however_its_first_page_looks(rig: CdfRig) -> None:
    """All but the last rows are newest first."""
    rig.simulator.modes.list_order = Order.SHUFFLED
    places = sorted((str(UUID(int=number)) for number in range(62)), key=lambda one: sha256(one.encode()).hexdigest())
    for place, age in zip(places, [*range(0, 600, 10), 0], strict=False):
        rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(seconds=age)).uuid = place
    await rig.poller.cycle()
    rig.clock.advance(600)
    late = rig.simulator.start_run("pumps")
    late.uuid = places[-1]
    await rig.poller.cycle()
    assert str(late.id) in rig.poller.runs


async def test_jobs_of_one_second_show_that_a_list_is_oldest_first() -> None:
    async with cdf_rig(Modes(list_order=Order.OLDEST)) as rig:
        rig.simulator.add_transformation("pumps")
        for number in range(60):
            rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(hours=2, milliseconds=10 * number))
        job = rig.simulator.start_run("pumps")
        await rig.poller.cycle()
        assert list(rig.poller.runs) == [str(job.id)]


@pytest.mark.parametrize("ahead", [0, 60], ids=["none ahead", "a page of jobs from the future"])
async def test_more_new_jobs_than_a_page_holds_are_seen_at_once(ahead: int) -> None:
    async with cdf_rig(Modes(concurrency_limit=None)) as rig:
        rig.simulator.add_transformation("pumps")
        for number in range(1 + ahead):
            rig.simulator.start_run("pumps", at=rig.clock.now() + timedelta(hours=5 if number else 0))
        for seconds in (5, 5, 5):
            await rig.poller.cycle()
            rig.clock.advance(seconds)
        jobs = [rig.simulator.start_run("pumps") for _ in range(60)]
        await rig.poller.cycle()
        assert {str(job.id) for job in jobs} <= rig.poller.runs.keys()


async def test_a_job_that_shows_up_late_is_found_within_the_overlap(rig: CdfRig) -> None:
    await rig.poller.follow(300)
    for _ in range(60):
        rig.simulator.start_run("pumps")
    await rig.poller.follow(10)
    late = rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(minutes=2))
    await rig.poller.follow(70)
    assert rig.poller.kinds(str(late.id)) == [START, COMPLETE]


async def test_a_time_in_the_future_does_not_blind(rig: CdfRig) -> None:
    rig.simulator.start_run("pumps", at=rig.clock.now() + timedelta(days=400))
    await rig.poller.cycle()
    rig.clock.advance(7200)
    job = rig.simulator.start_run("pumps")
    await rig.poller.follow(10)
    assert str(job.id) in rig.poller.runs


async def test_a_walk_that_broke_is_done_again(rig: CdfRig) -> None:
    await rig.poller.cycle()
    rig.clock.advance(60)
    jobs = [rig.simulator.start_run("pumps") for _ in range(120)]
    third = Fault(FaultKind.STATUS, path="GET .*/jobs$", times=4, status=500)
    _after(rig, 1, third)
    with pytest.raises(Unavailable):
        await rig.poller.cycle()
    assert 0 < len(rig.poller.runs) < 120
    rig.simulator.faults.clear()
    await rig.poller.cycle()
    assert all(str(job.id) in rig.poller.runs for job in jobs)


async def test_a_poll_that_never_reached_the_ledger_is_done_again(rig: CdfRig) -> None:
    await rig.poller.cycle()
    job = rig.simulator.start_run("pumps")
    lost = [page async for page in rig.platform.poll([], rig.poller.cursor)]
    assert lost[-1].cursor is not None
    await rig.poller.cycle()
    assert str(job.id) in rig.poller.runs


async def test_a_late_job_that_never_reached_the_ledger_is_found_again(rig: CdfRig) -> None:
    rig.simulator.start_run("pumps")
    await rig.poller.follow(120)
    rig.simulator.start_run("pumps")
    await rig.poller.follow(90)
    late = rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(minutes=2))
    rig.clock.advance(60)
    assert [page async for page in rig.platform.poll([], rig.poller.cursor)][-1].observations
    await rig.poller.cycle()
    assert str(late.id) in rig.poller.runs


async def test_a_new_process_goes_on_where_the_old_one_was(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(runs_for=20))
    await rig.poller.follow(10)
    await rig.platform_again()
    brief = rig.simulator.start_run("pumps", Scenario(0.1, 0.1))
    await rig.poller.follow(60)
    assert rig.poller.kinds(str(job.id)) == [OTHER, START, COMPLETE]
    assert rig.poller.kinds(str(brief.id))[-2:] == [START, COMPLETE]


@pytest.mark.parametrize("cursor", ["", "{}", "[]", "nonsense", '{"v":2}', '{"v":1,"newest":"soon"}'])
async def test_a_cursor_of_another_kind_is_a_first_start(rig: CdfRig, cursor: str) -> None:
    job = rig.simulator.start_run("pumps")
    rig.poller.cursor = cursor
    await rig.poller.cycle()
    assert str(job.id) in rig.poller.runs


async def test_the_mark_of_an_older_version_is_read_on_from(rig: CdfRig, caplog: pytest.LogCaptureFixture) -> None:
    """It does not say when it was reached; what it says of the last look is up to a day older."""
    now = to_ms(rig.clock.now())
    rig.poller.cursor = orjson.dumps(
        {"v": 1, "newest": now - 1000, "since": now - 7_200_000, "walks": 7, "looked": now - 3_600_000}
    ).decode()
    rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(minutes=30))
    await rig.poller.cycle()
    assert rig.poller.runs == {}
    assert "cdf.cursor_discarded" not in caplog.text


async def test_a_first_start_by_a_clock_that_ran_ahead_leaves_nobody_blind(rig: CdfRig) -> None:
    rig.poller.cursor = first_mark(rig.clock.now() + timedelta(days=1)).text()
    within_look_back = rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(minutes=30))
    job = rig.simulator.start_run("pumps", Scenario(0.1, 0.1))
    await rig.poller.follow(30)
    assert str(within_look_back.id) in rig.poller.runs
    assert rig.poller.kinds(str(job.id))[-2:] == [START, COMPLETE]
    mark = read_mark(rig.poller.cursor)
    assert mark is not None
    assert mark.since <= to_ms(rig.clock.now())


@pytest.mark.parametrize("body", [{}, {"items": {}}, [], "text", None, {"items": [], "nextCursor": 7}])
async def test_an_answer_of_another_shape_is_no_empty_list(rig: CdfRig, body: Any) -> None:
    job = rig.simulator.start_run("pumps", Scenario(runs_for=None))
    await rig.poller.cycle()
    for path in ("byids", "jobs"):
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=path, times=-1, status=200, body=body or [body]))
        with pytest.raises(BadAnswer) if path == "jobs" else nullcontext():
            await rig.poller.cycle()
        assert f"job {job.id}" in [skip.subject for skip in rig.poller.skips]
    assert all(run.misses == 0 for run in rig.poller.runs.values())


async def test_rows_that_cannot_be_read_are_left_out_and_reported(rig: CdfRig) -> None:
    await rig.poller.cycle()
    job = rig.simulator.start_run("pumps")
    rows = [None, 7, {"id": "x"}, {"id": 99}, job.json(rig.simulator.now_ms(), rig.simulator.modes)]
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET .*/jobs", status=200, body={"items": rows}))
    await rig.poller.cycle()
    assert list(rig.poller.runs) == [str(job.id)]
    unreadable, nameless = (skip for skip in rig.poller.skips if skip.kind is SkipKind.ROW)
    assert (unreadable.subject, nameless.subject) == ("jobs", "job 99")
    assert "3 rows" in unreadable.cause


async def test_a_cursor_that_turns_in_circles_ends_the_walk(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps")
    rows = [job.json(rig.simulator.now_ms(), rig.simulator.modes)]
    circle = {"items": rows, "nextCursor": "again"}
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET .*/jobs", times=-1, status=200, body=circle))
    with pytest.raises(BadAnswer, match="a next page without a job"):
        await rig.poller.cycle()


async def test_fresh_cursors_for_ever_over_known_jobs_end_the_walk(rig: CdfRig) -> None:
    jobs = [rig.simulator.start_run("pumps", Scenario(runs_for=None)) for _ in range(3)]
    rows = [job.json(rig.simulator.now_ms(), rig.simulator.modes) for job in jobs]
    for number in range(50):
        endless = {"items": rows, "nextCursor": f"fresh-{number}"}
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET .*/jobs$", status=200, body=endless))
    with pytest.raises(BadAnswer, match="a next page without a job"):
        await rig.poller.cycle()
    answered = [fault for fault in rig.simulator.faults.planned if fault.times == 0]
    assert len(answered) == 3, "a page, the same in a longer one, and the one that repeats it"
    assert len(rig.poller.runs) == 3


async def test_empty_pages_between_the_others_and_at_the_end_are_pages(rig: CdfRig) -> None:
    jobs = [rig.simulator.start_run("pumps", Scenario(runs_for=None)) for _ in range(3)]
    rows = [job.json(rig.simulator.now_ms(), rig.simulator.modes) for job in jobs]
    pages = [
        *({"items": [], "nextCursor": f"{number}"} for number in range(40)),
        {"items": rows, "nextCursor": "z"},
        {"items": []},
    ]
    for page in pages:
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET .*/jobs$", status=200, body=page))
    await rig.poller.cycle()
    assert len(rig.poller.runs) == 3
    assert all(fault.times == 0 for fault in rig.simulator.faults.planned)


async def test_empty_pages_for_ever_end_the_walk(rig: CdfRig) -> None:
    empty = {"items": [], "nextCursor": "again"}
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET .*/jobs$", times=-1, status=200, body=empty))
    with pytest.raises(BadAnswer, match="more than 100 pages in a row are empty"):
        await rig.poller.cycle()


async def test_silent_jobs_are_logged_once_however_many(caplog: pytest.LogCaptureFixture) -> None:
    async with cdf_rig(Modes(retention_jobs=None, concurrency_limit=None)) as rig:
        rig.simulator.add_transformation("pumps")
        for _ in range(1200):
            rig.simulator.start_run("pumps", Scenario(runs_for=None, heartbeat_stops_after=5))
        await rig.poller.follow(30)
        rig.clock.advance(1200)
        await rig.poller.follow(60)
        logged = [record for record in caplog.records if record.message == "cdf.job_stalled"]
        assert len(logged) == 2, "one for each thousand that is read"
        assert logged[-1].fields["silent"] == 1200  # type: ignore[attr-defined]


async def test_a_silent_job_that_went_is_not_counted_any_more(rig: CdfRig, caplog: pytest.LogCaptureFixture) -> None:
    first, _ = (rig.simulator.start_run("pumps", Scenario(1, None, heartbeat_stops_after=5)) for _ in range(2))
    await rig.poller.follow(10)
    rig.clock.advance(1200)
    await rig.poller.cycle()
    rig.simulator.remove(first.id)
    await rig.poller.follow(1200, every=300)
    assert not rig.poller.runs[str(first.id)].open
    rig.simulator.start_run("pumps", Scenario(1, None, heartbeat_stops_after=5))
    await rig.poller.follow(1500, every=300)
    logged = [record.fields["silent"] for record in caplog.records if record.message == "cdf.job_stalled"]  # type: ignore[attr-defined]
    assert logged == [2, 2], "two, of which one went, and one more"


# What goes missing


async def test_an_open_run_that_the_list_shows_is_no_miss(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(1, 40))
    await rig.poller.cycle()
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="jobs/byids", times=-1, status=200, body={"items": []}))
    await rig.platform_again()
    await rig.poller.follow(30)
    run = rig.poller.runs[str(job.id)]
    assert (run.misses, run.state) == (0, RunState.RUNNING)
    assert {len(page.observations) for page in rig.poller.pages} <= {0, 1}, "seen once in a page"
    await rig.poller.follow(30)
    assert rig.poller.kinds(str(job.id)) == [OTHER, START, COMPLETE]


async def test_a_job_that_was_not_asked_for_is_left_to_the_list(rig: CdfRig, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Api.jobs_by_ids

    async def with_one_more(api: Api, ids: Sequence[int]) -> list[Any]:
        [*asked] = await read(api, ids)
        return [*asked, *({**row, "id": row["id"] + 1000} for row in asked)]

    monkeypatch.setattr(Api, "jobs_by_ids", with_one_more)
    job = rig.simulator.start_run("pumps", Scenario(1, 20))
    await rig.poller.follow(60)
    assert list(rig.poller.runs) == [str(job.id)]
    assert rig.poller.kinds(str(job.id))[-1] is COMPLETE


@pytest.mark.parametrize("policy", ["leave_open", "abort"])
async def test_a_run_that_vanishes(policy: str) -> None:
    async with cdf_rig(on_vanished=policy) as rig:
        rig.simulator.add_transformation("pumps")
        job = rig.simulator.start_run("pumps", Scenario(runs_for=None, vanishes_after=12))
        await rig.poller.follow(20)
        assert rig.poller.runs[str(job.id)].abandoned_at is None
        await rig.poller.follow(20)
        run = rig.poller.runs[str(job.id)]
        assert (run.state, run.open) == (RunState.UNKNOWN, False)
        assert rig.poller.kinds(str(job.id)) == [OTHER, START] + ([ABORT] if policy == "abort" else [])
        assert [skip.kind for skip in rig.poller.skips] == [SkipKind.VANISHED]


async def test_runs_of_a_deleted_transformation_vanish_and_others_do_not(rig: CdfRig) -> None:
    rig.simulator.add_transformation("other")
    gone = rig.simulator.start_run("pumps", Scenario(runs_for=None))
    stays = rig.simulator.start_run("other", Scenario(runs_for=None))
    await rig.poller.cycle()
    rig.simulator.remove_transformation("pumps")
    await rig.poller.follow(30)
    assert not rig.poller.runs[str(gone.id)].open
    assert rig.poller.runs[str(stays.id)].open


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_a_failing_source_never_looks_like_a_removed_job(rig: CdfRig, status: int) -> None:
    job = rig.simulator.start_run("pumps", Scenario(runs_for=None))
    await rig.poller.cycle()
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="jobs", times=-1, status=status))
    for _ in range(5):
        with pytest.raises((AuthFailed, Throttled, Unavailable)):
            await rig.poller.cycle()
        rig.clock.advance(60)
    assert rig.poller.runs[str(job.id)].misses == 0


async def test_where_a_row_cannot_be_read_nothing_counts_as_missing(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(runs_for=None))
    await rig.poller.cycle()
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="byids", status=200, body={"items": [{"id": None}]}))
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET .*/jobs$", status=200, body={"items": []}))
    pages = await rig.poller.cycle()
    assert pages[-1].unread == (str(job.id),)
    assert not any(page.missing for page in pages)


async def test_retention_that_outran_us_is_reported_by_transformation(rig: CdfRig) -> None:
    rig.simulator.add_transformation("rare")
    rig.simulator.start_run("pumps")
    await rig.poller.follow(20)
    rig.clock.advance(86_400)
    for number in range(1005):
        rig.simulator.start_run("pumps", Scenario(0.1, 1), at=rig.clock.now() - timedelta(seconds=60 * number))
    rig.simulator.start_run("rare")
    await rig.poller.cycle()
    gaps = [skip for skip in rig.poller.skips if skip.kind is SkipKind.GAP]
    assert [skip.subject for skip in gaps] == ["transformation pumps"]
    assert gaps[0].cause.startswith("1000 new jobs since 2026-11-21T09:15")
    await rig.poller.follow(10)
    assert len([skip for skip in rig.poller.skips if skip.kind is SkipKind.GAP]) == 1


async def test_ninety_days_without_us_are_reported(rig: CdfRig) -> None:
    await rig.poller.follow(10)
    rig.clock.advance(95 * 86_400)
    await rig.poller.cycle()
    [gap] = [skip for skip in rig.poller.skips if skip.kind is SkipKind.GAP]
    assert gap.subject == "all transformations"
    await rig.poller.follow(20)
    assert [skip.kind for skip in rig.poller.skips] == [SkipKind.GAP]


@pytest.mark.parametrize("lookback", ["1h", "2026-01-01"])
async def test_a_project_in_which_nothing_runs_for_long_has_lost_nothing(
    lookback: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with cdf_rig(initial_lookback=lookback) as rig:
        for _ in range(100):
            await rig.poller.cycle()
            rig.clock.advance(86_400)
        assert rig.poller.skips == []
        assert "cdf.cursor_discarded" not in caplog.text


async def test_what_is_left_out_has_no_gaps() -> None:
    async with cdf_rig(exclude=["noise"]) as rig:
        rig.simulator.add_transformation("noise")
        rig.simulator.start_run("noise")
        await rig.poller.follow(20)
        rig.clock.advance(86_400)
        for number in range(1005):
            rig.simulator.start_run("noise", Scenario(0.1, 1), at=rig.clock.now() - timedelta(seconds=60 * number))
        await rig.poller.cycle()
        assert {skip.kind for skip in rig.poller.skips} == {SkipKind.FILTERED}


async def test_a_first_start_knows_of_no_gap() -> None:
    async with cdf_rig(initial_lookback="2020-01-01") as rig:
        rig.simulator.add_transformation("pumps")
        for number in range(1100):
            rig.simulator.start_run("pumps", Scenario(0.1, 1), at=rig.clock.now() - timedelta(minutes=number))
        await rig.poller.cycle()
        assert len(rig.poller.runs) == 1000
        assert rig.poller.skips == []


# Which jobs


@pytest.mark.parametrize(
    ("rules", "watched"),
    [
        ({"include": ["sap_*"]}, {"sap_pumps", "sap_orders"}),
        ({"exclude": ["sap_*"]}, {"daily"}),
        ({"include": ["sap_*"], "exclude": ["*orders"]}, {"sap_pumps"}),
        ({"include": ["Every day*"]}, {"daily"}),
        ({"include": ["transformation/daily"]}, {"daily"}),
        ({"include": ["SAP_*"]}, set()),
    ],
)
async def test_include_and_exclude(rules: dict[str, Any], watched: set[str]) -> None:
    made = {"daily": "Every day at noon", "sap_orders": "Orders", "sap_pumps": "Pumps"}
    async with cdf_rig(**rules) as rig:
        for external_id, name in made.items():
            rig.simulator.add_transformation(external_id, name=name)
            rig.simulator.start_run(external_id)
        await rig.poller.follow(10)
        assert {run.job.name for run in rig.poller.runs.values()} == {f"transformation/{name}" for name in watched}
        left_out = [skip.subject for skip in rig.poller.skips if skip.kind is SkipKind.FILTERED]
        assert sorted(left_out) == sorted(f"transformation {name}" for name in made.keys() - watched)


async def test_names_that_cannot_be_read_decide_nothing() -> None:
    async with cdf_rig(include=["Every day*"]) as rig:
        rig.simulator.add_transformation("daily", name="Every day at noon")
        rig.simulator.start_run("daily")
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="transformations/byids", times=4, status=500))
        with pytest.raises(Unavailable):
            await rig.poller.cycle()
        await rig.poller.cycle()
        assert len(rig.poller.runs) == 1


async def test_definitions_that_cannot_be_read_are_not_asked_for_with_every_poll(rig: CdfRig) -> None:
    rig.simulator.start_run("pumps", Scenario(runs_for=None))
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="transformations/byids", times=-1, status=503))
    await rig.poller.follow(50)
    assert rig.statuses[503] == 4, "one try and its repeats"
    rig.simulator.faults.clear()
    await rig.poller.follow(300)
    [run] = rig.poller.runs.values()
    assert run.job.description is not None


async def test_a_private_transformation_is_watched_without_its_definition(rig: CdfRig) -> None:
    rig.simulator.add_transformation("secret", is_public=False, owner="somebody")
    job = rig.simulator.start_run("secret")
    await rig.poller.follow(10)
    run = rig.poller.runs[str(job.id)]
    assert (run.job.name, run.job.description) == ("transformation/secret", None)


async def test_a_rename_keeps_the_jobs_identity_through_a_restart(rig: CdfRig) -> None:
    first = rig.simulator.start_run("pumps")
    await rig.poller.follow(20)
    rig.simulator.change_transformation("pumps", external_id="pumps_v2")
    await rig.platform_again()
    second = rig.simulator.start_run("pumps_v2")
    await rig.poller.follow(20)
    one, two = (rig.poller.runs[str(job.id)] for job in (first, second))
    assert two.job.name == one.job.name == "transformation/pumps"
    assert two.facts.ids["transformationExternalId"] == "pumps_v2"
    taken = rig.simulator.add_transformation("pumps")
    third = rig.simulator.start_run("pumps")
    await rig.poller.follow(20)
    assert rig.poller.runs[str(third.id)].job.name == f"transformation/{taken.id}"


async def test_a_name_that_was_given_away_is_noticed_at_once(rig: CdfRig) -> None:
    rig.simulator.start_run("pumps")
    await rig.poller.follow(20)
    rig.simulator.change_transformation("pumps", external_id="pumps_v2")
    taken = rig.simulator.add_transformation("pumps")
    job = rig.simulator.start_run("pumps")
    await rig.poller.follow(20)
    assert rig.poller.runs[str(job.id)].job.name == f"transformation/{taken.id}"


async def test_a_row_that_lost_its_transformation_keeps_the_job(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps")
    await rig.poller.cycle()
    lost = {"transformationId": None, "transformationExternalId": 7, "uuid": "none"}
    rig.simulator.set_state(job.id, "Running", extra=lost)
    before = rig.poller.runs[str(job.id)]
    await rig.poller.cycle()
    run = rig.poller.runs[str(job.id)]
    assert (run.state, run.job, run.run_id) == (RunState.RUNNING, before.job, before.run_id)


async def test_a_transformation_made_again_goes_on_under_its_name(rig: CdfRig) -> None:
    rig.simulator.start_run("pumps")
    await rig.poller.follow(20)
    rig.simulator.remove_transformation("pumps")
    rig.simulator.add_transformation("pumps")
    again = rig.simulator.start_run("pumps")
    await rig.poller.follow(20)
    assert rig.poller.runs[str(again.id)].job.name == "transformation/pumps"


async def test_definitions_come_once_and_what_changed_hourly(rig: CdfRig) -> None:
    rig.simulator.change_transformation("pumps", name="Pumps", owner="anna@example.com", tags=["sap"], data_set_id=4)
    rig.simulator.start_run("pumps")
    await rig.poller.follow(60)
    rig.simulator.start_run("pumps")
    await rig.poller.follow(60)
    assert await _requests(rig, "/transformations/byids") == 1
    rig.simulator.change_transformation("pumps", name="Pumps of plant A")
    rig.clock.advance(3600)
    await rig.poller.cycle()
    job = rig.simulator.start_run("pumps")
    await rig.poller.follow(20)
    run = rig.poller.runs[str(job.id)]
    assert run.job.description == "Pumps of plant A"
    assert run.job.tags == (("sap", "true"), ("dataSetId", "4"))
    assert await _requests(rig, "/transformations/byids") == 1
    assert await _requests(rig, "/transformations/filter") == 1
    assert run.job.owners
    assert "anna" not in repr(run)


async def test_definitions_under_fresh_cursors_for_ever_end_their_walk(
    rig: CdfRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.simulator.start_run("pumps")
    await rig.poller.follow(20)
    [found] = rig.simulator.transformations.values()
    rows = [found.json(rig.simulator.modes, rig.simulator.identity.client_id)]
    for number in range(50):
        endless = {"items": rows, "nextCursor": f"fresh-{number}"}
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="POST .*/filter$", status=200, body=endless))
    rig.clock.advance(3600)
    await rig.poller.cycle()
    assert await _requests(rig, "/transformations/filter") == 2
    [unread] = [record for record in caplog.records if record.message == "cdf.definitions_unread"]
    assert "a next page without a transformation" in unread.fields["cause"]  # type: ignore[attr-defined]


# The budget


@pytest.mark.parametrize(("open_jobs", "expected"), [(10, 2), (1_000, 2), (3_000, 4)])
async def test_requests_of_a_steady_cycle(open_jobs: int, expected: int) -> None:
    modes = Modes(retention_jobs=None, concurrency_limit=None)
    async with cdf_rig(modes) as rig:
        rig.simulator.add_transformation("pumps")
        for _ in range(open_jobs):
            rig.simulator.start_run("pumps", Scenario(runs_for=None), at=rig.clock.now() - timedelta(minutes=20))
        await rig.poller.cycle()
        rig.clock.advance(400)
        await rig.poller.cycle()
        for _ in range(2):
            before = rig.requests()
            await rig.poller.cycle()
            assert rig.requests() - before == expected
            rig.clock.advance(30)
        assert len(rig.poller.runs) == open_jobs


async def test_a_list_that_had_to_be_read_whole_is_left_alone_for_a_while(rig: CdfRig) -> None:
    for number in range(120):
        rig.simulator.start_run("pumps", at=rig.clock.now() - timedelta(seconds=10 * number))
    rig.simulator.modes.list_order = Order.SHUFFLED
    await rig.poller.follow(30, every=30)
    asked = []
    for wait in (1, 1, FULL_WALK_PAUSE * 3):
        rig.clock.advance(wait)
        before = rig.requests()
        await rig.poller.cycle()
        asked.append(rig.requests() - before)
    assert asked[:2] == [0, 0]
    assert asked[2] > 1


async def test_the_whole_overlap_is_read_again_once_a_minute(rig: CdfRig) -> None:
    """Where the first page is full of jobs within the overlap, each poll would else read them all."""
    await rig.poller.cycle()
    rig.clock.advance(600)
    for _ in range(120):
        rig.simulator.start_run("pumps", Scenario(0.1, 0.1))
    asked = []
    for _ in range(8):
        rig.clock.advance(10)
        before = rig.requests()
        await rig.poller.cycle()
        asked.append(rig.requests() - before)
    assert sorted(asked[2:])[:4] == [1] * 4
    assert max(asked[2:]) > 1


async def test_jobs_behind_the_overlap_are_forgotten(rig: CdfRig) -> None:
    for _ in range(5):
        rig.simulator.start_run("pumps", Scenario(0.1, 1))
        await rig.poller.follow(600, every=300)
    assert len(rig.platform._walks._known) == 1


async def test_new_jobs_cost_no_request_of_their_own(rig: CdfRig) -> None:
    await rig.poller.cycle()
    rig.simulator.start_run("pumps", Scenario(runs_for=None))
    await rig.poller.cycle()
    for _ in range(5):
        before = rig.requests()
        rig.simulator.start_run("pumps", Scenario(runs_for=None))
        await rig.poller.cycle()
        assert rig.requests() - before == 2


async def _requests(rig: CdfRig, path: str) -> int:
    """Requests at the simulator whose path ends so."""
    answer = await rig.platform._context.http.request("GET", f"{rig.served.url}/_control/requests")
    return sum(count for key, count in answer.json()["requests"].items() if key.endswith(path))


def _after(rig: CdfRig, pages: int, fault: Fault) -> None:
    """Lets so many pages of the list through before the fault."""
    rig.simulator.faults.plan(Fault(FaultKind.SLOW, path="GET .*/jobs$", times=pages))
    rig.simulator.faults.plan(fault)


async def test_after_a_restart_the_list_is_read_again_no_further_than_the_ledger_remembers(rig: CdfRig) -> None:
    """Behind the newest job, however long nothing ran since."""
    assert not isinstance(rig.platform, Rereading)
    started = []
    for _ in range(2):
        started.append(str(rig.simulator.start_run("pumps", Scenario()).id))
        await rig.poller.follow(READS_AGAIN.total_seconds() + 60)
    rig.clock.advance(30 * 86_400)
    await rig.poller.cycle()
    await rig.platform_again()
    rig.poller.runs.clear()
    pages = await rig.poller.cycle()
    assert [seen.key for page in pages for seen in page.observations] == started[1:]
