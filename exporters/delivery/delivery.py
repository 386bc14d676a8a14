"""Delivery to one sink, or to one shard of it: everything the ledger owes it, in order per strand, as long as it takes.

One `Delivery` per shard, in a separate task. It takes the shard's lease and then runs a `Session`: heads of lanes are
claimed ahead of the sending (`claimer`), several batches are at the sink at once and each outcome is processed as it
comes (`sender`), outcomes are committed in groups (`settler`), a failing sink gets nothing but a probe now and
then (`circuit`, `health`), runs in doubt are looked at again (`rechecks`).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from collector.clock import Clock
from collector.errors import LeaseLost, ShardsChanged
from collector.ledger import configured_sinks, overflow, parked
from collector.ledger.held_lease import HeldLease, Leases
from collector.ledger.leases import Lease
from collector.ledger.parked import Named, RetryAnswer
from collector.ledger.port import Change
from collector.ledger.shards import WHOLE, Shard
from collector.logs import fields
from exporters.delivery.circuit import Random, pause_after
from exporters.delivery.context import SinkContext
from exporters.delivery.health import Health
from exporters.delivery.reports import DeliveryObserver, SinkState, SinkStatus
from exporters.delivery.session import Session
from exporters.delivery.wakeup import Wakeup
from exporters.sinks.base import BrokenSink, Sink

_log = logging.getLogger("lineage.delivery")

_STUCK_AFTER = 60.0
_GIVE_BACK_WITHIN = 1.0
_MOMENT = 0.05
_STRANDS_AT_ONCE = 1000
"""Strands whose parked events are put back or dropped in one commit, at most."""


class Delivery:
    """Delivers to one shard of a sink until stopped. Does not close the sink: its creator does, after `stop`. It takes no lease while
    the sink is divided otherwise.
    """

    def __init__(
        self,
        sink_name: str,
        sink_id: int,
        sink: Sink,
        *,
        leases: Leases,
        clock: Clock,
        random: Random,
        observer: DeliveryObserver,
        shard: Shard = WHOLE,
    ) -> None:
        self._context = SinkContext(sink_name, sink_id, sink, leases.store, clock, random, observer, shard)
        self._leases = leases
        self._health = Health(sink_name, clock, random, observer, shard)
        self._wakeup = Wakeup(clock)
        self._begun, self._ended = False, asyncio.Event()
        self._stop_at: float | None = None
        self._state = SinkState.STARTING
        self._session: Session | None = None
        self.lease_changed: Callable[[], None] = lambda: None
        """Called when `lease` is another one."""

    @property
    def lease(self) -> Lease | None:
        """The shard's lease while this process holds it, else None."""
        return self._session.lease if self._session else None

    @property
    def expected_by(self) -> float:
        """When the loop should have made its next round at the latest (monotonic clock), for the liveness probe."""
        return self._health.came_round_at + _STUCK_AFTER

    def status(self) -> SinkStatus:
        health = self._health
        return SinkStatus(
            sink=self._context.name,
            state=self._present_state(),
            last_success_at=health.last_success_at,
            problem=health.trouble or health.circuit.cause,
            in_flight=self._session.in_flight.at_sink if self._session else 0,
            last_error=health.last_error,
            failed_at=health.failed_at,
        )

    def _present_state(self) -> SinkState:
        if self._health.trouble:
            return SinkState.STUCK
        if self._session and self._health.circuit.open:
            return SinkState.OUTAGE
        return self._state

    async def run(self) -> None:
        """Until `stop`. Raises nothing, unless the task is cancelled; then the lease expires by itself."""
        self._begun, failures = True, 0
        if isinstance(self._context.sink, BrokenSink):
            self._health.begins_broken(self._context.sink.outcome)
        unsubscribe = self._context.store.on_commit(self._wakeup.set, Change.LEASES)
        try:
            while self._stop_at is None:
                self._health.came_round()
                try:
                    await self._round()
                except Exception as error:  # noqa: BLE001 - the boundary of this task: one sink must not end the others
                    self._health.stuck("delivery", error)
                    await self._wakeup.wait(pause_after(failures, self._context.random))
                    failures += 1
                else:
                    self._health.unstuck("delivery")
                    failures = 0
        finally:
            unsubscribe()
            self._state = SinkState.STOPPED
            self._ended.set()

    async def stop(self, deadline: float) -> None:
        """Within `deadline` seconds: claim nothing more, wait for what is in flight, commit the rest as unanswered,
        give the lease back if nothing is left in flight. Returns when `run` has ended.
        """
        self.begin_stop(deadline)
        if self._begun:
            await self._ended.wait()

    def begin_stop(self, deadline: float) -> None:
        """`stop`, without waiting for its end."""
        self._stop_at = self._context.clock.monotonic() + deadline
        self._wakeup.set()
        if self._session:
            self._session.stop(self._stop_at)

    async def retry_parked(self, events: Iterable[Named]) -> dict[Named, RetryAnswer]:
        """Send parked events again, many in one commit; returns the result for each. Waits while another event of their
        strand is at the sink; raises `LeaseLost` when this process does not deliver to the sink.
        """
        left: defaultdict[int, list[Named]] = defaultdict(list)
        for event in events:
            left[event[0]].append(event)
        answers: dict[Named, RetryAnswer] = {}
        session = self._present_session()
        while left:
            async with session.reserved(left, _STRANDS_AT_ONCE) as strands:
                if strands:
                    some = [event for strand in strands for event in left.pop(strand)]
                    of_these = session.lease, self._context.sink_id, some, self._context.time.now_ms()
                    answers |= await self._context.store.write(parked.retry, *of_these)
                    continue
            await self._context.clock.sleep(_MOMENT)
        return answers

    def reserved(self, strands: Iterable[int]) -> AbstractAsyncContextManager[list[int]]:
        """Those of the strands that have no event at the sink: meanwhile their lanes may be changed. Raises `LeaseLost` as above."""
        return self._present_session().reserved(strands)

    async def drop_parked(self, events: Sequence[Named]) -> set[Named]:
        """Delete parked events; returns those that were parked. Raises `LeaseLost` as above."""
        dropped: set[Named] = set()
        for start in range(0, len(events), _STRANDS_AT_ONCE):
            some, lease = events[start : start + _STRANDS_AT_ONCE], self._present_session().lease
            dropped |= await self._context.store.write(parked.drop, lease, self._context.sink_id, some)
        return dropped

    async def park_oldest(self, room: int, cause: str) -> None:
        """Park at least `room` bytes of what this shard is owed: whole strands, oldest first. Strands whose event is at the
        sink are left out. Raises `LeaseLost` as above.
        """
        session = self._present_session()
        events, size, after = 0, 0, 0
        while size < room and (
            strands := await self._context.store.read_shown(
                overflow.oldest, self._context.sink_id, after, overflow.STEP, self._context.shard
            )
        ):
            after = strands[-1]
            async with session.reserved(strands) as free:
                now_ms, rechecks = self._context.time.now_ms(), self._context.sink.rechecks
                of_these = session.lease, self._context.sink_id, free, room - size, cause, now_ms
                done = await self._context.store.write(overflow.park, *of_these, rechecks=rechecks)
            events, size = events + done.events, size + done.room
        if events:
            _log.error("sink.overflowed", extra=fields(sink=self._context.name, parked=events, bytes=size, cause=cause))

    def _present_session(self) -> Session:
        if self._session is None:
            raise LeaseLost(f"the lease of sink {self._context.name} is not held here; nothing was done")
        return self._session

    async def _round(self) -> None:
        """Take the lease and work under it until stopped, or wait a little if another process has it."""
        context = self._context
        taking = partial(
            configured_sinks.take_lease,
            sink_id=context.sink_id,
            shard=context.shard,
            now_ms=context.time.now_ms(),
            rechecks=context.sink.rechecks,
        )
        try:
            held = await self._leases.take(self._lease_name, context.attempt_seconds, taking)
        except ShardsChanged:  # which ends this delivery soon
            held = None
        if held is not None:
            with held:
                await self._serve(held)
            return
        if self._state is not SinkState.STANDBY:
            _log.info(
                "lease.held_elsewhere",
                extra=fields(lease=self._lease_name, then="this process stands by and tries again"),
            )
        self._state = SinkState.STANDBY
        await self._wakeup.wait(self._leases.until_asked_again(self._lease_name))

    @property
    def _lease_name(self) -> str:
        return self.shard.lease_name(self._context.name)

    @property
    def shard(self) -> Shard:
        return self._context.shard

    async def _serve(self, held_lease: HeldLease) -> None:
        self._health.forget_probe()
        self._session = session = Session(self._context, self._health, held_lease)
        self._state = SinkState.DELIVERING
        self.lease_changed()
        if self._stop_at is not None:
            session.stop(self._stop_at)
        try:
            if await session.run():
                await held_lease.give_back(_GIVE_BACK_WITHIN)
        except* LeaseLost as lost:
            _log.warning("lease.lost", extra=fields(lease=self._lease_name, cause=str(lost.exceptions[0])))
        finally:
            self._session = None
            self.lease_changed()
