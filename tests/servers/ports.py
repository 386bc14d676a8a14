"""Free loopback ports, and waiting for one to open."""

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable

LOOPBACK = "127.0.0.1"

# Below the range from which Linux takes the ports of outgoing connections (32768 and up): a server that is killed and
# restarted by a test finds its port still free.
_RANGE = range(20_000, 32_000)

_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_OURS = _RANGE[_WORKER::_WORKERS]
"""Of this worker alone: between the look whether a port is free and its use no other worker takes it."""


def free_ports(count: int) -> list[int]:
    """Ports on loopback, all different, that nobody listens on right now."""
    with contextlib.ExitStack() as held:
        return [_bind_any(held) for _ in range(count)]


def free_port() -> int:
    return free_ports(1)[0]


def _bind_any(held: contextlib.ExitStack) -> int:
    for port in random.sample(_OURS, k=200):
        probe = held.enter_context(socket.socket())
        with contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise OSError(f"none of 200 ports tried between {_RANGE.start} and {_RANGE.stop} is free")


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def wait_for_port(port: int, *, seconds: float, alive: Callable[[], bool]) -> bool:
    """True once something listens; False when `alive` says that its process has ended, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_open(port):
            return True
        if not alive():
            return False
        time.sleep(0.05)
    return False
