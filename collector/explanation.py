"""Why a run is as it is, where its events are and what happens next, in sentences for people: pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from collector.clock import from_ms
from collector.ledger.history import Delivery, EventHistory, RunHistory, Standing
from collector.model import TERMINAL_EVENT, Interval, Run, RunState


def of_run(run: Run, history: RunHistory) -> list[str]:
    """First the run's own life, then each sink."""
    return [
        *_life(run),
        *_bounds(run),
        *(f"Not found out: {problem}" for problem in run.facts.problems),
        *of_sinks(history),
    ]


def _life(run: Run) -> Iterator[str]:
    if run.ended_at is not None:
        yield f"It {_ENDED[run.state]} {_moment(run.ended_at)}; nothing more is expected of it."
    elif run.abandoned_at is not None:
        cause = f"the platform did not know it {run.misses} times in a row"
        yield f"It is not watched since {_moment(run.abandoned_at)}: {cause}. It goes on if a poll sees it again."
    elif run.state.terminal:
        until = f"until {_moment(run.enrich_until)} at the latest" if run.enrich_until is not None else "now"
        yield f"The platform says that it {_ENDED[run.state]}; its details are read {until}, then {TERMINAL_EVENT[run.state]} is made."
    else:
        again = f"not before {_moment(run.due_at)}" if run.due_at is not None else "at the next poll"
        yield f"It is {run.state.value}, last seen {_moment(run.seen_at)}; it is looked at again {again}."
    if run.open and run.misses:
        yield f"The last {run.misses} looks did not find it; if the next ones do not either, it is no longer watched."


_ENDED = {
    RunState.SUCCEEDED: "succeeded",
    RunState.FAILED: "failed",
    RunState.CANCELED: "was canceled",
    RunState.UNKNOWN: "was given up as unknown",
}


def _bounds(run: Run) -> Iterator[str]:
    for what, within in (("started", run.started_within), ("ended", run.ended_within)):
        if within is not None and getattr(run, f"{what}_at") is not None:
            yield f"The platform gave no time at which it {what}: {_interval(within)}."


def _interval(within: Interval) -> str:
    if within.after is None:
        return f"it was at {_moment(within.until)} or before"
    exact = within.until - within.after < _SHORT
    return f"it was after {_moment(within.after, exact)} and not after {_moment(within.until, exact)}"


_SHORT = timedelta(minutes=1)
"""Bounds that are closer are given to the millisecond, as they could read as equal otherwise."""


def of_sinks(history: RunHistory) -> list[str]:
    """A sentence or more for each sink, by name; faults of events first, and whether only some sinks get it."""
    faults = [
        f"{event.kind.value} is not a valid OpenLineage event and is parked for every sink: {event.fault}"
        for event in history.events
        if event.fault is not None
    ]
    alone = [] if history.only_sinks is None else [_only(history.only_sinks)]
    names = dict.fromkeys(delivery.sink for event in history.events for delivery in event.deliveries)
    return [*faults, *alone, *(sentence for name in sorted(names) for sentence in _of_sink(name, history))]


def _only(sinks: Sequence[str]) -> str:
    some = f"sink {sinks[0]} alone" if len(sinks) == 1 else f"the sinks {', '.join(sinks)} alone"
    return f"A backfill of its source made it for {some}: no other sink is sent any of its events."


def _of_sink(name: str, history: RunHistory) -> Iterator[str]:
    at = [(event, each) for event in history.events for each in event.deliveries if each.sink == name]
    for event, each in at:
        if (words := _trouble(event, each)) is not None:
            yield f"{name}: {words}"
    yield from (f"{name}: {words}" for words in _in_sum([each for _, each in at]))
    if name in history.doubts:
        yield f"{name}: an attempt was not answered; once the run ended it is looked up there, and what is missing is sent again."


def _in_sum(deliveries: Sequence[Delivery]) -> Iterator[str]:
    counts = Counter(each.standing for each in deliveries)
    waiting, delivered, earlier = counts[Standing.WAITING], counts[Standing.DELIVERED], counts[Standing.EARLIER]
    if waiting:
        yield f"{waiting} {'event waits' if waiting == 1 else 'events wait'} to be sent."
    elif delivered and delivered == counts.total() - counts[Standing.UNWANTED] - earlier:
        yield f"all is delivered{_last(deliveries)}."
    if earlier:
        yield f"{earlier} of its events were made before this sink was configured; it is not sent these."


def _last(deliveries: Sequence[Delivery]) -> str:
    """When the sink acknowledged the last of them, if that is known."""
    last = max((each.acknowledged_at or 0 for each in deliveries), default=0)
    return f", the last event {_moment(from_ms(last))}" if last else ""


def _trouble(event: EventHistory, each: Delivery) -> str | None:
    kind = event.kind.value
    if each.standing is Standing.RETRIED:
        due = f", next {_moment(from_ms(each.due_at))}" if each.due_at is not None else ""
        return f"{kind} was tried {_times(each.attempts)}{due}; later events of this run wait behind it: {each.cause}"
    if each.standing is Standing.PARKED and each.due_at is not None:
        return f"{kind} is parked and is sent again now, as was requested: {each.cause}"
    if each.standing is Standing.PARKED:
        return f"{kind} is parked; `lineage-collector parked retry` sends it again: {each.cause}"
    if each.standing is Standing.SUPERSEDED:
        return f"{kind} was parked, and a later event was delivered, so it is never sent again: {each.cause}"
    return None


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _moment(at: datetime, exact: bool = False) -> str:
    """To the second, or to the millisecond."""
    written = at.astimezone(UTC).isoformat(" ", "milliseconds")
    return f"{written[: 23 if exact else 19]} UTC"
