"""Waits until the ledger is lost, and writes its file to a new one then."""

import asyncio
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path

from collector.clock import Clock
from collector.errors import LedgerError, LedgerLost, LedgerTooNew
from collector.ledger.port import Change, OwnedLedger
from collector.ledger.sqlite.store import Store
from collector.logs import fields

log = logging.getLogger("lineage.ledger")

AGAIN = 10.0


def free_bytes(path: Path | None) -> float:
    """Bytes that this user may still write to the ledger's file system; NaN if that is unknown, as in PostgreSQL."""
    if path is None:
        return math.nan
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return math.nan
    return float(room.f_bavail * room.f_frsize)


async def guard(store: OwnedLedger, clock: Clock, report_lost: Callable[[], None]) -> None:
    """Until the ledger is lost, and a file was written anew; raises `LedgerLost` then, as only a new start can use it, and
    `LedgerTooNew` where a newer version migrated it.
    """
    lost = await _loss(store)
    if not isinstance(store, Store):
        raise LedgerTooNew(lost)
    report_lost()
    while True:
        try:
            where = await store.rescue()
        except LedgerError as error:
            log.critical("ledger.unrescued", extra=fields(cause=str(error), then=f"tried again in {AGAIN:.0f} s"))
            await clock.sleep(AGAIN)
        else:
            break
    then = "the next start continues with it" if where == store.path else _ASIDE.format(path=store.path)
    log.critical("ledger.rescued", extra=fields(path=str(where), cause=store.lost, then=then))
    raise LedgerLost(f"ledger {store.path}: {store.lost}; all that was committed is in {where}: {then}")


_ASIDE = "another ledger is at {path}. To continue with the copy, stop the service and rename the copy to that name"


async def _loss(store: OwnedLedger) -> str:
    """Waits for it. An idle process notices it, too, as each replica's heartbeat is a commit, and each commit looks at the file."""
    came = asyncio.Event()
    forget = store.on_commit(came.set, Change.LOSS)
    try:
        while store.lost is None:
            await came.wait()
            came.clear()
    finally:
        forget()
    return store.lost
