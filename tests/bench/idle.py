"""Starts the program against idle simulators and measures it from outside: `python -m tests.bench.idle SECONDS`."""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.deployment import Deployment


def used(pid: int) -> tuple[float, float]:
    """CPU seconds and resident MiB of a process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def main(seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        async with Deployment(Path(folder)) as deployment:
            for source in deployment.settings["sources"]:
                source["poll_interval"] = "30s"
            deployment.forks = False
            await deployment.start()
            await deployment.until_ready()
            await asyncio.sleep(15)
            assert deployment.pid is not None
            before, _ = used(deployment.pid)
            await asyncio.sleep(seconds)
            after, rss = used(deployment.pid)
            deployment.terminate()
            await deployment.ended()
    return {"cpu_percent": (after - before) / seconds * 100, "rss": rss}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(float(sys.argv[1])))))
