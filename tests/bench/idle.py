"""Starts the program against idle simulators and measures it from outside: `python -m tests.bench.idle SECONDS`.

Its CPU is measured twice, half as long with the cores kept awake.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.bench.awake import cores_awake
from tests.deployment import Deployment

SETTLES = 40.0
"""Seconds after it is ready until nothing of its start is left: first polls, SQL of what they found, first deliveries."""


def used(pid: int) -> tuple[float, float]:
    """CPU seconds and resident MiB of a process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def switches(pid: int) -> int:
    """How often its threads were given a core: what an idle process costs, whatever the load beside it."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            name, _, count = line.partition(":")
            found += int(count) if name.endswith("voluntary_ctxt_switches") else 0
    return found


async def main(seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        async with Deployment(Path(folder)) as deployment:
            for source in deployment.settings["sources"]:
                source["poll_interval"] = "30s"
            deployment.forks = False
            await deployment.start()
            await deployment.until_ready()
            await asyncio.sleep(SETTLES)
            assert deployment.pid is not None
            asleep, wakes = await share(deployment.pid, seconds)
            with cores_awake():
                awake, _ = await share(deployment.pid, seconds / 2)
            rss = used(deployment.pid)[1]
            deployment.terminate()
            await deployment.ended()
    return {"asleep_percent": asleep, "cpu_percent": awake, "wakes": wakes, "rss": rss}


async def share(pid: int, seconds: float) -> tuple[float, float]:
    """Of a core, in percent, and switches a second."""
    (before, _), woken = used(pid), switches(pid)
    await asyncio.sleep(seconds)
    (after, _), wakes = used(pid), switches(pid) - woken
    return (after - before) / seconds * 100, wakes / seconds


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(float(sys.argv[1])))))
