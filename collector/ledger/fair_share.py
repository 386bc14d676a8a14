"""How leases spread over the live replicas: who has more than its share gives back, who has less takes. Pure."""

from collections.abc import Collection, Sequence

from collector.ledger import shards
from collector.ledger.replicas import Replica

UNWANTED_AFTER = 15.0
"""Seconds after which a free lease is also taken by a replica that has its share: no other replica took it."""


class FairShare:
    """What the replica `me` may take and has to give back, by what is in the configurations of all live replicas."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._live: Sequence[Replica] = ()
        self._shards: dict[str, int] = {}
        self._unwanted: set[str] = set()

    def divide(self, sink: str, count: int) -> None:
        """The sink has so many shards: their leases are spread, and apart from the others."""
        self._shards[sink] = count

    def set_live_replicas(self, live: Sequence[Replica]) -> None:
        """Which replicas live now: the leases of sources and sinks spread over them."""
        if {each.id for each in live} != {each.id for each in self._live}:
            self._unwanted.clear()
        self._live = live

    def keep(self, lease: str) -> None:
        """It is kept beyond the share, as no other replica took it when it was free, until other replicas live."""
        self._unwanted.add(lease)

    def may_take(self, lease: str, held: Collection[str], free_for: float) -> bool:
        """Whether to take it beside those that are held here, after it has been free for so many seconds."""
        spread = self._spread(shards.pool(lease))
        return not _among({lease}, spread) or may_take(_among(held, spread), spread, free_for)

    def surplus(self, held: Collection[str]) -> set[str]:
        """Leases to give back at a quiet moment."""
        found = set[str]()
        for pool in {shards.pool(name) for name in held}:
            spread, others = self._spread(pool), self._spread(pool, without=self._me)
            found |= surplus(_among(held, spread) - self._unwanted, spread, others)
        return found

    def _spread(self, pool: str, without: str | None = None) -> list[set[str]]:
        """The leases of a pool that each of the live replicas could hold."""
        return [
            {name for lease in each.leases for name in self._parts(lease) if shards.pool(name) == pool}
            for each in self._live
            if each.id != without
        ]

    def _parts(self, lease: str) -> list[str]:
        sink = lease.removeprefix("sink:")
        return [lease] if sink not in self._shards or sink == lease else shards.lease_names(sink, self._shards[sink])


def _among(leases: Collection[str], spread: Sequence[set[str]]) -> set[str]:
    """Those of the leases that any replica could hold."""
    return {name for name in leases if any(name in able for able in spread)}


def share(replicas: Sequence[Collection[str]]) -> int:
    """How many leases one replica holds at most, where each of the live `replicas` could hold the leases it names."""
    wanted = {name for leases in replicas for name in leases}
    return -(-len(wanted) // max(1, len(replicas)))


def may_take(held: Collection[str], replicas: Sequence[Collection[str]], free_for: float) -> bool:
    """Whether to take one more lease, which has been free for so many seconds. Before the replicas are known, any replica may."""
    return not replicas or len(held) < share(replicas) or free_for >= UNWANTED_AFTER


def surplus(held: Collection[str], replicas: Sequence[Collection[str]], others: Sequence[Collection[str]]) -> set[str]:
    """Which of the leases that are held here to give back. `others` of the live `replicas` are not this one: what none of
    them could hold is kept.
    """
    if not others:
        return set()
    too_many = len(held) - share(replicas)
    elsewhere = sorted(name for name in held if any(name in leases for leases in others))
    return set(elsewhere[-too_many:]) if too_many > 0 else set()
