"""Walking the list of jobs, newest first: where to stop, whether the order can be trusted, what was lost. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from collector.clock import from_ms, to_ms
from collector.model import Skip, SkipKind
from collector.platforms.answers import integer
from collector.platforms.cdf.list_progress import ListProgress
from collector.platforms.cdf.rows import JobRow
from collector.platforms.watermark import SLACK_MS, Clocks, newest, taken_back

OVERLAP = timedelta(minutes=5)
"""How far a walk goes back behind the newest job known: jobs may become visible late."""
DISORDER = 1000
"""Milliseconds by which a job may be newer than one before it; clocks of several servers make the times."""
SHORTEST_RISE = 5
"""Jobs of which it takes so many, each newer than the last, to call a list oldest first."""
KEPT_JOBS = 1000
KEPT_FOR = timedelta(days=90)
"""What CDF keeps: so many jobs per transformation, none older."""
_DAY = 86_400_000
_LIST = ("GET /transformations/jobs", "a job")


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the list was read, in epoch milliseconds by the server's clock; the cursor of a source.

    `since` is where the first start began: ended jobs before it are none of our business. `walks` counts those that
    brought something, so that one that did not reach the ledger shows. `looked` is when a walk last came to its end, by
    our clock and to the day, for it is not worth a commit each time. `read` is when `newest` was reached, by our clock;
    0 where an older version did not say.
    """

    newest: int
    since: int
    walks: int = 0
    looked: int = 0
    read: int = 0

    @property
    def floor(self) -> int:
        return max(self.since, self.newest - int(OVERLAP.total_seconds() * 1000))

    def moved(self, newest: int, now: int, *, brought: bool) -> "Mark":
        """Never backwards."""
        looked = now if now - self.looked >= _DAY else self.looked
        read = now if newest > self.newest else self.read
        return Mark(max(self.newest, newest), self.since, self.walks + brought, looked, read)

    def as_of(self, clocks: Clocks) -> "Mark":
        """Taken back where the server's clock was set back since. An older version let its mark run ahead of that clock;
        what it missed since its last look of the day is read then.
        """
        is_ahead = self.newest > clocks.latest + SLACK_MS
        read = self.read or ((self.looked or clocks.ours) if is_ahead else self.newest)
        newest = taken_back(self.newest, read, clocks)
        if newest == self.newest:
            return self
        return replace(self, newest=newest, since=min(self.since, newest), read=read)

    def text(self) -> str:
        return orjson.dumps({"v": 1, **{name: getattr(self, name) for name in self.__slots__}}).decode()


def read_mark(cursor: str | None) -> Mark | None:
    """None for the first start and for a cursor of another kind."""
    try:
        data: Any = orjson.loads(cursor) if cursor else None
    except ValueError:
        return None
    if not isinstance(data, dict) or data.get("v") != 1:
        return None
    newest, since = integer(data.get("newest")), integer(data.get("since"))
    if newest is None or since is None:
        return None
    walks, looked, read = (integer(data.get(name)) or 0 for name in ("walks", "looked", "read"))
    return Mark(newest, since, walks, looked, read)


def first_mark(first_look: datetime) -> Mark:
    return Mark(newest=to_ms(first_look), since=to_ms(first_look))


@dataclass(slots=True)
class Walk:
    """One walk over the list, page by page, back to `floor` (epoch milliseconds); `clocks` are those of its first page.

    `before` are jobs that earlier walks brought here; a walk that is not `thorough` stops at the first page that holds
    nothing else. A `full` walk and one whose list turns out not to be newest first go to the end. `first` is the very
    first walk.
    """

    mark: Mark
    floor: int
    clocks: Clocks
    thorough: bool
    first: bool
    full: bool
    before: frozenset[int]
    ordered: bool = True
    pages: int = 0
    newest: int = 0
    taken: dict[int, int] = field(default_factory=dict)
    """The jobs that this walk brought, with the times of their creation."""
    _lowest: int | None = None
    _progress: ListProgress = field(default_factory=lambda: ListProgress(*_LIST))
    _fresh: Counter[str] = field(default_factory=Counter)
    _called: dict[str, str] = field(default_factory=dict)

    def take(self, rows: Sequence[JobRow]) -> list[JobRow]:
        """The jobs of a page that are news. At the very first start also open jobs from before its look-back."""
        self.pages += 1
        self._check_order([to_ms(row.created) for row in rows if row.created is not None])
        fresh = [row for row in rows if row.id not in self.before and row.id not in self.taken and self._wanted(row)]
        for row in fresh:
            self.taken[row.id] = self._created(row)
        return fresh

    def count(self, watched: Sequence[JobRow]) -> None:
        """Those of the jobs taken that are watched, for `lost`."""
        for row in watched:
            if self.mark.newest < self._created(row):
                key = str(row.transformation_id or row.external_id)
                self._fresh[key] += 1
                self._called.setdefault(key, row.external_id or key)

    def ends(self, rows: Sequence[JobRow], count: int, *, more: bool) -> bool:
        """Whether nothing new can follow this page of `count` rows. Raises `BadAnswer` for a list that has no end."""
        self._progress.take(count, (row.id for row in rows), more=more)
        if not more:
            return True
        if self.full or not self.ordered:
            return False
        if any(self._is_old(row) for row in rows):
            return True
        return not self.thorough and self._shows_only_known(rows)

    def _shows_only_known(self, rows: Sequence[JobRow]) -> bool:
        due = [row for row in rows if not self._is_early(row)]
        return bool(due) and all(row.id in self.before for row in due)

    def from_the_top(self) -> None:
        """The list is read again from its beginning, with other pages."""
        self._lowest = None
        self._progress = ListProgress(*_LIST)

    def moved(self) -> Mark:
        """The mark after the walk."""
        return self.mark.moved(self.newest, self.clocks.ours, brought=bool(self.taken))

    def lost(self) -> list[Skip]:
        """Where the retention of CDF has outrun us, so that runs were lost for good."""
        if self.first:
            return []
        oldest = self.clocks.server - int(KEPT_FOR.total_seconds() * 1000)
        since = _said(self.mark.newest)
        lost = [
            Skip(
                SkipKind.GAP,
                f"transformation {self._called[key]}",
                f"{count} new jobs since {since} and CDF keeps {KEPT_JOBS}: older ones are lost for good",
            )
            for key, count in self._fresh.items()
            if count >= KEPT_JOBS
        ]
        if (looked := max(self.mark.newest, self.mark.looked)) < oldest:
            between = f"those between {_said(looked)} and {_said(oldest)} are lost for good"
            cause = f"CDF keeps jobs for {KEPT_FOR.days} days: {between}"
            lost.append(Skip(SkipKind.GAP, "all transformations", cause))
        return lost

    def _created(self, row: JobRow) -> int:
        return to_ms(row.created) if row.created is not None else self.clocks.server

    def _wanted(self, row: JobRow) -> bool:
        if row.created is None:
            return True
        if self.first and row.status not in {"Completed", "Failed"}:
            return True
        return not self._is_old(row)

    def _is_old(self, row: JobRow) -> bool:
        return row.created is not None and to_ms(row.created) < self.floor

    def _is_early(self, row: JobRow) -> bool:
        return row.created is not None and to_ms(row.created) > self.clocks.latest

    def _check_order(self, times: Sequence[int]) -> None:
        """Newest first: nothing may be newer than the oldest before it, and a page must not rise from end to end."""
        if len(times) >= SHORTEST_RISE and list(times) == sorted(times) and times[0] < times[-1]:
            self.ordered = False
        for time in times:
            if self._lowest is not None and time > self._lowest + DISORDER:
                self.ordered = False
            self._lowest = time if self._lowest is None else min(self._lowest, time)
        self.newest = max(self.newest, newest(times, self.clocks))


def _said(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="seconds")
