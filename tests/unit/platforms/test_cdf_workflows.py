"""Workflow executions as parents of CDF jobs: first to start, last to end, and never in the way."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from collector.lifecycle import finish
from collector.model import EventKind, RunState
from collector.platforms.cdf.api import Api, Page
from collector.testing.faults import Fault, FaultKind
from simulators.cdf import READ, Ending, Scenario, WorkflowExecution
from tests.cdf_rig import CdfRig, cdf_rig


@pytest.fixture
async def rig() -> AsyncIterator[CdfRig]:
    async with cdf_rig(workflows=True) as made:
        for external_id in ("pumps", "orders"):
            made.simulator.add_transformation(external_id)
        yield made


def order(rig: CdfRig) -> list[tuple[str, EventKind]]:
    """Who said what, in the order of commits; "w" is a workflow, "j" a job."""
    return [("w" if "/" in key else "j", transition.kind) for key, transition in rig.poller.transitions]


async def test_a_parent_starts_before_its_children_and_ends_after_them(rig: CdfRig) -> None:
    await rig.poller.cycle()
    tasks = [("pumps", Scenario(1, 10)), ("orders", Scenario(1, 20))]
    made = rig.simulator.start_workflow("nightly", tasks)
    await rig.poller.follow(120)
    said = order(rig)
    assert (said[0], said[-1]) == (("w", EventKind.START), ("w", EventKind.COMPLETE))
    assert said.count(("j", EventKind.COMPLETE)) == 2
    key = f"workflow/{made.id}"
    run = rig.poller.runs[key]
    assert (str(run.run_id), run.job.name) == (made.id, "workflow/nightly")
    children = [run for run in rig.poller.runs.values() if run.parent is not None]
    assert len(children) == 2
    assert {child.parent.key for child in children if child.parent} == {key}
    ends = [rig.poller.at(child.key, EventKind.COMPLETE).at for child in children]
    assert rig.poller.at(key, EventKind.COMPLETE).at == max(ends)


@pytest.mark.parametrize(
    ("scenario", "state"),
    [(Scenario(ends=Ending.FAILED), RunState.FAILED), (Scenario(ends=Ending.NEVER_STARTED), RunState.FAILED)],
)
async def test_a_workflow_fails_with_its_task(rig: CdfRig, scenario: Scenario, state: RunState) -> None:
    made = rig.simulator.start_workflow("nightly", [("pumps", scenario), ("gone", None)])
    await rig.poller.follow(60)
    assert rig.poller.runs[f"workflow/{made.id}"].state is state
    assert order(rig)[-1] == ("w", EventKind.FAIL)


async def test_jobs_that_ended_are_not_remembered_where_no_executions_are_read() -> None:
    async with cdf_rig() as rig:
        rig.simulator.add_transformation("pumps")
        never_started = Scenario(ends=Ending.NEVER_STARTED)
        jobs = [rig.simulator.start_run("pumps", scenario) for scenario in (Scenario(1, 10), never_started)]
        await rig.poller.follow(60)
        assert all(rig.poller.runs[str(job.id)].ended_at for job in jobs)
        assert not rig.platform._workflows._settled


async def test_a_workflow_that_ran_between_two_polls(rig: CdfRig) -> None:
    await rig.poller.cycle()
    rig.simulator.start_workflow("nightly", [("pumps", Scenario(0.5, 1))])
    rig.clock.advance(60)
    await rig.poller.follow(30)
    assert [who for who, _ in order(rig)] == ["w", "j", "j", "w"]


async def test_a_terminated_workflow_waits_for_the_job_that_goes_on(rig: CdfRig) -> None:
    made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 300))])
    await rig.poller.follow(20)
    rig.simulator.terminate_workflow(made.id)
    terminated = rig.clock.now()
    await rig.poller.follow(200)
    assert EventKind.ABORT not in rig.poller.kinds(f"workflow/{made.id}")
    await rig.poller.follow(120)
    assert order(rig)[-1] == ("w", EventKind.ABORT)
    assert rig.poller.at(f"workflow/{made.id}", EventKind.ABORT).at == terminated
    assert rig.poller.runs[f"workflow/{made.id}"].facts.error == "cancelled"


async def test_an_execution_that_is_late_to_show_its_end_ended_when_it_says(rig: CdfRig) -> None:
    made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 5))])
    await rig.poller.cycle()
    still_running = {"items": [made.json(rig.simulator.now_ms())]}
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="executions/list", times=-1, status=200, body=still_running))
    await rig.poller.follow(30)
    rig.simulator.faults.clear()
    await rig.poller.cycle()
    [child] = [run.key for run in rig.poller.runs.values() if run.parent is not None]
    ends = [rig.poller.at(key, EventKind.COMPLETE).at for key in (child, f"workflow/{made.id}")]
    assert ends[0] == ends[1]


async def test_a_workflow_that_was_first_seen_terminated_waits_for_its_new_job(rig: CdfRig) -> None:
    await rig.poller.cycle()
    made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 300))])
    rig.clock.advance(2)
    rig.simulator.terminate_workflow(made.id)
    rig.clock.advance(2)
    await rig.poller.cycle()
    assert order(rig)[-1] == ("j", EventKind.START)
    await rig.poller.follow(400)
    assert order(rig)[-2:] == [("j", EventKind.COMPLETE), ("w", EventKind.ABORT)]


async def test_a_workflow_without_transformations_is_none_of_our_business(rig: CdfRig) -> None:
    rig.simulator.start_workflow("nightly", [])
    rig.simulator.start_run("pumps")
    await rig.poller.follow(30)
    assert [run.job.name for run in rig.poller.runs.values()] == ["transformation/pumps"]
    assert all(run.parent is None for run in rig.poller.runs.values())


async def test_a_new_process_finds_the_parent_of_a_later_task(rig: CdfRig) -> None:
    made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 7200)), ("orders", None)])
    await rig.poller.follow(20)
    rig.clock.advance(3000)
    await rig.platform_again(workflows=True)
    late = rig.simulator.start_run("orders", Scenario(1, 4000))
    made.tasks[1].job = late
    await rig.poller.follow(30)
    parent = rig.poller.runs[str(late.id)].parent
    assert parent is not None
    assert parent.key == f"workflow/{made.id}"
    await rig.poller.follow(9000, every=300)
    assert order(rig)[-1] == ("w", EventKind.COMPLETE)


async def test_a_new_process_finds_a_parent_that_nobody_tracks() -> None:
    async with cdf_rig(workflows=True, exclude=["pumps"]) as rig:
        for external_id in ("pumps", "orders"):
            rig.simulator.add_transformation(external_id)
        made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 90_000)), ("gone", None)])
        rig.clock.advance(7200)
        made.tasks[1].job = late = rig.simulator.start_run("orders")
        await rig.poller.follow(30)
        parent = rig.poller.runs[str(late.id)].parent
        assert parent is not None
        assert parent.key == f"workflow/{made.id}"


async def test_an_end_waits_for_children_whose_enrichment_takes_its_time(rig: CdfRig) -> None:
    made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 5))])
    await rig.poller.cycle()
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="metrics", times=-1, status=400))
    rig.clock.advance(20)
    held = rig.poller._enrich
    rig.poller._enrich = _nothing  # type: ignore[method-assign]
    await rig.poller.follow(60)
    assert rig.poller.runs[f"workflow/{made.id}"].ended_at is None
    for run in list(rig.poller.runs.values()):
        rig.poller._apply([finish(run, None, problem="out of time")])
    await rig.poller.follow(60)
    rig.poller._enrich = held  # type: ignore[method-assign]
    assert order(rig)[-1] == ("w", EventKind.COMPLETE)


async def test_jobs_go_on_alone_where_the_capability_is_missing(rig: CdfRig) -> None:
    rig.simulator.identity.capabilities = {READ}
    rig.simulator.start_workflow("nightly", [("pumps", None)])
    await rig.poller.follow(30)
    assert order(rig) == [("j", EventKind.OTHER), ("j", EventKind.START), ("j", EventKind.COMPLETE)]


async def test_an_execution_that_is_gone_is_missing(rig: CdfRig) -> None:
    made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, None))])
    await rig.poller.follow(20)
    rig.simulator.executions.clear()
    await rig.platform_again(workflows=True)
    await rig.poller.follow(20)
    assert not rig.poller.runs[f"workflow/{made.id}"].open


async def test_an_outage_of_workflows_is_no_vanishing(rig: CdfRig) -> None:
    made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, None))])
    await rig.poller.follow(20)
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="workflows", times=-1, status=500))
    await rig.poller.follow(60)
    assert rig.poller.runs[f"workflow/{made.id}"].misses == 0
    assert rig.poller.pages[-1].unread == (f"workflow/{made.id}",)


async def test_the_switch_is_off_unless_it_is_set() -> None:
    async with cdf_rig() as rig:
        rig.simulator.add_transformation("pumps")
        rig.simulator.start_workflow("nightly", [("pumps", None)])
        await rig.poller.follow(30)
        assert [run.parent for run in rig.poller.runs.values()] == [None]


async def test_a_steady_cycle_costs_one_request_more(rig: CdfRig) -> None:
    rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, None))])
    await rig.poller.follow(30)
    before = rig.requests()
    await rig.poller.cycle()
    assert rig.requests() - before == 3


async def test_the_tasks_of_an_execution_that_is_over_are_read_once(
    rig: CdfRig, caplog: pytest.LogCaptureFixture
) -> None:
    over = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 5))])
    await rig.poller.follow(60)
    rig.simulator.start_run("orders", Scenario(1, 5))
    await rig.poller.follow(20)
    rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=f"executions/{over.id}", times=-1, status=403))
    rig.simulator.start_run("orders", Scenario(1, 5))
    await rig.poller.cycle()
    assert "cdf.workflows_unread" not in caplog.text


async def test_a_new_job_costs_no_request_for_executions_that_are_long_over(rig: CdfRig) -> None:
    """They are listed, for one that runs began before them."""
    rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, None))])
    for _ in range(20):
        rig.simulator.start_workflow("often", [("gone", None)])
    for _ in range(2):
        await rig.poller.follow(1800, every=600)
        rig.simulator.start_run("orders")
    before = rig.requests()
    await rig.poller.cycle()
    assert rig.requests() - before <= 6


async def test_executions_that_are_long_over_are_forgotten(rig: CdfRig) -> None:
    for _ in range(5):
        rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 5))])
        await rig.poller.follow(1800, every=60)
    assert len(rig.platform._workflows._watched) < 3
    assert timedelta(seconds=len(rig.platform._workflows._settled)) < timedelta(seconds=5)


async def _nothing() -> None:
    pass


async def test_an_execution_that_never_ends_costs_one_request_a_poll(rig: CdfRig) -> None:
    """All executions since it began would be four pages, with each poll."""
    await rig.poller.cycle()
    stuck = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, None))])
    await rig.poller.follow(20)
    rig.clock.advance(3600)
    for _ in range(3500):
        rig.simulator.start_workflow("often", [("gone", None)])
    await rig.poller.follow(86_400, every=43_200)
    for _ in range(3):
        rig.clock.advance(30)
        before = rig.requests()
        await rig.poller.cycle()
        assert rig.requests() - before == 4, "jobs by id, list of jobs, list of executions, the one that is stuck"
    assert rig.poller.runs[f"workflow/{stuck.id}"].state is RunState.RUNNING
    [job] = [run.key for run in rig.poller.runs.values() if run.parent is not None]
    rig.simulator.terminate_workflow(stuck.id)
    rig.simulator.set_state(int(job), "Completed")
    await rig.poller.follow(120)
    assert rig.poller.runs[f"workflow/{stuck.id}"].state is RunState.CANCELED


@asynccontextmanager
async def _rig_without(excluded: str) -> AsyncIterator[CdfRig]:
    async with cdf_rig(workflows=True, exclude=[excluded]) as rig:
        for external_id in (excluded, "orders"):
            rig.simulator.add_transformation(external_id)
        yield rig


async def _parent_of_late_job(rig: CdfRig, made: WorkflowExecution, *, after: float) -> str | None:
    """The execution starts its second job so long after its first one."""
    await rig.poller.follow(after, every=300)
    made.tasks[1].job = late = rig.simulator.start_run("orders")
    await rig.poller.follow(30)
    parent = rig.poller.runs[str(late.id)].parent
    return parent.key if parent is not None else None


@pytest.mark.parametrize("after", [2400, 36_000])
async def test_jobs_left_out_hide_no_execution(after: float) -> None:
    """They move the mark of the list of jobs while nobody looks at the executions."""
    async with _rig_without("pumps") as rig:
        rig.simulator.start_run("orders")
        await rig.poller.follow(60)
        made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 90_000)), ("gone", None)])
        await rig.poller.follow(60)
        rig.clock.advance(after - 600)
        rig.simulator.start_run("pumps")
        assert await _parent_of_late_job(rig, made, after=600) == f"workflow/{made.id}"


async def test_a_failed_list_of_executions_hides_none() -> None:
    async with _rig_without("nobody") as rig:
        rig.simulator.add_transformation("pumps")
        rig.simulator.start_run("orders")
        await rig.poller.follow(60)
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="workflows", times=-1, status=400))
        made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 90_000)), ("gone", None)])
        await rig.poller.follow(2400, every=300)
        rig.simulator.start_run("pumps")
        await rig.poller.follow(60)
        rig.simulator.faults.clear()
        assert await _parent_of_late_job(rig, made, after=2400) == f"workflow/{made.id}"


async def test_a_new_process_finds_the_parent_that_ended_meanwhile() -> None:
    async with _rig_without("pumps") as rig:
        rig.simulator.start_run("orders")
        await rig.poller.follow(60)
        made = rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 90_000)), ("gone", None)])
        await rig.poller.follow(3600, every=300)
        rig.simulator.start_run("pumps")
        await rig.poller.follow(60)
        made.tasks[1].job = late = rig.simulator.start_run("orders", Scenario(1, 5))
        rig.clock.advance(30)
        rig.simulator.terminate_workflow(made.id)
        await rig.platform_again(workflows=True, exclude=["pumps"])
        await rig.poller.follow(30)
        parent = rig.poller.runs[str(late.id)].parent
        assert parent is not None
        assert parent.key == f"workflow/{made.id}"


async def test_a_list_of_executions_that_never_ends_holds_up_no_job(
    rig: CdfRig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pages repeat what they had, each with the cursor of one more."""
    read = Api.executions

    async def repeated(api: Api, wanted: Mapping[str, Any], cursor: str | None = None) -> Page:
        assert cursor != "more" * 10, "a walk without end"
        return replace(await read(api, wanted), next="more" * (1 + (cursor or "").count("more")))

    monkeypatch.setattr(Api, "executions", repeated)
    rig.simulator.start_workflow("nightly", [("pumps", Scenario(1, 5))])
    await rig.poller.follow(30)
    [job] = rig.poller.runs.values()
    assert job.state is RunState.SUCCEEDED
    assert "a next page without an execution that is new to it" in str([record.__dict__ for record in caplog.records])
