"""Observations without news: most of what polls of open runs see. They are known without reading what is stored of the run."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple

import orjson
from cachetools import LRUCache

from collector.ledger.stored import Watched
from collector.model import Observation

REMEMBERED = 20_000
"""Observations of one source, some 300 bytes each."""

_said = attrgetter(*(field.name for field in fields(Observation) if field.name not in {"seen_at", "due_at", "edition"}))


class Repeat(NamedTuple):
    """What was said of a run when nothing changed, and when the run's row was written."""

    updated_at: int
    fingerprint: bytes | int


class Repeats:
    """By key the observations that changed nothing when they were taken in last."""

    def __init__(self) -> None:
        self._last: LRUCache[str, Repeat] = LRUCache(REMEMBERED)

    def __contains__(self, key: str) -> bool:
        return key in self._last

    def remember(self, unchanged: Mapping[str, Repeat]) -> None:
        self._last.update(unchanged)

    def among(self, observations: Iterable[Observation], known: Mapping[str, Watched]) -> list[Observation]:
        """Those that would change nothing again: the run is open, its row was not written since, and the same is said of it."""
        observations = list(observations)
        times = Counter(seen.key for seen in observations)
        return [seen for seen in observations if times[seen.key] == 1 and self._is_repeat(seen, known.get(seen.key))]

    def _is_repeat(self, seen: Observation, known: Watched | None) -> bool:
        last = self._last.get(seen.key)
        return last is not None and known is not None and last == (known.updated_at, fingerprint(seen))


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
