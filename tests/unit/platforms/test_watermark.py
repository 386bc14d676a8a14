"""The rule for rows that are dated beyond the server's clock, at its boundaries."""

from collector.platforms.watermark import SLACK_MS, Clocks, Early, newest, taken_back

NOW = 1_800_000_000_000
CLOCKS = Clocks(server=NOW, ours=NOW)


def test_the_server_may_be_at_the_end_of_the_second_that_it_shows() -> None:
    assert newest([NOW - 1, NOW + 999, NOW + 1000], CLOCKS) == NOW + 999
    assert newest([NOW + 1000], CLOCKS) == 0


def test_a_row_is_early_from_five_seconds_beyond_the_clock_on() -> None:
    rows = [("at the edge", NOW + 999 + SLACK_MS), ("beyond", NOW + 1000 + SLACK_MS)]
    assert [skip.subject for skip in Early().count(rows, CLOCKS)] == ["beyond"]
    assert SLACK_MS == 5000, "more would hide a clock that is wrong"


def test_a_mark_goes_back_only_where_the_clock_did() -> None:
    later = Clocks(server=NOW + 60_000, ours=NOW + 60_000)
    assert taken_back(NOW + SLACK_MS, NOW, later) == NOW + SLACK_MS
    assert taken_back(NOW + SLACK_MS + 1, NOW, later) == NOW
    assert taken_back(NOW, NOW + 120_000, later) == NOW, "a time of ours that lies ahead counts as now"
