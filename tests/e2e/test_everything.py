"""Three simulators, 300 runs of all kinds, all sinks at once: what arrived equals the simulators' runs."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from simulators.cdf import Ending, Scenario
from simulators.demo import expected
from simulators.wetransform import Plan
from simulators.wetransform import Scenario as Walk
from tests.deployment import WETRANSFORM, Deployment
from tests.servers.kafka import Kafka

_ENDINGS = (Ending.COMPLETED, Ending.FAILED, Ending.CANCELLED, Ending.NEVER_STARTED)
_WALKS = (Walk.STRAIGHT, Walk.INSTANT, Walk.REVIEW, Walk.FAILING, Walk.BACKWARDS, Walk.UNKNOWN_STEP, Walk.NULL_STEP)
_GROUPS = ("complete", "quick", "failed", "partial", "canceled", "validation_failed", "canceled_queued", "undefined")


def start_cdf(deployment: Deployment, count: int) -> None:
    jobs = list(deployment.cdf.transformations)
    for number in range(count):
        scenario = Scenario(
            0.1 + number % 7 * 0.3, number % 11 * 0.4, _ENDINGS[number % 4], finished_early=0.2 * (number % 3)
        )
        deployment.cdf.start_run(jobs[number % len(jobs)], scenario)


def start_dataprep(deployment: Deployment, count: int) -> None:
    for number in range(count):
        deployment.dataprep.start_run(_GROUPS[number % len(_GROUPS)], pace=0.02)


async def start_wetransform(deployment: Deployment, count: int) -> None:
    """Under watch one by one, as a person would who started them."""
    transformations = deployment.wetransform.transformations
    for number in range(count):
        plan = Plan(_WALKS[number % len(_WALKS)], timedelta(seconds=1 + number % 5))
        run = deployment.wetransform.start(transformations[number % len(transformations)], plan)
        answer = await deployment.ask(f"source:{WETRANSFORM}", "watch", {"key": run.key, "options": {}})
        assert answer["state"] == "done", answer


@pytest.mark.kafka
async def test_every_runs_scenario_arrives_everywhere(tmp_path: Path, kafka: Kafka) -> None:
    topic = await kafka.create_topic(f"e2e-{uuid4()}", partitions=3)
    async with Deployment(tmp_path, kafka=(kafka.bootstrap, topic)) as deployment:
        start_cdf(deployment, 120)
        start_dataprep(deployment, 100)
        await deployment.start()
        await deployment.until_ready()
        await start_wetransform(deployment, 80)
        await deployment.settle(150)
        await deployment.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
        deployment.terminate()
        assert await deployment.ended() == 0
        assert sum(len(runs) for runs in deployment.expected_runs().values()) == 300
        in_file = expected.read_lines(deployment.events)
        records = await kafka.read(topic)
        events = expected.events_by_run(record.value for record in records)
        assert expected.faults(events, deployment.expected_runs(), deployment.marquez_states()) == []
        assert Counter(in_file) == Counter(record.value for record in records), "the same bytes, each once"


async def test_an_outage_of_a_sink_holds_up_no_other(tmp_path: Path) -> None:
    async with Deployment(tmp_path) as deployment:
        deployment.marquez.database.stop()
        start_cdf(deployment, 12)
        await deployment.start()
        while deployment.unfinished() or expected.faults(
            expected.events_by_run(expected.read_lines(deployment.events)), deployment.expected_runs()
        ):
            await asyncio.sleep(0.2)
        status = await deployment.until(lambda status: status["sinks"][1]["pending"] > 0)
        assert status["sinks"][1]["wrong"]
        deployment.marquez.database.recovery = timedelta(seconds=2)
        await deployment.marquez.database.start()
        await deployment.settle()
        deployment.terminate()
        assert await deployment.ended() == 0
