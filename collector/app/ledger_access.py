"""Whose turn it is at a ledger in a file: a service waits for commands, and commands step aside for a service."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from collector.clock import Clock
from collector.errors import LedgerLocked
from collector.ledger.sqlite import lock
from collector.logs import fields

log = logging.getLogger("lineage.service")

LOOK = 0.2
SAID_EVERY = 60.0

T = TypeVar("T")


def holder() -> str:
    """Name of this process in locks and leases: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


async def taken(open_it: Callable[[], T], path: Path, clock: Clock, stop: asyncio.Event) -> T | None:
    """The ledger in the file `path` for a service, as `open_it` opens it, as soon as no command works on it; None when
    `stop` came first. Raises `LedgerLocked` when another service has the file, and what else `open_it` raises.
    """
    said_at, refused = float("-inf"), 0
    with ExitStack() as undo:
        while not stop.is_set():
            try:
                return await asyncio.to_thread(open_it)
            except LedgerLocked as error:
                waits = error.by_command
                refused = 0 if waits else refused + 1
                if refused > 1:  # the holder may not be written yet when the lock has just been taken
                    raise
                if waits and said_at == float("-inf") and (reservation := lock.reserve(path)) is not None:
                    undo.callback(reservation.withdraw)
                if waits and clock.monotonic() - said_at >= SAID_EVERY:
                    log.warning(
                        "ledger.awaited", extra=fields(cause=str(error), then="the service starts when that has ended")
                    )
                    said_at = clock.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK)
    return None
