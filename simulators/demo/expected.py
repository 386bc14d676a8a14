"""Compares what arrived with what the simulators know: one START and one terminal event per ended run, in order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from collector.lineage.custom_facets import PLATFORM

_TERMINAL = {"succeeded": "COMPLETE", "failed": "FAIL", "canceled": "ABORT"}
_MARQUEZ = {"succeeded": "COMPLETED", "failed": "FAILED", "canceled": "ABORTED"}


@dataclass(slots=True)
class RunEvents:
    """The events of one run as a sink got them."""

    run_id: str
    kinds: list[str] = field(default_factory=list)
    times: list[str] = field(default_factory=list)


def events_by_run(lines: Iterable[bytes]) -> dict[tuple[str, str], RunEvents]:
    """Events by (source, platform's run key), repeats of the same bytes taken out."""
    found: dict[tuple[str, str], RunEvents] = {}
    seen: set[tuple[str, str, str]] = set()
    for line in lines:
        event = orjson.loads(line)
        same = (event["run"]["runId"], event["eventType"], event["eventTime"])
        if same in seen:
            continue
        seen.add(same)
        place = event["run"]["facets"][PLATFORM]
        events = found.setdefault((place["source"], place["runKey"]), RunEvents(same[0]))
        events.kinds.append(same[1])
        events.times.append(same[2])
    return found


JobName = tuple[str, str]
Names = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Flow:
    """What a job reads and writes."""

    inputs: Names
    outputs: Names


def flows(lines: Iterable[bytes]) -> dict[JobName, Flow]:
    """By namespace and name of the job, as its last run that succeeded named it."""
    events = [event for event in map(orjson.loads, lines) if event["eventType"] == "COMPLETE"]
    return {
        (event["job"]["namespace"], event["job"]["name"]): Flow(names(event.get("inputs")), names(event.get("outputs")))
        for event in sorted(events, key=lambda event: str(event["eventTime"]))
    }


def names(datasets: Iterable[Mapping[str, Any]] | None) -> Names:
    return frozenset((each["namespace"], each["name"]) for each in datasets or ())


def flow_faults(wanted: Mapping[JobName, Flow], marquez: Mapping[JobName, Flow | None]) -> list[str]:
    """Which jobs lost something in Marquez, as to a later run that did not succeed. It may draw more, for it lists a
    dataset under each of its names.
    """
    return [
        f"job {job} of {space}: Marquez does not draw {', '.join(lost)}, which its runs named"
        for (space, job), flow in wanted.items()
        if (lost := _lost(flow, marquez.get((space, job))))
    ]


def _lost(flow: Flow, drawn: Flow | None) -> list[str]:
    drawn = drawn or Flow(frozenset(), frozenset())
    missing = {"input": flow.inputs - drawn.inputs, "output": flow.outputs - drawn.outputs}
    return [f"{side} {name} of {space}" for side, found in missing.items() for space, name in sorted(found)]


def read_lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def faults(
    by_run: Mapping[tuple[str, str], RunEvents],
    actual: Mapping[str, Sequence[Mapping[str, Any]]],
    marquez: Mapping[str, str | None] | None = None,
) -> list[str]:
    """What is wrong, a sentence each. `actual` holds each source's runs; `marquez` the final state by run id."""
    wrong: list[str] = []
    for source, runs in actual.items():
        for run in runs:
            if run["state"] in _TERMINAL:
                events = by_run.get((source, str(run["key"])))
                wrong += [f"run {run['key']} of {source}: {fault}" for fault in _faults(events, run["state"], marquez)]
    return wrong


def _faults(events: RunEvents | None, state: str, marquez: Mapping[str, str | None] | None) -> list[str]:
    if events is None:
        return [f"ended as {state}, but no event came"]
    wrong = []
    terminal = [kind for kind in events.kinds if kind in _TERMINAL.values()]
    if events.kinds.count("START") != 1 or len(terminal) != 1:
        wrong.append(f"has not one START and one terminal event but {', '.join(events.kinds)}")
    elif terminal[0] != _TERMINAL[state] or events.kinds[-1] != terminal[0]:
        wrong.append(f"ended as {state}, but its events are {', '.join(events.kinds)}")
    if events.times != sorted(events.times):
        wrong.append(f"has times that go back: {', '.join(events.times)}")
    if marquez is not None and marquez.get(events.run_id) != _MARQUEZ[state]:
        wrong.append(f"ended as {state}, but Marquez says {marquez.get(events.run_id)}")
    return wrong
