"""A whole deployment for end-to-end and crash tests: simulators on loopback, the program as a process, what its sinks got."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

import aiohttp
import orjson
import yaml

from simulators.cdf import CdfSimulator, populate
from simulators.dataprep import DEFAULT_TOKEN, DataprepSimulator
from simulators.demo import expected
from simulators.marquez import MarquezSimulator
from simulators.server import Served, Simulator
from simulators.wetransform import WetransformSimulator
from tests import openlineage, preloaded

PATIENCE = 120.0
"""Seconds for what takes a few on a quiet machine."""
CDF, WETRANSFORM, DATAPREP = "plant-a", "customers", "prep"


def now() -> datetime:
    return datetime.now(UTC)


class Deployment:
    """Three simulated platforms and a simulated Marquez that outlive the program's processes.

    `settings` is the configuration as plain values; change it before `start`.
    """

    def __init__(self, folder: Path, *, seed: int = 11, kafka: tuple[str, str] | None = None) -> None:
        """`kafka` is (bootstrap servers, topic) of a sink beside the file and Marquez."""
        self.folder = folder
        self.cdf = CdfSimulator(seed=seed, now=now)
        populate(self.cdf)
        self.wetransform = WetransformSimulator(seed=seed + 1, now=now)  # other ids than CDF makes
        self.dataprep = DataprepSimulator(seed=seed + 2, now=now)
        self.marquez = MarquezSimulator(seed=seed, now=now)
        self.events = folder / "events.ndjson"
        self.config = folder / "collector.yaml"
        self.log = folder / "collector.log"
        self._kafka = kafka
        self._stack = AsyncExitStack()
        self._process: asyncio.subprocess.Process | preloaded.Process | None = None
        self._log_before = 0
        """How long the log was before this process began."""
        self.settings: dict[str, Any] = {}
        self.renamed: dict[str, str] = {}
        """New names of sources by their former ones: events have the name of their time, and nothing else may differ."""

    async def __aenter__(self) -> Self:
        urls = {}
        simulators: dict[str, Simulator] = {
            CDF: self.cdf,
            WETRANSFORM: self.wetransform,
            DATAPREP: self.dataprep,
            "marquez": self.marquez,
        }
        for name, simulator in simulators.items():
            urls[name] = (await self._stack.enter_async_context(Served(simulator))).url
        self.urls = urls
        self.settings = self._settings(urls)
        return self

    async def __aexit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._process is not None and self.runs:
            self._process.kill()
            await self._process.wait()
        await self._stack.aclose()
        if error is None:
            assert (found := self.invalid()) == [], found

    program = "collector"
    """The module that is run as the service."""
    under: tuple[str, ...] = ()
    """A command that runs it, with its words; the process must stay the program."""
    forks = True
    """Whether processes begin with all modules loaded, those too that they never need: not where memory or the start is measured."""

    def configure(self) -> None:
        """Write `settings` down, for processes that start from now on."""
        self.config.write_text(yaml.safe_dump(self.settings))

    async def start(self, **environment: str) -> None:
        """The program as its own process, with its output in `log`."""
        self.configure()
        self._log_before = self.log.stat().st_size if self.log.exists() else 0
        words = ("run", "--config", str(self.config))
        with self.log.open("ab") as log:
            if environment or self.under or not self.forks:  # an environment may be read at the import
                self._process = await asyncio.create_subprocess_exec(
                    *self.under,
                    sys.executable,
                    "-m",
                    self.program,
                    *words,
                    env={**os.environ, **environment},
                    stdout=log,
                    stderr=log,
                )
            else:
                self._process = await preloaded.start(self.program, *words, out=log.fileno(), err=log.fileno())

    async def ended(self) -> int:
        """The exit code of the process, negative for a signal."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), PATIENCE)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def terminate(self) -> None:
        self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def command(self, *words: str) -> tuple[int, str, str]:
        """Another command of the program with this configuration: exit code, standard output, standard error."""
        if not self.config.exists():
            self.configure()
        with TemporaryFile() as out, TemporaryFile() as err:
            process = await preloaded.start(
                "collector", *words, "--config", str(self.config), out=out.fileno(), err=err.fileno()
            )
            code = await asyncio.wait_for(process.wait(), PATIENCE)
            out.seek(0)
            err.seek(0)
            return code, out.read().decode(), err.read().decode()

    def expected_runs(self) -> dict[str, list[dict[str, Any]]]:
        return {
            CDF: self.cdf.expected_runs(),
            WETRANSFORM: self.wetransform.expected_runs(),
            DATAPREP: self.dataprep.expected_runs(),
        }

    def unfinished(self) -> int:
        return sum(
            run["state"] in {"queued", "running", "waiting"} for runs in self.expected_runs().values() for run in runs
        )

    def marquez_states(self) -> dict[str, str | None]:
        return {str(run["key"]): run["raw_state"] for run in self.marquez.expected_runs()}

    def faults(self) -> list[str]:
        """What the file and Marquez have against the simulators' runs."""
        return expected.faults(expected.events_by_run(self.lines()), self.expected_runs(), self.marquez_states())

    def lines(self) -> list[bytes]:
        """The file's events. A kill or a power cut may have torn a line."""
        return [line for line in expected.read_lines(self.events) if is_whole(line)]

    def invalid(self) -> list[str]:
        """What OpenLineage has against the events in the file."""
        whole = self.lines()
        for former, name in self.renamed.items():
            whole = [line.replace(f'"source":"{name}"'.encode(), f'"source":"{former}"'.encode()) for line in whole]
        return openlineage.all_faults(whole, may_be_open=True)

    async def settle(self, patience: float = PATIENCE) -> None:
        """Wait until every run ended and arrived, and the process has started; raises with what is missing."""
        seconds = asyncio.get_running_loop().time
        end = seconds() + patience
        while True:
            began = seconds()
            if not (self.unfinished() or self.faults()) and self.has_started():
                return
            if seconds() > end:
                raise AssertionError("\n".join([f"{self.unfinished()} unfinished", *self.faults(), self.tail()]))
            self._must_run()
            await asyncio.sleep(max(0.2, 4 * (seconds() - began)))  # the simulators need this event loop, too

    def has_started(self) -> bool:
        """Whether this process, and no former one, has logged that it did."""
        return bool(self.logged("service.started", after=self._log_before))

    def _must_run(self) -> None:
        if self._process is not None and not self.runs:
            raise AssertionError(f"the program ended with {self._process.returncode}: {self.tail()}")

    async def status(self) -> dict[str, Any] | None:
        """What the running program says of itself, None while it does not listen."""
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.folder / "lineage.db.sock"))) as session,
                session.get("http://service/status.json") as answer,
            ):
                answered: dict[str, Any] = await answer.json()
                return answered
        except (OSError, aiohttp.ClientError):
            return None

    async def ask(self, target: str, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the command line does beside a running service: `state` and `answer`."""
        connector = aiohttp.UnixConnector(str(self.folder / "lineage.db.sock"))
        request = {"target": target, "kind": kind, "body": dict(body)}
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://service/requests", json=request) as answer,
        ):
            answered: dict[str, Any] = await answer.json()
            return answered

    async def until(self, what: Callable[[dict[str, Any]], bool], patience: float = PATIENCE) -> dict[str, Any]:
        """Wait until the program's status is so; returns it."""
        end = asyncio.get_running_loop().time() + patience
        while (status := await self.status()) is None or not what(status):
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(f"{status}\n{self.tail()}")
            self._must_run()
            await asyncio.sleep(0.1)
        return status

    async def until_ready(self) -> None:
        """The process has started and every source was polled once."""
        await self.until(lambda _: self.has_started())
        await self.until(lambda status: all(row["state"] is not None for row in status["sources"]))

    async def until_arrived(self, *, starts: int, ends: int, patience: float = PATIENCE) -> None:
        """So many runs have their START, and so many their terminal event, in the file."""
        end = asyncio.get_running_loop().time() + patience
        while True:
            kinds = [event["eventType"] for event in events(self.lines())]
            ended = sum(kind in {"COMPLETE", "FAIL", "ABORT"} for kind in kinds)
            if kinds.count("START") >= starts and ended >= ends:
                return
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(f"{kinds}\n{self.tail()}")
            self._must_run()
            await asyncio.sleep(0.1)

    async def until_parked(self, count: int, sink: str = "marquez") -> None:
        await self.until(lambda status: [row["parked"] for row in status["sinks"] if row["sink"] == sink] == [count])

    async def requests(self, name: str, path: str) -> int:
        """How many requests whose "METHOD /path" matches a simulator has seen."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.urls[name]}/_control/requests") as answer:
            seen = (await answer.json())["requests"]
        return sum(count for request, count in seen.items() if re.search(path, request))

    async def until_requested(self, name: str, path: str, patience: float = PATIENCE) -> None:
        end = asyncio.get_running_loop().time() + patience
        while not await self.requests(name, path):
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(f"{name} was not asked for {path}: {self.tail()}")
            self._must_run()
            await asyncio.sleep(0.05)

    def logged(self, event: str, *, after: int = 0) -> list[dict[str, Any]]:
        """The lines of this event in the log, of all processes so far; `after` so many bytes of it."""
        written = b""
        if self.log.exists():
            with self.log.open("rb") as log:
                log.seek(after)
                written = log.read()
        lines = written[: written.rfind(b"\n") + 1].splitlines()  # the last one may be half written
        found = (orjson.loads(line) for line in lines if line.startswith(b"{"))
        return [line for line in found if line["event"] == event]

    async def until_logged(self, event: str, patience: float = PATIENCE) -> None:
        """Wait for this event in the log."""
        end = asyncio.get_running_loop().time() + patience
        while not self.logged(event):
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(f"no {event} in the log: {self.tail()}")
            self._must_run()
            await asyncio.sleep(0.05)

    async def pages(self) -> str:
        """Where the running program shows its pages: a URL."""
        await self.until(lambda _: self.has_started())
        return f"http://127.0.0.1:{self.logged('service.started')[-1]['port']}"

    def tail(self, size: int = 4000) -> str:
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else "(no log)"

    def _settings(self, urls: Mapping[str, str]) -> dict[str, Any]:
        auth = {
            "token_url": f"{urls[CDF]}/oauth2/token",
            "client_id": "collector",
            "client_secret": "simulated-secret",
        }
        usual = {"poll_interval": "500ms", "requests_per_minute": 60_000, "burst": 1000}
        quick = {"active": "200ms", "active_most": "500ms", "waiting": "500ms", "waiting_most": "500ms"}
        sources = [
            {**usual, "name": CDF, "platform": "cdf", "base_url": urls[CDF], "project": "plant-a", "auth": auth},
            {
                **usual,
                "name": WETRANSFORM,
                "platform": "wetransform",
                "base_url": urls[WETRANSFORM],
                "tenant": "acme",
                "token": "wetransform-token",
                "intervals": quick,
            },
            {
                **usual,
                "name": DATAPREP,
                "platform": "dataprep",
                "base_url": urls[DATAPREP],
                "workspace": "1",
                "token": DEFAULT_TOKEN,
            },
        ]
        sinks: list[dict[str, Any]] = [
            {"name": "file", "type": "file", "path": str(self.events)},
            {"name": "marquez", "type": "marquez", "url": urls["marquez"]},
        ]
        if self._kafka is not None:
            servers, topic = self._kafka
            sinks.append({"name": "kafka", "type": "kafka", "bootstrap_servers": servers, "topic": topic})
        return {
            "ledger": {"path": str(self.folder / "lineage.db")},
            "http": {"listen": "127.0.0.1:0"},
            "stop_within": "10s",
            "lineage": {"validate_events": True},
            "sources": sources,
            "sinks": sinks,
        }


def events(lines: list[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in lines]


def is_whole(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True
