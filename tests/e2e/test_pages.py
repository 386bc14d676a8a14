"""The pages of the running program: what they notice, and what they never show."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from collector.app.service import Service
from collector.errors import LedgerError
from collector.ledger import retention
from collector.testing.faults import Fault, FaultKind
from config.settings import Settings
from simulators.cdf import Ending, Scenario
from tests.deployment import CDF, DATAPREP, WETRANSFORM, Deployment

LISTS = tuple(
    f"{base}/{name}" for base in ("", "/api/v1") for name in ("runs", "jobs", "datasets", "parked", "skipped")
)
OF_PARTS = (
    *(f"{base}/sources/{name}" for base in ("", "/api/v1") for name in (CDF, WETRANSFORM, DATAPREP)),
    *(f"{base}/sinks/{name}" for base in ("", "/api/v1") for name in ("file", "marquez")),
)
OF_LEDGER = (*LISTS, *OF_PARTS)
OF_STATE = ("/replicas", "/api/v1/sources", "/api/v1/sinks", "/api/v1/replicas")
PAGES = ("/", *OF_LEDGER, *OF_STATE, "/metrics", "/status.json", "/healthz", "/readyz")


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with Deployment(tmp_path) as made:
        made.settings["stop_within"] = "2s"
        yield made


@asynccontextmanager
async def running(deployment: Deployment) -> AsyncIterator[tuple[Service, aiohttp.ClientSession]]:
    """The program within this process."""
    async with (
        Service(Settings.model_validate(deployment.settings)) as service,
        aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as client,
    ):
        yield service, client


async def fetched(client: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str]:
    async with client.get(path, headers=headers) as answer:
        return answer.status, await answer.text()


async def until_ready(client: aiohttp.ClientSession) -> None:
    while (await fetched(client, "/readyz"))[0] != 200:
        await asyncio.sleep(0.05)


async def test_readiness_waits_for_the_first_try_of_every_source(deployment: Deployment) -> None:
    slow = Fault(FaultKind.SLOW, "transformations/jobs", times=-1, delay=300)
    deployment.cdf.faults.plan(slow)
    async with running(deployment) as (service, client):
        wanted = f"source {CDF} was not polled yet\n"
        while (answer := await fetched(client, "/readyz")) != (503, wanted):
            assert answer[0] == 503
            await asyncio.sleep(0.05)
        assert await fetched(client, "/healthz") == (200, "ok\n")
        assert service.unready() == [wanted.strip()]


async def test_a_source_that_fails_is_ready_all_the_same(deployment: Deployment) -> None:
    """An outage of somebody else must not take this process out of service."""
    for simulator in (deployment.cdf, deployment.wetransform, deployment.dataprep, deployment.marquez):
        simulator.faults.plan(Fault(FaultKind.HTML, times=-1))
    async with running(deployment) as (_, client):
        await until_ready(client)
        assert await fetched(client, "/healthz") == (200, "ok\n")
        _, page = await fetched(client, "/")
    assert "502" in page, "but it is shown"


async def test_a_dead_task_is_noticed(deployment: Deployment) -> None:
    async with running(deployment) as (service, client):
        await until_ready(client)
        service._tasks[f"source:{DATAPREP}"].cancel()
        while (await fetched(client, "/healthz"))[0] == 200:
            await asyncio.sleep(0.01)
        assert await fetched(client, "/healthz") == (503, f"task source:{DATAPREP} has ended\n")
        assert (await fetched(client, "/readyz"))[0] == 503
        assert await service.until(asyncio.Event()) == f"source:{DATAPREP}"


async def test_loops_that_do_not_come_round_are_noticed(deployment: Deployment) -> None:
    async with running(deployment) as (service, client):
        await until_ready(client)
        service._parts.pollers[CDF].expected_by = 0.0
        service._parts.deliveries["marquez"]._came_round_at = -1000.0
        service._parts.housekeeper.expected_by = 0.0
        code, said = await fetched(client, "/healthz")
    assert code == 503
    assert said.splitlines() == [f"source {CDF} is stuck", "sink marquez is stuck", "the ledger is stuck"]


async def test_a_ledger_that_cannot_be_read_breaks_no_page(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise LedgerError("ledger lineage.db: disk I/O error; nothing was committed")

    async with running(deployment) as (service, client):
        await until_ready(client)
        with monkeypatch.context() as patched:
            patched.setattr(service.store, "read_shown", refuse)
            answers = {path: await fetched(client, path) for path in PAGES}
        assert {path for path, (code, _) in answers.items() if code != 200} == set(OF_LEDGER)
        for path in OF_LEDGER:
            assert answers[path][0] == 503
            assert "disk I/O error" in answers[path][1]
        assert "lineage_ledger_read_failures_total 1.0" in answers["/metrics"][1]
        assert "lineage_ledger_bytes" not in answers["/metrics"][1]
        assert "disk I/O error" in answers["/status.json"][1]
        assert "disk I/O error" in answers["/"][1]
        assert "lineage_ledger_bytes" in (await fetched(client, "/metrics"))[1], "it is there again at the next scrape"


async def test_a_full_ledger_pauses_polling_and_says_so_everywhere(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.settings["ledger"]["max_size"] = "4MiB"
    monkeypatch.setattr(retention, "size", lambda _: retention.Size(5_000_000, 5_000_000))
    deployment.cdf.start_run(next(iter(deployment.cdf.transformations)), Scenario(0.0, 0.0))
    async with running(deployment) as (_, client):
        await until_ready(client)
        status = (await fetched(client, "/status.json"))[1]
        metrics = (await fetched(client, "/metrics"))[1]
        landing = (await fetched(client, "/"))[1]
    for name in (CDF, WETRANSFORM, DATAPREP):
        assert f'lineage_poll_total{{result="paused",source="{name}"}}' in metrics
        assert f'lineage_poll_total{{result="ok",source="{name}"}} 0.0' in metrics
        assert await deployment.requests(name, ".") == 0
    assert status.count("polling pauses") == 4, "each source, and the ledger"
    assert "polling pauses" in landing


SECRETS = {
    "client": "geheim-client-3391",
    "dataprep": "geheim-token-1180",
    "wetransform": "geheim-token-7702",
    "api_key": "geheim-key-5512",
    "header": "geheim-header-9938",
    "proxy": "geheim-proxy-2214",
}


async def test_no_page_shows_a_secret_whatever_goes_wrong(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cdf, wetransform, dataprep = deployment.settings["sources"]
    cdf["auth"]["client_secret"] = SECRETS["client"]
    wetransform["token"], dataprep["token"] = SECRETS["wetransform"], SECRETS["dataprep"]
    marquez = deployment.settings["sinks"][1]
    marquez["network"] = {"headers": {"X-Auth": SECRETS["header"]}}
    other = {"name": "other", "type": "openlineage", "url": deployment.urls["marquez"], "api_key": SECRETS["api_key"]}
    monkeypatch.setenv("PROXY", f"http://me:{SECRETS['proxy']}@127.0.0.1:9")
    proxied = {
        "name": "proxied",
        "type": "marquez",
        "url": deployment.urls["marquez"],
        "network": {"proxy": "${env:PROXY}"},
    }
    deployment.settings["sinks"] += [other, proxied]
    everything = " ".join(SECRETS.values())
    echo = Fault(FaultKind.STATUS, times=-1, status=401, body={"error": {"code": 401, "message": everything}})
    async with running(deployment) as (service, client):
        await until_ready(client)
        pages = [await fetched(client, path) for path in PAGES]
        for simulator in (deployment.cdf, deployment.wetransform, deployment.dataprep, deployment.marquez):
            simulator.faults.plan(echo)
        deployment.wetransform.start(deployment.wetransform.transformations[0])
        while sum(bool(row["wrong"]) for row in (await service.status())["sources"]) < 2:
            await asyncio.sleep(0.05)
        pages += [await fetched(client, path) for path in PAGES]
        pages.append(await fetched(client, "/metrics", Accept="application/openmetrics-text"))
    shown = "".join(text for _, text in pages) + caplog.text
    assert [name for name, secret in SECRETS.items() if secret in shown] == []


async def test_the_landing_page_shows_sources_and_sinks(deployment: Deployment) -> None:
    deployment.cdf.start_run(next(iter(deployment.cdf.transformations)), Scenario(0.0, 0.1, Ending.FAILED))
    async with running(deployment) as (service, client):
        await until_ready(client)
        assert await service.drained()
        _, page = await fetched(client, "/")
        of_all = [await fetched(client, path) for path in OF_PARTS]
    for name in (CDF, WETRANSFORM, DATAPREP):
        assert f'href="/sources/{name}"' in page
    for name in ("file", "marquez"):
        assert f'href="/sinks/{name}"' in page
    assert page.count('class="state delivering"') == 2
    assert {code for code, _ in of_all} == {200}
