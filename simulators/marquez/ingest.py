"""What `POST /lineage` does to the tables, one statement after the other.

It is not a transaction: an error in the middle leaves what came before, and two events may interleave. So each kind of
event is a generator that yields the name of each step that is done.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from simulators.marquez import datasets, names, runs
from simulators.marquez.answers import DatabaseFault
from simulators.marquez.request_bodies import Event, EventClass
from simulators.marquez.tables import DONE, DatasetVersion, Facet, Io, Job, RawEvent, Run, Tables

_STATES = {"complete": "COMPLETED", "abort": "ABORTED", "fail": "FAILED"}
Step = str


def store_raw(tables: Tables, event: Event) -> None:
    """The event as `GET /events/lineage` shows it. No uniqueness: repeats pile up."""
    data = datasets.echoed(event.data)
    datasets.check_storable(data)
    tables.events.append(RawEvent(event.kind, event.at, data))


def apply(tables: Tables, event: Event, now: names.Now) -> Iterator[Step]:
    """Bring the model up to date."""
    if event.kind is EventClass.RUN:
        yield from _run_event(tables, event, now)
    elif event.kind is EventClass.JOB:
        yield from _job_event(tables, event)
    else:
        yield from _dataset_event(tables, event, now)


def state_of(event_type: str | None) -> str:
    """Every type but the three ends, known or not, means RUNNING."""
    return _STATES.get((event_type or "").lower(), "RUNNING")


def _run_event(tables: Tables, event: Event, now: names.Now) -> Iterator[Step]:
    data, at = event.data, event.at
    space = names.rewritten(data["job"]["namespace"])
    names.indexable(space)
    tables.upsert_namespace(space, at)
    run_id = names.run_uuid(data["run"]["runId"])
    facets: Mapping[str, Any] = data["run"]["facets"] or {}
    parent = _parent(tables, event, space, now)
    yield "namespace"
    job = _job_of(tables, event, space, parent, run_id, now)
    run = runs.upsert_run(tables, run_id, job, space, _args(facets), at, parent=parent.run if parent else None)
    if event.type is not None:
        run.state, run.transitioned_at = state_of(event.type), at
    yield "run"
    _insert_run_facets(run, event, facets)
    yield "run facets"
    if event.type is not None:
        names.storable(event.type)
        runs.mark(run, state_of(event.type), at)
    yield "state"
    _insert_job_facets(tables, job, data["job"]["facets"], run, at)
    yield "job facets"
    for io, key in ((Io.INPUT, "inputs"), (Io.OUTPUT, "outputs")):
        for given in data[key] or ():
            yield from _dataset(tables, given, at, run.uuid, io)
            yield io.lower()
        if not data[key] and not _ends_streaming(event):
            runs.retire(tables, job, io)
    yield from _versions(tables, event, job, run, now)


def _versions(tables: Tables, event: Event, job: Job, run: Run, now: names.Now) -> Iterator[Step]:
    streaming = _streaming(event.data["job"])
    if streaming and not _ends_streaming(event):
        if runs.version_hash(tables, job, run) not in tables.job_version_by_hash:
            runs.link_version(tables, job, run, event.at)
    elif not streaming and state_of(event.type) in DONE:
        runs.link_version(tables, job, run, event.at)
    yield "job version"
    if event.type is not None and (event.type.upper() == "COMPLETE" or streaming):
        written = tables.output_versions(run.uuid)
        datasets.make_current(tables, written, now())
        _check_names(written)
    yield "current versions"


def _check_names(versions: list[DatasetVersion]) -> None:
    for version in versions:
        names.namespace(version.namespace)
        names.name(version.name)


def _streaming(job: Mapping[str, Any]) -> bool:
    kind = ((job["facets"] or {}).get("jobType") or {}).get("processingType") or ""
    return str(kind).upper() == "STREAMING"


def _ends_streaming(event: Event) -> bool:
    """A terminal event of a streaming job that names no datasets changes none."""
    ends = (event.type or "").upper() in {"COMPLETE", "FAIL"}
    return ends and _streaming(event.data["job"]) and not event.data["inputs"] and not event.data["outputs"]


@dataclass(frozen=True, slots=True)
class _Parent:
    run: UUID
    job: Job


def _parent(tables: Tables, event: Event, space: str, now: names.Now) -> _Parent | None:
    facet = ((event.data["run"]["facets"] or {}).get("parent")) or None
    if facet is None:
        return None
    link, own = facet["job"], event.data["job"]["name"]
    wanted = names.parent_job_name(link["name"]) if link["name"] == own else link["name"]
    run_id = names.parent_run_uuid(link["namespace"], link["name"], facet["run"]["runId"])
    known = tables.runs.get(run_id)
    if known is None:
        return _Parent(run_id, _make_parent(tables, event, space, wanted, run_id, now))
    job = tables.jobs[known.job]
    if (job.namespace, job.name) == (link["namespace"], wanted):
        return _Parent(run_id, job)
    other = names.conflict_uuid(link["namespace"], wanted, str(run_id))
    return _Parent(run_id, _make_parent(tables, event, space, wanted, other, now))


def _make_parent(tables: Tables, event: Event, space: str, name: str, run_id: UUID, now: names.Now) -> Job:
    """An unknown parent comes to life in the child's namespace, with the child's state and time."""
    facets = event.data["run"]["facets"]
    job = runs.upsert_job(
        tables, space, name, now(), at=event.at, kind=_type(event), location=_location(event), run=run_id
    )
    run = runs.upsert_run(tables, run_id, job, space, {}, event.at)
    nominal = facets.get("nominalTime") or {}
    start, end = nominal.get("nominalStartTime"), nominal.get("nominalEndTime")
    run.nominal_start = start.at if start else run.nominal_start
    run.nominal_end = end.at if end else run.nominal_end
    run.state, run.transitioned_at = None, event.at
    if event.type is not None:
        run.state = state_of(event.type)
        runs.mark(run, run.state, event.at)
    return job


def _job_of(
    tables: Tables, event: Event, space: str, parent: _Parent | None, run_id: UUID | None, now: names.Now | None
) -> Job:
    given = event.data["job"]
    inputs = [_dataset_id(row) for row in event.data["inputs"] or ()] if run_id is not None else []
    name = given["name"]
    if parent is not None:
        name = name.removeprefix(f"{parent.job.name}.")
    return runs.upsert_job(
        tables,
        space,
        name,
        now() if now else event.at,
        at=event.at,
        kind=_type(event),
        description=((given["facets"] or {}).get("documentation") or {}).get("description"),
        location=_location(event),
        inputs=inputs,
        run=parent.job.current_run if parent else run_id,
        parent=parent.job if parent else None,
    )


def _dataset_id(row: Mapping[str, Any] | None) -> tuple[str, str]:
    if row is None:
        raise DatabaseFault("Cannot invoke Dataset.getNamespace()")
    return names.namespace(row["namespace"]), names.name(row["name"])


def _type(event: Event) -> str:
    return "STREAM" if _streaming(event.data["job"]) else "BATCH"


def _location(event: Event) -> str | None:
    found: str | None = ((event.data["job"]["facets"] or {}).get("sourceCodeLocation") or {}).get("url")
    return found


def _args(facets: Mapping[str, Any]) -> dict[str, str]:
    args = {}
    if nominal := facets.get("nominalTime"):
        args["nominal_start_time"] = nominal["nominalStartTime"].short
        if nominal["nominalEndTime"]:
            args["nominal_end_time"] = nominal["nominalEndTime"].short
    if parent := facets.get("parent"):
        args |= {"run_id": parent["run"]["runId"], **parent["job"]}
    return args


def _insert_run_facets(run: Run, event: Event, facets: Mapping[str, Any]) -> None:
    if event.data["run"]["facets"] is None:
        return
    if event.type is None:
        raise DatabaseFault("lineageEventType is marked non-null but is null")
    for name, value in facets.items():
        if value is not None:
            datasets.check_storable(datasets.plain(value))
            run.facets.append(Facet(run.uuid, name, datasets.plain(value), event.at))


def _insert_job_facets(
    tables: Tables, job: Job, facets: Mapping[str, Any] | None, run: Run | None, at: datetime, scope: UUID | None = None
) -> None:
    for name, value in (facets or {}).items():
        if value is not None:
            datasets.check_storable(datasets.plain(value))
            tables.add_job_facet(
                Facet(job.uuid, name, datasets.plain(value), at, run=run.uuid if run else None, scope=scope)
            )


def _dataset(tables: Tables, given: Mapping[str, Any] | None, at: datetime, run: UUID | None, io: Io) -> Iterator[Step]:
    if given is None:
        raise DatabaseFault("Cannot invoke Dataset.getNamespace()")
    for stored in datasets.upsert(tables, given, at, run, io):
        if stored is None:
            yield f"new dataset {given['namespace']} {given['name']}"


def _job_event(tables: Tables, event: Event) -> Iterator[Step]:
    """A job and its edges without any run."""
    space = names.rewritten(event.data["job"]["namespace"])
    tables.upsert_namespace(space, event.at)
    job = _job_of(tables, event, space, None, None, None)
    yield "job"
    found: dict[Io, list[tuple[str, str]]] = {Io.INPUT: [], Io.OUTPUT: []}
    for io, key in ((Io.INPUT, "inputs"), (Io.OUTPUT, "outputs")):
        for given in event.data[key] or ():
            yield from _dataset(tables, given, event.at, None, io)
            found[io].append((given["namespace"], given["name"]))
    hashed = runs.hash_of(tables, job, found[Io.INPUT], found[Io.OUTPUT])
    version = runs.upsert_version(tables, job, hashed, job.created_at)
    for io, rows in found.items():
        runs.set_current(tables, job, version, io, [tables.symlinks[row].dataset for row in rows])
    job.current_version, job.updated_at = version.uuid, job.created_at
    _insert_job_facets(tables, job, event.data["job"]["facets"], None, event.at, version.uuid)
    yield "job version"


def _dataset_event(tables: Tables, event: Event, now: names.Now) -> Iterator[Step]:
    given = event.data["dataset"]
    if given is None:
        raise DatabaseFault("Cannot invoke Dataset.getNamespace()")
    tables.upsert_namespace(names.rewritten(given["namespace"]), event.at)
    for stored in datasets.upsert(tables, given, event.at, None, Io.OUTPUT):
        if stored is None:
            yield f"new dataset {given['namespace']} {given['name']}"
        else:
            datasets.make_current(tables, [stored[1]], now())
    yield "dataset"
