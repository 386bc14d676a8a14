"""SIGTERM in each state: exit 0 within the grace period, and nothing lost."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Ending, Story
from tests.deployment import CDF, Scene
from tests.servers.ports import free_port

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

FOR_EVER = 300.0


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """With a short grace period, so that a stop that takes all of it takes not long."""
    async with Scene(tmp_path) as made:
        made.settings["stop_within"] = "4s"
        yield made


def start_runs(scene: Scene, *stories: Story) -> None:
    for job, story in zip(scene.cdf.transformations, stories or (Story(0.1, 0.3),), strict=False):
        scene.cdf.start_run(job, story)


async def stopped_well(scene: Scene) -> None:
    """More patience than the grace period, as the machine may be busy, but far less than what was planned to hang."""
    scene.terminate()
    assert await scene.ended(30) == 0, scene.tail()
    assert len(scene.told("service.stopped")) == 1
    assert not scene.told("service.stop"), "no part stopped badly"


async def nothing_was_lost(scene: Scene) -> None:
    """The next process delivers what this one could not."""
    for simulator in (scene.cdf, scene.wetransform, scene.dataprep, scene.marquez):
        simulator.faults.clear()
    await scene.start()
    await scene.settle(45)
    scene.terminate()
    assert await scene.ended(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_idle(scene: Scene, number: signal.Signals) -> None:
    start_runs(scene, Story(0.1, 0.2), Story(0.1, 0.2, Ending.FAILED))
    await scene.start()
    await scene.settle()
    scene.send(number)
    assert await scene.ended(30) == 0
    assert scene.told("service.stopping")[0]["signal"] == number.name
    assert not (scene.folder / "lineage.db.sock").exists()
    assert scene.faults() == []


async def test_before_anything_was_polled(scene: Scene) -> None:
    """As soon as it listens."""
    start_runs(scene)
    await scene.start()
    await scene.pages()
    await stopped_well(scene)
    await nothing_was_lost(scene)


async def test_in_a_poll_of_a_slow_source(scene: Scene) -> None:
    start_runs(scene)
    scene.cdf.faults.plan(Fault(FaultKind.SLOW, "transformations/jobs", times=-1, delay=FOR_EVER))
    await scene.start()
    await scene.until_asked(CDF, "transformations/jobs")
    await stopped_well(scene)
    await nothing_was_lost(scene)


async def test_while_a_send_hangs(scene: Scene) -> None:
    start_runs(scene, Story(0.1, 0.3), Story(0.1, 0.3, Ending.FAILED), Story(0.1, 0.3, Ending.CANCELLED))
    scene.marquez.faults.plan(Fault(FaultKind.SLOW, "POST /api/v1/lineage", times=-1, delay=FOR_EVER))
    await scene.start()
    await scene.until_asked("marquez", "POST /api/v1/lineage")
    await stopped_well(scene)
    await nothing_was_lost(scene)


async def test_while_marquez_is_frozen(scene: Scene) -> None:
    start_runs(scene, Story(0.1, 0.3), Story(0.1, 0.3, Ending.FAILED))
    scene.marquez.database.freeze()
    await scene.start()
    await scene.until_asked("marquez", "/api/v1/")
    await stopped_well(scene)
    await scene.marquez.database.thaw()
    await nothing_was_lost(scene)


async def test_while_details_of_an_ended_run_are_read(scene: Scene) -> None:
    start_runs(scene)
    scene.cdf.faults.plan(Fault(FaultKind.SLOW, r"jobs/\d+/metrics", times=-1, delay=FOR_EVER))
    await scene.start()
    await scene.until_asked(CDF, r"jobs/\d+/metrics")
    await stopped_well(scene)
    await nothing_was_lost(scene)
    [told] = [event for event in scene.told("run.transition") if event["type"] == "COMPLETE"]
    assert told["source"] == CDF
    assert not scene.told("run.skipped"), "the details were there at the second try"


async def test_with_a_dead_sink(scene: Scene) -> None:
    start_runs(scene)
    url, scene.urls["marquez"] = scene.urls["marquez"], f"http://127.0.0.1:{free_port()}"
    scene.settings["sinks"][1]["url"] = scene.urls["marquez"]
    await scene.start()
    await scene.until(lambda status: bool(status["sinks"][1]["wrong"]))
    await stopped_well(scene)
    scene.settings["sinks"][1]["url"] = scene.urls["marquez"] = url
    await nothing_was_lost(scene)


async def test_a_second_signal_ends_it_at_once(scene: Scene) -> None:
    scene.settings["stop_within"] = "5m"
    start_runs(scene)
    scene.marquez.faults.plan(Fault(FaultKind.SLOW, "POST /api/v1/lineage", times=-1, delay=FOR_EVER))
    await scene.start()
    await scene.until_asked("marquez", "POST /api/v1/lineage")
    scene.terminate()
    await scene.until_told("service.stopping")
    scene.terminate()
    assert await scene.ended(30) == 1
    assert scene.told("service.killed")
    assert not scene.told("service.stopped")
    scene.settings["stop_within"] = "4s"
    await nothing_was_lost(scene)


async def test_while_somebody_waits_for_a_run_to_be_started(scene: Scene) -> None:
    """The answer of the platform is waited for: a start that is cut off would stay in doubt."""
    scene.cdf.faults.plan(Fault(FaultKind.SLOW, "transformations/run", delay=1.0))
    await scene.start()
    await scene.until_ready()
    asking = asyncio.create_task(scene.command("trigger", CDF, "sap_equipment_to_model"))
    await scene.until_asked(CDF, "transformations/run")
    await stopped_well(scene)
    code, out, err = await asking
    assert (code, err) == (0, "")
    assert "of transformation/sap_equipment_to_model: queued" in out
    await nothing_was_lost(scene)
    assert len(scene.cdf.truth()) == 1


async def test_a_start_that_is_never_answered_is_in_doubt_and_not_repeated(scene: Scene) -> None:
    scene.cdf.faults.plan(Fault(FaultKind.SLOW, "transformations/run", delay=FOR_EVER))
    await scene.start()
    await scene.until_ready()
    asking = asyncio.create_task(scene.command("trigger", CDF, "sap_equipment_to_model"))
    await scene.until_asked(CDF, "transformations/run")
    await stopped_well(scene)
    code, _, err = await asking
    assert code == 1
    assert "ended before it answered" in err
    await nothing_was_lost(scene)
    assert len(scene.told("request.doubtful")) == 1
    assert len(scene.cdf.truth()) == 1
    assert await scene.asked(CDF, "transformations/run") == 1
