"""A sink that refuses everything: counted over restarts, and ended by the first event that it takes."""

from collector.ledger import queries
from collector.ledger.claims import Refused, Settlement
from collector.ledger.queries import REFUSES_AFTER, SinkRow
from tests.unit.ledger.ledgers import START, Ledger


def row(ledger: Ledger) -> SinkRow:
    [found] = queries.sinks(ledger.conn)
    return found


def refuse(ledger: Ledger, count: int) -> None:
    for number in range(count):
        ledger.happen(f"{ledger.now}-{number}", START)
        ledger.park(cause=f"refused {number}")
    ledger.now += 1


def test_the_tenth_refusal_in_a_row_makes_the_sink_wrong(ledger: Ledger) -> None:
    refuse(ledger, REFUSES_AFTER - 1)
    assert row(ledger).refusing is None
    refuse(ledger, 1)
    assert row(ledger).refusing == "it refused the last 10 events, which are parked: refused 0"


def test_one_event_that_it_takes_ends_that(ledger: Ledger) -> None:
    refuse(ledger, REFUSES_AFTER + 2)
    ledger.happen("good", START)
    result = ledger.deliver()
    assert (result.refused_before, result.refused_now) == (REFUSES_AFTER + 2, 0)
    assert row(ledger).refusing is None
    assert row(ledger).refused_cause is None


def test_a_settlement_with_both_is_no_refusal_of_everything(ledger: Ledger) -> None:
    refuse(ledger, REFUSES_AFTER - 1)
    ledger.happen("good", START)
    ledger.happen("bad", START)
    good, bad = ledger.claim()
    ledger.settle(Settlement(delivered=(good,), parked=(Refused(bad, "no"),)))
    assert row(ledger).refused == 0


def test_events_that_are_not_valid_say_nothing_about_the_sink(ledger: Ledger) -> None:

    ledger.happen("bad", START)
    [item] = ledger.claim()
    ledger.park(item._replace(fault="it has no eventTime"))
    assert row(ledger).refused == 0
