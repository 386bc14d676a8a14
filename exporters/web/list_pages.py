"""`/parked` and `/skipped`: what sinks refused and what was left out, the latest first, and the same as JSON under `/api/v1`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web
from sqlalchemy import Connection

from collector import views
from collector.ledger import parked, queries
from collector.ledger.port import Ledger
from exporters.web.identity import Forms
from exporters.web.responses import data, page, readable

LISTED = 100
"""Rows on a page."""
CAUSES = 20
_Rows = Callable[[Connection], dict[str, Any]]
"""`rows`, and what else there is."""


def routes(ledger: Ledger, forms: Forms) -> list[web.RouteDef]:
    lists: dict[str, _Rows] = {"parked": _parked, "skipped": _skipped}
    return [
        route
        for name, rows in lists.items()
        for route in (
            web.get(f"/{name}", readable(partial(_shown, ledger, forms, name, rows))),
            web.get(f"/api/v1/{name}", readable(partial(_listed, ledger, name, rows))),
        )
    ]


async def _shown(ledger: Ledger, forms: Forms, name: str, rows: _Rows, request: web.Request) -> web.StreamResponse:
    token = forms.token(request)
    answer = page(name, f"/{name}", **await ledger.read_shown(rows), most=LISTED, token=token)
    return forms.keep(request, answer)


async def _listed(ledger: Ledger, name: str, rows: _Rows, _: web.Request) -> web.StreamResponse:
    found = await ledger.read_shown(rows)
    return data({name: found.pop("rows"), **found})


def _parked(conn: Connection) -> dict[str, Any]:
    rows = [{**views.parked_event(row), "job": row.job} for row in parked.listing(conn, LISTED)]
    return {"rows": rows, "causes": [views.cause(row) for row in parked.causes(conn, CAUSES)]}


def _skipped(conn: Connection) -> dict[str, Any]:
    return {"rows": [views.skip(row) for row in queries.skips(conn, LISTED)]}
