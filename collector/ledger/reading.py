"""What people and metrics are shown; each answer costs a few index steps, but for the lists, which are limited."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from collector.model import RunState


@dataclass(frozen=True, slots=True)
class SinkRow:
    """`oldest` is the commit time of the event that waits longest; `cause` why the oldest retry failed. A sink that
    left the configuration has `retired_at`.
    """

    id: int
    name: str
    pending: int
    parked: int
    doubts: int
    oldest: int | None
    cause: str | None
    unclean_at: int | None
    retired_at: int | None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """`open` counts the runs without a terminal event by state, `abandoned` those of them no longer watched."""

    id: int
    name: str
    polled_at: int | None
    hinted_at: int | None
    open: Mapping[RunState, int]
    abandoned: int
    pending: int
    parked: int


@dataclass(frozen=True, slots=True)
class RunRow:
    source: str
    key: str
    run_uuid: str
    job: str
    state: RunState
    raw_state: str | None
    started_at: int | None
    ended_at: int | None
    updated_at: int
    abandoned_at: int | None


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job's last run (the one that began last), and the outcomes of all its runs."""

    source: str
    name: str
    description: str | None
    run_key: str
    run_uuid: str
    state: RunState
    started_at: int | None
    ended_at: int | None
    succeeded: int
    failed: int
    canceled: int
    duration_ms_sum: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class SkipRow:
    """`kind` is a `SkipKind`, or "overflow" for what came after the list of the source was full."""

    source: str
    kind: str
    subject: str
    cause: str
    count: int
    first_at: int
    last_at: int


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """`left_ms` until it can be taken over, 0 or less when it can."""

    name: str
    holder: str
    token: int
    left_ms: int


def sinks(conn: Connection) -> list[SinkRow]:
    raise NotImplementedError


def sources(conn: Connection) -> list[SourceRow]:
    raise NotImplementedError


def runs(conn: Connection, limit: int, *, source_id: int | None = None, state: RunState | None = None) -> list[RunRow]:
    """Newest first."""
    raise NotImplementedError


def jobs(conn: Connection, limit: int, *, source_id: int | None = None) -> list[JobRow]:
    """By source and name."""
    raise NotImplementedError


def skips(conn: Connection, limit: int, *, source_id: int | None = None) -> list[SkipRow]:
    """Latest first."""
    raise NotImplementedError


def leases(conn: Connection) -> list[LeaseRow]:
    raise NotImplementedError
