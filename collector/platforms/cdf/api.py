"""The few requests of the CDF API that are needed, with its errors in our words."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from collector.clock import Clock
from collector.errors import BadAnswer, NotFound, SourceError, Throttled, Unavailable
from collector.http import LARGEST_DETAILS, LARGEST_PAGE, HttpClient, Received, retry_after
from collector.oauth import Tokens
from collector.platforms.answers import asking, integer, kind_of_body, parsed, refusal, words
from collector.platforms.rate_limit import Pace
from collector.platforms.watermark import Clocks, read_clocks

MOST_IDS = 1000
"""Ids in one by-ids request, the vendor's limit."""
TRIES = 4
_JOBS, _DEFINITIONS = "/transformations/jobs/byids", "/transformations/byids"
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
HEADERS = {"Accept": "application/json", "cdf-version": "20230101", "x-cdp-app": "lineage-collector"}


@dataclass(frozen=True, slots=True)
class Page:
    """Rows as they came, the cursor of the next page, the size of the answer in bytes, and the clocks at it."""

    rows: list[Any]
    next: str | None
    size: int
    clocks: Clocks


class Refused(BadAnswer):
    """400, 409, 422, or a 404 about ids: the vendor did not do what was asked. `missing` are the ids that it does not know."""

    def __init__(self, message: str, missing: frozenset[int], *, status: int) -> None:
        super().__init__(message)
        self.missing, self.is_conflict = missing, status == 409


class Garbled(BadAnswer):
    """The vendor did what was asked, or may have, and its answer cannot be read."""


class Api:
    """Reads are repeated a few times on 429, 502, 503, 504 and lost connections, as cognite-sdk does; writes never,
    but for a 401 or 429, which say that nothing was done. Not by stamina, which waits by the event loop's time, not by our clock.
    """

    def __init__(
        self,
        http: HttpClient,
        tokens: Tokens,
        clock: Clock,
        random: Callable[[], float],
        *,
        base_url: str,
        project: str,
        pace: Pace,
    ) -> None:
        self._http, self._tokens, self._clock, self._random, self._pace = http, tokens, clock, random, pace
        self._root = base_url
        self._base = f"{base_url}/api/v1/projects/{quote(project, safe='')}"

    async def jobs(self, limit: int, cursor: str | None = None) -> Page:
        params: dict[str, str | int] = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        return await self._page("GET", "/transformations/jobs", params=params)

    async def jobs_by_ids(self, ids: Sequence[int]) -> list[Any]:
        """At most `MOST_IDS`; those that CDF does not have are left out."""
        return self.jobs_in(await self.jobs_answer(ids))

    async def jobs_answer(self, ids: Sequence[int]) -> Received:
        """As `jobs_by_ids`, for `jobs_in` to read."""
        return await self._by_ids(_JOBS, ids, {})

    def jobs_in(self, answer: Received) -> list[Any]:
        """What `jobs_answer` returned. Raises `BadAnswer` where that is not a list of items."""
        return self._listed("POST", _JOBS, answer).rows

    async def metrics(self, job_id: int) -> list[Any]:
        """Raises `NotFound` for a job that CDF does not have."""
        try:
            return (await self._page("GET", f"/transformations/jobs/{job_id}/metrics")).rows
        except Refused as error:
            raise NotFound(str(error)) from error

    async def definitions_by_ids(self, ids: Sequence[int]) -> list[Any]:
        answer = await self._by_ids(_DEFINITIONS, ids, {"withJobDetails": False})
        return self._listed("POST", _DEFINITIONS, answer).rows

    async def definitions(self, limit: int) -> list[Any]:
        params: dict[str, str | int] = {"limit": limit, "withJobDetails": "false"}
        return (await self._page("GET", "/transformations", params=params)).rows

    async def definitions_changed(self, since_ms: int, cursor: str | None = None) -> Page:
        wanted = {"filter": {"lastUpdatedTime": {"min": since_ms}}, "limit": 1000}
        return await self._page("POST", "/transformations/filter", body=wanted | ({"cursor": cursor} if cursor else {}))

    async def executions(self, wanted: Mapping[str, Any], cursor: str | None = None) -> Page:
        body = {"filter": wanted, "limit": 1000} | ({"cursor": cursor} if cursor else {})
        return await self._page("POST", "/workflows/executions/list", body=body)

    async def execution(self, execution_id: str) -> dict[str, Any]:
        """Raises `NotFound`."""
        path = f"/workflows/executions/{quote(execution_id, safe='')}"
        try:
            return self._object(await self._read("GET", self._base + path), path)
        except Refused as error:
            if error.is_conflict:
                raise
            raise NotFound(str(error)) from error

    async def inspect(self) -> dict[str, Any]:
        return self._object(await self._read("GET", f"{self._root}/api/v1/token/inspect"), "/token/inspect")

    async def run(self, which: Mapping[str, Any]) -> dict[str, Any]:
        """Starts a job. `Unavailable` with `sent` and `BadAnswer` leave it open whether one was started."""
        url = f"{self._base}/transformations/run"
        answer = await self._again((Throttled,), "POST", url, None, which)
        return self._object(answer, "/transformations/run")

    async def _by_ids(self, path: str, ids: Sequence[int], more: Mapping[str, Any]) -> Received:
        """Asked again without the ids that are refused, should CDF not leave them out as requested."""
        while True:
            body = {"items": [{"id": one} for one in ids], "ignoreUnknownIds": True, **more}
            try:
                return await self._read("POST", self._base + path, body=body)
            except Refused as error:
                known = [one for one in ids if one not in error.missing]
                if len(known) == len(ids):
                    raise
                if not known:
                    return Received(200, {}, b'{"items":[]}')
                ids = known

    async def _page(
        self, method: str, path: str, *, params: Mapping[str, str | int] | None = None, body: Any = None
    ) -> Page:
        return self._listed(method, path, await self._read(method, self._base + path, params, body))

    def _listed(self, method: str, path: str, answer: Received) -> Page:
        data = self._object(answer, path)
        rows, cursor = data.get("items"), data.get("nextCursor")
        if not isinstance(rows, list):
            because = _because(_envelope(answer.body), answer.headers)
            raise Garbled(f"{method} {path}: status 200 without a list of items{because}")
        if not isinstance(cursor, str | None):
            raise Garbled(f"{method} {path}: status 200 with a nextCursor that is not a text")
        return Page(rows, cursor or None, len(answer.body), read_clocks(answer.headers, self._clock.now()))

    @staticmethod
    def _object(answer: Received, path: str) -> dict[str, Any]:
        data = parsed(answer.body)
        if not isinstance(data, dict):
            came = kind_of_body(answer.body)
            raise Garbled(f"{path}: status {answer.status} with {came} in place of a JSON object")
        return data

    async def _read(
        self, method: str, url: str, params: Mapping[str, str | int] | None = None, body: Any = None
    ) -> Received:
        return await self._again((Throttled, Unavailable), method, url, params, body)

    async def _again(
        self,
        on: tuple[type[SourceError], ...],
        method: str,
        url: str,
        params: Mapping[str, str | int] | None,
        body: Any,
    ) -> Received:
        """Tries again after a random wait that doubles, unless the vendor says itself how long to wait."""
        for attempt in range(1, TRIES):
            try:
                return await self._send(method, url, params, body)
            except on as error:
                if isinstance(error, Throttled) and error.after is not None:
                    raise
                await self._clock.sleep(self._random() * 0.5 * 2**attempt)
        return await self._send(method, url, params, body)

    async def _send(self, method: str, url: str, params: Mapping[str, str | int] | None, body: Any) -> Received:
        """One request; a token that was refused is replaced once."""
        token = await self._tokens.current()
        answer = await self._once(method, url, params, body, token)
        if answer.status == 401:
            token = await self._tokens.current(refused=token)
            answer = await self._once(method, url, params, body, token)
        if answer.status != 200:
            raise self._error(answer, f"{method} {url.removeprefix(self._root)}")
        return answer

    async def _once(
        self, method: str, url: str, params: Mapping[str, str | int] | None, body: Any, token: str
    ) -> Received:
        await self._pace.turn()
        headers = HEADERS | {"Authorization": f"Bearer {token}"}
        largest = LARGEST_PAGE if params or body else LARGEST_DETAILS  # lists have a limit, a filter or ids
        with asking(f"{method} {url}"):
            if params is None and body is None:
                return await self._http.send(method, url, headers=headers, largest=largest)
            answer = await self._http.request(method, url, params=params, json=body, headers=headers, largest=largest)
        return Received(answer.status_code, answer.headers, answer.content)

    def _error(self, answer: Received, tried: str) -> SourceError:
        status, body = answer.status, _envelope(answer.body)
        said = f"{tried}: status {status}{_because(body, answer.headers)}"
        after = retry_after(answer.headers, self._clock.now()) if status == 429 else None
        self._pace.hold(after or 0.0)
        if status not in {401, 429} and answer.headers.get("cdf-is-auto-retryable", "").lower() == "true":
            return Unavailable(said, sent=True)
        if body is not None and _is_refused(status, body):
            return Refused(said, _missing(body), status=status)
        unauthorized = "the token is good for another project, or for none"
        known = refusal(status, said, unauthorized=unauthorized, after=after)
        return known or BadAnswer(f"{said}; check base_url")


def _is_refused(status: int, body: Mapping[str, Any]) -> bool:
    """Whether what was asked for is wrong, or is not there."""
    return status in {400, 409, 422} or (status == 404 and bool(body.get("missing")))


def _missing(body: Mapping[str, Any]) -> frozenset[int]:
    """The ids in `missing`, which are objects with an `id`, or bare."""
    rows = body.get("missing")
    ids = (row.get("id") if isinstance(row, dict) else row for row in (rows if isinstance(rows, list) else []))
    return frozenset(found for one in ids if (found := integer(one)) is not None)


def _envelope(content: bytes) -> Mapping[str, Any] | None:
    """The inside of `{"error": {code, message, missing?, duplicated?}}`, None for any other body."""
    body = parsed(content)
    inside = body.get("error") if isinstance(body, dict) else None
    return inside if isinstance(inside, dict) else None


def _because(body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> str:
    message = body.get("message") if body else None
    said = f" ({words(message)})" if isinstance(message, str) else ""
    request = headers.get("x-request-id", "")
    return said + (f" [request {request}]" if _REQUEST_ID.fullmatch(request) else "")
