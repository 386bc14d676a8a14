"""When to look at each run again, and how many looks a token may take: pure but for the bucket's own count."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

from collector.model import Run, RunState

FRESH = timedelta(seconds=60)
"""A run younger than this is looked at as often as is allowed."""
GROWTH = 1.5
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pace:
    """The shortest and the longest interval between two looks at one run: under way, and while it waits for a person."""

    active: timedelta = timedelta(seconds=5)
    active_most: timedelta = timedelta(seconds=60)
    waiting: timedelta = timedelta(minutes=10)
    waiting_most: timedelta = timedelta(hours=1)


def next_look(
    pace: Pace, known: Run | None, state: RunState, step: str | None, *, now: datetime, born_at: datetime
) -> datetime | None:
    """When a run that is in `state` now should be read again; None when it has ended. `born_at` is its creation."""
    if state.terminal:
        return None
    if state is RunState.WAITING:
        return now + _while_waiting(pace, known, step, now)
    if now - born_at < FRESH or known is None or known.state is RunState.WAITING:
        return now + pace.active
    last = pace.active if known.due_at is None else known.due_at - known.seen_at
    grown: timedelta = last * GROWTH
    return now + min(pace.active_most, max(pace.active, grown))


def _while_waiting(pace: Pace, known: Run | None, step: str | None, now: datetime) -> timedelta:
    """Grows with the time that the run has waited, to the longest interval after a day."""
    waited = now - known.progressed_at if known is not None and known.raw_state == step else timedelta()
    return min(pace.waiting_most, max(pace.waiting, pace.waiting_most * (waited / DAY)))


def retry_after_failures(pace: Pace, failures: int) -> timedelta:
    """How long a run is left alone that could not be read `failures` times in a row while others could."""
    return min(pace.waiting, pace.active * 2.0 ** min(failures, 16))


class TokenBucket:
    """At most `rate` requests a second in the long run, `burst` at once. Shared by all who use one token."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self._burst = max(1.0, burst)
        self._left = self._burst
        self._at: float | None = None
        self._held_until = 0.0

    def delay(self, now: float) -> float:
        """Seconds until the next request may go. `now` is a monotonic clock's."""
        left, at = self._refilled(now)
        return max(0.0, (1.0 - left) / self.rate) + at - now

    def take(self, now: float) -> float:
        """As `delay`, and the place is taken."""
        delay = self.delay(now)
        left, self._at = self._refilled(now)
        self._left = left - 1.0
        return delay

    def _refilled(self, now: float) -> tuple[float, float]:
        if self._at is None:
            return self._left, now
        return min(self._burst, self._left + max(0.0, now - self._at) * self.rate), max(now, self._at)

    def hold(self, now: float, seconds: float) -> None:
        """Let nobody go for `seconds`: the platform asked for patience."""
        self._left, self._at = min(self._left, 0.0), max(self._at or now, now + seconds)
        self._held_until = max(self._held_until, now + seconds)

    def is_held(self, now: float) -> bool:
        return now < self._held_until


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

    pace: Pace
    per_minute: float

    def load(self, *, active: int, waiting: int) -> Load:
        """At the longest interval of runs under way and the shortest of waiting ones. One request reads one run."""
        runs = active + waiting
        needed = active * 60 / self.pace.active_most.total_seconds() + waiting * 60 / self.pace.waiting.total_seconds()
        return Load(runs, needed, self.per_minute, runs * 60 / self.per_minute)

    def words(self) -> str:
        if self.per_minute == inf:
            return "no self-limit; one request reads one run"
        active = self.per_minute * self.pace.active_most.total_seconds() / 60
        waiting = self.per_minute * self.pace.waiting.total_seconds() / 60
        return (
            f"one request reads one run: {self.per_minute:.0f} requests a minute are enough for {active:.0f} runs under "
            f"way or {waiting:.0f} that wait for a person"
        )
