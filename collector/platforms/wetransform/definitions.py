"""Transformations as they were read lately: one request each, then none for an hour."""

import logging
from datetime import datetime, timedelta

from collector.clock import Clock
from collector.errors import SourceError
from collector.logs import fields
from collector.platforms.wetransform.api import Api
from collector.platforms.wetransform.automations import Automation
from collector.platforms.wetransform.lineage import Definition, definition
from collector.platforms.wetransform.transformation_list import entry_definition, pages

log = logging.getLogger("lineage.wetransform")

_FRESH_FOR = timedelta(hours=1)
_TRY_AGAIN_AFTER = timedelta(minutes=5)
_MOST = 5000

Key = tuple[str, str | None]
"""A transformation's id, and the customer to act for."""


class Definitions:
    """Holds at most 5,000; the one read longest ago goes first."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api, self._clock = api, clock
        self._known: dict[Key, tuple[datetime, Definition]] = {}
        self._failed: dict[Key, datetime] = {}
        self._found: dict[tuple[str | None, str | None, str | None], tuple[datetime, Definition | None]] = {}

    def cached(self, key: str, customer: str | None) -> Definition | None:
        read_at, known = self._known.get((key, customer), (None, None))
        return known if read_at is not None and self._clock.now() - read_at < _FRESH_FOR else None

    async def read(self, key: str, customer: str | None) -> Definition:
        """Raises `SourceError` where it can neither be remembered nor read."""
        if (known := self.cached(key, customer)) is not None:
            return known
        envelope = await self._api.get(f"/transformation/{key}", customer=customer)
        read = definition(envelope.payload, key)
        self.remember(read, customer)
        return read

    async def prepare(self, key: str, customer: str | None) -> None:
        """Have it cached if that is possible; after a failure nothing is tried for some minutes."""
        now, failed_at = self._clock.now(), self._failed.get((key, customer))
        if failed_at is not None and now - failed_at < _TRY_AGAIN_AFTER:
            return
        try:
            await self.read(key, customer)
        except SourceError as error:
            log.debug("definition.unread", extra=fields(cause=str(error)))
            self._failed = {k: at for k, at in self._failed.items() if now - at < _TRY_AGAIN_AFTER}
            self._failed[key, customer] = now

    async def find(self, seen: Automation, customer: str | None) -> Definition | None:
        """The one transformation with the source and the template of a run, None where there is none or more than one.
        Walks the list, so what was found is kept for some minutes. Raises `SourceError`.
        """
        wanted = (seen.source_id, seen.template_handle, customer)
        if seen.source_id is None:
            return None
        found_at, found = self._found.get(wanted, (None, None))
        if found_at is None or self._clock.now() - found_at >= _TRY_AGAIN_AFTER:
            found = await self._search(seen, customer)
            if len(self._found) >= _MOST:
                self._found.clear()
            self._found[wanted] = (self._clock.now(), found)
        return found

    async def _search(self, seen: Automation, customer: str | None) -> Definition | None:
        found: dict[str, Definition] = {}
        async for page in pages(self._api, customer, template_handle=seen.template_handle):
            for row in page.entries:
                known = entry_definition(row)
                if known is not None and known.source_id == seen.source_id:
                    found[known.key] = known
        return next(iter(found.values())) if len(found) == 1 else None

    def remember(self, known: Definition, customer: str | None) -> None:
        self._known.pop((known.key, customer), None)
        self._known[(known.key, customer)] = (self._clock.now(), known)
        while len(self._known) > _MOST:
            del self._known[next(iter(self._known))]
