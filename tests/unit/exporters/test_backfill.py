"""Runs and whole windows that a sink is sent again, by the holder of its lease, in simulated time."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid5

import pytest

from collector.ledger import parked, requests, resend
from collector.ledger.requests import Request, RequestKind, RequestState
from collector.ledger.resend import Resent
from collector.model import EventKind
from exporters.delivery import backfill
from exporters.delivery.backfill import Progress
from exporters.delivery.requests import SinkRequests
from exporters.sinks.base import Park, Retry
from tests.lease_faults import take_over
from tests.unit.exporters.delivery_simulation import (
    OUR_RUNS,
    DeliverySimulation,
    ScriptedSink,
    delivers,
    delivery_simulation,
)

START, COMPLETE = EventKind.START, EventKind.COMPLETE
EVERYTHING = {"since_ms": None, "until_ms": None}


@pytest.fixture
async def simulation() -> AsyncIterator[DeliverySimulation]:
    async with delivery_simulation() as made:
        yield made


class Served:
    """A delivery, and what serves the requests to its sink."""

    def __init__(self, simulation: DeliverySimulation) -> None:
        self.simulation, self.sink = simulation, ScriptedSink()
        delivery = simulation.deliver(self.sink)
        self.requests = SinkRequests(simulation.sinks["sink"], delivery, simulation.store, simulation.clock)
        self.task: asyncio.Task[None] | None = None

    async def ask(self, kind: RequestKind, body: dict[str, Any]) -> int:
        """Its number; it is served from now on."""
        words, now = json.dumps(body), self.simulation.now_ms
        if kind is RequestKind.BACKFILL:
            number = await self.simulation.store.write(requests.add_backfill, "sink:sink", words, now)
        else:
            number = await self.simulation.store.write(requests.add, kind, "sink:sink", words, now)
        self.task = self.task or asyncio.create_task(self.requests.run())
        return int(number)

    async def answer(self, number: int) -> Request:
        assert self.task is not None
        assert not self.task.done(), self.task.exception()
        found = await self.simulation.store.read(requests.get, number)
        assert isinstance(found, Request)
        return found

    async def happened(self, *runs: str) -> None:
        """Runs that began, ended and were delivered."""
        await self.simulation.happen(START, runs=runs)
        await self.simulation.advance(1)
        await self.simulation.happen(COMPLETE, runs=runs)
        await self.simulation.advance(1)
        self.sink.sent.clear()


@pytest.fixture
async def served(simulation: DeliverySimulation) -> AsyncIterator[Served]:
    made = Served(simulation)
    yield made
    if made.task is not None:
        made.task.cancel()


def run_id(run: str) -> str:
    return str(uuid5(OUR_RUNS, run))


async def test_named_runs_are_sent_again_each_from_where_it_should(served: Served) -> None:
    await served.happened("a", "b", "c")
    runs = {run_id("a"): "run", run_id("b"): "end", run_id("unknown"): "run"}
    number = await served.ask(RequestKind.RESEND, {"runs": runs})
    await served.simulation.advance(2)
    assert (served.sink.kinds("a"), served.sink.kinds("b"), served.sink.kinds("c")) == (
        [START, COMPLETE],
        [COMPLETE],
        [],
    )
    found = await served.answer(number)
    assert (found.state, json.loads(found.answer or "")) == (RequestState.DONE, {"queued": 2, "unknown": 1})


async def test_a_run_whose_event_is_at_the_sink_is_not_waited_for(served: Served) -> None:
    await served.happened("b", "c")
    served.sink.script = lambda _: Retry("no answer yet", in_flight=True, sink_wide=False)
    await served.simulation.happen(START, runs=["a"])
    await served.simulation.advance(0)
    number = await served.ask(RequestKind.RESEND, {"runs": {run_id(run): "run" for run in "abc"}})
    await served.simulation.advance(1)
    assert json.loads((await served.answer(number)).answer or "") == {"queued": 2, "waiting": 1}
    served.sink.script = delivers


async def test_a_backfill_sends_everything_a_little_at_a_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resend, "LOOKED_AT", 3)
    monkeypatch.setattr(backfill, "MOST_LANES", 3)
    runs = [f"r{number}" for number in range(10)]
    await served.happened(*runs)
    number = await served.ask(RequestKind.BACKFILL, EVERYTHING)
    assert await served.ask(RequestKind.BACKFILL, EVERYTHING) == number
    await served.simulation.advance(60)
    assert {run: served.sink.kinds(run) for run in runs} == {run: [START, COMPLETE] for run in runs}
    found = await served.answer(number)
    assert found.state is RequestState.DONE
    shown = json.loads(found.answer or "")
    assert (shown["total"], shown["seen"], shown["strands"], shown["events"]) == (10, 10, 10, 20)
    assert await served.ask(RequestKind.BACKFILL, EVERYTHING) != number


def test_what_became_of_strands_is_added_up() -> None:
    became = Counter({Resent.QUEUED: 2, Resent.WAITING: 3, Resent.INCOMPLETE: 5, Resent.RESTRICTED: 7})
    look, result = resend.Strands((), after=40, seen=17), resend.Result(became, events=11)
    progress = Progress(total=50)
    for _ in range(2):
        progress = progress.with_look(look).with_result(result)
    assert progress == Progress(50, 40, 34, strands=4, events=22, waiting=6, incomplete=10, restricted=14)
    assert progress.with_look(resend.Strands((), after=None, seen=0)).after == 40, "where it ended"


async def test_a_strand_whose_event_is_at_the_sink_waits_for_it_in_a_backfill(served: Served) -> None:
    await served.happened("a", "b")
    served.sink.script = lambda _: Retry("no answer yet", in_flight=True, sink_wide=False)
    await served.simulation.happen(START, runs=["c"])
    await served.simulation.advance(0)
    number = await served.ask(RequestKind.BACKFILL, EVERYTHING)
    await served.simulation.advance(1)
    shown = json.loads((await served.answer(number)).answer or "")
    assert shown == {"total": 3, "after": 0, "seen": 3, "strands": 2, "events": 4, "waiting": 1, "incomplete": 0}
    served.sink.script = delivers


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (RequestKind.RESEND, {}),
        (RequestKind.RESEND, {"runs": {"4f2e": "middle"}}),
        (RequestKind.BACKFILL, {"since": "yesterday"}),
        (RequestKind.POLL, {}),
    ],
)
async def test_a_request_that_cannot_be_read_fails_alone(
    served: Served, kind: RequestKind, body: dict[str, Any]
) -> None:
    """As of another version of the program, or of who writes to the control socket by hand: no start would get over it."""
    served.sink.script = lambda _: Park("no")
    await served.simulation.happen(START)
    await served.simulation.advance(1)
    bad, good = await served.ask(kind, body), await served.ask(RequestKind.RESEND, {"runs": {}})
    await served.simulation.advance(2)
    found = await served.answer(bad)
    assert found.state is RequestState.FAILED
    assert json.loads(found.answer or "").keys() == {"error"}
    assert (await served.answer(good)).state is RequestState.DONE
    assert len(await served.simulation.store.read(parked.listing, 10)) == 1, "nothing is dropped instead"


async def test_a_fault_in_a_backfill_ends_nothing_else(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(resend, "next_strands", faulty)
        number = await served.ask(RequestKind.BACKFILL, EVERYTHING)
        await served.simulation.advance(5)
        assert (await served.answer(number)).state is RequestState.CLAIMED
    [failed] = [record for record in caplog.records if record.getMessage() == "request.failed"]
    assert failed.exc_info
    assert failed.fields["sink"] == "sink"  # type: ignore[attr-defined]
    await served.simulation.advance(5)
    assert (await served.answer(number)).state is RequestState.DONE


async def test_a_sink_that_is_down_holds_a_backfill_and_no_other_request(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resend, "LOOKED_AT", 2)
    monkeypatch.setattr(backfill, "MOST_LANES", 2)
    await served.happened("a", "b", "c", "d")
    served.sink.script = lambda _: Retry("connection refused")
    number = await served.ask(RequestKind.BACKFILL, EVERYTHING)
    await served.simulation.advance(30)
    found = await served.answer(number)
    assert (found.state, json.loads(found.answer or "")["seen"]) == (RequestState.CLAIMED, 2)
    other = await served.ask(RequestKind.RESEND, {"runs": {run_id("d"): "end"}})
    await served.simulation.advance(5)
    assert (await served.answer(other)).state is RequestState.DONE
    served.sink.script = delivers
    await served.simulation.advance(120)
    assert (await served.answer(number)).state is RequestState.DONE
    assert served.sink.kinds("c")[-1] is COMPLETE


async def test_a_backfill_that_is_stopped_puts_nothing_more_on_its_way(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resend, "LOOKED_AT", 2)
    monkeypatch.setattr(backfill, "MOST_LANES", 2)
    await served.happened("a", "b", "c", "d")
    served.sink.script = lambda _: Retry("connection refused")
    caplog.set_level(logging.INFO, "lineage.request")
    number = await served.ask(RequestKind.BACKFILL, EVERYTHING)
    await served.simulation.advance(30)
    progress = await served.simulation.store.write(requests.stop_backfill, "sink:sink", served.simulation.now_ms)
    assert progress is not None
    assert progress["seen"] == 2
    assert await served.simulation.store.write(requests.stop_backfill, "sink:sink", 1) is None, "only once"
    served.sink.script = delivers
    await served.simulation.advance(120)
    found = await served.answer(number)
    assert (found.state, json.loads(found.answer or "")["seen"]) == (RequestState.FAILED, 2)
    assert served.sink.kinds("c") == served.sink.kinds("d") == []
    assert [record.levelname for record in caplog.records if record.getMessage() == "backfill.stopped"] == ["INFO"]
    again = await served.ask(RequestKind.BACKFILL, EVERYTHING)
    await served.simulation.advance(120)
    assert (await served.answer(again)).state is RequestState.DONE
    assert served.sink.kinds("d")[-1] is COMPLETE


async def test_the_next_holder_of_the_lease_goes_on_where_it_ended(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resend, "LOOKED_AT", 2)
    monkeypatch.setattr(backfill, "MOST_LANES", 2)
    await served.happened("a", "b", "c", "d")
    served.sink.script = lambda _: Retry("connection refused")
    number = await served.ask(RequestKind.BACKFILL, EVERYTHING)
    await served.simulation.advance(10)
    await served.simulation.store.write(take_over, "sink:sink", "second", -1)
    served.sink.script = delivers
    served.sink.sent.clear()
    await served.simulation.advance(200)
    found = await served.answer(number)
    assert (found.state, json.loads(found.answer or "")["strands"]) == (RequestState.DONE, 4)
    assert {run: served.sink.kinds(run).count(COMPLETE) for run in "abcd"} == dict.fromkeys("abcd", 1)
