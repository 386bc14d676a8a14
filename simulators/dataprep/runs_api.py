"""The endpoints of runs: start, read, list, cancel, lineage."""

from typing import Any

from simulators.dataprep import definitions
from simulators.dataprep.answers import Refused, not_found
from simulators.dataprep.calls import Answer, Call
from simulators.dataprep.read_parameters import Row, filtered, is_true, listing, page, pick, sorted_rows, whole
from simulators.dataprep.shapes import embedded_jobs, group_row, person, stage_row, started
from simulators.dataprep.workspace import Recipe, Run, Workspace

RANFROM = frozenset({"ui", "schedule", "api"})


def run_job_group(call: Call) -> Answer:
    workspace, body = call.moment.workspace, call.json()
    execution = call.headers.get("x-execution-id")
    if execution is not None and execution in workspace.executions:
        return Answer(None, 304, call.quota)
    recipe = _recipe_to_run(call, body)
    overrides = _object(body, "overrides")
    if overrides and call.moment.switches.overrides_refused:
        raise Refused(400, "Overriding settings of a run is not supported")
    if body.get("testMode"):
        answer = {"datasetId": recipe.id, "datasetName": recipe.name, "sessionId": workspace.session_id()}
        return Answer(answer, 201, call.quota)
    run = workspace.start(
        recipe.id,
        overrides=overrides,
        ranfrom=_ranfrom(body),
        parameters=_parameters(body),
        execution_id=execution,
        owner=call.token.user,
    )
    return Answer(started(call.moment, run), 201, call.quota)


def _recipe_to_run(call: Call, body: dict[str, Any]) -> Recipe:
    number = _object(body, "wrangledDataset").get("id")
    if not isinstance(number, int | str) or isinstance(number, bool) or not str(number).isdigit():
        raise Refused(400, '"wrangledDataset.id" is required and must be a number')
    recipe = call.moment.workspace.recipes.get(int(number))
    if recipe is None:
        raise not_found(call.moment.switches, "Recipe", number)
    if recipe.broken and not body.get("ignoreRecipeErrors"):
        raise Refused(400, f"Recipe {number} has errors")
    return recipe


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise Refused(400, f'"{name}" must be an object')
    return value


def _ranfrom(body: dict[str, Any]) -> str | None:
    """`api` when left out; an explicit null hides the run from the Jobs page."""
    ranfrom = body.get("ranfrom", "api")
    if ranfrom is not None and ranfrom not in RANFROM:
        raise Refused(400, f'"ranfrom" must be one of {", ".join(sorted(RANFROM))}')
    return None if ranfrom is None else str(ranfrom)


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    rows = _object(_object(body, "runParameters"), "overrides").get("data") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "key" in row for row in rows):
        raise Refused(400, '"runParameters.overrides.data" must be a list of objects with key and value')
    return {str(row["key"]): row.get("value") for row in rows}


def get_job_group(call: Call) -> Answer:
    embed = call.embed("jobGroups")
    return Answer(_shown(call, call.run(), embed))


def _shown(call: Call, run: Run, embed: dict[str, Any]) -> Row:
    row = group_row(call.moment, run)
    if "jobs" in embed:
        row["jobs"] = embedded_jobs(call.moment, run, embed["jobs"])
    if "wrangledDataset" in embed:
        recipe = call.moment.workspace.recipes[run.recipe]
        row["wrangledDataset"] = definitions.recipe_row(call.moment, recipe, embed["wrangledDataset"].children)
    for role in ("creator", "updater"):
        if role in embed:
            row[role] = person(run.owner)
    if "flowrun" in embed and run.flow_run is not None:
        row["flowrun"] = definitions.flow_run_row(call.moment, run.flow_run)
    if "workspace" in embed:
        row["workspace"] = {"id": 1, "name": call.moment.workspace.gid}
    return pick(row, call.query.get("fields"), frozenset(embed))


def get_status(call: Call) -> Answer:
    return Answer(call.moment.group(call.run()).status)


def get_jobs(call: Call) -> Answer:
    run = call.run()
    rows = [stage_row(call.moment, run, stage) for stage in call.moment.stages(run)]
    return Answer({"data": rows, "count": len(rows)})


def get_job_status(call: Call) -> Answer:
    for run in call.moment.workspace.runs.values():
        for stage in call.moment.stages(run):
            if stage.id == call.number():
                return Answer(stage_row(call.moment, run, stage)["status"])
    raise not_found(call.moment.switches, "Job", call.number())


def list_job_groups(call: Call) -> Answer:
    embed = call.embed("jobGroups")
    runs = _visible(call, whose=None)
    if "flowNodeId" in call.query:
        runs = [run for run in runs if run.recipe == whole("flowNodeId", call.query["flowNodeId"])]
    found = _select(call, filtered([group_row(call.moment, run) for run in runs], call.query), call.query)
    shown = [
        _shown(call, call.moment.workspace.runs[row["id"]], embed)
        for row in page(found, call.query, call.moment.switches)
    ]
    return Answer(listing(shown, len(found), call.query))


def get_job_library(call: Call) -> Answer:
    switches = call.moment.switches
    if "embed" in call.query and switches.strict_query:
        raise Refused(400, '"embed" is not allowed', name="ApiValidationFailed")
    found = _library(call)
    rows = page(found, call.query, switches)
    kept = frozenset() if switches.fields_strip_creator else frozenset({"creator"})
    heavy = [{**row, "creator": person(row["creator"]["id"], switches.creator_bytes)} for row in rows]
    return Answer(listing([pick(row, call.query.get("fields"), kept) for row in heavy], len(found), call.query))


def count_job_library(call: Call) -> Answer:
    return Answer({"count": len(_library(call))})


def _library(call: Call) -> list[Row]:
    mine = None if call.query.get("runBy", "currentUser") == "all" else call.token.user
    rows = [group_row(call.moment, run) for run in _visible(call, whose=mine) if run.ranfrom is not None]
    wanted = call.repeated("status") if call.moment.switches.several_statuses else call.repeated("status")[:1]
    rows = [row for row in rows if not wanted or row["status"] in wanted]
    rows = [row for row in rows if _named(call, row)]
    return _select(call, [row for row in rows if _dated(call, row)], call.query)


def _visible(call: Call, whose: int | None) -> list[Run]:
    moment, with_deleted = call.moment, is_true(call.query.get("includeDeleted"))
    return [
        run
        for run in moment.workspace.runs.values()
        if moment.exists(run)
        and not run.hidden
        and (with_deleted or not run.is_deleted(moment.seen_at(run)))
        and whose in {None, run.owner}
    ]


def _select(call: Call, rows: list[Row], query: Any) -> list[Row]:
    for name in ("ranfrom", "ranfor"):
        if name in query:
            rows = [row for row in rows if row[name] == query[name]]
    return sorted_rows(rows, query, call.moment.switches, call.moment.workspace.random.shuffle)


def _named(call: Call, row: Row) -> bool:
    """`filter` looks at the group's id and at the names of its recipe and flow."""
    wanted = call.query.get("filter")
    recipe = call.moment.workspace.recipes[row["wrangledDataset"]["id"]]
    names = (str(row["id"]), recipe.name, call.moment.workspace.flows[recipe.flow].name)
    return not wanted or any(wanted.lower() in name.lower() for name in names)


def _dated(call: Call, row: Row) -> bool:
    """`dateFilter[createdAt|updatedAt][gte|lt]` in epoch milliseconds, against the full precision of the dates."""
    run = call.moment.workspace.runs[row["id"]]
    dates = {"createdAt": run.created_at, "updatedAt": call.moment.updated(run)}
    for name, date in dates.items():
        millis = date.timestamp() * 1000
        since, until = call.query.get(f"dateFilter[{name}][gte]"), call.query.get(f"dateFilter[{name}][lt]")
        if since is not None and millis < _millis(since):
            return False
        if until is not None and millis >= _millis(until):
            return False
    return True


def _millis(text: str) -> int:
    if not text.isdigit() or len(text) > 15:
        raise Refused(400, f"dateFilter takes epoch milliseconds, not {text!r}")
    return int(text)


def cancel_job_group(call: Call) -> Answer:
    run = call.run()
    call.moment.workspace.cancel(run)
    return Answer({"jobgroupId": run.id, "jobIds": [stage.id for stage in run.stages if not stage.plan.late]})


def get_inputs(call: Call) -> Answer:
    return Answer(definitions.inputs(call.moment, call.run()))


def get_outputs(call: Call) -> Answer:
    return Answer(definitions.outputs(call.moment, call.run()))


def get_publications(call: Call) -> Answer:
    return Answer({"data": [write for write in call.run().writes if "tableName" in write]})


def get_profile(call: Call) -> Answer:
    return Answer(definitions.profile(call.moment, call.run()))


def run_flow(call: Call) -> Answer:
    workspace: Workspace = call.moment.workspace
    if call.number() not in workspace.flows:
        raise not_found(call.moment.switches, "Flow", call.number())
    number, runs = workspace.run_flow(call.number(), owner=call.token.user)
    return Answer({"flowRunId": number, "data": [started(call.moment, run) for run in runs]}, 201, call.quota)


def get_flow_run(call: Call) -> Answer:
    return Answer(definitions.flow_run_row(call.moment, call.number()))


def get_flow_run_status(call: Call) -> Answer:
    definitions.flow_run_row(call.moment, call.number())
    return Answer(definitions.flow_run_status([call.moment.group(run).status for run in _runs_of_flow_run(call)]))


def get_flow_run_job_groups(call: Call) -> Answer:
    definitions.flow_run_row(call.moment, call.number())
    return Answer({"data": [group_row(call.moment, run) for run in _runs_of_flow_run(call)]})


def _runs_of_flow_run(call: Call) -> list[Run]:
    return [run for run in _visible(call, whose=None) if run.flow_run == call.number()]
