"""Two services on one ledger: what each shows, and what is done wherever it is asked for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from collector.app.service import Service
from collector.clock import SystemClock
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.sqlite.store import Store
from simulators.server import Served
from simulators.wetransform import WetransformSimulator
from tests.deployment import now
from tests.unit.app.test_service_end import settings

PATIENCE = 120.0


class Shared:
    """The ledger of several services in one process: none of them closes it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def close(self) -> None: ...


@asynccontextmanager
async def replicas(folder: Path, count: int = 2) -> AsyncIterator[list[Service]]:
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(Served(WetransformSimulator(seed=5, now=now)))
        store: Any = Store.open(folder / "lineage.db", holder="test", clock=SystemClock())
        stack.push_async_callback(store.close)
        made = []
        for number in range(count):
            of_one = settings(folder, served.url).model_copy(update={"control_socket": folder / f"{number}.sock"})
            shared: Any = Shared(store)
            made.append(await stack.enter_async_context(Service(of_one, store=shared)))
        yield made


async def until(happened: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = happened()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.05)


async def get(service: Service, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{service.port}{path}") as answer:
        return answer.status, await answer.text()


def series(page: str) -> set[str]:
    """Without those that are of the process itself."""
    lines = [line.rsplit(" ", 1)[0] for line in page.splitlines() if line.startswith("lineage_")]
    return {line for line in lines if line.startswith(("lineage_ledger_bytes", "lineage_deliveries", "lineage_runs"))}


async def test_one_replica_shows_the_ledgers_series_and_all_are_ready(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (first, second):
        for service in (first, second):
            await until(lambda service=service: not service.unready())
            assert (await get(service, "/readyz"))[0] == 200

        async def one_shows_them() -> bool:
            shown = [series((await get(service, "/metrics"))[1]) for service in (first, second)]
            return sorted(map(bool, shown)) == [False, True]

        await until(one_shows_them)
        held = [(await get(service, "/metrics"))[1].count("lineage_lease_held{") for service in (first, second)]
        assert held == [4, 4], "a lease that is held elsewhere is 0 here"


async def test_each_replica_says_who_does_what(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (first, second):
        for service in (first, second):
            status = await service.status()
            names = {row["replica"] for row in status["replicas"]}
            assert len(names) == 2
            assert {row["holder"] for row in (*status["sources"], *status["sinks"])} <= names
            assert not any(row["wrong"] for row in status["replicas"])
            assert "replica" in (await get(service, "/"))[1]


async def test_what_is_asked_of_any_replica_is_done_by_the_holder(tmp_path: Path) -> None:
    async with replicas(tmp_path) as services:
        for service in services:
            answer = await service.submit("sink:file", RequestKind.RETRY, {})
            assert (answer.state, answer.answer) == (RequestState.FAILED, {"error": "nothing is parked there"})
            watched = await service.submit("source:customers", RequestKind.WATCH, {"key": "nothing", "options": {}})
            assert watched.state is RequestState.FAILED
            assert "nothing" in str(watched.answer["error"])


async def test_a_replica_that_stops_is_followed_in_all_that_it_did(tmp_path: Path) -> None:
    async with replicas(tmp_path, 1) as [first]:
        follower: Any = Shared(first.store._store)  # type: ignore[attr-defined]
        of_it = first.settings.model_copy(update={"control_socket": tmp_path / "follower.sock"})
        async with Service(of_it, store=follower) as second:
            assert not second._parts.leases.holds("metrics")
            await first._stop()
            names = ("metrics", "housekeeping", "source:customers", "sink:file")
            await until(lambda: all(second._parts.leases.holds(name) for name in names))
            assert series((await get(second, "/metrics"))[1])
