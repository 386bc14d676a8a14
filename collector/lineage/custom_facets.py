"""Our own facets: what no standard facet has a place for. Their JSON Schemas are in `docs/facets/`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from collector import __version__, names
from collector.model import EventKind, Facts, Interval, Run, Stage, Transition
from collector.redaction import capped, redacted

REPOSITORY = "https://github.com/lineage-collector/lineage-collector"
PRODUCER = f"{REPOSITORY}/tree/v{__version__}"
SCHEMAS = f"https://raw.githubusercontent.com/lineage-collector/lineage-collector/v{__version__}/docs/facets"

OBSERVED = "lineageCollector_observedInterval"
PLATFORM = "lineageCollector_platformRun"
RESOLVED = "lineageCollector_resolvedNames"
MANY = 100
"""No more names or stages than this are listed in one facet; the count is of all."""
_LONGEST = 1000


def instant(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`, as eventTime is written."""
    moment = moment.astimezone(UTC)
    return f"{moment.strftime('%Y-%m-%dT%H:%M:%S')}.{moment.microsecond // 1000:03d}Z"


def observed(run: Run, transition: Transition) -> dict[str, Any] | None:
    """The bounds of the times that the platform did not report; None if it reported all.

    What is known of the run's beginning is on every event from START on.
    """
    kind = transition.kind
    found = {
        "queued": _interval(transition.within if kind is EventKind.OTHER else None),
        "started": _interval(run.started_within if run.started_at is not None else None),
        "moved": _interval(transition.within if kind is EventKind.RUNNING else None),
        "ended": _interval(transition.within if kind.terminal else None),
        "clampedFrom": instant(transition.clamped_from) if transition.clamped_from else None,
    }
    known = {key: value for key, value in found.items() if value is not None}
    return _facet("LineageCollectorObservedIntervalRunFacet", known) if known else None


def platform(run: Run, facts: Facts, source: str, kind: EventKind) -> dict[str, Any]:
    """Where the run comes from: source, the platform's ids, a link to its page; where it changed its state or ended, its state; and at
    the end its stages.
    """
    body: dict[str, Any] = {"source": source, "runKey": said(run.key), "jobKey": said(run.job.key)}
    if facts.ids:
        body["ids"] = {said(name): said(value) for name, value in sorted(facts.ids.items())}
    if facts.link is not None:
        body["link"] = said(facts.link)
    if kind.terminal or kind is EventKind.RUNNING:
        body["state"] = run.state.value
        if run.raw_state is not None:
            body["platformState"] = said(run.raw_state)
    if kind.terminal and facts.stages:
        body["stageCount"] = len(facts.stages)
        body["stages"] = [_stage(stage) for stage in facts.stages[:MANY]]
    return _facet("LineageCollectorPlatformRunRunFacet", body)


def resolved_names(resolved: Sequence[str]) -> dict[str, Any]:
    """The physical files or tables behind a dataset name that stands for many, as the only entry of its facets."""
    body = {"count": len(resolved), "names": list(resolved[:MANY])}
    return {RESOLVED: _facet("LineageCollectorResolvedNamesDatasetFacet", body)}


def said(text: str) -> str:
    """A short text of the platform, without secrets and control characters."""
    looked_at = text[: 8 * _LONGEST]
    return capped(redacted(names.clean(looked_at)), _LONGEST, of=len(text) if len(text) > len(looked_at) else None)


def _stage(stage: Stage) -> dict[str, Any]:
    body = {
        "key": said(stage.key),
        "kind": said(stage.kind),
        "state": stage.state.value,
        "platformState": said(stage.raw_state) if stage.raw_state else None,
        "engine": said(stage.engine) if stage.engine else None,
        "startedAt": instant(stage.started_at) if stage.started_at else None,
        "endedAt": instant(stage.ended_at) if stage.ended_at else None,
        "message": said(stage.message) if stage.message else None,
    }
    return {key: value for key, value in body.items() if value is not None}


def _interval(within: Interval | None) -> dict[str, str] | None:
    if within is None:
        return None
    after = {"after": instant(within.after)} if within.after else {}
    return {**after, "until": instant(within.until)}


def _facet(name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{SCHEMAS}/{name}.json#/$defs/{name}", **body}
