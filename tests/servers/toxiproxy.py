"""A real Toxiproxy on loopback, between a program and its server: what it carries can be late, slow, in pieces, lost or cut off."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from enum import StrEnum
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.servers import gotools
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.processes import ServerProcess, unavailable

_ANSWERS_WITHIN = 30.0
_FOR_EVER = 10**9


class Direction(StrEnum):
    UPSTREAM = "upstream"
    """From the client to the server."""
    DOWNSTREAM = "downstream"


BOTH = (Direction.UPSTREAM, Direction.DOWNSTREAM)


class Proxy:
    """Clients connect to its `port`. Without toxics it passes everything on as it comes."""

    def __init__(self, api: httpx.AsyncClient, name: str, port: int) -> None:
        self._api, self._path = api, f"/proxies/{name}"
        self._toxics = count(1)
        self.port = port

    async def cut(self) -> None:
        """Close all connections; new ones are taken."""
        await self.close()
        await self.open()

    async def close(self) -> None:
        """Close all connections and the port."""
        await self._post(self._path, {"enabled": False})

    async def open(self) -> None:
        await self._post(self._path, {"enabled": True})

    @asynccontextmanager
    async def toxic(
        self, kind: str, *directions: Direction, toxicity: float = 1, **attributes: int
    ) -> AsyncIterator[None]:
        """Of what goes in these directions, both if none is given. `kind` and `attributes` as Toxiproxy names them: latency
        (latency, jitter), bandwidth (rate), slow_close (delay), timeout (timeout), reset_peer (timeout), slicer (average_size,
        size_variation, delay), limit_data (bytes). `toxicity`: of which part of the connections.
        """
        names = [
            await self._add(kind, direction, toxicity=toxicity, attributes=attributes)
            for direction in directions or BOTH
        ]
        try:
            yield
        finally:
            for name in names:
                answer = await self._api.delete(f"{self._path}/toxics/{name}")
                answer.raise_for_status()

    @asynccontextmanager
    async def held(self, *directions: Direction) -> AsyncIterator[None]:
        """Connections stay open, and nothing passes; afterwards all of it does."""
        async with self.toxic("latency", *directions, latency=_FOR_EVER):
            yield

    async def _add(self, kind: str, direction: Direction, *, toxicity: float, attributes: dict[str, int]) -> str:
        name = f"{kind}-{next(self._toxics)}"
        given = {"name": name, "type": kind, "stream": direction, "toxicity": toxicity, "attributes": attributes}
        await self._post(f"{self._path}/toxics", given)
        return name

    async def _post(self, path: str, body: dict[str, object]) -> None:
        answer = await self._api.post(path, json=body)
        answer.raise_for_status()


class Toxiproxy(ServerProcess):
    """Any number of proxies in one process."""

    def __init__(self, program: Path, folder: Path) -> None:
        port = free_port()
        self._numbers = count(1)
        super().__init__([str(program), "-host", LOOPBACK, "-port", str(port)], folder=folder, port=port)

    @asynccontextmanager
    async def before(self, target: int, at: int | None = None) -> AsyncIterator[Proxy]:
        """A proxy before this port of loopback, until the end of the block. It listens on the port `at`, None for a free one."""
        name, port = f"proxy-{next(self._numbers)}", at or free_port()
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{self.port}", timeout=_ANSWERS_WITHIN) as api:
            given = {"name": name, "listen": f"{LOOPBACK}:{port}", "upstream": f"{LOOPBACK}:{target}"}
            answer = await api.post("/proxies", json=given)
            answer.raise_for_status()
            try:
                yield Proxy(api, name, port)
            finally:
                answer = await api.delete(f"/proxies/{name}")
                answer.raise_for_status()


@pytest.fixture(scope="session")
def toxiproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toxiproxy]:
    """One process for all tests: each makes proxies of its own."""
    try:
        program = gotools.program(gotools.TOXIPROXY)
    except gotools.NoToolError as error:
        unavailable(str(error))
    process = Toxiproxy(program, tmp_path_factory.mktemp("toxiproxy"))
    process.start()
    yield process
    process.stop()
