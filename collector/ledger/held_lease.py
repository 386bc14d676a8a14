"""Holding leases: one protocol for sources, sinks, housekeeping and metrics.

A lease is taken, renewed in time, and given back when nothing is in flight. Its end is reckoned by the monotonic clock
as read before each renewal was asked for. When that end comes without a renewal the lease has *lapsed*: nothing starts
under it and what can be stopped is stopped, until it is renewed after all. When another holder has it, it is *lost*, and
all work under it ends.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection

from collector.clock import Clock, until_set, until_tick
from collector.deadline import apart, before
from collector.errors import LeaseGivenBack, LeaseLapsed, LeaseLost, LedgerCorrupt, LedgerError
from collector.ledger import leases, replicas
from collector.ledger.fair_share import FairShare
from collector.ledger.leases import Lease
from collector.ledger.port import Change, Ledger
from collector.ledger.standby import HeldElsewhere
from collector.logs import fields
from collector.reports import LeaseReport

_log = logging.getLogger("lineage.lease")

MARGIN = 30.0
"""A lease outlives the longest request under it by so many seconds."""
RENEW_EVERY = 10.0
SOON = 4.0
"""Seconds before it is due in which a lease is renewed along with another one; not when it was renewed just now."""
LEAD = 1.2
"""So much longer a lease waits for its renewal that another's took along last, so that the same one leads the next time."""
RENEW_AGAIN = 1.0
"""Seconds after a renewal that the ledger did not take."""
STANDBY_LOOK = 30.0
"""Seconds between two checks of the leases that other processes hold. Where one is free by then, its check comes sooner, and a
commit that brings `Change.LEASES` makes all come at once.
"""
AGAIN = 2.0
"""Seconds until a lease is asked for again that is free, and another replica's, or while the ledger does not answer."""
_GIVE_BACK_WITHIN = 5.0

T = TypeVar("T")
Taking = Callable[[Connection, str, str, int], Lease | None]
"""`leases.take`, or that and what must be in the same commit."""


class HeldLease:
    """A lease that is held here, from `with` to its end."""

    def __init__(self, of: "Leases", lease: Lease, ttl: float, asked_at: float) -> None:
        self._of, self._ttl = of, ttl
        self.lease = lease
        self._ends_at = asked_at + ttl
        self._renew_at = asked_at + RENEW_EVERY / 2
        """At the first tick from then on."""
        self._left_out = asyncio.Event()

    def __enter__(self) -> Self:
        self._of.enter(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._of.leave(self)

    @property
    def is_surplus(self) -> bool:
        """Whether to give it back at a quiet moment, as another replica holds fewer."""
        return self.lease.name in self._of.surplus()

    def covers(self, seconds: float) -> bool:
        """Whether a request of that length may start now."""
        return self._of.clock.monotonic() + seconds <= self._ends_at

    async def until_covers(self, seconds: float) -> None:
        """Wait for a renewal where the lease could end before a request of that length does."""
        while not self.covers(seconds):
            await self._of.clock.sleep(RENEW_AGAIN)

    async def step(self) -> None:
        """Wait for the next tick and renew it, unless another lease's renewal did; at once where that left it out, as another
        transaction had it locked. Raises `LeaseLost` when another holder has it.
        """
        if not self.is_due(0):
            await until_set(self._left_out, self._of.clock, until_tick(self._of.clock, RENEW_EVERY))
            self._left_out.clear()
        if self.is_due(0):
            await self.renew()

    async def renew(self) -> None:
        """With it the other leases that are held here and soon due: one commit for all. Raises `LeaseLost` when another
        holder has it.
        """
        asked_at = self._of.clock.monotonic()
        along = self._of.soon_due(self)
        for held in along:
            held.taken_along(asked_at)
        others = {held.lease: held.ttl_ms for held in along}
        renewed = await self._of.store.write_first(leases.renew_together, self.lease, self.ttl_ms, others)
        if self.lease.name not in renewed:
            raise LeaseLost(f"lease {self.lease.name} went to another holder")
        self._ends_at, self._renew_at = asked_at + self._ttl, asked_at + RENEW_EVERY / 2
        for held in along:
            if held.lease.name in renewed:
                held.renewed_along(asked_at)
            else:
                held.left_out()

    def taken_along(self, asked_at: float) -> None:
        """Another lease's renewal, which is under way, is to renew this one, too."""
        self._renew_at = asked_at + RENEW_AGAIN

    def renewed_along(self, asked_at: float) -> None:
        self._ends_at, self._renew_at = asked_at + self._ttl, asked_at + LEAD * RENEW_EVERY

    def left_out(self) -> None:
        """Another lease's renewal did not renew this one."""
        self._renew_at = self._of.clock.monotonic()
        self._left_out.set()

    def is_due(self, within: float) -> bool:
        """Whether it is to be renewed within so many seconds."""
        return self._of.clock.monotonic() + within >= self._renew_at

    @property
    def ttl_ms(self) -> int:
        return int(self._ttl * 1000)

    async def keep(self) -> None:
        """Renew it until cancelled, whatever the ledger says. Raises `LeaseLost`, and `LedgerCorrupt`."""
        failure: str | None = None
        while True:
            try:
                await self.step()
            except (LeaseLost, LedgerCorrupt):
                raise
            except LedgerError as error:
                if failure is None:
                    details = fields(lease=self.lease.name, cause=str(error), then="tries again each second")
                    _log.warning("lease.unrenewed", extra=details)
                failure = str(error)
                await self._of.clock.sleep(RENEW_AGAIN)
            else:
                failure = None

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this while the lease lasts. Raises `LeaseLapsed`, with the work cancelled, once it was not renewed in time."""
        done, result = await before(lambda: self._ends_at, self._of.clock, work)
        if not done:
            raise LeaseLapsed(
                f"lease {self.lease.name} could not be renewed in time: another process may hold it by now"
            )
        return result()

    async def give_back(self, within: float = _GIVE_BACK_WITHIN) -> None:
        """Give it back at a clean end: nothing is in flight any more. Of no effect when it is lost; where the ledger does not take
        it `within` so many seconds, it expires by itself.
        """
        try:
            async with asyncio.timeout(within):
                await self._of.store.write(leases.give_back, self.lease)
        except (LedgerError, TimeoutError) as error:
            _report_kept(self.lease.name, error)
        else:
            _log.debug("lease.given_back", extra=fields(lease=self.lease.name))


class Leases:
    """The leases that this process holds, or stands by for. No other process ever had the name `holder`."""

    def __init__(self, store: Ledger, clock: Clock, holder: str, report: Callable[[LeaseReport], None]) -> None:
        self.store, self.clock, self.holder, self._report = store, clock, holder, report
        self._held: dict[str, HeldLease] = {}
        self.share = FairShare(holder)
        self._elsewhere = HeldElsewhere(store, clock, holder)
        self._free_since: dict[str, float] = {}
        self._seconds_left: dict[str, float] = {}
        """Of leases that other processes held when this one looked last."""

    def enter(self, held: HeldLease) -> None:
        self._held[held.lease.name] = held
        self._report(LeaseReport(held.lease.name, held=True))

    def leave(self, held: HeldLease) -> None:
        self._held.pop(held.lease.name, None)
        self._report(LeaseReport(held.lease.name, held=False))

    def soon_due(self, but: HeldLease) -> list[HeldLease]:
        """The others whose renewal costs no commit when it goes along with one now. One that has lapsed may be lost, so it is
        renewed by itself, at once.
        """
        others = [held for held in self._held.values() if held is not but]
        return [held for held in others if held.covers(0) and held.is_due(SOON)]

    def holds(self, name: str) -> bool:
        """Whether this process surely holds it now."""
        held = self._held.get(name)
        return held is not None and held.covers(0)

    def surplus(self) -> set[str]:
        """Leases to give back at a quiet moment; not those that no other replica took when they were free."""
        return self.share.surplus(self._held)

    async def _is_held_elsewhere(self, name: str) -> bool:
        """By a read, which costs a standby less than to ask for the lease."""
        self._seconds_left[name] = left = await self._elsewhere.seconds_left(name)
        if left:
            self._free_since.pop(name, None)
        return bool(left)

    async def _is_for_others(self, name: str) -> bool:
        """Whether to leave it to other replicas, as this one has its share already."""
        if self.share.may_take(name, self._held, 0):
            self._free_since.pop(name, None)
            return False
        self.share.set_live_replicas(await self.store.read_shown(replicas.live))
        now = self.clock.monotonic()
        if not self.share.may_take(name, self._held, now - self._free_since.setdefault(name, now)):
            return True
        self._free_since.pop(name)
        if not self.share.may_take(name, self._held, 0):
            self.share.keep(name)
        return False

    async def take(self, name: str, longest: float, taking: Taking = leases.take) -> HeldLease | None:
        """None while another process holds it, or may have it first. `longest` are the seconds of one request under it."""
        if await self._is_held_elsewhere(name) or await self._is_for_others(name):
            return None
        asked_at, ttl = self.clock.monotonic(), longest + MARGIN
        lease = await self._taken(
            name, asyncio.ensure_future(self.store.write(taking, name, self.holder, int(ttl * 1000)))
        )
        return None if lease is None else HeldLease(self, lease, ttl, asked_at)

    async def _taken(self, name: str, taking: asyncio.Future[Lease | None]) -> Lease | None:
        """Once begun it happens, so that who is cancelled meanwhile gives back what it got."""
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(_GIVE_BACK_WITHIN):
                    if (lease := await asyncio.shield(taking)) is not None:
                        await self.store.write(leases.give_back, lease)
            except (LedgerError, TimeoutError) as error:
                _report_kept(name, error)
            raise

    def until_asked_again(self, name: str) -> float:
        """Seconds until it is worth trying to take a lease that could not be taken; sooner after `Change.LEASES`."""
        return min(self._seconds_left.pop(name, 0.0), until_tick(self.clock, STANDBY_LOOK)) or AGAIN

    async def work(
        self,
        name: str,
        longest: float,
        work: Callable[[HeldLease], Awaitable[None]],
        *,
        came_round: Callable[[bool], None] = lambda _: None,
        taking: Taking = leases.take,
    ) -> None:
        """Until cancelled: run `work` whenever the lease can be taken. It is cancelled when the lease is lost, and starts again
        under the next one. `came_round` is called at each look for the lease, with whether it is held here now.

        Raises what `work` raises, but for `LeaseLost`, in an exception group.
        """
        freed = asyncio.Event()
        unsubscribe = self.store.on_commit(freed.set, Change.LEASES)
        try:
            await self._work(name, longest, work, came_round, taking, freed)
        finally:
            unsubscribe()

    async def _work(
        self,
        name: str,
        longest: float,
        work: Callable[[HeldLease], Awaitable[None]],
        came_round: Callable[[bool], None],
        taking: Taking,
        freed: asyncio.Event,
    ) -> None:
        waits, failure = False, None
        while True:
            freed.clear()
            try:
                held = await self.take(name, longest, taking)
            except LedgerCorrupt:
                raise
            except LedgerError as error:
                if str(error) != failure:
                    details = fields(lease=name, cause=str(error), then="tries again")
                    _log.error("lease.take_failed", extra=details)
                held, failure = None, str(error)
            else:
                failure = None
            came_round(held is not None)
            if held is not None:
                waits = False
                try:
                    _, result = await apart(self._under(held, work))
                finally:  # here, as work that is cancelled before it began does nothing at all
                    await held.give_back()
                result()
                continue
            if not waits and failure is None:
                _log.info(
                    "lease.held_elsewhere", extra=fields(lease=name, then="this process stands by and tries again")
                )
                waits = True
            await until_set(freed, self.clock, self.until_asked_again(name))

    async def _under(self, held: HeldLease, work: Callable[[HeldLease], Awaitable[None]]) -> None:
        with held:
            try:
                async with asyncio.TaskGroup() as group:
                    keeper = group.create_task(held.keep(), name=f"lease:{held.lease.name}")
                    await work(held)
                    keeper.cancel()
            except* LeaseGivenBack:
                _log.info("lease.shared", extra=fields(lease=held.lease.name, then="another replica takes it"))
            except* LeaseLost as lost:
                _log.warning("lease.lost", extra=fields(lease=held.lease.name, cause=str(_first(lost))))


def _report_kept(name: str, error: Exception) -> None:
    cause, then = str(error) or "the ledger did not answer", "it expires by itself"
    _log.error("lease.not_given_back", extra=fields(lease=name, cause=cause, then=then))


def _first(group: BaseExceptionGroup[LeaseLost]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
