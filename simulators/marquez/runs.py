"""Rows of jobs, runs and job versions: what the event path and the runs API have in common."""

from datetime import datetime
from uuid import UUID

from simulators.marquez import names
from simulators.marquez.tables import DONE, Io, Job, JobVersion, Run, Tables


def upsert_job(
    tables: Tables,
    space: str,
    name: str,
    now: datetime,
    *,
    at: datetime,
    kind: str,
    description: str | None = None,
    location: str | None = None,
    inputs: list[tuple[str, str]] | None = None,
    run: UUID | None = None,
    parent: Job | None = None,
) -> Job:
    """Everything but the parent is overwritten by what came last, nulls included."""
    full = f"{parent.name}.{name}" if parent else name
    names.indexable(full)
    names.storable(description, location)
    job = tables.job(space, full)
    if job is None:
        job = Job(tables.new_id(), space, full, name, None, kind, at, at, None, None, [], None)
        tables.add_job(job)
    else:
        job.updated_at = now
        job.simple_name = name if parent else job.name
    job.parent = job.parent or (parent.uuid if parent else None)
    job.type, job.description, job.location = kind, description, location
    job.inputs, job.current_run = inputs or [], run
    return job


def upsert_run(
    tables: Tables,
    run_id: UUID,
    job: Job,
    space: str,
    args: dict[str, str],
    at: datetime,
    parent: UUID | None = None,
) -> Run:
    """On conflict the job, its names, the args, the nominal times and the parent stay as they were."""
    run = tables.runs.get(run_id)
    if run is None:
        run = Run(run_id, parent, at, at, job.uuid, space, job.name, args)
        tables.add_run(run)
    run.updated_at = at
    return run


def create_run(
    tables: Tables,
    run_id: UUID,
    job: Job,
    args: dict[str, str],
    nominal: tuple[datetime | None, datetime | None],
    now: datetime,
) -> Run:
    """The runs API's insert: state NEW, and the job's inputs of the last event become this run's."""
    run = upsert_run(tables, run_id, job, job.namespace, args, now)
    run.nominal_start, run.nominal_end = nominal[0] or run.nominal_start, nominal[1] or run.nominal_end
    run.state = "NEW"
    run.transitioned_at = now
    for space, name in job.inputs:
        map_input(tables, run, space, name)
    run.states.append(("NEW", now))
    return run


def map_input(tables: Tables, run: Run, space: str, name: str) -> None:
    found = tables.dataset(space, name)
    if found is not None and found.current_version is not None:
        run.inputs[found.current_version] = None


def mark(run: Run, state: str, at: datetime) -> None:
    """A state is taken as it comes: there is no state machine."""
    run.states.append((state, at))
    run.state, run.updated_at, run.transitioned_at = state, at, at
    if state in DONE:
        run.ended_at = at
    elif state == "RUNNING":
        run.started_at = at


def retire(tables: Tables, job: Job, io: Io, but: UUID | None = None) -> None:
    """No dataset is a current input (output) of the job any more."""
    for version in tables.versions_of(job.uuid):
        if version.uuid != but:
            version.io.update({key: False for key in version.io if key[1] is io})


def version_hash(tables: Tables, job: Job, run: Run) -> UUID:
    """What names the version of a job: its datasets, as this run reported them so far, and its location."""
    sides = (tables.input_versions(run.uuid), tables.output_versions(run.uuid))
    return hash_of(tables, job, *([(version.namespace, version.name) for version in side] for side in sides))


def hash_of(tables: Tables, job: Job, inputs: list[tuple[str, str]], outputs: list[tuple[str, str]]) -> UUID:
    """Raises for names that Marquez refuses."""
    name = f"{tables.jobs[job.parent].name}.{job.simple_name}" if job.parent else job.name
    sides = [sorted({(names.namespace(space), names.name(name)) for space, name in side}) for side in (inputs, outputs)]
    return names.version_uuid(names.namespace(job.namespace), names.name(name), *sides, job.location)


def link_version(tables: Tables, job: Job, run: Run, at: datetime) -> None:
    """A job version of all that the run reported becomes the run's and the job's; its datasets are the current ones."""
    version = upsert_version(tables, job, version_hash(tables, job, run), at)
    for io, rows in ((Io.INPUT, tables.input_versions(run.uuid)), (Io.OUTPUT, tables.output_versions(run.uuid))):
        set_current(tables, job, version, io, [row.dataset for row in rows])
    run.job_version = version.uuid
    version.latest_run = run.uuid
    tables.scope_job_facets(run.uuid, version.uuid)
    job.current_version, job.updated_at = version.uuid, at


def upsert_version(tables: Tables, job: Job, hashed: UUID, at: datetime) -> JobVersion:
    known = tables.job_version_by_hash.get(hashed)
    if known is not None:
        return tables.job_versions[known]
    version = JobVersion(tables.new_id(), hashed, job.uuid, at, job.location)
    tables.add_job_version(version)
    return version


def set_current(tables: Tables, job: Job, version: JobVersion, io: Io, found: list[UUID]) -> None:
    """No datasets found: those of earlier versions stay as they are."""
    if found:
        retire(tables, job, io, but=version.uuid)
        version.io.update({(dataset, io): True for dataset in found})
