"""How long the program takes until it is ready: `python -m tests.bench.start STARTS`, one JSON object.

From the start of the process until `/readyz` answers 200, with a small configuration (one platform, a file) and with a full one
(three platforms, Marquez, Kafka, a file), each with a new ledger and simulated platforms on loopback; and `--help`. The median
of STARTS each, in turn, after one start that is not counted: modules are compiled then, as those of the image are when it is
built. CPU is the process's own, so what else runs on the machine counts in the times alone. Kafka's brokers do not answer: a
start does not wait for them.
"""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.idle import used
from tests.deployment import CDF, Deployment

NO_KAFKA = ("127.0.0.1:9", "openlineage.events")
PATIENCE = 120.0


async def started(full: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        async with Deployment(Path(folder), kafka=NO_KAFKA) as deployment:
            if not full:
                settings = deployment.settings
                settings["sources"] = [each for each in settings["sources"] if each["name"] == CDF]
                settings["sinks"] = [each for each in settings["sinks"] if each["type"] == "file"]
            began = time.monotonic()
            deployment.forks = False
            await deployment.start()
            assert deployment.pid is not None
            await _ready(deployment)
            seconds, (cpu, mib) = time.monotonic() - began, used(deployment.pid)
            deployment.terminate()
            await deployment.ended()
    return {"seconds": seconds, "cpu": cpu, "mib": mib}


async def _ready(deployment: Deployment) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
        while not (started := deployment.logged("service.started")):
            assert deployment.runs, deployment.tail()
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{started[0]['port']}/readyz"
        while True:
            async with session.get(url) as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.01)


def helped() -> dict[str, float]:
    """`--help`; Linux counts the CPU of children that ended."""
    before, began = _children(), time.monotonic()
    subprocess.run([sys.executable, "-m", "collector", "--help"], stdout=subprocess.DEVNULL, check=True, env=os.environ)
    return {"seconds": time.monotonic() - began, "cpu": _children() - before}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def main(starts: int) -> dict[str, Any]:
    await started(full=True)
    found = defaultdict(list)
    for _ in range(starts):
        found["help"].append(helped())
        found["small"].append(await started(full=False))
        found["full"].append(await started(full=True))
    return {
        name: {what: statistics.median(each[what] for each in rows) for what in rows[0]} for name, rows in found.items()
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(int(sys.argv[1])))))
