"""The sink for any backend that takes OpenLineage events over HTTP."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

from collector.errors import SourceError, Throttled, Unavailable
from collector.http import HttpClient
from collector.model import EventKind, Outgoing
from collector.oauth import Grant, Tokens
from config.sinks import OpenLineageSink as Settings
from exporters.sinks.base import Context, Delivered, Finding, Outcome, Park, Retry
from exporters.sinks.http import Answer, ask, each, remedy, trouble


def verdict(answer: Answer) -> Outcome:
    """What the answer to a posted event means. 2xx: taken. An error about the event itself parks it."""
    if answer.status is not None and 200 <= answer.status < 300:
        return Delivered()
    if (known := trouble(answer)) is not None:
        return known
    if answer.status is not None and answer.status >= 500:
        return Retry(answer.cause)
    return Park(answer.cause)


def _without_token(error: SourceError) -> Retry:
    """Why there is no token. The event was not sent, or refused."""
    after = error.after if isinstance(error, Throttled) else None
    passing = isinstance(error, Throttled | Unavailable)
    return Retry(str(error), None if after is None else timedelta(seconds=after), slow=not passing)


class OpenLineageSink:
    """Posts each event unchanged, `concurrency` at a time."""

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
        """One request, with a second one under a new token where the backend refused the old one."""
        if self._tokens is None:
            return await self._post_as(self._key() if self._key is not None else None, body, headers, timeout)
        try:
            token = await self._tokens.current()
            answer = await self._post_as(token, body, headers, timeout)
            if answer.status == 401:
                token = await self._tokens.current(refused=token)
                answer = await self._post_as(token, body, headers, timeout)
        except SourceError as error:
            return _without_token(error)
        return answer

    async def _post_as(self, bearer: str | None, body: bytes, headers: dict[str, str], timeout: float | None) -> Answer:
        authorization = {"Authorization": f"Bearer {bearer}"} if bearer is not None else {}
        return await ask(self._http, "POST", self._url, headers=headers | authorization, content=body, timeout=timeout)

    async def recheck(self, terminal: Outgoing) -> Outcome:
        return Delivered()

    async def check(self) -> list[Finding]:
        """Post an empty body: the endpoint should refuse it as an invalid event, not for credentials or route."""
        answer = await self._post(b"", {}, timeout=15.0)
        if isinstance(answer, Retry):
            return [Finding("token", ok=False, detail=answer.cause, remedy=_NO_GRANT)]
        if (to_do := remedy(answer)) is not None:
            return [Finding("endpoint", ok=False, detail=answer.cause, remedy=to_do)]
        return [Finding("endpoint", ok=True, detail=_answered(self._url, answer.status))]

    async def close(self, deadline: float) -> None:
        await self._http.close()


_NO_GRANT = "check oauth2, network.proxy and network.ca_file of this sink, and whether the identity provider is up"


def _answered(url: str, status: int | None) -> str:
    """What the answer to an empty body means, for people."""
    if status is not None and 200 <= status < 300:
        return f"{url} answers {status} to an empty body, which is not an event: is it an OpenLineage endpoint?"
    return f"{url} answers {status} to an empty body, as it should; only the first event shows whether it takes events"


def create(settings: Settings, context: Context) -> OpenLineageSink:
    tokens, oauth2 = None, settings.oauth2
    if oauth2 is not None:
        scope = " ".join(oauth2.scopes) or None
        grant = Grant(oauth2.token_url, oauth2.client_id, oauth2.credential.get, scope, oauth2.audience)
        tokens = Tokens(context.http, context.clock, grant)
    return OpenLineageSink(
        f"{settings.url}/{settings.endpoint.lstrip('/')}",
        context.http,
        concurrency=settings.concurrency,
        timeout=settings.timeout,
        zipped=settings.compression == "gzip",
        key=settings.credential.get if settings.credential is not None else None,
        tokens=tokens,
    )
