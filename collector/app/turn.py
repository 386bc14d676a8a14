"""Whose turn it is at the embedded ledger: a service waits for commands, and commands step aside for a service."""

import asyncio
import logging
import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

from collector.clock import Clock
from collector.errors import LedgerLocked
from collector.ledger.sqlite import lock
from collector.ledger.sqlite.store import Store
from collector.logs import fields

log = logging.getLogger("lineage.service")

LOOK = 0.2
SAID_EVERY = 60.0


def holder() -> str:
    """Who we are in locks and leases: host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


async def opened(path: Path, holder: str, clock: Clock, stop: asyncio.Event) -> Store | None:
    """The ledger for a service, as soon as no command works on it; None when `stop` came first. Raises `LedgerLocked`
    when another service has it, and what else `Store.open` raises.
    """
    said_at, refused = float("-inf"), 0
    with ExitStack() as undo:
        while not stop.is_set():
            try:
                return await asyncio.to_thread(Store.open, path, holder=holder, clock=clock)
            except LedgerLocked as error:
                refused = 0 if error.by_command else refused + 1
                if refused > 1:  # whose it is may not be written yet when the lock has just been taken
                    raise
                if error.by_command and said_at == float("-inf") and (claim := lock.claim(path)) is not None:
                    undo.callback(claim.withdraw)
                if error.by_command and clock.monotonic() - said_at >= SAID_EVERY:
                    log.warning("ledger.awaited", extra=fields(cause=str(error), then="starts when that has ended"))
                    said_at = clock.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK)
    return None
