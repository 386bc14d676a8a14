"""What is claimed ahead of sending, from which commit time on, and when: over a real ledger, in simulated time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest

from collector.clock import to_ms
from collector.errors import LedgerError
from collector.ledger import claims
from collector.model import EventKind, Outgoing
from exporters.delivery.circuit import OPENS_AFTER
from exporters.delivery.claimer import AHEAD, LOOK_EVERY
from exporters.delivery.health import Health
from exporters.delivery.sender import Sender
from exporters.sinks.base import Delivered, Outcome, Retry
from tests.unit.exporters.delivery_simulation import (
    DeliverySimulation,
    ScriptedSink,
    delivery_simulation,
    name_of,
)

START = EventKind.START


@pytest.fixture
async def simulation() -> AsyncIterator[DeliverySimulation]:
    async with delivery_simulation() as made:
        yield made


def runs(count: int) -> list[str]:
    return [f"run {number}" for number in range(count)]


@pytest.mark.parametrize("capacity", [AHEAD // 2, AHEAD, 2 * AHEAD + 4])
async def test_what_was_claimed_ahead_is_sent_though_the_ledger_does_not_answer(
    simulation: DeliverySimulation, capacity: int
) -> None:
    """As many heads are ready as ever, however many events the sink has: a claim brings more as soon as half of them are gone."""
    gate, ahead = asyncio.Event(), max(AHEAD, capacity)

    async def waits(item: Outgoing) -> Outcome:
        await gate.wait()
        return Delivered()

    sink = ScriptedSink(waits, capacity=capacity)
    await simulation.happen(START, runs=runs(capacity + ahead + 1))
    simulation.deliver(sink)
    await simulation.advance(0)
    assert len(sink.sent) == capacity
    simulation.store.error = "the disk is full"
    gate.set()
    await simulation.advance(0)
    assert len(sink.sent) == capacity + ahead


async def test_a_probe_without_an_answer_is_waited_for_in_peace(simulation: DeliverySimulation) -> None:
    """Nothing is looked at again and again once the time of the next probe has passed."""
    sink = ScriptedSink(lambda _: Retry("connection refused"))
    delivery = simulation.deliver(sink)
    await simulation.happen(START, runs=runs(OPENS_AFTER))
    await simulation.advance(0)
    sink.script = lambda _: asyncio.Event().wait()  # type: ignore[assignment, return-value]
    await simulation.advance(5)
    assert delivery._health.circuit.probe is not None
    with (
        patch.object(Health, "came_round") as came_round,
        patch.object(Sender, "step", autospec=True, side_effect=Sender.step) as steps,
    ):
        for _ in range(30):
            await simulation.advance(1)
    assert came_round.call_count <= 30 / LOOK_EVERY
    assert steps.call_count <= 1


async def test_a_claim_that_came_back_full_is_followed_by_one_from_its_first_event_on(
    simulation: DeliverySimulation,
) -> None:
    floors: list[int] = []
    read = simulation.store.read_claim

    async def noted(fn: Any, *args: Any) -> Any:
        if fn is claims.claim:
            floors.append(args[3])
        return await read(fn, *args)

    await simulation.happen(START, runs=runs(3 * AHEAD))
    committed_at = to_ms(simulation.clock.now())
    with patch.object(simulation.store, "read_claim", noted):
        simulation.deliver(ScriptedSink(capacity=1))
        await simulation.advance(1)
    assert floors[:2] == [0, committed_at]
    assert floors[-1] == 0, "the last one came back short"


async def test_a_commit_at_an_earlier_time_is_sent_at_once(simulation: DeliverySimulation) -> None:
    """The clock of another process may be behind."""
    gate = asyncio.Event()

    def waits(item: Outgoing) -> Outcome | Awaitable[Outcome]:
        return until_open(item) if name_of(item) == "slow" else Delivered()

    async def until_open(item: Outgoing) -> Outcome:
        await gate.wait()
        return Delivered()

    sink = ScriptedSink(waits)
    simulation.deliver(sink)
    await simulation.happen(START, runs=["slow"])
    await simulation.advance(0)
    simulation.clock.wall -= timedelta(hours=1)
    await simulation.happen(START, runs=["behind"])
    await simulation.advance(0)
    assert sink.sent == [("slow", START), ("behind", START)]


async def test_under_a_backlog_a_commit_at_an_earlier_time_waits_a_few_seconds(
    simulation: DeliverySimulation,
) -> None:
    async def slow(item: Outgoing) -> Outcome:
        await simulation.clock.sleep(1)
        return Delivered()

    sink = ScriptedSink(slow, capacity=20)
    await simulation.happen(START, runs=runs(400))
    simulation.deliver(sink)
    await simulation.advance(2)
    simulation.clock.wall -= timedelta(hours=1)
    await simulation.happen(START, runs=["behind"])
    await simulation.advance(8)
    assert ("behind", START) in sink.sent, "the backlog alone takes 20 s"


async def test_what_comes_due_first_is_claimed_first_whatever_failed_before(simulation: DeliverySimulation) -> None:
    def fails(item: Outgoing) -> Outcome:
        after = timedelta(seconds=60) if name_of(item) == "patient" else timedelta(seconds=1)
        return Retry("busy", after=after, sink_wide=False)

    sink = ScriptedSink(fails)
    simulation.deliver(sink)
    await simulation.happen(START, runs=["patient"])
    await simulation.advance(LOOK_EVERY / 10)
    await simulation.happen(START, runs=["quick"])
    await simulation.advance(1.2)
    assert sink.kinds("quick") == [START, START]


@pytest.mark.parametrize("seconds", [0.1, 60])
async def test_what_a_failed_claim_would_have_found_is_sent_as_soon_as_the_ledger_answers(
    simulation: DeliverySimulation, seconds: float
) -> None:
    """Once for a commit, once for a lane that came due, however long the ledger does not answer."""
    script = {"old": iter([Retry("busy", after=timedelta(seconds=5), sink_wide=False)])}
    sink = ScriptedSink(lambda item: next(script.get(name_of(item), iter(())), Delivered()))
    simulation.deliver(sink)
    await simulation.happen(START, runs=["old"])
    await simulation.advance(5)
    read, fails_until = simulation.store.read_claim, simulation.clock.monotonic() + seconds + 1

    async def failing(fn: Any, *args: Any) -> Any:
        if simulation.clock.monotonic() < fails_until:
            raise LedgerError("the ledger does not answer")
        return await read(fn, *args)

    with patch.object(simulation.store, "read_claim", failing):
        await simulation.happen(START, runs=["new"])
        await simulation.advance(seconds + 1)
        assert sink.sent == [("old", START)]
        await simulation.advance(1)
    assert sorted(sink.sent) == [("new", START), ("old", START), ("old", START)]
