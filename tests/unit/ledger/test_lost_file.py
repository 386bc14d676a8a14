"""A ledger whose file, write-ahead log or lock is taken away while it is open: noticed, not acknowledged, written anew."""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select

from collector.clock import SystemClock
from collector.errors import LedgerError, LedgerLost
from collector.ledger import schema
from collector.ledger.sqlite.store import Store


def open_store(path: Path) -> Store:
    return Store.open(path, holder="test", clock=SystemClock())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = open_store(tmp_path / "ledger.db")
    await made.write(add, "before")
    yield made
    await made.close()


def add(conn: Connection, name: str) -> None:
    conn.execute(insert(schema.source).values(name=name))


def names(conn: Connection) -> list[str]:
    return list(conn.scalars(select(schema.source.c.name).order_by(schema.source.c.name)))


def of(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


async def noticed(store: Store) -> str:
    with pytest.raises(LedgerLost) as lost:
        await store.write(add, "after")
    assert store.lost is not None
    assert str(lost.value).startswith(f"ledger {store.path}: {store.lost}")
    with pytest.raises(LedgerLost):
        await store.write(add, "later")
    return store.lost


async def names_at_the_next_start(path: Path) -> list[str]:
    again = open_store(path)
    try:
        assert again.set_aside is None
        return await again.read(names)
    finally:
        await again.close()


async def test_a_file_that_was_deleted_is_written_anew_with_all_that_was_committed(store: Store) -> None:
    store.path.unlink()
    assert await noticed(store) == "its file is gone"
    assert await store.rescue() == store.path
    await store.close()
    assert await names_at_the_next_start(store.path) == ["after", "before"]
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert not list(store.path.parent.glob("*.rescued-*"))


async def test_a_ledger_that_was_deleted_with_all_that_belongs_to_it_is_written_anew(store: Store) -> None:
    for file in store.path.parent.iterdir():
        file.unlink()
    await noticed(store)
    assert await store.rescue() == store.path
    with pytest.raises(LedgerError, match="in use by"):
        open_store(store.path)
    await store.close()
    assert await names_at_the_next_start(store.path) == ["after", "before"]


async def test_a_write_ahead_log_that_was_deleted_loses_nothing(store: Store) -> None:
    of(store.path, "-wal").unlink()
    assert await noticed(store) == "its write-ahead log is gone"
    assert await store.rescue() == store.path
    with closing(sqlite3.connect(store.path)) as beside:
        assert beside.execute("SELECT count(*) FROM source").fetchone() == (2,)
    await store.close()
    assert await names_at_the_next_start(store.path) == ["after", "before"]


async def test_a_log_of_somebody_else_is_never_read_into_the_ledger(store: Store) -> None:
    log = of(store.path, "-wal")
    shutil.copy(log, of(store.path, "-copy"))
    of(store.path, "-copy").replace(log)
    assert await noticed(store) == "its write-ahead log was replaced"
    await store.rescue()
    await store.close()
    assert await names_at_the_next_start(store.path) == ["after", "before"]
    assert [path.name for path in store.path.parent.glob("*-wal.foreign-*")]


async def test_another_file_in_its_place_is_left_alone_and_ours_is_put_beside_it(store: Store) -> None:
    backup = of(store.path, ".backup")
    with closing(sqlite3.connect(store.path)) as beside, closing(sqlite3.connect(backup)) as copy:
        beside.backup(copy)
    await store.write(add, "since")
    backup.replace(store.path)
    was = store.path.read_bytes()
    assert await noticed(store) == "another file is in its place"
    rescued = await store.rescue()
    await store.close()
    assert store.path.read_bytes() == was
    assert rescued != store.path
    assert rescued.name.startswith("ledger.db.rescued-")
    assert await names_at_the_next_start(store.path) == ["before"]
    assert await names_at_the_next_start(rescued) == ["after", "before", "since"]


async def test_a_lock_that_was_deleted_ends_the_right_to_write(store: Store) -> None:
    of(store.path, ".lock").unlink()
    assert await noticed(store) == "its lock is gone"
    assert await store.rescue() == store.path
    await store.close()
    assert await names_at_the_next_start(store.path) == ["after", "before"]


async def test_a_ledger_that_another_process_took_meanwhile_is_left_to_it(store: Store) -> None:
    for file in store.path.parent.iterdir():
        file.unlink()
    await noticed(store)
    other = open_store(store.path)
    await other.write(add, "other")
    rescued = await store.rescue()
    assert rescued != store.path
    await store.close()
    assert await other.read(names) == ["other"]
    await other.write(add, "on")
    await other.close()
    assert await names_at_the_next_start(rescued) == ["after", "before"]


async def test_without_its_folder_the_rescue_says_where_the_ledger_is(store: Store) -> None:
    shutil.rmtree(store.path.parent)
    store.path.parent.touch()
    assert await noticed(store) == "its file is gone"
    with pytest.raises(LedgerError, match=f"/proc/{os.getpid()}/fd"):
        await store.rescue()
    store.path.parent.unlink()
    assert await store.rescue() == store.path
    await store.close()
    assert await names_at_the_next_start(store.path) == ["after", "before"]


async def test_the_next_start_knows_that_it_was_written_anew(store: Store) -> None:
    store.path.unlink()
    await noticed(store)
    await store.rescue()
    await store.close()
    again = open_store(store.path)
    assert again.rescued
    await again.close()
    once_more = open_store(store.path)
    assert not once_more.rescued
    await once_more.close()
