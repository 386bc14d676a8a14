"""The end of the service: what stops badly is logged, and keeps nothing else from stopping well."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from collector.app.service import Service
from collector.clock import SystemClock
from collector.errors import LedgerCorrupt, LedgerLost, LedgerTooNew
from collector.ledger import leases
from collector.ledger.held_lease import Leases
from collector.ledger.requests import RequestKind
from collector.ledger.sqlite.store import Store
from config.settings import Settings
from simulators.server import Served
from simulators.wetransform import WetransformSimulator
from tests.deployment import now


def settings(folder: Path, url: str) -> Settings:
    source = {"platform": "wetransform", "name": "customers", "base_url": url, "tenant": "acme", "token": "a-token"}
    return Settings.model_validate(
        {
            "ledger": {"path": folder / "lineage.db"},
            "http": {"listen": "127.0.0.1:0"},
            "sources": [source],
            "sinks": [{"name": "file", "type": "file", "path": folder / "events"}],
            "stop_within": "5s",
        }
    )


async def broken(*_: object) -> None:
    raise ZeroDivisionError("division by zero")


async def ends_badly() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise OSError("not flushed")


async def given_back(folder: Path, name: str) -> bool:
    """Whether the next process finds nothing left in flight."""
    store = Store.open(folder / "lineage.db", holder="the next", clock=SystemClock())
    try:
        taken = await store.write(leases.take, name, "the next", 1000)
    finally:
        await store.close()
    return taken is not None and taken.clean


async def test_all_parts_that_stop_badly_are_logged_and_all_leases_given_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Served(WetransformSimulator(seed=5, now=now)) as served:
        service = Service(settings(tmp_path, served.url))
        await service.__aenter__()
        service._parts.platforms["customers"].close = broken  # type: ignore[method-assign]
        service._parts.sinks["file"].close = broken  # type: ignore[method-assign, assignment]
        service._spawn("odd", ends_badly())
        async with asyncio.timeout(20):
            while service.unready():
                await asyncio.sleep(0)
        await service.__aexit__()
    logged = [record for record in caplog.records if record.message in {"service.stop_failed", "source.unclosed"}]
    causes = sorted(record.fields["cause"] for record in logged)  # type: ignore[attr-defined]
    assert causes == ["division by zero"] * 2 + ["not flushed"]
    assert await given_back(tmp_path, "source:customers")
    assert await given_back(tmp_path, "sink:file")


async def test_a_start_does_not_wait_for_a_lease_whose_task_died(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def damaged(*_: object) -> None:
        raise LedgerCorrupt("the page of the leases is malformed")

    monkeypatch.setattr(Leases, "take", damaged)
    async with (
        asyncio.timeout(60),
        Served(WetransformSimulator(seed=5, now=now)) as served,
        Service(settings(tmp_path, served.url)) as service,
    ):
        assert await service.until(asyncio.Event()) is not None
    assert "task.died" in {record.message for record in caplog.records}


@pytest.mark.parametrize(("error", "logged"), [(LedgerLost("deleted"), 0), (ZeroDivisionError("bug"), 1)])
async def test_only_what_nobody_expected_is_logged_as_a_task_that_died(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, logged: int
) -> None:
    """A ledger that was lost is logged where that is noticed."""

    async def ends() -> None:
        raise error

    async with (
        Served(WetransformSimulator(seed=5, now=now)) as served,
        Service(settings(tmp_path, served.url)) as service,
    ):
        service._spawn("guard", ends())
        async with asyncio.timeout(60):
            assert await service.until(asyncio.Event()) == "guard"
    assert [record.message for record in caplog.records].count("task.died") == logged


async def test_a_ledger_that_became_too_new_ends_all_work_and_leaves_a_process_that_is_not_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop, lost = asyncio.Event(), LedgerTooNew("the ledger has schema 9999")

    async def ends() -> None:
        service.store.lost = str(lost)
        raise lost

    async with (
        Served(WetransformSimulator(seed=5, now=now)) as served,
        Service(settings(tmp_path, served.url)) as service,
    ):
        service._spawn("guard", ends())
        ended = asyncio.create_task(service.until(stop))
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while not all(task.done() for task in service._tasks.values()):
                await asyncio.sleep(0.01)
            answers = [await shown(session, service.port, path) for path in ("healthz", "readyz")]
        assert (answers[0][0], answers[1][0]) == (200, 503)
        assert "it has stopped working: the ledger has schema 9999" in answers[1][1]
        result = await service.submit("sink:file", RequestKind.RETRY, {})
        assert "schema 9999" in result.answer["error"]
        assert not ended.done()
        stop.set()
        assert await ended is None
    assert "task.died" not in {record.message for record in caplog.records}
    assert await given_back(tmp_path, "source:customers")


async def shown(session: aiohttp.ClientSession, port: int, path: str) -> tuple[int, str]:
    async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
        return answer.status, await answer.text()
