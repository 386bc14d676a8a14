"""The sink for any OpenLineage endpoint: what answers mean, its credentials, and what a backend gets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from collector.http import LARGEST_RECEIPT
from collector.testing.sinks import event, send
from exporters.sinks.base import Delivered, Outcome, Park, Retry, Sink
from exporters.sinks.http import Answer
from exporters.sinks.openlineage import verdict
from tests.contract.http_recorder import HttpRecorder, recorder
from tests.contract.sink_targets import make

SECRET = "a-secret-that-nobody-may-see"


def answer(status: int | None, **given: Any) -> Answer:
    return Answer("POST http://backend/api/v1/lineage", status, **given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *((answer(status), Delivered) for status in (200, 201, 202, 204)),
        *((answer(status), Park) for status in (400, 409, 413, 415, 422)),
        *((answer(status), Retry) for status in (301, 401, 403, 404, 405, 408, 429, 500, 502, 503, 504)),
        (answer(None), Retry),
        (answer(200, body=b"{}"), Delivered),
        (answer(200, body=b"<?xml version='1.0'?><answer>OK</answer>"), Delivered),
        (answer(200, body=b"<HTML><title>Log in</title>"), Retry),
        (answer(200, body=b"\n<!doctype html><title>Log in</title>"), Retry),
    ],
)
def test_what_an_answer_means(given: Answer, expected: type[Outcome]) -> None:
    assert isinstance(verdict(given), expected)


def test_a_login_page_delivers_nothing_and_says_so() -> None:
    outcome = verdict(answer(200, body=b"<!doctype html><title>Log in</title>"))
    assert outcome == Retry(
        "POST http://backend/api/v1/lineage answered 200: Log in; a page of HTML is not what a backend answers",
        slow=True,
    )


@dataclass
class Backend:
    """Answers by `status`, hands out tokens at `/token`, and takes only the token it handed out last."""

    recorder: HttpRecorder = field(default_factory=lambda: HttpRecorder(""))
    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    token_status: int = 200
    token_body: dict[str, Any] | None = None
    tokens: int = 0
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    guarded: bool = False

    async def asked(self, request: web.Request, body: bytes) -> web.Response:
        if request.path == "/token":
            return self._token(body)
        if self.guarded and request.headers.get("Authorization") != f"Bearer token-{self.tokens}":
            return web.Response(status=401, text="token expired")
        return web.Response(status=self.status if body else 400, headers=self.headers, text=self.text)

    def _token(self, body: bytes) -> web.Response:
        self.forms.append(parse_qs(body.decode()))
        self.tokens += self.token_status == 200
        answer = {"access_token": f"token-{self.tokens}", "expires_in": 3600, "token_type": "Bearer"}
        return web.json_response(self.token_body or answer, status=self.token_status)

    def sink(self, **settings: Any) -> Sink:
        from exporters.sinks.openlineage import create

        return make(create, type="openlineage", url=self.recorder.url, timeout="2s", **settings)

    def oauth2(self) -> dict[str, Any]:
        grant = {
            "token_url": f"{self.recorder.url}/token",
            "client_id": "me",
            "client_secret": SECRET,
            "scopes": ["a", "b"],
        }
        return {"oauth2": grant}


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    made = Backend()
    async with recorder(made.asked) as requests:
        made.recorder = requests
        yield made


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[Sink], Sink]]:
    sinks: list[Sink] = []

    def keep(sink: Sink) -> Sink:
        sinks.append(sink)
        return sink

    yield keep
    for sink in sinks:
        await sink.close(1)


Opened = Callable[[Sink], Sink]


async def one(sink: Sink) -> Outcome:
    [outcome] = (await send(sink, [event(1, 1)])).values()
    return outcome


async def test_an_event_goes_to_the_endpoint_with_the_key(backend: Backend, opened: Opened) -> None:
    sink = opened(backend.sink(api_key=SECRET))
    assert await one(sink) == Delivered()
    assert backend.recorder.requests == ["POST /api/v1/lineage"]
    [headers] = backend.recorder.headers
    assert (headers["Authorization"], headers["Content-Type"]) == (f"Bearer {SECRET}", "application/json")
    assert "Content-Encoding" not in headers
    assert backend.recorder.accepted == [event(1, 1).body]


async def test_the_endpoint_can_be_another_and_the_url_may_have_a_path(backend: Backend, opened: Opened) -> None:
    from exporters.sinks.openlineage import create

    sink = opened(make(create, type="openlineage", url=f"{backend.recorder.url}/base", endpoint="/v2/lineage"))
    assert await one(sink) == Delivered()
    assert backend.recorder.requests == ["POST /base/v2/lineage"]
    assert "Authorization" not in backend.recorder.headers[0]


async def test_bodies_can_be_zipped(backend: Backend, opened: Opened) -> None:
    assert await one(opened(backend.sink(compression="gzip"))) == Delivered()
    assert backend.recorder.headers[0]["Content-Encoding"] == "gzip"
    assert backend.recorder.accepted == [event(1, 1).body]


async def test_patience_that_is_asked_for_is_obeyed(backend: Backend, opened: Opened) -> None:
    backend.status, backend.headers = 429, {"Retry-After": "33"}
    outcome = await one(opened(backend.sink()))
    assert isinstance(outcome, Retry)
    assert (outcome.after, outcome.slow) == (timedelta(seconds=33), False)


async def test_what_is_wrong_with_the_event_parks_it_in_the_backends_words(backend: Backend, opened: Opened) -> None:
    backend.status, backend.text = 422, '{"errors": ["eventTime must not be null"]}'
    outcome = await one(opened(backend.sink(api_key=SECRET)))
    assert isinstance(outcome, Park)
    assert "eventTime must not be null" in outcome.cause
    assert SECRET not in outcome.cause


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_wrong_credentials_or_route_wait_for_a_person(backend: Backend, opened: Opened, status: int) -> None:
    backend.status = status
    outcome = await one(opened(backend.sink(api_key=SECRET)))
    assert isinstance(outcome, Retry)
    assert outcome.slow
    assert SECRET not in outcome.cause


async def test_nobody_answers(backend: Backend, opened: Opened) -> None:
    from exporters.sinks.openlineage import create

    dead = opened(make(create, type="openlineage", url="http://127.0.0.1:1", **backend.oauth2()))
    live = opened(make(create, type="openlineage", url="http://127.0.0.1:1"))
    for sink in (dead, live):
        outcome = await one(sink)
        assert isinstance(outcome, Retry)
        assert (outcome.unanswered, outcome.slow) == (False, False)


async def test_one_token_serves_all(backend: Backend, opened: Opened) -> None:
    backend.guarded = True
    sink = opened(backend.sink(**backend.oauth2()))
    batches = [[event(batch * 10 + strand, 1) for strand in range(10)] for batch in range(3)]
    for outcomes in await asyncio.gather(*(send(sink, batch) for batch in batches)):
        assert set(outcomes.values()) == {Delivered()}
    assert backend.tokens == 1
    [form] = backend.forms
    assert form == {
        "grant_type": ["client_credentials"],
        "client_id": ["me"],
        "client_secret": [SECRET],
        "scope": ["a b"],
    }


async def test_a_token_that_is_refused_is_replaced_at_once(backend: Backend, opened: Opened) -> None:
    backend.guarded = True
    sink = opened(backend.sink(**backend.oauth2()))
    assert await one(sink) == Delivered()
    backend.tokens += 1
    batch = [event(strand, 1) for strand in range(4)]
    assert set((await send(sink, batch)).values()) == {Delivered()}
    assert backend.tokens == 3


@pytest.mark.parametrize("expires_in", [20, "nan"])
async def test_a_token_of_any_life_serves_more_than_one_event(
    backend: Backend, opened: Opened, expires_in: int | str
) -> None:
    backend.token_body = {"access_token": "short", "expires_in": expires_in}
    sink = opened(backend.sink(**backend.oauth2()))
    for _ in range(3):
        assert await one(sink) == Delivered()
    assert len(backend.forms) == 1


async def test_a_refused_grant_is_not_asked_for_again_for_each_event(backend: Backend, opened: Opened) -> None:
    backend.token_status, backend.token_body = 401, {"error": "invalid_client"}
    sink = opened(backend.sink(**backend.oauth2()))
    outcomes = await send(sink, [event(strand, 1) for strand in range(20)])
    assert all(isinstance(outcome, Retry) and outcome.slow for outcome in outcomes.values())
    await one(sink)
    assert len(backend.forms) == 1


async def test_a_backend_that_refuses_every_token_waits_for_a_person(backend: Backend, opened: Opened) -> None:
    backend.status = 401
    outcome = await one(opened(backend.sink(**backend.oauth2())))
    assert isinstance(outcome, Retry)
    assert outcome.slow
    assert backend.recorder.count("POST /api/v1/lineage") == 2


@pytest.mark.parametrize(("status", "slow"), [(400, True), (401, True), (429, False), (500, False), (503, False)])
async def test_a_refused_grant_in_the_providers_words(
    backend: Backend, opened: Opened, status: int, slow: bool
) -> None:
    backend.token_status = status
    backend.token_body = {"error": "invalid_client", "error_description": "no such client", "echo": SECRET}
    sink = opened(backend.sink(**backend.oauth2()))
    outcome = await one(sink)
    assert isinstance(outcome, Retry)
    assert (outcome.slow, outcome.unanswered) == (slow, False)
    assert "invalid_client: no such client" in outcome.cause
    assert SECRET not in outcome.cause
    assert backend.recorder.accepted == []
    [finding] = await sink.check()
    assert (finding.ok, finding.subject) == (False, "token")
    assert SECRET not in finding.detail


@pytest.mark.parametrize("body", [{"token": "x"}, {"access_token": 5}])
async def test_an_answer_without_a_token(backend: Backend, opened: Opened, body: dict[str, Any]) -> None:
    backend.token_body = body
    assert isinstance(await one(opened(backend.sink(**backend.oauth2()))), Retry)


async def test_an_event_that_was_taken_is_not_sent_again_for_a_large_answer(backend: Backend, opened: Opened) -> None:
    backend.text = "x" * (LARGEST_RECEIPT + 1)
    assert await one(opened(backend.sink())) == Delivered()
    backend.status = 422
    outcome = await one(opened(backend.sink()))
    assert isinstance(outcome, Park)
    assert "more than 4 MiB" in outcome.cause


async def test_check_sends_nothing_that_could_be_kept(backend: Backend, opened: Opened) -> None:
    findings = await opened(backend.sink()).check()
    assert [(finding.subject, finding.ok) for finding in findings] == [("endpoint", True), ("batches", True)]
    assert backend.recorder.accepted == []


async def test_check_doubts_an_endpoint_that_takes_an_empty_body(backend: Backend, opened: Opened) -> None:
    async def taken(request: web.Request, body: bytes) -> web.Response:
        return web.Response(status=200)

    async with recorder(taken) as requests:
        backend.recorder = requests
        finding, *_ = await opened(backend.sink()).check()
        assert "is it an OpenLineage endpoint?" in finding.detail


@pytest.mark.parametrize(("status", "remedy"), [(401, "key"), (404, "endpoint"), (500, "own log"), (503, "own log")])
async def test_check_says_what_to_do(backend: Backend, opened: Opened, status: int, remedy: str) -> None:
    async def refused(request: web.Request, body: bytes) -> web.Response:
        return web.Response(status=status)

    async with recorder(refused) as requests:
        backend.recorder = requests
        [finding] = await opened(backend.sink(api_key=SECRET)).check()
    assert not finding.ok
    assert remedy in str(finding.remedy)


async def test_there_is_nothing_to_look_at_again(backend: Backend, opened: Opened) -> None:
    sink = opened(backend.sink())
    assert not sink.rechecks
    assert await sink.recheck(event(1, 1)) == Delivered()
    assert backend.recorder.requests == []
