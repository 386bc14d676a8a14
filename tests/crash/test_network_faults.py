"""Toxiproxy between the real process and its Kafka and Marquez: late, slow, in pieces, half open, cut off; nothing is lost.

`NETWORK_FAULTS` is how many faults, `NETWORK_FAULTS_SEED` repeats their sequence.
"""

import asyncio
import os
import random
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from simulators.demo import expected
from tests.crash.ledger_oracle import committed, out_of_order
from tests.crash.test_random_kills import play
from tests.deployment import Deployment
from tests.servers.kafka import Kafka
from tests.servers.ports import LOOPBACK
from tests.servers.toxiproxy import BOTH, Direction, Proxy, Toxiproxy

FAULTS = int(os.environ.get("NETWORK_FAULTS", "12"))
SEED = int(os.environ.get("NETWORK_FAULTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
pytestmark = [pytest.mark.crash, pytest.mark.timeout(600 + 30 * FAULTS)]

TOXICS = {
    "latency": {"latency": (50, 3000), "jitter": (0, 500)},
    "bandwidth": {"rate": (1, 20)},
    "slicer": {"average_size": (10, 400), "size_variation": (1, 9), "delay": (0, 20_000)},
    "limit_data": {"bytes": (1, 20_000)},
    "reset_peer": {"timeout": (0, 500)},
    "timeout": {"timeout": (0, 0)},
    "slow_close": {"delay": (100, 2000)},
}
"""With the bounds of their attributes. A timeout of zero is a half-open connection: nothing passes, and it is not closed."""
KINDS = (*TOXICS, "cut", "closed")


async def disturb(proxy: Proxy, kind: str, rng: random.Random) -> None:
    """For some seconds; then it passes everything on."""
    lasting = rng.uniform(0.3, 2.5)
    if kind == "cut":
        await proxy.cut()
    elif kind == "closed":
        await proxy.close()
        await asyncio.sleep(lasting)
        await proxy.open()
    else:
        directions: tuple[Direction, ...] = rng.choice([BOTH, *((each,) for each in BOTH)])
        attributes = {name: rng.randint(*bounds) for name, bounds in TOXICS[kind].items()}
        async with proxy.toxic(kind, *directions, toxicity=rng.choice([0.5, 1]), **attributes):
            await asyncio.sleep(lasting)


async def test_faults_of_the_network_at_random_lose_nothing(tmp_path: Path, kafka: Kafka, toxiproxy: Toxiproxy) -> None:
    print(f"NETWORK_FAULTS_SEED={SEED} NETWORK_FAULTS={FAULTS}")
    rng = random.Random(SEED)
    topic = await kafka.create_topic(f"network-{uuid4()}", partitions=3)
    listening, advertised = kafka.proxied
    async with AsyncExitStack() as stack:
        to_kafka = await stack.enter_async_context(toxiproxy.before(listening, at=advertised))
        deployment = await stack.enter_async_context(
            Deployment(tmp_path, seed=SEED, kafka=(f"{LOOPBACK}:{advertised}", topic))
        )
        marquez = deployment.settings["sinks"][1]
        to_marquez = await stack.enter_async_context(toxiproxy.before(urlsplit(marquez["url"]).port or 0))
        marquez |= {"url": f"http://{LOOPBACK}:{to_marquez.port}", "timeout": "2s"}
        await deployment.start()
        await deployment.until_ready()
        runs = asyncio.create_task(play(deployment, random.Random(SEED)))
        kinds = [kind for _ in range(FAULTS // len(KINDS) + 1) for kind in rng.sample(KINDS, len(KINDS))]
        try:
            for kind in kinds[:FAULTS]:
                proxies = rng.choice([[to_kafka], [to_marquez], [to_kafka, to_marquez]])
                await asyncio.gather(*(disturb(proxy, kind, rng) for proxy in proxies))
        finally:
            runs.cancel()
        await deployment.settle()
        await deployment.until(lambda status: all(row["pending"] + row["doubts"] == 0 for row in status["sinks"]))
        deployment.terminate()
        assert await deployment.ended() == 0
        places = committed(tmp_path / "lineage.db")
        records = [record.value for record in await kafka.read(topic)]
        for got in (expected.read_lines(deployment.events), records):
            assert set(got) == set(places)
            assert out_of_order(got, places) == []
        assert deployment.faults() == []
        print(f"{FAULTS} faults, {len(places)} events, in Kafka {len(records)} times")
