"""Files that are no usable ledger any more, in many manners."""

import asyncio
import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from collector.clock import SystemClock
from collector.errors import LedgerCorrupt, LedgerError
from collector.ledger import configured_sinks, configured_sources, leases, run_queries, runs
from collector.ledger.configured_sources import Configured
from collector.ledger.runs import PollCommit
from collector.ledger.sqlite import file as sqlite_file
from collector.ledger.sqlite.lock import Condition
from collector.ledger.sqlite.store import Store
from tests.unit.ledger.ledgers import ALL, COMPLETE, NOW, START, change

PAGE = 8192


def open_store(path: Path) -> Store:
    return Store.open(path, holder="test", clock=SystemClock())


async def fill(store: Store, *, first: int = 0, count: int = 60) -> None:
    source = (await store.write(configured_sources.sync_sources, [Configured("source")], NOW))["source"]
    await store.write(configured_sinks.sync_sinks, {"a": ALL}, NOW)
    lease = await store.write(leases.take, "source:source", "test", 1000)
    assert lease is not None
    for start in range(first, first + count, 20):
        changes = tuple(change(None, str(number), [START, COMPLETE], NOW) for number in range(start, start + 20))
        await store.write(runs.commit_poll, PollCommit(lease, source, changes), NOW)


async def known_runs(store: Store) -> int:
    return len(await store.read(run_queries.runs, 10_000))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that was closed in order, with 60 runs."""
    path = tmp_path_factory.mktemp("template") / "ledger.db"

    async def make() -> None:
        store = open_store(path)
        await fill(store)
        await store.close()

    asyncio.run(make())
    return path


@pytest.fixture
def closed(template: Path, tmp_path: Path) -> Path:
    for file in template.parent.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / "ledger.db"


@pytest.fixture(scope="module")
def killed_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("killed") / "ledger.db"
    shutil.copy(template, path)
    code = (
        "import asyncio, sys, pathlib, os, signal; from tests.crash import test_ledger_damage as t\n"
        "async def main():\n"
        "    store = t.open_store(pathlib.Path(sys.argv[1]))\n"
        "    await t.fill(store, first=60)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    assert wal(path).stat().st_size > 0
    return path


@pytest.fixture
def killed(killed_template: Path, tmp_path: Path) -> Path:
    """As after a kill: the last commits are in the write-ahead log alone."""
    for file in killed_template.parent.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / "ledger.db"


def wal(path: Path) -> Path:
    return path.with_name("ledger.db-wal")


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def truncate(path: Path, size: int) -> None:
    os.truncate(path, size)


def noise(size: int) -> bytes:
    return random.Random(7).randbytes(size)


def pages(path: Path) -> int:
    return path.stat().st_size // PAGE


def all_but_the_first(path: Path, content: Callable[[int], bytes]) -> None:
    overwrite(path, PAGE, content(path.stat().st_size - PAGE))


def each_tree(path: Path, content: Callable[[int], bytes]) -> None:
    """The middle of the file, where the trees are."""
    overwrite(path, (pages(path) // 2) * PAGE, content(PAGE))


MANNERS: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: truncate(path, 0),
    "half of it gone": lambda path: truncate(path, pages(path) // 2 * PAGE),
    "the last page gone": lambda path: truncate(path, path.stat().st_size - PAGE),
    "some bytes of the end gone": lambda path: truncate(path, path.stat().st_size - 100),
    "only the header left": lambda path: truncate(path, 100),
    "a text": lambda path: path.write_text("no ledger\n" * 1000),
    "zeros from the beginning": lambda path: overwrite(path, 0, bytes(PAGE)),
    "noise from the beginning": lambda path: overwrite(path, 0, noise(PAGE)),
    "the second half of the header": lambda path: overwrite(path, 16, noise(84)),
    "all zeros": lambda path: all_but_the_first(path, bytes),
    "all noise": lambda path: all_but_the_first(path, noise),
    "a page of zeros": lambda path: each_tree(path, bytes),
    "a page of noise": lambda path: each_tree(path, noise),
}


@pytest.mark.parametrize("manner", MANNERS)
async def test_a_damaged_file_is_set_aside_whole_and_a_new_one_begun(
    closed: Path, manner: str, caplog: pytest.LogCaptureFixture
) -> None:
    MANNERS[manner](closed)
    content = closed.read_bytes()
    store = open_store(closed)
    try:
        assert store.set_aside is not None
        assert store.set_aside.name.startswith("ledger.db.damaged-20")
        assert len(store.set_aside.read_bytes()) == len(content)
        assert await known_runs(store) == 0
        await fill(store)
        assert await known_runs(store) == 60
    finally:
        await store.close()
    assert [record.levelno for record in caplog.records if record.getMessage() == "ledger.set_aside"] == [logging.ERROR]
    store = open_store(closed)
    assert store.set_aside is None, "once"
    await store.close()


async def test_every_page_counts(closed: Path, template: Path) -> None:
    """Any single page of zeros is found, but for pages that hold no tree."""
    unseen = []
    for page in range(pages(template)):
        shutil.copy(template, closed)
        overwrite(closed, page * PAGE, bytes(PAGE))
        if sqlite_file.damage(closed, Condition.CLOSED) is None:
            unseen.append(page)
    assert unseen == []


async def test_what_a_kill_left_is_whole(killed: Path) -> None:
    store = open_store(killed)
    assert store.set_aside is None
    assert await known_runs(store) == 120
    await store.close()


async def test_reading_a_closed_ledger_leaves_it_usable(closed: Path) -> None:
    reader = Store.open_readonly(closed)
    assert await known_runs(reader) == 60
    await reader.close()
    store = open_store(closed)
    assert store.set_aside is None
    await store.close()


async def test_reading_what_a_kill_left_changes_nothing(killed: Path) -> None:
    reader = Store.open_readonly(killed)
    assert await known_runs(reader) == 120
    await reader.close()
    assert wal(killed).stat().st_size > 0


async def test_a_log_that_was_removed_is_logged(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its commits are gone; what is left is an earlier moment, whole, and the platforms still have the rest."""
    wal(killed).unlink()
    store = open_store(killed)
    assert store.set_aside is None
    assert await known_runs(store) == 60
    assert "ledger.wal_missing" in {record.getMessage() for record in caplog.records}
    await fill(store, first=60)
    await store.close()


async def test_a_log_that_was_removed_half_way_into_the_file_leaves_no_usable_ledger(killed: Path) -> None:
    """Some pages of a later moment, some of an earlier one."""
    before = killed.read_bytes()
    with sqlite3.connect(killed) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    after = killed.read_bytes()
    half = len(before) // PAGE // 2 * PAGE
    killed.write_bytes(after[:half] + before[half:] + after[len(before) :])
    wal(killed).unlink(missing_ok=True)
    store = open_store(killed)
    assert store.set_aside is not None
    await store.close()


@pytest.mark.parametrize("size", [0, 16, 5000])
async def test_a_log_that_was_cut_short_counts_as_far_as_it_goes(killed: Path, size: int) -> None:
    truncate(wal(killed), size)
    store = open_store(killed)
    assert store.set_aside is None
    assert 60 <= await known_runs(store) < 120
    await store.close()


async def test_a_log_of_noise_is_left_out(killed: Path) -> None:
    wal(killed).write_bytes(noise(50_000))
    store = open_store(killed)
    assert await known_runs(store) in {0, 60}
    await store.close()


async def test_a_log_without_its_file_is_set_aside(killed: Path) -> None:
    killed.unlink()
    store = open_store(killed)
    assert store.set_aside is not None
    assert store.set_aside.with_name(store.set_aside.name + "-wal").exists()
    assert await known_runs(store) == 0
    await store.close()


async def test_two_damaged_files_of_one_moment_are_both_kept(closed: Path, template: Path) -> None:
    class Stopped(SystemClock):
        moment = SystemClock().now()

        def now(self) -> "datetime":  # type: ignore[name-defined]  # noqa: F821
            return self.moment

    kept = set()
    for _ in range(3):
        shutil.copy(template, closed)
        truncate(closed, 5000)
        store = Store.open(closed, holder="test", clock=Stopped())
        kept.add(store.set_aside)
        await store.close()
    assert len(kept) == 3


def cut_off(path: Path, target: Path) -> None:
    """What is on the disk half way through a large transaction without a write-ahead log: as while a ledger is made, or begins
    from a backup.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={PAGE}")
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE half (way)")
        connection.executemany("INSERT INTO half VALUES (zeroblob(?))", [(8000,)] * 50)
        for name in (path.name, f"{path.name}-journal"):
            shutil.copy(path.with_name(name), target.with_name(name.replace(path.name, target.name)))


@pytest.mark.parametrize("torn", [False, True])
async def test_a_ledger_whose_making_was_cut_off_is_made_at_the_next_start(tmp_path: Path, torn: bool) -> None:
    path = tmp_path / "ledger.db"
    cut_off(tmp_path / "made", path)
    if torn:
        overwrite(path, 0, bytes(512))
    store = open_store(path)
    assert store.set_aside is None
    await fill(store)
    await store.close()


async def test_a_backup_whose_first_use_was_cut_off_is_whole_at_the_next_start(closed: Path, tmp_path: Path) -> None:
    path = tmp_path / "backup" / "ledger.db"
    path.parent.mkdir()
    cut_off(closed, path)
    store = open_store(path)
    assert store.set_aside is None
    assert await known_runs(store) == 60
    await store.close()


async def test_a_transaction_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path, journal = tmp_path / "ledger.db", tmp_path / "ledger.db-journal"
    with closing(sqlite3.connect(tmp_path / "other")) as connection:
        connection.execute("PRAGMA application_id=7")
    cut_off(tmp_path / "other", path)
    before = path.read_bytes(), journal.read_bytes()
    with pytest.raises(LedgerError, match="another program"):
        open_store(path)
    assert (path.read_bytes(), journal.read_bytes()) == before


async def test_contradictions_are_found_after_an_unclean_end(closed: Path) -> None:
    with sqlite3.connect(closed) as connection:
        connection.execute("DELETE FROM event WHERE id = 5")
    connection.close()
    assert sqlite_file.damage(closed, Condition.CLOSED) is None
    assert sqlite_file.damage(closed, Condition.OPEN) == "an event that a sink is owed is gone"
    with sqlite3.connect(closed) as connection:
        connection.execute("DELETE FROM lane")
        connection.execute("UPDATE run SET last_seq = 1 WHERE id = 7")
    connection.close()
    assert "an event has no run" in str(sqlite_file.damage(closed, Condition.OPEN))


async def test_a_large_file_is_not_read_whole_at_every_start(
    closed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then damage shows at run time: the caller gets an error, and the next start reads it all."""
    monkeypatch.setattr(sqlite_file, "READ_WHOLE_BELOW", 1000)
    for page in leaves(closed):
        if b" COMPLETE" in closed.read_bytes()[page * PAGE : (page + 1) * PAGE]:
            overwrite(closed, page * PAGE, bytes(PAGE))
    store = open_store(closed)
    assert store.set_aside is None
    with pytest.raises(LedgerCorrupt, match="at the next start it is checked and set aside"):
        await store.read(lambda conn: conn.exec_driver_sql("SELECT sum(length(body)) FROM event").fetchall())
    await store.close()
    assert "ledger.damaged" in {record.getMessage() for record in caplog.records}
    assert json.loads(closed.with_name("ledger.db.lock").read_text())["condition"] == "suspect"
    store = open_store(closed)
    assert store.set_aside is not None
    await store.close()


async def test_damage_that_shows_as_a_large_file_is_opened_is_set_aside_at_the_next_start(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "READ_WHOLE_BELOW", 1000)
    for page in leaves(closed):
        overwrite(closed, page * PAGE, bytes(PAGE))
    with pytest.raises(LedgerCorrupt, match="at the next start it is checked and set aside"):
        open_store(closed)
    store = open_store(closed)
    assert store.set_aside is not None
    await store.close()


def leaves(path: Path) -> list[int]:
    """Pages of rows beyond the first ones, which hold the schema."""
    return [page for page in range(5, pages(path)) if path.read_bytes()[page * PAGE] == 0x0D]


async def test_the_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"the SQLite file of another program: set ledger\.path to another file"):
        open_store(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*damaged*"))


async def test_a_broken_note_beside_the_ledger_does_no_harm(closed: Path) -> None:
    for words in ("", "[1]", '{"pid": 1}', "\0" * 5000):
        closed.with_name("ledger.db.lock").write_text(words)
        store = open_store(closed)
        assert await known_runs(store) == 60
        await store.close()
