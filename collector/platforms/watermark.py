"""How far a list was read, by the clock of the server that dated its rows: one rule for all platforms. Pure.

A watermark never passes the server's own clock. A row that is dated beyond it is taken in, counted, and moves no mark,
for everything dated before it would not be read any more. When that clock is set back, the mark goes back with it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from collector.clock import from_ms, to_ms
from collector.model import Skip, SkipKind

SLACK_MS = 5000
"""Two clocks that are so far apart count as one: `Date` has whole seconds, and answers take their time."""
MOST_EARLY = 10_000


@dataclass(frozen=True, slots=True)
class Clocks:
    """Epoch milliseconds at one answer by two clocks: the server's, as `Date` says (ours where it says nothing), and ours."""

    server: int
    ours: int

    @property
    def latest(self) -> int:
        """The latest time that the server's clock may have shown: `Date` leaves out what is below a second."""
        return self.server + 999


def read_clocks(headers: Mapping[str, str], now: datetime) -> Clocks:
    ours = to_ms(now)
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
        return Clocks(to_ms(date if date.tzinfo is not None else date.replace(tzinfo=UTC)), ours)
    except (ValueError, TypeError, OverflowError):
        return Clocks(ours, ours)


def newest(times: Iterable[int], clocks: Clocks) -> int:
    """The latest of these times that the server's clock has reached; 0 where there is none."""
    return max((time for time in times if time <= clocks.latest), default=0)


def taken_back(mark: int, read: int, clocks: Clocks) -> int:
    """Where to read on from a mark that was reached at `read` by our clock: the mark itself, unless the server's clock
    was set back since. Then it is what the server's clock, as it goes now, would have shown at `read`.
    """
    then = clocks.server - max(0, clocks.ours - read)
    return mark if mark <= then + SLACK_MS else then


class Early:
    """The rows that are dated beyond the server's clock, so that each is counted once. Lost at a restart."""

    def __init__(self) -> None:
        self._dated: dict[str, int] = {}

    def count(self, rows: Iterable[tuple[str, int]], clocks: Clocks) -> tuple[Skip, ...]:
        """A skip for each of these rows (what it is, its time) that is new here."""
        early = {what: time for what, time in rows if time > clocks.latest + SLACK_MS}
        fresh = [what for what in early if what not in self._dated]
        kept = {what: time for what, time in self._dated.items() if time > clocks.server}
        self._dated = dict(list((kept | early).items())[-MOST_EARLY:])
        return tuple(Skip(SkipKind.FUTURE, what, _cause(early[what], clocks)) for what in fresh)

    def knows(self, what: str, time: int) -> bool:
        """Whether the row was counted with this time."""
        return self._dated.get(what) == time


def _cause(time: int, clocks: Clocks) -> str:
    dated, clock = (from_ms(ms).isoformat(timespec="seconds") for ms in (time, clocks.server))
    return f"dated {dated} when the server's clock showed {clock}: it is taken in, but nothing is marked as read by it"
