"""A backup is of one moment, whole, checked and in its place at once, or it is not there."""

import asyncio
import fcntl
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from collector.clock import SystemClock
from collector.errors import LedgerError, LedgerTooNew
from collector.ledger.schema import REVISIONS
from collector.ledger.sqlite import backup
from collector.ledger.sqlite.backup import back_up
from collector.ledger.sqlite.store import Store
from tests.unit.ledger.ledgers import ALL, COMPLETE, START, Ledger


def _filled(conn: Connection, first: int, count: int) -> None:
    ledger = Ledger(conn)
    ledger.configure(a=ALL)
    for number in range(first, first + count):
        ledger.happen(f"run {number}", START, COMPLETE)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An open ledger with 100 runs, as a service has it."""
    (tmp_path / "own").mkdir()
    made = Store.open(tmp_path / "own" / "lineage.db", holder="test", clock=SystemClock())
    await made.write(_filled, 0, 100)
    yield made
    await made.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "lineage.db"


def _runs(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM run").fetchone()
    return int(count)


async def test_a_backup_beside_a_service_that_writes_is_of_one_moment(
    store: Store, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_PAGES", 1)
    loop, steps = asyncio.get_running_loop(), list[tuple[int, int]]()

    def meanwhile(copied: int, total: int) -> None:
        steps.append((copied, total))
        if len(steps) % 5 == 1:
            asyncio.run_coroutine_threadsafe(store.write(_filled, 100 + len(steps), 1), loop).result()

    made = await asyncio.to_thread(back_up, store.path, target, meanwhile)
    assert (made.runs, made.events, made.schema, made.path) == (100, 200, REVISIONS[-1], target)
    assert len(steps) > 10
    assert steps[-1][0] == steps[-1][1] == made.bytes == target.stat().st_size
    assert [copied for copied, _ in steps] == sorted(copied for copied, _ in steps), "it never began anew"
    assert _runs(store.path) > 101


async def test_it_is_one_file_that_nobody_else_reads_and_that_a_service_starts_with(store: Store, target: Path) -> None:
    back_up(store.path, target)
    assert [path.name for path in target.parent.iterdir()] == ["lineage.db"]
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.read_bytes()[18:20] == b"\1\1", (
        "without a write-ahead log, so that it can be read where nothing can be written"
    )
    restored = Store.open(target, holder="test", clock=SystemClock())
    await restored.write(_filled, 100, 1)
    assert restored.set_aside is None
    await restored.close()
    assert _runs(target) == 101


async def test_a_former_backup_is_replaced_and_what_a_killed_one_left_is_used_again(store: Store, target: Path) -> None:
    back_up(store.path, target)
    await store.write(_filled, 100, 1)
    target.with_name("lineage.db.part").write_bytes(b"half a copy" * 1000)
    assert back_up(store.path, target).runs == 101
    assert [path.name for path in target.parent.iterdir()] == ["lineage.db"]


async def test_a_damaged_ledger_leaves_the_former_backup_as_it_was(store: Store, target: Path) -> None:
    back_up(store.path, target)
    before = target.read_bytes()
    await store.close()
    with store.path.open("r+b") as opened:
        opened.seek(8192 * 6)
        opened.write(b"\xff" * 8192 * 8)
    with pytest.raises(LedgerError, match="nothing was replaced"):
        back_up(store.path, target)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["lineage.db"]


async def test_rows_that_contradict_each_other_are_damage_too(store: Store, target: Path) -> None:
    await store.close()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("DELETE FROM event WHERE id = 7")
    with pytest.raises(LedgerError, match="is owed is gone; nothing was replaced"):
        back_up(store.path, target)
    assert not list(target.parent.iterdir())


def _as_folder(ledger: Path, target: Path) -> Path:
    target.mkdir()
    return target


def _as_other(ledger: Path, target: Path) -> Path:
    target.write_text("notes of somebody that are longer than the header of a database, which has a hundred bytes")
    return target


def _as_link(ledger: Path, target: Path) -> Path:
    target.symlink_to(ledger)
    return target


def _as_hard_link(ledger: Path, target: Path) -> Path:
    target.hardlink_to(ledger)
    return target


def _in_use(ledger: Path, target: Path) -> Path:
    target.with_name("lineage.db.lock").touch()
    return target


@pytest.mark.parametrize(
    ("choose", "words"),
    [
        (lambda ledger, _: ledger, "is a file of the ledger itself"),
        (lambda ledger, _: ledger.parent / ".." / "own" / ledger.name, "is a file of the ledger itself"),
        (lambda ledger, _: ledger.with_name("lineage.db-wal"), "is a file of the ledger itself"),
        (lambda ledger, _: ledger.with_name("lineage.db.lock"), "was the ledger of a service"),
        (_as_link, "is a file of the ledger itself"),
        (_as_hard_link, "is a file of the ledger itself"),
        (_in_use, "was the ledger of a service"),
        (_as_folder, "is a folder: name a file in it"),
        (_as_other, "exists and is not a ledger"),
        (lambda _, target: target.parent / "none" / "x.db", "does not exist: create it"),
    ],
)
async def test_what_must_not_be_overwritten_stays(
    store: Store, target: Path, choose: Callable[[Path, Path], Path], words: str
) -> None:
    chosen = choose(store.path, target)
    before = chosen.read_bytes() if chosen.is_file() else None
    with pytest.raises(LedgerError, match=words):
        back_up(store.path, chosen)
    assert (chosen.read_bytes() if chosen.is_file() else None) == before
    assert not list(target.parent.glob("*.part"))


async def test_a_ledger_of_a_newer_version_and_a_file_of_another_program_are_refused(
    store: Store, target: Path
) -> None:
    await store.close()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999', compatible_from = '9999'")
    with pytest.raises(LedgerTooNew):
        back_up(store.path, target)
    other = target.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE t (a)")
    with pytest.raises(LedgerError, match="is not a ledger of this program"):
        back_up(other, target)
    with pytest.raises(LedgerError, match="there is no ledger"):
        back_up(target.with_name("none.db"), target)
    assert not target.exists()


async def test_an_older_schema_is_copied_as_it_is(store: Store, target: Path) -> None:
    """As before an upgrade, by the new version's program."""
    await store.close()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    assert back_up(store.path, target).schema == "0001"


async def test_two_backups_to_one_file_do_not_mix(store: Store, target: Path) -> None:
    part = target.with_name("lineage.db.part")
    with part.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LedgerError, match="another backup"):
            back_up(store.path, target)
        assert part.exists()


async def test_a_folder_that_cannot_be_written_is_said_in_words(store: Store, target: Path) -> None:
    target.with_name("lineage.db.part").mkdir()
    with pytest.raises(LedgerError, match=r"cannot write .*lineage\.db\.part"):
        back_up(store.path, target)
