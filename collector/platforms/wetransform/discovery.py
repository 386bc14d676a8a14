"""Walks the list of transformations and makes runs of what changed in it since the last walk."""

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from collector.clock import Clock, to_ms
from collector.logs import fields
from collector.model import Observation, Poll, RunState, Skip, SkipKind
from collector.platforms.answers import moment, text
from collector.platforms.unread_times import UnreadTimes, unread_times
from collector.platforms.wetransform.api import Api
from collector.platforms.wetransform.automations import Automation
from collector.platforms.wetransform.changes import Change, Entry, EntryFingerprint, Memory, WatchedRun, compare, walked
from collector.platforms.wetransform.definitions import Definitions
from collector.platforms.wetransform.lineage import Definition, Place, facts, job, stripped
from collector.platforms.wetransform.transformation_list import Page, entry_definition, pages
from config.base import address

log = logging.getLogger("lineage.wetransform")

_MOST_WALKS = 3
"""How often the list is walked when entries come or go meanwhile, which shifts the pages."""
_SHORTEST_INTERVAL = timedelta(seconds=60)
_SHARE = 10
"""A walk of n pages is made so rarely that it takes a tenth of the requests that are allowed."""

Wanted = Callable[[Definition], bool]
"""Whether configuration wants the runs of a transformation that others started."""


@dataclass(slots=True)
class _Progress:
    """What a walk has come to. `prints` has every entry once, however often the pages shifted."""

    memory: Memory
    began: datetime
    own: frozenset[str]
    prints: dict[str, EntryFingerprint] = field(default_factory=dict)
    pages: int = 0
    odd: int = 0
    """Entries of the last walk that cannot be read."""
    shows_results: bool = False

    def missed(self, totals: set[int | None]) -> bool:
        """Whether an entry may have slipped through, by the numbers of entries that the pages of the last walk gave."""
        return len(totals) > 1 or any(total is not None and total > len(self.prints) + self.odd for total in totals)


class Discovery:
    """For one source and its own customer. Keeps what a restart may lose: when it walks next, and the watched runs that
    were seen since the cursor was made.
    """

    def __init__(
        self,
        source: str,
        api: Api,
        definitions: Definitions,
        place: Place,
        clock: Clock,
        *,
        customer: str | None,
        wanted: Wanted,
        rate: float,
    ) -> None:
        self._source, self._api, self._definitions, self._place, self._clock = source, api, definitions, place, clock
        self._customer, self.wants, self._rate = customer, wanted, rate
        self._next_at: datetime | None = None
        self.requests_per_minute = timedelta(minutes=1) / _SHORTEST_INTERVAL
        """What the walks cost; of one page each until the first one has counted them."""
        self._unread_times = UnreadTimes()
        self._own: dict[str, WatchedRun] = {}
        self._loaded: tuple[str | None, Memory] = (None, Memory())

    def note(self, seen: Observation) -> None:
        """A run that is watched by its id: what it changes in the list is no run of others."""
        transformation = seen.handle.get("transformation")
        if transformation is not None and "synthesised_from" not in seen.facts.ids:
            self._own[seen.key] = WatchedRun(transformation, to_ms(seen.seen_at), not seen.state.terminal)

    async def pages(self, cursor: str | None) -> AsyncIterator[Poll]:
        """The pages of a walk where one is due; the cursor with the last, or alone where there is only it to store."""
        memory = self._memory(cursor)
        now, since = self._clock.now(), to_ms(memory.walked_at) if memory.walked_at else 0
        self._own = {key: run for key, run in self._own.items() if run.matters(since, now)}
        is_news = any(memory.needs_storing(key, own) for key, own in self._own.items())
        memory = memory.with_own(self._own)
        if self._next_at is None or now >= self._next_at:
            async for page in self._walk(memory):
                yield page
        elif is_news and memory.walked_at is not None:
            yield Poll(cursor=memory.dump())

    async def unwanted(self) -> int | None:
        """How many transformations there are, where configuration wants none of them; else None. Raises `SourceError`."""
        number = 0
        async for page in pages(self._api, self._customer):
            known = [each for row in page.entries if (each := entry_definition(row)) is not None]
            if any(map(self.wants, known)):
                return None
            number += len(known)
        return number

    def _memory(self, cursor: str | None) -> Memory:
        if self._loaded[0] != cursor:
            try:
                self._loaded = cursor, Memory.load(cursor)
            except ValueError as error:
                log.warning("discovery.restarted", extra=fields(source=self._source, cause=str(error)))
                self._loaded = cursor, Memory()
        return self._loaded[1]

    async def _walk(self, memory: Memory) -> AsyncIterator[Poll]:
        """Repeated while entries come or go under it, for then pages shift and one may be missed."""
        began = self._clock.now()
        progress, totals = _Progress(memory, began, memory.own_transformations(began)), set[int | None]()
        for _ in range(_MOST_WALKS):
            totals, progress.odd = set(), 0
            async for page in pages(self._api, self._customer):
                totals.add(page.total_items)
                progress.pages += 1
                yield self._compared(page, progress)
            if len(totals) <= 1:
                break
        every = max(_SHORTEST_INTERVAL, timedelta(seconds=progress.pages * _SHARE / self._rate))
        self._next_at, self.requests_per_minute = began + every, progress.pages * 60 / every.total_seconds()
        # an entry that was missed is not taken for one that is new when it is there again
        prints = {**memory.prints, **progress.prints} if progress.missed(totals) else progress.prints
        after = walked(memory, prints, began, shows_results=progress.shows_results)
        yield Poll(cursor=replace(after, walked_at=began - self._api.behind).dump())

    def _compared(self, page: Page, progress: _Progress) -> Poll:
        found: list[Observation] = []
        skips: list[Skip] = []
        for row in page.entries:
            known = entry_definition(row)
            if known is None:
                progress.odd += 1
                skips.append(Skip(SkipKind.ROW, "list of transformations", "an entry has no usable id"))
            elif known.key not in progress.prints:
                self._compare(row, known, progress, found, skips)
        return self._unread_times.added(Poll(tuple(found), skips=tuple(skips)))

    def _compare(
        self,
        row: dict[str, Any],
        known: Definition,
        progress: _Progress,
        found: list[Observation],
        skips: list[Skip],
    ) -> None:
        entry = Entry(known.key, moment(row.get("imported_at")), stripped(text(row.get("download_url"))))
        self._unread_times.note(known.key, unread_times(row, "imported_at"))
        progress.shows_results |= entry.result is not None
        progress.prints[entry.key], change = compare(progress.memory, entry, progress.began, progress.own)
        if "column_names" in row:
            self._definitions.remember(known, self._customer)
        if change is not None and self.wants(known):
            found.append(self._synthesised(change, known, progress.began))
        elif change is not None:
            skips.append(
                Skip(SkipKind.FILTERED, known.key, "a run that others started, left out by include or exclude")
            )

    def _synthesised(self, change: Change, known: Definition, now: datetime) -> Observation:
        """A run that ended somewhere between two walks. Its id follows from what changed, so it is made only once."""
        run_id = synthesised_id(address(self._api.base_url), self._customer, change)
        entry = change.entry
        is_new = entry.imported_at is not None and entry.imported_at >= change.after
        automation = Automation(
            key=str(run_id),
            step=None,
            code=None,
            words="",
            details=None,
            original_file=None,
            transformed_file=entry.result,
            created_at=entry.imported_at if is_new else None,
            source_id=known.source_id,
            template_handle=known.template_handle,
        )
        said = facts(self._place, automation, known, self._customer, known.key)
        ids = {k: v for k, v in said.ids.items() if k != "automation_id"}
        marks = {"synthesised_from": change.evidence.value, "not_before": change.after.isoformat()}
        return Observation(
            key=str(run_id),
            run_id=run_id,
            job=job(self._place, known.key, known),
            state=RunState.SUCCEEDED,
            raw_state=None,
            seen_at=now,
            queued_at=automation.created_at,
            facts=replace(said, ids=ids | marks, external_id=None, tags=(("synthesised", "true"),)),
            handle={"transformation": known.key, **({"customer": self._customer} if self._customer else {})},
            settled=self._definitions.cached(known.key, self._customer) is not None,
        )


def synthesised_id(base_url: str, customer: str | None, change: Change) -> UUID:
    """UUIDv5 over the address, the customer, the transformation and what changed."""
    return uuid5(NAMESPACE_URL, "|".join((base_url, customer or "", change.entry.key, change.content)))
