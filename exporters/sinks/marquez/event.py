"""What the Marquez sink reads of an event, and which events it must never send."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

_NAMESPACE = re.compile(r"[A-Za-z0-9:/_\-.@+]+")
_LONGEST = 1024
"""Characters of a namespace or name: longer namespaces break Marquez's lists, longer names may not fit its indexes."""
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True)
class Event:
    """The parts of a run event's body that make up its run. `child` runs have a parent facet."""

    run_id: str
    namespace: str
    job: str
    description: str | None
    at: str
    child: bool
    nominal: tuple[str | None, str | None]
    args: Mapping[str, str]

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> "Event":
        facets = event["run"].get("facets") or {}
        nominal = facets.get("nominalTime") or {}
        parameters = (facets.get("executionParameters") or {}).get("parameters") or []
        job_facets = event["job"].get("facets") or {}
        return cls(
            run_id=event["run"]["runId"],
            namespace=event["job"]["namespace"],
            job=event["job"]["name"],
            description=(job_facets.get("documentation") or {}).get("description"),
            at=event["eventTime"],
            child="parent" in facets,
            nominal=(nominal.get("nominalStartTime"), nominal.get("nominalEndTime")),
            args={each["key"]: str(each.get("value", "")) for each in parameters},
        )


def read(body: bytes) -> Event | str:
    """The event, or why it must not be sent: Marquez would rewrite it, answer 500 to each attempt, or break for all its users.

    0.51 rewrites namespaces, and then a run's two APIs see two jobs. It stores names that its lists cannot show: after a
    201 for a blank job name or an empty namespace, and even after its 400 for a dataset's invalid namespace, every list
    of jobs and namespaces answers 500 until the database is repaired.
    """
    event = orjson.loads(body)
    for what, namespace, name in _named(event):
        if (fault := _fault(namespace, name)) is not None:
            return f"the {what} {namespace!r} {name[:80]!r} {fault}"
    if _NUL.search(body):
        return "it holds a NUL character, which Marquez cannot store"
    return Event.of(event)


def _named(event: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Everything that Marquez stores as a row: what it is, its namespace and its name."""
    yield "job", event["job"]["namespace"], event["job"]["name"]
    parent = (event["run"].get("facets") or {}).get("parent")
    if parent is not None:
        yield "parent job", parent["job"]["namespace"], parent["job"]["name"]
    for dataset in (*(event.get("inputs") or ()), *(event.get("outputs") or ())):
        yield "dataset", dataset["namespace"], dataset["name"]
        yield from _named_beside(dataset)


def _named_beside(dataset: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What Marquez stores for the facets of a dataset."""
    facets = dataset.get("facets") or {}
    for other in (facets.get("symlinks") or {}).get("identifiers") or ():
        yield "symlink", other["namespace"], other["name"]
    if (source := facets.get("dataSource")) is not None:
        yield "data source of", dataset["namespace"], source.get("name") or ""


def _fault(namespace: str, name: str) -> str | None:
    if not namespace or len(namespace) > _LONGEST:
        return "has a namespace that is empty or too long, which would break Marquez for everybody"
    if _NAMESPACE.fullmatch(namespace) is None:
        return "has a namespace that Marquez would rewrite or refuse"
    if not name.strip():
        return "has a blank name, which would break Marquez's lists for everybody"
    if len(name) > _LONGEST:
        return "has a name that is too long for Marquez's index"
    return None
