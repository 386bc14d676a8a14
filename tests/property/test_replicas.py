"""Replicas that are frozen, killed, cut off, stopped and started at random: one polls at a time, nothing is lost, order is kept."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from collector.ledger import schema
from collector.model import EventKind, RunState
from tests.replicas import Process, Replicas
from tests.unit.exporters.delivering import quick_folder

LEASE = 120
"""Seconds that a source's lease lasts without a renewal."""


def run_in(seed: int, test: Any) -> None:
    with quick_folder() as folder, asyncio.Runner() as runner:

        async def whole() -> None:
            replicas = Replicas(Path(folder), seed)
            try:
                await replicas.configure()
                await test(replicas)
                assert not replicas.violations, replicas.violations
            finally:
                await replicas.close()

        runner.run(whole())


def stands_by(process: Process) -> bool:
    return process.poller.status.standby


def events(conn: Connection) -> list[tuple[str, str]]:
    run, event = schema.run, schema.event
    made = select(run.c.run_uuid, event.c.kind).join(run, run.c.id == event.c.run_id).order_by(event.c.id)
    return [(str(uuid), str(kind)) for uuid, kind in conn.execute(made)]


async def check_that_all_arrived(replicas: Replicas) -> None:
    """Each run has one START and one end in the ledger, and both were acknowledged."""
    made = Counter(await replicas.store.read(events))
    platform = replicas.processes[0].platform
    wanted = {
        (str(platform.run(key, RunState.SUCCEEDED).run_id), kind.value)
        for key, *_ in replicas.runs
        for kind in (EventKind.START, EventKind.COMPLETE)
    }
    seen = {one: count for one, count in made.items() if one[1] in {"START", "COMPLETE"}}
    assert seen == dict.fromkeys(wanted, 1), (set(seen) ^ wanted, [one for one in seen if seen[one] > 1])
    assert not wanted - {(run or "", kind.value) for run, kind in replicas.acknowledged}


async def disturb(replicas: Replicas) -> None:
    """One random thing happens to one random process."""
    random = replicas.random
    process = random.choice(replicas.living)
    match random.choice(["freeze", "thaw", "cut", "join", "kill", "stop", "start", "nothing"]):
        case "freeze":
            process.freeze()
        case "thaw":
            process.thaw()
        case "cut":
            process.store.cut = True
        case "join":
            process.store.cut = False
        case "kill" if len(replicas.living) > 1:
            process.kill()
        case "stop" if len(replicas.living) > 1 and not process.frozen and not process.store.cut:
            await process.stop()
        case "start" if len(replicas.living) < 4:
            replicas.start()


@given(seed=st.integers(0, 2**32))
@settings(max_examples=6, deadline=None)
def test_whatever_becomes_of_replicas_nothing_is_lost_and_one_polls_at_a_time(seed: int) -> None:
    async def happens(replicas: Replicas) -> None:
        for _ in range(3):
            replicas.start()
        for _ in range(30):
            for _ in range(replicas.random.randrange(3)):
                replicas.begin_run(replicas.random.uniform(0, 200))
            await disturb(replicas)
            await replicas.clock.advance(replicas.random.choice([1, 7, 30, 90, 150]))
        for process in replicas.living:
            process.store.cut = False
            process.thaw()
        await replicas.clock.advance(LEASE + 600)
        await check_that_all_arrived(replicas)

    run_in(seed, happens)


def test_a_stopped_replica_is_followed_at_once_and_a_killed_one_when_its_lease_is_over() -> None:
    async def happens(replicas: Replicas) -> None:
        first = replicas.start()
        await replicas.clock.advance(1)
        second = replicas.start()
        await replicas.clock.advance(100)
        assert first.held == {"source:plant", "sink:sink"}
        assert second.held == set()
        assert stands_by(second)
        await first.stop()
        await replicas.clock.advance(3)
        assert second.held == {"source:plant", "sink:sink"}
        assert not stands_by(second)
        third = replicas.start()
        second.kill()
        await replicas.clock.advance(LEASE - 15)
        assert "source:plant" not in third.held
        await replicas.clock.advance(17)
        assert third.held == {"source:plant", "sink:sink"}

    run_in(1, happens)


@pytest.mark.parametrize("seconds", [15, 130, 1000])
def test_a_replica_that_was_frozen_goes_on_only_while_it_holds_the_lease(seconds: int) -> None:
    async def happens(replicas: Replicas) -> None:
        first = replicas.start()
        replicas.begin_run(10)
        await replicas.clock.advance(60)
        second = replicas.start()
        first.freeze()
        await replicas.clock.advance(seconds)
        replicas.begin_run(10)
        first.thaw()
        await replicas.clock.advance(200)
        holder, other = (first, second) if seconds < LEASE else (second, first)
        assert holder.held == {"source:plant", "sink:sink"}
        assert stands_by(other)
        await check_that_all_arrived(replicas)

    run_in(2, happens)


def test_a_source_is_left_alone_from_the_end_of_a_lease_that_cannot_be_renewed() -> None:
    """The request that is under way then is cancelled, and what it brought is polled again."""

    async def happens(replicas: Replicas) -> None:
        alone = replicas.start()
        replicas.random.uniform = lambda _, most: most  # type: ignore[assignment, method-assign]
        await replicas.clock.advance(100)
        polls = alone.good_polls
        alone.store.cut = True
        await replicas.clock.advance(LEASE)
        assert not alone.asking
        asked = alone.platform.polls
        await replicas.clock.advance(300)
        assert alone.platform.polls == asked
        alone.store.cut = False
        await replicas.clock.advance(200)
        assert alone.good_polls > polls

    run_in(3, happens)
