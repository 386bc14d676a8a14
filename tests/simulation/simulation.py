"""The production loops of sources and sinks over a real ledger, in simulated time, while platforms, backends, network, disk,
clocks and processes fail: one process, or two replicas that take over from each other.
"""

import asyncio
import atexit
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from collector.app.heartbeat import Heartbeat
from collector.clock import to_ms
from collector.errors import LedgerError
from collector.ledger import configured_sinks, configured_sources, leases, replicas
from collector.ledger.configured_sources import Configured
from collector.ledger.held_lease import Leases
from collector.ledger.replicas import Replica
from collector.ledger.sqlite.store import Store
from collector.lifecycle import VanishedPolicy
from collector.lineage.events import EventMaker
from collector.polling.decision import Policy
from collector.polling.schedule import Rhythm
from collector.polling.source import SourcePoller
from collector.reports import LeaseReport
from exporters.delivery.delivery import Delivery
from exporters.delivery.sink_delivery import SinkDelivery
from tests.e2e.pollers import Reports as PollReports
from tests.replicas import answer_julianday
from tests.simulation import oracle
from tests.simulation.backend import Backend
from tests.simulation.division import COUNTS, Division
from tests.simulation.vendor import Adapter, Vendor, plans, run_id_of
from tests.task_clock import TaskClock
from tests.unit.exporters.delivery_simulation import Reports as SendReports
from tests.unit.exporters.delivery_simulation import WatchedStore, migrated, open_store, quick_folder

LENGTHS = (6.0, 6.0, 8.0, 8.0, 10.0, 12.0, 15.0, 30.0)
"""Seconds in which things fail; all runs end within them. Many short simulations find more than a few long ones."""
DIVIDED = 0.03
"""So many of the simulations have divided sinks, which change the number of their shards."""
RUNS, RUNS_DIVIDED = (1, 1, 1, 2, 3), (4, 6, 8)
"""Of a platform."""
LONGER = 60.0
"""For replicas: a lease must end before another one takes over."""
CALM = 6000.0
"""Seconds in which everything must have arrived, once nothing fails any more."""
SOURCES = ("plant", "lab")
FULL = "the ledger is full"


class Machine:
    """Where a process runs. Its clock can be set, and what runs on it can be frozen."""

    def __init__(self, clock: TaskClock) -> None:
        self._clock = clock
        self.ahead = timedelta()
        self.awake = asyncio.Event()
        self.awake.set()

    def now(self) -> datetime:
        return self._clock.now() + self.ahead

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self.awake.wait()


class Disk(WatchedStore):
    """The ledger as one process reaches it. Its disk fails: a write is refused, or done and its answer lost. `gone` is a process
    that was killed.
    """

    def __init__(self, store: Any, machine: Machine, chance: Random, reached: Counter[str]) -> None:
        super().__init__(store, hops=lambda: chance.choice((0, 0, 0, 1, 5)))
        self._machine, self._chance, self._reached = machine, chance, reached
        self.failing = self.gone = False

    async def _watched(self, call: Callable[[], Awaitable[Any]]) -> Any:
        await self._machine.awake.wait()
        if self.gone:
            raise LedgerError("this process was killed")
        luck = self._chance.random() if self.failing else 1.0
        if luck < 0.3:
            self._reached["a write refused by the disk"] += 1
            raise LedgerError("no space left on device")
        answer = await super()._watched(call)
        if luck < 0.5:
            self._reached["a write done, and its answer lost"] += 1
            raise LedgerError("the disk did not answer")
        await self._machine.awake.wait()
        if self.gone:
            raise LedgerError("this process was killed")
        return answer


class Process:
    """What one process of the program runs, on one machine."""

    def __init__(self, name: str, machine: Machine, disk: Disk, of: "Simulation") -> None:
        self.name, self.machine, self.disk, self._of = name, machine, disk, of
        self.me = None if of.division is None else of.division.replica(name)
        self.counts: dict[str, int] = {}
        """On how many shards of each sink it works."""
        self.tasks: list[asyncio.Task[Any]] = []
        self._deliveries: list[Delivery | SinkDelivery] = []
        self.leases = Leases(disk, machine, name, self._held)

    def start(self) -> None:
        if self.me is not None:
            beats = Heartbeat(self.me, self.disk, self.machine, self._beaten)
            self.tasks.append(self._of.clock.start(beats.run()))
        for source, source_id in self._of.sources.items():
            self.tasks.append(self._of.clock.start(self._poller(source, source_id).run()))
        for sink, sink_id in self._of.sinks.items():
            delivery = self._delivery(sink, sink_id) if self.me is None else self._sink_delivery(sink, sink_id)
            self._deliveries.append(delivery)
            self.tasks.append(self._of.clock.start(delivery.run()))

    def _beaten(self, live: Sequence[Replica]) -> None:
        self.leases.share.set_live_replicas(live)
        self._of.beaten(live)

    def _divided(self, sink: str, count: int) -> None:
        self.counts[sink] = count
        self._of.divided(sink, count)

    def _held(self, report: LeaseReport) -> None:
        if report.held:
            self._of.taken(report.lease, self)

    def _poller(self, name: str, source_id: int) -> SourcePoller:
        adapter = Adapter(self._of.vendors[name], self.machine)
        return SourcePoller(
            name=name,
            kind="world",
            source_id=source_id,
            platform=adapter,
            leases=self.leases,
            maker=EventMaker(name),
            policy=Policy(timedelta(seconds=60), VanishedPolicy.LEAVE_OPEN),
            rhythm=Rhythm(timedelta(seconds=10), timedelta(minutes=1)),
            clock=self.machine,
            random=self._of.chance.random,
            observer=PollReports(),
            room=self._of,
            history=lambda _: adapter,
        )

    def _delivery(self, name: str, sink_id: int) -> Delivery:
        return Delivery(
            name,
            sink_id,
            self._of.backends[name],
            leases=self.leases,
            clock=self.machine,
            random=self._of.chance.random,
            observer=SendReports(),
        )

    def _sink_delivery(self, name: str, sink_id: int) -> SinkDelivery:
        backend = self._of.backends[name]
        return SinkDelivery(
            name,
            sink_id,
            backend,
            lambda: backend,
            leases=self.leases,
            clock=self.machine,
            random=self._of.chance.random,
            observer=SendReports(),
            on_shards=partial(self._divided, name),
        )

    async def stop(self) -> None:
        """As by SIGTERM, as far as the ledger lets it."""
        if self.me is not None:
            with suppress(LedgerError):
                await self.disk.write(replicas.leave, self.me)
        for task in self.tasks[: -len(self._deliveries)]:
            task.cancel()
        for delivery in self._deliveries:
            self.tasks.append(self._of.clock.start(delivery.stop(5.0)))
        await self._of.clock.advance(6)
        await self.kill()

    async def kill(self) -> None:
        """Nothing is written any more, then all is gone."""
        self.disk.gone = True
        self.machine.awake.set()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Simulation:
    """`run` it once. `faults` says in words what broke a promise; `reached` counts the rare states that came up."""

    def __init__(self, seed: int, *, divided: bool | None = None) -> None:
        """`divided`: whether it has divided sinks, where that is not left to the seed."""
        self.chance = chance = Random(seed)
        self.reached: Counter[str] = Counter()
        self.clock = TaskClock()
        self.began = self.clock.now()
        self.full: str | None = None
        # by another generator, so that the other simulations are the same without them
        is_divided = Random(f"{seed} divided").random() < DIVIDED if divided is None else divided
        self.replicas = 2 if chance.random() < (0.7 if is_divided else 0.12) else 1
        self.trouble = LONGER if self.replicas > 1 else chance.choice(LENGTHS)
        self.reopens = chance.random() < 0.03
        self._store = _own_store() if self.reopens else _reset(_shared_store())
        self.machines = [Machine(self.clock) for _ in range(self.replicas)]
        self.processes: list[Process] = []
        self._started = 0
        self._holders: dict[str, tuple[Process, bool]] = {}
        named = SOURCES if chance.random() < 0.1 else SOURCES[:1]
        self.vendors = {name: self._vendor(name, RUNS_DIVIDED if is_divided else RUNS) for name in named}
        backends = {"first": self._backend(rechecks=True), "second": self._backend(rechecks=False)}
        self.backends = backends if chance.random() < 0.1 else dict(chance.sample(sorted(backends.items()), 1))
        self.division = Division(chance, self.backends, self.reached) if is_divided else None
        self.sources: dict[str, int] = {}
        self.sinks: dict[str, int] = {}

    def _vendor(self, name: str, counts: Sequence[int]) -> Vendor:
        runs = plans(self.chance, name, self.chance.choice(counts), self.trouble)
        return Vendor(name, self.chance, self.clock, self.began, runs, self._roughness())

    def _backend(self, *, rechecks: bool) -> Backend:
        return Backend(self.chance, self.clock, self.reached, rechecks=rechecks, roughness=self._roughness())

    def _roughness(self) -> float:
        """Each part has good and bad days, so that rare faults also come alone and together."""
        return self.chance.choice((0.1, 1.0, 5.0))

    async def run(self) -> list[str]:
        """Trouble, then calm; what is wrong at the end."""
        self._set_ledger_clock()
        for machine in self.machines:
            await self._start(machine)
        try:
            while self.clock.monotonic() < self.trouble:
                await self.clock.advance(self.chance.uniform(1, self.trouble / 2))
                await self._disturb()
            await self._calm()
            return self._faults()
        finally:
            for process in self.processes:
                await process.kill()
            if self.reopens:
                self._store._close()

    def _set_ledger_clock(self) -> None:
        """Of the one machine, or of the server that replicas share, whose clock is true."""
        answer_julianday(self._store, self.machines[0].now if self.replicas == 1 else self.clock.now)

    async def _start(self, machine: Machine) -> None:
        self._started += 1
        disk = Disk(self._store, machine, self.chance, self.reached)
        self.clock.store = disk if self.replicas == 1 else None
        process = Process(f"process {self._started}", machine, disk, self)
        now_ms = to_ms(machine.now())
        sources = [Configured(each) for each in self.vendors]
        kinds = {name: backend.wants for name, backend in self.backends.items()}
        if process.me is None:
            self.sources = await disk.write(configured_sources.sync_sources, sources, now_ms)
            self.sinks = await disk.write(configured_sinks.sync_sinks, kinds, now_ms)
        else:
            numbers = await disk.write(replicas.register, process.me, sources, kinds, now_ms)
            self.sources, self.sinks = dict(numbers.sources), dict(numbers.sinks)
        self.processes.append(process)
        process.start()

    async def measure(self) -> str | None:
        """Whether the ledger is full after a commit of a poll."""
        if self.full is None and self.clock.monotonic() < self.trouble and self.chance.random() < 0.05:
            self.full = FULL
            self.reached["a ledger that was full in the middle of a poll"] += 1
        return self.full

    def taken(self, lease: str, by: Process) -> None:
        """Counts take-overs from a replica that had an event at the backend when it was killed or frozen."""
        former = self._holders.pop(lease, None)
        if former is not None and former[0] is not by and self.replicas > 1:
            self.reached["a take-over"] += 1
            self.reached["a take-over with something in flight"] += former[1]

    def divided(self, sink: str, count: int) -> None:
        assert self.division is not None
        self.division.divided(sink, count)
        self.backends[sink].divided(count)

    def beaten(self, live: Sequence[Replica]) -> None:
        assert self.division is not None
        running = [process.me for process in self.processes if process.me is not None]
        self.division.beaten(live, running, lambda sink: self.backends[sink].busy > 0)

    async def _divide_anew(self, division: Division) -> None:
        """One machine after the other starts with another number, or one alone, by mistake."""
        division.wish_again()
        machines = self.chance.sample(self.machines, self.chance.choice((1, len(self.machines), len(self.machines))))
        for machine in machines:
            if self.chance.random() < 0.5:
                await self._until_busy()
            await self._restart(self._process_on(machine), away=self.chance.uniform(0, 10))

    def _process_on(self, machine: Machine) -> Process:
        (process,) = (each for each in self.processes if each.machine is machine)
        return process

    async def _disturb(self) -> None:
        if self.division is not None and self.chance.random() < 0.4:
            await self._divide_anew(self.division)
            return
        luck, machine = self.chance.random(), self.chance.choice(self.machines)
        process = self._process_on(machine)
        if luck < 0.25:
            await self._restart(process)
        elif luck < 0.35:
            process.disk.failing = not process.disk.failing
        elif luck < 0.45:
            self.full = None if self.full else FULL
            self.reached["a full ledger"] += self.full is not None
        elif luck < 0.55:
            machine.ahead = timedelta(seconds=self.chance.choice((-1800, -30, -5, 0, 5, 30, 1800)))
            self.reached["a clock that jumped"] += 1
        elif luck < 0.7 and self.replicas > 1:
            await self._until_busy()
            self._note_holder(process)
            machine.awake.clear()
            self.reached["a frozen replica"] += 1
            await self.clock.advance(self.chance.uniform(5, 80))
            machine.awake.set()

    async def _until_busy(self) -> None:
        """Many kills come with an event at a backend, if there is one soon."""
        until = self.clock.monotonic() + 10
        while self.clock.monotonic() < until and not any(backend.busy for backend in self.backends.values()):
            await self.clock.advance(0.5)

    async def _restart(self, process: Process, away: float | None = None) -> None:
        """`away` are the seconds until its successor starts, where others go on meanwhile."""
        if self.chance.random() < 0.5:
            await self._until_busy()
        if any(backend.busy for backend in self.backends.values()):
            self.reached["a kill with something in flight"] += 1
        if self.division is not None and self.chance.random() < (0.5 if away is None else 0.75):
            await process.stop()
        else:
            self.reached["a kill"] += 1
            self._note_holder(process)
            await process.kill()
        self.processes.remove(process)
        if self.replicas > 1:
            await self.clock.advance(self.chance.choice((0.0, self.chance.uniform(0, 80))) if away is None else away)
            if self.division is not None:
                await self._until_busy()
        elif self.reopens:
            self._store = _reopened(self._store)
            self._set_ledger_clock()
        else:
            await self._store.write(_as_opened)
        await self._start(process.machine)

    def _note_holder(self, process: Process) -> None:
        for name, backend in self.backends.items():
            for lease in (f"sink:{name}", *(f"sink:{name}#{number}" for number in range(max(COUNTS)))):
                if process.leases.holds(lease):
                    self._holders[lease] = process, backend.busy > 0

    async def _calm(self) -> None:
        self.full = None
        for process in self.processes:
            process.disk.failing = False
        for vendor in self.vendors.values():
            vendor.troubled = False
        for backend in self.backends.values():
            backend.troubled = False
        until = self.clock.monotonic() + CALM
        while self.clock.monotonic() < until and self._faults():
            await self.clock.advance(5)

    def _faults(self) -> list[str]:
        running = {each.name: (each.me, each.counts) for each in self.processes if each.me is not None}
        found = [] if self.division is None else self.division.faults(running)
        for name, backend in self.backends.items():
            found += [f"{name}: {fault}" for fault in backend.overlaps]
            for source, vendor in self.vendors.items():
                for plan in vendor.plans.values():
                    run_id = str(run_id_of(source, plan.key))
                    arrivals = [one for one in backend.arrivals if one.run_id == run_id]
                    found += [f"{name}: {fault}" for fault in oracle.faults(plan, self.began, arrivals)]
        return found


@cache
def _shared_store() -> Store:
    """One open ledger for most simulations, each from an empty file: opening and compiled statements cost more than they do."""
    folder = quick_folder()
    atexit.register(folder.cleanup)
    return open_store(Path(folder.name))


def forget_ledger() -> None:
    """The next simulation opens a new one."""
    if _shared_store.cache_info().currsize:
        _shared_store()._close()
        _shared_store.cache_clear()


def _own_store() -> Store:
    """A ledger in a folder of its own, which is closed and opened again at each kill."""
    folder = quick_folder()
    atexit.register(folder.cleanup)
    return open_store(Path(folder.name))


def _reopened(store: Store) -> Store:
    store._close()
    return open_store(store.path.parent)


def _reset(store: Store) -> Store:
    """Empty, as it was made. Connections forget the runs they remember by number and time of writing, which come again."""
    assert store._write_engine is not None
    with closing(sqlite3.connect(migrated())) as empty, store._write_engine.connect() as conn:
        raw: Any = conn.connection.dbapi_connection
        empty.backup(raw)
    for engine in (store._write_engine, *store._read_engines.values()):
        with engine.connect() as conn:
            conn.info.clear()
    return store


def _as_opened(conn: Any) -> None:
    """What opening the file does after a kill."""
    leases.end_all(conn)
    replicas.end_all(conn)


def explore(seed: int, *, divided: bool | None = None) -> tuple[list[str], Counter[str]]:
    """What is wrong in the simulation with this seed, and which rare states it reached."""
    simulation = Simulation(seed, divided=divided)
    return asyncio.run(simulation.run()), simulation.reached
