"""A real Kafka (KRaft, one node) for the tests: jars by Maven, one broker per test run, ended by process id.

`KAFKA_BOOTSTRAP=host:port` uses an existing plain-text broker instead; tests that must break the broker, or need its
other listeners, then skip. Topics are never made on first use: a test makes its own by `Kafka.create_topic`.

Under pytest-xdist use `--dist loadgroup`, which keeps all tests with a broker in one worker; with any other way to
distribute them each worker starts a separate broker.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.certificates import Certificates, make_certificates
from tests.servers.ports import LOOPBACK, free_ports
from tests.servers.processes import ServerProcess, unavailable

VERSION = "4.4.0"
CACHE = Path(__file__).parents[2] / ".cache" / "kafka" / VERSION
USER, PASSWORD = "alice", "alice-secret"  # may do everything, by PLAIN and SCRAM
GUEST, GUEST_PASSWORD = "bob", "bob-secret"  # by PLAIN; may do nothing but what `Kafka.allow_write` grants

# The pom of 4.4.0 names a kafka-tools-api that no repository has.
_POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>test</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

_SECURED = ("SASL", "SSL", "SASLSSL", "MTLS")
_LISTENERS = ("PLAINTEXT", "CONTROLLER", "PROXIED", *_SECURED)
_PROXY = "PROXY"
_LOGIN = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True)
class Record:
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Kafka:
    """The broker of this test run. What it stores stays until the run ends, so every test uses separate topics."""

    def __init__(
        self,
        bootstrap: str,
        *,
        process: ServerProcess | None = None,
        ports: Mapping[str, int] | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.bootstrap = bootstrap
        self._process = process
        self._ports = ports or {}
        self._certificates = certificates

    @property
    def process(self) -> ServerProcess:
        """To kill, pause, resume and start it again; from a coroutine by `asyncio.to_thread`."""
        if self._process is None:
            pytest.skip("the broker at KAFKA_BOOTSTRAP is not ours to break")
        return self._process

    @property
    def certificates(self) -> Certificates:
        if self._certificates is None:
            pytest.skip("the broker at KAFKA_BOOTSTRAP has no certificates of ours")
        return self._certificates

    def listener(self, name: str) -> str:
        """host:port of SASL (no TLS), SSL, SASLSSL or MTLS (TLS that demands a client certificate)."""
        if name not in self._ports:
            pytest.skip(f"the broker at KAFKA_BOOTSTRAP is used without its {name} listener")
        return f"{LOOPBACK}:{self._ports[name]}"

    @property
    def proxied(self) -> tuple[int, int]:
        """The port of a listener for a proxy, and the port where the broker sends its clients, which the proxy must listen on."""
        if not self._ports:
            pytest.skip("the broker at KAFKA_BOOTSTRAP has no listener for a proxy")
        return self._ports["PROXIED"], self._ports[_PROXY]

    def ensure_running(self) -> None:
        """Undoes what a test did to the broker."""
        if self._process is not None:
            self._process.resume()
            self._process.start()

    async def create_topic(self, name: str, *, partitions: int = 1, **config: str) -> str:
        """`config` with underscores for dots, as `max_message_bytes="2000"`. Returns the name."""
        from aiokafka.admin import NewTopic

        settings = {key.replace("_", "."): value for key, value in config.items()}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=settings)
        async with self._admin() as admin:
            answer = await admin.create_topics([topic])
        _refuse_errors(name, [(code, text) for _, code, text in answer.topic_errors])
        return name

    async def set_topic(self, name: str, **config: str) -> None:
        """Changes settings of a topic; those left out go back to their defaults."""
        from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

        settings = {key.replace("_", "."): value for key, value in config.items()}
        async with self._admin() as admin:
            [answer] = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, settings)])
        _refuse_errors(name, [(code, text) for code, text, *_ in answer.resources])

    async def add_partitions(self, name: str, total: int) -> None:
        from aiokafka.admin import NewPartitions

        async with self._admin() as admin:
            await admin.create_partitions({name: NewPartitions(total)})

    async def delete_topic(self, name: str) -> None:
        async with self._admin() as admin:
            await admin.delete_topics([name])

    async def allow_write(self, user: str, topic: str) -> None:
        from aiokafka.protocol.admin import CreateAclsRequest

        topic_type, literal, write, allow = 2, 3, 4, 3  # codes of the Kafka protocol
        async with self._admin() as admin:
            request = CreateAclsRequest(topic_type, topic, literal, f"User:{user}", "*", write, allow)
            answer = await admin._send_request(request)  # the client has no method for it
        _refuse_errors(f"rights on {topic}", answer.creation_responses)

    async def read(self, topic: str) -> list[Record]:
        """Everything the topic holds now, by an ordinary consumer: partition by partition, in the order stored."""
        from aiokafka import AIOKafkaConsumer, TopicPartition

        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest") as consumer:
            await consumer._client.force_metadata_update()
            parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
            if not parts:
                return []
            consumer.assign(parts)
            ends = await consumer.end_offsets(parts)
            found: list[Record] = []
            while any([await consumer.position(part) < ends[part] for part in parts]):
                batches = await consumer.getmany(timeout_ms=1_000)
                found += [_record(raw) for batch in batches.values() for raw in batch]
        return sorted(found, key=lambda record: (record.partition, record.offset))

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        from aiokafka.admin import AIOKafkaAdminClient

        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=60_000)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()


def _record(raw: Any) -> Record:
    return Record(raw.partition, raw.offset, raw.key, raw.value, tuple(raw.headers))


def _refuse_errors(what: str, answers: list[tuple[int, str | None]]) -> None:
    # the admin client answers with error codes and raises nothing
    if refused := [f"{code} {text}" for code, text in answers if code]:
        raise RuntimeError(f"{what}: {refused}")


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    if existing := os.environ.get("KAFKA_BOOTSTRAP"):
        yield Kafka(existing)
        return
    with broker(tmp_path_factory.mktemp("kafka")) as started:
        yield started


@contextmanager
def broker(folder: Path) -> Iterator[Kafka]:
    """A broker of our own with its files in `folder`, for as long as the context lasts. Skips where none can be had."""
    jars = _jars()
    certificates = make_certificates(folder)
    ports = dict(zip((*_LISTENERS, _PROXY), free_ports(len(_LISTENERS) + 1), strict=True))
    (folder / "server.properties").write_text(_properties(ports, certificates))
    _format(jars, folder)
    process = ServerProcess(_server_command(jars), folder=folder, port=ports["PLAINTEXT"])
    process.start()
    try:
        bootstrap = f"{LOOPBACK}:{ports['PLAINTEXT']}"
        yield Kafka(bootstrap, process=process, ports=ports, certificates=certificates)
    finally:
        process.stop()


@pytest.fixture
def kafka(kafka_server: Kafka) -> Iterator[Kafka]:
    """The broker, alive before and after the test whatever the test does to it."""
    kafka_server.ensure_running()
    yield kafka_server
    kafka_server.ensure_running()


@pytest.fixture
def kafka_process(kafka: Kafka) -> ServerProcess:
    """The broker's process, for tests that break it."""
    return kafka.process


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "kafka_server" in getattr(item, "fixturenames", ()) or item.get_closest_marker("kafka"):
            item.add_marker(pytest.mark.kafka)
            item.add_marker(pytest.mark.xdist_group("kafka"))


def _jars() -> Path:
    """The folder of jars, downloaded once per project folder, also when several test runs begin at once."""
    if missing := [command for command in ("java", "mvn") if shutil.which(command) is None]:
        unavailable(f"no Kafka for the tests: {' and '.join(missing)} not found")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / "complete").exists():
            _download()
            (CACHE / "complete").touch()
    return CACHE / "jars"


def _download() -> None:
    (CACHE / "pom.xml").write_text(_POM)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"]
    try:
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", "pom.xml", *goal],
            cwd=CACHE,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    except subprocess.TimeoutExpired:
        unavailable("no Kafka for the tests: Maven did not finish its download within 200 s")
    if done.returncode:
        unavailable(f"no Kafka for the tests: Maven answered {done.returncode}: {(done.stdout + done.stderr)[-2_000:]}")


def _format(jars: Path, folder: Path) -> None:
    login = f"[name={USER},password={PASSWORD}]"
    scram = [part for kind in ("256", "512") for part in ("--add-scram", f"SCRAM-SHA-{kind}={login}")]
    tool = ["java", "-cp", f"{jars}/*", "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format", "--standalone"]
    done = subprocess.run(
        [*tool, "-t", "bGluZWFnZS10ZXN0cy0wMQ", "-c", "server.properties", *scram],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"formatting Kafka's storage: {done.stdout[-2_000:]}{done.stderr[-2_000:]}")


def _server_command(jars: Path) -> list[str]:
    memory = ["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return ["java", *memory, log, "-cp", f"{jars}/*", "kafka.Kafka", "server.properties"]


def _properties(ports: Mapping[str, int], certificates: Certificates) -> str:
    controller = f"{LOOPBACK}:{ports['CONTROLLER']}"
    advertised = {name: ports[name] for name in _LISTENERS} | {"PROXIED": ports[_PROXY]}
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": controller,
        "listeners": ",".join(f"{name}://{LOOPBACK}:{ports[name]}" for name in _LISTENERS),
        "advertised.listeners": ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in advertised.items()),
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,SASL:SASL_PLAINTEXT,SSL:SSL,SASLSSL:SASL_SSL,MTLS:SSL"
        ),
        "log.dirs": "data",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # with a heap below 256 MiB the default ends the broker with OutOfMemoryError
        "log.cleaner.dedupe.buffer.size": "10485760",
        # after kill -9 the node waits for its own old session: 13 to 28 s without these two, 5 s with them
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.server),
        "listener.name.mtls.ssl.client.auth": "required",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.ca),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER};User:CN=client",
    }
    users = f'user_{USER}="{PASSWORD}" user_{GUEST}="{GUEST_PASSWORD}"'
    for listener in ("sasl", "saslssl"):
        prefix = f"listener.name.{listener}"
        settings[f"{prefix}.plain.sasl.jaas.config"] = f"{_LOGIN}.plain.PlainLoginModule required {users};"
        for kind in ("256", "512"):
            settings[f"{prefix}.scram-sha-{kind}.sasl.jaas.config"] = f"{_LOGIN}.scram.ScramLoginModule required;"
    return "".join(f"{key}={value}\n" for key, value in settings.items())
