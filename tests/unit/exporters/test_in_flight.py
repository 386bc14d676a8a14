"""What is held in memory: never two events of a strand, and no head older than what landed."""

from collector.model import EventKind, Outgoing
from exporters.delivery.in_flight import InFlight


def head(strand: int, seq: int = 1) -> Outgoing:
    return Outgoing(strand, seq, strand, "a run", 1, EventKind.START, b"{}", 0, 0, 0)


def claim(in_flight: InFlight, *heads: Outgoing) -> bool:
    in_flight.begin_claim()
    return in_flight.claimed(heads)


def test_an_event_passes_through_to_its_landing() -> None:
    in_flight = InFlight()
    assert claim(in_flight, head(1), head(2))
    assert (in_flight.waiting, in_flight.at_sink, in_flight.unsettled) == (2, 0, 0)
    assert in_flight.send(1) == [head(1)]
    assert (in_flight.waiting, in_flight.at_sink, in_flight.unsettled) == (1, 1, 0)
    in_flight.answered(head(1))
    assert (in_flight.waiting, in_flight.at_sink, in_flight.unsettled) == (1, 0, 1)
    in_flight.settled([head(1)])
    assert (in_flight.waiting, in_flight.at_sink, in_flight.unsettled) == (1, 0, 0)
    in_flight.put_back()
    assert in_flight.empty


def test_a_strand_is_taken_until_its_event_landed() -> None:
    in_flight = InFlight()
    claim(in_flight, head(1))
    assert not claim(in_flight, head(1))
    in_flight.send(1)
    assert not claim(in_flight, head(1))
    in_flight.answered(head(1))
    assert not claim(in_flight, head(1))
    in_flight.settled([head(1)])
    assert claim(in_flight, head(1, seq=2))


def test_a_claim_that_began_before_a_landing_brings_no_old_head() -> None:
    in_flight = InFlight()
    claim(in_flight, head(1))
    in_flight.send(1)
    assert in_flight.begin_claim() == (1,)
    in_flight.answered(head(1))
    in_flight.settled([head(1)])
    assert not in_flight.claimed([head(1)])
    assert in_flight.empty


def test_the_oldest_is_that_of_all_that_is_taken() -> None:
    in_flight = InFlight()
    assert in_flight.oldest == 0
    claim(in_flight, head(1)._replace(committed_at=5), head(2)._replace(committed_at=7))
    assert in_flight.send(1) == [head(1)._replace(committed_at=5)]
    assert in_flight.oldest == 5
    in_flight.settled([head(1)])
    assert in_flight.oldest == 7
    in_flight.reserve(3)
    assert in_flight.oldest == 0


def test_a_held_event_is_asked_for_when_its_time_has_come() -> None:
    in_flight = InFlight()
    claim(in_flight, head(1), head(2))
    in_flight.send(2)
    in_flight.hold(head(1), ask_at=5.0)
    in_flight.hold(head(2), ask_at=3.0)
    assert in_flight.at_sink == 2
    assert in_flight.next_ask() == 3.0
    assert in_flight.ask(2.9) == []
    assert in_flight.ask(3.0) == [head(2)]
    assert in_flight.ask(3.0) == []
    assert (in_flight.asks(head(2)), in_flight.at_sink) == (1, 2)


def test_probes_take_the_held_events_in_turn() -> None:
    in_flight = InFlight()
    claim(in_flight, head(1), head(2))
    in_flight.send(2)
    in_flight.hold(head(1), ask_at=5.0)
    in_flight.hold(head(2), ask_at=6.0)
    assert in_flight.ask_one() == [head(1)]
    in_flight.hold(head(1), ask_at=7.0)
    assert in_flight.ask_one() == [head(2)]
    in_flight.answered(head(2))
    assert in_flight.held() == [head(1)]


def test_a_strand_can_be_reserved_unless_its_event_is_out() -> None:
    in_flight = InFlight()
    claim(in_flight, head(1), head(2))
    in_flight.send(1)
    assert not in_flight.reserve(1)
    assert in_flight.reserve(2)
    assert in_flight.send(10) == []
    assert not claim(in_flight, head(2))
    in_flight.release(2)
    assert claim(in_flight, head(2))


def test_a_claim_under_way_brings_nothing_of_a_strand_reserved_meanwhile() -> None:
    in_flight = InFlight()
    in_flight.begin_claim()
    assert in_flight.reserve(1)
    in_flight.release(1)
    assert not in_flight.claimed([head(1, seq=2)])


def test_asks_are_counted_until_there_is_an_answer() -> None:
    in_flight = InFlight()
    claim(in_flight, head(1))
    for _ in range(3):
        in_flight.send(1)
        in_flight.hold(head(1), 1.0)
    assert in_flight.asks(head(1)) == 3
    in_flight.answered(head(1))
    in_flight.settled([head(1)])
    claim(in_flight, head(1, seq=2))
    assert in_flight.asks(head(1, seq=2)) == 0, "the next event of the strand is asked for soon"
