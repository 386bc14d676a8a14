"""The contract of sinks, each on its own target; `exporters.sinks.base` is the port.

The tests of a sink subclass `SinkContract` and give it a fixture `target`. `drive` feeds a sink as delivery does: one event of a
strand at a time, looked up again while in flight, sent again on `Retry`.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import pytest

from collector.model import EventKind, Outgoing
from exporters.sinks.base import Delivered, Outcome, Park, Retry, Sink

SECRET = "a-secret-that-nobody-may-see"


class Target(Protocol):
    """A server or file to deliver to, which stores what arrived."""

    def sink(self) -> Sink:
        """A new one that delivers here, with `SECRET` for a credential where it takes one."""
        ...

    def dead(self) -> Sink | None:
        """One that is configured to deliver where nothing is, None where there is no such thing."""
        ...

    async def received(self) -> list[bytes]:
        """The bodies that arrived, each strand's in order."""
        ...


class SinkContract:
    """For every sink. The class has, or its module has, a fixture `target`: a `Target`."""

    @pytest.fixture
    async def sink(self, target: Target) -> AsyncIterator[Sink]:
        made = target.sink()
        yield made
        await made.close(5)

    @pytest.fixture
    async def dead(self, target: Target) -> AsyncIterator[Sink]:
        made = target.dead()
        if made is None:
            pytest.skip("there is no such thing as a dead target of this kind")
        yield made
        await made.close(5)

    async def test_an_event_arrives_with_the_very_bytes(self, sink: Sink, target: Target) -> None:
        one = event(1, 1)
        escaped = one._replace(body=one.body.replace(b"/", b"\\/"))  # other bytes once they were read and written again
        assert await send(sink, [escaped]) == {(1, 1): Delivered()}
        assert await target.received() == [escaped.body]

    async def test_events_of_a_strand_arrive_in_order_and_nothing_is_lost(self, sink: Sink, target: Target) -> None:
        events = [event(strand, seq, job=f"transformation/{strand % 4}") for seq in range(8) for strand in range(20)]
        driven = await drive(sink, events, batch=sink.capacity)
        assert driven.retries == []
        assert strands(await target.received()) == {strand: list(range(8)) for strand in range(20)}

    async def test_several_calls_at_once_each_get_their_outcomes(self, sink: Sink, target: Target) -> None:
        batches = [[event(batch * 10 + strand, 1) for strand in range(10)] for batch in range(5)]
        for outcomes in await asyncio.gather(*(send(sink, batch) for batch in batches)):
            assert set(outcomes.values()) == {Delivered()}
        assert len(strands(await target.received())) == 50

    async def test_an_empty_batch_has_no_outcomes(self, sink: Sink, target: Target) -> None:
        assert await send(sink, []) == {}
        assert await target.received() == []

    async def test_a_caller_that_goes_away_breaks_nothing(self, sink: Sink, target: Target) -> None:
        batch = [event(strand, 1) for strand in range(10)]
        answers = sink.send(batch)
        await anext(answers)
        await answers.aclose()  # type: ignore[attr-defined] # the port says iterator, sinks are generators
        driven = await drive(sink, batch)
        assert len(driven.delivered) == 10
        assert set(strands(await target.received())) == set(range(10))

    async def test_a_cancelled_caller_breaks_nothing(self, sink: Sink, target: Target) -> None:
        batch = [event(strand, 1) for strand in range(10)]
        for pause in (0.0, 0.001, 0.01):
            task = asyncio.create_task(send(sink, batch))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.wait([task])
        assert len((await drive(sink, batch)).delivered) == 10
        assert set(strands(await target.received())) == set(range(10))

    async def test_a_dead_target_is_a_retry_with_a_cause(self, dead: Sink) -> None:
        outcomes = await send(dead, [event(strand, 1) for strand in range(3)])
        for outcome in outcomes.values():
            assert isinstance(outcome, Retry)
            assert outcome.sink_wide
            assert len(outcome.cause) > 10
            assert SECRET not in outcome.cause

    async def test_check_says_that_it_works_and_sends_nothing(self, sink: Sink, target: Target) -> None:
        findings = await sink.check()
        assert findings
        assert all(finding.ok for finding in findings), findings
        assert await target.received() == []

    async def test_check_says_what_does_not_work(self, dead: Sink) -> None:
        broken = [finding for finding in await dead.check() if not finding.ok]
        assert broken
        assert all(finding.subject and finding.detail for finding in broken)
        assert SECRET not in repr(broken)

    async def test_a_sink_that_never_sent_can_be_closed_and_twice(self, target: Target) -> None:
        made = target.sink()
        await made.close(1)
        await made.close(1)

    async def test_closing_leaves_no_task_behind(self, target: Target) -> None:
        before = client_tasks()
        made = target.sink()
        await send(made, [event(1, 1)])
        await made.close(5)
        assert client_tasks() == before

    def test_it_says_what_delivery_must_know(self, sink: Sink) -> None:
        assert sink.wants >= {EventKind.START, EventKind.COMPLETE, EventKind.FAIL, EventKind.ABORT}
        assert sink.capacity >= 1
        assert 0 < sink.longest_attempt.total_seconds() <= 300


def event(strand: int, seq: int, *, job: str = "transformation/a", padding: int = 0) -> Outgoing:
    """An event of run number `strand`; `seq` distinguishes the events of a strand."""
    body = {
        "eventType": "START",
        "eventTime": "2026-01-01T00:00:00Z",
        "producer": "https://example.com/producer",
        "run": {"runId": str(UUID(int=strand)), "facets": {}},
        "job": {"namespace": "cdf://here/project", "name": job},
        "seq": seq,
        "padding": "x" * padding,
    }
    return Outgoing(
        strand_id=strand,
        seq=seq,
        run_number=strand,
        run_id=str(UUID(int=strand)),
        source_id=1,
        kind=EventKind.START,
        body=json.dumps(body).encode(),
        attempts=0,
        committed_at=0,
        happened_at=0,
    )


async def send(sink: Sink, batch: Sequence[Outgoing]) -> dict[tuple[int, int], Outcome]:
    outcomes: dict[tuple[int, int], Outcome] = {}
    async for item, outcome in sink.send(batch):
        assert (item.strand_id, item.seq) not in outcomes, "an event got two outcomes"
        outcomes[item.strand_id, item.seq] = outcome
    assert outcomes.keys() == {(item.strand_id, item.seq) for item in batch}, "an event got no outcome"
    return outcomes


@dataclass
class Driven:
    delivered: list[tuple[int, int]] = field(default_factory=list)
    parked: dict[tuple[int, int], str] = field(default_factory=dict)
    retries: list[Retry] = field(default_factory=list)
    longest: float = 0.0
    """Seconds that the longest call of `send` took."""


async def drive(
    sink: Sink,
    events: Iterable[Outgoing],
    *,
    seconds: float = 60,
    batch: int = 500,
    after: tuple[int, asyncio.Event] | None = None,
) -> Driven:
    """Until all is delivered or parked; TimeoutError after `seconds`. `after`: an event to set once so many are delivered."""
    lanes: dict[int, list[Outgoing]] = defaultdict(list)
    for item in events:
        lanes[item.strand_id].append(item)
    driven = Driven()
    async with asyncio.timeout(seconds):
        while heads := [lane[0] for lane in lanes.values() if lane]:
            began = time.monotonic()
            settled = [_settle(driven, lanes, *answer) async for answer in sink.send(heads[:batch])]
            driven.longest = max(driven.longest, time.monotonic() - began)
            if after is not None and len(driven.delivered) >= after[0]:
                after[1].set()
            if not any(settled):
                await asyncio.sleep(0.05)
    return driven


def _settle(driven: Driven, lanes: dict[int, list[Outgoing]], item: Outgoing, outcome: Outcome) -> bool:
    name = item.strand_id, item.seq
    assert lanes[item.strand_id][0] is item, "an outcome for an event that was not sent"
    match outcome:
        case Delivered():
            driven.delivered.append(name)
        case Park(cause):
            driven.parked[name] = cause
        case Retry():
            driven.retries.append(outcome)
            return False
    del lanes[item.strand_id][0]
    return True


def seen(bodies: Iterable[bytes]) -> list[tuple[int, int]]:
    """(strand, seq) of events as they were read back."""
    return [(UUID(event["run"]["runId"]).int, event["seq"]) for event in map(json.loads, bodies)]


def strands(bodies: list[bytes]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for strand, seq in seen(bodies):
        found.setdefault(strand, []).append(seq)
    return found


def client_tasks() -> set[asyncio.Task[object]]:
    """Without those of a target that is served in the same loop."""
    return {task for task in asyncio.all_tasks() if "RequestHandler.start" not in repr(task.get_coro())}
