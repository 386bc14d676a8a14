"""One poll: turns the groups that a walk brings into observations, within a budget of further requests."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from collector.clock import Clock, to_ms
from collector.errors import AuthFailed, BadAnswer, NotFound, SourceError, Throttled, Unavailable
from collector.model import Job, Observation, Parent, Poll, Run, RunState, Skip, SkipKind
from collector.platforms.answers import Forbidden
from collector.platforms.base import Choice
from collector.platforms.dataprep import groups, observations, run_lists, states
from collector.platforms.dataprep.api import Api, NoSuchPath
from collector.platforms.dataprep.definitions import Definitions
from collector.platforms.dataprep.flow_runs import FlowRuns, has_open_runs
from collector.platforms.dataprep.levels import Deployment, Optional, token_works
from collector.platforms.dataprep.observations import FLOW_RUN, STAGE, Place
from collector.platforms.dataprep.rows import Group
from collector.platforms.unread_times import UnreadTimes
from collector.platforms.watermark import Early

ONE_BY_ONE = 20
"""Groups whose stages are read by a request each in one poll; beyond, a run counts as queued until the next."""
WORTH_A_LIST = 5
"""From so many groups on it is cheaper to read the newest hundred with all their stages."""
AT_ONCE = 4
FAILURES = 3
"""After so many failures before anything was read the deployment is down, and not only some runs unreadable."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a poll works with. `stage_runs` makes runs of stages; `patience` is how long single reads may take, in seconds."""

    api: Api
    deployment: Deployment
    definitions: Definitions
    flow_runs: FlowRuns
    place: Place
    clock: Clock
    choice: Choice
    stage_runs: bool
    patience: float
    unread_times: UnreadTimes
    early: Early = field(default_factory=Early)
    failing: set[str] = field(default_factory=set)
    """Tracked runs whose last single read failed: they are read after all others."""


@dataclass(slots=True)
class Cycle:
    """The state of one poll. `since_ms` separates new rows from those of an earlier poll; ended runs that were made
    before `oldest_ms` are history, whatever changed in them: every edit moves a run's `updatedAt`.
    """

    parts: Parts
    tracked: Sequence[Run]
    since_ms: int
    oldest_ms: int = 0
    reported: set[str] = field(default_factory=set)
    budget: int = ONE_BY_ONE
    known: dict[str, Run] = field(default_factory=dict)
    parents: set[str] = field(default_factory=set)
    wanted: int = 0
    listed: dict[str, Group] = field(default_factory=dict)
    list_walk: AsyncGenerator[run_lists.Page, None] | None = None
    list_pages: int = 0
    list_passed: int | None = None

    def __post_init__(self) -> None:
        self.known = {run.key: run for run in self.tracked}
        self.budget = ONE_BY_ONE * (10 if self.parts.stage_runs else 1)

    async def page(self, found: Iterable[Group], skips: Sequence[Skip] = ()) -> Poll:
        """The observations of some groups; reads what they lack."""
        found = list(found)
        kept, left_out = self._lineage(found)
        kept = await self._completed(kept)
        seen: list[Observation] = []
        for group in kept:
            observed, skip = await self._observed(group)
            seen += observed
            left_out += [skip] if skip else []
        for group in (*found, *kept):
            self._note_times(group)
        early = self.parts.early.count(((_named(group), _dated(group)) for group in found), self.parts.api.clocks)
        return Poll(tuple(seen), skips=(*skips, *early, *left_out))

    def _lineage(self, found: Iterable[Group]) -> tuple[list[Group], list[Skip]]:
        """Without previews, samples and rows without a recipe; those are reported once, when they are new."""
        kept: list[Group] = []
        skips: list[Skip] = []
        for group in found:
            if group.ranfor in states.NOT_LINEAGE:
                cause = f"a run for {group.ranfor} is not a run of a job"
                skips += [Skip(SkipKind.FILTERED, _named(group), cause)] if self._is_new(group) else []
            elif group.recipe is None and group.key not in self.known:
                skips += [Skip(SkipKind.ROW, _named(group), "names no recipe")] if self._is_new(group) else []
            elif self._is_history(group):
                cause = "changed, but it had ended before the time that is watched"
                skips += [Skip(SkipKind.FILTERED, _named(group), cause)] if self._is_new(group) else []
            else:
                kept.append(group)
        return kept, skips

    def _is_history(self, group: Group) -> bool:
        if group.key in self.known or group.created_at is None:
            return False
        return states.state_of(group.status).terminal and to_ms(group.created_at) < self.oldest_ms

    def _is_new(self, group: Group) -> bool:
        is_later = group.updated_at is None or to_ms(group.updated_at) > self.since_ms
        return is_later and not self.parts.early.knows(_named(group), _dated(group))

    async def _observed(self, group: Group) -> tuple[list[Observation], Skip | None]:
        parts, run = self.parts, self.known.get(group.key)
        job = (
            run.job
            if run is not None
            else parts.place.recipe_job(group.recipe or "unknown", await parts.definitions.names(group))
        )
        if run is None and not parts.choice.takes(job.name, job.name.removeprefix("recipe/"), job.key):
            skip = Skip(SkipKind.FILTERED, _named(group), f"job {job.name} is not chosen by include and exclude")
            return [], skip if self._is_new(group) else None
        now = parts.clock.now()
        parent, before = (run.parent, []) if run is not None else await self._parent(group, job, now)
        seen = observations.observation(parts.place, group, job, now, latest=parts.api.latest(now), parent=parent)
        self.reported.add(group.key)
        return [*before, *self._with_stages(group, seen)], None

    def _with_stages(self, group: Group, seen: Observation) -> list[Observation]:
        """With stages as runs, a group that ended is reported to have begun first, so that its START goes before theirs."""
        if not self.parts.stage_runs or group.stages is None or not self._is_followed(group):
            return [seen]
        rows = states.first_life(group.stages, group.updated_at)
        latest = self.parts.api.latest(seen.seen_at)
        stages = observations.stage_observations(self.parts.place, group, seen, rows, latest)
        self.reported |= {stage.key for stage in stages}
        if not seen.state.terminal or not stages:
            return [seen, *stages]
        return [replace(seen, state=RunState.RUNNING, ended_at=None), *stages, seen]

    def _is_followed(self, group: Group) -> bool:
        return group.key in self.known or self._is_new(group)

    async def _parent(self, group: Group, job: Job, now: datetime) -> tuple[Parent | None, list[Observation]]:
        """The flow run behind a run that is new, and the observation that makes it known before its runs."""
        found = await self.parts.flow_runs.of(group, job)
        if found is None:
            return None, []
        key = FLOW_RUN + found.key
        if key in self.known or key in self.parents or not self._is_new(group):
            return self.parts.flow_runs.parent(found), []
        self.parents.add(key)
        return self.parts.flow_runs.parent(found), [self.parts.flow_runs.begun(found, now)]

    def _lacks_stages(self, group: Group) -> bool:
        if group.stages is not None:
            return False
        run, state = self.known.get(group.key), states.state_of(group.status)
        if self.parts.stage_runs and self._is_followed(group):
            return state.began
        return state is RunState.RUNNING and (run is None or run.began_at is None)

    async def _completed(self, found: list[Group]) -> list[Group]:
        """The groups with their stages, where a START depends on them and the budget allows. Of those beyond the budget the
        tracked ones are left out: they are read alone at the end of the poll, the one that waits longest first.
        """
        lacking = {group.key: group for group in found if self._lacks_stages(group)}
        self.wanted += len(lacking)
        full = await self._from_lists(lacking)
        singly = [key for key in lacking if key not in full]
        full |= await self._singly(singly)
        later = self.known.keys() & singly
        return [full.get(group.key, group) for group in found if group.key not in later]

    async def _from_lists(self, lacking: Mapping[str, Group]) -> dict[str, Group]:
        """As the list of this poll has them, which is read on for many of them."""
        if len(lacking) >= WORTH_A_LIST and self.parts.deployment.has(Optional.LIST):
            await self._list_until(lacking)
        return {key: merged for key, group in lacking.items() if (merged := self._from_list(group)) is not None}

    async def _singly(self, keys: list[str]) -> dict[str, Group]:
        """As many of the groups as the budget allows, by a request each; `keys` keeps those that are beyond it."""
        read: dict[str, Group] = {}
        while keys and self.budget > 0:
            self.budget -= 1
            one = await self._one(key := keys.pop(0))
            if one is not None:
                read[key] = one
        return read

    def _from_list(self, group: Group) -> Group | None:
        """The group as the list of this poll has it; its newer state stays."""
        listed = self.listed.get(group.key)
        if listed is None or listed.stages is None:
            return None
        if group.updated_at is None or listed.updated_at is None or listed.updated_at >= group.updated_at:
            return listed
        return None if self.parts.stage_runs else replace(listed, status=group.status, updated_at=group.updated_at)

    async def _list_until(self, wanted: Mapping[str, Group]) -> None:
        """Read on in the list of the newest runs, as long as that is cheaper than to read the wanted ones singly."""
        if self.list_walk is None:
            self.list_walk = run_lists.newest(self.parts.api, self.parts.deployment)
        lowest = min(map(int, wanted))
        while not wanted.keys() <= self.listed.keys() and self.list_pages * WORTH_A_LIST < self.wanted:
            if self.list_passed is not None and self.list_passed <= lowest:
                return
            page = await _next_page(self.list_walk)
            if page is None:
                self.list_passed = 0
                return
            self._take(page)

    def _take(self, page: run_lists.Page) -> None:
        self.list_pages += 1
        self.listed |= {group.key: group for group in page.groups}
        self.list_passed = min((int(group.key) for group in page.groups), default=0) if page.ordered else None
        for group in page.groups:
            self.parts.definitions.learn(group)

    async def close(self) -> None:
        if self.list_walk is not None:
            await self.list_walk.aclose()

    async def _one(self, key: str) -> Group | None:
        """None where it cannot be read just now: the run is looked at again in the next poll."""
        try:
            return await groups.read(self.parts.api, self.parts.deployment, key)
        except (NotFound, Forbidden):
            return None
        except (BadAnswer, Unavailable):
            self.budget -= ONE_BY_ONE // 2
            return None

    async def alone(self, runs: Sequence[Run]) -> AsyncIterator[Poll]:
        """Tracked runs, read by a request each, the first ones first, until the time for it is over. Raises, after what
        was read, when the deployment seems to be down: several failures before anything was read, or nothing but failures.
        Runs that cannot be read, or that the token may not see, hold up no others.
        """
        failures, until = _Failures(), self.parts.clock.monotonic() + self.parts.patience
        runs = sorted(runs, key=lambda run: run.key in self.parts.failing)
        for start in range(0, len(runs), AT_ONCE):
            if start and self.parts.clock.monotonic() >= until:
                return
            batch = runs[start : start + AT_ONCE]
            results = await asyncio.gather(*map(self._read_alone, batch))
            self._note_failing(batch, results)
            yield _page(batch, results)
            for result in results:
                failures.note(result)
        failures.close(len(runs))

    def _note_failing(self, runs: Sequence[Run], results: Sequence[object]) -> None:
        failed = {run.key for run, result in zip(runs, results, strict=True) if isinstance(result, SourceError)}
        self.parts.failing.difference_update(run.key for run in runs)
        self.parts.failing.update(failed)
        self.parts.failing.intersection_update(self.known)

    async def _read_alone(self, run: Run) -> list[Observation] | SourceError | None:
        """What the run says; None where the platform says that it has no such run."""
        self.reported.add(run.key)
        try:
            return await self._looked(run)
        except NoSuchPath as error:
            self.parts.deployment.suspect()
            return error
        except NotFound:
            return None
        except Forbidden as error:
            # a matter of rights, not of existence: the owner of the token may have lost the run's flow
            return error if await token_works(self.parts.api) else AuthFailed(str(error))
        except SourceError as error:
            return error

    async def _looked(self, run: Run) -> list[Observation]:
        parts = self.parts
        if run.key.startswith(FLOW_RUN):
            return [await parts.flow_runs.look(run, parts.clock.now())]
        status = await groups.read_status(parts.api, run.key)
        state = states.state_of(status)
        if (state is RunState.RUNNING and run.began_at is None) or (state.began and parts.stage_runs):
            group = await groups.read(parts.api, parts.deployment, run.key)
            self._note_times(group)
            now, alone = parts.clock.now(), observations.is_alone(run)
            seen = observations.observation(
                parts.place, group, run.job, now, latest=parts.api.latest(now), parent=run.parent, alone=alone
            )
            return self._with_stages(group, seen)
        return [observations.unchanged(run, status, parts.clock.now())]

    def _note_times(self, group: Group) -> None:
        self.parts.unread_times.note(_named(group), group.all_unread)

    def due_alone(self, *, every: bool) -> list[Run]:
        """Tracked runs that this poll must still read one by one: `every` of them where there is no list."""
        return [run for run in self.tracked if run.key not in self.reported and self._must_look(run, every=every)]

    def _must_look(self, run: Run, *, every: bool) -> bool:
        if run.key.startswith(STAGE):
            return False
        if run.key.startswith(FLOW_RUN):
            return self.parts.deployment.has(Optional.FLOW_RUNS) and not has_open_runs(run, self.tracked)
        asked = every or run.misses > 0 or observations.is_alone(run) or observations.is_waiting_for_details(run)
        return asked or (self.parts.stage_runs and run.state is RunState.RUNNING)

    def orphans(self) -> tuple[str, ...]:
        """Stages that are runs of their own and whose group is no longer open: their end will not be reported."""
        return tuple(
            run.key
            for run in self.tracked
            if run.key.startswith(STAGE) and run.key not in self.reported and run.handle.get("group") not in self.known
        )


@dataclass(slots=True)
class _Failures:
    """What came of single reads: failures, refusals of the platform, and the last of both."""

    read: int = 0
    failed: int = 0
    refused: int = 0
    last: SourceError | None = None

    def note(self, result: object) -> None:
        """Raises the failure after which no further run is worth a request."""
        if isinstance(result, Forbidden):
            self.refused, self.last = self.refused + 1, result
        elif isinstance(result, SourceError):
            self.failed, self.last = self.failed + 1, result
            is_down = self.failed >= FAILURES and not self.read
            if is_down or isinstance(result, Throttled | AuthFailed):
                raise result
        else:
            self.read += 1

    def close(self, reads: int) -> None:
        """Raises the last failure where no read succeeded."""
        if self.last is not None and self.failed + self.refused == reads:
            raise self.last


async def _next_page(walk: AsyncGenerator[run_lists.Page, None]) -> run_lists.Page | None:
    """None at the end of the list, and where it cannot be read on."""
    try:
        return await anext(walk, None)
    except (NotFound, Forbidden, BadAnswer):
        return None


def _named(group: Group) -> str:
    return f"job group {group.key}"


def _dated(group: Group) -> int:
    return max((to_ms(at) for at in (group.created_at, group.updated_at) if at is not None), default=0)


def _page(runs: Sequence[Run], results: Sequence[list[Observation] | SourceError | None]) -> Poll:
    read = list(zip(runs, results, strict=True))
    return Poll(
        tuple(seen for _, result in read if isinstance(result, list) for seen in result),
        missing=tuple(run.key for run, result in read if result is None),
        unread=tuple(run.key for run, result in read if isinstance(result, SourceError)),
        skips=tuple(
            Skip(SkipKind.ROW, f"job group {run.key}", f"{result}; it is asked for again")
            for run, result in read
            if isinstance(result, SourceError)
        ),
    )
