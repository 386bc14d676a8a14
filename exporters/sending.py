"""Handing events to a sink, several batches at once, and taking in each outcome as it comes."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any

import orjson

from collector.clock import to_ms
from collector.faultpoints import Point, passing
from collector.logs import fields
from collector.model import Outgoing
from exporters.bell import Bell
from exporters.circuit import ask_delay, retry_delay
from exporters.feed import Feed
from exporters.flight import Flight
from exporters.health import Health
from exporters.reports import SendReport, SendResult
from exporters.settling import Verdict
from exporters.sink import Delivered, Outcome, Park, Retry
from exporters.tenure import Tenure

_log = logging.getLogger("lineage.delivery")

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
STOPPED = Retry("this process stopped before an answer came", unanswered=True, sink_wide=False)
_OVERDUE = 30.0
"""Seconds beyond its longest attempt after which a sink is taken to hang."""


class Sending:
    def __init__(
        self,
        bell: Bell,
        feed: Feed,
        flight: Flight,
        health: Health,
        tenure: Tenure,
        *,
        spawn: Spawn,
        verdict: Callable[[Verdict], None],
        drained: Callable[[], None],
    ) -> None:
        """`verdict` is told each final outcome of an attempt, `drained` that claimed events went out."""
        self._feed, self._flight, self._health, self._tenure = feed, flight, health, tenure
        self._spawn, self._verdict, self._drained = spawn, verdict, drained
        self.bell = bell
        self._tasks: dict[asyncio.Task[None], float] = {}
        self._suspects: set[int] = set()
        """Strands whose event was in a batch that broke the sink: they go alone, so that one cannot fail many."""

    async def step(self) -> None:
        self._cancel_overdue()
        if self._tenure.covers(self._feed.attempt_seconds):
            self._dispatch()
        await self.bell.wait(self._patience())

    async def cancel(self) -> None:
        """Stop waiting for outcomes; the events become unanswered retries."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel(STOPPED)
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def _dispatch(self) -> None:
        now, circuit = self._feed.clock.monotonic(), self._health.circuit
        if not circuit.open:
            self._start(self._flight.ask(now))
            if batch := self._flight.send(self._feed.sink.capacity - self._flight.at_sink):
                self._start(batch)
                self._drained()
        elif circuit.admits_probe(now) and (probe := self._flight.ask_one() or self._flight.send(1)):
            self._health.probing(probe[0].strand_id)
            self._start(probe)

    def _start(self, items: Sequence[Outgoing]) -> None:
        together = [item for item in items if item.strand_id not in self._suspects]
        alone = [[item] for item in items if item.strand_id in self._suspects]
        for batch in [together, *alone] if together else alone:
            task = self._spawn(self._send(batch))
            self._tasks[task] = self._feed.clock.monotonic()
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self.bell.ring()

    def _cancel_overdue(self) -> None:
        limit = self._feed.attempt_seconds + _OVERDUE
        for task, started in self._tasks.items():
            if self._feed.clock.monotonic() - started >= limit:
                task.cancel(Retry(f"no outcome within {limit:.0f} s", unanswered=True))

    def _patience(self) -> float | None:
        """Seconds until there may be something to do without a ring."""
        now, circuit = self._feed.clock.monotonic(), self._health.circuit
        times = [started + self._feed.attempt_seconds + _OVERDUE for started in self._tasks.values()][:1]
        if circuit.open:
            times += [circuit.probe_at] if circuit.probe is None and circuit.probe_at > now else []
        elif (ask_at := self._flight.next_ask()) is not None:
            times.append(ask_at)
        return max(0.001, min(times) - now) if times else None

    async def _send(self, batch: Sequence[Outgoing]) -> None:
        started = self._feed.clock.monotonic()
        waiting = {item.strand_id: item for item in batch}
        lost = Retry("the sink gave no outcome for this event", unanswered=True)
        passing(Point.BEFORE_SEND)
        try:
            async for item, outcome in self._feed.sink.send(batch):
                if waiting.pop(item.strand_id, None) is not None:
                    self._landed(item, outcome, started)
        except asyncio.CancelledError as cancelled:
            lost = next((why for why in cancelled.args if isinstance(why, Retry)), STOPPED)
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of this task: a bug in a sink loses and wedges nothing
            lost = replace(lost, cause=self._health.bug(error))
            self._suspects.update(waiting)
        finally:
            self._lose(waiting.values(), lost, started)

    def _lose(self, items: Iterable[Outgoing], lost: Retry, started: float) -> None:
        """One broken batch counts as one failure of the sink, however many events were in it."""
        for number, item in enumerate(items):
            self._landed(item, replace(lost, sink_wide=lost.sink_wide and not number), started)

    def _landed(self, item: Outgoing, outcome: Outcome, started: float) -> None:
        self._judge(item, outcome)
        self._report(item, outcome, started)
        now = self._feed.clock.monotonic()
        if isinstance(outcome, Retry) and outcome.in_flight:
            delay = ask_delay(outcome, self._flight.asks(item), self._feed.random)
            self._flight.hold(item, now + delay)
        else:
            self._flight.answered(item)
            self._verdict(Verdict(item, outcome, self._due_ms(item, outcome, now)))
        self.bell.ring()

    def _judge(self, item: Outgoing, outcome: Outcome) -> None:
        match outcome:
            case Delivered():
                self._suspects.discard(item.strand_id)
                self._health.succeeded()
            case Retry():
                self._health.failed(item.strand_id, outcome)
            case Park():
                self._suspects.discard(item.strand_id)
                self._health.undecided(item.strand_id)
                self._tell_parked(item, outcome.cause)

    def _due_ms(self, item: Outgoing, outcome: Outcome, now: float) -> int:
        if not isinstance(outcome, Retry):
            return 0
        delay = retry_delay(self._health.circuit, outcome, item.attempts, now, self._feed.random)
        return self._feed.time.now_ms() + int(delay * 1000)

    def _report(self, item: Outgoing, outcome: Outcome, started: float) -> None:
        seconds = self._feed.clock.monotonic() - started
        result = _result(outcome)
        if result is SendResult.OK:
            now_ms = to_ms(self._feed.clock.now())
            fresh, late = (max(0, now_ms - ms) / 1000 for ms in (item.happened_at, item.committed_at))
            report = SendReport(self._feed.name, item.source_id, item.kind, result, seconds, fresh, late)
        else:
            report = SendReport(self._feed.name, item.source_id, item.kind, result, seconds)
        self._feed.observer.sent(report)
        if _log.isEnabledFor(logging.DEBUG):
            cause = None if isinstance(outcome, Delivered) else outcome.cause
            _log.debug(f"event.{result.value}", extra=self._about(item, cause=cause))

    def _tell_parked(self, item: Outgoing, cause: str) -> None:
        _log.warning("event.parked", extra=self._about(item, cause=cause, then="kept; see `lineage-collector parked`"))

    def _about(self, item: Outgoing, **more: str | None) -> dict[str, Any]:
        return fields(
            sink=self._feed.name, run_id=run_uuid(item), type=item.kind.value, attempt=item.attempts + 1, **more
        )


def run_uuid(item: Outgoing) -> str | None:
    """The run's UUID as its event has it, for logs; None where the event cannot be read."""
    try:
        return str(orjson.loads(item.body)["run"]["runId"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def _result(outcome: Outcome) -> SendResult:
    match outcome:
        case Delivered():
            return SendResult.OK
        case Park():
            return SendResult.PARKED
        case Retry():
            return SendResult.IN_FLIGHT if outcome.in_flight else SendResult.RETRY
