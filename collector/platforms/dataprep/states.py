"""Dataprep's statuses as run states, and the times of a run from the times of its stages: pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from collector.model import RunState, Stage, StageState
from collector.platforms.dataprep.rows import StageRow

STATES: Mapping[str, RunState] = MappingProxyType(
    {
        "Created": RunState.QUEUED,
        "Pending": RunState.QUEUED,
        "InProgress": RunState.RUNNING,
        "Complete": RunState.SUCCEEDED,
        "Failed": RunState.FAILED,
        "Canceled": RunState.CANCELED,
    }
)
"""Statuses of job groups and of their jobs; any other (`undefined` was seen) and none keep a run open."""

IN_FLIGHT = ("InProgress", "Created")
"""Statuses by which the runs under way can be listed, one request each."""

NOT_LINEAGE = frozenset({"sampling", "pendingDatasource", "extract", "profile", "publish", "refresh"})
"""Values of `ranfor` that are no run of a job: previews and the like. Unknown values are kept."""

LATE_AFTER = timedelta(seconds=10)
"""A publication that begins so long after everything else had ended was asked for afterwards, by hand."""


def state_of(status: str | None) -> RunState:
    return STATES.get(status or "", RunState.UNKNOWN)


def stage(row: StageRow) -> Stage:
    ended = state_of(row.status).terminal
    return Stage(
        key=row.key,
        kind=row.kind,
        state=StageState(state_of(row.status).value),
        raw_state=row.status,
        engine=row.engine,
        started_at=row.started_at if row.reports_start else row.created_at,
        ended_at=_end(row) if ended else None,
        message=row.message,
    )


def beginning(rows: Iterable[StageRow]) -> datetime | None:
    """When the run began: the earliest `startedAt` where the deployment has it, else the earliest `createdAt`.

    The group itself gives no such time. None while no stage began, and for a run that ended without one.
    """
    rows = list(rows)
    if any(row.reports_start for row in rows):
        return min((row.started_at for row in rows if row.started_at is not None), default=None)
    return min((row.created_at for row in rows if row.created_at is not None), default=None)


def ending(rows: Sequence[StageRow], updated_at: datetime | None, latest: datetime) -> datetime | None:
    """When an ended run ended: the latest end of its stages, else the group's last change, never after the `latest` time that
    the platform's clock may have shown when it was seen.

    The group's `updatedAt` alone would move with every later edit.
    """
    ends = [end for row in rows if state_of(row.status).terminal and (end := _end(row)) is not None]
    end = max(ends, default=updated_at)
    return min(end, latest) if end is not None else None


def first_life(rows: Sequence[StageRow], updated_at: datetime | None) -> tuple[StageRow, ...]:
    """The stages without those of a publication that somebody asked for after the run had ended."""
    return tuple(row for row in rows if not _is_late(row, rows, updated_at))


def _is_late(row: StageRow, rows: Sequence[StageRow], updated_at: datetime | None) -> bool:
    if row.kind != "publish" or row.created_at is None:
        return False
    if updated_at is not None and row.created_at > updated_at:
        return True
    ends = _ends_of_earlier(rows, row.created_at)
    return bool(ends) and all(end is not None and end + LATE_AFTER < row.created_at for end in ends)


def _ends_of_earlier(rows: Sequence[StageRow], created_at: datetime) -> list[datetime | None]:
    return [_end(row) for row in rows if row.created_at is not None and row.created_at < created_at]


def _end(row: StageRow) -> datetime | None:
    return row.finished_at or row.updated_at


def engine(rows: Iterable[StageRow]) -> tuple[str | None, str | None]:
    """Engine and its own id for the job, of the stage that transforms."""
    first = sorted((row for row in rows if row.engine), key=lambda row: row.kind != "wrangle")
    if not first:
        return None, None
    return first[0].engine, next((row.external_id for row in first if row.external_id), None)


def why_failed(group_error: str | None, rows: Iterable[StageRow]) -> str:
    """The platform's words where it has some, else which stages failed: by default it gives only an id."""
    failed = [row for row in rows if state_of(row.status) is RunState.FAILED]
    if group_error:
        return group_error
    failures = [f"stage {row.kind} {row.key} failed" + (f": {row.message}" if row.message else "") for row in failed]
    return "; ".join(failures) or "failed before any stage, most likely in validation; the platform gives no text"
