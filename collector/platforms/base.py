"""The port that a platform adapter satisfies, and what it is given.

Adding a platform is one module with a `create` function and one entry point in the group
`lineage_collector.platforms`, whose name is the `platform:` of the configuration.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Never, Protocol, runtime_checkable

from collector import reports
from collector.clock import Clock
from collector.errors import SourceError, TriggerError
from collector.http import HttpClient
from collector.model import Enrichment, Job, Observation, Poll, Run, RunState

Finding = reports.Finding


async def tried(
    subject: str, action: Callable[[], Awaitable[object]], well: str, remedy: Callable[[SourceError], str]
) -> Finding:
    """The finding of one try: `well` says what it means that it worked, `remedy` what to do about an error."""
    try:
        await action()
    except SourceError as error:
        return Finding(subject, ok=False, detail=str(error), remedy=remedy(error))
    return Finding(subject, ok=True, detail=well)


@dataclass(frozen=True, slots=True)
class Context:
    """What an adapter gets from its surroundings.

    `http` sends requests (with TLS, proxy and extra headers of this source, and counts them); `namespace` is the job
    namespace; `random` gives numbers in [0, 1) for jitter.
    """

    source: str
    namespace: str
    http: HttpClient
    clock: Clock
    random: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which jobs of a source are watched: globs over all that a job may be called; `exclude` wins, and without `include` every job is wanted."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        """Nothing is left out, whatever it is called."""
        return not self.include and not self.exclude

    def takes(self, *names: str | None) -> bool:
        return (not self.include or _any_fits(names, self.include)) and not _any_fits(names, self.exclude)


def _any_fits(names: tuple[str | None, ...], globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for name in names if name for glob in globs)


@dataclass(frozen=True, slots=True)
class Load:
    """What it costs to watch so many runs.

    One round of `interval` seconds, as wished for by `setting` of the configuration (None: not to be set), takes
    `pages` of lists and `reads` of single runs; the end of a run takes `each_end` requests more. `allowed` are our own
    limit's requests a minute, None without one. `note` says what people should know about these numbers.
    """

    runs: int
    pages: float
    reads: float
    interval: float
    allowed: int | None
    setting: str | None = "poll_interval"
    each_end: int = 0
    note: str | None = None

    @property
    def needed(self) -> float:
        """Requests a minute in the steady state, without the ends of runs."""
        return (self.pages + self.reads) * 60 / self.interval

    @property
    def is_reachable(self) -> bool:
        return self.allowed is None or self.needed <= self.allowed

    @property
    def reachable(self) -> float:
        """The interval that the limit allows, in seconds: the wish itself where it does."""
        return self.interval if self.allowed is None else self.interval * max(1.0, self.needed / self.allowed)


def nothing_chosen(include: Sequence[str], number: int, what: str) -> Finding:
    """For `check`: none of so many of `what` is chosen."""
    detail = f"none of the {number} {what} fits include ({', '.join(include)}), or exclude leaves it out"
    return Finding("include", ok=False, detail=detail, remedy="correct the globs of include and exclude")


class Platform(Protocol):
    """One source. All methods raise `SourceError` and its kinds; none sleeps longer than its caller's deadline.

    An adapter keeps no state that it cannot lose: what must survive is in the cursor (small: it is written whenever it
    moves), in each run's `handle`, and in the source's memory (`Poll.memory`, `Remembering`).
    """

    def poll(self, tracked: Sequence[Run], cursor: str | None) -> AsyncIterator[Poll]:
        """Yield pages: every tracked run that could be read, and runs that are not tracked yet.

        `tracked` are the open runs that are due (`Run.due_at`), oldest due first; of their facts only the ids are there, and the `seen_at`
        of one without `due_at` is that of the last poll that changed something. `cursor` is what the last page of
        an earlier walk returned, None at the very first start. Yields at least one page, also when there is nothing
        new. An error in the middle keeps the pages yielded before it.
        """
        ...

    async def enrich(self, run: Run) -> Enrichment:
        """What the terminal event needs and the poll did not bring. Called when a run ended, again after errors until
        the run's deadline, and possibly twice after a crash.
        """
        ...

    async def trigger(self, job: str, parameters: Mapping[str, str], token: str) -> Observation:
        """Start a run of `job` (the platform's id or external id) and say what came back. `token` is unique for this
        request of a person: where the vendor takes an idempotency key, it is that. Raises `TriggerError`, with
        `doubtful` when the answer was lost; never repeats a start by itself unless the vendor makes that safe.
        """
        ...

    async def watch(self, key: str, options: Mapping[str, str]) -> Observation:
        """Read one run by its id, so that it can be tracked. Raises `NotFound`."""
        ...

    async def check(self) -> list[Finding]:
        """Try the credentials and each needed endpoint once. Raises nothing but for a cancelled task."""
        ...

    async def close(self) -> None: ...


class PlatformBase(ABC):
    """A `Platform` but for `poll` and `check`: one without details of ended runs, that starts no runs and reads none by its id."""

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def poll(self, tracked: Sequence[Run], cursor: str | None) -> AsyncIterator[Poll]: ...

    @abstractmethod
    async def check(self) -> list[Finding]: ...

    async def enrich(self, run: Run) -> Enrichment:
        return Enrichment()

    async def trigger(self, job: str, parameters: Mapping[str, str], token: str) -> Observation:
        raise TriggerError(f"source {self.context.source} cannot start runs: start {job} on the platform itself")

    async def watch(self, key: str, options: Mapping[str, str]) -> Observation:
        raise SourceError(f"source {self.context.source} cannot read a run by its id: its polls find the runs")

    async def close(self) -> None:
        await self.context.http.close()


@runtime_checkable
class Repeatable(Protocol):
    """What a platform has whose vendor keeps the token of a trigger: the same one again starts no second run."""

    takes_execution_ids: bool


READS_AGAIN = timedelta(minutes=5)
"""How far a platform may read its lists again, behind the newest run, where it does not say so as `Rereading`."""


@runtime_checkable
class Rereading(Protocol):
    """A platform that reads again further than `READS_AGAIN` behind the newest run, after a restart or where an ended run changed: the
    ledger remembers ended runs for twice as long, or they would begin a second life.
    """

    reads_again: timedelta


@runtime_checkable
class Planning(Protocol):
    """A platform that can report its load: it is logged, exported and part of `check`."""

    def load(self, watched: Mapping[RunState, int]) -> Load | None:
        """For so many open runs by state; None while it is not known yet what they cost. Asks nobody."""
        ...


@runtime_checkable
class Listing(Protocol):
    """What a platform has that lists its jobs: `check` says which names they will have."""

    async def jobs(self) -> Sequence[Job]:
        """Those that configuration wants, also those that never ran, under the platform's own names."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """What a platform has that keeps small facts by key, such as the name by which each job was first known.

    A page's `Poll.memory` holds what is to be kept. It is committed with the page, and only what is new or changed is
    written, so a page may repeat what is known. The ledger keeps the latest 20,000 keys of a source.
    """

    def remember(self, memory: Mapping[str, str]) -> None:
        """All that was kept, once before the first poll, trigger or watch. Asks nobody."""
        ...


@runtime_checkable
class Hinting(Protocol):
    """What a platform has that takes messages from outside which make polls happen sooner. They are never believed."""

    def hint(self, headers: Mapping[str, str], body: bytes) -> Callable[[Run], bool] | None:
        """Which open runs the message may be about; None for one that is about no run. Asks nobody.

        Raises `AuthFailed` where it is not signed as agreed, `BadAnswer` where it cannot be read, `NotFound` where
        no messages are expected.
        """
        ...


Create = Callable[[Any, Context], Platform]
"""The entry point: (this source's part of the configuration, context) -> adapter. Reads no network.

An integer `api_version` beside it names the `collector.api_version` that it is written for; 1 without it. A class `Options` beside it (a `config.base.Model`) says which `options:` it takes: they arrive checked, as an instance of it, and
their secrets are hidden wherever they turn up. `ConfigurationError` is the user's mistake and ends the program at its start;
whatever else `create` raises makes a `BrokenPlatform`.
"""


MEND_PLUGIN = "mend or update the package that brings it, then start again"


class BrokenPlatform:
    """In place of an adapter that could not be made: every poll fails and says why, and no other part is kept from running."""

    def __init__(self, cause: str) -> None:
        self._cause = cause

    async def poll(self, tracked: Sequence[Run], cursor: str | None) -> AsyncIterator[Poll]:
        if self._cause:
            self._fail()
        yield Poll()  # what makes this a generator

    async def enrich(self, run: Run) -> Enrichment:
        self._fail()

    async def trigger(self, job: str, parameters: Mapping[str, str], token: str) -> Observation:
        raise TriggerError(self._cause)

    async def watch(self, key: str, options: Mapping[str, str]) -> Observation:
        self._fail()

    async def check(self) -> list[Finding]:
        return [Finding("plug-in", ok=False, detail=self._cause, remedy=MEND_PLUGIN)]

    async def close(self) -> None:
        pass

    def _fail(self) -> Never:
        raise SourceError(self._cause)


def load_finding(load: Load) -> Finding:
    """For `check`: whether the limit allows what is wished for, and what to do where it does not."""
    if load.is_reachable:
        return Finding("load", ok=True, detail=load_words(load))
    rarer = f"set {load.setting} to {load.reachable:.0f}s or longer, or " if load.setting else ""
    detail = f"{load_words(load)}; so the limit allows one round every {load.reachable:.0f} s"
    return Finding(
        "load", ok=False, detail=detail, remedy=f"{rarer}raise requests_per_minute, if the platform allows it"
    )


def load_words(load: Load) -> str:
    parts = [_counted(load.pages, "page"), _counted(load.reads, "single read")]
    cost = " and ".join(part for part in parts if part) or "nothing to ask"
    open_runs = f"{load.runs} open {'run' if load.runs == 1 else 'runs'}"
    text = f"{open_runs}: {cost} every {load.interval:.0f} s, {load.needed:.1f} requests a minute"
    return "; ".join(part for part in (text, _left(load), load.note) if part)


def _counted(number: float, what: str) -> str:
    return f"{number:.3g} {what}{'' if number == 1 else 's'}" if number else ""


def _left(load: Load) -> str:
    """What the limit leaves for the ends of runs."""
    if load.allowed is None:
        return "no limit of our own"
    limit = f"the limit is {load.allowed}"
    if not load.each_end or not load.is_reachable:
        return limit
    return f"{limit}, which leaves the ends of {(load.allowed - load.needed) * 60 / load.each_end:.0f} runs an hour"
