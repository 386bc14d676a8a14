"""Our own facets: what no standard facet has a place for. Their JSON Schemas are in `docs/facets/`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from collector import __version__
from collector.model import Interval, Run, Stage, Transition

REPOSITORY = "https://github.com/lineage-collector/lineage-collector"
PRODUCER = f"{REPOSITORY}/tree/v{__version__}"
_SCHEMAS = f"https://raw.githubusercontent.com/lineage-collector/lineage-collector/v{__version__}/docs/facets"

OBSERVED = "lineageCollector_observedInterval"
PLATFORM = "lineageCollector_platformRun"
RESOLVED = "lineageCollector_resolvedNames"
MANY_NAMES = 100
"""No more names than this are listed in one facet; the count is of all."""


def instant(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`, as eventTime is written."""
    return f"{moment.strftime('%Y-%m-%dT%H:%M:%S')}.{moment.microsecond // 1000:03d}Z"


def observed(run: Run, transition: Transition) -> dict[str, Any] | None:
    """The bounds within which START and end really happened, where the platform did not say; None where it said all."""
    ended = transition.within if transition.kind.terminal else None
    found = {
        "started": _interval(run.started_within if run.began_at is None else None),
        "ended": _interval(ended),
        "moved": _interval(
            transition.within if not transition.kind.terminal and run.started_at != transition.at else None
        ),
        "clampedFrom": instant(transition.clamped_from) if transition.clamped_from else None,
    }
    known = {key: value for key, value in found.items() if value is not None}
    return _facet("LineageCollectorObservedIntervalRunFacet", known) if known else None


def platform(run: Run, transition: Transition, source: str) -> dict[str, Any]:
    """Where the run lives: source, the platform's ids, a link to its own page; and at the end its last words."""
    ended = transition.kind.terminal
    body = {
        "source": source,
        "runKey": run.key,
        "jobKey": run.job.key,
        "state": run.state.value if ended else None,
        "platformState": run.raw_state if ended else None,
        "ids": dict(sorted(run.facts.ids.items())) or None,
        "link": run.facts.link,
        "stages": [_stage(stage) for stage in run.facts.stages] or None if ended else None,
    }
    return _facet("LineageCollectorPlatformRunRunFacet", {k: v for k, v in body.items() if v is not None})


def resolved_names(names: Sequence[str]) -> dict[str, Any]:
    """As the only entry of a dataset's facets: the physical files or tables behind a name that stands for many."""
    body = {"count": len(names), "names": list(names[:MANY_NAMES])}
    return {RESOLVED: _facet("LineageCollectorResolvedNamesDatasetFacet", body)}


def _stage(stage: Stage) -> dict[str, Any]:
    body = {
        "key": stage.key,
        "kind": stage.kind,
        "state": stage.state.value,
        "platformState": stage.raw_state,
        "engine": stage.engine,
        "startedAt": instant(stage.started_at) if stage.started_at else None,
        "endedAt": instant(stage.ended_at) if stage.ended_at else None,
        "message": stage.message,
    }
    return {key: value for key, value in body.items() if value is not None}


def _interval(within: Interval | None) -> dict[str, str] | None:
    if within is None:
        return None
    after = {"after": instant(within.after)} if within.after else {}
    return {**after, "until": instant(within.until)}


def _facet(name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{_SCHEMAS}/{name}.json#/$defs/{name}", **body}
