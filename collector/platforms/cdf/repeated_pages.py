"""Answers about open jobs that say what the last one said: most of them. They are known by their bytes, without reading a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from operator import attrgetter, is_

from cachetools import LRUCache

from collector.model import Parent, Poll, Run
from collector.platforms.cdf.api import MOST_IDS
from collector.platforms.cdf.rows import REMEMBERED, JobRow

_SIGN_OF_LIFE = b'"lastSeenTime"'
"""In a JSON string its quotes would be escaped, so this is the name of a field, or a whole text that no number follows."""
_VALUE = 15
"""Bytes of a sign of life: a colon, perhaps a space, the 13 digits of a moment in milliseconds."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A digest of all that an answer says but for the signs of life, and the oldest of these in milliseconds, None where there is none."""

    digest: bytes
    heard_at: int | None


def summarized(content: bytes) -> Summary | None:
    """None where a sign of life is of an unusual kind."""
    first, *rest = content.split(_SIGN_OF_LIFE)
    signs = [one[:_VALUE].strip(b": ,}") for one in rest]
    try:
        heard_at = min(map(int, signs), default=None)
    except ValueError:
        return None
    return Summary(sha256(b"\0".join((first, *(one[_VALUE:] for one in rest)))).digest(), heard_at)


@dataclass(frozen=True, slots=True)
class PageBasis:
    """All that a page is made of beside the answer and the runs. `definitions` is the version of what is known of them."""

    definitions: int
    parents: Mapping[int, Parent]


@dataclass(frozen=True, slots=True)
class RepeatedPage:
    """A page of open jobs of which nothing was new, so that the same answer about the same runs has it again."""

    runs: Sequence[Run]
    basis: PageBasis
    rows: Sequence[JobRow]
    jobs: frozenset[int]
    transformations: frozenset[int | None]
    page: Poll


class RepeatedPages:
    """The latest ones, as many as have rows in memory anyway."""

    def __init__(self) -> None:
        self._pages: LRUCache[bytes, RepeatedPage] = LRUCache(REMEMBERED // MOST_IDS)

    def get(self, answer: Summary, runs: Sequence[Run]) -> RepeatedPage | None:
        found = self._pages.get(answer.digest)
        return found if found is not None and _are_the_same(found.runs, runs) else None

    def put(
        self, answer: Summary | None, runs: Sequence[Run], basis: PageBasis, rows: Sequence[JobRow], page: Poll
    ) -> None:
        """Unless there is something new on it."""
        if answer is not None and not page.observations:
            jobs = frozenset(row.id for row in rows)
            transformations = frozenset(row.transformation_id for row in rows)
            self._pages[answer.digest] = RepeatedPage(runs, basis, rows, jobs, transformations, page)


def _are_the_same(before: Sequence[Run], runs: Sequence[Run]) -> bool:
    """In what observations take from runs, which nearly always are the very objects of before."""
    if len(before) == len(runs) and all(map(is_, before, runs)):
        return True
    return list(map(_used, before)) == list(map(_used, runs))


_used = attrgetter("key", "run_id", "job")
