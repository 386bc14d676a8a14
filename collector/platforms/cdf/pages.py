"""How many jobs a page of the list is asked for: every row carries its SQL, and nobody knows how long that is."""

from dataclasses import dataclass

from collector.clock import Clock
from collector.platforms.answers import TooLarge
from collector.platforms.cdf.api import Page
from collector.platforms.cdf.job_list import Walk

PAGE_BYTES = 8 * 1024 * 1024
"""What a page of a long walk may weigh."""
LONGEST_PAGE = 1000
TOO_LARGE_FOR = 3600.0
"""Seconds in which no page is asked for that is as long as one that was too large to be read."""


class PageSizes:
    """What is known of the rows of one source. Lost at a restart."""

    def __init__(self, clock: Clock, first: int) -> None:
        """`first` rows are asked for on the first page of a walk."""
        self._clock, self._first = clock, first
        self._most, self._until = LONGEST_PAGE, 0.0

    def begin(self) -> "Pages":
        return Pages(self, min(self._first, self.most))

    @property
    def most(self) -> int:
        """The longest page that may be asked for now."""
        return self._most if self._clock.monotonic() < self._until else LONGEST_PAGE

    def shorten(self, most: int) -> None:
        """A longer page was too large."""
        self._most, self._until = most, self._clock.monotonic() + TOO_LARGE_FOR


@dataclass(slots=True)
class Pages:
    """Size and cursor of the next page of one walk."""

    sizes: PageSizes
    limit: int
    after: str | None = None
    _may_grow: bool = True

    def turn(self, walk: Walk, page: Page) -> None:
        """After this page. A walk longer than one page begins again with pages as long as they may be, for the size cannot
        change on the way.
        """
        longer = min(self.sizes.most, PAGE_BYTES * len(page.rows) // max(page.size, 1))
        if self._may_grow and longer > self.limit:
            self._begin_again(walk, longer)
        else:
            self.after, self._may_grow = page.next, False

    def halve(self, walk: Walk | None, error: TooLarge) -> None:
        """Begin again with pages half as long, and no longer ones. Raises the error of a single row."""
        if self.limit == 1:
            raise error
        self.sizes.shorten(self.limit // 2)
        self._begin_again(walk, self.limit // 2)

    def _begin_again(self, walk: Walk | None, limit: int) -> None:
        self.limit, self.after, self._may_grow = limit, None, False
        if walk is not None:
            walk.from_the_top()
