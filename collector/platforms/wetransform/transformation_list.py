"""The list of transformations, page by page."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from collector.errors import BadAnswer
from collector.platforms.answers import integer, uuid
from collector.platforms.wetransform.api import Api
from collector.platforms.wetransform.lineage import Definition, definition

PER_PAGE = 200
"""The most that the vendor allows."""
_MOST_PAGES = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    entries: list[Any]
    total_items: int | None


async def pages(api: Api, customer: str | None, *, template_handle: str | None = None) -> AsyncIterator[Page]:
    """The list of transformations, page by page. Raises `BadAnswer` for a page that is none, and for one that repeats what
    the pages before it had and is not the last: such a list has no end.
    """
    params: dict[str, str | int] = {"per_page": PER_PAGE}
    if template_handle is not None:
        params["template_handles[]"] = template_handle
    seen = set[str]()
    for page in range(1, _MOST_PAGES + 1):
        envelope = await api.get("/transformations", customer=customer, params=params | {"page": page})
        entries = envelope.payload.get("entries")
        if not isinstance(entries, list):
            raise BadAnswer(f"GET /transformations: page {page} has no entries")
        yield Page(entries, integer(envelope.payload.get("total_items")))
        if not entries or _is_last(page, len(entries), integer(envelope.payload.get("total_pages"))):
            return
        known = len(seen)
        seen.update(read.key for row in entries if (read := entry_definition(row)) is not None)
        if page > 1 and len(seen) == known:
            raise BadAnswer(f"GET /transformations: page {page} has no entry that the pages before it did not have")
    raise BadAnswer(f"GET /transformations: more than {_MOST_PAGES} pages")


def _is_last(page: int, entries: int, total: int | None) -> bool:
    return entries < PER_PAGE if total is None else page >= total


def entry_definition(row: Any) -> Definition | None:
    key = uuid(row.get("transformation_id")) if isinstance(row, dict) else None
    return definition(row, key) if key is not None else None
