"""What the vendor's JSON says, as values; everything that is not needed (personal data above all) stays behind.

Ids are ints or strings of digits and become strings. A row that cannot be used raises `BadRow`; a field that cannot be
read is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from collector.names import clean
from collector.platforms.answers import integer, moment
from collector.platforms.unread_times import Unread, unread_times
from collector.redaction import redacted

Json = Mapping[str, Any]


class BadRow(ValueError):
    """A row that cannot be used, in words for people."""


@dataclass(frozen=True, slots=True)
class StageRow:
    """A job inside a job group. `reports_start` says that the deployment gives `startedAt`, even where it is null yet."""

    key: str
    kind: str
    status: str | None
    engine: str | None = None
    external_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reports_start: bool = False
    message: str | None = None
    unread: Unread = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A job group. `stages` is None if they were not requested; names are None if they were not in the answer."""

    key: str
    status: str | None
    recipe: str | None
    created_at: datetime | None
    updated_at: datetime | None
    ranfrom: str | None = None
    ranfor: str | None = None
    flow_run: str | None = None
    snapshot: str | None = None
    reference_date: datetime | None = None
    recipe_name: str | None = None
    flow: str | None = None
    flow_name: str | None = None
    error: str | None = None
    stages: tuple[StageRow, ...] | None = None
    description: str | None = None
    """Of the recipe, else of its flow."""
    unread: Unread = ()

    @property
    def all_unread(self) -> Unread:
        """Its own times that cannot be read and those of its stages."""
        of_stages = ((f"{name} of stage {row.key}", value) for row in self.stages or () for name, value in row.unread)
        return (*self.unread, *of_stages)


def group(row: Any) -> Group:
    """A job group, alone or in a list, with or without embeds. Raises BadRow without an id."""
    if not isinstance(row, dict):
        raise BadRow(f"a job group is {type(row).__name__}, not an object")
    key = number(row.get("id"))
    if key is None:
        raise BadRow(f"a job group has an id that is {type(row.get('id')).__name__}, not a number")
    recipe = _object(row.get("wrangledDataset"))
    flow = _object(recipe.get("flow"))
    jobs = row.get("jobs")
    return Group(
        key=key,
        status=word(row.get("status")),
        recipe=number(recipe.get("id")),
        created_at=moment(row.get("createdAt")),
        updated_at=moment(row.get("updatedAt")),
        ranfrom=text(row.get("ranfrom")),
        ranfor=text(row.get("ranfor")),
        flow_run=number(_object(row.get("flowrun") or row.get("flowRun")).get("id")),
        snapshot=number(_object(row.get("snapshot")).get("id")),
        reference_date=moment(row.get("runParameterReferenceDate")),
        recipe_name=name(recipe.get("name")),
        flow=number(flow.get("id")),
        flow_name=name(flow.get("name")),
        error=text(_object(row.get("workloadError")).get("message")),
        stages=stages(jobs) if isinstance(jobs, dict) else None,
        description=text(recipe.get("description")) or text(flow.get("description")),
        unread=unread_times(row, "createdAt", "updatedAt", "runParameterReferenceDate"),
    )


def stages(body: Any) -> tuple[StageRow, ...]:
    """The stages of `{"data": [...]}`, where data may be null; rows without an id are left out."""
    found = _object(body).get("data")
    rows = found if isinstance(found, list) else []
    return tuple(_stage(row, key) for row in rows if isinstance(row, dict) and (key := number(row.get("id"))))


def _stage(row: Json, key: str) -> StageRow:
    return StageRow(
        key=key,
        kind=text(row.get("jobType")) or "job",
        status=word(row.get("status")),
        engine=text(row.get("executionLanguage")),
        external_id=text(row.get("cpJobId")),
        created_at=moment(row.get("createdAt")),
        updated_at=moment(row.get("updatedAt")),
        started_at=moment(row.get("startedAt")),
        finished_at=moment(row.get("finishedAt")),
        reports_start="startedAt" in row,
        message=_message(row.get("errorMessage")),
        unread=unread_times(row, "createdAt", "updatedAt", "startedAt", "finishedAt"),
    )


def _message(value: Any) -> str | None:
    """The text of an embedded error; by default there is only an id, and no page names the field of the text."""
    known = _object(value)
    return next((found for name in ("message", "text", "details") if (found := text(known.get(name)))), None)


@dataclass(frozen=True, slots=True)
class Source:
    """An imported dataset behind an output. `pattern` is the parameterised path as it is, where it has one."""

    key: str
    name: str
    pattern: str | None = None


def source(row: Any) -> Source | None:
    known = _object(row)
    key = number(known.get("id"))
    if key is None:
        return None
    return Source(
        key=key,
        name=text(known.get("name")) or f"importedDatasets/{key}",
        pattern=address(known.get("dynamicPath")) if known.get("isDynamic") is not False else None,
    )


@dataclass(frozen=True, slots=True)
class FileOut:
    """A write setting: where (the address as it is) and how a file is written."""

    path: str
    action: str | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class TableOut:
    """A publication: which table is written. `create` and `createAndLoad` add a time stamp to its name."""

    table: str
    path: tuple[str, ...] = ()
    vendor: str | None = None
    action: str | None = None


@dataclass(frozen=True, slots=True)
class OutputDefinition:
    """An outputObject: what a recipe writes when it is run by hand (`adhoc`) or by schedule."""

    key: str
    recipe: str | None
    adhoc: bool
    files: tuple[FileOut, ...] = ()
    tables: tuple[TableOut, ...] = ()


def output_definition(row: Any) -> OutputDefinition | None:
    known = _object(row)
    key = number(known.get("id"))
    if key is None:
        return None
    settings = [_object(item) for item in data(known.get("writeSettings"))]
    publications = [_object(item) for item in data(known.get("publications"))]
    return OutputDefinition(
        key=key,
        recipe=number(_object(known.get("flownode") or known.get("flowNode")).get("id")),
        adhoc=known.get("isAdhoc") is not False,
        files=tuple(
            FileOut(path, text(item.get("action")), text(item.get("format")))
            for item in settings
            if (path := address(item.get("path")))
        ),
        tables=tuple(
            TableOut(table, texts(item.get("path")), text(item.get("targetType")), text(item.get("action")))
            for item in publications
            if (table := text(item.get("tableName")))
        ),
    )


def data(body: Any) -> list[Any]:
    """The rows of `{"data": [...]}`, or of a bare list; nothing for anything else."""
    found = body.get("data") if isinstance(body, dict) else body
    return found if isinstance(found, list) else []


def total(body: Any) -> int | None:
    return integer(_object(body).get("count"))


def number(value: Any) -> str | None:
    """An id: an int, or the same as a string (the later documents allow both)."""
    found = integer(value)
    return None if found is None else str(found)


def text(value: Any) -> str | None:
    """A text that says something, without control characters and without what looks like a credential."""
    return redacted(clean(value)) or None if isinstance(value, str) else None


def name(value: Any) -> str | None:
    """The name of a recipe or a flow, with its control characters: `names.part` encodes them, so that two names stay two."""
    found = text(value)
    return value if found is not None and found == clean(value) else found


def address(value: Any) -> str | None:
    """A URI or connect string as it is, to be taken apart: in `abfss://container@account` the container looks like a
    credential. Code that parses it leaves out what may be one.
    """
    return clean(value) or None if isinstance(value, str) else None


def word(value: Any) -> str | None:
    """A word of an enumeration, never repaired: what is not exactly it is not it."""
    return value if isinstance(value, str) and len(value) < 100 and value == text(value) else None


def texts(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(found for item in items if (found := text(item)))


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
