"""From a platform's answer to the acknowledged event: `python -m tests.bench.end_to_end JOBS`, one JSON object.

The program starts beside a simulated CDF project where each of JOBS transformations, each with its own query, has ended a
run, and delivers both events of each run over HTTP. CPU and memory are the program's own, with its start.
"""

import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from simulators import configuration
from simulators.cdf import CdfSimulator, populate
from simulators.cdf.scenarios import Scenario
from simulators.server import Served
from tests.bench.awake import cores_awake
from tests.bench.idle import used
from tests.bench.responder import Responder

BEGAN_BEFORE = timedelta(seconds=60)
PATIENCE = 900.0


class Counting(Responder):
    """Counts the bodies of all its connections."""

    taken = 0

    def answered(self) -> None:
        Counting.taken += 1


ENDED = Scenario(starts_after=1.0, runs_for=10.0)


def project(jobs: int, scenario: Scenario = ENDED) -> CdfSimulator:
    """The demo's queries in turn, each on tables of its own, and a run of each that began `BEGAN_BEFORE`."""
    simulator = CdfSimulator(seed=3)
    examples = populate(simulator)
    for number in range(jobs):
        example = examples[number % len(examples)]
        query = example.query.replace("`.`", f"`.`plant_{number}_")
        made = simulator.add_transformation(
            f"job-{number}", example.destination, query, name=f"{example.name} of plant {number}"
        )
        begun = datetime.now(UTC) - BEGAN_BEFORE
        simulator.start_run(made.id, scenario, at=begun)
    return simulator


def settings(folder: Path, platform: str, sink: str) -> dict[str, Any]:
    return {
        "sources": [configuration.source("cdf", platform)],
        "sinks": [{"name": "http", "type": "openlineage", "url": sink}],
        "ledger": {"path": str(folder / "ledger.db")},
        "http": {"listen": "127.0.0.1:0"},
    }


async def measured(jobs: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        stack.enter_context(cores_awake())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sink = await asyncio.get_running_loop().create_server(Counting, "127.0.0.1", 0)
        stack.callback(sink.close)
        served = await stack.enter_async_context(Served(project(jobs)))
        url = f"http://127.0.0.1:{sink.sockets[0].getsockname()[1]}"
        (folder / "collector.yaml").write_text(yaml.safe_dump(settings(folder, served.url, url)))
        log = stack.enter_context((folder / "log").open("wb"))
        command = [sys.executable, "-m", "collector", "run", "--config", str(folder / "collector.yaml")]
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        result = await _watched(process.pid, jobs)
        process.terminate()
        await process.wait()
        if Counting.taken < 2 * jobs:
            raise SystemExit((folder / "log").read_text()[-3000:])
    return result


async def _watched(pid: int, jobs: int) -> dict[str, Any]:
    """Until both events of each run are there, or `PATIENCE` is over."""
    begun, most = time.perf_counter(), 0.0
    while Counting.taken < 2 * jobs and time.perf_counter() - begun < PATIENCE:
        await asyncio.sleep(0.05)
        most = max(most, used(pid)[1])
    cpu, rss = used(pid)
    seconds = time.perf_counter() - begun
    return {"events": Counting.taken, "seconds": seconds, "cpu": cpu, "rss": most, "rss_after": rss}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(int(sys.argv[1])))))
