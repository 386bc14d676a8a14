"""The store in PostgreSQL: its threads, other stores beside it, what becomes of callers, and what it refuses."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, delete, select, text, update
from sqlalchemy.exc import DBAPIError

from collector.app.ledger_file import guard
from collector.clock import SystemClock
from collector.errors import ConfigurationError, LeaseLost, LedgerError, LedgerTooNew, LedgerUnreachable
from collector.ledger import (
    claims,
    configured_sinks,
    configured_sources,
    leases,
    queries,
    replicas,
    requests,
    runs,
    schema,
    shard_count,
)
from collector.ledger.claims import Settlement
from collector.ledger.configured_sources import Configured
from collector.ledger.port import Change
from collector.ledger.postgres import faults, preparation, watch
from collector.ledger.postgres import store as module
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.pool import Pool
from collector.ledger.postgres.store import Store
from collector.ledger.replicas import Replica
from collector.ledger.runs import PollCommit
from collector.reports import WriteFailure
from tests.servers.ports import free_port
from tests.servers.postgres import PASSWORD, USER, PostgresServer
from tests.unit.ledger.ledgers import ALL, NOW, START, Ledger, add, change, names


@pytest.fixture
def database(postgres: PostgresServer) -> Database:
    return Database(postgres.url(postgres.new_database()), "lineage", lambda: PASSWORD)


def test_a_missing_driver_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        assert name == "psycopg"

    monkeypatch.setattr("collector.ledger.postgres.database.find_spec", absent)
    for open_it in (Store.open_readonly, Store.open):
        with pytest.raises(ConfigurationError, match=r"^ledger\.url: the package psycopg is not installed"):
            open_it(Database("postgresql://127.0.0.1/x", "lineage"))


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    made = await asyncio.to_thread(Store.open, database)
    yield made
    await made.close()


async def test_what_is_written_is_read(store: Store) -> None:
    assert await store.write(add, "one") == "one"
    assert await store.write_first(add, "two") == "two"
    for read in (store.read, store.read_claim, store.read_shown):
        assert await read(names) == ["one", "two"]
        with pytest.raises(LedgerError, match="read-only transaction"):
            await read(add, "three")


async def test_what_a_function_raises_undoes_its_work_and_its_words_repeat_no_values(store: Store) -> None:
    def breaks(conn: Connection) -> None:
        add(conn, "half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.write(breaks)
    await store.write(add, "customer-4711")
    with pytest.raises(LedgerError, match='unique constraint "source_name_key"; nothing was committed') as caught:
        await store.write(add, "customer-4711")
    assert "4711" not in str(caught.value)
    assert await store.read(names) == ["customer-4711"]


async def test_a_commit_happens_though_its_caller_was_cancelled(store: Store) -> None:
    begun, gate = threading.Event(), threading.Event()

    def slow(conn: Connection) -> None:
        begun.set()
        assert gate.wait(10)
        add(conn, "one")

    task = asyncio.create_task(store.write(slow))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gate.set()
    await store.close()
    assert task.cancelled()
    with store._engines[0].connect() as conn:
        assert names(conn) == ["one"]


async def test_two_that_lock_each_other_out_are_both_done(store: Store) -> None:
    for name in "ab":
        await store.write(add, name)
    both, tries = threading.Barrier(2), list[str]()

    def swap(conn: Connection, first: str, second: str) -> None:
        tries.append(first)
        for name in (first, second):
            conn.execute(update(schema.source).where(schema.source.c.name == name).values(cursor=first))
            if name == first and len(tries) <= 2:
                both.wait(10)

    await asyncio.gather(store.write(swap, "a", "b"), store.write(swap, "b", "a"))
    assert len(tries) == 3


@pytest.fixture
async def other(store: Store, database: Database) -> AsyncIterator[Store]:
    """The same ledger as another process has it open."""
    made = await asyncio.to_thread(Store.open, database)
    yield made
    await made.close()


async def test_a_lease_is_held_by_one_store_at_a_time_and_fences_the_commits_of_its_former_holder(
    store: Store, other: Store
) -> None:
    first = await store.write(leases.take, "source:a", "first", 60_000)
    assert first is not None
    assert await other.write(leases.take, "source:a", "second", 60_000) is None
    await store.write(lambda conn: conn.execute(update(schema.lease).values(expires_at=1)))
    second = await other.write(leases.take, "source:a", "second", 60_000)
    assert second is not None
    assert not second.clean
    with pytest.raises(LeaseLost, match="nothing was committed"):
        await store.write(leases.fence, first)
    await other.write(leases.fence, second)


@pytest.fixture
async def blind(other: Store, database: Database) -> AsyncIterator[Store]:
    """The same ledger, in a process that does not look yet at what others commit: whoever listens from now on misses nothing."""
    made = Store(database, writes=True)
    yield made
    await made.close()


async def test_what_another_store_commits_is_noticed(blind: Store, other: Store) -> None:
    rung = {kind: asyncio.Event() for kind in Change}
    for kind, event in rung.items():
        blind.on_commit(event.set, kind)
    blind._watch.start()

    async def noticed(kind: Change) -> None:
        async with asyncio.timeout(20):
            await rung[kind].wait()

    for kind in Change:  # all is new at the first look
        await noticed(kind)
    lease = await other.write(leases.take, "source:a", "second", 60_000)
    assert lease is not None
    number = (await other.write(configured_sources.sync_sources, [Configured("source")], NOW))["source"]
    await asyncio.sleep(3 * watch.LOOK)
    for event in rung.values():
        event.clear()
    held = await other.write(leases.take, "source:source", "second", 60_000)
    assert held is not None
    await other.write(runs.commit_poll, PollCommit(held, number, (change(None, "r", [START], NOW),)), NOW)
    await noticed(Change.EVENTS)
    assert not rung[Change.LEASES].is_set()
    await other.write(requests.add, requests.RequestKind.RETRY, "sink:a", "{}", NOW)
    await noticed(Change.REQUESTS)
    await other.write(leases.give_back, lease)
    await noticed(Change.LEASES)
    rung[Change.LEASES].clear()
    await other.write(leases.renew, held, 1)
    await noticed(Change.LEASES)


async def test_that_another_store_gives_a_sink_other_shards_is_noticed(blind: Store, other: Store) -> None:
    await other.write(configured_sinks.sync_sinks, {"a": ALL}, NOW)
    rung = asyncio.Event()
    blind.on_commit(rung.set, Change.LEASES)
    blind._watch.start()
    async with asyncio.timeout(20):
        for wanted in (3, 2):
            await rung.wait()  # all is new at the first look
            rung.clear()
            await other.write(shard_count.note_agreed, [{"a": wanted}])
        await rung.wait()


async def test_pages_notice_what_another_store_delivers(blind: Store, other: Store) -> None:
    kept: list[Ledger] = []

    def owed(conn: Connection) -> None:
        kept.append(ledger := Ledger(conn))
        ledger.configure(a=ALL)
        ledger.happen("r", START)

    def delivered(conn: Connection) -> None:
        kept[0].conn = conn
        kept[0].drain()
        conn.execute(delete(schema.lease))  # one that ends is noticed, too

    shown, sent = asyncio.Event(), asyncio.Event()
    blind.on_commit(shown.set)
    blind.on_commit(sent.set, Change.EVENTS)
    blind._watch.start()

    async def noticed(event: asyncio.Event) -> None:
        async with asyncio.timeout(60):
            await event.wait()
        shown.clear()
        sent.clear()

    await noticed(sent)  # all is new at the first look
    await other.write(owed)
    await noticed(sent)
    await other.write(delivered)
    async with asyncio.timeout(60):
        await shown.wait()
    assert not sent.is_set(), "no delivery is woken by it"


async def test_a_commit_that_is_notified_is_noticed_without_a_look(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK", 3600.0)
    one = await asyncio.to_thread(Store.open, database)
    other = await asyncio.to_thread(Store.open, replace(database, notify=True))
    noticed = asyncio.Queue[Change]()
    for each in Change:
        one.on_commit(partial(noticed.put_nowait, each), each)
    one._notifies = True  # from when all of it is heard
    one._notices.start()

    async def next_change() -> Change:
        async with asyncio.timeout(60):
            return await noticed.get()

    try:
        assert {await next_change() for _ in Change} == set(Change), "all, as soon as it listens"
        await other.write(requests.add, requests.RequestKind.RETRY, "sink:a", "{}", NOW)
        assert await next_change() is Change.REQUESTS
        held = await other.write(leases.take, "source:a", "other", 60_000)
        assert held is not None
        await other.write(leases.give_back, held)
        assert await next_change() is Change.LEASES
        one._connections.cut()
        assert {await next_change() for _ in Change} == set(Change), "what came meanwhile may have been missed"
        await one.write(requests.add, requests.RequestKind.RETRY, "sink:a", "{}", NOW)
        await other.write(leases.give_back, held)
        assert [await next_change() for _ in range(2)] == [Change.REQUESTS, Change.LEASES], "its own is announced once"
    finally:
        for opened in (one, other):
            await opened.close()


async def test_a_schema_to_which_a_newer_version_only_added_is_logged_once(
    store: Store, other: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await other.write(lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    looks = asyncio.Queue[None]()
    store.on_commit(lambda: looks.put_nowait(None), Change.REQUESTS)

    def newer() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.getMessage() == "ledger.newer"]

    async with asyncio.timeout(60):
        while len(newer()) < 2:  # each of the two looks
            await asyncio.sleep(0.02)
        for sink in ("sink:a", "sink:b"):
            await other.write(requests.add, requests.RequestKind.RETRY, sink, "{}", NOW)
            await looks.get()
    assert store.lost is None
    assert len(newer()) == 2
    assert "has schema 9999, made by a newer version" in newer()[0].fields["cause"]  # type: ignore[attr-defined]


async def test_a_schema_that_a_newer_version_migrated_under_it_ends_the_process(
    store: Store, other: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await other.write(
        lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999', compatible_from = '9999'"))
    )
    with pytest.raises(LedgerTooNew, match=r"has schema 9999 now, made by a newer .* cannot go on with it: install"):
        async with asyncio.timeout(20):
            await guard(store, SystemClock(), lambda: None)
    assert [r.levelno for r in caplog.records if r.getMessage() == "ledger.outdated"][:1] == [logging.CRITICAL]
    assert await store.write(leases.take, "source:a", "test", 1) is not None, "leases can still be given back"


def test_a_settle_between_two_reads_of_a_recount_is_counted(database: Database) -> None:
    """Another replica delivers while one starts, which counts afresh."""
    engine = database.engine(3, writes=True)
    with engine.begin() as conn:
        preparation.migrate(conn, database)
        source = configured_sources.sync_sources(conn, [Configured("source")], NOW)["source"]
        number = configured_sinks.sync_sinks(conn, {"a": ALL}, NOW)["a"]
        held = leases.take(conn, "source:source", "test", 60_000)
        feeds = leases.take(conn, "sink:a", "test", 60_000)
        assert held is not None
        assert feeds is not None
        runs.commit_poll(conn, PollCommit(held, source, (change(None, "r", [START], NOW),)), NOW)
        [head] = claims.claim(conn, number, NOW + 1, 10, 0)

    def recounted() -> None:
        with engine.begin() as conn:
            configured_sinks.sync_sinks(conn, {"a": ALL}, NOW)

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as conn:
            claims.settle(conn, feeds, number, Settlement(delivered=(head,)), NOW, None)
            waiting = pool.submit(recounted)
            _until_blocked(database)
        waiting.result(20)
    with engine.connect() as conn:
        assert [row.pending for row in queries.sinks(conn)] == [0]
    engine.dispose()


async def test_a_server_that_only_reads_is_left_for_another_one(
    postgres: PostgresServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a fail-over to a standby: connections to the former primary would go on for ever."""
    store = await asyncio.to_thread(Store.open, database)
    failures: list[WriteFailure] = []
    store.on_failure(failures.append)
    monkeypatch.setattr(module, "CUT_EVERY", 0.0)
    name = database.url.rpartition("/")[2]
    await store.write(add, "before")
    executed(postgres, database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store._connections.cut()  # its connections know the setting from now on
    async with asyncio.timeout(20):
        while WriteFailure.READ_ONLY not in failures:
            with pytest.raises(
                LedgerUnreachable, match=r"read-only transaction; nothing was committed|does not answer"
            ):
                await store.write(add, "refused")
    with postgres.connect() as conn:
        conn.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
    async with asyncio.timeout(20):
        while True:
            try:
                await store.write(add, "after")
                break
            except LedgerUnreachable:
                await asyncio.sleep(0.05)
    assert await store.read(names) == ["after", "before"]
    await store.close()


async def test_a_frozen_server_is_noticed_and_what_waits_for_it_ends(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "SILENT_AFTER", 2.0)
    url = own_postgres.url(own_postgres.new_database())
    database = Database(f"{url}?connect_timeout=3", "lineage", lambda: PASSWORD)
    store = await asyncio.to_thread(Store.open, database)
    await store.write(add, "before")
    own_postgres.pause()
    for call in (store.write(add, "lost"), store.write_first(add, "lost"), store.read(names)):
        with pytest.raises(LedgerUnreachable, match=r"cannot be reached|does not answer"):
            async with asyncio.timeout(60):
                await call
    assert [r.levelno for r in caplog.records if r.getMessage() == "ledger.disconnected"][:1] == [logging.ERROR]
    own_postgres.resume()
    async with asyncio.timeout(60):
        while True:
            try:
                await store.write(add, "after")
                break
            except LedgerUnreachable:
                await asyncio.sleep(0.1)
    assert await store.read(names) == ["after", "before"]
    await store.close()


def test_all_threads_are_waited_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is frozen must not hold up the stop once for each kind of work."""
    store = Store(Database("postgresql://nobody@127.0.0.1:1/none", "lineage"), writes=True)
    stop, together = Pool.stop, threading.Barrier(5)

    def stops(pool: Pool, within: float | None = None) -> bool:
        together.wait(20)
        return stop(pool, within)

    monkeypatch.setattr(Pool, "stop", stops)
    store._close()


async def test_no_connection_that_is_left_is_waited_for(own_postgres: PostgresServer) -> None:
    url = own_postgres.url(own_postgres.new_database())
    store = await asyncio.to_thread(Store.open, Database(url, "lineage", lambda: PASSWORD))
    with ExitStack() as taken:
        with suppress(psycopg.OperationalError):
            while True:
                taken.enter_context(closing(own_postgres.connect()))
        with pytest.raises(
            LedgerUnreachable, match=r"(too many clients|remaining connection slots).*raise max_connect"
        ):
            await store.write(add, "lost")
    async with asyncio.timeout(60):
        while True:
            try:
                await store.write(add, "after")
                break
            except LedgerUnreachable:
                await asyncio.sleep(0.1)
    await store.close()


def test_errors_that_only_the_server_can_mend_are_waited_for() -> None:
    for state, failure in (
        ("53100", WriteFailure.FULL),
        ("25006", WriteFailure.READ_ONLY),
        ("53200", WriteFailure.OTHER),
    ):
        cause = psycopg.errors.lookup(state)("could not extend file: No space left on device")
        error = DBAPIError("INSERT", {}, cause)
        assert isinstance(faults.explained("ledger x", error), LedgerUnreachable)
        assert faults.failure(error) is failure
    refusal = DBAPIError("INSERT", {}, psycopg.errors.UniqueViolation("twice"))
    assert not isinstance(faults.explained("ledger x", refusal), LedgerUnreachable)


async def test_what_another_process_asks_for_is_noticed(store: Store, database: Database) -> None:
    rung = asyncio.Event()
    store.on_commit(rung.set, Change.REQUESTS)
    assert await asyncio.to_thread(Store.open_beside, database) is None, "nobody is there who would do it"
    command = Replica(f"{replicas.COMMAND}host:1:a", "1", "x", frozenset())
    await store.write(replicas.beat, command)
    assert await asyncio.to_thread(Store.open_beside, database) is None, "a command soon ends"
    await store.write(replicas.beat, replace(command, id="host:1:a"))
    beside = await asyncio.to_thread(Store.open_beside, database)
    assert beside is not None
    await beside.write(requests.add, requests.RequestKind.RETRY, "sink:a", "{}", NOW)
    async with asyncio.timeout(20):
        await rung.wait()
    await beside.close()


async def test_it_goes_on_by_itself_after_the_server_was_away(own_postgres: PostgresServer) -> None:
    database = Database(own_postgres.url(own_postgres.new_database()), "lineage", lambda: PASSWORD)
    store = await asyncio.to_thread(Store.open, database)
    failures: list[WriteFailure] = []
    store.on_failure(failures.append)
    await store.write(add, "before")
    for end in (own_postgres.stop, own_postgres.kill):
        await asyncio.to_thread(end)
        for call in (store.write(add, "lost"), store.write_first(add, "lost"), store.read(names)):
            with pytest.raises(LedgerUnreachable, match=r"cannot be reached|does not answer") as raised:
                await call
            assert isinstance(raised.value.__cause__, psycopg.Error | DBAPIError)
        await asyncio.to_thread(own_postgres.start)
        async with asyncio.timeout(30):
            while True:
                try:
                    await store.write(add, end.__name__)
                    break
                except LedgerUnreachable:
                    await asyncio.sleep(0.1)
    assert await store.read(names) == ["before", "kill", "stop"]
    assert set(failures) == {WriteFailure.UNREACHABLE}
    assert store.lost is None
    await store.close()


def test_a_sink_that_comes_while_a_poll_commits_is_owed_its_start(database: Database) -> None:
    """The registration waits for the commit, and then sees the run."""
    engine = database.engine(3, writes=True)
    with engine.begin() as conn:
        preparation.migrate(conn, database)
    with engine.begin() as conn:
        source = configured_sources.sync_sources(conn, [Configured("source")], NOW)["source"]
        lease = leases.take(conn, "source:source", "test", 60_000)
        assert lease is not None
        configured_sinks.sync_sinks(conn, {"a": ALL}, NOW)

    def added() -> int:
        with engine.begin() as conn:
            number = configured_sinks.sync_sinks(conn, {"a": ALL, "b": ALL}, NOW)["b"]
        with engine.connect() as conn:
            return len(conn.execute(select(schema.lane).where(schema.lane.c.sink_id == number)).all())

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as conn:
            runs.commit_poll(conn, PollCommit(lease, source, (change(None, "r", [START], NOW),)), NOW)
            waiting = pool.submit(added)
            _until_blocked(database)
        assert waiting.result(20) == 1
    engine.dispose()


def test_a_poll_that_waits_for_a_new_sink_owes_it_what_it_brings(database: Database) -> None:
    engine = database.engine(3, writes=True)
    with engine.begin() as conn:
        preparation.migrate(conn, database)
        source = configured_sources.sync_sources(conn, [Configured("source")], NOW)["source"]
        lease = leases.take(conn, "source:source", "test", 60_000)
        assert lease is not None

    def polled() -> None:
        with engine.begin() as conn:
            runs.commit_poll(conn, PollCommit(lease, source, (change(None, "r", [START], NOW),)), NOW)

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as conn:
            number = configured_sinks.sync_sinks(conn, {"a": ALL}, NOW)["a"]
            waiting = pool.submit(polled)
            _until_blocked(database)
        waiting.result(20)
    with engine.connect() as conn:
        assert len(conn.execute(select(schema.lane).where(schema.lane.c.sink_id == number)).all()) == 1
    engine.dispose()


def _until_blocked(database: Database) -> None:
    engine = database.engine(1, writes=False)
    end = time.monotonic() + 20
    waits = text(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE "
        "datname = current_database())"
    )
    while time.monotonic() < end:
        with engine.connect() as conn:
            if conn.scalar(waits):
                break
        time.sleep(0.02)
    else:
        raise AssertionError("nobody waits")
    engine.dispose()


def test_several_processes_migrate_once(database: Database) -> None:
    together = threading.Barrier(4)

    def migrated(_: int) -> bool:
        engine = database.engine(1, writes=True)
        together.wait(10)
        with engine.begin() as conn:
            done = preparation.migrate(conn, database)
        engine.dispose()
        return done

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(migrated, range(4))) == [False, False, False, True]
    engine = database.engine(1, writes=False)
    with engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), schema.metadata) == []
    engine.dispose()


def executed(server: PostgresServer, database: Database, *statements: str) -> Database:
    with server.connect(database.url.rpartition("/")[2]) as conn:
        for statement in statements:
            conn.execute(statement.encode())
    return database


def read_only(server: PostgresServer, database: Database) -> Database:
    name = database.url.rpartition("/")[2]
    return executed(server, database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")


def beside_one_that_is_down(server: PostgresServer, database: Database) -> Database:
    here = f"127.0.0.1:{server.clients_port}"
    url = database.url.replace(here, f"{here},127.0.0.1:{free_port()}")
    return replace(database, url=f"{url}?target_session_attrs=read-write")


def poor(server: PostgresServer, database: Database) -> Database:
    """For a user who may connect and no more."""
    make = (
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'poor') "
        f"THEN CREATE ROLE poor LOGIN PASSWORD '{PASSWORD}'; END IF; END $$"
    )
    return replace(executed(server, database, make), url=database.url.replace(USER, "poor", 1))


NO_RIGHTS = "the user may not write there; the user in ledger.url must own the schema .* granted CREATE on the database"
Spoil = Callable[[PostgresServer, Database], Database]
REFUSED: dict[str, tuple[Spoil, str]] = {
    "password": (
        lambda _, d: replace(d, password=lambda: "wrong"),
        "password authentication failed for user.*ledger.pass",
    ),
    "no password": (
        lambda _, d: replace(d, password=lambda: None),
        "no password supplied; set ledger",
    ),
    "database": (lambda s, d: replace(d, url=s.url("absent")), 'database "absent" does not exist; create the database'),
    "user": (lambda s, d: replace(d, url=s.url("postgres", "nobody")), "password authentication failed for user"),
    "port": (
        lambda _, d: replace(d, url=f"postgresql://127.0.0.1:{free_port()}/x"),
        "cannot be reached: .*Connection refused.*; check that it runs",
    ),
    "standbys": (
        lambda s, d: beside_one_that_is_down(s, read_only(s, d)),
        "none of the hosts in ledger.url takes writes: promote a standby",
    ),
    "parameter": (
        lambda _, d: replace(d, url=f"{d.url}?sslmod=require"),
        'parameter: "sslmod"; check the parameters in ledger.url',
    ),
    "tls": (lambda _, d: replace(d, url=f"{d.url}?sslmode=require"), "server does not support SSL.*; check sslmode"),
    "rights": (poor, NO_RIGHTS),
    "rights on the schema": (lambda s, d: poor(s, executed(s, d, "CREATE SCHEMA lineage")), NO_RIGHTS),
    "rights in the schema": (
        lambda s, d: executed(s, poor(s, d), "CREATE SCHEMA lineage", "GRANT USAGE ON SCHEMA lineage TO poor"),
        NO_RIGHTS,
    ),
    "read-only": (
        read_only,
        "can only be read: it is a standby, or read-only by its settings; in ledger.url give the address of the primary",
    ),
    "foreign": (
        lambda s, d: executed(s, d, "CREATE SCHEMA lineage", "CREATE TABLE lineage.orders (id int)"),
        r"holds tables of another program \(orders\): give the ledger a separate schema with ledger.schema",
    ),
    "foreign migrations": (
        lambda s, d: executed(
            s,
            d,
            "CREATE SCHEMA lineage",
            "CREATE TABLE lineage.alembic_version (version_num text)",
            "INSERT INTO lineage.alembic_version VALUES ('ae1027')",
        ),
        "holds tables of another program",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_cannot_hold_a_ledger_is_refused_in_a_sentence_and_left_alone(
    postgres: PostgresServer, database: Database, mistake: str
) -> None:
    spoil, words = REFUSED[mistake]
    spoiled = spoil(postgres, database)
    before = _tables(postgres, database)
    for attempt in (Store.open, Store.open_readonly):
        with pytest.raises(LedgerError, match=words) as caught:
            attempt(spoiled)
        assert PASSWORD not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert _tables(postgres, database) == before


def _tables(server: PostgresServer, database: Database) -> list[tuple[object, ...]]:
    with server.connect(database.url.rpartition("/")[2]) as conn:
        return conn.execute("SELECT relname FROM pg_class WHERE relkind = 'r' ORDER BY oid").fetchall()


@pytest.mark.parametrize(("oldest", "newest"), [(19, 20), (10, 13)])
def test_a_server_of_another_time_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch, oldest: int, newest: int
) -> None:
    monkeypatch.setattr(preparation, "OLDEST", oldest)
    monkeypatch.setattr(preparation, "NEWEST", newest)
    with pytest.raises(LedgerError, match=rf"is in PostgreSQL 1\d\.\d+.*works with {oldest} to {newest}"):
        Store.open(database)


@pytest.mark.parametrize("setting", ["on", "local", "off"])
async def test_a_server_that_may_lose_commits_is_named_in_the_log(
    postgres: PostgresServer, database: Database, caplog: pytest.LogCaptureFixture, setting: str
) -> None:
    name = database.url.rpartition("/")[2]
    executed(postgres, database, f"ALTER DATABASE {name} SET synchronous_commit = {setting}")
    await Store.open(database).close()
    risks = [record.fields["cause"] for record in caplog.records if record.message == "ledger.risk_found"]  # type: ignore[attr-defined]
    of_tests = {"fsync", "full_page_writes"}  # which that server has off, to be quick
    assert {risk.split()[0] for risk in risks} - of_tests == ({"synchronous_commit"} if setting == "off" else set())
    assert all("a crash of the server may lose what was committed; set it to on" in risk for risk in risks)


async def test_a_schema_of_a_newer_version_is_refused(store: Store, database: Database) -> None:
    await store.write(
        lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999', compatible_from = '9999'"))
    )
    await store.close()
    for attempt in (lambda: Store.open(database), lambda: Store.open_readonly(database)):
        with pytest.raises(
            LedgerTooNew, match=r"^ledger postgresql://\S+, schema lineage has schema 9999, made by a newer version"
        ):
            await asyncio.to_thread(attempt)


def test_a_reader_of_what_is_not_there_yet_hears_so(database: Database) -> None:
    with pytest.raises(LedgerError, match="has no ledger yet: start the service with this configuration first"):
        Store.open_readonly(database)


def test_a_ledger_that_the_user_may_only_read_is_no_ledger_for_a_service(
    postgres: PostgresServer, database: Database
) -> None:
    asyncio.run(Store.open(database).close())
    reader = poor(postgres, database)
    executed(
        postgres,
        database,
        "GRANT USAGE ON SCHEMA lineage TO poor",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA lineage TO poor",
    )
    _check_writable(reader)
    executed(postgres, database, "REVOKE DELETE ON lineage.event FROM poor")
    with pytest.raises(LedgerError, match=NO_RIGHTS):
        _check_writable(reader)
    read_only(postgres, database)
    with pytest.raises(LedgerError, match="can only be read"):
        _check_writable(database)


def _check_writable(database: Database) -> None:
    async def check() -> None:
        store = Store.open_readonly(database)
        try:
            await store.read(preparation.check_writable, database)
        finally:
            await store.close()

    asyncio.run(check())


async def test_no_session_state_is_left_behind(store: Store) -> None:
    """As a pooler in transaction mode gives the connection to somebody else next."""
    raw = store._engines[-1].raw_connection()
    before = raw.cursor().execute("SHOW search_path").fetchone()
    raw.rollback()
    raw.close()
    with store._engines[-1].begin() as conn:
        assert conn.scalar(text("SHOW search_path")) == "lineage"
    raw = store._engines[-1].raw_connection()
    assert raw.cursor().execute("SHOW search_path").fetchone() == before
    raw.close()


async def test_what_a_restart_of_the_server_cut_is_found_at_the_beginning_of_a_transaction(
    own_postgres: PostgresServer,
) -> None:
    url = own_postgres.url(own_postgres.new_database())
    store = await asyncio.to_thread(Store.open, Database(url, "lineage", lambda: PASSWORD))
    await store.write(add, "before")
    await store.write_first(add, "first")
    assert await store.read(names) == ["before", "first"]
    own_postgres.stop()
    own_postgres.start()
    await store.write(add, "after")
    await store.write_first(add, "later")
    assert await store.read(names) == ["after", "before", "first", "later"]
    await store.close()


async def test_a_short_transaction_takes_as_few_round_trips_as_it_can(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a wake-up of a thread."""
    store = await asyncio.to_thread(Store.open, database)
    await store.write(add, "one")
    assert await store.read(names) == ["one"]
    sent, commands = list[str](), psycopg.Cursor.execute

    def noted(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(str(query).partition(";")[0])
        return commands(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Cursor, "execute", noted)
    assert await store.read(names) == ["one"]
    assert [words.split()[0] for words in sent] == ["BEGIN", "SELECT"]
    await store.close()
