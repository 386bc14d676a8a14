"""A wake-up for a loop that waits."""

import asyncio

from collector.clock import Clock, until_set


class Wakeup:
    """Any task may set it, one loop waits for it. A call while the loop does not wait is kept, so none is lost."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Until a call of `set`, or `seconds` have passed."""
        await until_set(self._event, self._clock, seconds)
        self._event.clear()
