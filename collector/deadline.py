"""Work that ends with a time which may move meanwhile: a lease is renewed, a poll brings another page."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from collector.clock import Clock

T = TypeVar("T")


async def apart(work: Coroutine[Any, Any, T], *until: asyncio.Task[Any]) -> tuple[bool, Callable[[], T]]:
    """Do this in a separate task until it ends or one of the others does, then cancel it: whether it ended by itself,
    and its result. A task group that fails can neither swallow a cancellation of ours nor leave one behind.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, *until}, return_when=asyncio.FIRST_COMPLETED)
        return task.done(), task.result
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def before(
    ends_at: Callable[[], float], clock: Clock, work: Coroutine[Any, Any, T]
) -> tuple[bool, Callable[[], T]]:
    """As `apart`, until the monotonic clock reaches what `ends_at` says by then."""
    passed = asyncio.create_task(_passed(ends_at, clock))
    try:
        return await apart(work, passed)
    finally:
        passed.cancel()


async def _passed(ends_at: Callable[[], float], clock: Clock) -> None:
    while (left := ends_at() - clock.monotonic()) > 0:
        await clock.sleep(max(left, 0.001))  # a smaller step could vanish in the rounding of a large clock value
