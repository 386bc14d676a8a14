"""Holding the lease of a sink: who holds it may send, and commits are fenced by its token."""

import logging

from collector.clock import Clock
from collector.errors import LeaseLost
from collector.ledger import leases
from collector.ledger.leases import Lease
from collector.ledger.port import Ledger
from collector.logs import fields

_log = logging.getLogger("lineage.delivery")

MARGIN = 30.0
"""A lease outlives the longest attempt by so many seconds."""
RENEW_EVERY = 10.0


class HeldLease:
    """A lease that is held here. Its end is reckoned by the monotonic clock as read before each renewal was asked for,
    so that no attempt starts that could still run when somebody else holds it.
    """

    def __init__(self, store: Ledger, clock: Clock, lease: Lease, ttl: float, asked_at: float) -> None:
        self._store, self._clock, self._ttl = store, clock, ttl
        self.lease = lease
        self._ends_at = asked_at + ttl
        self._renew_at = asked_at + RENEW_EVERY

    def covers(self, seconds: float) -> bool:
        """Whether an attempt of that length may start now."""
        return self._clock.monotonic() + seconds <= self._ends_at

    async def step(self) -> None:
        """Wait for the next renewal and do it. Raises `LeaseLost` when another holder has it."""
        await self._clock.sleep(max(0.0, self._renew_at - self._clock.monotonic()))
        asked_at = self._clock.monotonic()
        if not await self._store.write(leases.renew, self.lease, int(self._ttl * 1000)):
            raise LeaseLost(f"lease {self.lease.name} went to another holder")
        self._ends_at, self._renew_at = asked_at + self._ttl, asked_at + RENEW_EVERY

    async def give_back(self) -> None:
        """For a clean end: nothing is in flight any more."""
        await self._store.write(leases.give_back, self.lease)
        _log.debug("lease.given_back", extra=fields(lease=self.lease.name))
