"""Runs that others started, derived from two readings of the list of transformations: pure.

The list shows no runs, only three addresses and times that a run may change; which of them, the vendor does not say.
A new `download_url` is believed to be a new result. A new `imported_at` alone is believed only after a while, and only
where no transformation ever showed a result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

import orjson

from collector.clock import from_ms, to_ms

SETTLED_AFTER = timedelta(hours=1)
"""A refreshed source without a result counts as a run after this long, where results are never shown."""
_OWN_FOR = timedelta(hours=2)
"""A run of ours that was last seen open counts as open for this long; a waiting one is read at least once an hour."""
_STORED_EVERY_MS = 30 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """The signs of runs in an entry of the list. `result` is the result's address without what may be signed in it."""

    key: str
    imported_at: datetime | None
    result: str | None


class Evidence(StrEnum):
    RESULT = "download_url"
    IMPORT = "imported_at"


@dataclass(frozen=True, slots=True)
class Change:
    """Something finished. `content` names it: the same change never has another content."""

    entry: Entry
    evidence: Evidence
    content: str
    after: datetime
    """When the list was read before."""


@dataclass(frozen=True, slots=True)
class EntryFingerprint:
    """An entry as last read: hashes of its time and its result, and what was made of them.

    `reported` is the time's hash at the last change that was reported, `by_import` that it was reported by the time alone,
    `noticed` when (epoch ms) a new time was seen of which nothing was reported yet.
    """

    imported: str = ""
    result: str = ""
    reported: str = ""
    by_import: bool = False
    noticed: int | None = None


@dataclass(frozen=True, slots=True)
class WatchedRun:
    """A run that is watched by its id, so that what it changes in the list is not reported again."""

    transformation: str
    seen_at: int
    open: bool

    def matters(self, since: int, now: datetime) -> bool:
        """Whether it was under way at any time after `since` (epoch ms)."""
        return self.seen_at >= since or (self.open and self.seen_at >= to_ms(now - _OWN_FOR))


@dataclass(frozen=True, slots=True)
class Memory:
    """The cursor: what the last whole walk of the list saw. `walked_at` is None before the first one."""

    walked_at: datetime | None = None
    prints: Mapping[str, EntryFingerprint] = field(default_factory=dict)
    own: Mapping[str, WatchedRun] = field(default_factory=dict)
    shows_results: bool = False

    def dump(self) -> str:
        prints = {k: [p.imported, p.result, p.reported, int(p.by_import), p.noticed] for k, p in self.prints.items()}
        own = {key: [o.transformation, o.seen_at, int(o.open)] for key, o in self.own.items()}
        walked = to_ms(self.walked_at) if self.walked_at else None
        body = {"v": 1, "walked_at": walked, "results": self.shows_results, "prints": prints, "own": own}
        return orjson.dumps(body).decode()

    @classmethod
    def load(cls, cursor: str | None) -> "Memory":
        """Raises ValueError for a cursor that was not made by `dump`."""
        if cursor is None:
            return cls()
        try:
            body = orjson.loads(cursor)
            return cls(
                walked_at=from_ms(body["walked_at"]) if body["walked_at"] else None,
                prints={k: EntryFingerprint(i, r, t, bool(b), n) for k, (i, r, t, b, n) in body["prints"].items()},
                own={key: WatchedRun(t, at, bool(is_open)) for key, (t, at, is_open) in body["own"].items()},
                shows_results=bool(body["results"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no cursor of this adapter: {error}") from error

    def with_own(self, seen: Mapping[str, WatchedRun]) -> "Memory":
        return replace(self, own={**self.own, **seen})

    def needs_storing(self, key: str, seen: WatchedRun) -> bool:
        """Whether a restart would lose something of note if this were kept in memory alone."""
        stored = self.own.get(key)
        return stored is None or stored.open != seen.open or seen.seen_at - stored.seen_at > _STORED_EVERY_MS

    def own_transformations(self, now: datetime) -> frozenset[str]:
        """Those of which a watched run was under way at any time since the last walk."""
        since = to_ms(self.walked_at or now)
        return frozenset(run.transformation for run in self.own.values() if run.matters(since, now))


def compare(
    memory: Memory, entry: Entry, now: datetime, own: frozenset[str] = frozenset()
) -> tuple[EntryFingerprint, Change | None]:
    """What to remember of an entry, and the change that it shows since `memory`, if any. Changes of `own`
    transformations are those of watched runs.
    """
    seen = EntryFingerprint(_hash(entry.imported_at and entry.imported_at.isoformat()), _hash(entry.result))
    before = memory.prints.get(entry.key)
    if memory.walked_at is None or (before is None and not _is_recent(entry, memory.walked_at)):
        return replace(seen, reported=seen.imported), None
    before = before or EntryFingerprint()
    if entry.key in own:
        return replace(seen, result=seen.result or before.result, reported=seen.imported), None
    if seen.result not in {"", before.result}:
        return _change_by_result(seen, before, entry, memory.walked_at)
    return _change_by_import(seen, before, entry, memory, now)


def _change_by_result(
    seen: EntryFingerprint, before: EntryFingerprint, entry: Entry, after: datetime
) -> tuple[EntryFingerprint, Change | None]:
    print_ = replace(seen, reported=seen.imported)
    if before.by_import and before.reported == seen.imported:
        return print_, None  # the late result of a run that was reported by its import
    is_new_import = entry.imported_at is not None and seen.imported != before.reported
    content = entry.imported_at.isoformat() if entry.imported_at and is_new_import else str(entry.result)
    return print_, Change(entry, Evidence.RESULT, content, after)


def _change_by_import(
    seen: EntryFingerprint, before: EntryFingerprint, entry: Entry, memory: Memory, now: datetime
) -> tuple[EntryFingerprint, Change | None]:
    result = seen.result or before.result  # an address that expired is no change, and none when it comes back
    seen = replace(seen, result=result, reported=before.reported, by_import=before.by_import, noticed=before.noticed)
    if seen.imported in {"", before.reported}:
        return replace(seen, imported=seen.imported or before.imported, noticed=None), None
    if seen.imported != before.imported or seen.noticed is None:
        return replace(seen, noticed=to_ms(now)), None
    if memory.shows_results or now - from_ms(seen.noticed) < SETTLED_AFTER or entry.imported_at is None:
        return seen, None
    change = Change(entry, Evidence.IMPORT, entry.imported_at.isoformat(), from_ms(seen.noticed))
    return replace(seen, reported=seen.imported, by_import=True, noticed=None), change


def walked(memory: Memory, prints: Mapping[str, EntryFingerprint], now: datetime, *, shows_results: bool) -> Memory:
    """The memory after a whole walk that began at `now`; watched runs that ended before it are forgotten."""
    own = {key: run for key, run in memory.own.items() if run.matters(to_ms(now), now)}
    return Memory(now, dict(prints), own, memory.shows_results or shows_results)


def _is_recent(entry: Entry, walked_at: datetime) -> bool:
    """Whether an entry that was not there before can have had its run since then: it may have come from the trash."""
    return entry.imported_at is None or entry.imported_at >= walked_at - timedelta(minutes=1)


def _hash(value: Any) -> str:
    return sha256(str(value).encode()).hexdigest()[:10] if value else ""
