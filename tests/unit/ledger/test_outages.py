from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from collector.errors import LeaseLost, LedgerCorrupt, LedgerError
from collector.ledger import leases, queries, retention
from collector.ledger.sqlite.store import Store
from collector.polling.outages import LONGEST_PAUSE, LOOK, outlasting
from collector.testing.clock import SimulatedClock


class Disk(Store):
    """A ledger whose disk has no room until `room_at`, by its clock."""

    clock: SimulatedClock
    room_at = 0.0

    async def write(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.clock.monotonic() < self.room_at:
            raise LedgerError("disk full")
        return await super().write(fn, *args, **kwargs)


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    clock = SimulatedClock()
    made = Disk.open(tmp_path / "ledger.db", holder="test", clock=clock)
    assert isinstance(made, Disk)
    made.clock = clock
    yield made
    await made.close()


async def test_a_loop_goes_on_when_the_ledger_is_back(disk: Disk) -> None:
    clock, failures = disk.clock, [LedgerError("disk full")] * 12

    async def work() -> None:
        if failures:
            raise failures.pop()

    await outlasting(work, "test", clock, disk)
    assert failures == []
    assert clock.monotonic() < 13 * LONGEST_PAUSE


async def test_a_corrupt_ledger_ends_the_loop_so_that_a_new_start_sets_it_aside(disk: Disk) -> None:
    async def work() -> None:
        raise LedgerCorrupt("page 3")

    with pytest.raises(LedgerCorrupt):
        await outlasting(work, "test", disk.clock, disk)


async def test_a_lost_lease_ends_the_loop_as_all_work_under_it_ends(disk: Disk) -> None:
    async def work() -> None:
        raise LeaseLost("gone")

    with pytest.raises(LeaseLost):
        await outlasting(work, "test", disk.clock, disk)


async def test_what_is_no_fault_of_the_ledger_passes(disk: Disk) -> None:
    async def work() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await outlasting(work, "test", disk.clock, disk)


async def test_after_an_outage_a_loop_goes_on_as_soon_as_the_ledger_takes_writes(disk: Disk) -> None:
    began = disk.clock.monotonic()
    disk.room_at = began + 100.5

    async def work() -> None:
        await disk.write(lambda _: None)

    await outlasting(work, "test", disk.clock, disk)
    assert disk.clock.monotonic() <= disk.room_at + LOOK


async def test_work_that_fails_alone_is_not_repeated_without_pause(disk: Disk) -> None:
    failures = [LedgerError("its START is there already")] * 10

    async def work() -> None:
        if failures:
            raise failures.pop()

    began = disk.clock.monotonic()
    await outlasting(work, "test", disk.clock, disk)
    assert disk.clock.monotonic() - began > 5 * LONGEST_PAUSE


async def test_after_an_outage_work_that_fails_alone_pauses_shortly_again(disk: Disk) -> None:
    clock, alone, room = disk.clock, LedgerError("its START is there already"), 0.0

    async def work() -> None:
        nonlocal room
        tries.append(clock.monotonic())
        if len(tries) == 8:
            disk.room_at = room = clock.monotonic() + 10
        if len(tries) < 10:
            raise alone

    tries: list[float] = []
    await outlasting(work, "test", clock, disk)
    assert tries[8] - room <= LOOK
    assert tries[9] - tries[8] == 1.0


async def test_work_that_went_well_for_long_pauses_shortly_again(disk: Disk) -> None:
    clock, tries = disk.clock, list[float]()

    async def work() -> None:
        if len(tries) == 8:
            await clock.sleep(LONGEST_PAUSE + 1)
        tries.append(clock.monotonic())
        if len(tries) < 10:
            raise LedgerError("its START is there already")

    await outlasting(work, "test", clock, disk)
    assert tries[9] - tries[8] == 1.0


async def test_a_probe_writes_and_leaves_nothing(disk: Disk) -> None:
    await disk.truncate_log()
    await disk.write(lambda _: None)
    assert (await disk.read(retention.size)).log == 0
    await disk.write(leases.probe)
    assert (await disk.read(retention.size)).log > 0
    assert await disk.read(queries.leases) == []
