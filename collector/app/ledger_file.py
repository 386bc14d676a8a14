"""Checks each second whether the ledger's file is still in its place, and writes it to a new file if it is not."""

import logging
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from collector.clock import Clock
from collector.errors import LedgerError, LedgerLost, LedgerTooNew
from collector.ledger.port import OwnedLedger
from collector.ledger.sqlite.store import Store
from collector.logs import fields

log = logging.getLogger("lineage.ledger")

LOOK = 1.0
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
    if not isinstance(store, Store):
        while store.lost is None:
            await clock.sleep(LOOK)
        raise LedgerTooNew(store.lost)
    while store.lost is None:
        if store.is_misplaced:
            with suppress(LedgerError, SQLAlchemyError):  # the housekeeper logs other errors
                await store.write(_nothing)
        await clock.sleep(LOOK)
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


def _nothing(_: Connection) -> None:
    """A commit looks at the file, and notes its loss."""
