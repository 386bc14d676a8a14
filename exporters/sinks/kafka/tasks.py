"""The tasks that aiokafka starts and keeps to itself."""

import asyncio
from typing import Any


async def end_tasks_of(*owners: object | None) -> None:
    """Cancel every task that runs a method of one of `owners`, and wait for them."""
    tasks = [
        task for task in asyncio.all_tasks() if any(_runs_for(task, owner) for owner in owners if owner is not None)
    ]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _runs_for(task: asyncio.Task[Any], owner: object) -> bool:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame is not None and frame.f_locals.get("self") is owner
