"""Commits outcomes to the ledger: those that come during a commit share the next one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from collector.clock import Clock
from collector.faultpoints import Point, passing
from collector.ledger.claims import Refused, Retried, Settlement
from collector.model import Outgoing
from exporters.delivery.wakeup import Wakeup
from exporters.sinks.base import Delivered, Outcome, Park, Retry


class Verdict(NamedTuple):
    """The outcome of an attempt. `due_at_ms` is when a `Retry` is due again, without meaning for other outcomes."""

    item: Outgoing
    outcome: Outcome
    due_at_ms: int


def settlement(verdicts: Sequence[Verdict]) -> Settlement:
    delivered, retried, parked = list[Outgoing](), list[Retried](), list[Refused]()
    for item, outcome, due_at_ms in verdicts:
        match outcome:
            case Delivered():
                delivered.append(item)
            case Retry():
                retried.append(Retried(item, due_at_ms, outcome.cause, outcome.unanswered))
            case Park():
                parked.append(Refused(item, outcome.cause))
    return Settlement(tuple(delivered), tuple(retried), tuple(parked))


TOGETHER = 0.025
"""Seconds that a commit waits for the outcomes of what else is at the sink: each commit costs the same, for one and for fifty."""


class Settler:
    """Keeps verdicts until they are committed, also when commits fail: an acknowledged event is not sent again."""

    def __init__(
        self,
        wakeup: Wakeup,
        clock: Clock,
        commit: Callable[[Settlement], Awaitable[object]],
        more_to_come: Callable[[], bool],
    ) -> None:
        self._wakeup, self._clock, self._commit, self._more_to_come = wakeup, clock, commit, more_to_come
        self._verdicts: list[Verdict] = []

    def add(self, verdict: Verdict) -> None:
        self._verdicts.append(verdict)
        self._wakeup.set()

    async def step(self) -> list[Outgoing]:
        """Wait for verdicts and commit them all. Returns their events; raises what the commit raises and keeps them."""
        while not self._verdicts:
            await self._wakeup.wait()
        if self._more_to_come():
            await self._clock.sleep(TOGETHER)
        batch = list(self._verdicts)
        agreed = settlement(batch)
        passing(Point.AFTER_SEND)
        if agreed.parked:
            passing(Point.DURING_PARK)
        await self._commit(agreed)
        del self._verdicts[: len(batch)]
        return [verdict.item for verdict in batch]
