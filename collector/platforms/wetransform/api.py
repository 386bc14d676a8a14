"""Requests to wetransform: the token, the customer, the self-limit, and answers read as envelopes."""

from collections.abc import Callable, Mapping
from datetime import timedelta

import httpx

from collector.clock import Clock
from collector.errors import Throttled
from collector.http import LARGEST_DETAILS, HttpClient
from collector.platforms.answers import asking
from collector.platforms.rate_limit import Pace
from collector.platforms.watermark import SLACK_MS, Clocks, read_clocks
from collector.platforms.wetransform.envelope import Envelope, Rejected, read


class Api:
    """`customer` is the `X-Customer` to act for, None for the token's own. Everything raises `SourceError`s."""

    def __init__(self, http: HttpClient, base_url: str, token: Callable[[], str], pace: Pace, clock: Clock) -> None:
        self._http, self.base_url, self._token, self._pace, self._clock = http, base_url, token, pace, clock
        self._clocks: Clocks | None = None

    async def get(self, path: str, *, customer: str | None, params: Mapping[str, str | int] | None = None) -> Envelope:
        return await self._ask("GET", path, customer, params)

    async def post(self, path: str, *, customer: str | None) -> Envelope:
        """One request and never a second one. Raises `Unavailable`, whose `sent` says whether it may have had an effect."""
        return await self._ask("POST", path, customer, None)

    async def _ask(
        self, method: str, path: str, customer: str | None, params: Mapping[str, str | int] | None
    ) -> Envelope:
        if customer is not None and not customer.isprintable():
            raise Rejected(f"{method} {path}: not sent, for the customer's name holds a control character")
        await self._pace.turn()
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
        if customer is not None:
            headers["X-Customer"] = customer
        content = b"{}" if method == "POST" else None
        if content:
            headers["Content-Type"] = "application/json"
        url, tried = self.base_url + path, f"{method} {path}"
        with asking(tried):
            answer = await self._http.request(
                method, url, headers=headers, params=params, content=content, largest=LARGEST_DETAILS
            )
        self._clocks = read_clocks(answer.headers, self._clock.now())
        return self._read(answer, tried)

    @property
    def behind(self) -> timedelta:
        """How far the service's clock is behind ours, by the last answer; never below zero."""
        far = self._clocks.ours - self._clocks.server if self._clocks is not None else 0
        return timedelta(milliseconds=far if far > SLACK_MS else 0)

    def _read(self, answer: httpx.Response, tried: str) -> Envelope:
        try:
            return read(answer.status_code, answer.headers, answer.content, tried=tried, now=self._clock.now())
        except Throttled as throttled:
            self._pace.hold(throttled.after or 0.0)
            raise
