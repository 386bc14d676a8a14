"""A transition as an OpenLineage RunEvent, made once; these bytes are what every sink gets."""

from dataclasses import dataclass
from typing import Any

import orjson
from openlineage.client.event_v2 import RunEvent

from collector.lineage import facets, own
from collector.model import EventKind, Run, Transition

SCHEMA_URL = RunEvent._get_schema()  # noqa: SLF001 - the only place where the library keeps it


@dataclass(frozen=True, slots=True)
class EventMaker:
    """Makes events for one source. `error_limit` is the longest error text in characters."""

    source: str
    error_limit: int = 8192

    def event(self, run: Run, transition: Transition) -> bytes:
        """The event as canonical JSON (sorted keys). START and terminal event are cumulative: both hold all that is
        known; row counts, stages and the error only the terminal one, so that START does not depend on when it was made.
        """
        ended = transition.kind.terminal
        run_facets: dict[str, Any] = facets.run_facets(
            run.facts, run.job.integration, error_limit=self.error_limit, failed=_failed(transition.kind)
        )
        if run.parent is not None:
            run_facets["parent"] = facets.parent_facet(run.parent)
        run_facets[own.PLATFORM] = own.platform(run, transition, self.source)
        if (observed := own.observed(run, transition)) is not None:
            run_facets[own.OBSERVED] = observed
        body: dict[str, Any] = {
            "eventType": transition.kind.value,
            "eventTime": own.instant(transition.at),
            "producer": own.PRODUCER,
            "schemaURL": SCHEMA_URL,
            "run": {"runId": str(run.run_id), "facets": run_facets},
            "job": {"namespace": run.job.namespace, "name": run.job.name, "facets": facets.job_facets(run.job)},
        }
        if run.facts.inputs is not None:
            body["inputs"] = facets.datasets(run.facts.inputs, "input", counts=ended)
        if run.facts.outputs is not None:
            body["outputs"] = facets.datasets(run.facts.outputs, "output", counts=ended)
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def _failed(kind: EventKind) -> bool:
    return kind in {EventKind.FAIL, EventKind.ABORT}
