"""Answers over HTTP as the sinks read them: pure, and what a request becomes whatever happens to it."""

import asyncio
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest

from collector.http import LARGEST_RECEIPT, AnswerTooLarge, HttpClient, Received
from collector.model import Outgoing
from collector.testing.sinks import event
from exporters.sinks.base import Delivered, Outcome, Park, Retry
from exporters.sinks.http import SHOWN, Answer, ask, each, remedy, trouble
from exporters.sinks.openlineage import Endpoint, OpenLineageSink, verdict

WAIT = httpx.Headers({"retry-after": "7"})


def answer(status: int | None, **given: Any) -> Answer:
    return Answer("POST http://backend/", status, **given)


@pytest.mark.parametrize(
    ("status", "after", "unanswered", "slow"),
    [
        *((status, 7, True, False) for status in (502, 504)),
        *((status, 7, False, False) for status in (408, 429, 503)),
        *((status, None, False, True) for status in (300, 302, 399, 401, 403, 404, 405, 407)),
    ],
)
def test_troubles_of_every_backend(status: int, after: int | None, unanswered: bool, slow: bool) -> None:
    found = trouble(answer(status, headers=WAIT))
    assert found is not None
    assert found.after == (None if after is None else timedelta(seconds=after))
    assert (found.unanswered, found.slow, found.sink_wide) == (unanswered, slow, True)


@pytest.mark.parametrize(("sent", "unanswered"), [(True, True), (False, False)])
def test_a_doubt_remains_only_of_what_was_sent(sent: bool, unanswered: bool) -> None:
    found = trouble(answer(None, sent=sent))
    assert found is not None
    assert found.unanswered is unanswered


@pytest.mark.parametrize("status", [200, 299, 400, 409, 422, 500])
def test_what_the_backend_says_of_the_event_is_no_trouble_of_all(status: int) -> None:
    assert trouble(answer(status)) is None


@pytest.mark.parametrize(
    ("status", "kind"), [(199, Park), (200, Delivered), (299, Delivered), (300, Retry), (499, Park), (500, Retry)]
)
def test_where_classes_of_status_begin(status: int, kind: type[Outcome]) -> None:
    assert isinstance(verdict(answer(status)), kind)


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (None, "proxy"),
        (401, "key"),
        (403, "key"),
        (407, "proxy"),
        (404, "endpoint"),
        (405, "endpoint"),
        (408, "minute"),
        (429, "minute"),
        (300, "login"),
        (399, "login"),
        (500, "log"),
        (599, "log"),
    ],
)
def test_what_to_do_about_an_answer(status: int | None, word: str) -> None:
    assert word in (remedy(answer(status)) or "")


@pytest.mark.parametrize("status", [200, 400, 422])
def test_nothing_is_to_be_done_about_an_answer_of_a_backend_unless_it_is_a_page(status: int) -> None:
    assert remedy(answer(status, body=b'{"message": "no event"}')) is None
    assert "HTML" in (remedy(answer(status, body=b"\xef\xbb\xbf \n<html>")) or "")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<html><TITLE>Bad\n Gateway</TITLE><p>more", "answered 502: Bad Gateway"),
        (b"x" * 1000, f"answered 502: {'x' * SHOWN}"),
        (b"token=hunter2secret is wrong", "answered 502: token=*** is wrong"),
        (b" \n", "answered 502"),
        (b"<p>" + b"." * 20_000 + b"<title>late</title>", f"answered 502: <p>{'.' * (SHOWN - 3)}"),
    ],
)
def test_a_cause_is_short_and_has_no_secrets(body: bytes, text: str) -> None:
    assert answer(502, body=body).cause == f"POST http://backend/ {text}"


class Client:
    """In place of the HTTP client: each request ends so."""

    def __init__(self, *ends: Exception | httpx.Response) -> None:
        self._ends = list(ends)
        self.requests: list[dict[str, Any]] = []

    async def send(self, method: str, url: str, **given: Any) -> Received:
        self.requests.append(given)
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return Received(end.status_code, end.headers, end.content)

    @property
    def http(self) -> HttpClient:
        return cast("HttpClient", self)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError("refused"), answer(None, sent=False, body=b"refused")),
        (httpx.ReadTimeout(""), answer(None, body=b"ReadTimeout")),
        (httpx.ReadError("reset"), answer(None, body=b"reset")),
    ],
)
async def test_an_error_of_the_network_is_an_answer_without_a_status(error: Exception, expected: Answer) -> None:
    assert await ask(Client(error).http, "POST", "http://backend/") == expected


async def test_the_status_and_the_wait_count_though_the_answer_is_too_large() -> None:
    too_large = AnswerTooLarge(429, WAIT, 1, request=httpx.Request("POST", "http://backend/"))
    found = await ask(Client(too_large).http, "POST", "http://backend/")
    assert (found.status, found.after) == (429, timedelta(seconds=7))


async def test_a_body_goes_as_json_with_the_headers_that_are_given() -> None:
    client = Client(httpx.Response(201), httpx.Response(200))
    await ask(client.http, "POST", "http://backend/", headers={"A": "b"}, content=b"{}")
    await ask(client.http, "GET", "http://backend/", headers={"A": "b"})
    assert [sent["headers"] for sent in client.requests] == [{"Content-Type": "application/json", "A": "b"}, {"A": "b"}]
    assert {sent["largest"] for sent in client.requests} == {LARGEST_RECEIPT}


async def test_a_batch_that_is_closed_early_leaves_no_request() -> None:
    ended: list[int] = []

    async def send(item: Outgoing) -> Outcome:
        try:
            await asyncio.sleep(0 if item.strand_id == 1 else 3600)
        finally:
            await asyncio.sleep(0)
            ended.append(item.strand_id)
        return Delivered()

    batch = each([event(1, 1), event(2, 1)], send)
    item, _ = await anext(batch)
    await batch.aclose()  # type: ignore[attr-defined]
    assert (item.strand_id, ended) == (1, [1, 2])


def test_an_attempt_with_a_token_may_take_two_requests() -> None:
    def made(**given: Any) -> OpenLineageSink:
        timeout = timedelta(seconds=5)
        endpoint = Endpoint("http://b/", Client().http, timeout=timeout, zipped=False, **given)
        return OpenLineageSink(endpoint, concurrency=1)

    assert made().longest_attempt == timedelta(seconds=5)
    assert made(tokens=cast("Any", object())).longest_attempt == timedelta(seconds=10)


class GivenTokens:
    """Tokens by number; notes which one was refused."""

    def __init__(self) -> None:
        self.refused: list[str | None] = []

    async def current(self, *, refused: str | None = None) -> str:
        self.refused.append(refused)
        return f"token-{len(self.refused)}"


@pytest.mark.parametrize(("status", "refused"), [(401, [None, "token-1"]), (403, [None]), (400, [None])])
async def test_a_new_token_is_asked_for_only_where_the_old_one_was_refused(
    status: int, refused: list[str | None]
) -> None:
    client, tokens = Client(httpx.Response(status), httpx.Response(201)), GivenTokens()
    endpoint = Endpoint("http://b/", client.http, timeout=timedelta(seconds=5), zipped=True, tokens=cast("Any", tokens))
    sink = OpenLineageSink(endpoint, concurrency=1)
    [outcome] = [outcome async for _, outcome in sink.send([event(1, 1)])]
    assert (tokens.refused, isinstance(outcome, Delivered)) == (refused, status == 401)
    assert {sent["headers"]["Content-Encoding"] for sent in client.requests} == {"gzip"}
    assert len({sent["content"] for sent in client.requests}) == 1
