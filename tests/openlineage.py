"""Holds events to OpenLineage: each one to JSON Schemas (formats checked) and to what no schema says, all of them to the
rules of a run's life and of families.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import orjson

from collector.lineage import custom_facets
from collector.names import namespace_fault
from tests.openlineage_schemas import validator

Event = Mapping[str, Any]

TERMINAL = frozenset({"COMPLETE", "FAIL", "ABORT"})
UNSUCCESSFUL = frozenset({"FAIL", "ABORT"})
CHANGE = "lifecycleStateChange"
_SIDES = ("inputs", "outputs")


def faults(event: Event | bytes) -> list[str]:
    """What is wrong with one event, a sentence each."""
    if isinstance(event, bytes):
        return list(_remembered(event))
    found = [f"{error.json_path}: {error.message[:300]}" for error in validator().iter_errors(event)]
    return found or list(_meaning(event))


@cache
def _remembered(line: bytes) -> tuple[str, ...]:
    """End-to-end tests look at the same file again and again."""
    return tuple(faults(orjson.loads(line)))


def _meaning(event: Event) -> Iterator[str]:
    """What no schema says."""
    ended = event["eventType"] in TERMINAL
    facets = event["run"]["facets"]
    platform = facets[custom_facets.PLATFORM]
    if not event["eventTime"].endswith("Z"):
        yield "eventTime is not in UTC"
    if (fault := namespace_fault(event["job"]["namespace"])) is not None:
        yield f"the job's namespace {fault}"
    if "errorMessage" in facets and event["eventType"] not in {"FAIL", "ABORT"}:
        yield f"a {event['eventType']} has an error"
    moved = event["eventType"] == "RUNNING"
    later = {"stages", "stageCount"} | (set() if moved else {"state", "platformState"})
    if (early := platform.keys() & later) and not ended:
        yield f"a {event['eventType']} has what only the end can know: {', '.join(sorted(early))}"
    if moved and platform.get("state") not in {"running", "waiting"}:
        yield "a RUNNING does not say whether the run waits or runs"
    if ended and "state" not in platform:
        yield "the terminal event does not say the state"
    for side in _SIDES:
        yield from _datasets(event.get(side, []), side, ended=ended)
        if event["eventType"] in UNSUCCESSFUL:
            yield from _done(event.get(side, []))
    yield from _columns(event)


def _datasets(found: Sequence[Mapping[str, Any]], side: str, *, ended: bool) -> Iterator[str]:
    names = [(each["namespace"], each["name"]) for each in found]
    if len(set(names)) < len(names):
        yield f"a dataset is twice among the {side}"
    for each in found:
        if (each.keys() & {"inputFacets", "outputFacets"} or "version" in each["facets"]) and not ended:
            yield f"{each['name']} has counts or a version before the end"
        own_name = [each["namespace"], each["name"]]
        for link in each["facets"].get("symlinks", {}).get("identifiers", []):
            if [link["namespace"], link["name"]] == own_name:
                yield f"{each['name']} is a symlink to itself"


def _done(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A run that did not succeed names what its job defines, and says nothing of how much of it got done."""
    for each in found:
        if each.keys() & {"inputFacets", "outputFacets"} or CHANGE in each["facets"]:
            yield f"{each['name']} has counts or a change of its life, though the run did not succeed"


_SUBTYPES = {
    "DIRECT": {"IDENTITY", "TRANSFORMATION", "AGGREGATION", None},
    "INDIRECT": {"JOIN", "GROUP_BY", "FILTER", "SORT", "WINDOW", "CONDITIONAL", None},
}
"""From the specification's page about column lineage."""


def _columns(event: Event) -> Iterator[str]:
    known = {(each["namespace"], each["name"]): _schema(each) for each in event.get("inputs", [])}
    for output in event.get("outputs", []):
        lineage = output["facets"].get("columnLineage", {"fields": {}})
        if strange := lineage["fields"].keys() - (_schema(output) or lineage["fields"].keys()):
            yield f"column lineage of {output['name']} names columns that its schema lacks: {sorted(strange)}"
        sources = [source for field in lineage["fields"].values() for source in field["inputFields"]]
        for source in [*sources, *lineage.get("dataset", [])]:
            yield from _source(source, known)


def _source(source: Mapping[str, Any], known: Mapping[tuple[str, str], set[str] | None]) -> Iterator[str]:
    name = source["namespace"], source["name"]
    if name not in known:
        yield f"column lineage names {name}, which is not an input"
    elif (columns := known[name]) is not None and source["field"] not in columns:
        yield f"column lineage names {source['field']} of {name}, which its schema lacks"
    for step in source.get("transformations", []):
        if step.get("subtype") not in _SUBTYPES.get(step["type"], set()):
            yield f"{step['type']} {step.get('subtype')} is not a transformation of the specification"


def _schema(dataset: Mapping[str, Any]) -> set[str] | None:
    schema = dataset["facets"].get("schema")
    return None if schema is None else {field["name"] for field in schema["fields"]}


def life_faults(events: Sequence[Event], *, may_be_open: bool = False) -> list[str]:
    """What is wrong with the life of one run, as its events show it in the order in which they came."""
    run = events[0]["run"]["runId"]
    kinds = [event["eventType"] for event in events]
    return [f"run {run} ({', '.join(kinds)}): {fault}" for fault in _life(events, kinds, may_be_open=may_be_open)]


def _life(events: Sequence[Event], kinds: Sequence[str], *, may_be_open: bool) -> Iterator[str]:
    ends = [kind for kind in kinds if kind in TERMINAL]
    begun, over = kinds.count("START"), len(ends)
    if begun > 1 or over > 1:
        yield "more than one START or terminal event"
    elif not may_be_open and (begun, over) != (1, 1):
        yield "not one START and one terminal event"
    if over and not begun:
        yield "ends without a START"
    if ends and kinds[-1] not in TERMINAL:
        yield "goes on after its end"
    if "OTHER" in kinds and (kinds.index("OTHER") > 0 or kinds.count("OTHER") > 1):
        yield "is queued after something else, or twice"
    if "RUNNING" in kinds and "START" not in kinds[: kinds.index("RUNNING")]:
        yield "runs before its START"
    times = [event["eventTime"] for event in events]
    if times != sorted(times):
        yield f"times go back: {', '.join(times)}"
    if len({_identity(event) for event in events}) > 1:
        yield "job, parent or ids change"
    if over == 1:
        [end] = [event for event in events if event["eventType"] in TERMINAL]
        for event in events:
            yield from (f"its end lacks {lost} of {event['eventType']}" for lost in _lost(event, end))


def _identity(event: Event) -> tuple[Any, ...]:
    facets = event["run"]["facets"]
    parent, platform = facets.get("parent", {}), facets[custom_facets.PLATFORM]
    of = orjson.dumps([parent.get("run"), parent.get("job"), parent.get("root")], option=orjson.OPT_SORT_KEYS)
    return event["job"]["namespace"], event["job"]["name"], of, platform["source"], platform["runKey"]


def _lost(event: Event, end: Event) -> Iterator[str]:
    """What an earlier event had and the terminal one does not. Our observed interval speaks of one event's time."""
    for part in ("run", "job"):
        lost = event[part]["facets"].keys() - end[part]["facets"].keys() - {custom_facets.OBSERVED}
        yield from (f"{part} facet {key}" for key in sorted(lost))
    for side in _SIDES:
        if side in event and side not in end:
            yield f"its {side}"
        kept = {(each["namespace"], each["name"]): each["facets"].keys() for each in end.get(side, [])}
        for each in event.get(side, []):
            name = each["namespace"], each["name"]
            if name not in kept:
                yield f"{side} {name}"
            elif lost := each["facets"].keys() - kept[name] - ({CHANGE} if end["eventType"] in UNSUCCESSFUL else set()):
                yield f"{sorted(lost)} of {name}"


def family_faults(events: Sequence[Event]) -> list[str]:
    """What is wrong between parents and children, of the events of all runs in the order in which one sink got them."""
    first: dict[tuple[str, bool], int] = {}
    jobs: dict[str, tuple[str, str]] = {}
    for place, event in enumerate(events):
        run, kind = event["run"]["runId"], event["eventType"]
        jobs[run] = event["job"]["namespace"], event["job"]["name"]
        if kind == "START" or kind in TERMINAL:
            first[run, kind in TERMINAL] = place
    found = {
        fault: None
        for event in events
        if (parent := event["run"]["facets"].get("parent")) is not None
        for fault in _family(event, parent, first, jobs)
    }
    return list(found)


def _family(
    event: Event,
    parent: Mapping[str, Any],
    first: Mapping[tuple[str, bool], int],
    jobs: Mapping[str, tuple[str, str]],
) -> Iterator[str]:
    run, above = event["run"]["runId"], parent["run"]["runId"]
    named = parent["job"]["namespace"], parent["job"]["name"]
    if jobs.get(above, named) != named:
        yield f"run {run} names its parent's job {named}, whose events say {jobs[above]}"
    if not event["job"]["name"].startswith(f"{named[1]}."):
        yield f"run {run} of job {event['job']['name']} is a child of {named[1]}, which its name does not show"
    if event["job"]["namespace"] != named[0]:
        yield f"run {run} is in another namespace than its parent"
    if "root" not in parent:
        yield f"run {run} does not name its root"
    started, parent_started = first.get((run, False)), first.get((above, False))
    if started is not None and above in jobs and (parent_started is None or parent_started > started):
        yield f"run {run} starts before its parent {above}"
    ended, parent_ended = first.get((run, True)), first.get((above, True))
    if parent_ended is not None and (ended is None or ended > parent_ended):
        yield f"run {run} goes on after the end of its parent {above}"


def all_faults(lines: Iterable[bytes], *, may_be_open: bool = False) -> list[str]:
    """What is wrong with what a sink got: each event, each run's life, families. Repeats of the same bytes, as after a
    crash, do not count; `may_be_open` allows runs that have not ended yet.
    """
    unique = list(dict.fromkeys(lines))
    wrong = [f"{fault} in {line[:200]!r}..." for line in unique for fault in faults(line)]
    if wrong:
        return wrong
    events = [orjson.loads(line) for line in unique]
    lives: defaultdict[str, list[Event]] = defaultdict(list)
    keys: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for event in events:
        run, platform = event["run"]["runId"], event["run"]["facets"][custom_facets.PLATFORM]
        lives[run].append(event)
        keys[platform["source"], platform["runKey"]].add(run)
    wrong = [fault for life in lives.values() for fault in life_faults(life, may_be_open=may_be_open)]
    wrong += [f"run {key} of {source} has several ids" for (source, key), ids in keys.items() if len(ids) > 1]
    return wrong + family_faults(events)
