"""Requests that no route answers: a page, or JSON, that names the nearest address."""

from collections.abc import Iterator
from difflib import get_close_matches

from aiohttp import web

from exporters.web.access import Handler
from exporters.web.responses import data, page, wants_json

_API = "/api/v1/"


@web.middleware
async def unmatched(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers 404 and 405 itself, for people and scripts; passes on what a route answers."""
    match request.match_info.http_exception:
        case web.HTTPMethodNotAllowed() as refused:
            allowed = ", ".join(sorted(refused.allowed_methods))
            words = f"{request.path} cannot be reached by {request.method}, only by {allowed}"
            return _answered(request, words, None, 405, {"Allow": allowed})
        case web.HTTPException():
            return _answered(request, f"There is no page {request.path}", _nearest(request), 404, {})
    return await handler(request)


def _answered(request: web.Request, words: str, near: str | None, status: int, headers: dict[str, str]) -> web.Response:
    if wants_json(request):
        answer = data({"error": f"{words}; did you mean {near}?" if near else words}, status)
    else:
        title = "Not found" if status == 404 else "Not in this way"
        answer = page("unmatched", request.path, status, title=title, words=words, near=near)
    answer.headers.update(headers)
    return answer


def _nearest(request: web.Request) -> str | None:
    """The page whose name is like the first word of the path that was asked for."""
    known = {_word(path): path for path in _paths(request) if path.startswith(_API) == wants_json(request)}
    close = get_close_matches(_word(request.path).lower(), known, n=1)
    return known[close[0]] if close else None


def _word(path: str) -> str:
    """Without what all addresses for scripts begin with."""
    words = [word for word in path.split("/") if word not in {"", "api", "v1"}]
    return words[0] if words else ""


def _paths(request: web.Request) -> Iterator[str]:
    """Of all that can be read and has no variable part."""
    for resource in request.app.router.resources():
        path = resource.canonical
        if "{" not in path and any(route.method == "GET" for route in resource):
            yield path
