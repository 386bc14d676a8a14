"""Runs are looked up in a Marquez by few requests, which wait where it asks for that."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from collector.testing.clock import SimulatedClock
from exporters.sinks.marquez.comparison import ExpectedRun
from exporters.sinks.marquez.lookup import PAGE, TRIES, Lookup
from exporters.sinks.marquez.stored import StoredRun, UnreadRun


def wanted(number: int, started_at: int | None = None) -> ExpectedRun:
    return ExpectedRun(f"r{number}", "ns", "job", "RUNNING", number if started_at is None else started_at, None)


class Source:
    """A Marquez with one job; `failures` come before its answers."""

    capacity = 2

    def __init__(self, *runs: StoredRun, job: str = "job") -> None:
        self.runs = sorted(runs, key=lambda run: -(run.started_at or 0))
        self.job = job
        self.failures: list[UnreadRun] = []
        self.asked: list[str] = []

    async def stored_run(self, run_id: str) -> StoredRun | None:
        self.asked.append(run_id)
        self._fail()
        return next((run for run in self.runs if run.run_id == run_id), None)

    async def stored_runs(self, namespace: str, job: str, offset: int, limit: int) -> list[StoredRun] | None:
        self.asked.append(f"list {offset}")
        self._fail()
        return self.runs[offset : offset + limit] if job == self.job else None

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


def stored(number: int, started_at: int | None = None) -> StoredRun:
    return StoredRun(f"r{number}", "RUNNING", number if started_at is None else started_at, None)


def lookup(source: Source) -> tuple[Lookup, SimulatedClock]:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    return Lookup(source, clock, lambda: 1.0), clock


async def test_the_list_is_read_as_far_as_needed() -> None:
    source = Source(*(stored(number) for number in range(5 * PAGE)))
    found = await lookup(source)[0].found([wanted(number) for number in range(3 * PAGE, 5 * PAGE)])
    assert all(run is not None for run in found.values())
    assert source.asked == ["list 0", f"list {PAGE}", f"list {2 * PAGE}"]  # the last one shows that no more begin then


async def test_the_next_runs_of_a_job_go_on_in_its_list() -> None:
    source = Source(*(stored(number) for number in range(2 * PAGE)))
    looks, _ = lookup(source)
    await looks.found([wanted(2 * PAGE - 1)])
    assert (await looks.found([wanted(0)]))["r0"] == stored(0)
    assert source.asked == ["list 0", f"list {PAGE}", f"list {2 * PAGE}"]


async def test_what_the_list_does_not_have_is_asked_for_by_itself() -> None:
    source = Source(stored(1), stored(2, started_at=99))
    found = await lookup(source)[0].found([wanted(1), wanted(3)])
    assert found == {"r1": stored(1), "r3": None}
    assert source.asked == ["list 0", "r3"]


async def test_runs_of_a_job_that_is_not_there_are_not_asked_for() -> None:
    source = Source(stored(1), job="another")
    assert await lookup(source)[0].found([wanted(1), wanted(2)]) == {"r1": None, "r2": None}
    assert source.asked == ["list 0"]


async def test_a_list_that_cannot_be_read_is_replaced_by_single_requests() -> None:
    source = Source(stored(1))
    source.failures = [UnreadRun("an answer of more than 4 MiB", lasting=True)]
    assert await lookup(source)[0].found([wanted(1)]) == {"r1": stored(1)}
    assert source.asked == ["list 0", "r1"]


async def test_others_of_the_job_are_those_that_nobody_asked_for() -> None:
    looks, _ = lookup(Source(stored(1), stored(2)))
    await looks.found([wanted(1)])
    assert looks.others([wanted(1)]) == [stored(2)]
    looks.forget_jobs()
    assert looks.others([wanted(1)]) == []


async def test_it_waits_as_long_as_marquez_asks_and_counts_every_request() -> None:
    source = Source(stored(1))
    source.failures = [UnreadRun("429", timedelta(seconds=90)), UnreadRun("no answer")]
    looks, clock = lookup(source)
    began = clock.now()
    task = asyncio.create_task(looks.found([wanted(1)]))
    await _until_done(task, clock)
    assert await task == {"r1": stored(1)}
    assert (clock.now() - began).total_seconds() >= 90 + 4
    assert looks.requests == 3


async def test_it_gives_up_after_some_tries() -> None:
    source = Source(stored(1))
    source.failures = [UnreadRun("503")] * 20
    looks, clock = lookup(source)
    task = asyncio.create_task(looks.found([wanted(1)]))
    await _until_done(task, clock)
    with pytest.raises(UnreadRun, match="503"):
        await task
    assert looks.requests == TRIES


async def _until_done(task: "asyncio.Task[object]", clock: SimulatedClock) -> None:
    while not task.done():
        await asyncio.sleep(0)
