"""The calls that only read."""

from datetime import datetime
from typing import Any

from simulators.marquez import graph, lookups, names, request_bodies, views
from simulators.marquez.answers import Answer, DatabaseFault, Refused, Unparsable, error, errors, missing, not_found, ok
from simulators.marquez.database import Database
from simulators.marquez.tables import Job, Tables
from simulators.marquez.wire import Call

_RUN_STATES = ["NEW", "RUNNING", "COMPLETED", "ABORTED", "FAILED", "OTHER"]


class Reads:
    """Each call waits for the database, then shows what is in the tables."""

    def __init__(self, tables: Tables, database: Database) -> None:
        self.tables = tables
        self.database = database

    async def get_namespace(self, call: Call) -> Answer:
        space = call.namespace()
        await self.database.connected()
        return ok(views.namespace(lookups.namespace(self.tables, space)))

    async def list_namespaces(self, call: Call) -> Answer:
        page = call.page()
        await self.database.connected()
        rows = sorted(self.tables.namespaces.values(), key=lambda row: row.name)[page]
        return ok({"namespaces": [views.namespace(row) for row in rows]})

    async def get_job(self, call: Call) -> Answer:
        space = call.namespace()
        await self.database.connected()
        return ok(views.job(self.tables, lookups.job(self.tables, space, lookups.job_name(self.tables, call))))

    async def list_jobs(self, call: Call) -> Answer:
        space = call.namespace() if "namespace" in call.parts else None
        page, states = call.page(), {state.upper() for state in call.query.get("lastRunStates", ())}
        if not states <= set(_RUN_STATES):
            allowed = ", ".join(_RUN_STATES)
            raise Refused(error(400, f"query param lastRunStates must be one of [{allowed}]"))
        await self.database.connected()
        every = [job for job in self.tables.jobs.values() if space is None or job.namespace == space]
        wanted = [job for job in every if self._listed(job, states or set(_RUN_STATES))]
        rows = sorted(wanted, key=lambda job: job.updated_at, reverse=True)[page]
        return ok({"totalCount": len(every), "jobs": [views.job(self.tables, job, listed=True) for job in rows]})

    def _listed(self, job: Job, states: set[str]) -> bool:
        """A job whose current run has no state (an event without eventType) is in no list."""
        run = self.tables.runs.get(job.current_run) if job.current_run else None
        return run is None or run.state in states

    async def list_job_versions(self, call: Call) -> Answer:
        space, page = call.namespace(), call.page()
        await self.database.connected()
        job = lookups.job(self.tables, space, lookups.job_name(self.tables, call))
        rows = sorted(self.tables.versions_of(job.uuid), key=lambda row: row.created_at, reverse=True)[page]
        return ok({"versions": [views.job_version(self.tables, row) for row in rows]})

    async def list_runs(self, call: Call) -> Answer:
        space, page = call.namespace(), call.page()
        await self.database.connected()
        job = lookups.job(self.tables, space, lookups.job_name(self.tables, call))
        rows = self.tables.runs_of(job.uuid)
        started = sorted((run for run in rows if run.started_at), key=lambda run: str(run.started_at), reverse=True)
        rows = [*started, *(run for run in rows if not run.started_at)][page]
        count = sum((r.namespace, r.job_name) == (job.namespace, job.name) for r in self.tables.runs.values())
        return ok({"runs": [views.run(self.tables, run) for run in rows], "totalCount": count})

    async def get_run(self, call: Call) -> Answer:
        run_id = call.run_id()
        await self.database.connected()
        return ok(views.run(self.tables, lookups.run(self.tables, run_id)))

    async def get_run_facets(self, call: Call) -> Answer:
        run_id, kind = call.run_id(), call.one("type")
        if not kind:
            raise Refused(errors(400, ["query param type must not be null"]))
        if kind.upper() not in {"RUN", "JOB", "DATASET"}:
            raise Refused(error(400, "query param type must be one of [RUN, JOB, DATASET]"))
        await self.database.connected()
        run = lookups.run(self.tables, run_id)
        shown = {"RUN": views.run_facets(run), "JOB": views.facets_of_run_job(self.tables, run)}.get(kind.upper())
        return ok(shown) if shown else Answer(200)

    async def get_dataset(self, call: Call) -> Answer:
        space, name = call.namespace(), names.name(call.parts["dataset"])
        await self.database.connected()
        lookups.namespace(self.tables, space)
        row = self.tables.dataset(space, name)
        if row is None:
            raise missing("Dataset", name)
        link = self.tables.symlinks[space, name]
        columns = graph.columns_of(self.tables, [link]).get((space, name))
        return ok(views.dataset(self.tables, link, columns, views.dataset_facets(self.tables, link)))

    async def list_datasets(self, call: Call) -> Answer:
        space, page = call.namespace(), call.page()
        await self.database.connected()
        lookups.namespace(self.tables, space)
        links = sorted(
            (link for link in self.tables.symlinks.values() if link.namespace == space), key=lambda x: x.name
        )
        columns = graph.columns_of(self.tables, links[page])
        rows = [
            views.dataset(
                self.tables,
                link,
                columns.get((link.namespace, link.name)),
                views.listed_facets(self.tables, link, place=place),
            )
            for place, link in enumerate(links[page])
        ]
        return ok({"totalCount": len(links), "datasets": rows})

    async def list_dataset_versions(self, call: Call) -> Answer:
        space, name, page = call.namespace(), names.name(call.parts["dataset"]), call.page()
        await self.database.connected()
        lookups.namespace(self.tables, space)
        if self.tables.dataset(space, name) is None:
            raise missing("Dataset", name)
        rows = [row for row in self.tables.dataset_versions.values() if (row.namespace, row.name) == (space, name)]
        rows.sort(key=lambda row: row.created_at, reverse=True)
        shown = [view for row in rows for view in views.dataset_versions(self.tables, row)]
        return ok({"versions": shown[page], "totalCount": len(rows)})

    async def get_dataset_version(self, call: Call) -> Answer:
        """By its id alone: the dataset in the path has to be there, and is not compared."""
        space, name = call.namespace(), names.name(call.parts["dataset"])
        version = names.strict_uuid(call.parts["version"])
        if version is None:
            raise not_found()
        await self.database.connected()
        lookups.namespace(self.tables, space)
        if self.tables.dataset(space, name) is None:
            raise missing("Dataset", name)
        row = self.tables.dataset_versions.get(version)
        shown = views.dataset_versions(self.tables, row) if row else []
        if not shown:
            raise missing("Dataset version", version)
        return ok(shown[0])

    async def get_lineage(self, call: Call) -> Answer:
        node, depth = _node(call), call.number("depth", 20)
        await self.database.connected()
        return ok(graph.lineage(self.tables, node, depth))

    async def get_column_lineage(self, call: Call) -> Answer:
        node, depth = _node(call), call.number("depth", 20)
        downstream = (call.one("withDownstream") or "").lower() == "true"
        await self.database.connected()
        return ok(graph.column_lineage(self.tables, node, depth, downstream=downstream))

    async def list_events(self, call: Call) -> Answer:
        page = call.page()
        direction = (call.one("sortDirection") or "desc").upper()
        if direction not in {"ASC", "DESC"}:
            raise Refused(error(400, "query param sortDirection must be one of [DESC, ASC]"))
        before = _moment(call.one("before") or "2030-01-01T00:00:00Z")
        after = _moment(call.one("after") or "1970-01-01T00:00:00Z")
        await self.database.connected()
        within = [event for event in self.tables.events if after <= event.at < before]
        of_runs = [event for event in within if event.kind == request_bodies.EventClass.RUN]
        of_runs.sort(key=lambda event: event.at, reverse=direction == "DESC")
        return ok({"totalCount": len(within), "events": [event.data for event in of_runs[page]]})

    async def get_upstream(self, call: Call) -> Answer:
        text = call.one("runId")
        if not text:
            raise Refused(errors(400, ["query param runId must not be null"]))
        run_id, depth = names.strict_uuid(text), call.number("depth", 20)
        if run_id is None:
            raise not_found()
        await self.database.connected()
        lookups.run(self.tables, run_id)
        return ok(graph.upstream(self.tables, run_id, depth))

    async def list_sources(self, call: Call) -> Answer:
        """For good a 500 once a dataset came without a source's address."""
        await self.database.connected()
        if any(not row.url for row in self.tables.sources.values()):
            raise DatabaseFault("no protocol: ")
        rows = [views.source(name, row) for name, row in sorted(self.tables.sources.items())]
        return ok({"sources": rows[call.page()]})

    async def list_tags(self, call: Call) -> Answer:
        await self.database.connected()
        return ok({"tags": []})

    async def search(self, call: Call) -> Answer:
        wanted, limit, space = call.one("q"), call.number("limit", 10), call.one("namespace")
        kind = (call.one("filter") or "").upper()
        if not wanted:
            raise Refused(errors(400, ["query param q must not be null"]))
        if kind not in {"", "JOB", "DATASET"}:
            raise Refused(error(400, "query param filter must be one of [DATASET, JOB]"))
        await self.database.connected()
        rows = [
            ("DATASET", link.namespace, link.name, self.tables.datasets[link.dataset].updated_at)
            for link in self.tables.symlinks.values()
        ]
        rows += [("JOB", job.namespace, job.name, job.updated_at) for job in self.tables.jobs.values()]
        asked = [row for row in rows if kind in {"", row[0]} and space in {None, row[1]}]
        hits = [row for row in asked if wanted.lower() in row[2].lower()][:limit]
        return ok({"results": [_hit(*hit) for hit in hits], "totalCount": len(hits)})


def _hit(kind: str, space: str, name: str, at: datetime) -> dict[str, Any]:
    node = names.node_id(kind.lower(), names.namespace(space), names.name(name))
    return {"type": kind, "name": name, "updatedAt": names.iso(at), "namespace": space, "nodeId": node}


def _node(call: Call) -> names.Node:
    text = call.one("nodeId")
    if not text:
        raise Refused(errors(400, ["query param nodeId must not be null"]))
    node = names.node(text)
    if node is None:
        raise not_found()
    return node


def _moment(text: str) -> datetime:
    try:
        found = names.stamp(text)
    except Unparsable as unparsable:
        raise Refused(error(400, f"Parameter is invalid: {unparsable}")) from unparsable
    assert found is not None
    return found.at
