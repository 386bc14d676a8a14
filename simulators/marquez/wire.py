"""One HTTP request as the calls see it, and their answer on its way back."""

import gzip
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote
from uuid import UUID

from aiohttp import web

from simulators.marquez import answers, names
from simulators.marquez.answers import Answer, Refused, error, errors, not_found

_GZIP_FROM = 256


@dataclass(frozen=True, slots=True)
class Call:
    """One request: path parts as the route names them, query, body already inflated."""

    path: str
    parts: Mapping[str, str]
    query: Mapping[str, list[str]]
    body: bytes

    def one(self, key: str) -> str | None:
        """A query parameter; given but empty counts as absent but for strings that say otherwise."""
        return self.query[key][0] if key in self.query else None

    def number(self, key: str, default: int) -> int:
        text = self.one(key)
        if text is None:
            return default
        if not re.fullmatch(r"[+-]?\d{1,9}", text):
            raise not_found()
        return int(text)

    def page(self) -> slice:
        found = []
        for key, default in (("limit", 100), ("offset", 0)):
            number = self.number(key, default)
            if number < 0:
                raise Refused(errors(400, [f"query param {key} must be greater than or equal to 0"]))
            found.append(number)
        return slice(found[1], found[1] + found[0])

    def namespace(self) -> str:
        if not names.valid_namespace(self.parts["namespace"]):
            raise not_found()
        return self.parts["namespace"]

    def run_id(self) -> UUID:
        found = names.strict_uuid(self.parts["id"])
        if found is None:
            raise not_found()
        return found


Handle = Callable[[Call], Awaitable[Answer]]


def segments(raw: str) -> list[str]:
    """Path parts, still encoded; dot segments are folded before anything is decoded."""
    found: list[str] = []
    for segment in raw.strip("/").split("/"):
        if segment == "..":
            found = found[:-1]
        elif segment != ".":
            found.append(segment)
    return found


def match(pattern: list[str], given_segments: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(given_segments):
        return None
    parts = {}
    for wanted, given in zip(pattern, given_segments, strict=True):
        if wanted.startswith("{"):
            parts[wanted[1:-1]] = unquote(given)
        elif wanted != unquote(given):
            return None
    return parts


async def body_of(request: web.Request, *, required: bool) -> bytes:
    """Only gzip is inflated; a broken one is an unhandled error, whatever is in it."""
    if required and request.content_type != answers.JSON:
        raise Refused(error(415, "HTTP 415 Unsupported Media Type"))
    try:
        body = await request.read()
    except (web.HTTPException, web.RequestPayloadError) as broken:
        raise Refused(Answer(500, answers.unhandled(0).body, headers={"Connection": "close"})) from broken
    if request.headers.get("Content-Encoding", "").lower() == "deflate" and body:
        raise Refused(error(500, "Invalid UTF-8 start byte 0x9c", code=400))
    return body


def response(request: web.Request, answer: Answer) -> web.Response:
    headers = dict(answer.headers)
    if "Location" in headers:
        headers["Location"] = f"http://{request.host}{headers['Location']}"
    body = answer.body
    if len(body) >= _GZIP_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = gzip.compress(body, 1)
        headers["Content-Encoding"] = "gzip"
    if answer.body:
        headers["Content-Type"] = answer.content_type
    made = web.Response(status=answer.status, body=body, headers=headers)
    if "Connection" in headers:
        made.force_close()
    return made


def hang_up(request: web.Request) -> web.Response:
    """Close the connection; the answer goes nowhere."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()
