"""Debian's Prometheus for the tests: scrapes its targets each second; ended by process id."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.ports import LOOPBACK, free_port
from tests.servers.processes import ServerDidNotStartError, ServerProcess, unavailable

_CONFIG = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: {rules}
alerting: {{alertmanagers: [{{static_configs: [{{targets: {alertmanagers}}}]}}]}}
scrape_configs:
  - job_name: lineage
    metrics_path: {path}
    honor_labels: true
    static_configs: [{{targets: {targets}, labels: {labels}}}]
    {more}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    labels: dict[str, str]
    value: float


class Prometheus:
    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        self.url = f"http://{LOOPBACK}:{process.port}"

    def wait_until_ready(self, seconds: float = 120) -> None:
        """Its port opens before it answers queries with anything but 503."""
        deadline = time.monotonic() + seconds
        while not _is_ready(self.url):
            if time.monotonic() > deadline:
                raise ServerDidNotStartError(f"{self.url}/-/ready: {self.process.tail()}")
            time.sleep(0.05)

    async def query(self, expression: str, *, at: float | None = None) -> list[Sample]:
        """An instant query, of now unless `at` says when (epoch seconds)."""
        moment: dict[str, str | float] = {} if at is None else {"time": at}
        result = await self._result("query", {"query": expression, **moment})
        return [Sample(row["metric"], float(row["value"][1])) for row in result]

    async def query_range(self, expression: str, start: float, end: float, *, step: float = 1) -> list[Sample]:
        """Every sample of every series from `start` to `end` (epoch seconds)."""
        result = await self._result("query_range", {"query": expression, "start": start, "end": end, "step": step})
        return [Sample(row["metric"], float(value)) for row in result for _, value in row["values"]]

    async def _result(self, way: str, parameters: Mapping[str, str | float]) -> list[Any]:
        answer = await asyncio.to_thread(_get, f"{self.url}/api/v1/{way}?{urllib.parse.urlencode(parameters)}")
        return list(answer["data"]["result"])

    async def wait_for(self, expression: str, *, seconds: float = 120) -> list[Sample]:
        """The first answer that is not empty. An AssertionError after `seconds` shows what the scrapes brought."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := await self.query(expression):
                return found
            await asyncio.sleep(0.2)
        raise AssertionError(f"{expression} stayed empty for {seconds} s; targets: {await self.targets()}")

    async def targets(self) -> list[dict[str, Any]]:
        """The scrape targets as Prometheus sees them, with `health` and `lastError`."""
        answer = await asyncio.to_thread(_get, f"{self.url}/api/v1/targets")
        return list(answer["data"]["activeTargets"])


StartPrometheus = Callable[..., Prometheus]
Promtool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start_prometheus(tmp_path: Path) -> Iterator[StartPrometheus]:
    """A function: `start_prometheus("127.0.0.1:9100", path="/metrics", rules=[file], labels={"namespace": "a"})`; `more` goes
    into the scrape config, `alertmanagers` get its alerts.
    """
    program = _command("prometheus")
    started: list[ServerProcess] = []

    def start(
        *targets: str,
        path: str = "/metrics",
        rules: list[Path] | None = None,
        labels: Mapping[str, str] | None = None,
        more: str = "",
        alertmanagers: Sequence[str] = (),
    ) -> Prometheus:
        folder = tmp_path / f"prometheus-{len(started)}"
        folder.mkdir()
        names = json.dumps([str(rule) for rule in rules or []])
        config = _CONFIG.format(
            targets=json.dumps(targets),
            path=path,
            rules=names,
            alertmanagers=json.dumps(list(alertmanagers)),
            labels=json.dumps(labels or {}),
            more=more,
        )
        (folder / "prometheus.yml").write_text(config)
        port = free_port()
        arguments = [
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address={LOOPBACK}:{port}",
        ]
        process = ServerProcess([program, *arguments], folder=folder, port=port)
        started.append(process)
        process.start()
        prometheus = Prometheus(process)
        prometheus.wait_until_ready()
        return prometheus

    yield start
    for process in started:
        process.stop()


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """A function: `promtool("check", "metrics", stdin=text)`; the caller looks at `returncode`, `stdout`, `stderr`."""
    program = _command("promtool")

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False
        )

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"start_prometheus", "promtool"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.prometheus)


def _command(name: str) -> str:
    if (found := shutil.which(name)) is None:
        unavailable(f"no {name} command (Debian's package prometheus has it)")
    return found


def _is_ready(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)
