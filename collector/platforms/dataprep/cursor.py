"""What a walk leaves for the next one, as the text that the ledger keeps."""

from dataclasses import dataclass, replace

import orjson


@dataclass(frozen=True, slots=True)
class Cursor:
    """Epoch milliseconds: the platform's last change that was read, and our last look at all that is in flight."""

    since: int
    swept: int = 0

    def text(self) -> str:
        return orjson.dumps({"v": 1, "since": self.since, "swept": self.swept}).decode()

    def moved(self, since: int) -> "Cursor":
        return replace(self, since=max(self.since, since))


def read(text: str | None) -> Cursor | None:
    """None for no cursor and for one that cannot be used: then the look-back begins again."""
    if text is None:
        return None
    try:
        found = orjson.loads(text)
        return Cursor(int(found["since"]), int(found.get("swept", 0)))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
