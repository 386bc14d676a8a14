"""SIGKILL at each named point, restart: nothing lost, order kept, in the file, Kafka and Marquez."""

import signal
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from collector.faultpoints import Point
from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Ending, Scenario
from simulators.demo import expected
from simulators.wetransform import Plan
from tests.deployment import DATAPREP, WETRANSFORM, Deployment
from tests.servers.kafka import Kafka

pytestmark = pytest.mark.crash


def start_runs(deployment: Deployment) -> None:
    """A handful of each platform that can list its runs, quick ones and slower ones."""
    jobs = list(deployment.cdf.transformations)
    for number, ending in enumerate((Ending.COMPLETED, Ending.FAILED, Ending.CANCELLED, Ending.NEVER_STARTED)):
        deployment.cdf.start_run(jobs[number], Scenario(0.2, 0.3 * number, ending))
        deployment.cdf.start_run(jobs[number], Scenario(0.5, 1.5, ending))
    for scenario in ("quick", "failed_at_once", "validation_failed", "complete"):
        deployment.dataprep.start_run(scenario, pace=0.05)


@pytest.mark.parametrize("point", [point for point in Point if point is not Point.DURING_PARK])
@pytest.mark.parametrize("passes", [1, 4])
async def test_a_kill_loses_nothing_and_keeps_the_order(
    tmp_path: Path, kafka: Kafka, point: Point, passes: int
) -> None:
    topic = await kafka.create_topic(f"kills-{uuid4()}", partitions=3)
    async with Deployment(tmp_path, kafka=(kafka.bootstrap, topic)) as deployment:
        start_runs(deployment)
        await deployment.start(LINEAGE_COLLECTOR_KILL_AT=f"{point.value}:{passes}")
        assert await deployment.ended() == -signal.SIGKILL
        await deployment.start()
        await deployment.settle()
        await deployment.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
        deployment.terminate()
        assert await deployment.ended() == 0
        events = expected.events_by_run(record.value for record in await kafka.read(topic))
        assert expected.faults(events, deployment.expected_runs()) == []


async def test_a_kill_while_an_event_is_parked_parks_it_again_and_goes_on(tmp_path: Path) -> None:
    async with Deployment(tmp_path) as deployment:
        refused = Fault(FaultKind.STATUS, "POST /api/v1/lineage", times=-1, status=422, body={"errors": ["no"]})
        deployment.marquez.faults.plan(refused)
        deployment.cdf.start_run(next(iter(deployment.cdf.transformations)), Scenario(0.1, 0.1))
        await deployment.start(LINEAGE_COLLECTOR_KILL_AT=Point.DURING_PARK.value)
        assert await deployment.ended() == -signal.SIGKILL
        await deployment.start()
        await deployment.until_parked(2)
        deployment.terminate()
        assert await deployment.ended() == 0


async def test_a_watched_run_survives_a_kill(tmp_path: Path) -> None:
    async with Deployment(tmp_path) as deployment:
        await deployment.start()
        await deployment.until_ready()
        run = deployment.wetransform.start(
            deployment.wetransform.transformations[0], Plan(duration=timedelta(seconds=4))
        )
        code, _, err = await deployment.command("watch", WETRANSFORM, run.key)
        assert code == 0, err
        deployment.send(signal.SIGKILL)
        assert await deployment.ended() == -signal.SIGKILL
        await deployment.start()
        await deployment.settle()
        assert DATAPREP in deployment.expected_runs()
