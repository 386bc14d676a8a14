"""Answers of Dataprep that concern one run, recipe or flow run must hold up no other, and nothing that was cut off passes unseen."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from collector.errors import BadAnswer, SourceError
from collector.model import EventKind, RunState, SkipKind
from collector.platforms.dataprep import run_lists
from collector.platforms.dataprep.definitions import TRIES
from collector.platforms.dataprep.run_lists import DEFAULT_PAGE, PAGE
from collector.testing.faults import Fault, FaultKind
from simulators.dataprep import Feature, Level, Scenario
from simulators.dataprep.switches import FEATURES
from tests.dataprep_rig import DataprepRig, dataprep_rig
from tests.unit.platforms.test_dataprep_run_lists import BEGIN_MS, Answers, api, in_turn, keys, row, walked

NEVER_ENDS = Scenario(queued=(1.0, 1.0), stuck=True)
HTML = Fault(FaultKind.HTML, status=200, times=-1)
FORBIDDEN = Fault(FaultKind.STATUS, status=403, times=-1)
NOT_THERE = Fault(FaultKind.STATUS, status=404, times=-1)


async def polls(rig: DataprepRig, number: int) -> list[SourceError]:
    """So many; the errors of those that failed."""
    errors = []
    for _ in range(number):
        rig.clock.advance(15)
        try:
            await rig.poller.cycle()
        except SourceError as error:
            errors.append(error)
    return errors


@pytest.mark.parametrize(
    ("fault", "failures"), [(HTML, TRIES - 1), (FORBIDDEN, 0), (NOT_THERE, 0)], ids=["html", "403", "404"]
)
async def test_a_recipe_whose_name_cannot_be_read_holds_up_no_other(fault: Fault, failures: int) -> None:
    async with dataprep_rig(Level.L2) as rig:
        rig.simulator.features = FEATURES[Level.L2] - {Feature.DEFINITIONS, Feature.LIST}
        await rig.poller.cycle()
        odd, other = (rig.simulator.start_run(NEVER_ENDS, recipe=recipe) for recipe in (7, 8))
        rig.simulator.faults.plan(replace(fault, path=f"GET /v4/jobGroups/{odd.id}$"))
        assert len(await polls(rig, TRIES + 1)) == failures
        named, nameless = rig.poller.runs[str(other.id)], rig.poller.runs[str(odd.id)]
        assert (nameless.job.name, nameless.state) == ("recipe/7", RunState.QUEUED)
        assert named.job.name.count(".") == 1
        [skip] = [skip for skip in rig.poller.skips if skip.subject == "recipe 7"]
        assert skip.kind is SkipKind.ROW
        assert skip.cause.startswith("its name cannot be read, so a run goes by its number: ")


async def test_a_flow_run_that_cannot_be_read_holds_up_no_run() -> None:
    async with dataprep_rig(Level.L2) as rig:
        await rig.poller.cycle()
        flow_run, runs = rig.simulator.workspace.run_flow(1)
        other = rig.simulator.start_run(NEVER_ENDS, recipe=7)
        rig.simulator.faults.plan(replace(HTML, path="GET /v4/flowRuns/[0-9]+$"))
        errors = await polls(rig, 2 * TRIES)
        assert [isinstance(error, BadAnswer) for error in errors] == [True] * (TRIES - 1)
        for run in (*runs, other):
            assert rig.poller.runs[str(run.id)].parent is None
        assert [skip.subject for skip in rig.poller.skips][:1] == [f"flow run {flow_run}"]


ODD_CHILDREN: list[Any] = [
    {"data": [{"id": None, "status": "Complete"}]},
    {"data": [{"id": 1, "status": "Complete"}, "odd"]},
    {"data": None},
    {},
    "text",
]


@pytest.mark.parametrize("body", ODD_CHILDREN)
async def test_a_flow_run_does_not_end_while_one_of_its_runs_cannot_be_read(body: Any) -> None:
    async with dataprep_rig(Level.L2) as rig:
        await rig.poller.cycle()
        flow_run, _ = rig.simulator.workspace.run_flow(1)
        rig.clock.advance(5)
        await rig.poller.cycle()
        path = f"GET /v4/flowRuns/{flow_run}/jobGroups"
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=path, times=-1, status=200, body=body))
        rig.clock.advance(900)
        await polls(rig, 8)
        key = f"flowRuns/{flow_run}"
        assert rig.poller.runs[key].state is RunState.RUNNING
        assert f"job group {key}" in [skip.subject for skip in rig.poller.skips if skip.kind is SkipKind.ROW]
        rig.simulator.faults.clear()
        await polls(rig, 8)
        assert rig.poller.kinds(key) == [EventKind.START, EventKind.COMPLETE]


async def test_runs_that_cannot_be_read_hold_up_no_others() -> None:
    """They were handed in first, so that they are due before the others."""
    async with dataprep_rig(Level.L0) as rig:
        odd = [rig.simulator.start_run(NEVER_ENDS, recipe=7) for _ in range(5)]
        own = rig.simulator.start_run(Scenario(queued=(1.0, 1.0), stage=(1.0, 1.0)), recipe=7)
        for run in (*odd, own):
            await rig.watch(run)
        for run in odd:
            rig.simulator.faults.plan(replace(HTML, path=f"GET /v4/jobGroups/{run.id}"))
        rig.clock.advance(600)
        assert len(await polls(rig, 2)) == 1, "the first poll, for nothing was read before them"
        assert rig.poller.kinds(str(own.id))[-1] is EventKind.COMPLETE
        assert {rig.poller.runs[str(run.id)].misses for run in odd} == {0}


def counting_pages(rows: int) -> Answers:
    """Counts the rows of the page in place of those of the list."""
    numbers = range(rows)

    def answer(query: Mapping[str, Any]) -> Mapping[str, Any]:
        floor = int(query.get("dateFilter[updatedAt][gte]", BEGIN_MS)) - BEGIN_MS
        begin = floor + int(query["offset"])
        page = [row(one, one) for one in numbers[begin : begin + PAGE]]
        return {"data": page, "count": len(page)}

    return Answers(answer)


@pytest.mark.parametrize("rows", [PAGE + 1, 2 * PAGE + 30])
async def test_a_count_that_is_that_of_the_page_ends_no_list(rows: int) -> None:
    assert keys(await walked(run_lists.changed(api(counting_pages(rows)), BEGIN_MS))) == [*range(rows)]
    assert keys(await walked(run_lists.in_status(api(counting_pages(rows)), "Created"))) == [*range(rows)]


@pytest.mark.parametrize(("rows", "requests"), [(PAGE, 2), (DEFAULT_PAGE, 2), (30, 1), (DEFAULT_PAGE - 1, 1)])
async def test_only_a_count_that_is_a_full_page_costs_a_request_more(rows: int, requests: int) -> None:
    answers = counting_pages(rows)
    assert keys(await walked(run_lists.in_status(api(answers), "Created"))) == [*range(rows)]
    assert len(answers.queries) == requests


async def test_a_list_of_which_rows_did_not_come_is_counted() -> None:
    bodies = ({"data": [row(1), row(2)], "count": 4}, {"data": [], "count": 4})
    pages = await walked(run_lists.in_status(api(in_turn(*bodies)), "InProgress"))
    [skip] = pages[-1].skips
    assert (skip.kind, skip.subject) == (SkipKind.UNREAD, "list of runs")
    assert skip.cause.startswith("2 of 4 rows came")


async def test_outputs_that_repeat_whatever_the_offset_end_their_reading() -> None:
    async with dataprep_rig(Level.L2) as rig:
        body = {"data": [{"id": one, "flownode": {"id": 7}} for one in range(30)]}
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="outputObjects$", times=-1, status=200, body=body))
        with pytest.raises(BadAnswer, match="GET /v4/outputObjects repeats the same rows"):
            await rig.platform._definitions.output("7", None)
