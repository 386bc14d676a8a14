"""What the HTTP sinks share: a request that always returns an answer, and a batch with its outcomes as they come."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson

from collector.http import LARGEST_RECEIPT, AnswerTooLarge, HttpClient, retry_after
from collector.model import Outgoing
from collector.redaction import redacted
from exporters.sinks.base import Outcome, Retry

SHOWN = 300
"""Characters of an answer's text that go into a cause."""
_LOOKED_AT = 16 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended. `status` is None without an answer; `sent` is False where the server was never reached."""

    what: str
    status: int | None
    sent: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body as JSON, None where it is not JSON (Marquez also returns Jetty's HTML pages)."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def is_page(self) -> bool:
        """Whether it is a page of HTML, as a login, a proxy or a gateway sends it. XML is not: some backends answer so."""
        start = self.body.removeprefix(b"\xef\xbb\xbf").lstrip()[:5].lower()
        return start.startswith((b"<!", b"<html"))

    @property
    def cause(self) -> str:
        """What was tried and what came back, for people."""
        text = " ".join(redacted(_shown(self.body)).split())[:SHOWN]
        came = (
            f"answered {self.status}" if self.status is not None else "got no answer" if self.sent else "was not sent"
        )
        return f"{self.what} {came}{': ' if text else ''}{text}"

    @property
    def after(self) -> timedelta | None:
        seconds = retry_after(self.headers, datetime.now(UTC))
        return None if seconds is None else timedelta(seconds=seconds)


def _shown(body: bytes) -> str:
    """The beginning of an answer's text; of an HTML page only the title, where Jetty and gateways put the cause."""
    text = body[:_LOOKED_AT].decode(errors="replace")
    title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    return title[1] if title is not None else text


async def ask(
    http: HttpClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    timeout: float | None = None,
) -> Answer:
    """One request; network errors become answers without a status. The status counts even when the answer is too large,
    else an event that was taken would be sent again and again.
    """
    what = f"{method} {url}"
    sent = {"Content-Type": "application/json", **(headers or {})} if content is not None else dict(headers or {})
    try:
        got = await http.send(method, url, headers=sent, content=content, timeout=timeout, largest=LARGEST_RECEIPT)
    except httpx.ConnectError as error:
        return Answer(what, None, sent=False, body=str(error).encode())
    except AnswerTooLarge as error:
        return Answer(what, error.status, headers=error.headers, body=str(error).encode())
    except httpx.TransportError as error:
        return Answer(what, None, body=(str(error) or type(error).__name__).encode())
    return Answer(what, got.status, headers=got.headers, body=got.body)


def trouble(answer: Answer) -> Retry | None:
    """The failures that mean the same for every backend: no answer, a gateway's error, a request to wait, wrong
    credentials or route. None where the backend itself judged the event.

    A gateway that gave up (502, 504) may have passed the request on.
    """
    if answer.status is None:
        return Retry(answer.cause, unanswered=answer.sent)
    if answer.status in {502, 504}:
        return Retry(answer.cause, answer.after, unanswered=True)
    if answer.status in {408, 429, 503}:
        return Retry(answer.cause, answer.after)
    if answer.status in {401, 403, 404, 405, 407} or 300 <= answer.status < 400:
        return Retry(answer.cause, slow=True)
    return None


def remedy(answer: Answer) -> str | None:
    """What to do about an answer that no backend gives when it works, for `check`; None for one that it may give."""
    match answer.status:
        case None:
            return "check url, network.proxy and network.ca_file of this sink, and whether the server is up"
        case 401 | 403:
            return "check the API key or oauth2 of this sink, and the url: a proxy may answer so, too"
        case 407:
            return "check user and password in network.proxy"
        case 404 | 405:
            return "check url and endpoint of this sink: nothing takes such a request there"
        case 408 | 429:
            return "wait a minute and try again; if it stays so, lower concurrency of this sink"
        case status if 300 <= status < 400:
            return "check the url of this sink: the answer leads to another address, which may be that of a login"
        case status if status >= 500:
            return "look at the server's own log, and at that of a gateway before it"
    return "check the url of this sink: a page of HTML is not what a backend answers" if answer.is_page else None


async def each(
    batch: Sequence[Outgoing], send: Callable[[Outgoing], Awaitable[Outcome]]
) -> AsyncIterator[tuple[Outgoing, Outcome]]:
    """Send the events concurrently and yield each outcome as it comes. Closed early, it cancels the rest."""
    if len(batch) == 1:  # nearly always, while events flow: without a task of its own
        yield batch[0], await send(batch[0])
        return
    tasks = {asyncio.ensure_future(send(item)): item for item in batch}
    try:
        while tasks:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield tasks.pop(task), task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
