"""The calls that write: the runs API, and events."""

import asyncio
from random import Random
from uuid import UUID

from simulators.marquez import ingest, lookups, names, request_bodies, runs, views
from simulators.marquez.answers import Answer, DatabaseFault, Refused, error, missing, ok
from simulators.marquez.database import CONNECTIONS_PER_EVENT, Database, Killed
from simulators.marquez.tables import DONE, Run, Tables
from simulators.marquez.wire import Call


class Writes:
    """Each call waits for the database, then changes the tables statement by statement."""

    def __init__(self, tables: Tables, database: Database, now: names.Now, rng: Random) -> None:
        self.tables = tables
        self.database = database
        self._now, self._rng = now, rng
        self._creating: dict[str, int] = {}

    async def put_namespace(self, call: Call) -> Answer:
        space = call.namespace()
        meta = request_bodies.namespace_meta(call.body)
        await self.database.connected()
        known = self.tables.namespaces.get(space)
        row = known or self.tables.upsert_namespace(space, self._now(), meta.owner)
        names.storable(meta.owner, meta.description)
        if known and meta.description is not None:
            row.updated_at = self._now()
        elif known is None:
            row.description = meta.description
        if row.owner.lower() != meta.owner.lower():
            if meta.owner in row.owned_by:
                raise DatabaseFault("org.postgresql.util.PSQLException: ERROR: duplicate key on namespace_ownerships")
            row.owned_by.add(meta.owner)
            row.owner, row.updated_at = meta.owner, self._now()
        return ok(views.namespace(row))

    async def put_job(self, call: Call) -> Answer:
        space, name = call.namespace(), lookups.job_name(self.tables, call)
        meta = request_bodies.job_meta(call.body)
        await self.database.connected()
        lookups.namespace(self.tables, space)
        run = self._run_of_job(meta.run_id, space, name)
        for identity in (*meta.inputs, *meta.outputs):
            if self.tables.dataset(*identity) is None:
                raise missing("Dataset", identity[1])
        now = self._now()
        job = runs.upsert_job(
            self.tables,
            space,
            name,
            now,
            at=now,
            kind=meta.type,
            description=meta.description,
            location=meta.location,
            inputs=meta.inputs,
            run=run.uuid if run else None,
        )
        if run is not None:
            for identity in meta.inputs:
                runs.map_input(self.tables, run, *identity)
        return ok(views.job(self.tables, job))

    def _run_of_job(self, run_id: str | None, space: str, name: str) -> Run | None:
        if run_id is None:
            return None
        run = self.tables.runs.get(UUID(run_id))
        job = self.tables.jobs[run.job] if run else None
        if job is None or (job.namespace, job.name) != (space, name):
            raise missing("Run", run_id)
        return run

    async def create_run(self, call: Call) -> Answer:
        """The check for the id and the insert are two steps: of several at once more than one may get its 201."""
        space, name = call.namespace(), lookups.job_name(self.tables, call)
        meta = request_bodies.run_meta(call.body)
        await self.database.connected()
        job = lookups.job(self.tables, space, name)
        run_id = UUID(meta.id) if meta.id else self.tables.new_id()
        if run_id in self.tables.runs:
            message = f"Run '{run_id}' already exists for '{name}' under namespace '{space}'."
            raise Refused(error(400, message))
        await asyncio.sleep(self.database.pause)
        nominal = (meta.nominal_start, meta.nominal_end)
        run = runs.create_run(self.tables, run_id, job, meta.args, nominal, self._now())
        return ok(views.run(self.tables, run), 201, {"Location": "/api/v1/"})

    async def mark_run(self, state: str, call: Call) -> Answer:
        run_id = call.run_id()
        await self.database.connected()
        run = lookups.run(self.tables, run_id)
        at = names.at_parameter(call.one("at")) or self._now()
        runs.mark(run, state, at)
        if state in DONE:
            for version in self.tables.output_versions(run.uuid):
                self.tables.datasets[version.dataset].last_modified_at = at
                self.tables.datasets[version.dataset].updated_at = at
            runs.link_version(self.tables, self.tables.jobs[run.job], run, at)
        return ok(views.run(self.tables, run))

    async def post_lineage(self, call: Call) -> Answer:
        """Two tasks: the raw event and the model. Both end before the answer, whatever becomes of the other."""
        event = request_bodies.event(call.body)
        await self.database.connected(CONNECTIONS_PER_EVENT)
        raw: DatabaseFault | None = None
        try:
            ingest.store_raw(self.tables, event)
        except DatabaseFault as fault:
            raw = fault
        await self._apply(event)
        if raw is not None:
            raise raw
        return Answer(201)

    async def _apply(self, event: request_bodies.Event) -> None:
        life = self.database.life
        creating: list[str] = []
        try:
            for step in ingest.apply(self.tables, event, self._now):
                if step.startswith("new dataset"):
                    creating.append(step)
                    self._creating[step] = self._creating.get(step, 0) + 1
                await self._between(step, event, life)
        finally:
            for step in creating:
                self._creating[step] -= 1

    async def _between(self, step: str, event: request_bodies.Event, life: int) -> None:
        """Other requests go on between two statements, and the process may die there."""
        await asyncio.sleep(0)
        if (
            step == "state"
            and self.database.kill_during
            and (event.type or "").upper() == self.database.kill_during.upper()
        ):
            self.database.kill_during = None
            await self.database.kill()
        if life != self.database.life:
            raise Killed
        if self._creating.get(step, 0) > 1 and self._rng.random() < self.database.clash_chance:
            raise DatabaseFault("duplicate key value violates unique constraint")
