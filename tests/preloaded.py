"""Processes of the program that begin with its modules loaded, by a fork of one process that imported them all: importing takes
2 s of CPU, which some hundred processes of end-to-end and crash tests would spend each.

Each is a process with its own number, environment, folder and output, that runs the module as `python -m` does. What a fork cannot
show (that all is imported, the entry point itself) is shown by real ones: tests/e2e/test_processes.py, test_demo.py, test_simulate.py.
"""

import asyncio
import atexit
import gc
import importlib
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson
import typer

from collector.app import cli

_LONGEST = 128 * 1024
_PACKAGES = "collector", "config", "exporters"
_LATER = "alembic.command", "jinja2", "mako.template", "simulators.commands"
"""What the program loads when it first needs it: alembic for a new ledger in PostgreSQL, jinja2 for a page."""
_LEFT_OUT = ("collector.testing", "collector.ledger.migrations", "collector.__main__")


class Process:
    """As `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, life: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._life, self._over = life, asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(life, self._ended)

    def _ended(self) -> None:
        code = self._life.recv(100)
        self._loop.remove_reader(self._life)
        self._life.close()
        self.returncode = int(code or -signal.SIGKILL)
        self._over.set()

    async def wait(self) -> int:
        await self._over.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is not None:
            raise ProcessLookupError
        with suppress(ProcessLookupError):  # it has just ended: `wait` says how
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def start(module: str, *words: str, out: int, err: int, environment: Mapping[str, str] | None = None) -> Process:
    """`python -m module *words`, which writes to these file descriptors; they stay the caller's."""
    life, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    life.setblocking(False)
    request = {
        "module": module,
        "words": words,
        "folder": str(Path.cwd()),
        "environment": {**(environment or os.environ)},
    }
    with theirs:
        socket.send_fds(_origin(), [orjson.dumps(request)], [out, err, theirs.fileno()])
    pid = await asyncio.get_running_loop().sock_recv(life, 100)
    if not pid:
        life.close()
        raise RuntimeError("the process that has the program's modules loaded has ended: see its traceback above")
    return Process(int(pid), life)


@cache
def _origin() -> socket.socket:
    """Where the process that forks takes requests; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, "-m", "tests.preloaded", str(theirs.fileno())]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


@dataclass(frozen=True, slots=True)
class _Request:
    module: str
    words: list[str]
    folder: str
    environment: dict[str, str]


def _load() -> None:
    """Every module of the program but those that do something when they are imported."""
    for package in _PACKAGES:
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not found.name.startswith(_LEFT_OUT):
                importlib.import_module(found.name)
    for name in _LATER:
        importlib.import_module(name)
    typer.main.get_command(cli.app)
    assert threading.active_count() == 1, "a fork has one thread"
    gc.collect()
    gc.freeze()  # so that a fork's collections leave the memory shared


def _serve(requests: socket.socket) -> _Request | None:
    """What a fork is to do; None at the end, in the process that forks."""
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not requests:
                selector.unregister(key.fileobj)
                _report_end(*key.data)
                continue
            message, descriptors, *_ = socket.recv_fds(requests, _LONGEST, 3)
            if not message:
                return None
            out, err, life = descriptors
            pid = os.fork()
            if pid == 0:
                _become(selector, out, err, life)
                return _Request(**orjson.loads(message))
            os.close(out)
            os.close(err)
            ended = os.pidfd_open(pid)
            selector.register(ended, selectors.EVENT_READ, (pid, ended, socket.socket(fileno=life)))
            with suppress(OSError):
                os.write(life, str(pid).encode())


def _become(selector: selectors.BaseSelector, out: int, err: int, life: int) -> None:
    """Of all that is open here, a fork has its output alone."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    for each in (out, err, life):
        os.close(each)
    for key in selector.get_map().values():
        if key.data is None:
            key.fileobj.close()  # type: ignore[union-attr]
        else:
            _, ended, other = key.data
            os.close(ended)
            other.close()
    selector.close()


def _report_end(pid: int, ended: int, life: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(ended)
    with life, suppress(OSError):  # whoever started it may no longer wait
        life.send(str(os.waitstatus_to_exitcode(status)).encode())


def main() -> None:
    _load()
    requests = socket.socket(fileno=int(sys.argv[1]))
    request = _serve(requests)
    if request is None:
        return
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    sys.argv[1:] = request.words
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
