"""Starts the program against idle simulators and measures it from outside: `python -m tests.bench.idle`.

Its CPU is measured twice, the second time with the cores kept awake. A poll takes as much as ten seconds without one, so each time has
one poll of each source in it: it begins in the middle between two polls and lasts until the middle behind the next one.
"""

import asyncio
import json
import os
import tempfile
from pathlib import Path

from tests.bench.awake import cores_awake
from tests.deployment import Deployment

BETWEEN_POLLS = 30.0
SETTLES = 1.5 * BETWEEN_POLLS
"""Seconds after it is ready, each source having been polled, until nothing of its start is left: SQL of what was found, first deliveries."""


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


async def main() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        async with Deployment(Path(folder)) as deployment:
            for source in deployment.settings["sources"]:
                source["poll_interval"] = f"{BETWEEN_POLLS:.0f}s"
            deployment.forks = False
            await deployment.start()
            await deployment.until_ready()
            await asyncio.sleep(SETTLES)
            assert deployment.pid is not None
            asked = await requests(deployment)
            asleep, wakes = await share(deployment.pid, BETWEEN_POLLS)
            with cores_awake():
                awake, _ = await share(deployment.pid, BETWEEN_POLLS)
            asked = (await requests(deployment) - asked) // 2
            rss = used(deployment.pid)[1]
            deployment.terminate()
            await deployment.ended()
    return {"asleep_percent": asleep, "cpu_percent": awake, "wakes": wakes, "rss": rss, "requests": asked}


async def requests(deployment: Deployment) -> int:
    """That the platforms have seen, which only polls make here."""
    return sum([await deployment.requests(source["name"], ".") for source in deployment.settings["sources"]])


async def share(pid: int, seconds: float) -> tuple[float, float]:
    """Of a core, in percent, and switches a second."""
    (before, _), woken = used(pid), switches(pid)
    await asyncio.sleep(seconds)
    (after, _), wakes = used(pid), switches(pid) - woken
    return (after - before) / seconds * 100, wakes / seconds


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
