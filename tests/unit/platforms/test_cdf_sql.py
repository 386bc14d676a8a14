"""What the SQL of CDF jobs adds to their events: inputs, columns, and what could not be read."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from collector.lineage.events import EventMaker
from collector.lineage.sql import Edge, Read, SqlLineage, Subtype, read
from collector.model import ColumnEdge, Dataset, EventKind, Field, Run, SkipKind
from collector.platforms.cdf.datasets import written
from collector.platforms.cdf.lineage import data_flow, sql_skips
from collector.platforms.cdf.rows import JobRow, read_job
from collector.platforms.cdf.sources import CdfCatalog
from simulators.cdf import Ending, Scenario
from tests.cdf_rig import CdfRig, cdf_rig
from tests.openlineage import faults

HERE = "cdf://here/plant-a"
QUERY = "select `key` as externalId, cast(name as string) as name from `SAP`.`pumps` where is_new('p', lastUpdatedTime)"


@pytest.fixture
async def rig() -> AsyncIterator[CdfRig]:
    async with cdf_rig() as made:
        made.simulator.add_transformation("pumps", {"type": "assets"}, query=QUERY)
        yield made


async def run_of(rig: CdfRig, query: str, seconds: float = 40, **definition: object) -> Run:
    """A run of a new transformation with this query, followed to its end."""
    found = rig.simulator.add_transformation("one", {"type": "events"}, query=query, **definition)
    job = rig.simulator.start_run(found.id, Scenario(runs_for=10))
    await rig.poller.follow(seconds)
    return rig.poller.runs[str(job.id)]


def names(datasets: tuple[Dataset, ...] | None) -> list[str] | None:
    return None if datasets is None else [dataset.name for dataset in datasets]


async def test_inputs_and_columns_are_on_start_and_on_the_end(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(starts_after=1, runs_for=20))
    maker = EventMaker("plant")
    events: dict[EventKind, Any] = {}
    for _ in range(8):
        await rig.poller.cycle()
        run = rig.poller.runs[str(job.id)]
        for key, transition in rig.poller.transitions:
            assert key == str(job.id)
            events.setdefault(transition.kind, orjson.loads(maker.event(run, transition)))
        rig.clock.advance(5)
    assert events.keys() == {EventKind.OTHER, EventKind.START, EventKind.COMPLETE}
    for event in events.values():
        assert faults(event) == []
        [pumps], [assets] = event["inputs"], event["outputs"]
        assert pumps["name"] == "raw/SAP/pumps"
        assert [field["name"] for field in pumps["facets"]["schema"]["fields"]] == ["key", "name", "lastUpdatedTime"]
        shown = assets["facets"]["schema"]["fields"]
        assert [field["name"] for field in shown] == ["externalId", "name"]
        assert {column["type"] for column in shown} == {"unknown"}, "what reads the table knows no type"
        lineage = assets["facets"]["columnLineage"]
        assert lineage["fields"]["externalId"]["transformationType"] == "IDENTITY"
        assert lineage["fields"]["name"]["transformationType"] == "TRANSFORMED"
        assert lineage["fields"]["name"]["transformationDescription"] == "cast(name as string)"
        [source] = lineage["fields"]["name"]["inputFields"]
        assert (source["namespace"], source["name"], source["field"]) == (pumps["namespace"], "raw/SAP/pumps", "name")
        [step] = source["transformations"]
        assert (step["type"], step["subtype"]) == ("DIRECT", "TRANSFORMATION")
        [whole] = lineage["dataset"]
        assert whole["field"] == "lastUpdatedTime"
        assert [(step["type"], step["subtype"]) for step in whole["transformations"]] == [("INDIRECT", "FILTER")]


@pytest.mark.parametrize("ends", [Ending.FAILED, Ending.CANCELLED])
async def test_runs_that_fail_or_are_cancelled_keep_their_inputs(rig: CdfRig, ends: Ending) -> None:
    job = rig.simulator.start_run("pumps", Scenario(runs_for=10, ends=ends))
    await rig.poller.follow(40)
    assert names(rig.poller.runs[str(job.id)].facts.inputs) == ["raw/SAP/pumps"]


async def test_inputs_are_those_of_the_job_not_of_the_definition(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(runs_for=20))
    rig.simulator.change_transformation("pumps", query="select 1 as x from other.one")
    later = rig.simulator.add_transformation("late", {"type": "events"}, query="select 1 as x from other.one")
    other = rig.simulator.start_run(later.id, Scenario(runs_for=20))
    await rig.poller.follow(60)
    assert names(rig.poller.runs[str(job.id)].facts.inputs) == ["raw/SAP/pumps"]
    assert names(rig.poller.runs[str(other.id)].facts.inputs) == ["raw/other/one"]


async def test_a_query_without_source_has_no_inputs_and_no_problem(rig: CdfRig) -> None:
    run = await run_of(rig, "select 1 as id")
    assert (run.facts.inputs, run.facts.problems) == ((), ())
    assert rig.poller.skips == []


async def test_what_cannot_be_read_is_reported_counted_once_and_the_rest_is_kept(rig: CdfRig) -> None:
    run = await run_of(rig, "select a from db.one join cdf_raw(lower('X'), 'y') on 1 = 1")
    assert names(run.facts.inputs) == ["raw/db/one"]
    assert names(run.facts.outputs) == ["events"]
    problem = "SQL: cdf_raw has an argument that is not a literal; what it reads is not known (line 1)"
    assert run.facts.problems == (problem,)
    assert [(skip.kind, skip.subject, skip.cause) for skip in rig.poller.skips] == [
        (SkipKind.SQL, "transformation one", problem)
    ]


async def test_sql_that_does_not_parse_leaves_the_tables_that_can_be_seen(rig: CdfRig) -> None:
    run = await run_of(rig, "select a:b.c from db.one, _cdf.assets where (((")
    assert names(run.facts.inputs) == ["raw/db/one", "assets"]
    assert names(run.facts.outputs) == ["events"]
    assert "cannot be parsed at line 1" in run.facts.problems[0]
    assert [skip.kind for skip in rig.poller.skips] == [SkipKind.SQL]


async def test_inputs_that_nobody_knows_are_unknown_not_none(rig: CdfRig) -> None:
    run = await run_of(rig, "select a from cdf_raw(x, y)")
    assert run.facts.inputs is None
    assert run.facts.problems


async def test_inputs_belong_to_the_project_that_is_read(rig: CdfRig) -> None:
    run = await run_of(rig, "select a from db.t", source_project="plant-b", destination_project="plant-c")
    [read], [output] = run.facts.inputs or (), run.facts.outputs or ()
    assert read.namespace.endswith("/plant-b")
    assert (read.uri or "").endswith("/projects/plant-b")
    assert output.namespace.endswith("/plant-c")
    assert {edge.namespace for edge in output.columns} == {read.namespace}


async def test_row_counts_come_on_top_of_the_columns(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(runs_for=10, metrics={"assets.created": 7}))
    await rig.poller.follow(40)
    [output] = rig.poller.runs[str(job.id)].facts.outputs or ()
    assert output.rows == 7
    assert output.columns


async def test_a_run_that_was_started_or_handed_in_has_its_inputs_at_once(rig: CdfRig) -> None:
    seen = await rig.platform.trigger("pumps", {}, "token")
    assert names(seen.facts.inputs) == ["raw/SAP/pumps"]
    watched = await rig.platform.watch(seen.key, {})
    assert names(watched.facts.inputs) == ["raw/SAP/pumps"]


async def test_a_query_that_takes_long_does_not_hold_up_its_run(rig: CdfRig, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def slow(text: str, *_: object) -> SqlLineage:
        begun.set()
        assert may_go_on.wait(30)
        return SqlLineage((Read("raw/SAP/pumps"),))

    monkeypatch.setattr("collector.lineage.sql_worker.read", slow)
    monkeypatch.setattr(rig.platform._sql, "_wait", 0.01)
    job = rig.simulator.start_run("pumps", Scenario(runs_for=30))
    await rig.poller.follow(10)
    key = str(job.id)
    assert EventKind.START in rig.poller.kinds(key)
    assert rig.poller.runs[key].facts.inputs is None
    assert rig.poller.runs[key].facts.problems == (), "there is time until the end"
    assert [skip.kind for skip in rig.poller.skips] == [SkipKind.SQL]
    await asyncio.to_thread(begun.wait, 30)
    may_go_on.set()
    while not rig.platform._sql._cache:
        await asyncio.sleep(0)
    await rig.poller.follow(40)
    assert rig.poller.kinds(key)[-1] is EventKind.COMPLETE
    assert names(rig.poller.runs[key].facts.inputs) == ["raw/SAP/pumps"]
    assert rig.poller.runs[key].facts.problems == ()


@pytest.mark.parametrize(
    "scenario", [Scenario(0.1, 0.1), Scenario(0.1, 0.1, Ending.FAILED), Scenario(0.1, 0.0, Ending.NEVER_STARTED)]
)
@pytest.mark.parametrize("mode", ["upsert", "delete"])
async def test_a_query_that_is_read_only_after_the_end_is_on_the_terminal_event(
    rig: CdfRig, monkeypatch: pytest.MonkeyPatch, scenario: Scenario, mode: str
) -> None:
    begun, may_go_on = threading.Event(), threading.Event()
    usual = read

    def slow(text: str, *rest: Any) -> SqlLineage:
        begun.set()
        assert may_go_on.wait(30)
        return usual(text, *rest)

    monkeypatch.setattr("collector.lineage.sql_worker.read", slow)
    monkeypatch.setattr(rig.platform._sql, "_wait", 0.01)
    rig.simulator.change_transformation("pumps", conflict_mode=mode)
    key = str(rig.simulator.start_run("pumps", scenario).id)
    rig.clock.advance(5)
    [seen] = [seen async for page in rig.platform.poll((), None) for seen in page.observations if seen.key == key]
    assert (seen.state.terminal, seen.settled) == (True, False)
    assert seen.facts.inputs is None
    await asyncio.to_thread(begun.wait, 30)
    may_go_on.set()
    while not rig.platform._sql._cache:
        await asyncio.sleep(0)
    await rig.poller.follow(20)
    run = rig.poller.runs[key]
    assert rig.poller.kinds(key)[-1].terminal
    assert names(run.facts.inputs) == ["raw/SAP/pumps"]
    assert [bool(output.columns) for output in run.facts.outputs or ()] == [mode == "upsert"]
    assert run.facts.problems == ()


async def test_a_query_that_is_never_read_is_reported_at_the_end(rig: CdfRig, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = threading.Event()
    monkeypatch.setattr("collector.lineage.sql_worker.read", lambda *_: may_go_on.wait(30))
    monkeypatch.setattr(rig.platform._sql, "_wait", 0.01)
    key = str(rig.simulator.start_run("pumps", Scenario(0.1, 5)).id)
    await rig.poller.follow(20)
    may_go_on.set()
    assert rig.poller.kinds(key)[-1] is EventKind.COMPLETE
    [problem] = rig.poller.runs[key].facts.problems
    assert "could not be read in time" in problem


COUNTS = {
    "raw.SAP.pumps.rows.read": 40,
    "raw.SAP.sites.rows.read": 5,
    "instances.read": 12,
    "timeseries.read": 3,
    "assets.read": 9,
    "assets.created": 7,
}


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("select a from SAP.pumps", {"raw/SAP/pumps": 40}),
        ("select a from SAP.pumps join SAP.sites using (b)", {"raw/SAP/pumps": 40, "raw/SAP/sites": 5}),
        ("select p.a from SAP.pumps p join SAP.pumps q on p.a = q.b", {"raw/SAP/pumps": None}),
        ("select a from SAP.pumps union select a from SAP.pumps", {"raw/SAP/pumps": None}),
        ("with x as (select a from SAP.pumps) select a from x", {"raw/SAP/pumps": 40}),
        ("with x as (select a from SAP.pumps) select x.a from x join x y on x.a = y.a", {"raw/SAP/pumps": None}),
        (
            "with x as (select a from SAP.pumps), y as (select a from x) select y.a from y, y z, SAP.sites",
            {"raw/SAP/pumps": None, "raw/SAP/sites": 5},
        ),
        ("with x as (select a from SAP.pumps) select a from SAP.pumps", {"raw/SAP/pumps": 40}),
        ("select a from cdf_nodes('s', 'v', '1')", {"views/s/v/1": 12}),
        (
            "select n.a from cdf_nodes('s', 'v', '1') n join cdf_nodes('s', 'w', '1') m on n.a = m.a",
            {"views/s/v/1": None, "views/s/w/1": None},
        ),
        ("select a from _cdf.assets", {"assets": 9}),
        ("select a from _cdf.timeseries, _cdf.events", {"timeseries": 3, "events": None}),
        ("select a from ext_onelake('s', 't')", {"external/s/t": None}),
        ("select a from SAP.pumps where", {"raw/SAP/pumps": None}),
    ],
)
async def test_rows_read_are_reported_where_they_are_those_of_one_input(
    rig: CdfRig, query: str, read: dict[str, int | None]
) -> None:
    found = rig.simulator.add_transformation("one", {"type": "assets"}, query=query)
    rig.simulator.modes.metrics_history = True
    job = rig.simulator.start_run(found.id, Scenario(0.1, 1, metrics=COUNTS))
    await rig.poller.follow(20)
    run = rig.poller.runs[str(job.id)]
    assert {each.name: each.rows for each in run.facts.inputs or ()} == read
    assert [each.rows for each in run.facts.outputs or ()] == [7]


async def test_rows_read_are_on_the_terminal_event_only(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", Scenario(1, 10, metrics=COUNTS))
    await rig.poller.follow(40)
    maker, run = EventMaker("plant"), rig.poller.runs[str(job.id)]
    events = [orjson.loads(maker.event(run, transition)) for _, transition in rig.poller.transitions]
    facets = {event["eventType"]: event["inputs"][0].get("inputFacets") for event in events}
    assert facets["START"] is None
    assert facets["COMPLETE"]["inputStatistics"]["rowCount"] == 40
    assert [faults(event) for event in events] == [[]] * len(events)


async def test_a_problem_of_the_sql_stays_when_the_counts_are_gone_too(rig: CdfRig) -> None:
    run = await run_of(rig, "select a from cdf_raw(x, y)", seconds=5)
    rig.simulator.remove(int(run.key))
    found = await rig.platform.enrich(replace(run, handle={}))
    assert [problem.partition(" ")[0] for problem in found.facts.problems] == ["SQL:", "the"]


SQL = SqlLineage(
    (Read("raw/db/t", ("a", "b")),),
    (Field("x", "int"),),
    (Edge("x", "raw/db/t", "a", Subtype.TRANSFORMATION, "int(a)"), Edge("", "raw/db/t", "b", Subtype.JOIN)),
)


def row(**given: object) -> JobRow:
    made = read_job({"id": 1, "query": "select 1", "transformationId": 5, "transformationExternalId": "t", **given})
    assert made is not None
    return made


def test_columns_become_edges_of_the_specification() -> None:
    output = written({"type": "events"}, HERE, "https://here").dataset
    flow = data_flow(row(), SQL, output, HERE, "https://here")
    assert flow.inputs == (Dataset(HERE, "raw/db/t", uri="https://here", fields=(Field("a"), Field("b"))),)
    assert flow.output is not None
    assert flow.output.fields == (Field("x"),), "a type that readers do not know makes two columns in Marquez"
    assert flow.output.columns == (
        ColumnEdge("x", HERE, "raw/db/t", "a", "DIRECT", "TRANSFORMATION", "int(a)"),
        ColumnEdge("", HERE, "raw/db/t", "b", "INDIRECT", "JOIN"),
    )


def test_into_a_job_that_deletes_nothing_flows() -> None:
    output = written({"type": "events"}, HERE, "https://here").dataset
    flow = data_flow(row(conflictMode="delete"), SQL, output, HERE, "https://here")
    assert flow.output == output
    assert names(flow.inputs) == ["raw/db/t"]


def test_a_job_without_destination_keeps_its_inputs() -> None:
    flow = data_flow(row(), SQL, None, HERE, "https://here")
    assert (flow.output, names(flow.inputs)) == (None, ["raw/db/t"])


def test_a_job_without_sql_says_so() -> None:
    flow = data_flow(row(query=None), None, None, HERE, "https://here")
    assert flow.inputs is None
    assert "does not hold its SQL" in flow.problems[0]
    assert [skip.subject for skip in sql_skips(row(query=None, transformationExternalId=None), None)] == [
        "transformation 5"
    ]


def test_many_problems_are_one_skip_of_bounded_length() -> None:
    [skip] = sql_skips(row(), SqlLineage(None, problems=("x" * 400, "y" * 400)))
    assert len(skip.cause) == 500
    assert sql_skips(row(), SQL) == ()


CATALOG = CdfCatalog()


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("cdf_raw", ("d", "t"), "raw/d/t"),
        ("cdf_raw", ("d", "t", "x"), None),
        ("cdf_raw", ("", "t"), None),
        ("cdf_raw", ("\x00", "t"), None),
        ("cdf_raw", (None, "t"), None),
        ("cdf_file_content", ("f",), "file_content/f"),
        ("cdf_file_content", ("f", "true"), "file_content/f"),
        ("cdf_file_content", ("f", "true", "x"), None),
        ("cdf_file_content", (), None),
        ("cdf_assetsubtree", ("a",), "assets"),
        ("cdf_assetsubtree", (None,), "assets"),
        ("cdf_assetsubtree", (), None),
        ("cdf_nodes", (), "nodes"),
        ("cdf_nodes", ("s", "v", "1"), "views/s/v/1"),
        ("cdf_nodes", ("s", "v"), None),
        ("cdf_edges", (), "edges"),
        ("cdf_edges", ("s", "v", "1"), "views/s/v/1"),
        ("cdf_data_models", ("s", "m", "1", "T"), "data_models/s/m/1/T"),
        ("cdf_data_models", ("s", "m", "1", "T", "p"), "data_models/s/m/1/T/p"),
        ("cdf_data_models", ("s", "m", "1"), None),
        ("ext_onelake", ("l", "t"), "external/l/t"),
        ("ext_onelake", ("l", "t", "s"), "external/l/s/t"),
        ("ext_onelake", ("l",), None),
        ("anything", (), None),
    ],
)
def test_functions_that_read(name: str, arguments: tuple[str | None, ...], expected: str | None) -> None:
    found = CATALOG.function(name, arguments)
    if expected is None:
        assert isinstance(found, str)
    else:
        assert found is not None
        assert not isinstance(found, str)
        assert found.name == expected


@pytest.mark.parametrize("name", ["range", "explode", "stack", "explode_outer", "inline_outer"])
def test_functions_of_spark_read_nothing(name: str) -> None:
    assert CATALOG.function(name, (None,)) is None


@pytest.mark.parametrize(
    "destination",
    [
        {"type": "raw", "database": "a/b", "table": "c:d"},
        {"type": "sequence_rows", "externalId": "x"},
        {"type": "assets"},
        {"type": "string_datapoints"},
        {"type": "data_sets"},
        {"type": "nodes"},
        {"type": "nodes", "view": {"space": "s", "externalId": "v", "version": "1"}},
        {
            "type": "instances",
            "dataModel": {"space": "s", "externalId": "m", "version": "1", "destinationType": "T"},
        },
    ],
)
def test_what_one_job_writes_another_reads_by_the_same_name(destination: dict[str, object]) -> None:
    reads = {
        "raw": CATALOG.table(("a/b", "c:d")),
        "sequence_rows": CATALOG.table(("_cdf_sequences", "x")),
        "assets": CATALOG.table(("_cdf", "assets")),
        "string_datapoints": CATALOG.table(("_cdf", "stringdatapoints")),
        "data_sets": CATALOG.table(("_CDF", "DataSets")),
        "nodes": CATALOG.function("cdf_nodes", ("s", "v", "1") if "view" in destination else ()),
        "instances": CATALOG.function("cdf_data_models", ("s", "m", "1", "T")),
    }
    found, output = reads[str(destination["type"])], written(destination, HERE, "https://here").dataset
    assert output is not None
    assert found is not None
    assert not isinstance(found, str)
    assert found.name == output.name
