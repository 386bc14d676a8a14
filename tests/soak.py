"""`make soak MINUTES=60`: the real program at ten times the expected rate, while jobs come and go and a sink is away half of the time.

RATE is how many times the expected rate, 10 unless given. One table at the end: what grows shows.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import orjson
import yaml

from simulators import configuration
from simulators.cdf import CdfSimulator, populate
from simulators.cdf.entities import Transformation
from simulators.cdf.scenarios import Ending, Scenario
from simulators.openlineage import OpenLineageSimulator
from simulators.server import Served

EXPECTED = 7000 / 86400
"""Runs a second: as many as fill a ledger of 1 GiB in the seven days of retention (docs/operations.md)."""
JOBS = 40
CHURN_EVERY = 30.0
"""Seconds after which the oldest job goes and a new one comes."""
AWAY = 30.0
"""Seconds for which the second sink is there, and then away."""
ROWS = 20
"""How many samples the table shows."""
_COLUMNS = (
    "minute",
    "resident, MiB",
    "open files",
    "threads",
    "series",
    "ledger, MiB",
    "log, MiB",
    "owed",
    "fresh p50, s",
    "max, s",
    "CPU, %",
)


@dataclass(slots=True)
class Sink:
    """A backend that notes how old the events are that it takes."""

    simulator: OpenLineageSimulator = field(default_factory=OpenLineageSimulator)

    def ages(self) -> list[float]:
        """Of the ends of runs that came since the last call, in seconds."""
        taken, self.simulator.accepted[:] = self.simulator.accepted[:], []
        ends = [event for event in map(orjson.loads, taken) if event["eventType"] != "START"]
        return [time.time() - datetime.fromisoformat(event["eventTime"]).timestamp() for event in ends]


@dataclass(slots=True)
class Project:
    """Starts runs of jobs that come and go, evenly."""

    rate: float
    simulator: CdfSimulator = field(default_factory=lambda: CdfSimulator(seed=5))
    chance: Random = field(default_factory=lambda: Random(5))
    made: int = 0
    jobs: list[int] = field(default_factory=list)
    _examples: list[Transformation] = field(init=False)

    def __post_init__(self) -> None:
        self._examples = populate(self.simulator)
        for _ in range(JOBS):
            self._add()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(1 / self.rate)
            ends = self.chance.choice([Ending.COMPLETED, Ending.COMPLETED, Ending.FAILED])
            self.simulator.start_run(self.chance.choice(self.jobs), Scenario(starts_after=0.5, runs_for=5.0, ends=ends))

    async def change(self) -> None:
        while True:
            await asyncio.sleep(CHURN_EVERY)
            self.simulator.remove_transformation(self.jobs.pop(0))
            self._add()

    def _add(self) -> None:
        example = self._examples[self.made % len(self._examples)]
        query = example.query.replace("`.`", f"`.`plant_{self.made}_")
        added = self.simulator.add_transformation(
            f"soak-{self.made}", example.destination, query, name=f"soak {self.made}"
        )
        self.jobs.append(added.id)
        self.made += 1


@dataclass(slots=True)
class Watch:
    """Measures one process from outside."""

    pid: int
    pages: str
    ledger: Path
    begun: float = field(default_factory=time.monotonic)
    rows: list[list[float]] = field(default_factory=list)
    _cpu: float = 0.0
    _at: float = 0.0

    async def sample(self, session: aiohttp.ClientSession, ages: list[float]) -> None:
        async with session.get(f"{self.pages}/metrics") as answer:
            lines = [line for line in (await answer.text()).splitlines() if line and not line.startswith("#")]
        owed = sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("lineage_events_pending{"))
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if ":\t" in line
        )
        files = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        log = self.ledger.with_name(f"{self.ledger.name}-wal")
        sizes = [each.stat().st_size / 2**20 if each.exists() else 0 for each in (self.ledger, log)]
        ages = ages or [float("nan")]
        self.rows.append(
            [
                (time.monotonic() - self.begun) / 60,
                int(status["VmRSS"].split()[0]) / 1024,
                *(files, int(status["Threads"]), len(lines)),
                *sizes,
                *(owed, statistics.median(ages), max(ages), self._share()),
            ]
        )

    def _share(self) -> float:
        """Per cent of a core since the last call."""
        parts = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        cpu, now = (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK"), time.monotonic()
        before, at = (self._cpu, self._at) if self._at else (cpu, now - 1)
        self._cpu, self._at = cpu, now
        return (cpu - before) / (now - at) * 100


def table(rows: list[list[float]]) -> str:
    """At most `ROWS` of the samples, evenly, and how fast memory grew in the second half."""
    step = max(1, len(rows) // ROWS)
    lines = [f"| {' | '.join(_COLUMNS)} |", "|" + "---|" * len(_COLUMNS)]
    for row in rows[::step]:
        cells = (f"{value:.0f}" if index in {2, 3, 4, 7} else f"{value:.1f}" for index, value in enumerate(row))
        lines.append(f"| {' | '.join(cells)} |")
    late = rows[len(rows) // 2 :]
    slope = statistics.linear_regression([row[0] / 60 for row in late], [row[1] for row in late]).slope
    return "\n".join([*lines, "", f"Resident memory in the second half: {slope:+.1f} MiB an hour."])


async def flapping(sink: Sink, port: int) -> None:
    """The sink listens on the port, and does not, in turn."""
    while True:
        async with Served(sink.simulator, port=port):
            await asyncio.sleep(AWAY)
        await asyncio.sleep(AWAY)


def settings(folder: Path, platform: str, steady: str, other: str, retention: str) -> dict[str, Any]:
    source = {
        **configuration.source("cdf", platform),
        "poll_interval": "2s",
        "initial_lookback": "1m",
        "requests_per_minute": 6000,
    }
    return {
        "sources": [source],
        "sinks": [
            {"name": "steady", "type": "openlineage", "url": steady},
            {"name": "flapping", "type": "openlineage", "url": other},
        ],
        "ledger": {"path": str(folder / "ledger.db"), "retention": retention, "parked_retention": retention},
        "http": {"listen": "127.0.0.1:0"},
    }


@asynccontextmanager
async def program(folder: Path, config: dict[str, Any]) -> AsyncIterator[tuple[int, str]]:
    """Its process id and where its pages are."""
    (folder / "collector.yaml").write_text(yaml.safe_dump(config))
    log = folder / "log"
    with log.open("wb") as out:
        words = ("-m", "collector", "run", "--config", str(folder / "collector.yaml"))
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=out, stderr=out)
        try:
            yield process.pid, f"http://127.0.0.1:{await _port(log, process)}"
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
            else:
                print(f"the program ended with {process.returncode}:\n{log.read_text()[-3000:]}", file=sys.stderr)


async def _port(log: Path, process: asyncio.subprocess.Process) -> int:
    while process.returncode is None:
        started = [line for line in log.read_bytes().splitlines() if b'"service.started"' in line]
        if started:
            return int(orjson.loads(started[0])["port"])
        await asyncio.sleep(0.2)
    raise SystemExit(log.read_text()[-3000:])


async def main(
    minutes: float, times: float, retention: str, on_sample: Callable[[list[float]], None] = lambda _: None
) -> str:
    steady, other = Sink(), Sink()
    project = Project(EXPECTED * times)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = [await stack.enter_async_context(Served(each)) for each in (project.simulator, steady.simulator)]
        away = await stack.enter_async_context(Served(other.simulator))
        await away.__aexit__(None, None, None)
        port = int(away.url.rpartition(":")[2])
        config = settings(folder, served[0].url, served[1].url, away.url, retention)
        pid, pages = await stack.enter_async_context(program(folder, config))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = [tasks.create_task(each) for each in (project.run(), project.change(), flapping(other, port))]
        watch = Watch(pid, pages, folder / "ledger.db")
        every = max(10.0, minutes * 60 / (ROWS * 4))
        while time.monotonic() - watch.begun < minutes * 60:
            await asyncio.sleep(every)
            other.simulator.accepted.clear()
            await watch.sample(session, steady.ages())
            on_sample(watch.rows[-1])
        for each in running:
            each.cancel()
    return table(watch.rows)


def _print(row: list[float]) -> None:
    print(
        " ".join(f"{name} {value:.1f}" for name, value in zip(_COLUMNS, row, strict=True)), file=sys.stderr, flush=True
    )


if __name__ == "__main__":
    length, rate = float(os.environ.get("MINUTES", "60")), float(os.environ.get("RATE", "10"))
    print(
        f"{rate:g} times the expected rate: {EXPECTED * rate:.2f} runs a second, {length:g} minutes, from {datetime.now(UTC):%Y-%m-%d %H:%M}"
    )
    print(asyncio.run(main(length, rate, os.environ.get("RETENTION", "5m"), _print)))
