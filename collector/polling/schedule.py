"""When a source is asked next: pure decisions."""

from dataclasses import dataclass
from datetime import timedelta

from collector.errors import AuthFailed, SourceError, Throttled, Unavailable
from collector.reports import PollResult

LONGEST_WAIT = 300.0
"""Seconds between two tries of a source that fails, at the most."""
JITTER = 0.1
"""Share of the interval by which polls are moved at random, so that many collectors do not ask at once."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a source is polled: every `interval`, spread by `JITTER`, each cycle within `deadline`."""

    interval: timedelta
    deadline: timedelta


def result_of(error: BaseException) -> PollResult:
    """The word that counts this failure."""
    return next((result for kind, result in _RESULTS.items() if isinstance(error, kind)), PollResult.ERROR)


_RESULTS = {
    AuthFailed: PollResult.AUTH,
    Throttled: PollResult.THROTTLED,
    Unavailable: PollResult.UNAVAILABLE,
    SourceError: PollResult.BAD_ANSWER,
    TimeoutError: PollResult.DEADLINE,
}
"""The first that fits counts."""


def next_wait(rhythm: Rhythm, failures: int, asked: float | None, chance: float) -> float:
    """Seconds until the next cycle starts.

    `failures` in a row double the interval up to five minutes; `asked` is what the platform asked for and is never
    undercut; `chance` in [0, 1) spreads the starts so that sources do not march in step.
    """
    interval = rhythm.interval.total_seconds()
    wait: float = min(interval * 2 ** min(failures, 16), max(LONGEST_WAIT, interval))
    wait *= 1 + JITTER * (2 * chance - 1)
    return max(wait, asked * (1 + JITTER * chance)) if asked else wait
