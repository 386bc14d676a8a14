"""The service with its ledger in a real PostgreSQL: kills, outages, commands beside it, and what it refuses."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from simulators.cdf import Ending, Story
from tests.deployment import Scene
from tests.servers.postgres import PASSWORD, PostgresServer

pytestmark = [pytest.mark.crash, pytest.mark.timeout(240)]


def use(scene: Scene, server: PostgresServer, **more: str) -> None:
    secret = scene.folder / "password"
    secret.write_text(PASSWORD)
    url = server.url(server.new_database())
    scene.settings["ledger"] = {"url": url, "password_file": str(secret), **more}
    scene.settings["control_socket"] = str(scene.folder / "lineage.db.sock")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Scene(tmp_path) as made:
        yield made


def start_runs(scene: Scene, *stories: Story) -> None:
    for job, story in zip(scene.cdf.transformations, stories, strict=False):
        scene.cdf.start_run(job, story)


async def test_nothing_is_lost_by_a_kill_and_a_stop(scene: Scene, postgres: PostgresServer) -> None:
    use(scene, postgres)
    start_runs(scene, Story(0.1, 0.3), Story(0.1, 6.0))
    await scene.start()
    await scene.until_arrived(starts=2, ends=1)
    scene.send(signal.SIGKILL)
    assert await scene.ended() == -signal.SIGKILL
    start_runs(scene, Story(0.1, 0.2, Ending.FAILED), Story(0.1, 0.2))
    await scene.start()
    await scene.until_told("ledger.awaited")  # the lease of the killed process runs out by itself
    await scene.settle(90)
    code, out, err = await scene.command("status", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["running"]
    assert told["ledger"]["path"] == scene.settings["ledger"]["url"]
    assert told["ledger"]["bytes"] > 1000
    code, out, _ = await scene.command("runs", "--json")
    assert (code, len(json.loads(out))) == (0, len(scene.cdf.truth()))
    code, _, err = await scene.command("backup", str(scene.folder / "copy.db"))
    assert (code, "back it up with pg_dump --schema=lineage" in err) == (1, True)
    scene.terminate()
    assert await scene.ended(60) == 0
    begun = len(scene.told("ledger.awaited"))
    await scene.start()
    await scene.until_ready()
    assert len(scene.told("ledger.awaited")) == begun, "what was given back is free at once"
    scene.terminate()
    assert await scene.ended(60) == 0
    assert PASSWORD not in scene.log.read_text()
    assert not scene.told("task.died")


async def test_commands_without_a_service_and_beside_one_elsewhere(scene: Scene, postgres: PostgresServer) -> None:
    use(scene, postgres)
    code, _, err = await scene.command("status")
    assert (code, "start the service with this configuration first" in err) == (1, True)
    job = str(next(iter(scene.cdf.transformations)))
    code, out, err = await scene.command("trigger", "plant-a", job, "--json")
    assert code == 0, err
    assert json.loads(out)["request"] == "done"
    await scene.start()
    await scene.until_ready()
    scene.settings["control_socket"] = str(scene.folder / "elsewhere.sock")
    scene.configure()  # as on another machine: nobody listens there
    code, out, err = await scene.command("trigger", "plant-a", job, "--json")
    assert code == 0, err
    assert json.loads(out)["request"] == "done"
    await scene.settle(90)
    scene.terminate()
    assert await scene.ended(60) == 0


async def test_it_waits_for_a_database_that_is_away_and_goes_on_by_itself(
    scene: Scene, own_postgres: PostgresServer
) -> None:
    use(scene, own_postgres)
    start_runs(scene, Story(0.1, 0.3), Story(0.1, 4.0))
    await scene.start()
    await scene.until_arrived(starts=2, ends=1)
    for end in (own_postgres.stop, own_postgres.kill):
        await asyncio.to_thread(end)
        told = len(scene.told("ledger.trouble"))
        start_runs(scene, Story(0.1, 0.2))
        await scene.until(lambda status: "cannot be reached" in str(status["ledger"]["wrong"]))
        while len(scene.told("ledger.trouble")) == told:
            await asyncio.sleep(0.2)
        url = await scene.pages()
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/readyz") as answer:
                assert (answer.status, "cannot be reached" in await answer.text()) == (503, True)
            async with session.get(f"{url}/healthz") as answer:
                assert answer.status == 200, "a new start would find it no sooner"
        await asyncio.to_thread(own_postgres.start)
        await scene.settle(90)
        await scene.until(lambda status: status["ledger"]["wrong"] is None)
    assert len(scene.told("service.started")) == 1
    assert len(scene.told("ledger.recovered")) == 2
    scene.terminate()
    assert await scene.ended(60) == 0


@pytest.mark.parametrize(
    ("ledger", "words"),
    [
        ({"password": "geheim-4711"}, "password authentication failed for user"),
        ({"url": "postgresql://lineage@127.0.0.1:1/x"}, "Connection refused"),
        ({"url": "postgresql://lineage@nowhere.invalid/x"}, "nowhere.invalid"),
    ],
)
async def test_what_cannot_be_used_is_said_in_one_sentence(
    scene: Scene, postgres: PostgresServer, ledger: dict[str, str], words: str
) -> None:
    scene.settings["ledger"] = {"url": postgres.url("postgres"), **ledger}
    code, out, err = await scene.command("run")
    assert (code, out) == (1, "")
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert words in line
    assert "Traceback" not in err
    code, out, err = await scene.command("check", "--offline", "--json")
    assert code == 1
    [row] = [row for row in json.loads(out) if row["part"] == "ledger"]
    assert not row["ok"]
    assert words in row["detail"]
    assert "geheim-4711" not in out + err
