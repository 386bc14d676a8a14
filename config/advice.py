"""Settings that work but are risky: logged once at the start and shown by `check`."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from config.base import is_loopback
from config.mistakes import Path, dotted
from config.secret import SHORTEST, Secret
from config.secret_fields import secrets, values
from config.settings import Http, Settings
from config.sinks import KafkaSink, MarquezSink
from config.web import Access


def advice(settings: Settings, access: Access | None = None) -> list[str]:
    """One sentence for each setting, with its key; none contains a secret. `access` is the content of the web configuration file."""
    found = [
        *_literal_secrets(settings),
        *_short_secrets(settings),
        *_plain_http(settings),
        *_pages(settings.http, access),
        *_sinks(settings),
    ]
    return [f"{dotted(path)}: {text}" for path, text in found]


def _literal_secrets(settings: Settings) -> Iterator[tuple[Path, str]]:
    for path, secret in secrets(settings):
        if secret.origin == "literal":
            yield path, "a secret is written into the file; use ${env:NAME} or the key with _file"


def _short_secrets(settings: Settings) -> Iterator[tuple[Path, str]]:
    for path, secret in secrets(settings):
        if len(secret.get()) < SHORTEST:
            yield (
                path,
                f"too short to be hidden in logs when a server repeats it: use {SHORTEST} characters or more",
            )


def _plain_http(settings: Settings) -> Iterator[tuple[Path, str]]:
    for path, value in values(settings, ()):
        if path[-1] in {"url", "base_url", "token_url"} and isinstance(value, str) and value.startswith("http://"):
            host = urlsplit(value).hostname or ""
            if not is_loopback(host) and _sends_secret(settings, path):
                yield path, f"secrets go to {host} unencrypted; use https://"


def _sends_secret(settings: Settings, path: Path) -> bool:
    owner: Any = settings
    for step in path[:-1]:
        owner = owner[step] if isinstance(step, int) else getattr(owner, step)
    return any(isinstance(value, Secret) for _, value in values(owner, ()))


def _pages(http: Http, access: Access | None) -> Iterator[tuple[Path, str]]:
    if not is_loopback(http.host) and (access is None or not (access.users or access.tls)):
        yield (
            ("http", "listen"),
            f"everybody who reaches {http.listen} can read the pages: restrict access (a network policy), or set http.web_config_file",
        )
    if access is not None and access.users and access.tls is None and not is_loopback(http.host):
        yield ("http", "web_config_file"), f"passwords are sent to {http.listen} unencrypted; add tls_server_config"


def _sinks(settings: Settings) -> Iterator[tuple[Path, str]]:
    if not settings.sinks:
        yield ("sinks",), "there is none: runs are counted in the metrics, but their events are not sent"
    for index, sink in enumerate(settings.sinks):
        path: Path = ("sinks", index)
        if isinstance(sink, MarquezSink) and sink.concurrency > 16:
            yield (*path, "concurrency"), "Marquez gets slower, not faster, with more than 16 requests at a time"
        if isinstance(sink, KafkaSink) and sink.sasl and sink.sasl.mechanism == "PLAIN" and sink.tls is None:
            yield (*path, "sasl"), "PLAIN sends the password in the clear; set tls: true"
