"""`/runs` and `/runs/ID`, and the same as JSON under `/api/v1`: what the ledger knows of runs, and where their events are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web
from sqlalchemy import Connection

from collector import views
from collector.clock import Clock, duration, to_ms
from collector.ledger import graph, history, queries, run_queries
from collector.ledger.history import RunHistory
from collector.ledger.port import Ledger
from collector.ledger.run_queries import RunDetail, RunFilter, RunRow
from collector.model import Run, RunState
from config.quantities import parse_moment
from exporters.web.event_content import content, named
from exporters.web.responses import BackendLink, backend_links, both, data, missing, page, wants_json

LISTED = 100
"""Runs on a page."""
SEARCHED = 20_000
"""Runs that one page looks through for those that were asked for, so that it takes milliseconds in a ledger of any size."""
_FILTERS = ("source", "state", "job", "run", "text", "since", "until")


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What a list of runs is to show. `since` and `until`, as they were asked for, are about the time at which runs started. `before` is the number of
    the run that the page before ended with.
    """

    source: str | None = None
    state: str | None = None
    job: str | None = None
    run: str | None = None
    text: str | None = None
    since: str | None = None
    until: str | None = None
    before: int | None = None

    def given(self) -> dict[str, str]:
        return {name: value for name in _FILTERS if (value := getattr(self, name)) is not None}

    def older(self, before: int) -> str:
        """The query of the next page."""
        return urlencode({**self.given(), "before": before})

    def started(self, since: str) -> str:
        """The query of the same for runs that started since then."""
        return urlencode({**self.given(), "since": since, "until": ""})

    def window(self, now: datetime) -> tuple[int | None, int | None]:
        """In epoch milliseconds. Raises ValueError with a sentence for people."""
        since, until = (to_ms(parse_moment(words, now)) if words else None for words in (self.since, self.until))
        if since is not None and until is not None and since >= until:
            raise ValueError("the beginning is not before the end")
        return since, until


class RunPages:
    def __init__(self, ledger: Ledger, backends: Mapping[str, BackendLink], clock: Clock) -> None:
        self._ledger, self._backends, self._clock = ledger, backends, clock

    def routes(self) -> list[web.RouteDef]:
        return [*both("/runs", self._runs), *both("/runs/{run:[^/]+}", self._run)]

    async def _runs(self, request: web.Request) -> web.Response:
        now = self._clock.now()
        try:
            query, fault = _run_query(request.query, now), ""
        except ValueError as error:
            query, fault = RunQuery(), str(error)
        if fault and wants_json(request):
            return data({"error": fault}, 400)
        rows, older, sources = await self._ledger.read_shown(_listed, query, now)
        link = query.older(older) if older is not None else ""
        if wants_json(request):
            return data({"runs": rows, "next": f"/api/v1/runs?{link}" if link else None})
        states = [state.value for state in RunState]
        about = {"query": query, "sources": sources, "states": states, "fault": fault, "spans": _SPANS}
        return page("runs", "/runs", 400 if fault else 200, rows=_with_bars(rows, now), older=link, **about)

    async def _run(self, request: web.Request) -> web.Response:
        run = request.match_info["run"]
        found = await self._ledger.read_shown(_one, run)
        if found is None:
            words = f"the ledger has no run {run!r}: it is not known, or retention removed it"
            return missing(request, "/runs", words)
        if wants_json(request):
            return data(found.report())
        job = found.known.job if found.known is not None else None
        links = backend_links(self._backends, "job", job.namespace, job.name) if job is not None else []
        return page("run", "/runs", **found.shown(), backends=links)


def _run_query(query: Mapping[str, str], now: datetime) -> RunQuery:
    """Raises ValueError with a sentence for people."""
    given = {name: query.get(name) or None for name in _FILTERS}
    if (state := given["state"]) is not None and state not in set(RunState):
        raise ValueError(f"state {state!r} is none of {', '.join(RunState)}")
    asked = RunQuery(**given, before=_before(query))
    asked.window(now)
    return asked


def _before(query: Mapping[str, str]) -> int | None:
    before = query.get("before") or None
    if before is None:
        return None
    if not (before.isascii() and before.isdigit() and len(before) < 19):
        raise ValueError(f"before {before!r} is not the number of a run")
    return int(before)


def _listed(conn: Connection, query: RunQuery, now: datetime) -> tuple[list[dict[str, Any]], int | None, list[str]]:
    """Rows, where the next page begins, and the names of all sources."""
    sources = queries.source_names(conn)
    rows, older = _chosen(conn, query, sources, now)
    details = run_queries.details(conn, [row.run_uuid for row in rows])
    marks = history.marks(conn, [stored.id for stored in details.values()])
    found = [_row(row, details.get(row.run_uuid), marks) for row in rows]
    return [row for row in found if query.text is None or _holds(row, query.text)], older, sorted(sources)


def _chosen(
    conn: Connection, query: RunQuery, sources: Mapping[str, int], now: datetime
) -> tuple[list[RunRow], int | None]:
    if query.run is not None:
        return run_queries.runs_by_id(conn, query.run), None
    if query.source is not None and query.source not in sources:
        return [], None
    source_id = sources[query.source] if query.source is not None else None
    state = RunState(query.state) if query.state is not None else None
    wanted = RunFilter(source_id, state, query.job, query.text, *query.window(now))
    return run_queries.runs_before(conn, query.before, LISTED, SEARCHED, wanted)


def _holds(row: Mapping[str, Any], text: str) -> bool:
    """Not only in what else is stored of a run that failed."""
    names = (row[name] or "" for name in ("job", "run", "run_id", "error"))
    return any(text.casefold() in words.casefold() for words in names)


_SPANS = {"1h": "hour", "1d": "day", "7d": "week"}


def _with_bars(rows: Sequence[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """The rows with what each run took, until now where it goes on, and with that in hundredths of the longest that ended."""
    longest = max((row["duration_seconds"] or 0 for row in rows), default=0) or 1
    took = ((row, _took(row, now)) for row in rows)
    return [{**row, "took": seconds, "bar": _hundredths(seconds or 0, longest)} for row, seconds in took]


def _hundredths(seconds: float, longest: float) -> int:
    return min(100, max(1, round(100 * seconds / longest)))


def _took(row: Mapping[str, Any], now: datetime) -> float | None:
    seconds: float | None = row["duration_seconds"]
    if row["started"] is None or seconds is not None:
        return seconds
    return max(0.0, (now - datetime.fromisoformat(row["started"])).total_seconds())


def _row(row: RunRow, stored: RunDetail | None, marks: Mapping[int, list[history.Mark]]) -> dict[str, Any]:
    at = marks.get(stored.id, []) if stored is not None else []
    of_sinks = [{**asdict(mark), "standing": mark.standing.value} for mark in at]
    return {**views.summary(row, views.known_run(stored)), "marks": of_sinks}


@dataclass(frozen=True, slots=True)
class _Run:
    row: RunRow
    stored: RunDetail | None
    known: Run | None
    history: RunHistory
    children: list[RunRow]
    datasets: dict[str, Any]
    linked: frozenset[tuple[str, str]]
    """The datasets that have a page."""

    def report(self) -> dict[str, Any]:
        return {
            **views.summary(self.row, self.known),
            **views.more(self.row, self.known),
            "only_sinks": views.only_sinks(self.history),
            "explanation": views.sentences(self.stored, self.history),
            "steps": views.steps(self.known, self.history) if self.known is not None else [],
            "stages": views.stages(self.known) if self.known is not None else [],
            "datasets": self.datasets,
            "events": views.events(self.history),
            "children": [child.run_uuid for child in self.children],
        }

    def shown(self) -> dict[str, Any]:
        """The values of the page."""
        run = {"last_seen": None, "inputs": None, "outputs": None, **self.report()}
        known = self.known
        for event, stored in zip(run["events"], self.history.events, strict=True):
            event["body"] = _indented(stored.body)
            event["at"] = {each["sink"]: each for each in event["sinks"]}
        bars = _bars(known, self.history) if known is not None else []
        return {
            "run": run,
            "linked": self.linked,
            "sinks": sorted({sink for event in run["events"] for sink in event["at"]}),
            "bars": bars,
            "timeline": "; ".join(bar["words"] for bar in bars),
            "parent": _parent(known),
            "children": [{"run": row.key, "run_id": row.run_uuid, "state": row.state.value} for row in self.children],
            "link": _web_address(known.facts.link) if known is not None else None,
        }


def _parent(known: Run | None) -> dict[str, Any] | None:
    """`is_here` says that the ledger has it too."""
    parent = known.parent if known is not None else None
    if parent is None:
        return None
    return {"run_id": str(parent.run_id), "job": parent.job, "is_here": bool(parent.key)}


def _one(conn: Connection, name: str) -> _Run | None:
    """The run with this id; of several with the same id on their platforms the one that came last."""
    rows = run_queries.runs_by_id(conn, name)
    if not rows:
        return None
    row = max(rows, key=lambda row: row.updated_at)
    stored = run_queries.details(conn, [row.run_uuid]).get(row.run_uuid)
    of_run = history.of_run(conn, stored.id) if stored is not None else RunHistory((), ())
    children = run_queries.children_of(conn, stored.id, LISTED) if stored is not None else []
    found = content(event.body for event in of_run.events)
    datasets = {"inputs": found["inputs"], "outputs": found["outputs"]}
    return _Run(row, stored, views.known_run(stored), of_run, children, datasets, graph.used(conn, named(datasets)))


def _indented(body: bytes) -> str:
    """An event as it is sent, for reading."""
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")


def _web_address(link: str | None) -> str | None:
    """What a browser may follow; a platform's word must not become a script."""
    return link if link is not None and link.lower().startswith(("http://", "https://")) else None


def _bars(run: Run, of_run: RunHistory) -> list[dict[str, Any]]:
    """Phases of the run in thousandths of its length: the queue, the run, when it waited for a person, and within which bounds it began and ended."""
    begin, end = run.queued_at or run.started_at, run.ended_at or run.seen_at
    if begin is None or run.started_at is None or end <= begin:
        return []
    scale = _Scale(begin, end)
    waited, ran = (run.started_at - begin).total_seconds(), (end - run.started_at).total_seconds()
    found = [scale.bar("bar", begin, run.started_at, f"queued for {duration(waited)}")] if waited > 0 else []
    kind = run.state.value if run.ended_at is not None else "bar"
    found.append(scale.bar(kind, run.started_at, end, f"{'ran' if run.ended_at else 'runs'} for {duration(ran)}"))
    for since, until in views.waits(run, of_run):
        words = f"waited for a person for {duration((until - since).total_seconds())}"
        found.append(scale.bar("waiting", since, until, words))
    return [*found, *_bounds(run, scale)]


@dataclass(frozen=True, slots=True)
class _Scale:
    """The length of a run, which is a thousand wide."""

    begin: datetime
    end: datetime

    def bar(self, kind: str, since: datetime, until: datetime, words: str) -> dict[str, Any]:
        length = (self.end - self.begin).total_seconds()
        since, until = max(since, self.begin), min(max(until, since), self.end)
        at, wide = (since - self.begin).total_seconds() / length, (until - since).total_seconds() / length
        shown = max(wide * 1000, 2)
        return {"kind": kind, "begin": round(min(at * 1000, 1000 - shown), 1), "width": round(shown, 1), "words": words}


def _bounds(run: Run, scale: _Scale) -> Iterator[dict[str, Any]]:
    for what, within in (("started", run.started_within), ("ended", run.ended_within)):
        if within is not None and within.after is not None:
            exact = within.until - within.after < _SHORT
            words = f"{what} between {_words(within.after, exact)} and {_words(within.until, exact)}"
            yield scale.bar("bound", within.after, within.until, words)


_SHORT = timedelta(minutes=1)
"""Bounds that are closer are given to the millisecond."""


def _words(at: datetime, exact: bool) -> str:
    written = at.astimezone(UTC).isoformat(" ", "milliseconds")
    return f"{written[: 23 if exact else 19]} UTC"
