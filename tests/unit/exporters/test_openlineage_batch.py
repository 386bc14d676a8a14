"""Batches to an OpenLineage backend: what answers mean for each event, and what goes alone."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from collector.model import Outgoing
from collector.testing.faults import Fault, FaultKind
from collector.testing.sinks import event, send
from exporters.sinks.base import Delivered, Outcome, Park, Retry, Sink
from exporters.sinks.http import Answer
from exporters.sinks.lineage_batch import encoded, outcomes
from simulators.openlineage import OpenLineageSimulator
from simulators.server import Served
from tests.contract.sink_targets import make

EVENTS = [event(strand, 1) for strand in range(10)]


class Backend:
    def __init__(self, served: Served, simulator: OpenLineageSimulator) -> None:
        self._url, self.simulator = served.url, simulator
        self._made: list[Sink] = []

    def sink(self, batch: Any = True, **settings: Any) -> Sink:
        from exporters.sinks.openlineage import create

        self._made.append(make(create, type="openlineage", url=self._url, batch=batch, **settings))
        return self._made[-1]

    def refuse(self, item: Outgoing, *, later: bool = False) -> None:
        self.simulator.refused[item.run_id] = "the job has no name"
        if later:
            self.simulator.later.add(item.run_id)

    async def close(self) -> None:
        for sink in self._made:
            await sink.close(1)


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    simulator = OpenLineageSimulator()
    async with Served(simulator) as served:
        made = Backend(served, simulator)
        yield made
        await made.close()


def answer(status: int = 200, body: Any = None) -> Answer:
    return Answer("POST http://backend/batch", status, body=b"" if body is None else json.dumps(body).encode())


def failed(*entries: Any, **more: Any) -> Answer:
    return answer(body={"status": "partial_success", "failed_events": list(entries), **more})


@pytest.mark.parametrize(
    "given",
    [
        answer(204),
        answer(201),
        answer(body={"status": "success", "summary": {"received": 3, "successful": 3, "failed": 0}}),
        answer(body={"status": "partial_success", "summary": {"received": 3, "partial": 1, "failed": 0}}),
        failed(),
    ],
)
def test_all_were_taken(given: Answer) -> None:
    assert outcomes(given, 3) == [Delivered()] * 3


@pytest.mark.parametrize("name", ["failed_events", "failedEvents"])
@pytest.mark.parametrize(("retriable", "expected"), [(True, Retry), (False, Park), (None, Park)])
def test_what_is_listed_failed_alone(name: str, retriable: bool | None, expected: type[Outcome]) -> None:
    entry = {"index": 1, "reason": "no eventTime", "retriable": retriable}
    found = outcomes(answer(body={"status": "partial_success", name: [entry]}), 3)
    assert found is not None
    assert [type(one) for one in found] == [Delivered, expected, Delivered]
    assert isinstance(found[1], Park | Retry)
    assert "no eventTime" in found[1].cause


@pytest.mark.parametrize(
    "given",
    [
        Answer("POST http://backend/batch", 200, body=b"<html><title>Log in</title>"),
        answer(body=["no", "object"]),
        answer(body={"status": "failure"}),
        failed({"index": 3}),
        failed({"index": -1}),
        failed({"index": True}),
        failed({"reason": "which?"}),
        failed("text"),
        answer(body={"failed_events": "text"}),
        failed(summary={"failed": 2}),
        failed(summary={"received": 2}),
    ],
)
def test_an_answer_may_leave_open_what_became_of_an_event(given: Answer) -> None:
    assert outcomes(given, 3) is None


def test_the_forms_of_a_batch() -> None:
    assert encoded("array", [b"{}", b"{}"]) == b"[{},{}]"
    assert encoded("events", [b"{}"]) == b'{"events":[{}]}'
    assert encoded("array", []) == b"[]"


async def test_events_go_together_and_one_goes_alone(backend: Backend) -> None:
    sink = backend.sink({"size": 4}, concurrency=3)
    assert sink.capacity == 12
    assert set((await send(sink, EVENTS)).values()) == {Delivered()}
    assert (backend.simulator.batches, backend.simulator.singles) == ([4, 4, 2], 0)
    await send(sink, [event(11, 1)])
    assert (backend.simulator.batches, backend.simulator.singles) == ([4, 4, 2], 1)
    assert backend.simulator.accepted == [item.body for item in (*EVENTS, event(11, 1))]


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize("form", ["array", "events"])
async def test_a_bad_event_is_parked_alone(backend: Backend, form: Any, reports: bool) -> None:
    backend.simulator.form, backend.simulator.reports = form, reports
    backend.refuse(EVENTS[3])
    found = await send(backend.sink({"form": form}), EVENTS)
    parked = {strand: outcome for (strand, _), outcome in found.items() if outcome != Delivered()}
    assert parked.keys() == {3}
    assert isinstance(parked[3], Park)
    assert "the job has no name" in parked[3].cause
    assert backend.simulator.accepted == [item.body for item in EVENTS if item.strand_id != 3]


async def test_an_event_that_may_be_sent_again_holds_up_no_other_and_goes_alone(backend: Backend) -> None:
    backend.refuse(EVENTS[3], later=True)
    found = await send(sink := backend.sink(), EVENTS)
    outcome = found[3, 1]
    assert isinstance(outcome, Retry)
    assert not outcome.sink_wide
    assert list(found.values()).count(Delivered()) == 9
    backend.simulator.refused.clear()
    again = [EVENTS[3]._replace(attempts=1), event(11, 1), event(12, 1)]
    assert set((await send(sink, again)).values()) == {Delivered()}
    assert (backend.simulator.batches, backend.simulator.singles) == ([10, 2], 1)


async def test_a_batch_that_is_too_large_is_halved_and_the_next_is_smaller(backend: Backend) -> None:
    backend.simulator.largest = 3 * len(EVENTS[0].body)  # with commas and brackets, two of them
    sink = backend.sink()
    assert set((await send(sink, EVENTS)).values()) == {Delivered()}
    assert backend.simulator.accepted == [item.body for item in EVENTS]
    backend.simulator.batches.clear()
    more = [event(strand, 2) for strand in range(10)]
    assert set((await send(sink, more)).values()) == {Delivered()}
    assert max(backend.simulator.batches) == 2


async def test_a_batch_is_limited_in_bytes_too(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.sinks.openlineage.BATCH_BYTES", 3 * len(EVENTS[0].body))
    assert set((await send(backend.sink(), EVENTS)).values()) == {Delivered()}
    assert backend.simulator.batches == [3, 3, 3]
    assert backend.simulator.singles == 1


async def test_an_event_that_is_too_large_is_parked_alone(backend: Backend) -> None:
    backend.simulator.largest = 2000
    large = event(5, 1, padding=4000)
    found = await send(backend.sink(), [*EVENTS[:5], large, *EVENTS[6:]])
    assert {strand for (strand, _), outcome in found.items() if isinstance(outcome, Park)} == {5}
    assert list(found.values()).count(Delivered()) == 9


@pytest.mark.parametrize(
    ("status", "slow", "unanswered"), [(503, False, False), (401, True, False), (504, False, True)]
)
async def test_a_failure_of_the_backend_concerns_all(
    backend: Backend, status: int, slow: bool, unanswered: bool
) -> None:
    backend.simulator.faults.plan(Fault(FaultKind.STATUS, status=status))
    found = await send(backend.sink(), EVENTS)
    for outcome in found.values():
        assert isinstance(outcome, Retry)
        assert (outcome.slow, outcome.unanswered, outcome.sink_wide) == (slow, unanswered, True)
    assert backend.simulator.accepted == []


@pytest.mark.parametrize(("form", "status"), [(None, "404"), ("events", "400")])
async def test_a_backend_without_such_batches_gets_single_events(
    backend: Backend, form: Any, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend.simulator.form = form
    sink = backend.sink()
    with caplog.at_level(logging.WARNING):
        assert set((await send(sink, EVENTS)).values()) == {Delivered()}
        more = [event(strand, 2) for strand in range(10)]
        assert set((await send(sink, more)).values()) == {Delivered()}
    assert backend.simulator.accepted == [item.body for item in (*EVENTS, *more)]
    [record] = [record for record in caplog.records if record.msg == "sink.batch_refused"]
    assert status in vars(record)["fields"]["cause"]


@pytest.mark.parametrize(
    ("form", "batch", "ok", "words"),
    [
        ("array", True, True, "takes an empty batch"),
        ("events", {"form": "events"}, True, "takes an empty batch"),
        ("events", True, False, "batch: {form: events}"),
        ("array", {"form": "events"}, False, "batch: true"),
        (None, True, False, "remove batch"),
        ("array", False, True, "batch: true"),
        ("events", False, True, "batch: {form: events}"),
    ],
)
async def test_check_finds_the_endpoint_for_batches(
    backend: Backend, form: Any, batch: Any, ok: bool, words: str
) -> None:
    backend.simulator.form = form
    endpoint, batches = await backend.sink(batch).check()
    assert (endpoint.ok, batches.ok) == (True, ok)
    assert words in f"{batches.detail} {batches.remedy}"
    assert backend.simulator.accepted == []


async def test_check_says_nothing_of_batches_where_there_are_none(backend: Backend) -> None:
    backend.simulator.form = None
    [finding] = await backend.sink(batch=False).check()
    assert finding.ok
