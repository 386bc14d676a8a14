"""Datasets as events show them: names, standard facets, statistics."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from collector import names
from collector.alteration import altered
from collector.lineage.custom_facets import said
from collector.lineage.facets import BIGGEST, Facet, bytes_cache, facet, prose, storable, written
from collector.lineage.standard_facets import LIFECYCLE_CHANGES
from collector.model import ColumnEdge, Dataset, Field
from collector.redaction import redacted

_KEPT_DATASETS = 4 * 1024 * 1024
_URI = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:(//([\w.~%*-]*@)?[\w.~%-]*(:\d+)?(/[\w.~%@:+/?&=,-]*)?|[\w.~%:-]+)", re.ASCII
)
"""What every consumer accepts as a URI, Marquez's Java above all."""
_ADDRESSES = {"bigquery": "https://bigquery.googleapis.com", "pubsub": "https://pubsub.googleapis.com"}
"""Where the stores are whose namespace is a bare word."""


def shown(found: Iterable[Dataset], side: str, *, ended: bool, failed: bool = False) -> list[Any]:
    """Datasets as JSON values; `side` is "input" or "output". What is known only at the end (counts, versions) is there
    when the run `ended`; where it `failed` no counts and no lifecycle change, for it is unknown what was done.
    """
    return [_shown(dataset, side, ended=ended, failed=failed) for dataset in found]


def _shown(dataset: Dataset, side: str, *, ended: bool, failed: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "namespace": names.clean(dataset.namespace),
        "name": names.clean(dataset.name),
        "facets": orjson.Fragment(_facets(_lasting(dataset, ended=ended, failed=failed))),
    }
    if ended and not failed and (counts := _statistics(dataset, side)) is not None:
        body[f"{side}Facets"] = {f"{side}Statistics": counts}
    return body


def _lasting(dataset: Dataset, *, ended: bool, failed: bool) -> Dataset:
    """Without the counts of one run, so that the events of all runs of a job share their facets."""
    return altered(
        dataset,
        rows=None,
        bytes=None,
        files=None,
        version=dataset.version if ended else None,
        change=None if failed else dataset.change,
    )


@bytes_cache(_KEPT_DATASETS)
def _facets(dataset: Dataset) -> bytes:
    return written({**_standard(dataset), **{key: storable(value) for key, value in dataset.facets.items()}})


def _standard(dataset: Dataset) -> Facet:
    # always there: Marquez 0.50 answers 500 to a dataSource without uri, and 0.51 to a list of sources without any
    source = facet("DatasourceDatasetFacet", name=names.clean(dataset.namespace), uri=_uri(dataset))
    facets = {"dataSource": source}
    if dataset.fields:
        columns = [_column(field, position) for position, field in enumerate(dataset.fields, start=1)]
        facets["schema"] = facet("SchemaDatasetFacet", fields=columns)
    if dataset.columns:
        facets["columnLineage"] = _column_lineage(dataset.columns)
    if dataset.symlinks:
        links = [{"namespace": space, "name": name, "type": kind} for space, name, kind in dataset.symlinks]
        facets["symlinks"] = facet("SymlinksDatasetFacet", identifiers=links)
    if dataset.description:
        description = prose(dataset.description)
        facets["documentation"] = facet("DocumentationDatasetFacet", description=description)
    if dataset.change in LIFECYCLE_CHANGES:
        facets["lifecycleStateChange"] = facet("LifecycleStateChangeDatasetFacet", lifecycleStateChange=dataset.change)
    if dataset.storage:
        layer, form = dataset.storage
        facets["storage"] = facet("StorageDatasetFacet", storageLayer=layer, fileFormat=form)
    if dataset.version:
        version = said(dataset.version)
        facets["version"] = facet("DatasetVersionDatasetFacet", datasetVersion=version)
    return facets


def _uri(dataset: Dataset) -> str:
    """The address of the store, without credentials; made of the namespace where nothing else is known."""
    given = redacted(names.clean(dataset.uri or ""))
    if _URI.fullmatch(given):
        return given
    namespace = names.clean(dataset.namespace)
    scheme, _, rest = namespace.partition(":")
    scheme = re.sub(r"[^A-Za-z0-9+.-]", "-", scheme)
    whole = f"{scheme}:{rest}" if rest.strip("/") else f"{scheme}:///"
    fallback = whole if _URI.fullmatch(whole) else f"{scheme}:///" if scheme[:1].isalpha() else "urn:unknown"
    return _ADDRESSES.get(namespace, fallback)


def _column(field: Field, position: int) -> dict[str, Any]:
    """Marquez 0.51 adds a column without a type once more with every event, so there always is a type."""
    kind = names.clean(field.type) if field.type is not None else "unknown"
    column: dict[str, Any] = {"name": names.clean(field.name), "type": kind, "ordinal_position": position}
    if field.description is not None:
        column["description"] = prose(field.description)
    return column


def _column_lineage(edges: Sequence[ColumnEdge]) -> Facet:
    """Edges whose `field` is empty hold for the whole dataset (filters, joins, grouping)."""
    by_field: defaultdict[str, list[ColumnEdge]] = defaultdict(list)
    for edge in edges:
        by_field[names.clean(edge.field)].append(edge)
    whole = by_field.pop("", [])
    fields = {name: {"inputFields": _sources(found), **_old_words(found)} for name, found in by_field.items()}
    return facet("ColumnLineageDatasetFacet", fields=fields, dataset=_sources(whole) if whole else None)


def _sources(edges: Iterable[ColumnEdge]) -> list[dict[str, Any]]:
    """Each source column once, with all that is done to it."""
    found: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for edge in edges:
        how = {"type": edge.type}
        if edge.subtype is not None:
            how["subtype"] = edge.subtype
        if edge.description is not None:
            how["description"] = prose(edge.description)
        steps = found.setdefault((edge.namespace, edge.name, edge.source_field), [])
        if how not in steps:
            steps.append(how)
    return [
        {
            "namespace": names.clean(namespace),
            "name": names.clean(name),
            "field": names.clean(field),
            "transformations": steps,
        }
        for (namespace, name, field), steps in found.items()
    ]


def _old_words(edges: Sequence[ColumnEdge]) -> dict[str, str]:
    """The words transformationDescription and transformationType: all that Marquez's column graph reads."""
    same = all(edge.subtype == "IDENTITY" for edge in edges)
    words = {"transformationType": "IDENTITY" if same else "TRANSFORMED"}
    description = next((edge.description for edge in edges if edge.description), None)
    return {**words, "transformationDescription": prose(description)} if description else words


def _statistics(dataset: Dataset, side: str) -> Facet | None:
    counts = {"rowCount": dataset.rows, "size": dataset.bytes, "fileCount": dataset.files}
    known = {key: count for key, count in counts.items() if count is not None and 0 <= count <= BIGGEST}
    if not known:
        return None
    if side == "input":
        return facet("InputStatisticsInputDatasetFacet", **known)
    return facet("OutputStatisticsOutputDatasetFacet", **known)
