"""`check` of sources and HTTP sinks against what vendors, backends, proxies and gateways answer: each answer is a sentence with
what was tried, what came back and what to do, and none of them counts as working.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from collector.http import HttpClient, HttpOptions
from collector.platforms import base, cdf, dataprep, wetransform
from collector.testing.clock import SimulatedClock
from config.sinks import MarquezSink, OpenLineageSink
from config.sources import WetransformSource
from exporters.sinks import base as sinks
from exporters.sinks import openlineage
from exporters.sinks.marquez import sink as marquez
from tests import cdf_rig, dataprep_rig
from tests.contract.http_recorder import recorder

PAGE = b"<html><head><title>Sign in</title></head><body>please</body></html>"

Finding = base.Finding | sinks.Finding


async def _cdf(url: str, http: HttpClient) -> Sequence[Finding]:
    config = cdf_rig.source(url, workflows=True)
    return await cdf.create(config, _context(config.job_namespace, http)).check()


async def _dataprep(url: str, http: HttpClient) -> Sequence[Finding]:
    config = dataprep_rig.source(url)
    return await dataprep.create(config, _context(config.job_namespace, http)).check()


async def _wetransform(url: str, http: HttpClient) -> Sequence[Finding]:
    given = {"platform": "wetransform", "name": "wt", "base_url": url, "tenant": "acme", "token": "wt-token"}
    config = WetransformSource.model_validate(given)
    return await wetransform.create(config, _context(config.job_namespace, http)).check()


async def _openlineage(url: str, http: HttpClient) -> Sequence[Finding]:
    config = OpenLineageSink.model_validate({"type": "openlineage", "name": "out", "url": url})
    return await openlineage.create(config, _sink_context(http)).check()


async def _marquez(url: str, http: HttpClient) -> Sequence[Finding]:
    config = MarquezSink.model_validate({"type": "marquez", "name": "out", "url": url})
    return await marquez.create(config, _sink_context(http)).check()


PARTS: dict[str, Callable[[str, HttpClient], Awaitable[Sequence[Finding]]]] = {
    "cdf": _cdf,
    "dataprep": _dataprep,
    "wetransform": _wetransform,
    "openlineage": _openlineage,
    "marquez": _marquez,
}
POSTS_NOTHING = ("cdf", "dataprep", "wetransform", "marquez")
"""An OpenLineage endpoint is sent an empty body, which it should refuse by 400, and some backends take."""


def _context(namespace: str, http: HttpClient) -> base.Context:
    return base.Context("source", namespace, http, SimulatedClock(), lambda: 0.5)


def _sink_context(http: HttpClient) -> sinks.Context:
    return sinks.Context("out", http, SimulatedClock(), lambda: 0.5)


@asynccontextmanager
async def _client(timeout: float = 30.0) -> AsyncIterator[HttpClient]:
    http = HttpClient(HttpOptions(timeout=timeout))
    yield http
    await http.close()


async def _found(part: str, **answer: Any) -> Sequence[Finding]:
    """What is found where every path answers so, but for that of tokens."""

    async def answering(request: web.Request, _: bytes) -> web.Response:
        if request.path == "/oauth2/token":
            return web.json_response({"access_token": "granted", "expires_in": 3600})
        return web.Response(**answer)

    async with recorder(answering) as server, _client() as http:
        return await PARTS[part](server.url, http)


def _wrong(found: Sequence[Finding]) -> list[str]:
    """The findings of what does not work, in words; fails where something else works than the token of another host."""
    assert [each.subject for each in found if each.ok] in ([], ["token"])
    bad = [each for each in found if not each.ok]
    assert bad
    assert all(each.detail and each.remedy for each in bad)
    return [f"{each.detail} => {each.remedy}" for each in bad]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("status", "to_do"),
    [
        (302, "url"),
        (401, "token|key|client"),
        (403, "base_url|key|capabilities|may not do this"),
        (404, "url"),
        (405, "url"),
        (429, "again"),
        (500, "log|is up"),
        (502, "log|is up"),
        (503, "log|is up"),
    ],
)
async def test_a_status(part: str, status: int, to_do: str) -> None:
    words = _wrong(await _found(part, status=status, text="no"))
    assert all(str(status) in each for each in words)
    assert all(any(word in each.partition(" => ")[2] for word in to_do.split("|")) for each in words), words


@pytest.mark.parametrize("part", POSTS_NOTHING)
async def test_a_refusal_of_what_was_asked(part: str) -> None:
    assert all("400" in each for each in _wrong(await _found(part, status=400, text="no")))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("status", [200, 400, 403, 502])
async def test_a_page_of_html(part: str, status: int) -> None:
    """Of a login, a proxy, or a server that expects TLS there."""
    words = _wrong(await _found(part, status=status, body=PAGE, content_type="text/html"))
    assert all(str(status) in each for each in words)
    assert status != 200 or all("HTML page" in each or "Sign in" in each for each in words)


@pytest.mark.parametrize("part", POSTS_NOTHING)
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"items": [', b"\xef\xbb\xbf", b"\x1f\x8b\x08", b'"Complete"'])
async def test_no_object(part: str, body: bytes) -> None:
    _wrong(await _found(part, status=200, body=body, content_type="application/json"))


@pytest.mark.parametrize("part", POSTS_NOTHING)
async def test_nothing(part: str) -> None:
    _wrong(await _found(part, status=204))


@pytest.mark.parametrize("part", PARTS)
async def test_nobody_there(part: str) -> None:
    async with _client() as http:
        words = _wrong(await PARTS[part]("http://127.0.0.1:9", http))
    assert all("Connect call failed" in each and "network.proxy" in each for each in words)


@pytest.mark.parametrize("part", PARTS)
async def test_no_answer_in_time(part: str) -> None:
    async def slow(request: web.Request, _: bytes) -> web.Response:
        await asyncio.sleep(600)
        raise AssertionError

    async with recorder(slow) as server, _client(0.1) as http:
        words = _wrong(await _impatient(part, server.url, http))
    assert all("in time" in each for each in words)


async def _impatient(part: str, url: str, http: HttpClient) -> Sequence[Finding]:
    """Whatever time-out the part itself asks for."""

    def impatient(asked: Callable[..., Awaitable[Any]]) -> Any:
        async def request(*args: Any, **more: Any) -> Any:
            return await asked(*args, **more | {"timeout": 0.1})

        return request

    http.request, http.send = impatient(http.request), impatient(http.send)  # type: ignore[method-assign]
    return await PARTS[part](url, http)


@pytest.mark.parametrize("part", PARTS)
async def test_a_connection_that_is_closed(part: str) -> None:
    async def gone(request: web.Request, _: bytes) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with recorder(gone) as server, _client() as http:
        _wrong(await PARTS[part](server.url, http))


@pytest.mark.parametrize("part", PARTS)
async def test_tls_with_a_server_that_speaks_none(part: str) -> None:
    async with recorder() as server, _client() as http:
        words = _wrong(await PARTS[part](server.url.replace("http:", "https:"), http))
    assert all("TLS" in each for each in words)


async def test_what_works_beside_an_inspection_that_fails() -> None:
    """The endpoints count."""

    async def answering(request: web.Request, _: bytes) -> web.Response:
        if request.path == "/oauth2/token":
            return web.json_response({"access_token": "granted", "expires_in": 3600})
        return web.Response(status=500) if "inspect" in request.path else web.json_response({"items": []})

    async with recorder(answering) as server, _client() as http:
        assert all(each.ok for each in await PARTS["cdf"](server.url, http))
