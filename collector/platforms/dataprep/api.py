"""Requests to one deployment, and what its answers mean as errors."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import orjson

from collector.clock import Clock, from_ms, to_ms
from collector.errors import BadAnswer, NotFound, SourceError
from collector.http import LARGEST_DETAILS, LARGEST_PAGE, HttpClient
from collector.names import clean
from collector.platforms.answers import Forbidden, asking, kind_of_body, parsed, refusal, words
from collector.platforms.rate_limit import Pace
from collector.platforms.watermark import Clocks, read_clocks

Query = Mapping[str, str | int]

SLOW_ANSWER = 60.0
"""Seconds. Some endpoints queue a request beyond their quota instead of refusing it."""
LONGEST_ASKED = 120.0
"""Seconds. The platform's windows last a minute, so more is a misreading."""
MILLISECONDS_FROM = 10**11
"""A reset time from here on is in milliseconds; the vendor's table says seconds, its examples milliseconds."""

_SCOPES = ("user", "workspace")
_NUMBER = re.compile(r"[0-9]{1,19}(\.[0-9]{1,9})?")
_NOT_THERE = ("not exist", "not found", "notfound", "no longer exist", "deleted", "could not find", "cannot find")


class Refused(BadAnswer):
    """A 4xx that blames the request. `name` and `details` are the platform's."""

    def __init__(self, message: str, *, status: int, name: str, details: str) -> None:
        super().__init__(message)
        self.status, self.name, self.details = status, name, details


class NoSuchPath(NotFound):
    """The deployment lacks this endpoint."""


class Unreadable(BadAnswer):
    """A success whose body is not JSON."""


class Foreign(BadAnswer):
    """Not the platform's error envelope. `meant` is what the status would mean from the platform, None for nothing."""

    def __init__(self, message: str, meant: SourceError | None) -> None:
        super().__init__(message)
        self.meant = meant


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of 2xx or 304. `body` is None where there is none."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Api:
    """One deployment seen with one token. Every method raises SourceError and its kinds."""

    def __init__(
        self, http: HttpClient, base_url: str, token: Callable[[], str], clock: Clock, pace: Pace, timeout: float
    ) -> None:
        self._http, self._base, self._token = http, base_url, token
        self._clock, self._pace = clock, pace
        self._timeout = max(timeout, SLOW_ANSWER)
        self._ahead = 0

    @property
    def clocks(self) -> Clocks:
        """The platform's clock and ours as they go now, by the last answer; ours alone before the first."""
        ours = to_ms(self._clock.now())
        return Clocks(ours + self._ahead, ours)

    def latest(self, at: datetime) -> datetime:
        """The latest time that the platform's clock may have shown when ours showed this one, and no earlier one."""
        ours = to_ms(at)
        return max(at, from_ms(Clocks(ours + self._ahead, ours).latest))

    async def get(self, *path: str, query: Query | None = None) -> Any:
        """The JSON at this path below /v4."""
        return (await self.send("GET", path, query=query)).body

    async def send(
        self,
        method: str,
        path: Sequence[str],
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Raises `Foreign` for an error without the platform's envelope, unless the platform is seen to answer beside it:
        then its status counts, for no page says that every error has the envelope.
        """
        try:
            return await self._sent(method, path, query, body, headers or {})
        except Foreign as error:
            if error.meant is not None and await self.speaks():
                raise error.meant from error
            raise

    async def speaks(self) -> bool:
        """Whether the platform answers here: output objects are in every edition. Raises what stands in the way of an answer."""
        try:
            with suppress(NotFound, Refused, Forbidden):
                await self._sent("GET", ("outputObjects", "count"), None, None, {})
        except Foreign:
            return False
        return True

    async def _sent(
        self, method: str, path: Sequence[str], query: Query | None, body: Any, headers: Mapping[str, str]
    ) -> Answer:
        await self._pace.turn()
        where = "/v4/" + "/".join(quote(part, safe="") for part in path)
        tried = f"{method} {self._base}{where}"
        url = self._base + where + (f"?{urlencode(query)}" if query else "")
        with asking(tried):
            answer = await self._http.request(
                method,
                url,
                headers={**self._headers(body is not None), **headers},
                content=None if body is None else orjson.dumps(body),
                timeout=self._timeout,
                largest=LARGEST_PAGE if query and "limit" in query else LARGEST_DETAILS,
            )
        clocks = read_clocks(answer.headers, self._clock.now())
        self._pace.hold(used_up(answer.headers, from_ms(clocks.server)))
        understood = self._understood(answer, tried)
        self._ahead = clocks.server - clocks.ours
        return understood

    def _headers(self, has_body: bool) -> dict[str, str]:
        kind = {"Content-Type": "application/json"} if has_body else {}
        return {"Authorization": f"Bearer {self._token()}", "Accept": "application/json", **kind}

    def _understood(self, answer: httpx.Response, tried: str) -> Answer:
        if answer.status_code in {204, 304}:
            return Answer(answer.status_code, headers=answer.headers)
        body = parsed(answer.content)
        if not 200 <= answer.status_code < 300:
            raise self._error(answer, _error_envelope(body), tried)
        if body is None and answer.content.strip() != b"null":
            came = kind_of_body(answer.content)
            raise Unreadable(f"{tried}: status {answer.status_code} with {came} in place of JSON{_request_id(answer)}")
        if (error := _error_envelope(body)).known:
            raise BadAnswer(f"{tried}: status {answer.status_code} with an error{error.words}{_request_id(answer)}")
        return Answer(answer.status_code, body, answer.headers)

    def _error(self, answer: httpx.Response, envelope: "_ErrorEnvelope", tried: str) -> SourceError:
        status = answer.status_code
        said = f"{tried}: status {status}{envelope.words}{_request_id(answer)}"
        after = asked_wait(answer.headers, self._clock.now()) if status == 429 else None
        self._pace.hold(after or 0.0)
        known = refusal(status, said, unauthorized="the token is missing, wrong or expired", after=after)
        if not envelope.known and isinstance(known, Forbidden | NotFound | None):
            return Foreign(f"{said}; this is not an answer of the platform: a proxy, or a wrong base_url?", known)
        if isinstance(known, NotFound | None) and envelope.says_no_route:
            return NoSuchPath(said)
        if status == 400 and envelope.says_not_there:
            return NotFound(said)
        return known or Refused(said, status=status, name=envelope.name, details=envelope.details)


@dataclass(frozen=True, slots=True)
class _ErrorEnvelope:
    """The error envelope; `known` is False where there was none."""

    known: bool = False
    name: str = ""
    details: str = ""

    @property
    def words(self) -> str:
        return f" ({self.name}: {self.details})" if self.known else ""

    @property
    def says_no_route(self) -> bool:
        return "routenotfound" in self.name.lower()

    @property
    def says_not_there(self) -> bool:
        """The refusal of an embed lists all associations, whatever they are called."""
        text = f"{self.name} {self.details}".lower()
        return "association" not in text and any(words in text for words in _NOT_THERE)


def _error_envelope(body: Any) -> _ErrorEnvelope:
    """`{"exception": {"name", "message", "details"}}`, where details are text or an object."""
    exception = body.get("exception") if isinstance(body, dict) else None
    if not isinstance(exception, dict):
        return _ErrorEnvelope()
    name = exception.get("name")
    details = exception.get("details")
    parts = [exception.get("message"), *(details.values() if isinstance(details, dict) else [details])]
    said = "; ".join(part for part in parts if isinstance(part, str) and part)
    return _ErrorEnvelope(True, words(name) if isinstance(name, str) else "", words(said))


def _request_id(answer: httpx.Response) -> str:
    """The platform's support asks for this number."""
    number = answer.headers.get("x-trifacta-request-id")
    return f" [request id {clean(number)[:80]}]" if number else ""


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a 429 asks for: `x-retry-after`, else the reset times; between 0 and two minutes."""
    seconds = _float(headers.get("x-retry-after"))
    if seconds is None:
        seconds = _float(headers.get("retry-after"))
    if seconds is None:
        seconds = _until_reset(headers, _SCOPES, now)
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_ASKED)


def used_up(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds for which an answer of any status leaves nothing of a quota; 0 where something remains."""
    scopes = [scope for scope in _SCOPES if _float(headers.get(f"x-rate-limit-{scope}-remaining")) == 0]
    return min(max(_until_reset(headers, scopes, now) or 0.0, 0.0), LONGEST_ASKED)


def _until_reset(headers: Mapping[str, str], scopes: Iterable[str], now: datetime) -> float | None:
    resets = [_reset(headers.get(f"x-rate-limit-{scope}-reset")) for scope in scopes]
    return max((reset - now.timestamp() for reset in resets if reset is not None), default=None)


def _reset(text: str | None) -> float | None:
    value = _float(text)
    if value is None:
        return None
    return value / 1000 if value >= MILLISECONDS_FROM else value


def _float(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None
