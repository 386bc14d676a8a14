"""How leases spread: decided by each replica on its own, and good for all."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from collector.ledger.fair_share import UNWANTED_AFTER, may_take, share, surplus

replicas_and_leases = st.integers(1, 6), st.integers(0, 20), st.integers(0, 2**32)


def spread(held: list[set[str]], able: list[set[str]], random: Random, free_for: float) -> None:
    """Each gives back what it has too much of, and then each takes what it may, in any order."""
    for number, mine in enumerate(held):
        mine.difference_update(surplus(mine, able, [each for other, each in enumerate(able) if other != number]))
    free = sorted(set().union(*able) - set().union(*held))
    for lease in free:
        order = [number for number in range(len(held)) if lease in able[number]]
        random.shuffle(order)
        for number in order:
            if may_take(held[number], able, free_for):
                held[number].add(lease)
                break


@given(*replicas_and_leases)
def test_after_one_round_each_replica_has_its_share_and_no_lease_is_left(count: int, leases: int, seed: int) -> None:
    random = Random(seed)
    names = {f"source:{number}" for number in range(leases)}
    held: list[set[str]] = [set() for _ in range(count)]
    for name in sorted(names):
        if random.random() < 0.8:
            random.choice(held).add(name)
    spread(held, [names] * count, random, free_for=0)
    assert set().union(*held) == names
    assert all(len(mine) <= share([names] * count) for mine in held)
    settled = [set(mine) for mine in held]
    spread(held, [names] * count, random, free_for=0)
    assert held == settled, "nothing moves any more"


@given(*replicas_and_leases)
def test_what_one_replica_alone_can_hold_is_held_whatever_it_has(count: int, leases: int, seed: int) -> None:
    random = Random(seed)
    names = [f"sink:{number}" for number in range(leases)]
    able = [{name for name in names if random.random() < 0.6} for _ in range(count)]
    held: list[set[str]] = [set() for _ in range(count)]
    for _ in range(2):
        spread(held, able, random, free_for=UNWANTED_AFTER)
    kept = Counter(name for mine in held for name in mine)
    alone = {name for name in set().union(*able) if sum(name in leases for leases in able) == 1}
    assert all(kept[name] == 1 for name in alone)


def test_six_sources_and_three_sinks_are_three_leases_for_each_of_three_replicas() -> None:
    names = {*(f"source:{n}" for n in range(6)), *(f"sink:{n}" for n in range(3))}
    assert [share([names] * live) for live in (1, 2, 3, 4)] == [9, 5, 3, 3]
    assert surplus(names, [names] * 2, [names]) == {"source:2", "source:3", "source:4", "source:5"}


def test_who_has_its_share_takes_only_what_nobody_wants() -> None:
    names = {"source:a", "source:b"}
    assert may_take(set(), [names, names], 0)
    assert not may_take({"source:a"}, [names, names], UNWANTED_AFTER - 1)
    assert may_take({"source:a"}, [names, names], UNWANTED_AFTER)
    assert may_take({"source:a"}, [], 0), "nobody is known yet"
    assert not surplus(names, [names], [])
