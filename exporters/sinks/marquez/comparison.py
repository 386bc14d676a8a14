"""Compares the runs of the ledger with those of a Marquez, and decides what is safe to send again. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from collector.clock import moment
from collector.ledger.acknowledged import AcknowledgedRun
from collector.ledger.resend import ResendFrom
from collector.model import EventKind
from exporters.sinks.marquez.stored import STATES, Name, StoredRun

_STARTS = {EventKind.START, EventKind.RUNNING}
"""Each of them moves the start of a run in Marquez."""
_ENDED = {"COMPLETED", "FAILED", "ABORTED"}


class Aspect(StrEnum):
    """In what a run differs."""

    MISSING = "missing"
    STATE = "state"
    START = "start"
    END = "end"
    INPUTS = "inputs"
    OUTPUTS = "outputs"
    DOUBLED = "doubled"


@dataclass(frozen=True, slots=True)
class Difference:
    aspect: Aspect
    expected: str | None
    found: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """From where on `mend` sends the run again; None where nothing is safe to send: then `why` says why."""

    mend: ResendFrom | None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetNames:
    """One dataset under its own name and those of its symlinks: Marquez shows it under any of them."""

    name: Name
    others: frozenset[Name] = frozenset()

    def is_among(self, found: frozenset[Name]) -> bool:
        return self.name in found or bool(self.others & found)


@dataclass(frozen=True, slots=True)
class ExpectedRun:
    """A run as Marquez should have it. Times in epoch milliseconds. The datasets are None while the run is open, as only its
    end has all of them, and where the sink sends none.
    """

    run_id: str
    namespace: str
    job: str
    state: str
    started_at: int | None
    ended_at: int | None
    inputs: tuple[DatasetNames, ...] | None = None
    outputs: tuple[DatasetNames, ...] | None = None


def expected(run: AcknowledgedRun, *, sends_datasets: bool = True) -> ExpectedRun | None:
    """None for a run that is only queued: not every one of those is created in Marquez."""
    last = run.events[-1]
    if all(event.kind is EventKind.OTHER for event in run.events):
        return None
    body = orjson.loads(run.last_body)
    ended = last.kind.terminal
    known = ended and sends_datasets
    starts = [event.happened_at for event in run.events if event.kind in _STARTS]
    return ExpectedRun(
        run_id=run.run_id,
        namespace=body["job"]["namespace"],
        job=_job(body),
        state=STATES[last.kind],
        started_at=starts[-1] if starts else run.started_at,
        ended_at=last.happened_at if ended else None,
        inputs=_datasets(body, "inputs") if known else None,
        outputs=_datasets(body, "outputs") if known else None,
    )


def _job(body: Mapping[str, Any]) -> str:
    """The name that Marquez gives to the job: it puts the parent's name before that of a child."""
    name: str = body["job"]["name"]
    parent = ((body["run"].get("facets") or {}).get("parent") or {}).get("job")
    return name if parent is None or name.startswith(f"{parent['name']}.") else f"{parent['name']}.{name}"


def _datasets(body: Mapping[str, Any], side: str) -> tuple[DatasetNames, ...]:
    return tuple(_dataset(each) for each in body.get(side) or ())


def _dataset(each: Mapping[str, Any]) -> DatasetNames:
    links = ((each.get("facets") or {}).get("symlinks") or {}).get("identifiers") or ()
    return DatasetNames(
        (each["namespace"], each["name"]), frozenset((link["namespace"], link["name"]) for link in links)
    )


def differences(run: ExpectedRun, found: StoredRun | None) -> list[Difference]:
    """In what `found`, None for a run that Marquez does not have, is not as expected. Empty when all is equal.

    Inputs that Marquez has beyond those of the run are no difference: it adds those of the job's run before.
    """
    if found is None:
        return [Difference(Aspect.MISSING, run.state, None)]
    rows = [
        (Aspect.STATE, run.state, found.state),
        (Aspect.START, moment(run.started_at), moment(found.started_at)),
        (Aspect.END, moment(run.ended_at), moment(found.ended_at)),
    ]
    plain = [Difference(aspect, ours, theirs) for aspect, ours, theirs in rows if ours != theirs]
    return plain + _lacking(Aspect.INPUTS, run.inputs, found.inputs) + _other_outputs(run.outputs, found.outputs)


def _lacking(aspect: Aspect, ours: Sequence[DatasetNames] | None, theirs: frozenset[Name]) -> list[Difference]:
    lacking = [each.name for each in ours or () if not each.is_among(theirs)]
    return [Difference(aspect, _shown(lacking), None)] if lacking else []


def _other_outputs(ours: Sequence[DatasetNames] | None, theirs: frozenset[Name]) -> list[Difference]:
    if ours is None:
        return []
    known = {name for each in ours for name in (each.name, *each.others)}
    more = sorted(theirs - known)
    lacking = _lacking(Aspect.OUTPUTS, ours, theirs)
    return lacking + ([Difference(Aspect.OUTPUTS, None, _shown(more))] if more else [])


def _shown(names: Iterable[Name]) -> str:
    return ", ".join(f"{namespace} {name}" for namespace, name in names)


# one table of cases: what each combination of differences asks for
def decision(run: ExpectedRun, found: StoredRun | None, what: Sequence[Difference], *, has_start: bool) -> Decision:
    """What to send again for these differences. `has_start` says whether the ledger still has the run's START, which must come
    before all else.

    Marquez believes whoever spoke last, so nothing is sent over a state that is newer than the ledger's.
    """
    aspects = {each.aspect for each in what}
    if Aspect.DOUBLED in aspects and len(aspects) == 1:
        return Decision(None, "the other run is not one of the ledger: only Marquez's database can remove it")
    if found is not None and _is_newer(run, found):
        return Decision(None, "Marquez has a later state of it than the ledger: another producer reports this run")
    if found is None or Aspect.START in aspects:
        if not has_start:
            return Decision(
                None, "retention removed its START; once it removed the rest, `backfill SOURCE --sink` makes it again"
            )
        return Decision(ResendFrom.START)
    if run.ended_at is None:
        return (
            Decision(ResendFrom.START) if has_start else Decision(None, "retention removed its START from the ledger")
        )
    if any(each.expected is not None for each in what if each.aspect is not Aspect.DOUBLED):
        return Decision(ResendFrom.END)
    return Decision(None, "Marquez has outputs that the run does not name, and no event removes them")


def _is_newer(run: ExpectedRun, found: StoredRun) -> bool:
    if run.ended_at is None:
        return found.state in _ENDED
    return found.ended_at is not None and found.ended_at > run.ended_at


def doubles(runs: Iterable[ExpectedRun], others: Iterable[StoredRun]) -> dict[str, list[str]]:
    """Other runs of the same job with the same start and end as one of ours, by our run id."""
    by_times: dict[tuple[int, int | None], list[str]] = {}
    for run in runs:
        if run.started_at is not None:
            by_times.setdefault((run.started_at, run.ended_at), []).append(run.run_id)
    found: dict[str, list[str]] = {}
    for other in others:
        if other.started_at is None:
            continue
        for run_id in by_times.get((other.started_at, other.ended_at), ()):
            if run_id != other.run_id:
                found.setdefault(run_id, []).append(other.run_id)
    return found
