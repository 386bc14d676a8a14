"""Tells each report to everybody who listens: metrics always, the demo when it runs."""

from collections.abc import Callable, Sequence
from typing import Any


class Observers:
    """Satisfies the observer ports of polling and of delivery: a report goes to each listener that has its method."""

    def __init__(self, listeners: Sequence[object]) -> None:
        self._listeners = tuple(listeners)

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        heard = [getattr(listener, name) for listener in self._listeners if hasattr(listener, name)]
        if not heard:
            raise AttributeError(name)

        def tell(report: Any) -> None:
            for hear in heard:
                hear(report)

        setattr(self, name, tell)
        return tell
