"""What CDF's JSON says, read without trust: a field of the wrong kind counts as missing. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cachetools import LRUCache

from collector.clock import to_ms
from collector.model import RunState
from collector.platforms.answers import integer, moment, prose, text, uuid
from collector.platforms.unread_times import Unread, unread_times

REMEMBERED = 2000
"""Open jobs whose rows and observations are kept, some 6 kB each."""
_SIGN_OF_LIFE = "lastSeenTime"
STATES = {
    "Created": RunState.QUEUED,
    "Running": RunState.RUNNING,
    "Completed": RunState.SUCCEEDED,
    "Failed": RunState.FAILED,
}
"""The four states of CDF; a Failed job whose error says so is canceled, everything else is unknown."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job. `ended` is only there on jobs that ended, and never before `started` (a known fault of the backend)."""

    id: int
    uuid: UUID | None
    transformation_id: int | None
    external_id: str | None
    status: str | None
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    error: str | None
    query: str | None
    destination: Mapping[str, Any]
    source_project: str | None
    destination_project: str | None
    conflict_mode: str | None
    unread: Unread = ()

    def state(self, canceled_errors: Sequence[str]) -> RunState:
        """`canceled_errors` are compared without case and outer spaces."""
        state = STATES.get(self.status or "", RunState.UNKNOWN)
        if state is RunState.FAILED and self.error is not None:
            said = self.error.strip().casefold()
            if any(said == text.strip().casefold() for text in canceled_errors):
                return RunState.CANCELED
        return state


@dataclass(frozen=True, slots=True)
class Definition:
    """A transformation, as far as it is of use: `owner` is the vendor's technical id of a person, `schedule` a cron
    expression, None while it is paused.
    """

    id: int
    external_id: str | None
    name: str | None
    owner: str | None
    tags: tuple[str, ...]
    data_set_id: int | None
    schedule: str | None = None


def read_job(data: Any) -> JobRow | None:
    """None for something that is no job: without an id nothing can be said of it."""
    if not isinstance(data, Mapping) or (job_id := integer(data.get("id"))) is None:
        return None
    started, finished = moment(data.get("startedTime")), moment(data.get("finishedTime"))
    status = text(data.get("status"))
    return JobRow(
        id=job_id,
        uuid=UUID(found) if (found := uuid(data.get("uuid"))) else None,
        transformation_id=integer(data.get("transformationId")),
        external_id=text(data.get("transformationExternalId")),
        status=status,
        created=moment(data.get("createdTime")),
        started=started,
        ended=_end(started, finished) if status in {"Completed", "Failed"} else None,
        error=prose(data.get("error")),
        query=text(data.get("query")),
        destination=_destination(data.get("destination")),
        source_project=text(data.get("sourceProject")),
        destination_project=text(data.get("destinationProject")),
        conflict_mode=text(data.get("conflictMode")),
        unread=unread_times(data, "createdTime", "startedTime", "finishedTime", _SIGN_OF_LIFE),
    )


class JobRows:
    """Reads jobs. An open one that says the same as before, but for its sign of life, is not read again."""

    def __init__(self) -> None:
        self._last: LRUCache[int, tuple[Mapping[str, Any], JobRow]] = LRUCache(REMEMBERED)

    def read(self, data: Any) -> JobRow | None:
        """As `read_job` does."""
        if not isinstance(data, dict) or (job_id := integer(data.get("id"))) is None:
            return None
        said, last = data | {_SIGN_OF_LIFE: None}, self._last.get(job_id)
        if last is not None and last[0] == said and not unread_times(data, _SIGN_OF_LIFE):
            return last[1]
        row = read_job(data)
        if row is None or row.unread or row.state(()).terminal:
            self._last.pop(job_id, None)
        else:
            self._last[job_id] = said, row
        return row


# one thought: of a thousand jobs a poll nearly all are passed over by a comparison of numbers, before any time is read
def last_signs_of_life(jobs: Iterable[object], before: datetime) -> dict[int, datetime]:
    """Of the jobs of which CDF last heard before then, when that was."""
    at_least = to_ms(before)
    heard = [(data.get("id"), data.get(_SIGN_OF_LIFE)) for data in jobs if isinstance(data, dict)]
    old = [(one, value) for one, value in heard if not (isinstance(value, int) and value >= at_least)]
    found = {integer(one): moment(value) for one, value in old}
    return {job_id: at for job_id, at in found.items() if job_id is not None and at is not None and at < before}


def read_definition(data: Any) -> Definition | None:
    if not isinstance(data, Mapping) or (found := integer(data.get("id"))) is None:
        return None
    tags = data.get("tags")
    owner = data.get("owner")
    return Definition(
        id=found,
        external_id=text(data.get("externalId")),
        name=text(data.get("name")),
        owner=text(owner.get("user")) if isinstance(owner, Mapping) else text(owner),
        tags=tuple(tag for tag in tags if isinstance(tag, str) and tag) if isinstance(tags, list) else (),
        data_set_id=integer(data.get("dataSetId")),
        schedule=_schedule(data.get("schedule")),
    )


def _schedule(data: Any) -> str | None:
    return text(data.get("interval")) if isinstance(data, Mapping) and data.get("isPaused") is not True else None


@dataclass(frozen=True, slots=True)
class Execution:
    """One workflow execution."""

    id: str
    workflow: str
    status: str | None
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    reason: str | None
    version: str | None
    unread: Unread = ()

    @property
    def state(self) -> RunState:
        return WORKFLOW_STATES.get(self.status or "", RunState.UNKNOWN)


WORKFLOW_STATES = {
    "RUNNING": RunState.RUNNING,
    "COMPLETED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
    "TIMED_OUT": RunState.FAILED,
    "TERMINATED": RunState.CANCELED,
}


def read_execution(data: Any) -> Execution | None:
    if not isinstance(data, Mapping):
        return None
    found, workflow = text(data.get("id")), text(data.get("workflowExternalId"))
    if found is None or workflow is None:
        return None
    started, ended = moment(data.get("startTime")), moment(data.get("endTime"))
    return Execution(
        id=found,
        workflow=workflow,
        status=text(data.get("status")),
        created=moment(data.get("createdTime")),
        started=started,
        ended=_end(started, ended),
        reason=text(data.get("reasonForIncompletion")),
        version=text(data.get("version")),
        unread=unread_times(data, "createdTime", "startTime", "endTime"),
    )


def read_task_jobs(data: Mapping[str, Any]) -> tuple[int, ...]:
    """The transformation jobs of an execution's tasks; a task that failed early has none."""
    tasks = data.get("executedTasks")
    outputs = [task.get("output") for task in tasks if isinstance(task, Mapping)] if isinstance(tasks, list) else []
    jobs = (integer(output.get("jobId")) for output in outputs if isinstance(output, Mapping))
    return tuple(job for job in jobs if job is not None)


def _end(started: datetime | None, finished: datetime | None) -> datetime | None:
    return max(started, finished) if started is not None and finished is not None else finished


def _destination(value: Any) -> Mapping[str, Any]:
    """Old records hold a bare string in place of the object."""
    if isinstance(value, str):
        return {"type": value}
    return value if isinstance(value, Mapping) else {}
