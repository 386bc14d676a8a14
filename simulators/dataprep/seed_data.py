"""What stands in a simulated workspace from the beginning: seeded flows with recipes, sources and outputs of every kind."""

from random import Random
from typing import Any

from simulators.dataprep.workspace import Flow, Source, Workspace

THINGS = ("orders", "customers", "sensors", "invoices", "shipments", "returns", "tariffs", "stations")
STEPS = ("clean", "join", "enrich", "aggregate", "deduplicate", "publish")


def furnish(workspace: Workspace, flows: int = 3) -> None:
    """Flows with three recipes each; sources are files, folders, patterns and tables, outputs are files and tables."""
    random = workspace.random
    for number in range(flows):
        thing = THINGS[number % len(THINGS)]
        flow = workspace.add_flow(f"{thing} {workspace.gid}" if number >= len(THINGS) else thing)
        sources = [
            _file(workspace, thing),
            _folder(workspace, thing),
            _pattern(workspace, thing),
            _table(workspace, thing),
        ]
        for step in random.sample(STEPS, 3):
            _recipe(workspace, flow, step, random.sample(sources, random.randint(1, 2)), random)


def _recipe(workspace: Workspace, flow: Flow, step: str, sources: list[Source], random: Random) -> None:
    recipe = workspace.add_recipe(flow, step, sources)
    for adhoc in (True, False):
        kind = "adhoc" if adhoc else "daily"
        path = f"gs://example-out/{flow.name}/{step}/{kind}.csv"
        publications = [_publication(f"{step}_{kind}", flow.name)] if random.random() < 0.6 else []
        workspace.add_output(
            recipe.id,
            adhoc=adhoc,
            execution="photon" if adhoc else "dataflow",
            profiler=random.random() < 0.3,
            name=f"{step} {kind}",
            write_settings=[_write_setting(path)],
            publications=publications,
        )


def _write_setting(path: str) -> dict[str, Any]:
    about = {"action": "overwrite", "format": "csv", "compression": "none", "header": True, "asSingleFile": True}
    return {"path": path, **about, "delim": ",", "hasQuotes": True, "includeMismatches": True, "connectionId": None}


def _publication(table: str, dataset: str) -> dict[str, Any]:
    about = {"targetType": "bigquery", "action": "truncateAndLoad", "connection": {"id": 1}, "parameters": {}}
    return {"path": ["example-project", dataset], "tableName": table, **about}


def _file(workspace: Workspace, thing: str) -> Source:
    return workspace.add_source(f"{thing}.csv", files=(f"gs://example-in/{thing}/{thing}.csv",))


def _folder(workspace: Workspace, thing: str) -> Source:
    return workspace.add_source(
        f"{thing} folder", files=(f"s3://example-lake/{thing}/history/",), file_type="DIRECTORY"
    )


def _pattern(workspace: Workspace, thing: str) -> Source:
    files = tuple(f"gs://example-in/{thing}/2026-11-{day:02}.csv" for day in (19, 20, 21))
    return workspace.add_source(f"{thing} by day", files=files, pattern=f"gs://example-in/{thing}/*.csv")


def _table(workspace: Workspace, thing: str) -> Source:
    connect = "jdbc:postgresql://db.example.test:5432/shop?user=reader&password=planted-in-connect-string"
    table = {
        "vendor": "postgres",
        "databaseConnectString": connect,
        "relationalPath": ["public"],
        "table": thing,
        "query": None,
        "action": "read",
    }
    return workspace.add_source(f"{thing} table", table=table)
