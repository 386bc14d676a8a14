"""The CDF simulator over real HTTP: what the vendor's documentation promises, and both ways where it is silent."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from collector.testing.faults import Fault, FaultKind
from simulators.cdf import CANCELLED_TEXT, READ, CdfSimulator, Ending, Order, OverLimit, Scenario, populate
from simulators.server import Served

T0 = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
CREDENTIALS = {"grant_type": "client_credentials", "client_id": "collector", "client_secret": "simulated-secret"}
SEED_FIELDS = {
    "id", "uuid", "transformationId", "transformationExternalId", "sourceProject", "destinationProject", "destination",
    "conflictMode", "query", "createdTime", "ignoreNullFields", "status",
}  # fmt: skip


class Moving:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = T0

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **how_long: float) -> None:
        self.at += timedelta(**how_long)


@dataclass
class Client:
    session: aiohttp.ClientSession
    url: str
    token: str = ""

    async def fetch_token(self, path: str = "/oauth2/token", **more: str) -> tuple[int, Any]:
        async with self.session.post(self.url + path, data=CREDENTIALS | more) as answer:
            body = await answer.json()
        self.token = body.get("access_token", self.token)
        return answer.status, body

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        """One request to the project's API."""
        return await self.raw(method, f"/api/v1/projects/plant-a{path}", body, **query)

    async def raw(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.request(
            method, self.url + path, json=body, params={k: str(v) for k, v in query.items()}, headers=headers
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def jobs(self, **query: Any) -> list[dict[str, Any]]:
        """Every page of the job list."""
        rows: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            status, body = await self.call("GET", "/transformations/jobs", **query, **cursor)
            assert status == 200, body
            rows += body["items"]
            if "nextCursor" not in body:
                return rows
            cursor = {"cursor": body["nextCursor"]}

    async def job(self, job_id: int) -> dict[str, Any]:
        status, body = await self.call("POST", "/transformations/jobs/byids", {"items": [{"id": job_id}]})
        assert status == 200, body
        found: dict[str, Any] = body["items"][0]
        return found


@pytest.fixture
def now() -> Moving:
    return Moving()


@pytest.fixture
def simulator(now: Moving) -> CdfSimulator:
    made = CdfSimulator(seed=7, now=now)
    made.identity.lifetime = 400 * 86_400
    made.add_transformation("pumps", {"type": "raw", "database": "clean", "table": "pumps"})
    return made


@asynccontextmanager
async def serving(simulator: CdfSimulator) -> AsyncIterator[Client]:
    async with Served(simulator) as served, aiohttp.ClientSession() as session:
        client = Client(session, served.url)
        await client.fetch_token()
        yield client


@pytest.fixture
async def client(simulator: CdfSimulator) -> AsyncIterator[Client]:
    async with serving(simulator) as made:
        yield made


# Tokens


async def test_a_token_is_needed_and_expires(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    simulator.identity.lifetime = 3600
    await client.fetch_token()
    assert (await client.call("GET", "/transformations/jobs"))[0] == 200
    now.forward(seconds=3600)
    status, body = await client.call("GET", "/transformations/jobs")
    assert (status, body) == (401, {"error": {"code": 401, "message": "Token is expired"}})
    client.token = "made-up"
    assert (await client.call("GET", "/transformations/jobs"))[0] == 401


@pytest.mark.parametrize(
    ("path", "wrong", "status", "error"),
    [
        ("/oauth2/token", {"client_secret": "x"}, 401, "invalid_client"),
        ("/oauth2/token", {"client_id": "x"}, 400, "unauthorized_client"),
        ("/oauth2/token", {"grant_type": "password"}, 400, "unsupported_grant_type"),
        ("/t1/oauth2/v2.0/token", {}, 400, "invalid_request"),
        ("/oauth/token", {}, 403, "access_denied"),
    ],
)
async def test_a_refused_token_says_why(
    client: Client, path: str, wrong: dict[str, str], status: int, error: str
) -> None:
    answer = await client.fetch_token(path, **wrong)
    assert answer[0] == status
    assert answer[1]["error"] == error
    assert answer[1]["error_description"]


async def test_each_identity_provider_has_its_path(client: Client) -> None:
    assert (await client.fetch_token("/t1/oauth2/v2.0/token", scope="https://api.cognitedata.com/.default"))[0] == 200
    assert (await client.fetch_token("/oauth/token", audience="https://plant-a.fusion.cognite.com/plant-a"))[0] == 200


async def test_scope_and_audience_can_be_demanded(client: Client, simulator: CdfSimulator) -> None:
    simulator.identity.scope, simulator.identity.audience = "s", "a"
    assert (await client.fetch_token(scope="other", audience="a"))[1]["error"] == "invalid_scope"
    assert (await client.fetch_token(scope="s"))[1]["error"] == "access_denied"
    assert (await client.fetch_token(scope="s", audience="a"))[0] == 200


async def test_expires_in_may_be_text_and_tokens_can_be_revoked(client: Client, simulator: CdfSimulator) -> None:
    simulator.identity.lifetime, simulator.modes.expires_in_as_text = 3600, True
    assert (await client.fetch_token())[1]["expires_in"] == "3600"
    simulator.identity.revoke()
    assert (await client.call("GET", "/transformations/jobs"))[0] == 401


async def test_a_token_endpoint_can_answer_html(client: Client, simulator: CdfSimulator) -> None:
    simulator.faults.plan(Fault(FaultKind.HTML, path="oauth2/token"))
    async with client.session.post(client.url + "/oauth2/token", data=CREDENTIALS) as answer:
        assert (answer.status, answer.content_type) == (502, "text/html")


async def test_token_inspection_needs_no_project_and_names_capabilities(
    client: Client, simulator: CdfSimulator
) -> None:
    simulator.identity.capabilities = {READ}
    _, body = await client.raw("GET", "/api/v1/token/inspect")
    assert body["projects"] == [{"projectUrlName": "plant-a", "groups": [1]}]
    assert body["capabilities"][0]["transformationsAcl"]["actions"] == ["READ"]


async def test_foreign_project_and_missing_capability(client: Client, simulator: CdfSimulator) -> None:
    assert (await client.raw("GET", "/api/v1/projects/plant-b/transformations/jobs"))[0] == 401
    simulator.identity.capabilities = {READ}
    status, body = await client.call("POST", "/transformations/run", {"externalId": "pumps"})
    assert status == 403
    assert "transformationsAcl:WRITE" in body["error"]["message"]
    assert (await client.call("POST", "/workflows/executions/list", {"filter": {}}))[0] == 403


async def test_an_unknown_path_is_answered_in_the_vendors_envelope(client: Client) -> None:
    status, body = await client.call("GET", "/transformations/jobs/17")
    assert (status, body["error"]["code"]) == (404, 404)
    assert (await client.call("DELETE", "/transformations/run"))[0] == 404


# Runs


async def test_a_run_is_answered_as_the_vendor_shows_it(client: Client) -> None:
    status, job = await client.call("POST", "/transformations/run", {"externalId": "pumps"})
    assert status == 200
    assert set(job) == SEED_FIELDS
    assert job["status"] == "Created"
    assert job["transformationExternalId"] == "pumps"
    assert job["createdTime"] == int(T0.timestamp() * 1000)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", job["uuid"])


async def test_a_run_takes_an_id_a_nonce_and_a_null(client: Client, simulator: CdfSimulator) -> None:
    number = simulator.transformation("pumps").id
    nonce = {"sessionId": 1, "nonce": "n", "cdfProjectName": "plant-a"}
    body = {"id": number, "externalId": None, "nonce": nonce}
    assert (await client.call("POST", "/transformations/run", body))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"externalId": None, "id": None},
        {"externalId": "pumps", "id": 1},
        {"externalId": "x" * 256},
        {"externalId": "unknown"},
        {"externalId": "pumps", "nonce": {"sessionId": "1"}},
        {"externalId": "pumps", "nonce": "n"},
        ["pumps"],
    ],
)
async def test_a_wrong_run_is_refused(client: Client, simulator: CdfSimulator, body: Any) -> None:
    status, answer = await client.call("POST", "/transformations/run", body)
    assert (status, answer["error"]["code"]) == (400, 400)
    assert simulator.expected_runs() == []


async def test_a_job_goes_from_created_to_completed(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    job = simulator.start_run("pumps", Scenario(starts_after=2, runs_for=10))
    assert (await client.job(job.id))["status"] == "Created"
    now.forward(seconds=5)
    running = await client.job(job.id)
    assert (running["status"], running["startedTime"] - job.created) == ("Running", 2000)
    assert running["lastSeenTime"] == job.created + 5000
    now.forward(seconds=60)
    done = await client.job(job.id)
    assert (done["status"], done["finishedTime"] - job.created) == ("Completed", 12_000)
    assert "error" not in done


@pytest.mark.parametrize(
    ("scenario", "status", "error", "started", "state"),
    [
        (Scenario(ends=Ending.FAILED, error="boom"), "Failed", "boom", True, "failed"),
        (Scenario(ends=Ending.CANCELLED), "Failed", CANCELLED_TEXT, True, "canceled"),
        (Scenario(ends=Ending.NEVER_STARTED, error="no"), "Failed", "no", False, "failed"),
        (Scenario(starts_after=None), "Created", None, False, "queued"),
        (Scenario(runs_for=None), "Running", None, True, "running"),
        (Scenario(runs_for=None, shown_as="Paused"), "Paused", None, True, "unknown"),
        (Scenario(ends_as="Archived"), "Archived", None, True, "unknown"),
    ],
)
async def test_scenarios_end_as_planned(
    client: Client, simulator: CdfSimulator, now: Moving, scenario: Scenario, status: str, error: str | None,
    started: bool, state: str,
) -> None:  # fmt: skip
    job = simulator.start_run("pumps", scenario)
    now.forward(hours=1)
    row = await client.job(job.id)
    assert (row["status"], row.get("error"), "startedTime" in row) == (status, error, started)
    assert simulator.expected_runs()[0]["state"] == state


async def test_a_lost_worker_stops_its_heartbeat(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    job = simulator.start_run("pumps", Scenario(runs_for=None, heartbeat_stops_after=30))
    now.forward(hours=2)
    assert (await client.job(job.id))["lastSeenTime"] == job.created + 31_000


async def test_an_end_can_lie_before_the_start(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    job = simulator.start_run("pumps", Scenario(starts_after=1, runs_for=3, finished_early=0.4))
    now.forward(minutes=1)
    row = await client.job(job.id)
    assert row["finishedTime"] == row["startedTime"] - 400
    assert simulator.expected_runs()[0]["ended_at"] == (T0 + timedelta(seconds=1)).isoformat()


async def test_cancel_takes_the_transformation_and_looks_like_failure(
    client: Client, simulator: CdfSimulator, now: Moving
) -> None:
    job = simulator.start_run("pumps", Scenario(runs_for=None))
    now.forward(seconds=10)
    assert await client.call("POST", "/transformations/cancel", {"externalId": "pumps"}) == (200, {})
    now.forward(seconds=10)
    row = await client.job(job.id)
    assert (row["status"], row["error"]) == ("Failed", "Job cancelled by the user.")
    assert row["finishedTime"] - row["createdTime"] == 10_000
    assert (await client.call("POST", "/transformations/cancel", {"id": 1}))[0] == 400


async def test_an_ended_job_cannot_be_cancelled(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    job = simulator.start_run("pumps")
    now.forward(minutes=1)
    await client.call("POST", "/transformations/cancel", {"externalId": "pumps"})
    now.forward(minutes=1)
    assert (await client.job(job.id))["status"] == "Completed"


@pytest.mark.parametrize("status", [400, 409])
async def test_one_transformation_runs_once_at_a_time(
    client: Client, simulator: CdfSimulator, now: Moving, status: int
) -> None:
    simulator.modes.second_run_status = status
    assert (await client.call("POST", "/transformations/run", {"externalId": "pumps"}))[0] == 200
    assert (await client.call("POST", "/transformations/run", {"externalId": "pumps"}))[0] == status
    now.forward(minutes=1)
    assert (await client.call("POST", "/transformations/run", {"externalId": "pumps"}))[0] == 200


@pytest.mark.parametrize("over", list(OverLimit))
async def test_the_eleventh_parallel_job(client: Client, simulator: CdfSimulator, now: Moving, over: OverLimit) -> None:
    simulator.modes.over_limit = over
    for number in range(10):
        simulator.add_transformation(f"t{number}", scenario=Scenario(runs_for=None))
        assert (await client.call("POST", "/transformations/run", {"externalId": f"t{number}"}))[0] == 200
    status, body = await client.call("POST", "/transformations/run", {"externalId": "pumps"})
    if over is OverLimit.REFUSE:
        assert (status, len(simulator.expected_runs())) == (400, 10)
        return
    assert (status, body["status"]) == (200, "Created")
    row = await client.job(body["id"])
    assert row["status"] == "Failed"
    assert "startedTime" not in row


async def test_a_state_set_by_hand_ends_the_scenario(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    job = simulator.start_run("pumps")
    simulator.set_state(job.id, None, extra={"lastSeenTime": "soon", "surprise": [1]})
    now.forward(hours=1)
    row = await client.job(job.id)
    assert (row["status"], row["lastSeenTime"], row["surprise"]) == (None, "soon", [1])
    simulator.set_state(job.id, "Completed")
    assert (await client.job(job.id))["finishedTime"] == int(now().timestamp() * 1000)


async def test_optional_fields_may_be_null(client: Client, simulator: CdfSimulator) -> None:
    simulator.modes.null_optionals = True
    job = await client.job(simulator.start_run("pumps").id)
    assert {job[name] for name in ("startedTime", "finishedTime", "lastSeenTime", "error")} == {None}


# The list of jobs


async def test_jobs_are_listed_newest_first_in_pages(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    for _ in range(7):
        simulator.start_run("pumps")
        now.forward(seconds=1)
    rows = await client.jobs(limit=3)
    assert [row["createdTime"] for row in rows] == sorted((row["createdTime"] for row in rows), reverse=True)
    assert len({row["id"] for row in rows}) == 7


@pytest.mark.parametrize("order", [Order.OLDEST, Order.SHUFFLED])
async def test_other_orders_are_complete_too(
    client: Client, simulator: CdfSimulator, now: Moving, order: Order
) -> None:
    for _ in range(20):
        simulator.start_run("pumps")
        now.forward(seconds=1)
    simulator.modes.list_order = order
    times = [row["createdTime"] for row in await client.jobs(limit=6)]
    assert len(set(times)) == 20
    assert times != sorted(times, reverse=True)
    assert (times == sorted(times)) == (order is Order.OLDEST)


async def test_a_job_begun_between_two_pages_moves_none(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    known = []
    for _ in range(6):
        known.append(simulator.start_run("pumps").id)
        now.forward(seconds=1)
    _, first = await client.call("GET", "/transformations/jobs", limit=3)
    simulator.start_run("pumps")
    _, second = await client.call("GET", "/transformations/jobs", limit=3, cursor=first["nextCursor"])
    assert sorted(row["id"] for row in first["items"] + second["items"]) == known
    assert "nextCursor" not in second


async def test_the_default_page_is_100_and_the_limit_1000(client: Client, simulator: CdfSimulator) -> None:
    for _ in range(130):
        simulator.start_run("pumps")
    _, body = await client.call("GET", "/transformations/jobs")
    assert len(body["items"]) == 100
    for wrong in (0, 1001, "many"):
        assert (await client.call("GET", "/transformations/jobs", limit=wrong))[0] == 400


async def test_a_cursor_is_bound_to_its_parameters_and_may_die(
    client: Client, simulator: CdfSimulator, now: Moving
) -> None:
    simulator.modes.cursor_lifetime = 60
    for _ in range(3):
        simulator.start_run("pumps")
    _, body = await client.call("GET", "/transformations/jobs", limit=1)
    cursor = body["nextCursor"]
    assert (await client.call("GET", "/transformations/jobs", limit=1, cursor=cursor))[0] == 200
    assert (await client.call("GET", "/transformations/jobs", limit=2, cursor=cursor))[0] == 400
    assert (await client.call("GET", "/transformations/jobs", limit=1, cursor="made-up"))[0] == 400
    now.forward(minutes=2)
    assert (await client.call("GET", "/transformations/jobs", limit=1, cursor=cursor))[0] == 400


async def test_jobs_of_one_transformation(client: Client, simulator: CdfSimulator) -> None:
    other = simulator.add_transformation("other")
    simulator.start_run("pumps")
    simulator.start_run("other")
    assert [row["transformationId"] for row in await client.jobs(transformationId=other.id)] == [other.id]
    assert len(await client.jobs(transformationExternalId="pumps")) == 1
    assert await client.jobs(transformationId=1) == []


@pytest.mark.parametrize("listed", [True, False])
async def test_jobs_of_other_peoples_private_transformations(
    client: Client, simulator: CdfSimulator, listed: bool
) -> None:
    simulator.modes.private_jobs_listed = listed
    simulator.add_transformation("secret", is_public=False, owner="somebody")
    simulator.start_run("secret")
    assert len(await client.jobs()) == int(listed)
    _, body = await client.call("GET", "/transformations")
    assert [row["externalId"] for row in body["items"]] == ["pumps"]


async def test_retention_by_number_and_by_age(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    simulator.modes.retention_jobs = 5
    jobs = []
    for _ in range(8):
        jobs.append(simulator.start_run("pumps").id)
        now.forward(days=1)
    assert [row["id"] for row in await client.jobs()] == jobs[:2:-1]
    now.forward(days=88)
    assert len(await client.jobs()) == 2
    assert [run["readable"] for run in simulator.expected_runs()].count(True) == 2


async def test_a_removed_transformation_takes_its_jobs_along_or_not(client: Client, simulator: CdfSimulator) -> None:
    simulator.add_transformation("other")
    for external_id in ("pumps", "other"):
        simulator.start_run(external_id)
    simulator.remove_transformation("pumps")
    assert [row["transformationExternalId"] for row in await client.jobs()] == ["other"]
    simulator.modes.jobs_vanish_with_transformation = False
    simulator.remove_transformation("other")
    assert len(await client.jobs()) == 1


async def test_a_job_can_vanish(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    key = simulator.start_run("pumps", Scenario(vanishes_after=60)).id
    removed = simulator.start_run("pumps").id
    simulator.remove(removed)
    assert [row["id"] for row in await client.jobs()] == [key]
    now.forward(minutes=1)
    assert await client.jobs() == []


# Jobs by ids


async def test_unknown_ids_are_an_error_or_ignored(client: Client, simulator: CdfSimulator) -> None:
    job = simulator.start_run("pumps")
    items = [{"id": 1}, {"id": job.id}]
    status, body = await client.call("POST", "/transformations/jobs/byids", {"items": items})
    assert (status, body["error"]["missing"]) == (400, [{"id": 1}])
    wanted = {"items": items, "ignoreUnknownIds": True}
    _, body = await client.call("POST", "/transformations/jobs/byids", wanted)
    assert [row["id"] for row in body["items"]] == [job.id]


@pytest.mark.parametrize("status", [409, 400])
async def test_duplicate_ids(client: Client, simulator: CdfSimulator, status: int) -> None:
    simulator.modes.duplicates_status = status
    wanted = {"items": [{"id": 5}, {"id": 5}], "ignoreUnknownIds": True}
    answer, body = await client.call("POST", "/transformations/jobs/byids", wanted)
    assert (answer, body["error"]["duplicated"]) == (status, [{"id": 5}])


@pytest.mark.parametrize(
    "body",
    [{}, {"items": []}, {"items": [{"id": n} for n in range(1001)]}, {"items": [1]}, {"items": [{"externalId": "a"}]}],
)
async def test_wrong_ids_are_refused(client: Client, body: Any) -> None:
    assert (await client.call("POST", "/transformations/jobs/byids", body))[0] == 400


async def test_a_thousand_ids_in_any_order(client: Client, simulator: CdfSimulator) -> None:
    simulator.modes.byids_shuffled = True
    ids = [simulator.start_run("pumps").id for _ in range(1000)]
    _, body = await client.call("POST", "/transformations/jobs/byids", {"items": [{"id": n} for n in ids]})
    answered = [row["id"] for row in body["items"]]
    assert sorted(answered) == ids
    assert answered != ids


# Metrics


async def test_metrics_grow_while_a_job_runs(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    totals = {"raw.clean.pumps.rows.created": 100}
    job = simulator.start_run("pumps", Scenario(starts_after=0, runs_for=10, metrics=totals))
    path = f"/transformations/jobs/{job.id}/metrics"
    assert await client.call("GET", path) == (200, {"items": []})
    now.forward(seconds=5)
    _, body = await client.call("GET", path)
    assert body["items"] == [{"timestamp": job.created + 5000, "name": "raw.clean.pumps.rows.created", "count": 50}]
    simulator.modes.metrics_history = True
    now.forward(seconds=60)
    _, body = await client.call("GET", path, limit=1000)
    assert [(row["timestamp"] - job.created, row["count"]) for row in body["items"]] == [(10_000, 100), (9_000, 50)]


async def test_metrics_of_an_unknown_job(client: Client) -> None:
    assert (await client.call("GET", "/transformations/jobs/1/metrics"))[0] == 400


@pytest.mark.parametrize(
    ("destination", "name"),
    [
        ({"type": "raw", "database": "d.x", "table": "t"}, "raw.d.x.t.rows.created"),
        ({"type": "sequence_rows", "externalId": "s"}, "sequencerows.created"),
        ({"type": "nodes"}, "instances.upserted"),
        ("assets", "assets.updated"),
    ],
)
async def test_metrics_are_named_as_the_vendors_code_names_them(
    client: Client, simulator: CdfSimulator, now: Moving, destination: Any, name: str
) -> None:
    simulator.add_transformation("other", destination)
    job = simulator.start_run("other")
    now.forward(minutes=1)
    _, body = await client.call("GET", f"/transformations/jobs/{job.id}/metrics")
    assert name in {row["name"] for row in body["items"]}
    assert (await client.job(job.id))["destination"] == destination


# Definitions and schedules


async def test_definitions_come_with_their_jobs_unless_asked_not_to(
    client: Client, simulator: CdfSimulator, now: Moving
) -> None:
    finished = simulator.start_run("pumps")
    now.forward(minutes=1)
    running = simulator.start_run("pumps")
    _, body = await client.call("GET", "/transformations")
    row = body["items"][0]
    assert (row["runningJob"]["id"], row["lastFinishedJob"]["id"]) == (running.id, finished.id)
    assert row["owner"] == {"user": "collector"}
    _, body = await client.call("GET", "/transformations", withJobDetails="false")
    assert not {"runningJob", "lastFinishedJob"} & set(body["items"][0])
    simulator.modes.owner_is_object = False
    _, body = await client.call("GET", "/transformations", withJobDetails="false")
    assert body["items"][0]["owner"] == "collector"


async def test_definitions_are_paged(client: Client, simulator: CdfSimulator) -> None:
    populate(simulator)
    _, first = await client.call("GET", "/transformations", limit=5, withJobDetails="false")
    _, second = await client.call(
        "GET", "/transformations", limit=5, withJobDetails="false", cursor=first["nextCursor"]
    )
    assert len({row["id"] for row in first["items"] + second["items"]}) == 9
    assert "nextCursor" not in second


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["a1", "a2", "pumps"]),
        ({"lastUpdatedTime": {"min": int(T0.timestamp() * 1000) + 1}}, ["a2"]),
        ({"createdTime": {"max": int(T0.timestamp() * 1000)}}, ["a1", "a2", "pumps"]),
        ({"isPublic": False}, ["a1"]),
        ({"nameRegex": "^Second"}, ["a2"]),
        ({"queryRegex": "sap"}, ["a1"]),
        ({"destinationType": "raw"}, ["pumps"]),
        ({"conflictMode": "delete"}, ["a2"]),
        ({"hasBlockedError": True}, ["a2"]),
        ({"cdfProjectName": "elsewhere"}, ["a1"]),
        ({"dataSetIds": [{"id": 9}]}, ["a1"]),
        ({"tags": {"containsAny": ["sap", "x"]}}, ["a2"]),
    ],
)
async def test_the_filter_of_definitions(
    client: Client, simulator: CdfSimulator, now: Moving, wanted: dict[str, Any], found: list[str]
) -> None:
    first: dict[str, Any] = {"query": "from sap.x", "destination_project": "elsewhere", "data_set_id": 9}
    simulator.add_transformation("a1", **first, is_public=False)
    simulator.add_transformation("a2", conflict_mode="delete", tags=["sap"])
    now.forward(seconds=1)
    simulator.change_transformation("a2", name="Second", blocked="session expired")
    status, body = await client.call("POST", "/transformations/filter", {"filter": wanted})
    assert (status, sorted(row["externalId"] for row in body["items"])) == (200, found)


async def test_a_filter_is_required_and_must_be_readable(client: Client) -> None:
    assert (await client.call("POST", "/transformations/filter", {"limit": 5}))[0] == 400
    assert (await client.call("POST", "/transformations/filter", {"filter": {"nameRegex": "("}}))[0] == 400


async def test_definitions_by_ids(client: Client, simulator: CdfSimulator) -> None:
    simulator.start_run("pumps")
    wanted: dict[str, Any] = {"items": [{"externalId": "pumps"}, {"id": 1}]}
    status, body = await client.call("POST", "/transformations/byids", wanted)
    assert (status, body["error"]["missing"]) == (400, [{"id": 1}])
    wanted["ignoreUnknownIds"] = True
    _, body = await client.call("POST", "/transformations/byids", wanted)
    assert [row["externalId"] for row in body["items"]] == ["pumps"]
    assert "runningJob" in body["items"][0]
    simulator.modes.byids_job_details = False
    _, body = await client.call("POST", "/transformations/byids", wanted)
    assert "runningJob" not in body["items"][0]


async def test_a_rename_shows_on_jobs_that_exist_already(client: Client, simulator: CdfSimulator) -> None:
    job = simulator.start_run("pumps")
    simulator.change_transformation("pumps", external_id="pumps_v2")
    assert (await client.job(job.id))["transformationExternalId"] == "pumps_v2"


async def test_a_job_keeps_the_sql_it_was_started_with(client: Client, simulator: CdfSimulator) -> None:
    job = simulator.start_run("pumps")
    simulator.change_transformation("pumps", query="select 2", destination={"type": "events"})
    row = await client.job(job.id)
    assert (row["query"], row["destination"]["type"]) == ("select 1 as id", "raw")


async def test_schedules(client: Client, simulator: CdfSimulator) -> None:
    simulator.change_transformation("pumps", schedule="0 0 * * *", schedule_paused=True)
    simulator.add_transformation("other")
    _, body = await client.call("GET", "/transformations/schedules")
    (row,) = body["items"]
    assert (row["externalId"], row["interval"], row["isPaused"]) == ("pumps", "0 0 * * *", True)
    wanted = {"items": [{"externalId": "other"}], "ignoreUnknownIds": True}
    assert await client.call("POST", "/transformations/schedules/byids", wanted) == (200, {"items": []})
    _, body = await client.call("POST", "/transformations/schedules/byids", {"items": [{"id": row["id"]}]})
    assert body["items"] == [row]
    _, body = await client.call("GET", "/transformations")
    assert [found.get("schedule") for found in body["items"]] == [row, None]


# Workflows


async def test_a_workflow_follows_its_jobs(client: Client, simulator: CdfSimulator, now: Moving) -> None:
    made = simulator.start_workflow("nightly", [("pumps", Scenario(runs_for=30)), ("gone", None)])
    job_id = next(task.job.id for task in made.tasks if task.job)
    _, body = await client.call("POST", "/workflows/executions/list", {"filter": {"status": ["RUNNING"]}})
    assert [row["id"] for row in body["items"]] == [made.id]
    assert "executedTasks" not in body["items"][0]
    _, detail = await client.call("GET", f"/workflows/executions/{made.id}")
    assert [task["output"] for task in detail["executedTasks"]] == [{"jobId": job_id}, {}]
    now.forward(minutes=1)
    _, detail = await client.call("GET", f"/workflows/executions/{made.id}")
    assert detail["status"] == "FAILED"
    assert [task["status"] for task in detail["executedTasks"]] == ["COMPLETED", "FAILED"]
    assert detail["endTime"] == detail["createdTime"] + 31_000


async def test_terminating_a_workflow_leaves_its_job_running(
    client: Client, simulator: CdfSimulator, now: Moving
) -> None:
    made = simulator.start_workflow("nightly", [("pumps", Scenario(runs_for=None))])
    now.forward(seconds=10)
    simulator.terminate_workflow(made.id)
    _, detail = await client.call("GET", f"/workflows/executions/{made.id}")
    assert (detail["status"], detail["executedTasks"][0]["status"]) == ("TERMINATED", "CANCELED")
    assert (await client.job(detail["executedTasks"][0]["output"]["jobId"]))["status"] == "Running"


async def test_workflow_executions_are_filtered_and_kept_three_months(
    client: Client, simulator: CdfSimulator, now: Moving
) -> None:
    simulator.start_workflow("nightly", [("pumps", None)])
    now.forward(days=1)
    simulator.start_workflow("hourly", [("pumps", None)])
    start = int(T0.timestamp() * 1000) + 1
    for wanted in ({"createdTimeStart": start}, {"workflowFilters": [{"externalId": "hourly"}]}):
        _, body = await client.call("POST", "/workflows/executions/list", {"filter": wanted})
        assert [row["workflowExternalId"] for row in body["items"]] == ["hourly"]
    now.forward(days=91)
    assert await client.call("POST", "/workflows/executions/list", {"filter": {}}) == (200, {"items": []})
    assert (await client.call("GET", "/workflows/executions/none"))[0] == 404


# Faults and control


@pytest.mark.parametrize("status", [429, 503])
async def test_bursts_of_refusals(client: Client, simulator: CdfSimulator, status: int) -> None:
    headers = {"cdf-is-auto-retryable": "true"}
    simulator.faults.plan(Fault(FaultKind.STATUS, path="jobs", times=2, status=status, headers=headers))
    assert [(await client.call("GET", "/transformations/jobs"))[0] for _ in range(3)] == [status, status, 200]


async def test_everything_can_be_steered_over_http(client: Client, simulator: CdfSimulator) -> None:
    async def steer(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return await client.raw(method, "/_control" + path, body)

    assert (await steer("POST", "/transformations", {"external_id": "b", "scenario": {"runs_for": None}}))[0] == 201
    assert (await steer("PATCH", "/transformations/b", {"external_id": "c"}))[1]["externalId"] == "c"
    _, job = await steer("POST", "/runs", {"transformation": "c", "seconds_ago": 60})
    assert job["status"] == "Running"
    state = {"status": "Failed", "error": "by hand"}
    assert (await steer("PUT", f"/runs/{job['id']}/state", state))[1]["error"] == "by hand"
    assert (await steer("DELETE", f"/runs/{job['id']}"))[0] == 200
    assert (await steer("POST", "/runs", {"transformation": "c", "scenario": "varied"}))[0] == 201
    _, execution = await steer("POST", "/workflows", {"external_id": "w", "tasks": [{"transformation": "pumps"}]})
    assert (await steer("DELETE", f"/workflows/{execution['id']}"))[0] == 200
    assert (await steer("PATCH", "/modes", {"list_order": "oldest"}))[0] == 200
    assert simulator.modes.list_order is Order.OLDEST
    assert (await steer("PATCH", "/identity", {"capabilities": []}))[0] == 200
    assert (await client.call("GET", "/transformations/jobs"))[0] == 403
    assert (await steer("DELETE", "/transformations/c"))[0] == 200
    assert (await steer("DELETE", "/tokens"))[0] == 200
    assert (await client.call("GET", "/transformations/jobs"))[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/runs", {"transformation": "nobody"}),
        ("POST", "/runs", {"transformation": "pumps", "scenario": {"ends": "well"}}),
        ("POST", "/runs", {"transformation": "pumps", "scenario": {"begins": 1}}),
        ("PATCH", "/modes", {"colour": "red"}),
        ("PUT", "/runs/1/state", {"status": "Failed"}),
        ("DELETE", "/workflows/none", None),
    ],
)
async def test_mistakes_in_steering_are_answered(client: Client, method: str, path: str, body: Any) -> None:
    status, answer = await client.raw(method, "/_control" + path, body)
    assert status == 400
    assert answer["error"]


def test_the_same_seed_gives_the_same_project(now: Moving) -> None:
    def runs_of(seed: int) -> list[dict[str, Any]]:
        made = CdfSimulator(seed=seed, now=now)
        populate(made)
        for external_id in [found.external_id for found in made.transformations.values()]:
            made.start_run(external_id)
        return made.expected_runs()

    assert runs_of(3) == runs_of(3)
    assert runs_of(3) != runs_of(4)
