"""Replicas as real processes on a real PostgreSQL: who does what, who takes over, and what is left when everything fails.

`REPLICAS_SEED` repeats the world and the disturbances as far as the machine lets it, `REPLICAS_DISTURBANCES` is how many.
"""

import asyncio
import random
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from simulators.cdf import Scenario
from simulators.demo import expected
from tests.crash import tenures
from tests.crash.cluster import Cluster, Replica, setting
from tests.crash.test_random_kills import start_something
from tests.dashboards.dashboard_files import FILES, panels, queries, with_everything_chosen
from tests.rules.alert_rules import PLAIN
from tests.servers.kafka import Kafka, Record
from tests.servers.postgres import PostgresServer
from tests.servers.processes import ServerProcess
from tests.servers.prometheus import StartPrometheus
from tests.servers.toxiproxy import BOTH, Direction, Toxiproxy
from tests.short_leases import SECONDS

DISTURBANCES = setting("REPLICAS_DISTURBANCES", 300)
SEED = setting("REPLICAS_SEED", random.SystemRandom().randrange(1, 10**6))

pytestmark = [pytest.mark.crash, pytest.mark.timeout(800 + 4 * DISTURBANCES)]


@pytest.fixture
async def cluster(tmp_path: Path, own_postgres: PostgresServer, toxiproxy: Toxiproxy) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path, own_postgres, toxiproxy, count=3, seed=SEED) as made:
        yield made


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    return await kafka.create_topic(f"replicas-{uuid4()}", partitions=3)


@pytest.fixture
async def publishing_cluster(
    tmp_path: Path, own_postgres: PostgresServer, toxiproxy: Toxiproxy, kafka: Kafka, topic: str
) -> AsyncIterator[Cluster]:
    """With a real Kafka among its sinks."""
    sink = (kafka.bootstrap, topic)
    async with Cluster(tmp_path, own_postgres, toxiproxy, count=3, seed=SEED, kafka=sink) as made:
        yield made


async def seen_by_prometheus(cluster: Cluster, start_prometheus: StartPrometheus) -> None:
    """No panel has a line twice, and no alert is one of a pod."""
    addresses = [f"127.0.0.1:{each.logged('service.started')[-1]['port']}" for each in cluster.replicas]
    pods = "relabel_configs: [{source_labels: [__address__], target_label: pod}]"
    prometheus = start_prometheus(*addresses, labels={"namespace": "lineage", "job": "lineage-collector"}, more=pods)
    await prometheus.wait_for("count(count_over_time(up[20s]) > 3) == 3")
    times = {"__rate_interval": "4s", "__interval": "1s", "__range": "20s", "__range_s": "20"}
    drawn = 0
    tables = {panel["title"] for file in FILES for panel in panels(file) if panel["type"] == "table"}
    for query in (query for file in FILES for query in queries(file) if query.panel not in tables):
        found = await prometheus.query(with_everything_chosen(query.expr, times))
        drawn += bool(found)
        lines = [tuple(sample.labels.get(name) for name in sorted(query.labels)) for sample in found]
        assert len(set(lines)) == len(lines), f"{query.panel} has a line twice: {found}"
    assert drawn > 20
    alerts = [rule for group in yaml.safe_load(PLAIN.read_text())["groups"] for rule in group["rules"]]
    firing = {rule["alert"]: await prometheus.query(rule["expr"]) for rule in alerts}
    assert [name for name, found in firing.items() if any("pod" in sample.labels for sample in found)] == []
    assert firing["LineageReplicasDiffer"], "each has a proxy before its ledger, so another ledger.url"
    down = next(rule["expr"] for rule in alerts if rule["alert"] == "LineageReplicaDown")
    await prometheus.wait_for(f"absent({down})")  # one slow scrape of three on a busy machine is not yet an alert


async def test_leases_spread_over_replicas_and_are_followed_when_one_ends(
    cluster: Cluster, start_prometheus: StartPrometheus
) -> None:
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
    await seen_by_prometheus(cluster, start_prometheus)
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


async def test_replicas_that_differ_are_named_and_a_schema_that_is_too_new_ends_their_work(cluster: Cluster) -> None:
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

    async def newer() -> bool:
        return all(each.logged("ledger.newer") for each in (one, two))

    await cluster.until(newer)
    cluster.deployment.cdf.start_run(next(iter(cluster.deployment.cdf.transformations)), Scenario(0.1, 0.1))
    await cluster.settled()
    assert [(await each.page("/readyz"))[0] for each in (one, two)] == [200, 200]
    cluster.rows("UPDATE lineage.alembic_version SET compatible_from = '9999' RETURNING 1")

    async def stands_down() -> bool:
        kept = cluster.rows("SELECT name, holder FROM lineage.lease WHERE expires_at > 0")
        return kept == [] and [(await each.page("/readyz"))[0] for each in (one, two)] == [503, 503]

    await cluster.until(stands_down)
    for each in (one, two):
        [line] = each.logged("ledger.outdated")
        assert "this one cannot go on with it: install the newer one" in line["cause"]
        assert "it has stopped working" in (await each.page("/readyz"))[1]
        assert (await each.page("/healthz"))[0] == 200
        assert await each.end(signal.SIGTERM) == 0
        assert len(each.logged("ledger.newer")) == 1
        assert not each.logged("task.died")


async def play(cluster: Cluster, rng: random.Random) -> None:
    while True:
        start_something(cluster.deployment, rng)
        await asyncio.sleep(rng.uniform(2, 5))


class Disturbances:
    """So many, on all replicas, PostgreSQL and Kafka at the same time."""

    def __init__(self, cluster: Cluster, kafka: ServerProcess, seed: int, count: int) -> None:
        self._cluster, self._kafka, self.left = cluster, kafka, count
        self._seed = seed
        self.happened = Counter[str]()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number, replica in enumerate(self._cluster.replicas):
                group.create_task(self._of_replica(replica, random.Random(self._seed + number)))
            group.create_task(self._of_server(random.Random(self._seed - 1)))
            group.create_task(self._of_kafka(random.Random(self._seed - 2)))

    def _is_next(self, what: str) -> bool:
        if not self.left:
            return False
        self.left -= 1
        self.happened[what] += 1
        return True

    async def _of_replica(self, replica: Replica, rng: random.Random) -> None:
        while self._is_next(what := rng.choices(*zip(*OF_REPLICAS.items(), strict=True))[0]):
            await disturb(replica, what, rng)
            if not replica.lives:  # as Kubernetes does with one that found no database at its start
                await replica.start()
            await asyncio.sleep(rng.uniform(0, 1))

    async def _of_server(self, rng: random.Random) -> None:
        server = self._cluster.server
        while True:
            await asyncio.sleep(rng.uniform(3, 9))
            if not self._is_next(what := rng.choice(["restart", "crash", "freeze server"])):
                return
            if what == "freeze server":
                server.pause()
                await asyncio.sleep(duration(rng))
                server.resume()
            else:
                await asyncio.to_thread(server.stop if what == "restart" else server.kill)
                await asyncio.sleep(rng.uniform(0, 1))
                await asyncio.to_thread(server.start)

    async def _of_kafka(self, rng: random.Random) -> None:
        await asyncio.sleep(rng.uniform(3, 9))
        while self._is_next("freeze kafka"):
            self._kafka.pause()
            await asyncio.sleep(duration(rng))
            self._kafka.resume()
            await asyncio.sleep(rng.uniform(5, 15))


TOXICS: dict[str, tuple[str, dict[str, int]]] = {
    "held": ("latency", {"latency": 10**9}),
    "late": ("latency", {"latency": 150, "jitter": 100}),
    "slow": ("bandwidth", {"rate": 20}),
    "in pieces": ("slicer", {"average_size": 200, "size_variation": 150, "delay": 500}),
    "lost": ("timeout", {"timeout": 0}),
    "reset": ("reset_peer", {"timeout": 0}),
}
"""What the network does to all that passes between a replica and PostgreSQL, or passes in one direction: a Toxiproxy's toxics."""
OF_REPLICAS = {"kill": 1, "stop": 1, "freeze": 4, "cut": 4, **dict.fromkeys(TOXICS, 1)}
"""What happens to them, and how often compared to the rest."""


def duration(rng: random.Random) -> float:
    """Seconds: now and then longer than a lease."""
    return rng.uniform(SECONDS, SECONDS + 4) if rng.random() < 0.12 else rng.uniform(0.05, 0.8)


async def disturb(replica: Replica, what: str, rng: random.Random) -> None:
    """It is over when this returns."""
    match what:
        case "kill" | "stop":
            await replica.end(signal.SIGKILL if what == "kill" else signal.SIGTERM)
            await asyncio.sleep(duration(rng))
        case "freeze":
            replica.send(signal.SIGSTOP)
            await asyncio.sleep(duration(rng))
            replica.send(signal.SIGCONT)
        case "cut":
            await replica.proxy.cut()
        case _:
            kind, attributes = TOXICS[what]
            directions = rng.choice([BOTH, (Direction.UPSTREAM,), (Direction.DOWNSTREAM,)])
            async with replica.proxy.toxic(kind, *directions, **attributes):
                await asyncio.sleep(duration(rng))


async def divide_again(cluster: Cluster, disturbances: Disturbances) -> None:
    """Half way through; the replicas are started with it one by one, as they are disturbed."""
    half = disturbances.left // 2
    while disturbances.left > half:
        await asyncio.sleep(0.1)
    cluster.divide(3)


async def roll(cluster: Cluster) -> None:
    """Start each replica again, one after the other."""
    for replica in cluster.replicas:
        if replica.lives:
            assert await replica.end(signal.SIGTERM) == 0
        await replica.start()


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


def wrong_in_kafka(records: list[Record], places: dict[bytes, tuple[int, int]]) -> list[str]:
    """What Kafka should not have. It may have the same bytes again, where their acknowledgement was lost, and late, where
    the process that sent them was frozen.
    """
    partitions: defaultdict[int, set[int]] = defaultdict(set)
    for record in records:
        if record.value in places:
            partitions[places[record.value][0]].add(record.partition)
    found = {record.value for record in records}
    return [
        *(f"never published: {line!r}" for line in places.keys() - found),
        *(f"published, but not in the ledger: {line!r}" for line in found - places.keys()),
        *(f"strand {strand} is in partitions {parts}" for strand, parts in partitions.items() if len(parts) > 1),
        *out_of_order([record.value for record in records if record.value in places], places),
    ]


def test_the_oracle_finds_what_is_wrong_in_kafka() -> None:
    places = {b"a1": (1, 1), b"a2": (1, 2), b"b1": (2, 1)}

    def published(*lines: bytes, partition: int = 0) -> list[Record]:
        return [Record(partition, offset, b"key", line, ()) for offset, line in enumerate(lines)]

    assert wrong_in_kafka(published(b"a1", b"b1", b"a2"), places) == []
    assert wrong_in_kafka(published(b"a1", b"a2", b"b1", b"a1"), places) == [], "sent again"
    assert wrong_in_kafka(published(b"a1", b"b1"), places) == ["never published: b'a2'"]
    assert len(wrong_in_kafka(published(b"a2", b"a1", b"b1"), places)) == 2
    assert len(wrong_in_kafka(published(b"a1", b"a2", b"b1", b"c1"), places)) == 1
    split = published(b"a1", b"b1") + published(b"a2", partition=1)
    assert wrong_in_kafka(split, places) == ["strand 1 is in partitions {0, 1}"]


async def test_whatever_fails_nothing_is_lost_and_order_is_kept(
    publishing_cluster: Cluster, kafka: Kafka, topic: str
) -> None:
    cluster = publishing_cluster
    print(f"REPLICAS_SEED={SEED} REPLICAS_DISTURBANCES={DISTURBANCES}")
    cluster.deployment.settings["sources"][0]["workflows"] = True
    cluster.deployment.settings["sources"][2]["stages"] = "runs"
    cluster.divide(2)
    await cluster.start()

    async def all_held() -> bool:
        await revive(cluster.replicas)
        return await cluster.spread() is not None

    await cluster.until(all_held)
    world = asyncio.create_task(play(cluster, random.Random(SEED)))
    disturbances = Disturbances(cluster, kafka.process, SEED, DISTURBANCES)
    began = asyncio.get_running_loop().time()
    try:
        await asyncio.gather(disturbances.run(), divide_again(cluster, disturbances))
    finally:
        world.cancel()
    seconds = asyncio.get_running_loop().time() - began
    print(f"{sum(disturbances.happened.values())} disturbances in {seconds:.0f} s: {dict(disturbances.happened)}")
    await roll(cluster)

    async def divided() -> bool:
        return cluster.shards() == {3}

    await cluster.until(divided)
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
    records = await kafka.read(topic)
    assert wrong_in_kafka(records, places) == []
    again = {"file": len(whole) - len(places), "kafka": len(records) - len(places)}
    print(f"{len(places)} events, sent again: {again}")
    with cluster.server.connect(cluster.database) as conn:
        assert tenures.foreign_commits(conn) == [], "no commit by a process that has lost its lease"
        taken = tenures.tenures(conn)
    thawed = {name: at for replica in cluster.replicas for name, at in replica.thawed.items()}
    assert tenures.foreign_requests(cluster.requests, taken, thawed) == [], "one polls at a time"
    print(f"{len(taken)} leases taken, {len(cluster.requests)} requests to platforms")
    for replica in cluster.replicas:
        assert await replica.end(signal.SIGTERM) == 0
        assert not replica.logged("task.died")
