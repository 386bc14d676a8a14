"""What one client may take of the server: time, connections, sizes. Each over a separate connection."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest
from aiohttp import web

from config.settings import Http
from config.web import Access
from exporters.web.connections import LIMITS, Limits
from exporters.web.listener import Listener, listen
from exporters.web.pages import MetricsPage, Pages, serve
from tests.servers.certificates import Certificates, make_certificates
from tests.unit.exporters.test_web import GOOD

SOON = 0.3
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def served(limits: Limits, pages: Pages = GOOD, access: Access | None = None) -> AsyncIterator[Listener]:
    listener = await serve(pages, "127.0.0.1", 0, (), lambda: access or Access(), limits)
    try:
        yield listener
    finally:
        await listener.close()


@asynccontextmanager
async def connected(listener: Listener, sent: bytes) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=2**16)
    try:
        writer.write(sent)
        await writer.drain()
        yield reader, writer
    finally:
        writer.transport.abort()


async def answered(listener: Listener, sent: bytes) -> bytes:
    """All that comes before the server closes the connection."""
    async with connected(listener, sent) as (reader, _):
        return await asyncio.wait_for(reader.read(), 10)


async def came(listener: Listener, most: int = 1) -> None:
    async with asyncio.timeout(10):
        while len(listener.connections) < most:
            await asyncio.sleep(0.01)


async def gone(listener: Listener) -> None:
    async with asyncio.timeout(10):
        while listener.connections:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("sent", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nA:"])
async def test_who_does_not_end_the_headers_is_cut_off(sent: bytes) -> None:
    async with served(replace(LIMITS, idle=SOON)) as listener:
        assert await answered(listener, sent) == b""
        await gone(listener)


async def test_headers_that_come_byte_by_byte_are_cut_off() -> None:
    async with (
        served(replace(LIMITS, idle=SOON)) as listener,
        connected(listener, b"GET / HTTP/1.1\r\nA: ") as (_, writer),
    ):
        await came(listener)
        for _ in range(1000):
            if writer.transport.is_closing() or not listener.connections:
                break
            writer.write(b"a")
            await asyncio.sleep(0.01)
        await gone(listener)


async def test_an_idle_connection_is_closed() -> None:
    async with served(replace(LIMITS, idle=SOON)) as listener:
        said = await answered(listener, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert said.endswith(b"\r\n\r\nok\n")


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    cancelled = asyncio.Event()

    async def never() -> MetricsPage:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with served(replace(LIMITS, request=SOON), replace(GOOD, metrics=never)) as listener:
        said = await answered(listener, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 503 ")
        assert cancelled.is_set()


@pytest.mark.parametrize("size", [40_000, 2_000_000])
async def test_who_does_not_read_the_answer_is_cut_off(size: int) -> None:
    """A page that fits into the buffers of this program as well as one that does not. It is there at once: what takes
    longer than the limit is answered 503, which the buffers of the system take.
    """
    asked = asyncio.Event()

    async def page(_: web.Request) -> web.Response:
        asked.set()
        return web.Response(body=b"x" * size)

    listener = await listen([web.get("/large", page)], ["/large"], "127.0.0.1", 0, limits=replace(LIMITS, request=1.0))
    listener.server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", listener.port))
        client.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(asked.wait(), 10)
        await gone(listener)
    await listener.close()


HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def crowded(listener: Listener, clients: int) -> AsyncIterator[list[Client]]:
    """So many clients that say nothing."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(listener, b"")) for _ in range(clients)]


async def test_connections_beyond_the_limit_get_nothing_but_health() -> None:
    async with served(replace(LIMITS, connections=2)) as listener:
        async with crowded(listener, 2) as [_, (reader, writer)]:
            await came(listener, 2)
            said = await answered(listener, HEALTHZ)
            assert said.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nConnection: close\r\n" in said
            assert (await answered(listener, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert (await answered(listener, METRICS)).startswith(b"HTTP/1.1 503 ")
            writer.write(METRICS.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert (await reader.read()).startswith(b"HTTP/1.1 200 "), "those that are in stay in"
        await gone(listener)
        said = await answered(listener, METRICS.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert said.startswith(b"HTTP/1.1 200 "), "there is room again"


async def test_no_crowd_keeps_a_prober_out() -> None:
    """However many there are and however long they stay: a new connection ends the oldest of those beyond the limit."""
    limits = replace(LIMITS, connections=3, extra=4, extra_life=3600.0)
    async with served(limits) as listener, crowded(listener, 60):
        for _ in range(5):
            assert (await answered(listener, HEALTHZ)).startswith(b"HTTP/1.1 200 ")
        async with asyncio.timeout(10):
            while len(listener.connections) > 3 + 4:
                await asyncio.sleep(0.01)


async def test_who_is_beyond_the_limit_and_says_nothing_is_soon_ended() -> None:
    async with (
        served(replace(LIMITS, connections=1, extra_life=SOON)) as listener,
        crowded(listener, 1),
        connected(listener, b"") as (reader, _),
    ):
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        assert (await answered(listener, HEALTHZ)).startswith(b"HTTP/1.1 200 ")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def encrypted(certificates: Certificates) -> Access:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    return Access(tls=context, users={"me": "$2b$04$nobody"})


async def test_health_is_answered_under_a_crowd_over_tls_and_without_a_password(
    certificates: Certificates, encrypted: Access
) -> None:
    trust = ssl.create_default_context(cafile=certificates.ca)
    limits = replace(LIMITS, connections=2, extra=4)
    async with served(limits, access=encrypted) as listener, AsyncExitStack() as stack:
        for _ in range(20):
            _, idle = await asyncio.open_connection("127.0.0.1", listener.port, ssl=trust)
            stack.callback(idle.close)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=trust)
        stack.callback(writer.close)
        writer.write(HEALTHZ)
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
async def test_handshakes_that_do_not_end_count_as_connections(
    certificates: Certificates, encrypted: Access, begun: bytes
) -> None:
    trust = ssl.create_default_context(cafile=certificates.ca)
    limits = replace(LIMITS, connections=2, extra=4, extra_life=3600.0, handshake=3600.0)
    async with served(limits, access=encrypted) as listener:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(listener, begun)) for _ in range(40)]
            for reader, _ in clients[2:-4]:
                with suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 10) == b"", "it was ended in favour of a newer one"
            assert len(listener.connections) == 2 + 4
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=trust)
            stack.callback(writer.close)
            writer.write(HEALTHZ)
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200 ")
            assert len(listener.connections) <= 2 + 4
        await gone(listener)


async def test_a_handshake_that_takes_too_long_is_cut_off(encrypted: Access) -> None:
    async with served(replace(LIMITS, handshake=SOON), access=encrypted) as listener:
        assert await answered(listener, b"") == b""
        await gone(listener)


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(
    certificates: Certificates, encrypted: Access
) -> None:
    """As one packet, so that HTTP gets it only after TLS has handed the connection over."""
    trust = ssl.create_default_context(cafile=certificates.ca)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(received, sent, server_hostname="127.0.0.1")
    async with served(LIMITS, access=encrypted) as listener, connected(listener, b"") as (reader, writer):
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(sent.read())
                received.write(await asyncio.wait_for(reader.read(65536), 10))
        client.write(HEALTHZ)
        writer.write(sent.read())
        answer = b""
        while not answer.endswith(b"ok\n"):
            received.write(await asyncio.wait_for(reader.read(65536), 10))
            with suppress(ssl.SSLWantReadError):
                answer += client.read(65536)
        assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: a\r\n" * 200 + b"\r\n",
        b"\x16\x03\x01 this is TLS\r\n\r\n",
    ],
)
async def test_what_is_no_request_of_a_sensible_size_is_refused(sent: bytes) -> None:
    async with served(LIMITS) as listener:
        said = await answered(listener, sent)
        assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        assert b"Traceback" not in said


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/nothing"])
async def test_every_answer_carries_the_headers_that_protect_people(path: str) -> None:
    ours = Access(headers={"X-Frame-Options": "sameorigin", "Strict-Transport-Security": "max-age=60"})
    async with served(LIMITS, access=ours) as listener:
        said = await answered(listener, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    lines = said.partition(b"\r\n\r\n")[0].decode().splitlines()
    assert {
        "Server: lineage-collector",
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: sameorigin",
        "Strict-Transport-Security: max-age=60",
    } <= set(lines)
    assert any(line.startswith("Content-Security-Policy: default-src 'none';") for line in lines)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /metrics HTTP/1.1\r\nAuthorization: Basic cGxhbnRlZA" + b"A" * 9000 + b"\r\n\r\n",
        b"GET /metrics?cGxhbnRlZA" + b"A" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nAuthorization cGxhbnRlZA\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_logged_in_few_words_and_not_repeated(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(LIMITS) as listener:
        said = await answered(listener, sent)
    assert b" 400 " in said
    lines = said.partition(b"\r\n\r\n")[0].decode().splitlines()
    assert {"Server: lineage-collector", "X-Content-Type-Options: nosniff", "X-Frame-Options: deny"} <= set(lines)
    assert "aiohttp" not in said.decode()
    [logged] = [record for record in caplog.records if record.name == "lineage.http"]
    assert (logged.getMessage(), logged.levelname, logged.exc_info) == ("request.malformed", "WARNING", None)
    assert "cGxhbnRlZA" not in caplog.text + str(vars(logged))
    assert "127.0.0.1" in str(vars(logged))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:17817", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("[::1]:17817", 200),
        ("collector.example.com", 200),
        ("", 200),
        ("rebound.example", 421),
        ("127.0.0.1.rebound.example:17817", 421),
        ("[::1", 421),
    ],
)
async def test_on_loopback_only_configured_names_are_answered(host: str, status: int) -> None:
    names = Http(listen="127.0.0.1:0", host_names=("Collector.example.com",)).names
    listener = await serve(GOOD, "127.0.0.1", 0, names=names)
    try:
        for path in ("/healthz", "/nothing"):
            said = await answered(
                listener, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            )
            wanted = 404 if (path, status) == ("/nothing", 200) else status
            assert said.startswith(f"HTTP/1.1 {wanted} ".encode()), said
    finally:
        await listener.close()


def test_elsewhere_all_names_are_answered() -> None:
    assert Http(listen="0.0.0.0:17817").names == frozenset()
