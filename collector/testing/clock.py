"""Time that passes without waiting."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 21, 9, 15, 0, tzinfo=UTC)


class SimulatedClock:
    """A `Clock` that moves when it is advanced, or when a task sleeps."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._passed = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    async def sleep(self, seconds: float) -> None:
        wake_at = self._passed + seconds
        await asyncio.sleep(0)
        self._passed = max(self._passed, wake_at)

    def advance(self, seconds: float) -> None:
        self._passed += seconds


@dataclass
class ServerClock:
    """A server's wall clock, which may be so many seconds ahead of the simulated one; it moves with it."""

    clock: SimulatedClock
    ahead: float = 0.0

    def now(self) -> datetime:
        return self.clock.now() + timedelta(seconds=self.ahead)
