"""What a commit, a claim and a settle cost behind a backlog: `python -m tests.bench.ledger STORE EVENTS`, one JSON object.

STORE is sqlite or postgres, both on the disk and with every commit synced. Medians of times on the clock.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, delete

from collector.clock import SystemClock
from collector.ledger import claims, configured_sinks, leases, schema
from collector.ledger.port import OwnedLedger
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store as PostgresStore
from collector.ledger.shards import Shard
from collector.ledger.sqlite.store import Store as SqliteStore
from collector.model import EventKind
from tests.bench.filling import Filling, repeat
from tests.servers.postgres import PASSWORD, postgres_server

PAGE, AT_ONCE = 1_000, 500
TIMES = 10
_EVER = 2**50
_SHARD = Shard(0, 32)
_JUST_NOW_MS = 5_000

T = TypeVar("T")


class Times:
    """Milliseconds by name, of each time."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    async def of(self, name: str, work: Awaitable[T]) -> T:
        begun = time.perf_counter()
        result = await work
        self._found.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
        return result

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(found) for name, found in self._found.items()}


@asynccontextmanager
async def opened(store: str) -> AsyncIterator[OwnedLedger]:
    if store == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            ledger: OwnedLedger = SqliteStore.open(Path(folder) / "ledger.db", holder="bench", clock=SystemClock())
            yield ledger
            await ledger.close()
        return
    with postgres_server(durable=True) as server:
        database = Database(server.url(server.new_database()), "lineage", lambda: PASSWORD)
        ledger = PostgresStore.open(database)
        yield ledger
        await ledger.close()


async def measured(store: str, backlog: int) -> dict[str, Any]:
    async with opened(store) as ledger:
        [sink] = (await ledger.write(configured_sinks.sync_sinks, {"bench": frozenset(EventKind)}, 0)).values()
        lease = await ledger.write(leases.take, "sink:bench", "bench", 10**9)
        assert lease is not None
        filling, times = await Filling.into(ledger), Times()
        await filling.commit(PAGE)
        await repeat(ledger, backlog // PAGE)
        for _ in range(min(TIMES, backlog // AT_ONCE)):
            heads = await times.of("claim", ledger.read_claim(claims.claim, sink, _EVER, AT_ONCE))
            settlement = claims.Settlement(delivered=tuple(heads))
            await times.of("settle", ledger.write(claims.settle, lease, sink, settlement, _EVER, None))
        for _ in range(TIMES):
            await times.of("commit", filling.commit(1))
        for _ in range(3):
            await times.of("page", filling.commit(AT_ONCE))
        await _of_a_shard(ledger, sink, filling, times)
    return {"store": store, "events": backlog, **times.medians()}


async def _of_a_shard(ledger: OwnedLedger, sink: int, filling: Filling, times: Times) -> None:
    """Reads of a shard that is owed two events, while all others are owed the backlog: from the last commits on, and of all."""
    await ledger.write(_forget_what_it_is_owed)
    await filling.commit(2 * _SHARD.of)
    floor = int(time.time() * 1000) - _JUST_NOW_MS
    for _ in range(TIMES):
        await times.of("shard", ledger.read_claim(claims.claim, sink, _EVER, AT_ONCE, floor, (), _SHARD))
        await times.of("all_shards", ledger.read_claim(claims.claim, sink, _EVER, AT_ONCE, 0, (), _SHARD))


def _forget_what_it_is_owed(conn: Connection) -> None:
    conn.execute(delete(schema.lane).where(*_SHARD.conditions(schema.lane.c.strand_id)))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(sys.argv[1], int(sys.argv[2])))))
