"""The one place that makes HTTP clients: httpx's API on aiohttp's transport.

httpx's own pool slows down with connections (measured: 1,000 requests/s on one, 230 to 390 on twenty), the aiohttp
transport does not.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from time import monotonic
from typing import Any

import aiohttp
import httpx
from yarl import URL

from collector import __version__
from collector.redaction import redacted
from collector.tls import Trust, tls_context, wrong_certificate

USER_AGENT = f"lineage-collector/{__version__}"
_MIB = 1024 * 1024
LARGEST_PAGE = 32 * _MIB
"""Limit of a page of a list, in decompressed bytes (as all limits here). No server may fill the memory."""
LARGEST_DETAILS = 16 * _MIB
"""Limit of an answer about one object."""
LARGEST_TOKEN = 1 * _MIB
"""Limit of an identity provider's answer."""
LARGEST_RECEIPT = 4 * _MIB
"""Limit of a sink's answer to an event. Marquez answers a run with all of its facets."""


@dataclass(frozen=True, slots=True)
class HttpOptions(Trust):
    """How to reach one server. Files are read when the client is made; headers are sent with every request."""

    proxy: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout: float = 5.0
    timeout: float = 60.0
    connections: int = 8


class AnswerTooLarge(httpx.RemoteProtocolError):
    """An answer that was not read to its end."""

    def __init__(self, status: int, headers: Mapping[str, str], largest: int, *, request: httpx.Request) -> None:
        super().__init__(f"status {status}, and an answer of more than {_bytes(largest)}", request=request)
        self.status, self.headers = status, headers


def _bytes(number: int) -> str:
    return f"{number // _MIB} MiB" if number % _MIB == 0 else f"{number} bytes"


RequestListener = Callable[[str, int | None, float, Mapping[str, str]], None]
"""Called after every request: URL, status or None, seconds, answer headers."""


@dataclass(frozen=True, slots=True)
class Received:
    """An answer, its body unpacked. The names of its `headers` are found in upper and in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def response(self, request: httpx.Request) -> httpx.Response:
        kept = [
            (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
            for name, value in self.headers.items()
            if name.lower() not in _HEADERS_OF_THE_WIRE
        ]
        return httpx.Response(self.status, headers=kept, content=self.body, request=request)


class HttpClient:
    """Sends requests and raises httpx's errors: the caller decides what they mean.

    `httpx.ConnectError`: nothing was sent. Any other `httpx.TransportError`: the request may have had an effect.
    One of them, `AnswerTooLarge`, still has the status and the headers of the answer.
    """

    def __init__(self, options: HttpOptions, on_request: RequestListener | None = None) -> None:
        self._options = options
        self._on_request = on_request
        self._transport: _Transport | None = None
        given = {name.lower() for name in options.headers}
        ours = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate"}
        self._headers = {name: value for name, value in ours.items() if name.lower() not in given} | dict(
            options.headers
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | list[tuple[str, str | int | float | bool | None]] | None = None,
        content: bytes | None = None,
        json: Any = None,
        data: Mapping[str, str] | None = None,
        timeout: float | None = None,
        largest: int = LARGEST_PAGE,
    ) -> httpx.Response:
        """One request, redirects not followed, the whole answer read, or `AnswerTooLarge` raised at `largest` bytes.
        `url` is sent unchanged: percent-encode path parts yourself with nothing left safe.
        """
        if params is None and json is None and data is None:
            got = await self.send(method, url, headers=headers, content=content, timeout=timeout, largest=largest)
            return got.response(httpx.Request(method, _parsed(url)))
        all_headers = httpx.Headers(self._headers, encoding="utf-8")
        all_headers.update(httpx.Headers(headers, encoding="utf-8"))
        request = httpx.Request(
            method, _parsed(url), headers=all_headers, params=params, content=content, json=json, data=data
        )
        wire = [(name.decode(), value.decode()) for name, value in request.headers.raw]
        body = await request.aread()
        got = await self._exchanged(method, str(request.url), url, wire, body, timeout, largest)
        return got.response(request)

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout: float | None = None,
        largest: int = LARGEST_PAGE,
    ) -> Received:
        """As `request`, without httpx's objects, which cost as much as a third of a small request."""
        own = {name.lower() for name in headers or ()}
        wire = [(name, value) for name, value in self._headers.items() if name.lower() not in own]
        return await self._exchanged(method, url, url, [*wire, *(headers or {}).items()], content, timeout, largest)

    async def _exchanged(
        self,
        method: str,
        url: str,
        reported: str,
        headers: list[tuple[str, str]],
        content: bytes | None,
        timeout: float | None,
        largest: int,
    ) -> Received:
        """`reported` is the URL as the caller wrote it."""
        limits = _timeouts(timeout or self._options.timeout, self._options.connect_timeout)
        started = monotonic()
        try:
            got = await self._opened().exchange(method, url, headers, content, limits, largest)
        except AnswerTooLarge as error:
            self._report(reported, error.status, started, error.headers)
            raise
        except httpx.TransportError:
            self._report(reported, None, started, {})
            raise
        self._report(reported, got.status, started, got.headers)
        return got

    async def close(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    def _report(self, url: str, status: int | None, started: float, headers: Mapping[str, str]) -> None:
        if self._on_request is not None:
            self._on_request(url, status, monotonic() - started, headers)

    def _opened(self) -> "_Transport":
        if self._transport is None:
            self._transport = _transport(self._options)
        return self._transport


@lru_cache(maxsize=256)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


@lru_cache(maxsize=256)
def _verbatim(url: str) -> URL:
    if found := _PLAIN.fullmatch(url):  # in a fifth of the time, and most URLs are asked for once
        return URL(f"{_parsed(found[1])}{found[2]}", encoded=True)
    return URL(str(_parsed(url)), encoded=True)


_PLAIN = re.compile(r"(https?://[^/?#]+)((?:/[\w~-][\w.~-]*)+)", re.ASCII)
"""Origin and path of a URL whose path no rule of normalisation changes."""


@lru_cache(maxsize=64)
def _timeouts(read: float, connect: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=read, sock_connect=connect)


def _transport(options: HttpOptions) -> "_Transport":
    context = tls_context(options)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=options.connections, ssl=context)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return _Transport(options.proxy, session)


class _Transport:
    """Sends URLs unchanged and distinguishes "never sent" from "no answer".

    aiohttp would decode `%3B` and fold `%2E%2E` in a path; the package httpx-aiohttp does not prevent that, and treats a
    connection that closed without an answer as one that was never made.
    """

    def __init__(self, proxy: str | None, make_session: Callable[[], aiohttp.ClientSession]) -> None:
        self._proxy = proxy
        self._make_session = make_session
        self._session: aiohttp.ClientSession | None = None

    async def exchange(
        self,
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        content: bytes | None,
        limits: aiohttp.ClientTimeout,
        largest: int,
    ) -> Received:
        """Raises httpx's errors."""
        if self._session is None:
            self._session = self._make_session()
        try:
            async with self._session.request(
                method,
                _verbatim(url),
                headers=headers,
                data=content or None,
                allow_redirects=False,
                auto_decompress=False,
                compress=False,
                proxy=self._proxy,
                timeout=limits,
            ) as answer:
                body = await _read(answer, largest)
        except _TooLarge:
            request = httpx.Request(method, _parsed(url))
            raise AnswerTooLarge(answer.status, answer.headers, largest, request=request) from None
        except (aiohttp.ClientError, TimeoutError, OSError, _Unreadable) as error:
            raise _translated(error, httpx.Request(method, _parsed(url))) from error
        return Received(answer.status, answer.headers, body)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


_HEADERS_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class _Unreadable(Exception):
    """An answer came whose body cannot be read."""


class _TooLarge(Exception):
    """The body is longer than the limit."""


async def _read(answer: aiohttp.ClientResponse, largest: int) -> bytes:
    """The body, unpacked as it comes, so that a small answer cannot exceed the limit unpacked."""
    unpacked = _Unpacked(answer.headers.get("Content-Encoding", ""), largest)
    parts: list[bytes] = []
    async for packed in answer.content.iter_any():
        try:
            parts.append(unpacked.next(packed))
        except _TooLarge:
            answer.close()
            raise
    unpacked.end()
    return b"".join(parts)


class _Unpacked:
    """A body part by part. Raises `_Unreadable`, and `_TooLarge` once more than `largest` bytes came out."""

    def __init__(self, encoding: str, largest: int) -> None:
        self._encoding, self._left = encoding.strip().lower(), largest
        self._inflater = None
        self._begun = False
        if self._encoding in {"gzip", "x-gzip", "deflate"}:
            self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either header, gzip's or zlib's

    def next(self, packed: bytes) -> bytes:
        plain = packed
        if self._inflater is not None and not self._inflater.eof:
            try:
                plain = self._inflater.decompress(packed, self._left + 1)
            except zlib.error as error:
                raise _Unreadable(f"the answer cannot be decompressed: {error}") from error
        elif self._inflater is None and self._encoding not in {"", "identity"}:
            raise _Unreadable(f"the answer is compressed by {self._encoding!r}, which was not requested")
        self._begun = True
        self._left -= len(plain)
        if self._left < 0:
            raise _TooLarge
        return plain

    def end(self) -> None:
        if self._inflater is not None and self._begun and not self._inflater.eof:
            raise _Unreadable("the compressed answer is cut off")


def _translated(error: Exception, request: httpx.Request) -> httpx.TransportError:
    match error:
        case aiohttp.ClientHttpProxyError():
            return httpx.ConnectError(f"the proxy answered {error.status} to CONNECT", request=request)
        case aiohttp.ClientConnectorCertificateError():
            return httpx.ConnectError(_distrusted(error), request=request)
        case aiohttp.ClientConnectorSSLError():
            said = "TLS could not be agreed on: check that https and the port fit this server"
            return httpx.ConnectError(f"{_words(error)}; {said}", request=request)
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return httpx.ConnectError(_words(error), request=request)
        case TimeoutError():
            return httpx.ReadTimeout("no answer in time", request=request)
        case aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError(
                f"the answer is not valid HTTP: {redacted(error.message)}", request=request
            )
        case _Unreadable():
            return httpx.RemoteProtocolError(_words(error), request=request)
    return httpx.ReadError(_words(error), request=request)


def _distrusted(error: aiohttp.ClientConnectorCertificateError) -> str:
    where = redacted(f"{error.host}:{error.port}")
    return f"TLS with {where} failed; {wrong_certificate(error.certificate_error, 'network.ca_file')}"


_OF_TLS = re.compile(r" ssl:(?:\w+|<[^>]*>)")
"""How aiohttp shows its setting."""


def _words(error: Exception) -> str:
    """Aiohttp names hosts and repeats URLs and what the server sent."""
    return redacted(_OF_TLS.sub("", str(error))) or type(error).__name__


LONGEST_PATIENCE = 3600.0
"""Seconds: the longest wait that a server can ask for."""


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds in `Retry-After`, given as a number or as a date, at most an hour; None if it is neither."""
    value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value) if value[:1].isdigit() else (parsedate_to_datetime(value) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_PATIENCE)


QUICK = 5.0
"""Seconds. A longer request is not used to compare clocks."""


def clock_ahead(headers: Mapping[str, str], ended: datetime, seconds: float) -> float | None:
    """How many seconds the clock of the server that wrote `Date` is ahead of ours, for a request that ended then and took
    so long. `Date` counts whole seconds and is taken as written in the middle of the request, so this is right to half
    a second and half of the request. None if that is not possible: no date, a slow answer, one from a cache (`Age`).
    """
    if seconds > QUICK or "Age" in headers:
        return None
    try:
        written = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    sent = written if written.tzinfo is not None else written.replace(tzinfo=UTC)
    return (sent - ended).total_seconds() + 0.5 + seconds / 2
