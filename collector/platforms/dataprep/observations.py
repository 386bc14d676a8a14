"""A job group, a stage or a flow run as an observation: pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

from collector import names
from collector.model import Facts, Job, Observation, Parent, Run, RunState
from collector.platforms.dataprep import states
from collector.platforms.dataprep.definitions import RecipeNames
from collector.platforms.dataprep.rows import Group, StageRow

INTEGRATION = "DATAPREP"
ERROR_LANGUAGE = "Wrangle"
"""What recipes are written in."""
FLOW_RUN = "flowRuns/"
STAGE = "jobs/"
ALONE = "alone"
"""Key of a run's handle: read it by itself, no list showed it yet."""

YOUNG, GROWN = timedelta(minutes=1), timedelta(minutes=10)
YOUNG_EVERY, GROWING_EVERY, GROWN_EVERY = timedelta(seconds=5), timedelta(seconds=15), timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the runs are: what makes their ids unique, and the namespace of their jobs."""

    base_url: str
    workspace: str
    namespace: str

    def run_id(self, key: str) -> UUID:
        """The id of a job group, or of `flowRuns/{id}` and `jobs/{id}`: numbers repeat on other hosts and workspaces."""
        path = key if "/" in key else f"jobGroups/{key}"
        return uuid5(NAMESPACE_URL, f"{self.base_url.lower()}/{self.workspace}/{path}")

    def link(self, group: str) -> str | None:
        """The run's page in the vendor's user interface, which is known for the vendor's own host only."""
        known = urlsplit(self.base_url).hostname == "api.clouddataprep.com"
        return f"https://clouddataprep.com/jobs/{group}" if known else None

    def recipe_job(self, recipe: str, known: RecipeNames) -> Job:
        """`recipe/{flow}.{recipe}`, or `recipe/{id}` where the names are not known."""
        name = (
            names.dataset("recipe", f"{known.flow}.{known.recipe}")
            if known.flow and known.recipe
            else names.dataset("recipe", recipe)
        )
        return Job(recipe, self.namespace, name, "JOB", INTEGRATION, description=known.description)

    def flow_job(self, flow: str, name: str) -> Job:
        """Its name is how the names of its recipes' jobs begin, which keeps a backend from renaming them."""
        return Job(f"flow/{flow}", self.namespace, names.dataset("recipe", name), "JOB", INTEGRATION)

    def stage_job(self, job: Job, kind: str) -> Job:
        name = names.cut(f"{job.name}.{names.part(kind)}")
        return replace(job, key=f"{job.key}/{kind}", name=name, kind="TASK", description=None)

    def flow_parent(self, flow_run: str, job: Job) -> Parent:
        key = FLOW_RUN + flow_run
        return Parent(self.run_id(key), self.namespace, job.name, key=key)


def observation(
    place: Place,
    group: Group,
    job: Job,
    seen_at: datetime,
    *,
    latest: datetime,
    parent: Parent | None = None,
    parameters: tuple[tuple[str, str], ...] = (),
    alone: bool = False,
) -> Observation:
    """What the group says now, at the `latest` time by the platform's clock. A group that runs, but whose stages are not known or have not begun, counts as queued:
    its START must have the time of its first stage whenever it is seen. Without its stages an end is only bounded: any
    later edit moves the group's last change.
    """
    state = states.state_of(group.status)
    began = states.beginning(group.stages) if group.stages is not None else None
    if state is RunState.RUNNING and began is None:
        state = RunState.QUEUED
    known = replace(_facts_so_far(group), link=place.link(group.key))
    ended, ended_by = _ended(group, latest) if state.terminal else (None, None)
    return Observation(
        key=group.key,
        run_id=place.run_id(group.key),
        job=job,
        state=state,
        raw_state=group.status,
        seen_at=seen_at,
        queued_at=group.created_at,
        started_at=began if state.began else None,
        ended_at=ended,
        ended_by=ended_by,
        facts=replace(known, parameters=parameters) if parameters else known,
        parent=parent,
        handle={ALONE: "yes" if alone else "no", **({"flowRun": group.flow_run} if group.flow_run else {})},
        due_at=next_look(group.created_at, state, seen_at) if alone else None,
    )


def unchanged(run: Run, status: str | None, seen_at: datetime) -> Observation:
    """A tracked run of which only the status was read."""
    state = states.state_of(status)
    if state is RunState.RUNNING and run.began_at is None:
        state = RunState.QUEUED
    return Observation(
        key=run.key,
        run_id=run.run_id,
        job=run.job,
        state=state,
        raw_state=status,
        seen_at=seen_at,
        handle={ALONE: "yes"} if is_alone(run) else {},
        due_at=next_look(run.queued_at, state, seen_at) if is_alone(run) else None,
    )


def is_alone(run: Run) -> bool:
    return run.handle.get(ALONE) == "yes"


def is_waiting_for_details(run: Run) -> bool:
    """A tracked run that runs, but whose beginning was not read yet."""
    return states.state_of(run.raw_state) is RunState.RUNNING and run.began_at is None


def next_look(created_at: datetime | None, state: RunState, seen_at: datetime) -> datetime | None:
    """When to read a run again that no list shows: often while it is young."""
    if state.terminal:
        return None
    age = seen_at - created_at if created_at is not None else timedelta()
    if age < YOUNG:
        return seen_at + YOUNG_EVERY
    return seen_at + (GROWING_EVERY if age < GROWN else GROWN_EVERY)


def end(group: Group, latest: datetime) -> datetime | None:
    """When an ended group ended, as far as this answer shows, which came at the `latest` time by the platform's clock."""
    rows = states.first_life(group.stages or (), group.updated_at)
    return states.ending(rows, group.updated_at, latest)


def _ended(group: Group, latest: datetime) -> tuple[datetime | None, datetime | None]:
    """When the group ended, None where its stages are not known, and by when it had."""
    by = end(group, latest)
    return by if group.stages is not None else None, by


def _facts_so_far(group: Group) -> Facts:
    """Without what shows up while the group runs, or only in some answers: its START must say the same whenever it is
    seen. Its end is read with all of it.
    """
    known = facts(group)
    ids = {name: value for name, value in known.ids.items() if name != "flow"}
    return replace(known, engine=None, external_id=None, ids=ids)


def facts(group: Group) -> Facts:
    rows = states.first_life(group.stages or (), group.updated_at)
    engine, external_id = states.engine(rows)
    ids = {
        "jobGroup": group.key,
        "recipe": group.recipe,
        "flow": group.flow,
        "flowRun": group.flow_run,
        "snapshot": group.snapshot,
        "ranfrom": group.ranfrom,
        "ranfor": group.ranfor,
    }
    scheduled = group.reference_date if group.ranfrom == "schedule" else None
    return Facts(
        engine=engine,
        external_id=external_id,
        nominal_start=scheduled or group.created_at,
        stages=tuple(states.stage(row) for row in rows),
        ids={name: value for name, value in ids.items() if value is not None},
    )


def stage_observations(
    place: Place, group: Group, seen: Observation, rows: Sequence[StageRow], latest: datetime
) -> tuple[Observation, ...]:
    """Stages as runs of their own, children of the group's run; those that have not begun are left out."""
    return tuple(
        _stage_observation(place, group, seen, row, latest)
        for row in rows
        if states.state_of(row.status) is not RunState.QUEUED
    )


def _stage_observation(place: Place, group: Group, seen: Observation, row: StageRow, latest: datetime) -> Observation:
    state, key = states.state_of(row.status), STAGE + row.key
    parent = Parent(
        seen.run_id,
        seen.job.namespace,
        seen.job.name,
        key=group.key,
        root_run_id=seen.parent.run_id if seen.parent else None,
        root_namespace=seen.parent.namespace if seen.parent else None,
        root_job=seen.parent.job if seen.parent else None,
    )
    failed = state is RunState.FAILED
    return Observation(
        key=key,
        run_id=place.run_id(key),
        job=place.stage_job(seen.job, row.kind),
        state=state,
        raw_state=row.status,
        seen_at=seen.seen_at,
        queued_at=row.created_at,
        started_at=states.beginning([row]),
        ended_at=states.ending([row], row.updated_at, latest) if state.terminal else None,
        facts=Facts(
            engine=row.engine,
            external_id=row.external_id,
            error=states.why_failed(None, [row]) if failed else None,
            error_language=ERROR_LANGUAGE if failed else None,
            ids={"jobGroup": group.key, "job": row.key},
        ),
        parent=parent,
        handle={"group": group.key},
        settled=True,
    )
