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
from simulators.cdf import Ending, Scenario
from tests.deployment import Deployment

pytestmark = pytest.mark.crash


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with Deployment(tmp_path) as made:
        made.settings["stop_within"] = "4s"
        for job, ending in zip(made.cdf.transformations, (Ending.COMPLETED, Ending.FAILED), strict=False):
            made.cdf.start_run(job, Scenario(0.1, 0.2, ending))
        yield made


async def stop(deployment: Deployment) -> None:
    deployment.terminate()
    assert await deployment.ended() == 0


def last_line(err: str) -> str:
    return err.splitlines()[-1]


async def test_a_second_service_says_who_holds_the_ledger_and_does_no_harm(deployment: Deployment) -> None:
    await deployment.start()
    await deployment.until_ready()
    code, _, err = await deployment.command("run")
    assert code == 1
    assert f"lineage.db is in use by process {deployment.pid} on " in last_line(err)
    assert "Traceback" not in err
    assert (deployment.folder / "lineage.db.sock").exists()
    await deployment.settle()
    await stop(deployment)


async def test_a_ledger_that_was_damaged_is_set_aside_and_filled_again(deployment: Deployment) -> None:
    await deployment.start()
    await deployment.settle()
    await stop(deployment)
    before = set(deployment.events.read_bytes().splitlines())
    with (deployment.folder / "lineage.db").open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * 60_000)
    await deployment.start()
    await deployment.until_ready()
    aside = [path for path in deployment.folder.iterdir() if ".damaged-" in path.name]
    assert [line["file"] for line in deployment.logged("ledger.set_aside") if "file" in line] == [str(aside[0])]
    assert {line["level"] for line in deployment.logged("ledger.set_aside")} <= {"error", "critical"}
    async with aiohttp.ClientSession() as client, client.get(f"{await deployment.pages()}/metrics") as answer:
        assert "lineage_ledger_resets_total 1.0" in await answer.text()
    await deployment.settle()
    await deployment.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
    assert set(deployment.events.read_bytes().splitlines()) == before, "the look-back made the same events"
    await stop(deployment)


async def test_a_ledger_that_is_deleted_under_the_service_is_written_anew_and_nothing_is_lost(
    deployment: Deployment,
) -> None:
    await deployment.start()
    await deployment.until_ready()
    deployment.marquez.faults.plan(Fault(FaultKind.STATUS, times=-1, status=503))
    for job in list(deployment.cdf.transformations)[:2]:
        deployment.cdf.start_run(job, Scenario(0.1, 0.2, Ending.COMPLETED))
    await deployment.until(lambda status: any(row["sink"] == "marquez" and row["pending"] for row in status["sinks"]))
    for file in deployment.folder.glob("lineage.db*"):
        file.unlink()
    assert await deployment.ended() == 1
    assert [line["cause"] for line in deployment.logged("ledger.lost")] == ["its file is gone"]
    assert [line["path"] for line in deployment.logged("ledger.rescued")] == [str(deployment.folder / "lineage.db")]
    assert {line["level"] for line in deployment.logged("ledger.lost") + deployment.logged("ledger.rescued")} == {
        "critical"
    }
    deployment.marquez.faults.clear()
    await deployment.start()
    await deployment.settle()
    assert not deployment.logged("ledger.set_aside")
    async with aiohttp.ClientSession() as client, client.get(f"{await deployment.pages()}/metrics") as answer:
        shown = await answer.text()
    assert "lineage_ledger_rescues_total 1.0" in shown
    assert "lineage_ledger_lost 0.0" in shown
    starts = [json.loads(line) for line in deployment.events.read_bytes().splitlines()]
    delivered = [(event["run"]["runId"], event["eventType"]) for event in starts]
    assert len(delivered) - len(set(delivered)) <= 3, "what was acknowledged before is not sent again"
    await stop(deployment)


async def test_while_a_lost_ledger_cannot_be_written_anew_the_service_says_so_and_keeps_it(
    deployment: Deployment,
) -> None:
    folder = deployment.folder / "ledger"
    deployment.settings["ledger"]["path"] = str(folder / "lineage.db")
    deployment.settings["control_socket"] = str(deployment.folder / "lineage.db.sock")
    await deployment.start()
    await deployment.until_ready()
    pages = await deployment.pages()
    shutil.rmtree(folder)
    folder.touch()
    await deployment.until_logged("ledger.unrescued")
    status = await deployment.status()
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
    assert await deployment.ended() == 1
    await deployment.start()
    await deployment.settle()
    await stop(deployment)


async def test_what_cannot_be_a_ledger_is_reported_and_left_alone(deployment: Deployment) -> None:
    ledger = deployment.folder / "lineage.db"
    with closing(sqlite3.connect(ledger)) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    was = ledger.read_bytes()
    code, _, err = await deployment.command("run")
    assert code == 1
    assert "is the SQLite file of another program: set ledger.path to another file" in last_line(err)
    assert "Traceback" not in err
    assert ledger.read_bytes() == was


async def test_a_port_that_is_taken_is_a_mistake_of_the_configuration(deployment: Deployment) -> None:
    deployment.settings["http"]["listen"] = deployment.urls["marquez"].removeprefix("http://")
    code, _, err = await deployment.command("run")
    assert code == 2
    assert last_line(err).startswith("error: http.listen: cannot listen on 127.0.0.1:")
    assert last_line(err).endswith(": another process listens there; stop it, or give another port")
    assert "Traceback" not in err


async def test_what_is_risky_is_said_at_the_start(deployment: Deployment) -> None:
    await deployment.start()
    await deployment.until_logged("service.started")
    causes = [line["cause"] for line in deployment.logged("config.risk_found")]
    assert len(causes) == 3
    assert all(words.startswith("sources[") and "a secret is written into the file" in words for words in causes)
    await stop(deployment)
