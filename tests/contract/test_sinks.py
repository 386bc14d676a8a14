"""What every sink must do, on its own target. See `exporters.sinks.base` for the port."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from collector.model import EventKind
from exporters.sinks.base import Delivered, Retry, Sink
from tests.contract.driving import drive, event, seen, send
from tests.contract.sink_targets import SECRET, TARGETS, MakeTarget, Target


@pytest.fixture(params=TARGETS)
def made_target(request: pytest.FixtureRequest) -> Target:
    make_target: MakeTarget = request.param
    return make_target(request)


@pytest.fixture
async def target(made_target: Target) -> AsyncIterator[Target]:
    await made_target.open()
    yield made_target
    await made_target.close()


@pytest.fixture
async def sink(target: Target) -> AsyncIterator[Sink]:
    made = target.sink()
    yield made
    await made.close(5)


@pytest.fixture
async def dead(target: Target) -> AsyncIterator[Sink]:
    made = target.dead()
    if made is None:
        pytest.skip("there is no such thing as a dead target of this kind")
    yield made
    await made.close(5)


def strands(bodies: list[bytes]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for strand, seq in seen(bodies):
        found.setdefault(strand, []).append(seq)
    return found


async def test_an_event_arrives_with_the_very_bytes(sink: Sink, target: Target) -> None:
    one = event(1, 1)
    assert await send(sink, [one]) == {(1, 1): Delivered()}
    assert await target.received() == [one.body]


async def test_events_of_a_strand_arrive_in_order_and_nothing_is_lost(sink: Sink, target: Target) -> None:
    events = [event(strand, seq, job=f"transformation/{strand % 4}") for seq in range(8) for strand in range(20)]
    driven = await drive(sink, events, batch=sink.capacity)
    assert driven.retries == []
    assert strands(await target.received()) == {strand: list(range(8)) for strand in range(20)}


async def test_several_calls_at_once_each_get_their_outcomes(sink: Sink, target: Target) -> None:
    batches = [[event(batch * 10 + strand, 1) for strand in range(10)] for batch in range(5)]
    for outcomes in await asyncio.gather(*(send(sink, batch) for batch in batches)):
        assert set(outcomes.values()) == {Delivered()}
    assert len(strands(await target.received())) == 50


async def test_an_empty_batch_has_no_outcomes(sink: Sink, target: Target) -> None:
    assert await send(sink, []) == {}
    assert await target.received() == []


async def test_a_caller_that_goes_away_breaks_nothing(sink: Sink, target: Target) -> None:
    batch = [event(strand, 1) for strand in range(10)]
    answers = sink.send(batch)
    await anext(answers)
    await answers.aclose()  # type: ignore[attr-defined] # the port says iterator, sinks are generators
    driven = await drive(sink, batch)
    assert len(driven.delivered) == 10
    assert set(strands(await target.received())) == set(range(10))


async def test_a_cancelled_caller_breaks_nothing(sink: Sink, target: Target) -> None:
    batch = [event(strand, 1) for strand in range(10)]
    for pause in (0.0, 0.001, 0.01):
        task = asyncio.create_task(send(sink, batch))
        await asyncio.sleep(pause)
        task.cancel()
        await asyncio.wait([task])
    assert len((await drive(sink, batch)).delivered) == 10
    assert set(strands(await target.received())) == set(range(10))


async def test_a_dead_target_is_a_reason_to_try_again_told_in_words(dead: Sink) -> None:
    outcomes = await send(dead, [event(strand, 1) for strand in range(3)])
    for outcome in outcomes.values():
        assert isinstance(outcome, Retry)
        assert outcome.sink_wide
        assert len(outcome.cause) > 10
        assert SECRET not in outcome.cause


async def test_check_says_that_it_works_and_sends_nothing(sink: Sink, target: Target) -> None:
    findings = await sink.check()
    assert findings
    assert all(finding.ok for finding in findings), findings
    assert await target.received() == []


async def test_check_says_what_does_not_work(dead: Sink) -> None:
    broken = [finding for finding in await dead.check() if not finding.ok]
    assert broken
    assert all(finding.subject and finding.detail for finding in broken)
    assert SECRET not in repr(broken)


async def test_a_sink_that_never_sent_can_be_closed_and_twice(target: Target) -> None:
    made = target.sink()
    await made.close(1)
    await made.close(1)


def client_tasks() -> set[asyncio.Task[object]]:
    """Without those of a target that is served in the same loop."""
    return {task for task in asyncio.all_tasks() if "RequestHandler.start" not in repr(task.get_coro())}


async def test_closing_leaves_no_task_behind(target: Target) -> None:
    before = client_tasks()
    made = target.sink()
    await send(made, [event(1, 1)])
    await made.close(5)
    assert client_tasks() == before


def test_it_says_what_delivery_must_know(sink: Sink) -> None:
    assert sink.wants >= {EventKind.START, EventKind.COMPLETE, EventKind.FAIL, EventKind.ABORT}
    assert sink.capacity >= 1
    assert 0 < sink.longest_attempt.total_seconds() <= 300
