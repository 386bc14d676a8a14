"""Looks runs up in a Marquez with few requests: by lists of a job's runs, and one by one what is not in them."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Protocol, TypeVar

from collector.clock import Clock
from exporters.sinks.marquez.comparison import ExpectedRun
from exporters.sinks.marquez.stored import StoredRun, UnreadRun

PAGE = 20
"""Runs of one answer: each comes with all of its facets."""
KEPT = 10_000
"""Runs of one job that were in a list and are not asked for yet."""
TRIES = 6
LONGEST_WAIT = timedelta(minutes=5)

T = TypeVar("T")


class Source(Protocol):
    """What is asked: see `MarquezSink`."""

    capacity: int

    async def stored_run(self, run_id: str) -> StoredRun | None: ...

    async def stored_runs(self, namespace: str, job: str, offset: int, limit: int) -> list[StoredRun] | None: ...


class Lookup:
    """Asks again where Marquez is not reachable or asks to wait, at most `TRIES` times. `requests` counts them all."""

    def __init__(self, source: Source, clock: Clock, random: Callable[[], float]) -> None:
        self._source, self._clock, self._random = source, clock, random
        self._free = asyncio.Semaphore(source.capacity)
        self._jobs: dict[tuple[str, str], _JobRuns] = {}
        self.requests = 0

    def forget_jobs(self) -> None:
        """The lists that were read so far are not needed any more."""
        self._jobs.clear()

    async def found(self, runs: Sequence[ExpectedRun]) -> dict[str, StoredRun | None]:
        """What Marquez has of each of these runs, by run id, None for those that it does not have. Raises `UnreadRun`."""
        by_job: defaultdict[tuple[str, str], list[ExpectedRun]] = defaultdict(list)
        for run in runs:
            by_job[run.namespace, run.job].append(run)
        found: dict[str, StoredRun | None] = {}
        for job, of_job in by_job.items():
            listed = self._jobs.setdefault(job, _JobRuns(self, *job))
            await listed.read_until(min((run.started_at or 0) for run in of_job))
            found |= {run.run_id: listed.take(run.run_id) for run in of_job}
            if not listed.is_absent:
                unlisted = [run.run_id for run in of_job if found[run.run_id] is None]
                found |= await self._one_by_one(unlisted)
        return found

    def others(self, runs: Iterable[ExpectedRun]) -> list[StoredRun]:
        """The runs of the same jobs that were in a list and that nobody asked for."""
        jobs = dict.fromkeys((run.namespace, run.job) for run in runs)
        return [run for job in jobs if job in self._jobs for run in self._jobs[job].left()]

    async def _one_by_one(self, run_ids: Iterable[str]) -> dict[str, StoredRun | None]:
        async def one(run_id: str) -> tuple[str, StoredRun | None]:
            async with self._free:
                return run_id, await self.asked(lambda: self._source.stored_run(run_id))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(run_id)) for run_id in run_ids]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return dict(task.result() for task in tasks)

    async def page(self, namespace: str, job: str, offset: int) -> list[StoredRun] | None:
        return await self.asked(lambda: self._source.stored_runs(namespace, job, offset, PAGE))

    async def asked(self, request: Callable[[], Awaitable[T]]) -> T:
        tried = 0
        while True:
            self.requests += 1
            try:
                return await request()
            except UnreadRun as unread:
                tried += 1
                if unread.lasting or tried >= TRIES:
                    raise
                asked = unread.after.total_seconds() if unread.after is not None else 0.0
            pause = max(asked, 2**tried * (0.5 + self._random() / 2))
            await self._clock.sleep(min(pause, LONGEST_WAIT.total_seconds()))


class _JobRuns:
    """The list of one job's runs as far as it was read, newest start first."""

    def __init__(self, lookup: Lookup, namespace: str, job: str) -> None:
        self._lookup, self._namespace, self._job = lookup, namespace, job
        self._left: OrderedDict[str, StoredRun] = OrderedDict()
        self._offset, self._ended = 0, False
        self._reached: int | None = None
        self.is_absent = False

    async def read_until(self, started_at: int) -> None:
        """Read on to the runs that began before. A list that cannot be read ends here: its runs are asked for one by one."""
        while not self._ended and (self._reached is None or self._reached >= started_at):
            try:
                page = await self._lookup.page(self._namespace, self._job, self._offset)
            except UnreadRun as unread:
                if not unread.lasting:
                    raise
                page = []
            self._take_in(page)

    def _take_in(self, page: Sequence[StoredRun] | None) -> None:
        self.is_absent = page is None and not self._offset
        runs = page or ()
        self._ended = len(runs) < PAGE or runs[-1].started_at is None
        self._offset += len(runs)
        self._reached = runs[-1].started_at if runs else self._reached
        self._left.update({run.run_id: run for run in runs})
        while len(self._left) > KEPT:
            self._left.popitem(last=False)

    def take(self, run_id: str) -> StoredRun | None:
        return self._left.pop(run_id, None)

    def left(self) -> list[StoredRun]:
        return list(self._left.values())
