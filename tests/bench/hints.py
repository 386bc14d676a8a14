"""From a hint to the acknowledged event, on both stores: `python -m tests.bench.hints COUNT`.

A run starts at the simulated platform, which is polled once an hour, and a signed hint is posted. Measured is the time until
the sink acknowledged the run's START: the hint's commit, the poll, the event's commit and its delivery. A service on each store has
its hints 1.2 s apart, the stores in turn.
"""

import asyncio
import hmac
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from collector.app.observers import Observers
from collector.app.service import Service
from collector.model import EventKind
from config.settings import Settings
from exporters.delivery.reports import SendReport, SendResult
from simulators.cdf import CdfSimulator
from simulators.cdf.scenarios import Scenario
from simulators.server import Served
from tests.bench.__main__ import responder
from tests.servers.postgres import PASSWORD, postgres_server

SECRET = "a secret of the benchmark"
APART = 1.2
"""Seconds: polls that are asked for come a second apart."""


class Starts(Observers):
    """Hears of each START that was acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged = asyncio.Event()

    def sent(self, report: SendReport) -> None:
        if report.result is SendResult.OK and report.kind is EventKind.START:
            self.acknowledged.set()


class Hinted:
    """A service with its simulated platform."""

    def __init__(self, simulator: CdfSimulator, starts: Starts, client: httpx.AsyncClient) -> None:
        self._simulator, self._starts, self._client = simulator, starts, client

    async def latency(self) -> float:
        """Milliseconds of one hint."""
        self._simulator.start_run("load-assets", Scenario(starts_after=0, runs_for=None))
        self._starts.acknowledged.clear()
        body = b'{"job": "load-assets"}'
        signature = hmac.new(SECRET.encode(), body, sha256).hexdigest()
        began = time.perf_counter()
        answer = await self._client.post("/hints/cdf", content=body, headers={"X-Signature": signature})
        assert answer.status_code == 202, answer.text
        async with asyncio.timeout(10):
            await self._starts.acknowledged.wait()
        return (time.perf_counter() - began) * 1000


@asynccontextmanager
async def hinted(ledger: Mapping[str, Any], url: str) -> AsyncIterator[Hinted]:
    simulator, starts = CdfSimulator(seed=3), Starts()
    simulator.add_transformation("load-assets", destination={"type": "assets"}, query="select 1")
    with tempfile.TemporaryDirectory(prefix="hints-") as sockets:
        places = {"ledger": ledger, "control_socket": f"{sockets}/control"}
        async with Served(simulator) as served:
            service = Service(_settings(places, served.url, url), observers=[starts])
            async with service, httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as client:
                yield Hinted(simulator, starts, client)


async def latencies(ledgers: Mapping[str, Mapping[str, Any]], url: str, count: int) -> dict[str, list[float]]:
    """Of each ledger, in turn."""
    found: dict[str, list[float]] = {name: [] for name in ledgers}
    async with AsyncExitStack() as stack:
        services = {name: await stack.enter_async_context(hinted(ledger, url)) for name, ledger in ledgers.items()}
        await asyncio.sleep(3)  # the first polls
        for number in range(count + 1):
            for name, service in services.items():
                await asyncio.sleep(APART / len(services))
                latency = await service.latency()
                if number:  # the first one starts the process that reads SQL, which takes a second
                    found[name].append(latency)
    return found


def _settings(places: Mapping[str, Any], platform: str, sink: str) -> Settings:
    auth = {"token_url": f"{platform}/oauth2/token", "client_id": "collector", "client_secret": "simulated-secret"}
    source = {"name": "cdf", "platform": "cdf", "base_url": platform, "project": "plant-a", "auth": auth}
    return Settings.model_validate(
        {
            **places,
            "http": {"listen": "127.0.0.1:0"},
            "sources": [{**source, "poll_interval": "1h", "hint_secret": SECRET}],
            "sinks": [{"name": "responder", "type": "openlineage", "url": sink}],
        }
    )


def shown(found: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(found, n=100, method="inclusive")
    return {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "count": len(found)}


def main(count: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder, responder() as url, postgres_server(durable=True) as postgres:
        ledgers: dict[str, dict[str, Any]] = {
            "sqlite": {"path": Path(folder) / "lineage.db"},
            "postgres": {"url": postgres.url(postgres.new_database()), "password": PASSWORD},
        }
        found = asyncio.run(latencies(ledgers, url, count))
    return {name: shown(each) for name, each in found.items()}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
