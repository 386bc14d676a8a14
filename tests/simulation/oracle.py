"""What every backend must have got, known from the platform's side alone. Reads nothing of the program."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from tests.simulation.backend import Arrival
from tests.simulation.vendor import Plan

ENDS = {"succeeded": "COMPLETE", "failed": "FAIL", "canceled": "ABORT"}
RANK = {"OTHER": 0, "START": 1, "RUNNING": 2, "COMPLETE": 3, "FAIL": 3, "ABORT": 3}


def faults(plan: Plan, began: datetime, arrivals: Sequence[Arrival]) -> list[str]:
    """What is wrong with the events of one run at one backend, in words."""
    return [f"{plan.key}: {fault}" for fault in _faults(plan, began, arrivals)]


def _faults(plan: Plan, began: datetime, arrivals: Sequence[Arrival]) -> Iterable[str]:
    first = list(dict.fromkeys((one.kind, one.time) for one in arrivals))
    kinds = [kind for kind, _ in first]
    if kinds.count("START") != 1:
        yield f"{kinds.count('START')} STARTs: {first}"
    if [kind for kind in kinds if RANK[kind] == 3] != [ENDS[plan.end.value]]:
        yield f"ended {plan.end.value}, but has {first}"
    if [RANK[kind] for kind in kinds] != sorted(RANK[kind] for kind in kinds):
        yield f"out of order: {first}"
    times = [datetime.fromisoformat(time) for _, time in first]
    if times != sorted(times):
        yield f"times go back: {first}"
    if plan.reports_times:
        yield from _false_times(plan, began, list(zip(kinds, times, strict=True)))
    yield from _repeats(arrivals)


def _repeats(arrivals: Sequence[Arrival]) -> Iterable[str]:
    """Once a later event came, no earlier one comes for the first time; a repeat is what is under way at a crash."""
    latest = 0
    known: set[tuple[str, str]] = set()
    for one in arrivals:
        if RANK[one.kind] < latest and (one.kind, one.time) not in known:
            yield f"{one.kind} came after a later event"
        known.add((one.kind, one.time))
        latest = max(latest, RANK[one.kind])


def _false_times(plan: Plan, began: datetime, events: Sequence[tuple[str, datetime]]) -> Iterable[str]:
    """The platform's times are reported. An event whose time nobody reported has ours, which may be ahead after our clock was set:
    then the next one has that time too, as times never go back.
    """
    for kind, seconds in (("START", plan.started), (ENDS[plan.end.value], plan.ended)):
        meant = began.astimezone(UTC) + timedelta(milliseconds=round(seconds * 1000))
        for number, (other, reported) in enumerate(events):
            is_pushed = number > 0 and events[number - 1][0] == "RUNNING" and reported == events[number - 1][1]
            if other == kind and abs(reported - meant) > timedelta(milliseconds=1) and not is_pushed:
                yield f"{kind} at {reported}, the platform says {meant}"
