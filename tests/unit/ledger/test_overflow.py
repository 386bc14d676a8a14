"""What a sink is owed beyond its share: parked in whole strands, the oldest first, listed, and sent again in order."""

from sqlalchemy import select

from collector.ledger import overflow, parked, schema, tallies
from collector.ledger.overflow import Overflow
from tests.unit.ledger.ledgers import ALL, COMPLETE, ENDS, RUNNING, SECOND, START, Ledger, child_of


def park(ledger: Ledger, room: int, sink: str = "a", *, rechecks: bool = False) -> Overflow:
    strands = overflow.oldest(ledger.conn, ledger.sinks[sink], 0)
    cause = "more than its share"
    return overflow.park(
        ledger.conn, ledger.held[sink], ledger.sinks[sink], strands, room, cause, ledger.now, rechecks=rechecks
    )


def retry_all(ledger: Ledger, sink: str = "a") -> None:
    listed = parked.listing(ledger.conn, 100, sink_id=ledger.sinks[sink])
    events = [(event.strand_id, event.seq) for event in listed]
    parked.retry(ledger.conn, ledger.held[sink], ledger.sinks[sink], events, ledger.now)


def counted_afresh(ledger: Ledger, sink: str = "a") -> int:
    tallies.recount(ledger.conn, ledger.sinks[sink], ALL)
    return ledger.owed_bytes(sink)


def test_the_oldest_strands_are_parked_whole_until_there_is_room(ledger: Ledger) -> None:
    for key in ("x", "y", "z"):
        ledger.happen(key, START, COMPLETE)
    size = len("x START") + len("x COMPLETE")
    assert ledger.owed_bytes() == 3 * size
    assert park(ledger, 1) == Overflow(2, size)
    assert ledger.tally() == (4, 2)
    assert ledger.owed_bytes() == counted_afresh(ledger) == 2 * size
    listed = parked.listing(ledger.conn, 10)
    assert sorted((event.run_key, event.kind, event.cause) for event in listed) == [
        ("x", COMPLETE, "more than its share"),
        ("x", START, "more than its share"),
    ]
    assert ledger.drain() == ["y START", "z START", "y COMPLETE", "z COMPLETE"]


def test_nothing_is_parked_where_nothing_is_owed_or_no_room_is_wanted(ledger: Ledger) -> None:
    assert park(ledger, 100) == Overflow(0, 0)
    ledger.happen("x", START)
    assert park(ledger, 0) == Overflow(0, 0)


def test_what_was_parked_for_room_is_sent_again_in_order(ledger: Ledger) -> None:
    ledger.happen("p", START)
    ledger.happen("c", START, COMPLETE, parent=child_of("p"))
    ledger.happen("p", COMPLETE)
    assert park(ledger, 1000).events == 4
    assert ledger.drain() == []
    retry_all(ledger)
    assert ledger.owed_bytes() == counted_afresh(ledger)
    assert ledger.drain() == ["p START", "c START", "c COMPLETE", "p COMPLETE"]
    assert ledger.tally() == (0, 0)
    assert ledger.owed_bytes() == 0


def test_what_follows_goes_on_and_supersedes_what_was_parked(ledger: Ledger) -> None:
    ledger.happen("x", START)
    park(ledger, 1000)
    ledger.happen("x", COMPLETE)
    assert ledger.drain() == ["x COMPLETE"]
    [start] = parked.listing(ledger.conn, 10)
    assert start.superseded_at is not None
    retry_all(ledger)
    assert ledger.drain() == []


def test_other_sinks_are_owed_as_before(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ENDS)
    ledger.happen("x", START, RUNNING, COMPLETE)
    assert park(ledger, 1000).events == 3
    assert ledger.drain("b") == ["x START", "x COMPLETE"]


def test_only_what_a_sink_wants_is_parked_for_it(ledger: Ledger) -> None:
    ledger.configure(a=ENDS)
    ledger.happen("x", START, RUNNING, COMPLETE)
    assert park(ledger, 1000).events == 2
    assert ledger.tally() == (0, 2)


def test_a_parked_event_on_its_way_again_is_not_parked_for_room(ledger: Ledger) -> None:
    ledger.happen("x", START)
    ledger.park()
    retry_all(ledger)
    assert park(ledger, 1000) == Overflow(0, 0)
    assert ledger.drain() == ["x START"]


def test_what_a_killed_process_may_have_sent_is_in_doubt(ledger: Ledger) -> None:
    ledger.happen("x", START)
    ledger.take_over()
    park(ledger, 1000, rechecks=True)
    assert ledger.rows("doubt") == 1


def test_of_a_family_the_run_at_the_head_is_in_doubt(ledger: Ledger) -> None:
    ledger.happen("p", START)
    ledger.happen("c", START, COMPLETE, parent=child_of("p"))
    ledger.take_over()
    park(ledger, 1000, rechecks=True)
    doubted = ledger.conn.scalars(select(schema.doubt.c.run_id)).all()
    parent = ledger.conn.scalar(select(schema.run.c.id).where(schema.run.c.key == "p"))
    assert doubted == [parent]


def test_no_more_is_parked_once_there_is_room_to_the_byte(ledger: Ledger) -> None:
    ledger.happen("x", START)
    ledger.happen("y", START)
    assert park(ledger, len("x START")) == Overflow(1, len("x START"))
    assert ledger.drain() == ["y START"]


def test_the_attempts_of_the_head_are_kept(ledger: Ledger) -> None:
    ledger.happen("x", START, COMPLETE)
    for _ in range(2):
        ledger.postpone(*ledger.claim())
        ledger.now += SECOND
    park(ledger, 1000)
    attempts = {event.kind: event.attempts for event in parked.listing(ledger.conn, 10)}
    assert attempts == {START: 2, COMPLETE: 0}


def test_a_head_is_parked_though_it_is_wanted_no_longer(ledger: Ledger) -> None:
    """It would be sent, for a choice holds from each lane's next event on."""
    ledger.happen("x", START, RUNNING, COMPLETE)
    ledger.deliver()
    ledger.configure(a=ENDS)
    assert park(ledger, 1000).events == 2
    assert {event.kind for event in parked.listing(ledger.conn, 10)} == {RUNNING, COMPLETE}
