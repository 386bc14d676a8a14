"""The cursor of Dataprep's walks: how far it looks back, and what a clock that is set back takes back with it."""

from collector.platforms.dataprep.cursor import Cursor
from collector.platforms.watermark import Clocks

HOUR = 3_600_000


def test_a_look_back_ends_at_the_first_look() -> None:
    assert Cursor(since=10 * HOUR, first=9 * HOUR).back(HOUR // 2) == 9.5 * HOUR
    assert Cursor(since=10 * HOUR, first=9 * HOUR).back(2 * HOUR) == 9 * HOUR


def test_a_last_sweep_from_the_future_is_one_of_now() -> None:
    clocks = Clocks(server=10 * HOUR, ours=10 * HOUR)
    swept = [Cursor(9 * HOUR, reached=9 * HOUR, swept=at * HOUR).as_of(clocks).swept for at in (9, 11)]
    assert swept == [9 * HOUR, 10 * HOUR]


def test_where_the_first_look_began_goes_back_with_the_platforms_clock() -> None:
    cursor = Cursor(since=12 * HOUR, reached=10 * HOUR, first=11 * HOUR, settled=True)
    back = cursor.as_of(Clocks(server=10 * HOUR, ours=10 * HOUR))
    assert (back.since, back.first, back.settled) == (10 * HOUR, 10 * HOUR, False)
