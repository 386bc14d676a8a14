"""The health of one shard of a sink: its circuit, what is wrong, its last success. Each change is logged and reported once."""

import logging
from collections.abc import Callable
from datetime import datetime

from collector.clock import Clock
from collector.errors import LedgerError
from collector.ledger.queries import REFUSES_AFTER
from collector.ledger.shards import WHOLE, Shard
from collector.logs import fields
from collector.redaction import redacted
from exporters.delivery import circuit as circuits
from exporters.delivery.circuit import Circuit, Random
from exporters.delivery.reports import CircuitReport, DeliveryObserver
from exporters.sinks.base import Retry

_log = logging.getLogger("lineage.delivery")

_CLOSED = Circuit()


class Health:
    """Outlives leases, so that an outage stays one outage. `changed` is called when the circuit opens or closes."""

    def __init__(
        self, sink: str, clock: Clock, random: Random, observer: DeliveryObserver, shard: Shard = WHOLE
    ) -> None:
        self._sink, self._clock, self._random, self._observer = sink, clock, random, observer
        self._shard = shard
        self._numbered = None if shard.of == 1 else shard.number
        self.circuit = _CLOSED
        self.last_success_at: datetime | None = None
        self.last_error: str | None = None
        self.failed_at: datetime | None = None
        self.came_round_at = clock.monotonic()
        self.changed: Callable[[], None] = lambda: None
        self._troubles: dict[str, str] = {}
        self._bug: str | None = None

    @property
    def trouble(self) -> str | None:
        """The problem of this process, None when there is none."""
        return next(iter(self._troubles.values()), None)

    def came_round(self) -> None:
        """The loop that must never stop made another round."""
        self.came_round_at = self._clock.monotonic()

    def forget_probe(self) -> None:
        """For a new lease: a probe under the old one will never have an outcome."""
        if self.circuit.probe is not None:
            self.circuit = circuits.undecided(self.circuit, self.circuit.probe)

    def probing(self, strand: int) -> None:
        self.circuit = circuits.probing(self.circuit, strand)

    def succeeded(self, at: datetime) -> None:
        self.last_success_at = at
        before, self.circuit = self.circuit, _CLOSED
        if before.opened_at is not None:
            self._report_closed(before, self._clock.monotonic() - before.opened_at)

    def failed(self, strand: int, retry: Retry) -> None:
        self.erred(retry.cause)
        if not retry.sink_wide:
            self.undecided(strand)
            return
        before = self.circuit
        self.circuit = circuits.failed(before, strand, retry, self._clock.monotonic(), self._random)
        if self.circuit.open and not before.open:
            self._report_opened(self.circuit)

    def erred(self, cause: str) -> None:
        """Remember why an event was not delivered."""
        self.last_error, self.failed_at = cause, self._clock.now()

    def begins_broken(self, retry: Retry) -> None:
        """The sink could not be created: its circuit is open before there is anything to send."""
        self.erred(retry.cause)
        self.circuit = circuits.opened(retry, self._clock.monotonic(), self._random)
        self._report_opened(self.circuit)

    def refusals(self, before: int, now: int) -> None:
        """How many events the sink had refused since it last took one, and has now."""
        if before < REFUSES_AFTER <= now:
            _log.error(
                "sink.refusals_begun", extra=fields(sink=self._sink, refused=now, then="see `lineage-collector parked`")
            )
        elif now < REFUSES_AFTER <= before:
            _log.warning("sink.refusals_ended", extra=fields(sink=self._sink, refused=before))

    def undecided(self, strand: int) -> None:
        self.circuit = circuits.undecided(self.circuit, strand)

    def bug(self, error: Exception) -> str:
        """Log an error that no sink should raise, with its traceback unless it repeats the last one. Returns its text."""
        cause = f"the sink failed unexpectedly: {type(error).__name__}: {redacted(str(error))}"
        if cause != self._bug:
            _log.error("sink.broken", exc_info=error, extra=fields(sink=self._sink, shard=self._numbered, cause=cause))
            self._bug = cause
        return cause

    def stuck(self, part: str, error: Exception) -> None:
        """A loop failed and tries again. The first failure in a row is logged, with a traceback unless it is the ledger's."""
        cause = redacted(str(error))
        if part not in self._troubles:
            details = fields(sink=self._sink, shard=self._numbered, part=part, cause=cause, then="tries again")
            _log.error("delivery.stuck", exc_info=None if isinstance(error, LedgerError) else error, extra=details)
        self._troubles[part] = f"{part}: {type(error).__name__}: {cause}"
        self.erred(self._troubles[part])

    def unstuck(self, part: str) -> None:
        if self._troubles.pop(part, None) is not None:
            _log.info("delivery.recovered", extra=fields(sink=self._sink, shard=self._numbered, part=part))

    def _report_opened(self, circuit: Circuit) -> None:
        probe_in = round(circuit.probe_at - self._clock.monotonic(), 1)
        _log.warning(
            "sink.interrupted",
            extra=fields(
                sink=self._sink,
                shard=self._numbered,
                cause=circuit.cause,
                failures=circuit.failures,
                next_probe_seconds=probe_in,
            ),
        )
        self._report(circuit)

    def _report_closed(self, before: Circuit, seconds: float) -> None:
        _log.warning(
            "sink.recovered",
            extra=fields(
                sink=self._sink, shard=self._numbered, outage_seconds=round(seconds, 1), failures=before.failures
            ),
        )
        self._report(before, seconds)

    def _report(self, circuit: Circuit, seconds: float | None = None) -> None:
        """That it opened, or closed after so many seconds."""
        is_open, of_shard = seconds is None, self._shard.number
        report = CircuitReport(self._sink, is_open, circuit.cause, circuit.failures, seconds or 0.0, of_shard)
        self._observer.circuit(report)
        self.changed()
