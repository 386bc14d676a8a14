"""Workflows, flow runs and stages through the whole program: in order in every sink, and one job each in Marquez."""

import asyncio
from collections import defaultdict
from pathlib import Path
from urllib.parse import quote

import aiohttp
import orjson

from simulators.cdf import Ending, Scenario
from simulators.demo import expected
from tests import openlineage
from tests.deployment import Deployment

STATES = {"COMPLETE": "COMPLETED", "FAIL": "FAILED", "ABORT": "ABORTED"}


async def all_delivered(deployment: Deployment, patience: float = 120) -> list[bytes]:
    """The events in the file, once all runs in it have ended."""
    async with asyncio.timeout(patience):
        while not (lines := expected.read_lines(deployment.events)) or openlineage.all_faults(lines):
            await asyncio.sleep(0.3)
    return lines


async def test_families_arrive_in_order_and_are_one_job_each_in_marquez(tmp_path: Path) -> None:
    async with Deployment(tmp_path) as deployment:
        deployment.settings["sources"][0]["workflows"] = True
        deployment.settings["sources"][2]["stages"] = "runs"
        await deployment.start()
        await deployment.until_ready()
        jobs = [job.external_id for job in deployment.cdf.transformations.values()]
        deployment.cdf.start_workflow(
            "nightly", [(jobs[0], Scenario(0.3, 1.5)), (jobs[1], Scenario(0.5, 3, Ending.FAILED))]
        )
        deployment.dataprep.workspace.run_flow(1, pace=0.05)
        deployment.dataprep.start_run("complete", pace=0.05)
        await deployment.settle()
        lines = await all_delivered(deployment)
        await deployment.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
        named: defaultdict[str, set[str]] = defaultdict(set)
        ends: dict[str, str] = {}
        for event in map(orjson.loads, lines):
            named[event["job"]["namespace"]].add(event["job"]["name"])
            ends[event["run"]["runId"]] = STATES.get(event["eventType"], "RUNNING")
        generations = {name.count(".") for name in named[next(ns for ns in named if ns.startswith("dataprep"))]}
        assert generations >= {0, 1, 2}, "flow, recipe and stage"
        assert "workflow/nightly" in {name for names in named.values() for name in names}
        async with aiohttp.ClientSession() as session:
            for namespace, names in named.items():
                url = f"{deployment.urls['marquez']}/api/v1/namespaces/{quote(namespace, safe='')}/jobs?limit=1000"
                async with session.get(url) as answer:
                    known = {job["name"] for job in (await answer.json())["jobs"]}
                assert known == names
        assert {run: deployment.marquez_states()[run] for run in ends} == ends
        deployment.terminate()
        assert await deployment.ended() == 0
