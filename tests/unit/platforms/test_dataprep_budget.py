"""How many requests a poll of Dataprep makes for the stages of runs, and what waits for the next one."""

from collections import Counter
from typing import Any

import pytest

from collector.model import RunState, SkipKind
from collector.platforms.dataprep.cycle import AT_ONCE, ONE_BY_ONE, WORTH_A_LIST
from collector.testing.faults import Fault, FaultKind
from simulators.dataprep import Feature, Level, Scenario
from simulators.dataprep.switches import FEATURES
from tests.dataprep_rig import DataprepRig, dataprep_rig

RECIPE = 7
NEVER_ENDS = Scenario(queued=(1.0, 1.0), stuck=True)
WITHOUT_LIST = FEATURES[Level.L2] - {Feature.LIST}


def begin(rig: DataprepRig, count: int, **how: Any) -> list[str]:
    """The keys of so many runs, which began two seconds before now."""
    runs = [rig.simulator.start_run(NEVER_ENDS, recipe=RECIPE, **how) for _ in range(count)]
    rig.clock.advance(2)
    return [str(run.id) for run in runs]


async def poll(rig: DataprepRig) -> int:
    """A poll; how many requests it took."""
    before = rig.requests()
    async for page in rig.platform.poll(rig.poller.due(), rig.poller.cursor):
        rig.poller._take(page)
    return rig.requests() - before


async def settled(rig: DataprepRig) -> None:
    """The level and the recipe's names are known, the first look and the first sweep are over."""
    rig.simulator.start_run(Scenario(queued=(0.0, 0.0), stage=(30.0, 30.0)), recipe=RECIPE)
    rig.clock.advance(2)
    await poll(rig)
    rig.clock.advance(400)
    await poll(rig)


def states(rig: DataprepRig) -> Counter[RunState]:
    return Counter(run.state for run in rig.poller.runs.values())


async def test_a_few_runs_that_begin_are_read_one_by_one_and_many_from_a_list() -> None:
    cost = []
    for count in (WORTH_A_LIST - 1, WORTH_A_LIST, 30):
        async with dataprep_rig(Level.L2) as rig:
            await settled(rig)
            begin(rig, count)
            cost.append(await poll(rig))
            assert states(rig)[RunState.RUNNING] == count
    changes = 1
    assert cost == [changes + WORTH_A_LIST - 1, changes + 1, changes + 1]


async def test_the_list_is_read_on_only_while_that_is_cheaper() -> None:
    """Six runs begin, of which one stands in the list behind 450 others: two pages are worth six reads, no third one."""
    async with dataprep_rig(Level.L2) as rig:
        await settled(rig)
        old = str(rig.simulator.start_run(Scenario(queued=(200.0, 200.0), stuck=True), recipe=RECIPE).id)
        for _ in range(450):
            rig.simulator.start_run(Scenario(queued=(5000.0, 5000.0), stuck=True), recipe=RECIPE)
        await poll(rig)
        rig.clock.advance(199)
        begin(rig, 5)
        changes, pages, single = 6, 2, 1  # all 451 changed within the overlap
        assert await poll(rig) == changes + pages + single
        assert rig.poller.runs[old].began_at is not None
        assert states(rig)[RunState.RUNNING] == 6


@pytest.mark.parametrize("stages", ["facet", "runs"])
async def test_runs_beyond_the_budget_wait_for_the_next_poll(stages: str) -> None:
    budget = ONE_BY_ONE * (10 if stages == "runs" else 1)
    async with dataprep_rig(Level.L2, stages=stages) as rig:
        rig.simulator.features = WITHOUT_LIST
        await settled(rig)
        keys = begin(rig, budget + 5)
        assert await poll(rig) >= budget
        runs = [rig.poller.runs[key] for key in keys]
        assert Counter(run.began_at is not None for run in runs) == {True: budget, False: 5}
        rig.clock.advance(5)
        await poll(rig)
        assert all(rig.poller.runs[key].began_at for key in keys)


async def test_single_reads_stop_when_their_time_is_over_and_go_on_with_the_next_poll() -> None:
    async with dataprep_rig(Level.L0, poll_interval="30s", poll_within="10m") as rig:
        await poll(rig)
        runs = [rig.simulator.start_run(NEVER_ENDS, recipe=RECIPE) for _ in range(40)]
        for run in runs:
            await rig.watch(run)
        rig.clock.advance(60)
        rig.seconds_each = 2.0
        begin_at = rig.clock.now()
        await poll(rig)
        looked = [run for run in rig.poller.runs.values() if run.seen_at >= begin_at]
        assert AT_ONCE <= len(looked) < 40
        rig.seconds_each = 0.0
        await poll(rig)
        assert all(run.seen_at >= begin_at for run in rig.poller.runs.values())


@pytest.mark.parametrize(
    ("status", "body"), [(403, None), (404, None), (200, {"rows": []})], ids=["forbidden", "gone", "no list"]
)
async def test_runs_that_begin_are_read_one_by_one_where_the_list_fails(status: int, body: Any) -> None:
    async with dataprep_rig(Level.L2) as rig:
        await settled(rig)
        begin(rig, WORTH_A_LIST)
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path="GET .*/jobGroups$", times=-1, status=status, body=body))
        await poll(rig)
        assert states(rig)[RunState.RUNNING] == WORTH_A_LIST


async def test_one_run_that_cannot_be_read_leaves_the_others_their_turn() -> None:
    async with dataprep_rig(Level.L2) as rig:
        await settled(rig)
        first, *_ = begin(rig, WORTH_A_LIST - 1)
        rig.simulator.faults.plan(Fault(FaultKind.STATUS, path=f"jobGroups/{first}$", times=-1, status=500))
        await poll(rig)
        assert states(rig)[RunState.RUNNING] == WORTH_A_LIST - 2


async def test_previews_are_skipped_once() -> None:
    async with dataprep_rig(Level.L2) as rig:
        await settled(rig)
        begin(rig, 1, ranfor="sampling")
        for _ in range(3):
            await poll(rig)
            rig.clock.advance(5)
        assert [skip.kind for skip in rig.poller.skips] == [SkipKind.FILTERED]
