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
from tests.e2e.pollers import Scripted
from tests.replicas import Process, Replicas
from tests.unit.exporters.delivery_simulation import quick_folder

LEASE = 120
"""Seconds that a source's lease lasts without a renewal."""


def run_in(seed: int, test: Any, *, sources: int = 1, sinks: int = 1, shards: int = 1) -> None:
    with quick_folder() as folder, asyncio.Runner() as runner:

        async def whole() -> None:
            replicas = Replicas(Path(folder), seed, sources, sinks, shards)
            try:
                await replicas.configure()
                await test(replicas)
                assert not replicas.violations, replicas.violations
            finally:
                await replicas.close()

        runner.run(whole())


def stands_by(process: Process) -> bool:
    return process.stands_by


def events(conn: Connection) -> list[tuple[str, str]]:
    run, event = schema.run, schema.event
    made = select(run.c.run_uuid, event.c.kind).join(run, run.c.id == event.c.run_id).order_by(event.c.id)
    return [(str(uuid), str(kind)) for uuid, kind in conn.execute(made)]


async def check_that_all_arrived(replicas: Replicas) -> None:
    """Each run has one START and one end in the ledger, and both were acknowledged."""
    made = Counter(await replicas.store.read(events))
    wanted = {
        (str(Scripted(source, replicas.clock).run(key, RunState.SUCCEEDED).run_id), kind.value)
        for source in replicas.sources
        for key, *_ in replicas.runs
        for kind in (EventKind.START, EventKind.COMPLETE)
    }
    seen = {one: count for one, count in made.items() if one[1] in {"START", "COMPLETE"}}
    assert seen == dict.fromkeys(wanted, 1), (set(seen) ^ wanted, [one for one in seen if seen[one] > 1])
    for sink in replicas.sinks:
        got = {(run or "", kind.value) for name, run, kind in replicas.acknowledged if name == sink}
        assert not wanted - got, (sink, wanted - got)


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


async def recover(replicas: Replicas) -> None:
    """All that live are well again, for long enough."""
    for process in replicas.living:
        process.store.cut = False
        process.thaw()
    await replicas.clock.advance(LEASE + 600)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=4, deadline=None)
def test_whatever_becomes_of_replicas_nothing_is_lost_and_one_polls_at_a_time(seed: int) -> None:
    async def happens(replicas: Replicas) -> None:
        for _ in range(3):
            replicas.start()
        for _ in range(30):
            for _ in range(replicas.random.randrange(3)):
                replicas.begin_run(replicas.random.uniform(0, 200))
            await disturb(replicas)
            await replicas.clock.advance(replicas.random.choice([1, 7, 30, 90, 150]))
        await recover(replicas)
        await check_that_all_arrived(replicas)

    run_in(seed, happens)


def test_a_stopped_replica_is_followed_at_once_and_a_killed_one_when_its_lease_is_over() -> None:
    async def happens(replicas: Replicas) -> None:
        first = replicas.start()
        await replicas.clock.advance(1)
        second = replicas.start()
        await replicas.clock.advance(100)
        assert sorted(len(process.held) for process in (first, second)) == [1, 1]
        assert stands_by(first) is not stands_by(second)
        await first.stop()
        await replicas.clock.advance(3)
        assert second.held == {"source:source 0", "sink:sink 0"}
        assert not stands_by(second)
        third = replicas.start()
        second.kill()
        await replicas.clock.advance(LEASE - 15)
        assert "source:source 0" not in third.held
        await replicas.clock.advance(17)
        assert third.held == {"source:source 0", "sink:sink 0"}

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
        await replicas.clock.advance(0.1)
        holder, other = (first, second) if seconds < LEASE else (second, first)
        assert holder.held == {"source:source 0", "sink:sink 0"}
        assert other.held == set()
        await replicas.clock.advance(200)
        assert [len(process.held) for process in (first, second)] == [1, 1]
        await check_that_all_arrived(replicas)

    run_in(2, happens)


def test_a_source_is_left_alone_from_the_end_of_a_lease_that_cannot_be_renewed() -> None:
    """The request that is under way then is cancelled, and what it brought is polled again."""

    async def happens(replicas: Replicas) -> None:
        alone = replicas.start()
        replicas.random.uniform = lambda _, most: 6 * most  # type: ignore[assignment, method-assign]
        await replicas.clock.advance(100)
        alone.store.cut = True
        assert alone.asking
        await replicas.clock.advance(LEASE + 1)
        assert not alone.asking
        polls = alone.platform.polls
        await replicas.clock.advance(300)
        assert alone.platform.polls == polls
        alone.store.cut = False
        await replicas.clock.advance(20)
        assert alone.asking

    run_in(3, happens)


def test_three_replicas_share_six_sources_and_three_sinks_and_two_take_over_from_one() -> None:
    async def happens(replicas: Replicas) -> None:
        first = replicas.start()
        await replicas.clock.advance(60)
        assert len(first.held) == 9
        replicas.begin_run(300)
        replicas.start()
        third = replicas.start()
        await replicas.clock.advance(240)
        assert [len(process.held) for process in replicas.living] == [3, 3, 3]
        held = [set(process.held) for process in replicas.living]
        replicas.begin_run(100)
        await replicas.clock.advance(300)
        assert [process.held for process in replicas.living] == held, "nothing moves any more"
        third.kill()
        await replicas.clock.advance(LEASE + 100)
        assert sorted(len(process.held) for process in replicas.living) == [4, 5]
        await replicas.clock.advance(300)
        await check_that_all_arrived(replicas)

    run_in(4, happens, sources=6, sinks=3)


def test_a_lease_that_no_other_replica_takes_is_taken_again_and_kept() -> None:
    """The other one lives, and never gets round to it."""

    async def happens(replicas: Replicas) -> None:
        first = replicas.start()
        await replicas.clock.advance(30)
        second = replicas.start()
        for task in second._cancelled[1:]:
            task.cancel()
        await replicas.clock.advance(120)
        assert first.held == {"source:source 0", "source:source 1", "sink:sink 0"}
        polls = first.good_polls
        await replicas.clock.advance(300)
        assert first.held == {"source:source 0", "source:source 1", "sink:sink 0"}
        assert first.good_polls > polls

    run_in(5, happens, sources=2)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=3, deadline=None)
def test_leases_that_spread_over_disturbed_replicas_lose_nothing(seed: int) -> None:
    async def happens(replicas: Replicas) -> None:
        for _ in range(3):
            replicas.start()
        for _ in range(20):
            if replicas.random.random() < 0.4:
                replicas.begin_run(replicas.random.uniform(0, 200))
            await disturb(replicas)
            await replicas.clock.advance(replicas.random.choice([1, 7, 30, 90, 150]))
        await recover(replicas)
        await check_that_all_arrived(replicas)

    run_in(seed, happens, sources=3, sinks=2)


def shard_leases(replicas: Replicas) -> list[list[str]]:
    """Of the first sink, which each living process holds."""
    return [sorted(name for name in process.held if name.startswith("sink:sink 0")) for process in replicas.living]


def all_shard_leases(replicas: Replicas) -> list[str]:
    return sorted(name for held in shard_leases(replicas) for name in held)


def test_the_shards_of_a_sink_spread_and_their_number_changes_once_the_last_replica_has_it() -> None:
    async def happens(replicas: Replicas) -> None:
        for _ in range(3):
            replicas.start()
        await replicas.clock.advance(60)
        for wanted in (3, 2, 1):
            before = all_shard_leases(replicas)
            replicas.shards = wanted
            for process in replicas.living:
                replicas.begin_run(20)
                assert all_shard_leases(replicas) == before, "nothing changes while they differ"
                replicas.start()
                await process.stop()
                await replicas.clock.advance(60)
            await replicas.clock.advance(240)
            names = ["sink:sink 0"] if wanted == 1 else [f"sink:sink 0#{number}" for number in range(wanted)]
            assert sorted(shard_leases(replicas)) == sorted([[name] for name in names] + [[]] * (3 - wanted))
        await check_that_all_arrived(replicas)

    run_in(6, happens)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=3, deadline=None)
def test_shards_whose_number_changes_among_disturbed_replicas_lose_nothing_and_share_no_strand(seed: int) -> None:
    async def happens(replicas: Replicas) -> None:
        for _ in range(3):
            replicas.start()
        for _ in range(30):
            for _ in range(replicas.random.randrange(4)):
                replicas.begin_run(replicas.random.uniform(0, 200))
            if replicas.random.random() < 0.3:
                replicas.shards = replicas.random.choice([1, 2, 3])
            await disturb(replicas)
            await replicas.clock.advance(replicas.random.choice([1, 7, 30, 90, 150]))
        await recover(replicas)
        await check_that_all_arrived(replicas)
        replicas.shards = 2
        for process in replicas.living:
            replicas.start()
            await process.stop()
        replicas.begin_run(1)
        await recover(replicas)
        assert all_shard_leases(replicas) == ["sink:sink 0#0", "sink:sink 0#1"]
        await check_that_all_arrived(replicas)

    run_in(seed, happens, shards=2)
