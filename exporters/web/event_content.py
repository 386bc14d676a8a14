"""What the events of a run say of its datasets and of its SQL, under the names that the sinks have too: pure.

Events that cannot be read, and facets that are not as OpenLineage has them, give nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

COLUMNS = 200
"""Columns of a dataset that are shown."""


def content(bodies: Iterable[bytes]) -> dict[str, Any]:
    """`inputs` and `outputs` are rows of the newest event that names any, the oldest event first in `bodies`; None where none does.
    `sql` is the text of the newest event that has one.
    """
    found: dict[str, Any] = {"inputs": None, "outputs": None, "sql": None, "dialect": None}
    for body in bodies:
        event = _read(body)
        for side in ("inputs", "outputs"):
            if datasets := _list(event.get(side)):
                found[side] = [_dataset(each) for each in datasets]
        sql = _at(event, "job", "facets", "sql")
        if isinstance(query := sql.get("query"), str) and query:
            found |= {"sql": query, "dialect": _text(sql.get("dialect"))}
    return found


def named(found: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The namespaces and names of all datasets in what `content` returned, with those that columns come from."""
    datasets = [each for side in ("inputs", "outputs") for each in found[side] or ()]
    sources = [of for each in datasets for column in each["columns"] for of in column["from"]]
    return {(each["namespace"], each["name"]) for each in (*datasets, *sources)}


def _dataset(one: Mapping[str, Any]) -> dict[str, Any]:
    counted = {**_at(one, "inputFacets", "inputStatistics"), **_at(one, "outputFacets", "outputStatistics")}
    columns = _columns(one)
    return {
        "namespace": _text(one.get("namespace")) or "",
        "name": _text(one.get("name")) or "",
        "rows": _count(counted.get("rowCount")),
        "bytes": _count(counted.get("size")),
        "columns": columns[:COLUMNS],
        "more_columns": max(0, len(columns) - COLUMNS),
    }


def _columns(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of the schema, then those of which only the lineage is known."""
    lineage = _at(one, "facets", "columnLineage", "fields")
    types = {
        _text(each.get("name")): _text(each.get("type")) for each in _list(_at(one, "facets", "schema").get("fields"))
    }
    names = [name for name in dict.fromkeys((*types, *lineage)) if name]
    return [{"name": name, "type": types.get(name), "from": _sources(_at(lineage, name))} for name in names]


def _sources(lineage: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = [
        {"namespace": _text(each.get("namespace")), "name": _text(each.get("name")), "column": _text(each.get("field"))}
        for each in _list(lineage.get("inputFields"))
    ]
    return [{name: words or "" for name, words in row.items()} for row in rows if row["name"]]


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _at(value: Any, *path: str) -> Mapping[str, Any]:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else ()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
