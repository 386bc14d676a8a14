"""Hears at once, by LISTEN, what other processes commit; the look of `Watch` goes on beside it and finds what this misses."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from collector.errors import LedgerUnreachable
from collector.ledger.port import Change
from collector.ledger.postgres.connections import Connections
from collector.ledger.postgres.database import Database
from collector.logs import fields

if TYPE_CHECKING:
    from collector.ledger.postgres.database import Connected

log = logging.getLogger("lineage.ledger")

HEAR = 1.0
"""Seconds between two looks whether to end."""
AGAIN = 2.0
"""Seconds until the next try to connect: the work that waits for the ledger reports what is wrong."""
_ENDED_WITHIN = 10.0


class Notices:
    """`announce` is called in its thread with what another process than `sender` committed."""

    def __init__(
        self,
        database: Database,
        connections: Connections,
        sender: str,
        announce: Callable[[frozenset[Change]], None],
    ) -> None:
        self._database, self._connections = database, connections
        self._sender, self._announce = sender, announce
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-notices", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_ENDED_WITHIN)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with self._connections.connect() as connection:
                    if not self._listens(connection):
                        return
                    self._hear(connection)
            except (self._database.error(), LedgerUnreachable):
                self._closing.wait(AGAIN)

    def _listens(self, connection: "Connected") -> bool:
        connection.autocommit = True
        [process] = connection.execute("SELECT pg_backend_pid()").fetchone() or [None]
        if process != connection.info.backend_pid:  # a pooler gives this connection a number of its own
            cause = "ledger.url leads to a pooler (such as pgbouncer), where a connection has no session of its own"
            then = "what other replicas commit is found by a look twice a second; name the database itself, or leave ledger.notify out"
            log.warning("ledger.unnotified", extra=fields(path=self._database.name, cause=cause, then=then))
            return False
        connection.execute(f'LISTEN "{channel(self._database.schema)}"'.encode())
        self._announce(frozenset(Change))  # what was committed before
        return True

    def _hear(self, connection: "Connected") -> None:
        while not self._closing.is_set():
            for notice in connection.notifies(timeout=HEAR, stop_after=1):
                sender, *changes = notice.payload.split()
                if sender != self._sender:
                    self._announce(frozenset(change for change in Change if change in changes))


def channel(schema: str) -> str:
    """On which commits to this schema are notified; at most 63 bytes, as all names."""
    return f"lineage {schema}"[:63]


def payload(sender: str, changes: frozenset[Change]) -> str:
    return " ".join([sender, *sorted(changes)])
