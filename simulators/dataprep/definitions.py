"""Answers about what runs read and write, and about the definitions behind them."""

from typing import Any

from simulators.dataprep.answers import Refused, not_found, when
from simulators.dataprep.read_parameters import Embed, Row, limited
from simulators.dataprep.shapes import Moment, person
from simulators.dataprep.workspace import Flow, Output, Recipe, Run, Source


def inputs(moment: Moment, run: Run) -> Row:
    """`GET /jobGroups/{id}/inputs`: per source its resolved files or its table."""
    recipe = moment.workspace.recipes[run.recipe]
    sources = [moment.workspace.sources[number] for number in recipe.sources]
    kinds = {source.table is not None for source in sources}
    if moment.switches.mixed_inputs_refused and len(kinds) == 2:
        raise Refused(400, "Only JDBC sources have a connect string", name="DataServiceInvalidRequest")
    return {"data": [{"name": source.name, "inputs": _read(source)} for source in sources]}


def _read(source: Source) -> list[Row]:
    if source.table is not None:
        return [{key: value for key, value in source.table.items() if value is not None}]
    return [{"uri": uri, "fileType": source.file_type} for uri in source.files]


def outputs(moment: Moment, run: Run) -> Row:
    """`GET /jobGroups/{id}/outputs`: files and tables at the top level."""
    written = [run.writes[position] for position in _written(moment, run)]
    files = [
        {"uri": str(write.get("path")), "fileType": "FILE", "isPrimaryOutput": True}
        for write in written
        if "tableName" not in write
    ]
    return {"files": files, "tables": [_table(write) for write in written if "tableName" in write]}


def _written(moment: Moment, run: Run) -> list[int]:
    seen = moment.seen_at(run)
    stages = [stage for stage in moment.stages(run) if stage.plan.writes is not None]
    if moment.switches.outputs == "planned":
        return [stage.plan.writes for stage in stages if stage.plan.writes is not None]
    return [
        stage.plan.writes
        for stage in stages
        if stage.plan.writes is not None
        and (change := stage.timeline.at(seen)) is not None
        and change.status == "Complete"
    ]


def _table(write: dict[str, Any]) -> Row:
    return {
        "vendor": write.get("targetType", "bigquery"),
        "databaseConnectString": write.get("connectString", "https://www.googleapis.com/bigquery/v2"),
        "relationalPath": list(write.get("path") or []),
        "table": write.get("tableName"),
        "action": write.get("action", "create"),
    }


def profile(moment: Moment, run: Run) -> Row:
    if not run.profiling:
        raise Refused(400, f"Job group {run.id} has no profiling data", name="ProfilingDataNotFoundException")
    ratio = {"mismatched": 0, "missing": 1, "valid": 99}
    return {
        "profilerTypeCheckHistograms": {},
        "profilerValidValueHistograms": {},
        "profilerRules": {},
        "rowCounts": ratio,
    }


def imported_dataset(moment: Moment, source: Source, *, full: bool) -> Row:
    """The Standard shape; `full` adds what the later documents have."""
    switches = moment.switches
    created = when(switches, next(iter(moment.workspace.outputs.values())).created_at)
    row: Row = {
        "dynamicPath": source.pattern,
        "isDynamic": source.pattern is not None,
        "isConverted": False,
        "disableTypeInference": False,
        "parsingScript": {"id": source.id},
        "storageLocation": {"id": source.id},
        "connection": None if source.table is None else {"id": source.id},
        "runParameters": {"data": _parameters(source)},
        "id": source.id,
        "createdAt": created,
        "updatedAt": created,
        "creator": {"id": 1},
        "updater": {"id": 1},
        "workspace": {"id": 1},
        "name": source.name,
        "description": None,
    }
    if full and source.table is not None:
        row |= {"type": "jdbc", "jdbcPath": source.table.get("relationalPath"), "jdbcTable": source.table.get("table")}
    return row


def _parameters(source: Source) -> list[Row]:
    if source.pattern is None:
        return []
    last = {"unit": "days", "number": 1, "dow": 1}
    dates = {"dateRange": {"timezone": "UTC", "formats": ["yyyy-MM-dd"], "last": last}}
    places = [{"index": 1, "order": 1}]
    return [{"type": "path", "overrideKey": "day", "insertionIndices": places, "value": dates}]


def sources_of(moment: Moment, output: Output) -> Row:
    recipe = moment.workspace.recipes.get(output.recipe)
    numbers = recipe.sources if recipe is not None else ()
    rows = [imported_dataset(moment, moment.workspace.sources[number], full=False) for number in numbers]
    return {"data": rows, "count": len(rows)}


def output_row(moment: Moment, output: Output, embed: dict[str, Embed]) -> Row:
    row: Row = {
        "execution": output.execution,
        "profiler": output.profiler,
        "isAdhoc": output.adhoc,
        "flownode": {"id": output.recipe},
        "id": output.id,
        "createdAt": when(moment.switches, output.created_at),
        "updatedAt": when(moment.switches, output.updated_at),
        "creator": person(1) if "creator" in embed else {"id": 1},
        "updater": person(1) if "updater" in embed else {"id": 1},
        "name": output.name,
        "description": output.description,
    }
    held = {
        "writeSettings": output.write_settings,
        "publications": output.publications,
        "sqlScripts": output.sql_scripts,
    }
    row |= {name: {"data": limited(held[name], embed[name].options)} for name in held if name in embed}
    if "outputobjectdataflowoptions" in embed:
        row["outputobjectdataflowoptions"] = output.dataflow_options
    return row


def recipe_row(moment: Moment, recipe: Recipe, embed: dict[str, Embed]) -> Row:
    flow = moment.workspace.flows[recipe.flow]
    row: Row = {
        "id": recipe.id,
        "name": recipe.name,
        "description": recipe.description,
        "wrangled": True,
        "recipe": {"id": recipe.id, "name": recipe.name} if "recipe" in embed else {"id": recipe.id},
        "referenceinfo": None,
        "activeSample": {"id": recipe.id},
        "flow": flow_row(moment, flow) if "flow" in embed else {"id": flow.id},
        "creator": person(flow.creator) if "creator" in embed else {"id": flow.creator},
        "updater": {"id": flow.creator},
    }
    if "outputObjects" in embed:
        mine = [
            output for output in moment.workspace.outputs.values() if output.recipe == recipe.id and not output.deleted
        ]
        below = embed["outputObjects"]
        rows = [output_row(moment, output, below.children) for output in mine]
        row["outputObjects"] = {"data": limited(rows, below.options)}
    return row


def flow_row(moment: Moment, flow: Flow) -> Row:
    created = when(moment.switches, next(iter(moment.workspace.outputs.values())).created_at)
    about = {"id": flow.id, "name": flow.name, "description": None, "folder": None, "workspace": {"id": 1}}
    return {**about, "createdAt": created, "updatedAt": created, "creator": {"id": flow.creator}, "updater": {"id": 1}}


def flow_run_row(moment: Moment, number: int) -> Row:
    known = moment.workspace.flow_runs.get(number)
    if known is None:
        raise not_found(moment.switches, "Flow run", number)
    created = when(moment.switches, known["created_at"])
    return {
        "id": number,
        "createdAt": created,
        "updatedAt": created,
        "scheduleExecutionId": known["schedule_execution"],
        "requestId": known["request_id"],
        "flow": {"id": known["flow"]},
    }


def flow_run_status(statuses: list[str | None]) -> str:
    """Complete, Canceled, Created or Failed: a flow run is never InProgress."""
    if any(status not in {"Complete", "Failed", "Canceled"} for status in statuses) or not statuses:
        return "Created"
    return next((status for status in ("Failed", "Canceled") if status in statuses), "Complete")
