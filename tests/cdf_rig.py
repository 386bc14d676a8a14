"""A CDF adapter against its simulator over real loopback HTTP, with simulated time."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import collector.lineage.sql.reader  # noqa: F401 - the first query waits five seconds and not for this
from collector.http import HttpClient, HttpOptions
from collector.lifecycle import VanishedPolicy
from collector.platforms.base import Context
from collector.platforms.cdf import CdfPlatform, create
from collector.testing.clock import ServerClock, SimulatedClock
from collector.testing.poller import POLICY, SimulatedPoller
from config.sources import CdfSource
from simulators.cdf import CdfSimulator, Modes
from simulators.server import Served


@dataclass
class CdfRig:
    simulator: CdfSimulator
    served: Served
    clock: SimulatedClock
    poller: SimulatedPoller
    server: ServerClock
    statuses: Counter[int | None] = field(default_factory=Counter)
    """Answers by status; None for requests without one."""

    @property
    def platform(self) -> CdfPlatform:
        assert isinstance(self.poller.platform, CdfPlatform)
        return self.poller.platform

    def requests(self) -> int:
        return sum(self.statuses.values())

    async def platform_again(self, **changed: Any) -> CdfPlatform:
        """The adapter of a new process: it has forgotten all that is not in the ledger."""
        await self.platform.close()
        made, self.statuses = _platform(self.served.url, self.clock, changed)
        self.poller.restart(made)
        return made


def source(url: str, **changed: Any) -> CdfSource:
    auth = {
        "provider": "oidc",
        "token_url": f"{url}/oauth2/token",
        "client_id": "collector",
        "client_secret": "simulated-secret",
    }
    given = {"platform": "cdf", "name": "plant", "base_url": url, "project": "plant-a", "auth": auth}
    return CdfSource.model_validate(given | changed)


@asynccontextmanager
async def cdf_rig(modes: Modes | None = None, **changed: Any) -> AsyncIterator[CdfRig]:
    """`changed` are keys of the source's configuration."""
    clock = SimulatedClock()
    server = ServerClock(clock)
    simulator = CdfSimulator(seed=5, now=server.now, modes=modes)
    async with Served(simulator) as served:
        made, statuses = _platform(served.url, clock, changed)
        poller = SimulatedPoller(made, clock)
        if changed.get("on_vanished") == "abort":
            poller.policy = type(POLICY)(POLICY.enrich_within, VanishedPolicy.ABORT)
        rig = CdfRig(simulator, served, clock, poller, server, statuses)
        try:
            yield rig
        finally:
            await rig.poller.platform.close()


def _platform(url: str, clock: SimulatedClock, changed: Mapping[str, Any]) -> tuple[CdfPlatform, Counter[int | None]]:
    statuses: Counter[int | None] = Counter()

    def count_status(_: str, status: int | None, seconds: float, headers: Mapping[str, str]) -> None:
        statuses[status] += 1

    config = source(url, **changed)
    http = HttpClient(HttpOptions(), count_status)
    return create(config, Context("plant", config.job_namespace, http, clock, lambda: 0.5)), statuses
