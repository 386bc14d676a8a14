"""Waking a loop that waits."""

import asyncio

from collector.clock import Clock, until_set


class Wakeup:
    """Rung by many, waited for by one loop. A ring while nobody waits is kept, so that no wake-up is lost."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Until it rings, or `seconds` passed."""
        await until_set(self._rung, self._clock, seconds)
        self._rung.clear()
