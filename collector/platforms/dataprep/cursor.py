"""What a walk leaves for the next one, as the text that the ledger keeps."""

from dataclasses import dataclass, replace

import orjson

from collector.platforms.watermark import Clocks, taken_back


@dataclass(frozen=True, slots=True)
class Cursor:
    """Epoch milliseconds: `since` is the platform's last change that was read, `reached` when we read it, `swept` our
    last look at all that is in flight, `first` where the very first look began. `settled` says that what came late beside that change has been looked for.
    """

    since: int
    reached: int = 0
    swept: int = 0
    first: int = 0
    settled: bool = False

    def text(self) -> str:
        return orjson.dumps({"v": 1, **{name: getattr(self, name) for name in self.__slots__}}).decode()

    def as_of(self, clocks: Clocks) -> "Cursor":
        """Taken back where the platform's clock was set back since, or where an older version let it run ahead."""
        kept = replace(self, swept=min(self.swept, clocks.ours))
        since = taken_back(self.since, self.reached or clocks.ours, clocks)
        return kept if since == self.since else replace(kept, since=since, first=min(self.first, since), settled=False)

    def moved(self, since: int, began: int, clocks: Clocks) -> "Cursor":
        """After a walk that began at `began` and read all up to `since`. It began too late where its answers show that the
        platform's clock was set back: what it left out comes next.
        """
        if (back := self.as_of(clocks)).since < self.since:
            return back
        if since <= self.since:
            return replace(self, reached=min(self.reached, began))
        return replace(self, since=since, reached=began, settled=False)

    def back(self, far: int) -> int:
        """So far before the last change, but not before the first look."""
        return max(self.since - far, self.first)

    def looked_back(self, far: int, now: int) -> "Cursor":
        """After a whole walk that looked back `far`: once that long has passed since the change, nothing is to come."""
        return replace(self, settled=self.settled or now - self.reached >= far)


def read(text: str | None) -> Cursor | None:
    """None for no cursor and for one that cannot be used: then the look-back begins again."""
    if text is None:
        return None
    try:
        found = orjson.loads(text)
        times = {name: int(found.get(name, 0)) for name in ("reached", "swept", "first")}
        return Cursor(int(found["since"]), settled=found.get("settled") is True, **times)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
