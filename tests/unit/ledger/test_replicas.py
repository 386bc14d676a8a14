"""Replicas that come and go, with configurations of their own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Connection, select, update

from collector.app.status import status
from collector.clock import SystemClock
from collector.errors import ConfigurationError, LeaseLost
from collector.ledger import configured_sources, leases, queries, replicas, schema
from collector.ledger.configured_sources import Configured
from collector.ledger.postgres import preparation
from collector.ledger.postgres.database import Database
from collector.ledger.replicas import LIVES_FOR_MS, Replica
from collector.ledger.sqlite.store import Store
from tests.lease_faults import expire
from tests.servers.postgres import PASSWORD, PostgresServer
from tests.unit.ledger.ledgers import ALL, NOW, Ledger

OLD = Replica("old", "1", "abc", frozenset({"source:source", "source:former", "sink:a", "sink:former"}))
NEW = Replica("new", "1", "def", frozenset({"source:source", "sink:a"}))


def names(replica: Replica, kind: str) -> list[str]:
    return [name.split(":")[1] for name in sorted(replica.leases) if name.startswith(kind)]


def register(conn: Connection, replica: Replica) -> None:
    sources = [Configured(name) for name in names(replica, "source")]
    replicas.register(conn, replica, sources, dict.fromkeys(names(replica, "sink"), ALL), NOW)


def retired(ledger: Ledger) -> set[str]:
    return {row.name for row in queries.sinks(ledger.conn) if row.retired_at is not None}


def silence(ledger: Ledger, replica: Replica) -> None:
    """It has been silent for too long."""
    table = schema.replica
    silent = update(table).where(table.c.id == replica.id).values(seen=table.c.seen - LIVES_FOR_MS - 1000)
    ledger.conn.execute(silent)


def test_a_replica_takes_nothing_away_from_another_that_lives(ledger: Ledger) -> None:
    register(ledger.conn, OLD)
    register(ledger.conn, NEW)
    assert retired(ledger) == set()
    assert replicas.unconfigured(ledger.conn, NEW) == set()
    assert replicas.retire(ledger.conn, NEW, NOW) == set()
    assert {each.id for each in replicas.live(ledger.conn)} == {"new", "old"}


@pytest.mark.parametrize("gone", ["left", "silent"])
def test_what_only_a_replica_had_that_is_gone_is_retired(ledger: Ledger, gone: str) -> None:
    register(ledger.conn, OLD)
    register(ledger.conn, NEW)
    if gone == "left":
        replicas.leave(ledger.conn, OLD)
    else:
        silence(ledger, OLD)
    assert replicas.retire(ledger.conn, NEW, NOW) == {"source:former", "sink:former"}
    assert retired(ledger) == {"former"}
    assert replicas.unconfigured(ledger.conn, NEW) == set()


def test_a_replica_that_starts_retires_what_nobody_has(ledger: Ledger) -> None:
    register(ledger.conn, OLD)
    silence(ledger, OLD)
    register(ledger.conn, NEW)
    assert retired(ledger) == {"former"}


def test_a_replica_that_cannot_start_leaves_no_trace(ledger: Ledger) -> None:
    replicas.register(ledger.conn, OLD, [Configured("source", account="one")], {}, NOW)
    with pytest.raises(ConfigurationError):
        replicas.register(ledger.conn, NEW, [Configured("source", account="two")], {}, NOW)
    assert [each.id for each in replicas.live(ledger.conn)] == ["old"]


def test_a_replica_that_starts_forgets_those_that_were_silent_for_an_hour(ledger: Ledger) -> None:
    table = schema.replica
    for name, ms in (("long gone", 3_700_000), ("gone", 3_500_000)):
        replicas.beat(ledger.conn, Replica(name, "1", "", frozenset()))
        ledger.conn.execute(update(table).where(table.c.id == name).values(seen=table.c.seen - ms))
    register(ledger.conn, NEW)
    assert {*ledger.conn.scalars(select(table.c.id))} == {"gone", "new"}


def test_a_beat_keeps_the_start_and_hears_of_the_others(ledger: Ledger) -> None:
    [alone] = replicas.beat(ledger.conn, OLD)
    assert alone.started == alone.seen
    assert {each.id for each in replicas.beat(ledger.conn, NEW)} == {"old", "new"}
    silence(ledger, OLD)
    assert [each.id for each in replicas.beat(ledger.conn, NEW)] == ["new"]


async def test_replicas_that_are_gone_with_their_process_are_forgotten_when_the_file_is_opened(tmp_path: Path) -> None:
    for _ in range(2):
        store = Store.open(tmp_path / "ledger.db", holder="test", clock=SystemClock())
        assert await store.read(replicas.live) == []
        await store.write(replicas.beat, OLD)
        await store.close()


def test_status_says_which_replica_differs(ledger: Ledger) -> None:
    register(ledger.conn, OLD)
    ledger.conn.execute(update(schema.replica).values(started=schema.replica.c.started - 1000))
    register(ledger.conn, NEW)
    shown = status(ledger.conn, SystemClock(), {"source"}, {}, {}, {})
    old, new = shown["replicas"]
    assert (old["replica"], old["wrong"]) == ("old", None)
    assert "another configuration than replica old" in new["wrong"]


def test_a_source_that_another_replica_renamed_is_polled_under_one_name_alone(ledger: Ledger) -> None:
    """An upgrade under way: the old replica knows it by its former name."""
    [old] = replicas.register(ledger.conn, OLD, [Configured("former", account="x")], {}, NOW).sources.values()
    held = configured_sources.take(ledger.conn, "source:former", "old", 60_000, source_id=old)
    assert held is not None
    [new] = replicas.register(ledger.conn, NEW, [Configured("new", account="x")], {}, NOW).sources.values()
    assert new == old
    with pytest.raises(LeaseLost):
        leases.fence(ledger.conn, held)
    assert configured_sources.take(ledger.conn, "source:former", "old", 60_000, source_id=old) is None
    assert configured_sources.take(ledger.conn, "source:new", "new", 60_000, source_id=old) is None, (
        "the old one's time runs on"
    )
    expire(ledger.conn, "source:new")
    taken = configured_sources.take(ledger.conn, "source:new", "new", 60_000, source_id=old)
    assert taken is not None
    assert taken.token == held.token + 1


def test_two_replicas_that_start_at_once_see_each_other(postgres: PostgresServer) -> None:
    """The second one waits for the first, and takes nothing of it away."""
    database = Database(postgres.url(postgres.new_database()), "lineage", lambda: PASSWORD)
    engine = database.engine(3, writes=True)
    try:
        with engine.begin() as conn:
            preparation.migrate(conn, database)
        with engine.connect() as first, ThreadPoolExecutor(1) as pool:
            started = Event()

            def starts() -> None:
                with engine.begin() as second:
                    started.set()
                    register(second, NEW)

            with first.begin():
                register(first, OLD)
                done = pool.submit(starts)
                assert started.wait(10)
                with pytest.raises(TimeoutError):
                    done.result(0.3)
            done.result(10)
            with engine.connect() as after:
                assert all(row.retired_at is None for row in queries.sinks(after))
                assert {each.id for each in replicas.live(after)} == {"old", "new"}
    finally:
        engine.dispose()
