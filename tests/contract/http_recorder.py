"""A server on loopback that keeps what it is asked, and either answers by itself or passes it on."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

from aiohttp import ClientSession, web
from yarl import URL

Answering = Callable[[web.Request, bytes], Awaitable[web.Response]]


@dataclass
class HttpRecorder:
    """`requests` are "METHOD path" with the path decoded, `accepted` the inflated bodies of events that got a 200 or 201."""

    url: str
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    accepted: list[bytes] = field(default_factory=list)

    def count(self, start: str) -> int:
        return sum(request.startswith(start) for request in self.requests)


async def nothing_but_a_body(request: web.Request, body: bytes) -> web.Response:
    """As an endpoint that takes any event."""
    return web.Response(status=200 if body else 400)


@asynccontextmanager
async def recorder(answering: Answering = nothing_but_a_body) -> AsyncIterator[HttpRecorder]:
    kept = HttpRecorder("")

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        body = gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
        kept.requests.append(f"{request.method} {unquote(request.raw_path)}")
        kept.headers.append(dict(request.headers))
        answer = await answering(request, body)
        if request.path.endswith("/lineage") and answer.status in {200, 201}:
            kept.accepted.append(body)
        return answer

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:(?s:.*)}", answer)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kept.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield kept
    finally:
        await runner.cleanup()


@asynccontextmanager
async def forwarding(behind: str) -> AsyncIterator[HttpRecorder]:
    async with ClientSession(auto_decompress=False) as session:

        async def passed_on(request: web.Request, body: bytes) -> web.Response:
            url = URL(f"{behind}{request.raw_path}", encoded=True)
            headers = {
                key: request.headers[key] for key in ("Content-Type", "Accept-Encoding") if key in request.headers
            }
            async with session.request(request.method, url, data=body or None, headers=headers) as answer:
                kept = {
                    key: answer.headers[key] for key in ("Content-Type", "Content-Encoding") if key in answer.headers
                }
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)

        async with recorder(passed_on) as made:
            yield made
