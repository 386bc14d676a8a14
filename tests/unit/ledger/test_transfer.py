"""A full ledger from a file to PostgreSQL and back: what is copied, what stays behind, and what is refused."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Connection, delete, func, insert, select, text, update

from collector.app import ledger_copy
from collector.errors import ConfigurationError, LedgerError, LedgerLocked, LedgerMissing, LedgerTooNew
from collector.ledger import activity, leases, replicas, requests, schema, shard_count, transfer
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store as PostgresStore
from collector.ledger.replicas import Replica
from collector.ledger.requests import RequestKind
from collector.ledger.shards import Shards
from collector.ledger.sqlite.store import Store as FileStore
from collector.model import Skip, SkipKind
from collector.testing.clock import SimulatedClock
from tests.servers.postgres import PASSWORD, PostgresServer
from tests.unit.ledger.ledgers import (
    ALL,
    COMPLETE,
    ENDS,
    FAIL,
    NOW,
    OTHER,
    START,
    T0,
    Ledger,
    child_of,
    in_ledger,
)


def fill(conn: Connection) -> None:
    """Something of all that a ledger can hold, as a killed service leaves it: its leases are not given back."""
    ledger = Ledger(conn)
    ledger.configure(a=ALL, b=ENDS)
    ledger.happen("refused", START, FAIL)
    ledger.park(cause="too large \u00e9")
    ledger.happen("unanswered", START, COMPLETE)
    ledger.postpone(unanswered=True, recheck_at=NOW + 60_000)
    ledger.happen("parent", OTHER, START)
    ledger.happen("child", START, parent=child_of("parent"))
    ledger.poll(("open", [START], {}), skips=(Skip(SkipKind.INVALID, "row 7", "no id"),))
    ledger.deliver(sink="b")
    ledger.commit(cursor='{"since": 7}', memory={"name/1": "pumps \u00e9"}, polled_at_ms=NOW)
    requests.add(conn, RequestKind.TRIGGER, "source:source", "{}", NOW)
    gone = requests.add(conn, RequestKind.POLL, "source:source", "{}", NOW)
    conn.execute(delete(schema.request).where(schema.request.c.id == gone))
    requests.hint(conn, ledger.source, NOW)
    activity.note(conn, {("source:source", 0): activity.Activity(ok=1, remaining=7)})
    use = {"namespace": "n", "name": "d", "source_id": ledger.source, "job": "job", "is_output": True}
    conn.execute(insert(schema.dataset_use).values(use))
    conn.execute(insert(schema.replica).values(id="gone", version="1", fingerprint="f", leases="[]", started=1, seen=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "lineage.db"
    in_ledger(made, fill)
    return made


@pytest.fixture
def database(postgres: PostgresServer) -> Database:
    return Database(postgres.url(postgres.new_database()), "lineage", lambda: PASSWORD)


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ledger_copy.PASSWORD, PASSWORD)


def copy(source: Path | Database, target: Path | Database, **more: Any) -> int:
    places = [str(end) if isinstance(end, Path) else end.url for end in (source, target)]
    return ledger_copy.copy(
        places[0], places[1], **{"schema": "lineage", "password_file": None, "as_json": True, **more}
    )


@contextmanager
def reading(end: Path | Database) -> Iterator[Connection]:
    engine = (
        FileStore.open_readonly(end)._read_engines["reader"] if isinstance(end, Path) else end.engine(1, writes=True)
    )
    with engine.begin() as conn:
        yield conn
    engine.dispose()


def held(end: Path | Database) -> transfer.Contents:
    with reading(end) as conn:
        return transfer.contents(conn)


def test_a_full_ledger_goes_there_and_back(
    path: Path, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = held(path)
    assert [name for name, content in before.items() if not content.rows] == []
    back = tmp_path / "back.db"
    for source, target in ((path, database), (database, back)):
        assert copy(source, target) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["tables"] == {name: {"rows": one.rows, "digest": one.digest} for name, one in before.items()}
        assert held(target) == before
    assert before["run"].rows == 5
    assert not list(tmp_path.glob("*.part*"))
    assert held(path) == before, "it stays as it was"


@pytest.mark.parametrize("kind", ["file", "database"])
async def test_numbers_go_on_and_what_a_killed_holder_sent_stays_in_doubt(
    path: Path, database: Database, tmp_path: Path, kind: str
) -> None:
    copy(path, database)
    if kind == "file":
        copy(database, tmp_path / "back.db")
        store: Any = await asyncio.to_thread(
            FileStore.open, tmp_path / "back.db", holder="test", clock=SimulatedClock(T0)
        )
    else:
        store = await asyncio.to_thread(PostgresStore.open, database)
    assert await store.write(requests.add, RequestKind.POLL, "source:source", "{}", NOW) == 3, "2 was given before"
    sink = await store.write(leases.take, "sink:a", "test", 60_000)
    assert sink is not None
    assert not sink.clean
    assert sink.token == 2
    assert await store.read(lambda conn: conn.scalar(select(func.count()).select_from(schema.replica))) == 0
    await store.close()


def divide(conn: Connection) -> None:
    """Sink `a` has three shards, one of which was killed; a backfill of it is under way, and it is to have two shards."""
    for name in ("sink:a", "sink:b", "source:source"):
        leases.free(conn, name, "test", clean=True)
    me = Replica("test", "1", "f", frozenset({"sink:a"}), shards={"a": 3})
    conn.execute(delete(schema.replica))
    replicas.beat(conn, me)
    sink = conn.scalar(select(schema.sink.c.id).where(schema.sink.c.name == "a")) or 0
    assert shard_count.change(conn, sink, "a") == Shards(3)
    requests.add_backfill(conn, "sink:a", '{"since_ms": null, "until_ms": null}', NOW)
    for number in range(3):
        lease = leases.take(conn, f"sink:a#{number}", "test", 60_000)
        assert lease is not None
        if number != 1:
            leases.give_back(conn, lease)
    conn.execute(delete(schema.replica))
    replicas.beat(conn, replace(me, shards={"a": 2}))


def divided(conn: Connection) -> tuple[Any, ...]:
    """What a divided sink is in a ledger: its shards, their leases, the parts of its requests, and who may open it."""
    sink, lease, request = schema.sink, schema.lease, schema.request
    free = lease.c.expires_at > 0
    return (
        [
            tuple(row)
            for row in conn.execute(select(sink.c.name, sink.c.shards, sink.c.shards_next).order_by(sink.c.id))
        ],
        sorted(conn.scalars(select(lease.c.name).where(lease.c.name.contains("sink:a"), free))),
        sorted(conn.scalars(select(request.c.target).where(request.c.part_of.is_not(None)))),
        conn.scalar(text("SELECT compatible_from FROM alembic_version")),
    )


def test_a_divided_sink_stays_divided_there_and_back(path: Path, database: Database, tmp_path: Path) -> None:
    in_ledger(path, divide)
    back = tmp_path / "back.db"
    shards_of_a, left_of_a = ["sink:a#0", "sink:a#1", "sink:a#2"], ["sink:a", "sink:a#1"]
    for source, target in ((path, database), (database, back)):
        assert copy(source, target) == 0
        with reading(target) as conn:
            assert divided(conn) == ([("a", 3, 2), ("b", 1, None)], left_of_a, shards_of_a, "0017")
    with reading(path) as conn:
        assert divided(conn)[:3] == ([("a", 3, 2), ("b", 1, None)], left_of_a, shards_of_a)


def test_text_that_only_sqlite_stores_does_not_stop_it(path: Path, database: Database) -> None:
    """A ledger of an earlier version may hold NUL."""
    in_ledger(path, lambda conn: conn.execute(text("UPDATE parked SET cause = 'a' || char(0) || 'b'")))
    assert copy(path, database) == 0
    with reading(database) as conn:
        assert conn.scalars(select(schema.parked.c.cause)).all() == ["ab"]


def test_a_service_on_the_file_is_named(path: Path, database: Database, tmp_path: Path) -> None:
    store = FileStore.open(path, holder="the service", clock=SimulatedClock(T0))
    with pytest.raises(LedgerLocked, match=r"lineage.db is in use by .*the service"):
        copy(path, database)
    store._close()
    assert copy(path, database) == 0
    target = tmp_path / "back.db"
    store = FileStore.open(target, holder="the service", clock=SimulatedClock(T0))
    with pytest.raises(LedgerLocked, match=r"back.db is in use by .*the service"):
        copy(database, target)
    store._close()


def test_a_service_on_the_database_is_named(path: Path, database: Database, tmp_path: Path) -> None:
    store = PostgresStore.open(database)
    asyncio.run(store.write(leases.take, "housekeeping", "the service:1", 60_000))
    for ends in ((path, database), (database, tmp_path / "back.db")):
        with pytest.raises(LedgerLocked, match=r"is in use by the service.*: stop it first"):
            copy(*ends)
    store._close()
    with reading(database) as conn:
        conn.execute(update(schema.lease).values(expires_at=0))
    assert copy(path, database) == 0, "a service that started there and found nothing is not in the way"


def test_no_service_begins_meanwhile(path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits, and finds the whole ledger."""
    opened: list[PostgresStore] = []
    began = Thread(target=lambda: opened.append(PostgresStore.open(database)))
    compare = transfer._compare

    def late(*args: Any) -> None:
        began.start()
        began.join(0.5)
        assert not opened
        with pytest.raises(LedgerLocked, match="is in use by the command"):
            FileStore.open(path, holder="service", clock=SimulatedClock(T0))
        compare(*args)

    monkeypatch.setattr(transfer, "_compare", late)
    assert copy(path, database) == 0
    began.join(60)
    assert asyncio.run(opened[0].read(lambda conn: conn.scalar(select(func.count()).select_from(schema.run)))) == 5
    opened[0]._close()


def test_what_is_not_the_same_afterwards_is_not_kept(
    path: Path, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(path, database)
    other = Database(database.url, "other", database.password)

    def changed(source: Connection, target: Connection) -> None:
        target.execute(update(schema.event).values(body=b"{}"))

    monkeypatch.setattr(transfer, "_copy_doubt", changed)
    with pytest.raises(LedgerError, match="the copy is not the same in event; nothing was kept"):
        copy(path, other, schema="other")
    with reading(database) as conn:
        assert not conn.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = 'other'"))
    with pytest.raises(LedgerError, match="the copy is not the same in event; nothing was kept"):
        copy(database, tmp_path / "back.db")
    assert not list(tmp_path.glob("back.db.part*"))
    assert not (tmp_path / "back.db").exists()


def test_contents_differ_where_one_value_does(ledger: Ledger) -> None:
    for key in ("a", "b"):
        ledger.happen(key, START)
    before = transfer.contents(ledger.conn)
    assert transfer.contents(ledger.conn) == before
    ledger.conn.execute(update(schema.run).where(schema.run.c.key == "a").values(raw_state="odd"))
    after = transfer.contents(ledger.conn)
    assert [name for name in before if before[name] != after[name]] == ["run"]
    assert before["run"].rows == after["run"].rows == 2


def test_a_place_that_is_taken_is_not_written_to(path: Path, database: Database, tmp_path: Path) -> None:
    copy(path, database)
    with pytest.raises(LedgerError, match=r"schema lineage is not empty: .*--schema.*DROP SCHEMA lineage CASCADE"):
        copy(path, database)
    (tmp_path / "notes.txt").write_text("mine")
    for taken in (path, tmp_path / "notes.txt"):
        with pytest.raises(LedgerError, match="exists: a ledger is copied to a new file only"):
            copy(database, taken)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(LedgerError, match=r"folder .*none does not exist: create it"):
        copy(database, tmp_path / "none" / "back.db")


def test_a_source_that_cannot_be_copied_changes_nothing(path: Path, database: Database, tmp_path: Path) -> None:
    with pytest.raises(LedgerMissing, match="there is no ledger at"):
        copy(tmp_path / "none.db", database)
    with pytest.raises(LedgerMissing, match="has no ledger yet"):
        copy(database, tmp_path / "back.db")
    in_ledger(
        path,
        lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999', compatible_from = '9999'")),
    )
    with pytest.raises(LedgerTooNew, match="9999"):
        copy(path, database)
    damaged = tmp_path / "damaged.db"
    in_ledger(damaged, fill)
    content = bytearray(damaged.read_bytes())
    content[8192 * 3 : 8192 * 6] = b"x" * 8192 * 3
    damaged.write_bytes(content)
    with pytest.raises(LedgerError, match=r"damaged\.db"):
        copy(damaged, database)
    assert {found.name for found in tmp_path.iterdir()} >= {"damaged.db"}, "it is not set aside"


@pytest.mark.parametrize(
    ("ends", "more", "words"),
    [
        (("a.db", "b.db"), {}, "one end must be a file and the other PostgreSQL"),
        (("postgresql://h/a", "postgresql://h/b"), {}, "one end must be a file and the other PostgreSQL"),
        (("a.db", "postgresql://me:geheim-4711@h/a"), {}, "the address contains a password"),
        (("a.db", "mysql://h/a"), {}, "the address is not an address of PostgreSQL"),
        (("a.db", "postgresql://h/a"), {"schema": "Public!"}, "--schema 'Public!' is not a valid name"),
        (("a.db", "postgresql://h/a"), {"password_file": Path("none")}, "--password-file"),
    ],
)
def test_what_cannot_be_meant_is_said(ends: tuple[str, str], more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ledger_copy.copy(*ends, **{"schema": "lineage", "password_file": None, "as_json": False, **more})
    assert words in str(caught.value)
    assert "geheim" not in str(caught.value)
