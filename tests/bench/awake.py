"""Keeps the cores awake while the CPU of a process that waits most of the time is measured.

A virtual machine charges who wakes a core for waking it: a program that has little to do takes twice the CPU on a machine where
nothing else runs. Processes of the kernel's idle class run only where nothing else wants to, and leave at once.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SPIN = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    pass
"""


@contextmanager
def cores_awake() -> Iterator[None]:
    spinning = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait()
