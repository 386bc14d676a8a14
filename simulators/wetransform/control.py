"""The control routes of the wetransform simulator: what a test in the same process does, over HTTP."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Protocol

from aiohttp import web

from simulators.wetransform.scenarios import Plan
from simulators.wetransform.state import Account, Run, State, Transformation, expected_run, plan_from_json
from simulators.wetransform.webhooks import Webhook


class Controlled(Protocol):
    """What the control routes need of a simulator."""

    state: State
    account: Account
    webhooks: list[Webhook]

    def set_step(self, run: Run, step: str | None, *, details: str | None = None) -> None: ...
    def next_starts(self, plans: Sequence[Plan]) -> None: ...
    async def deliver_webhooks(self) -> list[int]: ...


class Control:
    """All bodies are JSON objects; an unknown id is 404, an unknown name or value 400.

    - `GET /_control/transformations`; `POST` makes one (`customer`, `name`, `template_handle`, `is_dynamic`, ...).
    - `DELETE /_control/transformations/{id}` puts it in the trash.
    - `POST /_control/runs` starts one: `transformation_id`, `started_by`, `scenario`, `duration_seconds`, `at_step`.
    - `PUT /_control/runs/{id}/step`: `step` (or null), `details`. `POST /_control/runs/{id}/resume`: `duration_seconds`.
    - `PUT /_control/scenarios`: `next` (plans of the next starts over the API), `default`.
    - `PATCH /_control/behaviour`: the switches of `Behaviour`.
    - `PUT /_control/webhook`: the fields of `Webhook`. `POST /_control/webhook` sends what is due.
    """

    def __init__(self, simulator: Controlled) -> None:
        self._simulator = simulator
        self._state = simulator.state

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_control/transformations", self._transformations),
            web.post("/_control/transformations", self._add_transformation),
            web.delete("/_control/transformations/{id}", self._trash),
            web.post("/_control/runs", self._start),
            web.put("/_control/runs/{id}/step", self._set_step),
            web.post("/_control/runs/{id}/resume", self._resume),
            web.put("/_control/scenarios", self._scenarios),
            web.patch("/_control/behaviour", self._behaviour),
            web.put("/_control/webhook", self._set_webhook),
            web.post("/_control/webhook", self._deliver),
        ]

    async def _transformations(self, _: web.Request) -> web.Response:
        return web.json_response({"transformations": [_shown(it) for it in self._state.transformations.values()]})

    async def _add_transformation(self, request: web.Request) -> web.Response:
        try:
            made = self._state.add_transformation(self._simulator.account, **await request.json())
        except TypeError as mistake:
            raise web.HTTPBadRequest(text=str(mistake)) from None
        return web.json_response(_shown(made), status=201)

    async def _trash(self, request: web.Request) -> web.Response:
        it = self._transformation(request.match_info["id"])
        it.deleted_at = self._state.now()
        return web.json_response(_shown(it))

    async def _start(self, request: web.Request) -> web.Response:
        wish = await request.json()
        it = self._transformation(wish.get("transformation_id", ""))
        try:
            plan = plan_from_json(wish)
        except ValueError as mistake:
            raise web.HTTPBadRequest(text=str(mistake)) from None
        run = self._state.start(it, plan, started_by=wish.get("started_by", "schedule"))
        return web.json_response(expected_run(run, self._state.now()), status=201)

    async def _set_step(self, request: web.Request) -> web.Response:
        run, wish = self._run(request), await request.json()
        self._simulator.set_step(run, wish["step"], details=wish.get("details"))
        return web.json_response(expected_run(run, self._state.now()))

    async def _resume(self, request: web.Request) -> web.Response:
        run, wish = self._run(request), await request.json()
        self._state.resume(run, duration=timedelta(seconds=wish.get("duration_seconds", 5.0)))
        return web.json_response(expected_run(run, self._state.now()))

    async def _scenarios(self, request: web.Request) -> web.Response:
        wish: dict[str, Any] = await request.json()
        try:
            self._simulator.next_starts([plan_from_json(plan) for plan in wish.get("next", [])])
            if "default" in wish:
                self._state.default_plan = plan_from_json(wish["default"])
        except ValueError as mistake:
            raise web.HTTPBadRequest(text=str(mistake)) from None
        return web.json_response({"planned": len(self._state.next_plans)})

    async def _behaviour(self, request: web.Request) -> web.Response:
        try:
            self._state.behaviour.change(await request.json())
        except KeyError as mistake:
            raise web.HTTPBadRequest(text=f"no such switch: {mistake}") from None
        return web.json_response(asdict(self._state.behaviour))

    async def _set_webhook(self, request: web.Request) -> web.Response:
        self._simulator.webhooks[:] = [Webhook(**await request.json())]
        return web.Response(status=204)

    async def _deliver(self, _: web.Request) -> web.Response:
        return web.json_response({"statuses": await self._simulator.deliver_webhooks()})

    def _transformation(self, key: str) -> Transformation:
        try:
            return self._state.transformations[key]
        except KeyError:
            raise web.HTTPNotFound(text=f"no transformation {key}") from None

    def _run(self, request: web.Request) -> Run:
        try:
            return self._state.runs[request.match_info["id"]]
        except KeyError:
            raise web.HTTPNotFound(text=f"no run {request.match_info['id']}") from None


def _shown(it: Transformation) -> dict[str, Any]:
    return {
        "transformation_id": it.key,
        "customer": it.customer,
        "source_name": it.source_name,
        "template_handle": it.template_handle,
        "is_dynamic": it.is_dynamic,
        "is_trashed": it.deleted_at is not None,
    }
