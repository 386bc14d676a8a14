"""Families of runs, polled in any manner: a parent's START comes first and its end last."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from itertools import permutations
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.model import Enrichment, Facts, Job, Observation, Parent, Poll, Run, RunState
from collector.platforms.base import Platform
from collector.testing.clock import START, SimulatedClock
from collector.testing.poller import SimulatedPoller
from tests import openlineage

SPACE = "cdf://h/p"
ENDS = st.sampled_from([RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED])


@dataclass(frozen=True)
class Truth:
    """One run as it really is: seconds at which it begins and ends."""

    key: str
    parent: "Truth | None"
    begins: int
    ends: int
    outcome: RunState
    settled: bool
    reports_times: bool

    @property
    def job(self) -> Job:
        return Job(self.key, SPACE, f"job/{self.key}", "JOB", "CDF")

    def seen(self, second: int) -> Observation:
        at = START + timedelta(seconds=second)
        state = RunState.QUEUED if second < self.begins else RunState.RUNNING if second < self.ends else self.outcome
        began = START + timedelta(seconds=self.begins) if self.reports_times and state.began else None
        ended = START + timedelta(seconds=self.ends) if self.reports_times and state.terminal else None
        return Observation(
            self.key,
            uuid5(NAMESPACE_URL, self.key),
            self.job,
            state,
            state.value,
            at,
            queued_at=START,
            started_at=began,
            ended_at=ended,
            facts=Facts(),
            parent=self._above(),
            settled=self.settled,
        )

    def _above(self) -> Parent | None:
        if self.parent is None:
            return None
        root = self.parent.parent or self.parent
        return Parent(
            uuid5(NAMESPACE_URL, self.parent.key),
            SPACE,
            f"job/{self.parent.key}",
            key=self.parent.key,
            root_run_id=uuid5(NAMESPACE_URL, root.key),
            root_job=f"job/{root.key}",
        )


@st.composite
def families(draw: st.DrawFn) -> list[Truth]:
    """A root, its children and theirs; none begins before its parent or ends after it."""
    made: list[Truth] = []

    def grow(key: str, parent: Truth | None, deeper: int) -> None:
        begins = draw(st.integers(parent.begins, parent.ends)) if parent else draw(st.integers(0, 50))
        ends = draw(st.integers(begins, parent.ends)) if parent else draw(st.integers(begins, 200))
        one = Truth(key, parent, begins, ends, draw(ENDS), draw(st.booleans()), draw(st.booleans()))
        made.append(one)
        for number in range(draw(st.integers(0, 3)) if deeper else 0):
            grow(f"{key}{number}", one, deeper - 1)

    grow("r", None, 2)
    return made


class Prompt:
    """A platform that has no more details to report."""

    async def enrich(self, run: Run) -> Enrichment:
        return Enrichment()


def page(family: list[Truth], chosen: set[str], second: int, known: dict[str, Run]) -> Poll:
    """Some of the runs as they are. What the adapters see to: nothing is reported of a run below one that was never reported,
    nor of the end of a run before all below it was reported.
    """
    wanted = {one.key for one in family if one.key in chosen and second >= one.begins}
    while True:
        above = {one.parent.key for one in family if one.key in wanted and one.parent and one.parent.key not in known}
        below = {one.key for one in family if one.parent and one.parent.key in wanted and second >= one.parent.ends}
        if above | below <= wanted:
            break
        wanted |= above | below
    over = {key for key, run in known.items() if run.ended_at is not None}
    return Poll(tuple(one.seen(second) for one in family if one.key in wanted - over))


@settings(deadline=None, max_examples=80)
@given(families(), st.data())
def test_a_parent_begins_first_and_ends_last(family: list[Truth], data: st.DataObject) -> None:
    clock = SimulatedClock()
    poller = SimulatedPoller(cast("Platform", Prompt()), clock)
    keys = {one.key for one in family}
    for _ in range(data.draw(st.integers(0, 8))):
        clock.advance(data.draw(st.integers(1, 50)))
        chosen = data.draw(st.sets(st.sampled_from(sorted(keys))))
        poller._take(_shuffled(page(family, chosen, int(clock.monotonic()), poller.runs), data))
        if data.draw(st.booleans()):
            asyncio.run(poller._enrich())
    clock.advance(300)
    poller._take(_shuffled(page(family, keys, int(clock.monotonic()), poller.runs), data))
    asyncio.run(poller._enrich())
    assert openlineage.all_faults(poller.events) == []


def test_three_generations_in_one_page_begin_from_the_top() -> None:
    """What seeds 1 and 3 found: both generations of parents went first, but the lower one before the higher."""
    root = Truth("r", None, 0, 9, RunState.SUCCEEDED, settled=False, reports_times=False)
    child = Truth("r0", root, 0, 9, RunState.SUCCEEDED, settled=False, reports_times=False)
    grandchild = Truth("r00", child, 0, 9, RunState.SUCCEEDED, settled=True, reports_times=False)
    for order in permutations((root, child, grandchild)):
        poller = SimulatedPoller(cast("Platform", Prompt()), SimulatedClock())
        poller._take(Poll(tuple(one.seen(5) for one in order)))
        poller._take(Poll(tuple(one.seen(10) for one in order)))
        asyncio.run(poller._enrich())
        assert openlineage.all_faults(poller.events) == []


def _shuffled(poll: Poll, data: Any) -> Poll:
    return Poll(tuple(data.draw(st.permutations(poll.observations))))
