"""The sink for any backend that takes OpenLineage events over HTTP."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from collector.clock import Clock
from collector.http import HttpClient
from collector.model import EventKind, Outgoing
from collector.own_secrets import own_secrets
from collector.redaction import capped, redacted
from config.sinks import OpenLineageSink as Settings
from exporters.posting import SHOWN, Answer, ask, each, trouble
from exporters.sink import Context, Delivered, Finding, Outcome, Park, Retry

TOKEN_MARGIN = 30.0
"""Seconds before its end at which a token is replaced."""


@dataclass(frozen=True, slots=True)
class Grant:
    """OAuth2 client credentials."""

    url: str
    client_id: str
    secret: Callable[[], str]
    scope: str | None
    audience: str | None


class Tokens:
    """Bearer tokens by client credentials, asked for anew before they end and after a 401, once for all who need one."""

    def __init__(self, grant: Grant, http: HttpClient, clock: Clock) -> None:
        self._grant, self._http, self._clock = grant, http, clock
        self._token: str | None = None
        self._until = 0.0
        self._asking = asyncio.Lock()

    def forget(self, header: str) -> None:
        """The backend refused this value. Another that came since then stays."""
        if header == f"Bearer {self._token}":
            self._token = None

    async def header(self) -> str | Retry:
        """The value of Authorization, or why there is none."""
        async with self._asking:
            if self._token is None or self._clock.monotonic() >= self._until:
                answer = await self._asked()
                told = answer.json
                if answer.status != 200 or not isinstance(told, dict) or not isinstance(told.get("access_token"), str):
                    return _refused(answer, told)
                self._token = told["access_token"]
                own_secrets.learn(f"token of {self._grant.client_id} from {self._grant.url}", self._token)
                self._until = self._clock.monotonic() + _seconds(told.get("expires_in")) - TOKEN_MARGIN
            return f"Bearer {self._token}"

    async def _asked(self) -> Answer:
        grant = self._grant
        form = {
            "grant_type": "client_credentials",
            "client_id": grant.client_id,
            "client_secret": grant.secret(),
            "scope": grant.scope,
            "audience": grant.audience,
        }
        body = urlencode({key: value for key, value in form.items() if value}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return await ask(self._http, "POST", grant.url, headers=headers, content=body)


def _seconds(told: Any) -> float:
    try:
        return float(told)
    except (TypeError, ValueError):
        return 300.0


def _refused(answer: Answer, told: Any) -> Retry:
    """The provider's own words and nothing else of its answer. No event was sent."""
    words = [str(told[key]) for key in ("error", "error_description") if key in told] if isinstance(told, dict) else []
    said = capped(redacted(", ".join(words)), SHOWN)
    came = f"answered {answer.status}" if answer.status is not None else "gave no answer"
    passing = answer.status is None or answer.status in {408, 429} or answer.status >= 500
    cause = f"{answer.what} for a token {came}{': ' if said else ''}{said}"
    return Retry(cause, answer.after, slow=not passing)


def verdict(answer: Answer) -> Outcome:
    """What an answer to a posted event means. 2xx: taken. What a backend says of the event itself parks it."""
    if answer.status is not None and 200 <= answer.status < 300:
        return Delivered()
    if (known := trouble(answer)) is not None:
        return known
    if answer.status is not None and answer.status >= 500:
        return Retry(answer.cause)
    return Park(answer.cause)


class OpenLineageSink:
    """Posts each event as it is, `concurrency` at a time."""

    wants = frozenset(EventKind)
    rechecks = False

    def __init__(
        self,
        url: str,
        http: HttpClient,
        *,
        concurrency: int,
        timeout: timedelta,
        zipped: bool,
        key: Callable[[], str] | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self._url, self._http, self._zipped = url, http, zipped
        self._key, self._tokens = key, tokens
        self.capacity = concurrency
        self.longest_attempt = timeout if tokens is None else 2 * timeout

    def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        return each(batch, self._one)

    async def _one(self, item: Outgoing) -> Outcome:
        body = gzip.compress(item.body, compresslevel=3, mtime=0) if self._zipped else item.body
        headers = {"Content-Encoding": "gzip"} if self._zipped else {}
        try:
            async with asyncio.timeout(self.longest_attempt.total_seconds()):
                answer = await self._post(body, headers)
        except TimeoutError:
            return Retry(f"POST {self._url} took longer than {self.longest_attempt} with its token", unanswered=True)
        return answer if isinstance(answer, Retry) else verdict(answer)

    async def _post(self, body: bytes, headers: dict[str, str], *, timeout: float | None = None) -> Answer | Retry:
        """One request, with a second try under a new token where the first was refused for the old one."""
        if self._tokens is None:
            authorization = {"Authorization": f"Bearer {self._key()}"} if self._key is not None else {}
            return await ask(
                self._http, "POST", self._url, headers=headers | authorization, content=body, timeout=timeout
            )
        for _ in range(2):
            token = await self._tokens.header()
            if isinstance(token, Retry):
                return token
            told = {**headers, "Authorization": token}
            answer = await ask(self._http, "POST", self._url, headers=told, content=body, timeout=timeout)
            if answer.status != 401:
                break
            self._tokens.forget(token)
        return answer

    async def recheck(self, terminal: Outgoing) -> Outcome:
        return Delivered()

    async def check(self) -> list[Finding]:
        """Ask without sending anything: an empty body must be refused as the event's fault, not as ours."""
        answer = await self._post(b"", {}, timeout=15.0)
        if isinstance(answer, Retry):
            return [Finding("token", ok=False, detail=answer.cause, remedy="check oauth2 of this sink")]
        if answer.status in {401, 403}:
            remedy = "check the API key or oauth2 of this sink"
            return [Finding("endpoint", ok=False, detail=answer.cause, remedy=remedy)]
        if (known := trouble(answer)) is not None:
            return [Finding("endpoint", ok=False, detail=known.cause, remedy="check url, endpoint and network")]
        return [Finding("endpoint", ok=True, detail=f"{self._url} answers ({answer.status} to an empty body)")]

    async def close(self, deadline: float) -> None:
        await self._http.close()


def create(settings: Settings, context: Context) -> OpenLineageSink:
    tokens, oauth2 = None, settings.oauth2
    if oauth2 is not None:
        scope = " ".join(oauth2.scopes) or None
        grant = Grant(oauth2.token_url, oauth2.client_id, oauth2.credential.get, scope, oauth2.audience)
        tokens = Tokens(grant, context.http, context.clock)
    return OpenLineageSink(
        f"{settings.url}/{settings.endpoint.lstrip('/')}",
        context.http,
        concurrency=settings.concurrency,
        timeout=settings.timeout,
        zipped=settings.compression == "gzip",
        key=settings.credential.get if settings.credential is not None else None,
        tokens=tokens,
    )
