"""The loops of one sink while this process holds the sink's lease, and their orderly end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import islice

from collector.errors import LeaseLost
from collector.ledger import claims
from collector.ledger.claims import Settlement, SettleResult
from collector.ledger.leases import Lease
from collector.ledger.port import News
from exporters.delivery.circuit import pause_after
from exporters.delivery.claimer import Claiming
from exporters.delivery.context import Feed
from exporters.delivery.health import Health
from exporters.delivery.held_lease import Tenure
from exporters.delivery.in_flight import Flight
from exporters.delivery.rechecks import RECHECK_AFTER, Rechecks
from exporters.delivery.sender import STOPPED, Sending
from exporters.delivery.settler import Settling, Verdict
from exporters.delivery.wakeup import Bell
from exporters.sinks.base import Retry

_RESERVE = 2.0
"""Seconds of the grace period that are kept for writing down what was in flight."""

_MOMENT = 0.05


class Session:
    """From taking the lease to giving it back or losing it. What it has in memory dies with it; the ledger has it all."""

    def __init__(self, feed: Feed, health: Health, tenure: Tenure) -> None:
        self._feed, self._health, self._tenure = feed, health, tenure
        self.flight = Flight()
        self._group = asyncio.TaskGroup()
        self._stopping, self._calm = Bell(feed.clock), Bell(feed.clock)
        self._stop_at: float | None = None
        self._over = False
        self._settling = Settling(Bell(feed.clock), self._commit)
        to_send = Bell(feed.clock)
        self._claiming = Claiming(feed, self.flight, health, tenure, claimed=to_send.ring)
        self._sending = Sending(
            to_send,
            feed,
            self.flight,
            health,
            tenure,
            verdict=self._take_in,
            drained=self._claiming.bell.ring,
        )
        self._rechecks = Rechecks(feed, health, tenure)

    @property
    def lease(self) -> Lease:
        return self._tenure.lease

    def stop(self, at: float) -> None:
        """Come to an end until `at` (monotonic)."""
        self._stop_at = at
        self._stopping.ring()

    def hint(self) -> None:
        self._claiming.hint()

    @asynccontextmanager
    async def reserved(self, strands: Iterable[int], most: int) -> AsyncIterator[list[int]]:
        """Up to `most` of these strands: meanwhile no event of theirs is sent, so that their lanes can be changed. Waits
        until one of them has no event that is out; raises `LeaseLost` when the session ends before.
        """
        wanted = list(strands)
        while not (reserved := self._reserved(wanted, most)):
            self._raise_if_over()
            await self._feed.clock.sleep(_MOMENT)
        try:
            yield reserved
        finally:
            for strand in reserved:
                self.flight.release(strand)
            self.hint()
            self._calm.ring()

    def _reserved(self, wanted: Iterable[int], most: int) -> list[int]:
        return list(islice((strand for strand in wanted if self.flight.reserve(strand)), most))

    @asynccontextmanager
    async def reserved_of(self, strands: Iterable[int]) -> AsyncIterator[list[int]]:
        """As `reserved`, for those of the strands of which no event is out."""
        free = [strand for strand in strands if self.flight.reserve(strand)]
        try:
            yield free
        finally:
            for strand in free:
                self.flight.release(strand)
            self.hint()
            self._calm.ring()

    async def run(self) -> bool:
        """Until told to stop; True when nothing is in flight then, so that the lease may be given back. Raises
        `LeaseLost` in an exception group.
        """
        self._health.changed = self._wake_all
        unsubscribe = self._feed.store.on_commit(self.hint, News.EVENTS)
        try:
            async with self._group:
                sending = self._keep("send", self._sending.step)
                working = [self._keep("settle", self._settle), self._keep("lease", self._tenure.step)]
                seeking = [self._keep("claim", self._claiming.step)]
                if self._feed.sink.rechecks:
                    seeking.append(self._keep("recheck", self._rechecks.step))
                while self._stop_at is None:
                    await self._stopping.wait()
                _cancel(seeking)
                await self._let_come_in(self._stop_at)
                _cancel([sending])
                clean = await self._write_down_the_rest(self._stop_at)
                _cancel(working)
            return clean
        finally:
            self._over = True
            unsubscribe()
            await self._sending.cancel()

    def _raise_if_over(self) -> None:
        """Once the session is over nothing that is out comes back to this process."""
        if self._over:
            raise LeaseLost(f"the lease of sink {self._feed.name} is no longer held here; nothing was done")

    def _keep(self, part: str, step: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return self._group.create_task(self._forever(part, step), name=f"{part}:{self._feed.name}")

    async def _forever(self, part: str, step: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await step()
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - the boundary of this task: the ledger may come back
                self._health.stuck(part, error)
                await self._feed.clock.sleep(pause_after(failures, self._feed.random))
                failures += 1
            else:
                self._health.unstuck(part)
                failures = 0

    def _take_in(self, verdict: Verdict) -> None:
        self._settling.add(verdict)
        if isinstance(verdict.outcome, Retry):
            self._claiming.expect(verdict.due_at_ms)

    async def _settle(self) -> None:
        self.flight.landed(await self._settling.step())
        self._claiming.hint()
        self._calm.ring()

    async def _commit(self, settlement: Settlement) -> SettleResult:
        now_ms = self._feed.time.now_ms()
        recheck_at = now_ms + int(RECHECK_AFTER * 1000) if self._feed.sink.rechecks else None
        result = await self._feed.store.write_first(
            claims.settle, self._tenure.lease, self._feed.sink_id, settlement, now_ms, recheck_at
        )
        self._health.refusals(result.refused_before, result.refused_now)
        return result

    def _wake_all(self) -> None:
        for part in (self._claiming, self._sending, self._rechecks):
            part.bell.ring()

    async def _let_come_in(self, at: float) -> None:
        """What is in flight has most of the grace period to get its outcome."""
        self.flight.put_back()
        reserve = min(_RESERVE, (at - self._feed.clock.monotonic()) / 4)
        await self._until(lambda: self.flight.empty, at - reserve)

    async def _write_down_the_rest(self, at: float) -> bool:
        """As unanswered; True when nothing of it is in flight at the sink any more."""
        await self._sending.cancel()
        left_there = self.flight.held()
        for item in left_there:
            self.flight.answered(item)
            self._take_in(Verdict(item, STOPPED, self._feed.time.now_ms()))
        await self._until(lambda: self.flight.empty, at)
        return self.flight.empty and not left_there

    async def _until(self, calm: Callable[[], bool], at: float) -> None:
        while not calm() and (left := at - self._feed.clock.monotonic()) > 0:
            await self._calm.wait(left)


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
