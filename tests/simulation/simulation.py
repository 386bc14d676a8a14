"""The production loops of sources and sinks over a real ledger, in simulated time, while platforms,
backends, network, disk, clock and process fail.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from collector.clock import to_ms
from collector.errors import LedgerError
from collector.ledger import configured_sinks, configured_sources
from collector.ledger.configured_sources import Configured
from collector.ledger.held_lease import Leases
from collector.lifecycle import VanishedPolicy
from collector.lineage.events import EventMaker
from collector.polling.decision import Policy
from collector.polling.schedule import Rhythm
from collector.polling.source import SourcePoller
from exporters.delivery.delivery import Delivery
from tests.e2e.pollers import Reports as PollReports
from tests.simulation import oracle
from tests.simulation.backend import Backend
from tests.simulation.vendor import Adapter, Vendor, plans, run_id_of
from tests.task_clock import TaskClock
from tests.unit.exporters.delivery_simulation import Reports as SendReports
from tests.unit.exporters.delivery_simulation import WatchedStore, open_store, quick_folder

TROUBLE = 400.0
"""Seconds in which things fail; all runs end within them."""
CALM = 6000.0
"""Seconds in which everything must have arrived, once nothing fails any more."""
SOURCES = ("plant", "lab")


class Disk(WatchedStore):
    """A ledger whose disk fails: a write is refused, or done and its answer lost. `gone` is a process that was killed."""

    def __init__(self, store: Any, chance: Random, reached: Counter[str]) -> None:
        super().__init__(store, hops=lambda: chance.choice((0, 0, 0, 1, 5)))
        self._chance, self._reached = chance, reached
        self.failing = self.gone = False

    async def _watched(self, call: Callable[[], Awaitable[Any]]) -> Any:
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
        if self.gone:
            raise LedgerError("this process was killed")
        return answer


class Simulation:
    """`run` it once. `faults` says in words what broke a promise; `reached` counts the rare states that came up."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.reached: Counter[str] = Counter()
        self.folder = quick_folder()
        self.clock = TaskClock()
        self.began = self.clock.now()
        self.full: str | None = None
        self.vendors = {
            name: Vendor(
                name,
                self.chance,
                self.clock,
                self.began,
                plans(self.chance, name, self.chance.randint(1, 8), TROUBLE),
            )
            for name in SOURCES
        }
        self.backends = {
            "first": Backend(self.chance, self.clock, self.reached, rechecks=True),
            "second": Backend(self.chance, self.clock, self.reached, rechecks=False),
        }

    async def run(self) -> list[str]:
        """Trouble, then calm; what is wrong at the end."""
        await self._start()
        try:
            while self.clock.monotonic() < TROUBLE:
                await self.clock.advance(self.chance.uniform(1, 90))
                await self._disturb()
            await self._calm()
            return self._faults()
        finally:
            await self._kill()
            self.folder.cleanup()

    async def _start(self) -> None:
        self.store = Disk(open_store(Path(self.folder.name)), self.chance, self.reached)
        self.clock.store = self.store
        now_ms = to_ms(self.clock.now())
        sources = await self.store.write(
            configured_sources.sync_sources, [Configured(each) for each in SOURCES], now_ms
        )
        sinks = await self.store.write(
            configured_sinks.sync_sinks, {name: backend.wants for name, backend in self.backends.items()}, now_ms
        )
        self.sends = SendReports()
        for name in SOURCES:
            self.clock.start(self._poller(name, sources[name]).run())
        for name, sink_id in sinks.items():
            self.clock.start(self._delivery(name, sink_id).run())

    def _poller(self, name: str, source_id: int) -> SourcePoller:
        reports = PollReports()
        return SourcePoller(
            name=name,
            kind="world",
            source_id=source_id,
            platform=Adapter(self.vendors[name]),
            leases=Leases(self.store, self.clock, "world", reports.lease),  # a watched store is one for polling
            maker=EventMaker(name),
            policy=Policy(timedelta(seconds=60), VanishedPolicy.LEAVE_OPEN),
            rhythm=Rhythm(timedelta(seconds=30), timedelta(minutes=5)),
            clock=self.clock,
            random=self.chance.random,
            observer=reports,
            room=self,
            history=lambda _: Adapter(self.vendors[name]),
        )

    async def measure(self) -> str | None:
        """Whether the ledger is full after a commit of a poll."""
        if self.full is None and self.clock.monotonic() < TROUBLE and self.chance.random() < 0.05:
            self.full = "the ledger is full"
            self.reached["a ledger that was full in the middle of a poll"] += 1
        return self.full

    def _delivery(self, name: str, sink_id: int) -> Delivery:
        return Delivery(
            name,
            sink_id,
            self.backends[name],
            leases=Leases(self.store, self.clock, "world", self.sends.lease),
            clock=self.clock,
            random=self.chance.random,
            observer=self.sends,
        )

    async def _disturb(self) -> None:
        luck = self.chance.random()
        if luck < 0.25:
            if any(backend.busy for backend in self.backends.values()):
                self.reached["a kill with something in flight"] += 1
            self.reached["a kill"] += 1
            await self._kill()
            await self._start()
        elif luck < 0.35:
            self.store.failing = not self.store.failing
        elif luck < 0.45:
            self.full = None if self.full else "the ledger is full"
            self.reached["a full ledger"] += self.full is not None
        elif luck < 0.55:
            self.clock.wall = self.began + timedelta(seconds=self.chance.choice((-1800, -30, 0, 30, 1800)))
            self.reached["a clock that jumped"] += 1

    async def _kill(self) -> None:
        """Nothing is written any more, then all is gone."""
        self.store.gone = True
        await self.clock.stop()
        await self.store.close()

    async def _calm(self) -> None:
        self.store.failing, self.full = False, None
        for vendor in self.vendors.values():
            vendor.troubled = False
        for backend in self.backends.values():
            backend.troubled = False
        until = self.clock.monotonic() + CALM
        while self.clock.monotonic() < until and self._faults():
            await self.clock.advance(30)

    def _faults(self) -> list[str]:
        found = []
        for name, backend in self.backends.items():
            found += [f"{name}: {fault}" for fault in backend.overlaps]
            for source, vendor in self.vendors.items():
                for plan in vendor.plans.values():
                    run_id = str(run_id_of(source, plan.key))
                    arrivals = [one for one in backend.arrivals if one.run_id == run_id]
                    found += [f"{name}: {fault}" for fault in oracle.faults(plan, self.began, arrivals)]
        return found


def explore(seed: int) -> tuple[list[str], Counter[str]]:
    """What is wrong in the simulation with this seed, and which rare states it reached."""
    simulation = Simulation(seed)
    return asyncio.run(simulation.run()), simulation.reached
