"""The Marquez sink's decisions, and how it bears a Marquez that stops, freezes, loses answers and dies."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web

from collector.clock import Clock
from collector.http import HttpClient, HttpOptions
from collector.model import EventKind, Outgoing
from collector.testing.clock import SimulatedClock
from collector.testing.faults import Fault, FaultKind
from collector.testing.sinks import drive, event, send
from exporters.sinks.base import Delivered, Outcome, Park, Retry
from exporters.sinks.http import Answer
from exporters.sinks.marquez.event import Event, read
from exporters.sinks.marquez.sink import (
    KNOWN_RUNS,
    LOOK_AGAIN,
    PARKED_AFTER,
    PARKED_AFTER_500S,
    ErrorCounts,
    EventErrors,
    MarquezSink,
    exists_already,
    verdict,
    verdict_on_500,
)
from simulators.marquez import MarquezSimulator
from simulators.server import Served
from tests.contract.http_recorder import recorder
from tests.contract.marquez_client import END, START, Marquez, dataset, facet, new_run

SECRET = "a-key-that-nobody-may-see"


def answer(status: int | None, body: bytes = b"", **given: Any) -> Answer:
    return Answer("POST http://marquez/api/v1/lineage", status, body=body, **given)


HTML = b"<html>\n<head>\n<title>Error 500 Internal Server Error</title></head><body>lines</body></html>"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(201), Delivered),
        (answer(400, b"<html></html>"), Park),
        (answer(413), Park),
        (answer(414), Park),
        (answer(415), Park),
        (answer(422, b'{"errors":["job.name must not be null"]}'), Park),
        (answer(500, b'{"code":400,"message":"Unexpected end-of-input"}'), Park),
        (answer(500, b'{"code":500,"message":"PSQLException"}'), type(None)),
        (answer(500, HTML), type(None)),
        (answer(500), type(None)),
        (answer(401), Retry),
        (answer(403), Retry),
        (answer(404), Retry),
        (answer(405), Retry),
        (answer(429), Retry),
        (answer(501), Retry),
        (answer(200, b"<html>Sign in</html>"), Retry),
        (answer(204), Retry),
        (answer(299), Retry),
        (answer(302), Retry),
    ],
)
def test_what_an_answer_means(given: Answer, expected: type) -> None:
    assert isinstance(verdict(given), expected)


@pytest.mark.parametrize(
    ("given", "unanswered", "slow"),
    [
        (answer(None), True, False),
        (answer(None, sent=False), False, False),
        (answer(502), True, False),
        (answer(503), False, False),
        (answer(504), True, False),
        (answer(401), False, True),
        (answer(404), False, True),
        (answer(200), False, True),
    ],
)
def test_which_retries_leave_a_doubt_and_which_wait_for_people(given: Answer, unanswered: bool, slow: bool) -> None:
    outcome = verdict(given)
    assert isinstance(outcome, Retry)
    assert (outcome.unanswered, outcome.slow) == (unanswered, slow)


def test_patience_that_was_asked_for_is_passed_on() -> None:
    outcome = verdict(answer(429, headers={"Retry-After": "17"}))
    assert isinstance(outcome, Retry)
    assert outcome.after == timedelta(seconds=17)


def test_a_cause_says_what_was_tried_and_what_a_page_had_to_say() -> None:
    cause = verdict_on_500(answer(500, HTML), EventErrors(1, 0.0), healthy=True).cause  # type: ignore[union-attr]
    assert cause == "POST http://marquez/api/v1/lineage answered 500: Error 500 Internal Server Error"


def test_only_a_500_that_lasts_while_marquez_is_well_is_the_events_fault() -> None:
    long = PARKED_AFTER.total_seconds()
    gone = verdict_on_500(answer(500, HTML), EventErrors(100, 10 * long), healthy=False)
    assert isinstance(gone, Retry)
    assert gone.sink_wide
    for errors in (
        EventErrors(1, 0.0),
        EventErrors(PARKED_AFTER_500S, long - 1),
        EventErrors(PARKED_AFTER_500S - 1, 2 * long),
    ):
        outcome = verdict_on_500(answer(500, HTML), errors, healthy=True)
        assert isinstance(outcome, Retry)
        assert not outcome.sink_wide
    assert isinstance(verdict_on_500(answer(500, HTML), EventErrors(PARKED_AFTER_500S, long), healthy=True), Park)


def test_stumbles_are_counted_by_event_and_forgotten() -> None:
    clock = SimulatedClock()
    log = ErrorCounts(clock)
    first, other = event(1, 1), event(2, 1)
    assert log.add(first) == EventErrors(1, 0.0)
    clock.advance(9)
    assert log.add(first) == EventErrors(2, 9.0)
    assert log.add(other) == EventErrors(1, 0.0)
    log.forget(first)
    assert log.add(first) == EventErrors(1, 0.0)


def test_memory_of_stumbles_is_bounded() -> None:
    log = ErrorCounts(SimulatedClock())
    for strand in range(KNOWN_RUNS + 5):
        log.add(event(strand, 1))
    assert log.add(event(0, 1)).count == 1
    assert log.add(event(KNOWN_RUNS, 1)).count == 2


def test_a_run_that_exists_is_recognised_by_words_not_by_409() -> None:
    assert exists_already(
        answer(400, b"{\"code\":400,\"message\":\"Run '1' already exists for 'a' under namespace 'b'.\"}")
    )
    assert not exists_already(answer(400, b"<html>already exists</html>"))
    assert not exists_already(answer(409, b'{"message":"already exists"}'))


def body(**changes: Any) -> bytes:
    made: dict[str, Any] = {
        "eventType": "COMPLETE",
        "eventTime": END,
        "run": {"runId": new_run(), "facets": {}},
        "job": {"namespace": "cdf://host:8443/p", "name": "transformation/1", "facets": {}},
        "inputs": [],
        "outputs": [],
        **changes,
    }
    return json.dumps(made).encode()


def job(namespace: str = "cdf://host/p", name: str = "transformation/1") -> dict[str, Any]:
    return {"namespace": namespace, "name": name}


def aliased(namespace: str, name: str) -> dict[str, Any]:
    return dataset("cdf://host/p", "t", symlinks=facet(identifiers=[{**job(namespace, name), "type": "TABLE"}]))


def child(namespace: str, name: str) -> dict[str, Any]:
    return {"runId": new_run(), "facets": {"parent": {"run": {"runId": "1"}, "job": job(namespace, name)}}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"job": job("")}, "empty"),
        ({"job": job("x" * 1025)}, "too long"),
        *(({"job": job(f"a{odd}b")}, "rewrite") for odd in " ,%?#({=;é\n\t"),
        ({"job": job(name="")}, "blank"),
        ({"job": job(name=" \t")}, "blank"),
        ({"job": job(name="x" * 1025)}, "too long"),
        ({"run": child("a b", "flow")}, "parent job"),
        ({"run": child("cdf://host/p", "")}, "parent job"),
        ({"inputs": [dataset("kafka://a,kafka://b", "topic")]}, "dataset"),
        ({"outputs": [dataset("a=b", "t")]}, "dataset"),
        ({"outputs": [dataset("cdf://host/p", " ")]}, "dataset"),
        ({"outputs": [aliased("a b", "t")]}, "symlink"),
        ({"outputs": [aliased("cdf://host/p", "")]}, "symlink"),
        ({"outputs": [dataset("cdf://host/p", "t", dataSource=facet(name="", uri="https://a"))]}, "data source"),
        ({"job": {**job(), "facets": {"documentation": {"description": "a\0b"}}}}, "NUL"),
    ],
)
def test_poison_never_leaves(given: dict[str, Any], words: str) -> None:
    fault = read(body(**given))
    assert isinstance(fault, str)
    assert words in fault


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"job": job("arn:aws:glue:eu-west-1:123")},
        {"job": job(name="a/b:c d%e#f;é")},
        {"job": job(name="x" * 1024)},
        {"job": job("x" * 1024)},
        {"run": child("cdf://host/p", "flow")},
        {"outputs": [aliased("bigquery", "p.d.t")]},
        {"outputs": [dataset("bigquery", "p.d.t", dataSource=facet(name="s", uri="https://a"))]},
        {"inputs": None, "outputs": None},
        {"job": {**job(), "facets": {"sql": {"query": "select '\\u0000', \"\\\\u0000\""}}}},
    ],
)
def test_what_marquez_can_bear_is_read(given: dict[str, Any]) -> None:
    assert isinstance(read(body(**given)), Event)


def test_a_run_with_a_parent_is_a_child() -> None:
    for run, is_child in ((child("cdf://host/p", "flow"), True), ({"runId": "1"}, False)):
        found = read(body(run=run))
        assert isinstance(found, Event)
        assert found.child is is_child


def test_what_a_run_is_made_of() -> None:
    facets = {
        "nominalTime": {"nominalStartTime": START},
        "executionParameters": {"parameters": [{"key": "a", "value": 1}, {"key": "b"}]},
    }
    found = read(body(run={"runId": "1", "facets": facets}))
    assert isinstance(found, Event)
    assert (found.nominal, found.args, found.child) == ((START, None), {"a": "1", "b": ""}, False)


class Hand(SimulatedClock):
    def __call__(self) -> Any:
        return self.now()


@dataclass
class Deployment:
    marquez: Marquez
    simulator: MarquezSimulator
    clock: Hand
    sink: MarquezSink

    def outgoing(self, kind: str, run: str, job: str = "transformation/1", at: str = START, **given: Any) -> Outgoing:
        made = event(int(run[:6], 16), 0)
        body = json.dumps(self.marquez.event(kind, run, job, at, **given)).encode()
        return Outgoing(
            strand_id=made.strand_id,
            seq=0,
            run_number=made.run_number,
            run_id=run,
            source_id=1,
            kind=EventKind(kind),
            body=body,
            attempts=0,
            committed_at=0,
            happened_at=0,
        )

    async def one(self, item: Outgoing) -> Outcome:
        [outcome] = (await send(self.sink, [item])).values()
        return outcome

    async def retried(self, item: Outgoing) -> Retry:
        outcome = await self.one(item)
        assert isinstance(outcome, Retry), outcome
        return outcome


def make_sink(url: str, clock: Clock | None = None, *, seconds: float = 5) -> MarquezSink:
    return MarquezSink(
        url,
        HttpClient(HttpOptions(timeout=seconds)),
        clock or SimulatedClock(),
        runs_api=True,
        lineage_api=True,
        concurrency=4,
        timeout=timedelta(seconds=seconds),
        key=lambda: SECRET,
    )


@pytest.fixture
async def deployment() -> AsyncIterator[Deployment]:
    clock = Hand()
    simulator = MarquezSimulator(now=clock)
    simulator.database.luck = 0.0
    simulator.database.spread = simulator.database.connect_timeout = 0.01
    async with Served(simulator) as served, httpx.AsyncClient(timeout=10, verify=False) as asking:
        sink = make_sink(served.url, clock, seconds=1.5)
        yield Deployment(Marquez(served.url, asking), simulator, clock, sink)
        await sink.close(1)


def plan(deployment: Deployment, kind: FaultKind, path: str = "POST /api/v1/lineage", **given: Any) -> None:
    deployment.simulator.faults.plan(Fault(kind, path=path, **given))


async def test_an_outage_is_nobodys_fault(deployment: Deployment) -> None:
    run = new_run()
    start, end = deployment.outgoing("START", run), deployment.outgoing("COMPLETE", run, at=END)
    assert await deployment.one(start) == Delivered()
    deployment.simulator.database.stop()
    for _ in range(3 * PARKED_AFTER_500S):
        outcome = await deployment.retried(end)
        assert (outcome.sink_wide, outcome.unanswered) == (True, False)
        assert "not healthy" in outcome.cause
        deployment.clock.advance(60)
    await deployment.simulator.database.start()
    assert isinstance(await deployment.one(end), Retry)
    deployment.clock.advance(21)
    assert await deployment.one(end) == Delivered()


async def test_dead_connections_after_an_outage_park_nothing(deployment: Deployment) -> None:
    deployment.simulator.database.luck = 0.5
    deployment.simulator.database.stop()
    await deployment.simulator.database.start()
    items = [deployment.outgoing("START", new_run(), f"job/{number}") for number in range(4)]
    for _ in range(19):
        for outcome in (await send(deployment.sink, items)).values():
            assert not isinstance(outcome, Park)
        deployment.clock.advance(1)


async def test_an_event_that_is_always_a_500_is_parked_in_the_end(deployment: Deployment) -> None:
    outputs = [dataset(deployment.marquez.namespace, "o", dataSource=facet(name="s", uri="http://[bad"))]
    bad = deployment.outgoing("START", new_run(), outputs=outputs)
    tries = 0
    while isinstance(outcome := await deployment.one(bad), Retry):
        assert not outcome.sink_wide
        tries += 1
        deployment.clock.advance(10)
    assert isinstance(outcome, Park)
    assert tries == 6
    assert "while Marquez is healthy" in outcome.cause


async def test_an_outage_between_two_500s_begins_the_count_anew(deployment: Deployment) -> None:
    outputs = [dataset(deployment.marquez.namespace, "o", dataSource=facet(name="s", uri="http://[bad"))]
    bad = deployment.outgoing("START", new_run(), outputs=outputs)
    for _ in range(PARKED_AFTER_500S - 1):
        assert isinstance(await deployment.one(bad), Retry)
    deployment.clock.advance(100)
    deployment.simulator.database.stop()
    assert isinstance(await deployment.one(bad), Retry)
    await deployment.simulator.database.start()
    deployment.clock.advance(30)
    assert isinstance(await deployment.one(bad), Retry)


async def test_an_event_that_was_parked_and_is_sent_again_is_counted_anew(deployment: Deployment) -> None:
    outputs = [dataset(deployment.marquez.namespace, "o", dataSource=facet(name="s", uri="http://[bad"))]
    bad = deployment.outgoing("START", new_run(), outputs=outputs)
    while isinstance(await deployment.one(bad), Retry):
        deployment.clock.advance(20)
    assert isinstance(await deployment.one(bad), Retry)


async def test_poison_is_parked_without_a_request(deployment: Deployment) -> None:
    outcome = await deployment.one(deployment.outgoing("START", new_run(), namespace="a b"))
    assert isinstance(outcome, Park)
    assert "not sent" in outcome.cause
    assert deployment.simulator.tables.events == []
    assert len(deployment.simulator.tables.namespaces) == 1


async def test_a_frozen_marquez_leaves_a_doubt_that_a_look_resolves(deployment: Deployment) -> None:
    run = new_run()
    start, end = deployment.outgoing("START", run), deployment.outgoing("COMPLETE", run, at=END)
    assert await deployment.one(deployment.outgoing("OTHER", run)) == Delivered()
    deployment.simulator.database.freeze()
    assert (await deployment.retried(start)).unanswered
    await deployment.simulator.database.thaw(hold=True)
    assert await deployment.one(start) == Delivered()
    assert await deployment.one(end) == Delivered()
    await deployment.simulator.database.release()
    while (await deployment.marquez.run(run))["state"] != "RUNNING":
        await asyncio.sleep(0.005)
    again = await deployment.sink.recheck(end)
    assert isinstance(again, Retry)
    assert (again.after, again.sink_wide) == (LOOK_AGAIN, False), (
        "it is no failure of the sink, and looked at again soon"
    )
    assert await deployment.sink.recheck(end) == Delivered()
    found = await deployment.marquez.run(run)
    assert [found[key] for key in ("state", "startedAt", "endedAt")] == ["COMPLETED", START, END]


async def test_a_look_at_a_marquez_that_does_not_answer_keeps_the_doubt(deployment: Deployment) -> None:
    run = new_run()
    end = deployment.outgoing("COMPLETE", run, at=END)
    assert await deployment.one(end) == Delivered()
    for trouble in (deployment.simulator.database.stop, deployment.simulator.database.freeze):
        trouble()
        assert isinstance(await deployment.sink.recheck(end), Retry)
    assert len(deployment.simulator.tables.events) == 1


async def test_a_creation_without_an_answer_is_a_doubt_too(deployment: Deployment) -> None:
    plan(deployment, FaultKind.LOST, "POST /api/v1/namespaces/.*/runs")
    queued = deployment.outgoing("OTHER", new_run())
    assert (await deployment.retried(queued)).unanswered
    assert await deployment.one(queued) == Delivered()


@pytest.mark.parametrize("kind", [FaultKind.LOST, FaultKind.RESET])
async def test_a_lost_answer_is_unanswered_and_sent_again(deployment: Deployment, kind: FaultKind) -> None:
    run = new_run()
    plan(deployment, kind)
    start = deployment.outgoing("START", run)
    assert (await deployment.retried(start)).unanswered
    assert await deployment.one(start) == Delivered()
    assert (await deployment.marquez.run(run))["state"] == "RUNNING"


async def test_killed_in_the_middle_of_a_complete(deployment: Deployment) -> None:
    run = new_run()
    outputs = [dataset(deployment.marquez.namespace, "out", "a")]
    end = deployment.outgoing("COMPLETE", run, at=END, outputs=outputs)
    assert await deployment.one(deployment.outgoing("START", run)) == Delivered()
    deployment.simulator.database.kill_during = "COMPLETE"
    assert (await deployment.retried(end)).unanswered
    await deployment.simulator.database.restart()
    assert await deployment.one(end) == Delivered()
    assert (await deployment.marquez.run(run))["outputDatasetVersions"] != []


async def test_a_clash_of_two_first_events_is_over_at_the_next_try(deployment: Deployment) -> None:
    deployment.simulator.database.clash_chance = 1.0
    outputs = [dataset(deployment.marquez.namespace, "new", "a")]
    items = [deployment.outgoing("COMPLETE", new_run(), f"job/{number}", END, outputs=outputs) for number in range(4)]
    driven = await drive(deployment.sink, items)
    assert (len(driven.delivered), driven.parked) == (4, {})


@pytest.mark.parametrize("status", [401, 403])
async def test_wrong_credentials_wait_for_a_person_and_stay_secret(deployment: Deployment, status: int) -> None:
    plan(deployment, FaultKind.STATUS, ".", times=-1, status=status)
    outcome = await deployment.retried(deployment.outgoing("START", new_run()))
    assert outcome.slow
    assert SECRET not in outcome.cause
    [finding] = await deployment.sink.check()
    assert not finding.ok
    assert "API key" in str(finding.remedy)


async def test_the_key_goes_along_with_every_request_and_the_event_as_it_is() -> None:
    async def accepted(request: web.Request, body: bytes) -> web.Response:
        return web.Response(status=201)

    item = event(1, 1)
    async with recorder(accepted) as requests:
        sink = make_sink(requests.url)
        assert await send(sink, [item]) == {(1, 1): Delivered()}
        await sink.close(1)
    assert len(requests.requests) == 2
    assert {headers["Authorization"] for headers in requests.headers} == {f"Bearer {SECRET}"}
    assert requests.accepted == [item.body]


@pytest.mark.parametrize(("status", "unanswered"), [(502, True), (503, False), (504, True)])
async def test_a_gateways_page(deployment: Deployment, status: int, unanswered: bool) -> None:
    plan(deployment, FaultKind.HTML, status=status)
    outcome = await deployment.retried(deployment.outgoing("START", new_run()))
    assert outcome.unanswered is unanswered
    assert "Bad Gateway" in outcome.cause
    assert "<" not in outcome.cause


async def test_outcomes_come_as_they_are_known(deployment: Deployment) -> None:
    plan(deployment, FaultKind.SLOW, delay=60)
    items = [deployment.outgoing("COMPLETE", new_run(), f"job/{number}", END) for number in range(4)]
    outcomes = deployment.sink.send(items)
    assert [(await anext(outcomes))[1] for _ in range(3)] == [Delivered()] * 3
    await outcomes.aclose()  # type: ignore[attr-defined] # the port says iterator, sinks are generators


async def test_a_run_that_cannot_be_created_is_still_started(deployment: Deployment) -> None:
    plan(
        deployment,
        FaultKind.STATUS,
        "POST /api/v1/namespaces",
        times=-1,
        status=400,
        body={"code": 400, "message": "no"},
    )
    run = new_run()
    queued = await deployment.one(deployment.outgoing("OTHER", run))
    assert isinstance(queued, Park)
    assert await deployment.one(deployment.outgoing("START", run)) == Delivered()
    assert (await deployment.marquez.run(run))["state"] == "RUNNING"


@pytest.mark.parametrize(
    ("kinds", "facets", "calls"),
    [
        (["START", "START"], {}, ["runs", "lineage", "runs", "lineage"]),
        (["START"], child("cdf://host/p", "flow"), ["lineage"]),
        (["COMPLETE"], {}, ["lineage"]),
    ],
    ids=["a START that comes again: Marquez has lost the run", "a child is made by its event", "an end makes none"],
)
async def test_what_makes_a_run(kinds: list[str], facets: dict[str, Any], calls: list[str]) -> None:
    requests = list[str]()

    async def answering(request: web.Request, body: bytes) -> web.Response:
        requests.append(request.path.rpartition("/")[2])
        return web.json_response({}, status=201)

    async with recorder(answering) as served:
        sink = make_sink(served.url)
        try:
            for kind in kinds:
                given = event(1, 0)
                body = json.loads(given.body)
                body |= {"eventType": kind, "run": body["run"] | facets}
                await send(sink, [given._replace(kind=EventKind(kind), body=json.dumps(body).encode())])
        finally:
            await sink.close(1)
    assert requests == calls


async def test_a_run_that_marquez_no_longer_has_is_created_again() -> None:
    """Its database was set back. Over the runs API alone, a state of a run that is not there is a 404."""
    lost, requests = False, list[str]()

    async def answering(request: web.Request, body: bytes) -> web.Response:
        nonlocal lost
        requests.append(f"{request.method} {request.path.rpartition('/')[2]}")
        if request.path.endswith("/complete") and not lost:
            lost = True
            return web.json_response({"code": 404, "message": "Run not found."}, status=404)
        return web.json_response({}, status=201 if request.path.endswith("/runs") else 200)

    async with recorder(answering) as served:
        sink = MarquezSink(
            served.url,
            HttpClient(HttpOptions()),
            SimulatedClock(),
            runs_api=True,
            lineage_api=False,
            concurrency=4,
            timeout=timedelta(seconds=5),
        )
        try:
            assert set((await send(sink, [event(1, 0)])).values()) == {Delivered()}
            end = event(1, 1)._replace(kind=EventKind.COMPLETE)
            assert set((await send(sink, [end])).values()) == {Delivered()}
        finally:
            await sink.close(1)
    assert requests == ["POST runs", "POST start", "POST complete", "POST runs", "POST complete"]


async def test_no_event_takes_longer_than_the_longest_attempt(deployment: Deployment) -> None:
    deployment.sink.longest_attempt = timedelta(seconds=0.05)
    deployment.simulator.database.freeze()
    outcome = await deployment.retried(deployment.outgoing("COMPLETE", new_run()))
    assert outcome.unanswered
    assert "took longer" in outcome.cause


async def test_no_look_takes_longer_than_the_longest_attempt(deployment: Deployment) -> None:
    end = deployment.outgoing("COMPLETE", new_run(), at=END)
    assert await deployment.one(end) == Delivered()
    deployment.sink.longest_attempt = timedelta(seconds=0.05)
    deployment.simulator.database.freeze()
    outcome = await deployment.sink.recheck(end)
    assert isinstance(outcome, Retry)
    assert "took longer" in outcome.cause


async def test_created_runs_are_remembered_but_not_for_ever(deployment: Deployment) -> None:
    await deployment.marquez.make_job()
    first = deployment.outgoing("OTHER", new_run())
    assert await deployment.one(first) == Delivered()
    for number in range(KNOWN_RUNS):
        deployment.sink._created[str(number)] = None
    assert await deployment.one(deployment.outgoing("OTHER", new_run())) == Delivered()
    assert len(deployment.sink._created) == KNOWN_RUNS
    assert await deployment.one(first) == Delivered()


async def test_check_distinguishes_an_outage_from_something_else(deployment: Deployment) -> None:
    [finding] = await deployment.sink.check()
    assert finding.ok
    deployment.simulator.database.stop()
    [finding] = await deployment.sink.check()
    assert "database" in str(finding.remedy)
    await deployment.simulator.database.start()
    deployment.clock.advance(30)
    plan(deployment, FaultKind.HTML, "namespaces/default", status=200)
    [finding] = await deployment.sink.check()
    assert not finding.ok
    assert "url" in str(finding.remedy)
