"""The walks over the list of jobs from poll to poll: where one begins, how far it goes, when there need be none."""

import logging

from collector.clock import Clock, from_ms
from collector.logs import fields
from collector.platforms.cdf.job_list import OVERLAP, Mark, Walk, first_mark, read_mark
from collector.platforms.watermark import SLACK_MS, Clocks
from config.sources import CdfSource

log = logging.getLogger("lineage.cdf")

THOROUGH_EVERY = 60.0
"""Seconds between walks that go back over the whole overlap."""
FULL_WALK_PAUSE = 5.0
"""Seconds of rest per page after a walk to the end of a list that is not newest first."""


class Walks:
    """Those over one list. The mark is stored, as the cursor of the source; what else is remembered saves requests."""

    def __init__(self, config: CdfSource, clock: Clock, source: str) -> None:
        self._config, self._clock, self._source = config, clock, source
        self._known: dict[int, int] = {}
        self._left_at: str | None = None
        self._thorough_at = self._full_walk_at = self._moved_at = clock.monotonic()
        self._quiet_at: int | None = None
        self._ordered = True

    @property
    def rests(self) -> bool:
        """Whether a list that is not newest first was walked to its end not long ago."""
        return not self._ordered and self._clock.monotonic() < self._full_walk_at

    def resume(self, cursor: str | None) -> None:
        """A poll begins at this cursor. What a walk brought that did not reach the ledger is forgotten."""
        if cursor is None or cursor != self._left_at:
            self._known.clear()

    def begin(self, cursor: str | None, clocks: Clocks) -> Walk:
        stored = read_mark(cursor)
        if stored is None and cursor is not None:
            self._log_discarded("the stored place in the list cannot be read")
        mark, first = self._mark(stored, clocks)
        quiet = mark.newest == self._quiet_at
        is_due = not self._known or self._clock.monotonic() >= self._thorough_at
        return Walk(
            mark,
            floor=mark.newest if quiet else mark.floor,
            clocks=clocks,
            first=first,
            thorough=not quiet and (is_due or mark != stored),
            full=not self._ordered,
            before=frozenset(self._known),
        )

    def end(self, walk: Walk) -> str:
        """The cursor after a walk that came to its end."""
        now = self._clock.monotonic()
        mark = walk.moved()
        self._known = {one: at for one, at in (self._known | walk.taken).items() if at >= mark.floor}
        if mark.newest != walk.mark.newest or walk.first:
            self._moved_at = now
        if walk.thorough:
            self._thorough_at = now + THOROUGH_EVERY
            # Nothing new for so long: no job can show up late any more behind the newest one.
            self._quiet_at = mark.newest if now - self._moved_at > OVERLAP.total_seconds() else None
        if walk.ordered != self._ordered:
            details = fields(source=self._source, newest_first=walk.ordered, pages=walk.pages)
            log.warning("cdf.order_violated", extra=details)
        self._ordered = walk.ordered
        self._full_walk_at = now + (FULL_WALK_PAUSE * walk.pages if walk.pages > 1 else 0.0)
        self._left_at = mark.text()
        return self._left_at

    def _mark(self, stored: Mark | None, clocks: Clocks) -> tuple[Mark, bool]:
        """Where to read on, and whether that is a first look."""
        begin = first_mark(self._config.first_look(from_ms(min(clocks.server, clocks.ours))))
        if stored is None:
            return begin, True
        mark = stored.as_of(clocks)
        if stored.since > clocks.latest + SLACK_MS:
            self._log_discarded("the look-back began in the future: it begins again")
            return min(begin, mark, key=lambda one: one.newest), True
        if mark != stored:
            said = from_ms(mark.newest).isoformat(timespec="seconds")
            self._log_discarded(f"the last job read is dated beyond the server's clock: it is read on from {said}")
        return mark, False

    def _log_discarded(self, cause: str) -> None:
        log.warning("cdf.cursor_discarded", extra=fields(source=self._source, cause=cause))
