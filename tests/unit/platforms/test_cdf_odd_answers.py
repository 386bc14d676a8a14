"""Answers of CDF that concern one run or one execution must hold up no other, and count as nothing that they do not say."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from collector.errors import BadAnswer, SourceError
from collector.http import Received
from collector.model import EventKind, RunState, Skip, SkipKind
from collector.platforms.answers import Forbidden, TooLarge
from collector.platforms.cdf.api import Api, Page
from collector.platforms.cdf.jobs_by_ids import MOST, jobs_by_ids
from collector.platforms.cdf.pages import PAGE_BYTES, TOO_LARGE_FOR
from collector.testing.faults import Fault, FaultKind
from simulators.cdf import Modes, Scenario
from tests.cdf_rig import CdfRig, cdf_rig

LONG = Scenario(1, None)


@pytest.fixture
async def rig() -> AsyncIterator[CdfRig]:
    async with cdf_rig(Modes(concurrency_limit=None), workflows=True) as made:
        for external_id in ("pumps", "orders"):
            made.simulator.add_transformation(external_id)
        yield made


def refusing(monkeypatch: pytest.MonkeyPatch, bad: set[int], error: Exception) -> list[int]:
    """Requests by id fail when one of these ids is among them; how many ids each asked for."""
    asked: list[int] = []
    read = Api.jobs_answer

    async def answer(api: Api, ids: Sequence[int]) -> Received:
        asked.append(len(ids))
        if bad & set(ids):
            raise error
        return await read(api, ids)

    monkeypatch.setattr(Api, "jobs_answer", answer)
    return asked


def begin(rig: CdfRig, count: int) -> list[int]:
    """So many runs, with the newest one last."""
    return [rig.simulator.start_run("pumps", LONG).id for _ in range(count)]


ERRORS = [Forbidden("status 403"), TooLarge("more than 32 MiB"), BadAnswer("an HTML page")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_job_that_is_refused_by_its_id_holds_up_no_other(
    rig: CdfRig, error: SourceError, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.poller.cycle()
    old = begin(rig, 100)
    rig.clock.advance(5)
    await rig.poller.cycle()
    rig.clock.advance(400)
    old += begin(rig, 1)
    await rig.poller.cycle()
    asked = refusing(monkeypatch, {old[3]}, error)
    new = begin(rig, 10)
    for job_id in old:
        rig.simulator.set_state(job_id, "Completed")
    await rig.poller.cycle()
    states = Counter(rig.poller.runs[str(one)].state for one in old)
    assert states == {RunState.SUCCEEDED: 100, RunState.RUNNING: 1}
    assert all(str(one) in rig.poller.runs for one in new)
    assert asked[0] == 101
    assert asked[-1] == 1
    assert len(asked) <= 15, "halves, and not each by itself"
    assert (rig.poller.runs[str(old[3])].misses, rig.poller.pages[-1].unread) == (0, (str(old[3]),))
    assert f"job {old[3]}" in [skip.subject for skip in rig.poller.skips if skip.kind is SkipKind.ROW]


async def test_a_job_that_is_refused_by_its_id_is_seen_where_the_list_shows_it(
    rig: CdfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job] = begin(rig, 1)
    await rig.poller.follow(10)
    refusing(monkeypatch, {job}, Forbidden("status 403"))
    rig.simulator.set_state(job, "Completed")
    await rig.poller.cycle()
    assert rig.poller.kinds(str(job))[-1] is EventKind.COMPLETE
    assert rig.poller.pages[-1].unread == ()


async def test_where_all_ids_are_refused_it_is_the_source_that_cannot_be_read(
    rig: CdfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = begin(rig, 200)
    await rig.poller.cycle()
    asked = refusing(monkeypatch, set(jobs), Forbidden("status 403"))
    with pytest.raises(Forbidden):
        await rig.poller.cycle()
    assert asked == [200, 100, 100, 50, 50, 50, 50]


async def test_very_many_refused_jobs_are_not_all_looked_for_at_once(
    rig: CdfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = begin(rig, 200)
    await rig.poller.cycle()
    bad = set(jobs[50::2])
    asked = refusing(monkeypatch, bad, Forbidden("status 403"))
    found = await jobs_by_ids(rig.platform._api, jobs, lambda _: False)
    assert len(asked) >= MOST
    assert len(asked) < 2 * MOST
    assert bad <= found.refused.keys()
    assert {row["id"] for row in found.rows} | found.refused.keys() == set(jobs)


def read_at_most(most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pages of more jobs are too large from now on: the lengths that are asked for."""
    limits: list[int] = []
    read = Api.jobs

    async def answer(api: Api, limit: int, cursor: str | None = None) -> Page:
        limits.append(limit)
        if limit > most:
            raise TooLarge("more than 32 MiB")
        return replace(await read(api, limit, cursor), size=1)

    monkeypatch.setattr(Api, "jobs", answer)
    return limits


async def test_a_page_that_is_too_large_is_read_in_smaller_ones(rig: CdfRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty rows of a megabyte each are more than an answer may have."""
    await rig.poller.cycle()
    jobs = begin(rig, 40)
    limits = read_at_most(12, monkeypatch)
    await rig.poller.cycle()
    assert {str(job) for job in jobs} == rig.poller.runs.keys()
    assert limits == [50, 25, 12, 12, 12, 12]


async def test_a_page_that_was_too_large_is_not_asked_for_again_for_an_hour(
    rig: CdfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(rig, 60)
    limits = read_at_most(12, monkeypatch)
    await rig.poller.cycle()
    del limits[:]
    for seconds, most in ((60, 12), (TOO_LARGE_FOR - 61, 12), (2, 50)):
        rig.clock.advance(seconds)
        begin(rig, 1)
        await rig.poller.cycle()
        assert max(limits) == most
    assert len(rig.poller.runs) == 63
    assert limits[-1] == 12


async def test_a_single_row_that_is_too_large_is_an_error_of_the_source(
    rig: CdfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []

    async def answer(api: Api, limit: int, cursor: str | None = None) -> Page:
        limits.append(limit)
        raise TooLarge("more than 32 MiB")

    monkeypatch.setattr(Api, "jobs", answer)
    with pytest.raises(TooLarge):
        await rig.poller.cycle()
    assert limits[-1] == 1, "a page of none would be refused"


async def test_longer_pages_that_are_too_large_are_not_tried_again(
    rig: CdfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page is small, and those behind it are not: the walk would begin again for ever."""
    begin(rig, 220)
    limits: list[int] = []
    read = Api.jobs

    async def answer(api: Api, limit: int, cursor: str | None = None) -> Page:
        limits.append(limit)
        assert len(limits) < 30, "a walk without end"
        if limit > 50:
            raise TooLarge("more than 32 MiB")
        return replace(await read(api, limit, cursor), size=PAGE_BYTES // 4)

    monkeypatch.setattr(Api, "jobs", answer)
    await rig.poller.cycle()
    assert len(rig.poller.runs) == 220
    assert limits == [50, 200, 100, 50, 50, 50, 50, 50]


@pytest.mark.parametrize("missing", [[{"id": 4711}], [{"id": "4711"}], [4711], [{"id": 4711.0, "externalId": "x"}]])
async def test_ids_that_are_named_as_missing_are_left_out_however_they_are_written(rig: CdfRig, missing: Any) -> None:
    [job] = begin(rig, 1)
    body = {"error": {"code": 400, "message": "unknown", "missing": missing}}
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="jobs/byids", status=400, body=body))
    [row] = await rig.platform._api.jobs_by_ids([4711, job])
    assert row["id"] == job


async def test_transformations_under_fresh_cursors_for_ever_end_their_listing(rig: CdfRig) -> None:
    body = {"items": [{"id": 1, "externalId": "pumps"}], "nextCursor": "again"}
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="transformations/filter", times=-1, status=200, body=body))
    with pytest.raises(BadAnswer, match="a next page without a transformation that is new to it"):
        await rig.platform.jobs()


async def test_an_id_that_was_given_to_another_job_mixes_no_two_runs(rig: CdfRig) -> None:
    job = rig.simulator.start_run("pumps", LONG)
    await rig.poller.follow(10)
    before = rig.poller.runs[str(job.id)]
    job.uuid, job.transformation = str(uuid4()), rig.simulator.transformation("orders")
    rig.simulator.set_state(job.id, "Completed")
    await rig.poller.follow(30)
    run = rig.poller.runs[str(job.id)]
    assert (run.job, run.run_id, run.open) == (before.job, before.run_id, False)
    assert rig.poller.kinds(str(job.id)) == [EventKind.OTHER, EventKind.START]
    kinds = {skip.kind for skip in rig.poller.skips if skip.subject == str(job.id)}
    assert kinds == {SkipKind.LATE, SkipKind.VANISHED}


# Workflow executions


EXECUTION_FAULTS = [
    Fault(FaultKind.STATUS, status=403, times=-1),
    Fault(FaultKind.STATUS, status=409, times=-1),
    Fault(FaultKind.HTML, status=200, times=-1),
    Fault(FaultKind.STATUS, status=200, body={"id": "another"}, times=-1),
    Fault(FaultKind.STATUS, status=200, body={"id": "another", "workflowExternalId": "nightly"}, times=-1),
    Fault(FaultKind.STATUS, status=200, body=[], times=-1),
]


@pytest.mark.parametrize("fault", EXECUTION_FAULTS, ids=["403", "409", "html", "nameless", "another", "list"])
async def test_an_execution_that_cannot_be_read_holds_up_no_other_and_is_not_gone(rig: CdfRig, fault: Fault) -> None:
    stuck = rig.simulator.start_workflow("stuck", [("pumps", LONG)])
    await rig.poller.follow(20)
    rig.clock.advance(7 * 3600)  # beyond what is listed by creation
    await rig.poller.cycle()
    rig.simulator.faults.plan(replace(fault, path=f"executions/{stuck.id}"))
    nightly = rig.simulator.start_workflow("nightly", [("orders", Scenario(1, 10))])
    await rig.poller.follow(120, every=15)
    key = f"workflow/{stuck.id}"
    assert rig.poller.kinds(f"workflow/{nightly.id}")[-1] is EventKind.COMPLETE
    [child] = [run for run in rig.poller.runs.values() if run.parent and run.parent.key == f"workflow/{nightly.id}"]
    assert child.state is RunState.SUCCEEDED
    run = rig.poller.runs[key]
    assert (run.open, run.misses) == (True, 0)
    assert run.seen_at < rig.clock.now() - timedelta(seconds=100), "it was not seen meanwhile"
    assert key in [skip.subject for skip in rig.poller.skips]
    assert key in rig.poller.pages[-1].unread
    rig.simulator.faults.clear()
    rig.simulator.terminate_workflow(stuck.id)
    [job] = [one for one, it in rig.poller.runs.items() if it.parent and it.parent.key == key]
    rig.simulator.set_state(int(job), "Completed")
    await rig.poller.follow(30)
    assert rig.poller.kinds(key)[-1] is EventKind.ABORT


async def test_rows_of_executions_that_cannot_be_read_are_counted(rig: CdfRig) -> None:
    body = {"items": [{"id": None}, {"workflowExternalId": "nightly"}, "odd"]}
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="executions/list", times=-1, status=200, body=body))
    begin(rig, 1)
    await rig.poller.cycle()
    [skip] = [skip for skip in rig.poller.skips if skip.subject == "workflow executions"]
    assert skip == Skip(SkipKind.ROW, skip.subject, skip.cause)
    assert skip.cause.startswith("an answer has 6 rows without the id of an execution")
