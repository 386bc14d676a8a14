"""What a walk leaves for the next one, as the text that the ledger keeps."""

from dataclasses import dataclass, replace

import orjson


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

    def moved(self, since: int, now: int) -> "Cursor":
        if since <= self.since:
            return replace(self, reached=min(self.reached, now))
        return replace(self, since=since, reached=now, settled=False)

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
