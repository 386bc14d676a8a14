"""What becomes of sinks and sources that left, and of requests that nobody took up."""

import pytest
from sqlalchemy import select, update

from collector.ledger import configured_sinks, configured_sources, leases, requests, retention, retirement, schema
from collector.ledger.requests import RequestKind, RequestState
from collector.ledger.retirement import Retired
from tests.unit.ledger.ledgers import ALL, COMPLETE, HOUR, NOW, START, Ledger

LATER = NOW + HOUR


def test_a_sink_goes_with_all_it_was_owed_once_its_time_is_over(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("before", START)
    ledger.drain("b")
    ledger.happen("r", START, COMPLETE)
    ledger.park(sink="b")
    ledger.happen("s", START)
    number = ledger.sinks["b"]
    configured_sinks.sync_sinks(ledger.conn, {"a": ALL}, NOW)
    assert retirement.retired_sinks(ledger.conn, NOW) == []
    [gone] = retirement.retired_sinks(ledger.conn, NOW + 1)
    assert gone == Retired(number, "b", NOW)
    while retirement.remove_sink(ledger.conn, gone):
        pass
    for table in (schema.lane, schema.parked, schema.doubt, schema.tally, schema.acknowledgement):
        assert number not in ledger.conn.scalars(select(table.c.sink_id)).all()
    assert ledger.conn.scalars(select(schema.sink.c.name)).all() == ["a"]
    assert sorted(ledger.drain("a")) == ["before START", "r COMPLETE", "r START", "s START"]


def test_a_sink_is_removed_in_short_steps_and_its_name_is_free_at_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retirement, "STEP", 2)
    for n in range(5):
        ledger.happen(f"{n}", START)
    configured_sinks.sync_sinks(ledger.conn, {}, NOW)
    [gone] = retirement.retired_sinks(ledger.conn, LATER)
    assert retirement.remove_sink(ledger.conn, gone) == 2
    assert configured_sinks.sync_sinks(ledger.conn, {"a": ALL}, LATER)["a"] != gone.id
    [gone] = retirement.retired_sinks(ledger.conn, LATER)
    assert [retirement.remove_sink(ledger.conn, gone) for _ in range(4)] == [2, 1, 1, 0]
    assert ledger.conn.scalars(select(schema.sink.c.name)).all() == ["a"]


def test_a_sink_that_came_back_meanwhile_is_left_alone(ledger: Ledger) -> None:
    ledger.happen("r", START)
    configured_sinks.sync_sinks(ledger.conn, {}, NOW)
    [gone] = retirement.retired_sinks(ledger.conn, LATER)
    configured_sinks.sync_sinks(ledger.conn, {"a": ALL}, NOW)
    assert retirement.remove_sink(ledger.conn, gone) == 0
    assert ledger.rows("lane") == 1


def test_a_sink_that_came_back_is_left_alone_beside_one_that_did_not(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("r", START)
    configured_sinks.sync_sinks(ledger.conn, {}, NOW)
    stays_away, came_back = retirement.retired_sinks(ledger.conn, LATER)
    configured_sinks.sync_sinks(ledger.conn, {"b": ALL}, NOW)
    assert retirement.remove_sink(ledger.conn, came_back) == 0
    assert retirement.remove_sink(ledger.conn, stays_away) == 1


def test_a_source_stays_for_its_look_back_then_its_open_runs_are_listed_and_all_goes(ledger: Ledger) -> None:
    ledger.happen("r", START)
    ledger.drain()
    ledger.conn.execute(update(schema.source).values(lookback_ms=HOUR))
    configured_sources.sync_sources(ledger.conn, [], NOW)
    assert retirement.retired_sources(ledger.conn, NOW + HOUR) == []
    [gone] = retirement.retired_sources(ledger.conn, NOW + HOUR + 1)
    assert retirement.abandon_runs(ledger.conn, gone, LATER) == 1
    assert retirement.abandon_runs(ledger.conn, gone, LATER) == 0
    assert ledger.conn.scalars(select(schema.skip.c.subject)).all() == ["r"]
    assert ledger.rows("watch") == 0
    retention.expire_events(ledger.conn, 0, LATER + HOUR)
    retention.expire_runs(ledger.conn, 0, {gone.id: LATER + HOUR})
    assert not retirement.remove_source(ledger.conn, gone), "its skip is still listed"
    retention.prune(ledger.conn, LATER + HOUR)
    assert retirement.remove_source(ledger.conn, gone)
    assert (ledger.rows("source"), ledger.rows("run")) == (0, 0)


def test_a_source_stays_while_a_sink_is_owed_its_events(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    configured_sources.sync_sources(ledger.conn, [], NOW)
    [gone] = retirement.retired_sources(ledger.conn, LATER)
    retention.expire_events(ledger.conn, 0, LATER + HOUR)
    retention.expire_runs(ledger.conn, 0, {gone.id: LATER + HOUR})
    assert not retirement.remove_source(ledger.conn, gone)
    assert ledger.drain() == ["r START", "r COMPLETE"]


@pytest.mark.parametrize(
    ("kind", "begun", "state"),
    [
        (RequestKind.TRIGGER, False, RequestState.FAILED),
        (RequestKind.TRIGGER, True, RequestState.DOUBTFUL),
        (RequestKind.POLL, True, RequestState.FAILED),
    ],
)
def test_a_request_that_nobody_answers_is_answered(
    ledger: Ledger, kind: RequestKind, begun: bool, state: RequestState
) -> None:
    number = requests.add(ledger.conn, kind, "source:gone", "{}", NOW)
    if begun:
        ledger.conn.execute(update(schema.request).values(state=RequestState.CLAIMED))
    assert retirement.expire_requests(ledger.conn, NOW, LATER) == 0
    assert retirement.expire_requests(ledger.conn, NOW + 1, LATER) == 1
    found = requests.get(ledger.conn, number)
    assert found is not None
    assert (found.state, found.done_at) == (state, LATER)
    retention.prune(ledger.conn, LATER + 1)
    assert ledger.rows("request") == 0


@pytest.mark.parametrize("kind", [RequestKind.RETRY, RequestKind.TRIGGER])
def test_what_a_living_holder_began_is_left_to_it(ledger: Ledger, kind: RequestKind) -> None:
    requests.add(ledger.conn, kind, "sink:a", "{}", NOW)
    requests.claim(ledger.conn, ledger.held["a"], 1)
    assert retirement.expire_requests(ledger.conn, LATER, LATER) == 0


def test_what_was_begun_under_a_name_that_nobody_may_take_now_is_answered(ledger: Ledger) -> None:
    """As after a sink got another number of shards."""
    requests.add(ledger.conn, RequestKind.RETRY, "sink:a", "{}", NOW)
    requests.claim(ledger.conn, ledger.held["a"], 1)
    leases.bar(ledger.conn, "sink:a")
    assert retirement.expire_requests(ledger.conn, LATER, LATER) == 1
