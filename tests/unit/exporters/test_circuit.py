"""Decisions after failures: how long to wait, and when to leave a sink alone."""

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.delivery.circuit import (
    OPENS_AFTER,
    Circuit,
    ask_delay,
    failed,
    pause_after,
    probing,
    retry_delay,
    undecided,
)
from exporters.delivery.circuit import opened as created_broken
from exporters.sinks.base import Retry

DOWN = Retry("connection refused")
SLOW = Retry("wrong password", slow=True)
CLOSED = Circuit()
HALF = 0.5

chances = st.floats(0, 1, exclude_max=True)
attempts = st.integers(0, 10**9)


def opened(now: float = 100.0, retry: Retry = DOWN) -> Circuit:
    circuit = CLOSED
    for strand in range(OPENS_AFTER):
        circuit = failed(circuit, strand, retry, now, lambda: HALF)
    return circuit


@given(attempts, chances)
def test_retries_double_from_one_second_to_a_minute_with_full_jitter(attempt: int, chance: float) -> None:
    delay = retry_delay(CLOSED, DOWN, attempt, 0.0, lambda: chance)
    assert delay == chance * min(60.0, 2.0 ** min(attempt, 6))


def test_retries_spread_evenly() -> None:
    random = Random(1)
    delays = [retry_delay(CLOSED, DOWN, 20, 0.0, random.random) for _ in range(6000)]
    tenths = [sum(low <= delay < low + 6 for delay in delays) for low in range(0, 60, 6)]
    assert all(500 < count < 700 for count in tenths)


@given(attempts, chances)
def test_what_a_person_must_mend_is_looked_at_slowly(attempt: int, chance: float) -> None:
    assert 60 <= retry_delay(CLOSED, SLOW, attempt, 0.0, lambda: chance) <= 300


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 90), (1, 150), (2, 180), (9, 180)])
def test_looks_at_what_a_person_must_mend_grow_further_apart(attempt: int, seconds: float) -> None:
    assert retry_delay(CLOSED, SLOW, attempt, 0.0, lambda: HALF) == seconds


def test_a_sink_that_could_not_be_created_is_in_an_outage_from_the_start() -> None:
    circuit = created_broken(DOWN, 100.0, lambda: HALF)
    assert (circuit.open, circuit.failures, circuit.cause, circuit.opened_at) == (True, 1, "connection refused", 100.0)
    assert circuit.probe_at == 100.75


@given(st.timedeltas(), attempts, chances)
def test_what_the_sink_asks_for_is_obeyed_within_reason(after: timedelta, attempt: int, chance: float) -> None:
    delay = retry_delay(CLOSED, Retry("busy", after=after), attempt, 0.0, lambda: chance)
    within_reason = min(max(after.total_seconds(), 1), 15 * 60)
    assert delay == within_reason * (1 + chance / 10)


@given(attempts, chances)
def test_an_event_in_flight_is_asked_for_soon(asks: int, chance: float) -> None:
    longest = min(5.0, 0.25 * 2.0 ** min(asks, 6))
    assert ask_delay(Retry("no answer yet", in_flight=True), asks, lambda: chance) == longest * (1 + chance) / 2


def test_a_sink_that_wants_to_be_asked_much_later_is_asked_within_reason() -> None:
    assert ask_delay(Retry("sent", after=timedelta(days=1), in_flight=True), 0, lambda: HALF) == 15 * 60


def test_a_shorter_wait_does_not_bring_the_next_probe_nearer() -> None:
    circuit = opened(retry=Retry("busy", after=timedelta(minutes=10)))
    sooner = failed(circuit, 99, Retry("busy", after=timedelta(seconds=1)), 101.0, lambda: HALF)
    assert sooner.probe_at == circuit.probe_at


def test_a_sink_may_say_when_to_ask() -> None:
    soon = Retry("no answer yet", in_flight=True, after=timedelta(milliseconds=20))
    assert ask_delay(soon, 7, lambda: HALF) == 0.02


@given(attempts, chances)
def test_our_own_loops_go_on_after_a_pause(failures: int, chance: float) -> None:
    assert pause_after(failures, lambda: chance) == min(10.0, 0.5 * 2.0 ** min(failures, 6)) * (1 + chance) / 2


def test_the_circuit_opens_with_the_fifth_failure_in_a_row() -> None:
    circuit = CLOSED
    for strand in range(OPENS_AFTER - 1):
        circuit = failed(circuit, strand, DOWN, 100.0, lambda: HALF)
        assert not circuit.open
    circuit = failed(circuit, 4, DOWN, 100.0, lambda: HALF)
    assert circuit.open
    assert (circuit.failures, circuit.cause) == (OPENS_AFTER, "connection refused")


def test_an_open_circuit_admits_one_probe_when_its_time_has_come() -> None:
    circuit = opened(now=100.0)
    assert not circuit.admits_probe(100.0)
    assert circuit.admits_probe(circuit.probe_at)
    assert not probing(circuit, 7).admits_probe(circuit.probe_at + 1000)


def test_a_closed_circuit_needs_no_probe() -> None:
    assert not CLOSED.admits_probe(1e9)


def test_probes_come_less_and_less_often_but_always_within_seconds() -> None:
    circuit, waits = opened(now=0.0), []
    for _ in range(10):
        now = circuit.probe_at
        circuit = failed(probing(circuit, 1), 1, DOWN, now, lambda: HALF)
        waits.append(circuit.probe_at - now)
    assert waits == pytest.approx([0.75 * most for most in (1, 2, 4, 8, *[15] * 6)])


def test_a_sink_that_a_person_must_mend_is_probed_slowly() -> None:
    circuit = opened(now=0.0, retry=SLOW)
    assert circuit.probe_at == 90
    assert failed(probing(circuit, 1), 1, SLOW, 90.0, lambda: HALF).probe_at == 90 + 90


def test_only_the_probe_or_a_longer_wait_moves_the_next_probe() -> None:
    circuit = probing(opened(now=100.0), 1)
    late = failed(circuit, 2, DOWN, 100.5, lambda: HALF)
    assert (late.probe_at, late.probe, late.failures) == (circuit.probe_at, 1, OPENS_AFTER + 1)
    wait = failed(circuit, 2, Retry("busy", after=timedelta(seconds=90)), 100.5, lambda: HALF)
    assert wait.probe_at >= 190.5
    assert wait.probe == 1


def test_a_probe_that_says_nothing_about_the_sink_makes_room_for_another() -> None:
    circuit = probing(opened(now=100.0), 1)
    assert undecided(circuit, 2).probe == 1
    assert undecided(circuit, 1).admits_probe(circuit.probe_at)


@given(attempts, chances, st.floats(0, 1000))
def test_what_fails_in_an_outage_is_due_right_behind_the_next_probe(attempt: int, chance: float, late: float) -> None:
    circuit = opened(now=100.0)
    now = 100.0 + late
    delay = retry_delay(circuit, DOWN, attempt, now, lambda: chance)
    assert delay == max(circuit.probe_at - now, 0) + chance


def test_an_event_of_its_own_trouble_keeps_its_own_pace_in_an_outage() -> None:
    own = Retry("answer 500 to this event alone", sink_wide=False)
    assert retry_delay(opened(), own, 6, 100.0, lambda: HALF) == 30
