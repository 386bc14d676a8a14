"""The two clocks as a port, so that tests can simulate time."""

import asyncio
import math
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock, aware and in UTC: for times in events, logs and pages."""
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
    """Wait until `event` is set or `seconds` passed (None: without limit); the event is not cleared."""
    if seconds is None or event.is_set():
        await event.wait()
        return
    if isinstance(clock, SystemClock):  # in a fifth of the time that two tasks take
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        return
    async with asyncio.TaskGroup() as group:
        waits = group.create_task(event.wait()), group.create_task(clock.sleep(seconds))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


def until_tick(clock: Clock, every: float) -> float:
    """Seconds until the next multiple of `every` on the monotonic clock: loops that look at something so often wake up together, as
    each wake-up of an idle process costs more than what it is for. A tenth of `every` at the least.
    """
    now = clock.monotonic()
    return every * math.ceil(now / every + 0.1) - now


def to_ms(moment: datetime) -> int:
    """Epoch milliseconds, rounded down; the ledger's form of a time."""
    return int(moment.timestamp() * 1000 // 1)


def from_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def moment(ms: int | None) -> str | None:
    """Epoch milliseconds as ISO 8601, for JSON, tables and pages alike."""
    return None if ms is None else from_ms(ms).isoformat(timespec="milliseconds")


def duration(seconds: float) -> str:
    """Its two largest units, such as `2h 5m`; below a second two digits, such as `0.34s` and `4ms`."""
    if seconds < 0.995 and seconds != int(seconds):
        return f"{seconds:.2f}s" if seconds >= 0.0995 else f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.0f}s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.1f}s"
    whole = round(seconds)
    for unit, length, below, smaller in (("d", 86400, 3600, "h"), ("h", 3600, 60, "m"), ("m", 60, 1, "s")):
        if whole >= length:
            rest = whole % length // below
            return f"{whole // length}{unit}" + (f" {rest}{smaller}" if rest else "")
    return f"{whole}s"
