"""What the Kafka sink does between hand-over and answer, against a producer whose answers the test gives.

The real broker (tests/kafka) shows that the whole works; these are the turns that it takes too rarely.
"""

import asyncio
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

import exporters.sinks.kafka.sink
from collector.model import Outgoing
from collector.testing.sinks import drive, event, send
from exporters.sinks.base import Delivered, Park, Retry
from exporters.sinks.kafka.cluster import Cluster
from exporters.sinks.kafka.connection import Batch
from exporters.sinks.kafka.errors import Problem
from exporters.sinks.kafka.sink import KafkaSink

REFUSED = Problem("too large", refused=True, poisoned=True)
BROKEN = Problem("sender died", poisoned=True)
Answer = Callable[[bytes], Problem | None]


class Producer:
    """Stands in for a connection, with two events in a batch. By default it acknowledges at once; `silent` gives no answers."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.open: list[tuple[list[bytes], asyncio.Future[Any]]] = []
        self.limit: int | None = None
        self.raised: int | None = None
        self.batch_bytes = 100_000
        self.silent = False
        self.taking: Problem | None = None
        self.answer: Answer = lambda _body: None
        self.ended: str | None = None

    async def partitions(self) -> int:
        return 1

    async def read_limit(self) -> int | None:
        return self.raised or self.limit

    def packed(self, keyed: Iterable[tuple[bytes, Outgoing]]) -> list[Batch]:
        events = [event for _, event in keyed]
        return [Batch(0, events[at : at + 2], None) for at in range(0, len(events), 2)]

    async def publish(self, batch: Batch, *, patience: float) -> asyncio.Future[Any] | Problem:
        assert self.ended is None, "published after its end"
        if self.taking is not None:
            return self.taking
        bodies = [event.body for event in batch.events]
        self.published += bodies
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.open.append((bodies, future))
        if not self.silent:
            asyncio.get_running_loop().call_soon(self.flush)
        return future

    def flush(self) -> None:
        """Answers everything that is open; one refusal refuses all of its batch."""
        for bodies, future in self.open:
            answers = [self.answer(body) for body in bodies]
            refused = next((answer for answer in answers if answer and answer.refused), None)
            future.set_result(refused or next(filter(None, answers), None))
        self.open.clear()

    def verdict(self, delivery: asyncio.Future[Any]) -> Problem | None:
        found: Problem | None = delivery.result()
        return found

    def waiting(self) -> Problem:
        return Problem("no answer yet")

    async def stop(self, seconds: float) -> None:
        assert not self.open, "stopped with events in flight"
        self.ended = "stopped"

    async def abandon(self) -> None:
        self.ended = "abandoned"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Producer]:
    """The producers that the sink got, in turn; each answers as the first one does."""
    made: list[Producer] = []

    async def open_one(*_: object) -> Producer:
        made.append(Producer())
        if len(made) > 1:
            made[-1].answer = made[0].answer
        return made[-1]

    monkeypatch.setattr(exporters.sinks.kafka.sink, "_open", open_one)
    return made


@pytest.fixture
def sink() -> KafkaSink:
    return KafkaSink(Cluster(("here:1",), "events", "tests"), "events", answer_seconds=0.05)


async def first_producer(sink: KafkaSink, opened: list[Producer]) -> Producer:
    await send(sink, [event(0, 0)])
    return opened[0]


async def test_neighbours_of_a_refused_event_get_through_and_it_is_parked(
    sink: KafkaSink, opened: list[Producer]
) -> None:
    (await first_producer(sink, opened)).answer = lambda body: REFUSED if b'"seq": 13' in body else None
    driven = await drive(sink, [event(strand, 10 + strand) for strand in range(1, 6)])
    assert driven.parked.keys() == {(3, 13)}
    assert "too large" in driven.parked[3, 13]
    assert sorted(driven.delivered) == [(1, 11), (2, 12), (4, 14), (5, 15)]
    assert [producer.ended for producer in opened] == ["stopped", "stopped"] + [None] * (len(opened) - 2)
    assert sink._suspects == set(), "none is sent alone any more"


async def test_what_fails_alone_for_another_reason_is_not_parked(sink: KafkaSink, opened: list[Producer]) -> None:
    producer = await first_producer(sink, opened)
    producer.answer = lambda _body: REFUSED
    await send(sink, [event(1, 1), event(2, 1)])
    producer.answer = lambda _body: BROKEN
    outcome = (await send(sink, [event(1, 1)]))[1, 1]
    assert isinstance(outcome, Retry)
    assert not outcome.in_flight


async def test_a_producer_that_was_poisoned_lives_on_while_something_is_in_flight(
    sink: KafkaSink, opened: list[Producer]
) -> None:
    first = await first_producer(sink, opened)
    first.silent = True
    pending = (await send(sink, [event(1, 1)]))[1, 1]
    assert isinstance(pending, Retry)
    assert pending.in_flight
    first.silent, first.taking = False, BROKEN
    assert isinstance((await send(sink, [event(2, 1)]))[2, 1], Retry)
    for _ in range(2):
        outcome = (await send(sink, [event(2, 1)]))[2, 1]
        assert isinstance(outcome, Retry)
        assert not outcome.in_flight
    assert (len(opened), first.ended) == (1, None)
    first.flush()
    assert set((await send(sink, [event(1, 1), event(2, 1)])).values()) == {Delivered()}
    assert (len(opened), first.ended) == (2, "stopped")


async def test_an_event_in_flight_is_asked_for_and_not_sent_again(sink: KafkaSink, opened: list[Producer]) -> None:
    producer = await first_producer(sink, opened)
    producer.silent = True
    for _ in range(3):
        outcome = (await send(sink, [event(1, 1)]))[1, 1]
        assert isinstance(outcome, Retry)
        assert outcome.in_flight
    producer.flush()
    assert await send(sink, [event(1, 1)]) == {(1, 1): Delivered()}
    assert len(producer.published) == 2


async def test_a_partition_that_does_not_answer_while_others_do_does_not_count_against_the_sink(
    sink: KafkaSink, opened: list[Producer]
) -> None:
    """Else delivery would stop sending to all of them."""

    async def counts(strand: int) -> bool:
        outcome = (await send(sink, [event(strand, 1)]))[strand, 1]
        assert isinstance(outcome, Retry)
        assert outcome.in_flight
        return outcome.sink_wide

    producer = await first_producer(sink, opened)
    producer.silent = True
    assert await counts(1)
    stuck = producer.open.pop()
    producer.silent = False
    assert await send(sink, [event(2, 1)]) == {(2, 1): Delivered()}
    assert not await counts(1)
    producer.silent = True
    assert await counts(3), "nothing is acknowledged any more"
    stuck[1].set_result(None)
    assert await send(sink, [event(1, 1)]) == {(1, 1): Delivered()}
    assert await counts(3), "that was handed over before"


async def test_a_late_failure_of_an_old_producer_does_not_spoil_the_new_one(
    sink: KafkaSink, opened: list[Producer]
) -> None:
    first = await first_producer(sink, opened)
    first.silent = True
    await send(sink, [event(1, 1), event(2, 1)])
    first.answer = lambda _body: BROKEN
    first.flush()
    await send(sink, [event(1, 1)])
    opened[0].answer = lambda _body: None
    assert await send(sink, [event(3, 1)]) == {(3, 1): Delivered()}
    assert isinstance((await send(sink, [event(2, 1)]))[2, 1], Retry)
    assert await send(sink, [event(1, 1), event(2, 1)]) == {(1, 1): Delivered(), (2, 1): Delivered()}
    assert len(opened) == 2


async def test_a_strand_that_goes_on_leaves_its_earlier_event_in_flight(
    sink: KafkaSink, opened: list[Producer]
) -> None:
    producer = await first_producer(sink, opened)
    producer.silent = True
    await send(sink, [event(1, 1)])
    await send(sink, [event(1, 2)])
    _, later = producer.open.pop()
    later.set_result(None)
    assert await send(sink, [event(1, 2)]) == {(1, 2): Delivered()}
    await sink.close(0.1)
    assert producer.ended == "abandoned"


async def test_an_earlier_event_is_sent_though_a_later_one_of_its_strand_is_in_flight(
    sink: KafkaSink, opened: list[Producer]
) -> None:
    """A parked event that is sent again while the answer of its successor is still to come."""
    producer = await first_producer(sink, opened)
    producer.silent = True
    await send(sink, [event(1, 2)])
    producer.silent = False
    assert await send(sink, [event(1, 1)]) == {(1, 1): Delivered()}
    assert len(producer.published) == 3


async def test_an_event_that_was_left_in_flight_is_forgotten_once_it_is_answered(
    sink: KafkaSink, opened: list[Producer]
) -> None:
    """Else the producer could never be replaced again: it would wait for that answer for ever."""
    producer = await first_producer(sink, opened)
    producer.silent = True
    await send(sink, [event(1, 1)])
    await send(sink, [event(1, 2)])
    producer.flush()
    producer.silent = False
    assert await send(sink, [event(1, 2)]) == {(1, 2): Delivered()}
    producer.taking = BROKEN
    assert isinstance((await send(sink, [event(2, 1)]))[2, 1], Retry)
    assert await send(sink, [event(2, 1)]) == {(2, 1): Delivered()}
    assert (len(opened), producer.ended) == (2, "stopped")


async def test_calls_that_wait_while_another_fails_to_connect_share_its_failure(
    sink: KafkaSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    go = asyncio.Event()

    async def fail(*_: object) -> Problem:
        nonlocal tries
        tries += 1
        await go.wait()
        return Problem("nobody there")

    monkeypatch.setattr(exporters.sinks.kafka.sink, "_open", fail)
    for expected in (1, 2):
        go.clear()
        calls = [asyncio.ensure_future(send(sink, [event(number, 1)])) for number in range(20)]
        async with asyncio.timeout(10):
            while tries < expected:
                await asyncio.sleep(0)
        go.set()
        outcomes = await asyncio.gather(*calls)
        assert outcomes == [{(number, 1): Retry("nobody there")} for number in range(20)]
        assert tries == expected


@pytest.fixture
def slow_open(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, list[Producer]]:
    """Connecting lasts until the event is set. The list has a producer per connect."""
    go, begun = asyncio.Event(), list[Producer]()

    async def open_slowly(*_: object) -> Producer:
        begun.append(Producer())
        await go.wait()
        return begun[-1]

    monkeypatch.setattr(exporters.sinks.kafka.sink, "_open", open_slowly)
    return go, begun


async def begins(begun: list[Producer]) -> None:
    """Until a connect is under way."""
    async with asyncio.timeout(10):
        while not begun:
            await asyncio.sleep(0)


async def test_a_connect_outlives_the_caller_that_began_it(
    sink: KafkaSink, slow_open: tuple[asyncio.Event, list[Producer]]
) -> None:
    go, begun = slow_open
    caller = asyncio.create_task(send(sink, [event(1, 1)]))
    await begins(begun)
    caller.cancel()
    await asyncio.wait([caller])
    go.set()
    assert await send(sink, [event(1, 1)]) == {(1, 1): Delivered()}
    assert len(begun) == 1


@pytest.mark.parametrize(("seconds", "ended"), [(10, "stopped"), (0.02, None)])
async def test_a_connect_under_way_is_ended_by_closing(
    sink: KafkaSink, slow_open: tuple[asyncio.Event, list[Producer]], seconds: float, ended: str | None
) -> None:
    go, begun = slow_open
    caller = asyncio.create_task(send(sink, [event(1, 1)]))
    await begins(begun)
    closing = asyncio.create_task(sink.close(seconds))
    if ended:
        async with asyncio.timeout(10):
            while not sink._closed:
                await asyncio.sleep(0)
        go.set()
    await asyncio.wait([caller, closing])
    assert begun[0].ended == ended
    assert asyncio.all_tasks() == {asyncio.current_task()}
    if ended:
        assert isinstance((await caller)[1, 1], Retry)


async def test_a_check_that_is_cut_off_closes_its_connection(
    sink: KafkaSink, opened: list[Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_: Producer) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Producer, "partitions", silent)
    checking = asyncio.create_task(sink.check())
    await begins(opened)
    checking.cancel()
    await asyncio.wait([checking])
    assert opened[0].ended == "stopped"


async def test_closing_with_nothing_in_flight_stops_the_producer(sink: KafkaSink, opened: list[Producer]) -> None:
    producer = await first_producer(sink, opened)
    await sink.close(0.1)
    assert producer.ended == "stopped"
    outcome = (await send(sink, [event(1, 1)]))[1, 1]
    assert isinstance(outcome, Retry)
    assert len(opened) == 1


async def test_an_attempt_waits_for_one_stuck_partition_and_gives_the_others_their_events(
    sink: KafkaSink, opened: list[Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = await first_producer(sink, opened)
    now, patiences = 1000.0, list[float]()
    publish = producer.publish

    async def stuck(batch: Batch, *, patience: float) -> asyncio.Future[Any] | Problem:
        nonlocal now
        patiences.append(patience)
        if batch.events[0].strand_id >= 6:
            return await publish(batch, patience=patience)
        now += patience
        return Problem("full", passing=True)

    monkeypatch.setattr(exporters.sinks.kafka.sink, "time", SimpleNamespace(monotonic=lambda: now))
    producer.publish = stuck  # type: ignore[method-assign]
    outcomes = await send(sink, [event(strand, 1) for strand in range(10)])
    assert patiences == [3, 0, 0, 0, 0]
    waiting = [outcomes[strand, 1] for strand in range(6)]
    assert all(isinstance(outcome, Retry) and not outcome.sink_wide for outcome in waiting)
    assert {outcomes[strand, 1] for strand in range(6, 10)} == {Delivered()}


async def test_a_batch_with_nothing_but_troubles_is_tried_once(sink: KafkaSink, opened: list[Producer]) -> None:
    producer = await first_producer(sink, opened)
    producer.taking = Problem("not allowed", slow=True)
    outcomes = await send(sink, [event(strand, 1) for strand in range(50)])
    assert set(outcomes.values()) == {Retry("not allowed", slow=True)}


async def test_a_producer_that_fails_for_what_people_must_mend_blames_the_sink(
    sink: KafkaSink, opened: list[Producer]
) -> None:
    (await first_producer(sink, opened)).taking = Problem("not allowed", slow=True, poisoned=True)
    assert await send(sink, [event(1, 1)]) == {(1, 1): Retry("not allowed", slow=True)}


async def test_the_size_of_requests_shrinks_where_the_limit_cannot_be_read(
    sink: KafkaSink, opened: list[Producer]
) -> None:
    producer = await first_producer(sink, opened)
    producer.answer = lambda _body: REFUSED
    await send(sink, [event(1, 1)])
    assert sink._batch_bytes == 50_000


async def test_what_surely_does_not_fit_is_parked_before_it_is_sent(sink: KafkaSink, opened: list[Producer]) -> None:
    producer = await first_producer(sink, opened)
    producer.limit = 1_000
    outcomes = await send(sink, [event(1, 1, padding=2_000), event(2, 1)])
    assert isinstance(outcomes[1, 1], Park)
    assert outcomes[2, 1] == Delivered()
    assert len(producer.published) == 2


async def test_a_limit_that_was_raised_is_read_before_an_event_is_parked(
    sink: KafkaSink, opened: list[Producer]
) -> None:
    producer = await first_producer(sink, opened)
    producer.limit, producer.raised = 1_000, 10_000
    assert await send(sink, [event(1, 1, padding=2_000)]) == {(1, 1): Delivered()}


async def test_a_body_without_a_job_is_parked(sink: KafkaSink, opened: list[Producer]) -> None:
    await first_producer(sink, opened)
    outcome = (await send(sink, [event(1, 1)._replace(body=b"{}")]))[1, 1]
    assert outcome == Park("not an OpenLineage run event: it names no job")
