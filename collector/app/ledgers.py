"""Opens the ledger of the configuration, a file or a schema in PostgreSQL; a service waits for commands that work on a file, and they
step aside for it.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from collector.clock import Clock
from collector.errors import LedgerLocked, LedgerMissing
from collector.ledger import replicas
from collector.ledger.port import Ledger as Port
from collector.ledger.port import OwnedLedger
from collector.ledger.postgres import preparation
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store as PostgresStore
from collector.ledger.sqlite import lock
from collector.ledger.sqlite.store import Store as FileStore
from collector.logs import fields
from collector.secret_registry import secret_registry
from config.settings import Ledger

log = logging.getLogger("lineage.service")

LOOK = 0.2
SAID_EVERY = 60.0

T = TypeVar("T")


def opened(settings: Ledger, clock: Clock, *, command: bool = False) -> OwnedLedger:
    """To work on, migrated: a file for this process alone. `command` says that it soon ends by itself. Raises `LedgerLocked`,
    `LedgerTooNew` and `LedgerError`.
    """
    found = database(settings)
    if found is not None:
        return PostgresStore.open(found)
    return FileStore.open(settings.path.absolute(), holder=holder(), clock=clock, command=command)


def opened_readonly(settings: Ledger) -> OwnedLedger:
    """Beside a running service or without one. Raises `LedgerTooNew` and `LedgerError`."""
    found = database(settings)
    return FileStore.open_readonly(settings.path.absolute()) if found is None else PostgresStore.open_readonly(found)


@asynccontextmanager
async def reading(settings: Ledger) -> AsyncIterator[OwnedLedger]:
    """As `opened_readonly`, closed again at the end."""
    store = await asyncio.to_thread(opened_readonly, settings)
    try:
        yield store
    finally:
        await store.close()


def opened_beside(settings: Ledger) -> OwnedLedger | None:
    """To leave a request for services elsewhere; None where that cannot be, or no ledger is there. Raises `LedgerError`."""
    found = database(settings)
    try:
        return None if found is None else PostgresStore.open_beside(found)
    except LedgerMissing:
        return None


def exists(settings: Ledger) -> bool:
    """Whether there may be one. Raises `LedgerError` where the first start could not create it."""
    if settings.url is not None or settings.path.exists():
        return True
    lock.refuse_far_folder(settings.path.absolute())
    return False


def host(conn: Connection) -> str | None:
    """Which of the hosts in `ledger.url` answers on this connection; None for a file."""
    if conn.dialect.name == "sqlite":
        return None
    info = conn.connection.driver_connection.info  # type: ignore[union-attr]
    return f"{info.host}:{info.port}"


def risks(conn: Connection) -> list[str]:
    """What may lose commits, in words; none for a file, which we open ourselves."""
    return [] if conn.dialect.name == "sqlite" else preparation.risks(conn)


def check_writable(conn: Connection, settings: Ledger) -> None:
    """Raises `LedgerError` where the user in `ledger.url` may only read; a file says so when it is opened."""
    if (found := database(settings)) is not None:
        preparation.check_writable(conn, found)


def is_reserved(settings: Ledger) -> bool:
    """Whether a service waits for the file that a command works on. In PostgreSQL none has to wait."""
    return settings.url is None and lock.is_reserved(settings.path)


async def is_wanted(settings: Ledger, store: Port) -> bool:
    """Whether a service is there or waits, so that the command that works on `store` may leave the rest to it."""
    if settings.url is None:
        return lock.is_reserved(settings.path)
    return bool(await store.read_shown(replicas.services))


def database(settings: Ledger) -> Database | None:
    """The database of the ledger; None for a file. Its password is hidden in all texts."""
    if settings.url is None:
        return None
    secret = settings.password_file or settings.password
    if secret is not None:
        secret.on_change(partial(secret_registry.learn, "ledger.password"))
    return Database(settings.url, settings.schema, lambda: settings.current_password, settings.notify)


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
