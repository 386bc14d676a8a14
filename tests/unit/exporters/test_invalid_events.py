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
from tests.unit.exporters.delivery_simulation import DeliverySimulation, ScriptedSink, delivery_simulation

START, COMPLETE = EventKind.START, EventKind.COMPLETE
WHY = "not a valid OpenLineage event: run.runId: Field required"


@pytest.fixture
async def simulation() -> AsyncIterator[DeliverySimulation]:
    async with delivery_simulation(one=frozenset(EventKind), other=frozenset({COMPLETE})) as made:
        yield made


async def happen(simulation: DeliverySimulation, run: str, *kinds: EventKind, wrong: EventKind) -> None:
    change = simulation.change(run, *kinds)
    events = tuple(replace(new, fault=WHY) if new.kind is wrong else new for new in change.events)
    await simulation.commit(replace(change, events=events))


async def listed(simulation: DeliverySimulation) -> list[ParkedEvent]:
    found: list[ParkedEvent] = await simulation.store.read(parked.listing, 100)
    return found


async def test_it_is_parked_for_every_sink_that_wants_it_and_the_rest_goes_out(simulation: DeliverySimulation) -> None:
    one, other = ScriptedSink(), ScriptedSink()
    simulation.deliver(one, "one")
    simulation.deliver(other, "other")
    await happen(simulation, "bad start", START, COMPLETE, wrong=START)
    await happen(simulation, "bad end", START, COMPLETE, wrong=COMPLETE)
    await simulation.advance(1)
    assert one.kinds("bad start") == [COMPLETE]
    assert one.kinds("bad end") == [START]
    assert other.sent == [("bad start", COMPLETE)]
    found = sorted((row.sink, row.run_key, row.kind.value) for row in await listed(simulation))
    assert found == [("one", "bad end", "COMPLETE"), ("one", "bad start", "START"), ("other", "bad end", "COMPLETE")]
    assert {row.cause for row in await listed(simulation)} == {WHY}
    results = [report.result for report in simulation.reports.sends]
    assert results.count(SendResult.PARKED) == 3


async def test_it_is_sent_as_it_is_when_somebody_asks_for_it(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink()
    delivery = simulation.deliver(sink, "one")
    await happen(simulation, "run", START, COMPLETE, wrong=COMPLETE)
    await simulation.advance(1)
    [row] = await listed(simulation)
    answers = await simulation.within(1, delivery.retry_parked([(row.strand_id, row.seq)]))
    assert set(answers.values()) == {RetryAnswer.QUEUED}
    await simulation.advance(1)
    assert sink.kinds("run") == [START, COMPLETE]
    assert await listed(simulation) == []


async def test_an_outage_ends_although_the_event_that_would_try_it_is_not_sent(simulation: DeliverySimulation) -> None:
    up: list[bool] = []

    def answers(item: Outgoing) -> Outcome:
        return Delivered() if up else Retry("connection refused")

    sink = ScriptedSink(answers)
    simulation.deliver(sink, "one")
    for number in range(10):
        await simulation.happen(START, runs=[f"run {number}"])
    await simulation.advance(60)
    await happen(simulation, "bad", START, wrong=START)
    up.append(True)
    await simulation.advance(timedelta(minutes=10).total_seconds())
    assert sink.kinds("bad") == []
    assert [row.run_key for row in await listed(simulation)] == ["bad"]
    assert all(sink.kinds(f"run {number}")[-1] is START for number in range(10))
