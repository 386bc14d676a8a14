"""What a backfill for one sink alone does with each past run."""

import json

from collector.ledger import past_runs
from collector.ledger.acknowledged import SinkDetail
from collector.ledger.past_runs import Course, Scope
from collector.ledger.resend import Window
from tests.unit.ledger.ledgers import ALL, COMPLETE, START, Ledger


def test_a_run_that_is_under_way_is_left_to_the_polls(ledger: Ledger) -> None:
    """It is in the ledger, and has no event yet or one on its way."""
    ledger.configure(a=ALL)
    ledger.happen("way", START)
    ledger.commit(polled_at_ms=ledger.now)
    sink = SinkDetail(ledger.sinks["a"], ALL, 0)
    found = past_runs.courses(ledger.conn, ledger.source, sink, {"way": 0, "new": 0}, None)
    assert {key: past.course for key, past in found.items()} == {"way": Course.WAITING, "new": Course.MAKE}
    ledger.happen("way", COMPLETE)
    ledger.drain()
    assert past_runs.courses(ledger.conn, ledger.source, sink, {"way": 0}, None)["way"].course is Course.SEND
    assert past_runs.courses(ledger.conn, ledger.source, sink, {"way": 0}, ledger.now)["way"].course is Course.WAITING


def test_a_run_that_ended_lately_is_left_to_the_polls(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    sink = SinkDetail(ledger.sinks["a"], ALL, 0)
    times = {
        "old": ledger.now - past_runs.LATELY_MS,
        "late": ledger.now - past_runs.LATELY_MS + 1,
        "new": ledger.now + 1,
    }

    def found() -> dict[str, Course]:
        made = past_runs.courses(ledger.conn, ledger.source, sink, times, None)
        return {key: past.course for key, past in made.items()}

    assert set(found().values()) == {Course.RECENT}, "it was never polled"
    ledger.commit(polled_at_ms=ledger.now)
    assert found() == {"old": Course.MAKE, "late": Course.RECENT, "new": Course.RECENT}


def test_a_scope_is_read_as_it_was_written() -> None:
    for scope in (Scope(Window(1, 2)), Scope(Window(1), "a"), Scope(Window())):
        assert Scope.read(json.dumps(scope.body())) == scope
