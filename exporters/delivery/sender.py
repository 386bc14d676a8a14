"""Sends events to a sink, several batches at once, and processes each outcome as it comes."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from collector.clock import to_ms
from collector.faultpoints import Point, passing
from collector.ledger.held_lease import RENEW_AGAIN, HeldLease
from collector.logs import fields
from collector.model import Outgoing
from collector.redaction import redacted
from exporters.delivery.circuit import ask_delay, retry_delay
from exporters.delivery.context import SinkContext
from exporters.delivery.health import Health
from exporters.delivery.in_flight import InFlight
from exporters.delivery.reports import SendReport, SendResult
from exporters.delivery.settler import Verdict
from exporters.delivery.wakeup import Wakeup
from exporters.sinks.base import Delivered, Outcome, Park, Retry, batch_of

_log = logging.getLogger("lineage.delivery")

STOPPED = Retry("this process stopped before an answer came", unanswered=True, sink_wide=False)
_FORGOTTEN = Retry("the sink gave no outcome for this event", unanswered=True)
_OVERDUE = 30.0
"""Seconds beyond the sink's longest attempt after which a batch is cancelled."""
_CANCEL_WITHIN = 1.0


@dataclass(slots=True, eq=False)
class _Attempt:
    """A batch at the sink: the events without an outcome, and the outcome `lost` that they get if none comes."""

    started: float
    waiting: dict[int, Outgoing]
    lost: Retry = _FORGOTTEN


class Sender:
    def __init__(
        self,
        wakeup: Wakeup,
        context: SinkContext,
        in_flight: InFlight,
        health: Health,
        held_lease: HeldLease,
        *,
        verdict: Callable[[Verdict], None],
        drained: Callable[[], None],
    ) -> None:
        """`verdict` is called with each final outcome of an attempt, `drained` when claimed events were sent."""
        self._context, self._in_flight, self._health, self._held_lease = context, in_flight, health, held_lease
        self._verdict, self._drained = verdict, drained
        self.wakeup = wakeup
        self._attempts: dict[asyncio.Task[None], _Attempt] = {}
        self._batch = batch_of(context.sink)
        self._suspects: set[int] = set()
        """Strands whose event was in a batch that broke the sink: each is sent alone, so that one cannot fail many."""

    async def step(self) -> None:
        self._cancel_overdue()
        if self._held_lease.covers(self._context.attempt_seconds):
            self._dispatch()
            await self.wakeup.wait(self._patience())
        else:
            await self.wakeup.wait(RENEW_AGAIN)  # a renewal wakes no task

    async def cancel(self) -> None:
        """Stop waiting for outcomes; the events become unanswered retries. Does not wait for a sink that ignores this."""
        tasks = list(self._attempts)
        for task in tasks:
            self._give_up(task, STOPPED)
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_WITHIN)

    def _dispatch(self) -> None:
        now, circuit = self._context.clock.monotonic(), self._health.circuit
        if not circuit.open:
            self._start(self._in_flight.ask(now))
            while batch := self._in_flight.send(self._room()):
                self._start(batch)
                self._drained()
        elif circuit.admits_probe(now) and (probe := self._in_flight.ask_one() or self._in_flight.send(1)):
            self._health.probing(probe[0].strand_id)
            self._start(probe)

    def _room(self) -> int:
        """How many events may be sent in one call now. Batches wait until a request ends, and then share the next one."""
        left = self._context.sink.capacity - self._in_flight.at_sink
        if self._batch is None:
            return left
        return min(left, self._batch) if len(self._attempts) * self._batch < self._context.sink.capacity else 0

    def _start(self, items: Sequence[Outgoing]) -> None:
        for item in items:
            if item.fault is not None:
                self._process(item, Park(item.fault), self._context.clock.monotonic())
        self._send_off([item for item in items if item.fault is None])

    def _send_off(self, items: Sequence[Outgoing]) -> None:
        together = [item for item in items if item.strand_id not in self._suspects]
        alone = [[item] for item in items if item.strand_id in self._suspects]
        for batch in [together, *alone] if together else alone:
            attempt = _Attempt(self._context.clock.monotonic(), {item.strand_id: item for item in batch})
            task = asyncio.create_task(self._send(batch, attempt), name=f"send:{self._context.name}")
            self._attempts[task] = attempt
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Also for tasks that were cancelled before they began. A broken batch is one failure of the sink, whatever its size."""
        attempt = self._attempts.pop(task)
        for number, item in enumerate(attempt.waiting.values()):
            self._process(item, replace(attempt.lost, sink_wide=attempt.lost.sink_wide and not number), attempt.started)
        self.wakeup.set()

    def _give_up(self, task: asyncio.Task[None], why: Retry) -> None:
        self._attempts[task].lost = why
        task.cancel()

    def _cancel_overdue(self) -> None:
        limit = self._context.attempt_seconds + _OVERDUE
        for task, attempt in self._attempts.items():
            if self._context.clock.monotonic() - attempt.started >= limit:
                self._give_up(task, Retry(f"no outcome within {limit:.0f} s", unanswered=True))

    def _patience(self) -> float | None:
        """Seconds until there may be something to do without a wake-up."""
        now, circuit = self._context.clock.monotonic(), self._health.circuit
        times = [attempt.started + self._context.attempt_seconds + _OVERDUE for attempt in self._attempts.values()][:1]
        if circuit.open:
            times += [circuit.probe_at] if circuit.probe is None and circuit.probe_at > now else []
        elif (ask_at := self._in_flight.next_ask()) is not None:
            times.append(ask_at)
        return max(0.001, min(times) - now) if times else None

    async def _send(self, batch: Sequence[Outgoing], attempt: _Attempt) -> None:
        passing(Point.BEFORE_SEND)
        try:
            async for item, outcome in self._context.sink.send(batch):
                if attempt.waiting.pop(item.strand_id, None) is not None:
                    self._process(item, _redacted(outcome), attempt.started)
        except Exception as error:  # noqa: BLE001 - the boundary of this task: a bug in a sink loses and blocks nothing
            attempt.lost = replace(_FORGOTTEN, cause=self._health.bug(error))
            self._suspects.update(attempt.waiting)

    def _process(self, item: Outgoing, outcome: Outcome, started: float) -> None:
        at = self._context.clock.now()
        self._judge(item, outcome, at)
        now = self._context.clock.monotonic()
        self._report(item, outcome, now - started, at)
        if isinstance(outcome, Retry) and outcome.in_flight:
            delay = ask_delay(outcome, self._in_flight.asks(item), self._context.random)
            self._in_flight.hold(item, now + delay)
        else:
            self._in_flight.answered(item)
            self._verdict(Verdict(item, outcome, self._due_ms(item, outcome, now)))
        self.wakeup.set()

    def _judge(self, item: Outgoing, outcome: Outcome, at: datetime) -> None:
        match outcome:
            case Delivered():
                self._suspects.discard(item.strand_id)
                self._health.succeeded(at)
            case Retry():
                self._health.failed(item.strand_id, outcome)
            case Park():
                self._suspects.discard(item.strand_id)
                self._health.undecided(item.strand_id)
                self._log_parked(item, outcome.cause)

    def _due_ms(self, item: Outgoing, outcome: Outcome, now: float) -> int:
        if not isinstance(outcome, Retry):
            return 0
        delay = retry_delay(self._health.circuit, outcome, item.attempts, now, self._context.random)
        return self._context.time.now_ms() + int(delay * 1000)

    def _report(self, item: Outgoing, outcome: Outcome, seconds: float, at: datetime) -> None:
        result = _result(outcome)
        if result is SendResult.OK:
            now_ms = to_ms(at)
            fresh, late = max(0, now_ms - item.happened_at) / 1000, max(0, now_ms - item.committed_at) / 1000
            report = SendReport(
                self._context.name, item.source_id, item.kind, result, seconds, fresh, late, item.run_id
            )
        else:
            report = SendReport(self._context.name, item.source_id, item.kind, result, seconds)
        self._context.observer.sent(report)
        if _log.isEnabledFor(logging.DEBUG):
            cause = None if isinstance(outcome, Delivered) else outcome.cause
            _log.debug(f"event.{result.value}", extra=self._about(item, cause=cause))

    def _log_parked(self, item: Outgoing, cause: str) -> None:
        _log.warning(
            "event.parked",
            extra=self._about(item, cause=cause, then="the ledger keeps it; see `lineage-collector parked`"),
        )

    def _about(self, item: Outgoing, **more: str | None) -> dict[str, Any]:
        return fields(
            sink=self._context.name, run_id=item.run_id, type=item.kind.value, attempt=item.attempts + 1, **more
        )


def _redacted(outcome: Outcome) -> Outcome:
    """The outcome without secrets, which the target may have repeated: causes are stored and shown."""
    return outcome if isinstance(outcome, Delivered) else replace(outcome, cause=redacted(outcome.cause))


def _result(outcome: Outcome) -> SendResult:
    match outcome:
        case Delivered():
            return SendResult.OK
        case Park():
            return SendResult.PARKED
        case Retry():
            return SendResult.IN_FLIGHT if outcome.in_flight else SendResult.RETRY
