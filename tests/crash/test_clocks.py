"""The clock of the machine is set by hours, back and forth, and runs fast or slow under the real process, by libfaketime.

`CLOCK_JUMPS` is how many times, `CLOCK_JUMPS_SEED` repeats them.
"""

import asyncio
import os
import random
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from simulators.cdf import Ending, Scenario
from simulators.demo import expected
from tests.crash.test_random_kills import GROUPS
from tests.deployment import CDF, DATAPREP, Deployment
from tests.servers.processes import unavailable

JUMPS = int(os.environ.get("CLOCK_JUMPS", "4"))
SEED = int(os.environ.get("CLOCK_JUMPS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
pytestmark = [pytest.mark.crash, pytest.mark.timeout(600 + 60 * JUMPS)]

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
CLOCKS = ("+3h", "-5h", "+26h", "-30h", "+1h x1.2", "-2h x0.7", "+0", "+59m", "-70s")
"""As libfaketime names them: how far ahead, and how fast."""
KINDS = {"succeeded": "COMPLETE", "failed": "FAIL", "canceled": "ABORT"}
LATE = {CDF: timedelta(milliseconds=2), DATAPREP: timedelta(minutes=1)}
"""Dataprep gives a run's end by the last change of any of its parts, which may be later than that of the whole."""


def dishonest(deployment: Deployment) -> list[str]:
    """Events with other times than the platform gives; wetransform gives none."""
    events = expected.events_by_run(deployment.lines())
    found = []
    for source, late in LATE.items():
        for run in deployment.expected_runs()[source]:
            got = events[source, str(run["key"])]
            times = dict(zip(got.kinds, got.times, strict=True))
            for kind, meant in (("START", run["started_at"]), (KINDS[run["state"]], run["ended_at"])):
                if meant and abs(datetime.fromisoformat(times[kind]) - datetime.fromisoformat(meant)) > late:
                    found.append(f"{source} {run['key']}: {kind} at {times[kind]}, the platform says {meant}")
    return found


async def cpu_share(pid: int | None) -> float:
    """Of a core, for some seconds."""
    used, began = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(4)
    return (cpu_seconds(pid) - used) / (time.monotonic() - began)


def cpu_seconds(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_a_clock_that_jumps_and_drifts_loses_nothing(tmp_path: Path) -> None:
    if LIBRARY is None:
        unavailable("libfaketime is not installed: Debian's package faketime")
    print(f"CLOCK_JUMPS_SEED={SEED} CLOCK_JUMPS={JUMPS}")
    chance = random.Random(SEED)
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    async with Deployment(tmp_path, seed=SEED) as deployment:
        await deployment.start(
            LD_PRELOAD=str(LIBRARY),
            FAKETIME_TIMESTAMP_FILE=str(clock),
            FAKETIME_CACHE_DURATION="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            NO_FAKE_STAT="1",
        )
        await deployment.until_ready()
        for _ in range(JUMPS):
            jobs = chance.sample(list(deployment.cdf.transformations), 3)
            deployment.cdf.start_run(jobs[0], Scenario(0, chance.uniform(1, 3), chance.choice(list(Ending))))
            deployment.dataprep.start_run(chance.choice(GROUPS), pace=0.03)
            await asyncio.sleep(chance.uniform(0, 0.6))
            clock.write_text(f"{chance.choice(CLOCKS)}\n")
            await asyncio.sleep(chance.uniform(0.5, 2))
            for job in jobs[1:]:
                deployment.cdf.start_run(job, Scenario(0.2, 0.3, chance.choice(list(Ending))))
            await deployment.settle()
        assert dishonest(deployment) == []
        used = await cpu_share(deployment.pid)
        print(f"with nothing to do: {used:.2f} of a core")
        assert used < 0.9, "it waits rather than loops"
        deployment.terminate()
        assert await deployment.ended() == 0
