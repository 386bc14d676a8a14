"""A workspace: its flows, recipes, outputs and sources, and the runs that were started in it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

from simulators.dataprep.scenarios import (
    SCENARIOS,
    TERMINAL,
    Change,
    Scenario,
    Stage,
    StagePlan,
    Timeline,
    cancel,
    finish,
    unfold,
)


@dataclass(slots=True)
class Flow:
    id: int
    name: str
    creator: int = 1


@dataclass(slots=True)
class Source:
    """An imported dataset. `files` are resolved URIs, `table` a table object as in `/inputs`; one of the two is set."""

    id: int
    name: str
    files: tuple[str, ...] = ()
    file_type: str = "FILE"
    pattern: str | None = None
    table: dict[str, Any] | None = None


@dataclass(slots=True)
class Output:
    """An outputObject."""

    id: int
    recipe: int
    created_at: datetime
    updated_at: datetime
    adhoc: bool = True
    execution: str = "photon"
    profiler: bool = False
    name: str | None = None
    description: str | None = None
    write_settings: list[dict[str, Any]] = field(default_factory=list)
    publications: list[dict[str, Any]] = field(default_factory=list)
    sql_scripts: list[dict[str, Any]] = field(default_factory=list)
    dataflow_options: dict[str, Any] | None = None
    deleted: bool = False


@dataclass(slots=True)
class Recipe:
    id: int
    name: str
    flow: int
    sources: tuple[int, ...]
    broken: bool = False
    description: str | None = None
    scenario: str = "complete"
    """What becomes of a run that the API starts."""


@dataclass(slots=True)
class Run:
    id: int
    recipe: int
    created_at: datetime
    group: Timeline
    stages: list[Stage]
    owner: int = 1
    ranfrom: str | None = "api"
    ranfor: str = "recipe"
    session: str = ""
    profiling: bool = False
    name: str | None = None
    flow_run: int | None = None
    execution_id: str | None = None
    reference_date: datetime | None = None
    deleted_at: datetime | None = None
    writes: list[dict[str, Any]] = field(default_factory=list)
    """Outputs in order: write settings (with `path`) and publications (with `tableName`)."""
    touched: list[datetime] = field(default_factory=list)
    hidden: bool = False
    lag: float = 0.0
    """Seconds by which the platform shows this run's changes late, with their true times."""
    parameters: dict[str, Any] = field(default_factory=dict)
    invalid: bool = False
    """Failed in validation, before any stage."""

    def ended(self) -> Change | None:
        return self.group.first(frozenset(TERMINAL))

    def is_deleted(self, at: datetime) -> bool:
        return self.deleted_at is not None and self.deleted_at <= at


class Workspace:
    """Everything with an id; ids ascend from 1 per kind, so that two workspaces use the same numbers."""

    def __init__(self, gid: str, seed: int, now: Callable[[], datetime]) -> None:
        self.gid = gid
        self.now = now
        self.random = Random(f"{seed}/{gid}")  # noqa: S311 - repeatable scenarios, no secret
        self.flows: dict[int, Flow] = {}
        self.recipes: dict[int, Recipe] = {}
        self.sources: dict[int, Source] = {}
        self.outputs: dict[int, Output] = {}
        self.runs: dict[int, Run] = {}
        self.flow_runs: dict[int, dict[str, Any]] = {}
        self.executions: dict[str, int] = {}
        self._ids: dict[str, Any] = {}

    def new_id(self, kind: str) -> int:
        return int(next(self._ids.setdefault(kind, count(1))))

    def add_flow(self, name: str) -> Flow:
        flow = Flow(self.new_id("flow"), name)
        self.flows[flow.id] = flow
        return flow

    def add_source(self, name: str, **what: Any) -> Source:
        source = Source(self.new_id("source"), name, **what)
        self.sources[source.id] = source
        return source

    def add_recipe(self, flow: Flow, name: str, sources: Iterable[Source], **more: Any) -> Recipe:
        """`more` are fields of `Recipe`."""
        recipe = Recipe(self.new_id("recipe"), name, flow.id, tuple(source.id for source in sources), **more)
        self.recipes[recipe.id] = recipe
        return recipe

    def add_output(self, recipe: int, **what: Any) -> Output:
        now = self.now()
        output = Output(self.new_id("output"), recipe, now, now, **what)
        for kind, rows in (("writeSetting", output.write_settings), ("publication", output.publications)):
            for row in rows:
                row.setdefault("id", self.new_id(kind))
        self.outputs[output.id] = output
        return output

    def output_of(self, recipe: int, ranfrom: str | None) -> Output | None:
        """The outputObject that a run of this origin uses: the scheduled one for schedules, else the ad hoc one."""
        mine = [output for output in self.outputs.values() if output.recipe == recipe and not output.deleted]
        wanted = [output for output in mine if output.adhoc == (ranfrom != "schedule")]
        return next(iter([*wanted, *mine]), None)

    def start(
        self,
        recipe: int | None = None,
        scenario: str | Scenario | None = None,
        *,
        pace: float = 1.0,
        at: datetime | None = None,
        overrides: dict[str, Any] | None = None,
        **about: Any,
    ) -> Run:
        """A run from now on, or from `at`. `about` is whatever else Run has. Raises KeyError for an unknown recipe or scenario."""
        chosen = self.recipes[recipe if recipe is not None else self.random.choice(sorted(self.recipes))]
        chosen_scenario = scenario if isinstance(scenario, Scenario) else SCENARIOS[scenario or chosen.scenario]
        output = self.output_of(chosen.id, about.get("ranfrom", "api"))
        writes, profiling, engine, valid = _settings(output, overrides or {})
        if not valid and chosen_scenario.fails is None:
            chosen_scenario = SCENARIOS["partial"]
        plans = self._plans(chosen, writes, profiling=profiling)
        begin = at or self.now()
        unfolded = unfold(chosen_scenario, plans, begin, pace, self.random)
        run = Run(
            self.new_id("run"),
            chosen.id,
            begin,
            unfolded.group,
            [],
            session=self.session_id(),
            profiling=profiling,
            **about,
        )
        run.writes, run.deleted_at, run.invalid = writes, unfolded.deleted_at, chosen_scenario.fails == "validation"
        for plan, timeline in zip(plans, unfolded.stages, strict=True):
            self._add_stage(run, plan, timeline, None if run.invalid else engine)
        if unfolded.late is not None:
            self._add_stage(run, StagePlan("publish", writes=len(writes), late=True), unfolded.late, None)
            run.writes = [*writes, {"tableName": "published_later", "path": ["late"], "targetType": "bigquery"}]
        self.runs[run.id] = run
        if run.execution_id is not None:
            self.executions[run.execution_id] = run.id
        return run

    def _add_stage(self, run: Run, plan: StagePlan, timeline: Timeline, engine: str | None) -> None:
        after = tuple(run.stages[index].id for index in plan.after)
        works = plan.job_type in {"wrangle", "profile", "filewriter"}
        stage = Stage(self.new_id("stage"), plan, timeline, engine if works else None, after)
        if any(change.status == "Failed" for change in timeline.changes):
            stage.error_id = self.new_id("error")
        run.stages.append(stage)

    def _plans(self, recipe: Recipe, writes: list[dict[str, Any]], *, profiling: bool) -> list[StagePlan]:
        tables = [source for source in recipe.sources if self.sources[source].table is not None]
        plans = [StagePlan("ingest", source=source) for source in tables]
        wrangle = len(plans)
        plans.append(StagePlan("wrangle", after=tuple(range(wrangle))))
        if profiling:
            plans.append(StagePlan("profile", after=(wrangle,)))
        for position, write in enumerate(writes):
            plans.append(StagePlan("publish" if "tableName" in write else "filewriter", (wrangle,), position))
        return plans

    def run_flow(self, flow: int, **how: Any) -> tuple[int, list[Run]]:
        flow_run = self.add_flow_run(flow)
        recipes = [recipe.id for recipe in self.recipes.values() if recipe.flow == flow]
        return flow_run, [self.start(recipe, flow_run=flow_run, **how) for recipe in recipes]

    def add_flow_run(self, flow: int, schedule_execution: int | None = None) -> int:
        number = self.new_id("flowRun")
        about = {"flow": flow, "created_at": self.now(), "schedule_execution": schedule_execution}
        self.flow_runs[number] = {"id": number, "request_id": self.session_id(), **about}
        return number

    def cancel(self, run: Run) -> bool:
        return cancel(run.group, [stage.timeline for stage in run.stages], self.now())

    def set_state(self, run: Run, status: str | None) -> None:
        """From now on the group has this status. An end ends the open stages too; a new stage error gets its id."""
        if status not in TERMINAL or not finish(
            run.group, [stage.timeline for stage in run.stages], str(status), self.now()
        ):
            run.group.set(status, self.now())
        for stage in run.stages:
            if stage.error_id is None and stage.timeline.changes[-1].status == "Failed":
                stage.error_id = self.new_id("error")

    def delete(self, run: Run) -> None:
        run.deleted_at = self.now()

    def rename(self, run: Run, name: str) -> None:
        run.name = name
        run.touched.append(self.now())

    def session_id(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))


ENGINES = frozenset({"photon", "dataflow", "spark"})
ACTIONS = frozenset({"create", "append", "overwrite"})


def _settings(output: Output | None, overrides: dict[str, Any]) -> tuple[list[dict[str, Any]], bool, str, bool]:
    """Outputs, profiling and engine of a run, and whether its overrides make sense. Overrides replace; nobody checks them at the start."""
    writes = [] if output is None else [*output.write_settings, *output.publications]
    spelled = overrides.get("writesettings", overrides.get("writeSettings"))
    if isinstance(spelled, list):
        writes = [row for row in spelled if isinstance(row, dict)]
    engine = str(overrides.get("execution") or (output.execution if output else "photon"))
    profiling = bool(overrides.get("profiler", output.profiler if output else False))
    rows_valid = all(
        isinstance(row.get("path"), str) and row.get("action", "create") in ACTIONS
        for row in writes
        if "tableName" not in row
    )
    return writes, profiling, engine, rows_valid and engine in ENGINES
