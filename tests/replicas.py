"""Several processes on one ledger in simulated time: each polls the same source and feeds the same sink when it may.

The ledger's clock is the simulated one. A process can be frozen, killed, cut off from the ledger, stopped and started.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from collector.clock import to_ms
from collector.errors import LedgerError
from collector.ledger import accounts, registry
from collector.ledger.accounts import Configured
from collector.ledger.held_lease import Leases
from collector.lifecycle import VanishedPolicy
from collector.lineage.events import EventMaker
from collector.model import Enrichment, EventKind, Outgoing, Poll, Run, RunState
from collector.polling.decision import Policy
from collector.polling.schedule import Rhythm
from collector.polling.source import SourcePoller
from collector.reports import LeaseReport, PollResult
from exporters.delivery.delivery import Delivery
from exporters.delivery.sender import run_uuid
from exporters.sinks.base import Delivered, Finding, Outcome
from tests.e2e.pollers import Reports, Scripted
from tests.unit.exporters.delivering import Reports as SendReports
from tests.unit.exporters.delivering import WatchedStore, open_store
from tests.waking import WakingClock

_JULIAN_EPOCH = 2440587.5


class ProcessClock:
    """Time as a process sees it that may be frozen: it wakes up late."""

    def __init__(self, clock: WakingClock, awake: asyncio.Event) -> None:
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

    def on_commit(self, callback: Callable[[], None], news: Any = None) -> Callable[[], None]:
        return self._store.on_commit(callback, news)

    async def close(self) -> None: ...


class Target:
    """The sink as one process has it."""

    wants = frozenset(EventKind)
    capacity, rechecks = 4, False
    longest_attempt = timedelta(seconds=10)

    def __init__(self, send: Callable[[Outgoing], Awaitable[Outcome]]) -> None:
        self._send = send

    async def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        for item in batch:
            yield item, await self._send(item)

    async def recheck(self, terminal: Outgoing) -> Outcome:
        raise AssertionError

    async def check(self) -> list[Finding]:
        return []

    async def close(self, deadline: float) -> None: ...


class Process:
    """One replica."""

    def __init__(self, name: str, replicas: "Replicas") -> None:
        self.name, self._replicas = name, replicas
        self._awake = asyncio.Event()
        self._awake.set()
        self.clock: Any = ProcessClock(replicas.clock, self._awake)
        self.store: Any = ProcessStore(replicas.store, self._awake)
        self.held: set[str] = set()
        self.asking = False
        """Whether a request of it to the platform is under way."""
        self.thawed_at = -1.0
        self.killed = False
        self.reports = Reports()
        leases = Leases(self.store, self.clock, name, self._held)
        self.platform = Scripted("plant", replicas.clock)
        self.platform.script = self._poll
        self.platform.enriches = self._enrich
        self.sink = Target(self._send)
        self.poller = SourcePoller(
            name="plant",
            kind="test",
            source_id=replicas.source_id,
            platform=self.platform,
            leases=leases,
            maker=EventMaker("plant"),
            policy=Policy(timedelta(seconds=60), VanishedPolicy.LEAVE_OPEN),
            rhythm=Rhythm(timedelta(seconds=30), timedelta(minutes=5)),
            clock=self.clock,
            random=replicas.random.random,
            observer=self.reports,
            paused=lambda: None,
        )
        self.delivery = Delivery(
            "sink",
            replicas.sink_id,
            self.sink,
            leases=leases,
            clock=self.clock,
            random=replicas.random.random,
            observer=SendReports(),
        )
        self._tasks = [replicas.clock.start(self.poller.run()), replicas.clock.start(self.delivery.run())]

    @property
    def frozen(self) -> bool:
        return not self._awake.is_set()

    @property
    def good_polls(self) -> int:
        return sum(report.result is PollResult.OK for report in self.reports.polls)

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
        self._tasks[0].cancel()
        stopping = self._replicas.clock.start(self.delivery.stop(5.0))
        await self._replicas.clock.advance(6)
        assert stopping.done()
        assert all(task.done() for task in self._tasks)
        self.killed = True

    def _held(self, report: LeaseReport) -> None:
        (self.held.add if report.held else self.held.discard)(report.lease)

    async def _request(self, longest: float) -> None:
        """A request to the platform: whoever asks at the same time is noted."""
        others = [each for each in self._replicas.processes if each is not self and each.asking and not each.frozen]
        if others and self.thawed_at != self._replicas.clock.monotonic():
            names = ", ".join(each.name for each in others)
            self._replicas.violations.append(f"{self.name} asks the platform at the same time as {names}")
        self.asking = True
        try:
            await self.clock.sleep(self._replicas.random.uniform(0, longest))
        finally:
            self.asking = False

    async def _poll(self, number: int) -> AsyncIterator[Poll]:
        for page in range(2):
            await self._request(40)
            now = self._replicas.clock.now()
            begun = [run for run in self._replicas.runs if run[1] <= now][page::2]
            yield Poll(tuple(self._seen(*run) for run in begun), cursor=f"{now}")

    def _seen(self, key: str, began: datetime, ends: datetime) -> Any:
        state = RunState.SUCCEEDED if ends <= self._replicas.clock.now() else RunState.RUNNING
        ended = ends if state is RunState.SUCCEEDED else None
        return replace(self.platform.run(key, state), queued_at=began, started_at=began, ended_at=ended)

    async def _enrich(self, run: Run) -> Enrichment:
        await self._request(20)
        return Enrichment()

    async def _send(self, item: Outgoing) -> Outcome:
        self._replicas.arrived(self.name, item)
        await self.clock.sleep(self._replicas.random.uniform(0, 2))
        self._replicas.acknowledged.append((run_uuid(item), item.kind))
        return Delivered()


class Replicas:
    """The ledger, the platform's runs, what arrived at the sink, and what must never happen, in `violations`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = Random(seed)
        self.store = WatchedStore(open_store(folder))
        self.clock = WakingClock(self.store)
        self._set_ledger_clock()
        self.processes: list[Process] = []
        self.runs: list[tuple[str, datetime, datetime]] = []
        self.violations: list[str] = []
        self.acknowledged: list[tuple[str | None, EventKind]] = []
        self.source_id = self.sink_id = 0

    def _set_ledger_clock(self) -> None:
        def julianday(_: str) -> float:
            return self.clock.now().timestamp() / 86400 + _JULIAN_EPOCH

        writer = self.store._store._write_engine
        assert writer is not None
        with writer.connect() as conn:
            raw: Any = conn.connection.dbapi_connection
            raw.create_function("julianday", 1, julianday)

    async def configure(self) -> None:
        now_ms = to_ms(self.clock.now())
        self.source_id = (await self.store.write(accounts.sync_sources, [Configured("plant")], now_ms))["plant"]
        kinds = frozenset({EventKind.START, EventKind.COMPLETE})
        self.sink_id = (await self.store.write(registry.sync_sinks, {"sink": kinds}, now_ms))["sink"]

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

    def arrived(self, process: str, item: Outgoing) -> None:
        run = run_uuid(item)
        if item.kind is EventKind.START and (run, EventKind.COMPLETE) in self.acknowledged:
            self.violations.append(f"{process} sent the START of {run} after its end was acknowledged")

    async def close(self) -> None:
        for process in self.processes:
            process._awake.set()
        await self.clock.stop()
        await self.store.close()
