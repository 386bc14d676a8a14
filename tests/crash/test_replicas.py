"""Replicas as real processes on a real PostgreSQL: who does what, who takes over, and what is left when everything fails.

`REPLICAS_SEED` repeats the world and the disturbances as far as the machine lets it, `REPLICAS_DISTURBANCES` is how many.
"""

import asyncio
import random
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulators.cdf import Scenario
from simulators.demo import expected
from tests.crash.cluster import Cluster, Replica, setting
from tests.crash.test_random_kills import start_something
from tests.servers.postgres import PostgresServer

DISTURBANCES = setting("REPLICAS_DISTURBANCES", 12)
SEED = setting("REPLICAS_SEED", random.SystemRandom().randrange(1, 10**6))

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400 + 20 * DISTURBANCES)]


@pytest.fixture
async def cluster(tmp_path: Path, own_postgres: PostgresServer) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path, own_postgres, count=3, seed=SEED) as made:
        yield made


async def test_leases_spread_over_replicas_and_are_followed_when_one_ends(cluster: Cluster) -> None:
    one, two, three = cluster.replicas
    await cluster.start()

    async def shared() -> bool:
        found = await cluster.spread()
        return found is not None and sorted(len(held - {"housekeeping", "metrics"}) for held in found) == [1, 2, 2]

    await cluster.until(shared)
    shown = [(await each.page("/metrics"))[1] for each in cluster.replicas]
    assert sum("lineage_ledger_bytes" in page for page in shown) == 1, "one replica shows the ledger"

    async def ready() -> bool:
        return [(await each.page("/readyz"))[0] for each in cluster.replicas] == [200] * 3

    await cluster.until(ready)
    for each in cluster.replicas:
        status = await each.status()
        assert status is not None
        assert len(status["replicas"]) == 3
        assert {row["holder"] for row in (*status["sources"], *status["sinks"])} <= {
            row["replica"] for row in status["replicas"]
        }
    first, *jobs = cluster.deployment.cdf.transformations  # a job that runs still cannot be run again
    cluster.deployment.cdf.start_run(first, Scenario(0.1, 0.5))
    for each, job in zip(cluster.replicas, jobs, strict=False):  # whoever holds the source does it
        cluster.deployment.config = each.config
        code, out, err = await cluster.deployment.command("trigger", "plant-a", str(job), "--json")
        assert (code, '"request": "done"' in out) == (0, True), out + err
    assert await one.end(signal.SIGTERM) == 0
    await two.end(signal.SIGKILL)

    async def alone() -> bool:
        return await cluster.spread() is not None

    await cluster.until(alone)
    await cluster.settled()
    assert await three.end(signal.SIGTERM) == 0
    assert all(not replica.logged("task.died") for replica in cluster.replicas)


async def test_a_replica_that_is_frozen_for_longer_than_its_leases_commits_nothing_under_them(cluster: Cluster) -> None:
    one, two, _ = cluster.replicas
    await one.start()

    async def all_held() -> bool:
        return await cluster.spread() is not None

    await cluster.until(all_held)
    before: dict[str, int] = dict(cluster.rows("SELECT name, token FROM lineage.lease WHERE expires_at > 0"))
    one.send(signal.SIGSTOP)
    await two.start()
    await cluster.until(all_held)
    after: dict[str, int] = dict(cluster.rows("SELECT name, token FROM lineage.lease WHERE expires_at > 0"))
    assert all(after[name] > before[name] for name in before)
    for job in list(cluster.deployment.cdf.transformations)[:4]:
        cluster.deployment.cdf.start_run(job, Scenario(0.1, 0.3))
    one.send(signal.SIGCONT)
    await cluster.settled()

    async def stands_by() -> bool:
        return bool(one.logged("lease.lost"))

    await cluster.until(stands_by)
    assert await one.end(signal.SIGTERM) == 0


async def test_replicas_that_differ_are_named_and_a_schema_that_is_too_new_ends_them(cluster: Cluster) -> None:
    one, two, _ = cluster.replicas
    two.settings = {**two.settings, "lineage": {"validate_events": False}}
    await one.start()
    await two.start()

    async def differ() -> bool:
        status = await one.status()
        wrong = [row["wrong"] for row in status["replicas"]] if status is not None else []
        return any("another configuration than replica" in str(each) for each in wrong)

    await cluster.until(differ)

    async def logged() -> bool:
        return bool(one.logged("replica.mismatched") and two.logged("replica.mismatched"))

    await cluster.until(logged)
    pages = [(await each.page("/metrics"))[1] for each in (one, two)]
    assert any("lineage_replica_kinds 2.0" in page for page in pages)
    cluster.rows("UPDATE lineage.alembic_version SET version_num = '9999' RETURNING 1")
    for each in (one, two):
        assert each.process is not None
        assert await asyncio.wait_for(each.process.wait(), 60) == 1
        [line] = each.logged("ledger.outdated")
        assert "made by a newer version of this program: install that one here, too" in line["cause"]
    kept = cluster.rows("SELECT name, holder FROM lineage.lease WHERE expires_at > 0")
    assert kept == [], "\n".join(each.tail() for each in cluster.replicas)


async def play(cluster: Cluster, rng: random.Random) -> None:
    while True:
        start_something(cluster.deployment, rng)
        await asyncio.sleep(rng.uniform(1, 3))


async def disturb(cluster: Cluster, rng: random.Random) -> str:
    """One thing happens, and is over when this returns; what it was."""
    replica, seconds = rng.choice(cluster.replicas), rng.uniform(0.1, 12)
    what = rng.choice(["kill", "kill", "stop", "freeze", "freeze", "cut", "hold", "restart", "crash", "freeze server"])
    match what:
        case "kill" | "stop":
            await replica.end(signal.SIGKILL if what == "kill" else signal.SIGTERM)
            await asyncio.sleep(seconds if rng.random() < 0.3 else 0)
            await replica.start()
        case "freeze":
            replica.send(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            replica.send(signal.SIGCONT)
        case "cut":
            replica.proxy.cut()
        case "hold":
            replica.proxy.hold()
            await asyncio.sleep(seconds)
            replica.proxy.release()
        case "restart" | "crash":
            await asyncio.to_thread(cluster.server.stop if what == "restart" else cluster.server.kill)
            await asyncio.sleep(seconds / 4)
            await asyncio.to_thread(cluster.server.start)
        case _:
            cluster.server.pause()
            await asyncio.sleep(seconds)
            cluster.server.resume()
    await revive(cluster.replicas)
    return what


async def revive(replicas: list[Replica]) -> None:
    """As Kubernetes does: a replica that found no database at its start ends, and is started again."""
    for replica in replicas:
        if not replica.lives:
            await replica.start()


def out_of_order(lines: list[bytes], places: dict[bytes, tuple[int, int]]) -> list[str]:
    """Events that came first though an earlier one of their strand had not come yet. What a process had begun to send when it
    was frozen may come a second time, and late.
    """
    last: defaultdict[int, int] = defaultdict(int)
    wrong = []
    for line in dict.fromkeys(lines):
        strand, seq = places[line]
        if seq != last[strand] + 1:
            wrong.append(f"event {seq} of strand {strand} after {last[strand]}: {line[:300]!r}")
        last[strand] = seq
    return wrong


async def test_whatever_fails_nothing_is_lost_and_order_is_kept(cluster: Cluster) -> None:
    print(f"REPLICAS_SEED={SEED} REPLICAS_DISTURBANCES={DISTURBANCES}")
    rng = random.Random(SEED)
    cluster.deployment.settings["sources"][0]["workflows"] = True
    cluster.deployment.settings["sources"][2]["stages"] = "runs"
    await cluster.start()

    async def all_held() -> bool:
        await revive(cluster.replicas)
        return await cluster.spread() is not None

    await cluster.until(all_held)
    world = asyncio.create_task(play(cluster, random.Random(SEED)))
    happened = Counter[str]()
    try:
        for _ in range(DISTURBANCES):
            happened[await disturb(cluster, rng)] += 1
            await asyncio.sleep(rng.uniform(0, 2))
    finally:
        world.cancel()
    print(dict(happened))
    await cluster.until(all_held)
    await cluster.settled(180)
    places = {
        bytes(body): (strand, seq)
        for body, strand, seq in cluster.rows("SELECT body, strand_id, seq FROM lineage.event")
    }
    assert cluster.rows("SELECT count(*) FROM lineage.parked") == [(0,)]
    twice = cluster.rows(
        "SELECT run_id, count(*) FROM lineage.event WHERE kind IN ('START', 'COMPLETE', 'FAIL', 'ABORT') "
        "GROUP BY run_id, CASE kind WHEN 'START' THEN 1 ELSE 2 END HAVING count(*) > 1"
    )
    assert twice == [], "one START and one end for each run"
    lines = expected.read_lines(cluster.deployment.events)
    whole = [line for line in lines if line in places]
    torn = [line for line in lines if line not in places]
    assert all(any(body.startswith(line) for body in places) for line in torn)
    assert set(whole) == set(places)
    assert out_of_order(whole, places) == []
    print(f"{len(places)} events, {len(whole) - len(places)} of them sent again")
    for replica in cluster.replicas:
        assert await replica.end(signal.SIGTERM) == 0
        assert not replica.logged("task.died")
