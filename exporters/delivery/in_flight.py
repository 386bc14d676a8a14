"""The events of one sink's lanes that this process has in memory: never more than one of a strand."""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from collector.model import Outgoing


@dataclass(frozen=True, slots=True)
class Held:
    """An event that the sink has in flight without an answer; the sink is asked again at `ask_at` (monotonic)."""

    item: Outgoing
    ask_at: float


class InFlight:
    """An event is claimed, sent, answered (or held and looked up) and settled in the ledger; until then its strand is taken."""

    def __init__(self) -> None:
        self._claimed: deque[Outgoing] = deque()
        self._held: dict[int, Held] = {}
        self._asks: dict[int, int] = {}
        self._sent: set[int] = set()
        self._strands: dict[int, int] = {}  # with the event's commit time, 0 if reserved
        self._barred: set[int] = set()

    @property
    def empty(self) -> bool:
        return not self._strands

    @property
    def waiting(self) -> int:
        """Claimed and not sent yet."""
        return len(self._claimed)

    @property
    def at_sink(self) -> int:
        """Sent or held: these count for the sink's capacity."""
        return len(self._sent) + len(self._held)

    @property
    def unsettled(self) -> int:
        """Answered and not settled yet."""
        return len(self._strands) - self.waiting - self.at_sink

    @property
    def oldest(self) -> int:
        """The earliest commit time of what is in memory, 0 if it is not known."""
        return min(self._strands.values(), default=0)

    def begin_claim(self) -> Collection[int]:
        """A claim starts to read. Returns the strands that are taken: what it finds of them may be out of date by `claimed`."""
        self._barred = set(self._strands)
        return tuple(self._barred)

    def claimed(self, heads: Iterable[Outgoing]) -> bool:
        """Add the heads that the claim found, except of strands that were taken meanwhile; True if any were added."""
        free = [item for item in heads if item.strand_id not in self._barred]
        self._claimed.extend(free)
        self._strands.update((item.strand_id, item.committed_at) for item in free)
        return bool(free)

    def reserve(self, strand: int) -> bool:
        """Send nothing of a strand, as its lane is about to be changed. False while its event is at the sink."""
        if strand in self._strands:
            unsent = [item for item in self._claimed if item.strand_id == strand]
            if not unsent:
                return False
            self._claimed.remove(unsent[0])
        self._strands[strand] = 0
        self._barred.add(strand)
        return True

    def release(self, strand: int) -> None:
        self._strands.pop(strand, None)

    def put_back(self) -> None:
        """Forget what was claimed and not sent; it stays in the ledger."""
        self.settled(self._claimed)
        self._claimed.clear()

    def send(self, most: int) -> list[Outgoing]:
        """Mark up to `most` claimed events, oldest first, as sent and return them."""
        batch = [self._claimed.popleft() for _ in range(min(most, len(self._claimed)))]
        self._sent.update(item.strand_id for item in batch)
        return batch

    def ask(self, now: float) -> list[Outgoing]:
        """The held events about which the sink is due to be asked."""
        return self._ask([held for held in self._held.values() if held.ask_at <= now])

    def ask_one(self) -> list[Outgoing]:
        """The held event that is due first, even before its time; empty without any."""
        return self._ask(sorted(self._held.values(), key=lambda held: held.ask_at)[:1])

    def _ask(self, chosen: list[Held]) -> list[Outgoing]:
        for held in chosen:
            del self._held[held.item.strand_id]
            self._sent.add(held.item.strand_id)
        return [held.item for held in chosen]

    def next_ask(self) -> float | None:
        return min((held.ask_at for held in self._held.values()), default=None)

    def asks(self, item: Outgoing) -> int:
        """How often the sink was asked about this event and still had it in flight."""
        return self._asks.get(item.strand_id, 0)

    def hold(self, item: Outgoing, ask_at: float) -> None:
        self._sent.discard(item.strand_id)
        self._asks[item.strand_id] = self.asks(item) + 1
        self._held[item.strand_id] = Held(item, ask_at)

    def answered(self, item: Outgoing) -> None:
        """The event has an outcome, or delivery no longer waits for one."""
        self._sent.discard(item.strand_id)
        self._held.pop(item.strand_id, None)
        self._asks.pop(item.strand_id, None)

    def settled(self, items: Iterable[Outgoing]) -> None:
        for item in items:
            self._strands.pop(item.strand_id, None)

    def held(self) -> list[Outgoing]:
        return [held.item for held in self._held.values()]
