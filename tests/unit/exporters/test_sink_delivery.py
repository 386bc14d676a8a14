"""A sink with all its shards in one process, over a real ledger in simulated time."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import uuid5

import pytest

from collector.ledger import claims, parked, queries, replicas, requests, shards
from collector.ledger.held_lease import Leases
from collector.ledger.replicas import Replica
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.shards import Shard, Shards
from collector.model import EventKind, Outgoing
from exporters.delivery.delivery import Delivery
from exporters.delivery.reports import SinkState
from exporters.delivery.sink_delivery import SinkDelivery
from exporters.sinks.base import Delivered, Outcome, Park, Retry
from tests.unit.exporters.delivery_simulation import (
    OUR_RUNS,
    DeliverySimulation,
    Script,
    ScriptedSink,
    delivers,
    delivery_simulation,
)

START, COMPLETE = EventKind.START, EventKind.COMPLETE
RUNS = [f"run {number}" for number in range(12)]


class ParallelSink(ScriptedSink):
    parallel = True


class Divided:
    """A replica with a sink of so many shards in its configuration."""

    def __init__(self, simulation: DeliverySimulation, script: Script) -> None:
        self.simulation, self.script = simulation, script
        self.sinks: list[ParallelSink] = []
        self.shards: list[int] = []
        self.delivery = SinkDelivery(
            "sink",
            simulation.sinks["sink"],
            self.another(),
            self.another,
            leases=Leases(simulation.store, simulation.clock, "test", simulation.reports.lease),
            clock=simulation.clock,
            random=simulation.random.random,
            observer=simulation.reports,
            on_shards=self.shards.append,
        )
        self.task = asyncio.create_task(self.delivery.run())

    def another(self) -> ParallelSink:
        self.sinks.append(ParallelSink(self._answer))
        self.simulation.violations.append(self.sinks[-1].violations)
        return self.sinks[-1]

    def _answer(self, item: Outgoing) -> Outcome | Awaitable[Outcome]:
        return self.script(item)

    async def configure(self, count: int) -> None:
        """It starts again with this number."""
        me = Replica(f"with {count}", "1", "", frozenset({"sink:sink"}), shards={"sink": count})
        await self.simulation.store.write(replicas.end_all)
        await self.simulation.store.write(replicas.beat, me)

    @property
    def sent(self) -> list[list[tuple[str, EventKind]]]:
        return [sink.sent for sink in self.sinks]

    async def answer(self, kind: RequestKind, body: str = "{}") -> tuple[RequestState, dict[str, object]]:
        store = self.simulation.store
        number = await store.write(requests.add, kind, "sink:sink", body, self.simulation.now_ms)
        await self.simulation.advance(3)
        request = await store.read(requests.get, number)
        return request.state, json.loads(request.answer or "{}")


@asynccontextmanager
async def divided(count: int, script: Script = delivers) -> AsyncIterator[Divided]:
    async with delivery_simulation() as simulation:
        made = Divided(simulation, script)
        await made.configure(count)
        try:
            while made.shards[-1:] != [count] or not all(each.lease for each in made.delivery._deliveries):
                await simulation.advance(0.5)
            yield made
        finally:
            made.task.cancel()
            await asyncio.gather(made.task, return_exceptions=True)


async def test_each_shard_sends_its_own_strands_in_order_by_a_sink_of_its_own() -> None:
    async with divided(3) as made:
        await made.simulation.happen(START, runs=RUNS)
        await made.simulation.happen(COMPLETE, runs=RUNS)
        await made.simulation.advance(5)
        assert made.shards[-1] == 3
        assert len(made.sinks) == 3
        assert sorted(one for sent in made.sent for one in sent) == sorted(
            (run, kind) for run in RUNS for kind in (START, COMPLETE)
        )
        assert all(sent.index((run, START)) < sent.index((run, COMPLETE)) for sent in made.sent for run, _ in sent)
        assert made.delivery.status().state is SinkState.DELIVERING
        stopping = made.delivery.stop(5)
        await made.simulation.within(6, stopping)
        assert made.delivery.status().state is SinkState.STOPPED
        assert not [
            row
            for row in await made.simulation.store.read(queries.leases)
            if row.left_ms and row.name != "source:source"
        ]


@pytest.mark.parametrize("seconds", [2, 1000])
async def test_stop_returns_in_time_when_all_shards_have_stopped(seconds: float) -> None:
    async def slowly(_: Outgoing) -> Outcome:
        await made.simulation.clock.sleep(seconds)
        return Delivered()

    async with divided(2, slowly) as made:
        await made.simulation.happen(START, runs=RUNS)
        await made.simulation.advance(1)
        await made.simulation.within(6, made.delivery.stop(5))
        assert made.delivery.status().state is SinkState.STOPPED


async def test_each_shard_parks_its_part_of_what_is_owed_too_much() -> None:
    async with divided(2) as made:
        with patch.object(Delivery, "park_oldest") as park_oldest:
            await made.delivery.park_oldest(7, "no room")
        assert [call.args for call in park_oldest.await_args_list] == [(4, "no room")] * 2, "7 at least"


async def test_a_round_is_expected_within_a_minute() -> None:
    async with delivery_simulation() as simulation:
        await simulation.advance(100)
        made = Divided(simulation, delivers)
        assert made.delivery.expected_by == 160
        made.task.cancel()


async def test_the_number_changes_while_events_are_at_the_sink_and_none_is_sent_twice_or_out_of_order() -> None:
    async def slowly(_: Outgoing) -> Outcome:
        await made.simulation.clock.sleep(4)
        return Delivered()

    async with divided(2) as made:
        made.script = slowly
        for count in (3, 1, 2):
            await made.simulation.happen(START, runs=[f"{run} of {count}" for run in RUNS])
            await made.simulation.advance(1)
            await made.configure(count)
            await made.simulation.happen(COMPLETE, runs=[f"{run} of {count}" for run in RUNS])
            await made.simulation.advance(60)
            found = await made.simulation.store.read(shards.of_sink, made.simulation.sinks["sink"])
            assert found == Shards(count)
        sent = [one for each in made.sent for one in each]
        assert sorted(sent) == sorted(made.simulation.made), "each once"


@asynccontextmanager
async def behind_a_backlog(seconds: float) -> AsyncIterator[tuple[Divided, list[int]]]:
    """Two shards, of which the second one delivers nothing, so that it takes the first one so many seconds to look at all. Yields how
    long before the present each of its claims begins, 0 for one that looks at all.
    """
    floors: list[int] = []

    def fails(item: Outgoing) -> Outcome:
        return Retry("no connection") if Shard(1, 2).has(item.strand_id) else Delivered()

    async with divided(2, fails) as made:
        simulation, read = made.simulation, made.simulation.store.read_claim

        async def slowly(fn: Any, *args: Any) -> Any:
            of_shard = {claims.claim: (3, 5), claims.next_due: (2, 1)}.get(fn)
            if of_shard is not None and args[of_shard[1]] == Shard(0, 2):
                floor = args[of_shard[0]]
                floors.append(simulation.now_ms - floor if floor else 0)
                await simulation.clock.sleep(0 if floor else seconds)
            return await read(fn, *args)

        with patch.object(simulation.store, "read_claim", slowly):
            yield made, floors


async def test_a_shard_that_owes_nothing_passes_over_the_backlog_of_another_only_now_and_then() -> None:
    """Though it hears of each commit. What was committed together is sent without a pause all the same."""
    async with behind_a_backlog(seconds=0.1) as (made, floors):
        simulation = made.simulation
        await simulation.advance(20)
        assert 3 <= floors.count(0) <= 5, "each five seconds, to know what is due next"
        floors.clear()
        for number in range(40):
            runs = [f"{number} {run}" for run in RUNS]
            await simulation.happen(START, runs=runs)
            await simulation.happen(COMPLETE, runs=runs)
            await simulation.advance(0.5)
            assert len(made.sinks[0].sent) == 12 * (number + 1)
    assert 3 <= floors.count(0) <= 5, "each five seconds"
    assert len(floors) >= 40
    assert all(floor < 11_000 for floor in floors)


@pytest.mark.parametrize("seconds", [0.001, 0.1, 10])
async def test_a_shard_looks_at_all_as_often_as_that_costs_little(seconds: float) -> None:
    """Only then it finds what another process committed whose clock is far behind."""
    async with behind_a_backlog(seconds) as (made, _):
        simulation = made.simulation
        await simulation.happen(START, runs=["now", "then"])
        await simulation.advance(1)
        simulation.clock.wall -= timedelta(hours=1)
        await simulation.happen(START, runs=["behind", "too"])
        simulation.clock.wall += timedelta(hours=1)
        begun = simulation.clock.monotonic()
        while len(made.sinks[0].sent) < 2:
            await simulation.advance(0.05)
        assert simulation.clock.monotonic() - begun < min(50 * seconds, 30) + 2 * seconds + 0.15


async def test_parked_events_of_a_shard_are_sent_again_at_once_behind_the_backlog_of_another() -> None:
    async with behind_a_backlog(seconds=1) as (made, _):
        simulation = made.simulation
        made.script = lambda item: Park("refused") if Shard(0, 2).has(item.strand_id) else Retry("no connection")
        await simulation.happen(START, runs=["one", "two"])
        await simulation.advance(60)
        [sent] = made.sinks[0].sent
        made.script = delivers
        await simulation.happen(START, runs=["three", "four"])
        await simulation.advance(5)
        assert await made.answer(RequestKind.RETRY) == (RequestState.DONE, {"queued": 1})
        assert made.sinks[0].sent[2:] == [sent]


async def test_one_shard_in_trouble_shows_and_leaves_the_others_alone() -> None:
    def fails(item: Outgoing) -> Outcome:
        return Retry("no connection") if Shard(1, 2).has(item.strand_id) else Delivered()

    async with divided(2, fails) as made:
        await made.simulation.happen(START, runs=RUNS)
        await made.simulation.advance(5)
        assert len({run for run, _ in made.sinks[0].sent}) == 6
        status = made.delivery.status()
        assert (status.state, status.problem) == (SinkState.OUTAGE, "no connection")
        assert [(report.shard, report.open) for report in made.simulation.reports.circuits] == [(1, True)]


async def test_requests_to_a_divided_sink_are_done_by_all_shards_and_answered_once() -> None:
    async with divided(3, lambda _: Park("refused")) as made:
        await made.simulation.happen(START, runs=RUNS)
        await made.simulation.advance(5)
        made.script = delivers
        assert await made.answer(RequestKind.RETRY) == (RequestState.DONE, {"queued": 12})
        assert await made.simulation.store.read(parked.listing, 100) == []
        assert await made.answer(RequestKind.DROP) == (RequestState.FAILED, {"error": "nothing is parked there"})
        await made.simulation.happen(COMPLETE, runs=RUNS)
        await made.simulation.advance(5)
        before = [len(sent) for sent in made.sent]
        state, answer = await made.answer(RequestKind.BACKFILL, '{"since_ms": null, "until_ms": null}')
        assert (state, answer["total"], answer["seen"], answer["strands"]) == (RequestState.DONE, 12, 12, 12)
        await made.simulation.advance(5)
        assert [len(sent) - was for sent, was in zip(made.sent, before, strict=True)] == [8, 8, 8]


async def test_runs_are_sent_again_by_the_shard_that_has_them_and_unknown_ones_count_once() -> None:
    async with divided(3) as made:
        await made.simulation.happen(START, runs=RUNS)
        await made.simulation.happen(COMPLETE, runs=RUNS)
        await made.simulation.advance(5)
        before = [len(sent) for sent in made.sent]
        runs = {str(uuid5(OUR_RUNS, run)): "run" for run in RUNS} | {str(uuid5(OUR_RUNS, "never")): "run"}
        answer = await made.answer(RequestKind.RESEND, json.dumps({"runs": runs}))
        assert answer == (RequestState.DONE, {"queued": 12, "unknown": 1})
        await made.simulation.advance(5)
        again = [sent[was:] for sent, was in zip(made.sent, before, strict=True)]
        assert [len(sent) for sent in again] == [8, 8, 8]
        assert all(sorted(sent) == sorted(made.sent[number][: before[number]]) for number, sent in enumerate(again))


@pytest.mark.parametrize("kind", [RequestKind.RETRY, RequestKind.DROP, RequestKind.BACKFILL])
async def test_what_was_asked_of_a_sink_is_done_once_while_the_number_of_its_shards_changes(kind: RequestKind) -> None:
    refuses = True

    async def slowly(_: Outgoing) -> Outcome:
        await made.simulation.clock.sleep(4)
        return Park("refused") if refuses else Delivered()

    async with divided(2) as made:
        made.script = slowly
        await made.simulation.happen(START, runs=RUNS)
        await made.simulation.advance(30)
        assert len(await made.simulation.store.read(parked.listing, 100)) == 12
        refuses = False
        await made.simulation.happen(START, runs=[f"other {run}" for run in RUNS])
        await made.simulation.advance(1)
        await made.configure(3)
        body = '{"since_ms": null, "until_ms": null}' if kind is RequestKind.BACKFILL else "{}"
        number = await made.simulation.store.write(requests.add, kind, "sink:sink", body, made.simulation.now_ms)
        await made.simulation.advance(120)
        assert made.shards[-1] == 3
        request = await made.simulation.store.read(requests.get, number)
        assert request.state is RequestState.DONE, request.answer
        answer = json.loads(request.answer)
        if kind is RequestKind.BACKFILL:
            assert (answer["total"], answer["seen"]) == (24, 24)
            return
        assert answer == {"queued" if kind is RequestKind.RETRY else "dropped": 12}
        assert await made.simulation.store.read(parked.listing, 100) == []
        sent = [run for each in made.sent for run, _ in each]
        times = Counter(sent.count(run) for run in RUNS)
        assert times == {2 if kind is RequestKind.RETRY else 1: 12}


async def test_a_sink_that_cannot_work_beside_another_waits_while_the_ledger_has_it_divided() -> None:
    async with divided(2) as made:
        lone = Divided(made.simulation, delivers)
        lone.delivery._first = ScriptedSink()
        await made.simulation.within(30, made.delivery.stop(20))
        await made.simulation.happen(START, runs=RUNS)
        await made.simulation.advance(60)
        assert lone.shards == []
        assert lone.delivery.status().state is SinkState.STARTING
        await lone.configure(1)
        await made.simulation.advance(timedelta(minutes=2).total_seconds())
        assert lone.shards == [1]
        lone.task.cancel()
        await asyncio.gather(lone.task, return_exceptions=True)
