"""What tests of delivery share: simulated time, scripted sinks, and runs committed to a real ledger."""

import asyncio
import atexit
import heapq
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from uuid import UUID, uuid5

from collector.clock import SystemClock, to_ms
from collector.errors import LedgerError
from collector.ledger import configured_sinks, configured_sources, leases
from collector.ledger import runs as ledger_runs
from collector.ledger.configured_sources import Configured
from collector.ledger.held_lease import Leases
from collector.ledger.leases import Lease
from collector.ledger.runs import NewEvent, PollCommit, RunChange
from collector.ledger.sqlite.store import Store
from collector.ledger.worker import Task, Worker
from collector.model import EventKind, Job, Outgoing, Parent, Run, RunState
from collector.reports import LeaseReport
from exporters.delivery.delivery import Delivery
from exporters.delivery.reports import CircuitReport, RecheckReport, SendReport
from exporters.sinks.base import Delivered, Finding, Outcome

OUR_RUNS = UUID("a8a4c7a4-5d0e-4a55-b1b7-5e2a3ad0c3f1")
JOB = Job(key="1", namespace="cdf://host/project", name="transformation/1", kind="QUERY", integration="CDF")
STATES = {
    EventKind.OTHER: RunState.QUEUED,
    EventKind.START: RunState.RUNNING,
    EventKind.RUNNING: RunState.WAITING,
    EventKind.COMPLETE: RunState.SUCCEEDED,
    EventKind.FAIL: RunState.FAILED,
    EventKind.ABORT: RunState.CANCELED,
}


class SimulatedClock:
    """Time that passes only in `DeliverySimulation.advance`. The wall clock can be set apart from it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.wall = datetime(2026, 11, 22, 12, tzinfo=UTC)
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self.wall + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waking = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.seconds + seconds, next(self._order), waking))
        await waking

    def wake_next(self, until: float) -> bool:
        """Go on to the next sleeper's time and wake it. False when nobody wakes up until then."""
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, waking = heapq.heappop(self._sleepers)
            if not waking.done():
                self.seconds = max(self.seconds, at)
                waking.set_result(None)
                return True
        self.seconds = max(self.seconds, until)
        return False


class WatchedStore:
    """A ledger that shows how busy it is. With `error` it does its work and then loses the answer; `unannounced`, nobody hears
    of its commits.
    """

    def __init__(self, store: Store, hops: Callable[[], int] = lambda: 0) -> None:
        """`hops` says how often others get their turn before and after each call."""
        self._store, self._hops = store, hops
        self.busy = self.reads = self.writes = self.listeners = 0
        self.idle = asyncio.Event()
        self.error: str | None = None
        self.unannounced = False

    async def write(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.writes += 1
        return await self._watched(lambda: self._store.write(fn, *args, **kwargs))

    async def write_first(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.writes += 1
        return await self._watched(lambda: self._store.write_first(fn, *args, **kwargs))

    async def read(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        return await self._watched(lambda: self._store.read(fn, *args, **kwargs))

    read_claim = read_shown = read

    async def _watched(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self.busy += 1
        try:
            await self._hop()
            answer = await call()
            await self._hop()
        finally:
            self.busy -= 1
            if not self.busy:
                self.idle.set()
        if self.error is not None:
            raise LedgerError(self.error)
        return answer

    async def _hop(self) -> None:
        for _ in range(self._hops()):
            await asyncio.sleep(0)

    def on_commit(self, callback: Callable[[], None], change: Any = None) -> Callable[[], None]:
        self.listeners += 1
        unsubscribe = self._store.on_commit(lambda: None if self.unannounced else callback(), change)

        def leave() -> None:
            self.listeners -= 1
            unsubscribe()

        return leave

    async def close(self) -> None:
        await self._store.close()


Script = Callable[[Outgoing], Outcome | Awaitable[Outcome]]


def delivers(item: Outgoing) -> Outcome:
    return Delivered()


class ScriptedSink:
    """Answers each event as its `script` says, all events of a batch at once, and notes what it was sent.

    What must never happen goes to `violations`: delivery would take an assertion here for a bug of the sink.
    """

    wants = frozenset(EventKind)

    def __init__(self, script: Script = delivers, *, capacity: int = 100, rechecks: bool = False) -> None:
        self.script, self.capacity, self.rechecks = script, capacity, rechecks
        self.longest_attempt = timedelta(seconds=10)
        self.sent: list[tuple[str, EventKind]] = []
        self.batches: list[int] = []
        self.out: set[int] = set()
        self.violations: list[str] = []
        self.most_out = 0
        self.rechecked: list[str] = []
        self.recheck_script: Script = delivers

    async def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        self.batches.append(len(batch))
        tasks = [asyncio.ensure_future(self._one(item)) for item in batch]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for one in tasks:
                one.cancel()

    async def _one(self, item: Outgoing) -> tuple[Outgoing, Outcome]:
        if item.strand_id in self.out:
            self.violations.append(f"{name_of(item)} {item.kind}: two events of its strand in flight")
        self.sent.append((name_of(item), item.kind))
        self.out.add(item.strand_id)
        self.most_out = max(self.most_out, len(self.out))
        try:
            return item, await _awaited(self.script(item))
        finally:
            self.out.discard(item.strand_id)

    async def recheck(self, terminal: Outgoing) -> Outcome:
        self.rechecked.append(name_of(terminal))
        return await _awaited(self.recheck_script(terminal))

    async def check(self) -> list[Finding]:
        return []

    async def close(self, deadline: float) -> None:
        pass

    def kinds(self, run: str) -> list[EventKind]:
        return [kind for name, kind in self.sent if name == run]


async def _awaited(answer: Outcome | Awaitable[Outcome]) -> Outcome:
    return await answer if isinstance(answer, Awaitable) else answer


def name_of(item: Outgoing) -> str:
    """The run's key as the test gave it."""
    return str(json.loads(item.body)["run"]["key"])


def number_of(item: Outgoing) -> int:
    """Its place in `DeliverySimulation.made`."""
    return int(json.loads(item.body)["run"]["number"])


class Reports:
    """An observer that keeps all reports."""

    def __init__(self) -> None:
        self.sends: list[SendReport] = []
        self.circuits: list[CircuitReport] = []
        self.rechecks: list[RecheckReport] = []
        self.leases: list[LeaseReport] = []

    def sent(self, report: SendReport) -> None:
        self.sends.append(report)

    def circuit(self, report: CircuitReport) -> None:
        self.circuits.append(report)

    def rechecked(self, report: RecheckReport) -> None:
        self.rechecks.append(report)

    def lease(self, report: LeaseReport) -> None:
        self.leases.append(report)


class DeliverySimulation:
    """A ledger with one source, simulated time, and the deliveries that a test starts."""

    def __init__(
        self,
        store: Store,
        clock: SimulatedClock,
        *,
        made: list[tuple[str, EventKind]] | None = None,
        started: dict[str, datetime] | None = None,
        hops: Callable[[], int] = lambda: 0,
    ) -> None:
        """`made` are all events so far and `started` the runs, of an earlier life of the same ledger."""
        self.store, self.clock, self.reports = WatchedStore(store, hops), clock, Reports()
        self.random = Random(1)
        self.source_id = 0
        self.sinks: dict[str, int] = {}
        self._source_lease: Lease | None = None
        self.made = [] if made is None else made
        self.started = {} if started is None else started
        self.violations: list[list[str]] = []
        self.tasks: dict[Delivery, asyncio.Task[None]] = {}

    @property
    def now_ms(self) -> int:
        return to_ms(self.clock.now())

    async def configure(self, sinks: dict[str, frozenset[EventKind]]) -> None:
        """The configuration names these sinks, and one source."""
        sources = await self.store.write(configured_sources.sync_sources, [Configured("source")], self.now_ms)
        self.source_id = sources["source"]
        self.sinks = await self.store.write(configured_sinks.sync_sinks, sinks, self.now_ms)
        self._source_lease = await self.store.write(leases.take, "source:source", "test", 60_000)

    def deliver(self, sink: ScriptedSink, name: str = "sink", *, holder: str = "test") -> Delivery:
        """Start delivery to this sink."""
        self.violations.append(sink.violations)
        delivery = Delivery(
            name,
            self.sinks[name],
            sink,
            leases=Leases(self.store, self.clock, holder, self.reports.lease),  # a watched store is one for delivery
            clock=self.clock,
            random=self.random.random,
            observer=self.reports,
        )
        self.tasks[delivery] = asyncio.create_task(delivery.run())
        return delivery

    async def commit(self, *changes: RunChange) -> None:
        assert self._source_lease is not None
        await self.store.write(
            ledger_runs.commit_poll, PollCommit(self._source_lease, self.source_id, changes), self.now_ms
        )

    async def happen(self, *kinds: EventKind, runs: Iterable[str] = ("run",), parent: str | None = None) -> None:
        """Commit these events for each of these runs, all in one poll."""
        await self.commit(*(self.change(run, *kinds, parent=parent) for run in runs))

    def change(self, run: str, *kinds: EventKind, parent: str | None = None) -> RunChange:
        now = self.clock.now()
        ended = now if kinds[-1].terminal else None
        if EventKind.START in kinds:
            self.started[run] = now
        above = None if parent is None else Parent(uuid5(OUR_RUNS, parent), JOB.namespace, JOB.name, key=parent)
        known = Run(
            key=run,
            run_id=uuid5(OUR_RUNS, run),
            job=JOB,
            state=STATES[kinds[-1]],
            raw_state=None,
            seen_at=now,
            progressed_at=now,
            started_at=self.started.get(run),
            ended_at=ended,
            last_event_at=now,
            parent=above,
        )
        return RunChange(known, tuple(NewEvent(kind, self._body(run, kind), to_ms(now)) for kind in kinds))

    def _body(self, run: str, kind: EventKind) -> bytes:
        self.made.append((run, kind))
        facets = {"runId": str(uuid5(OUR_RUNS, run)), "key": run, "number": len(self.made) - 1}
        return json.dumps({"eventType": kind.value, "run": facets}).encode()

    async def quiet(self) -> None:
        """Until everything that can happen at this moment has happened."""
        calm = 0
        while calm < 15:
            calm = 0 if self.store.busy else calm + 1
            if self.store.busy:
                self.store.idle.clear()
                await self.store.idle.wait()
            else:
                await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        until = self.clock.seconds + seconds
        await self.quiet()
        while self.clock.wake_next(until):
            await self.quiet()

    async def within(self, seconds: float, call: Awaitable[Any]) -> Any:
        """Do something that takes time, at most so many simulated seconds."""
        task = asyncio.ensure_future(call)
        until = self.clock.seconds + seconds
        await self.quiet()
        while not task.done() and self.clock.wake_next(until):
            await self.quiet()
        assert task.done(), f"still under way after {seconds} s"
        return await task

    async def crash(self) -> None:
        """All deliveries vanish as by a kill: nothing is written down or given back."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        self.tasks.clear()

    async def close(self) -> None:
        await self.crash()
        await self.store.close()


@cache
def migrated() -> Path:
    """An empty ledger, made once: making one takes longer than most tests."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    store = Store.open(folder / "ledger.db", holder="test", clock=SystemClock())
    store._close()
    return folder / "ledger.db"


def quick_folder() -> TemporaryDirectory[str]:
    """In memory where that can be had: these tests are about order and loss, not about the disk."""
    memory = Path("/dev/shm")
    return TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)


def open_store(folder: Path, *, threads: bool = False) -> Store:
    """The ledger in this folder, a new one if there is none."""
    path = folder / "ledger.db"
    if not path.exists():
        shutil.copy(migrated(), path)
    store = Store.open(path, holder="test", clock=SystemClock())
    for worker in () if threads else (*store._workers, store._writer):
        assert worker is not None
        worker.submit = partial(_at_once, worker)  # type: ignore[method-assign]
    return store


def _at_once(worker: Worker, work: Callable[[Any], Any], *, alone: bool = False, first: bool = False) -> "Future[Any]":
    """In place of the worker's thread: no waiting for the system's scheduler, and always the same order."""
    answer: Future[Any] = Future()
    answer.set_running_or_notify_cancel()
    worker._serve([Task(work, answer, alone, first)])
    return answer


@asynccontextmanager
async def delivery_simulation(**sinks: frozenset[EventKind]) -> AsyncIterator[DeliverySimulation]:
    """A ledger with these sinks, one called `sink` if none is named."""
    folder = quick_folder()
    made = DeliverySimulation(open_store(Path(folder.name)), SimulatedClock())
    try:
        await made.configure(sinks or {"sink": frozenset(EventKind)})
        yield made
    finally:
        await made.close()
        folder.cleanup()
        assert not any(made.violations)
