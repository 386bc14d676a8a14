"""The loop of one source: what it commits when, how long it waits, and what it leaves when it ends."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from collector.errors import LedgerError, SourceError, Throttled, Unavailable
from collector.ledger import leases, runs
from collector.model import EventKind, Poll, RunState
from collector.polling import source as polling
from collector.polling.source import LEDGER_LOOK
from collector.reports import PollResult
from tests.e2e.pollers import INTERVAL
from tests.unit.polling.scripted_source import FIRST_POLL, Plant

NO_SPACE = LedgerError("no space left on its disk")


def failing(plant: Plant, *numbers: int, error: SourceError | None = None) -> None:
    """These polls of the platform fail."""

    async def poll(number: int) -> AsyncIterator[Poll]:
        if number in numbers:
            raise error or Unavailable("no connection")
        yield Poll()

    plant.source.script = poll


async def cursor(plant: Plant) -> str | None:
    state = await plant.pollers.store.read(runs.source_state, 1)
    found: str | None = state.cursor
    return found


async def test_a_walk_that_fails_keeps_its_pages_and_not_the_cursor_of_the_last(plant: Plant) -> None:
    async def poll(number: int) -> AsyncIterator[Poll]:
        yield Poll((plant.run(f"{number}/first", RunState.RUNNING),))
        yield Poll((plant.run(f"{number}/second", RunState.RUNNING),), cursor=f"after {number}")
        if number == 2:
            raise Unavailable("no connection")

    plant.source.script = poll
    await plant.advance(FIRST_POLL)
    assert await cursor(plant) == "after 1"
    await plant.advance(FIRST_POLL + INTERVAL)
    assert await cursor(plant) == "after 1"
    known = await plant.pollers.store.read(runs.by_keys, 1, ["2/first", "2/second"])
    assert len(known) == 2
    await plant.advance(FIRST_POLL + 3 * INTERVAL)
    assert plant.source.cursors == [None, "after 1", "after 1"]
    assert await cursor(plant) == "after 3"


async def test_a_page_is_committed_as_soon_as_the_next_one_is_there(plant: Plant) -> None:
    async def poll(number: int) -> AsyncIterator[Poll]:
        for page in range(3):
            yield Poll((plant.run(f"{number}/{page}", RunState.RUNNING),))
            await plant.pollers.clock.sleep(5)

    plant.source.script = poll
    counts = []
    for seconds in (4, 5, 9, 10, 14, 15):
        await plant.advance(FIRST_POLL + seconds)
        counts.append(sum(report.kind is EventKind.START for report in plant.reports.events))
    assert counts == [0, 1, 1, 2, 2, 3]
    assert plant.polled() == [FIRST_POLL + 15]


async def test_failures_double_the_wait_until_a_poll_succeeds(plant: Plant) -> None:
    failing(plant, 1, 2, 4)
    await plant.advance(400)
    waits = [60, 120, 30, 60, 30]
    assert plant.polled()[:6] == [FIRST_POLL + sum(waits[:number]) for number in range(6)]


async def test_the_platform_is_not_polled_sooner_than_it_said(plant: Plant) -> None:
    failing(plant, 1, error=Throttled("429", after=200))
    await plant.advance(300)
    assert plant.polled()[:2] == [FIRST_POLL, FIRST_POLL + 200 * 1.05]


async def test_a_pause_is_no_failure_of_the_source(plant: Plant) -> None:
    plant.pollers.full = "the ledger is full"
    await plant.advance(FIRST_POLL + 3 * INTERVAL)
    assert plant.pollers.polls("plant") == [(FIRST_POLL + INTERVAL * number, PollResult.PAUSED) for number in range(4)]
    assert (plant.source.polls, plant.poller.status.failures) == (0, 0)
    assert plant.poller.status.wrong == "the ledger is full"
    plant.pollers.full = None
    await plant.advance(FIRST_POLL + 4 * INTERVAL)
    assert plant.source.polls == 1
    assert plant.poller.status.result is PollResult.OK


async def test_a_hint_polls_at_once(plant: Plant) -> None:
    await plant.advance(10)
    plant.poller.nudge()
    await plant.advance(10)
    assert plant.polled() == [FIRST_POLL, 10]
    await plant.advance(10 + INTERVAL)
    assert plant.polled() == [FIRST_POLL, 10, 10 + INTERVAL]


async def test_a_ledger_that_takes_writes_again_is_polled_for_at_once(plant: Plant) -> None:
    """The source was well all the time: nobody asks it meanwhile, and no back-off is left over."""
    await plant.advance(FIRST_POLL)
    plant.written(error=NO_SPACE)
    await plant.advance(300)
    assert plant.source.polls == 2
    assert (plant.poller.status.wrong, plant.poller.status.failures) == (str(NO_SPACE), 0)
    plant.written()
    await plant.advance(300 + LEDGER_LOOK)
    assert plant.source.polls == 3
    assert (plant.poller.status.wrong, plant.poller.status.result) == (None, PollResult.OK)
    assert plant.poller.status.last_error == str(NO_SPACE), "it stays, with its time"
    assert plant.poller.status.failed_at is not None
    assert plant.poller.status.succeeded_at is not None
    assert plant.poller.status.failed_at < plant.poller.status.succeeded_at
    await plant.advance(300 + LEDGER_LOOK + INTERVAL)
    assert plant.source.polls == 4


async def test_the_cause_goes_away_when_the_ledger_takes_writes_again(plant: Plant) -> None:
    async def slow(number: int) -> AsyncIterator[Poll]:
        if number == 3:
            await plant.pollers.clock.sleep(100)
        yield Poll()

    plant.source.script = slow
    await plant.advance(FIRST_POLL)
    plant.written(error=NO_SPACE)
    await plant.advance(FIRST_POLL + INTERVAL)
    plant.written()
    await plant.advance(FIRST_POLL + INTERVAL + LEDGER_LOOK + 50)
    assert (plant.source.polls, plant.poller.status.wrong) == (3, None)


async def test_a_page_that_the_ledger_does_not_take_is_asked_for_once_an_interval(plant: Plant) -> None:
    """Small writes go through meanwhile, so that nothing says when to come again."""
    plant.written("write_page", error=NO_SPACE)
    await plant.advance(FIRST_POLL + 3 * INTERVAL)
    assert plant.polled() == [FIRST_POLL + number * INTERVAL for number in range(4)]


async def free_lease(plant: Plant) -> bool:
    """Whether somebody else can have it at once, as it was given back with nothing in flight."""
    taken = await plant.pollers.store.write(leases.take, "source:plant", "somebody else", 1000)
    return taken is not None and taken.clean


async def test_a_stop_closes_the_adapter_and_gives_the_lease_back(plant: Plant) -> None:
    await plant.advance(FIRST_POLL)
    assert not await free_lease(plant)
    await plant.pollers.stop("plant")
    assert plant.source.closed == 1
    assert await free_lease(plant)


async def broken() -> None:
    raise ZeroDivisionError("division by zero")


async def hanging() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("closes", "cause"), [(broken, "division by zero"), (hanging, "not closed within 0 s")])
async def test_an_adapter_that_cannot_be_closed_does_not_keep_the_lease(
    plant: Plant, closes: object, cause: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "CLOSED_WITHIN", 0.0)
    plant.source.closes = closes  # type: ignore[assignment]
    await plant.advance(FIRST_POLL)
    await plant.pollers.stop("plant")
    assert await free_lease(plant)
    [record] = [record for record in caplog.records if record.message == "source.unclosed"]
    assert record.fields == {"source": "plant", "cause": cause}  # type: ignore[attr-defined]


async def test_a_ledger_that_does_not_take_the_lease_back_is_logged(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    await plant.advance(FIRST_POLL)
    plant.written("give_back", error=NO_SPACE)
    await plant.pollers.stop("plant")
    [record] = [record for record in caplog.records if record.message == "lease.kept"]
    assert record.levelno == logging.ERROR
    assert plant.source.closed == 1
