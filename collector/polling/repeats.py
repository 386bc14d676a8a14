"""Observations without news: most of what polls of open runs see. They are known without reading what is stored of the run."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple

import orjson
from cachetools import LRUCache

from collector.model import Observation

REMEMBERED = 20_000
"""Observations of one source, some 300 bytes each."""

_said = attrgetter(*(field.name for field in fields(Observation) if field.name not in {"seen_at", "due_at", "edition"}))


class Repeat(NamedTuple):
    """What was said of a run when nothing changed, and the number and `updated_at` of its row then."""

    number: int
    written_at: int
    fingerprint: bytes | int


class Repeats:
    """By key the observations that changed nothing when they were taken in last."""

    def __init__(self) -> None:
        self._last: LRUCache[str, Repeat] = LRUCache(REMEMBERED)

    def remember(self, unchanged: Mapping[str, Repeat]) -> None:
        self._last.update(unchanged)

    def among(self, observations: Iterable[Observation]) -> list[tuple[Observation, Repeat]]:
        """Those that say what was said when nothing changed: they change nothing again if the run's row was not written since."""
        observations = list(observations)
        times = Counter(seen.key for seen in observations)
        known = [(seen, last) for seen in observations if (last := self._last.get(seen.key)) is not None]
        return [(seen, last) for seen, last in known if times[seen.key] == 1 and last.fingerprint == fingerprint(seen)]


def fingerprint(seen: Observation) -> bytes | int | None:
    """Of all that was said but the times of looking: the edition, or a digest. None where the run cannot be taken for unchanged by itself: it ended, or it
    has to do with another run; or where a value has no JSON.
    """
    if seen.state.terminal or (seen.parent is not None and seen.parent.key is not None):
        return None
    if seen.edition is not None:
        return seen.edition
    try:
        return blake2b(orjson.dumps(_said(seen)), digest_size=16).digest()
    except TypeError:
        return None
