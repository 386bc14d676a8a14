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
from tests.lease_faults import seize, without_renewals
from tests.unit.polling.scripted_source import FIRST_POLL, Plant

NO_SPACE = LedgerError("no space left on its disk")


async def asked(plant: Plant, job: str) -> int:
    """The number of a request to start a run of this job."""
    body = json.dumps({"job": job, "options": {}})
    now_ms = to_ms(plant.pollers.clock.now())
    number: int = await plant.pollers.store.write(requests.add, RequestKind.TRIGGER, "source:plant", body, now_ms)
    return number


async def told(plant: Plant, number: int) -> Request:
    found: Request = await plant.pollers.store.read(requests.get, number)
    return found


async def test_one_that_fails_leaves_the_others_alone(plant: Plant) -> None:
    """The answer of the quick one cannot be written while the slow one is under way."""

    async def trigger(job: str) -> Observation:
        await plant.pollers.clock.sleep(20 if job == "slow" else 1)
        return plant.run(job, RunState.QUEUED)

    plant.source.triggers = trigger
    quick, slow = await asked(plant, "quick"), await asked(plant, "slow")
    written = plant.written("finish", error=NO_SPACE)
    await plant.advance(15)
    assert len(written) > 1
    plant.written()
    await plant.advance(60)
    assert (await told(plant, quick)).state is RequestState.DONE
    assert (await told(plant, slow)).state is RequestState.DONE
    assert set(await plant.pollers.store.read(runs.by_keys, 1, ["quick", "slow"])) == {"quick", "slow"}


async def test_a_run_that_was_started_is_noted_when_the_ledger_takes_it(plant: Plant) -> None:
    started: list[str] = []

    async def trigger(job: str) -> Observation:
        started.append(job)
        return plant.run(job, RunState.QUEUED)

    plant.source.triggers = trigger
    await plant.advance(FIRST_POLL)
    number = await asked(plant, "job")
    plant.written("write_page", error=NO_SPACE)
    await plant.advance(200)
    assert (await told(plant, number)).state is RequestState.CLAIMED
    plant.written()
    await plant.advance(240)
    assert (await told(plant, number)).state is RequestState.DONE
    assert started == ["job"]
    assert await plant.pollers.store.read(runs.by_keys, 1, ["job"])


async def test_an_answer_that_was_committed_unheard_is_not_written_for_ever(plant: Plant) -> None:
    async def trigger(job: str) -> Observation:
        return plant.run(job, RunState.QUEUED)

    plant.source.triggers = trigger
    number = await asked(plant, "first")
    written = plant.written("finish", error=LedgerError("the answer was lost"), lost=True)
    await plant.advance(100)
    assert len(written) == 1
    assert (await told(plant, number)).state is RequestState.DONE
    plant.written()
    second = await asked(plant, "second")
    await plant.advance(101)
    assert (await told(plant, second)).state is RequestState.DONE


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (TriggerError("403"), RequestState.FAILED),
        (TriggerError("no answer", doubtful=True), RequestState.DOUBTFUL),
        (ZeroDivisionError("division by zero"), RequestState.DOUBTFUL),
    ],
)
async def test_whether_a_run_was_started(plant: Plant, error: Exception, state: RequestState) -> None:
    async def trigger(job: str) -> Observation:
        raise error

    plant.source.triggers = trigger
    number = await asked(plant, "job")
    await plant.advance(FIRST_POLL)
    request = await told(plant, number)
    assert request.state is state
    assert str(error) in json.loads(request.answer or "")["error"]


async def test_a_job_goes_by_the_name_that_runs_show(plant: Plant) -> None:
    started: list[str] = []

    async def trigger(job: str) -> Observation:
        started.append(job)
        return named(plant, f"run-{len(started)}", key=job)

    plant.source.triggers = trigger
    for job in ("7", "recipe/daily", "recipe/else"):
        assert (await told(plant, await done(plant, job))).state is RequestState.DONE
    assert started == ["7", "7", "recipe/else"]
    await done(plant, "8")
    refused = await told(plant, await done(plant, "recipe/daily"))
    assert refused.state is RequestState.FAILED
    assert "several jobs" in (refused.answer or "")
    assert "give one id of 8, recipe/else, 7" in (refused.answer or "")
    assert started == ["7", "7", "recipe/else", "8"]


def named(plant: Plant, run: str, *, key: str) -> Observation:
    seen = plant.run(run, RunState.QUEUED)
    return replace(seen, job=replace(seen.job, key=key, name="recipe/daily"))


async def done(plant: Plant, job: str) -> int:
    number = await asked(plant, job)
    await plant.advance(FIRST_POLL + 10 * number)
    return number


async def test_no_trigger_starts_that_the_rest_of_the_lease_does_not_cover(plant: Plant) -> None:
    begun: list[str] = []

    async def trigger(job: str) -> Observation:
        begun.append(job)
        return plant.run(job, RunState.QUEUED)

    plant.source.triggers = trigger
    await plant.advance(5)
    with without_renewals(plant.pollers.store):
        await plant.advance(MARGIN + 10)
        await asked(plant, "job")
        await plant.advance(MARGIN + 20)
        assert begun == [], "a trigger may take longer than the lease lasts"
    await plant.advance(MARGIN + 25)
    assert begun == ["job"]


async def test_a_trigger_under_a_lease_that_is_lost_is_cut_off_and_never_repeated(plant: Plant) -> None:
    """Whoever has the lease next says that nobody knows what became of it."""
    begun: list[str] = []
    ended: list[str] = []

    async def trigger(job: str) -> Observation:
        begun.append(job)
        try:
            await plant.pollers.clock.sleep(60)
        finally:
            ended.append(job)
        return plant.run(job, RunState.QUEUED)

    plant.source.triggers = trigger
    number = await asked(plant, "job")
    await plant.advance(5)
    assert (begun, ended) == (["job"], [])
    await plant.pollers.store.write(seize, "source:plant", "second", -1)
    await plant.advance(15)
    assert ended == ["job"], "nothing of it goes on without the lease"
    await plant.advance(90)
    assert (await told(plant, number)).state is RequestState.DOUBTFUL
    assert begun == ["job"]
    assert not await plant.pollers.store.read(runs.by_keys, 1, ["job"])
