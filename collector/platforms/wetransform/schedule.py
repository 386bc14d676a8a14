"""When to look at each run again: pure."""

from datetime import datetime, timedelta

from collector.model import Run, RunState
from config.sources import WetransformIntervals as Intervals

FRESH = timedelta(seconds=60)
"""A run younger than this is looked at as often as is allowed. One that is dated further ahead is taken for an old one."""
GROWTH = 1.5
DAY = timedelta(days=1)


def next_look(
    intervals: Intervals, known: Run | None, state: RunState, step: str | None, *, now: datetime, born_at: datetime
) -> datetime | None:
    """When a run that is in `state` now should be read again; None when it has ended. `born_at` is its creation."""
    if state.terminal:
        return None
    if state is RunState.WAITING:
        return now + _while_waiting(intervals, known, step, now)
    if abs(now - born_at) < FRESH or known is None or known.state is RunState.WAITING:
        return now + intervals.active
    last = intervals.active if known.due_at is None else known.due_at - known.seen_at
    grown: timedelta = last * GROWTH
    return now + min(intervals.active_most, max(intervals.active, grown))


def _while_waiting(intervals: Intervals, known: Run | None, step: str | None, now: datetime) -> timedelta:
    """Grows with the time that the run has waited, to the longest interval after a day."""
    waited = now - known.progressed_at if known is not None and known.raw_state == step else timedelta()
    return min(intervals.waiting_most, max(intervals.waiting, intervals.waiting_most * (waited / DAY)))


def retry_after_failures(intervals: Intervals, failures: int) -> timedelta:
    """How long a run is left alone that could not be read `failures` times in a row while others could."""
    return min(intervals.waiting, intervals.active * 2.0 ** min(failures, 16))
