"""What Toxiproxy does to connections is what the tests that use it believe."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress

import pytest

from tests.servers.ports import LOOPBACK, is_open
from tests.servers.toxiproxy import Direction, Proxy, Toxiproxy


class Client:
    """Of a server that sends everything back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def echo(self, data: bytes) -> bytes:
        """What comes back, less where the connection ends meanwhile."""
        self._writer.write(data)
        try:
            return await self._reader.readexactly(len(data))
        except asyncio.IncompleteReadError as error:
            return error.partial
        except ConnectionError:
            return b""

    async def aclose(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


Connect = Callable[[], Awaitable[Client]]


@pytest.fixture
async def proxy(toxiproxy: Toxiproxy) -> AsyncIterator[Proxy]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with toxiproxy.before(port) as made:
            yield made


@pytest.fixture
async def connect(proxy: Proxy) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def opened() -> Client:
            client = Client(*await asyncio.open_connection(LOOPBACK, proxy.port))
            return await stack.enter_async_context(aclosing(client))

        yield opened


async def test_it_passes_everything_on_and_can_cut_it_off(proxy: Proxy, connect: Connect) -> None:
    client = await connect()
    assert await client.echo(b"x" * 100_000) == b"x" * 100_000
    await proxy.cut()
    assert await client.echo(b"lost") == b""
    client = await connect()
    await proxy.close()
    assert await client.echo(b"lost") == b""
    assert not is_open(proxy.port)
    await proxy.open()
    assert await (await connect()).echo(b"again") == b"again"


@pytest.mark.parametrize("directions", [(), (Direction.UPSTREAM,), (Direction.DOWNSTREAM,)])
async def test_what_was_held_comes_later(proxy: Proxy, connect: Connect, directions: tuple[Direction, ...]) -> None:
    client = await connect()
    async with proxy.held(*directions):
        answer = asyncio.create_task(client.echo(b"late"))
        assert not (await asyncio.wait([answer], timeout=0.2))[0]
    assert await answer == b"late"


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("latency", {"latency": 20, "jitter": 10}),
        ("bandwidth", {"rate": 100}),
        ("slicer", {"average_size": 64, "size_variation": 32, "delay": 10}),
    ],
)
async def test_toxics_that_only_delay_lose_nothing(
    proxy: Proxy, connect: Connect, kind: str, attributes: dict[str, int]
) -> None:
    before = await connect()
    async with proxy.toxic(kind, **attributes):
        for client in (before, await connect()):
            assert await client.echo(b"0123456789" * 200) == b"0123456789" * 200
    assert await before.echo(b"on") == b"on"


async def test_a_lost_answer_never_comes_and_then_the_connection_ends(proxy: Proxy, connect: Connect) -> None:
    client = await connect()
    async with proxy.toxic("timeout", Direction.DOWNSTREAM, timeout=0):
        answer = asyncio.create_task(client.echo(b"lost"))
        assert not (await asyncio.wait([answer], timeout=0.2))[0]
    assert await answer == b""


async def test_a_reset_ends_a_connection_at_its_next_data(proxy: Proxy, connect: Connect) -> None:
    async with proxy.toxic("reset_peer", timeout=0):
        assert await (await connect()).echo(b"lost") == b""
    assert await (await connect()).echo(b"on") == b"on"
