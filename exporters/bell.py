"""Waking a loop that waits."""

import asyncio

from collector.clock import Clock


class Bell:
    """Rung by many, waited for by one loop. A ring while nobody waits is kept, so that no wake-up is lost."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Until it rings, or `seconds` passed."""
        if seconds is None:
            await self._rung.wait()
        elif not self._rung.is_set():
            await self._first_of_ring_and(seconds)
        self._rung.clear()

    async def _first_of_ring_and(self, seconds: float) -> None:
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        ringing = asyncio.ensure_future(self._rung.wait())
        try:
            await asyncio.wait((timer, ringing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            ringing.cancel()
