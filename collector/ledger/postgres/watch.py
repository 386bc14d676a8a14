"""Looks twice a second at what other processes did to the ledger, by one statement on a separate connection.

It also notices a server that gives no answer, as when its machine is frozen or the network drops what is sent: TCP alone
would wait for it for ever. A standby does little else than this, so a look wakes its thread twice: when it is time, and when
the answer is there.
"""

import logging
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from collector.errors import LedgerUnreachable
from collector.ledger.migration import Version, report_newer
from collector.ledger.port import Change
from collector.ledger.postgres.connections import Connections
from collector.ledger.postgres.database import Database
from collector.logs import fields

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

    from collector.ledger.postgres.database import Connected

log = logging.getLogger("lineage.ledger")

Row = tuple[bytes | None, ...]

LOOK = 0.5
"""Seconds between two looks."""
SILENT_AFTER = 15.0
"""Seconds without an answer to a look, which takes a millisecond, until all connections are cut."""
ENDED_WITHIN = 10.0
_SHOWN = 100
"""Requests that are looked at; the holders of their leases find the rest behind them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found: the newest event, how many are pending, the requests that nobody took up yet, the leases that are free,
    the present and the coming number of shards of each sink, and the sums of what else polls and deliveries change.
    """

    event: int
    requests: frozenset[int]
    free: frozenset[str]
    shards: frozenset[str]
    version: Version
    pending: int = 0
    sums: str = ""

    @classmethod
    def read(cls, row: Row) -> Self:
        """Of the values that `_statement` asks for."""
        values = [None if value is None else value.decode() for value in row]
        event, pending, requests, free, divided, sums, revision, compatible_from = values
        return cls(
            int(event or 0),
            frozenset(map(int, (requests or "").splitlines())),
            frozenset((free or "").splitlines()),
            frozenset((divided or "").splitlines()),
            Version(revision or "", compatible_from),
            int(pending or 0),
            sums or "",
        )

    def changes(self, before: "Seen | None") -> frozenset[Change]:
        """What is new since the look before; everything at the first."""
        if before is None:
            return frozenset(Change)
        changed = {
            # an event may be committed after one with a higher id
            Change.EVENTS: self.event != before.event or self.pending > before.pending,
            Change.REQUESTS: not self.requests <= before.requests,
            Change.LEASES: not self.free <= before.free or self.shards != before.shards,
        }
        return frozenset(change for change, is_new in changed.items() if is_new)


class Watch:
    """`announce` and `outdated` are called in its thread: with what is new (nothing, if only something that pages show has changed),
    and with a version that this program cannot work on, after which it ends.
    """

    def __init__(
        self,
        database: Database,
        connections: Connections,
        announce: Callable[[frozenset[Change]], None],
        outdated: Callable[[Version], None],
    ) -> None:
        self._database, self._connections = database, connections
        self._announce, self._outdated = announce, outdated
        self._statement = _statement(database.schema)
        self._question: Question | None = None
        self._found: tuple[Row, Seen] | None = None
        self._version: Version | None = None
        self._working = threading.Lock()  # held until `stop`: to wait for that costs less than for an event
        self._working.acquire()
        self._thread = threading.Thread(target=self._run, name="ledger-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._working.locked():
            self._working.release()
        if self._thread.is_alive():
            self._thread.join(ENDED_WITHIN)
        self._disconnect()

    def _run(self) -> None:
        before: Seen | None = None
        while not self._working.acquire(timeout=LOOK):
            seen = self._seen()
            if seen is None:
                before = None
                continue
            if not seen.version.is_usable:
                self._outdated(seen.version)
                return
            self._report_newer(seen.version)
            if before is None or seen != before:
                self._announce(seen.changes(before))
            before = seen

    def _report_newer(self, version: Version) -> None:
        if version != self._version and version.is_newer:
            report_newer(version, self._database.name)
        self._version = version

    def _seen(self) -> Seen | None:
        """None when it could not look: the work that waits for the ledger reports that."""
        try:
            if self._question is None:
                self._question = Question(self._connections.connect(), self._statement)
            row = self._question.ask(SILENT_AFTER)
        except TimeoutError:
            self._cut(f"no answer within {SILENT_AFTER:.0f} s")
        except LedgerUnreachable as error:
            if self._database.is_silent(error):  # a look before it may have ended for another reason
                self._cut("no connection in time")
        except self._database.error():
            pass
        else:
            if self._found is None or self._found[0] != row:
                self._found = row, Seen.read(row)
            return self._found[1]
        self._disconnect()
        return None

    def _cut(self, cause: str) -> None:
        cause = f"{cause}: the server is frozen, or the network drops what is sent"
        then = "all connections are cut; what waits for an answer is tried again"
        log.error("ledger.disconnected", extra=fields(path=self._database.name, cause=cause, then=then))
        self._connections.cut()

    def _disconnect(self) -> None:
        if self._question is not None:
            self._question.close()
            self._question = None


class Question:
    """A statement of one row that is asked again and again on a connection, by libpq alone, which needs a third of the time."""

    def __init__(self, connection: "Connected", statement: bytes) -> None:
        self._connection, self._statement = connection, statement
        self._readable = select.poll()
        self._readable.register(connection.pgconn.socket, select.POLLIN)

    def ask(self, within: float) -> Row:
        """The values of the row. Raises the errors of the driver, and `TimeoutError` when there is no answer within so many seconds."""
        from psycopg import OperationalError  # noqa: PLC0415 - for a ledger in PostgreSQL alone

        conn, end = self._connection.pgconn, time.monotonic() + within
        conn.send_query(self._statement)
        conn.flush()
        answer = None
        while (result := self._next_result(conn, end)) is not None:
            answer = result
        if answer is None or not answer.ntuples:
            raise OperationalError(conn.get_error_message())
        return tuple(answer.get_value(0, column) for column in range(answer.nfields))

    def close(self) -> None:
        self._connection.close()

    def _next_result(self, conn: "PGconn", end: float) -> "PGresult | None":
        """None after the last one. Raises `TimeoutError` when it is not there by `end` (monotonic)."""
        while conn.is_busy():
            if not self._readable.poll(max(0.0, end - time.monotonic()) * 1000):
                raise TimeoutError
            conn.consume_input()
        return conn.get_result()


def _statement(schema: str) -> bytes:
    """Of one row. The names are qualified, as nothing may be set for a session."""
    return (
        f'SELECT (SELECT max(id) FROM "{schema}".event), pending, '  # noqa: S608 - the schema's name was checked
        f'array_to_string(ARRAY(SELECT id FROM "{schema}".request '
        f"WHERE done_at IS NULL AND state = 'new' ORDER BY id LIMIT {_SHOWN}), chr(10)), "
        f"array_to_string(ARRAY(SELECT name || ' ' || token FROM \"{schema}\".lease "
        "WHERE expires_at < (extract(epoch from clock_timestamp()) * 1000)::bigint), chr(10)), "
        f"array_to_string(ARRAY(SELECT concat_ws(' ', id, shards, shards_next) FROM \"{schema}\".sink), chr(10)), "
        f"concat_ws(' ', parked, (SELECT sum(polled_at) FROM \"{schema}\".source)), version_num, compatible_from "
        f'FROM "{schema}".alembic_version, '
        f'(SELECT sum(pending) AS pending, sum(parked) AS parked FROM "{schema}".tally) AS tallies'
    ).encode()
