"""What the ledger holds of a source or sink, and that all of it goes, and nothing else, once it is forgotten."""

import pytest
from sqlalchemy import insert, select

from collector.errors import LedgerError
from collector.ledger import configured_sinks, configured_sources, inventory, replicas, requests, retirement, schema
from collector.ledger.configured_sources import Configured
from collector.ledger.inventory import OpenRun, Owed, TargetKind
from collector.ledger.replicas import Replica
from collector.ledger.requests import RequestKind, RequestState
from collector.model import Skip, SkipKind
from tests.unit.ledger.ledgers import ALL, COMPLETE, HOUR, NOW, START, Ledger, child_of

BY_SOURCE = ("run", "watch", "event", "lane", "parked", "doubt", "tally", "job", "memory", "skip")


def another(ledger: Ledger) -> Ledger:
    """A second source beside the first, with a separate run."""
    numbers = configured_sources.sync_sources(ledger.conn, [Configured("source"), Configured("other")], NOW)
    first, ledger.source = ledger.source, numbers["other"]
    first_lease, ledger.lease = ledger.lease, ledger._take("source:other")
    ledger.happen("other", START)
    ledger.source, ledger.lease = first, first_lease
    return ledger


def leave(ledger: Ledger) -> None:
    configured_sources.sync_sources(ledger.conn, [Configured("other")], NOW)


def forget(ledger: Ledger, *, drop_undelivered: bool = True) -> int:
    """Steps that it took."""
    inventory.begin(ledger.conn, TargetKind.SOURCE, "source", NOW, drop_undelivered=drop_undelivered)
    [gone] = retirement.retired_sources(ledger.conn, 0)
    steps = 0
    while inventory.remove_runs(ledger.conn, gone):
        steps += 1
    assert retirement.remove_source(ledger.conn, gone)
    return steps


def test_what_is_held_of_a_source_is_counted(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("r", START, COMPLETE)
    ledger.happen("s", START)
    ledger.park(*ledger.claim("b")[:1], sink="b")
    requests.add(ledger.conn, RequestKind.WATCH, "source:source", "{}", NOW)
    for beside in ("source:other", "source:z", "sink:z"):
        requests.add(ledger.conn, RequestKind.WATCH, beside, "{}", NOW)
    held = inventory.of(ledger.conn, TargetKind.SOURCE, "source")
    assert held is not None
    assert (held.runs, held.open, held.pending, held.parked, held.requests) == (2, 1, 5, 1, 1)
    assert held.owed == (Owed("source", "a", 3, 0), Owed("source", "b", 2, 1))
    [still_open] = inventory.open_runs(ledger.conn, held.id, 10)
    assert still_open == OpenRun("s", still_open.run_uuid, "transformation/1", "running")
    sink = inventory.of(ledger.conn, TargetKind.SINK, "b")
    assert sink is not None
    assert (sink.runs, sink.owed) == (0, (Owed("source", "b", 2, 1),))
    for unknown in ("", "source"):
        assert inventory.of(ledger.conn, TargetKind.SINK, unknown) is None
    assert inventory.names(ledger.conn) == {TargetKind.SOURCE: ["source"], TargetKind.SINK: ["a", "b"]}


def test_a_forgotten_source_goes_with_all_that_is_known_of_it_and_nothing_else(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "RUNS", 2)
    another(ledger)
    kept = {table: ledger.rows(table) for table in BY_SOURCE}
    number = ledger.source
    ledger.happen("p", START)
    ledger.happen("c", START, parent=child_of("p"))
    ledger.happen("g", START, COMPLETE, parent=child_of("c"))
    for n in range(4):
        ledger.happen(f"{n}", START, COMPLETE)
    ledger.park(*[item for item in ledger.claim() if item.body == b"0 START"])
    ledger.deliver(*[item for item in ledger.claim() if item.body == b"2 START"])
    ledger.postpone(*[item for item in ledger.claim() if item.body == b"1 START"], unanswered=True, recheck_at=NOW)
    ledger.commit(skips=(Skip(SkipKind.STATUS, "odd", "odd"),), memory={"key": "value"})
    # a retired sink's lanes go as well
    configured_sinks.sync_sinks(ledger.conn, {}, NOW)
    leave(ledger)
    assert forget(ledger) >= 3
    assert {table: ledger.rows(table) for table in BY_SOURCE} == kept
    assert ledger.rows("acknowledgement") == 0
    assert number not in ledger.conn.scalars(select(schema.source.c.id)).all()
    assert [body for (body,) in ledger.conn.execute(select(schema.event.c.body))] == [b"other START"]


def test_a_source_with_undelivered_events_is_forgotten_only_when_they_may_be_dropped(ledger: Ledger) -> None:
    another(ledger)
    ledger.happen("r", START)
    leave(ledger)
    with pytest.raises(LedgerError, match=r"source source has 1 undelivered event \(1 to sink a\)"):
        forget(ledger, drop_undelivered=False)
    assert retirement.retired_sources(ledger.conn, 0) == [], "nothing was begun"
    ledger.drain()
    forget(ledger, drop_undelivered=False)
    with pytest.raises(LedgerError, match="has no source 'source'"):
        forget(ledger)


def test_what_is_in_flight_when_its_lane_goes_settles_as_stale(ledger: Ledger) -> None:
    another(ledger)
    ledger.happen("r", START)
    ledger.park(*[item for item in ledger.claim() if item.body == b"r START"])
    ledger.happen("r", COMPLETE)
    items = ledger.claim()
    leave(ledger)
    forget(ledger)
    settled = ledger.deliver(*items)
    assert (settled.delivered, len(settled.stale)) == (1, 1)
    assert ledger.tally() == (0, 0)


def test_what_a_live_replica_has_is_not_forgotten(ledger: Ledger) -> None:
    replicas.beat(ledger.conn, Replica("pod-1", "1", "same", frozenset({"sink:a"})))
    with pytest.raises(LedgerError, match="sink a is in the configuration of replica pod-1; nothing was removed"):
        inventory.begin(ledger.conn, TargetKind.SINK, "a", NOW, drop_undelivered=True)
    inventory.begin(ledger.conn, TargetKind.SOURCE, "source", NOW, drop_undelivered=True)


def test_a_sink_is_forgotten_before_its_retention_is_over(ledger: Ledger) -> None:
    ledger.happen("r", START)
    configured_sinks.sync_sinks(ledger.conn, {}, NOW)
    with pytest.raises(LedgerError, match=r"sink a has 1 undelivered event \(1 of source source\)"):
        inventory.begin(ledger.conn, TargetKind.SINK, "a", NOW, drop_undelivered=False)
    assert retirement.retired_sinks(ledger.conn, NOW) == []
    inventory.begin(ledger.conn, TargetKind.SINK, "a", NOW, drop_undelivered=True)
    [gone] = retirement.retired_sinks(ledger.conn, NOW - HOUR)
    assert gone.forgotten
    while retirement.remove_sink(ledger.conn, gone):
        pass
    assert (ledger.rows("sink"), ledger.rows("lane"), ledger.rows("run")) == (0, 0, 1)


def test_a_source_that_came_back_keeps_its_runs(ledger: Ledger) -> None:
    another(ledger)
    ledger.happen("r", START)
    leave(ledger)
    inventory.begin(ledger.conn, TargetKind.SOURCE, "source", NOW, drop_undelivered=True)
    [gone] = retirement.retired_sources(ledger.conn, 0)
    configured_sources.sync_sources(ledger.conn, [Configured("source"), Configured("other")], NOW)
    assert inventory.remove_runs(ledger.conn, gone) == 0
    assert ledger.rows("run") == 2


def test_a_source_that_only_left_keeps_its_runs(ledger: Ledger) -> None:
    ledger.happen("r", START)
    configured_sources.sync_sources(ledger.conn, [], NOW)
    [gone] = retirement.retired_sources(ledger.conn, NOW + HOUR)
    assert not gone.forgotten
    assert inventory.remove_runs(ledger.conn, gone) == 0
    assert ledger.rows("run") == 1


def test_its_requests_are_answered(ledger: Ledger) -> None:
    another(ledger)
    mine = requests.add(ledger.conn, RequestKind.TRIGGER, "source:source", "{}", NOW)
    begun = {"kind": "trigger", "body": "{}", "created_at": NOW, "state": "claimed", "target": "source:source"}
    ledger.conn.execute(schema.lease.delete())
    ledger.conn.execute(insert(schema.request), begun)
    other = requests.add(ledger.conn, RequestKind.TRIGGER, "source:other", "{}", NOW)
    leave(ledger)
    inventory.begin(ledger.conn, TargetKind.SOURCE, "source", NOW, drop_undelivered=True)
    states = [found.state for number in (mine, mine + 1, other) if (found := requests.get(ledger.conn, number))]
    assert states == [RequestState.FAILED, RequestState.DOUBTFUL, RequestState.NEW]
    found = requests.get(ledger.conn, mine)
    assert found is not None
    assert "was removed by 'forget' before this request was claimed" in (found.answer or "")
