"""Marquez 0.51 over HTTP: which path is what, and in which of its many forms an error comes."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from collector.testing.faults import Faults
from simulators.marquez import answers, names, wire
from simulators.marquez.answers import Answer, DatabaseFault, IllegalArgument, Refused, Unparsable, error, not_found
from simulators.marquez.database import Database, Killed
from simulators.marquez.read_calls import Reads
from simulators.marquez.tables import Run, Tables
from simulators.marquez.wire import Call
from simulators.marquez.write_calls import Writes

Handle = Callable[[Call], Awaitable[Answer]]
Route = tuple[str, list[str], Handle]
_WORDS = {"NEW": "queued", "RUNNING": "running", "COMPLETED": "succeeded", "FAILED": "failed", "ABORTED": "canceled"}
_MARKS = {"start": "RUNNING", "complete": "COMPLETED", "fail": "FAILED", "abort": "ABORTED"}


class MarquezSimulator:
    """Behaves as Marquez 0.51.1, bad manners included. `database` has the switches to stop, freeze and kill it."""

    def __init__(self, now: Callable[[], datetime] | None = None, seed: int = 0) -> None:
        self._now = now or (lambda: datetime.now(UTC))
        self._rng = Random(seed)  # noqa: S311 - it makes ids and mischief, no secrets
        self.faults = Faults()
        self.database = Database(self._now, self._rng)
        self.tables = Tables(self._rng, self._now())
        self._writes = Writes(self.tables, self.database, self._now, self._rng)
        self._routes = _routes(Reads(self.tables, self.database), self._writes)
        self._tasks: set[asyncio.Task[Answer]] = set()

    def now(self) -> datetime:
        return self._now()

    def error_body(self, status: int) -> Any:
        return {"code": status, "message": f"HTTP {status}"}

    def expected_runs(self) -> list[dict[str, Any]]:
        """Every run; `key` is its id, `namespace` and `job` the job that it is tied to."""
        return [self._expected_run(run) for run in self.tables.runs.values()]

    def _expected_run(self, run: Run) -> dict[str, Any]:
        job = self.tables.jobs[run.job]
        return {
            "key": str(run.uuid),
            "namespace": job.namespace,
            "job": job.name,
            "state": _WORDS[run.state or "NEW"],
            "raw_state": run.state or "NEW",
            "created_at": names.iso(run.created_at),
            "started_at": names.iso(run.started_at),
            "ended_at": names.iso(run.ended_at),
            "history": [(state, names.iso(at)) for state, at in run.states],
        }

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_admin/ping", self._ping),
            web.get("/_admin/healthcheck", self._healthcheck),
            web.route("*", "/{path:(?s:.*)}", self._dispatch),
        ]

    def control_routes(self) -> list[web.RouteDef]:
        """`POST /_control/marquez` with `{"do": ...}`: stop, start, freeze, thaw, release, kill, restart; `kill` takes
        `during` (an eventType), `thaw` takes `hold`. `GET` returns the condition.
        """
        return [web.post("/_control/marquez", self._control), web.get("/_control/marquez", self._condition)]

    async def _condition(self, _: web.Request) -> web.Response:
        state = {"condition": self.database.condition, "alive": self.database.alive, "hanging": self.database.hanging}
        return web.json_response({**state, "healthy": self.database.healthy, "events": len(self.tables.events)})

    async def _control(self, request: web.Request) -> web.Response:
        order = await request.json()
        match order["do"]:
            case "stop":
                self.database.stop()
            case "freeze":
                self.database.freeze()
            case "start":
                await self.database.start()
            case "thaw":
                await self.database.thaw(hold=bool(order.get("hold")))
            case "release":
                await self.database.release()
            case "kill" if "during" in order:
                self.database.kill_during = order["during"]
            case "kill":
                await self.database.kill()
            case "restart":
                await self.database.restart()
            case _:
                return web.json_response({"unknown": order["do"]}, status=400)
        return await self._condition(request)

    async def _ping(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="pong\n") if self.database.alive else wire.hang_up(request)

    async def _healthcheck(self, request: web.Request) -> web.StreamResponse:
        if not self.database.alive:
            return wire.hang_up(request)
        healthy = self.database.healthy
        body = {"deadlocks": {"healthy": True}, "postgresql": {"healthy": healthy}}
        return web.json_response(body, status=200 if healthy else 500)

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        """Work goes on when the client hangs up: a time-out does not cancel."""
        if not self.database.alive:
            return wire.hang_up(request)
        try:
            handle, call = await self._called(request)
        except Refused as refused:
            return wire.response(request, refused.answer)
        task = asyncio.create_task(self._answer(handle, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return wire.response(request, await asyncio.shield(task))
        except Killed:
            return wire.hang_up(request)

    async def _called(self, request: web.Request) -> tuple[Handle, Call]:
        raw, _, query = request.raw_path.partition("?")
        if "%00" in raw:
            raise Refused(Answer(400, b"<h1>Bad Message 400</h1><pre>reason: Bad Request</pre>", "text/html"))
        allowed = self._matching(raw)
        if not allowed:
            raise not_found()
        if request.method not in allowed:
            refusal = error(405, "HTTP 405 Method Not Allowed")
            raise Refused(Answer(405, refusal.body, headers={"Allow": ",".join([*sorted(allowed), "OPTIONS"])}))
        handle, parts = allowed[request.method]
        required = request.method == "PUT" or handle in (self._writes.create_run, self._writes.post_lineage)
        body = await wire.body_of(request, required=required)
        return handle, Call(raw, parts, parse_qs(query, keep_blank_values=True), body)

    def _matching(self, raw: str) -> dict[str, tuple[Handle, dict[str, str]]]:
        segments = wire.segments(raw)
        found = ((method, handle, wire.match(pattern, segments)) for method, pattern, handle in self._routes)
        return {method: (handle, parts) for method, handle, parts in found if parts is not None}

    async def _answer(self, handle: Handle, call: Call) -> Answer:
        event_path = handle == self._writes.post_lineage
        try:
            return await handle(call)
        except Refused as refused:
            return refused.answer
        except Unparsable as unparsable:
            return error(500, str(unparsable), code=400)
        except IllegalArgument:
            return answers.page(400, call.path) if event_path else self._unhandled()
        except DatabaseFault as fault:
            if event_path:
                return answers.page(500, call.path)
            return error(500, str(fault)) if "PSQLException" in str(fault) else self._unhandled()

    def _unhandled(self) -> Answer:
        return answers.unhandled(self._rng.getrandbits(64))


def _routes(reads: Reads, writes: Writes) -> list[Route]:
    job = "namespaces/{namespace}/jobs/{job}"
    dataset = "namespaces/{namespace}/datasets"
    table: list[tuple[str, str, Handle]] = [
        ("GET", "namespaces", reads.list_namespaces),
        ("PUT", "namespaces/{namespace}", writes.put_namespace),
        ("GET", "namespaces/{namespace}", reads.get_namespace),
        ("GET", "jobs", reads.list_jobs),
        ("GET", "namespaces/{namespace}/jobs", reads.list_jobs),
        ("PUT", job, writes.put_job),
        ("GET", job, reads.get_job),
        ("GET", f"{job}/versions", reads.list_job_versions),
        ("POST", f"{job}/runs", writes.create_run),
        ("GET", f"{job}/runs", reads.list_runs),
        ("GET", "jobs/runs/{id}", reads.get_run),
        ("GET", "jobs/runs/{id}/facets", reads.get_run_facets),
        *(("POST", f"jobs/runs/{{id}}/{verb}", partial(writes.mark_run, state)) for verb, state in _MARKS.items()),
        ("GET", dataset, reads.list_datasets),
        ("GET", f"{dataset}/{{dataset}}", reads.get_dataset),
        ("GET", f"{dataset}/{{dataset}}/versions", reads.list_dataset_versions),
        ("GET", f"{dataset}/{{dataset}}/versions/{{version}}", reads.get_dataset_version),
        ("POST", "lineage", writes.post_lineage),
        ("GET", "lineage", reads.get_lineage),
        ("GET", "column-lineage", reads.get_column_lineage),
        ("GET", "events/lineage", reads.list_events),
        ("GET", "runlineage/upstream", reads.get_upstream),
        ("GET", "sources", reads.list_sources),
        ("GET", "tags", reads.list_tags),
        ("GET", "search", reads.search),
    ]
    return [(method, ["api", "v1", *pattern.split("/")], handle) for method, pattern, handle in table]
