"""The state of a simulated CDF project, and the Python side of steering it."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

from simulators.cdf.entities import Destination, Job, Transformation, WorkflowExecution, WorkflowTask
from simulators.cdf.identity import Identity
from simulators.cdf.modes import Modes, OverLimit
from simulators.cdf.scenarios import Ending, Scenario, Snapshot, canonical
from simulators.cdf.wire import ApiError

Which = int | str
"""A transformation by id or by external id."""

OVER_LIMIT = "Too many concurrent transformation jobs in the project."


class Project:
    """One CDF project. `now` is asked at every look, so a test that moves its clock moves every job.

    Steer it by its methods, by `modes` (what the documentation leaves open) and by `identity` (tokens, capabilities).
    """

    def __init__(
        self,
        *,
        seed: int,
        now: Callable[[], datetime],
        name: str,
        modes: Modes | None = None,
    ) -> None:
        self.random = Random(seed)  # noqa: S311
        self.name = name
        self.modes = modes or Modes()
        self.transformations: dict[int, Transformation] = {}
        self.executions: list[WorkflowExecution] = []
        self._now = now
        self.identity = Identity(self.now_ms, self.random, name)
        self._history: dict[int, Job] = {}
        self._kept: list[Job] = []
        self._kept_by_transformation: dict[int, list[Job]] = {}
        self._next_id = self.random.randrange(1_000, 5_000)

    def now(self) -> datetime:
        return self._now()

    def now_ms(self) -> int:
        return int(self._now().timestamp() * 1000)

    def expected_runs(self) -> list[dict[str, Any]]:
        now = self.now_ms()
        return [self._true_run(job, now) for job in self._history.values()]

    def add_transformation(
        self, external_id: str, destination: Destination | None = None, query: str = "select 1 as id", **more: Any
    ) -> Transformation:
        """`more` are fields of `Transformation`; raises ValueError when the external id is taken."""
        if any(known.external_id == external_id for known in self.transformations.values()):
            raise ValueError(f"transformation {external_id} exists already")
        now = self.now_ms()
        usual = {"name": external_id, "owner": self.identity.client_id, "created": now, "updated": now}
        projects = {"source_project": self.name, "destination_project": self.name}
        made = Transformation(
            id=self._fresh_id(),
            external_id=external_id,
            query=query,
            destination=destination or {"type": "assets"},
            **{**usual, **projects, **more},
        )
        self.transformations[made.id] = made
        return made

    def change_transformation(self, which: Which, **changes: Any) -> Transformation:
        """Sets fields of `Transformation` (a new `external_id` renames it) and moves its `lastUpdatedTime`."""
        found = self.transformation(which)
        for name, value in changes.items():
            setattr(found, name, value)
        found.updated = self.now_ms()
        return found

    def remove_transformation(self, which: Which) -> None:
        """Deletes the definition and, unless `modes` says otherwise, its jobs with it."""
        found = self.transformation(which)
        del self.transformations[found.id]
        if self.modes.jobs_vanish_with_transformation:
            for job in list(self._kept_by_transformation.get(found.id, [])):
                self._drop(job)

    def transformation(self, which: Which) -> Transformation:
        """Raises LookupError."""
        for known in self.transformations.values():
            if which in {known.id, known.external_id}:
                return known
        raise LookupError(f"there is no transformation {which}")

    def start_run(self, which: Which, scenario: Scenario | None = None, *, at: datetime | None = None) -> Job:
        """Creates a job whatever limits there are. `at` back-dates it."""
        found = self.transformation(which)
        job = Job(
            id=self._fresh_id(),
            uuid=str(UUID(int=self.random.getrandbits(128), version=4)),
            transformation=found,
            created=self.now_ms() if at is None else int(at.timestamp() * 1000),
            scenario=scenario or (found.scenarios.popleft() if found.scenarios else found.scenario),
            query=found.query,
            destination=found.destination,
            conflict_mode=found.conflict_mode,
        )
        self._keep(job)
        return job

    def request_run(self, which: Which) -> Job:
        """Creates a job as a call to run does: refused while the transformation runs, limited per project."""
        now = self.now_ms()
        running = self._open_jobs(now)
        if any(job.transformation.id == self.transformation(which).id for job in running):
            raise ApiError(self.modes.second_run_status, "Transformation is already running")
        limit = self.modes.concurrency_limit
        if limit is None or len(running) < limit:
            return self.start_run(which)
        if self.modes.over_limit is OverLimit.REFUSE:
            raise ApiError(400, OVER_LIMIT)
        return self.start_run(which, Scenario(starts_after=0.0, ends=Ending.NEVER_STARTED, error=OVER_LIMIT))

    def cancel(self, which: Which) -> None:
        """Cancels the open jobs of a transformation."""
        now = self.now_ms()
        wanted = self.transformation(which).id
        for job in self._open_jobs(now):
            if job.transformation.id == wanted:
                job.cancelled = now

    def set_state(self, job_id: int, status: str | None, *, error: str | None = None, **more: Any) -> Job:
        """Ends the job's scenario and fixes its status by hand; `more` are fields of `Snapshot`, `extra` any JSON field.

        A start and an end are filled in with the present where the status implies them.
        """
        job, now = self._history[job_id], self.now_ms()
        before = job.view(now)
        started = before.started if status == "Created" else before.started or now
        finished = now if status in {"Completed", "Failed"} else None
        known = {"started": started, "finished": finished, "last_seen": now, "progress": 1.0 if finished else 0.5}
        job.pinned = Snapshot(status, error=error, **{**known, **more})
        return job

    def remove(self, job_id: int) -> None:
        """The vendor forgets this job."""
        self._drop(self._history[job_id])

    def start_workflow(self, external_id: str, tasks: Sequence[tuple[Which, Scenario | None]]) -> WorkflowExecution:
        """Starts all the tasks' jobs at once. A task whose transformation does not exist fails without a job."""
        made = WorkflowExecution(
            id=str(UUID(int=self.random.getrandbits(128), version=4)),
            external_id=external_id,
            version="1",
            created=self.now_ms(),
            tasks=[self._start_task(number, which, scenario) for number, (which, scenario) in enumerate(tasks, 1)],
        )
        self.executions.append(made)
        return made

    def terminate_workflow(self, execution_id: str) -> None:
        """Cancels the execution; its transformation jobs go on."""
        self.execution(execution_id).terminated = self.now_ms()

    def execution(self, execution_id: str) -> WorkflowExecution:
        """Raises LookupError."""
        for known in self.executions:
            if known.id == execution_id:
                return known
        raise LookupError(f"there is no workflow execution {execution_id}")

    def job(self, job_id: int) -> Job | None:
        """A job that can still be read."""
        job = self._history.get(job_id)
        return job if job is not None and self._is_kept(job) and any(self._visible([job])) else None

    def jobs(self, *, newest_first: bool) -> Iterator[Job]:
        """All jobs that can be read, in order of creation."""
        return self._visible(reversed(self._kept) if newest_first else iter(self._kept))

    def details(self, found: Transformation) -> dict[str, Any]:
        """`runningJob` and `lastFinishedJob` of a definition, each where there is one."""
        now = self.now_ms()
        details: dict[str, Any] = {}
        for job in self._visible(reversed(self._kept_by_transformation.get(found.id, []))):
            name = "runningJob" if job.view(now).is_open else "lastFinishedJob"
            details.setdefault(name, job.json(now, self.modes))
            if name == "lastFinishedJob":
                break
        return details

    def _visible(self, jobs: Iterator[Job] | Sequence[Job]) -> Iterator[Job]:
        now = self.now_ms()
        days = self.modes.retention_days
        oldest = 0 if days is None else now - round(days * 86_400_000)
        return (job for job in jobs if job.created >= oldest and not job.vanished(now))

    def _open_jobs(self, now: int) -> list[Job]:
        return [job for job in self.jobs(newest_first=True) if job.view(now).is_open]

    def _fresh_id(self) -> int:
        self._next_id += self.random.randrange(1, 4)
        return self._next_id

    def _keep(self, job: Job) -> None:
        own = self._kept_by_transformation.setdefault(job.transformation.id, [])
        self._history[job.id] = job
        insort(self._kept, job, key=_order)
        insort(own, job, key=_order)
        while self.modes.retention_jobs is not None and len(own) > self.modes.retention_jobs:
            self._drop(own[0])

    def _drop(self, job: Job) -> None:
        for kept in (self._kept, self._kept_by_transformation[job.transformation.id]):
            place = bisect_left(kept, job.order, key=_order)
            if place < len(kept) and kept[place] is job:
                del kept[place]

    def _is_kept(self, job: Job) -> bool:
        place = bisect_left(self._kept, job.order, key=_order)
        return place < len(self._kept) and self._kept[place] is job

    def _start_task(self, number: int, which: Which, scenario: Scenario | None) -> WorkflowTask:
        known = {found.id for found in self.transformations.values()} | {
            found.external_id for found in self.transformations.values()
        }
        job = self.start_run(which, scenario) if which in known else None
        made = f"{self.random.getrandbits(64):016x}"
        return WorkflowTask(made, f"task-{number}", "transformation", job)

    def _true_run(self, job: Job, now: int) -> dict[str, Any]:
        view = job.view(now)
        ends = [at for at in (view.started, view.finished) if at is not None]
        return {
            "key": str(job.id),
            "uuid": job.uuid,
            "job": job.transformation.external_id,
            "transformation_id": job.transformation.id,
            "state": canonical(view),
            "raw_state": view.status,
            "created_at": _iso(job.created),
            "started_at": _iso(view.started),
            "ended_at": _iso(max(ends)) if view.finished is not None else None,
            "error": view.error,
            "readable": self.job(job.id) is not None,
        }


def _order(job: Job) -> tuple[int, int]:
    return job.order


def _iso(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat()
