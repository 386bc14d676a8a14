"""Whose the ledger is, and what happens when it is none any more."""

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Ending, Story
from tests.deployment import Scene

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Scene(tmp_path) as made:
        made.settings["stop_within"] = "4s"
        for job, ending in zip(made.cdf.transformations, (Ending.COMPLETED, Ending.FAILED), strict=False):
            made.cdf.start_run(job, Story(0.1, 0.2, ending))
        yield made


async def stop(scene: Scene) -> None:
    scene.terminate()
    assert await scene.ended(30) == 0


def last_line(err: str) -> str:
    return err.splitlines()[-1]


async def test_a_second_service_says_who_holds_the_ledger_and_does_no_harm(scene: Scene) -> None:
    await scene.start()
    await scene.until_ready()
    code, _, err = await scene.command("run")
    assert code == 1
    assert f"lineage.db is in use by process {scene.pid} on " in last_line(err)
    assert "Traceback" not in err
    assert (scene.folder / "lineage.db.sock").exists()
    await scene.settle()
    await stop(scene)


async def test_a_ledger_that_was_damaged_is_set_aside_and_filled_again(scene: Scene) -> None:
    await scene.start()
    await scene.settle()
    await stop(scene)
    before = set(scene.events.read_bytes().splitlines())
    with (scene.folder / "lineage.db").open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * 60_000)
    await scene.start()
    await scene.until_ready()
    aside = [path for path in scene.folder.iterdir() if ".damaged-" in path.name]
    assert [line["file"] for line in scene.told("ledger.set_aside") if "file" in line] == [str(aside[0])]
    assert {line["level"] for line in scene.told("ledger.set_aside")} <= {"error", "critical"}
    async with aiohttp.ClientSession() as client, client.get(f"{await scene.pages()}/metrics") as answer:
        assert "lineage_ledger_resets_total 1.0" in await answer.text()
    await scene.settle()
    await scene.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
    assert set(scene.events.read_bytes().splitlines()) == before, "the look-back made the same events"
    await stop(scene)


async def test_a_ledger_that_is_deleted_under_the_service_is_written_anew_and_nothing_is_lost(scene: Scene) -> None:
    await scene.start()
    await scene.until_ready()
    scene.marquez.faults.plan(Fault(FaultKind.STATUS, times=-1, status=503))
    for job in list(scene.cdf.transformations)[:2]:
        scene.cdf.start_run(job, Story(0.1, 0.2, Ending.COMPLETED))
    await scene.until(lambda status: any(row["sink"] == "marquez" and row["pending"] for row in status["sinks"]))
    for file in scene.folder.glob("lineage.db*"):
        file.unlink()
    assert await scene.ended(30) == 1
    assert [line["cause"] for line in scene.told("ledger.lost")] == ["its file is gone"]
    assert [line["path"] for line in scene.told("ledger.rescued")] == [str(scene.folder / "lineage.db")]
    assert {line["level"] for line in scene.told("ledger.lost") + scene.told("ledger.rescued")} == {"critical"}
    scene.marquez.faults.clear()
    await scene.start()
    await scene.settle()
    assert not scene.told("ledger.set_aside")
    async with aiohttp.ClientSession() as client, client.get(f"{await scene.pages()}/metrics") as answer:
        shown = await answer.text()
    assert "lineage_ledger_rescues_total 1.0" in shown
    assert "lineage_ledger_lost 0.0" in shown
    starts = [json.loads(line) for line in scene.events.read_bytes().splitlines()]
    told = [(event["run"]["runId"], event["eventType"]) for event in starts]
    assert len(told) - len(set(told)) <= 3, "what was acknowledged before is not sent again"
    await stop(scene)


async def test_while_a_lost_ledger_cannot_be_written_anew_the_service_says_so_and_keeps_it(scene: Scene) -> None:
    folder = scene.folder / "ledger"
    scene.settings["ledger"]["path"] = str(folder / "lineage.db")
    scene.settings["control_socket"] = str(scene.folder / "lineage.db.sock")
    await scene.start()
    await scene.until_ready()
    pages = await scene.pages()
    shutil.rmtree(folder)
    folder.touch()
    await scene.until_told("ledger.unrescued")
    status = await scene.status()
    assert status is not None
    assert status["ledger"]["wrong"] == "its file is gone"
    async with aiohttp.ClientSession() as client:
        for page in ("healthz", "readyz"):
            async with client.get(f"{pages}/{page}") as answer:
                assert answer.status == 503
                assert "the ledger is lost: its file is gone" in await answer.text()
        async with client.get(f"{pages}/metrics") as answer:
            assert "lineage_ledger_lost 1.0" in await answer.text()
    folder.unlink()
    assert await scene.ended(30) == 1
    await scene.start()
    await scene.settle()
    await stop(scene)


async def test_what_cannot_be_a_ledger_is_told_and_left_alone(scene: Scene) -> None:
    ledger = scene.folder / "lineage.db"
    with closing(sqlite3.connect(ledger)) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    was = ledger.read_bytes()
    code, _, err = await scene.command("run")
    assert code == 1
    assert "is the SQLite file of another program: set ledger.path to another file" in last_line(err)
    assert "Traceback" not in err
    assert ledger.read_bytes() == was


async def test_a_port_that_is_taken_is_a_mistake_of_the_configuration(scene: Scene) -> None:
    scene.settings["http"]["listen"] = scene.urls["marquez"].removeprefix("http://")
    code, _, err = await scene.command("run")
    assert code == 2
    assert last_line(err).startswith("error: http.listen: cannot listen on 127.0.0.1:")
    assert "Traceback" not in err


async def test_what_is_risky_is_said_at_the_start(scene: Scene) -> None:
    await scene.start()
    await scene.until_told("service.started")
    told = [line["cause"] for line in scene.told("config.advice")]
    assert len(told) == 3
    assert all(words.startswith("sources[") and "a secret is written into the file" in words for words in told)
    await stop(scene)
