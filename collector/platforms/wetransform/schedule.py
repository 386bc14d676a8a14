"""When to look at each run again: pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

from collector.model import Run, RunState

FRESH = timedelta(seconds=60)
"""A run younger than this is looked at as often as is allowed."""
GROWTH = 1.5
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Intervals:
    """The shortest and the longest interval between two looks at one run: under way, and while it waits for a person."""

    active: timedelta = timedelta(seconds=5)
    active_most: timedelta = timedelta(seconds=60)
    waiting: timedelta = timedelta(minutes=10)
    waiting_most: timedelta = timedelta(hours=1)


def next_look(
    intervals: Intervals, known: Run | None, state: RunState, step: str | None, *, now: datetime, born_at: datetime
) -> datetime | None:
    """When a run that is in `state` now should be read again; None when it has ended. `born_at` is its creation."""
    if state.terminal:
        return None
    if state is RunState.WAITING:
        return now + _while_waiting(intervals, known, step, now)
    if now - born_at < FRESH or known is None or known.state is RunState.WAITING:
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


@dataclass(frozen=True, slots=True)
class Load:
    """What watching some runs costs: requests a minute, needed and allowed, and seconds to read each run once."""

    runs: int
    needed: float
    allowed: float
    round: float

    @property
    def is_reachable(self) -> bool:
        return self.needed <= self.allowed


@dataclass(frozen=True, slots=True)
class Budget:
    """The intervals that are wished for and the requests a minute that are allowed (infinite without a limit)."""

    intervals: Intervals
    per_minute: float

    def load(self, *, active: int, waiting: int) -> Load:
        """At the longest interval of runs under way and the shortest of waiting ones. One request reads one run."""
        runs = active + waiting
        needed = (
            active * 60 / self.intervals.active_most.total_seconds()
            + waiting * 60 / self.intervals.waiting.total_seconds()
        )
        return Load(runs, needed, self.per_minute, runs * 60 / self.per_minute)

    def words(self) -> str:
        if self.per_minute == inf:
            return "no self-limit; one request reads one run"
        active = self.per_minute * self.intervals.active_most.total_seconds() / 60
        waiting = self.per_minute * self.intervals.waiting.total_seconds() / 60
        return (
            f"one request reads one run: {self.per_minute:.0f} requests a minute are enough for {active:.0f} runs under "
            f"way or {waiting:.0f} that wait for a person"
        )
