"""Walks through the lists of runs: page by page, safe against offsets that shift and pages that are cut."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from collector.clock import to_ms
from collector.errors import BadAnswer
from collector.model import Skip, SkipKind
from collector.platforms.dataprep import groups, rows
from collector.platforms.dataprep.api import Api, Query
from collector.platforms.dataprep.levels import Deployment
from collector.platforms.dataprep.rows import Group

PAGE = 100
DEFAULT_PAGE = 25
"""Rows of a page when `limit` is not obeyed."""


MOST_IDLE = 3
SLACK = 5
"""Rows that two pages have in common, so that runs deleted between them do not hide others."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a walk, none twice. `whole` is False when rows may have slipped through, `ordered` when the order
    that was asked for is not kept. Everything that changed before `safe_ms` has been given.
    """

    groups: tuple[Group, ...]
    skips: tuple[Skip, ...] = ()
    last: bool = False
    whole: bool = True
    ordered: bool = True
    safe_ms: int | None = None


class Unordered(Exception):
    """The deployment does not sort as it was asked to, or does not count its rows."""


# one walk with one state: taken apart, its parts would hand six variables to and fro
async def changed(api: Api, since_ms: int) -> AsyncIterator[Page]:
    """All runs of jobLibrary that changed at or after `since_ms` (the platform's clock), oldest change first.

    Each page begins where the last one ended in time, not by offset, so a row that changes during the walk moves to its
    end and shifts nothing. Raises Unordered as soon as a row may have been passed over.
    """
    floor, offset, idle = since_ms, 0, 0
    first_total, below = 0, 0
    seen: set[_Mark] = set()
    while True:
        query = {"dateFilter[updatedAt][gte]": floor, "sort": "updatedAt", **_LIBRARY}
        raw = await _page(api, "jobLibrary", query, offset)
        done = _is_last(offset, raw)
        if not done and raw.total is None:
            raise Unordered
        first_total = first_total or raw.total or 0
        if below + (raw.total or 0) < first_total:
            raise Unordered
        fresh = tuple(group for group in raw.groups if _mark(group) not in seen)
        idle = _idle(idle, fresh, raw.count)
        yield Page(fresh, raw.skips, last=done, safe_ms=floor)
        if done:
            return
        times = [to_ms(group.updated_at) for group in raw.groups if group.updated_at is not None]
        if times != sorted(times):
            raise Unordered
        highest = max(times, default=floor)
        if highest > floor:
            below += len({key for key, *_ in seen} | {group.key for group in fresh if _at(group) != highest})
            floor, offset = highest, 0
            seen = {_mark(group) for group in raw.groups if _at(group) == highest}
        else:
            offset += raw.count
            seen |= {_mark(group) for group in raw.groups}


def changed_in_any_order(api: Api, since_ms: int) -> AsyncIterator[Page]:
    """As `changed`, by offset: rows that were pushed onto the next page come twice and are dropped; when fewer rows
    came than the platform counts, the last page is not `whole`.
    """
    query = {"dateFilter[updatedAt][gte]": since_ms, "sort": "-updatedAt", **_LIBRARY}
    return _by_offset(partial(_page, api, "jobLibrary", query))


def in_status(api: Api, status: str) -> AsyncIterator[Page]:
    """All runs of jobLibrary that are in this status now."""
    return _by_offset(partial(_page, api, "jobLibrary", {"status": status, "sort": "-id", **_LIBRARY}))


_LIBRARY: Query = {"runBy": "all", "fields": groups.FIELDS, "includeCount": "true"}


async def _by_offset(read: "Callable[[int], Awaitable[_Raw]]") -> AsyncGenerator[Page, None]:
    offset, idle, unread, keys = 0, 0, 0, set[str]()
    while True:
        raw = await read(offset)
        fresh = tuple(group for group in raw.groups if group.key not in keys)
        keys |= {group.key for group in raw.groups}
        unread += len(raw.skips)
        idle = _idle(idle, fresh, raw.count)
        done = _is_last(offset, raw)
        missed = done and raw.total is not None and len(keys) + unread < raw.total
        yield Page(
            fresh, (*raw.skips, *(_cut_short(len(keys), raw.total) if missed else ())), last=done, whole=not missed
        )
        if done:
            return
        offset += raw.count - SLACK if raw.count > 2 * SLACK else raw.count


async def newest(api: Api, deployment: Deployment) -> AsyncGenerator[Page, None]:
    """The list of jobGroups with stages and names, highest id first, to its end: the caller stops when it has enough.

    `ordered` is False from the page on that breaks the order. New runs push rows onto the next page, so rows come twice
    but none is lost.
    """
    ordered, numbers = True, list[int]()
    async with aclosing(_by_offset(partial(_embedded_page, api, deployment))) as pages:
        async for page in pages:
            numbers = [*numbers[-1:], *(int(group.key) for group in page.groups)]
            ordered = ordered and numbers == sorted(numbers, reverse=True)
            yield replace(page, ordered=ordered)


@dataclass(frozen=True, slots=True)
class _Raw:
    """One answer: `count` is the number of its rows, `total` that of the list if it is reported."""

    groups: tuple[Group, ...]
    skips: tuple[Skip, ...]
    count: int
    total: int | None


async def _embedded_page(api: Api, deployment: Deployment, offset: int) -> _Raw:
    async def ask(embed: str) -> _Raw:
        return await _page(api, "jobGroups", {"sort": "-id", "embed": embed, "includeCount": "true"}, offset)

    return await groups.with_embeds(deployment, ask)


async def _page(api: Api, path: str, query: Query, offset: int) -> _Raw:
    body = await api.get(path, query={**query, "limit": PAGE, "offset": offset})
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        raise BadAnswer(f"GET /v4/{path}: the answer has no list `data`")
    found: list[Group] = []
    skips: list[Skip] = []
    for row in body["data"]:
        try:
            found.append(rows.group(row))
        except rows.BadRow as error:
            skips.append(Skip(SkipKind.ROW, f"GET /v4/{path}", f"{error}; the row is left out"))
    return _Raw(tuple(found), tuple(skips), len(body["data"]), rows.total(body))


def _cut_short(came: int, total: int | None) -> tuple[Skip, ...]:
    cause = f"{came} of {total} rows came, so the others may be runs that nobody has seen: they are asked for again"
    return (Skip(SkipKind.UNREAD, "list of runs", cause),)


def _is_last(offset: int, raw: _Raw) -> bool:
    """Without a total only an empty page, or one that is shorter than the default, surely ends a list. A total that is
    exactly a full page may count the page alone.
    """
    if raw.count == 0:
        return True
    if raw.total is None:
        return raw.count < DEFAULT_PAGE
    counts_the_page = raw.total == raw.count and raw.count in {PAGE, DEFAULT_PAGE}
    return offset + raw.count >= raw.total and not counts_the_page


def _idle(before: int, fresh: Sequence[Group], count: int) -> int:
    """Pages in a row that brought nothing new; too many mean that the walk does not move."""
    idle = 0 if fresh or not count else before + 1
    if idle > MOST_IDLE:
        raise BadAnswer("a list of runs repeats the same rows whatever the offset; the rest of it cannot be read")
    return idle


_Mark = tuple[str, str | None, datetime | None]


def _mark(group: Group) -> _Mark:
    return group.key, group.status, group.updated_at


def _at(group: Group) -> int | None:
    return to_ms(group.updated_at) if group.updated_at is not None else None
