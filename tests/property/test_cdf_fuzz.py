"""The adapter against answers mutated at random: no crash, no wrong end, nothing passed over in silence."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from collector.clock import to_ms
from collector.errors import SourceError, Throttled, TriggerError
from collector.http import HttpClient, HttpOptions
from collector.model import Observation, RunState
from collector.platforms.base import Context
from collector.platforms.cdf import CdfPlatform, create
from collector.platforms.rate_limit import Pace
from collector.testing.clock import START, SimulatedClock
from collector.testing.poller import SimulatedPoller
from tests.cdf_rig import source
from tests.mutations import Mutant, mutants

COUNT = 300
"""Examples of each of the nine kinds."""
CREATED = to_ms(START) - 60_000
EXECUTION = "11111111-2222-4333-8444-555555555555"


def job(status: str = "Running") -> dict[str, Any]:
    return {
        "id": 4711,
        "uuid": "5f0f1e9e-6a3c-4d0e-9d67-1f2c8a0f3b11",
        "transformationId": 12,
        "transformationExternalId": "pumps",
        "sourceProject": "plant-a",
        "destinationProject": "plant-b",
        "destination": {"type": "nodes", "view": {"space": "s", "externalId": "Pump", "version": "v1"}},
        "conflictMode": "upsert",
        "query": "select 1",
        "createdTime": CREATED,
        "startedTime": CREATED + 1000,
        "lastSeenTime": CREATED + 2000,
        "finishedTime": CREATED + 3000 if status in {"Completed", "Failed"} else None,
        "ignoreNullFields": True,
        "status": status,
        "error": "boom" if status == "Failed" else None,
    }


DEFINITION = {
    "id": 12,
    "externalId": "pumps",
    "name": "Pumps",
    "owner": {"user": "planted-person"},
    "tags": ["sap"],
    "dataSetId": 5,
    "lastUpdatedTime": CREATED,
}
METRICS = {"items": [{"timestamp": CREATED, "name": "instances.upserted", "count": 5}]}
TASKS = {
    "id": EXECUTION,
    "workflowExternalId": "nightly",
    "version": "1",
    "status": "RUNNING",
    "createdTime": CREATED,
    "startTime": CREATED,
    "executedTasks": [{"taskType": "transformation", "status": "IN_PROGRESS", "output": {"jobId": 4711}}],
}
INSPECTED = {
    "subject": "collector",
    "projects": [{"projectUrlName": "plant-a", "groups": [1]}],
    "capabilities": [{"transformationsAcl": {"actions": ["READ"], "scope": {"all": {}}}, "projectScope": {}}],
}


class Server:
    """Answers what is put under a path's end, else genuinely."""

    def __init__(self) -> None:
        self.put: dict[str, Mutant] = {}
        self.status = "Running"

    def genuine(self, end: str) -> Any:
        return {
            "token": {"access_token": "t", "expires_in": 3600, "token_type": "Bearer"},
            "inspect": INSPECTED,
            "jobs": {"items": [job(self.status)], "nextCursor": None},
            "byids": {"items": [job(self.status)]},
            "definitions": {"items": [DEFINITION]},
            "transformations": {"items": [DEFINITION]},
            "metrics": METRICS,
            "run": job("Created"),
            "list": {"items": [TASKS]},
            EXECUTION: TASKS,
        }[end]

    async def answer(self, request: web.Request) -> web.Response:
        end = request.path.rpartition("/")[2]
        if request.path.endswith("/transformations/byids"):
            end = "definitions"
        mutant = self.put.get(end)
        return mutant.response() if mutant is not None else web.json_response(self.genuine(end))


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, SimulatedClock, CdfPlatform]]:
    server, clock = Server(), SimulatedClock()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    http = HttpClient(HttpOptions())
    config = source(f"http://127.0.0.1:{runner.addresses[0][1]}", workflows=True)
    try:
        yield server, clock, create(config, Context("plant", config.job_namespace, http, clock, lambda: 0.0))
    finally:
        await http.close()
        await runner.cleanup()


def fresh(platform: CdfPlatform, clock: SimulatedClock) -> SimulatedPoller:
    """As after a start with an empty ledger; the token and its grant are kept."""
    platform._definitions._known.clear()
    platform._definitions._hidden.clear()
    platform._definitions._rest_until = 0.0
    platform._workflows._watched.clear()
    platform._walks._ordered = True
    platform._api._pace = Pace(clock, None, 1)
    clock.advance(10)
    return SimulatedPoller(platform, clock)


async def cycle(poller: SimulatedPoller) -> SourceError | None:
    try:
        await poller.cycle()
    except SourceError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("status", "ends"),
    [("Running", None), ("Completed", RunState.SUCCEEDED), ("Failed", RunState.FAILED)],
)
async def test_answers_about_open_jobs(status: str, ends: RunState | None) -> None:
    outcomes: Counter[str] = Counter()
    async with serving() as (server, clock, platform):
        for mutant in mutants({"items": [job(status)]}, seed=len(status), count=COUNT):
            server.put, server.status = {}, "Running"
            poller = fresh(platform, clock)
            await poller.cycle()
            server.put = {"byids": mutant}
            error = await cycle(poller)
            outcomes[type(error).__name__ if error else "skipped" if poller.skips else "read"] += 1
            run = poller.runs["4711"]
            assert not run.state.terminal or run.state is ends, mutant
            assert str(run.run_id) == job()["uuid"]
            assert run.job.name == "transformation/pumps"
    assert set(outcomes) >= {"skipped", "read"}


async def test_answers_about_the_list() -> None:
    outcomes: Counter[str] = Counter()
    async with serving() as (server, clock, platform):
        genuine = {"items": [job("Completed"), job() | {"id": 4712}], "nextCursor": None}
        for mutant in mutants(genuine, seed=4, count=COUNT):
            server.put = {"jobs": mutant}
            poller = fresh(platform, clock)
            error = await cycle(poller)
            outcomes[type(error).__name__ if error else "skipped" if poller.skips else "read"] += 1
            known = {"4711": RunState.SUCCEEDED, "4712": None}
            for key, run in poller.runs.items():
                if not key.startswith("workflow/"):
                    assert not run.state.terminal or run.state is known.get(key, RunState.SUCCEEDED), mutant
            server.put = {}
            platform._api._pace = Pace(clock, None, 1)
            await poller.cycle()
            assert "4711" in poller.runs or "4711" in mutant.body.decode(errors="replace") or poller.cursor
    assert set(outcomes) >= {"skipped", "read"}


@pytest.mark.parametrize("end", ["definitions", "metrics", "list", EXECUTION])
async def test_answers_beside_the_jobs(end: str) -> None:
    """They may cost names, counts and parents, never the run."""
    async with serving() as (server, clock, platform):
        server.status = "Completed"
        for mutant in mutants(server.genuine(end), seed=len(end), count=COUNT):
            server.put = {end: mutant}
            poller = fresh(platform, clock)
            error = await cycle(poller)
            if (end == "metrics" and error is not None) or (isinstance(error, Throttled) and mutant.status == 429):
                continue
            assert error is None, mutant
            run = poller.runs["4711"]
            assert run.state is RunState.SUCCEEDED
            assert "planted-person" not in repr(poller.runs)
            assert all(dataset.rows is None or dataset.rows >= 0 for dataset in run.facts.outputs or ())


async def test_answers_about_tokens() -> None:
    async with serving() as (server, clock, platform):
        genuine = server.genuine("token")
        for mutant in mutants(genuine, seed=6, count=COUNT):
            server.put = {"token": mutant}
            platform._tokens._good_until, platform._tokens._failure = 0.0, None
            await cycle(fresh(platform, clock))
        server.put = {}
        platform._tokens._good_until, platform._tokens._failure = 0.0, None
        assert await cycle(fresh(platform, clock)) is None


async def test_answers_to_a_start() -> None:
    async with serving() as (server, _, platform):
        for mutant in mutants(job("Created"), seed=7, count=COUNT):
            server.put = {"run": mutant}
            outcome = await start(platform)
            if isinstance(outcome, TriggerError):
                assert outcome.doubtful or mutant.status != 200, mutant
            else:
                assert not outcome.state.terminal


async def start(platform: CdfPlatform) -> Observation | TriggerError:
    try:
        return await platform.trigger("pumps", {}, "t")
    except TriggerError as error:
        return error


@pytest.mark.parametrize("end", ["inspect", "jobs", "transformations", "list"])
async def test_answers_to_a_check(end: str) -> None:
    async with serving() as (server, _, platform):
        for mutant in mutants(server.genuine(end), seed=8, count=100):
            server.put = {end: mutant}
            for finding in await platform.check():
                assert finding.ok or finding.remedy
