"""Whether a list that is read by cursors comes to an end. Pure."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from collector.errors import BadAnswer

MOST_EMPTY = 100
"""Empty pages in a row with a page behind them: what this client may not see is left out of a page after it was cut."""


@dataclass(slots=True)
class ListProgress:
    """`request` and `item` are for people: `GET /jobs` and `a job`."""

    request: str
    item: str
    _shown: set[Hashable] = field(default_factory=set)
    _pages: int = 0
    _empty: int = 0

    def take(self, rows: int, ids: Iterable[Hashable], *, more: bool) -> None:
        """Note a page with so many rows, of which those with these ids could be read. Raises `BadAnswer` where more pages
        follow one that has only what was shown before, or too many empty ones: such a list has no end.
        """
        self._pages += 1
        self._empty = 0 if rows else self._empty + 1
        known = len(self._shown)
        self._shown.update(ids)
        if not more:
            return
        if self._empty > MOST_EMPTY:
            raise BadAnswer(f"{self.request}: more than {MOST_EMPTY} pages in a row are empty and have a next page")
        if rows and self._pages > 1 and len(self._shown) == known:
            raise BadAnswer(f"{self.request}: a next page without {self.item} that is new to it")
