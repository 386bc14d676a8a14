"""The self-limit in simulated time, with many who wait for their turn at once."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import Throttled
from collector.platforms.rate_limit import LONGEST_TURN, OwnLimitReached, Pace, shared
from collector.testing.clock import SimulatedClock
from tests.task_clock import TaskClock


async def moments(clock: SimulatedClock, pace: Pace, count: int) -> list[float]:
    """When each of so many requests, one after the other, may go."""
    found = []
    for _ in range(count):
        await pace.turn()
        found.append(clock.monotonic())
    return found


async def test_a_burst_then_the_rate() -> None:
    clock = SimulatedClock()
    assert await moments(clock, Pace(clock, 60, 3), 6) == pytest.approx([0, 0, 0, 1, 2, 3])


async def test_rest_earns_a_burst_again_and_no_more() -> None:
    clock = SimulatedClock()
    pace = Pace(clock, 60, 3)
    await moments(clock, pace, 3)
    clock.advance(1000)
    assert await moments(clock, pace, 5) == pytest.approx([1000, 1000, 1000, 1001, 1002])


async def test_without_a_limit_nobody_waits() -> None:
    clock = SimulatedClock()
    assert await moments(clock, Pace(clock, None, 1), 100) == [0] * 100


async def test_those_who_wait_side_by_side_go_one_after_the_other() -> None:
    clock = TaskClock()
    gone: list[float] = []
    pace = Pace(clock, 30, 1)
    for _ in range(4):
        clock.start(_noted(pace.turn, gone, clock))
    await clock.advance(10)
    assert gone == [0, 2, 4, 6]


async def _noted(call: Callable[[], Awaitable[None]], gone: list[float], clock: TaskClock) -> None:
    await call()
    gone.append(clock.monotonic())


async def test_a_wish_of_the_platform_holds_for_all_and_for_those_who_wait_already() -> None:
    clock = TaskClock()
    gone: list[float] = []
    pace = Pace(clock, 60, 1)
    for _ in range(4):
        clock.start(_noted(pace.turn, gone, clock))
    await clock.advance(1.5)
    pace.hold(10)
    pace.hold(5)
    clock.start(_noted(pace.turn, gone, clock))
    await clock.advance(30)
    assert gone == [0, 1, 11.5, 12.5, 13.5], "no burst after the hold"


async def test_turns_that_were_given_out_before_a_wish_are_not_counted_beside_it() -> None:
    """Whoever waits queues up anew, so a turn that is far off must not push the first one behind it."""
    clock = TaskClock()
    gone: list[float] = []
    pace = Pace(clock, 60, 1)
    for _ in range(10):
        clock.start(_noted(pace.turn, gone, clock))
    await clock.advance(1.5)
    pace.hold(2)
    await clock.advance(30)
    assert gone == [0, 1, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5]


async def test_a_turn_that_a_wish_took_back_is_not_given_back_again() -> None:
    clock = TaskClock()
    gone: list[float] = []
    pace = Pace(clock, 60, 1)
    await pace.turn()
    leaving = clock.start(pace.turn())
    await clock.quiet()
    pace.hold(10)
    leaving.cancel()
    await clock.quiet()
    clock.start(_noted(pace.turn, gone, clock))
    await clock.advance(30)
    assert gone == [10]


async def test_a_looser_wish_changes_neither_rate_nor_burst() -> None:
    clock = SimulatedClock()
    pace = Pace(clock, 60, 3)
    pace.tighten(90, 9)
    assert await moments(clock, pace, 5) == pytest.approx([0, 0, 0, 1, 2])


async def test_a_wish_holds_without_a_limit_of_our_own() -> None:
    clock = SimulatedClock()
    pace = Pace(clock, None, 1)
    pace.hold(20)
    assert await moments(clock, pace, 2) == [20, 20]


async def test_a_short_wish_earns_no_turn() -> None:
    clock = SimulatedClock()
    pace = Pace(clock, 60, 3)
    await moments(clock, pace, 3)
    for wish in (-1, 0, 0.1, 0.2):
        pace.hold(wish)
    assert await moments(clock, pace, 2) == pytest.approx([1, 2])


async def test_a_long_wish_is_raised_instead_of_waited_for() -> None:
    clock = SimulatedClock()
    pace = Pace(clock, 60, 5)
    pace.hold(90)
    with pytest.raises(Throttled, match="the platform asked for patience") as raised:
        await pace.turn()
    assert not isinstance(raised.value, OwnLimitReached)
    assert raised.value.after == 90
    clock.advance(90)
    assert await moments(clock, pace, 2) == [90, 91], "the refused one took no turn"


async def test_a_full_queue_is_raised_instead_of_waited_for() -> None:
    clock = TaskClock()
    pace = Pace(clock, 60, 1)
    gone: list[float] = []
    for _ in range(int(LONGEST_TURN) + 1):
        clock.start(_noted(pace.turn, gone, clock))
    await clock.advance(0)
    with pytest.raises(OwnLimitReached, match="60 requests a minute") as raised:
        await pace.turn()
    assert raised.value.after == LONGEST_TURN + 1
    await clock.advance(LONGEST_TURN)
    assert gone == list(range(int(LONGEST_TURN) + 1))


async def test_a_small_limit_lets_one_wait_for_its_turn() -> None:
    clock = SimulatedClock()
    assert await moments(clock, Pace(clock, 1, 1), 3) == [0, 60, 120]


async def test_who_gives_up_waiting_gives_the_turn_back() -> None:
    clock = TaskClock()
    pace = Pace(clock, 60, 1)
    gone: list[float] = []
    clock.start(_noted(pace.turn, gone, clock))
    given_up = clock.start(_noted(pace.turn, gone, clock))
    await clock.advance(0)
    given_up.cancel()
    await clock.advance(0)
    clock.start(_noted(pace.turn, gone, clock))
    await clock.advance(5)
    assert gone == [0, 1]


def test_all_who_use_an_account_share_its_pace_and_the_lowest_wish_holds() -> None:
    clock = SimulatedClock()
    first = shared(clock, "https://a", "token", per_minute=60, burst=10)
    assert shared(clock, "https://a", "token", per_minute=None, burst=10) is first
    assert shared(clock, "https://a", "token", per_minute=90, burst=10).per_minute == 60
    assert shared(clock, "https://a", "token", per_minute=30, burst=10).per_minute == 30
    assert shared(clock, "https://a", "other", per_minute=60, burst=10) is not first
    assert shared(clock, "https://b", "token", per_minute=60, burst=10) is not first
    assert shared(SimulatedClock(), "https://a", "token", per_minute=60, burst=10) is not first


@settings(deadline=None, max_examples=60)
@given(
    per_minute=st.integers(1, 6000),
    burst=st.integers(1, 20),
    waits=st.lists(st.floats(0, 100), max_size=30),
    holds=st.lists(st.tuples(st.floats(0, 300), st.floats(0.1, 25)), max_size=4),
)
def test_never_more_than_the_limit_nor_during_a_hold(
    per_minute: int, burst: int, waits: list[float], holds: list[tuple[float, float]]
) -> None:
    asyncio.run(_tried(per_minute, burst, waits, holds))


async def _tried(per_minute: int, burst: int, waits: list[float], holds: list[tuple[float, float]]) -> None:
    clock = TaskClock()
    pace = Pace(clock, per_minute, burst)
    gone: list[float] = []
    held: list[tuple[float, float]] = []

    async def later(seconds: float) -> None:
        await clock.sleep(seconds)
        try:
            await pace.turn()
        except Throttled:
            return
        gone.append(clock.monotonic())

    async def holding(at: float, seconds: float) -> None:
        await clock.sleep(at)
        held.append((clock.monotonic(), clock.monotonic() + seconds))
        pace.hold(seconds)

    tasks = [clock.start(later(wait)) for wait in waits] + [clock.start(holding(*one)) for one in holds]
    while not all(task.done() for task in tasks):
        await clock.advance(1000)
    each, slack = 60 / per_minute, 1e-6
    for first, at in enumerate(gone):
        for last in range(first, len(gone)):
            assert last - first + 1 <= burst + (gone[last] - at) / each + slack
    assert not [at for at in gone for begin, end in held if begin + slack < at < end - slack]
