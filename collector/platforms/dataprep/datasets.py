"""Names of what runs read and write, as OpenLineage names them: pure. Nothing of a connect string but its place remains."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from collector import names
from collector.lineage.custom_facets import resolved_names
from collector.model import Dataset
from collector.platforms.dataprep.connects import Place, kind_of, place
from collector.platforms.dataprep.rows import FileOut, OutputDefinition, Source, TableOut, address, data, text, texts
from collector.redaction import redacted_name

MANY_FILES = 20
"""A source that is read from more files than this is named by the folder that holds them."""
_CHANGES = {
    "create": "CREATE",
    "createandload": "CREATE",
    "overwrite": "OVERWRITE",
    "truncateandload": "TRUNCATE",
    "dropandload": "OVERWRITE",
}
_LEVELS = {
    **dict.fromkeys(("mysql", "hive", "teradata", "awsathena"), 1),
    **dict.fromkeys(("postgres", "redshift", "mssql", "sqlserver", "oracle", "snowflake", "db2", "trino"), 2),
}
"""How many levels are above a table in OpenLineage's name of it; of other stores the relational path is all there is."""
_BUCKETS = {"gs": "gs", "s3": "s3", "s3a": "s3", "s3n": "s3"}
_CONTAINERS = {"wasb": "wasbs", "wasbs": "wasbs", "abfs": "abfss", "abfss": "abfss"}
_WITHOUT_HOST = re.compile(r"(dbfs|file|hdfs):/(?!/)", re.IGNORECASE)
_CLUSTER = re.compile(r"([^.]+)\.[^.]+\.([^.]+)\.redshift(?:-serverless)?\.amazonaws\.com(?:\.cn)?")
_UNFIT = re.compile(r"[^A-Za-z0-9:/_\-.@+]")


@dataclass(frozen=True, slots=True)
class Found:
    """Datasets (None: unknown), and in words what could not be found out."""

    datasets: tuple[Dataset, ...] | None = None
    problems: tuple[str, ...] = ()


def file(uri: str) -> Dataset | None:
    """A file or folder by its URI as it is; None where it is none. Query and user are cut off: they may sign."""
    cleaned = names.clean(uri)
    if (short := _WITHOUT_HOST.match(cleaned)) is not None:
        cleaned = f"{short[1]}://{cleaned[short.end() - 1 :]}"
    if "://" not in cleaned:
        return _file("file", cleaned.partition("?")[0]) if cleaned.startswith("/") else None
    parts = _uri_parts(cleaned)
    if parts is None:
        return None
    if parts.scheme in _BUCKETS:
        return _in_bucket(parts)
    if parts.scheme in _CONTAINERS:
        return _in_container(parts)
    return _on_server(parts)


@dataclass(frozen=True, slots=True)
class _UriParts:
    """A URI without its query. `authority` is as written, `host`, `port` (with its colon) and `user` are of it."""

    scheme: str
    authority: str
    path: str
    host: str
    port: str
    user: str | None


def _uri_parts(uri: str) -> _UriParts | None:
    """None where the authority is not valid."""
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    authority, _, path = rest.partition("?")[0].partition("/")
    try:
        parts = urlsplit(f"{scheme}://{authority}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    return _UriParts(scheme, authority, path, parts.hostname or "", port, parts.username)


def _in_bucket(uri: _UriParts) -> Dataset | None:
    bucket = uri.authority.rpartition("@")[2]
    if not bucket or ":" in bucket:
        return None
    return _file(f"{_BUCKETS[uri.scheme]}://{bucket}", uri.path.strip("/") or "/")


def _in_container(uri: _UriParts) -> Dataset | None:
    if not uri.user:
        return None
    return _file(f"{_CONTAINERS[uri.scheme]}://{uri.user}@{uri.host}", uri.path.strip("/") or "/")


def _on_server(uri: _UriParts) -> Dataset:
    path = uri.path.rstrip("/")
    if uri.scheme in {"http", "https"}:
        path = path.partition("#")[0]
    if not uri.host:
        return _file(uri.scheme, f"/{path}")
    server = f"{uri.scheme}://{uri.host}{uri.port}"
    # as a whole, for the paths of webhooks are known by their hosts
    return _dataset(server, redacted_name(f"{server}/{path}").removeprefix(server))


def _file(namespace: str, path: str) -> Dataset:
    return _dataset(namespace, redacted_name(path))


def table(row: Mapping[str, Any], job_namespace: str) -> Dataset | None:
    """A table object of `/inputs` or `/outputs`; None where it names no table (a query)."""
    name = text(row.get("table"))
    if name is None:
        return None
    kind = kind_of(text(row.get("vendor")) or "")
    where = place(kind, address(row.get("databaseConnectString")))
    return store_table(kind, where, texts(row.get("relationalPath")), name, job_namespace)


def store_table(kind: str, where: Place, path: Sequence[str], name: str, job_namespace: str) -> Dataset:
    """`path` is the vendor's relational path: database and schema, or only one of them. A table of which nobody knows
    where it is gets a separate name among the job's: two stores must not become one.
    """
    above = [part for part in path if part]
    if kind == "bigquery":
        project = [where.database] if where.database and len(above) == 1 else []
        return _dataset("bigquery", ".".join([*project, *above, name]))
    if not where.host:
        return Dataset(job_namespace, names.dataset("tables", kind, ".".join([*above, name])))
    full = [*_database_above(kind, where, above), *above, name]
    if kind == "sqlserver":
        full = full[-2:]  # Azure Synapse is named by schema and table alone
    return _dataset(_store(kind, where), ".".join(full))


def _database_above(kind: str, where: Place, path: Sequence[str]) -> list[str]:
    """The database of the connect string, where the vendor's path leaves out its level."""
    if not where.database or where.database in path:
        return []
    return [where.database] if len(path) < _LEVELS.get(kind, 0) else []


def _store(kind: str, where: Place) -> str:
    if kind == "snowflake":
        return f"snowflake://{where.host.partition('.snowflakecomputing')[0].removesuffix('.privatelink')}"
    if kind == "redshift" and (cluster := _CLUSTER.fullmatch(where.host)) is not None:
        return f"redshift://{cluster[1]}.{cluster[2]}:{where.port}"
    return f"{kind}://{where.authority}"


def _dataset(namespace: str, name: str) -> Dataset:
    return Dataset(_UNFIT.sub("_", namespace)[: names.LONGEST], names.cut(names.clean(name)))


def inputs(body: Any, sources: Sequence[Source], job_namespace: str) -> Found:
    """The inputs of a run: `{"data": [{"name", "inputs": [file or table]}]}`, parameterised ones by their pattern."""
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        return Found(problems=("the answer about the inputs cannot be read",))
    found = [_input(part, sources, job_namespace) for part in _objects(body)]
    datasets = [dataset for one in found for dataset in one.datasets or ()]
    return Found(_unique(datasets), tuple(problem for one in found for problem in one.problems))


def _input(part: Mapping[str, Any], sources: Sequence[Source], job_namespace: str) -> Found:
    called = text(part.get("name")) or "an input without a name"
    known = _named(called, sources)
    rows = _objects(part.get("inputs"))
    files = _files(_uris(rows), known)
    given = [row for row in rows if text(row.get("vendor"))]
    tables = [found for row in given if (found := table(row, job_namespace)) is not None]
    if len(tables) < len(given):
        tables.append(Dataset(job_namespace, names.dataset("importedDatasets", known.key if known else called)))
        return Found((*files, *tables), (f"input {called} is read by a query; its tables are not known",))
    if not files and not given:
        return Found((), (f"input {called} names neither a file nor a table",))
    return Found((*files, *tables))


def _named(called: str, sources: Sequence[Source]) -> Source | None:
    return next((source for source in sources if source.name == called), None)


def _objects(body: Any) -> list[dict[str, Any]]:
    """The rows of an answer, without what is not an object."""
    return [row for row in data(body) if isinstance(row, dict)]


def _uris(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [uri for row in rows if (uri := address(row.get("uri")))]


def _files(uris: Sequence[str], known: Source | None) -> list[Dataset]:
    """One dataset per file; one for all where a pattern chose them, so that no dataset is new every day."""
    found = [dataset for uri in uris if (dataset := file(uri)) is not None]
    if not found:
        return []
    if known is not None and known.pattern is not None:
        return [_gathered(_pattern(known.pattern, found[0]), found)]
    if len(found) <= MANY_FILES:
        return found
    by_store: dict[str, list[Dataset]] = {}
    for one in found:
        by_store.setdefault(one.namespace, []).append(one)
    return [_gathered(Dataset(store, _folder([one.name for one in files])), files) for store, files in by_store.items()]


def _pattern(pattern: str, example: Dataset) -> Dataset:
    named = file(pattern) if "://" in pattern else None
    return named or Dataset(example.namespace, names.cut(redacted_name(names.clean(pattern).lstrip("/"))))


def _folder(paths: Sequence[str]) -> str:
    parts = [path.split("/")[:-1] for path in paths]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return "/".join(common) or "/"


def _gathered(dataset: Dataset, files: Sequence[Dataset]) -> Dataset:
    return replace(dataset, files=len(files), facets=resolved_names([f"{f.namespace}/{f.name}" for f in files]))


def outputs(body: Any, definition: OutputDefinition | None, job_namespace: str) -> Found:
    """The outputs of a run: `{"files": [...], "tables": [...]}`. What got a time stamp in its name is named as defined."""
    if not isinstance(body, dict) or not any(isinstance(body.get(kind), list) for kind in ("files", "tables")):
        return Found(problems=("the answer about the outputs cannot be read",))
    files, tables = (definition.files, definition.tables) if definition else ((), ())
    found = [_written_file(uri, files) for uri in _uris(_objects(body.get("files")))]
    found += [_written_table(row, tables, job_namespace) for row in _objects(body.get("tables"))]
    datasets = [dataset for dataset in found if dataset is not None]
    lost = len(found) - len(datasets)
    problems = (f"{lost} of {len(found)} outputs could not be named",) if lost else ()
    return Found(_unique(datasets), problems)


def _written_file(uri: str, defined: Sequence[FileOut]) -> Dataset | None:
    physical = file(uri)
    if physical is None:
        return None
    named = [(logical, setting) for setting in defined if (logical := file(setting.path)) is not None]
    stamped = [one for one in named if _is_stamped(physical, one[0], re.sub(r"\.[A-Za-z0-9]{1,8}$", "", one[0].name))]
    if not stamped:
        return physical
    logical, setting = min(stamped, key=lambda one: _distance(physical, one[0]))
    return _as_defined(physical, logical, setting.action, setting.format)


def _written_table(row: Mapping[str, Any], defined: Sequence[TableOut], job_namespace: str) -> Dataset | None:
    physical = table(row, job_namespace)
    action = text(row.get("action"))
    if physical is None:
        return None
    above = physical.name.rpartition(".")[0]
    named = [(replace(physical, name=f"{above}.{publication.table}"), publication) for publication in defined]
    stamped = [one for one in named if _is_stamped(physical, one[0], one[0].name)]
    if not stamped:
        return replace(physical, change=_CHANGES.get((action or "").lower()))
    logical, publication = min(stamped, key=lambda one: _distance(physical, one[0]))
    return _as_defined(physical, logical, action or publication.action, None)


def _is_stamped(physical: Dataset, logical: Dataset, stem: str) -> bool:
    """Whether the one is the other, or the other with something (a time stamp, a part number) after its stem."""
    if physical.namespace != logical.namespace:
        return False
    if physical.name == logical.name or physical.name.startswith(logical.name + "/"):
        return True
    tail = physical.name.removeprefix(stem)
    if tail == physical.name or (stem[-1:].isdigit() and tail[:1].isdigit()):
        return False  # `t_2026` is no `t_2` with a stamp
    return re.match(r"[-_./]?\d", tail) is not None


def _distance(physical: Dataset, logical: Dataset) -> tuple[bool, int]:
    """For the one that is meant to be the smallest: of `daily` and `daily_eu`, `daily_eu_1` is the latter."""
    return physical.name != logical.name, -len(logical.name)


def _as_defined(physical: Dataset, logical: Dataset, action: str | None, form: str | None) -> Dataset:
    facets = {} if physical.name == logical.name else resolved_names([f"{physical.namespace}/{physical.name}"])
    return replace(logical, facets=facets, change=_CHANGES.get((action or "").lower()), storage=_storage(form))


def _storage(form: str | None) -> tuple[str, str | None] | None:
    """The vendor says `pqt` for Parquet."""
    return ("file", "parquet" if form == "pqt" else form) if form else None


def defined_outputs(definition: OutputDefinition, job_namespace: str) -> Found:
    """What a run of this definition writes, if the deployment does not report what it wrote."""
    files = [
        replace(found, change=_CHANGES.get((setting.action or "").lower()), storage=_storage(setting.format))
        for setting in definition.files
        if (found := file(setting.path)) is not None
    ]
    tables = [
        replace(
            store_table(kind_of(publication.vendor or ""), Place(), publication.path, publication.table, job_namespace),
            change=_CHANGES.get((publication.action or "").lower()),
        )
        for publication in definition.tables
    ]
    return Found(_unique([*files, *tables]))


def planned_outputs(
    found: Found, body: Mapping[str, Any], definition: OutputDefinition | None, job_namespace: str
) -> Found:
    """The outputs of a run that did not succeed: what the platform says of it, and by definition the kind of which it says
    nothing, but for tables of which the definition does not say where they are: another name would make another dataset.
    """
    if definition is None:
        return found
    silent = replace(
        definition,
        files=() if data(body.get("files")) else definition.files,
        tables=() if data(body.get("tables")) else definition.tables,
    )
    placed = [one for one in defined_outputs(silent, job_namespace).datasets or () if one.namespace != job_namespace]
    return replace(found, datasets=_unique([*(found.datasets or ()), *placed]))


def defined_inputs(sources: Sequence[Source], job_namespace: str) -> Found:
    """Inputs by definition, if the deployment does not report what was read: ids of imported datasets, patterns."""
    found = [_defined_input(source, job_namespace) for source in sources]
    unresolved = [source.name for source in sources if source.pattern is None]
    problems = (
        (f"the files and tables of {', '.join(unresolved)} are not reported by this deployment",) if unresolved else ()
    )
    return Found(_unique(found), problems)


def _defined_input(source: Source, job_namespace: str) -> Dataset:
    named = file(source.pattern) if source.pattern and "://" in source.pattern else None
    return named or replace(
        Dataset(job_namespace, names.dataset("importedDatasets", source.key)), description=source.name
    )


def _unique(datasets: Sequence[Dataset]) -> tuple[Dataset, ...]:
    return tuple({(dataset.namespace, dataset.name): dataset for dataset in datasets}.values())
