"""The life of a run: pure functions from what is known and what was seen to what is known next and what happened.

Promise 3: at most one START and one terminal event come out, whatever the polls saw. Promise 5: a transition carries
the platform's time where there is one, else the poll's with the interval in which it really happened; times never go
back within a run. Where the platform gives times, START and terminal event do not depend on when the polls came.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from collector.model import (
    TERMINAL_EVENT,
    Dataset,
    Enrichment,
    EventKind,
    Facts,
    Interval,
    Observation,
    Run,
    RunState,
    Skip,
    SkipKind,
    Transition,
)

DERIVED = 5
"""The version of UUIDs that adapters derive where the platform gives none."""
SAME_MOMENT = timedelta(minutes=1)
"""Times of a run's making that are no further apart are the same, given with more or less precision."""
MISSES_ALLOWED = 3
"""A run that was not found so many times in a row is given up."""


class VanishedPolicy(StrEnum):
    LEAVE_OPEN = "leave_open"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Step:
    """The run as known now, what happened, and what was left out."""

    run: Run
    transitions: tuple[Transition, ...] = ()
    skips: tuple[Skip, ...] = ()


def observe(known: Run | None, seen: Observation, *, enrich_within: timedelta) -> Step:
    """Take one observation in.

    A run seen to have ended gets no event yet unless the observation is `settled`: its enrichment (or the deadline
    `enrich_until`) makes START, where still owed, and the terminal event, through `finish`.
    """
    if known is not None and (known.ended_at is not None or known.state.terminal or _is_another(known, seen)):
        return _after_the_end(known, seen)
    run = _updated(known, seen)
    if seen.state is RunState.UNKNOWN:
        return _in_unknown_state(run, known, seen)
    if seen.state.terminal:
        run = _with_end(run, known, seen, enrich_within)
        return finish(run, Enrichment()) if seen.settled else Step(run)
    if seen.state is RunState.QUEUED and run.started_at is None:
        return _queued(run)
    return _running_or_waiting(run, known, seen)


def _is_another(known: Run, seen: Observation) -> bool:
    """Whether the platform gave the key to another run meanwhile. A derived id says nothing: it stands in for the platform's."""
    return known.run_id != seen.run_id and DERIVED not in {known.run_id.version, seen.run_id.version}


def _in_unknown_state(run: Run, known: Run | None, seen: Observation) -> Step:
    if known is not None and known.raw_state == seen.raw_state:
        return Step(run)
    cause = f"status {seen.raw_state!r} of a run is unknown to this version; the run stays open"
    return Step(run, skips=(Skip(SkipKind.STATUS, str(seen.raw_state), cause),))


def finish(run: Run, found: Enrichment | None, *, problem: str | None = None) -> Step:
    """Make the terminal event of a run that was seen to have ended, and its START where that was never made.

    `found` is None when the enrichment did not succeed in time; `problem` is then the cause, for the extractionError facet.
    START contains nothing of it, as if it had been made in time.
    """
    if run.ended_at is not None or not run.state.terminal:
        return Step(run)
    before = run.facts
    run = _with_enrichment(run, found or Enrichment(), problem)
    transitions: list[Transition] = []
    if run.started_at is None:
        run, start = _late_start(run)
        transitions.append(replace(start, facts=before))
    run, end = _transition(run, TERMINAL_EVENT[run.state], run.finished_at, run.ended_within)
    transitions.append(end)
    run = replace(run, ended_at=end.at, ended_within=end.within, enrich_until=None, due_at=None)
    return Step(run, tuple(transitions))


def begin(run: Run) -> Step:
    """Make the START of a run that was seen to have ended before its end is made: its children's events come between."""
    if run.started_at is not None or run.ended_at is not None or not run.state.terminal:
        return Step(run)
    run, start = _late_start(run)
    return Step(run, (start,))


def missed(run: Run, at: datetime, policy: VanishedPolicy) -> Step:
    """The platform reports that it has no such run. The third time in a row the run becomes unknown and is given up;
    a policy of ABORT ends it at the time it was last seen.
    """
    if not run.open or run.state.terminal:
        return Step(run)
    run = replace(run, misses=run.misses + 1, due_at=None)
    if run.misses < MISSES_ALLOWED:
        return Step(run)
    cause = f"not found {run.misses} times in a row, last seen {run.seen_at.isoformat()}"
    skip = Skip(SkipKind.VANISHED, run.key, f"{cause}; {_WHAT_NOW[policy]}")
    run = replace(run, state=RunState.UNKNOWN, abandoned_at=at, due_at=None)
    if policy is VanishedPolicy.LEAVE_OPEN:
        return Step(run, skips=(skip,))
    run, transitions = _aborted(run, Interval(run.seen_at, max(at, run.seen_at)))
    return Step(run, transitions, (skip,))


def _aborted(run: Run, within: Interval) -> tuple[Run, tuple[Transition, ...]]:
    """Ended when it was last seen, as no better time is known; it may have ended, or begun, at any time in `within`."""
    transitions: list[Transition] = []
    if run.started_at is None:
        run, start = (
            _start(run, within) if run.began_at is not None else _bound(run, EventKind.START, run.seen_at, within)
        )
        run = replace(run, started_at=start.at, started_within=start.within)
        transitions.append(start)
    run, end = _bound(run, EventKind.ABORT, run.seen_at, within)
    return replace(run, ended_at=end.at, ended_within=end.within), (*transitions, end)


_WHAT_NOW = {
    VanishedPolicy.LEAVE_OPEN: "no longer watched, nothing was emitted",
    VanishedPolicy.ABORT: "ended by an ABORT",
}


def _updated(known: Run | None, seen: Observation) -> Run:
    if known is None:
        return Run(
            key=seen.key,
            run_id=seen.run_id,
            job=seen.job,
            state=seen.state,
            raw_state=seen.raw_state,
            seen_at=seen.seen_at,
            progressed_at=seen.seen_at,
            queued_at=seen.queued_at,
            began_at=seen.started_at,
            finished_at=seen.ended_at,
            facts=seen.facts,
            parent=seen.parent,
            handle=seen.handle,
            due_at=seen.due_at,
        )
    return replace(
        known,
        job=seen.job,
        raw_state=seen.raw_state,
        seen_at=max(known.seen_at, seen.seen_at),
        progressed_at=known.progressed_at if seen.raw_state == known.raw_state else seen.seen_at,
        queued_at=seen.queued_at or known.queued_at,
        began_at=seen.started_at or known.began_at,
        finished_at=seen.ended_at or known.finished_at,
        facts=known.facts.merged(seen.facts),
        handle={**known.handle, **seen.handle},
        due_at=_next_look(known, seen),
        misses=0,
        abandoned_at=None,
    )


def _next_look(known: Run, seen: Observation) -> datetime | None:
    """A look that was requested after this was seen stays due."""
    if known.due_at is None or seen.due_at is None or known.due_at <= seen.seen_at:
        return seen.due_at
    return min(known.due_at, seen.due_at)


def _after_the_end(known: Run, seen: Observation) -> Step:
    """A later status is counted once and stored as the run's raw state; before the terminal event is made, only counted."""
    is_made = known.ended_at is not None
    if seen.run_id != known.run_id:
        cause = f"the key {known.key} of run {known.run_id} is now reported for run {seen.run_id}, which is left out"
        return Step(known, skips=(Skip(SkipKind.LATE, known.key, cause),))
    if (made_at := _made_later(known, seen)) is not None:
        return _left_out_as_another(known, made_at)
    if seen.raw_state == known.raw_state and not (is_made and known.misses):
        return Step(known)
    updated = replace(known, raw_state=seen.raw_state, misses=0) if is_made else known
    if seen.state in {known.state, RunState.UNKNOWN}:
        return Step(updated)
    cause = f"run {known.key} was {known.state} and is now reported as {seen.raw_state}; the first end stays"
    return Step(updated, skips=(Skip(SkipKind.LATE, known.key, cause),))


def _made_later(known: Run, seen: Observation) -> datetime | None:
    """When the run was made that the platform reports now, if that is after the known one was: it used a key again."""
    if known.queued_at is None or seen.queued_at is None or seen.queued_at - known.queued_at <= SAME_MOMENT:
        return None
    return seen.queued_at


def _left_out_as_another(known: Run, made_at: datetime) -> Step:
    """Counted once: the run that ended notes it."""
    if known.handle.get(_GIVEN_AGAIN) == made_at.isoformat():
        return Step(known)
    cause = (
        f"run {known.key} ended and was made at {known.queued_at}; the platform now reports one of this id that was "
        f"made at {made_at}, which is left out"
    )
    noted = replace(known, handle={**known.handle, _GIVEN_AGAIN: made_at.isoformat()})
    return Step(noted if known.ended_at is not None else known, skips=(Skip(SkipKind.LATE, known.key, cause),))


_GIVEN_AGAIN = "given_again"


def _queued(run: Run) -> Step:
    run = replace(run, state=RunState.QUEUED)
    if run.last_event_at is not None:
        return Step(run)
    run, queued = _transition(run, EventKind.OTHER, run.queued_at, Interval(None, run.seen_at))
    return Step(run, (queued,))


def _running_or_waiting(run: Run, known: Run | None, seen: Observation) -> Step:
    transitions: list[Transition] = []
    within = _since_last_seen(known, seen)
    if run.started_at is None:
        run, start = _start(run, within)
        run = replace(run, started_at=start.at, started_within=start.within)
        transitions.append(start)
    was_waiting = known is not None and known.state is RunState.WAITING
    if was_waiting != (seen.state is RunState.WAITING):
        run, moved = _transition(run, EventKind.RUNNING, None, within)
        transitions.append(moved)
    # a run that began does not go back to the queue: only its raw state has the platform's status
    state = RunState.RUNNING if seen.state is RunState.QUEUED else seen.state
    return Step(replace(run, state=state), tuple(transitions))


def _with_end(run: Run, known: Run | None, seen: Observation, enrich_within: timedelta) -> Run:
    within = _until(seen.ended_by, _since_last_seen(known, seen))
    return replace(
        run,
        state=seen.state,
        started_within=within if run.started_at is None else run.started_within,
        ended_within=within,
        enrich_until=seen.seen_at + enrich_within,
        due_at=None,
    )


def _with_enrichment(run: Run, found: Enrichment, problem: str | None) -> Run:
    """A run that did not succeed may have read and written nothing: its job's datasets are those named before."""
    facts, before = run.facts.merged(found.facts), run.facts
    if run.state is not RunState.SUCCEEDED:
        facts = replace(facts, inputs=named(facts.inputs, before.inputs), outputs=named(facts.outputs, before.outputs))
    if problem is not None:
        facts = facts.merged(Facts(problems=(*facts.problems, problem)))
    return replace(
        run,
        facts=facts,
        job=found.job or run.job,
        began_at=found.started_at or run.began_at,
        finished_at=found.ended_at or run.finished_at,
    )


def named(found: tuple[Dataset, ...] | None, before: tuple[Dataset, ...] | None) -> tuple[Dataset, ...] | None:
    """The datasets that were found, where there are any; else those of `before`, where these are known."""
    return found if found or before is None else before


def _late_start(run: Run) -> tuple[Run, Transition]:
    """START of a run that was never seen running: at its beginning; at its end where it never began; where the
    platform gives neither, at the earliest time that it can have begun: when it was last seen before, or queued.
    """
    within = run.started_within
    earliest = _earliest(run.queued_at, within) if within is not None else None
    if earliest is None or within is None or run.began_at or run.finished_at:
        run, start = _start(run, within)
    else:
        run, start = _bound(run, EventKind.START, earliest, within)
    return replace(run, started_at=start.at, started_within=start.within), start


def _earliest(queued: datetime | None, within: Interval) -> datetime | None:
    """The time at which it was queued, moved into the bounds if the platform's clock differs."""
    if within.after is None or queued is None:
        return within.after
    return min(max(queued, within.after), within.until)


def _since_last_seen(known: Run | None, seen: Observation) -> Interval:
    """The interval since the run was last seen; its bounds are in order even if clocks differ or went back."""
    after = known.seen_at if known is not None else seen.queued_at
    return Interval(after and min(after, seen.seen_at), seen.seen_at)


def _until(time: datetime | None, within: Interval) -> Interval:
    """The interval with this end, where the platform gives one; its bounds are in order even if clocks differ."""
    return within if time is None else Interval(within.after and min(within.after, time), time)


def _start(run: Run, within: Interval | None) -> tuple[Run, Transition]:
    """START at the platform's time, but not before the run was queued; at its end where it has an end alone, as a bound
    where it succeeded and so must have begun earlier.
    """
    reported = run.began_at or (run.finished_at if run.state.terminal else None)
    if reported is not None and run.began_at is None and run.state is RunState.SUCCEEDED:
        bound = max(reported, run.queued_at or reported)
        return _bound(run, EventKind.START, bound, Interval(run.queued_at, bound))
    return _transition(run, EventKind.START, reported, within, not_before=run.queued_at if reported else None)


def _bound(run: Run, kind: EventKind, at: datetime, within: Interval) -> tuple[Run, Transition]:
    """At this bound of the interval, as no better time is known."""
    run, made = _transition(run, kind, at, None)
    return run, replace(made, within=Interval(within.after, max(within.until, made.at)))


def _transition(
    run: Run,
    kind: EventKind,
    platform_time: datetime | None,
    within: Interval | None,
    *,
    not_before: datetime | None = None,
) -> tuple[Run, Transition]:
    """The transition at the platform's time, else at the end of the interval; never before the run's last event. What had
    to be moved is a bound.
    """
    wanted = platform_time or (within.until if within else run.seen_at)
    at = max(wanted, run.last_event_at or wanted, not_before or wanted)
    run = replace(run, last_event_at=at)
    if at == wanted:
        return run, Transition(kind, at, within=None if platform_time is not None else within)
    after = wanted if platform_time is not None or within is None else within.after
    return run, Transition(kind, at, within=Interval(after, at), clamped_from=wanted)
