"""What arrives at a Marquez through its sink: the simulator's, or that of the real server at `MARQUEZ_URL`."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from collector.model import EventKind, Outgoing
from collector.testing.sinks import send
from exporters.sinks.base import Delivered, Outcome, Park, Retry, Sink
from tests.contract.http_recorder import HttpRecorder, forwarding
from tests.contract.marquez_client import END, LATE, START, Marquez, dataset, facet, marquez_url, new_run
from tests.contract.sink_targets import make

QUEUED = "2026-03-01T09:59:00Z"


@dataclass
class MarquezTarget:
    """`marquez` asks the server itself, `recorder` kept what the sink asked."""

    marquez: Marquez
    recorder: HttpRecorder

    def sink(self, **settings: Any) -> Sink:
        from exporters.sinks.marquez.sink import create

        return make(create, type="marquez", url=self.recorder.url, **settings)

    def outgoing(self, kind: str, run: str, job: str = "transformation/1", at: str = START, **given: Any) -> Outgoing:
        body = json.dumps(self.marquez.event(kind, run, job, at, **given)).encode()
        number = int(run[:6], 16)
        return Outgoing(
            strand_id=number,
            seq=0,
            run_number=number,
            run_id=run,
            source_id=1,
            kind=EventKind(kind),
            body=body,
            attempts=0,
            committed_at=0,
            happened_at=0,
        )


@pytest.fixture
async def target() -> AsyncIterator[MarquezTarget]:
    async with marquez_url() as url, forwarding(url) as recorder, httpx.AsyncClient(timeout=60, verify=False) as http:
        yield MarquezTarget(Marquez(url, http), recorder)


@pytest.fixture
async def sink(target: MarquezTarget) -> AsyncIterator[Sink]:
    made = target.sink()
    yield made
    await made.close(5)


async def one(sink: Sink, item: Outgoing) -> Outcome:
    [outcome] = (await send(sink, [item])).values()
    return outcome


async def deliver(sink: Sink, *items: Outgoing) -> None:
    for item in items:
        assert await one(sink, item) == Delivered()


def parameters(**values: str) -> dict[str, Any]:
    rows = [{"key": key, "value": value} for key, value in values.items()]
    return {"executionParameters": facet(parameters=rows), "nominalTime": facet(nominalStartTime=QUEUED)}


async def test_the_life_of_a_run(target: MarquezTarget, sink: Sink) -> None:
    run = new_run()
    facets = parameters(day="monday")
    await deliver(sink, target.outgoing("OTHER", run, at=QUEUED, run_facets=facets))
    queued = await target.marquez.run(run)
    assert (queued["state"], queued["args"], queued["nominalStartTime"]) == ("NEW", {"day": "monday"}, QUEUED)
    assert queued["startedAt"] is None
    outputs = [dataset(target.marquez.namespace, "out", "a")]
    await deliver(
        sink,
        target.outgoing("START", run, run_facets=facets),
        target.outgoing("COMPLETE", run, at=END, run_facets=facets, outputs=outputs),
    )
    ended = await target.marquez.run(run)
    assert [ended[key] for key in ("state", "startedAt", "endedAt")] == ["COMPLETED", START, END]
    assert (ended["args"], ended["nominalStartTime"]) == ({"day": "monday"}, QUEUED)
    assert ended["outputDatasetVersions"][0]["datasetVersionId"]["name"] == "out"
    assert (await target.marquez.get(target.marquez.at_job()))["latestRun"]["id"] == run
    assert len(target.recorder.accepted) == 2


@pytest.mark.parametrize(("kind", "state"), [("COMPLETE", "COMPLETED"), ("FAIL", "FAILED"), ("ABORT", "ABORTED")])
async def test_a_run_that_was_never_seen_queued_is_created_before_its_start(
    target: MarquezTarget, sink: Sink, kind: str, state: str
) -> None:
    run = new_run()
    facets = parameters(day="monday")
    await deliver(sink, target.outgoing("START", run, run_facets=facets), target.outgoing(kind, run, at=END))
    found = await target.marquez.run(run)
    assert [found[key] for key in ("state", "startedAt", "endedAt")] == [state, START, END]
    assert found["args"] == {"day": "monday"}


async def test_a_start_that_comes_again_creates_the_run_again(target: MarquezTarget, sink: Sink) -> None:
    """Marquez has lost the run then, and its START alone would leave out args and nominal times."""
    start = target.outgoing("START", new_run())
    await deliver(sink, start)
    asked = target.recorder.count("POST")
    await deliver(sink, start)
    assert target.recorder.count("POST") == asked + 2


async def test_namespace_and_job_are_made_once_and_only_where_they_are_missing(
    target: MarquezTarget, sink: Sink
) -> None:
    await deliver(sink, target.outgoing("START", new_run()))
    assert target.recorder.count("PUT") == 2
    await deliver(sink, target.outgoing("START", new_run()), target.outgoing("START", new_run()))
    assert target.recorder.count("PUT") == 2
    await deliver(sink, target.outgoing("START", new_run(), "transformation/2"))
    assert target.recorder.count("PUT") == 3


async def test_a_namespace_keeps_its_owner(target: MarquezTarget, sink: Sink) -> None:
    await target.marquez.make_job("transformation/other")
    await deliver(sink, target.outgoing("START", new_run()))
    namespace = await target.marquez.get(target.marquez.at_job().rpartition("/jobs/")[0])
    assert namespace["ownerName"] == "tests"


async def test_a_job_in_making_is_made_once(target: MarquezTarget, sink: Sink) -> None:
    items = [target.outgoing("START", new_run()) for _ in range(4)]
    assert set((await send(sink, items)).values()) == {Delivered()}
    assert target.recorder.count("PUT") == 2
    assert (await target.marquez.get(f"{target.marquez.at_job()}/runs"))["totalCount"] == 4


async def test_a_run_that_is_created_already_is_no_trouble(target: MarquezTarget, sink: Sink) -> None:
    run = new_run()
    await target.marquez.posted(target.marquez.event("START", run))
    await deliver(
        sink, target.outgoing("OTHER", run), target.outgoing("START", run), target.outgoing("FAIL", run, at=END)
    )
    assert (await target.marquez.run(run))["state"] == "FAILED"


async def test_everything_again_after_a_crash_changes_nothing(target: MarquezTarget, sink: Sink) -> None:
    run = new_run()
    life = [target.outgoing(kind, run, at=at) for kind, at in (("OTHER", QUEUED), ("START", START), ("COMPLETE", END))]
    await deliver(sink, *life)
    once = await target.marquez.run(run)
    again = target.sink()
    await deliver(again, *life)
    await again.close(5)
    assert await target.marquez.run(run) == once


@pytest.mark.parametrize(
    "name", ["a/b", "a:b c", "100%", "a%2Fb", "a#b?c&d+e;f", 'a"b\\c{d}', "é 日本", "..", "x" * 1000]
)
async def test_every_job_name_goes_through_as_one_job(target: MarquezTarget, sink: Sink, name: str) -> None:
    run = new_run()
    await deliver(sink, target.outgoing("OTHER", run, name), target.outgoing("START", run, name))
    await deliver(sink, target.outgoing("COMPLETE", run, name, at=END))
    runs = await target.marquez.get(f"{target.marquez.at_job(name)}/runs")
    assert [(row["id"], row["state"]) for row in runs["runs"]] == [(run, "COMPLETED")]
    assert len((await target.marquez.get(f"{target.marquez.at_job(name).rpartition('/')[0]}"))["jobs"]) == 1


async def test_a_child_is_left_to_its_events(target: MarquezTarget, sink: Sink) -> None:
    parent, child = new_run(), new_run()
    link = facet(run={"runId": parent}, job={"namespace": target.marquez.namespace, "name": "flow"})
    await deliver(sink, target.outgoing("START", parent, "flow"))
    before = target.recorder.count("POST /api/v1/namespaces")
    for kind, at in (("OTHER", QUEUED), ("START", START), ("COMPLETE", END)):
        await deliver(sink, target.outgoing(kind, child, "flow.step", at, run_facets={"parent": link}))
    await deliver(sink, target.outgoing("COMPLETE", parent, "flow", END))
    assert target.recorder.count("POST /api/v1/namespaces") == before
    runs = await target.marquez.get(f"{target.marquez.at_job('flow.step')}/runs")
    assert [(row["id"], row["state"]) for row in runs["runs"]] == [(child, "COMPLETED")]
    assert (await target.marquez.get(target.marquez.at_job("flow.step")))["parentJobName"] == "flow"


async def test_without_the_lineage_api_the_states_go_by_calls(target: MarquezTarget) -> None:
    sink = target.sink(lineage_api=False)
    run = new_run()
    facets = {"documentation": facet(description="what it does")}
    for kind, at in (("OTHER", QUEUED), ("START", START), ("RUNNING", LATE), ("ABORT", LATE)):
        await deliver(sink, target.outgoing(kind, run, at=at, job_facets=facets))
    found = await target.marquez.run(run)
    assert [found[key] for key in ("state", "startedAt", "endedAt")] == ["ABORTED", START, LATE]
    assert (await target.marquez.get(target.marquez.at_job()))["description"] == "what it does"
    assert target.recorder.count("POST /api/v1/lineage") == 0
    await sink.close(5)


async def test_a_state_of_a_run_that_is_not_there_makes_it_first(target: MarquezTarget) -> None:
    sink = target.sink(lineage_api=False)
    run = new_run()
    link = facet(run={"runId": new_run()}, job={"namespace": target.marquez.namespace, "name": "flow"})
    await deliver(sink, target.outgoing("COMPLETE", run, "flow.step", END, run_facets={"parent": link}))
    assert (await target.marquez.run(run))["state"] == "COMPLETED"
    await sink.close(5)


async def test_without_the_runs_api_there_are_only_events(target: MarquezTarget) -> None:
    sink = target.sink(runs_api=False)
    run = new_run()
    assert EventKind.OTHER not in sink.wants
    await deliver(
        sink, target.outgoing("OTHER", run), target.outgoing("START", run), target.outgoing("FAIL", run, at=END)
    )
    assert target.recorder.requests == ["POST /api/v1/lineage"] * 2
    assert (await target.marquez.run(run))["startedAt"] == START
    await sink.close(5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"job_facets": {"jobType": facet(processingType="BATCH", integration="CDF")}}, "jobType must not be null"),
        ({"at": "soon"}, "could not be parsed"),
    ],
)
async def test_what_is_wrong_with_an_event_parks_it_with_marquezs_words(
    target: MarquezTarget, sink: Sink, given: dict[str, Any], words: str
) -> None:
    outcome = await one(sink, target.outgoing("COMPLETE", new_run(), **given))
    assert isinstance(outcome, Park)
    assert words in outcome.cause
    assert "POST" in outcome.cause


async def test_a_doubt_about_a_run_that_ended_right_is_settled_by_a_look(target: MarquezTarget, sink: Sink) -> None:
    run = new_run()
    end = target.outgoing("COMPLETE", run, at=END)
    await deliver(sink, target.outgoing("START", run), end)
    before = len(target.recorder.accepted)
    assert await sink.recheck(end) == Delivered()
    assert len(target.recorder.accepted) == before


async def test_a_start_that_came_last_is_mended(target: MarquezTarget, sink: Sink) -> None:
    run = new_run()
    end = target.outgoing("FAIL", run, at=END)
    await deliver(sink, target.outgoing("START", run), end)
    await target.marquez.posted(target.marquez.event("START", run))
    assert (await target.marquez.run(run))["state"] == "RUNNING"
    outcome = await sink.recheck(end)
    assert isinstance(outcome, Retry)
    assert not outcome.sink_wide
    assert await sink.recheck(end) == Delivered()
    found = await target.marquez.run(run)
    assert [found[key] for key in ("state", "startedAt", "endedAt")] == ["FAILED", START, END]


async def test_a_doubt_about_a_run_that_marquez_lost_brings_its_end_again(target: MarquezTarget, sink: Sink) -> None:
    run = new_run()
    end = target.outgoing("ABORT", run, at=END)
    assert isinstance(await sink.recheck(end), Retry)
    assert await sink.recheck(end) == Delivered()
    assert (await target.marquez.run(run))["state"] == "ABORTED"


async def test_runs_side_by_side_end_as_they_said(target: MarquezTarget, sink: Sink) -> None:
    runs = [new_run() for _ in range(8)]
    for kind, at in (("OTHER", QUEUED), ("START", START), ("COMPLETE", END)):
        items = [target.outgoing(kind, run, f"transformation/{number % 3}", at) for number, run in enumerate(runs)]
        assert set((await send(sink, items)).values()) == {Delivered()}
    states = await asyncio.gather(*(target.marquez.run(run) for run in runs))
    assert {state["state"] for state in states} == {"COMPLETED"}


async def test_check_finds_a_marquez(target: MarquezTarget, sink: Sink) -> None:
    [finding] = await sink.check()
    assert finding.ok
