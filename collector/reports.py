"""Reports of what happened, as values for metrics and status; they return nothing."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from collector.model import EventKind, RunState, SkipKind


class PollResult(StrEnum):
    OK = "ok"
    AUTH = "auth"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    BAD_ANSWER = "bad_answer"
    DEADLINE = "deadline"
    PAUSED = "paused"
    """The ledger is at its limit, so no request was sent."""
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`: what was tried, whether it works, and what to do when it does not."""

    subject: str
    ok: bool
    detail: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class PollReport:
    """One cycle of a source ended. `cause` is a text for people, None after a success."""

    source: str
    result: PollResult
    seconds: float
    at: datetime
    interval: float
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class RequestReport:
    """One HTTP request to a platform. `status` is None where no answer came; `remaining` is the quota left, if reported;
    `ahead` how many seconds the platform's clock is ahead of ours, if its answer had a date.
    """

    source: str
    status: int | None
    seconds: float
    remaining: int | None = None
    ahead: float | None = None


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The load of watching the open `runs`: requests a minute `needed` and `allowed` (None: no configured limit),
    and the `interval` in seconds at which they can be read.
    """

    source: str
    runs: int
    needed: float
    allowed: int | None
    interval: float


class HintResult(StrEnum):
    TAKEN = "taken"
    """A poll comes sooner."""
    NOTHING = "nothing"
    """It concerns no open run, or only runs that are due already."""
    REFUSED = "refused"
    """It has no valid signature."""
    UNREADABLE = "unreadable"
    """It cannot be read, or names a source that is not configured."""


@dataclass(frozen=True, slots=True)
class HintReport:
    """A message from outside reported a change. `source` is empty if it names no configured one."""

    source: str
    result: HintResult


@dataclass(frozen=True, slots=True)
class EventReport:
    """One event was committed. `seconds` is the run's duration, on terminal events only, and `bounded` says that the
    platform did not report its start or its end.
    """

    source: str
    kind: EventKind
    job: str
    outcome: RunState | None = None
    seconds: float | None = None
    run_id: str | None = None
    bounded: bool = False


@dataclass(frozen=True, slots=True)
class SkipReport:
    source: str
    kind: SkipKind
    count: int = 1


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """`lease` is `source:NAME` or `sink:NAME`; `held` says whether this process holds it."""

    lease: str
    held: bool


class WriteFailure(StrEnum):
    """Why the ledger could not be written."""

    FULL = "full"
    IO = "io"
    READ_ONLY = "read_only"
    LOCKED = "locked"
    DAMAGED = "damaged"
    UNREACHABLE = "unreachable"
    """Its database does not answer."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """For `status` and the pages: the results of the last cycles of a source. `last_error` stays after a recovery."""

    name: str
    platform: str
    result: PollResult | None = None
    polled_at: datetime | None = None
    succeeded_at: datetime | None = None
    failures: int = 0
    wrong: str | None = None
    last_error: str | None = None
    failed_at: datetime | None = None
    standby: bool = False
    """Another process polls this source."""


class Observer(Protocol):
    """Gets each report. Called on the event loop; must be quick and must not raise."""

    def polled(self, report: PollReport) -> None: ...
    def requested(self, report: RequestReport) -> None: ...
    def planned(self, report: LoadReport) -> None: ...
    def hinted(self, report: HintReport) -> None: ...
    def committed(self, report: EventReport) -> None: ...
    def skipped(self, report: SkipReport) -> None: ...
