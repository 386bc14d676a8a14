"""The CDF adapter: tracks open jobs by ids, finds new ones in the list, reads metrics once at the end."""

import logging
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from math import ceil
from typing import NamedTuple
from uuid import UUID

from collector import numerals
from collector.clock import from_ms, to_ms
from collector.errors import NotFound, SourceError
from collector.lineage.sql import SqlLineage
from collector.lineage.sql_worker import SqlWorker
from collector.logs import fields
from collector.model import Enrichment, Facts, Job, Observation, Parent, Poll, Run, RunState, Skip, SkipKind
from collector.oauth import Grant, Tokens
from collector.platforms.answers import TooLarge, integer
from collector.platforms.base import Choice, Context, Finding, Load
from collector.platforms.cdf.absent_runs import Absent, left_out, shown_again, with_absent
from collector.platforms.cdf.api import MOST_IDS, Api
from collector.platforms.cdf.check import findings, listed_jobs
from collector.platforms.cdf.definitions import Definitions
from collector.platforms.cdf.job_list import OVERLAP, Walk
from collector.platforms.cdf.job_names import JobNames
from collector.platforms.cdf.jobs_by_ids import jobs_by_ids
from collector.platforms.cdf.lineage import read_late, sql_skips
from collector.platforms.cdf.observations import Place, Unchanged, candidates, counted, given_away, is_of, observe
from collector.platforms.cdf.pages import PageSizes
from collector.platforms.cdf.repeated_pages import PageBasis, RepeatedPage, RepeatedPages, Summary
from collector.platforms.cdf.rows import Definition, JobRow, JobRows, read_job
from collector.platforms.cdf.silent_jobs import SilentJobs
from collector.platforms.cdf.sources import CdfCatalog
from collector.platforms.cdf.trigger import started
from collector.platforms.cdf.walks import Walks
from collector.platforms.cdf.workflows import Workflows, is_workflow
from collector.platforms.rate_limit import Pace, shared
from collector.platforms.unread_times import UnreadTimes
from collector.platforms.watermark import Early
from config.sources import CdfSource

log = logging.getLogger("lineage.cdf")

PAGE_SIZE = 50
"""Jobs on the first page of a walk; not below `SHORTEST_RISE`, for fewer could not show that they are not newest first."""


class _Basis(NamedTuple):
    """What an observation is made of beside the row; `lineage` is None where the query was not read yet."""

    known: tuple[UUID, Job] | None
    definition: Definition | None
    lineage: SqlLineage | None
    parent: Parent | None
    back_fill: bool


def create(config: CdfSource, context: Context) -> "CdfPlatform":
    """The entry point of the platform `cdf`."""
    return CdfPlatform(config, context)


class CdfPlatform:
    """One CDF project. What it remembers between polls only saves requests."""

    def __init__(self, config: CdfSource, context: Context) -> None:
        self._config, self._context, self._clock = config, context, context.clock
        self._tokens = _tokens(config, context)
        self._api = Api(
            context.http,
            self._tokens,
            context.clock,
            context.random,
            base_url=config.base_url,
            project=config.project,
            pace=_pace(config, context),
        )
        self._place = Place(config.base_url, config.project, context.namespace, config.canceled_errors)
        self._definitions = Definitions(self._api, context.clock, context.source)
        self._unread_times = UnreadTimes()
        self._workflows = Workflows(
            self._api, context.clock, context.namespace, self._place.account, self._unread_times
        )
        self._names, self._choice = JobNames(), Choice(config.include, config.exclude)
        self._sql = SqlWorker(context.source, CdfCatalog())
        self._walks = Walks(config, context.clock, context.source)
        self._page_sizes = PageSizes(context.clock, PAGE_SIZE)
        self._silent = SilentJobs(context.clock, context.source)
        self._early = Early()
        self._rows, self._unchanged, self._pages = JobRows(), Unchanged(), RepeatedPages()

    async def poll(self, tracked: Sequence[Run], cursor: str | None) -> AsyncIterator[Poll]:
        self._walks.resume(cursor)
        jobs = [run for run in tracked if not is_workflow(run)]
        open_jobs: set[int] = set()
        absent: dict[int, Absent] = {}
        self._silent.keep(_by_job_id(jobs))
        for start in range(0, len(jobs), MOST_IDS):
            page, still_open = await self._track(jobs[start : start + MOST_IDS], absent)
            open_jobs |= still_open
            yield self._unread_times.added(page)
        await self._definitions.refresh()
        executions = [run for run in tracked if is_workflow(run)]
        async for page in self._listed(cursor, executions, open_jobs, absent):
            yield self._unread_times.added(page)

    def remember(self, memory: Mapping[str, str]) -> None:
        """The external ids by which transformations were first known."""
        self._names.learn(memory)

    async def enrich(self, run: Run) -> Enrichment:
        job_id = integer(run.key)
        if job_id is None:
            return Enrichment()
        sql = (await self._sql.lineage([run.job.sql])).get(run.job.sql or "")
        project = run.facts.ids.get("sourceProject")
        late = read_late(run, sql, self._place.dataset_namespace(project), self._place.uri(project))
        try:
            metrics = await self._api.metrics(job_id)
        except NotFound as error:
            problem = f"the row counts are gone with the job: {error}"
            return Enrichment(facts=late.merged(Facts(problems=(*run.facts.problems, problem))))
        self._settle(job_id)
        return Enrichment(facts=late.merged(counted(run.facts.merged(late), run.handle, sql, metrics)))

    async def trigger(self, job: str, parameters: Mapping[str, str], token: str) -> Observation:
        return await self._one(await started(self._api, self._tokens, job, parameters))

    async def watch(self, key: str, options: Mapping[str, str]) -> Observation:
        job_id = integer(key)
        rows = await self._api.jobs_by_ids([job_id]) if job_id is not None else []
        row = next((read for data in rows if (read := read_job(data)) and read.id == job_id), None)
        if row is None:
            raise NotFound(f"CDF project {self._config.project} has no job {key} (the number of a job is wanted)")
        return await self._one(row)

    async def check(self) -> list[Finding]:
        return await findings(self._api, self._tokens, self._config, to_ms(self._clock.now()))

    async def jobs(self) -> Sequence[Job]:
        return await listed_jobs(self._api, self._choice, self._place)

    def load(self, watched: Mapping[RunState, int]) -> Load:
        """One page of the list, one request for 1,000 open runs, one for workflow executions; metrics at the end."""
        runs, config = sum(watched.values()), self._config
        return Load(
            runs=runs,
            pages=1 + max(1, ceil(runs / MOST_IDS)) + config.workflows,
            reads=0,
            interval=config.poll_interval.total_seconds(),
            allowed=config.requests_per_minute,
            each_end=1,
            note=f"one page lists {MOST_IDS:,} open runs",
        )

    async def close(self) -> None:
        self._sql.close()
        await self._context.http.close()

    # one thought: what one answer says of the runs that were asked for, or that it says what the last one said
    async def _track(self, runs: Sequence[Run], absent: dict[int, Absent]) -> tuple[Poll, AbstractSet[int]]:
        """One page of the open runs, and which of them are still open. Those that CDF leaves out or refuses become `absent`."""
        by_id = _by_job_id(runs)
        answered = await jobs_by_ids(self._api, list(by_id), lambda summary: self._pages.get(summary, runs) is not None)
        if answered.answer is not None:
            if (before := await self._repeated(answered.summary, runs)) is not None:
                return replace(before.page, repeated_at=self._clock.now()), before.jobs
            answered = replace(answered, rows=self._api.jobs_in(answered.answer))
        read, skips = self._read(answered.rows)
        others = [row for row in read if row.id in by_id and not is_of(row, by_id[row.id])]
        rows = [row for row in read if row.id in by_id and row not in others]
        await self._definitions.know((row.transformation_id for row in rows), needed=False)
        sql = await self._lineage(rows)
        page = self._page_of(rows, sql, by_id)
        self._silent.flag(rows, answered.rows)
        # a row that could not be read may be one of those left out: that proves nothing then
        gone = left_out(by_id, rows, None if skips else answered.refused)
        absent |= gone
        page = replace(page, skips=(*skips, *answered.skips(), *map(given_away, others)))
        if not (gone or page.skips or _unread_queries(rows, sql)):
            self._pages.put(answered.summary, runs, self._page_basis(by_id), rows, page)
        return page, self._still_open(rows) | gone.keys()

    async def _repeated(self, answer: Summary | None, runs: Sequence[Run]) -> RepeatedPage | None:
        """The page of the last such answer about these runs, if all else that it is made of is the same, too."""
        before = self._pages.get(answer, runs) if answer is not None and self._silent.are_well(answer) else None
        if before is None:
            return None
        await self._definitions.know(before.transformations, needed=False)
        return before if before.basis == self._page_basis(before.jobs) else None

    def _page_basis(self, jobs: Collection[int]) -> PageBasis:
        return PageBasis(self._definitions.version, self._workflows.parents_of(jobs))

    def _still_open(self, rows: Iterable[JobRow]) -> set[int]:
        return {row.id for row in rows if not row.state(self._config.canceled_errors).terminal}

    async def _lineage(self, rows: Iterable[JobRow]) -> Mapping[str, SqlLineage]:
        return await self._sql.lineage(row.query for row in rows)

    async def _listed(
        self, cursor: str | None, executions: Sequence[Run], open_jobs: set[int], absent: dict[int, Absent]
    ) -> AsyncIterator[Poll]:
        """What the list of jobs holds that is new, page by page; the last page moves the cursor. Of the `absent` runs,
        which were asked for by id and not answered, those that the list shows are seen, and the others are missing.
        """
        if self._walks.rests:
            yield with_absent(absent, await self._executions(executions, [], open_jobs, self._clock.now()))
            return
        walk: Walk | None = None
        pages = self._page_sizes.begin()
        while True:
            try:
                page = await self._api.jobs(pages.limit, pages.after)
            except TooLarge as error:
                pages.halve(walk, error)
                continue
            rows, unreadable = self._read(page.rows)
            walk = walk or self._walks.begin(cursor, page.clocks)
            found = await self._found(walk, rows, executions, open_jobs, absent)
            early = self._early.count(
                ((f"job {row.id}", to_ms(row.created)) for row in rows if row.created), page.clocks
            )
            found = replace(found, skips=(*unreadable, *early, *found.skips))
            if walk.ends(rows, len(page.rows), more=page.next is not None):
                left_at = self._walks.end(walk)
                last = replace(found, cursor=left_at if left_at != cursor else None, skips=(*found.skips, *walk.lost()))
                yield with_absent(absent, last)
                return
            yield found
            executions = ()
            pages.turn(walk, page)

    async def _found(
        self,
        walk: Walk,
        rows: Sequence[JobRow],
        executions: Sequence[Run],
        open_jobs: set[int],
        absent: dict[int, Absent],
    ) -> Poll:
        """The new jobs of one page, with the executions that started them, and those that were `absent` by id."""
        shown = shown_again(absent, rows)
        fresh, skips = await self._chosen([row for row in walk.take(rows) if row.id not in shown])
        walk.count(fresh)
        open_jobs |= self._still_open(fresh)
        began = from_ms(walk.floor) if fresh else self._clock.now()
        above = await self._executions(executions, [row.id for row in fresh], open_jobs, began)
        again = [row for row in rows if row.id in shown]
        sql = await self._lineage((*again, *fresh))
        seen = self._first_seen(fresh, sql)
        known = [self._observed(row, sql, known=shown[row.id]) for row in again]
        observations = (*above.observations, *known, *seen)
        skips = (*above.skips, *skips, *_skips_of_sql(fresh, sql))
        return replace(above, observations=observations, skips=skips, memory=self._names.memory(fresh))

    def _first_seen(self, rows: Sequence[JobRow], sql: Mapping[str, SqlLineage]) -> list[Observation]:
        history = self._clock.now() - max(OVERLAP, 2 * self._config.poll_interval)
        return [self._observed(row, sql, back_fill=row.ended is not None and row.ended < history) for row in rows]

    async def _executions(
        self, tracked: Sequence[Run], new_jobs: Sequence[int], open_jobs: Collection[int], floor: datetime
    ) -> Poll:
        """Workflow executions that are tracked or started a new job. Without them the jobs go on alone."""
        if not self._config.workflows or not (tracked or new_jobs):
            return Poll()
        try:
            await self._workflows.look(tracked, new_jobs, floor)
        except SourceError as error:
            log.warning("cdf.workflows_unread", extra=fields(source=self._context.source, cause=str(error)))
            return Poll(unread=tuple(run.key for run in tracked))
        parents = {parent.key for job in new_jobs if (parent := self._workflows.parent_of(job)) and parent.key}
        wanted = sorted({run.key for run in tracked} | parents)
        seen = self._workflows.observations(wanted, open_jobs)
        workflows = self._workflows
        return Poll(
            tuple(seen), missing=workflows.gone(tracked), unread=workflows.unread(tracked), skips=workflows.skips()
        )

    async def _chosen(self, rows: Sequence[JobRow]) -> tuple[list[JobRow], tuple[Skip, ...]]:
        """The jobs that include and exclude let through."""
        await self._definitions.know((row.transformation_id for row in rows), needed=not self._choice.is_any)
        chosen, skips = [], []
        for row in rows:
            if row.transformation_id is None and row.external_id is None:
                skips.append(Skip(SkipKind.ROW, f"job {row.id}", "the row does not say which transformation it ran"))
            elif self._choice.takes(*candidates(row, self._definitions.get(row.transformation_id))):
                chosen.append(row)
            else:
                subject = f"transformation {row.external_id or row.transformation_id}"
                skips.append(Skip(SkipKind.FILTERED, subject, "left out by include and exclude"))
        await self._definitions.renew(self._names.contested(chosen))
        return chosen, tuple(skips)

    def _page_of(self, rows: Iterable[JobRow], sql: Mapping[str, SqlLineage], known: Mapping[int, Run]) -> Poll:
        """What is seen of tracked jobs. Observations of an earlier poll that hold again are not even copied."""
        made: list[Observation] = []
        repeated: list[Observation] = []
        for row in rows:
            before = self._unchanged.get(row, self._basis(row, sql, known[row.id]))
            if before is None:
                made.append(self._observed(row, sql, known=known[row.id]))
            else:
                repeated.append(before)
        return Poll(tuple(made), repeated=tuple(repeated), repeated_at=self._clock.now())

    def _basis(self, row: JobRow, sql: Mapping[str, SqlLineage], known: Run | None, back_fill: bool = False) -> _Basis:
        return _Basis(
            known=None if known is None else (known.run_id, known.job),
            definition=self._definitions.get(row.transformation_id),
            lineage=sql.get(row.query or ""),
            parent=self._workflows.parent_of(row.id),
            back_fill=back_fill,
        )

    def _observed(
        self, row: JobRow, sql: Mapping[str, SqlLineage], *, known: Run | None = None, back_fill: bool = False
    ) -> Observation:
        """`sql` holds what is known of queries; `back_fill` marks jobs that had ended long before they were first seen."""
        basis = self._basis(row, sql, known, back_fill)
        if (seen := self._unchanged.get(row, basis)) is not None:
            return replace(seen, seen_at=self._clock.now())
        seen = observe(
            row,
            self._place,
            seen_at=self._clock.now(),
            job_name=known.job.name if known else self._names.name(row, self._called_now),
            definition=basis.definition,
            sql=basis.lineage,
            known=known,
            parent=basis.parent,
            settled=back_fill and not self._config.backfill_metrics,
        )
        seen = self._unchanged.put(row, basis, seen)
        if seen.state.terminal and seen.settled:
            self._settle(row.id)
        return seen

    def _settle(self, job_id: int) -> None:
        """Only executions wait for that, and without them nothing would ever be forgotten."""
        if self._config.workflows:
            self._workflows.settled(job_id)

    def _read(self, rows: Iterable[object]) -> tuple[list[JobRow], tuple[Skip, ...]]:
        """The jobs that can be read, and a skip for all the others. Times that cannot be read are noted."""
        read = [self._rows.read(data) for data in rows]
        jobs = [row for row in read if row is not None]
        for row in jobs:
            self._unread_times.note(f"job {row.id}", row.unread)
        if len(jobs) == len(read):
            return jobs, ()
        cause = f"an answer has {numerals.counted(len(read) - len(jobs), 'row')} without the id of a job"
        return jobs, (Skip(SkipKind.ROW, "jobs", cause),)

    async def _one(self, row: JobRow) -> Observation:
        await self._definitions.know([row.transformation_id], needed=False)
        return self._observed(row, await self._lineage([row]))

    def _called_now(self, transformation_id: int) -> str | None:
        found = self._definitions.get(transformation_id)
        return found.external_id if found else None


def _pace(config: CdfSource, context: Context) -> Pace:
    account = (config.base_url, config.project, config.auth.client_id)
    return shared(context.clock, *account, per_minute=config.requests_per_minute, burst=config.burst)


def _tokens(config: CdfSource, context: Context) -> Tokens:
    asked = config.auth.token_request(config.base_url, config.project)
    credential, client_id = config.auth.credential, config.auth.client_id
    return Tokens(context.http, context.clock, Grant(asked.url, client_id, credential.get, asked.scope, asked.audience))


def _unread_queries(rows: Iterable[JobRow], sql: Mapping[str, SqlLineage]) -> set[str]:
    return {row.query for row in rows if row.query} - sql.keys()


def _by_job_id(runs: Iterable[Run]) -> dict[int, Run]:
    return {job_id: run for run in runs if (job_id := integer(run.key)) is not None}


def _skips_of_sql(rows: Iterable[JobRow], sql: Mapping[str, SqlLineage]) -> Iterator[Skip]:
    for row in rows:
        yield from sql_skips(row, sql.get(row.query or ""))
