"""The demo's plant through the whole program into Marquez, and what Marquez then shows against what is true.

Against the simulated Marquez, and unchanged against a real one at `MARQUEZ_URL`: what others left there is not looked at.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from config.settings import Settings
from simulators.cdf import Ending, Scenario
from simulators.demo import expected
from simulators.demo.chain import path
from simulators.demo.scenario import ALIASES, Cast
from simulators.wetransform import Plan
from simulators.wetransform import Scenario as Walk
from tests.contract.marquez_client import Marquez
from tests.demo_lineage import CHAIN, COLUMNS, FIELDS, FLOWS, SAMPLES_FILE, TOLD, Name
from tests.deployment import CDF, DATAPREP, PATIENCE, WETRANSFORM, Deployment

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("plant"),
]

ROWS = {"equipment": 412, "orders": 97, "aufk": 130, "afih": 121}
NOT_WELL = ("failed", "canceled")
"""How the first recipes run a second time: with all that they read and write still in the graph."""
FAILURE = "Cannot auto-create a direct relation to sp_plant:floc:1010-PUMP-07, token=planted-in-an-error"


class Plant(Deployment):
    """The demo's three platforms, each job run once, some of them a second time without success."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        cast = Cast.made()
        self.cdf, self.wetransform, self.dataprep = cast.cdf, cast.wetransform, cast.dataprep
        self.marquez_url = os.environ.get("MARQUEZ_URL", "").rstrip("/")

    async def run_everything(self) -> None:
        self.marquez_url = self.marquez_url or self.urls["marquez"]
        self.settings["datasets"] = ALIASES
        self.settings["sinks"][1]["url"] = self.marquez_url
        await self.start()
        await self.until_ready()
        metrics = {
            "sap_equipment_to_model": {"instances.upserted": ROWS["equipment"], "instances.upsertedNoop": 300},
            "sap_work_orders_clean": {
                "raw.clean.work_orders.rows.created": ROWS["orders"],
                "raw.sap.aufk.rows.read": ROWS["aufk"],
                "raw.sap.afih.rows.read": ROWS["afih"],
            },
        }
        for each in list(self.cdf.transformations.values()):
            self.cdf.start_run(each.id, Scenario(0.2, 1.0, metrics=metrics.get(each.external_id)))
        for file in self.wetransform.transformations:
            run = self.wetransform.start(file, Plan(Walk.STRAIGHT, timedelta(seconds=2)))
            await self.ask(f"source:{WETRANSFORM}", "watch", {"key": run.key, "options": {}})
        for recipe in sorted(self.dataprep.workspace.recipes):
            self.dataprep.start_run("quick", recipe, pace=0.2)
        await self.arrived()
        self.cdf.start_run("sap_equipment_to_model", Scenario(0.2, 0.5, Ending.FAILED, error=FAILURE))
        for recipe, scenario in zip(sorted(self.dataprep.workspace.recipes), NOT_WELL, strict=False):
            self.dataprep.start_run(scenario, recipe, pace=0.2)
        await self.arrived()

    async def arrived(self) -> None:
        """Wait until all runs have ended and every sink has everything."""
        async with asyncio.timeout(PATIENCE):
            while self.unfinished() or expected.faults(self.events_by_run(), self.expected_runs()):
                await asyncio.sleep(0.2)
        await self.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))

    def events_by_run(self) -> dict[tuple[str, str], expected.RunEvents]:
        return expected.events_by_run(expected.read_lines(self.events))

    def run_of(self, source: str, job: str, state: str = "succeeded") -> str:
        """The id of a run by its job in the platform's words."""
        keys = [
            str(run["key"]) for run in self.expected_runs()[source] if (str(run["job"]), run["state"]) == (job, state)
        ]
        assert len(keys) == 1, (job, keys)
        return self.events_by_run()[source, keys[0]].run_id

    def namespaces(self) -> dict[str, str]:
        """The namespace that each platform's word stands for."""
        return {each.platform: each.job_namespace for each in Settings.model_validate(self.settings).sources}


class Seen:
    """What Marquez shows, with the names of tests/demo_lineage.py."""

    def __init__(self, marquez: Marquez, spaces: dict[str, str]) -> None:
        self.api = marquez
        self.spaces = spaces
        self._words = {namespace: word for word, namespace in spaces.items()}

    def id(self, kind: str, name: Name, *field: str) -> str:
        return ":".join((kind, self.spaces.get(name[0], name[0]), name[1], *field))

    def name(self, shown: dict[str, Any], key: str = "name") -> Name:
        return self._words.get(shown["namespace"], shown["namespace"]), shown[key]

    async def dataset(self, name: Name) -> Any:
        return await self.api.get(self.api.at_dataset(name[1], self.spaces.get(name[0], name[0])))

    async def graph(self, kind: str, name: Name, depth: int = 20) -> list[Any]:
        node = self.api.node(kind, name[1], namespace=self.spaces.get(name[0], name[0]))
        found = await self.api.get(f"lineage?nodeId={node}&depth={depth}")
        return list(found["graph"])

    def flows(self, graph: Iterable[Any]) -> dict[Name, tuple[set[Name], set[Name]]]:
        """What each job of this plant reads and writes, by the edges. Other people's jobs are left out."""
        names = {node["id"]: self.name(node["data"]) for node in graph}
        jobs = [node for node in graph if node["type"] == "JOB" and node["data"]["namespace"] in self._words]
        return {
            names[job["id"]]: (
                {names[edge["origin"]] for edge in job["inEdges"]},
                {names[edge["destination"]] for edge in job["outEdges"]},
            )
            for job in jobs
        }

    async def column_edges(self, name: Name) -> set[tuple[tuple[Name, str], tuple[Name, str]]]:
        """(column, the column that it comes from) as far as the graph above a dataset goes."""
        node = self.api.node("dataset", name[1], namespace=self.spaces.get(name[0], name[0]))
        found = await self.api.get(f"column-lineage?nodeId={node}&depth=20")
        return {
            ((self.name(node["data"], "dataset"), node["data"]["field"]), (self.name(row, "dataset"), row["field"]))
            for node in found["graph"]
            for row in node["data"]["inputFields"]
        }

    async def facets(self, run: str, kind: str) -> Any:
        found = await self.api.get(f"jobs/runs/{run}/facets?type={kind}")
        assert found["runId"] == run
        return found["facets"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with Plant(tmp_path_factory.mktemp("plant")) as made:
        await made.run_everything()
        made.terminate()
        assert await made.ended() == 0
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def seen(plant: Plant) -> AsyncIterator[Seen]:
    async with httpx.AsyncClient(timeout=60) as http:
        yield Seen(Marquez(plant.marquez_url, http), plant.namespaces())


async def test_the_graph_is_the_expected_one_from_each_of_its_nodes(seen: Seen) -> None:
    """Both halves of the plant that nothing joins, each from a job and from a dataset."""
    maintenance = seen.flows(await seen.graph("job", ("cdf", "transformation/sap_equipment_to_model")))
    from_the_end = seen.flows(await seen.graph("dataset", ("cdf", "views/sp_maintenance/SparePart/v1")))
    from_the_file = seen.flows(await seen.graph("dataset", CHAIN[0]))
    assert from_the_end == from_the_file
    everything: dict[Name, tuple[set[Name], set[Name]]] = {}
    for job in FLOWS:
        everything |= seen.flows(await seen.graph("job", job, depth=0))
    assert everything == FLOWS
    for part in (maintenance, from_the_end):
        assert part == {job: FLOWS[job] for job in part}
    assert {job for job, _ in FLOWS.items() if "work_orders" in job[1]} <= set(maintenance)


async def test_one_chain_goes_through_all_three_platforms(seen: Seen) -> None:
    graph = await seen.graph("dataset", CHAIN[-1])
    kinds = ["dataset" if place % 2 == 0 else "job" for place in range(len(CHAIN))]
    wanted = [seen.id(kind, name) for kind, name in zip(kinds, CHAIN, strict=True)]
    names = {node["id"] for node in graph}
    assert set(wanted) <= names
    mine = [node for node in graph if node["type"] == "DATASET" or node["data"]["namespace"] in seen.spaces.values()]
    known = {node["id"] for node in mine}
    within = [
        {**node, "outEdges": [edge for edge in node["outEdges"] if edge["destination"] in known]} for node in mine
    ]
    assert path(within, wanted[0], wanted[-1]) == wanted


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("wetransform", "templates/spare-parts"), CHAIN[2]),
        (("cdf", "raw/warehouse/spare_parts"), CHAIN[4]),
        (("wetransform", "sources/73ab4876-7734-47c1-87fd-e805ec99108d"), CHAIN[0]),
    ],
)
async def test_the_old_name_of_a_dataset_leads_to_the_new_one(seen: Seen, old: Name, new: Name) -> None:
    assert (await seen.dataset(old))["physicalName"] == new[1]
    ids = {node["id"] for node in await seen.graph("dataset", old)}
    assert seen.id("dataset", new) in ids
    assert seen.id("dataset", old) not in ids


@pytest.mark.parametrize("name", COLUMNS, ids=lambda name: name[1])
async def test_columns_come_from_where_they_come_from(seen: Seen, name: Name) -> None:
    """The whole way back: the dataset's own columns and those that they come from."""
    wanted, waiting = set(), [(name, column) for column in COLUMNS[name]]
    while waiting:
        dataset, column = waiting.pop()
        for source in COLUMNS.get(dataset, {}).get(column, set()):
            wanted.add(((dataset, column), source))
            waiting.append(source)
    assert await seen.column_edges(name) == wanted
    shown = await seen.dataset(name)
    one_step = {
        row["name"]: {(seen.name(r, "dataset"), r["field"]) for r in row["inputFields"]}
        for row in shown["columnLineage"]
    }
    assert one_step == COLUMNS[name]


async def test_each_single_column_has_its_graph(seen: Seen) -> None:
    """Marquez answers 500 for a column that it knows with two types."""
    for name, columns in COLUMNS.items():
        for column in columns:
            node = seen.api.node("datasetField", name[1], column, namespace=seen.spaces[name[0]])
            graph = (await seen.api.get(f"column-lineage?nodeId={node}"))["graph"]
            assert seen.id("datasetField", name, column) in {each["id"] for each in graph}


async def test_how_columns_come_about_is_said_in_words(seen: Seen) -> None:
    rows = {
        row["name"]: row for row in (await seen.dataset(("cdf", "views/sp_maintenance/Equipment/v1")))["columnLineage"]
    }
    words = {name: (row["transformationType"], row["transformationDescription"]) for name, row in rows.items()}
    assert words["name"] == ("IDENTITY", None)
    assert words["manufacturer"] == ("TRANSFORMED", "upper(trim(e.HERST))")


@pytest.mark.parametrize("name", FIELDS, ids=lambda name: name[1])
async def test_schemas_hold_each_column_once(seen: Seen, name: Name) -> None:
    shown = [field["name"] for field in (await seen.dataset(name))["fields"]]
    assert sorted(shown) == sorted(FIELDS[name])


async def test_a_run_makes_one_version_of_what_it_writes(plant: Plant, seen: Seen) -> None:
    """Two of them, where START and the end name different columns, leave it to chance which one is shown."""
    mine = {events.run_id for events in plant.events_by_run().values()}
    for name in {output for _, outputs in FLOWS.values() for output in outputs}:
        path = seen.api.at_dataset(name[1], seen.spaces.get(name[0], name[0]))
        rows = (await seen.api.get(f"{path}/versions?limit=1000"))["versions"]
        writers = [row["createdByRun"]["id"] for row in rows if row["createdByRun"]]
        assert len(set(writers) & mine) == len([run for run in writers if run in mine]) > 0, name


async def test_datasets_say_what_they_are(seen: Seen) -> None:
    delivered = await seen.dataset(("gs://plant-landing", "deliveries/spare-parts.csv"))
    assert delivered["facets"]["documentation"]["description"] == "Spare parts catalogue"
    assert len(delivered["facets"]["version"]["datasetVersion"]) == 16
    curated = await seen.dataset(("gs://plant-curated", "spare-parts/catalogue.csv"))
    assert curated["lastLifecycleState"] == "OVERWRITE"
    assert curated["facets"]["storage"]["fileFormat"] == "csv"
    assert curated["facets"]["dataSource"]["uri"] == "gs://plant-curated"
    by_day = await seen.dataset(("gs://plant-landing", "lims/*.csv"))
    assert by_day["facets"]["lineageCollector_resolvedNames"]["count"] == 3


async def test_run_facets_of_each_platform(plant: Plant, seen: Seen) -> None:
    orders = await seen.facets(plant.run_of(CDF, "sap_work_orders_clean"), "run")
    facet = orders["lineageCollector_platformRun"]
    assert (facet["source"], facet["state"], facet["platformState"]) == (CDF, "succeeded", "Completed")
    assert facet["ids"]["transformationExternalId"] == "sap_work_orders_clean"
    assert orders["processing_engine"]["name"] == "Spark"
    assert orders["externalQuery"] == {
        **{key: orders["externalQuery"][key] for key in ("_producer", "_schemaURL")},
        "externalQueryId": facet["runKey"],
        "source": "cdf",
    }
    assert "errorMessage" not in orders
    assert "extractionError" not in orders
    samples = await seen.facets(plant.run_of(WETRANSFORM, SAMPLES_FILE), "run")
    assert samples["lineageCollector_platformRun"]["platformState"] == "processed"
    assert samples["lineageCollector_observedInterval"]["ended"]["until"]
    recipe = await seen.facets(plant.events_by_run()[DATAPREP, "1"].run_id, "run")
    stages = [stage["kind"] for stage in recipe["lineageCollector_platformRun"]["stages"]]
    assert stages == ["ingest", "wrangle", "filewriter", "publish"]
    assert recipe["nominalTime"]["nominalStartTime"]
    assert recipe["processing_engine"]["name"] == "dataflow"


async def test_a_failure_says_why_and_hides_what_looks_like_a_secret(plant: Plant, seen: Seen) -> None:
    run = plant.run_of(CDF, "sap_equipment_to_model", "failed")
    shown = (await seen.facets(run, "run"))["errorMessage"]
    assert shown["message"].startswith("Cannot auto-create a direct relation to sp_plant:floc:1010-PUMP-07")
    assert "planted" not in shown["message"]
    assert (await seen.api.run(run))["state"] == "FAILED"


async def test_job_facets_hold_the_query_as_it_ran(plant: Plant, seen: Seen) -> None:
    for each in plant.cdf.transformations.values():
        if each.external_id != "sap_equipment_to_model":  # that one ran twice
            facets = await seen.facets(plant.run_of(CDF, each.external_id), "job")
            assert (facets["sql"]["query"], facets["sql"]["dialect"]) == (each.query, "spark")
            assert facets["documentation"]["description"] == each.name
            assert {tag["key"] for tag in facets.get("tags", {}).get("tags", ())} == set(each.tags)


async def test_row_counts_are_those_of_the_platform(plant: Plant, seen: Seen) -> None:
    for job, rows in (("sap_equipment_to_model", ROWS["equipment"]), ("sap_work_orders_clean", ROWS["orders"])):
        run = await seen.api.run(plant.run_of(CDF, job))
        [output] = run["outputDatasetVersions"]
        assert output["facets"]["outputStatistics"]["rowCount"] == rows
    read = {
        version["datasetVersionId"]["name"]: version["facets"]["inputStatistics"]["rowCount"]
        for version in (await seen.api.run(plant.run_of(CDF, "sap_work_orders_clean")))["inputDatasetVersions"]
    }
    assert read == {"raw/sap/aufk": ROWS["aufk"], "raw/sap/afih": ROWS["afih"]}


async def test_every_job_shows_its_last_run(plant: Plant, seen: Seen) -> None:
    ended = {"sap_equipment_to_model": "FAILED", "spare-parts.catalogue": "FAILED", "contractors.hours": "ABORTED"}
    for space, name in FLOWS:
        job = await seen.api.get(seen.api.at_job(name, seen.spaces[space]))
        assert job["latestRun"]["state"] == ended.get(name.partition("/")[2], "COMPLETED"), name
        assert job["labels"] == ["QUERY" if space == "cdf" else "JOB", space.upper()]
        assert job["description"] == TOLD.get((space, name), job["description"])


async def test_events_are_there_as_they_were_sent(plant: Plant, seen: Seen) -> None:
    """START and the end of each run, as far as Marquez keeps what it got."""
    lines = [orjson.loads(line) for line in expected.read_lines(plant.events)]
    sent = {(e["run"]["runId"], e["eventType"]) for e in lines if e["eventType"] not in {"OTHER", "RUNNING"}}
    after, before = min(e["eventTime"] for e in lines), max(e["eventTime"] for e in lines)
    found = await seen.api.get(f"events/lineage?limit=1000&after={after[:-5]}Z&before={before[:17]}59.999Z")
    kept = {(e["run"]["runId"], e["eventType"]) for e in found["events"]}
    assert sent <= kept
