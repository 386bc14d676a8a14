"""Several processes on one ledger in simulated time: each polls the same sources and feeds the same sinks when it may.

The ledger's clock is the simulated one. A process can be frozen, killed, cut off from the ledger, stopped and started.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from collector.app.heartbeat import Heartbeat
from collector.clock import to_ms
from collector.errors import LedgerError
from collector.ledger import configured_sinks, configured_sources, replicas
from collector.ledger.configured_sources import Configured
from collector.ledger.held_lease import Leases
from collector.ledger.replicas import Replica
from collector.ledger.sqlite.store import Store
from collector.lifecycle import VanishedPolicy
from collector.lineage.events import EventMaker
from collector.model import Enrichment, EventKind, Outgoing, Poll, Run, RunState
from collector.polling.decision import Policy
from collector.polling.schedule import Rhythm
from collector.polling.source import SourcePoller
from collector.reports import LeaseReport, PollResult
from exporters.delivery.sink_delivery import SinkDelivery
from exporters.sinks.base import Delivered, Finding, Outcome
from tests.e2e.pollers import Reports, Room, Scripted
from tests.task_clock import TaskClock
from tests.unit.exporters.delivery_simulation import Reports as SendReports
from tests.unit.exporters.delivery_simulation import WatchedStore, open_store

_JULIAN_EPOCH = 2440587.5


def answer_julianday(store: Store, now: Callable[[], datetime]) -> None:
    """The clock of this ledger, by which leases end, is this one from now on."""

    def julianday(_: str) -> float:
        return now().timestamp() / 86400 + _JULIAN_EPOCH

    assert store._write_engine is not None
    for engine in (store._write_engine, *store._read_engines.values()):
        with engine.connect() as conn:
            raw: Any = conn.connection.dbapi_connection
            raw.create_function("julianday", 1, julianday)


class ProcessClock:
    """Time as a process sees it that may be frozen: it wakes up late."""

    def __init__(self, clock: TaskClock, awake: asyncio.Event) -> None:
        self._clock, self._awake = clock, awake

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._awake.wait()


class ProcessStore:
    """The ledger as a process reaches it, unless it is frozen or `cut` off."""

    def __init__(self, store: WatchedStore, awake: asyncio.Event) -> None:
        self._store, self._awake = store, awake
        self.cut = False

    async def _reached(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await self._awake.wait()
        if self.cut:
            raise LedgerError("no connection to the ledger")
        answer = await call(*args, **kwargs)
        await self._awake.wait()
        if self.cut:
            raise LedgerError("the connection to the ledger broke")
        return answer

    async def write(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self._reached(self._store.write, fn, *args, **kwargs)

    async def read(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self._reached(self._store.read, fn, *args, **kwargs)

    write_first, read_claim, read_shown = write, read, read

    def on_commit(self, callback: Callable[[], None], change: Any = None) -> Callable[[], None]:
        return self._store.on_commit(callback, change)

    async def close(self) -> None: ...


class Target:
    """The sink as one process has it."""

    wants = frozenset(EventKind)
    capacity, rechecks, parallel = 4, False, True
    longest_attempt = timedelta(seconds=10)

    def __init__(self, clock: TaskClock, send: Callable[[Outgoing, float], Awaitable[Outcome]]) -> None:
        """`send` is given when the batch of the event was begun."""
        self._clock, self._send = clock, send

    async def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        begun = self._clock.monotonic()
        for item in batch:
            yield item, await self._send(item, begun)

    async def recheck(self, terminal: Outgoing) -> Outcome:
        raise AssertionError

    async def check(self) -> list[Finding]:
        return []

    async def close(self, deadline: float) -> None: ...


class Process:
    """One replica."""

    def __init__(self, name: str, among: "Replicas") -> None:
        self.name, self._replicas = name, among
        self._awake = asyncio.Event()
        self._awake.set()
        self.clock: Any = ProcessClock(among.clock, self._awake)
        self.store: Any = ProcessStore(among.store, self._awake)
        self.held: set[str] = set()
        self.asking: set[str] = set()
        """Sources of which a request to the platform is under way."""
        self.sending: dict[tuple[str, int], float] = {}
        """Since when an event of a sink's strand is at the sink, or in a batch that is."""
        self.thawed_at = -1.0
        self.killed = False
        self.reports = Reports()
        self.leases = Leases(self.store, self.clock, name, self._held)
        names = {f"source:{each}" for each in among.sources} | {f"sink:{each}" for each in among.sinks}
        self.me = Replica(name, "1", "test", frozenset(names), shards=dict.fromkeys(among.sinks, among.shards))
        heartbeat = Heartbeat(self.me, self.store, self.clock, self.leases.share.set_live_replicas)
        self.pollers = {each: self._poller(each) for each in among.sources}
        self.deliveries = {each: self._delivery(each) for each in among.sinks}
        loops = [heartbeat.run(), *(each.run() for each in self.pollers.values())]
        self._cancelled = [among.clock.start(loop) for loop in loops]
        self._stopped = [among.clock.start(each.run()) for each in self.deliveries.values()]

    def _poller(self, name: str) -> SourcePoller:
        platform = Scripted(name, self._replicas.clock)
        platform.script = partial(self._poll, platform)
        platform.enriches = partial(self._enrich, name)
        self.platform = platform
        return SourcePoller(
            name=name,
            kind="test",
            source_id=self._replicas.sources[name],
            platform=platform,
            leases=self.leases,
            maker=EventMaker(name),
            policy=Policy(timedelta(seconds=60), VanishedPolicy.LEAVE_OPEN),
            rhythm=Rhythm(timedelta(seconds=30), timedelta(minutes=5)),
            clock=self.clock,
            random=self._replicas.random.random,
            observer=self.reports,
            room=Room(),
            history=lambda _: platform,
        )

    def _delivery(self, name: str) -> SinkDelivery:
        create = partial(Target, self._replicas.clock, partial(self._send, name))
        return SinkDelivery(
            name,
            self._replicas.sinks[name],
            create(),
            create,
            leases=self.leases,
            clock=self.clock,
            random=self._replicas.random.random,
            observer=SendReports(),
        )

    @property
    def stands_by(self) -> bool:
        return all(poller.status.standby for poller in self.pollers.values())

    @property
    def frozen(self) -> bool:
        return not self._awake.is_set()

    @property
    def good_polls(self) -> int:
        return sum(report.result is PollResult.OK for report in self.reports.polls)

    def surely_sends(self, strand: tuple[str, int]) -> bool:
        """Not what it began to send before it was frozen: that cannot be fenced."""
        return not self.frozen and self.thawed_at < self.sending.get(strand, -1.0)

    def freeze(self) -> None:
        self._awake.clear()

    def thaw(self) -> None:
        if not self.killed:
            self.thawed_at = self._replicas.clock.monotonic()
            self._awake.set()

    def kill(self) -> None:
        """It never comes back, and gives nothing back."""
        self.freeze()
        self.killed = True

    async def stop(self) -> None:
        """As by SIGTERM."""
        self._cancelled[0].cancel()
        await self.store.write(replicas.leave, self.me)
        for task in self._cancelled:
            task.cancel()
        for delivery in self.deliveries.values():
            self._replicas.clock.start(delivery.stop(5.0))
        for _ in range(6):  # a stop takes more turns of the event loop than the clock waits for at one moment
            await self._replicas.clock.advance(1)
        assert all(task.done() for task in (*self._cancelled, *self._stopped))
        self.killed = True

    def _held(self, report: LeaseReport) -> None:
        (self.held.add if report.held else self.held.discard)(report.lease)

    async def _request(self, source: str, longest: float) -> None:
        """A request to the platform; requests at the same time are noted."""
        others = [
            each for each in self._replicas.processes if each is not self and source in each.asking and not each.frozen
        ]
        if others and self.thawed_at != self._replicas.clock.monotonic():
            names = ", ".join(each.name for each in others)
            self._replicas.violations.append(f"{self.name} asks the platform at the same time as {names}")
        self.asking.add(source)
        try:
            await self.clock.sleep(self._replicas.random.uniform(0, longest))
        finally:
            self.asking.discard(source)

    async def _poll(self, platform: Scripted, number: int) -> AsyncIterator[Poll]:
        for page in range(2):
            await self._request(platform.source, 40)
            now = self._replicas.clock.now()
            begun = [run for run in self._replicas.runs if run[1] <= now][page::2]
            yield Poll(tuple(self._seen(platform, *run) for run in begun), cursor=f"{now}")

    def _seen(self, platform: Scripted, key: str, began: datetime, ends: datetime) -> Any:
        state = RunState.SUCCEEDED if ends <= self._replicas.clock.now() else RunState.RUNNING
        ended = ends if state is RunState.SUCCEEDED else None
        return replace(platform.run(key, state), queued_at=began, started_at=began, ended_at=ended)

    async def _enrich(self, source: str, run: Run) -> Enrichment:
        await self._request(source, 20)
        return Enrichment()

    async def _send(self, sink: str, item: Outgoing, begun: float) -> Outcome:
        if begun >= self.thawed_at:  # what it began to send before it was frozen may come late
            self._replicas.arrived(self.name, sink, item)
        strand = sink, item.strand_id
        if others := [each.name for each in self._replicas.processes if each is not self and each.surely_sends(strand)]:
            self._replicas.violations.append(f"{self.name} sends of {strand} at the same time as {others}")
        self.sending[strand] = begun
        try:
            await self.clock.sleep(self._replicas.random.uniform(0, 2))
        finally:
            del self.sending[strand]
        self._replicas.acknowledged.append((sink, item.run_id, item.kind))
        return Delivered()


class Replicas:
    """The ledger, the platform's runs, what arrived at the sink, and what must never happen, in `violations`."""

    def __init__(self, folder: Path, seed: int, sources: int = 1, sinks: int = 1, shards: int = 1) -> None:
        """`shards` of each sink has each process in its configuration that is started from then on."""
        self.random, self.shards = Random(seed), shards
        self.store = WatchedStore(open_store(folder))
        self.clock = TaskClock(self.store)
        answer_julianday(self.store._store, self.clock.now)
        self.processes: list[Process] = []
        self.runs: list[tuple[str, datetime, datetime]] = []
        self.violations: list[str] = []
        self.acknowledged: list[tuple[str, str | None, EventKind]] = []
        self.sources = dict.fromkeys([f"source {number}" for number in range(sources)], 0)
        self.sinks = dict.fromkeys([f"sink {number}" for number in range(sinks)], 0)
        """Each with its number in the ledger."""

    async def configure(self) -> None:
        now_ms = to_ms(self.clock.now())
        configured = [Configured(name) for name in self.sources]
        self.sources = await self.store.write(configured_sources.sync_sources, configured, now_ms)
        kinds = frozenset({EventKind.START, EventKind.COMPLETE})
        self.sinks = await self.store.write(configured_sinks.sync_sinks, dict.fromkeys(self.sinks, kinds), now_ms)

    def start(self) -> Process:
        process = Process(f"replica {len(self.processes)}", self)
        self.processes.append(process)
        return process

    @property
    def living(self) -> list[Process]:
        return [process for process in self.processes if not process.killed]

    def begin_run(self, seconds: float) -> None:
        now = self.clock.now()
        self.runs.append((f"run {len(self.runs)}", now, now + timedelta(seconds=seconds)))

    def arrived(self, process: str, sink: str, item: Outgoing) -> None:
        run = item.run_id
        if item.kind is EventKind.START and (sink, run, EventKind.COMPLETE) in self.acknowledged:
            self.violations.append(f"{process} sent the START of {run} after its end was acknowledged")

    async def close(self) -> None:
        for process in self.processes:
            process._awake.set()
        await self.clock.stop()
        await self.store.close()
