"""The endpoints of definitions: output objects, recipes, flows, sources, people."""

from typing import Any

from simulators.dataprep import definitions
from simulators.dataprep.answers import Refused, not_found, when
from simulators.dataprep.calls import Answer, Call
from simulators.dataprep.read_parameters import Row, filtered, is_true, listing, page, pick, sorted_rows, whole
from simulators.dataprep.shapes import person
from simulators.dataprep.workspace import Output, Workspace

EXECUTIONS = frozenset({"photon", "dataflow"})
SIMPLE = {
    "execution": "execution",
    "profiler": "profiler",
    "name": "name",
    "description": "description",
    "outputObjectDataflowOptions": "dataflow_options",
}


def list_outputs(call: Call) -> Answer:
    rows = _outputs(call)
    shown = page(rows, call.query, call.moment.switches)
    return Answer(listing(shown, len(rows), call.query))


def count_outputs(call: Call) -> Answer:
    return Answer({"count": len(_outputs(call))})


def _outputs(call: Call) -> list[Row]:
    embed = call.embed("outputObjects")
    seen = [output for output in call.moment.workspace.outputs.values() if not output.deleted or _with_deleted(call)]
    rows = filtered([definitions.output_row(call.moment, output, embed) for output in seen], call.query)
    rows = sorted_rows(rows, call.query, call.moment.switches, call.moment.workspace.random.shuffle)
    return [pick(row, call.query.get("fields"), frozenset(embed)) for row in rows]


def _with_deleted(call: Call) -> bool:
    return is_true(call.query.get("includeDeleted"))


def get_output(call: Call) -> Answer:
    embed = call.embed("outputObjects")
    row = definitions.output_row(call.moment, call.output(), embed)
    return Answer(pick(row, call.query.get("fields"), frozenset(embed)))


def create_output(call: Call) -> Answer:
    body, workspace = call.json(), call.moment.workspace
    _check_output(body)
    for name in ("execution", "profiler"):
        if name not in body:
            raise Refused(400, f'"{name}" is required')
    recipe = body.get("flowNodeId")
    if recipe not in workspace.recipes:
        raise not_found(call.moment.switches, "Flow node", recipe)
    adhoc = bool(body.get("isAdhoc", True))
    if any(
        known.recipe == recipe and known.adhoc == adhoc and not known.deleted for known in workspace.outputs.values()
    ):
        raise Refused(400, f"An output object for recipe {recipe} already exists")
    output = workspace.add_output(int(recipe), adhoc=adhoc)
    _apply(workspace, output, body)
    return Answer(definitions.output_row(call.moment, output, {}), 201)


def patch_output(call: Call) -> Answer:
    body, output = call.json(), call.output()
    _check_output(body)
    _apply(call.moment.workspace, output, body)
    output.updated_at = call.moment.now
    answer = {
        "id": output.id,
        "updater": {"id": call.token.user},
        "createdAt": when(call.moment.switches, output.created_at),
        "updatedAt": when(call.moment.switches, output.updated_at),
    }
    return Answer(answer)


def _check_output(body: dict[str, Any]) -> None:
    if body.get("execution", "photon") not in EXECUTIONS:
        raise Refused(400, '"execution" must be one of photon, dataflow')
    for name in ("profiler", "isAdhoc", "ignoreRecipeErrors"):
        if not isinstance(body.get(name, True), bool):
            raise Refused(400, f'"{name}" must be a boolean')
    for name in ("writeSettings", "sqlScripts", "publications"):
        if not isinstance(body.get(name, []), list):
            raise Refused(400, f'"{name}" must be a list')


def _apply(workspace: Workspace, output: Output, body: dict[str, Any]) -> None:
    for name, attribute in SIMPLE.items():
        if name in body:
            setattr(output, attribute, body[name])
    for name, attribute, kind in (
        ("writeSettings", "write_settings", "writeSetting"),
        ("sqlScripts", "sql_scripts", "sqlScript"),
        ("publications", "publications", "publication"),
    ):
        if name in body:
            setattr(output, attribute, [{"id": workspace.new_id(kind), **row} for row in body[name]])


def delete_output(call: Call) -> Answer:
    call.output().deleted = True
    return Answer(None, 204)


def get_output_inputs(call: Call) -> Answer:
    return Answer(definitions.sources_of(call.moment, call.output()))


def get_recipe(call: Call) -> Answer:
    embed = call.embed("wrangledDatasets")
    row = definitions.recipe_row(call.moment, call.recipe(), embed)
    return Answer(pick(row, call.query.get("fields"), frozenset(embed)))


def get_primary_input(call: Call) -> Answer:
    recipe = call.recipe()
    source = call.moment.workspace.sources[recipe.sources[0]]
    return Answer({"importedDataset": definitions.imported_dataset(call.moment, source, full=True)})


def get_flow(call: Call) -> Answer:
    call.embed("flows")
    flow = call.moment.workspace.flows.get(call.number())
    if flow is None:
        raise not_found(call.moment.switches, "Flow", call.number())
    return Answer(pick(definitions.flow_row(call.moment, flow), call.query.get("fields")))


def list_flows(call: Call) -> Answer:
    rows = filtered(
        [definitions.flow_row(call.moment, flow) for flow in call.moment.workspace.flows.values()], call.query
    )
    rows = sorted_rows(rows, call.query, call.moment.switches, call.moment.workspace.random.shuffle)
    return Answer(listing(page(rows, call.query, call.moment.switches), len(rows), call.query))


def get_flow_inputs(call: Call) -> Answer:
    workspace = call.moment.workspace
    numbers = {
        number for recipe in workspace.recipes.values() if recipe.flow == call.number() for number in recipe.sources
    }
    rows = [
        definitions.imported_dataset(call.moment, workspace.sources[number], full=True) for number in sorted(numbers)
    ]
    return Answer({"data": rows})


def get_flow_outputs(call: Call) -> Answer:
    workspace = call.moment.workspace
    mine = {recipe.id for recipe in workspace.recipes.values() if recipe.flow == call.number()}
    outputs = [output for output in workspace.outputs.values() if output.recipe in mine and not output.deleted]
    return Answer({"data": [definitions.output_row(call.moment, output, {}) for output in outputs]})


def get_imported_dataset(call: Call) -> Answer:
    source = call.moment.workspace.sources.get(call.number())
    if source is None:
        raise not_found(call.moment.switches, "Imported dataset", call.number())
    return Answer(pick(definitions.imported_dataset(call.moment, source, full=True), call.query.get("fields")))


def get_write_setting(call: Call) -> Answer:
    return Answer(_held(call, "write_settings", "Write setting"))


def get_publication(call: Call) -> Answer:
    return Answer(_held(call, "publications", "Publication"))


def _held(call: Call, where: str, what: str) -> Row:
    for output in call.moment.workspace.outputs.values():
        for row in getattr(output, where):
            if row["id"] == call.number():
                return {**row, "outputobject": {"id": output.id}}
    raise not_found(call.moment.switches, what, call.number())


def get_connection(call: Call) -> Answer:
    source = call.moment.workspace.sources.get(whole("id", call.path["id"]))
    if source is None or source.table is None:
        raise not_found(call.moment.switches, "Connection", call.path["id"])
    about = {
        "id": source.id,
        "vendor": source.table["vendor"],
        "type": "jdbc",
        "host": "db.example.test",
        "port": 5432,
        "name": source.name,
        "params": {"database": "shop"},
        "credentials": [{"username": "reader", "password": "planted-in-connection"}],
    }
    return Answer(pick(about, call.query.get("fields")))


def get_current_person(call: Call) -> Answer:
    return Answer(person(call.token.user))
