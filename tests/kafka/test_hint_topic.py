"""The subscriber to the topic of hints, with a real broker."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from collector.app import hint_topic
from collector.app.hint_topic import HintSubscriber
from collector.clock import SystemClock
from collector.platforms.base import Finding
from config.network import Tls
from config.sinks import HintTopic
from tests.servers.kafka import Kafka
from tests.servers.ports import LOOPBACK, free_port

ARRIVES_WITHIN = 60.0
FIRST = b'{"source": "first"}'


@dataclass
class Reader:
    """What a subscriber took, message by message, and what it said of the topic."""

    settings: HintTopic
    taken: list[bytes] = field(default_factory=list)
    reachable: list[bool] = field(default_factory=list)

    @property
    def others(self) -> list[bytes]:
        return [body for body in self.taken if body != FIRST]

    async def take(self, bodies: Sequence[bytes]) -> None:
        self.taken += bodies

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        subscriber = HintSubscriber(self.settings, self.take, SystemClock(), self.reachable.append)
        task = asyncio.create_task(subscriber.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def reader(kafka: Kafka, topic: str, group: str = "replicas") -> Reader:
    return Reader(HintTopic(bootstrap_servers=(kafka.bootstrap,), topic=topic, group=f"{group}-{topic}"))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(ARRIVES_WITHIN):
        while not holds():
            await asyncio.sleep(0.05)


async def send(kafka: Kafka, topic: str, *bodies: bytes | None) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    try:
        for body in bodies:
            await producer.send_and_wait(topic, body, key=b"key")
    finally:
        await producer.stop()


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    return await kafka.create_topic(f"hints-{uuid4().hex[:8]}")


async def test_messages_arrive_as_they_are_and_odd_ones_stop_nothing(kafka: Kafka, topic: str) -> None:
    one = reader(kafka, topic)
    async with one.reading():
        await until(lambda: one.reachable == [True])
        bodies = [b'{"source": "cdf"}', b"\xff\x00", b"", b'{"source": "dataprep", "job": 7}']
        await sent_until_taken(kafka, topic, one)
        await send(kafka, topic, *bodies, None)
        await until(lambda: len(one.others) == 5)
    assert one.others == [*bodies, b""]


async def test_what_comes_while_nobody_reads_is_taken_later_and_once(kafka: Kafka, topic: str) -> None:
    first, second = reader(kafka, topic), reader(kafka, topic)
    async with first.reading():
        await sent_until_taken(kafka, topic, first)
    await send(kafka, topic, b'{"source": "between"}')
    async with second.reading():
        await until(lambda: bool(second.others))
    assert second.others == [b'{"source": "between"}']


async def test_a_message_that_takes_its_time_leaves_no_connection_open(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose commit a cluster does not answer: the consumer is closed all the same, and its task ended."""
    monkeypatch.setattr(hint_topic, "CLOSED_WITHIN", 1.0)
    one, is_taken = reader(kafka, topic), asyncio.Event()

    async def take(bodies: Sequence[bytes]) -> None:
        is_taken.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(one, "take", take)
    before = asyncio.all_tasks()
    async with one.reading():
        while not is_taken.is_set():
            await send(kafka, topic, FIRST)
            await asyncio.sleep(0.2)
    gc.collect()  # an unclosed consumer warns, which is an error in tests
    assert asyncio.all_tasks() == before


async def test_a_cluster_that_froze_is_left_without_a_task(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer whose stop is cut would go on reading, by a new connection, once the cluster answers again."""
    monkeypatch.setattr(hint_topic, "CLOSED_WITHIN", 1.0)
    one = reader(kafka, topic)
    before = asyncio.all_tasks()
    try:
        async with one.reading():
            await sent_until_taken(kafka, topic, one)
            kafka.process.pause()
        assert asyncio.all_tasks() == before
    finally:
        kafka.process.resume()


async def test_an_outage_is_waited_for(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hint_topic, "LOOK", 0.2)
    monkeypatch.setattr(hint_topic, "ANSWERED_WITHIN", 2.0)
    monkeypatch.setattr(hint_topic, "CLOSED_WITHIN", 1.0)
    monkeypatch.setattr(hint_topic, "AGAIN_AFTER", (0.2,))
    caplog.set_level("INFO", logger="lineage.hint")
    one = reader(kafka, topic)
    async with one.reading():
        await sent_until_taken(kafka, topic, one)
        await asyncio.to_thread(kafka.process.kill)
        await until(lambda: one.reachable[-1] is False)
        await asyncio.to_thread(kafka.process.start)
        await until(lambda: one.reachable[-1] is True)
    failed = next(record for record in caplog.records if record.message == "hints.failed")
    assert failed.fields["then"] == "sources are polled at their interval"  # type: ignore[attr-defined]
    assert "hints.recovered" in [record.message for record in caplog.records]


async def test_a_topic_that_is_missing_is_said_and_read_once_it_is_there(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hint_topic, "LOOK", 0.2)
    topic = f"hints-{uuid4().hex[:8]}"
    one = reader(kafka, topic)
    async with one.reading():
        await until(lambda: one.reachable != [])
        assert one.reachable[0] is False
        assert "create the topic" in " ".join(str(record.__dict__) for record in caplog.records)
        await kafka.create_topic(topic)
        await until(lambda: one.reachable[-1] is True)
        await sent_until_taken(kafka, topic, one)


async def test_a_file_of_tls_that_cannot_be_read_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hint_topic, "AGAIN_AFTER", (0.01,))
    tls = Tls.model_construct(ca_file=tmp_path / "gone.pem")  # it was there when the configuration was read
    one = Reader(HintTopic(bootstrap_servers=(f"{LOOPBACK}:1",), topic="hints", tls=tls))
    async with one.reading():
        await until(lambda: len(one.reachable) > 1)
    assert set(one.reachable) == {False}
    [failed] = [record for record in caplog.records if record.message == "hints.failed"]
    assert "gone.pem cannot be used" in failed.fields["cause"]  # type: ignore[attr-defined]
    [finding] = await HintSubscriber(one.settings, one.take, SystemClock(), print).check()
    assert (finding.ok, finding.remedy) == (False, "check the files of the TLS settings and the password")


async def test_a_check_says_whether_the_topic_can_be_read(kafka: Kafka, topic: str) -> None:
    def settings(servers: str, name: str) -> HintTopic:
        return HintTopic(bootstrap_servers=(servers,), topic=name)

    async def found(servers: str, name: str) -> Finding:
        [finding] = await HintSubscriber(
            settings(servers, name), Reader(settings(servers, name)).take, SystemClock(), print
        ).check()
        return finding

    assert (await found(kafka.bootstrap, topic)).ok
    absent = await found(kafka.bootstrap, "nowhere")
    assert (absent.ok, absent.remedy) == (False, "make the topic, or let this user READ it with the consumer group")
    away = await found(f"{LOOPBACK}:{free_port()}", topic)
    assert not away.ok
    assert "check that Kafka runs" in str(away.remedy)


async def sent_until_taken(kafka: Kafka, topic: str, one: Reader) -> None:
    """A group reads from its first assignment on: what is sent before is not taken."""
    async with asyncio.timeout(ARRIVES_WITHIN):
        while not one.taken:
            await send(kafka, topic, FIRST)
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while not one.taken:
                        await asyncio.sleep(0.05)
