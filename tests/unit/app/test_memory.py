"""Memory that was freed goes back to the system: in a separate process, as the settings of malloc stay until its end. Garbage is collected."""

import asyncio
import gc
import subprocess
import sys
import weakref
from pathlib import Path
from unittest.mock import Mock, call

import pytest

from collector.app import process

_CHURN = """
import ctypes, sys, threading
from collector.app.process import give_back_memory

class Heaps(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
if not hasattr(libc, "mallinfo2"):
    sys.exit(77)
libc.mallinfo2.restype = Heaps
if sys.argv[1] == "given back":
    give_back_memory()
kept, before = [], libc.mallinfo2().fordblks

def read_pages():
    bytes(2**21)  # from its end on, glibc keeps what is smaller
    for size in range(200, 600, 4):  # no page has room where one before it was
        page = bytes(size * 1024)
        kept.append(bytes(1024))  # of each page something small stays, and lies between them
        del page

for _ in range(4):
    thread = threading.Thread(target=read_pages)
    thread.start()
    thread.join()
print((libc.mallinfo2().fordblks - before) // 1024)
"""


def free_kib(how: str) -> int:
    """What the pages left in malloc's heaps: freed, and not the system's again."""
    done = subprocess.run([sys.executable, "-c", _CHURN, how], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("another C library than glibc")
    assert not done.returncode, done.stderr
    return int(done.stdout)


def test_large_buffers_that_were_freed_are_given_back() -> None:
    kept, given_back = free_kib("kept"), free_kib("given back")
    assert given_back < 1024 < kept


class Begun(Exception):
    """The first step of the start."""


def test_a_start_collects_garbage_again_once_all_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_step() -> None:
        raise Begun

    monkeypatch.setattr(process, "give_back_memory", first_step)
    gc.disable()  # as `collector.__main__` does
    try:
        with pytest.raises(Begun):
            process.run(Path("c.yaml"))
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_garbage_in_cycles_is_collected_again_and_again() -> None:
    loop = Mock(spec=asyncio.AbstractEventLoop)
    gc.disable()  # whatever else is allocated meanwhile
    try:
        for count in (1, 2):
            garbage = weakref.ref(Cycle())
            assert garbage() is not None
            process.collect_garbage(loop)
            assert garbage() is None
            assert loop.call_later.mock_calls == [call(process.GARBAGE_EVERY, process.collect_garbage, loop)] * count
    finally:
        gc.enable()
