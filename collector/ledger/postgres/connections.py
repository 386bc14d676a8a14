"""The connections of one store, which can all be cut at once."""

import os
import socket
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from collector.ledger.postgres.database import Database

if TYPE_CHECKING:
    from collector.ledger.postgres.database import Connected


class Connections:
    """Makes them, and remembers those that are open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[Connected] = weakref.WeakSet()

    def engine(self, connections: int, *, writes: bool) -> Engine:
        """As `Database.engine`."""
        return self._database.engine(connections, writes=writes, connect=self.connect)

    def connect(self) -> "Connected":
        """Raises `LedgerUnreachable`."""
        made = self._database.connect()
        with self._lock:
            self._open.add(made)
        return made

    def cut(self) -> None:
        """A caller that waits for an answer on one of them gets an error now, and the next work gets a new connection."""
        with self._lock:
            known = [each for each in self._open if not each.closed]
        for each in known:
            with suppress(OSError, self._database.error()), socket.socket(fileno=os.dup(each.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)
