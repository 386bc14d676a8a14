"""Requests to wetransform: the token, the customer, the self-limit, and answers read as envelopes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from weakref import WeakValueDictionary

import httpx

from collector.clock import Clock
from collector.errors import BadAnswer, Throttled, Unavailable
from collector.http import HttpClient
from collector.platforms.wetransform.envelope import Envelope, Rejected, read
from collector.platforms.wetransform.schedule import TokenBucket

_LONGEST_QUEUE = 15.0
"""Seconds that a request waits for its turn under the self-limit, at the most, unless each turn takes longer."""
LARGEST_ANSWER = 16 * 1024 * 1024

_BUCKETS: WeakValueDictionary[str, TokenBucket] = WeakValueDictionary()


def bucket_of(base_url: str, token: str, rate: float, burst: float) -> TokenBucket:
    """The one bucket of a token, whichever sources use it; the lowest rate that one of them wants holds for all."""
    key = sha256(f"{base_url} {token}".encode()).hexdigest()
    bucket = _BUCKETS.get(key)
    if bucket is None:
        bucket = _BUCKETS[key] = TokenBucket(rate, burst)
    bucket.rate = min(bucket.rate, rate)
    return bucket


class NoTurn(Throttled):
    """The self-limit leaves no turn soon; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Requests a second, and how many may go at once."""

    rate: float
    burst: float


class Api:
    """`customer` is the `X-Customer` to act for, None for the token's own. Everything raises `SourceError`s."""

    def __init__(
        self, http: HttpClient, base_url: str, token: Callable[[], str], limit: Limit | None, clock: Clock
    ) -> None:
        self._http, self.base_url, self._token, self._limit, self._clock = http, base_url, token, limit, clock
        self._bucket: TokenBucket | None = None

    async def get(self, path: str, *, customer: str | None, params: Mapping[str, str | int] | None = None) -> Envelope:
        """Raises `Unavailable` where no answer came."""
        try:
            return await self._ask("GET", path, customer, params)
        except httpx.TransportError as error:
            raise Unavailable(f"GET {path}: {error}", sent=True) from error

    async def post(self, path: str, *, customer: str | None) -> Envelope:
        """One request and never a second one. Raises `Unavailable`, whose `sent` says whether it may have had an effect."""
        try:
            return await self._ask("POST", path, customer, None)
        except httpx.TransportError as error:
            sent = not isinstance(error, httpx.ConnectError)
            raise Unavailable(f"POST {path}: {error}", sent=sent) from error

    async def close(self) -> None:
        await self._http.close()

    async def _ask(
        self, method: str, path: str, customer: str | None, params: Mapping[str, str | int] | None
    ) -> Envelope:
        if customer is not None and not customer.isprintable():
            raise Rejected(f"{method} {path}: not sent, for the customer's name holds a control character")
        token = self._token()
        await self._wait_for_turn(token)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if customer is not None:
            headers["X-Customer"] = customer
        content = b"{}" if method == "POST" else None
        if content:
            headers["Content-Type"] = "application/json"
        answer = await self._http.request(method, self.base_url + path, headers=headers, params=params, content=content)
        return self._read(answer, f"{method} {path}")

    def _read(self, answer: httpx.Response, tried: str) -> Envelope:
        if len(answer.content) > LARGEST_ANSWER:
            raise BadAnswer(f"{tried}: an answer of {len(answer.content)} bytes, which is too large to be read")
        try:
            return read(answer.status_code, answer.headers, answer.content, tried=tried, now=self._clock.now())
        except Throttled as throttled:
            if self._bucket is not None and throttled.after:
                self._bucket.hold(self._clock.monotonic(), throttled.after)
            raise

    async def _wait_for_turn(self, token: str) -> None:
        """Raises `Throttled` instead of waiting for long, so that no caller outlives its deadline here."""
        if self._limit is None:
            return
        self._bucket = bucket_of(self.base_url, token, self._limit.rate, self._limit.burst)
        now = self._clock.monotonic()
        delay = self._bucket.delay(now)
        if delay > max(_LONGEST_QUEUE, 1.5 / self._limit.rate):
            if self._bucket.is_held(now):
                raise Throttled(f"{self.base_url} asked for patience: nothing is sent for {delay:.0f} s", delay)
            raise NoTurn(f"{self.base_url}: no turn for another {delay:.0f} s under the limit of its token", delay)
        self._bucket.take(now)
        if delay > 0:
            await self._clock.sleep(delay)
