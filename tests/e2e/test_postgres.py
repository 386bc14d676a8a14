"""The service with its ledger in a real PostgreSQL: kills, outages, commands beside it, and what it refuses."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from collector.app.check import _of_ledger
from config.loader import load
from simulators.cdf import Ending, Scenario
from tests.deployment import Deployment
from tests.documented_pods import arguments_of
from tests.servers.postgres import PASSWORD, USER, PostgresServer, standby_of

pytestmark = pytest.mark.crash


def use(deployment: Deployment, server: PostgresServer, **more: str) -> None:
    secret = deployment.folder / "password"
    secret.write_text(PASSWORD)
    url = server.url(server.new_database())
    deployment.settings["ledger"] = {"url": url, "password_file": str(secret), **more}
    deployment.settings["control_socket"] = str(deployment.folder / "lineage.db.sock")


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with Deployment(tmp_path) as made:
        made.program = "tests.short_leases"
        made.settings["sinks"][1]["timeout"] = "2s"
        yield made


def start_runs(deployment: Deployment, *scenarios: Scenario) -> None:
    for job, scenario in zip(deployment.cdf.transformations, scenarios, strict=False):
        deployment.cdf.start_run(job, scenario)


async def test_nothing_is_lost_by_a_kill_and_a_stop(deployment: Deployment, postgres: PostgresServer) -> None:
    use(deployment, postgres)
    start_runs(deployment, Scenario(0.1, 0.3), Scenario(0.1, 6.0))
    await deployment.start()
    await deployment.until_arrived(starts=2, ends=1)
    deployment.send(signal.SIGKILL)
    assert await deployment.ended() == -signal.SIGKILL
    start_runs(deployment, Scenario(0.1, 0.2, Ending.FAILED), Scenario(0.1, 0.2))
    await deployment.start()
    await deployment.settle()  # the leases of the killed process run out by themselves
    code, out, err = await deployment.command("status", "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert shown["running"]
    assert shown["ledger"]["path"] == deployment.settings["ledger"]["url"]
    assert shown["ledger"]["bytes"] > 1000
    code, out, _ = await deployment.command("runs", "--json")
    assert (code, len(json.loads(out))) == (0, len(deployment.cdf.expected_runs()))
    code, _, err = await deployment.command("backup", str(deployment.folder / "copy.db"))
    assert (code, "back it up with pg_dump --schema=lineage" in err) == (1, True)
    deployment.terminate()
    assert await deployment.ended() == 0
    begun = len(deployment.logged("lease.held_elsewhere"))
    await deployment.start()
    await deployment.until_ready()
    assert len(deployment.logged("lease.held_elsewhere")) == begun, "what was given back is free at once"
    deployment.terminate()
    assert await deployment.ended() == 0
    assert PASSWORD not in deployment.log.read_text()
    assert not deployment.logged("task.died")


async def test_commands_without_a_service_and_beside_one_elsewhere(
    deployment: Deployment, postgres: PostgresServer
) -> None:
    use(deployment, postgres)
    code, _, err = await deployment.command("status")
    assert (code, "start the service with this configuration first" in err) == (1, True)
    first, second = map(str, list(deployment.cdf.transformations)[:2])  # a job that runs still cannot be run again
    code, out, err = await deployment.command("trigger", "plant-a", first, "--json")
    assert code == 0, out + err
    assert json.loads(out)["request"] == "done"
    await deployment.start()
    await deployment.until_ready()
    code, _, err = await deployment.command("run")
    assert (code, "another service listens at" in err) == (2, True)
    deployment.settings["control_socket"] = str(deployment.folder / "elsewhere.sock")
    deployment.configure()  # as on another machine: nobody listens there
    code, out, err = await deployment.command("trigger", "plant-a", second, "--json")
    assert code == 0, out + err
    assert json.loads(out)["request"] == "done"
    await deployment.settle()
    deployment.terminate()
    assert await deployment.ended() == 0


async def test_it_waits_for_a_database_that_is_away_and_goes_on_by_itself(
    deployment: Deployment, own_postgres: PostgresServer
) -> None:
    use(deployment, own_postgres)
    start_runs(deployment, Scenario(0.1, 0.3), Scenario(0.1, 4.0))
    await deployment.start()
    await deployment.until_arrived(starts=2, ends=1)
    for end in (own_postgres.stop, own_postgres.kill):
        await asyncio.to_thread(end)
        start_runs(deployment, Scenario(0.1, 0.2))
        await deployment.until(lambda status: "cannot be reached" in str(status["ledger"]["wrong"]))
        url = await deployment.pages()
        async with aiohttp.ClientSession() as session:
            while "cannot be reached" not in await unready(session, url):
                await asyncio.sleep(0.2)
            async with session.get(f"{url}/healthz") as answer:
                assert answer.status == 200, "a new start would find it no sooner"
        await asyncio.to_thread(own_postgres.start)
        await deployment.settle()
        await deployment.until(lambda status: status["ledger"]["wrong"] is None)
    assert len(deployment.logged("service.started")) == 1
    assert len(deployment.logged("ledger.recovered")) == 2
    deployment.terminate()
    assert await deployment.ended() == 0


async def unready(session: aiohttp.ClientSession, url: str) -> str:
    """Why it is not ready; empty when it is."""
    async with session.get(f"{url}/readyz") as answer:
        return await answer.text() if answer.status == 503 else ""


@pytest.mark.parametrize(
    ("ledger", "words"),
    [
        ({"password": "geheim-4711"}, "password authentication failed for user"),
        ({"url": "postgresql://lineage@127.0.0.1:1/x"}, "Connection refused"),
        ({"url": "postgresql://lineage@nowhere.invalid/x"}, "nowhere.invalid"),
    ],
)
async def test_what_cannot_be_used_is_said_in_one_sentence(
    deployment: Deployment, postgres: PostgresServer, ledger: dict[str, str], words: str
) -> None:
    deployment.settings["ledger"] = {"url": postgres.url("postgres"), **ledger}
    code, out, err = await deployment.command("run")
    assert (code, out) == (1, "")
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert words in line
    assert "Traceback" not in err
    code, out, err = await deployment.command("check", "--offline", "--json")
    assert code == 1
    [row] = [row for row in json.loads(out) if row["part"] == "ledger"]
    assert not row["ok"]
    assert words in row["detail"]
    assert "geheim-4711" not in out + err


async def test_a_service_goes_on_after_its_ledger_moved_to_postgresql_and_back(
    deployment: Deployment, postgres: PostgresServer
) -> None:
    start_runs(deployment, Scenario(0.1, 0.3), Scenario(0.1, 8.0), Scenario(0.1, 0.4))
    await deployment.start()
    await deployment.until_arrived(starts=3, ends=2)
    deployment.send(signal.SIGKILL)
    await deployment.ended()
    file, url = deployment.folder / "lineage.db", postgres.url(postgres.new_database())
    secret = deployment.folder / "password"
    secret.write_text(PASSWORD)
    socket = {"control_socket": str(deployment.folder / "lineage.db.sock")}

    pod = {"/var/lib/": str(file), "postgresql://": url, "/run/secrets/": str(secret)}
    await copied(arguments_of("copy", pod))
    deployment.settings |= {"ledger": {"url": url, "password_file": str(secret)}, **socket}
    start_runs(deployment, Scenario(0.1, 0.2, Ending.FAILED))
    deployment.configure()
    await deployment.start()
    await deployment.until_arrived(starts=4, ends=3)
    deployment.terminate()
    assert await deployment.ended() == 0

    back = deployment.folder / "back.db"
    await copied(["ledger", "copy", url, str(back), "--password-file", str(secret)])
    deployment.settings |= {"ledger": {"path": str(back)}, **socket}
    deployment.configure()
    await deployment.start()
    await deployment.settle(90)
    assert deployment.invalid() == []
    assert PASSWORD not in deployment.log.read_text()


async def copied(words: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "collector",
        *words,
        "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err
    # the server of the tests writes nothing through to its disk
    assert all(b"ledger.risk_found" in line for line in err.splitlines()), err
    assert json.loads(out)["tables"]["run"]["rows"] >= 3


async def test_the_standby_that_is_promoted_after_its_primary_is_found_and_has_all(
    deployment: Deployment, own_postgres: PostgresServer
) -> None:
    use(deployment, own_postgres)
    with standby_of(own_postgres) as standby:
        own_postgres.await_standby()
        database = deployment.settings["ledger"]["url"].rpartition("/")[2]
        here, there = (f"127.0.0.1:{server.port}" for server in (own_postgres, standby))
        url = f"postgresql://{USER}@{here},{there}/{database}?target_session_attrs=read-write&connect_timeout=5"
        deployment.settings["ledger"]["url"] = url
        start_runs(deployment, Scenario(0.1, 0.3), Scenario(0.1, 4.0))
        await deployment.start()
        await deployment.until_arrived(starts=2, ends=1)
        settings = load(deployment.config)
        only_there = settings.ledger.model_copy(update={"url": f"postgresql://{USER}@{there}/{database}"})
        (row,) = await _of_ledger(settings.model_copy(update={"ledger": only_there}))
        assert (row["ok"], "can only be read: it is a standby" in row["detail"]) == (False, True)
        await asyncio.to_thread(own_postgres.kill)
        start_runs(deployment, Scenario(0.1, 0.2))
        await deployment.until(lambda status: "takes writes: promote a standby" in str(status["ledger"]["wrong"]))
        await asyncio.to_thread(standby.promote)
        await deployment.settle()
        await deployment.until(lambda status: status["ledger"]["wrong"] is None)
        row, *others = await _of_ledger(load(deployment.config))
        assert row["detail"] == f"{there} answers; this version supports its schema"
        advised = [each["detail"].split()[0] for each in others if each["subject"] == "advice"]
        assert advised == ["fsync", "full_page_writes"], "the server of the tests is quick, not safe"
        assert len(deployment.logged("service.started")) == 1
        deployment.terminate()
        assert await deployment.ended() == 0
    assert not deployment.logged("task.died")
