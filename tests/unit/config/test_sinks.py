from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from collector.http import HttpOptions
from collector.model import EventKind
from config.settings import Http
from config.sinks import AnySink, EventWord, FileSink, KafkaSink, MarquezSink, OpenLineageSink, Sink
from tests.servers.certificates import Certificates

ADAPTER: TypeAdapter[Sink] = TypeAdapter(AnySink)


def sink(kind: str, **values: Any) -> Any:
    return ADAPTER.validate_python({"type": kind, "name": "s", **values})


def test_event_types_are_the_words_of_the_model() -> None:
    assert set(get_args(EventWord)) == set(EventKind)


def test_a_file_can_be_standard_output() -> None:
    made = sink("file", path="-")
    assert isinstance(made, FileSink)
    assert str(made.path) == "-"
    assert sink("file", path="x", rotate_at="10MiB", keep=3).rotate_at == 10 * 1024**2


def test_marquez_needs_only_an_address() -> None:
    made = sink("marquez", url="http://127.0.0.1:5000/")
    assert isinstance(made, MarquezSink)
    assert (made.url, made.runs_api, made.lineage_api, made.concurrency) == ("http://127.0.0.1:5000", True, True, 4)
    assert made.credential is None
    assert HttpOptions(**made.http_options()).timeout == 60.0


def test_the_address_of_an_endpoint_is_joined_with_one_slash(tmp_path: Path) -> None:
    made = sink("openlineage", url="https://h/openapi/openlineage/", endpoint="/api/v1/lineage", api_key="k")
    assert isinstance(made, OpenLineageSink)
    assert made.address == "https://h/openapi/openlineage/api/v1/lineage"
    assert made.credential
    assert made.credential.get() == "k"


def test_an_endpoint_takes_an_api_key_or_oauth2() -> None:
    oauth2 = {"token_url": "https://i/t", "client_id": "c", "client_secret": "s"}
    assert sink("openlineage", url="https://h", oauth2=oauth2).oauth2.credential.get() == "s"
    with pytest.raises(ValidationError, match="give either an API key or oauth2"):
        sink("openlineage", url="https://h", oauth2=oauth2, api_key="k")


@pytest.mark.parametrize(
    ("tls", "on"), [(True, True), (False, False), (None, False), ("true", True), ("False", False), ({}, True)]
)
def test_tls_of_kafka_is_a_switch_or_files(tls: Any, on: bool) -> None:
    made = sink("kafka", bootstrap_servers="a:9092, b:9092", tls=tls)
    assert isinstance(made, KafkaSink)
    assert made.bootstrap_servers == ("a:9092", "b:9092")
    assert (made.tls is not None) is on


def test_kafka_takes_user_and_password(tmp_path: Path, certificates: Certificates) -> None:
    path = tmp_path / "password"
    path.write_text("p\n")
    made = sink(
        "kafka",
        bootstrap_servers=["[::1]:9092"],
        tls={"ca_file": certificates.ca},
        sasl={"mechanism": "SCRAM-SHA-512", "username": "u", "password_file": path},
    )
    assert made.tls.ca_file == certificates.ca
    assert made.sasl.credential.get() == "p"


@pytest.mark.parametrize(
    ("listen", "host", "port"), [("127.0.0.1:17817", "127.0.0.1", 17817), (":0", "", 0), ("[::1]:80", "::1", 80)]
)
def test_the_listen_address_is_split(listen: str, host: str, port: int) -> None:
    http = Http(listen=listen)
    assert (http.host, http.port) == (host, port)


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("file", {"path": "-", "shards": 2}, "a file has one writer at a time"),
        ("file", {"path": "-", "shards": 0}, "greater than or equal to 1"),
        ("marquez", {"url": "http://m:5000", "shards": 33}, "less than or equal to 32"),
        ("marquez", {"url": "http://m:5000", "shards": True}, "must be a number, not true"),
        (
            "marquez",
            {"url": "http://m:5000", "shards": 4, "concurrency": 23},
            "23 requests at a time for each of 4 shards",
        ),
        ("marquez", {"url": "http://m:5000", "shards": 23}, "4 requests at a time for each of 23 shards"),
    ],
)
def test_shards_that_a_sink_cannot_have_are_refused(kind: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        sink(kind, **more)


def test_a_sink_has_one_shard_or_as_many_as_configured() -> None:
    assert sink("marquez", url="http://m:5000").shards == 1
    assert sink("marquez", url="http://m:5000", shards=22).shards == 22
    assert sink("file", path="-", shards=1).shards == 1
