"""The commands of every day, beside a running service and without one."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from collector.ledger.sqlite import lock
from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Ending, Scenario
from simulators.wetransform import Plan
from simulators.wetransform import Scenario as Walk
from tests import preloaded
from tests.deployment import CDF, DATAPREP, PATIENCE, WETRANSFORM, Deployment, now

pytestmark = pytest.mark.crash

HEAD_END = ["duration_seconds", "duration_bounded", "run_id", "error"]
REFUSES = Fault(FaultKind.STATUS, "POST /api/v1/lineage", times=-1, status=422, body={"errors": ["no"]})


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with Deployment(tmp_path) as made:
        made.settings["stop_within"] = "4s"
        yield made


async def shown_by(deployment: Deployment, *words: str, code: int = 0) -> Any:
    """What a command answers as JSON."""
    ended, out, err = await deployment.command(*words, "--json")
    assert ended == code, f"{words}: {out}{err}"
    return json.loads(out)


async def table(deployment: Deployment, *words: str, code: int = 0) -> list[list[str]]:
    """What a command answers in a pipe: the head and the rows."""
    ended, out, err = await deployment.command(*words)
    assert ended == code, f"{words}: {out}{err}"
    return [line.split("\t") for line in out.splitlines()]


def next_run(deployment: Deployment, scenario: Scenario) -> str:
    """A transformation whose next run goes so."""
    first = next(iter(deployment.cdf.transformations.values()))
    first.scenarios.append(scenario)
    return str(first.external_id)


async def stop(deployment: Deployment) -> None:
    deployment.terminate()
    assert await deployment.ended() == 0


async def test_reading_beside_a_service_and_without_one(deployment: Deployment) -> None:
    jobs = list(deployment.cdf.transformations)
    deployment.cdf.start_run(jobs[0], Scenario(0.1, 0.2))
    deployment.cdf.start_run(jobs[1], Scenario(0.1, 0.2, Ending.FAILED))
    deployment.cdf.start_run(jobs[2], Scenario(0.1, None, shown_as="Hibernating"))
    await deployment.start()
    await deployment.until_logged("run.skipped")
    while deployment.faults():
        await asyncio.sleep(0.1)
    status, rows, failed, head, skipped = await asyncio.gather(
        shown_by(deployment, "status"),
        shown_by(deployment, "runs"),
        shown_by(deployment, "runs", "--source", CDF, "--state", "failed"),
        table(deployment, "runs", "--limit", "1"),
        shown_by(deployment, "skipped"),
    )
    assert status["running"] is True
    assert {row["source"]: row["state"] for row in status["sources"]} == {CDF: "ok", WETRANSFORM: "ok", DATAPREP: "ok"}
    assert {row["sink"]: row["state"] for row in status["sinks"]} == {"file": "delivering", "marquez": "delivering"}
    assert all(row["wrong"] is None for row in (*status["sources"], *status["sinks"], status["ledger"]))
    assert sorted((row["source"], row["state"]) for row in rows) == [
        (CDF, "failed"),
        (CDF, "succeeded"),
        (CDF, "unknown"),
    ]
    assert [(row["state"], row["platform_state"]) for row in failed] == [("failed", "Failed")]
    assert head[0] == ["source", "run", "state", "platform_state", "job", "started", "ended", *HEAD_END]
    assert len(head) == 2
    [odd] = [row for row in skipped if row["kind"] == "status"]
    assert (odd["source"], "Hibernating" in odd["cause"] + odd["subject"]) == (CDF, True)
    await stop(deployment)
    alone, same_rows, same_skipped, (code, out, err) = await asyncio.gather(
        shown_by(deployment, "status", code=1),
        shown_by(deployment, "runs"),
        shown_by(deployment, "skipped"),
        deployment.command("status"),
    )
    assert alone["running"] is False
    assert {row["state"] for row in alone["sources"]} == {None}
    assert same_rows == rows
    assert {row["cause"] for row in same_skipped} == {row["cause"] for row in skipped}
    assert (code, err) == (1, "no service is running; this is the state in the ledger\n")
    assert out.count("\n\n") == 2, "three tables"
    code, _, err = await deployment.command("runs", "--source", "nope")
    assert code == 2
    assert "the ledger has no source 'nope'; it has customers, plant-a, prep" in err


async def test_status_says_what_is_wrong(deployment: Deployment) -> None:
    deployment.cdf.faults.plan(Fault(FaultKind.STATUS, "transformations", times=-1, status=401))
    await deployment.start()
    await deployment.until(lambda status: any(row["wrong"] for row in status["sources"]))
    status = await shown_by(deployment, "status", code=1)
    [row] = [row for row in status["sources"] if row["source"] == CDF]
    assert row["state"] == "auth"
    assert "401" in row["wrong"]


async def test_parked_events_are_listed_retried_and_dropped(deployment: Deployment) -> None:
    jobs = list(deployment.cdf.transformations)
    deployment.marquez.faults.plan(REFUSES)
    for job in jobs[:2]:
        deployment.cdf.start_run(job, Scenario(0.1, 0.2))
    await deployment.start()
    await deployment.until_parked(4)
    listed = await shown_by(deployment, "parked", "list")
    assert {(row["sink"], row["source"]) for row in listed} == {("marquez", CDF)}
    assert sorted(row["type"] for row in listed) == ["COMPLETE", "COMPLETE", "START", "START"]
    assert all("422" in row["cause"] and row["attempts"] == 1 for row in listed)
    first, second = sorted({row["run_id"] for row in listed})
    rows = await table(deployment, "parked", "list", "--limit", "1")
    assert len(rows) == 2
    assert await shown_by(deployment, "parked", "drop", "marquez", "--run", first, "--yes") == {
        "request": "done",
        "dropped": 2,
    }
    assert await shown_by(deployment, "parked", "drop", "marquez", "--run", first, "--yes", code=1) == {
        "request": "failed",
        "error": f"nothing is parked there of run {first}",
    }
    deployment.marquez.faults.clear()
    code, out, err = await deployment.command("parked", "retry", "marquez")
    assert (code, out, err) == (0, "2 queued\n", "")
    await deployment.until_parked(0)
    await deployment.until(lambda status: status["sinks"][1]["pending"] == 0)
    assert deployment.marquez_states()[second] == "COMPLETED"
    code, _, err = await deployment.command("parked", "retry", "marquez")
    assert (code, err) == (1, "error: nothing is parked there\n")


async def test_parked_events_are_dropped_when_somebody_says_so(deployment: Deployment) -> None:
    deployment.marquez.faults.plan(REFUSES)
    deployment.cdf.start_run(next(iter(deployment.cdf.transformations)), Scenario(0.1, 0.2))
    await deployment.start()
    await deployment.until_parked(2)
    code, out, err = await deployment.command("parked", "drop", "marquez")
    assert (code, out) == (2, ""), "there is no terminal to ask on"
    assert (
        "would drop 2 parked events of sink marquez (1 COMPLETE, 1 START; of 1 run), and asks for confirmation" in err
    )
    shown = await shown_by(deployment, "parked", "drop", "marquez", "--dry-run")
    assert shown["would_drop"] == 2
    one = shown["events"][0]["event"]
    assert await shown_by(deployment, "parked", "drop", "marquez", "--event", one, "--yes") == {
        "request": "done",
        "dropped": 1,
    }
    await deployment.until_parked(1)


async def test_parked_events_are_sent_again_without_a_service(deployment: Deployment) -> None:
    deployment.marquez.faults.plan(REFUSES)
    deployment.cdf.start_run(next(iter(deployment.cdf.transformations)), Scenario(0.1, 0.2))
    await deployment.start()
    await deployment.until_parked(2)
    await stop(deployment)
    assert len(await shown_by(deployment, "parked", "list")) == 2
    deployment.marquez.faults.clear()
    assert await shown_by(deployment, "parked", "retry", "marquez") == {"request": "done", "queued": 2}
    await deployment.start()
    await deployment.settle()
    assert await shown_by(deployment, "parked", "list") == []


async def test_a_run_is_started_and_followed_beside_a_service(deployment: Deployment) -> None:
    await deployment.start()
    await deployment.until_ready()
    socket = deployment.folder / "lineage.db.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    job = next_run(deployment, Scenario(0.2, 0.5))
    code, out, err = await deployment.command("trigger", CDF, job, "--wait")
    assert code == 0, err
    assert out.endswith(": succeeded\n")
    assert "succeeded (Completed)" in err
    answer = await shown_by(deployment, "trigger", CDF, job)
    assert answer["request"] == "done"
    assert answer["state"] == "queued"
    assert {"key", "run_id", "job"} <= answer.keys()
    await deployment.settle()
    refused = await shown_by(deployment, "trigger", CDF, "nope", code=1)
    assert refused["request"] == "failed"
    assert "nope was not started" in refused["error"]


async def test_a_run_that_fails_ends_the_wait_with_code_1(deployment: Deployment) -> None:
    plan = Plan(Walk.FAILING, timedelta(seconds=2))
    await deployment.start()
    await deployment.until_ready()
    run = deployment.wetransform.start(deployment.wetransform.transformations[0], plan)
    code, out, _ = await deployment.command("watch", WETRANSFORM, run.key, "--wait")
    assert code == 1
    assert out.endswith(": failed\n")
    assert out.count(run.key) == 1, "the platform's id is the run's"
    code, _, err = await deployment.command("watch", WETRANSFORM, "00000000-0000-4000-8000-000000000000")
    assert code == 1
    assert err.startswith("error: ")


async def test_a_run_is_started_and_followed_without_a_service(deployment: Deployment) -> None:
    job = next_run(deployment, Scenario(0.2, 0.5))
    code, out, err = await deployment.command("trigger", CDF, job, "--wait")
    assert code == 0, err
    assert out.endswith(": succeeded\n")
    assert deployment.faults() == [], "its events are delivered before the command ends"
    assert not (deployment.folder / "lineage.db.sock").exists()
    run = deployment.wetransform.start(deployment.wetransform.transformations[0], Plan(duration=timedelta(seconds=3)))
    code, out, err = await deployment.command("watch", WETRANSFORM, run.key)
    assert code == 0, err
    await deployment.start()
    await deployment.settle()


async def test_a_command_that_stops_waiting_says_that_the_run_goes_on(deployment: Deployment) -> None:
    job = next_run(deployment, Scenario(0.1, None))
    code, _, err = await deployment.command("trigger", CDF, job, "--wait", "--timeout", "2s")
    assert code == 1
    assert "not ended within the 2 s of --timeout: run" in err
    assert "it is not followed until a service runs" in err
    deployment.cdf.cancel(job)
    code, _, err = await deployment.command("trigger", CDF, next_run(deployment, Scenario(0.1, None)))
    assert code == 0, err
    assert "no service runs, so this run is not followed: start one with `lineage-collector run`" in err
    for words in (["--timeout", "2s"], ["--wait", "--timeout", "soon"]):
        code, _, err = await deployment.command("trigger", CDF, job, *words)
        assert (code, "--timeout" in err) == (2, True)


async def test_ctrl_c_ends_the_command_and_not_the_run(deployment: Deployment) -> None:
    job = next_run(deployment, Scenario(0.1, None))
    await deployment.start()
    await deployment.until_ready()
    words = ("-m", "collector", "trigger", CDF, job, "--wait", "--config", str(deployment.config))
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=asyncio.subprocess.PIPE)
    await deployment.until(lambda status: any(row["active"] for row in status["sources"]))
    assert process.stderr is not None
    assert b"(" in await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert "goes on, and the service follows it" in err.decode()
    assert "Traceback" not in err.decode()
    await stop(deployment)


async def test_a_service_that_dies_ends_the_wait(deployment: Deployment) -> None:
    job = next_run(deployment, Scenario(0.1, None))
    await deployment.start()
    await deployment.until_ready()
    words = ("trigger", CDF, job, "--wait", "--config", str(deployment.config))
    with TemporaryFile(dir=deployment.folder) as err:
        command = await preloaded.start("collector", *words, out=err.fileno(), err=err.fileno())
        while b"(" not in os.pread(err.fileno(), 10_000, 0):  # the platform's word for the state: it follows the run
            assert command.returncode is None, os.pread(err.fileno(), 10_000, 0)
            await asyncio.sleep(0.1)
        deployment.send(signal.SIGKILL)
        await deployment.ended()
        assert await asyncio.wait_for(command.wait(), PATIENCE) == 1
        assert b"the service stopped while run" in os.pread(err.fileno(), 10_000, 0)


async def test_a_source_that_the_service_does_not_know_yet_is_refused(deployment: Deployment) -> None:
    await deployment.start()
    await deployment.until_ready()
    deployment.settings["sources"].append(
        {**deployment.settings["sources"][0], "name": "plant-b", "project": "plant-b"}
    )
    deployment.configure()
    refused = await shown_by(deployment, "trigger", "plant-b", "1", code=1)
    assert "the running service has no source plant-b; restart it" in refused["error"]


async def test_a_command_steps_aside_for_a_service_and_follows_its_run_beside_it(deployment: Deployment) -> None:
    job = next_run(deployment, Scenario(0.2, None))
    following = asyncio.create_task(deployment.command("trigger", CDF, job, "--wait"))
    await until_there(deployment.folder / "lineage.db.sock")
    while not any(run["state"] == "running" for run in deployment.cdf.expected_runs()):
        await asyncio.sleep(0.1)
    await deployment.start()
    await deployment.until(lambda _: bool(deployment.logged("service.started")))
    assert not following.done(), "it went on while the run did"
    awaited, *_ = deployment.logged("ledger.awaited")
    assert "is in use by the command of process" in awaited["cause"]
    deployment.cdf.cancel(job)
    code, out, err = await following
    assert code == 1, err
    assert "a service starts, which follows the run from now on" in err
    assert out.endswith(": canceled\n")
    await deployment.settle()
    assert not (deployment.folder / "lineage.db.claim").exists()
    await stop(deployment)


async def test_a_service_waits_for_the_ledger_and_stops_cleanly_while_it_waits(deployment: Deployment) -> None:
    held = lock.take(deployment.folder / "lineage.db", "test", now(), command=True)
    try:
        await deployment.start()
        await deployment.until_logged("ledger.awaited")
        await stop(deployment)
    finally:
        held.release()
    assert not lock.is_reserved(deployment.folder / "lineage.db")
    assert not deployment.logged("service.started")


async def test_a_service_that_waits_goes_before_the_next_command(deployment: Deployment) -> None:
    job = next_run(deployment, Scenario(0.1, 0.2))
    held = lock.take(deployment.folder / "lineage.db", "test", now(), command=True)
    await deployment.start()
    await deployment.until_logged("ledger.awaited")
    command = asyncio.create_task(deployment.command("trigger", CDF, job, "--wait"))
    await asyncio.sleep(3)
    held.release()
    await deployment.until_ready()
    code, out, err = await command
    assert code == 0, err
    assert out.endswith(": succeeded\n")
    assert "a service starts" not in err, "the service did it all"
    await stop(deployment)


async def until_there(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.05)


async def test_a_source_that_left_is_forgotten_beside_a_service_with_what_is_owed_of_it(deployment: Deployment) -> None:
    jobs = list(deployment.cdf.transformations)
    deployment.marquez.faults.plan(Fault(FaultKind.STATUS, "POST /api/v1/lineage", times=-1, status=503))
    deployment.cdf.start_run(jobs[0], Scenario(0.1, 0.2))
    deployment.cdf.start_run(jobs[1], Scenario(0.1, None))
    await deployment.start()
    await deployment.until_arrived(starts=2, ends=1)
    deployment.settings["sources"] = [one for one in deployment.settings["sources"] if one["name"] != CDF]
    deployment.configure()
    code, _, err = await deployment.command("forget", CDF, "--yes", "--drop-undelivered")
    assert code == 1
    assert f"the running service has source {CDF} in its configuration; remove it there, restart the service" in err
    await stop(deployment)
    await deployment.start()
    await deployment.until_ready()
    counts = {"runs": 2, "open_runs": 1, "undelivered": 3, "parked": 0, "requests": 0}
    done = {"request": "done", "source": CDF, **counts, "removed": True}
    assert await shown_by(deployment, "forget", CDF, "--yes", "--drop-undelivered") == done
    [line] = deployment.logged("ledger.forgotten")
    assert {"target": f"source:{CDF}", **counts}.items() <= line.items()
    await deployment.until(lambda status: [row["pending"] for row in status["sinks"]] == [0, 0])
    assert await shown_by(deployment, "runs") == []


async def test_what_left_is_forgotten_without_a_service(deployment: Deployment) -> None:
    deployment.cdf.start_run(next(iter(deployment.cdf.transformations)), Scenario(0.1, 0.2))
    await deployment.start()
    await deployment.settle()
    await stop(deployment)
    deployment.settings["sources"] = [one for one in deployment.settings["sources"] if one["name"] != CDF]
    deployment.settings["sinks"] = deployment.settings["sinks"][:1]
    deployment.configure()
    nothing_else = "0 undelivered events, 0 parked, 0 requests"
    code, out, err = await deployment.command("forget", "marquez", "--yes")
    assert (code, out) == (0, f"removed sink marquez: 0 runs (0 open), {nothing_else}\n")
    assert "ledger.forgotten" in err
    code, out, _ = await deployment.command("forget", CDF, "--yes")
    assert (code, out) == (0, f"removed source {CDF}: 1 run (0 open), {nothing_else}\n")
    assert await shown_by(deployment, "runs") == []
    await deployment.start()
    status = await deployment.until(lambda status: all(row["state"] is not None for row in status["sources"]))
    assert {row["sink"] for row in status["sinks"]} == {"file"}
    assert {row["source"] for row in status["sources"]} == {WETRANSFORM, DATAPREP}
    await stop(deployment)


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_backend_that_lost_a_run_is_compared_mended_and_filled(deployment: Deployment, shards: int) -> None:
    deployment.settings["sinks"][1]["shards"] = shards
    first, second = list(deployment.cdf.transformations)[:2]
    deployment.cdf.start_run(first, Scenario(0.1, 0.2))
    await deployment.start()
    await deployment.until_arrived(starts=1, ends=1)
    await deployment.until(_all_delivered)
    rows = await table(deployment, "status")
    head, of_marquez = (next(row for row in rows if row[0] == name) for name in ("sink", "marquez"))
    assert of_marquez[head.index("shards")] == str(shards)
    kept = deepcopy({name: rows for name, rows in vars(deployment.marquez.tables).items() if name != "_rng"})
    deployment.cdf.start_run(second, Scenario(0.1, 0.2))
    await deployment.until_arrived(starts=2, ends=2)
    await deployment.until(_all_delivered)
    [lost] = deployment.marquez.tables.runs.keys() - kept["runs"].keys()
    vars(deployment.marquez.tables).update(kept)
    compared = await shown_by(deployment, "reconcile", "marquez", "--mend")
    assert [(each["run_id"], each["mend"]) for each in compared["differences"]] == [(str(lost), "run")]
    assert compared["mended"]["queued"] == 1
    await deployment.until(_all_delivered)
    assert (await shown_by(deployment, "reconcile", "marquez"))["equal"] == 2
    listed = await shown_by(deployment, "backfill", CDF, "--since", "1h", "--dry-run")
    assert (listed["seen"], listed["known"], listed["made"]) == (2, 2, 0)
    filled = await shown_by(deployment, "backfill", "marquez")
    assert (filled["sink"], filled["strands"], filled["waiting"]) == ("marquez", 2, 0)
    await deployment.until(_all_delivered)
    await stop(deployment)
    before = deployment.events.read_bytes()
    counts = {"strands": 2, "events": len(before.splitlines()), "waiting": 0, "incomplete": 0, "restricted": 0}
    done = await shown_by(deployment, "backfill", "file")
    assert done == {"request": "done", "sink": "file", "since": None, "until": None, **counts}
    again = deployment.events.read_bytes().removeprefix(before).splitlines()
    assert sorted(again) == sorted(before.splitlines())


def _all_delivered(status: dict[str, Any]) -> bool:
    return not any(row["pending"] for row in status["sinks"])
