"""The graphs: jobs and datasets, columns, and the runs that a run builds on."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from simulators.marquez import views
from simulators.marquez.answers import DatabaseFault, Refused, error, missing
from simulators.marquez.names import Node, iso, lenient_uuid, namespace, node_id
from simulators.marquez.tables import Column, ColumnEdge, Io, Job, Symlink, Tables
from simulators.marquez.views import View


def lineage(tables: Tables, node: Node, depth: int) -> View:
    """The graph around a job or dataset; a dataset that shares nothing with a job any more stands alone."""
    _require(tables, node)
    if node.kind not in {"job", "dataset"}:
        raise Refused(error(404, f"Node '{node.text}' must be of type dataset or job!"))
    space, name = node.names()
    start = _job_id(tables, space, name) if node.kind == "job" else _job_around(tables, space, name)
    if start is None:
        return _alone(tables, space, name)
    jobs = _reached(tables, start, depth)
    datasets = {dataset for sides in jobs.values() for side in sides.values() for dataset in side}
    if node.kind == "dataset":
        row = tables.dataset(space, name)
        if row is None or row.uuid not in datasets:
            return _alone(tables, space, name)
    return {"graph": _drawn(tables, jobs, datasets)}


def _require(tables: Tables, node: Node) -> None:
    if node.versioned:
        return
    if node.kind == "run":
        run_id = _uuid(node.parts(2)[0])
        if run_id not in tables.runs:
            raise missing("Run", run_id)
        return
    space, *rest = node.names()
    if node.kind == "job" and tables.job(space, rest[0]) is None:
        raise missing("Job", rest[0])
    if node.kind == "dataset" and tables.dataset(space, rest[0]) is None:
        raise missing("Dataset", rest[0])
    if node.kind == "datasetField" and tables.column(space, *rest) is None:
        raise Refused(error(404, f"Field '{rest[1]}' not found for dataset '{rest[0]}'."))


def _uuid(text: str) -> UUID:
    found = lenient_uuid(text)
    if found is None:
        raise DatabaseFault(f"Invalid UUID string: {text}")
    return found


def _job_id(tables: Tables, space: str, name: str) -> UUID | None:
    job = tables.job(space, name)
    return job.uuid if job else None


def _job_around(tables: Tables, space: str, name: str) -> UUID | None:
    """The job that a dataset's graph starts from: writers before readers, the newest version first."""
    row = tables.dataset(space, name)
    if row is None:
        return None
    found = [
        (io, version.created_at, version.job)
        for version in tables.job_versions.values()
        for dataset, io in version.io
        if dataset == row.uuid
    ]
    return max(found, key=lambda hit: (hit[0] is Io.OUTPUT, hit[1]))[2] if found else None


def _alone(tables: Tables, space: str, name: str) -> View:
    row = tables.dataset(space, name)
    if row is None:
        raise DatabaseFault("Cannot invoke DatasetData.getId()")
    return {"graph": [_dataset_node(_primary(tables, row.uuid), tables, (), ())]}


def _primary(tables: Tables, dataset: UUID) -> Symlink:
    return next(link for link in tables.links(dataset) if link.primary)


Sides = dict[Io, set[UUID]]


def _sides(tables: Tables, job: UUID) -> Sides:
    """The datasets that the job reads and writes at present."""
    found: Sides = {Io.INPUT: set(), Io.OUTPUT: set()}
    for version in tables.versions_of(job):
        for (dataset, io), current in version.io.items():
            if current:
                found[io].add(dataset)
    return found


def _reached(tables: Tables, start: UUID, depth: int) -> dict[UUID, Sides]:
    """All jobs within `depth` steps over common datasets."""
    every = {job: sides for job in tables.jobs if any((sides := _sides(tables, job)).values())}
    reached: dict[UUID, Sides] = {start: every.get(start, {Io.INPUT: set(), Io.OUTPUT: set()})}
    edge = {start}
    for _ in range(depth):
        touched = {dataset for job in edge for side in reached[job].values() for dataset in side}
        edge = {
            job for job, sides in every.items() if job not in reached and touched & (sides[Io.INPUT] | sides[Io.OUTPUT])
        }
        reached.update({job: every[job] for job in edge})
    return reached


def _drawn(tables: Tables, jobs: dict[UUID, Sides], datasets: set[UUID]) -> list[View]:
    readers: defaultdict[UUID, list[Job]] = defaultdict(list)
    writers: defaultdict[UUID, list[Job]] = defaultdict(list)
    nodes = []
    for job_id, sides in jobs.items():
        job = tables.jobs[job_id]
        for dataset in sides[Io.INPUT]:
            readers[dataset].append(job)
        for dataset in sides[Io.OUTPUT]:
            writers[dataset].append(job)
        nodes.append(_job_node(tables, job, sides))
    nodes += [_dataset_node(_primary(tables, d), tables, writers[d], readers[d]) for d in datasets]
    return sorted(nodes, key=lambda node: str(node["id"]))


def _job_node(tables: Tables, job: Job, sides: Sides) -> View:
    own = _job_node_id(job)
    inputs, outputs = (
        sorted((_primary(tables, d) for d in sides[io]), key=lambda link: (link.namespace, link.name))
        for io in (Io.INPUT, Io.OUTPUT)
    )
    return {
        "id": own,
        "type": "JOB",
        "data": _job_data(tables, job, inputs, outputs),
        "inEdges": [_edge(_dataset_node_id(link), own) for link in inputs],
        "outEdges": [_edge(own, _dataset_node_id(link)) for link in outputs],
    }


def _job_data(tables: Tables, job: Job, inputs: Iterable[Symlink], outputs: Iterable[Symlink]) -> View:
    parent = tables.jobs[job.parent] if job.parent else None
    latest = tables.runs.get(job.current_run) if job.current_run else None
    return {
        "id": views.identified(job.namespace, job.name),
        "type": job.type,
        "name": job.name,
        "simpleName": job.simple_name,
        "parentJobName": parent.name if parent else None,
        "parentJobUuid": str(parent.uuid) if parent else None,
        "currentRunUuid": str(job.current_run) if job.current_run else None,
        "createdAt": iso(job.created_at),
        "updatedAt": iso(job.updated_at),
        "namespace": job.namespace,
        "inputs": [views.identified(link.namespace, link.name) for link in inputs],
        "outputs": [views.identified(link.namespace, link.name) for link in outputs],
        "location": views.url(job.location),
        "description": job.description,
        "latestRun": views.run(tables, latest) if latest else None,
    }


def _dataset_node(link: Symlink, tables: Tables, writers: Iterable[Job], readers: Iterable[Job]) -> View:
    own = _dataset_node_id(link)
    return {
        "id": own,
        "type": "DATASET",
        "data": views.dataset_data(tables, link),
        "inEdges": [_edge(_job_node_id(job), own) for job in writers],
        "outEdges": [_edge(own, _job_node_id(job)) for job in readers],
    }


def _job_node_id(job: Job) -> str:
    return node_id("job", namespace(job.namespace), job.name)


def _dataset_node_id(link: Symlink) -> str:
    return node_id("dataset", namespace(link.namespace), link.name)


def _edge(origin: str, destination: str) -> View:
    return {"origin": origin, "destination": destination}


def column_lineage(tables: Tables, node: Node, depth: int, *, downstream: bool) -> View:
    """The column graph above a column, all columns of a dataset, or all that a job's latest run wrote."""
    start = _columns_at(tables, node)
    if not start:
        raise Refused(error(404, "Could not find node"))
    latest = _latest_edges(tables)
    reached = _reached_edges(latest, start, depth, downstream=downstream)
    return {"graph": _drawn_columns(tables, reached)}


def _columns_at(tables: Tables, node: Node) -> set[UUID]:
    """Nothing for a version: this simulator draws the present only."""
    if node.kind == "run":
        raise DatabaseFault(f"Unsupported NodeId: {node.text}")
    space, name, *field = node.names()
    if node.versioned:
        _uuid((field or [name])[0].rpartition("#")[2])
        return set()
    if node.kind == "job":
        return _columns_of_job(tables, space, name)
    row = tables.dataset(space, name)
    columns = tables.columns_of(row.uuid) if row else []
    found = {column.uuid for column in columns if not field or column.name == field[0]}
    if field and len(found) > 1:
        raise DatabaseFault("Multiple values for optional")
    return found


def _columns_of_job(tables: Tables, space: str, name: str) -> set[UUID]:
    job = tables.job(space, name)
    runs = sorted(tables.runs_of(job.uuid), key=lambda run: run.created_at) if job else []
    written = tables.output_versions(runs[-1].uuid) if runs else []
    return {column.uuid for version in written for column in tables.columns_of(version.dataset)}


def _latest_edges(tables: Tables) -> dict[tuple[UUID, UUID], ColumnEdge]:
    """Per pair of columns the edge that was written last."""
    latest: dict[tuple[UUID, UUID], ColumnEdge] = {}
    for edge in tables.column_edges.values():
        known = latest.get((edge.output, edge.input))
        if known is None or edge.updated_at >= known.updated_at:
            latest[edge.output, edge.input] = edge
    return latest


def _reached_edges(
    latest: dict[tuple[UUID, UUID], ColumnEdge], start: set[UUID], depth: int, *, downstream: bool
) -> list[ColumnEdge]:
    reached = {key: edge for key, edge in latest.items() if key[0] in start}
    edge_of = dict(reached)
    for _ in range(depth - 1):
        inputs = {key[1] for key in edge_of}
        outputs = {key[0] for key in edge_of} if downstream else set()
        edge_of = {
            key: edge for key, edge in latest.items() if key not in reached and (key[0] in inputs or key[1] in outputs)
        }
        reached.update(edge_of)
    return list(reached.values())


def _drawn_columns(tables: Tables, edges: list[ColumnEdge]) -> list[View]:
    nodes: dict[str, View] = {}
    grouped: defaultdict[tuple[UUID, UUID], list[ColumnEdge]] = defaultdict(list)
    for edge in edges:
        grouped[edge.output, edge.output_version].append(edge)
    for (output, version), group in grouped.items():
        own = _column_node_id(tables, tables.columns[output])
        sources = [_source(tables, edge) for edge in group]
        known = nodes.get(own, {"inEdges": [], "outEdges": []})
        nodes[own] = {
            "id": own,
            "type": "DATASET_FIELD",
            "data": _column_data(tables, tables.columns[output], version, sources),
            "inEdges": known["inEdges"],
            "outEdges": known["outEdges"],
        }
        for edge in group:
            _connect(tables, nodes, own, edge)
    return sorted(nodes.values(), key=lambda node: str(node["id"]))


def _connect(tables: Tables, nodes: dict[str, View], own: str, edge: ColumnEdge) -> None:
    """The edges run as Marquez draws them: inEdges of the output point at the input."""
    column = tables.columns[edge.input]
    source = _column_node_id(tables, column)
    empty = _column_data(tables, column, edge.input_version, [], kind="")
    node = nodes.setdefault(
        source, {"id": source, "type": "DATASET_FIELD", "data": empty, "inEdges": [], "outEdges": []}
    )
    nodes[own]["inEdges"].append(_edge(own, source))
    node["outEdges"].append(_edge(source, own))


def _column_node_id(tables: Tables, column: Column) -> str:
    link = _primary(tables, column.dataset)
    return node_id("datasetField", namespace(link.namespace), link.name, column.name)


def _column_data(
    tables: Tables, column: Column, version: UUID | None, sources: list[View], kind: str | None = None
) -> View:
    link = _primary(tables, column.dataset)
    first = sources[0] if sources else {}
    return {
        "namespace": link.namespace,
        "dataset": link.name,
        "datasetVersion": str(version) if version else None,
        "field": column.name,
        "fieldType": column.type if kind is None else kind,
        "transformationDescription": first.get("transformationDescription"),
        "transformationType": first.get("transformationType"),
        "inputFields": sources,
    }


def _source(tables: Tables, edge: ColumnEdge) -> View:
    column = tables.columns[edge.input]
    link = _primary(tables, column.dataset)
    return {
        "namespace": link.namespace,
        "dataset": link.name,
        "datasetVersion": str(edge.input_version),
        "field": column.name,
        "transformationDescription": edge.description,
        "transformationType": edge.type,
    }


def columns_of(tables: Tables, links: list[Symlink]) -> dict[tuple[str, str], list[View]]:
    """What the datasets' own views say of their columns' origin, by namespace and name.

    It is filed under the name that the version was written by: a page that shows such a dataset only under another name
    of the same namespace is an unhandled error.
    """
    shown = {(link.namespace, link.name) for link in links}
    found: defaultdict[tuple[str, str], dict[str, list[View]]] = defaultdict(dict)
    edges = list(_latest_edges(tables).values())
    for link in links:
        for edge in edges:
            version = tables.dataset_versions[edge.output_version]
            written = tables.symlinks.get((link.namespace, version.name))
            if version.dataset == link.dataset and written is not None and written.primary:
                source = {key: value for key, value in _source(tables, edge).items() if key != "datasetVersion"}
                known = found[version.namespace, version.name].setdefault(tables.columns[edge.output].name, [])
                known += [] if source in known else [source]
    if not set(found) <= shown:
        raise DatabaseFault("No value present")
    return {name: [_origin(column, sources) for column, sources in c.items()] for name, c in found.items()}


def _origin(name: str, sources: list[View]) -> View:
    keys = ("transformationDescription", "transformationType")
    return {"name": name, "inputFields": sources, **{key: sources[0][key] for key in keys}}


def upstream(tables: Tables, run_id: UUID, depth: int) -> View:
    """The runs that wrote what this run read, and so on. An input that nobody wrote is an unhandled error."""
    found: list[View] = []
    edge, seen = [run_id], {run_id}
    for level in range(depth + 1):
        following: list[UUID] = []
        for current in edge:
            row, sources = _upstream_row(tables, current)
            found.append(row)
            following += [source for source in sources if source not in seen and level < depth]
            seen.update(following)
        edge = following
    return {"runs": found}


def _upstream_row(tables: Tables, run_id: UUID) -> tuple[View, list[UUID]]:
    run = tables.runs[run_id]
    versions = tables.input_versions(run_id)
    writers = [version.run for version in versions if version.run is not None]
    if len(writers) < len(versions) or run.state is None:
        raise DatabaseFault("value is marked non-null but is null")
    inputs: list[dict[str, Any]] = [
        {
            "namespace": version.namespace,
            "name": version.name,
            "version": str(version.version),
            "producedByRunId": str(version.run),
        }
        for version in versions
    ]
    version = run.job_version
    return {
        "job": {"namespace": run.namespace, "name": run.job_name, "version": str(version) if version else None},
        "run": {
            "id": str(run_id),
            "start": iso(run.started_at),
            "end": iso(run.ended_at),
            "status": run.state,
        },
        "inputs": inputs,
    }, writers
