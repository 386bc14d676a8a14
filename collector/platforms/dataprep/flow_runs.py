"""Runs of whole flows, the parents of the runs that they start. Their state is that of their job groups: the platform's
own word for it has no "in progress".
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cachetools import TTLCache

from collector.errors import BadAnswer, Unavailable
from collector.model import Facts, Job, Observation, Parent, Run, RunState, Skip, SkipKind
from collector.platforms.answers import moment
from collector.platforms.dataprep import groups, rows, states
from collector.platforms.dataprep.api import Api
from collector.platforms.dataprep.definitions import TRIES, Definitions, kept
from collector.platforms.dataprep.levels import Deployment, Optional
from collector.platforms.dataprep.observations import FLOW_RUN, Place
from collector.platforms.dataprep.rows import Group
from collector.platforms.unread_times import UnreadTimes, unread_times

LOOKED_AT_EVERY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class FlowRun:
    key: str
    flow: str
    name: str
    created_at: datetime | None


class FlowRuns:
    """Reads flow runs of one deployment, where it has them."""

    def __init__(
        self,
        api: Api,
        deployment: Deployment,
        definitions: Definitions,
        place: Place,
        monotonic: Callable[[], float],
        unread: UnreadTimes,
    ) -> None:
        self._api, self._deployment, self._definitions, self._place = api, deployment, definitions, place
        self._known: TTLCache[str, FlowRun] = kept(monotonic)
        self._unread = unread
        self._failures: TTLCache[str, int] = kept(monotonic)

    async def of(self, group: Group, job: Job) -> FlowRun | None:
        """The flow run that started this group, if it can be found and its name matches the run's. One that cannot be read
        again and again is no parent, so that it does not hold up its runs.
        """
        if group.flow_run is None or not self._deployment.has(Optional.FLOW_RUNS):
            return None
        try:
            found = self._known.get(group.flow_run) or await self._read(group.flow_run)
        except (BadAnswer, Unavailable) as error:
            failures = self._failures[group.flow_run] = self._failures.get(group.flow_run, 0) + 1
            if failures < TRIES:
                raise
            cause = f"job group {group.key} goes without it as its parent: {error}"
            self._unread.skip(Skip(SkipKind.ROW, f"flow run {group.flow_run}", cause))
            return None
        if found is None or not job.name.startswith(self._place.flow_job(found.flow, found.name).name + "."):
            return None
        return found

    async def _read(self, key: str) -> FlowRun | None:
        body, _ = await self._deployment.ask(Optional.FLOW_RUNS, "flowRuns", key)
        known = body if isinstance(body, dict) else {}
        flow = rows.number(known["flow"].get("id")) if isinstance(known.get("flow"), dict) else None
        name = await self._definitions.flow_name(flow) if flow else None
        if flow is None or name is None:
            return None
        self._unread.note(f"flow run {key}", unread_times(known, "createdAt"))
        found = self._known[key] = FlowRun(key, flow, name, moment(known.get("createdAt")))
        return found

    def parent(self, found: FlowRun) -> Parent:
        return self._place.flow_parent(found.key, self._place.flow_job(found.flow, found.name))

    def begun(self, found: FlowRun, seen_at: datetime) -> Observation:
        """It runs as soon as one of its runs exists."""
        key = FLOW_RUN + found.key
        return Observation(
            key=key,
            run_id=self._place.run_id(key),
            job=self._place.flow_job(found.flow, found.name),
            state=RunState.RUNNING,
            raw_state=None,
            seen_at=seen_at,
            queued_at=found.created_at,
            started_at=found.created_at,
            facts=Facts(nominal_start=found.created_at, ids={"flowRun": found.key, "flow": found.flow}),
            settled=True,
        )

    async def look(self, run: Run, seen_at: datetime) -> Observation:
        """A tracked flow run none of whose runs is open any more. Raises NotFound, and `BadAnswer` where any of its runs cannot
        be read: that one may go on, or have failed.
        """
        key = run.key.removeprefix(FLOW_RUN)
        body = await self._api.get("flowRuns", key, "jobGroups")
        if not isinstance(body, dict) or not isinstance(body.get("data"), list):
            raise BadAnswer(f"GET /v4/flowRuns/{key}/jobGroups: the answer has no list `data`")
        found = [groups.understood(row, key) for row in body["data"]]
        state = combined(found)
        if not state.terminal:
            return _still_open(run, seen_at)
        ends = [group.updated_at for group in found if group.updated_at is not None]
        raw_state = next(group.status for group in found if states.state_of(group.status) is state)
        ended_at = min(max(ends), self._api.latest(seen_at)) if ends else None
        still_open = _still_open(run, seen_at)
        return replace(still_open, state=state, raw_state=raw_state, ended_at=ended_at, due_at=None, settled=True)


def combined(found: Iterable[Group]) -> RunState:
    """Failed or canceled as soon as all ended and one of them did so; running while there is none."""
    reached = [states.state_of(group.status) for group in found]
    if not reached or not all(state.terminal for state in reached):
        return RunState.RUNNING
    return next((bad for bad in (RunState.FAILED, RunState.CANCELED) if bad in reached), RunState.SUCCEEDED)


def has_open_runs(run: Run, tracked: Sequence[Run]) -> bool:
    key = run.key.removeprefix(FLOW_RUN)
    return any(other.handle.get("flowRun") == key for other in tracked)


def _still_open(run: Run, seen_at: datetime) -> Observation:
    return Observation(
        key=run.key,
        run_id=run.run_id,
        job=run.job,
        state=RunState.RUNNING,
        raw_state=run.raw_state,
        seen_at=seen_at,
        due_at=seen_at + LOOKED_AT_EVERY,
    )
