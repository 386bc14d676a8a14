"""What a process does while nothing happens: one commit for all its leases, and no loop that only looks at memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from collector.app.ledger_file import guard
from collector.clock import SystemClock
from collector.errors import LeaseLost, LedgerLost
from collector.ledger import leases
from collector.ledger.held_lease import MARGIN, RENEW_EVERY, STANDBY_LOOK, HeldLease, Leases
from collector.ledger.leases import Lease
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
    those, found = Leases(simulation.store, simulation.clock, "test", ignored), {}
    for name in names:
        held = await those.take(name, 10)
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


async def test_a_lease_that_a_common_renewal_left_out_is_renewed_at_once(
    simulation: DeliverySimulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another transaction has it locked."""
    found, renew_together = await kept(simulation, "source:a", "source:b", "sink:x"), leases.renew_together

    def one_alone(conn: Connection, lease: Lease, ttl_ms: int, _: Mapping[Lease, int]) -> set[str]:
        return renew_together(conn, lease, ttl_ms, {})

    monkeypatch.setattr(leases, "renew_together", one_alone)
    before = simulation.store.writes
    await seconds_pass(simulation, int(RENEW_EVERY))
    assert simulation.store.writes - before == 3
    for held, keeper in found.values():
        assert held.covers(10 + MARGIN - 1)
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


async def test_all_that_an_idle_sink_looks_at_is_looked_at_in_six_moments_of_a_minute(
    simulation: DeliverySimulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wake-up of a process that sleeps costs more than most of what it is for."""
    reads, read = list[str](), simulation.store.read_claim

    async def noted(fn: Any, *args: Any) -> Any:
        reads.append(fn.__name__)
        return await read(fn, *args)

    monkeypatch.setattr(simulation.store, "read_claim", noted)
    simulation.deliver(ScriptedSink(rechecks=True))
    others = await kept(simulation, "source:a", "housekeeping")
    await simulation.advance(33.3)
    reads.clear()
    moments, until = set[float](), simulation.clock.seconds + 60
    while simulation.clock.wake_next(until):
        moments.add(round(simulation.clock.seconds, 3))
        await simulation.quiet()
    assert sorted(moments) == [40, 50, 60, 70, 80, 90]
    assert Counter(reads) == {"next_due": 6, "look": 6}
    for _, keeper in others.values():
        keeper.cancel()


async def test_a_standby_reads_who_holds_all_its_leases_once_each_half_minute(
    simulation: DeliverySimulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "source:a", "sink:x", "housekeeping", "metrics"
    holding = await kept(simulation, *names)
    reads, read = list[str](), simulation.store.read_shown

    async def noted(fn: Any, *args: Any) -> Any:
        reads.append(fn.__name__)
        return await read(fn, *args)

    monkeypatch.setattr(simulation.store, "read_shown", noted)
    those, begun = Leases(simulation.store, simulation.clock, "standby", ignored), list[str]()

    async def works(held: HeldLease) -> None:
        begun.append(held.lease.name)
        await asyncio.Event().wait()

    standing_by = [asyncio.create_task(those.work(name, 10, works)) for name in names]
    await seconds_pass(simulation, 100)
    assert begun == []
    reads.clear()
    await seconds_pass(simulation, 300)
    assert Counter(reads) == {"held_elsewhere": 300 / STANDBY_LOOK}
    for _, keeper in holding.values():
        keeper.cancel()
    await simulation.store.write(leases.end_all)
    await seconds_pass(simulation, int(1.1 * STANDBY_LOOK))
    assert begun == [*names]
    for task in standing_by:
        task.cancel()
    await asyncio.gather(*standing_by, return_exceptions=True)  # they give their leases back


async def test_a_lease_that_was_given_back_is_taken_at_once_though_it_was_just_read_as_held(
    simulation: DeliverySimulation,
) -> None:
    found = await kept(simulation, "source:a")
    held, keeper = found["source:a"]
    those = Leases(simulation.store, simulation.clock, "standby", ignored)
    assert await those.take("source:a", 10) is None
    keeper.cancel()
    await held.give_back()
    assert await those.take("source:a", 10) is not None


async def test_the_loss_of_the_file_is_waited_for_without_a_clock_and_noticed_at_the_next_commit(
    tmp_path: Path,
) -> None:
    store, clock = Store.open(tmp_path / "ledger.db", holder="test", clock=SystemClock()), SimulatedClock()
    task = asyncio.create_task(guard(store, clock, lambda: None))
    for _ in range(10):
        await asyncio.sleep(0)
        assert not clock.wake_next(clock.seconds + 3600), "it looks by itself"
    store.path.unlink()
    with pytest.raises(LedgerLost):
        await store.write(leases.probe)
    async with asyncio.timeout(20):
        with pytest.raises(LedgerLost, match="its file is gone"):
            await task
    await store.close()
