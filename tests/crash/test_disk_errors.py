"""A disk that is full or breaks under the real process: it says so, pauses, loses nothing, and goes on when the disk does.

`DISK_ERRORS` is how many rounds of errors at random there are, `DISK_ERRORS_SEED` repeats them as far as the machine lets it.
"""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from simulators.cdf import Ending, Scenario
from simulators.demo import expected
from tests.crash import libfiu
from tests.crash.ledger_oracle import committed, out_of_order
from tests.crash.libfiu import Failure, FaultyDisk
from tests.deployment import CDF, Deployment

ROUNDS = int(os.environ.get("DISK_ERRORS", "4"))
SEED = int(os.environ.get("DISK_ERRORS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
pytestmark = [pytest.mark.crash, pytest.mark.timeout(600 + 60 * ROUNDS)]

FULL, BROKEN = "no space left on its disk; nothing was committed", "disk I/O error; nothing was committed"
CERTAIN = {
    libfiu.FULL_ON_WRITE: FULL,
    libfiu.BROKEN_ON_WRITE: BROKEN,
    libfiu.FULL_ON_SYNC: BROKEN,  # SQLite does not say which error a sync brought
    libfiu.BROKEN_ON_SYNC: BROKEN,
}
"""What the process says of each."""
RANDOM = (*CERTAIN, libfiu.BROKEN_ON_CUT, libfiu.SHORT_WRITE)


def start_runs(deployment: Deployment, rng: random.Random) -> set[str]:
    """The keys of three that end soon."""
    jobs = rng.sample(list(deployment.cdf.transformations), 3)
    before = {str(run["key"]) for run in deployment.cdf.expected_runs()}
    for job in jobs:
        deployment.cdf.start_run(job, Scenario(rng.choice([0, 0.2]), rng.choice([0.1, 0.4]), rng.choice(list(Ending))))
    return {str(run["key"]) for run in deployment.cdf.expected_runs()} - before


def arrived(deployment: Deployment) -> set[str]:
    return {key for source, key in expected.events_by_run(deployment.lines()) if source == CDF}


def recoveries(deployment: Deployment) -> int:
    """How often a source went on, after it had waited for the ledger or by its next poll."""
    return len(deployment.logged("poll.ledger_recovered") + deployment.logged("poll.recovered"))


async def check_pause(deployment: Deployment, disk: FaultyDisk, failure: Failure, words: str) -> None:
    """From the first failing call until all that happened meanwhile has arrived, in one life of the process."""
    await deployment.until(lambda status: all(row["wrong"] is None for row in status["sources"]))
    recovered = recoveries(deployment)
    await disk.fail(deployment.pid, failure)
    keys = start_runs(deployment, random.Random(recovered))
    while deployment.unfinished():
        await asyncio.sleep(0.05)
    status = await deployment.until(lambda status: words in str([row["wrong"] for row in status["sources"]]))
    assert status["running"]
    await deployment.until(lambda _: words in str(deployment.logged("poll.failed")))
    assert arrived(deployment) & keys == set(), "nothing is sent that is not on the disk"
    await disk.heal(deployment.pid, failure)
    await deployment.settle()
    await deployment.until(lambda _: recoveries(deployment) > recovered)


async def finish(deployment: Deployment) -> None:
    """All arrives, and what the file sink has is what the ledger has, in order."""
    await deployment.settle()
    await deployment.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
    deployment.terminate()
    assert await deployment.ended() == 0
    places = committed(deployment.folder / "lineage.db")
    whole = [line for line in expected.read_lines(deployment.events) if line in places]
    assert set(whole) == set(places)
    assert out_of_order(whole, places) == []


async def test_a_disk_that_takes_nothing_is_a_pause(tmp_path: Path) -> None:
    disk = FaultyDisk(tmp_path)
    async with Deployment(tmp_path) as deployment:
        await deployment.start(**disk.environment())
        await deployment.until_ready()
        for failure, words in CERTAIN.items():
            await check_pause(deployment, disk, failure, words)
        await finish(deployment)
        assert deployment.logged("ledger.set_aside") == []


async def test_errors_of_the_disk_at_random_and_kills_lose_nothing(tmp_path: Path) -> None:
    print(f"DISK_ERRORS_SEED={SEED} DISK_ERRORS={ROUNDS}")
    rng = random.Random(SEED)
    disk = FaultyDisk(tmp_path)
    async with Deployment(tmp_path, seed=SEED) as deployment:
        await deployment.start(**disk.environment())
        for number in range(ROUNDS):
            await deployment.until_ready()
            start_runs(deployment, rng)
            failures = {failure.name: failure for failure in rng.sample(RANDOM, rng.choice([1, 2, 3]))}.values()
            for failure in failures:
                await disk.fail(deployment.pid, failure, rng.choice([0.05, 0.3, 0.9]))
            start_runs(deployment, rng)
            await asyncio.sleep(rng.uniform(0.5, 2))
            if number % 3 == 1:
                deployment.send(signal.SIGKILL)
                assert await deployment.ended() == -signal.SIGKILL
                await deployment.start(**disk.environment())
                continue
            for failure in failures:
                await disk.heal(deployment.pid, failure)
            await deployment.settle()
        await finish(deployment)
        assert deployment.logged("ledger.set_aside") == []


async def test_a_start_on_a_full_disk_says_so_and_harms_nothing(tmp_path: Path) -> None:
    disk = FaultyDisk(tmp_path)
    async with Deployment(tmp_path) as deployment:
        await deployment.start(**disk.environment(libfiu.FULL_ON_WRITE))
        assert await deployment.ended() == 1
        assert "lineage.db.lock, the lock file of the ledger: No space left on device" in deployment.tail()
        assert "Traceback" not in deployment.tail()
        await deployment.start()
        await deployment.until_ready()
