"""Replicas of the program on one PostgreSQL that syncs every commit: `python -m tests.bench.replicas URL [KAFKA TOPIC]`, one JSON object.

Each replica is a process. URL takes every POST at once; KAFKA is HOST:PORT of a broker that has the topic.
"""

import asyncio
import json
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any

import psycopg
import yaml

from collector.clock import SystemClock
from collector.ledger import configured_sinks
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store as PostgresStore
from collector.ledger.sqlite.store import Store as SqliteStore
from collector.model import EventKind
from simulators import configuration
from simulators.cdf import CdfSimulator, populate
from simulators.server import Served
from tests import preloaded
from tests.bench.awake import cores_awake
from tests.bench.filling import Filling
from tests.bench.idle import share
from tests.bench.responder import Responder
from tests.servers.postgres import PASSWORD, PostgresServer, postgres_server

SINKS = 5
"""They spread over replicas, with the source six leases."""
EVENTS = {"HTTP": 500, "Kafka": 2_000}
"""Which each sink is owed: some seconds of work, as what is in flight when the clock starts is not counted right."""
LATENCIES, STOPS, IDLE_SECONDS = 50, 5, 30.0
PATIENCE = 300.0


class Fleet:
    """Replicas with one configuration on a database of their own."""

    def __init__(self, folder: Path, server: PostgresServer, settings: dict[str, Any], *, notify: bool = False) -> None:
        self._server, self._folder = server, folder
        self._database = server.new_database()
        url = server.url(self._database)
        self.database = Database(url, "lineage", lambda: PASSWORD, notify=notify)
        self._settings = {**settings, "ledger": {"url": url, "password": PASSWORD, "notify": notify}}
        self.processes: dict[int, preloaded.Process] = {}
        self._connection: psycopg.Connection[Any] | None = None

    async def add(self) -> None:
        name = f"{self._database}-{time.time_ns()}"
        process = await start(self._folder, name, self._settings)
        self.processes[process.pid] = process
        log = self._folder / f"{name}.log"
        await self.until(lambda: "service.started" in log.read_text())

    def holders(self) -> dict[str, int]:
        """The process that holds each lease."""
        now = "(extract(epoch FROM clock_timestamp()) * 1000)"
        rows = self._rows(f"SELECT name, holder FROM lineage.lease WHERE expires_at > {now} AND holder <> 'bench'")
        return {name: int(holder.split(":")[-2]) for name, holder in rows}

    def shares(self) -> list[int]:
        """How many sinks each process feeds."""
        held = Counter(pid for name, pid in self.holders().items() if name.startswith("sink:"))
        return sorted(held[pid] for pid in self.processes)

    def are_even(self) -> bool:
        """Whether each process feeds as many sinks as any other, or one less."""
        shares = self.shares()
        return sum(shares) == SINKS and shares[-1] - shares[0] <= 1

    def are_spread(self) -> bool:
        """Whether no process works for two of the sources and sinks, so that no lease moves any more."""
        workers = [pid for name, pid in self.holders().items() if ":" in name]
        return len(workers) == len({*workers})

    def pending(self) -> int:
        [[left]] = self._rows("SELECT coalesce(sum(pending), 0) FROM lineage.tally")
        return int(left)

    def _rows(self, statement: str) -> list[Any]:
        if self._connection is None:
            self._connection = self._server.connect(self._database)
        return self._connection.execute(statement.encode()).fetchall()

    async def until(self, what: Callable[[], bool], every: float = 0.01) -> None:
        end = time.monotonic() + PATIENCE
        while not what():
            if time.monotonic() > end:
                logs = (path.read_text()[-2000:] for path in self._folder.glob(f"{self._database}-*.log"))
                raise SystemExit(f"{self.holders()} of {[*self.processes]}\n" + "\n".join(logs))
            await asyncio.sleep(every)

    async def close(self) -> None:
        await ended(*self.processes.values())
        if self._connection is not None:
            self._connection.close()

    async def end(self, pid: int, number: signal.Signals, every: float = 0.01) -> float:
        """Seconds from this signal until others hold all that this process held, to be seen so often."""
        names, begun = self.holders().keys(), time.perf_counter()
        process = self.processes.pop(pid)
        process.send_signal(number)
        await self.until(
            lambda: {name for name, pid in self.holders().items() if pid in self.processes} >= names, every
        )
        seconds = time.perf_counter() - begun
        await process.wait()
        return seconds


async def start(folder: Path, name: str, settings: dict[str, Any]) -> preloaded.Process:
    own = {"http": {"listen": "127.0.0.1:0"}, "control_socket": str(folder / f"{name}.sock")}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**settings, **own}))
    with path.with_suffix(".log").open("wb") as log:
        return await preloaded.start("collector", "run", "--config", str(path), out=log.fileno(), err=log.fileno())


@asynccontextmanager
async def fleet(server: PostgresServer, settings: dict[str, Any], **more: bool) -> AsyncIterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        made = Fleet(Path(folder), server, settings, **more)
        await (await asyncio.to_thread(PostgresStore.open, made.database)).close()  # it has its tables from now on
        try:
            yield made
        finally:
            await made.close()


async def ended(*processes: preloaded.Process) -> None:
    for process in processes:
        process.kill()
        await process.wait()


def settings(*sinks: dict[str, Any]) -> dict[str, Any]:
    """With a source that nothing answers for, as there must be one."""
    return {"sources": [configuration.source("cdf", "http://127.0.0.1:9")], "sinks": [*sinks]}


def several(sink: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**sink, "name": f"sink-{number}"} for number in range(SINKS)]


async def rates(server: PostgresServer, sinks: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Events a second that 3, 2 and 1 replicas deliver to such sinks, a fleet of each kind: while the one is measured the other is idle."""
    found: dict[str, dict[str, float]] = {name: {} for name in sinks}
    async with AsyncExitStack() as stack:
        fleets, fillings = dict[str, Fleet](), dict[str, Filling]()
        for name, sink in sinks.items():
            replicas = fleets[name] = await stack.enter_async_context(fleet(server, settings(*several(sink))))
            for _ in range(3):
                await replicas.add()
            fillings[name] = await Filling.into(await stack.enter_async_context(opened(replicas.database)))
        for count in (3, 2, 1):  # so that leases move once: what ends gives its own back
            for name, replicas in fleets.items():
                await replicas.until(replicas.are_even)
                await fillings[name].commit(EVENTS[name])
                found[name][str(count)] = await _rate(replicas.pending, EVENTS[name])
            if count > 1:
                for replicas in fleets.values():
                    await replicas.end(busiest(replicas), signal.SIGTERM)
    return found


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[PostgresStore]:
    store = await asyncio.to_thread(PostgresStore.open, database)
    try:
        yield store
    finally:
        await store.close()


async def rates_of_files(sinks: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    return {name: await rate_of_one_file(sink, EVENTS[name]) for name, sink in sinks.items()}


async def rate_of_one_file(sink: dict[str, Any], events: int) -> float:
    """Events a second that one process with its ledger in SQLite delivers."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        path, sinks = Path(folder) / "ledger.db", several(sink)
        store = SqliteStore.open(path, holder="bench", clock=SystemClock())
        names = [each["name"] for each in sinks]
        await store.write(configured_sinks.sync_sinks, dict.fromkeys(names, frozenset(EventKind)), 0)
        await (await Filling.into(store)).commit(events)
        await store.close()
        process = await start(Path(folder), "one", {**settings(*sinks), "ledger": {"path": str(path)}})
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as conn:
                return await _rate(lambda: conn.execute("SELECT sum(pending) FROM tally").fetchone()[0], events)
        finally:
            await ended(process)


async def _rate(pending: Callable[[], int], events: int) -> float:
    """From the first event that is delivered on, so that neither a start nor a wake-up is in it."""
    end = time.monotonic() + PATIENCE
    while (count := pending()) == SINKS * events:
        if time.monotonic() > end:
            raise SystemExit("nothing is delivered")
        await asyncio.sleep(0.01)
    begun = time.perf_counter()
    while pending():
        await asyncio.sleep(0.02)
    return count / (time.perf_counter() - begun)


class Arrivals(Responder):
    """Sets `arrived` at each event."""

    arrived: asyncio.Event

    def answered(self) -> None:
        Arrivals.arrived.set()


async def latencies(server: PostgresServer) -> dict[str, dict[str, float]]:
    """Milliseconds from a commit by one replica until the sink that another one feeds has answered, by its looks and by `ledger.notify` in turn."""
    Arrivals.arrived = asyncio.Event()
    sink = await asyncio.get_running_loop().create_server(Arrivals, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{sink.sockets[0].getsockname()[1]}"
    found: dict[str, list[float]] = {"look": [], "notify": []}
    async with sink, AsyncExitStack() as stack:
        fillings = {}
        for way in found:
            replicas = await stack.enter_async_context(fleet(server, settings(http(url)), notify=way == "notify"))
            await replicas.add()
            await replicas.until(partial(_feed_one_sink, replicas))
            fillings[way] = await Filling.into(await stack.enter_async_context(opened(replicas.database)))
        for _ in range(LATENCIES):
            for way, filling in fillings.items():
                await asyncio.sleep(
                    random.uniform(0.1, 0.6) if way == "look" else 0.1
                )  # at any moment between two looks
                Arrivals.arrived.clear()
                begun = time.perf_counter()
                await filling.commit(1)
                await asyncio.wait_for(Arrivals.arrived.wait(), PATIENCE)
                found[way].append((time.perf_counter() - begun) * 1000)
    cuts = {way: quantiles(times, n=100, method="inclusive") for way, times in found.items()}
    return {way: {"p50": each[49], "p99": each[98]} for way, each in cuts.items()}


def _feed_one_sink(replicas: Fleet) -> bool:
    return replicas.shares() == [1]


async def waits(server: PostgresServer, url: str, sinks: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What each of two replicas costs that only stand by, in percent of a core, and how long others take to take over, in seconds.

    These are waits in which next to nothing runs: what is short and hears nothing of that is measured meanwhile.
    """
    simulator = CdfSimulator(seed=3)
    populate(simulator)
    async with Served(simulator) as served:
        source = {**configuration.source("cdf", served.url), "poll_interval": "30s"}
        async with fleet(server, {"sources": [source], "sinks": [{**http(url), "timeout": "5s"}]}) as replicas:
            for _ in range(4):
                await replicas.add()
            latency = await latencies(server)  # their leases spread meanwhile
            await replicas.until(lambda: len(replicas.holders()) == 4 and replicas.are_spread())
            idle = await standby(replicas)
            stops = []
            for _ in range(STOPS):
                stops.append(await replicas.end(busiest(replicas), signal.SIGTERM))
                await replicas.add()
                await replicas.until(lambda: len(replicas.holders()) == 4)
            holder = replicas.holders()["sink:http"]
            kill, files = await asyncio.gather(replicas.end(holder, signal.SIGKILL, every=0.2), rates_of_files(sinks))
    return {**idle, "latency": latency, "stops": stops, "kill": kill, "files": files}


async def standby(replicas: Fleet) -> dict[str, float]:
    """In percent of a core, with the cores asleep and kept awake, and wake-ups a second."""
    await asyncio.sleep(10)
    idle = replicas.processes.keys() - replicas.holders().values()
    asleep = await shares(idle, IDLE_SECONDS)
    with cores_awake():
        awake = await shares(idle, IDLE_SECONDS)
    assert idle.isdisjoint(replicas.holders().values()), "one took a lease"
    return {"standby_asleep": asleep[0], "standby": awake[0], "standby_wakes": asleep[1]}


async def shares(processes: Collection[int], seconds: float) -> tuple[float, float]:
    """The means of them."""
    found = await asyncio.gather(*(share(pid, seconds) for pid in processes))
    return fmean(cpu for cpu, _ in found), fmean(wakes for _, wakes in found)


def busiest(replicas: Fleet) -> int:
    [(pid, _)] = Counter(replicas.holders().values()).most_common(1)
    return pid


def http(url: str) -> dict[str, Any]:
    return {"name": "http", "type": "openlineage", "url": url}


async def measured(url: str, bootstrap: str | None = None, topic: str | None = None) -> dict[str, Any]:
    sinks = {"HTTP": http(url)}
    if bootstrap is not None:
        sinks["Kafka"] = {"type": "kafka", "bootstrap_servers": bootstrap, "topic": topic}
    with postgres_server(durable=True) as server:
        by_replicas = await rates(server, sinks)
        found = await waits(server, url, sinks)
    files = found.pop("files")
    return {"rates": {name: {"file": files[name], **by_replicas[name]} for name in sinks}, **found}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(*sys.argv[1:]))))
