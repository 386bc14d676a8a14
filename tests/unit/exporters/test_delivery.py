"""Delivery over a real ledger, to scripted sinks, in simulated time."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import PropertyMock, patch

import pytest
from sqlalchemy import Connection

from collector.errors import LeaseLost, LedgerError
from collector.ledger import doubts, leases, overflow, parked, queries, requests
from collector.ledger.claims import Settlement
from collector.ledger.held_lease import MARGIN, RENEW_EVERY, HeldLease
from collector.ledger.parked import RetryAnswer
from collector.ledger.requests import RequestKind, RequestState
from collector.model import EventKind, Outgoing
from collector.secret_registry import secret_registry
from collector.testing.sinks import event
from exporters.delivery import delivery as delivery_module
from exporters.delivery import session
from exporters.delivery.circuit import pause_after
from exporters.delivery.claimer import LOOK_EVERY, REST
from exporters.delivery.reports import SendResult, SinkState
from exporters.delivery.requests import SinkRequests
from exporters.delivery.sender import Sender
from exporters.delivery.session import Session
from exporters.delivery.settler import TOGETHER, Settler, Verdict
from exporters.delivery.wakeup import Wakeup
from exporters.sinks.base import Delivered, Outcome, Park, Retry
from tests.lease_faults import take_over, without_renewals
from tests.unit.exporters.delivery_simulation import (
    DeliverySimulation,
    Script,
    ScriptedSink,
    SimulatedClock,
    delivers,
    delivery_simulation,
    name_of,
    open_store,
)

START, RUNNING, COMPLETE, FAIL = EventKind.START, EventKind.RUNNING, EventKind.COMPLETE, EventKind.FAIL
DOWN = Retry("connection refused")


@pytest.fixture
async def simulation() -> AsyncIterator[DeliverySimulation]:
    async with delivery_simulation() as made:
        yield made


async def never(item: Outgoing) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


def down(item: Outgoing) -> Outcome:
    return DOWN


async def pending(simulation: DeliverySimulation) -> int:
    rows = await simulation.store.read(queries.sinks)
    return sum(row.pending for row in rows)


async def parked_events(simulation: DeliverySimulation) -> list[parked.ParkedEvent]:
    found: list[parked.ParkedEvent] = await simulation.store.read(parked.listing, 100)
    return found


# What arrives, and in which order


async def test_what_is_committed_arrives_in_order_and_nothing_stays_behind(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink()
    simulation.deliver(sink)
    runs = [f"run {number}" for number in range(30)]
    await simulation.happen(START, runs=runs)
    await simulation.happen(COMPLETE, runs=runs)
    await simulation.advance(1)
    assert all(sink.kinds(run) == [START, COMPLETE] for run in runs)
    assert await pending(simulation) == 0


async def test_a_commit_wakes_delivery_at_once(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink()
    simulation.deliver(sink)
    await simulation.advance(0.5)
    await simulation.happen(START)
    await simulation.advance(0)
    assert sink.kinds("run") == [START]


async def test_a_lost_notification_costs_one_look(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink()
    simulation.deliver(sink)
    await simulation.advance(5)
    simulation.store.unannounced = True
    await simulation.happen(START)
    await simulation.advance(REST)
    assert sink.kinds("run") == [START]


async def test_a_slow_event_holds_up_no_other(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(lambda item: never(item) if name_of(item) == "slow" else Delivered(), capacity=2)
    simulation.deliver(sink)
    others = [f"run {number}" for number in range(20)]
    await simulation.happen(START, COMPLETE, runs=["slow", *others])
    await simulation.advance(1)
    assert sink.kinds("slow") == [START]
    assert all(sink.kinds(run) == [START, COMPLETE] for run in others)


async def test_no_more_is_at_the_sink_than_it_takes(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(never, capacity=3)
    delivery = simulation.deliver(sink)
    await simulation.happen(START, COMPLETE, runs=[f"run {number}" for number in range(200)])
    await simulation.advance(2)
    assert (sink.most_out, len(sink.sent)) == (3, 3)
    assert delivery.status().in_flight == 3


class Batching(ScriptedSink):
    """Takes up to three events in one call, two calls at a time."""

    batch = 3

    def __init__(self, script: Script) -> None:
        super().__init__(script, capacity=6)


async def test_what_waits_behind_batches_shares_the_next_one(simulation: DeliverySimulation) -> None:
    """A single event is a whole call: others do not get ones of their own beside it, but wait for a call to end."""
    answered = asyncio.Event()

    async def later(item: Outgoing) -> Outcome:
        await answered.wait()
        return Delivered()

    sink = Batching(later)
    simulation.deliver(sink)
    for number in range(8):
        await simulation.happen(START, runs=[f"run {number}"])
        await simulation.advance(0.1)
    assert sink.batches == [1, 1]
    answered.set()
    await simulation.advance(1)
    assert sink.batches == [1, 1, 3, 3]
    assert await pending(simulation) == 0


@pytest.mark.parametrize(("others", "commits"), [(True, [2]), (False, [1, 1])])
async def test_outcomes_share_a_commit_while_others_are_at_the_sink(others: bool, commits: list[int]) -> None:
    clock, sizes = SimulatedClock(), list[int]()

    async def commit(settlement: Settlement) -> None:
        sizes.append(len(settlement.delivered))

    settler = Settler(Wakeup(clock), clock, commit, lambda: others)
    for number in range(2):
        settler.add(Verdict(event(number, 1), Delivered(), 0))
        if not number:
            settling = asyncio.create_task(settler.step())
            for _ in range(5):
                await asyncio.sleep(0)
    clock.wake_next(TOGETHER)
    await settling
    if not others:
        await settler.step()
    assert sizes == commits


async def test_an_outcome_waits_a_moment_for_that_of_another_event_at_the_sink(simulation: DeliverySimulation) -> None:
    async def answers(item: Outgoing) -> Outcome:
        if name_of(item) == "slow":
            await simulation.clock.sleep(TOGETHER / 2)
        return Delivered()

    simulation.deliver(ScriptedSink(answers))
    await simulation.happen(START, runs=["quick", "slow"])
    await simulation.advance(0)
    assert await pending(simulation) == 2
    await simulation.advance(TOGETHER)
    assert await pending(simulation) == 0


async def test_children_wait_for_their_parents_start_and_it_for_their_end(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink()
    await simulation.happen(START, runs=["parent"])
    await simulation.happen(START, COMPLETE, runs=["child 1", "child 2"], parent="parent")
    await simulation.happen(COMPLETE, runs=["parent"])
    simulation.deliver(sink)
    await simulation.advance(1)
    assert sink.sent[0] == ("parent", START)
    assert sink.sent[-1] == ("parent", COMPLETE)
    assert len(sink.sent) == 6


async def test_reports_say_how_fresh_and_how_late(simulation: DeliverySimulation) -> None:
    """Fresh: since it happened. Late: since it was committed."""
    happened = simulation.change("run", START)
    simulation.clock.seconds += 2
    await simulation.commit(happened)
    simulation.clock.seconds += 3
    simulation.deliver(ScriptedSink())
    await simulation.advance(0)
    [report] = simulation.reports.sends
    assert (report.sink, report.source_id, report.kind, report.result) == (
        "sink",
        simulation.source_id,
        START,
        SendResult.OK,
    )
    assert (report.freshness, report.latency) == (5.0, 3.0)


# Failures of single events


async def test_a_retry_comes_again_after_a_pause_and_keeps_the_order(simulation: DeliverySimulation) -> None:
    failures = iter([DOWN] * 3)
    sink = ScriptedSink(lambda _: next(failures, Delivered()))
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE)
    await simulation.advance(0)
    assert sink.kinds("run") == [START]
    await simulation.advance(1 + 2 + 4)
    assert sink.kinds("run") == [START, START, START, START, COMPLETE]
    assert [report.result.value for report in simulation.reports.sends] == ["retry", "retry", "retry", "ok", "ok"]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
async def test_each_attempt_can_be_logged(
    simulation: DeliverySimulation, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    caplog.set_level(level, "lineage.delivery")
    outcomes: Iterator[Outcome] = iter([DOWN, Retry("busy", sink_wide=False), Delivered()])
    simulation.deliver(ScriptedSink(lambda _: next(outcomes)))
    await simulation.happen(START)
    await simulation.advance(10)
    found = [(record.getMessage(), record.__dict__["fields"]) for record in caplog.records]
    shown = [(event, fields["attempt"], fields.get("cause")) for event, fields in found]
    expected = [("event.retry", 1, "connection refused"), ("event.retry", 2, "busy"), ("event.ok", 3, None)]
    assert shown == (expected if level == logging.DEBUG else [])


async def test_there_is_no_last_attempt(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(lambda _: Retry("odd", sink_wide=False))
    simulation.deliver(sink)
    await simulation.happen(START)
    await simulation.advance(1200)
    assert len(sink.sent) > 20
    sink.script = delivers
    await simulation.advance(60)
    assert await pending(simulation) == 0


async def test_what_the_sink_asks_for_is_obeyed(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("busy", after=timedelta(seconds=90))])
    sink = ScriptedSink(lambda _: next(answers, Delivered()))
    simulation.deliver(sink)
    await simulation.happen(START)
    await simulation.advance(89)
    assert len(sink.sent) == 1
    await simulation.advance(11)
    assert len(sink.sent) == 2


async def test_a_parked_event_is_kept_logged_and_holds_up_nothing(
    simulation: DeliverySimulation, caplog: pytest.LogCaptureFixture
) -> None:
    sink = ScriptedSink(lambda item: Park("answer 422: no such job") if item.kind is START else Delivered())
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE)
    await simulation.advance(1)
    assert sink.kinds("run") == [START, COMPLETE]
    [event] = await parked_events(simulation)
    assert (event.kind, event.cause, event.attempts) == (START, "answer 422: no such job", 1)
    [record] = [record for record in caplog.records if record.getMessage() == "event.parked"]
    logged: dict[str, Any] = record.__dict__["fields"]
    assert (logged["sink"], logged["cause"], logged["run_id"]) == ("sink", "answer 422: no such job", event.run_uuid)


async def test_no_cause_of_a_plug_in_keeps_a_secret(simulation: DeliverySimulation) -> None:
    """Sinks of others hand on what a target said, which may repeat what it was sent."""
    secret_registry.learn("sink", "our-own-key-77")
    said = "denied for our-own-key-77 at https://me:hunter2secret@h/x with token=hunter3secret"
    sink = ScriptedSink(lambda item: Park(said) if item.kind is START else Retry(said))
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE)
    await simulation.advance(1)
    kept = await simulation.store.read(_causes)
    assert kept == ["denied for *** at https://***@h/x with token=***"] * 2


def _causes(conn: Connection) -> list[str]:
    """All that the ledger keeps."""
    query = "SELECT cause FROM parked UNION ALL SELECT cause FROM lane WHERE cause IS NOT NULL"
    return [cause for (cause,) in conn.exec_driver_sql(query)]


def parks_start(item: Outgoing) -> Outcome | Awaitable[Outcome]:
    return Park("no") if item.kind is START else never(item)


async def test_a_parked_event_is_sent_again_before_what_follows(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(parks_start)
    delivery = simulation.deliver(sink)
    await simulation.happen(START, COMPLETE)
    await simulation.advance(0)
    [event] = await parked_events(simulation)
    retrying = asyncio.ensure_future(delivery.retry_parked([(event.strand_id, event.seq)]))
    await simulation.advance(1)
    assert not retrying.done(), "the event that is out comes first"
    sink.script = down
    await simulation.advance(50)
    assert set((await retrying).values()) == {RetryAnswer.QUEUED}
    before = len(sink.sent)
    sink.script = delivers
    await simulation.advance(60)
    assert sink.kinds("run")[before:] == [START, COMPLETE]
    assert (await pending(simulation), await parked_events(simulation)) == (0, [])


async def test_many_parked_events_are_sent_again_in_a_few_commits(simulation: DeliverySimulation) -> None:
    refusing, sink = True, ScriptedSink(lambda item: Park("no") if refusing else delivers(item))
    delivery = simulation.deliver(sink)
    await simulation.happen(START, runs=[f"{number}" for number in range(3000)])
    await simulation.advance(30)
    events = [(event.strand_id, event.seq) for event in await simulation.store.read(parked.listing, 5000)]
    assert len(events) == 3000
    refusing, before, sent = False, simulation.store.writes, len(sink.sent)
    answers = await simulation.within(10, delivery.retry_parked(events))
    commits = simulation.store.writes - before
    assert set(answers.values()) == {RetryAnswer.QUEUED}
    assert answers.keys() == set(events)
    await simulation.advance(30)
    assert len(sink.sent) - sent == 3000
    assert (await pending(simulation), await parked_events(simulation)) == (0, [])
    assert commits < 100, "three to put them back, and the settles of those that arrived meanwhile"


async def test_of_many_parked_events_only_those_wait_whose_strand_is_out(simulation: DeliverySimulation) -> None:
    def parks_start(item: Outgoing) -> Outcome | Awaitable[Outcome]:
        return Park("no") if item.kind is START else never(item)

    sink = ScriptedSink(parks_start)
    delivery = simulation.deliver(sink)
    await simulation.happen(START, runs=["free"])
    await simulation.happen(START, COMPLETE, runs=["out"])
    await simulation.advance(0)
    events = [(event.strand_id, event.seq) for event in await parked_events(simulation)]
    assert len(events) == 2
    sink.script = lambda item: delivers(item) if item.kind is START else never(item)
    retrying = asyncio.ensure_future(delivery.retry_parked(events))
    await simulation.advance(1)
    assert not retrying.done()
    assert sink.kinds("free") == [START, START]
    assert sink.kinds("out") == [START, COMPLETE], "its end is out: the START comes after that"
    sink.script = down
    await simulation.advance(50)
    assert set((await retrying).values()) == {RetryAnswer.QUEUED}


async def test_a_parked_event_can_be_dropped(simulation: DeliverySimulation) -> None:
    delivery = simulation.deliver(ScriptedSink(lambda _: Park("no")))
    await simulation.happen(START)
    await simulation.advance(0)
    [event] = await parked_events(simulation)
    assert await simulation.within(1, delivery.drop_parked([(event.strand_id, event.seq)]))
    assert await parked_events(simulation) == []


async def test_what_a_sink_is_owed_beyond_its_share_is_parked_oldest_first(
    simulation: DeliverySimulation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(overflow, "STEP", 2)
    delivery = simulation.deliver(ScriptedSink(never, capacity=1))
    runs = [f"run {number}" for number in range(6)]
    await simulation.happen(START, runs=runs)
    await simulation.advance(0)
    size = len(simulation._body(runs[0], START))
    await simulation.within(1, delivery.park_oldest(2 * size + 1, "no room"))
    events = await parked_events(simulation)
    assert sorted(event.run_key for event in events) == runs[1:4], "the first one is at the sink"
    assert {event.cause for event in events} == {"no room"}
    [fields] = [each.__dict__["fields"] for each in caplog.records if each.getMessage() == "sink.overflowed"]
    assert fields == {"sink": "sink", "parked": 3, "bytes": 3 * size, "cause": "no room"}
    caplog.clear()
    await simulation.within(1, delivery.park_oldest(0, "no room"))
    assert len(await parked_events(simulation)) == 3
    await simulation.within(1, delivery.park_oldest(100 * size, "no room"))
    assert len(await parked_events(simulation)) == 5
    await simulation.within(1, delivery.park_oldest(100 * size, "no room"))
    assert [each.getMessage() for each in caplog.records].count("sink.overflowed") == 1, "nothing is left"


async def test_a_request_drops_what_was_chosen_and_no_later_one(simulation: DeliverySimulation) -> None:
    """Somebody agreed to what was shown then; what is parked since was not shown."""
    delivery = simulation.deliver(ScriptedSink(lambda _: Park("no")))
    await simulation.happen(START)
    await simulation.advance(0)
    [shown] = await parked_events(simulation)
    await simulation.advance(5)
    await simulation.happen(START, COMPLETE, runs=["second"])
    await simulation.advance(0)
    later = {event.name for event in await parked_events(simulation)} - {shown.name}
    sink_requests = SinkRequests(simulation.sinks["sink"], delivery, simulation.store, simulation.clock)

    async def asked(**choice: object) -> None:
        body = json.dumps(choice)
        await simulation.store.write(requests.add, RequestKind.DROP, "sink:sink", body, simulation.now_ms)
        await sink_requests._serve_new()

    await asked(until_ms=shown.parked_at)
    assert {event.name for event in await parked_events(simulation)} == later
    gone = min(later)
    await asked(event=gone)
    assert {event.name for event in await parked_events(simulation)} == later - {gone}
    await asked(event=gone)
    assert {event.name for event in await parked_events(simulation)} == later - {gone}, "nothing else instead"


async def test_without_the_lease_parked_events_are_left_alone(simulation: DeliverySimulation) -> None:
    delivery = simulation.deliver(ScriptedSink())
    await simulation.advance(0)
    await simulation.within(5, delivery.stop(1))
    with pytest.raises(LeaseLost, match="lease of sink sink is not held here"):
        await delivery.retry_parked([(1, 1)])


async def test_who_waits_to_retry_a_parked_event_hears_that_the_lease_is_lost(simulation: DeliverySimulation) -> None:
    """The event of its strand that is out never comes back to this process."""
    delivery = simulation.deliver(ScriptedSink(parks_start))
    await simulation.happen(START, COMPLETE)
    await simulation.advance(0)
    [event] = await parked_events(simulation)
    retrying = asyncio.ensure_future(delivery.retry_parked([(event.strand_id, event.seq)]))
    await simulation.advance(1)
    await simulation.store.write(take_over, "sink:sink", "second", 60_000)
    await simulation.advance(15)
    assert retrying.done()
    with pytest.raises(LeaseLost, match="lease of sink sink is no longer held here"):
        await retrying


async def test_a_request_that_met_a_lost_lease_is_done_under_the_next(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(parks_start)
    delivery = simulation.deliver(sink)
    await simulation.happen(START, COMPLETE)
    await simulation.advance(0)
    number = await simulation.store.write(requests.add, RequestKind.RETRY, "sink:sink", "{}", simulation.now_ms)
    sink_requests = SinkRequests(
        simulation.sinks["sink"], delivery, simulation.store, simulation.clock
    )  # a watched one
    serving = asyncio.create_task(sink_requests.run())
    await simulation.advance(1)
    await simulation.store.write(take_over, "sink:sink", "second", -1)
    sink.script = delivers
    await simulation.advance(30)
    request = await simulation.store.read(requests.get, number)
    serving.cancel()
    assert request.state is RequestState.DONE
    assert await pending(simulation) == 0


# In flight at the sink


async def test_an_event_in_flight_is_asked_for_and_takes_its_place(simulation: DeliverySimulation) -> None:
    answers = {"first": iter([Retry("no answer yet", in_flight=True, sink_wide=False)] * 5)}
    sink = ScriptedSink(lambda item: next(answers.get(name_of(item), iter(())), Delivered()), capacity=1)
    delivery = simulation.deliver(sink)
    await simulation.happen(START, COMPLETE, runs=["first"])
    await simulation.happen(START, runs=["second"])
    await simulation.advance(0)
    assert delivery.status().in_flight == 1
    await simulation.advance(30)
    assert sink.sent == [("first", START)] * 6 + [("second", START), ("first", COMPLETE)]
    results = [report.result for report in simulation.reports.sends]
    assert results == [SendResult.IN_FLIGHT] * 5 + [SendResult.OK] * 3
    assert await pending(simulation) == 0


async def test_a_sink_is_not_asked_sooner_than_it_said(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer yet", after=timedelta(seconds=30), in_flight=True, sink_wide=False)])
    sink = ScriptedSink(lambda _: next(answers, Delivered()))
    simulation.deliver(sink)
    await simulation.happen(START)
    await simulation.advance(29)
    assert len(sink.sent) == 1
    await simulation.advance(2)
    assert len(sink.sent) == 2


async def test_events_in_flight_are_probed_in_turn_when_the_sink_is_away(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(lambda _: Retry("no answer yet", in_flight=True), capacity=10)
    delivery = simulation.deliver(sink)
    runs = [f"run {number}" for number in range(30)]
    await simulation.happen(START, runs=runs)
    await simulation.advance(600)
    assert delivery.status().state is SinkState.OUTAGE
    assert len(sink.sent) < 10 + 600 / 7
    assert {name for name, _ in sink.sent} == set(runs[:10])
    sink.script = delivers
    await simulation.advance(20)
    assert await pending(simulation) == 0


# A sink in trouble


async def test_an_outage_is_one_line_and_one_probe_at_a_time(
    simulation: DeliverySimulation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink = ScriptedSink(down, capacity=10)
    delivery = simulation.deliver(sink)
    runs = [f"run {number}" for number in range(50)]
    await simulation.happen(START, COMPLETE, runs=runs)
    await simulation.advance(600)
    assert len(sink.sent) < 10 + 600 / 7
    assert sink.batches[-1] == 1
    assert delivery.status().state is SinkState.OUTAGE
    assert delivery.status().problem == "connection refused"
    sink.script = delivers
    await simulation.advance(20)
    assert await pending(simulation) == 0
    assert delivery.status().state is SinkState.DELIVERING
    assert delivery.status().problem is None
    over = delivery.status()
    assert over.last_error == "connection refused", "it stays, with its time"
    assert over.failed_at is not None
    assert over.last_success_at is not None
    assert over.failed_at < over.last_success_at
    opened, closed = [record for record in caplog.records if record.name == "lineage.delivery"]
    assert (opened.getMessage(), opened.__dict__["fields"]["cause"]) == ("sink.interrupted", "connection refused")
    assert closed.getMessage() == "sink.recovered"
    assert 600 <= closed.__dict__["fields"]["outage_seconds"] <= 620
    assert closed.__dict__["fields"]["failures"] == len(sink.sent) - 100
    assert [report.open for report in simulation.reports.circuits] == [True, False]


async def test_an_outage_leaves_the_ledger_in_peace(simulation: DeliverySimulation) -> None:
    simulation.deliver(ScriptedSink(down, capacity=10))
    await simulation.happen(START, runs=[f"run {number}" for number in range(50)])
    await simulation.advance(120)
    before = simulation.store.reads + simulation.store.writes
    await simulation.advance(600)
    probes, renewals = 600 / 7.5, 60
    assert simulation.store.reads + simulation.store.writes - before < 3 * probes + renewals


async def test_what_failed_before_the_outage_was_known_comes_soon_after_it(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(lambda _: Retry("wrong password", slow=True), capacity=2)
    simulation.deliver(sink)
    await simulation.happen(START, runs=[f"run {number}" for number in range(20)])
    await simulation.advance(1200)
    sink.script = delivers
    while simulation.reports.circuits[-1].open:
        await simulation.advance(1)
    await simulation.advance(5)
    assert await pending(simulation) == 0


async def test_wrong_credentials_are_tried_slowly(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(lambda _: Retry("wrong password", slow=True), capacity=2)
    simulation.deliver(sink)
    await simulation.happen(START, runs=[f"run {number}" for number in range(20)])
    await simulation.advance(3600)
    assert len(sink.sent) < 5 + 60


@pytest.mark.parametrize("outcome", [DOWN, replace(DOWN, in_flight=True)], ids=["new", "in flight"])
async def test_nothing_is_sent_before_the_time_of_the_probe(simulation: DeliverySimulation, outcome: Retry) -> None:
    """Whatever is committed or notified meanwhile."""
    sink = ScriptedSink(lambda _: outcome, capacity=20)
    delivery = simulation.deliver(sink)
    await simulation.happen(START, runs=[f"run {number}" for number in range(20)])
    await simulation.advance(0)
    for number in range(4):
        before, probe_at = len(sink.sent), delivery._health.circuit.probe_at
        assert delivery._health.circuit.open
        await simulation.happen(START, runs=[f"more {number}"])
        await simulation.advance(probe_at - simulation.clock.seconds - 0.01)
        assert len(sink.sent) == before
        await simulation.advance(0.02)
        assert len(sink.sent) == before + 1


async def test_no_run_in_doubt_is_looked_at_before_the_time_of_the_probe(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer in time", unanswered=True)] * 10)
    sink = ScriptedSink(lambda _: next(answers, Delivered()), rechecks=True)
    sink.recheck_script = down
    delivery = simulation.deliver(sink)
    await simulation.happen(START, COMPLETE, runs=[f"run {number}" for number in range(10)])
    while not (sink.rechecked and delivery._health.circuit.open):
        await simulation.advance(1)
    looks: list[tuple[float, float]] = []

    def looked(item: Outgoing) -> Outcome:
        looks.append((simulation.clock.seconds, delivery._health.circuit.probe_at))
        return DOWN

    sink.recheck_script = looked
    await simulation.advance(120)
    assert len(looks) > 5
    assert all(at >= probe_at for at, probe_at in looks)


async def test_an_outage_with_nothing_to_send_is_waited_out(simulation: DeliverySimulation) -> None:
    """As of a sink that could not be created: there is no event yet that could be its probe."""
    sink = ScriptedSink()
    simulation.deliver(sink)._health.begins_broken(DOWN)
    await simulation.advance(5)
    moments, until = list[float](), simulation.clock.seconds + 60
    while simulation.clock.wake_next(until):
        moments.append(simulation.clock.seconds)
        await simulation.quiet()
    assert len(moments) < 60
    await simulation.happen(START)
    await simulation.advance(0)
    assert len(sink.sent) == 1


async def test_events_of_their_own_trouble_do_not_open_the_circuit(simulation: DeliverySimulation) -> None:
    ill = {f"ill {number}" for number in range(20)}
    sink = ScriptedSink(lambda item: Retry("odd", sink_wide=False) if name_of(item) in ill else Delivered())
    simulation.deliver(sink)
    await simulation.happen(START, runs=[*ill, "well"])
    await simulation.advance(100)
    assert simulation.reports.circuits == []
    assert sink.kinds("well") == [START]


async def test_one_of_two_sinks_down_delays_the_other_by_nothing() -> None:
    async with delivery_simulation(good=frozenset(EventKind), bad=frozenset(EventKind)) as simulation:
        good, bad = ScriptedSink(), ScriptedSink(down)
        simulation.deliver(good, "good")
        simulation.deliver(bad, "bad")
        for number in range(10):
            await simulation.happen(START, COMPLETE, runs=[f"run {number}"])
            await simulation.advance(0)
            assert good.kinds(f"run {number}") == [START, COMPLETE]


# Sinks with bugs


class BuggySink(ScriptedSink):
    """Breaks with every batch that has an ill event in it."""

    async def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
        async for item, outcome in super().send(batch):
            if any(name_of(other) == "ill" for other in batch):
                raise KeyError("facets")
            yield item, outcome


class Steady:
    """In place of chance: all events that fail together come due together."""

    def random(self) -> float:
        return 0.5


async def test_one_event_that_breaks_the_sink_holds_up_no_other(
    simulation: DeliverySimulation, caplog: pytest.LogCaptureFixture
) -> None:
    """After the batch that broke each of its events goes alone, so that the ill one breaks nothing but itself."""
    simulation.random = Steady()  # type: ignore[assignment] # by chance alone they would part company, too
    sink = BuggySink()
    delivery = simulation.deliver(sink)
    runs = [f"run {number}" for number in range(20)]
    await simulation.happen(START, COMPLETE, runs=["ill", *runs])
    await simulation.advance(0)
    assert sink.batches == [21]
    await simulation.advance(1)
    assert sink.batches[1:22] == [1] * 21
    await simulation.advance(1)
    assert all(sink.kinds(run) == [START, START, COMPLETE] for run in runs)
    assert await pending(simulation) == 2
    assert not simulation.tasks[delivery].done()
    assert "sink.broken" in {record.getMessage() for record in caplog.records}


async def test_runs_of_a_batch_that_broke_go_together_again_after_their_next_event_was_delivered(
    simulation: DeliverySimulation,
) -> None:
    simulation.random = Steady()  # type: ignore[assignment] # by chance alone they would part company, too
    sink = BuggySink()
    simulation.deliver(sink)
    runs = [f"run {number}" for number in range(5)]
    await simulation.happen(START, runs=["ill", *runs])
    await simulation.advance(1)
    assert sink.batches == [6, *[1] * 6]
    sink.batches.clear()
    await simulation.happen(RUNNING, runs=runs)
    await simulation.advance(0)
    assert sink.batches == [5]


async def test_runs_of_a_batch_that_broke_go_together_again_after_the_sink_refused_their_event(
    simulation: DeliverySimulation,
) -> None:
    simulation.random = Steady()  # type: ignore[assignment] # by chance alone they would part company, too
    sink = BuggySink()
    sink.script = lambda item: Park("400") if item.kind is START else Delivered()
    simulation.deliver(sink)
    runs = [f"run {number}" for number in range(5)]
    await simulation.happen(START, runs=["ill", *runs])
    await simulation.advance(1)
    assert sink.batches == [6, *[1] * 6]
    sink.batches.clear()
    await simulation.happen(RUNNING, runs=runs)
    await simulation.advance(0)
    assert sink.batches == [5]


async def test_a_batch_that_breaks_counts_as_one_failure_however_many_were_in_it(
    simulation: DeliverySimulation,
) -> None:
    sink = BuggySink()
    delivery = simulation.deliver(sink)
    await simulation.happen(START, runs=["ill", *(f"run {number}" for number in range(20))])
    await simulation.advance(0)
    assert delivery._health.circuit.failures == 1
    assert simulation.reports.circuits == []


async def test_a_sink_that_always_breaks_is_left_alone_and_logged_once(
    simulation: DeliverySimulation, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(item: Outgoing) -> Outcome:
        raise ValueError("a bug")

    sink = ScriptedSink(breaks)
    simulation.deliver(sink)
    await simulation.happen(START, runs=[f"run {number}" for number in range(20)])
    await simulation.advance(600)
    assert len(caplog.records) == 2, "the bug and the outage"
    assert len(sink.sent) < 200
    sink.script = delivers
    await simulation.advance(80)
    assert await pending(simulation) == 0


async def test_an_event_without_outcome_comes_again(simulation: DeliverySimulation) -> None:
    class Forgetful(ScriptedSink):
        async def send(self, batch: Sequence[Outgoing]) -> AsyncIterator[tuple[Outgoing, Outcome]]:
            known = [pair async for pair in super().send(batch)]
            for pair in known[1:] or (known if len(self.batches) > 1 else []):
                yield pair
                yield pair

    simulation.deliver(Forgetful())
    await simulation.happen(START, runs=["a", "b", "c"])
    await simulation.advance(TOGETHER)
    assert await pending(simulation) == 1
    await simulation.advance(5)
    assert await pending(simulation) == 0


async def test_a_sink_that_hangs_is_given_up_after_a_while(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(never, capacity=1, rechecks=True)
    simulation.deliver(sink)
    await simulation.advance(60)
    await simulation.happen(START)
    with patch.object(Sender, "step", autospec=True, side_effect=Sender.step) as steps:
        await simulation.advance(39)
    assert steps.call_count < 10, "it waits in peace"
    assert len(sink.sent) == 1
    sink.script = delivers
    await simulation.advance(3)
    assert len(sink.sent) == 2
    assert (await simulation.store.read(queries.sinks))[0].doubts == 1


# Doubt


async def test_a_run_in_doubt_is_looked_at_after_its_end(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer in time", unanswered=True)])
    sink = ScriptedSink(lambda _: next(answers, Delivered()), rechecks=True)
    looks: Iterator[Outcome] = iter((Retry("another state, sent again, no answer"), Delivered()))
    sink.recheck_script = lambda _: next(looks)
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE, runs=["doubtful"])
    await simulation.happen(START, COMPLETE, runs=["sure"])
    await simulation.advance(9)
    assert sink.rechecked == []
    await simulation.advance(10)
    assert sink.rechecked[0] == "doubtful"
    await simulation.advance(20)
    assert sink.rechecked == ["doubtful", "doubtful"]
    assert [report.settled for report in simulation.reports.rechecks] == [False, True]
    assert (await simulation.store.read(queries.sinks))[0].doubts == 0


async def test_sinks_where_nothing_is_applied_late_leave_no_doubt(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer in time", unanswered=True)])
    sink = ScriptedSink(lambda _: next(answers, Delivered()))
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE)
    await simulation.advance(60)
    assert (await pending(simulation), sink.rechecked) == (0, [])
    assert (await simulation.store.read(queries.sinks))[0].doubts == 0


async def test_after_a_kill_the_runs_under_way_are_in_doubt(simulation: DeliverySimulation) -> None:
    simulation.deliver(ScriptedSink(never, rechecks=True))
    await simulation.happen(START, COMPLETE)
    await simulation.advance(0)
    await simulation.crash()
    sink = ScriptedSink(rechecks=True)
    simulation.deliver(sink)
    await simulation.advance(20)
    assert sink.rechecked == ["run"]


async def test_doubts_are_looked_at_as_probes_when_nothing_else_is_to_send(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer in time", unanswered=True)] * 10)
    sink = ScriptedSink(lambda _: next(answers, Delivered()), rechecks=True)
    sink.recheck_script = down
    delivery = simulation.deliver(sink)
    await simulation.happen(START, COMPLETE, runs=[f"run {number}" for number in range(10)])
    await simulation.advance(600)
    assert await pending(simulation) == 0
    assert delivery.status().state is SinkState.OUTAGE
    assert len(sink.rechecked) < 200
    sink.recheck_script = delivers
    await simulation.advance(30)
    assert (await simulation.store.read(queries.sinks))[0].doubts == 0


async def test_a_run_that_stays_in_doubt_is_looked_at_less_and_less_often(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer in time", unanswered=True)])
    sink = ScriptedSink(lambda _: next(answers, Delivered()), rechecks=True)
    sink.recheck_script = lambda _: Retry("another state", sink_wide=False)
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE)
    await simulation.advance(200)
    early = len(sink.rechecked)
    await simulation.advance(300)
    assert 5 < len(sink.rechecked) - early < 20, "about every half minute"


async def test_a_refused_look_settles_the_doubt(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer in time", unanswered=True)])
    sink = ScriptedSink(lambda _: next(answers, Delivered()), rechecks=True)
    sink.recheck_script = lambda _: Park("422")
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE)
    await simulation.advance(90)
    assert len(sink.rechecked) == 1
    assert [report.settled for report in simulation.reports.rechecks] == [True]
    assert (await simulation.store.read(queries.sinks))[0].doubts == 0


async def test_a_recheck_that_breaks_is_tried_again(simulation: DeliverySimulation) -> None:
    def breaks(item: Outgoing) -> Outcome:
        raise ValueError("a bug")

    answers = iter([Retry("no answer in time", unanswered=True)])
    sink = ScriptedSink(lambda _: next(answers, Delivered()), rechecks=True)
    sink.recheck_script = breaks
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE)
    await simulation.advance(20)
    sink.recheck_script = delivers
    await simulation.advance(90)
    assert (await simulation.store.read(queries.sinks))[0].doubts == 0


async def test_no_run_is_looked_at_any_more_once_the_lease_is_lost(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer in time", unanswered=True)] * 2)
    sink = ScriptedSink(lambda _: next(answers, Delivered()), rechecks=True)
    gate, mended = asyncio.Event(), []

    async def looks(terminal: Outgoing) -> Outcome:
        if name_of(terminal) == "quick":
            await simulation.store.write(take_over, "sink:sink", "second", 60_000)
            return Delivered()
        await gate.wait()
        mended.append(name_of(terminal))
        return Delivered()

    sink.recheck_script = looks
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE, runs=["quick", "slow"])
    await simulation.advance(30)
    assert sorted(sink.rechecked) == ["quick", "slow"]
    assert [report.held for report in simulation.reports.leases] == [True, False]
    gate.set()
    await simulation.advance(1)
    assert mended == []


async def test_no_run_is_looked_at_that_the_rest_of_the_lease_does_not_cover(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer in time", unanswered=True)])
    sink = ScriptedSink(lambda _: next(answers, Delivered()), rechecks=True)
    renewed = sink.longest_attempt.total_seconds() + MARGIN
    with without_renewals(simulation.store):
        simulation.deliver(sink)
        await simulation.advance(renewed - 19.5)
        await simulation.happen(START, COMPLETE)
        await simulation.advance(18.5)
        assert (await pending(simulation), sink.rechecked) == (0, []), (
            "a look takes up to 10 s, and the lease ends in 1"
        )
    await simulation.advance(10)
    assert sink.rechecked == ["run"]


async def test_a_lost_lease_among_the_failures_of_looks_ends_the_session(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer in time", unanswered=True)] * 2)
    sink = ScriptedSink(lambda _: next(answers, Delivered()), rechecks=True)
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE, runs=["a", "b"])
    await simulation.advance(5)
    failures = iter([LedgerError("the disk is full"), LeaseLost("taken over")])
    write = simulation.store.write

    async def failing(fn: Any, *args: Any) -> Any:
        if fn is doubts.resolve and (error := next(failures, None)) is not None:
            raise error
        return await write(fn, *args)

    with patch.object(simulation.store, "write", failing):
        await simulation.advance(15)
    assert next(failures, None) is None
    assert [report.held for report in simulation.reports.leases][:2] == [True, False]


# Lease


async def test_who_does_not_hold_the_lease_stands_by_and_takes_over(simulation: DeliverySimulation) -> None:
    first, second = ScriptedSink(), ScriptedSink()
    leader = simulation.deliver(first, holder="first")
    await simulation.advance(0)
    follower = simulation.deliver(second, holder="second")
    await simulation.happen(START)
    await simulation.advance(5)
    assert follower.status().state is SinkState.STANDBY
    assert (first.kinds("run"), second.kinds("run")) == ([START], [])
    await simulation.within(5, leader.stop(1))
    await simulation.happen(COMPLETE)
    await simulation.advance(3)
    assert (first.kinds("run"), second.kinds("run")) == ([START], [COMPLETE])


async def test_who_lost_the_lease_commits_nothing_and_sends_nothing_more(simulation: DeliverySimulation) -> None:
    gate = asyncio.Event()

    async def waits(item: Outgoing) -> Outcome:
        await gate.wait()
        return Delivered()

    first = ScriptedSink(waits, capacity=1)
    loser = simulation.deliver(first)
    await simulation.happen(START, COMPLETE)
    await simulation.advance(0)
    await simulation.store.write(take_over, "sink:sink", "second", 60_000)
    gate.set()
    await simulation.advance(5)
    assert first.kinds("run") == [START]
    assert loser.status().state is SinkState.STANDBY
    assert await pending(simulation) == 2
    assert [report.held for report in simulation.reports.leases] == [True, False]


async def test_an_outage_goes_on_under_another_lease(simulation: DeliverySimulation) -> None:
    answers = iter([Retry("no answer in time", unanswered=True)] * 5)
    sink = ScriptedSink(lambda _: next(answers, Delivered()), rechecks=True)
    sink.recheck_script = down
    simulation.deliver(sink)
    await simulation.happen(START, COMPLETE, runs=[f"run {number}" for number in range(5)])
    await simulation.advance(60)
    sink.recheck_script = never
    await simulation.advance(20)
    await simulation.store.write(take_over, "sink:sink", "second", -1)
    sink.recheck_script = delivers
    await simulation.advance(31)
    assert [report.open for report in simulation.reports.circuits[-2:]] == [True, False]
    assert (await simulation.store.read(queries.sinks))[0].doubts == 0


async def test_no_attempt_starts_that_could_outlive_the_lease(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink()
    delivery = simulation.deliver(sink)
    await simulation.advance(0)
    simulation.store.error = "the disk is full"
    await simulation.advance(31)
    assert delivery.status().state is SinkState.STUCK
    assert "the disk is full" in (delivery.status().problem or "")
    simulation.store.error = None
    await simulation.happen(START)
    await simulation.advance(0)
    assert sink.sent == []
    await simulation.advance(11)
    assert sink.kinds("run") == [START]
    assert delivery.status().state is SinkState.DELIVERING


async def test_nothing_is_claimed_that_the_rest_of_the_lease_does_not_cover(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink()
    with without_renewals(simulation.store):
        simulation.deliver(sink)
        await simulation.happen(START, runs=["early"])
        await simulation.advance(sink.longest_attempt.total_seconds() + MARGIN - 9)
        assert sink.kinds("early") == [START], "a long lease is left"
        await simulation.happen(START, runs=["late"])
        await simulation.advance(5)
        assert sink.kinds("late") == [], "an attempt takes up to 10 s, and the lease ends in 4"
    await simulation.advance(5)
    assert sink.kinds("late") == [START]


async def test_what_was_claimed_is_not_sent_when_the_rest_of_the_lease_does_not_cover_it(
    simulation: DeliverySimulation,
) -> None:
    gate = asyncio.Event()

    async def waits(item: Outgoing) -> Outcome:
        await gate.wait()
        return Delivered()

    sink = ScriptedSink(waits, capacity=1)
    with without_renewals(simulation.store):
        simulation.deliver(sink)
        await simulation.happen(START, runs=["early", "late"])
        await simulation.advance(sink.longest_attempt.total_seconds() + MARGIN - 9)
        gate.set()
        await simulation.advance(5)
        assert sink.sent == [("early", START)]
    await simulation.advance(5)
    assert sink.sent == [("early", START), ("late", START)]


# Ledger trouble


async def test_an_acknowledged_event_is_not_sent_again_while_the_ledger_is_away(
    simulation: DeliverySimulation, caplog: pytest.LogCaptureFixture
) -> None:
    sink = ScriptedSink()
    simulation.deliver(sink)
    await simulation.advance(0)
    gate = asyncio.Event()

    async def waits(item: Outgoing) -> Outcome:
        await gate.wait()
        return Delivered()

    sink.script = waits
    await simulation.happen(START, COMPLETE)
    await simulation.advance(0)
    simulation.store.error = "the answer was lost"
    gate.set()
    await simulation.advance(9)
    simulation.store.error = None
    await simulation.advance(12)
    assert sink.kinds("run") == [START, COMPLETE]
    assert await pending(simulation) == 0
    stuck = [record for record in caplog.records if record.getMessage() == "delivery.stuck"]
    assert len(stuck) <= 3, "one for each loop that met it"
    assert not any(record.exc_info for record in stuck), "the ledger's words say it all"


async def test_pauses_of_a_loop_that_fails_again_begin_anew(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink()
    simulation.deliver(sink)
    read, failures, counts = simulation.store.read_claim, 0, list[int]()

    async def failing(fn: Any, *args: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise LedgerError("no connection was free")
        return await read(fn, *args)

    def pause(count: int, _: object) -> float:
        counts.append(count)
        return pause_after(count, lambda: 0.5)

    with patch.object(simulation.store, "read_claim", failing), patch.object(session, "pause_after", pause):
        failures = 8
        await simulation.advance(60)
        assert failures == 0
        failures = 1
        await simulation.happen(START)
        await simulation.advance(LOOK_EVERY + 1)
    assert sink.kinds("run") == [START]
    assert counts == [*range(8), 0]


async def test_a_process_that_fails_to_take_the_lease_pauses_longer_each_time_until_it_could(
    simulation: DeliverySimulation,
) -> None:
    error, failures = LedgerError("no connection was free"), list[int]()
    delivery = simulation.deliver(ScriptedSink())
    rounds = [error, error, error, None, error, asyncio.CancelledError()]

    def pause(count: int, _: object) -> float:
        failures.append(count)
        return 1

    with patch.object(delivery, "_round", side_effect=rounds), patch.object(delivery_module, "pause_after", pause):
        await simulation.advance(10)
    assert failures == [0, 1, 2, 0]


async def test_a_session_that_is_over_listens_to_no_commits(simulation: DeliverySimulation) -> None:
    delivery = simulation.deliver(ScriptedSink())
    before = simulation.store.listeners
    await simulation.advance(1)
    assert simulation.store.listeners > before
    await simulation.within(5, delivery.stop(5))
    assert simulation.store.listeners == before


async def test_a_clock_set_back_by_an_hour_delays_nothing(simulation: DeliverySimulation) -> None:
    failures = iter([DOWN] * 2)
    sink = ScriptedSink(lambda _: next(failures, Delivered()))
    simulation.deliver(sink)
    await simulation.happen(START)
    await simulation.advance(0)
    simulation.clock.wall -= timedelta(hours=1)
    await simulation.happen(COMPLETE)
    await simulation.advance(5)
    assert sink.kinds("run") == [START, START, START, COMPLETE]
    assert all((report.freshness or 0) >= 0 for report in simulation.reports.sends)


async def test_idle_means_idle(simulation: DeliverySimulation) -> None:
    simulation.deliver(ScriptedSink(rechecks=True))
    await simulation.advance(10)
    before = (simulation.store.reads, simulation.store.writes)
    await simulation.advance(60)
    assert simulation.store.reads - before[0] <= 60 + 13
    assert simulation.store.writes - before[1] <= 6


class RealTime(SimulatedClock):
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def test_with_the_ledgers_own_threads_in_real_time_it_is_the_same(tmp_path: Path) -> None:
    store, sink, runs = open_store(tmp_path, threads=True), ScriptedSink(capacity=7), [f"run {n}" for n in range(100)]
    simulation = DeliverySimulation(store, RealTime())
    try:
        await simulation.configure({"sink": frozenset(EventKind)})
        delivery = simulation.deliver(sink)
        for some in (runs[:50], runs[50:]):
            await simulation.happen(START, runs=some)
            await simulation.happen(COMPLETE, runs=some)
        while await pending(simulation):
            await asyncio.sleep(0.01)
        await delivery.stop(5)
        assert await taken_cleanly(simulation)
    finally:
        await simulation.close()
    assert all(sink.kinds(run) == [START, COMPLETE] for run in runs)
    assert sink.violations == []


# Stopping


async def test_stop_waits_for_what_is_in_flight_and_sends_nothing_more(simulation: DeliverySimulation) -> None:
    gate = asyncio.Event()

    async def waits(item: Outgoing) -> Outcome:
        await gate.wait()
        return Delivered()

    sink = ScriptedSink(waits, capacity=2)
    delivery = simulation.deliver(sink)
    await simulation.happen(START, COMPLETE, runs=["a", "b", "c"])
    await simulation.advance(0)
    stopping = asyncio.ensure_future(delivery.stop(20))
    await simulation.advance(5)
    assert not stopping.done()
    gate.set()
    await simulation.within(1, stopping)
    assert len(sink.sent) == 2
    assert await pending(simulation) == 4
    assert delivery.status().state is SinkState.STOPPED
    assert await taken_cleanly(simulation)


async def test_stop_waits_for_most_of_its_time(simulation: DeliverySimulation) -> None:
    async def slow(item: Outgoing) -> Outcome:
        await simulation.clock.sleep(2.5)
        return Delivered()

    delivery = simulation.deliver(ScriptedSink(slow))
    await simulation.happen(START)
    await simulation.advance(0)
    await simulation.within(5, delivery.stop(4))
    assert await pending(simulation) == 0


async def test_a_lease_that_goes_to_another_replica_is_left_within_the_longest_attempt_and_a_reserve(
    simulation: DeliverySimulation,
) -> None:
    left, stop, sink = list[float](), Session.stop, ScriptedSink()

    def noted(one: Session, at: float) -> None:
        left.append(at - simulation.clock.monotonic())
        stop(one, at)

    with (
        patch.object(HeldLease, "is_surplus", new_callable=PropertyMock(return_value=True)),
        patch.object(Session, "stop", noted),
    ):
        simulation.deliver(sink)
        await simulation.advance(RENEW_EVERY)
    assert left[0] == sink.longest_attempt.total_seconds() + 4


async def test_stop_gives_up_on_what_does_not_come_in_time(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(never, rechecks=True)
    delivery = simulation.deliver(sink)
    await simulation.happen(START)
    await simulation.advance(0)
    await simulation.within(10, delivery.stop(10))
    assert await taken_cleanly(simulation), "the one run is in doubt, no need to doubt the others"
    assert (await simulation.store.read(queries.sinks))[0].doubts == 1
    assert await pending(simulation) == 1


async def test_what_stays_in_flight_keeps_the_lease_from_being_given_back(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(lambda _: Retry("no answer yet", in_flight=True))
    delivery = simulation.deliver(sink)
    await simulation.happen(START)
    await simulation.advance(0)
    await simulation.within(10, delivery.stop(10))
    assert not await taken_cleanly(simulation)
    assert "this process stopped" in (await simulation.store.read(queries.sinks))[0].cause


async def test_a_lease_that_the_ledger_does_not_take_back_is_logged_and_nothing_is_stuck(
    simulation: DeliverySimulation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = simulation.store.write

    async def frozen(fn: Any, *args: Any, **kwargs: Any) -> Any:
        if fn is leases.give_back:
            raise TimeoutError
        return await write(fn, *args, **kwargs)

    delivery = simulation.deliver(ScriptedSink())
    await simulation.advance(0)
    monkeypatch.setattr(simulation.store, "write", frozen)
    await simulation.within(10, delivery.stop(10))
    logged = {record.message: record.fields for record in caplog.records if record.levelno == logging.ERROR}  # type: ignore[attr-defined]
    assert logged == {
        "lease.not_given_back": {
            "lease": "sink:sink",
            "cause": "the ledger did not answer",
            "then": "it expires by itself",
        }
    }
    assert delivery.status().problem is None


async def test_stop_in_an_outage_is_quick(simulation: DeliverySimulation) -> None:
    delivery = simulation.deliver(ScriptedSink(down))
    await simulation.happen(START, runs=[f"run {number}" for number in range(200)])
    await simulation.advance(100)
    before = simulation.clock.seconds
    await simulation.within(10, delivery.stop(10))
    assert simulation.clock.seconds - before < 1
    assert await taken_cleanly(simulation)


async def test_stop_while_standing_by_or_before_the_start(simulation: DeliverySimulation) -> None:
    await simulation.store.write(take_over, "sink:sink", "other", 60_000)
    delivery = simulation.deliver(ScriptedSink())
    await simulation.within(1, delivery.stop(10))
    await simulation.within(1, simulation.tasks[delivery])


async def test_stop_under_a_dead_ledger_ends_in_time(simulation: DeliverySimulation) -> None:
    sink = ScriptedSink(never)
    delivery = simulation.deliver(sink)
    await simulation.happen(START)
    await simulation.advance(0)
    simulation.store.error = "the disk is full"
    await simulation.within(10.5, delivery.stop(10))
    simulation.store.error = None


async def taken_cleanly(simulation: DeliverySimulation) -> bool:
    lease = await simulation.store.write(take_over, "sink:sink", "next", 60_000)
    return bool(lease.clean)
