"""The pages of runs and their JSON, on a real ledger in memory of this process."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from jsonschema import Draft202012Validator
from sqlalchemy import Connection

from collector.app.status import status
from collector.clock import to_ms
from collector.ledger import activity, jobs, replicas
from collector.ledger.activity import MINUTE_MS, Activity
from collector.ledger.restriction import Alone
from collector.ledger.sqlite.store import Store
from collector.model import Dataset, Definition, Facts, Interval, Skip, SkipKind, Stage, StageState
from collector.testing.clock import SimulatedClock
from exporters.web import responses
from exporters.web.pages import serve
from tests.unit.exporters.test_web import GOOD, LEDGER
from tests.unit.ledger.ledgers import (
    ALL,
    COMPLETE,
    FAIL,
    NOW,
    RUNNING,
    SECOND,
    START,
    Ledger,
    a_job,
    a_run,
    at,
    change,
    child_of,
)

OPENAPI = Path(__file__).parents[3] / "docs" / "openapi.yaml"
EVIL = '"><script>alert(1)</script>'


def happened(conn: Connection) -> None:
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL, kafka=ALL)
    reads = Facts(
        inputs=(Dataset("gs://in", "a.csv"),), outputs=(Dataset("gs://out", "b.csv"),), link="javascript:alert(1)"
    )
    ledger.happen("good/1", START, queued_at=at(NOW - 60 * SECOND))
    ledger.now += 90 * SECOND
    ledger.happen("good/1", COMPLETE, facts=reads)
    ledger.drain("marquez")
    ledger.drain("kafka")
    ledger.happen("bad", START, job=a_job(f"recipe/{EVIL}"))
    ledger.now += 61 * SECOND
    bounds = Interval(at(ledger.now - 30 * SECOND), at(ledger.now))
    ledger.happen("bad", FAIL, job=a_job(f"recipe/{EVIL}"), ended_within=bounds, facts=Facts(error=f"no rows {EVIL}"))
    ledger.park(ledger.claim("marquez")[0], sink="marquez", cause=f"422: {EVIL}")
    ledger.postpone(sink="marquez")
    defined = Definition((Dataset("gs://in", "a.csv"),), (Dataset("gs://out", f"b {EVIL}"),))
    jobs.define(conn, ledger.source, {"transformation/1": defined})
    ledger.happen("child", START, parent=child_of("bad"), facts=Facts(link="https://platform.example/runs/7"))


@asynccontextmanager
async def served(
    path: Path, fill: Callable[[Connection], None] = happened, **more: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    store = Store.open(path / "lineage.db", holder="test", clock=(clock := SimulatedClock()))
    await store.write(fill)

    async def state() -> Mapping[str, Any]:
        return await store.read_shown(status, clock, ["source"], {}, {}, LEDGER)

    listener = await serve(replace(GOOD, ledger=store, status=state, clock=clock, **more), "127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as client:
            yield client
    finally:
        await listener.close()
        await store.close()


async def page(client: aiohttp.ClientSession, path: str, status: int = 200) -> str:
    async with client.get(path) as answer:
        assert answer.status == status, await answer.text()
        assert answer.content_type == "text/html"
        return await answer.text()


async def data(client: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with client.get(path) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def test_a_list_of_runs_says_where_something_is_missing(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        shown = await page(client, "/runs")
        listed = await data(client, "/api/v1/runs")
    assert [run["run"] for run in listed["runs"]] == ["child", "bad", "good/1"], "newest first"
    marks = {
        run["run"]: [(mark["sink"], mark["standing"], mark["count"]) for mark in run["marks"]] for run in listed["runs"]
    }
    assert marks == {
        "good/1": [("kafka", "delivered", 0), ("marquez", "delivered", 0)],
        "bad": [("kafka", "waiting", 2), ("marquez", "parked", 1)],
        "child": [("kafka", "waiting", 1), ("marquez", "waiting", 1)],
    }
    assert listed["next"] is None
    assert 'title="marquez: parked"' in shown
    assert "1m 30s" in shown
    assert "<script>" not in shown


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("state=failed", ["bad"]),
        ("source=source&state=running", ["child"]),
        ("source=other", []),
        ("job=1", ["child", "good/1"]),
        ("job=transformation/1&state=succeeded", ["good/1"]),
        ("run=good/1", ["good/1"]),
        ("run=nobody", []),
        ("state=", ["child", "bad", "good/1"]),
        ("text=OOD%2F", ["good/1"]),
        ('text=No rows "><SCRIPT>', ["bad"]),
        ("text=inputs", []),
        ("text=%25", []),
        (f"text={a_run('child').run_id}", ["child"]),
        ("text=transformation&source=source", ["child", "good/1"]),
        ("since=2026-11-22T12:01:30", ["child", "bad"]),
        ("since=2026-11-22T12:00&until=2026-11-22T12:01:30%2B00:00", ["good/1"]),
        ("until=2026-11-22", []),
        ("since=1d&state=failed", ["bad"]),
    ],
)
async def test_runs_are_chosen(tmp_path: Path, query: str, found: list[str]) -> None:
    async with served(tmp_path) as client:
        assert [run["run"] for run in (await data(client, f"/api/v1/runs?{query}"))["runs"]] == found
        await page(client, f"/runs?{query}")


@pytest.mark.parametrize(
    "query",
    [
        "state=odd",
        "before=x",
        "before=-1",
        "before=²",
        f"before={'9' * 30}",
        "since=soon",
        "until=soon",
        "since=1h&until=2h",
    ],
)
async def test_what_cannot_be_asked_for_is_said(tmp_path: Path, query: str) -> None:
    async with served(tmp_path) as client:
        assert " is " in (await data(client, f"/api/v1/runs?{query}", 400))["error"]
        assert 'class="failed"' in await page(client, f"/runs?{query}", 400)


async def test_runs_of_a_time_are_in_the_order_in_which_they_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.web.run_pages.LISTED", 1)

    def in_disorder(conn: Connection) -> None:
        ledger = Ledger(conn)
        ledger.configure(a=ALL)
        for key, minutes in (("first", 1), ("third", 3), ("second", 2)):
            ledger.happen(key, START, started_at=at(NOW + 60_000 * minutes))

    async with served(tmp_path, in_disorder) as client:
        found, at_page = [], "/api/v1/runs?since=2026-11-01"
        while at_page:
            answer = await data(client, at_page)
            found += [run["run"] for run in answer["runs"]]
            at_page = answer["next"]
    assert found == ["third", "second", "first"]


async def test_runs_have_a_bar_as_long_as_they_took(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        shown = await page(client, "/runs")
    assert '<rect class="succeeded" width="100" height="6"/></svg> <span class="nowrap">1m 30s' in shown
    assert '<rect class="failed" width="68" height="6"/>' in shown
    assert '<rect class="bar" width="1" height="6"/></svg> <span class="nowrap quiet">0s so far' in shown


async def test_pages_go_on_until_all_were_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.web.run_pages.LISTED", 4)
    monkeypatch.setattr("exporters.web.run_pages.SEARCHED", 7)

    def many(conn: Connection) -> None:
        ledger = Ledger(conn)
        ledger.configure(a=ALL)
        for number in range(30):
            ledger.happen(f"{number}", START, *([FAIL] if number % 5 == 0 else []))

    expected_of = {
        "": range(29, -1, -1),
        "state=failed": range(25, -1, -5),
        "since=2026-11-01": range(29, -1, -1),
        "since=2026-11-01&state=failed": range(25, -1, -5),
    }
    async with served(tmp_path, many) as client:
        for query, expected in expected_of.items():
            found, at_page = [], f"/api/v1/runs?{query}"
            while at_page:
                answer = await data(client, at_page)
                found += [int(run["run"]) for run in answer["runs"]]
                at_page = answer["next"]
            assert found == [*expected]
        assert "Older runs" in await page(client, "/runs?state=failed")


async def test_a_run_shows_its_life_its_events_and_where_they_are(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        runs = {run["run"]: run["run_id"] for run in (await data(client, "/api/v1/runs"))["runs"]}
        good = await page(client, f"/runs/{runs['good/1']}")
        bad = await page(client, f"/runs/{runs['bad']}")
        child = await page(client, f"/runs/{runs['child']}")
        told = await data(client, f"/api/v1/runs/{runs['bad']}")
        assert (await data(client, "/api/v1/runs/bad"))["run_id"] == runs["bad"], "by the platform's own id"
        steps = (await data(client, f"/api/v1/runs/{runs['good/1']}"))["steps"]
    assert [(step["step"], step["seconds"]) for step in steps] == [
        ("queued", None),
        ("started", 60.0),
        ("START committed", 0.0),
        ("ended", 90.0),
        ("last seen", 0.0),
        ("COMPLETE committed", 0.0),
        ("START acknowledged by kafka", 0.0),
        ("START acknowledged by marquez", 0.0),
        ("COMPLETE acknowledged by kafka", 0.0),
        ("COMPLETE acknowledged by marquez", 0.0),
    ]
    assert "data-exact>2026-" in good
    assert re.search(r"It failed <time datetime=\"[^\"]+Z\" title=\"[^\"]+ UTC\">", bad)
    assert re.search(r"between</span> <time .* data-exact>.*<span class=.quiet.>and", bad)
    assert "marquez: all is delivered, the last event <time" in good
    assert "gs://out b.csv" in good
    assert 'href="javascript' not in good
    assert "queued for 1m; ran for 1m 30s" in good
    assert "ended between" in bad
    assert "<script>" not in bad
    assert f'href="/runs/{runs["child"]}"' in bad
    assert f'href="/runs/{runs["bad"]}"' in child
    assert 'href="https://platform.example/runs/7"' in child
    assert told["children"] == [runs["child"]]
    assert [(event["type"], [each["standing"] for each in event["sinks"]]) for event in told["events"]] == [
        ("START", ["waiting", "parked"]),
        ("FAIL", ["waiting", "retried"]),
    ]
    assert any("START is parked" in sentence for sentence in told["explanation"])


async def test_a_run_shows_when_it_waited_and_its_stages(tmp_path: Path) -> None:
    stages = (
        Stage("1", "ingest", StageState.SUCCEEDED, "Complete", "photon", at(NOW), at(NOW + SECOND)),
        Stage("2", "publish", StageState.FAILED, message=f"no table {EVIL}"),
    )

    def waited(conn: Connection) -> None:
        ledger = Ledger(conn)
        ledger.configure(marquez=ALL)
        for kind in (START, RUNNING, RUNNING, FAIL):
            ledger.happen("run", kind, facts=Facts(stages=stages))
            ledger.now += 10 * SECOND
        ledger.park(ledger.claim("marquez")[0], sink="marquez", cause="no")

    async with served(tmp_path, waited) as client:
        answer = await data(client, "/api/v1/runs/run")
        shown = await page(client, "/runs/run")
    steps = [(step["step"], step["seconds"]) for step in answer["steps"]]
    assert [
        step for step in steps if step[0] in {"started", "waiting", "goes on", "ended", "START parked for marquez"}
    ] == [
        ("started", None),
        ("waiting", 10.0),
        ("goes on", 10.0),
        ("ended", 10.0),
        ("START parked for marquez", 10.0),
    ]
    assert [(stage["kind"], stage["state"], stage["ended"]) for stage in answer["stages"]] == [
        ("ingest", "succeeded", "2026-11-22T12:00:01.000+00:00"),
        ("publish", "failed", None),
    ]
    assert complaints("/api/v1/runs/{run}", 200, answer) == []
    assert "waited for a person for 10s" in shown
    assert '<rect class="waiting" x="333.3" y="20" width="333.3" height="10">' in shown
    assert "no table" in shown
    assert "<script>" not in shown
    assert f"<code data-copy>{answer['run_id']}</code>" in shown


async def test_a_link_that_is_no_address_is_shown_as_it_is(tmp_path: Path) -> None:
    def fill(conn: Connection) -> None:
        ledger = Ledger(conn)
        ledger.configure(marquez=ALL)
        ledger.happen("one", START, facts=Facts(link="https://[plat"))

    async with served(tmp_path, fill) as client:
        assert 'href="https://[plat"' in await page(client, "/runs/one")


async def test_a_run_that_is_not_there_is_said(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        assert "the ledger has no run" in await page(client, "/runs/%3Cscript%3E", 404)
        assert "the ledger has no run" in (await data(client, "/api/v1/runs/x", 404))["error"]


async def test_parked_events_and_skips_are_listed_with_their_causes(tmp_path: Path) -> None:
    def filled(conn: Connection) -> None:
        happened(conn)
        ledger = Ledger(conn)
        ledger.configure(marquez=ALL, kafka=ALL)
        ledger.poll(skips=(Skip(SkipKind.ROW, EVIL, f"no id in {EVIL}"),))

    async with served(tmp_path, filled) as client:
        shown = await page(client, "/parked") + await page(client, "/skipped")
        [parked], causes = (await data(client, "/api/v1/parked")).values()
        [skipped] = (await data(client, "/api/v1/skipped"))["skipped"]
    assert (parked["sink"], parked["type"], parked["cause"]) == ("marquez", "START", f"422: {EVIL}")
    assert f'href="/runs/{parked["run_id"]}"' in shown
    assert (skipped["kind"], skipped["subject"], skipped["count"]) == ("row", EVIL, 1)
    assert "<script>" not in shown
    assert (shown.count("422: "), shown.count("no id in ")) == (2, 1), "a cause is there for its events, too"
    assert causes == [{"sink": "marquez", "cause": f"422: {EVIL}", "count": 1, "latest": parked["parked"]}]


@cache
def described() -> Any:
    """docs/openapi.yaml."""
    return yaml.safe_load(OPENAPI.read_text())


def complaints(path: str, status: int, answer: Any) -> list[str]:
    """Where the answer is not what docs/openapi.yaml says of this path."""
    document = described()
    of_status = document["paths"][path]["get"]["responses"][str(status)]
    if "$ref" in of_status:
        of_status = document["components"]["responses"][of_status["$ref"].rpartition("/")[2]]
    schema = {**of_status["content"]["application/json"]["schema"], "components": document["components"]}
    checker = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [error.message for error in checker.iter_errors(answer)]


async def test_answers_are_as_the_openapi_file_says(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        listed = await data(client, "/api/v1/runs")
        asked = {
            "/api/v1/runs": [("/api/v1/runs", 200), ("/api/v1/runs?state=odd", 400)],
            "/api/v1/runs/{run}": [
                *((f"/api/v1/runs/{run['run_id']}", 200) for run in listed["runs"]),
                ("/api/v1/runs/x", 404),
            ],
            "/api/v1/parked": [("/api/v1/parked", 200)],
            "/api/v1/skipped": [("/api/v1/skipped", 200)],
            "/api/v1/jobs": [("/api/v1/jobs", 200), ("/api/v1/jobs?state=odd", 400)],
            "/api/v1/jobs/{source}/{job}": [
                ("/api/v1/jobs/source/transformation%2F1", 200),
                ("/api/v1/jobs/source/x", 404),
            ],
            "/api/v1/datasets": [("/api/v1/datasets", 200)],
            "/api/v1/datasets/{namespace}/{name}": [
                ("/api/v1/datasets/gs:%2F%2Fin/a.csv", 200),
                ("/api/v1/datasets/x/y", 404),
            ],
            "/api/v1/sources": [("/api/v1/sources", 200)],
            "/api/v1/sources/{name}": [("/api/v1/sources/source", 200), ("/api/v1/sources/x", 404)],
            "/api/v1/sinks": [("/api/v1/sinks", 200)],
            "/api/v1/sinks/{name}": [("/api/v1/sinks/marquez", 200), ("/api/v1/sinks/x", 404)],
            "/api/v1/replicas": [("/api/v1/replicas", 200)],
        }
        found = [
            complaints(path, status, await data(client, url, status))
            for path, urls in asked.items()
            for url, status in urls
        ]
    assert found == [[]] * sum(map(len, asked.values()))
    assert complaints("/api/v1/runs", 200, {"runs": [{**listed["runs"][0], "more": 1}], "next": None}) != []
    assert [*asked] == [path for path, methods in described()["paths"].items() if "get" in methods]


async def test_sources_and_sinks_have_pages(tmp_path: Path) -> None:
    def filled(conn: Connection) -> None:
        happened(conn)
        ledger = Ledger(conn)
        ledger.configure(marquez=ALL, kafka=ALL)
        ledger.poll(skips=(Skip(SkipKind.ROW, EVIL, f"no id in {EVIL}"),))
        replicas.beat(conn, replicas.Replica("test", "1.0", "abc", frozenset({"source:source"})))
        minute = to_ms(SimulatedClock().now()) // MINUTE_MS * MINUTE_MS
        polled = Activity(ok=3, failed=1, took_ms=2000, longest_ms=700, events=7, requests=9, throttled=2, remaining=55)
        sent = Activity(ok=5, parked=1, took_ms=1000, longest_ms=900)
        activity.note(conn, {("source:source", minute): polled, ("sink:marquez", minute): sent})

    async with served(tmp_path, filled) as client:
        first, source = await page(client, "/"), await page(client, "/sources/source")
        sink, shared = await page(client, "/sinks/marquez"), await page(client, "/replicas")
        assert "there is no source" in await page(client, "/sources/%3Cscript%3E", 404)
        assert "there is no sink" in await page(client, "/sinks/%3Cscript%3E", 404)
        of_source = await data(client, "/api/v1/sources/source")
        of_sink = await data(client, "/api/v1/sinks/marquez")
        listed = (await data(client, "/api/v1/sources"))["sources"]
    assert (sum(listed[0]["last_hour"]), sum(of_sink["last_hour"])) == (7, 5)
    assert "7 events in the last hour" in first
    assert "3 ok, 1 failed; 0.50s on average, 0.70s at most" in source
    assert "9 in the last hour" in source
    assert "the platform said that 55 are left" in source
    assert "5 acknowledged, 0 to be repeated, 1 parked; 0.20s on average from commit" in sink
    assert of_source["watched"] == {"running": 1}
    assert of_source["polls"][0]["longest_seconds"] == 0.7
    assert [(each["cause"], each["parked"], each["retried"]) for each in of_sink["causes"]] == [
        (f"422: {EVIL}", 1, 0),
        (of_sink["causes"][1]["cause"], 0, 1),
    ]
    assert [(each["source"], each["pending"], each["parked"]) for each in of_sink["backlog"]] == [("source", 2, 1)]
    assert 'href="/sources/source"' in first
    assert '<a href="/parked">1 parked event</a>' in first
    assert "no id in" in source
    assert "422: " in sink
    assert "<script>" not in first + source + sink + shared
    assert (of_source["active"], of_source["jobs"], len(of_source["skips"])) == (1, 2, 1)
    assert (of_sink["parked"], of_sink["holder"], len(of_sink["parked_events"])) == (1, "test", 1)
    assert shared.count('href="/sinks/') == 2


async def test_an_empty_ledger_has_a_page(tmp_path: Path) -> None:
    async with served(tmp_path, lambda _: None) as client:
        assert "No such runs" in await page(client, "/runs")
        assert "Nothing is parked." in await page(client, "/parked")
        assert "Nothing was skipped." in await page(client, "/skipped")
        assert await data(client, "/api/v1/runs") == {"runs": [], "next": None}


async def test_a_changed_style_has_another_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Browsers keep one for an hour: a page after an upgrade would have the former one."""
    former = responses._edition()
    (changed := tmp_path / "pages.css").write_text("p { color: red }")
    monkeypatch.setattr(responses, "STATIC", {changed: "text/css"})
    assert responses._edition() not in {former, ""}


async def test_pages_run_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with served(tmp_path) as client, client.get("/runs") as answer:
        policy = answer.headers["Content-Security-Policy"]
        shown = await answer.text()
        [style_at] = re.findall('<link rel="stylesheet" href="([^"]*)">', shown)
        async with client.get(style_at) as style:
            assert style.content_type == "text/css"
        [script_at] = re.findall('<script src="([^"]*)" defer>', shown)
        async with client.get(script_at) as script:
            assert script.content_type == "text/javascript"
    assert {style_at.partition("?")[0], script_at.partition("?")[0]} == {"/static/pages.css", "/static/live.js"}
    assert "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'" in policy
    assert re.findall("<script[^>]*>[^<]*", shown) == [f'<script src="{script_at}" defer>']
    assert "style=" not in shown
    assert "<style" not in shown


async def test_a_run_for_one_sink_alone_says_so(tmp_path: Path) -> None:
    def alone(conn: Connection) -> None:
        ledger = Ledger(conn)
        ledger.configure(marquez=ALL, kafka=ALL)
        ledger.commit(change(None, "old", [START, COMPLETE], ledger.now), alone=Alone("kafka"))

    async with served(tmp_path, alone) as client:
        found = await data(client, "/api/v1/runs/old")
        shown = await page(client, "/runs/old")
    assert found["only_sinks"] == ["kafka"]
    standings = {each["sink"]: each["standing"] for event in found["events"] for each in event["sinks"]}
    assert standings == {"kafka": "waiting", "marquez": "restricted"}
    assert '<dt>Only for</dt><dd><a href="/sinks/kafka">kafka</a>' in shown
