"""The loops of one sink while this process holds the sink's lease, and their orderly stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import islice

from collector.errors import LeaseLost, LedgerError
from collector.ledger import claims
from collector.ledger.claims import Settlement, SettleResult
from collector.ledger.held_lease import HeldLease
from collector.ledger.leases import Lease
from collector.ledger.port import Change
from collector.logs import fields
from exporters.delivery.circuit import pause_after
from exporters.delivery.claimer import Claimer
from exporters.delivery.context import SinkContext
from exporters.delivery.health import Health
from exporters.delivery.in_flight import InFlight
from exporters.delivery.rechecks import RECHECK_AFTER, Rechecks
from exporters.delivery.sender import STOPPED, Sender
from exporters.delivery.settler import Settler, Verdict
from exporters.delivery.wakeup import Wakeup
from exporters.sinks.base import Retry

_log = logging.getLogger("lineage.delivery")

_RESERVE = 2.0
"""Seconds of the grace period that are left to commit what was in flight."""

_LEDGER_LOOK = 1.0
"""Seconds at most between two attempts of a loop while the ledger does not answer."""


class Session:
    """From taking the lease to giving it back or losing it. All that it has in memory is in the ledger, too."""

    def __init__(self, context: SinkContext, health: Health, held_lease: HeldLease) -> None:
        self._context, self._health, self._held_lease = context, health, held_lease
        self.in_flight = InFlight()
        self._group = asyncio.TaskGroup()
        self._stopping, self._calm = Wakeup(context.clock), Wakeup(context.clock)
        self._stop_at: float | None = None
        self._over = False
        self._settler = Settler(
            Wakeup(context.clock),
            context.clock,
            self._commit,
            lambda: self.in_flight.at_sink > 0 and self._stop_at is None,
        )
        to_send = Wakeup(context.clock)
        self._claimer = Claimer(context, self.in_flight, health, held_lease, claimed=to_send.set)
        self._sender = Sender(
            to_send,
            context,
            self.in_flight,
            health,
            held_lease,
            verdict=self._take_in,
            drained=self._claimer.sent,
        )
        self._rechecks = Rechecks(context, health, held_lease)

    @property
    def lease(self) -> Lease:
        return self._held_lease.lease

    def stop(self, at: float) -> None:
        """Stop by `at` (monotonic)."""
        self._stop_at = at
        self._stopping.set()

    @asynccontextmanager
    async def reserved(self, strands: Iterable[int], most: int | None = None) -> AsyncIterator[list[int]]:
        """Those of these strands, up to `most`, that have no event at the sink: meanwhile none of their events is sent, so that
        their lanes can be changed. Raises `LeaseLost` once the session is over, as no outcome comes back to this process then.
        """
        if self._over:
            raise LeaseLost(f"the lease of sink {self._context.name} is no longer held here; nothing was done")
        free = list(islice((strand for strand in strands if self.in_flight.reserve(strand)), most))
        try:
            yield free
        finally:
            for strand in free:
                self.in_flight.release(strand)
            self._claimer.moved()
            self._calm.set()

    async def run(self) -> bool:
        """Until `stop`; True when nothing is in flight then: the lease may be given back. Raises `LeaseLost` in a group."""
        self._health.changed = self._wake_all
        unsubscribe = self._context.store.on_commit(self._claimer.hint, Change.EVENTS)
        try:
            async with self._group:
                sender = self._keep("send", self._sender.step)
                working = [self._keep("settle", self._settle), self._keep("lease", self._keep_lease)]
                seeking = [self._keep("claim", self._claimer.step)]
                if self._context.sink.rechecks:
                    seeking.append(self._keep("recheck", self._rechecks.step))
                while self._stop_at is None:
                    await self._stopping.wait()
                _cancel(seeking)
                await self._wait_for_outcomes(self._stop_at)
                _cancel([sender])
                clean = await self._commit_rest(self._stop_at)
                _cancel(working)
            return clean
        finally:
            self._over = True
            unsubscribe()
            await self._sender.cancel()

    def _keep(self, part: str, step: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return self._group.create_task(self._forever(part, step), name=f"{part}:{self._context.name}")

    async def _forever(self, part: str, step: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await step()
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - the boundary of this task: the ledger may come back
                self._health.stuck(part, error)
                await self._context.clock.sleep(self._pause(error, failures))
                failures += 1
            else:
                self._health.unstuck(part)
                failures = 0

    def _pause(self, error: Exception, failures: int) -> float:
        pause = pause_after(failures, self._context.random)
        return min(pause, _LEDGER_LOOK) if isinstance(error, LedgerError) else pause

    async def _keep_lease(self) -> None:
        await self._held_lease.step()
        if self._held_lease.is_surplus and self._stop_at is None:
            _log.info("lease.shared", extra=fields(lease=self.lease.name, then="another replica takes it"))
            self.stop(self._context.clock.monotonic() + self._context.attempt_seconds + 2 * _RESERVE)

    def _take_in(self, verdict: Verdict) -> None:
        self._settler.add(verdict)
        if isinstance(verdict.outcome, Retry):
            self._claimer.expect(verdict.due_at_ms)

    async def _settle(self) -> None:
        self.in_flight.settled(await self._settler.step())
        self._claimer.hint()
        self._calm.set()

    async def _commit(self, settlement: Settlement) -> SettleResult:
        now_ms = self._context.time.now_ms()
        recheck_at = now_ms + int(RECHECK_AFTER * 1000) if self._context.sink.rechecks else None
        result = await self._context.store.write_first(
            claims.settle, self._held_lease.lease, self._context.sink_id, settlement, now_ms, recheck_at
        )
        self._health.refusals(result.refused_before, result.refused_now)
        return result

    def _wake_all(self) -> None:
        for part in (self._claimer, self._sender, self._rechecks):
            part.wakeup.set()

    async def _wait_for_outcomes(self, at: float) -> None:
        """Of what is in flight, for most of the grace period."""
        self.in_flight.put_back()
        reserve = min(_RESERVE, (at - self._context.clock.monotonic()) / 4)
        await self._until(lambda: self.in_flight.empty, at - reserve)

    async def _commit_rest(self, at: float) -> bool:
        """As unanswered; True when nothing is in flight at the sink any more."""
        await self._sender.cancel()
        left_there = self.in_flight.held()
        for item in left_there:
            self.in_flight.answered(item)
            self._take_in(Verdict(item, STOPPED, self._context.time.now_ms()))
        await self._until(lambda: self.in_flight.empty, at)
        return self.in_flight.empty and not left_there

    async def _until(self, calm: Callable[[], bool], at: float) -> None:
        while not calm() and (left := at - self._context.clock.monotonic()) > 0:
            await self._calm.wait(left)


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
