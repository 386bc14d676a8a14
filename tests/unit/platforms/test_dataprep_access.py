"""Tokens, quotas, starting runs, watching them, and what `check` says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from collector.errors import AuthFailed, BadAnswer, NotFound, Throttled, TriggerError, Unavailable
from collector.model import EventKind, RunState
from collector.platforms.answers import Forbidden
from collector.platforms.dataprep import trigger
from collector.platforms.dataprep.api import asked_wait, used_up
from collector.testing.faults import Fault, FaultKind
from simulators.dataprep import Feature, Level, Switches, Token
from tests.contract.http_recorder import recorder
from tests.dataprep_rig import DataprepRig, dataprep_rig

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
START_PATH = "POST /v4/jobGroups$"
NO_RECIPE = {"id": 1, "status": "Created", "jobs": {"data": []}}


class TestWaits:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"x-retry-after": "57"}, 57.0),
            ({"x-retry-after": "0"}, 0.0),
            ({"x-retry-after": "1.5"}, 1.5),
            ({"x-retry-after": "57000"}, 120.0),
            ({"x-retry-after": "100000"}, 120.0),
            ({"x-retry-after": "soon"}, None),
            ({"retry-after": "7"}, 7.0),
            ({"x-rate-limit-user-reset": str(int(NOW.timestamp() * 1000) + 30_000)}, 30.0),
            ({"x-rate-limit-user-reset": str(int(NOW.timestamp()) + 30)}, 30.0),
            ({"x-rate-limit-user-reset": str(int(NOW.timestamp()) - 30)}, 0.0),
            ({"x-rate-limit-workspace-reset": str(int(NOW.timestamp() * 1000) + 9_000_000)}, 120.0),
            ({"x-retry-after": "5", "x-rate-limit-user-reset": str(int(NOW.timestamp()) + 30)}, 5.0),
            (
                {
                    f"x-rate-limit-{scope}-reset": str(int(NOW.timestamp()) + wait)
                    for scope, wait in (("user", 10), ("workspace", 40))
                },
                40.0,
            ),
            (
                {
                    f"x-rate-limit-{scope}-reset": str(int(NOW.timestamp()) + wait)
                    for scope, wait in (("user", 40), ("workspace", 10))
                },
                40.0,
            ),
            ({"x-rate-limit-user-reset": "9" * 30}, None),
            ({"x-rate-limit-user-reset": "-1"}, None),
            ({}, None),
        ],
    )
    def test_what_a_429_asks_for(self, headers: dict[str, str], expected: float | None) -> None:
        assert asked_wait(headers, NOW) == expected

    @pytest.mark.parametrize(
        ("user", "workspace", "expected"), [("0", "7", 10.0), ("0", "0", 40.0), ("1", "0", 40.0), ("1", "1", 0.0)]
    )
    def test_a_quota_of_which_nothing_remains(self, user: str, workspace: str, expected: float) -> None:
        left = {"x-rate-limit-user-remaining": user, "x-rate-limit-workspace-remaining": workspace}
        resets = {
            "x-rate-limit-user-reset": str(int(NOW.timestamp()) + 10),
            "x-rate-limit-workspace-reset": str((int(NOW.timestamp()) + 40) * 1000),
        }
        assert used_up(left | resets, NOW) == expected
        assert used_up(left, NOW) == 0.0
        assert used_up(left | resets, NOW + timedelta(seconds=90)) == 0.0, "a reset that has passed"

    async def test_the_default_limit_holds_over_polls_and_enrichments(self) -> None:
        async with dataprep_rig(Level.L2, requests_per_minute=60, burst=10) as rig:
            for _ in range(40):
                rig.simulator.start_run("quick")
            rig.clock.advance(60)
            before = rig.clock.monotonic()
            await rig.poller.cycle()
            seconds = rig.clock.monotonic() - before
            assert rig.requests() > 100
            assert rig.requests() <= 10 + seconds + 1


class TestToken:
    async def test_it_is_read_again_when_it_rotates(self, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("old")
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.tokens = {"old": Token()}
            rig.restart(token=None, token_file=str(file))
            await rig.poller.cycle()
            rig.simulator.tokens = {"new": Token()}
            with pytest.raises(AuthFailed):
                await rig.poller.cycle()
            file.write_text("new token")
            rig.simulator.tokens = {"new token": Token()}
            await rig.poller.cycle()

    async def test_no_error_holds_the_token(self) -> None:
        async with dataprep_rig(Level.L2, token="planted-secret") as rig:
            with pytest.raises(AuthFailed) as refused:
                await rig.poller.cycle()
            assert "planted-secret" not in str(refused.value)
            assert "401" in str(refused.value)
            assert "request id" in str(refused.value)

    async def test_a_slow_queued_answer_is_waited_for(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.faults.plan(Fault(FaultKind.SLOW, path="jobLibrary", delay=0.2))
            rig.simulator.start_run("quick")
            await rig.poller.follow(60)
            assert rig.wrong() == []
            assert rig.platform._api._timeout >= 60


class TestTrigger:
    async def test_a_recipe_with_parameters_and_overrides(self) -> None:
        async with dataprep_rig(Level.L0) as rig:
            parameters = {
                "country": "Germany",
                "overrides.execution": "dataflow",
                "overrides.profiler": "false",
                "overrides.writesettings": '[{"path": "gs://b/o.csv", "action": "create", "format": "csv"}]',
            }
            seen = await rig.platform.trigger("7", parameters, "token-1")
            run = rig.simulator.workspace.runs[int(seen.key)]
            assert run.recipe == 7
            assert run.parameters == {"country": "Germany"}
            assert [write["path"] for write in run.writes] == ["gs://b/o.csv"]
            assert run.profiling is False
            assert seen.state is RunState.QUEUED
            assert dict(seen.facts.parameters) == parameters
            rig.poller.adopt(seen)
            await rig.poller.follow(900, every=30)
            assert rig.poller.kinds(seen.key)[-1] is EventKind.COMPLETE

    @pytest.mark.parametrize("switches", [Switches(run_answer="short"), Switches(string_ids=True)])
    async def test_other_forms_of_the_answer(self, switches: Switches) -> None:
        async with dataprep_rig(Level.L2, switches) as rig:
            assert (await rig.platform.trigger("recipe/1", {}, "t")).key == "1"

    @pytest.mark.parametrize("kind", [FaultKind.LOST, FaultKind.TRUNCATED])
    async def test_a_lost_answer_never_starts_it_twice(self, kind: FaultKind) -> None:
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.faults.plan(Fault(kind, path=START_PATH))
            seen = await rig.platform.trigger("1", {}, "t")
            assert seen.key == "1"
            assert len(rig.simulator.workspace.runs) == 1

    async def test_one_lost_three_times_names_the_id_with_which_it_can_be_made_again(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.faults.plan(Fault(FaultKind.LOST, path=START_PATH, times=3))
            with pytest.raises(TriggerError, match=r"--execution-id id-7$") as lost:
                await rig.platform.trigger("1", {}, "id-7")
            assert lost.value.doubtful
            again = await rig.adapter().trigger("1", {}, "id-7")
            assert again.key == "1"
            assert len(rig.simulator.workspace.runs) == 1

    @pytest.mark.parametrize("execution", ["", "a\r\nb: c", "é", "x" * 201])
    async def test_an_id_that_no_header_can_carry_starts_nothing(self, execution: str) -> None:
        async with dataprep_rig(Level.L2) as rig:
            with pytest.raises(TriggerError, match="execution id"):
                await rig.platform.trigger("1", {}, execution)
            assert rig.requests() == 0

    @pytest.mark.parametrize("value", ['[{"path": "gs://b/o.csv"', '{"a": ', " [1,]"])
    async def test_a_parameter_that_begins_as_json_and_is_none_starts_nothing(self, value: str) -> None:
        async with dataprep_rig(Level.L2) as rig:
            with pytest.raises(TriggerError, match=r"overrides\.writesettings is not valid JSON"):
                await rig.platform.trigger("1", {"overrides.writesettings": value}, "t")
            assert rig.requests() == 0

    @pytest.mark.parametrize("level", [Level.L1, Level.L2])
    async def test_304_means_that_it_runs_and_it_is_found(self, level: Level) -> None:
        async with dataprep_rig(level) as rig:
            rig.simulator.start_run("long", 1, ranfrom="ui")
            rig.simulator.start_run("long", 2)
            first = await rig.platform.trigger("1", {}, "t")
            again = await rig.adapter().trigger("1", {}, "t")
            assert again.key == first.key
            assert len(rig.simulator.workspace.runs) == 3

    async def test_304_with_several_candidates_is_a_doubt_that_names_them(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.start_run("long", 1)
            await rig.platform.trigger("1", {}, "t")
            with pytest.raises(TriggerError, match=r"1, 2|2, 1") as doubt:
                await rig.adapter().trigger("1", {}, "t")
            assert doubt.value.doubtful

    async def test_304_without_a_list_says_what_to_do(self) -> None:
        async with dataprep_rig(Level.L0) as rig:
            first = await rig.platform.trigger("1", {}, "t")
            assert (await rig.platform.trigger("1", {}, "t")).key == first.key, "this process remembers"
            with pytest.raises(TriggerError, match="watch"):
                await rig.adapter().trigger("1", {}, "t")
            assert len(rig.simulator.workspace.runs) == 1

    @pytest.mark.parametrize("job", ["", "orders.clean", "recipe/x", "-1", "1.5", "٣"])
    async def test_a_job_that_is_no_recipe_id(self, job: str) -> None:
        async with dataprep_rig(Level.L2) as rig:
            with pytest.raises(TriggerError, match="recipe"):
                await rig.platform.trigger(job, {}, "t")
            assert rig.requests() == 0

    async def test_a_refusal_is_given_in_the_platforms_words(self) -> None:
        async with dataprep_rig(Level.L2, Switches(overrides_refused=True)) as rig:
            with pytest.raises(TriggerError, match="does not exist") as refused:
                await rig.platform.trigger("999", {}, "t")
            assert not refused.value.doubtful
            with pytest.raises(TriggerError, match="not supported"):
                await rig.platform.trigger("1", {"overrides.profiler": "true"}, "t")

    @pytest.mark.parametrize(
        ("status", "name", "to_do"),
        [
            (400, "ApiValidationFailed", "check the recipe's number and the parameters"),
            (404, "NotFoundException", "check the recipe's number"),
            (410, "GoneException", "check the recipe's number"),
            (404, "RouteNotFoundException", "start it on the platform itself"),
            (401, "UnauthorizedException", "make a new token"),
            (403, "AccessControlException", "have the token's user allowed to run this recipe"),
            (429, "TooManyRequestsException", "wait a minute"),
        ],
    )
    async def test_a_refusal_says_what_to_do(self, status: int, name: str, to_do: str) -> None:
        body = {"exception": {"name": name, "message": "no", "details": "no"}}
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=START_PATH, times=-1, status=status, body=body))
            with pytest.raises(TriggerError, match=to_do) as refused:
                await rig.platform.trigger("1", {}, "t")
            assert str(status) in str(refused.value)
            assert not refused.value.doubtful

    async def test_the_run_quota(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            for number in range(30):
                await rig.platform._starter.start("1", {}, f"t{number}")
            with pytest.raises(TriggerError, match="nothing is sent for 60 s"):
                await rig.platform.trigger("1", {}, "t")
            assert rig.statuses[429] == 0, "the answer to the last one said that nothing remains"
            rig.simulator.tokens["other"] = Token()
            with pytest.raises(TriggerError, match="Wait 60 seconds"):
                await rig.adapter(token="other").trigger("1", {}, "t")

    async def test_an_answer_that_names_no_recipe(self) -> None:
        """The recipe is the one that was asked for."""
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET /v4/jobGroups/1$", status=200, body=NO_RECIPE))
            seen = await rig.platform.trigger("1", {}, "t")
            whole = await rig.platform.watch(seen.key, {})
            assert (seen.job, seen.run_id) == (whole.job, whole.run_id)

    async def test_a_dead_platform(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.faults.plan(Fault(FaultKind.RESET, times=-1))
            with pytest.raises(TriggerError) as lost:
                await rig.platform.trigger("1", {}, "t")
            assert lost.value.doubtful
            adapter = rig.adapter(base_url="http://127.0.0.1:9")
            with pytest.raises(TriggerError, match="nothing was started") as refused:
                await adapter.trigger("1", {}, "t")
            assert not refused.value.doubtful

    def test_the_request_body(self) -> None:
        assert trigger.request_body("7", {}) == {"wrangledDataset": {"id": 7}}


class TestWatch:
    async def test_a_run_that_names_no_recipe_is_not_named_otherwise(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET /v4/jobGroups/1$", status=200, body=NO_RECIPE))
            with pytest.raises(BadAnswer, match="names no recipe"):
                await rig.platform.watch("1", {})

    @pytest.mark.parametrize("level", list(Level))
    async def test_a_run_by_its_number(self, level: Level) -> None:
        async with dataprep_rig(level) as rig:
            run = rig.simulator.start_run("complete", ranfrom=None)
            await rig.watch(run)
            await rig.poller.follow(600, every=15)
            assert rig.wrong() == []

    @pytest.mark.parametrize("key", ["999", "x", "", "1/2", "٣"])
    async def test_a_run_that_is_not_there(self, key: str) -> None:
        async with dataprep_rig(Level.L2) as rig:
            with pytest.raises(NotFound, match="left column of the Jobs page"):
                await rig.platform.watch(key, {})

    @pytest.mark.parametrize("status", [404, 410])
    async def test_a_run_that_was_deleted(self, status: int) -> None:
        async with dataprep_rig(Level.L2, Switches(deleted_status=status)) as rig:
            run = rig.simulator.start_run()
            rig.simulator.workspace.delete(run)
            with pytest.raises(NotFound, match=rf"{status}.*no such run, or it was deleted"):
                await rig.platform.watch(str(run.id), {})

    async def test_a_run_that_the_token_may_not_see(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            body = {"exception": {"name": "AccessControlException", "message": "no", "details": "no"}}
            rig.simulator.faults.plan(
                Fault(FaultKind.STATUS, path="GET /v4/jobGroups/1", times=-1, status=403, body=body)
            )
            with pytest.raises(Forbidden, match="have the token's user allowed to see its flow"):
                await rig.platform.watch("1", {})

    async def test_an_answer_about_another_run_is_refused(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            run = rig.simulator.start_run()
            body = {"id": run.id + 1, "status": "Complete", "jobs": {"data": []}, "wrangledDataset": {"id": 1}}
            rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="jobGroups/1", status=200, body=body))
            with pytest.raises(BadAnswer, match="about job group"):
                await rig.platform.watch(str(run.id), {})


class TestCheck:
    @pytest.mark.parametrize("level", list(Level))
    async def test_all_well(self, level: Level) -> None:
        async with dataprep_rig(level, requests_per_minute=60) as rig:
            found = await rig.platform.check()
            assert all(finding.ok for finding in found)
            assert f"level {level}" in {finding.subject for finding in found}

    @pytest.mark.parametrize(
        ("changed", "word"),
        [({"token": "wrong"}, "token"), ({"base_url": "http://127.0.0.1:9"}, "base_url")],
    )
    async def test_what_is_wrong_and_what_to_do(self, changed: dict[str, Any], word: str) -> None:
        async with dataprep_rig(Level.L2) as rig:
            [finding] = await rig.adapter(**changed).check()
            assert not finding.ok
            assert word in (finding.remedy or "")

    @pytest.mark.parametrize("token", ["right", "wrong"])
    @pytest.mark.parametrize("body", [{"error": "nginx"}, {"exception": {"name": "RouteNotFoundException"}}])
    async def test_an_address_where_every_path_answers_404_accepts_no_token(
        self, token: str, body: dict[str, Any]
    ) -> None:
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="", times=-1, status=404, body=body))
            adapter = rig.platform if token == "right" else rig.adapter(token=token)
            [finding] = await adapter.check()
            assert not finding.ok
            assert "base_url" in (finding.remedy or "")

    async def test_a_wrong_token_shows_where_no_list_answers(self) -> None:
        async with dataprep_rig(Level.L0) as rig:
            [finding] = await rig.adapter(token="wrong").check()
            assert not finding.ok
            assert "token" in (finding.remedy or "")

    async def test_a_limit_is_no_matter_of_the_address(self) -> None:
        async with dataprep_rig(Level.L2) as rig:
            rig.simulator.faults.plan(
                Fault(FaultKind.STATUS, path="", times=-1, status=429, headers={"x-retry-after": "90"})
            )
            [finding] = await rig.platform.check()
            assert not finding.ok
            assert "requests_per_minute" in (finding.remedy or "")


async def outcome(rig: DataprepRig, status: int, body: Any) -> str:
    fault = Fault(FaultKind.STATUS, path="jobGroups/1/status", status=status, body=body)
    rig.simulator.faults.plan(fault)
    try:
        await rig.platform._api.get("jobGroups", "1", "status")
    except (NotFound, AuthFailed, BadAnswer, Unavailable, Throttled) as error:
        return type(error).__name__
    return "fine"


async def test_what_an_answer_means() -> None:
    """Gone is 404, 410, or 400 with words that say so: from the platform itself, or while it answers beside it."""

    def said(name: str, details: Any) -> dict[str, Any]:
        return {"exception": {"name": name, "message": "m", "details": details}}

    async with dataprep_rig(Level.L2) as rig:
        rig.simulator.start_run()
        assert await outcome(rig, 400, said("ValidationFailed", "Job group 1 does not exist")) == "NotFound"
        assert await outcome(rig, 400, said("ValidationFailed", {"text": "It was deleted"})) == "NotFound"
        assert await outcome(rig, 400, said("ResourceNotFound", None)) == "NotFound"
        assert await outcome(rig, 400, said("ValidationFailed", "limit must be a number")) == "Refused"
        assert await outcome(rig, 404, said("Anything", "")) == "NotFound"
        assert await outcome(rig, 404, said("RouteNotFoundException", "")) == "NoSuchPath"
        assert await outcome(rig, 404, {"error": "nginx"}) == "NotFound"
        for status in (403, 404, 410):
            beside = Fault(FaultKind.STATUS, path="outputObjects/count", status=status, body={"error": "nginx"})
            rig.simulator.faults.plan(beside)
            assert await outcome(rig, status, {"error": "nginx"}) == "Foreign"
        assert await outcome(rig, 410, said("Gone", "")) == "NotFound"
        assert await outcome(rig, 403, said("AccessControlException", "")) == "Forbidden"
        assert await outcome(rig, 401, "whatever") == "AuthFailed"
        assert await outcome(rig, 415, said("UnsupportedMediaType", "")) == "Refused"
        assert await outcome(rig, 503, said("x", "")) == "Unavailable"
        assert await outcome(rig, 200, "Complete") == "fine"


async def test_features_that_a_document_claims_falsely_are_left_alone() -> None:
    async with dataprep_rig(Level.L2, Switches(spec="all")) as rig:
        rig.simulator.features -= {Feature.LINEAGE, Feature.FLOW_RUNS, Feature.DEFINITIONS}
        rig.simulator.workspace.run_flow(1)
        rig.clock.advance(900)
        await rig.poller.follow(timedelta(minutes=5).total_seconds(), every=60)
        assert rig.wrong() == []


@pytest.mark.parametrize("body", ["<html><title>API portal</title></html>", "openapi: 3.0.0\npaths: {}\n"])
async def test_a_document_that_is_no_json_stops_nothing(body: str) -> None:
    """A portal's page, or YAML: trials show what the deployment has."""

    async def portal(request: web.Request, _: bytes) -> web.Response:
        if request.path == "/v4/open-api-spec":
            return web.Response(text=body)
        return web.json_response({"data": []})

    async with recorder(portal) as server, dataprep_rig(Level.L2) as rig:
        found = await rig.adapter(base_url=server.url).check()
        assert [(finding.ok, finding.subject) for finding in found[:2]] == [
            (True, f"{server.url}, workspace 1"),
            (True, "level L2"),
        ]


async def test_an_error_under_status_200_is_told_in_the_platforms_words() -> None:
    async with dataprep_rig(Level.L2) as rig:
        body = {"exception": {"name": "Oops", "message": "out of order", "details": None}}
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="jobLibrary", times=-1, status=200, body=body))
        with pytest.raises(BadAnswer, match=r"status 200 .*Oops: out of order"):
            await rig.poller.cycle()
