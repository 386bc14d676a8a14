"""The collector's contract of sinks, on a mailbox that keeps what it got."""

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from taskbox.sink import Mailbox, Options, create

from collector.clock import SystemClock
from collector.http import HttpClient, HttpOptions
from collector.testing.sinks import SinkContract
from exporters.sinks.base import Context


class Box:
    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        app = web.Application()
        app.router.add_route("*", "/", self._answer)
        self.server = TestServer(app)

    async def _answer(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            self._bodies.append(await request.read())
        return web.Response()

    def sink(self) -> Mailbox:
        return self._made(str(self.server.make_url("/")))

    def dead(self) -> Mailbox:
        return self._made("http://127.0.0.1:1")

    def _made(self, url: str) -> Mailbox:
        context = Context("box", HttpClient(HttpOptions()), SystemClock(), lambda: 0.5)
        return create(SimpleNamespace(options=Options(url=url)), context)

    async def received(self) -> list[bytes]:
        return self._bodies


@pytest.fixture
async def target() -> AsyncIterator[Box]:
    box = Box()
    await box.server.start_server()
    yield box
    await box.server.close()


class TestMailbox(SinkContract):
    pass
