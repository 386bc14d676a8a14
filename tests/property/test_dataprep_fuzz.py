"""The adapter against answers mutated at random: no crash, no wrong end, nothing passed over in silence."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest
from aiohttp import web

from collector.errors import SourceError, TriggerError
from collector.model import Observation, RunState
from collector.platforms.dataprep.definitions import kept
from collector.testing.clock import ServerClock, SimulatedClock
from collector.testing.poller import SimulatedPoller
from simulators.dataprep import DataprepSimulator, Level
from simulators.dataprep.workspace import Run as SimulatedRun
from simulators.server import Served
from tests.dataprep_rig import DataprepRig
from tests.mutations import Mutant, mutants

COUNT = 250
"""Examples of each kind; there are eleven."""
FIRST_ID = 4711
"""Run ids that no odd value is."""


class Mutating(DataprepSimulator):
    """Answers requests that match `path` with a mutant of its genuine answer."""

    path = "$."
    mutant: Mutant | None = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self.mutant is not None and re.search(self.path, f"{request.method} {request.path}"):
            return self.mutant.response()
        return await super()._serve(request)


@asynccontextmanager
async def mutating(level: Level) -> AsyncIterator[tuple[Mutating, DataprepRig]]:
    clock = SimulatedClock()
    simulator = Mutating(seed=3, now=clock.now, level=level)
    simulator.workspace._ids["run"] = count(FIRST_ID)
    async with Served(simulator) as served:
        rig = DataprepRig(simulator, served, clock, None, ServerClock(clock))  # type: ignore[arg-type]
        rig.poller = SimulatedPoller(rig.adapter(), clock)
        await rig.poller.cycle()
        try:
            yield simulator, rig
        finally:
            for client in rig.clients:
                await client.close()


async def cycle(poller: SimulatedPoller) -> SourceError | None:
    try:
        await poller.cycle()
    except SourceError as error:
        return error
    return None


async def known(rig: DataprepRig, run: SimulatedRun) -> SimulatedPoller:
    """The run as it is seen now, its details left aside."""
    poller = SimulatedPoller(rig.platform, rig.clock, cursor=rig.poller.cursor)
    poller.adopt(await rig.platform.watch(str(run.id), {}))
    return poller


async def at_level(rig: DataprepRig, level: Level) -> None:
    """As it was found before the mutants."""
    rig.platform._deployment._lacks.clear()
    if rig.platform._deployment.known_level != level.value:
        rig.platform._deployment.suspect()
        await rig.platform._deployment.level()


ENDS = {"stuck": None, "complete": RunState.SUCCEEDED, "failed": RunState.FAILED, "canceled": RunState.CANCELED}
READ = [
    (Level.L2, "GET /v4/jobLibrary$", ("jobLibrary",), "stuck"),
    (Level.L2, "GET /v4/jobLibrary$", ("jobLibrary",), "complete"),
    (Level.L1, "GET /v4/jobGroups$", ("jobGroups",), "failed"),
    (Level.L0, "GET .*/status$", ("jobGroups", str(FIRST_ID), "status"), "canceled"),
    (Level.L0, "GET .*/jobGroups/[0-9]+$", ("jobGroups", str(FIRST_ID)), "stuck"),
]


@pytest.mark.parametrize(
    ("level", "path", "where", "scenario"), READ, ids=[f"{row[0]} {row[1]} {row[3]}" for row in READ]
)
async def test_answers_about_runs(level: Level, path: str, where: tuple[str, ...], scenario: str) -> None:
    outcomes: Counter[str] = Counter()
    async with mutating(level) as (simulator, rig):
        run = simulator.start_run("stuck" if scenario == "stuck" else scenario)
        rig.clock.advance(30)
        assert (await known(rig, run)).runs[str(run.id)].state is not RunState.UNKNOWN
        before = await known(rig, run)
        if "status" not in where:
            [seen] = before.runs.values()
            before.runs = {seen.key: replace(seen, began_at=None, started_at=None, state=RunState.QUEUED)}
        rig.clock.advance(900)
        query = {"runBy": "all"} if where == ("jobLibrary",) else {}
        embed = {"embed": "jobs,wrangledDataset"} if where[0] == "jobGroups" and where[-1] != "status" else {}
        genuine = await rig.platform._api.get(*where, query={**query, **embed})
        for mutant in mutants(genuine, seed=len(path + scenario), count=COUNT):
            poller = SimulatedPoller(rig.platform, rig.clock, cursor=rig.poller.cursor, runs=dict(before.runs))
            await at_level(rig, level)
            simulator.path, simulator.mutant = path, mutant
            error = await cycle(poller)
            simulator.mutant = None
            seen = poller.runs[str(run.id)]
            assert not seen.state.terminal or seen.state is ENDS[scenario], mutant
            assert "planted" not in repr((poller.runs, poller.skips, poller.cursor, str(error))).lower(), mutant
            outcomes[type(error).__name__ if error else "skipped" if poller.skips else "read"] += 1
            assert len(poller.runs) < 5, mutant
    assert min(outcomes["BadAnswer"], outcomes["read"] + outcomes["skipped"]) > COUNT / 20


DETAILS = [
    ("GET .*/inputs$", ("jobGroups", str(FIRST_ID), "inputs")),
    ("GET .*/outputs$", ("jobGroups", str(FIRST_ID), "outputs")),
    ("GET /v4/outputObjects$", ("outputObjects",)),
    ("GET /v4/(wrangledDatasets|flows|flowRuns)/", ("flowRuns", "1")),
]


@pytest.mark.parametrize(("path", "where"), DETAILS, ids=[row[0] for row in DETAILS])
async def test_answers_about_what_is_behind_a_run(path: str, where: tuple[str, ...]) -> None:
    """Whatever comes back, an end is reported, or an error says why it cannot be reported yet."""
    async with mutating(Level.L2) as (simulator, rig):
        [run, *_] = simulator.workspace.run_flow(1)[1]
        rig.clock.advance(900)
        poller = await known(rig, run)
        genuine = await rig.platform._api.get(
            *where, query={"embed": "writeSettings,publications"} if len(where) == 1 else {}
        )
        for mutant in mutants(genuine, seed=len(path), count=COUNT):
            forget_all(rig)
            simulator.path, simulator.mutant = path, mutant
            try:
                seen = await rig.platform.watch(str(run.id), {})
                shown = repr((seen, await rig.platform.enrich(poller.runs[str(run.id)])))
                assert seen.state is RunState.SUCCEEDED
                assert seen.job.name.startswith("recipe/")
            except SourceError as error:
                shown = str(error)
            simulator.mutant = None
            assert "planted" not in shown.lower(), mutant


def forget_all(rig: DataprepRig) -> None:
    """As in a new process, without the cost of one."""
    definitions = rig.platform._definitions
    definitions.__init__(rig.platform._api, rig.platform._deployment, rig.clock.monotonic, rig.platform._unread_times)  # type: ignore[misc]
    rig.platform._deployment._lacks.clear()
    rig.platform._parts.flow_runs._known = kept(rig.clock.monotonic)


async def test_answers_to_a_start() -> None:
    async with mutating(Level.L2) as (simulator, rig):
        genuine = {
            "sessionId": "79276c31-c58c-4e79-ae5e-fed1a25ebca1",
            "reason": "JobStarted",
            "jobGraph": {"vertices": [21, 22], "edges": [{"source": 21, "target": 22}]},
            "id": FIRST_ID,
            "jobs": {"data": [{"id": 21}, {"id": 22}]},
        }
        simulator.start_run("stuck")
        for number, mutant in enumerate(mutants(genuine, seed=8, count=COUNT)):
            simulator.path, simulator.mutant = "POST /v4/jobGroups$", mutant
            outcome = await start(rig, f"t{number}")
            simulator.mutant = None
            if isinstance(outcome, Observation):
                assert outcome.key.isdigit()
                assert not outcome.state.terminal
            else:
                assert mutant.status >= 300 or outcome.doubtful, mutant


async def start(rig: DataprepRig, token: str) -> Observation | TriggerError:
    try:
        return await rig.platform.trigger("1", {}, token)
    except TriggerError as error:
        return error


async def test_documents_of_a_deployment() -> None:
    async with mutating(Level.L2) as (simulator, rig):
        genuine = await rig.platform._api.get("open-api-spec")
        for mutant in mutants(json.loads(json.dumps(genuine)), seed=9, count=COUNT):
            simulator.path, simulator.mutant = "open-api-spec", mutant
            for finding in await rig.platform.check():
                assert finding.ok or finding.remedy, mutant
