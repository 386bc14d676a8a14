"""The loop of one source: what it commits when, how long it waits, and what it leaves when it ends."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

import pytest
from sqlalchemy import update

from collector.clock import to_ms
from collector.errors import LedgerError, SourceError, Throttled, Unavailable
from collector.ledger import leases, queries, requests, runs, schema
from collector.ledger.held_lease import HeldLease
from collector.ledger.requests import RequestKind, RequestState
from collector.model import EventKind, Observation, Poll, RunState, SkipKind
from collector.platforms.base import Load
from collector.polling import source as polling
from collector.polling.commits import PART
from collector.polling.outages import LOOK as LEDGER_LOOK
from collector.polling.source import SOONEST, STUCK_AFTER
from collector.reports import PollResult
from tests.e2e.pollers import DEADLINE, INTERVAL
from tests.unit.polling.scripted_source import FIRST_POLL, ScriptedSource

NO_SPACE = LedgerError("no space left on its disk")


def failing(scripted: ScriptedSource, *numbers: int, error: SourceError | None = None) -> None:
    """These polls of the platform fail."""

    async def poll(number: int) -> AsyncIterator[Poll]:
        if number in numbers:
            raise error or Unavailable("no connection")
        yield Poll()

    scripted.platform.script = poll


async def cursor(scripted: ScriptedSource) -> str | None:
    state = await scripted.pollers.store.read(runs.source_state, 1)
    found: str | None = state.cursor
    return found


async def test_a_failing_poll_and_the_next_good_one_are_logged_and_looked_for_in_time(
    scripted: ScriptedSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lineage.poll")
    failing(scripted, 2)
    await scripted.advance(FIRST_POLL + 3 * INTERVAL)
    found = [record.message for record in caplog.records if record.message.startswith("poll.")]
    assert found == ["poll.failed", "poll.recovered"]
    assert scripted.poller.expected_by > scripted.pollers.clock.monotonic() + 60


async def test_a_walk_that_fails_keeps_its_pages_and_not_the_cursor_of_the_last(scripted: ScriptedSource) -> None:
    async def poll(number: int) -> AsyncIterator[Poll]:
        yield Poll((scripted.run(f"{number}/first", RunState.RUNNING),))
        yield Poll((scripted.run(f"{number}/second", RunState.RUNNING),), cursor=f"after {number}")
        if number == 2:
            raise Unavailable("no connection")

    scripted.platform.script = poll
    await scripted.advance(FIRST_POLL)
    assert await cursor(scripted) == "after 1"
    await scripted.advance(FIRST_POLL + INTERVAL)
    assert await cursor(scripted) == "after 1"
    known = await scripted.pollers.store.read(runs.by_keys, 1, ["2/first", "2/second"])
    assert len(known) == 2
    await scripted.advance(FIRST_POLL + 3 * INTERVAL)
    assert scripted.platform.cursors == [None, "after 1", "after 1"]
    assert await cursor(scripted) == "after 3"


async def test_a_source_counts_as_polled_once_a_walk_has_ended(scripted: ScriptedSource) -> None:
    failing(scripted, 2)
    times = list[int | None]()
    for intervals in (0, 1, 3):
        await scripted.advance(FIRST_POLL + intervals * INTERVAL)
        state = await scripted.pollers.store.read(runs.source_state, 1)
        times.append(state.polled_at)
    first, second, third = times
    assert first is not None
    assert second == first
    assert third == first + 3 * INTERVAL * 1000


async def test_a_source_that_never_came_round_is_stuck_a_minute_after_it_was_made(scripted: ScriptedSource) -> None:
    await scripted.advance(100)
    await scripted.pollers.scripted("late")
    assert scripted.pollers.pollers["late"].expected_by == 100 + STUCK_AFTER


async def test_a_page_is_committed_as_soon_as_the_next_one_is_there(scripted: ScriptedSource) -> None:
    async def poll(number: int) -> AsyncIterator[Poll]:
        for page in range(3):
            yield Poll((scripted.run(f"{number}/{page}", RunState.RUNNING),))
            await scripted.pollers.clock.sleep(5)

    scripted.platform.script = poll
    counts = []
    for seconds in (4, 5, 9, 10, 14, 15):
        await scripted.advance(FIRST_POLL + seconds)
        counts.append(sum(report.kind is EventKind.START for report in scripted.reports.events))
    assert counts == [0, 1, 1, 2, 2, 3]
    assert scripted.polled() == [FIRST_POLL + 15]


async def test_failures_double_the_wait_until_a_poll_succeeds(scripted: ScriptedSource) -> None:
    failing(scripted, 1, 2, 4)
    await scripted.advance(400)
    waits = [60, 120, 30, 60, 30]
    assert scripted.polled()[:6] == [FIRST_POLL + sum(waits[:number]) for number in range(6)]


async def test_the_platform_is_not_polled_sooner_than_it_said(scripted: ScriptedSource) -> None:
    failing(scripted, 1, error=Throttled("429", after=200))
    await scripted.advance(300)
    assert scripted.polled()[:2] == [FIRST_POLL, FIRST_POLL + 200 * 1.05]


async def test_a_pause_is_no_failure_of_the_source(scripted: ScriptedSource) -> None:
    scripted.pollers.full = "the ledger is full"
    await scripted.advance(FIRST_POLL + 3 * INTERVAL)
    assert scripted.pollers.polls("scripted") == [
        (FIRST_POLL + INTERVAL * number, PollResult.PAUSED) for number in range(4)
    ]
    assert (scripted.platform.polls, scripted.poller.status.failures) == (0, 0)
    assert scripted.poller.status.wrong == "the ledger is full"
    scripted.pollers.full = None
    await scripted.advance(FIRST_POLL + 4 * INTERVAL)
    assert scripted.platform.polls == 1
    assert scripted.poller.status.result is PollResult.OK


async def test_a_ledger_that_fills_up_ends_the_walk_between_two_commits_and_the_next_one_begins_anew(
    scripted: ScriptedSource,
) -> None:
    """Whatever a page holds: beyond the limit comes what one commit brings."""

    async def poll(number: int) -> AsyncIterator[Poll]:
        for page in range(2):
            many = tuple(scripted.run(f"{page}/{each}", RunState.RUNNING) for each in range(2 * PART))
            yield Poll(many, cursor=f"after {page}")

    scripted.platform.script = poll
    measure, measured = scripted.pollers.measure, list[int]()

    async def third_is_full() -> str | None:
        measured.append(len(scripted.reports.events))
        if len(measured) == 3:
            scripted.pollers.full = "the ledger is full"
        return await measure()

    with patch.object(scripted.pollers, "measure", third_is_full):
        await scripted.advance(FIRST_POLL + INTERVAL)
        assert scripted.pollers.polls("scripted") == [
            (FIRST_POLL, PollResult.PAUSED),
            (FIRST_POLL + INTERVAL, PollResult.PAUSED),
        ]
        assert measured == [PART, 2 * PART, 3 * PART]
        assert scripted.poller.status.wrong == "the ledger is full"
        assert await cursor(scripted) == "after 0", "the last page that was taken whole"
        scripted.pollers.full = None
        await scripted.advance(FIRST_POLL + 2 * INTERVAL)
    assert scripted.platform.polls == 2
    assert len(scripted.reports.events) == 4 * PART
    assert await cursor(scripted) == "after 1"


async def test_what_a_person_asks_for_is_taken_though_the_ledger_is_full(scripted: ScriptedSource) -> None:
    async def watch(key: str) -> Observation:
        return scripted.run(key, RunState.RUNNING)

    scripted.platform.watches = watch
    await scripted.advance(FIRST_POLL)
    scripted.pollers.full = "the ledger is full"
    now_ms = to_ms(scripted.pollers.clock.now())
    body = json.dumps({"key": "asked for", "options": {}})
    number = await scripted.pollers.store.write(requests.add, RequestKind.WATCH, "source:scripted", body, now_ms)
    await scripted.advance(FIRST_POLL + INTERVAL)
    assert (await scripted.pollers.store.read(requests.get, number)).state is RequestState.DONE
    assert [report.kind for report in scripted.reports.events] == [EventKind.START]


async def test_a_hint_polls_at_once(scripted: ScriptedSource) -> None:
    await scripted.advance(10)
    scripted.poller.wake()
    await scripted.advance(10)
    assert scripted.polled() == [FIRST_POLL, 10]
    await scripted.advance(10 + INTERVAL)
    assert scripted.polled() == [FIRST_POLL, 10, 10 + INTERVAL]


async def test_many_hints_poll_once_a_second_at_the_most(scripted: ScriptedSource) -> None:
    await scripted.advance(10)
    for tenth in range(1, 31):
        scripted.poller.wake()
        await scripted.advance(10 + tenth / 10)
    assert scripted.polled() == [FIRST_POLL, 10, 11, 12, 13]


async def test_a_hint_does_not_undercut_the_time_that_the_platform_asked_for(scripted: ScriptedSource) -> None:
    failing(scripted, 1, error=Throttled("429", after=200))
    await scripted.advance(10)
    scripted.poller.wake()
    await scripted.advance(300)
    assert scripted.polled()[:2] == [FIRST_POLL, FIRST_POLL + 200]


async def test_a_ledger_that_takes_writes_again_is_polled_for_at_once(scripted: ScriptedSource) -> None:
    """The source was well all the time: nobody asks it meanwhile, and no back-off is left over."""
    await scripted.advance(FIRST_POLL)
    scripted.written(error=NO_SPACE)
    await scripted.advance(300)
    assert scripted.platform.polls == 2
    assert (scripted.poller.status.wrong, scripted.poller.status.failures) == (str(NO_SPACE), 0)
    scripted.written()
    await scripted.advance(300 + LEDGER_LOOK)
    assert scripted.platform.polls == 3
    assert (scripted.poller.status.wrong, scripted.poller.status.result) == (None, PollResult.OK)
    assert scripted.poller.status.last_error == str(NO_SPACE), "it stays, with its time"
    assert scripted.poller.status.failed_at is not None
    assert scripted.poller.status.succeeded_at is not None
    assert scripted.poller.status.failed_at < scripted.poller.status.succeeded_at
    await scripted.advance(300 + LEDGER_LOOK + INTERVAL)
    assert scripted.platform.polls == 4


async def test_the_cause_goes_away_when_the_ledger_takes_writes_again(scripted: ScriptedSource) -> None:
    async def slow(number: int) -> AsyncIterator[Poll]:
        if number == 3:
            await scripted.pollers.clock.sleep(100)
        yield Poll()

    scripted.platform.script = slow
    await scripted.advance(FIRST_POLL)
    scripted.written(error=NO_SPACE)
    await scripted.advance(FIRST_POLL + INTERVAL)
    scripted.written()
    await scripted.advance(FIRST_POLL + INTERVAL + LEDGER_LOOK + 50)
    assert (scripted.platform.polls, scripted.poller.status.wrong) == (3, None)


async def test_a_page_that_the_ledger_does_not_take_is_asked_for_once_an_interval(scripted: ScriptedSource) -> None:
    """Small writes go through meanwhile, so that nothing says when to come again."""
    scripted.written("write_page", error=NO_SPACE)
    await scripted.advance(FIRST_POLL + 3 * INTERVAL)
    assert scripted.polled() == [FIRST_POLL + number * INTERVAL for number in range(4)]


async def test_an_odd_error_is_shown_without_secrets_and_is_no_success(scripted: ScriptedSource) -> None:
    async def poll(number: int) -> AsyncIterator[Poll]:
        if number:
            raise ZeroDivisionError("password=hunter2secret")
        yield Poll()

    scripted.platform.script = poll
    await scripted.advance(FIRST_POLL)
    status = scripted.poller.status
    assert status.wrong == "ZeroDivisionError: password=***"
    assert (status.result, status.succeeded_at, status.polled_at) == (
        PollResult.ERROR,
        None,
        scripted.pollers.clock.now(),
    )


async def test_a_run_that_wants_to_be_read_soon_hastens_no_source_that_fails(scripted: ScriptedSource) -> None:
    def due(key: str, seconds: float) -> Observation:
        now = scripted.pollers.clock.now()
        return replace(scripted.run(key, RunState.RUNNING), due_at=now + timedelta(seconds=seconds))

    async def poll(number: int) -> AsyncIterator[Poll]:
        if number == 2:
            raise Unavailable("no connection")
        yield Poll((due("soon", 5), due("later", 8))) if number == 1 else Poll()

    scripted.platform.script = poll
    await scripted.advance(FIRST_POLL + 5 + 2 * INTERVAL)
    assert scripted.polled() == [FIRST_POLL, FIRST_POLL + 5, FIRST_POLL + 5 + 2 * INTERVAL]


async def test_runs_that_are_always_due_do_not_make_the_source_spin(scripted: ScriptedSource) -> None:
    async def poll(number: int) -> AsyncIterator[Poll]:
        now = scripted.pollers.clock.now()
        yield Poll((replace(scripted.run("a", RunState.RUNNING), seen_at=now, due_at=now + timedelta(milliseconds=1)),))

    scripted.platform.script = poll
    await scripted.advance(FIRST_POLL + 3.5 * SOONEST)
    assert scripted.polled() == pytest.approx([FIRST_POLL + number * SOONEST for number in range(4)])


async def test_an_open_run_that_cannot_be_read_is_set_aside_though_the_platform_does_not_show_it(
    scripted: ScriptedSource,
) -> None:
    scripted.seen[1] = [scripted.run("bad", RunState.RUNNING)]
    await scripted.advance(FIRST_POLL)
    damaged = update(schema.run).where(schema.run.c.key == "bad").values(detail="{")
    await scripted.pollers.store.write(lambda conn: conn.execute(damaged).rowcount)
    await scripted.advance(FIRST_POLL + 3 * INTERVAL)
    assert [report.kind for report in scripted.reports.skips] == [SkipKind.UNREADABLE]
    [skip] = await scripted.pollers.store.read(queries.skips, 10)
    assert skip.subject == "bad"
    assert len(scripted.polled()) == 4


async def test_what_a_source_costs_is_reported_as_soon_as_the_first_poll_has_shown_it(
    scripted: ScriptedSource,
) -> None:
    def load(watched: Mapping[RunState, int]) -> Load | None:
        return Load(1, 1, 0, INTERVAL, None) if scripted.platform.polls else None

    scripted.platform.load = load  # type: ignore[attr-defined]
    await scripted.advance(FIRST_POLL)
    assert len(scripted.reports.loads) == 1
    await scripted.advance(FIRST_POLL + INTERVAL)
    assert len(scripted.reports.loads) == 1


async def test_a_lease_goes_to_nobody_while_a_request_is_served(
    scripted: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def trigger(job: str) -> Observation:
        await scripted.pollers.clock.sleep(INTERVAL)
        return scripted.run(job, RunState.QUEUED)

    scripted.platform.triggers = trigger
    body, now_ms = json.dumps({"job": "a", "options": {}}), to_ms(scripted.pollers.clock.now())
    await scripted.pollers.store.write(requests.add, RequestKind.TRIGGER, "source:scripted", body, now_ms)
    await scripted.advance(FIRST_POLL - 0.1)
    given_back = scripted.written("give_back")
    # for ever, the source would take its lease and give it back every half second
    monkeypatch.setattr(HeldLease, "is_surplus", property(lambda _: not given_back))
    await scripted.advance(FIRST_POLL)
    assert not await free_lease(scripted)
    await scripted.advance(INTERVAL - 0.1)
    assert not given_back
    await scripted.advance(FIRST_POLL + 2 * INTERVAL)
    assert await scripted.pollers.store.read(runs.by_keys, 1, ["a"])
    assert given_back, "the request is done"


async def free_lease(scripted: ScriptedSource) -> bool:
    """Whether somebody else can have it at once, as it was given back with nothing in flight."""
    taken = await scripted.pollers.store.write(leases.take, "source:scripted", "somebody else", 1000)
    return taken is not None and taken.clean


async def test_a_stop_closes_the_adapter_and_gives_the_lease_back(scripted: ScriptedSource) -> None:
    await scripted.advance(FIRST_POLL)
    assert not await free_lease(scripted)
    await scripted.pollers.stop("scripted")
    assert scripted.platform.closed == 1
    assert await free_lease(scripted)


async def broken() -> None:
    raise ZeroDivisionError("division by zero")


async def hanging() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("closes", "cause"), [(broken, "division by zero"), (hanging, "not closed within 0 s")])
async def test_an_adapter_that_cannot_be_closed_does_not_keep_the_lease(
    scripted: ScriptedSource,
    closes: object,
    cause: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polling, "CLOSED_WITHIN", 0.0)
    scripted.platform.closes = closes  # type: ignore[assignment]
    await scripted.advance(FIRST_POLL)
    await scripted.pollers.stop("scripted")
    assert await free_lease(scripted)
    [record] = [record for record in caplog.records if record.message == "source.unclosed"]
    assert record.fields == {"source": "scripted", "cause": cause}  # type: ignore[attr-defined]


async def test_a_ledger_that_does_not_take_the_lease_back_is_logged(
    scripted: ScriptedSource, caplog: pytest.LogCaptureFixture
) -> None:
    await scripted.advance(FIRST_POLL)
    scripted.written("give_back", error=NO_SPACE)
    await scripted.pollers.stop("scripted")
    [record] = [record for record in caplog.records if record.message == "lease.not_given_back"]
    assert record.levelno == logging.ERROR
    assert scripted.platform.closed == 1


def slow_pages(scripted: ScriptedSource, pages: int, seconds: float) -> None:
    """A poll of so many pages, each so long after the one before it."""

    async def poll(number: int) -> AsyncIterator[Poll]:
        for page in range(pages):
            await scripted.pollers.clock.sleep(seconds)
            last = f"after {number}" if page == pages - 1 else None
            yield Poll((scripted.run(f"{number}/{page}", RunState.RUNNING),), cursor=last)

    scripted.platform.script = poll


async def test_a_long_poll_goes_on_as_long_as_its_pages_come(
    scripted: ScriptedSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lineage.poll")
    slow_pages(scripted, 5, DEADLINE - 1)
    began = FIRST_POLL
    for page in range(1, 5):
        await scripted.advance(began + page * (DEADLINE - 1))
        assert scripted.poller.expected_by == scripted.pollers.clock.monotonic() + DEADLINE + STUCK_AFTER
    await scripted.advance(began + 5 * (DEADLINE - 1))
    assert scripted.pollers.polls("scripted") == [(began + 5 * (DEADLINE - 1), PollResult.OK)]
    assert await cursor(scripted) == "after 1"
    prolonged = [vars(record)["fields"] for record in caplog.records if record.message == "poll.prolonged"]
    assert [(one["seconds"], one["pages"]) for one in prolonged] == [(2 * (DEADLINE - 1), 2), (4 * (DEADLINE - 1), 4)]


async def test_a_poll_ends_once_no_page_came_for_its_deadline_and_keeps_those_before(scripted: ScriptedSource) -> None:
    slow_pages(scripted, 2, DEADLINE - 1)
    await scripted.advance(FIRST_POLL + DEADLINE - 1)
    slow_pages(scripted, 2, 2 * DEADLINE)
    await scripted.advance(FIRST_POLL + 2 * (DEADLINE - 1))
    again = scripted.pollers.clock.monotonic() + INTERVAL
    await scripted.advance(again + DEADLINE)
    assert scripted.pollers.polls("scripted")[1:] == [(again + DEADLINE, PollResult.DEADLINE)]
    assert scripted.poller.status.wrong == "no page came within 0:05:00 (poll_within)"
    assert await cursor(scripted) == "after 1"
