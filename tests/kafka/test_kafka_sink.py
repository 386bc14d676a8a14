"""The Kafka sink against a real broker."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest

from collector.model import Outgoing
from collector.testing.sinks import drive, event, seen, send
from collector.tls import Trust
from exporters.sinks.base import Delivered, Park, Retry
from exporters.sinks.kafka.cluster import Cluster, Login
from exporters.sinks.kafka.sink import KafkaSink
from tests.servers.kafka import GUEST, GUEST_PASSWORD, PASSWORD, USER, Kafka
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.processes import ServerProcess

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
MECHANISMS: tuple[Mechanism, ...] = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@pytest.fixture
def topic_name(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{request.node.name}-{uuid4().hex[:8]}")


def cluster(
    bootstrap: str, topic: str, *, trust: Trust | None = None, login: Login | None = None, connect_seconds: float = 15
) -> Cluster:
    return Cluster((bootstrap,), topic, "tests", trust=trust, login=login, connect_seconds=connect_seconds)


def login(password: str = PASSWORD, *, user: str = USER, mechanism: Mechanism = "PLAIN") -> Login:
    return Login(mechanism, user, lambda: password)


@asynccontextmanager
async def sink_for(where: Cluster, *, answer_seconds: float = 15, key: bytes | None = None) -> AsyncIterator[KafkaSink]:
    sink = KafkaSink(where, "events", answer_seconds=answer_seconds, key=key)
    try:
        yield sink
    finally:
        await sink.close(5)


async def only_retry(sink: KafkaSink, number: int = 1) -> Retry:
    outcome = (await send(sink, [event(1, number)]))[1, number]
    assert isinstance(outcome, Retry)
    return outcome


async def test_events_arrive_as_they_are_with_the_clients_key_and_one_header(kafka: Kafka, topic_name: str) -> None:
    topic = await kafka.create_topic(topic_name)
    first = event(1, 1)
    async with sink_for(cluster(kafka.bootstrap, topic)) as sink:
        assert await send(sink, [first]) == {(1, 1): Delivered()}
    [record] = await kafka.read(topic)
    assert record.value == first.body
    assert record.key == b"run:cdf://here/project/transformation/a"
    assert record.headers == (("content-type", b"application/json"),)


async def test_a_fixed_key_replaces_the_clients_key(kafka: Kafka, topic_name: str) -> None:
    topic = await kafka.create_topic(topic_name)
    async with sink_for(cluster(kafka.bootstrap, topic), key=b"all") as sink:
        await send(sink, [event(1, 1), event(2, 1, job="transformation/b")])
    assert {record.key for record in await kafka.read(topic)} == {b"all"}


@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_each_key_stays_in_one_partition_and_each_strand_in_order(
    kafka: Kafka, topic_name: str, compression: Literal["gzip"] | None
) -> None:
    topic = await kafka.create_topic(topic_name, partitions=6)
    events = [
        event(strand, seq, job=f"transformation/{strand % 10}", padding=800)
        for seq in range(20)
        for strand in range(50)
    ]
    where = Cluster((kafka.bootstrap,), topic, "tests", compression=compression)
    async with sink_for(where) as sink:
        driven = await drive(sink, events)
    records = await kafka.read(topic)
    assert len(driven.delivered) == len(records) == 1000
    assert driven.retries == []
    partitions = {(record.key, record.partition) for record in records}
    assert len(partitions) == 10
    assert len({partition for _, partition in partitions}) > 1
    assert_complete(records_by_strand([record.value for record in records]), strands=50, seqs=20)


def records_by_strand(bodies: list[bytes]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for strand, seq in seen(bodies):
        found.setdefault(strand, []).append(seq)
    return found


def assert_complete(found: dict[int, list[int]], *, strands: int, seqs: int) -> None:
    """Nothing lost, nothing twice, everything in order."""
    assert found == {strand: list(range(seqs)) for strand in range(strands)}


async def noticed(sink: KafkaSink, since: float) -> None:
    """Until the client has met a failure while something was in flight."""
    async with asyncio.timeout(90):
        while sink._log.since(since) is None or not sink._in_flight():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_nothing_is_lost_doubled_or_reordered_when_the_broker_is(
    kafka: Kafka, kafka_process: ServerProcess, topic_name: str, how: str
) -> None:
    topic = await kafka.create_topic(topic_name, partitions=3)
    events = [
        event(strand, seq, job=f"transformation/{strand}", padding=400) for seq in range(60) for strand in range(40)
    ]

    some_delivered = asyncio.Event()

    async def break_it() -> None:
        await some_delivered.wait()
        began = time.monotonic()
        if how == "killed":
            await asyncio.to_thread(kafka_process.kill)
            await noticed(sink, began)
            await asyncio.to_thread(kafka_process.start)
        else:
            kafka_process.pause()
            await noticed(sink, began)
            kafka_process.resume()

    async with sink_for(cluster(kafka.bootstrap, topic), answer_seconds=1) as sink:
        driven, _ = await asyncio.gather(drive(sink, events, seconds=90, after=(500, some_delivered)), break_it())
    assert any(retry.in_flight for retry in driven.retries), "the broker was not away while events were sent"
    assert driven.longest < 10
    assert_complete(records_by_strand([record.value for record in await kafka.read(topic)]), strands=40, seqs=60)


async def test_an_event_too_large_for_the_topic_is_parked_and_holds_up_nobody(kafka: Kafka, topic_name: str) -> None:
    topic = await kafka.create_topic(topic_name, partitions=2, max_message_bytes="5000")
    large = {(3, 1): 20_000, (7, 2): 4_990}
    events = [event(strand, seq, padding=large.get((strand, seq), 500)) for strand in range(20) for seq in range(4)]
    async with sink_for(cluster(kafka.bootstrap, topic)) as sink:
        driven = await drive(sink, events)
    assert driven.parked.keys() == large.keys()
    assert "max.message.bytes is 5000" in driven.parked[3, 1]
    found = seen([record.value for record in await kafka.read(topic)])
    assert sorted(found) == sorted(driven.delivered)
    assert len(found) == 78
    assert [seq for strand, seq in found if strand == 7] == [0, 1, 3]


async def test_a_raised_limit_lets_a_large_event_through(kafka: Kafka, topic_name: str) -> None:
    topic = await kafka.create_topic(topic_name, max_message_bytes="5000")
    large = event(1, 1, padding=20_000)
    async with sink_for(cluster(kafka.bootstrap, topic)) as sink:
        assert isinstance((await send(sink, [large]))[1, 1], Park)
        await kafka.set_topic(topic, max_message_bytes="100000")
        async with asyncio.timeout(60):  # the controller has answered, the broker applies it some time later
            while await send(sink, [large]) != {(1, 1): Delivered()}:
                await asyncio.sleep(0.05)


async def test_who_may_not_read_the_limit_still_gets_small_events_through(kafka: Kafka, topic_name: str) -> None:
    """The user may WRITE and no more, which is all that a producer needs; the broker refuses whole requests then."""
    topic = await kafka.create_topic(topic_name, max_message_bytes="40000")
    await kafka.allow_write(GUEST, topic)
    events = [event(strand, 0, padding=2_000) for strand in range(100)] + [event(100, 0, padding=50_000)]
    where = cluster(kafka.listener("SASL"), topic, login=login(GUEST_PASSWORD, user=GUEST))
    async with sink_for(where) as sink:
        driven = await drive(sink, events)
    assert driven.parked.keys() == {(100, 0)}
    found = seen([record.value for record in await kafka.read(topic)])
    assert sorted(found) == [(strand, 0) for strand in range(100)]


async def test_a_missing_topic_is_waited_for(kafka: Kafka, topic_name: str) -> None:
    async with sink_for(cluster(kafka.bootstrap, topic_name, connect_seconds=3)) as sink:
        retry = await only_retry(sink)
        assert retry.slow
        assert "create the topic" in retry.cause
        await kafka.create_topic(topic_name)
        assert await send(sink, [event(1, 1)]) == {(1, 1): Delivered()}


async def test_a_topic_that_is_taken_away_is_waited_for_again(kafka: Kafka, topic_name: str) -> None:
    await kafka.create_topic(topic_name)
    async with sink_for(cluster(kafka.bootstrap, topic_name, connect_seconds=3)) as sink:
        await send(sink, [event(1, 1)])
        await kafka.delete_topic(topic_name)
        first = await only_retry(sink, 2)
        assert "create the topic" in (first.cause if first.slow else (await only_retry(sink, 2)).cause)
        await kafka.create_topic(topic_name)
        driven = await drive(sink, [event(1, 2)], seconds=90)
    assert driven.delivered == [(1, 2)]


async def refresh_metadata(sink: KafkaSink) -> None:
    """What aiokafka does every five minutes."""
    assert sink._connection is not None
    await sink._connection._producer.raw.client.force_metadata_update()


def of_jobs(seq: int) -> list[Outgoing]:
    """An event of each of 20 jobs, which six partitions share."""
    return [event(strand, seq, job=f"transformation/{strand}") for strand in range(20)]


async def test_partitions_that_are_added_are_used_without_a_new_connection(kafka: Kafka, topic_name: str) -> None:
    topic = await kafka.create_topic(topic_name)
    async with sink_for(cluster(kafka.bootstrap, topic)) as sink:
        await send(sink, of_jobs(0))
        connection = sink._connection
        await kafka.add_partitions(topic, 6)
        await send(sink, of_jobs(1))
        await refresh_metadata(sink)
        assert set((await send(sink, of_jobs(2))).values()) == {Delivered()}
        assert sink._connection is connection
    records = await kafka.read(topic)
    assert len({record.partition for record in records}) > 1
    assert len(records) == 60


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed by the client", "not noticed"])
async def test_a_topic_made_again_with_fewer_partitions_is_used(kafka: Kafka, topic_name: str, noticed: bool) -> None:
    topic = await kafka.create_topic(topic_name, partitions=6)
    async with sink_for(cluster(kafka.bootstrap, topic, connect_seconds=3), answer_seconds=1) as sink:
        await send(sink, of_jobs(0))
        await kafka.delete_topic(topic)
        await kafka.create_topic(topic, partitions=2)
        if noticed:
            await refresh_metadata(sink)
        driven = await drive(sink, of_jobs(1), seconds=90)
    assert len(driven.delivered) == 20
    records = await kafka.read(topic)
    assert {record.partition for record in records} == {0, 1}
    assert len(records) == 20


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("listener", ["SASL", "SASLSSL"])
async def test_users_are_known_by_password(kafka: Kafka, topic_name: str, mechanism: Mechanism, listener: str) -> None:
    topic = await kafka.create_topic(topic_name)
    trust = Trust(kafka.certificates.ca) if listener == "SASLSSL" else None
    where = cluster(kafka.listener(listener), topic, trust=trust, login=login(mechanism=mechanism))
    async with sink_for(where) as sink:
        assert await send(sink, [event(1, 1)]) == {(1, 1): Delivered()}


async def test_a_client_certificate_is_shown(kafka: Kafka, topic_name: str) -> None:
    topic = await kafka.create_topic(topic_name)
    files = kafka.certificates
    trust = Trust(files.ca, files.client, files.client_key)
    async with sink_for(cluster(kafka.listener("MTLS"), topic, trust=trust)) as sink:
        assert await send(sink, [event(1, 1)]) == {(1, 1): Delivered()}
    async with sink_for(cluster(kafka.listener("MTLS"), topic, trust=Trust(files.ca))) as sink:
        assert "hung up" in (await only_retry(sink)).cause


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_wrong_password_is_named_and_not_shown(kafka: Kafka, mechanism: Mechanism) -> None:
    where = cluster(kafka.listener("SASL"), "any", login=login("not-the-password", mechanism=mechanism))
    async with sink_for(where) as sink:
        retry = await only_retry(sink)
    assert retry.slow
    assert "Authentication failed" in retry.cause
    assert "check the user name" in retry.cause
    assert "not-the-password" not in retry.cause


async def test_a_password_that_rotates_while_events_are_in_flight(
    kafka: Kafka, kafka_process: ServerProcess, topic_name: str
) -> None:
    topic = await kafka.create_topic(topic_name)
    await kafka.allow_write(GUEST, topic)
    properties = kafka_process.folder / "server.properties"
    before, passwords = properties.read_text(), [GUEST_PASSWORD]
    guest = Login("PLAIN", GUEST, lambda: passwords[-1])
    async with sink_for(cluster(kafka.listener("SASL"), topic, login=guest), answer_seconds=1) as sink:
        await drive(sink, [event(1, 1)])
        await asyncio.to_thread(kafka_process.kill)
        assert (await only_retry(sink, 2)).in_flight
        properties.write_text(before.replace(GUEST_PASSWORD, "rotated"))
        await asyncio.to_thread(kafka_process.start)
        try:
            while "Authentication failed" not in (retry := await only_retry(sink, 2)).cause:
                assert retry.in_flight
            passwords.append("rotated")
            driven = await drive(sink, [event(1, 2)], seconds=90)
        finally:
            properties.write_text(before)
            await asyncio.to_thread(kafka_process.kill)
    assert driven.delivered == [(1, 2)]
    kafka.ensure_running()
    assert seen([record.value for record in await kafka.read(topic)]) == [(1, 1), (1, 2)]


async def test_an_unknown_authority_is_named(kafka: Kafka) -> None:
    where = cluster(kafka.listener("SSL"), "any", trust=Trust(kafka.certificates.stranger))
    async with sink_for(where) as sink:
        retry = await only_retry(sink)
    assert retry.slow
    assert "certificate verify failed" in retry.cause
    assert "ca_file" in retry.cause


async def test_tls_against_a_listener_without_it_is_named(kafka: Kafka) -> None:
    async with sink_for(cluster(kafka.bootstrap, "any", trust=Trust(kafka.certificates.ca))) as sink:
        assert "hung up" in (await only_retry(sink)).cause


async def test_an_unreadable_certificate_is_named(kafka: Kafka, tmp_path: Path) -> None:
    async with sink_for(cluster(kafka.listener("SSL"), "any", trust=Trust(tmp_path / "gone.pem"))) as sink:
        retry = await only_retry(sink)
    assert retry.slow
    assert "No such file" in retry.cause


async def test_a_user_without_rights_gets_the_names_of_the_missing_ones(kafka: Kafka, topic_name: str) -> None:
    mine = await kafka.create_topic(f"{topic_name}-mine")
    other = await kafka.create_topic(f"{topic_name}-other")
    guest = login(GUEST_PASSWORD, user=GUEST)
    await kafka.allow_write(GUEST, mine)
    async with sink_for(cluster(kafka.listener("SASL"), other, login=guest)) as sink:
        retry = await only_retry(sink)
    assert retry.slow
    assert "right to WRITE" in retry.cause
    async with sink_for(cluster(kafka.listener("SASL"), mine, login=guest)) as sink:
        assert (await drive(sink, [event(1, 1)])).delivered == [(1, 1)]


async def test_rights_can_come_later(kafka: Kafka, topic_name: str) -> None:
    topic = await kafka.create_topic(topic_name)
    async with sink_for(cluster(kafka.listener("SASL"), topic, login=login(GUEST_PASSWORD, user=GUEST))) as sink:
        assert (await only_retry(sink)).slow
        await kafka.allow_write(GUEST, topic)
        assert (await drive(sink, [event(1, 1)])).delivered == [(1, 1)]


async def test_a_dead_port_is_an_ordinary_outage() -> None:
    async with sink_for(cluster(f"{LOOPBACK}:{free_port()}", "any")) as sink:
        retry = await only_retry(sink)
    assert not retry.slow
    assert not retry.in_flight
    assert "Connect call failed" in retry.cause


async def test_a_port_that_never_answers_is_an_ordinary_outage() -> None:
    with socket.socket() as silent:
        silent.bind((LOOPBACK, 0))
        silent.listen()
        where = cluster(f"{LOOPBACK}:{silent.getsockname()[1]}", "any", connect_seconds=1.5)
        async with sink_for(where) as sink:
            retry = await only_retry(sink)
    assert not retry.slow
    assert "RequestTimedOutError" in retry.cause or "TimeoutError" in retry.cause


async def test_closing_with_a_dead_broker_keeps_to_the_deadline_and_ends_everything(
    kafka: Kafka, kafka_process: ServerProcess, topic_name: str
) -> None:
    topic = await kafka.create_topic(topic_name)
    sink = KafkaSink(cluster(kafka.bootstrap, topic), "events", answer_seconds=0.5)
    await drive(sink, [event(1, 1)])
    await asyncio.to_thread(kafka_process.kill)
    assert (await only_retry(sink, 2)).in_flight
    began = time.monotonic()
    await sink.close(2)
    assert time.monotonic() - began < 20, "far less than the client's own patience"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await asyncio.to_thread(kafka_process.start)
    async with sink_for(cluster(kafka.bootstrap, topic)) as later:
        assert await send(later, [event(1, 3)]) == {(1, 3): Delivered()}
    assert seen([record.value for record in await kafka.read(topic)]) == [(1, 1), (1, 3)]


async def test_closing_waits_for_what_the_broker_still_answers(
    kafka: Kafka, kafka_process: ServerProcess, topic_name: str
) -> None:
    topic = await kafka.create_topic(topic_name)
    sink = KafkaSink(cluster(kafka.bootstrap, topic), "events", answer_seconds=0.5)
    await drive(sink, [event(1, 1)])
    kafka_process.pause()
    assert (await only_retry(sink, 2)).in_flight
    kafka_process.resume()
    await sink.close(60)
    assert seen([record.value for record in await kafka.read(topic)]) == [(1, 1), (1, 2)]


async def test_a_closed_sink_sends_nothing(kafka: Kafka, topic_name: str) -> None:
    topic = await kafka.create_topic(topic_name)
    sink = KafkaSink(cluster(kafka.bootstrap, topic), "events")
    await sink.close(1)
    assert isinstance((await send(sink, [event(1, 1)]))[1, 1], Retry)
    assert await kafka.read(topic) == []


async def test_an_answer_that_comes_while_nobody_asks_is_kept(
    kafka: Kafka, kafka_process: ServerProcess, topic_name: str
) -> None:
    topic = await kafka.create_topic(topic_name)
    async with sink_for(cluster(kafka.bootstrap, topic), answer_seconds=0.3) as sink:
        await drive(sink, [event(1, 1)])
        kafka_process.pause()
        assert (await only_retry(sink, 2)).in_flight
        kafka_process.resume()
        await asyncio.wait([sent.delivery for sent in sink._unanswered.values()], timeout=90)
        assert await send(sink, [event(1, 2)]) == {(1, 2): Delivered()}
    assert seen([record.value for record in await kafka.read(topic)]) == [(1, 1), (1, 2)]


async def test_an_iterator_closed_early_leaves_its_events_in_flight(kafka: Kafka, topic_name: str) -> None:
    topic = await kafka.create_topic(topic_name)
    batch = [event(strand, 1) for strand in range(10)]
    async with sink_for(cluster(kafka.bootstrap, topic)) as sink:
        answers = sink.send(batch)
        first, _ = await anext(answers)
        await answers.aclose()  # type: ignore[attr-defined] # the port says AsyncIterator, this one is a generator
        rest = [item for item in batch if item is not first]
        assert set((await send(sink, rest)).values()) == {Delivered()}
    assert len(await kafka.read(topic)) == 10


async def test_check_reports_what_works(kafka: Kafka, topic_name: str) -> None:
    topic = await kafka.create_topic(topic_name, partitions=3, max_message_bytes="7000")
    async with sink_for(cluster(kafka.bootstrap, topic)) as sink:
        [finding] = await sink.check()
    assert finding.ok
    assert topic in finding.subject
    assert finding.detail == "connected; partitions: 3, events up to 7000 bytes"
    assert await kafka.read(topic) == []


async def test_check_reports_what_does_not_work_and_what_to_do(kafka: Kafka, topic_name: str) -> None:
    async with sink_for(cluster(kafka.bootstrap, topic_name, connect_seconds=3)) as sink:
        [finding] = await sink.check()
    assert not finding.ok
    assert finding.remedy == "create the topic, or correct its name"
