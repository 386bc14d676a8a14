"""Debian's Alertmanager for the tests, with a receiver that keeps what it delivers; ended by process id."""

import asyncio
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.servers.ports import LOOPBACK, free_port
from tests.servers.processes import ServerProcess, unavailable

_CONFIG = """\
route: {{receiver: people, group_by: [alertname, source, sink], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: people
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


@dataclass(frozen=True, slots=True)
class Notice:
    """One alert of one message: `firing` or `resolved`."""

    status: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def name(self) -> str:
        return self.labels["alertname"]


@dataclass
class Alertmanager:
    """`notices` are what it sent to people, in order."""

    process: ServerProcess
    notices: list[Notice] = field(default_factory=list)

    @property
    def target(self) -> str:
        """Host and port, as Prometheus' configuration wants it."""
        return f"{LOOPBACK}:{self.process.port}"

    async def wait_for(self, status: str, alert: str, *, seconds: float = 120) -> Notice:
        """The first such notice; an AssertionError after `seconds` says what came instead."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := [each for each in self.notices if (each.status, each.name) == (status, alert)]:
                return found[0]
            await asyncio.sleep(0.1)
        raise AssertionError(f"no {status} {alert} within {seconds} s, but {self.notices}; {self.process.tail()}")

    def amtool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Its command line; the caller looks at `returncode`, `stdout`, `stderr`."""
        command = [_command("amtool"), f"--alertmanager.url=http://{self.target}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


StartAlertmanager = Callable[[], Alertmanager]


@pytest.fixture
def start_alertmanager(tmp_path: Path) -> Iterator[StartAlertmanager]:
    program = _command("prometheus-alertmanager")
    started: list[tuple[Alertmanager, ThreadingHTTPServer]] = []

    def start() -> Alertmanager:
        folder = tmp_path / f"alertmanager-{len(started)}"
        folder.mkdir()
        port = free_port()
        arguments = [
            "--config.file=alertmanager.yml",
            "--storage.path=data",
            f"--web.listen-address={LOOPBACK}:{port}",
            "--cluster.listen-address=",  # else it opens a port to find others
        ]
        alertmanager = Alertmanager(ServerProcess([program, *arguments], folder=folder, port=port))
        people = _receiver(alertmanager.notices)
        started.append((alertmanager, people))
        (folder / "alertmanager.yml").write_text(_CONFIG.format(url=f"http://{LOOPBACK}:{people.server_port}/"))
        alertmanager.process.start()
        return alertmanager

    yield start
    for alertmanager, people in started:
        alertmanager.process.stop()
        people.shutdown()
        people.server_close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "start_alertmanager" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.prometheus)


def _receiver(notices: list[Notice]) -> ThreadingHTTPServer:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            notices.extend(Notice(each["status"], each["labels"], each["annotations"]) for each in message["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the class that is overridden
            """Nothing: the notices are the log."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Receiver)
    threading.Thread(target=server.serve_forever, name="people", daemon=True).start()
    return server


def _command(name: str) -> str:
    if (found := shutil.which(name)) is None:
        unavailable(f"no {name} command (Debian's package prometheus-alertmanager has it)")
    return found
