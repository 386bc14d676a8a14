"""Planned faults of a simulated server, each a number of times, on the requests that match."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FaultKind(StrEnum):
    STATUS = "status"
    """Answer with `status`, `headers` and `body` and do nothing."""
    HTML = "html"
    """Answer a gateway's HTML page with `status` (502 by default)."""
    SLOW = "slow"
    """Do the work, answer after `delay` seconds."""
    LOST = "lost"
    """Do the work, then close the connection without an answer."""
    TRUNCATED = "truncated"
    """Do the work, answer only the first half of the body under a Content-Length of that half."""
    RESET = "reset"
    """Close the connection without doing the work."""


@dataclass(slots=True)
class Fault:
    """One planned fault. `path` is a regular expression searched in "METHOD /path"; `times` below zero means always."""

    kind: FaultKind
    path: str = "."
    times: int = 1
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    delay: float = 0.0

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Fault":
        return cls(**{**data, "kind": FaultKind(data["kind"])})

    def matches(self, request: web.Request) -> bool:
        return self.times != 0 and re.search(self.path, f"{request.method} {request.path}") is not None


class Faults:
    """The planned faults of one simulator; the first that matches a request is used up by it."""

    def __init__(self) -> None:
        self.planned: list[Fault] = []

    def plan(self, fault: Fault) -> None:
        self.planned.append(fault)

    def clear(self) -> None:
        self.planned.clear()

    def take(self, request: web.Request) -> Fault | None:
        for fault in self.planned:
            if fault.matches(request):
                fault.times -= fault.times > 0
                return fault
        return None

    def middleware(self, error_body: Callable[[int], Any]) -> Any:
        """`error_body` makes the vendor's error envelope for a status."""

        @web.middleware
        async def faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
            fault = None if request.path.startswith("/_control") else self.take(request)
            if fault is None:
                return await handler(request)
            return await _commit(fault, request, handler, error_body)

        return faulty


async def _commit(
    fault: Fault, request: web.Request, handler: Handler, error_body: Callable[[int], Any]
) -> web.StreamResponse:
    if fault.kind is FaultKind.STATUS:
        body = error_body(fault.status) if fault.body is None else fault.body
        return web.json_response(body, status=fault.status, headers=fault.headers)
    if fault.kind is FaultKind.HTML:
        text = "<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
        status = 502 if fault.status == 500 else fault.status
        return web.Response(text=text, status=status, content_type="text/html", headers=fault.headers)
    if fault.kind is FaultKind.RESET:
        return _disconnect(request)
    answer = await handler(request)
    if fault.kind is FaultKind.SLOW:
        await asyncio.sleep(fault.delay)
        return answer
    if fault.kind is FaultKind.LOST:
        return _disconnect(request)
    whole = answer.body if isinstance(answer, web.Response) and isinstance(answer.body, bytes) else b""
    return web.Response(body=whole[: len(whole) // 2], status=answer.status, content_type="application/json")


def _disconnect(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return web.Response()
