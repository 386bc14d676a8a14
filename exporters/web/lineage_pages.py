"""Jobs and datasets: lists, a page for each, the graph around it, and the same as JSON under `/api/v1`."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web
from sqlalchemy import Connection

from collector import views
from collector.ledger import graph, history, job_queries, queries, run_queries
from collector.ledger.graph import DEEPEST, Graph, Node
from collector.ledger.port import Ledger
from collector.model import Job, RunState
from collector.numerals import counted
from exporters.web.event_content import content, named
from exporters.web.identity import Forms
from exporters.web.picture import BOX, HIGH, drawn
from exporters.web.responses import BackendLink, backend_links, both, data, missing, page, wants_json

LISTED = 100
"""Jobs or datasets on a page."""
RUNS = 50
"""Latest runs on the page of a job."""
WRITERS, WRITER_RUNS = 10, 20
"""Jobs that write a dataset, and latest runs of each, among which the one is looked for that wrote it last."""
DEPTH = 2
"""Steps of a graph, unless `depth` asks for others."""
_LETTERS = 28
"""Of a name in a box of the graph."""
Query = Mapping[str, str]
_Names = frozenset[tuple[str, str]]


class LineagePages:
    def __init__(self, ledger: Ledger, forms: Forms, backends: Mapping[str, BackendLink]) -> None:
        self._ledger, self._forms, self._backends = ledger, forms, backends

    def routes(self) -> list[web.RouteDef]:
        return [
            *both("/jobs", self._jobs),
            *both("/datasets", self._datasets),
            *both("/jobs/{space:[^/]+}/{name:[\\s\\S]+}", self._job),
            *both("/datasets/{space:[^/]+}/{name:[\\s\\S]+}", self._dataset),
        ]

    async def _jobs(self, request: web.Request) -> web.Response:
        fault = _fault_of_state(request.query)
        if fault and wants_json(request):
            return data({"error": fault}, 400)
        asked = {} if fault else request.query
        rows, more, sources = await self._ledger.read_shown(_listed_jobs, asked)
        if wants_json(request):
            return data({"jobs": rows, "next": f"/api/v1/jobs?{more}" if more else None})
        about = {"asked": request.query, "states": [*RunState], "sources": sources, "fault": fault}
        return page("jobs", "/jobs", 400 if fault else 200, rows=rows, more=more, **about)

    async def _datasets(self, request: web.Request) -> web.Response:
        rows, more = await self._ledger.read_shown(_listed_datasets, request.query)
        if wants_json(request):
            return data({"datasets": rows, "next": f"/api/v1/datasets?{more}" if more else None})
        return page("datasets", "/datasets", rows=rows, more=more, asked=request.query)

    async def _job(self, request: web.Request) -> web.Response:
        node, depth = _asked(request, is_job=True)
        found, linked = await self._ledger.read_shown(_one_job, node, depth)
        if found is None:
            return missing(request, "/jobs", _missing(node))
        if wants_json(request):
            return data(found)
        about: dict[str, Any] = {
            "depth": depth,
            "linked": linked,
            "bars": _bars(found["runs"]),
            "token": self._forms.token(request),
            "backends": self._links("job", found["namespace"], found["job"]),
        }
        return self._forms.keep(request, page("job", "/jobs", row=found, **about, **_shown(found["graph"], node)))

    async def _dataset(self, request: web.Request) -> web.Response:
        node, depth = _asked(request, is_job=False)
        found, linked = await self._ledger.read_shown(_one_dataset, node, depth)
        if found is None:
            return missing(request, "/datasets", _missing(node))
        if wants_json(request):
            return data(found)
        about: dict[str, Any] = {
            "depth": depth,
            "linked": linked,
            "backends": self._links("dataset", node.space, node.name),
        }
        return page("dataset", "/datasets", row=found, **about, **_shown(found["graph"], node))

    def _links(self, kind: str, namespace: str | None, name: str) -> list[dict[str, str]]:
        return backend_links(self._backends, kind, namespace, name) if namespace is not None else []


def _asked(request: web.Request, *, is_job: bool) -> tuple[Node, int]:
    """The job or dataset of the path, and how deep its graph is to be."""
    word = request.query.get("depth", "")
    depth = int(word) if word.isascii() and word.isdigit() and len(word) < 3 else DEPTH
    return Node(is_job, request.match_info["space"], request.match_info["name"]), max(1, min(depth, DEEPEST))


def _missing(node: Node) -> str:
    if node.is_job:
        return f"the ledger has no job {node.name!r} of source {node.space!r}"
    return f"the ledger knows no job that reads or writes the dataset {node.space} {node.name}"


def _fault_of_state(query: Query) -> str:
    state = query.get("state") or None
    return "" if state is None or state in set(RunState) else f"state {state!r} is none of {', '.join(RunState)}"


def _listed_jobs(conn: Connection, query: Query) -> tuple[list[dict[str, Any]], str, list[str]]:
    """Rows, the query of the next page, and the names of all sources."""
    sources = queries.source_names(conn)
    given = {name: value for name in ("source", "state", "text") if (value := query.get(name))}
    source, state = given.get("source"), given.get("state")
    if source is not None and source not in sources:
        return [], "", sorted(sources)
    rows = job_queries.jobs_after(
        conn,
        _after(query, sources),
        LISTED + 1,
        source_id=sources[source] if source is not None else None,
        state=RunState(state) if state is not None else None,
        words=given.get("text"),
    )
    last = rows[LISTED - 1] if len(rows) > LISTED else None
    more = urlencode({**given, "after_source": last.source, "after": last.name}) if last is not None else ""
    return [views.job(row) for row in rows[:LISTED]], more, sorted(sources)


def _after(query: Query, sources: Mapping[str, int]) -> tuple[int, str] | None:
    """The job behind which a page begins."""
    return (sources.get(query["after_source"], 0), query.get("after", "")) if query.get("after_source") else None


def _listed_datasets(conn: Connection, query: Query) -> tuple[list[dict[str, Any]], str]:
    """Rows, and the query of the next page."""
    words, space = query.get("text") or None, query.get("after_namespace")
    after = (space, query.get("after", "")) if space is not None else None
    rows = graph.datasets(conn, after, LISTED + 1, words)
    last = rows[LISTED - 1] if len(rows) > LISTED else None
    given = {"text": words} if words else {}
    more = urlencode({**given, "after_namespace": last.namespace, "after": last.name}) if last is not None else ""
    shown = [
        {"namespace": row.namespace, "name": row.name, "writers": row.writers, "readers": row.readers}
        for row in rows[:LISTED]
    ]
    return shown, more


def _one_job(conn: Connection, node: Node, depth: int) -> tuple[dict[str, Any] | None, _Names]:
    """The job, and which of its datasets have a page."""
    source_id = queries.source_names(conn).get(node.space)
    rows = job_queries.jobs_of(conn, source_id, [node.name]) if source_id is not None else []
    if source_id is None or not rows:
        return None, frozenset()
    runs = run_queries.runs_of_job(conn, source_id, node.name, RUNS)
    near = graph.around(conn, node, depth)
    found = {
        **views.job(rows[0]),
        **views.runs_of_job(runs),
        "inputs": _beside(near, -1),
        "outputs": _beside(near, 1),
        **_definition(conn, runs),
        "graph": views.graph(near),
    }
    return found, graph.used(conn, named(found["datasets"]))


def _definition(conn: Connection, runs: Sequence[run_queries.RunRow]) -> dict[str, Any]:
    """The namespace, the SQL, and the columns with what they are made of, as the events of the newest run say that succeeded, else of the newest run."""
    best = next((row for row in runs if row.state is RunState.SUCCEEDED), runs[0] if runs else None)
    stored = run_queries.details(conn, [best.run_uuid]).get(best.run_uuid) if best is not None else None
    found, known = _content(conn, stored), views.known_run(stored)
    datasets = {"inputs": found["inputs"], "outputs": found["outputs"]}
    job = known.job if known is not None else None
    return {"namespace": job and job.namespace, "sql": _sql(found, job), "datasets": datasets}


def _content(conn: Connection, stored: run_queries.RunDetail | None) -> dict[str, Any]:
    """What the events of the run say of its datasets and of its SQL."""
    return (
        content(event.body for event in history.of_run(conn, stored.id).events) if stored is not None else content(())
    )


def _sql(found: Mapping[str, Any], job: Job | None) -> dict[str, str | None] | None:
    """That of the events, or of the run where retention removed them."""
    if found["sql"] is not None:
        return {"text": found["sql"], "dialect": found["dialect"]}
    return {"text": job.sql, "dialect": job.dialect} if job is not None and job.sql else None


def _one_dataset(conn: Connection, node: Node, depth: int) -> tuple[dict[str, Any] | None, _Names]:
    """The dataset, and which of those that its columns come from have a page."""
    if not graph.has(conn, node):
        return None, frozenset()
    near = graph.around(conn, node, depth)
    writers, readers = (_jobs_beside(conn, near, way) for way in (-1, 1))
    written = _written(conn, node, writers)
    of = [written["dataset"]] if written is not None and written["dataset"] is not None else []
    found = {
        "namespace": node.space,
        "name": node.name,
        "writers": [views.job(row) for row in writers],
        "readers": [views.job(row) for row in readers],
        "written": written,
        "graph": views.graph(near),
    }
    return found, graph.used(conn, named({"inputs": (), "outputs": of}))


def _written(conn: Connection, node: Node, writers: Sequence[job_queries.JobRow]) -> dict[str, Any] | None:
    """The run that succeeded last among the latest ones of the jobs that write it, and what its events say of the dataset."""
    sources = queries.source_names(conn)
    rows = [
        row
        for job in writers[:WRITERS]
        for row in run_queries.runs_of_job(conn, sources[job.source], job.name, WRITER_RUNS)
        if row.state is RunState.SUCCEEDED and row.ended_at is not None
    ]
    last = max(rows, key=lambda row: row.ended_at or 0, default=None)
    if last is None:
        return None
    found = _content(conn, run_queries.details(conn, [last.run_uuid]).get(last.run_uuid))
    here = (each for each in found["outputs"] or () if (each["namespace"], each["name"]) == (node.space, node.name))
    return {"run": views.summary(last, None), "dataset": next(here, None)}


def _jobs_beside(conn: Connection, near: Graph, way: int) -> list[job_queries.JobRow]:
    """Jobs one step up (-1) or down (1)."""
    sources = {node.space for node, at in near.depths.items() if at == way}
    numbers = {name: number for name, number in queries.source_names(conn).items() if name in sources}
    return [
        row
        for name, number in sorted(numbers.items())
        for row in job_queries.jobs_of(
            conn, number, [node.name for node, at in near.depths.items() if at == way and node.space == name]
        )
    ]


def _beside(near: Graph, way: int) -> list[dict[str, str]]:
    """Datasets one step up (-1) or down (1)."""
    found = sorted((node.space, node.name) for node, at in near.depths.items() if at == way)
    return [{"namespace": space, "name": name} for space, name in found]


def _shown(found: Mapping[str, Any], here: Node) -> dict[str, Any]:
    """What the templates need to draw the graph."""
    nodes = found["nodes"]
    picture = drawn(len(nodes), [(one, other) for one, other in found["edges"]])
    boxes = [
        {
            "x": x,
            "y": y,
            "kind": node["kind"],
            "here": node["depth"] == 0,
            "label": short(node["name"]),
            "title": f"{node['kind']} {node['name']} ({node.get('source') or node.get('namespace')})",
            "link": _link(node),
        }
        for node, (x, y) in zip(nodes, picture.boxes, strict=True)
    ]
    words = f"Graph: {counted(len(nodes), 'node')} around {here.name}, jobs and datasets"
    about = {"words": words, "is_cut": found["is_cut"], "box": BOX, "high": HIGH, "deepest": DEEPEST}
    return {"boxes": boxes, "lines": picture.lines, "wide": picture.width, "tall": picture.height, **about}


def short(name: str) -> str:
    """Names differ at their ends."""
    return name if len(name) <= _LETTERS else f"…{name[1 - _LETTERS :]}"


def _link(node: Mapping[str, Any]) -> str:
    kind, space = node["kind"], node.get("source") or node.get("namespace") or ""
    return f"/{kind}s/{quote(space, safe='')}/{quote(node['name'], safe='')}"


def _bars(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A bar for each run that ended, the oldest first, as high as it took long, in hundredths of the longest."""
    over = [run for run in reversed(runs) if run["duration_seconds"] is not None]
    longest = max((run["duration_seconds"] for run in over), default=0) or 1
    wide = 1000 / RUNS
    return [
        {
            "x": round(place * wide, 1),
            "high": max(3, round(100 * run["duration_seconds"] / longest)),
            "wide": round(wide * 0.8, 1),
            **run,
        }
        for place, run in enumerate(over)
    ]
