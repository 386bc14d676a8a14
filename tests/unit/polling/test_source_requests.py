"""What people ask of a source: each request is done to its end, whatever becomes of the others and of the ledger."""

import json
from dataclasses import replace

import pytest

from collector.clock import to_ms
from collector.errors import LedgerError, TriggerError
from collector.ledger import requests, runs
from collector.ledger.held_lease import MARGIN
from collector.ledger.requests import Request, RequestKind, RequestState
from collector.model import Observation, RunState
from tests.lease_faults import take_over, without_renewals
from tests.unit.polling.scripted_source import FIRST_POLL, ScriptedSource

NO_SPACE = LedgerError("no space left on its disk")


async def add_request(scripted: ScriptedSource, job: str, **options: str) -> int:
    """The number of a request to start a run of this job."""
    body = json.dumps({"job": job, "options": options})
    now_ms = to_ms(scripted.pollers.clock.now())
    number: int = await scripted.pollers.store.write(requests.add, RequestKind.TRIGGER, "source:scripted", body, now_ms)
    return number


async def stored(scripted: ScriptedSource, number: int) -> Request:
    found: Request = await scripted.pollers.store.read(requests.get, number)
    return found


async def test_one_that_fails_leaves_the_others_alone(scripted: ScriptedSource) -> None:
    """The answer of the quick one cannot be written while the slow one is under way."""

    async def trigger(job: str) -> Observation:
        await scripted.pollers.clock.sleep(20 if job == "slow" else 1)
        return scripted.run(job, RunState.QUEUED)

    scripted.platform.triggers = trigger
    quick, slow = await add_request(scripted, "quick"), await add_request(scripted, "slow")
    written = scripted.written("finish", error=NO_SPACE)
    await scripted.advance(15)
    assert len(written) > 1
    scripted.written()
    await scripted.advance(60)
    assert (await stored(scripted, quick)).state is RequestState.DONE
    assert (await stored(scripted, slow)).state is RequestState.DONE
    assert set(await scripted.pollers.store.read(runs.by_keys, 1, ["quick", "slow"])) == {"quick", "slow"}


async def test_a_run_that_was_started_is_noted_when_the_ledger_takes_it(scripted: ScriptedSource) -> None:
    started: list[str] = []

    async def trigger(job: str) -> Observation:
        started.append(job)
        return scripted.run(job, RunState.QUEUED)

    scripted.platform.triggers = trigger
    await scripted.advance(FIRST_POLL)
    number = await add_request(scripted, "job")
    scripted.written("write_page", error=NO_SPACE)
    await scripted.advance(200)
    assert (await stored(scripted, number)).state is RequestState.CLAIMED
    scripted.written()
    await scripted.advance(240)
    assert (await stored(scripted, number)).state is RequestState.DONE
    assert started == ["job"]
    assert await scripted.pollers.store.read(runs.by_keys, 1, ["job"])


async def test_an_answer_that_was_committed_unheard_is_not_written_for_ever(scripted: ScriptedSource) -> None:
    async def trigger(job: str) -> Observation:
        return scripted.run(job, RunState.QUEUED)

    scripted.platform.triggers = trigger
    number = await add_request(scripted, "first")
    written = scripted.written("finish", error=LedgerError("the answer was lost"), lost=True)
    await scripted.advance(100)
    assert len(written) == 1
    assert (await stored(scripted, number)).state is RequestState.DONE
    scripted.written()
    second = await add_request(scripted, "second")
    await scripted.advance(101)
    assert (await stored(scripted, second)).state is RequestState.DONE


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (TriggerError("403"), RequestState.FAILED),
        (TriggerError("no answer", doubtful=True), RequestState.DOUBTFUL),
        (ZeroDivisionError("division by zero"), RequestState.DOUBTFUL),
    ],
)
async def test_whether_a_run_was_started(scripted: ScriptedSource, error: Exception, state: RequestState) -> None:
    async def trigger(job: str) -> Observation:
        raise error

    scripted.platform.triggers = trigger
    number = await add_request(scripted, "job")
    await scripted.advance(FIRST_POLL)
    request = await stored(scripted, number)
    assert request.state is state
    assert str(error) in json.loads(request.answer or "")["error"]


@pytest.mark.parametrize("keeps_ids", [True, False])
async def test_a_trigger_in_doubt_says_how_it_is_asked_for_again(scripted: ScriptedSource, keeps_ids: bool) -> None:
    """Under the id of the first time, where the platform starts no second run for it."""

    async def trigger(job: str) -> Observation:
        raise TriggerError("no answer", doubtful=True)

    if keeps_ids:
        scripted.platform.takes_execution_ids = True  # type: ignore[attr-defined]
    scripted.platform.triggers = trigger
    number = await add_request(scripted, "job")
    await scripted.advance(FIRST_POLL)
    answer = json.loads((await stored(scripted, number)).answer or "")
    assert set(answer) == ({"error", "execution_id"} if keeps_ids else {"error"})


async def test_a_job_goes_by_the_name_that_runs_show(scripted: ScriptedSource) -> None:
    started: list[str] = []

    async def trigger(job: str) -> Observation:
        started.append(job)
        return named(scripted, f"run-{len(started)}", key=job)

    scripted.platform.triggers = trigger
    for job in ("7", "recipe/daily", "recipe/else"):
        assert (await stored(scripted, await done(scripted, job))).state is RequestState.DONE
    assert started == ["7", "7", "recipe/else"]
    await done(scripted, "8")
    refused = await stored(scripted, await done(scripted, "recipe/daily"))
    assert refused.state is RequestState.FAILED
    assert "several jobs" in (refused.answer or "")
    assert "give one id of 8, recipe/else, 7" in (refused.answer or "")
    assert started == ["7", "7", "recipe/else", "8"]


def named(scripted: ScriptedSource, run: str, *, key: str) -> Observation:
    seen = scripted.run(run, RunState.QUEUED)
    return replace(seen, job=replace(seen.job, key=key, name="recipe/daily"))


async def done(scripted: ScriptedSource, job: str) -> int:
    number = await add_request(scripted, job)
    await scripted.advance(FIRST_POLL + 10 * number)
    return number


async def test_no_trigger_starts_that_the_rest_of_the_lease_does_not_cover(scripted: ScriptedSource) -> None:
    begun: list[str] = []

    async def trigger(job: str) -> Observation:
        begun.append(job)
        return scripted.run(job, RunState.QUEUED)

    scripted.platform.triggers = trigger
    await scripted.advance(5)
    with without_renewals(scripted.pollers.store):
        await scripted.advance(MARGIN + 10)
        await add_request(scripted, "job")
        await scripted.advance(MARGIN + 20)
        assert begun == [], "a trigger may take longer than the lease lasts"
    await scripted.advance(MARGIN + 25)
    assert begun == ["job"]


async def test_a_trigger_under_a_lease_that_is_lost_is_cut_off_and_never_repeated(
    scripted: ScriptedSource, caplog: pytest.LogCaptureFixture
) -> None:
    """The next holder of the lease says that it is not known what became of it, and logs it without secrets."""
    begun: list[str] = []
    ended: list[str] = []

    async def trigger(job: str) -> Observation:
        begun.append(job)
        try:
            await scripted.pollers.clock.sleep(60)
        finally:
            ended.append(job)
        return scripted.run(job, RunState.QUEUED)

    scripted.platform.triggers = trigger
    number = await add_request(scripted, "job", password="hunter2secret")
    await scripted.advance(5)
    assert (begun, ended) == (["job"], [])
    await scripted.pollers.store.write(take_over, "source:scripted", "second", -1)
    await scripted.advance(15)
    assert ended == ["job"], "nothing of it goes on without the lease"
    await scripted.advance(90)
    assert (await stored(scripted, number)).state is RequestState.DOUBTFUL
    assert begun == ["job"]
    assert not await scripted.pollers.store.read(runs.by_keys, 1, ["job"])
    [logged] = [record for record in caplog.records if record.getMessage() == "request.doubted"]
    assert logged.__dict__["fields"]["body"] == '{"job": "job", "options": {"password": ***}}'


async def test_watch_answers_with_the_state_that_stands(scripted: ScriptedSource) -> None:
    """The first end stands, whatever the platform says later."""
    scripted.seen[1] = [scripted.run("7")]
    await scripted.advance(FIRST_POLL + 5)

    async def watch(key: str) -> Observation:
        return scripted.run(key, RunState.FAILED)

    scripted.platform.watches = watch
    body = json.dumps({"key": "7", "options": {}})
    now_ms = to_ms(scripted.pollers.clock.now())
    number = await scripted.pollers.store.write(requests.add, RequestKind.WATCH, "source:scripted", body, now_ms)
    await scripted.advance(20)
    request = await stored(scripted, number)
    assert json.loads(request.answer or "")["state"] == "succeeded"
