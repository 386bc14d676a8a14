"""A Dataprep deployment in one object: workspaces, tokens, switches, and its HTTP face."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import count
from typing import Any

from aiohttp import web

from collector.testing.faults import Faults
from simulators.dataprep import control
from simulators.dataprep.access import Quotas, Token, authenticate, check_media_types
from simulators.dataprep.answers import Refused, envelope, route_not_found, stringed
from simulators.dataprep.calls import Answer, Call
from simulators.dataprep.endpoints import find
from simulators.dataprep.scenarios import Scenario
from simulators.dataprep.seed_data import furnish
from simulators.dataprep.shapes import Moment
from simulators.dataprep.switches import FEATURES, Feature, Level, Switches
from simulators.dataprep.workspace import Run, Workspace

DEFAULT_TOKEN = "dataprep-token"  # noqa: S105 - a simulator's token, printed for its users
WORKSPACE_HEADER = "x-alteryx-workspace-gid"
STATES = {
    "Created": "queued",
    "Pending": "queued",
    "InProgress": "running",
    "Complete": "succeeded",
    "Failed": "failed",
    "Canceled": "canceled",
}


def utc_now() -> datetime:
    return datetime.now(UTC)


class DataprepSimulator:
    """The v4 API of one deployment. Scenarios unfold against `now`, so a test moves time by moving `now`.

    The header x-alteryx-workspace-gid chooses one of `workspaces`, by default the first; ids repeat across
    them. `features` wins over what `level` has. Change `switches`, `tokens` and `features` at any time.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        now: Callable[[], datetime] = utc_now,
        level: Level = Level.L2,
        features: Iterable[Feature] | None = None,
        switches: Switches | None = None,
        workspaces: Iterable[str] = ("1",),
        flows: int = 3,
    ) -> None:
        self.now = now
        self.features = frozenset(features) if features is not None else FEATURES[level]
        self.switches = switches or Switches()
        self.workspaces = {gid: Workspace(gid, seed, now) for gid in workspaces}
        for workspace in self.workspaces.values():
            furnish(workspace, flows)
        self.tokens: dict[str, Token] = {DEFAULT_TOKEN: Token()}
        self.quotas = Quotas()
        self.faults = Faults()
        self._request_ids = count(1)

    @property
    def workspace(self) -> Workspace:
        """The default workspace."""
        return next(iter(self.workspaces.values()))

    def start_run(self, scenario: str | Scenario | None = None, recipe: int | None = None, **how: Any) -> Run:
        """A run in the default workspace; see Workspace.start."""
        return self.workspace.start(recipe, scenario, **how)

    def set_level(self, level: Level) -> None:
        self.features = FEATURES[level]

    def error_body(self, status: int) -> Any:
        return envelope(status, "An error made on purpose", form=self.switches.details)

    def expected_runs(self) -> list[dict[str, Any]]:
        return [
            self._expected_run(workspace, run)
            for workspace in self.workspaces.values()
            for run in workspace.runs.values()
        ]

    def _expected_run(self, workspace: Workspace, run: Run) -> dict[str, Any]:
        """`state` is `unknown` for a run that was deleted before its end."""
        now = min(self.now(), run.deleted_at or self.now())
        recipe = workspace.recipes[run.recipe]
        ended = run.ended()
        over = ended is not None and ended.at <= now
        seen = run.group.at(now)
        raw = ended.status if over and ended is not None else seen.status if seen else None
        gone = run.is_deleted(now) and not over
        stages = [stage for stage in Moment(workspace, self.switches, now).stages(run) if not stage.plan.late]
        times = [change.at for stage in stages if (change := stage.timeline.at(now)) is not None]
        started = min((stage.created_at for stage in stages), default=None)
        end = max(times, default=None) if times else ended.at if ended is not None else None
        return {
            "key": str(run.id),
            "workspace": workspace.gid,
            "job": f"{workspace.flows[recipe.flow].name}.{recipe.name}",
            "recipe": recipe.id,
            "ranfor": run.ranfor,
            "state": "unknown" if gone else STATES.get(str(raw), "unknown"),
            "raw_state": raw,
            "deleted": run.is_deleted(self.now()),
            "created_at": run.created_at.isoformat(),
            "started_at": started.isoformat() if started is not None else None,
            "ended_at": end.isoformat() if over and end is not None else None,
        }

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/{path:(?!_control/).*}", self._serve)]

    def control_routes(self) -> list[web.RouteDef]:
        return control.routes(self)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            answer = await self._answer(request)
        except Refused as refused:
            body = envelope(refused.status, refused.details, form=self.switches.details, name=refused.name)
            answer = Answer(body, refused.status, refused.headers)
        headers = {**answer.headers, "x-trifacta-request-id": f"simulated-{next(self._request_ids):08}"}
        if answer.status in {204, 304}:
            return web.Response(status=answer.status, headers=headers)
        body = stringed(answer.body) if self.switches.string_ids else answer.body
        return web.json_response(body, status=answer.status, headers=headers)

    async def _answer(self, request: web.Request) -> Answer:
        now, switches = self.now(), self.switches
        token = authenticate(request, self.tokens, now, switches)
        check_media_types(request)
        path = request.path.removeprefix("/v4/")
        found = find(request.method, path, self.features, case_sensitive=switches.case_sensitive)
        if found is None or not request.path.startswith("/v4/"):
            raise route_not_found(switches, request.path)
        endpoint, values = found
        workspace = self._workspace(request)
        quota: dict[str, str] = {}
        if endpoint.quota:
            quota = self.quotas.take(endpoint.name, str(token.user), workspace.gid, now, switches)
        elif request.method == "GET":
            self.quotas.take_read(str(token.user), now, switches)
        call = Call(
            moment=Moment(workspace, switches, now),
            token=token,
            features=self.features,
            path=values,
            query=request.query,
            repeated=lambda name: list(request.query.getall(name, [])),
            headers=request.headers,
            body=await _body(request),
            quota=quota,
        )
        return endpoint.answer(call)

    def _workspace(self, request: web.Request) -> Workspace:
        wanted = request.headers.get(WORKSPACE_HEADER)
        if wanted is None:
            return self.workspace
        if wanted not in self.workspaces:
            raise Refused(403, f"No access to workspace {wanted}")
        return self.workspaces[wanted]


async def _body(request: web.Request) -> Any:
    text = await request.text()
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise Refused(400, f"The body is not JSON: {error}") from None
