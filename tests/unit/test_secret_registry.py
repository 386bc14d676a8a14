"""The program's own secrets are found in whatever way they are repeated, and nothing else is."""

import base64
import html
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from collector.app import factory
from collector.clock import SystemClock
from collector.errors import Unavailable
from collector.logs import JsonFormatter, TextFormatter, fields
from collector.redaction import redacted, redacted_sql
from collector.secret_registry import EARLIER, SecretRegistry, secret_registry
from config.settings import Settings

AWKWARD = 'p@ss/w"ö\\rd & <more>+=%'
TOKEN = "v2.local-5f3A9c2e7b1d4a6088_x"
SECRETS = (AWKWARD, TOKEN, "tr0ub4dor&3", "correct horse battery staple", "s3cret", "日本語のパスワード1")

WAYS: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: secret,
    "upper case": str.upper,
    "lower case": str.lower,
    "URL": lambda secret: quote(secret, safe=""),
    "URL, lower case": lambda secret: quote(secret, safe="").lower(),
    "form": quote_plus,
    "path": quote,
    "URL twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON, not ASCII": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "JSON twice": lambda secret: json.dumps(json.dumps(secret))[3:-3],
    "Python": lambda secret: repr(secret)[1:-1],
    "bytes": lambda secret: repr(secret.encode())[2:-1] if secret.isascii() else secret,
    "HTML": html.escape,
    "HTML by numbers": lambda secret: "".join(c if c.isalnum() or c in "._-" else f"&#{ord(c)};" for c in secret),
}


@pytest.fixture
def known() -> SecretRegistry:
    found = SecretRegistry()
    for number, secret in enumerate(SECRETS):
        found.learn(str(number), secret)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_hidden_however_it_is_written(known: SecretRegistry, secret: str, way: str) -> None:
    assert known.hidden(f"refused: {WAYS[way](secret)} is wrong") == "refused: *** is wrong"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("user", ["", "a", "me", "bob"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_hidden_in_base64(
    known: SecretRegistry, secret: str, user: str, encode: Callable[[bytes], bytes]
) -> None:
    written = encode(f"{user}:{secret}".encode()).decode()
    for text in (written, quote(written, safe=""), encode(secret.encode()).decode()):
        shown = known.hidden(f"got Basic {text}, no")
        assert "***" in shown
        assert len(shown) < len("got Basic ***, no") + len(user) + 6


def test_what_was_cut_off_is_hidden(known: SecretRegistry) -> None:
    assert known.hidden(f"token {TOKEN[:20]}… is no good") == "token ***… is no good"


@pytest.mark.parametrize(
    "text",
    ["", "the lineage of correct horses", "/data/v2.local/x", "secret", "s3", "battery staple", "a" * 10_000],
)
def test_other_text_stays(known: SecretRegistry, text: str) -> None:
    assert known.hidden(text) == text


def test_a_secret_that_is_a_word_is_hidden_only_where_it_stands_alone() -> None:
    known = SecretRegistry()
    known.learn("demo", "lineage")
    text = "lineage-collector runs; lineage.events and openlineage stay; password 'lineage'. lineage"
    assert known.hidden(text) == "lineage-collector runs; lineage.events and openlineage stay; password '***'. ***"


def test_what_is_too_short_is_not_looked_for() -> None:
    known = SecretRegistry()
    known.learn("demo", "admin")
    assert known.hidden("the admin") == "the admin"


def test_a_secret_that_begins_like_much_else_is_looked_for_as_a_whole() -> None:
    known = SecretRegistry()
    known.learn("demo", "lineage-collector-password")
    assert known.hidden("lineage-collector 1.0: lineage-collector-password") == "lineage-collector 1.0: ***"


def test_former_secrets_stay_hidden_for_some_time() -> None:
    known = SecretRegistry()
    tokens = [f"{number}-token-number" for number in range(EARLIER + 2)]
    for token in tokens:
        known.learn("token", token)
    shown = known.hidden(" ".join(tokens))
    assert shown == " ".join([tokens[0], *["***"] * (EARLIER + 1)])


def test_of_a_proxy_only_the_password_is_secret() -> None:
    known = SecretRegistry()
    known.learn("proxy", "http://me:pa%40ss99@proxy.example.test:3128")
    assert known.hidden("no http://proxy.example.test:3128 for pa@ss99 or pa%40ss99") == (
        "no http://proxy.example.test:3128 for *** or ***"
    )


def test_of_a_header_the_credential_is_secret_too() -> None:
    known = SecretRegistry()
    known.learn("header", f"Basic {base64.b64encode(b'me:opensesame77').decode()}")
    known.learn("cookie", "session=abcdef123456; path=/")
    assert known.hidden("opensesame77 abcdef123456") == "*** ***"


def test_both_ways_to_redact_know_them() -> None:
    secret_registry.learn("a", "tr0ub4dor&3")
    assert redacted("no tr0ub4dor%263") == "no ***"
    assert redacted_sql("select 'tr0ub4dor&3'") == "select '***'"
    assert str(Unavailable("GET /x: tr0ub4dor&3")) == "GET /x: ***"


def test_no_line_of_the_log_has_one() -> None:
    secret_registry.learn("a", "tr0ub4dor&3")
    record = logging.LogRecord("lineage.x", logging.ERROR, __file__, 1, "x.failed", None, None)
    try:
        raise ValueError("no https://h/?a=tr0ub4dor%263 with password=another1")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    record.__dict__.update(
        fields(cause="bad tr0ub4dor&3", nested={"a": ["tr0ub4dor&3"]}, error_=ValueError("tr0ub4dor&3"), at=Path("x"))
    )
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(record)
        assert "tr0ub4dor" not in line
        assert "another1" not in line
    assert json.loads(JsonFormatter().format(record))["nested"] == {"a": ["***"]}


def test_no_line_of_a_library_has_a_credential() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.handle(
        logging.LogRecord("asyncio", logging.ERROR, __file__, 1, "got %s", ("Authorization: Token abc123",), None)
    )
    assert "abc123" not in stream.getvalue()


def test_what_the_configuration_holds_is_known_once_its_parts_are_built(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-token-1")
    settings = Settings.model_validate(
        {
            "sources": [
                {
                    "platform": "dataprep",
                    "name": "a",
                    "workspace": "1",
                    "token_file": file,
                    "network": {
                        "proxy": "http://proxy.example.test:3128",
                        "headers": {"X-Api-Key": "header-key-1", "Accept-Language": "en-US-posix"},
                    },
                }
            ],
            "sinks": [{"name": "b", "type": "openlineage", "url": "http://127.0.0.1:1", "api_key": "sink-key-22"}],
        }
    )
    factory.platform(settings.sources[0], SystemClock(), lambda _: None)
    factory.sink(settings.sinks[0], SystemClock())
    text = "first-token-1 header-key-1 sink-key-22 second-token-2 en-US-posix proxy.example.test"
    assert secret_registry.hidden(text) == "*** *** *** second-token-2 en-US-posix proxy.example.test"
    file.write_text("second-token-2")
    settings.sources[0].credential.get()  # type: ignore[union-attr] # it is a Dataprep
    assert secret_registry.hidden(text) == "*** *** *** *** en-US-posix proxy.example.test"


def test_a_header_by_reference_is_a_secret_whatever_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_HEADER", "by-reference-9x")
    source = {
        "platform": "dataprep",
        "name": "a",
        "workspace": "1",
        "token": "the-token-1",
        "network": {"headers": {"X-Team": "${env:TEAM_HEADER}", "X-Plain": "plain-text-7z"}},
    }
    settings = Settings.model_validate({"sources": [source]})
    factory.platform(settings.sources[0], SystemClock(), lambda _: None)
    assert secret_registry.hidden("by-reference-9x plain-text-7z") == "*** plain-text-7z"


def test_a_long_text_takes_no_time(known: SecretRegistry) -> None:
    assert known.hidden("s3crets3cre " * 100_000 + "\\" * 100_000)
