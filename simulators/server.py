"""One simulator on a loopback port, with the control routes that every simulator has."""

from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Protocol, Self

from aiohttp import web

from collector.testing.faults import Fault, Faults


class Simulator(Protocol):
    """What the server needs of a simulator.

    `routes` are the vendor's; `control_routes` steer it and live under `/_control`. `expected_runs` lists every run as the
    simulator knows it, whatever a client saw: dicts with at least `key`, `job`, `state` (our seven words),
    `raw_state`, `created_at`, `started_at`, `ended_at` (ISO 8601 or None). `now` is its clock, in UTC, which every
    answer names in `Date`.
    """

    faults: Faults

    def routes(self) -> list[web.RouteDef]: ...
    def control_routes(self) -> list[web.RouteDef]: ...
    def error_body(self, status: int) -> Any: ...
    def expected_runs(self) -> list[dict[str, Any]]: ...
    def now(self) -> datetime: ...


def application(simulator: Simulator) -> web.Application:
    """The vendor's routes, plus `/_control/{faults,expected,requests}` and the simulator's own control routes."""
    seen: dict[str, int] = {}

    @web.middleware
    async def count(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        if not request.path.startswith("/_control"):
            key = f"{request.method} {request.path}"
            seen[key] = seen.get(key, 0) + 1
        answer: web.StreamResponse = await handler(request)
        return answer

    async def plan(request: web.Request) -> web.Response:
        simulator.faults.plan(Fault.from_json(await request.json()))
        return web.json_response({"planned": len(simulator.faults.planned)}, status=201)

    async def clear(_: web.Request) -> web.Response:
        simulator.faults.clear()
        return web.Response(status=204)

    async def expected(_: web.Request) -> web.Response:
        return web.json_response({"runs": simulator.expected_runs()})

    async def requests(_: web.Request) -> web.Response:
        return web.json_response({"requests": seen, "total": sum(seen.values())})

    async def dated(_: web.Request, answer: web.StreamResponse) -> None:
        answer.headers["Date"] = format_datetime(simulator.now(), usegmt=True)

    app = web.Application(
        middlewares=[count, simulator.faults.middleware(simulator.error_body)], client_max_size=64 * 1024 * 1024
    )
    app.on_response_prepare.append(dated)
    app.add_routes(simulator.routes())
    app.add_routes(simulator.control_routes())
    app.add_routes(
        [
            web.post("/_control/faults", plan),
            web.delete("/_control/faults", clear),
            web.get("/_control/expected", expected),
            web.get("/_control/requests", requests),
        ]
    )
    return app


class Served:
    """A simulator that listens while the `async with` lasts; `url` has no trailing slash."""

    def __init__(self, simulator: Simulator, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.simulator = simulator
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(application(self.simulator), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"
