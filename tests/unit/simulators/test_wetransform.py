"""The simulator against the vendor's own page and against the list of what a simulator of it must be able to do."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web

from collector.testing.faults import Fault, FaultKind
from simulators.server import Served
from simulators.wetransform import Plan, Scenario, Webhook, WetransformSimulator, sign
from simulators.wetransform.scenarios import STEPS, UNATTENDED

EXAMPLE: dict[str, Any] = {
    "success": True,
    "payload": {
        "automation_id": "08990d78-fede-4139-b88a-4d11ca7fbf28",
        "type": "schedule",
        "step": "pending",
        "step_for_humans": {"code": "source.event.pending", "message": "Process execution queued."},
        "details": "The transformation is pending.",
        "original_file": "https://example.com/original-file.csv",
        "transformed_file": "https://example.com/transformed-file.csv",
        "error_report_file": "https://example.com/error-report-file.csv",
        "created_at": "2026-07-05T18:52:49+00:00",
    },
    "product": {
        "requirement": "permission",
        "permission": {"name": "X_SOURCE_FORMAT_XML", "description": "Can import XML files"},
        "limitation_type": None,
        "limitation_needed_value": None,
        "limitation_current_value": None,
        "limitation_object": None,
        "is_cta": False,
    },
    "template_handle": "new-hires",
    "source_id": "9e7060d4-9314-4783-883a-8702471ccd39",
    "debug": [],
}
"""The success that the vendor's page shows."""


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 7, 5, 18, 52, 49, 250_000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def pass_by(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Client:
    """Speaks to the simulator as a company's programme does."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base = base
        self._session = session
        self.headers = {"Authorization": "Bearer wetransform-token", "Accept": "application/json"}

    async def ask(self, path: str, *, method: str = "GET", **more: Any) -> tuple[int, Any]:
        headers = self.headers | more.pop("headers", {})
        async with self._session.request(method, self.base + path, headers=headers, **more) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else await answer.text()

    async def step(self, run: str, **more: Any) -> str | None:
        status, body = await self.ask(f"/transformation/automation/{run}", **more)
        assert status == 200, body
        step: str | None = body["payload"]["step"]
        return step

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, f"{self.base}/_control/{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json() if answer.content_type == "application/json" else None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def simulator(clock: Clock) -> WetransformSimulator:
    return WetransformSimulator(seed=7, now=clock)


@pytest.fixture
async def client(simulator: WetransformSimulator) -> AsyncIterator[Client]:
    async with Served(simulator) as served, aiohttp.ClientSession() as session:
        yield Client(served.url, session)


class TestTheVendorsPage:
    async def test_a_start_answers_the_example_in_every_key_and_type(
        self, client: Client, simulator: WetransformSimulator
    ) -> None:
        behaviour = simulator.state.behaviour
        behaviour.product_on_success = behaviour.transformed_file_early = True
        it = simulator.state.add_transformation(simulator.account, source_id=EXAMPLE["source_id"])

        status, body = await client.ask(f"/transformation/automation/{it.key}", method="POST")

        assert status == 200
        payload = body["payload"]
        assert UUID(payload["automation_id"]).version == 4
        free = ("automation_id", "original_file", "transformed_file", "error_report_file")
        expected = EXAMPLE["payload"] | {name: payload[name] for name in free}
        assert body == EXAMPLE | {"payload": expected}
        assert (list(body), list(payload)) == (list(EXAMPLE), list(EXAMPLE["payload"]))

    async def test_slashes_are_escaped_as_the_vendor_escapes_them(self, simulator: WetransformSimulator) -> None:
        headers = {"Authorization": "Bearer wetransform-token"}
        async with (
            Served(simulator) as served,
            aiohttp.ClientSession() as session,
            session.post(
                f"{served.url}/transformation/automation/{simulator.transformations[0].key}", headers=headers
            ) as answer,
        ):
            raw = await answer.text()
        assert "http:\\/\\/127.0.0.1" in raw
        assert json.loads(raw)["payload"]["original_file"].startswith(served.url + "/files/")

    async def test_a_refusal_has_an_empty_array_for_a_payload_and_names_the_product(
        self, client: Client, simulator: WetransformSimulator
    ) -> None:
        simulator.state.behaviour.may_run = False
        it = simulator.transformations[0]

        status, body = await client.ask(f"/transformation/automation/{it.key}", method="POST", json={})

        assert status == 403
        assert body["success"] is False
        assert body["payload"] == []
        assert list(body["product"]) == list(EXAMPLE["product"])
        assert (body["template_handle"], body["source_id"]) == (it.template_handle, it.source_id)

    async def test_every_step_of_the_enumeration_is_walked(
        self, client: Client, simulator: WetransformSimulator, clock: Clock
    ) -> None:
        run = simulator.start(simulator.transformations[0], Plan(Scenario.FULL, timedelta(seconds=100)))
        seen = []
        for move in run.moves:
            clock.time = move.at
            seen.append(await client.step(run.key))
        assert len(STEPS) == 31
        assert seen == list(STEPS[:-1])


class TestStarting:
    async def test_every_start_makes_a_new_run(self, client: Client, simulator: WetransformSimulator) -> None:
        path = f"/transformation/automation/{simulator.transformations[0].key}"
        ids = {(await client.ask(path, method="POST"))[1]["payload"]["automation_id"] for _ in range(3)}
        assert len(ids) == 3
        assert {row["key"] for row in simulator.expected_runs()} == ids

    @pytest.mark.parametrize("status", [403, 400])
    @pytest.mark.parametrize("lack", [{"is_dynamic": False}, {"template_handle": None}])
    async def test_a_start_needs_a_dynamic_source_and_a_template(
        self, client: Client, simulator: WetransformSimulator, lack: dict[str, Any], status: int
    ) -> None:
        simulator.state.behaviour.refusal_status = status
        it = simulator.state.add_transformation(simulator.account)
        for name, value in lack.items():
            setattr(it, name, value)

        answer = await client.ask(f"/transformation/automation/{it.key}", method="POST")

        assert answer[0] == status
        assert answer[1]["payload"] == []
        assert answer[1]["product"] is None

    async def test_manual_sources_may_run_where_the_switch_says_so(
        self, client: Client, simulator: WetransformSimulator
    ) -> None:
        it = simulator.state.add_transformation(simulator.account, is_dynamic=False)
        simulator.state.behaviour.manual_sources_may_run = True
        simulator.state.behaviour.start_status = 201
        assert (await client.ask(f"/transformation/automation/{it.key}", method="POST"))[0] == 201

    @pytest.mark.parametrize(("rule", "status", "runs"), [("new", 200, 2), ("refuse", 403, 1), ("same", 200, 1)])
    async def test_a_start_during_a_run(
        self, client: Client, simulator: WetransformSimulator, rule: str, status: int, runs: int
    ) -> None:
        simulator.state.behaviour.parallel_starts = rule
        path = f"/transformation/automation/{simulator.transformations[0].key}"
        await client.ask(path, method="POST")
        assert (await client.ask(path, method="POST"))[0] == status
        assert len(simulator.expected_runs()) == runs

    async def test_a_start_may_come_without_an_id(self, client: Client, simulator: WetransformSimulator) -> None:
        simulator.next_starts([Plan(Scenario.UNTRACKED)])
        _, body = await client.ask(f"/transformation/automation/{simulator.transformations[0].key}", method="POST")
        assert body["success"] is True
        assert body["payload"]["automation_id"] is None
        assert body["payload"]["details"]
        assert simulator.expected_runs() == []

    async def test_the_answer_of_a_start_can_be_lost_after_the_run_was_made(
        self, client: Client, simulator: WetransformSimulator
    ) -> None:
        simulator.faults.plan(Fault(FaultKind.LOST, path="POST"))
        with pytest.raises(aiohttp.ClientError):
            await client.ask(f"/transformation/automation/{simulator.transformations[0].key}", method="POST")
        assert len(simulator.expected_runs()) == 1

    async def test_a_body_that_is_no_json_is_refused(self, client: Client, simulator: WetransformSimulator) -> None:
        path = f"/transformation/automation/{simulator.transformations[0].key}"
        assert (await client.ask(path, method="POST", data=b"{no"))[0] == 400

    async def test_the_two_kinds_of_id_are_not_mixed_up(self, client: Client, simulator: WetransformSimulator) -> None:
        it = simulator.transformations[0]
        run = simulator.start(it)
        assert (await client.ask(f"/transformation/automation/{it.key}"))[0] == 404
        assert (await client.ask(f"/transformation/automation/{run.key}", method="POST"))[0] == 404
        assert (await client.ask("/transformation/automation/17"))[0] == 404


class TestScenarios:
    @pytest.mark.parametrize(
        ("scenario", "final", "state"),
        [
            (Scenario.STRAIGHT, "processed", "succeeded"),
            (Scenario.SKIPPING, "processed", "succeeded"),
            (Scenario.INSTANT, "processed", "succeeded"),
            (Scenario.REVIEW, "processed", "succeeded"),
            (Scenario.SELECT, "processed", "succeeded"),
            (Scenario.MATCH, "processed", "succeeded"),
            (Scenario.BACKWARDS, "processed", "succeeded"),
            (Scenario.BLINKING, "processed", "succeeded"),
            (Scenario.UNKNOWN_STEP, "processed", "succeeded"),
            (Scenario.NULL_STEP, "processed", "succeeded"),
            (Scenario.REOPENED, "to_select", "succeeded"),
            (Scenario.STUCK, "matching", "running"),
            (Scenario.FAILING, "failed", "failed"),
        ],
    )
    async def test_how_each_scenario_ends(
        self,
        client: Client,
        simulator: WetransformSimulator,
        clock: Clock,
        scenario: Scenario,
        final: str,
        state: str,
    ) -> None:
        run = simulator.start(simulator.transformations[0], Plan(scenario, timedelta(seconds=30)))
        assert await client.step(run.key) == "pending"
        clock.pass_by(60)
        assert await client.step(run.key) == final
        [row] = simulator.expected_runs()
        assert row["state"] == state
        assert (row["ended_at"] is not None) == (state in {"succeeded", "failed"})

    @pytest.mark.parametrize("step", [s for s in STEPS if s not in {"processed", "failed"}])
    async def test_a_run_can_fail_after_each_step(
        self, client: Client, simulator: WetransformSimulator, clock: Clock, step: str
    ) -> None:
        run = simulator.start(simulator.transformations[0], Plan(Scenario.FAILING, timedelta(seconds=9), at_step=step))
        assert run.moves[-2].step == step
        clock.pass_by(10)
        _, body = await client.ask(f"/transformation/automation/{run.key}")
        assert body["payload"]["step"] == "failed"
        assert "amount" in body["payload"]["details"]
        assert body["payload"]["error_report_file"]
        assert body["payload"]["transformed_file"] is None

    @pytest.mark.parametrize("scenario", [Scenario.REVIEW, Scenario.SELECT, Scenario.MATCH])
    async def test_a_person_takes_a_good_part_of_the_time(
        self, client: Client, simulator: WetransformSimulator, clock: Clock, scenario: Scenario
    ) -> None:
        run = simulator.start(simulator.transformations[0], Plan(scenario, timedelta(seconds=100)))
        held = {Scenario.REVIEW: "to_review", Scenario.SELECT: "to_select", Scenario.MATCH: "to_match"}[scenario]
        waits = [(a, b) for a, b in zip(run.moves, run.moves[1:], strict=False) if a.step == held]
        assert sum((b.at - a.at).total_seconds() for a, b in waits) > 15
        clock.time = waits[0][0].at
        assert await client.step(run.key) == held

    async def test_backwards_is_backwards(self, simulator: WetransformSimulator) -> None:
        run = simulator.start(simulator.transformations[0], Plan(Scenario.BACKWARDS))
        walked = [STEPS.index(str(move.step)) for move in run.moves]
        assert walked != sorted(walked)

    async def test_odd_steps_are_shown(self, client: Client, simulator: WetransformSimulator, clock: Clock) -> None:
        null = simulator.start(simulator.transformations[0], Plan(Scenario.NULL_STEP))
        novel = simulator.start(simulator.transformations[0], Plan(Scenario.UNKNOWN_STEP))
        clock.time = next(m.at for m in null.moves if m.step is None)
        assert await client.step(null.key) is None
        clock.time = next(m.at for m in novel.moves if m.step not in STEPS)
        assert await client.step(novel.key) == "recalibrating"

    async def test_a_run_can_vanish_and_a_run_can_blink(
        self, client: Client, simulator: WetransformSimulator, clock: Clock
    ) -> None:
        gone = simulator.start(simulator.transformations[0], Plan(Scenario.VANISHING, timedelta(seconds=5)))
        blinks = simulator.start(simulator.transformations[0], Plan(Scenario.BLINKING, timedelta(seconds=5)))
        clock.time = next(m.at for m in blinks.moves if m.step not in STEPS)
        assert (await client.ask(f"/transformation/automation/{blinks.key}"))[0] == 404
        clock.pass_by(10)
        assert await client.step(blinks.key) == "processed"
        assert (await client.ask(f"/transformation/automation/{gone.key}"))[0] == 404
        assert simulator.expected_runs()[0]["state"] == "unknown"

    async def test_the_same_seed_gives_the_same_scenario(self, clock: Clock) -> None:
        def runs_of(seed: int) -> list[dict[str, Any]]:
            simulator = WetransformSimulator(seed=seed, now=clock)
            simulator.start(simulator.transformations[0], Plan(Scenario.SKIPPING))
            return [
                row | {"moves": run.moves}
                for row, run in zip(simulator.expected_runs(), simulator.state.runs.values(), strict=True)
            ]

        assert runs_of(3) == runs_of(3)
        assert runs_of(3) != runs_of(4)

    async def test_expected_runs_say_when_a_run_began_and_ended(
        self, simulator: WetransformSimulator, clock: Clock
    ) -> None:
        run = simulator.start(simulator.transformations[0], Plan(Scenario.STRAIGHT, timedelta(seconds=26)))
        assert simulator.expected_runs()[0]["state"] == "queued"
        clock.pass_by(27)
        [row] = simulator.expected_runs()
        assert row["created_at"] == "2026-07-05T18:52:49+00:00"
        assert row["started_at"] == next(m.at for m in run.moves if m.step == "downloading").isoformat()
        assert row["ended_at"] == run.moves[-1].at.isoformat()
        assert row["job"] == simulator.transformations[0].key


class TestLettingIn:
    @pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Basic d2V0cmFuc2Zvcm0tdG9rZW4="])
    async def test_no_token_no_answer(self, client: Client, authorization: str) -> None:
        status, body = await client.ask("/transformations", headers={"Authorization": authorization})
        assert status == 401
        assert (body["success"], body["payload"], body["product"]) == (False, [], None)

    async def test_tokens_rotate(self, client: Client, simulator: WetransformSimulator) -> None:
        simulator.account.tokens = {"another"}
        assert (await client.ask("/transformations"))[0] == 401
        assert (await client.ask("/transformations", headers={"Authorization": "Bearer another"}))[0] == 200

    async def test_hello_with_and_without_a_token(self, client: Client, simulator: WetransformSimulator) -> None:
        nobody = {"Authorization": ""}
        assert (await client.ask("/hello"))[0] == 200
        assert (await client.ask("/hello", headers=nobody))[0] == 401
        simulator.state.behaviour.hello_needs_token = False
        assert (await client.ask("/hello", headers=nobody))[0] == 200

    @pytest.mark.parametrize("who", ["cust-1", "ann@acme.example"])
    async def test_a_customers_runs_are_read_as_that_customer(
        self, client: Client, simulator: WetransformSimulator, who: str
    ) -> None:
        it = simulator.state.add_transformation(simulator.account, customer="cust-1")
        run = simulator.start(it)
        path = f"/transformation/automation/{run.key}"

        assert (await client.ask(path, headers={"X-Customer": who}))[0] == 200
        assert (await client.ask(path, headers={"X-Customer": "cust-2"}))[0] == 403
        assert (await client.ask(path, headers={"X-Customer": "nobody@no.example"}))[0] == 403
        assert (await client.ask(path))[0] == 403
        simulator.state.behaviour.customer_header_needed = False
        assert (await client.ask(path))[0] == 200

    async def test_lists_show_the_customers_part_alone(self, client: Client, simulator: WetransformSimulator) -> None:
        it = simulator.state.add_transformation(simulator.account, customer="cust-1")
        _, body = await client.ask("/transformations", headers={"X-Customer": "cust-1"})
        assert [e["transformation_id"] for e in body["payload"]["entries"]] == [it.key]
        _, body = await client.ask("/transformations")
        assert it.key not in {e["transformation_id"] for e in body["payload"]["entries"]}

    @pytest.mark.parametrize(("status", "missing"), [(403, 404), (404, 403)])
    async def test_foreign_and_missing_runs_answer_either_way(
        self, client: Client, simulator: WetransformSimulator, status: int, missing: int
    ) -> None:
        simulator.state.behaviour.foreign_status, simulator.state.behaviour.missing_status = status, missing
        foreign = simulator.start(simulator.state.add_transformation(simulator.account, customer="cust-1"))
        assert (await client.ask(f"/transformation/automation/{foreign.key}"))[0] == status
        assert (await client.ask(f"/transformation/automation/{UUID(int=5)}"))[0] == missing

    async def test_messages_follow_the_language_and_codes_do_not(
        self, client: Client, simulator: WetransformSimulator
    ) -> None:
        run = simulator.start(simulator.transformations[0])
        texts = {}
        for prefix in ("", "/en", "/fr", "/xx"):
            _, body = await client.ask(f"{prefix}/transformation/automation/{run.key}")
            texts[prefix] = body["payload"]["step_for_humans"]
        assert {human["code"] for human in texts.values()} == {"source.event.pending"}
        assert texts[""] == texts["/en"] == texts["/xx"] != texts["/fr"]

    async def test_errors_are_pages_for_clients_that_do_not_ask_for_json(
        self, client: Client, simulator: WetransformSimulator
    ) -> None:
        _, body = await client.ask(f"/transformation/automation/{UUID(int=5)}", headers={"Accept": "*/*"})
        assert body.startswith("<!doctype html>")
        simulator.state.behaviour.html_without_accept = False
        _, body = await client.ask(f"/transformation/automation/{UUID(int=5)}", headers={"Accept": "*/*"})
        assert body["payload"] == []

    @pytest.mark.parametrize("form", ["seconds", "date", None])
    async def test_a_rate_limit(
        self, client: Client, simulator: WetransformSimulator, clock: Clock, form: str | None
    ) -> None:
        simulator.state.behaviour.requests_per_second, simulator.state.behaviour.retry_after = 2.0, form
        statuses = [(await client.ask("/transformations"))[0] for _ in range(3)]
        async with (
            aiohttp.ClientSession() as session,
            session.get(client.base + "/transformations", headers=client.headers) as answer,
        ):
            header = answer.headers.get("Retry-After")
        assert statuses == [200, 200, 429]
        assert header == {"seconds": "2", "date": "Sun, 05 Jul 2026 18:52:51 GMT", None: None}[form]
        clock.pass_by(1)
        assert (await client.ask("/transformations"))[0] == 200

    async def test_planned_faults(self, client: Client) -> None:
        await client.control("POST", "faults", {"kind": "html"})
        await client.control("POST", "faults", {"kind": "status", "status": 403})
        assert "Bad Gateway" in (await client.ask("/transformations"))[1]
        status, body = await client.ask("/transformations")
        assert (status, body["payload"], body["product"]["requirement"]) == (403, [], "permission")
        assert (await client.ask("/transformations"))[0] == 200


class TestLists:
    async def test_pages(self, client: Client, simulator: WetransformSimulator) -> None:
        for _ in range(9):
            simulator.state.add_transformation(simulator.account)
        seen = []
        for page in (1, 2, 3):
            _, body = await client.ask(f"/transformations?page={page}&per_page=5")
            payload = body["payload"]
            assert (payload["total_pages"], payload["current_page"], payload["total_items"]) == (3, page, 12)
            assert payload["items_per_page"] == 5
            seen += [e["transformation_id"] for e in payload["entries"]]
        assert seen == [it.key for it in reversed(simulator.transformations)]
        _, body = await client.ask("/transformations")
        assert body["payload"]["items_per_page"] == 25

    @pytest.mark.parametrize("query", ["per_page=201", "per_page=0", "page=0", "page=x"])
    async def test_limits_of_paging(self, client: Client, query: str) -> None:
        assert (await client.ask(f"/transformations?{query}"))[0] == 400

    async def test_an_entry_has_the_documented_fields(self, client: Client, simulator: WetransformSimulator) -> None:
        _, body = await client.ask("/transformations?per_page=200")
        assert list(body["payload"]["entries"][0]) == [
            "transformation_id",
            "source_id",
            "source_name",
            "source_file_url",
            "imported_at",
            "template_name",
            "template_handle",
            "template_picture_url",
            "has_schedule",
            "column_names",
            "custom_field_names",
            "deleted_at",
            "download_url",
        ]
        simulator.state.behaviour.full_list_entries = False
        _, body = await client.ask("/transformations")
        assert "column_names" not in body["payload"]["entries"][0]

    async def test_filter_by_template(self, client: Client) -> None:
        _, body = await client.ask("/transformations?template_handles[]=new-hires&template_handles[]=price-list")
        assert {e["template_handle"] for e in body["payload"]["entries"]} == {"new-hires", "price-list"}

    async def test_a_list_that_grows_while_it_is_walked(self, client: Client, simulator: WetransformSimulator) -> None:
        simulator.state.behaviour.insertions_during_walk = 1
        _, first = await client.ask("/transformations?per_page=2")
        _, second = await client.ask("/transformations?per_page=2&page=2")
        ids = [e["transformation_id"] for body in (first, second) for e in body["payload"]["entries"]]
        assert len(ids) > len(set(ids))
        assert (first["payload"]["total_items"], second["payload"]["total_items"]) == (3, 4)

    async def test_the_trash(self, client: Client, simulator: WetransformSimulator) -> None:
        it = simulator.transformations[0]
        run = simulator.start(it)
        await client.control("DELETE", f"transformations/{it.key}")
        _, listed = await client.ask("/transformations")
        _, trashed = await client.ask("/transformations/trash")
        assert it.key not in {e["transformation_id"] for e in listed["payload"]["entries"]}
        assert [e["deleted_at"] for e in trashed["payload"]["entries"]] == ["2026-07-05T18:52:49+00:00"]
        assert (await client.ask(f"/transformation/automation/{it.key}", method="POST"))[0] == 404
        assert await client.step(run.key) == "pending"
        simulator.state.behaviour.trashed_runs_stay = False
        assert (await client.ask(f"/transformation/automation/{run.key}"))[0] == 404

    async def test_a_run_shows_in_its_transformation(
        self, client: Client, simulator: WetransformSimulator, clock: Clock
    ) -> None:
        it = simulator.transformations[0]
        _, before = await client.ask(f"/transformation/{it.key}")
        run = simulator.start(it, Plan(duration=timedelta(seconds=10)), started_by="schedule")
        clock.pass_by(11)
        _, after = await client.ask(f"/transformation/{it.key}")
        changed = {k for k in after["payload"] if after["payload"][k] != before["payload"][k]}
        assert changed == {"imported_at", "download_url", "source_file_url"}
        assert run.key in after["payload"]["download_url"]
        simulator.state.behaviour.changes_download_url = False
        _, after = await client.ask(f"/transformation/{it.key}")
        assert after["payload"]["download_url"] is None

    async def test_rows_are_served_until_they_are_submitted(
        self, client: Client, simulator: WetransformSimulator, clock: Clock
    ) -> None:
        it = simulator.transformations[0]
        simulator.start(it, Plan(duration=timedelta(seconds=10)))
        _, body = await client.ask(f"/transformation/{it.key}/data?per_page=1")
        assert body["payload"]["total_items"] == it.row_count
        assert body["payload"]["rows"][0]["row"] == 1
        clock.pass_by(11)
        assert (await client.ask(f"/transformation/{it.key}/data?per_page=1"))[0] == 404

    async def test_templates(self, client: Client) -> None:
        _, body = await client.ask("/templates")
        assert {e["template_handle"] for e in body["payload"]["entries"]} == {"new-hires", "price-list", "stock-levels"}


class TestFiles:
    async def test_signed_addresses_live_for_a_while(
        self, client: Client, simulator: WetransformSimulator, clock: Clock
    ) -> None:
        run = simulator.start(simulator.transformations[0], Plan(duration=timedelta(seconds=1)))
        clock.pass_by(2)
        _, body = await client.ask(f"/transformation/automation/{run.key}")
        url = body["payload"]["transformed_file"].removeprefix(client.base)
        assert "?signature=" in url
        assert (await client.ask(url))[0] == 200
        assert (await client.ask(url.partition("?")[0]))[0] == 403
        clock.pass_by(90_000)
        assert (await client.ask(url))[0] == 410
        simulator.state.behaviour.dead_file_status = 404
        assert (await client.ask(url))[0] == 404

    async def test_records_may_have_a_lifetime(
        self, client: Client, simulator: WetransformSimulator, clock: Clock
    ) -> None:
        run = simulator.start(simulator.transformations[0], Plan(duration=timedelta(seconds=1)))
        simulator.state.behaviour.record_lifetime_seconds = 60
        clock.pass_by(30)
        assert await client.step(run.key) == "processed"
        clock.pass_by(60)
        assert (await client.ask(f"/transformation/automation/{run.key}"))[0] == 404


class Listener:
    """Takes webhooks and keeps them."""

    def __init__(self) -> None:
        self.taken: list[tuple[str | None, bytes]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.taken.append((request.headers.get("X-Signature"), await request.read()))
        return web.Response(status=202)


@pytest.fixture
async def listener() -> AsyncIterator[tuple[Listener, str]]:
    listener = Listener()
    app = web.Application()
    app.router.add_post("/hook", listener.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield listener, f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    await runner.cleanup()


class TestWebhooks:
    async def test_a_processed_run_is_sent_once_and_signed(
        self, client: Client, simulator: WetransformSimulator, clock: Clock, listener: tuple[Listener, str]
    ) -> None:
        received, url = listener
        it = simulator.state.add_transformation(simulator.account, customer="cust-1")
        simulator.start(it, Plan(duration=timedelta(seconds=1)))
        simulator.start(it, Plan(Scenario.FAILING, timedelta(seconds=1)))
        await client.control("PUT", "webhook", {"url": url, "secret": "s3cret"})

        assert (await client.control("POST", "webhook"))["statuses"] == []
        clock.pass_by(2)
        assert (await client.control("POST", "webhook"))["statuses"] == [202]
        assert (await client.control("POST", "webhook"))["statuses"] == []

        [(signature, raw)] = received.taken
        assert signature == hmac.new(b"s3cret", raw, hashlib.sha256).hexdigest() == sign("s3cret", raw)
        body = json.loads(raw)
        assert list(body) == ["event", "download_url", "customer_id", "customer_email", "template"]
        assert (body["event"], body["customer_email"]) == ("file:ready-for-download", "ann@acme.example")

    @pytest.mark.parametrize(
        ("wrong", "received_count"),
        [
            ({"copies": 2}, 4),
            ({"lose_every": 2}, 1),
            ({"signature": "wrong"}, 2),
            ({"signature": "none"}, 2),
            ({"delay_seconds": 60.0}, 0),
        ],
    )
    async def test_what_can_go_wrong_on_the_way(
        self,
        simulator: WetransformSimulator,
        clock: Clock,
        listener: tuple[Listener, str],
        wrong: dict[str, Any],
        received_count: int,
    ) -> None:
        received, url = listener
        for _ in range(2):
            simulator.start(simulator.transformations[0], Plan(Scenario.INSTANT, timedelta(seconds=1)))
        simulator.webhooks.append(Webhook(url, "s3cret", **wrong))
        clock.pass_by(2)
        await simulator.deliver_webhooks()
        assert len(received.taken) == received_count
        if "signature" in wrong:
            assert all(signature != sign("s3cret", raw) for signature, raw in received.taken)
        if "delay_seconds" in wrong:
            clock.pass_by(60)
            assert await simulator.deliver_webhooks() == [202, 202]


class TestControl:
    async def test_a_run_is_started_held_and_let_go(self, client: Client, clock: Clock) -> None:
        made = await client.control("POST", "transformations", {"customer": "cust-2", "name": "Prices"})
        wish = {"transformation_id": made["transformation_id"], "scenario": "review", "duration_seconds": 60}
        run = await client.control("POST", "runs", wish)
        who = {"X-Customer": "cust-2"}
        assert run["started_by"] == "schedule"

        await client.control("PUT", f"runs/{run['key']}/step", {"step": "to_review"})
        clock.pass_by(1_000)
        assert await client.step(run["key"], headers=who) == "to_review"
        await client.control("POST", f"runs/{run['key']}/resume", {"duration_seconds": 5})
        clock.pass_by(3)
        assert await client.step(run["key"], headers=who) in UNATTENDED
        clock.pass_by(3)
        assert await client.step(run["key"], headers=who) == "processed"

    async def test_the_next_starts_are_planned(self, client: Client, clock: Clock) -> None:
        plans = {"next": [{"scenario": "failing", "duration_seconds": 1}], "default": {"scenario": "stuck"}}
        await client.control("PUT", "scenarios", plans)
        listed = await client.control("GET", "transformations")
        path = f"/transformation/automation/{listed['transformations'][0]['transformation_id']}"
        runs = [(await client.ask(path, method="POST"))[1]["payload"]["automation_id"] for _ in range(2)]
        clock.pass_by(100)
        assert [await client.step(run) for run in runs] == ["failed", "matching"]
        expected = await client.control("GET", "expected")
        assert [row["state"] for row in expected["runs"]] == ["failed", "running"]

    async def test_switches(self, client: Client) -> None:
        after = await client.control("PATCH", "behaviour", {"product_on_success": True})
        assert after["product_on_success"] is True
        _, body = await client.ask("/transformations")
        assert body["success"] is True
        assert body["product"]["requirement"] == "permission"

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("PATCH", "behaviour", {"no_such": 1}, 400),
            ("POST", "runs", {"transformation_id": "x"}, 404),
            ("PUT", "scenarios", {"next": [{"scenario": "odd"}]}, 400),
            ("PUT", "runs/x/step", {"step": "pending"}, 404),
            ("POST", "transformations", {"no_such": 1}, 400),
        ],
    )
    async def test_mistakes_are_answered(
        self, client: Client, method: str, path: str, body: dict[str, Any], status: int
    ) -> None:
        assert (await client.ask(f"/_control/{path}", method=method, json=body))[0] == status
