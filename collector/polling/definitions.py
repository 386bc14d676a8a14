"""What jobs read and write, as their runs that succeeded named it: pure.

A backend takes the datasets of each terminal event for those of the job (Marquez makes a version of the job of them), so
a run that failed names what its job defines, and not what it got done.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from collector.alteration import altered
from collector.lifecycle import Step, named
from collector.model import Dataset, Definition, EventKind, Run

Datasets = tuple[Dataset, ...] | None
NOTHING = Definition()


@dataclass(frozen=True, slots=True)
class Completed:
    """Steps with what their jobs define, and what they say of it by job name."""

    steps: tuple[Step, ...]
    definitions: Mapping[str, Definition]


def jobs_to_know(steps: Iterable[Step]) -> set[str]:
    """Names of the jobs whose definition `completed` may want."""
    return {step.run.job.name for step in steps if _end(step) is not None and not _names_all(step.run)}


def completed(steps: Iterable[Step], known: Mapping[str, Definition], *, unread: Collection[str] = ()) -> Completed:
    """Give terminal events the datasets that they lack. One of a run that succeeded lacks what is not known, where its
    details could not be read (its key is `unread`) or it names nothing at all; any other where it names none.
    """
    made: list[Step] = []
    definitions: dict[str, Definition] = {}
    for step in steps:
        end, job = _end(step), step.run.job.name
        if end is EventKind.COMPLETE:
            said = Definition(_lasting(step.run.facts.inputs), _lasting(step.run.facts.outputs))
            before = definitions.get(job) or known.get(job, NOTHING)
            is_unread = step.run.key in unread or said == NOTHING
            made.append(_with_unknown(step, before) if is_unread else step)
            definitions[job] = before.followed_by(said)
        elif end is not None:
            made.append(_with_missing(step, definitions.get(job) or known.get(job, NOTHING)))
        else:
            made.append(step)
    return Completed(tuple(made), definitions)


def _end(step: Step) -> EventKind | None:
    return next((transition.kind for transition in step.transitions if transition.kind.terminal), None)


def _names_all(run: Run) -> bool:
    return bool(run.facts.inputs) and bool(run.facts.outputs)


def _with_missing(step: Step, known: Definition) -> Step:
    facts = step.run.facts
    return _with_datasets(step, named(facts.inputs, known.inputs), named(facts.outputs, known.outputs))


def _with_unknown(step: Step, known: Definition) -> Step:
    facts = step.run.facts
    return _with_datasets(
        step,
        known.inputs if facts.inputs is None else facts.inputs,
        known.outputs if facts.outputs is None else facts.outputs,
    )


def _with_datasets(step: Step, inputs: Datasets, outputs: Datasets) -> Step:
    return replace(step, run=replace(step.run, facts=replace(step.run.facts, inputs=inputs, outputs=outputs)))


def _lasting(found: Datasets) -> Datasets:
    return None if found is None else tuple(map(_without_run, found))


def _without_run(dataset: Dataset) -> Dataset:
    return altered(dataset, rows=None, bytes=None, files=None, version=None, change=None, facets={})
