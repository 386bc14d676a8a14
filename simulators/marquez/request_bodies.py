"""Reads request bodies as Marquez's JSON mapper does, then checks them as its validator does.

Wrong types end in `Unparsable` (status 500, code 400), absent fields in a list of "... must not be null" (422).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from simulators.marquez import names
from simulators.marquez.answers import DatabaseFault, IllegalArgument, Refused, Unparsable, errors

_LONGEST_STRING = 20_000_000
_URI = re.compile(r"[^\x00-\x20\"<>\\^`{|}\x7f]*")
_URL = re.compile(r"(https?|ftp|file|jar):.*", re.IGNORECASE | re.DOTALL)

Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """An object: readers by field name, which fields are required, and whether fields it does not know are kept."""

    fields: Mapping[str, "Reader | Shape | Rows"]
    required: frozenset[str] = frozenset()
    keeps: bool = True
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, value: Any) -> dict[str, Any] | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise Unparsable(f"Cannot construct instance from {type(value).__name__}")
        given = {self.aliases.get(key, key): found for key, found in value.items()}
        known = {key: read(given.get(key)) for key, read in self.fields.items()}
        extra = {key: pruned(found) for key, found in given.items() if key not in self.fields and found is not None}
        return {**known, **extra} if self.keeps else known

    def absent(self, value: Mapping[str, Any] | None, path: str) -> list[str]:
        """What must not be null and is, as paths below `path`."""
        if value is None:
            return []
        found = [f"{path}{key} must not be null" for key in self.required if value[key] is None]
        for key, read in self.fields.items():
            if isinstance(read, Shape):
                found += read.absent(value[key], f"{path}{key}.")
            elif isinstance(read, Rows) and read.checked:
                found += read.absent(value[key], f"{path}{key}")
        return found


@dataclass(frozen=True, slots=True)
class Rows:
    """A list of objects. `checked` is False where Marquez does not validate the elements."""

    shape: Shape
    checked: bool = True

    def __call__(self, value: Any) -> list[dict[str, Any] | None] | None:
        if value is None:
            return None
        if not isinstance(value, list):
            raise Unparsable(f"Cannot deserialize value of type ArrayList from {type(value).__name__}")
        return [self.shape(row) for row in value]

    def absent(self, value: list[Mapping[str, Any] | None] | None, path: str) -> list[str]:
        return [line for i, row in enumerate(value or ()) for line in self.shape.absent(row, f"{path}[{i}].")]


@dataclass(frozen=True, slots=True)
class ByName:
    """A map whose values all have one shape."""

    shape: Shape

    def __call__(self, value: Any) -> dict[str, Any] | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise Unparsable("Cannot construct a map")
        return {key: self.shape(found) for key, found in value.items()}


def text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    raise Unparsable("Cannot deserialize value of type `java.lang.String`")


def uri(value: Any) -> str | None:
    found = text(value)
    if found is not None and not is_uri(found):
        raise Unparsable(f"Cannot deserialize value of type `java.net.URI` from {value!r}")
    return found


def is_uri(value: str) -> bool:
    """About as java.net.URI sees it."""
    if _URI.fullmatch(value) is None or value.count("#") > 1 or re.search(r"%(?![0-9a-fA-F]{2})", value):
        return False
    brackets = re.search(r"[\[\]]", value)
    return brackets is None or re.match(r"[^/]*//([^@/]*@)?\[[0-9a-fA-F:.]+\](:\d*)?(/[^\[\]]*)?$", value) is not None


def pruned(value: Any) -> Any:
    """The value as it is stored: nulls in objects are dropped."""
    if isinstance(value, dict):
        return {key: pruned(found) for key, found in value.items() if found is not None}
    if isinstance(value, list):
        return [pruned(found) for found in value]
    return value


def anything(value: Any) -> Any:
    if value is not None and not isinstance(value, dict):
        raise Unparsable("Cannot construct a map of facets")
    return pruned(value)


_FACET = {"_producer": uri, "_schemaURL": uri}


def _facet(required: tuple[str, ...] = (), **fields: Any) -> Shape:
    return Shape({**_FACET, **fields}, frozenset({*_FACET, *required}))


def _row(required: tuple[str, ...] = (), **fields: Any) -> Shape:
    return Shape(fields, frozenset(required))


def _link(**fields: Any) -> Shape:
    return Shape(fields, frozenset(fields), keeps=False)


_RUN_FACETS = Shape(
    {
        "nominalTime": _facet(("nominalStartTime",), nominalStartTime=names.stamp, nominalEndTime=names.stamp),
        "parent": _facet(("run", "job"), run=_link(runId=text), job=_link(namespace=text, name=text)),
    },
    aliases={"parentRun": "parent"},
)
_JOB_FACETS = Shape(
    {
        "documentation": _facet(("description",), description=text),
        "sourceCodeLocation": _facet((), type=text, url=text),
        "sql": _facet(("query",), query=text),
        "jobType": _facet(
            ("processingType", "integration", "jobType"), processingType=text, integration=text, jobType=text
        ),
    }
)
_COLUMN = Shape(
    {
        "inputFields": Rows(_row(("namespace", "name", "field"), namespace=text, name=text, field=text), checked=False),
        "transformationDescription": text,
        "transformationType": text,
    }
)
_DATASET_FACETS = Shape(
    {
        "documentation": _facet(("description",), description=text),
        "schema": _facet((), fields=Rows(_row(("name",), name=text, type=text, description=text))),
        "dataSource": _facet((), name=text, uri=text),
        "description": text,
        "lifecycleStateChange": _facet((), lifecycleStateChange=text),
        "columnLineage": _facet((), fields=ByName(_COLUMN)),
        "symlinks": _facet((), identifiers=Rows(_row(("namespace", "name"), namespace=text, name=text, type=text))),
    }
)
_DATASET = _row(
    ("namespace", "name"),
    namespace=text,
    name=text,
    facets=_DATASET_FACETS,
    inputFacets=anything,
    outputFacets=anything,
)
_JOB = _row(("namespace", "name"), namespace=text, name=text, facets=_JOB_FACETS)
_RUN_EVENT = _row(
    ("eventTime", "run", "job", "producer"),
    eventType=text,
    eventTime=names.stamp,
    run=_row(("runId",), runId=text, facets=_RUN_FACETS),
    job=_JOB,
    inputs=Rows(_DATASET),
    outputs=Rows(_DATASET),
    producer=text,
    schemaURL=uri,
)
_JOB_EVENT = _row(
    ("eventTime", "job", "producer", "schemaURL"),
    eventTime=names.stamp,
    job=_JOB,
    inputs=Rows(_DATASET),
    outputs=Rows(_DATASET),
    producer=text,
    schemaURL=uri,
)
_DATASET_EVENT = _row(
    ("eventTime", "producer", "schemaURL"), eventTime=names.stamp, dataset=_DATASET, producer=text, schemaURL=uri
)


class EventClass(StrEnum):
    RUN = "RunEvent"
    JOB = "JobEvent"
    DATASET = "DatasetEvent"


_SHAPES = {EventClass.RUN: _RUN_EVENT, EventClass.JOB: _JOB_EVENT, EventClass.DATASET: _DATASET_EVENT}


@dataclass(frozen=True, slots=True)
class Event:
    """A read event. In `data` every field that Marquez knows is there, None where it was absent."""

    kind: EventClass
    at: datetime
    data: dict[str, Any]

    @property
    def type(self) -> str | None:
        found: str | None = self.data.get("eventType")
        return found


def event(body: bytes) -> Event:
    """Raises `Unparsable`, or `Refused` with a 422."""
    given = document(body)
    if given is None:
        raise Refused(errors(422, ["The request body must not be null"]))
    kind = _kind(given)
    shape = _SHAPES[kind]
    data = shape(given)
    assert data is not None
    if absent := shape.absent(data, ""):
        raise Refused(errors(422, absent))
    return Event(kind, data["eventTime"].at, data)


def _kind(given: Any) -> EventClass:
    schema = given.get("schemaURL") if isinstance(given, dict) else None
    last = schema.rpartition("/")[2] if isinstance(schema, str) and "/" in schema else ""
    return EventClass(last) if last in set(EventClass) else EventClass.RUN


def document(body: bytes) -> Any:
    """The JSON of a body, None for an empty one or `null`."""
    if not body.strip():
        return None
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Unparsable(f"Unexpected input: {error}") from error
    if len(body) > _LONGEST_STRING:
        _check_lengths(value)
    return value


def _no_constant(word: str) -> Any:
    raise ValueError(f"Non-standard token '{word}'")


def _check_lengths(value: Any) -> None:
    if isinstance(value, str) and len(value) > _LONGEST_STRING:
        raise Unparsable(f"String length ({len(value)}) exceeds the maximum allowed ({_LONGEST_STRING})")
    for inner in (
        [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        _check_lengths(inner)


@dataclass(frozen=True, slots=True)
class NamespaceMeta:
    owner: str
    description: str | None


@dataclass(frozen=True, slots=True)
class JobMeta:
    type: str
    inputs: list[tuple[str, str]]
    outputs: list[tuple[str, str]]
    location: str | None
    description: str | None
    run_id: str | None


@dataclass(frozen=True, slots=True)
class RunMeta:
    id: str | None
    nominal_start: datetime | None
    nominal_end: datetime | None
    args: dict[str, str]


def namespace_meta(body: bytes) -> NamespaceMeta:
    given = _object(body)
    owner = text(given.get("ownerName"))
    if owner is None:
        raise Unparsable("problem: ownerName is marked non-null but is null")
    if not owner.strip():
        raise Unparsable('value must not be blank (through reference chain: NamespaceMeta["ownerName"])')
    return NamespaceMeta(owner, text(given.get("description")))


def job_meta(body: bytes) -> JobMeta:
    given = _object(body)
    kind = text(given.get("type"))
    inputs, outputs = _dataset_ids(given.get("inputs")), _dataset_ids(given.get("outputs"))
    location, run_id = text(given.get("location")), text(given.get("runId"))
    for key, value in (("type", kind), ("inputs", inputs), ("outputs", outputs)):
        if value is None:
            raise Unparsable(f"problem: {key} is marked non-null but is null")
    assert kind is not None
    assert inputs is not None
    assert outputs is not None
    if kind.upper() not in {"BATCH", "STREAM", "SERVICE"}:
        raise Unparsable(f"{kind} was not one of [BATCH, STREAM, SERVICE]")
    if location is not None and _URL.fullmatch(location) is None:
        raise Unparsable(f"Cannot deserialize value of type `java.net.URL` from String: no protocol: {location}")
    if run_id is not None and names.strict_uuid(run_id) is None:
        raise Unparsable("UUID has to be represented by standard 36-char representation")
    return JobMeta(kind.upper(), inputs, outputs, location, text(given.get("description")), run_id)


def _dataset_ids(value: Any) -> list[tuple[str, str]] | None:
    rows = Rows(_row(namespace=text, name=text))(value)
    if rows is None:
        return None
    try:
        return [_dataset_id(row) for row in rows]
    except IllegalArgument as error:
        raise Unparsable(str(error)) from error


def _dataset_id(row: Mapping[str, Any] | None) -> tuple[str, str]:
    if row is None or row["namespace"] is None or row["name"] is None:
        raise Unparsable("a dataset's namespace or name is marked non-null but is null")
    return names.namespace(row["namespace"]), names.name(row["name"])


def run_meta(body: bytes) -> RunMeta:
    given = _object(body)
    run_id = text(given.get("id"))
    if run_id is not None and names.strict_uuid(run_id) is None:
        raise Unparsable("UUID has to be represented by standard 36-char representation")
    args = anything(given.get("args")) or {}
    if len(args) != len(given.get("args") or {}):
        raise DatabaseFault("null value in args")
    start, end = names.instant(given.get("nominalStartTime")), names.instant(given.get("nominalEndTime"))
    return RunMeta(run_id, start, end, {key: text(value) or "" for key, value in args.items()})


def _object(body: bytes) -> dict[str, Any]:
    """No body at all is an unhandled error on the runs API, not an unparsable one."""
    given = document(body)
    if given is None:
        raise DatabaseFault("Cannot invoke a method on null")
    if not isinstance(given, dict):
        raise Unparsable("Cannot construct instance")
    return given
