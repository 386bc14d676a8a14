"""What a command shows again and again until the user ends it: `runs --follow`, `status --watch`."""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Never, TypeVar

from collector.clock import Clock
from collector.errors import LineageError
from collector.redaction import redacted

V = TypeVar("V")
Show = Callable[[V, datetime], None]

LOOK_EVERY = 2.0
"""Seconds between two looks."""
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def run(look: Callable[[], Awaitable[V]], show: Show[V], clock: Clock) -> Never:
    """Until Ctrl-C, which is a `KeyboardInterrupt`. A first look that fails is raised; later failures are said, and the
    next look follows: the service or its database may be restarted meanwhile.
    """
    asyncio.run(_for_ever(look, show, clock))
    raise AssertionError("it goes on until it is interrupted")


async def _for_ever(look: Callable[[], Awaitable[V]], show: Show[V], clock: Clock) -> Never:
    show(await look(), clock.now())
    said: str | None = None
    while True:
        await clock.sleep(LOOK_EVERY)
        try:
            show(await look(), clock.now())
            said = None
        except LineageError as error:
            if said != (said := redacted(str(error))):
                print(f"{said}; looking again every {LOOK_EVERY:.0f} s", file=sys.stderr, flush=True)


def redraw(draw: Callable[[], object]) -> None:
    """On a cleared terminal."""
    print(_CLEAR, end="")
    draw()
    print("\nCtrl-C ends this.", flush=True)


def room() -> int:
    """Rows of a table that fit on the terminal, beside its head and what is below it."""
    return max(3, shutil.get_terminal_size().lines - 5)
