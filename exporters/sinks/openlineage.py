"""The sink for any backend that takes OpenLineage events over HTTP."""

import asyncio
import gzip
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta

from collector.errors import SourceError, Throttled, Unavailable
from collector.http import HttpClient
from collector.logs import fields
from collector.model import EventKind, Outgoing
from collector.oauth import Grant, Tokens
from config.sinks import OpenLineageSink as Settings
from exporters.sinks.base import Context, Delivered, Finding, Outcome, Park, Retry
from exporters.sinks.http import Answer, ask, each, remedy, trouble
from exporters.sinks.lineage_batch import SETTINGS, Form, encoded, outcomes

_log = logging.getLogger("lineage.delivery")

BATCH_BYTES = 1024 * 1024
"""The size of a batch, before compression: many servers and gateways take no larger body unless they are configured to."""
WITHOUT_BATCHES = 600.0
"""Seconds for which events go one by one after the backend turned out to take no batches."""


def verdict(answer: Answer) -> Outcome:
    """What the answer to a posted event means. 2xx: taken, unless a page of HTML came with it, as a proxy has it for a login. An
    error about the event itself parks it.
    """
    if answer.status is not None and 200 <= answer.status < 300:
        return _page(answer) if answer.is_page else Delivered()
    if (known := trouble(answer)) is not None:
        return known
    if answer.status is not None and answer.status >= 500:
        return Retry(answer.cause)
    return Park(answer.cause)


def _page(answer: Answer) -> Outcome:
    return Retry(f"{answer.cause}; a page of HTML is not what a backend answers", slow=True)


def _without_token(error: SourceError) -> Retry:
    """Why there is no token. The event was not sent, or refused."""
    after = error.after if isinstance(error, Throttled) else None
    passing = isinstance(error, Throttled | Unavailable)
    return Retry(str(error), None if after is None else timedelta(seconds=after), slow=not passing)


class Endpoint:
    """Where events go: its address and, below it, the one for batches; credentials, compression. `longest` is how long a
    request may take, with a token if it needs one.
    """

    def __init__(
        self,
        url: str,
        http: HttpClient,
        *,
        timeout: timedelta,
        zipped: bool,
        key: Callable[[], str] | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self.url, self.batch_url = url, f"{url}/batch"
        self.longest = timeout if tokens is None else 2 * timeout
        self._http, self._zipped = http, zipped
        self._key, self._tokens = key, tokens

    async def send(self, url: str, body: bytes, seconds: float) -> Answer | Retry:
        """Post the body, compressed if this backend gets it so; `Retry` where it could not be sent or took too long."""
        headers = {"Content-Encoding": "gzip"} if self._zipped else {}
        sent = gzip.compress(body, compresslevel=3, mtime=0) if self._zipped else body
        if self._tokens is None:
            return await self.post(url, sent, headers, timeout=seconds)
        try:
            async with asyncio.timeout(seconds):
                return await self.post(url, sent, headers)
        except TimeoutError:
            return Retry(f"POST {url} took longer than {seconds:.0f} s with its token", unanswered=True)

    async def post(
        self, url: str, body: bytes, headers: dict[str, str], *, timeout: float | None = None
    ) -> Answer | Retry:
        """One request, with a second one under a new token where the backend refused the old one."""
        if self._tokens is None:
            return await self._post_as(self._key() if self._key is not None else None, url, body, headers, timeout)
        try:
            token = await self._tokens.current()
            answer = await self._post_as(token, url, body, headers, timeout)
            if answer.status == 401:
                token = await self._tokens.current(refused=token)
                answer = await self._post_as(token, url, body, headers, timeout)
        except SourceError as error:
            return _without_token(error)
        return answer

    async def _post_as(
        self, bearer: str | None, url: str, body: bytes, headers: dict[str, str], timeout: float | None
    ) -> Answer:
        authorization = {"Authorization": f"Bearer {bearer}"} if bearer is not None else {}
        return await ask(self._http, "POST", url, headers=headers | authorization, content=body, timeout=timeout)

    async def close(self) -> None:
        await self._http.close()


class OpenLineageSink:
    """Posts each event unchanged, `concurrency` at a time."""

    wants = frozenset(EventKind)
    parallel = True
    rechecks = False

    def __init__(self, endpoint: Endpoint, *, concurrency: int) -> None:
        self._endpoint = endpoint
        self.capacity = concurrency
        self.longest_attempt = endpoint.longest

    def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        return each(batch, self._one)

    async def _one(self, item: Outgoing) -> Outcome:
        answer = await self._endpoint.send(self._endpoint.url, item.body, self.longest_attempt.total_seconds())
        return answer if isinstance(answer, Retry) else verdict(answer)

    async def recheck(self, terminal: Outgoing) -> Outcome:
        return Delivered()

    async def check(self) -> list[Finding]:
        """Post an empty body, which should be refused as an invalid event, not for credentials or route; then empty batches."""
        answer = await self._endpoint.post(self._endpoint.url, b"", {}, timeout=_CHECK)
        if isinstance(answer, Retry):
            return [Finding("token", ok=False, detail=answer.cause, remedy=_NO_GRANT)]
        if (to_do := remedy(answer)) is not None:
            return [Finding("endpoint", ok=False, detail=answer.cause, remedy=to_do)]
        found = Finding("endpoint", ok=True, detail=_answered(self._endpoint.url, answer.status))
        return [found, *await self._check_batches()]

    async def _check_batches(self) -> list[Finding]:
        """Whether the backend takes batches though none are configured."""
        for form, setting in SETTINGS.items():
            if _takes(await self._empty_batch(form)):
                detail = (
                    f"{self._endpoint.batch_url} takes an empty batch: try {setting}, for many events in one request"
                )
                return [Finding("batches", ok=True, detail=detail)]
        return []

    async def _empty_batch(self, form: Form) -> Answer | Retry:
        return await self._endpoint.post(self._endpoint.batch_url, encoded(form, ()), {}, timeout=_CHECK)

    async def close(self, deadline: float) -> None:
        await self._endpoint.close()


class BatchingSink(OpenLineageSink):
    """Posts up to `batch` events, each of another strand, in one request, and `concurrency` requests at a time.

    An event goes alone, to the endpoint of single events, where it is the only one, where it failed before, and where
    the answer to its batch does not say what became of it: an event that the backend cannot take delays no other.
    """

    def __init__(self, endpoint: Endpoint, context: Context, form: Form, *, batch: int, concurrency: int) -> None:
        super().__init__(endpoint, concurrency=batch * concurrency)
        self.batch = batch
        self._form, self._name, self._clock = form, context.sink, context.clock
        self._largest, self._taken = BATCH_BYTES, 0  # bytes of events
        self._batches_from = 0.0

    async def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        ends = self._clock.monotonic() + self.longest_attempt.total_seconds()
        parts = deque(self._parts(batch))
        while parts:
            part = parts.popleft()
            if len(part) == 1 or self._left(ends) <= 0:
                for item in part:
                    yield item, await self._alone(item, ends)
                continue
            answer = await self._endpoint.send(self._endpoint.batch_url, self._encoded(part), self._left(ends))
            if _is_too_large(answer):
                self._largest = max(_size(part) // 2, self._taken)
                parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
            elif (found := together(answer, len(part))) is not None:
                self._taken = max(_size(part), self._taken)
                for answered in zip(part, found, strict=True):
                    yield answered
            else:
                taken = True
                for item in part:
                    outcome = await self._alone(item, ends)
                    taken &= isinstance(outcome, Delivered)
                    yield item, outcome
                if taken:
                    self._send_singly(answer)

    def _parts(self, batch: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
        """What goes into one request each."""
        batches = self._clock.monotonic() >= self._batches_from
        part: list[Outgoing] = []
        size = 0
        for item in batch:
            if item.attempts or not batches:
                yield [item]
                continue
            if part and (len(part) == self.batch or size + len(item.body) > self._largest):
                yield part
                part, size = [], 0
            part.append(item)
            size += len(item.body)
        if part:
            yield part

    def _encoded(self, part: Sequence[Outgoing]) -> bytes:
        return encoded(self._form, [item.body for item in part])

    async def _alone(self, item: Outgoing, ends: float) -> Outcome:
        if (seconds := self._left(ends)) <= 0:
            return Retry(
                f"not sent: events before it took {self.longest_attempt.total_seconds():.0f} s", sink_wide=False
            )
        answer = await self._endpoint.send(self._endpoint.url, item.body, seconds)
        return answer if isinstance(answer, Retry) else verdict(answer)

    def _left(self, ends: float) -> float:
        return ends - self._clock.monotonic()

    def _send_singly(self, answer: Answer | Retry) -> None:
        """For a while: the backend took each event of a batch, but not the batch."""
        self._batches_from = self._clock.monotonic() + WITHOUT_BATCHES
        then = f"events go one by one for {WITHOUT_BATCHES / 60:.0f} minutes; `lineage-collector check` tries batches"
        _log.warning("sink.batch_refused", extra=fields(sink=self._name, cause=answer.cause, then=then))

    async def _check_batches(self) -> list[Finding]:
        answer = await self._empty_batch(self._form)
        if _takes(answer):
            return [Finding("batches", ok=True, detail=f"{self._endpoint.batch_url} takes an empty batch")]
        for form, setting in SETTINGS.items():
            if form != self._form and _takes(await self._empty_batch(form)):
                return [Finding("batches", ok=False, detail=answer.cause, remedy=f"set {setting}: it takes that form")]
        to_do = _NO_GRANT if isinstance(answer, Retry) else remedy(answer)
        if isinstance(answer, Answer) and answer.status in _NO_ROUTE:
            to_do = "remove batch from this sink: the backend has no endpoint for batches there"
        return [Finding("batches", ok=to_do is None, detail=answer.cause, remedy=to_do)]


_CHECK = 15.0
_NO_ROUTE = {404, 405}
_NO_GRANT = "check oauth2, network.proxy and network.ca_file of this sink, and whether the identity provider is up"


def _size(part: Sequence[Outgoing]) -> int:
    return sum(len(item.body) for item in part)


def _is_too_large(answer: Answer | Retry) -> bool:
    return isinstance(answer, Answer) and answer.status == 413


def _takes(answer: Answer | Retry) -> bool:
    return isinstance(answer, Answer) and isinstance(verdict(answer), Delivered)


def together(answer: Answer | Retry, count: int) -> list[Outcome] | None:
    """What the answer to a batch of `count` events means for each, None where each has to be sent alone to know."""
    whole = answer if isinstance(answer, Retry) else verdict(answer)
    if isinstance(answer, Answer) and isinstance(whole, Delivered):
        return outcomes(answer, count)
    if isinstance(whole, Retry) and not (isinstance(answer, Answer) and answer.status in _NO_ROUTE):
        return [whole] * count
    return None


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
    endpoint = Endpoint(
        f"{settings.url}/{settings.endpoint.lstrip('/')}",
        context.http,
        timeout=settings.timeout,
        zipped=settings.compression == "gzip",
        key=settings.credential.get if settings.credential is not None else None,
        tokens=tokens,
    )
    if (batch := settings.batch) is not None:
        return BatchingSink(endpoint, context, batch.form, batch=batch.size, concurrency=settings.concurrency)
    return OpenLineageSink(endpoint, concurrency=settings.concurrency)
