"""What a process does while nothing happens: one commit for all its leases, and no loop that only looks at memory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from collector.app.ledger_file import guard
from collector.clock import SystemClock
from collector.errors import LeaseLost, LedgerLost
from collector.ledger.held_lease import MARGIN, RENEW_EVERY, HeldLease, Leases
from collector.ledger.sqlite.store import Store
from collector.reports import LeaseReport
from exporters.delivery.requests import SinkRequests
from tests.lease_faults import take_over
from tests.unit.exporters.delivery_simulation import (
    DeliverySimulation,
    ScriptedSink,
    SimulatedClock,
    delivery_simulation,
)


@pytest.fixture
async def simulation() -> AsyncIterator[DeliverySimulation]:
    async with delivery_simulation() as made:
        yield made


async def kept(simulation: DeliverySimulation, *names: str) -> dict[str, tuple[HeldLease, asyncio.Task[None]]]:
    """Leases that were taken at one moment, as at a start, each kept by a separate task."""
    leases, found = Leases(simulation.store, simulation.clock, "test", ignored), {}
    for name in names:
        held = await leases.take(name, 10)
        assert held is not None
        held.__enter__()
        found[name] = held, asyncio.create_task(held.keep())
    await simulation.advance(0)
    return found


async def seconds_pass(simulation: DeliverySimulation, count: int) -> None:
    """All that wake up in the same second do so before the ledger answers the first of them."""
    for _ in range(count):
        until = simulation.clock.seconds + 1
        while simulation.clock.wake_next(until):
            pass
        await simulation.quiet()


def ignored(_: LeaseReport) -> None: ...


async def test_all_leases_of_a_process_are_renewed_in_one_commit(simulation: DeliverySimulation) -> None:
    found = await kept(simulation, "source:a", "source:b", "sink:x", "housekeeping")
    before = simulation.store.writes
    await seconds_pass(simulation, 10 * int(RENEW_EVERY))
    assert simulation.store.writes - before == 10
    for held, keeper in found.values():
        assert held.covers(10 + MARGIN - RENEW_EVERY)
        keeper.cancel()


async def test_a_lease_that_another_has_ends_alone(simulation: DeliverySimulation) -> None:
    found = await kept(simulation, "source:a", "source:b", "sink:x")
    await simulation.store.write(take_over, "source:b", "another", 600_000)
    await seconds_pass(simulation, 3 * int(RENEW_EVERY))
    (_, lost), *others = found.pop("source:b"), *found.values()
    with pytest.raises(LeaseLost, match="source:b"):
        await lost
    for held, keeper in others:
        assert held.covers(10 + MARGIN - RENEW_EVERY)
        keeper.cancel()


async def test_requests_to_a_sink_are_waited_for_without_a_clock(
    simulation: DeliverySimulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps, sleep = list[float](), simulation.clock.sleep

    async def noted(seconds: float) -> None:
        sleeps.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(simulation.clock, "sleep", noted)
    delivery = simulation.deliver(ScriptedSink())
    await simulation.advance(60)
    sleeps.clear()
    await simulation.advance(60)
    without = len(sleeps)
    serving = asyncio.create_task(
        SinkRequests(simulation.sinks["sink"], delivery, simulation.store, simulation.clock).run()
    )
    await simulation.advance(0)
    sleeps.clear()
    await simulation.advance(60)
    assert len(sleeps) == without
    serving.cancel()


async def test_a_file_that_is_in_its_place_is_only_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock = Store.open(tmp_path / "ledger.db", holder="test", clock=SystemClock()), SimulatedClock()
    writes, write = list[Any](), store.write

    async def noted(fn: Any, *args: Any) -> Any:
        writes.append(fn)
        return await write(fn, *args)

    monkeypatch.setattr(store, "write", noted)
    task = asyncio.create_task(guard(store, clock, lambda: None))
    for _ in range(60):
        await asyncio.sleep(0)
        assert clock.wake_next(clock.seconds + 1)
    assert writes == []
    store.path.unlink()
    while not task.done():
        clock.wake_next(clock.seconds + 1)
        await asyncio.sleep(0.01)
    with pytest.raises(LedgerLost, match="its file is gone"):
        await task
    await store.close()
