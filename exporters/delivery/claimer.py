"""Claims the heads of a sink's lanes ahead of sending, so that sending never waits for the ledger."""

from collections.abc import Callable

from collector.clock import until_tick
from collector.ledger import claims
from collector.ledger.held_lease import HeldLease
from exporters.delivery.context import SinkContext
from exporters.delivery.health import Health
from exporters.delivery.in_flight import InFlight
from exporters.delivery.wakeup import Wakeup

AHEAD = 128
"""The least number of heads that are kept ready; more for sinks with a larger capacity."""
LOOK_EVERY = 2.5
"""Seconds between reads of the ledger without a notification: one may be lost."""
REST = 10.0
"""As long while the sink is owed nothing."""
_FLOOR_LASTS = 5.0
"""Seconds from a claim that looked at all and came back full until the next one that looks at all."""
_PASSING_OVER = 0.02
"""Share of the time that a shard which was given all it is owed may spend on passing over what the others are owed."""
_UNSEEN_FOR = 30.0
"""Seconds after which it looks at all nevertheless."""
_MEANWHILE_MS = 5_000
"""What is committed after a claim was dated at most so long before it: by another clock, or as the commit took long."""


class Claimer:
    def __init__(
        self,
        context: SinkContext,
        in_flight: InFlight,
        health: Health,
        held_lease: HeldLease,
        claimed: Callable[[], None],
    ) -> None:
        """`claimed` is called when there are new events to send."""
        self._context, self._in_flight, self._health, self._held_lease = context, in_flight, health, held_lease
        self._claimed = claimed
        self.wakeup = Wakeup(context.clock)
        self._ahead = max(AHEAD, context.sink.capacity)
        self._hinted = True
        self._due_ms: int | None = None
        self._look_at = context.clock.monotonic()
        self._floor, self._floor_until = 0, 0.0
        self._moved = False

    def hint(self) -> None:
        """New heads may be due: something was committed or settled."""
        self._hinted = True
        self.wakeup.set()

    def moved(self) -> None:
        """Lanes were changed, and may begin with what was committed long ago: it is looked for at once."""
        self._moved = True
        self.hint()

    def sent(self) -> None:
        """Events that were claimed are at the sink: there may be room for more."""
        if self._wanted():
            self.wakeup.set()

    def expect(self, due_ms: int) -> None:
        """A lane comes due at `due_ms`, once it is settled: that wakes this loop."""
        self._due_ms = due_ms if self._due_ms is None else min(due_ms, self._due_ms)

    async def step(self) -> None:
        """Wait until the ledger should be read, then read it once."""
        while not (wanted := self._wanted()) or not (self._hinted or self._is_due() or self._may_look()):
            self._health.came_round()
            await self.wakeup.wait(self._until_due() if wanted else self._until_probe())
        if self._hinted or self._is_due():
            await self._claim(wanted)
        else:
            await self._look()

    def _wanted(self) -> int:
        """How many heads to claim now. Small claims are avoided: each costs a hop to another thread and back."""
        clock, circuit, waiting = self._context.clock, self._health.circuit, self._in_flight.waiting
        if not self._held_lease.covers(self._context.attempt_seconds):
            return 0
        if circuit.open:
            return int(circuit.admits_probe(clock.monotonic()) and not waiting and self._in_flight.next_ask() is None)
        if 2 * waiting > self._ahead or self._in_flight.unsettled > self._ahead:
            return 0
        return self._ahead - waiting

    def _until_probe(self) -> float:
        """Seconds. Anything else that makes claims possible again wakes this loop; the bound is for a lost wake-up."""
        circuit, now = self._health.circuit, self._context.clock.monotonic()
        longest = 2 * LOOK_EVERY
        return min(longest, circuit.probe_at - now) if circuit.open and circuit.probe_at > now else longest

    def _is_due(self) -> bool:
        return self._due_ms is not None and self._context.time.now_ms() >= self._due_ms

    def _may_look(self) -> bool:
        return self._context.clock.monotonic() >= self._look_at

    def _until_due(self) -> float:
        look = self._look_at - self._context.clock.monotonic()
        if self._due_ms is None:
            return look
        return min(look, max(0.001, (self._due_ms - self._context.time.now_ms()) / 1000))

    async def _look(self) -> None:
        clock, context = self._context.clock, self._context
        begun, now_ms = clock.monotonic(), context.time.now_ms()
        self._look_at = begun + LOOK_EVERY
        floor, before = self._floor_at(begun), self._oldest(now_ms)
        self._due_ms = await context.store.read_claim(claims.next_due, context.sink_id, context.shard, floor)
        if not floor and (self._due_ms is None or self._due_ms > now_ms):
            self._looked_at_all(begun, before, now_ms)
        if self._due_ms is None:
            self._look_at = clock.monotonic() + until_tick(clock, REST)
        if floor:
            self._look_at = min(self._look_at, self._floor_until)

    async def _claim(self, wanted: int) -> None:
        begun = self._context.clock.monotonic()
        self._hinted, self._look_at = False, begun + LOOK_EVERY
        if self._is_due():
            self._due_ms = None
        now_ms = self._context.time.now_ms()
        floor = self._floor_at(begun)
        of_these = self._context.sink_id, now_ms, wanted, floor
        before, taken = self._oldest(now_ms), self._in_flight.begin_claim()
        try:
            heads = await self._context.store.read_claim(claims.claim, *of_these, taken, self._context.shard)
        except Exception:
            self._hinted = True  # what was hinted at or due is still to be claimed
            raise
        full = len(heads) >= wanted
        self._hinted |= full
        if self._in_flight.claimed(heads):
            self._claimed()
        if full:
            self._floor = self._in_flight.oldest
            self._floor_until = self._floor_until if floor else begun + _FLOOR_LASTS
        elif floor:
            self._floor = self._floor_behind_all(before, now_ms)
            self._look_at = min(self._look_at, self._floor_until)
        else:
            self._looked_at_all(begun, before, now_ms)

    def _looked_at_all(self, begun: float, before: int, now_ms: int) -> None:
        """And found no more than that. The longer it took, the longer the next reads spare that."""
        self._floor = self._floor_behind_all(before, now_ms)
        took = self._context.clock.monotonic() - begun
        self._floor_until = begun + min(took / _PASSING_OVER, _UNSEEN_FOR)

    def _oldest(self, now_ms: int) -> int:
        return now_ms if self._in_flight.empty else self._in_flight.oldest

    def _floor_behind_all(self, before: int, now_ms: int) -> int:
        """From which commit time on a shard looks that was given all it is owed but for what was in memory, the `before` oldest of it
        at that read: else each read would pass over all that the other shards are owed.
        """
        if self._context.shard.of == 1:
            return 0
        return max(0, min(before, self._oldest(now_ms), now_ms - _MEANWHILE_MS))

    def _floor_at(self, now: float) -> int:
        """The commit time from which a read looks; now and then 0, for events that were committed below it."""
        if self._moved or now >= self._floor_until:
            self._floor, self._moved = 0, False
        return self._floor
