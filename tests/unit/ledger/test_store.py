"""The file, its threads, and what becomes of callers."""

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from collector.clock import SystemClock
from collector.errors import LedgerCorrupt, LedgerError, LedgerForeign, LedgerLocked
from collector.ledger import configured_sinks, configured_sources, requests
from collector.ledger.configured_sources import Configured
from collector.ledger.port import Change, announce
from collector.ledger.sqlite.store import Store
from collector.ledger.worker import Task, Worker
from collector.reports import WriteFailure
from tests.unit.ledger.ledgers import ALL, NOW, add, names


def open_store(path: Path, holder: str = "test") -> Store:
    return Store.open(path, holder=holder, clock=SystemClock())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = open_store(tmp_path / "ledger.db")
    yield made
    await made.close()


class Gate:
    """Holds the writer's thread, so that commits pile up behind it."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def wait(self, conn: Connection) -> None:
        self.reached.set()
        assert self.open.wait(10)

    async def closed(self, store: Store) -> "asyncio.Task[None]":
        task = asyncio.create_task(store.write(self.wait))
        await asyncio.to_thread(self.reached.wait, 10)
        return task


async def test_what_is_written_is_read(store: Store) -> None:
    assert await store.write(add, "one") == "one"
    assert await store.read(names) == ["one"]
    assert await store.read_claim(names) == ["one"]
    assert await store.read_shown(names) == ["one"]


async def test_claims_and_scrapes_wait_for_no_poll(store: Store) -> None:
    gate = Gate()
    poll = asyncio.create_task(store.read(gate.wait))
    await asyncio.to_thread(gate.reached.wait, 10)
    async with asyncio.timeout(10):
        assert await store.read_claim(names) == []
        assert await store.read_shown(names) == []
    assert not poll.done()
    gate.open.set()
    await poll


async def test_no_claim_waits_for_a_scrape(store: Store) -> None:
    gate = Gate()
    scrape = asyncio.create_task(store.read_shown(gate.wait))
    await asyncio.to_thread(gate.reached.wait, 10)
    async with asyncio.timeout(10):
        assert await store.read_claim(names) == []
    gate.open.set()
    await scrape


async def test_what_is_first_is_committed_before_what_waits_and_in_a_commit_of_its_own(store: Store) -> None:
    done: list[str] = []

    def noted(conn: Connection, name: str) -> None:
        done.append(add(conn, name))

    def breaks(conn: Connection) -> None:
        conn.exec_driver_sql("ROLLBACK")  # as a full disk does: nothing of this commit is there
        raise ValueError("no")

    gate = Gate()
    held = await gate.closed(store)
    long = [asyncio.create_task(store.write(noted, "page")), asyncio.create_task(store.write(breaks))]
    short = [asyncio.create_task(store.write_first(noted, name)) for name in ("settle", "other settle")]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(held, *short)
    assert all(isinstance(error, Exception) for error in await asyncio.gather(*long, return_exceptions=True))
    assert done == ["settle", "other settle", "page"]
    assert await store.read(names) == ["other settle", "settle"]


def test_what_is_first_keeps_nothing_waiting_for_ever() -> None:
    """Each that is first brings the next one, as a busy sink does."""
    served: list[str] = []
    gate = threading.Event()

    def serve(batch: Sequence[Task]) -> None:
        for task in batch:
            task.answer.set_result(task.work(None))

    def settle(left: int) -> None:
        served.append("settle")
        if left:
            worker.submit(lambda _: settle(left - 1), first=True)

    worker = Worker("test", serve)
    worker.submit(lambda _: gate.wait(10))
    worker.submit(lambda _: settle(20), first=True)
    page = worker.submit(lambda _: served.append("page"))
    gate.set()
    page.result(10)
    worker.stop()
    assert served.index("page") <= 2


async def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ledger.db"
    for expected in ([], ["one"]):
        store = open_store(path)
        assert await store.read(names) == expected
        if not expected:
            await store.write(add, "one")
        await store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]
    assert path.stat().st_mode & 0o077 == 0, "it holds SQL and names: for its owner alone"


async def test_readers_cannot_write(store: Store) -> None:
    for read in (store.read, store.read_claim, store.read_shown):
        with pytest.raises(LedgerError, match="readonly database"):
            await read(add, "one")


async def test_what_one_function_raises_undoes_its_own_work_only(store: Store) -> None:
    def breaks(conn: Connection) -> None:
        add(conn, "half")
        raise ValueError("no")

    gate = Gate()
    held = await gate.closed(store)
    calls = [store.write(add, "before"), store.write(breaks), store.write(add, "before"), store.write(add, "after")]
    together = asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0)
    gate.open.set()
    first, broken, repeated, last = await together
    await held
    assert (first, last) == ("before", "after")
    assert isinstance(broken, ValueError)
    assert isinstance(repeated, LedgerError)
    assert "UNIQUE constraint failed: source.name" in str(repeated)
    assert await store.read(names) == ["after", "before"]


async def test_commits_that_wait_share_one(store: Store) -> None:
    gate = Gate()
    held = await gate.closed(store)
    rung: list[int] = []
    store.on_commit(lambda: rung.append(1))
    together = asyncio.gather(*(store.write(add, str(number)) for number in range(20)))
    await asyncio.sleep(0)
    gate.open.set()
    await together
    await held
    assert len(await store.read(names)) == 20
    assert len(rung) == 2, "one for the gate, one for all the others"


async def test_a_commit_happens_though_its_caller_was_cancelled(store: Store) -> None:
    gate = Gate()
    held = await gate.closed(store)
    cancelled = [asyncio.create_task(store.write(add, str(number))) for number in range(10)]
    await asyncio.sleep(0)
    for task in cancelled:
        task.cancel()
    assert all(
        isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*cancelled, return_exceptions=True)
    )
    gate.open.set()
    await held
    await store.write(add, "last")
    assert len(await store.read(names)) == 11


async def test_cancelling_at_any_moment_tears_nothing(store: Store) -> None:
    def pair(conn: Connection, number: int) -> None:
        add(conn, f"{number} a")
        add(conn, f"{number} b")

    for number in range(60):
        task = asyncio.create_task(store.write(pair, number))
        for _ in range(number % 7):
            await asyncio.sleep(0.0002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.write(add, "last")
    found = [name.split()[0] for name in await store.read(names)]
    assert all(found.count(name) == 2 for name in found if name != "last")
    assert len(found) > 90, "but for those that were cancelled before they began"


async def test_an_error_that_nobody_waits_for_any_more_is_logged(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    held = await gate.closed(store)
    await_twice = [asyncio.create_task(store.write(add, "twin")) for _ in range(2)]
    await asyncio.sleep(0)
    await_twice[1].cancel()
    gate.open.set()
    await asyncio.gather(held, *await_twice, return_exceptions=True)
    await store.write(add, "last")
    [record] = [record for record in caplog.records if record.getMessage() == "ledger.write_failed"]
    assert "UNIQUE" in str(getattr(record, "fields", {}))


async def test_news_reach_those_whom_they_concern(store: Store) -> None:
    rung: list[str] = []
    await store.write(configured_sources.sync_sources, [Configured("source")], NOW)
    store.on_commit(lambda: rung.append("any"))
    stop = store.on_commit(lambda: rung.append("asked"), Change.REQUESTS)
    await store.write(add, "one")
    assert rung == ["any"], "heard before the answer"
    await store.write(requests.hint, 1, NOW)
    assert rung == ["any", "any", "asked"]
    stop()
    await store.write(requests.hint, 1, NOW)
    assert rung == ["any", "any", "asked", "any"]


async def test_what_did_not_commit_is_no_news(store: Store) -> None:
    def notifies_and_breaks(conn: Connection) -> None:
        announce(conn, Change.EVENTS)
        raise ValueError("no")

    rung: list[int] = []
    store.on_commit(lambda: rung.append(1), Change.EVENTS)
    with pytest.raises(ValueError, match="no"):
        await store.write(notifies_and_breaks)
    await store.write(add, "other")
    assert rung == []


async def test_closing_does_what_waits_and_then_nothing_more(tmp_path: Path) -> None:
    store = open_store(tmp_path / "ledger.db")
    gate = Gate()
    held = await gate.closed(store)
    waiting = asyncio.create_task(store.write(add, "waiting"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    gate.open.set()
    await closing
    await held
    assert await waiting == "waiting"
    await store.close()
    for call in (store.write(add, "late"), store.read(names), store.compact(1)):
        with pytest.raises(LedgerError, match="closed"):
            await call
    again = open_store(tmp_path / "ledger.db")
    assert await again.read(names) == ["waiting"]
    await again.close()


async def test_a_full_disk_is_an_error_and_passes(store: Store) -> None:
    def limit(conn: Connection, pages: int) -> None:
        conn.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    def much(conn: Connection) -> None:
        for number in range(200):
            add(conn, f"{number} " + "x" * 4000)

    failures: list[WriteFailure] = []
    store.on_failure(failures.append)
    await store.write(limit, 1)
    assert failures == []
    gate = Gate()
    held = await gate.closed(store)
    both = asyncio.gather(store.write(add, "little"), store.write(much), return_exceptions=True)
    await asyncio.sleep(0)
    gate.open.set()
    little, failed = await both
    await held
    assert isinstance(failed, LedgerError)
    assert "no space left on its disk; nothing was committed" in str(failed)
    assert set(failures) == {WriteFailure.FULL}, "each write that failed, and none that did not"
    assert len(failures) == sum(isinstance(each, LedgerError) for each in (little, failed))
    kept = await store.read(names)
    assert kept == (["little"] if little == "little" else []), "the caller who got an acknowledgement has it"
    await store.write(limit, 1_000_000)
    await store.write(much)
    assert len(await store.read(names)) == 200 + len(kept)


async def test_free_pages_go_back_to_the_disk(store: Store) -> None:
    def fill(conn: Connection) -> None:
        for number in range(500):
            add(conn, f"{number} " + "x" * 4000)

    def clear(conn: Connection) -> None:
        conn.exec_driver_sql("DELETE FROM source")

    def free(conn: Connection) -> int:
        return int(conn.exec_driver_sql("PRAGMA freelist_count").scalar_one())

    await store.write(fill)
    await store.write(clear)
    before = await store.read(free)
    await store.compact(100)
    assert await store.read(free) == before - 100, "all at once, not one page"


async def test_the_second_process_learns_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    holding = (
        "import sys, pathlib; from collector.clock import SystemClock; from collector.ledger.sqlite.store import Store;"
        "s = Store.open(pathlib.Path(sys.argv[1]), holder='the other', clock=SystemClock());"
        "print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(  # noqa: ASYNC220 - it starts in no time
        [sys.executable, "-c", holding, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == "open\n"
        with pytest.raises(LedgerLocked, match=rf"in use by process {other.pid} on .* \(the other, since 20"):
            open_store(path)
        reader = Store.open_readonly(path)
        assert await reader.read(names) == []
        await reader.close()
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.communicate()
    store = open_store(path)
    assert store.set_aside is None
    await store.close()


async def test_one_process_opens_it_once(store: Store) -> None:
    with pytest.raises(LedgerLocked, match=rf"in use by process {os.getpid()} on"):
        open_store(store.path)


async def test_reading_beside_a_writer(store: Store) -> None:
    await store.write(add, "one")
    reader = Store.open_readonly(store.path)
    assert await reader.read(names) == ["one"]
    await store.write(add, "two")
    assert await reader.read(names) == ["one", "two"]
    for call in (reader.write(add, "three"), reader.compact(1)):
        with pytest.raises(LedgerError, match="opened for reading only"):
            await call
    await reader.close()


async def test_reading_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"there is no ledger at .*start the service"):
        Store.open_readonly(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("hello" * 100)
    with pytest.raises(LedgerForeign, match="that is not a ledger"):
        Store.open_readonly(tmp_path / "text.db")


async def test_a_file_that_was_never_a_ledger_stays_where_it_is(tmp_path: Path) -> None:
    """A `ledger.path` that names the user's own file by mistake."""
    path = tmp_path / "notes.txt"
    path.write_text("my only copy\n" * 100)
    for _ in range(2):  # the lock that the first try leaves does not make it a ledger
        with pytest.raises(LedgerForeign, match=r"notes\.txt that is not a ledger.*set ledger\.path to another file"):
            open_store(path)
    assert path.read_text() == "my only copy\n" * 100


async def test_a_ledger_that_became_something_else_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    await open_store(path).close()
    path.write_text("no ledger\n" * 1000)
    with pytest.raises(LedgerCorrupt, match="the next start of the service checks it and sets it aside"):
        Store.open_readonly(path)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: path.mkdir(), r"ledger\.db is a directory: set ledger\.path to a file in it$"),
        (lambda path: path.parent.rmdir() or path.parent.write_text(""), "cannot create"),
    ],
)
def test_a_place_where_no_ledger_can_be(tmp_path: Path, make: Callable[[Path], object], complaint: str) -> None:
    path = tmp_path / "place" / "ledger.db"
    path.parent.mkdir()
    make(path)
    with pytest.raises(LedgerError, match=complaint):
        open_store(path)


async def test_the_log_says_what_was_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lineage.ledger"):
        store = open_store(tmp_path / "ledger.db")
    await store.close()
    opened = next(record for record in caplog.records if record.getMessage() == "ledger.opened")
    assert "sqlite" in getattr(opened, "fields", {})


async def test_a_listener_of_a_loop_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    store = open_store(tmp_path / "ledger.db")

    def listen_elsewhere() -> None:
        async def listen() -> None:
            store.on_commit(lambda: None)

        asyncio.run(listen())

    await asyncio.to_thread(listen_elsewhere)
    await store.write(add, "one")
    await store.write(configured_sinks.sync_sinks, {"a": ALL}, NOW)
    assert await store.read(names) == ["one"]
    await store.close()


async def test_a_write_that_no_disk_refused_is_no_failure_of_the_disk(store: Store) -> None:
    failures: list[WriteFailure] = []
    store.on_failure(failures.append)

    def twice(conn: Connection) -> None:
        add(conn, "same")
        add(conn, "same")

    with pytest.raises(LedgerError, match="UNIQUE"):
        await store.write(twice)
    with pytest.raises(ZeroDivisionError):
        await store.write(lambda _: 1 / 0)
    assert failures == []


async def test_a_ledger_that_another_process_holds_is_counted_as_locked(store: Store) -> None:
    failures: list[WriteFailure] = []
    store.on_failure(failures.append)
    await store.write(lambda conn: conn.exec_driver_sql("PRAGMA busy_timeout=1").close())
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError):
            await store.write(add, "late")
        other.execute("ROLLBACK")
    assert failures == [WriteFailure.LOCKED]
