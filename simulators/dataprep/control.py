"""The routes under /_control that start runs and steer them."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Protocol

from aiohttp import web

from simulators.dataprep.access import Token
from simulators.dataprep.scenarios import SCENARIOS
from simulators.dataprep.switches import FEATURES, Feature, Level, Switches
from simulators.dataprep.workspace import Run, Workspace

RUN_WORDS = frozenset(
    {
        "pace",
        "overrides",
        "ranfrom",
        "ranfor",
        "flow_run",
        "owner",
        "lag",
        "hidden",
        "name",
        "execution_id",
        "parameters",
    }
)


class Steered(Protocol):
    """What the control routes need of a simulator."""

    switches: Switches
    features: frozenset[Feature]
    workspaces: dict[str, Workspace]
    tokens: dict[str, Token]

    @property
    def workspace(self) -> Workspace: ...


def routes(simulator: Steered) -> list[web.RouteDef]:
    """POST /_control/runs {scenario, recipe, count, workspace, at, ...}; PUT /_control/runs/{id}/state {status};
    POST /_control/runs/{id}/{cancel|delete|hide|rename}; GET and PATCH /_control/switches; PUT /_control/level {level};
    PUT /_control/tokens/{token} {user, expires_at}; DELETE /_control/tokens/{token}; GET /_control/scenarios.
    """
    steering = _Steering(simulator)
    return [
        web.get("/_control/scenarios", _answered(steering.scenarios)),
        web.post("/_control/runs", _answered(steering.start)),
        web.put("/_control/runs/{id}/state", _answered(steering.set_state)),
        web.post("/_control/runs/{id}/{what:cancel|delete|hide|rename}", _answered(steering.steer)),
        web.get("/_control/switches", _answered(steering.get_switches)),
        web.patch("/_control/switches", _answered(steering.set_switches)),
        web.put("/_control/level", _answered(steering.set_level)),
        web.put("/_control/tokens/{token}", _answered(steering.add_token)),
        web.delete("/_control/tokens/{token}", _answered(steering.remove_token)),
    ]


def _answered(handle: Callable[[web.Request, dict[str, Any]], Any]) -> Any:
    """A handler of JSON; a mistake of the caller is a 400 with its text."""

    async def handler(request: web.Request) -> web.Response:
        body = await request.json() if request.body_exists else {}
        try:
            return web.json_response(handle(request, body))
        except (KeyError, ValueError, TypeError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

    return handler


class _Steering:
    def __init__(self, simulator: Steered) -> None:
        self.simulator = simulator

    def scenarios(self, _: web.Request, __: dict[str, Any]) -> Any:
        return {"scenarios": sorted(SCENARIOS)}

    def start(self, _: web.Request, body: dict[str, Any]) -> Any:
        workspace = self.simulator.workspaces[body["workspace"]] if "workspace" in body else self.simulator.workspace
        how: dict[str, Any] = {key: value for key, value in body.items() if key in RUN_WORDS}
        if "at" in body:
            how["at"] = datetime.fromisoformat(body["at"])
        runs = [
            workspace.start(body.get("recipe"), body.get("scenario"), **how) for _ in range(int(body.get("count", 1)))
        ]
        return {"runs": [{"id": run.id, "recipe": run.recipe} for run in runs]}

    def set_state(self, request: web.Request, body: dict[str, Any]) -> Any:
        workspace, run = self._run(request)
        workspace.set_state(run, body["status"])
        return {"id": run.id, "status": body["status"]}

    def steer(self, request: web.Request, body: dict[str, Any]) -> Any:
        workspace, run = self._run(request)
        what = request.match_info["what"]
        if what == "cancel":
            return {"id": run.id, "canceled": workspace.cancel(run)}
        if what == "delete":
            workspace.delete(run)
        elif what == "hide":
            run.hidden = bool(body.get("hidden", True))
        else:
            workspace.rename(run, str(body["name"]))
        return {"id": run.id}

    def _run(self, request: web.Request) -> tuple[Workspace, Run]:
        gid = request.query.get("workspace")
        workspace = self.simulator.workspaces[gid] if gid else self.simulator.workspace
        return workspace, workspace.runs[int(request.match_info["id"])]

    def get_switches(self, _: web.Request, __: dict[str, Any]) -> Any:
        return asdict(self.simulator.switches)

    def set_switches(self, _: web.Request, body: dict[str, Any]) -> Any:
        self.simulator.switches = self.simulator.switches.changed(body)
        return asdict(self.simulator.switches)

    def set_level(self, _: web.Request, body: dict[str, Any]) -> Any:
        self.simulator.features = FEATURES[Level(body["level"])]
        return {"features": sorted(self.simulator.features)}

    def add_token(self, request: web.Request, body: dict[str, Any]) -> Any:
        expires = datetime.fromisoformat(body["expires_at"]) if body.get("expires_at") else None
        self.simulator.tokens[request.match_info["token"]] = Token(int(body.get("user", 1)), expires)
        return {"tokens": len(self.simulator.tokens)}

    def remove_token(self, request: web.Request, _: dict[str, Any]) -> Any:
        self.simulator.tokens.pop(request.match_info["token"], None)
        return {"tokens": len(self.simulator.tokens)}
