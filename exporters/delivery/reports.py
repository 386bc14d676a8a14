"""Reports of delivery, for metrics and other observers, and the status of a sink, for status pages."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from collector.model import EventKind


class SendResult(StrEnum):
    OK = "ok"
    RETRY = "retry"
    PARKED = "parked"
    IN_FLIGHT = "in_flight"
    """Handed over, no answer yet; another report follows with the answer."""


class SendReport(NamedTuple):
    """One attempt ended: a tuple, as one is made for each event that is sent. `seconds` from hand-over to outcome; `freshness` from the event's time and `latency` from
    its commit to the acknowledgement; both and `run_id` are None unless it was acknowledged.
    """

    sink: str
    source_id: int
    kind: EventKind
    result: SendResult
    seconds: float
    freshness: float | None = None
    latency: float | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class CircuitReport:
    """The circuit of a sink's shard opened, or closed again after `seconds` and `failures` failed attempts."""

    sink: str
    open: bool
    cause: str | None
    failures: int
    seconds: float = 0.0
    shard: int = 0


@dataclass(frozen=True, slots=True)
class RecheckReport:
    """A run in doubt was rechecked. `settled`: the doubt is over."""

    sink: str
    settled: bool


class DeliveryObserver(Protocol):
    """Gets each report. Called on the event loop; must be quick and must not raise."""

    def sent(self, report: SendReport) -> None: ...
    def circuit(self, report: CircuitReport) -> None: ...
    def rechecked(self, report: RecheckReport) -> None: ...


class SinkState(StrEnum):
    STARTING = "starting"
    STANDBY = "standby"
    """Another process delivers to this sink."""
    DELIVERING = "delivering"
    OUTAGE = "outage"
    """The circuit is open: nothing is sent but a probe now and then."""
    STUCK = "stuck"
    """The ledger does not answer, or this program has a bug; delivery keeps trying."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """`problem` is the present problem, None if there is none. `in_flight` counts the events that were handed to the sink and
    have no outcome yet. `last_error` stays after the problem is over.
    """

    sink: str
    state: SinkState
    last_success_at: datetime | None
    problem: str | None
    in_flight: int
    last_error: str | None = None
    failed_at: datetime | None = None
