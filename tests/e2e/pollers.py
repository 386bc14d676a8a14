"""Real pollers over a real ledger in simulated time, of scripted platforms or of real adapters with their simulators."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import uuid5

import httpx

from collector.clock import to_ms
from collector.http import HttpClient, HttpOptions
from collector.ledger import configured_sources
from collector.ledger.configured_sources import Configured
from collector.ledger.held_lease import Leases
from collector.lifecycle import VanishedPolicy
from collector.lineage.events import EventMaker
from collector.model import Enrichment, Observation, Poll, Run, RunState
from collector.platforms import cdf, dataprep, wetransform
from collector.platforms.base import Context, Finding, Platform
from collector.polling.decision import Policy
from collector.polling.schedule import Rhythm
from collector.polling.source import SourcePoller
from collector.reports import EventReport, HintReport, LeaseReport, LoadReport, PollReport, PollResult, SkipReport
from config.sources import WetransformSource
from simulators.cdf import CdfSimulator
from simulators.dataprep import DataprepSimulator
from simulators.server import Served, Simulator
from simulators.wetransform import WetransformSimulator
from tests import cdf_rig, dataprep_rig
from tests.task_clock import TaskClock
from tests.unit.exporters.delivery_simulation import JOB, OUR_RUNS, WatchedStore, open_store

INTERVAL = 30.0
DEADLINE = 300.0


class Reports:
    """An observer that keeps all reports."""

    def __init__(self) -> None:
        self.polls: list[PollReport] = []
        self.events: list[EventReport] = []
        self.skips: list[SkipReport] = []
        self.loads: list[LoadReport] = []

    def polled(self, report: PollReport) -> None:
        self.polls.append(report)

    def planned(self, report: LoadReport) -> None:
        self.loads.append(report)

    def committed(self, report: EventReport) -> None:
        self.events.append(report)

    def skipped(self, report: SkipReport) -> None:
        self.skips.append(report)

    def requested(self, report: object) -> None: ...
    def hinted(self, report: HintReport) -> None: ...
    def lease(self, report: LeaseReport) -> None: ...


class Scripted:
    """A platform that does at each poll what its script says, and has nothing new else."""

    def __init__(self, source: str, clock: TaskClock) -> None:
        self.source, self.clock = source, clock
        self.script: Callable[[int], AsyncIterator[Poll]] | None = None
        self.enriches: Callable[[Run], Awaitable[Enrichment]] | None = None
        self.triggers: Callable[[str], Awaitable[Observation]] | None = None
        self.watches: Callable[[str], Awaitable[Observation]] | None = None
        self.closes: Callable[[], Awaitable[None]] | None = None
        self.polls = self.closed = 0
        self.cursors: list[str | None] = []
        """As they were handed in."""

    async def poll(self, tracked: Sequence[Run], cursor: str | None) -> AsyncIterator[Poll]:
        self.polls += 1
        self.cursors.append(cursor)
        if self.script is None:
            yield Poll()
            return
        async for page in self.script(self.polls):
            yield page

    async def enrich(self, run: Run) -> Enrichment:
        return Enrichment() if self.enriches is None else await self.enriches(run)

    async def trigger(self, job: str, parameters: Mapping[str, str], token: str) -> Observation:
        assert self.triggers is not None
        return await self.triggers(job)

    async def watch(self, key: str, options: Mapping[str, str]) -> Observation:
        assert self.watches is not None
        return await self.watches(key)

    async def check(self) -> list[Finding]:
        return []

    async def close(self) -> None:
        self.closed += 1
        if self.closes is not None:
            await self.closes()

    def run(self, key: str, state: RunState) -> Observation:
        now = self.clock.now()
        return Observation(key, uuid5(OUR_RUNS, f"{self.source} {key}"), JOB, state, state.value, now, queued_at=now)


class WatchedHttp(HttpClient):
    """Requests count as work of the ledger: time stands still meanwhile."""

    def __init__(self, store: WatchedStore) -> None:
        super().__init__(HttpOptions(timeout=5.0))
        self._store = store

    async def request(self, *args: Any, **kwargs: Any) -> httpx.Response:
        self._store.busy += 1
        try:
            return await super().request(*args, **kwargs)
        finally:
            self._store.busy -= 1
            if not self._store.busy:
                self._store.idle.set()


class Room:
    """Of a ledger that is as full as a test says."""

    full: str | None = None

    async def measure(self) -> str | None:
        return self.full


class Pollers(Room):
    """`add` sources, then `advance`. `polls` of a source are seconds since the beginning, with how each ended."""

    def __init__(self, folder: Path) -> None:
        self.store = WatchedStore(open_store(folder))
        self.clock = TaskClock(self.store)
        self.reports = Reports()
        self.pollers: dict[str, SourcePoller] = {}
        self.simulators: dict[str, Any] = {}
        self.histories: dict[str, Callable[[datetime], Platform]] = {}
        """What reads the past of a source in a backfill."""
        self._start = self.clock.now()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        ended = [task for task in self._running.values() if task.done() and not task.cancelled()]
        await self.clock.stop()
        await self.store.close()
        await self._stack.aclose()
        for task in ended:
            task.result()  # a poller that died by a fault of the test must not go unnoticed

    async def add(self, name: str, platform: Platform) -> None:
        names = [*self.pollers, name]
        ids = await self.store.write(
            configured_sources.sync_sources, [Configured(each) for each in names], to_ms(self.clock.now())
        )
        self.pollers[name] = SourcePoller(
            name=name,
            kind="test",
            source_id=ids[name],
            platform=platform,
            leases=Leases(self.store, self.clock, "test", self.reports.lease),  # a watched store is one for polling
            maker=EventMaker(name),
            policy=Policy(timedelta(seconds=60), VanishedPolicy.LEAVE_OPEN),
            rhythm=Rhythm(timedelta(seconds=INTERVAL), timedelta(seconds=DEADLINE)),
            clock=self.clock,
            random=lambda: 0.5,
            observer=self.reports,
            room=self,
            history=partial(self._history, name),
        )
        self._running[name] = self.clock.start(self.pollers[name].run())

    def _history(self, name: str, since: datetime) -> Platform:
        return self.histories[name](since)

    async def stop(self, name: str) -> None:
        """As a service that stops does it."""
        self._running[name].cancel()
        await asyncio.wait([self._running[name]])

    async def scripted(self, name: str) -> Scripted:
        made = Scripted(name, self.clock)
        await self.add(name, made)
        return made

    async def platforms(self) -> None:
        """The three real adapters, each with its simulator over real HTTP."""
        now = self.clock.now
        made: dict[str, Simulator] = {
            "cdf": CdfSimulator(seed=1, now=now),
            "wetransform": WetransformSimulator(seed=2, now=now),
            "dataprep": DataprepSimulator(seed=3, now=now),
        }
        for name, simulator in made.items():
            self.simulators[name] = simulator
            served = await self._stack.enter_async_context(Served(simulator))
            await self.add(name, self._adapter(name, served.url))

    def _adapter(self, name: str, url: str) -> Platform:
        def context(namespace: str) -> Context:
            return Context(name, namespace, WatchedHttp(self.store), self.clock, lambda: 0.5)

        if name == "cdf":
            of_cdf = cdf_rig.source(url)
            return cdf.create(of_cdf, context(of_cdf.job_namespace))
        if name == "dataprep":
            of_dataprep = dataprep_rig.source(url)
            return dataprep.create(of_dataprep, context(of_dataprep.job_namespace))
        given = {"platform": "wetransform", "name": "wt", "base_url": url, "tenant": "acme", "discover": True}
        settings = WetransformSource.model_validate(given | {"token": "wetransform-token"})
        return wetransform.create(settings, context(settings.job_namespace))

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    def polls(self, name: str) -> list[tuple[float, PollResult]]:
        found = [report for report in self.reports.polls if report.source == name]
        return [((report.at - self._start).total_seconds(), report.result) for report in found]
