"""Answers about runs and stages, as a reader sees them at one moment."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from simulators.dataprep.answers import when
from simulators.dataprep.read_parameters import Embed, Row, limited
from simulators.dataprep.scenarios import TERMINAL, Change, Stage
from simulators.dataprep.switches import Switches
from simulators.dataprep.workspace import Run, Workspace

ERRORS = {
    "publish": "Table not found: the target dataset does not exist",
    "filewriter": "Could not write to the output folder: permission denied",
    "wrangle": "Column amount could not be parsed as a number",
    "ingest": "Could not connect to the source database",
}

ASSOCIATIONS: dict[str, frozenset[str]] = {
    "jobGroups": frozenset({"creator", "updater", "jobs", "wrangledDataset", "snapshot", "flowrun", "workspace"}),
    "jobs": frozenset({"creator", "jobGroup", "scriptResults", "wranglescript"}),
    "wrangledDataset": frozenset({"creator", "updater", "recipe", "outputObjects"}),
    "wrangledDatasets": frozenset({"creator", "updater", "flow", "recipe", "outputObjects"}),
    "outputObjects": frozenset(
        {"creator", "updater", "flownode", "writeSettings", "publications", "sqlScripts", "outputobjectdataflowoptions"}
    ),
    "flow": frozenset({"creator", "updater", "snapshots", "flownodes"}),
    "flows": frozenset({"creator", "updater", "snapshots", "flownodes"}),
}
MANY = frozenset({"jobs", "scriptResults", "outputObjects", "writeSettings", "publications", "sqlScripts", "flownodes"})


def associations(switches: Switches) -> dict[str, frozenset[str]]:
    valid = dict(ASSOCIATIONS)
    if switches.error_text == "embed":
        valid["jobs"] |= {"errorMessage"}
    if switches.flow_embed:
        valid["wrangledDataset"] |= {"flow"}
    return valid


def person(number: int, size: int = 0) -> Row:
    """A user with everything that the platform publishes about them."""
    about = {
        "id": number,
        "email": f"person{number}@planted-personal-data.example",
        "name": f"Planted Person {number}",
        "isDisabled": False,
    }
    return {**about, "preferences": "x" * size} if size else about


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading: which workspace, under which switches, when."""

    workspace: Workspace
    switches: Switches
    now: datetime

    def seen_at(self, run: Run) -> datetime:
        return self.now - timedelta(seconds=run.lag)

    def exists(self, run: Run) -> bool:
        return run.created_at <= self.seen_at(run)

    def group(self, run: Run) -> Change:
        seen = self.seen_at(run)
        change = run.group.at(seen) or run.group.changes[0]
        late = next((stage for stage in run.stages if stage.plan.late), None)
        if late is None or change.status not in TERMINAL:
            return change
        publishing = late.timeline.at(seen)
        if publishing is None or not self.switches.late_publish_reopens:
            return change
        return Change(publishing.at, "InProgress" if publishing.status not in TERMINAL else change.status)

    def updated(self, run: Run) -> datetime:
        seen = self.seen_at(run)
        moments = [self.group(run).at, *(touch for touch in run.touched if touch <= seen)]
        if self.switches.stages_touch_group:
            moments += [change.at for stage in run.stages if (change := stage.timeline.at(seen)) is not None]
        if run.deleted_at is not None and run.deleted_at <= seen:
            moments.append(run.deleted_at)
        return max(moments)

    def stages(self, run: Run) -> list[Stage]:
        if run.invalid and not self.switches.failed_validation_has_stages:
            return []
        return [stage for stage in run.stages if stage.created_at <= self.seen_at(run)]


def group_row(moment: Moment, run: Run) -> Row:
    switches, change = moment.switches, moment.group(run)
    row: Row = {
        "id": run.id,
        "name": run.name,
        "description": None,
        "ranfrom": run.ranfrom,
        "ranfor": run.ranfor,
        "status": change.status,
        "profilingEnabled": run.profiling,
        "runParameterReferenceDate": when(switches, run.reference_date or run.created_at),
        "snapshot": {"id": run.id + 1000},
        "wrangledDataset": {"id": run.recipe},
        "flowrun": None if run.flow_run is None else {"id": run.flow_run},
        "createdAt": when(switches, run.created_at),
        "updatedAt": when(switches, moment.updated(run)),
        "creator": {"id": run.owner},
        "updater": {"id": run.owner},
    }
    if switches.error_text == "workloadError":
        row["workloadError"] = _workload_error(moment, run) if change.status == "Failed" else None
    return row


def _workload_error(moment: Moment, run: Run) -> Row:
    failed = [stage for stage in moment.stages(run) if _status(moment, run, stage) == "Failed"]
    text = ERRORS.get(failed[0].plan.job_type, "Stage failed") if failed else "Recipe validation failed"
    return {"name": "JobFailedException", "message": text, "details": None}


def _status(moment: Moment, run: Run, stage: Stage) -> str | None:
    change = stage.timeline.at(moment.seen_at(run))
    return change.status if change is not None else stage.timeline.changes[0].status


def stage_row(moment: Moment, run: Run, stage: Stage, embed: dict[str, Embed] | None = None) -> Row:
    switches, seen = moment.switches, moment.seen_at(run)
    change = stage.timeline.at(seen) or stage.timeline.changes[0]
    ended = change.status in TERMINAL
    failed = change.status == "Failed"
    row: Row = {
        "id": stage.id,
        "status": change.status,
        "jobType": stage.plan.job_type,
        "sampleSize": 100,
        "percentComplete": 100 if change.status == "Complete" else 50 if change.status == "InProgress" else 0,
        "jobGroup": {"id": run.id},
        "errorMessage": {"id": stage.error_id} if failed and stage.error_id else None,
        "lastHeartbeatAt": when(switches, seen) if change.status == "InProgress" else None,
        "createdAt": when(switches, stage.created_at),
        "updatedAt": when(switches, change.at),
        "creator": {"id": run.owner},
        "executionLanguage": stage.engine,
        "cpJobId": f"2026-11-21_{run.id:02}_{stage.id:02}-1" if stage.engine == "dataflow" else None,
        "wranglescript": {"id": stage.id + 500},
        "emrcluster": None,
    }
    row |= _by_type(run, stage)
    if switches.stage_times:
        began = next(
            (step.at for step in stage.timeline.changes if step.status == "InProgress" and step.at <= seen), None
        )
        row |= {"startedAt": when(switches, began), "finishedAt": when(switches, change.at if ended else None)}
    if embed and "errorMessage" in embed and failed:
        row["errorMessage"] = {"id": stage.error_id, "message": ERRORS.get(stage.plan.job_type, "Stage failed")}
    if embed and "scriptResults" in embed:
        row["scriptResults"] = {"data": [{"id": stage.id + 700}] if change.status == "Complete" else []}
    return row


def _by_type(run: Run, stage: Stage) -> Row:
    plan = stage.plan
    write = run.writes[plan.writes] if plan.writes is not None else {}
    if plan.job_type == "filewriter":
        return {"writeSetting": {"id": write.get("id", 0)}, "scriptResult": {"id": stage.id + 700}}
    if plan.job_type == "publish":
        return {"publication": {"id": write.get("id", 0)}, "scriptResult": {"id": stage.id + 700}, "adhoc": False}
    if plan.job_type == "ingest":
        return {"datasource": {"id": plan.source}, "cacheAction": "NOOP", "forceCacheUpdate": False, "location": None}
    return {}


def embedded_jobs(moment: Moment, run: Run, embed: Embed) -> Row:
    rows = [stage_row(moment, run, stage, embed.children) for stage in moment.stages(run)]
    if not rows and moment.switches.null_embedded_jobs:
        return {"data": None}
    return {"data": limited(rows, embed.options)}


def started(moment: Moment, run: Run) -> Row:
    """The answer of a run that was started."""
    if moment.switches.run_answer == "short":
        return {"id": run.id, "reason": "JobStarted"}
    stages = [] if run.invalid else [stage for stage in run.stages if not stage.plan.late]
    edges = [{"source": before, "target": stage.id} for stage in stages for before in stage.after]
    answer = {
        "sessionId": run.session,
        "reason": "JobStarted",
        "jobGraph": {"vertices": [stage.id for stage in stages], "edges": edges},
        "id": run.id,
        "jobs": {"data": [{"id": stage.id} for stage in stages]},
    }
    return answer if run.flow_run is None else {**answer, "flowRun": {"id": run.flow_run}}
