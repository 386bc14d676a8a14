"""SIGKILL at random moments, run families and a busy world: every sink gets each event, in the strand's order.

`RANDOM_KILLS_SEED` repeats the world and the moments of a test run as far as the machine lets it, `RANDOM_KILLS` is how
often to kill.
"""

import asyncio
import os
import random
import signal
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest

from simulators.cdf import Ending, Story
from simulators.demo import expected
from tests.deployment import Scene

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("RANDOM_KILLS", "3"))
SEED = int(os.environ.get("RANDOM_KILLS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
GROUPS = ("complete", "quick", "failed_at_once", "partial", "validation_failed", "canceled", "canceled_queued")


def start_something(scene: Scene, rng: random.Random) -> None:
    jobs = [each.external_id for each in scene.cdf.transformations.values()]

    def story() -> Story:
        return Story(rng.choice([0, 0.3, 1]), rng.choice([0, 0.5, 2]), rng.choice(list(Ending)))

    scene.cdf.start_run(rng.choice(jobs), story())
    scene.cdf.start_workflow("nightly", [(rng.choice(jobs), story()) for _ in range(2)])
    scene.dataprep.start_run(rng.choice(GROUPS), pace=0.03)
    scene.dataprep.workspace.run_flow(rng.choice(list(scene.dataprep.workspace.flows)), pace=0.03)


async def play(scene: Scene, rng: random.Random) -> None:
    while True:
        start_something(scene, rng)
        await asyncio.sleep(rng.uniform(1, 3))


async def one_life(scene: Scene, rng: random.Random) -> None:
    """From the start of a process to its kill."""
    kind = rng.choice(["starts", "works", "works", "stops"])
    begun = len(scene.told("service.started"))
    await scene.start()
    while kind != "starts" and len(scene.told("service.started")) == begun:
        await asyncio.sleep(0.02)
    await asyncio.sleep(rng.uniform(0, 1.5))
    if kind == "stops":
        scene.terminate()
        await asyncio.sleep(rng.uniform(0, 0.3))
    scene.send(signal.SIGKILL)
    assert await scene.ended() in {-signal.SIGKILL, 0}


def committed(ledger: Path) -> dict[bytes, tuple[int, int]]:
    """Strand and place of each event, by its bytes."""
    with closing(sqlite3.connect(ledger)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM lane").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM parked").fetchone() == (0,)
        return {
            body: (strand, seq) for body, strand, seq in connection.execute("SELECT body, strand_id, seq FROM event")
        }


def out_of_order(got: list[bytes], places: dict[bytes, tuple[int, int]]) -> list[str]:
    """What does not follow from what came before it: only the last one of a strand may come again."""
    last: defaultdict[int, int] = defaultdict(int)
    wrong = []
    for line in got:
        strand, seq = places[line]
        if seq not in {last[strand], last[strand] + 1}:
            wrong.append(f"event {seq} of strand {strand} after {last[strand]}: {line[:300]!r}")
        last[strand] = seq
    return wrong


async def test_kills_at_random_moments(tmp_path: Path) -> None:
    print(f"RANDOM_KILLS_SEED={SEED} RANDOM_KILLS={KILLS}")
    rng = random.Random(SEED)
    async with Scene(tmp_path, seed=SEED) as scene:
        scene.settings["sources"][0]["workflows"] = True
        scene.settings["sources"][2]["stages"] = "runs"
        world = asyncio.create_task(play(scene, random.Random(SEED)))
        try:
            for _ in range(KILLS):
                await one_life(scene, rng)
        finally:
            world.cancel()
        await scene.start()
        await scene.settle(120)
        await scene.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
        scene.terminate()
        assert await scene.ended() == 0
        places = committed(tmp_path / "lineage.db")
        lines = expected.read_lines(scene.events)
        whole = [line for line in lines if line in places]
        torn = [line for line in lines if line not in places]
        assert all(any(body.startswith(line) for body in places) for line in torn)
        assert set(whole) == set(places)
        assert out_of_order(whole, places) == []
