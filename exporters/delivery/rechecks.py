"""Rechecks of runs in doubt: one of their attempts had no answer and may be applied after their terminal event."""

import asyncio
import logging
from collections.abc import Sequence

from collector.clock import until_tick
from collector.errors import LeaseLost
from collector.ledger import doubts
from collector.ledger.held_lease import HeldLease
from collector.logs import fields
from collector.model import Outgoing
from exporters.delivery.circuit import retry_delay
from exporters.delivery.context import SinkContext
from exporters.delivery.health import Health
from exporters.delivery.reports import RecheckReport
from exporters.delivery.wakeup import Wakeup
from exporters.sinks.base import Delivered, Outcome, Park, Retry

_log = logging.getLogger("lineage.delivery")

RECHECK_AFTER = 10.0
"""Seconds from the acknowledgement of a terminal event to the recheck of its run, if that is in doubt."""
_AT_ONCE = 4
_LOOK_EVERY = 5.0
"""Seconds between two looks, and from when a recheck is due until it is done at the latest, so that several are done at once."""
_REST = 10.0
"""Seconds between two looks while none is due: one that comes up meanwhile is due after as many."""


class Rechecks:
    def __init__(self, context: SinkContext, health: Health, held_lease: HeldLease) -> None:
        self._context, self._health, self._held_lease = context, health, held_lease
        self.wakeup = Wakeup(context.clock)

    async def step(self) -> None:
        while not (most := self._allowed()):
            await self.wakeup.wait(_LOOK_EVERY)
        context = self._context
        now_ms = context.time.now_ms()
        due, next_ms = await context.store.read_claim(doubts.look, context.sink_id, now_ms, most, context.shard)
        await self._recheck_all(due)
        if not due:
            await self.wakeup.wait(self._until(next_ms))

    def _until(self, next_ms: int | None) -> float:
        """Seconds to the next look."""
        rest = until_tick(self._context.clock, _REST)
        if next_ms is None:
            return rest
        left = (next_ms - self._context.time.now_ms()) / 1000
        return min(left + _LOOK_EVERY, rest) if left > 0 else _LOOK_EVERY

    async def _recheck_all(self, due: Sequence[Outgoing]) -> None:
        """When one fails, the others are cancelled: none may send once the lease is lost."""
        try:
            async with asyncio.TaskGroup() as group:
                for terminal in due:
                    group.create_task(self._recheck(terminal), name=f"recheck:{self._context.name}")
        except ExceptionGroup as failed:
            raise (failed.subgroup(LeaseLost) or failed).exceptions[0] from None

    def _allowed(self) -> int:
        if not self._held_lease.covers(self._context.attempt_seconds):
            return 0
        circuit = self._health.circuit
        return _AT_ONCE if not circuit.open else int(circuit.admits_probe(self._context.clock.monotonic()))

    async def _recheck(self, terminal: Outgoing) -> None:
        if self._health.circuit.open:
            self._health.probing(terminal.strand_id)
        try:
            outcome = await self._context.sink.recheck(terminal)
        except Exception as error:  # noqa: BLE001 - the boundary of the sink: the doubt stays and is looked at again
            outcome = Retry(self._health.bug(error))
        await self._settle(terminal, outcome)

    async def _settle(self, terminal: Outgoing, outcome: Outcome) -> None:
        context, lease = self._context, self._held_lease.lease
        context.observer.rechecked(RecheckReport(context.name, settled=not isinstance(outcome, Retry)))
        details = fields(sink=context.name, run_id=terminal.run_id, cause=getattr(outcome, "cause", None))
        match outcome:
            case Delivered():
                self._health.succeeded(self._context.clock.now())
                _log.info("doubt.settled", extra=details)
            case Park():
                self._health.undecided(terminal.strand_id)
                _log.warning("doubt.refused", extra=details)
            case Retry():
                self._health.failed(terminal.strand_id, outcome)
                await context.store.write(
                    doubts.postpone, lease, context.sink_id, terminal.run_number, self._due_ms(terminal, outcome)
                )
                return
        await context.store.write(doubts.resolve, lease, context.sink_id, [terminal.run_number])

    def _due_ms(self, terminal: Outgoing, retry: Retry) -> int:
        now = self._context.clock.monotonic()
        delay = retry_delay(self._health.circuit, retry, terminal.attempts, now, self._context.random)
        return self._context.time.now_ms() + int(delay * 1000)
