import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.quantities import (
    DURATION_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_lookback,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30s", timedelta(seconds=30)),
        ("1h30m", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("500ms", timedelta(milliseconds=500)),
        ("1m1ms", timedelta(minutes=1, milliseconds=1)),
        ("0s", timedelta()),
    ],
)
def test_reads_durations(text: str, value: timedelta) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "1.5h", "30 s", "30m1h", "5 minutes", "30s\n", "٣s", "PT30S"])
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid duration .*; use for example 30s, 1h30m or 7d"):
        parse_duration(text)


def test_says_why_a_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="it cannot be negative"):
        parse_duration("-5s")
    with pytest.raises(ValueError, match="a unit is missing"):
        parse_duration("30")
    for too_long in ("36501d", f"{'9' * 5000}d"):
        with pytest.raises(ValueError, match="hundred years"):
            parse_duration(too_long)


@given(st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=36_500)))
def test_durations_survive_being_written(value: timedelta) -> None:
    whole = timedelta(milliseconds=max(1, value // timedelta(milliseconds=1)))
    assert parse_duration(format_duration(whole)) == whole
    assert re.fullmatch(DURATION_PATTERN, format_duration(whole))


@pytest.mark.parametrize(
    ("text", "value"), [("10MiB", 10 * 1024**2), ("10MB", 10**7), ("1 GiB", 1024**3), ("1kB", 1000), ("7B", 7)]
)
def test_reads_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["10", "10Mi", "10mib", "-1MiB", "1.5GiB", "MiB", ""])
def test_refuses_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid size .*; use for example"):
        parse_size(text)


@given(st.integers(min_value=1, max_value=10**15))
def test_sizes_survive_being_written(value: int) -> None:
    assert parse_size(format_size(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", None),
        ("2h", timedelta(hours=2)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T02:00:00+02:00", datetime(2026, 1, 31, tzinfo=UTC)),
    ],
)
def test_reads_how_far_to_look_back(text: str, value: timedelta | datetime | None) -> None:
    assert parse_lookback(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "2026-13-01",
        "2026-",
        "yesterday",
        "-1h",
        "",
        "0001-01-01",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-05:00",
    ],
)
def test_refuses_other_ways_to_look_back(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid (date|duration) .*; use for example"):
        parse_lookback(text)
