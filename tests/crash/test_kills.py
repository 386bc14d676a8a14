"""SIGKILL at each named point, restart: nothing lost, order kept, in the file, Kafka and Marquez."""

import signal
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from collector.faultpoints import Point
from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Ending, Story
from simulators.demo import expected
from simulators.wetransform import Plan
from tests.deployment import DATAPREP, WETRANSFORM, Scene
from tests.servers.kafka import Kafka

pytestmark = pytest.mark.crash


def start_runs(scene: Scene) -> None:
    """A handful of each platform that can list its runs, quick ones and slower ones."""
    jobs = list(scene.cdf.transformations)
    for number, ending in enumerate((Ending.COMPLETED, Ending.FAILED, Ending.CANCELLED, Ending.NEVER_STARTED)):
        scene.cdf.start_run(jobs[number], Story(0.2, 0.3 * number, ending))
        scene.cdf.start_run(jobs[number], Story(0.5, 1.5, ending))
    for story in ("quick", "failed_at_once", "validation_failed", "complete"):
        scene.dataprep.start_run(story, pace=0.05)


@pytest.mark.parametrize("point", [point for point in Point if point is not Point.DURING_PARK])
@pytest.mark.parametrize("passes", [1, 4])
async def test_a_kill_loses_nothing_and_keeps_the_order(
    tmp_path: Path, kafka: Kafka, point: Point, passes: int
) -> None:
    topic = await kafka.create_topic(f"kills-{uuid4()}", partitions=3)
    async with Scene(tmp_path, kafka=(kafka.bootstrap, topic)) as scene:
        start_runs(scene)
        await scene.start(LINEAGE_COLLECTOR_KILL_AT=f"{point.value}:{passes}")
        assert await scene.ended() == -signal.SIGKILL
        await scene.start()
        await scene.settle()
        await scene.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
        scene.terminate()
        assert await scene.ended() == 0
        told = expected.stories(record.value for record in await kafka.read(topic))
        assert expected.faults(told, scene.truth()) == []


async def test_a_kill_while_an_event_is_parked_parks_it_again_and_goes_on(tmp_path: Path) -> None:
    async with Scene(tmp_path) as scene:
        refused = Fault(FaultKind.STATUS, "POST /api/v1/lineage", times=-1, status=422, body={"errors": ["no"]})
        scene.marquez.faults.plan(refused)
        scene.cdf.start_run(next(iter(scene.cdf.transformations)), Story(0.1, 0.1))
        await scene.start(LINEAGE_COLLECTOR_KILL_AT=Point.DURING_PARK.value)
        assert await scene.ended() == -signal.SIGKILL
        await scene.start()
        await scene.until_parked(2)
        scene.terminate()
        assert await scene.ended() == 0


async def test_a_watched_run_survives_a_kill(tmp_path: Path) -> None:
    async with Scene(tmp_path) as scene:
        await scene.start()
        await scene.until_ready()
        run = scene.wetransform.start(scene.wetransform.transformations[0], Plan(duration=timedelta(seconds=4)))
        code, _, err = await scene.command("watch", WETRANSFORM, run.key)
        assert code == 0, err
        scene.send(signal.SIGKILL)
        assert await scene.ended() == -signal.SIGKILL
        await scene.start()
        await scene.settle()
        assert DATAPREP in scene.truth()
