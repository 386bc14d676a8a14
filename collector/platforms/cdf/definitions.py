"""Transformations by id, read when a job first names one and refreshed by what changed since."""

import logging
from collections.abc import Iterable

from collector.clock import Clock, to_ms
from collector.errors import SourceError
from collector.logs import fields
from collector.platforms.cdf.api import MOST_IDS, Api
from collector.platforms.cdf.list_progress import ListProgress
from collector.platforms.cdf.rows import Definition, read_definition

log = logging.getLogger("lineage.cdf")

FRESH_FOR = 3600.0
RETRY_AFTER = 300.0
OVERLAP_MS = 600_000
"""How far a refresh reaches back behind the last one: our clock is not the server's."""
MOST = 20_000


class Definitions:
    """A cache that can be lost. A definition that is gone, or hidden from us, is asked for again after an hour."""

    def __init__(self, api: Api, clock: Clock, source: str) -> None:
        self._api, self._clock, self._source = api, clock, source
        self._known: dict[int, Definition] = {}
        self._hidden: set[int] = set()
        self._due = clock.monotonic() + FRESH_FOR
        self._rest_until = clock.monotonic()
        self._checked_ms = to_ms(clock.now())
        self.version = 0
        """It rises with each change of what is known."""

    def get(self, transformation_id: int | None) -> Definition | None:
        return self._known.get(transformation_id) if transformation_id is not None else None

    async def know(self, ids: Iterable[int | None], *, needed: bool) -> None:
        """Read those that are not known yet. A failure is raised if they are `needed`, else nothing is tried for some minutes."""
        if not needed and self._clock.monotonic() < self._rest_until:
            return
        unknown = sorted({one for one in ids if one is not None} - self._known.keys() - self._hidden)
        try:
            for start in range(0, len(unknown), MOST_IDS):
                some = unknown[start : start + MOST_IDS]
                self._keep(await self._api.definitions_by_ids(some))
                self._hidden.update(set(some) - self._known.keys())
        except SourceError as error:
            if needed:
                raise
            self._rest_until = self._clock.monotonic() + RETRY_AFTER
            log.warning("cdf.definitions_unread", extra=fields(source=self._source, cause=str(error)))

    async def renew(self, ids: Iterable[int]) -> None:
        """Read these again, known or not; those that are gone are forgotten."""
        wanted = set(ids)
        for one in wanted:
            self._known.pop(one, None)
            self._hidden.discard(one)
        self.version += bool(wanted)
        await self.know(wanted, needed=False)

    async def refresh(self) -> None:
        """Once an hour, read what changed. A failure is logged and tried again after some minutes."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + FRESH_FOR
        self._hidden.clear()
        if not self._known:
            return
        try:
            await self._read_changes()
        except SourceError as error:
            self._due = now + RETRY_AFTER
            log.warning("cdf.definitions_unread", extra=fields(source=self._source, cause=str(error)))

    async def _read_changes(self) -> None:
        """Only of definitions that jobs have named."""
        began, since = to_ms(self._clock.now()), self._checked_ms - OVERLAP_MS
        cursor: str | None = None
        progress = ListProgress("POST /transformations/filter", "a transformation")
        while True:
            page = await self._api.definitions_changed(since, cursor)
            rows = [(row, read.id) for row in page.rows if (read := read_definition(row))]
            self._keep([row for row, one in rows if one in self._known])
            progress.take(len(page.rows), (one for _, one in rows), more=page.next is not None)
            if page.next is None:
                self._checked_ms = began
                return
            cursor = page.next

    def _keep(self, rows: Iterable[object]) -> None:
        self.version += 1
        for row in rows:
            if (read := read_definition(row)) is not None:
                self._known[read.id] = read
        for surplus in list(self._known)[: max(0, len(self._known) - MOST)]:
            del self._known[surplus]
