"""How to reach a Kafka topic: addresses, TLS, login, sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from collector.tls import Trust
from config.sinks import KafkaServers

BATCH_BYTES = 1_000_000
"""The size of produce requests per partition: a little less than what a topic takes by default. One request at a time is at a
broker, so what does not fit into a partition's batch waits for the answer to the first, and all that is sent then with it.
"""
LARGEST_EVENT = 64 * 1024 * 1024
"""A broker hangs up when a request is larger than 100 MiB, its default, and would get the same one again."""
_OVERHEAD = 100  # what a produce request adds to an event


@dataclass(frozen=True, slots=True)
class Login:
    """`password` is called at every connect, so that a rotated password is used."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    username: str
    password: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """`bootstrap` are host:port; no `trust` means no TLS. Connecting takes `connect_seconds` at most."""

    bootstrap: tuple[str, ...]
    topic: str
    client_id: str
    trust: Trust | None = None
    login: Login | None = None
    compression: Literal["gzip"] | None = None
    connect_seconds: float = 15.0

    @property
    def request_seconds(self) -> float:
        """For one answer of a broker: a connect to a silent broker makes three such requests."""
        return min(5.0, self.connect_seconds / 3)

    def __str__(self) -> str:
        return f"Kafka topic {self.topic} at {','.join(self.bootstrap)}"


def cluster_of(
    servers: KafkaServers, topic: str, client_id: str, compression: Literal["gzip"] | None = None
) -> Cluster:
    """As it is configured."""
    sasl, tls = servers.sasl, servers.tls
    return Cluster(
        bootstrap=servers.bootstrap_servers,
        topic=topic,
        client_id=client_id,
        trust=Trust(tls.ca_file, tls.client_cert_file, tls.client_key_file) if tls else None,
        login=Login(sasl.mechanism, sasl.username, sasl.credential.get) if sasl else None,
        compression=compression,
    )


def fitting_batch_bytes(limit: int | None, wanted: int) -> int:
    """The largest produce request: a broker refuses one over the topic's limit, even when each event is small."""
    return wanted if limit is None else max(1, min(wanted, limit - _OVERHEAD))
