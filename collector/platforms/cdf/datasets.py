"""What a job writes: its destination as a dataset; and how many rows its metrics count, written and read. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from collector import names
from collector.model import Dataset
from collector.platforms.answers import integer, text

TYPES = (
    *("assets", "events", "files", "timeseries", "sequences", "datapoints", "string_datapoints"),
    *("labels", "relationships", "data_sets"),
)
"""Types of resources, which are datasets as a whole."""
_PLAIN = {**{name: name for name in TYPES}, "asset_hierarchy": "assets"}
"""Destination types without further fields, and the dataset that they write."""

_COUNTED_AS = {"nodes": "instances", "edges": "instances", "assethierarchy": "assethierarchy"}

_READ_AS = {
    **{name: name.replace("_", "") for name in TYPES},
    "sequence_rows": "sequencerows",
    "file_content": "filecontent",
    **dict.fromkeys(("nodes", "edges", "views", "data_models"), "instances"),
}
"""The first word of an input's name, and how its metrics are called. All instances share one counter."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a destination says. `counter` begins the names of its metrics; `problem` says why there is no dataset."""

    dataset: Dataset | None = None
    counter: str | None = None
    problem: str | None = None


def written(destination: Mapping[str, Any], namespace: str, uri: str) -> Written:
    kind = text(destination.get("type"))
    if kind is None:
        return Written(problem="the job does not say what it writes to")
    reader = _READERS.get(kind)
    name = reader(destination) if reader is not None else _PLAIN.get(kind)
    if name is None:
        if reader is not None:
            return Written(problem=f"the destination of type {kind} lacks a part of its name")
        return Written(problem=f"the destination type {kind} is not known here")
    return Written(Dataset(namespace, name, uri=uri), _counter(kind, destination))


def rows_written(metrics: Sequence[Any], counter: str) -> int | None:
    """Rows written, from a job's metrics; None where they do not say.

    Documentation and code of the vendor disagree on verbs (`create` and `created`), so both are read and never added
    up. Of several values under one name the latest counts: they are running totals.
    """
    totals = _totals(metrics, counter)
    created, updated = _verb(totals, "create"), _verb(totals, "update")
    if created is None and updated is None:
        return _verb(totals, "upsert")
    return (created or 0) + (updated or 0)


def rows_read(metrics: Sequence[Any], counter: str) -> int | None:
    """Rows read, None where the metrics do not say. Tries that were repeated count again: it is what was scanned."""
    return _totals(metrics, counter).get("read")


def read_counter(name: str) -> str | None:
    """How the names of the metrics of an input begin, by the name of its dataset; None where there are none."""
    first, *parts = map(unquote, name.split("/"))
    if first == "raw":
        return f"raw.{'.'.join(parts)}.rows" if len(parts) == 2 else None
    return _READ_AS.get(first)


def _totals(metrics: Sequence[Any], counter: str) -> dict[str, int]:
    """The last value of each action of one counter."""
    latest: dict[str, tuple[int, int]] = {}
    for row in metrics:
        name = text(row.get("name")) if isinstance(row, Mapping) else None
        count = integer(row.get("count")) if name else None
        prefix, _, action = (name or "").rpartition(".")
        if count is None or not _same(prefix, counter):
            continue
        stamp = integer(row.get("timestamp")) or 0
        latest[action.lower()] = max(latest.get(action.lower(), (0, 0)), (stamp, count))
    return {action: count for action, (_, count) in latest.items()}


def _same(prefix: str, counter: str) -> bool:
    """Names of RAW tables are data and compared as they are; of types, `asset_hierarchy` is `assethierarchy`."""
    if counter.startswith("raw."):
        return prefix == counter
    return prefix.replace("_", "").lower() == counter


def _verb(totals: Mapping[str, int], verb: str) -> int | None:
    found = [totals[name] for name in (verb, f"{verb}d", f"{verb}ed") if name in totals]
    return max(found) if found else None


def _counter(kind: str, destination: Mapping[str, Any]) -> str:
    if kind == "raw":
        return f"raw.{destination['database']}.{destination['table']}.rows"
    short = kind.replace("_", "")
    return _COUNTED_AS.get(short, short)


def _edges(destination: Mapping[str, Any]) -> str | None:
    """By their view, else by their type, else all edges."""
    if destination.get("view") is not None:
        return _view(destination)
    kind = destination.get("edgeType")
    return "edges" if kind is None else _joined("edge_types", kind, "space", "externalId")


def _view(destination: Mapping[str, Any]) -> str | None:
    return _joined("views", destination["view"], "space", "externalId", "version")


def _instances(destination: Mapping[str, Any]) -> str | None:
    """A type of a data model, or one of its relationships."""
    model = destination.get("dataModel")
    keys = ["space", "externalId", "version", "destinationType"]
    if isinstance(model, Mapping) and model.get("destinationRelationshipFromType") is not None:
        keys.append("destinationRelationshipFromType")
    return _joined("data_models", model, *keys)


_READERS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "raw": lambda destination: _joined("raw", destination, "database", "table"),
    "sequence_rows": lambda destination: _joined("sequence_rows", destination, "externalId"),
    "nodes": lambda destination: "nodes" if destination.get("view") is None else _view(destination),
    "edges": _edges,
    "instances": _instances,
}


def _joined(first: str, given: Any, *keys: str) -> str | None:
    """A dataset name of the values under `keys`, None where one of them is missing."""
    if not isinstance(given, Mapping):
        return None
    parts = [value for key in keys if (value := text(given.get(key))) is not None]
    return names.dataset(first, *parts) if len(parts) == len(keys) else None
