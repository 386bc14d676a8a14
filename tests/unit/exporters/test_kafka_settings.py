"""From configuration to sink, and what importing it costs."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from collector.clock import SystemClock
from collector.http import HttpClient, HttpOptions
from collector.tls import Trust
from config.sinks import AnySink
from config.sinks import KafkaSink as Settings
from exporters.sinks.base import Context, Sink
from exporters.sinks.kafka.sink import KafkaSink, create
from tests.servers.certificates import make_certificates


def made(**settings: object) -> KafkaSink:
    given = {"type": "kafka", "name": "events", "bootstrap_servers": "a:9092, b:9093", **settings}
    parsed: object = TypeAdapter(AnySink).validate_python(given)
    assert isinstance(parsed, Settings)
    sink = create(
        parsed, Context(sink="events", http=HttpClient(HttpOptions()), clock=SystemClock(), random=lambda: 0.5)
    )
    port: Sink = sink
    assert port is sink
    return sink


def test_defaults() -> None:
    sink = made()
    where = sink._cluster
    assert (where.bootstrap, where.topic) == (("a:9092", "b:9093"), "openlineage.events")
    assert (where.trust, where.login, where.compression) == (None, None, None)
    assert str(where) == "Kafka topic openlineage.events at a:9092,b:9093"
    assert sink.longest_attempt < timedelta(minutes=2)


def test_everything_set(tmp_path: Path) -> None:
    secret, authority = tmp_path / "password", make_certificates(tmp_path).ca
    secret.write_text("first\n")
    sink = made(
        topic="lineage",
        key="one",
        compression="gzip",
        tls={"ca_file": str(authority)},
        sasl={"mechanism": "SCRAM-SHA-512", "username": "me", "password_file": str(secret)},
    )
    where = sink._cluster
    assert (where.topic, where.compression, sink._key) == ("lineage", "gzip", b"one")
    assert where.trust == Trust(ca_file=authority)
    assert where.request_seconds == 5
    assert where.login is not None
    assert (where.login.mechanism, where.login.username, where.login.password()) == ("SCRAM-SHA-512", "me", "first")
    secret.write_text("second, rotated\n")
    assert where.login.password() == "second, rotated"
    assert "first" not in repr(sink._cluster)


def test_a_login_without_tls_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    sasl = {"mechanism": "PLAIN", "username": "me", "password": "s3cret"}
    made(sasl=sasl, tls=True)
    assert not caplog.records
    made(sasl=sasl)
    assert [record.message for record in caplog.records] == ["kafka.unencrypted"]
    assert "s3cret" not in caplog.text


def test_plain_tls_trusts_the_system() -> None:
    assert made(tls=True)._cluster.trust == Trust()


def test_importing_the_sink_loads_no_kafka_library() -> None:
    script = "import sys, exporters.sinks.kafka.sink; print([name for name in ('faststream', 'aiokafka') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"
