"""Removes from the ledger, in short steps, what is left of sources and sinks: of those whose retention is over, and of
those that `forget` removes.
"""

import logging
from collections.abc import Callable

from collector.app.control import ANSWERS_WITHIN, RequestResult
from collector.clock import Clock, to_ms
from collector.errors import LedgerError
from collector.ledger import inventory, retirement
from collector.ledger.inventory import TargetKind
from collector.ledger.port import OwnedLedger
from collector.ledger.requests import RequestState
from collector.ledger.retirement import Retired
from collector.logs import fields

log = logging.getLogger("lineage.ledger")

_RETIRED = "it left the configuration longer ago than the retention"
_FORGOTTEN = "it was removed by `forget`"


class Removal:
    """`came_round` is called after each step."""

    def __init__(self, store: OwnedLedger, clock: Clock, came_round: Callable[[], None] = lambda: None) -> None:
        self._store, self._clock, self._came_round = store, clock, came_round

    async def forget(self, target: str, *, drop_undelivered: bool) -> RequestResult:
        """Remove `source:NAME` or `sink:NAME` with all that the ledger holds of it. What is left when that takes too long, or
        the process ends meanwhile, is removed by the next sweep. Raises `LedgerError` when nothing can be written.
        """
        prefix, _, name = target.partition(":")
        kind, now_ms = TargetKind(prefix), to_ms(self._clock.now())
        try:
            held = await self._store.write(inventory.begin, kind, name, now_ms, drop_undelivered=drop_undelivered)
        except LedgerError as error:
            return RequestResult(RequestState.FAILED, {"error": str(error)})
        log.warning("ledger.forgotten", extra=fields(target=target, **held.counts()))
        end = self._clock.monotonic() + ANSWERS_WITHIN
        source = Retired(held.id, name, retirement.FORGOTTEN)
        remove = self.remove_sink if kind is TargetKind.SINK else self.remove_source
        whole = await remove(source, lambda: self._clock.monotonic() < end)
        return RequestResult(RequestState.DONE, {kind.value: name, **held.counts(), "removed": whole})

    async def remove_sink(self, sink: Retired, may_go_on: Callable[[], bool] = lambda: True) -> bool:
        """Whether all of it was removed."""
        rows = 0
        while removed := await self._store.write(retirement.remove_sink, sink):
            self._came_round()
            rows += removed
            if not may_go_on():
                return False
        log.warning("sink.removed", extra=fields(sink=sink.name, rows=rows, cause=_cause(sink)))
        return True

    async def remove_source(self, source: Retired, may_go_on: Callable[[], bool] = lambda: True) -> bool:
        """Whether all of it was removed: runs of a source that only left stay while sinks are owed or have parked their events."""
        while await self._store.write(inventory.remove_runs, source) > 0:
            self._came_round()
            if not may_go_on():
                return False
        runs = 0
        while closed := await self._store.write(retirement.abandon_runs, source, to_ms(self._clock.now())):
            self._came_round()
            runs += closed
        if runs:
            cause = "their source left the configuration longer ago than its look-back and retention"
            log.warning("source.abandoned", extra=fields(source=source.name, runs=runs, cause=cause))
        gone = await self._store.write(retirement.remove_source, source)
        if gone:
            log.info("source.removed", extra=fields(source=source.name, cause=_cause(source)))
        return gone


def _cause(departed: Retired) -> str:
    return _FORGOTTEN if departed.forgotten else _RETIRED
