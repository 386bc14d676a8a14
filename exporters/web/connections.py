"""The connections of the listener, counted and limited from their first moment: TLS handshakes are among them."""

import asyncio
import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may use of the server. Times in seconds."""

    request: float = 30.0
    """From the end of a request's headers to the last byte of its answer taken by the client."""
    idle: float = 75.0
    """Between two requests of a connection, and for the headers of one. Longer than scrapes are apart by default."""
    handshake: float = 10.0
    connections: int = 256
    """At the same time; further ones get only the health pages."""
    extra: int = 32
    """Connections beyond those, so that a prober always gets its answer; a new one ends the oldest of them."""
    extra_life: float = 5.0
    """How long an extra connection may stay open. A prober sends its request at once."""


LIMITS = Limits()


class Connections:
    """Beyond the limit they are few, short, and only for health pages, so that others cannot keep a prober out."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[asyncio.Protocol, asyncio.Transport] = {}
        self._extras: dict[asyncio.Protocol, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._open)

    def is_extra(self, connection: asyncio.Protocol) -> bool:
        return connection in self._extras

    def add(self, connection: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """Once for each; further calls have no effect. `transport` is that of the socket."""
        if connection in self._open:
            return
        if len(self._open) - len(self._extras) >= self._limits.connections:
            self._admit(connection)
        self._open[connection] = transport

    def remove(self, connection: asyncio.Protocol) -> None:
        self._open.pop(connection, None)
        if (end := self._extras.pop(connection, None)) is not None:
            end.cancel()

    def _admit(self, connection: asyncio.Protocol) -> None:
        if len(self._extras) >= self._limits.extra:
            self._end(next(iter(self._extras)))
        loop = asyncio.get_running_loop()
        self._extras[connection] = loop.call_later(self._limits.extra_life, self._end, connection)

    def _end(self, connection: asyncio.Protocol) -> None:
        transport = self._open[connection]
        self.remove(connection)
        transport.abort()


class Handshakes:
    """TLS before HTTP. asyncio's own server would show a connection only once it is encrypted."""

    def __init__(self, context: ssl.SSLContext, connections: Connections, within: float) -> None:
        self._context, self._connections, self._within = context, connections, within
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, handshake: "Handshake", raw: asyncio.Transport) -> None:
        self._connections.add(handshake.connection, raw)
        raw.pause_reading()  # until asyncio's TLS reads
        task = asyncio.create_task(self._pass_on(handshake, raw), name="tls handshake")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End those that are not done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(self, handshake: "Handshake", raw: asyncio.Transport) -> None:
        done = False
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                raw,
                handshake,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._within,
                ssl_shutdown_timeout=2.0,
            )
            done = encrypted is not None and handshake.pass_on(encrypted)
        except OSError:
            pass  # what the client sent is no TLS, or it came too late, or it went away
        finally:
            if not done:
                self._connections.remove(handshake.connection)


class Handshake(asyncio.Protocol):
    """Keeps what comes before `connection` can take it."""

    def __init__(self, connection: asyncio.Protocol, handshakes: Handshakes) -> None:
        self.connection = connection
        self._handshakes = handshakes
        self._early = b""
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._handshakes.begin(self, transport)

    def data_received(self, data: bytes) -> None:
        self._early += data

    def connection_lost(self, _: Exception | None) -> None:
        self._lost = True

    def pass_on(self, encrypted: asyncio.Transport) -> bool:
        """Give the connection to HTTP; False when it is lost already."""
        if self._lost:
            return False
        encrypted.set_protocol(self.connection)
        self.connection.connection_made(encrypted)
        if self._early:
            self.connection.data_received(self._early)
        return True
