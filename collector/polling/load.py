"""What it costs to watch the runs of a source, and whether its limit allows the wished intervals."""

import logging

from collector.clock import Clock
from collector.ledger import queries
from collector.ledger.port import Ledger
from collector.logs import fields
from collector.platforms.base import Load, Planning, Platform
from collector.reports import LoadReport, Observer

log = logging.getLogger("lineage.poll")

EVERY = 60.0
"""Seconds between two reports."""


class Planner:
    """For one source."""

    def __init__(
        self, source: str, source_id: int, platform: Platform, store: Ledger, clock: Clock, observer: Observer
    ) -> None:
        self._source, self._source_id, self._store, self._clock = source, source_id, store, clock
        self._platform, self._observer = platform, observer
        self._next_at = clock.monotonic()
        self._reachable: bool | None = None

    async def report(self) -> None:
        """Once a minute to the observer; to the log at the start, and when wishes can no longer or again be met."""
        if not isinstance(self._platform, Planning) or self._clock.monotonic() < self._next_at:
            return
        load = self._platform.load(await self._store.read(queries.watched, self._source_id))
        if load is None:
            return
        self._next_at = self._clock.monotonic() + EVERY
        self._observer.planned(LoadReport(self._source, load.runs, load.needed, load.allowed, load.reachable))
        if load.is_reachable is not self._reachable:
            self._reachable = load.is_reachable
            self._log(load)

    def _log(self, load: Load) -> None:
        details = fields(
            source=self._source,
            runs=load.runs,
            needed_per_minute=round(load.needed, 1),
            allowed_per_minute=load.allowed,
            interval_s=load.interval,
            reachable_s=round(load.reachable, 1),
        )
        if load.is_reachable:
            log.info("poll.load_measured", extra=details)
        else:
            log.warning("poll.interval_exceeded", extra=details)
