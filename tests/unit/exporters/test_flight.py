"""What is held in memory: never two events of a strand, and no head older than what landed."""

from collector.model import EventKind, Outgoing
from exporters.delivery.in_flight import Flight


def head(strand: int, seq: int = 1) -> Outgoing:
    return Outgoing(strand, seq, strand, 1, EventKind.START, b"{}", 0, 0, 0)


def claim(flight: Flight, *heads: Outgoing, most: int = 100) -> bool:
    flight.begin_claim()
    return flight.claimed(heads, most)


def test_an_event_passes_through_to_its_landing() -> None:
    flight = Flight()
    assert claim(flight, head(1), head(2))
    assert (flight.waiting, flight.at_sink, flight.unsettled) == (2, 0, 0)
    assert flight.send(1) == [head(1)]
    assert (flight.waiting, flight.at_sink, flight.unsettled) == (1, 1, 0)
    flight.answered(head(1))
    assert (flight.waiting, flight.at_sink, flight.unsettled) == (1, 0, 1)
    flight.landed([head(1)])
    assert (flight.waiting, flight.at_sink, flight.unsettled) == (1, 0, 0)
    flight.put_back()
    assert flight.empty


def test_a_strand_is_taken_until_its_event_landed() -> None:
    flight = Flight()
    claim(flight, head(1))
    assert not claim(flight, head(1))
    flight.send(1)
    assert not claim(flight, head(1))
    flight.answered(head(1))
    assert not claim(flight, head(1))
    flight.landed([head(1)])
    assert claim(flight, head(1, seq=2))


def test_a_claim_that_began_before_a_landing_brings_no_old_head() -> None:
    flight = Flight()
    claim(flight, head(1))
    flight.send(1)
    assert flight.begin_claim() == 1
    flight.answered(head(1))
    flight.landed([head(1)])
    assert not flight.claimed([head(1)], 10)
    assert flight.empty


def test_no_more_than_asked_for_is_taken_in() -> None:
    flight = Flight()
    claim(flight, *map(head, range(10)), most=3)
    assert flight.waiting == 3
    assert flight.send(10) == [head(0), head(1), head(2)]


def test_a_held_event_is_asked_for_when_its_time_has_come() -> None:
    flight = Flight()
    claim(flight, head(1), head(2))
    flight.send(2)
    flight.hold(head(1), ask_at=5.0)
    flight.hold(head(2), ask_at=3.0)
    assert flight.at_sink == 2
    assert flight.next_ask() == 3.0
    assert flight.ask(2.9) == []
    assert flight.ask(3.0) == [head(2)]
    assert flight.ask(3.0) == []
    assert (flight.asks(head(2)), flight.at_sink) == (1, 2)


def test_probes_take_the_held_events_in_turn() -> None:
    flight = Flight()
    claim(flight, head(1), head(2))
    flight.send(2)
    flight.hold(head(1), ask_at=5.0)
    flight.hold(head(2), ask_at=6.0)
    assert flight.ask_one() == [head(1)]
    flight.hold(head(1), ask_at=7.0)
    assert flight.ask_one() == [head(2)]
    flight.answered(head(2))
    assert flight.held() == [head(1)]


def test_a_strand_can_be_reserved_unless_its_event_is_out() -> None:
    flight = Flight()
    claim(flight, head(1), head(2))
    flight.send(1)
    assert not flight.reserve(1)
    assert flight.reserve(2)
    assert flight.send(10) == []
    assert not claim(flight, head(2))
    flight.release(2)
    assert claim(flight, head(2))


def test_a_claim_under_way_brings_nothing_of_a_strand_reserved_meanwhile() -> None:
    flight = Flight()
    flight.begin_claim()
    assert flight.reserve(1)
    flight.release(1)
    assert not flight.claimed([head(1, seq=2)], 10)


def test_asks_are_counted_until_there_is_an_answer() -> None:
    flight = Flight()
    claim(flight, head(1))
    for _ in range(3):
        flight.send(1)
        flight.hold(head(1), 1.0)
    assert flight.asks(head(1)) == 3
    flight.answered(head(1))
    flight.landed([head(1)])
    claim(flight, head(1, seq=2))
    assert flight.asks(head(1, seq=2)) == 0, "the next event of the strand is asked for soon"
