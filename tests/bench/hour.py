"""A working hour on three platforms: `python -m tests.bench.hour JOBS MINUTES SPEED`, one JSON object.

A third of JOBS on each simulated platform, each with one run an hour that takes a minute, and the program with its defaults for
so many simulated MINUTES: its clock and the simulators' go SPEED times as fast as the wall's, whose load does not count then. A
speed that the machine cannot follow shows as events that are missing at the end. CPU and memory are the program's own.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml

from simulators import configuration
from simulators.cdf import CdfSimulator, populate
from simulators.cdf.scenarios import Scenario
from simulators.dataprep import DataprepSimulator
from simulators.server import Served
from simulators.wetransform import Plan, WetransformSimulator
from tests.bench.fast_clock import FastClock
from tests.bench.idle import used

TAKES = timedelta(minutes=1)
SETTLED = 120.0
"""Simulated seconds before the measurement: start, first polls, definitions."""
SAMPLES = 6


class Platforms:
    """The three simulators with their jobs. `starts` begin a run of one job after the other, the platforms in turn."""

    def __init__(self, jobs: int, now: Callable[[], datetime]) -> None:
        each = jobs // 3
        self.cdf = CdfSimulator(seed=3, now=now)
        self.wetransform = WetransformSimulator(seed=4, now=now, transformations=each)
        self.dataprep = DataprepSimulator(seed=5, now=now, flows=each // 3)
        self._cdf_jobs = list(_transformations(self.cdf, each))

    def starts(self) -> Iterator[Callable[[], object]]:
        transformations, recipes = (
            cycle(self.wetransform.transformations),
            cycle(sorted(self.dataprep.workspace.recipes)),
        )
        scenario = Scenario(starts_after=1.0, runs_for=TAKES.total_seconds())
        for job in cycle(self._cdf_jobs):
            yield partial(self.cdf.start_run, job, scenario)
            yield partial(self.wetransform.start, next(transformations), Plan(duration=TAKES))
            yield partial(self.dataprep.start_run, None, next(recipes))


def _transformations(simulator: CdfSimulator, count: int) -> Iterator[int]:
    examples = populate(simulator)
    for number in range(count):
        example = examples[number % len(examples)]
        query = example.query.replace("`.`", f"`.`plant_{number}_")
        yield simulator.add_transformation(f"job-{number}", example.destination, query, name=f"plant {number}").id


async def measured(jobs: int, minutes: float, speed: float) -> dict[str, Any]:
    clock = FastClock(time.time(), speed)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        platforms = Platforms(jobs, clock.now)
        sources = []
        for name in ("cdf", "wetransform", "dataprep"):
            served = await stack.enter_async_context(Served(getattr(platforms, name)))
            sources.append(configuration.source(name, served.url))
        sources[1]["discover"] = True
        events = folder / "events.ndjson"
        settings = {
            "sources": sources,
            "sinks": [{"name": "out", "type": "file", "path": str(events)}],
            "ledger": {"path": str(folder / "ledger.db")},
            "http": {"listen": "127.0.0.1:0"},
        }
        (folder / "collector.yaml").write_text(yaml.safe_dump(settings))
        log = stack.enter_context((folder / "log").open("wb"))
        program = ["-m", "tests.bench.fast_clock", str(clock.begin), str(speed)]
        words = ["run", "--config", str(folder / "collector.yaml")]
        process = await asyncio.create_subprocess_exec(sys.executable, *program, *words, stdout=log, stderr=log)
        stack.callback(_end, process)
        await clock.sleep(SETTLED)
        first, memory = used(process.pid), []
        begun = clock.monotonic()
        starts, started = platforms.starts(), 0
        for part in range(1, SAMPLES + 1):
            while (passed := clock.monotonic() - begun) < minutes * 60 * part / SAMPLES:
                due = int(passed * jobs / 3600)
                for _ in range(due - started):
                    next(starts)()
                started = due
                await clock.sleep(1.0)
            memory.append(round(used(process.pid)[1]))
        cpu = used(process.pid)[0] - first[0]
        delivered = events.read_bytes().count(b"\n") if events.exists() else 0
        process.terminate()
        await process.wait()
        if not delivered:
            raise SystemExit((folder / "log").read_text()[-3000:])
    share = cpu / (minutes * 60) * 100
    return {"jobs": jobs, "minutes": minutes, "runs": started, "events": delivered, "cpu_percent": share, "mib": memory}


def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))))
