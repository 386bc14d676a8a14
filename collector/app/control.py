"""The control socket: how the command line hands requests to the running service, over HTTP on a Unix socket.

Only who may open the socket (mode 0600, beside the ledger) may ask.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from collector.errors import LineageError
from collector.ledger.requests import RequestKind, RequestState


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a request."""

    state: RequestState
    answer: Mapping[str, Any]


Ask = Callable[[str, RequestKind, Mapping[str, Any]], Awaitable[Told]]
Status = Callable[[], Awaitable[Mapping[str, Any]]]


class Control:
    """Listens while the service runs."""

    def __init__(self, path: Path, ask: Ask, status: Status) -> None:
        self._path, self._ask, self._status = path, ask, status
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """A socket that a killed process left is replaced: whoever holds the ledger's lock is the only service."""
        self._path.unlink(missing_ok=True)
        app = web.Application()
        app.add_routes([web.post("/requests", self._request), web.get("/status.json", self._told)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        mask = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _request(self, request: web.Request) -> web.Response:
        asked = await request.json()
        told = await self._ask(asked["target"], RequestKind(asked["kind"]), asked["body"])
        body = {"state": told.state.value, "answer": dict(told.answer)}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def _told(self, _: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(await self._status()), content_type="application/json")


async def ask(path: Path, target: str, kind: RequestKind, body: Mapping[str, Any]) -> Told | None:
    """Ask the service that listens there and wait for the answer; None when no service listens."""
    if not path.exists():
        return None
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(path)), timeout=aiohttp.ClientTimeout(total=120)
            ) as session,
            session.post(
                "http://service/requests", json={"target": target, "kind": kind.value, "body": dict(body)}
            ) as answer,
        ):
            if answer.status != 200:
                raise LineageError(f"the running service refused the request: {answer.status} {await answer.text()}")
            told = await answer.json()
    except aiohttp.ClientConnectorError:
        return None
    return Told(RequestState(told["state"]), told["answer"])
