"""Counts what sources and sinks do and writes it to the ledger, so that the pages of every replica show the same."""

import logging
from collections.abc import Mapping
from datetime import datetime

from collector.app.observers import Observers
from collector.clock import Clock, to_ms, until_tick
from collector.errors import LedgerError
from collector.ledger import activity
from collector.ledger.activity import KEPT_MS, LATEST, MINUTE_MS, SUMS, Activity
from collector.ledger.port import Ledger
from collector.logs import fields
from collector.reports import EventReport, LoadReport, PollReport, PollResult, RequestReport
from exporters.delivery.reports import SendReport, SendResult

log = logging.getLogger("lineage.service")

EVERY = 10.0
"""Seconds between two writes: what a killed process loses at the most."""
_TOO_MANY = 429


class ActivityRecord(Observers):
    """Nothing is written while nothing happens."""

    def __init__(self, store: Ledger, clock: Clock) -> None:
        super().__init__()
        self._store, self._clock = store, clock
        self._minutes: dict[tuple[str, int], dict[str, int]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(until_tick(self._clock, EVERY))
            await self.write()

    async def write(self) -> None:
        """What the ledger did not take is written the next time, if not too old by then."""
        minutes, self._minutes = self._minutes, {}
        if not minutes:
            return
        try:
            await self._store.write(activity.note, {key: Activity(**counts) for key, counts in minutes.items()})
        except LedgerError as error:
            log.warning("activity.unwritten", extra=fields(cause=str(error)))
            self._take_back(minutes)

    def _take_back(self, minutes: Mapping[tuple[str, int], dict[str, int]]) -> None:
        """Before what was counted meanwhile, so that the latest of each stays the latest."""
        oldest = to_ms(self._clock.now()) - KEPT_MS
        newer, self._minutes = self._minutes, {key: counts for key, counts in minutes.items() if key[1] >= oldest}
        for key, counts in newer.items():
            self._add(key, counts)

    def polled(self, report: PollReport) -> None:
        took = round(report.seconds * 1000)
        is_ok = report.result is PollResult.OK
        counts = {"ok": int(is_ok), "failed": int(not is_ok), "took_ms": took, "longest_ms": took}
        self._add(self._now(f"source:{report.source}", report.at), counts)

    def requested(self, report: RequestReport) -> None:
        counts = {"requests": 1, "throttled": int(report.status == _TOO_MANY)}
        if report.remaining is not None:
            counts["remaining"] = report.remaining
        self._add(self._now(f"source:{report.source}"), counts)

    def planned(self, report: LoadReport) -> None:
        counts = {"needed": round(report.needed)}
        if report.allowed is not None:
            counts["allowed"] = report.allowed
        self._add(self._now(f"source:{report.source}"), counts)

    def committed(self, report: EventReport) -> None:
        self._add(self._now(f"source:{report.source}"), {"events": 1})

    def sent(self, report: SendReport) -> None:
        if (name := _OUTCOMES.get(report.result)) is None:
            return
        took = round((report.latency or 0) * 1000)
        self._add(self._now(f"sink:{report.sink}"), {name: 1, "took_ms": took, "longest_ms": took})

    def _now(self, name: str, at: datetime | None = None) -> tuple[str, int]:
        now_ms = to_ms(at or self._clock.now())
        return name, now_ms - now_ms % MINUTE_MS

    def _add(self, key: tuple[str, int], counts: dict[str, int]) -> None:
        known = self._minutes.setdefault(key, {})
        for name, count in counts.items():
            if name in SUMS:
                known[name] = known.get(name, 0) + count
            elif name in LATEST:
                known[name] = count
            else:
                known[name] = max(known.get(name, 0), count)


_OUTCOMES = {SendResult.OK: "ok", SendResult.RETRY: "failed", SendResult.PARKED: "parked"}
