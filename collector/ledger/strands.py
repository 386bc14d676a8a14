"""Which strand a run belongs to, and in which order the events of one commit follow each other in it: pure.

A strand is a root run with its children. A parent's START must reach a sink before its children's and its terminal
event after theirs.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from collector.model import EventKind, Run


class Placed(Protocol):
    """An event of a run that has its place: `depth` is 0 for a root."""

    @property
    def kind(self) -> EventKind: ...
    @property
    def depth(self) -> int: ...


E = TypeVar("E", bound=Placed)


def in_order(events: Iterable[E]) -> list[E]:
    """Parents before children, but for terminal events, where children come first. Otherwise as given."""
    events = list(events)
    begun = sorted((one for one in events if not one.kind.terminal), key=lambda one: one.depth)
    ended = sorted((one for one in events if one.kind.terminal), key=lambda one: -one.depth)
    return begun + ended


def generations(new: Mapping[str, Run]) -> list[list[str]]:
    """The keys of runs that are not stored yet, every parent in an earlier list than its children.

    Runs that name each other as parent in a circle are roots, all of them; to graphlib's sorter they are an error.
    """
    waiting = dict(new)
    lists: list[list[str]] = []
    while waiting:
        ready = [key for key, run in waiting.items() if parent_key(run) not in waiting]
        lists.append(ready or list(waiting))
        for key in lists[-1]:
            del waiting[key]
    return lists


def parent_key(run: Run) -> str | None:
    """The parent's key at the same source; a run is never its own parent."""
    key = run.parent.key if run.parent is not None else None
    return None if key == run.key else key
