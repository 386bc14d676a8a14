"""The vendor's routes of a simulated CDF project."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hashlib import sha256
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from simulators.cdf.entities import Job, Transformation
from simulators.cdf.identity import READ, WORKFLOWS, WRITE
from simulators.cdf.modes import Order
from simulators.cdf.project import Project, Which
from simulators.cdf.wire import (
    ApiError,
    envelope,
    make_cursor,
    open_cursor,
    read_bool,
    read_int,
    read_items,
    read_limit,
    read_object,
)

Answer = Callable[[Project, web.Request], Awaitable[Any]]

_PROJECT = "/api/v1/projects/{project}"


def vendor_routes(project: Project) -> list[web.RouteDef]:
    def api(method: str, path: str, capability: str, answer: Answer) -> web.RouteDef:
        return web.route(method, _PROJECT + path, _guarded(project, capability, answer))

    return [
        web.post("/oauth2/token", _token_handler(project, "cognite")),
        web.post("/{tenant}/oauth2/v2.0/token", _token_handler(project, "entra")),
        web.post("/oauth/token", _token_handler(project, "auth0")),
        web.get("/api/v1/token/inspect", _guarded(project, "", _inspect)),
        api("GET", "/transformations/jobs", READ, _list_jobs),
        api("POST", "/transformations/jobs/byids", READ, _jobs_by_ids),
        api("GET", r"/transformations/jobs/{id:\d+}/metrics", READ, _metrics),
        api("GET", "/transformations", READ, _list_transformations),
        api("POST", "/transformations/filter", READ, _filter_transformations),
        api("POST", "/transformations/byids", READ, _transformations_by_ids),
        api("GET", "/transformations/schedules", READ, _list_schedules),
        api("POST", "/transformations/schedules/byids", READ, _schedules_by_ids),
        api("POST", "/transformations/run", WRITE, _run),
        api("POST", "/transformations/cancel", WRITE, _cancel),
        api("POST", "/workflows/executions/list", WORKFLOWS, _list_executions),
        api("GET", "/workflows/executions/{id}", WORKFLOWS, _execution),
        web.route("*", "/{tail:(?!_control).*}", _guarded(project, "", _nothing_here)),
    ]


def _guarded(project: Project, capability: str, answer: Answer) -> Callable[[web.Request], Awaitable[Any]]:
    """Checks token, project and capability, and turns errors into the vendor's envelope."""

    async def handle(request: web.Request) -> web.Response:
        headers = {"x-request-id": f"{project.random.getrandbits(128):032x}"}
        try:
            _authorize(project, request, capability)
            return web.json_response(await answer(project, request), headers=headers)
        except ApiError as error:
            return web.json_response(error.body, status=error.status, headers=headers)
        except web.HTTPRequestEntityTooLarge:
            return web.json_response(envelope(413, "Request body is too large"), status=413, headers=headers)

    return handle


def _authorize(project: Project, request: web.Request, capability: str) -> None:
    if refusal := project.identity.refusal(request.headers.get("Authorization")):
        raise ApiError(401, refusal)
    if request.match_info.get("project", project.name) != project.name:
        raise ApiError(401, "Unauthorized")
    if capability and capability not in project.identity.capabilities:
        raise ApiError(403, f"Forbidden. The caller does not have the required capability {capability}.")


def _token_handler(project: Project, provider: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def grant(request: web.Request) -> web.Response:
        if request.content_type != "application/x-www-form-urlencoded":
            return web.json_response({"error": "invalid_request"}, status=400)
        status, body = project.identity.grant(dict(parse_qsl(await request.text())), provider)
        if project.modes.expires_in_as_text and "expires_in" in body:
            body["expires_in"] = str(body["expires_in"])
        return web.json_response(body, status=status)

    return grant


async def _nothing_here(_: Project, request: web.Request) -> Any:
    raise ApiError(404, f"Not found: {request.method} {request.path}")


async def _inspect(project: Project, _: web.Request) -> Any:
    return project.identity.inspection()


async def _list_jobs(project: Project, request: web.Request) -> Any:
    query = dict(request.query)
    cursor = query.pop("cursor", None)
    limit, now = read_limit(query.get("limit")), project.now_ms()
    wanted_id = read_int(query.get("transformationId"), "transformationId", -1)
    wanted = query.get("transformationExternalId")
    jobs = (
        job
        for job in _ordered(project)
        if wanted_id in {-1, job.transformation.id}
        and wanted in {None, job.transformation.external_id}
        and (project.modes.private_jobs_listed or _may_see(project, job.transformation))
    )
    key = _sort_key(project)
    if cursor is not None:
        last = open_cursor(cursor, query, now, project.modes.cursor_lifetime)
        jobs = (job for job in jobs if key(job) > last)
    rows = list(islice(jobs, limit + 1))
    body: dict[str, Any] = {"items": [job.json(now, project.modes) for job in rows[:limit]]}
    if len(rows) > limit:
        body["nextCursor"] = make_cursor(query, key(rows[limit - 1]), now)
    return body


def _ordered(project: Project) -> Iterable[Job]:
    if project.modes.list_order is Order.SHUFFLED:
        return sorted(project.jobs(newest_first=True), key=_sort_key(project))
    return project.jobs(newest_first=project.modes.list_order is Order.NEWEST)


def _sort_key(project: Project) -> Callable[[Job], tuple[Any, ...]]:
    order = project.modes.list_order
    if order is Order.SHUFFLED:
        return lambda job: (sha256(job.uuid.encode()).hexdigest(),)
    return lambda job: (-job.created, -job.id) if order is Order.NEWEST else job.order


async def _jobs_by_ids(project: Project, request: web.Request) -> Any:
    body = await read_object(request)
    ids = [int(item["id"]) for item in read_items(body, ["id"], project.modes.duplicates_status)]
    found = {job_id: job for job_id in ids if (job := project.job(job_id)) is not None}
    _refuse_unknown(body, [{"id": job_id} for job_id in ids if job_id not in found])
    now, jobs = project.now_ms(), list(found.values())
    if project.modes.byids_shuffled:
        project.random.shuffle(jobs)
    return {"items": [job.json(now, project.modes) for job in jobs]}


async def _metrics(project: Project, request: web.Request) -> Any:
    job_id = int(request.match_info["id"])
    job = project.job(job_id)
    if job is None:
        raise ApiError(400, "Transformation job does not exist", missing=[{"id": job_id}])
    return {"items": job.metrics(project.now_ms(), project.modes)}


async def _list_transformations(project: Project, request: web.Request) -> Any:
    query = dict(request.query)
    public = read_bool(query.get("includePublic"), "includePublic", default=True)
    details = read_bool(query.get("withJobDetails"), "withJobDetails", default=True)
    rows = [found for found in _seen(project) if public or not found.is_public]
    return _page(project, rows, query, lambda found: _definition(project, found, details=details))


async def _filter_transformations(project: Project, request: web.Request) -> Any:
    body = await read_object(request)
    if not isinstance(body.get("filter"), dict):
        raise ApiError(400, "filter is required")
    wanted = _matcher(body["filter"])
    rows = [found for found in _seen(project) if wanted(found)]
    return _page(project, rows, body, lambda found: _definition(project, found, details=True))


async def _transformations_by_ids(project: Project, request: web.Request) -> Any:
    body = await read_object(request)
    details = read_bool(body.get("withJobDetails"), "withJobDetails", default=project.modes.byids_job_details)
    return {"items": [_definition(project, found, details=details) for found in _asked_for(project, body)]}


async def _list_schedules(project: Project, request: web.Request) -> Any:
    query = dict(request.query)
    public = read_bool(query.get("includePublic"), "includePublic", default=True)
    rows = [found for found in _seen(project) if found.schedule is not None and (public or not found.is_public)]
    return _page(project, rows, query, Transformation.schedule_json)


async def _schedules_by_ids(project: Project, request: web.Request) -> Any:
    rows = _asked_for(project, await read_object(request), lambda found: found.schedule is not None)
    return {"items": [found.schedule_json() for found in rows]}


async def _run(project: Project, request: web.Request) -> Any:
    body = await read_object(request)
    if (nonce := body.get("nonce")) is not None:
        _check_nonce(nonce)
    job = project.request_run(_one_transformation(project, body).id)
    # The answer is the job as it was created, even when it fails at once.
    return job.json(job.created - 1, project.modes)


async def _cancel(project: Project, request: web.Request) -> Any:
    project.cancel(_one_transformation(project, await read_object(request)).id)
    return {}


async def _list_executions(project: Project, request: web.Request) -> Any:
    body, now = await read_object(request), project.now_ms()
    wanted = body.get("filter") or {}
    statuses = wanted.get("status")
    workflows = {entry.get("externalId") for entry in wanted.get("workflowFilters") or []}
    oldest = now - 90 * 86_400_000
    rows = [
        execution
        for execution in reversed(project.executions)
        if max(wanted.get("createdTimeStart") or 0, oldest) <= execution.created
        and execution.created <= (wanted.get("createdTimeEnd") or execution.created)
        and (not statuses or execution.status(now) in statuses)
        and (not workflows or execution.external_id in workflows)
    ]
    return _page(project, rows, body, lambda execution: execution.json(now))


async def _execution(project: Project, request: web.Request) -> Any:
    try:
        return project.execution(request.match_info["id"]).detailed_json(project.now_ms())
    except LookupError as error:
        raise ApiError(404, str(error)) from error


def _check_nonce(nonce: Any) -> None:
    wanted = {"sessionId": int, "nonce": str, "cdfProjectName": str}
    if not isinstance(nonce, dict) or not all(isinstance(nonce.get(key), kind) for key, kind in wanted.items()):
        raise ApiError(400, "nonce must have sessionId, nonce and cdfProjectName")


def _one_transformation(project: Project, body: Mapping[str, Any]) -> Transformation:
    """By `externalId` or `id`, the other one missing or null."""
    given = {key: body[key] for key in ("externalId", "id") if body.get(key) is not None}
    if len(given) != 1:
        raise ApiError(400, "Exactly one of externalId and id must be given")
    (which,) = given.values()
    if len(str(which)) > 255:
        raise ApiError(400, "externalId must have at most 255 characters")
    found = _find(project, which)
    if found is None:
        raise ApiError(400, f"Transformation not found: {which}", missing=[given])
    return found


def _find(project: Project, which: Which) -> Transformation | None:
    return next((found for found in _seen(project) if which in {found.id, found.external_id}), None)


def _asked_for(
    project: Project, body: Mapping[str, Any], fits: Callable[[Transformation], bool] = lambda _: True
) -> list[Transformation]:
    items = read_items(body, ["id", "externalId"], project.modes.duplicates_status)
    pairs = [(item, _find(project, next(iter(item.values())))) for item in items]
    found = [definition for _, definition in pairs if definition is not None and fits(definition)]
    _refuse_unknown(body, [item for item, definition in pairs if definition not in found])
    return found


def _refuse_unknown(body: Mapping[str, Any], missing: list[dict[str, Any]]) -> None:
    if missing and not read_bool(body.get("ignoreUnknownIds"), "ignoreUnknownIds", default=False):
        raise ApiError(400, "Some items do not exist", missing=missing)


def _may_see(project: Project, found: Transformation) -> bool:
    return found.is_public or found.owner == project.identity.client_id


def _seen(project: Project) -> list[Transformation]:
    return [found for found in project.transformations.values() if _may_see(project, found)]


def _definition(project: Project, found: Transformation, *, details: bool) -> dict[str, Any]:
    body = found.json(project.modes, project.identity.client_id)
    return body | project.details(found) if details else body


def _page(
    project: Project, rows: list[Any], given: Mapping[str, Any], shown: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """One page of rows whose order does not change while they are read."""
    bound = {key: value for key, value in given.items() if key != "cursor" and value is not None}
    limit, now, offset = read_limit(given.get("limit")), project.now_ms(), 0
    if given.get("cursor") is not None:
        (offset,) = open_cursor(str(given["cursor"]), bound, now, project.modes.cursor_lifetime)
    body: dict[str, Any] = {"items": [shown(row) for row in rows[offset : offset + limit]]}
    if offset + limit < len(rows):
        body["nextCursor"] = make_cursor(bound, [offset + limit], now)
    return body


def _matcher(wanted: Mapping[str, Any]) -> Callable[[Transformation], bool]:
    """The documented keys of a definition filter, all of which must hold."""
    sets = {entry["id"] for entry in wanted.get("dataSetIds") or [] if "id" in entry}
    tags = set((wanted.get("tags") or {}).get("containsAny") or [])
    try:
        name, query = re.compile(wanted.get("nameRegex") or ""), re.compile(wanted.get("queryRegex") or "")
    except re.error as error:
        raise ApiError(400, f"Invalid regular expression: {error}") from error

    def fits(found: Transformation) -> bool:
        either = wanted.get("cdfProjectName")
        return (
            wanted.get("isPublic") in {None, found.is_public}
            and name.search(found.name) is not None
            and query.search(found.query) is not None
            and wanted.get("destinationType") in {None, found.destination_type}
            and wanted.get("conflictMode") in {None, found.conflict_mode}
            and wanted.get("hasBlockedError") in {None, found.blocked is not None}
            and either in {None, found.source_project, found.destination_project}
            and _between(found.created, wanted.get("createdTime"))
            and _between(found.updated, wanted.get("lastUpdatedTime"))
            and (not sets or found.data_set_id in sets)
            and (not tags or bool(tags & set(found.tags)))
        )

    return fits


def _between(ms: int, bounds: Mapping[str, int] | None) -> bool:
    bounds = bounds or {}
    return bounds.get("min", ms) <= ms <= bounds.get("max", ms)
