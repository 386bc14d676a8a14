"""What the adapters share in reading answers and in choosing jobs."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from collector.clock import from_ms, to_ms
from collector.errors import AuthFailed, BadAnswer, NotFound, SourceError, Throttled, Unavailable
from collector.http import LARGEST_PAGE, AnswerTooLarge
from collector.lineage.custom_facets import instant
from collector.platforms.answers import Forbidden, asking, integer, kind_of_body, moment, parsed, refusal, uuid, words
from collector.platforms.base import Choice


@pytest.mark.parametrize(
    ("error", "sent", "said"),
    [
        (httpx.ConnectError("no route to host"), False, "GET /x: no connection: no route to host"),
        (httpx.ReadTimeout(""), True, "GET /x: no answer: ReadTimeout"),
        (httpx.RemoteProtocolError("the answer is cut off"), True, "GET /x: no answer: the answer is cut off"),
    ],
)
def test_no_answer_says_whether_the_request_may_have_had_an_effect(error: Exception, sent: bool, said: str) -> None:
    with pytest.raises(Unavailable) as caught, asking("GET /x"):
        raise error
    assert (caught.value.sent, str(caught.value)) == (sent, said)


def test_an_answer_that_is_too_large_is_bad_whatever_was_asked() -> None:
    words = "GET /x: status 200, and an answer of more than 32 MiB, so it was not read"
    with pytest.raises(BadAnswer, match=words), asking("GET /x"):
        raise AnswerTooLarge(200, {}, LARGEST_PAGE, request=httpx.Request("GET", "http://h/x"))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AuthFailed),
        (403, Forbidden),
        (404, NotFound),
        (410, NotFound),
        (429, Throttled),
        (500, Unavailable),
        (599, Unavailable),
        (200, None),
        (400, None),
        (409, None),
        (422, None),
    ],
)
def test_what_a_status_means(status: int, expected: type[SourceError] | None) -> None:
    found = refusal(status, f"GET /x: status {status}", unauthorized="the token was refused", after=7.0)
    assert type(found) is (expected or type(None))
    assert found is None or str(status) in str(found)
    assert ("the token was refused" in str(found)) is (status == 401)
    assert not isinstance(found, Throttled) or found.after == 7.0
    assert not isinstance(found, Unavailable) or found.sent


@pytest.mark.parametrize(
    ("content", "value"),
    [(b'{"a": 1}', {"a": 1}), (b"null", None), (b"", None), (b"<html>", None), (b"\xff", None), (b"[" * 5000, None)],
)
def test_what_is_no_json_is_none(content: bytes, value: Any) -> None:
    assert parsed(content) == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty body"),
        (b" \r\n", "an empty body"),
        (b"\xef\xbb\xbf <!DOCTYPE html><title>Sign in</title>", "an HTML page"),
        (b"<?xml version='1.0'?>", "XML"),
        (b'{"items": [{"id": 1', "JSON that is cut off or broken"),
        (b'[{"id": 1}, ', "JSON that is cut off or broken"),
        (b"null", "JSON null"),
        (b"[1]", "a JSON list"),
        (b'"Complete"', "a JSON text"),
        (b"17", "a JSON number"),
        (b"true", "JSON true"),
        (b'{"items": []}', "a JSON object"),
        (b"Bad Gateway", "text that is not JSON"),
        (b"\x1f\x8b\x08\x00", "bytes that are not text"),
    ],
)
def test_what_came_in_place_of_what_was_due(content: bytes, said: str) -> None:
    assert kind_of_body(content) == said


@pytest.mark.parametrize(
    ("odd", "value"),
    [
        (r'"a\ud800b"', "a\ufffdb"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        ("NaN", None),
        ("Infinity", None),
        ("-Infinity", None),
        ("1e400", None),
        ("-1e400", None),
        ("9" * 400, None),
        ("9" * 5000, None),
        ("1" + "0" * 19, 10**19),
        ("1" + "0" * 20, None),
        ("1.5", 1.5),
    ],
)
def test_one_odd_value_costs_no_more_than_itself(odd: str, value: Any) -> None:
    beside = r'"x": "\udc00", "y": [1, {"\ud800": NaN}]'
    assert parsed(f'{{"a": {odd}, {beside}}}'.encode()) == {"a": value, "x": "\ufffd", "y": [1, {"\ufffd": None}]}


def test_words_are_short_and_show_no_secret() -> None:
    assert words("refused\x00 for password=hunter2") == "refused for password=***"
    assert len(words("x" * 1000)) == 300
    assert len(words("x" * 1000, 40)) == 40


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-07-05T18:52:49+00:00", datetime(2026, 7, 5, 18, 52, 49, tzinfo=UTC)),
        ("2026-07-05T18:52:49.250Z", datetime(2026, 7, 5, 18, 52, 49, 250_000, tzinfo=UTC)),
        ("2026-07-05T20:52:49+02:00", datetime(2026, 7, 5, 18, 52, 49, tzinfo=UTC)),
        ("2026-07-05T18:52:49", datetime(2026, 7, 5, 18, 52, 49, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        (1_783_277_569, datetime(2026, 7, 5, 18, 52, 49, tzinfo=UTC)),
        (1_783_277_569_250, datetime(2026, 7, 5, 18, 52, 49, 250_000, tzinfo=UTC)),
        ("1783277569250", datetime(2026, 7, 5, 18, 52, 49, 250_000, tzinfo=UTC)),
        (1_783_277_569_250_000, None),
        (978_307_200, datetime(2001, 1, 1, tzinfo=UTC)),
        (978_307_199, None),
        (7_258_118_400, None),
        (7_258_118_400_000, None),
        ("1970-01-01T00:00:00Z", None),
        ("", None),
        (0, None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_times(value: Any, expected: datetime | None) -> None:
    assert moment(value) == expected


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose own time is not UTC."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
def test_times_do_not_depend_on_where_the_program_runs() -> None:
    moment_of_answer = datetime(2026, 7, 5, 18, 52, 49, tzinfo=UTC)
    for text in ("2026-07-05T18:52:49", "2026-07-05T18:52:49Z", "2026-07-05T20:52:49+02:00"):
        assert moment(text) == moment_of_answer
    assert instant(moment_of_answer.astimezone()) == "2026-07-05T18:52:49.000Z"
    assert from_ms(to_ms(moment_of_answer)) == moment_of_answer
    assert from_ms(to_ms(moment_of_answer)).utcoffset() == timedelta()


@pytest.mark.parametrize(
    ("include", "exclude", "names", "taken"),
    [
        ((), (), ("a",), True),
        ((), (), (), True),
        (("pump*",), (), ("7", "pumps"), True),
        (("pump*",), (), ("7", None), False),
        (("pump*",), (), (), False),
        (("pump*",), ("*_old",), ("pumps", "pumps_old"), False),
        ((), ("7",), ("7", "pumps"), False),
        (("PUMPS",), (), ("pumps",), False),
    ],
)
def test_which_jobs_are_wanted(
    include: tuple[str, ...], exclude: tuple[str, ...], names: tuple[str | None, ...], taken: bool
) -> None:
    choice = Choice(include, exclude)
    assert choice.takes(*names) is taken
    assert choice.is_any is (not include and not exclude)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        ("0", 0),
        (7.0, 7),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (-1, None),
        (7.5, None),
        (True, None),
        (False, None),
        ("\u0661\u0662", None),
    ],
)
def test_what_counts_as_a_whole_number(value: Any, expected: int | None) -> None:
    assert repr(integer(value)) == repr(expected)


def test_a_uuid_has_one_form_however_it_is_written() -> None:
    for value in ("{0A1B2C3D-0000-4000-8000-ABCDEFABCDEF}", "0a1b2c3d000040008000abcdefabcdef"):
        assert uuid(value) == "0a1b2c3d-0000-4000-8000-abcdefabcdef"
    assert uuid("0a1b2c3d") is None
