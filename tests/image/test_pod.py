"""The image as the chart's pod runs it: killed, started again, scraped, its secrets rotated, ended."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from collector import __version__
from simulators.cdf import Ending, Scenario
from simulators.dataprep import DEFAULT_TOKEN
from simulators.wetransform import Plan
from tests.deployment import CDF, DATAPREP, PATIENCE, WETRANSFORM, Deployment
from tests.image.pod import Pod
from tests.servers.helm import Helm
from tests.servers.podman import REVISION, Container, Image
from tests.servers.ports import free_port

SECRETS = {
    "cdf-credentials": {"client-secret": "simulated-secret"},
    "tokens": {"wetransform": "wetransform-token", "dataprep": DEFAULT_TOKEN},
}


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    """Platforms, Marquez and an OpenLineage backend outside the container; the backend writes what it gets to `events`."""

    async def take(request: web.Request) -> web.Response:
        with made.events.open("ab") as file:
            file.write(orjson.dumps(await request.json()) + b"\n")
        return web.Response(status=201)

    async with Deployment(tmp_path) as made:
        app = web.Application()
        app.router.add_post("/api/v1/lineage", take)
        async with TestServer(app, host="127.0.0.1") as backend:
            sinks = [sink for sink in made.settings["sinks"] if sink["type"] == "marquez"]
            sinks.append({"name": "backend", "type": "openlineage", "url": f"http://127.0.0.1:{backend.port}"})
            made.settings["sinks"] = sinks
            yield made


@pytest.fixture
def pod(helm: Helm, image: Image, deployment: Deployment, tmp_path: Path) -> Pod:
    """Of the chart, with its values."""
    return Pod(helm.objects(values(deployment)), tmp_path / "node", secrets=SECRETS, image=image.name)


def values(deployment: Deployment) -> dict[str, Any]:
    """The deployment's configuration with references in the place of its secrets."""
    sources = {source["name"]: dict(source) for source in deployment.settings["sources"]}
    auth = {key: value for key, value in sources[CDF]["auth"].items() if key != "client_secret"}
    sources[CDF]["auth"] = {**auth, "client_secret_file": "/run/secrets/cdf/client-secret"}
    sources[WETRANSFORM]["token"] = "${env:WETRANSFORM_TOKEN}"
    del sources[DATAPREP]["token"]
    sources[DATAPREP]["token_file"] = "/run/secrets/tokens/dataprep"
    return {
        "config": {"stop_within": "10s", "sources": list(sources.values()), "sinks": deployment.settings["sinks"]},
        "secrets": {
            "files": [
                {"existingSecret": "cdf-credentials", "name": "cdf"},
                {"existingSecret": "tokens", "items": [{"key": "dataprep", "path": "dataprep"}]},
            ],
            "env": {"WETRANSFORM_TOKEN": {"existingSecret": "tokens", "key": "wetransform"}},
        },
        "web": {"address": "127.0.0.1", "port": free_port()},
        "resources": {"limits": {"memory": "384Mi"}},
    }


async def until(holds: Callable[[], bool], container: Container, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, await asyncio.to_thread(container.log)
        await asyncio.sleep(0.2)


def start_runs(deployment: Deployment, seconds: float) -> None:
    for job, ending in zip(deployment.cdf.transformations, Ending, strict=False):
        deployment.cdf.start_run(job, Scenario(0.1, seconds, ending))
    deployment.dataprep.start_run("quick", pace=0.1)


async def started(pod: Pod, containers: list[Container]) -> Container:
    """Up to readiness, as a roll-out waits for it."""
    container = pod.container()
    containers.append(container)
    await asyncio.to_thread(container.start)
    await until(lambda: pod.probe("startupProbe") == 200, container)
    await until(lambda: pod.probe("readinessProbe") == 200, container)
    return container


async def test_a_pod_from_its_first_start_to_its_end(
    pod: Pod, deployment: Deployment, containers: list[Container]
) -> None:
    for checking in pod.init_containers():
        containers.append(checking)
        await asyncio.to_thread(checking.start)
        assert await asyncio.to_thread(checking.ended, 60) == 0, checking.log()

    first = await started(pod, containers)
    start_runs(deployment, 0.2)
    watched = deployment.wetransform.start(
        deployment.wetransform.transformations[0], Plan(duration=timedelta(seconds=3))
    )
    done = await asyncio.to_thread(first.command, "lineage-collector", "watch", WETRANSFORM, watched.key)
    assert done.returncode == 0, done.stderr
    await until(lambda: reported(deployment, "COMPLETE") > 0, first)
    starts = reported(deployment, "START")
    start_runs(deployment, 10.0)
    await until(lambda: reported(deployment, "START") > starts, first)
    first.send("KILL")
    assert await asyncio.to_thread(first.ended, 30) == 137
    assert deployment.unfinished(), "it was killed in the midst of runs"
    start_runs(deployment, 0.1)

    second = await started(pod, containers)
    await settled(deployment, second)
    # what has arrived is settled a moment later
    await until(lambda: 'lineage_deliveries_pending{sink="backend"} 0.0' in pod.scrape(), second)
    assert f'revision="{REVISION}",version="{__version__}"' in pod.scrape()
    assert pod.probe("livenessProbe") == 200
    ledger = pod.volume("data") / "lineage.db"
    assert (ledger.stat().st_uid, ledger.stat().st_mode & 0o777) == (10001, 0o600)

    deployment.cdf.identity.client_secret = "rotated"
    deployment.cdf.identity.revoke()
    pod.rotate(pod.volume_of_secret("cdf-credentials"), {"client-secret": "rotated"})
    start_runs(deployment, 0.1)
    await settled(deployment, second)

    began = time.monotonic()
    second.send("TERM")
    assert await asyncio.to_thread(second.ended, pod.grace_seconds) == 0, second.log()
    assert time.monotonic() - began < pod.grace_seconds
    assert '"service.stopped"' in second.log()


def reported(deployment: Deployment, event_type: str) -> int:
    """How many events of this type the file of the other backend has."""
    return deployment.events.read_text().count(f'"{event_type}"') if deployment.events.exists() else 0


async def settled(deployment: Deployment, container: Container) -> None:
    """Every run ended, and delivered once from START to its end, both to Marquez and to the other backend."""
    end = time.monotonic() + PATIENCE
    while deployment.unfinished() or deployment.faults():
        assert time.monotonic() < end, "\n".join([*deployment.faults(), await asyncio.to_thread(container.log)])
        await asyncio.sleep(0.2)


async def test_sigterm_is_heard_before_the_program_is_up(pod: Pod, containers: list[Container]) -> None:
    """The first process of a container has no default for signals: what it does not catch, it never hears."""
    container = pod.container()
    containers.append(container)
    await asyncio.to_thread(container.start)
    await until(lambda: catches(container.state()["Pid"], 15), container)
    container.send("TERM")
    assert await asyncio.to_thread(container.ended, 20) == 0
    assert "service.started" not in container.log()


def catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) >> (number - 1) & 1)
