"""The Kafka sink: every event acknowledged by all in-sync replicas, in order per strand, through outages of any length.

One idempotent producer is used for as long as it works. An event that was handed over stays in flight until the broker
answers, however long that takes: delivery asks again, nothing is sent again. See `exporters.sinks.kafka.connection`.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Literal

from collector.logs import fields
from collector.model import EventKind, Outgoing
from config.sinks import KafkaSink as Settings
from exporters.sinks.base import Context, Delivered, Finding, Outcome, Park, Retry
from exporters.sinks.kafka.cluster import BATCH_BYTES, LARGEST_EVENT, Cluster, cluster_of
from exporters.sinks.kafka.errors import ClientLog, Problem, log
from exporters.sinks.kafka.key import message_key

if TYPE_CHECKING:
    from exporters.sinks.kafka.connection import Batch, Connection, Delivery

_PATIENCE = 3.0  # seconds of an attempt for partitions whose last batch has not left yet, as while a broker pauses
_SMALLEST_BATCH = 16_384
_YIELD_AFTER = 64  # events handed over before other tasks get their turn on the event loop

_Answered = tuple[Outgoing, Outcome]


@dataclass(frozen=True, slots=True)
class _InFlight:
    """An event that was handed over at `since` (monotonic), without an outcome yet."""

    seq: int
    delivery: "Delivery"
    connection: "Connection"
    since: float


@dataclass(slots=True)
class _Attempt:
    """The handing over of a batch: outcomes that are known, and events in flight whose answers to wait for.

    `trouble` is why the rest of the batch is not tried, `patience` how many seconds it may still
    wait in vain: other partitions than one that is stuck get their events without it.
    """

    known: list[_Answered] = field(default_factory=list)
    in_flight: list[tuple[Outgoing, _InFlight]] = field(default_factory=list)
    trouble: Problem | None = None
    patience: float = _PATIENCE


class KafkaSink:
    wants = frozenset(EventKind)
    capacity = 500
    parallel = True
    rechecks = False

    def __init__(self, cluster: Cluster, sink: str, *, answer_seconds: float = 5.0, key: bytes | None = None) -> None:
        """`answer_seconds` is how long one attempt waits for acknowledgements; `key` replaces the rule of `message_key`."""
        self._cluster = cluster
        self._answer_seconds = answer_seconds
        self._hand_over_seconds = cluster.connect_seconds + 2 * answer_seconds  # nothing is handed over after that
        self.longest_attempt = timedelta(seconds=self._hand_over_seconds + _PATIENCE + answer_seconds)
        self._key = key
        self._log = ClientLog(sink)
        self._gate = asyncio.Lock()  # one attempt at a time connects and hands over
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection | Problem] | None = None
        self._batch_bytes = BATCH_BYTES
        self._poisoned = False
        self._closed = False
        self._unanswered: dict[int, _InFlight] = {}  # by strand
        self._outdated: set[Delivery] = set()  # in flight though delivery went on to a later event of the strand
        self._suspects: set[tuple[int, int]] = set()  # refused together with others: sent alone next time
        self._acknowledged_since = -inf  # when the latest event that is acknowledged was handed over
        self._failed: tuple[float, Problem] | None = None  # the last attempt to connect: when, why

    async def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[_Answered]:
        asked_at = time.monotonic()
        async with self._gate:
            attempt = await self._hand_over(batch, asked_at, asked_at + self._hand_over_seconds)
        for answered in attempt.known:
            yield answered
        async for answered in self._answers(attempt.in_flight):
            yield answered

    async def recheck(self, terminal: Outgoing) -> Outcome:
        return Delivered()  # an acknowledged record does not change

    async def check(self) -> list[Finding]:
        subject = str(self._cluster)
        opened = await _open(self._cluster, ClientLog(self._log.sink), BATCH_BYTES)
        if isinstance(opened, Problem):
            return [Finding(subject, ok=False, detail=opened.cause, remedy=opened.remedy)]
        try:
            partitions = await opened.partitions()
        finally:
            await opened.stop(self._cluster.request_seconds)
        if isinstance(partitions, Problem):
            return [Finding(subject, ok=False, detail=partitions.cause, remedy=partitions.remedy)]
        limit = f"events up to {opened.limit} bytes" if opened.limit else "this user may not read its size limit"
        return [Finding(subject, ok=True, detail=f"connected; partitions: {partitions}, {limit}")]

    async def close(self, deadline: float) -> None:
        """Wait for what is in flight, then close; what is left stays in the ledger."""
        end = time.monotonic() + deadline
        self._closed = True
        await self._settled(deadline / 2)
        connection, self._connection = self._connection or await self._half_open(deadline / 2), None
        if connection is None:
            return
        if count := len(self._in_flight()):
            then = "the ledger keeps them; they are sent again"
            log.warning("kafka.closed_in_flight", extra=fields(sink=self._log.sink, events=count, then=then))
            await connection.abandon()
        else:
            await connection.stop(max(0.0, end - time.monotonic()))

    async def _half_open(self, seconds: float) -> "Connection | None":
        """The result of a connect that is under way while the sink is closed."""
        opening, self._opening = self._opening, None
        if opening is None:
            return None
        await asyncio.wait([opening], timeout=seconds)
        if not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
        opened = None if opening.cancelled() or opening.exception() else opening.result()
        return None if isinstance(opened, Problem) else opened

    async def _hand_over(self, batch: Sequence[Outgoing], asked_at: float, until: float) -> _Attempt:
        late = time.monotonic() > until
        attempt = _Attempt(trouble=_LATE if late else await self._ready(asked_at))
        alone: list[Outgoing] = []
        together: list[Outgoing] = []
        for event in batch:
            if (sent := self._already_sent(event)) is not None:
                attempt.in_flight.append((event, sent))
            else:
                (alone if _id(event) in self._suspects else together).append(event)
        for event in alone:
            attempt.known.append((event, await self._alone(event, until)))
        await self._send_new(together, attempt, until)
        return attempt

    async def _send_new(self, events: Sequence[Outgoing], attempt: _Attempt, until: float) -> None:
        """Hand over events that are not in flight, or add their outcomes to the known ones."""
        connection = self._connection
        if attempt.trouble is not None or connection is None:
            attempt.known += [(event, _retry(attempt.trouble or _CLOSED)) for event in events]
            return
        for batch in connection.packed(await self._sendable(events, attempt, connection)):
            if time.monotonic() > until:
                attempt.trouble = attempt.trouble or _LATE
            await self._publish(batch, attempt, connection)

    async def _alone(self, event: Outgoing, until: float) -> Outcome:
        """Send an event that was refused with others in a separate request, to find out whether it is the cause."""
        await self._settled(self._answer_seconds)
        if self._in_flight() or time.monotonic() > until:
            return _SOON
        attempt = _Attempt(trouble=await self._ready(time.monotonic()))
        await self._send_new([event], attempt, until)
        if attempt.in_flight:
            [(_, sent)] = attempt.in_flight
            return await self._answer_alone(event, sent)
        [(_, outcome)] = attempt.known
        return outcome

    async def _answer_alone(self, event: Outgoing, sent: _InFlight) -> Outcome:
        await asyncio.wait([sent.delivery], timeout=self._answer_seconds)
        if not sent.delivery.done():
            return self._unanswered_yet(sent, sent.connection.waiting())
        trouble = sent.connection.verdict(sent.delivery)
        outcome = self._settle(event, sent)
        if trouble is None or not trouble.refused:
            return outcome
        self._suspects.discard(_id(event))
        return Park(f"{trouble.cause}; the event has {len(event.body)} bytes")

    async def _sendable(
        self, events: Sequence[Outgoing], attempt: _Attempt, connection: "Connection"
    ) -> list[tuple[bytes, Outgoing]]:
        """The events with their keys, but for those that can never be sent."""
        sendable: list[tuple[bytes, Outgoing]] = []
        for count, event in enumerate(events, 1):
            key = self._key or message_key(event.body)
            if key is None:
                attempt.known.append((event, _NO_JOB))
            elif self._fits(size := len(key) + len(event.body), connection):
                sendable.append((key, event))
            elif (park := await self._too_large(size, connection)) is not None:
                attempt.known.append((event, park))
            else:
                sendable.append((key, event))
            if not count % _YIELD_AFTER:
                await asyncio.sleep(0)
        return sendable

    async def _publish(self, batch: "Batch", attempt: _Attempt, connection: "Connection") -> None:
        """Hand a batch over, or add the outcome of its events to the known ones."""
        if attempt.trouble is not None:
            outcome = _retry(attempt.trouble)
        elif self._poisoned:
            outcome = _SOON
        elif isinstance(taken := await _handed_over(batch, attempt, connection), Problem):
            outcome = _retry(taken)
            self._poisoned |= taken.poisoned
            if not taken.passing:
                attempt.trouble = taken
        else:
            taken.add_done_callback(_retrieve)
            since = time.monotonic()
            for event in batch.events:
                sent = self._unanswered[event.strand_id] = _InFlight(event.seq, taken, connection, since)
                attempt.in_flight.append((event, sent))
            return
        attempt.known += [(event, outcome) for event in batch.events]

    def _fits(self, size: int, connection: "Connection") -> bool:
        """As far as is known; of what is compressed the broker decides."""
        limit = LARGEST_EVENT if self._cluster.compression is not None else connection.limit
        return size <= min(LARGEST_EVENT, limit or LARGEST_EVENT)

    async def _too_large(self, size: int, connection: "Connection") -> Park | None:
        """Only where it certainly does not fit; otherwise the broker decides."""
        if size > LARGEST_EVENT:
            return Park(f"{self._cluster}: an event of {size} bytes, and a request may have {LARGEST_EVENT}")
        connection.limit = await connection.read_limit()  # it may have been raised
        if self._fits(size, connection):
            return None
        return Park(f"{self._cluster}: an event of {size} bytes, and max.message.bytes is {connection.limit}")

    async def _answers(self, in_flight: Sequence[tuple[Outgoing, _InFlight]]) -> AsyncIterator[_Answered]:
        """Outcomes as they come. An event without one in time stays in flight."""
        waiting: defaultdict[Delivery, list[tuple[Outgoing, _InFlight]]] = defaultdict(list)
        for event, sent in in_flight:
            waiting[sent.delivery].append((event, sent))
        end = time.monotonic() + self._answer_seconds
        while waiting:
            left = max(0.0, end - time.monotonic())
            answered, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not answered:
                break
            for delivery in answered:
                for event, sent in waiting.pop(delivery):
                    yield event, self._settle(event, sent)
        if unanswered := [each for events in waiting.values() for each in events]:
            waiting_for = unanswered[0][1].connection.waiting()
            for event, sent in unanswered:
                yield event, self._unanswered_yet(sent, waiting_for)

    def _unanswered_yet(self, sent: _InFlight, trouble: Problem) -> Retry:
        """Of its partition alone, where a later event was acknowledged: then no other is to wait for it."""
        return _retry(replace(trouble, passing=sent.since < self._acknowledged_since), in_flight=True)

    def _settle(self, event: Outgoing, sent: _InFlight) -> Outcome:
        """The outcome of an event that was answered."""
        if self._unanswered.get(event.strand_id) is sent:
            del self._unanswered[event.strand_id]
        trouble = sent.connection.verdict(sent.delivery)
        if trouble is None:
            self._suspects.discard(_id(event))
            self._acknowledged_since = max(self._acknowledged_since, sent.since)
            return Delivered()
        self._poisoned |= sent.connection is self._connection
        if trouble.refused:
            self._suspects.add(_id(event))
            if sent.connection.limit is None:
                self._batch_bytes = max(_SMALLEST_BATCH, sent.connection.batch_bytes // 2)
            return replace(_SOON, cause=f"{trouble}; it is sent alone next time")
        return _retry(trouble)

    async def _ready(self, asked_at: float) -> Problem | None:
        """Make sure that there is a connection with a producer that works."""
        if self._poisoned and self._connection is not None:
            await self._settled(self._answer_seconds)
            if self._in_flight():
                return self._connection.waiting()
            await self._connection.stop(self._cluster.request_seconds)
            self._connection = None
        if self._closed:
            return _CLOSED
        if self._connection is None:
            return await self._connect(asked_at)
        partitions = await self._connection.partitions()
        return partitions if isinstance(partitions, Problem) else None

    async def _connect(self, asked_at: float) -> Problem | None:
        """An attempt that waited while another one failed to connect shares that failure."""
        if self._failed is not None and self._failed[0] > asked_at:
            return self._failed[1]
        if self._opening is None:
            self._opening = asyncio.create_task(_open(self._cluster, self._log, self._batch_bytes))
        opening = self._opening
        try:
            opened = await asyncio.shield(opening)  # goes on when this caller is cancelled, for the next one
        finally:
            if opening.done():
                self._opening = None
        if self._closed:
            return _CLOSED
        if isinstance(opened, Problem):
            self._failed = (time.monotonic(), opened)
            return opened
        self._connection, self._poisoned = opened, False
        return None

    def _already_sent(self, event: Outgoing) -> _InFlight | None:
        sent = self._unanswered.get(event.strand_id)
        if sent is None or sent.seq == event.seq:
            return sent
        del self._unanswered[event.strand_id]
        if not sent.delivery.done():
            self._outdated.add(sent.delivery)
            sent.delivery.add_done_callback(self._outdated.discard)
        return None

    def _in_flight(self) -> list["Delivery"]:
        return [sent.delivery for sent in self._unanswered.values() if not sent.delivery.done()] + list(self._outdated)

    async def _settled(self, seconds: float) -> None:
        """Wait for all that is in flight, `seconds` at most."""
        if in_flight := self._in_flight():
            await asyncio.wait(in_flight, timeout=seconds)


def create(settings: Settings, context: Context) -> KafkaSink:
    compression: Literal["gzip"] | None = "gzip" if settings.compression == "gzip" else None
    cluster = cluster_of(settings, settings.topic, f"lineage-collector-{settings.name}", compression)
    if cluster.login is not None and cluster.trust is None:
        advice = "set tls, unless the network is private"
        log.warning(
            "kafka.unencrypted", extra=fields(sink=settings.name, cause="the login goes unencrypted", then=advice)
        )
    key = settings.key.encode() if settings.key else None
    return KafkaSink(cluster, context.sink, key=key)


async def _open(cluster: Cluster, client_log: ClientLog, batch_bytes: int) -> "Connection | Problem":
    from exporters.sinks.kafka.connection import open_connection  # noqa: PLC0415 - 0.8 s and 36 MiB, only when needed

    return await open_connection(cluster, client_log, batch_bytes)


_CLOSED = Problem("this sink is closed")
_NO_JOB = Park("not an OpenLineage run event: it names no job")
_LATE = Problem("no time was left in this attempt", passing=True)
_SOON = Retry("waiting for a fresh Kafka producer", after=timedelta(seconds=1), sink_wide=False)


async def _handed_over(batch: "Batch", attempt: _Attempt, connection: "Connection") -> "Delivery | Problem":
    began = time.monotonic()
    taken = await connection.publish(batch, patience=attempt.patience)
    if isinstance(taken, Problem):
        attempt.patience = max(0.0, attempt.patience - (time.monotonic() - began))
    return taken


def _retrieve(delivery: "Delivery") -> None:
    """Of a delivery that is done, for which nobody may ask: else asyncio logs an exception that was never retrieved."""
    if not delivery.cancelled():
        delivery.exception()


def _id(event: Outgoing) -> tuple[int, int]:
    return event.strand_id, event.seq


def _retry(trouble: Problem, *, in_flight: bool = False) -> Retry:
    # what passes, or a producer that is replaced now, does not mean that the cluster failed; the next connect shows it
    passing = (trouble.passing or trouble.poisoned) and not trouble.slow
    return Retry(str(trouble), in_flight=in_flight, slow=trouble.slow, sink_wide=not passing)
