"""A backend that takes events, and what it has seen; it fails by a seed, on its side or on the way."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from collector.clock import Clock
from collector.model import EventKind, Outgoing
from exporters.sinks.base import Delivered, Finding, Outcome, Park, Retry


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event as the backend read it from the bytes, also one that it refused for good."""

    run_id: str
    kind: str
    time: str


class Backend:
    """Takes events for as long as the simulation lasts; it remembers what this program forgets in a crash."""

    wants = frozenset(EventKind)
    parallel = True

    def __init__(
        self, chance: Random, clock: Clock, reached: Counter[str], *, rechecks: bool, roughness: float
    ) -> None:
        """`roughness` is how many times as often as usual it fails."""
        self._chance, self._clock, self._reached, self._roughness = chance, clock, reached, roughness
        self.capacity, self.rechecks = chance.choice((1, 4, 50)), rechecks
        self.longest_attempt = timedelta(seconds=10)
        self.arrivals: list[Arrival] = []
        self.out: Counter[int] = Counter()
        self.overlaps: list[str] = []
        self.troubled = True
        self._shards = 1
        self._down_until: defaultdict[int, float] = defaultdict(float)
        self._refused_in: set[int] = set()

    @property
    def busy(self) -> int:
        return self.out.total()

    def divided(self, count: int) -> None:
        """Strands come through so many shards from now on, each with a connection that fails by itself."""
        if count != self._shards:
            self._shards = count
            self._down_until.clear()
            self._refused_in.clear()

    async def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        tasks = [asyncio.ensure_future(self._one(item)) for item in batch]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, item: Outgoing) -> tuple[Outgoing, Outcome]:
        if self.out[item.strand_id]:
            self.overlaps.append(f"two events of strand {item.strand_id} under way")
        self.out[item.strand_id] += 1
        try:
            return item, await self._answer(item)
        finally:
            self.out[item.strand_id] -= 1

    async def _answer(self, item: Outgoing) -> Outcome:
        luck, now = self._chance.random() / self._roughness, self._clock.monotonic()
        shard = item.strand_id % self._shards
        if not self.troubled:
            return self._take(item)
        if now < self._down_until[shard]:
            return Retry("connection refused")
        if luck < 0.02:
            self._down_until[shard] = now + self._chance.uniform(2, 60)
            return Retry("answer 503")
        if luck < 0.05:
            return Retry("answer 500", sink_wide=False)
        if luck < 0.12:
            await self._clock.sleep(self._chance.uniform(0.1, 9))
            return self._take(item)
        if luck < 0.16:
            self._reached["taken, and the answer lost"] += 1
            self._take(item)
            return Retry("no answer in time", unanswered=True)
        if luck < 0.18:
            return Retry("no answer in time", unanswered=True)
        if luck < 0.2 and not self._has(item):
            self._reached["a parked head"] += 1
            self._refused_in.add(shard)
            self._note(item)
            return Park("answer 422")
        if self._shards > 1 and self._chance.random() < 0.5:
            await self._clock.sleep(self._chance.uniform(0.1, 9))
        return self._take(item)

    def _take(self, item: Outgoing) -> Outcome:
        shard, now = item.strand_id % self._shards, self._clock.monotonic()
        others_down = [other for other, until in self._down_until.items() if other != shard and now < until]
        self._reached["a parked head in one shard, and another goes on"] += bool(self._refused_in - {shard})
        self._reached["an outage of one shard, and another goes on"] += bool(others_down)
        self._note(item)
        return Delivered()

    def _note(self, item: Outgoing) -> None:
        self.arrivals.append(_arrival(item))

    def _has(self, item: Outgoing) -> bool:
        return _arrival(item) in self.arrivals

    async def recheck(self, terminal: Outgoing) -> Outcome:
        self._reached["a doubt looked at"] += 1
        if self.troubled and self._chance.random() < 0.3:
            return Retry("another state")
        return Delivered()

    async def check(self) -> list[Finding]:
        return []

    async def close(self, deadline: float) -> None:
        await asyncio.sleep(0)


def _arrival(item: Outgoing) -> Arrival:
    event = json.loads(item.body)
    return Arrival(event["run"]["runId"], event["eventType"], event["eventTime"])
