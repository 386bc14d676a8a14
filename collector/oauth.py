"""Access tokens by OAuth2 client credentials, for sources and sinks: one request at a time, renewed before they end.

Not authlib's client (1.9, measured): 450 ms and 9 MiB at import and 18 MB on disk for cryptography, its `expires_in` of a
minute or less fetches a token for each request and `nan` raises; secrets that rotate, refusals and 401s would still have to be handled here.
"""

import asyncio
import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from collector.clock import Clock
from collector.errors import AuthFailed, BadAnswer, SourceError, Throttled, Unavailable
from collector.http import LARGEST_TOKEN, AnswerTooLarge, HttpClient, retry_after
from collector.lenient_json import parsed
from collector.names import clean
from collector.redaction import capped, redacted
from collector.secret_registry import secret_registry

LEEWAY = 30.0
"""Seconds before its end from which a token is no longer used, as cognite-sdk does; at most half of its life."""
SHORTEST_USE = 1.0
"""Seconds for which a token is used at least, whatever its life: a server that no longer accepts it answers 401."""
UNSAID_LIFETIME = 300.0
REFUSED_FOR = 5.0
"""Seconds for which a refusal is reused, so that requests and events do not each fetch a token again."""
_LONGEST_WORDS = 400


@dataclass(frozen=True, slots=True)
class Grant:
    """The token endpoint and the client. `secret` is read at every refresh: it may rotate."""

    url: str
    client_id: str
    secret: Callable[[], str]
    scope: str | None = None
    audience: str | None = None

    def form(self) -> dict[str, str]:
        extra = {"scope": self.scope, "audience": self.audience}
        return {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.secret(),
            **{key: value for key, value in extra.items() if value},
        }


class Tokens:
    """The current token, shared by all requests."""

    def __init__(self, http: HttpClient, clock: Clock, grant: Grant) -> None:
        self._http, self._clock, self._grant = http, clock, grant
        self._lock = asyncio.Lock()
        self._token, self._good_until = "", -math.inf
        self._failure: SourceError | None = None
        self._failures, self._believed_until = 0, -math.inf

    async def current(self, *, refused: str | None = None) -> str:
        """A token that is still valid. `refused` is one that the server did not accept: another one is fetched.

        Raises `AuthFailed` with the provider's message, `Throttled`, `Unavailable` or `BadAnswer`; to all callers that waited
        for the same request, and for as long as the provider requested or a refusal is reused.
        """
        known = self._failures
        async with self._lock:
            if self._token == refused or self._clock.monotonic() >= self._good_until:
                self._raise_again(known)
                await self._refresh()
            return self._token

    def _raise_again(self, known: int) -> None:
        left = self._believed_until - self._clock.monotonic()
        if self._failure is None or (left <= 0 and known == self._failures):
            return
        error = copy(self._failure)
        if isinstance(error, Throttled) and error.after is not None:
            error.after = max(left, 0.0)
        raise error

    async def _refresh(self) -> None:
        try:
            token, lifetime = _read(parsed((await self._ask()).content), self._tried)
        except SourceError as error:
            self._failure, self._failures = error, self._failures + 1
            self._believed_until = self._clock.monotonic() + _believed_for(error)
            raise
        secret_registry.learn(f"token of {self._grant.client_id} from {self._grant.url}", token)
        self._token, self._failure = token, None
        self._good_until = self._clock.monotonic() + max(SHORTEST_USE, lifetime - min(LEEWAY, lifetime / 2))

    async def _ask(self) -> httpx.Response:
        """An answer with status 200."""
        form, headers = self._grant.form(), {"Accept": "application/json"}
        try:
            answer = await self._http.request(
                "POST", self._grant.url, data=form, headers=headers, largest=LARGEST_TOKEN
            )
        except AnswerTooLarge as error:
            raise BadAnswer(f"{self._tried}: {error}, which is not a token; check the token URL") from error
        except httpx.TransportError as error:
            raise Unavailable(f"{self._tried}: {type(error).__name__}: {error}") from error
        if answer.status_code != 200:
            raise self._refused(answer, _words(parsed(answer.content)))
        return answer

    def _refused(self, answer: httpx.Response, reason: str | None) -> SourceError:
        said = f"{self._tried}: status {answer.status_code}{f', {reason}' if reason else ''}"
        if answer.status_code == 429:
            return Throttled(said, after=retry_after(answer.headers, self._clock.now()))
        if answer.status_code == 408 or answer.status_code >= 500:
            return Unavailable(said)
        if reason is None:
            return AuthFailed(f"{said} without a reason; check the token URL (token_url, tenant)")
        return AuthFailed(f"{said}; check client_id, client_secret, scopes and audience")

    @property
    def _tried(self) -> str:
        return f"the request for a token to the identity provider {urlsplit(self._grant.url).netloc}"


def _believed_for(error: SourceError) -> float:
    if isinstance(error, Throttled):
        return error.after or 0.0
    return REFUSED_FOR if isinstance(error, AuthFailed) else 0.0


def _words(body: Any) -> str | None:
    """`error` and `error_description` of a refusal."""
    if not isinstance(body, dict) or not isinstance(body.get("error"), str):
        return None
    description = body.get("error_description")
    text = f"{body['error']}: {description}" if isinstance(description, str) else body["error"]
    return capped(redacted(clean(text)), _LONGEST_WORDS)


def _read(body: Any, tried: str) -> tuple[str, float]:
    """The token and its lifetime in seconds, which may come as text."""
    token = body.get("access_token") if isinstance(body, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise BadAnswer(f"{tried}: status 200 without an access_token in JSON; check the token URL")
    try:
        lifetime = float(body.get("expires_in", UNSAID_LIFETIME))
    except (TypeError, ValueError, OverflowError):
        lifetime = UNSAID_LIFETIME
    return token, lifetime if 0 < lifetime < math.inf else UNSAID_LIFETIME
