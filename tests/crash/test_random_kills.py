"""SIGKILL at random moments, run families and a busy deployment: a file, Kafka and Marquez get each event, in the strand's order.

`RANDOM_KILLS_SEED` repeats the runs and the moments of a test run as far as the machine lets it, `RANDOM_KILLS` is how
often to kill.
"""

import asyncio
import os
import random
import signal
from pathlib import Path
from uuid import uuid4

import pytest

from simulators.cdf import Ending, Scenario
from simulators.demo import expected
from tests.crash.ledger_oracle import committed, out_of_order
from tests.deployment import PATIENCE, Deployment
from tests.servers.kafka import Kafka

KILLS = int(os.environ.get("RANDOM_KILLS", "100"))
BLOCK = 25
"""Kills of one deployment: its platforms answer slower with each run that they remember."""
pytestmark = [pytest.mark.crash, pytest.mark.timeout(600 + 30 * BLOCK)]

SEED = int(os.environ.get("RANDOM_KILLS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
GROUPS = ("complete", "quick", "failed_at_once", "partial", "validation_failed", "canceled", "canceled_queued")


def start_something(deployment: Deployment, rng: random.Random) -> None:
    jobs = [each.external_id for each in deployment.cdf.transformations.values()]

    def scenario() -> Scenario:
        return Scenario(rng.choice([0, 0.3, 1]), rng.choice([0, 0.5, 2]), rng.choice(list(Ending)))

    deployment.cdf.start_run(rng.choice(jobs), scenario())
    deployment.cdf.start_workflow("nightly", [(rng.choice(jobs), scenario()) for _ in range(2)])
    deployment.dataprep.start_run(rng.choice(GROUPS), pace=0.03)
    if rng.random() < 0.3:  # some dozen runs
        deployment.dataprep.workspace.run_flow(rng.choice(list(deployment.dataprep.workspace.flows)), pace=0.03)


async def play(deployment: Deployment, rng: random.Random) -> None:
    while True:
        start_something(deployment, rng)
        await asyncio.sleep(rng.uniform(1, 3))


async def one_life(deployment: Deployment, rng: random.Random) -> None:
    """From the start of a process to its kill."""
    kind = rng.choice(["starts", "works", "works", "stops"])
    start_something(deployment, rng)
    await deployment.start()
    while kind != "starts" and not deployment.has_started():
        await asyncio.sleep(0.02)
    if rng.random() < 0.5:
        await asyncio.sleep(rng.uniform(0, 0.3))
        start_something(deployment, rng)
    await asyncio.sleep(rng.uniform(0, 0.6))
    if kind == "stops":
        deployment.terminate()
        await asyncio.sleep(rng.uniform(0, 0.3))
    if deployment.runs or kind != "stops":  # it may have stopped in time
        deployment.send(signal.SIGKILL)
    assert await deployment.ended() in ({-signal.SIGKILL, 0} if kind == "stops" else {-signal.SIGKILL})


@pytest.mark.parametrize("first", range(0, KILLS, BLOCK))
async def test_kills_at_random_moments(tmp_path: Path, kafka: Kafka, first: int) -> None:
    kills, seed = min(BLOCK, KILLS - first), SEED + first
    print(f"RANDOM_KILLS_SEED={seed} RANDOM_KILLS={kills}")
    rng = random.Random(seed)
    topic = await kafka.create_topic(f"random-kills-{uuid4()}", partitions=3)
    async with Deployment(tmp_path, seed=seed, kafka=(kafka.bootstrap, topic)) as deployment:
        deployment.settings["sources"][0]["workflows"] = True
        deployment.settings["sources"][2]["stages"] = "runs"
        for _ in range(kills):
            await one_life(deployment, rng)
        await deployment.start()
        await deployment.settle(patience=PATIENCE * 3)
        await deployment.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
        deployment.terminate()
        assert await deployment.ended() == 0
        places = committed(tmp_path / "lineage.db")
        lines = expected.read_lines(deployment.events)
        torn = [line for line in lines if line not in places]
        assert all(any(body.startswith(line) for body in places) for line in torn)
        records = [record.value for record in await kafka.read(topic)]
        for got in ([line for line in lines if line in places], records):
            assert set(got) == set(places)
            assert out_of_order(got, places) == []
        print(f"{kills} kills, {len(places)} events, in the file {len(lines)} times, in Kafka {len(records)} times")
