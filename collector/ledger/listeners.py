"""Callbacks after commits, each called on the event loop that registered it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from collector.ledger.port import Change


@dataclass(frozen=True, slots=True)
class _Listener:
    loop: asyncio.AbstractEventLoop
    callback: Callable[[], None]
    change: Change | None


class Listeners:
    """For stores: `add` on an event loop, `announce` in any thread."""

    def __init__(self) -> None:
        self._all: list[_Listener] = []

    def add(self, callback: Callable[[], None], change: Change | None) -> Callable[[], None]:
        """As `port.Ledger.on_commit`."""
        listener = _Listener(asyncio.get_running_loop(), callback, change)
        self._all = [*self._all, listener]
        return partial(self._forget, listener)

    def announce(self, brought: frozenset[Change]) -> None:
        """A commit brought these."""
        for listener in self._all:
            if listener.change is None or listener.change in brought:
                try:
                    listener.loop.call_soon_threadsafe(listener.callback)
                except RuntimeError:  # its loop is closed
                    self._forget(listener)

    def _forget(self, listener: _Listener) -> None:
        self._all = [other for other in self._all if other is not listener]
