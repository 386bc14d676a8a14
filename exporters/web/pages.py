"""What this process shows over HTTP: metrics, health, status and a landing page. No page makes a request to others."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import orjson
from aiohttp import web
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from collector import __version__
from config.web import Access
from exporters.web.listener import LIMITS, Limits, Listener, listen

Status = Mapping[str, Any]

HEALTH = ("/healthz", "/-/healthy", "/readyz", "/-/ready")


@dataclass(frozen=True, slots=True)
class Pages:
    """Where the pages get their content.

    `faults` says why this process should be restarted (a stuck loop, a dead task), `unready` why it should get no
    traffic yet; both answer at once. `status` is what `/status.json` shows: lists of rows under `sources`, `sinks` and `replicas`,
    and a mapping under `ledger`. `metrics` are all series of the moment. None of the four raises.
    """

    metrics: Callable[[], Awaitable[Collector]]
    faults: Callable[[], list[str]]
    unready: Callable[[], list[str]]
    status: Callable[[], Awaitable[Status]]


async def serve(
    pages: Pages,
    host: str,
    port: int,
    more: Sequence[web.RouteDef] = (),
    access: Callable[[], Access] = Access,
    limits: Limits = LIMITS,
    names: Collection[str] = (),
) -> Listener:
    """Show the pages, and answer `more` routes, which see for themselves who asks. Requests to
    another host name than `names` are refused, if there are any. Raises OSError when the port is taken.

    Health and readiness need no password, as a prober of Kubernetes has none: they show only what is stuck.
    """
    open_to = [*HEALTH, *(route.path for route in more)]
    return await listen([*_Site(pages).routes(), *more], open_to, host, port, access, limits, HEALTH, names)


class _Site:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._alone = asyncio.Semaphore(1)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._landing),
            web.get("/metrics", self._metrics),
            web.get("/status.json", self._status),
            web.get("/healthz", self._health),
            web.get("/-/healthy", self._health),
            web.get("/readyz", self._readiness),
            web.get("/-/ready", self._readiness),
        ]

    async def _metrics(self, request: web.Request) -> web.Response:
        """Rendered in a thread: 10,000 series take 0.1 s, which would delay polling and sending. One scrape at a time, so
        that any number of them takes one thread.
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

    async def _landing(self, _: web.Request) -> web.Response:
        status = await self._pages.status()
        rows = {"sources": status["sources"], "sinks": status["sinks"], "ledger": [status["ledger"]]}
        if len(status.get("replicas", ())) > 1:
            rows["replicas"] = status["replicas"]
        tables = "".join(_table(title, of_it) for title, of_it in rows.items())
        return web.Response(text=_PAGE.format(version=escape(__version__), tables=tables), content_type="text/html")


def _verdict(reasons: list[str]) -> web.Response:
    text = "ok\n" if not reasons else "".join(f"{reason}\n" for reason in reasons)
    return web.Response(text=text, status=503 if reasons else 200)


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """Plain text where the library cannot parse the header, as with `version=new`."""
    try:
        return choose_encoder(accept if accept.isascii() else "")
    except (TypeError, ValueError):
        return choose_encoder("")


def _rendered(encode: Callable[[Collector], bytes], shown: Collector, *, compress: bool) -> bytes:
    body = encode(shown)
    return gzip.compress(body, compresslevel=4) if compress else body


def _table(title: str, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    columns = list(rows[0])
    head = "".join(f"<th>{escape(column.replace('_', ' '))}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(column))}</td>" for column in columns) + "</tr>" for row in rows
    )
    return f"<h2>{escape(title.capitalize())}</h2><table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    return "" if value is None else escape(str(value))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>lineage-collector</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1b1f24 }}
table {{ border-collapse: collapse; width: 100% }} th, td {{ text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #d8dee4 }}
th {{ font-weight: 600 }} nav a {{ margin-right: 1.2rem }}
@media (prefers-color-scheme: dark) {{ body {{ background: #14171a; color: #e4e7ea }} th, td {{ border-color: #353b41 }} a {{ color: #7db4ff }} }}
</style></head>
<body><h1>lineage-collector {version}</h1>
<p>Watches runs on managed platforms and delivers OpenLineage run events, in order and through crashes.</p>
<nav><a href="/metrics">Metrics</a><a href="/status.json">Status</a><a href="/healthz">Health</a><a href="/readyz">Readiness</a><a href="https://github.com/lineage-collector/lineage-collector/tree/main/docs">Documentation</a></nav>
{tables}</body></html>
"""
