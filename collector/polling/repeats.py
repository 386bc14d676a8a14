"""Observations without news: most of what polls of open runs see. They are known without reading what is stored of the run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple

import orjson
from cachetools import LRUCache

from collector.model import Observation, Poll

REMEMBERED = 20_000
"""Observations of one source, some 300 bytes each."""

_said = attrgetter(*(field.name for field in fields(Observation) if field.name not in {"seen_at", "due_at", "edition"}))


class Repeat(NamedTuple):
    """What was said of a run when nothing changed, and the number and `updated_at` of its row then."""

    number: int
    written_at: int
    fingerprint: bytes | int


class Again(NamedTuple):
    """An observation that holds at `at`, and what is known of the run."""

    seen: Observation
    at: datetime
    last: Repeat

    def dated(self) -> Observation:
        return dated(self.seen, self.at)


class Repeats:
    """By key the observations that changed nothing when they were taken in last."""

    def __init__(self) -> None:
        self._last: LRUCache[str, Repeat] = LRUCache(REMEMBERED)

    def remember(self, unchanged: Mapping[str, Repeat]) -> None:
        self._last.update(unchanged)

    def parted(self, page: Poll) -> tuple[list[Observation], list[Again]]:
        """The observations of the page, and apart from them those that say what was said when nothing changed: these change nothing
        again if the run's row was not written since.
        """
        news: list[Observation] = []
        again: list[Again] = []
        said = _dated(page)
        times = Counter(seen.key for seen, _ in said)
        for seen, at in said:
            last = self._last.get(seen.key)
            if last is not None and times[seen.key] == 1 and last.fingerprint == fingerprint(seen):
                again.append(Again(seen, at, last))
            else:
                news.append(dated(seen, at))
            if seen.state.terminal:
                self._last.pop(seen.key, None)
        return news, again


def _dated(page: Poll) -> list[tuple[Observation, datetime]]:
    repeated = [(seen, page.repeated_at or seen.seen_at) for seen in page.repeated]
    return [*((seen, seen.seen_at) for seen in page.observations), *repeated]


def dated(seen: Observation, at: datetime) -> Observation:
    return seen if seen.seen_at == at else replace(seen, seen_at=at)


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
