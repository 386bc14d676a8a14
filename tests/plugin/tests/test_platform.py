"""The collector's contract of platforms, on a simulated Taskbox."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from taskbox.platform import Options, Taskbox, create

from collector.http import HttpClient, HttpOptions
from collector.platforms.base import Context
from collector.testing.clock import SimulatedClock
from collector.testing.faults import Faults
from collector.testing.platforms import PlatformContract
from collector.testing.poller import SimulatedPoller


class Rig:
    """A Taskbox whose tasks are as old as the simulated clock says, and the adapter."""

    endings = ("succeeded", "failed", "canceled")
    lists = True

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock, self.faults = clock, Faults()
        self._token = "good"
        self._tasks: dict[str, Callable[[], dict[str, Any]]] = {}
        app = web.Application(middlewares=[self.faults.middleware(lambda status: {"status": status})])
        app.router.add_get("/tasks", self._answer)
        self.server = TestServer(app)

    async def open(self) -> None:
        await self.server.start_server()
        self.poller = SimulatedPoller(self._adapter(), self.clock)

    def _adapter(self) -> Taskbox:
        options = Options.model_validate({"url": str(self.server.make_url("")), "token": "good"})
        context = Context("box", "taskbox://here", HttpClient(HttpOptions()), self.clock, lambda: 0.5)
        return create(SimpleNamespace(options=options), context)

    async def _answer(self, request: web.Request) -> web.Response:
        if request.headers["X-Token"] != self._token:
            return web.json_response({}, status=401)
        return web.json_response([task() for task in self._tasks.values()])

    def start(self, ending: str, seconds: float) -> str:
        key, began = f"task-{len(self._tasks) + 1}", self.clock.now()
        ends = None if ending == "never" else began + timedelta(seconds=seconds)
        self._tasks[key] = lambda: self._task(key, began, ends, ending)
        return key

    def _task(self, key: str, began: datetime, ends: datetime | None, ending: str) -> dict[str, Any]:
        over = ends is not None and ends <= self.clock.now()
        task = {"id": key, "job": "nightly", "started": began.isoformat(), "state": ending if over else "running"}
        return task | ({"ended": ends.isoformat()} if over and ends is not None else {})

    def forget(self, key: str) -> None:
        del self._tasks[key]

    def refuse(self) -> None:
        self._token = "another"

    def accept(self) -> None:
        self._token = "good"

    async def new_process(self) -> Taskbox:
        await self.poller.platform.close()
        self.poller.platform = adapter = self._adapter()
        return adapter

    async def stop_server(self) -> None:
        await self.server.close()

    def expected(self) -> dict[str, dict[str, Any]]:
        return {key: task() for key, task in self._tasks.items()}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(SimulatedClock())
    await made.open()
    yield made
    await made.poller.platform.close()
    await made.stop_server()


class TestTaskbox(PlatformContract):
    pass
