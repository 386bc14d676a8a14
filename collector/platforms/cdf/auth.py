"""Access tokens by OIDC client credentials: one refresh at a time, renewed before they expire."""

import asyncio
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from collector.clock import Clock
from collector.errors import AuthFailed, BadAnswer, SourceError, Throttled, Unavailable
from collector.http import HttpClient, retry_after
from collector.own_secrets import own_secrets
from collector.platforms.answers import parsed, words

LEEWAY = 30.0
"""Seconds before its end from which a token is no longer used, as cognite-sdk does."""
UNSAID_LIFETIME = 300.0
REFUSED_FOR = 5.0
"""Seconds for which a refusal is believed, so that waiting requests do not each ask again."""


class Tokens:
    """Gives the current token. `secret` is asked at every refresh: it may rotate."""

    def __init__(
        self,
        http: HttpClient,
        clock: Clock,
        *,
        url: str,
        client_id: str,
        secret: Callable[[], str],
        scope: str | None,
        audience: str | None,
    ) -> None:
        self._http, self._clock = http, clock
        self._url, self._client_id, self._secret = url, client_id, secret
        self._extra = {key: value for key, value in (("scope", scope), ("audience", audience)) if value}
        self._lock = asyncio.Lock()
        self._token, self._good_until = "", -math.inf
        self._refusal: tuple[float, str] | None = None

    async def current(self, *, refused: str | None = None) -> str:
        """A token that still holds. `refused` is one that the platform would not take: another one is fetched.

        Raises `AuthFailed` with the provider's own words, `Throttled`, `Unavailable` or `BadAnswer`.
        """
        async with self._lock:
            if self._token == refused or self._clock.monotonic() >= self._good_until:
                await self._refresh()
            return self._token

    async def _refresh(self) -> None:
        now = self._clock.monotonic()
        if self._refusal is not None and now < self._refusal[0]:
            raise AuthFailed(self._refusal[1])
        try:
            self._token, lifetime = _read(await self._ask(), self._tried)
        except AuthFailed as error:
            self._refusal = (now + REFUSED_FOR, str(error))
            raise
        own_secrets.learn(f"token of {self._client_id} from {self._url}", self._token)
        self._refusal = None
        self._good_until = now + lifetime - min(LEEWAY, lifetime / 2)

    async def _ask(self) -> Any:
        form = {"grant_type": "client_credentials", "client_id": self._client_id, "client_secret": self._secret()}
        try:
            answer = await self._http.request(
                "POST", self._url, data=form | self._extra, headers={"Accept": "application/json"}
            )
        except httpx.TransportError as error:
            raise Unavailable(f"{self._tried}: {type(error).__name__}: {error}") from error
        body = parsed(answer.content)
        if answer.status_code == 200:
            return body
        raise self._refused(answer, _words(body))

    def _refused(self, answer: httpx.Response, reason: str | None) -> SourceError:
        said = f"{self._tried}: status {answer.status_code}"
        if answer.status_code == 429:
            return Throttled(said, after=retry_after(answer.headers, self._clock.now()))
        if answer.status_code >= 500:
            return Unavailable(said)
        if reason is None:
            return AuthFailed(f"{said} and no reason; check auth.token_url and auth.tenant")
        return AuthFailed(f"{said}, {reason}; check client_id, client_secret, scopes and audience")

    @property
    def _tried(self) -> str:
        return f"the request for a token to the identity provider {urlsplit(self._url).netloc}"


def _words(body: Any) -> str | None:
    """`error` and `error_description` of a refusal."""
    if not isinstance(body, dict) or not isinstance(body.get("error"), str):
        return None
    description = body.get("error_description")
    text = f"{body['error']}: {description}" if isinstance(description, str) else body["error"]
    return words(text, 400)


def _read(body: Any, tried: str) -> tuple[str, float]:
    """The token and its lifetime in seconds, which may come as text."""
    token = body.get("access_token") if isinstance(body, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise BadAnswer(f"{tried}: status 200 without an access_token in JSON; check auth.token_url")
    try:
        lifetime = float(body.get("expires_in", UNSAID_LIFETIME))
    except (TypeError, ValueError):
        lifetime = UNSAID_LIFETIME
    return token, lifetime if 0 < lifetime < math.inf else UNSAID_LIFETIME
