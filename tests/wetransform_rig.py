"""A wetransform simulator with adapters for it, over real HTTP and simulated time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from collector.http import HttpClient, HttpOptions
from collector.model import Observation
from collector.platforms.base import Context
from collector.platforms.wetransform import Wetransform, create
from collector.testing.clock import SimulatedClock
from collector.testing.poller import SimulatedPoller
from config.sources import WetransformSource
from simulators.server import Served
from simulators.wetransform import Plan, Scenario, WetransformSimulator
from simulators.wetransform.state import Run as SimulatedRun

TOKEN = "wetransform-token"
NAMESPACE = "wetransform://api.wetransform.com/acme"


class WetransformRig:
    """`statuses` are those of all requests that its adapters made, None where no answer came."""

    def __init__(self, simulator: WetransformSimulator, clock: SimulatedClock, served: Served) -> None:
        self.simulator, self.clock, self.served, self.url = simulator, clock, served, served.url
        self.statuses: list[int | None] = []
        self._clients: list[HttpClient] = []

    def adapter(self, **settings: Any) -> Wetransform:
        """A fresh one, as after a restart."""
        given = {"platform": "wetransform", "name": "wt", "base_url": self.url, "tenant": "acme", "token": TOKEN}
        config = WetransformSource.model_validate(given | settings)
        http = HttpClient(HttpOptions(), lambda _url, status, *_: self.statuses.append(status))
        self._clients.append(http)
        return create(config, Context("wt", NAMESPACE, http, self.clock, lambda: 0.5))

    def poller(self, **settings: Any) -> SimulatedPoller:
        return SimulatedPoller(self.adapter(**settings), self.clock)

    def start(self, scenario: Scenario = Scenario.STRAIGHT, seconds: float = 20, **more: Any) -> SimulatedRun:
        it = more.pop("transformation", None) or self.simulator.transformations[0]
        return self.simulator.start(it, Plan(scenario, timedelta(seconds=seconds), **more))

    async def requests(self) -> dict[str, int]:
        """How often each "METHOD /path" was asked for, as the simulator saw it."""
        http = HttpClient(HttpOptions())
        answer = await http.request("GET", f"{self.url}/_control/requests")
        await http.close()
        counts: dict[str, int] = answer.json()["requests"]
        return counts

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


@asynccontextmanager
async def wetransform_rig(clock: SimulatedClock, *, seed: int = 11) -> AsyncIterator[WetransformRig]:
    simulator = WetransformSimulator(seed=seed, now=clock.now)
    async with Served(simulator) as served:
        rig = WetransformRig(simulator, clock, served)
        yield rig
        await rig.close()


async def watched(poller: SimulatedPoller, run: SimulatedRun, **options: str) -> Observation:
    """Hand a run in by its id, as a person does."""
    seen = await poller.platform.watch(run.key, {"transformation": run.transformation.key} | options)
    poller.adopt(seen)
    return seen
