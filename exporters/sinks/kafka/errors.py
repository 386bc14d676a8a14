"""Errors of Kafka: which are retries, which need a person, and what to do about each.

aiokafka raises the same exception for a wrong password, a wrong authority and a dead broker; the cause is only in its
log, four lines a second while a broker is down. So this module takes its log and keeps the last failure.
"""

import logging
import re
import ssl
import time
from contextvars import ContextVar
from dataclasses import dataclass

from collector.errors import ConfigurationError
from collector.logs import fields
from collector.redaction import redacted
from collector.tls import wrong_certificate

log = logging.getLogger("lineage.kafka")

UNREADABLE = (OSError, ValueError, ConfigurationError)
"""Raised for a file of the TLS settings or a secret that cannot be read when a client is made."""
MEND_FILES = "check the files of the TLS settings and the password"
_WHERE_IN_C = re.compile(r" \(_ssl\.c:\d+\)")
_HUNG_UP = "the broker hung up: if it goes on, check TLS, client certificate and SASL against the listener"
_ABSENT = "check that Kafka runs, and host and port in bootstrap_servers"
_REMEDIES = {
    "SaslAuthenticationFailed": "check the user name, the password and the SASL mechanism",
    "UnsupportedSaslMechanismError": "the broker does not offer this SASL mechanism on this listener",
    "IllegalSaslStateError": "this listener takes no user name: remove the SASL settings or use another port",
    "SSLError": "the TLS settings do not match the listener",
    "KafkaConnectionError": _HUNG_UP,
    "ConnectionResetError": _HUNG_UP,
    "IncompleteReadError": _HUNG_UP,
    "gaierror": "check the host name in bootstrap_servers",
    "OSError": _ABSENT,
    "TopicAuthorizationFailedError": "give this user the right to WRITE on the topic",
    "ClusterAuthorizationFailedError": "give this user the right to WRITE on the topic",
    "UnknownTopicOrPartitionError": "create the topic, or correct its name",
    "InvalidTopicError": "correct the topic's name",
}
_MENDED_BY_TIME = frozenset(
    {"KafkaConnectionError", "ConnectionResetError", "IncompleteReadError", "gaierror", "OSError"}
)
_FIXED_BY_PEOPLE = frozenset(_REMEDIES) - _MENDED_BY_TIME


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something did not work.

    `slow`: only a person can fix it. `refused`: the broker refused the event or another one in the same request.
    `passing`: at the moment, and of this partition alone. `poisoned`: this producer cannot be used any more.
    """

    cause: str
    remedy: str | None = None
    slow: bool = False
    refused: bool = False
    passing: bool = False
    poisoned: bool = False

    def __str__(self) -> str:
        return f"{self.cause} ({self.remedy})" if self.remedy else self.cause


@dataclass(frozen=True, slots=True)
class Failure:
    """The last line of aiokafka's log that had an exception in it. `at` is in the seconds of `time.monotonic`."""

    text: str
    error: BaseException
    at: float


def remedy_for(error: BaseException) -> tuple[str | None, bool]:
    """What to do about an error of the client library, and whether only a person can do it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return wrong_certificate(error, "tls.ca_file"), True
    for kind in type(error).__mro__:
        if kind.__name__ in _REMEDIES:
            return _REMEDIES[kind.__name__], kind.__name__ in _FIXED_BY_PEOPLE
    return None, False


class ClientLog:
    """What the client library logs for one sink, in tasks that were started under `current`."""

    def __init__(self, sink: str) -> None:
        self.sink = sink
        self.last_failure: Failure | None = None

    def add(self, record: logging.LogRecord) -> str:
        """The line without secrets; remembered if it has an exception."""
        text = _WHERE_IN_C.sub("", record.getMessage())
        error = next((part for part in _arguments(record) if isinstance(part, BaseException)), None)
        if error is not None:
            name = type(error).__name__
            text = redacted(text if str(error) or name in text else f"{text}{name}")
            self.last_failure = Failure(text, error, time.monotonic())
            return text
        return redacted(text)

    def since(self, moment: float) -> Failure | None:
        """The last failure at or after `moment` (seconds of `time.monotonic`)."""
        return self.last_failure if self.last_failure and self.last_failure.at >= moment else None


current: ContextVar[ClientLog | None] = ContextVar("kafka_client_log", default=None)
"""Set it while a connection is opened: every task that the client library starts for it inherits the value."""


class _Handler(logging.Handler):
    """Failures become outcomes of events, so their lines are logged as debug only; a traceback is a bug."""

    def emit(self, record: logging.LogRecord) -> None:
        owner = current.get()
        line = owner.add(record) if owner else record.getMessage()
        level = record.levelno if record.exc_info else logging.DEBUG
        details = fields(sink=owner.sink if owner else None, line=line)
        log.log(level, "kafka.client", exc_info=record.exc_info, extra=details)


_handler = _Handler()


def listen() -> None:
    """Take over aiokafka's log. A second call changes nothing."""
    library = logging.getLogger("aiokafka")
    if _handler not in library.handlers:
        library.addHandler(_handler)
        library.propagate = False
        library.setLevel(logging.WARNING)


def _arguments(record: logging.LogRecord) -> tuple[object, ...]:
    logged = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return (*(record.args if isinstance(record.args, tuple) else ()), logged)
