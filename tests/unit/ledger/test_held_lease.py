"""Leases between two holders on a real PostgreSQL, each commit a separate transaction on a separate connection."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection

from collector.clock import SystemClock
from collector.errors import LeaseLost
from collector.ledger import leases
from collector.ledger.held_lease import STANDBY_LOOK, HeldLease, Leases
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store
from collector.reports import LeaseReport
from tests.lease_faults import take_over
from tests.servers.postgres import PASSWORD, PostgresServer


@pytest.fixture
async def store(postgres: PostgresServer) -> AsyncIterator[Store]:
    database = Database(postgres.url(postgres.new_database()), "lineage", lambda: PASSWORD)
    made = await asyncio.to_thread(Store.open, database)
    yield made
    await made.close()


def ignored(_: LeaseReport) -> None: ...


async def test_of_two_that_take_at_once_one_gets_it_and_what_it_gives_back_is_clean(store: Store) -> None:
    one, two = (Leases(store, SystemClock(), name, ignored) for name in ("one", "two"))
    tokens = []
    for _ in range(20):
        found = await asyncio.gather(one.take("source:x", 10), two.take("source:x", 10))
        [held] = [each for each in found if each is not None]
        assert held.lease.clean
        tokens.append(held.lease.token)
        await held.renew()
        await held.give_back()
    assert tokens == sorted(set(tokens))


async def test_what_another_holds_is_only_read_until_it_is_free(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (Leases(store, SystemClock(), name, ignored) for name in ("one", "two"))
    held = await one.take("source:x", 10)
    assert held is not None
    writes, write = list[Any](), store.write

    async def noted(fn: Any, *args: Any) -> Any:
        writes.append(fn)
        return await write(fn, *args)

    monkeypatch.setattr(store, "write", noted)
    assert await two.take("source:x", 10) is None
    assert 0 < two.until_asked_again("source:x") <= 1.1 * STANDBY_LOOK
    assert writes == []
    await held.give_back()
    again = await two.take("source:x", 10)
    assert again is not None
    assert again.lease.clean


async def test_work_ends_when_another_holder_has_the_lease_and_begins_under_the_next(store: Store) -> None:
    mine = Leases(store, SystemClock(), "one", ignored)
    tokens: list[int] = []
    begun, ended = asyncio.Event(), asyncio.Event()

    async def works(held: HeldLease) -> None:
        tokens.append(held.lease.token)
        begun.set()
        try:
            while True:
                await store.write(leases.fence, held.lease)
                await asyncio.sleep(0.01)
        except LeaseLost:
            ended.set()
            raise

    task = asyncio.create_task(mine.work("source:x", 10, works))
    async with asyncio.timeout(20):
        await begun.wait()
        begun.clear()
        await store.write(take_over, "source:x", "two", -1)
        await ended.wait()
        await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert tokens == [1, 3]
    assert await store.read(leases.held_elsewhere, "two") == {}, "given back at the end"


async def test_who_is_cancelled_while_it_takes_a_lease_gives_it_back(store: Store) -> None:
    mine, begun, gate = Leases(store, SystemClock(), "one", ignored), threading.Event(), threading.Event()

    def slowly(conn: Connection, name: str, holder: str, ttl_ms: int) -> leases.Lease | None:
        begun.set()
        assert gate.wait(20)
        return leases.take(conn, name, holder, ttl_ms)

    task = asyncio.create_task(mine.take("source:x", 10, slowly))
    await asyncio.to_thread(begun.wait, 20)
    task.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    lease = await store.write(leases.take, "source:x", "two", 60_000)
    assert lease is not None
    assert (lease.token, lease.clean) == (2, True)
