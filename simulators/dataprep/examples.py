"""Flows that bring delivered files, enriched with tables of the ERP, into a warehouse on BigQuery."""

from typing import Any

from simulators.dataprep.workspace import Recipe, Source, Workspace

LANDING = "gs://plant-landing"
CURATED = "gs://plant-curated"
_ERP = "jdbc:postgresql://erp-replica.example.com:5432/erp?user=dataprep&password=planted-in-connect-string"


def populate(workspace: Workspace) -> list[Recipe]:
    """Adds three flows with a recipe each, which writes a file and a table of the project `acme-plant` on BigQuery."""
    return [
        _recipe(
            workspace,
            "spare-parts",
            "catalogue",
            "The supplier's catalogue, matched with our materials",
            [_file(workspace, "deliveries/spare-parts.csv"), _table(workspace, "materials")],
            _published("maintenance", "spare_parts", "truncateAndLoad"),
        ),
        _recipe(
            workspace,
            "contractors",
            "hours",
            "Hours of contractors by cost center",
            [_file(workspace, "deliveries/contractor-hours.csv"), _table(workspace, "cost_centers")],
            _published("maintenance", "contractor_hours", "append"),
        ),
        _recipe(
            workspace,
            "laboratory",
            "results",
            "Results of the outside laboratory beside our own",
            [_file(workspace, "deliveries/lab-results.csv"), _by_day(workspace)],
            _published("quality", "lab_results", "append"),
        ),
    ]


def _recipe(
    workspace: Workspace, flow: str, name: str, description: str, sources: list[Source], publication: dict[str, Any]
) -> Recipe:
    recipe = workspace.add_recipe(workspace.add_flow(flow), name, sources, description=description, scenario="quick")
    about = {"action": "overwrite", "format": "csv", "compression": "none", "header": True, "asSingleFile": True}
    workspace.add_output(
        recipe.id,
        execution="dataflow",
        name=f"{name} to the warehouse",
        write_settings=[{"path": f"{CURATED}/{flow}/{name}.csv", **about}],
        publications=[publication],
    )
    return recipe


def _published(dataset: str, table: str, action: str) -> dict[str, Any]:
    place = {"path": ["acme-plant", dataset], "tableName": table, "targetType": "bigquery"}
    return {**place, "action": action, "connection": {"id": 1}, "parameters": {}}


def _file(workspace: Workspace, path: str) -> Source:
    return workspace.add_source(path.rpartition("/")[2], files=(f"{LANDING}/{path}",))


def _by_day(workspace: Workspace) -> Source:
    files = tuple(f"{LANDING}/lims/2026-11-{day:02}.csv" for day in (19, 20, 21))
    return workspace.add_source("lims by day", files=files, pattern=f"{LANDING}/lims/*.csv")


def _table(workspace: Workspace, name: str) -> Source:
    table = {
        "vendor": "postgres",
        "databaseConnectString": _ERP,
        "relationalPath": ["public"],
        "table": name,
        "query": None,
        "action": "read",
    }
    return workspace.add_source(f"erp {name}", table=table)
