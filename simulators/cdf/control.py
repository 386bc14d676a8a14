"""Steering a simulated CDF project over HTTP, under `/_control`.

    POST   /_control/transformations              {"external_id": ..., "destination": {...}, "query": ..., ...}
    PATCH  /_control/transformations/{which}      fields to change; "scenario" is how all its next runs go
    DELETE /_control/transformations/{which}
    POST   /_control/runs                         {"transformation": which, "scenario": {...}, "seconds_ago": 0}
    PUT    /_control/runs/{id}/state              {"status": "Running", "error": null, "extra": {...}}
    DELETE /_control/runs/{id}
    POST   /_control/workflows                    {"external_id": ..., "tasks": [{"transformation": ..., "scenario": {}}]}
    DELETE /_control/workflows/{id}               terminates the execution
    PATCH  /_control/modes                        switches of `Modes`
    PATCH  /_control/identity                     client_secret, scope, audience, lifetime, capabilities
    DELETE /_control/tokens                       revokes all tokens

`{which}` is a transformation's id or external id. Mistakes are answered with 400 and words.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from simulators.cdf.entities import Transformation
from simulators.cdf.project import Project, Which
from simulators.cdf.scenarios import Scenario, varied_scenario

Steer = Callable[[Project, web.Request], Awaitable[Any]]


def control_routes(project: Project) -> list[web.RouteDef]:
    steps: list[tuple[str, str, int, Steer]] = [
        ("POST", "/transformations", 201, _add_transformation),
        ("PATCH", "/transformations/{which}", 200, _change_transformation),
        ("DELETE", "/transformations/{which}", 200, _remove_transformation),
        ("POST", "/runs", 201, _start_run),
        ("PUT", "/runs/{id}/state", 200, _set_state),
        ("DELETE", "/runs/{id}", 200, _remove_run),
        ("POST", "/workflows", 201, _start_workflow),
        ("DELETE", "/workflows/{id}", 200, _terminate_workflow),
        ("PATCH", "/modes", 200, _change_modes),
        ("PATCH", "/identity", 200, _change_identity),
        ("DELETE", "/tokens", 200, _revoke_tokens),
    ]
    return [web.route(method, "/_control" + path, _handler(project, status, do)) for method, path, status, do in steps]


def _handler(project: Project, status: int, do: Steer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await do(project, request), status=status)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

    return handle


async def _add_transformation(project: Project, request: web.Request) -> Any:
    return _definition(project, project.add_transformation(**_with_scenario(await request.json())))


async def _change_transformation(project: Project, request: web.Request) -> Any:
    which, changes = _which(request), _with_scenario(await request.json())
    return _definition(project, project.change_transformation(which, **changes))


async def _remove_transformation(project: Project, request: web.Request) -> Any:
    project.remove_transformation(_which(request))


async def _start_run(project: Project, request: web.Request) -> Any:
    body = await request.json()
    at = datetime.fromtimestamp(project.now_ms() / 1000, UTC) - timedelta(seconds=body.get("seconds_ago", 0))
    job = project.start_run(body["transformation"], _scenario(project, body.get("scenario")), at=at)
    return job.json(project.now_ms(), project.modes)


async def _set_state(project: Project, request: web.Request) -> Any:
    job = project.set_state(int(request.match_info["id"]), **await request.json())
    return job.json(project.now_ms(), project.modes)


async def _remove_run(project: Project, request: web.Request) -> Any:
    project.remove(int(request.match_info["id"]))


async def _start_workflow(project: Project, request: web.Request) -> Any:
    body = await request.json()
    tasks = [(task["transformation"], _scenario(project, task.get("scenario"))) for task in body["tasks"]]
    return project.start_workflow(body["external_id"], tasks).detailed_json(project.now_ms())


async def _terminate_workflow(project: Project, request: web.Request) -> Any:
    project.terminate_workflow(request.match_info["id"])


async def _change_modes(project: Project, request: web.Request) -> Any:
    project.modes.change(await request.json())


async def _change_identity(project: Project, request: web.Request) -> Any:
    for name, value in (await request.json()).items():
        setattr(project.identity, name, set(value) if name == "capabilities" else value)


async def _revoke_tokens(project: Project, _: web.Request) -> Any:
    project.identity.revoke()


def _definition(project: Project, made: Transformation) -> dict[str, Any]:
    return made.json(project.modes, project.identity.client_id)


def _which(request: web.Request) -> Which:
    text = request.match_info["which"]
    return int(text) if text.isdecimal() else text


def _scenario(project: Project, given: Any) -> Scenario | None:
    """A scenario as JSON; "varied" picks one at random from the seed."""
    if given == "varied":
        return varied_scenario(project.random)
    return None if given is None else Scenario.from_json(given)


def _with_scenario(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"scenario": Scenario.from_json(fields["scenario"])} if "scenario" in fields else fields
