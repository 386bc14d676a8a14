"""What `exporters.sinks.kafka.connection` needs of the insides of aiokafka and FastStream, which no version promises to keep."""

import asyncio
import inspect
import tomllib
from collections.abc import AsyncIterator
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.metadata import MetadataResponse_v1
from faststream.kafka.publisher.producer import AioKafkaFastProducerImpl

from collector.testing.sinks import event
from exporters.sinks.kafka.cluster import BATCH_BYTES, Cluster, Login
from exporters.sinks.kafka.connection import Batch, Connection, partition_of
from exporters.sinks.kafka.errors import ClientLog, Problem
from exporters.sinks.kafka.tasks import end_tasks_of

NOWHERE = "127.0.0.1:1"


@pytest.fixture
async def producer() -> AsyncIterator[AIOKafkaProducer]:
    made = AIOKafkaProducer(bootstrap_servers=NOWHERE, enable_idempotence=True, acks="all")
    yield made
    made._closed = True


def connection_of(producer: AIOKafkaProducer, password: str = "") -> Connection:
    login = Login("PLAIN", "me", lambda: password) if password else None
    made = Connection(Cluster((NOWHERE,), "events", "tests", login=login), ClientLog("events"), BATCH_BYTES)
    made._producer.raw = producer
    return made


@pytest.mark.parametrize(
    "needed",
    [
        "_closed",
        "_sender._sender_task",
        "_message_accumulator.fail_all",
        "client.close",
        "client._sasl_plain_password",
        "client.cluster.available_partitions_for_topic",
        "client.cluster.partitions_for_topic",
        "client.force_metadata_update",
        "partitions_for",
    ],
)
async def test_the_producer_still_has(producer: AIOKafkaProducer, needed: str) -> None:
    try:
        attrgetter(needed)(producer)
    except AttributeError:
        pytest.fail(
            f"aiokafka {version('aiokafka')} has no AIOKafkaProducer.{needed}: mend exporters/sinks/kafka/connection.py"
        )


@pytest.mark.parametrize("partitions", [1, 6, 50])
def test_a_key_goes_to_the_partition_that_other_clients_choose(partitions: int) -> None:
    all_of_topic, chosen = list(range(partitions)), DefaultPartitioner()
    keys = [f"run:cdf://host/plant/transformation/job-{number}".encode() for number in range(200)]
    ours = [partition_of(key, partitions) for key in keys]
    assert ours == [chosen(key, all_of_topic, all_of_topic) for key in keys]


async def test_the_admin_client_still_has_its_client() -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=NOWHERE)
    assert hasattr(getattr(admin, "_client", None), "_sasl_plain_password"), (
        f"aiokafka {version('aiokafka')} keeps the admin's password elsewhere: mend exporters/sinks/kafka/connection.py"
    )


def test_a_client_reads_its_password_at_each_connection() -> None:
    source = inspect.getsource(AIOKafkaClient._get_conn)
    assert "sasl_plain_password=self._sasl_plain_password" in source, (
        "a password that rotates no longer reaches new connections: mend exporters/sinks/kafka/connection.py"
    )


def test_faststream_still_connects_by_a_producer_of_ours() -> None:
    taken = list(inspect.signature(AioKafkaFastProducerImpl.connect).parameters)
    assert taken == ["self", "producer", "serializer", "codec"], (
        f"FastStream {version('faststream')} calls the producer's connect in another way: mend exporters/sinks/kafka/connection.py"
    )


async def test_a_producer_with_events_in_flight_can_be_ended(producer: AIOKafkaProducer) -> None:
    """No public way does that: `stop()` waits for the broker without end."""
    sender = asyncio.create_task(producer._sender._sender_routine())
    await asyncio.sleep(0)
    assert not sender.done()
    async with asyncio.timeout(10):
        await connection_of(producer).abandon()
    assert sender.done()
    assert isinstance(producer._message_accumulator._exception, KafkaError)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_tasks_of_a_client_are_found(producer: AIOKafkaProducer) -> None:
    task = asyncio.create_task(producer.client._md_synchronizer())
    await asyncio.sleep(0)
    await end_tasks_of(producer.client)
    assert task.done()


async def test_a_living_client_gets_the_password_of_today(producer: AIOKafkaProducer) -> None:
    connection_of(producer, "todays-password")._renew_secrets()
    assert producer.client._sasl_plain_password == "todays-password"


class Unsent:
    """A connection whose producer only queues: the test says what the client knows of the topic, and nothing is sent."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._client = producer.client
        self.queued = producer._message_accumulator._batches
        self.updates: list[asyncio.Future[bool]] = []
        producer.client.force_metadata_update = self._update
        self.connection = connection_of(producer)

    def _update(self) -> asyncio.Future[bool]:
        self.updates.append(asyncio.get_running_loop().create_future())
        return self.updates[-1]

    def learn(self, leaders: list[int]) -> None:
        """The client learns that the topic has these leaders, by partition; -1 for none."""
        partitions = [(0, number, leader, [1], [1]) for number, leader in enumerate(leaders)]
        topics = [(0, "events", False, partitions)] if leaders else [(3, "events", False, [])]
        self._client.cluster.update_metadata(MetadataResponse_v1([(1, "127.0.0.1", 1, None)], 1, topics))

    def packed(self, count: int = 1) -> list[Batch]:
        return self.connection.packed([(b"%d" % number, event(number, 1)) for number in range(count)])


@pytest.fixture
def unsent(producer: AIOKafkaProducer) -> Unsent:
    return Unsent(producer)


@pytest.mark.parametrize("later", [[1], [1] * 6, []], ids=["fewer", "more", "deleted"])
async def test_a_batch_is_not_handed_over_when_the_number_of_partitions_has_changed(
    unsent: Unsent, later: list[int]
) -> None:
    unsent.learn([1, 1, 1])
    await unsent.connection.partitions()
    batches = unsent.packed(20)
    assert {batch.partition for batch in batches} == {0, 1, 2}
    unsent.learn(later)
    for batch in batches:
        problem = await unsent.connection.publish(batch, patience=10)
        assert isinstance(problem, Problem)
        assert problem.passing
        assert "partitions" in problem.cause
    assert not unsent.queued


async def test_a_partition_without_a_leader_holds_up_no_other_and_the_client_asks_for_it(unsent: Unsent) -> None:
    """In the queue its batch would fail after some seconds, and the producer with it."""
    unsent.learn([1, -1, 1])
    await unsent.connection.partitions()
    refused = []
    for batch in unsent.packed(20):
        async with asyncio.timeout(10):
            taken = await unsent.connection.publish(batch, patience=1000)
        if isinstance(taken, Problem):
            refused.append((batch, taken))
    assert {partition.partition for partition in unsent.queued} == {0, 2}
    [(batch, problem)] = refused
    assert "partition 1 has no leader" in problem.cause
    assert problem.passing
    assert len(unsent.updates) == 1
    unsent.learn([1, 1, 1])
    assert isinstance(await unsent.connection.publish(batch, patience=1000), asyncio.Future)


async def test_a_partition_that_takes_nothing_is_waited_for_once(unsent: Unsent) -> None:
    unsent.learn([1])
    await unsent.connection.partitions()

    async def publish(patience: float) -> object:
        async with asyncio.timeout(10):
            return await unsent.connection.publish(unsent.packed()[0], patience=patience)

    assert isinstance(await publish(1000), asyncio.Future)
    for patience in (0.01, 1000, 1000):
        problem = await publish(patience)
        assert isinstance(problem, Problem)
        assert "the queue of partition 0 is full" in problem.cause
    unsent.queued.clear()
    assert isinstance(await publish(1000), asyncio.Future)
    waits = asyncio.create_task(publish(1000))
    done, _ = await asyncio.wait([waits], timeout=0.1)
    waits.cancel()
    assert not done, "it is waited for again"


def test_the_next_minor_version_is_kept_out() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    [pin] = [each for each in project["dependencies"] if each.startswith("aiokafka")]
    assert "<0.15" in pin, "look at each of the tests here before another minor version is let in"
