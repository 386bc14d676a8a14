"""Causes are read from the client library's log, repeats are held back, and secrets stay in."""

import asyncio
import logging
import ssl

import pytest
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed, TopicAuthorizationFailedError

from collector.secret_registry import secret_registry
from exporters.sinks.kafka.cluster import fitting_batch_bytes
from exporters.sinks.kafka.errors import ClientLog, Problem, current, listen, remedy_for


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", logging.ERROR, "client.py", 1, message, arguments, None)


def test_the_last_line_with_an_error_is_kept() -> None:
    client_log = ClientLog("events")
    error = SaslAuthenticationFailed("Invalid username or password")
    client_log.add(record('Unable connect to "%s:%s": %s', "h", 9, error))
    client_log.add(record("Unable to update metadata from %s", [1]))
    assert client_log.last_failure is not None
    assert client_log.last_failure.error is error
    assert "Invalid username or password" in client_log.last_failure.text
    assert client_log.since(client_log.last_failure.at) is client_log.last_failure
    assert client_log.since(client_log.last_failure.at + 0.001) is None


@pytest.mark.parametrize(
    ("message", "text"),
    [("node: %s", "node: ConnectionResetError"), ("node: %r", "node: ConnectionResetError()")],
)
def test_an_error_without_words_is_named_once(message: str, text: str) -> None:
    assert ClientLog("events").add(record(message, ConnectionResetError())) == text


def test_a_secret_in_a_line_is_hidden() -> None:
    client_log = ClientLog("events")
    secret_registry.learn("the broker", "s3cret")
    assert client_log.add(record("%s", ValueError("user a, password s3cret"))) == "user a, password ***"
    assert client_log.last_failure is not None
    assert "s3cret" not in client_log.last_failure.text
    assert client_log.add(record("connecting as a with s3cret")) == "connecting as a with ***"


async def test_lines_go_to_the_sink_in_whose_tasks_they_arise(caplog: pytest.LogCaptureFixture) -> None:
    listen()
    caplog.set_level(logging.DEBUG, "lineage.kafka")
    first, second = ClientLog("first"), ClientLog("second")

    async def work(owner: ClientLog, error: Exception) -> None:
        current.set(owner)

        async def background() -> None:
            logging.getLogger("aiokafka.producer.sender").warning("Got error: %s", error)

        await asyncio.create_task(background())

    await asyncio.gather(work(first, ValueError("one")), work(second, ValueError("two")))
    assert first.last_failure is not None
    assert second.last_failure is not None
    assert (str(first.last_failure.error), str(second.last_failure.error)) == ("one", "two")
    ours = [entry for entry in caplog.records if entry.name == "lineage.kafka"]
    assert sorted(str(getattr(entry, "fields", None)) for entry in ours) == [
        "{'sink': 'first', 'line': 'Got error: one'}",
        "{'sink': 'second', 'line': 'Got error: two'}",
    ]


def test_failures_are_for_debugging_and_bugs_are_for_everybody(caplog: pytest.LogCaptureFixture) -> None:
    listen()
    caplog.set_level(logging.INFO, "lineage.kafka")
    library = logging.getLogger("aiokafka")
    library.error("Unable to update metadata from %s", [1])
    library.error("Unexpected error in sender routine", exc_info=ValueError("surprise"))
    ours = [entry for entry in caplog.records if entry.name == "lineage.kafka"]
    assert [entry.levelname for entry in ours] == ["ERROR"]
    assert ours[0].exc_info


@pytest.mark.parametrize(
    ("error", "word", "slow"),
    [
        (SaslAuthenticationFailed("x"), "password", True),
        (TopicAuthorizationFailedError("x"), "WRITE", True),
        (ssl.SSLCertVerificationError("x"), "ca_file", True),
        (ssl.SSLError("x"), "TLS", True),
        (KafkaConnectionError("x"), "hung up", False),
        (ConnectionRefusedError("x"), "that Kafka runs", False),
    ],
)
def test_remedies(error: Exception, word: str | None, slow: bool) -> None:
    remedy, only_people = remedy_for(error)
    assert only_people is slow
    assert (word in remedy) if word and remedy else (remedy is word)


def test_a_trouble_reads_well() -> None:
    assert str(Problem("no way")) == "no way"
    assert str(Problem("no way", "go round")) == "no way (go round)"


@pytest.mark.parametrize(("limit", "fitting"), [(None, 1000), (5000, 1000), (1050, 950), (10, 1)])
def test_requests_fit_the_limit_of_the_topic(limit: int | None, fitting: int) -> None:
    assert fitting_batch_bytes(limit, 1000) == fitting
