"""A Dataprep adapter against its simulator over real loopback HTTP, with simulated time."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from collector.http import HttpClient, HttpOptions
from collector.model import EventKind
from collector.platforms.base import Context
from collector.platforms.dataprep import create
from collector.platforms.dataprep.adapter import DataprepPlatform
from collector.testing.clock import ServerClock, SimulatedClock
from collector.testing.poller import SimulatedPoller
from config.sources import DataprepSource
from simulators.dataprep import DataprepSimulator, Level, Switches
from simulators.dataprep.workspace import Run as SimulatedRun
from simulators.server import Served

TOKEN = "dataprep-token"
ENDS = {"succeeded": EventKind.COMPLETE, "failed": EventKind.FAIL, "canceled": EventKind.ABORT}


@dataclass
class DataprepRig:
    """`statuses` counts answers by status, None for requests without one; each takes `seconds_each` of simulated time."""

    simulator: DataprepSimulator
    served: Served
    clock: SimulatedClock
    poller: SimulatedPoller
    server: ServerClock
    statuses: Counter[int | None] = field(default_factory=Counter)
    clients: list[HttpClient] = field(default_factory=list)
    seconds_each: float = 0.0

    @property
    def platform(self) -> DataprepPlatform:
        assert isinstance(self.poller.platform, DataprepPlatform)
        return self.poller.platform

    def requests(self) -> int:
        return sum(self.statuses.values())

    def adapter(self, **changed: Any) -> DataprepPlatform:
        """One of a new process: it has forgotten all that is not in the ledger."""
        config = source(self.served.url, **changed)

        def count_status(_: str, status: int | None, seconds: float, headers: Mapping[str, str]) -> None:
            self.statuses[status] += 1
            self.clock.advance(self.seconds_each)

        http = HttpClient(HttpOptions(), count_status)
        self.clients.append(http)
        made = create(config, Context("prep", config.job_namespace, http, self.clock, lambda: 0.5))
        assert isinstance(made, DataprepPlatform)
        return made

    def restart(self, **changed: Any) -> None:
        self.poller.platform = self.adapter(**changed)

    async def watch(self, run: SimulatedRun) -> None:
        """Hand a run in by its number, as a person does."""
        self.poller.adopt(await self.platform.watch(str(run.id), {}))

    def wrong(self) -> list[str]:
        """What the events have against the simulator's runs, for runs that ended."""
        faults = []
        for row in self.simulator.expected_runs():
            if row["state"] not in ENDS or row["ranfor"] not in {"recipe", "plan"}:
                continue
            kinds = [kind for kind in self.poller.kinds(row["key"]) if kind is not EventKind.OTHER]
            if kinds != [EventKind.START, ENDS[row["state"]]]:
                faults.append(f"run {row['key']} was {row['state']}, faults as {kinds}")
        return faults


def source(url: str, **changed: Any) -> DataprepSource:
    usual = {"platform": "dataprep", "name": "prep", "base_url": url, "workspace": "1", "token": TOKEN}
    return DataprepSource.model_validate(usual | {"requests_per_minute": None} | changed)


@asynccontextmanager
async def dataprep_rig(
    level: Level = Level.L2, switches: Switches | None = None, *, seed: int = 3, **changed: Any
) -> AsyncIterator[DataprepRig]:
    """`changed` are keys of the source's configuration."""
    clock = SimulatedClock()
    server = ServerClock(clock)
    simulator = DataprepSimulator(seed=seed, now=server.now, level=level, switches=switches)
    async with Served(simulator) as served:
        rig = DataprepRig(simulator, served, clock, None, server)  # type: ignore[arg-type]
        rig.poller = SimulatedPoller(rig.adapter(**changed), clock)
        try:
            yield rig
        finally:
            for client in rig.clients:
                await client.close()
