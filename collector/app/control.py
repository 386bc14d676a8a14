"""The control socket: how the command line hands requests to the running service, over HTTP on a Unix socket.

Access is limited to users who can open the socket (mode 0600, beside the ledger).
"""

import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from collector.clock import Clock, to_ms
from collector.errors import ConfigurationError, LineageError
from collector.ledger import requests
from collector.ledger.port import Ledger
from collector.ledger.requests import Request, RequestKind, RequestState
from collector.logs import fields

log = logging.getLogger("lineage.control")

ANSWERS_WITHIN = 120.0
"""Seconds for one request: a platform has 90 to start a run."""
STATUS_WITHIN = 15.0
_NOBODY = {errno.ENOENT, errno.ECONNREFUSED}


@dataclass(frozen=True, slots=True)
class RequestResult:
    """The result of a request."""

    state: RequestState
    answer: Mapping[str, Any]


def result_of(request: Request | None) -> RequestResult:
    """Of a request that was done, None for one that the ledger no longer has."""
    if request is None:
        return RequestResult(RequestState.FAILED, {"error": "the request is no longer in the ledger"})
    return RequestResult(request.state, orjson.loads(request.answer or "{}"))


async def answered(
    store: Ledger, clock: Clock, target: str, kind: RequestKind, body: Mapping[str, Any], late: str, every: float
) -> RequestResult:
    """Put a request into the ledger and look for its result `every` so many seconds; `late` is the error of one that takes
    longer than `ANSWERS_WITHIN`. A backfill, which may take hours, is not waited for.
    """
    now_ms, words = to_ms(clock.now()), orjson.dumps(dict(body)).decode()
    if kind is RequestKind.BACKFILL:
        number = await store.write(requests.add_backfill, target, words, now_ms)
        return RequestResult(RequestState.NEW, {"request": number})
    if kind is RequestKind.STOP:
        stopped = await store.write(requests.stop_backfill, target, now_ms)
        none = {"error": f"no backfill of {target.replace(':', ' ', 1)} is under way"}
        return (
            RequestResult(RequestState.FAILED, none) if stopped is None else RequestResult(RequestState.DONE, stopped)
        )
    number = await store.write(requests.add, kind, target, words, now_ms)
    end = clock.monotonic() + ANSWERS_WITHIN
    while (request := await store.read_shown(requests.get, number)) is not None and request.done_at is None:
        if clock.monotonic() > end:
            return RequestResult(request.state, {"error": late})
        await clock.sleep(every)
    return result_of(request)


Submit = Callable[[str, RequestKind, Mapping[str, Any]], Awaitable[RequestResult]]
Status = Callable[[], Awaitable[Mapping[str, Any]]]


class Control:
    """Listens while the service runs."""

    def __init__(self, path: Path, submit: Submit, status: Status) -> None:
        self._path, self._submit, self._status = path, submit, status
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """A socket that a killed process left is replaced. Raises `ConfigurationError` where there can be no socket."""
        app = web.Application()
        app.add_routes([web.post("/requests", self._request), web.get("/status.json", self._report_status)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.SockSite(runner, _bound(self._path)).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._path.unlink(missing_ok=True)
            self._runner = None

    async def _request(self, request: web.Request) -> web.Response:
        try:
            request_body = orjson.loads(await request.read())
            target, kind, body = (
                str(request_body["target"]),
                RequestKind(request_body["kind"]),
                dict(request_body["body"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            log.warning("control.refused", extra=fields(cause=str(error)))
            return web.Response(text="a request has a target, a kind and a body", status=400)
        try:
            result = await self._submit(target, kind, body)
        except LineageError as error:  # for example, the ledger's disk is full
            log.error("control.failed", extra=fields(kind=kind.value, target=target, cause=str(error)))  # noqa: TRY400
            return web.Response(text=str(error), status=503)
        answer = {"state": result.state.value, "answer": dict(result.answer)}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    async def _report_status(self, _: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(await self._status()), content_type="application/json")


def _bound(path: Path) -> socket.socket:
    """A socket that nobody else can open, as its mode is set before it listens."""
    refuse_unusable(path)
    try:
        path.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX)
        try:
            made.bind(str(path))
            path.chmod(0o600)
        except BaseException:
            made.close()
            raise
    except OSError as error:
        what = f"control_socket: {path.absolute()} cannot be made: {error.strerror}"
        raise ConfigurationError([f"{what}; set control_socket to a path where this user may write"]) from error
    return made


def refuse_unusable(path: Path) -> None:
    """Raises `ConfigurationError` where a file that is not a socket has the name, or the folder is far from being there: that
    of the ledger, where the socket is by default, may be created at the start.
    """
    where = path.absolute()
    if where.exists() and not where.is_socket():
        problem = f"there is a file at {where} that is not a socket; give another path"
    elif not where.parent.parent.is_dir():
        what = f"{where} cannot be made: neither its folder exists nor the one above it"
        problem = f"{what}; give another path, or correct ledger.path, beside which it is by default"
    else:
        return
    raise ConfigurationError([f"control_socket: {problem}"])


def refuse_occupied(path: Path) -> None:
    """Raises `ConfigurationError` where another service listens."""
    if is_alive(path):
        raise ConfigurationError(
            [f"control_socket: another service listens at {path}; give each service on this machine its own path"]
        )


def is_alive(path: Path) -> bool:
    """Whether a service listens there."""
    with closing(socket.socket(socket.AF_UNIX)) as trial:
        return trial.connect_ex(os.fsencode(path)) == 0


async def status(path: Path) -> dict[str, Any] | None:
    """The status of the service that listens there; None when no service listens."""
    result: dict[str, Any] | None = await _call(path, "GET", "/status.json", None, STATUS_WITHIN)
    return result


async def submit(path: Path, target: str, kind: RequestKind, body: Mapping[str, Any]) -> RequestResult | None:
    """Send a request to the service that listens there and wait for its result; None when no service listens."""
    request_body = {"target": target, "kind": kind.value, "body": dict(body)}
    result = await _call(path, "POST", "/requests", request_body, ANSWERS_WITHIN + 10.0)
    return None if result is None else RequestResult(RequestState(result["state"]), result["answer"])


async def _call(path: Path, method: str, route: str, body: Mapping[str, Any] | None, within: float) -> Any:
    """Raises `LineageError` for a service that listens and gives no valid answer."""
    limit = aiohttp.ClientTimeout(total=within)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)), timeout=limit) as session,
            session.request(method, f"http://service{route}", json=body) as answer,
        ):
            if answer.status != 200:
                raise LineageError(f"the running service answered {answer.status}: {await answer.text()}")
            return await answer.json()
    except aiohttp.ClientConnectorError as error:
        if error.os_error.errno in _NOBODY:
            return None
        raise LineageError(f"cannot connect to the service at {path}: {error.os_error.strerror}") from error
    except TimeoutError as error:
        raise LineageError(
            f"the service at {path} gave no answer within {within:.0f} s: look at its log, it may be stuck"
        ) from error
    except aiohttp.ClientError as error:
        raise LineageError(
            f"the service at {path} ended before it answered ({type(error).__name__}); the request may have been done: "
            "look at `lineage-collector runs` once the service runs again"
        ) from error
