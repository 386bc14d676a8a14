"""The simulator against the vendor's own page and against the list of what a simulator of it must be able to do."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from collector.testing.faults import Fault, FaultKind
from simulators.dataprep import SCENARIOS, DataprepSimulator, Feature, Level, Scenario, Switches, Token
from simulators.server import Served


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 21, 6, 0, 0, 123_000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def pass_by(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Client:
    """Speaks to the simulator as the vendor's page describes."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base = base
        self._session = session
        self.headers = {"Authorization": "Bearer dataprep-token", "Accept": "application/json"}

    async def ask(self, path: str, *, method: str = "GET", **more: Any) -> tuple[int, Any, Any]:
        headers = self.headers | more.pop("headers", {})
        async with self._session.request(method, self.base + path, headers=headers, **more) as answer:
            is_json = answer.content_type == "application/json"
            body = await answer.json() if is_json and answer.status not in {204, 304} else await answer.text()
            return answer.status, body, answer.headers

    async def get(self, path: str, **query: Any) -> Any:
        status, body, _ = await self.ask(path, params=query)
        assert status == 200, body
        return body

    async def refused(self, path: str, *, method: str = "GET", **more: Any) -> tuple[int, str, Any]:
        status, body, _ = await self.ask(path, method=method, **more)
        assert set(body["exception"]) == {"name", "message", "details"}
        return status, body["exception"]["name"], body["exception"]["details"]

    async def run(self, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        body = {"wrangledDataset": {"id": 1}} if body is None else body
        return await self.ask("/v4/jobGroups", method="POST", json=body, headers=headers)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, self.base + path, json=body) as answer:
            return await answer.json()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def simulator(clock: Clock) -> DataprepSimulator:
    return DataprepSimulator(seed=7, now=clock)


@pytest.fixture
async def client(simulator: DataprepSimulator) -> AsyncIterator[Client]:
    async with Served(simulator) as served, aiohttp.ClientSession() as session:
        yield Client(served.url, session)


def statuses(simulator: DataprepSimulator, clock: Clock, run: int, step: float = 1.0) -> list[Any]:
    """The raw statuses of a run in the order seen, without repeats, over an hour."""
    seen: list[Any] = []
    for _ in range(int(3600 / step)):
        change = simulator.workspace.runs[run].group.at(clock())
        if change is not None and (not seen or seen[-1] != change.status):
            seen.append(change.status)
        clock.pass_by(step)
    return seen


class TestTheDocumentedRequests:
    async def test_run_answers_201_with_the_graph_of_its_stages(self, client: Client) -> None:
        status, body, _ = await client.run()
        assert status == 201
        assert body["reason"] == "JobStarted"
        assert set(body) == {"sessionId", "reason", "jobGraph", "id", "jobs"}
        assert {job["id"] for job in body["jobs"]["data"]} == set(body["jobGraph"]["vertices"])
        assert all(set(edge) == {"source", "target"} for edge in body["jobGraph"]["edges"])
        assert body["jobGraph"]["edges"]

    @pytest.mark.parametrize("spelling", ["writesettings", "writeSettings"])
    async def test_overrides_are_taken_in_both_spellings(
        self, client: Client, simulator: DataprepSimulator, spelling: str
    ) -> None:
        setting = {"path": "gs://elsewhere/out.csv", "action": "create", "format": "csv", "compression": "none"}
        overrides = {
            "execution": "spark",
            "profiler": False,
            spelling: [{**setting, "header": False, "asSingleFile": False}],
        }
        _, body, _ = await client.run({"wrangledDataset": {"id": 1}, "overrides": overrides})
        assert [write["path"] for write in simulator.workspace.runs[body["id"]].writes] == ["gs://elsewhere/out.csv"]

    async def test_overrides_are_not_checked_at_the_start_but_fail_the_writing(
        self, client: Client, simulator: DataprepSimulator, clock: Clock
    ) -> None:
        overrides = {"writesettings": [{"path": "gs://b/x.csv", "action": "no such action"}]}
        status, body, _ = await client.run({"wrangledDataset": {"id": 1}, "overrides": overrides})
        assert status == 201
        clock.pass_by(3600)
        jobs = (await client.get(f"/v4/jobGroups/{body['id']}/jobs"))["data"]
        assert {job["jobType"]: job["status"] for job in jobs}["wrangle"] == "Complete"
        assert {job["jobType"]: job["status"] for job in jobs}["filewriter"] == "Failed"

    async def test_run_parameters_are_taken(self, client: Client, simulator: DataprepSimulator) -> None:
        overrides = {"overrides": {"data": [{"key": "country", "value": "Germany"}]}}
        _, body, _ = await client.run({"wrangledDataset": {"id": 3}, "runParameters": overrides})
        assert simulator.workspace.runs[body["id"]].parameters == {"country": "Germany"}

    async def test_a_repeated_execution_id_answers_304_without_a_body(self, client: Client) -> None:
        execution = {"x-execution-id": "f9cab740-50b7-11e9-ba15-93c82271a00b"}
        assert (await client.run(None, **execution))[0] == 201
        status, body, _ = await client.run(None, **execution)
        assert (status, body) == (304, "")

    async def test_test_mode_starts_nothing(self, client: Client, simulator: DataprepSimulator) -> None:
        _, body, _ = await client.run({"wrangledDataset": {"id": 2}, "testMode": True})
        assert set(body) == {"datasetId", "datasetName", "sessionId"}
        assert not simulator.workspace.runs

    async def test_a_recipe_with_errors_refuses_unless_they_are_ignored(
        self, client: Client, simulator: DataprepSimulator
    ) -> None:
        simulator.workspace.recipes[1].broken = True
        assert (await client.run())[0] == 400
        assert (await client.run({"wrangledDataset": {"id": 1}, "ignoreRecipeErrors": True}))[0] == 201

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"wrangledDataset": {}},
            {"wrangledDataset": {"id": "<recipe-id>"}},
            {"wrangledDataset": {"id": 1}, "ranfrom": "moon"},
        ],
    )
    async def test_a_wrong_run_request_is_a_400(self, client: Client, body: Any) -> None:
        assert (await client.refused("/v4/jobGroups", method="POST", json=body))[0] == 400

    async def test_the_group_has_the_documented_fields(self, client: Client, simulator: DataprepSimulator) -> None:
        run = simulator.start_run()
        body = await client.get(f"/v4/jobGroups/{run.id}")
        named = "id name description ranfrom ranfor status profilingEnabled runParameterReferenceDate snapshot"
        others = "wrangledDataset flowrun createdAt updatedAt creator updater"
        assert set(body) == {*named.split(), *others.split()}
        assert body["createdAt"] == "2026-11-21T06:00:00.123Z"
        assert body["wrangledDataset"] == {"id": run.recipe}

    async def test_status_is_a_bare_string(self, client: Client, simulator: DataprepSimulator) -> None:
        run = simulator.start_run()
        assert await client.get(f"/v4/jobGroups/{run.id}/status") == "Created"

    async def test_the_stages_have_the_documented_fields(
        self, client: Client, simulator: DataprepSimulator, clock: Clock
    ) -> None:
        run = simulator.start_run("failed")
        clock.pass_by(3600)
        body = await client.get(f"/v4/jobGroups/{run.id}/jobs")
        assert body["count"] == len(body["data"])
        documented = (
            "id status jobType sampleSize percentComplete jobGroup errorMessage lastHeartbeatAt createdAt updatedAt"
        )
        others = "creator executionLanguage cpJobId wranglescript emrcluster"
        assert {*documented.split(), *others.split()} <= set(body["data"][0])
        failed = [job for job in body["data"] if job["status"] == "Failed"]
        assert [set(job["errorMessage"]) for job in failed] == [{"id"}]

    async def test_an_invalid_embed_lists_the_valid_ones(self, client: Client, simulator: DataprepSimulator) -> None:
        run = simulator.start_run()
        status, name, details = await client.refused(f"/v4/jobGroups/{run.id}", params={"embed": "*"})
        assert (status, name) == (400, "ValidationFailed")
        assert details.startswith("No association * in jobGroups! Valid associations are creator, flowrun, jobs")

    async def test_embeds_and_fields(self, client: Client, simulator: DataprepSimulator, clock: Clock) -> None:
        run = simulator.start_run()
        clock.pass_by(3600)
        path = f"/v4/jobGroups/{run.id}"
        embedded = await client.get(path, embed="jobs,wrangledDataset.flow")
        assert all(job["jobGroup"] == {"id": run.id} for job in embedded["jobs"]["data"])
        assert embedded["wrangledDataset"]["flow"]["name"]
        assert set(await client.get(path, fields="id;status")) == {"id", "status"}
        one = await client.get(path, fields="id", embed="jobs(limit=1,fields=id;status,sort=-id)")
        newest = max(job["id"] for job in embedded["jobs"]["data"])
        assert [(set(job), job["id"]) for job in one["jobs"]["data"]] == [({"id", "status"}, newest)]
        assert (await client.refused(path, params={"embed": "creator(limit=1)"}))[0] == 400
        assert "@planted-personal-data" in (await client.get(path, embed="creator"))["creator"]["email"]

    async def test_deep_embed_of_stages(self, client: Client, simulator: DataprepSimulator, clock: Clock) -> None:
        run = simulator.start_run()
        clock.pass_by(3600)
        body = await client.get(f"/v4/jobGroups/{run.id}", embed="jobs.scriptResults")
        assert all(job["scriptResults"]["data"] for job in body["jobs"]["data"])


class TestOutputObjects:
    async def test_life_of_an_output_object(self, client: Client, simulator: DataprepSimulator) -> None:
        flow = simulator.workspace.add_flow("new")
        recipe = simulator.workspace.add_recipe(flow, "fresh", [simulator.workspace.sources[1]]).id
        body = {"execution": "photon", "profiler": True, "isAdhoc": True, "flowNodeId": recipe}
        body |= {"writeSettings": [{"path": "gs://b/o.csv", "action": "create", "format": "csv"}], "publications": []}
        status, made, _ = await client.ask("/v4/outputObjects", method="POST", json=body)
        assert status == 201
        documented = "execution profiler isAdhoc flownode id createdAt updatedAt creator updater name description"
        assert set(made) == set(documented.split())
        assert (await client.refused("/v4/outputObjects", method="POST", json=body))[0] == 400
        path = f"/v4/outputObjects/{made['id']}"
        shown = await client.get(path, embed="writeSettings,publications,outputobjectdataflowoptions")
        assert shown["writeSettings"]["data"][0]["path"] == "gs://b/o.csv"
        status, patched, _ = await client.ask(path, method="PATCH", json={"name": "renamed"})
        assert (status, set(patched)) == (200, {"id", "updater", "createdAt", "updatedAt"})
        assert (await client.get(path))["name"] == "renamed"
        sources = await client.get(f"{path}/inputs")
        assert sources["count"] == 1
        assert {"dynamicPath", "isDynamic", "parsingScript", "storageLocation", "runParameters"} <= set(
            sources["data"][0]
        )
        assert (await client.ask(path, method="DELETE"))[:2] == (204, "")
        assert (await client.refused(path))[0] == 410
        assert (await client.get(path, includeDeleted="true"))["id"] == made["id"]

    @pytest.mark.parametrize(
        "wrong", [{"execution": "spark"}, {"profiler": "yes"}, {"writeSettings": {}}, {"execution": None}]
    )
    async def test_a_wrong_output_object_is_a_400(self, client: Client, wrong: dict[str, Any]) -> None:
        body = {"execution": "photon", "profiler": True, "flowNodeId": 1, **wrong}
        assert (await client.refused("/v4/outputObjects", method="POST", json=body))[0] == 400

    async def test_lists_are_cut_at_25_without_a_word(self, client: Client, simulator: DataprepSimulator) -> None:
        for _ in range(30):
            simulator.workspace.add_output(1)
        total = len(simulator.workspace.outputs)
        first = await client.get("/v4/outputObjects")
        assert len(first["data"]) == 25
        assert "count" not in first
        assert (await client.get("/v4/outputObjects", includeCount="true"))["count"] == total
        assert (await client.get("/v4/outputObjects/count"))["count"] == total
        rest = await client.get("/v4/outputObjects", offset=25, limit=100)
        assert len(rest["data"]) == total - 25

    async def test_filter_sort_and_fields(self, client: Client) -> None:
        found = await client.get(
            "/v4/outputObjects", filter="daily", filterType="contains", sort="id", fields="id;name", limit=500
        )
        numbers = [row["id"] for row in found["data"]]
        assert numbers == sorted(numbers)
        assert all(set(row) == {"id", "name"} and "daily" in row["name"] for row in found["data"])
        assert (await client.refused("/v4/outputObjects", params={"limit": "many"}))[0] == 400
        assert (await client.refused("/v4/outputObjects", params={"filterType": "vague", "filter": "x"}))[0] == 400


class TestAccess:
    async def test_every_answer_has_a_request_id(self, client: Client) -> None:
        first, second = [(await client.ask("/v4/jobGroups/404"))[2]["x-trifacta-request-id"] for _ in range(2)]
        assert first != second

    @pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic dataprep-token"])
    async def test_a_wrong_token_is_refused(self, client: Client, header: str) -> None:
        assert (await client.refused("/v4/open-api-spec", headers={"Authorization": header}))[0] == 401

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_token_expires(
        self, client: Client, simulator: DataprepSimulator, clock: Clock, status: int
    ) -> None:
        simulator.switches = Switches(expired_status=status)
        simulator.tokens["short"] = Token(expires_at=clock() + timedelta(minutes=1))
        headers = {"Authorization": "Bearer short"}
        assert (await client.ask("/v4/open-api-spec", headers=headers))[0] == 200
        clock.pass_by(60)
        assert (await client.refused("/v4/open-api-spec", headers=headers))[0] == status

    async def test_wrong_media_types_are_a_415(self, client: Client) -> None:
        assert (await client.refused("/v4/open-api-spec", headers={"Accept": "text/html"}))[0] == 415
        request = {"data": '{"wrangledDataset": {"id": 1}}', "headers": {"Content-Type": "text/plain"}}
        assert (await client.refused("/v4/jobGroups", method="POST", **request))[0] == 415

    async def test_the_run_quota_of_a_user(self, client: Client, clock: Clock) -> None:
        _, _, headers = await client.run()
        assert headers["x-rate-limit-user-limit"] == "30"
        assert headers["x-rate-limit-user-remaining"] == "29"
        assert headers["x-rate-limit-workspace-remaining"] == "59"
        assert headers["x-retry-after"] == "60"
        assert int(headers["x-rate-limit-user-reset"]) == int((clock() + timedelta(minutes=1)).timestamp() * 1000)
        clock.pass_by(3)
        for _ in range(29):
            assert (await client.run())[0] == 201
        status, body, headers = await client.run()
        assert status == 429
        assert headers["x-retry-after"] == "57"
        assert "x-rate-limit-workspace-limit" not in headers
        wait = "Wait 57 seconds before making a new request. (Max. 30 requests allowed per minute per user.)"
        assert body["exception"]["details"] == f'API quota reached for "runJobGroup". {wait}'
        clock.pass_by(57)
        assert (await client.run())[0] == 201

    async def test_the_run_quota_of_a_workspace_and_the_reset_in_seconds(
        self, client: Client, simulator: DataprepSimulator, clock: Clock
    ) -> None:
        simulator.switches = Switches(reset_unit="s")
        for user in (2, 3):
            simulator.tokens[f"user {user}"] = Token(user)
        answers = [
            await client.run(None, Authorization=f"Bearer {token}")
            for token in ["user 2"] * 30 + ["user 3"] * 30 + ["dataprep-token"]
        ]
        assert [status for status, _, _ in answers] == [201] * 60 + [429]
        assert answers[-1][2]["x-rate-limit-workspace-reset"] == str(int((clock() + timedelta(minutes=1)).timestamp()))

    async def test_a_quota_on_reads(self, client: Client, simulator: DataprepSimulator) -> None:
        simulator.switches = Switches(read_quota=2)
        assert [(await client.ask("/v4/open-api-spec"))[0] for _ in range(3)] == [200, 200, 429]

    async def test_faults_speak_the_vendors_words(self, client: Client, simulator: DataprepSimulator) -> None:
        simulator.faults.plan(Fault(FaultKind.HTML))
        simulator.faults.plan(Fault(FaultKind.STATUS, status=500))
        simulator.faults.plan(Fault(FaultKind.SLOW, delay=0.01))
        status, body, _ = await client.ask("/v4/open-api-spec")
        assert status == 502
        assert body.startswith("<html>")
        assert (await client.refused("/v4/open-api-spec"))[:2] == (500, "InternalServerError")
        assert (await client.ask("/v4/open-api-spec"))[0] == 200


class TestLevels:
    OPTIONAL = ("/v4/jobGroups", "/v4/jobLibrary", "/v4/flows/1", "/v4/wrangledDatasets/1", "/v4/people/current")

    @pytest.mark.parametrize(
        ("level", "there"), [(Level.L0, set()), (Level.L1, {"/v4/jobGroups"}), (Level.L2, set(OPTIONAL))]
    )
    async def test_what_a_level_has(
        self, client: Client, simulator: DataprepSimulator, level: Level, there: set[str]
    ) -> None:
        simulator.set_level(level)
        answers = {path: (await client.ask(path))[0] for path in self.OPTIONAL}
        assert {path for path, status in answers.items() if status == 200} == there
        claimed = (await client.get("/v4/open-api-spec"))["paths"]
        assert ("/v4/jobLibrary" in claimed) == ("/v4/jobLibrary" in there)
        assert "post" in claimed["/v4/jobGroups"]
        assert ("get" in claimed["/v4/jobGroups"]) == ("/v4/jobGroups" in there)

    @pytest.mark.parametrize(("status", "name"), [(404, "RouteNotFoundException"), (403, "AccessControlException")])
    async def test_answer_of_a_missing_path(
        self, client: Client, simulator: DataprepSimulator, status: int, name: str
    ) -> None:
        simulator.set_level(Level.L0)
        simulator.switches = Switches(absent_status=status)
        assert (await client.refused("/v4/jobLibrary"))[:2] == (status, name)

    async def test_the_document_may_be_empty_missing_or_boast(
        self, client: Client, simulator: DataprepSimulator
    ) -> None:
        simulator.set_level(Level.L0)
        simulator.switches = Switches(spec="empty")
        assert await client.get("/v4/open-api-spec") == {}
        simulator.switches = Switches(spec="all")
        assert "/v4/jobLibrary" in (await client.get("/v4/open-api-spec"))["paths"]
        simulator.switches = Switches(spec="missing")
        assert (await client.refused("/v4/open-api-spec"))[0] == 404

    async def test_paths_ignore_case_by_default(self, client: Client, simulator: DataprepSimulator) -> None:
        run = simulator.start_run()
        assert (await client.ask(f"/v4/jobgroups/{run.id}"))[0] == 200
        simulator.switches = Switches(case_sensitive=True)
        assert (await client.ask(f"/v4/jobgroups/{run.id}"))[0] == 404


class TestScenarios:
    EXPECTED = (
        ("complete", ["Created", "InProgress", "Complete"]),
        ("quick", ["Created", "InProgress", "Complete"]),
        ("pending", ["Pending", "InProgress", "Complete"]),
        ("failed", ["Created", "InProgress", "Failed"]),
        ("partial", ["Created", "InProgress", "Failed"]),
        ("validation_failed", ["Created", "Failed"]),
        ("canceled", ["Created", "InProgress", "Canceled"]),
        ("canceled_queued", ["Created", "Canceled"]),
        ("undefined", ["Created", "InProgress", "undefined", None, "InProgress", "Complete"]),
        ("stuck", ["Created", "InProgress"]),
    )

    @pytest.mark.parametrize(("scenario", "expected"), EXPECTED)
    def test_walk(self, simulator: DataprepSimulator, clock: Clock, scenario: str, expected: list[Any]) -> None:
        run = simulator.start_run(scenario)
        assert statuses(simulator, clock, run.id, step=0.1 if scenario == "quick" else 0.5) == expected

    def test_every_scenario_can_be_run(self, simulator: DataprepSimulator, clock: Clock) -> None:
        runs = [simulator.start_run(scenario) for scenario in SCENARIOS]
        clock.pass_by(10_000)
        assert {row["key"] for row in simulator.expected_runs()} == {str(run.id) for run in runs}

    def test_a_seed_gives_the_same_scenarios(self, clock: Clock) -> None:
        first, second = (DataprepSimulator(seed=3, now=clock) for _ in range(2))
        for simulator in (first, second):
            for scenario in SCENARIOS:
                simulator.start_run(scenario)
        clock.pass_by(600)
        assert first.expected_runs() == second.expected_runs()

    async def test_stages_follow_their_graph(self, client: Client, simulator: DataprepSimulator, clock: Clock) -> None:
        recipe = self._busy_recipe(simulator)
        _, body, _ = await client.run({"wrangledDataset": {"id": recipe}})
        clock.pass_by(3600)
        jobs = {job["id"]: job for job in (await client.get(f"/v4/jobGroups/{body['id']}/jobs"))["data"]}
        kinds = [
            (jobs[edge["source"]]["jobType"], jobs[edge["target"]]["jobType"]) for edge in body["jobGraph"]["edges"]
        ]
        assert sorted(kinds) == [
            ("ingest", "wrangle"),
            ("wrangle", "filewriter"),
            ("wrangle", "profile"),
            ("wrangle", "publish"),
        ]
        for edge in body["jobGraph"]["edges"]:
            assert jobs[edge["source"]]["updatedAt"] < jobs[edge["target"]]["updatedAt"]

    def _busy_recipe(self, simulator: DataprepSimulator) -> int:
        """A recipe with a table to read, and a file, a table and a profile to write."""
        workspace = simulator.workspace
        table = next(source for source in workspace.sources.values() if source.table)
        recipe = workspace.add_recipe(workspace.flows[1], "busy", [table])
        publication = {"path": ["project", "sales"], "tableName": "daily", "targetType": "bigquery", "action": "create"}
        workspace.add_output(
            recipe.id, profiler=True, write_settings=[{"path": "gs://b/x.csv"}], publications=[publication]
        )
        return recipe.id

    async def test_a_partial_failure_wrote_the_files_but_not_the_tables(
        self, client: Client, simulator: DataprepSimulator, clock: Clock
    ) -> None:
        run = simulator.start_run("partial", self._busy_recipe(simulator))
        clock.pass_by(3600)
        path = f"/v4/jobGroups/{run.id}"
        assert await client.get(f"{path}/status") == "Failed"
        outputs = await client.get(f"{path}/outputs")
        assert [file["uri"] for file in outputs["files"]] == ["gs://b/x.csv"]
        assert outputs["tables"] == []
        simulator.switches = Switches(outputs="planned")
        assert [table["table"] for table in (await client.get(f"{path}/outputs"))["tables"]] == ["daily"]

    @pytest.mark.parametrize("with_stages", [False, True])
    async def test_a_validation_failure_has_no_engine(
        self, client: Client, simulator: DataprepSimulator, clock: Clock, with_stages: bool
    ) -> None:
        simulator.switches = Switches(failed_validation_has_stages=with_stages, null_embedded_jobs=True)
        run = simulator.start_run("validation_failed", ranfrom="schedule")
        clock.pass_by(60)
        jobs = (await client.get(f"/v4/jobGroups/{run.id}/jobs"))["data"]
        assert bool(jobs) == with_stages
        assert all(job["executionLanguage"] is None for job in jobs)
        embedded = await client.get(f"/v4/jobGroups/{run.id}", embed="jobs")
        assert (embedded["jobs"]["data"] is None) == (not with_stages)

    @pytest.mark.parametrize("reopens", [False, True])
    async def test_publishing_late(
        self, client: Client, simulator: DataprepSimulator, clock: Clock, reopens: bool
    ) -> None:
        simulator.switches = Switches(late_publish_reopens=reopens)
        run = simulator.start_run("late_publish")
        late = next(stage for stage in run.stages if stage.plan.late)
        clock.time = late.created_at - timedelta(seconds=1)
        before = await client.get(f"/v4/jobGroups/{run.id}", embed="jobs")
        clock.pass_by(2)
        during = await client.get(f"/v4/jobGroups/{run.id}", embed="jobs")
        assert (before["status"], during["status"]) == ("Complete", "InProgress" if reopens else "Complete")
        assert len(during["jobs"]["data"]) == len(before["jobs"]["data"]) + 1

    async def test_cancel_before_during_and_after(
        self, client: Client, simulator: DataprepSimulator, clock: Clock
    ) -> None:
        queued, running, done = (simulator.start_run() for _ in range(3))
        answers = [await client.ask(f"/v4/jobGroups/{queued.id}/cancel", method="POST")]
        clock.pass_by(15)
        answers.append(await client.ask(f"/v4/jobGroups/{running.id}/cancel", method="POST"))
        clock.pass_by(3600)
        answers.append(await client.ask(f"/v4/jobGroups/{done.id}/cancel", method="POST"))
        assert [(status, set(body)) for status, body, _ in answers] == [(200, {"jobgroupId", "jobIds"})] * 3
        shown = [await client.get(f"/v4/jobGroups/{run.id}/status") for run in (queued, running, done)]
        assert shown == ["Canceled", "Canceled", "Complete"]
        jobs = (await client.get(f"/v4/jobGroups/{running.id}/jobs"))["data"]
        assert {job["status"] for job in jobs} <= {"Canceled", "Complete"}

    @pytest.mark.parametrize("status", [410, 404, 400])
    async def test_a_deleted_run(self, client: Client, simulator: DataprepSimulator, clock: Clock, status: int) -> None:
        simulator.switches = Switches(deleted_status=status)
        run = simulator.start_run("deleted")
        clock.pass_by(3600)
        assert (await client.refused(f"/v4/jobGroups/{run.id}/status"))[0] == status
        assert (await client.get("/v4/jobLibrary", runBy="all"))["data"] == []
        assert len((await client.get("/v4/jobLibrary", runBy="all", includeDeleted="true"))["data"]) == 1
        assert (await client.get(f"/v4/jobGroups/{run.id}", includeDeleted="true"))["id"] == run.id

    async def test_a_hidden_run(self, client: Client, simulator: DataprepSimulator) -> None:
        run = simulator.start_run(hidden=True)
        assert (await client.refused(f"/v4/jobGroups/{run.id}"))[:2] == (403, "AccessControlException")

    @pytest.mark.parametrize("status", [404, 400])
    async def test_a_run_that_never_was(self, client: Client, simulator: DataprepSimulator, status: int) -> None:
        simulator.switches = Switches(missing_status=status, details="object")
        found, _, details = await client.refused("/v4/jobGroups/999")
        assert (found, "does not exist" in details["text"]) == (status, True)

    @pytest.mark.parametrize(("switch", "where"), [("workloadError", "group"), ("embed", "stage"), ("none", None)])
    async def test_where_the_text_of_an_error_is(
        self, client: Client, simulator: DataprepSimulator, clock: Clock, switch: str, where: str | None
    ) -> None:
        simulator.switches = Switches(error_text=switch)
        run = simulator.start_run("failed")
        clock.pass_by(3600)
        embed = "jobs.errorMessage" if switch == "embed" else "jobs"
        body = await client.get(f"/v4/jobGroups/{run.id}", embed=embed)
        failed = next(job for job in body["jobs"]["data"] if job["status"] == "Failed")
        assert ("workloadError" in body) == (where == "group")
        assert ("message" in failed["errorMessage"]) == (where == "stage")
        if switch == "none":
            assert (await client.refused(f"/v4/jobGroups/{run.id}", params={"embed": "jobs.errorMessage"}))[0] == 400

    async def test_ids_dates_and_stage_times_by_switch(
        self, client: Client, simulator: DataprepSimulator, clock: Clock
    ) -> None:
        simulator.switches = Switches(string_ids=True, dates="seconds", stage_times=True)
        run = simulator.start_run()
        clock.pass_by(3600)
        body = await client.get(f"/v4/jobGroups/{run.id}", embed="jobs")
        assert (body["id"], body["wrangledDataset"]["id"]) == (str(run.id), str(run.recipe))
        assert body["createdAt"] == "2026-11-21T06:00:00Z"
        assert all(job["createdAt"] <= job["startedAt"] < job["finishedAt"] for job in body["jobs"]["data"])


class TestLists:
    async def test_the_library_says_too_much_of_the_creator(self, client: Client, simulator: DataprepSimulator) -> None:
        simulator.start_run()
        slim = {"fields": "id;status;createdAt;updatedAt;wrangledDataset;flowrun;ranfrom;ranfor", "runBy": "all"}
        row = (await client.get("/v4/jobLibrary", **slim))["data"][0]
        assert "@planted-personal-data" in row["creator"]["email"]
        simulator.switches = Switches(fields_strip_creator=True)
        assert set((await client.get("/v4/jobLibrary", **slim))["data"][0]) == set(slim["fields"].split(";"))

    async def test_the_library_filters(self, client: Client, simulator: DataprepSimulator, clock: Clock) -> None:
        old = simulator.start_run("complete")
        clock.pass_by(3600)
        mark = int(clock().timestamp() * 1000)
        new = simulator.start_run("complete", ranfrom="schedule", ranfor="sampling")
        simulator.start_run(ranfrom=None)

        async def ids(**query: Any) -> list[int]:
            return [row["id"] for row in (await client.get("/v4/jobLibrary", runBy="all", **query))["data"]]

        assert await ids() == [new.id, old.id]
        assert await ids(sort="updatedAt") == [old.id, new.id]
        assert await ids(status="Created") == [new.id]
        assert await ids(ranfrom="schedule") == await ids(ranfor="sampling") == [new.id]
        assert await ids(**{"dateFilter[createdAt][gte]": mark}) == [new.id]
        assert await ids(**{"dateFilter[updatedAt][lt]": mark}) == [old.id]
        flow = simulator.workspace.flows[simulator.workspace.recipes[old.recipe].flow].name
        assert old.id in await ids(filter=flow)
        assert await ids(filter=str(new.id)) == [new.id]
        assert (await client.get("/v4/jobLibrary/count", runBy="all"))["count"] == 2
        assert (await client.refused("/v4/jobLibrary", params={"dateFilter[updatedAt][gte]": "yesterday"}))[0] == 400
        assert (await client.refused("/v4/jobLibrary", params={"embed": "jobs"}))[0] == 400

    async def test_only_the_first_status_counts_by_default(
        self, client: Client, simulator: DataprepSimulator, clock: Clock
    ) -> None:
        simulator.start_run("stuck")
        clock.pass_by(60)
        simulator.start_run()
        url = f"{client.base}/v4/jobLibrary?runBy=all&status=Created&status=InProgress"
        path = url.removeprefix(client.base)
        assert len((await client.get(path))["data"]) == 1
        simulator.switches = Switches(several_statuses=True)
        assert len((await client.get(path))["data"]) == 2

    async def test_runs_of_others_need_run_by_all(self, client: Client, simulator: DataprepSimulator) -> None:
        simulator.start_run(owner=2)
        assert (await client.get("/v4/jobLibrary"))["data"] == []
        assert len((await client.get("/v4/jobLibrary", runBy="all"))["data"]) == 1

    async def test_offsets_shift_while_rows_change(
        self, client: Client, simulator: DataprepSimulator, clock: Clock
    ) -> None:
        for _ in range(6):
            simulator.start_run(Scenario(queued=(50, 60)))
            clock.pass_by(1)
        query = {"runBy": "all", "sort": "updatedAt", "limit": 3}
        first = [row["id"] for row in (await client.get("/v4/jobLibrary", **query))["data"]]
        clock.pass_by(50)
        second = [row["id"] for row in (await client.get("/v4/jobLibrary", offset=3, **query))["data"]]
        assert set(first) | set(second) != {1, 2, 3, 4, 5, 6}, "a row slipped through between the pages"

    async def test_a_limit_is_cut_and_sort_may_not_work(self, client: Client, simulator: DataprepSimulator) -> None:
        for _ in range(5):
            simulator.start_run()
        simulator.switches = Switches(max_limit=3, sort="none", order="oldest")
        rows = (await client.get("/v4/jobGroups", limit=100, sort="-id"))["data"]
        assert [row["id"] for row in rows] == [1, 2, 3]

    async def test_the_list_of_groups_embeds_and_its_nested_filter_breaks(
        self, client: Client, simulator: DataprepSimulator
    ) -> None:
        run = simulator.start_run()
        simulator.start_run(recipe=run.recipe % 9 + 1)
        rows = (await client.get("/v4/jobGroups", embed="jobs,wrangledDataset.flow", flowNodeId=run.recipe))["data"]
        assert [row["id"] for row in rows] == [run.id]
        assert rows[0]["wrangledDataset"]["flow"]["name"]
        broken = {"filterFields": "wrangledDataset.flow.id", "filter": "1"}
        assert (await client.refused("/v4/jobGroups", params=broken))[:2] == (500, "IOException")

    async def test_a_late_commit_shows_with_its_true_time(
        self, client: Client, simulator: DataprepSimulator, clock: Clock
    ) -> None:
        run = simulator.start_run(lag=30.0)
        assert (await client.ask(f"/v4/jobGroups/{run.id}"))[0] == 404
        clock.pass_by(31)
        assert (await client.get(f"/v4/jobGroups/{run.id}"))["createdAt"] == "2026-11-21T06:00:00.123Z"


class TestLineage:
    async def test_inputs_are_files_or_tables(self, client: Client, simulator: DataprepSimulator) -> None:
        workspace = simulator.workspace
        by_kind = {
            source.name.removeprefix("orders"): source
            for source in workspace.sources.values()
            if "orders" in source.name
        }
        recipe = workspace.add_recipe(workspace.flows[1], "all", by_kind.values())
        run = simulator.start_run(recipe=recipe.id)
        body = await client.get(f"/v4/jobGroups/{run.id}/inputs")
        assert [len(part["inputs"]) for part in body["data"]] == [1, 1, 3, 1]
        table = body["data"][3]["inputs"][0]
        assert {"vendor", "databaseConnectString", "relationalPath", "action", "table"} == set(table)
        simulator.switches = Switches(mixed_inputs_refused=True)
        assert (await client.refused(f"/v4/jobGroups/{run.id}/inputs"))[1] == "DataServiceInvalidRequest"

    async def test_a_profile_without_profiling_is_a_400(self, client: Client, simulator: DataprepSimulator) -> None:
        run = simulator.start_run(overrides={"profiler": False})
        assert (await client.refused(f"/v4/jobGroups/{run.id}/profile"))[1] == "ProfilingDataNotFoundException"

    async def test_definitions_behind_a_run(self, client: Client, simulator: DataprepSimulator) -> None:
        recipe = await client.get("/v4/wrangledDatasets/1", embed="flow,outputObjects")
        assert (await client.get(f"/v4/flows/{recipe['flow']['id']}"))["name"] == recipe["flow"]["name"]
        assert len(recipe["outputObjects"]["data"]) == 2
        setting = simulator.workspace.outputs[1].write_settings[0]["id"]
        assert (await client.get(f"/v4/writeSettings/{setting}"))["path"].startswith("gs://")
        assert (await client.get("/v4/importedDatasets/4", fields="id;name"))["id"] == 4
        assert (await client.refused("/v4/publications/999"))[0] == 404
        assert "credentials" not in await client.get("/v4/connections/4", fields="id;vendor;host;port")

    async def test_a_flow_run_is_never_in_progress(
        self, client: Client, simulator: DataprepSimulator, clock: Clock
    ) -> None:
        status, body, _ = await client.ask("/v4/flows/1/run", method="POST", json={})
        assert status == 201
        path = f"/v4/flowRuns/{body['flowRunId']}"
        seen = []
        for _ in range(60):
            seen.append(await client.get(f"{path}/status"))
            clock.pass_by(30)
        assert list(dict.fromkeys(seen)) == ["Created", "Complete"]
        groups = (await client.get(f"{path}/jobGroups"))["data"]
        assert {group["flowrun"]["id"] for group in groups} == {body["flowRunId"]}
        assert {group["id"] for group in groups} == {run["id"] for run in body["data"]}

    async def test_run_answers_short_when_configured(self, client: Client, simulator: DataprepSimulator) -> None:
        simulator.switches = Switches(run_answer="short", overrides_refused=True)
        assert set((await client.run())[1]) == {"id", "reason"}
        assert (await client.run({"wrangledDataset": {"id": 1}, "overrides": {"execution": "photon"}}))[0] == 400


class TestSteering:
    async def test_workspaces_use_the_same_ids(self, clock: Clock) -> None:
        simulator = DataprepSimulator(now=clock, workspaces=("a", "b"))
        async with Served(simulator) as served, aiohttp.ClientSession() as session:
            client = Client(served.url, session)
            runs = [(await client.run(None, **{"x-alteryx-workspace-gid": gid}))[1]["id"] for gid in ("a", "b")]
            assert runs == [1, 1]
            assert (await client.run(None, **{"x-alteryx-workspace-gid": "c"}))[0] == 403

    async def test_features_one_by_one(self, clock: Clock) -> None:
        simulator = DataprepSimulator(now=clock, features=[Feature.STANDARD, Feature.LINEAGE])
        run = simulator.start_run()
        async with Served(simulator) as served, aiohttp.ClientSession() as session:
            client = Client(served.url, session)
            assert (await client.ask(f"/v4/jobGroups/{run.id}/outputs"))[0] == 200
            assert (await client.ask("/v4/jobLibrary"))[0] == 404

    async def test_control_over_http(self, client: Client, simulator: DataprepSimulator, clock: Clock) -> None:
        made = await client.control("POST", "/_control/runs", {"scenario": "long", "count": 3, "pace": 0.5})
        first, second, third = (run["id"] for run in made["runs"])
        await client.control("PUT", f"/_control/runs/{first}/state", {"status": "Failed"})
        await client.control("PUT", f"/_control/runs/{second}/state", {"status": "undefined"})
        await client.control("POST", f"/_control/runs/{third}/cancel")
        expected = (await client.control("GET", "/_control/expected"))["runs"]
        assert [row["state"] for row in expected] == ["failed", "unknown", "canceled"]
        await client.control("POST", f"/_control/runs/{third}/delete")
        assert (await client.ask(f"/v4/jobGroups/{third}"))[0] == 410
        await client.control("POST", f"/_control/runs/{second}/rename", {"name": "n"})
        await client.control("POST", f"/_control/runs/{second}/hide")
        assert (await client.ask(f"/v4/jobGroups/{second}"))[0] == 403
        assert (await client.control("PATCH", "/_control/switches", {"string_ids": True}))["string_ids"] is True
        assert "no such switch" in (await client.control("PATCH", "/_control/switches", {"nonsense": 1}))["error"]
        await client.control("PUT", "/_control/level", {"level": "L0"})
        assert (await client.ask("/v4/jobLibrary"))[0] == 404
        await client.control("PUT", "/_control/tokens/other", {"user": 2})
        assert (await client.ask("/v4/open-api-spec", headers={"Authorization": "Bearer other"}))[0] == 200
        await client.control("DELETE", "/_control/tokens/other")
        assert (await client.ask("/v4/open-api-spec", headers={"Authorization": "Bearer other"}))[0] == 401
        assert "deleted" in (await client.control("GET", "/_control/scenarios"))["scenarios"]
        assert "error" in await client.control("POST", "/_control/runs", {"scenario": "no such scenario"})

    def test_expected_run_a_run_deleted_under_way_is_unknown(self, simulator: DataprepSimulator, clock: Clock) -> None:
        simulator.start_run("deleted")
        simulator.start_run("deleted_later")
        clock.pass_by(7200)
        assert [(row["state"], row["deleted"]) for row in simulator.expected_runs()] == [
            ("unknown", True),
            ("succeeded", True),
        ]
