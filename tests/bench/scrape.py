"""What one answer of /metrics with many jobs costs: `python -m tests.bench.scrape SERIES`, one JSON object.

Only making and encoding the page; the ledger's part, one read of the jobs' rows, is not in it.
"""

import asyncio
import json
import statistics
import sys
import time
from typing import Any

from prometheus_client.exposition import generate_latest

from collector.model import RunState
from exporters.metrics.families import Metrics
from exporters.metrics.jobs import OUTCOMES, JobState
from exporters.metrics.snapshot import Snapshot

A_JOB = 10
"""Series of one job."""
TIMES = 5


def snapshot(jobs: int) -> Snapshot:
    counts = dict.fromkeys(OUTCOMES, 7)
    states = [
        JobState("plant-a", f"transformation/job-{n}", f"Job {n}", RunState.SUCCEEDED, 1e9, 1e9 + 60, counts)
        for n in range(jobs)
    ]
    return Snapshot(at=1e9 + 90, jobs=states, sources=(), sinks=(), ledger_bytes=4096, ledger_limit=8192)


async def measured(series: int) -> dict[str, Any]:
    taken = snapshot(series // A_JOB)

    async def read() -> Snapshot:
        return taken

    metrics, cpu, page = Metrics({"plant-a": 7}, ["marquez"], read, lambda: 4096.0), list[float](), b""
    for _ in range(TIMES):
        start = time.process_time()
        page = (await metrics.scrape()).encoded(generate_latest)
        cpu.append(time.process_time() - start)
    found = sum(not line.startswith(b"#") for line in page.splitlines())
    return {"series": found, "bytes": len(page), "cpu": statistics.median(cpu)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(int(sys.argv[1])))))
