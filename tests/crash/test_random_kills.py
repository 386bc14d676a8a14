"""SIGKILL at random moments, run families and a busy deployment: every sink gets each event, in the strand's order.

`RANDOM_KILLS_SEED` repeats the runs and the moments of a test run as far as the machine lets it, `RANDOM_KILLS` is how
often to kill.
"""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from simulators.cdf import Ending, Scenario
from simulators.demo import expected
from tests.crash.ledger_oracle import committed, out_of_order
from tests.deployment import Deployment

KILLS = int(os.environ.get("RANDOM_KILLS", "3"))
pytestmark = [pytest.mark.crash, pytest.mark.timeout(600 + 30 * KILLS)]

SEED = int(os.environ.get("RANDOM_KILLS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
GROUPS = ("complete", "quick", "failed_at_once", "partial", "validation_failed", "canceled", "canceled_queued")


def start_something(deployment: Deployment, rng: random.Random) -> None:
    jobs = [each.external_id for each in deployment.cdf.transformations.values()]

    def scenario() -> Scenario:
        return Scenario(rng.choice([0, 0.3, 1]), rng.choice([0, 0.5, 2]), rng.choice(list(Ending)))

    deployment.cdf.start_run(rng.choice(jobs), scenario())
    deployment.cdf.start_workflow("nightly", [(rng.choice(jobs), scenario()) for _ in range(2)])
    deployment.dataprep.start_run(rng.choice(GROUPS), pace=0.03)
    deployment.dataprep.workspace.run_flow(rng.choice(list(deployment.dataprep.workspace.flows)), pace=0.03)


async def play(deployment: Deployment, rng: random.Random) -> None:
    while True:
        start_something(deployment, rng)
        await asyncio.sleep(rng.uniform(1, 3))


async def one_life(deployment: Deployment, rng: random.Random) -> None:
    """From the start of a process to its kill."""
    kind = rng.choice(["starts", "works", "works", "stops"])
    begun = len(deployment.logged("service.started"))
    await deployment.start()
    while kind != "starts" and len(deployment.logged("service.started")) == begun:
        await asyncio.sleep(0.02)
    await asyncio.sleep(rng.uniform(0, 1.5))
    if kind == "stops":
        deployment.terminate()
        await asyncio.sleep(rng.uniform(0, 0.3))
    if deployment.runs or kind != "stops":  # it may have stopped in time
        deployment.send(signal.SIGKILL)
    assert await deployment.ended() in ({-signal.SIGKILL, 0} if kind == "stops" else {-signal.SIGKILL})


async def test_kills_at_random_moments(tmp_path: Path) -> None:
    print(f"RANDOM_KILLS_SEED={SEED} RANDOM_KILLS={KILLS}")
    rng = random.Random(SEED)
    async with Deployment(tmp_path, seed=SEED) as deployment:
        deployment.settings["sources"][0]["workflows"] = True
        deployment.settings["sources"][2]["stages"] = "runs"
        runs = asyncio.create_task(play(deployment, random.Random(SEED)))
        try:
            for _ in range(KILLS):
                await one_life(deployment, rng)
        finally:
            runs.cancel()
        await deployment.start()
        await deployment.settle()
        await deployment.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
        deployment.terminate()
        assert await deployment.ended() == 0
        places = committed(tmp_path / "lineage.db")
        lines = expected.read_lines(deployment.events)
        whole = [line for line in lines if line in places]
        torn = [line for line in lines if line not in places]
        assert all(any(body.startswith(line) for body in places) for line in torn)
        assert set(whole) == set(places)
        assert out_of_order(whole, places) == []
