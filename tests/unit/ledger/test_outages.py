import pytest

from collector.errors import LeaseLost, LedgerCorrupt, LedgerError
from collector.polling.outages import LONGEST_PAUSE, outlasting
from collector.testing.clock import SimulatedClock


async def test_a_loop_goes_on_when_the_ledger_is_back() -> None:
    clock, failures = SimulatedClock(), [LedgerError("disk full")] * 12

    async def work() -> None:
        if failures:
            raise failures.pop()

    await outlasting(work, "test", clock)
    assert failures == []
    assert clock.monotonic() < 13 * LONGEST_PAUSE


async def test_a_corrupt_ledger_ends_the_loop_so_that_a_new_start_sets_it_aside() -> None:
    async def work() -> None:
        raise LedgerCorrupt("page 3")

    with pytest.raises(LedgerCorrupt):
        await outlasting(work, "test", SimulatedClock())


async def test_a_lost_lease_ends_the_loop_as_all_work_under_it_ends() -> None:
    async def work() -> None:
        raise LeaseLost("gone")

    with pytest.raises(LeaseLost):
        await outlasting(work, "test", SimulatedClock())


async def test_what_is_no_fault_of_the_ledger_passes() -> None:
    async def work() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await outlasting(work, "test", SimulatedClock())
