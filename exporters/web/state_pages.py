"""`/`, and a page for each source and sink and for the replicas: how all is now, and the same as JSON under `/api/v1`."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any
from urllib.parse import quote

from aiohttp import web
from sqlalchemy import Connection

from collector import __version__, views
from collector.clock import Clock, moment, to_ms
from collector.errors import LedgerError
from collector.ledger import backlog, job_queries, parked, queries, requests, run_queries
from collector.ledger.backlog import UnansweredRun
from collector.ledger.port import Ledger
from collector.ledger.queries import LeaseRow
from collector.ledger.run_queries import RunRow
from collector.ledger.shards import whole_name
from exporters.web.activity import (
    deliveries,
    delivery_bars,
    last_day,
    last_hours,
    of_last_hour,
    poll_bars,
    polls,
    quota,
    sparkline,
)
from exporters.web.identity import Forms
from exporters.web.responses import RUNBOOKS, both, data, missing, page, wants_json

Row = Mapping[str, Any]
Status = Mapping[str, Any]
LATEST = 20
"""Parked events and skips on the page of a sink or source; their own pages have more."""
_RUNBOOKS = {
    "auth": "LineageSourceAuthFailing",
    "throttled": "LineageSourceThrottled",
    "paused": "LineagePollingPaused",
    "refusing": "LineageSinkRefusing",
}
"""By state of the source or sink."""
_OTHERWISE = {"sources": "LineagePollFailing", "sinks": "LineageDeliveryBehind", "ledger": "LineageLedgerFilling"}
_GOOD = frozenset({None, "ok", "delivering", "standby", "starting", "retired"})


class StatePages:
    """`status` is as in `Pages`. Without a ledger there is the first page only."""

    def __init__(
        self,
        status: Callable[[], Awaitable[Status]],
        ledger: Ledger | None,
        clock: Clock,
        forms: Forms,
        without_history: Collection[str],
    ) -> None:
        self._status, self._ledger, self._clock = status, ledger, clock
        self._forms, self._without_history = forms, without_history

    def routes(self) -> list[web.RouteDef]:
        found = [web.get("/", self._overview)]
        if self._ledger is not None:
            found += [
                *both("/replicas", self._replicas),
                *(route for kind in _OF for route in both(f"/{kind}s", partial(self._list, f"{kind}s"))),
                *(route for kind in _OF for route in both(f"/{kind}s/{{name:[^/]+}}", partial(self._page, kind))),
            ]
        return found

    async def _overview(self, _: web.Request) -> web.Response:
        status = await self._with_last_hours(await self._status())
        parts: dict[str, Any] = {"sources": status["sources"], "sinks": status["sinks"], "ledger": [status["ledger"]]}
        about: dict[str, Any] = {
            "version": __version__,
            "started": status.get("started"),
            "replicas": len(status.get("replicas", ())),
        }
        sinks = status["sinks"]
        parked = sum(row.get("parked") or 0 for row in sinks)
        about["pending"] = sum(row["pending"] for row in sinks) if all("pending" in row for row in sinks) else None
        return page("overview", "/", troubles=troubles(status), parked=parked, sparkline=sparkline, **about, **parts)

    async def _with_last_hours(self, status: Status) -> Status:
        """The rows of sources and sinks have `last_hour` too, None while the ledger cannot be read."""
        names = [f"{kind}:{row[kind]}" for kind in _OF for row in status[f"{kind}s"]]
        try:
            hours = await self._ledger.read_shown(last_hours, names, self._now()) if self._ledger is not None else {}
        except LedgerError:  # which the status says already
            hours = {}
        rows = {
            f"{kind}s": [{**row, "last_hour": hours.get(f"{kind}:{row[kind]}")} for row in status[f"{kind}s"]]
            for kind in _OF
        }
        return {**status, **rows}

    def _now(self) -> int:
        return to_ms(self._clock.now())

    async def _replicas(self, request: web.Request) -> web.StreamResponse:
        """Each replica and, where the ledger can be read, each lease."""
        status = await self._status()
        try:
            leases = await self._ledger.read_shown(queries.leases) if self._ledger is not None else []
        except LedgerError:  # which the status says already
            leases = []
        rows, held = list(status.get("replicas", ())), [_lease(each) for each in leases]
        if wants_json(request):
            return data({"replicas": rows, "leases": held})
        return page("replicas", "/replicas", rows=rows, leases=held)

    async def _list(self, kind: str, request: web.Request) -> web.StreamResponse:
        status = await self._with_last_hours(await self._status())
        if wants_json(request):
            return data({kind: status[kind]})
        return page(kind, f"/{kind}", rows=status[kind], wrong=status["ledger"].get("wrong"), sparkline=sparkline)

    async def _page(self, kind: str, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        status = await self._status()
        found = await self._found(status, kind, name)
        if found is None:
            words = f"there is no {kind} {name!r}: it is neither configured nor in the ledger"
            return missing(request, f"/{kind}s", words)
        row, bars = found
        if wants_json(request):
            return data(row)
        token = self._forms.token(request) if self._can_be_filled(kind, row) else None
        sinks = [each["sink"] for each in status["sinks"] if each["state"] != "retired"]
        more: dict[str, Any] = {"bars": bars, "most": LATEST, "sparkline": sparkline, "sinks": sinks}
        answer = page(kind, f"/{kind}s", row=row, token=token, **more)
        return self._forms.keep(request, answer)

    def _can_be_filled(self, kind: str, row: Row) -> bool:
        return row["state"] != "retired" and not (kind == "source" and row["source"] in self._without_history)

    async def _found(self, status: Row, kind: str, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """The row of the source or sink with what else the ledger has of it, and bars of its last day."""
        row = next((row for row in status[f"{kind}s"] if row[kind] == name), None)
        if row is None or self._ledger is None:
            return None
        if "parked" not in row:  # the status is what is known without the ledger
            raise LedgerError(status["ledger"]["wrong"])
        more, bars = await self._ledger.read_shown(_OF[kind], name, self._now())
        last = await self._ledger.read_shown(requests.last_backfill, f"{kind}:{name}")
        return {**row, **more, "last_backfill": None if last is None else views.ended_backfill(last)}, bars


def _lease(row: LeaseRow) -> Row:
    """`holder` is None while nobody holds it. The `name` is that of the source or sink, also for one shard of a sink."""
    kind, _, name = whole_name(row.name).partition(":")
    is_held = row.left_ms > 0
    return {
        "lease": row.name,
        "kind": kind if name else None,
        "name": name or row.name,
        "holder": row.holder if is_held else None,
        "since": moment(row.since) if is_held else None,
        "seconds_left": round(row.left_ms / 1000, 1),
    }


def troubles(status: Status) -> list[dict[str, str]]:
    """What is wrong, a sentence each with whose it is, where its page is, and the runbook."""
    found = []
    for kind in ("sources", "sinks"):
        for row in status[kind]:
            name, state = row[kind.removesuffix("s")], row.get("state")
            is_wrong = row.get("wrong") or state not in _GOOD
            if is_wrong and state != "retired":
                words = f"{name}: {row.get('wrong') or state}"
                runbook = _RUNBOOKS.get(str(state), _OTHERWISE[kind])
                found.append(_trouble(words, f"/{kind}/{quote(name, safe='')}", runbook))
    found += [
        _trouble(f"replica {row['replica']}: {row['wrong']}", "/replicas", "LineageReplicasDiffer")
        for row in status.get("replicas", ())
        if row.get("wrong")
    ]
    if status["ledger"].get("wrong"):
        found.append(_trouble(f"ledger: {status['ledger']['wrong']}", "/", _OTHERWISE["ledger"]))
    return found


def _trouble(words: str, link: str, runbook: str) -> dict[str, str]:
    return {"words": words, "page": link, "runbook": f"{RUNBOOKS}/{runbook}.md"}


_Found = tuple[dict[str, Any], list[dict[str, Any]]]


def _of_source(conn: Connection, name: str, now_ms: int) -> _Found:
    own = f"source:{name}"
    day, hour = last_day(conn, own, now_ms), of_last_hour(conn, own, now_ms)
    found = {
        "jobs": 0,
        "skips": [],
        "watched": {},
        "no_longer_watched": [],
        "last_hour": last_hours(conn, [own], now_ms)[own],
        "requests": {"last_hour": hour.requests, "throttled": hour.throttled, **quota(conn, own, now_ms)},
        "polls": polls(day),
    }
    number = queries.source_names(conn).get(name)
    if number is not None:
        found |= {
            "jobs": job_queries.job_counts(conn).get(number, 0),
            "skips": [views.skip(row) for row in queries.skips(conn, LATEST, source_id=number)],
            "watched": {state.value: count for state, count in queries.watched(conn, number).items()},
            "no_longer_watched": [_lost(row) for row in run_queries.abandoned_runs(conn, number, LATEST)],
        }
    return found, poll_bars(day, now_ms)


def _lost(row: RunRow) -> dict[str, Any]:
    return {"run_id": row.run_uuid, "run": row.key, "job": row.job, "since": moment(row.abandoned_at)}


def _of_sink(conn: Connection, name: str, now_ms: int) -> _Found:
    own = f"sink:{name}"
    day = last_day(conn, own, now_ms)
    found = {
        "parked_events": [],
        "causes": [],
        "backlog": [],
        "unanswered": [],
        "last_hour": last_hours(conn, [own], now_ms)[own],
        "deliveries": deliveries(day),
    }
    number = queries.sink_names(conn).get(name)
    if number is not None:
        rows = parked.listing(conn, LATEST, sink_id=number)
        found |= {
            "parked_events": [{**views.parked_event(row), "job": row.job} for row in rows],
            "causes": [asdict(each) for each in backlog.causes(conn, number, LATEST)],
            "backlog": [asdict(each) for each in backlog.by_source(conn, number)],
            "unanswered": [_unanswered(each) for each in backlog.unanswered(conn, number, LATEST)],
        }
    return found, delivery_bars(day, now_ms)


def _unanswered(of: UnansweredRun) -> dict[str, Any]:
    return {"run_id": of.run.run_uuid, "job": of.run.job, "since": moment(of.since), "looked_up": moment(of.check_at)}


_OF: Mapping[str, Callable[[Connection, str, int], _Found]] = {"source": _of_source, "sink": _of_sink}
