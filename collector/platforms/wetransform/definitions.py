"""Transformations as they were read lately: one request each, then none for an hour."""

import logging

from cachetools import TTLCache

from collector.clock import Clock
from collector.errors import SourceError
from collector.logs import fields
from collector.platforms.wetransform.api import Api
from collector.platforms.wetransform.automations import Automation
from collector.platforms.wetransform.lineage import Definition, definition
from collector.platforms.wetransform.transformation_list import entry_definition, pages

log = logging.getLogger("lineage.wetransform")

_FRESH_FOR = 3600.0
_TRY_AGAIN_AFTER = 300.0
_MOST = 5000

Key = tuple[str, str | None]
"""A transformation's id, and the customer to act for."""


class Definitions:
    """Holds at most 5,000; the one that was used longest ago goes first."""

    def __init__(self, api: Api, clock: Clock, source: str) -> None:
        self._api, self._source = api, source
        self._known: TTLCache[Key, Definition] = TTLCache(_MOST, _FRESH_FOR, clock.monotonic)
        self._failed: TTLCache[Key, bool] = TTLCache(_MOST, _TRY_AGAIN_AFTER, clock.monotonic)
        self._found: TTLCache[tuple[str, str | None, str | None], tuple[Definition | None]]
        self._found = TTLCache(_MOST, _TRY_AGAIN_AFTER, clock.monotonic)

    def cached(self, key: str, customer: str | None) -> Definition | None:
        return self._known.get((key, customer))

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
        if (key, customer) in self._failed:
            return
        try:
            await self.read(key, customer)
        except SourceError as error:
            log.debug("definition.unread", extra=fields(source=self._source, cause=str(error)))
            self._failed[key, customer] = True

    async def find(self, seen: Automation, customer: str | None) -> Definition | None:
        """The one transformation with the source and the template of a run, None where there is none or more than one.
        Walks the list, so what was found is kept for some minutes. Raises `SourceError`.
        """
        if seen.source_id is None:
            return None
        wanted = (seen.source_id, seen.template_handle, customer)
        found = self._found.get(wanted)
        if found is None:
            found = self._found[wanted] = (await self._search(seen, customer),)
        return found[0]

    async def _search(self, seen: Automation, customer: str | None) -> Definition | None:
        found: dict[str, Definition] = {}
        async for page in pages(self._api, customer, template_handle=seen.template_handle):
            for row in page.entries:
                known = entry_definition(row)
                if known is not None and known.source_id == seen.source_id:
                    found[known.key] = known
        return next(iter(found.values())) if len(found) == 1 else None

    def remember(self, known: Definition, customer: str | None) -> None:
        self._known[known.key, customer] = known
