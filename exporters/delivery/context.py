"""What all loops of one sink share."""

from dataclasses import dataclass, field

from collector.clock import Clock
from collector.ledger.port import Ledger
from collector.ledger.shards import WHOLE, Shard
from exporters.delivery.circuit import Random
from exporters.delivery.reports import DeliveryObserver
from exporters.sinks.base import Sink


class LedgerTime:
    """Epoch milliseconds by the wall clock that never go back: a lane that was due stays due when the clock is set back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last, self._at = clock.now().timestamp(), clock.monotonic()

    def now_ms(self) -> int:
        at = self._clock.monotonic()
        self._last = max(self._clock.now().timestamp(), self._last + at - self._at)
        self._at = at
        return int(self._last * 1000)


@dataclass(frozen=True, slots=True)
class SinkContext:
    """One shard of a sink, as the ledger and the configuration know it, and what its delivery works with."""

    name: str
    sink_id: int
    sink: Sink
    store: Ledger
    clock: Clock
    random: Random
    observer: DeliveryObserver
    shard: Shard = WHOLE
    time: LedgerTime = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", LedgerTime(self.clock))

    @property
    def attempt_seconds(self) -> float:
        """No single attempt takes longer."""
        return self.sink.longest_attempt.total_seconds()
