"""The thread that reads queries: each text once, none in the way of polling."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

import pytest

from collector.lineage import sql_worker
from collector.lineage.sql import Source
from collector.lineage.sql_worker import SqlWorker
from tests.unit.lineage.sql_catalog import PlainCatalog


class SlowCatalog(PlainCatalog):
    """Waits at the table `slow.one` until it may go on, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def table(self, parts: tuple[str, ...]) -> Source | str | None:
        self.asked.append(".".join(parts))
        if parts[0] == "slow":
            self.begun.set()
            assert self.may_go_on.wait(30)
        if parts[0] == "faulty":
            raise RuntimeError("planted")
        return super().table(parts)


@pytest.fixture
async def catalog() -> AsyncIterator[SlowCatalog]:
    made = SlowCatalog()
    yield made
    made.may_go_on.set()


async def test_a_text_is_read_once(catalog: SlowCatalog) -> None:
    worker = SqlWorker("plant", catalog)
    first = await worker.lineage(["select a from x.y", None, "", "select a from x.y", "select 1"])
    again = await worker.lineage(["select a from x.y"])
    assert first.keys() == {"select a from x.y", "select 1"}
    assert again["select a from x.y"] is first["select a from x.y"]
    assert catalog.asked == ["x.y"]
    worker.close()


async def test_a_slow_query_does_not_hold_up_and_is_there_later(catalog: SlowCatalog) -> None:
    worker = SqlWorker("plant", catalog, wait=0.01)
    assert await worker.lineage(["select a from slow.one"]) == {}
    assert await worker.lineage(["select a from slow.one", "select 1"]) == {}, "one at a time, in turn"
    catalog.may_go_on.set()
    patient = SqlWorker("other", catalog)
    assert await patient.lineage(["select 1"]), "other sources have threads of their own"
    while len(found := await worker.lineage(["select a from slow.one", "select 1"])) < 2:
        pass
    assert [one.name for one in found["select a from slow.one"].reads or ()] == ["slow.one"]
    assert catalog.asked == ["slow.one"]
    worker.close()
    patient.close()


async def test_queries_before_a_slow_one_are_there_while_it_is_read(catalog: SlowCatalog) -> None:
    worker = SqlWorker("plant", catalog, wait=0.01)
    await worker.lineage(["select 1", "select a from slow.one"])
    await asyncio.to_thread(catalog.begun.wait, 30)
    assert (await worker.lineage(["select 1", "select a from slow.one"])).keys() == {"select 1"}
    catalog.may_go_on.set()
    worker.close()


async def test_a_poll_that_is_given_up_leaves_the_query_to_be_read(catalog: SlowCatalog) -> None:
    worker = SqlWorker("plant", catalog)
    poll = asyncio.ensure_future(worker.lineage(["select a from slow.one"]))
    await asyncio.to_thread(catalog.begun.wait, 30)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    catalog.may_go_on.set()
    assert (await worker.lineage(["select a from slow.one"]))["select a from slow.one"].problems == ()
    worker.close()


async def test_a_fault_of_ours_is_logged_and_stays_with_its_query(
    catalog: SlowCatalog, caplog: pytest.LogCaptureFixture
) -> None:
    worker = SqlWorker("plant", catalog)
    with caplog.at_level(logging.ERROR, "lineage.sql"):
        found = await worker.lineage(["select a from faulty.one", "select a from x.y"])
    assert found["select a from faulty.one"].reads is None
    assert "a fault in this program" in found["select a from faulty.one"].problems[0]
    assert found["select a from x.y"].problems == ()
    assert [record.message for record in caplog.records] == ["sql.broken"]
    worker.close()


async def test_the_line_of_waiting_queries_has_an_end(catalog: SlowCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_worker, "MOST_WAITING", 2)
    worker = SqlWorker("plant", catalog, wait=0.01)
    await worker.lineage(["select a from slow.one", "select 1", "select a from too.late"])
    catalog.may_go_on.set()
    while len(await worker.lineage(["select a from slow.one", "select 1"])) < 2:
        pass
    assert catalog.asked == ["slow.one"]
    worker.close()


async def test_the_line_has_an_end_for_long_queries_too(catalog: SlowCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_worker, "MOST_CHARACTERS", 40)
    worker = SqlWorker("plant", catalog, wait=0.01)
    long = f"select '{'x' * 40}' as x"
    await worker.lineage(["select a from slow.one", long, "select a from too.late"])
    catalog.may_go_on.set()
    while len(await worker.lineage(["select a from slow.one", long])) < 2:
        pass
    assert catalog.asked == ["slow.one"]
    while not await worker.lineage(["select a from too.late"]):
        pass
    assert catalog.asked == ["slow.one", "too.late"], "there is room again"
    worker.close()


async def test_the_cache_forgets_what_was_not_asked_for_longest(
    catalog: SlowCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_worker, "KEPT", 10)
    worker = SqlWorker("plant", catalog)
    for table in ("one", "two", "one", "three", "one", "two"):
        await worker.lineage([f"select a from x.{table}"])
    assert catalog.asked == ["x.one", "x.two", "x.three", "x.two"]
    worker.close()


async def test_closing_gives_up_what_is_being_read(catalog: SlowCatalog) -> None:
    worker = SqlWorker("plant", catalog, wait=0.01)
    await worker.lineage(["select a from slow.one", "select 1"])
    worker.close()
    assert await worker.lineage(["select 2"]) == {}
    catalog.may_go_on.set()


async def test_half_a_surrogate_pair_is_no_obstacle(catalog: SlowCatalog) -> None:
    worker = SqlWorker("plant", catalog)
    assert (await worker.lineage(["select '\ud800' as a from x.y"]))["select '\ud800' as a from x.y"].reads is not None
    worker.close()
