"""Events that are not valid never reach a sink: they are parked for each, and sent only when somebody asks for it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from collector.ledger import parked
from collector.ledger.parked import ParkedEvent, RetryAnswer
from collector.model import EventKind, Outgoing
from exporters.delivery.reports import SendResult
from exporters.sinks.base import Delivered, Outcome, Retry
from tests.unit.exporters.delivery_simulation import ScriptedSink, World, world

START, COMPLETE = EventKind.START, EventKind.COMPLETE
WHY = "not a valid OpenLineage event: run.runId: Field required"


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world(one=frozenset(EventKind), other=frozenset({COMPLETE})) as made:
        yield made


async def happen(here: World, run: str, *kinds: EventKind, wrong: EventKind) -> None:
    change = here.change(run, *kinds)
    events = tuple(replace(new, fault=WHY) if new.kind is wrong else new for new in change.events)
    await here.commit(replace(change, events=events))


async def listed(here: World) -> list[ParkedEvent]:
    found: list[ParkedEvent] = await here.store.read(parked.listing, 100)
    return found


async def test_it_is_parked_for_every_sink_that_wants_it_and_the_rest_goes_out(here: World) -> None:
    one, other = ScriptedSink(), ScriptedSink()
    here.deliver(one, "one")
    here.deliver(other, "other")
    await happen(here, "bad start", START, COMPLETE, wrong=START)
    await happen(here, "bad end", START, COMPLETE, wrong=COMPLETE)
    await here.advance(1)
    assert one.kinds("bad start") == [COMPLETE]
    assert one.kinds("bad end") == [START]
    assert other.sent == [("bad start", COMPLETE)]
    found = sorted((row.sink, row.run_key, row.kind.value) for row in await listed(here))
    assert found == [("one", "bad end", "COMPLETE"), ("one", "bad start", "START"), ("other", "bad end", "COMPLETE")]
    assert {row.cause for row in await listed(here)} == {WHY}
    results = [report.result for report in here.reports.sends]
    assert results.count(SendResult.PARKED) == 3


async def test_it_is_sent_as_it_is_when_somebody_asks_for_it(here: World) -> None:
    sink = ScriptedSink()
    delivery = here.deliver(sink, "one")
    await happen(here, "run", START, COMPLETE, wrong=COMPLETE)
    await here.advance(1)
    [row] = await listed(here)
    answers = await here.within(1, delivery.retry_parked([(row.strand_id, row.seq)]))
    assert set(answers.values()) == {RetryAnswer.QUEUED}
    await here.advance(1)
    assert sink.kinds("run") == [START, COMPLETE]
    assert await listed(here) == []


async def test_an_outage_ends_although_the_event_that_would_try_it_is_not_sent(here: World) -> None:
    up: list[bool] = []

    def answers(item: Outgoing) -> Outcome:
        return Delivered() if up else Retry("connection refused")

    sink = ScriptedSink(answers)
    here.deliver(sink, "one")
    for number in range(10):
        await here.happen(START, runs=[f"run {number}"])
    await here.advance(60)
    await happen(here, "bad", START, wrong=START)
    up.append(True)
    await here.advance(timedelta(minutes=10).total_seconds())
    assert sink.kinds("bad") == []
    assert [row.run_key for row in await listed(here)] == ["bad"]
    assert all(sink.kinds(f"run {number}")[-1] is START for number in range(10))
