"""Replicas as real processes on one PostgreSQL, each behind a proxy of its own, beside the deployment's simulators."""

import asyncio
import os
import signal
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
import yaml

from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store
from collector.ledger.shards import lease_names
from tests import preloaded
from tests.crash.tenures import AUDIT, NotedRequests, Request
from tests.deployment import CDF, DATAPREP, WETRANSFORM, Deployment
from tests.servers.postgres import PASSWORD, PostgresServer
from tests.servers.toxiproxy import Proxy, Toxiproxy

PATIENCE = 120.0
PROGRAM = "tests.short_leases"


class Replica:
    """One process after the other, with the same configuration. Each has a name of its own in PostgreSQL and at the platforms."""

    def __init__(self, name: str, folder: Path, settings: dict[str, Any], proxy: Proxy) -> None:
        self.name, self.proxy = name, proxy
        self.config, self.log, self.socket = (folder / f"{name}.{end}" for end in ("yaml", "log", "sock"))
        self.settings = {**settings, "control_socket": str(self.socket)}
        self.process: preloaded.Process | None = None
        self.frozen = False
        self.thawed: defaultdict[str, list[float]] = defaultdict(list)
        """When each of its processes was thawed, in seconds since the epoch."""
        self._starts = 0

    @property
    def process_name(self) -> str:
        return f"{self.name}/{self._starts}"

    @property
    def lives(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        self._starts += 1
        self.frozen = False  # the one before may have been frozen as it ended, so that nothing could thaw it
        ledger = self.settings["ledger"]
        ledger = {**ledger, "url": f"{ledger['url']}&application_name={self.process_name}"}
        self.config.write_text(yaml.safe_dump({**self.settings, "ledger": ledger}))
        words = ["run", "--config", str(self.config)]
        named = {**os.environ, "PROCESS": self.process_name}
        with self.log.open("ab") as log:
            self.process = await preloaded.start(PROGRAM, *words, environment=named, out=log.fileno(), err=log.fileno())

    def send(self, number: signal.Signals) -> None:
        if self.lives and self.process is not None:
            if number == signal.SIGCONT and self.frozen:
                self.thawed[self.process_name].append(time.time())
            self.process.send_signal(number)
            self.frozen = number == signal.SIGSTOP or (self.frozen and number != signal.SIGCONT)

    async def end(self, number: signal.Signals) -> int:
        """Its exit code."""
        assert self.process is not None
        self.send(signal.SIGCONT)
        self.send(number)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)

    async def status(self) -> dict[str, Any] | None:
        """What it says of itself; None while it does not answer."""
        connector, limit = aiohttp.UnixConnector(str(self.socket)), aiohttp.ClientTimeout(total=10)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=limit) as session,
                session.get("http://service/status.json") as answer,
            ):
                told: dict[str, Any] = await answer.json()
                return told
        except (OSError, aiohttp.ClientError, TimeoutError):
            return None

    async def page(self, path: str) -> tuple[int, str]:
        port = self.logged("service.started")[-1]["port"]
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()

    async def held(self) -> set[str]:
        """Names of the leases that its metrics show as held."""
        _, text = await self.page("/metrics")
        lines = [line for line in text.splitlines() if line.startswith("lineage_lease_held{") and line.endswith(" 1.0")]
        return {line.split('"')[1] for line in lines}

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of this event in the log of all its processes."""
        lines = self.log.read_bytes().splitlines() if self.log.exists() else []
        found = (orjson.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}"))
        return [line for line in found if line["event"] == event]

    def tail(self, size: int = 3000) -> str:
        return f"{self.name}: {self.log.read_text(errors='replace')[-size:] if self.log.exists() else '(no log)'}"


class Cluster:
    """`deployment` has the platforms, what arrived, and what should have."""

    def __init__(
        self,
        folder: Path,
        server: PostgresServer,
        toxiproxy: Toxiproxy,
        *,
        count: int,
        seed: int,
        kafka: tuple[str, str] | None = None,
    ) -> None:
        """`kafka` as of `Deployment`."""
        self.deployment = Deployment(folder, seed=seed, kafka=kafka)
        self.server, self._toxiproxy, self._folder, self._count = server, toxiproxy, folder, count
        self.database = server.new_database()
        self.replicas: list[Replica] = []
        self.last_spread = "nobody was asked for leases"
        self.requests: list[Request] = []
        """Of the replicas to the platforms."""
        for name, simulator in ((CDF, self.deployment.cdf), (WETRANSFORM, self.deployment.wetransform)):
            simulator.faults = NotedRequests(name, self.requests)
        self.deployment.dataprep.faults = NotedRequests(DATAPREP, self.requests)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.deployment)
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        self.deployment.settings["sinks"][1]["timeout"] = "2s"
        await asyncio.to_thread(self._make_ledger)
        for number in range(self._count):
            proxy = await self._stack.enter_async_context(self._toxiproxy.before(self.server.port))
            url = self.server.url(self.database).replace(f":{self.server.port}/", f":{proxy.port}/")
            ledger = {"url": f"{url}?connect_timeout=3", "password_file": str(secret)}
            settings = {**self.deployment.settings, "ledger": ledger}
            self.replicas.append(Replica(f"replica-{number}", self._folder, settings, proxy))
        return self

    def _make_ledger(self) -> None:
        """With the audit in it."""
        Store.open(Database(self.server.url(self.database), "lineage", lambda: PASSWORD))._close()
        with self.server.connect(self.database) as conn:
            conn.execute(AUDIT.encode())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for replica in self.replicas:
            if replica.lives:
                await replica.end(signal.SIGKILL)
        await self._stack.__aexit__(kind, error, at)

    async def start(self) -> None:
        for replica in self.replicas:
            await replica.start()

    async def until(self, what: Any, patience: float = PATIENCE) -> None:
        """Wait for it."""
        end = asyncio.get_running_loop().time() + patience
        while not await what():
            if asyncio.get_running_loop().time() > end:
                raise AssertionError("\n".join([self.last_spread, *(replica.tail() for replica in self.replicas)]))
            await asyncio.sleep(0.1)

    async def spread(self) -> list[set[str]] | None:
        """The leases of each replica that is awake, None while one does not answer, or a lease is free, or held twice."""
        awake = [replica for replica in self.replicas if replica.lives and not replica.frozen]
        try:
            found = [await replica.held() for replica in awake]
        except (OSError, aiohttp.ClientError, IndexError) as error:
            self.last_spread = repr(error)
            return None
        self.last_spread = str({replica.name: sorted(held) for replica, held in zip(awake, found, strict=True)})
        names = {"housekeeping", "metrics", *(f"source:{each['name']}" for each in self.deployment.settings["sources"])}
        names |= {name for row in self.rows("SELECT name, shards FROM lineage.sink") for name in lease_names(*row)}
        return found if sorted(name for held in found for name in held) == sorted(names) else None

    def divide(self, count: int) -> None:
        """Each replica has so many shards of each sink that can have several, from its next start on."""
        for sink in self.deployment.settings["sinks"]:
            if sink["type"] != "file":
                sink["shards"] = count

    def shards(self) -> set[int]:
        """Of the sinks that can have several, as the ledger has them."""
        names = [sink["name"] for sink in self.deployment.settings["sinks"] if sink["type"] != "file"]
        return {count for name, count in self.rows("SELECT name, shards FROM lineage.sink") if name in names}

    async def settled(self, patience: float = PATIENCE) -> None:
        """Every run ended and arrived, and no sink is owed anything."""
        end = asyncio.get_running_loop().time() + patience
        while (
            self.deployment.unfinished() or self.owed() or self.deployment.faults()
        ):  # the last one reads all that arrived
            if asyncio.get_running_loop().time() > end:
                faults = [f"{self.deployment.unfinished()} unfinished, {self.owed()} owed", *self.deployment.faults()]
                raise AssertionError("\n".join([*faults, *(replica.tail() for replica in self.replicas)]))
            await asyncio.sleep(0.3)

    def owed(self) -> int:
        [[lanes]] = self.rows("SELECT count(*) FROM lineage.lane")
        return int(lanes)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.server.connect(self.database) as conn:
            return conn.execute(statement.encode()).fetchall()


def setting(name: str, usual: int) -> int:
    return int(os.environ.get(name, "0")) or usual
