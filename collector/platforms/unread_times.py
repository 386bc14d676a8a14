"""Times of a platform that cannot be read: the run is reported without them, and that is counted."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cachetools import FIFOCache

from collector.model import Poll, Skip, SkipKind
from collector.platforms.answers import moment, prose, words

Unread = tuple[tuple[str, str], ...]
"""Names of fields, each with the value that cannot be read as a time."""
MOST_KNOWN = 10_000
_LONGEST_VALUE = 40


def unread_times(row: Mapping[str, Any], *names: str) -> Unread:
    """Those of the fields that hold something, but no time: missing, null, empty or 0 means that there is none."""
    return tuple((name, _shown(row[name])) for name in names if row.get(name) and moment(row[name]) is None)


class UnreadTimes:
    """The fields that were noted, so that each of a row is counted once. Lost at a restart."""

    def __init__(self) -> None:
        self._known: FIFOCache[tuple[str, str], None] = FIFOCache(MOST_KNOWN)
        self._fresh: list[Skip] = []

    def note(self, what: str, unread: Unread) -> None:
        """`what` names the row, as the subject of a skip."""
        fresh = [(name, value) for name, value in unread if (what, name) not in self._known]
        if not fresh:
            return
        self._known.update({(what, name): None for name, _ in fresh})
        fields = ", ".join(f"{name} {value}" for name, value in fresh)
        self._fresh.append(Skip(SkipKind.ROW, what, f"not a valid time: {fields}; it is reported without"))

    def skip(self, skip: Skip) -> None:
        """Something else that was noticed on the way."""
        self._fresh.append(skip)

    def added(self, page: Poll) -> Poll:
        """The page with the skips that were noted since the last one."""
        fresh, self._fresh = tuple(self._fresh), []
        return replace(page, skips=(*page.skips, *fresh)) if fresh else page


def _shown(value: Any) -> str:
    return f"'{words(prose(value) or '', _LONGEST_VALUE)}'"
