"""Reads the Kafka topic of hints by FastStream, which is imported when it is used: it costs 0.8 s and 36 MiB."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from collector.clock import Clock
from collector.logs import fields
from collector.platforms.base import Finding
from collector.redaction import redacted
from config.sinks import HintTopic
from exporters.sinks.kafka.cluster import Cluster, cluster_of
from exporters.sinks.kafka.errors import MEND_FILES, UNREADABLE, ClientLog, current, listen, remedy_for
from exporters.sinks.kafka.tasks import end_tasks_of

if TYPE_CHECKING:
    from faststream.kafka import KafkaBroker
    from faststream.kafka.subscriber.usecase import BatchSubscriber

log = logging.getLogger("lineage.hint")

LOOK = 30.0
"""Seconds between two looks whether the cluster answers."""
ANSWERED_WITHIN = 10.0
CLOSED_WITHIN = 5.0
AGAIN_AFTER = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds until the next try to connect, by the number of failures."""
TOGETHER = 500
"""Messages that are taken at once."""

_MAKE_IT = "make the topic, or let this user READ it with the consumer group"

_TROUBLES = (OSError, TimeoutError, RuntimeError, ValueError)
"""What the client library raises; its KafkaError is a RuntimeError."""

Take = Callable[[Sequence[bytes]], Awaitable[None]]


class HintSubscriber:
    """Takes the messages of a topic in one consumer group with all replicas. One that comes while no replica runs is taken
    later; before the group's first start, from then on. A message that is lost in a crash costs nothing but time: sources are
    polled at their interval all the same.
    """

    def __init__(self, settings: HintTopic, take: Take, clock: Clock, reachable: Callable[[bool], None]) -> None:
        """`take` handles messages and raises nothing; `reachable` is called with whether the topic is read."""
        self._settings, self._take, self._clock, self._reachable = settings, take, clock, reachable
        self._cluster = cluster_of(settings, settings.topic, "lineage-collector-hints")
        self._log = ClientLog("hints")
        self._cause: str | None = None

    async def run(self) -> None:
        """Until cancelled: an outage of Kafka is waited for."""
        listen()
        current.set(self._log)
        failures = 0
        while True:
            read = await self._read()
            failures = 1 if read else failures + 1
            await self._clock.sleep(AGAIN_AFTER[min(failures, len(AGAIN_AFTER)) - 1])

    async def check(self) -> list[Finding]:
        """Whether the cluster answers and has the topic. Joins no group, so it takes no message."""
        subject, began = str(self._cluster), time.monotonic()
        listen()
        current.set(self._log)
        try:
            broker, _ = _reader(self._cluster, self._settings, self._take)
        except UNREADABLE as error:
            return [Finding(subject, ok=False, detail=redacted(str(error)), remedy=MEND_FILES)]
        consumer = (await broker.connect())(client_id=self._cluster.client_id)
        try:
            async with asyncio.timeout(self._cluster.connect_seconds):
                await consumer.start()
                topics = await consumer.topics()
        except _TROUBLES as error:
            cause, remedy = self._explained(error, began)
            return [Finding(subject, ok=False, detail=cause, remedy=remedy)]
        finally:
            await consumer.stop()
        if self._settings.topic not in topics:
            return [Finding(subject, ok=False, detail=self._absent, remedy=_MAKE_IT)]
        return [Finding(subject, ok=True, detail=f"connected; the consumer group is {self._settings.group}")]

    async def close(self) -> None:
        """Nothing is open between two calls."""

    async def _read(self) -> bool:
        """Whether the topic was read at all before the cluster did not answer any more."""
        began, read = time.monotonic(), False
        try:
            broker, subscriber = _reader(self._cluster, self._settings, self._take)
        except UNREADABLE as error:
            self._report(redacted(str(error)), MEND_FILES)
            return False
        try:
            async with asyncio.timeout(self._cluster.connect_seconds):
                await broker.start()
            while True:
                looked = time.monotonic()
                assert subscriber.consumer is not None  # it was started
                async with asyncio.timeout(ANSWERED_WITHIN):
                    topics = await subscriber.consumer.topics()
                read = True
                self._looked(self._settings.topic in topics, began)
                began = looked
                await self._clock.sleep(LOOK)
        except _TROUBLES as error:
            self._report(*self._explained(error, began))
        finally:
            await _close(broker, subscriber)
        return read

    def _looked(self, known: bool, since: float) -> None:
        """The cluster answers. What only a person can mend stands in the client's log alone."""
        logged = self._log.since(since)
        if logged is not None and remedy_for(logged.error)[1]:
            self._report(*self._explained(logged.error, since))
        elif not known:
            self._report(self._absent, _MAKE_IT)
        else:
            self._report(None)

    @property
    def _absent(self) -> str:
        return f"the topic {self._settings.topic} is not there, or this user may not see it"

    def _explained(self, error: BaseException, since: float) -> tuple[str, str | None]:
        """Cause and remedy: what the client library logged last says more than what it raises."""
        logged = self._log.since(since)
        text = logged.text if logged is not None else redacted(str(error)) or "no answer in time"
        return text, remedy_for(logged.error if logged is not None else error)[0]

    def _report(self, cause: str | None, remedy: str | None = None) -> None:
        """A cause is logged once, however long it lasts."""
        self._reachable(cause is None)
        topic = str(self._cluster)
        if cause is None and self._cause is not None:
            log.info("hints.recovered", extra=fields(topic=topic, former=self._cause))
        elif cause is not None and cause != self._cause:
            then = "sources are polled at their interval"
            log.warning("hints.failed", extra=fields(topic=topic, cause=cause, remedy=remedy, then=then))
        self._cause = cause


def _reader(cluster: Cluster, settings: HintTopic, take: Take) -> "tuple[KafkaBroker, BatchSubscriber]":
    """FastStream's, to be started and stopped by the broker."""
    from faststream import AckPolicy  # noqa: PLC0415 - see above
    from faststream.kafka import KafkaBroker  # noqa: PLC0415

    from exporters.sinks.kafka.security import security_of  # noqa: PLC0415

    broker = KafkaBroker(
        cluster.bootstrap,
        client_id=cluster.client_id,
        security=security_of(cluster),
        request_timeout_ms=int(cluster.request_seconds * 1000),
        graceful_timeout=CLOSED_WITHIN / 2,
        retry_backoff_ms=1000,
        consumer_only=True,
        apply_types=False,
        logger=None,
    )
    subscriber = broker.subscriber(
        settings.topic,
        batch=True,
        max_records=TOGETHER,
        group_id=settings.group,
        auto_offset_reset="latest",
        ack_policy=AckPolicy.ACK,
        decoder=_as_it_came,
    )
    subscriber(take)
    return broker, subscriber


async def _close(broker: "KafkaBroker", subscriber: "BatchSubscriber") -> None:
    """In time, and with its tasks and connections: a cluster that does not answer lets the consumer neither commit nor leave
    its group, and a consumer whose stop is cut goes on reading, by a new connection, when the cluster is back.
    """
    consumer = subscriber.consumer
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSED_WITHIN):
            await broker.stop()
    if consumer is not None:
        await end_tasks_of(consumer._coordinator, consumer._fetcher, consumer._client)  # noqa: SLF001 - no public way
        await consumer._client.close()  # noqa: SLF001 - as above


async def _as_it_came(message: object) -> object:
    """The bytes: what cannot be read is reported like what comes over HTTP."""
    return message.body  # type: ignore[attr-defined]
