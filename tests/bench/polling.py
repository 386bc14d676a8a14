"""What a poll of open runs costs in which nothing has changed: `python -m tests.bench.polling RUNS CYCLES`, one JSON object.

The program starts beside a simulated CDF project with so many open runs, each of a transformation with its own query. After the
first polls, its CPU and its requests are counted over so many further ones.
"""

import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from simulators.cdf.scenarios import Scenario
from simulators.server import Served
from tests.bench.awake import cores_awake
from tests.bench.end_to_end import project, settings
from tests.bench.idle import used

OPEN = Scenario(starts_after=1.0, runs_for=1e6)
INTERVAL = 1.0
"""Seconds from one poll to the next."""
SETTLED = 12
"""Polls after the last START until what a query says is in each observation, on a busy machine too."""
LISTS, BY_IDS = (
    "GET /api/v1/projects/plant-a/transformations/jobs",
    "POST /api/v1/projects/plant-a/transformations/jobs/byids",
)


async def measured(runs: int, cycles: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        stack.enter_context(cores_awake())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = await stack.enter_async_context(Served(project(runs, OPEN)))
        configuration = settings(folder, served.url, "http://127.0.0.1:9")
        configuration["sources"][0]["poll_interval"] = f"{INTERVAL:g}s"
        configuration["sinks"] = [{"name": "out", "type": "file", "path": str(folder / "events.ndjson")}]
        (folder / "collector.yaml").write_text(yaml.safe_dump(configuration))
        log = stack.enter_context((folder / "log").open("wb"))
        command = [sys.executable, "-m", "collector", "run", "--config", str(folder / "collector.yaml")]
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        session = await stack.enter_async_context(aiohttp.ClientSession(served.url))
        await _until(session, folder, runs)
        before, first = used(process.pid)[0], await _requests(session)
        while (await _requests(session)).get(BY_IDS, 0) < first[BY_IDS] + cycles:
            await asyncio.sleep(0.05)
        after, last = used(process.pid), await _requests(session)
        process.terminate()
        await process.wait()
    polls = last[BY_IDS] - first[BY_IDS]
    asked = sum(last.values()) - sum(first.values())
    return {
        "runs": runs,
        "polls": polls,
        "requests": asked / polls,
        "cpu_ms": (after[0] - before) / polls * 1000,
        "rss": after[1],
    }


async def _until(session: aiohttp.ClientSession, folder: Path, runs: int) -> None:
    """All runs are known, their STARTs are delivered, and they were polled so often that their queries were read."""
    events = folder / "events.ndjson"
    while not events.exists() or events.read_bytes().count(b"\n") < runs:
        await asyncio.sleep(0.2)
    polled = (await _requests(session)).get(BY_IDS, 0)
    while (await _requests(session)).get(BY_IDS, 0) < polled + SETTLED:
        await asyncio.sleep(0.1)


async def _requests(session: aiohttp.ClientSession) -> dict[str, int]:
    async with session.get("/_control/requests") as answer:
        found: dict[str, int] = (await answer.json())["requests"]
        return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(int(sys.argv[1]), int(sys.argv[2])))))
