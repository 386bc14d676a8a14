"""Time that passes for many tasks at once: each wakes up at its moment, and what it does then takes no time."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.unit.exporters.delivery_simulation import SimulatedClock, WatchedStore

T = TypeVar("T")


class TaskClock(SimulatedClock):
    """A `Clock` that goes on only in `advance`. With a `store`, its threads are waited for at every moment."""

    def __init__(self, store: WatchedStore | None = None) -> None:
        super().__init__()
        self.store = store
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run this beside the test."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        until = self.seconds + seconds
        await self.quiet()
        while self.wake_next(until):
            await self.quiet()

    async def quiet(self) -> None:
        """Until everything that can happen at this moment has happened."""
        calm = 0  # a lease that is given back ends tasks in tasks, each a step after the last
        while calm < 20:
            busy = self.store is not None and self.store.busy
            calm = 0 if busy else calm + 1
            if self.store is not None and busy:
                self.store.idle.clear()
                await self.store.idle.wait()
            else:
                await asyncio.sleep(0)

    async def stop(self) -> None:
        """End what was started."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
