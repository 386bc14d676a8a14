"""Delivery to one sink with all its shards, whose number the ledger says and may change at any time."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from collector.clock import Clock, until_set, until_tick
from collector.errors import LeaseLost, LedgerError
from collector.ledger import shard_count, shards
from collector.ledger.held_lease import Leases
from collector.ledger.port import Change
from collector.ledger.shards import Shard, Shards
from collector.logs import fields
from exporters.delivery.circuit import Random
from exporters.delivery.delivery import Delivery
from exporters.delivery.reports import DeliveryObserver, SinkState, SinkStatus
from exporters.delivery.requests import SinkRequests
from exporters.delivery.wakeup import Wakeup
from exporters.sinks.base import Sink, is_parallel

_log = logging.getLogger("lineage.delivery")

LOOK = 30.0
"""Seconds at most between two looks at the number of shards. Another number is announced, whichever process noted it."""
_AGAIN = 1.0
"""Seconds between two attempts to change it while one of the leases is held."""
_STUCK_AFTER = 60.0
_SETTLE_WITHIN = 4.0
"""Seconds beyond the longest attempt in which a delivery ends whose sink is divided otherwise."""
_ANSWERED_WITHIN = 4.0
"""Seconds that requests may take to be answered before the leases are given back."""
_URGENCY = (SinkState.STUCK, SinkState.OUTAGE, SinkState.DELIVERING, SinkState.STARTING, SinkState.STANDBY)


class SinkDelivery:
    """Delivers to all shards of a sink whose leases this process can take, until stopped.

    Each shard works with a sink of its own: `first`, or what `another` creates, which are in `others`. Their creator closes them.
    `on_shards` is called with the number of shards that are worked on from then on.
    """

    def __init__(
        self,
        name: str,
        sink_id: int,
        first: Sink,
        another: Callable[[], Sink],
        *,
        leases: Leases,
        clock: Clock,
        random: Random,
        observer: DeliveryObserver,
        on_shards: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._name, self._sink_id, self._first, self._another = name, sink_id, first, another
        self._leases, self._clock, self._random, self._observer = leases, clock, random, observer
        self._on_shards = on_shards
        self.others: list[Sink] = []
        self._deliveries: Sequence[Delivery] = ()
        self._wakeup = Wakeup(clock)
        self._begun, self._ended = False, asyncio.Event()
        self._stop_at: float | None = None
        self._came_round_at = clock.monotonic()
        self._trouble: str | None = None

    @property
    def expected_by(self) -> float:
        """When the loops should have made their next round at the latest (monotonic clock), for the liveness probe."""
        rounds = [each.expected_by for each in self._deliveries]
        return min([self._came_round_at + _STUCK_AFTER, *rounds])

    def status(self) -> SinkStatus:
        """Of all shards here as one: the state is the most urgent of theirs."""
        if self._trouble is not None or not self._deliveries:
            stopped = SinkState.STOPPED if self._ended.is_set() else SinkState.STARTING
            return SinkStatus(self._name, SinkState.STUCK if self._trouble else stopped, None, self._trouble, 0)
        return _together([each.status() for each in self._deliveries])

    async def run(self) -> None:
        """Until `stop`."""
        self._begun = True
        unsubscribe = self._leases.store.on_commit(self._wakeup.set, Change.LEASES)
        try:
            while self._stop_at is None:
                await self._round()
        finally:
            unsubscribe()
            self._ended.set()

    async def stop(self, deadline: float) -> None:
        """Within `deadline` seconds, as of each `Delivery`. Returns when `run` has ended."""
        self._stop_at = self._clock.monotonic() + deadline
        self._wakeup.set()
        if self._begun:
            await self._ended.wait()

    async def park_oldest(self, room: int, cause: str) -> None:
        """Park at least `room` bytes of what the sink is owed, of each shard its part. Raises `LeaseLost` when none is held here."""
        held = [each for each in self._deliveries if each.lease is not None]
        if not held:
            raise LeaseLost(f"no lease of sink {self._name} is held here; nothing was done")
        for each in held:
            await each.park_oldest(-(-room // each.shard.of), cause)

    async def _round(self) -> None:
        self._came_round_at = self._clock.monotonic()
        try:
            found = await self._leases.store.read_shown(shards.of_sink, self._sink_id) or Shards(1)
            if found.next is not None:
                await self._change(found)
        except LedgerError as error:
            self._trouble = str(error)
            await self._wakeup.wait(_AGAIN)
            return
        self._trouble = None
        if found.next is not None:
            return
        if found.count > 1 and not is_parallel(self._first):  # other replicas have another kind of sink of this name
            await self._wakeup.wait(LOOK)
            return
        await self._deliver(found.count)

    async def _change(self, found: Shards) -> None:
        try:
            now = await self._leases.store.write(shard_count.change, self._sink_id, self._name)
        except LeaseLost:  # held by a replica that has yet to hear of it
            await self._wakeup.wait(_AGAIN)
        else:
            _log.info("sink.divided", extra=fields(sink=self._name, shards=now.count, former=found.count))

    async def _deliver(self, count: int) -> None:
        """To all shards, until it is divided otherwise, or stopped."""
        self._leases.share.divide(self._name, count)
        self._on_shards(count)
        self._deliveries = [self._delivery(Shard(number, count)) for number in range(count)]
        try:
            async with asyncio.TaskGroup() as group:
                for each in self._deliveries:
                    group.create_task(each.run(), name=f"delivery:{each.shard.lease_name(self._name)}")
                requests = [self._requests(each) for each in self._deliveries]
                served = [group.create_task(each.run()) for each in requests]
                try:
                    await self._until_changed(count)
                    await self._until_answered(requests)
                except asyncio.CancelledError:
                    for each in self._deliveries:  # a session that just lost its lease may swallow the cancellation
                        each.begin_stop(0.0)
                    raise
                for task in served:
                    task.cancel()
                await asyncio.gather(*(each.stop(self._seconds_to_stop()) for each in self._deliveries))
        finally:
            self._deliveries = ()

    async def _until_answered(self, requests: Sequence[SinkRequests]) -> None:
        """What was begun of requests is answered first, as that needs the leases."""
        for each in requests:
            each.stop()
        until = self._clock.monotonic() + min(_ANSWERED_WITHIN, self._seconds_to_stop() / 4)
        for each in requests:
            await until_set(each.ended, self._clock, max(0.0, until - self._clock.monotonic()))

    def _seconds_to_stop(self) -> float:
        longest = self._first.longest_attempt.total_seconds() + _SETTLE_WITHIN
        return longest if self._stop_at is None else self._stop_at - self._clock.monotonic()

    async def _until_changed(self, count: int) -> None:
        while self._stop_at is None:
            self._came_round_at = self._clock.monotonic()
            await self._wakeup.wait(until_tick(self._clock, LOOK))
            try:
                found = await self._leases.store.read_shown(shards.of_sink, self._sink_id)
            except LedgerError:
                continue  # which the deliveries report
            if found not in {None, Shards(count)}:
                return

    def _delivery(self, shard: Shard) -> Delivery:
        while len(self.others) < shard.number:
            self.others.append(self._another())
        return Delivery(
            self._name,
            self._sink_id,
            [self._first, *self.others][shard.number],
            leases=self._leases,
            clock=self._clock,
            random=self._random,
            observer=self._observer,
            shard=shard,
        )

    def _requests(self, delivery: Delivery) -> SinkRequests:
        return SinkRequests(self._sink_id, delivery, self._leases.store, self._clock)


def _together(shards: Sequence[SinkStatus]) -> SinkStatus:
    failed = max(shards, key=_failed_at)
    return SinkStatus(
        sink=failed.sink,
        state=min((each.state for each in shards), key=_urgency),
        last_success_at=max((each.last_success_at for each in shards if each.last_success_at), default=None),
        problem=next((each.problem for each in shards if each.problem), None),
        in_flight=sum(each.in_flight for each in shards),
        last_error=failed.last_error,
        failed_at=failed.failed_at,
    )


def _failed_at(status: SinkStatus) -> float:
    return status.failed_at.timestamp() if status.failed_at else 0.0


def _urgency(state: SinkState) -> int:
    return _URGENCY.index(state) if state in _URGENCY else len(_URGENCY)
