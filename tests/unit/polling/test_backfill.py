"""Past runs that the platform still lists are made into events where the ledger does not know them."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from collector.clock import to_ms
from collector.errors import SourceError, Throttled, Unavailable
from collector.ledger import requests, runs
from collector.ledger.requests import Request, RequestState
from collector.ledger.resend import Window
from collector.model import Observation, Parent, Poll, RunState
from collector.platforms.base import Platform
from collector.polling.backfill import AGAIN, TRIES, past
from tests.e2e.pollers import Scripted
from tests.lease_faults import take_over
from tests.unit.polling.scripted_source import FIRST_POLL, ScriptedSource

SUCCEEDED, RUNNING = RunState.SUCCEEDED, RunState.RUNNING
DAY = timedelta(days=1)


class History:
    """What the platform lists of the past, page by page; `failures` come after so many pages each, and are `error`."""

    def __init__(self, scripted: ScriptedSource, *pages: tuple[Observation, ...]) -> None:
        self.scripted, self.pages = scripted, pages
        self.failures: list[int] = []
        self.error: SourceError = Unavailable("502")
        self.begun: list[float] = []
        self.looks: list[datetime] = []
        self.platforms: list[Scripted] = []
        scripted.pollers.histories["scripted"] = self.made

    def made(self, since: datetime) -> Platform:
        self.looks.append(since)
        platform = Scripted("scripted", self.scripted.pollers.clock)
        platform.script = self._listed
        self.platforms.append(platform)
        return platform

    async def _listed(self, _: int) -> AsyncIterator[Poll]:
        self.begun.append(self.scripted.pollers.clock.monotonic())
        fails_after = self.failures.pop(0) if self.failures else None
        for number, page in enumerate(self.pages):
            if number == fails_after:
                raise self.error
            yield Poll(page, cursor="of the history", memory={"key": "of the history"})


async def ask(scripted: ScriptedSource, since: datetime, until: datetime | None = None) -> int:
    body = json.dumps({"since_ms": to_ms(since), "until_ms": None if until is None else to_ms(until)})
    now_ms = to_ms(scripted.pollers.clock.now())
    number: int = await scripted.pollers.store.write(requests.add_backfill, "source:scripted", body, now_ms)
    return number


async def stored(scripted: ScriptedSource, number: int) -> Request:
    found: Request = await scripted.pollers.store.read(requests.get, number)
    return found


async def known(scripted: ScriptedSource, *keys: str) -> dict[str, Any]:
    found: dict[str, Any] = await scripted.pollers.store.read(runs.by_keys, 1, keys)
    return found


def ended(scripted: ScriptedSource, key: str, at: datetime, **more: Any) -> Observation:
    began = at - timedelta(minutes=1)
    return replace(scripted.run(key), queued_at=began, started_at=began, ended_at=at, **more)


async def test_unknown_runs_of_the_window_are_made_with_their_own_times(scripted: ScriptedSource) -> None:
    await scripted.advance(FIRST_POLL)
    now = scripted.pollers.clock.now()
    scripted.seen[2] = [ended(scripted, "known", now)]
    await scripted.advance(60)
    made_before = scripted.reports.ends.copy()
    early, old, late = now - 9 * DAY, now - 5 * DAY, now - 2 * DAY
    pages = (
        (ended(scripted, "late", late), ended(scripted, "known", old), replace(scripted.run("open", RUNNING))),
        (ended(scripted, "old", old), ended(scripted, "early", early)),
    )
    history = History(scripted, *pages)
    number = await ask(scripted, now - 7 * DAY, now - DAY)
    await scripted.advance(120)
    answer = await stored(scripted, number)
    assert (answer.state, json.loads(answer.answer or "")) == (RequestState.DONE, {"seen": 3, "known": 1, "made": 2})
    found = await known(scripted, "late", "old", "early", "open")
    assert {key: run.ended_at for key, run in found.items()} == {"late": late, "old": old}
    assert len(scripted.reports.ends) == len(made_before) + 2
    assert history.looks == [now - 7 * DAY]
    assert history.platforms[0].closed == 1
    assert "of the history" not in scripted.platform.cursors, "the polls go on where they were"


async def test_a_second_time_makes_nothing(scripted: ScriptedSource) -> None:
    await scripted.advance(FIRST_POLL)
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "a", now - DAY),))
    for made in (1, 0):
        number = await ask(scripted, now - 7 * DAY)
        await scripted.advance(scripted.pollers.clock.monotonic() + 60)
        assert json.loads((await stored(scripted, number)).answer or "")["made"] == made


async def test_details_of_a_few_runs_at_a_time_are_read_before_their_deadline(scripted: ScriptedSource) -> None:
    await scripted.advance(FIRST_POLL)
    now = scripted.pollers.clock.now()

    async def slowly(_: Any) -> Any:
        await scripted.pollers.clock.sleep(5)
        return await Scripted.enrich(Scripted("scripted", scripted.pollers.clock), _)

    scripted.platform.enriches = slowly
    History(scripted, tuple(ended(scripted, f"r{number}", now - DAY) for number in range(100)))
    await ask(scripted, now - 7 * DAY)
    await scripted.advance(900)
    assert len(scripted.reports.ends) == 100
    assert scripted.reports.problems == []


async def test_an_outage_is_waited_for_and_what_was_read_stays(scripted: ScriptedSource) -> None:
    await scripted.advance(FIRST_POLL)
    now = scripted.pollers.clock.now()
    history = History(scripted, (ended(scripted, "a", now - DAY),), (ended(scripted, "b", now - DAY),))
    history.failures = [1]
    number = await ask(scripted, now - 7 * DAY)
    await scripted.advance(10)
    assert set(await known(scripted, "a", "b")) == {"a"}
    await scripted.advance(AGAIN + 60)
    answer = await stored(scripted, number)
    assert (answer.state, json.loads(answer.answer or "")["made"]) == (RequestState.DONE, 1)
    assert set(await known(scripted, "a", "b")) == {"a", "b"}


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (Unavailable("502"), [AGAIN, 2 * AGAIN, 4 * AGAIN, 8 * AGAIN]),
        (Throttled("502"), [AGAIN, 2 * AGAIN, 4 * AGAIN, 8 * AGAIN]),
        (Throttled("502", after=100), [100, 100, 4 * AGAIN, 8 * AGAIN]),
    ],
)
async def test_an_outage_that_lasts_is_reported(
    scripted: ScriptedSource, error: SourceError, pauses: list[float]
) -> None:
    await scripted.advance(FIRST_POLL)
    now = scripted.pollers.clock.now()
    history = History(scripted, (ended(scripted, "a", now - DAY),))
    history.failures, history.error = [0] * TRIES, error
    number = await ask(scripted, now - 7 * DAY)
    await scripted.advance(1000)
    assert [later - earlier for earlier, later in pairwise(history.begun)] == pauses
    answer = await stored(scripted, number)
    assert answer.state is RequestState.FAILED
    assert "502; what was read until then is in the ledger" in json.loads(answer.answer or "")["error"]


async def test_the_next_holder_of_the_lease_reads_the_list_again(scripted: ScriptedSource) -> None:
    await scripted.advance(FIRST_POLL)
    now = scripted.pollers.clock.now()
    history = History(scripted, (ended(scripted, "a", now - DAY),), (ended(scripted, "b", now - DAY),))
    history.failures = [1]
    number = await ask(scripted, now - 7 * DAY)
    await scripted.advance(10)
    await scripted.pollers.store.write(take_over, "source:scripted", "second", -1)
    await scripted.advance(200)
    assert (await stored(scripted, number)).state is RequestState.DONE
    assert set(await known(scripted, "a", "b")) == {"a", "b"}


async def test_a_full_ledger_is_waited_for(scripted: ScriptedSource) -> None:
    await scripted.advance(FIRST_POLL)
    now = scripted.pollers.clock.now()
    History(scripted, (ended(scripted, "a", now - DAY),))
    scripted.pollers.full = "the ledger is full"
    await ask(scripted, now - 7 * DAY)
    await scripted.advance(60)
    assert await known(scripted, "a") == {}
    scripted.pollers.full = None
    await scripted.advance(120)
    assert set(await known(scripted, "a")) == {"a"}


def test_a_family_that_is_under_way_is_left_to_the_polls(scripted: ScriptedSource) -> None:
    above = scripted.run("parent", RUNNING)
    child = ended(scripted, "child", scripted.pollers.clock.now())
    child = replace(child, parent=Parent(above.run_id, "ns", "job", key="parent"))
    alone = ended(scripted, "alone", scripted.pollers.clock.now())
    assert past(Poll((above, child, alone)), Window()) == [alone]
    assert past(Poll((child, alone)), Window()) == [child, alone]


async def test_a_backfill_that_is_stopped_makes_no_more_runs(scripted: ScriptedSource) -> None:
    await scripted.advance(FIRST_POLL)
    now = scripted.pollers.clock.now()
    history = History(scripted, (ended(scripted, "a", now - DAY),), (ended(scripted, "b", now - DAY),))
    history.failures = [1]
    number = await ask(scripted, now - 7 * DAY)
    await scripted.advance(scripted.pollers.clock.monotonic() + 10)
    now_ms = to_ms(scripted.pollers.clock.now())
    assert await scripted.pollers.store.write(requests.stop_backfill, "source:scripted", now_ms) is not None
    await scripted.advance(scripted.pollers.clock.monotonic() + 600)
    assert (await stored(scripted, number)).state is RequestState.FAILED
    assert set(await known(scripted, "a", "b")) == {"a"}
    again = await ask(scripted, now - 7 * DAY)
    await scripted.advance(scripted.pollers.clock.monotonic() + 60)
    assert (await stored(scripted, again)).state is RequestState.DONE


async def test_one_that_was_stopped_before_its_turn_is_passed_over(scripted: ScriptedSource) -> None:
    """The first is stopped while it waits to read the list again, and the second before the first has noticed."""
    await scripted.advance(FIRST_POLL)
    now = scripted.pollers.clock.now()
    history = History(scripted, (ended(scripted, "a", now - DAY),))
    history.failures = [0]
    numbers = list[int]()
    for days in (7, 6, 5):
        numbers.append(await ask(scripted, now - days * DAY))
        await scripted.advance(scripted.pollers.clock.monotonic() + 1)
        if days > 5:
            now_ms = to_ms(scripted.pollers.clock.now())
            await scripted.pollers.store.write(requests.stop_backfill, "source:scripted", now_ms)
    await scripted.advance(scripted.pollers.clock.monotonic() + 2 * AGAIN)
    states = [(await stored(scripted, number)).state for number in numbers]
    assert states == [RequestState.FAILED, RequestState.FAILED, RequestState.DONE]
    assert history.looks.count(now - 5 * DAY) == 1
