from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import AuthFailed, BadAnswer, NotFound, Throttled, Unavailable
from collector.polling.schedule import Rhythm, next_wait, result_of
from collector.reports import PollResult

RHYTHM = Rhythm(timedelta(seconds=15), timedelta(seconds=60))
chances = st.floats(0, 1, exclude_max=True)


def test_a_source_that_is_well_keeps_its_interval_within_the_jitter() -> None:
    assert next_wait(RHYTHM, 0, None, 0.0) == pytest.approx(13.5)
    assert next_wait(RHYTHM, 0, None, 0.5) == pytest.approx(15)


def test_failures_never_make_a_long_interval_shorter() -> None:
    hourly = Rhythm(timedelta(hours=1), timedelta(seconds=60))
    assert [next_wait(hourly, failures, None, 0.5) for failures in (0, 1, 9)] == [3600, 3600, 3600]


@given(st.integers(0, 10_000), chances)
def test_failures_back_off_and_stay_bounded(failures: int, chance: float) -> None:
    wait = next_wait(RHYTHM, failures, None, chance)
    assert wait == pytest.approx(min(15 * 2 ** min(failures, 9), 300) * (0.9 + 0.2 * chance))


@given(st.floats(0.1, 3600), st.integers(0, 20), chances)
def test_what_the_platform_asks_for_only_makes_a_wait_longer(asked: float, failures: int, chance: float) -> None:
    expected = max(asked * (1 + 0.1 * chance), next_wait(RHYTHM, failures, None, chance))
    assert next_wait(RHYTHM, failures, asked, chance) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (AuthFailed("x"), PollResult.AUTH),
        (Throttled("x", 3), PollResult.THROTTLED),
        (Unavailable("x"), PollResult.UNAVAILABLE),
        (BadAnswer("x"), PollResult.BAD_ANSWER),
        (NotFound("x"), PollResult.BAD_ANSWER),
        (TimeoutError(), PollResult.DEADLINE),
        (ValueError("x"), PollResult.ERROR),
    ],
)
def test_each_failure_has_its_word(error: Exception, result: PollResult) -> None:
    assert result_of(error) is result
