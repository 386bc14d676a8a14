"""How the replicas have divided the sinks in their configuration, and what they made of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import Random

from collector.ledger.replicas import Replica

COUNTS = (1, 2, 3, 4)


class Division:
    """`wished` are the numbers of shards in the configuration of whoever starts now."""

    def __init__(self, chance: Random, sinks: Iterable[str], reached: Counter[str]) -> None:
        self._chance, self._reached = chance, reached
        self.wished = {name: chance.choice(COUNTS[1:]) for name in sinks}
        self._present: dict[str, int] = {}

    def wish_again(self) -> None:
        """Another number for one sink."""
        name = self._chance.choice(sorted(self.wished))
        self.wished[name] = self._chance.choice([count for count in COUNTS if count != self.wished[name]])

    def replica(self, name: str) -> Replica:
        """A process of this name that starts now."""
        leases = frozenset(f"sink:{sink}" for sink in self.wished)
        return Replica(name, "1", "", leases, shards=dict(self.wished))

    def beaten(self, live: Iterable[Replica], running: Iterable[Replica], busy: Callable[[str], bool]) -> None:
        """These replicas live by the ledger, and these really run: what becomes of the numbers that they wish."""
        wishes = {each.id: each.shards for each in live}
        for sink, count in self._present.items():
            wanted = self.wished[sink]
            if len({wishes[each.id][sink] for each in running if each.id in wishes}) > 1:
                self._reached["a change that waits for a replica that disagrees"] += 1
            elif not {wish[sink] for wish in wishes.values()} - {wanted} and wanted != count:
                self._reached["a change of the number with something in flight"] += busy(sink)

    def divided(self, sink: str, count: int) -> None:
        """A replica works on so many shards from now on."""
        former = self._present.get(sink)
        self._present[sink] = count
        self._reached["another number of shards"] += former not in {None, count}

    def faults(self, running: Mapping[str, tuple[Replica, Mapping[str, int]]]) -> list[str]:
        """Of the processes that run, by name, with the numbers of shards on which they work: a number that all wish is in force."""
        found = []
        for sink in self.wished:
            wanted = {me.shards[sink] for me, _ in running.values()}
            for name, (_, counts) in running.items():
                if len(wanted) == 1 and {counts.get(sink)} != wanted:
                    found.append(f"{name} works on {counts.get(sink)} shards of {sink}, all wish {wanted}")
        return found
