"""What follows from a failure, as pure decisions: when an event is tried again, when the circuit of a sink opens.

Not stamina: it waits inside of one call, and these waits are rows of the ledger, which outlive the process.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from exporters.sinks.base import Retry

Random = Callable[[], float]
"""A number from 0 up to 1."""

OPENS_AFTER = 5
_RETRY = (1.0, 60.0)
_SLOW = (60.0, 300.0)
_PROBE = (1.0, 15.0)
_ASK = (0.25, 5.0)
_OWN = (0.5, 10.0)
_AFTER = (timedelta(seconds=1), timedelta(minutes=15))
_SPREAD = 1.0


@dataclass(frozen=True, slots=True)
class Circuit:
    """How a sink as a whole is doing. Closed: events flow. Open: nothing is sent but one probe at a time.

    `failures` are sink-wide ones since the last success, `cause` the latest of them. `probe_at` is monotonic seconds;
    `probe` names the strand whose event or doubt is the probe under way.
    """

    failures: int = 0
    cause: str | None = None
    opened_at: float | None = None
    probe_at: float = 0.0
    probe: int | None = None
    failed_probes: int = 0

    @property
    def open(self) -> bool:
        return self.opened_at is not None

    def admits_probe(self, now: float) -> bool:
        return self.open and self.probe is None and now >= self.probe_at


def probing(circuit: Circuit, strand: int) -> Circuit:
    return replace(circuit, probe=strand)


def failed(circuit: Circuit, strand: int, retry: Retry, now: float, random: Random) -> Circuit:
    """After a failure of the sink as a whole. The fifth in a row opens the circuit; only the failure of
    the probe, or a longer wait that the sink asks for, moves the next probe.
    """
    counted = replace(circuit, failures=circuit.failures + 1, cause=retry.cause)
    if not circuit.open and counted.failures < OPENS_AFTER:
        return counted
    probe_at = now + _probe_delay(retry, circuit.failed_probes, random)
    if not circuit.open:
        return replace(counted, opened_at=now, probe_at=probe_at)
    if circuit.probe == strand:
        return replace(counted, probe=None, probe_at=probe_at, failed_probes=circuit.failed_probes + 1)
    return replace(counted, probe_at=max(circuit.probe_at, probe_at)) if retry.after else counted


def opened(retry: Retry, now: float, random: Random) -> Circuit:
    """The circuit of a sink that could not be created."""
    return Circuit(failures=1, cause=retry.cause, opened_at=now, probe_at=now + _probe_delay(retry, 0, random))


def undecided(circuit: Circuit, strand: int) -> Circuit:
    """After an outcome that does not concern the sink as a whole: another probe may start at once."""
    return replace(circuit, probe=None) if circuit.probe == strand else circuit


def retry_delay(circuit: Circuit, retry: Retry, attempts: int, now: float, random: Random) -> float:
    """Seconds until an event that failed `attempts` times before may be tried again. While the circuit is open, the event
    is due right after the next probe, so that it does not wait for minutes once the sink works again.
    """
    if circuit.open and retry.sink_wide:
        return max(0.0, circuit.probe_at - now) + random() * _SPREAD
    if retry.after is not None:
        return _obeyed(retry.after, random)
    if retry.slow:
        return _slow(attempts, random)
    return random() * _grown(_RETRY, attempts)


def ask_delay(retry: Retry, asks: int, random: Random) -> float:
    """Seconds until a sink is asked again about an event that it has in flight."""
    if retry.after is not None:
        return min(retry.after, _AFTER[1]).total_seconds()
    return _half_to_whole(_grown(_ASK, asks), random)


def pause_after(failures: int, random: Random) -> float:
    """Seconds that a loop of this process waits after `failures` failures in a row."""
    return _half_to_whole(_grown(_OWN, failures), random)


def _probe_delay(retry: Retry, probes: int, random: Random) -> float:
    if retry.after is not None:
        return _obeyed(retry.after, random)
    return _slow(probes, random) if retry.slow else _half_to_whole(_grown(_PROBE, probes), random)


def _slow(attempts: int, random: Random) -> float:
    least, most = _SLOW
    return least + random() * (min(most, least * 2.0 ** (min(attempts, 10) + 1)) - least)


def _obeyed(after: timedelta, random: Random) -> float:
    least, most = _AFTER
    return min(max(after, least), most).total_seconds() * (1 + random() / 10)


def _grown(bounds: tuple[float, float], attempts: int) -> float:
    base, cap = bounds
    return min(cap, base * 2.0 ** min(attempts, 30))


def _half_to_whole(seconds: float, random: Random) -> float:
    return seconds * (1 + random()) / 2
