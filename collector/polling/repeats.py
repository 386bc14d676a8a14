"""Observations without news: most of what polls of open runs see. They are known without reading what is stored of the run."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple

import orjson
from cachetools import LRUCache

from collector.ledger.statements import chunks
from collector.model import Observation, Poll

REMEMBERED = 20_000
"""Observations of one source, some 300 bytes each."""

PAGES = 4
AT_ONCE = 25
"""Observations that are hashed before others get their turn on the event loop: some 2 ms where each has two datasets of 40 columns."""

_said = attrgetter(*(field.name for field in fields(Observation) if field.name not in {"seen_at", "due_at", "edition"}))


class Repeat(NamedTuple):
    """What was said of a run when nothing changed, and the number and `updated_at` of its row then."""

    number: int
    written_at: int
    fingerprint: bytes | int


class Again(NamedTuple):
    """An observation that holds at `at`, None for when its page says, and what is known of the run."""

    seen: Observation
    at: datetime | None
    last: Repeat


@dataclass(frozen=True, slots=True)
class Batch:
    """Observations that say nothing new. `rows` are the numbers and `updated_at` of their runs, by the times of the look and of the next."""

    again: Sequence[Again]
    rows: Mapping[tuple[datetime | None, datetime | None], Mapping[int, int]]

    @classmethod
    def of(cls, again: Sequence[Again]) -> "Batch":
        rows: defaultdict[tuple[datetime | None, datetime | None], dict[int, int]] = defaultdict(dict)
        for seen, at, last in again:
            rows[at, seen.due_at][last.number] = last.written_at
        return cls(again, rows)

    def written_since(self, numbers: Collection[int], page: Poll) -> list[Observation]:
        """Those of these runs, as news."""
        return [_dated(seen, at or page.repeated_at) for seen, at, last in self.again if last.number in numbers]


class Repeats:
    """By key the observations that changed nothing when they were taken in last."""

    def __init__(self) -> None:
        self._last: LRUCache[str, Repeat] = LRUCache(REMEMBERED)
        self._whole: LRUCache[int, tuple[tuple[Observation, ...], Sequence[Batch]]] = LRUCache(PAGES)
        """By their identity the pages of which all was repeated, which most likely come again, and what was made of them."""
        self._changes = 0

    def remember(self, unchanged: Mapping[str, Repeat]) -> None:
        if unchanged:
            self._last.update(unchanged)
            self._changed()

    async def parted(self, page: Poll, most: int) -> tuple[list[Observation], Sequence[Batch]]:
        """The observations of the page, and apart from them, in batches of `most`, those that say what was said when nothing changed:
        these change nothing again if the run's row was not written since.
        """
        is_whole = not page.observations and page.repeated_at is not None
        if is_whole and (known := self._whole.get(id(page.repeated))) is not None:
            return [], known[1]
        changes = self._changes
        news, again = await self._parted(page)
        batches = tuple(map(Batch.of, chunks(again, most)))
        if is_whole and again and not news and self._changes == changes:
            self._whole[id(page.repeated)] = page.repeated, batches
        return news, batches

    async def _parted(self, page: Poll) -> tuple[list[Observation], list[Again]]:
        news: list[Observation] = []
        again: list[Again] = []
        said = _said_at(page)
        times = Counter(seen.key for seen, _ in said)
        for number, (seen, at) in enumerate(said, 1):
            if number % AT_ONCE == 0 and seen.edition is None:
                await asyncio.sleep(0)
            last = self._last.get(seen.key) if times[seen.key] == 1 else None
            if last is not None and last.fingerprint == fingerprint(seen):
                again.append(Again(seen, at, last))
            else:
                news.append(_dated(seen, at or page.repeated_at))
        for seen in news:
            self._forget_if_over(seen)
        return news, again

    def _forget_if_over(self, seen: Observation) -> None:
        if seen.state.terminal and self._last.pop(seen.key, None) is not None:
            self._changed()

    def _changed(self) -> None:
        self._whole.clear()
        self._changes += 1


def _said_at(page: Poll) -> list[tuple[Observation, datetime | None]]:
    repeated = [(seen, seen.seen_at if page.repeated_at is None else None) for seen in page.repeated]
    return [*((seen, seen.seen_at) for seen in page.observations), *repeated]


def _dated(seen: Observation, at: datetime | None) -> Observation:
    return seen if at is None or seen.seen_at == at else replace(seen, seen_at=at)


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
