"""The terms of this program as values: what platforms report, what is known of a run, what is sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    UNKNOWN = "unknown"

    @property
    def terminal(self) -> bool:
        return self in _TERMINAL

    @property
    def began(self) -> bool:
        """True in states that a run reaches only by starting."""
        return self in _BEGAN


_TERMINAL = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED})
_BEGAN = frozenset({RunState.RUNNING, RunState.WAITING}) | _TERMINAL


class EventKind(StrEnum):
    """OpenLineage's eventType. OTHER is the queued run, RUNNING the way into and out of waiting."""

    OTHER = "OTHER"
    START = "START"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    FAIL = "FAIL"
    ABORT = "ABORT"

    @property
    def terminal(self) -> bool:
        return self in _TERMINAL_KINDS


TERMINAL_EVENT = {
    RunState.SUCCEEDED: EventKind.COMPLETE,
    RunState.FAILED: EventKind.FAIL,
    RunState.CANCELED: EventKind.ABORT,
}
_TERMINAL_KINDS = frozenset(TERMINAL_EVENT.values())


@dataclass(frozen=True, slots=True)
class Field:
    """A column. `type` as the platform spells it, None if it reports none."""

    name: str
    type: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnEdge:
    """Output column `field` comes from `source_field` of the input dataset; see OpenLineage's columnLineage facet."""

    field: str
    namespace: str
    name: str
    source_field: str
    type: str = "DIRECT"
    subtype: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """One input or output, named as in OpenLineage. Counts are None where unknown, never zero for unknown.

    `facets` are extra dataset facets as JSON values by key, already free of secrets. `change` is one of OpenLineage's
    lifecycleStateChange words (OVERWRITE, CREATE, ...).
    """

    namespace: str
    name: str
    uri: str | None = None
    fields: tuple[Field, ...] = ()
    columns: tuple[ColumnEdge, ...] = ()
    symlinks: tuple[tuple[str, str, str], ...] = ()
    description: str | None = None
    change: str | None = None
    storage: tuple[str, str | None] | None = None
    version: str | None = None
    rows: int | None = None
    bytes: int | None = None
    files: int | None = None
    facets: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Definition:
    """Inputs and outputs of a job without the details of one run; None where they are not known."""

    inputs: tuple[Dataset, ...] | None = None
    outputs: tuple[Dataset, ...] | None = None

    def followed_by(self, later: "Definition") -> "Definition":
        """`later`, with the present values for all that it does not know."""
        return Definition(
            self.inputs if later.inputs is None else later.inputs,
            self.outputs if later.outputs is None else later.outputs,
        )


class StageState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run."""

    key: str
    kind: str
    state: StageState
    raw_state: str | None = None
    engine: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Parent:
    """The run that a run belongs to, known from the run's first observation on: a parent that shows up later is not
    taken, for the events before it would belong to another job. `key` is its key at the same source when that source
    reports it as a run. `job` is its job's name, `root_job` that of the outermost run where that is another one.
    """

    run_id: UUID
    namespace: str
    job: str
    key: str | None = None
    root_run_id: UUID | None = None
    root_namespace: str | None = None
    root_job: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is run again and again. `name` begins with a word (see `collector.names`); `key` is the platform's id.

    `kind` is OpenLineage's jobType (QUERY, TASK, JOB, ...); `integration` the platform's name in capitals. `schedule` is
    the cron expression by which the platform runs it, None if it has no schedule or the platform does not report it.
    `platform_name` is the name that an alias replaced, None where none did.
    """

    key: str
    namespace: str
    name: str
    kind: str
    integration: str
    description: str | None = None
    owners: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    sql: str | None = None
    dialect: str | None = None
    schedule: str | None = None
    platform_name: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a platform reported of a run beside its state; the content of the run's next event.

    `inputs` and `outputs` are None while unknown and empty only if the platform reported that there are none.
    `ids` are the platform's own ids and words for the platform facet. `problems` name what could not be found out
    (they become the extractionError facet). Later facts replace earlier ones field by field, but for ids and problems,
    which add up, see `merged`.
    """

    inputs: tuple[Dataset, ...] | None = None
    outputs: tuple[Dataset, ...] | None = None
    error: str | None = None
    error_language: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    external_id: str | None = None
    nominal_start: datetime | None = None
    nominal_end: datetime | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    stages: tuple[Stage, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    ids: Mapping[str, str] = field(default_factory=dict)
    link: str | None = None
    problems: tuple[str, ...] = ()

    def merged(self, later: "Facts") -> "Facts":
        """These facts, overridden by the known ones of `later`."""
        known = {name: getattr(self, name) for name in self.__slots__}
        changed = {name: value for name in self.__slots__ if _says(name, value := getattr(later, name))}
        problems = tuple(dict.fromkeys((*self.problems, *later.problems)))
        return Facts(**{**known, **changed, "ids": {**self.ids, **later.ids}, "problems": problems})


def _says(name: str, value: object) -> bool:
    """Whether the fact is known: an empty list of datasets is (there are none), any other empty value is not."""
    return value is not None and (name in {"inputs", "outputs"} or value != ())


@dataclass(frozen=True, slots=True)
class Observation:
    """What a platform reported about a run at one moment.

    `key` is the platform's id of the run, unique within the source. `seen_at` is when the answer came. The other
    times are the platform's own, None where it gives none: `queued_at` when the run was queued, `started_at` and
    `ended_at` only if the platform really reports them; `ended_by` is a time by which it had ended, where the platform reports
    no better one or the enrichment has yet to read it. `settled` says that no enrichment is needed: everything the
    terminal event needs is here. `due_at` is when the adapter wants to look again, None for every cycle.
    `handle` is what the adapter needs to read this run again (stored, given back with the run, shown to nobody).
    `edition` is a number that an adapter never gives twice but for an observation of the same run that differs in nothing but
    `seen_at` and `due_at`, which then costs less to take in; None where it does not compare.
    """

    key: str
    run_id: UUID
    job: Job
    state: RunState
    raw_state: str | None
    seen_at: datetime
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    facts: Facts = Facts()
    parent: Parent | None = None
    handle: Mapping[str, str] = field(default_factory=dict)
    due_at: datetime | None = None
    settled: bool = False
    edition: int | None = field(default=None, compare=False)
    ended_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class Enrichment:
    """Details of a run, read once when it ended. Times as in `Observation`; they win over the earlier ones."""

    facts: Facts = Facts()
    job: Job | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a moment that nobody reported, or reported out of order: after `after` (None: unknown), not after `until`."""

    after: datetime | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a job as known here.

    `queued_at`, `began_at` and `finished_at` are the platform's times as last reported. `started_at` and `ended_at` are
    the event times of the START and terminal event that were made: None means not made yet, so at most one each is
    made. A terminal `state` without `ended_at` waits for its enrichment until `enrich_until`. `progressed_at` is when
    `raw_state` was first seen, `seen_at` when the run was last seen, `pending_since` the last time it was seen before
    it began (or ended), for the observed interval.
    """

    key: str
    run_id: UUID
    job: Job
    state: RunState
    raw_state: str | None
    seen_at: datetime
    progressed_at: datetime
    queued_at: datetime | None = None
    began_at: datetime | None = None
    finished_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_event_at: datetime | None = None
    started_within: Interval | None = None
    ended_within: Interval | None = None
    facts: Facts = Facts()
    parent: Parent | None = None
    handle: Mapping[str, str] = field(default_factory=dict)
    due_at: datetime | None = None
    misses: int = 0
    enrich_until: datetime | None = None
    abandoned_at: datetime | None = None

    @property
    def open(self) -> bool:
        return self.ended_at is None and self.abandoned_at is None

    @property
    def duration_bounded(self) -> bool:
        """Whether the START or the end that was made is only a bound, so that the duration is not the platform's."""
        started = self.started_at is not None and self.started_within is not None
        return started or (self.ended_at is not None and self.ended_within is not None)


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of run state that becomes one event. `within` is set where the platform gave no time for it,
    or one that had to be moved to keep the order: `clamped_from`. `facts` is what was known then, where the run's
    are more by now.
    """

    kind: EventKind
    at: datetime
    within: Interval | None = None
    clamped_from: datetime | None = None
    facts: Facts | None = None


class SkipKind(StrEnum):
    """Why something was left out; each is counted, logged and listed by `lineage-collector skipped`."""

    ROW = "row"
    UNREAD = "unread"
    STATUS = "status"
    FILTERED = "filtered"
    LATE = "late"
    FUTURE = "future"
    GAP = "gap"
    VANISHED = "vanished"
    ENRICHMENT = "enrichment"
    SQL = "sql"
    INVALID = "invalid"
    UNREADABLE = "unreadable"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Skip:
    """Something that was left out or not understood: what it was (`subject`) and a cause for people."""

    kind: SkipKind
    subject: str
    cause: str


@dataclass(frozen=True, slots=True)
class Poll:
    """One page of a poll; every page is one commit.

    `missing` are keys of tracked runs that the platform reports as not found; `unread` those that could not be read
    this time: they stay due, and their number is reported. `cursor` is None if it does not change: only the last page of a walk moves it.
    `memory` is what the source stores by key, see `collector.platforms.base.Remembering`. `repeated` are observations of an earlier poll
    that hold again at `repeated_at`: the same but for `seen_at`, without being made again.
    """

    observations: tuple[Observation, ...] = ()
    repeated: tuple[Observation, ...] = ()
    repeated_at: datetime | None = None
    cursor: str | None = None
    missing: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    skips: tuple[Skip, ...] = ()
    memory: Mapping[str, str] = field(default_factory=dict)

    def expanded(self) -> "Poll":
        """The page with `repeated` among its observations."""
        if not self.repeated:
            return self
        repeated = (replace(one, seen_at=self.repeated_at or one.seen_at) for one in self.repeated)
        return replace(self, observations=(*self.observations, *repeated), repeated=())


class Outgoing(NamedTuple):
    """One event on its way to one sink: the head of its lane. A tuple, as one is made for each event that is sent.

    `strand_id` and `seq` name it within the ledger, `run_number` is the run's row there and `run_id` its UUID. `body` is the
    event's JSON bytes. `attempts` failed before this one. `committed_at` and `happened_at` (the event's
    eventTime) are in epoch milliseconds. `fault` says why it is not valid and not to be sent.
    """

    strand_id: int
    seq: int
    run_number: int
    run_id: str
    source_id: int
    kind: EventKind
    body: bytes
    attempts: int
    committed_at: int
    happened_at: int
    fault: str | None = None
