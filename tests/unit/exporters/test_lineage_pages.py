"""The pages of jobs and datasets and their graphs, on a real ledger in memory of this process."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest
from sqlalchemy import Connection, select, update

from collector.ledger import jobs, schema
from collector.model import Dataset, Definition
from exporters.sinks.marquez.stored import web_address
from exporters.web.lineage_pages import short
from exporters.web.picture import BOX, HIGH, drawn
from tests.unit.exporters.test_run_pages import EVIL, data, happened, page, served
from tests.unit.ledger.ledgers import ALL, COMPLETE, FAIL, SECOND, START, Ledger, a_job

SPACE = "bigquery:a/b"


def chained(conn: Connection) -> None:
    """Raw -> load/0 -> table 1 -> load/1 -> table 2 ... -> table 5, each run some seconds longer than the one before."""
    ledger = Ledger(conn)
    ledger.configure(a=ALL)
    for number in range(5):
        name = f"load/{number}"
        for run in range(3):
            ledger.happen(f"{number} {run}", START, job=a_job(name))
            ledger.now += (run + 1) * SECOND
            ledger.happen(f"{number} {run}", COMPLETE if run < 2 else FAIL, job=a_job(name))
        tables = [Dataset(SPACE, f"table {each}") for each in (number, number + 1)]
        jobs.define(conn, ledger.source, {name: Definition((tables[0],), (tables[1],))})


async def test_a_job_shows_its_runs_its_datasets_and_what_is_around_it(tmp_path: Path) -> None:
    async with served(tmp_path, chained) as client:
        shown = await page(client, "/jobs/source/load%2F2")
        job = await data(client, "/api/v1/jobs/source/load%2F2?depth=1")
    assert (job["state"], job["succeeded"], job["failed"]) == ("failed", 2, 1)
    assert (job["median_seconds"], job["p95_seconds"], job["average_seconds"]) == (2.0, 3.0, 2.0)
    assert [run["duration_seconds"] for run in job["runs"]] == [3.0, 2.0, 1.0]
    assert job["last_success"] == job["runs"][1]["ended"]
    assert job["inputs"] == [{"namespace": SPACE, "name": "table 2"}]
    assert job["outputs"] == [{"namespace": SPACE, "name": "table 3"}]
    assert [node["name"] for node in job["graph"]["nodes"]] == ["table 2", "load/2", "table 3"]
    assert job["graph"]["edges"] == [[0, 1], [1, 2]]
    links = set(re.findall(r'<a href="(/(?:jobs|datasets)/[^"]+)" class', shown))
    assert links == {
        *(f"/jobs/source/load%2F{number}" for number in (1, 2, 3)),
        *(f"/datasets/bigquery%3Aa%2Fb/table%20{number}" for number in (2, 3)),
    }
    assert shown.count('class="edge"') == 4
    assert 'href="?depth=3"' in shown


async def test_runs_jobs_and_datasets_lead_to_the_pages_of_a_backend(tmp_path: Path) -> None:
    backends = {"lineage": partial(web_address, "https://marquez.example")}
    async with served(tmp_path, chained, backends=backends) as client:
        [run, *_] = (await data(client, "/api/v1/jobs/source/load%2F2"))["runs"]
        of_run = await page(client, f"/runs/{run['run_id']}")
        of_job = await page(client, "/jobs/source/load%2F2")
        of_dataset = await page(client, f"/datasets/{quote(SPACE, safe='')}/table%202")
    there = "https://marquez.example/lineage"
    assert f'<a href="{there}/job/cdf%3A%2F%2Fhost%2Fproject/load%2F2"' in of_run
    assert f'<a href="{there}/job/cdf%3A%2F%2Fhost%2Fproject/load%2F2"' in of_job
    assert f'<a href="{there}/dataset/bigquery%3Aa%2Fb/table%202"' in of_dataset


async def test_a_job_shows_its_sql_and_the_columns_of_its_latest_successful_run(tmp_path: Path) -> None:
    def defined(conn: Connection) -> None:
        ledger = Ledger(conn)
        ledger.configure(a=ALL)
        job = replace(a_job("load/0"), sql=f"SELECT a -- {EVIL}", dialect="spark")
        for key, end in (("good", COMPLETE), ("bad", FAIL)):
            ledger.happen(key, START, end, job=job)
        field = {"inputFields": [{"namespace": SPACE, "name": "t", "field": "a"}]}
        output = {"namespace": SPACE, "name": "out", "facets": {"columnLineage": {"fields": {f"b {EVIL}": field}}}}
        body = orjson.dumps({"job": {}, "outputs": [output]})
        good = select(schema.run.c.id).where(schema.run.c.key == "good").scalar_subquery()
        conn.execute(update(schema.event).where(schema.event.c.run_id == good).values(body=body))
        jobs.define(conn, ledger.source, {"load/0": Definition((Dataset(SPACE, "t"),), ())})

    async with served(tmp_path, defined) as client:
        shown = await page(client, "/jobs/source/load%2F0")
        job = await data(client, "/api/v1/jobs/source/load%2F0")
    assert job["sql"] == {"text": f"SELECT a -- {EVIL}", "dialect": "spark"}
    assert [column["from"] for column in job["datasets"]["outputs"][0]["columns"]] == [
        [{"namespace": SPACE, "name": "t", "column": "a"}]
    ]
    assert job["success_rate"] == 0.5
    assert "(50.0 % succeeded)" in shown
    assert "SELECT a -- " in shown
    assert 'href="/datasets/bigquery%3Aa%2Fb/t"' in shown
    assert f"{SPACE} out" in shown
    assert "/datasets/bigquery%3Aa%2Fb/out" not in shown, "no job is known to use it, so it has no page"
    assert "<script>alert" not in shown


async def test_a_dataset_shows_who_writes_and_who_reads_it(tmp_path: Path) -> None:
    async with served(tmp_path, chained) as client:
        shown = await page(client, "/datasets/bigquery%3Aa%2Fb/table%201?depth=6")
        dataset = await data(client, "/api/v1/datasets/bigquery%3Aa%2Fb/table%201")
    assert [job["job"] for job in dataset["writers"]] == ["load/0"]
    assert [job["job"] for job in dataset["readers"]] == ["load/1"]
    assert shown.count("<rect") == 9
    assert "one more" not in shown


async def test_a_dataset_shows_when_it_was_written_last_with_rows_and_columns(tmp_path: Path) -> None:
    def written(conn: Connection) -> None:
        chained(conn)
        field = {"inputFields": [{"namespace": SPACE, "name": "table 0", "field": "a"}]}
        facets = {"schema": {"fields": [{"name": "b", "type": "INT"}]}, "columnLineage": {"fields": {"b": field}}}
        counted = {"outputStatistics": {"rowCount": 12345}}
        output = {"namespace": SPACE, "name": "table 1", "facets": facets, "outputFacets": counted}
        body = orjson.dumps({"job": {}, "outputs": [{"namespace": SPACE, "name": "another"}, output]})
        last = select(schema.run.c.id).where(schema.run.c.key == "0 1").scalar_subquery()
        conn.execute(update(schema.event).where(schema.event.c.run_id == last).values(body=body))

    async with served(tmp_path, written) as client:
        shown = await page(client, "/datasets/bigquery%3Aa%2Fb/table%201")
        dataset = await data(client, "/api/v1/datasets/bigquery%3Aa%2Fb/table%201")
        unwritten = await data(client, "/api/v1/datasets/bigquery%3Aa%2Fb/table%200")
        silent = await data(client, "/api/v1/datasets/bigquery%3Aa%2Fb/table%202")
    assert dataset["written"]["run"]["run"] == "0 1", "the run after it failed"
    assert dataset["written"]["dataset"]["rows"] == 12345
    assert dataset["written"]["dataset"]["columns"] == [
        {"name": "b", "type": "INT", "from": [{"namespace": SPACE, "name": "table 0", "column": "a"}]}
    ]
    assert "12,345" in shown
    assert 'href="/datasets/bigquery%3Aa%2Fb/table%200" title' in shown
    assert f"/runs/{dataset['written']['run']['run_id']}" in shown
    assert unwritten["written"] is None
    assert silent["written"]["dataset"] is None


async def test_a_graph_cuts_what_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wide(conn: Connection) -> None:
        chained(conn)
        many = tuple(Dataset(SPACE, f"part {number}") for number in range(100))
        ledger = Ledger(conn)
        ledger.configure(a=ALL)
        ledger.happen("x", START, job=a_job("wide"))
        jobs.define(conn, ledger.source, {"wide": Definition(many, ())})

    async with served(tmp_path, wide) as client:
        assert "more than fits" in await page(client, "/jobs/source/wide")
        graph = (await data(client, "/api/v1/jobs/source/wide"))["graph"]
    assert (len(graph["nodes"]), graph["is_cut"]) == (80, True)


@pytest.mark.parametrize(
    ("path", "key", "query", "found"),
    [
        ("jobs", "job", "text=LOAD/3", ["load/3"]),
        ("jobs", "job", "state=succeeded", []),
        ("jobs", "job", "source=source&state=failed", [f"load/{number}" for number in range(5)]),
        ("jobs", "job", "source=other", []),
        ("jobs", "job", "text=%25", []),
        ("datasets", "name", "text=table+4", ["table 4"]),
        ("datasets", "name", "text=bigquery", [f"table {number}" for number in range(6)]),
        ("datasets", "name", "text=nothing", []),
    ],
)
async def test_jobs_and_datasets_are_chosen(tmp_path: Path, path: str, key: str, query: str, found: list[str]) -> None:
    async with served(tmp_path, chained) as client:
        assert [row[key] for row in (await data(client, f"/api/v1/{path}?{query}"))[path]] == found
        await page(client, f"/{path}?{query}")


async def test_lists_go_on_until_all_were_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.web.lineage_pages.LISTED", 2)
    async with served(tmp_path, chained) as client:
        for name, key, count in (("jobs", "job", 5), ("datasets", "name", 6)):
            found, at_page = [], f"/api/v1/{name}"
            while at_page:
                answer = await data(client, at_page)
                found += [row[key] for row in answer[name]]
                at_page = answer["next"]
            assert len(found) == len(set(found)) == count
            assert f"More {name}" in await page(client, f"/{name}")


async def test_names_of_others_are_text(tmp_path: Path) -> None:
    async with served(tmp_path, happened) as client:
        rows = (await data(client, "/api/v1/jobs"))["jobs"]
        [evil] = [row["job"] for row in rows if EVIL in row["job"]]
        paths = ["/jobs", "/datasets", "/jobs/source/transformation%2F1", f"/jobs/source/{evil.replace('/', '%2F')}"]
        shown = [await page(client, path) for path in paths]
        missing = await page(client, "/datasets/%3Cscript%3E/x", 404) + await page(client, "/jobs/a/%3Cscript%3E", 404)
        assert "state &#39;&lt;script" in await page(client, "/jobs?state=<script>", 400)
    assert "<script>" not in "".join(shown) + missing


async def test_empty_lists_have_pages(tmp_path: Path) -> None:
    async with served(tmp_path, lambda _: None) as client:
        assert "No such jobs" in await page(client, "/jobs")
        assert "No such datasets" in await page(client, "/datasets")


def test_boxes_stand_apart_and_data_goes_to_the_right() -> None:
    edges = [(0, 1), (1, 2), (0, 2), (3, 1), (2, 4), (2, 5), (2, 6)]
    picture = drawn(7, edges)
    assert all(picture.boxes[one][0] < picture.boxes[other][0] for one, other in edges)
    for number, (x, y) in enumerate(picture.boxes):
        others = picture.boxes[number + 1 :]
        assert all(abs(x - to_x) >= BOX or abs(y - to_y) >= HIGH for to_x, to_y in others)
        assert 0 <= x <= picture.width - BOX
        assert 0 <= y <= picture.height - HIGH


def test_circles_and_lonely_nodes_are_drawn() -> None:
    assert len(set(drawn(3, [(0, 1), (1, 0), (2, 2)]).boxes)) == 3
    assert drawn(1, []).boxes == [(6, 6)]


def test_names_that_have_no_room_in_a_box_keep_their_ends() -> None:
    assert short("raw/sap/equi") == "raw/sap/equi"
    assert short("transformation/pump_health_to_model") == "…mation/pump_health_to_model"
