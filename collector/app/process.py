"""The process of `run`: signals that end it, the wait for the ledger, the interpreter's settings."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path

from collector.app import configuration, ledgers
from collector.app.service import Service
from collector.clock import SystemClock
from collector.logs import fields, set_up
from config.advice import advice
from config.settings import Settings

log = logging.getLogger("lineage.service")

SWITCH = 0.0005
"""Seconds until a computing thread lets another one on (Python: 5 ms): once for each step of SQLite in a settle."""
FULL_COLLECTION = 1000
"""Collections of the middle generation before the whole heap is searched for garbage (Python: 10), which takes 130 ms with
10,000 open runs. Reference counts free nearly all of ours; the middle generation, searched as often as ever, most of the rest.
"""
GARBAGE_EVERY = 120.0
"""Seconds between two searches of the whole heap beside those: a request that is cut off leaves a cycle with all that it had read, and
by the count alone 600 MB of them could come together.
"""

STOPS = signal.SIGTERM, signal.SIGINT
TWICE_WITHIN = 1.0
"""Seconds in which a signal that comes again is the same one: `timeout`, terminals and wrappers send it to a process and its group."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of glibc's `mallopt`, from its malloc.h."""
LARGE = 128 * 1024
"""Bytes from which an allocation is given back to the system as soon as it is freed."""


def run(config: Path) -> int:
    """Until SIGTERM or SIGINT. 0 after a clean stop, 1 when one of the tasks died."""
    gc.freeze()  # what is imported stays
    gc.enable()  # off since `collector.__main__`
    give_back_memory()
    settings = configuration.load(config)
    set_up(settings.log.level, settings.log.format)
    access = configuration.access(settings)
    for risk in advice(settings, access.get() if access else None):
        log.warning("config.risk_found", extra=fields(cause=risk))
    return asyncio.run(_until_signal(settings))


async def _until_signal(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    begun = float("inf")

    def on_signal(number: signal.Signals) -> None:
        nonlocal begun
        if stop.is_set() and loop.time() - begun < TWICE_WITHIN:
            return
        if stop.is_set():
            log.warning("service.killed", extra=fields(signal=number.name, cause="a second signal came"))
            os._exit(1)
        log.info("service.stop_begun", extra=fields(signal=number.name, within=str(settings.stop_within)))
        begun = loop.time()
        stop.set()

    for number in STOPS:
        loop.add_signal_handler(number, on_signal, number)
    clock = SystemClock()
    store, open_it = None, partial(ledgers.opened, settings.ledger, clock)
    if settings.ledger.file is not None:
        store = await ledgers.taken(open_it, settings.ledger.file, clock, stop)
        if store is None:
            return 0
    async with Service(settings, clock=clock, store=store) as service:
        tune_interpreter()
        loop.call_later(GARBAGE_EVERY, collect_garbage, loop)
        dead = await service.until(stop)
    # the end of the loop brings back the default action, by which a signal that comes twice would spoil a stop that went well
    for number in STOPS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    return 1 if dead else 0


def give_back_memory() -> None:
    """Before the first thread begins. By itself glibc makes a heap for each thread, and keeps ever larger buffers there once they
    were freed: 40 MiB after some minutes of polls. One heap costs no time, as the interpreter lets one thread on at a time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    for option, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, LARGE), (_TRIM_THRESHOLD, LARGE)):
        mallopt(option, value)


def tune_interpreter() -> None:
    """Once, when all is imported and built: the garbage collector no longer searches what stays until the end."""
    sys.setswitchinterval(SWITCH)
    gc.collect()
    gc.freeze()
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, FULL_COLLECTION)


def collect_garbage(loop: asyncio.AbstractEventLoop) -> None:
    """Now, and from now on every so many seconds as long as the loop runs."""
    gc.collect()
    loop.call_later(GARBAGE_EVERY, collect_garbage, loop)
