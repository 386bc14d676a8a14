"""Secrets and people in every field that a vendor can fill, through the whole program: none comes out anywhere."""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from collector.app import check
from collector.app.service import Service
from collector.clock import SystemClock
from collector.ledger.requests import RequestKind
from collector.logs import set_up
from collector.testing.faults import Fault, FaultKind
from config.settings import Settings
from simulators.cdf import CdfSimulator, Ending, populate
from simulators.cdf import Scenario as CdfScenario
from simulators.dataprep import DEFAULT_TOKEN, DataprepSimulator, Level, Switches
from simulators.server import Served
from simulators.wetransform import Plan, Scenario, WetransformSimulator
from tests.deployment import now
from tests.planted_secrets import SHAPES, LeakySimulator, PlantedSecrets

OURS = ('a "client/secret" + é & 1', "wetransform-token", DEFAULT_TOKEN, "the sink's api key 2")
"""What the program is given itself."""
REFUSALS = (400, 401, 403, 404, 409, 422, 429, 500)


pytestmark = pytest.mark.usefixtures("logging_as_it_was")


@dataclass
class Out:
    """All that comes out of the program, by where."""

    texts: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, text: str) -> None:
        self.texts[where] = self.texts.get(where, "") + text


class Simulators:
    """The three simulators with planted secrets in each, and the program's configuration for them."""

    def __init__(self, folder: Path, secrets: PlantedSecrets) -> None:
        self.folder, self.secrets = folder, secrets
        self.cdf = CdfSimulator(seed=1, now=now)
        self.cdf.identity.client_secret = OURS[0]
        self.posts = 0
        populate(self.cdf)
        self.wetransform = WetransformSimulator(seed=2, now=now)
        switches = Switches(error_text="workloadError", creator_bytes=300)
        self.dataprep = DataprepSimulator(seed=3, now=now, level=Level.L2, switches=switches)
        self.planted = {
            "cdf": LeakySimulator("cdf", self.cdf, secrets),
            "wetransform": LeakySimulator("wetransform", self.wetransform, secrets),
            "dataprep": LeakySimulator("dataprep", self.dataprep, secrets, untouched="open-api-spec"),
        }

    def begin(self) -> None:
        """Runs that are there before the program looks."""
        tasks: list[tuple[Any, CdfScenario | None]] = []
        for number, found in enumerate(list(self.cdf.transformations)[:5]):
            ending = Ending.FAILED if number % 2 else Ending.COMPLETED
            tasks.append((found, CdfScenario(0.1, 0.5, ending)))
        self.cdf.start_workflow("nightly", tasks[:2])
        for found, scenario in tasks[2:]:
            self.cdf.start_run(found, scenario)
        for ended in ("complete", "failed", "partial", "canceled", "complete", "complete"):
            self.dataprep.start_run(ended, pace=0.02)

    async def backend(self, request: web.Request) -> web.Response:
        """A sink that is away once, then refuses each event, and repeats the header that it was sent."""
        self.posts += 1
        refusal = self.secrets.repeating({"error": request.headers["Authorization"]}, f"sink {self.posts % 40}")
        return web.json_response(refusal, status=400 if self.posts > 1 else 503)

    async def watch(self, service: Service) -> list[Any]:
        answers = []
        for scenario in (Scenario.STRAIGHT, Scenario.FAILING, Scenario.REVIEW):
            run = self.wetransform.start(self.wetransform.transformations[0], Plan(scenario, timedelta(seconds=0.6)))
            answers.append(
                await service.submit("source:wetransform", RequestKind.WATCH, {"key": run.key, "options": {}})
            )
        return answers

    def settings(self, urls: dict[str, str]) -> Settings:
        auth = {"token_url": f"{urls['cdf']}/oauth2/token", "client_id": "collector", "client_secret": OURS[0]}
        usual = {"poll_interval": "200ms", "enrich_within": "5s", "requests_per_minute": 60_000, "burst": 1000}
        quick = {"active": "100ms", "active_most": "200ms", "waiting": "200ms", "waiting_most": "200ms"}
        sources: list[dict[str, Any]] = [
            {"platform": "cdf", "project": "plant-a", "auth": auth, "workflows": True},
            {"platform": "wetransform", "tenant": "acme", "token": OURS[1], "intervals": quick, "discover": True},
            {"platform": "dataprep", "workspace": "1", "token": OURS[2]},
        ]
        named = [usual | each | {"name": each["platform"], "base_url": urls[each["platform"]]} for each in sources]
        return Settings.model_validate(
            {
                "ledger": {"path": self.folder / "lineage.db"},
                "http": {"listen": "127.0.0.1:0"},
                "stop_within": "5s",
                "sources": named,
                "sinks": [
                    {"name": "file", "type": "file", "path": self.folder / "events.ndjson"},
                    {"name": "backend", "type": "openlineage", "url": urls["backend"], "api_key": OURS[3]},
                ],
            }
        )

    def unfinished(self) -> int:
        rows = [row for simulator in self.planted.values() for row in simulator.expected_runs()]
        return sum(row["state"] in {"queued", "running", "waiting"} for row in rows)


@asynccontextmanager
async def running(simulators: Simulators) -> AsyncIterator[Service]:
    async with AsyncExitStack() as stack:
        urls = {}
        for name, planted in simulators.planted.items():
            urls[name] = (await stack.enter_async_context(Served(planted))).url
        app = web.Application()
        app.router.add_post("/api/v1/lineage", simulators.backend)
        urls["backend"] = str((await stack.enter_async_context(TestServer(app))).make_url("")).rstrip("/")
        yield await stack.enter_async_context(Service(simulators.settings(urls)))


async def pages(service: Service, out: Out) -> None:
    openmetrics = {"Accept": "application/openmetrics-text;version=1.0.0"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as client:
        for path, headers in (("/", {}), ("/status.json", {}), ("/metrics", {}), ("/metrics", openmetrics)):
            async with client.get(path, headers=headers) as answer:
                out.add(f"page {path}", await answer.text())


KINDS = ("runs", "jobs", "datasets", "sources", "sinks", "replicas", "parked", "skipped")
MOST = 400


async def every_page(service: Service, out: Out) -> None:
    """Every page to which a link leads, as it is sent and as a browser shows it, and its JSON."""
    left, known = [*(f"/{kind}" for kind in KINDS[:3]), "/", "/replicas"], set[str]()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as client:
        while left and len(known) < MOST:
            path = left.pop()
            if path in known or path.startswith(("/metrics", "/static")):
                continue
            known.add(path)
            async with client.get(URL(path, encoded=True)) as answer:
                text = await answer.text()
            assert answer.status == 200, path
            out.add(f"page of {path.split('/')[1] or 'all'}", f"{text}{unescape(text)}")
            if answer.content_type == "text/html":
                left += [unescape(link) for link in re.findall(r'href="(/[^"]*)"', text)]
    api = {kind for kind in KINDS for path in known if path.startswith(f"/api/v1/{kind}/")}
    html = {kind for kind in KINDS for path in known if path.startswith(f"/{kind}")}
    assert html == set(KINDS)
    assert api == {"runs", "jobs", "datasets", "sources", "sinks"}


async def commands(service: Service, out: Out) -> None:
    """The answers to people who start or watch a run, or have everything checked."""

    async def asked(name: str, kind: RequestKind, body: dict[str, Any]) -> None:
        out.add(f"answers to {kind}", repr(await service.submit(f"source:{name}", kind, body | {"options": {}})))

    async def checked() -> None:
        out.add("check", repr(await check._all(service.settings, SystemClock())))

    jobs = {"cdf": "12345", "wetransform": "5f0f1e9e-6a3c-4d0e-9d67-1f2c8a0f3b11", "dataprep": "1"}
    triggers = [asked(name, RequestKind.TRIGGER, {"job": job}) for name, job in jobs.items()]
    await asyncio.gather(checked(), *triggers, *(asked(name, RequestKind.WATCH, {"key": "1"}) for name in jobs))


async def everything(folder: Path, secrets: PlantedSecrets) -> Out:
    """A good time for all runs, then every refusal that the platforms have."""
    out, log, simulators = Out(), io.StringIO(), Simulators(folder, secrets)
    # the vendor's clients are patient with these
    patience = {429: {"Retry-After": "0", "x-retry-after": "0"}}
    set_up("debug", "json", log)
    simulators.begin()
    async with running(simulators) as service:
        out.add("answers to watch", repr(await simulators.watch(service)))
        async with asyncio.timeout(120):
            while simulators.unfinished() or await service.owed():
                await asyncio.sleep(0.1)
        await pages(service, out)
        await every_page(service, out)
        await commands(service, out)
        for status in REFUSALS:
            for planted in simulators.planted.values():
                planted.faults.clear()
                planted.faults.plan(Fault(FaultKind.STATUS, status=status, times=-1, headers=patience.get(status, {})))
            await asyncio.sleep(0.2)
            await commands(service, out)
            await pages(service, out)
        await service.drained()
    out.add("log", log.getvalue())
    out.add("events", (folder / "events.ndjson").read_text())
    assert simulators.posts > 20
    out.add("ledger", "".join(path.read_bytes().decode(errors="replace") for path in folder.glob("lineage.db*")))
    return out


def test_there_are_enough_shapes() -> None:
    assert len(set(SHAPES)) >= 50


@pytest.mark.parametrize("variant", [0, 29])
async def test_no_secret_comes_out(tmp_path: Path, variant: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.platforms.cdf.api.TRIES", 1)
    monkeypatch.setattr("collector.platforms.dataprep.trigger.PAUSE", 0.1)
    secrets = PlantedSecrets(variant, OURS)
    out = await everything(tmp_path, secrets)
    events = [orjson.loads(line) for line in out.texts["events"].splitlines()]
    ends = {event["run"]["runId"] for event in events if event["eventType"] in {"COMPLETE", "FAIL", "ABORT"}}
    assert len(ends) >= 14, "the runs were delivered all the same"
    assert {number for number, _ in secrets.planted} == set(range(len(SHAPES)))
    assert len(set.union(*secrets.planted.values())) > 300
    assert len(secrets.repeated) > 10
    assert "***" in out.texts["log"]
    texts = {where: (text, where != "ledger") for where, text in out.texts.items()}
    leaks = {where: found for where, (text, ids) in texts.items() if (found := secrets.found(text, in_ids=ids))}
    assert not leaks
