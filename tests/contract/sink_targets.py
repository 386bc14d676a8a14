"""The targets that the contract of sinks is tried on. Adding a sink: a class here and an entry in `TARGETS`."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol
from uuid import uuid4

import pytest
from pydantic import TypeAdapter

from collector.clock import SystemClock
from collector.http import HttpClient, HttpOptions
from collector.testing.sinks import SECRET, Target
from config.sinks import AnySink
from exporters.sinks.base import Context, Sink
from simulators.openlineage import OpenLineageSimulator
from simulators.server import Served
from tests.contract.http_recorder import forwarding, recorder
from tests.contract.marquez_client import marquez_url
from tests.servers.kafka import Kafka


class OpenedTarget(Target, Protocol):
    async def open(self) -> None: ...
    async def close(self) -> None: ...


def make(create: Callable[[Any, Context], Sink], **settings: Any) -> Sink:
    """A sink from configuration as a user writes it."""
    parsed: Any = TypeAdapter(AnySink).validate_python({"name": "target", **settings})
    http = (
        HttpClient(HttpOptions(**parsed.http_options()))
        if hasattr(parsed, "http_options")
        else HttpClient(HttpOptions())
    )
    return create(parsed, Context(sink="target", http=http, clock=SystemClock(), random=lambda: 0.5))


class FileTarget:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._path: Path = request.getfixturevalue("tmp_path") / "events.ndjson"

    async def open(self) -> None:
        pass

    def sink(self) -> Sink:
        from exporters.sinks.file import create

        return make(create, type="file", path=str(self._path))

    def dead(self) -> Sink:
        from exporters.sinks.file import create

        return make(create, type="file", path=str(self._path / "below" / "a-file-that-is-no-folder"))

    async def received(self) -> list[bytes]:
        return await asyncio.to_thread(lambda: self._path.read_bytes().splitlines() if self._path.exists() else [])

    async def close(self) -> None:
        pass


class KafkaTarget:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._kafka: Kafka = request.getfixturevalue("kafka")
        self._topic = f"contract-{uuid4()}"

    async def open(self) -> None:
        await self._kafka.create_topic(self._topic, partitions=3)

    def sink(self) -> Sink:
        from exporters.sinks.kafka.sink import create

        return make(create, type="kafka", bootstrap_servers=self._kafka.bootstrap, topic=self._topic)

    def dead(self) -> Sink:
        from exporters.sinks.kafka.sink import create

        sasl = {"mechanism": "PLAIN", "username": "me", "password": SECRET}
        return make(create, type="kafka", bootstrap_servers="127.0.0.1:1", sasl=sasl)

    async def received(self) -> list[bytes]:
        return [record.value for record in await self._kafka.read(self._topic)]

    async def close(self) -> None:
        pass


class HttpTarget:
    """A server that keeps the events it took."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        self._front = await self._stack.enter_async_context(recorder())

    def sink(self) -> Sink:
        from exporters.sinks.openlineage import create

        return make(create, type="openlineage", url=self._front.url, api_key=SECRET, compression="gzip")

    def dead(self) -> Sink:
        from exporters.sinks.openlineage import create

        return make(create, type="openlineage", url="http://127.0.0.1:1", api_key=SECRET)

    async def received(self) -> list[bytes]:
        return self._front.accepted

    async def close(self) -> None:
        await self._stack.aclose()


class BatchTarget(HttpTarget):
    """The simulated backend that takes batches in the form of the specification."""

    form: ClassVar[Literal["array", "events"]] = "array"

    async def open(self) -> None:
        self._backend = OpenLineageSimulator(form=self.form)
        self._served = await self._stack.enter_async_context(Served(self._backend))

    def sink(self) -> Sink:
        return self._made(self._served.url)

    def dead(self) -> Sink:
        return self._made("http://127.0.0.1:1")

    def _made(self, url: str) -> Sink:
        from exporters.sinks.openlineage import create

        batch = {"form": self.form, "size": 7}
        return make(create, type="openlineage", url=url, api_key=SECRET, compression="gzip", batch=batch)

    async def received(self) -> list[bytes]:
        return self._backend.accepted


class EventsBatchTarget(BatchTarget):
    form = "events"


class MarquezTarget(HttpTarget):
    """The simulated Marquez, or the real one at `MARQUEZ_URL`, behind a server that keeps what it took."""

    async def open(self) -> None:
        behind = await self._stack.enter_async_context(marquez_url())
        self._front = await self._stack.enter_async_context(forwarding(behind))

    def sink(self) -> Sink:
        from exporters.sinks.marquez.sink import create

        return make(create, type="marquez", url=self._front.url, api_key=SECRET)

    def dead(self) -> Sink:
        from exporters.sinks.marquez.sink import create

        return make(create, type="marquez", url="http://127.0.0.1:1", api_key=SECRET)


TARGETS = [
    pytest.param(FileTarget, id="file"),
    pytest.param(HttpTarget, id="openlineage"),
    pytest.param(BatchTarget, id="openlineage-batch"),
    pytest.param(EventsBatchTarget, id="openmetadata-batch"),
    pytest.param(MarquezTarget, id="marquez"),
    pytest.param(KafkaTarget, id="kafka", marks=pytest.mark.kafka),
]

MakeTarget = Callable[[pytest.FixtureRequest], OpenedTarget]
