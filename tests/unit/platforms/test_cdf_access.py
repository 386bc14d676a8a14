"""Tokens, refusals, retries, trigger, watch and check of the CDF adapter against the simulator."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from collector.errors import AuthFailed, BadAnswer, NotFound, SourceError, Throttled, TriggerError, Unavailable
from collector.http import HttpClient, HttpOptions
from collector.model import RunState
from collector.oauth import Grant, Tokens
from collector.platforms.base import Finding
from collector.secret_registry import secret_registry
from collector.testing.clock import SimulatedClock
from collector.testing.faults import Fault, FaultKind
from simulators.cdf import READ, WORKFLOWS, WRITE, OverLimit, Scenario
from tests.cdf_rig import CdfRig, cdf_rig, source

SECRET = "simulated-secret"


@pytest.fixture
async def rig() -> AsyncIterator[CdfRig]:
    async with cdf_rig() as made:
        made.simulator.add_transformation("pumps")
        yield made


# Tokens


async def test_one_token_serves_many_requests_and_is_renewed_before_it_ends(rig: CdfRig) -> None:
    await rig.poller.follow(60)
    assert rig.simulator.identity.grants == 1
    rig.clock.advance(3600 - 60 - 40)
    await rig.poller.cycle()
    assert rig.simulator.identity.grants == 1
    rig.clock.advance(15)
    await rig.poller.cycle()
    assert rig.simulator.identity.grants == 2
    assert rig.statuses[401] == 0


@pytest.mark.parametrize("lifetime", [5, 40, 10_000_000])
async def test_any_lifetime_will_do(rig: CdfRig, lifetime: int) -> None:
    rig.simulator.identity.lifetime = lifetime
    rig.simulator.modes.expires_in_as_text = True
    await rig.poller.follow(60)
    assert rig.statuses[401] == 0


@pytest.mark.parametrize("expires_in", [None, "soon", -1, "nan", [], "missing"])
async def test_a_lifetime_that_cannot_be_read_is_taken_for_short(rig: CdfRig, expires_in: Any) -> None:
    token = (await _token(rig))["access_token"]
    body = {"access_token": token} | ({} if expires_in == "missing" else {"expires_in": expires_in})
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="token", status=200, body=body))
    await rig.poller.cycle()
    rig.clock.advance(290)
    await rig.poller.cycle()
    assert rig.simulator.identity.grants == 2


async def test_a_token_that_is_refused_early_is_replaced_once_for_all(rig: CdfRig) -> None:
    await rig.poller.cycle()
    rig.simulator.identity.revoke()
    api = rig.platform._api
    await asyncio.gather(*(api.jobs(10) for _ in range(6)))
    assert rig.simulator.identity.grants == 2


async def test_a_refused_client_gets_an_error_in_the_providers_words_and_not_hammered(rig: CdfRig) -> None:
    rig.simulator.identity.client_secret = "another"
    failures = await asyncio.gather(*(rig.platform._api.jobs(10) for _ in range(5)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [AuthFailed] * 5
    assert "invalid_client: AADSTS7000215: Invalid client secret provided." in str(failures[0])
    assert SECRET not in str(failures[0])
    assert rig.statuses[401] == 1
    rig.simulator.identity.client_secret = SECRET
    rig.clock.advance(6)
    await rig.poller.cycle()


async def test_a_secret_that_a_provider_repeats_is_hidden(rig: CdfRig) -> None:
    secret_registry.learn("the source", SECRET)
    body = {"error": "invalid_client", "error_description": f"the secret {SECRET} is wrong"}
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="token", status=401, body=body))
    with pytest.raises(AuthFailed) as caught:
        await rig.poller.cycle()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(FaultKind.HTML, path="token"), Unavailable),
        (Fault(FaultKind.HTML, path="token", status=404), AuthFailed),
        (Fault(FaultKind.HTML, path="token", status=200), BadAnswer),
        (Fault(FaultKind.STATUS, path="token", status=429, headers={"Retry-After": "7"}), Throttled),
        (Fault(FaultKind.STATUS, path="token", status=503), Unavailable),
        (Fault(FaultKind.STATUS, path="token", status=400, body=["no"]), AuthFailed),
        (Fault(FaultKind.STATUS, path="token", status=200, body={"access_token": 5}), BadAnswer),
        (Fault(FaultKind.STATUS, path="token", status=200, body={"access_token": "a\nb"}), BadAnswer),
        (Fault(FaultKind.LOST, path="token"), Unavailable),
        (Fault(FaultKind.TRUNCATED, path="token"), BadAnswer),
    ],
)
async def test_what_a_token_endpoint_may_answer(rig: CdfRig, fault: Fault, error: type[SourceError]) -> None:
    fault.times = -1
    rig.simulator.faults.plan(fault)
    with pytest.raises(error, match="identity provider"):
        await rig.poller.cycle()
    rig.simulator.faults.clear()
    rig.clock.advance(10)
    await rig.poller.cycle()


async def test_a_secret_in_a_file_may_rotate(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    async with cdf_rig() as rig:
        auth = {"token_url": f"{rig.served.url}/oauth2/token", "client_id": "collector", "client_secret_file": file}
        await rig.platform_again(auth=auth)
        await rig.poller.cycle()
        rig.simulator.identity.client_secret = "rotated"
        rig.simulator.identity.revoke()
        file.write_text("rotated")
        await rig.poller.cycle()


@pytest.mark.parametrize(
    ("auth", "path"),
    [
        ({"provider": "entra", "tenant": "t"}, "/t/oauth2/v2.0/token"),
        ({"provider": "auth0", "tenant": "example.eu.auth0.com"}, "/oauth/token"),
        ({"provider": "cognite"}, "/oauth2/token"),
        ({"provider": "oidc", "scopes": ["a", "b"], "audience": "c"}, "/oauth2/token"),
    ],
)
async def test_every_identity_provider(auth: dict[str, Any], path: str) -> None:
    async with cdf_rig() as rig:
        settings = source(
            "http://example.com", auth={"client_id": "x", "client_secret": "y", "token_url": "http://z/"} | auth
        )
        request = settings.auth.token_request(settings.base_url, settings.project)
        rig.simulator.identity.scope = request.scope
        rig.simulator.identity.audience = request.audience
        given: dict[str, Any] = {"client_id": "collector", "client_secret": SECRET, "token_url": rig.served.url + path}
        given |= {"scopes": request.scope.split()} if request.scope else {}
        await rig.platform_again(auth=auth | given | ({"audience": request.audience} if request.audience else {}))
        await rig.poller.cycle()
        assert rig.simulator.identity.grants == 1


@pytest.mark.parametrize(
    ("auth", "wanted"),
    [
        ({"provider": "entra", "tenant": "t"}, {"scope": "https://az-eastus-1.cognitedata.com/.default"}),
        ({"provider": "cognite"}, {}),
        (
            {"provider": "auth0", "tenant": "acme.eu.auth0.com"},
            {"scope": "IDENTITY user_impersonation", "audience": "https://plant-a.fusion.cognite.com/plant-a"},
        ),
        (
            {"provider": "oidc", "scopes": ["a", "b"], "audience": "https://az-eastus-1.cognitedata.com"},
            {"scope": "a b", "audience": "https://az-eastus-1.cognitedata.com"},
        ),
        ({"provider": "oidc", "scopes": []}, {}),
    ],
)
async def test_what_each_provider_is_sent(auth: dict[str, Any], wanted: dict[str, str]) -> None:
    """To the byte, by a separate server: a form, the client in it, and no other header that means anything."""
    forms: list[tuple[dict[str, Any], dict[str, str]]] = []

    async def token(request: web.Request) -> web.Response:
        forms.append((dict(await request.post()), dict(request.headers)))
        return web.json_response({"access_token": "t", "expires_in": "3599", "ext_expires_in": 3599})

    app = web.Application()
    app.router.add_post("/token", token)
    async with TestServer(app) as server:
        given = {"client_id": "collector", "client_secret": "s+/=&"} | auth
        settings = source(
            "https://az-eastus-1.cognitedata.com", auth={"token_url": str(server.make_url("/token"))} | given
        )
        request = settings.auth.token_request(settings.base_url, settings.project)
        http, clock = HttpClient(HttpOptions()), SimulatedClock()
        secret = settings.auth.credential.get
        grant = Grant(request.url, settings.auth.client_id, secret, request.scope, request.audience)
        tokens = Tokens(http, clock, grant)
        assert await tokens.current() == "t"
        clock.advance(3599 - 31)
        await tokens.current()
        assert len(forms) == 1, "the lifetime comes as text"
        await http.close()
    [(form, headers)] = forms
    client = {"grant_type": "client_credentials", "client_id": "collector", "client_secret": "s+/=&"}
    assert form == client | wanted
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert (headers["Accept"], "Authorization" in headers) == ("application/json", False)


# Answers of the API


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault(FaultKind.STATUS, status=401), AuthFailed, "another project"),
        (Fault(FaultKind.STATUS, status=403), AuthFailed, "Forbidden"),
        (Fault(FaultKind.STATUS, status=404), NotFound, "404"),
        (Fault(FaultKind.STATUS, status=400), BadAnswer, "400"),
        (Fault(FaultKind.STATUS, status=429), Throttled, "429"),
        (Fault(FaultKind.STATUS, status=500), Unavailable, "500"),
        (Fault(FaultKind.STATUS, status=302, headers={"Location": "https://x"}), BadAnswer, "check base_url"),
        (Fault(FaultKind.STATUS, status=400, headers={"cdf-is-auto-retryable": "true"}), Unavailable, "400"),
        (Fault(FaultKind.STATUS, status=404, headers={"cdf-is-auto-retryable": "True"}), Unavailable, "404"),
        (
            Fault(FaultKind.STATUS, status=500, headers={"x-request-id": "8b3f6c1e-0a7d-9b1c-a3d2-5f0f1e9e6a3c"}),
            Unavailable,
            r"\[request 8b3f6c1e-0a7d-9b1c-a3d2-5f0f1e9e6a3c\]",
        ),
        (Fault(FaultKind.HTML), Unavailable, "502"),
        (Fault(FaultKind.HTML, status=200), BadAnswer, "an HTML page in place"),
        (Fault(FaultKind.LOST), Unavailable, "no answer"),
        (Fault(FaultKind.RESET), Unavailable, "no answer"),
        (Fault(FaultKind.STATUS, status=200, body={"error": {"code": 500, "message": "boom"}}), BadAnswer, "boom"),
        (Fault(FaultKind.STATUS, status=200, body={"items": [], "nextCursor": 7}), BadAnswer, "nextCursor that is not"),
        (Fault(FaultKind.TRUNCATED), BadAnswer, "JSON that is cut off or broken in place of a JSON object"),
    ],
)
async def test_what_the_api_may_answer(rig: CdfRig, fault: Fault, error: type[SourceError], words: str) -> None:
    fault.path, fault.times = "GET .*/jobs", -1
    rig.simulator.faults.plan(fault)
    with pytest.raises(error, match=words) as caught:
        await rig.poller.cycle()
    assert "sim-" not in str(caught.value)
    rig.simulator.faults.clear()
    await rig.poller.cycle()


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_an_id_that_is_refused_although_unknown_ones_are_to_be_left_out(rig: CdfRig, status: int) -> None:
    gone, stays = (rig.simulator.start_run("pumps", Scenario(runs_for=None)) for _ in range(2))
    await rig.poller.cycle()
    missing = [{"id": gone.id}]
    body = {"error": {"code": status, "message": "Ids not found", "missing": missing}}
    rig.simulator.remove(gone.id)
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="jobs/byids", times=1, status=status, body=body))
    pages = await rig.poller.cycle()
    assert pages[-1].missing == (str(gone.id),)
    assert [seen.key for seen in pages[0].observations] == [str(stays.id)]
    missing.append({"id": stays.id})
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="jobs/byids", times=1, status=status, body=body))
    pages = await rig.poller.cycle()
    assert pages[-1].missing == (str(gone.id),), "the list still shows the other"
    assert str(stays.id) in [seen.key for page in pages for seen in page.observations]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_burst_of_refusals_is_waited_out(rig: CdfRig, status: int) -> None:
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="jobs", times=3, status=status))
    before = rig.clock.monotonic()
    await rig.poller.cycle()
    assert rig.clock.monotonic() - before == pytest.approx(0.5 + 1.0 + 2.0)


async def test_a_wait_that_the_vendor_names_is_left_to_the_schedule(rig: CdfRig) -> None:
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="jobs", status=429, headers={"Retry-After": "17"}))
    with pytest.raises(Throttled) as caught:
        await rig.poller.cycle()
    assert caught.value.after == 17


async def test_a_server_that_is_not_there(rig: CdfRig) -> None:
    await rig.poller.cycle()
    await rig.served.__aexit__()
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1.*: no connection"):
        await rig.poller.cycle()


async def test_requests_keep_to_the_pace_that_was_set() -> None:
    async with cdf_rig(requests_per_minute=60, burst=2) as rig:
        before = rig.clock.monotonic()
        for _ in range(10):
            await rig.platform._api.jobs(1)
        assert rig.clock.monotonic() - before == pytest.approx(8)


# Trigger


async def test_a_trigger_starts_a_run_that_is_followed(rig: CdfRig) -> None:
    await rig.poller.cycle()
    seen = await rig.platform.trigger("pumps", {}, "t")
    assert (seen.state, seen.job.name) == (RunState.QUEUED, "transformation/pumps")
    rig.poller.adopt(seen)
    await rig.poller.follow(30)
    assert rig.poller.runs[seen.key].state is RunState.SUCCEEDED
    assert len(rig.poller.runs) == 1


async def test_a_trigger_takes_an_id_and_an_external_id_of_digits(rig: CdfRig) -> None:
    number = rig.simulator.transformation("pumps").id
    assert (await rig.platform.trigger(str(number), {}, "t")).job.key == str(number)
    rig.simulator.add_transformation("2026")
    assert (await rig.platform.trigger("2026", {}, "t")).job.name == "transformation/2026"


@pytest.mark.parametrize(
    ("fault", "runs"),
    [
        (Fault(FaultKind.LOST), 1),
        (Fault(FaultKind.TRUNCATED), 1),
        (Fault(FaultKind.RESET), 0),
        (Fault(FaultKind.STATUS, status=500), 0),
        (Fault(FaultKind.HTML), 0),
        (Fault(FaultKind.STATUS, status=200, body={"id": None}), 0),
    ],
)
async def test_a_trigger_whose_answer_was_lost_is_not_repeated(rig: CdfRig, fault: Fault, runs: int) -> None:
    await rig.poller.cycle()
    fault.path = "/run"
    rig.simulator.faults.plan(fault)
    with pytest.raises(TriggerError, match="is not known") as caught:
        await rig.platform.trigger("pumps", {}, "t")
    assert caught.value.doubtful
    assert len(rig.simulator.expected_runs()) == runs
    await rig.poller.cycle()
    assert len(rig.poller.runs) == runs


async def test_a_trigger_that_never_left_starts_nothing_for_sure(rig: CdfRig) -> None:
    nobody_there = await rig.platform_again(base_url="http://127.0.0.1:9")
    with pytest.raises(TriggerError, match="was not started") as caught:
        await nobody_there.trigger("pumps", {}, "t")
    assert not caught.value.doubtful


@pytest.mark.parametrize("status", [429, 401])
async def test_a_trigger_that_was_refused_for_the_moment_is_tried_again(rig: CdfRig, status: int) -> None:
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="/run", status=status))
    await rig.platform.trigger("pumps", {}, "t")
    assert len(rig.simulator.expected_runs()) == 1


@pytest.mark.parametrize(
    ("job", "parameters", "words"),
    [
        ("nobody", {}, "Transformation not found: nobody"),
        ("77", {}, "Transformation not found: 77"),
        ("running", {}, "already running"),
        ("pumps", {"a": "b"}, "takes no parameters"),
    ],
)
async def test_a_trigger_that_cannot_be(rig: CdfRig, job: str, parameters: dict[str, str], words: str) -> None:
    rig.simulator.add_transformation("running")
    rig.simulator.start_run("running", Scenario(runs_for=None))
    with pytest.raises(TriggerError, match=words) as caught:
        await rig.platform.trigger(job, parameters, "t")
    assert not caught.value.doubtful


@pytest.mark.parametrize("over", list(OverLimit))
async def test_a_trigger_over_the_limit_of_parallel_jobs(rig: CdfRig, over: OverLimit) -> None:
    rig.simulator.modes.concurrency_limit, rig.simulator.modes.over_limit = 0, over
    if over is OverLimit.REFUSE:
        with pytest.raises(TriggerError, match="Too many concurrent"):
            await rig.platform.trigger("pumps", {}, "t")
        return
    seen = await rig.platform.trigger("pumps", {}, "t")
    rig.poller.adopt(seen)
    await rig.poller.follow(10)
    assert rig.poller.runs[seen.key].state is RunState.FAILED


async def test_a_trigger_without_the_right_to(rig: CdfRig) -> None:
    rig.simulator.identity.capabilities = {READ}
    with pytest.raises(TriggerError, match="transformationsAcl:WRITE") as caught:
        await rig.platform.trigger("pumps", {}, "t")
    assert not caught.value.doubtful


# Watch


async def test_one_run_can_be_read_by_its_id(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps")
    seen = await rig.platform.watch(str(job.id), {})
    assert (seen.key, str(seen.run_id)) == (str(job.id), job.uuid)


@pytest.mark.parametrize("key", ["1", "abc", "", "-5", "9" * 30])
async def test_a_run_that_is_not_there(rig: CdfRig, key: str) -> None:
    with pytest.raises(NotFound, match=f"no job {key}"):
        await rig.platform.watch(key, {})


# Check


@pytest.mark.parametrize(
    ("status", "to_do"),
    [
        (400, "give the transformation's external id or its number"),
        (403, "transformationsAcl:WRITE"),
        (404, "check base_url and project"),
        (429, "wait a minute"),
    ],
)
async def test_a_refused_start_says_what_to_do(rig: CdfRig, status: int, to_do: str) -> None:
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="transformations/run", times=-1, status=status))
    with pytest.raises(TriggerError, match=rf"{status}.*{to_do}") as caught:
        await rig.platform.trigger("pumps", {}, "t")
    assert not caught.value.doubtful


async def test_check_of_what_works(rig: CdfRig) -> None:
    found = await rig.platform.check()
    assert [finding.ok for finding in found] == [True] * 5
    assert [finding.subject for finding in found][1:3] == ["transformationsAcl:READ", "transformationsAcl:WRITE"]


async def test_check_names_the_missing_capability() -> None:
    async with cdf_rig(workflows=True) as rig:
        rig.simulator.identity.capabilities = {WRITE}
        bad = {finding.subject: finding for finding in await rig.platform.check() if not finding.ok}
        assert set(bad) == {READ, WORKFLOWS, "list of jobs", "transformations", "workflow executions"}
        assert WORKFLOWS in str(bad[WORKFLOWS].remedy)
        assert WRITE not in bad


async def test_check_says_that_trigger_will_be_refused(rig: CdfRig) -> None:
    rig.simulator.identity.capabilities = {READ}
    found = {finding.subject: finding for finding in await rig.platform.check()}
    assert found[WRITE].ok
    assert "trigger will be refused" in found[WRITE].detail


async def test_check_of_a_wrong_secret(rig: CdfRig) -> None:
    rig.simulator.identity.client_secret = "another"
    [token, *_] = await rig.platform.check()
    assert not token.ok
    assert "Invalid client secret" in token.detail
    assert "client_secret" in str(token.remedy)


async def test_check_of_another_project() -> None:
    async with cdf_rig(project="plant-b") as rig:
        bad = {finding.subject: finding for finding in await rig.platform.check() if not finding.ok}
        assert "plant-a" in bad["project"].detail


async def test_check_without_token_inspection(rig: CdfRig) -> None:
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="inspect", times=-1, status=404))
    found = await rig.platform.check()
    assert found
    assert [finding for finding in found if not finding.ok] == []


@pytest.mark.parametrize(
    "inspection", [{}, {"projects": 5}, {"projects": [5, {}]}, {"projects": [], "capabilities": 7}]
)
async def test_check_of_an_odd_inspection(rig: CdfRig, inspection: Any) -> None:
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="inspect", status=200, body=inspection or {"a": 1}))
    assert any(finding.subject == "project" and not finding.ok for finding in await rig.platform.check())


async def test_check_of_a_dead_source(rig: CdfRig) -> None:
    await rig.served.__aexit__()
    found: list[Finding] = await rig.platform.check()
    assert not found[0].ok


async def _token(rig: CdfRig) -> dict[str, Any]:
    form = {"grant_type": "client_credentials", "client_id": "collector", "client_secret": SECRET}
    answer = await rig.platform._context.http.request("POST", f"{rig.served.url}/oauth2/token", data=form)
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(
    ("include", "exclude", "fits"),
    [
        (["tr_*"], [], True),
        (["transformation/*"], [], True),
        (["nothing-*"], [], False),
        (["*"], ["*"], False),
        ([], [], True),
    ],
)
async def test_include_that_fits_nothing_is_said(
    rig: CdfRig, include: list[str], exclude: list[str], fits: bool
) -> None:
    rig.simulator.add_transformation("tr_pumps")
    await rig.platform_again(include=include, exclude=exclude)
    found = [each for each in await rig.platform.check() if each.subject == "include"]
    assert [each.ok for each in found] == ([] if fits else [False])
    assert all("none of the" in each.detail and each.remedy for each in found)
