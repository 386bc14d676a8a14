"""A transition as an OpenLineage RunEvent, made once; these bytes are what every sink gets."""

from dataclasses import dataclass, field
from typing import Any

from collector import names
from collector.lineage import custom_facets, datasets, facets
from collector.lineage.aliases import Aliases
from collector.lineage.standard_facets import RUN_EVENT
from collector.model import Definition, EventKind, Parent, Run, Transition


@dataclass(frozen=True, slots=True)
class EventMaker:
    """Makes events for one source. `error_limit` is the longest error text in characters, `validates` whether events
    are validated before they are stored.
    """

    source: str
    error_limit: int = 8192
    aliases: Aliases = field(default_factory=Aliases)
    validates: bool = False

    def named(self, definition: Definition) -> Definition:
        """With the names that the datasets have in events."""
        if not self.aliases.rules:
            return definition
        return Definition(
            *(
                None if side is None else tuple(self.aliases.applied(side))
                for side in (definition.inputs, definition.outputs)
            )
        )

    def event(self, run: Run, transition: Transition) -> bytes:
        """The event as canonical JSON (sorted keys).

        The terminal event is cumulative: it holds all that is known. START holds what was known when the run began,
        without row counts, versions, stages and the error, and so does not depend on when it was made. The datasets of a
        run that did not succeed are what its job defines: it is unknown how much of them was read and written.
        """
        ended, failed, known = transition.kind.terminal, _failed(transition.kind), transition.facts or run.facts
        run_facets = facets.run_facets(known, run, error_limit=self.error_limit, ended=ended, failed=failed)
        if run.parent is not None:
            run_facets["parent"] = facets.parent_facet(run.parent, _parent_name(run.parent))
        run_facets[custom_facets.PLATFORM] = custom_facets.platform(run, known, self.source, transition.kind)
        if (observed := custom_facets.observed(run, transition)) is not None:
            run_facets[custom_facets.OBSERVED] = observed
        job = {
            "namespace": names.clean(run.job.namespace),
            "name": job_name(run),
            "facets": facets.job_facets(run.job),
        }
        body: dict[str, Any] = {
            "eventType": transition.kind.value,
            "eventTime": custom_facets.instant(transition.at),
            "producer": custom_facets.PRODUCER,
            "schemaURL": RUN_EVENT,
            "run": {"runId": str(run.run_id), "facets": run_facets},
            "job": job,
        }
        if known.inputs is not None:
            body["inputs"] = datasets.shown(self.aliases.applied(known.inputs), "input", ended=ended, failed=failed)
        if known.outputs is not None:
            body["outputs"] = datasets.shown(self.aliases.applied(known.outputs), "output", ended=ended, failed=failed)
        return facets.written(body)

    def fault(self, event: bytes) -> str | None:
        """Why this event is not valid and must not be sent; None if it is valid."""
        if not self.validates:
            return None
        from collector.lineage import validation  # noqa: PLC0415 - the library's classes: 0.6 s and 30 MiB

        return validation.fault(event)


def job_name(run: Run) -> str:
    """The name of the run's job as events have it: `{parent}.{job}` below a parent.

    Marquez 0.51 stores a child under such a name whatever it is called, so another name would make two jobs of one.
    """
    return names.clean(run.job.name) if run.parent is None else _below(_parent_name(run.parent), run.job.name)


def _parent_name(parent: Parent) -> str:
    if parent.root_job is None or parent.root_run_id in {None, parent.run_id}:
        return names.clean(parent.job)
    return _below(names.clean(parent.root_job), parent.job)


def _below(above: str, name: str) -> str:
    name = names.clean(name)
    return name if name.startswith(f"{above}.") else names.cut(f"{above}.{name}")


def _failed(kind: EventKind) -> bool:
    return kind in {EventKind.FAIL, EventKind.ABORT}
