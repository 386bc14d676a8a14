"""Keeps the ledger inside its limits: says when it is full, forgets what is old."""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta

from collector.clock import Clock, to_ms
from collector.ledger import upkeep
from collector.ledger.store import Store
from collector.ledger.upkeep import Size
from collector.logs import fields
from config.settings import Ledger

log = logging.getLogger("lineage.ledger")

LOOK = 10.0
SWEEP_EVERY = 3600.0
FURTHEST = timedelta(hours=2)
"""No back-off and no schedule of ours reaches further; what is due later comes from a clock that ran ahead."""


class Housekeeper:
    """`full` is why polling pauses, None while there is room."""

    def __init__(
        self, settings: Ledger, store: Store, clock: Clock, lookbacks: Callable[[], Mapping[int, timedelta]]
    ) -> None:
        self._settings, self._store, self._clock, self._lookbacks = settings, store, clock, lookbacks
        self.full: str | None = None
        self.size = Size(0, 0)
        self.limit = int(settings.max_size)
        self._swept = float("-inf")

    async def run(self) -> None:
        now_ms = to_ms(self._clock.now())
        if moved := await self._store.write(upkeep.pull_in, now_ms, now_ms + int(FURTHEST.total_seconds() * 1000)):
            log.warning("ledger.clock", extra=fields(moved=moved, cause="due times lay further ahead than can be"))
        while True:
            await self.look()
            if self._clock.monotonic() - self._swept >= SWEEP_EVERY:
                await self.sweep(self._settings.retention)
                self._swept = self._clock.monotonic()
            await self._clock.sleep(LOOK)

    async def look(self) -> None:
        """Measure, and forget early what every sink has when the limit is reached."""
        over = await self._store.read(upkeep.over_limit, self.limit)
        if over and self.full is None:
            await self.sweep(timedelta())
            over = await self._store.read(upkeep.over_limit, self.limit)
        self.size = await self._store.read(upkeep.size)
        self._say(self._reason() if over else None)

    def _reason(self) -> str:
        return f"the ledger is full ({self.size.used:,} of {self.limit:,} bytes are owed to sinks); polling pauses"

    def _say(self, full: str | None) -> None:
        if full and not self.full:
            log.error("ledger.full", extra=fields(cause=full))
        elif self.full and not full:
            log.info("ledger.room", extra=fields(used=self.size.used, limit=self.limit))
        self.full = full

    async def sweep(self, retention: timedelta) -> None:
        """Forget what is older than `retention`, in short steps so that polls and settles come between."""
        now = self._clock.now()
        removed, after = 0, 0
        while True:
            swept = await self._store.write(upkeep.expire_events, after, to_ms(now - retention))
            removed += swept.removed
            if swept.after is None:
                break
            after = swept.after
        removed_runs = await self._sweep_runs(retention)
        parked = await self._store.write(upkeep.expire_parked, to_ms(now - self._settings.parked_retention))
        await self._store.write(upkeep.prune, to_ms(now - self._settings.parked_retention))
        await self._store.compact(256)
        told = fields(events=removed, runs=removed_runs, parked=sum(parked.values()) or None)
        (log.warning if parked else log.info)("ledger.swept", extra=told)

    async def _sweep_runs(self, retention: timedelta) -> int:
        """A run is kept twice as long as its source looks back: it is what makes a repeated observation silent."""
        now = self._clock.now()
        before = {
            source: to_ms(now - max(retention, self._settings.retention, 2 * lookback))
            for source, lookback in self._lookbacks().items()
        }
        removed, after = 0, 0
        while True:
            swept = await self._store.write(upkeep.expire_runs, after, before)
            removed += swept.removed
            if swept.after is None:
                return removed
            after = swept.after
