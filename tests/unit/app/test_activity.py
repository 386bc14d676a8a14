"""The record of what sources and sinks do: counted by minute, written now and then, kept while the ledger is away."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from collector.app.activity import ActivityRecord
from collector.clock import to_ms
from collector.errors import LedgerError
from collector.ledger.activity import KEPT_MS, MINUTE_MS, Activity
from collector.ledger.port import Ledger
from collector.model import EventKind
from collector.reports import EventReport, LoadReport, PollReport, PollResult, RequestReport
from collector.testing.clock import SimulatedClock
from exporters.delivery.reports import SendReport, SendResult


class Written:
    """A ledger that keeps what is written, and is away on demand."""

    def __init__(self) -> None:
        self.minutes: list[dict[tuple[str, int], Activity]] = []
        self.is_away = False
        self.meanwhile: Callable[[], None] = lambda: None

    async def write(self, fn: Callable[..., Any], minutes: dict[tuple[str, int], Activity]) -> None:
        self.meanwhile()
        if self.is_away:
            raise LedgerError("away")
        self.minutes.append(minutes)


def record() -> tuple[ActivityRecord, Written, SimulatedClock]:
    written, clock = Written(), SimulatedClock()
    return ActivityRecord(cast(Ledger, written), clock), written, clock


async def test_polls_requests_and_events_of_a_source_are_counted() -> None:
    made, written, clock = record()
    since = to_ms(clock.now()) // MINUTE_MS * MINUTE_MS
    for result, seconds in ((PollResult.OK, 0.2), (PollResult.AUTH, 1.5)):
        made.polled(PollReport("a", result, seconds, clock.now(), 30.0))
    made.requested(RequestReport("a", 200, 0.1, remaining=8))
    made.requested(RequestReport("a", 429, 0.1, remaining=7))
    made.requested(RequestReport("a", None, 0.1))
    made.planned(LoadReport("a", 5, 12.4, 60, 5.0))
    made.committed(EventReport("a", EventKind.START, "job"))
    await made.write()
    await made.write()
    expected = Activity(1, 1, 1700, 1500, 1, 0, 3, 1, remaining=7, needed=12, allowed=60)
    assert written.minutes == [{("source:a", since): expected}], "and nothing is written while nothing happens"


async def test_outcomes_of_a_sink_are_counted() -> None:
    made, written, clock = record()
    since = to_ms(clock.now()) // MINUTE_MS * MINUTE_MS
    made.sent(SendReport("s", 1, EventKind.START, SendResult.IN_FLIGHT, 0.1))
    made.sent(SendReport("s", 1, EventKind.START, SendResult.OK, 0.1, latency=0.25))
    made.sent(SendReport("s", 1, EventKind.START, SendResult.RETRY, 0.1))
    made.sent(SendReport("s", 1, EventKind.START, SendResult.PARKED, 0.1))
    await made.write()
    assert written.minutes == [{("sink:s", since): Activity(1, 1, 250, 250, 0, 1)}]


async def test_what_the_ledger_did_not_take_is_written_later() -> None:
    made, written, clock = record()
    poll = PollReport("a", PollResult.OK, 0.1, clock.now(), 30.0)
    since = to_ms(clock.now()) // MINUTE_MS * MINUTE_MS
    made.polled(poll)
    written.is_away = True
    await made.write()
    made.polled(poll)
    written.is_away = False
    await made.write()
    assert written.minutes == [{("source:a", since): Activity(2, 0, 200, 100)}]
    made.polled(poll)
    written.is_away = True
    await clock.sleep(KEPT_MS / 1000 + 60)
    await made.write()
    written.is_away = False
    await made.write()
    assert len(written.minutes) == 1, "what is too old for the pages is not kept"


async def test_what_was_counted_while_a_write_failed_is_newer(caplog: pytest.LogCaptureFixture) -> None:
    made, written, clock = record()
    since = to_ms(clock.now()) // MINUTE_MS * MINUTE_MS
    made.requested(RequestReport("a", 200, 0.1, remaining=8))
    written.is_away, written.meanwhile = True, lambda: made.requested(RequestReport("a", 200, 0.1, remaining=5))
    await made.write()
    written.is_away, written.meanwhile = False, lambda: None
    await made.write()
    assert written.minutes == [{("source:a", since): Activity(requests=2, remaining=5)}]
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [("WARNING", "activity.unwritten")]
