"""A Marquez that freezes: START times out, COMPLETE is answered, START is applied afterwards; the run still ends COMPLETED."""

import asyncio
from pathlib import Path

import pytest

from simulators.cdf import Story
from tests.deployment import CDF, Scene


async def state_of(scene: Scene, run_id: str, wanted: str) -> None:
    async with asyncio.timeout(45):
        while scene.marquez_states().get(run_id) != wanted:
            await asyncio.sleep(0.05)


@pytest.mark.crash
async def test_a_start_that_is_applied_last_is_mended(tmp_path: Path) -> None:
    async with Scene(tmp_path) as scene:
        scene.settings["sinks"][1]["timeout"] = "1s"
        await scene.start()
        await scene.until_ready()
        job = scene.cdf.start_run(next(iter(scene.cdf.transformations)), Story(3.0, 4.0))
        await state_of(scene, job.uuid, "NEW")
        scene.marquez.database.freeze()
        await scene.until(lambda status: status["sinks"][1]["doubts"] == 1)
        assert scene.marquez.database.hanging > 0
        await scene.marquez.database.thaw(hold=True)
        await state_of(scene, job.uuid, "COMPLETED")
        await scene.marquez.database.release()
        await state_of(scene, job.uuid, "RUNNING")
        await state_of(scene, job.uuid, "COMPLETED")
        await scene.until(lambda status: status["sinks"][1]["doubts"] == 0)
        scene.terminate()
        assert await scene.ended() == 0
        assert [run["state"] for run in scene.truth()[CDF]] == ["succeeded"]
        assert scene.faults() == []
