"""What a process that stands by knows of the leases that others hold."""

import asyncio
from collections.abc import Mapping

from collector.clock import Clock
from collector.ledger import leases
from collector.ledger.port import Change, Ledger

FRESH = 1.0
"""Seconds for which one read answers all who ask, unless a lease became free meanwhile."""


class HeldElsewhere:
    """One read for all leases that are asked for at about the same time: each read would cost a standby as much as that one."""

    def __init__(self, store: Ledger, clock: Clock, holder: str) -> None:
        self._store, self._clock, self._holder = store, clock, holder
        self._asked_at = float("-inf")
        self._ends: Mapping[str, float] = {}
        self._reading = asyncio.Lock()
        store.on_commit(self._forget, Change.LEASES)

    async def seconds_left(self, name: str) -> float:
        """Until this process may take the lease, if another one does not renew it; 0 when it may now."""
        async with self._reading:
            if self._clock.monotonic() - self._asked_at >= FRESH:
                self._asked_at, self._ends = self._clock.monotonic(), {}
                self._ends = await self._read()
        return max(0.0, self._ends.get(name, 0.0) - self._clock.monotonic())

    async def _read(self) -> Mapping[str, float]:
        """When they end, by the monotonic clock."""
        left = await self._store.read_shown(leases.held_elsewhere, self._holder)
        now = self._clock.monotonic()
        return {name: now + seconds for name, seconds in left.items()}

    def _forget(self) -> None:
        self._asked_at = float("-inf")
