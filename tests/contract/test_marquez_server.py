"""How Marquez 0.51 behaves. The simulator is held to it; with `MARQUEZ_URL` set, the same is asked of a real server.

Nothing here may send a name that breaks a shared server for others; the simulator's own tests do that.
"""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.contract.marquez_client import (
    END,
    JSON,
    LATE,
    MIDDLE,
    SPEC,
    START,
    Marquez,
    a_marquez,
    columns,
    dataset,
    facet,
    new_run,
    part,
)


@pytest.fixture
async def marquez() -> AsyncIterator[Marquez]:
    async with a_marquez() as made:
        yield made


def code_and_message(answer: httpx.Response) -> tuple[int, int, str]:
    error = answer.json()
    return answer.status_code, error["code"], error["message"]


class TestNamespacesAndJobs:
    async def test_a_namespace_is_put_and_read(self, marquez: Marquez) -> None:
        where = f"namespaces/{part(marquez.namespace)}"
        missing = await marquez.api("GET", where)
        assert code_and_message(missing) == (404, 404, f"Namespace '{marquez.namespace}' not found.")
        made = (await marquez.api("PUT", where, {"ownerName": "me", "description": "mine", "unknown": 1})).json()
        assert (made["name"], made["ownerName"], made["description"]) == (marquez.namespace, "me", "mine")
        assert await marquez.get(where) == made

    async def test_an_owner_that_lost_a_namespace_can_take_it_back_only_once(self, marquez: Marquez) -> None:
        where = f"namespaces/{part(marquez.namespace)}"
        codes = [(await marquez.api("PUT", where, {"ownerName": owner})).status_code for owner in "abab"]
        assert codes == [200, 200, 200, 500]

    async def test_a_job_needs_its_namespace_and_all_of_its_fields(self, marquez: Marquez) -> None:
        body = {"type": "BATCH", "inputs": [], "outputs": []}
        answer = await marquez.api("PUT", marquez.at_job(), body)
        assert code_and_message(answer) == (404, 404, f"Namespace '{marquez.namespace}' not found.")
        await marquez.api("PUT", f"namespaces/{part(marquez.namespace)}", {"ownerName": "me"})
        for missing in body:
            rest = {key: value for key, value in body.items() if key != missing}
            assert code_and_message(await marquez.api("PUT", marquez.at_job(), rest))[:2] == (500, 400)
        job = (await marquez.api("PUT", marquez.at_job(), {**body, "location": "https://a/b"})).json()
        assert job["id"] == {"namespace": marquez.namespace, "name": "transformation/1"}
        assert (job["location"], job["latestRun"], job["latestRuns"]) == ("https://a/b", None, None)

    @pytest.mark.parametrize("location", ["no url", "gopherx://a"])
    async def test_a_location_must_be_a_url(self, marquez: Marquez, location: str) -> None:
        await marquez.make_job()
        body = {"type": "BATCH", "inputs": [], "outputs": [], "location": location}
        assert code_and_message(await marquez.api("PUT", marquez.at_job(), body))[:2] == (500, 400)

    async def test_what_a_job_refers_to_must_be_there(self, marquez: Marquez) -> None:
        await marquez.make_job()
        inputs = [{"namespace": marquez.namespace, "name": "none"}]
        answer = await marquez.api("PUT", marquez.at_job(), {"type": "BATCH", "inputs": inputs, "outputs": []})
        assert code_and_message(answer) == (404, 404, "Dataset 'none' not found.")
        run = new_run()
        body = {"type": "BATCH", "inputs": [], "outputs": [], "runId": run}
        answer = await marquez.api("PUT", marquez.at_job(), body)
        assert code_and_message(answer) == (404, 404, f"Run '{run}' not found.")

    async def test_putting_a_job_again_takes_its_run_and_its_texts_away(self, marquez: Marquez) -> None:
        run = new_run()
        facets = {"documentation": facet(description="what it does")}
        await marquez.posted(marquez.event("START", run, job_facets=facets))
        [node] = (await marquez.get(f"lineage?nodeId={marquez.node('job', 'transformation/1')}"))["graph"]
        assert (node["data"]["latestRun"]["id"], node["data"]["description"]) == (run, "what it does")
        await marquez.api("PUT", marquez.at_job(), {"type": "BATCH", "inputs": [], "outputs": []})
        [node] = (await marquez.get(f"lineage?nodeId={marquez.node('job', 'transformation/1')}"))["graph"]
        assert (node["data"]["latestRun"], node["data"]["description"]) == (None, None)

    async def test_an_event_without_job_facets_clears_them(self, marquez: Marquez) -> None:
        facets = {"documentation": facet(description="d"), "sourceCodeLocation": facet(type="git", url="https://g/x")}
        await marquez.posted(marquez.event("START", new_run(), job_facets=facets))
        job = await marquez.get(marquez.at_job())
        assert (job["description"], job["location"]) == ("d", "https://g/x")
        await marquez.posted(marquez.event("START", new_run()))
        job = await marquez.get(marquez.at_job())
        assert (job["description"], job["location"]) == (None, None)

    async def test_job_lists_are_filtered_by_the_state_of_the_last_run(self, marquez: Marquez) -> None:
        await marquez.posted(
            marquez.event("START", new_run(), "transformation/runs"),
            marquez.event("COMPLETE", new_run(), "transformation/ended"),
        )
        where = f"namespaces/{part(marquez.namespace)}/jobs"
        both = await marquez.get(where)
        assert both["totalCount"] == 2
        found = await marquez.get(f"{where}?lastRunStates=RUNNING")
        assert [job["name"] for job in found["jobs"]] == ["transformation/runs"]
        assert (await marquez.api("GET", f"{where}?lastRunStates=NOPE")).status_code == 400
        assert (await marquez.get("namespaces/never.heard.of/jobs")) == {"totalCount": 0, "jobs": []}

    async def test_job_type_shows_as_labels(self, marquez: Marquez) -> None:
        for processing, kind in (("BATCH", "BATCH"), ("STREAMING", "STREAM")):
            facets = {"jobType": facet(processingType=processing, integration="CDF", jobType="QUERY")}
            await marquez.posted(marquez.event("START", new_run(), processing, job_facets=facets))
            await marquez.posted(marquez.event("COMPLETE", new_run(), processing, job_facets=facets))
            assert (await marquez.get(marquez.at_job(processing)))["type"] == kind
        assert (await marquez.get(marquez.at_job("BATCH")))["labels"] == ["QUERY", "CDF"]


class TestRunsApi:
    async def test_nothing_is_made_by_the_way(self, marquez: Marquez) -> None:
        run = new_run()
        assert code_and_message(await marquez.create(run))[2] == f"Namespace '{marquez.namespace}' not found."
        await marquez.api("PUT", f"namespaces/{part(marquez.namespace)}", {"ownerName": "me"})
        assert code_and_message(await marquez.create(run)) == (404, 404, "Job 'transformation/1' not found.")

    async def test_a_run_is_made_new_with_its_args_as_text(self, marquez: Marquez) -> None:
        await marquez.make_job()
        run = new_run()
        answer = await marquez.create(
            run, nominalStartTime="2026-03-01T12:00:00+02:00", args={"text": "a", "number": 1.5, "yes": True}
        )
        assert answer.status_code == 201
        assert run not in answer.headers["location"]
        body = answer.json()
        assert body["args"] == {"text": "a", "number": "1.5", "yes": "true"}
        assert (body["id"], body["state"], body["nominalStartTime"]) == (run, "NEW", "2026-03-01T10:00:00Z")
        assert [body[key] for key in ("startedAt", "endedAt", "durationMs", "jobVersion")] == [None] * 4
        assert "context" not in body

    async def test_an_id_is_taken_once_whatever_the_job(self, marquez: Marquez) -> None:
        await marquez.make_job()
        await marquez.make_job("transformation/2")
        run = new_run()
        assert (await marquez.create(run)).status_code == 201
        answer = await marquez.create(run, "transformation/2")
        words = f"Run '{run}' already exists for 'transformation/2' under namespace '{marquez.namespace}'."
        assert code_and_message(answer) == (400, 400, words)

    async def test_creating_one_run_at_once_leaves_one_run(self, marquez: Marquez) -> None:
        await marquez.make_job()
        run = new_run()
        answers = await asyncio.gather(*(marquez.create(run) for _ in range(8)))
        assert {answer.status_code for answer in answers} <= {201, 400}
        runs = await marquez.get(f"{marquez.at_job()}/runs")
        assert [found["id"] for found in runs["runs"]] == [run]

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", 500),
            (b"null", 500),
            (b"{", 400),
            (b'{"id": "no-uuid"}', 400),
            (b'{"args": {"a": [1]}}', 400),
            (b'{"args": {"a": null}}', 500),
            (b'{"nominalStartTime": "2026-03-01T10:00:00"}', 400),
            (b'{"nominalStartTime": "soon"}', 400),
        ],
    )
    async def test_a_bad_body_is_a_500_whose_code_says_why(self, marquez: Marquez, body: bytes, code: int) -> None:
        await marquez.make_job()
        assert code_and_message(await marquez.api("POST", f"{marquez.at_job()}/runs", body))[:2] == (500, code)

    async def test_states_are_believed_in_any_order(self, marquez: Marquez) -> None:
        await marquez.make_job()
        run = new_run()
        await marquez.create(run)
        ended = (await marquez.api("POST", f"jobs/runs/{run}/complete?at={END}")).json()
        assert (ended["state"], ended["startedAt"], ended["endedAt"]) == ("COMPLETED", None, END)
        again = (await marquez.api("POST", f"jobs/runs/{run}/start?at={LATE}")).json()
        assert (again["state"], again["startedAt"], again["endedAt"], again["durationMs"]) == (
            "RUNNING",
            LATE,
            END,
            -9500,
        )
        for verb, state in (("fail", "FAILED"), ("abort", "ABORTED")):
            assert (await marquez.api("POST", f"jobs/runs/{run}/{verb}?at={LATE}")).json()["state"] == state

    @pytest.mark.parametrize(
        ("at", "status"),
        [
            ("2026-03-01T10:00:00Z", 200),
            ("2026-03-01T12:00:00%2B02:00", 200),
            ("2026-03-01T12:00:00+02:00", 500),
            ("2026-03-01T10:00:00", 500),
            ("2026-03-01T10:00Z", 500),
            ("2026-03-01", 500),
            ("", 500),
        ],
    )
    async def test_the_time_of_a_state_needs_a_zone(self, marquez: Marquez, at: str, status: int) -> None:
        await marquez.make_job()
        run = new_run()
        await marquez.create(run)
        answer = await marquez.api("POST", f"jobs/runs/{run}/start?at={at}")
        assert answer.status_code == status
        if status == 200:
            assert answer.json()["startedAt"] == "2026-03-01T10:00:00Z"
        else:
            assert answer.json()["code"] == 500

    async def test_unknown_runs_and_calls(self, marquez: Marquez) -> None:
        run = new_run()
        for method, path in (("GET", f"jobs/runs/{run}"), ("POST", f"jobs/runs/{run}/start")):
            assert code_and_message(await marquez.api(method, path)) == (404, 404, f"Run '{run}' not found.")
        assert code_and_message(await marquez.api("GET", "jobs/runs/zz")) == (404, 404, "HTTP 404 Not Found")
        answer = await marquez.api("DELETE", f"jobs/runs/{run}/start")
        assert answer.status_code in {404, 405}

    async def test_runs_are_listed_newest_start_first(self, marquez: Marquez) -> None:
        early, late, unstarted = new_run(), new_run(), new_run()
        await marquez.make_job()
        await marquez.create(unstarted)
        await marquez.posted(marquez.event("START", early), marquez.event("START", late, at=LATE))
        found = await marquez.get(f"{marquez.at_job()}/runs")
        assert [run["id"] for run in found["runs"]] == [late, early, unstarted]
        assert found["totalCount"] == 3
        page = await marquez.get(f"{marquez.at_job()}/runs?limit=1&offset=1")
        assert [run["id"] for run in page["runs"]] == [early]
        assert (await marquez.api("GET", f"{marquez.at_job()}/runs?limit=-1")).status_code == 400


class TestEventBodies:
    async def test_only_json_is_taken(self, marquez: Marquez) -> None:
        event = marquez.event("START", new_run())
        for headers in ({}, {"Content-Type": "text/plain"}):
            answer = await marquez.call("POST", "/api/v1/lineage", event, headers)
            assert code_and_message(answer) == (415, 415, "HTTP 415 Unsupported Media Type")
        charset = {"Content-Type": "application/json; charset=utf-8"}
        assert (await marquez.call("POST", "/api/v1/lineage", event, charset)).status_code == 201

    async def test_gzip_is_inflated_and_nothing_else(self, marquez: Marquez) -> None:

        body = json.dumps(marquez.event("START", new_run())).encode()
        for content, encoding, status, code in (
            (gzip.compress(body), "gzip", 201, None),
            (b"no gzip", "gzip", 500, 500),
            (zlib.compress(body), "deflate", 500, 400),
        ):
            headers = {**JSON, "Content-Encoding": encoding, "Connection": "close"}
            answer = await marquez.call("POST", "/api/v1/lineage", content, headers)
            assert answer.status_code == status
            assert code is None or answer.json()["code"] == code

    @pytest.mark.parametrize("body", [b"", b"null", b"  "])
    async def test_no_body_is_a_422(self, marquez: Marquez, body: bytes) -> None:
        answer = await marquez.api("POST", "lineage", body)
        assert (answer.status_code, answer.json()) == (422, {"errors": ["The request body must not be null"]})

    @pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"7", b'{"eventTime": NaN}'])
    async def test_what_cannot_be_parsed_is_a_500_with_code_400(self, marquez: Marquez, body: bytes) -> None:
        assert code_and_message(await marquez.api("POST", "lineage", body))[:2] == (500, 400)

    @pytest.mark.parametrize(
        ("path", "named"),
        [
            (["eventTime"], "eventTime"),
            (["run"], "run"),
            (["run", "runId"], "run.runId"),
            (["job"], "job"),
            (["job", "name"], "job.name"),
            (["job", "namespace"], "job.namespace"),
            (["producer"], "producer"),
        ],
    )
    async def test_an_absent_field_is_a_422_that_names_it(self, marquez: Marquez, path: list[str], named: str) -> None:
        run = new_run()
        event: Any = marquez.event("START", run)
        inner = event
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        answer = await marquez.post(event)
        assert (answer.status_code, answer.json()) == (422, {"errors": [f"{named} must not be null"]})
        assert (await marquez.api("GET", f"jobs/runs/{run}")).status_code == 404

    @pytest.mark.parametrize(
        ("job_facets", "missing"),
        [
            ({"jobType": facet(processingType="BATCH", integration="CDF")}, {"jobType.jobType"}),
            ({"sql": {"query": "q"}}, {"sql._producer", "sql._schemaURL"}),
            ({"sql": facet()}, {"sql.query"}),
            ({"documentation": facet()}, {"documentation.description"}),
        ],
    )
    async def test_typed_job_facets_are_checked(self, marquez: Marquez, job_facets: Any, missing: set[str]) -> None:
        answer = await marquez.post(marquez.event("START", new_run(), job_facets=job_facets))
        assert answer.status_code == 422
        assert set(answer.json()["errors"]) == {f"job.facets.{name} must not be null" for name in missing}

    async def test_typed_run_and_dataset_facets_are_checked(self, marquez: Marquez) -> None:
        event = marquez.event(
            "START",
            new_run(),
            run_facets={"parent": facet(run={}, job={"name": "a"}), "nominalTime": facet()},
            inputs=[dataset(marquez.namespace, "d", schema=facet(fields=[{}]), symlinks=facet(identifiers=[{}]))],
        )
        answer = await marquez.post(event)
        assert answer.status_code == 422
        assert set(answer.json()["errors"]) == {
            f"{name} must not be null"
            for name in (
                "run.facets.parent.run.runId",
                "run.facets.parent.job.namespace",
                "run.facets.nominalTime.nominalStartTime",
                "inputs[0].facets.schema.fields[0].name",
                "inputs[0].facets.symlinks.identifiers[0].namespace",
                "inputs[0].facets.symlinks.identifiers[0].name",
            )
        }

    async def test_facets_that_it_does_not_know_are_taken_as_they_come(self, marquez: Marquez) -> None:
        own = {"anything": {"a": [1, None]}, "number": 5}
        run = new_run()
        await marquez.posted(marquez.event("START", run, run_facets=own, job_facets=own))
        assert (await marquez.run(run))["facets"] == own

    @pytest.mark.parametrize("at", ["2026-03-01", "2026-03-01T10:00:00+0200", "soon", True, []])
    async def test_a_time_that_cannot_be_parsed(self, marquez: Marquez, at: Any) -> None:
        assert code_and_message(await marquez.post(marquez.event("START", new_run(), at=at)))[:2] == (500, 400)

    @pytest.mark.parametrize(
        ("at", "started"),
        [
            ("2026-03-01T10:00:00", "2026-03-01T10:00:00Z"),
            ("2026-03-01T12:00:00.25+02:00", "2026-03-01T10:00:00.250Z"),
            (1772359200, "2026-03-01T10:00:00Z"),
            ("2026-03-01T10:00:00.123456789Z", "2026-03-01T10:00:00.123457Z"),
        ],
    )
    async def test_times_in_every_form(self, marquez: Marquez, at: Any, started: str) -> None:
        run = new_run()
        await marquez.posted(marquez.event("START", run, at=at))
        assert (await marquez.run(run))["startedAt"] == started

    @pytest.mark.parametrize(
        "change",
        [
            {"run": "text"},
            {"job": []},
            {"inputs": {}},
            {"outputs": "text"},
            {"schemaURL": "no uri {}"},
        ],
    )
    async def test_wrong_types_are_a_500_with_code_400(self, marquez: Marquez, change: Any) -> None:
        event = {**marquez.event("START", new_run()), **change}
        assert code_and_message(await marquez.post(event))[:2] == (500, 400)

    async def test_much_is_taken_that_is_no_open_lineage(self, marquez: Marquez) -> None:
        for change in (
            {"inputs": None, "outputs": None},
            {"producer": "no uri"},
            {"unknown": {"a": 1}},
            {"eventType": "WEIRD"},
        ):
            await marquez.posted({**marquez.event("START", new_run()), **change})
        for facets in ({"sourceCodeLocation": facet(url="no url")}, {"sql": None}):
            await marquez.posted(marquez.event("START", new_run(), job_facets=facets))
        without = marquez.event("START", new_run())
        del without["schemaURL"]
        await marquez.posted(without)
        await marquez.posted(marquez.event("START", "not-a-uuid-" + new_run()))

    @pytest.mark.parametrize(
        "broken",
        [
            {"inputs": [None]},
            {"job_facets": {"documentation": facet(description="a\0b")}},
            {"run_facets": {"own": {"a": "\0"}}},
        ],
    )
    async def test_what_breaks_inside_is_an_html_500(self, marquez: Marquez, broken: Any) -> None:
        answer = await marquez.post(marquez.event("START", new_run(), **broken))
        assert answer.status_code == 500
        assert answer.headers["content-type"].startswith("text/html")
        assert "<title>Error 500 Internal Server Error</title>" in answer.text

    @pytest.mark.parametrize("source", [{"name": "s", "uri": "http://[bad"}, {"uri": "https://a"}])
    async def test_a_bad_data_source_is_an_html_500(self, marquez: Marquez, source: dict[str, str]) -> None:
        outputs = [dataset(marquez.namespace, "d", dataSource=facet(**source))]
        answer = await marquez.post(marquez.event("COMPLETE", new_run(), outputs=outputs))
        assert (answer.status_code, "html" in answer.headers["content-type"]) == (500, True)

    async def test_a_missing_event_type_is_a_500_once_there_are_run_facets(self, marquez: Marquez) -> None:
        run = new_run()
        assert (await marquez.post(marquez.event(None, run))).status_code == 500
        assert (await marquez.run(run))["state"] == "NEW"
        event = marquez.event(None, new_run())
        del event["run"]["facets"]
        await marquez.posted(event)

    async def test_a_nul_leaves_half_of_the_event_behind(self, marquez: Marquez) -> None:
        run = new_run()
        answer = await marquez.post(marquez.event("START", run, run_facets={"own": {"a": "\0"}}))
        assert answer.status_code == 500
        found = await marquez.run(run)
        assert (found["state"], found["startedAt"], found["facets"]) == ("RUNNING", None, {})

    async def test_an_input_in_a_forbidden_namespace_is_an_html_400(self, marquez: Marquez) -> None:
        run = new_run()
        answer = await marquez.post(marquez.event("START", run, inputs=[dataset("a b", "d")]))
        assert (answer.status_code, "html" in answer.headers["content-type"]) == (400, True)
        assert (await marquez.api("GET", f"jobs/runs/{run}")).status_code == 404

    async def test_a_string_may_be_long_but_not_that_long(self, marquez: Marquez) -> None:
        sql = {"sql": facet(query="x" * 3_000_000)}
        await marquez.posted(marquez.event("START", new_run(), job_facets=sql))
        sql = {"sql": facet(query="x" * 20_000_001)}
        answer = await marquez.post(marquez.event("START", new_run(), job_facets=sql))
        assert code_and_message(answer)[:2] == (500, 400)

    async def test_a_wrong_method_or_path(self, marquez: Marquez) -> None:
        assert code_and_message(await marquez.api("PUT", "lineage", {})) == (405, 405, "HTTP 405 Method Not Allowed")
        assert code_and_message(await marquez.api("GET", "nothing")) == (404, 404, "HTTP 404 Not Found")


class TestStates:
    @pytest.mark.parametrize(
        ("kind", "state"),
        [("COMPLETE", "COMPLETED"), ("FAIL", "FAILED"), ("ABORT", "ABORTED"), ("complete", "COMPLETED")],
    )
    async def test_start_and_end(self, marquez: Marquez, kind: str, state: str) -> None:
        run = new_run()
        await marquez.posted(marquez.event("START", run), marquez.event(kind, run, at=END))
        found = await marquez.run(run)
        assert [found[key] for key in ("state", "startedAt", "endedAt")] == [state, START, END]
        assert (found["durationMs"], found["updatedAt"]) == (10_500, END)

    @pytest.mark.parametrize("kind", ["START", "RUNNING", "OTHER", "WEIRD"])
    async def test_the_last_event_wins(self, marquez: Marquez, kind: str) -> None:
        run = new_run()
        await marquez.posted(
            marquez.event("START", run), marquez.event("COMPLETE", run, at=END), marquez.event(kind, run, at=LATE)
        )
        found = await marquez.run(run)
        assert [found[key] for key in ("state", "startedAt", "endedAt")] == ["RUNNING", LATE, END]
        assert found["durationMs"] == -9_500

    async def test_the_end_may_come_first_and_change(self, marquez: Marquez) -> None:
        run = new_run()
        await marquez.posted(marquez.event("COMPLETE", run, at=END))
        found = await marquez.run(run)
        assert (found["state"], found["startedAt"]) == ("COMPLETED", None)
        await marquez.posted(marquez.event("FAIL", run, at=LATE))
        assert (await marquez.run(run))["state"] == "FAILED"
        await marquez.posted(marquez.event("START", run))
        assert (await marquez.run(run))["state"] == "RUNNING"

    async def test_running_in_the_middle_moves_the_start(self, marquez: Marquez) -> None:
        run = new_run()
        await marquez.posted(marquez.event("START", run), marquez.event("RUNNING", run, at=MIDDLE))
        assert (await marquez.run(run))["startedAt"] == MIDDLE

    async def test_the_same_event_twice_changes_nothing_but_the_pile_of_events(self, marquez: Marquez) -> None:
        run = new_run()
        events = [marquez.event("START", run), marquez.event("COMPLETE", run, at=END)]
        await marquez.posted(*events)
        once = await marquez.run(run)
        await marquez.posted(*events)
        assert await marquez.run(run) == once
        found = await marquez.get("events/lineage?limit=1000&after=2026-03-01T09:00:00Z&before=2026-03-01T11:00:00Z")
        assert sum(event["run"]["runId"] == run for event in found["events"]) == 4

    async def test_facets_add_up_and_the_later_time_wins(self, marquez: Marquez) -> None:
        run = new_run()
        error = {"errorMessage": facet(message="late", programmingLanguage="SQL")}
        early = {"errorMessage": facet(message="early", programmingLanguage="SQL"), "own": {"a": 1, "b": None}}
        await marquez.posted(
            marquez.event("FAIL", run, at=END, run_facets=error), marquez.event("START", run, run_facets=early)
        )
        found = await marquez.get(f"jobs/runs/{run}/facets?type=run")
        assert found == {"runId": run, "facets": {**error, "own": {"a": 1}}}

    async def test_facets_of_nothing_are_an_empty_body(self, marquez: Marquez) -> None:
        run = new_run()
        await marquez.posted(marquez.event("START", run))
        for kind in ("job", "run", "dataset"):
            answer = await marquez.api("GET", f"jobs/runs/{run}/facets?type={kind}")
            assert (answer.status_code, answer.content) == (200, b"")
        assert (await marquez.api("GET", f"jobs/runs/{run}/facets")).status_code == 400

    async def test_events_are_shown_as_marquez_understood_them(self, marquez: Marquez) -> None:
        run = new_run()
        facets = {"nominalTime": facet(nominalStartTime=START), "own": {"a": 1, "b": None}}
        parent = {
            "parent": facet(run={"runId": new_run(), "x": 1}, job={"namespace": marquez.namespace, "name": "p", "x": 1})
        }
        await marquez.posted(
            marquez.event("START", run, at="2026-03-01T10:00:00.250Z", run_facets=facets),
            marquez.event("COMPLETE", run, "p.c", at=END, run_facets=parent, outputs=[dataset(marquez.namespace, "o")]),
        )
        window = "after=2026-03-01T09:00:00Z&before=2026-03-01T11:00:00Z&limit=1000"
        found = await marquez.get(f"events/lineage?{window}")
        ended, began = (event for event in found["events"] if event["run"]["runId"] == run)
        assert began["eventTime"] == "2026-03-01T10:00:00.25Z"
        assert began["run"]["facets"]["own"] == {"a": 1}
        assert began["run"]["facets"]["parent"] is None
        assert began["run"]["facets"]["nominalTime"]["nominalEndTime"] is None
        assert ended["run"]["facets"]["parent"]["run"] == {"runId": parent["parent"]["run"]["runId"]}
        assert ended["outputs"][0]["facets"]["schema"] is None
        ascending = await marquez.get(f"events/lineage?{window}&sortDirection=asc")
        mine = [event["eventType"] for event in ascending["events"] if event["run"]["runId"] == run]
        assert mine == ["START", "COMPLETE"]
        assert (await marquez.api("GET", "events/lineage?before=never")).status_code == 400


class TestRunsApiAndEvents:
    async def test_a_created_run_keeps_its_args_and_nominal_times(self, marquez: Marquez) -> None:
        run = new_run()
        await marquez.make_job()
        await marquez.create(run, nominalStartTime=START, args={"a": "1"})
        nominal = {"nominalTime": facet(nominalStartTime=LATE)}
        await marquez.posted(
            marquez.event("START", run, run_facets=nominal), marquez.event("COMPLETE", run, at=END, run_facets=nominal)
        )
        found = await marquez.run(run)
        assert (found["nominalStartTime"], found["args"]) == (START, {"a": "1"})
        assert [found[key] for key in ("state", "startedAt", "endedAt")] == ["COMPLETED", START, END]
        assert found["jobVersion"]["name"] == "transformation/1"
        runs = await marquez.get(f"{marquez.at_job()}/runs")
        assert [row["id"] for row in runs["runs"]] == [run]

    async def test_event_first_leaves_no_room_for_creation(self, marquez: Marquez) -> None:
        run = new_run()
        nominal = {"nominalTime": facet(nominalStartTime="2026-03-01T10:00:00.250Z")}
        await marquez.posted(marquez.event("START", run, run_facets=nominal))
        before = await marquez.run(run)
        answer = await marquez.create(run, args={"a": "1"})
        assert answer.status_code == 400
        assert "already exists" in answer.json()["message"]
        assert await marquez.run(run) == before
        assert before["nominalStartTime"] is None
        assert before["args"] == {"nominal_start_time": "2026-03-01T10:00:00.250Z"}

    async def test_both_ways_mixed_with_the_same_times(self, marquez: Marquez) -> None:
        run = new_run()
        await marquez.make_job()
        await marquez.create(run)
        await marquez.api("POST", f"jobs/runs/{run}/start?at={START}")
        await marquez.posted(marquez.event("START", run), marquez.event("COMPLETE", run, at=END))
        await marquez.api("POST", f"jobs/runs/{run}/complete?at={END}")
        found = await marquez.run(run)
        assert [found[key] for key in ("state", "startedAt", "endedAt")] == ["COMPLETED", START, END]

    async def test_a_created_run_takes_over_the_inputs_of_the_last_event(self, marquez: Marquez) -> None:
        space = marquez.namespace
        await marquez.posted(marquez.event("COMPLETE", new_run(), inputs=[dataset(space, "raw/old", "a")]))
        run = new_run()
        await marquez.create(run)
        await marquez.posted(marquez.event("COMPLETE", run, at=END, inputs=[dataset(space, "raw/new", "a")]))
        used = {version["datasetVersionId"]["name"] for version in (await marquez.run(run))["inputDatasetVersions"]}
        assert used == {"raw/old", "raw/new"}
        run = new_run()
        await marquez.create(run)
        await marquez.posted(marquez.event("COMPLETE", run, at=END, inputs=[dataset(space, "raw/new", "a")]))
        used = {version["datasetVersionId"]["name"] for version in (await marquez.run(run))["inputDatasetVersions"]}
        assert used == {"raw/new"}

    async def test_namespaces_are_rewritten_on_the_event_path_only(self, marquez: Marquez) -> None:
        tail = new_run()
        spelled, stored = f"a=b;{tail}", f"a_b_{tail}"
        assert (await marquez.api("PUT", f"namespaces/{part(spelled)}", {"ownerName": "me"})).status_code == 200
        await marquez.posted(marquez.event("START", new_run(), namespace=spelled))
        assert (await marquez.api("GET", marquez.at_job(namespace=stored))).status_code == 200
        assert (await marquez.api("GET", marquez.at_job(namespace=spelled))).status_code == 404
        for odd in (f"m n{tail}", f"m,n{tail}", f"m%n{tail}"):
            await marquez.posted(marquez.event("START", new_run(), namespace=odd))
        runs = await marquez.get(f"{marquez.at_job(namespace=f'm_n{tail}')}/runs")
        assert runs["totalCount"] == 3

    async def test_a_namespace_that_cannot_be_is_not_found(self, marquez: Marquez) -> None:
        for name in ("a b", "é", "x" * 1025):
            assert code_and_message(await marquez.api("GET", f"namespaces/{part(name)}"))[:2] == (404, 404)

    @pytest.mark.parametrize(
        "name",
        [
            *("a/b", "a:b", "a%b", "a#b", "a;b", "a?b", "a&b", "a+b", 'a"b', "a\\b", "{a}", "a b", "a\tb"),
            *("é", "日本", "..", "%2F", "x" * 1000),
        ],
    )
    async def test_any_job_name_is_one_job_everywhere(self, marquez: Marquez, name: str) -> None:
        run = new_run()
        await marquez.make_job(name)
        assert (await marquez.create(run, name)).status_code == 201
        await marquez.posted(marquez.event("START", run, name))
        assert (await marquez.get(marquez.at_job(name)))["name"] == name
        assert [row["id"] for row in (await marquez.get(f"{marquez.at_job(name)}/runs"))["runs"]] == [run]

    @pytest.mark.parametrize(
        ("space", "graph", "column"),
        [
            ("plain{}", 200, 200),
            ("x{}:1", 200, 200),
            ("cdf://host:8443/p{}", 200, 200),
            ("cdf://h{}//p", 200, 200),
            ("cdf:proj{}", 404, 404),
            ("arn:aws:glue:eu:1{}", 404, 404),
            (":a{}", 500, 500),
        ],
    )
    async def test_node_ids_are_split_at_colons(self, marquez: Marquez, space: str, graph: int, column: int) -> None:
        space = space.format(new_run()[:8])
        await marquez.posted(
            marquez.event("COMPLETE", new_run(), "job", namespace=space, outputs=[dataset(space, "out", "a")])
        )
        for kind, name in (("job", "job"), ("dataset", "out")):
            node = marquez.node(kind, name, namespace=space)
            assert (await marquez.api("GET", f"lineage?nodeId={node}")).status_code == graph
        node = marquez.node("datasetField", "out", "a", namespace=space)
        assert (await marquez.api("GET", f"column-lineage?nodeId={node}")).status_code == column

    @pytest.mark.parametrize(
        ("name", "graph", "column"),
        [
            ("a/b", 200, 200),
            ("a b", 200, 200),
            ("a:9", 200, 200),
            ("é", 200, 200),
            ("2024/x", 500, 500),
            ("9:x", 404, 404),
            ("a:b", 200, 404),
            ("a#b", 200, 500),
        ],
    )
    async def test_names_under_a_namespace_with_slashes(
        self, marquez: Marquez, name: str, graph: int, column: int
    ) -> None:
        space = marquez.namespace
        await marquez.posted(marquez.event("COMPLETE", new_run(), name, outputs=[dataset(space, name, "a")]))
        for kind in ("job", "dataset"):
            answer = await marquez.api("GET", f"lineage?nodeId={marquez.node(kind, name)}")
            assert answer.status_code == graph
        answer = await marquez.api("GET", f"column-lineage?nodeId={marquez.node('datasetField', name, 'a')}")
        assert answer.status_code == column

    @pytest.mark.parametrize(
        ("node", "status"), [("", 400), ("nonsense", 404), ("job:a", 500), ("job:a:\n", 404), ("job:a b:c", 500)]
    )
    async def test_node_ids_that_are_none(self, marquez: Marquez, node: str, status: int) -> None:
        assert (await marquez.api("GET", f"lineage?nodeId={part(node)}")).status_code == status


class TestParents:
    def child(
        self, marquez: Marquez, kind: str, run: str, parent: str, name: str = "flow.step", **given: Any
    ) -> dict[str, Any]:
        space = given.pop("parent_namespace", marquez.namespace)
        link = {
            "parent": facet(run={"runId": parent}, job={"namespace": space, "name": given.pop("parent_name", "flow")})
        }
        return marquez.event(kind, run, name, run_facets=link, **given)

    async def test_a_child_is_named_after_its_parent(self, marquez: Marquez) -> None:
        parent, run, other = new_run(), new_run(), new_run()
        await marquez.posted(
            marquez.event("START", parent, "flow"),
            self.child(marquez, "START", run, parent),
            self.child(marquez, "START", other, parent, "step2"),
        )
        job = await marquez.get(marquez.at_job("flow.step"))
        assert (job["name"], job["simpleName"], job["parentJobName"]) == ("flow.step", "step", "flow")
        assert (await marquez.api("GET", marquez.at_job("step2"))).status_code == 404
        assert (await marquez.get(marquez.at_job("flow.step2")))["simpleName"] == "step2"

    async def test_an_unknown_parent_is_made_with_the_childs_state(self, marquez: Marquez) -> None:
        parent, run = new_run(), new_run()
        await marquez.posted(self.child(marquez, "COMPLETE", run, parent, at=END))
        found = await marquez.run(parent)
        assert [found[key] for key in ("state", "startedAt", "endedAt")] == ["COMPLETED", None, END]
        assert (await marquez.get(marquez.at_job("flow")))["name"] == "flow"

    async def test_a_parent_elsewhere_is_made_in_the_childs_namespace_and_then_once_more(
        self, marquez: Marquez
    ) -> None:
        parent, run = new_run(), new_run()
        elsewhere = f"{marquez.namespace}/elsewhere"
        for kind, at in (("START", START), ("COMPLETE", END)):
            await marquez.posted(self.child(marquez, kind, run, parent, at=at, parent_namespace=elsewhere))
        assert (await marquez.api("GET", marquez.at_job("flow", elsewhere))).status_code == 404
        assert (await marquez.get(f"{marquez.at_job('flow')}/runs"))["totalCount"] == 2

    async def test_parent_first_may_be_elsewhere(self, marquez: Marquez) -> None:
        parent, run = new_run(), new_run()
        elsewhere = f"{marquez.namespace}/elsewhere"
        await marquez.posted(
            marquez.event("START", parent, "flow", namespace=elsewhere),
            self.child(marquez, "START", run, parent, parent_namespace=elsewhere),
        )
        assert (await marquez.get(f"{marquez.at_job('flow', elsewhere)}/runs"))["totalCount"] == 1
        assert (await marquez.api("GET", marquez.at_job("flow"))).status_code == 404

    async def test_the_same_name_for_both_is_cut_at_the_last_dot(self, marquez: Marquez) -> None:
        await marquez.posted(self.child(marquez, "START", new_run(), new_run(), "flow.step", parent_name="flow.step"))
        assert (await marquez.get(marquez.at_job("flow")))["name"] == "flow"
        assert (await marquez.get(marquez.at_job("flow.step")))["parentJobName"] == "flow"

    async def test_a_created_run_stays_with_the_job_of_its_creation(self, marquez: Marquez) -> None:
        parent, run = new_run(), new_run()
        await marquez.make_job("step")
        await marquez.create(run, "step")
        await marquez.posted(marquez.event("START", parent, "flow"), self.child(marquez, "START", run, parent, "step"))
        assert [row["id"] for row in (await marquez.get(f"{marquez.at_job('step')}/runs"))["runs"]] == [run]
        assert (await marquez.get(f"{marquez.at_job('flow.step')}/runs"))["runs"] == []

    async def test_the_graph_of_a_child_shows_the_parents_run(self, marquez: Marquez) -> None:
        parent, run = new_run(), new_run()
        await marquez.posted(
            marquez.event("START", parent, "flow"),
            self.child(marquez, "COMPLETE", run, parent, outputs=[dataset(marquez.namespace, "out", "a")]),
        )
        found = await marquez.get(f"lineage?nodeId={marquez.node('job', 'flow.step')}")
        [job] = [node["data"] for node in found["graph"] if node["type"] == "JOB"]
        assert job["latestRun"]["id"] == parent
        assert (await marquez.get(marquez.at_job("flow.step")))["latestRun"]["id"] == run


class TestDatasets:
    async def test_one_version_of_an_output_per_run_and_schema(self, marquez: Marquez) -> None:
        space = marquez.namespace
        run = new_run()
        for kind, at in (("START", START), ("COMPLETE", END)):
            await marquez.posted(marquez.event(kind, run, at=at, outputs=[dataset(space, "same", "a")]))
        assert (await marquez.get(f"{marquez.at_dataset('same')}/versions"))["totalCount"] == 1
        run = new_run()
        await marquez.posted(
            marquez.event("START", run, outputs=[dataset(space, "other")]),
            marquez.event("COMPLETE", run, at=END, outputs=[dataset(space, "other", "a")]),
        )
        found = await marquez.get(f"{marquez.at_dataset('other')}/versions")
        assert found["totalCount"] == 2
        assert {version["createdByRun"]["id"] for version in found["versions"]} == {run}

    async def test_only_a_complete_makes_an_output_current(self, marquez: Marquez) -> None:
        outputs = [dataset(marquez.namespace, "out", "a")]
        await marquez.posted(marquez.event("START", new_run(), outputs=outputs))
        await marquez.posted(marquez.event("FAIL", new_run(), at=END, outputs=outputs))
        found = await marquez.get(marquez.at_dataset("out"))
        assert (found["currentVersion"], found["fields"]) == (None, [])
        await marquez.posted(marquez.event("COMPLETE", new_run(), at=END, outputs=outputs))
        found = await marquez.get(marquez.at_dataset("out"))
        assert found["currentVersion"] is not None
        assert [field["name"] for field in found["fields"]] == ["a"]

    async def test_an_input_that_nobody_wrote_gets_a_version_of_its_own(self, marquez: Marquez) -> None:
        run = new_run()
        await marquez.posted(marquez.event("START", run, inputs=[dataset(marquez.namespace, "in", "a")]))
        [version] = (await marquez.get(f"{marquez.at_dataset('in')}/versions"))["versions"]
        assert version["createdByRun"] is None
        assert (await marquez.get(marquez.at_dataset("in")))["currentVersion"] == version["version"]
        assert (await marquez.api("GET", f"runlineage/upstream?runId={run}")).status_code == 500

    async def test_columns_without_a_type_pile_up(self, marquez: Marquez) -> None:
        untyped = dataset(marquez.namespace, "in", schema=facet(fields=[{"name": "a"}]))
        for _ in range(3):
            await marquez.posted(marquez.event("START", new_run(), inputs=[untyped]))
        found = await marquez.get(marquez.at_dataset("in"))
        assert [field["name"] for field in found["fields"]] == ["a", "a", "a"]

    async def test_a_column_of_two_types_is_two_columns_and_has_no_graph(self, marquez: Marquez) -> None:
        """Its neighbours' graphs go through it all the same."""
        space = marquez.namespace
        for kind, job in (("DOUBLE", "w"), ("unknown", "r")):
            middle = dataset(space, "middle", schema=facet(fields=[{"name": "x", "type": kind}]))
            if job == "w":
                middle["facets"]["columnLineage"] = columns(x=(space, "first", "x"))
                inputs, outputs = [dataset(space, "first", "x")], [middle]
            else:
                inputs = [middle]
                outputs = [dataset(space, "last", "x", columnLineage=columns(x=(space, "middle", "x")))]
            await marquez.posted(marquez.event("COMPLETE", new_run(), job, inputs=inputs, outputs=outputs))
        found = await marquez.get(marquez.at_dataset("middle"))
        assert sorted(field["type"] for field in found["fields"]) == ["DOUBLE", "unknown"]
        path = f"column-lineage?nodeId={marquez.node('datasetField', 'middle', 'x')}"
        assert (await marquez.api("GET", path)).status_code == 500
        found = await marquez.get(f"column-lineage?nodeId={marquez.node('datasetField', 'last', 'x')}")
        ids = {f"datasetField:{space}:{name}:x" for name in ("first", "middle", "last")}
        assert {node["id"] for node in found["graph"]} == ids

    async def test_new_edges_come_with_the_end_and_old_ones_hide_while_a_run_says_nothing(
        self, marquez: Marquez
    ) -> None:
        space = marquez.namespace
        job = f"job:{space}:transformation/1"
        inputs, outputs = [dataset(space, "in", "a")], [dataset(space, "out", "a")]
        first = new_run()
        await marquez.posted(marquez.event("START", first, inputs=inputs, outputs=outputs))
        assert await marquez.graph("job", "transformation/1") == {job: set()}
        await marquez.posted(marquez.event("COMPLETE", first, at=END))
        whole = {f"dataset:{space}:in": {job}, job: {f"dataset:{space}:out"}, f"dataset:{space}:out": set()}
        assert await marquez.graph("job", "transformation/1") == whole
        second = new_run()
        await marquez.posted(marquez.event("START", second, at=LATE))
        assert await marquez.graph("job", "transformation/1") == {job: set()}
        await marquez.posted(marquez.event("FAIL", second, at=LATE))
        assert await marquez.graph("job", "transformation/1") == {job: set()}
        await marquez.posted(marquez.event("COMPLETE", new_run(), at=LATE, inputs=inputs, outputs=outputs))
        assert await marquez.graph("job", "transformation/1") == whole

    async def test_the_graph_reaches_over_common_datasets(self, marquez: Marquez) -> None:
        space = marquez.namespace
        for name, source, target in (("a", "d/1", "d/2"), ("b", "d/2", "d/3"), ("c", "d/3", "d/4")):
            await marquez.posted(
                marquez.event(
                    "COMPLETE", new_run(), name, inputs=[dataset(space, source)], outputs=[dataset(space, target)]
                )
            )
        assert set(await marquez.graph("job", "a", depth=0)) == {f"{n}" for n in _ids(space, ["a"], ["d/1", "d/2"])}
        assert set(await marquez.graph("job", "a", depth=1)) == _ids(space, ["a", "b"], ["d/1", "d/2", "d/3"])
        everything = _ids(space, ["a", "b", "c"], ["d/1", "d/2", "d/3", "d/4"])
        assert set(await marquez.graph("job", "a")) == everything
        assert set(await marquez.graph("dataset", "d/4")) == everything

    async def test_a_dataset_on_its_own_is_a_graph_of_one(self, marquez: Marquez) -> None:
        await marquez.posted(marquez.event("START", new_run(), inputs=[dataset(marquez.namespace, "in")]))
        assert await marquez.graph("dataset", "in") == {f"dataset:{marquez.namespace}:in": set()}

    async def test_column_lineage_needs_both_schemas_and_the_input(self, marquez: Marquez) -> None:
        space = marquez.namespace
        lineage = columns(to=(space, "in", "a"))
        cases = {
            "all": ([dataset(space, "in", "a")], dataset(space, "all", "to", columnLineage=lineage)),
            "no_output_schema": (
                [dataset(space, "in", "a")],
                dataset(space, "no_output_schema", columnLineage=lineage),
            ),
            "no_input": ([], dataset(space, "no_input", "to", columnLineage=lineage)),
            "no_input_schema": (
                [dataset(space, "bare")],
                dataset(space, "no_input_schema", "to", columnLineage=columns(to=(space, "bare", "a"))),
            ),
        }
        for name, (inputs, output) in cases.items():
            await marquez.posted(marquez.event("COMPLETE", new_run(), f"job/{name}", inputs=inputs, outputs=[output]))
        node = marquez.node("datasetField", "all", "to")
        found = {node["id"]: node for node in (await marquez.get(f"column-lineage?nodeId={node}"))["graph"]}
        source, target = f"datasetField:{space}:in:a", f"datasetField:{space}:all:to"
        assert set(found) == {source, target}
        assert found[target]["data"]["transformationType"] == "IDENTITY"
        assert found[target]["inEdges"] == [{"origin": target, "destination": source}]
        assert found[source]["outEdges"] == [{"origin": source, "destination": target}]
        for name in ("no_input", "no_input_schema"):
            node = marquez.node("datasetField", name, "to")
            assert (await marquez.get(f"column-lineage?nodeId={node}"))["graph"] == []
        node = marquez.node("datasetField", "no_output_schema", "to")
        assert (await marquez.api("GET", f"column-lineage?nodeId={node}")).status_code == 404

    async def test_column_lineage_from_above_and_below(self, marquez: Marquez) -> None:
        space = marquez.namespace
        for job, source, target in (("a", "d/1", "d/2"), ("b", "d/2", "d/3")):
            output = dataset(space, target, "x", columnLineage=columns(x=(space, source, "x")))
            await marquez.posted(
                marquez.event("COMPLETE", new_run(), job, inputs=[dataset(space, source, "x")], outputs=[output])
            )
        ids = [f"datasetField:{space}:d/{number}:x" for number in (1, 2, 3)]

        async def reached(name: str, query: str = "") -> list[str]:
            found = await marquez.get(f"column-lineage?nodeId={marquez.node('datasetField', name, 'x')}{query}")
            return [node["id"] for node in found["graph"]]

        assert await reached("d/3") == ids
        assert await reached("d/2") == ids[:2]
        assert await reached("d/2", "&withDownstream=true") == ids
        assert await reached("d/1", "&withDownstream=true") == []
        assert await reached("d/3", "&depth=1") == ids[1:]
        of_dataset = await marquez.get(f"column-lineage?nodeId={marquez.node('dataset', 'd/3')}")
        of_job = await marquez.get(f"column-lineage?nodeId={marquez.node('job', 'b')}")
        assert [node["id"] for node in of_dataset["graph"]] == [node["id"] for node in of_job["graph"]] == ids

    async def test_symlinks_are_further_names_of_one_dataset(self, marquez: Marquez) -> None:
        space = marquez.namespace
        alias = facet(identifiers=[{"namespace": space, "name": "alias", "type": "TABLE"}])
        await marquez.posted(
            marquez.event("COMPLETE", new_run(), "w", outputs=[dataset(space, "real", "a", symlinks=alias)])
        )
        assert (await marquez.get(marquez.at_dataset("alias")))["physicalName"] == "real"
        await marquez.posted(marquez.event("COMPLETE", new_run(), "r", inputs=[dataset(space, "alias", "a")]))
        found = await marquez.graph("job", "r")
        assert found[f"dataset:{space}:real"] == {f"job:{space}:r"}

    async def test_a_chain_of_jobs_that_know_a_dataset_by_different_names(self, marquez: Marquez) -> None:
        """The name that came first is the node; each of them leads to its graph."""
        space, elsewhere = marquez.namespace, f"{marquez.namespace}/elsewhere"
        alias = facet(identifiers=[{"namespace": elsewhere, "name": "old", "type": "TABLE"}])
        renamed = dataset(space, "new", "a", symlinks=alias)
        await marquez.posted(
            marquez.event("COMPLETE", new_run(), "w", outputs=[renamed]),
            marquez.event("COMPLETE", new_run(), "r", inputs=[dataset(elsewhere, "old", "a")]),
            marquez.event("COMPLETE", new_run(), "x", inputs=[dataset(space, "new", "a")]),
        )
        whole = {
            f"job:{space}:w": {f"dataset:{space}:new"},
            f"dataset:{space}:new": {f"job:{space}:r", f"job:{space}:x"},
            f"job:{space}:r": set(),
            f"job:{space}:x": set(),
        }
        assert await marquez.graph("job", "x") == whole
        assert await marquez.graph("dataset", "new") == whole
        assert await marquez.graph("dataset", "old", namespace=elsewhere) == whole

    async def test_an_alias_that_was_a_dataset_before_stays_one(self, marquez: Marquez) -> None:
        space = marquez.namespace
        alias = facet(identifiers=[{"namespace": space, "name": "old", "type": "TABLE"}])
        await marquez.posted(
            marquez.event("COMPLETE", new_run(), "before", outputs=[dataset(space, "old", "a")]),
            marquez.event("COMPLETE", new_run(), "w", outputs=[dataset(space, "new", "a", symlinks=alias)]),
        )
        assert set(await marquez.graph("job", "w")) == _ids(space, ["w"], ["new"])
        assert set(await marquez.graph("dataset", "old")) == _ids(space, ["before"], ["old"])

    async def test_an_alias_of_a_dataset_with_column_lineage_cannot_be_read(self, marquez: Marquez) -> None:
        space = marquez.namespace
        names = [{"namespace": where, "name": "alias", "type": "TABLE"} for where in (space, f"{space}/x")]
        alias = facet(identifiers=names)
        output = dataset(space, "real", "a", symlinks=alias, columnLineage=columns(a=(space, "in", "a")))
        await marquez.posted(marquez.event("COMPLETE", new_run(), inputs=[dataset(space, "in", "a")], outputs=[output]))
        assert (await marquez.get(marquez.at_dataset("real")))["columnLineage"][0]["name"] == "a"
        assert (await marquez.api("GET", marquez.at_dataset("alias"))).status_code == 500
        assert (await marquez.get(marquez.at_dataset("alias", f"{space}/x")))["columnLineage"] is None

    async def test_an_alias_in_a_list_takes_no_other_dataset_away(self, marquez: Marquez) -> None:
        space = marquez.namespace
        alias = facet(identifiers=[{"namespace": space, "name": "alias", "type": "TABLE"}])
        output = dataset(space, "real", "a", symlinks=alias, columnLineage=columns(a=(space, "in", "a")))
        await marquez.posted(marquez.event("COMPLETE", new_run(), inputs=[dataset(space, "in", "a")], outputs=[output]))
        found = await marquez.get(f"namespaces/{part(space)}/datasets")
        assert [row["name"] for row in found["datasets"]] == ["alias", "in", "real"]
        assert [bool(row["columnLineage"]) for row in found["datasets"]] == [False, False, True]
        assert (await marquez.api("GET", f"namespaces/{part(space)}/datasets?limit=1")).status_code == 500

    async def test_one_version_of_a_dataset_is_read_by_its_id(self, marquez: Marquez) -> None:
        space = marquez.namespace
        run = new_run()
        await marquez.posted(marquez.event("COMPLETE", run, outputs=[dataset(space, "out", "a", "b")]))
        [listed] = (await marquez.get(f"{marquez.at_dataset('out')}/versions"))["versions"]
        found = await marquez.get(f"{marquez.at_dataset('out')}/versions/{listed['version']}")
        assert [field["name"] for field in found["fields"]] == ["a", "b"]
        assert found["createdByRun"]["id"] == run
        assert found["facets"]["schema"]["fields"] == [{"name": name, "type": "STRING"} for name in "ab"]
        for path in (f"out/versions/{new_run()}", "out/versions/1", f"none/versions/{listed['version']}"):
            assert (await marquez.api("GET", f"namespaces/{part(space)}/datasets/{path}")).status_code == 404

    async def test_search_finds_jobs_and_datasets_by_parts_of_their_names(self, marquez: Marquez) -> None:
        space, word = marquez.namespace, f"w{new_run()[:8]}"
        await marquez.posted(
            marquez.event("COMPLETE", new_run(), f"job/{word}", outputs=[dataset(space, f"out/{word}/x", "a")])
        )
        found = await marquez.get(f"search?q={word.upper()}")
        assert {(row["type"], row["name"], row["namespace"], row["nodeId"]) for row in found["results"]} == {
            ("JOB", f"job/{word}", space, f"job:{space}:job/{word}"),
            ("DATASET", f"out/{word}/x", space, f"dataset:{space}:out/{word}/x"),
        }
        assert found["totalCount"] == 2
        only = await marquez.get(f"search?q={word}&filter=JOB&namespace={part(space)}")
        assert [row["type"] for row in only["results"]] == ["JOB"]
        assert (await marquez.get(f"search?q={word}&namespace=another"))["results"] == []
        for query in ("", f"?q={word}&filter=RUN"):
            assert (await marquez.api("GET", f"search{query}")).status_code == 400

    async def test_a_dropped_dataset_is_marked(self, marquez: Marquez) -> None:
        change = facet(lifecycleStateChange="DROP")
        outputs = [dataset(marquez.namespace, "out", lifecycleStateChange=change)]
        await marquez.posted(marquez.event("COMPLETE", new_run(), outputs=outputs))
        found = await marquez.get(marquez.at_dataset("out"))
        assert (found["deleted"], found["lastLifecycleState"]) == (True, "DROP")

    async def test_facets_and_statistics_are_where_they_belong(self, marquez: Marquez) -> None:
        space = marquez.namespace
        run = new_run()
        source = {**dataset(space, "in", "a"), "inputFacets": {"inputStatistics": facet(rowCount=3)}}
        target = {
            **dataset(space, "out", "b", documentation=facet(description="text"), own={"x": 1, "y": None}),
            "outputFacets": {"outputStatistics": facet(rowCount=5)},
        }
        await marquez.posted(marquez.event("COMPLETE", run, inputs=[source], outputs=[target]))
        found = await marquez.run(run)
        assert found["inputDatasetVersions"][0]["facets"] == {"inputStatistics": facet(rowCount=3)}
        assert found["outputDatasetVersions"][0]["facets"] == {"outputStatistics": facet(rowCount=5)}
        out = await marquez.get(marquez.at_dataset("out"))
        assert (out["description"], out["sourceName"], out["type"]) == ("text", "default", "DB_TABLE")
        assert out["facets"]["own"] == {"x": 1}
        assert "outputStatistics" not in out["facets"]

    async def test_upstream_runs(self, marquez: Marquez) -> None:
        space = marquez.namespace
        first, second = new_run(), new_run()
        await marquez.posted(
            marquez.event("COMPLETE", first, "w", outputs=[dataset(space, "d", "a")]),
            marquez.event("COMPLETE", second, "r", inputs=[dataset(space, "d", "a")]),
        )
        found = await marquez.get(f"runlineage/upstream?runId={second}")
        assert [row["run"]["id"] for row in found["runs"]] == [second, first]
        assert found["runs"][0]["inputs"][0]["producedByRunId"] == first

    async def test_events_without_a_run(self, marquez: Marquez) -> None:
        space = marquez.namespace
        shared = {"eventTime": START, "producer": "https://example.com/p"}
        job = {"namespace": space, "name": "designed", "facets": {"documentation": facet(description="text")}}
        inputs, outputs = [dataset(space, "in", "a")], [dataset(space, "out", "a")]
        await marquez.posted(
            {**shared, "schemaURL": f"{SPEC}JobEvent", "job": job, "inputs": inputs, "outputs": outputs}
        )
        await marquez.posted({**shared, "schemaURL": f"{SPEC}DatasetEvent", "dataset": dataset(space, "alone", "a")})
        found = await marquez.get(marquez.at_job("designed"))
        assert (found["description"], found["latestRun"]) == ("text", None)
        assert set(await marquez.graph("job", "designed")) == _ids(space, ["designed"], ["in", "out"])
        assert (await marquez.get(marquez.at_dataset("alone")))["currentVersion"] is not None
        events = await marquez.get("events/lineage?limit=1000&after=2026-03-01T09:00:00Z&before=2026-03-01T11:00:00Z")
        assert not [event for event in events["events"] if event["job"]["name"] == "designed"]


def _ids(space: str, jobs: list[str], datasets: list[str]) -> set[str]:
    return {f"job:{space}:{name}" for name in jobs} | {f"dataset:{space}:{name}" for name in datasets}


class TestTogether:
    async def test_first_events_of_one_dataset_at_once_all_arrive_in_the_end(self, marquez: Marquez) -> None:
        outputs = [dataset(marquez.namespace, "shared", "a")]

        async def deliver(run: str) -> None:
            while (
                await marquez.post(marquez.event("COMPLETE", run, f"job/{run}", outputs=outputs))
            ).status_code != 201:
                pass

        await asyncio.gather(*(deliver(new_run()) for _ in range(8)))
        assert (await marquez.get(f"{marquez.at_dataset('shared')}/versions"))["totalCount"] == 8

    async def test_many_runs_of_one_job_at_once_each_end_as_they_said(self, marquez: Marquez) -> None:
        runs = [new_run() for _ in range(12)]

        async def live(run: str) -> None:
            await marquez.posted(marquez.event("START", run), marquez.event("COMPLETE", run, at=END))

        await asyncio.gather(*(live(run) for run in runs))
        assert {(await marquez.run(run))["state"] for run in runs} == {"COMPLETED"}
