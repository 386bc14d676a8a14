"""What the ledger's tests share: runs to commit, and a ledger on a plain connection with one source and its sinks."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, Engine, func, insert, select, update

from collector.clock import to_ms
from collector.ledger import claims, configured_sinks, configured_sources, leases, runs, schema
from collector.ledger.claims import Refused, Retried, Settlement, SettleResult
from collector.ledger.configured_sources import Configured
from collector.ledger.leases import Lease
from collector.ledger.postgres import preparation
from collector.ledger.postgres.database import Database
from collector.ledger.runs import NewEvent, PollCommit, RunChange
from collector.ledger.shards import WHOLE, Shard
from collector.ledger.sqlite import file
from collector.ledger.sqlite.store import Store
from collector.model import EventKind, Job, Outgoing, Parent, Run, RunState, Skip
from collector.testing.clock import SimulatedClock
from tests.servers.postgres import PASSWORD, PostgresServer

OTHER, START, RUNNING = EventKind.OTHER, EventKind.START, EventKind.RUNNING
COMPLETE, FAIL, ABORT = EventKind.COMPLETE, EventKind.FAIL, EventKind.ABORT
ALL = frozenset(EventKind)
ENDS = frozenset({START, COMPLETE, FAIL, ABORT})

T0 = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOW = to_ms(T0)
SECOND = 1000
HOUR = 3_600_000

_NAMES = UUID("7a1c1a0e-2f7e-4a0e-9a51-3b2c0a3e11aa")
_STATES = {
    OTHER: RunState.QUEUED,
    START: RunState.RUNNING,
    RUNNING: RunState.WAITING,
    COMPLETE: RunState.SUCCEEDED,
    FAIL: RunState.FAILED,
    ABORT: RunState.CANCELED,
}


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def a_job(name: str = "transformation/1") -> Job:
    return Job(key=name, namespace="cdf://host/project", name=name, kind="QUERY", integration="CDF")


def a_run(key: str, state: RunState = RunState.RUNNING, **more: Any) -> Run:
    values: dict[str, Any] = {
        "run_id": uuid5(_NAMES, key),
        "job": a_job(),
        "raw_state": state.value,
        "seen_at": T0,
        "progressed_at": T0,
    }
    return Run(key=key, state=state, **{**values, **more})


def child_of(key: str) -> Parent:
    return Parent(run_id=uuid5(_NAMES, key), namespace="cdf://host/project", job="transformation/1", key=key)


def change(known: Run | None, key: str, kinds: Iterable[EventKind], now_ms: int, **more: Any) -> RunChange:
    """What a poll at that time makes of a run that did these things."""
    run, events, moment = known, [], at(now_ms)
    for kind in kinds:
        times: dict[str, Any] = {"seen_at": moment, "last_event_at": moment, "state": _STATES[kind]}
        times |= {"started_at": moment} if kind is START else {}
        times |= {"ended_at": moment} if kind.terminal else {}
        fields = {name: getattr(run, name) for name in Run.__slots__} if run else {}
        run = a_run(key, **{**{k: v for k, v in fields.items() if k != "key"}, **times, **more})
        events.append(NewEvent(kind, f"{key} {kind}".encode(), now_ms))
    return RunChange(run or a_run(key, **more), tuple(events))


@dataclass
class Ledger:
    """One source, `source`, and the sinks that were configured, each with its lease."""

    conn: Connection
    source: int = 0
    lease: Lease = field(init=False)
    sinks: dict[str, int] = field(default_factory=dict)
    held: dict[str, Lease] = field(default_factory=dict)
    now: int = NOW

    def configure(self, **sinks: frozenset[EventKind]) -> Mapping[str, int]:
        self.source = configured_sources.sync_sources(self.conn, [Configured("source")], self.now)["source"]
        self.lease = self._take("source:source")
        self.sinks = configured_sinks.sync_sinks(self.conn, sinks, self.now)
        self.held = {name: self._take(f"sink:{name}") for name in sinks}
        return self.sinks

    def _take(self, name: str) -> Lease:
        lease = leases.take(self.conn, name, "test", 60_000)
        assert lease is not None
        return lease

    def take(self, sink: str, shard: Shard, holder: str, *, clock_ms: int = 0) -> Lease | None:
        """As a delivery takes it, with this much on its clock beyond ours."""
        of_sink, now_ms = self.sinks[sink], self.now + clock_ms
        with self.conn.begin_nested():
            return configured_sinks.take_lease(
                self.conn,
                shard.lease_name(sink),
                holder,
                60_000,
                sink_id=of_sink,
                shard=shard,
                now_ms=now_ms,
                rechecks=True,
            )

    def take_over(self, sink: str = "a", shard: Shard = WHOLE, *, clock_ms: int = 0) -> Lease:
        """The holder of a sink's lease was killed, and another one takes it over."""
        name = shard.lease_name(sink)
        self.conn.execute(update(schema.lease).where(schema.lease.c.name == name).values(expires_at=1))
        lease = self.take(sink, shard, "another", clock_ms=clock_ms)
        assert lease is not None
        assert not lease.clean
        if shard == WHOLE:
            self.held[sink] = lease
        return lease

    def happen(self, key: str, *kinds: EventKind, **more: Any) -> None:
        """One poll in which one run did these things."""
        self.poll((key, kinds, more))

    def poll(self, *seen: tuple[str, Iterable[EventKind], Mapping[str, Any]], skips: tuple[Skip, ...] = ()) -> None:
        known = runs.by_keys(self.conn, self.source, [key for key, _, _ in seen])
        changes = tuple(change(known.get(key), key, kinds, self.now, **more) for key, kinds, more in seen)
        self.commit(*changes, skips=skips)

    def commit(self, *changes: RunChange, **more: Any) -> None:
        runs.commit_poll(self.conn, PollCommit(self.lease, self.source, changes, **more), self.now)

    def claim(self, sink: str = "a", limit: int = 100) -> list[Outgoing]:
        return claims.claim(self.conn, self.sinks[sink], self.now, limit)

    def heads(self, sink: str = "a") -> list[str]:
        return [item.body.decode() for item in self.claim(sink)]

    def settle(self, settlement: Settlement, sink: str = "a", recheck_at: int | None = None) -> SettleResult:
        return claims.settle(self.conn, self.held[sink], self.sinks[sink], settlement, self.now, recheck_at)

    def deliver(self, *items: Outgoing, sink: str = "a", recheck_at: int | None = None) -> SettleResult:
        return self.settle(Settlement(delivered=items or tuple(self.claim(sink))), sink, recheck_at)

    def park(self, *items: Outgoing, sink: str = "a", cause: str = "refused") -> SettleResult:
        chosen = items or tuple(self.claim(sink))
        return self.settle(Settlement(parked=tuple(Refused(item, cause) for item in chosen)), sink)

    def postpone(
        self, *items: Outgoing, sink: str = "a", unanswered: bool = False, recheck_at: int | None = None
    ) -> None:
        chosen = items or tuple(self.claim(sink))
        later = tuple(Retried(item, self.now + SECOND, "no connection", unanswered) for item in chosen)
        self.settle(Settlement(retried=later), sink, recheck_at)

    def drain(self, sink: str = "a") -> list[str]:
        """Deliver all that is due, in the order in which it is sent."""
        sent: list[str] = []
        while items := self.claim(sink):
            sent += [item.body.decode() for item in items]
            self.deliver(*items, sink=sink)
        return sent

    def tally(self, sink: str = "a") -> tuple[int, int]:
        table = schema.tally
        rows = select(table.c.pending, table.c.parked).where(table.c.sink_id == self.sinks[sink])
        found = self.conn.execute(rows).one_or_none()
        return (0, 0) if found is None else (found[0], found[1])

    def owed_bytes(self, sink: str = "a") -> int:
        table = schema.tally
        sizes = select(func.sum(table.c.pending_bytes)).where(table.c.sink_id == self.sinks[sink])
        return int(self.conn.scalar(sizes) or 0)

    def changes(self) -> int:
        """Rows that were written on this connection."""
        return int(self.conn.exec_driver_sql(_CHANGES[self.conn.dialect.name]).scalar_one())

    def rows(self, table: str) -> int:
        return int(self.conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


_CHANGES = {
    "sqlite": "SELECT total_changes()",
    "postgresql": "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_xact_user_tables",
}


def engine(path: Path) -> Engine:
    """A ledger without its store: the schema made from the tables and no syncs, which is quicker."""
    connection = file.connect_writer(path)
    connection.execute("PRAGMA synchronous=OFF")
    made = file.engine(connection, writes=True)
    with made.begin() as conn:
        schema.metadata.create_all(conn)
    return made


@cache
def _postgres_engine(server: PostgresServer) -> Engine:
    database = Database(server.url(server.new_database()), "lineage", lambda: PASSWORD)
    made = database.engine(5, writes=True)
    with made.begin() as conn:
        preparation.migrate(conn, database)
    return made


@contextmanager
def opened_in(server: PostgresServer) -> Iterator[Ledger]:
    """As `opened`, in PostgreSQL: one transaction, which is rolled back."""
    with _postgres_engine(server).connect() as conn:
        numbered = [table for table in schema.metadata.tables.values() if "id" in table.c and table.c.id.identity]
        first = ", ".join(f"setval('{table.name}_id_seq', 1, false)" for table in numbered)
        conn.exec_driver_sql(f"SELECT {first}")
        yield Ledger(conn)
        conn.rollback()
        conn.info.clear()  # what was remembered of runs that are gone now


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    made = engine(path)
    try:
        with made.begin() as conn:
            yield Ledger(conn)
    finally:
        made.dispose()


def later(**more: float) -> datetime:
    return T0 + timedelta(**more)


def add(conn: Connection, name: str) -> str:
    """A source that a store test writes; its name."""
    conn.execute(insert(schema.source).values(name=name))
    return name


def names(conn: Connection) -> list[str]:
    """Of all sources."""
    return list(conn.scalars(select(schema.source.c.name).order_by(schema.source.c.name)))


def in_ledger(path: Path, work: Callable[[Connection], object]) -> None:
    """Do this in a commit of the ledger in that file, which is made where there is none."""

    async def write() -> None:
        store = await asyncio.to_thread(Store.open, path, holder="test", clock=SimulatedClock(T0))
        await store.write(work)
        await store.close()

    asyncio.run(write())
