"""One connection to a Kafka cluster: FastStream's KafkaBroker around one idempotent aiokafka producer.

Importing this costs 0.8 s and 36 MiB, so the sink does it when it connects for the first time. Facts on aiokafka 0.14:

- An idempotent producer retries without end, in order and without duplicates; it must never be cancelled or abandoned
  while something is in flight, or what it held is sent late, after newer events.
- A send that the broker refused leaves a gap in the sequence numbers, and everything later on that partition fails with
  OutOfOrderSequenceNumber: only a new producer helps (aiokafka issue 1017).
- `stop()` waits for everything in flight, without end when the broker is dead, and after a time limit around it its
  sender still delivers when the broker is back. `abandon` ends it, and needs private parts of aiokafka.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import murmur2
from faststream.kafka import KafkaBroker
from faststream.kafka.publisher.producer import AioKafkaFastProducerImpl

from collector.model import Outgoing
from collector.redaction import redacted
from exporters.sinks.kafka.cluster import BATCH_BYTES, Cluster, fitting_batch_bytes
from exporters.sinks.kafka.errors import MEND_FILES, UNREADABLE, ClientLog, Problem, current, listen, remedy_for
from exporters.sinks.kafka.security import security_of
from exporters.sinks.kafka.tasks import end_tasks_of

_HEADERS = [("content-type", b"application/json")]

_TROUBLES = (KafkaError, OSError, TimeoutError)
_REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError)
Delivery = asyncio.Future[Any]
"""The acknowledgement of a batch that was handed over: aiokafka's RecordMetadata. Never cancel it: the batch is sent anyway."""


_hash = lru_cache(maxsize=4096)(murmur2)


def partition_of(key: bytes, partitions: int) -> int:
    """As aiokafka and Java's client choose it; aiokafka's hash in Python takes a tenth of an event's way, so it is kept by key."""
    hashed: int = _hash(key)
    return (hashed & 0x7FFFFFFF) % partitions


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one partition that are sent, and acknowledged or refused, as one. `content` is aiokafka's."""

    partition: int
    events: list[Outgoing]
    content: Any

    def add(self, key: bytes, event: Outgoing) -> bool:
        """False when the batch is full; the first event always fits."""
        taken = self.content.append(timestamp=None, key=key, value=event.body, headers=_HEADERS) is not None
        if taken:
            self.events.append(event)
        return taken


class _Producer(AioKafkaFastProducerImpl):
    """Keeps aiokafka's producer even when its start fails, so that its connections can be closed."""

    __slots__ = ("raw",)

    def __init__(self) -> None:
        super().__init__(parser=None, decoder=None)
        self.raw: Any = None

    async def connect(self, producer: Any, serializer: Any, codec: Any = None) -> None:
        self.raw = producer
        await super().connect(producer, serializer, codec)


class Connection:
    """Open and usable until a verdict is `poisoned`. `limit` is the topic's max.message.bytes, None if unreadable."""

    def __init__(self, cluster: Cluster, client_log: ClientLog, batch_bytes: int) -> None:
        self.cluster = cluster
        self.batch_bytes = batch_bytes
        self.limit: int | None = None
        self._partitions = 1
        self._stalled: set[int] = set()
        self._log = client_log
        self._producer = _Producer()
        self._broker = KafkaBroker(
            cluster.bootstrap,
            client_id=cluster.client_id,
            security=security_of(cluster),
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            max_batch_size=batch_bytes,
            compression_type=cluster.compression,
            request_timeout_ms=int(cluster.request_seconds * 1000),
            retry_backoff_ms=1000,  # with the default of 100 aiokafka logs 39 lines a second while a broker is down
            logger=None,
        )
        self._broker.config.broker_config.producer = self._producer

    async def start(self) -> Problem | None:
        """Connect and wait for the topic. When it returns a trouble, the connection is closed."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.cluster.connect_seconds):
                await self._broker.connect()
                await self._read_partitions()
                self.limit = await self.read_limit()
        except _TROUBLES as error:
            await self.abandon()
            return self._trouble(error, since=began)
        except BaseException:
            await self.abandon()
            raise
        return None

    async def partitions(self) -> int | Problem:
        """How many the topic has, as the client knows it now. Takes no request, unless the topic was deleted."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(2 * self.cluster.request_seconds):
                return await self._read_partitions()
        except _TROUBLES as error:
            return self._trouble(error, since=began)

    async def _read_partitions(self) -> int:
        self._partitions = len(await self._producer.raw.partitions_for(self.cluster.topic))
        return self._partitions

    async def read_limit(self) -> int | None:
        """The topic's current max.message.bytes. None where this user may not read it."""
        resource = ConfigResource(ConfigResourceType.TOPIC, self.cluster.topic, {"max.message.bytes": None})
        with suppress(*_TROUBLES):
            for answer in await self._broker.config.broker_config.admin_client.describe_configs([resource]):
                for found in answer.to_object()["resources"]:
                    for entry in found["config_entries"]:
                        return int(entry["config_value"])
        return None

    def packed(self, events: Iterable[tuple[bytes, Outgoing]]) -> list[Batch]:
        """The events with their keys in batches, those of a partition in order, as `partitions` last found them."""
        batches: list[Batch] = []
        latest: dict[int, Batch] = {}
        for key, event in events:
            partition = partition_of(key, self._partitions)
            batch = latest.get(partition)
            if batch is None or not batch.add(key, event):
                batch = latest[partition] = Batch(partition, [], self._producer.raw.create_batch())
                batch.add(key, event)
                batches.append(batch)
        return batches

    async def publish(self, batch: Batch, *, patience: float) -> Delivery | Problem:
        """Hand it over within `patience` seconds. When it returns a trouble, nothing was handed over.

        A partition whose queue was full all that time is not waited for again until it takes a batch.
        """
        # aiokafka asserts that it knows the partition; nothing else runs between this and that
        if (obstacle := self._obstacle(batch.partition)) is not None:
            return obstacle
        try:
            async with asyncio.timeout(0 if batch.partition in self._stalled else patience):
                taken = await self._producer.raw.send_batch(
                    batch.content, self.cluster.topic, partition=batch.partition
                )
        except (KafkaTimeoutError, TimeoutError):
            self._stalled.add(batch.partition)
            return Problem(f"{self.cluster}: the queue of partition {batch.partition} is full", passing=True)
        except _TROUBLES as error:
            retriable = isinstance(error, KafkaError) and error.retriable
            return self._trouble(error, poisoned=not retriable)
        self._stalled.discard(batch.partition)
        if not isinstance(taken, asyncio.Future):
            raise TypeError(f"{self.cluster}: the producer returned {taken!r} instead of a future")
        return taken

    def _obstacle(self, partition: int) -> Problem | None:
        """Why the topic cannot take a batch, as far as the client knows it, which then asks the brokers again. Without a leader
        the batch would fail after some seconds in the queue, and the producer with it.
        """
        client = self._producer.raw.client
        if len(client.cluster.partitions_for_topic(self.cluster.topic) or ()) != self._partitions:
            cause = "the number of partitions has just changed"
        elif partition not in client.cluster.available_partitions_for_topic(self.cluster.topic):
            cause = f"partition {partition} has no leader"
        else:
            return None
        client.force_metadata_update()
        return Problem(f"{self.cluster}: {cause}", passing=True)

    def verdict(self, delivery: Delivery) -> Problem | None:
        """Of a delivery that is done; None when the batch is acknowledged."""
        error = delivery.exception()
        if error is None and delivery.result() is not None:
            return None
        return self._trouble(error or KafkaError("no record metadata"), poisoned=True)

    def waiting(self) -> Problem:
        """Why there is no answer, as far as the client logged it. Gives it the current secrets, in case they are the cause."""
        failure = self._log.since(time.monotonic() - 2 * self.cluster.request_seconds)
        if failure is None:
            return Problem(f"{self.cluster}: no answer yet")
        self._renew_secrets()
        remedy, slow = remedy_for(failure.error)
        return Problem(f"{self.cluster}: no answer yet; {failure.text}", remedy if slow else None, slow=slow)

    async def stop(self, seconds: float) -> None:
        """Wait up to `seconds` for what is in flight, then close; the rest is abandoned."""
        stopping = asyncio.ensure_future(self._broker.stop())
        await asyncio.wait([stopping], timeout=seconds)
        if stopping.done():
            stopping.exception()
        else:
            stopping.cancel()
            await self.abandon()
            await asyncio.wait([stopping])

    async def abandon(self) -> None:
        """End at once; what is in flight is never sent, unless it is on the wire already."""
        producer, admin = self._producer.raw, self._broker.config.broker_config.admin.admin_client
        if producer is not None:
            producer._closed = True  # noqa: SLF001 - else it warns that nobody closed it
            await end_tasks_of(producer._sender)  # noqa: SLF001 - no public way ends a producer with events in flight
            await end_tasks_of(producer.client)
            producer._message_accumulator.fail_all(KafkaError("given up"))  # noqa: SLF001 - ends all who wait for it
            await producer.client.close()
        if admin is not None:
            await admin.close()

    def _renew_secrets(self) -> None:
        """A client reconnects with the secrets that it was created with: give it the current ones."""
        admin = self._broker.config.broker_config.admin.admin_client
        clients = [self._producer.raw.client, *([admin._client] if admin else [])]  # noqa: SLF001 - no public way
        with suppress(OSError):
            if self.cluster.login is not None:
                password = self.cluster.login.password()
                for client in clients:
                    client._sasl_plain_password = password  # noqa: SLF001 - as above

    def _trouble(self, error: BaseException, *, since: float | None = None, poisoned: bool = False) -> Problem:
        logged = self._log.since(since) if since is not None else None
        # a KafkaConnectionError does not have the cause, the log does
        cause = logged.error if logged and type(error).__name__ == "KafkaConnectionError" else error
        text = logged.text if logged and cause is logged.error else _describe(error)
        remedy, slow = remedy_for(cause)
        return Problem(
            f"{self.cluster}: {text}", remedy, slow=slow, refused=isinstance(error, _REFUSALS), poisoned=poisoned
        )


def _describe(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    name, words = type(error).__name__, redacted(str(error))
    return f"{name}: {words}" if words and name not in words else words or name


async def open_connection(
    cluster: Cluster, client_log: ClientLog, batch_bytes: int = BATCH_BYTES
) -> Connection | Problem:
    """A connection whose requests fit the topic's limit."""
    listen()
    token = current.set(client_log)
    try:
        connection = Connection(cluster, client_log, batch_bytes)
        if (trouble := await connection.start()) is not None:
            return trouble
        if (fitting := fitting_batch_bytes(connection.limit, batch_bytes)) == batch_bytes:
            return connection
        await connection.stop(cluster.request_seconds)
        connection = Connection(cluster, client_log, fitting)
        return await connection.start() or connection
    except UNREADABLE as error:
        return Problem(f"{cluster}: {_describe(error)}", MEND_FILES, slow=True)
    finally:
        current.reset(token)
