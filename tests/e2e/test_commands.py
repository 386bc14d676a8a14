"""The commands of every day, beside a running service and without one."""

import asyncio
import json
import signal
import stat
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.ledger.sqlite import lock
from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Ending, Story
from simulators.wetransform import Plan
from simulators.wetransform import Story as Walk
from tests.deployment import CDF, DATAPREP, WETRANSFORM, Scene, now

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

HEAD_END = ["duration_seconds", "duration_bounded", "run_id", "error"]
REFUSES = Fault(FaultKind.STATUS, "POST /api/v1/lineage", times=-1, status=422, body={"errors": ["no"]})


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Scene(tmp_path) as made:
        made.settings["stop_within"] = "4s"
        yield made


async def told(scene: Scene, *words: str, code: int = 0) -> Any:
    """What a command answers as JSON."""
    ended, out, err = await scene.command(*words, "--json")
    assert ended == code, f"{words}: {out}{err}"
    return json.loads(out)


async def table(scene: Scene, *words: str, code: int = 0) -> list[list[str]]:
    """What a command answers in a pipe: the head and the rows."""
    ended, out, err = await scene.command(*words)
    assert ended == code, f"{words}: {out}{err}"
    return [line.split("\t") for line in out.splitlines()]


def told_next(scene: Scene, story: Story) -> str:
    """A transformation whose next run goes so."""
    first = next(iter(scene.cdf.transformations.values()))
    first.stories.append(story)
    return str(first.external_id)


async def stop(scene: Scene) -> None:
    scene.terminate()
    assert await scene.ended(30) == 0


async def test_reading_beside_a_service_and_without_one(scene: Scene) -> None:
    jobs = list(scene.cdf.transformations)
    scene.cdf.start_run(jobs[0], Story(0.1, 0.2))
    scene.cdf.start_run(jobs[1], Story(0.1, 0.2, Ending.FAILED))
    scene.cdf.start_run(jobs[2], Story(0.1, None, shown_as="Hibernating"))
    await scene.start()
    await scene.until_told("run.skipped")
    while scene.faults():
        await asyncio.sleep(0.1)
    status, rows, failed, head, skipped = await asyncio.gather(
        told(scene, "status"),
        told(scene, "runs"),
        told(scene, "runs", "--source", CDF, "--state", "failed"),
        table(scene, "runs", "--limit", "1"),
        told(scene, "skipped"),
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
    await stop(scene)
    alone, same_rows, same_skipped, (code, out, err) = await asyncio.gather(
        told(scene, "status", code=1), told(scene, "runs"), told(scene, "skipped"), scene.command("status")
    )
    assert alone["running"] is False
    assert {row["state"] for row in alone["sources"]} == {None}
    assert same_rows == rows
    assert {row["cause"] for row in same_skipped} == {row["cause"] for row in skipped}
    assert (code, err) == (1, "no service is running; this is what the ledger says\n")
    assert out.count("\n\n") == 2, "three tables"
    code, _, err = await scene.command("runs", "--source", "nope")
    assert code == 2
    assert "the ledger has no source 'nope'; it has customers, plant-a, prep" in err


async def test_status_says_what_is_wrong(scene: Scene) -> None:
    scene.cdf.faults.plan(Fault(FaultKind.STATUS, "transformations", times=-1, status=401))
    await scene.start()
    await scene.until(lambda status: any(row["wrong"] for row in status["sources"]))
    status = await told(scene, "status", code=1)
    [row] = [row for row in status["sources"] if row["source"] == CDF]
    assert row["state"] == "auth"
    assert "401" in row["wrong"]


async def test_parked_events_are_listed_retried_and_dropped(scene: Scene) -> None:
    jobs = list(scene.cdf.transformations)
    scene.marquez.faults.plan(REFUSES)
    for job in jobs[:2]:
        scene.cdf.start_run(job, Story(0.1, 0.2))
    await scene.start()
    await scene.until_parked(4)
    listed = await told(scene, "parked", "list")
    assert {(row["sink"], row["source"]) for row in listed} == {("marquez", CDF)}
    assert sorted(row["type"] for row in listed) == ["COMPLETE", "COMPLETE", "START", "START"]
    assert all("422" in row["cause"] and row["attempts"] == 1 for row in listed)
    first, second = sorted({row["run_id"] for row in listed})
    rows = await table(scene, "parked", "list", "--limit", "1")
    assert len(rows) == 2
    assert await told(scene, "parked", "drop", "marquez", "--run", first, "--yes") == {"request": "done", "dropped": 2}
    assert await told(scene, "parked", "drop", "marquez", "--run", first, "--yes", code=1) == {
        "request": "failed",
        "error": f"nothing is parked there of run {first}",
    }
    scene.marquez.faults.clear()
    code, out, err = await scene.command("parked", "retry", "marquez")
    assert (code, out, err) == (0, "2 queued\n", "")
    await scene.until_parked(0)
    await scene.until(lambda status: status["sinks"][1]["pending"] == 0)
    assert scene.marquez_states()[second] == "COMPLETED"
    code, _, err = await scene.command("parked", "retry", "marquez")
    assert (code, err) == (1, "error: nothing is parked there\n")


async def test_parked_events_are_dropped_when_somebody_says_so(scene: Scene) -> None:
    scene.marquez.faults.plan(REFUSES)
    scene.cdf.start_run(next(iter(scene.cdf.transformations)), Story(0.1, 0.2))
    await scene.start()
    await scene.until_parked(2)
    code, out, err = await scene.command("parked", "drop", "marquez")
    assert (code, out) == (2, ""), "there is no terminal to ask on"
    assert "would drop 2 parked events of sink marquez (1 COMPLETE, 1 START; of 1 runs), and asks first" in err
    shown = await told(scene, "parked", "drop", "marquez", "--dry-run")
    assert shown["would_drop"] == 2
    one = shown["events"][0]["event"]
    assert await told(scene, "parked", "drop", "marquez", "--event", one, "--yes") == {"request": "done", "dropped": 1}
    await scene.until_parked(1)


async def test_parked_events_are_sent_again_without_a_service(scene: Scene) -> None:
    scene.marquez.faults.plan(REFUSES)
    scene.cdf.start_run(next(iter(scene.cdf.transformations)), Story(0.1, 0.2))
    await scene.start()
    await scene.until_parked(2)
    await stop(scene)
    assert len(await told(scene, "parked", "list")) == 2
    scene.marquez.faults.clear()
    assert await told(scene, "parked", "retry", "marquez") == {"request": "done", "queued": 2}
    await scene.start()
    await scene.settle(45)
    assert await told(scene, "parked", "list") == []


async def test_a_run_is_started_and_followed_beside_a_service(scene: Scene) -> None:
    await scene.start()
    await scene.until_ready()
    socket = scene.folder / "lineage.db.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    job = told_next(scene, Story(0.2, 0.5))
    code, out, err = await scene.command("trigger", CDF, job, "--wait")
    assert code == 0, err
    assert out.endswith(": succeeded\n")
    assert "succeeded (Completed)" in err
    answer = await told(scene, "trigger", CDF, job)
    assert answer["request"] == "done"
    assert answer["state"] == "queued"
    assert {"key", "run_id", "job"} <= answer.keys()
    await scene.settle()
    refused = await told(scene, "trigger", CDF, "nope", code=1)
    assert refused["request"] == "failed"
    assert "nope was not started" in refused["error"]


async def test_a_run_that_fails_ends_the_wait_with_code_1(scene: Scene) -> None:
    plan = Plan(Walk.FAILING, timedelta(seconds=2))
    await scene.start()
    await scene.until_ready()
    run = scene.wetransform.start(scene.wetransform.transformations[0], plan)
    code, out, _ = await scene.command("watch", WETRANSFORM, run.key, "--wait")
    assert code == 1
    assert out.endswith(": failed\n")
    code, _, err = await scene.command("watch", WETRANSFORM, "00000000-0000-4000-8000-000000000000")
    assert code == 1
    assert err.startswith("error: ")


async def test_a_run_is_started_and_followed_without_a_service(scene: Scene) -> None:
    job = told_next(scene, Story(0.2, 0.5))
    code, out, err = await scene.command("trigger", CDF, job, "--wait")
    assert code == 0, err
    assert out.endswith(": succeeded\n")
    assert scene.faults() == [], "its events are delivered before the command ends"
    assert not (scene.folder / "lineage.db.sock").exists()
    run = scene.wetransform.start(scene.wetransform.transformations[0], Plan(duration=timedelta(seconds=3)))
    code, out, err = await scene.command("watch", WETRANSFORM, run.key)
    assert code == 0, err
    await scene.start()
    await scene.settle(45)


async def test_whoever_stops_waiting_hears_that_the_run_goes_on(scene: Scene) -> None:
    job = told_next(scene, Story(0.1, None))
    code, _, err = await scene.command("trigger", CDF, job, "--wait", "--timeout", "2s")
    assert code == 1
    assert "not ended within the 2 s of --timeout: run" in err
    assert "nobody follows it until a service runs" in err
    scene.cdf.cancel(job)
    code, _, err = await scene.command("trigger", CDF, told_next(scene, Story(0.1, None)))
    assert code == 0, err
    assert "no service runs, so nobody follows this run: start one with `lineage-collector run`" in err
    for words in (["--timeout", "2s"], ["--wait", "--timeout", "soon"]):
        code, _, err = await scene.command("trigger", CDF, job, *words)
        assert (code, "--timeout" in err) == (2, True)


async def test_ctrl_c_ends_the_command_and_not_the_run(scene: Scene) -> None:
    job = told_next(scene, Story(0.1, None))
    await scene.start()
    await scene.until_ready()
    words = ("-m", "collector", "trigger", CDF, job, "--wait", "--config", str(scene.config))
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=asyncio.subprocess.PIPE)
    await scene.until(lambda status: any(row["active"] for row in status["sources"]))
    assert process.stderr is not None
    assert b"(" in await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert "goes on, and the service follows it" in err.decode()
    assert "Traceback" not in err.decode()
    await stop(scene)


async def test_a_service_that_dies_ends_the_wait(scene: Scene) -> None:
    job = told_next(scene, Story(0.1, None))
    await scene.start()
    await scene.until_ready()
    waiting = asyncio.create_task(scene.command("trigger", CDF, job, "--wait"))
    await scene.until(lambda status: any(row["active"] for row in status["sources"]))
    await asyncio.sleep(2)
    scene.send(signal.SIGKILL)
    await scene.ended()
    code, _, err = await waiting
    assert code == 1
    assert "the service stopped while run" in err


async def test_a_source_that_the_service_does_not_know_yet_is_refused(scene: Scene) -> None:
    await scene.start()
    await scene.until_ready()
    scene.settings["sources"].append({**scene.settings["sources"][0], "name": "plant-b", "project": "plant-b"})
    scene.configure()
    refused = await told(scene, "trigger", "plant-b", "1", code=1)
    assert "the service that runs knows no source plant-b; restart it" in refused["error"]


async def test_a_command_steps_aside_for_a_service_and_follows_its_run_beside_it(scene: Scene) -> None:
    job = told_next(scene, Story(0.2, None))
    following = asyncio.create_task(scene.command("trigger", CDF, job, "--wait"))
    await until_there(scene.folder / "lineage.db.sock")
    while not any(run["state"] == "running" for run in scene.cdf.truth()):
        await asyncio.sleep(0.1)
    await scene.start()
    await scene.until(lambda _: bool(scene.told("service.started")))
    assert not following.done(), "it went on while the run did"
    [awaited] = scene.told("ledger.awaited")
    assert "is in use by the command of process" in awaited["cause"]
    scene.cdf.cancel(job)
    code, out, err = await following
    assert code == 1, err
    assert "a service starts: it follows the run from here on" in err
    assert out.endswith(": canceled\n")
    await scene.settle()
    assert not (scene.folder / "lineage.db.claim").exists()
    await stop(scene)


async def test_a_service_waits_for_the_ledger_and_stops_cleanly_while_it_waits(scene: Scene) -> None:
    held = lock.take(scene.folder / "lineage.db", "test", now(), command=True)
    try:
        await scene.start()
        await scene.until_told("ledger.awaited")
        await stop(scene)
    finally:
        held.release()
    assert not lock.is_reserved(scene.folder / "lineage.db")
    assert not scene.told("service.started")


async def test_a_service_that_waits_goes_before_the_next_command(scene: Scene) -> None:
    job = told_next(scene, Story(0.1, 0.2))
    held = lock.take(scene.folder / "lineage.db", "test", now(), command=True)
    await scene.start()
    await scene.until_told("ledger.awaited")
    asked = asyncio.create_task(scene.command("trigger", CDF, job, "--wait"))
    await asyncio.sleep(3)
    held.release()
    await scene.until_ready()
    code, out, err = await asked
    assert code == 0, err
    assert out.endswith(": succeeded\n")
    assert "a service starts" not in err, "the service did it all"
    await stop(scene)


async def until_there(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.05)


async def test_a_source_that_left_is_forgotten_beside_a_service_with_what_is_owed_of_it(scene: Scene) -> None:
    jobs = list(scene.cdf.transformations)
    scene.marquez.faults.plan(Fault(FaultKind.STATUS, "POST /api/v1/lineage", times=-1, status=503))
    scene.cdf.start_run(jobs[0], Story(0.1, 0.2))
    scene.cdf.start_run(jobs[1], Story(0.1, None))
    await scene.start()
    await scene.until_arrived(starts=2, ends=1)
    scene.settings["sources"] = [one for one in scene.settings["sources"] if one["name"] != CDF]
    scene.configure()
    code, _, err = await scene.command("forget", CDF, "--yes", "--drop-undelivered")
    assert code == 1
    assert f"the service that runs has source {CDF} in its configuration; restart it without" in err
    await stop(scene)
    await scene.start()
    await scene.until_ready()
    counts = {"runs": 2, "open_runs": 1, "undelivered": 3, "parked": 0, "requests": 0}
    done = {"request": "done", "source": CDF, **counts, "removed": True}
    assert await told(scene, "forget", CDF, "--yes", "--drop-undelivered") == done
    [line] = scene.told("ledger.forgotten")
    assert {"target": f"source:{CDF}", **counts}.items() <= line.items()
    await scene.until(lambda status: [row["pending"] for row in status["sinks"]] == [0, 0])
    assert await told(scene, "runs") == []


async def test_what_left_is_forgotten_without_a_service(scene: Scene) -> None:
    scene.cdf.start_run(next(iter(scene.cdf.transformations)), Story(0.1, 0.2))
    await scene.start()
    await scene.settle()
    await stop(scene)
    scene.settings["sources"] = [one for one in scene.settings["sources"] if one["name"] != CDF]
    scene.settings["sinks"] = scene.settings["sinks"][:1]
    scene.configure()
    nothing_else = "0 undelivered and 0 parked events, 0 requests"
    code, out, err = await scene.command("forget", "marquez", "--yes")
    assert (code, out) == (0, f"forgot sink marquez: 0 runs (0 open), {nothing_else}\n")
    assert "ledger.forgotten" in err
    code, out, _ = await scene.command("forget", CDF, "--yes")
    assert (code, out) == (0, f"forgot source {CDF}: 1 runs (0 open), {nothing_else}\n")
    assert await told(scene, "runs") == []
    await scene.start()
    status = await scene.until(lambda status: all(row["state"] is not None for row in status["sources"]))
    assert {row["sink"] for row in status["sinks"]} == {"file"}
    assert {row["source"] for row in status["sources"]} == {WETRANSFORM, DATAPREP}
    await stop(scene)
