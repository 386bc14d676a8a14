"""A server started by the tests: waited for by its port, ended by its process id, also after a test has frozen it."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers.ports import wait_for_port


class ServerDidNotStartError(RuntimeError):
    """The process ended, or its port stayed closed; the text has the end of its log."""


def unavailable(reason: str) -> NoReturn:
    """A server cannot be had: a reason to skip on a laptop, a failure where the environment says CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class ServerProcess:
    def __init__(
        self, argv: Sequence[str], *, folder: Path, port: int, start_seconds: float = 120, user: int | None = None
    ) -> None:
        """`folder` becomes the working directory, and gets the output as `server.log`. `user` is whose process it is, None
        for our own.
        """
        self.port = port
        self._user = user
        self._argv = list(argv)
        self.folder = folder
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def pid(self) -> int | None:
        """Of the living process."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Returns when the port is open; nothing happens if the server lives."""
        if self.pid is not None:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self._user,
            )
        if not wait_for_port(self.port, seconds=self._start_seconds, alive=lambda: self.pid is not None):
            self.kill()
            raise ServerDidNotStartError(f"{self._argv[0]} on port {self.port}: {self.tail()}")

    def stop(self, *, grace_seconds: float = 30) -> None:
        """SIGTERM, and SIGKILL when that is not enough."""
        if self._process is None or self.pid is None:
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, which ends a frozen process too."""
        if self._process is not None and self.pid is not None:
            self._process.kill()
            self._process.wait(60)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and the port accepts, but nothing answers once this returns: the signal alone
        lets threads on another core finish an answer.
        """
        self._signal(signal.SIGSTOP)
        if (pid := self.pid) is not None:
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def tail(self, size: int = 4_000) -> str:
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else "(no output)"

    def _signal(self, number: signal.Signals) -> None:
        if (pid := self.pid) is not None:
            os.kill(pid, number)
