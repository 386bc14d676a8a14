"""What this process shows over HTTP: metrics, health, status and a landing page. No page makes a request to others."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import orjson
from aiohttp import web
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from collector.clock import Clock, SystemClock
from collector.ledger.port import Ledger
from config.web import Access
from exporters.web import list_pages
from exporters.web.actions import Actions, Submit
from exporters.web.connections import LIMITS, Limits
from exporters.web.identity import Forms
from exporters.web.lineage_pages import LineagePages
from exporters.web.listener import Listener, listen
from exporters.web.live import Live
from exporters.web.responses import STATIC, BackendLink
from exporters.web.run_pages import RunPages
from exporters.web.state_pages import StatePages, Status

Encode = Callable[[Collector], bytes]
HEALTH = ("/healthz", "/-/healthy", "/readyz", "/-/ready")


class MetricsPage(Protocol):
    """All series of a moment."""

    def encoded(self, encode: Encode) -> bytes:
        """In one of the library's text formats."""
        ...


@dataclass(frozen=True, slots=True)
class Pages:
    """Where the pages get their content.

    `faults` are causes to restart this process (a stuck loop, a dead task), `unready` causes to send it no
    traffic yet; both answer at once. `status` is what `/status.json` shows: lists of rows under `sources`, `sinks` and `replicas`,
    and a mapping under `ledger`. `metrics` are all series of the moment. None of the four raises.
    """

    metrics: Callable[[], Awaitable[MetricsPage]]
    faults: Callable[[], list[str]]
    unready: Callable[[], list[str]]
    status: Callable[[], Awaitable[Status]]
    ledger: Ledger | None = None
    """Whose runs are shown; None shows none."""
    submit: Submit | None = None
    """Does what users ask for on the pages; None: they can do nothing there."""
    clock: Clock = field(default_factory=SystemClock)
    """That of the ledger's times."""
    without_history: Collection[str] = ()
    """Sources whose platforms list no past runs, so that there can be no backfill."""
    backends: Mapping[str, BackendLink] = field(default_factory=dict)
    """By sink, what makes links to the web pages of its backend."""


async def serve(
    pages: Pages,
    host: str,
    port: int,
    more: Sequence[web.RouteDef] = (),
    access: Callable[[], Access] = Access,
    limits: Limits = LIMITS,
    names: Collection[str] = (),
) -> Listener:
    """Show the pages, and answer `more` routes, which check their requests themselves. Requests to
    another host name than `names` are refused, if there are any. Raises OSError when the port is taken.

    Health and readiness need no password, as a prober of Kubernetes cannot send one: they show only what is stuck.
    """
    open_to = [*HEALTH, *(route.path for route in more)]
    forms = Forms(access, acts=pages.submit is not None)
    of_ledger, at_stop = list[web.RouteDef](), None
    if (ledger := pages.ledger) is not None:
        of_ledger = [
            *RunPages(ledger, pages.backends, pages.clock).routes(),
            *LineagePages(ledger, forms, pages.backends).routes(),
            *list_pages.routes(ledger, forms),
            *(Actions(ledger, pages.submit, forms, pages.clock).routes() if pages.submit is not None else ()),
        ]
        live = Live(ledger)
        of_ledger, at_stop = [*of_ledger, *live.routes()], live.stop
    of_state = StatePages(pages.status, pages.ledger, pages.clock, forms, pages.without_history).routes()
    return await listen(
        [*_Site(pages).routes(), *of_state, *of_ledger, *more],
        open_to,
        host,
        port,
        access,
        limits,
        HEALTH,
        names,
        at_stop,
    )


class _Site:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._alone = asyncio.Semaphore(1)

    def routes(self) -> list[web.RouteDef]:
        return [
            *(web.get(f"/static/{file.name}", _static(file, content_type)) for file, content_type in STATIC.items()),
            web.get("/metrics", self._metrics),
            web.get("/status.json", self._status),
            web.get("/healthz", self._health),
            web.get("/-/healthy", self._health),
            web.get("/readyz", self._readiness),
            web.get("/-/ready", self._readiness),
        ]

    async def _metrics(self, request: web.Request) -> web.Response:
        """Rendered in a thread: 35,000 series take 0.06 s, and compression more, which would delay polling and sending. One scrape
        at a time, so that any number of them takes one thread.
        """
        encode, content_type = _encoder(request.headers.get("Accept", ""))
        compress = gzip_accepted(request.headers.get("Accept-Encoding", ""))
        async with self._alone:
            shown = await self._pages.metrics()
            body = await asyncio.to_thread(_rendered, encode, shown, compress=compress)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        return web.Response(body=body, headers=headers | ({"Content-Encoding": "gzip"} if compress else {}))

    async def _health(self, _: web.Request) -> web.Response:
        return _verdict(self._pages.faults())

    async def _readiness(self, _: web.Request) -> web.Response:
        return _verdict(self._pages.unready())

    async def _status(self, _: web.Request) -> web.Response:
        body = orjson.dumps(await self._pages.status(), option=orjson.OPT_INDENT_2)
        return web.Response(body=body, content_type="application/json")


def _static(file: Path, content_type: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """From memory: a `FileResponse` cannot be prepared by the listener and once more by aiohttp."""
    body = file.read_bytes()

    async def served(_: web.Request) -> web.Response:
        headers = {"Cache-Control": "max-age=3600"}
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)

    return served


def _verdict(reasons: list[str]) -> web.Response:
    text = "ok\n" if not reasons else "".join(f"{reason}\n" for reason in reasons)
    return web.Response(text=text, status=503 if reasons else 200)


def _encoder(accept: str) -> tuple[Encode, str]:
    """Plain text where the library cannot parse the header, as with `version=new`."""
    try:
        return choose_encoder(accept if accept.isascii() else "")
    except (TypeError, ValueError):
        return choose_encoder("")


def _rendered(encode: Encode, shown: MetricsPage, *, compress: bool) -> bytes:
    body = shown.encoded(encode)
    return gzip.compress(body, compresslevel=4) if compress else body
