"""A platform that runs jobs by a seed, and an adapter that reads them through a network which fails by the same seed."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from uuid import UUID, uuid5

from collector.clock import Clock
from collector.errors import NotFound, SourceError, Throttled, Unavailable
from collector.model import Enrichment, Facts, Job, Observation, Poll, Run, RunState
from collector.platforms.base import Finding

IDS = UUID("6a9d6a0e-4c0b-4a6d-9a51-0c6d3b0f7a11")
ENDS = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED)


@dataclass(frozen=True, slots=True)
class Plan:
    """What really happens to a run, in seconds since the simulation began."""

    key: str
    queued: float
    started: float
    waits: tuple[float, float] | None
    ended: float
    end: RunState
    reports_times: bool

    def state(self, at: float) -> RunState | None:
        """None before it exists."""
        if at < self.queued:
            return None
        if at < self.started:
            return RunState.QUEUED
        if at >= self.ended:
            return self.end
        return RunState.WAITING if self.waits and self.waits[0] <= at < self.waits[1] else RunState.RUNNING


def plans(chance: Random, source: str, count: int, until: float) -> list[Plan]:
    """Runs that all end before `until`."""
    made = []
    for number in range(count):
        queued = chance.uniform(0, until * 0.6)
        started = queued + chance.choice((0.0, chance.uniform(0, until * 0.2)))
        ended = min(until, started + chance.choice((0.0, chance.uniform(0, 20), chance.uniform(0, until * 0.4))))
        waits = None
        if ended - started > until * 0.15 and chance.random() < 0.3:
            waits = (started + (ended - started) * 0.3, started + (ended - started) * 0.6)
        made.append(
            Plan(f"{source}-{number}", queued, started, waits, ended, chance.choice(ENDS), chance.random() < 0.7)
        )
    return made


def run_id_of(source: str, key: str) -> UUID:
    return uuid5(IDS, f"{source} {key}")


class Vendor:
    """The platform's side. Its clock is the true one, whatever happens to ours."""

    def __init__(
        self, source: str, chance: Random, clock: Clock, began: datetime, runs: Sequence[Plan], roughness: float
    ) -> None:
        self.source, self.chance, self.clock, self.began = source, chance, clock, began
        self.plans = {plan.key: plan for plan in runs}
        self.roughness = roughness
        self.troubled = True

    def seconds(self) -> float:
        return self.clock.monotonic()

    def observation(self, plan: Plan, seen_at: datetime) -> Observation | None:
        state = plan.state(self.seconds())
        if state is None:
            return None
        has_times = plan.reports_times

        def when(seconds: float) -> datetime:
            return self.began + timedelta(milliseconds=round(seconds * 1000))

        return Observation(
            plan.key,
            run_id_of(self.source, plan.key),
            Job(plan.key, f"vendor://{self.source}", f"job/{plan.key}", "TASK", "VENDOR"),
            state,
            state.value,
            seen_at,
            queued_at=when(plan.queued) if has_times else None,
            started_at=when(plan.started) if has_times and state.began else None,
            ended_at=when(plan.ended) if has_times and state.terminal else None,
        )


class Adapter:
    """Reads the vendor: a list in pages by the number of the run, and open runs one by one. `clock` is that of the process."""

    def __init__(self, vendor: Vendor, clock: Clock) -> None:
        self._vendor, self._clock = vendor, clock

    async def poll(self, tracked: Sequence[Run], cursor: str | None) -> AsyncIterator[Poll]:
        """Runs that ended are listed for good, so that nothing is lost by a late look; the cursor is the first run that is
        not there yet.
        """
        vendor, chance = self._vendor, self._vendor.chance
        await self._trouble()
        yield Poll(tuple(self._read(run.key) for run in tracked))
        waiting = sorted(vendor.plans.values(), key=lambda plan: plan.queued)
        first = int(cursor or 0)
        there = [plan for plan in waiting[first:] if plan.state(vendor.seconds()) is not None]
        size = chance.randint(1, 5)
        for start in range(0, len(there), size):
            page = there[start : start + size]
            seen = [self._read(plan.key) for plan in page]
            if chance.random() < 0.2:
                seen.append(chance.choice(seen))
            await self._trouble()
            yield Poll(tuple(seen), cursor=str(first + start + len(page)))

    def _read(self, key: str) -> Observation:
        found = self._vendor.observation(self._vendor.plans[key], self._clock.now())
        assert found is not None
        return found

    async def _trouble(self) -> None:
        """Now and then the network or the platform fails, is slow, or asks for patience."""
        vendor = self._vendor
        luck = vendor.chance.random() / vendor.roughness
        if not vendor.troubled:
            return
        if luck < 0.06:
            raise Unavailable("the platform answers 503")
        if luck < 0.08:
            raise Throttled("the platform answers 429", after=vendor.chance.uniform(1, 30))
        if luck < 0.10:
            await self._clock.sleep(vendor.chance.uniform(1, 100))
        elif luck < 0.11:
            raise SourceError("the answer is no JSON")
        elif luck < 0.12:
            raise RuntimeError("a bug of the adapter")

    async def enrich(self, run: Run) -> Enrichment:
        await self._trouble()
        return Enrichment(Facts(engine="world"))

    async def trigger(self, job: str, parameters: Mapping[str, str], token: str) -> Observation:
        raise NotFound("nothing is triggered here")

    async def watch(self, key: str, options: Mapping[str, str]) -> Observation:
        raise NotFound("nothing is watched here")

    async def check(self) -> list[Finding]:
        return []

    async def close(self) -> None:
        await asyncio.sleep(0)
