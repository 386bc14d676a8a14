"""`/parked` and `/skipped`: what sinks refused and what was left out, by cause and the latest first, and the same as JSON under `/api/v1`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web
from sqlalchemy import Connection

from collector import views
from collector.ledger import parked, queries
from collector.ledger.port import Ledger
from collector.ledger.skips import OVERFLOW
from collector.model import SkipKind
from exporters.web.identity import Forms
from exporters.web.responses import RUNBOOKS, both, data, page, wants_json

LISTED = 100
"""Rows on a page."""
CAUSES = 20
Query = Mapping[str, str]
_Rows = Callable[[Connection, Query], dict[str, Any]]
"""`rows`, and what else there is."""


def routes(ledger: Ledger, forms: Forms) -> list[web.RouteDef]:
    lists: dict[str, _Rows] = {"parked": _parked, "skipped": _skipped}
    return [
        route for name, rows in lists.items() for route in both(f"/{name}", partial(_shown, ledger, forms, name, rows))
    ]


async def _shown(ledger: Ledger, forms: Forms, name: str, rows: _Rows, request: web.Request) -> web.StreamResponse:
    found = await ledger.read_shown(rows, request.query)
    if wants_json(request):
        return data({name: found.pop("rows"), **found})
    about: dict[str, Any] = {
        "most": LISTED,
        "token": forms.token(request),
        "asked": request.query,
        "runbooks": RUNBOOKS,
    }
    return forms.keep(request, page(name, f"/{name}", **found, kinds=KINDS, **about))


def _parked(conn: Connection, query: Query) -> dict[str, Any]:
    """`sink` and `cause` of the query choose among the events."""
    sink, cause = query.get("sink") or None, query.get("cause") or None
    causes = [views.cause(row) for row in parked.causes(conn, CAUSES)]
    sinks = queries.sink_names(conn)
    if sink is not None and sink not in sinks:
        return {"rows": [], "causes": causes}
    rows = parked.listing(conn, LISTED, sink_id=sinks[sink] if sink is not None else None, cause=cause)
    return {"rows": [{**views.parked_event(row), "job": row.job} for row in rows], "causes": causes}


def _skipped(conn: Connection, query: Query) -> dict[str, Any]:
    """`source` and `kind` of the query choose among what was left out."""
    source, kind = query.get("source") or None, query.get("kind") or None
    groups = [views.skip_group(row) for row in queries.skip_groups(conn)]
    sources = queries.source_names(conn)
    if source is not None and source not in sources:
        return {"rows": [], "groups": groups}
    rows = queries.skips(conn, LISTED, source_id=sources[source] if source is not None else None, kind=kind)
    return {"rows": [views.skip(row) for row in rows], "groups": groups}


KINDS: Mapping[str, tuple[str, str | None]] = {
    SkipKind.ROW: ("Rows of the platform that could not be read.", "LineageRowsUnreadable"),
    SkipKind.UNREAD: ("Open runs that could not be read this time; they are read again.", "LineageRunsUnread"),
    SkipKind.STATUS: ("Words for a state that this version does not know.", "LineageUnknownStatus"),
    SkipKind.FILTERED: (
        "Jobs that `include` and `exclude` leave out, or that cannot be watched.",
        "LineageJobsLeftOut",
    ),
    SkipKind.LATE: ("What a platform reported of a run after its end; the first end counts.", None),
    SkipKind.FUTURE: ("Times of the platform that lie in the future.", "LineageClockSkew"),
    SkipKind.GAP: ("Runs that the platform no longer listed when they were asked for.", "LineageRunsLost"),
    SkipKind.VANISHED: ("Open runs that the platform does not know any more.", "LineageRunsAbandoned"),
    SkipKind.ENRICHMENT: ("Details of ended runs that could not be read.", "LineageEnrichmentFailing"),
    SkipKind.SQL: ("SQL that could not be read, so that columns or datasets are missing.", None),
    SkipKind.INVALID: ("Events that are not valid OpenLineage, and parked for every sink.", "LineageEventsParked"),
    SkipKind.UNREADABLE: ("Stored runs that cannot be read.", None),
    SkipKind.DUPLICATE: ("Runs that another source reports already.", None),
    OVERFLOW: ("What came after the list of the source was full, only counted.", None),
}
"""What a kind means, and the runbook that says what to do."""
