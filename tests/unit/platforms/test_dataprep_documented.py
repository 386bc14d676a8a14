"""The adapter against answers written down by hand from the vendor's pages, and against those that the pages leave open."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from collector.errors import BadAnswer, TriggerError
from collector.http import HttpClient, HttpOptions
from collector.model import EventKind, RunState, SkipKind
from collector.platforms.base import Context
from collector.platforms.dataprep import create
from collector.platforms.dataprep.levels import Level
from collector.testing.clock import START, SimulatedClock
from collector.testing.poller import SimulatedPoller
from tests.dataprep_rig import source

Answer = Callable[[web.Request], web.Response]


def said(value: Any, status: int = 200) -> Answer:
    return lambda _: web.json_response(value, status=status)


def page(status: int) -> Answer:
    """Not the platform's envelope: what a web server says by itself."""
    return lambda _: web.Response(status=status, text=f"<html>{status}</html>", content_type="text/html")


def refused(status: int, name: str, details: str) -> Answer:
    return said({"exception": {"name": name, "message": "Input validation failed", "details": details}}, status)


def group(number: Any = 9, status: str | None = "Complete", *, minutes: int = -10, **more: Any) -> dict[str, Any]:
    """As in the documentation of "Get job group", with what the library shows beside it."""
    created = START + timedelta(minutes=minutes)
    return {
        "name": "string",
        "description": "string",
        "ranfrom": "api",
        "ranfor": "recipe",
        "status": status,
        "profilingEnabled": True,
        "runParameterReferenceDate": created.isoformat().replace("+00:00", "Z"),
        "snapshot": {"id": 1},
        "wrangledDataset": {"id": 7},
        "flowrun": None,
        "id": number,
        "createdAt": created.isoformat().replace("+00:00", "Z"),
        "updatedAt": (created + timedelta(minutes=5)).isoformat().replace("+00:00", "Z"),
        "creator": {"id": 1, "email": "planted@example.com", "name": "Planted Person"},
        "updater": {"id": 1},
        **more,
    }


def stage(number: int = 21, status: str = "Complete", *, minutes: int = -10) -> dict[str, Any]:
    created = START + timedelta(minutes=minutes, seconds=1)
    return {
        "id": number,
        "status": status,
        "jobType": "wrangle",
        "sampleSize": 100,
        "percentComplete": 100,
        "jobGroup": {"id": 9},
        "errorMessage": None,
        "createdAt": created.isoformat().replace("+00:00", "Z"),
        "updatedAt": (created + timedelta(minutes=4)).isoformat().replace("+00:00", "Z"),
        "executionLanguage": "photon",
        "cpJobId": None,
    }


@dataclass
class Deployment:
    """Answers by "METHOD path"; whatever is not put answers as `absent`."""

    answers: dict[str, Answer] = field(default_factory=dict)
    absent: Answer = field(default_factory=lambda: refused(404, "RouteNotFoundException", "no such route"))
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        name = f"{request.method} {request.path.removeprefix('/v4/')}"
        self.asked.append(name)
        return self.answers.get(name, self.absent)(request)

    def standard(self) -> None:
        """The paths that the documentation of Dataprep Standard names, with one run."""
        self.answers |= {
            "GET open-api-spec": said({}),
            "GET outputObjects/count": said({"count": 0}),
            "GET outputObjects": said({"data": [], "count": 0}),
            "GET jobGroups/9": said(group()),
            "GET jobGroups/9/status": said("Complete"),
            "GET jobGroups/9/jobs": said({"data": [stage()], "count": 1}),
        }


@dataclass
class Rig:
    deployment: Deployment
    clock: SimulatedClock
    poller: SimulatedPoller


@asynccontextmanager
async def rigged(**changed: Any) -> AsyncIterator[Rig]:
    deployment, clock = Deployment(), SimulatedClock()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", deployment.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config, http = source(f"http://127.0.0.1:{runner.addresses[0][1]}", **changed), HttpClient(HttpOptions())
    poller = SimulatedPoller(create(config, Context("prep", config.job_namespace, http, clock, lambda: 0.5)), clock)
    try:
        yield Rig(deployment, clock, poller)
    finally:
        await http.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    "absent",
    [
        refused(404, "RouteNotFoundException", "no such route"),
        said({"exception": {"name": "RouteNotFoundException", "message": "x", "details": {"path": "x"}}}, 404),
        refused(400, "ApiValidationFailed", "unknown path"),
        refused(403, "AccessControlException", "not in your edition"),
        said({"message": "Not Found"}, 404),
        said({}, 404),
        page(404),
        page(403),
        lambda _: web.Response(status=404),
    ],
)
async def test_whatever_a_path_answers_that_is_not_there_the_standard_edition_is_watched(absent: Answer) -> None:
    async with rigged() as rig:
        rig.deployment.standard()
        rig.deployment.absent = absent
        await rig.poller.cycle()
        rig.poller.adopt(await rig.poller.platform.watch("9", {}))
        await rig.poller.cycle()
        assert rig.poller.kinds("9") == [EventKind.START, EventKind.COMPLETE]
        assert "lanted" not in repr((rig.poller.runs, rig.poller.events, rig.poller.cursor))


@pytest.mark.parametrize("absent", [page(404), page(403), lambda _: web.Response(status=404)])
async def test_where_nothing_answers_as_the_platform_does_the_address_is_wrong(absent: Answer) -> None:
    async with rigged() as rig:
        rig.deployment.absent = absent
        with pytest.raises(BadAnswer, match="base_url"):
            await rig.poller.cycle()
        [finding] = await rig.poller.platform.check()
        assert not finding.ok


async def test_a_list_that_is_there_no_more_is_looked_for_at_once() -> None:
    async with rigged() as rig:
        library(rig, group())
        await rig.poller.cycle()
        del rig.deployment.answers["GET jobLibrary"]
        rig.deployment.absent = page(404)
        rig.clock.advance(30)
        await rig.poller.cycle()
        assert rig.poller.platform._deployment.known_level is Level.L0  # type: ignore[attr-defined]
        library(rig, group(), group(10, minutes=1))
        rig.clock.advance(600)
        await rig.poller.cycle()
        assert "10" in rig.poller.runs, "what may have been a moment's trouble costs no day"


async def test_a_document_may_call_its_parameters_what_it_likes() -> None:
    async with rigged() as rig:
        library(rig, group())
        paths = ("/v4/jobLibrary", "/v4/jobGroups/{jobGroupId}/outputs")
        rig.deployment.answers |= {
            "GET open-api-spec": said({"paths": {path: {"get": {}} for path in paths}}),
            "GET jobGroups/9/outputs": said({"files": [{"uri": "gs://b/o.csv"}], "tables": []}),
        }
        await rig.poller.cycle()
        assert [it.name for it in rig.poller.runs["9"].facts.outputs or ()] == ["o.csv"]


@pytest.mark.parametrize(
    ("answer", "is_gone"),
    [
        (refused(410, "ResourceGone", "deleted"), True),
        (refused(404, "ResourceNotFound", "no"), True),
        (refused(400, "ValidationFailed", "The job group does not exist"), True),
        (page(410), True),
        (page(404), True),
        (lambda _: web.Response(status=410), True),
        (refused(400, "ValidationFailed", "No association x! Valid associations are creator, deletedBy"), False),
        (page(502), False),
        (refused(500, "IOException", "not found"), False),
    ],
)
async def test_what_says_that_a_run_is_gone(answer: Answer, *, is_gone: bool) -> None:
    async with rigged() as rig:
        rig.deployment.standard()
        rig.deployment.answers |= {
            "GET jobGroups/9": said(group(status="Created")),
            "GET jobGroups/9/status": said("Created"),
            "GET jobGroups/8": said(group(8, status="Created")),
            "GET jobGroups/8/status": said("Created"),
            "GET jobGroups/8/jobs": said({"data": []}),
        }
        for key in ("8", "9"):
            rig.poller.adopt(await rig.poller.platform.watch(key, {}))
        rig.deployment.answers["GET jobGroups/9/status"] = answer
        for _ in range(4):
            rig.clock.advance(60)
            await rig.poller.cycle()
        assert rig.poller.runs["9"].open is not is_gone
        assert rig.poller.runs["8"].open


async def test_associations_with_odd_names_are_no_sign_that_a_run_is_gone() -> None:
    """The refusal of an embed lists all associations, whatever their names."""
    async with rigged() as rig:
        rig.deployment.standard()
        whole = group(status="InProgress") | {"jobs": {"data": [stage(status="InProgress")]}}

        def one(request: web.Request) -> web.Response:
            if set(request.query.get("embed", "").split(",")) <= {"jobs", "wrangledDataset"}:
                return web.json_response(whole)
            text = "No association flow in wrangleddatasets! Valid associations are deletedItems, notFoundErrors"
            return refused(400, "ValidationFailed", text)(request)

        rig.deployment.answers["GET jobGroups/9"] = one
        seen = await rig.poller.platform.watch("9", {})
        assert seen.state is RunState.RUNNING


@pytest.mark.parametrize("status", [400, 422])
async def test_an_embed_that_is_refused_in_other_words_is_left_out(status: int) -> None:
    async with rigged() as rig:
        rig.deployment.standard()
        whole = group(status="InProgress") | {"jobs": {"data": [stage(status="InProgress")]}}
        asked: list[str] = []

        def one(request: web.Request) -> web.Response:
            asked.append(request.query.get("embed", ""))
            if asked[-1] == "jobs,wrangledDataset":
                return web.json_response(whole)
            return refused(status, "ApiValidationFailed", "embed must be one of jobs, wrangledDataset")(request)

        rig.deployment.answers["GET jobGroups/9"] = one
        seen = await rig.poller.platform.watch("9", {})
        assert seen.state is RunState.RUNNING
        rig.deployment.answers["GET jobGroups/9"] = refused(400, "ApiValidationFailed", "the id is of another kind")
        with pytest.raises(BadAnswer, match="of another kind"):
            await rig.poller.platform.watch("9", {})
        assert asked == ["jobs.errorMessage,wrangledDataset.flow", "jobs,wrangledDataset"]


@pytest.mark.parametrize("body", ['"Complete"', ' "Complete"\n'])
async def test_a_status_is_a_bare_string(body: str) -> None:
    async with rigged() as rig:
        rig.deployment.standard()
        rig.deployment.answers |= {
            "GET jobGroups/9": said(group(status="Created")),
            "GET jobGroups/9/status": said("Created"),
        }
        rig.poller.adopt(await rig.poller.platform.watch("9", {}))
        rig.deployment.answers |= {"GET jobGroups/9/status": lambda _: web.Response(text=body)}
        rig.deployment.answers |= {"GET jobGroups/9": said(group())}
        rig.clock.advance(60)
        await rig.poller.cycle()
        assert rig.poller.kinds("9") == [EventKind.OTHER, EventKind.START, EventKind.COMPLETE]


def library(rig: Rig, *rows: dict[str, Any]) -> None:
    """A deployment that has jobLibrary; all rows for every query, as long as they are asked for from the beginning."""

    def listed(request: web.Request) -> web.Response:
        since = int(request.query.get("dateFilter[updatedAt][gte]", 0))
        shown = [row for row in rows if _ms(row["updatedAt"]) >= since]
        if status := request.query.get("status"):
            shown = [row for row in shown if row["status"] == status]
        shown = sorted(shown, key=lambda row: str(row["updatedAt"]))
        first = int(request.query.get("offset", 0))
        return web.json_response({"data": shown[first:], "count": len(shown)})

    rig.deployment.standard()
    rig.deployment.answers["GET jobLibrary"] = listed
    for row in rows:
        rig.deployment.answers[f"GET jobGroups/{row['id']}"] = said(row | {"jobs": {"data": []}})


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


async def test_an_old_run_that_somebody_renames_is_no_news() -> None:
    """Every edit moves a run's updatedAt, and the ledger does not remember runs for ever."""
    async with rigged() as rig:
        renamed = group(5, minutes=-60 * 24 * 30, updatedAt="2026-11-21T09:14:00Z")
        library(rig, renamed, group(6))
        await rig.poller.cycle()
        assert list(rig.poller.runs) == ["6"]
        assert [(skip.kind, skip.subject) for skip in rig.poller.skips] == [(SkipKind.FILTERED, "job group 5")]
        for _ in range(20):
            rig.clock.advance(86_400)
            await rig.poller.cycle()
        library(rig, renamed | {"updatedAt": "2026-12-11T09:10:00Z"}, group(6, updatedAt="2026-12-11T09:11:00Z"))
        rig.poller.runs.clear()
        await rig.poller.cycle()
        assert rig.poller.runs == {}


async def test_a_run_that_is_opened_again_is_noted_once() -> None:
    async with rigged() as rig:
        library(rig, group())
        await rig.poller.cycle()
        library(rig, group(status="InProgress", updatedAt="2026-11-21T09:15:00Z"))
        for _ in range(5):
            rig.clock.advance(30)
            await rig.poller.cycle()
        assert [skip.kind for skip in rig.poller.skips] == [SkipKind.LATE]
        assert rig.poller.kinds("9") == [EventKind.START, EventKind.COMPLETE]


async def test_a_run_that_we_started_before_is_not_taken_for_the_one_that_exists_already() -> None:
    async with rigged() as rig:
        library(rig, group(9, "InProgress", minutes=0, createdAt="2026-11-21T09:15:00Z"))
        answers = iter([{"id": "9", "reason": "JobStarted"}, None])

        def started(request: web.Request) -> web.Response:
            body = next(answers)
            return web.json_response(body, status=201) if body else web.Response(status=304)

        rig.deployment.answers["POST jobGroups"] = started
        assert (await rig.poller.platform.trigger("7", {}, "one")).key == "9"
        with pytest.raises(TriggerError, match="no list shows it") as doubt:
            await rig.poller.platform.trigger("7", {}, "two")
        assert doubt.value.doubtful
