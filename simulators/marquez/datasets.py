"""What an event says of one dataset: its row, names, columns, version, column lineage and facets."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from simulators.marquez import names
from simulators.marquez.answers import DatabaseFault
from simulators.marquez.request_bodies import is_uri, pruned
from simulators.marquez.tables import Column, ColumnEdge, Dataset, DatasetVersion, Facet, Io, Symlink, Tables

_KINDS = {
    **dict.fromkeys(
        (
            "documentation",
            "description",
            "schema",
            "dataSource",
            "lifecycleStateChange",
            "version",
            "columnLineage",
            "ownership",
        ),
        "DATASET",
    ),
    "dataQualityMetrics": "INPUT",
    "dataQualityAssertions": "INPUT",
    "outputStatistics": "OUTPUT",
}
_KIND = {name.lower(): kind for name, kind in _KINDS.items()}


def upsert(
    tables: Tables, given: Mapping[str, Any], at: datetime, run: UUID | None, io: Io
) -> Iterator[tuple[Dataset, DatasetVersion] | None]:
    """Store one dataset of an event. Yields None once, where a second first event of the dataset could come between,
    then what was stored.
    """
    facets: Mapping[str, Any] = given["facets"] or {}
    space, name = given["namespace"], given["name"]
    names.indexable(space, name)
    tables.upsert_namespace(space, at)
    source = _upsert_source(tables, facets.get("dataSource"), at)
    stored_space = names.rewritten(space)
    tables.upsert_namespace(stored_space, at)
    link = tables.symlinks.get((space, name))
    if link is None:
        link = Symlink(space, name, tables.new_id(), primary=True)
        yield None
        link = tables.add_symlink(link)
    _upsert_symlinks(tables, link, facets.get("symlinks"), at)
    dataset = _upsert_row(tables, link, stored_space, source, facets, at)
    columns = _upsert_columns(tables, dataset, facets)
    version = _version(tables, dataset, link, facets, at, run, io, source)
    version.columns.update(dict.fromkeys(column.uuid for column in columns))
    if io is Io.INPUT and run is not None:
        tables.runs[run].inputs[version.uuid] = None
        if dataset.current_version is None:
            _set_current(dataset, version, at)
    if io is Io.OUTPUT:
        _upsert_column_edges(tables, facets, columns, version, run, at)
    _insert_facets(tables, given, dataset, version, run, at)
    yield dataset, version


def _upsert_source(tables: Tables, facet: Mapping[str, Any] | None, at: datetime) -> str:
    if facet is None:
        return tables.upsert_source("default", "", at)
    if facet["name"] is None:
        raise DatabaseFault('null value in column "name" of relation "sources"')
    names.storable(facet["name"], facet["uri"])
    uri = facet["uri"] or ""
    if not is_uri(uri) and not is_uri(f"http://{uri}"):
        raise DatabaseFault('null value in column "connection_url" of relation "sources"')
    return tables.upsert_source(str(facet["name"]), uri, at)


def _upsert_symlinks(tables: Tables, link: Symlink, facet: Mapping[str, Any] | None, at: datetime) -> None:
    if facet is None:
        return
    if facet["identifiers"] is None:
        raise DatabaseFault("Cannot invoke List.stream()")
    for other in facet["identifiers"]:
        if other is None:
            raise DatabaseFault("Cannot invoke SymlinkIdentifier.getName()")
        names.indexable(other["namespace"], other["name"])
        tables.upsert_namespace(other["namespace"], at)
        tables.add_symlink(Symlink(other["namespace"], other["name"], link.dataset, primary=False))


def _upsert_row(
    tables: Tables, link: Symlink, space: str, source: str, facets: Mapping[str, Any], at: datetime
) -> Dataset:
    row = tables.datasets.get(link.dataset)
    if row is None:
        if (space, link.name) in tables.dataset_by_name:
            raise DatabaseFault("duplicate key value violates unique constraint on datasets (namespace, name)")
        row = Dataset(link.dataset, space, link.name, link.name, source, at, at)
        tables.datasets[row.uuid] = row
        tables.dataset_by_name[space, link.name] = row.uuid
    row.updated_at, row.physical_name = at, link.name
    row.description = (facets.get("documentation") or {}).get("description")
    names.storable(row.description)
    row.deleted = _lifecycle(facets).upper() == "DROP"
    return row


def _lifecycle(facets: Mapping[str, Any]) -> str:
    return (facets.get("lifecycleStateChange") or {}).get("lifecycleStateChange") or ""


def _schema(facets: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    rows = (facets.get("schema") or {}).get("fields")
    if rows is not None and None in rows:
        raise DatabaseFault("Cannot invoke SchemaField.getName()")
    return rows


def _upsert_columns(tables: Tables, dataset: Dataset, facets: Mapping[str, Any]) -> list[Column]:
    found = []
    for row in _schema(facets) or ():
        names.storable(row["name"], row["type"], row["description"])
        column = _same_column(tables, dataset.uuid, row["name"], row["type"])
        if column is None:
            column = Column(tables.new_id(), dataset.uuid, row["name"], row["type"], row["description"])
            tables.add_column(column)
        column.description = row["description"]
        found.append(column)
    return found


def _same_column(tables: Tables, dataset: UUID, name: str, kind: str | None) -> Column | None:
    """A column without a type is never the same as another: nulls are distinct in the database's unique index."""
    if kind is None:
        return None
    return next((c for c in tables.columns_of(dataset) if (c.name, c.type) == (name, kind)), None)


def _version(
    tables: Tables,
    dataset: Dataset,
    link: Symlink,
    facets: Mapping[str, Any],
    at: datetime,
    run: UUID | None,
    io: Io,
    source: str,
) -> DatasetVersion:
    """An input is linked to the current version; every other case is a version by content and run."""
    if io is Io.INPUT and dataset.current_version is not None:
        return tables.dataset_versions[dataset.current_version]
    rows = _schema(facets)
    for row in rows or ():
        names.name(row["name"])
    spelled = sorted((r["name"], (r["type"] or "").upper(), r["description"] or "") for r in rows or ())
    version = names.version_uuid(
        link.namespace, source, link.name, dataset.physical_name, spelled, _lifecycle(facets), run
    )
    writer = run if io is Io.OUTPUT else None
    known = tables.dataset_version_by_hash.get(version)
    if known is not None:
        tables.set_writer(tables.dataset_versions[known], writer)
        return tables.dataset_versions[known]
    fields = [{"name": r["name"], "type": r["type"], "tags": [], "description": r["description"]} for r in rows or ()]
    made = DatasetVersion(
        tables.new_id(), version, dataset.uuid, at, writer, link.namespace, link.name, _lifecycle(facets), fields
    )
    tables.add_dataset_version(made)
    return made


def _set_current(dataset: Dataset, version: DatasetVersion, at: datetime) -> None:
    dataset.current_version = version.uuid
    dataset.updated_at = at


def make_current(tables: Tables, versions: list[DatasetVersion], now: datetime) -> None:
    """Of several versions that one run made of a dataset, any may stay the current one: the database's order is its own."""
    for version in sorted(versions, key=lambda version: version.uuid):
        _set_current(tables.datasets[version.dataset], version, now)


def _upsert_column_edges(
    tables: Tables,
    facets: Mapping[str, Any],
    columns: list[Column],
    version: DatasetVersion,
    run: UUID | None,
    at: datetime,
) -> None:
    """A row needs the output column in this event's schema and the input column among the run's inputs."""
    sources = _run_columns(tables, run)
    for name, spec in ((facets.get("columnLineage") or {}).get("fields") or {}).items():
        output = next((column for column in columns if column.name == name), None)
        if spec is None or output is None or not sources:
            continue
        if spec["inputFields"] is None or any(_broken(row) for row in spec["inputFields"]):
            raise DatabaseFault("Cannot invoke a method on a null input field")
        wanted = {(row["namespace"], row["name"], row["field"]) for row in spec["inputFields"]}
        for source_name, source_version, source in sources:
            if source_name in wanted:
                key = version.uuid, output.uuid, source_version, source
                tables.column_edges.pop(key, None)
                tables.column_edges[key] = ColumnEdge(
                    *key, spec["transformationDescription"], spec["transformationType"], at
                )


def _broken(row: Mapping[str, Any] | None) -> bool:
    return row is None or None in (row["namespace"], row["name"], row["field"])


def _run_columns(tables: Tables, run: UUID | None) -> list[tuple[tuple[str, str, str], UUID, UUID]]:
    if run is None:
        return []
    return [
        ((link.namespace, link.name, tables.columns[column].name), version.uuid, column)
        for version in tables.input_versions(run)
        for link in tables.links(version.dataset)
        for column in version.columns
    ]


def _insert_facets(
    tables: Tables,
    given: Mapping[str, Any],
    dataset: Dataset,
    version: DatasetVersion,
    run: UUID | None,
    at: datetime,
) -> None:
    kinds = {"facets": None, "inputFacets": "INPUT", "outputFacets": "OUTPUT"}
    for key, kind in kinds.items():
        for name, value in (given[key] or {}).items():
            if value is not None:
                check_storable(value)
                found = kind or _KIND.get(name.lower(), "UNKNOWN")
                tables.add_dataset_facet(Facet(dataset.uuid, name, plain(value), at, found, run, version.uuid))


def check_storable(value: Any) -> None:
    """Raises for a NUL character anywhere inside: PostgreSQL's jsonb refuses it."""
    if isinstance(value, str):
        names.storable(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            names.storable(key)
            check_storable(inner)
    elif isinstance(value, list):
        for inner in value:
            check_storable(inner)


def plain(value: Any) -> Any:
    """A read facet as it is stored: times as text, nulls dropped."""
    return pruned(echoed(value))


def echoed(value: Any) -> Any:
    """A read value as JSON: times as text, nulls of the fields that Marquez knows kept."""
    if isinstance(value, names.Stamp):
        return value.echo
    if isinstance(value, dict):
        return {key: echoed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [echoed(inner) for inner in value]
    return value
