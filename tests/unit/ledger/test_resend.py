"""Events that a sink had, or never had, are put back into its lanes."""

from collections import Counter

import pytest
from sqlalchemy import delete, select

from collector.errors import LeaseLost
from collector.ledger import acknowledged, requests, resend, retirement, schema, tallies
from collector.ledger.requests import RequestState
from collector.ledger.resend import ResendFrom, Resent, Result, Window
from tests.lease_faults import take_over
from tests.unit.ledger.ledgers import (
    ALL,
    COMPLETE,
    ENDS,
    FAIL,
    HOUR,
    OTHER,
    RUNNING,
    SECOND,
    START,
    Ledger,
    child_of,
)

ALWAYS = Window()
QUEUED, WAITING, INCOMPLETE, UNKNOWN = Resent.QUEUED, Resent.WAITING, Resent.INCOMPLETE, Resent.UNKNOWN


def again(ledger: Ledger, sink: str = "a", **keys: ResendFrom) -> Result:
    ids = dict(ledger.conn.execute(select(schema.run.c.key, schema.run.c.run_uuid)).all())
    chosen = {ids.get(key, key): begin for key, begin in keys.items()}
    return resend.runs(ledger.conn, ledger.held[sink], ledger.sinks[sink], chosen, ledger.now)


def whole(ledger: Ledger, sink: str = "a", window: Window = ALWAYS) -> Result:
    found = resend.next_strands(ledger.conn, window, 0)
    return resend.strands(ledger.conn, ledger.held[sink], ledger.sinks[sink], found.numbers, ledger.now)


def counted(ledger: Ledger, sink: str = "a") -> bool:
    """Whether the tally is what a count of the rows gives."""
    before = ledger.tally(sink), ledger.owed_bytes(sink)
    tallies.recount(ledger.conn, ledger.sinks[sink], ALL if sink == "a" else ENDS)
    return before == (ledger.tally(sink), ledger.owed_bytes(sink))


def remove(ledger: Ledger, *bodies: bytes) -> None:
    """As retention does it."""
    ledger.conn.execute(delete(schema.event).where(schema.event.c.body.in_(bodies)))


def test_a_run_is_sent_again_from_its_first_event_on(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", OTHER, START, RUNNING, COMPLETE)
    ledger.happen("other", START)
    ledger.drain()
    assert again(ledger, r=ResendFrom.START) == Result(Counter({QUEUED: 1}), 4)
    assert ledger.tally() == (4, 0)
    assert counted(ledger)
    assert ledger.drain() == ["r OTHER", "r START", "r RUNNING", "r COMPLETE"]
    assert (ledger.tally(), ledger.owed_bytes(), ledger.rows("lane")) == ((0, 0), 0, 0)


def test_only_the_end_is_sent_again(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START, COMPLETE)
    ledger.drain()
    again(ledger, r=ResendFrom.END)
    assert ledger.drain() == ["r COMPLETE"]


def test_a_sink_gets_only_what_it_takes(ledger: Ledger) -> None:
    ledger.configure(a=ALL, ends=ENDS)
    ledger.happen("r", OTHER, START, RUNNING, COMPLETE)
    ledger.drain("ends")
    assert again(ledger, "ends", r=ResendFrom.START).events == 2
    assert counted(ledger, "ends")
    assert ledger.drain("ends") == ["r START", "r COMPLETE"]


def test_a_strand_goes_on_to_its_end_whatever_run_was_chosen(ledger: Ledger) -> None:
    """Else the START of the second child, which lies between, would open that again for good."""
    ledger.configure(a=ALL)
    ledger.happen("p", START)
    ledger.happen("one", START, parent=child_of("p"))
    ledger.happen("two", START, parent=child_of("p"))
    ledger.happen("one", COMPLETE, parent=child_of("p"))
    ledger.happen("two", FAIL, parent=child_of("p"))
    ledger.happen("p", COMPLETE)
    ledger.drain()
    assert again(ledger, one=ResendFrom.START, two=ResendFrom.END).became == {QUEUED: 2}
    assert ledger.drain() == ["one START", "two START", "one COMPLETE", "two FAIL", "p COMPLETE"]


def test_a_later_event_of_the_strand_follows(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START)
    ledger.drain()
    again(ledger, r=ResendFrom.START)
    ledger.happen("r", COMPLETE)
    assert counted(ledger)
    assert ledger.drain() == ["r START", "r COMPLETE"]


def test_what_waits_is_begun_earlier_and_not_twice(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START)
    ledger.drain()
    ledger.happen("r", COMPLETE)
    assert again(ledger, r=ResendFrom.END) == Result(Counter({WAITING: 1}), 0)
    assert again(ledger, r=ResendFrom.START) == Result(Counter({QUEUED: 1}), 1)
    assert again(ledger, r=ResendFrom.START) == Result(Counter({WAITING: 1}), 0)
    assert counted(ledger)
    assert ledger.drain() == ["r START", "r COMPLETE"]


def test_what_was_refused_is_on_its_way_again(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START, COMPLETE)
    ledger.park()
    ledger.deliver()
    again(ledger, r=ResendFrom.START)
    assert (ledger.tally(), ledger.rows("parked")) == ((2, 0), 0)
    ledger.park()
    assert ledger.tally() == (1, 1)
    assert counted(ledger)


@pytest.mark.parametrize(
    ("removed", "begin", "became"),
    [
        ([b"r START"], ResendFrom.START, INCOMPLETE),
        ([b"r START"], ResendFrom.END, QUEUED),
        ([b"r COMPLETE"], ResendFrom.START, INCOMPLETE),
        ([b"r COMPLETE"], ResendFrom.END, UNKNOWN),
        ([b"r START", b"r COMPLETE"], ResendFrom.START, UNKNOWN),
    ],
)
def test_a_run_is_never_left_open_or_without_its_start(
    ledger: Ledger, removed: list[bytes], begin: ResendFrom, became: Resent
) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START, COMPLETE)
    ledger.drain()
    remove(ledger, *removed)
    assert again(ledger, r=begin).became == {became: 1}


def test_an_unknown_run_and_an_unknown_sink_are_reported(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    assert again(ledger, r=ResendFrom.START) == Result(Counter({UNKNOWN: 1}), 0)


def test_who_lost_the_lease_sends_nothing_again(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START, COMPLETE)
    ledger.drain()
    take_over(ledger.conn, "sink:a", "other", 60_000)
    with pytest.raises(LeaseLost):
        again(ledger, r=ResendFrom.START)
    with pytest.raises(LeaseLost):
        whole(ledger)


def test_what_is_new_does_not_wait_for_what_is_sent_again(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("old", START, COMPLETE)
    ledger.drain()
    ledger.now += HOUR
    ledger.happen("new", START)
    ledger.now += SECOND
    again(ledger, old=ResendFrom.START)
    assert ledger.heads() == ["new START", "old START"]
    ledger.deliver(ledger.claim()[1])
    lane = ledger.conn.execute(
        select(schema.lane.c.due_at, schema.lane.c.since).order_by(schema.lane.c.strand_id)
    ).first()
    assert lane == (ledger.now, ledger.now)
    assert ledger.heads() == ["new START", "old COMPLETE"]


def test_a_new_sink_is_filled_with_what_the_ledger_holds(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("over", START, COMPLETE)
    ledger.happen("open", START)
    ledger.happen("half", START, FAIL)
    remove(ledger, b"half START")
    ledger.configure(a=ALL, b=ALL)
    assert whole(ledger, "b") == Result(Counter({QUEUED: 1, WAITING: 1, INCOMPLETE: 1}), 2)
    assert sorted(ledger.drain("b")) == ["open START", "over COMPLETE", "over START"]
    resend.cover_all(ledger.conn, ledger.held["b"], ledger.sinks["b"])
    detail = acknowledged.sink(ledger.conn, "b")
    assert detail is not None
    assert detail.since_event == 0


def test_a_window_takes_runs_by_their_end(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    began = ledger.now
    ledger.happen("early", START, COMPLETE)
    ledger.now += HOUR
    ledger.happen("late", START, COMPLETE)
    ledger.drain()
    whole(ledger, window=Window(until_ms=ledger.now))
    assert ledger.drain() == ["early START", "early COMPLETE"]
    whole(ledger, window=Window(since_ms=began + 1))
    assert ledger.drain() == ["late START", "late COMPLETE"]
    assert (Window().is_whole, Window(1).is_whole) == (True, False)


def test_a_preview_counts_what_would_be_sent_and_writes_nothing(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("over", START, COMPLETE)
    ledger.happen("half", START, FAIL)
    ledger.drain()
    remove(ledger, b"half START")
    ledger.happen("waits", START)
    numbers = resend.next_strands(ledger.conn, ALWAYS, 0).numbers
    before = ledger.changes()
    planned = resend.preview(ledger.conn, ledger.sinks["a"], numbers)
    assert ledger.changes() == before
    assert planned == Result(Counter({QUEUED: 1, WAITING: 1, INCOMPLETE: 1}), 2)
    assert whole(ledger) == planned


def test_a_backfill_that_was_begun_does_not_expire(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    number = requests.add_backfill(ledger.conn, "sink:a", "{}", ledger.now)
    assert requests.add_backfill(ledger.conn, "sink:a", '{"since_ms": 1}', ledger.now) == number
    requests.claim(ledger.conn, ledger.held["a"], 4)
    requests.note(ledger.conn, ledger.held["a"], number, '{"seen": 1}')
    requests.take_over(ledger.conn, ledger.held["a"], ledger.now)
    unbegun = requests.add_backfill(ledger.conn, "sink:b", "{}", ledger.now)
    assert retirement.expire_requests(ledger.conn, ledger.now + 1, ledger.now) == 1
    found = requests.get(ledger.conn, number)
    assert found is not None
    assert (found.state, found.answer) == (RequestState.NEW, '{"seen": 1}')
    failed = requests.get(ledger.conn, unbegun)
    assert failed is not None
    assert failed.state is RequestState.FAILED


def test_a_look_is_short_and_the_next_goes_on_behind_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resend, "LOOKED_AT", 2)
    ledger.configure(a=ALL)
    for key in ("a", "b", "c"):
        ledger.happen(key, START)
    first = resend.next_strands(ledger.conn, Window(), 0)
    assert (len(first.numbers), first.seen) == (2, 2)
    assert first.after is not None
    rest = resend.next_strands(ledger.conn, Window(), first.after)
    assert (len(rest.numbers), rest.after) == (1, None)
    assert resend.count_runs(ledger.conn) == 3
    assert [resend.count_lanes(ledger.conn, ledger.sinks["a"], most) for most in (2, 9)] == [2, 3]
