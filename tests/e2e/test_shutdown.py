"""SIGTERM in each state: exit 0 within the grace period, and nothing lost."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Ending, Scenario
from tests.deployment import CDF, Deployment
from tests.servers.ports import free_port

pytestmark = pytest.mark.crash

FOR_EVER = 300.0


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    """With a short grace period, so that a stop that takes all of it takes not long."""
    async with Deployment(tmp_path) as made:
        made.settings["stop_within"] = "4s"
        yield made


def start_runs(deployment: Deployment, *scenarios: Scenario) -> None:
    for job, scenario in zip(deployment.cdf.transformations, scenarios or (Scenario(0.1, 0.3),), strict=False):
        deployment.cdf.start_run(job, scenario)


async def stopped_well(deployment: Deployment) -> None:
    """More patience than the grace period, as the machine may be busy, but far less than what was planned to hang."""
    deployment.terminate()
    assert await deployment.ended() == 0, deployment.tail()
    assert len(deployment.logged("service.stopped")) == 1
    assert not deployment.logged("service.stop_failed"), "no part stopped badly"


async def nothing_was_lost(deployment: Deployment) -> None:
    """The next process delivers what this one could not."""
    for simulator in (deployment.cdf, deployment.wetransform, deployment.dataprep, deployment.marquez):
        simulator.faults.clear()
    await deployment.start()
    await deployment.settle()
    deployment.terminate()
    assert await deployment.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_idle(deployment: Deployment, number: signal.Signals) -> None:
    start_runs(deployment, Scenario(0.1, 0.2), Scenario(0.1, 0.2, Ending.FAILED))
    await deployment.start()
    await deployment.settle()
    deployment.send(number)
    assert await deployment.ended() == 0
    assert deployment.logged("service.stop_begun")[0]["signal"] == number.name
    assert not (deployment.folder / "lineage.db.sock").exists()
    assert deployment.faults() == []


async def test_before_anything_was_polled(deployment: Deployment) -> None:
    """As soon as it listens."""
    start_runs(deployment)
    await deployment.start()
    await deployment.pages()
    await stopped_well(deployment)
    await nothing_was_lost(deployment)


async def test_in_a_poll_of_a_slow_source(deployment: Deployment) -> None:
    start_runs(deployment)
    deployment.cdf.faults.plan(Fault(FaultKind.SLOW, "transformations/jobs", times=-1, delay=FOR_EVER))
    await deployment.start()
    await deployment.until_requested(CDF, "transformations/jobs")
    await stopped_well(deployment)
    await nothing_was_lost(deployment)


async def test_while_a_send_hangs(deployment: Deployment) -> None:
    start_runs(deployment, Scenario(0.1, 0.3), Scenario(0.1, 0.3, Ending.FAILED), Scenario(0.1, 0.3, Ending.CANCELLED))
    deployment.marquez.faults.plan(Fault(FaultKind.SLOW, "POST /api/v1/lineage", times=-1, delay=FOR_EVER))
    await deployment.start()
    await deployment.until_requested("marquez", "POST /api/v1/lineage")
    await stopped_well(deployment)
    await nothing_was_lost(deployment)


async def test_while_marquez_is_frozen(deployment: Deployment) -> None:
    start_runs(deployment, Scenario(0.1, 0.3), Scenario(0.1, 0.3, Ending.FAILED))
    deployment.marquez.database.freeze()
    await deployment.start()
    await deployment.until_requested("marquez", "/api/v1/")
    await stopped_well(deployment)
    await deployment.marquez.database.thaw()
    await nothing_was_lost(deployment)


async def test_while_details_of_an_ended_run_are_read(deployment: Deployment) -> None:
    start_runs(deployment)
    deployment.cdf.faults.plan(Fault(FaultKind.SLOW, r"jobs/\d+/metrics", times=-1, delay=FOR_EVER))
    await deployment.start()
    await deployment.until_requested(CDF, r"jobs/\d+/metrics")
    await stopped_well(deployment)
    await nothing_was_lost(deployment)
    [end] = [event for event in deployment.logged("run.changed") if event["type"] == "COMPLETE"]
    assert end["source"] == CDF
    assert not deployment.logged("run.skipped"), "the details were there at the second try"


async def test_with_a_dead_sink(deployment: Deployment) -> None:
    start_runs(deployment)
    url, deployment.urls["marquez"] = deployment.urls["marquez"], f"http://127.0.0.1:{free_port()}"
    deployment.settings["sinks"][1]["url"] = deployment.urls["marquez"]
    await deployment.start()
    await deployment.until(lambda status: bool(status["sinks"][1]["wrong"]))
    await stopped_well(deployment)
    deployment.settings["sinks"][1]["url"] = deployment.urls["marquez"] = url
    await nothing_was_lost(deployment)


async def test_a_signal_that_comes_twice_at_once_is_one(deployment: Deployment) -> None:
    """As `timeout` sends it: to the process, and to the group it is in."""
    start_runs(deployment)
    await deployment.start()
    await deployment.until_ready()
    deployment.terminate()
    await deployment.until_logged("service.stop_begun")
    deployment.terminate()
    assert await deployment.ended() == 0
    assert deployment.logged("service.stopped")
    await nothing_was_lost(deployment)


async def test_a_second_signal_ends_it_at_once(deployment: Deployment) -> None:
    deployment.settings["stop_within"] = "5m"
    start_runs(deployment)
    deployment.marquez.faults.plan(Fault(FaultKind.SLOW, "POST /api/v1/lineage", times=-1, delay=FOR_EVER))
    await deployment.start()
    await deployment.until_requested("marquez", "POST /api/v1/lineage")
    deployment.terminate()
    await deployment.until_logged("service.stop_begun")
    while not deployment.logged("service.killed"):  # in the first second it is taken for the same signal
        deployment.terminate()
        await asyncio.sleep(0.05)
    assert await deployment.ended() == 1
    assert not deployment.logged("service.stopped")
    deployment.settings["stop_within"] = "4s"
    await nothing_was_lost(deployment)


async def test_while_somebody_waits_for_a_run_to_be_started(deployment: Deployment) -> None:
    """The answer of the platform is waited for: a start that is cut off would stay in doubt."""
    deployment.cdf.faults.plan(Fault(FaultKind.SLOW, "transformations/run", delay=1.0))
    await deployment.start()
    await deployment.until_ready()
    asking = asyncio.create_task(deployment.command("trigger", CDF, "sap_equipment_to_model"))
    await deployment.until_requested(CDF, "transformations/run")
    await stopped_well(deployment)
    code, out, err = await asking
    assert (code, err) == (0, "")
    assert "of transformation/sap_equipment_to_model: queued" in out
    await nothing_was_lost(deployment)
    assert len(deployment.cdf.expected_runs()) == 1


async def test_a_start_that_is_never_answered_is_in_doubt_and_not_repeated(deployment: Deployment) -> None:
    deployment.cdf.faults.plan(Fault(FaultKind.SLOW, "transformations/run", delay=FOR_EVER))
    await deployment.start()
    await deployment.until_ready()
    asking = asyncio.create_task(deployment.command("trigger", CDF, "sap_equipment_to_model"))
    await deployment.until_requested(CDF, "transformations/run")
    await stopped_well(deployment)
    code, _, err = await asking
    assert code == 1
    assert "ended before it answered" in err
    await nothing_was_lost(deployment)
    assert len(deployment.logged("request.doubted")) == 1
    assert len(deployment.cdf.expected_runs()) == 1
    assert await deployment.requests(CDF, "transformations/run") == 1
