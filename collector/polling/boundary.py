"""At the boundary between a loop and an adapter."""

import asyncio


def is_stopping() -> bool:
    """Whether this task is cancelled. If it is not, a cancellation that comes out of an adapter is a bug of the
    adapter's own, and must not end the loop as if it had been asked to end.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
