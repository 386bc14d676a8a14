import ssl
from typing import Any

import pytest

from config.advice import advice
from config.settings import Settings
from config.web import Access

SINK = {"type": "file", "name": "f", "path": "x"}


def advised(source: dict[str, Any] | None = None, *sinks: dict[str, Any]) -> list[str]:
    base = {"platform": "dataprep", "name": "d", "workspace": 1, "token": "${env:A_TOKEN}"}
    return advice(Settings.model_validate({"sources": [{**base, **(source or {})}], "sinks": list(sinks) or [SINK]}))


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "geheim")


def test_there_is_nothing_to_say_about_a_good_configuration() -> None:
    network = {"headers": {"X-Team": "data"}, "proxy": "http://proxy:3128"}
    assert advised({"network": network, "base_url": "http://127.0.0.1:1"}) == []


def test_a_literal_secret_is_named_without_its_value() -> None:
    found = advised({"token": "geheim", "network": {"headers": {"X-Api-Key": "geheim"}}})
    assert [line.partition(":")[0] for line in found] == ["sources[0].network.headers.X-Api-Key", "sources[0].token"]
    assert "geheim" not in str(found)


def test_a_secret_over_plain_http_is_named() -> None:
    assert advised({"base_url": "http://example.com"}) == [
        "sources[0].base_url: secrets go to example.com unencrypted; use https://"
    ]
    assert advised(None, {"type": "marquez", "name": "m", "url": "http://marquez:5000"}) == []


def test_many_requests_at_once_do_marquez_no_good() -> None:
    marquez = {"type": "marquez", "name": "m", "url": "http://marquez:5000"}
    assert advised(None, {**marquez, "concurrency": 16}) == []
    assert advised(None, {**marquez, "concurrency": 17})[0].startswith("sinks[0].concurrency: ")


def test_a_password_in_the_clear_is_named() -> None:
    sasl = {"mechanism": "PLAIN", "username": "u", "password": "${env:A_TOKEN}"}
    kafka = {"type": "kafka", "name": "k", "bootstrap_servers": "a:1", "sasl": sasl}
    assert advised(None, kafka) == ["sinks[0].sasl: PLAIN sends the password in the clear; set tls: true"]
    assert advised(None, {**kafka, "tls": True}) == []


def test_a_configuration_without_sinks_is_named() -> None:
    settings = Settings.model_validate(
        {"sources": [{"platform": "dataprep", "name": "d", "workspace": 1, "token": "${env:A_TOKEN}"}]}
    )
    assert advice(settings) == ["sinks: there is none: runs are counted in the metrics, but their events are not sent"]


@pytest.mark.parametrize(
    ("listen", "access", "risky"),
    [
        ("0.0.0.0:17817", Access(users={"ann": "hash"}), True),
        (":17817", Access(users={"ann": "hash"}), True),
        ("10.1.2.3:17817", Access(users={"ann": "hash"}), True),
        ("127.0.0.1:17817", Access(users={"ann": "hash"}), False),
        ("[::1]:17817", Access(users={"ann": "hash"}), False),
        ("0.0.0.0:17817", Access(users={"ann": "hash"}, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), False),
        ("0.0.0.0:17817", Access(), False),
        ("0.0.0.0:17817", None, False),
    ],
)
def test_passwords_for_the_pages_want_tls(listen: str, access: Access | None, risky: bool) -> None:
    source = {"platform": "dataprep", "name": "d", "workspace": 1, "token": "${env:A_TOKEN}"}
    settings = Settings.model_validate({"http": {"listen": listen}, "sources": [source], "sinks": [SINK]})
    expected = f"http.web_config_file: passwords are sent to {listen} unencrypted; add tls_server_config"
    assert [words for words in advice(settings, access) if "encrypted" in words] == ([expected] if risky else [])


@pytest.mark.parametrize(
    ("listen", "access", "open_to_all"),
    [
        ("0.0.0.0:17817", None, True),
        (":17817", Access(), True),
        ("[::]:17817", None, True),
        ("0.0.0.0:17817", Access(users={"ann": "hash"}), False),
        ("0.0.0.0:17817", Access(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), False),
        ("127.0.0.1:17817", None, False),
    ],
)
def test_pages_for_everybody_are_named(listen: str, access: Access | None, open_to_all: bool) -> None:
    source = {"platform": "dataprep", "name": "d", "workspace": 1, "token": "${env:A_TOKEN}"}
    settings = Settings.model_validate({"http": {"listen": listen}, "sources": [source], "sinks": [SINK]})
    said = [words for words in advice(settings, access) if words.startswith("http.listen: ")]
    assert bool(said) is open_to_all
    assert all(f"everybody who reaches {listen} can read the pages" in words for words in said)
