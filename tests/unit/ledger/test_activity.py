"""The summary of what sources and sinks did, minute by minute."""

from dataclasses import replace

from collector.ledger import activity
from collector.ledger.activity import MINUTE_MS, Activity
from tests.unit.ledger.ledgers import Ledger

POLL = Activity(ok=1, took_ms=20, longest_ms=20, requests=3)


def test_what_replicas_add_to_a_minute_adds_up(ledger: Ledger) -> None:
    activity.note(ledger.conn, {("source:a", 0): replace(POLL, remaining=9)})
    activity.note(
        ledger.conn, {("source:a", 0): Activity(failed=1, took_ms=50, longest_ms=50, requests=1, throttled=1)}
    )
    activity.note(ledger.conn, {("source:a", 0): replace(POLL, allowed=100)})
    found = activity.within(ledger.conn, ["source:a"], 0, MINUTE_MS)
    expected = Activity(ok=2, failed=1, took_ms=90, longest_ms=50, requests=7, throttled=1)
    assert found == {"source:a": {0: expected}}
    assert activity.latest(ledger.conn, "source:a", 0) == Activity(remaining=9, allowed=100)


def test_minutes_are_shown_in_longer_steps(ledger: Ledger) -> None:
    minutes = {("source:a", number * MINUTE_MS): POLL for number in (0, 9, 10, 25)}
    activity.note(ledger.conn, minutes | {("sink:a", 10 * MINUTE_MS): Activity(ok=5)})
    found = activity.within(ledger.conn, ["source:a", "sink:a", "sink:b"], 5 * MINUTE_MS, 10 * MINUTE_MS)
    assert {name: {since // MINUTE_MS: each.ok for since, each in at.items()} for name, at in found.items()} == {
        "source:a": {0: 1, 10: 1, 20: 1},
        "sink:a": {10: 5},
        "sink:b": {},
    }
    assert activity.total([*found["source:a"].values()]) == Activity(ok=3, took_ms=60, longest_ms=20, requests=9)


def test_the_quota_is_that_of_the_last_minute_that_knew_it(ledger: Ledger) -> None:
    minutes = {0: replace(POLL, remaining=9, needed=5), MINUTE_MS: replace(POLL, remaining=8), 2 * MINUTE_MS: POLL}
    activity.note(ledger.conn, {("source:a", since): one for since, one in minutes.items()})
    assert activity.latest(ledger.conn, "source:a", 0) == Activity(remaining=8, needed=5)
    assert activity.latest(ledger.conn, "source:a", 2 * MINUTE_MS) == Activity()


def test_old_minutes_go(ledger: Ledger) -> None:
    activity.note(ledger.conn, {("source:a", number * MINUTE_MS): POLL for number in range(4)})
    assert activity.expire(ledger.conn, 3 * MINUTE_MS) == 3
    assert [*activity.within(ledger.conn, ["source:a"], 0, MINUTE_MS)["source:a"]] == [3 * MINUTE_MS]
