"""Rows as the JSON of Marquez's answers. Every view raises `IllegalArgument` for a name that Marquez refuses: this is
how one such name makes whole lists answer 500.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from simulators.marquez import names
from simulators.marquez.names import iso
from simulators.marquez.tables import (
    DatasetVersion,
    Facet,
    Io,
    Job,
    JobVersion,
    Namespace,
    Run,
    Source,
    Symlink,
    Tables,
)

View = dict[str, Any]
_URL = re.compile(r"(https?|ftp|file|jar|mailto):", re.IGNORECASE)
_LATEST_RUNS = 10
_ROWS_WITH_FACETS = 10


def namespace(row: Namespace) -> View:
    return {
        "name": names.namespace(row.name),
        "createdAt": iso(row.created_at),
        "updatedAt": iso(row.updated_at),
        "ownerName": row.owner,
        "description": row.description,
        "isHidden": False,
    }


def source(name: str, row: Source) -> View:
    return {
        "type": "POSTGRESQL",
        "name": name,
        "createdAt": iso(row.created_at),
        "updatedAt": iso(row.updated_at),
        "connectionUrl": row.url,
        "description": None,
    }


def identified(space: str, name: str) -> View:
    return {"namespace": names.namespace(space), "name": names.name(name)}


def merged(facets: Iterable[Facet]) -> View:
    """The facets of several events as one map: the later eventTime wins by name."""
    return {facet.name: facet.value for facet in sorted(facets, key=lambda facet: facet.at)}


def run(tables: Tables, row: Run) -> View:
    job = tables.jobs[row.job]
    version = tables.job_versions[row.job_version] if row.job_version else None
    return {
        "id": str(row.uuid),
        "createdAt": iso(row.created_at),
        "updatedAt": iso(row.updated_at),
        "nominalStartTime": iso(row.nominal_start),
        "nominalEndTime": iso(row.nominal_end),
        "state": row.state or "NEW",
        "startedAt": iso(row.started_at),
        "endedAt": iso(row.ended_at),
        "durationMs": _duration(row.started_at, row.ended_at),
        "args": row.args,
        "jobVersion": {**identified(job.namespace, job.name), "version": str(version.version)} if version else None,
        "inputDatasetVersions": [_used(tables, row, v, "INPUT") for v in tables.input_versions(row.uuid)],
        "outputDatasetVersions": [_used(tables, row, v, "OUTPUT") for v in tables.output_versions(row.uuid)],
        "facets": merged(row.facets),
    }


def _duration(start: datetime | None, end: datetime | None) -> int | None:
    """Milliseconds, negative where the start was moved behind the end."""
    if start is None or end is None:
        return None
    micros = round((end - start).total_seconds() * 1_000_000)
    return micros // 1000 if micros >= 0 else -(-micros // 1000)


def _used(tables: Tables, row: Run, version: DatasetVersion, kind: str) -> View:
    facets = (f for f in tables.dataset_facets(version.uuid) if f.run == row.uuid and f.kind == kind)
    return {
        "datasetVersionId": {**identified(version.namespace, version.name), "version": str(version.version)},
        "facets": merged(facets),
    }


def latest_runs(tables: Tables, row: Job) -> list[Run]:
    """The ten that changed last."""
    return sorted(tables.runs_of(row.uuid), key=_by_transition, reverse=True)[:_LATEST_RUNS]


def _by_transition(row: Run) -> tuple[bool, float, bool, float]:
    """For a descending sort in which nulls come first."""
    moments = (row.transitioned_at, row.started_at)
    (a, b) = ((at is None, at.timestamp() if at else 0.0) for at in moments)
    return (*a, *b)


def job(tables: Tables, row: Job, *, listed: bool = False) -> View:
    """`listed`: as a job list has it, where datasets and facets are always those of one run."""
    latest = latest_runs(tables, row)
    inputs = sorted(set(row.inputs))
    outputs: list[tuple[str, str]] = []
    if latest:
        inputs = _names_of(tables.input_versions(latest[0].uuid))
        outputs = _names_of(tables.output_versions(latest[0].uuid))
    if not listed:
        current = tables.job_versions.get(row.current_version) if row.current_version else None
        inputs = _current(tables, current, Io.INPUT) or inputs
        outputs = _current(tables, current, Io.OUTPUT) or outputs
    facets = _listed_job_facets(tables, row) if listed else _job_facets(tables, row)
    parent = tables.jobs[row.parent] if row.parent else None
    runs = [run(tables, found) for found in latest] or None
    return {
        "id": identified(row.namespace, row.name),
        "type": row.type,
        "name": row.name,
        "simpleName": row.simple_name,
        "parentJobName": parent.name if parent else None,
        "parentJobUuid": str(parent.uuid) if parent else None,
        "createdAt": iso(row.created_at),
        "updatedAt": iso(row.updated_at),
        "namespace": row.namespace,
        "inputs": [identified(*identity) for identity in inputs],
        "outputs": [identified(*identity) for identity in outputs],
        "location": url(row.location),
        "description": row.description,
        "latestRun": runs[0] if runs else None,
        "latestRuns": runs,
        "facets": facets,
        "currentVersion": str(row.current_version) if row.current_version else None,
        "labels": _labels(facets.get("jobType")),
        "tags": [],
    }


def url(text: str | None) -> str | None:
    """A location that is not a valid URL reads as none."""
    return text if text and _URL.match(text) else None


def _names_of(versions: Iterable[DatasetVersion]) -> list[tuple[str, str]]:
    return sorted({(version.namespace, version.name) for version in versions})


def _current(tables: Tables, version: JobVersion | None, io: Io) -> list[tuple[str, str]]:
    """The datasets of a version, under each of their names."""
    if version is None:
        return []
    found = [dataset for dataset, side in version.io if side is io]
    return sorted({(link.namespace, link.name) for dataset in found for link in tables.links(dataset)})


def _job_facets(tables: Tables, row: Job) -> View:
    """Those of all events that led to the current version, in the order in which they came."""
    facets = tables.version_facets(row.current_version) if row.current_version else ()
    return {facet.name: facet.value for facet in facets}


def _listed_job_facets(tables: Tables, row: Job) -> View:
    """Those of the run that came last to the current version."""
    version = tables.job_versions[row.current_version] if row.current_version else None
    return merged(tables.job_facets(version.latest_run)) if version and version.latest_run else {}


def _labels(job_type: Any) -> list[str]:
    if not isinstance(job_type, dict):
        return []
    return [str(job_type[key]) for key in ("jobType", "integration") if key in job_type]


def job_version(tables: Tables, row: JobVersion) -> View:
    owner = tables.jobs[row.job]
    latest = _version_run(tables, row, row.latest_run) if row.latest_run else None
    return {
        "id": {**identified(owner.namespace, owner.name), "version": str(row.version)},
        "name": owner.name,
        "createdAt": iso(row.created_at),
        "version": str(row.version),
        "namespace": owner.namespace,
        "location": url(row.location),
        "inputs": [identified(*identity) for identity in _current(tables, row, Io.INPUT)],
        "outputs": [identified(*identity) for identity in _current(tables, row, Io.OUTPUT)],
        "latestRun": latest,
    }


def _version_run(tables: Tables, version: JobVersion, run_id: UUID) -> View:
    """Here a run has the job's facets in place of the run's facets, and its datasets have none."""
    view = run(tables, tables.runs[run_id])
    for key in ("inputDatasetVersions", "outputDatasetVersions"):
        view[key] = [{**used, "facets": {}} for used in view[key]]
    return view | {"facets": merged(f for f in tables.job_facets(run_id) if f.owner == version.job)}


def run_facets(row: Run) -> View | None:
    """None is an empty body."""
    return {"runId": str(row.uuid), "facets": merged(row.facets)} if row.facets else None


def facets_of_run_job(tables: Tables, row: Run) -> View | None:
    facets = tables.job_facets(row.uuid)
    return {"runId": str(row.uuid), "facets": merged(facets)} if facets else None


def _dataset_head(tables: Tables, link: Symlink) -> View:
    row = tables.datasets[link.dataset]
    return {
        "id": identified(link.namespace, link.name),
        "type": "DB_TABLE",
        "name": link.name,
        "physicalName": names.name(row.physical_name),
        "createdAt": iso(row.created_at),
        "updatedAt": iso(row.updated_at),
        "namespace": link.namespace,
        "sourceName": names.name(row.source),
    }


def dataset(tables: Tables, link: Symlink, column_lineage: list[View] | None, facets: View) -> View:
    row = tables.datasets[link.dataset]
    version = tables.dataset_versions[row.current_version] if row.current_version else None
    return {
        **_dataset_head(tables, link),
        "fields": _columns(tables, version),
        "tags": [],
        "lastModifiedAt": iso(row.last_modified_at),
        "lastLifecycleState": version.lifecycle if version else None,
        "description": row.description,
        "currentVersion": str(row.current_version) if row.current_version else None,
        "columnLineage": column_lineage,
        "facets": facets,
        "deleted": row.deleted,
    }


def _columns(tables: Tables, version: DatasetVersion | None) -> list[View]:
    columns = (tables.columns[column] for column in version.columns) if version else ()
    return [{"name": names.name(c.name), "type": c.type, "tags": [], "description": c.description} for c in columns]


def dataset_facets(tables: Tables, link: Symlink) -> View:
    """Of the current version; under an alias there are none."""
    row = tables.datasets[link.dataset]
    return _facets_of(tables, row.current_version) if (row.namespace, row.name) == (link.namespace, link.name) else {}


def listed_facets(tables: Tables, link: Symlink, *, place: int) -> View:
    """As a list has them: the one that came last wins, and only the first ten rows of a page have any."""
    version = tables.datasets[link.dataset].current_version
    facets = tables.dataset_facets(version) if version and place < _ROWS_WITH_FACETS else ()
    return {facet.name: facet.value for facet in facets if facet.kind != "OUTPUT"}


def _facets_of(tables: Tables, version: UUID | None) -> View:
    facets = tables.dataset_facets(version) if version else ()
    return merged(facet for facet in facets if facet.kind != "OUTPUT")


def dataset_data(tables: Tables, link: Symlink) -> View:
    """A dataset as a node of the graph has it: columns as the version was made with."""
    row = tables.datasets[link.dataset]
    version = tables.dataset_versions[row.current_version] if row.current_version else None
    return {
        **_dataset_head(tables, link),
        "fields": version.fields if version else [],
        "tags": [],
        "lastModifiedAt": iso(row.last_modified_at),
        "description": row.description,
        "lastLifecycleState": version.lifecycle if version else None,
    }


def dataset_versions(tables: Tables, row: DatasetVersion) -> list[View]:
    """One for each name of the dataset, but for names that are an alias anywhere."""
    links = [link for link in tables.links(row.dataset) if link.name not in tables.aliases]
    return [_dataset_version(tables, row, link) for link in links]


def _dataset_version(tables: Tables, row: DatasetVersion, link: Symlink) -> View:
    owner = tables.datasets[row.dataset]
    writer = tables.runs.get(row.run) if row.run else None
    return {
        "id": identified(link.namespace, link.name),
        "type": "DB_TABLE",
        "name": link.name,
        "physicalName": owner.physical_name,
        "createdAt": iso(row.created_at),
        "version": str(row.uuid),
        "namespace": link.namespace,
        "sourceName": owner.source,
        "fields": row.fields,
        "tags": [],
        "lifecycleState": row.lifecycle,
        "description": owner.description,
        "currentSchemaVersion": str(names.version_uuid(row.namespace, row.name, row.fields)),
        "createdByRun": run(tables, writer) if writer else None,
        "facets": _facets_of(tables, row.uuid),
    }
