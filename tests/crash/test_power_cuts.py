"""Power cuts: after each, the files of the real process hold what was synced, and of the rest whatever the disk had got to.

`POWER_CUTS` is how many there are, `POWER_CUTS_SEED` repeats them as far as the machine lets it.
"""

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from collector.clock import SystemClock
from collector.ledger.sqlite.store import Store
from simulators.demo import expected
from tests.crash.ledger_oracle import committed, out_of_order
from tests.crash.power_cut import Call, Disk, Files, calls, contents, replaced, strace, whole
from tests.crash.test_random_kills import play
from tests.deployment import PATIENCE, Deployment, is_whole

CUTS = int(os.environ.get("POWER_CUTS", "2"))
MOMENTS = 12
"""Of each process's life, beside its end: what a cut there would leave is opened and compared."""
SEED = int(os.environ.get("POWER_CUTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
pytestmark = [pytest.mark.crash, pytest.mark.timeout(600 + 60 * CUTS)]

KEPT = ("lineage.db", "lineage.db-wal", "lineage.db-journal", "lineage.db.lock", "events.ndjson")


@dataclass(slots=True)
class Receiver:
    """A backend that is not cut off: what it took, and when."""

    taken: list[tuple[float, bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.taken.append((time.time(), body))
        return web.Response(status=201)

    def until(self, moment: float) -> list[bytes]:
        return [body for at, body in self.taken if at < moment]


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/api/v1/lineage", receiver.take)
    async with TestServer(app) as server:
        yield receiver, f"http://{server.host}:{server.port}"


@dataclass(frozen=True, slots=True)
class Life:
    """Of one process: what was on the disk before, and what it did there."""

    before: Files
    calls: Sequence[Call]
    log: Path

    def cuts(self, counts: Iterable[int], chance: random.Random, *, honest: bool = True) -> Iterable[tuple[int, Files]]:
        """What a power cut after so many calls leaves."""
        disk, wanted = Disk(self.before, honest=honest), set(counts)
        for count, call in enumerate(self.calls, 1):
            if call.path.name in KEPT or call.path == self.log.parent:
                disk.do(call)
            if count in wanted:
                yield count, disk.left(chance)

    def changes(self, count: int) -> set[tuple[str, str]]:
        """Run and type of the events that the process had logged as committed after so many calls."""
        written = b"".join(call.data for call in self.calls[:count] if call.path == self.log)
        lines = [orjson.loads(line) for line in written.splitlines() if line.startswith(b"{") and line.endswith(b"}")]
        return {(line["run_id"], line["type"]) for line in lines if line["event"] == "run.changed"}


def named(body: bytes) -> tuple[str, str]:
    event = orjson.loads(body)
    return event["run"]["runId"], event["eventType"]


def losses(folder: Path, changes: set[tuple[str, str]], got: dict[str, set[bytes]]) -> list[str]:
    """What the ledger in this folder lacks: of what was logged as committed, of what sinks `got`, and what it takes for
    delivered though its sink did not get it.
    """
    store = Store.open(folder / "lineage.db", holder="test", clock=SystemClock())
    store._close()
    found = [] if store.set_aside is None else [f"set aside: {store.set_aside}"]
    with closing(sqlite3.connect(folder / "lineage.db")) as connection:
        rows = connection.execute("SELECT strand_id, seq, kind, body FROM event").fetchall()
        sinks = connection.execute("SELECT id, name, filter FROM sink").fetchall()
        lanes = connection.execute("SELECT sink_id, strand_id, next_seq FROM lane").fetchall()
    bodies = {body for *_, body in rows}
    found += [f"logged, and gone: {change}" for change in changes - set(map(named, bodies))]
    found += [
        f"{sink} got it, and it is gone: {body[:200]!r}" for sink, all_got in got.items() for body in all_got - bodies
    ]
    owed = {(sink, strand): seq for sink, strand, seq in lanes}
    for sink, name, wanted in sinks:
        for strand, seq, kind, body in rows:
            delivered = kind in wanted.split(",") and seq < owed.get((sink, strand), seq + 1)
            if name in got and delivered and body not in got[name]:
                found.append(f"{name} did not get it, and it counts as delivered: {body[:200]!r}")
    return found


class Cuts:
    """A deployment whose machine loses its power again and again."""

    def __init__(self, deployment: Deployment, receiver: Receiver, chance: random.Random) -> None:
        self._deployment, self._receiver, self._chance = deployment, receiver, chance
        self._paths = [deployment.folder / name for name in KEPT]
        self.tried = 0

    async def live(self, number: int) -> Life:
        """From the start of a process to its kill, or to its end in order. The first one sends something."""
        deployment, chance = self._deployment, self._chance
        trace, before = deployment.folder / f"trace-{number}", contents(self._paths)
        deployment.under = strace(trace)
        await deployment.start()
        if number == 0 or chance.random() < 0.8:
            await deployment.until(lambda _: deployment.has_started() and (number > 0 or bool(self._receiver.taken)))
        await asyncio.sleep(chance.uniform(0, 3))
        while not trace.exists():
            await asyncio.sleep(0.02)
        deployment.send(chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
        await deployment.ended()
        await whole(trace)
        life = Life(before, calls(trace, deployment.folder), deployment.log)
        trace.unlink()
        return life

    def check(self, life: Life, counts: Iterable[int], *, honest: bool = True) -> list[str]:
        """What cuts after so many calls of this life lose."""
        found: list[str] = []
        for count, files in life.cuts(counts, self._chance, honest=honest):
            self.tried += 1
            image = self._deployment.folder / f"image-{self.tried}"
            image.mkdir()
            replaced([], files, image)
            got = {
                "file": set(filter(is_whole, files.get(self._deployment.events, b"").splitlines())),
                "http": set(self._receiver.until(life.calls[count - 1].at)),
            }
            found += losses(image, life.changes(count), got)
        return found

    def cut(self, life: Life) -> None:
        """At the end of this life."""
        for _, files in life.cuts([len(life.calls)], self._chance):
            replaced(self._paths, files, self._deployment.folder)


def moments(life: Life, chance: random.Random) -> list[int]:
    return chance.sample(range(1, len(life.calls) + 1), min(MOMENTS, len(life.calls)))


async def test_a_power_cut_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    print(f"POWER_CUTS_SEED={SEED} POWER_CUTS={CUTS}")
    chance = random.Random(SEED)
    async with receiving() as (receiver, url), Deployment(tmp_path, seed=SEED) as deployment:
        deployment.settings["sinks"].append({"name": "http", "type": "openlineage", "url": url})
        cuts = Cuts(deployment, receiver, chance)
        runs = asyncio.create_task(play(deployment, random.Random(SEED)))
        lives = []
        try:
            for number in range(CUTS):
                lives.append(await cuts.live(number))
                assert cuts.check(lives[-1], moments(lives[-1], chance)) == []
                cuts.cut(lives[-1])
        finally:
            runs.cancel()
        deployment.under = ()
        await deployment.start()
        await deployment.settle(PATIENCE + 5 * CUTS)  # each life leaves more to catch up with
        await deployment.until(lambda status: all(row["pending"] == 0 for row in status["sinks"]))
        deployment.terminate()
        assert await deployment.ended() == 0
        assert deployment.logged("ledger.set_aside") == []
        places = committed(tmp_path / "lineage.db")
        lines = [line for line in expected.read_lines(deployment.events) if line in places]
        for got in (lines, [body for _, body in receiver.taken]):
            assert set(got) == set(places)
            assert out_of_order(got, places) == []
        first = lives[0]
        assert cuts.check(first, [len(first.calls)], honest=False), "a disk that ignores syncs loses something"
        print(f"{cuts.tried} moments in {CUTS} lives, {len(places)} events")
