"""Waiting for an event or a time, whichever comes first, by the program's clock and by a simulated one."""

import asyncio

import pytest

from collector.clock import Clock, SystemClock, until_set
from tests.unit.exporters.delivery_simulation import SimulatedClock as StandingClock


@pytest.mark.parametrize("clock", [SystemClock(), StandingClock()])
async def test_an_event_ends_the_wait_and_stays_set(clock: Clock) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    await until_set(event, clock, 3600)
    assert event.is_set()


async def test_so_does_the_time() -> None:
    await until_set(asyncio.Event(), SystemClock(), 0.001)


async def test_so_does_simulated_time() -> None:
    clock = StandingClock()
    waiting = asyncio.create_task(until_set(asyncio.Event(), clock, 3600))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.wake_next(3600)
    await waiting


@pytest.mark.parametrize("clock", [SystemClock(), StandingClock()])
async def test_a_cancelled_wait_is_cancelled(clock: Clock) -> None:
    waiting = asyncio.create_task(until_set(asyncio.Event(), clock, 3600))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
