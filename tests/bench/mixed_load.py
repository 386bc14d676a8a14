"""Claims and settles beside polls: `python -m tests.bench.mixed_load`, one JSON object.

A sink's claims and settles of a few events go on all the time while, in turn, pages of 1,000 new runs with 40 columns
each are committed, and 10,000 open runs are polled and seen again. What a poll of 500 unchanged runs writes is counted.
"""

import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from collector.app.process import tune_interpreter
from collector.clock import SystemClock, to_ms
from collector.ledger import claims, configured_sinks, configured_sources, leases, runs, stored
from collector.ledger.claims import Settlement
from collector.ledger.configured_sources import Configured
from collector.ledger.leases import Lease
from collector.ledger.sqlite.store import Store
from collector.lifecycle import VanishedPolicy
from collector.lineage.events import EventMaker
from collector.model import Dataset, EventKind, Facts, Field, Job, Observation, Poll, RunState
from collector.polling.commits import Writer
from collector.polling.decision import Policy

HERE = "cdf://westeurope-1.cognitedata.com/plant-a"
COLUMNS = tuple(Field(f"column_{number}", "string", f"What column {number} of the table holds") for number in range(40))
BEGAN = datetime(2026, 11, 22, 6, tzinfo=UTC)
AT_ONCE = 64
PAUSE = 0.01


def observed(number: int, at: datetime) -> Observation:
    job = Job(
        str(number % 50),
        HERE,
        f"transformation/job-{number % 50}",
        "QUERY",
        "CDF",
        sql=f"select `key` as externalId, name from `sap`.`pumps_{number % 50}` where is_new('pumps', lastUpdatedTime)",
        dialect="spark",
    )
    inputs, outputs = (Dataset(HERE, name, uri=HERE, fields=COLUMNS) for name in (f"raw/sap/pumps_{number}", "assets"))
    facts = Facts(
        inputs=(inputs,), outputs=(outputs,), engine="spark", external_id=str(number), ids={"jobId": str(number)}
    )
    began = BEGAN
    return Observation(
        str(number), UUID(int=number, version=4), job, RunState.RUNNING, "Running", at, began, began, facts=facts
    )


class Beside:
    """One source that polls and one sink that delivers, on a ledger on disk."""

    def __init__(self, store: Store, writer: Writer, sink: int, context: Lease) -> None:
        self.store, self.writer, self._sink, self._context = store, writer, sink, context
        self.claims: list[float] = []
        self.settles: list[float] = []

    async def page(self, seen: list[Observation]) -> None:
        async for _ in self.writer.page(self.store, Poll(tuple(seen)), datetime.now(UTC), polled=True):
            pass

    async def poll_again(self, most: int) -> int:
        """One poll of the open runs, in pages as CDF has them: nothing has changed."""
        now = datetime.now(UTC)
        tracked = await self.store.read(stored.tracked, self.writer.source_id, to_ms(now) + 60_000, most)
        await self.store.read(runs.source_state, self.writer.source_id)
        for start in range(0, len(tracked.runs), 1000):
            await self.page([observed(int(run.key), now) for run in tracked.runs[start : start + 1000]])
        return len(tracked.runs)

    async def deliver(self) -> None:
        """Claim and settle until cancelled, as a sink that answers at once."""
        while True:
            start = time.perf_counter()
            heads = await self.store.read_claim(claims.claim, self._sink, 2**50, AT_ONCE)
            self.claims.append(time.perf_counter() - start)
            if heads:
                start = time.perf_counter()
                settlement = Settlement(delivered=tuple(heads))
                await self.store.write_first(
                    claims.settle, self._context, self._sink, settlement, to_ms(datetime.now(UTC)), None
                )
                self.settles.append(time.perf_counter() - start)
            await asyncio.sleep(PAUSE)

    async def while_delivering(self, work: Callable[[], Awaitable[object]]) -> dict[str, float]:
        self.claims.clear()
        self.settles.clear()
        delivering = asyncio.create_task(self.deliver())
        start = time.perf_counter()
        await work()
        seconds = time.perf_counter() - start
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
        return {"seconds": seconds, **_quantiles("claim", self.claims), **_quantiles("settle", self.settles)}


def _quantiles(name: str, times: list[float]) -> dict[str, float]:
    ordered = sorted(times) or [0.0]
    picked = {"p50": len(ordered) // 2, "p99": int(len(ordered) * 0.99)}
    found = {f"{name}_{what}_ms": ordered[min(at, len(ordered) - 1)] * 1000 for what, at in picked.items()}
    return {f"{name}s": len(times), **found, f"{name}_max_ms": ordered[-1] * 1000}


async def measured(open_runs: int, polls: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        store = Store.open(path, holder="bench", clock=SystemClock())
        [source] = (await store.write(configured_sources.sync_sources, [Configured("plant-a")], 0)).values()
        [sink] = (await store.write(configured_sinks.sync_sinks, {"bench": frozenset(EventKind)}, 0)).values()
        lease = await store.write(leases.take, "source:plant-a", "bench", 10**9)
        context = await store.write(leases.take, "sink:bench", "bench", 10**9)
        assert lease is not None
        assert context is not None
        policy = Policy(timedelta(seconds=60), VanishedPolicy.LEAVE_OPEN)
        beside = Beside(store, Writer("plant-a", source, lambda: lease, EventMaker("plant-a"), policy), sink, context)
        tune_interpreter()  # as the service does
        now = datetime.now(UTC)
        await beside.page([observed(number, now) for number in range(500)])
        await beside.poll_again(500)  # a poll after the first
        log = await _log_of(path, store, lambda: beside.poll_again(500))
        pages = [[observed(number, now) for number in range(first, first + 1000)] for first in range(500, 2500, 1000)]
        page = await beside.while_delivering(lambda: _each(beside.page, pages))
        for first in range(2500, open_runs, 1000):
            await beside.page([observed(number, now) for number in range(first, min(open_runs, first + 1000))])
        again = await beside.while_delivering(lambda: _times(polls, lambda: beside.poll_again(open_runs)))
        await store.close()
    return {"wal_bytes_500": log, "page": page, "again": again}


async def _each(work: Callable[[list[Observation]], Awaitable[object]], pages: list[list[Observation]]) -> None:
    for page in pages:
        await work(page)


async def _times(count: int, work: Callable[[], Awaitable[object]]) -> None:
    for _ in range(count):
        await work()


async def _log_of(path: Path, store: Store, work: Callable[[], Awaitable[object]]) -> int:
    """Bytes by which the work lengthens the log."""
    log = path.with_name(f"{path.name}-wal")

    def emptied(connection: Any) -> None:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    await asyncio.wrap_future(store._writing().submit(emptied, alone=True))
    before = log.stat().st_size
    await work()
    return log.stat().st_size - before


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    arguments = [int(word) for word in sys.argv[1:]]
    print(json.dumps(asyncio.run(measured(*(arguments or [10_000, 2])))))
