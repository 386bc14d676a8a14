"""Looks twice a second at what other processes did to the ledger, by one statement on a separate connection.

It also notices a server that gives no answer, as when its machine is frozen or the network drops what is sent: TCP alone
would wait for it for ever.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotAnswered
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collector.errors import LedgerUnreachable
from collector.ledger.migration import Version, report_newer
from collector.ledger.port import Change
from collector.ledger.postgres.connections import Connections
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.pool import Pool
from collector.logs import fields

if TYPE_CHECKING:
    from collector.ledger.postgres.database import Connected

log = logging.getLogger("lineage.ledger")

LOOK = 0.5
"""Seconds between two looks."""
SILENT_AFTER = 15.0
"""Seconds without an answer to a look, which takes a millisecond, until all connections are cut."""
ENDED_WITHIN = 10.0
_SHOWN = 100
"""Requests that are looked at; the holders of their leases find the rest behind them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found: the newest event, the requests that nobody took up yet, the leases that are free, the present and the
    coming number of shards of each sink, and the sums of what polls and deliveries change.
    """

    event: int
    requests: frozenset[int]
    free: frozenset[str]
    shards: frozenset[str]
    version: Version
    sums: str = ""

    def changes(self, before: "Seen | None") -> frozenset[Change]:
        """What is new since the look before; everything at the first."""
        if before is None:
            return frozenset(Change)
        changed = {
            Change.EVENTS: self.event != before.event,
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
        self._connection: Connected | None = None
        self._version: Version | None = None
        self._pool = Pool("ledger-look", 1, self._look)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(ENDED_WITHIN)
        self._pool.stop(1.0)
        if self._connection is not None:
            self._connection.close()

    def _run(self) -> None:
        before: Seen | None = None
        while not self._closing.wait(LOOK):
            seen = self._seen()
            if seen is None:
                before = None
                continue
            if not seen.version.is_usable:
                self._outdated(seen.version)
                return
            self._report_newer(seen.version)
            if (changes := seen.changes(before)) or before is None or seen.sums != before.sums:
                self._announce(changes)
            before = seen

    def _report_newer(self, version: Version) -> None:
        if version != self._version and version.is_newer:
            report_newer(version, self._database.name)
        self._version = version

    def _seen(self) -> Seen | None:
        """None when it could not look: the work that waits for the ledger reports that."""
        answer = self._pool.submit(lambda connection: connection.execute(self._statement).fetchone())
        try:
            event, requests, free, shards, sums, *version = answer.result(SILENT_AFTER)
        except NotAnswered:
            then = "all connections are cut; what waits for an answer is tried again"
            cause = f"no answer within {SILENT_AFTER:.0f} s: the server is frozen, or the network drops what is sent"
            log.error("ledger.disconnected", extra=fields(path=self._database.name, cause=cause, then=then))  # noqa: TRY400
            self._connections.cut()
            return None
        except (self._database.error(), LedgerUnreachable):
            return None
        return Seen(event, frozenset(requests), frozenset(free), frozenset(shards), Version(*version), sums)

    def _look(self, work: Callable[["Connected"], Any]) -> Any:
        try:
            if self._connection is None:
                self._connection = self._connections.connect()
                self._connection.autocommit = True
            return work(self._connection)
        except BaseException:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            raise


def _statement(schema: str) -> bytes:
    """Of one row. The names are qualified, as nothing may be set for a session."""
    return (
        f'SELECT coalesce((SELECT max(id) FROM "{schema}".event), 0), '  # noqa: S608 - the schema's name was checked
        f"ARRAY(SELECT id FROM \"{schema}\".request WHERE done_at IS NULL AND state = 'new' ORDER BY id LIMIT {_SHOWN}), "
        f"ARRAY(SELECT name || ' ' || token FROM \"{schema}\".lease "
        "WHERE expires_at < (extract(epoch from clock_timestamp()) * 1000)::bigint), "
        f"ARRAY(SELECT concat_ws(' ', id, shards, shards_next) FROM \"{schema}\".sink), "
        f"(SELECT concat_ws(' ', sum(pending), sum(parked)) FROM \"{schema}\".tally) || ' ' || "
        f'(SELECT coalesce(sum(polled_at), 0) FROM "{schema}".source), '
        f'version_num, compatible_from FROM "{schema}".alembic_version'
    ).encode()
