"""Three simulators, 300 runs of all kinds, all sinks at once: what arrived equals the simulators' truth."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from simulators.cdf import Ending, Story
from simulators.demo import expected
from simulators.wetransform import Plan
from simulators.wetransform import Story as Walk
from tests.deployment import WETRANSFORM, Scene
from tests.servers.kafka import Kafka

_ENDINGS = (Ending.COMPLETED, Ending.FAILED, Ending.CANCELLED, Ending.NEVER_STARTED)
_WALKS = (Walk.STRAIGHT, Walk.INSTANT, Walk.REVIEW, Walk.FAILING, Walk.BACKWARDS, Walk.UNKNOWN_STEP, Walk.NULL_STEP)
_GROUPS = ("complete", "quick", "failed", "partial", "canceled", "validation_failed", "canceled_queued", "undefined")


def start_cdf(scene: Scene, count: int) -> None:
    jobs = list(scene.cdf.transformations)
    for number in range(count):
        story = Story(
            0.1 + number % 7 * 0.3, number % 11 * 0.4, _ENDINGS[number % 4], finished_early=0.2 * (number % 3)
        )
        scene.cdf.start_run(jobs[number % len(jobs)], story)


def start_dataprep(scene: Scene, count: int) -> None:
    for number in range(count):
        scene.dataprep.start_run(_GROUPS[number % len(_GROUPS)], pace=0.02)


async def start_wetransform(scene: Scene, count: int) -> None:
    """Under watch one by one, as a person would who started them."""
    transformations = scene.wetransform.transformations
    for number in range(count):
        plan = Plan(_WALKS[number % len(_WALKS)], timedelta(seconds=1 + number % 5))
        run = scene.wetransform.start(transformations[number % len(transformations)], plan)
        told = await scene.ask(f"source:{WETRANSFORM}", "watch", {"key": run.key, "options": {}})
        assert told["state"] == "done", told


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_every_runs_story_arrives_everywhere(tmp_path: Path, kafka: Kafka) -> None:
    topic = await kafka.create_topic(f"e2e-{uuid4()}", partitions=3)
    async with Scene(tmp_path, kafka=(kafka.bootstrap, topic)) as scene:
        start_cdf(scene, 120)
        start_dataprep(scene, 100)
        await scene.start()
        await scene.until_ready()
        await start_wetransform(scene, 80)
        await scene.settle(150)
        await scene.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
        scene.terminate()
        assert await scene.ended() == 0
        assert sum(len(runs) for runs in scene.truth().values()) == 300
        in_file = expected.read_lines(scene.events)
        records = await kafka.read(topic)
        told = expected.stories(record.value for record in records)
        assert expected.faults(told, scene.truth(), scene.marquez_states()) == []
        assert Counter(in_file) == Counter(record.value for record in records), "the same bytes, each once"


async def test_an_outage_of_a_sink_holds_up_no_other(tmp_path: Path) -> None:
    async with Scene(tmp_path) as scene:
        scene.marquez.database.stop()
        start_cdf(scene, 12)
        await scene.start()
        while scene.unfinished() or expected.faults(expected.stories(expected.read_lines(scene.events)), scene.truth()):
            await asyncio.sleep(0.2)
        status = await scene.until(lambda status: status["sinks"][1]["pending"] > 0)
        assert status["sinks"][1]["wrong"]
        scene.marquez.database.recovery = timedelta(seconds=2)
        await scene.marquez.database.start()
        await scene.settle()
        scene.terminate()
        assert await scene.ended() == 0
