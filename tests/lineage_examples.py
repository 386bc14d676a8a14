"""The example events of docs/lineage.md, as the adapters make them of what the simulators answer.

`python -m tests.lineage_examples` writes them into the page.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson

import collector.lineage.sql.reader  # noqa: F401 - the first query waits five seconds and not for this
from collector.http import HttpClient, HttpOptions, Received
from collector.lineage.aliases import Alias, Aliases
from collector.lineage.events import EventMaker
from collector.platforms import cdf, dataprep, wetransform
from collector.platforms.base import Context
from collector.testing.clock import SimulatedClock
from collector.testing.poller import SimulatedPoller
from config.sources import CdfSource, DataprepSource, WetransformSource
from simulators.cdf import CdfSimulator, Scenario
from simulators.dataprep import DEFAULT_TOKEN, DataprepSimulator
from simulators.server import Served
from simulators.wetransform import Plan, WetransformSimulator

PAGE = Path(__file__).parents[1] / "docs" / "lineage.md"
ALIASES = Aliases((Alias("cdf://*", "raw/sap/*", "postgres://erp.example.com:5432", "erp.public.*"),))
_REPEATED = {"_producer", "_schemaURL", "producer", "schemaURL", "openlineageAdapterVersion"}


class _Vendor(HttpClient):
    """Asks the simulator in place of the vendor, so that names and links are those of the vendor's hosts."""

    def __init__(self, simulator: str) -> None:
        super().__init__(HttpOptions())
        self._simulator = simulator

    async def request(self, method: str, url: str, **more: Any) -> httpx.Response:
        return await super().request(method, self._of_simulator(url), **more)

    async def send(self, method: str, url: str, **more: Any) -> Received:
        return await super().send(method, self._of_simulator(url), **more)

    def _of_simulator(self, url: str) -> str:
        return re.sub(r"^https://[^/]+", self._simulator, url)


def _context(name: str, config: Any, served: Served, clock: SimulatedClock) -> Context:
    return Context(name, config.job_namespace, _Vendor(served.url), clock, lambda: 0.5)


async def of_cdf() -> dict[str, Any]:
    """A transformation that a workflow started, with an alias for the SAP tables."""
    clock = SimulatedClock()
    simulator = CdfSimulator(seed=5, now=clock.now)
    simulator.add_transformation(
        "pump_assets",
        {"type": "raw", "database": "clean", "table": "pumps"},
        "select p.id as key, upper(p.name) as name\nfrom sap.pumps p\nwhere p.site = 'north'",
        name="Pumps from SAP",
        conflict_mode="upsert",
    )
    config = CdfSource.model_validate(
        {
            "platform": "cdf",
            "name": "plant",
            "base_url": "https://westeurope-1.cognitedata.com",
            "project": "plant-a",
            "workflows": True,
            "auth": {
                "provider": "cognite",
                "client_id": simulator.identity.client_id,
                "client_secret": simulator.identity.client_secret,
            },
        }
    )
    async with Served(simulator) as served:
        platform = cdf.create(config, _context("plant", config, served, clock))
        poller = SimulatedPoller(platform, clock, maker=EventMaker("plant", aliases=ALIASES))
        await poller.cycle()
        simulator.start_workflow("nightly", [("pump_assets", Scenario(1, 20))])
        await poller.follow(60)
        await platform.close()
    return _last(poller, "COMPLETE", child=True)


async def of_wetransform() -> dict[str, Any]:
    """A customer's file."""
    clock = SimulatedClock()
    simulator = WetransformSimulator(seed=11, now=clock.now)
    simulator.file_host = "https://files.wetransform.com"
    config = WetransformSource.model_validate(
        {"platform": "wetransform", "name": "customers", "tenant": "acme", "token": "wetransform-token"}
    )
    async with Served(simulator) as served:
        platform = wetransform.create(config, _context("customers", config, served, clock))
        poller = SimulatedPoller(platform, clock, maker=EventMaker("customers"))
        known = simulator.transformations[0]
        run = simulator.start(known, Plan(duration=timedelta(seconds=30)))
        poller.adopt(await platform.watch(run.key, {"transformation": known.key}))
        await poller.follow(90)
        await platform.close()
    return _last(poller, "COMPLETE")


async def of_dataprep() -> dict[str, Any]:
    """A recipe whose last stage failed after it had written its file."""
    clock = SimulatedClock()
    simulator = DataprepSimulator(seed=3, now=clock.now)
    config = DataprepSource.model_validate(
        {"platform": "dataprep", "name": "prep", "workspace": "12345", "token": DEFAULT_TOKEN}
    )
    async with Served(simulator) as served:
        platform = dataprep.create(config, _context("prep", config, served, clock))
        poller = SimulatedPoller(platform, clock, maker=EventMaker("prep"))
        await poller.cycle()
        simulator.start_run("partial", pace=0.1)
        await poller.follow(600)
        await platform.close()
    return _last(poller, "FAIL")


EXAMPLES: Mapping[str, Callable[[], Awaitable[dict[str, Any]]]] = {
    "cdf": of_cdf,
    "wetransform": of_wetransform,
    "dataprep": of_dataprep,
}


def _last(poller: SimulatedPoller, kind: str, *, child: bool = False) -> dict[str, Any]:
    """The last event of a kind, of a child or of a root."""
    events = [orjson.loads(line) for line in poller.events]
    found: list[dict[str, Any]] = [
        event for event in events if event["eventType"] == kind and ("parent" in event["run"]["facets"]) == child
    ]
    return found[-1]


def shown(event: dict[str, Any]) -> str:
    """As the page shows it: without what every facet has."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(each) for key, each in value.items() if key not in _REPEATED}
        return [without(each) for each in value] if isinstance(value, list) else value

    return _pretty(without(event))


def _pretty(value: Any, indent: str = "") -> str:
    """JSON with what fits into a line on one line."""
    short = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if len(indent) + len(short) < 110 or not isinstance(value, dict | list):
        return short
    deeper = f"{indent}  "
    if isinstance(value, list):
        inside = [f"{deeper}{_pretty(each, deeper)}" for each in value]
        return "\n".join(["[", ",\n".join(inside), f"{indent}]"])
    inside = [f"{deeper}{json.dumps(key)}: {_pretty(value[key], deeper)}" for key in sorted(value)]
    return "\n".join(["{", ",\n".join(inside), f"{indent}}}"])


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- example {name}: .*? -->\n```json\n)(.*?)(\n```)", re.DOTALL)


async def written(page: str) -> str:
    """The page with fresh examples."""
    for name, make in EXAMPLES.items():
        example = shown(await make())
        page = block(name).sub(lambda found, text=example: f"{found[1]}{text}{found[3]}", page)  # type: ignore[misc]
    return page


if __name__ == "__main__":
    PAGE.write_text(asyncio.run(written(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
