"""The two clocks as a port, so that tests can simulate time."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock, aware and in UTC: for times that people and events see."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump: for intervals, deadlines and leases."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def until_set(event: asyncio.Event, clock: Clock, seconds: float | None = None) -> None:
    """Until `event` is set or `seconds` passed, None for as long as it takes; the event stays as it is."""
    if seconds is None or event.is_set():
        await event.wait()
        return
    async with asyncio.TaskGroup() as group:
        waits = group.create_task(event.wait()), group.create_task(clock.sleep(seconds))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


def to_ms(moment: datetime) -> int:
    """Epoch milliseconds, rounded down; the ledger's form of a time."""
    return int(moment.timestamp() * 1000 // 1)


def from_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
