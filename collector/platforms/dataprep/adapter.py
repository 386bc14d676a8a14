"""Google Cloud Dataprep by Trifacta as a platform."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from math import ceil

from collector.clock import from_ms, to_ms
from collector.errors import BadAnswer, NotFound, SourceError
from collector.logs import fields
from collector.model import Enrichment, Job, Observation, Parent, Poll, Run, RunState
from collector.platforms.answers import Forbidden
from collector.platforms.base import Choice, Context, Finding, Load
from collector.platforms.dataprep import cursor as cursors
from collector.platforms.dataprep import groups, observations, run_lists, states
from collector.platforms.dataprep import trigger as dataprep_trigger
from collector.platforms.dataprep.api import Api, Refused
from collector.platforms.dataprep.check import findings
from collector.platforms.dataprep.cursor import Cursor
from collector.platforms.dataprep.cycle import Cycle, Parts
from collector.platforms.dataprep.definitions import Definitions
from collector.platforms.dataprep.enrichment import Enricher
from collector.platforms.dataprep.flow_runs import FlowRuns
from collector.platforms.dataprep.levels import Deployment, Level
from collector.platforms.dataprep.observations import Place
from collector.platforms.dataprep.rows import Group
from collector.platforms.dataprep.trigger import Starter
from collector.platforms.rate_limit import shared
from collector.platforms.unread_times import UnreadTimes
from collector.platforms.watermark import SLACK_MS, Clocks, newest
from config.sources import DataprepSource

log = logging.getLogger("lineage.dataprep")

OVERLAP_MS = 120_000
"""What changed so shortly before the last change is read again: clocks differ and commits come late."""
SETTLED_OVERLAP_MS = 1_000
"""Enough when nothing has changed for longer than that: dates may be in whole seconds."""
SWEEP_MS = 300_000
"""Between two looks at all that is in flight: a run that vanished changes no list of changes."""
SWEPT_ONE_BY_ONE = 100
FIRST_MARGIN_MS = 86_400_000
"""A list by creation shows a run only from its creation on: the first look goes back a day further."""
PER_END = 4
"""Requests per run: its stages when it begins; group, inputs and outputs when it ended."""
KNOWN_MS = 7 * 86_400_000
"""A run that ended, and was made so long before the last look, was reported then and may be forgotten since."""

_FIND_NUMBER = "take it from the left column of the Jobs page"


def create(settings: DataprepSource, context: Context) -> "DataprepPlatform":
    return DataprepPlatform(settings, context)


class DataprepPlatform:
    """One workspace. See `levels` for what the deployment lets us see."""

    takes_execution_ids = True
    reads_again = timedelta(milliseconds=KNOWN_MS)

    def __init__(self, settings: DataprepSource, context: Context) -> None:
        self._settings, self._context, self._clock = settings, context, context.clock
        credential, url = settings.credential, settings.base_url
        limit, burst = settings.requests_per_minute, settings.burst
        pace = shared(context.clock, url, credential.get(), per_minute=limit, burst=burst)
        self._api = Api(context.http, url, credential.get, context.clock, pace, settings.timeout.total_seconds())
        self._deployment = Deployment(self._api, context.source, context.clock.monotonic)
        self._unread_times = UnreadTimes()
        self._definitions = Definitions(self._api, self._deployment, context.clock.monotonic, self._unread_times)
        place = Place(settings.address, settings.workspace, context.namespace)
        self._parts = Parts(
            api=self._api,
            deployment=self._deployment,
            definitions=self._definitions,
            flow_runs=FlowRuns(
                self._api, self._deployment, self._definitions, place, context.clock.monotonic, self._unread_times
            ),
            place=place,
            clock=context.clock,
            choice=Choice(settings.include, settings.exclude),
            stage_runs=settings.stages == "runs",
            patience=min(settings.poll_interval, settings.poll_within / 2).total_seconds(),
            unread_times=self._unread_times,
        )
        self._enricher = Enricher(self._api, self._deployment, self._definitions, context.namespace, self._unread_times)
        self._starter = Starter(self._api, self._deployment, context.clock)

    async def poll(self, tracked: Sequence[Run], cursor: str | None) -> AsyncIterator[Poll]:
        level = await self._deployment.level()
        mark, first = self._mark(cursor, self._api.clocks)
        try:
            async for page in self._walked(level, tracked, mark, first=first):
                yield self._unread_times.added(page)
        except (NotFound, Forbidden):
            self._deployment.suspect()
            if await self._deployment.level() is level:
                raise
            async for page in self._walked(await self._deployment.level(), tracked, mark, first=first):
                yield self._unread_times.added(page)

    def _mark(self, cursor: str | None, clocks: Clocks) -> tuple[Cursor, bool]:
        """Where to read on, and whether that is a first look."""
        begin = to_ms(self._settings.first_look(from_ms(min(clocks.server, clocks.ours))))
        stored = cursors.read(cursor)
        if stored is None:
            return Cursor(begin, reached=clocks.ours, first=begin), True
        mark = stored.as_of(clocks)
        if stored.first > clocks.latest + SLACK_MS:
            self._log_discarded("the look-back began in the future: it begins again")
            begin = min(begin, mark.since)
            return replace(mark, since=begin, first=begin, settled=False), True
        if mark.since < stored.since:
            said = from_ms(mark.since).isoformat(timespec="seconds")
            self._log_discarded(f"the last change read is dated beyond the platform's clock: it is read on from {said}")
        return mark, False

    def _log_discarded(self, cause: str) -> None:
        log.warning("dataprep.cursor_discarded", extra=fields(source=self._context.source, cause=cause))

    async def _walked(self, level: Level, tracked: Sequence[Run], mark: Cursor, *, first: bool) -> AsyncIterator[Poll]:
        oldest = max(mark.first - FIRST_MARGIN_MS, max(mark.since, mark.swept) - KNOWN_MS)
        cycle = Cycle(self._parts, tracked, 0 if first else mark.since, oldest)
        if level is Level.L2:
            pages = self._library(cycle, mark)
        elif level is Level.L1:
            pages = self._list(cycle, mark, first=first)
        else:
            pages = self._single(cycle)
        try:
            async for page in pages:
                yield page
        finally:
            await cycle.close()

    async def _library(self, cycle: Cycle, mark: Cursor) -> AsyncIterator[Poll]:
        """What changed; now and then all that is in flight; and single runs that no list shows."""
        since = mark.back(SETTLED_OVERLAP_MS if mark.settled else OVERLAP_MS)
        highest, now_ms, whole = mark.since, to_ms(self._clock.now()), True
        try:
            async for page in run_lists.changed(self._api, since):
                highest = max(highest, self._latest(page))
                seen = await cycle.page(page.groups, page.skips)
                if not page.last:
                    reached = mark.moved(min(page.safe_ms or since, highest), now_ms, self._api.clocks)
                    yield replace(seen, cursor=reached.text())
                elif seen != Poll():
                    yield seen
        except (run_lists.Unordered, Refused):
            async for page in run_lists.changed_in_any_order(self._api, since):
                highest, whole = max(highest, self._latest(page)), page.whole
                yield await cycle.page(page.groups, page.skips)
        if whole:
            mark = self._after_changes(mark, highest, now_ms)
        async for rest in self._beyond_changes(cycle, mark, now_ms):
            yield rest

    def _after_changes(self, mark: Cursor, highest: int, now_ms: int) -> Cursor:
        after = mark.moved(highest, now_ms, self._api.clocks)
        return after.looked_back(OVERLAP_MS, now_ms) if after.since >= mark.since else after

    async def _beyond_changes(self, cycle: Cycle, mark: Cursor, now_ms: int) -> AsyncIterator[Poll]:
        if now_ms - mark.swept >= SWEEP_MS:
            async for seen in self._sweep(cycle):
                yield seen
            mark = replace(mark, swept=now_ms)
        yield Poll(cursor=mark.text(), missing=cycle.orphans())
        async for beside in _beside(cycle, every=False):
            yield beside

    def _latest(self, page: run_lists.Page) -> int:
        """The newest change on the page, by the platform's clock."""
        times = [to_ms(group.updated_at) for group in page.groups if group.updated_at is not None]
        return newest(times, self._api.clocks)

    async def _sweep(self, cycle: Cycle) -> AsyncIterator[Poll]:
        """Runs in flight that the changes did not show, and tracked ones that are in flight no more."""
        present: set[str] = set()
        for status in states.IN_FLIGHT:
            async for page in run_lists.in_status(self._api, status):
                if not _has_only(status, page):
                    break
                present |= _keys(page)
                unknown = [group for group in page.groups if _is_unreported(cycle, group)]
                # an empty one, too, shows that the poll goes on
                yield await cycle.page(unknown, page.skips) if unknown or page.skips else Poll()
        lost = _lost(cycle, present)[:SWEPT_ONE_BY_ONE]
        marked = [replace(run, handle={**run.handle, observations.ALONE: "yes"}) for run in lost]
        async for seen in cycle.alone(marked):
            yield seen

    async def _list(self, cycle: Cycle, mark: Cursor, *, first: bool) -> AsyncIterator[Poll]:
        """The newest runs back to those that were known, and further while open runs are among them."""
        since, changed_since = (mark.since - FIRST_MARGIN_MS, mark.since) if first else (mark.back(OVERLAP_MS), 0)
        highest, whole, now_ms = mark.since, True, to_ms(self._clock.now())
        wanted = {run.key for run in _groups(cycle)}
        async for page in run_lists.newest(self._api, self._deployment):
            created = _created(page)
            highest, whole = max(highest, newest(created, self._api.clocks)), page.whole
            # an empty one, too, shows that the poll goes on
            yield await cycle.page(_concerned(cycle, page, since, changed_since), page.skips)
            present = _keys(page)
            is_past = page.ordered and min(created, default=since) < since
            if is_past and _is_decided(wanted, present):
                break
            wanted -= present
        mark = mark.moved(highest, now_ms, self._api.clocks) if whole else mark
        yield Poll(cursor=mark.text(), missing=cycle.orphans())
        async for beside in _beside(cycle, every=True):
            yield beside

    async def _single(self, cycle: Cycle) -> AsyncIterator[Poll]:
        """Without a list there is only one request per run."""
        async for seen in cycle.alone(cycle.due_alone(every=True)):
            yield seen
        yield Poll(missing=cycle.orphans())

    async def enrich(self, run: Run) -> Enrichment:
        await self._deployment.level()
        return await self._enricher.enrich(run)

    async def trigger(self, job: str, parameters: Mapping[str, str], token: str) -> Observation:
        """Start the recipe `job` (`7` or `recipe/7`). Parameters that begin with `overrides.` change settings of the run."""
        recipe = dataprep_trigger.recipe_id(job)
        key = await self._starter.start(recipe, parameters, token)
        given = tuple(parameters.items())
        try:
            return await self._watched(key, given, recipe=recipe)
        except SourceError:
            return self._just_started(key, recipe, given)

    def _just_started(self, key: str, recipe: str, parameters: tuple[tuple[str, str], ...]) -> Observation:
        """It runs, whatever the first look at it says."""
        group = Group(key, "Created", recipe, None, None)
        job = self._parts.place.recipe_job(recipe, self._definitions.known_names(recipe))
        return self._alone(group, job, parameters=parameters)

    async def watch(self, key: str, options: Mapping[str, str]) -> Observation:
        if not key.isascii() or not key.isdigit():
            raise NotFound(f"{key!r} is not the number of a job group: {_FIND_NUMBER}")
        try:
            return await self._watched(str(int(key)), ())
        except NotFound as error:
            raise NotFound(f"{error}; there is no such run, or it was deleted: {_FIND_NUMBER}") from error
        except Forbidden as error:
            raise Forbidden(f"{error}; have the token's user allowed to see its flow") from error

    async def _watched(
        self, key: str, parameters: tuple[tuple[str, str], ...], *, recipe: str | None = None
    ) -> Observation:
        """`recipe` is the one that was started; without it the platform has to name it."""
        await self._deployment.level()
        group = await groups.read(self._api, self._deployment, key)
        if (named := group.recipe or recipe) is None:
            raise BadAnswer(
                f"job group {key} names no recipe, so its job is not known; try again when the run has begun"
            )
        group = replace(group, recipe=named)
        names = await self._definitions.names(group)
        job = self._parts.place.recipe_job(named, names)
        found = await self._parts.flow_runs.of(group, job)
        parent = self._parts.flow_runs.parent(found) if found else None
        return self._alone(group, job, parent=parent, parameters=parameters)

    def _alone(
        self, group: Group, job: Job, *, parent: Parent | None = None, parameters: tuple[tuple[str, str], ...]
    ) -> Observation:
        now = self._clock.now()
        latest = self._api.latest(now)
        return observations.observation(
            self._parts.place, group, job, now, latest=latest, parent=parent, parameters=parameters, alone=True
        )

    async def check(self) -> list[Finding]:
        self._deployment.suspect()
        return await findings(self._api, self._deployment, self._settings)

    def load(self, watched: Mapping[RunState, int]) -> Load | None:
        """What the level takes: a list for all runs, or a request for each."""
        level, settings, runs = self._deployment.known_level, self._settings, sum(watched.values())
        if level is None:
            return None
        limit, interval = settings.requests_per_minute, settings.poll_interval.total_seconds()
        if level is Level.L0:
            every = observations.GROWN_EVERY.total_seconds()
            note = "this edition lists no runs, so each is read by itself, young ones more often"
            return Load(runs, 0, runs, every, limit, setting=None, each_end=PER_END, note=note)
        swept = len(states.IN_FLIGHT) * interval / (SWEEP_MS / 1000) if level is Level.L2 else 0.0
        pages = swept + max(1, ceil(runs / run_lists.PAGE) if level is Level.L1 else 1)
        reads = 2 * watched.get(RunState.RUNNING, 0) if settings.stages == "runs" else 0
        return Load(runs, pages, reads, interval, limit, each_end=PER_END, note=f"level {level.value}")

    async def close(self) -> None:
        await self._context.http.close()


def _is_decided(wanted: set[str], present: set[str]) -> bool:
    """Whether a page shows all of the open runs that are still wanted, or none of them."""
    return wanted <= present or wanted.isdisjoint(present)


def _keys(page: run_lists.Page) -> set[str]:
    return {group.key for group in page.groups}


def _groups(cycle: Cycle) -> list[Run]:
    """The tracked runs that are job groups: stages and flow runs have a `/` in their key."""
    return [run for run in cycle.tracked if "/" not in run.key]


def _is_unreported(cycle: Cycle, group: Group) -> bool:
    known = cycle.known.get(group.key)
    return group.key not in cycle.reported and (known is None or known.raw_state != group.status)


def _has_only(status: str, page: run_lists.Page) -> bool:
    """False where the deployment does not filter by the status as it was asked to."""
    return all(group.status == status for group in page.groups)


def _created(page: run_lists.Page) -> list[int]:
    return [to_ms(group.created_at) for group in page.groups if group.created_at is not None]


def _lost(cycle: Cycle, present: set[str]) -> list[Run]:
    return [run for run in _groups(cycle) if run.key not in cycle.reported and run.key not in present]


def _concerned(cycle: Cycle, page: run_lists.Page, since: int, changed_since: int) -> list[Group]:
    return [group for group in page.groups if _concerns(cycle, group, since, changed_since)]


def _concerns(cycle: Cycle, group: Group, since: int, changed_since: int) -> bool:
    """Open runs that are tracked, and runs created since then; of those that ended, the ones that changed lately."""
    if group.key in cycle.known or group.created_at is None:
        return True
    if to_ms(group.created_at) < since:
        return False
    is_open = not states.state_of(group.status).terminal
    return is_open or group.updated_at is None or to_ms(group.updated_at) >= changed_since


async def _beside(cycle: Cycle, *, every: bool) -> AsyncIterator[Poll]:
    """Single runs after a walk, in pages of their own: their trouble must not undo what the walk found."""
    runs = cycle.due_alone(every=every)
    if runs:
        yield Poll()
    async for seen in cycle.alone(runs):
        yield seen
