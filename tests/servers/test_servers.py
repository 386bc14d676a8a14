"""The servers that other tests rely on do start, obey and end."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from tests.servers.kafka import Kafka
from tests.servers.ports import free_port, free_ports, is_open
from tests.servers.processes import ServerDidNotStartError, ServerProcess, unavailable
from tests.servers.prometheus import Promtool, StartPrometheus


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[ServerProcess]:
    port = free_port()
    arguments = ["-m", "http.server", "--bind", "127.0.0.1", str(port)]
    process = ServerProcess([sys.executable, *arguments], folder=tmp_path, port=port)
    yield process
    process.kill()


def test_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20


@pytest.mark.parametrize("frozen", [False, True])
def test_a_process_is_ended_by_its_id_even_when_frozen(web_server: ServerProcess, frozen: bool) -> None:
    web_server.start()
    pid = web_server.pid
    assert pid is not None
    if frozen:
        web_server.pause()
    web_server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not is_open(web_server.port)


def test_a_killed_process_starts_again_on_its_port(web_server: ServerProcess) -> None:
    web_server.start()
    first = web_server.pid
    web_server.kill()
    assert web_server.pid is None
    web_server.start()
    assert web_server.pid not in {None, first}


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    process = ServerProcess([sys.executable, "-c", "print('no such thing')"], folder=tmp_path, port=free_port())
    with pytest.raises(ServerDidNotStartError, match="no such thing"):
        process.start()


@pytest.mark.parametrize(("ci", "outcome"), [("true", "Failed"), ("", "Skipped")])
def test_a_missing_server_fails_in_ci_and_skips_elsewhere(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: str
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(BaseException, match="no java") as caught:
        unavailable("no java")
    assert type(caught.value).__name__ == outcome


async def test_kafka_keeps_what_it_is_given_through_a_kill(kafka: Kafka, kafka_process: ServerProcess) -> None:
    from aiokafka import AIOKafkaProducer

    topic = await kafka.create_topic(f"servers-{uuid4()}", partitions=2)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
        for number in range(10):
            await producer.send_and_wait(topic, str(number).encode(), key=b"k", headers=[("h", b"v")])
    await asyncio.to_thread(kafka_process.kill)
    await asyncio.to_thread(kafka_process.start)
    records = await kafka.read(topic)
    assert [record.value for record in records] == [str(number).encode() for number in range(10)]
    assert {(record.key, record.headers) for record in records} == {(b"k", (("h", b"v"),))}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_kafka_knows_its_users(kafka: Kafka, mechanism: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(
        bootstrap_servers=kafka.listener("SASL"),
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism=mechanism,
        sasl_plain_username="alice",
        sasl_plain_password="alice-secret",
    )
    await admin.start()
    await admin.close()


async def test_prometheus_scrapes(start_prometheus: StartPrometheus) -> None:
    registry = CollectorRegistry()
    Gauge("answer", "To everything", ["to"], registry=registry).labels("everything").set(42)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    async with TestServer(app, host="127.0.0.1") as target:
        prometheus = start_prometheus(f"127.0.0.1:{target.port}")
        [sample] = await prometheus.wait_for('answer{to="everything"}')
    assert sample.value == 42


def test_promtool_objects_to_a_bad_name(promtool: Promtool) -> None:
    done = promtool("check", "metrics", stdin="# HELP a_ms Text.\n# TYPE a_ms gauge\na_ms 1\n")
    assert done.returncode == 3
