"""The port of sinks. A new sink is one module with `create` and an entry point in the group `lineage_collector.sinks`."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from collector import reports
from collector.clock import Clock
from collector.http import HttpClient
from collector.model import EventKind, Outgoing


@dataclass(frozen=True, slots=True)
class Delivered:
    """The sink has it for good."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not delivered; try again.

    `after` is the wait that the sink asked for, None lets delivery choose. `in_flight`: handed over without an answer
    yet; delivery asks again with the same event, which the sink must not send twice. `unanswered`: the attempt ended
    without an answer and may still be applied later. `slow`: a person has to fix something (credentials, a missing
    topic), so delivery tries rarely. `sink_wide`: the failure concerns the sink, not this event, and counts for the circuit.
    """

    cause: str
    after: timedelta | None = None
    in_flight: bool = False
    unanswered: bool = False
    slow: bool = False
    sink_wide: bool = True


@dataclass(frozen=True, slots=True)
class Park:
    """Refused for good, because of what is in this event. `cause` is stored and shown."""

    cause: str


Outcome = Delivered | Retry | Park
Finding = reports.Finding


@dataclass(frozen=True, slots=True)
class Context:
    """What a sink gets from the collector."""

    sink: str
    http: HttpClient
    clock: Clock
    random: Callable[[], float]


class Sink(Protocol):
    """One configured target. Sinks never sleep and never swallow: every event of a batch gets exactly one outcome."""

    wants: frozenset[EventKind]
    """The kinds that this sink takes by default."""
    capacity: int
    """How many events delivery may have in flight here at once."""
    rechecks: bool
    """True where an unanswered attempt may be applied later (Marquez): delivery then rechecks such runs."""
    longest_attempt: timedelta
    """No single attempt takes longer; the sink's lease is sized by it."""

    # optional, `batch: int`: a call of `send` is one request of up to so many events, and `capacity` a multiple of it
    # optional, `parallel: bool`: several of it, in several processes, may work on the target at once: it can have shards

    def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        """Send, at most one event per strand, and yield each outcome as it comes. Several calls may be under way at
        once. Closing the iterator early (SIGTERM) leaves the events without an outcome unanswered.
        """
        ...

    async def recheck(self, terminal: Outgoing) -> Outcome:
        """Check that the sink still has the run's end as in this acknowledged terminal event, and send it again if not.
        `Delivered` settles the doubt; after `Retry` there is another recheck. Only called where `rechecks`.
        """
        ...

    async def check(self) -> list[Finding]:
        """Try the target once. Raises nothing, unless the task is cancelled."""
        ...

    async def close(self, deadline: float) -> None:
        """Release everything within `deadline` seconds."""
        ...


class SinkBase(ABC):
    """A `Sink` but for `send` and `check`: it takes all kinds, 8 at once; no unanswered attempt is applied later."""

    wants = frozenset(EventKind)
    capacity = 8
    rechecks = False
    longest_attempt = timedelta(seconds=60)

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]: ...

    @abstractmethod
    async def check(self) -> list[Finding]: ...

    async def recheck(self, terminal: Outgoing) -> Outcome:
        return Delivered()

    async def close(self, deadline: float) -> None:
        await self.context.http.close()


def batch_of(sink: Sink) -> int | None:
    """How many events a call of `send` may have; None for any number, each with a separate request."""
    return getattr(sink, "batch", None)


def is_parallel(sink: Sink) -> bool:
    """Whether several of it may work on its target at once."""
    return bool(getattr(sink, "parallel", False))


Create = Callable[[Any, Context], Sink]
"""The entry point: (this sink's part of the configuration, context) -> sink. Opens no connection.

An integer `api_version` in the same module is the `collector.api_version` that it is written for; 1 without it. A class
`Options` in the same module (a `config.base.Model`) defines which `options:` it takes: they arrive validated, as an instance
of it, and their secrets are hidden everywhere. `ConfigurationError` is the user's mistake and ends the program at its start;
any other error of `create` makes a `BrokenSink`.
"""


class BrokenSink:
    """In place of a sink that could not be created: it takes nothing and reports why; everything else runs."""

    wants = frozenset(EventKind)
    capacity = 1
    rechecks = False
    longest_attempt = timedelta(seconds=1)
    parallel = True

    def __init__(self, cause: str) -> None:
        self.outcome = Retry(cause, slow=True)

    async def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        for item in batch:
            yield item, self.outcome

    async def recheck(self, terminal: Outgoing) -> Outcome:
        return self.outcome

    async def check(self) -> list[Finding]:
        remedy = "fix or update the package that provides it, then start again"
        return [Finding("plug-in", ok=False, detail=self.outcome.cause, remedy=remedy)]

    async def close(self, deadline: float) -> None:
        pass
