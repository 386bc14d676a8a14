"""A Marquez that freezes: START times out, COMPLETE is answered, START is applied afterwards; the run still ends COMPLETED."""

import asyncio
from pathlib import Path

import pytest

from simulators.cdf import Scenario
from tests.deployment import CDF, PATIENCE, Deployment


async def state_of(deployment: Deployment, run_id: str, wanted: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while deployment.marquez_states().get(run_id) != wanted:
            await asyncio.sleep(0.05)


@pytest.mark.crash
async def test_a_start_that_is_applied_last_is_mended(tmp_path: Path) -> None:
    async with Deployment(tmp_path) as deployment:
        deployment.settings["sinks"][1]["timeout"] = "1s"
        await deployment.start()
        await deployment.until_ready()
        job = deployment.cdf.start_run(next(iter(deployment.cdf.transformations)), Scenario(None))

        def age() -> float:
            return (deployment.cdf.now_ms() - job.created) / 1000

        await state_of(deployment, job.uuid, "NEW")
        deployment.marquez.database.freeze()
        job.scenario = Scenario(began := age(), None)
        await deployment.until(lambda status: status["sinks"][1]["doubts"] == 1)
        assert deployment.marquez.database.hanging > 0
        await deployment.marquez.database.thaw(hold=True)
        job.scenario = Scenario(began, age() - began)
        await state_of(deployment, job.uuid, "COMPLETED")
        await deployment.marquez.database.release()
        await state_of(deployment, job.uuid, "RUNNING")
        await state_of(deployment, job.uuid, "COMPLETED")
        await deployment.until(lambda status: status["sinks"][1]["doubts"] == 0)
        deployment.terminate()
        assert await deployment.ended() == 0
        assert [run["state"] for run in deployment.expected_runs()[CDF]] == ["succeeded"]
        assert deployment.faults() == []
