"""What happened on the way to a sink, as values for whoever counts, and how a sink is doing, for status pages."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from collector.model import EventKind


class SendResult(StrEnum):
    OK = "ok"
    RETRY = "retry"
    PARKED = "parked"
    IN_FLIGHT = "in_flight"
    """Handed over, no answer yet; another report follows when it came."""


@dataclass(frozen=True, slots=True)
class SendReport:
    """One attempt ended. `seconds` from hand-over to outcome; `freshness` from the event's own time and `latency` from
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
    """A sink was left alone, or is used again after `seconds` and `failures` failed attempts."""

    sink: str
    open: bool
    cause: str | None
    failures: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RecheckReport:
    """A run in doubt was looked at. `settled` says that the doubt is over."""

    sink: str
    settled: bool


class DeliveryObserver(Protocol):
    """Hears of each report. Called on the event loop; must be quick and must not raise."""

    def sent(self, report: SendReport) -> None: ...
    def circuit(self, report: CircuitReport) -> None: ...
    def rechecked(self, report: RecheckReport) -> None: ...


class SinkState(StrEnum):
    STARTING = "starting"
    STANDBY = "standby"
    """Another process feeds this sink."""
    DELIVERING = "delivering"
    OUTAGE = "outage"
    """The circuit is open: nothing is sent but a probe now and then."""
    STUCK = "stuck"
    """The ledger does not answer or this program has a bug; it goes on trying."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """`problem` is what is wrong in words for people, None while all is well. `in_flight` counts the events that were
    handed to the sink and have no outcome yet. `last_error` stays when all is well again.
    """

    sink: str
    state: SinkState
    last_success_at: datetime | None
    problem: str | None
    in_flight: int
    last_error: str | None = None
    failed_at: datetime | None = None
