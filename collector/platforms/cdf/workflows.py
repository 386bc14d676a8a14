"""Workflow executions as parents of the transformation jobs that they started; only where the configuration asks.

In the steady state this costs one request a cycle, and one more per running execution when new jobs have appeared.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from collector import names
from collector.clock import Clock, from_ms, to_ms
from collector.errors import BadAnswer, NotFound
from collector.model import Facts, Job, Observation, Parent, Run, RunState, Skip, SkipKind
from collector.numerals import counted
from collector.platforms.answers import Forbidden
from collector.platforms.cdf.api import Api
from collector.platforms.cdf.list_progress import ListProgress
from collector.platforms.cdf.rows import Execution, read_execution, read_task_jobs
from collector.platforms.unread_times import UnreadTimes
from collector.platforms.watermark import Clocks

PREFIX = "workflow/"
"""Begins the keys of executions among the runs of a source, which else are the ids of jobs."""
LOOK_BACK = timedelta(minutes=10)
LONGEST_LIST = timedelta(hours=6)
"""How far back executions are listed by the time of their creation; beyond it only those that run."""
CHILDREN_SETTLE_WITHIN = timedelta(seconds=90)
"""How long an ended execution waits for jobs whose end this process has not seen."""


@dataclass(slots=True)
class _Watched:
    """`read_as` is its status when its tasks were read last, `closed` when it and all its jobs were first seen to have ended."""

    execution: Execution
    jobs: tuple[int, ...] = ()
    read_as: str | None = None
    closed: datetime | None = None

    @property
    def over(self) -> bool:
        return self.execution.state.terminal

    @property
    def read_for_good(self) -> bool:
        return self.over and self.read_as == self.execution.status


@dataclass(slots=True)
class Workflows:
    """Which job belongs to which execution. All of it can be lost: it is read again from what still runs."""

    api: Api
    clock: Clock
    namespace: str
    account: str
    unread_times: UnreadTimes
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _settled: dict[int, datetime] = field(default_factory=dict)
    _unread: dict[str, str] = field(default_factory=dict)
    """Why executions could not be read the last time."""
    _odd_rows: int = 0
    _listed: Clocks | None = None
    """The clocks at the last list that was read to its end."""

    async def look(self, tracked: Sequence[Run], new_jobs: Collection[int], floor: datetime) -> None:
        """Read executions that run or ended after `floor`, all `tracked`, and the tasks of those that may have begun `new_jobs`."""
        floor -= LOOK_BACK
        self._unread, self._odd_rows = {}, 0
        listed = await self._list(floor)
        for execution_id in (run.key.removeprefix(PREFIX) for run in tracked):
            known = self._watched.get(execution_id)
            if known is None or not (known.over or execution_id in listed):
                await self._read_tasks(execution_id)
        for execution_id, watched in list(self._watched.items()):
            if set(new_jobs) - set(watched.jobs) and not watched.read_for_good:
                await self._read_tasks(execution_id)
        self._forget(floor, {run.key for run in tracked})

    def parent_of(self, job_id: int) -> Parent | None:
        return self.parents_of((job_id,)).get(job_id)

    def parents_of(self, jobs: Collection[int]) -> dict[int, Parent]:
        """The executions that started these jobs."""
        found: dict[int, Parent] = {}
        for watched in self._watched.values():
            execution = watched.execution
            for job_id in watched.jobs:
                if job_id in jobs and job_id not in found:
                    run_id = _run_id(self.account, execution.id)
                    found[job_id] = Parent(run_id, self.namespace, _name(execution), key=PREFIX + execution.id)
        return found

    def settled(self, job_id: int) -> None:
        """All that a job's terminal event needs is known, so its parent may end too."""
        self._settled[job_id] = self.clock.now()

    def observations(self, wanted: Iterable[str], open_jobs: Collection[int]) -> list[Observation]:
        """What was seen of the executions under `wanted` keys. One that is over is said to run while jobs of its own
        are `open_jobs` or not settled, so that its end comes after theirs.
        """
        now = self.clock.now()
        ids = (key.removeprefix(PREFIX) for key in wanted)
        found = [watched for one in ids if one not in self._unread and (watched := self._watched.get(one))]
        return [self._observation(watched.execution, now, held=self._held(watched, open_jobs)) for watched in found]

    def gone(self, tracked: Sequence[Run]) -> tuple[str, ...]:
        """Keys of tracked executions that CDF no longer has."""
        known = self._watched.keys() | self._unread.keys()
        return tuple(run.key for run in tracked if run.key.removeprefix(PREFIX) not in known)

    def unread(self, tracked: Sequence[Run]) -> tuple[str, ...]:
        """Keys of tracked executions of which nothing is known this time."""
        return tuple(run.key for run in tracked if run.key.removeprefix(PREFIX) in self._unread)

    def skips(self) -> tuple[Skip, ...]:
        """What the last look could not read."""
        again = "it is asked for again"
        unread = (Skip(SkipKind.ROW, f"{PREFIX}{one}", f"{cause}; {again}") for one, cause in self._unread.items())
        if not self._odd_rows:
            return tuple(unread)
        cause = f"an answer has {counted(self._odd_rows, 'row')} without the id of an execution or of its workflow"
        return (*unread, Skip(SkipKind.ROW, "workflow executions", cause))

    async def _list(self, floor: datetime) -> set[str]:
        """All executions created since the last list that was read, since `floor` and since the oldest one that runs, but no
        further back than `LONGEST_LIST`: one that never ends would have each poll list all since it began. `look` reads
        it by its id. Where the last list is older than that, as at the start of a process, also all that run.
        """
        now = self.clock.now()
        listed = self._listed
        if listed is None or now - from_ms(listed.ours) > LONGEST_LIST:
            await self._take_all({"status": ["RUNNING"]}, floor)
            since = now - LONGEST_LIST
        else:
            since = from_ms(listed.server) - LOOK_BACK
        begun = [w.execution.created for w in self._watched.values() if w.execution.created and not w.over]
        young = [created for created in begun if created >= now - LONGEST_LIST]
        taken, self._listed = await self._take_all({"createdTimeStart": to_ms(min([floor, since, *young]))}, floor)
        return taken

    async def _take_all(self, wanted: Mapping[str, Any], floor: datetime) -> tuple[set[str], Clocks]:
        """The ids of all listed executions, and the clocks at the first page."""
        taken: set[str] = set()
        page = await self.api.executions(wanted)
        clocks = page.clocks
        progress = ListProgress("POST /workflows/executions/list", "an execution")
        while True:
            ids = [found for row in page.rows if (found := self._take(row, floor)) is not None]
            self._odd_rows += len(page.rows) - len(ids)
            taken.update(ids)
            progress.take(len(page.rows), ids, more=page.next is not None)
            if page.next is None:
                return taken, clocks
            page = await self.api.executions(wanted, page.next)

    def _take(self, row: Any, floor: datetime | None) -> str | None:
        """Remember an execution; ended ones only from `floor` on."""
        execution = read_execution(row)
        if execution is None:
            return None
        self.unread_times.note(f"workflow execution {execution.id}", execution.unread)
        known = self._watched.get(execution.id)
        if known is not None:
            known.execution = execution
        elif floor is None or execution.ended is None or execution.ended >= floor:
            self._watched[execution.id] = known = _Watched(execution)
        return execution.id

    async def _read_tasks(self, execution_id: str) -> None:
        """One that is refused, or cannot be read, holds up no other."""
        try:
            data = await self.api.execution(execution_id)
        except NotFound:
            self._watched.pop(execution_id, None)
            return
        except (Forbidden, BadAnswer) as error:
            self._unread[execution_id] = str(error)
            return
        read = read_execution(data)
        if read is None or read.id != execution_id:
            self._unread[execution_id] = "the answer is not about this execution, or does not name its workflow"
            return
        self._take(data, None)
        watched = self._watched[execution_id]
        watched.jobs, watched.read_as = read_task_jobs(data), watched.execution.status

    def _held(self, watched: _Watched, open_jobs: Collection[int]) -> bool:
        if not watched.over:
            return False
        if any(job in open_jobs for job in watched.jobs):
            watched.closed = None
            return True
        now = self.clock.now()
        watched.closed = watched.closed or now
        unsettled = any(job not in self._settled for job in watched.jobs)
        return unsettled and now < watched.closed + CHILDREN_SETTLE_WITHIN

    def _forget(self, floor: datetime, tracked: Collection[str]) -> None:
        """What ended before `floor` and is not tracked any more."""
        self._settled = {job: at for job, at in self._settled.items() if at >= floor}
        for execution_id, watched in list(self._watched.items()):
            ended = watched.execution.ended
            if PREFIX + execution_id not in tracked and ended is not None and ended < floor:
                del self._watched[execution_id]

    def _observation(self, execution: Execution, now: datetime, *, held: bool) -> Observation:
        state = RunState.RUNNING if held else execution.state
        failed = execution.state in {RunState.FAILED, RunState.CANCELED}
        return Observation(
            key=PREFIX + execution.id,
            run_id=_run_id(self.account, execution.id),
            job=Job(execution.workflow, self.namespace, _name(execution), kind="DAG", integration="CDF"),
            state=state,
            raw_state=execution.status,
            seen_at=now,
            queued_at=execution.created,
            started_at=execution.started,
            ended_at=execution.ended if state.terminal else None,
            facts=Facts(
                error=execution.reason if failed else None,
                external_id=execution.id,
                ids={"workflowExecutionId": execution.id, "workflowExternalId": execution.workflow}
                | ({"workflowVersion": execution.version} if execution.version else {}),
            ),
            settled=True,
        )


def is_workflow(run: Run) -> bool:
    return run.key.startswith(PREFIX)


def _name(execution: Execution) -> str:
    return names.dataset("workflow", execution.workflow)


def _run_id(account: str, execution_id: str) -> UUID:
    """The platform's own UUID where it is one."""
    try:
        return UUID(execution_id)
    except ValueError:
        return uuid5(NAMESPACE_URL, f"{account}/workflow/{execution_id}")
