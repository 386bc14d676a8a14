"""The HTTP server under the pages: TLS, passwords, and limits on what one client can use."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from collector.logs import fields
from collector.tls import RotatingContext
from config.web import Access
from exporters.web.access import Gate, Handler
from exporters.web.connections import LIMITS, Connections, Handshake, Handshakes, Limits
from exporters.web.unmatched import unmatched

LARGEST_BODY = 64 * 1024
"""Bytes of a request; a larger one is answered 413. Request lines and headers end at aiohttp's 8 KiB each, 128 of them."""
PassOn = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]
_HEADERS = {
    "Server": "lineage-collector",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


def _without_content(record: logging.LogRecord) -> bool:
    """Drops aiohttp's tracebacks for malformed requests: they repeat the beginning of it, which may be a password."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        client = record.args[0] if isinstance(record.args, tuple) and record.args else None
        details = fields(client=client, status=error.code, cause=type(error).__name__)
        record.msg, record.args, record.exc_info = "request.malformed", (), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        vars(record).update(details)
    return True


_log = logging.getLogger("lineage.http")
_log.addFilter(_without_content)


@dataclass(frozen=True, slots=True)
class Listener:
    """A running server and the `port` that it listens on."""

    port: int
    runner: web.AppRunner
    server: asyncio.Server
    connections: Connections
    handshakes: Handshakes | None

    async def close(self) -> None:
        self.server.close()
        if self.handshakes is not None:
            await self.handshakes.close()
        await self.runner.cleanup()


async def listen(
    routes: Iterable[web.AbstractRouteDef],
    open_to: Iterable[str],
    host: str,
    port: int,
    access: Callable[[], Access] = Access,
    limits: Limits = LIMITS,
    health: Collection[str] = (),
    names: Collection[str] = (),
    at_stop: Callable[[], None] | None = None,
) -> Listener:
    """Serve `routes`, those of `open_to` (as they are written in the routes) without a password, the paths of `health`
    also when there are too many connections; port 0 takes a free one. Requests to another host name than `names` are
    answered 421, if there are any.

    `access` is called for each request and each connection; whether there is TLS is decided now. `at_stop` is called
    when it stops, to end what is still being answered. Raises OSError when the port is taken.
    """
    gate = Gate(access, frozenset(open_to))
    connections, context = Connections(limits), _tls(access)
    handshakes = None if context is None else Handshakes(context, connections, limits.handshake)
    pass_on = _guarding(connections, frozenset(health), _named(frozenset(names), gate.pass_on))
    app = web.Application(client_max_size=LARGEST_BODY, middlewares=[_within(limits.request, pass_on), unmatched])
    app.add_routes(routes)
    app.on_response_prepare.append(_headers(access))
    if at_stop is not None:
        app.on_shutdown.append(_calling(at_stop))
    runner = web.AppRunner(app, shutdown_timeout=2.0, **_handling(limits))
    await runner.setup()
    try:
        accepted = _accepting(runner, access, limits, connections, handshakes)
        server = await asyncio.get_running_loop().create_server(accepted, host, port, backlog=128)
    except OSError:
        await runner.cleanup()
        raise
    return Listener(server.sockets[0].getsockname()[1], runner, server, connections, handshakes)


def _calling(at_stop: Callable[[], None]) -> Callable[[web.Application], Awaitable[None]]:
    async def called(_: web.Application) -> None:
        at_stop()

    return called


def _accepting(
    runner: web.AppRunner,
    access: Callable[[], Access],
    limits: Limits,
    connections: Connections,
    handshakes: Handshakes | None,
) -> Callable[[], asyncio.Protocol]:
    make, loop = runner.server, asyncio.get_running_loop()
    assert make is not None  # the runner was set up

    def accepted() -> asyncio.Protocol:
        connection = _Connection(make, access, connections, loop=loop, **_handling(limits))
        return connection if handshakes is None else Handshake(connection, handshakes)

    return accepted


def _handling(limits: Limits) -> dict[str, Any]:
    return {"access_log": None, "logger": _log, "keepalive_timeout": limits.idle, "lingering_time": 2.0}


class _Connection(web.RequestHandler):
    """Answers to malformed requests get the same headers as others: aiohttp would send its version."""

    __slots__ = ("_access", "_connections")

    def __init__(
        self, server: web.Server, access: Callable[[], Access], connections: Connections, **handling: Any
    ) -> None:
        super().__init__(server, **handling)
        self._access, self._connections = access, connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._connections.add(self, transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.remove(self)
        super().connection_lost(exc)

    def handle_error(self, *args: Any, **about: Any) -> web.StreamResponse:
        answer = super().handle_error(*args, **about)
        answer.headers.update(_security(self._access))
        return answer


def _tls(access: Callable[[], Access]) -> ssl.SSLContext | None:
    def current() -> ssl.SSLContext:
        context = access().tls
        assert context is not None  # it is neither added nor taken out while the server runs
        return context

    return RotatingContext(current) if access().tls is not None else None


def _guarding(connections: Connections, health: Collection[str], pass_on: PassOn) -> PassOn:
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not connections.is_extra(request.protocol):
            return await pass_on(request, handler)
        answer: web.StreamResponse = web.Response(
            status=503, text="too many connections\n", headers={"Retry-After": "5"}
        )
        if request.path in health:
            answer = await pass_on(request, handler)
        answer.force_close()
        return answer

    return guarded


def _within(seconds: float, pass_on: PassOn) -> Any:
    """Sends the answer, too, as aiohttp would wait without end for a client that does not read it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        if transport is not None and isinstance(transport, asyncio.WriteTransport):
            transport.set_write_buffer_limits(high=0)  # else up to 64 KiB that the client has not read count as sent
        answer: web.StreamResponse = web.Response(status=503, text=f"this took longer than {seconds:.0f} s\n")
        try:
            async with asyncio.timeout(seconds):
                try:
                    answer = await pass_on(request, handler)
                except web.HTTPException as error:  # such as 413; aiohttp accepts it only while it is raised
                    answer = web.Response(status=error.status, text=error.text, headers=error.headers.copy())
                await _send(answer, request)
        except TimeoutError:
            if answer.prepared and transport is not None:
                transport.abort()
        return answer

    return middleware


async def _send(answer: web.StreamResponse, request: web.Request) -> None:
    try:
        await answer.prepare(request)
        await answer.write_eof()
    except ConnectionError:
        pass  # the client went away, as browsers do when another page is opened


def _headers(access: Callable[[], Access]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def add(_: web.Request, answer: web.StreamResponse) -> None:
        answer.headers.update(_security(access))

    return add


def _security(access: Callable[[], Access]) -> dict[str, str]:
    return _HEADERS | dict(access().headers)


def _named(names: Collection[str], pass_on: PassOn) -> PassOn:
    """Protects against DNS rebinding: a foreign page whose name resolves to this address must not read these pages."""

    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.headers.get("Host", "")
        if names and asked and _host(asked) not in names:
            return web.Response(status=421, text="this host name is not served here: see http.host_names\n")
        return await pass_on(request, handler)

    return checked


def _host(header: str) -> str:
    """Without the port and brackets; empty where it cannot be read."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
