"""How leases spread over replicas, as pure decisions: who has more than its share gives back, who has less takes."""

from collections.abc import Collection, Sequence

UNWANTED_AFTER = 15.0
"""Seconds after which a free lease is also taken by a replica that has its share: no other replica took it."""


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
