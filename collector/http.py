"""The one place that makes HTTP clients: httpx's API on aiohttp's transport.

httpx's own pool slows down with connections (measured: 1,000 requests/s on one, 230 to 390 on twenty), the aiohttp
transport does not.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from yarl import URL

from collector import __version__
from collector.errors import ConfigurationError

USER_AGENT = f"lineage-collector/{__version__}"


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How to reach one server. Files are read when the client is made; headers are sent with every request."""

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    proxy: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    connect_timeout: float = 5.0
    timeout: float = 60.0
    connections: int = 8


Heard = Callable[[int | None, float, Mapping[str, str]], None]
"""Told of every request: status or None, seconds, answer headers."""


class HttpClient:
    """Sends requests and lets httpx's errors through: what they mean is the caller's to decide.

    `httpx.ConnectError`: nothing was sent. Any other `httpx.TransportError`: the request may have had an effect.
    """

    def __init__(self, options: HttpOptions, heard: Heard | None = None) -> None:
        self._options = options
        self._heard = heard
        self._client: httpx.AsyncClient | None = None

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
    ) -> httpx.Response:
        """One request, redirects not followed, the whole answer read. `url` is sent as it is written: percent-encode
        path parts yourself with nothing left safe.
        """
        client = self._opened()
        started = monotonic()
        try:
            answer = await client.request(
                method,
                url,
                headers=dict(headers or {}),
                params=params,
                content=content,
                json=json,
                data=data,
                timeout=httpx.Timeout(timeout or self._options.timeout, connect=self._options.connect_timeout),
            )
        except httpx.TransportError:
            self._tell(None, started, {})
            raise
        self._tell(answer.status_code, started, answer.headers)
        return answer

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _tell(self, status: int | None, started: float, headers: Mapping[str, str]) -> None:
        if self._heard is not None:
            self._heard(status, monotonic() - started, headers)

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = _client(self._options)
        return self._client


def _client(options: HttpOptions) -> httpx.AsyncClient:
    context = tls_context(options)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=options.connections, ssl=context)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return httpx.AsyncClient(
        transport=_VerbatimTransport(options.proxy, session),
        headers={"User-Agent": USER_AGENT, **options.headers},
        follow_redirects=False,
    )


def tls_context(options: HttpOptions) -> ssl.SSLContext:
    """The system's trust plus `ca_file`; raises `ConfigurationError` for files that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=str(options.ca_file) if options.ca_file else None)
        if options.client_cert_file is not None:
            key = str(options.client_key_file) if options.client_key_file else None
            context.load_cert_chain(str(options.client_cert_file), key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(f) for f in (options.ca_file, options.client_cert_file, options.client_key_file) if f)
        raise ConfigurationError([f"TLS files {files} cannot be used: {error}"]) from error
    return context


class _VerbatimTransport(AiohttpTransport):
    """Sends URLs as they are written and tells "never sent" from "no answer".

    aiohttp would decode `%3B` and fold `%2E%2E` in a path, and the library takes a connection that closed without an
    answer for one that was never made.
    """

    def __init__(self, proxy: str | None, session: Callable[[], aiohttp.ClientSession]) -> None:
        super().__init__(client=session)
        self._proxy_url = proxy

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not isinstance(self.client, aiohttp.ClientSession):
            self.client = self.get_client()
        limits = request.extensions["timeout"]
        try:
            answer = await self.client.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
                data=await request.aread() or None,
                allow_redirects=False,
                auto_decompress=False,
                compress=False,
                proxy=self._proxy_url,
                timeout=aiohttp.ClientTimeout(total=limits["read"], sock_connect=limits["connect"]),
            )
            body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _translated(error, request) from error
        return httpx.Response(answer.status, headers=answer.raw_headers, content=body, request=request)


def _translated(error: Exception, request: httpx.Request) -> httpx.TransportError:
    what = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return httpx.ConnectError(what, request=request)
    if isinstance(error, TimeoutError):
        return httpx.ReadTimeout("no answer in time", request=request)
    return httpx.ReadError(what, request=request)


LONGEST_PATIENCE = 3600.0
"""Seconds. A server that asks for more is asked again after this."""


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or as a date, at most an hour; None where it says neither."""
    told = headers.get("Retry-After", "").strip()
    try:
        seconds = float(told) if told[:1].isdigit() else (parsedate_to_datetime(told) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_PATIENCE)
